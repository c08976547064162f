"""Figures of the training chapter draw what they are given: lines, points and bars are the numbers of the record."""
from types import SimpleNamespace

import numpy as np
import pytest

from esgap import figures_training as ft
from esgap.stability import RadialDistribution

KEYS = ("energy", "all", "Li", "P", "S", "S bridging", "S terminal")


def entry(value):
    both = {m: dict.fromkeys(KEYS, value) for m in ("GAP", "ES-GAP")}
    return {"rmse": both, "error": {m: dict.fromkeys(KEYS, 0.01) for m in both},
            "difference": dict.fromkeys(KEYS, -0.002), "difference_error": dict.fromkeys(KEYS, 0.001)}


def test_learning_curves(ax):
    record = {"generations": [{"generation": g, "sets": {"ahead": entry(0.2 - 0.05 * g)}} for g in range(3)]}
    ft.learning_curves(record, ax, ["ahead"], "all", {"ahead": "next"}, band=(0.03, 0.05))
    assert np.allclose([c.lines[0].get_ydata() for c in ax.containers], [[0.2, 0.15, 0.1]] * 2)
    assert [c.get_label() for c in ax.containers] == ["GAP, next", "ES-GAP, next"]
    with pytest.raises(ValueError, match="no set 'test' in the record"):
        ft.learning_curves(record, ax, ["test"])


def test_differences_are_in_milli(ax):
    ft.element_differences({"generation 0": entry(0.1)}, ax)
    assert ax.containers[0].lines[0].get_ydata() == pytest.approx([-2.0] * 6)


def test_calibration_line_has_the_scale(ax):
    ft.calibration({"GAP": {"scale": 2.0, "spread": [0.1, 0.2], "rmse": [0.2, 0.4], "bars": [0.01, 0.01]}}, ax)
    dashed = next(line for line in ax.lines if line.get_linestyle() == "--")
    assert dashed.get_ydata() == pytest.approx([0, 0.4])


def test_radial_and_conserved_and_volume_and_histogram(ax):
    r = np.linspace(0, 5, 20)
    ft.radial({"GAP": RadialDistribution(r, r**2, 0.1 * r, ("Li", "S"))}, ax)
    assert ax.lines[0].get_ydata() == pytest.approx(r**2)
    assert ax.get_xlabel() == "Li–S distance (Å)"
    ax.cla()
    run = SimpleNamespace(conserved=np.array([1.0, 1.042]), numbers=np.ones(42), time=np.array([0.0, 1000.0]))
    ft.conserved({"GAP, NVE": run}, ax)
    assert ax.lines[0].get_ydata() == pytest.approx([-0.5, 0.5])
    ax.cla()
    ft.equation_of_state([0.9, 1.0, 1.1], {"DFT": [1.0, 0.9, 0.95], "GAP": [3.0, 2.0, 2.5]}, ax)
    assert ax.lines[0].get_ydata() == pytest.approx([100, 0, 50])
    assert ax.lines[1].get_ydata() == pytest.approx([1000, 0, 500])
    ax.cla()
    ft.histogram({"Li": np.zeros(10), "bridging S": np.ones(10)}, ax, np.linspace(-1, 2, 4), "charge (e)")
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["Li", "bridging S"]
