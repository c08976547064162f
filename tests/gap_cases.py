"""Small structures with known labels, and gap_fit runs on them, shared by the tests of the GAP engine."""
import subprocess

import numpy as np
from ase import Atoms
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator

from esgap.gapfit import find_gap_fit

SKEW = np.array([[6.2, 0.0, 0.0], [1.3, 5.8, 0.0], [-0.9, 1.1, 6.6]])


def random_cell(symbols="Li4P2S6", seed=0, closest=1.9, cell=SKEW):
    """Atoms at random places of a skew cell, no two (images included) closer than `closest` A."""
    rng, atoms = np.random.default_rng(seed), Atoms(symbols, cell=cell, pbc=True)
    placed = Atoms(cell=cell, pbc=True)
    while len(placed) < len(atoms):
        trial = placed + Atoms("H", positions=rng.random((1, 3)) @ cell)
        if len(trial) == 1 or trial.get_distances(-1, range(len(placed)), mic=True).min() > closest:
            placed = trial
    atoms.positions = placed.positions
    return atoms


def strained(atoms, strain):
    """Copy with positions and cell deformed by 1 + strain."""
    out = atoms.copy()
    out.set_cell(atoms.cell.array @ (np.eye(3) + strain).T, scale_atoms=True)
    return out


def label(atoms, calc=None, e0=-3.0, **info):
    """Copy with energy, forces and stress of a Lennard-Jones solid (or calc), e0 eV per atom added."""
    atoms = atoms.copy()
    atoms.calc = calc or LennardJones(sigma=1.8, epsilon=0.3, rc=4.0, smooth=True)
    results = {"energy": atoms.get_potential_energy() + e0 * len(atoms), "forces": atoms.get_forces()}
    if len(atoms) > 1:
        results["stress"] = atoms.get_stress()
    atoms.calc = SinglePointCalculator(atoms, **results)
    atoms.info.update(info)
    return atoms


def training_frames(symbols="Li4P2S6", n=4, isolated=True):
    """Labelled cells and, if wanted, the isolated atoms of their elements."""
    cells = [label(strained(random_cell(symbols, seed), 0.03 * np.random.default_rng(seed).normal(size=(3, 3))))
             for seed in range(n)]
    elements = sorted(set(cells[0].symbols))
    return cells + ([label(Atoms(s, cell=np.eye(3) * 15, pbc=True)) for s in elements] if isolated else [])


def gap_fit_model(folder, gap, frames, *options):
    """Fit by the program gap_fit with the given `gap={...}` text; returns the path of its XML."""
    text = []
    for a in frames:
        virial = "" if len(a) == 1 else 'dft_virial="' + " ".join(
            repr(float(x)) for x in (-a.get_volume() * a.get_stress(voigt=False)).ravel()) + '"'
        cell = " ".join(map(repr, a.cell.array.ravel().tolist()))
        text += [str(len(a)), f'Lattice="{cell}" Properties=species:S:1:pos:R:3:dft_forces:R:3 '
                              f'dft_energy={float(a.get_potential_energy())!r} {virial} pbc="T T T"']
        text += [f"{s} " + " ".join(map(repr, row)) for s, row in
                 zip(a.symbols, np.hstack([a.positions, a.get_forces()]).tolist(), strict=True)]
    (folder / "train.xyz").write_text("\n".join(text) + "\n")
    subprocess.run([find_gap_fit(), "at_file=train.xyz", f"gap={{{gap}}}", "default_sigma={0.001 0.05 0.05 0.1}",
                    "energy_parameter_name=dft_energy", "force_parameter_name=dft_forces", "do_copy_at_file=F",
                    "virial_parameter_name=dft_virial", "gp_file=gap.xml", *options],
                   cwd=folder, check=True, capture_output=True)
    return folder / "gap.xml"


def quippy_results(path, atoms, properties=("energy", "forces", "stress", "energies"), **kwargs):
    """All quantities by one evaluation of quippy."""
    from quippy.potential import Potential
    atoms, calc = atoms.copy(), Potential(param_filename=str(path))
    calc.calculate(atoms, list(properties), ["positions", "numbers", "cell", "pbc"], **kwargs)
    return calc.results
