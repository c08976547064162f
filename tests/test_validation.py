"""Held-out errors are the RMSE they say, with error bars that tell the truth; splits cover every kind of frame."""
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.singlepoint import SinglePointCalculator

import esgap
from esgap import convergence, store
from esgap.fit import FitSettings, atom_energies, read_labels, targets_of
from esgap.validation import (
    KINDS,
    SHORT_CONTACT,
    held_out_errors,
    mark_short_contacts,
    shortest_contact,
    split,
    stratum,
)


@pytest.fixture(scope="module")
def frames():
    return esgap.read_frames(esgap.data_path("dft/gen0.xyz"))


@pytest.fixture(scope="module")
def parts(frames):
    return split(mark_short_contacts(frames))


def names(frames):
    return [a.info["name"] for a in frames]


def relabelled(atoms, energy, forces):
    new = atoms.copy()
    new.calc = SinglePointCalculator(new, energy=energy, forces=forces)
    return new


class Constant(Calculator):
    """The same force component on every atom of an element, and an energy per atom."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def __init__(self, energy, force):
        super().__init__()
        self.energy, self.force = energy, force

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        forces = np.repeat([[self.force[s]] for s in atoms.symbols], 3, axis=1)
        self.results = {"energy": self.energy * len(atoms), "forces": forces}


ZERO = Constant(0.0, {"Li": 0.0, "P": 0.0, "S": 0.0})


def noisy(n, rng, spread=0.5):
    """n small frames whose force components scatter by 0.1 eV/A, more or less from frame to frame."""
    atoms = Atoms("Li3PS4", positions=2.1 * np.arange(24).reshape(8, 3), cell=[60, 60, 60], pbc=True)
    return [relabelled(atoms, rng.normal(), 0.1 * rng.lognormal(0, spread) * rng.normal(size=(8, 3)))
            for _ in range(n)]


def test_no_error_for_the_calculator_that_made_the_labels(frames):
    calc = Constant(-3.0, {"Li": 0.1, "P": -2.0, "S": 0.7})
    made = [relabelled(a, calc.get_property("energy", a), calc.get_property("forces", a)) for a in frames[:4]]
    errors = held_out_errors(made, calc)
    assert max(errors.rmse.values()) < 1e-12
    assert max(errors.error.values()) < 1e-12


def test_known_shift_is_the_rmse(frames):
    made = [relabelled(a, 0.0, np.zeros((len(a), 3))) for a in frames[:5]]
    errors = held_out_errors(made, Constant(0.005, {"Li": 0.1, "P": -0.2, "S": 0.3}))
    assert errors.rmse["energy"] == pytest.approx(5.0)
    assert {k: pytest.approx(errors.rmse[k]) for k in ("Li", "P", "S", "S bridging", "S terminal")} == {
        "Li": 0.1, "P": 0.2, "S": 0.3, "S bridging": 0.3, "S terminal": 0.3}
    assert errors.rmse["all"] == pytest.approx(np.sqrt((14 * 0.1**2 + 6 * 0.2**2 + 22 * 0.3**2) / 42))
    assert errors.reference["S bridging"].shape == (5 * 2, 3)
    assert "P: 0.200 +- 0.000 eV/Å" in str(errors)
    assert "energy: 5.00 +- 0.00 meV/atom" in str(errors)


def test_no_mean_is_removed_from_energies(frames):
    made = [relabelled(a, 7.0 * len(a), np.zeros((len(a), 3))) for a in frames[:3]]
    assert held_out_errors(made, ZERO).rmse["energy"] == pytest.approx(7000)


def test_bootstrap_error_is_the_scatter_of_repetitions():
    """The RMSE of 40 independent sets of frames scatters as their bootstrap errors say, within a quarter."""
    rng = np.random.default_rng(0)
    errors = [held_out_errors(noisy(30, rng), ZERO, n_bootstrap=200) for _ in range(40)]
    for key in ("all", "Li", "energy"):
        scatter = np.std([e.rmse[key] for e in errors], ddof=1)
        assert np.mean([e.error[key] for e in errors]) == pytest.approx(scatter, rel=0.25)


def test_bootstrap_error_shrinks_with_the_number_of_frames():
    """As one over the square root: 16 times the frames, a quarter of the error."""
    rng = np.random.default_rng(1)
    few, many = (np.mean([held_out_errors(noisy(n, rng, 0.2), ZERO, n_bootstrap=200).error["all"]
                          for _ in range(repeat)]) for n, repeat in ((12, 32), (192, 4)))
    assert few / many == pytest.approx(4, rel=0.25)


def test_models_are_compared_on_the_same_draws(frames):
    made = noisy(20, np.random.default_rng(2))
    first, same, worse = (held_out_errors(made, Constant(e, {"Li": f, "P": f, "S": f}))
                          for e, f in ((0.0, 0.0), (0.0, 0.0), (0.0, 0.3)))
    assert set(same.minus(first).error.values()) == {0.0}
    difference = worse.minus(first)
    assert difference.value["all"] == pytest.approx(worse.rmse["all"] - first.rmse["all"])
    assert difference.error["all"] < np.hypot(first.error["all"], worse.error["all"])
    assert "all: +0." in str(difference)
    with pytest.raises(ValueError, match="belong to different frames; evaluate both models on the same list"):
        first.minus(held_out_errors(noisy(20, np.random.default_rng(3)), ZERO))
    with pytest.raises(ValueError, match="1 frame is too few for an error bar"):
        held_out_errors(made[:1], ZERO)


def test_every_stratum_is_held_out_and_trained_on(frames, parts):
    train, test = parts
    assert sorted(names(train) + names(test)) == sorted(names(frames))
    ordinary = {stratum(a) for a in frames if a.info["config_type"] != "crystal"}
    assert {k[1:] for k in ordinary} == {(kind, n) for kind in ("thermal", "mc-li") for n in range(4)}
    assert {stratum(a) for a in test} == ordinary
    assert {stratum(a) for a in train} >= ordinary
    assert "crystal" in names(train)


def test_split_follows_from_its_seed_and_not_from_the_order(frames, parts):
    again = split(mark_short_contacts(frames))
    assert names(again[1]) == names(parts[1])
    assert names(split(mark_short_contacts(frames), seed=1)[1]) != names(parts[1])


def test_fewer_training_frames_leave_the_test_as_it_is(frames, parts):
    train, test = split(mark_short_contacts(frames), n_train=20)
    assert names(test) == names(parts[1])
    assert len(set(names(train))) == 20
    assert {a.info["config_type"] for a in train} >= {"thermal", "mc-li"}
    with pytest.raises(ValueError, match="n_train is 99, but 59 frames remain for training"):
        split(mark_short_contacts(frames), n_train=99)
    with pytest.raises(ValueError, match="none of the 1 frames can be held out"):
        split(frames[:1])


def test_shortest_contact_is_that_of_all_pairs(frames):
    for atoms in frames[:20:5]:
        between = np.ix_(atoms.symbols == "Li", atoms.symbols == "S")
        assert shortest_contact(atoms) == pytest.approx(atoms.get_all_distances(mic=True)[between].min())
    assert shortest_contact(Atoms("P2", positions=[[0, 0, 0], [1, 0, 0]], cell=[9, 9, 9], pbc=True)) == 3.0


def test_short_contacts_count_less_and_are_never_held_out(frames, parts):
    short = [a.info["name"] for a in frames if shortest_contact(a) < SHORT_CONTACT]
    assert 0 < len(short) < len(frames) / 4
    assert sorted(short) == sorted(a.info["name"] for a in parts[0] if a.info["config_type"] == "short-contact")
    assert not set(short) & set(names(parts[1]))
    assert all(a.info["config_type"] != "short-contact" for a in frames)  # those given are as they were
    marked = [a for a in parts[0] if a.info["config_type"] == "short-contact"][:1]
    labels = read_labels(marked)
    settings = FitSettings(esgap.Soap(2, 1, 0.5, 4.0), kinds=KINDS, e0="fit")
    (target,) = targets_of(marked, labels, atom_energies(marked, labels, "fit"), settings)
    assert target.sigma[1] == KINDS["short-contact"]["sigma_force"] == 5 * settings.sigma_force


def test_settings_are_compared_once(tmp_path, monkeypatch):
    """Interrupted in the second row, the command goes on there; another seed starts anew."""
    calls = []

    def compared(train, test, row, charges, seed):
        calls.append((row["n_sparse"], seed))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return {"n_points": [row["n_sparse"]]}

    monkeypatch.setattr(convergence, "_compared", compared)
    monkeypatch.setattr(convergence, "settings_rows", lambda: [{"n_sparse": n} for n in (1, 2, 3)])
    args = SimpleNamespace(frames=esgap.data_path("dft/gen0.xyz"), output=tmp_path / "settings.json", seed=0)
    with pytest.raises(KeyboardInterrupt):
        convergence.settings_command(args)
    assert [r["settings"]["n_sparse"] for r in store.read_record(args.output)["rows"]] == [1]
    assert convergence.settings_command(args) == 0
    assert calls == [(1, 0), (2, 0), (2, 0), (3, 0)]
    assert [r["n_points"] for r in store.read_record(args.output)["rows"]] == [[1], [2], [3]]
    args.seed = 5
    convergence.settings_command(args)
    assert calls[4:] == [(1, 5), (2, 5), (3, 5)]


def test_stored_comparison_belongs_to_the_shipped_frames():
    record = store.read_record(esgap.data_path("runs/gen0-settings.json"))
    assert store.file_hash(esgap.data_path("dft/gen0.xyz")) in record["made_by"]["inputs"].values()
    assert [r["settings"] for r in record["rows"]] == convergence.settings_rows()
    table = convergence.settings_table(record).splitlines()
    assert len(table) == 3 + len(record["rows"])
    assert len({line.count("|") for line in table}) == 1
