"""pyproject.toml, the lock files and environment.yml name one environment."""
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())
CORE = [Requirement(text) for text in PROJECT["dependencies"]]
BOOK = [Requirement(text) for text in PROJECT["optional-dependencies"]["book"]]
TEST = [Requirement(text) for text in PROJECT["optional-dependencies"]["test"]]


def locked(name):
    """{package: version} of a lock file; anything but exact pins is refused."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("-r ")]
    wrong = [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!-]+", line)]
    assert wrong == []
    return {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines}


def importable(requirements):
    """Top-level modules of the required distributions."""
    names = {canonicalize_name(requirement.name) for requirement in requirements}
    return sorted(module for module, distributions in packages_distributions().items()
                  if names & {canonicalize_name(name) for name in distributions} and module.isidentifier())


@pytest.mark.parametrize("requirement", CORE + BOOK + TEST, ids=str)
def test_locks_satisfy_pyproject(requirement):
    pins = locked("requirements.txt") | (locked("requirements-test.txt") if requirement in TEST else {})
    assert pins[canonicalize_name(requirement.name)] in requirement.specifier


def test_the_test_lock_only_adds():
    assert (ROOT / "requirements-test.txt").read_text().startswith("-r requirements.txt\n")
    assert locked("requirements.txt").keys() & locked("requirements-test.txt").keys() == set()


def test_environment_names_python_the_lock_and_this_package():
    *conda, pip = ENVIRONMENT["dependencies"]
    assert conda == ["python=3.11", "pip"]
    assert pip == {"pip": ["-r requirements.txt", "-e ."]}


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-test.txt"])
def test_installed_versions_are_the_locked_ones(name):
    wrong = {package: version(package) for package, pin in locked(name).items() if version(package) != pin}
    assert wrong == {}


def test_everything_declared_imports():
    modules = importable(CORE + BOOK + TEST)
    assert {"ase", "esgap", "jax", "jupyter_book", "quippy"} - {*modules, "esgap"} == set()
    subprocess.run([sys.executable, "-c", "import " + ", ".join(["esgap", *modules])], check=True)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_fresh_environment_imports_everything(tmp_path):
    shutil.copytree(ROOT / "lib", tmp_path / "lib", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ["pyproject.toml", "requirements.txt", "README.md", "LICENSE"]:
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "pip.txt").write_text("\n".join(ENVIRONMENT["dependencies"][-1]["pip"]))
    subprocess.run([sys.executable, "-m", "venv", "fresh"], cwd=tmp_path, check=True)
    python = str(tmp_path / "fresh" / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", "pip.txt"], cwd=tmp_path, check=True)
    subprocess.run([python, "-m", "pip", "check"], cwd=tmp_path, check=True)
    ours = [f"esgap.{path.stem}" for path in (ROOT / "lib" / "esgap").glob("*.py") if not path.stem.startswith("_")]
    command = "import " + ", ".join([*importable(CORE + BOOK), *ours])
    subprocess.run([python, "-c", command], cwd=tmp_path, check=True)
