"""Chapters: stripped, short, with parameters that papermill can set, and running from anywhere with their defaults."""
import ast
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import engine

CHAPTERS = sorted((Path(__file__).parents[1] / "chapters").glob("*.ipynb"))
PLAIN = (bool, int, float, str, list, dict)

each_chapter = pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)


def code_cells(chapter):
    cells = json.loads(chapter.read_text(encoding="utf-8"))["cells"]
    return [{**cell, "source": "".join(cell["source"])} for cell in cells if cell["cell_type"] == "code"]


@each_chapter
def test_outputs_are_stripped(chapter):
    cells = code_cells(chapter)
    assert [k for k, cell in enumerate(cells) if cell["outputs"] or cell["execution_count"] is not None] == []


@each_chapter
def test_no_functions_in_chapters(chapter):
    sources = [cell["source"] for cell in code_cells(chapter)]
    assert [source for source in sources if re.search(r"^\s*(def|class) ", source, re.MULTILINE)] == []


@each_chapter
def test_one_parameters_cell_of_plain_commented_literals(chapter):
    tagged = [cell for cell in code_cells(chapter) if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == 1
    for line in tagged[0]["source"].splitlines():
        (statement,) = ast.parse(line).body
        assert isinstance(statement, ast.Assign | ast.AnnAssign), f"not a parameter: {line}"
        assert isinstance(ast.literal_eval(statement.value), PLAIN), f"papermill cannot set: {line}"
        assert "#" in line[statement.end_col_offset:], f"no comment behind: {line}"


# In a process of its own: what the kernel used is known only once all of a process's children have ended.
MEASURED = """
import json, resource, subprocess, sys
status = subprocess.run(sys.argv[1:]).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"cpu_s": used.ru_utime + used.ru_stime, "peak_gb": used.ru_maxrss / 1e6}))
sys.exit(status)
"""


PRODUCT_MS = 84.15  # CPU time of `engine.large_product` on the machine on which pages execute in 30 s


@cache
def slowness():
    """How many times slower than that machine this one is, by CPU time of the same product of matrices, measured now;
    1 on a faster one, and no more than 2, since pages are not all products."""
    now = engine.timed({"large product": engine.large_product()}, 3)["large product"]["cpu_ms"]
    return min(2.0, max(1.0, now / PRODUCT_MS))


def run_chapter(chapter, folder, *parameters):
    """Run a chapter from elsewhere -> ("cpu_s", "peak_gb") of the largest process, the cells as executed."""
    command = [sys.executable, "-c", MEASURED, sys.executable, "-m", "papermill", str(chapter),
               str(folder / "run.ipynb"), "--cwd", str(folder), "--execution-timeout", "240", "--no-progress-bar",
               "--log-level", "ERROR", *parameters]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1]), code_cells(folder / "run.ipynb")


@each_chapter
def test_runs_with_defaults_from_elsewhere(chapter, tmp_path):
    """A page executes in 30 s on two idle cores, so in 60 CPU seconds, whatever else the machine is doing, and in the
    memory of a Binder session, 2 GB of which JupyterLab takes its part."""
    used, _ = run_chapter(chapter, tmp_path)
    assert used["cpu_s"] < 60 * slowness()
    assert used["peak_gb"] < 1.7


@pytest.mark.slow
@pytest.mark.parametrize(("name", "parameters", "call"), [
    ("04-diffusion-paths", ["-p", "live", "True"], "hop_paths.found_now("),
    ("05-conductivity", ["-p", "live_steps", "500"], "dynamics.run("),
    ("06-frenkel-defects", ["-p", "live", "True"], "frenkel.relax(chosen"),
])
def test_live_cells_run_in_two_minutes(name, parameters, call, tmp_path):
    """On two idle cores, so in 240 CPU seconds, and in a Binder session's memory."""
    chapter = next(path for path in CHAPTERS if path.stem == name)
    used, cells = run_chapter(chapter, tmp_path, *parameters)
    (live,) = [cell for cell in cells if call in cell["source"]]
    assert live["outputs"]
    assert "Nothing is run" not in json.dumps(live["outputs"])
    assert used["cpu_s"] < 240 * slowness()
    assert used["peak_gb"] < 1.7
