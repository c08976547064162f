"""Figures of mobility draw the numbers they are given, on the Axes they are given."""
import numpy as np
import pytest

from esgap import arrhenius, conductivity, figures_mobility
from esgap.paths import Profile


def curves():
    return {m: [conductivity.Conductivities(m, (s, s / n), (s, s), (), 10.0 * n, 2) for n in (1, 4)]
            for m, s in (("GAP", 190.0), ("ES-GAP", 120.0))}


def names(ax):
    return [t.get_text() for t in ax.get_legend().get_texts()]


def test_sigma_against_length(ax):
    figures_mobility.sigma_against_length(curves(), ax, {"GAP": 190, "ES-GAP": 120})
    assert names(ax) == ["GAP", "GAP, paper", "ES-GAP", "ES-GAP, paper"]
    np.testing.assert_array_equal(ax.get_lines()[0].get_xydata(), [[10, 190], [40, 190]])
    assert "mS/cm" in ax.get_ylabel()


def test_batches_are_points_beside_the_lines(ax):
    figures_mobility.sigma_against_length(curves(), ax, None, {m: c[-1] for m, c in curves().items()})
    assert names(ax)[-2:] == ["GAP, 2 runs at once", "ES-GAP, 2 runs at once"]
    (bar, _) = ax.containers
    np.testing.assert_array_equal(bar[0].get_xydata(), [[40, 190]])


def test_single_runs_and_their_scatter(ax):
    values = {"GAP": np.array([1.0, 2.0, 2.5]), "ES-GAP": np.array([1.5, 3.0])}
    figures_mobility.single_runs(values, ax, bins=4)
    assert set(names(ax)) == {"GAP", "ES-GAP"}
    np.testing.assert_allclose([line.get_xdata()[0] for line in ax.get_lines()], [5.5 / 3, 2.25])
    ax.cla()
    figures_mobility.scatter_against_length({"GAP": [(10.0, 0.2, 0.02), (40.0, 0.1, 0.01)]}, ax)
    np.testing.assert_allclose(ax.get_lines()[-1].get_ydata(), [0.2, 0.1])
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")


def test_displacements_and_axes(ax):
    lag = np.arange(100) * 0.1
    figures_mobility.mean_square_displacements({"GAP": (lag, np.outer(lag, np.ones(3)))}, ax, 2.0)
    assert names(ax) == ["GAP", "slope 1", "fits begin"]
    ax.cla()
    figures_mobility.by_axis({"GAP": {"a": (1, 0.1), "b": (2, 0.1)}, "ES-GAP": {"a": (1, 0.1), "b": (2, 0.1)}}, ax)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["a", "b"]


def test_ratio_and_length(ax):
    figures_mobility.ratio_posterior(conductivity.ratio((190.0, 30.0), (120.0, 20.0)), ax, 1.58)
    assert names(ax) == ["95 % interval", "median", "paper"]
    ax.cla()
    figures_mobility.length_needed(curves(), ax, {"asked": 0.1})
    np.testing.assert_allclose(ax.get_lines()[0].get_xydata(), [[20, 1], [80, 0.25]])
    line = ax.get_lines()[1].get_xydata()
    np.testing.assert_allclose(line[:, 1] * np.sqrt(line[:, 0]), 0.25 * np.sqrt(80))


def test_barriers(ax):
    s, slopes = np.arange(3.0), np.zeros(3)
    profiles = [Profile(s, np.array([0, e, 0.0]), slopes, label, of) for e, label, of in (
        (0.2, "GAP", "GAP"), (0.3, "ES-GAP", "GAP"), (0.25, "DFT", "GAP"))]
    figures_mobility.barriers({"hop-0": profiles, "hop-1": profiles}, ax)
    assert names(ax) == ["GAP", "ES-GAP, path of GAP", "DFT, path of GAP"]
    assert [line.get_ydata()[0] for line in ax.get_lines()[:3]] == [0.2, 0.3, 0.25]
    assert np.unique([line.get_xdata()[0] for line in ax.get_lines()[:3]]).size == 3  # none hides another


def test_arrhenius_lines_go_through_their_points_and_the_literature(ax):
    t = np.array([600.0, 800.0, 1000.0])
    sigma = conductivity.extrapolated(10.0, 0.2, 800.0) * np.exp(-0.2 / 8.617333e-5 * (1 / t - 1 / 800)) * 800 / t
    line = arrhenius.through("GAP", t, sigma, 0.1 * sigma)
    figures_mobility.arrhenius({"GAP": line}, ax, [("one", 10.0, 0.2)])
    assert sorted(names(ax)) == ["GAP", "one, extrapolated"]
    fitted, measured = (x.get_xydata() for x in ax.get_lines() if len(x.get_xdata()) > 10)
    np.testing.assert_allclose(fitted, measured, rtol=1e-4)  # the same energy through the same point
    assert ax.get_yscale() == "log"


def test_conductivity_against_time(ax):
    def at(value, error):
        return conductivity.Conductivities("GAP", (value, error), (0.0, 0.0), (), 50.0, 8)

    windows = {"GAP": [(25.0, at(10.0, 1.0)), (75.0, at(20.0, 2.0))], "ES-GAP": [(25.0, at(5.0, 1.0))]}
    figures_mobility.against_time(windows, ax)
    assert names(ax) == ["GAP", "ES-GAP"]
    means = [line.get_ydata()[0] for line in ax.get_lines() if list(line.get_xdata()) == [0, 1]]
    assert means == pytest.approx([(10 / 1 + 20 / 4) / (1 / 1 + 1 / 4), 5.0])
    drawn = np.concatenate([c.lines[0].get_xdata() for c in ax.containers])
    assert len(np.unique(drawn)) == 3  # none hides another


def test_without_windows_there_is_nothing_to_draw(ax):
    figures_mobility.against_time({}, ax)
    assert ax.get_legend() is None
