"""Two-body terms: equal to quippy for models that gap_fit has fitted and for ones written here, and to derivatives."""
import numpy as np
import pytest
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet

from esgap import FitSettings
from esgap import gap as core
from esgap.gap import SparseGAP
from esgap.gap_calculator import GAP
from esgap.quip import descriptor_text, parse_descriptor, read_model
from esgap.structures import crystal
from esgap.two_body import Distance2b, PairTerm
from gap_cases import gap_fit_model, quippy_results, random_cell, strained, training_frames

PAIRS = "distance_2b cutoff=4.5 covariance_type=ard_se delta=0.5 theta_uniform=0.8 n_sparse=8 sparse_method=uniform"
ANY = ("distance_2b cutoff=7.0 cutoff_transition_width=2.0 covariance_type=ard_se delta=0.1 theta_fac=0.5 n_sparse=10 "
       "sparse_method=uniform add_species=F")
SOAP = ("soap n_max=2 l_max=1 cutoff=3.5 atom_sigma=0.5 zeta=4 delta=1 n_sparse=8 covariance_type=dot_product "
        "sparse_method=cur_points add_species=T")
MODELS = {"pairs": f"{PAIRS} add_species=T", "two kinds": f"{PAIRS} add_species=T : {SOAP} : {ANY}"}
TOLERANCES = {"energy": 1e-9, "energies": 1e-9, "forces": 1e-9, "stress": 1e-10}


@pytest.fixture(scope="module")
def xml(tmp_path_factory):
    """Models fitted by gap_fit; "two species" knows only P and S, with the points inside the XML."""
    paths = {name: gap_fit_model(tmp_path_factory.mktemp("gap"), text, training_frames(n=3), "e0_method=isolated")
             for name, text in MODELS.items()}
    paths["two species"] = gap_fit_model(tmp_path_factory.mktemp("gap"), MODELS["two kinds"],
                                         training_frames("P4S8", n=3), "e0_method=isolated", "sparse_separate_file=F")
    return paths


@pytest.fixture(scope="module")
def calc(xml):
    return GAP.load(xml["two kinds"])


@pytest.fixture(scope="module")
def rattled():
    """42 atoms of the triclinic crystal."""
    atoms = crystal()
    atoms.rattle(0.1, seed=1)
    return atoms


def results(calc, atoms):
    calc.calculate(atoms)
    return calc.results


def assert_equals_quippy(calc, path, atoms):
    ours, theirs = results(calc, atoms), quippy_results(path, atoms)
    for name, tolerance in TOLERANCES.items():
        assert np.abs(ours[name] - theirs[name]).max() < tolerance, name


def pair_term(Z1=3, Z2=16, cutoff=4.5, width=0.5):
    return PairTerm(Distance2b(cutoff, width, Z1, Z2), np.array([2.1, 2.9, 4.3]), np.array([0.7, -1.3, 2.0]),
                    np.array([1.0, 1.0, 0.3]), 0.5, 0.8)


@pytest.mark.parametrize("name", [*MODELS, "two species"])
def test_equals_quippy(xml, rattled, name):
    """The crystal, which "two species" sees without lithium, also strained, and a cell smaller than the cutoff."""
    calc, strain = GAP.load(xml[name]), 0.05 * np.random.default_rng(1).normal(size=(3, 3))
    for atoms in (rattled, strained(rattled, strain), strained(random_cell(seed=9), strain)):
        assert_equals_quippy(calc, xml[name], atoms)


@pytest.mark.parametrize("atoms", [
    Atoms("S", cell=[3.1, 3.3, 3.5], pbc=True),                                # sees only its own images
    Atoms("LiPS", positions=[[0, 0, 0], [2.2, 0, 0], [0, 2.4, 0]], cell=[30, 30, 30], pbc=True),
    Atoms("LiPS", positions=[[0, 0, 0], [2.2, 0, 0], [0, 2.4, 0]], cell=[4, 25, 25], pbc=[True, False, False]),
    Atoms("Li2", positions=[[0, 0, 0], [20, 0, 0]], cell=[40, 40, 40], pbc=True),
], ids=["one atom", "molecule", "chain", "no neighbours"])
def test_special_cells_equal_quippy(xml, atoms):
    assert_equals_quippy(GAP.load(xml["pairs"]), xml["pairs"], atoms)


@pytest.mark.parametrize(("Z1", "Z2"), [(3, 16), (16, 3), (16, 16), (0, 16), (15, 0), (0, 0)])
def test_elements_of_a_pair_are_quippys(tmp_path, Z1, Z2):
    calc = GAP(SparseGAP((), pair_terms=(pair_term(Z1, Z2), pair_term(Z1, Z2, 5.0, 5.0))))
    calc.save(tmp_path / "gap.xml")
    assert_equals_quippy(calc, tmp_path / "gap.xml", random_cell(seed=4))


@pytest.mark.parametrize("name", ["pairs", "two kinds"])
def test_variance_equals_quippy(xml, rattled, name):
    from quippy.potential import Potential
    theirs = rattled.copy()
    quippy = Potential(param_filename=str(xml[name]), calc_args="local_gap_variance gap_variance_regularisation=0.01")
    quippy.calculate(theirs, ["energy"], ["positions", "numbers", "cell", "pbc"])
    expected = quippy.extra_results["atoms"]["local_gap_variance"]
    assert np.allclose(GAP.load(xml[name]).variance(rattled, regularisation=0.01), expected, atol=1e-9)


def test_forces_and_stress_are_derivatives(calc):
    atoms, h = random_cell(seed=4), 1e-4
    found = results(calc, atoms).copy()

    def slope(change):
        up, down = (results(calc, change(s * h))["energy"] for s in (1, -1))
        return (up - down) / (2 * h)

    def moved(i, x):
        def change(step):
            out = atoms.copy()
            out.positions[i, x] += step
            return out
        return change

    for i, x in ((0, 0), (4, 1), (7, 2)):
        assert found["forces"][i, x] == pytest.approx(-slope(moved(i, x)), abs=2e-6)
    for voigt, (a, b) in enumerate(((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))):
        e = np.zeros((3, 3))
        e[a, b] += 0.5
        e[b, a] += 0.5
        assert found["stress"][voigt] == pytest.approx(slope(lambda s, e=e: strained(atoms, s * e))
                                                       / atoms.get_volume(), abs=1e-7)


def test_energy_is_smooth_through_the_cutoff():
    calc, r = GAP(SparseGAP((), pair_terms=(pair_term(),))), np.linspace(3.8, 4.7, 181)
    dimer = [results(calc, Atoms("LiS", positions=[[0, 0, 0], [0, 0, x]])).copy() for x in r]
    energy, force = np.array([d["energy"] for d in dimer]), np.array([d["forces"][1, 2] for d in dimer])
    assert np.abs(-np.gradient(energy, r, edge_order=2) - force).max() < 0.01 * np.abs(force).max()
    assert np.abs(np.diff(force)).max() < 0.1 * np.abs(force).max()
    assert np.all(energy[r > 4.5] == 0)
    assert np.all(force[r > 4.5] == 0)
    assert abs(force[np.abs(r - 4.5).argmin()]) < 1e-6


def test_cutoff_is_the_largest(calc):
    assert (calc.model.soap_cutoff, calc.model.cutoff) == (3.5, 7.0)
    assert calc.neighbours.cutoff == 7.0
    assert SparseGAP((), pair_terms=(pair_term(),)).soap_cutoff == 0


def test_molecular_dynamics_renews_its_pairs_and_conserves_energy(calc):
    atoms = random_cell(seed=1)
    atoms.calc = GAP(calc.model, skin=0.2)
    atoms.set_velocities(0.003 * np.random.default_rng(0).normal(size=(len(atoms), 3)))  # about 300 K
    atoms.get_potential_energy()
    compiled, energies = core.energies_and_gradient._cache_size(), []
    md = VelocityVerlet(atoms, 0.5 * units.fs)
    md.attach(lambda: energies.append(atoms.get_total_energy()))
    md.run(100)
    assert core.energies_and_gradient._cache_size() <= compiled + 1  # one more if the first table was too narrow
    assert atoms.calc.neighbours.n_rebuilds > 1
    assert np.ptp(energies) < 0.02
    assert np.allclose(atoms.get_forces(), results(GAP(calc.model), atoms)["forces"], atol=1e-11)


@pytest.mark.parametrize("name", ["model.npz", "model.xml"])
def test_save_and_load_keep_the_model(calc, rattled, tmp_path, name):
    calc.save(tmp_path / name)
    again = GAP.load(tmp_path / name)
    for a, b in zip(again.model.pair_terms, calc.model.pair_terms, strict=True):
        assert (a.descriptor, a.delta, a.theta) == (b.descriptor, b.delta, b.theta)
        for x in ("points", "alpha", "sparse_cutoff"):
            assert np.array_equal(getattr(a, x), getattr(b, x))
    assert len(again.model.terms) == 3
    if name == "model.xml":
        assert_equals_quippy(calc, tmp_path / name, rattled)


def test_other_versions_are_refused(tmp_path, monkeypatch):
    """A version that knows no two-body terms must not take a file with them for one of SOAP terms alone."""
    GAP(SparseGAP((), pair_terms=(pair_term(),))).save(tmp_path / "a.npz")
    monkeypatch.setattr("esgap.quip.FORMAT_WITH_PAIRS", "unheard of")
    with pytest.raises(ValueError, match=r"is not a potential saved by esgap \(format 'esgap SparseGAP 2'"):
        read_model(tmp_path / "a.npz")


def test_descriptor_text_reads_back():
    for d in (Distance2b(4.5), Distance2b(6.0, 1.25, 3, 16)):
        assert parse_descriptor(descriptor_text(d)) == d
    assert parse_descriptor("distance_2b cutoff=4 n_exponents=1 exponents={1} tail_exponent=0 only_inter=F") == (
        Distance2b(4.0))


@pytest.mark.parametrize(("option", "message"), [
    ("n_exponents=2", "distance_2b option n_exponents=2 is not supported, only n_exponents=1"),
    ("exponents={-1}", "distance_2b option exponents=-1 is not supported, only exponents=1"),
    ("tail_exponent=-1", "distance_2b option tail_exponent=-1 is not supported, only tail_exponent=0"),
    ("tail_range=2.0", "distance_2b option tail_range=2.0 is not supported"),
    ("only_inter=T", "distance_2b option only_inter=T is not supported, only only_inter=F"),
    ("only_intra=T", "distance_2b option only_intra=T is not supported"),
    ("resid_name=molid", r"distance_2b option resid_name=molid is not supported, only resid_name=\(none\)"),
    ("l_max=4", "distance_2b option l_max=4 is not known here: evaluate this model with quippy"),
    ("cutoff_transition_width=0", "distance_2b cutoff_transition_width is 0.0; it must be positive"),
])
def test_unsupported_options_are_refused(option, message):
    with pytest.raises(ValueError, match=message):
        parse_descriptor(f"distance_2b cutoff=4.0 {option}")
    with pytest.raises(ValueError, match="distance_2b descriptor without cutoff"):
        parse_descriptor("distance_2b Z1=3")


@pytest.mark.parametrize(("old", "new", "message"), [
    ('covariance_type="1"', 'covariance_type="3"', r"covariance_type=3 is not supported, only 1 \(ard_se\)"),
    ('signal_mean="0.0"', 'signal_mean="0.1"', "distance_2b option f0=0.1 is not supported, only f0=0"),
    ('dimensions="1"', 'dimensions="2"', "states 2 dimensions, its descriptor has 1"),
    ('n_sparseX="3"', 'n_sparseX="4"', "3 numbers of sparse points and 3 weights, expected 4 and 4"),
])
def test_foreign_xml(tmp_path, old, new, message):
    path = tmp_path / "gap.xml"
    GAP(SparseGAP((), pair_terms=(pair_term(),))).save(path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        read_model(path)


def test_errors():
    one = np.ones(1)
    with pytest.raises(ValueError, match=r"weights \(1,\) and cutoff values \(2,\): give one number a sparse point"):
        PairTerm(Distance2b(4.0), one, one, np.ones(2), 1.0, 1.0)
    with pytest.raises(ValueError, match="1 weights of the two-body term for Z1=3, Z2=16 are not finite"):
        PairTerm(Distance2b(4.0, 0.5, 3, 16), one, np.nan * one, one, 1.0, 1.0)
    with pytest.raises(ValueError, match="SOAP terms alone are fitted here: fit distance_2b terms with the program"):
        FitSettings(Distance2b(4.0))


def test_prints_itself(calc):
    assert "pairs Z1=3, Z2=16: 8 points, cutoff 4.5 A, delta 0.5 eV, theta 0.8 A" in str(calc.model)
