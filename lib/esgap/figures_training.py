"""Figures of the training chapter: take a result, draw on a given Axes. Nothing here computes or saves."""
import numpy as np

from .figures import COLOURS, LINES, MODEL_COLOURS, MODEL_MARKERS
from .learning import NAMES, curve

SET_LINES = {"train": ":", "ahead": "--"}  # others solid


def learning_curves(record, ax, sets, key="all", labels=None, band=None):
    """RMSE against generation of both models on `sets` of a record of `python -m esgap learning`; bars: standard error.

    key: "energy", "all", an element ...; labels: what the sets are called; band: (low, high) in eV/A to shade.
    """
    if band is not None:
        ax.axhspan(*band, color="0.9", zorder=0)
    for name in sets:
        for k, model in enumerate(NAMES):
            g, rmse, error = curve(record, name, model, key)
            ax.errorbar(g + 0.06 * (k - 0.5), rmse, yerr=error, ls=SET_LINES.get(name, "-"), capsize=3,
                        marker=MODEL_MARKERS[model], mfc=None if SET_LINES.get(name, "-") == "-" else "white",
                        color=MODEL_COLOURS[model], label=f"{model}, {(labels or {}).get(name, name)}")
    unit = "energy RMSE (meV/atom)" if key == "energy" else "force RMSE (eV/Å)"
    ax.set(xlabel="generation", ylabel=unit, ylim=(0, None))
    ax.xaxis.get_major_locator().set_params(integer=True)


def element_differences(rows, ax, keys=("all", "Li", "P", "S", "S bridging", "S terminal")):
    """ES-GAP's RMSE less GAP's in meV/A by element. rows: {label: one set's entry of a record}; bars: paired errors."""
    for k, (label, row) in enumerate(rows.items()):
        x = np.arange(len(keys)) + 0.15 * (k - (len(rows) - 1) / 2)
        ax.errorbar(x, [1e3 * row["difference"][key] for key in keys],
                    yerr=[1e3 * row["difference_error"][key] for key in keys], ls="none", capsize=3,
                    marker="osD^v"[k % 5], label=label)
    ax.axhline(0, color="k", lw=1)
    ax.set_xticks(np.arange(len(keys)), keys, rotation=30, ha="right")
    ax.set(ylabel="force RMSE, ES-GAP less GAP (meV/Å)")
    ax.legend()


def histogram(values, ax, bins, xlabel, log=False):
    """Distributions as steps, each with area 1. values: {label: (n,)}; elements get their colour."""
    for (label, v), line in zip(values.items(), LINES * 3, strict=False):
        ax.hist(v, bins=bins, density=True, histtype="step", lw=1.8, ls=line, label=label, log=log,
                color=COLOURS.get(label.split()[0]) or COLOURS.get(label.split()[-1]))
    ax.set(xlabel=xlabel, ylabel="probability density")
    ax.legend()


def calibration(records, ax):
    """Errors against the committee's spread, by bins of equal numbers. records: {model: calibration as stored}."""
    top = 0.0
    for model, c in records.items():
        ax.errorbar(c["spread"], c["rmse"], yerr=c["bars"], marker=MODEL_MARKERS.get(model), capsize=3, ls="none",
                    color=MODEL_COLOURS.get(model), label=f"{model}, {c['scale']:.1f} times")
        top = max(top, *c["spread"], *c["rmse"])
        line = np.array([0, max(c["spread"])])
        ax.plot(line, c["scale"] * line, color=MODEL_COLOURS.get(model), lw=1, ls="--")
    ax.plot([0, top], [0, top], color="k", lw=1)
    ax.set(xlabel="spread of the committee (eV/Å)", ylabel="force error, rms (eV/Å)", ylim=(0, 1.1 * top))
    ax.legend()


def radial(curves, ax):
    """g(r) with bands of one standard error. curves: {label: `stability.RadialDistribution`}."""
    for (label, g), line in zip(curves.items(), LINES, strict=False):
        colour = MODEL_COLOURS.get(label, "k")
        ax.plot(g.r, g.value, color=colour, ls=line, label=label)
        ax.fill_between(g.r, g.value - g.error, g.value + g.error, color=colour, alpha=0.2, lw=0)
    pair = next(iter(curves.values())).pair
    ax.set(xlabel=f"{pair[0]}–{pair[1]} distance (Å)", ylabel="g(r)", ylim=(0, None))
    ax.legend()


def conserved(trajectories, ax):
    """Conserved energy per atom less its mean, meV, against time, ps. trajectories: {label: `dynamics.Trajectory`}."""
    for (label, run), line in zip(trajectories.items(), LINES, strict=False):
        e = 1e3 * run.conserved / len(run.numbers)
        ax.plot(run.time * 1e-3, e - e.mean(), ls=line, lw=1, color=MODEL_COLOURS.get(label.split(",")[0]), label=label)
    ax.set(xlabel="time (ps)", ylabel="conserved energy (meV/atom)")
    ax.legend()


def equation_of_state(volumes, energies, ax):
    """Energies per atom in meV, each less its own value at volume 1, against the relative volume. energies: {label: eV
    per atom (n,)}; DFT as points."""
    at = int(np.argmin(np.abs(np.asarray(volumes) - 1)))
    for label, e in energies.items():
        e = 1e3 * (np.asarray(e) - e[at])
        model = label in MODEL_COLOURS
        ax.plot(volumes, e, ls="-" if model else "none", marker=MODEL_MARKERS.get(label, "D") if not model else None,
                color=MODEL_COLOURS.get(label, "k"), label=label)
    ax.set(xlabel="volume / experimental volume", ylabel="energy (meV/atom)")
    ax.legend()
