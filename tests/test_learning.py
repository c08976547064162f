"""Learning curves: each generation once, tested on the next before it learns from it; weights of the elements."""
from types import SimpleNamespace

import numpy as np
import pytest

import esgap
from esgap import generations, learning, store, training, validation

SETTINGS = esgap.FitSettings(esgap.Soap(3, 2, atom_sigma=0.6, cutoff=4.0), n_sparse=15, e0="fit")


@pytest.fixture(scope="module")
def frames():
    return esgap.read_frames(esgap.data_path("dft/gen0.xyz"))[:24]


@pytest.fixture
def loop(frames, tmp_path, monkeypatch):
    """A loop of two generations after the first, its frames dealt from generation 0."""
    monkeypatch.setattr(learning.fitted_pair, "__defaults__", (SETTINGS, *learning.fitted_pair.__defaults__[1:]))
    monkeypatch.setattr(learning, "SETTINGS", SETTINGS)
    store.write_frames(tmp_path / "gen0.xyz", frames[:8])
    store.write_frames(tmp_path / "test-a.xyz", frames[18:])

    def sample(models, generation, known, folder):
        return [a.copy() for a in frames[3 + 5 * generation:8 + 5 * generation]], []

    def label(source, target):
        store.write_frames(target, frames[3 + 5 * int(source.stem[3]):8 + 5 * int(source.stem[3])])

    fit = generations.PairFit(learning.fitted_charges()[0], settings=SETTINGS)
    training.train(tmp_path / "loop", tmp_path / "gen0.xyz", sample, label, fit, 2, progress=False)
    return SimpleNamespace(folder=tmp_path / "loop", initial=tmp_path / "gen0.xyz", tests=[tmp_path / "test-a.xyz"],
                           output=tmp_path / "learning.json")


def test_errors_are_those_of_a_fit_to_the_frames_so_far(loop, frames):
    assert learning.learning_command(loop) == 0
    record = store.read_record(loop.output)
    assert [r["n_train"] for r in record["generations"]] == [8, 13, 18]
    assert [list(r["sets"]) for r in record["generations"]] == [
        ["train", "ahead", "test-a"], ["train", "ahead", "test-a"], ["train", "test-a"]]
    fit = esgap.fit_gap(validation.mark_short_contacts(frames[:13]), SETTINGS)
    ahead = validation.held_out_errors(learning.ordinary(frames[13:18]), fit.calculator)
    g, rmse, error = learning.curve(record, "ahead", "GAP")
    assert g.tolist() == [0, 1]
    assert rmse[1] == pytest.approx(ahead.rmse["all"], abs=1e-5)
    assert error[1] == pytest.approx(ahead.error["all"], abs=1e-5)
    with pytest.raises(ValueError, match="no set 'nothing' in the record; there are ahead, test-a, train"):
        learning.curve(record, "nothing", "GAP")


def test_a_generation_is_fitted_once_unless_its_frames_change(loop, frames, monkeypatch):
    calls, fitted = [], learning.fitted_pair

    def counted(some, *args, **options):
        calls.append(len(some))
        return fitted(some, SETTINGS, progress=False)

    monkeypatch.setattr(learning, "fitted_pair", counted)
    learning.learning_command(loop)
    learning.learning_command(loop)
    assert calls == [8, 13, 18]
    store.write_frames(loop.tests[0], frames[19:])
    learning.learning_command(loop)
    assert calls == [8, 13, 18] * 2


def test_steps_are_what_changed_since_the_generation_before_on_the_same_frames(loop, frames, monkeypatch):
    learning.learning_command(loop)
    first, second, _ = store.read_record(loop.output)["generations"]
    assert "step" not in first["sets"]["test-a"]
    assert "step" not in second["sets"]["ahead"]
    test, errors = frames[18:], []
    for n in (8, 13):
        fit = esgap.fit_gap(validation.mark_short_contacts(frames[:n]), SETTINGS)
        errors.append(validation.held_out_errors(test, fit.calculator))
    step = errors[1].minus(errors[0])
    assert second["sets"]["test-a"]["step"]["GAP"]["Li"] == pytest.approx(step.value["Li"], abs=2e-6)
    assert second["sets"]["test-a"]["step_error"]["GAP"]["Li"] == pytest.approx(step.error["Li"], abs=2e-6)
    whole = store.read_record(loop.output)["generations"]
    store.write_record(loop.output, {"generations": whole[:2]})  # as after a kill
    learning.learning_command(loop)
    assert store.read_record(loop.output)["generations"] == whole


def test_stoichiometric_weights_make_the_elements_count_alike(frames):
    sigma = learning.stoichiometric(frames, 0.05)
    sums = [n / sigma[s] ** 2 for s, n in (("Li", 14), ("P", 6), ("S", 22))]
    assert np.allclose(sums, sums[0])
    assert sum(sums) == pytest.approx(42 / 0.05**2)


def test_a_weight_on_phosphorus_lowers_its_training_error(loop):
    loop.output = loop.output.with_name("weights.json")
    assert learning.weights_command(loop) == 0
    rows = {r["name"]: r["sets"]["train"]["rmse"] for r in store.read_record(loop.output)["rows"]}
    for model in ("GAP", "ES-GAP"):
        assert rows["phosphorus x 9"][model]["P"] < rows["alike"][model]["P"]
        assert rows["lithium x 9"][model]["Li"] < rows["alike"][model]["Li"]


def test_a_loop_without_generations_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no finished generation: run `python -m esgap train` first"):
        learning.labelled_files(tmp_path, tmp_path / "gen0.xyz")


def test_tables_say_what_the_records_hold(loop, frames):
    records = training.read_generations(loop.folder)
    lines = learning.generations_table(records, [frames[:8], frames[8:13], frames[13:18]]).splitlines()
    assert len(lines) == 5
    assert lines[3].startswith("| 1 | 5 | 13 | none |")
    largest = max(np.linalg.norm(a.get_forces(), axis=1).max() for a in frames[8:13])
    assert f" {largest:.1f} |" in lines[3]
    entry = {"rmse": {m: dict.fromkeys(("all", "Li", "P", "S"), 0.0816) for m in learning.NAMES},
             "error": {m: dict.fromkeys(("all", "Li", "P", "S"), 0.0021) for m in learning.NAMES}}
    record = {"rows": [{"name": "alike", "sets": {"train": entry}}]}
    table = learning.weights_table(record, "train")
    assert table.splitlines()[2:] == [f"| alike | {m} |" + " 82 ± 2 |" * 4 for m in learning.NAMES]
