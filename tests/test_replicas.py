"""Replicas have the energies and forces of single structures, and no neighbour is missed, whatever the cell."""
import jax
import numpy as np
import pytest
from ase import Atoms

import esgap
from esgap.calculators import ElectrostaticBaseline
from esgap.neighbours import neighbour_pairs
from esgap.replicas import Replicas, images_within
from esgap.spheres import SHORTEST, short_contacts
from esgap.structures import crystal
from esgap.two_body import Distance2b, PairTerm


def tiny_gap(**options):
    settings = esgap.FitSettings(esgap.Soap(3, 2, atom_sigma=0.5, cutoff=4.0), n_sparse=12, e0="fit")
    frames = esgap.read_frames(esgap.data_path("dft/gen0.xyz"))[:2]
    return esgap.GAP(esgap.fit_gap(frames, settings).model, **options)


@pytest.fixture(scope="module")
def gap():
    return tiny_gap()


def displaced(atoms, n, rng, spread=0.15):
    """(n, n_atoms, 3): positions of copies, some of their atoms whole cells away."""
    x = atoms.positions + rng.normal(0, spread, (n, *atoms.positions.shape))
    return x + rng.integers(-2, 3, (n, len(atoms), 3)) @ atoms.cell.array


def evaluated(replicas, positions):
    """Energies (R,) and forces (R, n, 3) in the order of the atoms that were given."""
    x = positions[:, replicas.order]
    replicas.widths = replicas.wide_enough(replicas.table(x).count)
    energies, forces = jax.jit(replicas.energies_and_forces)(x, replicas.table(x), replicas.constants)
    return np.asarray(energies), np.asarray(forces)[:, replicas.rank]


@pytest.mark.parametrize(("name", "tolerance", "repeat"), [("gap", 1e-9, (1, 2, 1)), ("es-gap", 3e-6, (1, 1, 1))])
def test_energies_and_forces_are_those_of_single_structures(name, tolerance, repeat):
    """ES-GAP: two splittings of one Ewald sum, each right to the accuracy of the stored models."""
    atoms = crystal() * repeat
    x = displaced(atoms, 2, np.random.default_rng(0))
    potential = esgap.load_model(name)
    energies, forces = evaluated(Replicas(atoms, potential, 2), x)
    for k in range(2):
        one = Atoms(atoms.numbers, x[k], cell=atoms.cell, pbc=True, calculator=potential)
        assert energies[k] == pytest.approx(one.get_potential_energy(), abs=tolerance)
        np.testing.assert_allclose(forces[k], one.get_forces(), atol=tolerance)


def test_point_charges_and_chunks_of_rows(gap):
    atoms = crystal()
    baseline = ElectrostaticBaseline({"Li": 0.6, "P": 0.4, "S": -10.8 / 22}, accuracy=1e-9)
    x = displaced(atoms, 3, np.random.default_rng(1), 0.05)
    energies, forces = evaluated(Replicas(atoms, esgap.es_gap(gap, baseline), 3, rows=50), x)
    whole = evaluated(Replicas(atoms, esgap.es_gap(gap, baseline), 3, rows=10**6), x)
    np.testing.assert_allclose(energies, whole[0], rtol=0, atol=1e-9)
    np.testing.assert_allclose(forces, whole[1], rtol=0, atol=1e-9)
    one = Atoms(atoms.numbers, x[2], cell=atoms.cell, pbc=True, calculator=esgap.es_gap(gap, baseline))
    np.testing.assert_allclose(forces[2], one.get_forces(), atol=1e-7)


@pytest.mark.parametrize("seed", range(6))
def test_every_neighbour_is_found_in_any_cell(gap, seed):
    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(3, 11, 3)) + rng.uniform(-2, 2, (3, 3))
    atoms = Atoms("Li4PS3", rng.uniform(-1, 2, (8, 3)) @ cell, cell=cell, pbc=True)
    replicas = Replicas(atoms, gap, 1, skin=rng.uniform(0, 2))
    reach = replicas.cutoff + replicas.skin
    x = atoms.positions[None, replicas.order]
    replicas.widths = replicas.wide_enough(replicas.table(x).count)
    table = replicas.table(x)
    vec = x[0][np.asarray(table.j[0])] - x[0][:, None] + np.asarray(table.shift[0])
    found = np.sort(np.linalg.norm(vec, axis=2)[np.linalg.norm(vec, axis=2) < reach])
    pairs = neighbour_pairs(atoms.positions, cell, (True, True, True), reach)
    r = atoms.positions[pairs.j] - atoms.positions[pairs.i] + pairs.S @ cell
    np.testing.assert_allclose(found, np.sort(np.linalg.norm(r, axis=1)), atol=1e-9)


def test_images_are_as_few_as_the_cell_allows():
    assert len(images_within(np.diag([20.0, 20.0, 20.0]), 9.0)) == 1
    assert len(images_within(np.diag([6.0, 20.0, 20.0]), 9.0)) == 5  # up to 2 along the short one
    assert len(images_within(np.diag([20.0, 20.0, 20.0]), 11.0)) == 27


def test_too_few_slots_are_noticed(gap):
    atoms = crystal()
    replicas = Replicas(atoms, gap, 2)
    replicas.widths = tuple(w // 2 for w in replicas.widths)
    count = np.asarray(replicas.table(displaced(atoms, 2, np.random.default_rng(0))[:, replicas.order]).count)
    assert (count > replicas.widths).all()
    assert (count <= replicas.wide_enough(count)).all()


def test_closeness_is_that_of_the_shortest_contact(gap):
    atoms = crystal()
    x = displaced(atoms, 2, np.random.default_rng(3), 0.25)
    replicas = Replicas(atoms, gap, 2)
    shortest = np.array([[SHORTEST.get(a + b, SHORTEST.get(b + a, 0.0)) for b in ("Li", "P", "S")]
                         for a in ("Li", "P", "S")])
    found = np.asarray(replicas.closeness(x[:, replicas.order], replicas.table(x[:, replicas.order]), shortest))
    for k in range(2):
        one = Atoms(atoms.numbers, x[k], cell=atoms.cell, pbc=True)
        assert len(short_contacts(one, found[k] - 1e-9)[0]) == 0
        assert len(short_contacts(one, found[k] + 1e-9)[0]) > 0


def test_what_cannot_be_evaluated_is_refused(gap):
    atoms = crystal()
    with pytest.raises(ValueError, match="made of ElectrostaticBaseline; replicas take one GAP"):
        Replicas(atoms, ElectrostaticBaseline({"Li": 0.6, "P": 0.4, "S": -10.8 / 22}), 2)
    with pytest.raises(ValueError, match="0 replicas"):
        Replicas(atoms, gap, 0)
    term = PairTerm(Distance2b(4.0, Z1=3, Z2=3), np.array([3.0]), np.array([0.1]), np.array([1.0]), 1.0, 1.0)
    both = esgap.GAP(type(gap.model)(gap.model.terms, gap.model.e0, pair_terms=(term,)))
    with pytest.raises(ValueError, match="two-body terms"):
        Replicas(atoms, both, 2)
    atoms.pbc = (True, True, False)
    with pytest.raises(ValueError, match="periodic in all directions"):
        Replicas(atoms, gap, 2)
    with pytest.raises(ValueError, match="no charge for P"):
        Replicas(crystal(), esgap.es_gap(gap, ElectrostaticBaseline({"Li": 0.6, "S": -0.6})), 1)
    with pytest.raises(ValueError, match=r"charges sum to \+2.4 e over 42 atoms"):
        Replicas(crystal(), esgap.es_gap(gap, ElectrostaticBaseline({"Li": 0.6, "P": 1.2, "S": -0.6})), 1)
