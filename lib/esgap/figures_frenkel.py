"""Figures of defects in a field: take a result, draw on a given Axes; nothing here computes or saves."""
import numpy as np

from .figures import LINES, MODEL_COLOURS, MODEL_MARKERS

DIRECTION_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#b79f00")


def potential_drop(ax):
    """Schematic of Li metal, electrolyte and cathode, with the potential: flat but for drops at the interfaces."""
    for left, right, colour, name in ((0, 2, "#c8ccd0", "Li"), (2, 8, "#f3ead2", "Li$_7$P$_3$S$_{11}$"),
                                      (8, 10, "#9a9a9a", "C")):
        ax.axvspan(left, right, color=colour, lw=0, zorder=0)
        ax.text((left + right) / 2, 0.95, name, ha="center", va="top", transform=ax.get_xaxis_transform())
    x = np.array([0, 2, 2.2, 2.5, 3.0, 3.6, 6.4, 7.0, 7.5, 7.8, 8, 10])
    u = np.array([3.0, 3.0, 2.4, 2.0, 1.75, 1.65, 1.65, 1.55, 1.3, 0.9, 0.3, 0.3])
    ax.plot(x, u, color="k")
    for near, sign in ((2.15, "+"), (7.85, "−")):  # ions displaced to the interface screen the field inside
        for height in (0.5, 1.1, 3.4):
            ax.text(near, height, sign, ha="center", va="center", fontsize=13, color="#d55e00")
    ax.annotate("", (3.3, 2.6), (2.1, 2.6), arrowprops={"arrowstyle": "->", "color": "#0072b2", "lw": 2})
    ax.text(3.4, 2.6, "field $E$", va="center", color="#0072b2")
    ax.text(5, 1.75, "screened: no field", ha="center", va="bottom")
    ax.set(xlim=(0, 10), ylim=(0, 4.2), xticks=[], yticks=[], xlabel="across the cell", ylabel="potential $U$")
    ax.grid(False)


def formation_energy(curves, ax, dft=None, paper=None):
    """Formation energy against field: colour by direction, line and marker by model; open: the pair is gone or changed.

    curves: `field_response.FieldCurve`s, any models and directions; bands are one standard error where it is known.
    dft: eV at zero field; paper: {model: eV}, what others have found there. The way back is drawn thin: it is seen only
    where it differs.
    """
    directions = list(dict.fromkeys(c.direction for c in curves))
    models = list(dict.fromkeys(c.model for c in curves))
    for c in curves:
        colour = DIRECTION_COLOURS[directions.index(c.direction) % len(DIRECTION_COLOURS)]
        line, marker = LINES[models.index(c.model) % len(LINES)], MODEL_MARKERS.get(c.model, "^")
        ax.plot(c.field, c.out, color=colour, ls=line, label=f"{c.model}, {c.direction}")
        ax.plot(c.field, c.back, color=colour, ls=line, lw=0.7)
        for there, face in ((c.intact, colour), (~c.intact, "none")):
            ax.plot(c.field[there], c.out[there], ls="none", marker=marker, color=colour, mfc=face)
        if c.error is not None:
            ax.fill_between(c.field, c.out - c.error, c.out + c.error, color=colour, alpha=0.15, lw=0)
    if dft is not None:
        ax.plot([0], [dft], "*", color="k", ms=13, label="DFT")
    for model, energy in (paper or {}).items():
        ax.plot([0], [energy], marker=MODEL_MARKERS.get(model, "^"), color="0.5", mfc="none", ms=9, ls="none",
                label=f"{model}, paper")
    ax.axhline(0, color="k", lw=1)
    ax.set(xlabel="electric field (V/Å)", ylabel="formation energy (eV)")
    if ax.get_legend_handles_labels()[0]:  # no curves are stored yet
        ax.legend(ncols=2)


def decomposition(curve, ax):
    """One curve, the line of frozen geometries, and what relaxation adds to it; open where the pair has changed."""
    here = curve.intact
    ax.plot(curve.field[here], curve.out[here], "o-", color="k", label="relaxed in the field")
    ax.plot(curve.field, curve.frozen, "--", color="#0072b2", label="frozen, $E_f(0) - E \\mu$")
    ax.plot(curve.field[here], curve.relaxation[here], ":", color="#d55e00", label="relaxation")
    ax.plot(curve.field[~here], curve.out[~here], "o", color="k", mfc="none")
    ax.axhline(0, color="k", lw=1)
    ax.set(xlabel=f"electric field along {curve.direction} (V/Å)", ylabel="energy (eV)")
    ax.legend()


def distance_scan(points, ax, twice_cutoff=None, bare=None):
    """Formation energy against the distance of vacancy and interstitial ion, a line a model.

    points: `pair_law.PairPoints`, each of pairs that differ in their distance alone. twice_cutoff: A; beyond it a local
    model must be flat if nothing relaxes. bare: e^2, of the law of bare charges for the first of the points, on their
    mean beyond twice the cutoff.
    """
    if bare is not None:
        first, far = points[0], points[0].distance > twice_cutoff
        law = bare * first.lattice + (first.energy - bare * first.lattice)[far].mean()
        ax.plot(first.distance, law, "+", color="k", ms=9, label=f"bare charges, {bare:.2f} e²")
    for k, p in enumerate(points):
        colour, marker = MODEL_COLOURS.get(p.model, DIRECTION_COLOURS[k]), MODEL_MARKERS.get(p.model, "^")
        ax.plot(p.distance, p.energy, ls=LINES[k % len(LINES)], marker=marker, color=colour, ms=4, label=p.model)
    if twice_cutoff is not None:
        ax.axvline(twice_cutoff, color="k", lw=1, ls=":", label="twice the cutoff")
    ax.set(xlabel="distance of vacancy and interstitial ion (Å)", ylabel="formation energy (eV)")
    ax.legend()


def pair_law(points, ax, bare=None):
    """Formation energy against the lattice energy of two unit charges, both less their mean over pairs that are alike.

    points: `pair_law.PairPoints`, one for each model. bare: e^2, slope of the law of bare charges, drawn as a line.
    """
    for k, p in enumerate(points):
        ax.plot(p.less_family("lattice"), p.less_family("energy"), ls="none", marker=MODEL_MARKERS.get(p.model, "^"),
                color=MODEL_COLOURS.get(p.model, DIRECTION_COLOURS[k]), label=p.model)
    if bare is not None:
        ax.axline((0, 0), slope=bare, color="k", lw=1, ls="--", label=f"bare charges, {bare:.2f} e²")
    ax.axhline(0, color="k", lw=0.7)
    ax.set(xlabel="lattice energy of unit charges (eV/e²)", ylabel="formation energy less mean (eV)")
    ax.locator_params(axis="x", nbins=5)
    ax.legend()


def cell_sizes(sizes, ax, dft=()):
    """Formation energies against the number of atoms, a line a pair. sizes: {model: {pair: (atoms, eV)}}.

    dft: [(model, atoms, eV)], DFT on the geometries of a model, drawn as stars.
    """
    for k, (model, pairs) in enumerate(sizes.items()):
        colour, marker = MODEL_COLOURS.get(model, DIRECTION_COLOURS[k]), MODEL_MARKERS.get(model, "^")
        for n, (atoms, energy) in enumerate(pairs.values()):
            ax.plot(atoms, energy, ls=LINES[k % len(LINES)], marker=marker, color=colour, alpha=0.8,
                    label=None if n else model)
    for k, (model, atoms, energy) in enumerate(dft):
        ax.plot(atoms, energy, "*", color=MODEL_COLOURS.get(model, "k"), mec="k", ms=10, zorder=3,
                label=None if k else "DFT")
    ax.set(xlabel="atoms in the cell", ylabel="formation energy (eV)", xscale="log")
    ticks = sorted({int(a) for pairs in sizes.values() for atoms, _ in pairs.values() for a in atoms})
    ax.set_xticks(ticks, [str(t) for t in ticks])
    ax.minorticks_off()
    ax.legend()
