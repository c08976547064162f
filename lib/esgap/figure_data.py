"""What a figure shows, as numbers: every figure of a chapter carries its data as CSV, which the book offers below it.

One row a point: panel (number and title), series (label in the legend, or its number), x, y, and low and high where
there is an error bar or a band. Units are those of the axes, whose labels stand in the header of each panel's rows.
Images and contours are left out: what they show is a function, not data.
"""
import csv
import io

import numpy as np
from matplotlib.collections import FillBetweenPolyCollection, PathCollection
from matplotlib.patches import Polygon

COLUMNS = ("panel", "x label", "y label", "series", "x", "y", "low", "high")
DIGITS = 6


def figure_table(figure):
    """CSV text of a matplotlib Figure's data, columns COLUMNS; only the header if there is nothing to tell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for k, ax in enumerate(figure.axes):
        title = " ".join(filter(None, [str(k + 1), ax.get_title()]))
        for series, rows in _series(ax):
            for row in rows:
                writer.writerow([title, ax.get_xlabel(), ax.get_ylabel(), series, *(_text(v) for v in row)])
    return out.getvalue()


def attach(shell):
    """Have figures that the IPython `shell` displays carry their table, as metadata "csv" of the picture."""
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

    plt.switch_backend(plt.get_backend())  # loads it: only then is set up how figures are displayed
    formatter = shell.display_formatter.formatters["image/png"]
    try:
        draw = formatter.lookup_by_type(Figure)
    except KeyError:  # figures are not shown inline
        return
    if not getattr(draw, "with_table", False):
        def draw_with_table(figure):
            picture = draw(figure)
            return picture if picture is None else (picture, {"csv": figure_table(figure)})

        draw_with_table.with_table = True
        formatter.for_type(Figure, draw_with_table)


def _series(ax):
    """(name, rows (x, y, low, high)) of all that is drawn on an Axes in its own coordinates."""
    bars, caps = _error_bars(ax)
    lines = [line for line in ax.get_lines() if line not in caps and line.get_transform() == ax.transData]
    for n, line in enumerate(lines):
        x, y = (np.ravel(v) for v in line.get_data())
        name, low, high = bars.get(line, (_name(line, n), *np.full((2, len(x)), np.nan)))
        yield name, zip(x, y, low, high, strict=True)
    for n, drawn in enumerate(ax.collections):
        if isinstance(drawn, FillBetweenPolyCollection):
            yield f"{_name(drawn, n)} (band)", _band(drawn)
        elif isinstance(drawn, PathCollection) and drawn.get_offset_transform() == ax.transData:
            yield _name(drawn, n), ((*point, np.nan, np.nan) for point in np.ma.filled(drawn.get_offsets(), np.nan))
    for n, patch in enumerate(p for p in ax.patches if isinstance(p, Polygon) and p.get_transform() == ax.transData):
        yield _name(patch, n), ((*point, np.nan, np.nan) for point in patch.get_xy())


def _error_bars(ax):
    """{line of an errorbar: (name, low, high)}, and the lines that only draw caps."""
    bars, every_cap = {}, []
    for n, container in enumerate(c for c in ax.containers if hasattr(c, "has_yerr")):
        line, caps, segments = container.lines
        every_cap += caps
        if line is not None and container.has_yerr:
            ends = [np.sort(s[:, 1]) if len(s) == 2 else (np.nan, np.nan) for s in segments[-1].get_segments()]
            if len(ends) == len(line.get_xdata()):
                bars[line] = (_name(container, n), *np.array(ends, float).T)
    return bars, every_cap


def _band(drawn):
    """Rows (x, nan, low, high): the outline runs along one edge and comes back along the other."""
    for path in drawn.get_paths():
        v = path.vertices
        n = (len(v) - 3) // 2  # first point, n along, one between, n back, closing point
        forth, back = v[1:n + 1], v[n + 2:2 * n + 2][::-1]
        for (x, a), (_, b) in zip(forth, back, strict=True):
            yield x, np.nan, min(a, b), max(a, b)


def _name(artist, n):
    label = str(artist.get_label())
    return str(n + 1) if label.startswith("_") else label


def _text(value):
    number = float(value)
    return "" if np.isnan(number) else f"{number:.{DIGITS}g}"
