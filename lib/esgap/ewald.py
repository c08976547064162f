"""Ewald sum for charges spread as Slater 1s clouds, rho(r) = q zeta^3/pi exp(-2 zeta r).

E / C = sum_{pairs, images} q_i q_j J_ij(r),   J(r) = 1/r - s(r),   s = sum_m D_m Y(g_m, r),   Y(g, r) = exp(-g r)/r
with D = c0 - c1 d/dg + c2 d2/dg2 - c3 d3/dg3 (`slater`). 1/r = Y(0, r), and every Y is shared between two sums,
    real space        S(g, r) = [e^{gr} erfc(a r + g/2a) + e^{-gr} erfc(a r - g/2a)] / 2r          r < r_cut
    reciprocal space  4 pi exp(-(k^2 + g^2)/4a^2) / (k^2 + g^2)                                    k < k_cut
so that both converge as Gaussians, however diffuse the clouds are; a screening term that has died out at r_cut stays
in real space as it is. C = 14.3996 eV A / e^2. A cloud does not interact with itself; tinfoil boundaries.
Units: A, e, eV, 1/A. 1/r: P. P. Ewald, Ann. Phys. 369, 253 (1921); Y: G. Salin, J.-M. Caillol, J. Chem. Phys. 113,
10459 (2000); J: C. C. J. Roothaan, J. Chem. Phys. 19, 1445 (1951). Differentiable in positions, strain and charges.
"""
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ase.units import Bohr, Hartree

from .slater import screening_range

COULOMB = Hartree * Bohr  # e^2 / (4 pi eps0) = 14.3996 eV A
SQRT_PI = np.sqrt(np.pi)


@dataclass(frozen=True)
class Splitting:
    """How the lattice sum is shared between real and reciprocal space."""

    alpha: float  # 1/A, inverse width of the Gaussians (`a` above)
    r_cut: float  # A
    k_cut: float  # 1/A
    g_split: float  # 1/A, screening terms that decay slower than this are shared, faster ones stay in real space


def choose_splitting(volume, n_atoms, accuracy=1e-8, r_cut=None):
    """Splitting whose neglected terms are about `accuracy` of the Coulomb energy, at little cost.

    volume in A^3 of a cell with n_atoms; accuracy between 1e-14 and 0.1; r_cut (A) overrides the choice.
    """
    if not 1e-14 <= accuracy <= 0.1:
        raise ValueError(f"accuracy is {accuracy}; choose a relative accuracy between 1e-14 and 0.1")
    s2 = -np.log(accuracy) + 1.0  # both tails fall as exp(-s^2), forces have a factor of 2 to 3 before it (measured)
    if r_cut is None:  # where the cost of the pairs, ~ r^3, equals that of the structure factor, ~ 1/r^3 (measured)
        r_cut = (1e-3 * (1 + 100 / n_atoms) * s2**3 * volume**2 / n_atoms) ** (1 / 6)
    alpha = np.sqrt(s2) / r_cut
    return Splitting(float(alpha), float(r_cut), float(2 * alpha * np.sqrt(s2)),
                     float(2 * screening_range(1.0, 0.1 * accuracy) / r_cut))


def index_box(cell, k_cut):
    """Largest reciprocal lattice index (H, K, L) within k_cut (1/A) along each axis of cell (3, 3) in A."""
    return tuple(int(n) for n in np.floor(k_cut * np.linalg.norm(cell, axis=1) / (2 * np.pi)))


class Screening(NamedTuple):
    """Screening terms, m for each pair (p,) or pair of species (s, s); the last axes are those of the pairs."""

    rates: np.ndarray  # (m, ...) 1/A
    coefficients: np.ndarray  # (4, m, ...)
    shared: np.ndarray  # (m, ...) True where the term is shared with reciprocal space


# ---- real space ------------------------------------------------------------------------------------------------
@jax.custom_jvp
def pair_interaction(r, alpha, screening):
    """Real-space part of J in 1/A at distances r (p,); screening: `Screening` of each pair."""
    return _pair_value_and_slope(r, alpha, screening)[0]


@pair_interaction.defjvp
def _pair_jvp(primals, tangents):
    value, slope = _pair_value_and_slope(*primals)  # alpha and the exponents are settings: no derivative
    return value, slope * tangents[0]


def _pair_value_and_slope(r, alpha, screening):
    """Value and derivative in closed form; they share their exponentials, which are the cost.

    With A+- = e^{+-gr} erfc(ar +- g/2a), p = exp(-a^2 r^2 - g^2/4a^2)/(a sqrt(pi)), total and dif = (A+ +- A-)/2:
    S = total/r, dS/dg = dif, d2S/dg2 = r total - p, d3S/dg3 = r^2 dif + g p/2a^2,
    d total/dr = g dif - 2 a^2 p, d dif/dr = g total, dp/dr = -2 a^2 r p.
    """
    inv, a2 = 1 / r, alpha**2
    gauss, tail = jnp.exp(-a2 * r**2) / (alpha * SQRT_PI), jax.lax.erfc(alpha * r)
    value, slope = tail * inv, -(tail * inv + 2 * a2 * gauss) * inv
    if len(screening.rates) == 0:
        return value, slope
    g, (c0, c1, c2, c3), shared = screening
    h = jnp.where(shared, g / (2 * alpha), 0.0)
    # stored: left alone, XLA repeats these functions in every sum that uses them
    gauss, damp, tails = jax.lax.optimization_barrier(
        (gauss, jnp.exp(-g * r), jax.lax.erfc(alpha * r + jnp.stack([h, -h]))))
    plus = jnp.where(shared, tails[0] / jnp.where(shared, damp, 1.0), 0.0)
    minus = jnp.where(shared, tails[1], 2.0) * damp
    p = jnp.where(shared, gauss * jnp.exp(-h * h), 0.0)
    total, dif = 0.5 * (plus + minus), 0.5 * (plus - minus)
    dtotal, ddif = g * dif - 2 * a2 * p, g * total
    s = c0 * total * inv - c1 * dif + c2 * (r * total - p) - c3 * (r * r * dif + g * p / (2 * a2))
    ds = (c0 * inv * (dtotal - total * inv) - c1 * ddif + c2 * (total + r * dtotal + 2 * a2 * r * p)
          - c3 * r * (2 * dif + r * ddif - g * p))
    return value - s.sum(0), slope - ds.sum(0)


def real_space_energy(vectors, weights, charge_products, alpha, screening):
    """Real-space part, e^2/A: vectors (p, 3) A of distinct pairs, weights (p,) 1, or 0 for padding and beyond r_cut."""
    r2 = (vectors**2).sum(-1)
    r = jnp.sqrt(jnp.where(weights > 0, r2, 1.0))  # unused slots at 1 A: a finite value of weight zero
    return (weights * charge_products * pair_interaction(r, alpha, screening)).sum()


# ---- reciprocal space ------------------------------------------------------------------------------------------
def _screening_transform(k2, alpha, screening):
    """Smooth part of s in reciprocal space over 4 pi at k2 (...); screening of species pairs (s, s) -> (s, s, ...)."""
    shape, beta = (*screening.rates.shape, *(1,) * k2.ndim), 1 / (4 * alpha**2)
    g = jnp.reshape(screening.rates, shape)
    c0, c1, c2, c3 = (jnp.reshape(c, shape) for c in screening.coefficients * screening.shared)
    u = k2 + g * g
    v = 1 / u
    f = jnp.exp(-beta * u) * v  # and its derivatives with respect to u
    f1, f2 = -f * (beta + v), f * (beta**2 + 2 * beta * v + 2 * v**2)
    f3 = -f * (beta**3 + 3 * beta**2 * v + 6 * beta * v**2 + 6 * v**3)
    terms = c0 * f - c1 * 2 * g * f1 + c2 * (2 * f1 + 4 * g**2 * f2) - c3 * (12 * g * f2 + 8 * g**3 * f3)
    return terms.sum(0)


def _phases(fractional, n_max):
    """cos and sin of 2 pi n x for n = 0..n_max: (n_atoms, n_max + 1) each."""
    angle = 2 * jnp.pi * fractional[:, None] * jnp.arange(n_max + 1)
    return jnp.cos(angle), jnp.sin(angle)


def _structure_factors(fractional, weights, box):
    """(Re, Im) of S_s = sum_i w_is exp(i k.r_i) for indices (h, k, +l), then (h, k, -l), each (s, H+1, 2K+1, L+1).

    exp(i k.r) is a product of one factor per axis, so the sum over atoms is a matrix product of (atoms, hk) with
    (atoms, l) instead of a sine for each atom and wave vector. weights (n, s).
    """
    H, K, L = box
    (cx, sx), (cy, sy), (cz, sz) = (_phases(fractional[:, d], n) for d, n in enumerate(box))
    cy = jnp.concatenate([cy[:, :0:-1], cy], 1)[:, None]  # k = -K..K: even and odd continuation
    sy = jnp.concatenate([-sy[:, :0:-1], sy], 1)[:, None]
    cx, sx = cx[:, :, None], sx[:, :, None]
    n, n_hk, n_species = len(fractional), (H + 1) * (2 * K + 1), weights.shape[1]
    xy = jnp.concatenate([(cx * cy - sx * sy).reshape(n, n_hk), (cx * sy + sx * cy).reshape(n, n_hk)], 1)
    z = (weights[:, :, None] * jnp.concatenate([cz, sz], 1)[:, None, :]).reshape(n, -1)
    g = (xy.T @ z).reshape(2, H + 1, 2 * K + 1, n_species, 2, L + 1).transpose(0, 4, 3, 1, 2, 5)
    (re_cos, re_sin), (im_cos, im_sin) = g
    return (re_cos - im_sin, im_cos + re_sin), (re_cos + im_sin, im_cos - re_sin)


class Kernel(NamedTuple):
    """What multiplies Re(S_a S_b*) in the energy: depends on the cell alone."""

    values: jnp.ndarray  # (s, s, 2, n_k) 1/A, for indices with +l and with -l
    zero: jnp.ndarray  # (s, s) 1/A, the k = 0 terms


def reciprocal_vectors(cell, k_cut, box, xp=jnp):
    """Wave vectors (2, n_k, 3) in 1/A of the indices (h, k, +l) and (h, k, -l), and how often each counts (2, n_k).

    xp: numpy where nothing is differentiated.
    """
    H, K, L = box
    h, k, l = (x.ravel() for x in np.meshgrid(np.arange(H + 1), np.arange(-K, K + 1), np.arange(L + 1), indexing="ij"))
    index = np.stack([np.stack([h, k, l], -1), np.stack([h, k, -l], -1)])
    vectors = index @ (2 * np.pi * xp.linalg.inv(cell).T)
    keep = ((vectors**2).sum(-1) <= k_cut**2) & index.any(-1)
    keep = keep & np.stack([np.ones(len(l), bool), l > 0])  # l = 0 belongs to the +l part alone
    # S(-k) is the conjugate of S(k): vectors with h > 0 stand for their opposites too; the plane h = 0 holds both
    return vectors, xp.where(keep, np.where(h == 0, 1.0, 2.0), 0.0)


def reciprocal_kernel(cell, alpha, k_cut, screening, box):
    """`Kernel` of cell (3, 3) in A; screening of the species pairs (s, s); box from `index_box`."""
    vectors, multiplicity = reciprocal_vectors(cell, k_cut, box)
    prefactor = 2 * jnp.pi / jnp.abs(jnp.linalg.det(cell))
    k2 = jnp.where(multiplicity > 0, (vectors**2).sum(-1), 1.0)
    return Kernel(prefactor * multiplicity * _kernel_of_k2(k2, alpha, screening),
                  prefactor * _kernel_at_zero(alpha, screening))


def _kernel_of_k2(k2, alpha, screening):
    return jnp.exp(-k2 / (4 * alpha**2)) / k2 - _screening_transform(k2, alpha, screening)


def _kernel_at_zero(alpha, screening):
    """k = 0: the background that neutralises the Gaussians, and the screening, which is short-ranged."""
    return -1 / (4 * alpha**2) - _screening_transform(jnp.zeros(()), alpha, screening)


@jax.jit
def _kernel_slice(k2, alpha, screening):
    values, slopes = jax.jvp(lambda x: _kernel_of_k2(x, alpha, screening), (k2,), (jnp.ones_like(k2),))
    return values, slopes, _kernel_at_zero(alpha, screening)


def kernel_and_slope(cell, alpha, k_cut, screening, box, slice_size=4096):
    """`reciprocal_kernel` as numbers, and the derivative of its values with respect to k^2 with the wave vectors.

    In slices of one size, so that one compilation serves every cell and splitting.
    -> Kernel, (slopes (s, s, 2, n_k), vectors (2, n_k, 3))
    """
    vectors, multiplicity = reciprocal_vectors(cell, k_cut, box, np)
    k2 = np.where(multiplicity > 0, (vectors**2).sum(-1), 1.0)
    padded = np.pad(k2.ravel(), (0, -k2.size % slice_size), constant_values=1.0)
    parts = [jax.device_get(_kernel_slice(x, alpha, screening)) for x in padded.reshape(-1, slice_size)]
    values, slopes = (np.concatenate(x, -1)[..., :k2.size] for x in list(zip(*parts, strict=True))[:2])
    prefactor = 2 * np.pi / abs(np.linalg.det(cell))
    values, slopes = (prefactor * multiplicity * x.reshape(*x.shape[:-1], *k2.shape) for x in (values, slopes))
    return Kernel(values, prefactor * parts[0][2]), (slopes, vectors)


def strain_derivative(gradient, kernel, slope, vectors):
    """dE/dstrain (3, 3) through the kernel, from dE/dkernel: k^2 changes by -2 k_a k_b, 1/V by -delta_ab."""
    through_k = jnp.einsum("xn,xna,xnb->ab", (gradient.values * slope).sum((0, 1)), vectors, vectors)
    through_v = (gradient.values * kernel.values).sum() + (gradient.zero * kernel.zero).sum()
    return -2 * through_k - through_v * jnp.eye(3)


def reciprocal_space_energy(fractional, weights, kernel, box):
    """Reciprocal-space part, e^2/A: fractional (n, 3), weights (n, s): charge of an atom in its species' column."""
    factors = _structure_factors(fractional, weights, box)
    parts = (jnp.stack([f[part].reshape(weights.shape[1], -1) for f in factors], 1) for part in (0, 1))  # (s, 2, n_k)
    net = weights.sum(0)
    return sum((x * (kernel.values * x).sum(1)).sum() for x in parts) + net @ kernel.zero @ net


def self_energy(weights, alpha, screening):
    """Minus the interaction of each cloud with its own smooth part, e^2/A. weights (n, s), screening (s, s)."""
    g, c, shared = (jnp.diagonal(jnp.asarray(x), axis1=-2, axis2=-1) for x in screening)  # (m, s), (4, m, s), (m, s)
    tail, p = jax.lax.erfc(g / (2 * alpha)), jnp.exp(-(g**2) / (4 * alpha**2)) / (alpha * SQRT_PI)
    # Y - S at r = 0 and its derivatives with respect to g
    terms = jnp.stack([2 * alpha**2 * p - g * tail, tail, p, g * p / (2 * alpha**2)])
    smooth = 2 * alpha / SQRT_PI - (c * shared * terms).sum((0, 1))
    return -0.5 * ((weights**2).sum(0) * smooth).sum()


# ---- the whole -------------------------------------------------------------------------------------------------
def energy(positions, cell, charges, membership, pairs, splitting, pair_screening, species_screening, strain=None):
    """Coulomb energy in eV: the definition that everything else differentiates.

    positions (n, 3) and cell (3, 3) in A; charges (n,) in e; membership (n, s) 1 in the column of an atom's species;
    pairs: (i, j, S, weights) of the distinct pairs within r_cut; strain (3, 3): r -> (1 + strain) r.
    """
    i, j, S, weights = pairs
    deform = jnp.eye(3) if strain is None else jnp.eye(3) + strain.T
    vectors = (positions[j] - positions[i] + S @ cell) @ deform
    box = index_box(cell, splitting.k_cut)
    kernel = reciprocal_kernel(cell @ deform, splitting.alpha, splitting.k_cut, species_screening, box)
    return energy_of_parts(vectors, positions @ jnp.linalg.inv(cell), charges, kernel, membership, (i, j, weights),
                           splitting.alpha, pair_screening, species_screening, box)


def energy_of_parts(vectors, fractional, charges, kernel, membership, pairs, alpha, pair_screening, species_screening,
                    box):
    """The same with pair vectors (p, 3), fractional coordinates (n, 3) and the kernel as separate variables, eV.

    Its gradients assemble into forces and stress without a scatter over atoms inside the compiled code, and while
    the cell stays the kernel is computed once.
    """
    i, j, pair_weights = pairs
    weights = charges[:, None] * membership
    return COULOMB * (
        real_space_energy(vectors, pair_weights, charges[i] * charges[j], alpha, pair_screening)
        + reciprocal_space_energy(fractional, weights, kernel, box)
        + self_energy(weights, alpha, species_screening))
