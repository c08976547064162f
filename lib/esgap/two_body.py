"""Two-body Gaussian process: the energy of a pair of atoms as a function of their distance, QUIP's `distance_2b`.

    E_i = sum_terms sum_j f(r_ij) sum_m c_m alpha_m delta^2 exp(-(r_ij - r_m)^2 / (2 theta^2)),   E = sum_i E_i

j: neighbours of i, images of i included, that make a pair of the term's two elements with it; so a pair counts twice,
half of it in the energy of each of its atoms. f: 1, falling to 0 like a cosine over the last cutoff_transition_width;
c_m: the value of f that the fit has recorded for the sparse distance r_m. Plain numpy: one number a pair needs neither
padding nor compilation. Units A, eV, eV/A. Conventions found by comparison with QUIP's numbers.
"""
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from .neighbours import neighbour_pairs, sums_over_pairs


@dataclass(frozen=True)
class Distance2b:
    """Which pairs a term describes, under gap_fit's names."""

    cutoff: float                         # A
    cutoff_transition_width: float = 0.5  # A
    Z1: int = 0                           # elements of the pair in either order; 0 is every element
    Z2: int = 0

    def __post_init__(self):
        for name in ("cutoff", "cutoff_transition_width"):
            if not getattr(self, name) > 0:
                raise ValueError(f"distance_2b {name} is {getattr(self, name)}; it must be positive")

    def describes(self, Za, Zb):
        """Whether atoms of elements Za and Zb, numbers or arrays of them, make a pair of this term."""
        def fits(Z, wanted):
            return (wanted == 0) | (wanted == Z)
        return (fits(Za, self.Z1) & fits(Zb, self.Z2)) | (fits(Zb, self.Z1) & fits(Za, self.Z2))

    def switch(self, r):
        """f and df/dr (1/A) at distances r (n,)."""
        x = np.pi * np.clip((r - self.cutoff) / self.cutoff_transition_width + 1, 0, 1)
        return 0.5 * (1 + np.cos(x)), np.where(x < np.pi, -0.5 * np.pi / self.cutoff_transition_width * np.sin(x), 0)


@dataclass(frozen=True, eq=False)
class PairTerm:
    """One sparse Gaussian process on distances; arrays (M,) by sparse point."""

    descriptor: Distance2b
    points: np.ndarray         # A, the sparse distances r_m
    alpha: np.ndarray          # weights; times delta^2 they are eV
    sparse_cutoff: np.ndarray  # c_m
    delta: float               # eV
    theta: float               # A

    def __post_init__(self):
        if not self.points.shape == self.alpha.shape == self.sparse_cutoff.shape == (len(self.alpha),):
            raise ValueError(f"distances have shape {self.points.shape}, weights {self.alpha.shape} and cutoff values "
                             f"{self.sparse_cutoff.shape}: give one number a sparse point in each")
        if not np.all(np.isfinite(self.alpha)):
            d = self.descriptor
            raise ValueError(f"{np.sum(~np.isfinite(self.alpha))} weights of the two-body term for Z1={d.Z1}, "
                             f"Z2={d.Z2} are not finite; the fit behind this model failed")

    def energy_and_slope(self, r):
        """Half the energy of a pair (eV) and its derivative (eV/A) at distances r (n,)."""
        d = (r[:, None] - self.points) / self.theta
        k, weight = np.exp(-0.5 * d * d), self.delta**2 * self.alpha * self.sparse_cutoff
        (f, df), E = self.descriptor.switch(r), k @ weight
        return f * E, df * E - f * ((k * d) @ weight) / self.theta

    def variance(self, r, regularisation):
        """Predicted variance (eV^2) of `energy_and_slope`'s energy, see `esgap.gap.predicted_variance`."""
        def kernel(x):
            return self.delta**2 * np.exp(-0.5 * ((x[:, None] - self.points) / self.theta)**2) * self.sparse_cutoff
        f, k = self.descriptor.switch(r)[0], kernel(r)
        K = kernel(self.points) * self.sparse_cutoff[:, None] + regularisation**2 * np.eye(len(self.points))
        explained = np.einsum("im,mi->i", k, cho_solve(cho_factor(K), k.T))
        return f**2 * (self.delta**2 + regularisation**2 - explained)


class PairSums:
    """Sums over the pairs of all terms for atoms of the given numbers (n,).

    The pairs of a term are chosen when a new neighbour list is set, each once; its skin adds zeros."""

    def __init__(self, terms, numbers):
        self.terms, self.numbers = terms, np.asarray(numbers)

    def set_pairs(self, pairs, cell):
        """Take a new list: pairs with i, j, S; cell (3, 3) in A."""
        once, Zi, Zj = pairs.i <= pairs.j, self.numbers[pairs.i], self.numbers[pairs.j]
        chosen = [np.flatnonzero(once & t.descriptor.describes(Zi, Zj)) for t in self.terms]
        self._ends = np.cumsum([len(k) for k in chosen])[:-1]
        chosen = np.concatenate(chosen)
        self.i, self.j, self.shift = pairs.i[chosen], pairs.j[chosen], pairs.S[chosen] @ np.asarray(cell)
        self._weight = np.where(self.i == self.j, 0.5, 1.0)  # an atom and its image are in the list both ways

    def evaluate(self, positions):
        """positions (n, 3) in A -> energies (n,) in eV, forces (n, 3) in eV/A, virial sum r x dE/dr (3, 3) in eV."""
        vec = positions[self.j] - positions[self.i] + self.shift
        r = np.sqrt(np.einsum("ij,ij->i", vec, vec))
        E, slope = np.concatenate([t.energy_and_slope(x) for t, x in self._by_term(r)], axis=1)
        g = (2 * self._weight * slope / r)[:, None] * vec
        return self._by_atom(E), *sums_over_pairs(self.i, self.j, vec, g, len(positions))

    def variance(self, positions, regularisation):
        """Sum of the predicted variances (n,) of an atom's halves of pairs, eV^2; regularisation in eV."""
        r = np.linalg.norm(positions[self.j] - positions[self.i] + self.shift, axis=1)
        return self._by_atom(np.concatenate([t.variance(x, regularisation) for t, x in self._by_term(r)]))

    def _by_term(self, x):
        return zip(self.terms, np.split(x, self._ends), strict=True)

    def _by_atom(self, x):
        n, x = len(self.numbers), self._weight * x
        return np.bincount(self.i, x, n) + np.bincount(self.j, x, n)


def pair_sums(terms, positions, cell, pbc, numbers):
    """PairSums with the pairs of one structure (positions and cell in A)."""
    out = PairSums(terms, numbers)
    out.set_pairs(neighbour_pairs(positions, cell, pbc, max(t.descriptor.cutoff for t in terms)), cell)
    return out
