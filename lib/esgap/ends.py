"""Ends of a path: what can be joined atom by atom along straight lines, and how to make it so.

Atom k of one end goes to atom k of the other, so positions must be continuous (not wrapped) and atoms in one order.
Units: A.
"""
import numpy as np
from ase.geometry import find_mic, get_distances
from scipy.optimize import linear_sum_assignment

from .neighbours import neighbour_pairs

CLASH = 1.0  # A, atoms closer than this are no structure


def check_ends(start, end, exchange=False):
    """Raise ValueError unless `end` can be reached from `start` as it stands, atom by atom along straight lines.

    exchange: atoms of one element may take each other's places. Without it, ends that are closer with their atoms in
    another order are refused, since most such ends come from lists in different order.
    """
    for what, a, b in (("atoms", start.symbols, end.symbols), ("pbc", start.pbc.tolist(), end.pbc.tolist())):
        if str(a) != str(b):
            raise ValueError(f"{what} of the ends are {a} and {b}: they must be the same, in the same order")
    if not np.allclose(start.cell, end.cell, atol=1e-6):
        raise ValueError("the ends have different cells: the cell is fixed along a path")
    for which, atoms in (("start", start), ("end", end)):
        pairs = neighbour_pairs(atoms.positions, atoms.cell.array, atoms.pbc, CLASH)
        if len(pairs):
            raise ValueError(f"atoms {pairs.i[0]} and {pairs.j[0]} of the {which} are closer than {CLASH} A: in a "
                             "repeated cell the place of a hop may be taken; give other frames")
    moved = end.positions - start.positions
    shortest = find_mic(moved, start.cell, start.pbc)[1]
    k = int((np.linalg.norm(moved, axis=1) - shortest).argmax())
    if shortest[k] < np.linalg.norm(moved[k]) / 4:
        raise ValueError(f"atom {k} goes {np.linalg.norm(moved[k]):.2f} A, but an image of its end is only "
                         f"{shortest[k]:.2f} A away: positions must be continuous, not wrapped (`ends.follow` "
                         "makes them so); a path to an own image needs an end in between")
    order = _order(start, end)
    if not exchange and (order != np.arange(len(order))).any():
        traded = ", ".join(f"{k}" for k in np.flatnonzero(order != np.arange(len(order))))
        raise ValueError(f"atoms {traded} take each other's places between the ends: if they are to do so in one "
                         "concerted move, say exchange=True; if only their order differs, use `ends.follow`")


def follow(start, end):
    """Copy of `end` as the nearest continuation of `start`: atoms of an element reordered, and their nearest images."""
    if sorted(start.numbers) != sorted(end.numbers):
        raise ValueError(f"the ends are {start.symbols} and {end.symbols}: they must be the same atoms")
    near = end[_order(start, end)]
    near.positions = start.positions + find_mic(near.positions - start.positions, start.cell, start.pbc)[0]
    near.info = dict(end.info)
    return near


def _order(start, end):
    """Which atom of `end` continues each of `start` (n,): smallest sum of squares by elements; in order if equal."""
    order = np.empty(len(start), int)
    for z in np.unique(start.numbers):
        a, b = np.flatnonzero(start.numbers == z), np.flatnonzero(end.numbers == z)
        cost = get_distances(start.positions[a], end.positions[b], start.cell, start.pbc)[1] ** 2
        rows, columns = linear_sum_assignment(cost)
        as_it_is = (a == b).all() and np.trace(cost) <= cost[rows, columns].sum() + 1e-6
        order[a] = b if as_it_is else b[columns]
    return order
