"""Kernel sums of a sparse Gaussian process, the costly part of a GAP: two products of spectra with sparse points.

    E_i = sum_m alpha_m (p_i . X_m + sigma0^2)^zeta,   p_i = P_i / |P_i| if the descriptor is normalised

and its derivative with respect to P, stated by hand. The part of l = 0 in a spectrum is c c^T of one vector c, and so
it is in a sparse point, which is an environment: their product is (c . x_m)^2, `lowest_order`, which is much shorter.
Axes: rows i, M sparse points, D' components of a spectrum for l > 0, Q coefficients for l = 0.
"""
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .soap import reduced_points, squares_of_lowest_order


def power(x, zeta):
    """x^zeta; for a whole zeta by products, which is faster and right for x < 0."""
    return jax.lax.integer_pow(x, int(zeta)) if float(zeta).is_integer() else x**zeta


class Points(NamedTuple):
    """Sparse points as the compiled program takes them, less their mean.

    Spectra are much alike, p . X_m is near 1 and the weights nearly cancel: what rounding does to the products with
    X - mean is small by as much as these are shorter, which single precision needs. Mean and offset are in double.
    Both layouts are kept, since both products are done as matrix @ (., rows): see `product`. lowest is double."""

    lowest: jax.Array   # (r, M, Q), r = 1 for points that are environments
    sign: jax.Array    # (r, M) 1, or -1 and 0 for points that are not
    X: jax.Array       # (M, D') less the mean
    XT: jax.Array      # (D', M) its transpose, in memory too
    mean: jax.Array    # (D',)
    offset: jax.Array  # (M,) (X_m - mean) . mean

    @classmethod
    def of(cls, term, dtype=np.float64):
        lowest, sign = squares_of_lowest_order(term.X, term.soap)
        Q = lowest.shape[-1]
        X = reduced_points(term.X, term.soap)[:, Q * (Q + 1) // 2:]
        mean = X.mean(0)
        less = np.asarray(X - mean, dtype)
        return cls(jnp.asarray(lowest), jnp.asarray(sign), jnp.asarray(less), jnp.asarray(np.ascontiguousarray(less.T)),
                   jnp.asarray(mean), jnp.asarray((X - mean) @ mean))


def product(matrix, rows):
    """rows (n, k) with a large matrix (m, k) -> (n, m), in the precision of the matrix.

    A step of few atoms takes as long as it takes to read the matrix. XLA reads it once in matrix @ rows^T, but packs it
    anew in rows @ matrix^T, which takes up to twice as long on a CPU; the barrier keeps XLA from turning it round."""
    return jax.lax.optimization_barrier(matrix @ rows.T.astype(matrix.dtype)).T.astype(rows.dtype)


def lowest_order(c, points):
    """Part of l = 0 in the products with the points and in the square of the spectrum: c (rows, Q) coefficients of
    l = 0 -> sum_r sign_rm (c_i . first_rm)^2 (rows, M) and |c_i|^4 (rows, 1)."""
    along = jnp.einsum("iq,rmq->rim", c, points.lowest)
    return (points.sign[:, None] * along * along).sum(0), (c * c).sum(1, keepdims=True)**2


@partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def sums_of_kernels(lowest, square, P, points, alpha, soap, zeta):
    """sum_m alpha_m (p_i . X_m + sigma0^2)^zeta of every row i, spectra not yet normalised.

    lowest (rows, M), square (rows, 1) of `lowest_order`, P (rows, D') the spectrum for l > 0.
    The two products with X are done in the precision of X, all else in that of P."""
    return _sums_forward(lowest, square, P, points, alpha, soap, zeta)[0]


def _sums_forward(lowest, square, P, points, alpha, soap, zeta):
    square = square + (P * P).sum(1, keepdims=True)
    scale = jax.lax.rsqrt(jnp.where(square > 0, square, 1)) if soap.normalise else jnp.ones_like(square)
    p = P * scale
    k = (product(points.X, p - points.mean) + (p @ points.mean)[:, None] + points.offset + scale * lowest
         + soap.covariance_sigma0**2)
    slope = zeta * alpha * power(k, zeta - 1)
    E = (slope * k).sum(1, keepdims=True) / zeta
    return E[:, 0], (P, points, scale, slope, E)


def _sums_backward(soap, zeta, kept, g):
    P, points, scale, slope, E = kept
    g, total = g[:, None] * scale, slope.sum(1, keepdims=True)
    of_square = jnp.zeros_like(g)
    if soap.normalise:  # sum_m slope_m (k_m - sigma0^2), the part along p
        of_square = -0.5 * g * scale * (zeta * E - soap.covariance_sigma0**2 * total)
    return g * slope, of_square, g * (product(points.XT, slope) + total * points.mean) + 2 * of_square * P, None, None


sums_of_kernels.defvjp(_sums_forward, _sums_backward)
