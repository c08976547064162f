"""Which hops of a trajectory are worth a minimum-energy path, and their end points.

Frequent kinds, each by the hop during which all other ions move least; and, for the question whether lithium crosses
the crystal, two consecutive hops of one ion that carry it from one cell to the next. In a repeated cell the place where
an ion arrives may be taken by the copy of another that has left it: for traversals the MD should be of that cell.
Units: A, fs.
"""
from itertools import pairwise
from pathlib import Path

import numpy as np

from .dynamics import load_trajectory
from .hops import end_points, find_hops
from .store import write_frames

SHORTEST = 2.0  # A, between sites; what is closer is often one site in two parts
ROOM = 1.7  # A between ions, which relaxation can widen
THROUGH = 0.9  # of the lattice vector: sites of the next cell need not be copies of those of this one


def chosen_hops(trajectory, n, element="Li", shortest=SHORTEST):
    """The calmest hop of each of the n most frequent kinds -> list of (`hops.Hop`, `hops.HopKind`).

    Calm: the other ions move least between 200 fs before and 200 fs after it. Kinds of which no hop leaves room for the
    ions in `ends` are left out. shortest: A between sites.
    """
    found = find_hops(trajectory)
    out = []
    for kind in [kind for kind in found.table() if kind.length >= shortest][:n]:
        members = [[h] for h in found.hops if _same(h, kind)]
        if calmest := _calmest(trajectory, members, element):
            out.append((*calmest, kind))
    return out


def traversal(trajectory, vector, element="Li", shortest=SHORTEST):
    """Two consecutive hops of one ion that together carry it from one cell to the next along a lattice vector.

    vector (3,): A, of the unit cell, of which the cell of the trajectory may hold several. Of all such pairs that with
    the calmest other ions -> (`hops.Hop`, `hops.Hop`). ValueError if there is none.
    """
    pairs = [pair for pair, part in consecutive(find_hops(trajectory).hops, trajectory.cell, vector, shortest)
             if abs(part) >= THROUGH]
    if not (calmest := _calmest(trajectory, pairs, element)):
        raise ValueError(f"no two consecutive hops of an ion add up to {np.round(vector, 2).tolist()} A within "
                         f"{trajectory.time[-1] / 1e3:.0f} ps: give a longer trajectory")
    return calmest


def consecutive(hops, cell, vector, shortest=SHORTEST):
    """Pairs of consecutive `hops.Hop`s of one ion, none shorter than `shortest` (A) -> [((first, second), part of the
    lattice vector (3,) in A that they carry it `along`), ...]."""
    of_ion = {}
    for hop in sorted(hops, key=lambda h: h.start_frame):
        of_ion.setdefault(hop.ion, []).append(hop)
    pairs = [pair for of in of_ion.values() for pair in pairwise(of)]
    return [(pair, along(sum(h.displacement for h in pair), cell, vector)) for pair in pairs
            if min(np.linalg.norm(h.displacement) for h in pair) >= shortest]


def along(displacement, cell, vector):
    """Part of a displacement (3,) along a lattice vector (3,) of which the cell (3, 3) is a multiple, in its lengths;
    parts along the other lattice vectors do not count."""
    inverse = np.linalg.inv(cell)
    one = vector @ inverse
    return float(displacement @ inverse @ one / (one @ one))


def ends(trajectory, hops, repeat=(1, 1, 1), element="Li"):
    """Atoms before consecutive hops and after each of them, to be relaxed -> list of ASE Atoms.

    Only the ions that hop, and those that hop with them, are where MD has them after a hop; all others stay where they
    were before the first one. What else moves along, relaxation will tell; what has moved by chance is left out.
    """
    seen = end_points(trajectory, [(h.start_frame, h.end_frame) for h in hops], repeat=repeat, element=element)
    out, moved = [seen[0]], []
    for after, hop in zip(seen[1:], hops, strict=True):
        moved += [hop.ion, *hop.moved_with]
        atoms = seen[0].copy()
        atoms.positions[moved] = after.positions[moved]
        out.append(atoms)
    return out


def _same(hop, kind):
    back = (kind.end, kind.start, tuple(-k for k in kind.image))
    return (hop.start, hop.end, tuple(hop.image)) in ((kind.start, kind.end, tuple(kind.image)), back)


def _calmest(trajectory, candidates, element):
    """Of lists of consecutive hops the one during which other ions move least, with room for all ions; or None."""
    for hops in sorted(candidates, key=lambda hops: _unrest(trajectory, hops, element)):
        if all(_closest(atoms, element) >= ROOM for atoms in ends(trajectory, hops, element=element)):
            return tuple(hops)
    return None


def _closest(atoms, element):
    distance = atoms[atoms.symbols == element].get_all_distances(mic=True)
    return distance[np.triu_indices(len(distance), 1)].min(initial=np.inf)


def _unrest(trajectory, hops, element):
    """A, root of the summed squares of what other ions move from before the first of consecutive hops to after all."""
    seen = end_points(trajectory, [(h.start_frame, h.end_frame) for h in hops], element=element)
    moved = np.linalg.norm(seen[-1].positions - seen[0].positions, axis=1)
    moved[[ion for h in hops for ion in (h.ion, *h.moved_with)]] = 0.0
    return float(np.sqrt((moved[seen[0].symbols == element] ** 2).sum()))


def write_ends(trajectories, n, output, repeat=(1, 1, 1), element="Li", shortest=SHORTEST, through=None):
    """End points of n hops of each trajectory (paths of .npz) as named frames: hop-0-start, hop-0-end, ...

    through: also a `traversal` of each along this lattice vector (3,) in A, as two hops of which the second begins
    where the first ends and names it in `after`.
    """
    frames = []
    for path in trajectories:
        trajectory = load_trajectory(path)
        about = {"sampled_by": Path(path).stem}
        for hop, kind in chosen_hops(trajectory, n, element, shortest):
            sign = 1 if (hop.start, tuple(hop.image)) == (kind.start, tuple(kind.image)) else -1
            _add(frames, trajectory, [hop], repeat, element, **about, length=kind.length, along=sign * kind.along,
                 times=kind.forward + kind.backward)
        if through is not None:
            hops = traversal(trajectory, through, element, shortest)
            _add(frames, trajectory, hops, repeat, element, **about, times=1)
    if not frames:
        raise ValueError(f"there are no hops in {', '.join(map(str, trajectories))}: give longer trajectories")
    write_frames(output, frames)


def _add(frames, trajectory, hops, repeat, element, **about):
    """Add two frames for each of consecutive hops."""
    inverse, lengths = np.linalg.inv(trajectory.cell), np.linalg.norm(trajectory.cell, axis=1)
    frames_of = ends(trajectory, hops, repeat, element)
    for k, hop in enumerate(hops):
        number = len(frames) // 2
        own = {"length": float(np.linalg.norm(hop.displacement)), "along": hop.displacement @ inverse * lengths}
        for atoms, which in zip(frames_of[k:k + 2], ("start", "end"), strict=True):
            atoms = atoms.copy()
            atoms.info = {"name": f"hop-{number}-{which}", "ion": hop.ion, **own, **about,
                          "moved_with": "+".join(map(str, hop.moved_with)) or "none",
                          "after": f"hop-{number - 1}" if k else "none"}
            frames.append(atoms)
