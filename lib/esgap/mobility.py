"""Lithium in long MD runs, kept small: what the chapters on hops and conductivity draw from.

`python -m esgap conductivity` runs several seeds of stored potentials one after the other (or through dask) and keeps
of each the paths of the mobile ions in the frame of all other atoms, in steps of 0.01 A (which adds less than 1e-4 A^2
to a mean square displacement), mean positions of the others, and how sound the run was. Whole trajectories stay in a
folder beside; they are needed for end points of paths, and are made again by the same command.
Units: A, fs, K.
"""
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from ase import Atoms

from . import dynamics
from .hops import framework_frame
from .models import LABELS, load_model, model_path
from .reference import dask_client
from .sampling import Trust
from .stability import drift
from .store import data_path, file_hash, only_writer, provenance, read_arrays, read_frames, read_record, write_arrays

FOLDER = "runs/mobility"  # of the data
GRID = 0.01  # A
NEAR = 20.0  # K, a run without thermostat ends up where it does


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


@dataclass(frozen=True)
class Task:
    """One run: a stored model, a temperature and a seed."""

    model: str  # path of the .npz
    label: str
    settings: dynamics.MDSettings
    start: str  # extended XYZ
    repeat: tuple = (1, 1, 1)

    @property
    def name(self):
        """Name of the run, without ending."""
        size = "" if tuple(self.repeat) == (1, 1, 1) else "-" + "x".join(map(str, self.repeat))
        return f"{self.label.lower()}-{self.settings.temperature:.0f}K{size}-{self.settings.seed}"


def identity(task):
    """What a run depends on, as plain values."""
    return {"settings": asdict(task.settings), "gap": file_hash(task.model), "repeat": list(task.repeat),
            "start": file_hash(task.start)}


def produce(task, folder, element="Li", replace=False, progress=False):
    """Run `task`, or go on with it, and keep its ions in `folder` -> path of the .npz.

    What is finished stays as it is. ValueError if it belongs to another model or other settings, unless `replace`.
    """
    output, about = Path(folder) / f"{task.name}.npz", identity(task)
    whole_trajectory(task, folder).parent.mkdir(parents=True, exist_ok=True)
    with only_writer(output):
        if output.exists():
            header = read_arrays(output)[0]
            if all(header[key] == value for key, value in about.items()):
                return output
            if not replace:
                raise ValueError(f"{output} is of another model or has other settings: give --replace to make it anew, "
                                 "or choose another folder")
        atoms = read_frames(task.start)[0] * tuple(task.repeat)
        run = dynamics.run(atoms, partial(load_model, task.model), task.settings, whole_trajectory(task, folder),
                           Trust().watch(atoms), progress, [task.model, task.start])
        keep(run, output, element, model=task.label, inputs=[task.model, task.start],
             generation=read_record(Path(task.model).with_suffix(".json")).get("generation"), **about)
    return output


def take(model, label, trajectory, folder):
    """Keep the lithium of a run that `python -m esgap md` made with the stored `model` -> path of the .npz.

    trajectory: path. ValueError if it was made with another model.
    """
    made_with = read_arrays(trajectory)[0]["made_by"]["inputs"].values()
    if file_hash(model) not in made_with:
        raise ValueError(f"{trajectory} was not made with {model}: give the model it was made with, or run it again")
    run = dynamics.load_trajectory(trajectory)
    name = f"{label.lower()}-{Path(trajectory).stem}.npz"
    with only_writer(Path(folder) / name):
        keep(run, Path(folder) / name, model=label, inputs=[model, trajectory], settings=asdict(run.settings),
             gap=file_hash(model), repeat=[1, 1, 1],
             generation=read_record(Path(model).with_suffix(".json")).get("generation"))
    return Path(folder) / name


def whole_trajectory(task, folder):
    """Where all atoms of a run are kept; its name tells the model, so that models are not mixed."""
    return Path(folder) / "md" / f"{task.name}-{file_hash(task.model)[:8]}.npz"


def keep(run, output, element="Li", inputs=(), **about):
    """Write the mobile ions of a `dynamics.Trajectory` to `output` (.npz)."""
    last = len(run) - bool(run.stopped)  # the frame that was not to be trusted
    positions = framework_frame(run, element)[:last]
    ions = np.flatnonzero(run.atoms(0).symbols == element)
    steps = np.round(positions[:, ions] / GRID).astype(np.int32)
    try:
        slope = asdict(drift(run))
    except ValueError:  # too short to tell
        slope = {"value": None, "error": None}
    measured = float(run.temperature[len(run) // 10:].mean())
    header = {**about, "drift": slope["value"], "drift_error": slope["error"], "measured": measured,
              "stopped": run.stopped, "made_by": provenance(inputs, run.settings.seed)}
    write_arrays(output, header, start=steps[0], moved=np.diff(steps, axis=0).astype(np.int16), ions=ions,
                 time=run.time[:last], mean=positions.mean(0), numbers=run.numbers, cell=run.cell)


def load_run(path):
    """What `keep` wrote -> `LithiumRun`."""
    header, a = read_arrays(path)
    settings = header["settings"]
    temperature = settings["temperature"] if settings["ensemble"] == "nvt" else header["measured"]
    steps = np.concatenate([a["start"][None], a["start"] + np.cumsum(a["moved"], axis=0, dtype=np.int64)])
    mean = Atoms(a["numbers"], a["mean"], cell=a["cell"], pbc=True)
    return LithiumRun(steps * GRID, a["ions"], a["time"], mean, header["model"], header["generation"],
                      settings["seed"], temperature, header)


def load_runs(temperature=800.0, repeat=(1, 1, 1), folder=None):
    """All runs at one temperature and in one cell -> {"GAP": [LithiumRun, ...], "ES-GAP": [...]}, by seed.

    Temperatures within NEAR are one. FileNotFoundError if there is none of one of the models; ValueError if runs of one
    model are of several fits.
    """
    folder = data_path(FOLDER) if folder is None else Path(folder)
    runs = {label: [] for label in LABELS.values()}
    for path in sorted(folder.glob("*.npz")):
        run = load_run(path)
        if abs(run.temperature - temperature) <= NEAR and tuple(run.about["repeat"]) == tuple(repeat):
            runs[run.model].append(run)
    for label, found in runs.items():
        if not found:
            raise FileNotFoundError(f"no runs of {label} at {temperature:g} K in {folder}: make them with `python -m "
                                    "esgap conductivity`")
        if len({run.about["gap"] for run in found}) > 1:
            raise ValueError(f"runs of {label} in {folder} are of different fits: make them anew with --replace")
        found.sort(key=lambda run: run.seed)
    return runs


def add_conductivity_arguments(parser):
    parser.add_argument("--models", nargs=2, default=["gap", "es-gap"], metavar=("GAP", "ES-GAP"),
                        help="names or paths of stored models (default: gap es-gap)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="a run each (default 0 1)")
    parser.add_argument("--temperatures", type=float, nargs="+", default=[800.0], help="K (default 800)")
    parser.add_argument("--ps", type=float, default=100.0, help="length of a run (default 100 ps)")
    parser.add_argument("--repeat", type=int, nargs=3, default=(1, 1, 1), help="repeat the cell, e.g. 2 2 1")
    parser.add_argument("--start", help="extended XYZ to start from (default: data/crystal.xyz)")
    parser.add_argument("--folder", help="where runs are kept (default data/runs/mobility)")
    parser.add_argument("--replace", action="store_true", help="make anew what is of other models or settings")
    parser.add_argument("--take", nargs=2, action="append", metavar=("MODEL", "TRAJECTORY"), help="run nothing, but "
                        "keep the lithium of a run of `python -m esgap md`, .npz; may be given more than once")
    parser.add_argument("--workers", type=int, default=0, help="runs at a time on this machine (default 0: one, in "
                                                               "this process, without dask)")
    parser.add_argument("--scheduler", help="address of a running dask scheduler, e.g. tcp://host:8786")


def conductivity_command(args):
    """python -m esgap conductivity: several runs of both models; the same command goes on after a kill."""
    folder = Path(args.folder or data_path(FOLDER))
    if args.take:
        folder.mkdir(parents=True, exist_ok=True)
        print(*(load_run(take(model_path(model), LABELS.get(model, LABELS.get(Path(model).stem, model)), path, folder))
                for model, path in args.take), sep="\n")
        return 0
    start, every = str(args.start or data_path("crystal.xyz")), dynamics.MDSettings.every
    steps = every * round(1e3 * args.ps / (dynamics.MDSettings.timestep * every))
    tasks = [Task(str(model_path(model)), label, dynamics.MDSettings(steps, temperature, seed=seed), start,
                  tuple(args.repeat)) for temperature in args.temperatures for seed in args.seeds
             for model, label in zip(args.models, LABELS.values(), strict=True)]
    if args.workers == 0 and args.scheduler is None:
        outputs = [produce(task, folder, replace=args.replace, progress=True) for task in tasks]
    else:
        with dask_client(min(max(args.workers, 1), len(tasks)), args.scheduler) as client:
            outputs = client.gather([client.submit(produce, task, folder, replace=args.replace, pure=False)
                                     for task in tasks])
    runs = [load_run(path) for path in outputs]
    print(*runs, sep="\n")
    return 1 if any(run.about["stopped"] for run in runs) else 0
