"""Where mobile ions are: their number density in the frame of the framework, and how much of the cell holds them.

The positions of every frame go to the nearest points of a grid that repeats with the cell, each with the time that it
stands for, so that a run counts by its length. The histogram is smoothed by a Gaussian; its integral over the cell is
the number of ions. Of all parts of the cell that hold a given share of the ions the smallest is what lies above one
level of the density: the inside of an isosurface.

Errors are those of a jackknife over halves of runs. Places that no run has come to yet are missing, so such a part
grows with the length of the runs, and with the width of the Gaussian: compare runs of one length at one width.
Units: A, ps.
"""
from dataclasses import dataclass, field

import numpy as np

from .sites import smoothed

SPACING = 0.3  # A, at most, between points of the grid along each lattice vector
WIDTH = 0.35  # A, standard deviation of the Gaussian, less than thermal motion at 800 K
SAME_PLACE = 0.1  # A, between the centres of frameworks whose densities are added


@dataclass(frozen=True, eq=False)
class Density:
    """A number density in a periodic cell, at the points i/nx a + j/ny b + k/nz c."""

    values: np.ndarray = field(repr=False)  # (nx, ny, nz) 1/A^3
    cell: np.ndarray  # (3, 3) A, rows are a, b, c

    def __post_init__(self):
        if np.ndim(self.values) != 3 or not np.all(np.isfinite(self.values)):
            raise ValueError(f"values have the shape {np.shape(self.values)}; a density needs finite ones on a grid "
                             "(nx, ny, nz)")
        if np.min(self.values) < 0 or not np.max(self.values) > 0:
            raise ValueError(f"values lie between {np.min(self.values):.3g} and {np.max(self.values):.3g}; a density "
                             "is nowhere negative, and positive somewhere")
        if np.shape(self.cell) != (3, 3) or abs(np.linalg.det(self.cell)) < 1e-9:
            raise ValueError(f"cell is {np.asarray(self.cell).tolist()}; give three lattice vectors as rows, in A")

    @property
    def number(self):
        """Integral over the cell: how many ions there are."""
        return float(self.values.mean() * abs(np.linalg.det(self.cell)))

    def level(self, share):
        """1/A^3, the level whose surface encloses `share` of the ions; an array for an array of shares."""
        highest = np.sort(self.values, axis=None)[::-1]
        return highest[self._points(highest, share) - 1]

    def volume(self, share):
        """Part of the cell that lies inside the surface that encloses `share` of the ions."""
        return self._points(np.sort(self.values, axis=None)[::-1], share) / self.values.size

    def _points(self, highest, share):
        """How many points it takes to hold `share`, beginning with the highest."""
        if not (np.all(np.greater(share, 0)) and np.all(np.less(share, 1))):
            raise ValueError(f"share is {share}; a surface can enclose more than 0 and less than 1 of the ions")
        held = np.cumsum(highest)
        return np.searchsorted(held, np.multiply(share, held[-1]) * (1 - 1e-12)) + 1  # rounding adds no point

    def __str__(self):
        return (f"{self.number:.4g} ions on {' x '.join(map(str, self.values.shape))} points, up to "
                f"{self.values.max():.3g} per A^3; 90 % of them in {100 * self.volume(0.9):.1f} % of the cell")


def lithium_density(runs, skip=2.0, spacing=SPACING, width=WIDTH):
    """`Density` of the mobile ions of `mobility.LithiumRun`s of one model, all of them together.

    skip: ps left out at the beginning of each, which starts in the crystal; spacing: of the grid in A; width: standard
    deviation of the Gaussian in A. ValueError if the runs do not belong together or are too short.
    """
    histograms, times = _halves(runs, skip, spacing, width)
    return _density(histograms.sum(0) / times.sum(), runs[0].mean.cell.array, width)


def volume_held(runs, share=0.9, skip=2.0, spacing=SPACING, width=WIDTH):
    """Part of the cell that holds `share` of the mobile ions -> (value, standard error); see `lithium_density`."""
    histograms, times = _halves(runs, skip, spacing, width)
    total, time, cell = histograms.sum(0), times.sum(), runs[0].mean.cell.array
    without = [_density((total - h) / (time - t), cell, width).volume(share)
               for h, t in zip(histograms, times, strict=True)]
    error = np.sqrt((len(without) - 1) * np.var(without))
    return float(_density(total / time, cell, width).volume(share)), float(error)


def framework(runs):
    """ASE Atoms without the mobile ions, at the mean positions of `mobility.LithiumRun`s weighted by their lengths."""
    _check_alike(runs)
    atoms = runs[0].mean.copy()
    atoms.positions[:] = np.average([run.mean.positions for run in runs], axis=0, weights=[run.length for run in runs])
    del atoms[runs[0].ions]
    return atoms


def _density(histogram, cell, width):
    """`Density` of a histogram (nx, ny, nz) of ions."""
    values = np.maximum(smoothed(histogram, cell, width), 0)  # waves of the finite grid, far below what is drawn
    return Density(values * histogram.sum() / values.sum() * values.size / abs(np.linalg.det(cell)), cell)


def _halves(runs, skip, spacing, width):
    """Histograms (2 n_runs, nx, ny, nz) of ions times ps in both halves of each run, and the ps of each (2 n_runs,)."""
    if not 0 < spacing <= width:
        raise ValueError(f"spacing is {spacing} A and width {width} A; the Gaussian must be at least as wide as the "
                         "grid is fine, and both positive")
    _check_alike(runs)
    cell = runs[0].mean.cell.array
    shape = np.ceil(np.linalg.norm(cell, axis=1) / spacing).astype(int)
    histograms, times = [], []
    for run in runs:
        paths = run.paths[int(np.ceil(skip / run.timestep)):]
        if skip < 0 or len(paths) < 2:
            raise ValueError(f"skip is {skip} ps, and seed {run.seed} of {run.model} is {run.length:.1f} ps long: skip "
                             "0 or more, and less than that")
        for half in np.array_split(paths, 2):
            at = np.rint(half.reshape(-1, 3) @ np.linalg.inv(cell) * shape).astype(int) % shape
            counts = np.bincount(np.ravel_multi_index(at.T, shape), minlength=shape.prod()).reshape(shape)
            histograms.append(counts * run.timestep)
            times.append(len(half) * run.timestep)
    return np.array(histograms), np.array(times)


def _check_alike(runs):
    if not runs:
        raise ValueError("`runs` is empty; give at least one `mobility.LithiumRun`")
    first = runs[0]
    centre = np.delete(first.mean.positions, first.ions, 0).mean(0)
    for run in runs:
        if (run.model, run.about["gap"]) != (first.model, first.about["gap"]):
            raise ValueError(f"runs are of {first.model} and {run.model}, or of two fits; take one model at a time")
        if not (np.array_equal(run.ions, first.ions) and np.array_equal(run.mean.numbers, first.mean.numbers)
                and np.allclose(run.mean.cell, first.mean.cell, atol=1e-6)):
            raise ValueError(f"seed {run.seed} has another cell or other atoms than seed {first.seed}; their densities "
                             "cannot be added")
        moved = np.linalg.norm(np.delete(run.mean.positions, run.ions, 0).mean(0) - centre)
        if moved > SAME_PLACE:
            raise ValueError(f"the framework of seed {run.seed} rests {moved:.2f} A from that of seed {first.seed}; "
                             "start all runs from the same structure")
