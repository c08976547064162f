"""Coulomb integrals of 1s clouds against their closed forms in 80 digits and a momentum-space integral."""
import mpmath
import numpy as np
import pytest
from scipy.special import roots_legendre

from esgap import slater


def roothaan(r, a, b):
    """The textbook formulas in 80 digits: exact where double precision would lose everything."""
    with mpmath.workdps(80):
        r, a, b = mpmath.mpf(r), mpmath.mpf(a), mpmath.mpf(b)
        if a == b:
            poly = 1 / r + a * (mpmath.mpf(11) / 8 + 3 * a * r / 4 + (a * r) ** 2 / 6)
            return float(1 / r - mpmath.exp(-2 * a * r) * poly)

        def part(a, b):
            e1 = a * b**4 / ((a + b) * (a - b)) ** 2
            e3 = (3 * a**2 * b**4 - b**6) / ((a + b) * (a - b)) ** 3
            return mpmath.exp(-2 * a * r) * (e1 + e3 / r)

        return float(1 / r - part(a, b) - part(b, a))


@pytest.mark.parametrize("difference", [0, 1e-12, 1e-8, 1e-5, 1e-3, 0.01, 0.0199, 0.0201, 0.03, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("a", [0.2, 1.0, 8.0])
def test_closed_form_through_the_crossover(a, difference):
    b = a * (1 + difference) / (1 - difference)
    for x in (1e-6, 1e-3, 0.1, 0.5, 1, 2, 4, 8, 16):
        assert float(slater.coulomb_integral(x / a, a, b)) == pytest.approx(roothaan(x / a, a, b), abs=1e-11 * a)


@pytest.mark.parametrize(("a", "b"), [(0.5, 0.5), (0.5, 0.52), (0.5, 0.8), (0.7, 2.5)])
def test_momentum_space_integral(a, b):
    # J(r) = 2/pi int_0^inf sin(kr)/(kr) f_a f_b dk with f = (1 + k^2/4 zeta^2)^-2, the transform of a 1s cloud
    x, w = roots_legendre(4000)
    k = (1 + x) / (1 - x)  # (-1, 1) -> (0, inf)
    w = w * 2 / (1 - x) ** 2
    form = (1 + (k / (2 * a)) ** 2) ** -2 * (1 + (k / (2 * b)) ** 2) ** -2
    for r in (0.0, 0.5, 2.0, 5.0):
        expected = (2 / np.pi * w * np.sinc(k * r / np.pi) * form).sum()
        assert float(slater.coulomb_integral(r, a, b)) == pytest.approx(expected, abs=1e-9)


def test_limits():
    zeta = 0.7
    assert float(slater.coulomb_integral(0.0, zeta, zeta)) == pytest.approx(5 * zeta / 8, rel=1e-14)
    assert float(slater.coulomb_integral(0.0, np.inf, zeta)) == pytest.approx(zeta, rel=1e-14)  # <1/r> of one cloud
    r = np.array([1.0, 4.0])
    np.testing.assert_allclose(slater.coulomb_integral(r, np.inf, np.inf), 1 / r, rtol=1e-15)
    np.testing.assert_allclose(slater.coulomb_integral(r, 60.0, 50.0), 1 / r, rtol=1e-15)
    point = slater.coulomb_integral(r, zeta, np.inf)
    np.testing.assert_allclose(slater.coulomb_integral(r, zeta, 1e7), point, rtol=1e-12)
    np.testing.assert_allclose(slater.coulomb_integral(r, 0.4, 0.9), slater.coulomb_integral(r, 0.9, 0.4), rtol=1e-15)


def test_table_is_the_pairwise_screening():
    zetas = [0.4, 0.402, 0.9, np.inf]
    rates, coefficients = slater.screening_table(zetas)
    r = 1.7
    for x, a in enumerate(zetas):
        for y, b in enumerate(zetas):
            s = (np.exp(-rates[:, x, y] * r) * ([1 / r, 1, r, r**2] @ coefficients[:, :, x, y])).sum()
            assert 1 / r - s == pytest.approx(float(slater.coulomb_integral(r, a, b)), abs=1e-13)


def test_screening_range():
    r = slater.screening_range(0.6, 1e-6)
    assert abs(float(slater.coulomb_integral(r, 0.6, 0.6)) * r - 1) < 1e-6
    assert abs(float(slater.coulomb_integral(0.9 * r, 0.6, 0.6)) * r - 1) > 1e-6


def test_exponent_of_equal_radius():
    # <r> of an ns cloud is (2n+1)/(2 zeta)
    zeta = slater.exponent_1s(1.2, 3)
    assert 3 / (2 * zeta) == pytest.approx(7 / (2 * 1.2))


@pytest.mark.parametrize("zeta", [0.0, -1.0, float("nan")])
def test_exponent_must_be_positive(zeta):
    with pytest.raises(ValueError, match=r"Slater exponent is (0\.0|-1\.0|nan) 1/A; it must be positive"):
        slater.coulomb_integral(1.0, zeta, 1.0)
