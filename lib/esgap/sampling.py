"""New configurations for the training set: MD with the current potential, watched, and a choice of frames from it.

A run is trusted while the P-S units it began with are whole, no contact is shorter than any met at 800 K, forces stay
below a limit, and, if asked, the potential's own standard deviation of local energies stays below one. What lies
before the first violation is sane and is still offered for labelling.

Choice of frames: spaced in time, then one by one that whose environments are on average furthest from all known ones,
    d = mean_atoms min_known sqrt(2 - 2 p.p')         p, p': SOAP vectors of unit length, same element,
known being those of the training set and of the frames already chosen.
Units: A, eV/A, K, ps.
"""
from dataclasses import dataclass, replace

import numpy as np

from .design import frame_descriptors
from .gap import Term
from .soap import Soap
from .spheres import short_contacts
from .structures import ps_bonds

SOAP = Soap(6, 3, atom_sigma=0.5, cutoff=5.0)  # to compare environments; needs no more than the potentials do


@dataclass(frozen=True)
class Trust:
    """Limits of the trusted region; `watch(start)` gives the function that MD asks."""

    bond: float = 2.8  # A, a P-S bond longer than this is broken; 2.0 to 2.3 at 800 K
    contact: float = 0.85  # shortest contacts, as a fraction of those in `spheres.SHORTEST`
    force: float = 20.0  # eV/A, largest force on an atom
    deviation: float | None = None  # eV, largest predicted standard deviation of a local energy; None: not asked

    def watch(self, start, variance=None):
        """Function of Atoms (with calculator) -> reason why they are not to be trusted, or "".

        variance(atoms) -> (n,) eV^2, needed if `deviation` is set.
        """
        if self.deviation is not None and variance is None:
            raise ValueError(f"deviation is {self.deviation} eV, but no `variance` is given that predicts it")
        bonds = ps_bonds(start)

        def reason(atoms):
            return (self._broken(atoms, bonds) or self._contact(atoms) or self._force(atoms)
                    or (self._deviation(variance(atoms)) if self.deviation is not None else ""))

        return reason

    def _broken(self, atoms, bonds):
        d = np.linalg.norm(atoms.positions[bonds.j] - atoms.positions[bonds.i] + bonds.S @ atoms.cell.array, axis=1)
        if d.max(initial=0.0) <= self.bond:
            return ""
        k = d.argmax()
        return f"P-S bond between atoms {bonds.i[k]} and {bonds.j[k]} is {d[k]:.2f} A long"

    def _contact(self, atoms):
        i, j, d = short_contacts(atoms, self.contact)
        if not len(d):
            return ""
        k = d.argmin()
        return f"{atoms.symbols[i[k]]} {i[k]} and {atoms.symbols[j[k]]} {j[k]} are {d[k]:.2f} A apart"

    def _force(self, atoms):
        f = np.linalg.norm(atoms.get_forces(), axis=1)
        return f"the force on atom {f.argmax()} is {f.max():.1f} eV/A" if f.max() > self.force else ""

    def _deviation(self, variance):
        worst = np.sqrt(np.max(variance))
        return f"the local energy of atom {np.argmax(variance)} is uncertain by {worst:.3f} eV" if (
            worst > self.deviation) else ""


def environments(frames, soap=SOAP):
    """SOAP vectors of unit length: list over elements of (n_frames, n_atoms_of_it, D); frames of one composition."""
    numbers = frames[0].numbers
    if any(not np.array_equal(a.numbers, numbers) for a in frames):
        raise ValueError("frames hold different atoms or another order; compare frames of one composition")
    elements = tuple(int(Z) for Z in np.unique(numbers))
    soaps = [replace(soap, Z=Z, species_Z=elements) for Z in elements]
    empty = [Term(s, np.zeros((1, s.n_components)), np.zeros(1), 1.0, 1.0) for s in soaps]
    return [p.reshape(len(frames), -1, p.shape[1]) for p in frame_descriptors(empty, frames)]


@dataclass(frozen=True, eq=False)
class Choice:
    """Indices of the chosen candidates in the order of choice, and how far each was from all known before it."""

    chosen: list[int]
    distance: np.ndarray  # (n_chosen,) mean SOAP distance
    first: np.ndarray  # (n_candidates,) distance of every candidate from the training set


def most_informative(candidates, known, n, soap=SOAP):
    """The n frames of `candidates` whose environments are furthest from those of the frames `known` -> `Choice`."""
    if n > len(candidates):
        raise ValueError(f"{n} frames are wanted, but there are only {len(candidates)} candidates: run longer")
    sets = environments([*candidates, *known], soap)
    new, old = [p[:len(candidates)] for p in sets], [p[len(candidates):] for p in sets]
    likeness = [_nearest(p, q.reshape(-1, q.shape[2])) for p, q in zip(new, old, strict=True)]
    first = _distance(likeness)
    chosen, distance = [], []
    for _ in range(n):
        d = _distance(likeness)
        d[chosen] = -1.0
        k = int(d.argmax())
        chosen.append(k)
        distance.append(d[k])
        likeness = [np.maximum(best, _nearest(p, p[k])) for best, p in zip(likeness, new, strict=True)]
    return Choice(chosen, np.array(distance), first)


def _nearest(environments, known):
    """Largest p.p' of each environment (n_frames, n_atoms, D) with any of known (m, D)."""
    if not len(known):
        return np.full(environments.shape[:2], -1.0)
    return (environments @ known.T).max(2)


def _distance(likeness):
    return np.sqrt(np.clip(2 - 2 * np.concatenate(likeness, axis=1), 0, None)).mean(1)


def spaced(trajectory, spacing, skip=0.0):
    """Frames of a `dynamics.Trajectory` at least `spacing` fs apart, from `skip` fs on; without the last if it was
    stopped, since that is the frame that was not to be trusted -> list of (time in fs, Atoms)."""
    last = len(trajectory) - bool(trajectory.stopped)
    out, due = [], skip
    for k in range(last):
        if trajectory.time[k] >= due - 1e-9:
            out.append((float(trajectory.time[k]), trajectory.atoms(k)))
            due = trajectory.time[k] + spacing
    return out
