"""Numbers for the text of a chapter: computed in a cell, quoted in the prose, never typed."""
import math

from myst_nb import glue


def quote(**numbers):
    """Make numbers quotable by name: {glue:text}`name:.2f` in the same page. A value that is not finite is an error."""
    for name, value in numbers.items():
        value = value.item() if hasattr(value, "item") else value  # numpy scalars print as np.float64(...)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} is {value}: nothing to quote in the text")
        glue(name, value, display=False)
