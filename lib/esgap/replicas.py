"""Many copies of one system at once: energies and forces of all of them as one compiled program, for accelerators.

What `GAP` and `ElectrostaticBaseline` find for one structure at a time, here for R replicas of the same atoms in the
same cell. Neighbours, too, are found on the device: of all images of an atom those nearest, so many that none within
cutoff + skin is missed (the count of those within is returned, to be compared with `widths`). Of the Ewald sum the real
part takes the neighbours of the GAP, so its range is fixed and the rest of the work lies in reciprocal space.
Units: A, eV, eV/A, e. Arrays have replicas as their first axis; atoms are sorted by element (`order`).
"""
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ase.calculators.mixing import SumCalculator
from ase.data import chemical_symbols

from . import ewald, realspace
from .calculators import NEUTRAL, ElectrostaticBaseline, charge_of
from .gap import Layout, energies_and_gradient
from .gap_calculator import GAP, usual_rows

FAR = 1e3  # A, where what is no neighbour lies
STEP = 4  # widths are multiples of it


class Table(NamedTuple):
    """Neighbours of every atom in slots, one block of them for each element."""

    j: jax.Array  # (R, n, K) atom numbers
    shift: jax.Array  # (R, n, K, 3) A: r_ij = r_j - r_i + shift
    count: jax.Array  # (blocks,) most neighbours within cutoff + skin that any atom has
    made_for: jax.Array  # (R, n, 3) A, positions


class Replicas:
    """Replicas(atoms, calculator, n): n copies of `atoms` (periodic, one cell) with `calculator`, a `GAP`, an
    `ElectrostaticBaseline` with point or Slater charges, or a sum of the two (`load_model`).

    skin (A): a table of neighbours serves until an atom has moved by half of it. rows: of a chunk of the GAP's program.
    Raises ValueError for another calculator, for cells that are not periodic and for charges that do not add up to 0.
    """

    def __init__(self, atoms, calculator, n_replicas, skin=1.0, rows=None):
        if not atoms.pbc.all():
            raise ValueError(f"pbc is {atoms.pbc.tolist()}; replicas need a cell periodic in all directions")
        if n_replicas < 1:
            raise ValueError(f"{n_replicas} replicas; give one or more")
        self.gap, self.baseline = _parts(calculator)
        self.order = np.argsort(atoms.numbers, kind="stable")
        self.rank = np.argsort(self.order)
        self.numbers, self.cell, self.n_replicas = atoms.numbers[self.order], atoms.cell.array.copy(), n_replicas
        self.elements, self.counts = np.unique(self.numbers, return_counts=True)
        self.cutoff, self.skin = self.gap.model.cutoff, float(skin)
        self.images = images_within(self.cell, self.cutoff + self.skin)
        self._layout = Layout(self.gap._terms, np.tile(self.numbers, n_replicas), rows or usual_rows())
        e0 = np.array([self.gap.model.e0.get(int(Z), 0.0) for Z in self.numbers])
        self._e0, self._inverse = float(e0.sum()), np.linalg.inv(self.cell)
        self._ewald = None if self.baseline is None else self._splitting(atoms[self.order])
        # large arrays are given to compiled programs: within them they would be compiled, too
        self.constants = jax.device_put((self.gap._params, self._layout.weight, self._ewald and self._ewald["kernel"]))
        positions = np.broadcast_to(atoms.positions[self.order], (n_replicas, *atoms.positions.shape))
        self.widths = (1,) * len(self.elements)
        self.widths = self.wide_enough(self.table(positions).count)

    def wide_enough(self, count):
        """Widths of the blocks for so many neighbours (blocks,), with room for fluctuations; no less than now."""
        count = np.asarray(count)
        roomy = STEP * np.ceil((count + np.sqrt(count)) / STEP).astype(int)
        most = self.counts * len(self.images)
        return tuple(int(w) for w in np.minimum(np.where(count > self.widths, roomy, self.widths), most))

    def table(self, positions):
        """`Table` for positions (R, n, 3) in A, sorted by element."""
        return _table(jnp.asarray(positions), self.cell, self.images, tuple(self.counts.tolist()), self.widths,
                      self.cutoff + self.skin)

    def energies_and_forces(self, positions, table, constants):
        """positions (R, n, 3) in A -> energies (R,) in eV and forces (R, n, 3) in eV/A; to be compiled by the caller.

        Right as long as no atom has moved by skin / 2 since the table was made, and its counts are within `widths`.
        constants: those of this object, as an argument of the program.
        """
        params, weight, kernel = constants
        vec = _neighbours(positions, table.j) - positions[:, :, None] + table.shift
        energies, pull = self._short_ranged(vec, params, weight)
        if self.baseline is not None:
            more, gradient = self._real_space(vec)
            smooth, on_atoms = self._reciprocal_space(positions, kernel)
            energies, pull = energies + more + smooth, pull + gradient
        back = jax.vmap(lambda j, g: jnp.zeros((len(self.numbers), 3)).at[j.ravel()].add(g.reshape(-1, 3)))
        forces = pull.sum(2) - back(table.j, pull)
        return energies, forces if self.baseline is None else forces - on_atoms

    def _short_ranged(self, vec, params, weight):
        """The GAP's energies (R,) and derivatives by the vectors, like vec (R, n, K, 3)."""
        layout = self._layout
        R, n, K = vec.shape[:3]
        chunked = jnp.moveaxis(vec.reshape(R * n, K, 3)[layout.order], 3, 1)  # (chunks, 3, rows, K)
        E, g = energies_and_gradient(chunked, weight, params, self.widths, layout)
        of_atom = layout.row_of_atom
        g = jnp.moveaxis(g, 1, 3).reshape(-1, K, 3)[of_atom].reshape(vec.shape)
        return E.ravel()[of_atom].reshape(R, n).sum(1) + self._e0, g

    # ---- electrostatics --------------------------------------------------------------------------------------------
    def _splitting(self, atoms):
        """What the Ewald sum needs beside positions; its real part ends where the GAP does."""
        base, q = self.baseline, charge_of(atoms, self.baseline.charges, self.baseline.zeta)
        if abs(q.sum()) > NEUTRAL:
            raise ValueError(f"charges sum to {q.sum():+.6g} e over {len(q)} atoms; the Ewald sum needs a neutral "
                             "cell: adjust the charges of the baseline")
        symbols = [chemical_symbols[Z] for Z in self.elements]
        splitting = ewald.choose_splitting(atoms.get_volume(), len(q), base.accuracy, r_cut=self.cutoff)
        screening = realspace.Screening.of([base.zeta[s] for s in symbols], splitting.g_split)
        species = np.repeat(np.arange(len(symbols)), self.counts)
        box = ewald.index_box(self.cell, splitting.k_cut)
        return {"q": q, "species": species, "box": box,
                "radial": realspace.radial_functions(splitting.alpha, splitting.r_cut, screening),
                "own": ewald.self_potential(splitting.alpha, screening)[species],
                "kernel": ewald.reciprocal_kernel(self.cell, splitting.alpha, splitting.k_cut, screening, box)}

    def _real_space(self, vec):
        """Real part of the Ewald sum: energies (R,) and half the derivative by each vector, which is in there twice."""
        e, R, n = self._ewald, *vec.shape[:2]
        total, gradients = jnp.zeros((R, n)), []
        for b, (end, width) in enumerate(zip(np.cumsum(self.widths), self.widths, strict=True)):
            v = vec[:, :, end - width:end]
            r2 = (v * v).sum(-1)
            near = r2 < self.cutoff**2
            r = jnp.sqrt(jnp.where(near, r2, 1.0))
            radial = realspace.Radial(self.cutoff, *(x[..., e["species"], b][..., :, None] for x in e["radial"][1:]))
            value, slope = realspace.interaction(r, radial)
            weight = jnp.where(near, 0.5 * ewald.COULOMB * e["q"][:, None] * e["q"][np.searchsorted(
                e["species"], b)], 0.0)
            total += (weight * value).sum(-1)
            gradients.append((weight * slope / r)[..., None] * v)
        own = 0.5 * ewald.COULOMB * float(e["own"] @ e["q"]**2)
        return total.sum(1) + own, jnp.concatenate(gradients, 2)

    def _reciprocal_space(self, positions, kernel):
        """Smooth part: energies (R,) and derivatives by the positions (R, n, 3)."""
        e, counts = self._ewald, tuple(self.counts.tolist())
        inverse = self._inverse

        def one(x):
            smooth = ewald.reciprocal_space(inverse.T @ x.T, e["q"], kernel, counts, e["box"])
            return ewald.COULOMB * 0.5 * e["q"] @ smooth.potential, ewald.COULOMB * (inverse @ smooth.gradient).T
        return jax.vmap(one)(positions)

    # ---- what a run watches ----------------------------------------------------------------------------------------
    def closeness(self, positions, table, shortest):
        """Smallest r_ij / shortest_ij of each replica (R,); shortest (elements, elements) in A, 0: of no interest."""
        vec = _neighbours(positions, table.j) - positions[:, :, None] + table.shift
        r = jnp.sqrt((vec * vec).sum(-1))
        of = np.repeat(np.arange(len(self.elements)), self.counts)
        limit = np.repeat(shortest[of], self.widths, axis=1)  # (n, K)
        return jnp.where(limit > 0, r / np.where(limit > 0, limit, 1.0), jnp.inf).min((1, 2))


def _parts(calculator):
    calcs = calculator.mixer.calcs if isinstance(calculator, SumCalculator) else [calculator]
    gaps = [c for c in calcs if isinstance(c, GAP)]
    sums = [c for c in calcs if isinstance(c, ElectrostaticBaseline)]
    others = [type(c).__name__ for c in calcs if c not in (*gaps, *sums)]
    if others or len(gaps) != 1 or len(sums) > 1:
        raise ValueError(f"the calculator is made of {', '.join(type(c).__name__ for c in calcs)}; replicas take one "
                         "GAP and at most one ElectrostaticBaseline")
    if gaps[0].model.pair_terms:
        raise ValueError("the GAP has two-body terms, which replicas do not evaluate: run `python -m esgap md`")
    return gaps[0], sums[0] if sums else None


def images_within(cell, reach):
    """Integer shifts (m, 3) of the cell (3, 3) in A that images nearer than `reach` can have, of the vector between two
    atoms whose fractional components lie within -1/2 and 1/2."""
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    most = np.floor(reach / heights + 0.5).astype(int)
    return np.stack([x.ravel() for x in np.meshgrid(*(np.arange(-m, m + 1) for m in most), indexing="ij")], 1)


def _neighbours(positions, j):
    return jax.vmap(lambda x, index: x[index])(positions, j)


@partial(jax.jit, static_argnums=(3, 4, 5))
def _table(positions, cell, images, counts, widths, reach):
    images, inverse = jnp.asarray(images), jnp.linalg.inv(cell)

    def one(x):
        d = x[None] - x[:, None]
        wrap = -jnp.round(d @ inverse)
        base, itself = d + wrap @ cell, jnp.eye(len(x), dtype=bool)[:, :, None] & (images == 0).all(1)
        j, shift, most, first = [], [], [], 0
        for count, width in zip(counts, widths, strict=True):
            of = slice(first, first + count)
            vec = base[:, of, None] + images @ cell  # (n, count, m, 3)
            r2 = jnp.where(itself[:, of], jnp.inf, (vec * vec).sum(-1)).reshape(len(x), -1)
            _, nearest = jax.lax.top_k(-r2, width)
            atom, image = first + nearest // len(images), nearest % len(images)
            moved = (jnp.take_along_axis(wrap, atom[..., None], 1) + images[image]) @ cell
            within = jnp.take_along_axis(r2, nearest, 1) < reach**2
            j.append(atom)
            shift.append(jnp.where(within[..., None], moved, jnp.array([FAR, 0.0, 0.0])))
            most.append((r2 < reach**2).sum(1).max())
            first += count
        return jnp.concatenate(j, 1), jnp.concatenate(shift, 1), jnp.stack(most)

    j, shift, most = jax.vmap(one)(positions)
    return Table(j, shift, most.max(0), positions)
