"""The built book as one PDF, printed by Chromium: python _ext/print_book.py _build/html _build/book.pdf

Pages come in the order of the table of contents, each with its structure views as drawn, and become the PDF's outline.
Links between pages lead to the page in the PDF; links to files that lie beside the book are dropped.
"""
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from pypdf import PdfReader, PdfWriter
from pypdf.annotations import Link
from pypdf.generic import Fit

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = ("--headless", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",  # WebGL on any machine
         "--no-pdf-header-footer", "--virtual-time-budget=30000")
SECONDS = 180  # for one page


def pages(root):
    """Names of the book's pages in reading order, as in _toc.yml."""
    toc = yaml.safe_load((Path(root) / "_toc.yml").read_text(encoding="utf-8"))
    return [toc["root"], *(entry["file"] for entry in toc["chapters"])]


def browser():
    """Path of an installed Chromium, or None."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def print_page(program, html, pdf):
    """One page of the book as a PDF; RuntimeError with what the browser said if there is none."""
    run = subprocess.run([program, *FLAGS, f"--print-to-pdf={pdf}", html.resolve().as_uri()], capture_output=True,
                         text=True, timeout=SECONDS, check=False)
    if not pdf.exists():
        raise RuntimeError(f"{program} did not print {html}:\n{run.stderr[-2000:]}")


def title(html):
    """Title of a page as the book shows it, without the name of the book."""
    found = re.search(r"<title>(.*?)</title>", html.read_text(encoding="utf-8"), re.S)
    return found.group(1).split("&#8212;")[0].strip()


def join(parts, output):
    """One PDF of several: parts are [(html path, pdf path)]."""
    writer, first = PdfWriter(), {}
    for html, pdf in parts:
        first[html.resolve()] = len(writer.pages)
        writer.append(PdfReader(pdf), import_outline=False)
        writer.add_outline_item(title=title(html), page_number=first[html.resolve()])
    for number, page in enumerate(writer.pages):
        _lead_inside(writer, number, page, first)
    writer.add_metadata({"/Title": title(parts[0][0])})
    writer.write(output)


def _lead_inside(writer, number, page, first):
    """Links to files become links to pages of the PDF, or go."""
    kept, inside = [], []
    for reference in page.get("/Annots", []):
        annotation = reference.get_object()
        address = urlsplit(str(annotation.get("/A", {}).get("/URI", "")))
        if address.scheme != "file":
            kept.append(reference)
        elif Path(unquote(address.path)) in first:
            inside.append((annotation["/Rect"], first[Path(unquote(address.path))]))
    if "/Annots" in page:
        page["/Annots"].get_object().clear()
        page["/Annots"].get_object().extend(kept)
    for rectangle, target in inside:
        writer.add_annotation(number, Link(rect=rectangle, target_page_index=target, fit=Fit.fit()))


def main(html, output):
    html, output = Path(html), Path(output)
    program = browser()
    if program is None:
        raise SystemExit("no Chromium: apt-get install chromium")
    with tempfile.TemporaryDirectory(dir=output.parent) as folder:
        parts = [(html / f"{name}.html", Path(folder) / f"{Path(name).name}.pdf") for name in pages(Path.cwd())]
        for page, pdf in parts:
            print_page(program, page, pdf)
        join(parts, Path(folder) / "book.pdf")
        (Path(folder) / "book.pdf").replace(output)
    print(f"The book as PDF: {output.resolve()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
