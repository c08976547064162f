"""The crystal, its thiophosphate units, and initial configurations: thermal displacements and Monte Carlo lithium.

Thermal: P-S units move as rigid bodies (translation, rotation) with small internal displacements, Li more freely.
Monte Carlo lithium: the cost of Li at a point is 25 (V - 1)^2 plus linear penalties for crowding, with the bond valence
V = sum_S exp((R0 - d)/b), R0 = 1.94, b = 0.37 A for Li-S (Brown & Altermatt, Acta Cryst. B 41, 244 (1985)).
Units: A, degrees; costs are dimensionless. Deterministic for a given seed.
"""
import numpy as np
from ase.geometry import get_distances
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial.transform import Rotation

from .neighbours import neighbour_pairs
from .store import data_path, read_frames

P_S_BOND = 2.6  # A; bonds are 2.0 to 2.2, the next P-S distance is above 3.4
BOND_VALENCE_R0, BOND_VALENCE_B = 1.94, 0.37  # A
THERMAL_SCALES = (0.3, 0.6, 0.9, 1.15)  # of the displacements below, which are about those of 800 K
RELOCATED_LI = (1, 2, 3, 5)


def crystal():
    """Li7P3S11 (42 atoms, P-1) at the experimental lattice, positions relaxed with PBE; with its label."""
    return read_frames(data_path("crystal.xyz"))[0]


def ps_bonds(atoms):
    """Directed P-S bonds (shorter than 2.6 A, images included) as `neighbours.Pairs`, P first and S first."""
    pairs = neighbour_pairs(atoms.positions, atoms.cell.array, atoms.pbc, P_S_BOND)
    z = atoms.numbers
    keep = (z[pairs.i] != z[pairs.j]) & np.isin(z[pairs.i], (15, 16)) & np.isin(z[pairs.j], (15, 16))
    return type(pairs)(pairs.i[keep], pairs.j[keep], pairs.S[keep])


def sulfur_species(atoms):
    """For each atom "bridging" (S bonded to two P), "terminal" (one), "free" (none), or "" if it is no S: (n,)."""
    bonds = ps_bonds(atoms)
    coordination = np.bincount(bonds.i, minlength=len(atoms))
    names = np.array(["free", "terminal", "bridging"])
    return np.where(atoms.symbols == "S", names[np.minimum(coordination, 2)], "")


def thiophosphate_units(atoms):
    """Every PS4 and P2S7 unit as (members, positions): atom indices (m,), positions (m, 3) in one piece."""
    bonds, n = ps_bonds(atoms), len(atoms)
    _, label = connected_components(coo_matrix((np.ones(len(bonds)), (bonds.i, bonds.j)), shape=(n, n)))
    neighbours = {}
    for a, b, s in zip(bonds.i, bonds.j, bonds.S, strict=True):
        neighbours.setdefault(a, []).append((b, s))
    units = []
    for l in np.unique(label[np.isin(atoms.numbers, (15, 16))]):
        members = np.flatnonzero(label == l)
        positions = {members[0]: atoms.positions[members[0]]}
        todo = [members[0]]
        while todo:
            a = todo.pop()
            for b, s in neighbours.get(a, []):
                if b not in positions:
                    positions[b] = positions[a] + atoms.positions[b] + s @ atoms.cell.array - atoms.positions[a]
                    todo.append(b)
        units.append((members, np.array([positions[m] for m in members])))
    return units


def thermal(atoms, rng, scale=1.0):
    """Copy with rigid-unit displacements and larger ones of Li; scale 1 is about 800 K.

    Per unit: rotation 4 degrees and translation 0.10 A rms by axis; per atom of a unit 0.045 A; per Li 0.20 A.
    """
    new = atoms.copy()
    for members, positions in thiophosphate_units(atoms):
        centre = positions.mean(0)
        rotation = Rotation.from_rotvec(np.deg2rad(4.0 * scale) * rng.normal(size=3))
        moved = rotation.apply(positions - centre) + centre + 0.10 * scale * rng.normal(size=3)
        new.positions[members] += moved - positions + 0.045 * scale * rng.normal(size=positions.shape)
    li = np.flatnonzero(atoms.symbols == "Li")
    new.positions[li] += 0.20 * scale * rng.normal(size=(len(li), 3))
    return new


def lithium_cost(points, other_li, sulfur, phosphorus, cell):
    """Dimensionless cost (n,) of Li at each of points (n, 3), A: bond-valence mismatch plus crowding by S, P, Li."""
    def distances(others):
        return get_distances(points, others, cell=cell, pbc=True)[1]

    def crowding(d, d0):
        return np.clip(d0 - d, 0, None).sum(1)

    to_s, to_p, to_li = distances(sulfur), distances(phosphorus), distances(other_li)
    valence = np.where(to_s < 4.0, np.exp((BOND_VALENCE_R0 - to_s) / BOND_VALENCE_B), 0.0).sum(1)
    return (25 * (valence - 1) ** 2 + 40 * crowding(to_s, 2.2) + 30 * crowding(to_p, 2.75)
            + 8 * crowding(to_li, 3.0) + 200 * crowding(to_li, 2.5))


def monte_carlo_lithium(atoms, rng, n_relocated, n_trials=1500):
    """Copy with n_relocated Li moved to other sites and every Li settled by small Metropolis steps (temperature 1).

    A relocated ion goes to one of n_trials random points at least 1.5 A from where it was, drawn by exp(-cost).
    Raises ValueError if there are fewer Li than n_relocated.
    """
    new = atoms.copy()
    li = np.flatnonzero(atoms.symbols == "Li")
    if n_relocated > len(li):
        raise ValueError(f"n_relocated is {n_relocated}, but there are only {len(li)} Li: choose fewer")
    s, p = new.positions[atoms.symbols == "S"], new.positions[atoms.symbols == "P"]

    def cost(points, k):
        return lithium_cost(points, new.positions[li[li != k]], s, p, new.cell)

    for k in rng.choice(li, n_relocated, replace=False):
        points = rng.random((n_trials, 3)) @ new.cell.array
        far = get_distances(points, new.positions[[k]], cell=new.cell, pbc=True)[1][:, 0] > 1.5
        points = points[far]
        costs = cost(points, k)
        weights = np.exp(-(costs - costs.min()))
        new.positions[k] = points[rng.choice(len(points), p=weights / weights.sum())]
    for k in np.tile(li, 6):
        pair = new.positions[k] + np.array([np.zeros(3), 0.25 * rng.normal(size=3)])
        old, trial = cost(pair, k)
        if rng.random() < np.exp(min(0.0, old - trial)):
            new.positions[k] = pair[1]
    new.info["relocated"] = int(n_relocated)
    return new


def initial_configurations(atoms, n_thermal=40, n_mc=40, seed=20211109):
    """Generation 0: n_thermal thermal displacements and n_mc Monte Carlo Li distributions of a crystal, wrapped.

    info holds name (gen0-000, ...), config_type ("thermal", "mc-li"), generation 0. The paper's initial set has 80.
    """
    rng = np.random.default_rng(seed)
    frames = []
    for n in range(n_thermal):
        frames.append(thermal(atoms, rng, THERMAL_SCALES[n % 4]))
        frames[-1].info["config_type"] = "thermal"
    for n in range(n_thermal, n_thermal + n_mc):
        relocated = monte_carlo_lithium(atoms, rng, RELOCATED_LI[n % 4])
        frames.append(thermal(relocated, rng, (0.2, 0.5)[n % 2]))
        frames[-1].info["config_type"] = "mc-li"
    for n, frame in enumerate(frames):
        frame.wrap()
        frame.info.update(name=f"gen0-{n:03d}", generation=0)
    return frames
