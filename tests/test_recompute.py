"""Stored results are made again by the commands in their records: those of the ledger and of make, and one for real."""
import shlex
import subprocess
from pathlib import Path

import pytest

from esgap import data_path, found_mobility, ledger, mobility, recompute, store
from esgap.__main__ import main, parsed
from esgap.store import read_frames, write_record

ROOT = Path(__file__).parents[1]
TRACKED = set(subprocess.run(["git", "ls-files", "data"], cwd=ROOT, capture_output=True, text=True, check=True)
              .stdout.splitlines())


def expanded(patterns):
    """Stored files, as the shell that is given the command finds them."""
    return [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]


@pytest.mark.parametrize("claim", ledger.TESTS)
def test_commands_of_the_ledger_can_be_given(claim):
    verdict = ledger.TESTS[claim]()
    if not verdict.numbers:
        pytest.skip("not yet tested")
    args = parsed(shlex.split(verdict.command)[3:])
    assert all(expanded([pattern]) for pattern in map(str, args.stored)), "a pattern without a file"
    commands = recompute.once(a for path in expanded(map(str, args.stored)) for a in recompute.again(path))
    for a in commands:
        parsed(list(a.words))
        assert any(word.startswith("_build/reproduced/") for word in a.words)
        assert {word for word in a.words if word.startswith("data/")} <= TRACKED
        assert {str(path.relative_to(ROOT)) for path in a.start} <= TRACKED
        assert all(word.startswith("_build/reproduced/") or not word.endswith((".xyz", ".npz", ".json"))
                   for word in a.words if word not in TRACKED)


def test_the_runs_behind_conductivities_are_all_named():
    counted = sum(map(len, mobility.load_all().values()))
    found = expanded(f"data/{name}" for name in found_mobility.RUNS)
    runs = [run for path in found for run in mobility.load_runs_of(path) if mobility.near(run, 800)
            and tuple(run.about["repeat"]) == (1, 1, 1)]
    assert len(runs) == counted
    assert all(mobility.near(run, 800) for path in found for run in mobility.load_runs_of(path))


def test_batches_are_made_again_one_by_one_since_they_need_an_accelerator():
    assert not [a for a in recompute.again(data_path("runs/mobility")) if "--replicas" in a.words]
    (batch,) = recompute.again(data_path("runs/mobility/gap-800K-x64-1.npz"))
    assert batch.words[:3] == ("conductivity", "--replicas", "64")
    assert batch.words.count("--folder") == 1


def test_options_that_would_keep_what_is_stored_are_left_out():
    for path in expanded(["data/runs/paths", "data/runs/paths/paths.json", "data/runs/mobility"]):
        assert not [a for a in recompute.again(path) if {"--replace", "--trajectory"} & set(a.words)]
    (energies,), (whole,) = (recompute.again(data_path(f"runs/{name}")) for name in ("paths/paths.json", "paths"))
    assert [path.name for path in whole.start] == ["ends.xyz"]
    assert len(energies.start) > 10  # paths of both models: only their energies are computed


def test_born_charges_and_traversals_are_made_anew_elsewhere():
    (born,) = recompute.again(data_path("runs/born.json"))
    assert born.words[:3] == ("born", "data/crystal.xyz", "_build/reproduced/runs/born.json")
    (across,) = recompute.again(data_path("runs/traversals.json"))
    assert across.words[-2:] == ("--output", "_build/reproduced/runs/traversals.json")
    for a in (born, across):
        parsed(list(a.words))
        assert {word for word in a.words if word.startswith("data/")} <= TRACKED


@pytest.mark.parametrize(("name", "message"), [
    ("crystal.xyz", "has no record of what made it; data/README.md says how"),
    ("training/gen1.notes.json", "has no record of what made it"),
    ("models/gap.json", "is of the training loop, which is run again as a whole: make reproduce-training"),
    ("runs/benchmark-engine.json", "was made by `benchmarks/engine.py .*`, which is no command of esgap"),
    ("testsets/md-400K/gap-0.npz", "`python -m esgap testset`, which cannot be given again for one file"),
    ("literature", "holds neither runs nor paths"),
    ("runs/learning.json", "is not one of the stored results in"),
])
def test_what_cannot_be_made_again_says_why(name, message, tmp_path, monkeypatch):
    path = data_path(name)
    if name == "literature":
        path = tmp_path
    elif name == "runs/learning.json":
        monkeypatch.setattr(recompute, "data_path", lambda name="": tmp_path / name)
    with pytest.raises(ValueError, match=message):
        recompute.again(path)


def test_labels_for_real(tmp_path, monkeypatch, capfd):
    """Stored labels, whose unlabelled frames are gone, are made again and compared; nothing in data changes."""
    for folder in ("data/dft", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setenv("ESGAP_DATA", str(tmp_path / "data"))
    frames = read_frames(ROOT / "data" / "dft" / "li2s.xyz")[:2]
    store.write_frames(tmp_path / "frames.xyz", frames)
    monkeypatch.chdir(tmp_path)
    assert main(["label", "frames.xyz", "data/dft/a.xyz", "--workers", "0", "--calculator",
                 "ase.calculators.lj:LennardJones"]) == 0
    record = store.read_record("data/dft/a.json")
    command = ("python -m esgap label frames.xyz data/dft/a.xyz --workers 0 --calculator "
               "ase.calculators.lj:LennardJones")
    write_record("data/dft/a.json", {k: v for k, v in record.items() if k != "made_by"}, ["frames.xyz"],
                 command=command)
    Path("frames.xyz").unlink()
    before = {path: path.read_bytes() for path in Path("data").rglob("*.*")}
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["recompute", str(tmp_path / "data" / "dft" / "a.xyz")]) == 0
    out = capfd.readouterr().out
    assert "a.xyz: 2 frames labelled now, 0 before" in out
    assert "energy: 2 numbers, largest difference 0.0e+00" in out
    assert "forces: 72 numbers, largest difference 0.0e+00" in out
    monkeypatch.chdir(tmp_path)
    assert {path: path.read_bytes() for path in Path("data").rglob("*.*")} == before
    assert main(["recompute", "data/dft/a.xyz"]) == 0  # goes on with what is there
    assert "a.xyz: 0 frames labelled now, 2 before" in capfd.readouterr().out
    assert main(["recompute", "data/dft/a.xyz", "--list"]) == 0
    assert capfd.readouterr().out == (command.replace(" frames.xyz data/dft", " data/dft/a.xyz _build/reproduced/dft")
                                      + "\n")


def test_a_command_that_fails_ends_all(tmp_path, capfd):
    stored = [str(ROOT / "data" / "runs" / "committee.json"), str(ROOT / "data" / "runs" / "learning.json")]
    assert main(["recompute", *stored, "--to", str(tmp_path)]) == 2  # no models of the loop to make committees of
    out, err = capfd.readouterr()
    assert "has no finished generation" in err
    assert "learning" not in out
