"""Perfect and defective cells relaxed at every field, from zero outward and back; killed at any moment, it goes on.

    U = E_model - E . sum_i q_i (r_i - r_i^ref), r^ref: the perfect crystal as given, for every cell and field alike

(`UniformField`; q: the charges in the model's own energy, zero for a GAP, which is then relaxed in the field like any
other.) The cells are neutral and hold the same atoms, so formation energies do not depend on r^ref. Each point starts
from the relaxed positions of its neighbour nearer to zero on the way "out", farther from zero on the way "back": if the
two differ, there is hysteresis. A pair that is gone at zero field is not taken through the field.
Held points keep all atoms but the moved ion at the positions of the relaxed perfect cell: the pair without relaxation
of its surroundings.

Each point, relaxed, is on disk before those that start from it: `<output>` (extended XYZ) with what is common to all in
`<output>.json`. A calculator is made anew for each point, so that nothing depends on what was computed before.
Units: A, eV, V/A.
"""
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from ase.calculators.calculator import CalculatorError
from tqdm import tqdm

from .calculators import UniformField, es_gap
from .frenkel import FrenkelPair, direction_vector, model_charges, perfect_cell, relax, what_became_of
from .reference import dask_client
from .store import FrameStore, only_writer, read_record, structure_hash, write_record


@dataclass(frozen=True)
class Point:
    """One relaxation: a cell (pair None: perfect) in a field of `strength` >= 0 along (side "+") or against."""

    repeat: tuple
    pair: FrenkelPair | None
    direction: str = ""
    side: str = ""
    strength: float = 0.0  # V/A
    leg: str = "out"       # or "back", "held"

    @property
    def name(self):
        cell = "x".join(map(str, self.repeat)) + "/" + (self.pair.name if self.pair else "perfect")
        field = f"{self.direction}{self.side}{self.strength:.4f}" if self.direction else "0"
        return f"{cell}/{field}/{self.leg}"

    def field(self, crystal):
        """Field vector (3,), V/A."""
        if not self.direction:
            return np.zeros(3)
        sign = {"+": 1.0, "-": -1.0}[self.side]
        return sign * self.strength * direction_vector(self.direction, crystal.cell)


def plan(pairs, repeats, directions=(), field_max=0.3, n_points=9, held=True):
    """All points of a sweep, each with the one whose relaxed positions it starts from -> {Point: Point or None}.

    directions: x, y, z, a, b, c or vectors "1,1,0"; n_points fields from -field_max to field_max (V/A), an odd number.
    """
    if directions and (n_points < 3 or n_points % 2 == 0):
        raise ValueError(f"n_points is {n_points}; it must be odd and at least 3, so that zero is one of them")
    if directions and not field_max > 0:
        raise ValueError(f"field_max is {field_max} V/A; it must be positive")
    strengths = [round(float(s), 6) for s in np.linspace(0, field_max, n_points // 2 + 1)[1:]]
    starts = {}
    for repeat in map(tuple, repeats):
        perfect = Point(repeat, None)
        for pair in (None, *pairs):
            zero = Point(repeat, pair)
            starts[zero] = None
            if pair is not None and held:
                starts[Point(repeat, pair, leg="held")] = perfect
            for direction in directions:
                for side in "+-":
                    last = zero
                    way = [(s, "out") for s in strengths] + [(s, "back") for s in [*strengths[-2::-1], 0.0]]
                    for strength, leg in way:
                        point = Point(repeat, pair, direction, side, strength, leg)
                        starts[point], last = last, point
    return starts


@dataclass(frozen=True)
class SweepReport:
    """What a run did: numbers of points, and what stands in the way of the others as (name, reason)."""

    output: str
    done_before: int
    done_now: int
    gone: tuple    # pairs that did not survive the relaxation at zero field
    failed: tuple  # points that could not be relaxed; with more steps they are tried again

    def __str__(self):
        text = f"{self.output}: {self.done_now} points relaxed now, {self.done_before} before"
        for name, reason in (*self.gone, *self.failed):
            text += f"\n{name}: {reason}"
        return text


def sweep(crystal, make_calculator, starts, output, model, fmax=0.01, max_steps=500, workers=0, scheduler=None,
          progress=True, inputs=()):
    """Relax the points of `plan` that `output` (.xyz) does not hold yet -> SweepReport.

    make_calculator() gives a new ASE calculator of the potential; `model` says in words which it is. workers,
    scheduler: as in `reference.label_file` (0: in this process). Chains of points are independent of each other.
    ValueError if `output` is of another crystal, model or fmax.
    """
    output = Path(output)
    if output.suffix != ".xyz":
        raise ValueError(f"{output} does not end in .xyz: relaxed structures are written as extended XYZ")
    reference = f"{model}, fmax {fmax:g}, crystal {structure_hash(perfect_cell(crystal, (1, 1, 1)))}"
    task = _Task(crystal, make_calculator, reference, fmax, max_steps)
    for point in starts:  # what is wrong with the input is said before anything is computed
        point.field(crystal)
        if not point.direction:
            task.start(point)
    charges = model_charges(make_calculator(), crystal.symbols)
    with only_writer(output, output.with_suffix(".json")):
        store = FrameStore(output, lambda a: str(a.info["name"]))
        _refuse_others(store, reference)
        record = output.with_suffix(".json")
        old = read_record(record) if store.frames else {}
        about = _about(starts, crystal, model, charges, fmax, old)
        write_record(record, about, inputs)
        before = sum(p.name in store for p in starts)
        failed = {p: about["failed"][p.name][1] for p in starts  # as many steps would fail again
                  if p.name in about["failed"] and about["failed"][p.name][0] >= max_steps}
        with tqdm(total=len(starts), initial=before, unit="point", disable=not progress) as bar:
            for point, atoms, reason in _results(lambda: _ready(starts, store, failed), task, workers, scheduler):
                if atoms is None:
                    failed[point], about["failed"][point.name] = reason, (max_steps, reason)
                    write_record(record, about, inputs)
                else:
                    store.add(atoms)
                    bar.update()
        store.merge([p.name for p in starts])
    gone = [(p.name, _gone(p, store)) for p in starts if p.pair and not p.direction and p.leg == "out"]
    return SweepReport(str(output), before, sum(p.name in store for p in starts) - before,
                       tuple(g for g in gone if g[1]), tuple((p.name, r) for p, r in failed.items()))


def _about(starts, crystal, model, charges, fmax, old):
    """What is needed to read the frames, and what failed, with the steps allowed; what earlier sweeps (`old`) of the
    same file have found stays in."""
    pairs = {p.pair.name: {**asdict(p.pair), "vector": p.pair.vector(crystal)} for p in starts if p.pair}
    directions = {p.direction: direction_vector(p.direction, crystal.cell) for p in starts if p.direction}
    return {"model": model, "charges": charges, "fmax": fmax, "directions": old.get("directions", {}) | directions,
            "pairs": old.get("pairs", {}) | pairs, "failed": dict(old.get("failed", {}))}


def _refuse_others(store, reference):
    for name, atoms in store.frames.items():
        if atoms.info["reference"] != reference:
            raise ValueError(f"{store.path} holds {name!r} of {atoms.info['reference']!r}, not of {reference!r}: "
                             "choose another output")


def _gone(point, store):
    """What became of the pair of `point` at zero field; "" while it is there, None if that is not known yet."""
    pair, perfect = Point(point.repeat, point.pair).name, Point(point.repeat, None).name
    if pair not in store or perfect not in store:
        return None
    return what_became_of(point.pair, store.frames[pair], store.frames[perfect])


def _ready(starts, store, failed):
    """Points that can be relaxed now, each with the atoms it starts from (None: not relaxed ones)."""
    for point, start in starts.items():
        if point.name in store or point in failed or (start is not None and start.name not in store):
            continue
        if point.direction and point.pair and _gone(point, store) != "":
            continue
        yield point, start and store.frames[start.name]


def _results(ready, task, workers, scheduler):
    """(point, atoms or None, reason or None) as they finish; `ready` is asked again after each."""
    if workers == 0 and scheduler is None:
        while (first := next(ready(), None)) is not None:
            yield first[0], *task(*first)
        return
    from dask.distributed import wait

    with dask_client(workers, scheduler, own_cores=True) as client:
        running = {}
        while True:
            for point, start in ready():
                if point not in running.values():
                    running[client.submit(task, point, start, pure=False)] = point
            if not running:
                return
            for future in wait(list(running), return_when="FIRST_COMPLETED").done:
                point = running.pop(future)
                error = future.exception() if future.status == "error" else None
                yield point, *((None, f"the worker failed: {error}") if error else future.result())


@dataclass(frozen=True)
class _Task:
    """Relaxes one point; can be sent to a worker."""

    crystal: object
    make_calculator: object
    reference: str
    fmax: float
    max_steps: int

    def start(self, point, relaxed=None):
        """The atoms that a point starts from, given those of its predecessor."""
        if point.leg == "held" and relaxed is not None:
            atoms = perfect_cell(self.crystal, point.repeat)
            moved = point.pair.cell(self.crystal, point.repeat).positions - atoms.positions
            atoms.positions = relaxed.positions + moved  # the interstitial site moves with the site it came from
            return atoms
        if relaxed is not None:
            return relaxed
        return (point.pair.cell(self.crystal, point.repeat) if point.pair else
                perfect_cell(self.crystal, point.repeat))

    def __call__(self, point, relaxed):
        """(relaxed atoms, None) or (None, reason): one point that fails must not stop the others."""
        atoms = perfect_cell(self.crystal, point.repeat)
        model = self.make_calculator()
        charges = model_charges(model, atoms.symbols)
        field = point.field(self.crystal)
        potential = es_gap(model, UniformField(field, charges, reference=atoms))
        atoms.positions = self.start(point, relaxed).positions
        try:
            relaxed = relax(atoms, potential, self.fmax, self.max_steps,
                            only=point.pair.vacancy if point.leg == "held" else None)
        except (ValueError, RuntimeError, CalculatorError) as error:  # atoms that collide; too few steps
            return None, f"{type(error).__name__}: {error}"
        relaxed.info.update(name=point.name, reference=self.reference)
        return relaxed, None
