"""Ewald sum for charges spread as Slater 1s clouds, rho(r) = q zeta^3/pi exp(-2 zeta r).

E / C = sum_{pairs, images} q_i q_j J_ij(r),   J(r) = 1/r - s(r),   s = sum_m D_m Y(g_m, r),   Y(g, r) = exp(-g r)/r
with D = c0 - c1 d/dg + c2 d2/dg2 - c3 d3/dg3 (`slater`). 1/r = Y(0, r), and every Y is shared between two sums,
    real space        S(g, r) = [e^{gr} erfc(a r + g/2a) + e^{-gr} erfc(a r - g/2a)] / 2r          r < r_cut
    reciprocal space  4 pi exp(-(k^2 + g^2)/4a^2) / (k^2 + g^2)                                    k < k_cut
so that both converge as Gaussians, however diffuse the clouds are; a screening term that has died out at r_cut stays
in real space as it is. C = 14.3996 eV A / e^2. A cloud does not interact with itself; tinfoil boundaries.
Units: A, e, eV, 1/A. 1/r: P. P. Ewald, Ann. Phys. 369, 253 (1921); Y: G. Salin, J.-M. Caillol, J. Chem. Phys. 113,
10459 (2000); J: C. C. J. Roothaan, J. Chem. Phys. 19, 1445 (1951). Differentiable in positions, strain and charges.

Atoms are sorted by species, `counts` of each, and arrays have atoms as their last axis: positions are (3, n).
"""
from dataclasses import dataclass
from math import factorial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from ase.units import Bohr, Hartree
from scipy.special import erfc

from .realspace import SQRT_PI, Radial, interaction, radial_functions
from .slater import screening_range

COULOMB = Hartree * Bohr  # e^2 / (4 pi eps0) = 14.3996 eV A


@dataclass(frozen=True)
class Splitting:
    """How the lattice sum is shared between real and reciprocal space."""

    alpha: float  # 1/A, inverse width of the Gaussians (`a` above)
    r_cut: float  # A
    k_cut: float  # 1/A
    g_split: float  # 1/A, screening terms that decay slower than this are shared, faster ones stay in real space


def choose_splitting(volume, n_atoms, accuracy=1e-8, r_cut=None):
    """Splitting whose neglected terms are about `accuracy` of the Coulomb energy and of the forces, at little cost.

    volume in A^3 of a cell with n_atoms; accuracy between 1e-14 and 0.1; r_cut (A) overrides the choice.
    """
    if not 1e-14 <= accuracy <= 0.1:
        raise ValueError(f"accuracy is {accuracy}; choose a relative accuracy between 1e-14 and 0.1")
    s2 = -np.log(accuracy) + 1.5  # both tails fall as exp(-s^2), with prefactors up to 10 for forces (measured)
    if r_cut is None:  # where the cost of the pairs, ~ r^3, equals that of the structure factor, ~ 1/r^3 (measured)
        r_cut = (1e-3 * (1 + 100 / n_atoms) * s2**3 * volume**2 / n_atoms) ** (1 / 6)
    alpha = np.sqrt(s2) / r_cut
    return Splitting(float(alpha), float(r_cut), float(2 * alpha * np.sqrt(s2)),
                     float(2 * screening_range(1.0, 0.1 * accuracy) / r_cut))


def index_box(cell, k_cut):
    """Largest reciprocal lattice index (H, K, L) within k_cut (1/A) along each axis of cell (3, 3) in A."""
    return tuple(int(n) for n in np.floor(k_cut * np.linalg.norm(cell, axis=1) / (2 * np.pi)))


# ---- reciprocal space: kernel ----------------------------------------------------------------------------------
class Kernel(NamedTuple):
    """What multiplies Re(S_a S_b*) in the energy: depends on the cell alone. x: indices with +l, then with -l."""

    values: np.ndarray  # (s, s, x, n_k) 1/A
    slope: np.ndarray  # (s, s, x, n_k) A, dvalues/dk^2 for the strain derivative
    products: np.ndarray  # (6, x, n_k) 1/A^2, of the components of k: xx yy zz yz xz xy


def reciprocal_kernel(cell, alpha, k_cut, screening, box, xp=np):
    """`Kernel` of cell (3, 3) in A; screening of the species pairs (s, s); box from `index_box`.

    xp: the array module; with jax.numpy the kernel is differentiable in the cell.
    """
    H, K, L = box
    h, k, l = (x.ravel() for x in np.meshgrid(np.arange(H + 1), np.arange(-K, K + 1), np.arange(L + 1), indexing="ij"))
    index = np.stack([np.stack([h, k, l], -1), np.stack([h, k, -l], -1)])
    vectors = index @ (2 * np.pi * xp.linalg.inv(cell).T)
    k2 = (vectors**2).sum(-1)
    # l = 0 belongs to the +l part alone, k = 0 is the last line
    used = (k2 <= k_cut**2) & index.any(-1) & np.stack([np.ones(len(l), bool), l > 0])
    origin = np.stack([(h == 0) & (k == 0) & (l == 0), np.zeros(len(l), bool)])
    # S(-k) is the conjugate of S(k): vectors with h > 0 stand for their opposites too; the plane h = 0 holds both
    prefactor = 2 * np.pi / abs(xp.linalg.det(cell)) * xp.where(used, np.where(h == 0, 1.0, 2.0), 0.0)
    k2, beta = xp.where(used, k2, 1.0), 1 / (4 * alpha**2)
    values, slope = (_damped(k2, beta, n, xp) - _screening_transform(k2, beta, screening, n, xp) for n in (0, 1))
    # the background that neutralises the Gaussians, and the screening, which is short-ranged
    zero = -beta - _screening_transform(np.zeros((1, 1)), beta, screening, 0, xp)
    x, y, z = xp.moveaxis(vectors, -1, 0)
    return Kernel(prefactor * values + 2 * np.pi / abs(xp.linalg.det(cell)) * origin * zero, prefactor * slope,
                  xp.stack([x * x, y * y, z * z, y * z, x * z, x * y]))


def _damped(u, beta, order, xp):
    """Derivative of exp(-beta u)/u of this order: u f_n + n f_{n-1} = (-beta)^n exp(-beta u), all of one sign."""
    gauss = xp.exp(-beta * u)
    f = gauss / u
    for n in range(1, order + 1):
        f = ((-beta) ** n * gauss - n * f) / u
    return f


def _screening_transform(k2, beta, screening, order, xp):
    """Smooth part of s in reciprocal space over 4 pi at k2 (...), or its derivative by k2: (s, s, ...)."""
    shape = (*screening.rates.shape, *(1,) * k2.ndim)
    g = np.reshape(screening.rates, shape)
    c0, c1, c2, c3 = (np.reshape(c, shape) for c in screening.coefficients * screening.shared)
    f, f1, f2, f3 = (_damped(k2 + g * g, beta, order + n, xp) for n in range(4))
    return (c0 * f - c1 * 2 * g * f1 + c2 * (2 * f1 + 4 * g**2 * f2) - c3 * (12 * g * f2 + 8 * g**3 * f3)).sum(0)


# ---- reciprocal space: structure factors -----------------------------------------------------------------------
_COSINE = [(2 * np.pi) ** n * (-1) ** (n // 2) / factorial(n) for n in range(0, 27, 2)]


def cos_turns(u):
    """cos(2 pi u) to 3e-15, by its series: XLA vectorises that on a CPU, its own cosine it does not."""
    x = u - jnp.round(u)
    x2, value = x * x, _COSINE[-1]
    for c in _COSINE[-2::-1]:
        value = c + x2 * value
    return value


def indices(box):
    """Reciprocal lattice indices (h, k) (2, n_xy) and l (n_l,) within `index_box`; all pairs, l fastest, make the wave
    vectors of a `Kernel`."""
    H, K, L = box
    hk = np.meshgrid(np.arange(H + 1), np.arange(-K, K + 1), indexing="ij")
    return np.stack([x.ravel() for x in hk]), np.arange(L + 1)


def _plane_waves(fractional, box):
    """cos and sin (c, ., n) of 2 pi (h x + k y), (2, n_xy, n), and of 2 pi l z, (2, n_l, n); fractional (3, n).

    All at once: a product of the two for each wave vector and atom is left to matrix products.
    """
    (h, k), l = indices(box)
    rows = np.zeros((2, len(h) + len(l), 3))
    rows[:, :len(h), 0], rows[:, :len(h), 1], rows[:, len(h):, 2] = h, k, l
    waves = cos_turns(rows.reshape(-1, 3) @ fractional - np.repeat([0.0, 0.25], len(rows[0]))[:, None])
    waves = waves.reshape(2, len(rows[0]), -1)
    return waves[:, :len(h)], waves[:, len(h):]


def _is_of(counts):
    """Whether an atom is of a species: (s, n) 1.0 or 0.0."""
    return np.repeat(np.eye(len(counts)), counts, axis=1)


def _structure_factors(xy, z, charges, counts):
    """Re and Im of S_s = sum_{i of s} q_i exp(i k.r_i): (s, c, x, n_k), x and n_k as in `Kernel`.

    A matrix product of (hk, atoms) with (atoms, l and species), from which the second factor comes back, too.
    """
    z = ((_is_of(counts) * charges)[:, None, None] * z).reshape(-1, len(charges))
    cc, cs, sc, ss = ((xy.reshape(-1, len(charges)) @ z.T)
                      .reshape(2, xy.shape[1], len(counts), 2, -1).transpose(0, 3, 2, 1, 4)
                      .reshape(4, len(counts), -1))
    return jnp.stack([cc - ss, cc + ss, sc + cs, sc - cs], 1).reshape(len(counts), 2, 2, -1), z


def _by_products(by_S, n_xy):
    """A derivative by S as one by the products of which `_structure_factors` makes S: (c n_xy, s c n_l)."""
    (re, re_), (im, im_) = by_S.reshape(len(by_S), 2, 2, n_xy, -1).transpose(1, 2, 0, 3, 4)  # + and -
    by_waves = jnp.stack([re + re_, im - im_, im + im_, re_ - re]).reshape(2, 2, *re.shape)
    return by_waves.transpose(0, 3, 2, 1, 4).reshape(2 * n_xy, -1)


def _applied(kernel, S):
    """sum_b kernel_ab S_b: (s, c, x, n_k)."""
    return sum(kernel[:, b, None] * S[b] for b in range(len(S)))


def reciprocal_space_energy(fractional, charges, kernel, counts, box):
    """Reciprocal-space part in e^2/A: the definition; fractional (3, n), charges (n,) in e."""
    S, _ = _structure_factors(*_plane_waves(fractional, box), charges, counts)
    return (S * _applied(kernel.values, S)).sum()


class Smooth(NamedTuple):
    """Reciprocal-space part of the sum."""

    gradient: jnp.ndarray  # (3, n) of the energy by fractional coordinates, e^2/A
    potential: jnp.ndarray  # (n,) e/A; the energy is half its product with the charges


def reciprocal_space(fractional, charges, kernel, counts, box):
    """`Smooth`; derivatives of `reciprocal_space_energy` stated by hand, by products as large as those of S."""
    xy, z = _plane_waves(fractional, box)
    n_xy, n_l, n = xy.shape[1], z.shape[1], len(charges)
    S, z_of_species = _structure_factors(xy, z, charges, counts)
    by_products = _by_products(2 * _applied(kernel.values, S), n_xy)
    by_cos, by_sin = (by_products @ z_of_species).reshape(2, n_xy, n)
    by_z = (by_products.T @ xy.reshape(-1, n)).reshape(len(counts), 2, n_l, n)
    by_z_cos, by_z_sin = sum(of * x for of, x in zip(_is_of(counts), by_z, strict=True))
    turned = jnp.concatenate([xy[0] * by_sin - xy[1] * by_cos, charges * (z[0] * by_z_sin - z[1] * by_z_cos),
                              z[0] * by_z_cos + z[1] * by_z_sin])
    (h, k), l = indices(box)
    total = np.zeros((4, len(turned)))
    total[0, :n_xy], total[1, :n_xy], total[2, n_xy:n_xy + n_l], total[3, n_xy + n_l:] = h, k, l, 1 / (2 * np.pi)
    *gradient, potential = 2 * np.pi * total @ turned
    return Smooth(jnp.stack(gradient), potential)


def self_potential(alpha, screening):
    """Minus the potential of the smooth part of a unit cloud at itself, by species: (s,) 1/A."""
    g, c, shared = (np.diagonal(x, axis1=-2, axis2=-1) for x in screening)  # (m, s), (4, m, s), (m, s)
    tail, p = erfc(g / (2 * alpha)), np.exp(-(g**2) / (4 * alpha**2)) / (alpha * SQRT_PI)
    # Y - S at r = 0 and its derivatives with respect to g
    terms = np.stack([2 * alpha**2 * p - g * tail, tail, p, g * p / (2 * alpha**2)])
    return (c * shared * terms).sum((0, 1)) - 2 * alpha / SQRT_PI


# ---- the whole -------------------------------------------------------------------------------------------------
def energy(positions, cell, charges, pairs, species, splitting, screening, strain=None):
    """Coulomb energy in eV: the definition, differentiable in positions, charges and strain.

    positions (3, n) and cell (3, 3) in A; charges (n,) in e; pairs: `neighbours.Pairs` within r_cut; species (n,);
    strain (3, 3): r -> (1 + strain) r. Value and gradients of one structure are found faster by `ewald_loops`.
    """
    deform = jnp.eye(3) if strain is None else jnp.eye(3) + strain
    box, counts = index_box(cell, splitting.k_cut), tuple(np.bincount(species).tolist())
    kernel = reciprocal_kernel(cell @ deform.T, splitting.alpha, splitting.k_cut, screening, box, jnp)
    vectors = deform @ (positions[:, pairs.j] - positions[:, pairs.i] + (pairs.S @ cell).T)
    r = jnp.sqrt((vectors**2).sum(0))
    radial = radial_functions(splitting.alpha, splitting.r_cut, screening)
    of_pairs = Radial(radial.r_cut, *(x[..., species[pairs.i], species[pairs.j]] for x in radial[1:]))
    J = jnp.where(r < splitting.r_cut, interaction(r, of_pairs)[0], 0.0)
    own = self_potential(splitting.alpha, screening)[species]
    smooth = reciprocal_space_energy(jnp.linalg.inv(cell).T @ positions, charges, kernel, counts, box)
    return COULOMB * (0.5 * (charges[pairs.i] * charges[pairs.j]) @ J + 0.5 * own @ charges**2 + smooth)
