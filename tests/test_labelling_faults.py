"""Labelling that is killed at any moment, started twice, given a full disk or wrong input."""
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from esgap.__main__ import main
from esgap.cp2k import CP2K
from esgap.reference import AnyCalculator, dask_client, label_file, load_calculator
from esgap.store import read_frames, write_frames

SLOW = "reference_calculators:slow"
QUICK = "reference_calculators:quick"  # half of its time goes into writing files
N_FRAMES = 120
# Labels in a process of its own, which it kills at a random time after it began, until one comes to its end; prints the
# number of frames on disk after each kill. Forked, so that no start has to import anything.
KILLER = """
import os, pathlib, random, signal, sys, time
from esgap import reference
reference.MERGE_EVERY = 0.05  # s: kills meet merges too
reference.load_calculator(sys.argv[4])
random.seed(int(sys.argv[1]))
out = pathlib.Path(sys.argv[3])
for kills in range(1000):
    child = os.fork()
    if child == 0:
        sys.stderr = open(os.devnull, "w")
        reference.label_file(sys.argv[2], out, reference.AnyCalculator(sys.argv[4]), workers=0)
        os._exit(0)
    lock = out.with_name(out.name + ".lock")
    while not (lock.exists() and f"process {child} " in lock.read_text()) and os.waitpid(child, os.WNOHANG) == (0, 0):
        time.sleep(0.001)
    time.sleep(random.uniform(0, 0.1 + 0.005 * kills))
    try:
        os.kill(child, signal.SIGKILL)
        if os.waitpid(child, 0)[1] == 0:
            break
    except (ProcessLookupError, ChildProcessError):
        break  # it had come to its end and was waited for above
    merged = out.read_text().count("Lattice") if out.exists() else 0
    print(merged + len(list(out.with_name(out.name + ".parts").glob("*.xyz"))))
"""


# The same, killed at every `step`th line that store.py executes, and then resumed; the results must all be one.
KILLED_AT_EACH_LINE = """
import os, pathlib, signal, sys, time
from esgap import reference, store
reference.MERGE_EVERY = 0
sys.stderr = open(os.devnull, "w")
labeller = reference.AnyCalculator(sys.argv[2])
reference.load_calculator(sys.argv[2])

def label(out, last_line=None):
    n_lines = 0
    def trace(frame, event, _):
        nonlocal n_lines
        if frame.f_code.co_filename != store.__file__:
            return None
        n_lines += event == "line"
        if n_lines == last_line:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace
    sys.settrace(trace)
    reference.label_file(sys.argv[1], out, labeller, workers=0)
    sys.settrace(None)
    return n_lines

n_lines, step = label(pathlib.Path("whole.xyz")), int(sys.argv[3])
for n in range(1, n_lines, step):
    out = pathlib.Path(f"at-{n}.xyz")
    child = os.fork()
    if child == 0:
        label(out, n)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL, n
    reference.label_file(sys.argv[1], out, labeller, workers=0)
    assert out.read_text() == pathlib.Path("whole.xyz").read_text(), n
print(len(range(1, n_lines, step)))
"""


@pytest.fixture
def frames(tmp_path):
    rng = np.random.default_rng(7)
    out = []
    for k in range(N_FRAMES):
        atoms = Atoms("Li4P2S6", rng.uniform(0, 7, (12, 3)), cell=[[7, 0, 0], [1, 7, 0], [0, 2, 7]], pbc=True)
        atoms.info.update(name=f"frame-{k}", config_type="fault", generation=k % 3)
        out.append(atoms)
    write_frames(tmp_path / "in.xyz", out)
    return out


@pytest.fixture
def undisturbed(tmp_path, frames):
    """What a run gives that nothing disturbs (by the slow calculator's instant twin, renamed)."""
    instant = AnyCalculator("reference_calculators:instant")
    label_file(tmp_path / "in.xyz", tmp_path / "undisturbed.xyz", instant, workers=0)
    return (tmp_path / "undisturbed.xyz").read_text().replace("reference_calculators:instant", SLOW)


def start(tmp_path, *arguments):
    return subprocess.Popen([sys.executable, "-m", "esgap", "label", "in.xyz", "out.xyz", *arguments], cwd=tmp_path,
                            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parent)},
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def test_killed_at_random_moments_gives_the_undisturbed_result(tmp_path, undisturbed):
    done = subprocess.run([sys.executable, "-c", KILLER, "20211109", "in.xyz", "out.xyz", QUICK], cwd=tmp_path,
                          env={"PYTHONPATH": str(Path(__file__).parent)}, capture_output=True, text=True, check=True)
    on_disk = [int(n) for n in done.stdout.split()]
    assert len(on_disk) >= 20
    assert len({n for n in on_disk if 0 < n < N_FRAMES}) >= 10  # kills met work in progress, not only its beginning
    assert (tmp_path / "out.xyz").read_text() == undisturbed.replace(SLOW, QUICK)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.xyz", "out.json", "out.xyz", "undisturbed.json",
                                                          "undisturbed.xyz"]


def test_killed_at_any_line(tmp_path, frames):
    write_frames(tmp_path / "in.xyz", frames[:4])
    done = subprocess.run([sys.executable, "-c", KILLED_AT_EACH_LINE, "in.xyz", "reference_calculators:instant", "17"],
                          cwd=tmp_path, env={"PYTHONPATH": str(Path(__file__).parent)}, capture_output=True, text=True,
                          check=True)
    assert int(done.stdout) >= 20
    left = {p.name for p in tmp_path.iterdir() if not p.name.startswith(("at-", "whole", "in."))}
    assert not left  # no temporary file outlives the next run


def test_killed_with_dask(tmp_path, undisturbed):
    random.seed(1)
    for _ in range(2):
        with start(tmp_path, "--calculator", SLOW, "--workers", "2") as run:
            n_before = _n_on_disk(tmp_path)
            while _n_on_disk(tmp_path) == n_before and run.poll() is None:
                time.sleep(0.01)
            time.sleep(random.uniform(0, 0.3))
            run.send_signal(signal.SIGKILL)
        assert run.returncode == -signal.SIGKILL
        n_done = _n_on_disk(tmp_path)
        assert n_before < n_done < N_FRAMES
    with start(tmp_path, "--calculator", SLOW, "--workers", "2") as run:
        assert f"{n_done}/{N_FRAMES}" in run.communicate(timeout=100)[1]  # the bar starts at what is done
    assert run.returncode == 0
    assert (tmp_path / "out.xyz").read_text() == undisturbed


def _n_on_disk(tmp_path):
    merged = len(read_frames(tmp_path / "out.xyz")) if (tmp_path / "out.xyz").exists() else 0
    return merged + len(list((tmp_path / "out.xyz.parts").glob("*.xyz")))


def test_two_processes_on_one_output(tmp_path, frames):
    with start(tmp_path, "--calculator", SLOW, "--workers", "0") as run:
        while not (tmp_path / "out.xyz.parts").exists():
            time.sleep(0.01)
        with pytest.raises(RuntimeError, match=f"out.xyz is being written by process {run.pid} on"):
            label_file(tmp_path / "in.xyz", tmp_path / "out.xyz", AnyCalculator(SLOW), workers=0)
        run.terminate()
        run.communicate()
    assert run.returncode == 143
    assert not (tmp_path / "out.xyz.lock").exists()


def test_disk_full(tmp_path, undisturbed):
    code = ("import resource, sys; from esgap.__main__ import main; "
            "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2); sys.exit(main(sys.argv[2:]))")
    command = [sys.executable, "-c", code, "20000", "label", "in.xyz", "out.xyz", "--calculator", SLOW,
               "--workers", "0"]
    environment = {"PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "esgap label: [Errno 27] cannot write out.xyz (File too large); nothing that was finished" in done.stderr
    assert len(list((tmp_path / "out.xyz.parts").iterdir())) == N_FRAMES  # each is small enough, all together are not
    command[3] = "-1"
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert f"0 frames labelled now, {N_FRAMES} before" in done.stdout
    assert (tmp_path / "out.xyz").read_text() == undisturbed


def test_unknown_element_and_open_cell(tmp_path):
    xenon = Atoms("LiXe", [[0, 0, 0], [3, 0, 0]], cell=[8] * 3, pbc=True, info={"name": "x"})
    write_frames(tmp_path / "in.xyz", [xenon])
    labeller = CP2K(ranks=1, program="true")
    with pytest.raises(ValueError, match=r"frame x contains Xe, .*Li, P, S.*: add it to esgap.cp2k_input.VALENCE"):
        label_file(tmp_path / "in.xyz", tmp_path / "out.xyz", labeller)
    with pytest.raises(ValueError, match=r"frame y has pbc \[True, True, False\] .* periodic in three directions"):
        labeller(Atoms("Li", cell=[8] * 3, pbc=[True, True, False], info={"name": "y"}))


def test_missing_programs(tmp_path, frames, monkeypatch, capsys):
    with pytest.raises(FileNotFoundError, match=r"'no-such-cp2k' not found: install CP2K \(Debian: cp2k, cp2k-data"):
        label_file(tmp_path / "in.xyz", tmp_path / "out.xyz", CP2K(program="no-such-cp2k"))
    with pytest.raises(FileNotFoundError, match="'no-mpirun' not found"):
        label_file(tmp_path / "in.xyz", tmp_path / "out.xyz", CP2K(program="true", launcher="no-mpirun"))
    monkeypatch.setenv("PATH", "")
    assert main(["label", str(tmp_path / "in.xyz"), str(tmp_path / "out.xyz")]) == 2
    assert "esgap label: program 'cp2k.psmp' not found" in capsys.readouterr().err


@pytest.mark.parametrize(("spec", "message"), [
    ("EMT", "is not of the form module:factory, e.g."),
    ("no_such_module:EMT", "cannot import 'no_such_module' .*on PYTHONPATH"),
    ("ase.calculators.emt:NoEMT", "module 'ase.calculators.emt' has no 'NoEMT'"),
    ("reference_calculators:no_calculator", "made a str, which is not an ASE calculator"),
])
def test_wrong_calculator_names(spec, message):
    with pytest.raises(ValueError, match=message):
        load_calculator(spec)


def test_names_must_be_there_and_unique(tmp_path, frames):
    frames[5].info["name"] = "frame-4"
    write_frames(tmp_path / "in.xyz", frames)
    with pytest.raises(ValueError, match=r"2 frames of .*in.xyz are named 'frame-4': .* make each unique"):
        label_file(tmp_path / "in.xyz", tmp_path / "out.xyz", AnyCalculator(SLOW))
    del frames[5].info["name"]
    write_frames(tmp_path / "in.xyz", frames)
    with pytest.raises(ValueError, match=r"frame 5 of .*in.xyz has no name: write one, e.g. name=md-0005"):
        label_file(tmp_path / "in.xyz", tmp_path / "out.xyz", AnyCalculator(SLOW))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "not an address"])
def test_scheduler_that_is_not_there(tmp_path, frames, monkeypatch, address):
    monkeypatch.setattr("esgap.reference.dask_client.__wrapped__.__defaults__", (None, 1, False))
    with pytest.raises(ConnectionError, match=r"no dask scheduler answers at .*: start one with `dask scheduler`"):
        label_file(tmp_path / "in.xyz", tmp_path / "out.xyz", AnyCalculator(SLOW), scheduler=address)


def test_workers_keep_to_cores_of_their_own():
    cores = sorted(os.sched_getaffinity(0))
    with dask_client(2, own_cores=True) as client:
        found = [set(x) for x in client.run(os.sched_getaffinity, 0).values()]
        kept = client.run(os.environ.get, "MALLOC_TRIM_THRESHOLD_")
    assert len(found) == 2
    assert set.union(*found) == set(cores)
    assert len(cores) == 1 or not found[0] & found[1]
    assert sorted(os.sched_getaffinity(0)) == cores  # and the process that started them to all of its own
    assert set(kept.values()) == {None}  # freed memory stays theirs, see dask_client


def test_malformed_input_is_told_without_a_traceback(tmp_path, frames, capsys):
    text = (tmp_path / "in.xyz").read_text()
    (tmp_path / "in.xyz").write_text(text[:-40])
    assert main(["label", str(tmp_path / "in.xyz"), str(tmp_path / "out.xyz"), "--calculator", SLOW]) == 2
    assert f"in.xyz ends in the middle of frame {N_FRAMES - 1}" in capsys.readouterr().err


def test_relax_takes_one_frame(tmp_path, frames, capsys):
    assert main(["relax", str(tmp_path / "in.xyz"), str(tmp_path / "out.xyz"), "--calculator", SLOW]) == 2
    assert f"holds {N_FRAMES} frames; relax takes one" in capsys.readouterr().err
