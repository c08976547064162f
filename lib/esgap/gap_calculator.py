"""ASE calculator of a Gaussian approximation potential (`esgap.gap`)."""
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from . import quip
from .gap import Layout, PairTable, energies_and_gradient, padded_vectors, predicted_variance
from .kernel_sums import Points
from .neighbours import SkinList, sums_over_pairs
from .two_body import PairSums

TOLERANCES = {"float64": 3e-7, "float32": 1e-4}  # radial_tolerance by dtype
ROWS = {"cpu": 96}  # of a chunk of the program, by platform: those of a CPU fit its cache
MANY = 20000  # rows, elsewhere


def usual_rows():
    """Rows of a chunk of the program on the platform in use."""
    return ROWS.get(jax.default_backend(), MANY)


def _usable_cores():
    if jax.default_backend() != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _pool():
    return ThreadPoolExecutor(_usable_cores(), "esgap-gap")


def _start(in_thread, *args):
    """Start `energies_and_gradient` -> function that waits for its results. JAX does the computations of one thread in
    turn, and in each only the larger products keep more than one core busy."""
    if in_thread:
        return _pool().submit(lambda: _arrays(energies_and_gradient(*args))).result
    found = energies_and_gradient(*args)
    return lambda: _arrays(found)


def _arrays(found):
    return [np.asarray(x, float) for x in found]


class GAP(Calculator):
    """GAP(model) or GAP.load("gap.xml"): energy, per-atom energies, forces and stress of a SparseGAP.

    skin (A) is that of the neighbour list. radial_tolerance: radial functions of SOAP whose values stay below this part
    of the largest are left out; products hold its square, so that the default of 3e-7 changes forces by 1e-12 of the
    largest or so. dtype=np.float32 does the products with the sparse points in single precision, with a
    radial_tolerance of 1e-4 by default: for long MD; appendix A1 measures what that costs in accuracy. More than
    chunk_rows atoms (None: `usual_rows`) are dealt out to `threads` (None: one for each core this process may use; 1 on
    an accelerator), whose number may change rounding and nothing else. Results do not depend on earlier calls.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012
    of_geometry = True  # as `calculators.QuickSum` asks

    def __init__(self, model, skin=0.5, dtype=np.float64, chunk_rows=None, radial_tolerance=None, threads=None,
                 **kwargs):
        super().__init__(**kwargs)
        self.model, self.dtype, self.chunk_rows = model, np.dtype(dtype), chunk_rows or usual_rows()
        if self.dtype not in (np.float32, np.float64):
            raise ValueError(f"dtype is {self.dtype}; use numpy.float64 or numpy.float32")
        self.threads = _usable_cores() if threads is None else threads
        if self.threads < 1:
            raise ValueError(f"threads is {threads}; give 1 or more, or None for one on every core")
        self.neighbours, self._soap_cutoff = SkinList(model.cutoff, skin), model.soap_cutoff
        tolerance = TOLERANCES[str(self.dtype)] if radial_tolerance is None else radial_tolerance
        self._terms = [replace(t, soap=t.soap.truncated(tolerance)) for t in model.terms]
        self._params = [(Points.of(t, self.dtype), jnp.asarray(t.alpha * t.delta**2)) for t in self._terms]
        self._numbers, self._begun = None, None

    @classmethod
    def load(cls, path, **kwargs):
        """From QUIP XML (path ends in .xml; sparse files beside it) or our .npz; keywords go to GAP."""
        return cls(quip.read_model(path), **kwargs)

    def save(self, path):
        """To QUIP XML if path ends in .xml, else to a compact .npz."""
        quip.write_model(self.model, Path(path))

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        atoms = self.atoms
        if self._begun is None or self._begun[0] is not atoms:
            self.begin()
        (_, table, (i, j, vec, slots), found), self._begun = self._begun, None
        E, g = (np.concatenate(x) for x in zip(*(share() for share in found), strict=True))
        g = g.swapaxes(0, 1).reshape(3, -1)[:, slots].T  # (n_pairs, 3)
        forces, virial = sums_over_pairs(i, j, vec, g, len(atoms))
        energies = self._e0 + E.ravel()[table.layout.row_of_atom]
        if self.model.pair_terms:
            of_pairs = self._pair_sums.evaluate(atoms.positions)
            energies, forces, virial = energies + of_pairs[0], forces + of_pairs[1], virial + of_pairs[2]
        energy = float(energies.sum())
        self.results = {"energy": energy, "free_energy": energy, "energies": energies, "forces": forces}
        if atoms.cell.rank == 3:
            stress = (virial + virial.T) / (2 * atoms.get_volume())
            self.results["stress"] = full_3x3_to_voigt_6_stress(stress)

    def begin(self):
        """Begin what `calculate()` will ask for of self.atoms, which must not change until then (`QuickSum`)."""
        atoms = self.atoms
        table = self._table(atoms)
        pairs = table.fill(atoms.positions, self._soap_cutoff)
        vec, weight, shares = padded_vectors(*pairs[2:], table), table.layout.weight, table.layout.shares
        in_threads = len(shares) > 1 and self._compiled == table.blocks  # or every thread would compile
        self._begun = atoms, table, pairs, [
            _start(in_threads, vec[s], weight[s], self._params, table.blocks, table.layout) for s in shares]
        self._compiled = table.blocks

    def variance(self, atoms, regularisation=1e-3):
        """Predicted variance (n,) of the local energies in eV^2, see `esgap.gap.predicted_variance`."""
        return predicted_variance(self.model, atoms.positions, atoms.cell.complete().array, atoms.pbc, atoms.numbers,
                                  regularisation)

    def _table(self, atoms):
        """Padded pair table for these atoms; kept from call to call only to save time."""
        new = self._numbers is None or not np.array_equal(self._numbers, atoms.numbers)
        if new:
            self._numbers, self._compiled = atoms.numbers.copy(), None
            self._layout = Layout(self._terms, atoms.numbers, self.chunk_rows, self.threads)
            self._pairs = PairTable(self._layout)
            self._pair_sums = PairSums(self.model.pair_terms, atoms.numbers)
            self._e0 = np.array([self.model.e0.get(int(Z), 0.0) for Z in atoms.numbers])
        cell = atoms.cell.complete().array  # a molecule may come without one
        pairs, rebuilt = self.neighbours.update(atoms.positions, cell, atoms.pbc)
        if new or rebuilt:
            self._pairs.set_pairs(pairs, cell)
            if self.model.pair_terms:
                self._pair_sums.set_pairs(pairs, cell)
        return self._pairs
