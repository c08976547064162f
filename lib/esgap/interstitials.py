"""Interstitial sites of an ion in a crystal: holes of the ligand sublattice, and the sites that lithium was seen on.

A hole is a vertex of the Voronoi cells of the ligands (S): the centre of an empty tetrahedron, as far from four S as an
ion can be. It counts if no atom is closer than `closest` says; holes that an ion already holds drop out by that. Where
an interstitial ion comes to rest is for the potential to say: these are starting points.

Sites seen in molecular dynamics of Li6.75P3S11 at 520 K (29 half-filled sites, of which these lie between those of the
crystal) are given in a cell N with a = 6.19, b = 12.63, c = 12.67 A. Ours is a = -(a_N + b_N), b = -a_N, c = -c_N, so
(x, y, z) there is (-y, y - x, -z) here; inversion, which the crystal has, gives the others.
Units: A; positions are fractional coordinates of the crystal's unit cell, in [0, 1).
"""
from dataclasses import dataclass, field

import numpy as np
from ase.geometry import get_distances
from scipy.sparse.csgraph import connected_components
from scipy.spatial import Voronoi

CLOSEST = {"Li": 1.4, "P": 2.6, "S": 2.1}  # A; an ion at 1.4 A makes room: seen sites have a Li at 1.5
SAME = 0.3        # A; holes closer than this are one (a slightly distorted octahedron has several vertices)
ALIKE = 1e-3      # A; sites whose surroundings agree to this are equivalent by symmetry
IMAGES = np.stack(np.meshgrid(*[(-1, 0, 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
SEEN_IN_MD = ((0.5, 0, 0), (0.005, 0.642, 0.219), (0.404, 0.691, 0.911), (0.843, 0.857, 0.780), (0.443, 0.973, 0.384),
              (0.860, 0.002, 0.671), (0.003, 0.509, 0.893))  # fractional, cell N; for our setting see `seen_sites`


@dataclass(frozen=True)
class Interstitial:
    """One site. Sites of the same `orbit` are equivalent by symmetry: the same up to where they lie."""

    name: str          # hole1, hole2, ... or seen1, ...
    position: tuple    # fractional, unit cell
    nearest: dict = field(compare=False)  # A, distance to the nearest atom of each element
    orbit: int

    def __str__(self):
        where = ", ".join(f"{x:.3f}" for x in self.position)
        return f"{self.name}: ({where}), orbit {self.orbit}; " + ", ".join(
            f"{s} at {d:.2f} A" for s, d in self.nearest.items())


def hole_sites(crystal, ion="Li", ligand="S", closest=None):
    """Holes between the ligands, farthest from other ions first -> tuple of `Interstitial`. Deterministic.

    closest: least distance (A) by element, default `CLOSEST`; elements it does not name do not matter.
    """
    closest = CLOSEST if closest is None else closest
    for symbol in (ion, ligand):
        if symbol not in crystal.symbols:
            raise ValueError(f"there is no {symbol} in {crystal.symbols}: name another ion or ligand")
    cell = crystal.cell.array
    ligands = crystal.get_scaled_positions(wrap=True)[crystal.symbols == ligand]
    points = (ligands + IMAGES[:, None]) @ cell  # (27, n, 3)
    found = np.linalg.solve(cell.T, Voronoi(points.reshape(-1, 3)).vertices.T).T
    # a margin, so that a hole on the border of the cell is found from both sides and then counts once
    found = found[((found > -0.01) & (found < 1.01)).all(1)] % 1.0
    near = _nearest(crystal, found)
    open_ = np.all([near[s] >= d for s, d in closest.items() if s in near], axis=0)
    # decimals in the keys: equal distances differ by rounding, and then the position must decide
    order = np.lexsort([*found.T.round(4), -near[ion].round(4)])
    return _sites(crystal, found[[k for k in order if open_[k]]], "hole")


def seen_sites(crystal):
    """Sites that lithium was seen on in molecular dynamics, with their images by inversion -> tuple of `Interstitial`.

    crystal: Li7P3S11 in our setting, inversion at the origin.
    """
    x, y, z = np.array(SEEN_IN_MD).T
    here = np.stack([-y, y - x, -z], axis=1) % 1.0
    both = np.stack([here, -here % 1.0], axis=1).reshape(-1, 3)
    return _sites(crystal, both, "seen")


def site_named(name, sites):
    """The site of that name. ValueError names those there are."""
    found = [s for s in sites if s.name == name]
    if not found:
        raise ValueError(f"no interstitial site {name!r}; there are {', '.join(s.name for s in sites)}")
    return found[0]


def _sites(crystal, positions, prefix):
    """Positions (n, 3) that differ, numbered in the order given, with orbits."""
    places = positions @ crystal.cell.array
    close = get_distances(places, cell=crystal.cell, pbc=True)[1] < SAME
    first = np.unique(connected_components(close)[1], return_index=True)[1]  # of a row of close ones, the first
    marks, sites = [], []
    for k in sorted(first):
        mark = _surroundings(crystal, places[k])
        alike = [n for n, other in enumerate(marks) if np.abs(other - mark).max() < ALIKE]
        if not alike:
            marks.append(mark)
        near = {s: float(d[0].round(4)) for s, d in _nearest(crystal, positions[k][None]).items()}
        sites.append(Interstitial(f"{prefix}{len(sites) + 1}", tuple(float(x) for x in positions[k].round(6) % 1.0),
                                  near, alike[0] if alike else len(marks) - 1))
    return tuple(sites)


def _nearest(crystal, positions):
    """Distance (n,) from fractional positions (n, 3) to the nearest atom of each element, A."""
    d = get_distances(positions @ crystal.cell.array, crystal.positions, cell=crystal.cell, pbc=True)[1]
    return {s: d[:, crystal.symbols == s].min(1) for s in sorted(set(crystal.symbols))}


def _surroundings(crystal, point):
    """Distances to the 6 nearest atoms of each element (A): equal for sites that a symmetry maps on each other."""
    vectors = get_distances(point, crystal.positions, cell=crystal.cell, pbc=True)[0][0]
    d = np.linalg.norm(vectors[:, None] + IMAGES @ crystal.cell.array, axis=2)  # (n_atoms, 27)
    return np.concatenate([np.sort(d[crystal.symbols == s], axis=None)[:6] for s in sorted(set(crystal.symbols))])
