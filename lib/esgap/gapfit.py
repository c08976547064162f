"""QUIP's program gap_fit as a second trainer, on the same sparse points, targets and sigmas as our own solver.

gap_fit keeps all descriptor gradients (about 1 GB per 14 frames of 42 atoms at n_max 8, l_max 4, 6 A): for small sets
and for checking. Units eV, A. Every number goes to it with all its digits.
"""
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from .quip import descriptor_text, read_model, to_quip


def find_gap_fit():
    """Path of the program: beside the running Python (where quippy-ase puts it) or on PATH."""
    for folder in (Path(sys.executable).parent, sysconfig.get_path("scripts")):
        if found := shutil.which("gap_fit", path=str(folder)):
            return found
    if found := shutil.which("gap_fit"):
        return found
    raise FileNotFoundError("the program gap_fit is not installed: pip install quippy-ase, or use trainer='jax'")


def frames_text(frames, labels, targets):
    """Extended XYZ for gap_fit: labels less the baseline, and each target's own sigma.

    The virial is nine plain numbers: ASE writes a 3x3 array as `_JSON [[...]]`, which gap_fit ignores silently."""
    out = []
    for atoms, x, t in zip(frames, labels, targets, strict=True):
        n = len(atoms)
        cell = atoms.cell.array if atoms.cell.rank == 3 else np.eye(3) * 100.0
        header = [f'Lattice="{_plain(cell)}"', "Properties=species:S:1:pos:R:3:dft_forces:R:3:force_atom_sigma:R:1",
                  f"dft_energy={float(x.energy)!r}", f"energy_sigma={float(t.sigma[0])!r}"]
        if x.virial is not None:
            header += [f'dft_virial="{_plain(x.virial)}"', f"virial_sigma={float(t.sigma[-1])!r}"]
        flags = " ".join("T" if p else "F" for p in atoms.pbc)
        out += [str(n), " ".join([*header, f'pbc="{flags}"'])]
        sigma = t.sigma[1:1 + 3 * n:3] if n > 1 else np.ones(1)
        rows = np.column_stack([atoms.positions, x.forces, sigma])
        out += [f"{s} {_plain(row)}" for s, row in zip(atoms.symbols, rows, strict=True)]
    return "\n".join(out) + "\n"


def _plain(numbers):
    return " ".join(repr(float(v)) for v in np.ravel(numbers))


def run_gap_fit(frames, labels, targets, e0, terms, jitter):
    """Weights (M,) of all terms in their order, and the program's output."""
    with tempfile.TemporaryDirectory(prefix="gap_fit-") as folder:
        folder = Path(folder)
        (folder / "train.xyz").write_text(frames_text(frames, labels, targets))
        gaps = []
        for k, t in enumerate(terms):
            # one line of numbers per point: its cutoff value (1 for soap), then the descriptor
            points = np.column_stack([np.ones(len(t.X)), to_quip(t.X, t.soap)])
            (folder / f"points{k}").write_text("\n".join(f"{v:.17e}" for v in points.ravel()) + "\n")
            text = descriptor_text(t.soap).replace("{", "{{").replace("}", "}}")  # one pair of braces is stripped
            gaps.append(f"{text} delta={float(t.delta)!r} zeta={float(t.zeta)!r} add_species=F "
                        f"covariance_type=dot_product sparse_method=FILE sparse_file=points{k} n_sparse={len(t.X)}")
        e0_text = ":".join(f"{chemical_symbols[Z]}:{float(v)!r}" for Z, v in e0.items())
        command = [find_gap_fit(), "at_file=train.xyz", f"gap={{{' : '.join(gaps)}}}", f"e0={{{e0_text}}}",
                   "default_sigma={0.001 0.1 0.1 0.1}", f"sparse_jitter={float(jitter)!r}",
                   "energy_parameter_name=dft_energy", "force_parameter_name=dft_forces",
                   "virial_parameter_name=dft_virial",
                   "do_copy_at_file=F", "sparse_separate_file=T", "gp_file=gap.xml"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        log = done.stdout + done.stderr
        if done.returncode or not (folder / "gap.xml").exists():
            raise RuntimeError(f"gap_fit stopped with status {done.returncode}; it said last:\n{log[-1500:]}")
        check_found(log, frames, labels)
        return np.concatenate([t.alpha for t in read_model(folder / "gap.xml").terms]), log


def check_found(log, frames, labels):
    """gap_fit counts what it understood; anything less than what was given is an error."""
    wanted = {"energies": len(frames), "forces": sum(3 * len(a) for a in frames),
              "virials": sum(6 for x in labels if x.virial is not None)}
    for what, n in wanted.items():
        found = re.search(rf"target {what}\b.*?found:\s*(\d+)", log)
        if n and (found is None or int(found[1]) != n):
            raise RuntimeError(f"gap_fit found {found[1] if found else 'no'} {what} where {n} were given: "
                               "this version reads another format; compare `esgap.gapfit.frames_text` with its manual")
