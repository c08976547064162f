"""Random walks of known D and known correlation, units by hand, and the estimator's claims about itself."""
import numpy as np
import pytest

from esgap import transport


def walk(rng, n_frames=2000, n_ions=14, d=0.5, timestep=0.1, rattle=0.0):
    """Brownian paths with D in A^2/ps (a number, or three), and a rattle in A that does not add up."""
    steps = rng.normal(size=(n_frames, n_ions, 3)) * np.sqrt(2 * np.asarray(d) * timestep)
    return np.cumsum(steps, axis=0) + rattle * rng.normal(size=steps.shape)


def test_msd_is_that_of_naive_sums():
    paths = walk(np.random.default_rng(0), 40, 3)
    fast = transport.mean_square_displacement(paths)
    for lag in (0, 1, 7, 39):
        naive = np.mean([(paths[s + lag] - paths[s]) ** 2 for s in range(40 - lag)], axis=(0, 1))
        np.testing.assert_allclose(fast[lag], naive, atol=1e-10)


def test_covariance_is_that_of_naive_sums():
    lags, n = [1, 3, 6], 20
    fast = transport.brownian_covariance(lags, n)
    for x, i in enumerate(lags):
        for y, j in enumerate(lags):
            total = sum(len(set(range(a, a + i)) & set(range(b, b + j))) ** 2
                        for a in range(n - i) for b in range(n - j))
            assert fast[x, y] == pytest.approx(2 * total / ((n - i) * (n - j)))


def test_known_d_within_four_errors_and_errors_that_are_true():
    rng = np.random.default_rng(1)
    found = [transport.diffusion(walk(rng, rattle=0.3), 0.1, start=1.0) for _ in range(60)]
    values, errors = (np.array([getattr(f, x) for f in found]) for x in ("value", "error"))
    assert abs(values.mean() - 0.5) < 4 * values.std() / np.sqrt(60)
    assert (abs(values - 0.5) < 4 * errors).all()
    assert np.sqrt((((values - 0.5) / errors) ** 2).mean()) == pytest.approx(1.0, abs=0.25)
    assert np.mean([f.intercept for f in found]) == pytest.approx(2 * 3 * 0.3**2, abs=0.1)
    assert "A^2/ps" in str(found[0])


def test_generalised_least_squares_beats_ordinary():
    rng, ordinary, general = np.random.default_rng(2), [], []
    for _ in range(40):
        fit = transport.diffusion(walk(rng, 800, 5), 0.1, start=0.1, end=30.0)
        general.append(fit.value)
        ordinary.append(np.polyfit(fit.time, fit.msd, 1)[0] / 6)
    assert np.std(general) < 0.7 * np.std(ordinary)


def test_directions_are_told_apart():
    paths = walk(np.random.default_rng(3), 4000, 14, (0.1, 0.5, 0.9))
    by_axis = [transport.diffusion(paths, 0.1, component=k) for k in range(3)]
    for found, d in zip(by_axis, (0.1, 0.5, 0.9), strict=True):
        assert abs(found.value - d) < 4 * found.error
    whole = transport.diffusion(paths, 0.1)
    assert whole.value == pytest.approx(np.mean([f.value for f in by_axis]), rel=0.02)


def test_haven_ratio_of_ions_that_move_in_pairs():
    """Seven pairs, each moving as one: the collective conductivity is twice Nernst-Einstein's, H = 1/2."""
    rng, ratios = np.random.default_rng(4), []
    for _ in range(12):
        paths = np.repeat(walk(rng, 3000, 7), 2, axis=1)
        result = transport.conductivity(paths, 0.1, 1.0, 830.0, 800.0)
        ratios.append(result.haven[0])
    assert np.mean(ratios) == pytest.approx(0.5, abs=4 * np.std(ratios) / np.sqrt(12))
    assert abs(ratios[-1] - 0.5) < 4 * result.haven[1]
    assert "Haven ratio" in str(result)


def test_units_against_a_calculation_by_hand():
    """14 Li+ in 829.35 A^3 at 800 K with D = 1e-5 cm^2/s: n = 1.688e28 / m^3, sigma = n e^2 D / kT = 39.23 S/m."""
    d = transport.Diffusion(0.1, 0.01, np.zeros(1), np.zeros(1), 0.0, 3, 14)
    n, e, kT = 14 / 829.35e-30, 1.602176634e-19, 1.380649e-23 * 800
    by_hand = n * e**2 * 1e-9 / kT * 10  # 1 S/m = 10 mS/cm
    value, error = transport.nernst_einstein(d, 14, 1.0, 829.35, 800.0)
    assert value == pytest.approx(by_hand, rel=1e-9)
    assert error == pytest.approx(0.1 * by_hand, rel=1e-9)


def test_drift_of_the_framework_is_removed():
    rng = np.random.default_rng(5)
    paths = walk(rng, 500, 6)
    paths[:, 3:] = rng.normal(size=(1, 3, 3))  # a framework at rest
    drift = np.linspace(0, 40, 500)[:, None, None] * np.array([1.0, -0.5, 0.2])
    masses = [7.0] * 3 + [31.0, 32.0, 32.0]
    np.testing.assert_allclose(transport.in_frame_of(paths + drift, masses, [3, 4, 5]), paths, atol=1e-9)


def test_a_rattling_solid_does_not_conduct():
    rng = np.random.default_rng(6)
    found = [transport.diffusion(0.2 * rng.normal(size=(2000, 14, 3)), 0.1) for _ in range(20)]
    values = np.array([f.value for f in found])
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(20)
    assert values.std() < 1e-3


def test_runs_together():
    assert transport.together([1.0, 1.0, 1.0], [0.3, 0.3, 0.3]) == (1.0, pytest.approx(0.3 / np.sqrt(3)))
    mean, error = transport.together([0.0, 2.0], [0.1, 0.1])  # they scatter more than they claim
    assert (mean, error) == (1.0, pytest.approx(1.0))
    mean, error = transport.together([0.0, 2.0], [0.1, 0.1], [1.0, 3.0])
    assert (mean, error) == (1.5, pytest.approx(np.sqrt(2 * (1.5**2 / 16 + 0.5**2 * 9 / 16))))


def test_the_error_of_runs_of_unequal_length_is_true():
    """Runs whose variance falls with their length, weighted by it: less uncertain than the plain mean, and as said."""
    rng, lengths = np.random.default_rng(2), np.array([1.0] * 12 + [4.0] * 6 + [10.0] * 2)
    values = 5 + rng.normal(size=(2000, len(lengths))) / np.sqrt(lengths)
    found = np.array([transport.together(v, 1 / np.sqrt(lengths), lengths) for v in values])
    plain = np.array([transport.together(v, 1 / np.sqrt(lengths))[0] for v in values])
    assert found[:, 0].std() < 0.75 * plain.std()
    assert found[:, 0].std() == pytest.approx(1 / np.sqrt(lengths.sum()), rel=0.06)
    assert found[:, 1].min() == pytest.approx(1 / np.sqrt(lengths.sum()))  # what they claim
    scattered = np.array([transport.together(v, np.zeros(len(lengths)), lengths)[1] for v in values])
    assert np.sqrt(np.mean(scattered**2)) == pytest.approx(found[:, 0].std(), rel=0.1)


def test_too_short_a_run_is_refused():
    with pytest.raises(ValueError, match=r"no room for a fit between 2\.0 and 1\.0 ps in 5 ps of frames 0\.1 ps apart"):
        transport.diffusion(walk(np.random.default_rng(0), 50), 0.1)
