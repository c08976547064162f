"""Potentials with saddle points that are known exactly, shared by the tests of paths and barriers."""
import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from esgap.neighbours import neighbour_pairs

CENTRE = np.array([5.0, 5.0, 5.0])  # A


class Surface(Calculator):
    """E = sum over atoms of V(r) with a gradient given beside it: function(r (n, 3)) -> V (n,), dV/dr (n, 3)."""

    implemented_properties = ("energy", "forces")

    def __init__(self, function, fail_at=None):
        super().__init__()
        self.function, self.fail_at, self.calls = function, fail_at, 0

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.calls += 1
        if self.calls == self.fail_at:
            raise KeyboardInterrupt
        value, gradient = self.function(self.atoms.positions)
        self.results = {"energy": value.sum(), "forces": -gradient}


def double_well(height=0.3, tilt=0.0, stiffness=4.0):
    """Minima at x = -1 and 1 A from the centre; V = h (x^2 - 1)^2 + c (x^3/3 - x), saddle at x = -c/(4h)."""
    def function(r):
        (x, y, z) = (r - CENTRE).T
        value = height * (x**2 - 1) ** 2 + tilt * (x**3 / 3 - x) + stiffness / 2 * (y**2 + z**2)
        return value, np.column_stack([(x**2 - 1) * (4 * height * x + tilt), stiffness * y, stiffness * z])
    return function


def ring(height=0.25, radius=2.0, stiffness=5.0):
    """A bent valley: V = k/2 (rho - R)^2 + h sin^2(2 phi) + k/2 z^2; minima at multiples of 90 degrees."""
    def function(r):
        (x, y, z) = (r - CENTRE).T
        rho, phi = np.hypot(x, y), np.arctan2(y, x)
        value = stiffness / 2 * ((rho - radius) ** 2 + z**2) + height * np.sin(2 * phi) ** 2
        radial, around = stiffness * (rho - radius), 2 * height * np.sin(4 * phi) / rho
        return value, np.column_stack([radial * x / rho - around * y / rho, radial * y / rho + around * x / rho,
                                       stiffness * z])
    return function


def wells(height=0.2, spacing=2.0, stiffness=4.0):
    """A row of wells along x, minima at odd multiples of spacing / 2; bends with y = 0.3 sin(2 pi x / 12)."""
    def function(r):
        k, q = 2 * np.pi / spacing, 2 * np.pi / 12
        x, y, z = r[:, 0], r[:, 1] - CENTRE[1] - 0.3 * np.sin(q * r[:, 0]), r[:, 2] - CENTRE[2]
        value = height * (1 + np.cos(k * x)) / 2 + stiffness / 2 * (y**2 + z**2)
        along = -height * k / 2 * np.sin(k * x) - stiffness * y * 0.3 * q * np.cos(q * x)
        return value, np.column_stack([along, stiffness * y, stiffness * z])
    return function


def at_right_angles(one, stiffness=0.5):
    """Two atoms moving as `one` does alone, and k/2 (r1 . r2)^2: where one goes round the ring, the other goes too."""
    def function(r):
        value, gradient = one(r)
        a, b = r - CENTRE
        return value + stiffness / 4 * (a @ b) ** 2, gradient + stiffness * (a @ b) * np.array([b, a])
    return function


class Cage(Calculator):
    """Li in a framework on springs to its places `frame`: Li-S Morse wells of 0.3 eV at 2.45 A, repulsion else."""

    implemented_properties = ("energy", "forces")

    def __init__(self, frame):
        super().__init__()
        self.frame = frame[frame.numbers != 3]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        r, z, cell = self.atoms.positions, self.atoms.numbers, self.atoms.cell.array
        pairs = neighbour_pairs(r, cell, (True,) * 3, 5.0)
        d = r[pairs.j] - r[pairs.i] + pairs.S @ cell
        length, with_li = np.linalg.norm(d, axis=1), (z[pairs.i] == 3) | (z[pairs.j] == 3)
        well = with_li & ((z[pairs.i] == 16) | (z[pairs.j] == 16))
        decay = np.exp(-1.5 * (length - 2.45))
        wall = np.exp(-(length - 2.6) / 0.35)
        energy = np.where(well, 0.3 * ((1 - decay) ** 2 - 1), 0.3 * wall) * with_li
        slope = np.where(well, 0.9 * (1 - decay) * decay, -0.3 / 0.35 * wall) * with_li
        fade = 1 - (length / 5.0) ** 2  # so that energy and forces end smoothly at 5 A
        energy, slope = energy * fade**2, slope * fade**2 - energy * 4 * fade * length / 25.0
        forces = np.zeros_like(r)
        np.add.at(forces, pairs.i, (slope / length)[:, None] * d)
        out = r[z != 3] - self.frame.positions
        forces[z != 3] -= 5.0 * out
        self.results = {"energy": energy.sum() / 2 + 2.5 * (out**2).sum(), "forces": forces}


def one_at(*place, cell=12.0):
    """One Li in a cubic cell, at a place (A) from the centre."""
    return Atoms("Li", [CENTRE + place], cell=[cell] * 3, pbc=True)
