"""Energies along a path of images: records, cross-evaluation with other potentials, DFT labels, files.

Reaction coordinate: length of the path, s_k = sum_{j <= k} |R_j - R_{j-1}| over all coordinates of all atoms, in A.
Barriers: forward E_max - E_first, reverse E_max - E_last, of the images as they are. Between images the energy is drawn
as the cubic that also has their slopes, dE/ds = -F . dR/ds (G. Henkelman, H. Jonsson, J. Chem. Phys. 113, 9978 (2000)).
A path file is extended XYZ whose frames are named and labelled by the potential that made the path, so that
`python -m esgap label path.xyz path-dft.xyz` labels it with DFT; the record is beside it (.json).
Units: A, eV, eV/A.
"""
from dataclasses import dataclass, field
from pathlib import Path as FilePath

import numpy as np
from scipy.interpolate import CubicHermiteSpline, CubicSpline

from .store import file_hash, labelled, read_frames, read_record, structure_hash, write_frames, write_record

DEEP = 0.01  # eV below what surrounds it: a minimum on the way worth telling


@dataclass(frozen=True, eq=False)
class Profile:
    """Energies of one potential along the path of another (or its own)."""

    coordinate: np.ndarray  # (n,) A
    energies: np.ndarray  # (n,) eV
    slopes: np.ndarray  # (n,) eV/A, dE/ds
    label: str  # whose energies
    path_of: str  # whose path
    bars: np.ndarray | None = None  # (n,) eV, standard errors of `relative` from a committee, if there is one
    draws: np.ndarray | None = None  # (n, 2) eV, what members of the committee say of `forward`, `reverse`, less mean

    @property
    def relative(self):
        """(n,) eV, above the first image."""
        return self.energies - self.energies[0]

    @property
    def highest(self):
        """Number of the highest image."""
        return int(self.energies.argmax())

    @property
    def forward(self):
        """eV"""
        return float(self.energies.max() - self.energies[0])

    @property
    def forward_error(self):
        """eV, standard error of `forward`; nan if it is not known"""
        return float("nan") if self.bars is None else float(self.bars[self.highest])

    @property
    def reverse(self):
        """eV"""
        return float(self.energies.max() - self.energies[-1])

    def error(self, way):
        """eV, standard error of the barrier `way`, "forward" or "reverse"; nan if it is not known"""
        if way == "forward":
            return self.forward_error
        return float("nan") if self.draws is None else float(self.draws[:, 1].std(ddof=1))

    @property
    def minima(self):
        """Numbers of images in valleys deeper than 10 meV on both sides: better ends of separate paths."""
        e = self.energies
        return [k for k in range(1, len(e) - 1) if e[k] <= min(e[k - 1], e[k + 1])
                and min(e[:k].max(), e[k + 1:].max()) - e[k] > DEEP]

    def curve(self, n=201):
        """Coordinate (n,) and energy above the first image (n,) of the cubic through the images."""
        s = np.linspace(0, self.coordinate[-1], n)
        return s, CubicHermiteSpline(self.coordinate, self.relative, self.slopes)(s)

    def __str__(self):
        own = "" if self.label == self.path_of else f" on the path of {self.path_of}"
        bar = "" if self.bars is None else f" +- {self.forward_error:.3f}"
        text = (f"{self.label}{own}: forward {self.forward:.3f}{bar} eV, reverse {self.reverse:.3f} eV, highest image "
                f"{self.highest} of 0 to {len(self.energies) - 1}, {self.coordinate[-1]:.2f} A")
        return text + (f"; minimum at image {', '.join(map(str, self.minima))}" if self.minima else "")


@dataclass(frozen=True, eq=False)
class Path:
    """A minimum-energy path: labelled images, energies along it, and how well it is converged."""

    images: tuple = field(repr=False)  # ASE Atoms, named, with energy and forces
    profile: Profile
    fmax: float  # eV/A, largest force of the band that is left
    climbed: bool  # the highest image is at a saddle point
    history: tuple  # (images between the ends, forward, reverse in eV) for each number of images tried
    settings: dict

    def __str__(self):
        text = f"{self.profile}; forces below {self.fmax:.3f} eV/A, {len(self.images) - 2} images between the ends"
        if not self.climbed:
            text += "; no image is above both ends, so none has climbed to a saddle point: try more images"
        if len(self.history) > 1:
            text += "".join(f"\n{n:4d} images: {forward:.4f} and {reverse:.4f} eV" for n, forward, reverse in
                            self.history)
        return text


def reaction_coordinate(images):
    """Length of the path (n,) in A from the first image to each."""
    positions = np.array([a.positions for a in images])
    return np.append(0.0, np.cumsum(np.linalg.norm(np.diff(positions, axis=0), axis=(1, 2))))


def moved(atoms, positions):
    """Copy of atoms, without results, at other positions (n, 3)."""
    copy = atoms.copy()
    copy.positions[:] = positions
    return copy


def respaced(images, n):
    """The same path (cubic in its length) by n images between its ends -> list of Atoms without results."""
    s = reaction_coordinate(images)
    curve = CubicSpline(s, [a.positions for a in images])
    return [moved(images[0], p) for p in curve(np.linspace(0, s[-1], n + 2))]


def profile(images, label, path_of):
    """`Profile` of images that carry energies and forces."""
    s, positions = reaction_coordinate(images), np.array([a.positions for a in images])
    if not np.diff(s).min() > 0:
        raise ValueError(f"images {np.diff(s).argmin()} and {np.diff(s).argmin() + 1} are the same: give a path")
    tangent = CubicSpline(s, positions)(s, 1)
    tangent /= np.linalg.norm(tangent, axis=(1, 2))[:, None, None]
    slopes = [-np.vdot(a.get_forces(), t) for a, t in zip(images, tangent, strict=True)]
    return Profile(s, np.array([a.get_potential_energy() for a in images]), np.array(slopes), label, path_of)


def evaluate(path, calculator, label):
    """Energies of another potential (ASE calculator) on the images of a `Path` -> `Profile`."""
    return profile([labelled_by(calculator, a, a.info["name"], label) for a in path.images], label, path.profile.label)


def labelled_by(calculator, atoms, name, label):
    """Copy of atoms with the energy and forces of an ASE calculator, named."""
    copy = atoms.copy()
    return labelled(copy, calculator.get_property("energy", copy), calculator.get_property("forces", copy), name=name,
                    reference=label)


def labels_on(path, frames, label="DFT"):
    """Energies of labelled frames, found by name and structure, on the images of a `Path` -> `Profile`.

    frames: what `python -m esgap label` made of the path file (several paths in one list do no harm).
    """
    by_key = {(str(a.info.get("name")), structure_hash(a)): a for a in frames}
    keys = [(a.info["name"], structure_hash(a)) for a in path.images]
    missing = [name for name, structure in keys if (name, structure) not in by_key]
    if missing:
        raise ValueError(f"no {label} label for {', '.join(missing)}: label the path file with `python -m esgap "
                         "label`; images that have moved since must be labelled again")
    return profile([by_key[key] for key in keys], label, path.profile.label)


def joined(profiles):
    """One `Profile` of consecutive segments by one potential; each begins with the image with which the last ended."""
    first, *others = profiles
    if any((p.label, p.path_of) != (first.label, first.path_of) for p in others):
        raise ValueError(f"segments belong to {', '.join(sorted({f'{p.label} on {p.path_of}' for p in profiles}))}: "
                         "join those of one potential on the path of one")
    for a, b in zip(profiles, others, strict=False):
        if abs(a.energies[-1] - b.energies[0]) > 1e-5:
            raise ValueError(f"a segment ends at {a.energies[-1]:.5f} eV and the next begins at {b.energies[0]:.5f} "
                             "eV: give them in order, each from the minimum in which the one before ends")
    offsets = np.cumsum([0.0, *(p.coordinate[-1] for p in profiles)])
    parts = [(o + p.coordinate[k > 0:], p.energies[k > 0:], p.slopes[k > 0:])
             for k, (o, p) in enumerate(zip(offsets, profiles, strict=False))]
    return Profile(*map(np.concatenate, zip(*parts, strict=True)), first.label, first.path_of)


def write_path(file, path, inputs=(), **about):
    """Write a `Path` as extended XYZ and its record beside it; both are whole or not there."""
    file, p = FilePath(file), path.profile
    write_frames(file, path.images)
    record = {"images": file_hash(file), "label": p.label, "coordinate": p.coordinate, "energies": p.energies,
              "forward": p.forward, "reverse": p.reverse, "fmax": path.fmax, "climbed": path.climbed,
              "history": path.history, "settings": path.settings, **about}
    return write_record(file.with_suffix(".json"), record, inputs)


def load_path(file):
    """A `Path` that `write_path` wrote. ValueError if its two files do not belong together."""
    file = FilePath(file)
    images, record = read_frames(file), read_record(file.with_suffix(".json"))
    if record["images"] != file_hash(file):
        raise ValueError(f"{file.with_suffix('.json')} describes another file than {file}: restore both from one place")
    return Path(tuple(images), profile(images, record["label"], record["label"]), record["fmax"], record["climbed"],
                tuple(map(tuple, record["history"])), record["settings"])
