"""SOAP power spectrum exactly as QUIP's `soap` descriptor defines it.

Neighbour density of centre i in species channel s, expanded in radial functions n and real spherical harmonics lm:

    c_{s n lm} = sum_{j in s} fcut(r_ij) [G_l(r_ij) W]_n Y_lm(r_ij/|r_ij|)  +  centre term (l = 0 only)
    G_ln(r)    = exp(-a (r^2 + r_n^2)) i_l(2 a r r_n),   a = 1/(2 atom_sigma^2),   r_n = n R/n_max
    p_{ab,l}   = (2l+1)^-1/2 (sqrt 2 if a != b) sum_m c_{a,lm} c_{b,lm},   a = (s, n) >= b,   then |p| = 1

i_l: modified spherical Bessel function; W makes the radial basis orthonormal (`radial_basis`). Lengths in A.
Source: Bartok, Kondor, Csanyi, Phys. Rev. B 87, 184115 (2013); conventions found by comparison with QUIP's numbers.

Array axes: N centres, K neighbour slots, n radial functions, S species channels, Q = S n,
D = (l_max+1) Q(Q+1)/2 components. Our order is (l, a, b); `quip_order` gives QUIP's (a, b, l).
"""
from dataclasses import dataclass
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import erf


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

    def __post_init__(self):
        object.__setattr__(self, "species_Z", tuple(int(z) for z in self.species_Z))
        if self.central_reference_all_species is None:
            object.__setattr__(self, "central_reference_all_species", len(self.species_Z) == 1)
        for name in ("n_max", "atom_sigma", "cutoff", "cutoff_transition_width"):
            if not getattr(self, name) > 0:
                raise ValueError(f"soap {name} is {getattr(self, name)}; it must be positive")
        if self.l_max < 0:
            raise ValueError(f"soap l_max is {self.l_max}; it must be 0 or more")
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

    def density_key(self):
        """Descriptors with equal keys share the expansion coefficients (the centre term excepted)."""
        return (self.n_max, self.l_max, self.atom_sigma, self.cutoff, self.cutoff_transition_width, self.species_Z,
                self.basis_error_exponent)


@lru_cache(maxsize=64)
def _radial_basis(n_max, atom_sigma, cutoff, basis_error_exponent):
    a = 0.5 / atom_sigma**2
    R = cutoff + atom_sigma * np.sqrt(2 * basis_error_exponent * np.log(10.0))
    r_n = np.arange(n_max) * (R / n_max)
    diff, total = r_n[:, None] - r_n, r_n[:, None] + r_n
    overlap = (np.exp(-a * (r_n[:, None]**2 + r_n**2)) * np.sqrt(2.0) * a**1.5 * total
               + a * np.exp(-0.5 * a * diff**2) * np.sqrt(np.pi) * (1 + a * total**2)
               * (1 + erf(np.sqrt(a / 2) * total))) / np.sqrt(128 * a**5)  # int_0^inf r^2 g_n g_m dr
    lower = np.linalg.cholesky(overlap)
    W = np.linalg.solve(np.exp(-a * diff**2), lower)
    for x in (r_n, W, lower):
        x.setflags(write=False)
    return r_n, W, lower[0]


def radial_basis(soap):
    """-> r_n (n,) centres of the radial Gaussians in A; W (n, n), coefficients = G @ W;
    centre (n,), the coefficients of an atom at the origin (only the first is not zero)."""
    return _radial_basis(soap.n_max, soap.atom_sigma, soap.cutoff, soap.basis_error_exponent)


def cutoff_function(r, cutoff, width):
    """1 below cutoff - width, half a cosine down to 0 at the cutoff, 0 beyond. r in A, any shape."""
    t = jnp.clip((r - (cutoff - width)) / width, 0.0, 1.0)
    return 0.5 * (1 + jnp.cos(np.pi * t))


def _cutoff_slope(r, cutoff, width):
    t = jnp.clip((r - (cutoff - width)) / width, 0.0, 1.0)
    return (-0.5 * np.pi / width) * jnp.sin(np.pi * t)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def radial_functions(r, soap):
    """fcut(r) G_ln(r) for l = 0..l_max: r (N, K) in A -> tuple of (N, n, K).

    K stays the contiguous axis: with n innermost the same sums take twice the time on a CPU."""
    return _radial_and_slope(r, soap)[0]


@radial_functions.defjvp
def _radial_functions_jvp(soap, primals, tangents):
    R, dR = _radial_and_slope(primals[0], soap)
    return R, tuple(d * tangents[0][:, None, :] for d in dR)


def _radial_and_slope(r, soap):
    """The functions and dG_l/dr = -2 a r G_l + 2 a r_n [l G_{l-1} + (l+1) G_{l+1}] / (2l+1) in closed form."""
    a, width = soap.alpha, soap.cutoff_transition_width
    r_n = jnp.asarray(radial_basis(soap)[0], r.dtype)[:, None]
    fc, dfc = (f(r, soap.cutoff, width)[:, None, :] for f in (cutoff_function, _cutoff_slope))
    r = r[:, None, :]
    G = _gaussian_bessel(r, r_n, a, soap.l_max + 1)
    R, dR = [], []
    for l in range(soap.l_max + 1):
        side = (l + 1) * G[l + 1] + (l * G[l - 1] if l else 0.0)
        R.append(fc * G[l])
        dR.append((dfc - 2 * a * r * fc) * G[l] + fc * (2 * a / (2 * l + 1)) * r_n * side)
    return tuple(R), tuple(dR)


def _gaussian_bessel(r, r_n, a, l_top):
    """exp(-a (r^2 + r_n^2)) i_l(2 a r r_n) for l = 0..l_top by upward recursion from "l = -1", as in QUIP.

    The exponentials are paired so that nothing overflows. r_n = 0 exactly leaves only l = 0."""
    at_zero = r_n == 0
    ix = 1 / jnp.where(at_zero, 1.0, 2 * a * r * r_n)
    minus, plus = jnp.exp(-a * (r - r_n)**2), jnp.exp(-a * (r + r_n)**2)
    below, here = 0.5 * (minus + plus) * ix, 0.5 * (minus - plus) * ix
    G = [jnp.where(at_zero, minus, here)]
    for l in range(l_top):
        below, here = here, below - (2 * l + 1) * ix * here
        G.append(jnp.where(at_zero, 0.0, here))
    return G


def real_spherical_harmonics(x, y, z, l_max):
    """Orthonormal real Y_lm of unit vectors x, y, z (N, K) -> tuple over l of (N, 2l+1, K).

    Polynomials in x, y, z: no angles, no pole. Signs and order of m are free, only sums over m are used."""
    re, im = [jnp.ones_like(x)], [jnp.zeros_like(x)]  # (x + i y)^m
    for m in range(l_max):
        re, im = [*re, x * re[m] - y * im[m]], [*im, x * im[m] + y * re[m]]
    P = {(0, 0): jnp.full_like(x, np.sqrt(0.25 / np.pi))}  # normalised P_lm / sin^m
    for m in range(1, l_max + 1):
        P[m, m] = P[m - 1, m - 1] * np.sqrt((2 * m + 1) / (2.0 * m))
    for m in range(l_max):
        P[m + 1, m] = np.sqrt(2 * m + 3.0) * z * P[m, m]
    for m in range(l_max + 1):
        for l in range(m + 2, l_max + 1):
            up = np.sqrt((4.0 * l * l - 1) / (l * l - m * m))
            down = np.sqrt(((l - 1.0)**2 - m * m) / (4 * (l - 1.0)**2 - 1))
            P[l, m] = up * (z * P[l - 1, m] - down * P[l - 2, m])
    return tuple(jnp.stack([P[l, 0]] + [np.sqrt(2.0) * P[l, m] * f[m] for m in range(1, l + 1) for f in (re, im)], 1)
                 for l in range(l_max + 1))


def pair_basis(vec, soap):
    """Radial functions and harmonics (see there) of pair vectors vec (3, N, K) in A."""
    x, y, z = vec
    r = jnp.sqrt(x * x + y * y + z * z)
    return radial_functions(r, soap), real_spherical_harmonics(x / r, y / r, z / r, soap.l_max)


def density_coefficients(vec, blocks, channels, soap):
    """Expansion coefficients of the neighbours (without the centre term).

    vec (3, N, K) in A: the K slots come in consecutive blocks of one element each, `blocks` their widths and
    `channels` their species channel (None: not seen). An empty slot holds a vector longer than the cutoff, which
    contributes zero (not a zero vector: the gradient of |r| there is NaN). -> list over l of (N, Q, 2l+1)
    """
    S, n, N = len(soap.species_Z), soap.n_max, vec.shape[1]
    R, Y = pair_basis(vec, soap)
    ends = np.cumsum(blocks).tolist()
    raw = []
    for l in range(soap.l_max + 1):
        c = [jnp.zeros((N, n, 2 * l + 1), vec.dtype)] * S
        for width, end, s in zip(blocks, ends, channels, strict=True):
            if s is not None:
                slots = slice(end - width, end)
                c[s] = c[s] + jnp.einsum("ink,imk->inm", R[l][..., slots], Y[l][..., slots])
        raw.append(jnp.stack(c, 1))
    # W mixes n only, so it may wait until the sum over neighbours is done
    W = jnp.asarray(radial_basis(soap)[1], vec.dtype)
    C = jnp.einsum("np,isnm->ispm", W, jnp.concatenate(raw, -1)).reshape(N, S * n, -1)
    return [C[..., l * l:(l + 1)**2] for l in range(soap.l_max + 1)]


def centre_coefficients(elements, soap):
    """l = 0 coefficients of the centre atoms themselves: elements (N,) atomic numbers -> (N, Q)."""
    species = np.array(soap.species_Z)
    own = (np.asarray(elements)[:, None] == species) | (species == 0) | soap.central_reference_all_species
    return soap.central_weight * np.sqrt(0.25 / np.pi) * np.kron(own, radial_basis(soap)[2])


def add_centre(C, centre):
    """Coefficients with the centre term (N, Q) added."""
    return [C[0] + jnp.asarray(centre, C[0].dtype)[:, :, None], *C[1:]]


@jax.custom_jvp
def _gram(c):
    """(N, Q, m) -> c c^T (N, Q, Q); the derivative rule uses the symmetry, half the work."""
    return jnp.einsum("iam,ibm->iab", c, c)


@_gram.defjvp
def _gram_jvp(primals, tangents):
    t = jnp.einsum("iam,ibm->iab", tangents[0], primals[0])
    return _gram(primals[0]), t + t.swapaxes(1, 2)


@lru_cache(maxsize=64)
def _triangle(Q):
    a, b = np.tril_indices(Q)
    position = np.zeros((Q, Q), int)
    position[a, b] = position[b, a] = np.arange(len(a))
    return a * Q + b, np.where(a == b, 1.0, np.sqrt(2.0)), position.ravel()


def _pack(P):
    """(N, Q, Q) symmetric -> (N, Q(Q+1)/2), rows a, columns b <= a, off the diagonal times sqrt 2.

    linear_call states the transpose as a second gather; the automatic one is a scatter, slow on a CPU."""
    Q = P.shape[-1]
    index, weight, position = _triangle(Q)
    half = np.where(np.eye(Q, dtype=bool), 1.0, np.sqrt(0.5)).ravel()

    def forward(_, P):
        return jnp.take(P.reshape(-1, Q * Q), index, axis=1) * weight.astype(P.dtype)

    def transpose(_, g):
        return (jnp.take(g, position, axis=1) * half.astype(g.dtype)).reshape(-1, Q, Q)

    return jax.custom_derivatives.linear_call(forward, transpose, (), P)


def power_spectrum(C, soap):
    """Coefficients, list over l of (N, Q, 2l+1) -> normalised power spectrum (N, D) in our order (l, a, b)."""
    p = jnp.concatenate([_pack(_gram(c)) * (1 / np.sqrt(2 * l + 1)) for l, c in enumerate(C)], -1)
    if soap.normalise:
        p = p * jax.lax.rsqrt((p * p).sum(-1, keepdims=True))
    return p


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
