"""Equations of the book name tests that exist, and the page says that they passed; anything else is a warning."""
import json
import re
from html import unescape
from pathlib import Path

import pytest

import equation_tests
from browser import require

ROOT = Path(__file__).parents[1]
HTML = ROOT / "_build" / "html" / "chapters"
REPORT = """<testsuites><testsuite>
<testcase classname="tests.test_a" name="test_good[1]"/><testcase classname="tests.test_a" name="test_good[2]"/>
<testcase classname="tests.test_a" name="test_bad[1]"/>
<testcase classname="tests.test_a" name="test_bad[2]"><failure message="no"/></testcase>
<testcase classname="tests.test_a" name="test_worse"><error message="no"/></testcase>
<testcase classname="tests.test_a" name="test_left_out"><skipped message="no"/></testcase>
</testsuite></testsuites>"""


def test_every_named_test_exists():
    names = equation_tests.named_tests(ROOT)
    assert len(names) > 15
    for name in names:
        file, _, test = name.partition("::")
        assert re.search(rf"^def {test}\(", (ROOT / "tests" / file).read_text(encoding="utf-8"), re.M), name


def test_named_tests_are_those_of_the_text_cells(tmp_path):
    block = "a\n\n```{tested} eq-a\ntest_b.py::test_2\n\ntest_b.py::test_1\n```\n"
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters" / "x.ipynb").write_text(json.dumps({"cells": [
        {"cell_type": "markdown", "source": block.splitlines(keepends=True)},
        {"cell_type": "code", "source": block.replace("test_b", "test_c")}]}))
    assert equation_tests.named_tests(tmp_path) == ["test_b.py::test_1", "test_b.py::test_2"]


def test_one_bad_case_is_a_failed_test(tmp_path):
    (tmp_path / "report.xml").write_text(REPORT)
    assert equation_tests.results(tmp_path / "report.xml") == {
        "test_a.py::test_good": True, "test_a.py::test_bad": False, "test_a.py::test_worse": False,
        "test_a.py::test_left_out": False}


@pytest.mark.browser
@pytest.mark.parametrize("page", sorted(path.stem for path in (ROOT / "chapters").glob("*.ipynb")))
def test_the_page_shows_them(page):
    require((HTML / f"{page}.html").exists(), "no book: make book")
    html = (HTML / f"{page}.html").read_text(encoding="utf-8")
    lines = re.findall(r'<p class="tested">(.*?)</p>', html, re.S)
    assert len(lines) == html.count('<div class="math') > 0
    assert all("passed in this build." in unescape(re.sub("<.*?>", "", line)) for line in lines)
