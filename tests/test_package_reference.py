"""The page on the package: docstrings as reStructuredText that shows the same, every public name, in the built book."""
import ast
import re
from pathlib import Path
from typing import NamedTuple

import pytest
from docutils.core import publish_doctree

import package_reference
from browser import require
from esgap.fit import FitSettings

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "_build" / "html" / f"{package_reference.PAGE}.html"


def shown(text, **kwargs):
    """Paragraphs and literal blocks of a docstring after reading it as reStructuredText, without any complaint."""
    rst = package_reference.as_rst(text, **kwargs)
    tree = publish_doctree(re.sub(r":py:obj:`(.*?) <.*?>`", r"``\1``", rst), settings_overrides={"halt_level": 2})
    return [(node.tagname, node.astext()) for node in tree.children]


@pytest.mark.parametrize("text", [
    "J = sum_m exp(-g_m r) c_m, |p| = 1, `x`, x* and *args, D' < D.", "- no list", "1. no number",
    "A. Rappe, W. Goddard: no list", "(n, 3) positions", ":no field: here", "a_ b_ `c d` e__", ".. no comment",
    r"a \ b", "::", ">= 0 [1]_"])
def test_prose_is_shown_letter_by_letter(text):
    assert shown(text) == [("paragraph", text.replace("`", ""))]


def test_formulas_keep_their_lines_and_prose_goes_on():
    assert shown("One,\n\n    E = a*b\n      + c_\n\nand\ntwo.") == [
        ("paragraph", "One,"), ("literal_block", "E = a*b\n  + c_"), ("paragraph", "and two.")]


def test_doctests_stay():
    assert shown("One.\n\n>>> 1 + 1\n2\n") == [("paragraph", "One."), ("doctest_block", ">>> 1 + 1\n2")]


def test_arguments_open_paragraphs_where_a_sentence_has_ended():
    text = ("Does it.\nframes (n,): all\nframes of one\nkind. seed: of it.\nzeta, q: both.\nq of it.\nUnits: A.\n"
            "Raises none.")
    assert [t for _, t in shown(text, arguments=["frames", "zeta", "q"])] == [
        "Does it.", "frames (n,): all frames of one kind. seed: of it.", "zeta, q: both. q of it.", "Units: A.",
        "Raises none."]


def test_code_is_a_link_if_it_can_be_one():
    rst = package_reference.as_rst("See `ewald.energy`, `fit()`, `f(x)`.", names={"ewald"})
    assert ":py:obj:`ewald.energy <esgap.ewald.energy>`" in rst
    assert ":py:obj:`fit() <fit>`" in rst
    assert "``f(x)``" in rst


def test_fields_come_with_their_comments():
    class Pair(NamedTuple):
        """Two."""

        a: float  # A
        b: int = 1

    assert package_reference.fields(Pair) == "a: float  # A\nb: int = 1"
    assert "sigma_force: float" in package_reference.fields(FitSettings)
    assert package_reference.fields(dict) == ""


def test_the_readme_has_a_row_for_every_module(tmp_path):
    names = [name for group, _ in package_reference.groups(ROOT) for name in group]
    assert len(names) == len(set(names)) > 40
    (tmp_path / "lib" / "esgap").mkdir(parents=True)
    (tmp_path / "lib" / "esgap" / "gap.py").touch()
    (tmp_path / "README.md").write_text("| `soap` | descriptor |\n")
    with pytest.raises(ValueError, match=r"differ by gap, soap: every module has its place in one row"):
        package_reference.groups(tmp_path)


@pytest.mark.browser
def test_every_public_name_is_in_the_book():
    require(PAGE.exists(), "no built book: make book")
    ids = set(re.findall(r'id="(esgap\.[\w.]+)"', PAGE.read_text(encoding="utf-8")))
    documented = set()
    for name in package_reference.modules(ROOT):
        for node in ast.parse((ROOT / "lib" / "esgap" / f"{name}.py").read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_") \
                    and ast.get_docstring(node):
                documented.add(f"esgap.{name}.{node.name}")
    assert documented - ids == set()
    assert len(documented) > 200


@pytest.mark.browser
def test_the_page_names_no_path_and_no_address_in_memory():
    require(PAGE.exists(), "no built book: make book")
    text = PAGE.read_text(encoding="utf-8")
    assert not re.search(r"site-packages| at 0x[0-9a-f]+", text)
    assert str(ROOT) not in text
