"""Dynamics: exact resume after kills, conserved energy, the right temperature, refusals."""
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes

import esgap
from esgap import dynamics, store, structures
from esgap.__main__ import main


class Springs(Calculator):
    """Every atom on a spring to its place: E = k/2 sum (r - r0)^2, k in eV/A^2. Counts its calls."""

    implemented_properties = ("energy", "forces")
    calls = 0

    def __init__(self, places, k=2.0, fail_at=None):
        super().__init__()
        self.places, self.k, self.fail_at = places, k, fail_at

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        Springs.calls += 1
        if Springs.calls == self.fail_at:
            raise KeyboardInterrupt
        d = self.atoms.positions - self.places
        self.results = {"energy": self.k / 2 * (d**2).sum(), "forces": -self.k * d}


@pytest.fixture
def atoms():
    crystal = bulk("Ar", cubic=True) * (2, 2, 2)  # 32 atoms
    crystal.info["name"] = "argon"
    return crystal


SHORT = dynamics.MDSettings(400, every=10, segment=50, temperature=300.0, seed=7, taut=100.0)


def same(a, b):
    for name in ("positions", "time", "potential", "kinetic", "conserved"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_interrupted_at_random_the_trajectory_is_bitwise_the_same(atoms, tmp_path):
    whole = dynamics.run(atoms, lambda: Springs(atoms.positions), SHORT, tmp_path / "whole.npz", progress=False)
    rng, interrupted = np.random.default_rng(0), 0
    for _ in range(300):
        Springs.calls, fail_at = 0, int(rng.integers(1, 75))
        try:
            again = dynamics.run(atoms, partial(Springs, atoms.positions, fail_at=fail_at), SHORT,
                                 tmp_path / "again.npz", progress=False)
            break
        except KeyboardInterrupt:
            interrupted += 1
            assert not (tmp_path / "again.npz").exists()
    assert interrupted >= 4
    same(whole, again)
    assert not list(tmp_path.glob("*.segments"))


def test_killed_processes_leave_a_run_that_goes_on(atoms, tmp_path):
    """The command itself, killed without warning, on a potential of ours: the same to the last bit."""
    gap = tiny_gap()
    esgap.save_model(tmp_path / "model.npz", gap)
    esgap.store.write_frames(tmp_path / "start.xyz", [structures.crystal()])
    command = [sys.executable, "-m", "esgap", "md", str(tmp_path / "model.npz"), str(tmp_path / "start.xyz")]
    options = ["--ps", "0.12", "--segment", "10", "--every", "5", "--temperature", "300"]
    assert main([*command[3:], str(tmp_path / "whole.npz"), *options]) == 0
    folder = tmp_path / "killed.npz.segments"
    for kill in range(3):
        process = subprocess.Popen([*command, str(tmp_path / "killed.npz"), *options], stderr=subprocess.DEVNULL)
        while len(list(folder.glob("0*.npz"))) <= kill and process.poll() is None:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "killed.npz").exists()
    assert main([*command[3:], str(tmp_path / "killed.npz"), *options]) == 0
    same(*(dynamics.load_trajectory(tmp_path / f"{name}.npz") for name in ("whole", "killed")))


def tiny_gap():
    settings = esgap.FitSettings(esgap.Soap(2, 1, atom_sigma=0.5, cutoff=3.5), n_sparse=8, e0="fit")
    return esgap.fit_gap(esgap.read_frames(esgap.data_path("dft/gen0.xyz"))[:2], settings).calculator


def test_a_run_goes_on_where_a_shorter_one_has_ended(atoms, tmp_path):
    def longer(steps, name, begin=None):
        return dynamics.run(atoms, lambda: Springs(atoms.positions), replace(SHORT, steps=steps), tmp_path / name,
                            progress=False, begin=begin)

    whole, first = longer(400, "whole.npz"), longer(150, "first.npz")
    begin = dynamics.end_state(tmp_path / "first.npz", atoms)
    assert begin.step == 150
    rest = longer(400, "rest.npz", begin)
    np.testing.assert_array_equal(rest.time, whole.time[15:])
    np.testing.assert_array_equal(rest.conserved, whole.conserved[15:])
    np.testing.assert_allclose(rest.positions, whole.positions[15:], atol=2e-4)  # each is rounded from its own start
    same(longer(400, "rest.npz", begin), rest)
    with pytest.raises(ValueError, match="150 steps already, 150 are asked for"):
        longer(150, "none.npz", begin)
    with pytest.raises(ValueError, match="belongs to a run"):
        longer(400, "rest.npz")
    assert len(first) == 16


def test_a_run_of_another_potential_is_refused_finished_or_not(atoms, tmp_path, monkeypatch):
    potential = tmp_path / "potential"
    potential.write_text("first")
    options = {"progress": False, "inputs": [potential]}
    dynamics.run(atoms, lambda: Springs(atoms.positions), SHORT, tmp_path / "a.npz", **options)
    Springs.calls = 0
    with pytest.raises(KeyboardInterrupt):
        dynamics.run(atoms, lambda: Springs(atoms.positions, fail_at=200), SHORT, tmp_path / "b.npz", **options)
    potential.write_text("second")
    for name in ("a", "b"):
        with pytest.raises(ValueError, match="belongs to a run with made_from"):
            dynamics.run(atoms, lambda: Springs(atoms.positions), SHORT, tmp_path / f"{name}.npz", **options)
    header, arrays = store.read_arrays(tmp_path / "a.npz")
    del header["made_from"]  # as in older files, which name their potential in `made_by` alone
    store.write_arrays(tmp_path / "a.npz", header, **arrays)
    with pytest.raises(ValueError, match="belongs to a run with made_from"):
        dynamics.run(atoms, lambda: Springs(atoms.positions), SHORT, tmp_path / "a.npz", **options)


def test_energy_is_conserved_to_second_order_in_the_timestep(atoms, tmp_path):
    """NVE: halving the timestep divides the fluctuation of the energy by four."""
    def fluctuation(timestep):
        settings = replace(SHORT, ensemble="nve", timestep=timestep, steps=400, every=1)
        run = dynamics.run(atoms, lambda: Springs(atoms.positions), settings, tmp_path / f"{timestep}.npz", None, False)
        return np.std(run.conserved)

    assert fluctuation(10.0) / fluctuation(5.0) == pytest.approx(4.0, rel=0.15)


def test_temperature_of_the_thermostat_and_resting_centre_of_mass(atoms, tmp_path):
    """3N - 3 degrees of freedom at 300 K; the conserved quantity does not drift while heat flows in and out."""
    settings = replace(SHORT, steps=40000, every=20, segment=20000, taut=50.0)
    run = dynamics.run(atoms, lambda: Springs(atoms.positions), settings, tmp_path / "run.npz", progress=False)
    blocks = run.temperature[1:].reshape(20, -1).mean(1)
    assert blocks.mean() == pytest.approx(300, abs=4 * blocks.std() / np.sqrt(20))
    assert blocks.std() / np.sqrt(20) < 5
    expected = 300 * np.sqrt(2 / (3 * 32 - 3))  # canonical fluctuation of the temperature
    assert run.temperature[1:].std() == pytest.approx(expected, rel=0.15)
    assert np.ptp(run.positions.mean(1), axis=0).max() < 1e-3
    assert abs(run.conserved[-200:].mean() - run.conserved[:200].mean()) < 0.02 * run.potential.std()


def test_stored_positions_are_unwrapped_and_rounded(atoms, tmp_path):
    shifted = atoms.copy()
    shifted.positions += 3 * atoms.cell[0]
    run = dynamics.run(shifted, lambda: Springs(shifted.positions), SHORT, tmp_path / "run.npz", progress=False)
    assert len(run) == 41
    np.testing.assert_array_equal(run.positions[0], shifted.positions)
    assert run.atoms(3).get_chemical_formula() == "Ar32"
    np.testing.assert_array_equal(run.time[:3], [0.0, 20.0, 40.0])
    assert np.abs(run.positions - shifted.positions).max() < 2.0


def test_a_run_that_leaves_the_trusted_region_ends_with_its_reason(atoms, tmp_path):
    def stop(a):
        return "too hot" if a.get_kinetic_energy() > 0.5 * first else ""

    first = dynamics.run(atoms, lambda: Springs(atoms.positions), SHORT, tmp_path / "a.npz", None, False).kinetic[0]
    run = dynamics.run(atoms, lambda: Springs(atoms.positions), SHORT, tmp_path / "b.npz", stop, False)
    assert run.stopped == "too hot"
    assert len(run) == 1


class Refusing(Springs):
    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        if np.abs(atoms.positions - self.places).max() > 0.2:
            raise ValueError("atoms are lost")
        super().calculate(atoms, properties, system_changes)


def test_a_refusal_of_the_potential_ends_the_run_and_keeps_what_was_good(atoms, tmp_path):
    run = dynamics.run(atoms, lambda: Refusing(atoms.positions), SHORT, tmp_path / "a.npz", progress=False)
    assert run.stopped == "the potential refuses the atoms: atoms are lost"
    assert 0 < len(run) < 41
    with pytest.raises(ValueError, match=r"atoms are lost; there is not even a first frame"):
        dynamics.run(atoms, lambda: Refusing(atoms.positions + 1), SHORT, tmp_path / "b.npz", progress=False)


def test_refusals(atoms, tmp_path):
    with pytest.raises(ValueError, match="ensemble is 'npt'; use 'nvt' or 'nve'"):
        replace(SHORT, ensemble="npt")
    with pytest.raises(ValueError, match="timestep is -1; it must be positive"):
        replace(SHORT, timestep=-1)
    with pytest.raises(ValueError, match="steps 401 and segment 50 must be multiples of every 10"):
        replace(SHORT, steps=401)
    dynamics.run(atoms, lambda: Springs(atoms.positions), SHORT, tmp_path / "a.npz", progress=False)
    with pytest.raises(ValueError, match=r"a\.npz belongs to a run with settings .* remove it, or choose another"):
        dynamics.run(atoms, lambda: Springs(atoms.positions), replace(SHORT, seed=8), tmp_path / "a.npz")
    with pytest.raises(ValueError, match=r"a\.npz belongs to a run with dtype float64, not float32"):
        dynamics.run(atoms, lambda: Springs(atoms.positions), SHORT, tmp_path / "a.npz", dtype="float32")
    Path(tmp_path / "b.npz").write_bytes(b"half a fi")
    with pytest.raises(ValueError, match=r"b\.npz is not a file of arrays written by esgap"):
        dynamics.load_trajectory(tmp_path / "b.npz")
    with pytest.raises(FileNotFoundError, match=r"no file .*c\.npz"):
        dynamics.load_trajectory(tmp_path / "c.npz")
