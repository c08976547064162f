"""python -m esgap conductivity: MD runs of both potentials with several seeds, of which lithium is kept (`mobility`).

Runs are made one after the other, or through dask, or with `--replicas` many at once as one program for an accelerator
(`replica_run`). The state at the end of each is kept, too: asked for more
picoseconds, the command goes on from there. Whole trajectories stay in a folder beside; they are needed for end points
of paths, and are made again by the same command.
With `--ensemble nve` the runs have no thermostat and begin where those with one, of the same seed, have ended. They
show whether the thermostat slows ions down.
Units: A, fs, K.
"""
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from . import dynamics
from .hops import framework_frame
from .mobility import FOLDER, GRID, WHOLE, load_run, load_runs_of
from .models import LABELS, load_model, model_path
from .reference import dask_client
from .replica_run import run_replicas
from .sampling import Trust
from .stability import broken_bonds, drift
from .store import data_path, file_hash, only_writer, provenance, read_arrays, read_frames, read_record, write_arrays

OTHER_SEEDS = 100  # between the seeds of the two models
BETWEEN = 50.0  # fs between frames, or close to it


@dataclass(frozen=True)
class Task:
    """One run: a stored model, a temperature and a seed."""

    model: str  # path of the .npz
    label: str
    settings: dynamics.MDSettings
    start: str  # extended XYZ
    repeat: tuple = (1, 1, 1)
    dtype: str = "float64"  # of the products with the sparse points
    replicas: int = 1  # at once

    @property
    def name(self):
        """Name of the run, without ending."""
        size = "" if tuple(self.repeat) == (1, 1, 1) else "-" + "x".join(map(str, self.repeat))
        kind = "" if self.settings.ensemble == "nvt" else f"-{self.settings.ensemble}"
        kind += f"-x{self.replicas}" if self.replicas > 1 else ""
        return f"{self.label.lower()}-{self.settings.temperature:.0f}K{size}{kind}-{self.settings.seed}"


def identity(task):
    """What a run depends on, as plain values."""
    return {"settings": asdict(task.settings), "gap": file_hash(task.model), "repeat": list(task.repeat),
            "start": file_hash(task.start), "dtype": task.dtype, "bond": WHOLE.bond}


def produce(task, folder, element="Li", replace=False, progress=False):
    """Run `task`, or go on with it, and keep its ions in `folder` -> path of the .npz.

    What is finished stays as it is; a shorter run that is kept already is the beginning of this one. ValueError if it
    belongs to another model or other settings, unless `replace`, or if a run without thermostat has none to begin from.
    """
    if task.replicas > 1:
        return _produce_batch(task, folder, element, replace, progress)
    output, about = Path(folder) / f"{task.name}.npz", identity(task)
    atoms, begin = read_frames(task.start)[0] * tuple(task.repeat), None
    begun = {}
    whole_trajectory(task, folder).parent.mkdir(parents=True, exist_ok=True)
    with only_writer(output):
        if output.exists():
            header = read_arrays(output)[0]
            if _is_beginning(header, about):
                if header["stopped"] or header["step"] >= task.settings.steps:
                    return output
                begin, begun = dynamics.end_state(output, atoms), header.get("begun_from", {})
            elif not replace:
                raise ValueError(f"{output} is of another model or has other settings: give --replace to make it anew, "
                                 "or choose another folder")
        after = begin is not None
        if not after and task.settings.ensemble == "nve":
            begin, begun = _thermalised(task, folder, atoms)
        whole = whole_trajectory(task, folder, begin.step if begin else 0)
        potential = partial(load_model, task.model, skin=dynamics.SKIN, dtype=np.dtype(task.dtype))
        run = dynamics.run(atoms, potential, task.settings, whole, WHOLE.watch(atoms), progress,
                           [task.model, task.start], begin, task.dtype)
        keep(run, output, element, [task.model, task.start], whole, after, atoms, model=task.label,
             generation=read_record(Path(task.model).with_suffix(".json")).get("generation"),
             **({"begun_from": begun} if begun else {}), **about)
    return output


def _produce_batch(task, folder, element, replace, progress):
    """`produce` for many replicas at once. What is kept has its length for good; another seed adds to it."""
    output = Path(folder) / f"{task.name}.npz"
    about = {**identity(task), "replicas": task.replicas, "model": task.label}
    if output.exists() and not replace:
        header = read_arrays(output)[0]
        if any(header.get(name) != value for name, value in about.items()):
            raise ValueError(f"{output} is of another model or has other settings: give --replace to make it anew, or "
                             "other --seeds to add to it")
        return output
    if task.settings.ensemble != "nvt":
        raise ValueError(f"ensemble is {task.settings.ensemble!r}: replicas begin in the crystal and need a thermostat")
    output.parent.mkdir(parents=True, exist_ok=True)
    about["generation"] = read_record(Path(task.model).with_suffix(".json")).get("generation")
    atoms, potential = read_frames(task.start)[0], load_model(task.model, dtype=np.dtype(task.dtype))
    return run_replicas(atoms * tuple(task.repeat), potential, task.settings, task.replicas, output, about, element,
                        [task.model, task.start], progress)


def _thermalised(task, folder, atoms):
    """Where the kept run with thermostat has ended that a run without one begins from -> (`dynamics.State` at step 0,
    which run and step it is)."""
    other = replace(task, settings=replace(task.settings, ensemble="nvt"))
    path = Path(folder) / f"{other.name}.npz"
    if not path.exists():
        raise ValueError(f"there is no {path} to begin from: the run with thermostat comes first, the same command "
                         "without --ensemble nve")
    end = dynamics.end_state(path, atoms)
    if end.stopped:
        raise ValueError(f"{path} was stopped ({end.stopped}): choose another seed")
    return replace(end, step=0, exchanged=0.0), {"run": path.name, "step": end.step}


def _is_beginning(header, about):
    """Whether a kept run is the one that `about` describes, or the first part of it."""
    kept = {**header, "settings": {**header["settings"], "steps": about["settings"]["steps"]}}
    return "step" in header and all(kept.get(key) == value for key, value in about.items())


def take(model, label, trajectory, folder):
    """Keep the lithium of a run that `python -m esgap md` made with the stored `model` -> path of the .npz.

    trajectory: path. ValueError if it was made with another model.
    """
    header = read_arrays(trajectory)[0]
    if file_hash(model) not in header["made_by"]["inputs"].values():
        raise ValueError(f"{trajectory} was not made with {model}: give the model it was made with, or run it again")
    run = dynamics.load_trajectory(trajectory)
    name = f"{label.lower()}-{Path(trajectory).stem}.npz"
    with only_writer(Path(folder) / name):
        keep(run, Path(folder) / name, model=label, inputs=[model, trajectory], settings=asdict(run.settings),
             gap=file_hash(model), repeat=[1, 1, 1], dtype=header.get("dtype", "float64"),
             generation=read_record(Path(model).with_suffix(".json")).get("generation"))
    return Path(folder) / name


def whole_trajectory(task, folder, first=0):
    """Where all atoms of a run from step `first` on are kept; the name tells the model, so that none are mixed."""
    part = f"-from{first}" if first else ""
    return Path(folder) / "md" / f"{task.name}-{file_hash(task.model)[:8]}{part}.npz"


def keep(run, output, element="Li", inputs=(), whole=None, after=False, bonded=None, **about):
    """Write the mobile ions of a `dynamics.Trajectory` to `output` (.npz).

    whole: file of the trajectory, from which the state at the end is kept, too; after: the run goes on where the one
    in `output` has ended, and is added to it. bonded: Atoms with the bonds that should last (None: the first frame).
    """
    last = len(run) - bool(run.stopped)  # the frame that was not to be trusted
    positions = framework_frame(run, element)[:last]
    ions = np.flatnonzero(run.atoms(0).symbols == element)
    try:
        slope = asdict(drift(run))
    except ValueError:  # too short to tell
        slope = {"value": None, "error": None}
    new = int(after and last > 1)  # the first of the new frames: a joint one counts once
    bonds = broken_bonds(run, start=bonded)[0][new:last]
    part = {"frames": last - new, "drift": slope["value"], "drift_error": slope["error"],
            "opened": float((bonds > Trust.bond).mean()), "longest": float(bonds.max()),
            "measured": float(run.temperature[new or len(run) // 10:].mean())}
    arrays = {"steps": np.round(positions[:, ions] / GRID).astype(np.int32), "time": run.time[:last],
              "mean": positions[new:].mean(0)}
    parts = [part]
    if after:
        parts, arrays = _joined(output, part, arrays)
    state, end = dynamics.stored_state(dynamics.end_state(whole, run.atoms(0))) if whole else ({}, {})
    header = {**state, **about, **_summary(parts), "parts": parts, "stopped": run.stopped,
              "made_by": provenance(inputs, run.settings.seed)}
    steps = arrays.pop("steps")
    write_arrays(output, header, **end, **arrays, start=steps[0], moved=np.diff(steps, axis=0).astype(np.int16),
                 ions=ions, numbers=run.numbers, cell=run.cell)


def _joined(output, part, arrays):
    """A kept run and one that goes on where it has ended -> their parts and arrays as one."""
    header, old = read_arrays(output)
    steps = np.concatenate([old["start"][None], old["start"] + np.cumsum(old["moved"], axis=0, dtype=np.int64)])
    shift = steps[-1] - arrays["steps"][0]  # both frames are the same, in the frame of another beginning
    n, m = len(steps), part["frames"]
    moved = shift.mean(0) * GRID  # of all ions alike, but for rounding
    return [*header["parts"], part], {
        "steps": np.concatenate([steps, arrays["steps"][1:] + shift]),
        "time": np.concatenate([old["time"], arrays["time"][1:]]),
        "mean": (n * old["mean"] + m * (arrays["mean"] + moved)) / (n + m)}


def _summary(parts):
    """Measured temperature, drift and open bonds of a run from those of its parts, weighted by their lengths."""
    frames = np.array([p["frames"] for p in parts], float)
    share = frames / frames.sum()
    out = {"measured": float(share @ [p["measured"] for p in parts]), "drift": None, "drift_error": None,
           "opened": float(share @ [p["opened"] for p in parts]), "longest": max(p["longest"] for p in parts)}
    if all(p["drift"] is not None for p in parts):
        out["drift"] = float(share @ [p["drift"] for p in parts])
        out["drift_error"] = float(np.sqrt(share**2 @ np.square([p["drift_error"] for p in parts])))
    return out


def add_conductivity_arguments(parser):
    parser.add_argument("--models", nargs=2, default=["gap", "es-gap"], metavar=("GAP", "ES-GAP"),
                        help="names or paths of stored models (default: gap es-gap)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="a run each (default 0 1 2); those of "
                        f"the second model are {OTHER_SEEDS} more, so that the runs of both are independent")
    parser.add_argument("--temperatures", type=float, nargs="+", default=[800.0], help="K (default 800)")
    parser.add_argument("--ps", type=float, default=100.0, help="length of a run (default 100 ps); runs that are "
                        "kept and shorter go on")
    parser.add_argument("--timestep", type=float, default=dynamics.MDSettings.timestep, help="fs (default 2)")
    parser.add_argument("--ensemble", choices=("nvt", "nve"), default="nvt", help="nve: without thermostat, each run "
                        "from where the kept one with thermostat has ended (default nvt)")
    parser.add_argument("--single", action="store_true", help="products with the sparse points in single precision")
    parser.add_argument("--repeat", type=int, nargs=3, default=(1, 1, 1), help="repeat the cell, e.g. 2 2 1")
    parser.add_argument("--replicas", type=int, default=1, help="so many runs at once, as one program for an "
                        "accelerator, instead of a run for each seed (default 1)")
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
    if args.replicas < 1:
        raise ValueError(f"--replicas is {args.replicas}; give 1, or how many are to run at once")
    between = BETWEEN if args.replicas == 1 else 4 * BETWEEN  # there is enough of them
    start, every = str(args.start or data_path("crystal.xyz")), max(1, round(between / args.timestep))
    steps = every * round(1e3 * args.ps / (args.timestep * every))
    tasks = [Task(str(model_path(model)), label, dynamics.MDSettings(
                 steps, temperature, args.timestep, every=every, segment=40 * every, seed=seed + OTHER_SEEDS * k,
                 ensemble=args.ensemble), start, tuple(args.repeat), "float32" if args.single else "float64",
                 args.replicas)
             for temperature in args.temperatures for seed in args.seeds
             for k, (model, label) in enumerate(zip(args.models, LABELS.values(), strict=True))]
    if args.workers == 0 and args.scheduler is None:
        outputs = [produce(task, folder, replace=args.replace, progress=True) for task in tasks]
    else:
        with dask_client(min(max(args.workers, 1), len(tasks)), args.scheduler, own_cores=True) as client:
            outputs = client.gather([client.submit(produce, task, folder, replace=args.replace, pure=False)
                                     for task in tasks])
    runs = [run for path in outputs for run in load_runs_of(path)]
    print(*runs, sep="\n")
    return 1 if any(run.about["stopped"] for run in runs) else 0
