"""The loop: killed anywhere it ends with the same files; a small real one learns what it is given."""
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

import esgap
from esgap import generations, reference, store, structures, training
from esgap.gap_calculator import GAP
from reference_calculators import PARAMETERS


class Killed(BaseException):
    """Not caught by anybody, like a signal."""


def initial():
    frames = []
    for k in range(3):
        frames.append(bulk("Ar", cubic=True) * (2, 1, 1))
        frames[-1].rattle(0.1, seed=k)
        frames[-1].info["name"] = f"gen0-{k}"
    return frames


def label(source, target):
    """Morse energies, each frame through the labeller of the package."""
    reference.label_file(source, target, reference.AnyCalculator("reference_calculators:weak"), workers=0)


def sample(models, generation, frames, folder):
    """Displaced copies of the last frame, as far as the model of before says (its mean energy)."""
    energy = esgap.load_model(models["mean"]).model.e0[18]
    rng, new = np.random.default_rng(generation), []
    for k in range(3):
        a = frames[-1].copy()
        a.positions += 0.01 * abs(energy) * rng.normal(size=a.positions.shape)
        a.info = {"name": f"gen{generation}-{k}"}
        new.append(a)
    return new, [f"mean energy {energy:.3f} eV"]


@pytest.fixture(scope="module")
def empty_gap():
    frames = initial()[:2]
    for a in frames:
        a.calc = SinglePointCalculator(a, energy=0.0, forces=np.zeros((len(a), 3)))
    settings = esgap.FitSettings(esgap.Soap(1, 0, atom_sigma=0.5, cutoff=3.0), n_sparse=1, e0={"Ar": 0.0})
    return esgap.fit_gap(frames, settings).calculator.model


@pytest.fixture(scope="module")
def fit(empty_gap):
    def mean_energy(frames, generation):
        e0 = float(np.mean([a.get_potential_energy() / len(a) for a in frames]))
        model = type(empty_gap)(empty_gap.terms, {18: e0}, "mean")
        settings = {"kind": "mean", "seed": 7}
        return training.Trained({"mean": (GAP(model), None)}, {"mean": {"train": {"all": e0}}}, settings)

    return mean_energy


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*"))
            if p.is_file() and not p.name.endswith(".lock")}


def test_killed_at_random_moments_it_ends_with_the_same_files(fit, tmp_path, monkeypatch):
    """Every write is a place to die, before or after it; twenty deaths and more."""
    whole = training.train(tmp_path / "whole", initial(), sample, label, fit, 5, progress=False)
    rng, deaths, write = np.random.default_rng(1), 0, store.os.replace
    left = [0]

    def deadly(*args):
        left[0] -= 1
        if left[0] == 0 and rng.random() < 0.5:
            raise Killed  # before the file is in its place
        write(*args)
        if left[0] == 0:
            raise Killed  # after

    monkeypatch.setattr(store.os, "replace", deadly)
    for _ in range(500):
        left[0] = int(rng.integers(1, 8))
        try:
            again = training.train(tmp_path / "again", initial(), sample, label, fit, 5, progress=False)
            break
        except Killed:
            deaths += 1
    assert deaths >= 20
    assert [g.frames for g in again] == [g.frames for g in whole]
    mine, other = (files(tmp_path / name) for name in ("whole", "again"))
    mine, other = ({k: v for k, v in x.items() if not k.startswith(".") and "/." not in k} for x in (mine, other))
    assert mine.keys() == other.keys()
    assert [k for k in mine if mine[k] != other[k]] == []


def test_a_finished_generation_is_not_repeated(fit, tmp_path):
    calls = []

    def counted(frames, generation):
        calls.append(generation)
        return fit(frames, generation)

    training.train(tmp_path, initial(), sample, label, counted, 1, progress=False)
    records = training.train(tmp_path, initial(), sample, label, counted, 2, progress=False)
    assert calls == [0, 1, 2]
    assert [r.n_train for r in records] == [3, 6, 9]
    made_by = store.read_record(tmp_path / "models" / "mean.json")["made_by"]
    assert made_by["inputs"] == {f"gen{g}.xyz": store.file_hash(tmp_path / f"gen{g}.xyz") for g in range(3)}
    assert made_by["seed"] == 7  # of the settings of the fit
    assert records[2].notes == [f"mean energy {records[1].errors['mean']['train']['all']:.3f} eV"]
    shutil.rmtree(tmp_path / "models")  # lost models are made again
    assert len(training.train(tmp_path, initial(), sample, label, counted, 3, progress=False)) == 4
    assert calls == [0, 1, 2, 2, 3]


def test_where_a_generation_stands_in_words():
    folder = esgap.data_path("training")
    last = training.read_generations(folder)[-1].number
    assert training.standing(last, folder) == f"{last}, the last"
    assert training.standing(1, folder) == f"1 (the loop has come to {last} since)"


def test_changed_labels_and_damaged_records_are_refused(fit, tmp_path):
    training.train(tmp_path, initial(), sample, label, fit, 1, progress=False)
    text = (tmp_path / "gen1.xyz").read_text()
    (tmp_path / "gen1.xyz").write_text(text.replace("gen1-0", "gen1-9"))
    with pytest.raises(ValueError, match=r"gen1\.xyz has changed since generation 1 was fitted to it"):
        training.train(tmp_path, initial(), sample, label, fit, 2, progress=False)
    (tmp_path / "generations.jsonl").write_text('{"number": 0')
    with pytest.raises(ValueError, match=r"generations\.jsonl is damaged"):
        training.read_generations(tmp_path)


def test_the_loop_of_the_book_on_a_potential_of_known_answer(tmp_path):
    """Generation 0 and one more, labelled with a Morse potential: MD, choice, fit; both models on the same frames."""
    start = [structures.crystal(), *structures.initial_configurations(structures.crystal(), 6, 0)]
    for k, a in enumerate(start):
        a.calc, a.info["name"] = None, f"gen0-{k}"
        a.arrays.pop("hirshfeld", None)
        a.info.pop("reference", None)
    soap = esgap.Soap(3, 2, atom_sigma=0.5, cutoff=4.0)
    settings = esgap.FitSettings(soap, n_sparse=20, e0="fit")
    charges = {"Li": 0.1, "P": 0.2, "S": -(1.4 + 1.2) / 22}
    sampler = generations.MDSampler(n_new=3, relocated=(0, 1), ps_per_generation=0.1, spacing=25.0, temperature=100.0)
    records = training.train(tmp_path, start, sampler, label, generations.PairFit(charges, settings=settings), 1, False)
    assert [r.n_new for r in records] == [7, 3]
    new = esgap.read_frames(tmp_path / "gen1.xyz")
    assert [a.info["name"] for a in new] == ["gen1-000", "gen1-001", "gen1-002"]
    assert {a.info["config_type"] for a in new} == {"md"}
    assert PARAMETERS["rcut2"] < 5
    for name in ("gap", "es-gap"):
        assert (tmp_path / "models" / f"{name}.npz").exists()
    baseline = json.loads((tmp_path / "models" / "es-gap.json").read_text())["baseline"]
    assert baseline["charges"] == pytest.approx(charges)
    spread = np.std([f for a in new for f in a.get_forces().ravel()])
    assert records[1].errors["GAP"]["train"]["all"] < 0.5 * spread
    assert Path(tmp_path / "md" / "gen1-1.npz").exists()
