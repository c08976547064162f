"""Two hops in a row that carry lithium to the next cell and leave it there: found in kept runs, proved by relaxation.

One ion that arrives on the site of its own copy finds it empty only if others have moved, too. So all ions are where
MD has them (means over some 300 fs), the framework at its mean positions, and of the calmest pairs of hops those count
whose ion, relaxed with every potential, still is a whole lattice vector away; of these that of which fewest other ions
have changed places.
Units: A, fs.
"""
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from ase.optimize import LBFGS

from .hop_choice import SHORTEST, THROUGH
from .hops import hops_of_paths
from .store import read_frames, write_frames

AVERAGE = 300.0  # fs before and after a hop
ELSEWHERE = 1.0  # A from where it was: an ion that has changed places
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


@dataclass(frozen=True, eq=False)
class Relaxed:
    """A candidate after relaxation with one potential."""

    carried: float  # lattice vectors, of the hopping ion
    steps: tuple  # A, of its two hops
    others: tuple  # ions that have changed places, indices


def candidates(runs, vector, shortest=SHORTEST):
    """Consecutive hops of one ion that carry it along a lattice vector (3,) in A, in kept runs of a cell that holds
    several -> list of `Candidate`, the calmest first."""
    out = []
    for run in runs:
        cell, of_ion = run.mean.cell.array, {}
        for hop in sorted(hops_of_paths(run.paths, run.ions, run.time, cell).hops,
                          key=lambda h: h.start_frame):
            of_ion.setdefault(hop.ion, []).append(hop)
        for pair in (pair for hops in of_ion.values() for pair in pairwise(hops)):
            steps = [hop.displacement for hop in pair]
            if _whole(along(sum(steps), cell, vector)) and min(map(np.linalg.norm, steps)) >= shortest:
                out.append(_candidate(run, pair))
    return sorted(out, key=lambda c: c.unrest)


def along(displacement, cell, vector):
    """Part of a displacement (3,) along a lattice vector (3,) of which the cell (3, 3) is a multiple, in its lengths;
    parts along the other lattice vectors do not count."""
    inverse = np.linalg.inv(cell)
    one = vector @ inverse
    return float(displacement @ inverse @ one / (one @ one))


def _whole(number):
    return THROUGH <= abs(number) <= 2 - THROUGH


def _candidate(run, pair):
    n = max(1, round(AVERAGE / (run.timestep * 1e3)))
    first, second = pair
    spans = ((max(0, first.start_frame - n), first.start_frame),
             (first.end_frame, min(first.end_frame + n, second.start_frame)),
             (second.end_frame, second.end_frame + n))
    frames = []
    for begin, end in spans:
        atoms = run.mean.copy()
        atoms.positions[run.ions] = run.paths[begin:end + 1].mean(0)
        frames.append(atoms)
    moved = frames[2].positions - frames[0].positions
    moved[first.ion] = 0.0
    return Candidate(run, tuple(pair), tuple(frames), float(np.linalg.norm(moved)))


def relaxed(candidate, calculator, vector, fmax=RELAXED, max_steps=500):
    """`Relaxed` of a `Candidate` with an ASE calculator; None if a frame is not at rest after `max_steps`."""
    places = []
    for frame in candidate.frames:
        atoms = frame.copy()
        atoms.calc = calculator
        with LBFGS(atoms, logfile=None, maxstep=0.1) as minimiser:
            if not minimiser.run(fmax=fmax, steps=max_steps):
                return None
        places.append(atoms.positions)
    ion, moved = candidate.ion, places[2] - places[0]
    elsewhere = np.flatnonzero(np.linalg.norm(moved, axis=1) > ELSEWHERE)
    steps = tuple(float(np.linalg.norm((b - a)[ion])) for a, b in pairwise(places))
    return Relaxed(along(moved[ion], atoms.cell.array, vector), steps,
                   tuple(int(k) for k in elsewhere if k != ion))


def chosen(found, calculators, vector, most=10, shortest=SHORTEST, progress=print):
    """Of the `most` calmest `Candidate`s that which carries its ion a whole lattice vector with every calculator
    {label: ASE calculator} while fewest others change places -> (`Candidate`, {label: `Relaxed`}).

    ValueError if there is none.
    """
    kept = []
    for candidate in found[:most]:
        of = {label: relaxed(candidate, calc, vector) for label, calc in calculators.items()}
        progress(f"{candidate.run.model}, seed {candidate.run.seed}, {candidate.hops[0]}: "
                 + "; ".join(f"{label} {r.carried:+.2f}, with {len(r.others)} others" if r else f"{label} not at rest"
                             for label, r in of.items()))
        if all(r and _whole(r.carried) and min(r.steps) >= shortest for r in of.values()):
            kept.append((candidate, of))
    if not kept:
        raise ValueError(f"of {min(most, len(found))} pairs of hops none, once relaxed, carries its ion "
                         f"{np.round(vector, 2).tolist()} A: try more of them, or longer runs")
    return min(kept, key=lambda pair: sum(len(r.others) for r in pair[1].values()))


def add_traversal(ends, runs, calculators, vector, most=10):
    """Add the ends of the two hops that are `chosen` to the frames in `ends` (extended XYZ), as hops of the next
    numbers, unless some are there that were chosen so -> whether they were added.

    runs: {file name: list of `mobility.LithiumRun`}.
    """
    frames = read_frames(ends) if ends.exists() else []
    if any(a.info.get("relaxed_through") for a in frames):
        return False
    all_runs = {id(run): name for name, of in runs.items() for run in of}
    candidate, of = chosen(candidates([r for several in runs.values() for r in several], vector), calculators, vector,
                           most)
    number = 1 + max((int(a.info["name"].split("-")[1]) for a in frames), default=-1)
    inverse, lengths = np.linalg.inv(candidate.run.mean.cell), candidate.run.mean.cell.lengths()
    for k, hop in enumerate(candidate.hops):
        about = {"ion": hop.ion, "length": float(np.linalg.norm(hop.displacement)),
                 "along": hop.displacement @ inverse * lengths, "times": 1,
                 "sampled_by": f"{all_runs[id(candidate.run)]}, seed {candidate.run.seed}",
                 "moved_with": "+".join(map(str, hop.moved_with)) or "none",
                 "after": f"hop-{number}" if k else "none", "relaxed_through": min(abs(r.carried) for r in of.values())}
        for atoms, which in zip(candidate.frames[k:k + 2], ("start", "end"), strict=True):
            atoms = atoms.copy()
            atoms.info = {"name": f"hop-{number + k}-{which}", **about}
            frames.append(atoms)
    write_frames(ends, frames)
    return True
