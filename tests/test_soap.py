"""SOAP: QUIP's numbers, and what its functions must satisfy by themselves."""
from dataclasses import asdict

import numpy as np
import pytest

from esgap import soap as S
from esgap.gap import Term, descriptors
from esgap.quip import descriptor_text, to_quip
from esgap.soap import Soap
from gap_cases import random_cell

THREE = (3, 15, 16)
CASES = {
    "usual": Soap(4, 3, 0.5, 4.0, species_Z=THREE, Z=3),
    "high order": Soap(8, 6, 0.5, 4.0, species_Z=(16,), Z=16),
    "no angle, wide transition": Soap(6, 0, 0.4, 4.5, cutoff_transition_width=1.5, species_Z=THREE, Z=15),
    "one function": Soap(1, 2, 0.6, 4.0, species_Z=THREE, Z=3),
    "central weight": Soap(3, 2, 0.8, 4.0, central_weight=0.3, species_Z=THREE, Z=3),
    "centre in all channels": Soap(3, 2, 0.5, 4.0, central_reference_all_species=True, species_Z=THREE, Z=3),
    "two channels": Soap(3, 3, 0.5, 4.0, species_Z=(15, 16), Z=16),
    "one channel for all": Soap(5, 4, 0.5, 4.0),
    "not normalised, sigma0": Soap(3, 2, 0.5, 4.0, covariance_sigma0=0.3, normalise=False, species_Z=THREE, Z=3),
    "near counts more": Soap(5, 3, 0.5, 4.5, cutoff_dexp=4, cutoff_scale=2.5, cutoff_rate=1.0, species_Z=THREE, Z=3),
    "other rate": Soap(4, 2, 0.5, 4.5, cutoff_dexp=3, cutoff_scale=1.7, cutoff_rate=0.4, species_Z=THREE, Z=15),
    "power law": Soap(4, 2, 0.5, 4.5, cutoff_dexp=2, cutoff_scale=3.0, cutoff_rate=0.0, species_Z=THREE, Z=16),
    "other basis error": Soap(5, 3, 0.5, 4.0, basis_error_exponent=6.0, species_Z=THREE, Z=3),
}


def power_spectra(soap, atoms):
    empty = Term(soap, np.zeros((1, soap.n_components)), np.zeros(1), 1.0, 1.0)
    return descriptors([empty], atoms.positions, atoms.cell.array, atoms.pbc, atoms.numbers)[0]


@pytest.mark.parametrize("name", CASES)
def test_equals_quippy(name):
    from quippy.descriptors import Descriptor
    soap, atoms = CASES[name], random_cell()
    p, centres = power_spectra(soap, atoms)
    expected = Descriptor(descriptor_text(soap)).calc_descriptor(atoms)
    assert np.array_equal(centres, [i for i, Z in enumerate(atoms.numbers) if soap.Z in (0, Z)])
    assert np.abs(to_quip(p, soap) - expected).max() < 1e-12 * max(1.0, np.abs(expected).max())


def test_square_points_undo_the_packing():
    soap, rng = Soap(3, 2, 0.5, 4.0, species_Z=(3, 16)), np.random.default_rng(0)
    C = [rng.normal(size=(4, soap.n_channels, 2 * l + 1)) for l in range(3)]
    p = S.unnormalised_spectrum(C)
    X = rng.normal(size=(2, soap.n_components))
    direct = sum(np.einsum("mab,iac,ibc->im", B, c, c) for B, c in zip(S.square_points(X, soap), C, strict=True))
    assert np.allclose(p @ X.T, direct, atol=1e-11)


def test_reduced_points_have_the_same_products():
    """The Gaussian at the origin has no part with l > 0, so each of those orders has one radial function less."""
    soap, rng = Soap(4, 2, 0.5, 4.0, species_Z=(3, 16)), np.random.default_rng(0)
    C = [rng.normal(size=(5, 2 * (4 if l == 0 else 3), 2 * l + 1)) for l in range(3)]
    full, X = S.full_coefficients(C, soap), rng.normal(size=(7, soap.n_components))
    P, reduced = S.unnormalised_spectrum(C), S.reduced_points(X, soap)
    assert reduced.shape[1] == P.shape[1] < X.shape[1]
    assert np.allclose(P @ reduced.T, S.unnormalised_spectrum(full) @ X.T, atol=1e-11)
    assert np.allclose((P * P).sum(1), (S.unnormalised_spectrum(full)**2).sum(1), rtol=1e-12)


@pytest.mark.parametrize("tolerance", [1e-9, 1e-5])
def test_truncated_spectra_have_nearly_the_same_products(tolerance):
    """Also with the centre's own term, which lies where no neighbour is."""
    full = Soap(8, 3, 0.7, 4.0, species_Z=(3, 16), central_weight=0.7)
    soap, atoms = full.truncated(tolerance), random_cell("Li6S6", seed=3)
    term = Term(full, np.zeros((1, full.n_components)), np.zeros(1), 1.0, 1.0)
    exact = descriptors([term], atoms.positions, atoms.cell.array, atoms.pbc, atoms.numbers)[0][0]
    X = S.reduced_points(exact, soap)
    assert X.shape[1] < S.reduced_points(exact, full).shape[1]
    assert np.abs(X @ X.T - exact @ exact.T).max() < tolerance


def test_truncation_is_no_part_of_the_descriptor():
    soap = CASES["usual"]
    assert soap.truncated(1e-4).truncated(0.0) != soap.truncated(1e-4)
    assert "radial_tolerance" not in asdict(soap)
    assert descriptor_text(soap.truncated(1e-4)) == descriptor_text(soap)


def test_order_is_a_permutation():
    soap = CASES["usual"]
    assert sorted(S.quip_order(soap)) == list(range(soap.n_components))


@pytest.mark.parametrize(("change", "message"), [
    ({"n_max": 0}, "soap n_max is 0; it must be positive"),
    ({"atom_sigma": -0.5}, "soap atom_sigma is -0.5"),
    ({"l_max": -1}, "soap l_max is -1; it must be 0 or more"),
    ({"cutoff_dexp": -2}, "soap cutoff_dexp is -2; it must be 0 or more"),
    ({"cutoff_scale": 0.0}, "soap cutoff_scale is 0.0; it must be positive"),
    ({"cutoff_transition_width": 5.0}, "cutoff_transition_width is 5.0 A, wider than the cutoff of 4.0 A"),
])
def test_wrong_values_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        Soap(**{"n_max": 3, "l_max": 2, "atom_sigma": 0.5, "cutoff": 4.0} | change)
