"""Figures draw the numbers they are given, on the Axes they are given."""
import numpy as np

import esgap
from esgap import charges, ewald, figures, slater, validation


def test_coulomb_integrals(ax):
    zeta = {"Li": 0.5, "S": 0.7}
    figures.coulomb_integrals(zeta, ax)
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert set(lines) == {"points, 1/r", "Li–Li", "Li–S", "S–S"}
    x, y = lines["Li–S"].get_data()
    np.testing.assert_allclose(y, ewald.COULOMB * slater.coulomb_integral(x, 0.5, 0.7))
    assert "eV" in ax.get_ylabel()


def test_accuracy_reached(ax):
    figures.accuracy_reached([1e-4, 1e-6], {"energy": [1e-5, 1e-8]}, ax)
    np.testing.assert_array_equal(ax.get_lines()[0].get_ydata(), [1e-5, 1e-8])
    assert ax.get_xlim()[0] > ax.get_xlim()[1]


def test_force_figures(ax):
    frames = esgap.read_frames(esgap.data_path("dft/gen0.xyz"))[1:3]
    share = charges.force_share(frames, esgap.ElectrostaticBaseline({"Li": 0.5, "P": 2.5, "S": -1.0}, accuracy=1e-4))
    figures.force_share(share, ax, factors=[0.0, 1.0])
    np.testing.assert_allclose(ax.get_lines()[0].get_ydata(), [0.0, share.share["all"]], atol=1e-12)
    ax.clear()
    figures.force_components(share, ax)
    assert sum(len(line.get_xdata()) for line in ax.get_lines()) == 2 * 42 * 3 + 2


def test_held_out_figures(ax):
    frames = esgap.read_frames(esgap.data_path("dft/gen0.xyz"))[1:5]
    baseline = esgap.ElectrostaticBaseline({"Li": 0.5, "P": 2.5, "S": -1.0}, charges.qeq_exponents(), accuracy=1e-4)
    errors = validation.held_out_errors(frames, baseline, n_bootstrap=20)
    figures.force_parity(errors, ax)
    assert sum(len(line.get_xdata()) for line in ax.get_lines()) == 4 * 42 * 3 + 2
    ax.clear()
    figures.energy_parity({"GAP": errors}, ax)
    x, y = ax.get_lines()[0].get_data()
    expected = [1e3 * baseline.get_potential_energy(a) / 42 for a in frames]
    np.testing.assert_allclose(np.diff(y), np.diff(expected), atol=1e-6)
    np.testing.assert_allclose(x.mean(), 0.0, atol=1e-9)
    ax.clear()
    figures.element_errors({"GAP": errors, "ES-GAP": errors}, ax)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["all", "Li", "P", "S", "S bridging", "S terminal"]
    drawn = ax.containers[0].lines[0].get_ydata().astype(float)
    np.testing.assert_allclose(drawn, [errors.rmse[k] for k in errors.rmse if k != "energy"])


def test_elements_keep_their_marks():
    assert len(set(figures.COLOURS.values())) == len(set(figures.MARKERS.values())) == 4
