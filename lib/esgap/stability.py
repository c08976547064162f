"""Is a trajectory sound? Drift of the conserved energy, whole P-S units, radial distribution functions.

    g_ab(r) = V / (N_a N_b) <sum_{i in a, j in b, j != i} delta(r - r_ij)> / (4 pi r^2)       images included

Frames of a potential stand for the ensemble of DFT when each counts exp(-(E_DFT - E_model - mean)/(kB T)); the
effective number of frames, (sum w)^2 / sum w^2, tells how far that carries.
Units: A, eV, fs, K.
"""
from dataclasses import dataclass

import numpy as np
from ase.geometry import find_mic

from .neighbours import neighbour_pairs
from .sampling import Trust
from .structures import ps_bonds
from .transport import BOLTZMANN


@dataclass(frozen=True)
class Drift:
    """Slope of the conserved energy in meV per atom and ns, with the standard error from blocks of the run."""

    value: float
    error: float
    fluctuation: float  # meV per atom, rms about the line

    def __str__(self):
        return f"{self.value:+.2f} +- {self.error:.2f} meV/atom/ns, fluctuations {self.fluctuation:.3f} meV/atom"


def drift(trajectory, n_blocks=10):
    """`Drift` of a `dynamics.Trajectory`; differences of block means, whose scatter gives the error."""
    e = 1e3 * trajectory.conserved / len(trajectory.numbers)
    t = (trajectory.time - trajectory.time[0]) * 1e-6  # ns
    if len(e) < 4 * n_blocks:
        raise ValueError(f"{len(e)} frames are too few for {n_blocks} blocks: run longer or ask for fewer")
    blocks = np.array_split(np.arange(len(e)), n_blocks)
    x, y = (np.array([v[b].mean() for b in blocks]) for v in (t, e))
    (slope, _), covariance = np.polyfit(x, y, 1, cov=True)
    return Drift(float(slope), float(np.sqrt(covariance[0, 0])), float(np.std(e - np.polyval(np.polyfit(t, e, 1), t))))


def broken_bonds(trajectory, limit=Trust.bond, start=None):
    """Largest length in A of any of the P-S bonds of `start` (Atoms; None: the first frame) -> (n_frames,), to compare
    with `limit`, and whether all stay below it."""
    bonds = ps_bonds(trajectory.atoms(0) if start is None else start)
    shift = bonds.S @ trajectory.cell
    longest = np.array([np.linalg.norm(r[bonds.j] - r[bonds.i] + shift, axis=1).max() for r in trajectory.positions])
    return longest, bool(longest.max() <= limit)


def longest_bond(frames, start):
    """Longest, in A, that any of the P-S bonds of `start` becomes in frames of the same atoms, wrapped or not.

    Frames of other atoms, such as single ones of a training set, are passed over; ValueError if no other is left."""
    bonds, lengths = ps_bonds(start), []
    for atoms in frames:
        if np.array_equal(atoms.numbers, start.numbers):
            _, d = find_mic(atoms.positions[bonds.j] - atoms.positions[bonds.i], atoms.cell, atoms.pbc)
            lengths.append(d.max())
    if not lengths:
        raise ValueError(f"none of the {len(frames)} frames holds the {len(start)} atoms of the start, in its order")
    return float(max(lengths))


@dataclass(frozen=True, eq=False)
class RadialDistribution:
    """g(r) of one pair of elements, (n_bins,), with standard errors from blocks of frames."""

    r: np.ndarray
    value: np.ndarray
    error: np.ndarray
    pair: tuple


def radial_distribution(frames, pair, r_max=6.0, n_bins=120, weights=None, n_blocks=5):
    """g(r) of the elements `pair` in frames of one composition -> `RadialDistribution`.

    weights (n_frames,): how much each frame counts. Errors: scatter of the means of `n_blocks` blocks of consecutive
    frames. ValueError if an element is missing or there are fewer frames than blocks.
    """
    if len(frames) < n_blocks:
        raise ValueError(f"{len(frames)} frames cannot be parted into {n_blocks} blocks")
    edges = np.linspace(0, r_max, n_bins + 1)
    counts = np.array([_distances(a, pair, edges) for a in frames])
    shell = 4 / 3 * np.pi * np.diff(edges**3)
    g = counts / shell  # (n_frames, n_bins)
    w = np.ones(len(g)) if weights is None else np.asarray(weights, float)
    blocks = np.array_split(np.arange(len(g)), n_blocks)
    means = np.array([np.average(g[b], axis=0, weights=w[b]) for b in blocks])
    share = np.array([w[b].sum() for b in blocks]) / w.sum()
    mean = share @ means
    error = np.sqrt((share[:, None] ** 2 * (means - mean) ** 2).sum(0) * n_blocks / (n_blocks - 1))
    return RadialDistribution((edges[1:] + edges[:-1]) / 2, mean, error, tuple(pair))


def _distances(atoms, pair, edges):
    symbols = np.array(atoms.get_chemical_symbols())
    for element in pair:
        if element not in symbols:
            raise ValueError(f"there is no {element} in {atoms.get_chemical_formula()}: choose the pair among its "
                             "elements")
    pairs = neighbour_pairs(atoms.positions, atoms.cell.array, atoms.pbc, edges[-1])
    of = (symbols[pairs.i] == pair[0]) & (symbols[pairs.j] == pair[1])
    d = np.linalg.norm(atoms.positions[pairs.j[of]] - atoms.positions[pairs.i[of]] + pairs.S[of] @ atoms.cell.array,
                       axis=1)
    n = [np.sum(symbols == element) for element in pair]
    return np.histogram(d, edges)[0] * atoms.get_volume() / (n[0] * n[1])


def weights_of_dft(reference, model, temperature):
    """Weights (n,) of frames drawn from a model's ensemble as samples of DFT's, and their effective number.

    reference, model: total energies (n,) in eV of the same frames; temperature of the sampling in K.
    """
    x = -(np.asarray(reference) - np.asarray(model)) / (BOLTZMANN * temperature)
    w = np.exp(x - x.max())
    return w / w.sum(), float(w.sum() ** 2 / (w**2).sum())
