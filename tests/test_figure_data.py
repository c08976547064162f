"""Figures carry what they show as numbers: lines, error bars, bands, points and histograms; the book offers them.

Below each figure, the book also says what drew it and from which files, as the code of its chapter has it.
"""
import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest
from docutils import nodes

import figure_csv
from browser import require
from esgap.figure_data import COLUMNS, figure_table
from figure_sources import Sources, sources

ROOT = Path(__file__).parents[1]
HTML = ROOT / "_build" / "html"


def rows(ax):
    table = list(csv.DictReader(io.StringIO(figure_table(ax.figure))))
    assert all(tuple(row) == COLUMNS for row in table)
    return [(r["series"], *(float(r[c] or "nan") for c in ("x", "y", "low", "high"))) for r in table]


def test_lines_and_error_bars(ax):
    ax.errorbar([1, 2], [10, 20], yerr=[[1, 2], [3, 4]], xerr=0.1, capsize=3, label="measured")
    ax.plot([0, 1 / 3], [5, 6])
    ax.axhline(0)
    ax.axvline(1)
    assert rows(ax) == [("measured", 1, 10, 9, 13), ("measured", 2, 20, 18, 24),
                        ("2", 0, 5, pytest.approx(np.nan, nan_ok=True), pytest.approx(np.nan, nan_ok=True)),
                        ("2", 0.333333, 6, pytest.approx(np.nan, nan_ok=True), pytest.approx(np.nan, nan_ok=True))]


def test_bands_points_and_histograms(ax):
    ax.fill_between([0, 1, 2], [1, 1, 1], [0, 3, 2], label="b")
    ax.scatter([7, 8], [9, 10], label="s")
    ax.hist([1, 1, 2], bins=[0.5, 1.5, 2.5], histtype="step", label="h")
    found = rows(ax)
    assert [(r[0], r[1], r[3], r[4]) for r in found[:3]] == [("b (band)", 0, 0, 1), ("b (band)", 1, 1, 3),
                                                            ("b (band)", 2, 1, 2)]
    assert [r[:3] for r in found[3:5]] == [("s", 7, 9), ("s", 8, 10)]
    assert {r[2] for r in found[5:] if r[0] == "h"} == {0, 1, 2}


def test_panels_are_told_apart_and_pictures_are_left_out(ax):
    second = ax.figure.add_subplot(1, 2, 2)
    ax.imshow(np.eye(3))
    second.plot([1], [2], label="a, b")
    second.set(title="T", xlabel="x (Å)", ylabel="y")
    assert figure_table(ax.figure).splitlines()[1:] == ['2 T,x (Å),y,"a, b",1,2,,']


def test_the_text_of_an_executed_notebook_is_found():
    def cell(*tables):
        return {"cell_type": "code", "outputs": [{"metadata": {"image/png": {"csv": t}}} for t in tables]}

    notebook = {"cells": [{"cell_type": "markdown"}, cell("head\n1\n"), cell("head\n"),
                          cell("head\n2\n", "head\n3\n")]}
    assert figure_csv.tables(notebook) == {1: ["head\n1\n"], 3: ["head\n2\n", "head\n3\n"]}


    assert figure_csv.tables({"cells": [{"outputs": [{"metadata": {"text/html": {"csv": "head\n4\n"}}}]}]}) == {
        0: ["head\n4\n"]}


@pytest.mark.parametrize(("codes", "names"), [
    (["a = esgap.data_path('a.json')\nb = esgap.data_path('b.json')", "figures.locality(a, ax)"], {"a.json"}),
    (["a = esgap.data_path('a.json')\nb = {}\nb['a'] = a", "a = 1", "figures.locality(b, ax)"], {"a.json"}),
    (["a = []\nfor b in 'xy':\n    a.append(esgap.data_path('a.json'))", "figures.locality(a, ax)"], {"a.json"}),
    (["a = esgap.data_path('old.json')\na = esgap.data_path('a.json')", "figures.locality(a, ax)"], {"a.json"}),
    (["a = esgap.data_path('a.json')", "figures.locality(a, ax)\na = esgap.data_path('later.json')"], {"a.json"}),
    (["a = [b for b in esgap.data_path('other.json')]", "c = [b for b in 'xy']\nfigures.locality(c, ax)"], set()),
    (["b = esgap.data_path('other.json')", "for b in 'xy':\n    figures.locality([b for _ in b], ax)"], set()),
    (["figures.locality([structures.crystal()], ax)\nprint(esgap.data_path('b.json'))"], {"crystal.xyz"}),
    (["figures.use_style()", "ax.plot(1)\nprint(esgap.data_path('b.json'))"], {"b.json"}),  # nothing draws: all counts
])
def test_files_behind_a_figure(codes, names):
    cells = [{"cell_type": "code", "source": [code]} for code in ["import esgap\nfrom esgap import figures, structures",
                                                                  "_, ax = plt.subplots()", *codes]]
    found = sources([*cells, {"cell_type": "markdown"}], len(cells) - 1, ROOT / "lib" / "esgap")
    assert set(found.names) == names
    assert found.drawn_by == ["esgap.figures.locality"] * ("locality" in codes[-1])


def below(caption, origin):
    """Links of the caption and texts of the line below a figure; words between ` are code."""
    texts = enumerate(caption.split("`"))
    parts = [nodes.literal("", text) if k % 2 else nodes.Text(text) for k, text in texts]
    cell = nodes.container("", nodes.figure("", nodes.image(), nodes.caption("", "", *parts)))
    assert figure_csv.shows_figure(cell)
    line = figure_csv.below(cell, origin, [ROOT / "_build" / "c-04.csv"], ROOT, "chapters/c")
    links = [n["reftarget"] for n in cell.findall() if "reftarget" in getattr(n, "attributes", {})]
    return links, line.astext()


def test_caption_and_line_lead_to_functions_and_files(caplog):
    origin = Sources(["esgap.figures.force_parity", "esgap.figures.locality"],
                     ["esgap.figures.force_parity", "esgap.figures.locality", "esgap.locality.locality_curve"],
                     ["crystal.xyz", "training"])
    links, line = below("By `esgap.figures.locality` of `locality_curve` from `data/crystal.xyz`, `x`, `esgap.gap`.",
                        origin)
    assert links == ["esgap.figures.locality", "esgap.locality.locality_curve", "/data/crystal.xyz", "esgap.gap"]
    assert re.fullmatch(r"Drawn by esgap.figures.force_parity. The code behind it reads crystal.xyz, "
                        r"training \(\d+ files\). Data of the figure: c-04.csv.", line)
    one = ["esgap.figures.locality"]
    assert below("By `locality`.", Sources(one, one, ["crystal.xyz"])) == (
        one, "The code behind it reads crystal.xyz. Data of the figure: c-04.csv.")
    assert below("A scheme, no data.", Sources(one, one, [])) == (
        [], "Drawn by esgap.figures.locality. Data of the figure: c-04.csv.")
    assert caplog.messages == []


@pytest.mark.parametrize(("caption", "origin", "message"), [
    ("Drawn by hand.", Sources([], ["esgap.gap.energy"], ["crystal.xyz"]), "a figure that no function draws"),
    ("Forces.", Sources(["esgap.figures.locality"], [], ["runs/not-there.json"]), "reads no stored file"),
    ("By `esgap.figures.old`.", Sources(["esgap.figures.locality"], ["esgap.figures.locality"], ["crystal.xyz"]),
     "the caption names esgap.figures.old, which its cell does not use"),
])
def test_figures_of_unknown_origin_are_warned_of(caption, origin, message, caplog):
    below(caption, origin)
    assert [message in text for text in caplog.messages] == [True]


@pytest.mark.browser
@pytest.mark.parametrize("page", ["01-electrostatic-baseline", "03-training", "05-conductivity"])
def test_the_page_offers_the_data_of_its_figures(page):
    html = HTML / "chapters" / f"{page}.html"
    require(html.exists(), "no book: make book")
    links = re.findall(r'href="([^"]*_downloads/[^"]*/' + page + r'-\d\d[^"]*\.csv)"', html.read_text(encoding="utf-8"))
    assert len(links) >= 3
    for link in links:
        table = list(csv.DictReader(io.StringIO((html.parent / link).read_text(encoding="utf-8"))))
        assert len(table) > 1
        assert np.isfinite([float(row["x"]) for row in table]).all()


PAGES = sorted(path.stem for path in (ROOT / "chapters").glob("*.ipynb"))


@pytest.mark.browser
def test_every_figure_leads_to_its_functions_and_files():
    require((HTML / "chapters").exists(), "no book: make book")
    package = (HTML / "chapters" / "A3-package.html").read_text(encoding="utf-8")
    figures = []
    for page in PAGES:
        html = (HTML / "chapters" / f"{page}.html").read_text(encoding="utf-8")
        for figure in html.split("<figure")[1:]:
            figure, found, line = figure.partition('<p class="figure-data">')
            assert found, f"a figure of {page} has no line below it"
            line = line[:line.index("</p>")]
            functions = re.findall(r'href="A3-package.html#([\w.]+)"', figure[-20000:] + line)
            files = re.findall(r'href="(\.\./_downloads/[^"]+|#data-behind-this-chapter)"', line)
            assert functions
            assert all(f'id="{name}"' in package for name in functions)
            assert all((HTML / "chapters" / file).is_file() for file in files if file[0] != "#")
            assert [file for file in files if not file.endswith(".csv")] or "no data" in figure
            figures.append(page)
    assert len(figures) > 30
    assert set(PAGES) - set(figures) == {"07-verdict", "A1-engine"}  # tables only
