"""ASE calculators: the electrostatic baseline, a uniform electric field, and the sums that make ES-GAP.

E_ES-GAP = E_GAP + E_ES (+ E_field); each term is a calculator of its own and a SumCalculator adds them.
Units: A, eV, e, V/A; stress in eV/A^3 with ASE's sign (positive under tension).
"""
import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.mixing import SumCalculator
from ase.data import atomic_numbers, chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress

from . import ewald, ewald_loops, realspace
from .neighbours import SkinList, neighbour_pairs

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
    of_geometry = True  # results depend on numbers, positions, cell and pbc alone

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
        atoms = self.atoms
        if not atoms.pbc.all():
            raise ValueError(f"pbc is {atoms.pbc.tolist()}; the Ewald sum needs a cell periodic in all directions")
        _check_positions(atoms)
        if self._system is None or not self._system.fits(atoms):
            self._system = None  # should the new one be refused
            self._system = _ChargedSystem(atoms, self.charges, self.zeta, self.accuracy, self.skin,
                                          self._given_splitting)
        self.results = self._system.results(atoms.positions, atoms.cell.array)

    @property
    def splitting(self):
        """The `ewald.Splitting` in use after a calculation."""
        return self._system.splitting if self._system else self._given_splitting


class _ChargedSystem:
    """What is fixed while atoms move: species, radial functions, splitting.

    Inside, atoms are sorted by species: `order`.
    """

    def __init__(self, atoms, charges, zeta, accuracy, skin, splitting):
        _check_cell(atoms.cell.array)
        q = charge_of(atoms, charges, zeta)
        if abs(q.sum()) > NEUTRAL:
            raise ValueError(f"charges sum to {q.sum():+.6g} e over {len(q)} atoms; the Ewald sum needs a neutral "
                             "cell: adjust `charges`")
        self.numbers, self.cell = atoms.numbers.copy(), atoms.cell.array.copy()
        self.order = np.argsort(atoms.numbers, kind="stable")
        self.rank = np.argsort(self.order)
        elements, self.species, counts = np.unique(atoms.numbers[self.order], return_inverse=True, return_counts=True)
        self.q = q[self.order]
        self.splitting = splitting or ewald.choose_splitting(atoms.get_volume(), len(atoms), accuracy)
        self.screening = realspace.Screening.of([zeta[chemical_symbols[z]] for z in elements], self.splitting.g_split)
        self.radial = ewald_loops.RadialBlocks.of(
            realspace.radial_functions(self.splitting.alpha, self.splitting.r_cut, self.screening))
        self.own = ewald.self_potential(self.splitting.alpha, self.screening)[self.species]
        self.first = np.append(0, np.cumsum(counts))  # atoms of each species
        self.neighbours, self.kernel_cell = SkinList(self.splitting.r_cut, skin), None

    def fits(self, atoms):
        """Same atoms in a cell similar enough (5 %) that the splitting still serves."""
        return (np.array_equal(atoms.numbers, self.numbers)
                and np.abs(atoms.cell.array - self.cell).max() <= 0.05 * np.abs(self.cell).max())

    def results(self, positions, cell):
        """Properties, as `ElectrostaticBaseline` has them, of atoms there."""
        self._update_kernel(cell)
        positions = positions[self.order]
        pairs, rebuilt = self.neighbours.update(positions, cell, (True, True, True))
        if rebuilt:  # as it is whenever the cell changes
            self.pairs = ewald_loops.Neighbours.of(pairs, cell, self.species, len(self.first) - 1)
        found = ewald_loops.lattice_sum(np.ascontiguousarray(positions.T), self.inverse, self.q, self.own, self.pairs,
                                        self.radial, self.waves, self.first)
        if found.nearest < COINCIDING**2:
            self._name_coinciding(positions, cell)
        return {"energy": found.energy, "free_energy": found.energy, "forces": -found.gradient.T[self.rank],
                "potential": found.potential[self.rank], "energies": (self.q * found.potential / 2)[self.rank],
                "stress": found.strain / self.volume}

    def _update_kernel(self, cell):
        if self.kernel_cell is not None and np.array_equal(cell, self.kernel_cell):
            return
        _check_cell(cell)
        box = ewald.index_box(cell, self.splitting.k_cut)
        self.waves = ewald_loops.Waves.of(ewald.reciprocal_kernel(cell, self.splitting.alpha, self.splitting.k_cut,
                                                                  self.screening, box), box)
        self.inverse, self.volume, self.kernel_cell = np.linalg.inv(cell), abs(np.linalg.det(cell)), cell.copy()

    def _name_coinciding(self, positions, cell):
        pairs = neighbour_pairs(positions, cell, (True, True, True), 1.0)  # shorter cutoffs make bins by the million
        r = np.linalg.norm(positions[pairs.j] - positions[pairs.i] + pairs.S @ cell, axis=1)
        k = r.argmin()
        i, j = sorted((self.order[pairs.i[k]], self.order[pairs.j[k]]))
        raise ValueError(f"atoms {i} and {j} are {r[k]:.2g} A apart: remove one of them")


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
    of_geometry = True

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


class QuickSum(SumCalculator):
    """ASE's SumCalculator, but each calculator is asked for what is wanted, once, and what else it has found is added.

    ASE's asks each for every property in turn, and each time all arrays of the atoms are compared with the last ones;
    here those are compared that calculators with `of_geometry` depend on. They share one copy of the atoms, which
    nobody changes, as their `atoms`; what they can `begin` for it is all begun before the first is waited for.
    """

    def calculate(self, atoms, properties, system_changes=all_changes):
        self.atoms, calcs = atoms.copy(), self.mixer.calcs
        quick = [calc for calc in calcs if getattr(calc, "of_geometry", False)]
        late = [calc for calc in quick if not _has_seen(calc, atoms, properties)]
        for calc in late:
            calc.reset()  # should it fail
            calc.atoms = self.atoms
            if hasattr(calc, "begin"):
                calc.begin()
        for calc in sorted(late, key=lambda calc: hasattr(calc, "begin")):
            calc.calculate(None, properties, all_changes)
        for calc in calcs:
            if calc not in quick:
                for name in properties:
                    calc.get_property(name, atoms)
        self.results = {name: sum(calc.results[name] for calc in calcs) for name in self.implemented_properties
                        if all(name in calc.results for calc in calcs)}


def _has_seen(calc, atoms, properties):
    """Whether a calculator has these properties of these atoms already."""
    return (calc.atoms is not None and all(name in calc.results for name in properties)
            and _same_geometry(calc.atoms, atoms))


def _same_geometry(one, other):
    return all(np.array_equal(a, b) for a, b in ((one.positions, other.positions), (one.numbers, other.numbers),
                                                 (one.cell.array, other.cell.array), (one.pbc, other.pbc)))


def es_gap(gap, baseline, field=None):
    """ES-GAP: the sum of a GAP fitted to E_DFT - E_ES, the baseline E_ES and, if given, a `UniformField`.

    All are ASE calculators and can be shared between sums. -> `QuickSum`, an ase.calculators.mixing.SumCalculator
    """
    return QuickSum([c for c in (gap, baseline, field) if c is not None])


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


def _check_cell(cell):
    lengths = np.linalg.norm(cell, axis=1)
    if not np.isfinite(cell).all() or abs(np.linalg.det(cell)) <= 1e-6 * lengths.prod():
        raise ValueError(f"cell is singular, rows {cell.round(4).tolist()} A: give three independent vectors")
