"""At the end of every chapter: the chapter as a notebook, the files that it reads, and what made the stored results.

Everything is copied into the book, which works offline. Which files is found in the chapter's code (`chapter_files`),
what they hold in data/README.md, what made them in the records themselves ("made_by"). A structure comes as CIF, too.
"""
import hashlib
import json
import re
from fnmatch import fnmatch
from pathlib import Path

from ase.io import write
from docutils import nodes
from sphinx import addnodes

from chapter_files import chapter_files
from esgap.store import read_frames

DATA = "Data behind this chapter"
MADE = "_build/downloads"  # made at build time


def description(name, root):
    """What the file `name` of data/ holds, from the table in data/README.md; empty if that says nothing."""
    rows = re.findall(r"^\| (`[^|]+) \| ([^|]+) \|", (root / "data" / "README.md").read_text(encoding="utf-8"), re.M)
    texts = (text for names, text in rows for pattern in re.findall(r"`([^`]+)`", names) if fnmatch(name, pattern))
    return next(texts, "").replace("`", "")


def write_cifs(app):
    """A CIF for every file of data/ that holds one structure."""
    root = Path(app.confdir)
    for path in sorted((root / "data").glob("*.xyz")):
        frames = read_frames(path)
        if len(frames) == 1:
            (root / MADE).mkdir(parents=True, exist_ok=True)
            cif = root / MADE / f"{path.stem}.cif"
            write(cif, frames[0], format="cif")
            cif.write_text(cif.read_text().replace("data_image0", f"data_{path.stem}"))  # the name that viewers show


def add_data(app, doctree):
    """Append the section to an executed chapter."""
    root, path = Path(app.confdir), Path(app.env.doc2path(app.env.docname))
    if path.suffix == ".ipynb":
        files = chapter_files(path, root)
        doctree.children[0] += _section(
            DATA, _introduction(path, root), _list(_file_item(file, root) for file in files), *_made(files, root))


def _introduction(path, root):
    return nodes.paragraph("", "", nodes.Text("To take away: "), download(path, root, "this chapter as a notebook"),
                           nodes.Text(", the files that it reads, and "),
                           download(root / "data" / "README.md", root, "what is in them"), nodes.Text("."))


def _file_item(path, root):
    name = str(path.relative_to(root / "data"))
    text = description(name, root)
    item = nodes.paragraph("", "", download(path, root, name, literal=True), nodes.Text(f" ({_size(path)})"))
    cif = root / MADE / f"{path.stem}.cif"
    if path.suffix == ".xyz" and cif.exists():
        item += [nodes.Text(", also as "), download(cif, root, "CIF")]
    item += nodes.Text(f": {text}" if text else "")
    return item


def _size(path):
    n = path.stat().st_size
    return f"{n / 1e6:.1f} MB" if n >= 1e6 else f"{max(1, round(n / 1e3))} kB"


def _made(files, root):
    """The section on stored results, if there are any."""
    records = {file: json.loads(file.read_text(encoding="utf-8")) for file in files if file.suffix == ".json"}
    made = {file: record["made_by"] for file, record in records.items() if "made_by" in record}
    items = [_made_item(file, by, root) for file, by in made.items()]
    return [_section("What made the stored results", _list(items))] if items else []


def _made_item(file, by, root):
    seed = "no seed" if by["seed"] is None else f"seed {by['seed']}"
    versions = ", ".join(f"{name} {version}" for name, version in by["versions"].items())
    inputs = "; ".join(f"{name}, {input_state(name, digest, root)}" for name, digest in by["inputs"].items())
    return nodes.paragraph("", "", nodes.literal("", str(file.relative_to(root / "data"))), nodes.Text(": "),
                           nodes.literal("", by["command"]),
                           nodes.Text(f", {seed}. Made from {inputs or 'no file'}. With {versions}."))


def input_state(name, digest, root):
    """Whether an input is the file of that name in this book."""
    path = root / name
    if not path.is_file():
        return "not in this book"
    same = hashlib.sha256(path.read_bytes()).hexdigest() == digest
    return "the one in this book" if same else "not in the version that is in this book"


def download(path, root, text, literal=False):
    """A link that hands out the file at `path`, below `root`."""
    target = "/" + path.relative_to(root).as_posix()
    shown = (nodes.literal if literal else nodes.inline)("", text, classes=["xref", "download"])
    return addnodes.download_reference("", "", shown, reftarget=target, reftype="download", refexplicit=True)


def _list(items):
    return nodes.bullet_list("", *(nodes.list_item("", item) for item in items))


def _section(title, *content):
    return nodes.section("", nodes.title("", title), *content, ids=[nodes.make_id(title)], names=[title.lower()])


def setup(app):
    app.connect("builder-inited", write_cifs)
    app.connect("doctree-read", add_data, priority=400)  # before Sphinx collects headings and downloads
    return {"parallel_read_safe": True, "parallel_write_safe": True}
