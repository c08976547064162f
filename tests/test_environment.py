"""pyproject.toml, the lock files and environment.yml name one environment."""
import os
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


def test_binder_gets_make_from_debian():
    """apt.txt is a list of names of Debian packages, without versions or comments; chapters need none of them."""
    names = (ROOT / "apt.txt").read_text().split("\n")
    assert names.pop() == ""
    assert names == ["make"]
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", name) for name in names)


def test_the_repository_has_one_address():
    """A notebook opened in Binder, a reader's issue and a citation lead to the same place."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert config["url"] == citation["repository-code"]
    assert re.fullmatch(r"https://github\.com/[\w-]+/[\w-]+", config["url"])
    assert config["branch"] == "main"


@pytest.mark.parametrize(("left", "repository", "status"), [("", True, 0), ("left.txt", True, 1), ("", False, 128)])
def test_ci_builds_the_book_before_it_installs_what_tests_need(tmp_path, left, repository, status):
    """Files that a run leaves fail it; so does a git that cannot tell. With programs that do nothing but say so."""
    programs, checkout = tmp_path / "bin", tmp_path / "checkout"
    for folder in (programs, checkout / ".ci"):
        folder.mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "run", checkout / ".ci")
    for name, text in (("chromium", ""), ("chromedriver", ""),
                       ("make", f"echo $1 >> ../made; touch ../other {left}")):
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    if repository:
        subprocess.run(["git", "init", "--quiet"], cwd=checkout, check=True)
    run = subprocess.run([checkout / ".ci" / "run"], capture_output=True, text=True, check=False, env={
        **os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "GIT_CEILING_DIRECTORIES": str(tmp_path)})
    assert run.returncode == status, run.stderr
    assert (left in run.stdout) or not left
    if repository:
        assert (tmp_path / "made").read_text().split() == ["book", "test"]


def test_a_built_book_is_not_built_again_for_the_tests(tmp_path):
    """What the tests need is installed after the book has been made, and makes no page older."""
    stamps = [".venv/.python", ".venv/.book", "_build/html/index.html"]
    given = ["requirements.txt", "pyproject.toml", "requirements-test.txt", "_config.yml", "_toc.yml", "lib/a.py",
             "_ext/a.py", "_vendor/a.css", "data/a.xyz", "chapters/a.ipynb"]
    shutil.copy(ROOT / "Makefile", tmp_path)
    for k, name in enumerate([*given, *stamps]):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (1e9 + k, 1e9 + k))

    def dry_run(target):
        return subprocess.run(["make", "--dry-run", target], cwd=tmp_path, capture_output=True, text=True,
                              check=True).stdout

    assert "-r requirements-test.txt" in dry_run("test")
    assert "jupyter-book build" not in dry_run("test")
    assert "requirements-test.txt" not in dry_run("book")
    (tmp_path / "data" / "a.xyz").touch()
    assert "jupyter-book build" in dry_run("test")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_fresh_environment_imports_everything_and_runs_a_chapter(tmp_path):
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
    large = shutil.ignore_patterns("mobility", "paths", "training", "testsets")
    shutil.copytree(ROOT / "data", tmp_path / "data", ignore=large)
    chapter = ROOT / "chapters" / "01-electrostatic-baseline.ipynb"
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "ESGAP_DATA")}
    subprocess.run([python, "-m", "papermill", chapter, "out.ipynb", "--no-progress-bar"], cwd=tmp_path, check=True,
                   env=environment)
    assert '"exception": false' in (tmp_path / "out.ipynb").read_text()
