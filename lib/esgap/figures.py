"""Figures: take a result, draw on a given Axes. Nothing here computes or saves.

Elements keep their colour and marker throughout the book (told apart without colour too); Coulomb energies are in eV.
"""
import matplotlib as mpl
import numpy as np
from IPython import get_ipython

from .ewald import COULOMB
from .figure_data import attach
from .slater import coulomb_integral

COLOURS = {"Li": "#56b4e9", "P": "#d55e00", "S": "#b79f00", "all": "#444444"}  # readable as lines on white
MARKERS = {"Li": "o", "P": "s", "S": "^", "all": "D"}
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))

STYLE = {
    "figure.figsize": (6.4, 3.8), "figure.dpi": 110, "figure.facecolor": "white", "savefig.facecolor": "white",
    "figure.constrained_layout.use": True, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.alpha": 0.3, "legend.frameon": False, "font.size": 11, "lines.linewidth": 1.8, "svg.fonttype": "none",
}


def use_style():
    """The book's look: white ground in light and dark theme alike, no top and right frame, a light grid.

    In a notebook figures carry their data from here on, see `figure_data`.
    """
    mpl.rcParams.update(STYLE)
    if shell := get_ipython():
        attach(shell)


def coulomb_integrals(zeta, ax, r_max=6.0):
    """J(r) of every pair of elements against that of point charges, eV for unit charges. zeta: 1/A by element."""
    r = np.linspace(0.0, r_max, 301)
    ax.plot(r[10:], COULOMB / r[10:], color="k", lw=1, label="points, 1/r")
    pairs = [(a, b) for n, a in enumerate(zeta) for b in list(zeta)[n:]]
    for line, (a, b) in zip(LINES * 6, pairs, strict=False):
        ax.plot(r, COULOMB * coulomb_integral(r, zeta[a], zeta[b]), ls=line, color=COLOURS.get(a), label=f"{a}–{b}")
    ax.set(xlabel="distance r (Å)", ylabel="J(r) for unit charges (eV)", xlim=(0, r_max), ylim=(0, 16))
    ax.legend(ncols=2)


def accuracy_reached(requested, reached, ax):
    """Error reached against accuracy asked for. reached: dict of label -> relative errors, one a request."""
    for (label, errors), marker in zip(reached.items(), "os^D", strict=False):
        ax.loglog(requested, errors, marker=marker, label=label)
    ax.loglog(requested, requested, color="k", lw=1, ls=":", label="asked for")
    ax.set(xlabel="relative accuracy asked for", ylabel="relative error reached")
    ax.invert_xaxis()
    ax.legend()


def force_share(result, ax, factors=None):
    """Share of the DFT force variance explained, against a factor on the charges; bars: bootstrap error at factor 1."""
    factors = np.linspace(0, 1.2, 121) if factors is None else factors
    for key, share in result.share.items():
        colour = COLOURS.get(key)
        line = LINES[list(result.share).index(key) % len(LINES)]
        ax.plot(factors, result.scaled(factors, key), color=colour, ls=line)
        ax.errorbar(1.0, share, yerr=result.error[key], color=colour, marker=MARKERS.get(key, "o"), capsize=3,
                    label=f"{key}")
    ax.axhline(0, color="k", lw=1)
    ax.set(xlabel="factor on all charges", ylabel="share of DFT force variance", ylim=(-0.6, 0.15))
    ax.legend(ncols=2)


def force_components(result, ax, limit=None):
    """Baseline against DFT force components, one point each, by element."""
    for key in result.share:
        if key != "all":
            ax.plot(result.dft[key].ravel(), result.baseline[key].ravel(), MARKERS.get(key, "o"), ms=2.5, alpha=0.35,
                    color=COLOURS.get(key), label=key, rasterized=True)
    limit = limit or np.abs(result.dft["all"]).max()
    ax.plot([-limit, limit], [-limit, limit], color="k", lw=1)
    ax.set(xlabel="DFT force (eV/Å)", ylabel="baseline force (eV/Å)", xlim=(-limit, limit), ylim=(-limit, limit))
    ax.legend(markerscale=3)


MODEL_COLOURS = {"GAP": "#0072b2", "ES-GAP": "#cc79a7"}
MODEL_MARKERS = {"GAP": "o", "ES-GAP": "s"}


def force_parity(errors, ax, limit=None):
    """Model against DFT force components of held-out frames, by element. errors: `validation.Errors` of one model."""
    for key in ("S", "Li", "P"):  # few P last, on top
        ax.plot(errors.reference[key].ravel(), errors.model[key].ravel(), MARKERS[key], ms=3, alpha=0.5,
                color=COLOURS[key], label=key, rasterized=True)
    limit = limit or np.abs(errors.reference["all"]).max()
    ax.plot([-limit, limit], [-limit, limit], color="k", lw=1)
    ax.set(xlabel="DFT force (eV/Å)", ylabel="model force (eV/Å)", xlim=(-limit, limit), ylim=(-limit, limit))
    ax.legend(markerscale=2)


def energy_parity(errors, ax):
    """Model against DFT energies of held-out frames, less the mean DFT energy. errors: {model: `validation.Errors`}."""
    span = []
    for name, e in errors.items():
        zero = e.reference["energy"].mean()
        ax.plot(*(1e3 * (x["energy"] - zero) for x in (e.reference, e.model)), MODEL_MARKERS.get(name, "^"), ms=5,
                alpha=0.7, mfc="none", color=MODEL_COLOURS.get(name), label=name)
        span += [1e3 * (e.reference["energy"] - zero)]
    limits = [np.min(span), np.max(span)]
    ax.plot(limits, limits, color="k", lw=1)
    ax.set(xlabel="DFT energy (meV/atom)", ylabel="model energy (meV/atom)")
    ax.legend()


def element_errors(errors, ax):
    """Force errors by element and kind of S, models side by side; bars: bootstrap standard errors."""
    for k, (name, e) in enumerate(errors.items()):
        keys = [key for key in e.rmse if key != "energy"]
        x = np.arange(len(keys)) + 0.2 * (k - (len(errors) - 1) / 2)
        ax.errorbar(x, [e.rmse[key] for key in keys], yerr=[e.error[key] for key in keys], ls="none", capsize=3,
                    marker=MODEL_MARKERS.get(name, "^"), color=MODEL_COLOURS.get(name), label=name)
        ax.set_xticks(np.arange(len(keys)), keys)
    ax.set(ylabel="force RMSE, held out (eV/Å)", ylim=(0, None))
    ax.legend()


KIND_STYLE = {  # colour by element; line and marker tell the kinds of one element apart
    "all": ("all", "-", "D"), "Li": ("Li", "-", "o"), "P": ("P", "--", "s"), "S": ("S", "-.", "^"),
    "P in PS4": ("P", "-", "s"), "P in P2S7": ("P", "--", "P"),
    "terminal S": ("S", "-", "^"), "bridging S": ("S", ":", "v"),
}


def locality(curves, ax, label="{}"):
    """Locality errors against the frozen radius; bars: bootstrap standard errors. curves: `locality.LocalityCurve`s."""
    for k, c in enumerate(curves):
        element, line, marker = KIND_STYLE.get(c.who, (c.who, "-", "o"))
        there = np.isfinite(c.value)
        shift = 0.03 * (k - (len(curves) - 1) / 2)  # so that the bars can be told apart
        ax.errorbar(c.radius[there] + shift, c.value[there], yerr=c.error[there], ls=line, marker=marker, capsize=3,
                    color=COLOURS.get(element), label=label.format(c.who))
    ax.set(xlabel="frozen radius (Å)", ylabel="locality error of the force (eV/Å)", ylim=(0, None))
    ax.legend()


def locality_change(before, after, ax):
    """By how much a baseline lowers the locality error, per cent, with the errors of that (same bootstrap draws)."""
    for k, (b, a) in enumerate(zip(before, after, strict=True)):
        element, line, marker = KIND_STYLE.get(b.who, (b.who, "-", "o"))
        there = np.isfinite(b.value)
        change = 100 * (a.value / b.value - 1)[there]
        bars = 100 * np.nanstd((a.draws / b.draws)[:, there], axis=0, ddof=1)
        ax.errorbar(b.radius[there] + 0.03 * (k - 1), change, yerr=bars, ls=line, marker=marker, capsize=3,
                    color=COLOURS.get(element), label=b.who)
    ax.axhline(0, color="k", lw=1)
    ax.set(xlabel="frozen radius (Å)", ylabel="change of the locality error (%)")
    ax.legend()


def charge_map(fit, ax, marks=None, limits=((-0.2, 1.2), (-3.0, 5.5)), n=121):
    """Residual locality error over the charges of Li and P, less that without charges; the optimum and its scatter.

    fit: `charge_fit.ChargeFit`; marks: {label: charges by element} of other sets to show.
    """
    li, p = (np.linspace(*limit, n) for limit in limits)
    change = 100 * (fit.residual.rms(np.meshgrid(li, p, indexing="ij")) / fit.before - 1)
    levels = [-50, -40, -30, -20, -10, -5, 0, 10, 25, 50, 100, 200, 400]
    norm = mpl.colors.TwoSlopeNorm(0, levels[0], levels[-1])
    filled = ax.contourf(li, p, change.T, levels, cmap="RdBu_r", norm=norm, extend="both")
    lines = ax.contour(li, p, change.T, levels, colors="k", linewidths=0.5)
    ax.clabel(lines, fmt="%+d %%", fontsize=8)
    ax.plot(*fit.draws.T, ".", color="k", ms=2, alpha=0.4)
    ax.plot(fit.charges["Li"], fit.charges["P"], "*", color="w", mec="k", ms=16, label="optimum")
    for marker, (label, q) in zip("osP^vX", (marks or {}).items(), strict=False):
        ax.plot(q["Li"], q["P"], marker, color="w", mec="k", ms=9, label=label)
    ax.set(xlabel="charge of Li (e)", ylabel="charge of P (e)", xlim=limits[0], ylim=limits[1])
    ax.legend(loc="lower right", frameon=True)
    return filled


def energy_paths(profiles, ax):
    """Energies above the first image: solid by the potential that made the path, dashed by others, DFT as points in
    the colour of that potential.

    Bands are one standard error, from committees. profiles: `paths.Profile`s on the images of one path.
    """
    for p in profiles:
        colour = MODEL_COLOURS.get(p.label) or MODEL_COLOURS.get(p.path_of, "k")
        style = {"color": colour, "marker": MODEL_MARKERS.get(p.label, "D")}
        own = p.label == p.path_of
        ax.plot(p.coordinate, p.relative, ls="none", mfc=None if own else "white", **style,
                label=p.label if own else f"{p.label}, on the path of {p.path_of}")
        if p.label in MODEL_COLOURS:  # other labels, such as DFT, are points
            ax.plot(*p.curve(), color=colour, ls="-" if own else "--")
        if p.bars is not None:
            ax.fill_between(p.coordinate, p.relative - p.bars, p.relative + p.bars, color=colour, alpha=0.15, lw=0)
    ax.axhline(0, color="k", lw=1)
    ax.set(xlabel="length along the path (Å)", ylabel="energy (eV)")
    ax.legend()


def hop_arrows(hops, ax, axes=(0, 2)):
    """Sites and distinct hops, seen along the axis left out; widths by number. hops: `hops.Hops`; axes: Cartesian."""
    x, y = axes
    ax.scatter(*hops.sites.positions[:, [x, y]].T, s=200 * hops.sites.occupation, color=COLOURS["Li"], label="sites")
    for kind in hops.table():
        place, n = hops.sites.positions[kind.start], kind.forward + kind.backward
        style = "<->" if kind.forward and kind.backward else "->" if kind.forward else "<-"
        ax.annotate("", place[[x, y]] + kind.displacement[[x, y]], place[[x, y]],
                    arrowprops={"arrowstyle": style, "lw": 0.5 + 0.5 * n**0.5})
    ax.set(xlabel=f"{'xyz'[x]} (Å)", ylabel=f"{'xyz'[y]} (Å)", aspect="equal")
