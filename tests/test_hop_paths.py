"""Hops become paths of two models with known barriers; what fails is told; DFT labels are found."""
from dataclasses import replace

import numpy as np
import pytest

from esgap import found_mobility, hop_choice, hop_pairs, hop_paths, hop_summary, hops, verdicts
from esgap.__main__ import main
from esgap.claims import claim
from esgap.store import labelled, read_frames, read_record, write_frames, write_record
from path_cases import CENTRE, Surface, double_well, one_at
from test_hops import trajectory

HEIGHT = {"gap": 0.2, "es-gap": 0.3}  # eV
LABELS = ("GAP", "ES-GAP")


def ends(name, start, end):
    for which, atoms in (("start", start), ("end", end)):
        atoms.info = {"name": f"{name}-{which}", "ion": 0, "sampled_by": "run", "length": 2.0,
                      "along": np.array([2.0, 0, 0]), "times": 3, "moved_with": "3+5"}
        yield atoms


def prepared(tmp_path, monkeypatch, surface, ends_of_hops):
    """A folder with ends, for models that are surfaces: surface(name) of each."""
    for name in HEIGHT:
        (tmp_path / f"{name}.npz").write_text(name)
        write_record(tmp_path / f"{name}.json", {"generation": 3})
    monkeypatch.setattr(hop_paths, "load_model", lambda path: Surface(surface(str(path).split("/")[-1][:-4])))
    paths = tmp_path / "paths"
    paths.mkdir()
    write_frames(paths / "ends.xyz", ends_of_hops)
    return paths


@pytest.fixture
def folder(tmp_path, monkeypatch):
    return prepared(tmp_path, monkeypatch, lambda name: double_well(HEIGHT[name]), [
        *ends("hop-0", one_at(-1.1, 0, 0), one_at(0.9, 0.1, 0)),
        *ends("hop-1", one_at(-0.9, 0.1, 0), one_at(1.1, 0, 0)),
        *ends("hop-2", one_at(1.1, 0.1, 0), one_at(0.9, 0, 0))])


def find(folder, *options):
    return main(["paths", "--models", str(folder.parent / "gap.npz"), str(folder.parent / "es-gap.npz"), "--folder",
                 str(folder), "--images", "5", *options])


def test_barriers_of_both_models_on_both_paths(folder, capsys):
    assert find(folder) == 0
    found = hop_paths.load_paths(folder)
    pairs = hop_pairs.both_paths(found)
    assert [h.name for h in pairs] == ["hop-0", "hop-1"]
    for h in pairs:
        for path_of in ("GAP", "ES-GAP"):
            assert h.barrier("GAP", path_of) == pytest.approx(0.2, abs=2e-3)
            assert h.barrier("ES-GAP", path_of, "reverse") == pytest.approx(0.3, abs=2e-3)
        assert h.displaced("GAP") == {}
        assert h.moved_with == (3, 5)
    assert {(name, model) for name, model, _ in found.failed} == {("hop-2", "GAP"), ("hop-2", "ES-GAP")}
    assert "same minimum" in found.failed[0][2]
    assert (found.generation, found.has_dft, found.sampled_by) == (3, False, ("run",))
    assert "hop-2, GAP: both ends" in capsys.readouterr().out
    assert hop_summary.valleys_text(found) == "No path passes a valley on its way."
    wavy = replace(found.hops[0].profiles["GAP", "GAP"], energies=np.array([0, 0.2, 0.1, 0.2, 0.1, 0.05, 0]))
    first = replace(found.hops[0], profiles={**found.hops[0].profiles, ("GAP", "GAP"): wavy})
    assert "1 of 2 paths between the ends of MD pass a valley deeper than 10 meV on their way (hop-0 (GAP))" in (
        hop_summary.valleys_text(replace(found, hops=(first,))))
    text = hop_summary.summary(found)
    assert "2 hops with paths of both" in text
    assert "Of barriers in common, hop-0 (forward), hop-0 (reverse), hop-1 (forward), hop-1 (reverse), the" in text
    assert "less GAP is +100 ± 0 meV (2 hops). On the same images, whosever minima, ES-GAP less GAP is +100 ±" in text
    assert "There is no barrier of DFT yet." in text
    assert hop_summary.dft_text(found) == "DFT on the images has not been computed yet."
    table = hop_summary.barrier_table(pairs)
    assert table.count("\n") == 1 + 2 * 4
    assert "| hop-0 | ES-GAP | 2.0 | GAP | 0.200 | 0.200 | 0.000 |" in table.replace("-0.000", "0.000")


def test_bars_are_the_scaled_spread_of_a_committee_above_the_first_image(folder, monkeypatch):
    """Two members that differ by 0.1 eV at the top of the barrier and by a constant everywhere."""
    class Two:
        def energies(self, images):
            x = np.array([a.positions[0, 0] for a in images]) - CENTRE[0]
            return np.array([1.0 - 0.05 * (1 - x**2), 5.0 + 0.05 * (1 - x**2)])

        def __len__(self):
            return 2

    monkeypatch.setattr(hop_paths, "stored_committees", lambda models: {"GAP": (Two(), 3.0)})
    assert find(folder) == 0
    hop = hop_paths.load_paths(folder).hops[0]
    for path_of in ("GAP", "ES-GAP"):
        p = hop.profiles["GAP", path_of]
        assert p.bars[0] == 0
        assert p.forward_error == pytest.approx(3 * 0.1 / np.sqrt(2), rel=0.05)  # ends not quite at rest
        assert p.error("reverse") == pytest.approx(p.forward_error, rel=0.1)  # a symmetrical well
        np.testing.assert_allclose(p.draws.sum(0), 0, atol=1e-12)
        assert hop.profiles["ES-GAP", path_of].bars is None
        assert np.isnan(hop.profiles["ES-GAP", path_of].error("reverse"))
    assert "0.200 ± 0.2" in hop_summary.barrier_table([hop])
    assert read_record(folder / "paths.json")["committees"] == {"GAP": {"members": 2, "scale": 3.0}}


def test_what_is_finished_is_read_and_other_models_are_refused(folder, capsys):
    assert find(folder) == 0
    before = (folder / "hop-0-gap.xyz").stat().st_mtime_ns
    record = read_record(folder / "paths.json")["profiles"]
    assert find(folder) == 0
    assert (folder / "hop-0-gap.xyz").stat().st_mtime_ns == before
    assert read_record(folder / "paths.json")["profiles"] == record
    (folder.parent / "gap.npz").write_text("a later fit")
    assert find(folder) == 2
    assert "made_from" in capsys.readouterr().err
    assert find(folder, "--replace") == 0
    (folder / "ends.xyz").unlink()
    assert find(folder) == 2
    assert "give --trajectory" in capsys.readouterr().err


def test_dft_labels_join_in_and_decide(folder, monkeypatch):
    assert find(folder) == 0
    dft = Surface(double_well(0.25))
    frames = [labelled(a, dft.get_property("energy", a), dft.get_property("forces", a), name=a.info["name"])
              for a in read_frames(folder / "images.xyz")]
    write_frames(folder / "dft.xyz", frames)
    monkeypatch.setattr(hop_paths, "DFT", str(folder / "dft.xyz"))
    found = hop_paths.load_paths(folder)
    assert found.has_dft
    assert found.hops[0].barrier("DFT", "GAP") == pytest.approx(0.25, abs=2e-3)
    assert ("There, DFT less GAP is +50 ± 0 meV (2 hops) and DFT less ES-GAP is -50 ± 0 meV (2 hops)."
            in hop_summary.summary(found))
    assert hop_summary.dft_text(found) == "With DFT, too, every way back leads over more than 50 meV."
    low = replace(found.hops[0].profiles["DFT", "GAP"], energies=np.array([0, 0.1, 0.2, 0.3, 0.2, 0.2, 0.27]))
    first = replace(found.hops[0], profiles={**found.hops[0].profiles, ("DFT", "GAP"): low})
    text = hop_summary.dft_text(replace(found, hops=(first,)))
    assert "the way back leads over less than 50 meV on hop-0, path of GAP (0.030 eV): there" in text
    some = {key: p for key, p in found.hops[1].profiles.items() if key != ("DFT", "ES-GAP")}
    assert hop_summary.dft_text(replace(found, hops=(found.hops[0], replace(found.hops[1], profiles=some)))).endswith(
        "50 meV. DFT has not been computed on hop-1 (path of ES-GAP).")
    assert hop_summary.one_way_text(found) == "There is no such hop."
    fall = {"DFT": 0.30, "GAP": 0.25, "ES-GAP": 0.35}
    down = replace(found.hops[1], profiles={key: replace(p, energies=fall[key[0]] * np.linspace(1, 0, 7))
                                            for key, p in found.hops[1].profiles.items()})
    assert hop_summary.one_way_text(replace(found, hops=(found.hops[0], down))) == (
        "These are hop-1. With DFT the highest image is an end, too, on 2 of 2 of their paths. What the end lies above "
        "the start differs from DFT by +50 meV (1 hop, error unknown) with GAP and -50 meV (1 hop, error unknown) with "
        "ES-GAP.")
    monkeypatch.setattr(found_mobility, "_paths", lambda: found)
    order = found_mobility.barrier_order()
    assert order.claim == claim("barrier-order")
    assert [holds for _, holds in order.statements] == [verdicts.HOLDS] * 4
    assert order.rests_on == ("runs/paths", hop_paths.DFT)
    assert found_mobility.barrier_transfer().verdict == "reproduced"
    one = replace(found, hops=found.hops[:1])  # one hop, no committee: nothing tells an error
    monkeypatch.setattr(found_mobility, "_paths", lambda: one)
    assert found_mobility.barrier_order().verdict == found_mobility.barrier_transfer().verdict == "not testable"
    assert found_mobility.barrier_order().numbers == ()
    monkeypatch.setattr(found_mobility, "_paths", lambda: replace(found, hops=()))
    assert found_mobility.barrier_order().verdict == found_mobility.barrier_transfer().verdict == "not yet tested"


def test_consecutive_hops_become_one_path_if_they_meet(folder):
    assert find(folder) == 0
    first = hop_paths.load_paths(folder).hops[0]
    back = {key: replace(p, energies=p.energies[::-1], slopes=-p.slopes[::-1],
                         coordinate=p.coordinate[-1] - p.coordinate[::-1]) for key, p in first.profiles.items()}
    second = replace(first, name="hop-7", after="hop-0", profiles=back,
                     images={m: images[::-1] for m, images in first.images.items()})
    first.profiles["DFT", "GAP"] = replace(first.profiles["GAP", "GAP"], label="DFT")
    everything = hop_paths.AllPaths((first, second), (), 3, {}, (), True)
    (joined,) = hop_pairs.traversals(everything)
    assert joined.name == "hop-0 and hop-7"
    assert set(joined.profiles) == {(a, b) for a in LABELS for b in LABELS} | {("DFT", "GAP")}
    p, n = joined.profiles["ES-GAP", "GAP"], len(first.images["GAP"])
    assert len(p.energies) == len(joined.images["GAP"]) == 2 * n - 1
    assert (np.diff(p.coordinate) > 0).all()
    np.testing.assert_allclose(p.relative, p.relative[::-1])
    assert p.bars is None
    assert p.relative.max() == pytest.approx(0.3, abs=2e-3)
    assert joined.profiles["DFT", "GAP"].coordinate[-1] == pytest.approx(p.coordinate[-1] / 2)
    for h in (first, second):  # errors of the first end add to those behind it, at most
        h.profiles["GAP", "GAP"] = replace(h.profiles["GAP", "GAP"], bars=np.linspace(0, 0.06, n))
    bars = hop_pairs.traversals(everything)[0].profiles["GAP", "GAP"].bars
    np.testing.assert_allclose(bars, np.linspace(0, 0.12, 2 * n - 1))
    text = hop_summary.through_text(replace(everything, consecutive=(("hop-0", "hop-7"), ("hop-8", "hop-9")), failed=(
        ("hop-9", "GAP", "the largest force is 0.7 eV/A after 400 steps, not 0.02: go on"), ("hop-5", "GAP", "same"))))
    assert "hop-0 and hop-7 carry the ion 0.00 (GAP) and 0.00 (ES-GAP) of a lattice vector along b, not to" in text
    assert "not to the next cell; in the end 0 and 0 other lithium ions are more than 1 Å from where" in text
    assert text.endswith("no path of hop-9 with GAP: the largest force is 0.7 eV/A after 400 steps, not 0.02.")
    apart = replace(second, images={m: first.images[m] for m in first.images})  # begins where the first begins
    assert hop_pairs.traversals(replace(everything, hops=(first, apart))) == ()


def test_a_path_that_only_rises_is_no_barrier(folder):
    assert find(folder) == 0
    found = hop_paths.load_paths(folder)
    p = found.hops[0].profiles["GAP", "GAP"]
    found.hops[0].profiles["GAP", "GAP"] = replace(p, energies=np.arange(len(p.energies), dtype=float))
    assert [h.name for h in hop_pairs.both_paths(found)] == ["hop-1"]
    assert "1 hop with paths" in hop_summary.summary(found)


def test_without_paths_nothing_is_claimed(monkeypatch, tmp_path):
    monkeypatch.setattr(hop_paths, "FOLDER", str(tmp_path))
    nothing = hop_paths.stored()
    assert len(nothing) == 0
    assert "not yet tested" in hop_summary.summary(nothing)


def test_the_calmest_hop_of_a_kind_is_chosen(tmp_path):
    run = trajectory()
    chosen = hop_choice.chosen_hops(run, 3)
    counted = [kind.forward + kind.backward for _, kind in chosen]
    assert counted == sorted(counted, reverse=True)
    twice = next(hop for hop, kind in chosen if kind.forward + kind.backward == 2)
    assert twice.moved_with == ()  # the other one of that kind is correlated
    table = hop_summary.hop_table(hops.find_hops(run), 2)
    assert table.count("\n") == 3


def test_ends_are_those_of_the_hop(tmp_path, monkeypatch):
    run = trajectory()
    monkeypatch.setattr(hop_choice, "load_trajectory", lambda path: run)
    hop_choice.write_ends(["run.npz"], 2, tmp_path / "ends.xyz", repeat=(1, 2, 1))
    frames = read_frames(tmp_path / "ends.xyz")
    assert [a.info["name"] for a in frames] == ["hop-0-start", "hop-0-end", "hop-1-start", "hop-1-end"]
    for start, end in zip(frames[::2], frames[1::2], strict=True):
        assert len(start) == 2 * len(run.numbers)
        moved = np.linalg.norm(end.positions - start.positions, axis=1)
        assert moved.argmax() == start.info["ion"]
        assert moved.max() == pytest.approx(start.info["length"], abs=0.4)
    still = replace(run, positions=run.positions[:100], time=run.time[:100])
    monkeypatch.setattr(hop_choice, "load_trajectory", lambda path: still)
    with pytest.raises(ValueError, match="no hops"):
        hop_choice.write_ends(["run.npz"], 2, tmp_path / "none.xyz")


def test_a_traversal_is_two_hops_of_one_ion_through_the_cell(tmp_path, monkeypatch):
    through_b = [(0, 0, (0, 0, 0)), (300, 1, (0, 0, 0)), (400, 0, (0, 1, 0))]
    calm = {4: through_b, 5: [(0, 2, (0, 0, 0))], 6: [(0, 3, (0, 0, 0)), (600, 4, (0, 0, 0)), (700, 3, (0, 0, 0))]}
    run = trajectory(calm)
    first, second = hop_choice.traversal(run, run.cell[1])
    assert (first.ion, second.ion) == (4, 4)
    np.testing.assert_allclose(first.displacement + second.displacement, run.cell[1], atol=0.1)
    with pytest.raises(ValueError, match="no two consecutive hops of an ion add up to"):
        hop_choice.traversal(run, run.cell[0])

    twice = {4: [*through_b, (600, 1, (0, 1, 0)), (700, 0, (0, 2, 0))], 5: calm[5]}
    for other_hops, restless in ((350, 300), (650, 600)):  # while another ion hops, the crossing is not calm
        both = trajectory({**twice, 6: [(0, 3, (0, 0, 0)), (other_hops, 4, (0, 0, 0))]})
        assert hop_choice.traversal(both, run.cell[1])[0].end_frame != pytest.approx(restless, abs=5)

    full = trajectory({**calm, 7: [(0, 1, (0, 0, 0)), (290, 5, (0, 0, 0))]})  # makes room, and does not hop with ion 4
    before, middle = hop_choice.ends(full, [replace(first, start_frame=250, moved_with=())])
    np.testing.assert_allclose(middle.positions[7], before.positions[7])
    assert hop_choice._closest(middle, "Li") < 1.0

    monkeypatch.setattr(hop_choice, "load_trajectory", lambda path: run)
    hop_choice.write_ends(["run.npz"], 1, tmp_path / "ends.xyz", through=run.cell[1])
    frames = {a.info["name"]: a for a in read_frames(tmp_path / "ends.xyz")}
    assert list(frames) == [f"hop-{k}-{which}" for k in range(3) for which in ("start", "end")]
    np.testing.assert_array_equal(frames["hop-1-end"].positions, frames["hop-2-start"].positions)
    assert [frames[f"hop-{k}-start"].info["after"] for k in range(3)] == ["none", "none", "hop-1"]
    moved = frames["hop-2-end"].positions[4] - frames["hop-1-start"].positions[4]
    np.testing.assert_allclose(moved, run.cell[1], atol=0.1)
