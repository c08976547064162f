"""Records computed again beside the stored ones."""
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from esgap import compare, data_path, recompute
from esgap.__main__ import main, parsed

ROOT = Path(__file__).parents[1]
PARTS = re.findall(r"^reproduce-(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def test_a_record_does_not_differ_from_itself():
    path = data_path("runs/gen0-settings.json")
    found = compare.differences(compare.read_any(path), compare.read_any(path))
    assert {d.entry for d in found} >= {"held_out", "charges", "rows"}
    assert all(d.absolute == d.relative == 0 and d.others == () for d in found)


def test_numbers_texts_and_gaps():
    old = {"q": {"Li": 1.0, "S": -2.0}, "who": "all", "rows": [1, 2, 3], "flag": True, "made_by": {"command": "x"}}
    new = {"q": {"Li": 1.0, "S": -1.5}, "who": "P", "rows": [1, 2], "flag": True, "made_by": {"command": "y"}}
    q, who, rows, flag = compare.differences(old, new)
    assert (q.n_numbers, q.absolute, q.relative, q.where, q.others) == (2, 0.5, 0.25, "q.S", ())
    assert str(q) == "q: 2 numbers, largest difference 5.0e-01, relative 2.5e-01 (q.S)"
    assert str(who) == "who: not the same: who"
    assert str(rows) == "rows: 2 numbers, largest difference 0.0e+00, relative 0.0e+00; not the same: rows.2"
    assert str(flag) == "flag: the same"


def test_an_entry_that_one_record_lacks_is_named():
    (found,) = compare.differences({"a": [1, 2, 3, 4, 5]}, {})
    assert str(found) == "a: not the same: a.0, a.1, a.2 and 3 more"


def test_zero_beside_zero_and_beside_a_number():
    (found,) = compare.differences({"a": [0.0, 0.0]}, {"a": [0.0, 1e-300]})
    assert (found.relative, found.where) == (1.0, "a.1")


def test_generations_are_compared_by_their_errors(tmp_path):
    line = {"number": 0, "n_new": 2, "n_train": 2, "frames": "x", "models": {"gap": "hash"}, "errors": {"gap": 0.1},
            "settings": {}, "notes": [], "made_by": {}}
    for name, error in (("old", 0.1), ("new", 0.2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "generations.jsonl").write_text(json.dumps({**line, "errors": {"gap": error}}) + "\n")
    paths = [tmp_path / name / "generations.jsonl" for name in ("old", "new")]
    (found,) = compare.differences(*map(compare.read_any, paths))
    assert (found.entry, found.where, found.relative) == ("generation 0", "generation 0.errors.gap", 0.5)


def test_command(tmp_path, capsys):
    path = data_path("runs/charges.json")
    assert main(["compare", str(path), str(path)]) == 0
    assert "charges: 3 numbers, largest difference 0.0e+00" in capsys.readouterr().out
    for name in ("none.json", "none.jsonl"):
        assert main(["compare", str(path), str(tmp_path / name)]) == 2
        assert "no file" in capsys.readouterr().err


def recipe(part):
    """Commands of esgap that `make` would give for one part, without `python -m esgap`."""
    made = subprocess.run(["make", "--dry-run", f"reproduce-{part}", "PIP=true"], cwd=ROOT, capture_output=True,
                          text=True, check=True).stdout
    made = re.sub(r"\$\(\(.*?\)\)", "5", made).replace("$model", "gap").replace("\\\n", " ")
    commands = [line.split("-m esgap ")[1] for line in made.splitlines() if "-m esgap" in line]
    return [shlex.split(re.split(r"\|\||;|#", command)[0]) for command in commands]


@pytest.mark.parametrize("part", PARTS)
def test_reproduction_writes_nothing_into_data(part):
    """What `make` would do can be given, outputs lie below _build/reproduced, and what is compared is stored."""
    commands = recipe(part)
    assert {"recompute", "compare"} & {words[0] for words in commands}
    for words in commands:
        args = parsed(words)
        assert any(word.startswith("_build/reproduced") for word in words)
        stored = {"recompute": lambda a: a.stored, "compare": lambda a: [a.stored]}.get(words[0], lambda a: [])(args)
        for path in stored:
            compare.read_any(ROOT / path)
            if words[0] == "recompute":
                assert recompute.again(ROOT / path, args.to)


def test_parts_of_hours_are_not_among_those_of_minutes():
    made = subprocess.run(["make", "--dry-run", "reproduce", "PIP=true"], cwd=ROOT, capture_output=True, text=True,
                          check=True).stdout
    assert all(f"recompute --to _build/reproduced data/runs/{name}" not in made
               for name in ("mobility", "frenkel-gap.json", "paths"))
    assert "esgap label" not in made
    assert "data/dft" not in made


def test_the_readme_says_how_long_each_part_takes():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `reproduce-(\w+)` \|", readme, re.MULTILINE)) == sorted(PARTS)


def test_labels_and_runs_can_be_compared():
    labels = compare.read_any(data_path("dft/li2s.xyz"))
    assert labels.keys() == {"energy", "forces"}
    assert len(labels["energy"]) == len(labels["forces"]) == 24
    runs = compare.read_any(data_path("runs/mobility"))
    assert runs.keys() == {"GAP", "ES-GAP"}
    assert all(r["runs"] > 3 and r["nernst_einstein"]["value"] > r["nernst_einstein"]["error"] > 0
               for r in runs.values())
    assert "profiles" in compare.read_any(data_path("runs/paths"))
