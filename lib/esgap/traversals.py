"""python -m esgap traversals: two hops in a row that carry an ion to the next cell, and what else moves with them.

One ion that arrives on the site of its own copy finds it empty only if others have left. So all ions are taken from
where MD has them, the framework at its mean positions, and everything is relaxed: before, between and after the two
hops, and every 0.2 ps from before to after. Minima of the energy along the way (inherent structures, F. H. Stillinger
and T. A. Weber, Phys. Rev. A 25, 978 (1982)) tell whether one ion hops among others at rest, or all rearrange.
Runs are kept ones (`mobility`) of a cell that holds several unit cells: in one, all copies of an ion hop with it.
Units: A, eV, fs.
"""
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from ase.optimize import LBFGS

from .hop_choice import SHORTEST, THROUGH, along, consecutive
from .hops import hops_of_paths
from .mobility import load_runs_of
from .models import LABELS, load_model, model_path
from .store import data_path, file_hash, only_writer, read_record, write_record
from .structures import crystal

FILE = "runs/traversals.json"  # of the data
AVERAGE = 300.0  # fs before and after a hop
BETWEEN = 200.0  # fs between frames that are relaxed on the way, or close to it
ELSEWHERE = 1.0  # A from where it was: an ion that has changed places
SAME = 0.6  # A, minima in which no ion is farther from where it was are one
RELAXED = 0.03  # eV/A, largest force: near enough to tell minima apart


@dataclass(frozen=True, eq=False)
class Candidate:
    """Two consecutive hops of one ion in a kept run."""

    run: object = field(repr=False)  # `mobility.LithiumRun`
    hops: tuple  # two `hops.Hop`s
    frames: tuple = field(repr=False)  # Atoms before, between and after
    unrest: float  # A, root of the summed squares of what other ions move

    @property
    def ion(self):
        """Index among all atoms."""
        return self.hops[0].ion

    def along_the_way(self):
        """Atoms every BETWEEN fs from before the first hop to after the second."""
        step = max(1, round(BETWEEN / (self.run.timestep * 1e3)))
        first, last = max(0, self.hops[0].start_frame - step), self.hops[1].end_frame + step
        for t in range(first, min(last + 1, len(self.run.paths)), step):
            yield _with_ions(self.run, self.run.paths[t])


@dataclass(frozen=True)
class Relaxed:
    """A candidate after relaxation with one potential."""

    carried: float  # lattice vectors, of the hopping ion
    steps: tuple  # A, of its two hops
    others: int  # how many other ions have changed places in the end
    energies: tuple  # eV, between and after the hops, above that before
    frames: int  # relaxed on the way
    minima: int  # how many of them are another minimum than the one before
    moved: float  # how many ions move by more than ELSEWHERE from one of them to the next, mean

    @property
    def through(self):
        """Whether the ion still is in the next cell."""
        return _whole(self.carried)


def candidates(runs, vector, shortest=SHORTEST):
    """Consecutive hops of one ion that carry it along a lattice vector (3,) in A, in kept runs of a cell that holds
    several -> list of `Candidate`, the calmest first."""
    out = []
    for run in runs:
        cell = run.mean.cell.array
        found = hops_of_paths(run.paths, run.ions, run.time, cell).hops
        out += [_candidate(run, pair) for pair, part in consecutive(found, cell, vector, shortest) if _whole(part)]
    return sorted(out, key=lambda c: c.unrest)


def _whole(number):
    return THROUGH <= abs(number) <= 2 - THROUGH


def _with_ions(run, positions):
    atoms = run.mean.copy()
    atoms.positions[run.ions] = positions
    return atoms


def _candidate(run, pair):
    n = max(1, round(AVERAGE / (run.timestep * 1e3)))
    first, second = pair
    spans = ((max(0, first.start_frame - n), first.start_frame),
             (first.end_frame, min(first.end_frame + n, second.start_frame)),
             (second.end_frame, second.end_frame + n))
    frames = tuple(_with_ions(run, run.paths[begin:end + 1].mean(0)) for begin, end in spans)
    moved = frames[2].positions - frames[0].positions
    moved[first.ion] = 0.0
    return Candidate(run, tuple(pair), frames, float(np.linalg.norm(moved)))


def relaxed(candidate, calculator, vector, fmax=RELAXED, max_steps=500):
    """`Relaxed` of a `Candidate` with an ASE calculator; RuntimeError if a frame is not at rest after `max_steps`."""
    ions, ion = candidate.run.ions, candidate.ion
    places, energies = zip(*(_at_rest(a, calculator, fmax, max_steps) for a in candidate.frames), strict=True)
    elsewhere = changed(places[0], places[2], ions)
    all_places = [_at_rest(a, calculator, fmax, max_steps)[0] for a in candidate.along_the_way()]
    on_the_way = []
    for place in all_places:
        if not on_the_way or np.linalg.norm(place - on_the_way[-1], axis=1)[ions].max() > SAME:
            on_the_way.append(place)
    moved = [len(changed(a, b, ions)) for a, b in pairwise(on_the_way)]
    return Relaxed(along((places[2] - places[0])[ion], candidate.run.mean.cell.array, vector),
                   tuple(float(np.linalg.norm((b - a)[ion])) for a, b in pairwise(places)),
                   len(elsewhere - {ion}), tuple(float(e - energies[0]) for e in energies[1:]), len(all_places),
                   len(on_the_way), float(np.mean(moved)) if moved else 0.0)


def _at_rest(atoms, calculator, fmax, max_steps):
    """Positions and energy at the next minimum."""
    atoms = atoms.copy()
    atoms.calc = calculator
    with LBFGS(atoms, logfile=None, maxstep=0.1) as minimiser:
        if not minimiser.run(fmax=fmax, steps=max_steps):
            raise RuntimeError(f"a frame is not at rest after {max_steps} steps: allow more")
    return atoms.positions, atoms.get_potential_energy()


def changed(before, after, ions):
    """Those of `ions` (indices) that have changed places between positions (n, 3) -> set."""
    return {int(k) for k in ions if np.linalg.norm(after[k] - before[k]) > ELSEWHERE}


def stored(path=None):
    """Rows of the record that the command wrote -> list of dicts, in which `relaxed` is {label: `Relaxed`}."""
    rows = read_record(data_path(FILE) if path is None else path)["rows"]
    return [{**row, "relaxed": {label: Relaxed(**{**r, "steps": tuple(r["steps"]), "energies": tuple(r["energies"])})
                                for label, r in row["relaxed"].items()}} for row in rows]


def table(rows):
    """Markdown table of `stored` rows; behind the hops each cell holds the numbers of both potentials."""
    head = ["run of", "ion", "hops (Å)", "carried", "others elsewhere", "minima on the way", "moved between them"]
    out = ["| " + " | ".join(head) + " |", "|:--|" + "--:|" * (len(head) - 1)]
    for row in rows:
        of = list(row["relaxed"].values())
        both = ([f"{abs(r.carried):.2f}" for r in of], [str(r.others) for r in of], [str(r.minima) for r in of],
                [f"{r.moved:.1f}" for r in of])
        cells = [row["model"], str(row["ion"]), ", ".join(f"{x:.1f}" for x in row["hops"]), *map(", ".join, both)]
        out.append("| " + " | ".join(cells) + " |")
    return "\n".join(out)


def add_traversals_arguments(parser):
    parser.add_argument("runs", nargs="+", help="kept runs of a repeated cell, data/runs/mobility/*.npz")
    parser.add_argument("--models", nargs=2, default=["gap", "es-gap"], metavar=("GAP", "ES-GAP"),
                        help="names or paths of stored models (default: gap es-gap)")
    parser.add_argument("--along", choices=tuple("abc"), default="b", help="lattice vector (default b)")
    parser.add_argument("--most", type=int, default=10, help="pairs of hops to relax, the calmest (default 10)")
    parser.add_argument("--output", type=Path, default=data_path(FILE), help="record to write, .json")


def traversals_command(args):
    """The same command goes on after a kill."""
    vector = crystal().cell["abc".index(args.along)]
    models = {label: model_path(name) for name, label in zip(args.models, LABELS.values(), strict=True)}
    runs = {id(run): (Path(path).name, run) for path in args.runs for run in load_runs_of(path)}
    found = candidates([run for _, run in runs.values()], vector)
    if not found:
        raise ValueError(f"no ion of {len(runs)} runs goes to the next cell along {args.along} in two hops: give "
                         "longer runs, of a repeated cell")
    about = {"along": args.along, "fmax": RELAXED, "n_runs": len(runs), "n_found": len(found),
             "n_ions": len(found[0].run.ions),
             "ps": sum(run.length for _, run in runs.values()),
             "identity": sorted(map(file_hash, [*args.runs, *models.values()]))}
    with only_writer(args.output):
        old = read_record(args.output) if args.output.exists() else {}
        done = {_key(row): row for row in old.get("rows", [])} if old.get("identity") == about["identity"] else {}
        rows, calculators = [], {label: load_model(path) for label, path in models.items()}
        for c in found[:args.most]:
            row = {"file": runs[id(c.run)][0], "model": c.run.model, "seed": c.run.seed, "ion": c.ion,
                   "frames": [c.hops[0].start_frame, c.hops[1].end_frame], "unrest": c.unrest,
                   "hops": [float(np.linalg.norm(h.displacement)) for h in c.hops]}
            row = done.get(_key(row)) or {**row, "relaxed": {
                label: vars(relaxed(c, calc, vector)) for label, calc in calculators.items()}}
            rows.append(row)
            write_record(args.output, {**about, "rows": rows}, [*args.runs, *models.values()])
    print(table(stored(args.output)))
    return 0


def _key(row):
    return row["file"], row["seed"], row["ion"], tuple(row["frames"])
