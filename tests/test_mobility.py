"""Runs kept small hold the paths to a hundredth of an angstrom, are never mixed, and go on after a kill."""
import numpy as np
import pytest
from ase.calculators.calculator import Calculator, all_changes

from esgap import dynamics, mobility, mobility_run, structures
from esgap.__main__ import main
from esgap.hops import framework_frame
from esgap.store import read_arrays, write_frames, write_record


class Springs(Calculator):
    """Every atom on a spring to its place in the crystal, 20 eV/A^2."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        d = self.atoms.positions - structures.crystal().positions
        self.results = {"energy": 10 * (d**2).sum(), "forces": -20 * d}


@pytest.fixture
def models(tmp_path, monkeypatch):
    for name in ("gap", "es-gap"):
        (tmp_path / f"{name}.npz").write_text(name)
        write_record(tmp_path / f"{name}.json", {"generation": 3})
    monkeypatch.setattr(mobility_run, "load_model", lambda path, **options: Springs())
    write_frames(tmp_path / "start.xyz", [structures.crystal()])
    return tmp_path


def run_all(models, *options):
    return main(["conductivity", "--models", str(models / "gap.npz"), str(models / "es-gap.npz"), "--ps", "0.2",
                 "--start", str(models / "start.xyz"), "--folder", str(models / "runs"), *options])


def test_the_command_keeps_the_lithium_of_every_run(models, capsys):
    assert run_all(models) == 0
    assert "GAP of generation 3, seed 1: 0.2 ps" in capsys.readouterr().out
    runs = mobility.load_runs(folder=models / "runs")
    assert {model: [r.seed for r in of] for model, of in runs.items()} == {"GAP": [0, 1, 2], "ES-GAP": [100, 101, 102]}
    assert mobility.stored_cells(folder=models / "runs") == [(1, 1, 1)]
    assert mobility.stored_cells(600.0, folder=models / "runs") == []
    kept, (whole,) = runs["GAP"][0], (models / "runs/md").glob("gap-800K-0-*.npz")
    trajectory = dynamics.load_trajectory(whole)
    exact = framework_frame(trajectory)[:, trajectory.numbers == 3]
    assert abs(kept.paths - exact).max() <= mobility.GRID / 2 + 1e-9
    np.testing.assert_array_equal(kept.time, trajectory.time)
    np.testing.assert_array_equal(kept.ions, np.flatnonzero(trajectory.numbers == 3))
    assert (kept.timestep, kept.length) == pytest.approx((0.05, 0.2))
    assert kept.about["made_by"]["seed"] == 0
    assert len(kept.mean) == 42


def test_what_is_finished_stays_and_models_are_not_mixed(models, capsys):
    assert run_all(models, "--seeds", "0") == 0
    before = {p: p.stat().st_mtime_ns for p in (models / "runs").glob("*.npz")}
    assert run_all(models, "--seeds", "0") == 0
    assert before == {p: p.stat().st_mtime_ns for p in (models / "runs").glob("*.npz")}
    (models / "gap.npz").write_text("a later fit")
    assert run_all(models, "--seeds", "0") == 2
    assert "is of another model" in capsys.readouterr().err
    assert run_all(models, "--seeds", "1") == 0
    with pytest.raises(ValueError, match="different fits"):
        mobility.load_runs(folder=models / "runs")
    assert run_all(models, "--seeds", "0", "--replace") == 0
    assert len({r.about["gap"] for r in mobility.load_runs(folder=models / "runs")["GAP"]}) == 1
    with pytest.raises(FileNotFoundError, match="at 600 K"):
        mobility.load_runs(600.0, folder=models / "runs")


def test_a_longer_run_goes_on_where_the_kept_one_has_ended(models, capsys):
    folder = models / "runs"
    assert run_all(models, "--seeds", "0") == 0
    whole, path = mobility.load_runs(folder=folder)["GAP"][0], folder / "gap-800K-0.npz"
    path.unlink()
    for rest in (folder / "md").glob("gap-800K-0-*"):
        rest.unlink()
    assert run_all(models, "--seeds", "0", "--ps", "0.1") == 0
    for rest in (folder / "md").glob("gap-800K-0-*"):
        rest.unlink()  # they are not stored with the book
    assert run_all(models, "--seeds", "0") == 0
    joined = mobility.load_run(path)
    np.testing.assert_array_equal(joined.time, whole.time)
    np.testing.assert_allclose(joined.paths, whole.paths, atol=1.01 * mobility.GRID)
    np.testing.assert_allclose(joined.mean.positions, whole.mean.positions, atol=mobility.GRID)
    assert joined.about["measured"] == pytest.approx(whole.about["measured"])
    assert [part["frames"] for part in joined.about["parts"]] == [3, 2]
    before = path.stat().st_mtime_ns
    assert run_all(models, "--seeds", "0", "--ps", "0.1") == 0  # the longer one stays
    assert path.stat().st_mtime_ns == before
    for other in (["--single"], ["--timestep", "1"]):
        assert run_all(models, "--seeds", "0", *other) == 2
        assert "other settings" in capsys.readouterr().err


def test_a_run_made_otherwise_is_taken_if_it_is_of_the_model(models, capsys):
    settings = dynamics.MDSettings(100, 800.0, ensemble="nve", seed=4)
    path = models / "other.npz"
    dynamics.run(structures.crystal(), Springs, settings, path, progress=False, inputs=[models / "es-gap.npz"])
    options = ["--folder", str(models / "taken"), "--take"]
    assert main(["conductivity", *options, str(models / "es-gap.npz"), str(path)]) == 0
    kept = mobility.load_run(models / "taken/es-gap-other.npz")
    assert (kept.model, kept.seed, kept.generation) == ("ES-GAP", 4, 3)
    assert kept.temperature == kept.about["measured"] < 600
    assert main(["conductivity", *options, str(models / "gap.npz"), str(path)]) == 2
    assert "was not made with" in capsys.readouterr().err


def test_an_untrusted_last_frame_is_left_out(models, monkeypatch):
    class Never:
        bond = 4.5

        def watch(self, start):
            seen = []
            return lambda atoms: "enough" if seen.append(0) or len(seen) > 2 else ""

    monkeypatch.setattr(mobility_run, "WHOLE", Never())
    assert run_all(models, "--seeds", "0") == 1
    path = models / "runs/gap-800K-0.npz"
    assert read_arrays(path)[0]["stopped"] == "enough"
    assert len(mobility.load_run(path).time) == 2


def test_without_thermostat_a_run_begins_where_the_one_with_it_has_ended(models, capsys):
    folder = models / "runs"
    assert run_all(models, "--seeds", "0", "--ensemble", "nve") == 2
    assert "gap-800K-0.npz to begin from: the run with thermostat comes first" in capsys.readouterr().err
    assert run_all(models, "--seeds", "0") == 0
    assert run_all(models, "--seeds", "0", "--ensemble", "nve") == 0
    free = mobility.load_run(folder / "gap-800K-nve-0.npz")
    end = dynamics.end_state(folder / "gap-800K-0.npz", structures.crystal())
    whole = dynamics.load_trajectory(next((folder / "md").glob("gap-800K-nve-0-*.npz")))
    np.testing.assert_array_equal(whole.positions[0], end.atoms.positions)
    energy = whole.potential + whole.kinetic
    assert np.ptp(energy) < 0.02 * np.ptp(whole.potential)
    assert free.about["begun_from"] == {"run": "gap-800K-0.npz", "step": end.step}
    assert [r.model for r in mobility.runs_without_thermostat(folder)] == ["ES-GAP", "GAP"]
    kept = {model: [r.seed for r in of] for model, of in mobility.load_runs(folder=folder).items()}
    assert kept == {"GAP": [0], "ES-GAP": [100]}  # those with thermostat
    assert run_all(models, "--seeds", "0", "--ensemble", "nve", "--ps", "0.4") == 0
    longer = mobility.load_run(folder / "gap-800K-nve-0.npz")
    assert longer.length == pytest.approx(0.4)
    assert longer.about["begun_from"] == free.about["begun_from"]
