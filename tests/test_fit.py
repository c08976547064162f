"""The fit: both trainers give one answer, rows are derivatives, data and settings do what they say."""
import shutil
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.calculators.lj import LennardJones

from esgap import design as design_module
from esgap import gapfit
from esgap.design import STRAINS, DesignMatrix, frame_hash, solve
from esgap.fit import FitSettings, atom_energies, choose_points, fit_gap, read_labels, targets_of
from esgap.gapfit import check_found, frames_text, run_gap_fit
from esgap.soap import Soap
from gap_cases import label, random_cell, strained, training_frames

SETTINGS = FitSettings(Soap(3, 2, 0.5, 4.0), n_sparse=6, delta=1.0, zeta=2.0, jitter=1e-6)


@pytest.fixture(scope="module")
def frames():
    out = training_frames(n=4)
    for k, a in enumerate(out):
        a.info["config_type"] = "first" if k == 0 else "other"
    out[1].arrays["force_atom_sigma"] = np.random.default_rng(0).uniform(0.05, 0.2, len(out[1]))
    return out


@pytest.fixture(scope="module")
def settings():
    return replace(SETTINGS, sigma_force={"Li": 0.05, "P": 0.1, "S": 0.07},
                   kinds={"first": {"sigma_energy": 0.0004, "sigma_virial": 0.07}})


@pytest.fixture(scope="module")
def fit(frames, settings):
    return fit_gap(frames, settings)


def weights(fit):
    return np.concatenate([t.alpha for t in fit.model.terms])


def test_trainers_agree(frames, settings, fit):
    """Energies, forces and virials, sigmas by frame kind, element and atom; isolated atoms among the frames."""
    other = fit_gap(frames, settings, trainer="gap_fit")
    assert np.abs(weights(other) - weights(fit)).max() < 1e-8 * np.abs(weights(fit)).max()
    assert "(property name: dft_virial) found: 24" in other.log
    assert other.rmse == pytest.approx(fit.rmse, rel=1e-6)


def test_rows_are_the_model(frames, fit):
    """Rows times weights give what the calculator gives, for every kind of row."""
    alpha, calc = weights(fit), fit.calculator
    atoms, n = frames[2], len(frames[2])
    predicted = fit.design[atoms] @ alpha
    calc.calculate(atoms.copy())
    e0 = sum(fit.model.e0[int(Z)] for Z in atoms.numbers)
    assert predicted[0] + e0 == pytest.approx(calc.results["energy"], abs=1e-9)
    assert np.allclose(-predicted[1:1 + 3 * n], calc.results["forces"].ravel(), atol=1e-9)
    xx, yy, zz, yz, xz, xy = calc.results["stress"] * atoms.get_volume()
    assert np.allclose(predicted[1 + 3 * n:], [xx, xy, xz, yy, yz, zz], atol=1e-9)
    assert STRAINS == ((0, 0), (1, 0), (2, 0), (1, 1), (2, 1), (2, 2))


def test_chunks_of_a_large_frame_add_up(fit):
    """Rows of a cell repeated three times (two chunks) are those of the cell, repeated."""
    atoms = random_cell(seed=3)
    design, n = DesignMatrix(fit.model.terms), len(atoms)
    big = atoms.repeat((2, 3, 1))
    design.add([atoms, big])
    one, six = design[atoms], design[big]
    assert np.allclose(six[0], 6 * one[0], atol=1e-10)
    assert np.allclose(six[1:1 + 3 * n], one[1:1 + 3 * n], atol=1e-10)
    assert np.allclose(six[-6:], 6 * one[-6:], atol=1e-9)


def test_solution_is_the_least_squares_solution(frames, settings, fit):
    labels = read_labels(frames)
    targets = targets_of(frames, labels, atom_energies(frames, labels, "isolated"), settings)
    rows = [fit.design[a][t.rows] / t.sigma[:, None] for a, t in zip(frames, targets, strict=True)]
    start, blocks = 0, []
    M = len(weights(fit))
    for t in fit.model.terms:
        block = np.zeros((len(t.X), M))
        block[:, start:start + len(t.X)] = np.linalg.cholesky(t.kernel(t.X) + settings.jitter * np.eye(len(t.X))).T
        start += len(t.X)
        blocks.append(block)
    y = np.concatenate([t.y / t.sigma for t in targets] + [np.zeros(M)])
    naive = np.linalg.lstsq(np.vstack(rows + blocks), y, rcond=None)[0]
    assert np.allclose(weights(fit), naive, rtol=1e-7, atol=1e-7 * np.abs(naive).max())


def test_known_potential_is_recovered(frames, fit):
    """Labels made by a GAP with the same sparse points: the fit returns its energies and forces."""
    truth = fit.calculator
    made = [label(a, truth, e0=0.0) for a in frames]
    again = fit_gap(made, replace(SETTINGS, sigma_energy=1e-6, sigma_force=1e-5, sigma_virial=1e-5), design=fit.design)
    new, test = again.calculator, random_cell(seed=11)
    new.calculate(test)
    truth.calculate(test)
    assert new.results["energy"] == pytest.approx(truth.results["energy"], abs=1e-3)
    assert np.allclose(new.results["forces"], truth.results["forces"], atol=1e-3)


def test_new_frames_only_add_rows(frames, settings, fit, monkeypatch):
    computed = []
    original = design_module.frame_rows
    monkeypatch.setattr(design_module, "frame_rows", lambda t, p, a, *x: computed.append(a) or original(t, p, a, *x))
    extra = label(random_cell(seed=7))
    more = fit_gap([*frames, extra], settings, design=fit.design)
    assert [frame_hash(a) for a in computed] == [frame_hash(extra)]
    refit = fit_gap(frames, replace(settings, sigma_energy=0.01), design=fit.design)
    assert len(computed) == 1
    assert more.design is fit.design
    assert not np.allclose(weights(refit), weights(fit))
    assert np.allclose(weights(fit_gap(frames, settings, design=fit.design)), weights(fit), rtol=1e-9)


def test_baseline_is_subtracted_and_not_learned(frames, settings, fit):
    """Labels that are GAP labels plus a baseline, fitted with that baseline, give the GAP back."""
    class Baseline(Calculator):
        implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012

        def calculate(self, atoms=None, properties=(), system_changes=()):
            assert len(atoms) > 1  # single atoms are the reference without it
            other = atoms.copy()
            other.calc = LennardJones(sigma=2.0, epsilon=0.1, rc=4.0, smooth=True)
            self.results = {"energy": other.get_potential_energy(), "forces": other.get_forces(),
                            "stress": other.get_stress()}

    baseline, made = Baseline(), []
    for a in frames:
        b = a.copy()
        b.calc = type(a.calc)(b, **{k: v.copy() if hasattr(v, "copy") else v for k, v in a.calc.results.items()})
        if len(a) > 1:
            baseline.calculate(a.copy())
            for name, value in baseline.results.items():
                b.calc.results[name] = b.calc.results[name] + value
        made.append(b)
    both = fit_gap(made, settings, baseline=baseline, design=fit.design)
    assert np.allclose(weights(both), weights(fit), rtol=1e-6, atol=1e-7 * np.abs(weights(fit)).max())


def test_sigmas_decide_what_is_fitted(frames, fit):
    tight = fit_gap(frames, replace(SETTINGS, sigma_energy=1e-5, sigma_force=1.0), design=fit.design)
    loose = fit_gap(frames, replace(SETTINGS, sigma_energy=1.0, sigma_force=0.01), design=fit.design)
    assert tight.rmse["energy"] < loose.rmse["energy"]
    assert loose.rmse["force"] < tight.rmse["force"]


def test_prints_its_errors(fit):
    assert "7 frames, training RMSE" in str(fit)
    assert set(fit.rmse) == {"energy", "force", "stress", "force_Li", "force_P", "force_S"}


def test_atom_energies(frames):
    labels = read_labels(frames)
    assert atom_energies(frames, labels, "isolated") == pytest.approx({3: -3.0, 15: -3.0, 16: -3.0})
    assert atom_energies(frames, labels, {"Li": 1, "P": 2, "S": 3}) == {3: 1.0, 15: 2.0, 16: 3.0}
    two = [label(random_cell("LiS"), e0=-2.0), label(random_cell("Li2S"), e0=-2.0)]
    plain = [replace(x, energy=-10.0 * np.sum(a.numbers == 3) - 20.0 * np.sum(a.numbers == 16))
             for a, x in zip(two, read_labels(two), strict=True)]
    assert atom_energies(two, plain, "fit") == pytest.approx({3: -10.0, 16: -20.0})
    one = atom_energies(two[:1], plain[:1], "fit")  # one composition cannot tell the elements apart
    assert one == pytest.approx({3: -15.0, 16: -15.0})


@pytest.mark.parametrize("selection", ["cur", "farthest"])
def test_selection_is_deterministic_and_leaves_out_duplicates(selection):
    p = np.random.default_rng(0).normal(size=(40, 6))
    p /= np.linalg.norm(p, axis=1)[:, None]
    p[20:] = p[:20]
    chosen = choose_points(p, 10, selection, 3)
    assert np.array_equal(chosen, choose_points(p, 10, selection, 3))
    assert len(set(chosen % 20)) == 10
    assert not np.array_equal(chosen, choose_points(p, 10, selection, 4))


def test_farthest_points_are_spread():
    angle = np.linspace(0, np.pi / 2, 91)
    chosen = choose_points(np.stack([np.cos(angle), np.sin(angle)], 1), 3, "farthest", 0)
    assert {0, 90} & set(chosen.tolist())  # the point least like any start is an end
    assert np.diff(angle[chosen]).min() > 0.3


def test_virial_is_written_as_plain_numbers(frames, settings):
    """ASE would write a 3x3 array as _JSON, which gap_fit ignores without a word."""
    labels = read_labels(frames[:1])
    e0 = {3: 0.0, 15: 0.0, 16: 0.0}
    header = frames_text(frames[:1], labels, targets_of(frames[:1], labels, e0, settings)).splitlines()[1]
    assert "_JSON" not in header
    assert len(header.split('dft_virial="')[1].split('"')[0].split()) == 9
    with pytest.raises(RuntimeError, match="gap_fit found 0 virials where 6 were given"):
        check_found("target energies (x) found: 1\n target forces (x) found: 36\n target virials (x) found: 0",
                    frames[:1], labels)


def test_a_failed_gap_fit_says_why(frames, settings, fit, monkeypatch):
    labels = read_labels(frames[:1])
    e0 = {3: 0.0, 15: 0.0, 16: 0.0}
    given = frames[:1], labels, targets_of(frames[:1], labels, e0, settings), e0, fit.model.terms, 1e-6
    monkeypatch.setattr(gapfit, "find_gap_fit", lambda: shutil.which("false"))
    with pytest.raises(RuntimeError, match="gap_fit stopped with status 1; it said last"):
        run_gap_fit(*given)


def test_a_missing_gap_fit_is_named(monkeypatch):
    monkeypatch.setattr(gapfit.shutil, "which", lambda *a, **k: None)
    with pytest.raises(FileNotFoundError, match="gap_fit is not installed: pip install quippy-ase, or use"):
        gapfit.find_gap_fit()


def test_wrong_settings():
    soap = SETTINGS.soap
    with pytest.raises(ValueError, match="selection is 'random'; use 'cur' or 'farthest'"):
        FitSettings(soap, selection="random")
    with pytest.raises(ValueError, match="e0 is 'average'; use 'isolated', 'fit'"):
        FitSettings(soap, e0="average")
    with pytest.raises(ValueError, match="sigma_force of settings is 0; it must be positive"):
        FitSettings(soap, sigma_force={"Li": 0})
    with pytest.raises(ValueError, match=r"sigma_energy of crystal is -1.0"):
        FitSettings(soap, kinds={"crystal": {"sigma_energy": -1.0}})


def test_wrong_data(frames, settings, fit):
    with pytest.raises(ValueError, match="trainer is 'torch'; use 'jax' or 'gap_fit'"):
        fit_gap(frames, settings, trainer="torch")
    with pytest.raises(ValueError, match="there are no frames to fit to"):
        fit_gap([], settings)
    with pytest.raises(ValueError, match="none of Li, P, S: add them, or use e0='fit'"):
        fit_gap(frames[:2], settings)
    with pytest.raises(ValueError, match="e0 has no value for P, S"):
        fit_gap(frames, replace(settings, e0={"Li": 1.0}))
    with pytest.raises(ValueError, match=r"frame 0 \(Li4P2S6\) has no energy: label it, or leave it out"):
        fit_gap([random_cell()], settings)
    no_forces = label(random_cell())
    del no_forces.calc.results["forces"]
    with pytest.raises(ValueError, match=r"frame 1 \(Li4P2S6\) has no forces"):
        fit_gap([frames[0], no_forces], settings)
    bad = label(random_cell())
    bad.calc.results["forces"][3, 1] = np.nan
    with pytest.raises(ValueError, match=r"forces of frame 0 .* is not finite"):
        fit_gap([bad], settings)
    with pytest.raises(ValueError, match="sigma_force has no value for S"):
        fit_gap(frames, replace(settings, sigma_force={"Li": 1, "P": 1}), design=fit.design)


def test_wrong_elements_and_points(frames, settings, fit):
    known = replace(settings, soap=replace(settings.soap, species_Z=(3, 15)))
    with pytest.raises(ValueError, match=r"frames contain S, which is not in species_Z=\(3, 15\)"):
        fit_gap(frames, known)
    with pytest.raises(ValueError, match="P: n_sparse is 50, but there are only 9 different environments"):
        fit_gap(frames, replace(settings, n_sparse={"Li": 5, "P": 50, "S": 5}))
    with pytest.raises(ValueError, match="the design matrix has no term for Cl"):
        fit_gap([*frames, label(Atoms("Cl", cell=np.eye(3) * 15, pbc=True))], settings, design=fit.design)
    with pytest.raises(ValueError, match=r"made with delta=1.0, zeta=2.0, the settings say 1.0 and 4.0"):
        fit_gap(frames, replace(settings, zeta=4.0), design=fit.design)


def test_singular_systems(frames, settings, fit):
    twice = [replace(t, X=np.concatenate([t.X, -0.0 + t.X]), alpha=np.zeros(2 * len(t.X))) for t in fit.model.terms[:1]]
    design = DesignMatrix(twice)
    with pytest.raises(ValueError, match="kernel matrix of the 12 sparse points of Z=3 is singular at jitter=-1e-12"):
        solve(design, [], [], -1e-12)
    lone = [a for a in frames if len(a) == 1][:1]
    design.add(lone)
    labels = read_labels(lone)
    targets = targets_of(lone, labels, {3: 0.0}, settings)
    with pytest.raises(ValueError, match=r"the least-squares system is singular|is singular at jitter"):
        solve(design, lone, targets, 1e-40)


def test_strained_copies_are_other_frames():
    atoms = random_cell()
    assert frame_hash(atoms) == frame_hash(atoms.copy())
    assert frame_hash(atoms) != frame_hash(strained(atoms, 1e-9 * np.eye(3)))
