"""python -m esgap recompute: stored results once more, beside `data/` and never into it, and how far they differ.

A record names the command that made it (`store.provenance`); the same command with another output makes it again. What
it worked on has often not been kept, so labels are made of the structures in the stored file, and paths between the
stored ends. The new file lies at the same place below `to` as the stored one below `data`:

    data/runs/learning.json       python -m esgap learning --output _build/reproduced/runs/learning.json
    data/dft/gen0.xyz             python -m esgap label data/dft/gen0.xyz _build/reproduced/dft/gen0.xyz
    data/runs/mobility            every command that made one of the runs in this folder
    data/runs/paths/paths.json    energies on the stored paths; data/runs/paths: the paths, too
"""
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from .compare import differences, read_any
from .mobility import BATCH
from .store import data_path, read_arrays, read_frames, read_record, write_frames

TO = Path("_build/reproduced")  # of the checkout
OUTPUT = {"settings", "learning", "weights", "traversals"}  # commands whose record goes to --output
GONE = {"paths": {"--replace": 0, "--trajectory": "+"},  # options not given again
        "conductivity": {"--replace": 0, "--folder": 1}}


@dataclass(frozen=True)
class Again:
    """One command that makes a stored result once more."""

    words: tuple  # of the command, behind `python -m esgap`
    start: tuple = ()  # stored files that it begins with, copied first


def made_by(stored):
    """What made a stored file: its own record (.json, .npz), or the one beside it -> dict as of `store.provenance`."""
    stored = Path(stored)
    found = read_arrays(stored)[0] if stored.suffix == ".npz" else read_record(stored.with_suffix(".json"))
    if not isinstance(found, dict) or "made_by" not in found:
        raise ValueError(f"{stored} has no record of what made it; data/README.md says how it came about")
    return found["made_by"]


def again(stored, to=TO):
    """The commands that make one stored file (or a folder of runs or paths) again below `to` -> list of `Again`."""
    stored, to = Path(stored), Path(to)
    if stored.is_dir():
        return _folder(stored, to)
    if stored.suffix == ".xyz" and not stored.with_suffix(".json").exists():
        raise ValueError(f"{stored} has no record of what made it; data/README.md says how it came about")
    record, output = made_by(stored), to / _inside(stored)
    words = shlex.split(record["command"])
    if words[:3] != ["python", "-m", "esgap"]:  # a benchmark
        raise ValueError(f"{stored} was made by `{record['command']}`, which is no command of esgap: run that")
    command, rest = words[3], _without(words[4:], GONE.get(words[3], {}))
    if command in OUTPUT:
        return [Again((command, *rest, "--output", str(output)))]
    if command not in RULES:
        raise ValueError(f"{stored} was made by `python -m esgap {command}`, which cannot be given again for one file; "
                         "data/README.md says how")
    return RULES[command](rest, stored, record, output, to)


def _folder(stored, to):
    if (stored / "paths.json").exists():
        (whole,) = again(stored / "paths.json", to)
        return [replace(whole, start=(stored / "ends.xyz",))]
    runs = sorted(path for path in stored.glob("*.npz") if not BATCH.search(path.stem))  # those need an accelerator
    if not runs:
        raise ValueError(f"{stored} holds neither runs nor paths: give a stored result")
    return once(a for run in runs for a in again(run, to))


def once(commands):
    """Commands in their order, none twice."""
    return list(dict.fromkeys(commands))


def _inside(path):
    """Where a file lies in the data."""
    root = data_path().resolve()
    if not path.resolve().is_relative_to(root):
        raise ValueError(f"{path} is not one of the stored results in {root}")
    return path.resolve().relative_to(root)


def _given(path):
    """A stored file as the commands name it, from the folder of the checkout."""
    return str(Path("data") / _inside(Path(path)))


def _without(words, options):
    """Words without some options; {option: how many values it has, or "+"}."""
    left, drop = [], 0
    for word in words:
        if word in options:
            drop = options[word]
        elif drop == 0 or (word.startswith("--") and drop == "+"):
            drop = 0
            left.append(word)
        elif drop != "+":
            drop -= 1
    return left


def _charges(rest, stored, record, output, to):
    return [Again(("charges", *record["inputs"], str(output), *rest))]


def _committee(rest, stored, record, output, to):
    """Committees need the models of the loop, which are fitted again first (`make reproduce-training`)."""
    return [Again(("committee", *rest, "--folder", str(to / "training"), "--models", str(to / "models"),
                   "--output", str(output)))]


def _label(rest, stored, record, output, to):
    options = rest[2:]  # behind frames and output
    return [Again(("label", _given(stored.with_suffix(".xyz")), str(output.with_suffix(".xyz")), *options))]


def _label_of_loop(rest, stored, record, output, to):
    """The training loop labels with the default settings."""
    if not stored.with_suffix(".xyz").exists():
        raise ValueError(f"{stored} is of the training loop, which is run again as a whole: make reproduce-training")
    return _label([], stored, record, output, to)


def _paths(rest, stored, record, output, to):
    kept = sorted([*stored.parent.glob("ends.xyz"), *stored.parent.glob("hop-*.*")])
    return [Again(("paths", *rest, "--folder", str(output.parent)), tuple(kept))]


def _conductivity(rest, stored, record, output, to):
    if "--take" not in rest:
        return [Again(("conductivity", *rest, "--folder", str(output.parent)))]
    model, trajectory = record["inputs"]
    trajectory = data_path(_inside(data_path().parent / trajectory))
    return [*again(trajectory, to), Again(("conductivity", "--take", Path(model).stem, str(to / _inside(trajectory)),
                                           "--folder", str(output.parent)))]


def _md(rest, stored, record, output, to):
    return [Again(("md", *(str(output) if word == _given(stored) else word for word in rest)))]


def _frenkel(rest, stored, record, output, to):
    cells = output.parent / "frenkel"
    words = ["frenkel", rest[0], str(cells / Path(rest[1]).name), *rest[2:]]
    for option, name in (("--summary", output), ("--story", output.with_suffix(".xyz")),
                         ("--dft-frames", cells / f"dft-{output.stem}.xyz")):
        if option in words:
            words[words.index(option) + 1] = str(name)
    return [Again(tuple(words))]


def _born(rest, stored, record, output, to):
    """All labels anew: they are what takes the time."""
    structure, _, *options = rest
    return [Again(("born", structure, str(output), *options))]


RULES = {"born": _born, "charges": _charges, "committee": _committee, "label": _label, "train": _label_of_loop,
         "paths": _paths, "conductivity": _conductivity, "md": _md, "frenkel": _frenkel}


def add_recompute_arguments(parser):
    parser.add_argument("stored", nargs="+", type=Path, help="stored results: a file in data/, a folder of runs or of "
                        "paths")
    parser.add_argument("--to", type=Path, default=TO, help=f"where they are made again (default {TO} of the "
                        "checkout); what is there goes on")
    parser.add_argument("--list", action="store_true", help="only print the commands")


def recompute_command(args):
    """Run the commands one after the other, in the folder of the checkout, and compare; go on with what is there."""
    commands = once(a for path in args.stored for a in again(path, args.to))
    if args.list:
        print(*(f"python -m esgap {shlex.join(a.words)}" for a in commands), sep="\n")
        return 0
    compared = {path: read_any(path) for path in once(_comparable(path) for path in args.stored)}
    left, root = 0, data_path().parent
    for command in commands:
        print(f"python -m esgap {shlex.join(command.words)}", flush=True)
        _prepare(command, args.to)
        run = subprocess.run([sys.executable, "-m", "esgap", *command.words], cwd=root, check=False)
        if run.returncode not in (0, 1):  # 1: something is left to do, which it has said
            return run.returncode
        left = max(left, run.returncode)
    for path, old in compared.items():
        print(f"{args.to / _inside(path)} less {path}:")
        print(*(f"  {d}" for d in differences(old, read_any(root / args.to / _inside(path)))), sep="\n")
    return left


def _comparable(stored):
    """Trajectories of MD part within picoseconds, so not one run is compared with another, but what all runs say."""
    return stored.parent if stored.suffix == ".npz" else stored


def _prepare(command, to):
    """Folders that it writes to, and what it begins with."""
    root = data_path().parent
    for word in command.words:
        if word.startswith(f"{to}/"):
            (root / word).parent.mkdir(parents=True, exist_ok=True)
    stems = {file.stem for file in command.start if file.stem.startswith("hop-")}
    for file in command.start:
        copy = root / to / _inside(file)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if not copy.exists() and stems and file.name == "ends.xyz":  # without a path there is nothing to evaluate
            ends = read_frames(file)
            write_frames(copy, [a for a in ends if any(stem.startswith(_hop(a)) for stem in stems)])
        elif not copy.exists():
            shutil.copyfile(file, copy)


def _hop(end):
    return end.info["name"].rsplit("-", 1)[0] + "-"
