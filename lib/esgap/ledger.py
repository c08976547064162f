"""The ledger: what this book found for each claim of the paper, computed from stored labels and results.

A claim without a function in `TESTS`, or whose stored result is missing, is not yet tested. How a verdict comes about:
`verdicts`; what is found for each claim: `found_potentials`, `found_mobility`, `found_frenkel`.
"""
from . import found_frenkel, found_mobility, found_potentials
from .claims import load_claims
from .store import data_path
from .verdicts import FAILS, HOLDS, UNDECIDED, VERDICTS, Verdict

__all__ = ["TESTS", "VERDICTS", "ledger", "ledger_table", "statements_list"]

TESTS = {
    "locality-size": found_potentials.locality_size,
    "locality-element": found_potentials.locality_element,
    "baseline-locality": found_potentials.baseline_locality,
    "sulfur-charges": found_potentials.sulfur_charges,
    "convergence": found_potentials.convergence,
    "average-error": found_potentials.average_error,
    "element-errors": found_potentials.element_errors,
    "barrier-transfer": found_mobility.barrier_transfer,
    "barrier-order": found_mobility.barrier_order,
    "conductivity-gap": found_mobility.conductivity_gap,
    "conductivity-es-gap": found_mobility.conductivity_es_gap,
    "conductivity-sampling": found_mobility.conductivity_sampling,
    "frenkel-es-gap": lambda: found_frenkel.frenkel_energy("frenkel-es-gap", "es_gap"),
    "frenkel-gap": lambda: found_frenkel.frenkel_energy("frenkel-gap", "gap"),
    "frenkel-field": found_frenkel.frenkel_field,
    "frenkel-gap-field": found_frenkel.frenkel_gap_field,
}


def ledger():
    """Verdicts on all claims, in the order of the paper -> tuple of `Verdict`."""
    return tuple(_verdict(c) for c in load_claims())


def _verdict(said):
    try:
        return TESTS[said.id]() if said.id in TESTS else Verdict(said)
    except FileNotFoundError:  # no stored result
        return Verdict(said)


def ledger_table(verdicts):
    """Markdown table of verdicts; a chapter that the book has is a link."""
    chapters = data_path().parent / "chapters"
    rows = ["| the paper says | we find | verdict | tested in |", "|:---|:---|:---|:---|"]
    for v in verdicts:
        name = v.claim.chapter
        title = name[3:].replace("-", " ")
        link = f"[{title}]({name}.ipynb)" if (chapters / f"{name}.ipynb").exists() else f"{title} (planned)"
        numbers = "<br>".join(_unbroken(str(n)) for n in v.numbers)
        rows.append(f"| {v.claim.text} ({v.claim.where}) | {numbers} | {v.verdict} | {link} |")
    return "\n".join(rows)


def _unbroken(text):
    """Text of a `Number` that breaks in its words, but not between value, error and unit."""
    what, _, number = text.rpartition(": ")
    return f"{what}: " + number.replace(" ", "\N{NO-BREAK SPACE}")


def statements_list(verdicts):
    """Markdown list of the statements behind the verdicts, with the command that recomputes their numbers."""
    words = {HOLDS: "holds", FAILS: "does not hold", UNDECIDED: "undecided"}
    return "\n".join(f"- **{v.claim.id}**, {v.verdict}: "
                     + "; ".join(f"{text}: *{words[holds]}*" for text, holds in v.statements) + f" (`{v.command}`)"
                     for v in verdicts if v.statements)
