"""PBE single points with CP2K: write the input, run the program, read energy, forces, stress and Hirshfeld charges.

Gaussian and plane waves: DZVP-MOLOPT-SR-GTH, GTH-PBE pseudopotentials, diagonalisation with Broyden mixing. Measured on
a rattled 42-atom cell against 600/60 Ry: forces to 3.5 meV/A at the default 300/40 Ry. Hirshfeld charges by the free
atoms' densities (CP2K's default, a Gaussian, makes Li negative). CP2K prints a pressure tensor: stress is minus that.
Gaussians are cut off on the grid where they fall below `eps_rho`: 1e-6 instead of CP2K's 1e-10 takes a third less time
and changed a frame of 42 atoms by 1.1 meV and 0.06 meV/A rms, far less than grid or basis do; it is recorded in each
frame, but labels made with either are taken for the same.

k-grid from one density: n_i = ceil(KPOINT_LENGTH / h_i), h_i the distance between the lattice planes of direction i.
The length, 11.47 A, is chosen to give the paper's grids: 2x2x2 for 42 atoms (h = 11.26, 5.76, 11.42 A), 2x1x2 for the
1x2x1 cell (84 atoms), Gamma alone for 2x3x2 (504). Only 11.42 to 11.52 A does so: on a strained cell give `kpts`.

A frame with info["field"] (V/A, three numbers) is computed in that field, by the Berry phase (PERIODIC_EFIELD): orbital
transformation in place of diagonalisation, Gamma alone, no stress (CP2K has none in a field). See `esgap.born`.
A frame with info["folded"] (three whole numbers) stands for a cell of so many of it along a, b, c: its k-grid is what
the Gamma point of that cell folds to. By Bloch's theorem energies differ by that factor, but for grids in space,
which CP2K chooses by cell; `esgap.frenkel_dft` corrects for them.
Units: input and output in A, eV, eV/A, eV/A^3 (ASE's sign), e. Program output: format of CP2K 2023.1.
"""
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from ase.calculators.calculator import SCFError
from ase.units import Bohr, GPa, Hartree

from esgap.cp2k_input import VALENCE, inputs
from esgap.store import labelled

KPOINT_LENGTH = 11.47                # A; see above
NUMBER = r"(-?\d+\.\d+(?:E[+-]\d+)?)"


@dataclass(frozen=True)
class Settings:
    """What a label depends on. `kpts` None: by the density rule above."""

    functional: str = "PBE"
    basis: str = "DZVP-MOLOPT-SR-GTH"
    cutoff: float = 300.0       # Ry, finest grid
    rel_cutoff: float = 40.0    # Ry
    ngrids: int = 5
    kpts: tuple | None = None
    eps_default: float = 1e-10
    eps_rho: float = 1e-6       # density on the grid; see above
    eps_scf: float = 1e-6
    alpha: float = 0.4          # Broyden mixing: how the SCF gets there
    nbroyden: int = 8
    max_scf: int = 60
    safer_alpha: float = 0.15   # second attempt, when the first does not converge
    safer_max_scf: int = 200

    def grid(self, atoms):
        """Three numbers of k-points for this cell."""
        if "folded" in atoms.info:
            return tuple(int(n) for n in atoms.info["folded"])
        if self.kpts:
            return tuple(self.kpts)
        widths = 1 / np.linalg.norm(atoms.cell.reciprocal(), axis=1)  # (3,) A, between lattice planes
        return tuple(int(n) for n in np.ceil(KPOINT_LENGTH / widths))

    def line(self, atoms):
        """The settings in one line, as recorded in each frame; those that leave the physics alone only if changed."""
        grid = "x".join(map(str, self.grid(atoms))) + " with Gamma" * ("folded" in atoms.info)
        line = f"{self.functional} {self.basis} {self.cutoff:g}/{self.rel_cutoff:g} Ry {grid}"
        for name in ("ngrids", "eps_default", "eps_scf"):
            default = next(f.default for f in fields(self) if f.name == name)
            if getattr(self, name) != default:
                line += f" {name}={getattr(self, name):g}"
        if "field" in atoms.info:
            line += " OT, field " + " ".join(f"{x:g}" for x in atoms.info["field"]) + " V/A"
        return line


@dataclass(frozen=True)
class CP2K:
    """A labeller: CP2K with `settings`, on `ranks` MPI processes of one thread each."""

    settings: Settings = Settings()
    ranks: int = 2
    program: str = "cp2k.psmp"
    launcher: str = "mpirun"  # not used for one rank

    def reference(self, atoms):
        """The settings that a label of these atoms will carry."""
        return self.settings.line(atoms)

    def check(self, frames):
        """Refuse what cannot work, before the first frame is computed."""
        for program in [self.program] + [self.launcher] * (self.ranks > 1):
            if shutil.which(program) is None:
                raise FileNotFoundError(
                    f"program {program!r} not found: install CP2K (Debian: cp2k, cp2k-data, openmpi-bin), name the "
                    "program with --program, or label with another --calculator")
        for atoms in frames:
            _check_frame(atoms, self.settings)

    def __call__(self, atoms):
        """The labelled frame. An SCF that fails is tried once more with safer mixing, then is an SCFError."""
        _check_frame(atoms, self.settings)
        with_stress = "field" not in atoms.info
        try:
            text, note = self.run(*inputs(atoms, self.settings)), {}
            result = parse(text, len(atoms), with_stress)
        except SCFError:
            text = self.run(*inputs(atoms, self.settings, safer=True))
            note = {"mixing": self.settings.safer_alpha} if with_stress else {"minimizer": "CG"}
            result = parse(text, len(atoms), with_stress)
        energy, forces, stress, charges, program = result
        return labelled(atoms, energy, forces, stress, {"hirshfeld": charges}, reference=self.reference(atoms),
                        program=program, eps_rho=self.settings.eps_rho, **note)

    def run(self, *texts):
        """Run CP2K on one input after the other and return what it wrote on the last, in a folder of their own that is
        gone afterwards."""
        with tempfile.TemporaryDirectory(prefix="esgap-cp2k-") as folder:
            for text in texts:
                written = self._run_in(folder, text)
        return written

    def _run_in(self, folder, text):
        command = [self.program, "-i", "label.inp", "-o", "label.out"]
        if self.ranks > 1:
            as_root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
            command = [self.launcher, *as_root, "--bind-to", "none", "-np", str(self.ranks), *command]
        if shutil.which("setpriv"):  # the program ends when the process that asked for it is killed
            command = ["setpriv", "--pdeathsig", "TERM", *command]
        Path(folder, "label.inp").write_text(text)
        output = Path(folder, "label.out")
        output.unlink(missing_ok=True)
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False,
                              env={**os.environ, "OMP_NUM_THREADS": "1"})
        written = output.read_text(errors="replace") if output.exists() else ""
        if done.returncode and "SCF run NOT converged" not in written:
            raise RuntimeError(f"CP2K ended with status {done.returncode}: "
                               f"{_abort_message(written) or (done.stderr or done.stdout or written)[-500:]}")
        return written


def _abort_message(written):
    """What CP2K says in the box that it draws before it aborts."""
    box = written.partition("[ABORT]")[2].partition("*****")[0]
    return " ".join(" ".join(line[20:].strip(" *") for line in box.splitlines()).split())


def _check_frame(atoms, settings):
    name = atoms.info.get("name")
    unknown = sorted(set(atoms.symbols) - set(VALENCE))
    if unknown:
        raise ValueError(f"frame {name} contains {', '.join(unknown)}, for which no pseudopotential is chosen (known: "
                         f"{', '.join(VALENCE)}): add it to esgap.cp2k_input.VALENCE")
    if not atoms.pbc.all() or atoms.cell.rank < 3:
        raise ValueError(f"frame {name} has pbc {atoms.pbc.tolist()} and a cell of rank {atoms.cell.rank}; plane waves "
                         "need a cell that is periodic in three directions")
    if "folded" in atoms.info and (np.shape(atoms.info["folded"]) != (3,) or np.min(atoms.info["folded"]) < 1):
        raise ValueError(f"frame {name} has folded={atoms.info['folded']}; give three numbers of cells, 1 or more")
    if "field" in atoms.info:
        if np.shape(atoms.info["field"]) != (3,) or not np.isfinite(atoms.info["field"]).all():
            raise ValueError(f"frame {name} has field {atoms.info['field']}; give three finite components in V/A")
        if settings.grid(atoms) != (1, 1, 1):
            raise ValueError(f"frame {name} has a field and a k-grid {settings.grid(atoms)}; a field needs Gamma: "
                             "give --kpts 1 1 1 and a cell large enough for that")


def parse(text, n_atoms, with_stress=True):
    """Energy (eV), forces (n, 3) eV/A, stress (6,) eV/A^3, Hirshfeld charges (n,) e, and program of one CP2K output.

    Stress is None without `with_stress`, in a field.
    """
    if "SCF run NOT converged" in text:
        raise SCFError("SCF did not converge")
    energy = re.findall(rf"ENERGY\| Total FORCE_EVAL.*?:\s+{NUMBER}", text)
    forces = re.findall(rf"^\s+\d+\s+\d+\s+[A-Z][a-z]?\s+{NUMBER}\s+{NUMBER}\s+{NUMBER}\s*$",
                        text.partition("ATOMIC FORCES in [a.u.]")[2], re.M)
    pressure = re.findall(rf"STRESS\|\s+[xyz]\s+{NUMBER}\s+{NUMBER}\s+{NUMBER}", text)[:3]
    charges = re.findall(rf"^\s+\d+\s+[A-Z][a-z]?\s+\d+\s.*?{NUMBER}\s*$", text.partition("Hirshfeld Charges")[2], re.M)
    version = re.search(r"CP2K\| version string:\s+CP2K version (\S+)", text)
    found = {"energy": len(energy) > 0, "forces": len(forces) == n_atoms, "stress": len(pressure) == 3 * with_stress,
             "Hirshfeld charges": len(charges) == n_atoms, "SCF": bool(re.search(r"SCF run converged in", text))}
    if not all(found.values()):
        missing = ", no ".join(k for k, v in found.items() if not v)
        raise RuntimeError(f"no {missing} of {n_atoms} atoms in CP2K's output; it ended early, or is not of version "
                           "2023.1, whose format is read here")
    stress = -np.array(pressure, float)[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]] * GPa if with_stress else None
    return (float(energy[-1]) * Hartree, np.array(forces, float) * Hartree / Bohr, stress, np.array(charges, float),
            f"CP2K {version[1] if version else '?'}")
