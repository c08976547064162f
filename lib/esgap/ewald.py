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
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ase.units import Bohr, Hartree
from scipy.special import erfc

from .realspace import SQRT_PI, neighbour_sums
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
    vectors: np.ndarray  # (x, n_k, 3) 1/A


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
    return Kernel(prefactor * values + 2 * np.pi / abs(xp.linalg.det(cell)) * origin * zero, prefactor * slope, vectors)


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
@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _plane_waves(fractional, box):
    """cos and sin of 2 pi n.x, (n_indices, n_atoms) each: n_1 = 0..box[0] and, in 2-D, n_2 = -box[1]..box[1].

    fractional (1 or 2, n_atoms).
    """
    angles = (2 * jnp.pi * np.arange(n + 1)[:, None] * x for x, n in zip(fractional, box, strict=True))
    (cx, sx), *second = ((jnp.cos(angle), jnp.sin(angle)) for angle in angles)
    if not second:
        return cx, sx
    cy, sy = second[0]
    cy, sy = jnp.concatenate([cy[:0:-1], cy]), jnp.concatenate([-sy[:0:-1], sy])  # even and odd continuation
    cx, sx = cx[:, None], sx[:, None]
    return (cx * cy - sx * sy).reshape(-1, cx.shape[-1]), (cx * sy + sx * cy).reshape(-1, cx.shape[-1])


@_plane_waves.defjvp
def _plane_waves_jvp(box, primals, tangents):  # shorter than what would follow from the products
    cos, sin = _plane_waves(*primals, box)
    ranges = [np.arange(box[0] + 1), *(np.arange(-n, n + 1) for n in box[1:])]
    index = np.stack([i.ravel() for i in np.meshgrid(*ranges, indexing="ij")], -1)
    angle = 2 * jnp.pi * index @ tangents[0]
    return (cos, sin), (-sin * angle, cos * angle)


def _structure_factors(fractional, charges, counts, box):
    """Re and Im of S_s = sum_{i of s} q_i exp(i k.r_i): (s, 2, x, n_k), x and n_k as in `Kernel`.

    The sum over atoms is a matrix product of (hk, atoms) with (atoms, l), not a sine for each atom and wave vector.
    """
    factors, ends = [], np.cumsum(counts)
    for a in (slice(e - n, e) for n, e in zip(counts, ends, strict=True)):
        cos_xy, sin_xy = _plane_waves(fractional[:2, a], box[:2])
        z = jnp.concatenate(_plane_waves(fractional[2:, a], box[2:])) * charges[a]
        (cc, cs), (sc, ss) = (jnp.split(xy @ z.T, 2, axis=1) for xy in (cos_xy, sin_xy))
        factors.append(jnp.stack([cc - ss, cc + ss, sc + cs, sc - cs]).reshape(2, 2, -1))
    return jnp.stack(factors)


def reciprocal_space_energy(fractional, charges, kernel, counts, box):
    """Reciprocal-space part in e^2/A and the structure factors; fractional (3, n), charges (n,) in e."""
    S = _structure_factors(fractional, charges, counts, box)
    return _quadratic_form(kernel.values, S).sum(), S


def _quadratic_form(kernel, S):
    """sum_ab kernel_ab Re(S_a S_b*) of each wave vector: (x, n_k)."""
    return sum((S[a] * sum(kernel[a, b] * S[b] for b in range(len(S)))).sum(0) for a in range(len(S)))


def self_potential(alpha, screening):
    """Minus the potential of the smooth part of a unit cloud at itself, by species: (s,) 1/A."""
    g, c, shared = (np.diagonal(x, axis1=-2, axis2=-1) for x in screening)  # (m, s), (4, m, s), (m, s)
    tail, p = erfc(g / (2 * alpha)), np.exp(-(g**2) / (4 * alpha**2)) / (alpha * SQRT_PI)
    # Y - S at r = 0 and its derivatives with respect to g
    terms = np.stack([2 * alpha**2 * p - g * tail, tail, p, g * p / (2 * alpha**2)])
    return (c * shared * terms).sum((0, 1)) - 2 * alpha / SQRT_PI


# ---- the whole -------------------------------------------------------------------------------------------------
def energy(positions, cell, charges, blocks, counts, splitting, screening, strain=None):
    """Coulomb energy in eV: the definition, differentiable in positions, charges and strain.

    positions (3, n) and cell (3, 3) in A; charges (n,) in e; blocks: neighbours of each species (`realspace`);
    strain (3, 3): r -> (1 + strain) r.
    """
    deform = jnp.eye(3) if strain is None else jnp.eye(3) + strain
    box = index_box(cell, splitting.k_cut)
    kernel = reciprocal_kernel(cell @ deform.T, splitting.alpha, splitting.k_cut, screening, box, jnp)
    moved = [(slots._replace(shift=jnp.einsum("ab,bmn->amn", deform, slots.shift)), radial) for slots, radial in blocks]
    pairs = neighbour_sums(deform @ positions, charges, moved).potential
    own = np.repeat(self_potential(splitting.alpha, screening), counts) * charges
    smooth, _ = reciprocal_space_energy(jnp.linalg.inv(cell).T @ positions, charges, kernel, counts, box)
    return COULOMB * (0.5 * charges @ (pairs + own) + smooth)


def energy_and_derivatives(positions, inverse, charges, own, blocks, kernel, counts, box):
    """Energy; its derivatives by positions (3, n), charges (n,) and strain (3, 3), in eV, A, e; shortest r^2.

    The same as `energy` and its gradients, without the scatter over atoms that reverse mode makes of a gather: pairs
    are listed in both directions, and each atom sums its own. The kernel is computed once while the cell stays.
    inverse (3, 3) of the cell in 1/A; own (n,): `self_potential` of every atom.
    """
    pairs = neighbour_sums(positions, charges, blocks)
    (smooth, S), (g_fractional, smooth_potential) = jax.value_and_grad(
        reciprocal_space_energy, argnums=(0, 1), has_aux=True)(inverse.T @ positions, charges, kernel, counts, box)
    short = pairs.potential + own * charges
    xx, yy, zz, yz, xz, xy = 0.5 * pairs.virial @ charges
    # k^2 changes by -2 k_a k_b under strain, 1/V by -delta_ab
    by_k2 = jnp.einsum("xn,xna,xnb->ab", _quadratic_form(kernel.slope, S), kernel.vectors, kernel.vectors)
    strain = jnp.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]) - 2 * by_k2 - smooth * jnp.eye(3)
    gradient = inverse @ g_fractional - charges * pairs.gradient
    return (COULOMB * (0.5 * charges @ short + smooth), COULOMB * gradient, COULOMB * (short + smooth_potential),
            COULOMB * strain, pairs.nearest)
