"""What is shipped of a sweep: the same numbers as the sweep itself, comparisons pair by pair, tables, stories."""
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from esgap import (
    field_response,
    field_sweep,
    frenkel,
    frenkel_compare,
    frenkel_dft,
    frenkel_run,
    frenkel_summary,
    frenkel_view,
)
from esgap.cp2k import Settings
from esgap.field_response import Row, Sweep
from esgap.frenkel import FrenkelPair
from esgap.interstitials import Interstitial
from esgap.store import data_path, labelled, read_frames, write_frames
from wells import CHARGES, DEPTH, REPEAT, Wells, holes, pair, rock_salt


@pytest.fixture(scope="module")
def crystal():
    return rock_salt()


@pytest.fixture(scope="module")
def sweep(crystal, tmp_path_factory):
    """Two cells, two pairs, a field for the first."""
    path = tmp_path_factory.mktemp("sweep") / "es-gap.xyz"
    pairs = [pair(crystal), frenkel.images_of(0, holes()[:1], crystal, REPEAT)[0]]
    starts = field_sweep.plan(pairs, [REPEAT, (3, 2, 1)]) | field_sweep.plan(pairs[:1], [REPEAT], ["x"], 0.3, 9)
    for repeat in (REPEAT, (3, 2, 1)):
        part = {p: s for p, s in starts.items() if p.repeat == repeat}
        field_sweep.sweep(crystal, partial(Wells, crystal, repeat), part, path, "es-gap 0123", 1e-6, progress=False)
    return replace(field_response.load_sweep(path), generation=4, cutoff=5.0)


def test_a_summary_gives_the_numbers_of_the_sweep(sweep, crystal, tmp_path):
    frenkel_summary.write_summary(sweep, tmp_path / "s.json")
    read = frenkel_summary.load_summary(tmp_path / "s.json")
    assert (read.label, read.generation, read.cutoff, read.frames) == ("ES-GAP", 4, 5.0, {})
    assert read.pairs == sweep.pairs
    assert read.charges == CHARGES
    name = pair(crystal).name
    assert read.swept() == sweep.swept() == ((name, "x", REPEAT),)
    assert read.repeats(name) == [REPEAT, (3, 2, 1)]
    a, b = read.curve(name, "x", REPEAT), sweep.curve(name, "x", REPEAT)
    for what in ("field", "out", "back", "dipole"):
        np.testing.assert_allclose(getattr(a, what), getattr(b, what), atol=2e-6)
    assert a.became == b.became == ("",) * 9
    assert read.formation_energy(name, (3, 2, 1)) == pytest.approx(-DEPTH, abs=1e-5)
    np.testing.assert_allclose(read.dipole(name, REPEAT), 0.8 * pair(crystal).vector(crystal), atol=1e-4)
    assert len(read.alike(name, REPEAT)) == 2
    with pytest.raises(ValueError, match="no field along 'z' was swept; there are x"):
        read.curve(name, "z", REPEAT)


def test_errors_are_the_scaled_spread_of_energies_beside_the_perfect_cell(sweep, crystal, tmp_path):
    """Members that differ by a constant do not disagree; two that see ion 0 elsewhere by 0.1 eV/A do."""
    start = frenkel.perfect_cell(crystal, REPEAT).positions[0, 0]

    class Two:
        def energies(self, frames):
            moved = np.array([a.positions[0, 0] - start for a in frames])
            return np.array([np.ones(len(frames)), 7.0 + 0.1 * moved])

    new = field_response.with_errors(sweep, Two(), scale=3.0)
    name, dx = pair(crystal).name, abs(pair(crystal).vector(crystal)[0])
    assert dx > 1
    assert new.formation_error(name, REPEAT) == pytest.approx(3 * 0.1 * dx / np.sqrt(2), rel=1e-3)
    assert new.formation_error(name, REPEAT, held=True) == pytest.approx(3 * 0.1 * dx / np.sqrt(2), rel=1e-3)
    assert np.isnan(sweep.formation_error(name, REPEAT))
    frenkel_summary.write_summary(new, tmp_path / "s.json")
    read = frenkel_summary.load_summary(tmp_path / "s.json")
    np.testing.assert_allclose(read.curve(name, "x", REPEAT).error, new.curve(name, "x", REPEAT).error, atol=1e-6)
    assert f" ± {new.formation_error(name, REPEAT):.3f}" in frenkel_summary.pairs_table({"ES-GAP": read}, crystal)


def test_a_story_is_on_one_branch_and_can_be_played(sweep, crystal, tmp_path):
    frenkel_summary.write_story(sweep, crystal, tmp_path / "s.xyz")
    name, repeat, frames = story = frenkel_summary.read_story(tmp_path / "s.xyz")
    assert (name, repeat) == (pair(crystal).name, REPEAT)
    assert list(frames)[:3] == ["perfect", "built", "0"]
    assert len(frames) == 11
    moved = frames["built"].positions - frenkel.perfect_cell(crystal, REPEAT).positions
    np.testing.assert_allclose(moved[0], pair(crystal).vector(crystal), atol=1e-3)
    view = frenkel_view.played(story, sweep, "x")
    assert len(view.frames) == 11
    assert "24 atoms" in view.caption
    with pytest.raises(ValueError, match="no field along 'y' in this story; there are x"):
        frenkel_view.played(story, sweep, "y")


def test_a_relaxation_can_be_played(crystal):
    start, trace = pair(crystal).cell(crystal, REPEAT), []
    start.rattle(0.1, seed=1)
    relaxed = frenkel.relax(start, Wells(crystal), fmax=1e-6, trace=trace)
    assert len(trace) == relaxed.info["steps"] + 1
    np.testing.assert_array_equal(trace[0].positions, start.positions)
    np.testing.assert_array_equal(trace[-1].positions, relaxed.positions)
    view = frenkel_view.relaxing(trace * 20, pair(crystal), "A pair")
    assert len(view.frames) <= 42


def made_up(label, energies, became=()):
    """A sweep of pairs p0, p1, ... typed in, at zero field; `became`: indices of pairs that are gone."""
    site, rows = Interstitial("hole1", (0.5, 0.5, 0.5), {}, 0), {}
    pairs = {f"p{k}": FrenkelPair(0, site, (k, 0, 0)) for k in range(len(energies))}
    for repeat in ((1, 1, 1), (2, 2, 1)):
        cell = "x".join(map(str, repeat))
        rows[f"{cell}/perfect/0/out"] = Row(-10.0)
        for k, energy in enumerate(energies):
            gone = "recombined" if k in became else ""
            rows[f"{cell}/p{k}/0/out"] = Row(-10.0 + energy + 0.1 * (repeat[0] == 2), gone, (0.5, 0, 0))
            rows[f"{cell}/p{k}/0/held"] = Row(-9.0 + energy)
    vectors = {name: np.array([3.0 + k, 0, 0]) for k, name in enumerate(pairs)}
    return Sweep(rows, f"{label} 01", {"Li": 0.5}, pairs, vectors, {"x": np.array([1.0, 0, 0])})


def test_models_are_compared_over_pairs_that_both_keep():
    gap, es_gap = made_up("gap", [0.5, 0.7, 0.1, 0.9]), made_up("es-gap", [0.6, 0.8, 0.2, 1.3], became=[2])
    found = frenkel_compare.compare(gap, es_gap, (1, 1, 1))
    assert (found.pairs, found.lost) == (("p0", "p1", "p3"), ("p2",))
    assert found.mean("gap") == pytest.approx((0.7, 0.2))
    assert found.difference() == pytest.approx((0.2, np.std([0.1, 0.1, 0.4], ddof=1) / np.sqrt(3)))
    assert "3 pairs: GAP 0.700 (scatter 0.200), ES-GAP 0.900" in str(found)
    assert frenkel_compare.largest({"GAP": gap, "ES-GAP": es_gap}).repeat == (2, 2, 1)
    assert frenkel_compare.largest({"GAP": gap, "ES-GAP": es_gap}, most=(1, 2, 1)).repeat == (1, 1, 1)
    with pytest.raises(ValueError, match="no pair of 4 survives with both models in 1x1x1 cells"):
        frenkel_compare.compare(gap, made_up("es-gap", [1.0] * 4, became=range(4)), (1, 1, 1))


def test_sweeps_of_one_potential_are_put_together():
    """What is said of one cell does not depend on which of the sweeps it is from."""
    whole = made_up("gap", [0.5, 0.7], became=[1])
    small, large = (replace(whole, rows={n: r for n, r in whole.rows.items() if n.startswith(cell)})
                    for cell in ("1x1x1", "2x2x1"))
    both = field_response.together([small, large])
    assert both.rows == whole.rows
    assert both.repeats("p0") == [(1, 1, 1), (2, 2, 1)]
    assert large.repeats("p0") == [(2, 2, 1)]  # as it was
    with pytest.raises(ValueError, match=r"sweeps of gap 01 and of gap 02 cannot be put together"):
        field_response.together([small, replace(large, model="gap 02")])
    with pytest.raises(ValueError, match="point 1x1x1/p0/0/held is in two sweeps of gap 01"):
        field_response.together([small, whole])


def test_cells_larger_than_the_papers_are_not_in_the_table(crystal):
    sweep = made_up("gap", [0.5])
    larger = replace(sweep, rows={n.replace("2x2x1", "3x4x3"): r for n, r in sweep.rows.items()})
    assert frenkel_summary.pairs_table({"GAP": sweep}, crystal).count("| `p0` |") == 2
    assert frenkel_summary.pairs_table({"GAP": larger}, crystal).count("| `p0` |") == 1


def test_cell_sizes(crystal):
    sweeps = {"GAP": made_up("gap", [0.5, 0.7]), "ES-GAP": made_up("es-gap", [0.5, 0.7], became=[0])}
    sizes = frenkel_compare.sizes(sweeps, crystal)
    assert sizes["GAP"]["p0"][0].tolist() == [8, 32]
    assert sizes["ES-GAP"]["p0"][0].tolist() == []
    assert frenkel_compare.size_effect(sizes["GAP"]) == pytest.approx(0.1)
    three = {"p0": (np.array([8, 32, 64]), np.array([0.5, 0.6, 0.64]))}
    assert frenkel_compare.size_effect(three) == pytest.approx(0.14)
    assert frenkel_compare.size_effect(three, least=32) == pytest.approx(0.04)
    with pytest.raises(ValueError, match="no pair survives in more than one cell of 64 atoms or more"):
        frenkel_compare.size_effect(three, least=64)
    with pytest.raises(ValueError, match="no pair survives in more than one cell"):
        frenkel_compare.size_effect({"p0": sizes["ES-GAP"]["p0"]})


def test_tables_and_dft(crystal, tmp_path):
    sweeps = {"GAP": made_up("gap", [0.5, 0.7]), "ES-GAP": made_up("es-gap", [0.5, 0.7], became=[0])}
    assert frenkel_dft.dft_energies(tmp_path / "none.xyz") == {}
    frames = []
    for name, energy, leg in (("perfect", -5.0, "out"), ("p1", -4.25, "out"), ("p1", -3.5, "held")):
        atoms = labelled(crystal, energy, np.zeros((8, 3)))
        atoms.info["name"] = f"frenkel-gap/1x1x1/{name}/0/{leg}"
        frames.append(atoms)
    write_frames(tmp_path / "dft.xyz", frames)
    dft = frenkel_dft.dft_energies(tmp_path / "dft.xyz")
    assert dft == {("GAP", "p1", (1, 1, 1)): pytest.approx(0.75)}
    held = frenkel_dft.dft_energies(tmp_path / "dft.xyz", held=True)
    assert held == {("GAP", "p1", (1, 1, 1)): pytest.approx(1.5)}
    table = frenkel_summary.pairs_table(sweeps, crystal)
    assert "| `p1` | 8 | 4.0, 0.0, 0.0 | 4.00 | 0.700 | 0.700 | 1.40 |" in table  # 0.7 eV over 0.5 e A
    assert "| `p0` | 32 | 3.0, 0.0, 0.0 | 3.00 | 0.600 | recombined | – |" in table
    beside = frenkel_dft.dft_table(sweeps, dft, held, crystal)
    assert "| p1 | 8 | all | 0.750 | -50 | – | – |\n| p1 | 8 | the ion | 1.500 | +200 | – | – |" in beside
    assert frenkel_dft.missing(sweeps, dft) is None  # of one model only
    both = {(m, p, r): e for m, p, r, e in (("GAP", "p1", (1, 1, 1), 0.75), ("ES-GAP", "p1", (1, 1, 1), 0.7),
                                            ("GAP", "p1", (2, 2, 1), 1.0), ("ES-GAP", "p1", (2, 2, 1), 0.9))}
    assert frenkel_dft.missing(sweeps, both) == ("p1", (2, 2, 1), {
        "GAP": (pytest.approx(0.2), pytest.approx(np.nan, nan_ok=True)),
        "ES-GAP": (pytest.approx(0.1), pytest.approx(np.nan, nan_ok=True))})
    _, _, all_held = frenkel_dft.missing(sweeps, both, held=True)
    assert [all_held[m][0] for m in ("GAP", "ES-GAP")] == pytest.approx([1.0 - 1.7, 0.9 - 1.7])
    unsure = {m: replace(s, rows={k: replace(r, error=0.05) for k, r in s.rows.items()}) for m, s in sweeps.items()}
    assert frenkel_dft.missing(unsure, both)[2]["GAP"][1] == 0.05
    assert "| p1 | 8 | all | 0.750 | -50 ± 50 | 0.700 | +0 ± 50 |" in frenkel_dft.dft_table(unsure, both, {}, crystal)
    assert "| p1 | 32 | all |" in frenkel_dft.dft_table(unsure, both, {}, crystal).splitlines()[-1]
    assert "still to be computed" in frenkel_dft.dft_table(sweeps, {}, {}, crystal)


def test_a_perfect_cell_is_made_of_its_blocks_and_a_correction(crystal, tmp_path):
    """What grids in space do, here 0.03 eV a unit cell, is known from a cell that was labelled both ways."""
    file, folded, frames = tmp_path / "dft.xyz", tmp_path / "dft-folded.xyz", {}
    for repeat in ((2, 1, 1), (4, 1, 1)):
        relaxed = frenkel.perfect_cell(crystal, repeat)
        relaxed.positions += np.tile(0.01 * np.sin(np.arange(24)).reshape(8, 3), (repeat[0], 1))
        frames["x".join(map(str, repeat)) + "/perfect/0/out"] = relaxed
        frames["x".join(map(str, repeat)) + "/p1/0/out"] = relaxed
    frenkel_run.folded_frames(frames, folded, (2, 1, 1), "-gap")
    one, two = read_frames(folded)
    assert [a.info["name"] for a in (one, two)] == [f"frenkel-gap/{n}x1x1/perfect/0/folded" for n in (2, 4)]
    assert [len(a) for a in (one, two)] == [8, 16]
    assert Settings().grid(two) == (2, 1, 1)
    np.testing.assert_allclose(frenkel.perfect_cell(two, (2, 1, 1)).positions, frames["4x1x1/perfect/0/out"].positions,
                               atol=1e-8)
    wholes = [labelled(frames[name], energy, np.zeros((len(frames[name]), 3))) for name, energy in (
        ("2x1x1/perfect/0/out", -9.94), ("4x1x1/p1/0/out", -19.0))]
    for atoms, name in zip(wholes, ("2x1x1/perfect", "4x1x1/p1"), strict=True):
        atoms.info["name"] = f"frenkel-gap/{name}/0/out"
    write_frames(file, wholes[1:])
    write_frames(folded, [labelled(two, -10.0, np.zeros((16, 3)))])
    assert frenkel_dft.dft_energies(file, blocks=folded) == {}  # nothing says what grids do
    write_frames(file, wholes)
    write_frames(folded, [labelled(one, -5.0, np.zeros((8, 3))), labelled(two, -10.0, np.zeros((16, 3)))])
    assert frenkel_dft.grid_corrections(file, folded) == {"gap/2x1x1/perfect/0/out": pytest.approx(0.03)}
    assert frenkel_dft.dft_energies(file, blocks=folded) == {("GAP", "p1", (4, 1, 1)): pytest.approx(0.88)}
    wholes.append(labelled(frames["4x1x1/perfect/0/out"], -19.9, np.zeros((32, 3))))
    wholes[-1].info["name"] = "frenkel-gap/4x1x1/perfect/0/out"
    write_frames(file, wholes)  # what is labelled as a whole counts
    assert frenkel_dft.dft_energies(file, blocks=folded) == {("GAP", "p1", (4, 1, 1)): pytest.approx(0.9)}


def test_shipped_blocks_have_their_share_of_the_energy():
    corrections = frenkel_dft.grid_corrections(data_path("dft/frenkel.xyz"), data_path("dft/frenkel-folded.xyz"))
    assert "gap/2x2x2/perfect/0/out" in corrections
    assert np.abs(list(corrections.values())).max() < 1e-3  # eV per unit cell


def test_where_a_pair_is_looked_at():
    sweep = made_up("es-gap", [0.5, 0.7, -0.2], became=[1])
    assert frenkel_summary.cell_of(sweep, "p0") == (2, 2, 1)
    swept = replace(sweep, rows=sweep.rows | {"1x1x1/p0/x+0.1000/out": Row(-9.0)})
    assert frenkel_summary.cell_of(swept, "p0") == (1, 1, 1)
    with pytest.raises(ValueError, match="pair p1 did not survive the relaxation in any cell"):
        frenkel_summary.cell_of(sweep, "p1")
    assert frenkel_summary.lower_than_crystal(sweep) == {"1x1x1/p2": pytest.approx(-0.2), "2x2x1/p2": pytest.approx(
        -0.1)}


def test_directions_follow_the_dipole(sweep, crystal):
    table = frenkel_summary.directions_table(sweep, pair(crystal).name, REPEAT, crystal, ("x", "y"))
    d = pair(crystal).vector(crystal)
    assert f"| x | {0.8 * d[0]:+.2f} | {-DEPTH / (0.8 * d[0]):+.2f} |" in table
    assert f"| {0.8 * np.linalg.norm(d):+.2f} |" in table.splitlines()[-1]


def test_the_command_ships(tmp_path, monkeypatch):
    from esgap.__main__ import main
    from reference_calculators import weak

    class Two:
        def energies(self, frames):
            return np.array([[0.0, 0.1 * np.sum(a.positions**2)] for a in frames]).T

    monkeypatch.setattr("esgap.frenkel_run.load_model", lambda path: weak())
    monkeypatch.setattr("esgap.frenkel_run.stored_committees", lambda models: dict.fromkeys(models, (Two(), 2.0)))
    (tmp_path / "gap.npz").write_bytes(b"a model")
    (tmp_path / "gap.json").write_text('{"generation": 3}')
    out, story = tmp_path / "gap-out.json", tmp_path / "story.xyz"
    command = ["frenkel", str(tmp_path / "gap.npz"), str(tmp_path / "out.xyz"), "--pair", "3:hole1", "--field-pair",
               "2:hole1", "--supercell", "1", "1", "1", "--directions", "b", "--n-points", "3", "--fmax", "2",
               "--scan", "2:hole1", "--scan-supercell", "1", "2", "1", "--summary", str(out), "--story", str(story)]
    assert main([*command, "--no-committee"]) == 0
    assert np.isnan(frenkel_summary.load_summary(out).formation_error("2:hole1:0,0,0", (1, 1, 1)))
    assert main(command) == 0
    read = frenkel_summary.load_summary(out)
    assert read.formation_error("2:hole1:0,0,0", (1, 1, 1)) > 0
    assert (read.label, read.generation, read.cutoff) == ("GAP", 3, None)
    assert read.swept() == (("2:hole1:0,0,0", "b", (1, 1, 1)),)
    assert len(read.alike("2:hole1:0,0,0", (1, 2, 1))) == 4
    assert [a.info["name"].split("/")[2] for a in read_frames(story)] == ["perfect", "built", "0"]
