"""Charges are given back by data made with them, and the polynomial is the baseline itself."""
import numpy as np
import pytest
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from scipy.optimize import check_grad

import esgap
from esgap import charge_fit, charges, locality, spheres, structures
from esgap.__main__ import main
from esgap.store import read_record, write_frames

ZETA = charges.qeq_exponents()
TRUE = {"Li": 0.62, "P": 1.35}  # e; S from neutrality


@pytest.fixture(scope="module")
def supercell():
    return structures.crystal() * (1, 2, 1)


@pytest.fixture(scope="module")
def baseline(supercell):
    return esgap.ElectrostaticBaseline(charges.neutral_charges(supercell, TRUE), ZETA, accuracy=1e-8)


@pytest.fixture(scope="module")
def frames(supercell, baseline):
    """Known charges plus a pair potential that ends at 4 A, plus noise that is none (see `noisy`)."""
    short = LennardJones(sigma=2.0, epsilon=0.05, ro=3.0, rc=4.0, smooth=True)
    out = spheres.locality_configurations(supercell, plan=((6.0, 4),))[1:]
    for a in out:
        forces = baseline.get_property("forces", a) + short.get_property("forces", a)
        a.calc = SinglePointCalculator(a, energy=0.0, forces=forces)
    return out


def noisy(frames, sigma, seed=0, like=None):
    rng, out = np.random.default_rng(seed), []
    for a in frames:
        new, forces = a.copy(), a.get_forces() if like is None else like
        new.calc = SinglePointCalculator(new, energy=0.0, forces=forces + sigma * rng.normal(size=(len(a), 3)))
        out.append(new)
    return out


def test_known_charges_come_back(frames, supercell):
    """Beyond the range of the short-ranged part only the charges are left, and the fit finds them."""
    fit = charge_fit.locality_charges(frames, ZETA, cutoff=6.0, n_bootstrap=10)
    assert fit.charges == pytest.approx(charges.neutral_charges(supercell, TRUE), abs=2e-4)
    assert fit.after < 1e-4 * fit.before
    assert max(fit.error.values()) < 1e-3
    assert str(fit).endswith("-> 0.000 eV/A")


def test_a_basis_made_once_serves_every_cutoff(frames):
    basis = charge_fit.locality_basis(frames, ZETA)
    for cutoff in (6.0, 3.0):
        given, made = (charge_fit.locality_charges(frames, ZETA, cutoff, n_bootstrap=2, basis=b) for b in (basis, None))
        assert given.charges == made.charges


def test_charges_from_too_short_a_cutoff_are_biased_by_what_is_not_electrostatic(frames):
    near = charge_fit.locality_charges(frames, ZETA, cutoff=2.5, n_bootstrap=2)
    assert near.after > 0.1 * near.before


def test_error_bars_cover_the_truth(supercell):
    """Twenty sets of noise on known forces, eight displacements a sphere: the charges scatter as their errors say."""
    frames = noisy(spheres.locality_configurations(supercell, plan=((6.0, 8),))[1:], 0.0, like=np.zeros((84, 3)))
    still = locality.frozen_forces(frames)
    rows = charge_fit.near(still, 6.0, 1.0)
    basis = charge_fit.locality_basis(frames, ZETA).rows(rows)
    exact, deviation, error = basis.forces(list(TRUE.values())), [], []
    for seed in range(20):
        noise = locality.frozen_forces(noisy(frames, 0.01, seed)).change[rows]
        fit = charge_fit.fit_charges(exact + noise, basis, still.frame[rows], still.sphere, n_bootstrap=40, seed=seed)
        deviation.append([fit.charges[s] - q for s, q in TRUE.items()])
        error.append([fit.error[s] for s in TRUE])
    pull = np.sqrt((np.square(deviation) / np.square(error)).mean(0))
    assert (pull > 0.6).all()
    assert (pull < 1.5).all()
    assert fit.gain[0] > 2 * fit.gain[1]


def test_the_quadratic_form_is_the_baseline(frames, supercell):
    def evaluate(calculator):
        return np.array([calculator.get_property("forces", a.copy()) for a in frames[:2]])

    basis = charge_fit.ForceBasis(evaluate, supercell, ZETA)
    q = np.array([0.7, -1.9])
    direct = evaluate(esgap.ElectrostaticBaseline(basis.charges(q), ZETA, accuracy=1e-6))
    np.testing.assert_allclose(basis.forces(q), direct, atol=2e-5 * np.abs(direct).max())
    np.testing.assert_allclose(basis.forces(-q), basis.forces(q), rtol=1e-12)  # an overall sign cannot be known


def test_gradient_and_residual(frames):
    fit = charge_fit.locality_charges(noisy(frames, 0.02), ZETA, n_bootstrap=2)
    value, gradient = fit.residual.square_and_gradient, np.array([0.3, 2.0])
    assert check_grad(lambda q: value(q)[0], lambda q: value(q)[1], gradient) < 1e-6
    q = np.array([fit.charges["Li"], fit.charges["P"]])
    assert fit.residual.rms(q) == pytest.approx(fit.after)
    assert np.abs(value(q)[1]).max() < 1e-8
    grid = fit.residual.rms(np.meshgrid(np.linspace(-1, 1, 9), np.linspace(-3, 3, 9), indexing="ij"))
    assert grid.shape == (9, 9)
    assert grid.min() >= fit.after
    assert charge_fit.fit_charges(fit.residual.basis.forces(q), fit.residual.basis,
                                  np.arange(len(fit.residual.basis.basis[0])), n_bootstrap=2).charges == pytest.approx(
                                      fit.charges, abs=1e-5)


def test_charges_of_all_forces(baseline):
    frames = esgap.read_frames(esgap.data_path("dft/gen0.xyz"))[1:6]
    made = []
    for a in frames:
        new = a.copy()
        new.calc = SinglePointCalculator(new, energy=0.0, forces=baseline.get_property("forces", a))
        made.append(new)
    assert charge_fit.force_charges(made, ZETA, n_bootstrap=3).charges["P"] == pytest.approx(TRUE["P"], abs=1e-4)


def test_the_command_stores_what_made_the_charges(frames, tmp_path, capsys):
    write_frames(tmp_path / "frames.xyz", frames)
    assert main(["charges", str(tmp_path / "frames.xyz"), str(tmp_path / "q.json"), "--bootstrap", "5"]) == 0
    record = read_record(tmp_path / "q.json")
    assert record["charges"]["P"] == pytest.approx(TRUE["P"], abs=2e-4)
    assert record["n_displacements"] == 24
    assert len(record["made_by"]["inputs"]) == 1
    assert "-> 0.000 eV/A" in capsys.readouterr().out
    write_frames(tmp_path / "few.xyz", frames[:12])
    assert main(["charges", str(tmp_path / "few.xyz"), str(tmp_path / "few.json")]) == 2
    assert "fewer than three displacements, too few for error bars" in capsys.readouterr().err


def test_the_stored_charges_are_neutral_in_the_crystal():
    q, error = charges.fitted_charges()
    assert sum(q[s] for s in structures.crystal().symbols) == pytest.approx(0.0, abs=1e-9)
    assert all(error[s] > 0 for s in q)


def test_refusals(frames):
    with pytest.raises(ValueError, match=r"no frozen neighbourhood \(all\) ends within 0\.5 A of 9\.0 A; the radii"):
        charge_fit.locality_charges(frames, ZETA, cutoff=9.0)
    still = noisy(frames, 0.0, like=np.zeros((84, 3)))
    with pytest.raises(ValueError, match="the forces to explain are all zero"):
        charge_fit.locality_charges(still, ZETA)
    basis = charge_fit.ForceBasis(lambda c: np.zeros((0, 3)), frames[0], ZETA)
    with pytest.raises(ValueError, match="no forces to fit charges to"):
        charge_fit.fit_charges(np.zeros((0, 3)), basis, [])
