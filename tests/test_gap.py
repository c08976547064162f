"""GAP evaluation: equal to quippy, to its own derivatives, and to what symmetry demands."""
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.mixing import SumCalculator
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet

from esgap import gap as core
from esgap.gap import SparseGAP, Term, descriptors
from esgap.gap_calculator import GAP
from esgap.soap import Soap
from esgap.structures import crystal
from gap_cases import gap_fit_model, quippy_results, random_cell, strained, training_frames

COMMON = "covariance_type=dot_product sparse_method=cur_points add_species=T"
MODELS = {
    "usual": f"soap n_max=3 l_max=2 cutoff=4.0 atom_sigma=0.5 zeta=4 delta=1 n_sparse=15 {COMMON}",
    "narrow": "soap n_max=6 l_max=3 cutoff=3.5 cutoff_transition_width=1.0 atom_sigma=0.3 central_weight=0.3 zeta=2 "
              f"delta=0.7 n_sparse=10 {COMMON}",
    "broken power": f"soap n_max=3 l_max=2 cutoff=4.0 atom_sigma=0.5 zeta=2.5 covariance_sigma0=0.2 delta=1 "
                    f"n_sparse=10 {COMMON}",
    "two descriptors": f"soap n_max=3 l_max=1 cutoff=3.0 atom_sigma=0.4 zeta=2 delta=1 n_sparse=8 {COMMON} : "
                       f"soap n_max=4 l_max=1 cutoff=4.5 atom_sigma=0.7 zeta=3 delta=0.3 n_sparse=8 {COMMON}",
}


@pytest.fixture(scope="module")
def xml(tmp_path_factory):
    """Models fitted by gap_fit; "two species" knows only P and S, with the points inside the XML."""
    frames = training_frames()
    paths = {k: gap_fit_model(tmp_path_factory.mktemp("gap"), text, frames, "e0_method=isolated")
             for k, text in MODELS.items()}
    paths["two species"] = gap_fit_model(tmp_path_factory.mktemp("gap"), MODELS["usual"], training_frames("P4S8"),
                                         "e0={P:-1.5:S:-0.25}", "sparse_separate_file=F")
    return paths


@pytest.fixture(scope="module")
def calc(xml):
    return GAP.load(xml["usual"])


def results(calc, atoms):
    calc.calculate(atoms)
    return calc.results


def assert_equals_quippy(calc, path, atoms):
    ours, theirs = results(calc, atoms), quippy_results(path, atoms)
    for name, tolerance in (("energy", 1e-9), ("energies", 1e-9), ("forces", 1e-9), ("stress", 1e-10)):
        assert np.abs(ours[name] - theirs[name]).max() < tolerance, name


@pytest.mark.parametrize("name", [*MODELS, "two species"])
def test_equals_quippy(xml, name):
    atoms = random_cell("P4S8" if name == "two species" else "Li4P2S6", seed=9)
    calc, rng = GAP.load(xml[name]), np.random.default_rng(1)
    assert_equals_quippy(calc, xml[name], atoms)
    atoms = strained(atoms, 0.05 * rng.normal(size=(3, 3)))
    atoms.rattle(0.1, seed=1)
    assert_equals_quippy(calc, xml[name], atoms)


@pytest.mark.parametrize("repeat", [(1, 1, 3), (3, 4, 4)])
def test_large_cells_equal_quippy(calc, xml, repeat):
    """36 atoms in one chunk, 576 in six."""
    atoms = random_cell(seed=5).repeat(repeat)
    atoms.rattle(0.05, seed=2)
    assert_equals_quippy(calc, xml["usual"], atoms)


def test_element_outside_the_model_is_ignored_as_in_quippy(xml):
    assert_equals_quippy(GAP.load(xml["two species"]), xml["two species"], random_cell(seed=3))


@pytest.mark.parametrize("atoms", [
    Atoms("S", cell=[3.1, 3.3, 3.5], pbc=True),                                # sees only its own images
    Atoms("LiPS", positions=[[0, 0, 0], [2.2, 0, 0], [0, 2.4, 0]], cell=[12, 12, 12], pbc=True),
    Atoms("LiPS", positions=[[0, 0, 0], [2.2, 0, 0], [0, 2.4, 0]], cell=[4, 15, 15], pbc=[True, False, False]),
], ids=["one atom", "molecule", "chain"])
def test_special_cells_equal_quippy(calc, xml, atoms):
    assert_equals_quippy(calc, xml["usual"], atoms)


def test_atoms_without_neighbours(calc):
    far = Atoms("Li2", positions=[[0, 0, 0], [20, 0, 0]], cell=[40, 40, 40], pbc=True)
    out = results(calc, far)
    assert np.all(out["forces"] == 0)
    assert np.all(out["stress"] == 0)
    assert out["energy"] == pytest.approx(2 * -3.0, abs=0.01)  # e0 of the labels, which the fit also saw


def test_no_cell_gives_no_stress(calc):
    out = results(calc, Atoms("LiS", positions=[[0, 0, 0], [0, 0, 2.3]]))
    assert "stress" not in out
    assert np.allclose(out["forces"].sum(0), 0, atol=1e-12)


def test_forces_are_derivatives(calc):
    atoms, h = random_cell(seed=4), 1e-4
    forces = results(calc, atoms)["forces"]
    for i, x in ((0, 0), (4, 1), (7, 2)):
        energies = []
        for step in (h, -h):
            moved = atoms.copy()
            moved.positions[i, x] += step
            energies.append(results(calc, moved)["energy"])
        assert forces[i, x] == pytest.approx(-(energies[0] - energies[1]) / (2 * h), abs=2e-6)


def test_stress_is_a_derivative(calc):
    atoms, h = random_cell(seed=4), 1e-4
    stress = results(calc, atoms)["stress"]
    for voigt, (a, b) in enumerate(((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))):
        e = np.zeros((3, 3))
        e[a, b] += h / 2
        e[b, a] += h / 2
        up, down = (results(calc, strained(atoms, s * e))["energy"] for s in (1, -1))
        assert stress[voigt] == pytest.approx((up - down) / (2 * h) / atoms.get_volume(), abs=1e-7)


def test_symmetries(calc):
    atoms, rng = random_cell(seed=6), np.random.default_rng(0)
    first = results(calc, atoms)
    turned = atoms.copy()
    turned.rotate(40, (1, 2, 3), rotate_cell=True)
    turned.positions += [0.3, -7.0, 2.0]
    order = rng.permutation(len(atoms))
    shifted = atoms.copy()
    shifted.positions += rng.integers(-2, 3, (len(atoms), 3)) @ atoms.cell.array
    for other, take in ((turned, slice(None)), (atoms[order], order), (shifted, slice(None))):
        out = results(calc, other)
        assert out["energy"] == pytest.approx(first["energy"], abs=1e-9)
        sizes, expected = (np.linalg.norm(x["forces"], axis=1) for x in (out, first))
        assert np.allclose(sizes, expected[take], atol=1e-9)
    tiled = results(calc, atoms.repeat((2, 1, 1)))
    assert tiled["energy"] == pytest.approx(2 * first["energy"], abs=1e-9)
    assert np.allclose(tiled["forces"][:len(atoms)], first["forces"], atol=1e-9)


def test_energies_are_shares(calc):
    out = results(calc, random_cell(seed=6))
    assert out["energies"].sum() == pytest.approx(out["energy"], abs=1e-10)
    assert np.allclose(out["forces"].sum(0), 0, atol=1e-10)


def test_energy_is_smooth_through_the_cutoff(calc):
    r = np.linspace(3.3, 4.2, 91)
    dimer = [results(calc, Atoms("LiS", positions=[[0, 0, 0], [0, 0, x]], cell=[20] * 3, pbc=True)).copy() for x in r]
    energy, force = np.array([d["energy"] for d in dimer]), np.array([d["forces"][1, 2] for d in dimer])
    slope = -np.gradient(energy, r, edge_order=2)
    assert np.abs(slope - force).max() < 0.02 * np.abs(force).max()
    assert np.abs(np.diff(force)).max() < 0.2 * np.abs(force).max()
    assert np.all(force[r > 4.0] == 0)
    assert np.abs(force[np.abs(r - 4.0) < 1e-3]).max() < 1e-6


def test_chunks_do_not_change_the_result(calc):
    atoms = random_cell(seed=7).repeat((2, 1, 1))
    whole, parts = results(calc, atoms), results(GAP(calc.model, chunk_rows=7), atoms)
    assert np.allclose(whole["forces"], parts["forces"], atol=1e-11)
    assert np.allclose(whole["stress"], parts["stress"], atol=1e-12)


@pytest.mark.parametrize("threads", [2, 3, 5])
def test_threads_do_not_change_the_result(calc, threads):
    """24 atoms in 4 chunks of 7 rows or less: 2 threads have 2 each, 3 have to be given 6, 5 find no more than 4."""
    atoms = random_cell(seed=7).repeat((2, 1, 1))
    one, several = (GAP(calc.model, chunk_rows=7, threads=n) for n in (1, threads))
    for _ in range(3):  # the first compiles, before there are threads
        atoms.rattle(0.02, rng=np.random.default_rng(0))
        expected, found = results(one, atoms), results(several, atoms)
        for name in ("energy", "energies", "forces", "stress"):
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-12, atol=1e-12)
    layout = several._layout
    assert len(layout.shares) == min(threads, 4)
    assert sorted(k for s in layout.shares for k in range(len(layout.order))[s]) == list(range(len(layout.order)))


def test_table_grows_when_it_overflows(calc):
    """Compression brings more neighbours into the cutoff than the padded table has slots for."""
    atoms, grown = random_cell(seed=8), GAP(calc.model)
    before = results(grown, atoms) and grown._pairs.blocks
    dense = strained(atoms, -0.15 * np.eye(3))
    assert np.allclose(results(grown, dense)["forces"], results(GAP(calc.model), dense)["forces"], atol=1e-10)
    assert sum(grown._pairs.blocks) > sum(before)
    assert np.allclose(results(grown, atoms)["forces"], results(GAP(calc.model), atoms)["forces"], atol=1e-10)


def test_molecular_dynamics_compiles_once_and_conserves_energy(calc):
    atoms = random_cell(seed=1)
    atoms.calc = GAP(calc.model)
    atoms.set_velocities(0.003 * np.random.default_rng(0).normal(size=(len(atoms), 3)))  # about 300 K
    atoms.get_potential_energy()
    compiled, lists = core.energies_and_gradient._cache_size(), atoms.calc.neighbours.n_rebuilds
    energies = []
    md = VelocityVerlet(atoms, 0.5 * units.fs)
    md.attach(lambda: energies.append(atoms.get_total_energy()))
    md.run(200)
    assert core.energies_and_gradient._cache_size() <= compiled + 1  # one more if the first table was too narrow
    assert atoms.calc.neighbours.n_rebuilds > lists
    assert np.ptp(energies) < 0.02


class Springs(Calculator):
    """Every atom bound to its place, 1.7 eV/A^2: at 800 K it is 0.35 A away (root mean square)."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        if not hasattr(self, "places"):
            self.places = self.atoms.positions.copy()
        off = self.atoms.positions - self.places
        self.results = {"energy": 0.85 * (off**2).sum(), "forces": -1.7 * off}


def test_ten_thousand_steps_compile_once():
    """42 atoms at 800 K, from the crystal: the program of the first step serves them all."""
    soap, atoms = Soap(2, 1, 0.5, 4.0, species_Z=(3, 15, 16)), crystal()
    rng = np.random.default_rng(0)
    terms = tuple(Term(replace(soap, Z=Z), rng.random((3, soap.n_components)) / 10, rng.normal(size=3), 0.1, 2.0)
                  for Z in soap.species_Z)
    calc = GAP(SparseGAP(terms), skin=1.0)
    atoms.calc = SumCalculator([Springs(), calc])
    thermalize_momenta(atoms, temperature_K=1600, rng=rng)  # half of it becomes potential energy
    before = core.energies_and_gradient._cache_size()
    atoms.get_forces()
    first, lists = core.energies_and_gradient._cache_size(), calc.neighbours.n_rebuilds
    temperature, md = [], VelocityVerlet(atoms, 2 * units.fs)
    md.attach(lambda: temperature.append(atoms.get_temperature()), interval=100)
    md.run(10_000)
    assert first == before + 1
    assert core.energies_and_gradient._cache_size() == first
    assert calc.neighbours.n_rebuilds > lists + 100
    assert 600 < np.mean(temperature) < 1000


def test_results_do_not_depend_on_history(calc):
    a, b = random_cell(seed=1), random_cell("LiPS", seed=2)
    first = results(GAP(calc.model), a)["forces"]
    used = GAP(calc.model)
    for atoms in (a, b):
        results(used, atoms)
    assert np.allclose(results(used, a)["forces"], first, atol=1e-12)
    swapped = a.copy()
    swapped.numbers = a.numbers[::-1]  # same places, other elements: the neighbour list alone sees no difference
    assert np.allclose(results(used, swapped)["forces"], results(GAP(calc.model), swapped)["forces"], atol=1e-12)


def test_what_is_begun_serves_only_the_atoms_it_was_begun_for(calc):
    one, other, used = random_cell(seed=1), random_cell("LiPS", seed=2), GAP(calc.model)
    for atoms in (other, one, other):
        used.atoms = one
        used.begin()
        used.calculate(atoms if atoms is other else None)  # None: the atoms that it has
        np.testing.assert_array_equal(used.results["forces"], results(GAP(calc.model), atoms)["forces"])


@pytest.fixture(scope="module")
def many_functions():
    """A model with more radial functions than the cutoff has room for, and weights that nearly cancel, as fits have."""
    soaps = [Soap(9, 3, 0.7, 4.0, cutoff_dexp=4, cutoff_scale=2.5, species_Z=(3, 15, 16), Z=Z) for Z in (3, 15, 16)]
    empty = [Term(s, np.zeros((1, s.n_components)), np.zeros(1), 1.0, 4.0) for s in soaps]
    frames = [random_cell(seed=s) for s in range(12)]
    P = [descriptors(empty, a.positions, a.cell.array, a.pbc, a.numbers) for a in frames]
    terms, rng = [], np.random.default_rng(0)
    for k, t in enumerate(empty):
        X = np.concatenate([p[k][0] for p in P])
        alpha = rng.normal(size=len(X))
        terms.append(replace(t, X=X, alpha=1e3 * (alpha - alpha.mean())))
    return SparseGAP(tuple(terms))


def test_radial_functions_left_out_do_not_count(many_functions):
    """What is left out is small by the tolerance, for energy, forces and stress alike."""
    atoms, lengths = random_cell(seed=20), []
    exact = results(GAP(many_functions, radial_tolerance=0.0), atoms)
    default = results(GAP(many_functions), atoms)
    assert np.abs(default["forces"] - exact["forces"]).max() < 1e-11 * np.abs(exact["forces"]).max()
    for tolerance, allowed in ((1e-9, 1e-8), (1e-6, 1e-5), (1e-4, 1e-3)):
        calc = GAP(many_functions, radial_tolerance=tolerance)
        lengths.append(calc._params[0][0].X.shape[1])
        for name in ("energy", "forces", "stress"):
            scale = np.abs(exact["forces"]).max() if name == "energy" else np.abs(exact[name]).max()
            assert np.abs(results(calc, atoms)[name] - exact[name]).max() < allowed * scale, (tolerance, name)
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] < GAP(many_functions, radial_tolerance=0.0)._params[0][0].X.shape[1]


def test_truncated_model_still_conserves_energy(many_functions):
    """Forces are derivatives of the energy of what is evaluated, not of the whole descriptor."""
    atoms, h = random_cell(seed=21), 1e-4
    atoms.calc = GAP(many_functions, radial_tolerance=1e-3)
    forces = atoms.get_forces()
    for i, x in ((0, 0), (5, 1), (11, 2)):
        ends = []
        for step in (h, -h):
            moved = atoms.copy()
            moved.positions[i, x] += step
            moved.calc = atoms.calc
            ends.append(moved.get_potential_energy())
        assert abs(-(ends[0] - ends[1]) / (2 * h) - forces[i, x]) < 1e-6 * np.abs(forces).max()


def test_single_precision(calc):
    atoms = random_cell(seed=4)
    double, single = results(calc, atoms), results(GAP(calc.model, dtype=np.float32), atoms)
    error = np.abs(double["forces"] - single["forces"]).max()
    assert 0 < error < 1e-3 * np.abs(double["forces"]).max()


def test_variance_equals_quippy(calc, xml):
    from quippy.potential import Potential
    atoms = random_cell(seed=9)
    theirs = atoms.copy()
    quippy = Potential(param_filename=str(xml["usual"]),
                       calc_args="local_gap_variance gap_variance_regularisation=0.01")
    quippy.calculate(theirs, ["energy"], ["positions", "numbers", "cell", "pbc"])
    expected = quippy.extra_results["atoms"]["local_gap_variance"]
    ours = calc.variance(atoms, regularisation=0.01)
    assert np.allclose(ours, expected, atol=1e-9)
    assert np.all(ours > 0)


def test_variance_vanishes_at_the_sparse_points(calc):
    t = calc.model.terms[0]
    k, K = t.kernel(t.X), t.kernel(t.X) + 1e-6 * np.eye(len(t.X))
    assert np.abs(t.delta**2 - np.einsum("im,mi->i", k, np.linalg.solve(K, k.T))).max() < 1e-4


def test_errors(calc):
    soap = Soap(2, 1, 0.5, 4.0)
    with pytest.raises(ValueError, match=r"sparse points have shape \(3, 5\), but 3 weights and the descriptor need"):
        Term(soap, np.zeros((3, 5)), np.zeros(3), 1.0, 2.0)
    with pytest.raises(ValueError, match="1 weights of the term for Z=0 are not finite"):
        Term(soap, np.zeros((1, soap.n_components)), np.array([np.nan]), 1.0, 2.0)
    with pytest.raises(ValueError, match=r"dtype is float16; use numpy.float64 or numpy.float32"):
        GAP(calc.model, dtype=np.float16)
    with pytest.raises(ValueError, match=r"radial_tolerance is 2.0; it must lie between 0 .* and 0.1"):
        GAP(calc.model, radial_tolerance=2.0)
    with pytest.raises(ValueError, match="threads is 0; give 1 or more, or None"):
        GAP(calc.model, threads=0)


def test_prints_itself(calc):
    assert "Z=3: 15 points, n_max 3, l_max 2, cutoff 4.0 A" in str(calc.model)
    assert isinstance(calc.model, SparseGAP)
