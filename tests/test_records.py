"""Every stored result says what made it: command, seed, versions, and input files that are here, hash by hash."""
import fnmatch
import json
import subprocess
from pathlib import Path

import pytest

from esgap import store
from esgap.__main__ import main
from esgap.store import data_path, file_hash, read_frames

ROOT = Path(__file__).parents[1]
FILES = subprocess.run(["git", "ls-files", "data"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
GIVEN = {"data/README.md", "data/paper.toml", "data/literature.toml", "data/references.bib"}
# pattern: the record of the command that wrote these files beside its own
BESIDE = {
    "data/dft/*.xyz": "{stem}.json", "data/training/gen?.xyz": "{stem}.json", "data/models/*gap.npz": "{stem}.json",
    "data/models/*.committee.npz": "../runs/committee.json",
    "data/runs/paths/hop-*.xyz": "{stem}.json", "data/runs/paths/ends.xyz": "paths.json",
    "data/runs/paths/images.xyz": "paths.json", "data/runs/frenkel-*.xyz": "{stem}.json",
    "data/runs/born.*.xyz": "born.json",
    "data/training/*.unlabelled.xyz": "generations.jsonl", "data/training/*.notes.json": "generations.jsonl",
    "data/testsets/test-800K.xyz": "md-800K/gap-0.npz", "data/testsets/test-400K.xyz": "md-400K/gap-0.npz",
}
NO_RECORD = {  # file: why
    "data/crystal.xyz": "last frame of relaxation.xyz, as data/README.md tells",
    "data/dft/relaxation.xyz": "made before `relax` kept records, its last frames by no command; its labels say how",
    "data/testsets/test-hops.xyz": "the command did not keep a record; it stands in data/README.md",
    "data/testsets/test-rare.xyz": "the command did not keep a record; it stands in data/README.md",
}
NO_INPUTS = {  # records that name no input
    "data/models/gap.json": "generations.jsonl has the model's hash and those of its labels",
    "data/models/es-gap.json": "generations.jsonl has the model's hash and those of its labels",
}
GONE = {  # record: why an input of it is nowhere in data/
    "data/dft/frenkel*.json": "cells relaxed by `frenkel --dft-frames`; the labelled file holds the same structures",
    "data/training/md/gen[1-3]-?.npz": "ES-GAP of the generation before, since fitted again with other settings",
}
RANDOM = {"charges", "settings", "learning", "weights", "committee", "md", "conductivity", "testset"}
NO_SEED = {"data/models/*.json": "the seed of sparse points is among the settings in generations.jsonl",
           "data/training/generations.jsonl": "the seed of sparse points is among `settings`",
           "data/training/gen?.json": "of labels, which nothing random makes"}


def reason(path, exceptions):
    return next((why for pattern, why in exceptions.items() if fnmatch.fnmatch(path, pattern)), None)


def records(path):
    """What the record itself says that lies in a file -> list of dicts; none in a file without one."""
    path = ROOT / path
    if path.suffix == ".npz":
        found = [store.read_arrays(path)[0]]
    elif path.suffix in (".json", ".jsonl"):
        text = path.read_text(encoding="utf-8")
        found = [json.loads(part) for part in (text.splitlines() if path.suffix == ".jsonl" else [text])]
    else:
        found = []
    return [r["made_by"] for r in found if isinstance(r, dict) and "made_by" in r]


RECORDS = {path: records(path) for path in FILES}


@pytest.fixture(scope="module")
def known():
    """Hashes of what is or can be made again: stored files, what `frames` writes, models named by the loop."""
    return {file_hash(ROOT / path) for path in FILES} | {
        h for line in (ROOT / "data/training/generations.jsonl").read_text().splitlines()
        for h in json.loads(line)["models"].values()}


@pytest.mark.parametrize("path", [path for path in FILES if path not in GIVEN])
def test_every_stored_file_has_a_record(path):
    if path in NO_RECORD:
        assert not RECORDS[path], f"{path} has a record now: take it off the list"
        return
    beside = reason(path, BESIDE)
    record = str(((ROOT / path).parent / beside.format(stem=Path(path).stem)).resolve().relative_to(ROOT)) if beside \
        and not RECORDS[path] else path
    assert RECORDS.get(record), f"nothing says what made {path}"


@pytest.mark.parametrize("path", [path for path, found in RECORDS.items() if found])
def test_records_are_whole(path, known):
    for record in RECORDS[path]:
        assert record["command"].startswith(("python -m esgap ", "benchmarks/"))
        assert {"python", "esgap", "numpy", "scipy", "jax", "ase"} <= record["versions"].keys()
        if set(record["command"].split()) & RANDOM and not reason(path, NO_SEED):
            assert record["seed"] is not None
        assert bool(record["inputs"]) == (path not in NO_INPUTS)
        lost = {name for name, h in record["inputs"].items() if h not in known}
        if path in REMADE:
            assert len(lost) == 1
        else:
            assert bool(lost) == bool(reason(path, GONE)), f"{path} was made from {lost}, which are not here"


# record: the command that makes its input, byte by byte, once more
REMADE = {"data/dft/gen0.json": ["frames", "gen0"], "data/dft/locality.json": ["frames", "locality"],
          "data/dft/li2s.json": ["frames", "li2s"], "data/dft/volume.json": ["testset", "volume"]}


@pytest.mark.parametrize("path", REMADE)
def test_unlabelled_frames_that_were_not_kept_are_made_again(path, tmp_path):
    (wanted,) = RECORDS[path][0]["inputs"].values()
    assert main([*REMADE[path], str(tmp_path / "frames.xyz")]) == 0
    assert file_hash(tmp_path / "frames.xyz") == wanted


def test_what_stands_in_for_missing_records():
    crystal, relaxation = (read_frames(data_path(name)) for name in ("crystal.xyz", "dft/relaxation.xyz"))
    assert store.structure_hash(crystal[0]) == store.structure_hash(relaxation[-1])
    assert all("reference" in a.info for a in [*relaxation, *read_frames(data_path("runs/born.labels.xyz"))])
    last = json.loads((ROOT / "data/training/generations.jsonl").read_text().splitlines()[-1])
    assert last["models"] == {name: file_hash(data_path(f"models/{name}.npz")) for name in ("gap", "es-gap")}
    assert last["settings"]["seed"] is not None
    for name in ("gap", "es-gap"):
        committee = store.read_arrays(data_path(f"models/{name}.committee.npz"))[0]
        assert committee["model"] == last["models"][name]
    for name in ("hops", "rare"):
        (labelled,) = RECORDS[f"data/dft/test-{name}.json"]
        frames = f"data/testsets/test-{name}.xyz"
        assert labelled["inputs"] == {frames: file_hash(ROOT / frames)}


def test_exceptions_are_of_files_that_are_there():
    for pattern in (*NO_RECORD, *NO_INPUTS, *GONE, *NO_SEED, *BESIDE, *GIVEN, *REMADE):
        assert fnmatch.filter(FILES, pattern), f"no file {pattern}"
