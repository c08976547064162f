"""Parameter sweeps: a notebook executed with every combination of values, by papermill on dask.distributed.

    python -m esgap sweep chapters/01-electrostatic-baseline.ipynb -p charge_li 0.4 0.6 -p zeta_factor 1 2
    report = sweep("chapters/01-electrostatic-baseline.ipynb", {"charge_li": [0.4, 0.6], "zeta_factor": [1, 2]})

Each run leaves its executed notebook and a JSON record, named by its parameters. `<notebook>.csv` has a row for each
run: parameters, status, seconds, and the numbers and words the notebook quotes (`esgap.prose.quote`); the same rows are
`report.rows`, ready for pandas.DataFrame.

A run is done when its record, written after its notebook, is there and holds the hash of that notebook, and the `key`
of what goes in: chapter, parameters, this package, the data. What is done is never repeated, whatever was killed when.
Values that a parameter cannot have are refused before anything runs (`esgap.parameters`).
"""
import ast
import contextlib
import csv
import hashlib
import io
import itertools
import json
import math
import os
import re
import tempfile
import time
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from tqdm import tqdm

from esgap.parameters import read_parameters
from esgap.reference import dask_client
from esgap.store import data_path, file_hash, only_writer, read_record, write_atomically, write_record

RUN_LIMIT = 3600.0  # s
UNFINISHED = ("__pycache__/", "*.tmp", "*.lock", "*.parts/")  # never inputs, even in a copy without .gitignore
GLUED = "application/papermill.record/"  # myst_nb's prefix of what is quoted and not displayed


@dataclass(frozen=True)
class Run:
    """One combination of parameters. inputs: `inputs_hash`; key: changes with all that the result depends on."""

    name: str
    parameters: dict
    inputs: str
    key: str


@dataclass(frozen=True)
class Outcome:
    """What came of a run. notebook: as far as it was executed, None if it was lost together with its worker."""

    notebook: str | None
    seconds: float
    failure: str | None = None  # cell and error


@dataclass(frozen=True)
class SweepReport:
    """What a sweep did; `rows` of the table as dicts, `failures` as (run, cell and error)."""

    table: str
    rows: tuple
    done_before: int
    failures: tuple

    def __str__(self):
        text = f"{self.table}: {len(self.rows) - self.done_before} runs executed now, {self.done_before} before"
        return "\n".join([text, *(f"failed: {name}: {failure}" for name, failure in self.failures)])


def sweep(chapter, grid, output=None, workers=None, scheduler=None, limit=RUN_LIMIT, cell_limit=None, retry=False):
    """Execute a notebook for all combinations of a grid {parameter: values}, with progress on stderr -> SweepReport.

    output: a folder (default: sweeps/<notebook>). workers: runs at a time on this machine (None: one a core; 0: in
    this process, without dask); scheduler: the address of a running dask scheduler instead. limit, cell_limit: s, for
    a whole run and for each of its cells. retry: execute again what failed.
    """
    chapter = Path(chapter)
    folder = Path(output or Path("sweeps") / chapter.stem)
    runs = plan(chapter, grid)
    _refuse(folder, limit, limit if cell_limit is None else cell_limit)
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / f"{chapter.stem}.csv"
    with only_writer(table, folder / f"{chapter.stem}.*"):  # * for all files of this notebook's runs
        records = {run.name: _stored(folder, run) for run in runs}
        todo = [r for r in runs if not records[r.name] or (retry and records[r.name]["status"] == "failed")]
        with tqdm(total=len(runs), initial=len(runs) - len(todo), unit="run", disable=not todo) as bar, \
                _outcomes(chapter, todo, workers, scheduler, (limit, cell_limit)) as outcomes:
            for run, outcome in outcomes:
                records[run.name] = _store(folder, chapter, run, outcome)
                bar.update()
        rows = tuple(_row(run, records[run.name]) for run in runs)
        write_atomically(table, _csv(rows))
    failures = tuple((r.name, records[r.name]["failure"]) for r in runs if records[r.name]["failure"])
    return SweepReport(str(table), rows, len(runs) - len(todo), failures)


def _refuse(folder, limit, cell_limit):
    for name, given in (("limit", limit), ("cell_limit", cell_limit)):
        if not 0 < given < math.inf:
            raise ValueError(f"{name} is {given} s: give a finite time above zero")
    for inputs in _input_folders():
        if folder.resolve().is_relative_to(inputs):
            raise ValueError(f"output {folder} lies in {inputs}, a change of which makes all runs outdated: choose "
                             "another folder")


def plan(chapter, grid):
    """The runs of a grid {parameter: values}, the last parameter varying fastest; ValueError if one is impossible."""
    known = read_parameters(chapter)
    for name, values in grid.items():
        if name not in known:
            raise ValueError(f"{chapter} has no parameter {name!r}; possible are {', '.join(known)}")
        if isinstance(values, str) or not len(values):
            raise ValueError(f"the values of {name} are {values!r}: give a list of one or more")
    axes = {name: [known[name].check(v) for v in grid[name]] for name in known if name in grid}
    for name, values in axes.items():
        twice = [v for k, v in enumerate(values) if v in values[:k]]
        if twice:
            raise ValueError(f"parameter {name} is given {twice[0]!r} twice: every run needs values of its own")
    text, inputs = file_hash(chapter), inputs_hash()
    combinations = (dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values()))
    return [Run(run_name(Path(chapter).stem, p), p, inputs, _digest([text, inputs, p])) for p in combinations]


def run_name(stem, parameters):
    """A file name, without ending: readable, safe in any file system, and of these parameters alone."""
    readable = ",".join(f"{name}={value}" for name, value in parameters.items()) or "defaults"
    return f"{stem}.{re.sub('[^A-Za-z0-9.,=+-]+', '_', readable)[:80]}.{_digest(parameters)[:8]}"


def _digest(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def inputs_hash():
    """Hash of this package and of the shipped data; files that programs are working on do not count."""
    digest = hashlib.sha256()
    for place, folder in zip(("lib/esgap", "data"), _input_folders(), strict=True):
        for name, path in input_files(folder, place):
            digest.update(f"{name}\0{file_hash(path)}\n".encode())
    return digest.hexdigest()


def input_files(folder, place, checkout=None):
    """(name, path) of a folder's files (or of one file), by name, without those that the checkout's .gitignore names.

    place: where the folder lies in the checkout; names begin with it. checkout: a folder (default: the package's own).
    Needs no git: a line of .gitignore is a name or a path, * for any text, with a / behind a folder. The Makefile reads
    it the same way.
    """
    listed = (checkout or Path(__file__).parents[2]) / ".gitignore"
    lines = [*UNFINISHED, *(listed.read_text(encoding="utf-8").splitlines() if listed.exists() else ())]
    patterns = [f"*/{line}*" if line.endswith("/") else f"*/{line}" for line in lines]
    files = (path for path in [folder, *folder.rglob("*")] if path.is_file())
    named = sorted((Path(place, path.relative_to(folder)).as_posix(), path) for path in files)
    return [(name, path) for name, path in named if not any(fnmatchcase(f"/{name}", p) for p in patterns)]


def _input_folders():
    return Path(__file__).parent.resolve(), data_path().resolve()


@contextlib.contextmanager
def _outcomes(chapter, todo, workers, scheduler, limits):
    """An iterator over (run, outcome), in the order in which they finish."""
    notebook = chapter.read_text(encoding="utf-8")
    if not todo:
        yield iter(())
    elif workers == 0 and scheduler is None:
        yield ((run, execute(notebook, run, limits)) for run in todo)
    else:
        with dask_client(min(workers or os.cpu_count() or 1, len(todo)), scheduler) as client:
            futures = {client.submit(execute, notebook, run, limits, pure=False): run for run in todo}
            yield _dask_outcomes(futures)


def _dask_outcomes(futures):
    from dask.distributed import as_completed

    for future in as_completed(futures):
        run = futures.pop(future)
        if future.status == "finished":
            yield run, future.result()
        else:
            yield run, Outcome(None, 0.0, f"the worker failed: {future.exception()}")


def execute(notebook, run, limits):
    """Execute a notebook (text) with the parameters of a `Run`, wherever this is called -> `Outcome`.

    limits: s, of the run and of a cell (or None).
    """
    import papermill

    if inputs_hash() != run.inputs:
        return Outcome(None, 0.0, "the package or the data are others here than where the sweep began: let them be the "
                                  "same on all machines, and give the same command again")
    clock = Clock(*limits)
    with tempfile.TemporaryDirectory(prefix="esgap-sweep-") as folder:
        source, result = Path(folder, "source.ipynb"), Path(folder, "result.ipynb")
        source.write_text(notebook, encoding="utf-8")
        try:
            papermill.execute_notebook(source, result, run.parameters, progress_bar=False, timeout_func=clock,
                                       extra_arguments=["--log-level=ERROR"])  # of the kernel: no lines into our bar
            failure = None
        except Exception as error:  # whatever goes wrong with one run must not stop the others
            failure = clock.failure(error)
        executed = result if result.exists() else source
        return Outcome(executed.read_text(encoding="utf-8"), clock.seconds, failure)


class Clock:
    """Tells nbclient how long the next cell may take, within the limits of the run and of a cell; knows that cell."""

    def __init__(self, limit, cell_limit=None):
        self.limit, self.cell_limit, self.start, self.cell = limit, cell_limit, time.monotonic(), None

    @property
    def seconds(self):
        return time.monotonic() - self.start

    def __call__(self, cell):
        self.cell = cell
        left = self.limit - self.seconds
        return max(0.01, left if self.cell_limit is None else min(left, self.cell_limit))  # 0 would mean for ever

    def failure(self, error):
        """Which cell failed, and why."""
        from nbclient.exceptions import CellTimeoutError

        if isinstance(error, CellTimeoutError) and self.seconds >= self.limit:
            reason = f"stopped, the run took more than {self.limit:g} s (--limit)"
        elif isinstance(error, CellTimeoutError):
            reason = f"stopped, the cell took more than {self.cell_limit:g} s (--cell-limit)"
        else:
            name, value = getattr(error, "ename", type(error).__name__), getattr(error, "evalue", error)
            reason = f"{name}: {value}".strip()
        if self.cell is None:
            return f"before the first cell: {reason}"
        line = next(iter(self.cell["source"].strip().splitlines()), "")
        return f"In [{self.cell.get('execution_count')}] `{line[:60]}`: {reason}"


def quoted(notebook):
    """Numbers and words that an executed notebook (text) made quotable with `esgap.prose.quote` -> {name: value}."""
    values = {}
    for cell in json.loads(notebook)["cells"]:
        for output in cell.get("outputs", ()):
            name = output.get("metadata", {}).get("scrapbook", {}).get("name")
            data = output.get("data", {})
            text = "".join(data.get(f"{GLUED}text/plain", data.get("text/plain", "")))
            if name and text:
                with contextlib.suppress(SyntaxError, ValueError):  # a figure, an object: no number, no word
                    value = ast.literal_eval(text)
                    if isinstance(value, bool | int | float | str):
                        values[name] = value
    return values


def _stored(folder, run):
    """The record of a run that is done, or None."""
    try:
        record = read_record(folder / f"{run.name}.json")
        whole = record["key"] == run.key and file_hash(folder / f"{run.name}.ipynb") == record["notebook"]
    except (OSError, ValueError, KeyError, TypeError):  # not there; not a record of ours
        return None
    return record if whole else None


def _store(folder, chapter, run, outcome):
    """Put a run on disk, the record last; a run that was lost with its worker leaves nothing, and is not done."""
    record = {"status": "failed" if outcome.failure else "finished", "failure": outcome.failure,
              "seconds": round(outcome.seconds, 2), "parameters": run.parameters, "key": run.key, "quoted": {}}
    if outcome.notebook is None:
        return record
    path = folder / f"{run.name}.ipynb"
    write_atomically(path, outcome.notebook)
    if not outcome.failure:
        record["quoted"] = quoted(outcome.notebook)
    return write_record(folder / f"{run.name}.json", {**record, "notebook": file_hash(path)}, [chapter])


def _row(run, record):
    row = {"run": run.name, **run.parameters, "status": record["status"], "seconds": record["seconds"]}
    return row | {f"quoted {k}" if k in row else k: v for k, v in record["quoted"].items()}


def _csv(rows):
    buffer = io.StringIO()
    columns = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(buffer, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def add_sweep_arguments(parser):
    parser._negative_number_matcher = re.compile(r"-\.?\d\S*")  # argparse takes -1e-3 for an option
    parser.add_argument("chapter", help="a notebook with a cell tagged `parameters`")
    parser.add_argument("-p", "--parameter", nargs="+", action="append", default=[], metavar=("NAME", "VALUE"),
                        help="a parameter and its values; several -p make a grid")
    parser.add_argument("--output", help="folder of the results (default sweeps/NOTEBOOK); what is done is kept")
    parser.add_argument("--workers", type=int, help="runs at a time on this machine (default: one a core; 0: in this "
                                                    "process, without dask)")
    parser.add_argument("--scheduler", help="address of a running dask scheduler, e.g. tcp://host:8786")
    parser.add_argument("--limit", type=float, default=RUN_LIMIT, help="s, longest time of a run (default 3600)")
    parser.add_argument("--cell-limit", type=float, help="s, longest time of a cell (default: the run's)")
    parser.add_argument("--retry", action="store_true", help="execute again what failed")


def sweep_command(args):
    known, grid = read_parameters(args.chapter), {}
    for name, *texts in args.parameter:
        if name in grid:
            raise ValueError(f"-p {name} is given twice: write all its values behind one")
        grid[name] = [known[name].read(text) for text in texts] if name in known else texts  # `plan` refuses others
    report = sweep(args.chapter, grid, args.output, args.workers, args.scheduler, args.limit, args.cell_limit,
                   args.retry)
    print(report)
    return 1 if report.failures else 0
