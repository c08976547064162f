"""Files that are whole or not there: frames as extended XYZ, results as JSON with what made them.

A file is written beside its place, synced and renamed, so a reader (or a process killed at any moment) sees the old
content or the new, never a half. One process writes an output at a time: the operating system's file lock, which
dies with its owner, so there is no stale lock to remove. Nothing here is pickled.

Frames carry info["name"] (unique in a file) and, once labelled, info["reference"], the settings that made the label.
Units: A, eV, eV/A, eV/A^3 (ASE's sign of stress), e. Positions and forces are stored to 1e-8.
"""
import contextlib
import fcntl
import hashlib
import importlib.metadata
import io
import json
import os
import shlex
import socket
import sys
import tempfile
from pathlib import Path

import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import read_xyz, write_xyz


def data_path(name=""):
    """Path of a file of the shipped data, e.g. data_path("dft/gen0.xyz").

    The folder is `data` of the checkout that esgap was installed from (`pip install -e .`), or $ESGAP_DATA.
    """
    folder = Path(os.environ.get("ESGAP_DATA") or Path(__file__).parents[2] / "data")
    if not folder.is_dir():
        raise FileNotFoundError(f"no data folder at {folder}: install esgap with `pip install -e .` from a checkout, "
                                "or set ESGAP_DATA to its `data` folder")
    return folder / name


def write_atomically(path, content):
    """Write text (UTF-8) or bytes to `path` so that at any moment the file has its old content or all of the new."""
    path, temporary = Path(path), None
    try:
        with tempfile.NamedTemporaryFile("wb", dir=path.parent, prefix=f".{path.name}.", suffix=".tmp",
                                         delete=False) as file:
            temporary = file.name
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise OSError(error.errno, f"cannot write {path} ({error.strerror or error}); nothing that was finished before "
                                   "is lost: make room or give another path, and run the same command again") from error


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def only_writer(path, *also):
    """Hold `path` for this process: a second one gets an error that names the first. Needs no tidying after a kill.

    `also` are the other files that only the holder of `path` writes; what a killed holder left half-written is removed.
    """
    lock = Path(path).with_name(Path(path).name + ".lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    file = _locked(lock, path)
    try:
        for file_path in map(Path, (path, *also)):
            for left_over in file_path.parent.glob(f".{file_path.name}.????????.tmp"):
                left_over.unlink(missing_ok=True)
        yield
    finally:
        lock.unlink(missing_ok=True)
        file.close()


def _locked(lock, path):
    while True:
        file = open(lock, "a+", encoding="utf-8")  # noqa: SIM115  closed by the caller: closing unlocks
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "another process"
            file.close()
            raise RuntimeError(f"{path} is being written by {owner}: wait for it, or choose another output") from None
        if lock.exists() and os.path.samestat(os.fstat(file.fileno()), os.stat(lock)):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            return file
        file.close()  # its former owner removed the file between our open and our lock


def read_frames(path):
    """All frames of an extended XYZ file, labels (if any) as single-point results; a damaged file is an error."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(f"no file {path}: give the path of an extended XYZ file") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text file; frames are read from extended XYZ") from None
    return parse_frames(text, path)


def parse_frames(text, source="text"):
    """Frames in extended XYZ `text`; `source` names it in errors."""
    n_frames = _count_frames(text, source)
    try:
        frames = list(read_xyz(io.StringIO(text), slice(None)))
    except Exception as error:  # the reader raises whatever its parsing runs into
        raise ValueError(f"{source} is not valid extended XYZ: {error}") from error
    if len(frames) != n_frames:
        raise ValueError(f"{source} holds {n_frames} frames, of which only {len(frames)} could be read")
    for k, atoms in enumerate(frames):
        values = [atoms.positions, atoms.cell.array, *(atoms.calc.results.values() if atoms.calc else ())]
        if not all(np.isfinite(v).all() for v in values):
            raise ValueError(f"frame {k} of {source} ({atoms.info.get('name')}) has a value that is not finite")
    return frames


def _count_frames(text, source):
    """The number of frames, after walking through their headers: names the line at which a file is damaged."""
    lines = text.splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise ValueError(f"{source} holds no frames")
    at = count = 0
    while at < len(lines):
        try:
            n_atoms = int(lines[at])
        except ValueError:
            raise ValueError(f"{source}, line {at + 1}: expected the number of atoms that opens frame {count}, "
                             f"found {lines[at][:40]!r}") from None
        if at + 2 + n_atoms > len(lines) or (at + 2 + n_atoms == len(lines) and not text.endswith("\n")):
            raise ValueError(f"{source} ends in the middle of frame {count} (opened in line {at + 1} with {n_atoms} "
                             "atoms): an interrupted copy? Remove that frame or fetch the file again")
        at, count = at + 2 + n_atoms, count + 1
    return count


def frames_text(frames):
    """Frames as extended XYZ text."""
    buffer = io.StringIO()
    write_xyz(buffer, list(frames))
    return buffer.getvalue()


def write_frames(path, frames):
    """Write frames to `path` as extended XYZ, all or nothing."""
    write_atomically(path, frames_text(frames))


def labelled(atoms, energy, forces, stress=None, arrays=None, **info):
    """A copy of `atoms` with a label: energy (eV), forces (n, 3) eV/A, stress (6,) eV/A^3; other results are dropped.

    `arrays` are per-atom quantities such as Hirshfeld charges (e), `info` what is recorded beside the energy.
    """
    out = atoms.copy()
    for name in ("hirshfeld", "forces"):
        out.arrays.pop(name, None)
    for name in ("energy", "free_energy", "stress", "virial"):
        out.info.pop(name, None)
    results = {"energy": float(energy), "forces": np.asarray(forces, float)}
    if stress is not None:
        results["stress"] = np.asarray(stress, float)
    out.calc = SinglePointCalculator(out, **results)
    out.arrays.update(arrays or {})
    out.info.update(info)
    return out


def structure_hash(atoms):
    """16 hex digits that change with species, positions, cell (to 1e-8 A, as files hold them) or periodicity."""
    numbers = " ".join(f"{x:.8f}" for x in (*atoms.cell.array.flat, *atoms.positions.flat))
    text = f"{list(atoms.symbols)} {atoms.pbc.tolist()} {numbers}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class FrameStore:
    """Finished frames in an extended XYZ file that is never lost, whenever the process is killed.

    A new frame goes to a file of its own in `<path>.parts/`; `merge` writes all of them to `path` and then removes the
    parts. A kill between the two leaves a frame in both places, which `key` recognises. `frames` maps keys to frames
    exactly as they are on disk. Use within `only_writer(path)`.
    """

    def __init__(self, path, key):
        self.path, self.key = Path(path), key
        self.parts = self.path.with_name(self.path.name + ".parts")
        old = read_frames(self.path) if self.path.exists() else []
        for part in sorted(self.parts.glob("*.xyz")):
            old += read_frames(part)
        self.frames = {key(a): a for a in old}

    def __contains__(self, key):
        return key in self.frames

    def add(self, atoms):
        """Put one finished frame on disk; returns it as it reads back."""
        text = frames_text([atoms])
        (stored,) = parse_frames(text, f"the new frame {atoms.info.get('name')}")
        key = self.key(stored)
        self.parts.mkdir(exist_ok=True)
        write_atomically(self.parts / f"{hashlib.sha256(repr(key).encode()).hexdigest()[:24]}.xyz", text)
        self.frames[key] = stored
        return stored

    def discard(self, key):
        """Forget a frame; it leaves the disk with the next `merge`."""
        self.frames.pop(key, None)

    def merge(self, order=()):
        """Write all frames to `path`: those of the keys in `order` first, then the others as they came."""
        keys = list(dict.fromkeys([k for k in order if k in self.frames] + list(self.frames)))
        self.frames = {k: self.frames[k] for k in keys}
        if keys:
            write_frames(self.path, self.frames.values())
        else:
            self.path.unlink(missing_ok=True)
        if self.parts.exists():
            for part in self.parts.iterdir():
                part.unlink()
            self.parts.rmdir()


def write_arrays(path, header, **arrays):
    """Write numpy arrays and a dict of plain values as one compressed .npz, atomically; nothing is pickled."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, header=np.array(json.dumps(header)), **arrays)
    write_atomically(path, buffer.getvalue())


def read_arrays(path):
    """What `write_arrays` wrote -> (header, dict of arrays). A damaged or missing file is an error that names it."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return json.loads(str(arrays.pop("header"))), arrays
    except FileNotFoundError:
        raise FileNotFoundError(f"no file {path}: it is made by the command that its README names") from None
    except Exception as error:  # zipfile, numpy and json each have their own
        raise ValueError(f"{path} is not a file of arrays written by esgap ({error}): make it again") from error


def file_hash(path):
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def provenance(inputs=(), seed=None, command=None):
    """What made a result: command line, seed, versions of the libraries that matter, hash of each input file.

    No date and no machine: the same computation gives the same record. Paths are given relative to here.
    """
    packages = ("esgap", "numpy", "scipy", "jax", "numba", "ase", "matscipy", "quippy-ase")
    versions = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {"command": command or _command(), "seed": seed, "versions": versions,
            "inputs": {_relative(path): file_hash(path) for path in inputs}}


def _command():
    program = Path(sys.argv[0])
    start = ["python", "-m", program.parent.name] if program.name == "__main__.py" else [_relative(program)]
    return shlex.join([*start, *map(_relative, sys.argv[1:])])


def _relative(path):
    path = Path(path) if Path(path).is_absolute() else str(path)
    if isinstance(path, str):
        return path
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else path.name


def write_record(path, data, inputs=(), seed=None, command=None):
    """Write a dict of results (numbers, strings, lists, arrays) as JSON, with its `provenance` under "made_by"."""
    if "made_by" in data:
        raise ValueError("data already has an entry 'made_by', which is where the provenance goes: rename it")
    record = {**data, "made_by": provenance(inputs, seed, command)}
    write_atomically(path, json.dumps(record, indent=1, default=_plain, allow_nan=False) + "\n")
    return record


def _plain(value):
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"a record holds numbers, strings, lists and arrays; {value!r} is a {type(value).__name__}")


def read_record(path):
    """A JSON result as a dict; a damaged or missing file is an error that names it."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"no file {path}: it is made by the command that its README names") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from None
