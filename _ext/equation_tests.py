"""Equations name the tests that hold them, and their page says that these passed in this build.

    ```{tested} eq-baseline
    test_ewald.py::test_independent_of_the_splitting
    ```

The tests of all chapters run in a process of their own while Sphinx reads; their report is kept under a hash of what
they depend on. A displayed equation without tests, a test that does not exist, is skipped or fails: each is a warning,
and warnings fail the build.
"""
import hashlib
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from book import inputs_hash
from chapter_data import download

FENCE = re.compile(r"^```\{tested\} (\S+)\n(.*?)^```", re.M | re.S)
log = logging.getLogger(__name__)


class tested(nodes.General, nodes.Inline, nodes.Element):
    """Stands for what the tests say until they are done."""


class Tested(SphinxDirective):
    """The line below an equation, with its tests and where they are."""

    has_content = True
    required_arguments = 1

    def run(self):
        names, root = [line.strip() for line in self.content if line.strip()], Path(self.env.app.confdir)
        line = nodes.paragraph("", "", nodes.Text("Held by "), classes=["tested"])
        for k, name in enumerate(names):
            file, _, test = name.partition("::")
            line += [nodes.Text(", " if k else ""), nodes.literal("", test), nodes.Text(" of "),
                     download(root / "tests" / file, root, file, literal=True)]
        line += tested(equation=self.arguments[0], tests=names)
        self.set_source_info(line)
        return [line]


def named_tests(root):
    """Names of all tests in the chapters, sorted, without running anything."""
    texts = ("".join(cell["source"]) for path in sorted((root / "chapters").glob("*.ipynb"))
             for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "markdown")
    return sorted({line.strip() for text in texts for _, block in FENCE.findall(text) for line in block.split("\n")
                   if line.strip()})


def start(app):
    """Start the tests unless their report is there."""
    root = Path(app.confdir)
    names, digest = named_tests(root), hashlib.sha256(inputs_hash(root).encode())
    for part in [*names, *(path.read_text(encoding="utf-8") for path in sorted((root / "tests").glob("*.py")))]:
        digest.update(part.encode() + b"\0")
    report = root / "_build" / "equation-tests" / f"{digest.hexdigest()[:16]}.xml"
    report.parent.mkdir(parents=True, exist_ok=True)
    app.equation_tests = None if report.exists() or not names else _process(root, names, report)
    app.equation_report = report


def _process(root, names, report):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(f"tests/{name}" for name in names),
               f"--junitxml={report.with_suffix('.part')}"]
    with report.with_suffix(".log").open("w") as output:
        return subprocess.Popen(command, cwd=root, stdout=output, stderr=subprocess.STDOUT)


def finish(app, _):
    """Wait for the tests; what they said, by name, goes to `app.equation_results`."""
    report = app.equation_report
    if app.equation_tests:
        status = app.equation_tests.wait()
        if status not in (0, 1) or not report.with_suffix(".part").exists():
            log.warning("the tests of the equations did not run (exit status %s): see %s", status,
                        report.with_suffix(".log"))
        elif status == 0:
            report.with_suffix(".part").replace(report)  # only a good report is kept
        else:
            report = report.with_suffix(".part")
    app.equation_results = results(report) if report.exists() else {}


def results(report):
    """What a JUnit report says -> {"test_file.py::test_name": True if all its cases passed}."""
    out = {}
    for case in ET.parse(report).iter("testcase"):
        name = f"{case.get('classname').rpartition('.')[2]}.py::{case.get('name').partition('[')[0]}"
        passed = all(case.find(tag) is None for tag in ("failure", "error", "skipped"))
        out[name] = out.get(name, True) and passed
    return out


def check_equations(app, doctree):
    """Warn of displayed equations of a chapter that name no test, and of tests of equations that are not there."""
    if Path(app.env.doc2path(app.env.docname)).suffix == ".ipynb":
        held = {node["equation"] for node in doctree.findall(tested)}
        labels = {node.get("label"): node for node in doctree.findall(nodes.math_block)}
        for label in labels.keys() - held:
            log.warning("equation %s names no test: put a {tested} block below it", label or "without a label",
                        location=labels[label])
        for label in held - labels.keys():
            log.warning("tests of equation %s, which is not on this page", label, location=app.env.docname)


def show(app, doctree, docname):
    """Put in what the tests said."""
    for node in list(doctree.findall(tested)):
        for name in node["tests"]:
            passed = app.equation_results.get(name)
            if not passed:
                log.warning("%s, which holds %s, %s", name, node["equation"],
                            "did not run" if passed is None else "failed or was skipped", location=docname)
        node.replace_self(nodes.Text(f": {'both ' if len(node['tests']) == 2 else ''}passed in this build."))


def setup(app):
    app.add_node(tested)
    app.add_directive("tested", Tested)
    app.connect("builder-inited", start)
    app.connect("doctree-read", check_equations)
    app.connect("env-check-consistency", finish)
    app.connect("doctree-resolved", show)
    return {"parallel_read_safe": True, "parallel_write_safe": False}
