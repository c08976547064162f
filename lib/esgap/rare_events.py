"""What a stable run hardly ever does: P-S bonds that open, Li ions that collide. Frames of it, labelled and judged.

A potential has seen little of this, and a run of a nanosecond goes through it many times; the frames test whether it
is then still right. One frame of each event, the most extreme one. What decides over the event is the force between
the two atoms: (f_j - f_i) . (r_j - r_i) / 2 |r_j - r_i|, positive if it drives them apart.
Units: A, fs.
"""
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.geometry import find_mic

from .dynamics import load_trajectory
from .models import LABELS, model_path
from .sampling import Trust
from .stability import broken_bonds
from .store import file_hash, read_arrays, read_record
from .structures import crystal, ps_bonds

CONTACT = 2.2  # A between Li; 2.4 is the closest that the training set begins with
APART = 500.0  # fs between events
NAMES = {"bond": "P–S", "contact": "Li–Li"}


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


@dataclass(frozen=True, eq=False)
class Judged:
    """A labelled event and what potentials say of it; `pull` begins with what DFT says."""

    kind: str
    model: str  # in whose run it happened
    value: float  # A
    pull: dict  # {label: eV/A} between the two atoms, positive: apart
    energy: dict  # {label: eV} of the cell above DFT's, less what it is on usual frames
    force: dict  # {label: eV/A} rms error of a component


def judged(frames, calculators, usual, start=None):
    """Labelled frames of events against potentials {label: ASE calculator} -> list of `Judged`.

    usual: labelled frames, on which the energies of a potential are right on average by definition. -> also the rms of
    the energies (eV) and of the force errors (eV/A) there, {label: (eV, eV/A)}
    """
    bonds, found = ps_bonds(start or crystal()), []
    usually = {label: _errors(calc, usual) for label, calc in calculators.items()}
    there = {label: _errors(calc, frames) for label, calc in calculators.items()}
    for k, atoms in enumerate(frames):
        pair = _pair(atoms, atoms.info["kind"], bonds)
        pull = {"DFT": _pull(atoms, pair, atoms.get_forces())}
        pull |= {label: _pull(atoms, pair, e.forces[k] + atoms.get_forces()) for label, e in there.items()}
        energy = {label: float(e.energies[k] - usually[label].energies.mean()) for label, e in there.items()}
        force = {label: float(np.sqrt((e.forces[k] ** 2).mean())) for label, e in there.items()}
        found.append(Judged(atoms.info["kind"], LABELS.get(atoms.info["model"], atoms.info["model"]),
                            float(atoms.info["value"]), pull, energy, force))
    spread = {label: (float(e.energies.std(ddof=1)), float(np.sqrt(np.mean([(f**2).mean() for f in e.forces]))))
              for label, e in usually.items()}
    return found, spread


@dataclass(frozen=True, eq=False)
class _Errors:
    energies: np.ndarray  # (n,) eV
    forces: list  # (n_atoms, 3) eV/A each


def _errors(calculator, frames):
    energies, forces = [], []
    for atoms in frames:
        bare = Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=True, calculator=calculator)
        energies.append(bare.get_potential_energy() - atoms.get_potential_energy())
        forces.append(bare.get_forces() - atoms.get_forces())
    return _Errors(np.array(energies), forces)


def _pair(atoms, kind, bonds):
    """(i, j, vector from i to j in A) of the longest bond or of the closest Li."""
    if kind == "bond":
        i, j = bonds.i, bonds.j
    else:
        ions = np.flatnonzero(atoms.symbols == "Li")
        i, j = (ions[k] for k in np.triu_indices(len(ions), 1))
    vectors, lengths = find_mic(atoms.positions[j] - atoms.positions[i], atoms.cell)
    k = lengths.argmax() if kind == "bond" else lengths.argmin()
    return i[k], j[k], vectors[k]


def _pull(atoms, pair, forces):
    i, j, vector = pair
    return float((forces[j] - forces[i]) @ vector / np.linalg.norm(vector) / 2)


def table(found, spread):
    """Markdown table of `judged`: one row an event, and one of the usual frames."""
    labels = list(spread)
    rows = ["| pair | run of | Å | " + " | ".join(f"pull, {label} (eV/Å)" for label in ("DFT", *labels)) + " | "
            + " | ".join(f"energy error, {label} (meV)" for label in labels) + " | "
            + " | ".join(f"force error, {label} (meV/Å)" for label in labels) + " |",
            "|:--|:--|" + "--:|" * (2 + 3 * len(labels))]
    for e in found:
        cells = [f"{e.pull[label]:+.2f}" for label in ("DFT", *labels)]
        cells += [f"{1e3 * e.energy[label]:+.0f}" for label in labels]
        cells += [f"{1e3 * e.force[label]:.0f}" for label in labels]
        rows.append(f"| {NAMES[e.kind]} | {e.model} | {e.value:.2f} | {' | '.join(cells)} |")
    cells = ["–"] * (2 + len(labels)) + [f"± {1e3 * spread[label][0]:.0f}" for label in labels]
    cells += [f"{1e3 * spread[label][1]:.0f}" for label in labels]
    return "\n".join([*rows, f"| usual frames | both | {' | '.join(cells)} |"])
