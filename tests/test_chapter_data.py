"""What chapters offer: the files that their code reads, found without running it; in the book, copies and origins."""
import json
import re
from html import unescape
from pathlib import Path

import pytest
from ase.io import read

import chapter_data
from browser import require
from chapter_files import chapter_files, names_read
from esgap.structures import crystal

ROOT = Path(__file__).parents[1]
HTML = ROOT / "_build" / "html" / "chapters"
CHAPTERS = sorted((ROOT / "chapters").glob("*.ipynb"))
PACKAGE = ROOT / "lib" / "esgap"

each_chapter = pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)


@pytest.mark.parametrize(("source", "names"), [
    ('import esgap\nesgap.data_path("dft/gen0.xyz")', {"dft/gen0.xyz"}),
    ('from esgap import store as s\ns.data_path("a.json")', {"a.json"}),
    ('from esgap import structures\nstructures.crystal()', {"crystal.xyz"}),
    ('from esgap.charges import fitted_charges as f\nf()', {"runs/charges.json"}),  # a constant of the module
    ('import esgap\nesgap.load_model("gap")', {"models/*.npz"}),  # through the package's own imports
    ('from esgap import structures\nstructures.sulfur_species', set()),
    ('from elsewhere import data_path\ndata_path("a.json")', set()),
    ('from esgap import claims\nf = lambda claims: claims.claims_table()', set()),  # an argument of that name
    ("import esgap\nesgap.data_path()", set()),
])
def test_names_read(source, names):
    assert names_read(source, PACKAGE) == names


def test_what_the_ledger_reads():
    assert names_read("from esgap import ledger\nledger.ledger()", PACKAGE) == {
        "paper.toml", "crystal.xyz", "dft/gen0.xyz", "dft/locality.xyz", "runs/charges.json", "runs/learning.json",
        "runs/frenkel-*.json", "runs/frenkel-large-*.json", "dft/frenkel.xyz", "dft/frenkel-folded.xyz",
        "runs/mobility", "runs/paths", "dft/path-images.xyz"}


def test_files_of_a_chapter_come_with_their_records(tmp_path):
    for name in ("a.xyz", "a.json", "b.xyz", "m/1.npz", "m/1.json", "m/2.npz", "m/x/3.npz", "loop/log",
                 "loop/log.lock"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "lib" / "esgap").mkdir(parents=True)
    (tmp_path / "lib" / "esgap" / "__init__.py").touch()
    code = ["import esgap\n", "esgap.data_path('a.xyz'), esgap.data_path('none.xyz'), esgap.data_path('loop')\n",
            "esgap.data_path(f'm/{n}.npz')"]
    notebook = tmp_path / "c.ipynb"
    notebook.write_text(json.dumps({"cells": [{"cell_type": "code", "source": code}, {"cell_type": "markdown"}]}))
    found = [path.relative_to(tmp_path / "data").as_posix() for path in chapter_files(notebook, tmp_path)]
    assert found == ["a.json", "a.xyz", "loop/log", "m/1.json", "m/1.npz", "m/2.npz"]


@each_chapter
def test_files_of_chapters_are_described(chapter):
    files = chapter_files(chapter, ROOT)
    assert files
    named = [file.relative_to(ROOT / "data").as_posix() for file in files]
    assert [name for name in named if not chapter_data.description(name, ROOT)] == []


def section(chapter):
    page = HTML / f"{chapter.stem}.html"
    require(page.exists(), "no built book: make book")
    text = page.read_text(encoding="utf-8")
    return text[text.index('id="data-behind-this-chapter"'):]


@pytest.mark.browser
@each_chapter
def test_the_book_holds_copies_of_notebook_and_files(chapter):
    links = re.findall(r'<a class="reference download[^>]* href="([^"]+)"', section(chapter))
    copies = {Path(link).name: (HTML / link).resolve().read_bytes() for link in links}
    assert copies[chapter.name] == chapter.read_bytes()
    for file in chapter_files(chapter, ROOT):
        assert copies[file.name] == file.read_bytes()


@pytest.mark.browser
@each_chapter
def test_the_book_says_what_made_stored_results(chapter):
    text = unescape(re.sub(r"<[^>]+>", "", section(chapter)))
    for file in chapter_files(chapter, ROOT):
        if file.suffix == ".json":
            record = json.loads(file.read_text(encoding="utf-8"))
            if isinstance(record, dict) and "made_by" in record:  # what a sampler reported is a list of sentences
                assert record["made_by"]["command"] in text
                assert f"numpy {record['made_by']['versions']['numpy']}" in text


@pytest.mark.browser
def test_the_crystal_as_cif():
    require(HTML.exists(), "no built book: make book")
    (path,) = HTML.parent.glob("_downloads/*/crystal.cif")
    cif, ours = read(path), crystal()
    assert cif.get_chemical_formula() == ours.get_chemical_formula()
    distances = cif.get_all_distances(mic=True) - ours.get_all_distances(mic=True)
    assert abs(distances).max() < 1e-6  # A


def test_inputs_that_have_changed_are_said_to(tmp_path):
    (tmp_path / "a").write_text("x")
    digest = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"  # of "x"
    assert chapter_data.input_state("a", digest, tmp_path) == "the one in this book"
    assert chapter_data.input_state("a", "0" * 64, tmp_path) == "not in the version that is in this book"
    assert chapter_data.input_state("b", digest, tmp_path) == "not in this book"
