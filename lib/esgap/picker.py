"""Outliers of a force model, and the structures they come from: a plot to click in, for Jupyter and static HTML.

One point per atom: |F_model - F_DFT| against |F_DFT|, eV/A. On the dashed line the error is as large as the force. The
chosen atom is shown in its frame, with a halo, with both forces as arrows (the longer one always 3.5 A long), and with
what is nearer than 3.5 A in the cells beside it.
The page is as offline as those of `views`. Every large error is in it; of ordinary points so many as a page can carry.
"""
from dataclasses import dataclass, field

import numpy as np

from . import figures, views

N_WORST = 15          # atoms in the list, always drawn
MAX_ATOMS = 40_000    # of all frames in a page: at 16 characters each, plus bonds, below 1 MB
ARROW_COLOURS = {"DFT": "#1a1a1a", "model": "#0072b2"}
THIN = 0.7            # radii beside those of `views`: arrows must be seen between the atoms
HALO_COLOUR = "#009e73"  # none of the elements, none of the arrows


@dataclass(frozen=True, eq=False)
class ForceParity:
    """Force errors, atom by atom, with structures; shows itself. Made by `parity`.

    `page` is the offline HTML document, `alt` says in words what the plot shows; `points` are the atoms drawn, largest
    error first: (n, 2) number of the frame and index of the atom.
    """

    title: str
    caption: str
    alt: str
    height: int
    points: np.ndarray = field(repr=False)
    page: str = field(repr=False)

    @property
    def html(self):
        """The figure for static HTML: iframe with an accessible title, caption below."""
        return views.framed(self.page, self.title, self.caption, self.height)

    def _repr_html_(self):
        return self.html

    def __repr__(self):
        return f"ForceParity({self.title!r}: {self.alt})"


def parity(errors, frames, title, caption=None, *, model=None, n_points=3000, height=480):
    """Plot of the force errors of a model in which a click on an atom shows its structure and forces.

    errors: `validation.Errors` of the model; frames: the labelled frames it was evaluated on, in the same order;
    title: names the figure for screen readers; caption: the sentence below it; model: its name; n_points: how many
    atoms to draw, the largest errors always; height in pixels of a wide window, in narrow ones plot and view stack up.
    """
    frames = list(frames)
    _check(errors, frames, title, n_points)
    dft, ours = errors.reference["all"], errors.model["all"]  # (n, 3)
    size = np.linalg.norm(ours - dft, axis=1)
    frame = np.repeat(np.arange(len(frames)), [len(a) for a in frames])
    atom = np.concatenate([np.arange(len(a)) for a in frames])
    order = np.argsort(-size, kind="stable")
    ranks = _chosen(frame[order], np.array([len(a) for a in frames]), n_points)  # 0: the largest error
    rows = order[ranks]
    shown, number = np.unique(frame[rows], return_inverse=True)  # frames in the page, and which of them a point is of
    model = model or "model"
    alt = _alt(size, np.linalg.norm(dft, axis=1), frames[frame[order[0]]], frame[order[0]], atom[order[0]], model)
    data = {
        "model": model, "alt": alt, "height": int(height), "nAtoms": len(size), "nWorst": min(N_WORST, len(size)),
        "points": views.packed(np.column_stack([number, atom[rows], ranks, dft[rows], ours[rows]])),  # (n, 9)
        "arrowColours": {"DFT": ARROW_COLOURS["DFT"],
                         "model": figures.MODEL_COLOURS.get(model, ARROW_COLOURS["model"])},
        "haloColour": HALO_COLOUR,
        **_structures([frames[k] for k in shown], shown),
    }
    points = np.column_stack([frame[rows], atom[rows]])
    return ForceParity(title, caption or "", alt, int(height), points, views.offline_page("picker.html", title, data))


def _check(errors, frames, title, n_points):
    if not frames:
        raise ValueError("`frames` is empty; give the labelled frames that `errors` was evaluated on")
    if not (isinstance(title, str) and title.strip()):
        raise ValueError(f"`title` is {title!r}; the figure needs one, screen readers announce it")
    if n_points < N_WORST:
        raise ValueError(f"n_points is {n_points}; the {N_WORST} largest errors are always drawn: ask for that or more")
    dft, n = errors.reference["all"], sum(len(a) for a in frames)
    if len(frames) != errors.n_frames or n != len(dft):
        raise ValueError(f"`errors` is of {errors.n_frames} frames with {len(dft)} atoms, `frames` are {len(frames)} "
                         f"with {n}; give the list that `held_out_errors` was given")
    if not np.all(np.isfinite(errors.model["all"])):
        raise ValueError("`errors` holds model forces that are not finite; look for the frame on which the model fails")
    start = 0
    for k, atoms in enumerate(frames):
        label = atoms.calc and atoms.calc.get_property("forces", atoms, allow_calculation=False)
        if label is None:
            raise ValueError(f"{_name(atoms, k)} carries no DFT forces; give labelled frames (`esgap.read_frames`)")
        if not np.allclose(label, dft[start:start + len(atoms)], atol=1e-6):
            raise ValueError(f"the DFT forces of {_name(atoms, k)} are not those in `errors`; give the frames in the "
                             "order that `held_out_errors` was given")
        start += len(atoms)


def _chosen(frame, sizes, n_points):
    """Which points to draw, of all points sorted by error: the worst, then a random choice that a page can carry.

    frame: (n,) of each point; sizes: atoms by frame. A frame that is shown costs all its atoms, so the number of frames
    is limited, too.
    """
    rng = np.random.default_rng(0)
    worst = list(dict.fromkeys(frame[:N_WORST].tolist()))
    others = [k for k in rng.permutation(len(sizes)).tolist() if k not in worst]
    room = MAX_ATOMS - sizes[worst].sum() - np.cumsum(sizes[others])
    ordinary = np.flatnonzero(np.isin(frame[N_WORST:], worst + [k for k, left in zip(others, room, strict=True)
                                                               if left >= 0])) + N_WORST
    if len(ordinary) > n_points - N_WORST:
        ordinary = rng.choice(ordinary, n_points - N_WORST, replace=False)
    return np.concatenate([np.arange(min(N_WORST, len(frame))), np.sort(ordinary)])


def _structures(frames, numbers):
    """What the page needs of the frames: whole units, bonds, cells, names; species once for frames that share them."""
    kinds = list(dict.fromkeys(tuple(a.symbols) for a in frames))
    drawn = [views.whole_units(a) for a in frames]
    elements = sorted({s for kind in kinds for s in kind})
    return {
        "colours": {s: figures.COLOURS.get(s, views.colour(s)) for s in elements},  # in the plot and in the view
        "markers": {s: figures.MARKERS.get(s, "D") for s in elements},
        "radii": {s: THIN * views.radius(s) for s in elements},
        "kinds": kinds,
        "positions": views.packed(np.concatenate([x for x, _ in drawn])),
        "frames": [{"name": _name(a, k), "kind": kinds.index(tuple(a.symbols)), "bonds": bonds.tolist(),
                    "cell": a.cell.array.round(4).tolist() if a.cell.rank == 3 else None}
                   for a, k, (_, bonds) in zip(frames, numbers, drawn, strict=True)],
    }


def _name(atoms, k):
    return str(atoms.info.get("name") or f"frame {k}")


def _alt(size, force, worst_frame, k, i, model):
    return (f"force error of {model} against the DFT force, {len(size)} atoms: median error {np.median(size):.2f} eV/Å "
            f"for a median force of {np.median(force):.2f} eV/Å, largest error {size.max():.2f} eV/Å, of atom {i} "
            f"({worst_frame.symbols[int(i)]}) of {_name(worst_frame, k)}")
