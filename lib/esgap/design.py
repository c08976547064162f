"""Design matrix of a sparse Gaussian process: kernels of every frame with every sparse point, and their derivatives.

Rows of a frame of N atoms: sum_i k_im (1), d/dr_ax of it (3N, atom by atom), d/d(strain) of it (6: xx yx zx yy zy zz).
Multiplied by the weights alpha they are the energy, minus the forces and minus the virial. With q = p.X, p = P/|P|:

    dk/dc = delta^2 zeta (q + sigma0^2)^(zeta-1) 2 (B c - q B_p c)/|P|,   B, B_p: X and p as square matrices per l

so the work per frame is a few matrix products and no descriptor gradient of length D is ever formed.
Frames are recognised by their geometry: rows are computed once, whatever labels and sigmas they are later used with.
"""
import hashlib
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import LinAlgError, cholesky, qr, solve_triangular
from tqdm import tqdm

from .basis import pair_basis, radial_transform
from .gap import Layout, PairTable, _descriptors, padded_vectors
from .kernel_sums import power
from .neighbours import neighbour_pairs
from .soap import (
    add_centre,
    centre_coefficients,
    density_coefficients,
    full_coefficients,
    power_spectrum,
    square_points,
)

STRAINS = ((0, 0), (1, 0), (2, 0), (1, 1), (2, 1), (2, 2))


def frame_hash(atoms):
    """Geometry of a frame in 16 hex digits: elements, positions, cell, periodicity; not its labels."""
    h = hashlib.sha256()
    for x in (atoms.numbers.astype(np.int64), atoms.positions, atoms.cell.array, atoms.pbc):
        h.update(np.ascontiguousarray(x).tobytes())
    return h.hexdigest()[:16]


class FrameTables:
    """Padded pair tables, one per composition and wide enough for all its frames: one compilation each."""

    def __init__(self, terms):
        self.terms, self.cutoff = terms, max(t.soap.cutoff for t in terms)
        self._tables = {}

    def pack(self, frames):
        """Yields (frame, table, (i, j, vectors, slots)); frames without any pair come with table None."""
        lists = [neighbour_pairs(a.positions, a.cell.complete().array, a.pbc, self.cutoff) for a in frames]
        for a, pairs in zip(frames, lists, strict=True):  # let every table grow before anything is compiled for it
            if len(pairs):
                self._fill(a, pairs)
        for a, pairs in zip(frames, lists, strict=True):
            yield (a, *self._fill(a, pairs)) if len(pairs) else (a, None, None)

    def _fill(self, atoms, pairs):
        key = tuple(atoms.numbers.tolist())
        if key not in self._tables:
            self._tables[key] = PairTable(Layout(self.terms, atoms.numbers, chunk_rows=64), headroom=0)
        table = self._tables[key]
        table.set_pairs(pairs, atoms.cell.complete().array)
        return table, table.fill(atoms.positions, self.cutoff)


def frame_descriptors(terms, frames, progress=False):
    """Power spectra of all environments of the frames -> one array (n_environments, D) per term."""
    out = [[] for _ in terms]
    packed = FrameTables(terms).pack(frames)
    for atoms, table, filled in tqdm(packed, "descriptors", len(frames), disable=not progress):
        for p, q in zip(out, _of_frame(terms, atoms, table, filled), strict=True):
            p.append(q)
    return [np.concatenate(p) if p else np.zeros((0, t.soap.n_components)) for p, t in zip(out, terms, strict=True)]


def _of_frame(terms, atoms, table, filled):
    if table is None:
        return [_lone_descriptors(t.soap, atoms.numbers) for t in terms]
    layout = table.layout
    P = _descriptors(padded_vectors(*filled[2:], table), table.blocks, layout)
    return [np.asarray(p)[layout.weight[:, layout.rows(t.soap)] > 0] for p, t in zip(P, terms, strict=True)]


def _lone_descriptors(soap, numbers):
    """Power spectra of atoms without neighbours (n, D): only the centre term, and zero where there is none."""
    centres = [Z for Z in numbers if soap.Z in (0, Z)]
    if not centres:
        return np.zeros((0, soap.n_components))
    C = [jnp.zeros((len(centres), soap.n_channels, 2 * l + 1)) for l in range(soap.l_max + 1)]
    return np.asarray(power_spectrum(add_centre(C, centre_coefficients(centres, soap)), soap))


def _coefficient_gradients(vec, blocks, layout, soap, neighbour):
    """Derivatives of the coefficients of one chunk, before they are summed over pairs.

    neighbour (rows, K): atom in every slot (any number in empty slots, whose derivatives are zero).
    -> per block: (species channel, by_atom (rows, n_atoms, 3, n, m), by_strain (rows, 3, 3, n, m))."""
    n = soap.n_max
    W = [jnp.asarray(T @ U) for T, U in (radial_transform(soap, l) for l in range(soap.l_max + 1))]
    along = [jax.jvp(lambda v: pair_basis(v, soap), (vec,), (jnp.zeros_like(vec).at[x].set(1.0),)) for x in range(3)]
    (R, Y), n_atoms = along[0][0], int(layout.row_of_atom.size)
    out, end = [], 0
    for width, s in zip(blocks, layout.channels(soap), strict=True):
        slots, end = slice(end, end + width), end + width
        if s is None:
            continue
        d = [jnp.stack([jnp.einsum("ink,imk->iknm", dR[l][..., slots], Y[l][..., slots])
                        + jnp.einsum("ink,imk->iknm", R[l][..., slots], dY[l][..., slots])
                        for _, (dR, dY) in along], 2) for l in range(soap.l_max + 1)]
        d = jnp.concatenate([jnp.einsum("np,ikxnm->ikxpm", w, x) for w, x in zip(W, d, strict=True)], -1)
        hit = (neighbour[:, slots, None] == jnp.arange(n_atoms)).astype(d.dtype)
        by_atom = jnp.einsum("ika,ikq->iaq", hit, d.reshape(*d.shape[:2], -1)).reshape(-1, n_atoms, 3, n, d.shape[-1])
        out.append((s, by_atom, jnp.einsum("yik,ikxq->ixyq", vec[:, :, slots], d.reshape(*d.shape[:3], -1))
                    .reshape(-1, 3, 3, n, d.shape[-1])))
    return out


def _kernel_and_gradient(C, soap, zeta, delta, B, X):
    """C: list over l of (rows, Q, 2l+1) -> k (rows, M) and dk/dc (rows, M, Q, m)."""
    p = power_spectrum(C, soap)
    q = p @ X.T + soap.covariance_sigma0**2
    slope = delta**2 * zeta * (power(q, zeta - 1) if zeta != 1 else jnp.ones_like(q))
    G = jnp.concatenate([jnp.einsum("mab,ibc->imac", b, c) for b, c in zip(B, C, strict=True)], -1)
    if soap.normalise:
        P2 = sum(jnp.sum(jnp.einsum("iac,ibc->iab", c, c)**2, (1, 2)) / (2 * l + 1) for l, c in enumerate(C))
        norm = jnp.sqrt(P2)[:, None]
        own = jnp.concatenate([jnp.einsum("iac,ibc,ibd->iad", c, c, c) / (2 * l + 1) for l, c in enumerate(C)], -1)
        G = G - ((q - soap.covariance_sigma0**2) / norm)[:, :, None, None] * own[:, None]
        slope = slope / norm
    return delta**2 * power(q, zeta), 2 * slope[:, :, None, None] * G


@partial(jax.jit, static_argnums=(5, 6, 7))
def _chunk_rows(vec, weight, centre, neighbour, points, blocks, layout, deltas):
    """One chunk: per term the sums over its rows, k (M,), dk/dr (n_atoms, 3, M), dk/dstrain (3, 3, M)."""
    shared, out = {}, []
    n_atoms = layout.row_of_atom.size
    for (soap, zeta), delta, (B, X) in zip(layout.terms, deltas, points, strict=True):
        rows, key, M = layout.rows(soap), soap.of_any_centre(), X.shape[0]
        if key not in shared:
            density = density_coefficients(vec, blocks, layout.channels(soap), soap)
            shared[key] = (full_coefficients(density, soap),
                           _coefficient_gradients(vec, blocks, layout, soap, neighbour))
        C = add_centre([c[rows] for c in shared[key][0]], centre_coefficients(layout.row_elements[rows], soap))
        k, G = _kernel_and_gradient(C, soap, zeta, delta, B, X)
        G = (weight[rows, None, None, None] * G).reshape(k.shape[0], M, len(soap.species_Z), -1)
        dr, own, de = jnp.zeros((n_atoms, 3, M)), jnp.zeros((k.shape[0], 3, M)), jnp.zeros((3, 3, M))
        for s, by_atom, by_strain in shared[key][1]:
            A = by_atom[rows].reshape(k.shape[0], n_atoms, 3, -1)
            dr += jnp.einsum("iaxq,imq->axm", A, G[:, :, s])
            own -= jnp.einsum("ixq,imq->ixm", A.sum(1), G[:, :, s])
            de += jnp.einsum("ixyq,imq->xym", by_strain[rows].reshape(k.shape[0], 3, 3, -1), G[:, :, s])
        out.append((weight[rows] @ k, dr.at[centre[rows]].add(own), de))
    return out


def frame_rows(terms, points, atoms, table, filled):
    """All rows of one frame, (1 + 3N + 6, M) with M the sparse points of all terms; points: `square_points` and X."""
    n, M = len(atoms), sum(len(t.X) for t in terms)
    if table is None:
        k = [t.kernel(_lone_descriptors(t.soap, atoms.numbers)).sum(0) for t in terms]
        return np.concatenate([np.concatenate(k)[None], np.zeros((3 * n + 6, M))])
    _, j, vec, slots = filled
    layout = table.layout
    neighbour = np.zeros((*layout.order.shape, sum(table.blocks)), np.int32)
    neighbour.reshape(-1)[slots] = j
    rows = np.zeros((1 + 3 * n + 6, M))
    padded, deltas = padded_vectors(vec, slots, table), tuple(float(t.delta) for t in terms)
    for v, w, c, nb in zip(padded, layout.weight, layout.order, neighbour, strict=True):
        parts = _chunk_rows(v, w, c, nb, points, table.blocks, layout, deltas)
        col = 0
        for k, dr, de in parts:
            here = slice(col, col := col + len(k))
            rows[0, here] += k
            rows[1:1 + 3 * n, here] += np.asarray(dr).reshape(3 * n, -1)
            rows[1 + 3 * n:, here] += np.asarray([de[x, y] for x, y in STRAINS])
    return rows


class DesignMatrix:
    """Rows of frames against the sparse points of `terms` (their alpha is not used). `add` only computes new frames."""

    def __init__(self, terms):
        self.terms, self.rows = tuple(terms), {}
        self._tables = FrameTables(self.terms)
        self._points = [([jnp.asarray(b) for b in square_points(t.X, t.soap)], jnp.asarray(t.X)) for t in self.terms]

    def add(self, frames, progress=False):
        """Compute rows of frames not seen before; returns how many were computed."""
        new = list({frame_hash(a): a for a in frames if frame_hash(a) not in self.rows}.values())
        for atoms, table, filled in tqdm(self._tables.pack(new), "design matrix", len(new), disable=not progress):
            self.rows[frame_hash(atoms)] = frame_rows(self.terms, self._points, atoms, table, filled)
        return len(new)

    def __getitem__(self, atoms):
        return self.rows[frame_hash(atoms)]

    @property
    def n_bytes(self):
        return sum(r.nbytes for r in self.rows.values())


@dataclass(frozen=True)
class Target:
    """What one frame asks of the fit: values y and their standard deviations sigma (eV, eV/A) for the rows `rows`."""

    rows: np.ndarray   # (n,) indices into the rows of the frame
    y: np.ndarray      # (n,)
    sigma: np.ndarray  # (n,)


def solve(design, frames, targets, jitter):
    """Weights alpha (M,) that minimise |(K alpha - y)/sigma|^2 + alpha^T K_MM alpha, by QR in blocks of rows.

    The triangular factor is carried from block to block, so the weighted matrix is never stored as a whole; normal
    equations would lose half of the digits."""
    M = sum(len(t.X) for t in design.terms)
    R = np.zeros((M, M + 1))
    start = 0
    for t in design.terms:
        m = slice(start, start := start + len(t.X))
        try:
            R[m, m] = cholesky(t.kernel(t.X) + jitter * np.eye(len(t.X)))
        except LinAlgError:
            raise ValueError(f"the kernel matrix of the {len(t.X)} sparse points of Z={t.soap.Z} is singular at "
                             f"jitter={jitter}: use fewer points or a larger jitter") from None
    waiting, n_waiting = [], 0
    for k, (atoms, target) in enumerate(zip(frames, targets, strict=True)):
        block = np.column_stack([design[atoms][target.rows], target.y]) / target.sigma[:, None]
        waiting.append(block)
        n_waiting += len(block)
        if n_waiting > 3 * M or k == len(frames) - 1:
            R = qr(np.vstack([R, *waiting]), mode="r", overwrite_a=True, check_finite=False)[0][:M + 1]
            waiting, n_waiting = [], 0
    diagonal = np.abs(np.diag(R)[:M])
    if not np.all(np.isfinite(R)) or diagonal.min() < 1e-15 * diagonal.max():
        raise ValueError(f"the least-squares system is singular (pivots from {diagonal.min():.1e} to "
                         f"{diagonal.max():.1e}): use a larger jitter than {jitter}, or fewer sparse points")
    return solve_triangular(R[:M, :M], R[:M, M])
