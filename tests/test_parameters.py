"""What a parameters cell declares is what may be given, and nothing else."""
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from esgap.parameters import read_parameters

CHAPTERS = sorted((Path(__file__).parents[1] / "chapters").glob("*.ipynb"))
CELL = """\
cutoff = 6.0        # A, 3 to 7.5: frozen radius
accuracy = 1e-8     # 1e-14 to .1: of the sum
shift: float = -2   # eV, -5 or more: of the levels
seed = 0            # 0 or more: of everything
species = "all"     # one of "all", "P: in PS4": whose forces
order = 2           # one of 2, 4: of the integrator
polyhedra = True    # draw units as tetrahedra
title = "a"         # in words: whatever is liked
field: list[float] = [0, 0, 1]  # V/A
"""


def notebook(path, cell, tags=("parameters",)):
    cells = [new_code_cell(cell, metadata={"tags": list(tags)})]
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "language": "python",
                                                                      "display_name": "Python 3"}}), path)
    return path


@pytest.fixture
def declared(tmp_path):
    return read_parameters(notebook(tmp_path / "x.ipynb", CELL))


def test_types_defaults_limits_and_choices(declared):
    assert [(p.type, p.default) for p in declared.values()] == [
        (float, 6.0), (float, 1e-8), (float, -2), (int, 0), (str, "all"), (int, 2), (bool, True), (str, "a"),
        (list, [0, 0, 1])]
    assert (declared["cutoff"].low, declared["cutoff"].high) == (3, 7.5)
    assert (declared["accuracy"].low, declared["accuracy"].high) == (1e-14, 0.1)
    assert (declared["shift"].low, declared["seed"].low) == (-5, 0)
    assert declared["species"].choices == ("all", "P: in PS4")
    assert declared["title"].choices == ()
    assert str(declared["cutoff"]) == "cutoff = 6.0 (a number from 3 to 7.5): A, 3 to 7.5: frozen radius"


@pytest.mark.parametrize(("name", "text", "value"), [
    ("cutoff", "3", 3.0), ("accuracy", "1e-3", 1e-3), ("shift", "-1e-3", -1e-3), ("seed", "12", 12), ("order", "4", 4),
    ("species", "P: in PS4", "P: in PS4"), ("polyhedra", "false", False), ("title", "3", "3"),
    ("field", "[1, 0]", [1, 0])])
def test_texts_of_a_command_line_become_values(declared, name, text, value):
    read = declared[name].read(text)
    assert read == value
    assert type(read) is declared[name].type


@pytest.mark.parametrize(("name", "text", "possible"), [
    ("cutoff", "hot", "a number from 3 to 7.5"), ("cutoff", "2.9", "a number from 3"), ("cutoff", "nan", "a number"),
    ("shift", "inf", "a number, -5 or more"), ("seed", "1.5", "an integer, 0 or more"), ("seed", "-1", "an integer, 0"),
    ("species", "Li", "one of 'all', 'P: in PS4'"), ("order", "3", "one of 2, 4"),
    ("polyhedra", "yes", "true or false"), ("field", "(1, 2)", "a list"), ("field", "[1,", "a list")])
def test_what_a_command_line_cannot_mean(declared, name, text, possible):
    with pytest.raises(ValueError, match=re.escape(f"parameter {name} is {text!r}; possible is {possible}")):
        declared[name].read(text)


def test_values_from_python(declared):
    assert declared["cutoff"].check(np.float64(4)) == 4.0
    assert type(declared["cutoff"].check(4)) is float
    assert type(declared["seed"].check(np.int64(4))) is int
    for name, value in [("seed", 1.0), ("seed", True), ("cutoff", "4"), ("cutoff", True), ("polyhedra", 1)]:
        with pytest.raises(ValueError, match=f"parameter {name} is {value!r}; possible is"):
            declared[name].check(value)


@pytest.mark.parametrize(("cell", "message"), [
    ("x = 9.0  # A, 0 to 1: length", "parameter x is 9.0; possible is a number from 0 to 1"),
    ("x = np.pi", "parameter x is declared as np.pi; possible are plain values of the types bool, int"),
    ("x: Path = 'a'", "parameter x is declared as Path = 'a'; possible"),
    ("x = None", "parameter x is declared as None; possible")])
def test_declarations_that_nothing_can_be_made_of(tmp_path, cell, message):
    with pytest.raises(ValueError, match=message):
        read_parameters(notebook(tmp_path / "x.ipynb", cell))


def test_files_that_are_no_notebook_with_parameters(tmp_path):
    with pytest.raises(ValueError, match=r"x\.ipynb has no parameters: write them into a cell of its own"):
        read_parameters(notebook(tmp_path / "x.ipynb", CELL, tags=()))
    for name in ("none.ipynb", "x.md"):
        with pytest.raises(ValueError, match=rf"{name} is not a notebook: give the path of an \.ipynb file"):
            read_parameters(tmp_path / name)
    (tmp_path / "half.ipynb").write_text('{"cells": [')
    with pytest.raises(ValueError, match=r"half\.ipynb cannot be read as a notebook"):
        read_parameters(tmp_path / "half.ipynb")


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_chapters_say_what_is_possible(chapter):
    for p in read_parameters(chapter).values():
        assert p.type is bool or p.choices or p.low > -np.inf, f"the comment must say what is possible: {p}"
