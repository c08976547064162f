"""Radial functions and spherical harmonics: orthonormal, complete, and with the right slopes."""
import jax
import numpy as np
import pytest
from scipy.integrate import quad

from esgap import basis as B
from esgap.soap import Soap


def test_radial_basis_is_orthonormal():
    soap = Soap(6, 2, 0.5, 5.0)
    r_n, W, centre = B.radial_basis(soap)
    # c = G W are the coefficients of g_n(r) = exp(-a (r - r_n)^2) in the orthonormal basis: C W W^T C = overlap of g
    inner = [[quad(lambda r, a=a, b=b: r**2 * np.exp(-soap.alpha * ((r - a)**2 + (r - b)**2)), 0, 20)[0] for a in r_n]
             for b in r_n]
    C = np.exp(-soap.alpha * (r_n[:, None] - r_n)**2)
    assert np.allclose(C @ W @ W.T @ C, inner, atol=1e-7)
    assert np.all(centre[1:] == 0)


def test_harmonics_are_complete_and_orthonormal():
    rng = np.random.default_rng(0)
    u = rng.normal(size=(3, 5, 7))
    u /= np.linalg.norm(u, axis=0)
    v = np.roll(u, 1, -1)
    cos = (u * v).sum(0)
    pairs = zip(B.real_spherical_harmonics(*u, 6), B.real_spherical_harmonics(*v, 6), strict=True)
    for l, (Yu, Yv) in enumerate(pairs):
        legendre = np.polynomial.legendre.legval(cos, [0] * l + [1])
        assert np.allclose((Yu * Yv).sum(1), (2 * l + 1) / (4 * np.pi) * legendre, atol=1e-13)  # addition theorem


def test_radial_slope_is_the_derivative():
    soap, r, h = Soap(5, 4, 0.5, 4.0), np.array([[1.3, 2.0, 3.4, 3.7, 3.99, 4.5]]), 1e-5
    _, slope = jax.jvp(lambda x: B.radial_functions(x, soap), (r,), (np.ones_like(r),))
    up, down = B.radial_functions(r + h, soap), B.radial_functions(r - h, soap)
    for d, a, b in zip(slope, up, down, strict=True):
        assert np.allclose(d, (a - b) / (2 * h), atol=1e-8)


def test_cutoff_is_half_a_cosine():
    r, cutoff, width = np.linspace(3.0, 5.0, 400), 4.5, 0.7
    value, slope = B.cutoff_function(r, cutoff, width)
    x = np.pi * np.clip((r - cutoff + width) / width, 0, 1)
    assert np.allclose(value, (1 + np.cos(x)) / 2, atol=1e-15)
    assert np.allclose(slope, -np.pi / (2 * width) * np.sin(x), atol=1e-14)


@pytest.mark.parametrize("l", [0, 1, 3])
def test_reduced_radial_functions_span_the_same_space(l):
    soap, r = Soap(6, 3, 0.5, 5.0), np.linspace(1.0, 4.9, 30)[None]
    r_n, W, _ = B.radial_basis(soap)
    T, U = B.radial_transform(soap, l)
    G = np.asarray(B.radial_functions(r, soap)[l])[0].T
    all_functions = np.hstack([np.zeros((30, len(r_n) - G.shape[1])), G])
    assert np.allclose(U @ U.T, np.eye(len(U)), atol=1e-14)
    assert np.allclose(G @ T @ U, all_functions @ W, atol=1e-14)
