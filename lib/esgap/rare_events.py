"""What a stable run hardly ever does: P-S bonds that open, Li ions that collide. Frames of it, to be labelled.

A potential has seen little of this, and a run of a nanosecond goes through it many times; the frames test whether it
is then still right. One frame of each event, the most extreme one.
Units: A, fs.
"""
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.geometry import find_mic

from .dynamics import load_trajectory
from .models import LABELS, model_path
from .sampling import Trust
from .stability import broken_bonds
from .store import file_hash, read_arrays, read_record
from .structures import crystal

CONTACT = 2.2  # A between Li; 2.4 is the closest that the training set begins with
APART = 500.0  # fs between events


@dataclass(frozen=True)
class Event:
    """A moment of a run: kind "bond" or "contact", the frame, and how long the bond or how short the contact is (A)."""

    kind: str
    frame: int
    value: float


def nearest(trajectory, element="Li"):
    """Shortest distance (n_frames,) in A between two ions of an element, images included."""
    ions = np.flatnonzero(trajectory.atoms(0).symbols == element)
    i, j = np.triu_indices(len(ions), 1)
    return np.array([find_mic(r[ions[j]] - r[ions[i]], trajectory.cell)[1].min() for r in trajectory.positions])


def events(trajectory, start, bond=Trust.bond, contact=CONTACT, apart=APART):
    """Events of a `dynamics.Trajectory` in order of time -> list of `Event`. start: Atoms with the bonds that should
    last; bond, contact: A, limits; what lies less than `apart` fs from one event belongs to it."""
    longest, closest = broken_bonds(trajectory, start=start)[0], nearest(trajectory)
    found = []
    for kind, value, excess in (("bond", longest, longest - bond), ("contact", closest, contact - closest)):
        beyond = np.flatnonzero(excess > 0)
        groups = np.split(beyond, np.flatnonzero(np.diff(trajectory.time[beyond]) > apart) + 1)
        for frame in (group[excess[group].argmax()] for group in groups if len(group)):
            found.append(Event(kind, int(frame), float(value[frame])))
    return sorted(found, key=lambda event: event.frame)


def rare_frames(paths, n_frames, models=tuple(LABELS), start=None):
    """Most extreme events of the trajectories `paths` of `models` -> list of Atoms, at most n_frames, as many of each
    model as there are, the kinds in turn. start: Atoms with the bonds that should last (default: the crystal).

    ValueError if a trajectory is of none of the models, or if nothing has happened.
    """
    start, of_model = start or crystal(), {file_hash(model_path(m)): Path(m).stem for m in models}
    found = {}
    for path in map(Path, paths):
        known = [of_model[h] for h in read_arrays(path)[0].get("made_from", ()) if h in of_model]
        if not known:
            raise ValueError(f"{path} was made with none of {', '.join(models)}: give the models it was made with")
        run = load_trajectory(path)
        for event in events(run, start):
            found.setdefault((known[0], event.kind), []).append((event, run, path.stem))
    if not found:
        raise ValueError(f"no bond opens and no ions collide in {', '.join(map(str, paths))}: give longer runs")
    for (_, kind), of in found.items():
        of.sort(key=lambda entry: entry[0].value, reverse=kind == "bond")
    turns = sorted((n, key) for key, of in found.items() for n in range(len(of)))
    return [_frame(key, n, *found[key][n]) for n, key in turns[:n_frames]]


def _frame(key, n, event, run, name):
    (model, kind), atoms = key, run.atoms(event.frame)
    atoms.info = {"name": f"rare-{model}-{kind}-{n:02d}", "config_type": "test-rare", "model": model, "kind": kind,
                  "value": round(event.value, 3), "run": name, "time": float(run.time[event.frame]),
                  "temperature": run.settings.temperature, "model_energy": float(run.potential[event.frame]),
                  "model_generation": read_record(model_path(model).with_suffix(".json")).get("generation")}
    atoms.wrap()
    return atoms
