"""SOAP power spectrum exactly as QUIP's `soap` descriptor defines it.

Neighbour density of centre i in species channel s, expanded in radial functions n and real spherical harmonics lm:

    c_{s n lm} = sum_{j in s} fcut(r_ij) u(r_ij) [G_l(r_ij) W]_n Y_lm(r_ij/|r_ij|)  +  centre term (l = 0 only)
    G_ln(r)    = exp(-a (r^2 + r_n^2)) i_l(2 a r r_n),   a = 1/(2 atom_sigma^2),   r_n = n R/n_max
    p_{ab,l}   = (2l+1)^-1/2 (sqrt 2 if a != b) sum_m c_{a,lm} c_{b,lm},   a = (s, n) >= b,   then |p| = 1

i_l: modified spherical Bessel function; u: weight by distance, 1 unless cutoff_dexp is set; W makes the radial basis
orthonormal (both in `esgap.basis`). Lengths in A.
Evaluation works with reduced coefficients, which leave out G_l0 = 0 for l > 0 by a rotation of the radial basis: the
spectra are shorter, D' < D, their products with points reduced alike (`reduced_points`) are the same. Those of a
`TruncatedSoap` also leave out radial functions that atoms within the cutoff hardly reach.
Source: Bartok, Kondor, Csanyi, Phys. Rev. B 87, 184115 (2013); conventions found by comparison with QUIP's numbers.

Array axes: N centres, K neighbour slots, n radial functions, S species channels, Q = S n,
D = (l_max+1) Q(Q+1)/2 components. Our order is (l, a, b); `quip_order` gives QUIP's (a, b, l).
"""
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from .basis import pair_basis, radial_basis, radial_transform


@dataclass(frozen=True)
class Soap:
    """Hyperparameters under gap_fit's names; hashable, so that compiled programs can be kept for it."""

    n_max: int
    l_max: int
    atom_sigma: float                             # A
    cutoff: float                                 # A
    cutoff_transition_width: float = 0.5          # A
    central_weight: float = 1.0
    central_reference_all_species: bool | None = None  # None: QUIP's default, true for a single channel
    species_Z: tuple = (0,)                       # channels; 0 is one channel for every element
    Z: int = 0                                    # element of the centres; 0 is every atom
    covariance_sigma0: float = 0.0
    normalise: bool = True
    basis_error_exponent: float = 10.0
    cutoff_dexp: int = 0                          # m of the weight by distance c/(c + (r/r0)^m); 0: none
    cutoff_scale: float = 1.0                     # r0, A
    cutoff_rate: float = 1.0                      # c; 0: weight (r0/r)^m
    radial_tolerance: ClassVar[float] = 0.0  # nothing is left out, see `TruncatedSoap`

    def __post_init__(self):
        object.__setattr__(self, "species_Z", tuple(int(z) for z in self.species_Z))
        if self.central_reference_all_species is None:
            object.__setattr__(self, "central_reference_all_species", len(self.species_Z) == 1)
        for name in ("n_max", "atom_sigma", "cutoff", "cutoff_transition_width", "cutoff_scale"):
            if not getattr(self, name) > 0:
                raise ValueError(f"soap {name} is {getattr(self, name)}; it must be positive")
        for name in ("l_max", "cutoff_dexp", "cutoff_rate"):
            if getattr(self, name) < 0:
                raise ValueError(f"soap {name} is {getattr(self, name)}; it must be 0 or more")
        if self.cutoff_transition_width > self.cutoff:
            raise ValueError(f"soap cutoff_transition_width is {self.cutoff_transition_width} A, wider than the cutoff "
                             f"of {self.cutoff} A; choose a narrower transition, 0.5 A is usual")

    @property
    def alpha(self):
        """Exponent of the atomic Gaussians, 1/A^2."""
        return 0.5 / self.atom_sigma**2

    @property
    def n_channels(self):
        return self.n_max * len(self.species_Z)

    @property
    def n_components(self):
        """D. QUIP's vector has one component more, covariance_sigma0."""
        return (self.l_max + 1) * self.n_channels * (self.n_channels + 1) // 2

    def channel(self, Z):
        """Species channel of element Z; None if the descriptor does not see that element."""
        if 0 in self.species_Z:
            return 0
        return self.species_Z.index(Z) if Z in self.species_Z else None

    def of_any_centre(self):
        """The same descriptor for every atom: terms in which it is equal share its power spectra."""
        return replace(self, Z=0)

    def truncated(self, radial_tolerance):
        """The same descriptor as `TruncatedSoap`; ValueError if the tolerance is not within 0 and 0.1."""
        return TruncatedSoap(**{f.name: getattr(self, f.name) for f in fields(Soap)}, radial_tolerance=radial_tolerance)


@dataclass(frozen=True)
class TruncatedSoap(Soap):
    """Evaluates a descriptor without radial functions whose values stay below radial_tolerance of the largest.

    Gaussians centred outside the cutoff differ by little within it: some combinations of them are nearly zero there,
    and the spectra are shorter without those. It belongs to evaluation, so it is no part of stored potentials."""

    radial_tolerance: float = 1e-9

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.radial_tolerance <= 0.1:
            raise ValueError(f"radial_tolerance is {self.radial_tolerance}; it must lie between 0 (nothing is left "
                             "out) and 0.1, 1e-9 is as good as exact")


def density_coefficients(vec, blocks, channels, soap):
    """Expansion coefficients of the neighbours (without the centre term) in the reduced basis of `radial_transform`.

    vec (3, N, K) in A: the K slots come in consecutive blocks of one element each, `blocks` their widths and
    `channels` their species channel (None: not seen). An empty slot holds a vector longer than the cutoff, which
    contributes zero (not a zero vector: the gradient of |r| there is NaN). -> list over l of (N, S k, 2l+1)
    """
    S, N, orders = len(soap.species_Z), vec.shape[1], range(soap.l_max + 1)
    raw = [[0.0] * S for _ in orders]
    for width, end, s in zip(blocks, np.cumsum(blocks).tolist(), channels, strict=True):
        if s is not None:
            R, Y = pair_basis(vec[..., end - width:end], soap)
            for l, c in enumerate(_sums_over_slots(R, Y)):
                raw[l][s] += c
    out = []
    for l in orders:  # the transform mixes n only, so it may wait until the sum over neighbours is done
        T = jnp.asarray(radial_transform(soap, l)[0], vec.dtype)
        c = jnp.stack([jnp.broadcast_to(x, (N, len(T), 2 * l + 1)) for x in raw[l]], 1)
        out.append(jnp.einsum("np,isnm->ispm", T, c).reshape(N, S * T.shape[1], 2 * l + 1))
    return out


def _sums_over_slots(R, Y, together=3):
    """Sums over slots of R_l Y_lm, list over l of (N, k, 2l+1), from lists of (N, k, K) and (N, 2l+1, K).

    Products of a few orders are done together and what mixes them is left out: these products are so small that the
    time goes into calls, of which there are fewer, more than into arithmetic, of which there is twice as much."""
    out = []
    for low in range(0, len(R), together):
        r, y = R[low:low + together], Y[low:low + together]
        c, n, m = jnp.einsum("ink,imk->inm", jnp.concatenate(r, 1), jnp.concatenate(y, 1)), 0, 0
        for a, b in zip(r, y, strict=True):
            out.append(c[:, n:n + a.shape[1], m:m + b.shape[1]])
            n, m = n + a.shape[1], m + b.shape[1]
    return out


def full_coefficients(C, soap):
    """The coefficients of `density_coefficients` in QUIP's n_max radial functions -> list over l of (N, Q, 2l+1)."""
    out, S = [], len(soap.species_Z)
    for l, c in enumerate(C):
        U = jnp.asarray(radial_transform(soap, l)[1], c.dtype)
        c = c.reshape(len(c), S, len(U), 2 * l + 1)
        out.append(jnp.einsum("pn,ispm->isnm", U, c).reshape(len(c), soap.n_channels, 2 * l + 1))
    return out


def centre_coefficients(elements, soap):
    """l = 0 coefficients of the centre atoms themselves: elements (N,) atomic numbers -> (N, Q)."""
    species = np.array(soap.species_Z)
    own = (np.asarray(elements)[:, None] == species) | (species == 0) | soap.central_reference_all_species
    return soap.central_weight * np.sqrt(0.25 / np.pi) * np.kron(own, radial_basis(soap)[2])


def reduced_centre(elements, soap):
    """`centre_coefficients` in the reduced basis: (N, S k)."""
    U = np.kron(np.eye(len(soap.species_Z)), radial_transform(soap, 0)[1])
    return centre_coefficients(elements, soap) @ U.T


def add_centre(C, centre):
    """Coefficients with the centre term (N, Q) added."""
    return [C[0] + jnp.asarray(centre, C[0].dtype)[:, :, None], *C[1:]]


@lru_cache(maxsize=64)
def _triangle(Q):
    """Rows a, columns b <= a of a (Q, Q) matrix -> flat positions of them in it, weights, positions of it in them."""
    a, b = np.tril_indices(Q)
    position = np.zeros((Q, Q), int)
    position[a, b] = position[b, a] = np.arange(len(a))
    return a * Q + b, np.where(a == b, 1.0, np.sqrt(2.0)), position.ravel()


@jax.custom_vjp
def _packed_gram(c):
    """(N, Q, m) -> sum_m c_a c_b for b <= a, off the diagonal times sqrt 2: (N, Q(Q+1)/2).

    The rule states the backward pass as gather and product; the automatic one scatters, which is slow on a CPU."""
    index, weight, _ = _triangle(c.shape[1])
    P = jnp.einsum("iam,ibm->iab", c, c).reshape(len(c), -1)
    return P[:, index] * weight.astype(c.dtype)


def _packed_gram_forward(c):
    return _packed_gram(c), c


def _packed_gram_backward(c, g):
    N, Q, _ = c.shape
    weight = np.where(np.eye(Q, dtype=bool), 2.0, np.sqrt(2.0)).ravel()
    G = g[:, _triangle(Q)[2]] * weight.astype(c.dtype)
    return (jnp.einsum("iab,ibm->iam", G.reshape(N, Q, Q), c),)


_packed_gram.defvjp(_packed_gram_forward, _packed_gram_backward)


def unnormalised_spectrum(C, lowest=0):
    """Coefficients, list over l of (N, Q, 2l+1) -> P (N, D) in our order (l, a, b); full or reduced coefficients.

    lowest: orders below it are left out of P."""
    if lowest >= len(C):
        return jnp.zeros((len(C[0]), 0), C[0].dtype)
    return jnp.concatenate([_packed_gram(C[l]) * (1 / np.sqrt(2 * l + 1)) for l in range(lowest, len(C))], -1)


def power_spectrum(C, soap):
    """Coefficients, list over l of (N, Q, 2l+1) -> p (N, D), normalised unless soap.normalise is false."""
    p = unnormalised_spectrum(C)
    return p * jax.lax.rsqrt((p * p).sum(-1, keepdims=True)) if soap.normalise else p


def quip_order(soap):
    """(D,) our position of QUIP's k-th component: p_quip = p[:, quip_order(soap)]."""
    n_pairs = soap.n_components // (soap.l_max + 1)
    return (np.arange(soap.l_max + 1) * n_pairs + np.arange(n_pairs)[:, None]).ravel()


def square_points(X, soap):
    """Power-spectrum vectors X (M, D) as symmetric matrices B (M, Q, Q) per l with X . p = sum_l tr(B_l c_l c_l^T),
    p not normalised: undoes the packing. -> list over l."""
    Q = soap.n_channels
    n_pairs = Q * (Q + 1) // 2
    position = _triangle(Q)[2]
    scale = np.where(np.eye(Q, dtype=bool), 1.0, np.sqrt(0.5)).ravel()
    return [(np.asarray(X)[:, l * n_pairs:(l + 1) * n_pairs][:, position] * (scale / np.sqrt(2 * l + 1)))
            .reshape(-1, Q, Q) for l in range(soap.l_max + 1)]


def reduced_points(X, soap):
    """Points X (M, D) -> (M, D'), D' < D: their products with spectra of full and of reduced coefficients are equal."""
    out = []
    for l, B in enumerate(square_points(X, soap)):
        U = np.kron(np.eye(len(soap.species_Z)), radial_transform(soap, l)[1])
        index, weight, _ = _triangle(len(U))
        out.append((U @ B @ U.T).reshape(len(B), -1)[:, index] * (weight * np.sqrt(2 * l + 1)))
    return np.concatenate(out, 1)


def squares_of_lowest_order(X, soap):
    """Points X (M, D) -> x (r, M, Q'), sign (r, M): their part of l = 0 as sum_r sign_r x_r x_r^T in the reduced basis.

    r = 1 if the points are environments, for which it is c c^T; other vectors take up to Q'."""
    U = np.kron(np.eye(len(soap.species_Z)), radial_transform(soap, 0)[1])
    w, v = np.linalg.eigh(U @ square_points(X, soap)[0] @ U.T)
    order = np.argsort(-abs(w), axis=1)
    w, v = np.take_along_axis(w, order, 1).T, np.take_along_axis(v, order[:, None], 2).transpose(2, 0, 1)
    rank = max(1, np.count_nonzero((abs(w) > 1e-14 * abs(w).max(initial=0)).any(1)))  # beyond it is rounding
    return v[:rank] * np.sqrt(abs(w[:rank]))[..., None], np.sign(w[:rank])


def point_coefficients(X, soap):
    """Coefficients (M, Q, (l_max+1)^2) with power spectra X (M, D), fewer numbers than X. `points_of` is the inverse.

    An environment's c_l c_l^T has rank 2l+1: its eigenvectors give c_l back up to a rotation, which does not count."""
    out = []
    for l, B in enumerate(square_points(X, soap)):
        w, v = np.linalg.eigh((2 * l + 1) * B)
        out.append((v * np.sqrt(np.maximum(w, 0))[:, None])[..., :-(2 * l + 2):-1])
        out[-1] = np.pad(out[-1], ((0, 0), (0, 0), (0, 2 * l + 1 - out[-1].shape[-1])))  # where Q < 2l + 1
    return np.concatenate(out, -1)


def points_of(C, soap):
    """Power spectra (M, D) of `point_coefficients`."""
    return np.asarray(power_spectrum([jnp.asarray(C[..., l * l:(l + 1)**2]) for l in range(soap.l_max + 1)], soap))
