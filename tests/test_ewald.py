"""The lattice sum against Madelung constants, its own definition, and differences."""
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import read
from scipy.special import erfc

from esgap import ElectrostaticBaseline, claims, data_path, ewald, realspace, slater
from esgap.charges import qeq_exponents
from esgap.neighbours import neighbour_pairs

CHARGES = {"Li": 0.6, "P": 1.05, "S": -0.75}
ZETA = {"Li": 0.47, "P": 0.67, "S": 0.70}


def skew_cell():
    """Li2PS2.. rattled in a skew cell with one axis shorter than the cutoff; neutral with CHARGES."""
    rng = np.random.default_rng(7)
    symbols = ["Li"] * 4 + ["P"] * 3 + ["S"] * 6 + ["Li"] * 2 + ["S"] * 3
    cell = np.array([[7.0, 0.4, -0.3], [1.9, 4.1, 0.5], [-2.2, 1.0, 8.3]])
    grid = np.array([(x, y, z) for x in range(3) for y in range(2) for z in range(3)]) / [3, 2, 3]
    atoms = Atoms(symbols, scaled_positions=grid + 0.02 * rng.normal(size=(18, 3)), cell=cell, pbc=True)
    return atoms


MADELUNG = claims.literature("madelung")


@pytest.mark.parametrize("formula", MADELUNG)
@pytest.mark.parametrize("a", [2.0, 6.0, 20.0])
def test_madelung_constants_with_default_settings(formula, a):
    known = MADELUNG[formula]
    atoms = bulk(formula, known["lattice"], a=a)
    atoms.calc = ElectrostaticBaseline(known["charges"])
    constant = -atoms.get_potential_energy() * known["nearest"] * a / ewald.COULOMB
    assert constant == pytest.approx(known["constant"], rel=1e-8)


def test_madelung_constants_by_series_of_closed_form():
    """NaCl, Benson: 12 pi sum sech^2. CsCl through Born's basic potential b. The others by superposing lattices.

    Formulas as in OEIS A085469 and A181152. Per formula unit, E(ZnS) = [E(NaCl) + E(CsCl of half the edge)] / 2 and
    E(CaF2) = 2 E(ZnS) + E(CsCl of half the edge).
    """
    n, m = np.meshgrid(np.arange(40), np.arange(40))
    nacl = 12 * np.pi * (1 / np.cosh(np.pi / 2 * np.hypot(2 * n + 1, 2 * m + 1)) ** 2).sum()
    s = np.hypot(n + 1, m + 1)
    b = 3.5 * np.log(2) - np.pi / 2 - 4 * ((2 + (-1.0) ** (n + 1)) / (np.sinh(np.pi * s) * s)).sum()
    cscl = np.sqrt(3) * (3 * b + nacl) / 4
    zns = np.sqrt(3) / 4 * nacl + cscl / 2
    series = {"NaCl": nacl, "CsCl": cscl, "ZnS": zns, "CaF2": 2 * zns + cscl}
    assert series == pytest.approx({name: known["constant"] for name, known in MADELUNG.items()}, rel=1e-14)


@pytest.mark.parametrize("zeta", [None, ZETA, {"Li": 0.47, "P": 6.0, "S": np.inf}, {"Li": 0.7, "P": 0.71, "S": 0.7}])
def test_independent_of_the_splitting(zeta):
    atoms, results = skew_cell(), []
    for r_cut in (4.0, 5.5, 8.0, 14.0):
        splitting = ewald.choose_splitting(atoms.get_volume(), len(atoms), 1e-12, r_cut=r_cut)
        calc = ElectrostaticBaseline(CHARGES, zeta, splitting=splitting)
        calc.calculate(atoms)
        results.append(calc.results)
    for other in results[1:]:
        assert other["energy"] == pytest.approx(results[0]["energy"], rel=1e-11)
        for name in ("forces", "stress", "potential"):
            scale = np.abs(results[0][name]).max()
            np.testing.assert_allclose(other[name], results[0][name], atol=1e-10 * scale)


@pytest.mark.parametrize("accuracy", [1e-4, 1e-6, 1e-8, 1e-10])
def test_accuracy_is_what_was_asked_for(accuracy):
    atoms = skew_cell()
    got, exact = (ElectrostaticBaseline(CHARGES, ZETA, accuracy=a) for a in (accuracy, 1e-13))
    got.calculate(atoms)
    exact.calculate(atoms)
    assert got.results["energy"] == pytest.approx(exact.results["energy"], rel=accuracy)
    for name in ("forces", "stress"):
        scale = np.abs(exact.results["forces"]).max() if name == "forces" else abs(
            exact.results["energy"]) / atoms.get_volume()
        np.testing.assert_allclose(got.results[name], exact.results[name], atol=10 * accuracy * scale)


@pytest.mark.parametrize("factor", [1.0, 2.0], ids=["qeq", "compact"])
@pytest.mark.parametrize("repeat", [(1, 1, 1), (1, 2, 1)], ids=["42 atoms", "84 atoms"])
def test_accuracy_is_reached_in_the_electrolyte(factor, repeat):
    """The requested accuracy bounds the relative error of the energy and of the forces (rms), with 2 to 4 in hand."""
    atoms = read(data_path("dft/gen0.xyz"), 5) * repeat
    given, zeta = {"Li": 0.5, "P": 2.5, "S": -1.0}, {s: factor * z for s, z in qeq_exponents().items()}

    def results(accuracy):
        calc = ElectrostaticBaseline(given, zeta, accuracy=accuracy)
        calc.calculate(atoms)
        return calc.results["energy"], calc.results["forces"]

    energy, forces = results(1e-11)
    for accuracy in (1e-4, 1e-6, 1e-8):
        e, f = results(accuracy)
        assert abs(e / energy - 1) < accuracy
        assert np.linalg.norm(f - forces) < accuracy * np.linalg.norm(forces)


def test_clouds_on_the_edge_of_being_shared():
    """Exponents that differ little: their screening terms are large and cancel, wherever the splitting lies."""
    atoms, zeta, results = skew_cell(), {"Li": 0.9, "P": 1.31, "S": 1.37}, []
    splitting = ewald.choose_splitting(atoms.get_volume(), len(atoms), 1e-11, r_cut=16.0)
    for g_split in (2 * 1.34, 3.0, 0.0):
        calc = ElectrostaticBaseline(CHARGES, zeta, splitting=replace(splitting, g_split=g_split))
        calc.calculate(atoms)
        results.append(calc.results)
    for other in results[:2]:
        assert other["energy"] == pytest.approx(results[2]["energy"], rel=1e-9)
        np.testing.assert_allclose(other["forces"], results[2]["forces"], atol=1e-7)


def test_point_charge_sum_in_ten_naive_lines():
    atoms = skew_cell()
    q, alpha, cell = np.array([CHARGES[s] for s in atoms.symbols]), 0.6, atoms.cell.array
    p = neighbour_pairs(atoms.positions, cell, atoms.pbc, 11.0)
    r = np.linalg.norm(atoms.positions[p.j] - atoms.positions[p.i] + p.S @ cell, axis=1)
    expected = 0.5 * (q[p.i] * q[p.j] * erfc(alpha * r) / r).sum() - alpha / np.sqrt(np.pi) * (q**2).sum()
    n = np.array(np.meshgrid(*[np.arange(-15, 16)] * 3)).reshape(3, -1).T
    k = n[n.any(1)] @ (2 * np.pi * np.linalg.inv(cell).T)
    k2 = (k**2).sum(1)
    S = np.exp(1j * k @ atoms.positions.T) @ q
    expected += 2 * np.pi / atoms.get_volume() * (np.exp(-k2 / 4 / alpha**2) / k2 * abs(S) ** 2).sum()
    atoms.calc = ElectrostaticBaseline(CHARGES, accuracy=1e-11)
    assert atoms.get_potential_energy() == pytest.approx(ewald.COULOMB * expected, rel=1e-10)


def test_clouds_are_point_charges_plus_the_plain_screening_sum():
    # J - 1/r summed over all images by brute force: what sharing the screening between the two spaces must not change
    atoms = skew_cell()
    q = np.array([CHARGES[s] for s in atoms.symbols])
    p = neighbour_pairs(atoms.positions, atoms.cell.array, atoms.pbc, 32.0)
    r = np.linalg.norm(atoms.positions[p.j] - atoms.positions[p.i] + p.S @ atoms.cell.array, axis=1)
    expected, symbols = 0.0, np.array(atoms.get_chemical_symbols())
    for a in ZETA:
        for b in ZETA:
            of = (symbols[p.i] == a) & (symbols[p.j] == b)
            s = 1 / r[of] - slater.coulomb_integral(r[of], ZETA[a], ZETA[b])
            expected -= 0.5 * ewald.COULOMB * float((q[p.i] * q[p.j])[of] @ s)
    point, cloud = (ElectrostaticBaseline(CHARGES, z, accuracy=1e-11).get_potential_energy(atoms) for z in (None, ZETA))
    assert cloud - point == pytest.approx(expected, abs=1e-7)


def test_isolated_pair():
    atoms = Atoms("LiCl", positions=[[0, 0, 0], [0, 0, 2.4]], cell=3 * [120.0], pbc=True)
    atoms.calc = ElectrostaticBaseline({"Li": 0.8, "Cl": -0.8}, {"Li": 0.5, "Cl": 0.9}, accuracy=1e-6)
    expected = -0.64 * ewald.COULOMB * float(slater.coulomb_integral(2.4, 0.5, 0.9))
    # images: the dipole in its own periodic field, -2 pi p^2 / 3V for a cubic cell under tinfoil boundaries
    expected -= ewald.COULOMB * 2 * np.pi / 3 * (0.8 * 2.4) ** 2 / 120**3
    assert atoms.get_potential_energy() == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("compact", [1, 4])
def test_derivatives_stated_by_hand_are_those_of_jax(compact):
    """Of both spaces, as replicas use them."""
    atoms = skew_cell()
    atoms = atoms[np.argsort(atoms.numbers, kind="stable")]
    q, counts = np.array([CHARGES[s] for s in atoms.symbols]), tuple(np.unique(atoms.numbers, return_counts=True)[1])
    splitting = ewald.choose_splitting(atoms.get_volume(), len(atoms), 1e-10)
    screening = realspace.Screening.of([compact * z for z in ZETA.values()], splitting.g_split)
    box = ewald.index_box(atoms.cell.array, splitting.k_cut)
    kernel = ewald.reciprocal_kernel(atoms.cell.array, splitting.alpha, splitting.k_cut, screening, box)
    where = jnp.asarray(atoms.get_scaled_positions(wrap=False).T)
    energy, (by_positions, by_charges) = jax.value_and_grad(ewald.reciprocal_space_energy, argnums=(0, 1))(
        where, jnp.asarray(q), kernel, counts, box)
    smooth = ewald.reciprocal_space(where, q, kernel, counts, box)
    assert 0.5 * q @ smooth.potential == pytest.approx(float(energy), rel=1e-13)
    np.testing.assert_allclose(smooth.gradient, by_positions, atol=1e-12)
    np.testing.assert_allclose(smooth.potential, by_charges, atol=1e-12)

    radial = realspace.radial_functions(splitting.alpha, splitting.r_cut, screening)
    assert (len(radial.rates) > 0) == (compact > 1)
    r = jnp.linspace(0.8, splitting.r_cut, 301)
    for a, b in [(0, 0), (0, 1), (1, 2), (2, 2)]:
        of_pair = realspace.Radial(radial.r_cut, *(x[..., a, b] for x in radial[1:]))
        slope = jax.vmap(jax.grad(lambda x, f=of_pair: realspace.interaction(x, f)[0]))(r)
        np.testing.assert_allclose(realspace.interaction(r, of_pair)[1], slope, atol=1e-12)


def test_cosine_of_turns():
    u = np.linspace(-40, 40, 9973)
    np.testing.assert_allclose(ewald.cos_turns(u), np.cos(2 * np.pi * (u - np.round(u))), rtol=0, atol=4e-15)
    slope = jax.vmap(jax.grad(ewald.cos_turns))(jnp.asarray(u))
    np.testing.assert_allclose(slope, -2 * np.pi * np.sin(2 * np.pi * (u - np.round(u))), rtol=0, atol=2e-13)


def test_accuracy_out_of_range():
    with pytest.raises(ValueError, match=r"accuracy is 0\.5; choose a relative accuracy between"):
        ewald.choose_splitting(100.0, 4, accuracy=0.5)
