"""Cheap calculators in CP2K's place, named on the command line as reference_calculators:FACTORY."""
import time

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.morse import MorsePotential


class Pairs(Calculator):
    """E = sum over pairs of exp(-r), no images (eV, A); takes `pause` seconds."""

    implemented_properties = ("energy", "forces")

    def __init__(self, pause):
        super().__init__()
        self.pause = pause

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        time.sleep(self.pause)
        d = self.atoms.positions[:, None] - self.atoms.positions  # (n, n, 3)
        r = np.linalg.norm(d, axis=2) + 1e-300                    # (n, n)
        self.results = {"energy": np.exp(-r[np.triu_indices(len(r), 1)]).sum(),
                        "forces": (d * (np.exp(-r) / r)[:, :, None]).sum(axis=1)}


class Refusing(MorsePotential):
    """Fails on the frame that has its first atom at x > 9 A."""

    def calculate(self, atoms=None, *args, **kwargs):
        if atoms.positions[0, 0] > 9:
            raise RuntimeError("the first atom\nis too far")
        super().calculate(atoms, *args, **kwargs)


PARAMETERS = {"r0": 2.4, "epsilon": 0.5, "rho0": 4.0, "rcut1": 3.5, "rcut2": 4.5}


def slow():
    return Pairs(0.03)


def quick():
    return Pairs(0.005)


def instant():
    return Pairs(0)


def fast():
    return MorsePotential(**PARAMETERS)


def refusing():
    return Refusing(**PARAMETERS)


def no_calculator():
    return "a word"


def weak():
    return MorsePotential(**{**PARAMETERS, "epsilon": 0.02})
