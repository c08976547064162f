"""A claim of the paper beside what was found: numbers with errors, statements that hold or not, a verdict.

A claim is cut into statements. Each holds, does not hold, or is undecided (two standard errors decide); together,

    all hold: reproduced    some hold: partly    none holds: not    all undecided: not testable (with these data)
"""
from dataclasses import dataclass

import numpy as np

from .claims import Claim

VERDICTS = ("reproduced", "partly", "not", "not testable", "not yet tested")
HOLDS, FAILS, UNDECIDED = True, False, None


@dataclass(frozen=True)
class Number:
    """One of our numbers, with its standard error."""

    what: str
    value: float
    error: float
    unit: str = ""

    def __str__(self):
        digits = max(0, 1 - int(np.floor(np.log10(self.error)))) if self.error > 0 else 3  # two of the error
        return f"{self.what}: {self.value:.{digits}f} ± {self.error:.{digits}f} {self.unit}".rstrip()


@dataclass(frozen=True)
class Verdict:
    """A claim beside what was found. statements: (text, HOLDS, FAILS or UNDECIDED)."""

    claim: Claim
    numbers: tuple[Number, ...] = ()
    statements: tuple[tuple[str, bool | None], ...] = ()
    rests_on: tuple[str, ...] = ()  # stored files (patterns as of a shell), in the folder of the data

    @property
    def command(self):
        """Recomputes what the numbers rest on, by the commands that the stored files name (`recompute`)."""
        return f"python -m esgap recompute {' '.join(f'data/{n}' for n in self.rests_on)}" if self.rests_on else ""

    @property
    def verdict(self):
        """One of VERDICTS."""
        found = [holds for _, holds in self.statements]
        if not found:
            return "not yet tested"
        if all(x is UNDECIDED for x in found):
            return "not testable"
        return "reproduced" if all(found) else "partly" if any(found) else "not"

    def __str__(self):
        return f"{self.claim.id}: {self.verdict}" + "".join(f"\n  {n}" for n in self.numbers)


def decided(difference, error):
    """Whether a difference is above zero by two standard errors: HOLDS; below: FAILS; else UNDECIDED."""
    if not np.isfinite([difference, error]).all():
        return UNDECIDED
    return UNDECIDED if abs(difference) < 2 * error or difference == 0 else bool(difference > 0)


def spread(draws):
    """Standard deviation of resamplings: the standard error of what was resampled."""
    return float(np.std(draws, ddof=1))


def standard_error(values):
    """Standard error of the mean of independent values."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))
