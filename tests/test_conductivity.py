"""Conductivities of random walks of known D; posteriors with the mean and error they were given; lengths by hand."""
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms

from esgap import conductivity, found_mobility, mobility, transport
from esgap.claims import literature

D, STEP, N_IONS = 0.5, 0.1, 14  # A^2/ps, ps
CELL = np.diag([9.0, 9.5, 10.0])


def walk(seed, d=(D, D, D), n_frames=1000):
    steps = np.random.default_rng(seed).normal(size=(n_frames, N_IONS, 3)) * np.sqrt(2 * np.asarray(d) * STEP)
    mean = Atoms("Li" * N_IONS, np.zeros((N_IONS, 3)), cell=CELL, pbc=True)
    return mobility.LithiumRun(np.cumsum(steps, axis=0), np.arange(N_IONS), np.arange(n_frames) * 1e3 * STEP, mean,
                               "GAP", 1, seed, 800.0, {})


@pytest.fixture(scope="module")
def runs():
    return [walk(seed) for seed in range(3)]


def test_known_conductivity_within_four_errors(runs):
    found = conductivity.conductivities(runs)
    exact = transport.MS_PER_CM * N_IONS * D / (np.linalg.det(CELL) * transport.BOLTZMANN * 800)
    for value, error in (found.nernst_einstein, found.collective):
        assert abs(value - exact) < 4 * error
    assert found.collective[1] > found.nernst_einstein[1]
    assert abs(found.haven[0] - 1) < 4 * found.haven[1]
    assert found.length == pytest.approx(1000 * STEP - STEP - 2.0)
    assert found.relative == found.nernst_einstein[1] / found.nernst_einstein[0]
    assert "3 runs of 97.9 ps" in str(found)


def test_against_length_uses_only_the_beginning_and_narrows(runs):
    found = conductivity.against_length(runs, (1, 10, 40, 500))
    assert [c.length for c in found] == pytest.approx([10, 40, 97.9])
    assert found[-1].nernst_einstein == conductivity.conductivities(runs).nernst_einstein
    claimed = [np.mean([c.nernst_einstein[1] for c in f.each]) for f in found]
    assert claimed[0] > claimed[1] > claimed[2]
    short = replace(runs[0], paths=runs[0].paths[:200], time=runs[0].time[:200])
    mixed = conductivity.against_length([short, *runs], (10, 500))
    assert [(pytest.approx(c.length), c.n_runs) for c in mixed] == [(10, len(runs) + 1), (97.9, len(runs))]
    with pytest.raises(ValueError, match="too short to skip"):
        conductivity.against_length([walk(0, n_frames=40)], (1, 2))


def test_long_runs_weigh_more():
    short = replace(walk(1), paths=walk(1).paths[:251], time=walk(1).time[:251])
    found = conductivity.conductivities([short, walk(2)])
    (a, b), lengths = (c.nernst_einstein[0] for c in found.each), np.array([23.0, 97.9])
    assert found.nernst_einstein[0] == pytest.approx(lengths @ [a, b] / lengths.sum())
    assert found.length == pytest.approx(lengths.mean())


def test_a_trend_with_time_is_found_where_there_is_one():
    """Ions that slow down by 30 % in 100 ps, and ions that do not."""
    speed = np.sqrt(np.linspace(1.15, 0.85, 1001))[:, None, None]
    steady = [walk(seed, n_frames=1001) for seed in range(12)]
    slowing = [replace(r, paths=np.cumsum(np.diff(r.paths, axis=0, prepend=0) * speed, axis=0)) for r in steady]
    short = replace(walk(20), paths=walk(20).paths[:700], time=walk(20).time[:700])
    for runs, expected in ((steady, 0.0), (slowing, -0.3)):
        windows = conductivity.against_time([*runs, short], 20.0)
        assert [t for t, _ in windows] == [10, 30, 50, 70, 90]
        assert [c.n_runs for _, c in windows] == [13, 13, 13, 12, 12]
        value, error = conductivity.trend(windows)
        assert abs(value - expected) < 4 * error
        assert error < 0.06
    whole = sum(c.nernst_einstein[0] for _, c in windows) / 5
    assert whole == pytest.approx(conductivity.conductivities(slowing).nernst_einstein[0], rel=0.1)
    assert conductivity.against_time(steady[:2], 20.0) == []
    with pytest.raises(ValueError, match=r"windows of 4\.0 ps leave no room for a fit from 2\.0 ps on"):
        conductivity.against_time(steady, 4.0)
    with pytest.raises(ValueError, match="1 windows show no trend"):
        conductivity.trend(windows[:1])


def test_axes_and_displacements():
    runs = [walk(seed, (0.1, 0.5, 1.0)) for seed in range(3)]
    for (value, error), exact in zip(conductivity.along_axes(runs).values(), (0.1, 0.5, 1.0), strict=True):
        assert abs(value - exact) < 4 * error
    finer = replace(runs[0], paths=np.repeat(runs[0].paths, 2, axis=0), time=np.arange(2000) * 0.5e3 * STEP)
    lag, msd = conductivity.displacements([*runs, finer])
    assert msd.shape == (len(lag), 3)
    assert msd[50] == pytest.approx(2 * np.array([0.1, 0.5, 1.0]) * lag[50], rel=0.4)


def test_displacements_of_runs_with_frames_at_other_times():
    """Uniform motion: the mean square is (v t)^2 at every lag, whatever the spacings are."""
    def moving(spacing):
        time = np.arange(400) * spacing
        paths = 0.3 * time[:, None, None] * np.ones((1, 5, 3))
        return replace(walk(0, (1.0, 1.0, 1.0)), paths=paths, time=1e3 * time)
    lag, msd = conductivity.displacements([moving(0.1), moving(0.051)])
    assert lag[-1] > 17
    assert np.allclose(msd, (0.3 * lag[:, None])**2, atol=3e-4)  # a parabola lies 0.09 dt^2/4 below its chords


def test_posterior_has_the_mean_and_error_it_is_given():
    draws = conductivity.posterior(190.0, 40.0, 200000)
    assert draws.mean() == pytest.approx(190, rel=0.005)
    assert draws.std() == pytest.approx(40, rel=0.01)
    assert draws.min() > 0
    with pytest.raises(ValueError, match="must be positive"):
        conductivity.posterior(-1.0, 2.0)


def test_ratio():
    equal = conductivity.ratio((100.0, 10.0), (100.0, 10.0))
    assert equal.median == pytest.approx(1, abs=0.01)
    assert equal.above == pytest.approx(0.5, abs=0.02)
    assert np.log(equal.high) == pytest.approx(1.96 * np.sqrt(2) * 0.1, rel=0.05)
    assert conductivity.ratio((190.0, 5.0), (120.0, 5.0)).above == 1.0
    assert "above 1 with" in str(equal)


def test_length_to_tell():
    f = np.exp(0.5)
    assert conductivity.length_to_tell((0.3, 0.4), 100.0, (f, 1.0), 2.0) == pytest.approx(100 * 16 * 0.25)
    with pytest.raises(ValueError, match="cannot be told apart"):
        conductivity.length_to_tell((0.3, 0.4), 100.0, (1.0, 1.0))


def test_the_estimator_that_is_chosen(runs):
    tracer, collective = (conductivity.conductivities(runs, estimator=e) for e in conductivity.ESTIMATORS)
    assert tracer.chosen == tracer.nernst_einstein == collective.nernst_einstein
    assert collective.chosen == collective.collective
    assert collective.relative == pytest.approx(collective.collective[1] / collective.collective[0])
    assert conductivity.against_length(runs, (10, 40), estimator="collective")[-1].chosen == collective.chosen
    with pytest.raises(ValueError, match="estimator is 'ols'; choose one of tracer, collective"):
        conductivity.conductivities(runs, estimator="ols")


def test_deviations_at_a_length_are_those_of_simulated_experiments():
    """Others count hops of half and of a quarter of our conductivity, in runs of another length: how far apart are
    their two results, in units of how they scatter from one experiment to the next?"""
    one = conductivity.Conductivities("GAP", (1000.0, 100.0), (1.0, 1.0), (), 50.0, 2)  # 100 events in 100 ps
    values, length = (500.0, 250.0), 800.0
    found = conductivity.deviations_at((one, one), values, length)
    rng = np.random.default_rng(0)
    events = [100 * v / 1000 * length / 100 for v in values]  # 400 and 200
    logs = [np.log(rng.poisson(n, 20000) / n * v) for n, v in zip(events, values, strict=True)]
    assert found == pytest.approx(np.log(2) / np.std(logs[0] - logs[1]), rel=0.02)
    assert conductivity.deviations_at((one, one), values, 4 * length) == pytest.approx(2 * found)


def test_extrapolation_undoes_itself():
    (first, *_) = literature("conductivity")
    hot = conductivity.extrapolated(first["sigma"], first["activation_energy"], 800.0)
    assert 100 < hot < 1000
    assert conductivity.extrapolated(hot, first["activation_energy"], 298.15, 800.0) == pytest.approx(first["sigma"])


def test_the_ledger_decides_by_two_standard_errors(monkeypatch):
    def both(gap, es):
        return lambda: {m: conductivity.Conductivities(m, s, s, (), 40.0, 2) for m, s in (("GAP", gap), ("ES-GAP", es))}

    monkeypatch.setattr(found_mobility, "_conductivities", both((195.0, 5.0), (400.0, 10.0)))
    assert found_mobility.conductivity_gap().verdict == "reproduced"
    assert found_mobility.conductivity_es_gap().verdict == "not"
    assert [holds for _, holds in found_mobility.conductivity_sampling().statements] == [False, True, False]
    monkeypatch.setattr(found_mobility, "_conductivities", both((190.0, 80.0), (120.0, 60.0)))
    assert found_mobility.conductivity_gap().verdict == found_mobility.conductivity_sampling().verdict == "not testable"


def test_single_runs_and_how_their_scatter_falls():
    """Of random walks: the scatter is the error that each claims, and falls as one over the root of the length."""
    many = [walk(seed) for seed in range(40)]
    alone = conductivity.single_runs(many, 80.0)
    assert alone.shape == (40,)
    one = conductivity.conductivities(many[:1], 80.0)
    assert alone[0] == pytest.approx(one.nernst_einstein[0])
    rows = conductivity.scatter_against_length([*many, walk(40, n_frames=200)], (10.0, 40.0, 80.0, 1000.0))
    assert [r[0] for r in rows] == [10.0, 40.0, 80.0]
    (_, short, s_short), (_, _, _), (_, long, s_long) = rows
    assert short > long + s_long
    claimed = np.mean([c.nernst_einstein[1] for c in conductivity.conductivities(many, 80.0).each]) / alone.mean()
    assert abs(long - claimed) < 4 * s_long
    assert s_short == pytest.approx(short / np.sqrt(2 * 40))  # 41 runs reach it


def test_single_runs_by_the_collective_estimator(runs):
    both = [conductivity.single_runs(runs, None, estimator=e) for e in conductivity.ESTIMATORS]
    assert both[0].std() < both[1].std()
