"""What the text of a chapter says: numbers and words computed in a cell, quoted in the prose, never typed."""
import math

from myst_nb import glue


def quote(**values):
    """Make numbers and words quotable by name: {glue:text}`name:.2f` or {glue:text}`name` in the same page.

    A number that is not finite is an error.
    """
    for name, value in values.items():
        value = value.item() if hasattr(value, "item") else value  # numpy scalars print as np.float64(...)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} is {value}: nothing to quote in the text")
        glue(name, value, display=False)


def compared(difference, error, lower="lower than", same="not distinguishable from", higher="higher than"):
    """The words for a difference: `lower` or `higher` from two standard errors on, `same` below. -> str

    >>> f"GAP's error is {compared(-0.012, 0.004)} ES-GAP's, its energy {compared(0.012, 0.009)} it"
    "GAP's error is lower than ES-GAP's, its energy not distinguishable from it"
    """
    if not (math.isfinite(difference) and math.isfinite(error) and error >= 0):
        raise ValueError(f"difference {difference} +- {error} cannot be put into words: finite numbers, error >= 0")
    if difference == 0 or abs(difference) < 2 * error:
        return same
    return lower if difference < 0 else higher
