"""Paths as they are stored, labelled by others, joined and drawn."""
import sys
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator

mpl.use("Agg")
import matplotlib.pyplot as plt

from esgap import figures, hops, paths, sites
from esgap.__main__ import main
from esgap.barriers import NEBSettings, find_path
from path_cases import Surface, one_at, ring


def reference():
    """In DFT's place: the ring with a barrier twice as high."""
    return Surface(ring(height=0.5))


@pytest.fixture(scope="module")
def path():
    return find_path(one_at(2.0, 0, 0), one_at(0, 2.0, 0), Surface(ring()), NEBSettings(5, fmax=0.005), label="GAP",
                     progress=False)


@pytest.fixture
def ax():
    fig, ax = plt.subplots()
    yield ax
    plt.close(fig)


def through(energies, slopes=None, label="GAP", path_of="GAP"):
    e = np.array(energies, float)
    return paths.Profile(np.arange(len(e)) * 1.0, e, np.zeros(len(e)) if slopes is None else np.array(slopes), label,
                         path_of)


def test_barriers_and_valleys_of_a_profile():
    p = through([-10.0, -9.7, -9.9, -9.895, -9.5, -9.8])
    assert (p.forward, p.reverse, p.highest) == (pytest.approx(0.5), pytest.approx(0.3), 4)
    assert p.minima == [2]
    assert "GAP: forward 0.500 eV, reverse 0.300 eV, highest image 4 of 0 to 5, 5.00 A; minimum at image 2" in str(p)
    assert through([0.0, 0.3, 0.295, 0.4, 0.0]).minima == []  # 5 meV are no valley


def test_the_curve_passes_through_images_and_has_their_slopes():
    x = np.linspace(0, 3, 4)
    p = through(x**3 - 2 * x**2, 3 * x**2 - 4 * x)
    s, e = p.curve(61)
    np.testing.assert_allclose(e, s**3 - 2 * s**2, atol=1e-12)  # a cubic is its own curve


def test_slopes_are_those_of_the_energy_along_the_path(path):
    """For a path that runs down the valley dE/ds is the derivative of h sin^2(2 phi), s = R phi."""
    p = path.profile
    np.testing.assert_allclose(p.slopes, 0.25 * np.sin(2 * p.coordinate), atol=0.03)


def test_length_is_that_of_all_atoms():
    a, b = one_at(0, 0, 0) + one_at(1, 0, 0), one_at(0, 3.0, 0) + one_at(1, 0, 4.0)
    np.testing.assert_allclose(paths.reaction_coordinate([a, b, a]), [0, 5, 10])


def test_other_potential_on_the_same_images(path):
    other = paths.evaluate(path, reference(), "ES-GAP")
    assert other.forward == pytest.approx(0.5, abs=1e-4)
    np.testing.assert_array_equal(other.coordinate, path.profile.coordinate)
    assert "ES-GAP on the path of GAP: forward 0.500 eV" in str(other)


def test_a_path_file_comes_back_and_is_labelled_by_the_label_command(path, tmp_path, monkeypatch):
    """The images are named frames: `python -m esgap label` takes the file as it is."""
    named = [paths.labelled_by(Surface(ring()), a, f"hop-{k}", "GAP") for k, a in enumerate(path.images)]
    path = paths.Path(tuple(named), path.profile, path.fmax, True, path.history, path.settings)
    paths.write_path(tmp_path / "hop.xyz", path)
    loaded = paths.load_path(tmp_path / "hop.xyz")
    for name in ("coordinate", "energies", "slopes"):
        np.testing.assert_allclose(getattr(loaded.profile, name), getattr(path.profile, name), atol=1e-6)
    assert (loaded.fmax, loaded.climbed, loaded.history) == (path.fmax, True, path.history)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "stand_in", SimpleNamespace(make=reference))
    assert main(["label", str(tmp_path / "hop.xyz"), str(tmp_path / "dft.xyz"), "--calculator", "stand_in:make",
                 "--workers", "0"]) == 0
    labels = paths.read_frames(tmp_path / "dft.xyz")
    dft = paths.labels_on(loaded, labels[::-1])
    assert dft.forward == pytest.approx(0.5, abs=1e-4)
    assert (dft.label, dft.path_of) == ("DFT", "GAP")
    with pytest.raises(ValueError, match=r"no DFT label for hop-0, hop-1: label the path file with"):
        paths.labels_on(loaded, labels[2:])
    labels[3].positions += 0.1
    with pytest.raises(ValueError, match=r"no DFT label for hop-3: .* moved since must be labelled again"):
        paths.labels_on(loaded, labels)


def test_files_that_do_not_belong_together_are_refused(path, tmp_path):
    paths.write_path(tmp_path / "a.xyz", path)
    text = (tmp_path / "a.xyz").read_text()
    (tmp_path / "a.xyz").write_text(text.replace("GAP", "XXX"))
    with pytest.raises(ValueError, match=r"a\.json describes another file than .*a\.xyz: restore both"):
        paths.load_path(tmp_path / "a.xyz")
    (tmp_path / "a.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no file .*a\.json"):
        paths.load_path(tmp_path / "a.xyz")


def test_joined_segments_are_one_profile():
    whole = paths.joined([through([0, 0.3, 0.1]), through([0.1, 0.5, 0.2])])
    np.testing.assert_allclose(whole.energies, [0, 0.3, 0.1, 0.5, 0.2])
    np.testing.assert_allclose(whole.coordinate, [0, 1, 2, 3, 4])
    with pytest.raises(ValueError, match=r"a segment ends at 0\.10000 eV and the next begins at 0\.30000 eV"):
        paths.joined([through([0, 0.3, 0.1]), through([0.3, 0.5, 0.2])])
    with pytest.raises(ValueError, match="segments belong to ES-GAP on GAP, GAP on GAP: join those of one"):
        paths.joined([through([0, 0.3, 0.1]), through([0.1, 0.5, 0.2], label="ES-GAP")])


def test_images_that_coincide_are_refused():
    a = one_at(0, 0, 0)
    a.calc = SinglePointCalculator(a, energy=0.0, forces=np.zeros((1, 3)))
    with pytest.raises(ValueError, match="images 0 and 1 are the same: give a path"):
        paths.profile([a, a], "GAP", "GAP")


def test_energies_are_drawn_as_they_are(path, ax):
    profiles = [path.profile, paths.evaluate(path, Surface(ring(0.3)), "ES-GAP"),
                paths.evaluate(path, reference(), "DFT")]
    figures.energy_paths(profiles, ax)
    points = {line.get_label(): line for line in ax.get_lines() if not line.get_label().startswith("_")}
    assert list(points) == ["GAP", "ES-GAP, on the path of GAP", "DFT, on the path of GAP"]
    for p, line in zip(profiles, points.values(), strict=True):
        np.testing.assert_allclose(line.get_xydata(), np.column_stack([p.coordinate, p.relative]))
    curves = [line.get_linestyle() for line in ax.get_lines() if len(line.get_xdata()) > 50]
    assert curves == ["-", "--"]  # DFT has none
    assert "Å" in ax.get_xlabel()


def test_hops_are_drawn_as_arrows(ax):
    cell = 8.0 * np.eye(3)
    found = sites.Sites(np.array([[1.0, 1, 1], [3, 1, 2], [5, 5, 5]]), np.array([0.9, 0.6, 0.5]), cell)
    moves = [hops.Hop(0, a, b, (0, 0, 0), 0, 1, 0.0, 1.0, found.displacement(a, b, (0, 0, 0)), None)
             for a, b in ((0, 1), (1, 0), (2, 1))]
    figures.hop_arrows(hops.Hops(tuple(moves), found, hops.HopSettings(), 1.0, 0, 1.0, 1), ax)
    tips = sorted(tuple(map(float, text.xy)) for text in ax.texts)
    assert tips == [(3.0, 2.0), (5.0, 5.0)]
    assert sorted(text.arrowprops["arrowstyle"] for text in ax.texts) == ["<-", "<->"]
    np.testing.assert_allclose(ax.collections[0].get_offsets(), found.positions[:, [0, 2]])
