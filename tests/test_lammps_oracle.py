"""The baseline against LAMMPS `coul/streitz`, the same model written by others."""
import numpy as np
import pytest
from ase import Atoms

from esgap import ElectrostaticBaseline
from lammps_coulomb import LammpsCoulomb

CHARGES = {"Li": 0.7, "P": 1.1, "S": -(10 * 0.7 + 2 * 1.1) / 14}
ZETA = {"Li": 0.9, "P": 1.1, "S": 1.4}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_energy_forces_and_stress_agree(seed):
    rng = np.random.default_rng(seed)
    cell = np.diag([9.0, 8.0, 10.0]) + rng.uniform(-2, 2, (3, 3))
    grid = np.array(list(np.ndindex(3, 3, 3)))[:26] / 3
    symbols = rng.permutation(["Li"] * 10 + ["P"] * 2 + ["S"] * 14)
    atoms = Atoms(symbols, scaled_positions=grid + 0.05 * rng.normal(size=(26, 3)), cell=cell, pbc=True)
    oracle = LammpsCoulomb(atoms, CHARGES, ZETA, r_cut=16.0, accuracy=1e-8)
    energy, forces, stress = oracle.results()
    oracle.close()
    atoms.calc = ElectrostaticBaseline(CHARGES, ZETA)
    assert atoms.get_potential_energy() == pytest.approx(energy, rel=1e-6)
    np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-5 * np.abs(forces).max())
    np.testing.assert_allclose(atoms.get_stress(voigt=False), stress, atol=1e-5 * np.abs(stress).max())
