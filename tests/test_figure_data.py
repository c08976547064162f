"""Figures carry what they show as numbers: lines, error bars, bands, points and histograms; the book offers them."""
import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest

import figure_csv
from browser import require
from esgap.figure_data import COLUMNS, figure_table

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
