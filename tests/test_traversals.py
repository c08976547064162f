"""Hops through the cell: the pair that relaxation leaves a whole lattice vector on, with fewest other ions moved."""
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from esgap import mobility, traversals
from esgap.__main__ import main
from esgap.store import read_frames

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
    """Ion 2 goes from 0 to 3 at 30 ps and to `end` at 60 ps along b; `others` of the rest go `away` (A) with it."""
    rng, n = np.random.default_rng(seed), 1800
    time = np.arange(n) * 50.0
    paths = home() + rng.normal(size=(n, 4, 3)) * 0.1
    paths[600:1200, 0, 1] += 3.0
    paths[1200:, 0, 1] += end
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
    assert traversals.along(cell[1] / 2 + 0.3 * cell[0] - 0.2 * cell[2], cell, cell[1] / 2) == pytest.approx(1.0)
    assert traversals.along(-cell[1], cell, cell[1] / 2) == pytest.approx(-2.0)


def test_what_counts_is_where_relaxation_leaves_the_ion():
    found = traversals.candidates([run(1, 1, 3.0), run(2, 2, 1.5)], B)
    said = []
    candidate, of = traversals.chosen(found, {"A": Wells("whole"), "B": Wells("whole")}, B, progress=said.append)
    assert candidate.run.seed == 1  # one other ion moves, though farther
    assert of["A"].carried == pytest.approx(1.0, abs=1e-2)
    assert of["A"].steps == pytest.approx((3.0, 3.0), abs=0.05)
    assert (of["B"].others, len(said)) == ((3,), 2)
    assert "A +1.00, with 1 others; B +1.00, with 1 others" in said[1]
    with pytest.raises(ValueError, match=r"of 2 pairs of hops none, once relaxed, carries its ion \[0.0, 6.0, 0.0\] A"):
        traversals.chosen(found, {"A": Wells("whole"), "B": Wells("short")}, B, progress=said.append)
    assert "B +0.85" in said[-1]
    (first,) = traversals.candidates([run(1, 1, 3.0)], B)
    assert traversals.relaxed(first, Wells("whole"), B, max_steps=1) is None


def test_ends_are_added_once_and_under_new_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(traversals, "chosen", lambda found, *_: (found[0], {"A": traversals.Relaxed(-1.02, (3, 3), ()),
                                                                           "B": traversals.Relaxed(0.97, (3, 3), ())}))
    ends, kept = tmp_path / "ends.xyz", run(4, 0, 0.0)
    assert traversals.add_traversal(ends, {"run.npz": [kept]}, {}, B)
    frames = read_frames(ends)
    assert [a.info["name"] for a in frames] == ["hop-0-start", "hop-0-end", "hop-1-start", "hop-1-end"]
    assert [a.info["after"] for a in frames] == ["none", "none", "hop-0", "hop-0"]
    np.testing.assert_allclose(frames[1].positions, frames[2].positions)
    assert frames[0].info["sampled_by"] == "run.npz, seed 4"
    assert frames[3].info["relaxed_through"] == pytest.approx(0.97)
    assert not traversals.add_traversal(ends, {"run.npz": [kept]}, {}, B)
    assert len(read_frames(ends)) == 4


def test_kept_runs_need_a_direction(tmp_path, capsys):
    (tmp_path / "ends.xyz").write_text("")
    assert main(["paths", "--kept", "a.npz", "--folder", str(tmp_path)]) == 2
    assert "--kept goes with --through: say along which lattice vector" in capsys.readouterr().err
