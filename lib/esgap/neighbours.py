"""Neighbour pairs with a skin: i, j, S with |r_j + S.cell - r_i| < cutoff + skin, renewed only when needed.

Pairs are directed (i -> j and j -> i) and include periodic images of an atom itself, so cells may be smaller
than the cutoff. Units: A. The skin is Verlet's: a list stays valid until an atom has moved by skin / 2.
"""
from dataclasses import dataclass

import numpy as np
from ase.geometry import complete_cell
from matscipy.neighbours import neighbour_list


@dataclass(frozen=True)
class Pairs:
    """Directed pairs: i, j (n_pairs,) atom indices and S (n_pairs, 3) integer cell shifts."""

    i: np.ndarray
    j: np.ndarray
    S: np.ndarray

    def __len__(self):
        return len(self.i)


def neighbour_pairs(positions, cell, pbc, cutoff):
    """All directed pairs closer than `cutoff` (A), periodic images of an atom itself included.

    positions (n, 3) and cell (3, 3) in A, pbc three booleans -> Pairs. The shifts belong to the positions as given,
    wrapped or not. In directions that are not periodic the cell may be zero.
    """
    i, j, S = neighbour_list("ijS", positions=np.asarray(positions, float), cell=complete_cell(cell),
                             pbc=np.asarray(pbc, bool), cutoff=float(cutoff))
    return Pairs(i, j, S)


def sums_over_pairs(i, j, vec, g, n):
    """Forces (n, 3) and virial sum vec x dE/dvec (3, 3) from pair gradients g (n_pairs, 3)."""
    forces = np.stack([np.bincount(i, x, n) - np.bincount(j, x, n) for x in g.T], 1)
    return forces, vec.T @ g


class SkinList:
    """Pairs within cutoff + skin, rebuilt when an atom moved by skin / 2 or cell, pbc or atom count changed.

    `update` returns (pairs, rebuilt). Distances must be taken from the current positions; pairs beyond the cutoff
    are to be masked by the caller. The list only saves time: results do not depend on what was computed before.
    """

    def __init__(self, cutoff, skin=0.5):
        if cutoff <= 0 or skin < 0:
            raise ValueError(f"cutoff is {cutoff} A and skin {skin} A; the cutoff must be positive, the skin >= 0")
        self.cutoff, self.skin = float(cutoff), float(skin)
        self.n_rebuilds = 0
        self._made_for = None

    def update(self, positions, cell, pbc):
        """Pairs valid for positions (n, 3), cell (3, 3) in A and pbc (3,); True if they were computed anew."""
        positions, cell, pbc = np.asarray(positions, float), np.asarray(cell, float), np.asarray(pbc, bool)
        if not self._is_valid(positions, cell, pbc):
            self._pairs = neighbour_pairs(positions, cell, pbc, self.cutoff + self.skin)
            self._made_for = positions.copy(), cell.copy(), pbc.copy()
            self.n_rebuilds += 1
            return self._pairs, True
        return self._pairs, False

    def _is_valid(self, positions, cell, pbc):
        if self._made_for is None:
            return False
        old, old_cell, old_pbc = self._made_for
        if old.shape != positions.shape or not (np.array_equal(cell, old_cell) and np.array_equal(pbc, old_pbc)):
            return False
        moved = positions - old
        return bool(np.einsum("ij,ij->i", moved, moved).max(initial=0.0) < (self.skin / 2) ** 2)
