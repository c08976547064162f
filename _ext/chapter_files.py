"""Which files of data/ a chapter reads, found in its code: `data_path("...")` in its cells, or in any function of esgap
that they name, however deep. A name made up at run time counts as every file that fits: data_path(f"models/{x}.npz").

What stands in the body of a function counts, whether or not a run comes by there, and calls of methods are not
followed (classes are, as a whole): the list may be longer than what one run reads.
"""
import ast
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

DOORS = {("store", "data_path"), ("__init__", "data_path")}  # all data come through here


@dataclass(frozen=True, eq=False)
class Code:
    """Python source: what its top-level names stand for."""

    module: str | None  # its name in the package, None for a chapter
    tree: ast.AST
    imports: dict  # local name -> (module of esgap, name in it), or (module, None) for the module itself
    bodies: dict  # top-level name -> the statement that defines it; empty for a chapter


def chapter_files(notebook, root):
    """Paths below root/data that the notebook reads, records (.json) beside them included, in alphabetical order."""
    cells = json.loads(Path(notebook).read_text(encoding="utf-8"))["cells"]
    source = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    data = root / "data"
    found = {path for name in names_read(source, root / "lib" / "esgap") for path in matching(data, name)}
    beside = {path.with_suffix(".json") for path in found}
    return sorted(found | {path for path in beside if path.is_file()})


def matching(data, name):
    paths = data.glob(name) if "*" in name else [data / name]
    files = [file for path in paths for file in (path.iterdir() if path.is_dir() else [path])]
    return [file for file in files if file.is_file() and not file.name.startswith(".") and file.suffix != ".lock"]


def names_read(source, package):
    """What `source` hands to `data_path`, itself or through functions of the package; * for parts made at run time."""
    read, seen = set(), set()
    todo = [(parsed(source, None, package), None)]
    while todo:
        code, node = todo.pop()
        names, targets = uses(code, node or code.tree, package)
        read |= names
        for target in targets - seen:
            seen.add(target)
            defined = definition(*target, package)
            todo += [defined] if defined else []
    return read


def parsed(source, module, package):
    """`Code` of a source; module: its name in the package, None for a chapter."""
    tree, imports, bodies = ast.parse(source), {}, {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports.update({a.asname or a.name: ("__init__", None) for a in node.names if a.name == "esgap"})
        elif isinstance(node, ast.ImportFrom) and (node.level == 1 or (node.module or "").split(".")[0] == "esgap"):
            origin = (node.module or "") if node.level else node.module.partition(".")[2]
            for alias in node.names:
                target = (origin, alias.name) if origin else _member("__init__", alias.name, package)
                imports[alias.asname or alias.name] = target
    for node in tree.body if module else []:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            bodies[node.name] = node
        elif isinstance(node, ast.Assign):
            bodies.update({t.id: node for target in node.targets for t in ast.walk(target) if isinstance(t, ast.Name)})
    return Code(module, tree, imports, bodies)


@cache
def _module(name, package):
    path = package / f"{name}.py"
    return parsed(path.read_text(encoding="utf-8"), name, package) if path.exists() else None


def _member(module, name, package):
    return (name, None) if module == "__init__" and (package / f"{name}.py").exists() else (module, name)


def definition(module, name, package):
    """Where a name of a module is defined -> (its `Code`, the statement), through imports from others; or None."""
    code = _module(module, package)
    if code is None or name is None:
        return None
    if name in code.bodies:
        return code, code.bodies[name]
    return definition(*code.imports[name], package) if name in code.imports else None


def uses(code, node, package):
    """Names handed to `data_path` below a node, and all names of the package that it mentions."""
    own = {n.arg for n in ast.walk(node) if isinstance(n, ast.arg)}  # an argument hides a function of the same name
    read, targets = set(), set()
    for n in ast.walk(node):
        if isinstance(n, ast.Call) and n.args and _resolved(n.func, code, own, package) in DOORS:
            read |= _texts(n.args[0], code, package)
        elif isinstance(n, ast.Name | ast.Attribute):
            targets |= {_resolved(n, code, own, package)} - {None} - DOORS
    return read, targets


def _resolved(node, code, own, package):
    if isinstance(node, ast.Name) and node.id not in own:
        return (code.module, node.id) if node.id in code.bodies else code.imports.get(node.id)
    if isinstance(node, ast.Attribute):
        module = _resolved(node.value, code, own, package)
        return _member(module[0], node.attr, package) if module and module[1] is None else None
    return None


def _texts(node, code, package):
    """The texts an argument can be: a literal, a literal with gaps, a constant of the package."""
    if isinstance(node, ast.Constant):
        return {node.value} - {""}
    if isinstance(node, ast.JoinedStr):
        return {"".join(part.value if isinstance(part, ast.Constant) else "*" for part in node.values)}
    target = _resolved(node, code, set(), package)
    defined = definition(*target, package) if target else None
    return _texts(defined[1].value, defined[0], package) if defined and isinstance(defined[1], ast.Assign) else set()
