"""Gaussian approximation potential: sparse Gaussian processes on SOAP power spectra and, if wanted, on distances.

    E = sum_i e0(Z_i) + sum_terms sum_{i: Z_i = Z of the term} sum_m alpha_m delta^2 (p_i . X_m + sigma0^2)^zeta
    F = -dE/dr,   stress = (1/V) dE/d(strain)   (ASE's sign)

E is a sum over centres of a function of that centre's pair vectors, so one reverse sweep gives dE/dvec; forces are its
sums over pairs, stress is sum vec x dE/dvec / V. Two-body terms add to it (`esgap.two_body`), the rest here is SOAP's.
Units A, eV, eV/A, eV/A^3.
Source: Bartok, Payne, Kondor, Csanyi, Phys. Rev. Lett. 104, 136403 (2010); the convention is that of QUIP.
"""
from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import cho_factor, cho_solve

from .kernel_sums import lowest_order, sums_of_kernels
from .neighbours import neighbour_pairs
from .soap import (
    Soap,
    add_centre,
    density_coefficients,
    full_coefficients,
    power_spectrum,
    reduced_centre,
    unnormalised_spectrum,
)
from .two_body import pair_sums


@dataclass(frozen=True, eq=False)
class Term:
    """One sparse Gaussian process: the environments of element soap.Z (0: all) against M sparse points."""

    soap: Soap
    X: np.ndarray      # (M, D) sparse points, our component order
    alpha: np.ndarray  # (M,) weights; times delta^2 they are eV
    delta: float       # eV
    zeta: float        # any positive power, usually a small integer

    def __post_init__(self):
        if self.X.shape != (len(self.alpha), self.soap.n_components):
            raise ValueError(f"sparse points have shape {self.X.shape}, but {len(self.alpha)} weights and the "
                             f"descriptor need ({len(self.alpha)}, {self.soap.n_components}): "
                             "check n_max, l_max and species_Z against the file of points")
        if not np.all(np.isfinite(self.alpha)):
            raise ValueError(f"{np.sum(~np.isfinite(self.alpha))} weights of the term for Z={self.soap.Z} are not "
                             "finite; the fit behind this model failed")

    def kernel(self, p):
        """delta^2 (p . X + sigma0^2)^zeta of descriptors p (n, D) with the sparse points -> (n, M), eV^2."""
        return self.delta**2 * (np.asarray(p) @ self.X.T + self.soap.covariance_sigma0**2)**self.zeta


@dataclass(frozen=True, eq=False)
class SparseGAP:
    """A fitted potential: its terms add up, e0 (eV) by atomic number is the energy of an atom without neighbours."""

    terms: tuple
    e0: dict = field(default_factory=dict)
    label: str = "GAP"
    pair_terms: tuple = ()  # `esgap.two_body.PairTerm`

    @property
    def cutoff(self):
        """Largest cutoff of all terms, A."""
        return max([self.soap_cutoff, *(t.descriptor.cutoff for t in self.pair_terms)])

    @property
    def soap_cutoff(self):
        """Largest cutoff of the SOAP terms, A; 0 without any."""
        return max((t.soap.cutoff for t in self.terms), default=0.0)

    def __str__(self):
        lines = [f"{self.label}: " + ", ".join(f"e0(Z={z}) = {v:.4f} eV" for z, v in self.e0.items() if v)]
        for t in self.terms:
            s = t.soap
            lines.append(f"  Z={s.Z}: {len(t.alpha)} points, n_max {s.n_max}, l_max {s.l_max}, cutoff {s.cutoff} A, "
                         f"atom_sigma {s.atom_sigma} A, delta {t.delta} eV, zeta {t.zeta:g}")
        for t in self.pair_terms:
            d = t.descriptor
            lines.append(f"  pairs Z1={d.Z1}, Z2={d.Z2}: {len(t.alpha)} points, cutoff {d.cutoff} A, "
                         f"delta {t.delta} eV, theta {t.theta:g} A")
        return "\n".join(lines)


class Layout:
    """How the atoms of one composition are arranged for the compiled program; equal layouts share it.

    Atoms are dealt into equal chunks with the same number of rows of every element, sorted by element: the rows of a
    centre element are a slice, one chunk is compiled, and its intermediates stay in the cache. Filler rows have
    weight 0. order, weight: (chunks, rows), the atom and the weight of every row. shares: slices of the chunks, equally
    many in each, for as many threads as are wanted and have a chunk to do.
    """

    def __init__(self, terms, numbers, chunk_rows=96, threads=1):
        numbers = np.asarray(numbers)
        self.elements, counts = np.unique(numbers, return_counts=True)
        chunks = max(1, -(-len(numbers) // chunk_rows))
        n_shares = min(threads, chunks)
        share = -(-chunks // n_shares)
        chunks = share * n_shares
        self.shares = [slice(k, k + share) for k in range(0, chunks, share)]
        per = -(-counts // chunks)  # rows of each element in a chunk
        order, weight = [], []
        for Z, count, n in zip(self.elements, counts, per, strict=True):
            atoms = np.zeros(chunks * n, int)
            atoms[:count] = np.flatnonzero(numbers == Z)
            order.append(atoms.reshape(chunks, n))
            weight.append((np.arange(chunks * n) < count).reshape(chunks, n))
        self.order, self.weight = np.concatenate(order, 1), np.concatenate(weight, 1).astype(float)
        self.row_of_atom = np.empty(len(numbers), int)
        self.row_of_atom[self.order[self.weight > 0]] = np.flatnonzero(self.weight.ravel())
        self.element_of_atom = np.searchsorted(self.elements, numbers)
        self.row_elements = np.repeat(self.elements, per)
        self.terms = tuple((t.soap, float(t.zeta)) for t in terms)
        self._key = (tuple(self.row_elements.tolist()), self.terms)
        self._hash = hash(self._key)

    def __eq__(self, other):
        return isinstance(other, Layout) and self._key == other._key

    def __hash__(self):
        return self._hash

    def rows(self, soap):
        """Slice of the rows whose centre the descriptor describes."""
        if soap.Z == 0:
            return slice(0, len(self.row_elements))
        return slice(*np.searchsorted(self.row_elements, [soap.Z, soap.Z + 1]).tolist())

    def channels(self, soap):
        """Species channel of every block of neighbour slots."""
        return tuple(soap.channel(int(Z)) for Z in self.elements)


class PairTable:
    """Pairs dealt into padded slots: (chunks, rows, K), K in one block per neighbour element.

    Block widths only grow, from n neighbours to n + headroom sqrt(n), as numbers of neighbours fluctuate: a compiled
    program serves as long as the pairs fit. They are multiples of STEP, so that a table begun anew from another frame
    of the same run finds a program that is there already. `fill` takes the pairs within the cutoff now, the skin's
    cost nothing.
    """

    STEP = 4

    def __init__(self, layout, headroom=0.5):
        self.layout, self.headroom = layout, headroom
        self.blocks = (0,) * len(layout.elements)

    def set_pairs(self, pairs, cell):
        """Take a new list: pairs with i, j, S; cell (3, 3) in A."""
        n_blocks = len(self.blocks)
        key = self.layout.row_of_atom[pairs.i] * n_blocks + self.layout.element_of_atom[pairs.j]
        order = np.argsort(key, kind="stable")
        self.i, self.j, self.key = pairs.i[order], pairs.j[order], key[order]
        self.shift = pairs.S[order] @ np.asarray(cell)  # (n_pairs, 3) A

    def fill(self, positions, cutoff):
        """positions (n, 3), cutoff in A -> (i, j, vectors (n_pairs, 3), flat slot numbers) of the pairs within it."""
        vec = positions.take(self.j, 0) - positions.take(self.i, 0) + self.shift  # twice as fast as positions[self.j]
        near = np.flatnonzero(np.einsum("ij,ij->i", vec, vec) < cutoff**2)
        key, n_blocks, n_rows = self.key[near], len(self.blocks), self.layout.order.size
        count = np.bincount(key, minlength=n_rows * n_blocks)
        need = np.maximum(count.reshape(n_rows, n_blocks).max(0), 1)
        if np.any(need > self.blocks):
            step = self.STEP if self.headroom else 1
            roomy = step * np.ceil((need + self.headroom * np.sqrt(need)) / step).astype(int)
            self.blocks = tuple(np.where(need > self.blocks, roomy, self.blocks).tolist())
        first = np.cumsum((0, *self.blocks[:-1]))
        start = (np.arange(n_rows)[:, None] * sum(self.blocks) + first).ravel() - (np.cumsum(count) - count)
        return self.i[near], self.j[near], vec.take(near, 0), start[key] + np.arange(len(key))


def _coefficients(vec, blocks, layout):
    """One chunk: vec (3, rows, K) -> reduced coefficients of all rows, centre term included: {descriptor: list}."""
    out = {}
    for soap in {soap.of_any_centre(): None for soap, _ in layout.terms}:
        C = density_coefficients(vec, blocks, layout.channels(soap), soap)
        out[soap] = add_centre(C, reduced_centre(layout.row_elements, soap))
    return out


def _row_energies(vec, params, blocks, layout):
    """One chunk: energies (rows,) in eV without e0."""
    C = _coefficients(vec, blocks, layout)
    P = {soap: unnormalised_spectrum(c, 1) for soap, c in C.items()}
    E = jnp.zeros(vec.shape[1], vec.dtype)
    for (points, alpha), (soap, zeta) in zip(params, layout.terms, strict=True):
        rows = layout.rows(soap)
        if rows.start < rows.stop:
            any_centre = soap.of_any_centre()
            lowest = lowest_order(C[any_centre][0][rows, :, 0], points)
            E = E.at[rows].add(sums_of_kernels(*lowest, P[any_centre][rows], points, alpha, soap, zeta))
    return E


@partial(jax.jit, static_argnums=(3, 4))
def energies_and_gradient(vec, weight, params, blocks, layout):
    """vec (chunks, 3, rows, K), weight (chunks, rows) -> row energies (chunks, rows) and dE/dvec like vec."""

    def one(chunk):
        def total(v):
            E = _row_energies(v, params, blocks, layout)
            return E @ chunk[1], E
        (_, E), g = jax.value_and_grad(total, has_aux=True)(chunk[0])
        return E, g

    if len(vec) == 1:
        E, g = one((vec[0], weight[0]))
        return E[None], g[None]
    return jax.lax.map(one, (vec, weight))


@partial(jax.jit, static_argnums=(1, 2))
def _descriptors(vec, blocks, layout):
    """vec (chunks, 3, rows, K) -> per term the power spectra of its rows in QUIP's functions, (chunks, rows, D)."""

    def one(v):
        C = {soap: full_coefficients(c, soap) for soap, c in _coefficients(v, blocks, layout).items()}
        return [power_spectrum([c[layout.rows(soap)] for c in C[soap.of_any_centre()]], soap)
                for soap, _ in layout.terms]

    return jax.lax.map(one, vec)


def padded_vectors(vec, slots, table):
    """(n_pairs, 3) vectors in A into slots -> (chunks, 3, rows, K); empty slots lie beyond the cutoff."""
    chunks, rows = table.layout.order.shape
    K = sum(table.blocks)
    out = np.empty((3, chunks * rows * K))
    out[:] = np.array([[1e3], [0.0], [0.0]])
    out[:, slots] = vec.T
    return out.reshape(3, chunks, rows, K).swapaxes(0, 1)


def descriptors(terms, positions, cell, pbc, numbers):
    """Power spectra of every centre: one array (n_centres, D) per term and the atoms they belong to, [(p, atoms)]."""
    layout = Layout(terms, numbers)
    table, cutoff = PairTable(layout, headroom=0), max(t.soap.cutoff for t in terms)
    table.set_pairs(neighbour_pairs(positions, cell, pbc, cutoff), cell)
    _, _, vec, slots = table.fill(np.asarray(positions, float), cutoff)
    out = []
    for t, p in zip(terms, _descriptors(padded_vectors(vec, slots, table), table.blocks, layout), strict=True):
        rows = layout.rows(t.soap)
        real, atoms = layout.weight[:, rows] > 0, layout.order[:, rows]
        sort = np.argsort(atoms[real])
        out.append((np.asarray(p)[real][sort], atoms[real][sort]))
    return out


def predicted_variance(model, positions, cell, pbc, numbers, regularisation=1e-3):
    """Variance (n,) in eV^2 of the local energies, k(p, p) + regularisation^2 - k^T (K_MM + regularisation^2)^-1 k,
    terms added; regularisation in eV.

    Convention of QUIP's `local_gap_variance` with `gap_variance_regularisation`: the prior variance less what the
    sparse points explain, as if they were the data. It flags unfamiliar environments; it is not an error bar in eV.
    A two-body term gives the sum over an atom's pairs.
    """
    variance = np.zeros(len(numbers))
    if model.pair_terms:
        variance += pair_sums(model.pair_terms, positions, cell, pbc, numbers).variance(positions, regularisation)
    found = descriptors(model.terms, positions, cell, pbc, numbers) if model.terms else []
    for t, (p, atoms) in zip(model.terms, found, strict=True):
        s2 = t.soap.covariance_sigma0**2
        prior = t.delta**2 * ((p * p).sum(1) + s2)**t.zeta + regularisation**2
        k = t.kernel(p)
        K = t.kernel(t.X) + regularisation**2 * np.eye(len(t.X))
        variance[atoms] += prior - np.einsum("im,mi->i", k, cho_solve(cho_factor(K), k.T))
    return variance
