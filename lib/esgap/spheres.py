"""Configurations of the locality test: all atoms within a sphere frozen, all others displaced.

After V. L. Deringer, G. Csanyi, Phys. Rev. B 95, 094203 (2017); `locality` looks at the forces inside. In a periodic
cell the sphere has images: an atom is frozen if it is within the radius of any of them.
Units: A. Displacements are those of about 800 K.
"""
from dataclasses import dataclass

import numpy as np
from ase.geometry import get_distances

from .neighbours import neighbour_pairs
from .structures import sulfur_species, thermal, thiophosphate_units

SPLIT_UNIT = 0.07  # A rms by axis, atoms bonded to frozen ones: sqrt(kT/k) at 800 K for a P-S bond of 15 eV/A^2
SHORTEST = {"LiS": 2.0, "LiP": 2.4, "LiLi": 2.4, "PS": 1.8, "SS": 2.8}  # A; closer contacts are not met at 800 K
SEED = 20170309
PLAN = ((6.0, 8), (7.0, 3))  # frozen radius in A, displacements per centre
KINDS = ("Li", "P in PS4", "P in P2S7", "terminal S", "bridging S")


def distances_from(atoms, centre):
    """Distance (n,) in A of every atom from the nearest image of atom `centre`."""
    return get_distances(atoms.positions[[centre]], atoms.positions, cell=atoms.cell, pbc=atoms.pbc)[1][0]


def perturb_outside(atoms, centre, radius, rng, scale=1.0):
    """Copy of `atoms` with every atom further than `radius` from `centre` displaced, all others where they were.

    P-S units that lie outside as a whole move as rigid bodies (`structures.thermal`), Li move freely; atoms of a unit
    that the sphere cuts are displaced one by one, since their frozen neighbours allow no rotation. Independent
    displacements sometimes collide: drawn again until no contact is shorter than in `SHORTEST`.
    info: centre, frozen radius. Raises ValueError if nothing is outside or no draw is free of short contacts.
    """
    inside = distances_from(atoms, centre) <= radius
    if inside.all():
        raise ValueError(f"no atom is further than {radius} A from atom {centre}: use a larger cell or smaller radius")
    for _ in range(1000):
        new = _displaced(atoms, inside, rng, scale)
        if not len(short_contacts(new)[0]):
            new.info.update(config_type="locality", centre=int(centre), radius=float(radius))
            return new
    raise ValueError(f"1000 displacements at scale {scale} all had contacts shorter than {SHORTEST}: lower the scale")


def _displaced(atoms, inside, rng, scale):
    new = thermal(atoms, rng, scale)
    for members, _ in thiophosphate_units(atoms):
        if inside[members].any():
            new.positions[members] = atoms.positions[members] + SPLIT_UNIT * scale * rng.normal(size=(len(members), 3))
    new.positions[inside] = atoms.positions[inside]
    return new


def short_contacts(atoms, fraction=1.0):
    """Pairs closer than `fraction` of what `SHORTEST` allows for their elements -> i, j (n,), distances (n,) in A."""
    pairs = neighbour_pairs(atoms.positions, atoms.cell.array, atoms.pbc, fraction * max(SHORTEST.values()))
    symbols = np.array(atoms.get_chemical_symbols())
    limit = np.array([SHORTEST.get(a + b, SHORTEST.get(b + a, 0.0)) for a, b in
                      zip(symbols[pairs.i], symbols[pairs.j], strict=True)])
    d = np.linalg.norm(atoms.positions[pairs.j] - atoms.positions[pairs.i] + pairs.S @ atoms.cell.array, axis=1)
    short = d < fraction * limit
    return pairs.i[short], pairs.j[short], d[short]


def atom_kinds(atoms):
    """What each atom is, one of `KINDS`; the symbol for atoms of other kinds: (n,) of str."""
    size = {m: len(members) for members, _ in thiophosphate_units(atoms) for m in members}
    species, names = sulfur_species(atoms), []
    for k, symbol in enumerate(atoms.symbols):
        kind = {5: "P in PS4", 9: "P in P2S7"}.get(size.get(k)) if symbol == "P" else f"{species[k]} S"
        names.append(kind if kind in KINDS else symbol)
    return np.array(names)


@dataclass(frozen=True)
class Centre:
    """An atom to put a sphere around."""

    index: int
    kind: str  # one of `KINDS`


def inequivalent_centres(atoms):
    """One atom of each kind, and two inequivalent Li (least and most S within 3 A) -> tuple of `Centre`.

    Of several equal candidates the first in the file is taken.
    """
    kinds, symbols = atom_kinds(atoms), np.array(atoms.get_chemical_symbols())
    li = np.flatnonzero(symbols == "Li")
    near = np.array([((distances_from(atoms, k) < 3.0) & (symbols == "S")).sum() for k in li])
    chosen = [Centre(int(li[near.argmin()]), "Li"), Centre(int(li[near.argmax()]), "Li")]
    return (*chosen, *(Centre(int(np.flatnonzero(kinds == kind)[0]), kind) for kind in KINDS[1:]))


def locality_configurations(atoms, seed=SEED, plan=PLAN):
    """Configurations of the locality test in a supercell `atoms`: itself, then every centre in turn, so that a part of
    the list is already a complete if noisier test.

    plan: (frozen radius in A, displacements per centre). info holds name, centre, kind and radius.
    """
    reference = atoms.copy()
    reference.info = {"name": "locality-crystal", "config_type": "locality"}
    frames, centres = [reference], inequivalent_centres(atoms)
    for radius, count in plan:
        for n in range(count):
            for c in centres:
                rng = np.random.default_rng([seed, c.index, round(100 * radius), n])
                frame = perturb_outside(atoms, c.index, radius, rng)
                frame.info.update(name=f"locality-{c.index:02d}-{radius:.1f}-{n}", kind=c.kind)
                frames.append(frame)
    for frame in frames:  # they come without labels
        frame.calc = None
        frame.arrays.pop("hirshfeld", None)
        for key in ("reference", "program"):
            frame.info.pop(key, None)
    return frames
