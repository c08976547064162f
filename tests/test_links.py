"""Links of the built book lead somewhere, and no page loads anything from elsewhere."""
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

from browser import require

HTML = Path(__file__).parents[1] / "_build" / "html"
PAGES = sorted(str(path.relative_to(HTML)) for path in HTML.rglob("*.html") if "_static" not in path.parts)
LOADED = {("link", "href"), *((tag, "src") for tag in ("script", "img", "iframe", "audio", "video", "source", "embed"))}
NOT_LOADED = {"canonical", "next", "prev", "search", "index", "author"}  # link elements that only point

pytestmark = pytest.mark.browser


class Page(HTMLParser):
    """links: (tag, address, loaded); ids: what a fragment can name."""

    def __init__(self, text):
        super().__init__()
        self.links, self.ids = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids |= {attrs.get("id"), attrs.get("name") if tag == "a" else None} - {None}
        for key in ("href", "src"):
            if attrs.get(key) is not None:
                loaded = (tag, key) in LOADED and not (tag == "link" and set(attrs.get("rel", "").split()) & NOT_LOADED)
                self.links.append((tag, attrs[key], loaded))


@cache
def page(path):
    return Page(path.read_text(encoding="utf-8"))


def is_foreign(address):
    return bool(urlsplit(address).netloc)


def dead(origin, address):
    """Why an address in the page `origin` leads nowhere within the book, or None."""
    name, fragment = urldefrag(address)
    target = (origin.parent / unquote(urlsplit(name).path)).resolve() if urlsplit(name).path else origin
    target = target / "index.html" if target.is_dir() else target
    if not target.is_relative_to(HTML):
        return "outside the book"
    if not target.is_file():
        return "no such file"
    if fragment and target.suffix == ".html" and unquote(fragment) not in page(target).ids:
        return "no such place in the page"
    return None


def test_there_are_pages():
    require(PAGES, "no built book: make book")


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    links = {address for _, address, _ in page(HTML / name).links
             if not is_foreign(address) and not address.startswith(("data:", "mailto:", "javascript:"))}
    assert {address: why for address in links if (why := dead(HTML / name, address))} == {}


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_loaded_from_elsewhere(name):
    assert [(tag, address) for tag, address, loaded in page(HTML / name).links if loaded and is_foreign(address)] == []


def test_no_stylesheet_loads_from_elsewhere():
    sheets = {path: path.read_text(encoding="utf-8") for path in HTML.rglob("*.css")}
    found = [(path.name, match) for path, text in sheets.items()
             for match in re.findall(r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')\s]+)", text)]
    assert found == []


def test_the_test_sees_dead_links(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "HTML", tmp_path)
    (tmp_path / "a.html").write_text('<h1 id="here"></h1><a href="b.html">x</a><a href="#there">y</a>')
    assert dead(tmp_path / "a.html", "#here") is None
    assert dead(tmp_path / "a.html", "a.html#here") is None
    assert dead(tmp_path / "a.html", "#there") == "no such place in the page"
    assert dead(tmp_path / "a.html", "b.html") == "no such file"
    assert dead(tmp_path / "a.html", "../c.html") == "outside the book"
