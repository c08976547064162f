"""Below every figure of a chapter: its data as CSV, which the executed figure carries (`esgap.figure_data`)."""
from pathlib import Path

import nbformat
from docutils import nodes
from jupyter_cache import get_cache

from chapter_data import MADE, download


def executed(path, cache):
    """The notebook at `path` with the outputs that the execution cache has for it, if it has any."""
    notebook = nbformat.read(path, as_version=4)
    try:
        return get_cache(cache).merge_match_into_notebook(notebook)[1]
    except KeyError:
        return notebook


def tables(notebook):
    """{number of the cell: list of CSV texts} of an executed notebook; figures without data have none."""
    cells = notebook["cells"]
    found = {k: [text for output in cell.get("outputs", [])
                 if (text := output.get("metadata", {}).get("image/png", {}).get("csv", "")).count("\n") > 1]
             for k, cell in enumerate(cells)}
    return {k: texts for k, texts in found.items() if texts}


def add_links(app, doctree):
    """Write the tables of a chapter and append a link to the output of each cell that drew a figure."""
    root, name = Path(app.confdir), app.env.docname
    path = Path(app.env.doc2path(name))
    if path.suffix != ".ipynb":
        return
    found = tables(executed(path, app.config.nb_execution_cache_path))
    for cell in list(doctree.findall(lambda n: isinstance(n, nodes.container) and n.get("nb_element") == "cell_code")):
        line = nodes.paragraph("", "", classes=["figure-data"])
        texts = found.get(cell.get("cell_index"), [])
        for k, text in enumerate(texts):
            number = f"{cell['cell_index']:02d}" + (f"-{k + 1}" if k else "")
            path = root / MADE / f"{Path(name).name}-{number}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            line += [nodes.Text(", " if k else "Data of the figure: "), download(path, root, path.name)]
        if texts:
            cell.parent.insert(cell.parent.index(cell) + 1, line)


def setup(app):
    app.connect("doctree-read", add_links, priority=400)  # before Sphinx collects downloads
    return {"parallel_read_safe": True, "parallel_write_safe": True}
