"""Frenkel pairs: one ion moved from its site (the vacancy) to an interstitial site; energy of formation E(pair) - E(0).

The pair's cell has the atoms of the perfect cell in the same order; only the position of the moved ion differs. It is
moved along the straight vector d from its site to the interstitial site, the shortest of all periodic images, and no
position is ever wrapped: this is the branch that dipoles and field energies belong to. With r the positions of two
relaxed cells, the dipole of the pair is mu = sum_i q_i (r_i^pair - r_i^perfect), which for a rigid pair is q d.

Both cells are relaxed in the same way at fixed cell by LBFGS without line search, the quickest of those tried (calls of
an ES-GAP with 84 atoms to 0.01 eV/A from a relaxed crystal in a new field of 0.05 V/A, and from one rattled by 0.05 A):
LBFGS 20 and 27, LBFGS with line search 21 (first), FIRE 24 (first), PreconLBFGS with Exp 26 (first). BFGS needs as many
as LBFGS but diagonalises a 3n x 3n matrix each time, and a line search may try steps at which atoms collide.
Units: A, eV, e, eV/A.
"""
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.mixing import SumCalculator
from ase.constraints import FixAtoms
from ase.geometry import find_mic, get_distances
from ase.optimize import LBFGS

from .calculators import charge_of
from .interstitials import Interstitial, site_named
from .store import labelled

SAME = 1e-3  # A; relaxed copies of one atom differ by less
ON_SITE = 1.2  # A; an ion closer to a site of the perfect crystal sits on it (Li sites are 3 A apart)


def perfect_cell(crystal, repeat):
    """The crystal repeated, bare of labels: what displacements are counted from, the same for every cell and field."""
    bare = Atoms(crystal.symbols, crystal.positions, cell=crystal.cell, pbc=True)
    return bare.repeat(tuple(int(n) for n in repeat))


def folded_cell(atoms, repeat, fold):
    """The block of a relaxed perfect cell (`perfect_cell`, `repeat`) that fills it when repeated fold (3,) times ->
    Atoms, bare, with info["folded"], as `esgap.cp2k` takes it; unit cells are the mean of all copies.

    ValueError if copies of the unit cell differ by more than 0.001 A, or if fold is no divisor of repeat.
    """
    if np.any(np.array(repeat) % fold):
        raise ValueError(f"{'x'.join(map(str, repeat))} cells cannot be folded {tuple(fold)} times: give divisors")
    n_copies = int(np.prod(repeat))
    n, cell = len(atoms) // n_copies, atoms.cell.array / np.array(repeat)[:, None]
    shifts = np.array(list(np.ndindex(*repeat))) @ cell  # in the order of `Atoms.repeat`
    copies = atoms.positions.reshape(n_copies, n, 3) - shifts[:, None]
    apart = np.linalg.norm(copies - copies.mean(0), axis=2).max()
    if apart > SAME:
        raise ValueError(f"copies of the unit cell in {'x'.join(map(str, repeat))} cells differ by {apart:.4f} A: "
                         "relax further, or label the cell as a whole")
    block = perfect_cell(Atoms(atoms.symbols[:n], copies.mean(0), cell=cell, pbc=True), np.array(repeat) // fold)
    block.info["folded"] = tuple(int(f) for f in fold)
    return block


@dataclass(frozen=True)
class FrenkelPair:
    """An ion of the unit cell, by index, and the interstitial site it moves to, `shift` unit cells away."""

    vacancy: int
    site: Interstitial
    shift: tuple = (0, 0, 0)
    ion: str = "Li"

    @property
    def name(self):
        """E.g. 3:hole2:0,1,0, which `pair_named` reads."""
        return f"{self.vacancy}:{self.site.name}:{','.join(map(str, self.shift))}"

    @property
    def kind(self):
        """The same for pairs that differ in nothing but distance: one vacancy, equivalent sites."""
        return self.vacancy, self.site.orbit, self.site.name[:4]

    def vector(self, crystal):
        """d (3,), from the vacancy to the interstitial ion, A."""
        _check_vacancy(self, crystal)
        return (np.array(self.site.position) + self.shift) @ crystal.cell.array - crystal.positions[self.vacancy]

    def cell(self, crystal, repeat):
        """The pair in the crystal repeated, not relaxed: the ion of the first unit cell is moved by `vector`."""
        atoms, d = perfect_cell(crystal, repeat), self.vector(crystal)
        shortest = find_mic(d, atoms.cell, pbc=True)[1]
        if np.linalg.norm(d) > shortest + 1e-6:
            raise ValueError(f"the ions of pair {self.name} are {np.linalg.norm(d):.2f} A apart, but {shortest:.2f} A "
                             f"by another image in {'x'.join(map(str, repeat))} cells: change the shift or repeat more")
        atoms.positions[self.vacancy] += d  # `repeat` puts the first unit cell first
        return atoms

    def __str__(self):
        return f"{self.ion} {self.vacancy} -> {self.site.name} + {self.shift}"


def _check_vacancy(pair, crystal):
    n = len(crystal)
    if not 0 <= pair.vacancy < n or crystal.symbols[pair.vacancy] != pair.ion:
        there = crystal.symbols[pair.vacancy] if 0 <= pair.vacancy < n else "no atom"
        ions = np.flatnonzero(crystal.symbols == pair.ion).tolist()
        raise ValueError(f"site {pair.vacancy} holds {there}, not {pair.ion}; sites of {pair.ion} are {ions}")


def pair_named(text, crystal, sites):
    """The pair VACANCY:SITE:i,j,k, e.g. 3:hole2:0,1,0; without i,j,k the image nearest to the vacancy."""
    parts = text.split(":")
    try:
        vacancy = int(parts[0])
        shift = tuple(int(n) for n in parts[2].split(",")) if len(parts) == 3 else None
        if len(parts) not in (2, 3) or (shift and len(shift) != 3):
            raise ValueError
    except ValueError:
        raise ValueError(f"pair {text!r} is not of the form VACANCY:SITE or VACANCY:SITE:i,j,k, e.g. 3:hole2:0,1,0"
                         ) from None
    site = site_named(parts[1], sites)
    return FrenkelPair(vacancy, site, shift) if shift else images_of(vacancy, [site], crystal)[0]


def images_of(vacancy, sites, crystal, repeat=(1, 1, 1)):
    """Pairs of one vacancy with every image of `sites` that is its nearest in the repeated crystal, by distance.

    With all the sites of one orbit this is a scan of the distance with everything else alike.
    """
    n = np.array(repeat)
    shifts = np.stack(np.meshgrid(*[np.arange(-k - 1, k + 2) for k in n], indexing="ij"), -1).reshape(-1, 3)
    pairs = []
    for site in sites:
        all_images = [FrenkelPair(vacancy, site, tuple(int(i) for i in s)) for s in shifts]
        length = np.array([np.linalg.norm(p.vector(crystal)) for p in all_images])
        shortest = {}
        for k in np.argsort(length.round(6), kind="stable"):
            shortest.setdefault(tuple((shifts[k] % n).tolist()), (length[k], all_images[k]))
        pairs += shortest.values()
    return [p for _, p in sorted(pairs, key=lambda x: (round(x[0], 6), x[1].name))]


def relax(atoms, calculator, fmax=0.01, max_steps=500, only=None, trace=None):
    """Relax at fixed cell until no force exceeds fmax (eV/A) -> labelled copy, positions unwrapped, info["steps"].

    only: index of the one atom that may move; trace: list to which the structure of every step is added, bare.
    Raises RuntimeError if not there after max_steps.
    """
    atoms = atoms.copy()
    atoms.calc = calculator
    if only is not None:
        atoms.set_constraint(FixAtoms(np.delete(np.arange(len(atoms)), only)))
    with LBFGS(atoms, alpha=20.0, maxstep=0.1, logfile=None) as optimiser:  # alpha: eV/A^2, first guess of stiffness
        if trace is not None:
            optimiser.attach(lambda: trace.append(Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=True)))
        optimiser.run(fmax=fmax, steps=max_steps)
    largest = np.linalg.norm(atoms.get_forces(), axis=1).max()
    if largest > fmax:
        raise RuntimeError(f"the largest force is {largest:.4f} eV/A after {max_steps} steps, not {fmax:g}: allow more")
    atoms.set_constraint()
    return labelled(atoms, atoms.get_potential_energy(), atoms.get_forces(), steps=optimiser.nsteps)


def what_became_of(pair, atoms, perfect):
    """"" if the pair is still there, otherwise what happened, in words. perfect: the relaxed cell without the pair.

    A site is vacant if no ion is within 1.2 A of it. Recombined: no site is vacant any more.
    """
    ions = np.flatnonzero(atoms.symbols == pair.ion)
    d = get_distances(atoms.positions[ions], perfect.positions[ions], cell=atoms.cell, pbc=True)[1]  # (ion, site)
    vacant = ions[d.min(0) > ON_SITE].tolist()
    if vacant == [pair.vacancy]:
        return ""
    k = d[:, np.flatnonzero(ions == pair.vacancy)[0]].argmin()
    filled_by = ions[k]
    if filled_by == pair.vacancy:
        how = "the interstitial ion is back on its site"
    else:
        how = f"{pair.ion} {filled_by} fills the vacancy"
    if not vacant:
        return f"recombined: {how}"
    if pair.vacancy in vacant:
        return f"more sites are vacant: {vacant}"
    return f"vacancy moved: {how}; vacant now {vacant}"


def model_charges(calculator, symbols):
    """Charges by element that a potential's energy contains; zero for all elements if it has none (a GAP)."""
    parts = calculator.mixer.calcs if isinstance(calculator, SumCalculator) else [calculator]
    for part in parts:
        if getattr(part, "charges", None):
            return dict(part.charges)
    return dict.fromkeys(sorted(set(symbols)), 0.0)


def dipole(atoms, perfect, charges):
    """mu (3,) = sum q_i (r_i - r_i^perfect) in e A, of unwrapped positions."""
    return charge_of(atoms, charges) @ (atoms.positions - perfect.positions)


def direction_vector(direction, cell):
    """Unit vector (3,) of x, y, z (Cartesian), a, b, c (along a cell vector), or of three numbers, e.g. "1,1,0"."""
    cell = np.asarray(cell, float)
    named = dict(zip("xyz", np.eye(3), strict=True)) | dict(zip("abc", cell, strict=True))
    try:
        numbers = direction.split(",") if isinstance(direction, str) else direction
        v = np.asarray(named[direction] if direction in list(named) else [float(x) for x in numbers])
    except ValueError:
        v = np.zeros(0)
    if v.shape != (3,) or not np.isfinite(v).all() or not np.linalg.norm(v) > 0:
        raise ValueError(f"direction is {direction!r}; give x, y, z, a, b, c or three numbers such as 1,1,0")
    return v / np.linalg.norm(v)
