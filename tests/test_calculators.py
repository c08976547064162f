"""What algebra and electrostatics demand of the baseline and the field, and every error message."""
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.calculators.mixing import SumCalculator
from ase.stress import voigt_6_to_full_3x3_stress

import esgap
from esgap import ElectrostaticBaseline, UniformField
from test_ewald import CHARGES, ZETA, skew_cell


def baseline(**kwargs):
    return ElectrostaticBaseline(CHARGES, ZETA, **{"accuracy": 1e-10, **kwargs})


def field(**kwargs):
    return UniformField([0.1, -0.2, 0.3], CHARGES, **kwargs)


@pytest.mark.parametrize("make", [baseline, field, lambda: esgap.es_gap(baseline(), field())],
                         ids=["baseline", "field", "sum"])
def test_forces_and_stress_are_central_differences(make):
    atoms = skew_cell()
    calc = make()
    atoms.calc = calc
    np.testing.assert_allclose(atoms.get_forces(), calculate_numerical_forces(atoms, eps=1e-4), atol=1e-8)
    np.testing.assert_allclose(atoms.get_stress(), calculate_numerical_stress(atoms, eps=1e-5), atol=1e-8)


def test_potential_is_the_charge_derivative_and_energies_add_up():
    atoms, h = skew_cell(), 1e-4
    calc = baseline()
    calc.calculate(atoms)
    potential, energies, energy = (calc.results[k] for k in ("potential", "energies", "energy"))
    assert energies.sum() == pytest.approx(energy, rel=1e-12)

    def shifted(step):  # Li up, S down by the same total: the cell stays neutral
        n_li, n_s = (atoms.symbols == "Li").sum(), (atoms.symbols == "S").sum()
        charges = CHARGES | {"Li": CHARGES["Li"] + step / n_li, "S": CHARGES["S"] - step / n_s}
        return ElectrostaticBaseline(charges, ZETA, accuracy=1e-10).get_potential_energy(atoms)

    expected = potential[atoms.symbols == "Li"].mean() - potential[atoms.symbols == "S"].mean()
    assert (shifted(h) - shifted(-h)) / (2 * h) == pytest.approx(expected, abs=1e-7)


def test_rotation():
    atoms = skew_cell()
    turned = atoms.copy()
    turned.rotate(37, (1, 2, 3), rotate_cell=True)
    r = np.linalg.solve(atoms.cell.array, turned.cell.array)
    a, b = baseline(), baseline()
    a.calculate(atoms)
    b.calculate(turned)
    assert b.results["energy"] == pytest.approx(a.results["energy"], rel=1e-12)
    np.testing.assert_allclose(b.results["forces"], a.results["forces"] @ r, atol=1e-10)
    stress, turned_stress = (voigt_6_to_full_3x3_stress(c.results["stress"]) for c in (a, b))
    np.testing.assert_allclose(turned_stress, r.T @ stress @ r, atol=1e-12)


def test_translation_wrapping_and_permutation():
    atoms = skew_cell()
    reference = baseline()
    reference.calculate(atoms)
    e, f = reference.results["energy"], reference.results["forces"]
    moved = atoms.copy()
    moved.positions += [1.3, -20.0, 4.2]
    moved.positions[3] += 2 * atoms.cell[0] - atoms.cell[2]
    order = np.random.default_rng(1).permutation(len(atoms))
    for other, expected in ((moved, f), (atoms[order], f[order])):
        calc = baseline()
        calc.calculate(other)
        assert calc.results["energy"] == pytest.approx(e, rel=1e-11)
        np.testing.assert_allclose(calc.results["forces"], expected, atol=1e-9)


@pytest.mark.parametrize("repeat", [(2, 1, 1), (1, 2, 3)])
def test_tiling(repeat):
    atoms, n = skew_cell(), np.prod(repeat)
    small, large = baseline(), baseline()
    small.calculate(atoms)
    large.calculate(atoms * repeat)
    assert large.results["energy"] == pytest.approx(n * small.results["energy"], rel=1e-9)
    np.testing.assert_allclose(large.results["forces"], np.tile(small.results["forces"], (n, 1)), atol=1e-8)
    np.testing.assert_allclose(large.results["stress"], small.results["stress"], atol=1e-9)


def test_results_do_not_depend_on_the_way_there():
    """Skin and list rebuilds only save time."""
    rng, atoms, walker = np.random.default_rng(3), skew_cell(), baseline()
    for step in range(60):
        atoms.positions += 0.04 * rng.normal(size=(len(atoms), 3))
        walker.calculate(atoms)
        if step % 20 == 19:
            fresh = baseline(skin=0.0)
            fresh.calculate(atoms)
            assert walker.results["energy"] == pytest.approx(fresh.results["energy"], rel=1e-12)
            np.testing.assert_allclose(walker.results["forces"], fresh.results["forces"], atol=1e-10)
    assert 1 < walker._system.neighbours.n_rebuilds < 60


def test_field_work_and_branch():
    atoms = skew_cell()
    calc = UniformField([0, 0, 0.3], CHARGES, reference=atoms)
    assert calc.get_potential_energy(atoms) == pytest.approx(0.0, abs=1e-14)
    up, image = atoms.copy(), atoms.copy()
    up.positions[0, 2] += 1.5  # Li, +0.6 e
    assert calc.get_potential_energy(up) == pytest.approx(-0.6 * 0.3 * 1.5)
    np.testing.assert_allclose(calc.get_forces(up)[0], [0, 0, 0.6 * 0.3])
    image.positions[0] += atoms.cell[2]  # the same crystal, another branch: U changes by -q E.R
    assert calc.get_potential_energy(image) == pytest.approx(-0.6 * 0.3 * atoms.cell[2, 2])


def test_field_needs_no_reference_for_a_neutral_cell():
    atoms = skew_cell()
    calc, shifted = field(), atoms.copy()
    shifted.positions += [3.0, -1.0, 7.0]
    assert calc.get_potential_energy(shifted) == pytest.approx(calc.get_potential_energy(atoms), abs=1e-12)
    molecule = Atoms("LiCl", positions=[[0, 0, 0], [0, 0, 2.0]])
    u = UniformField([0, 0, 0.1], {"Li": 1, "Cl": -1})
    assert u.get_potential_energy(molecule) == pytest.approx(0.2)
    assert "stress" not in u.results


def test_sum_with_field_is_the_sum():
    atoms = skew_cell()
    both = esgap.es_gap(baseline(), field(), field())
    assert both.get_potential_energy(atoms) == pytest.approx(
        baseline().get_potential_energy(atoms) + 2 * field().get_potential_energy(atoms), rel=1e-12)


class Counting(UniformField):
    asked = 0

    def calculate(self, *args, **kwargs):
        self.asked += 1
        super().calculate(*args, **kwargs)


def test_a_sum_asks_each_term_once_for_what_it_has_not_seen():
    atoms, terms = skew_cell(), [Counting([0, 0, 0.1], CHARGES), baseline()]
    total, another = esgap.calculators.QuickSum(terms), esgap.calculators.QuickSum(terms[:1])
    atoms.calc = total
    for _ in range(3):
        forces, _ = atoms.get_forces(), atoms.get_stress()
        np.testing.assert_allclose(forces, sum(t.get_property("forces", atoms) for t in terms), atol=1e-12)
        assert another.get_property("energy", atoms) == terms[0].results["energy"]
        atoms.positions += 0.02 * np.arange(3)
        atoms.positions[0] += 0.03
    assert terms[0].asked == 3


def test_a_sum_that_has_failed_begins_anew():
    atoms = skew_cell()
    atoms.calc = esgap.calculators.QuickSum([field(), baseline()])
    before, positions = atoms.get_potential_energy(), atoms.positions.copy()
    atoms.positions[1] = atoms.positions[0] + 1e-4
    for _ in range(2):
        with pytest.raises(ValueError, match=r"atoms 0 and 1 are 0\.0001.* A apart"):
            atoms.get_potential_energy()
    atoms.positions = positions
    assert atoms.get_potential_energy() == pytest.approx(before, rel=1e-12)


def test_sum_has_all_that_its_terms_have_and_is_ases_sum():
    atoms, moved = skew_cell(), skew_cell()
    moved.rattle(0.1, seed=1)
    ours, ases = (make([baseline(), field()]) for make in (esgap.calculators.QuickSum, SumCalculator))
    for a in (atoms, moved, atoms):
        ours.calculate(a, ["forces"])
        for name in ("energy", "free_energy", "energies", "forces", "stress"):
            np.testing.assert_array_equal(ours.results[name], ases.get_property(name, a))
    molecule = Atoms("LiCl", positions=[[0, 0, 0], [0, 0, 2.0]])
    alone = esgap.calculators.QuickSum([UniformField([0, 0, 0.1], {"Li": 1, "Cl": -1})] * 2)
    assert alone.get_potential_energy(molecule) == pytest.approx(0.4)
    with pytest.raises(PropertyNotImplementedError):
        alone.get_stress(molecule)


def broken(**changes):
    atoms = skew_cell()
    for name, value in changes.items():
        setattr(atoms, name, value)
    return atoms


def coinciding():
    atoms = skew_cell()
    atoms.positions[5] = atoms.positions[2] + atoms.cell[1]
    return atoms


def not_finite():
    atoms = skew_cell()
    atoms.positions[4, 1] = np.nan
    return atoms


def one_atom_less():
    return skew_cell()[:-1]


@pytest.mark.parametrize(("atoms", "match"), [
    (one_atom_less(), r"charges sum to \+0\.75 e over 17 atoms; the Ewald sum needs a neutral cell: adjust `charges`"),
    (broken(pbc=[True, True, False]), r"pbc is \[True, True, False\]; the Ewald sum needs a cell periodic in all dir"),
    (broken(cell=[[5, 0, 0], [0, 5, 0], [5, 5, 0]]), "cell is singular, rows .* give three independent vectors"),
    (not_finite(), "position of atom 4 is .*nan.*: positions must be finite"),
    (coinciding(), "atoms 2 and 5 are .* A apart: remove one of them"),
    (Atoms("NaCl", positions=[[0, 0, 0], [2, 2, 2]], cell=[4, 4, 4], pbc=True),
     "no charge for Cl, Na; given are Li, P, S: add it"),
])
def test_baseline_refuses(atoms, match):
    with pytest.raises(ValueError, match=match):
        baseline().get_potential_energy(atoms)


def test_baseline_refuses_wrong_settings():
    with pytest.raises(ValueError, match=r"zeta of Li is -0\.4 1/A; it must be positive"):
        ElectrostaticBaseline(CHARGES, ZETA | {"Li": -0.4})
    with pytest.raises(ValueError, match="'lithium' is not a chemical symbol"):
        ElectrostaticBaseline({"lithium": 1.0})
    with pytest.raises(ValueError, match="no zeta for P; given are Li, S: add it"):
        ElectrostaticBaseline(CHARGES, {"Li": 0.5, "S": 0.5}).get_potential_energy(skew_cell())
    with pytest.raises(ValueError, match=r"cutoff is 0\.0 A and skin 0\.5 A"):
        esgap.neighbours.SkinList(0.0)


def test_field_refuses():
    with pytest.raises(ValueError, match=r"field is \[0, 1\]; give three finite components in V/A"):
        UniformField([0, 1], CHARGES)
    with pytest.raises(ValueError, match=r"charges sum to \+0\.75 e .* depends on the origin"):
        field().get_potential_energy(one_atom_less())
    with pytest.raises(ValueError, match="they must be the same atoms in the same order"):
        field(reference=skew_cell()[::-1]).get_potential_energy(skew_cell())
    with pytest.raises(ValueError, match="positions must be finite"):
        field().get_potential_energy(not_finite())
