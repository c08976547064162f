"""Density of mobile ions: its integral, its place in a skew cell, its levels and errors, and refusals."""
import re
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.geometry import find_mic

from esgap.density import Density, framework, lithium_density, volume_held
from esgap.mobility import LithiumRun

CELL = np.array([[7.0, 0, 0], [1.5, 6.5, 0], [-2.0, 0.7, 8.0]])
RNG = np.random.default_rng(5)


def run_of(paths, timestep=50.0, seed=0, shift=0.0):
    """A run of ions along `paths` (n_frames, n_ions, 3) beside a framework of two atoms."""
    paths = np.asarray(paths, float)
    n = paths.shape[1]
    mean = Atoms(f"PSLi{n}", [[1.0, 1, 1], [3.0, 1, 1 + shift], *paths.mean(0)], cell=CELL, pbc=True)
    return LithiumRun(paths, np.arange(2, 2 + n), timestep * np.arange(len(paths)), mean, "ES-GAP", 3, seed, 800.0,
                      {"gap": "a hash"})


def resting(place, n_frames=101, **kwargs):
    return run_of(np.tile(place, (n_frames, 1, 1)), **kwargs)


def points_of(density):
    """Positions (nx, ny, nz, 3) of the grid."""
    fractions = np.meshgrid(*(np.arange(n) / n for n in density.values.shape), indexing="ij")
    return np.stack(fractions, axis=-1) @ density.cell


def test_the_integral_is_the_number_of_ions():
    wandering = run_of(np.cumsum(RNG.normal(0, 0.3, (200, 5, 3)), axis=0))
    density = lithium_density([wandering, resting(RNG.uniform(0, 7, (5, 3)))])
    assert density.number == pytest.approx(5, rel=1e-12)
    assert density.values.min() >= 0


@pytest.mark.parametrize("place", [[0.3, 0.6, 0.45], [0.0, 0.0, 0.0], [-1.99, 0.5, 2.01]])
def test_an_ion_at_rest_is_a_round_peak_at_its_place(place):
    """Also across the boundary, and equally wide in all directions of a skew cell."""
    shape = np.ceil(np.linalg.norm(CELL, axis=1) / 0.3)
    place = np.round(place * shape) / shape @ CELL  # on the grid, from which nothing is moved
    density = lithium_density([resting(place)], skip=0.0, width=0.4)
    offsets = find_mic((points_of(density) - place).reshape(-1, 3), CELL)[0]
    weights = density.values.ravel() / density.values.sum()
    assert np.linalg.norm(offsets[np.argmax(weights)]) < 1e-9
    np.testing.assert_allclose(weights @ offsets, 0, atol=1e-4)
    np.testing.assert_allclose((weights[:, None] * offsets).T @ offsets, 0.4**2 * np.eye(3), atol=2e-3)
    assert density.values.max() == pytest.approx((2 * np.pi * 0.4**2) ** -1.5, rel=0.01)


def test_runs_count_by_their_lengths():
    """60 ps here, 20 ps there; the second in steps twice as long."""
    here, there = [1.0, 2.0, 3.0], [4.0, 5.0, 6.0]
    runs = [resting(here, 1200), resting(there, 200, timestep=100.0)]
    one, other = (lithium_density([run], skip=0.0).values for run in runs)
    np.testing.assert_allclose(lithium_density(runs, skip=0.0).values, 0.75 * one + 0.25 * other, atol=5e-6)


def test_the_beginning_is_left_out():
    paths = np.concatenate([np.tile([1.0, 2.0, 3.0], (40, 1, 1)), np.tile([4.0, 5.0, 6.0], (60, 1, 1))])
    np.testing.assert_allclose(lithium_density([run_of(paths)], skip=2.0).values,
                               lithium_density([resting([4.0, 5.0, 6.0])], skip=0.0).values, atol=1e-9)


def test_shares_and_levels_of_a_known_distribution():
    values = np.zeros((2, 5, 10))
    values.flat[RNG.permutation(100)[:15]] = [6.0] * 5 + [3.0] * 10  # halves of all there is
    density = Density(values, np.diag([2.0, 5.0, 10.0]))
    assert density.number == pytest.approx(60)
    assert (density.level(0.5), density.volume(0.5)) == (6.0, 0.05)
    assert (density.level(0.501), density.volume(0.501)) == (3.0, 0.06)
    assert (density.level(0.999), density.volume(0.999)) == (3.0, 0.15)
    for share in (0.2, 0.5, 0.85):
        inside = values >= density.level(share)
        assert values[inside].sum() >= share * values.sum()
    assert Density(np.ones((10, 10, 10)), CELL).volume(0.9) == pytest.approx(0.9)


def test_levels_fall_and_volumes_grow_with_the_share():
    density = lithium_density([run_of(np.cumsum(RNG.normal(0, 0.3, (300, 5, 3)), axis=0))])
    shares = np.arange(1, 100) / 100
    assert np.all(np.diff(density.level(shares)) <= 0)
    assert np.all(np.diff(density.volume(shares)) >= 0)
    inside = [density.values[density.values >= level].sum() for level in density.level(shares)]
    np.testing.assert_allclose(inside / density.values.sum(), shares, atol=0.01)
    assert "5 ions on 24 x 23 x 28 points" in str(density)


def test_the_error_of_a_volume_is_how_runs_scatter():
    """Ions drawn from one distribution, so that repeated sets of runs tell what the error should be."""
    def found():
        return volume_held([run_of(RNG.normal(0, 0.5, (100, 1, 3)) + 3.0, seed=k) for k in range(2)], 0.5, skip=0.0)
    values, errors = np.transpose([found() for _ in range(60)])
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(values.std(ddof=1), rel=0.35)
    same = resting([1.0, 2.0, 3.0])
    assert volume_held([same, same], skip=0.0)[1] == pytest.approx(0, abs=1e-12)


def test_the_framework_rests_at_its_mean_place():
    atoms = framework([resting([1, 2, 3], 301), resting([1, 2, 3], 101, shift=0.08)])  # 15 and 5 ps
    assert atoms.get_chemical_formula() == "PS"
    np.testing.assert_allclose(atoms.positions, [[1, 1, 1], [3, 1, 1.02]])


@pytest.mark.parametrize(("arguments", "message"), [
    ({"values": np.ones((3, 3))}, "values have the shape (3, 3)"),
    ({"values": np.full((2, 2, 2), np.nan)}, "needs finite ones"),
    ({"values": -np.ones((2, 2, 2))}, "values lie between -1 and -1"),
    ({"values": np.zeros((2, 2, 2))}, "positive somewhere"),
    ({"cell": np.ones((3, 3))}, "give three lattice vectors"),
])
def test_refused_densities(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Density(**{"values": np.ones((2, 2, 2)), "cell": CELL, **arguments})


@pytest.mark.parametrize("share", [0, 1, -0.2, np.array([0.5, 1.5]), np.nan])
def test_refused_shares(share):
    for ask in ("level", "volume"):
        with pytest.raises(ValueError, match=re.escape(f"share is {share}; a surface can enclose more than 0")):
            getattr(Density(np.ones((2, 2, 2)), CELL), ask)(share)


FIRST = resting([1.0, 2, 3])


@pytest.mark.parametrize(("runs", "arguments", "message"), [
    ([], {}, "`runs` is empty"),
    ([FIRST, replace(FIRST, model="GAP")], {}, "runs are of ES-GAP and GAP"),
    ([FIRST, replace(FIRST, about={"gap": "another"})], {}, "or of two fits"),
    ([FIRST, resting([[1.0, 2, 3], [4, 5, 6]], seed=7)], {}, "seed 7 has another cell or other atoms than seed 0"),
    ([FIRST, resting([1.0, 2, 3], seed=7, shift=1.0)], {}, "seed 7 rests 0.50 A from that of seed 0"),
    ([FIRST], {"skip": 5.0}, "skip is 5.0 ps, and seed 0 of ES-GAP is 5.0 ps long"),
    ([FIRST], {"skip": -1.0}, "skip is -1.0 ps"),
    ([FIRST], {"spacing": 0.5}, "spacing is 0.5 A and width 0.35 A"),
    ([FIRST], {"spacing": 0.0}, "spacing is 0.0 A"),
])
def test_refused_runs(runs, arguments, message):
    for what in (lithium_density, volume_held):
        with pytest.raises(ValueError, match=re.escape(message)):
            what(runs, **arguments)
