"""Files of potentials: what is written reads back, here and in quippy; what is not understood is refused by name."""
import os
from dataclasses import replace

import numpy as np
import pytest

from esgap.gap import SparseGAP, Term
from esgap.gap_calculator import GAP
from esgap.quip import descriptor_text, from_quip, parse_descriptor, read_model, to_quip, write_model
from esgap.soap import Soap, points_of
from gap_cases import gap_fit_model, quippy_results, random_cell, training_frames

BASE = "soap n_max=3 l_max=2 cutoff=4.0 atom_sigma=0.5"


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    text = f"{BASE} zeta=2 delta=0.7 covariance_type=dot_product n_sparse=5 sparse_method=cur_points add_species=T"
    return gap_fit_model(tmp_path_factory.mktemp("gap"), text, training_frames(n=2), "e0_method=isolated")


@pytest.fixture
def folder(fitted, tmp_path):
    """A copy of the fitted files that a test may damage."""
    for file in fitted.parent.glob("gap.xml*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def edit(folder, old, new):
    text = (folder / "gap.xml").read_text()
    assert old in text
    (folder / "gap.xml").write_text(text.replace(old, new, 1))
    return folder / "gap.xml"


def test_written_xml_is_quippys(fitted, tmp_path):
    model = read_model(fitted)
    write_model(model, tmp_path / "mine.xml")
    atoms = random_cell(seed=9)
    ours, old, new = GAP(model), quippy_results(fitted, atoms), quippy_results(tmp_path / "mine.xml", atoms)
    ours.calculate(atoms)
    for name in ("energy", "forces", "stress"):
        assert np.abs(new[name] - old[name]).max() < 1e-11
        assert np.abs(ours.results[name] - new[name]).max() < 1e-9


@pytest.mark.parametrize("name", ["model.npz", "model.xml", "model"])
def test_save_and_load_keep_the_model(fitted, tmp_path, name):
    calc = GAP.load(fitted)
    calc.save(tmp_path / name)
    again = GAP.load(tmp_path / name).model
    assert again.e0 == calc.model.e0
    for a, b in zip(again.terms, calc.model.terms, strict=True):
        assert (a.soap, a.delta, a.zeta) == (b.soap, b.delta, b.zeta)
        assert np.abs(a.X - b.X).max() <= (0 if name == "model.xml" else 4e-15)
        assert np.array_equal(a.alpha, b.alpha)
    assert not list(tmp_path.glob("*.tmp"))


def test_npz_keeps_points_that_are_no_environments(tmp_path):
    soap, rng = Soap(3, 2, 0.5, 4.0, species_Z=(3, 16)), np.random.default_rng(0)
    model = SparseGAP((Term(soap, rng.normal(size=(4, soap.n_components)), rng.normal(size=4), 1.0, 2.0),))
    write_model(model, tmp_path / "a.npz")
    assert np.array_equal(read_model(tmp_path / "a.npz").terms[0].X, model.terms[0].X)


def test_npz_of_a_large_model_is_small(tmp_path):
    """750 points for each of three elements at n_max 8, l_max 4: less than 20 MB, the points as they were."""
    soap, rng, terms = Soap(8, 4, 0.5, 6.0, species_Z=(3, 15, 16)), np.random.default_rng(0), []
    for Z in soap.species_Z:
        X = points_of(rng.normal(size=(750, soap.n_channels, 25)), soap)
        terms.append(Term(replace(soap, Z=Z), X, rng.normal(size=750), 1.0, 4.0))
    write_model(SparseGAP(tuple(terms)), tmp_path / "a.npz")
    assert (tmp_path / "a.npz").stat().st_size < 12e6
    for t, again in zip(terms, read_model(tmp_path / "a.npz").terms, strict=True):
        assert np.abs(t.X - again.X).max() < 4e-15


def test_sparse_files_are_found_beside_the_xml(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert len(read_model("gap.xml").terms) == 3
    monkeypatch.chdir(folder.parent)
    assert len(read_model(os.path.join(folder.name, "gap.xml")).terms) == 3


def test_an_interrupted_save_leaves_the_old_file(fitted, tmp_path, monkeypatch):
    model, path = read_model(fitted), tmp_path / "model.npz"
    write_model(model, path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "replace", lambda *a: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_model(model, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.npz"]


def test_order_of_components():
    soap, x = Soap(3, 2, 0.5, 4.0, species_Z=(3, 16), covariance_sigma0=0.1), np.random.default_rng(0)
    X = x.normal(size=(4, soap.n_components))
    assert np.array_equal(from_quip(to_quip(X, soap), soap), X)
    assert np.all(to_quip(X, soap)[:, -1] == 0.1)


@pytest.mark.parametrize("soap", [
    Soap(3, 2, 0.5, 4.0, species_Z=(3, 15, 16), Z=3),
    Soap(8, 0, 0.3, 6.0, 1.0, 0.2, True, (0,), 0, 0.5, False, 8.0, 4, 2.5, 0.3),
])
def test_descriptor_text_reads_back(soap):
    assert parse_descriptor(descriptor_text(soap)) == soap


def test_old_names_and_versions():
    assert parse_descriptor("soap n_max=3 l_max=2 cutoff=4 atom_gaussian_width=0.4 normalize=F").atom_sigma == 0.4
    assert not parse_descriptor(f"{BASE} normalise=F").normalise
    assert parse_descriptor(f"{BASE} species_Z={{{{3 16}}}}").species_Z == (3, 16)
    assert parse_descriptor(f"{BASE} species_Z={{3 16}}", gap_version=1426512067).central_reference_all_species
    assert not parse_descriptor(f"{BASE} species_Z={{3 16}}").central_reference_all_species
    assert parse_descriptor(f"{BASE} average=F nu_R=2 cutoff_dexp=0 radial_basis=equispaced_gauss")


@pytest.mark.parametrize("option", ["average=T", "diagonal_radial=T", "nu_R=1", "nu_S=0", "Z_mix=T", "R_mix=T",
                                    "sym_mix=T", "coupling=F", "radial_basis=GTO", "n_Z=2"])
def test_unsupported_options_are_refused(option):
    key, value = option.lower().split("=")
    with pytest.raises(ValueError, match=f"(?i)soap option {key}={value} is not supported, only {key}="):
        parse_descriptor(f"{BASE} {option}")


@pytest.mark.parametrize(("text", "message"), [
    ("angle_3b cutoff=4 Z_center=3", "descriptor 'angle_3b' is not supported, only `soap` and `distance_2b`"),
    ("soap_turbo l_max=4", "descriptor 'soap_turbo' is not supported"),
    (f"{BASE} magic=7", "soap option magic=7 is not known here: evaluate this model with quippy"),
    ("soap n_max=3 cutoff=4", "soap descriptor without l_max, atom_sigma"),
])
def test_unknown_descriptors_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_descriptor(text)


@pytest.mark.parametrize(("old", "new", "message"), [
    ('do_core="F"', 'do_core="T"', r"adds a core potential \(do_core=T\)"),
    ('init_args="IP GAP', 'init_args="Sum init_args_pot1={IP LJ} init_args_pot2={IP GAP}', "adds a core potential"),
    ('covariance_type="2"', 'covariance_type="1"', r"covariance_type=1 is not supported, only 2 \(dot_product\)"),
    ("n_max=3", "n_max=4", "states 136 dimensions, its descriptor has"),
    ('n_sparseX="5"', 'n_sparseX="6"', "incomplete or of another fit"),
    ("sparseX_md5sum=\"", "sparseX_md5sum=\"0", "is not the file this XML was written with"),
    ("soap n_max=3", "soap covariance_sigma0=0.3 n_max=3", "differ from covariance_sigma0=0.3"),
    ("</GAP_params>", "", "is not a complete XML file"),
    ("<GAP_params", "<GAP_data/><Other", "is not a complete XML file"),
])
def test_damaged_or_foreign_xml(folder, old, new, message):
    path = edit(folder, old, new)
    with pytest.raises(ValueError, match=message):
        read_model(path)


def test_xml_without_a_gap(tmp_path):
    for text, message in (("<a/>", "holds no GAP_params"), ("<GAP_params><GAP_data/></GAP_params>", "no gpCoord")):
        (tmp_path / "x.xml").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_model(tmp_path / "x.xml")


def test_missing_files(folder):
    next(folder.glob("gap.xml.sparseX*")).unlink()
    with pytest.raises(FileNotFoundError, match="of sparse points: it belongs beside the XML"):
        read_model(folder / "gap.xml")
    with pytest.raises(FileNotFoundError, match=r"no potential at .*nothing.npz: give the path of a QUIP .xml"):
        read_model(folder / "nothing.npz")


def test_foreign_npz(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    (tmp_path / "b.npz").write_bytes(b"not a zip file")
    np.savez(tmp_path / "c.npz", header=np.array([{"a": 1}], dtype=object))  # would need pickle: never loaded
    for name in "abc":
        with pytest.raises(ValueError, match=f"{name}.npz is not a potential saved by esgap"):
            read_model(tmp_path / f"{name}.npz")
