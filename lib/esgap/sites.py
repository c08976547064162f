"""Sites of mobile ions, found from where they have been: peaks of their time-averaged density in the periodic cell.

The density is smoothed by a Gaussian; of two peaks closer than `separation` the higher stays. Then each centre is moved
to the mean of the positions within `radius` to which it is the nearest, until it rests (as in k-means). What holds
fewer than `least` ions on average is no site. Nothing is random.
Units: A.
"""
from dataclasses import dataclass
from itertools import product

import numpy as np
from ase.geometry import get_distances
from scipy.ndimage import maximum_filter
from scipy.spatial import cKDTree

GRID = 0.2  # A, of the density whose peaks are taken
AT_REST = 1e-3  # A


@dataclass(frozen=True, eq=False)
class Sites:
    """Places where ions stay: positions (n, 3) in A in the first cell, mean number of ions on each (n,)."""

    positions: np.ndarray
    occupation: np.ndarray
    cell: np.ndarray  # (3, 3) A

    def __len__(self):
        return len(self.positions)

    def displacement(self, start, end, image):
        """(3,) A from site `start` to site `end` in the cell `image` (three integers)."""
        return self.positions[end] - self.positions[start] + np.asarray(image) @ self.cell


def find_sites(paths, cell, radius=1.0, separation=1.2, smoothing=0.35, least=0.01):
    """Sites of ions with paths (n_frames, n_ions, 3) in A, unwrapped or not -> `Sites`, the fullest first."""
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    if radius >= heights.min() / 2:
        raise ValueError(f"radius is {radius} A, but sites are {heights.min():.2f} A from their own images: choose "
                         "less than half of that")
    points = _wrapped(paths.reshape(-1, 3), cell)
    # a site with the fewest ions allowed, spread over all of its radius, would have the height `lowest`
    lowest = least / (np.sqrt(2 * np.pi) * radius) ** 3
    centres = _separated(_peaks(points, len(paths), cell, smoothing, lowest), cell, separation)
    sites = Sites(centres, np.full(len(centres), np.inf), cell)
    for _ in range(50):
        sites, step = _refined(sites, points, len(paths), radius, least)
        if step < AT_REST:
            break
    order = np.argsort(-sites.occupation, kind="stable")
    return Sites(_wrapped(sites.positions[order], cell), sites.occupation[order], cell)


def _wrapped(positions, cell):
    return (positions @ np.linalg.inv(cell)) % 1.0 @ cell


def _peaks(points, n_frames, cell, smoothing, lowest):
    """Maxima (n, 3) in A of the smoothed density of points in the cell above `lowest` (ions/A^3), the highest first."""
    shape = np.ceil(np.linalg.norm(cell, axis=1) / GRID).astype(int)
    at = np.floor(points @ np.linalg.inv(cell) * shape).astype(int) % shape
    density = np.bincount(np.ravel_multi_index(at.T, shape), minlength=shape.prod()).reshape(shape)
    smooth = smoothed(density, cell, smoothing)
    smooth *= shape.prod() / (n_frames * abs(np.linalg.det(cell)))  # ions/A^3
    at = np.argwhere((smooth == maximum_filter(smooth, 3, mode="wrap")) & (smooth > lowest))
    return (at[np.argsort(-smooth[tuple(at.T)], kind="stable")] + 0.5) / shape @ cell


def smoothed(values, cell, width):
    """Values (nx, ny, nz) on a grid that fills a cell (3, 3) in A and repeats with it, smoothed by a Gaussian.

    width: its standard deviation in A, the same in all directions of space, whatever the angles of the cell.
    """
    m = np.meshgrid(*(np.fft.fftfreq(n, 1 / n) for n in values.shape), indexing="ij")
    k = 2 * np.pi * np.einsum("i...,xi->...x", np.array(m), np.linalg.inv(cell))  # 1/A
    return np.fft.ifftn(np.fft.fftn(values) * np.exp(-0.5 * width**2 * (k**2).sum(-1))).real


def _separated(points, cell, separation):
    """Points (n, 3) less those that are closer than `separation` (images included) to one before them."""
    keep = np.zeros(len(points), bool)
    for n in range(len(points)):
        keep[n] = not keep.any() or get_distances(points[n], points[keep], cell, True)[1].min() >= separation
    return points[keep]


def _refined(sites, points, n_frames, radius, least):
    """Centres moved to the mean of what is on them, without those that hold too few -> (`Sites`, largest step)."""
    site, image = locate(points, sites, radius)
    on = site >= 0
    offset = points[on] - image[on] @ sites.cell - sites.positions[site[on]]
    occupation = np.bincount(site[on], minlength=len(sites)) / n_frames
    keep = occupation >= least
    if not keep.any():
        raise ValueError(f"no place holds {least} ions on average within {radius} A: lower `least`")
    sums = np.column_stack([np.bincount(site[on], x, len(sites)) for x in offset.T])
    step = sums[keep] / (occupation[keep, None] * n_frames)
    largest = np.abs(step).max() if keep.all() else np.inf
    return Sites(sites.positions[keep] + step, occupation[keep], sites.cell), largest


def locate(positions, sites, radius):
    """Nearest site within `radius` (A) of positions (..., 3), or -1, and the cell (..., 3) in which that site is."""
    if not len(sites):
        return np.full(positions.shape[:-1], -1), np.zeros(positions.shape, int)
    inverse = np.linalg.inv(sites.cell)
    home = np.floor(positions.reshape(-1, 3) @ inverse)
    shifts = np.array(list(product((-1, 0, 1), repeat=3)))
    images = (shifts[:, None] - np.floor(sites.positions @ inverse)).reshape(-1, 3)  # into and around the first cell
    tree = cKDTree(np.tile(sites.positions, (27, 1)) + images @ sites.cell)
    distance, nearest = tree.query(positions.reshape(-1, 3) - home @ sites.cell, distance_upper_bound=radius)
    on = np.isfinite(distance)
    nearest = np.where(on, nearest, 0)
    image = (home + images[nearest]).astype(int)
    return np.where(on, nearest % len(sites), -1).reshape(positions.shape[:-1]), image.reshape(positions.shape)
