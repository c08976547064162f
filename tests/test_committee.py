"""Committees: their members are what they say, their spread is of the right size, calibration finds a known factor."""
from types import SimpleNamespace

import numpy as np
import pytest

import esgap
from esgap import committee, committee_run, store, training, validation
from esgap.calculators import ElectrostaticBaseline, es_gap

SOAP = esgap.Soap(3, 2, atom_sigma=0.6, cutoff=4.0)
SETTINGS = esgap.FitSettings(SOAP, n_sparse=15, e0="fit")
CHARGES = {"Li": 0.6, "P": 1.2, "S": -(14 * 0.6 + 6 * 1.2) / 22}


@pytest.fixture(scope="module")
def frames():
    return esgap.read_frames(esgap.data_path("dft/gen0.xyz"))[:14]


@pytest.fixture(scope="module")
def baseline():
    return ElectrostaticBaseline(CHARGES, {"Li": 0.5, "P": 0.7, "S": 0.7})


@pytest.fixture(scope="module")
def fit(frames, baseline):
    return esgap.fit_gap(frames[:10], SETTINGS, baseline=baseline)


@pytest.fixture(scope="module")
def members(fit, frames, baseline):
    return committee.bootstrap_committee(fit, frames[:10], baseline, n_members=4, seed=3)


def test_predictions_are_those_of_the_members(fit, frames, members, baseline):
    energies, forces = members.predict(fit.design, frames[10:])
    assert energies.shape == (4, 4)
    np.testing.assert_allclose(members.energies(frames[10:]), energies, atol=1e-7)
    for k in (0, 3):
        calc = members.member(k)
        for n, atoms in enumerate(frames[10:]):
            assert calc.get_property("energy", atoms) == pytest.approx(energies[k, n], abs=1e-7)
            assert np.abs(calc.get_property("forces", atoms) - forces[n][k]).max() < 1e-7


def test_a_member_is_a_fit_to_the_frames_drawn(fit, frames, members, baseline):
    """The same as listing every frame as often as it was drawn."""
    rng = np.random.default_rng(3)
    count = rng.multinomial(10, np.full(10, 0.1))
    drawn = [frames[k] for k in range(10) for _ in range(count[k])]
    again = esgap.fit_gap(drawn, SETTINGS, baseline=baseline, design=fit.design)
    alpha = np.concatenate([t.alpha for t in again.model.terms])
    rows = fit.design[frames[11]]
    assert np.abs(rows @ (alpha - members.alphas[0])).max() < 1e-6


def test_no_spread_where_there_is_nothing_to_be_uncertain_of(frames, fit, baseline):
    """Labels that the model can reproduce leave the members equal to what sigma allows; noise does not."""
    truth = es_gap(fit.calculator, baseline)
    rng, spread = np.random.default_rng(0), {}
    for noise in (0.0, 0.3):
        made = []
        for atoms in frames[:10]:
            forces = truth.get_property("forces", atoms) + noise * rng.normal(size=(42, 3))
            made.append(store.labelled(atoms, truth.get_property("energy", atoms), forces))
        found = esgap.fit_gap(made, SETTINGS, baseline=baseline, design=fit.design)
        them = committee.bootstrap_committee(found, made, baseline, n_members=4)
        spread[noise] = np.mean([f.std(0).mean() for f in them.predict(fit.design, frames[10:])[1]])
    assert spread[0.0] < 0.1 * spread[0.3]
    assert spread[0.3] < 0.3


def test_calibration_finds_a_known_factor():
    rng, n_frames, n = np.random.default_rng(0), 40, 30
    true = [0.02 + 0.2 * rng.random((n, 3)) for _ in range(n_frames)]  # eV/A
    forces = [s * rng.normal(size=(400, n, 3)) for s in true]
    difference = np.concatenate([2.5 * s * rng.normal(size=(n, 3)) for s in true])
    errors = SimpleNamespace(model={"all": difference}, reference={"all": np.zeros_like(difference)})
    found = committee.calibrate(forces, errors)
    assert found.scale == pytest.approx(2.5, abs=4 * found.error)
    assert 0.01 < found.error < 0.1
    assert found.coverage[0.68] == pytest.approx(0.68, abs=0.04)
    assert found.coverage[0.95] == pytest.approx(0.95, abs=0.02)
    assert np.all(np.abs(found.rmse / found.spread - 2.5) < 4 * found.bars / found.spread + 0.1)
    assert "times the committee's spread" in str(found)
    with pytest.raises(ValueError, match="the committee has 3510 force components, the errors 3600"):
        committee.calibrate(forces[:-1], errors)


def test_members_belong_to_one_model(fit, members, tmp_path):
    fit.calculator.save(tmp_path / "a.npz")
    members.save(tmp_path / "a.committee.npz", tmp_path / "a.npz")
    again = committee.Committee.load(tmp_path / "a.committee.npz", tmp_path / "a.npz")
    assert np.array_equal(again.alphas, members.alphas)
    assert len(again) == 4
    members.member(0).save(tmp_path / "b.npz")
    with pytest.raises(ValueError, match=r"a\.committee\.npz belongs to another potential than .*b\.npz"):
        committee.Committee.load(tmp_path / "a.committee.npz", tmp_path / "b.npz")
    with pytest.raises(ValueError, match="n_members is 1; a spread needs two or more"):
        committee.bootstrap_committee(fit, [], n_members=1)


def test_the_command_publishes_the_loop_s_models_with_committees(frames, tmp_path, monkeypatch):
    """A loop of one generation; models of other sparse points are refused."""
    from esgap import generations, learning
    monkeypatch.setattr(learning.fitted_pair, "__defaults__", (SETTINGS, *learning.fitted_pair.__defaults__[1:]))
    store.write_frames(tmp_path / "gen0.xyz", frames[:10])
    store.write_frames(tmp_path / "test.xyz", frames[10:])
    fit = generations.PairFit(learning.fitted_charges()[0], settings=SETTINGS)
    training.train(tmp_path / "loop", tmp_path / "gen0.xyz", None, None, fit, 0, progress=False)
    args = SimpleNamespace(folder=tmp_path / "loop", initial=tmp_path / "gen0.xyz", test=tmp_path / "test.xyz",
                           members=3, seed=0, models=tmp_path / "models", output=tmp_path / "committee.json")
    assert committee_run.committee_command(args) == 0
    record = store.read_record(args.output)
    for name, file in committee_run.FILES.items():
        assert len(committee.Committee.load(args.models / f"{file}.committee.npz", args.models / f"{file}.npz")) == 3
        assert record["models"][name]["scale"] > 0
        test = validation.held_out_errors(frames[10:], esgap.load_model(args.models / f"{file}.npz"))
        assert np.sqrt(np.mean(np.square(record["models"][name]["rmse"]))) == pytest.approx(test.rmse["all"], rel=0.01)
    args.test = None
    with pytest.raises(ValueError, match=r"neither test frames .* nor a second generation"):
        committee_run.committee_command(args)
    args.test = tmp_path / "test.xyz"
    other = esgap.fit_gap(frames[:10], esgap.FitSettings(SOAP, n_sparse=15, e0="fit", seed=9))
    esgap.save_model(args.folder / "models" / "gap.npz", other.calculator)
    with pytest.raises(ValueError, match="has other sparse points than a fit to the labelled frames"):
        committee_run.committee_command(args)
