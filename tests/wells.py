"""A potential with known answers for Frenkel pairs, and the crystal it is for."""
import functools

import numpy as np
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes

from esgap import frenkel, interstitials

CHARGES = {"Li": 0.8, "F": -0.8}  # e
CLOSEST = {"Li": 1.4, "F": 1.4}
K, K_HOLE, DEPTH = 2.0, 1.25, -0.7  # eV/A^2 at sites and in holes; a hole costs 0.7 eV
REPEAT = (3, 1, 1)


def rock_salt():
    return bulk("LiF", "rocksalt", a=4.03, cubic=True)  # inversion at the origin


@functools.cache
def holes():
    return interstitials.hole_sites(rock_salt(), ligand="F", closest=CLOSEST)


def pair(crystal):
    """Neither the nearest image of the hole nor the farthest."""
    return frenkel.images_of(0, holes()[:1], crystal, REPEAT)[1]


class Wells(Calculator):
    """Each atom in the lowest of its wells: k/2 |r - place|^2 - depth, of Li at all Li sites and holes, periodic.

    bend: eV/A^3, cubic term along x. fail_at: number of the call at which Ctrl-C is played.
    """

    implemented_properties = ("energy", "forces")
    calls = 0

    def __init__(self, crystal, repeat=REPEAT, with_holes=True, charges=CHARGES, k_hole=K_HOLE, bend=0.0, fail_at=None):
        super().__init__()
        perfect = frenkel.perfect_cell(crystal, repeat)
        li = perfect.symbols == "Li"
        hole = [(np.array(s.position) + n) @ crystal.cell.array for s in holes() for n in np.ndindex(*repeat)]
        hole = hole if with_holes else []
        self.places = {"Li": np.array([*perfect.positions[li], *hole]), "F": perfect.positions[~li]}
        n = li.sum()
        self.k = {"Li": np.array([K] * n + [k_hole] * len(hole)), "F": np.full((~li).sum(), K)}
        self.depth = {"Li": np.array([0.0] * n + [DEPTH] * len(hole)), "F": np.zeros((~li).sum())}
        self.charges, self.bend, self.fail_at = charges, bend, fail_at

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        Wells.calls += 1
        if Wells.calls == self.fail_at:
            raise KeyboardInterrupt
        energy, forces, inverse = 0.0, np.zeros((len(self.atoms), 3)), np.linalg.inv(self.atoms.cell.array)
        for s, places in self.places.items():
            mine = np.flatnonzero(self.atoms.symbols == s)
            d = self.atoms.positions[mine][:, None] - places  # (n, n_wells, 3)
            d -= np.round(d @ inverse) @ self.atoms.cell.array
            e = self.k[s] / 2 * (d**2).sum(2) - self.depth[s]
            well = e.argmin(1)
            d = d[np.arange(len(mine)), well]
            energy += e[np.arange(len(mine)), well].sum() + self.bend * (d[:, 0] ** 3).sum()
            forces[mine] = -self.k[s][well][:, None] * d
            forces[mine, 0] -= 3 * self.bend * d[:, 0] ** 2
        self.results = {"energy": energy, "forces": forces}
