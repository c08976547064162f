"""The parameters of a notebook: type, default and possible values, as its cell tagged `parameters` declares them.

One parameter a line, a plain value, and a comment which may say, behind a unit and before a colon, what is possible:

    cutoff = 6.0      # A, 3 to 7: frozen radius at which the charges are optimised
    seed = 0          # 0 or more: of the sparse points
    species = "all"   # one of "all", "P", "S": whose forces the charges explain
    polyhedra = True  # draw units as tetrahedra

The type is that of the default or of a type hint (`cutoff: float = 6`). papermill itself checks nothing: it warns of a
misspelt name, and runs with whatever value it is given.
"""
import ast
import math
import re
from dataclasses import dataclass
from pathlib import Path

TYPES = {"bool": bool, "int": int, "float": float, "str": str, "list": list, "dict": dict}
NAMES = {bool: "true or false", int: "an integer", float: "a number", str: "a text", list: "a list", dict: "a dict"}
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"
POSSIBLE = re.compile(rf"(?:[^:,]+, )?(?:(?P<low>{NUMBER}) (?:to (?P<high>{NUMBER})|or more)"
                      r'|one of (?P<choices>(?:"[^"]*"|[^:"])+)):.*')  # a text may hold a colon


@dataclass(frozen=True)
class Parameter:
    """One parameter; its values are of `type`, from `low` to `high`, and among the `choices`, if there are any."""

    name: str
    type: type
    default: object
    help: str = ""
    low: float = -math.inf
    high: float = math.inf
    choices: tuple = ()

    @property
    def possible(self):
        """What may be given, in words."""
        if self.choices:
            return f"one of {', '.join(map(repr, self.choices))}"
        if self.low == -math.inf:
            return NAMES[self.type]
        limit = f", {self.low:g} or more" if self.high == math.inf else f" from {self.low:g} to {self.high:g}"
        return NAMES[self.type] + limit

    def __str__(self):
        return f"{self.name} = {self.default!r} ({self.possible}): {self.help}"

    def read(self, text):
        """The value that the text of a command line means; ValueError if it is not possible."""
        try:
            if self.type is bool:
                return {"true": True, "false": False}[text.lower()]
            return self.check(ast.literal_eval(text) if self.type in (list, dict) else self.type(text))
        except (KeyError, SyntaxError, ValueError):
            raise self._refusal(text) from None

    def check(self, value):
        """The value as the type of this parameter; ValueError if it is not possible."""
        value = value.item() if hasattr(value, "item") else value  # numpy's scalars
        if self.type is float and type(value) is int:
            value = float(value)
        fits = type(value) is self.type and (not self.choices or value in self.choices)
        if fits and self.type in (int, float):
            fits = math.isfinite(value) and self.low <= value <= self.high
        if not fits:
            raise self._refusal(value)
        return value

    def _refusal(self, value):
        return ValueError(f"parameter {self.name} is {value!r}; possible is {self.possible} ({self.help})")


def read_parameters(notebook):
    """The parameters of a notebook file, in their order -> {name: `Parameter`}; nothing is executed."""
    import papermill

    path = Path(notebook)
    if path.suffix != ".ipynb" or not path.is_file():
        raise ValueError(f"{notebook} is not a notebook: give the path of an .ipynb file")
    try:
        found = papermill.inspect_notebook(str(path))
    except ValueError as error:  # not JSON, not a notebook
        raise ValueError(f"{notebook} cannot be read as a notebook: {error}") from error
    if not found:
        raise ValueError(f"{notebook} has no parameters: write them into a cell of its own, one a line, and give it "
                         "the tag `parameters`")
    return {name: _parameter(name, entry) for name, entry in found.items()}


def _parameter(name, entry):
    """From what papermill finds in one line: type hint (or "None"), default and help as texts."""
    hint = entry["inferred_type_name"]
    try:
        default = ast.literal_eval(entry["default"])
        kind = type(default) if hint == "None" else TYPES[hint.partition("[")[0].strip()]
        NAMES[kind]
    except (KeyError, SyntaxError, ValueError):
        given = entry["default"] if hint == "None" else f"{hint} = {entry['default']}"
        raise ValueError(f"parameter {name} is declared as {given}; possible are plain values of the types "
                         f"{', '.join(TYPES)}") from None
    match, limits = POSSIBLE.fullmatch(entry["help"]), {}
    if match and match["choices"]:
        limits["choices"] = tuple(ast.literal_eval(f"[{match['choices']}]"))
    elif match:
        limits = {"low": float(match["low"]), "high": float(match["high"] or math.inf)}
    parameter = Parameter(name, kind, default, entry["help"], **limits)
    parameter.check(default)
    return parameter
