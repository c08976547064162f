"""Lithium in long MD runs, kept small: what the chapters on hops and conductivity draw from; `mobility_run` makes it.

Of each run the paths of the mobile ions are kept in the frame of all other atoms, in steps of 0.01 A (which adds less
than 1e-4 A^2 to a mean square displacement), mean positions of the others, and how sound the run was.
Units: A, fs, K.
"""
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from ase import Atoms

from .models import LABELS
from .sampling import Trust
from .store import data_path, read_arrays

FOLDER = "runs/mobility"  # of the data
BATCH = re.compile(r"-x\d+-\d+$")  # ends of names of files of many replicas
GRID = 0.01  # A
NEAR = 20.0  # K, a run without thermostat ends up where it does
# At 800 K a P2S7 unit opens at its bridge now and then and closes again within a fraction of a ps, which a run
# survives; a sulfur as far away as this has left. Two lithium ions may meet at
# 2 A, where DFT drives them apart (chapter 5).
WHOLE = Trust(bond=4.5, contact=0.7)


@dataclass(frozen=True, eq=False)
class LithiumRun:
    """Paths of the mobile ions of one run, in the frame of the framework, unwrapped."""

    paths: np.ndarray  # (n_frames, n_ions, 3) A
    ions: np.ndarray  # (n_ions,) indices among all atoms
    time: np.ndarray  # (n_frames,) fs
    mean: Atoms  # all atoms at their mean positions
    model: str  # GAP, ES-GAP
    generation: int | None  # of the training set
    seed: int
    temperature: float  # K, of the thermostat; without one, as measured
    about: dict  # settings, hash of the model, measured temperature and drift, why it stopped

    @property
    def timestep(self):
        """ps between frames"""
        return float(self.time[1] - self.time[0]) * 1e-3

    @property
    def length(self):
        """ps"""
        return float(self.time[-1] - self.time[0]) * 1e-3

    def __str__(self):
        a = self.about
        stop = f", stopped: {a['stopped']}" if a["stopped"] else ""
        drifts = "" if a["drift"] is None else f", drift {a['drift']:+.1f} +- {a['drift_error']:.1f} meV/atom/ns"
        return (f"{self.model} of generation {self.generation}, seed {self.seed}: {self.length:.1f} ps at "
                f"{a['measured']:.0f} K{drifts}{stop}")


def load_run(path):
    """What `keep` wrote -> `LithiumRun`."""
    header, a = read_arrays(path)
    settings = header["settings"]
    temperature = settings["temperature"] if settings["ensemble"] == "nvt" else header["measured"]
    steps = np.concatenate([a["start"][None], a["start"] + np.cumsum(a["moved"], axis=0, dtype=np.int64)])
    mean = Atoms(a["numbers"], a["mean"], cell=a["cell"], pbc=True)
    return LithiumRun(steps * GRID, a["ions"], a["time"], mean, header["model"], header["generation"],
                      settings["seed"], temperature, header)


def load_batch(path):
    """What `replica_run` wrote -> [LithiumRun, ...], one a replica; its seed is that of the batch and its number."""
    header, a = read_arrays(path)
    settings, runs = header["settings"], []
    for k, n in enumerate(a["frames"]):
        steps = np.concatenate([a["start"][None, k], a["start"][k] + np.cumsum(a["moved"][:n - 1, k], 0, np.int64)])
        own = {name: header[name][k] for name in ("measured", "drift", "drift_error", "opened", "longest", "stopped")}
        mean = Atoms(a["numbers"], a["mean"][k], cell=a["cell"], pbc=True)
        runs.append(LithiumRun(steps * GRID, a["ions"], a["time"][:n], mean, header["model"], header["generation"],
                               1000 * settings["seed"] + k, settings["temperature"], {**header, **own}))
    return runs


def load_runs_of(path):
    """The runs in a file, one or a batch -> [LithiumRun, ...]."""
    return load_batch(path) if BATCH.search(Path(path).stem) else [load_run(path)]


def near(run, temperature):
    """Whether a run had a thermostat at a temperature (K) within NEAR of this one."""
    return run.about["settings"]["ensemble"] == "nvt" and abs(run.temperature - temperature) <= NEAR


def load_runs(temperature=800.0, repeat=(1, 1, 1), folder=None):
    """Runs with thermostat at one temperature and in one cell -> {"GAP": [LithiumRun, ...], "ES-GAP": [...]}, by seed.

    Temperatures within NEAR are one. Runs of batches are not among them (`load_replicas`). FileNotFoundError if there
    is none of one of the models; ValueError if runs of one model are of several fits.
    """
    folder = data_path(FOLDER) if folder is None else Path(folder)
    runs = _at(_kept(folder, batches=False), temperature, repeat, folder)
    for label, found in runs.items():
        if not found:
            raise FileNotFoundError(f"no runs of {label} at {temperature:g} K in {folder}: make them with `python -m "
                                    "esgap conductivity`")
    return runs


def load_replicas(temperature=800.0, repeat=(1, 1, 1), folder=None):
    """The same of batches (`replica_run`): many shorter runs that began alike; empty lists where there are none."""
    folder = data_path(FOLDER) if folder is None else Path(folder)
    return _at(_kept(folder, singles=False), temperature, repeat, folder)


def load_all(temperature=800.0, repeat=(1, 1, 1), folder=None):
    """`load_runs` and `load_replicas` together; FileNotFoundError if there are none of one of the models."""
    batches = load_replicas(temperature, repeat, folder)
    try:
        singles = load_runs(temperature, repeat, folder)
    except FileNotFoundError:
        if not all(batches.values()):
            raise
        return batches
    return {label: singles[label] + batches[label] for label in singles}


def _at(kept, temperature, repeat, folder):
    runs = {label: [] for label in LABELS.values()}
    for run in kept:
        if near(run, temperature) and tuple(run.about["repeat"]) == tuple(repeat):
            runs[run.model].append(run)
    for label, found in runs.items():
        if len({run.about["gap"] for run in found}) > 1:
            raise ValueError(f"runs of {label} in {folder} are of different fits: make them anew with --replace")
        found.sort(key=lambda run: run.seed)
    return runs


def _kept(folder, singles=True, batches=True):
    for path in sorted(folder.glob("*.npz")):
        if batches if BATCH.search(path.stem) else singles:
            yield from _loaded(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _loaded(path, _changed):
    return load_runs_of(path)


def batch_line(runs):
    """What is to be said of the runs of batches of one model in one line; "" if there are none."""
    if not runs:
        return ""
    ended_early = sum(bool(run.about["stopped"]) for run in runs)
    heat = np.average([run.about["measured"] for run in runs], weights=[run.length for run in runs])
    return (f"{runs[0].model} of generation {runs[0].generation}, {len(runs)} runs at once: up to "
            f"{max(run.length for run in runs):.1f} ps at {heat:.0f} K, {ended_early} of them stopped")


def ended(temperatures, folder=None):
    """Runs that left the trusted region -> [(K, {model: (how many did, ns of all runs together)}), ...]."""
    rows = []
    for temperature in temperatures:
        of = load_all(temperature, folder=folder)
        rows.append((temperature, {label: (sum(bool(run.about["stopped"]) for run in runs),
                                           1e-3 * sum(run.length for run in runs)) for label, runs in of.items()}))
    return rows


def runs_without_thermostat(folder=None):
    """NVE runs of the unit cell that are kept -> [LithiumRun, ...]; their temperature is the one that they had."""
    folder = data_path(FOLDER) if folder is None else Path(folder)
    return [r for r in _kept(folder, batches=False)
            if r.about["settings"]["ensemble"] == "nve" and tuple(r.about["repeat"]) == (1, 1, 1)]


def stored_cells(temperature=800.0, folder=None):
    """Cells of which there are runs of both models at a temperature (K) -> sorted list of repeats of the unit cell."""
    folder, of = data_path(FOLDER) if folder is None else Path(folder), {label: set() for label in LABELS.values()}
    for run in _kept(folder):
        if near(run, temperature):
            of[run.model].add(tuple(run.about["repeat"]))
    return sorted(set.intersection(*of.values()), key=lambda repeat: (np.prod(repeat), repeat))
