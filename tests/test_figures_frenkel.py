"""Figures of defects draw the numbers they are given, on the Axes they are given."""
import numpy as np
import pytest

from esgap import figures_frenkel
from esgap.field_curve import FieldCurve
from esgap.pair_law import PairPoints

FIELD = np.linspace(-0.2, 0.2, 5)


def curve(model, direction, gone=False, error=None):
    out = 0.8 - 2 * FIELD - FIELD**2
    return FieldCurve("p", model, direction, FIELD, out, out + 0.01, ("",) * 4 + ("gone" * gone,), np.full(5, 2.0),
                      error)


def test_formation_energy(ax):
    curves = [curve("ES-GAP", "x", gone=True, error=np.full(5, 0.05)), curve("ES-GAP", "y"), curve("GAP", "x")]
    figures_frenkel.formation_energy(curves, ax, dft=0.8, paper={"GAP": 0.6})
    (band,) = ax.collections
    assert np.ptp(band.get_paths()[0].vertices[:, 1]) == pytest.approx(np.ptp(curves[0].out) + 0.1)
    labels = [t.get_text() for t in ax.get_legend().get_texts()]
    assert labels == ["ES-GAP, x", "ES-GAP, y", "GAP, x", "DFT", "GAP, paper"]
    first, back, there, gone = ax.get_lines()[:4]
    np.testing.assert_array_equal(first.get_xydata(), np.stack([FIELD, curves[0].out], 1))
    np.testing.assert_array_equal(back.get_ydata(), curves[0].back)
    assert (len(there.get_xdata()), gone.get_xdata().tolist(), gone.get_markerfacecolor()) == (4, [0.2], "none")
    assert first.get_color() == ax.get_lines()[8].get_color()  # the same direction
    assert "V/Å" in ax.get_xlabel()


def test_decomposition_adds_up(ax):
    figures_frenkel.decomposition(curve("GAP", "x"), ax)
    total, frozen, relaxation = (line.get_ydata() for line in ax.get_lines()[:3])
    np.testing.assert_allclose(total, frozen + relaxation)
    np.testing.assert_allclose(relaxation, -FIELD**2, atol=1e-12)
    ax.clear()
    figures_frenkel.decomposition(curve("GAP", "x", gone=True), ax)
    there, _, relaxation, gone = ax.get_lines()[:4]
    assert there.get_xdata().tolist() == relaxation.get_xdata().tolist() == FIELD[:4].tolist()
    assert (gone.get_xdata().tolist(), gone.get_markerfacecolor()) == ([0.2], "none")


def points(model, energy):
    n = len(energy)
    return PairPoints(model, np.zeros(n, int), ("p",) * n, ("",) * n, ((1, 1, 1),) * n, np.array([3.0, 6, 9]),
                      np.array([-4.8, -2.4, -1.6]), np.array(energy))


def test_distance_scan(ax):
    figures_frenkel.distance_scan([points("GAP", [1.0, 1, 1]), points("ES-GAP", [0.5, 0.6, 0.7])], ax, twice_cutoff=10)
    first, second, line = ax.get_lines()
    np.testing.assert_array_equal(first.get_xydata(), [[3, 1], [6, 1], [9, 1]])
    np.testing.assert_array_equal(second.get_ydata(), [0.5, 0.6, 0.7])
    assert line.get_xdata() == [10, 10]
    assert first.get_color() != second.get_color()
    ax.clear()
    figures_frenkel.distance_scan([points("ES-GAP", [-1.0, -0.7, -0.6])], ax, twice_cutoff=5, bare=0.25)
    law = ax.get_lines()[0]
    assert law.get_ydata() == pytest.approx([-1.35, -0.75, -0.55])  # 0.25 L - 0.15, the mean of the last two


def test_pair_law(ax):
    figures_frenkel.pair_law([points("ES-GAP", [-2.4, -1.2, -0.8])], ax, bare=0.5)
    found, law = ax.get_lines()[:2]
    np.testing.assert_allclose(found.get_ydata(), 0.5 * found.get_xdata(), atol=1e-12)
    assert found.get_ydata().mean() == pytest.approx(0, abs=1e-12)
    assert law.get_slope() == 0.5
    assert "bare charges, 0.50 e²" in [t.get_text() for t in ax.get_legend().get_texts()]


def test_the_schematic_names_its_parts(ax):
    figures_frenkel.potential_drop(ax)
    texts = {t.get_text() for t in ax.texts}
    assert {"Li", "C", "field $E$", "screened: no field"} <= texts
    assert (np.diff(ax.get_lines()[0].get_ydata()) <= 0).all()


def test_cell_sizes(ax):
    sizes = {"GAP": {"a": (np.array([84, 504]), np.array([0.5, 0.6])), "b": (np.array([84]), np.array([0.4]))},
             "ES-GAP": {"a": (np.array([84, 504]), np.array([0.7, 0.8]))}}
    figures_frenkel.cell_sizes(sizes, ax)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["GAP", "ES-GAP"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["84", "504"]
    np.testing.assert_array_equal(ax.get_lines()[2].get_xydata(), [[84, 0.7], [504, 0.8]])
    ax.clear()
    figures_frenkel.cell_sizes(sizes, ax, [("GAP", 504, 0.65), ("ES-GAP", 504, 0.75)])
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["GAP", "ES-GAP", "DFT"]
    np.testing.assert_array_equal([line.get_xydata()[0] for line in ax.get_lines()[-2:]], [[504, 0.65], [504, 0.75]])
