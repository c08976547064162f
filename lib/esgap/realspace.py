"""Real-space part of the Ewald sum over Slater clouds (`ewald`): radial functions, and their sums over neighbours.

r J_real(r) = p(r) - sum_m exp(-g_m r) (c_m0 + c_m1 r + c_m2 r^2 + c_m3 r^3),
    p(r) = erfc(a r) - r sum_{shared terms} D S(g, r).
p varies no faster than the Gaussians, so on [0, r_cut] a polynomial of degree 20 to 40 is p to 1e-13, at a tenth of the
cost of its erfc; the sharper terms, which are not shared with reciprocal space, stay exponentials.
Units: A, e, 1/A.
"""
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from numpy.polynomial import Chebyshev
from scipy.special import erfc, erfcx

from .slater import screening_table

SQRT_PI = np.sqrt(np.pi)
_TOLERANCE = 1e-13  # of p, which is of the order of 1


class Screening(NamedTuple):
    """Screening terms (`slater`) of every pair of species."""

    rates: np.ndarray  # (m, s, s) 1/A
    coefficients: np.ndarray  # (4, m, s, s)
    shared: np.ndarray  # (m, s, s) True where the term is shared with reciprocal space

    @classmethod
    def of(cls, zetas, g_split):
        """Of clouds of exponents zetas (s,): terms that decay slower than g_split are shared (1/A).

        Terms of one pair that decay alike stay together: they are large and of opposite sign.
        """
        rates, coefficients = screening_table(zetas)
        slowest = np.where(coefficients.any(0), rates, np.inf).min(0, initial=np.inf)
        return cls(rates, coefficients, rates < np.where(slowest < g_split, 2 * g_split, 0.0))


class Radial(NamedTuple):
    """r J_real(r); the last axes (...) are species pairs, or pairs of atoms, as in r."""

    r_cut: float  # A
    series: np.ndarray  # (degree + 1, ...) p in powers of x = 2 r / r_cut - 1
    rates: np.ndarray  # (m, ...) 1/A, of the terms that stay exponentials
    coefficients: np.ndarray  # (4, m, ...)


# ---- radial functions ------------------------------------------------------------------------------------------
def smooth_part(r, alpha, rates, coefficients):
    """p at distances r (p,) in A, in closed form; shared terms: rates (m,) 1/A, coefficients (4, m).

    With A+- = e^{+-gr} erfc(ar +- g/2a), p = exp(-a^2 r^2 - g^2/4a^2)/(a sqrt(pi)), total and dif = (A+ +- A-)/2:
    S = total/r, dS/dg = dif, d2S/dg2 = r total - p, d3S/dg3 = r^2 dif + g p/2a^2.
    """
    r = np.asarray(r, float)
    result = erfc(alpha * r)
    for g, (c0, c1, c2, c3) in zip(rates, np.transpose(coefficients), strict=True):
        h = g / (2 * alpha)
        gauss = np.exp(-((alpha * r) ** 2) - h**2)
        plus, minus = gauss * erfcx(alpha * r + h), np.exp(-g * r) * erfc(alpha * r - h)
        total, dif, p = (plus + minus) / 2, (plus - minus) / 2, gauss / (alpha * SQRT_PI)
        result -= c0 * total + r * (-c1 * dif + c2 * (r * total - p) - c3 * (r * r * dif + g * p / (2 * alpha**2)))
    return result


def radial_functions(alpha, r_cut, screening):
    """`Radial` of all pairs of species (s, s)."""
    n = screening.rates.shape[-1]
    series = [[_series(alpha, r_cut, screening, a, b) for b in range(n)] for a in range(n)]
    degree = max(len(s) for row in series for s in row)
    series = np.array([[np.pad(s, (0, degree - len(s))) for s in row] for row in series])
    kept = ~screening.shared & screening.coefficients.any(0)
    sharp = kept.any((1, 2))  # rows with at least one such term
    coefficients = np.where(kept, screening.coefficients, 0.0)[:, sharp]
    return Radial(r_cut, np.moveaxis(series, 2, 0), screening.rates[sharp], coefficients)


def _series(alpha, r_cut, screening, a, b):
    shared = screening.shared[:, a, b]
    terms = screening.rates[shared, a, b], screening.coefficients[:, shared, a, b]
    chebyshev = Chebyshev.interpolate(lambda r: smooth_part(r, alpha, *terms), 96, [0, r_cut])
    rounding = 1e-16 * np.abs(terms[1][0]).sum()  # of p: exponents that differ little have large coefficients
    degree = np.flatnonzero(np.abs(chebyshev.coef) > max(_TOLERANCE, rounding)).max()
    # powers of x are safe here: p is bounded in the whole complex disc |x| < 1, not only between its nodes
    return chebyshev.truncate(degree + 1).convert(kind=np.polynomial.Polynomial, domain=[0, r_cut]).coef


def interaction(r, radial):
    """J_real and its derivative at r; radial broadcasts against r."""
    x, scale, inverse = r * (2 / radial.r_cut) - 1, 2 / radial.r_cut, 1 / r
    value, slope = radial.series[-1], 0.0
    for c in radial.series[-2::-1]:
        value, slope = c + x * value, value + x * slope
    slope = scale * slope
    for k in range(len(radial.rates)):
        g, (c0, c1, c2, c3) = radial.rates[k], radial.coefficients[:, k]
        damp, polynomial = jnp.exp(-g * r), c0 + r * (c1 + r * (c2 + r * c3))
        value -= damp * polynomial
        slope -= damp * (c1 + r * (2 * c2 + 3 * r * c3) - g * polynomial)
    return value * inverse, (slope - value * inverse) * inverse
