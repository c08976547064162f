"""Two models that relax into different minima: found, given common ones, and compared only where they agree."""
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.data import atomic_masses

from esgap import hop_differences, hop_pairs, hop_paths, hop_summary, hop_view
from esgap.store import read_frames, read_record
from path_cases import CENTRE, Surface, one_at
from test_hop_paths import HEIGHT, ends, find, prepared

LOWER = {"gap": 0, "es-gap": 1}  # valley into which ends between the two fall


def forked(height, lower):
    """Two valleys along x, at y = 0 and 1.6 A, with minima at x = -1 and 1 A; a ridge between them at 0.6 or 1.0 A."""
    def function(r):
        x, y, z = (r - CENTRE).T
        valleys = np.array([2 * y**2 + 0.64 * lower, 2 * (y - 1.6) ** 2 + 0.64 * (1 - lower)])
        value = height * (x**2 - 1) ** 2 + valleys.min(0) + 2 * z**2
        return value, np.column_stack([4 * height * x * (x**2 - 1), 4 * (y - 1.6 * valleys.argmin(0)), 4 * z])
    return function


@pytest.fixture
def folder(tmp_path, monkeypatch):
    return prepared(tmp_path, monkeypatch, lambda name: forked(HEIGHT[name], LOWER[name]), [
        *ends("hop-0", one_at(-1.05, 0.8, 0), one_at(0.95, 0.8, 0)),
        *ends("hop-1", one_at(-1.05, 0.1, 0), one_at(0.95, 0.1, 0)),
        *ends("hop-2", one_at(1.1, 0.1, 0), one_at(0.9, 0, 0))])


def test_each_begins_from_the_other_where_they_differ(folder):
    assert find(folder) == 0
    before = hop_paths.load_paths(folder)
    apart = {h.name: hop_pairs.agreement(h) for h in before.hops}
    assert apart["hop-0"].start.ions == pytest.approx(1.6, abs=0.02)
    assert apart["hop-0"].ways == apart["hop-0"].same_ends == ()
    assert apart["hop-1"].ways == ("forward", "reverse")
    assert [(c.hop.name, c.way) for c in hop_pairs.comparisons(before)] == [("hop-1", way) for way in hop_pairs.WAYS]

    assert find(folder, "--from-other") == 0
    files = {f.name for f in folder.glob("*.xyz")}
    assert {"hop-0-gap-from-es-gap.xyz", "hop-0-es-gap-from-gap.xyz"} <= files
    assert not any("hop-1" in name and "from" in name for name in files)
    found = hop_paths.load_paths(folder)
    assert [(h.name, h.begun_from) for h in found.from_other] == [("hop-0", "GAP"), ("hop-0", "ES-GAP")]
    assert [h.title for h in found.from_other] == ["hop-0, both from GAP", "hop-0, both from ES-GAP"]
    for h in found.from_other:
        assert hop_pairs.agreement(h).ways == ("forward", "reverse")
        assert h.barrier("GAP", "GAP") == pytest.approx(0.2, abs=2e-3)
        assert h.barrier("ES-GAP", "ES-GAP") == pytest.approx(0.3, abs=2e-3)
        assert h.barrier("ES-GAP", "GAP") == pytest.approx(0.3, abs=2e-3)
    compared = hop_pairs.comparisons(found)
    assert {(c.hop.name, c.way) for c in compared} == {(f"hop-{k}", way) for k in (0, 1) for way in hop_pairs.WAYS}
    assert [c.difference for c in compared] == pytest.approx([0.1] * 4, abs=2e-3)
    assert compared[0].draws is None
    assert "| hop-0 | 1.60 (0.00) | 1.60 (0.00) | 1.60 (0.00) | nothing | – |" in hop_summary.agreement_table(found)
    assert "| hop-0, both from GAP | 0.00 (0.00) |" in hop_summary.agreement_table(found)
    assert "hop-0, both from GAP (forward)" in hop_summary.summary(found)
    assert "if no atom is 0.3 Å apart; those that are have atoms at most 0." in hop_summary.minima_text(found)
    assert "others 1.60 Å or more. Barriers in common: " in hop_summary.minima_text(found)
    assert hop_summary.chosen(found, "lowest") is hop_pairs.leading(found)
    assert hop_summary.chosen(found, "hop-0").begun_from in ("GAP", "ES-GAP")
    assert hop_summary.chosen(before, "hop-0").begun_from is None
    assert hop_pairs.leading(replace(found, hops=(), from_other=())) is None
    names = [a.info["name"] for a in read_frames(folder / "images.xyz")]
    assert len(set(names)) == len(names) == 6 * 7
    assert found.failed == before.failed  # those of hop-2, not searched for again


def test_searches_from_the_other_go_on_and_stay(folder, monkeypatch):
    assert find(folder) == 0
    whole, calls = hop_paths.load_model, 24
    monkeypatch.setattr(hop_paths, "load_model", lambda path: Surface(whole(path).function, fail_at=calls))
    while (status := find(folder, "--from-other")) == 130:
        calls += 2  # what is finished is evaluated with the other model again
    assert status == 0
    assert calls > 26
    record, made = read_record(folder / "paths.json"), (folder / "hop-0-gap-from-es-gap.xyz").stat().st_mtime_ns
    monkeypatch.setattr(hop_paths, "load_model", whole)
    assert find(folder) == 0  # without the option what is there stays
    assert read_record(folder / "paths.json")["profiles"] == record["profiles"]
    assert (folder / "hop-0-gap-from-es-gap.xyz").stat().st_mtime_ns == made
    assert find(folder, "--replace") == 0
    assert not list(folder.glob("*from*"))


def test_how_far_two_structures_are_apart_without_their_drift():
    """Across a boundary; the framework's centre of mass rests, whatever lithium does."""
    a = Atoms("Li2PS", [[0.1, 5, 5], [3, 3, 3], [6, 6, 6], [8, 6, 6]], cell=[10.0] * 3, pbc=True)
    b = a.copy()
    mass = atomic_masses[a.numbers]
    b.positions[0, 0] += 9.5  # to the nearest image: 0.5 A back
    b.positions[2, 1] += 0.1
    b.positions[3, 1] -= 0.1 * mass[2] / mass[3]
    b.positions += [0.7, -0.2, 11.0]
    found = hop_pairs.apart(a, b)
    assert (found.ions, found.framework) == (pytest.approx(0.5), pytest.approx(0.1))
    assert not found.same
    assert str(found) == "0.50 (0.10)"
    b.positions[0, 0] += 0.3
    assert hop_pairs.apart(a, b).same


def test_few_hops_and_one_fit_leave_a_wide_error():
    """Student's t for the scatter; the error of the fit, the same for all hops, is not averaged away."""
    two = hop_differences.mean_over_hops({"a": [(0.01, None), (0.03, None)], "b": [(0.04, None)]})
    assert (two.value, two.n) == (pytest.approx(0.03), 2)
    assert two.error == pytest.approx(0.01 * 13.97 / 2, rel=0.01)  # t of 97.7 % with one degree of freedom
    many = hop_differences.mean_over_hops({k: [(0.01 * (-1) ** k, None)] for k in range(400)})
    assert many.error == pytest.approx(0.01 / 20, rel=0.01)
    draws = np.array([-0.05, 0.0, 0.05])
    same_fit = hop_differences.mean_over_hops({k: [(0.01 + 1e-5 * k, draws)] for k in range(5)})
    assert same_fit.error == pytest.approx(0.05)
    assert str(hop_differences.mean_over_hops({"a": [(0.01, draws)]})) == "+10 ± 50 meV (1 hop)"
    assert str(hop_differences.mean_over_hops({"a": [(0.01, None)]})) == "+10 meV (1 hop, error unknown)"
    assert hop_differences.mean_over_hops({}) is None


def test_both_paths_over_one_framework(folder):
    assert find(folder) == 0
    hop = hop_paths.load_paths(folder).hops[0]
    view = hop_view.overlaid(hop, n_frames=9)
    assert len(view.frames) == 9
    assert view.tints == {0: "#0072b2", 1: "#cc79a7"}
    x = np.array([a.positions for a in view.frames]) - CENTRE  # (9, 2, 3): the ion of GAP, that of ES-GAP
    np.testing.assert_allclose(x[[0, -1], :, 0], [[-1, -1], [1, 1]], atol=0.01)
    np.testing.assert_allclose(x[:, 0, 1], 0.0, atol=0.01)
    np.testing.assert_allclose(x[:, 1, 1], 1.6, atol=0.01)
    assert view.page.count('"#cc79a7"') >= hop_view.STOPS + 1
    assert "0 with GAP, 0 with ES-GAP" in view.caption


def test_a_path_found_now_is_that_which_is_stored(folder, monkeypatch):
    assert find(folder) == 0
    hop, surface = hop_paths.load_paths(folder).hops[0], hop_paths.load_model
    monkeypatch.setattr(hop_paths, "load_model", lambda name, dtype: surface(name + ".npz"))
    found = hop_paths.found_now(hop, "ES-GAP", images=7, fmax=0.02)
    assert len(found.images) == 9
    assert found.profile.forward == pytest.approx(hop.barrier("ES-GAP", "ES-GAP"), abs=1e-3)
    assert found.profile.path_of == "now"


def test_hops_and_runs_that_are_not_there_are_refused():
    assert hop_summary.numbered("abc", 2, "which") == "c"
    for k in (3, -1):
        with pytest.raises(ValueError, match=f"which is {k}; there are which = 0 to 2"):
            hop_summary.numbered("abc", k, "which")
    nothing = hop_paths.AllPaths((), (), None, {}, (), False)
    for name in ("hop-9", "lowest"):
        with pytest.raises(ValueError, match=f"hop is '{name}'; there are paths of both models over .* of none"):
            hop_summary.chosen(nothing, name)
