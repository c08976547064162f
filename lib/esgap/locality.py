"""Force locality: how much the force on an atom changes when only atoms beyond a radius move.

After V. L. Deringer, G. Csanyi, Phys. Rev. B 95, 094203 (2017): everything within a radius r of an atom is frozen,
what lies outside is displaced N times, and

    e(r)^2 = < sum_m |F_m - <F>|^2 / 3 (N - 1) >_atoms                              per force component, eV/A

is the variance no function of the frozen neighbourhood can follow: e(r) is a lower bound on the force RMSE of a
potential whose forces reach r. (Energies of atoms cut off at r_c make forces that reach up to 2 r_c, since the
neighbours' energies count, too.) One frozen sphere serves many r: for each frozen atom, r is the smallest distance
at which a displaced atom is found in any of the N displacements. Beyond the sphere's own radius a periodic cell has
frozen atoms again, the images of the sphere, so that large r are tested in some directions only and e(r) is, if
anything, too small there. The configurations come from `spheres`.
Units: A, eV/A.
"""
from dataclasses import dataclass, replace

import numpy as np
from ase.geometry import get_distances

from .spheres import atom_kinds

ELEMENTS = ("Li", "P", "S")
STILL = 1e-6  # A; an atom that differs by less between frames has not been displaced


@dataclass(frozen=True, eq=False)
class FrozenForces:
    """Force changes of atoms with frozen neighbourhoods, one row for each atom and displacement of the surroundings.

    `change` is F_m - <F>, the mean over the N displacements of that sphere, times sqrt(N/(N-1)), so that its mean
    square is an unbiased variance.
    """

    change: np.ndarray  # (n, 3) eV/A
    radius: np.ndarray  # (n,) A, up to which the atom's neighbourhood is frozen
    kind: np.ndarray  # (n,) str, one of `spheres.KINDS`
    element: np.ndarray  # (n,) str
    frame: np.ndarray  # (n,) int, which displacement, counted through all spheres
    sphere: np.ndarray  # (n_frames,) int, which sphere a displacement belongs to

    def minus(self, other):
        """What is left when the changes of the same atoms in another set of forces are subtracted."""
        if self.change.shape != other.change.shape or not (np.array_equal(self.frame, other.frame)
                                                           and np.allclose(self.radius, other.radius)):
            raise ValueError("the two sets of frozen forces belong to different frames: make both from one list")
        return replace(self, change=self.change - other.change)

    def chosen(self, who="all"):
        """(n,) True for the rows of `who`: "all", an element or a kind. ValueError names what there is."""
        if who == "all":
            return np.ones(len(self.radius), bool)
        mask = (self.element == who) | (self.kind == who)
        if not mask.any():
            raise ValueError(f"no frozen atom is {who!r}; there are all, "
                             f"{', '.join(dict.fromkeys([*self.element.tolist(), *self.kind.tolist()]))}")
        return mask


def frozen_forces(frames, calculator=None):
    """Collect the force changes in `frames` with info["centre"] and info["radius"] -> `FrozenForces`.

    Forces are the labels of the frames, or those of an ASE calculator. Spheres with a single displacement, and frames
    that are no displacement of a sphere (the crystal itself), are left out. Raises ValueError if nothing is left, or
    if no atom is frozen or none displaced.
    """
    groups = {}
    for atoms in frames:
        if "radius" in atoms.info:
            groups.setdefault((int(atoms.info["centre"]), float(atoms.info["radius"])), []).append(atoms)
    groups = {key: members for key, members in groups.items() if len(members) > 1}
    if not groups:
        raise ValueError(f"none of the {len(frames)} frames belong to a sphere with two or more displacements: give "
                         "frames of `python -m esgap frames locality`, with centre and radius in their info")
    rows, sphere = [], []
    for number, members in enumerate(groups[key] for key in sorted(groups)):
        frozen, radius = frozen_radii(members)
        forces = np.array([_forces(a, calculator)[frozen] for a in members])  # (N, n_frozen, 3)
        change = (forces - forces.mean(0)) * np.sqrt(len(members) / (len(members) - 1))
        kinds, elements = (x[frozen] for x in (atom_kinds(members[0]), np.array(members[0].get_chemical_symbols())))
        for one in change:
            rows.append((one, radius, kinds, elements, np.full(len(frozen), len(sphere))))
            sphere.append(number)
    return FrozenForces(*(np.concatenate(x) for x in zip(*rows, strict=True)), np.array(sphere))


def frozen_radii(members):
    """Atoms (n,) that are in the same place in all `members`, and up to which distance (n,) in A nothing else moves."""
    first, positions = members[0], np.array([a.positions for a in members])
    moved = np.ptp(positions, axis=0).max(1) > STILL
    frozen = np.flatnonzero(~moved)
    if not len(frozen) or not moved.any():
        raise ValueError(f"of the {len(first)} atoms around atom {first.info.get('centre')} {moved.sum()} move: the "
                         "frames of one sphere must have some atoms in common and some displaced")
    return frozen, np.min([get_distances(first.positions[frozen], p[moved], cell=first.cell, pbc=first.pbc)[1].min(1)
                           for p in positions], axis=0)


def _forces(atoms, calculator):
    return atoms.get_forces() if calculator is None else calculator.get_property("forces", atoms.copy())


@dataclass(frozen=True, eq=False)
class LocalityCurve:
    """Locality error against frozen radius, each with its bootstrap standard error; NaN where there are no atoms."""

    radius: np.ndarray  # (k,) A
    value: np.ndarray  # (k,) eV/A per component; the length of the vector is sqrt(3) times this
    error: np.ndarray  # (k,)
    n_atoms: np.ndarray  # (k,) different frozen atoms behind each value
    draws: np.ndarray  # (n_bootstrap, k)
    who: str = "all"

    def at(self, radius):
        """Value and error at one of the radii."""
        k = np.flatnonzero(np.isclose(self.radius, radius))
        if not len(k):
            raise ValueError(f"no locality error at {radius} A; there are {self.radius.tolist()}")
        return float(self.value[k[0]]), float(self.error[k[0]])

    def __str__(self):
        rows = zip(self.radius, self.value, self.error, self.n_atoms, strict=True)
        return "\n".join(f"{self.who:>12} {r:4.1f} A: {v:.3f} +- {e:.3f} eV/A ({n} atoms)" for r, v, e, n in rows)


def locality_curve(forces, radii, who="all", width=0.5, n_bootstrap=1000, seed=0):
    """Locality error of `FrozenForces` in windows of `width` around `radii` (A) -> `LocalityCurve`.

    who: "all" (as many of each element as there happen to be; see `by_composition`), an element or a kind. The
    bootstrap weighs displacements within each sphere; it does not know how different other atoms of a kind would be.
    """
    radii, rows = np.atleast_1d(np.asarray(radii, float)), forces.chosen(who)
    n_frames = len(forces.sphere)
    squares, counts, n_atoms = np.zeros((n_frames, len(radii))), np.zeros((n_frames, len(radii))), []
    for k, r in enumerate(radii):
        window = rows & (np.abs(forces.radius - r) <= width / 2 + 1e-9)
        np.add.at(squares[:, k], forces.frame[window], (forces.change[window] ** 2).sum(1))
        counts[:, k] = 3 * np.bincount(forces.frame[window], minlength=n_frames)
        first = np.unique(forces.sphere, return_index=True)[1]  # one displacement of each sphere
        n_atoms.append(int(np.isin(forces.frame[window], first).sum()))
    weights = resampling_weights(forces.sphere, n_bootstrap, seed)
    value, draws = _root_mean(squares.sum(0), counts.sum(0)), np.full((n_bootstrap, len(radii)), np.nan)
    for k in range(len(radii)):
        there = counts[:, k] > 0  # spheres that do not contribute may be too few to be resampled
        draws[:, k] = _root_mean(weights[:, there] @ squares[there, k], weights[:, there] @ counts[there, k])
    return LocalityCurve(radii, value, _spread(draws), np.array(n_atoms), draws, who)


def by_composition(curves, atoms):
    """Combine the curves of elements in the proportions of `atoms`: what an RMSE over all its atoms is bounded by."""
    share = {c.who: list(atoms.symbols).count(c.who) / len(atoms) for c in curves}
    if abs(sum(share.values()) - 1) > 1e-9:
        raise ValueError(f"curves of {', '.join(share)} do not cover {atoms.symbols}: give one for each element")
    value, draws = (np.sqrt(sum(share[c.who] * getattr(c, x) ** 2 for c in curves)) for x in ("value", "draws"))
    return LocalityCurve(curves[0].radius, value, _spread(draws), sum(c.n_atoms for c in curves), draws, "all")


def resampling_weights(sphere, n_bootstrap, seed):
    """Random weights (n_bootstrap, n_frames) of the displacements, N in sum over the N of each sphere.

    Dirichlet (the Bayesian bootstrap, D. B. Rubin, Ann. Stat. 9, 130 (1981)), of concentration (N-3)/N instead of 1:
    the changes are measured from the mean of the same N, which would make resampled variances too small, for normal
    changes by (N-2)/N; so they are right (for N = 3 one displacement has all the weight). Two displacements give no
    error: all weights of such a sphere are NaN.
    """
    rng, weights = np.random.default_rng(seed), np.full((n_bootstrap, len(sphere)), np.nan)
    for s in np.unique(sphere):
        members = np.flatnonzero(sphere == s)
        n = len(members)
        if n == 3:
            weights[:, members] = 3 * rng.multinomial(1, np.full(3, 1 / 3), n_bootstrap)
        elif n > 3:
            weights[:, members] = n * rng.dirichlet(np.full(n, (n - 3) / n), n_bootstrap)
    return weights


def _root_mean(squares, counts):
    return np.sqrt(np.divide(squares, counts, out=np.full(np.shape(squares), np.nan), where=counts > 0))


def _spread(draws):
    return draws.std(axis=0, ddof=1)  # NaN where a sphere has too few displacements
