"""A Frenkel pair to turn and to play: built, relaxed, and in the field; its dipole as an arrow.

Two arrows start at the vacancy: d, to the interstitial site, and mu / q, the dipole of the relaxed pair over the charge
of the ion that moved. In a rigid lattice they are the same; what mu / q lacks, the ions around the pair have screened.
Units: A, e.
"""
import numpy as np

from . import views
from .frenkel import dipole


def played(story, sweep, direction):
    """`views.StructureView` of a story (`frenkel_summary.read_story`) through relaxation and the fields along one axis.

    sweep: the `Sweep` it belongs to, with its charges. Only directions that the story holds can be played.
    """
    pair, _, frames = story
    fields = sorted((name for name in frames if name.startswith((f"{direction}+", f"{direction}-"))),
                    key=lambda name: float(name.removeprefix(direction)))
    there = sorted({n[:-7] for n in frames if "." in n})
    if there and not fields:
        raise ValueError(f"no field along {direction!r} in this story; there are {', '.join(there)}")
    order = ["perfect", "built", "0", *fields]
    labels = ["perfect crystal", "the ion is moved", "relaxed", *(
        f"{float(name.removeprefix(direction)):+.3f} V/Å along {direction}" for name in fields)]
    p, perfect = sweep.pairs[pair], frames["perfect"]
    start = perfect.positions[p.vacancy]
    moved = dipole(frames["0"], perfect, sweep.charges) / sweep.charges[p.ion]
    return views.structure(
        [frames[name] for name in order], title=f"Frenkel pair {pair} through relaxation and field", labels=labels,
        caption=f"{len(perfect)} atoms; marked: the ion that moved. Arrows from its site: to the interstitial site, "
                f"and the dipole of the relaxed pair over the ion's charge ({np.linalg.norm(moved):.1f} Å long).",
        highlight=[p.vacancy], polyhedra=False,
        arrows=[[start, start + sweep.vectors[pair]], [start, start + moved]])


def relaxing(frames, pair, title):
    """`views.StructureView` of a relaxation, first frame to last. frames: as `frenkel.relax` traces them."""
    last = len(frames) - 1
    steps = sorted({*range(0, last, max(1, -(-len(frames) // 40))), last})
    return views.structure([frames[k] for k in steps], title=title, labels=[f"step {k}" for k in steps],
                           polyhedra=False, highlight=[pair.vacancy],
                           caption=f"{len(frames[0])} atoms; marked: the ion that moved.")
