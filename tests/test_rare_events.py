"""Openings of bonds and collisions put into a trajectory by hand are found, each once, at its most extreme frame."""
from dataclasses import asdict

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.singlepoint import SinglePointCalculator

from esgap import dynamics, rare_events
from esgap.__main__ import main
from esgap.store import file_hash, read_frames, write_arrays, write_record
from esgap.structures import crystal, ps_bonds


def run(**changes):
    """400 frames of 50 fs of the crystal at rest; changes: {"bond": {frame: A}, "contact": {frame: A}}."""
    atoms = crystal()
    positions = np.repeat(atoms.positions[None], 400, axis=0)
    bonds = ps_bonds(atoms)
    for frame, length in changes.get("bond", {}).items():
        i, j, shift = bonds.i[0], bonds.j[0], bonds.S[0] @ atoms.cell.array
        apart = positions[frame, j] + shift - positions[frame, i]
        positions[frame, j] = positions[frame, i] + apart * length / np.linalg.norm(apart) - shift
    for frame, distance in changes.get("contact", {}).items():
        positions[frame, 1] = positions[frame, 0] + [distance, 0, 0] + atoms.cell.array[2]  # an image, not the ion
    zero = np.arange(400.0)
    return dynamics.Trajectory(positions, 50 * zero, -zero, zero, zero, atoms.numbers, atoms.cell.array,
                               dynamics.MDSettings(399, timestep=50, every=1))


def test_events_are_found_once_at_their_most_extreme_frame():
    made = run(bond={50: 2.9, 53: 3.2, 55: 2.85, 200: 2.81, 300: 2.79},
               contact={120: 2.1, 121: 1.9, 122: 2.15, 350: 2.3})
    found = rare_events.events(made, crystal())
    assert [(e.kind, e.frame) for e in found] == [("bond", 53), ("contact", 121), ("bond", 200)]
    assert [e.value for e in found] == pytest.approx([3.2, 1.9, 2.81], abs=1e-9)
    assert rare_events.events(run(), crystal()) == []


def test_nearest_ions_may_be_images():
    shortest = rare_events.nearest(run(contact={7: 1.5}))
    atoms = crystal()
    lithium = atoms[[a.symbol == "Li" for a in atoms]]
    d = lithium.get_all_distances(mic=True)
    assert shortest[7] == pytest.approx(1.5)
    assert shortest[0] == pytest.approx(d[d > 0].min())


@pytest.fixture
def models(tmp_path, monkeypatch):
    paths = [tmp_path / "gap.npz", tmp_path / "es-gap.npz"]
    for path in paths:
        path.write_text(path.stem)
        write_record(path.with_suffix(".json"), {"generation": 5})
    return [str(path) for path in paths]


def written(path, made, model):
    write_arrays(path, {"settings": asdict(made.settings), "stopped": "", "made_from": [file_hash(model)]},
                 start=made.positions[0], displacement=np.diff(np.round((made.positions - made.positions[0]) * 1e4)
                 .astype(np.int32), axis=0, prepend=0), step=np.arange(len(made)), potential=made.potential,
                 kinetic=made.kinetic, exchanged=np.zeros(len(made)), numbers=made.numbers, cell=made.cell)
    return path


def test_frames_of_both_models_take_turns_and_say_where_they_are_from(tmp_path, models):
    one = written(tmp_path / "one.npz", run(bond={50: 2.9, 100: 3.1, 150: 3.0}), models[0])
    two = written(tmp_path / "two.npz", run(bond={60: 2.95}, contact={120: 2.0}), models[1])
    frames = rare_events.rare_frames([one, two], 4, models)
    assert [a.info["name"] for a in frames] == ["rare-es-gap-bond-00", "rare-es-gap-contact-00", "rare-gap-bond-00",
                                                "rare-gap-bond-01"]
    assert [a.info["value"] for a in frames] == pytest.approx([2.95, 2.0, 3.1, 3.0], abs=1e-3)
    last = frames[-1].info
    assert (last["run"], last["time"], last["model_energy"], last["model_generation"]) == ("one", 7500.0, -150.0, 5)


def test_the_command_asks_for_runs_and_writes_what_it_finds(tmp_path, models, capsys):
    assert main(["testset", "rare", str(tmp_path / "out.xyz"), "--models", *models]) == 2
    assert "give --trajectory" in capsys.readouterr().err
    one = written(tmp_path / "one.npz", run(bond={50: 2.9}), models[0])
    assert main(["testset", "rare", str(tmp_path / "out.xyz"), "--models", *models, "--trajectory", str(one)]) == 0
    assert [a.info["name"] for a in read_frames(tmp_path / "out.xyz")] == ["rare-gap-bond-00"]


def test_runs_of_other_models_and_calm_runs_are_refused(tmp_path, models):
    calm = written(tmp_path / "calm.npz", run(), models[0])
    with pytest.raises(ValueError, match="no bond opens and no ions collide in"):
        rare_events.rare_frames([calm], 4, models)
    with pytest.raises(ValueError, match="was made with none of"):
        rare_events.rare_frames([calm], 4, models[1:])


class Spring(Calculator):
    """Energy k/2 (|r_1 - r_0| - 2)^2 + c of the first two atoms, an exact force."""

    implemented_properties = ("energy", "forces")

    def __init__(self, k, c=0.0):
        super().__init__()
        self.k, self.c = k, c

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        d = self.atoms.positions[1] - self.atoms.positions[0]
        stretch, forces = np.linalg.norm(d) - 2, np.zeros((len(self.atoms), 3))
        forces[0] = self.k * stretch * d / np.linalg.norm(d)
        forces[1] = -forces[0]
        self.results = {"energy": self.k / 2 * stretch**2 + self.c, "forces": forces}


def pair(distance, kind):
    atoms = Atoms("PS" if kind == "bond" else "Li2", [[0, 0, 0], [distance, 0, 0]], cell=[20, 20, 20], pbc=True)
    atoms.calc = Spring(4.0)
    atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy(), forces=atoms.get_forces())
    atoms.info = {"kind": kind, "model": "gap", "value": distance}
    return atoms


def test_a_softer_spring_pulls_less_and_its_energy_is_lower():
    start = Atoms("PS", [[0, 0, 0], [2.0, 0, 0]], cell=[20, 20, 20], pbc=True)
    frames, usual = [pair(3.0, "bond"), pair(1.5, "contact")], [pair(2.0, "bond"), pair(2.0, "contact")]
    found, spread = rare_events.judged(frames, {"GAP": Spring(4.0, c=7.0), "ES-GAP": Spring(3.0)}, usual, start)
    assert found[0].pull == pytest.approx({"DFT": -4.0, "GAP": -4.0, "ES-GAP": -3.0})
    assert found[1].pull == pytest.approx({"DFT": 2.0, "GAP": 2.0, "ES-GAP": 1.5})
    assert found[0].energy == pytest.approx({"GAP": 0.0, "ES-GAP": -0.5})  # a constant does not count
    assert found[0].force == pytest.approx({"GAP": 0.0, "ES-GAP": np.sqrt(2 / 6)})
    assert spread == {"GAP": (0.0, 0.0), "ES-GAP": (0.0, 0.0)}
    text = rare_events.table(found, spread)
    assert "| P–S | GAP | 3.00 | -4.00 | -4.00 | -3.00 | +0 | -500 | 0 | 577 |" in text
    assert len({line.count("|") for line in text.splitlines()}) == 1
