"""Kernel sums: equal to their formula, written out, and to its derivative; rounding."""
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from esgap.gap import Term, descriptors
from esgap.kernel_sums import Points, lowest_order, sums_of_kernels
from esgap.soap import Soap, reduced_points, squares_of_lowest_order, unnormalised_spectrum
from gap_cases import random_cell

SOAP = Soap(4, 2, 0.5, 4.0, species_Z=(3, 16))
PLAIN = replace(SOAP, normalise=False, covariance_sigma0=0.3)


def coefficients(n, seed=0, soap=SOAP):
    rng = np.random.default_rng(seed)
    widths = [2 * (soap.n_max - (l > 0)) for l in range(soap.l_max + 1)]  # no function at the origin for l > 0
    return [jnp.asarray(rng.normal(size=(n, Q, 2 * l + 1))) for l, Q in enumerate(widths)]


def points(soap, kind):
    if kind == "environments":
        empty = Term(soap, np.zeros((1, soap.n_components)), np.zeros(1), 1.0, 1.0)
        a = random_cell("Li4S6")
        return descriptors([empty], a.positions, a.cell.array, a.pbc, a.numbers)[0][0]
    return np.random.default_rng(1).normal(size=(7, soap.n_components))


def written_out(C, X, alpha, soap, zeta):
    P = unnormalised_spectrum(C)
    p = P / jnp.linalg.norm(P, axis=1, keepdims=True) if soap.normalise else P
    return (p @ reduced_points(X, soap).T + soap.covariance_sigma0**2)**zeta @ alpha


def ours(C, term):
    p = Points.of(term)
    return sums_of_kernels(*lowest_order(C[0][..., 0], p), unnormalised_spectrum(C, 1), p, jnp.asarray(term.alpha),
                           term.soap, term.zeta)


@pytest.mark.parametrize("kind", ["environments", "any vectors"])
@pytest.mark.parametrize("soap", [SOAP, PLAIN, replace(SOAP, l_max=0), replace(SOAP, covariance_sigma0=0.2)],
                         ids=["usual", "not normalised", "no angle", "sigma0"])
@pytest.mark.parametrize("zeta", [1, 3])
def test_sums_and_derivative_are_those_of_the_formula(kind, soap, zeta):
    X, C = points(soap, kind), coefficients(5, soap=soap)
    term = Term(soap, X, np.random.default_rng(2).normal(size=len(X)), 1.0, zeta)
    weight = jnp.arange(1.0, 6.0)
    formula = jax.value_and_grad(lambda C: written_out(C, X, term.alpha, soap, zeta) @ weight)(C)
    found = jax.value_and_grad(lambda C: ours(C, term) @ weight)(C)
    size = max(float(jnp.abs(g).max()) for g in formula[1])
    np.testing.assert_allclose(found[0], formula[0], rtol=1e-11, atol=1e-11 * size)
    for a, b in zip(found[1], formula[1], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-11 * size)


def test_environments_are_one_square_and_other_vectors_several():
    lowest, sign = squares_of_lowest_order(points(SOAP, "environments"), SOAP)
    assert lowest.shape == (1, 10, 8)
    assert np.all(sign == 1)
    lowest, sign = squares_of_lowest_order(points(SOAP, "any vectors"), SOAP)
    assert lowest.shape == (8, 7, 8)
    assert set(sign.ravel()) == {-1.0, 1.0}


def test_empty_environment_has_no_part_in_the_sum():
    """An atom without neighbours and without a term of its own, whose spectrum cannot be normalised."""
    X = points(SOAP, "environments")
    term, none = Term(SOAP, X, np.ones(len(X)), 1.0, 2), [0 * c for c in coefficients(2)]
    E, g = jax.value_and_grad(lambda C: ours(C, term).sum())(none)
    assert abs(E) < 1e-30
    assert all(np.abs(x).max() < 1e-30 for x in g)


def test_mean_of_points_takes_rounding_away():
    """Single precision loses less than products of the points themselves would, by as much as those are longer."""
    soap = Soap(9, 3, 0.7, 4.0, cutoff_dexp=4, cutoff_scale=2.5, species_Z=(3, 15, 16), Z=3)
    empty = Term(soap, np.zeros((1, soap.n_components)), np.zeros(1), 1.0, 1.0)
    X = np.concatenate([descriptors([empty], a.positions, a.cell.array, a.pbc, a.numbers)[0][0]
                        for a in (random_cell(seed=s) for s in range(12))])
    kept = Points.of(Term(soap, X, np.zeros(len(X)), 1.0, 1.0), np.float32)
    Q = kept.lowest.shape[-1]
    R = reduced_points(X, soap)[:, Q * (Q + 1) // 2:]
    P = R[::3]
    exact, plain = P @ R.T, (P.astype(np.float32) @ R.astype(np.float32).T).astype(float)
    less = ((P - kept.mean).astype(np.float32) @ np.asarray(kept.X).T).astype(float)
    less += (P @ kept.mean)[:, None] + np.asarray(kept.offset)
    assert np.sqrt(np.mean((less - exact)**2)) < 0.5 * np.sqrt(np.mean((plain - exact)**2))
