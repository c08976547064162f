"""Test frames: evenly from all runs, hops from one place to another, volumes at fixed fractional coordinates."""
from dataclasses import replace

import numpy as np
import pytest
from ase.calculators.calculator import Calculator, all_changes

import esgap
from esgap import dynamics, store, structures, testsets
from esgap.__main__ import main
from esgap.gap_calculator import GAP


def trajectory(n=100, spacing=25.0, stopped="", shift=0.0):
    atoms = structures.crystal()
    positions = atoms.positions + 0.01 * np.random.default_rng(n).normal(size=(n, 42, 3)) + shift
    zero = np.zeros(n)
    return dynamics.Trajectory(positions, np.arange(n) * spacing, zero, zero, zero, atoms.numbers, atoms.cell.array,
                               dynamics.MDSettings(n - 1, every=1), stopped)


def test_as_many_frames_from_each_run_evenly_after_the_warm_up():
    runs = {("gap", 0): trajectory(401), ("es-gap", 0): trajectory(401)}  # 10 ps
    frames = testsets.md_frames(runs, 16, warm_up=2.0)
    assert len({a.info["name"] for a in frames}) == 16
    for model in ("gap", "es-gap"):
        times = np.array([a.info["time"] for a in frames if a.info["model"] == model])
        assert len(times) == 8
        assert times.min() >= 2000
        assert np.allclose(np.diff(times), 1000)
    with pytest.raises(ValueError, match="15 frames cannot be dealt to 2 runs alike"):
        testsets.md_frames(runs, 15)
    runs["gap", 0] = replace(runs["gap", 0], stopped="P-S bond")
    with pytest.raises(ValueError, match=r"run 0 of gap has left the trusted region \(P-S bond\)"):
        testsets.md_frames(runs, 16)


class AtRest(Calculator):
    """No forces anywhere."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0, "forces": np.zeros((len(self.atoms), 3))}


def test_hops_are_interpolated_between_the_places_they_join():
    """One Li goes 2.5 A and stays: three frames on its way, the others where they were."""
    run = trajectory(400)
    ion = 3
    run.positions[200:, ion] += [0.0, 2.5, 0.0]
    frames = testsets.hop_frames({("gap", 0): run}, {"gap": AtRest()}, n_hops=1, progress=False)
    assert [a.info["fraction"] for a in frames] == [0.25, 0.5, 0.75]
    assert {a.info["ion"] for a in frames} == {ion}
    assert len({a.info["name"] for a in frames}) == 3
    start = structures.crystal()
    moved = np.array([(a.positions - start.positions) @ np.linalg.inv(a.cell.array) for a in frames])
    moved = (moved - np.round(moved)) @ start.cell.array
    assert np.linalg.norm(moved[1, ion] - [0, 1.25, 0]) < 1.0  # it goes round its neighbours
    assert np.linalg.norm(moved[0, ion]) < np.linalg.norm(moved[1, ion]) < np.linalg.norm(moved[2, ion])


def test_volumes():
    frames, crystal = testsets.volume_frames(), structures.crystal()
    assert [a.get_volume() / crystal.get_volume() for a in frames] == pytest.approx(testsets.VOLUMES)
    assert all(np.allclose(a.get_scaled_positions(), crystal.get_scaled_positions(), atol=1e-8) for a in frames)
    assert all(a.calc is None and "hirshfeld" not in a.arrays for a in frames)
    with pytest.raises(ValueError, match=r"relative volume -1\.0: it must be positive"):
        testsets.volume_frames([-1.0])


@pytest.fixture(scope="module")
def stiff(tmp_path_factory):
    """A potential fitted to a few frames, good enough near the crystal."""
    frames = esgap.read_frames(esgap.data_path("dft/gen0.xyz"))[::4]
    soap = esgap.Soap(4, 3, 0.6, 5.0, cutoff_dexp=4, cutoff_scale=2.5)
    fit = esgap.fit_gap(frames, esgap.FitSettings(soap, n_sparse=50, e0="fit"))
    path = tmp_path_factory.mktemp("models") / "stiff.npz"
    esgap.save_model(path, GAP(fit.model), generation=2)
    return path


def test_the_command_makes_the_same_frames_again(stiff, tmp_path, monkeypatch):
    """Very cold, so that the poor model holds; trajectories are kept, frames are named and unlabelled."""
    monkeypatch.setattr(testsets.TestRuns, "warm_up", 0.1)
    command = ["testset", "md", str(tmp_path / "out.xyz"), "--models", str(stiff), "--temperature", "1", "--frames",
               "4", "--ps", "0.3"]
    assert main(command) == 0
    first = (tmp_path / "out.xyz").read_bytes()
    runs = sorted(p.name for p in (tmp_path / "md-1K").glob("*.npz"))
    assert runs == ["stiff-0.npz", "stiff-1.npz"]
    assert main(command) == 0
    assert (tmp_path / "out.xyz").read_bytes() == first
    frames = store.read_frames(tmp_path / "out.xyz")
    assert [a.info["name"] for a in frames] == ["test1-stiff-0-00", "test1-stiff-1-00", "test1-stiff-0-01",
                                                "test1-stiff-1-01"]
    assert all(a.calc is None and a.info["model_generation"] == 2 for a in frames)
    run = dynamics.load_trajectory(tmp_path / "md-1K/stiff-0.npz")
    again = esgap.load_model(stiff).get_potential_energy(frames[2].copy())
    assert frames[2].info["model_energy"] == pytest.approx(again, abs=0.02)  # positions are kept to 1e-4 A
    assert np.abs(run.potential - frames[2].info["model_energy"]).min() == 0
    assert main(["testset", "volume", str(tmp_path / "volumes.xyz")]) == 0
    assert len(store.read_frames(tmp_path / "volumes.xyz")) == len(testsets.VOLUMES)
