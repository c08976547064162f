"""Committees: how much a fit depends on which frames it was given, and whether that tells its errors.

A member is the same potential (sparse points, settings) fitted to frames drawn with replacement, as many as there are.
Everything is linear in the weights alpha, so members share the design matrix, and all their predictions for a frame
are one product: rows (1 + 3N + 6, M) times alpha (M, members). The spread over members knows of errors from scarce
data, not of those that all members share (what the descriptor or a missing long range cannot do), so it is calibrated
on frames not trained on:

    scale^2 = mean[(F - F_DFT)^2 / s^2],  s: standard deviation over members of the force component

Units: eV, eV/A.
"""
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.stats import norm

from .design import Target, solve
from .fit import atom_energies, read_labels, targets_of
from .gap_calculator import GAP
from .store import file_hash, read_arrays, write_arrays


@dataclass(frozen=True, eq=False)
class Committee:
    """Weights of all members, (members, M), on the sparse points of one model."""

    alphas: np.ndarray
    gap: GAP = field(repr=False)  # calculator of the potential itself, without the baseline
    e0: np.ndarray = field(repr=False)  # (members, elements) eV, in the order of gap.model.e0

    def __len__(self):
        return len(self.alphas)

    def member(self, k):
        """Calculator of member k, without the baseline."""
        model = self.gap.model
        parts = np.split(self.alphas[k], np.cumsum([len(t.X) for t in model.terms])[:-1])
        terms = tuple(replace(t, alpha=a) for t, a in zip(model.terms, parts, strict=True))
        return GAP(replace(model, terms=terms, e0=dict(zip(model.e0, self.e0[k].tolist(), strict=True))))

    def predict(self, design, frames):
        """Predictions for frames (added to the design matrix) without the baseline, which all members share.

        -> energies (members, n_frames) in eV, forces: list over frames of (members, n, 3) in eV/A.
        """
        design.add(frames)
        energies, forces = [], []
        for atoms in frames:
            rows = design[atoms][:1 + 3 * len(atoms)] @ self.alphas.T
            count = np.array([np.sum(atoms.numbers == Z) for Z in self.gap.model.e0])
            energies.append(rows[0] + self.e0 @ count)
            forces.append(-rows[1:].T.reshape(len(self), len(atoms), 3))
        return np.array(energies).T, forces

    def energies(self, frames):
        """Energies (members, n_frames) in eV without the baseline, which all members share and which cancels in the
        differences between them."""
        return np.array([[member.get_potential_energy(a.copy()) for a in frames]
                         for member in map(self.member, range(len(self)))])

    def save(self, path, model_path):
        """To .npz; only with the model at `model_path`, of which it keeps the hash, can it be read."""
        write_arrays(path, {"format": "esgap committee 1", "model": file_hash(model_path)},
                     alphas=self.alphas, e0=self.e0)

    @classmethod
    def load(cls, path, model_path):
        """What `save` wrote. ValueError if the model is not the one it belongs to."""
        header, arrays = read_arrays(path)
        if header.get("model") != file_hash(model_path):
            raise ValueError(f"{path} belongs to another potential than {model_path}: make it again with "
                             "`python -m esgap committee`")
        return cls(arrays["alphas"], GAP.load(model_path), arrays["e0"])


def bootstrap_committee(fit, frames, baseline=None, n_members=16, seed=0):
    """Members of a `Fit` to `frames` (those it was fitted to, with its design matrix) -> `Committee`.

    baseline: the one subtracted in the fit. ValueError if there are fewer than two members.
    """
    if n_members < 2:
        raise ValueError(f"n_members is {n_members}; a spread needs two or more")
    labels, rng = read_labels(frames, baseline), np.random.default_rng(seed)
    alphas, energies = [], []
    for _ in range(n_members):
        count = rng.multinomial(len(frames), np.full(len(frames), 1 / len(frames)))
        drawn = np.flatnonzero(count)
        some, theirs = [frames[k] for k in drawn], [labels[k] for k in drawn]
        # e0 of a resampling is fitted to its own energies, as the potential's is
        twice = [k for k in drawn for _ in range(count[k])]
        e0 = atom_energies([frames[k] for k in twice], [labels[k] for k in twice], fit.settings.e0)
        targets = [Target(t.rows, t.y, t.sigma / np.sqrt(count[k]))
                   for k, t in zip(drawn, targets_of(some, theirs, e0, fit.settings), strict=True)]
        alphas.append(solve(fit.design, some, targets, fit.settings.jitter))
        energies.append([e0[Z] for Z in fit.model.e0])
    return Committee(np.array(alphas), fit.calculator, np.array(energies))


@dataclass(frozen=True, eq=False)
class Calibration:
    """Whether the spread of a committee tells the errors of its potential on frames it was not trained on."""

    scale: float  # errors are so many times the spread, rms
    error: float  # of scale, from resampling frames
    spread: np.ndarray  # (n_bins,) eV/A, rms over force components sorted by their spread
    rmse: np.ndarray  # (n_bins,) eV/A, of the same components
    bars: np.ndarray  # (n_bins,) eV/A, standard errors of rmse, from resampling frames
    coverage: dict  # nominal -> share of errors within the scaled interval; scale from the other half of the frames

    def __str__(self):
        covered = ", ".join(f"{100 * p:.0f} % nominal: {100 * c:.0f} %" for p, c in self.coverage.items())
        return f"errors are {self.scale:.2f} +- {self.error:.2f} times the committee's spread; covered {covered}"


def calibrate(forces, errors, n_bins=8, nominal=(0.68, 0.95), n_bootstrap=500, seed=0):
    """`Calibration` from the members' forces (list over frames of (members, n, 3)) and `validation.Errors` of the
    potential on the same frames in the same order."""
    spread = [f.std(0, ddof=1).reshape(-1) for f in forces]
    counts = np.array([len(s) for s in spread])
    difference = (errors.model["all"] - errors.reference["all"]).reshape(-1)
    if counts.sum() != len(difference):
        raise ValueError(f"the committee has {counts.sum()} force components, the errors {len(difference)}: give the "
                         "same frames to both")
    s, frame = np.concatenate(spread), np.repeat(np.arange(len(counts)), counts)
    draws = np.random.default_rng(seed).integers(len(counts), size=(n_bootstrap, len(counts)))
    square = np.bincount(frame, (difference / s) ** 2)
    scales = np.sqrt(square[draws].sum(1) / counts[draws].sum(1))
    bins = np.empty(len(s), int)
    bins[np.argsort(s)] = np.arange(len(s)) * n_bins // len(s)
    table = [_in_bin(frame[bins == b], s[bins == b], difference[bins == b], draws) for b in range(n_bins)]
    even = frame % 2 == 0
    coverage = {p: float(np.mean([np.mean(np.abs(difference[one]) < norm.ppf((1 + p) / 2) * s[one] * _scale(
        difference[other], s[other])) for one, other in ((even, ~even), (~even, even))])) for p in nominal}
    return Calibration(_scale(difference, s), float(scales.std(ddof=1)), *map(np.array, zip(*table, strict=True)),
                       coverage)


def _scale(difference, s):
    return float(np.sqrt(np.mean((difference / s) ** 2)))


def _in_bin(frame, s, difference, draws):
    n = draws.shape[1]
    total, count = np.bincount(frame, difference**2, n), np.bincount(frame, minlength=n)
    with np.errstate(invalid="ignore"):
        again = np.sqrt(total[draws].sum(1) / count[draws].sum(1))
    return np.sqrt(np.mean(s**2)), np.sqrt(np.mean(difference**2)), np.nanstd(again, ddof=1)
