"""What a Frenkel pair's energy owes to the distance of its two ions and to the size of its cell.

    E_f = E_near + (q^2/eps) L(d, cell),    L: lattice energy of +1 e at d and -1 e at 0, repeated with the cell

L is a lattice sum (with conducting surroundings, as in any periodic calculation), of points or of the clouds of the
baseline: -C/d, C = 14.4 eV A, for ions near each other in a large cell, that of dipoles and their images in general.
E_near is common to pairs of a *family*, which differ in nothing but d and cell: the same vacancy and equivalent sites,
in different unit cells; relaxed, also the same sites vacant in the end, since a vacancy may spread over two. Hence
regression with one constant for each family.

If all but the moved ion is held in place, what is near either ion cannot know of the other beyond twice the cutoff: a
GAP is flat there, q^2/eps = 0, and an ES-GAP follows the law with its bare charge, eps = 1. Pairs nearer than that are
then a family each, of one pair in several cells. When all atoms relax, the other ions screen.
Units: A, eV, e; q^2/eps in e^2.
"""
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from ase.geometry import minkowski_reduce

from .calculators import ElectrostaticBaseline
from .frenkel import perfect_cell


def lattice_energy(vector, cell, zeta=None):
    """L (eV/e^2) of unit charges, + at `vector` (3,) and - at the origin of a periodic cell (3, 3).

    zeta: 1/A, exponent of the Slater clouds that they are; None: points.
    """
    atoms = Atoms("LiF", [vector, np.zeros(3)], cell=cell, pbc=True)
    clouds = None if zeta is None else {"Li": zeta, "F": zeta}
    atoms.calc = ElectrostaticBaseline({"Li": 1.0, "F": -1.0}, clouds, accuracy=1e-6)
    return atoms.get_potential_energy()


def nearest_image(vector, cell):
    """Shortest distance (A) between a charge of a pair and an image of either, but the pair itself.

    vector: (3,) A, of the pair; cell: ASE Cell.
    """
    reduced = minkowski_reduce(cell)[0]
    shifts = [n @ reduced for n in np.array(list(np.ndindex(5, 5, 5))) - 2 if n.any()]
    return float(min(np.linalg.norm(shifts, axis=1).min(), np.linalg.norm(vector + np.array(shifts), axis=1).min()))


@dataclass(frozen=True, eq=False)
class PairPoints:
    """Pairs of one model by family, cell and distance; in the order of their distance."""

    model: str
    family: np.ndarray    # (n,) of int
    pairs: tuple          # names
    states: tuple         # what became of them, "" while all is as made
    repeats: tuple        # cells, (n, n, n) each
    distance: np.ndarray  # (n,) A, of vacancy and interstitial ion, all else held
    lattice: np.ndarray   # (n,) eV/e^2, L
    energy: np.ndarray    # (n,) eV, E_f

    def less_family(self, what):
        """`lattice` or `energy` (n,), less the mean of the family."""
        values = getattr(self, what)
        return values - np.array([values[self.family == f].mean() for f in self.family])

    def chosen(self, mask):
        """Those of a mask (n,) of bool."""
        keep = np.flatnonzero(mask)
        pairs, states, repeats = (tuple(x[k] for k in keep) for x in (self.pairs, self.states, self.repeats))
        return PairPoints(self.model, self.family[keep], pairs, states, repeats, self.distance[keep],
                          self.lattice[keep], self.energy[keep])


@dataclass(frozen=True)
class PairLaw:
    """Fit of the law: q^2/eps with its standard error, e^2, from the scatter about it."""

    strength: float
    error: float
    scatter: float  # eV, root mean square residual
    n_points: int
    n_families: int

    def __str__(self):
        return (f"q²/ε = {self.strength:.3f} ± {self.error:.3f} e², scatter {self.scatter:.3f} eV, {self.n_points} "
                f"pairs and cells of {self.n_families} families")


def pair_points(sweep, charged, crystal, held=False, apart=0.0, near=0.0):
    """Points of one `Sweep` that others of their family can be compared with -> `PairPoints`.

    charged: the `Sweep` with charges whose held ion says where the interstitial ion is, for both models alike, and
    whose clouds interact.
    apart: A, least distance from images (`nearest_image`); with twice the cutoff no atom of a GAP sees that
    the cell is repeated. near: A; closer pairs are compared with none but themselves in other cells. Relaxed pairs
    count unless they have recombined or the vacancy has moved.
    """
    found = []
    for name, pair in sweep.pairs.items():
        zeta = (charged.exponents or {}).get(pair.ion)
        for repeat in sweep.repeats(name):
            box = perfect_cell(crystal, repeat).cell
            cell = "x".join(map(str, repeat))
            where = charged.rows.get(f"{cell}/{name}/0/held")
            row = sweep.rows.get(f"{cell}/{name}/0/{'held' if held else 'out'}")
            if where is None or row is None or where.became:
                continue
            d = np.array(where.dipole) / charged.charges[pair.ion]
            length = np.linalg.norm(d)
            if nearest_image(d, box) < apart or row.became.startswith(("recombined", "vacancy moved")):
                continue
            found.append(((*pair.kind, name if length < near else "", row.became), name, repeat, length,
                          lattice_energy(d, box.array, zeta), sweep.formation_energy(name, repeat, held)))
    families = [f for f, *_ in found]
    found = sorted((p for p in found if families.count(p[0]) > 1), key=lambda p: (p[3], p[1]))
    numbers = {f: k for k, f in enumerate(dict.fromkeys(p[0] for p in found))}
    family, names, repeats, distance, lattice, energy = zip(*found, strict=True) if found else ((),) * 6
    return PairPoints(sweep.label, np.array([numbers[f] for f in family], int), tuple(names),
                      tuple(f[-1] for f in family), tuple(repeats), np.array(distance, float),
                      np.array(lattice, float), np.array(energy, float))


def of_sweeps(sweeps, crystal, held=False):
    """[`PairPoints` of ES-GAP, of GAP] from {"ES-GAP": `Sweep`, "GAP": `Sweep`}: the same pairs and cells for both.

    With all else held no two charges that are compared are nearer than twice the cutoff, images included; relaxed, what
    the pairs relax differs by more than what atoms between them see of both.
    """
    es_gap = sweeps["ES-GAP"]
    reach = 2 * es_gap.cutoff if held else 0.0
    return common([pair_points(s, es_gap, crystal, held, reach, reach) for s in (es_gap, sweeps["GAP"])])


def scan_of(sweeps, crystal, held=False):
    """The same of pairs that differ in their distance alone, near ones too, in the cell with most of them."""
    es_gap = sweeps["ES-GAP"]
    both = common([pair_points(s, es_gap, crystal, held) for s in (es_gap, sweeps["GAP"])])
    return [p.chosen(longest_scan(p)) for p in both]


def common(points):
    """Of several models' `PairPoints`, those pairs and cells that all of them hold in the same state."""
    keys = [list(zip(p.pairs, p.repeats, p.states, strict=True)) for p in points]
    shared = set(keys[0]).intersection(*keys[1:])
    return [p.chosen([k in shared for k in key]) for p, key in zip(points, keys, strict=True)]


def difference(first, second):
    """`PairPoints` of the energies of `first` less those of `second`, over what both hold."""
    a, b = common([first, second])
    return replace(a, model=f"{a.model} less {b.model}", energy=a.energy - b.energy)


def longest_scan(points):
    """Mask (n,) of the pairs of one family in one cell that are most: a scan of the distance and nothing else."""
    groups = list(zip(points.family.tolist(), points.repeats, strict=True))
    most = max(dict.fromkeys(groups), key=lambda g: (groups.count(g), np.prod(g[1])), default=None)
    return np.array([g == most for g in groups], bool)


def fit_pair_law(points):
    """Least squares of E_f = E_near(family) + strength L -> `PairLaw`. ValueError with fewer than 3 degrees left."""
    x, y = points.less_family("lattice"), points.less_family("energy")
    n, families = len(x), len(set(points.family.tolist()))
    free = n - families - 1
    if free < 3:
        raise ValueError(f"{n} points of {families} families leave {max(free, 0)} degrees of freedom; error bars need "
                         "3: relax more pairs that are alike, `python -m esgap frenkel --scan`")
    strength = float(x @ y / (x @ x))
    variance = float(((y - strength * x) ** 2).sum() / free)
    return PairLaw(strength, float(np.sqrt(variance / (x @ x))), float(np.sqrt(variance)), n, families)
