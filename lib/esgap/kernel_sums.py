"""Kernel sums of a sparse Gaussian process, the costly part of a GAP: two products of spectra with sparse points.

    E_i = sum_m alpha_m (p_i . X_m + sigma0^2)^zeta,   p_i = P_i / |P_i| if the descriptor is normalised

and its derivative with respect to P, stated by hand. Axes: rows i, M sparse points, D' components of a spectrum.
"""
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .soap import reduced_points


def power(x, zeta):
    """x^zeta; for a whole zeta by products, which is faster and right for x < 0."""
    return jax.lax.integer_pow(x, int(zeta)) if float(zeta).is_integer() else x**zeta


class Points(NamedTuple):
    """Sparse points as the compiled program takes them, less their mean.

    Spectra are much alike, p . X_m is near 1 and the weights nearly cancel: what rounding does to the products with
    X - mean is small by as much as these are shorter, which single precision needs. Mean and offset are in double.
    Both layouts are kept, since both products are done as matrix @ (., rows): see `product`."""

    X: jax.Array       # (M, D') less the mean
    XT: jax.Array      # (D', M) its transpose, in memory too
    mean: jax.Array    # (D',)
    offset: jax.Array  # (M,) (X_m - mean) . mean

    @classmethod
    def of(cls, term, dtype=np.float64):
        X = reduced_points(term.X, term.soap)
        mean = X.mean(0)
        less = np.asarray(X - mean, dtype)
        return cls(jnp.asarray(less), jnp.asarray(np.ascontiguousarray(less.T)), jnp.asarray(mean),
                   jnp.asarray((X - mean) @ mean))


def product(matrix, rows):
    """rows (n, k) with a large matrix (m, k) -> (n, m), in the precision of the matrix.

    A step of few atoms takes as long as it takes to read the matrix. XLA reads it once in matrix @ rows^T, but packs it
    anew in rows @ matrix^T, which takes up to twice as long on a CPU; the barrier keeps XLA from turning it round."""
    return jax.lax.optimization_barrier(matrix @ rows.T.astype(matrix.dtype)).T.astype(rows.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def sums_of_kernels(P, points, alpha, soap, zeta):
    """sum_m alpha_m (p_i . X_m + sigma0^2)^zeta of every row i, P (rows, D') not yet normalised.

    The two products with X are done in the precision of X, all else in that of P."""
    return _sums_forward(P, points, alpha, soap, zeta)[0]


def _sums_forward(P, points, alpha, soap, zeta):
    X, _, mean, offset = points
    square = (P * P).sum(1, keepdims=True)
    scale = jax.lax.rsqrt(jnp.where(square > 0, square, 1)) if soap.normalise else jnp.ones_like(square)
    p = P * scale
    k = product(X, p - mean) + (p @ mean)[:, None] + offset + soap.covariance_sigma0**2
    slope = zeta * alpha * power(k, zeta - 1)
    E = (slope * k).sum(1, keepdims=True) / zeta
    return E[:, 0], (P, points, scale, slope, E)


def _sums_backward(soap, zeta, kept, g):
    P, (_, XT, mean, _), scale, slope, E = kept
    g, total = g[:, None], slope.sum(1, keepdims=True)
    out = g * scale * (product(XT, slope) + total * mean)
    if soap.normalise:  # sum_m slope_m (k_m - sigma0^2), the part along p
        out -= g * scale**2 * (zeta * E - soap.covariance_sigma0**2 * total) * P
    return out, None, None


sums_of_kernels.defvjp(_sums_forward, _sums_backward)
