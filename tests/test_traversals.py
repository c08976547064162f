"""Hops through the cell: the pair that relaxation leaves a whole lattice vector on, with fewest other ions moved."""
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from esgap import hop_choice, mobility, traversals
from esgap.__main__ import main

CELL, B = np.diag([10.0, 12.0, 9.0]), np.array([0.0, 6.0, 0.0])
STAND = [[0.5, 0.5, 0.5], [9.0, 6.0, 8.0]]  # of two S atoms
IONS = np.array([2, 3, 4, 5])
WELLS = {"short": (0.0, 3.0, 5.1), "whole": (0.0, 3.0, 6.0)}  # along b, where the first ion can rest


class Wells(Calculator):
    """Springs to the nearest well of each lithium, and to where sulfur stands."""

    implemented_properties = ("energy", "forces")

    def __init__(self, where):
        super().__init__()
        self.where = where

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        rest = np.array([*STAND, *home()])
        rest[2, 1] = min(WELLS[self.where], key=lambda y: abs(y - atoms.positions[2, 1]))
        rest[3:, 1] += 1.5 * np.round((atoms.positions[3:, 1] - rest[3:, 1]) / 1.5)  # wells 1.5 A apart
        moved = atoms.positions - rest
        self.results = {"energy": float((moved**2).sum()), "forces": -2 * moved}


def home():
    return np.array([[2.0, 0.0, 3.0], [5.0, 1.0, 3.0], [8.0, 1.0, 3.0], [5.0, 1.0, 7.0]])


def run(seed, others, away, end=5.8):
    """Ion 2 goes from 0 to 3 at 30 ps and to `end` at 31.5 ps along b; `others` of the rest go `away` (A) with it."""
    rng, n = np.random.default_rng(seed), 1200
    time = np.arange(n) * 50.0
    paths = home() + rng.normal(size=(n, 4, 3)) * 0.1
    paths[600:630, 0, 1] += 3.0
    paths[630:, 0, 1] += end
    paths[600:, 1:1 + others, 1] += away
    mean = Atoms("S2Li4", np.concatenate([STAND, paths.mean(0)]), cell=CELL, pbc=True)
    return mobility.LithiumRun(paths, IONS, time, mean, "GAP", 1, seed, 800.0, {"repeat": [1, 2, 1]})


def test_pairs_of_hops_of_one_ion_are_found_the_calmest_first():
    found = traversals.candidates([run(1, 1, 3.0), run(2, 2, 1.5), run(3, 0, 0.0, end=4.5)], B)
    assert [c.run.seed for c in found] == [2, 1]  # the third goes three quarters of the way
    assert [c.ion for c in found] == [2, 2]
    assert found[0].unrest == pytest.approx(1.5 * np.sqrt(2), abs=0.1)
    for k, y in enumerate((0.0, 3.0, 5.8)):
        np.testing.assert_allclose(found[0].frames[k].positions[2], [2.0, y, 3.0], atol=0.15)
        np.testing.assert_allclose(found[0].frames[k].positions[:2], STAND)


def test_a_displacement_counts_in_lattice_vectors_whatever_the_angles():
    cell = np.array([[10.0, 0, 0], [3.0, 12.0, 0], [1.0, 2.0, 9.0]])
    assert hop_choice.along(cell[1] / 2 + 0.3 * cell[0] - 0.2 * cell[2], cell, cell[1] / 2) == pytest.approx(1.0)
    assert hop_choice.along(-cell[1], cell, cell[1] / 2) == pytest.approx(-2.0)


def test_what_counts_is_where_relaxation_leaves_the_ion():
    calm, restless = traversals.candidates([run(1, 1, 3.0), run(2, 2, 1.5)], B)
    found = traversals.relaxed(restless, Wells("whole"), B)
    assert (found.carried, found.through) == (pytest.approx(1.0, abs=1e-2), True)
    assert found.steps == pytest.approx((3.0, 3.0), abs=0.05)
    assert (found.others, traversals.relaxed(calm, Wells("whole"), B).others) == (1, 2)
    assert found.energies == pytest.approx((0.0, 0.0), abs=1e-3)  # all wells are as deep
    short = traversals.relaxed(restless, Wells("short"), B)
    assert (short.carried, short.through) == (pytest.approx(0.85, abs=1e-2), False)
    with pytest.raises(RuntimeError, match="a frame is not at rest after 1 steps: allow more"):
        traversals.relaxed(restless, Wells("whole"), B, max_steps=1)


def test_minima_on_the_way_are_counted_and_what_moves_between_them():
    """Before, between and after: first all three ions that move, then the first one alone."""
    (candidate,) = traversals.candidates([run(2, 2, 1.5)], B)
    n_frames = (candidate.hops[1].end_frame - candidate.hops[0].start_frame) // 4 + 3  # 50 fs apart
    assert abs(len(list(candidate.along_the_way())) - n_frames) <= 1
    found = traversals.relaxed(candidate, Wells("whole"), B)
    assert (found.minima, found.moved) == (3, (3 + 1) / 2)
    assert abs(found.frames - n_frames) <= 1


@pytest.fixture
def command(tmp_path, monkeypatch):
    """The command, with runs and potentials put in the place of files."""
    made = {"one.npz": [run(1, 1, 3.0)], "two.npz": [run(2, 2, 1.5)]}
    for name in (*made, "gap", "es-gap"):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(traversals, "load_runs_of", lambda path: made[path.rsplit("/", 1)[-1]])
    monkeypatch.setattr(traversals, "load_model", lambda path: Wells("short" if path.stem == "gap" else "whole"))
    monkeypatch.setattr(traversals, "crystal", lambda: Atoms("Li", cell=np.diag([10.0, 6.0, 9.0])))
    return ["traversals", *(str(tmp_path / name) for name in made), "--models", str(tmp_path / "gap"),
            str(tmp_path / "es-gap"), "--output", str(tmp_path / "out.json")]


def test_the_command_writes_a_record_and_goes_on_with_it(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(traversals, "model_path", lambda path: tmp_path / path.rsplit("/", 1)[-1])
    asked, relaxed = [], traversals.relaxed
    monkeypatch.setattr(traversals, "relaxed", lambda *a: asked.append(a) or relaxed(*a))
    assert main([*command, "--most", "1"]) == 0
    assert len(asked) == 2
    assert main(command) == 0
    assert len(asked) == 4  # the first pair was there
    rows = traversals.stored(tmp_path / "out.json")
    assert [(r["file"], r["seed"], r["ion"]) for r in rows] == [("two.npz", 2, 2), ("one.npz", 1, 2)]
    assert [r["relaxed"]["ES-GAP"].through for r in rows] == [True, True]
    assert not any(r["relaxed"]["GAP"].through for r in rows)
    assert "| GAP | 2 | 3.0, 2.8 | 0.85, 1.00 | 2, 2 | 3, 3 | 2.0, 2.0 |" in capsys.readouterr().out
    (tmp_path / "gap").write_text("another model")
    assert main([*command, "--most", "1"]) == 0
    assert len(asked) == 6


def test_runs_without_such_hops_are_refused(command, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(traversals, "model_path", lambda path: tmp_path / path.rsplit("/", 1)[-1])
    assert main([*command, "--along", "c"]) == 2
    assert "no ion of 2 runs goes to the next cell along c in two hops" in capsys.readouterr().err
