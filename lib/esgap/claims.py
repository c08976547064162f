"""The paper's claims (`data/paper.toml`), the chapters of this book that test them, and values from the literature."""
import tomllib
from dataclasses import dataclass

from .store import data_path


@dataclass(frozen=True)
class Claim:
    """One statement of the paper: `value` is a number, a (low, high) range or None, in `unit`."""

    id: str
    where: str  # figure or section of the paper
    text: str
    chapter: str  # file name without ending
    value: float | tuple[float, float] | None = None
    unit: str = ""
    length: float | None = None  # ns, of the trajectories that it is about


def load_claims():
    """All claims, in the order of the paper -> tuple of `Claim`."""
    entries = tomllib.loads(data_path("paper.toml").read_text(encoding="utf-8"))["claim"]
    return tuple(Claim(**{k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}) for entry in entries)


def claim(identifier):
    """The claim of that id. KeyError names the ids there are."""
    by_id = {c.id: c for c in load_claims()}
    if identifier not in by_id:
        raise KeyError(f"no claim {identifier!r} in data/paper.toml; there are {', '.join(by_id)}")
    return by_id[identifier]


def claims_table(claims=None):
    """Markdown table of claims; a chapter that the book already has is a link, others are named as planned."""
    chapters = data_path().parent / "chapters"
    rows = ["| the paper says | where | tested in |", "|:---|:---|:---|"]
    for c in load_claims() if claims is None else claims:
        there = (chapters / f"{c.chapter}.ipynb").exists()
        title = c.chapter[3:].replace("-", " ")
        tested_in = f"[{title}]({c.chapter}.ipynb)" if there else f"{title} (planned)"
        rows.append(f"| {c.text} | {c.where} | {tested_in} |")
    return "\n".join(rows)


def literature(name):
    """Entries of one table of `data/literature.toml`, without its reference, as a dict; of several of one name, all."""
    table = tomllib.loads(data_path("literature.toml").read_text(encoding="utf-8"))
    if name not in table:
        raise KeyError(f"no table {name!r} in data/literature.toml; there are {', '.join(table)}")
    if isinstance(table[name], list):
        return tuple(table[name])
    return {k: v for k, v in table[name].items() if k != "key"}
