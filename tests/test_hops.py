"""A hop list typed by hand is found hop by hop in a noisy trajectory, whatever the frame, images and excursions."""
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from esgap import dynamics, hops, sites, store
from esgap.__main__ import main

CELL = np.array([[9.0, 0.0, 0.0], [1.5, 6.4, 0.0], [-1.0, 0.8, 8.0]])  # A
SITES = np.array([[0.02, 0.1, 0.1], [0.35, 0.1, 0.1], [0.65, 0.1, 0.12], [0.1, 0.6, 0.55], [0.5, 0.62, 0.5],
                  [0.8, 0.6, 0.6]])  # fractional
SPACING = 20.0  # fs
N_FRAMES, CROSSING = 1000, 3  # frames; a hop takes CROSSING frames
FRAMEWORK = [(0.0, 0.0, 0.0), (0.5, 0.4, 0.8), (0.2, 0.9, 0.3), (0.9, 0.3, 0.4)]
# ion: where it is, as (from frame, site, cell); the first two lithium are correlated at frame 300
BY_HAND = {4: [(0, 0, (0, 0, 0)), (300, 1, (0, 0, 0)), (600, 2, (0, 0, 0)), (800, 0, (1, 0, 0))],
           5: [(0, 1, (0, 0, 0)), (303, 2, (0, 0, 0)), (500, 0, (1, 0, 0))],
           6: [(0, 3, (0, 0, 0)), (450, 3, (0, -1, 0)), (700, 4, (0, -1, 0))],
           7: [(0, 5, (2, -1, 0))]}
# hops that this makes, in the order in which they end: ion, start, end, image, frame, moved with
EXPECTED = [(4, 0, 1, (0, 0, 0), 300, (5,)), (5, 1, 2, (0, 0, 0), 303, (4,)), (6, 3, 3, (0, -1, 0), 450, ()),
            (5, 2, 0, (1, 0, 0), 500, ()), (4, 1, 2, (0, 0, 0), 600, ()), (6, 3, 4, (0, 0, 0), 700, ()),
            (4, 2, 0, (1, 0, 0), 800, ())]


def trajectory(stays=BY_HAND, noise=0.12, drift=0.0, excursions=(), n_frames=N_FRAMES, seed=0):
    """Ions at the places they are given, going straight from one to the next, with noise (A) and drift (A a frame).

    excursions: (ion, first frame, number of frames, site, cell)
    """
    rng, numbers = np.random.default_rng(seed), [15, 16, 16, 15] + [3] * len(stays)
    positions = np.empty((n_frames, len(numbers), 3))
    positions[:, :4] = FRAMEWORK @ CELL
    for ion, steps in stays.items():
        frames, places = [0], [(SITES[steps[0][1]] + steps[0][2]) @ CELL]
        for (_, site, cell), (frame, to, to_cell) in pairwise(steps):
            frames += [frame - CROSSING, frame]
            places += [(SITES[site] + cell) @ CELL, (SITES[to] + to_cell) @ CELL]
        positions[:, ion] = np.column_stack([np.interp(np.arange(n_frames), frames, x) for x in np.transpose(places)])
    for ion, frame, length, site, cell in excursions:
        positions[frame:frame + length, ion] = (SITES[site] + cell) @ CELL
    positions += noise * rng.normal(size=positions.shape)
    positions += np.arange(n_frames)[:, None, None] * np.asarray(drift)
    zero = np.zeros(n_frames)
    return dynamics.Trajectory(positions, np.arange(n_frames) * SPACING, zero, zero, zero, np.array(numbers), CELL,
                               dynamics.MDSettings(n_frames - 1, every=1))


def by_hand(found):
    """Hops with the site numbers of SITES instead of those found."""
    distance = np.linalg.norm([[_nearest(s - p) for p in SITES @ CELL] for s in found.sites.positions], axis=2)
    name = distance.argmin(1)
    return [(h.ion, int(name[h.start]), int(name[h.end]), _image(h, name, found), h.end_frame, h.moved_with)
            for h in found.hops]


def _nearest(d):
    f = d @ np.linalg.inv(CELL)
    return (f - np.round(f)) @ CELL


def _image(hop, name, found):
    f = hop.displacement @ np.linalg.inv(CELL) - SITES[name[hop.end]] + SITES[name[hop.start]]
    return tuple(np.round(f).astype(int).tolist())


def assert_found(found, expected=EXPECTED):
    got = by_hand(found)
    assert [g[:4] for g in got] == [e[:4] for e in expected]
    assert [g[5] for g in got] == [e[5] for e in expected]
    assert np.abs([g[4] - e[4] for g, e in zip(got, expected, strict=True)]).max() <= 1  # frame, within the radius


@pytest.mark.parametrize(("drift", "noise"), [(0.0, 0.12), ((0.02, -0.01, 0.03), 0.12), (0.0, 0.22)])
def test_hops_typed_by_hand_are_found_one_by_one(drift, noise):
    """With drift by 30 A in all, through the boundary of a skew cell, to an own image, and in correlated pairs."""
    found = hops.find_hops(trajectory(drift=drift, noise=noise))
    assert len(found.sites) == 6
    assert found.undecided == 0
    assert_found(found)
    for hop in found.hops:
        assert hop.duration <= (CROSSING + 2) * SPACING
        moved = hop.path[-1] - hop.path[0]
        assert np.linalg.norm(moved - hop.displacement) < 2.0  # both ends are within the radius
        assert len(hop.path) == hop.end_frame - hop.start_frame + 1


def test_sites_are_where_they_were_put_and_as_full():
    found = hops.find_hops(trajectory()).sites
    expected = SITES @ CELL
    for position, occupation in zip(found.positions, found.occupation, strict=True):
        distance = np.linalg.norm([_nearest(position - p) for p in expected], axis=1)
        assert distance.min() < 0.05
        held = [min(last, N_FRAMES) - first for stays in BY_HAND.values()
                for (first, site, _), (last, *_) in zip(stays, [*stays[1:], (N_FRAMES,)], strict=True)
                if site == distance.argmin()]
        assert occupation == pytest.approx(sum(held) / N_FRAMES, abs=0.02)
    assert (np.diff(found.occupation) <= 0).all()


def test_sites_do_not_depend_on_wrapping_or_on_the_choice_of_cell():
    run = trajectory()
    paths = run.positions[:, 4:]
    one = sites.find_sites(paths, CELL)
    wrapped = sites.find_sites((paths @ np.linalg.inv(CELL)) % 1.0 @ CELL, CELL)
    np.testing.assert_allclose(wrapped.positions, one.positions, atol=1e-6)
    other = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]]) @ CELL
    for p in sites.find_sites(paths, other).positions:
        assert np.linalg.norm([_nearest(p - q) for q in one.positions], axis=1).min() < 2e-2


def test_locate_is_the_nearest_of_all_images_and_none_beyond_the_radius():
    rng = np.random.default_rng(3)
    some = sites.Sites(SITES @ CELL + [0, -7.0, 20.0], np.ones(6), CELL)  # sites outside the first cell
    points = rng.normal(scale=15.0, size=(50, 2, 3))
    found, image = sites.locate(points, some, 2.0)
    for point, site, cell in zip(points.reshape(-1, 3), found.ravel(), image.reshape(-1, 3), strict=True):
        distance = np.linalg.norm([_nearest(point - p) for p in some.positions], axis=1)
        assert site == (distance.argmin() if distance.min() < 2.0 else -1)
        if site >= 0:
            assert np.linalg.norm(point - some.positions[site] - cell @ CELL) == pytest.approx(distance.min())


def test_excursions_that_return_and_stays_too_short_do_not_count():
    """24 frames are 480 fs, less than the 500 fs that make a stay; also twice in a row, and to the own image."""
    back = [(6, 100, 24, 4, (0, 0, 0)), (6, 200, 20, 4, (0, 0, 0)), (6, 240, 20, 4, (0, 0, 0)),
            (7, 500, 24, 5, (2, 0, 0)), (4, 450, 10, 2, (0, 0, 0))]
    assert_found(hops.find_hops(trajectory(excursions=back)))


def test_flickering_between_two_sites_is_one_stay_where_it_stays_longer():
    """300 fs here, 60 there, again and again: no stay reaches 500 fs uninterrupted, but the ion has not moved."""
    flicker = [(7, frame, 3, 3, (3, -1, 0)) for frame in range(15, 985, 18)]
    assert_found(hops.find_hops(trajectory(excursions=flicker)))


def test_a_site_that_is_passed_is_part_of_the_path():
    """From 0 by 1 to 2, with 200 fs on 1: one hop, of the whole length."""
    stays = {4: [(0, 0, (0, 0, 0)), (400, 1, (0, 0, 0)), (413, 2, (0, 0, 0))],
             5: [(0, 1, (0, 1, 0)), (200, 3, (0, 1, 0))]}
    found = hops.find_hops(trajectory(stays))
    assert [h[:4] for h in by_hand(found)] == [(5, 1, 3, (0, 0, 0)), (4, 0, 2, (0, 0, 0))]
    assert found.hops[1].duration == pytest.approx((413 - 397) * SPACING, abs=2 * SPACING)


def test_stays_cut_off_by_the_ends_are_undecided_unless_long_enough():
    stays = {4: [(0, 0, (0, 0, 0)), (15, 1, (0, 0, 0)), (400, 0, (0, 0, 0)), (985, 1, (0, 0, 0))],  # 15 frames: 300 fs
             5: [(0, 3, (0, 0, 0)), (40, 4, (0, 0, 0)), (960, 3, (0, 0, 0))]}
    found = hops.find_hops(trajectory(stays))
    assert [h[:4] for h in by_hand(found)] == [(5, 3, 4, (0, 0, 0)), (4, 1, 0, (0, 0, 0)), (5, 4, 3, (0, 0, 0))]
    assert found.undecided == 2


def test_ions_far_apart_or_at_other_times_do_not_move_together():
    assert hops.find_hops(trajectory(), hops.HopSettings(reach=1.0)).hops[0].moved_with == ()
    assert hops.find_hops(trajectory(), hops.HopSettings(window=0.0)).hops[0].moved_with == ()
    assert hops.find_hops(trajectory(), hops.HopSettings(window=4100.0, reach=9.0)).hops[1].moved_with == (4, 6)


def test_table_counts_both_ways_and_its_components_add_up():
    stays = {4: [(0, 0, (0, 0, 0)), (100, 1, (0, 0, 0)), (200, 0, (0, 0, 0)), (300, 1, (0, 0, 0)), (500, 2, (0, 0, 0)),
                 (700, 0, (1, 0, 0)), (900, 2, (0, 0, 0))]}
    found = hops.find_hops(trajectory(stays))
    kinds = found.table()
    assert [(k.forward + k.backward, abs(k.forward - k.backward)) for k in kinds] == [(3, 1), (2, 0), (1, 1)]
    unit = CELL / np.linalg.norm(CELL, axis=1)[:, None]
    for kind in kinds:
        np.testing.assert_allclose(kind.along @ unit, kind.displacement, atol=1e-12)
        assert kind.length == pytest.approx(np.linalg.norm(kind.displacement))
    assert sum(k.forward + k.backward for k in kinds) == len(found) == 6
    assert "6 hops of 1 Li between 3 sites in 19.98 ps" in str(found)
    assert "2 forth    1 back" in str(kinds[0])
    assert "ion 4: site" in str(found.hops[0])


def test_the_error_of_a_rate_is_that_of_counting_or_of_halves_that_scatter():
    class Counted(SimpleNamespace):
        def __len__(self):
            return len(self.hops)

    def found(*times):
        return [Counted(n_ions=5, length=1000.0, hops=[SimpleNamespace(end_time=t) for t in of]) for of in times]

    even = np.arange(5.0, 1000.0, 10.0)  # 50 hops in either half
    assert hops.hop_rate(found(even, even)) == pytest.approx((200 / 10, np.sqrt(200) / 10))
    late = 500 + even / 2  # 100 hops, all in the second half
    value, error = hops.hop_rate(found(late, late))
    assert (value, error) == pytest.approx((200 / 10, np.std([0, 0, 40, 40], ddof=1) / 2))


def test_a_rattling_solid_has_no_hops():
    found = hops.find_hops(trajectory({4: [(0, 0, (0, 0, 0))], 5: [(0, 4, (0, 0, 0))]}, noise=0.3))
    assert len(found) == 0
    assert len(found.sites) == 2
    assert found.undecided == 0


def test_end_points_are_continuous_and_only_the_first_copy_hops():
    run = trajectory(drift=(0.02, -0.01, 0.03))
    chosen = [(h.start_frame, h.end_frame) for h in hops.find_hops(run).hops if h.ion == 4]
    before, middle, _, after = hops.end_points(run, chosen, average=300.0, repeat=(1, 2, 1))
    assert len(before) == 16
    assert len(before.positions) == len(run.numbers) * 2
    np.testing.assert_allclose((middle.positions - before.positions)[4], (SITES[1] - SITES[0]) @ CELL, atol=0.2)
    np.testing.assert_allclose((after.positions - before.positions)[4], CELL[0], atol=0.2)
    np.testing.assert_array_equal(after.positions[8:], before.positions[8:])
    np.testing.assert_allclose(before.positions[8:] - before.positions[:8], np.tile(CELL[1], (8, 1)))
    np.testing.assert_allclose(before.cell.array[1], 2 * CELL[1])


def test_command_writes_the_table(tmp_path, capsys):
    """From a trajectory file as `md` writes it; what is stored prints as what was found."""
    _stored(tmp_path / "run.npz")
    assert main(["hops", str(tmp_path / "run.npz"), str(tmp_path / "hops.json"), "--residence", "400"]) == 0
    record = store.read_record(tmp_path / "hops.json")
    assert "hops of 4 Li between 6 sites" in capsys.readouterr().out
    assert record["settings"]["residence"] == 400
    assert len(record["hops"]) == len(EXPECTED) == sum(k["forward"] + k["backward"] for k in record["distinct"])
    first = record["hops"][0]
    assert (first["ion"], first["moved_with"]) == (4, [5])
    assert list(record["made_by"]["inputs"].values()) == [store.file_hash(tmp_path / "run.npz")]
    assert main(["hops", str(tmp_path / "none.npz"), str(tmp_path / "x.json")]) == 2
    assert "no file" in capsys.readouterr().err


def _stored(path):
    run = trajectory()
    moved = np.round((run.positions - run.positions[0]) * 1e4).astype(np.int32)
    settings = {**vars(run.settings), "timestep": SPACING}
    store.write_arrays(path, {"settings": settings, "stopped": ""}, start=run.positions[0], cell=run.cell,
                       displacement=np.diff(moved, axis=0, prepend=moved[:1]), numbers=run.numbers,
                       step=np.arange(len(run)), potential=run.potential, kinetic=run.kinetic, exchanged=run.kinetic)


def test_refusals():
    run = trajectory(n_frames=100, stays={4: [(0, 0, (0, 0, 0))]})
    with pytest.raises(ValueError, match="element is 'Lithium'; give the symbol"):
        hops.HopSettings(element="Lithium")
    with pytest.raises(ValueError, match=r"residence is 0\.0; it must be positive"):
        hops.HopSettings(residence=0.0)
    with pytest.raises(ValueError, match=r"0 of 5 atoms are Na; hops need mobile ions and a framework"):
        hops.find_hops(run, hops.HopSettings(element="Na"))
    with pytest.raises(ValueError, match=r"100 frames 20 fs apart do not resolve stays of 30 fs"):
        hops.find_hops(run, hops.HopSettings(residence=30.0))
    with pytest.raises(ValueError, match=r"radius is 3\.2 A, but sites are 6\.\d\d A from their own images"):
        hops.find_hops(run, hops.HopSettings(radius=3.2))
    with pytest.raises(ValueError, match=r"no place holds 1\.5 ions on average within 1\.0 A: lower `least`"):
        hops.find_hops(run, hops.HopSettings(least=1.5))
    with pytest.raises(ValueError, match=r"hops from frames \(10, 40\) to \(50, 60\) of 100: each must begin after"):
        hops.end_points(run, [(10, 50), (40, 60)])
    with pytest.raises(ValueError, match=r"hops from frames \(10,\) to \(500,\) of 100"):
        hops.end_points(run, [(10, 500)])
