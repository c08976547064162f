"""How far a recomputed record is from the stored one, entry by entry: `python -m esgap compare`.

Numbers are compared by |new - old|, and relative to the larger of the two; anything else is the same or is not. What
made a record ("made_by") is no result and does not count. Units: those of the entry.
"""
from dataclasses import dataclass
from pathlib import Path

from . import conductivity, mobility
from .store import read_frames, read_record
from .training import read_generations


@dataclass(frozen=True)
class Difference:
    """One entry of two records."""

    entry: str
    n_numbers: int  # in both
    absolute: float  # largest |new - old|
    relative: float  # largest |new - old| / max(|new|, |old|)
    where: str  # the largest relative one is
    others: tuple[str, ...]  # where texts differ, or only one of the two has a value

    def __str__(self):
        text = f"{self.entry}: "
        if self.n_numbers:
            count = f"{self.n_numbers} number{'s' * (self.n_numbers > 1)}"
            text += f"{count}, largest difference {self.absolute:.1e}, relative {self.relative:.1e}"
            text += f" ({self.where})" if self.relative and self.where != self.entry else ""
        elif not self.others:
            text += "the same"
        if self.others:
            more = f" and {len(self.others) - 3} more" if len(self.others) > 3 else ""
            text += f"{'; ' * bool(self.n_numbers)}not the same: {', '.join(self.others[:3])}{more}"
        return text


def differences(old, new):
    """Two records (dicts of numbers, texts, lists and dicts), "made_by" apart -> list of `Difference`, one an entry."""
    entries = [key for key in dict.fromkeys([*old, *new]) if key != "made_by"]
    return [_difference(key, dict(_leaves(key, old.get(key))), dict(_leaves(key, new.get(key)))) for key in entries]


def _leaves(path, value):
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in pairs:
            yield from _leaves(f"{path}.{key}", inner)
    else:
        yield path, value


def _difference(entry, old, new):
    both = [p for p in old if p in new]
    numbers = [p for p in both if _is_number(old[p]) and _is_number(new[p])]
    others = [p for p in both if p not in numbers and old[p] != new[p]]
    others += [p for p in (*old, *new) if p not in both]
    off = {p: abs(new[p] - old[p]) for p in numbers}
    relative = {p: off[p] / max(abs(new[p]), abs(old[p])) if off[p] else 0.0 for p in numbers}
    where = max(relative, key=relative.get, default="")
    largest = max(off.values(), default=0.0)
    return Difference(entry, len(numbers), largest, relative.get(where, 0.0), where, tuple(others))


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def read_any(path):
    """What can be compared of a stored file or folder, as a dict: a record (.json); errors and settings of the
    generations of a training loop (.jsonl); labels (.xyz) by the names of their frames, energies in eV/atom; of a
    folder, the record of its paths, or conductivities of both models (mS/cm) from its runs at 800 K.
    """
    path = Path(path)
    if path.is_dir():
        return read_record(path / "paths.json") if (path / "paths.json").exists() else _conductivities(path)
    if path.suffix == ".jsonl":
        if not path.exists():
            raise FileNotFoundError(f"no file {path}: it is made by `python -m esgap train`")
        return {f"generation {g.number}": {"n_train": g.n_train, "errors": g.errors, "settings": g.settings}
                for g in read_generations(path.parent)}
    return _labels(path) if path.suffix == ".xyz" else read_record(path)


def _labels(path):
    frames = {str(a.info["name"]): a for a in read_frames(path)}
    return {"energy": {name: a.get_potential_energy() / len(a) for name, a in frames.items()},
            "forces": {name: a.get_forces().tolist() for name, a in frames.items()}}


def _conductivities(folder):
    out = {}
    for label, runs in mobility.load_runs(folder=folder).items():
        found = conductivity.conductivities(runs)
        out[label] = {"runs": len(runs), **{name: dict(zip(("value", "error"), getattr(found, name), strict=True))
                                            for name in ("nernst_einstein", "collective")}}
    return out


def add_compare_arguments(parser):
    parser.add_argument("stored", type=Path, help="record (.json), generations.jsonl of a training loop, labels "
                                                  "(.xyz), or a folder of runs or paths")
    parser.add_argument("new", type=Path, help="the same, computed again")


def compare_command(args):
    """Print how far two records are from each other; a difference is an answer, not an error."""
    old, new = read_any(args.stored), read_any(args.new)
    print(f"{args.new} less {args.stored}:")
    for difference in differences(old, new):
        print(f"  {difference}")
    return 0
