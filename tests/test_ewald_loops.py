"""The compiled loops against the definition of the lattice sum, pair by pair and derivative by derivative."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.stress import voigt_6_to_full_3x3_stress

from esgap import ElectrostaticBaseline, ewald, ewald_loops, structures
from esgap.neighbours import neighbour_pairs
from test_ewald import CHARGES, ZETA, skew_cell


def of_definition(atoms, calc):
    """Energy and its gradients by positions, strain and charges: `ewald.energy` and JAX."""
    system, order = calc._system, calc._system.order
    cell, r_cut = atoms.cell.array, system.splitting.r_cut
    pairs = neighbour_pairs(atoms.positions[order], cell, atoms.pbc, r_cut)

    def energy(positions, strain, charges):
        return ewald.energy(positions, cell, charges, pairs, system.species, system.splitting, system.screening, strain)

    value, gradients = jax.jit(jax.value_and_grad(energy, argnums=(0, 1, 2)))(
        jnp.asarray(atoms.positions[order].T), jnp.zeros((3, 3)), jnp.asarray(system.q))
    return float(value), *(np.asarray(g) for g in gradients)


def one_thin_axis():
    """One axis so short that no wave vector along it is within the cutoff of a loose sum, and many images are."""
    atoms = skew_cell()[[0, 4, 7, 8]]
    atoms.set_cell([[1.9, 0.2, 0.1], [0.5, 12.0, 0.3], [0.1, 0.8, 11.0]], scale_atoms=True)
    return atoms


ROCK_SALT = bulk("LiCl", "rocksalt", a=5.1, cubic=True)


@pytest.mark.parametrize(("atoms", "charges", "zeta", "accuracy"), [
    (skew_cell(), CHARGES, ZETA, 1e-10),
    (skew_cell(), CHARGES, {s: 4 * z for s, z in ZETA.items()}, 1e-10),  # terms that stay exponentials
    (skew_cell(), CHARGES, None, 1e-10),
    (one_thin_axis(), {"Li": 1.5, "P": 0.0, "S": -0.75}, {"Li": 0.47, "P": 6.0, "S": np.inf}, 1e-3),
    (ROCK_SALT, {"Li": 0.8, "Cl": -0.8}, {"Li": 0.5, "Cl": 0.9}, 1e-8),
    (Atoms("Li2", [[0, 0, 0], [1, 1, 1.3]], cell=[4, 4.2, 4.6], pbc=True), {"Li": 0.0}, None, 1e-6),
], ids=["clouds", "compact", "points", "no charge, thin", "two species", "one species"])
def test_value_and_gradients_are_those_of_the_definition(atoms, charges, zeta, accuracy):
    atoms = atoms.copy()
    atoms.rattle(0.1, seed=4)
    calc = ElectrostaticBaseline(charges, zeta, accuracy=accuracy)
    calc.calculate(atoms)
    energy, by_positions, by_strain, by_charges = of_definition(atoms, calc)
    order, found = calc._system.order, calc.results
    assert found["energy"] == pytest.approx(energy, rel=1e-13, abs=1e-12)
    np.testing.assert_allclose(found["forces"][order], -by_positions.T, atol=1e-11)
    np.testing.assert_allclose(found["potential"][order], by_charges, atol=1e-11)
    np.testing.assert_allclose(voigt_6_to_full_3x3_stress(found["stress"]),
                               (by_strain + by_strain.T) / 2 / atoms.get_volume(), atol=1e-13)


def test_the_cases_above_are_of_every_kind():
    def system(zeta, atoms=None, charges=CHARGES, accuracy=1e-10):
        calc = ElectrostaticBaseline(charges, zeta, accuracy=accuracy)
        calc.calculate(atoms or skew_cell())
        return calc._system

    assert system(ZETA).radial.rates.shape == (6, 0)
    assert system({s: 4 * z for s, z in ZETA.items()}).radial.coefficients.any()
    thin = system(ZETA, one_thin_axis(), {"Li": 1.5, "P": 0.0, "S": -0.75}, 1e-3)
    assert thin.waves.box[0] == 0 < min(thin.waves.box[1:])
    assert (thin.pairs.i == thin.pairs.j).any()  # images of an atom itself


def test_each_pair_is_listed_once_in_the_block_of_its_species():
    atoms = skew_cell()
    atoms = atoms[np.argsort(atoms.numbers, kind="stable")]
    species = np.unique(atoms.numbers, return_inverse=True)[1]
    pairs = neighbour_pairs(atoms.positions, atoms.cell.array, atoms.pbc, 9.0)
    found = ewald_loops.Neighbours.of(pairs, atoms.cell.array, species, 3)
    S = np.rint(np.linalg.solve(atoms.cell.array.T, found.shift)).astype(int).T
    one_way = [(i, j, *s) for i, j, s in zip(found.i.tolist(), found.j.tolist(), S.tolist(), strict=True)]
    back = [(j, i, *(-x for x in s)) for i, j, *s in one_way]
    assert len({*one_way, *back}) == len(pairs) == 2 * len(one_way)
    assert {*one_way, *back} == {(i, j, *s) for i, j, s in zip(pairs.i.tolist(), pairs.j.tolist(), pairs.S.tolist(),
                                                               strict=True)}
    blocks = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    for (a, b), begin, end in zip(blocks, found.first[:-1], found.first[1:], strict=True):
        assert end > begin
        assert set(species[found.i[begin:end]]) == {a}
        assert set(species[found.j[begin:end]]) == {b}


def test_waves_are_all_within_the_cutoff_and_their_products():
    atoms = skew_cell()
    calc = ElectrostaticBaseline(CHARGES, ZETA, accuracy=1e-6)
    calc.calculate(atoms)
    waves, k_cut = calc._system.waves, calc._system.splitting.k_cut
    rows = np.repeat(np.arange(len(waves.hk)), np.diff(waves.first))
    used = waves.values.any((2, 3))  # (w, 2)
    index = np.concatenate([np.column_stack([waves.hk[rows], sign * waves.l])[used[:, n]]
                            for n, sign in ((0, 1), (1, -1))])
    x, y, z = (2 * np.pi * index @ np.linalg.inv(atoms.cell.array).T).T
    np.testing.assert_allclose(np.concatenate([waves.products[used[:, n], n] for n in (0, 1)]).T,
                               [x * x, y * y, z * z, y * z, x * z, x * y], atol=1e-12)
    span = np.arange(-20, 21)
    every = np.stack([x.ravel() for x in np.meshgrid(span, span, span)], 1)
    every = every[np.linalg.norm(2 * np.pi * every @ np.linalg.inv(atoms.cell.array).T, axis=1) <= k_cut]
    stand_for = {tuple(x) for x in index.tolist()} | {tuple(-y for y in x) for x in index.tolist()}
    assert stand_for == {tuple(x) for x in every.tolist()}


def test_one_program_for_every_system():
    """A compilation lasts as long as ten thousand steps: none may be needed for other atoms, charges or cells."""
    skew_calc = ElectrostaticBaseline(CHARGES, ZETA)
    skew_calc.calculate(skew_cell())
    programs = ewald_loops._real_space, ewald_loops._reciprocal_space, ewald_loops._add_pairs, ewald_loops._add_combined
    before = [list(f.signatures) for f in programs]
    for zeta in (None, {s: 4 * z for s, z in ZETA.items()}):
        ElectrostaticBaseline(CHARGES, zeta).calculate(skew_cell())
    ElectrostaticBaseline({"Li": 0.6, "P": 1.35, "S": -0.75}, ZETA).calculate(structures.crystal())
    ElectrostaticBaseline({"Li": 0.8, "Cl": -0.8}).calculate(ROCK_SALT)
    moved = skew_cell()
    moved.set_cell(moved.cell.array @ np.diag([1.01, 0.99, 1.02]), scale_atoms=True)
    skew_calc.calculate(moved)
    assert [list(f.signatures) for f in programs] == before


def test_atoms_at_one_place_are_found_near():
    atoms = skew_cell()
    calc = ElectrostaticBaseline(CHARGES, ZETA)
    calc.calculate(atoms)
    s = calc._system
    positions = np.ascontiguousarray(atoms.positions[s.order].T)
    positions[:, 1] = positions[:, 0]
    pairs = neighbour_pairs(positions.T, atoms.cell.array, atoms.pbc, s.splitting.r_cut)
    found = ewald_loops.lattice_sum(positions, s.inverse, s.q, s.own, ewald_loops.Neighbours.of(
        pairs, atoms.cell.array, s.species, 3), s.radial, s.waves, s.first)
    assert found.nearest == 0
