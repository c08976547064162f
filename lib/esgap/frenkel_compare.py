"""GAP and ES-GAP compared over Frenkel pairs without a field, in one cell or in cells of several sizes.

Pair by pair, over pairs that survive the relaxation with both: the scatter between pairs (standard deviation) is large,
that of the differences (standard error of their mean) is not.
Units: A, eV.
"""
from dataclasses import dataclass

import numpy as np

PAPERS = (2, 3, 2)  # the paper's cell, 504 atoms


@dataclass(frozen=True, eq=False)
class Comparison:
    """Formation energies at zero field of the pairs that survive with both models, in one cell."""

    repeat: tuple
    pairs: tuple
    gap: np.ndarray     # (n,) eV
    es_gap: np.ndarray  # (n,) eV
    lost: tuple         # pairs of this cell that do not survive with one or both

    def mean(self, which):
        """(mean, standard deviation between pairs) of "gap", "es_gap" or "difference" (ES-GAP less GAP), eV."""
        values = self.es_gap - self.gap if which == "difference" else getattr(self, which)
        return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")

    def difference(self):
        """(mean, standard error of the mean) of ES-GAP less GAP, eV."""
        mean, scatter = self.mean("difference")
        return mean, scatter / np.sqrt(len(self.pairs))

    def __str__(self):
        text = ", ".join(f"{n} {m:.3f} (scatter {s:.3f})" for n, (m, s) in (
            ("GAP", self.mean("gap")), ("ES-GAP", self.mean("es_gap"))))
        mean, error = self.difference()
        return (f"{'x'.join(map(str, self.repeat))}, {len(self.pairs)} pairs: {text}, ES-GAP less GAP {mean:+.3f} "
                f"+- {error:.3f} eV; {len(self.lost)} lost")


def compare(gap, es_gap, repeat, pairs=None):
    """Two `Sweep`s, over all pairs (or those named) relaxed in the cell with both -> `Comparison`."""
    names = [n for n in (gap.pairs if pairs is None else pairs)
             if repeat in gap.repeats(n) and repeat in es_gap.repeats(n)]
    there = [n for n in names if not gap.became(n, repeat) and not es_gap.became(n, repeat)]
    if not there:
        raise ValueError(f"no pair of {len(names)} survives with both models in {'x'.join(map(str, repeat))} cells: "
                         "relax others, `python -m esgap frenkel --sites` lists the sites")
    return Comparison(repeat, tuple(there), np.array([gap.formation_energy(n, repeat) for n in there]),
                      np.array([es_gap.formation_energy(n, repeat) for n in there]),
                      tuple(n for n in names if n not in there))


def largest(sweeps, most=PAPERS):
    """`Comparison` of the pairs of `several_cells` in the largest cell in which any survives with both models.

    most: cells along a, b, c; of cells with more the table and the means say nothing (`sizes` does).
    """
    gap, es_gap = sweeps["GAP"], sweeps["ES-GAP"]
    names = several_cells(gap)
    cells = {r for n in names for r in gap.repeats(n) if np.prod(r) <= np.prod(most)}
    for repeat in sorted(cells, key=np.prod, reverse=True):
        try:
            return compare(gap, es_gap, repeat, names)
        except ValueError:  # none survives here
            continue
    raise ValueError(f"of the pairs {', '.join(names)} none survives with both models in any cell")


def several_cells(sweep):
    """Names of the pairs that were relaxed in more than one cell, by distance (all pairs if there are none).

    Those of a scan are in one cell.
    """
    names = [n for n in sweep.pairs if len(sweep.repeats(n)) > 1] or list(sweep.pairs)
    return tuple(sorted(names, key=lambda n: (np.linalg.norm(sweep.vectors[n]), n)))


def sizes(sweeps, crystal):
    """{model: {pair: (atoms (n,), eV (n,))}} of `several_cells`, over cells in which the pair survives."""
    found = {}
    for label, s in sweeps.items():
        found[label] = {}
        for pair in several_cells(s):
            there = [r for r in s.repeats(pair) if not s.became(pair, r)]
            found[label][pair] = (np.array([len(crystal) * np.prod(r) for r in there]),
                                  np.array([s.formation_energy(pair, r) for r in there]))
    return found


def size_effect(pairs, least=0):
    """Root mean square change between smallest and largest cell (eV) of {pair: (atoms, eV)}, pairs in several.

    least: atoms, of cells that count.
    """
    there = [energy[atoms >= least] for atoms, energy in pairs.values()]
    changes = [energy[-1] - energy[0] for energy in there if len(energy) > 1]
    if not changes:
        raise ValueError("no pair survives in more than one cell" + f" of {least} atoms or more" * (least > 0))
    return float(np.sqrt(np.mean(np.square(changes))))
