"""Sweeps for real: kernels, dask, kills and limits; and, without any kernel, what counts as done."""
import csv
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import book
from esgap import sweep as module
from esgap.__main__ import main
from esgap.store import data_path, read_record
from esgap.sweep import Outcome, quoted, run_name, sweep

CHAPTERS = Path(__file__).parents[1] / "chapters"
PARAMETERS = """\
x = 2.0         # m, 0 to 10: edge of a square
mode = "good"   # one of "good", "bad", "slow": what the notebook does
log = ""        # one of "", "log": file to which each execution adds a line"""
WORK = """\
import time
if log:
    open(log, "a").write(f"{x}\\n")
time.sleep({"good": 0.2, "bad": 0, "slow": 600}[mode])
1 / (mode == "good")"""
# What myst_nb.glue(name, value, display=False) puts out, without the second that its import takes
GLUE = """\
for name, value in {"area": x**2, "word": "large" if x > 2 else "small", "x": x}.items():
    data = {"application/papermill.record/text/plain": repr(value)}
    display(data, raw=True, metadata={"scrapbook": {"name": name}})"""
# Sweeps in a process group of their own, which is killed at a random time, over and over; forked, so that no start has
# to import anything. Prints after each kill which runs are done, and when they were stored.
KILLER = """
import json, os, pathlib, random, signal, sys, time
import nbclient, papermill
from esgap.sweep import sweep
random.seed(int(sys.argv[1]))
folder = pathlib.Path("out")
for kill in range(4):
    child = os.fork()
    if child == 0:
        os.setsid()
        sweep("square.ipynb", json.loads(sys.argv[2]), folder, workers=0)
        os._exit(0)
    time.sleep(random.uniform(0.5, 4))
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        pass
    os.waitpid(child, 0)
    print(json.dumps({p.name: p.stat().st_mtime_ns for p in folder.glob("*.json")}), flush=True)
"""


@pytest.fixture
def square(tmp_path, monkeypatch):
    """A small notebook in the current folder."""
    monkeypatch.chdir(tmp_path)
    cells = [new_markdown_cell("# Squares"), new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}),
             new_code_cell(WORK), new_code_cell(GLUE)]
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), "square.ipynb")
    return Path("square.ipynb")


@pytest.fixture
def no_kernels(square, monkeypatch):
    """Runs that take no time; returns the parameters of those that are executed."""
    executed = []

    def execute(notebook, run, limits):
        executed.append(run.parameters)
        failure = "In [3] `1 / 0`: ZeroDivisionError" if run.parameters.get("mode") == "bad" else None
        return Outcome(notebook, 1.0, failure)

    monkeypatch.setattr(module, "execute", execute)
    return executed


def without_times(rows):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


@pytest.mark.timeout(900)  # seconds on an idle machine
def test_a_grid_on_dask(square, capfd):
    command = ["sweep", str(square), "-p", "mode", "good", "bad", "-p", "x", "1.5", "3", "--output", "out", "--workers",
               "2"]
    assert main(command) == 1
    out, err = capfd.readouterr()
    bar = [line for line in err.split("\r") if "run/s" in line or "s/run" in line]
    assert "| 0/4 [" in bar[0]
    assert "| 4/4 [" in bar[-1]
    assert "out/square.csv: 4 runs executed now, 0 before\nfailed: square.x=1.5,mode=bad." in out
    assert "In [3] `import time`: ZeroDivisionError: division by zero" in out
    rows = list(csv.DictReader(Path("out/square.csv").read_text().splitlines()))
    assert [(r["x"], r["mode"], r["status"], r["area"], r["word"], r["quoted x"]) for r in rows] == [
        ("1.5", "good", "finished", "2.25", "small", "1.5"), ("1.5", "bad", "failed", "", "", ""),
        ("3.0", "good", "finished", "9.0", "large", "3.0"), ("3.0", "bad", "failed", "", "", "")]
    for row in rows:
        executed = nbformat.read(f"out/{row['run']}.ipynb", as_version=4)
        assert any("Parameters" in cell.source and f"x = {row['x']}" in cell.source for cell in executed.cells)
        assert read_record(f"out/{row['run']}.json")["parameters"] == {"x": float(row["x"]), "mode": row["mode"]}
        assert float(row["seconds"]) > 0
    before = Path("out/square.csv").read_bytes()
    assert main(command) == 1  # what failed is still to be told
    assert "0 runs executed now, 4 before\nfailed:" in capfd.readouterr().out
    assert Path("out/square.csv").read_bytes() == before


def test_limits_of_a_run_and_of_a_cell(square):
    start = time.monotonic()
    report = sweep(square, {"mode": ["slow"]}, "a", workers=0, limit=600, cell_limit=0.5)
    assert report.failures[0][1] == "In [3] `import time`: stopped, the cell took more than 0.5 s (--cell-limit)"
    report = sweep(square, {"mode": ["slow"]}, "b", workers=0, limit=5)
    assert report.failures[0][1].endswith("stopped, the run took more than 5 s (--limit)")
    assert time.monotonic() - start < 120  # not 600
    assert [row["status"] for row in report.rows] == ["failed"]


@pytest.mark.timeout(900)  # seconds on an idle machine
def test_killed_at_any_moment_and_resumed(square, monkeypatch):
    """One kill of the command with its workers, four without; nothing is repeated, nothing half is taken."""
    grid = {"x": [1, 2, 3, 4, 5], "log": ["log"]}
    command = [sys.executable, "-m", "esgap", "sweep", "square.ipynb", "-p", "x", *"12345", "-p", "log", "log",
               "--output", "out", "--workers", "1"]
    group = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    while not (Path("log").exists() and Path("log").read_text()) and group.poll() is None:
        time.sleep(0.05)
    time.sleep(random.uniform(0, 2))
    os.killpg(group.pid, signal.SIGKILL)
    group.wait()
    stored = [{p.name: p.stat().st_mtime_ns for p in Path("out").glob("*.json")}]
    killer = subprocess.run([sys.executable, "-c", KILLER, str(random.randrange(10**6)), json.dumps(grid)], check=True,
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    stored += map(json.loads, killer.stdout.splitlines())
    report = sweep(square, grid, "out", workers=0)
    final = {p.name: p.stat().st_mtime_ns for p in Path("out").glob("*.json")}
    for earlier in stored:
        assert earlier.items() <= final.items(), "a finished run was executed again"
    assert [(r["x"], r["area"], r["status"]) for r in report.rows] == [(x, x**2, "finished") for x in range(1, 6)]
    assert sorted(p.suffix for p in Path("out").iterdir()) == [".csv"] + 5 * [".ipynb"] + 5 * [".json"]
    monkeypatch.setattr(module, "execute", None)
    assert sweep(square, grid, "out").rows == report.rows


@pytest.mark.timeout(900)  # seconds on an idle machine
def test_a_scheduler_of_its_own(square, tmp_path):
    dask = [sys.executable, "-m", "dask"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", "s.json",
                           "--dashboard-address", ":0"], **quiet) as scheduler:
        try:
            while not Path("s.json").exists() and scheduler.poll() is None:
                time.sleep(0.05)
            address = read_record("s.json")["address"]
            (tmp_path / "elsewhere").mkdir()
            worker = [*dask, "worker", address, "--nworkers", "1", "--nthreads", "1", "--no-dashboard"]
            with subprocess.Popen(worker, cwd=tmp_path / "elsewhere", **quiet) as process:
                report = sweep(square, {"x": [3]}, "out", scheduler=address)
                process.terminate()
        finally:
            scheduler.terminate()
    assert without_times(report.rows) == [{"run": report.rows[0]["run"], "x": 3.0, "status": "finished", "area": 9.0,
                                           "word": "large", "quoted x": 3.0}]


@pytest.mark.parametrize(("grid", "message"), [
    ({"edge": [1]}, "square.ipynb has no parameter 'edge'; possible are x, mode, log"),
    ({"x": ["hot"]}, r"parameter x is 'hot'; possible is a number from 0 to 10 \(m, 0 to 10: edge of a square\)"),
    ({"x": [1, 11]}, "parameter x is 11.0; possible is a number from 0 to 10"),
    ({"mode": ["good", "best"]}, "parameter mode is 'best'; possible is one of 'good', 'bad', 'slow'"),
    ({"x": [1, 1.0]}, r"parameter x is given 1\.0 twice: every run needs values of its own"),
    ({"x": []}, r"the values of x are \[\]: give a list of one or more"),
    ({"mode": "good"}, "the values of mode are 'good': give a list"),
])
def test_what_is_refused_before_anything_runs(square, grid, message):
    with pytest.raises(ValueError, match=message):
        sweep(square, grid, "out")
    assert not Path("out").exists()


@pytest.mark.parametrize(("given", "message"), [
    ({"limit": 0}, "limit is 0 s: give a finite time above zero"), ({"limit": math.inf}, "limit is inf s: give"),
    ({"cell_limit": -1}, "cell_limit is -1 s: give a finite time above zero"),
    ({"output": data_path("runs/sweep")}, "runs/sweep lies in .*data, a change of which makes all runs outdated"),
])
def test_limits_and_folders_that_make_no_sense(square, given, message):
    with pytest.raises(ValueError, match=message):
        sweep(square, {}, **given)


def test_wrong_commands(square, capfd):
    for words, message in [(["-p", "x", "hot"], "parameter x is 'hot'; possible is a number from 0 to 10"),
                           (["-p", "x", "-1e-3"], "parameter x is '-1e-3'; possible"),
                           (["-p", "edge", "1"], "has no parameter 'edge'; possible are x, mode, log"),
                           (["-p", "x"], r"the values of x are []: give a list"),
                           (["-p", "x", "1", "-p", "x", "2"], "-p x is given twice: write all its values behind one")]:
        assert main(["sweep", str(square), *words]) == 2
        assert message in capfd.readouterr().err


def test_only_what_is_missing_or_changed_runs(no_kernels, square, monkeypatch):
    grid = {"x": [1, 2], "mode": ["good", "bad"]}
    assert (sweep(square, grid, "out", workers=0).done_before, len(no_kernels)) == (0, 4)
    report = sweep(square, {"mode": ["good", "bad"], "x": [1, 2, 3]}, "out", workers=0)  # the order makes no difference
    assert (report.done_before, len(no_kernels)) == (4, 6)
    assert len(sweep(square, grid, "out", workers=0, retry=True).failures) == 2
    assert no_kernels[6:] == [{"x": 1, "mode": "bad"}, {"x": 2, "mode": "bad"}]
    half, lost, old = (Path("out", run_name("square", {"x": x, "mode": "good"})) for x in (1.0, 2.0, 3.0))
    notebook, record = half.with_name(f"{half.name}.ipynb"), old.with_name(f"{old.name}.json")
    notebook.write_text(notebook.read_text()[:-40])
    lost.with_name(f"{lost.name}.json").unlink()
    record.write_text(record.read_text()[:-40])
    sweep(square, {"x": [1, 2, 3]} | {"mode": ["good"]}, "out", workers=0)
    assert [p["x"] for p in no_kernels[8:]] == [1, 2, 3]
    square.write_text(square.read_text().replace("Squares", "Areas"))
    assert sweep(square, {"x": [1], "mode": ["good"]}, "out", workers=0).done_before == 0
    monkeypatch.setattr(module, "inputs_hash", lambda: "another package or other data")
    assert sweep(square, {"x": [1], "mode": ["good"]}, "out", workers=0).done_before == 0
    assert sweep(square, {}, "out", workers=0).rows[0]["run"].startswith("square.defaults.")


def test_rows_are_a_table_for_pandas(no_kernels, square):
    """pandas is no package that the book needs; it comes with those of the tests."""
    import pandas as pd

    report = sweep(square, {"x": [1, 2], "mode": ["good", "bad"]}, "out", workers=0)
    table = pd.DataFrame(report.rows).set_index("run")
    assert table.x.tolist() == [1.0, 1.0, 2.0, 2.0]
    assert (table.status == "failed").equals(table["mode"] == "bad")
    pd.testing.assert_frame_equal(table, pd.read_csv("out/square.csv").set_index("run"))


def test_a_run_that_is_lost_with_its_worker_is_not_done(square, monkeypatch):
    lost = Outcome(None, 0.0, "the worker failed: killed")
    monkeypatch.setattr(module, "execute", lambda *_: lost)
    for _ in range(2):
        report = sweep(square, {}, "out", workers=0)
        assert report.done_before == 0
        assert report.failures == ((report.rows[0]["run"], "the worker failed: killed"),)


def test_workers_with_another_package_do_not_run(square):
    run = module.Run("r", {}, "hash of another package", "key")
    outcome = module.execute(square.read_text(), run, (60, None))
    assert outcome.notebook is None
    assert outcome.failure.startswith("the package or the data are others here than where the sweep began")


def test_working_files_are_no_inputs(tmp_path, monkeypatch):
    """What .gitignore names may change at any time, and no sweep, no cached chapter, no page is outdated by it."""
    for name in (".gitignore", "Makefile"):
        shutil.copy(CHAPTERS.parent / name, tmp_path)
    runs = tmp_path / "data" / "runs" / "mobility"
    runs.mkdir(parents=True)
    monkeypatch.setenv("ESGAP_DATA", str(tmp_path / "data"))

    def inputs():
        make = ["make", "--silent", "--no-print-directory", "--eval", "show: ; @echo $(INPUTS)", "show"]
        return (module.inputs_hash(), book.inputs_hash(tmp_path),
                subprocess.run(make, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split())

    before = inputs()
    for name in ("md/gap-800K-0.npz", "gap.npz.segments/1.npz", "gap.state.npz", "gap.npz.lock", ".gap.npz.x.tmp"):
        (runs / name).parent.mkdir(exist_ok=True)
        (runs / name).write_text("at work")
    assert inputs() == before
    (runs / "gap-800K-0.npz").write_text("done")
    assert [was == now for was, now in zip(before, inputs(), strict=True)] == [False, False, False]
    assert inputs()[2][2:] == ["./data/runs/mobility/gap-800K-0.npz"]  # behind _config.yml and _toc.yml


def test_names_are_safe_and_of_one_run_alone():
    names = [run_name("a-b", {"path": "../x y/%s" % ("z" * k)}) for k in (1, 200, 201)] + [run_name("a-b", {})]
    assert len(set(names)) == 4
    for name in names:
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789.,=+-_")
        assert len(name) < 120
    assert run_name("c", {"x": 1.0}) != run_name("c", {"x": 1})


def test_only_numbers_and_words_are_read_back():
    outputs = [{"metadata": {"scrapbook": {"name": name}}, "data": {f"{prefix}text/plain": text}}
               for name, prefix, text in [("n", module.GLUED, "3"), ("shown", "", "'w'"), ("figure", "", "<Figure>"),
                                          ("list", module.GLUED, "[1, 2]"), ("n", module.GLUED, "4")]]
    assert quoted(json.dumps({"cells": [{"outputs": outputs}, {}]})) == {"n": 4, "shown": "w"}


@pytest.mark.slow  # test_chapters runs every chapter in the same way
@pytest.mark.timeout(900)
def test_plain_papermill_from_any_folder(tmp_path):
    """What esgap.prose quotes in a real chapter, run with other parameters, is read back."""
    papermill = [sys.executable, "-m", "papermill", str(CHAPTERS / "00-introduction.ipynb"), "out.ipynb", "-p", "frame",
                 "3", "-p", "polyhedra", "False", "--no-progress-bar", "--log-level", "ERROR"]
    run = subprocess.run(papermill, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    values = quoted((tmp_path / "out.ipynb").read_text(encoding="utf-8"))
    assert (values["n_ps4"], values["n_p2s7"], values["n_terminal"], values["n_bridging"]) == (2, 2, 20, 2)
