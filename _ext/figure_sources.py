"""What a figure of a chapter comes from, found in its code: functions that drew it, files of data/ behind it.

Behind a figure stand the statements of its cell that use a drawing function of the package (all, if none does), and
every statement before, in any cell, that sets or changes a name that these need, and so on. Two names of one object are
not known to be one. What the statements read is found as for whole chapters: the list may be longer than what is shown.
"""
import ast
import dis
import re
import types
from dataclasses import dataclass

from chapter_files import definition, names_read, parsed, uses

DRAW = r"esgap\.(figures(_\w+)?|views|\w+_view|picker|slider)\.\w+"  # functions of the package that draw


@dataclass(frozen=True)
class Sources:
    """Where a figure comes from; functions by their full names, all in alphabetical order."""

    drawn_by: list  # functions of the package that draw
    used: list  # all functions of the package that the cell of the figure uses
    names: list  # of files of data/, folders, patterns with *


def sources(cells, number, package):
    """`Sources` of what cell `number` of a notebook's `cells` shows."""
    trees = [ast.parse("".join(c["source"])).body if c["cell_type"] == "code" else [] for c in cells[:number + 1]]
    statements = [statement for tree in trees for statement in tree]
    chapter = parsed(_text(statements), None, package)
    used = [_functions(chapter, statement, package) for statement in trees[-1]]
    draws = [any(_draws(function) for function in of) for of in used]
    shown = [s for s, yes in zip(trees[-1], draws, strict=True) if yes or not any(draws)]
    imports = [s for s in statements if isinstance(s, ast.Import | ast.ImportFrom)]
    read = names_read(_text([*imports, *behind(statements, shown, set(chapter.imports))]), package)
    every = sorted(set().union(*used))
    return Sources([function for function in every if _draws(function)], every, sorted(read))


def _text(statements):
    return "\n".join(map(ast.unparse, statements))


def _functions(chapter, statement, package):
    found = (definition(*target, package) for target in uses(chapter, statement, package)[1])
    return {f"esgap.{code.module}.{node.name}" for code, node in filter(None, found)
            if isinstance(node, ast.FunctionDef)}


def _draws(function):
    return bool(re.fullmatch(DRAW, function))


def behind(statements, shown, imported=()):
    """The statements that lead to those `shown`, these included, last first; names `imported` are never changed."""
    needed, kept = set(), []
    for statement in reversed(statements):
        reads, sets = _names(statement)
        if statement in shown or (sets | _changed(statement) - set(imported)) & needed:
            if isinstance(statement, ast.Assign):
                needed -= sets
            needed |= reads
            kept.append(statement)
    return kept


def _names(statement):
    """Names of the chapter that a statement needs from before, and names that it sets."""
    first, inside, sets = {}, set(), set()
    todo = [compile(ast.Module([statement], []), "statement", "exec")]
    while todo:
        code = todo.pop()
        todo += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
        for step in dis.get_instructions(code):
            if step.opname in ("LOAD_NAME", "STORE_NAME"):
                first.setdefault(step.argval, step.opname)
                sets |= {step.argval} if step.opname == "STORE_NAME" else set()
            elif step.opname == "LOAD_GLOBAL":  # in a comprehension or a lambda
                inside.add(step.argval)
    return {name for name in inside | set(first) if first.get(name) != "STORE_NAME"}, sets


def _changed(statement):
    """Names whose objects a statement changes: an item or an attribute is set, a method is called."""
    changed = [n for n in ast.walk(statement) if isinstance(getattr(n, "ctx", None), ast.Store)]
    changed += [n.value.func for n in ast.walk(statement) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Call)]
    bases = (_base(n) for n in changed if isinstance(n, ast.Attribute | ast.Subscript))
    return {base for base in bases if base}


def _base(node):
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None
