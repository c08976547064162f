"""The spheres of the locality test: what is frozen, what moves, and that the set can be made again."""
import numpy as np
import pytest

from esgap import spheres, structures


@pytest.fixture(scope="module")
def supercell():
    return structures.crystal() * (1, 2, 1)


def test_inside_is_frozen_and_outside_moves(supercell):
    frame = spheres.perturb_outside(supercell, 16, 6.0, np.random.default_rng(1))
    moved = np.linalg.norm(frame.positions - supercell.positions, axis=1)
    inside = spheres.distances_from(supercell, 16) <= 6.0
    assert (moved[inside] == 0).all()
    assert (moved[~inside] > 0).all()
    assert len(spheres.short_contacts(frame)[0]) == 0
    assert frame.info["centre"] == 16
    assert frame.info["radius"] == 6.0


def test_centres_are_of_different_kinds(supercell):
    centres = spheres.inequivalent_centres(supercell)
    assert [c.kind for c in centres] == ["Li", "Li", "P in PS4", "P in P2S7", "terminal S", "bridging S"]
    assert len({c.index for c in centres}) == 6
    species = structures.sulfur_species(supercell)
    assert species[centres[4].index] == "terminal"
    assert species[centres[5].index] == "bridging"


def test_the_set_is_reproducible_and_any_beginning_of_it_is_balanced(supercell):
    a, b = (spheres.locality_configurations(supercell, plan=((6.0, 2), (7.0, 1))) for _ in range(2))
    assert len(a) == 1 + 6 * 3
    assert len({x.info["name"] for x in a}) == len(a)
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x.positions, y.positions)
    assert {x.info["centre"] for x in a[1:7]} == {c.index for c in spheres.inequivalent_centres(supercell)}
    longer = spheres.locality_configurations(supercell, plan=((6.0, 3),))
    np.testing.assert_array_equal(longer[8].positions, a[8].positions)  # a longer plan keeps what was made


def test_short_contacts_are_seen():
    atoms = structures.crystal()
    assert len(spheres.short_contacts(atoms)[0]) == 0
    li, s = np.flatnonzero(atoms.symbols == "Li")[0], np.flatnonzero(atoms.symbols == "S")[0]
    atoms.positions[li] = atoms.positions[s] + [0, 0, 1.9]
    i, j, d = spheres.short_contacts(atoms)
    k = list(zip(i.tolist(), j.tolist(), strict=True)).index((li, s))
    assert d[k] == pytest.approx(1.9)
    assert (li, s) not in zip(*(x.tolist() for x in spheres.short_contacts(atoms, 0.9)[:2]), strict=True)


def test_refusals(supercell):
    with pytest.raises(ValueError, match=r"no atom is further than 20\.0 A from atom 3"):
        spheres.perturb_outside(supercell, 3, 20.0, np.random.default_rng(1))
    with pytest.raises(ValueError, match=r"1000 displacements at scale 5\.0 all had contacts"):
        spheres.perturb_outside(structures.crystal(), 3, 3.0, np.random.default_rng(1), scale=5.0)
