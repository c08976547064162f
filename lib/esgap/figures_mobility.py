"""Figures of lithium mobility: take a result, draw on a given Axes. Nothing here computes or saves."""
import numpy as np

from .conductivity import extrapolated
from .figures import LINES, MODEL_COLOURS, MODEL_MARKERS

BESIDE = {"GAP": -1, "ES-GAP": 1}  # left and right of what both belong to


def sigma_against_length(curves, ax, paper=None, batches=None):
    """Conductivity (of the estimator chosen) against the length used, with bands of one and two standard errors.

    curves: {model: list of `conductivity.Conductivities`}; paper: {model: mS/cm} of the paper's converged values;
    batches: {model: `Conductivities`} of many runs, a point each.
    """
    for model, c in (batches or {}).items():
        ax.errorbar(c.length, c.chosen[0], yerr=c.chosen[1], marker=MODEL_MARKERS.get(model, "^"), ms=9, mfc="white",
                    color=MODEL_COLOURS.get(model, "k"), ls="none", capsize=3, zorder=3,
                    label=f"{model}, {c.n_runs} runs at once")
    for (model, found), line in zip(curves.items(), LINES, strict=False):
        colour = MODEL_COLOURS.get(model, "k")
        length = np.array([c.length for c in found])
        value, error = np.array([c.chosen for c in found]).T
        ax.plot(length, value, ls=line, marker=MODEL_MARKERS.get(model, "^"), color=colour, label=model)
        for k in (1, 2):
            ax.fill_between(length, np.maximum(value - k * error, 0), value + k * error, color=colour, alpha=0.15, lw=0)
        if paper:
            ax.axhline(paper[model], color=colour, lw=1, ls=":", label=f"{model}, paper")
    names = {"tracer": "Nernst–Einstein", "collective": "collective"}
    kinds = dict.fromkeys(names[c.estimator] for found in curves.values() for c in found)
    ax.set(xlabel="length of a run (ps)", ylabel=f"σ, {', '.join(kinds)} (mS/cm)", ylim=(0, None))
    ax.legend()


def mean_square_displacements(curves, ax, start=None):
    """Mean square displacement against lag, both logarithmic, with a line of slope 1. curves: {model: (lag, msd (n,
    3))}; start: ps, where the fits begin."""
    for (model, (lag, msd)), line in zip(curves.items(), LINES, strict=False):
        there = slice(1, max(2, len(lag) // 2))  # beyond, hardly two windows are independent
        ax.loglog(lag[there], msd.sum(1)[there], ls=line, color=MODEL_COLOURS.get(model, "k"), label=model)
    x = lag[1:len(lag) // 2]
    at = len(x) // 2
    ax.loglog(x[at:], msd.sum(1)[1:][at] * x[at:] / x[at] / 2, color="k", lw=1, label="slope 1")
    if start is not None:
        ax.axvline(start, color="k", lw=1, ls=":", label="fits begin")
    ax.set(xlabel="time lag (ps)", ylabel="mean square displacement (Å²)")
    ax.legend()


def ratio_posterior(ratio, ax, paper=None, bins=60):
    """Posterior of a ratio of conductivities (`conductivity.Ratio`), its 95 % interval, and the paper's ratio."""
    ax.hist(np.log10(ratio.draws), bins=bins, density=True, color="#999999")
    for x, style, label in ((ratio.low, "--", "95 % interval"), (ratio.high, "--", None),
                            (ratio.median, "-", "median")):
        ax.axvline(np.log10(x), color="k", lw=1, ls=style, label=label)
    if paper is not None:
        ax.axvline(np.log10(paper), color="#d55e00", ls=":", label="paper")
    ticks = np.array([0.1, 0.2, 0.5, 1, 2, 5, 10])
    lowest, highest = np.quantile(ratio.draws, (0.001, 0.999))
    ticks = ticks[(ticks >= lowest / 2) & (ticks <= highest * 2)]
    ax.set_xticks(np.log10(ticks), [f"{t:g}" for t in ticks])
    ax.set(xlabel="σ(GAP) / σ(ES-GAP)", ylabel="probability density", yticks=[])
    ax.legend()


def single_runs(values, ax, bins=12):
    """Histograms of conductivities of single runs. values: {model: (n,) mS/cm}."""
    edges = np.histogram_bin_edges(np.concatenate(list(values.values())), bins)
    for (model, sigma), line in zip(values.items(), LINES, strict=False):
        ax.hist(sigma, edges, histtype="step", ls=line, lw=2, color=MODEL_COLOURS.get(model, "k"), label=model)
        ax.plot(sigma.mean(), 0, marker=MODEL_MARKERS.get(model, "^"), ms=9, color=MODEL_COLOURS.get(model, "k"),
                clip_on=False, zorder=3)
    ax.set(xlabel="σ of a single run (mS/cm)", ylabel="runs")
    ax.legend()


def scatter_against_length(rows, ax):
    """Relative standard deviation of single runs against their length. rows: {model: [(ps, scatter, error), ...]}."""
    for (model, found), line in zip(rows.items(), LINES, strict=False):
        length, scatter, error = np.array(found).T
        colour = MODEL_COLOURS.get(model, "k")
        ax.errorbar(length, scatter, yerr=error, ls="none", capsize=3, marker=MODEL_MARKERS.get(model, "^"),
                    color=colour, label=model)
        ax.plot(length, scatter[0] * np.sqrt(length[0] / length), ls=line, lw=1, color=colour)
    ax.set(xlabel="length of a run (ps)", ylabel="relative scatter of σ", xscale="log", yscale="log")
    ax.legend()


def against_time(windows, ax):
    """Conductivity in windows since the beginning, and its mean over all of them. windows: {model: what
    `conductivity.against_time` gives}."""
    for k, ((model, found), line) in enumerate(zip(windows.items(), LINES, strict=False)):
        time, (sigma, error) = np.array([t for t, _ in found]), np.transpose([c.chosen for _, c in found])
        time = time + 0.06 * time[0] * (2 * k - len(windows) + 1)  # beside each other
        colour = MODEL_COLOURS.get(model, "k")
        ax.errorbar(time, sigma, yerr=error, ls="none", capsize=3, marker=MODEL_MARKERS.get(model, "^"), color=colour,
                    label=model)
        ax.axhline(np.average(sigma, weights=error**-2.0), color=colour, ls=line, lw=1)
    ax.set(xlabel="time since the crystal (ps)", ylabel="σ (mS/cm)", xlim=(0, None))
    if windows:
        ax.legend()


def length_needed(curves, ax, asked):
    """Relative standard error of sigma against total length, with lines falling as 1/sqrt(length), and what is asked.

    curves: {model: list of `conductivity.Conductivities`}; asked: {label: relative error}.
    """
    for (model, found), line in zip(curves.items(), LINES, strict=False):
        length = np.array([c.length * c.n_runs for c in found])
        colour = MODEL_COLOURS.get(model, "k")
        ax.loglog(length, [c.relative for c in found], ls="none", marker=MODEL_MARKERS.get(model, "^"), color=colour,
                  label=model)
        x = np.geomspace(length[-1], 100 * length[-1], 20)
        ax.loglog(x, found[-1].relative * np.sqrt(length[-1] / x), ls=line, color=colour)
    for (label, value), line in zip(asked.items(), (":", "-."), strict=False):
        ax.axhline(value, color="k", lw=1, ls=line, label=label)
    ax.set(xlabel="all runs together (ps)", ylabel="relative standard error of σ")
    ax.legend()


def barriers(rows, ax):
    """Barriers of several hops: filled on the own path, open on that of the other model; DFT as diamonds if known.

    rows: {hop: list of `paths.Profile`s}.
    """
    seen = set()
    for n, profiles in enumerate(rows.values()):
        for p in profiles:
            own = p.label == p.path_of
            label = p.label if own else f"{p.label}, path of {p.path_of}"
            x = n + sum(BESIDE.get(m, 0.0) * width for m, width in ((p.path_of, 0.15), (p.label, 0.04)))
            ax.errorbar(x, p.forward, yerr=None if p.bars is None else p.forward_error, ls="none", ms=8, capsize=3,
                        marker=MODEL_MARKERS.get(p.label, "D"), color=MODEL_COLOURS.get(p.label, "k"),
                        mfc=None if own else "white", label=None if label in seen else label)
            seen.add(label)
    many = len(rows) > 4
    ax.set_xticks(range(len(rows)), list(rows), rotation=40 if many else 0, ha="right" if many else "center")
    ax.set(ylabel="barrier, forward (eV)", xlim=(-0.6, len(rows) - 0.4), ylim=(0, None))
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)  # above: points are everywhere


def by_axis(values, ax):
    """Diffusion coefficients along a, b, c with standard errors. values: {model: {axis: (A^2/ps, error)}}."""
    for k, (model, d) in enumerate(values.items()):
        x = np.arange(len(d)) + 0.1 * (2 * k - len(values) + 1)
        ax.errorbar(x, [v for v, _ in d.values()], yerr=[e for _, e in d.values()], ls="none", capsize=3,
                    marker=MODEL_MARKERS.get(model, "^"), color=MODEL_COLOURS.get(model, "k"), label=model)
        ax.set_xticks(range(len(d)), list(d))
    ax.set(xlabel="lattice vector", ylabel="D (Å²/ps)", ylim=(0, None))
    ax.margins(x=0.2)
    ax.legend()


def arrhenius(lines, ax, measured=()):
    """Conductivity times temperature against 1/T: points with errors, lines with bands of one standard error.

    lines: {model: `arrhenius.Arrhenius`}; measured: (label, sigma at room temperature, activation energy) in mS/cm, eV.
    """
    everywhere = np.linspace(min((f.temperature.min() for f in lines.values()), default=600) - 20, 1020, 60)
    for (model, found), style in zip(lines.items(), LINES, strict=False):
        colour, t = MODEL_COLOURS.get(model, "k"), found.temperature
        ax.errorbar(1e3 / t, found.sigma * t, yerr=found.error * t, ls="none", marker=MODEL_MARKERS.get(model, "^"),
                    color=colour, capsize=3, label=model)
        value, error = found.line(everywhere)
        ax.plot(1e3 / everywhere, value * everywhere, ls=style, color=colour)
        ax.fill_between(1e3 / everywhere, (value - error) * everywhere, (value + error) * everywhere, color=colour,
                        alpha=0.15, lw=0)
    for (label, sigma, energy), style in zip(measured, ("-", "--", ":"), strict=False):
        there = [extrapolated(sigma, energy, t) for t in everywhere]
        ax.plot(1e3 / everywhere, there * everywhere, color="k", lw=1, ls=style, label=f"{label}, extrapolated")
    ax.set(xlabel="1000 K / T", ylabel="σ T (mS K/cm)", yscale="log")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))  # beside: lines are everywhere
