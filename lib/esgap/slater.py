"""Coulomb integrals of Slater 1s clouds, rho(r) = zeta^3/pi exp(-2 zeta r): two unit charges at distance r.

J(r) = 1/r - s(r), with the screening function written as a short sum of damped polynomials,
    s(r) = sum_m exp(-g_m r) (c_m0/r + c_m1 + c_m2 r + c_m3 r^2),     sum_m c_m0 = 1,
so that one formula serves equal, unequal and nearly equal exponents and point charges (zeta = inf).
Units: r in A, zeta in 1/A, J in 1/A (times 14.3996 eV A e^-2 for an energy).
Closed forms: C. C. J. Roothaan, J. Chem. Phys. 19, 1445 (1951). The densities are those of charge equilibration:
A. K. Rappe, W. A. Goddard, J. Phys. Chem. 95, 3358 (1991); F. H. Streitz, J. W. Mintmire, Phys. Rev. B 50,
11996 (1994).
"""
import jax.numpy as jnp
import numpy as np
from scipy.special import roots_jacobi

# Below this |a-b|/(a+b) an integral over equal exponents replaces the closed form, which loses (a+b)^3/(a-b)^3 digits.
NEARLY_EQUAL = 0.05
_N_NODES = 6  # of that integral: exact to rounding up to the crossover


def screening(zeta_a, zeta_b):
    """Decay rates g (m,) in 1/A and coefficients c (m, 4) of the screening function s(r) = 1/r - J(r).

    zeta_a, zeta_b: exponents in 1/A, positive; infinity is a point charge. Two point charges give m = 0 terms.
    Raises ValueError for exponents that are not positive.
    """
    for zeta in (zeta_a, zeta_b):
        if not zeta > 0:
            raise ValueError(f"Slater exponent is {zeta} 1/A; it must be positive (infinity for a point charge)")
    a, b = sorted((float(zeta_a), float(zeta_b)))
    if np.isinf(a):
        return np.empty(0), np.empty((0, 4))
    if np.isinf(b):
        return np.array([2 * a]), np.array([[1.0, a, 0.0, 0.0]])
    if b - a > NEARLY_EQUAL * (a + b):
        return _unequal(a, b)
    return _nearly_equal(a, b)


def _equal(zeta, weight=1.0):
    return 2 * zeta, weight * np.array([np.ones_like(zeta), 11 / 8 * zeta, 3 / 4 * zeta**2, 1 / 6 * zeta**3])


def _unequal(a, b):
    def term(a, b):  # the part that decays with a; the other follows by exchange
        s, d = a + b, a - b
        return [(3 * a**2 * b**4 - b**6) / (s * d) ** 3, a * b**4 / (s * d) ** 2, 0.0, 0.0]

    return np.array([2 * a, 2 * b]), np.array([term(a, b), term(b, a)])


def _nearly_equal(a, b):
    """Feynman's parameter t turns the product of two form factors into one of a mean exponent z(t).

    1/(A^2 B^2) = 6 int_0^1 t(1-t) dt / (tA + (1-t)B)^4 with A = 4a^2 + k^2 gives
    J_ab = int_0^1 6 t(1-t) (ab/z^2)^4 J_zz dt,  z^2 = t a^2 + (1-t) b^2: no difference a - b anywhere.
    """
    if a == b:
        g, c = _equal(np.array([a]))
        return g, c.T
    x, w = roots_jacobi(_N_NODES, 1, 1)  # on (-1, 1) with weight (1-x)(1+x)
    t, w = (1 + x) / 2, w * 6 / 8
    z = np.sqrt(t * a**2 + (1 - t) * b**2)
    w = w * (a * b / z**2) ** 4
    g, c = _equal(z, w / w.sum())  # the sum is 1 up to quadrature error; exactly 1 keeps J(0) finite
    return g, c.T


def coulomb_integral(r, zeta_a, zeta_b):
    """J(r) in 1/A of two unit 1s clouds with exponents zeta_a, zeta_b (1/A) at distances r (A, any shape, >= 0).

    Finite at r = 0 (5 zeta / 8 for equal exponents), 1/r far away; 1/r throughout for two point charges.
    Differentiable in r for r > 0.

    >>> print(f"{coulomb_integral(0.0, 1.0, 1.0):.6f}  {coulomb_integral(30.0, 1.0, 2.0):.6f}")
    0.625000  0.033333
    """
    r = jnp.asarray(r, float)
    g, c = screening(zeta_a, zeta_b)
    if len(g) == 0:
        return 1 / r
    total = 0.0
    for g_m, c_m in zip(g, c, strict=True):
        x = g_m * r
        small = x < 1e-9  # expm1(-x)/x = -1 to rounding
        one_minus_exp_over_r = g_m * jnp.where(small, 1.0, -jnp.expm1(-x) / jnp.where(small, 1.0, x))
        total = total + c_m[0] * one_minus_exp_over_r - jnp.exp(-x) * (c_m[1] + r * (c_m[2] + r * c_m[3]))
    return total


def screening_table(zetas):
    """Screening terms of every pair of species, padded to the same number of terms.

    zetas (n,) exponents in 1/A -> g (m, n, n) in 1/A and c (4, m, n, n). Padded terms have c = 0.
    """
    n = len(zetas)
    pairs = [[screening(a, b) for b in zetas] for a in zetas]
    m = max((len(g) for row in pairs for g, _ in row), default=0)
    rates, coefficients = np.ones((m, n, n)), np.zeros((4, m, n, n))
    for x, row in enumerate(pairs):
        for y, (g, c) in enumerate(row):
            rates[: len(g), x, y], coefficients[:, : len(g), x, y] = g, c.T
    return rates, coefficients


def screening_range(zeta, tolerance):
    """Distance in A beyond which r s(r) < tolerance for two clouds of exponent zeta (1/A)."""
    x = np.linspace(0, 60, 6001)
    s = np.exp(-2 * x) * (1 + x * (11 / 8 + x * (3 / 4 + x / 6)))
    return float(x[np.argmax(s < tolerance)] / zeta)


def exponent_1s(zeta_ns, n):
    """Exponent (1/A) of the 1s cloud with the same mean radius <r> = (2n+1)/(2 zeta) as an ns cloud of zeta_ns (1/A).

    QEq tabulates ns exponents (Li 2s, P and S 3s); the integrals here are those of 1s clouds.
    """
    return 3 * zeta_ns / (2 * n + 1)
