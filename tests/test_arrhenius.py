"""A line with a known activation energy is found within its error, and errors are neither too small nor too large."""
from dataclasses import replace

import numpy as np
import pytest

from esgap import arrhenius, transport
from test_conductivity import walk

T = np.array([600.0, 700.0, 800.0, 900.0, 1000.0])


def exact(energy, temperature, sigma=900.0, at=800.0):
    return sigma * at / temperature * np.exp(energy / transport.BOLTZMANN * (1 / at - 1 / temperature))


def test_without_noise_the_energy_is_exact():
    sigma = exact(0.2, T)
    found = arrhenius.through("GAP", T, sigma, 0.1 * sigma)
    assert found.energy[0] == pytest.approx(0.2, rel=1e-10)
    value, error = found.line([800.0, 300.0])
    assert value == pytest.approx(exact(0.2, np.array([800.0, 300.0])))
    assert error[1] / value[1] > 5 * error[0] / value[0]  # far from the points the line is uncertain
    assert "0.200 +- 0.0" in str(found)


def test_errors_are_those_of_repeated_experiments():
    rng, sigma = np.random.default_rng(0), exact(0.2, T)
    found = [arrhenius.through("GAP", T, sigma * (1 + 0.05 * rng.normal(size=5)), 0.05 * sigma) for _ in range(400)]
    energies, errors = np.array([f.energy for f in found]).T
    assert energies.mean() == pytest.approx(0.2, abs=4 * energies.std() / 20)
    assert np.median(errors) == pytest.approx(energies.std(), rel=0.25)


def test_points_that_scatter_more_than_their_errors_widen_the_error():
    sigma = exact(0.2, T)
    honest = arrhenius.through("GAP", T, sigma * [1.2, 0.8, 1.2, 0.8, 1.2], 0.2 * sigma).energy[1]
    boasting = arrhenius.through("GAP", T, sigma * [1.2, 0.8, 1.2, 0.8, 1.2], 0.01 * sigma).energy[1]
    assert 0.5 * honest < boasting < 2 * honest


def test_too_few_temperatures_and_conductivities_of_nothing_are_refused():
    with pytest.raises(ValueError, match=r"GAP has runs at \[600.0, 800.0\] K; a line with an error needs three"):
        arrhenius.through("GAP", [600, 800, 800], [1, 2, 3], [1, 1, 1])
    with pytest.raises(ValueError, match="all must be positive; run longer"):
        arrhenius.through("GAP", T, [1, 2, 3, 0, 4], np.ones(5))


def test_stored_runs_become_lines(monkeypatch):
    d = {t: 0.5 * exact(0.2, t) * t / exact(0.2, 800.0) / 800 for t in T}  # A^2/ps

    def runs(temperature, folder=None):
        if temperature == 700:
            raise FileNotFoundError("none at 700 K")
        return {m: [replace(walk(10 * k + seed, (d[temperature],) * 3), temperature=temperature) for seed in range(2)]
                for k, m in enumerate(("GAP", "ES-GAP"))}

    monkeypatch.setattr(arrhenius.mobility, "load_all", runs)
    for found in arrhenius.stored().values():
        assert found.temperature.tolist() == [600, 800, 900, 1000]
        value, error = found.energy
        assert abs(value - 0.2) < 4 * error
    assert arrhenius.stored((600.0, 700.0, 800.0)) == {}


def test_a_single_run_is_no_surer_than_runs_scatter_elsewhere(monkeypatch):
    rates = {600.0: (0.1,), 700.0: (0.2,), 800.0: (0.2, 0.5, 0.8), 900.0: (0.7,)}  # A^2/ps

    def runs(temperature, folder=None):
        return {m: [replace(walk(seed, (d,) * 3), temperature=temperature)
                    for seed, d in enumerate(rates[temperature])] for m in ("GAP", "ES-GAP")}

    monkeypatch.setattr(arrhenius.mobility, "load_all", runs)
    found = arrhenius.stored(tuple(rates))["GAP"]
    relative = found.error / found.sigma
    np.testing.assert_allclose(relative[[0, 1, 3]], 0.6, atol=0.1)  # that of 0.2, 0.5, 0.8
    assert relative[2] >= relative[0] / np.sqrt(3) * (1 - 1e-9)


def test_runs_without_thermostat_are_beside_the_line(monkeypatch):
    """GAP's free runs conduct as its line says, those of ES-GAP by half."""
    d = {t: 0.5 * exact(0.2, t) * t / exact(0.2, 800.0) / 800 for t in (*T, 650.0)}

    def runs(temperature, folder=None):
        return {m: [replace(walk(10 * k + seed, (d[temperature],) * 3), temperature=temperature) for seed in range(3)]
                for k, m in enumerate(("GAP", "ES-GAP"))}

    free = [replace(walk(seed, (d[650.0] * (0.5 if m == "ES-GAP" else 1),) * 3), model=m, temperature=650.0)
            for seed, m in enumerate(("GAP", "ES-GAP", "GAP", "ES-GAP"), 50)]
    monkeypatch.setattr(arrhenius.mobility, "load_all", runs)
    monkeypatch.setattr(arrhenius.mobility, "runs_without_thermostat", lambda folder=None: free)
    found = arrhenius.without_thermostat(arrhenius.stored())
    for model, expected in (("GAP", 1.0), ("ES-GAP", 0.5)):
        factor, error = found[model]
        assert abs(factor - expected) < 4 * error
        assert error < 0.3
