"""Radial functions and real spherical harmonics in which SOAP expands the neighbours of an atom, as QUIP defines them.

    fcut(r) u(r) G_ln(r),   G_ln(r) = exp(-a (r^2 + r_n^2)) i_l(2 a r r_n),   a = 1/(2 atom_sigma^2),   r_n = n R/n_max

are the overlaps of the neighbour's Gaussian with Gaussians at the distances r_n; i_l: modified spherical Bessel
functions; u: weight by distance, 1 unless it is asked for. sum_n' G_ln' W_n'n is the n-th coefficient in an orthonormal
basis. The Gaussian at r_0 = 0 has no part with l > 0 (G_l0 = 0), so that the coefficients for l > 0 have n_max - 1
degrees of freedom: `radial_transform`.
Lengths in A; axes: N centres, K neighbour slots. Settings: `esgap.soap.Soap`.
"""
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import erf


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
    rotation, transform = np.linalg.qr(W[1:].T)
    out = r_n, W, lower[0], transform.T, rotation.T
    for x in out:
        x.setflags(write=False)
    return out


def _constants(soap):
    return _radial_basis(soap.n_max, soap.atom_sigma, soap.cutoff, soap.basis_error_exponent)


def radial_basis(soap):
    """-> r_n (n,) centres of the radial Gaussians in A; W (n, n), coefficients = G @ W;
    centre (n,), the coefficients of an atom at the origin (only the first is not zero)."""
    return _constants(soap)[:3]


@lru_cache(maxsize=256)
def radial_transform(soap, l):
    """-> T (k0, k), U (k, n) for the k0 functions G_ln that are not zero, all for l = 0, all but the first for l > 0:
    G @ T are their coefficients in k orthonormal functions, G @ T @ U those in the basis of W, of which
    soap.radial_tolerance gives the accuracy; k = k0 if that is 0."""
    _, W, centre, T, U = _constants(soap)
    if l == 0:
        T, U = W, np.eye(soap.n_max)
    if not soap.radial_tolerance:
        return T, U
    # Gaussians far outside the cutoff reach into it with tails that are all alike: some combinations are hardly seen
    r = np.linspace(0.1, 1.0, 400)[None] * soap.cutoff
    with jax.ensure_compile_time_eval():  # constants of the program that is being compiled
        seen = np.asarray(radial_functions(jnp.asarray(r), soap)[l])[0].T @ T
    if l == 0:
        seen = np.vstack([seen, centre])  # the atom at the origin
    _, size, V = np.linalg.svd(seen, full_matrices=False)
    V = V[size > soap.radial_tolerance * size[0]]
    return T @ V.T, V @ U


def cutoff_function(r, cutoff, width):
    """1 below cutoff - width, half a cosine down to 0 at the cutoff, 0 beyond; and its slope. r in A, any shape.

    (1 + cos 2x)/2 = 1/(1 + tan^2 x): XLA would repeat a cosine in every loop that needs it, but not a division."""
    t = jnp.tan(0.5 * np.pi * jnp.clip((r - (cutoff - width)) / width, 0.0, 1.0))
    return 1 / (1 + t * t), (-np.pi / width) / (t + 1 / t)


def weight_by_distance(r, soap):
    """u(r) = c/(c + (r/r0)^m), by which near neighbours count more, and its slope; m: cutoff_dexp, 0 for none.

    c: cutoff_rate, with which u is 1 at the centre; c = 0 means (r0/r)^m. r0: cutoff_scale, A. After M. J. Willatt,
    F. Musil, M. Ceriotti, Phys. Chem. Chem. Phys. 20, 29661 (2018)."""
    if not soap.cutoff_dexp:
        return 1.0, 0.0
    m, c = soap.cutoff_dexp, soap.cutoff_rate
    x = jax.lax.integer_pow(r / soap.cutoff_scale, m)
    u = (c or 1.0) / (c + x)
    return u, -u * x / (c + x) * m / r


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def radial_functions(r, soap):
    """fcut(r) u(r) G_ln(r), l = 0..l_max: r (N, K) in A -> tuple of (N, k, K), n from 0 for l = 0 and from 1 for l > 0.

    K stays the contiguous axis: with n innermost the same sums take twice the time on a CPU."""
    return _radial_and_slope(r, soap)[0]


@radial_functions.defjvp
def _radial_functions_jvp(soap, primals, tangents):
    R, dR = _radial_and_slope(primals[0], soap)
    return R, tuple(d * tangents[0][:, None, :] for d in dR)


def _radial_and_slope(r, soap):
    """The functions and dG_l/dr = -2 a r G_l + 2 a r_n [l G_{l-1} + (l+1) G_{l+1}] / (2l+1) in closed form."""
    a, r = soap.alpha, r[:, None, :]
    r_n = jnp.asarray(radial_basis(soap)[0][1:], r.dtype)[:, None]
    fc, dfc = cutoff_function(r, soap.cutoff, soap.cutoff_transition_width)
    u, du = weight_by_distance(r, soap)
    fc, dfc = fc * u, dfc * u + fc * du
    G = _gaussian_bessel(r, r_n, a, soap.l_max + 1)
    R, dR = [], []
    for l in range(soap.l_max + 1):
        side = (l + 1) * G[l + 1] + (l * G[l - 1] if l else 0.0)
        R.append(fc * G[l])
        dR.append((dfc - 2 * a * r * fc) * G[l] + fc * (2 * a / (2 * l + 1)) * r_n * side)
    origin = jnp.exp(-a * r * r)  # r_0 = 0
    R[0] = jnp.concatenate([fc * origin, R[0]], 1)
    dR[0] = jnp.concatenate([(dfc - 2 * a * r * fc) * origin, dR[0]], 1)
    return tuple(R), tuple(dR)


def _gaussian_bessel(r, r_n, a, l_top):
    """exp(-a (r^2 + r_n^2)) i_l(2 a r r_n), r_n > 0, for l = 0..l_top by upward recursion from "l = -1", as in QUIP.

    The exponentials are paired so that nothing overflows."""
    ix = 1 / (2 * a * r * r_n)
    minus, plus = jnp.exp(-a * (r - r_n)**2), jnp.exp(-a * (r + r_n)**2)
    below, here = 0.5 * (minus + plus) * ix, 0.5 * (minus - plus) * ix
    G = [here]
    for l in range(l_top):
        below, here = here, below - (2 * l + 1) * ix * here
        G.append(here)
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
