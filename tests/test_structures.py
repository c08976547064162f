"""The crystal's units, and generation 0 made again from its seed."""
import numpy as np
import pytest
from ase.build import bulk

import esgap
from esgap import structures


@pytest.fixture(scope="module")
def gen0():
    return esgap.read_frames(esgap.data_path("dft/gen0.xyz"))


def test_seed_decides(gen0):
    first, again, other = (structures.initial_configurations(gen0[0], n_thermal=2, n_mc=1, seed=s) for s in (1, 1, 2))
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a.positions, b.positions)
        assert abs(a.positions - c.positions).max() > 0.01
    assert [a.info["name"] for a in first] == ["gen0-000", "gen0-001", "gen0-002"]
    assert first[2].info["relocated"] == 3


def test_generation_0_is_complete_and_labelled(gen0):
    assert len(gen0) == 81
    assert [a.info["config_type"] for a in gen0] == ["crystal"] + 40 * ["thermal"] + 40 * ["mc-li"]
    assert {a.info["reference"] for a in gen0} == {"PBE DZVP-MOLOPT-SR-GTH 300/40 Ry 2x2x2"}
    for a in gen0:
        assert set(a.calc.results) == {"energy", "forces", "stress"}
        assert abs(a.get_forces().mean(0)).max() < 3.5e-3  # eV/A, the error of the grid (data/README.md)
        assert abs(a.arrays["hirshfeld"].sum()) < 0.05
    crystal = structures.crystal()
    assert crystal.get_potential_energy() < min(a.get_potential_energy() for a in gen0)
    assert np.linalg.norm(crystal.get_forces(), axis=1).max() < 0.01  # eV/A


def test_labels_are_gradients_of_one_energy_surface(gen0):
    """Between the crystal and a small displacement, the mean force along the way is the energy difference."""
    reference = gen0[0]
    for atoms in gen0[1:41:4]:  # the smallest amplitude
        step = atoms.positions - reference.positions
        step -= np.round(step @ np.linalg.inv(atoms.cell)) @ atoms.cell.array
        work = -0.5 * ((atoms.get_forces() + reference.get_forces()) * step).sum()
        rise = atoms.get_potential_energy() - reference.get_potential_energy()
        assert work == pytest.approx(rise, rel=0.25)


def test_units_and_sulfur_species():
    crystal = structures.crystal()
    units = structures.thiophosphate_units(crystal)
    assert sorted(len(m) for m, _ in units) == [5, 5, 9, 9]
    for members, positions in units:  # in one piece, and the same atoms
        assert np.ptp(positions, axis=0).max() < 7.0
        shift = (positions - crystal.positions[members]) @ np.linalg.inv(crystal.cell)
        np.testing.assert_allclose(shift, np.round(shift), atol=1e-9)
    species = structures.sulfur_species(crystal)
    assert [(species == s).sum() for s in ("bridging", "terminal", "free", "")] == [2, 20, 0, 20]
    cut = crystal[[a.index for a in crystal if a.symbol != "P"]]
    assert set(structures.sulfur_species(cut)) == {"free", ""}


def test_thermal_displacements_grow_with_scale_and_keep_bonds():
    crystal = structures.crystal()

    def rms(scale):
        moved = structures.thermal(crystal, np.random.default_rng(1), scale)
        return np.sqrt(((moved.positions - crystal.positions) ** 2).mean())

    assert rms(0.0) < 1e-14
    assert rms(0.5) < rms(1.0)
    moved = structures.thermal(crystal, np.random.default_rng(2), 1.0)
    assert len(structures.ps_bonds(moved)) == len(structures.ps_bonds(crystal))


def test_monte_carlo_moves_what_it_says():
    crystal = structures.crystal()
    moved = structures.monte_carlo_lithium(crystal, np.random.default_rng(3), n_relocated=2)
    displacement = np.linalg.norm(moved.get_positions() - crystal.get_positions(), axis=1)
    assert (displacement[crystal.numbers != 3] == 0).all()
    assert (displacement > 1.4).sum() >= 2
    with pytest.raises(ValueError, match="n_relocated is 15, but there are only 14 Li: choose fewer"):
        structures.monte_carlo_lithium(crystal, np.random.default_rng(3), n_relocated=15)


def test_lithium_cost_is_lowest_where_lithium_sits():
    crystal = structures.crystal()
    li, s, p = (crystal.positions[crystal.symbols == e] for e in ("Li", "S", "P"))
    random = np.random.default_rng(4).random((200, 3)) @ crystal.cell.array
    here = structures.lithium_cost(li[:1], li[1:], s, p, crystal.cell)[0]
    assert here < np.percentile(structures.lithium_cost(random, li[1:], s, p, crystal.cell), 2)


def test_a_crystal_without_units():
    assert structures.thiophosphate_units(bulk("LiF", "rocksalt", a=4.03)) == []
