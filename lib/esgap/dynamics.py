"""Molecular dynamics that can be killed at any moment and goes on as if it had not been: bitwise the same trajectory.

A run is a chain of segments. Each begins from what is on disk (positions, momenta, state of the random numbers) with a
calculator made anew, and is written whole when it ends, frames and end state in one file; so an undisturbed run and a
resumed one do the same arithmetic. Velocity Verlet; NVT by stochastic velocity rescaling (G. Bussi, D. Donadio,
M. Parrinello, J. Chem. Phys. 126, 014101 (2007)), which rescales all momenta by one factor close to 1 and so leaves
the diffusion alone. The centre of mass rests: temperatures are those of 3N - 3 degrees of freedom. Positions are
unwrapped.
Units: A, fs, K, eV.
"""
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.constraints import FixCom
from ase.md.bussi import Bussi
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet
from tqdm import tqdm

from .models import load_model, model_path
from .store import file_hash, only_writer, provenance, read_arrays, read_frames, structure_hash, write_arrays

SKIN = 1.0  # A, of neighbour lists: at 800 K and 0.5 A they would be made anew every third step


@dataclass(frozen=True)
class MDSettings:
    """What a trajectory depends on, apart from where it starts and the potential."""

    steps: int
    temperature: float = 800.0  # K; of the initial momenta, and of the thermostat
    timestep: float = 2.0  # fs
    ensemble: str = "nvt"  # or "nve"
    taut: float = 500.0  # fs, time constant of the thermostat
    every: int = 25  # steps between stored frames
    segment: int = 1000  # steps between checkpoints
    seed: int = 0

    def __post_init__(self):
        if self.ensemble not in ("nvt", "nve"):
            raise ValueError(f"ensemble is {self.ensemble!r}; use 'nvt' or 'nve'")
        for name in ("steps", "temperature", "timestep", "taut", "every", "segment"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive")
        if self.segment % self.every or self.steps % self.every:
            raise ValueError(f"steps {self.steps} and segment {self.segment} must be multiples of every {self.every}")


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Frames of a run, the start included; positions continuous across the cell boundary."""

    positions: np.ndarray  # (n_frames, n_atoms, 3) A, rounded to 1e-4 A
    time: np.ndarray  # (n_frames,) fs
    potential: np.ndarray  # (n_frames,) eV
    kinetic: np.ndarray  # (n_frames,) eV
    conserved: np.ndarray  # (n_frames,) eV, energy less what the thermostat has put in
    numbers: np.ndarray  # (n_atoms,)
    cell: np.ndarray  # (3, 3) A
    settings: MDSettings
    stopped: str = ""  # why it ended before its time, if it did

    @property
    def temperature(self):
        """(n_frames,) K, of 3N - 3 degrees of freedom."""
        return 2 * self.kinetic / ((3 * len(self.numbers) - 3) * units.kB)

    def atoms(self, k):
        """Frame k as ASE Atoms."""
        return Atoms(numbers=self.numbers, positions=self.positions[k], cell=self.cell, pbc=True)

    def __len__(self):
        return len(self.time)


def run(atoms, make_calculator, settings, output, stop=None, progress=True, inputs=(), begin=None, dtype="float64"):
    """Run MD from `atoms` (A; momenta are drawn from the seed) and write the trajectory to `output` (.npz).

    make_calculator() returns a new ASE calculator of the potential; it is called for each segment. stop(atoms) is
    asked at every stored frame and may return a reason to end the run, in words. What is finished lies in
    `<output>.segments/` until all is done. inputs: files whose hashes go into the record, as does dtype, the precision
    of the potential. begin: where an earlier run of fewer steps has ended (`end_state`); its last frame is the first
    of this one. -> `Trajectory`
    A run that is already finished is read, not repeated; another start or other settings are refused.
    """
    output, first = Path(output), begin.step if begin else 0
    about = {"settings": asdict(settings), "start": structure_hash(atoms), "begin": first,
             "made_from": [file_hash(path) for path in inputs], "dtype": str(dtype)}
    if first >= settings.steps:
        raise ValueError(f"the run to go on from has {first} steps already, {settings.steps} are asked for; give more")
    with only_writer(output):
        if output.exists():
            return _checked(output, about)
        folder = output.with_name(output.name + ".segments")
        folder.mkdir(exist_ok=True)
        n_segments = -(-(settings.steps - first) // settings.segment)
        with tqdm(total=settings.steps, unit="step", disable=not progress, desc=output.stem, initial=first) as bar:
            state = begin or _start(atoms, settings)
            for n in range(n_segments):
                path = folder / f"{n:06d}.npz"
                if path.exists():
                    _same(path, read_arrays(path)[0], about)
                    state = end_state(path, atoms)
                else:
                    state = _segment(state, make_calculator(), settings, stop, path, about, first)
                bar.update(state.step - bar.n)
                bar.set_postfix_str(_speed(bar, settings), refresh=False)
                if state.stopped:
                    break
        _join(folder, output, about, state, inputs)
        shutil.rmtree(folder)
        return load_trajectory(output)


def _speed(bar, settings):
    rate = bar.format_dict["rate"]
    return f"{rate * settings.timestep * 86400e-6:.1f} ns/day" if rate else ""


@dataclass(frozen=True, eq=False)
class State:
    """All that a run needs to go on."""

    atoms: Atoms  # positions and momenta
    rng: np.random.Generator
    step: int = 0
    exchanged: float = 0.0  # eV, put in by the thermostat
    stopped: str = ""


def _start(atoms, settings):
    rng, atoms = np.random.default_rng(settings.seed), Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    atoms.set_constraint(FixCom())
    thermalize_momenta(atoms, settings.temperature, rng=rng)
    return State(atoms, rng)


def _segment(state, calculator, settings, stop, path, about, first):
    """Run from `state` to the end of its segment, or to where `stop` ends it, and write it -> state at its end."""
    atoms, rng = state.atoms.copy(), state.rng
    atoms.calc = calculator
    time = settings.timestep * units.fs
    md = (Bussi(atoms, time, temperature_K=settings.temperature, taut=settings.taut * units.fs, rng=rng)
          if settings.ensemble == "nvt" else VelocityVerlet(atoms, time))
    frames, end = [], min(settings.steps, state.step + settings.segment)
    try:
        for step in range(state.step, end + 1, settings.every):
            if step > state.step:
                md.run(settings.every)
            elif step > first:
                continue  # the frame that the segment before has ended with
            exchanged = state.exchanged + getattr(md, "transferred_energy", 0.0)
            frames.append((step, atoms.get_positions(), atoms.get_potential_energy(), atoms.get_kinetic_energy(),
                           exchanged))
            stopped = (stop(atoms) or "") if stop else ""
            if stopped:
                break
    except ValueError as error:  # what the potential says to atoms that have flown apart or into each other
        stopped = f"the potential refuses the atoms: {error}"
    if not frames and state.step == first:
        raise ValueError(f"{stopped}; there is not even a first frame: start from other atoms")
    if not frames:
        return replace(state, stopped=stopped)
    new = State(atoms, rng, frames[-1][0], frames[-1][4], stopped)
    _write_segment(path, new, frames, about)
    return new


def _write_segment(path, state, frames, about):
    names = ("step", "positions", "potential", "kinetic", "exchanged")
    header, end = stored_state(state)
    write_arrays(path, {**about, **header}, **end,
                 **{name: np.array(x) for name, x in zip(names, zip(*frames, strict=True), strict=True)})


def stored_state(state):
    """A `State` as it lies in files -> (header as plain values, arrays by name)."""
    return ({"rng": state.rng.bit_generator.state, "step": state.step, "exchanged": state.exchanged,
             "stopped": state.stopped},
            {"end_positions": state.atoms.get_positions(), "end_momenta": state.atoms.get_momenta()})


def end_state(path, atoms):
    """Where the run in the file at `path` has ended -> `State`. atoms: of the run, for elements and cell.

    ValueError if the file does not hold it.
    """
    header, arrays = read_arrays(path)
    if "rng" not in header or "end_momenta" not in arrays:
        raise ValueError(f"{path} does not hold the state at its end, so nothing can go on from there: run it again")
    rng = np.random.default_rng()
    rng.bit_generator.state = header["rng"]
    at_end = Atoms(atoms.numbers, arrays["end_positions"], cell=atoms.cell, pbc=True, constraint=FixCom())
    at_end.set_array("momenta", arrays["end_momenta"])  # as they were: set_momenta would apply the constraint again
    return State(at_end, rng, header["step"], header["exchanged"], header["stopped"])


def _same(path, header, about):
    inputs = list(header.get("made_by", {}).get("inputs", {}).values())  # all that older files say of their potential
    older = {"begin": 0, "made_from": inputs or about["made_from"], "dtype": "float64"}
    for name, value in about.items():
        found = {**older, **header}[name]
        if found != value:
            raise ValueError(f"{path} belongs to a run with {name} {found}, not {value}: remove it, or choose another "
                             "output")


def _join(folder, output, about, state, inputs):
    parts = [read_arrays(path)[1] for path in sorted(folder.glob("*.npz"))]
    join = {name: np.concatenate([part[name] for part in parts]) for name in
            ("step", "positions", "potential", "kinetic", "exchanged")}
    header, end = stored_state(state)
    header = {**about, **header, "made_by": provenance(inputs, about["settings"]["seed"])}
    start = join["positions"][0]
    # in units of 1e-4 A displacements fit into 32-bit integers, and their differences compress well
    moved = np.round((join["positions"] - start) * 1e4).astype(np.int32)
    write_arrays(output, header, **end, start=start, displacement=np.diff(moved, axis=0, prepend=moved[:1]),
                 cell=state.atoms.cell.array, numbers=state.atoms.numbers,
                 **{name: join[name] for name in ("step", "potential", "kinetic", "exchanged")})


def load_trajectory(path):
    """A finished run from its .npz -> `Trajectory`."""
    header, a = read_arrays(path)
    settings = MDSettings(**header["settings"])
    return Trajectory(a["start"] + np.cumsum(a["displacement"], axis=0) * 1e-4, a["step"] * settings.timestep,
                      a["potential"], a["kinetic"], a["potential"] + a["kinetic"] - a["exchanged"], a["numbers"],
                      a["cell"], settings, header["stopped"])


def _checked(path, about):
    _same(path, read_arrays(path)[0], about)
    return load_trajectory(path)


def add_md_arguments(parser):
    parser.add_argument("model", help="gap, es-gap, or the path of a stored model (see esgap.load_model)")
    parser.add_argument("start", help="extended XYZ; its first frame is where the run starts")
    parser.add_argument("output", help="trajectory to write, .npz")
    parser.add_argument("--ps", type=float, default=10.0, help="length (default 10 ps)")
    parser.add_argument("--repeat", type=int, nargs=3, default=(1, 1, 1), help="repeat the cell, e.g. 1 2 1")
    for name, unit in (("temperature", "K"), ("timestep", "fs"), ("taut", "fs"), ("every", "steps"),
                       ("segment", "steps"), ("seed", "integer")):
        default = getattr(MDSettings, name)
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"{unit} (default {default})")
    parser.add_argument("--ensemble", choices=("nvt", "nve"), default="nvt")
    parser.add_argument("--single", action="store_true", help="products with the sparse points in single precision")


def md_command(args):
    """python -m esgap md: one trajectory; the same command goes on after a kill."""
    steps = args.every * round(1e3 * args.ps / (args.timestep * args.every))
    names = ("temperature", "timestep", "ensemble", "taut", "every", "segment", "seed")
    settings = MDSettings(steps, **{name: getattr(args, name) for name in names})
    atoms = read_frames(args.start)[0] * tuple(args.repeat)
    path, dtype = model_path(args.model), "float32" if args.single else "float64"
    trajectory = run(atoms, lambda: load_model(path, skin=SKIN, dtype=np.dtype(dtype)), settings, args.output,
                     inputs=[path, args.start], dtype=dtype)
    if trajectory.stopped:
        print(f"stopped after {trajectory.time[-1] / 1e3:.2f} ps: {trajectory.stopped}")
    print(f"{args.output}: {len(trajectory)} frames, {trajectory.temperature.mean():.0f} K on average")
    return 1 if trajectory.stopped else 0
