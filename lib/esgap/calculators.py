"""ASE calculators: the electrostatic baseline, a uniform electric field, and the sums that make ES-GAP.

E_ES-GAP = E_GAP + E_ES (+ E_field); each term is a calculator of its own and ASE's SumCalculator adds them.
Units: A, eV, e, V/A; stress in eV/A^3 with ASE's sign (positive under tension).
"""
from functools import partial

import jax
import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.mixing import SumCalculator
from ase.data import atomic_numbers, chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress
from scipy.sparse import csr_matrix

from . import ewald, slater
from .neighbours import SkinList

NEUTRAL = 1e-6  # e; a net charge below this is rounding of the given charges
COINCIDING = 1e-3  # A


class ElectrostaticBaseline(Calculator):
    """Coulomb energy of fixed charges on Slater 1s clouds in a periodic, neutral cell (the ES of ES-GAP).

    charges: e by element, {"Li": 0.6, ...}. zeta: 1s exponents in 1/A by element, or None for point charges.
    accuracy: error relative to the Coulomb energy (and, roughly, to the largest force). skin: A, neighbour list.
    splitting: an `ewald.Splitting` instead of the automatic one; results do not depend on it within `accuracy`.

    Properties: energy and free_energy (eV), energies (n,), forces (n, 3), stress (6,), potential (n,) = dE/dq in V.
    The energy is quadratic in the charges, so energies = charge * potential / 2 is its exact share by atoms.
    Raises ValueError for a charged, singular or not fully periodic cell, an element without a charge or exponent, an
    exponent that is not positive, positions that are not finite, and atoms closer than 0.001 A.
    """

    implemented_properties = ("energy", "free_energy", "energies", "forces", "stress", "potential")

    def __init__(self, charges, zeta=None, accuracy=1e-8, skin=0.5, splitting=None, **kwargs):
        super().__init__(**kwargs)
        self.charges = {s: float(q) for s, q in charges.items()}
        self.zeta = {s: np.inf for s in charges} if zeta is None else {s: float(z) for s, z in zeta.items()}
        for symbol in {*self.charges, *self.zeta}:
            if symbol not in atomic_numbers:
                raise ValueError(f"{symbol!r} is not a chemical symbol: give charges and zeta by element")
        for symbol, z in self.zeta.items():
            if not z > 0:
                raise ValueError(f"zeta of {symbol} is {z} 1/A; it must be positive (zeta=None for point charges)")
        self.accuracy, self.skin, self._given_splitting = accuracy, skin, splitting
        self._system = None

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self._check(self.atoms)
        if self._system is None or not self._system.fits(self.atoms):
            self._system = _ChargedSystem(self.atoms, self.charges, self.zeta, self.accuracy, self.skin,
                                          self._given_splitting)
        self.results = self._system.evaluate(self.atoms.positions, self.atoms.cell.array)

    @property
    def splitting(self):
        """The `ewald.Splitting` in use after a calculation."""
        return self._system.splitting if self._system else self._given_splitting

    def _check(self, atoms):
        if not atoms.pbc.all():
            raise ValueError(f"pbc is {atoms.pbc.tolist()}; the Ewald sum needs a cell periodic in all directions")
        _check_geometry(atoms)
        q = charge_of(atoms, self.charges, self.zeta)
        if abs(q.sum()) > NEUTRAL:
            raise ValueError(f"charges sum to {q.sum():+.6g} e over {len(q)} atoms; the Ewald sum needs a neutral "
                             "cell: adjust `charges`")


class _ChargedSystem:
    """What is fixed while atoms move: species, screening terms, splitting, and padded pair arrays of constant shape."""

    def __init__(self, atoms, charges, zeta, accuracy, skin, splitting):
        self.numbers, self.cell = atoms.numbers.copy(), atoms.cell.array.copy()
        self.q = charge_of(atoms, charges)
        elements, self.species = np.unique(atoms.numbers, return_inverse=True)
        self.splitting = splitting or ewald.choose_splitting(atoms.get_volume(), len(atoms), accuracy)
        rates, coefficients = slater.screening_table([zeta[chemical_symbols[z]] for z in elements])
        self.screening = ewald.Screening(rates, coefficients, rates < self.splitting.g_split)
        self.membership = np.eye(len(elements))[self.species]
        self.constants = jax.device_put((self.q, self.membership, self.splitting.alpha, self.screening))
        self.neighbours = SkinList(self.splitting.r_cut, skin)
        self.capacity, self.kernel_cell = 0, None

    def fits(self, atoms):
        """Same atoms in a cell similar enough (5 %) that splitting and array shapes still serve."""
        return (np.array_equal(atoms.numbers, self.numbers)
                and np.allclose(atoms.cell.array, self.cell, rtol=0, atol=0.05 * np.abs(self.cell).max()))

    def evaluate(self, positions, cell):
        vectors, near = self._pair_vectors(positions, cell)
        self._update_kernel(cell)
        value, (g_vec, g_frac, potential), g_strain = jax.device_get(_value_and_gradients(
            vectors, positions @ self.inverse, near, self.constants, self.pair_constants, self.kernel, box=self.box))
        forces = self.incidence @ g_vec - g_frac @ self.inverse.T
        virial = vectors.T @ g_vec + g_strain
        stress = (virial + virial.T) / (2 * abs(np.linalg.det(cell)))
        return {"energy": float(value), "free_energy": float(value), "forces": forces, "potential": potential,
                "energies": self.q * potential / 2, "stress": full_3x3_to_voigt_6_stress(stress)}

    def _update_kernel(self, cell):
        if self.kernel_cell is not None and np.array_equal(cell, self.kernel_cell):
            return
        self.box = ewald.index_box(cell, self.splitting.k_cut)
        self.kernel = jax.device_put(
            ewald.kernel_and_slope(cell, self.splitting.alpha, self.splitting.k_cut, self.screening, self.box))
        self.inverse, self.kernel_cell = np.linalg.inv(cell), cell.copy()

    def _pair_vectors(self, positions, cell):
        """Vectors (p, 3) of all listed pairs and weights (p,): 1 within r_cut, else 0."""
        pairs, rebuilt = self.neighbours.update(positions, cell, (True, True, True))
        if rebuilt:  # as it is whenever the cell changes
            self._list_pairs(pairs)
            self.shift = self.S @ cell
        vectors = positions[self.j] - positions[self.i] + self.shift
        r2 = np.einsum("ij,ij->i", vectors, vectors)
        near = (r2 < self.splitting.r_cut**2) & self.real
        if near.any() and r2[near].min() < COINCIDING**2:
            p = np.flatnonzero(near)[r2[near].argmin()]
            raise ValueError(f"atoms {self.i[p]} and {self.j[p]} are {np.sqrt(r2[p]):.2g} A apart: remove one of them")
        return vectors, near.astype(float)

    def _list_pairs(self, pairs):
        """Keep each pair once and pad the arrays, with headroom, so that a rebuilt list does not recompile anything."""
        first = np.array([1, 1e4, 1e8])  # sign of the first non-zero shift decides between S and -S
        keep = (pairs.i < pairs.j) | ((pairs.i == pairs.j) & (pairs.S[:, ::-1] @ first > 0))
        n = int(keep.sum())
        if n > self.capacity:
            self.capacity = _common_size(1.05 * n + 32)
        pad = (0, self.capacity - n)
        self.i, self.j = np.pad(pairs.i[keep], pad), np.pad(pairs.j[keep], pad)
        self.S = np.pad(pairs.S[keep].astype(float), (pad, (0, 0)))
        self.real = np.arange(self.capacity) < n
        a, b = self.species[self.i], self.species[self.j]
        self.pair_screening = ewald.Screening(*(x[..., a, b] for x in self.screening))
        self.pair_constants = jax.device_put((self.i, self.j, self.pair_screening))
        # forces = incidence @ dE/dvector: +1 at i and -1 at j, since the vector points from i to j
        columns = np.arange(n)
        self.incidence = csr_matrix(
            (np.repeat([1.0, -1.0], n), (np.concatenate([self.i[:n], self.j[:n]]), np.tile(columns, 2))),
            shape=(len(self.q), self.capacity))


def _common_size(n):
    """At least n, from sizes in steps of 9 % that all calculators share, so that they also share compiled code."""
    return int(np.ceil(2 ** (np.ceil(8 * np.log2(n)) / 8)))


@partial(jax.jit, static_argnames="box")
def _value_and_gradients(vectors, fractional, near, constants, pair_constants, kernel, box):
    """Energy; its gradients by pair vectors, fractional coordinates and charges; the kernel's share of dE/dstrain."""
    charges, membership, alpha, screening = constants
    i, j, pair_screening = pair_constants
    values, slope = kernel
    energy, (*gradients, g_kernel) = jax.value_and_grad(ewald.energy_of_parts, argnums=(0, 1, 2, 3))(
        vectors, fractional, charges, values, membership, (i, j, near), alpha, pair_screening, screening, box)
    return energy, gradients, ewald.strain_derivative(g_kernel, values, *slope)


class UniformField(Calculator):
    """Fixed charges in a uniform electric field: U = -E . sum_i q_i (r_i - r_i^ref), force q_i E.

    field (3,) in V/A; charges: e by element. reference: Atoms whose unwrapped positions count as zero displacement
    (default: the origin for every atom, so U is -E . dipole of the positions as given).

    U belongs to the positions *as they stand*, not to the lattice: moving an ion by a lattice vector R changes U by
    -q E.R. Carry unwrapped positions, never call `wrap()` within one series, and state the branch. Under strain the
    reference moves with the cell. With tinfoil Ewald boundaries E is the macroscopic field.
    Raises ValueError for a charged cell (U would depend on the origin), an element without a charge, a reference
    with other atoms, and values that are not finite.
    """

    implemented_properties = ("energy", "free_energy", "energies", "forces", "stress")

    def __init__(self, field, charges, reference=None, **kwargs):
        super().__init__(**kwargs)
        self.field = np.asarray(field, float)
        if self.field.shape != (3,) or not np.isfinite(self.field).all():
            raise ValueError(f"field is {field}; give three finite components in V/A")
        self.charges = {s: float(q) for s, q in charges.items()}
        self.reference = None if reference is None else reference.copy()

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        atoms = self.atoms
        _check_positions(atoms)
        q = charge_of(atoms, self.charges)
        if abs(q.sum()) > NEUTRAL:
            raise ValueError(f"charges sum to {q.sum():+.6g} e over {len(q)} atoms; the field energy of a charged cell "
                             "depends on the origin: adjust `charges`")
        displacement = atoms.positions - self._reference_positions(atoms)
        energies = -q * (displacement @ self.field)
        self.results = {"energy": float(energies.sum()), "free_energy": float(energies.sum()), "energies": energies,
                        "forces": q[:, None] * self.field}
        if atoms.cell.rank == 3:
            virial = -np.outer(q @ displacement, self.field)
            self.results["stress"] = full_3x3_to_voigt_6_stress((virial + virial.T) / (2 * atoms.get_volume()))

    def _reference_positions(self, atoms):
        if self.reference is None:
            return 0.0
        if not np.array_equal(self.reference.numbers, atoms.numbers):
            raise ValueError(f"the reference is {self.reference.symbols}, the atoms are {atoms.symbols}: "
                             "they must be the same atoms in the same order")
        if self.reference.cell.rank < 3:
            return self.reference.positions
        return self.reference.cell.scaled_positions(self.reference.positions) @ atoms.cell.array


def es_gap(gap, baseline, field=None):
    """ES-GAP: the sum of a GAP fitted to E_DFT - E_ES, the baseline E_ES and, if given, a `UniformField`.

    All are ASE calculators and can be shared between sums. -> ase.calculators.mixing.SumCalculator
    """
    return SumCalculator([c for c in (gap, baseline, field) if c is not None])


def charge_of(atoms, charges, zeta=None):
    """Charges (n,) in e of atoms from a dict by element. ValueError names an element without a charge or exponent."""
    for what, given in (("charge", charges), ("zeta", zeta)):
        missing = sorted(set(atoms.symbols) - set(given)) if given is not None else []
        if missing:
            raise ValueError(f"no {what} for {', '.join(missing)}; given are {', '.join(sorted(given))}: add it")
    return np.array([charges[s] for s in atoms.symbols])


def _check_positions(atoms):
    bad = np.flatnonzero(~np.isfinite(atoms.positions).all(1))
    if len(bad):
        raise ValueError(f"position of atom {bad[0]} is {atoms.positions[bad[0]]}: positions must be finite")


def _check_geometry(atoms):
    _check_positions(atoms)
    lengths = atoms.cell.lengths()
    if not np.isfinite(atoms.cell.array).all() or abs(np.linalg.det(atoms.cell.array)) <= 1e-6 * lengths.prod():
        raise ValueError(f"cell is singular, rows {atoms.cell.array.round(4).tolist()} A: "
                         "give three independent vectors")
