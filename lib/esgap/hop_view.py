"""One hop on the paths of two models, over one framework, to turn and to play (the paper's Fig. 2, left).

Of each model the ion that hops and those that move along with it are drawn in the model's colour; everything else is
that of GAP. Both paths are played at the same share of their length. Solid trail: where the ion that hops goes; one
arrow for each ion that moves along, from where it begins to where it is farthest from there.
Units: A.
"""
import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers
from ase.geometry import find_mic

from . import views
from .figures import MODEL_COLOURS
from .paths import respaced

STOPS = 4  # arrows of a trail
LEAST = 0.5  # A that an ion moves along
STILL = "#bdbdbd"  # lithium that stays: its usual blue is too near to that of GAP


def overlaid(hop, n_frames=25, height=460):
    """`views.StructureView` of the paths of all models of a `hop_paths.HopPaths`."""
    models = list(hop.images)
    runs = {m: respaced(hop.images[m], n_frames - 2) for m in models}
    base = runs[models[0]][0]
    whole = views.whole_units(base)[0]
    paths = {m: whole + _from(base, run) for m, run in runs.items()}  # (n_frames, n_atoms, 3)
    movers = {m: [hop.ion, *hop.displaced(m, LEAST)] for m in models}
    frames, groups, marked = _drawn(base, paths, movers, hop.ion)
    arrows = {m: _arrows(paths[m], movers[m]) for m in models}
    beside = ", ".join(f"{len(movers[m]) - 1} with {m}" for m in models)
    return views.structure(
        frames, title=f"Lithium on the paths of {' and '.join(models)}, {hop.title}", whole=False, polyhedra=False,
        labels=[f"{100 * k / (n_frames - 1):.0f} % of the way" for k in range(n_frames)], highlight=marked,
        groups=groups, arrows=np.concatenate(list(arrows.values())), height=height,
        arrow_colours=[MODEL_COLOURS.get(m, "#000000") for m in models for _ in arrows[m]],
        caption="Play it. Marked: the ion that hops, once for each model, and its trail; single arrows: ions that move "
                f"along by {LEAST} Å or more ({beside}). Blue is GAP, pink ES-GAP; all else is drawn as on the path of "
                f"{models[0]}.")


def _from(base, run):
    """Displacements (n_frames, n_atoms, 3) of a path from `base`; the drift of its first image is left out."""
    first = find_mic(run[0].positions - base.positions, base.cell, base.pbc)[0]
    framework = base.numbers != atomic_numbers["Li"]
    if framework.any():
        first = first - np.average(first[framework], axis=0, weights=atomic_masses[base.numbers[framework]])
    return np.array([first + a.positions - run[0].positions for a in run])


def _drawn(base, paths, movers, ion):
    """Frames with the movers of every further model added, groups of movers by model, and which atoms hop."""
    (model, path), *others = paths.items()
    symbols, shown = list(base.symbols), [path]
    stay = [int(k) for k in np.flatnonzero(base.numbers == atomic_numbers["Li"]) if k not in movers[model]]
    groups = {"Li that stays": (STILL, stay), f"Li, {model}": (MODEL_COLOURS.get(model, "#000000"), movers[model])}
    marked = [ion]
    for other, further in others:
        begin = len(symbols)
        symbols += [base.symbols[k] for k in movers[other]]
        shown.append(further[:, movers[other]])
        marked.append(begin + movers[other].index(ion))
        groups[f"Li, {other}"] = MODEL_COLOURS.get(other, "#000000"), list(range(begin, len(symbols)))
    places = np.concatenate(shown, axis=1)
    return [Atoms(symbols, x, cell=base.cell, pbc=base.pbc) for x in places], groups, marked


def _arrows(path, movers):
    """Arrows (n, 2, 3): the trail of the first mover, then one for each of the others."""
    stops = path[np.linspace(0, len(path) - 1, STOPS + 1).astype(int), movers[0]]
    out = [*np.stack([stops[:-1], stops[1:]], axis=1)]
    for k in movers[1:]:
        farthest = np.linalg.norm(path[:, k] - path[0, k], axis=1).argmax()
        out.append(np.stack([path[0, k], path[farthest, k]]))
    return np.array(out)
