"""Barriers of potentials whose saddle points are known, whatever the number of images, boundaries and kills."""
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from esgap import barriers, ends, paths, store, structures
from esgap.__main__ import main
from esgap.barriers import NEBSettings, find_chain, find_path
from path_cases import CENTRE, Cage, Surface, at_right_angles, double_well, one_at, ring, wells

FINE = NEBSettings(images=5, fmax=0.005)


def search(start, end, function, settings=FINE, **options):
    return find_path(start, end, Surface(function), settings, progress=False, **options)


@pytest.mark.parametrize("tilt", [0.0, 0.25, -0.5])
def test_forward_and_reverse_barrier_of_a_double_well(tilt):
    """V(-1) = 2c/3, V(1) = -2c/3, saddle at x = -c/(4h); ends are given off their minima."""
    found = search(one_at(-1.15, 0.1, 0), one_at(0.9, 0, -0.1), double_well(tilt=tilt))
    x = -tilt / 1.2
    saddle = 0.3 * (x**2 - 1) ** 2 + tilt * (x**3 / 3 - x)
    assert found.profile.forward == pytest.approx(saddle - 2 * tilt / 3, abs=1e-4)
    assert found.profile.reverse == pytest.approx(saddle + 2 * tilt / 3, abs=1e-4)
    assert found.images[found.profile.highest].positions[0, 0] - CENTRE[0] == pytest.approx(x, abs=0.01)
    assert found.profile.coordinate[-1] == pytest.approx(2.0, abs=0.02)
    assert found.fmax < 0.005
    assert found.climbed
    assert "model: forward" in str(found)


def test_saddle_of_a_bent_valley():
    """The barrier is h at 45 degrees, and the path an arc of R pi/2, though its chord leads over a hill."""
    found = search(one_at(2.0, 0, 0), one_at(0, 2.0, 0), ring())
    assert found.profile.forward == pytest.approx(0.25, abs=1e-4)
    assert found.profile.reverse == pytest.approx(0.25, abs=1e-4)
    saddle = found.images[found.profile.highest].positions[0] - CENTRE
    np.testing.assert_allclose(saddle, [2**0.5, 2**0.5, 0], atol=0.01)
    assert found.profile.coordinate[-1] == pytest.approx(np.pi, rel=0.02)
    s, e = found.profile.curve()
    np.testing.assert_allclose(e, 0.25 * np.sin(2 * s / s[-1] * np.pi / 2) ** 2, atol=0.015)


def test_path_across_the_boundary():
    """From the last well of the cell to the first of the next; all images on their way, none jumps."""
    found = search(one_at(6.0, 0, 0), one_at(8.0, 0, 0), wells())
    assert found.profile.forward == pytest.approx(0.2, abs=1e-4)
    x = np.array([a.positions[0, 0] for a in found.images])
    assert (np.diff(x) > 0).all()
    assert x[0] == pytest.approx(11.0, abs=0.05)
    assert x[-1] == pytest.approx(13.0, abs=0.05)


def test_atoms_that_only_watch_do_not_change_the_barrier():
    """Two more lithium in other wells of a long row: the path of one is as it was."""
    start, end = one_at(0, 0, 0), one_at(2.0, 0, 0)
    for atoms in (start, end):
        atoms += Atoms("Li2", [[0.8, 5, 5], [9.1, 5, 5]])
    found = search(start, end, wells())
    assert found.profile.forward == pytest.approx(0.2, abs=1e-4)
    moved = found.images[-1].positions - found.images[0].positions
    assert np.abs(moved[1:]).max() < 0.01


def test_more_images_until_the_barrier_rests():
    """Two barriers in a row, of which only the higher is climbed: a coarse band may miss it, a fine one does not."""
    settings = NEBSettings(images=3, fmax=0.005, tolerance=0.005)
    found = search(one_at(2.0, 0, 0), one_at(0, 2.0, 0), ring(), settings)
    numbers, forward, reverse = np.transpose(found.history)
    assert numbers.tolist() == [3, 5]
    assert abs(forward[-1] - forward[-2]) < 0.005
    assert abs(reverse[-1] - reverse[-2]) < 0.005
    assert len(found.images) == numbers[-1] + 2
    assert "3 images: 0.2" in str(found)


def test_a_downhill_band_has_no_saddle_and_says_so():
    """A step from one plain to another without a barrier: nothing lies above both ends, so nothing climbs."""
    def slope(r):
        u = np.clip(r - CENTRE, -1, 1)[:, 0]
        y, z = (r - CENTRE).T[1:]
        return (0.2 * (1.5 * u - u**3 / 2) + 2 * (y**2 + z**2),
                np.column_stack([0.3 * (1 - u**2), 4 * y, 4 * z]))
    found = search(one_at(-1.0, 0, 0), one_at(1.0, 0, 0), slope)
    assert not found.climbed
    assert found.profile.forward == pytest.approx(0.4, abs=1e-3)
    assert "none has climbed to a saddle point: try more images" in str(found)


def interrupted(start, end, function, settings, output, every=30):
    """Search again and again, interrupted after more and more evaluations -> path, number of interruptions."""
    for n in range(100):
        try:
            return find_path(start, end, Surface(function, fail_at=every + n), settings, output, progress=False), n
        except KeyboardInterrupt:
            assert not output.with_suffix(".json").exists()
    raise AssertionError("it never ends")


def test_interrupted_searches_go_on_to_the_same_path(tmp_path):
    settings = NEBSettings(images=5, fmax=0.002, tolerance=0.005)
    start, end = one_at(2.1, 0, 0), one_at(0, 2.1, 0)
    whole = find_path(start, end, Surface(ring()), settings, tmp_path / "whole.xyz", progress=False)
    again, n = interrupted(start, end, ring(), settings, tmp_path / "again.xyz")
    assert n >= 4
    for name in ("forward", "reverse"):
        assert getattr(again.profile, name) == pytest.approx(getattr(whole.profile, name), abs=1e-4)
    for a, b in zip(whole.images, again.images, strict=True):
        np.testing.assert_allclose(a.positions, b.positions, atol=0.01)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["again.json", "again.xyz", "whole.json", "whole.xyz"]


def test_a_killed_process_leaves_a_search_that_goes_on(tmp_path):
    """Without warning, as soon as there is something to go on from."""
    file, start, end = tmp_path / "path.xyz", one_at(2.1, 0, 0), one_at(0, 2.1, 0)
    code = ("import time\nfrom path_cases import Surface, one_at, ring\n"
            "from esgap.barriers import NEBSettings, find_path\n"
            "def slow(r):\n    time.sleep(0.05)\n    return ring()(r)\n"
            f"find_path(one_at(2.1, 0, 0), one_at(0, 2.1, 0), Surface(slow), {FINE!r}, {str(file)!r}, progress=False)")
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path})
    while not file.with_suffix(".state.npz").exists() and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    found = find_path(start, end, Surface(ring()), FINE, file, progress=False)
    assert found.profile.forward == pytest.approx(0.25, abs=1e-4)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["path.json", "path.xyz"]


def test_a_finished_path_is_read_and_another_is_refused(tmp_path):
    start, end, counting = one_at(-1, 0, 0), one_at(1, 0, 0), Surface(double_well())
    file = tmp_path / "path.xyz"
    first = find_path(start, end, counting, FINE, file, progress=False)
    calls = counting.calls
    second = find_path(start, end, counting, FINE, file, progress=False)
    assert counting.calls == calls
    np.testing.assert_allclose(second.profile.energies, first.profile.energies, atol=1e-12)
    with pytest.raises(ValueError, match=r"path\.xyz belongs to a search with settings .* remove it, or choose"):
        find_path(start, end, counting, NEBSettings(images=7), file, progress=False)
    with pytest.raises(ValueError, match=r"path\.xyz belongs to a search with label model, not GAP"):
        find_path(start, end, counting, FINE, file, "GAP", progress=False)


def test_too_few_steps_are_kept_and_more_go_on(tmp_path):
    start, end, file = one_at(2, 0, 0), one_at(0, 2, 0), tmp_path / "path.xyz"
    with pytest.raises(RuntimeError, match=r"largest force on the band of 5 images is \S+ eV/A after 3 steps, not 0.1"):
        search(start, end, ring(), output=file, max_steps=3)
    assert not file.exists()
    counting = Surface(ring())
    find_path(start, end, counting, FINE, file, progress=False)
    fresh = Surface(ring())
    find_path(start, end, fresh, FINE, tmp_path / "fresh.xyz", progress=False)
    assert counting.calls < fresh.calls


def test_a_state_of_another_search_is_refused(tmp_path):
    file = tmp_path / "path.xyz"
    with pytest.raises(RuntimeError, match="after 3 steps"):
        search(one_at(2, 0, 0), one_at(0, 2, 0), ring(), output=file, max_steps=3)
    with pytest.raises(ValueError, match=r"path\.state\.npz belongs to a search with end"):
        search(one_at(2, 0, 0), one_at(0, 2.1, 0), ring(), output=file)


def test_chain_of_hops_shares_its_minima(tmp_path):
    frames = [one_at(0, 0, 0), one_at(2.2, 0, 0), one_at(3.9, 0, 0)]
    found = find_chain(frames, Surface(wells()), FINE, tmp_path / "chain.xyz", progress=False, label="wells")
    assert [f.profile.forward for f in found] == pytest.approx([0.2, 0.2], abs=1e-4)
    np.testing.assert_array_equal(found[0].images[-1].positions, found[1].images[0].positions)
    whole = paths.joined([f.profile for f in found])
    assert whole.coordinate[-1] == pytest.approx(sum(f.profile.coordinate[-1] for f in found))
    assert len(whole.energies) == 13
    assert whole.minima == [6]
    assert sorted(f.name for f in tmp_path.glob("*.xyz")) == ["chain-1.xyz", "chain-2.xyz"]


def test_refusals(tmp_path):
    well, start, end = double_well(), one_at(-1, 0, 0), one_at(1, 0, 0)
    with pytest.raises(ValueError, match="images is 2; a band needs 3 or more"):
        NEBSettings(images=2)
    with pytest.raises(ValueError, match="fmax is 0; it must be positive"):
        NEBSettings(fmax=0)
    with pytest.raises(ValueError, match=r"path\.npz does not end in \.xyz"):
        search(start, end, well, output=tmp_path / "path.npz")
    with pytest.raises(ValueError, match=r"both ends relax into the same minimum, no atom is more than 0\.\d\d A"):
        search(start, one_at(-0.6, 0, 0), well)
    with pytest.raises(ValueError, match="1 frame is no path"):
        find_chain([start], Surface(well))
    with pytest.raises(RuntimeError, match=r"still changes by more than 1e-12 eV with 3 images: 0\.\d+ \(3\) eV;"):
        search(start, end, double_well(tilt=0.2), NEBSettings(images=3, tolerance=1e-12, most_images=4))


def test_most_images_may_be_raised_later(tmp_path):
    ends_of = one_at(2.0, 0, 0), one_at(0, 2.0, 0)
    tight = dict(images=3, fmax=0.01, tolerance=0.005)
    with pytest.raises(RuntimeError, match="still changes"):
        search(*ends_of, ring(), NEBSettings(**tight, most_images=4), output=tmp_path / "path.xyz")
    found = search(*ends_of, ring(), NEBSettings(**tight), output=tmp_path / "path.xyz")
    assert [n for n, *_ in found.history] == [3, 5]


def two(a, b, symbols="Li2"):
    return Atoms(symbols, CENTRE + np.array([a, b], float), cell=[12.0] * 3, pbc=True)


def test_ends_that_cannot_be_joined_are_refused():
    start, end = two((0, 0, 0), (2, 0, 0)), two((0, 0, 0), (4, 0, 0))
    ends.check_ends(start, end)
    with pytest.raises(ValueError, match="atoms of the ends are Li2 and LiNa: they must be the same, in the"):
        ends.check_ends(start, two((0, 0, 0), (4, 0, 0), "LiNa"))
    free, longer = end.copy(), end.copy()
    free.pbc = False
    longer.set_cell([12, 12, 12.1])
    with pytest.raises(ValueError, match=r"pbc of the ends are \[True, True, True\] and \[False, False, False\]"):
        ends.check_ends(start, free)
    with pytest.raises(ValueError, match="the ends have different cells"):
        ends.check_ends(start, longer)
    with pytest.raises(ValueError, match=r"atoms 0 and 1 of the end are closer than 1\.0 A"):
        ends.check_ends(start, two((0, 0, 0), (0.5, 0, 0)))
    wrapped = two((0, 0, 0), (-9.0, 0, 0))
    with pytest.raises(ValueError, match=r"atom 1 goes 11\.00 A, but an image of its end is only 1\.00 A away"):
        ends.check_ends(start, wrapped)
    np.testing.assert_allclose(ends.follow(start, wrapped).positions, start.positions + [[0.0], [1.0]] * np.eye(3)[0])


def test_exchanged_atoms_are_refused_unless_meant():
    start, swapped = two((0, 0, 0), (2, 0, 0)), two((2, 0, 0), (0, 0.4, 0))
    with pytest.raises(ValueError, match="atoms 0, 1 take each other's places between the ends"):
        ends.check_ends(start, swapped)
    ends.check_ends(start, swapped, exchange=True)
    back = ends.follow(start, swapped)
    np.testing.assert_allclose(back.positions, start.positions + [[0.4], [0.0]] * np.eye(3)[1])
    ends.check_ends(start, back)
    with pytest.raises(ValueError, match="they must be the same atoms"):
        ends.follow(start, two((0, 0, 0), (4, 0, 0), "LiNa"))


def test_two_ions_that_knock_each_other_on():
    """Both go round the ring by a quarter, the one where the other was, at twice the barrier of one."""
    start, end = (two(a, b) for a, b in (((2, 0, 0), (0, 2, 0)), ((0, 2, 0), (-2, 0, 0))))
    found = search(start, end, at_right_angles(ring()), exchange=True)
    assert found.profile.forward == pytest.approx(0.5, abs=2e-4)
    assert found.profile.coordinate[-1] == pytest.approx(2**0.5 * np.pi, rel=0.02)


@pytest.fixture
def vacancy(monkeypatch, tmp_path):
    """The crystal less one Li, before and after its neighbour has moved there; a model that is a cage of springs."""
    crystal = structures.crystal()
    distances = crystal.get_all_distances(mic=True, vector=True)
    li = np.flatnonzero(crystal.symbols == "Li")
    length = np.linalg.norm(distances, axis=2)[np.ix_(li, li)] + 99 * np.eye(len(li))
    a, b = li[list(np.unravel_index(length.argmin(), length.shape))]
    moved = crystal.copy()
    moved.positions[b] += distances[b, a]
    before, after = (atoms[[k for k in range(42) if k != a]] for atoms in (crystal, moved))
    for name in ("model.npz", "model.json"):
        (tmp_path / name).write_text("a stand-in")
    monkeypatch.setattr(barriers, "load_model", lambda path: Cage(before))
    return before, after


def test_command_on_the_crystal(vacancy, tmp_path, capsys):
    """A hop into a vacancy: named images with energies and forces, ready for labels, and a record beside them."""
    before, after = vacancy
    store.write_frames(tmp_path / "ends.xyz", [before, after])
    command = ["neb", *(str(tmp_path / name) for name in ("model.npz", "ends.xyz", "path.xyz"))]
    assert main([*command, "--images", "3", "--fmax", "0.1", "--max-steps", "2"]) == 2
    assert "go on with more steps" in capsys.readouterr().err
    assert main([*command, "--images", "3", "--fmax", "0.1"]) == 0
    assert "model: forward" in capsys.readouterr().out
    found = paths.load_path(tmp_path / "path.xyz")
    assert [a.info["name"] for a in found.images] == [f"path-{k:02d}" for k in range(5)]
    assert found.profile.forward > 0.01
    again = paths.evaluate(found, Cage(before), "again")
    np.testing.assert_allclose(again.energies, found.profile.energies, atol=1e-6)
    record = store.read_record(tmp_path / "path.json")
    assert store.file_hash(tmp_path / "model.npz") in record["made_by"]["inputs"].values()
    assert [f.name for f in tmp_path.glob("*.state*")] == []


def test_command_from_a_table_of_hops(vacancy, monkeypatch, tmp_path, capsys):
    """What `hops` finds in a trajectory, `neb` takes up by its number; here in a cell repeated along b."""
    before, after = vacancy
    monkeypatch.setattr(barriers, "load_model", lambda path: Cage(before * (1, 2, 1)))
    rng, share = np.random.default_rng(0), np.clip((np.arange(60) - 28) / 4, 0, 1)[:, None, None]
    positions = before.positions + share * (after.positions - before.positions)
    _write_trajectory(tmp_path / "run.npz", before, positions + 0.05 * rng.normal(size=positions.shape))
    files = [str(tmp_path / name) for name in ("run.npz", "hops.json", "model.npz", "path.xyz")]
    assert main(["hops", *files[:2]]) == 0
    command = ["neb", files[2], files[1], files[3], "--images", "3", "--fmax", "0.2", "--repeat", "1", "2", "1"]
    assert main([*command, "--trajectory", files[0], "--hop", "0"]) == 0
    found = paths.load_path(files[3])
    assert len(found.images[0]) == 82
    moved = np.linalg.norm(found.images[-1].positions - found.images[0].positions, axis=1)
    assert (moved > 1.5).sum() == 1
    capsys.readouterr()
    for options, message in (([], "a table of hops needs --trajectory"),
                             (["--trajectory", files[0], "--hop", "7"], "has hops 0 to 0"),
                             (["--trajectory", files[2], "--hop", "0"], "was not made from")):
        assert main([*command, *options]) == 2
        assert message in capsys.readouterr().err


def _write_trajectory(file, atoms, positions):
    moved, zero = np.round((positions - positions[0]) * 1e4).astype(np.int32), np.zeros(len(positions))
    store.write_arrays(file, {"settings": {"steps": len(positions) - 1, "timestep": 50.0, "every": 1}, "stopped": ""},
                       start=positions[0], displacement=np.diff(moved, axis=0, prepend=moved[:1]),
                       numbers=atoms.numbers, cell=atoms.cell.array, step=np.arange(len(positions)),
                       potential=zero, kinetic=zero, exchanged=zero)
