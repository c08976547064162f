"""Below every figure of a chapter: the functions that drew it, the files of data/ behind it, and its data as CSV.

Functions and files are found in the code (`figure_sources`); the executed figure carries its table
(`esgap.figure_data`). A caption may name functions and files as code: these become links, and the line below adds only
the functions that it leaves out. A figure without any function, without a file unless its caption says "no data", or
with a function of the package in its caption that its cell does not use, is a warning, and warnings fail the build.
"""
from pathlib import Path

import nbformat
from docutils import nodes
from jupyter_cache import get_cache
from sphinx import addnodes
from sphinx.util import logging

from chapter_data import DATA, MADE, download
from chapter_files import matching
from figure_sources import sources

MANY = 5  # so many files of one kind are not listed one by one
log = logging.getLogger(__name__)


def executed(path, cache):
    """The notebook at `path` with the outputs that the execution cache has for it, if it has any."""
    notebook = nbformat.read(path, as_version=4)
    try:
        return get_cache(cache).merge_match_into_notebook(notebook)[1]
    except KeyError:
        return notebook


def tables(notebook):
    """{number of the cell: list of CSV texts} of an executed notebook; figures without data have none."""
    found = {k: [kind["csv"] for output in cell.get("outputs", []) for kind in output.get("metadata", {}).values()
                 if isinstance(kind, dict) and kind.get("csv", "").count("\n") > 1]
             for k, cell in enumerate(notebook["cells"])}
    return {k: texts for k, texts in found.items() if texts}


def add_lines(app, doctree):
    """Write the tables of a chapter, link its captions, and append a line to the output of each cell with a figure."""
    root, name = Path(app.confdir), app.env.docname
    path = Path(app.env.doc2path(name))
    if path.suffix != ".ipynb":
        return
    notebook = executed(path, app.config.nb_execution_cache_path)
    found = tables(notebook)
    for cell in list(doctree.findall(lambda n: isinstance(n, nodes.container) and n.get("nb_element") == "cell_code")):
        if shows_figure(cell):
            number = cell["cell_index"]
            written = write_tables(found.get(number, []), root / MADE / f"{Path(name).name}-{number:02d}.csv")
            line = below(cell, sources(notebook["cells"], number, root / "lib" / "esgap"), written, root, name)
            cell.parent.insert(cell.parent.index(cell) + 1, line)


def shows_figure(cell):
    """Whether the output of a cell holds a picture, or a figure in HTML: a view, a slider."""
    return any(isinstance(n, nodes.image) or "<figure" in n.astext() for n in cell.findall(
        lambda n: isinstance(n, nodes.image) or (isinstance(n, nodes.raw) and n.get("format") == "html")))


def write_tables(texts, path):
    """Paths of the CSV files of a cell: `path`, a number behind its name if there are more."""
    paths = [path.with_stem(f"{path.stem}-{k + 1}" if k else path.stem) for k in range(len(texts))]
    path.parent.mkdir(parents=True, exist_ok=True)
    for each, text in zip(paths, texts, strict=True):
        each.write_text(text, encoding="utf-8")
    return paths


def below(cell, origin, written, root, docname):
    """The line below a figure, and links in its caption. origin: its `Sources`; written: paths of its tables."""
    captions = list(cell.findall(nodes.caption))
    named = {name for caption in captions for name in link_caption(caption, origin, root, docname)}
    functions = [function_link(f, f, docname) for f in origin.drawn_by if f not in named]
    files = [link for name in origin.names for link in file_links(name, root)]
    if not named and not functions:
        log.warning("a figure that no function draws: use one of esgap, or name one in the caption", location=cell)
    if not files and not any("no data" in caption.astext() for caption in captions):
        log.warning("a figure whose code reads no stored file: if that is so, let the caption say 'no data'",
                    location=cell)
    line = nodes.paragraph("", "", classes=["figure-data"])
    for words, links in (("Drawn by", functions), ("The code behind it reads", files),
                         ("Data of the figure:", [download(path, root, path.name) for path in written])):
        for k, link in enumerate(links):
            line += [nodes.Text(", " if k else f" {words} " if len(line) else f"{words} "), link]
        line += [nodes.Text(".")] if links else []
    return line


def link_caption(caption, origin, root, docname):
    """Make links of the code in a caption that names functions, modules or files; returns the functions."""
    named = []
    for code in list(caption.findall(nodes.literal)):
        text = code.astext()
        fits = [f for f in origin.used if f".{f}".endswith(f".{text}")]
        if fits or (root / "lib" / f"{text.replace('.', '/')}.py").is_file():
            named += fits[:1]
            code.replace_self(function_link(fits[0] if fits else text, text, docname))
        elif text.startswith(("data/", "tests/")) and (root / text).is_file():
            code.replace_self(download(root / text, root, text, literal=True))
        elif text.startswith("esgap."):
            log.warning("the caption names %s, which its cell does not use", text, location=caption)
    return named


def function_link(name, text, docname):
    """A link to what the appendix on the package says of a function or a module."""
    return addnodes.pending_xref("", nodes.literal("", text), refdomain="py", reftype="obj", reftarget=name,
                                 refexplicit=True, refwarn=True, refdoc=docname)


def file_links(name, root):
    """Links to the files of data/ of that name; if they are many, one to the list at the end of the chapter."""
    files = sorted(matching(root / "data", name))
    if len(files) < MANY:
        return [download(file, root, str(file.relative_to(root / "data")), literal=True) for file in files]
    return [nodes.reference("", "", nodes.literal("", name), nodes.Text(f" ({len(files)} files)"), internal=True,
                            refid=nodes.make_id(DATA))]


def setup(app):
    app.connect("doctree-read", add_lines, priority=400)  # before Sphinx collects downloads
    return {"parallel_read_safe": True, "parallel_write_safe": True}
