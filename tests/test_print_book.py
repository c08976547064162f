"""The book on paper: pages in reading order under their titles, links inside the PDF, none to files of a machine."""
import subprocess
import sys
from pathlib import Path

import pytest
from pypdf import PdfReader, PdfWriter
from pypdf.annotations import Link

import print_book
from browser import require

ROOT = Path(__file__).parents[1]
HTML = ROOT / "_build" / "html"


def test_pages_are_those_of_the_contents():
    names = print_book.pages(ROOT)
    assert names[0] == "chapters/00-introduction"
    assert set(names) == {f"chapters/{path.stem}" for path in (ROOT / "chapters").glob("*.*")
                          if path.suffix in (".ipynb", ".md")}


def test_links_to_pages_stay_inside_and_links_to_files_go(tmp_path):
    parts = []
    for name in ("a", "b"):
        (tmp_path / f"{name}.html").write_text(f"<title>Page {name} &#8212; the book</title>")
        writer = PdfWriter()
        writer.add_blank_page(100, 100)
        writer.add_blank_page(100, 100)
        for k, address in enumerate([(tmp_path / "b.html").as_uri() + "#there", (tmp_path / "data.csv").as_uri(),
                                     "https://example.org"]):
            writer.add_annotation(0, Link(rect=(0, 10 * k, 50, 10 * k + 10), url=address))
        writer.write(tmp_path / f"{name}.pdf")
        parts.append((tmp_path / f"{name}.html", tmp_path / f"{name}.pdf"))
    print_book.join(parts, tmp_path / "book.pdf")
    reader = PdfReader(tmp_path / "book.pdf")
    assert [(item.title, reader.get_destination_page_number(item)) for item in reader.outline] == [
        ("Page a", 0), ("Page b", 2)]
    links = [reference.get_object() for reference in reader.pages[0]["/Annots"]]
    assert [link["/A"]["/URI"] for link in links if "/A" in link] == ["https://example.org"]
    (inside,) = [link for link in links if "/A" not in link]
    assert reader.get_page_number(inside["/Dest"][0].get_object()) == 2
    assert [float(x) for x in inside["/Rect"]] == [0, 0, 50, 10]


def test_a_browser_that_prints_nothing_is_named(tmp_path):
    (tmp_path / "a.html").write_text("<title>a</title>")
    with pytest.raises(RuntimeError, match="true did not print"):
        print_book.print_page("true", tmp_path / "a.html", tmp_path / "a.pdf")


@pytest.mark.browser
def test_a_chapter_is_printed_with_its_text_and_its_views(tmp_path):
    page = HTML / "chapters" / "01-electrostatic-baseline.html"
    browser = print_book.browser()
    require(browser and page.exists(), "needs chromium and the book")
    print_book.print_page(browser, page, tmp_path / "a.pdf")
    reader = PdfReader(tmp_path / "a.pdf")
    text = "".join(sheet.extract_text() for sheet in reader.pages)
    assert "Madelung" in text
    assert "Verdict" in text
    assert "Show code cell source" not in text
    width, height = (float(x) for x in reader.pages[0].mediabox[2:])
    assert abs(width / height - 210 / 297) < 0.01


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.timeout(1800)
def test_the_whole_book_is_printed(tmp_path):
    """What `make pdf` runs: every page of the table of contents is in the outline, in its order."""
    require(print_book.browser() and (HTML / "index.html").exists(), "needs chromium and the book")
    subprocess.run([sys.executable, ROOT / "_ext" / "print_book.py", HTML, tmp_path / "book.pdf"], check=True)
    reader = PdfReader(tmp_path / "book.pdf")
    titles = [print_book.title(HTML / f"{name}.html") for name in print_book.pages(ROOT)]
    assert [item.title for item in reader.outline] == titles
    starts = [reader.get_destination_page_number(item) for item in reader.outline]
    assert starts == sorted(set(starts))
    assert "Li" in reader.pages[0].extract_text()
