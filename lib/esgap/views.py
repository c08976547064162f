"""Structures to turn: one object, two faces.

In Jupyter the live nglview widget; in static HTML a self-contained page in an iframe (`view.html`) that draws with the
book's own copy of NGL and asks nothing of the network. Positions travel as little-endian float32, base64. Units: A.

Only P-S bonds are drawn (P-S closer than 2.6 A, images included). PS4 and P2S7 units are put together across the cell
boundary, so no bond crosses the picture; all other atoms lie inside the cell. The bonds are those of the first frame.
Later frames follow each atom continuously: what diffuses leaves the cell instead of jumping through it. A density is
drawn as an isosurface that ends at the faces of the cell; a slider moves its level offline, in Jupyter it is fixed.
"""
import base64
import html
import io
import json
from collections import Counter, deque
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files

import numpy as np
from ase.data import atomic_numbers, covalent_radii
from ase.data.colors import jmol_colors
from ase.geometry import find_mic, wrap_positions
from ase.units import Bohr

from esgap.structures import ps_bonds

COLOURS = {"Li": "#56b4e9", "P": "#d55e00", "S": "#f0d000"}  # told apart with any colour vision; jmol's for the rest
SURFACE = {"isolevelType": "value", "color": COLOURS["Li"], "opacity": 0.45, "side": "double", "opaqueBack": False,
           "depthWrite": False, "disablePicking": True, "useWorker": False}  # of a density, for NGL
RADII = {"Li": 0.38, "P": 0.30, "S": 0.58}  # A as drawn: elements also differ in size


@dataclass(frozen=True)
class StructureView:
    """A structure or trajectory that shows itself; made by `structure`.

    `frames` are ASE Atoms as drawn (whole units, continuous paths), `page` the offline HTML document, `widget` the
    live nglview widget (made on first use), `density` the one drawn over them, if any, as its surface at `level`,
    `tints` the colours of atoms in groups.
    """

    frames: tuple
    title: str
    caption: str
    height: int
    page: str
    density: object = None
    level: float | None = None  # 1/A^3
    tints: dict = field(default_factory=dict)  # {index: "#rrggbb"}

    @property
    def html(self):
        """The figure for static HTML: iframe with an accessible title, caption below."""
        return framed(self.page, self.title, self.caption, self.height)

    @cached_property
    def widget(self):
        """nglview's widget with title and caption; needs a running Jupyter to be seen."""
        from IPython.utils.capture import capture_output
        with capture_output():  # the import itself displays an empty box
            import nglview
        import ipywidgets

        view = nglview.show_asetraj(list(self.frames), default=False)
        view.layout.height = f"{self.height}px"
        rest = f" and not @{','.join(map(str, self.tints))}" if self.tints else ""
        for symbol in sorted(set(self.frames[0].symbols)):
            view.add_representation("spacefill", selection=f"_{symbol}{rest}", radius=radius(symbol),
                                    color=colour(symbol))
        for i, tint in self.tints.items():
            view.add_representation("spacefill", selection=f"@{i}", color=tint,
                                    radius=radius(self.frames[0].symbols[i]))
        view.add_representation("licorice", selection="_P or _S", radius=0.12, color="element")
        view.add_unitcell()
        if self.density is not None:
            root = 255 * float(np.sqrt(self.level / self.density.values.max()))
            view.add_component(io.StringIO(_cube(self.density)), ext="cube", name="density",
                               default_representation=False)
            view.add_representation("surface", component=1, isolevel=root, **SURFACE)
        view.center()
        text = f"<b>{html.escape(self.title)}</b><br>{html.escape(self.caption)}"
        return ipywidgets.VBox([view, ipywidgets.HTML(text)])

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {**self.widget._repr_mimebundle_(), "text/plain": repr(self), "text/html": self.html}

    def __repr__(self):
        first = self.frames[0]
        return f"StructureView({self.title!r}: {first.get_chemical_formula()}, {len(self.frames)} frame(s))"


def structure(frames, title, caption=None, *, labels=None, polyhedra=True, whole=True, arrows=(), arrow_colours=(),
              highlight=(), groups=None, density=None, share=0.9, height=420):
    """Show `frames`, one ASE Atoms or a list of them, to turn and to play.

    title: names the view for screen readers; caption: the sentence below it; labels: one text per frame beside the
    slider, e.g. times; polyhedra: translucent tetrahedra around P, in every frame (a button switches them);
    whole: put PS4 and P2S7 units together and other atoms into the cell, False leaves positions as given;
    arrows: (n, 2, 3) start and end points in A; arrow_colours: "#rrggbb" of each, black without; highlight: indices of
    atoms that get a halo; groups: {name: ("#rrggbb", indices)} of atoms with a colour and a name of their own;
    density: a `density.Density` in the same cell, drawn as the translucent surface that encloses `share` of it (a
    button switches it, offline a slider changes the share); height in pixels.

    >>> from ase.build import bulk
    >>> structure(bulk("LiH", "rocksalt", a=4.08), title="Rock salt")
    StructureView('Rock salt': HLi, 1 frame(s))
    """
    frames = [frames] if hasattr(frames, "positions") else list(frames)
    tints = {int(i): tint for tint, members in (groups or {}).values() for i in members}
    _check(frames, title, labels, [*highlight, *tints])
    arrows = np.reshape(arrows, (-1, 2, 3)).tolist()
    if arrow_colours and len(arrow_colours) != len(arrows):
        raise ValueError(f"`arrow_colours` has {len(arrow_colours)} colours for {len(arrows)} arrows; give each one")
    first = frames[0]
    positions, bonds = whole_units(first) if whole else (first.positions.copy(), _bonds_inside(first))
    paths = _continuous(frames, positions)  # (n_frames, n_atoms, 3)
    data = {
        "title": title,
        "symbols": list(first.symbols),
        "colours": {s: colour(s) for s in set(first.symbols)},
        "radii": {s: radius(s) for s in set(first.symbols)},
        "counts": Counter(s for i, s in enumerate(first.symbols) if i not in tints),
        "groups": [[name, tint, len(members)] for name, (tint, members) in (groups or {}).items()],
        "cell": first.cell.tolist() if first.cell.rank == 3 else None,
        "positions": packed(paths),
        "labels": [str(text) for text in labels] if labels is not None else [],
        "bonds": bonds.tolist(),
        "tetrahedra": _tetrahedra(first.symbols, bonds),
        "polyhedra": bool(polyhedra),
        "arrows": [[*ends, c] for ends, c in zip(arrows, arrow_colours, strict=True)] if arrow_colours else arrows,
        "tints": tints,
        "highlight": [int(i) for i in highlight],
        "density": _surface(density, first, share) if density is not None else None,
    }
    shown = tuple(_at(frame, x) for frame, x in zip(frames, paths, strict=True))
    return StructureView(shown, title, caption or "", height, offline_page("view.html", title, data), density,
                         None if density is None else float(density.level(share)), tints)


def whole_units(atoms):
    """Positions (n, 3) with P-S units whole and inside the cell, and the bonds (n_bonds, 2) as (P, S) indices.

    A chain of P-S bonds without end is cut where it meets its own image: that bond is left out.
    """
    bonds, shifts = _bonds(atoms)
    offset = np.zeros((len(atoms), 3))  # lattice vectors that each atom moves by
    unit = np.full(len(atoms), -1)
    neighbours = [[] for _ in atoms]
    for (p, s), shift in zip(bonds, shifts, strict=True):
        neighbours[p].append((s, shift))
        neighbours[s].append((p, -shift))
    for root in range(len(atoms)):
        queue = deque([root] if unit[root] < 0 else [])
        while queue:
            here = queue.popleft()
            unit[here] = root
            for there, shift in neighbours[here]:
                if unit[there] < 0:
                    unit[there], offset[there] = root, offset[here] + shift
                    queue.append(there)
    kept = np.all(shifts == offset[bonds[:, 1]] - offset[bonds[:, 0]], axis=1)
    positions = atoms.positions + offset @ atoms.cell.array
    for root in set(unit):
        centre = positions[unit == root].mean(axis=0)
        positions[unit == root] += wrap_positions([centre], atoms.cell, atoms.pbc)[0] - centre
    return positions, bonds[kept]


def _check(frames, title, labels, highlight):
    if not frames:
        raise ValueError("`frames` is empty; a view needs at least one ASE Atoms")
    if not (isinstance(title, str) and title.strip()):
        raise ValueError(f"`title` is {title!r}; a view needs one, screen readers announce it")
    first = frames[0]
    for k, frame in enumerate(frames):
        if len(frame) != len(first):
            raise ValueError(f"frame {k} has {len(frame)} atoms, frame 0 has {len(first)}; show them in separate views")
        if np.any(frame.numbers != first.numbers):
            raise ValueError(f"frame {k} has its species in another order than frame 0; sort the atoms alike first")
        if not np.all(np.isfinite(frame.positions)):
            raise ValueError(f"frame {k} has positions that are not finite; leave it out")
        if not np.allclose(frame.cell, first.cell, atol=1e-6):
            raise ValueError(f"frame {k} has another cell than frame 0; a view draws one cell: show separate views")
    if labels is not None and len(labels) != len(frames):
        raise ValueError(f"`labels` has {len(labels)} texts for {len(frames)} frames; give one per frame")
    wrong = [i for i in highlight if not 0 <= i < len(first)]
    if wrong:
        raise ValueError(f"`highlight` or `groups` names atom {wrong[0]}; indices run from 0 to {len(first) - 1}")


def _bonds(atoms):
    pairs = ps_bonds(atoms)
    chosen = atoms.numbers[pairs.i] == atomic_numbers["P"]
    return np.stack([pairs.i[chosen], pairs.j[chosen]], axis=1), pairs.S[chosen]  # (n_bonds, 2), (n_bonds, 3)


def _bonds_inside(atoms):
    bonds, shifts = _bonds(atoms)
    return bonds[~shifts.any(axis=1)]


def _tetrahedra(symbols, bonds):
    """Indices [s1, s2, s3, s4] of the S around each P that has four."""
    around = [bonds[bonds[:, 0] == p, 1].tolist() for p, symbol in enumerate(symbols) if symbol == "P"]
    return [corners for corners in around if len(corners) == 4]


def _surface(density, atoms, share):
    """What the offline page draws a density from; `levels` are those that enclose 1 to 99 per cent."""
    if not np.allclose(density.cell, atoms.cell, atol=1e-6):
        raise ValueError("`density` has another cell than the frames; a view draws one cell")
    percent = round(100 * share)
    if not 1 <= percent <= 99:
        raise ValueError(f"`share` is {share}; a surface can enclose 0.01 to 0.99 of a density")
    return {"shape": density.values.shape, "roots": base64.b64encode(_roots(density).tobytes("F")).decode(),
            "highest": float(density.values.max()), "levels": density.level(np.arange(1, 100) / 100).tolist(),
            "percent": percent, "look": SURFACE}


def _roots(density):
    """Square roots of a density, 255 the highest: a byte a point, and yet low levels are told apart."""
    return np.rint(255 * np.sqrt(density.values / density.values.max())).astype(np.uint8)


def _cube(density):
    """`_roots` as text of a cube file, with the margin in which NGL draws nothing: see structure.js."""
    n = np.array(density.values.shape)
    steps = density.cell / n[:, None] / Bohr
    head = [f"{count} {x:.6f} {y:.6f} {z:.6f}" for count, (x, y, z) in zip(
        [1, *(n + 3)], [-steps.sum(0), *steps], strict=True)]
    rows = np.pad(_roots(density), (1, 2), mode="wrap").reshape(-1, n[2] + 3)
    atom = "1 0 0 0 0"  # without one, NGL takes the first row for something else
    return "\n".join(["density", "", *head, atom, *(" ".join(map(str, row)) for row in rows)])


def _continuous(frames, start):
    """Positions (n_frames, n, 3) that begin at `start`; each step is the shortest one between neighbouring frames."""
    given = np.array([frame.positions for frame in frames])
    first = frames[0]
    steps = np.diff(given, axis=0).reshape(-1, 3)
    if len(steps) and first.pbc.any():
        steps = find_mic(steps, first.cell, first.pbc)[0]
    return np.concatenate([start[None], start + np.cumsum(steps.reshape(-1, *start.shape), axis=0)])


def _at(atoms, positions):
    shown = atoms.copy()
    shown.calc = None
    shown.positions[:] = positions
    return shown


def colour(symbol):
    """Colour of an element as "#rrggbb"."""
    rgb = (255 * jmol_colors[atomic_numbers[symbol]]).astype(int)
    return COLOURS.get(symbol, "#" + "".join(f"{c:02x}" for c in rgb))


def radius(symbol):
    """Radius of an element as drawn, A."""
    return RADII.get(symbol, float(0.4 * covalent_radii[atomic_numbers[symbol]]))


def packed(array):
    """An array as base64 of little-endian float32, row by row."""
    return base64.b64encode(np.ascontiguousarray(array, "<f4").tobytes()).decode()


def offline_page(template, title, data):
    """A page from a template of this package: `structure.js` (what all pages share), the title and `data` put in."""
    page, shared = (files("esgap").joinpath(name).read_text(encoding="utf-8") for name in (template, "structure.js"))
    script = json.dumps(data).replace("<", "\\u003c")  # text cannot close the script element
    return page.replace("__STRUCTURE__", shared).replace("__TITLE__", html.escape(title)).replace("__DATA__", script)


def framed(page, title, caption, height):
    """A page inside another: iframe with an accessible title, `height` pixels, caption below."""
    caption = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    style = f"width:100%;height:{height}px;border:1px solid #999;border-radius:6px"
    return (f'<figure class="structure-view"><iframe title="{html.escape(title)}" loading="lazy" '
            f'style="{style}" srcdoc="{html.escape(page)}"></iframe>{caption}</figure>')
