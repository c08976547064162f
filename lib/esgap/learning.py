"""Errors of GAP and ES-GAP generation by generation, on frames neither was trained on.

Each generation is fitted again exactly as in the loop (`generations.PairFit`), so older models need not be kept:

    train    ordinary frames of the training set
    ahead    frames of the next generation: what the model met when it was set to work, before it learned from them
    others   labelled files that are given, such as independent trajectories of the final models

`python -m esgap weights` fits the last generation again with other weights for the forces on an element: force
components of element e count 1/sigma_e^2, and stoichiometric weights make the sums over a cell equal for Li, P and S,
sigma_e = sigma sqrt(N_e / mean N). Units: eV/A, meV/atom.
"""
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .calculators import ElectrostaticBaseline
from .charges import fitted_charges, qeq_exponents
from .convergence import fit_pair
from .generations import SETTINGS
from .models import LABELS
from .store import data_path, file_hash, only_writer, read_frames, read_record, write_record
from .training import read_generations
from .validation import KINDS, held_out_errors, mark_short_contacts

NAMES = tuple(LABELS.values())
DIGITS = 6


def labelled_files(folder, initial, n_generations=None):
    """Paths of the labelled files of the finished generations of a loop, the initial one first."""
    n = len(read_generations(folder)) if n_generations is None else n_generations + 1
    if not n:
        raise ValueError(f"{folder} has no finished generation: run `python -m esgap train` first")
    return [Path(initial), *(Path(folder) / f"gen{g}.xyz" for g in range(1, n))]


def fitted_pair(frames, settings=SETTINGS, charges=None, design=None, progress=False):
    """GAP and ES-GAP on the same frames -> ({name: Fit}, {name: calculator with baseline}, baseline).

    charges: e by element, those of the locality test unless given. Short contacts are marked as in the loop.
    """
    baseline = ElectrostaticBaseline(charges or fitted_charges()[0], qeq_exponents())
    return *fit_pair(mark_short_contacts(frames), settings, baseline, progress, design), baseline


def ordinary(frames):
    """Frames without short contacts, those that errors are stated for."""
    return [a for a in mark_short_contacts(frames) if a.info.get("config_type") not in KINDS]


def errors_on(calculators, sets):
    """Errors of both models on sets of labelled frames -> {set: {model: `validation.Errors`}}."""
    return {name: {m: held_out_errors(frames, calculators[m]) for m in NAMES} for name, frames in sets.items()}


def compared(errors, before=None):
    """What a record keeps of `errors_on`: {set: {"n_frames", "rmse", "error", "difference", "difference_error"}}.

    Differences are ES-GAP less GAP. before: errors of an earlier fit on some of the sets; there "step" and "step_error"
    are what each model has changed by since. All errors of differences are of the same frames, resampled together.
    """
    out, before = {}, before or {}
    for name, of in errors.items():
        less = of["ES-GAP"].minus(of["GAP"])
        out[name] = {"n_frames": of["GAP"].n_frames, "rmse": {m: _rounded(e.rmse) for m, e in of.items()},
                     "error": {m: _rounded(e.error) for m, e in of.items()},
                     "difference": _rounded(less.value), "difference_error": _rounded(less.error)}
        if name in before:
            steps = {m: e.minus(before[name][m]) for m, e in of.items()}
            out[name] |= {"step": {m: _rounded(d.value) for m, d in steps.items()},
                          "step_error": {m: _rounded(d.error) for m, d in steps.items()}}
    return out


def _rounded(values):
    return {k: round(v, DIGITS) for k, v in values.items()}


def curve(record, name, model, key="all", where="generations"):
    """From a stored record: generations (n,), RMSE and its error (n,) of `model` for the group `key` on set `name`."""
    rows = [(row["generation"], row["sets"][name]["rmse"][model][key], row["sets"][name]["error"][model][key])
            for row in record[where] if name in row["sets"]]
    if not rows:
        raise ValueError(f"no set {name!r} in the record; there are "
                         f"{', '.join(sorted({s for row in record[where] for s in row['sets']}))}")
    return tuple(map(np.array, zip(*rows, strict=True)))


def generations_table(records, generations):
    """Markdown table of `training.Generation`s and their labelled frames (list over generations of lists of Atoms)."""
    lines = ["| generation | new frames | trained on | MD a start (ps) | rms force (eV/Å) | largest (eV/Å) "
             "| ended early |", "|:--" * 7 + "|"]
    for r, frames in zip(records, generations, strict=True):
        forces = np.concatenate([a.get_forces() for a in frames])
        ps = max((a.info["time"] for a in frames if "time" in a.info), default=None)
        early = "; ".join(note.replace("|", "/") for note in r.notes) or "–"
        lines.append(f"| {r.number} | {r.n_new} | {r.n_train} | {f'{ps / 1e3:.1f}' if ps else 'none'} | "
                     f"{np.sqrt(np.mean(forces**2)):.2f} | {np.linalg.norm(forces, axis=1).max():.1f} | {early} |")
    return "\n".join(lines)


def sets_table(row, names):
    """Markdown table of one generation of a record: errors on the sets in `names` ({set: what it is called}).

    Forces in meV/A, energies in meV/atom; sets that the record does not have are left out.
    """
    lines = ["| frames | number | forces, GAP | ES-GAP | ES-GAP less GAP | energies, GAP | ES-GAP |", "|:--" * 7 + "|"]
    for name in (name for name in names if name in row["sets"]):
        entry = row["sets"][name]
        forces = [f"{1e3 * entry['rmse'][m]['all']:.1f} ± {1e3 * entry['error'][m]['all']:.1f}" for m in NAMES]
        energies = [f"{entry['rmse'][m]['energy']:.2f} ± {entry['error'][m]['energy']:.2f}" for m in NAMES]
        less = f"{1e3 * entry['difference']['all']:+.1f} ± {1e3 * entry['difference_error']['all']:.1f}"
        cells = [names[name], str(entry["n_frames"]), *forces, less, *energies]
        lines.append("| " + " | ".join(c.replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}") for c in cells) + " |")
    return "\n".join(lines)


def weights_table(record, name):
    """Markdown table of a record of `python -m esgap weights`: force errors in meV/A on the set `name`, by element."""
    keys = ("all", "Li", "P", "S")
    lines = ["| weights | model | all | Li | P | S |", "|:--" * 6 + "|"]
    for row in record["rows"]:
        entry = row["sets"][name]
        for m in NAMES:
            cells = [f"{1e3 * entry['rmse'][m][k]:.0f} ± {1e3 * entry['error'][m][k]:.0f}" for k in keys]
            lines.append(f"| {row['name']} | {m} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def add_learning_arguments(parser):
    _add_data_arguments(parser, "runs/learning.json")


def add_weights_arguments(parser):
    _add_data_arguments(parser, "runs/weights.json")


def _add_data_arguments(parser, output):
    parser.add_argument("--folder", type=Path, default=data_path("training"), help="of the training loop")
    parser.add_argument("--initial", type=Path, default=data_path("dft/gen0.xyz"), help="labelled generation 0")
    parser.add_argument("--tests", type=Path, nargs="*", default=sorted(data_path("dft").glob("test-*.xyz")),
                        help="labelled frames never trained on (default: dft/test-*.xyz)")
    parser.add_argument("--output", type=Path, default=data_path(output), help="record to write, JSON")


def learning_command(args):
    """python -m esgap learning: one fit a generation; those in the record are not repeated."""
    files = labelled_files(args.folder, args.initial)
    tests = {path.stem: read_frames(path) for path in args.tests}
    with only_writer(args.output):
        stored = read_record(args.output)["generations"] if args.output.exists() else []
        done = {row["generation"]: row for row in stored}
        frames, rows, before = [], [], {}
        for g, path in enumerate(tqdm(files, "generations")):
            known = frames
            frames = known + read_frames(path)
            ahead = read_frames(files[g + 1]) if g + 1 < len(files) else None
            made_of = {p.name: file_hash(p) for p in (*files[:g + 2], *args.tests)}
            if done.get(g, {}).get("made_of") == made_of:
                before = {}
            else:
                if known and tests and not before:  # the record has their means only
                    before = errors_on(fitted_pair(known)[1], tests)
                sets = {"train": ordinary(frames), **({"ahead": ordinary(ahead)} if ahead else {}), **tests}
                errors = errors_on(fitted_pair(frames, progress=True)[1], sets)
                done[g] = {"generation": g, "n_train": len(frames), "made_of": made_of,
                           "sets": compared(errors, before)}
                before = {name: errors[name] for name in tests}
            rows.append(done[g])
            write_record(args.output, {"generations": rows}, [*files, *args.tests], SETTINGS.seed,
                         "python -m esgap learning")
    return 0


def stoichiometric(frames, sigma):
    """sigma_force by element with which Li, P and S count alike in a cell, and all together as much as with `sigma`."""
    symbols, counts = np.unique(np.concatenate([a.get_chemical_symbols() for a in frames]), return_counts=True)
    return {str(s): float(sigma * np.sqrt(n / counts.mean())) for s, n in zip(symbols, counts, strict=True)}


def weightings(frames, sigma):
    """The weightings compared: {name: sigma_force by element, eV/A}."""
    alike = {str(s): sigma for s in sorted({s for a in frames for s in a.symbols})}
    return {"alike": alike, "stoichiometric": stoichiometric(frames, sigma),
            "phosphorus x 9": {**alike, "P": sigma / 3}, "lithium x 9": {**alike, "Li": sigma / 3}}


def weights_command(args):
    """python -m esgap weights: both models of the last generation with other weights for the elements."""
    files = labelled_files(args.folder, args.initial)
    frames = [a for path in files for a in read_frames(path)]
    tests = {path.stem: read_frames(path) for path in args.tests}
    rows, design = [], None
    with only_writer(args.output):
        for name, sigma in tqdm(weightings(frames, SETTINGS.sigma_force).items(), "weightings"):
            fits, calculators, _ = fitted_pair(frames, replace(SETTINGS, sigma_force=sigma), design=design)
            design = fits["GAP"].design
            rows.append({"name": name, "sigma_force": sigma,
                         "sets": compared(errors_on(calculators, {"train": ordinary(frames), **tests}))})
        write_record(args.output, {"n_train": len(frames), "rows": rows}, [*files, *args.tests], SETTINGS.seed,
                     "python -m esgap weights")
    return 0
