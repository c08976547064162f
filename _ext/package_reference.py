"""The appendix on the package: one section for each row of the README's table of modules, filled by autodoc.

Docstrings here are plain prose, not reStructuredText. They are shown as they are: `code` as code (a link where it names
something of the package), what is indented as a literal block, a line that opens with the name of an argument as a
paragraph, everything else letter by letter. Fields of a class of values stand as in the source, where the comment
behind a field gives its unit.
"""
import ast
import dataclasses
import inspect
import re
import textwrap
from itertools import groupby
from pathlib import Path

import jax
from sphinx.ext.autodoc import FunctionDocumenter
from sphinx.transforms import SphinxTransform

PAGE = "chapters/A3-package"
OPENERS = "(Units?|Source|Raises|Returns)"  # open a paragraph after a full stop, as names of arguments do


def groups(root):
    """The rows of the README's table -> list of (module names, what they are). ValueError if it lacks a module."""
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| (.+) \|$", (root / "README.md").read_text(encoding="utf-8"), re.M)
    table = [(re.findall(r"\w+", names), text) for names, text in rows]
    named = {name for names, _ in table for name in names}
    files = modules(root)
    if named != files:
        raise ValueError(f"the README's table of modules and lib/esgap differ by {', '.join(sorted(named ^ files))}: "
                         "every module has its place in one row")
    return table


def modules(root):
    """Names of the public modules of the package."""
    return {path.stem for path in (root / "lib" / "esgap").glob("*.py") if not path.stem.startswith("_")}


def sections(root):
    """The page below its introduction, Markdown."""
    parts = []
    for names, text in groups(root):
        parts.append(f"## {', '.join(f'`{name}`' for name in names)}\n\n{text[0].upper()}{text[1:]}.")
        for name in names:
            title = f"### `esgap.{name}`\n\n" if len(names) > 1 else ""
            parts.append(f"{title}```{{eval-rst}}\n.. automodule:: esgap.{name}\n   :members:\n"
                         "   :member-order: bysource\n```")
    return "\n\n" + "\n\n".join(parts) + "\n"


def as_rst(text, arguments=(), names=()):
    """A plain docstring as reStructuredText that shows the same; arguments of the function, names of modules."""
    word = rf"({'|'.join(map(re.escape, arguments))})" if arguments else r"(?!)"
    opens = re.compile(rf"{OPENERS}\b|{word}(, {word})*( ?\(|:)|- ")
    out = []
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        if block.startswith(">>>"):
            out.append(block)
            continue
        for indented, lines in groupby(block.split("\n"), lambda line: line.startswith(" ")):
            if indented:
                out.append(_code("\n".join(lines), "text"))
            else:
                out += [_prose(lines, names) for lines in _paragraphs(list(lines), opens)]
    return "\n\n".join(out) + "\n"


def _code(text, language):
    return f".. code-block:: {language}\n\n" + textwrap.indent(textwrap.dedent(text), "    ")


def _paragraphs(lines, opens):
    starts = [0, *(k for k in range(1, len(lines)) if lines[k - 1][-1:] in (".", ";", ":") and opens.match(lines[k]))]
    return [lines[start:end] for start, end in zip(starts, [*starts[1:], len(lines)], strict=True)]


def _prose(lines, names):
    pieces = re.split(r"`([^`]+)`", " ".join(line.strip() for line in lines))
    text = [re.sub(r"([\\*_|`]|(?<=:):)", r"\\\1", piece) for piece in pieces[::2]]
    code = [_linked(piece, names) for piece in pieces[1::2]]
    joined = text[0] + "".join(f"\\ {c}\\ {t}" for c, t in zip(code, text[1:], strict=True))
    return "\\ " + joined  # the backslash: no list and no field begins here


def _linked(code, names):
    if not re.fullmatch(r"[A-Za-z_][\w.]*(\(\))?", code):
        return f"``{code}``"
    target = code.removesuffix("()")
    return f":py:obj:`{code} <{'esgap.' * (target.split('.')[0] in names)}{target}>`"


def fields(cls):
    """Fields of a dataclass or named tuple as its source has them, comments included; empty for any other class."""
    if not dataclasses.is_dataclass(cls) and not _is_named_tuple(cls):
        return ""
    source = textwrap.dedent(inspect.getsource(cls))
    lines, body = source.split("\n"), ast.parse(source).body[0].body
    nodes = [node for node in body if isinstance(node, ast.AnnAssign)]
    return textwrap.dedent("\n".join(lines[k] for node in nodes for k in range(node.lineno - 1, node.end_lineno)))


def _is_named_tuple(cls):
    return issubclass(cls, tuple) and hasattr(cls, "_fields")


def show_docstring(app, what, name, obj, options, lines):
    """Put reStructuredText in place of a plain docstring, fields behind it."""
    try:
        arguments = list(inspect.signature(obj).parameters)
    except (TypeError, ValueError):  # a module, a property
        arguments = []
    text = as_rst("\n".join(lines), arguments, modules(Path(app.confdir)))
    if what == "class" and fields(obj):
        text += "\n" + _code(fields(obj), "python") + "\n"
    lines[:] = text.split("\n")


def show_signature(app, what, name, obj, options, signature, returns):
    """Arguments and defaults; only names where the fields with their defaults follow, and no paths of this machine."""
    if what == "class" and fields(obj):
        names = obj._fields if _is_named_tuple(obj) else [f.name for f in dataclasses.fields(obj) if f.init]
        return f"({', '.join(names)})", None
    return re.sub(r"<(?:module|class) '([\w.]+)'[^>]*>", r"\1", signature or "") or None, returns


def leave_out(app, what, name, obj, skip, options):
    """Fields of named tuples are shown in one piece, not one by one."""
    return True if type(obj).__name__ == "_tuplegetter" else None


class OwnDerivative(FunctionDocumenter):
    """A function that brings its own derivative for JAX is a function, too."""

    objtype = "ownderivative"
    directivetype = "function"
    priority = FunctionDocumenter.priority + 1

    @classmethod
    def can_document_member(cls, member, membername, isattr, parent):
        return isinstance(member, jax.custom_jvp | jax.custom_vjp)


class PlainQuotes(SphinxTransform):
    """p' stays p', and f("x") can be copied."""

    default_priority = 700  # before quotes are made typographic

    def apply(self, **kwargs):
        if self.env.docname == PAGE:
            self.document["support_smartquotes"] = False


def add_sections(app, docname, source):
    """Append the modules to the page that introduces them."""
    if docname == PAGE:
        source[0] += sections(Path(app.confdir))


def plain(app, config):
    """Signatures name arguments and defaults; types, shapes and units are in the docstrings, which are all our own."""
    config.autodoc_typehints = "none"
    config.autodoc_inherit_docstrings = False


def setup(app):
    app.setup_extension("sphinx.ext.autodoc")
    app.add_autodocumenter(OwnDerivative)
    app.add_transform(PlainQuotes)
    app.connect("config-inited", plain)
    app.connect("source-read", add_sections)
    app.connect("autodoc-skip-member", leave_out)
    app.connect("autodoc-process-signature", show_signature)
    app.connect("autodoc-process-docstring", show_docstring)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
