"""The lattice sum of `ewald` for one structure, with all its derivatives, as loops that numba compiles for one core.

A cell of an electrolyte has some thousand pairs and some hundred wave vectors: arrays so small that XLA takes longer to
hand them from one operation to the next than to compute them. `ewald.energy` is the definition, of which this is value
and gradients; replicas, whose arrays are large (`replicas`), stay with JAX.

Each pair of atoms is listed once, in blocks of one pair of species, so that a block has one radial function. Wave
vectors of the same h and k make a row, whose factor exp(2 pi i (h x + k y)) is computed once, and +l and -l share their
products with exp(2 pi i l z). Inner loops are over pairs or atoms, without branches, so that they are vectorised.
Units: A, e, 1/A. Atoms are sorted by species; arrays have atoms, or pairs, as their last axis.
"""
from typing import NamedTuple

import numpy as np
from numba import njit

from .ewald import COULOMB, indices

CHUNK = 256  # pairs, whose vectors and radial functions stay in the fastest cache
# sums in any order, but nothing that would make an infinity, as of atoms at one place, something else; no lock of
# Python's, so that a GAP is computed meanwhile
_compiled = njit(nogil=True, fastmath={"reassoc", "contract", "nsz", "arcp"}, error_model="numpy", cache=True)


class Neighbours(NamedTuple):
    """Pairs of atoms, each once, those of one pair of species in a block."""

    i: np.ndarray  # (p,)
    j: np.ndarray  # (p,) not less than i
    shift: np.ndarray  # (3, p) A, of the image of j
    first: np.ndarray  # (blocks + 1,) where the blocks begin

    @classmethod
    def of(cls, pairs, cell, species, n_species):
        """Of directed pairs (`neighbours.Pairs`) of atoms sorted by species (n,), in cell (3, 3) in A."""
        signs = np.stack([pairs.j - pairs.i, *pairs.S.T])  # of i -> j, S and j -> i, -S one has the first of these > 0
        kept = np.take_along_axis(signs, (signs != 0).argmax(0)[None], 0)[0] > 0
        i, j, S = pairs.i[kept], pairs.j[kept], pairs.S[kept]
        blocks = np.zeros((n_species, n_species), int)
        blocks[np.triu_indices(n_species)] = np.arange(n_species * (n_species + 1) // 2)
        of_pair = blocks[species[i], species[j]]
        order = np.argsort(of_pair, kind="stable")
        return cls(i[order].astype(np.int32), j[order].astype(np.int32), np.ascontiguousarray((S[order] @ cell).T),
                   np.searchsorted(of_pair[order], np.arange(blocks.max() + 2)))


class RadialBlocks(NamedTuple):
    """`realspace.Radial` of the blocks of `Neighbours`."""

    r_cut: float  # A
    series: np.ndarray  # (blocks, degree + 1)
    rates: np.ndarray  # (blocks, m) 1/A
    coefficients: np.ndarray  # (blocks, m, 4)

    @classmethod
    def of(cls, radial):
        """radial: `realspace.Radial` of all pairs of species (s, s)."""
        a, b = np.triu_indices(radial.series.shape[-1])
        return cls(radial.r_cut, *(np.ascontiguousarray(x[..., a, b].T) for x in radial[1:]))


class Waves(NamedTuple):
    """`ewald.Kernel` without what is beyond the cutoff; next to last axes (2): indices with +l, then with -l."""

    hk: np.ndarray  # (rows, 2)
    first: np.ndarray  # (rows + 1,) where the rows begin
    l: np.ndarray  # (w,) 0 or more
    values: np.ndarray  # (w, 2, s, s) 1/A
    slope: np.ndarray  # (w, 2, s, s) A
    products: np.ndarray  # (w, 2, 6) 1/A^2
    box: np.ndarray  # (3,) largest indices

    @classmethod
    def of(cls, kernel, box):
        """Of a `Kernel` for the indices of `box`, see `ewald.index_box`."""
        hk, l = indices(box)
        used = kernel.values.any((0, 1, 2))
        values, slope, products = (np.ascontiguousarray(x[..., used].T) for x in kernel)
        table = used.reshape(-1, len(l))
        rows = table.any(1)
        return cls(np.ascontiguousarray(hk.T[rows]), np.append(0, np.cumsum(table[rows].sum(1))),
                   l[table.nonzero()[1]], values, slope, products, np.array(box))


class LatticeSum(NamedTuple):
    """Energy and its derivatives in eV, A, e."""

    energy: float
    gradient: np.ndarray  # (3, n) by positions
    potential: np.ndarray  # (n,) by charges
    strain: np.ndarray  # (6,) by strain: xx yy zz yz xz xy
    nearest: float  # A^2, the shortest squared distance, or infinity


def lattice_sum(positions, inverse, charges, own, neighbours, radial, waves, first):
    """`LatticeSum`: the same as `ewald.energy` and its gradients.

    positions (3, n) in A; inverse (3, 3) of the cell in 1/A; charges (n,) in e; own (n,): `ewald.self_potential` of
    every atom; neighbours, radial, waves: as here; first (s + 1,): where the atoms of each species begin.
    """
    short, smooth = np.zeros((4, len(charges))), np.zeros((4, len(charges)))
    virial, of_waves = np.zeros(6), np.zeros(6)
    nearest = _real_space(positions, charges, neighbours, radial, short, virial)
    _reciprocal_space(inverse.T @ positions, charges, first, waves, smooth, of_waves)
    short[3] += own * charges
    smooth_energy = 0.5 * float(charges @ smooth[3])
    # k^2 changes by -2 k_a k_b under strain, 1/V by -delta_ab
    strain = virial - 2 * of_waves - smooth_energy * np.array([1, 1, 1, 0, 0, 0])
    return LatticeSum(COULOMB * (0.5 * float(charges @ short[3]) + smooth_energy),
                      COULOMB * (short[:3] + inverse @ smooth[:3]), COULOMB * (short[3] + smooth[3]),
                      COULOMB * strain, nearest)


# ---- real space ------------------------------------------------------------------------------------------------
@_compiled
def _real_space(positions, charges, neighbours, radial, sums, virial):
    """Adds to sums (4, n): gradient and potential, and to virial (6,); -> shortest squared distance."""
    x, y, z = np.empty(CHUNK), np.empty(CHUNK), np.empty(CHUNK)
    r, value, slope = np.empty(CHUNK), np.empty(CHUNK), np.empty(CHUNK)
    nearest = np.inf
    for b in range(len(neighbours.first) - 1):
        for begin in range(neighbours.first[b], neighbours.first[b + 1], CHUNK):
            end = min(begin + CHUNK, neighbours.first[b + 1])
            i, j = neighbours.i[begin:end], neighbours.j[begin:end]
            _difference(positions[0], neighbours.shift[0, begin:end], i, j, x)
            _difference(positions[1], neighbours.shift[1, begin:end], i, j, y)
            _difference(positions[2], neighbours.shift[2, begin:end], i, j, z)
            for k in range(len(i)):
                r2 = x[k] * x[k] + y[k] * y[k] + z[k] * z[k]
                nearest = min(nearest, r2)
                r[k] = np.sqrt(r2)
            r_ij, J, slope_ij = r[:len(i)], value[:len(i)], slope[:len(i)]
            _polynomial(r_ij, radial.series[b], 2 / radial.r_cut, J, slope_ij)
            _exponentials(r_ij, radial.rates[b], radial.coefficients[b], J, slope_ij)
            _interaction(r_ij, radial.r_cut, J, slope_ij)
            _add_pairs(i, j, charges, x, y, z, J, slope_ij, sums, virial)
    return nearest


@_compiled
def _difference(positions, shift, i, j, found):
    for k in range(len(i)):
        found[k] = positions[j[k]] - positions[i[k]] + shift[k]


@_compiled
def _polynomial(r, series, scale, value, slope):
    """r J and its derivative without the terms that stay exponentials, by Horner's rule."""
    for k in range(len(r)):
        value[k], slope[k] = series[-1], 0.0
    for c in series[-2::-1]:
        for k in range(len(r)):
            t = r[k] * scale - 1
            slope[k] = value[k] + t * slope[k]
            value[k] = c + t * value[k]
    for k in range(len(r)):
        slope[k] *= scale


@_compiled
def _exponentials(r, rates, coefficients, value, slope):
    for m in range(len(rates)):
        if not coefficients[m].any():  # a term of other species
            continue
        g, (c0, c1, c2, c3) = rates[m], coefficients[m]
        for k in range(len(r)):
            damp, polynomial = np.exp(-g * r[k]), c0 + r[k] * (c1 + r[k] * (c2 + r[k] * c3))
            value[k] -= damp * polynomial
            slope[k] -= damp * (c1 + r[k] * (2 * c2 + 3 * r[k] * c3) - g * polynomial)


@_compiled
def _interaction(r, r_cut, value, slope):
    """J and J'/r from r J and its derivative; both zero beyond r_cut."""
    for k in range(len(r)):
        inverse = 1 / r[k]
        J = value[k] * inverse
        pull = (slope[k] - J) * inverse * inverse
        near = r[k] < r_cut
        value[k], slope[k] = J if near else 0.0, pull if near else 0.0


@_compiled
def _add_pairs(i, j, charges, x, y, z, value, slope, sums, virial):
    xx, yy, zz, yz, xz, xy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(len(i)):
        a, b = i[k], j[k]
        sums[3, a] += charges[b] * value[k]
        sums[3, b] += charges[a] * value[k]
        pull = charges[a] * charges[b] * slope[k]
        px, py, pz = pull * x[k], pull * y[k], pull * z[k]
        sums[0, a] -= px
        sums[0, b] += px
        sums[1, a] -= py
        sums[1, b] += py
        sums[2, a] -= pz
        sums[2, b] += pz
        xx += px * x[k]
        yy += py * y[k]
        zz += pz * z[k]
        yz += py * z[k]
        xz += px * z[k]
        xy += px * y[k]
    for c, v in enumerate((xx, yy, zz, yz, xz, xy)):
        virial[c] += v


# ---- reciprocal space ------------------------------------------------------------------------------------------
@_compiled
def _reciprocal_space(fractional, charges, first, waves, sums, virial):
    """Adds to sums (4, n): gradient by fractional coordinates and potential, and to virial (6,): sum_k (derivative of
    the energy by k^2) k_a k_b."""
    n, n_species = len(charges), len(first) - 1
    x_re, x_im = _plane_waves(fractional[0], waves.box[0])
    y_re, y_im = _plane_waves(fractional[1], waves.box[1])
    z_re, z_im = _plane_waves(fractional[2], waves.box[2])
    q_re, q_im = z_re * charges, z_im * charges
    row_re, row_im, by_row_re, by_row_im = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    by_z_re, by_z_im = np.zeros(z_re.shape), np.zeros(z_re.shape)
    S, G, by_products = np.empty((2, 2, n_species)), np.empty((2, 2, n_species)), np.empty((4, n_species))
    for row in range(len(waves.hk)):
        h, k = waves.hk[row]
        _product(x_re[h], x_im[h], y_re[abs(k)], y_im[abs(k)] * (1.0 if k >= 0 else -1.0), row_re, row_im)
        by_row_re[:], by_row_im[:] = 0.0, 0.0
        for w in range(waves.first[row], waves.first[row + 1]):
            l = waves.l[w]
            _structure_factors(row_re, row_im, q_re[l], q_im[l], first, S)
            _quadratic_form(waves.values[w], waves.slope[w], waves.products[w], S, G, by_products, virial)
            for s in range(n_species):
                of = slice(first[s], first[s + 1])
                cc, ss, cs, sc = by_products[:, s]
                _add_combined(q_re[l, of], q_im[l, of], cc, cs, sc, ss, by_row_re[of], by_row_im[of])
                _add_combined(row_re[of], row_im[of], cc, sc, cs, ss, by_z_re[l, of], by_z_im[l, of])
        _add_turned(2 * np.pi * h, row_re, row_im, by_row_re, by_row_im, sums[0])
        _add_turned(2 * np.pi * k, row_re, row_im, by_row_re, by_row_im, sums[1])
    for l in range(len(z_re)):
        _add_turned(2 * np.pi * l, q_re[l], q_im[l], by_z_re[l], by_z_im[l], sums[2])
        for a in range(n):
            sums[3, a] += z_re[l, a] * by_z_re[l, a] + z_im[l, a] * by_z_im[l, a]


@_compiled
def _plane_waves(u, order):
    """cos and sin of 2 pi k u, k = 0 ... order: (order + 1, n) each; from those of half the k, so rounding adds up
    log2(order) times only."""
    re, im = np.empty((order + 1, len(u))), np.empty((order + 1, len(u)))
    re[0], im[0] = 1.0, 0.0
    if order > 0:
        turn = 2 * np.pi * (u - np.rint(u))
        re[1], im[1] = np.cos(turn), np.sin(turn)
    for k in range(2, order + 1):
        _product(re[k // 2], im[k // 2], re[k - k // 2], im[k - k // 2], re[k], im[k])
    return re, im


@_compiled
def _product(a_re, a_im, b_re, b_im, re, im):
    for k in range(len(re)):
        re[k] = a_re[k] * b_re[k] - a_im[k] * b_im[k]
    for k in range(len(re)):  # on its own, since of six arrays the compiler no longer checks that they are apart
        im[k] = a_re[k] * b_im[k] + a_im[k] * b_re[k]


@_compiled
def _structure_factors(row_re, row_im, q_re, q_im, first, S):
    """S (2, 2, s): of +l and -l, real and imaginary parts, of every species."""
    for s in range(len(first) - 1):
        a, b = row_re[first[s]:first[s + 1]], row_im[first[s]:first[s + 1]]
        c, d = q_re[first[s]:first[s + 1]], q_im[first[s]:first[s + 1]]
        cc, ss, cs, sc = 0.0, 0.0, 0.0, 0.0
        for k in range(len(a)):
            cc += a[k] * c[k]
            ss += b[k] * d[k]
            cs += a[k] * d[k]
            sc += b[k] * c[k]
        S[0, 0, s], S[0, 1, s], S[1, 0, s], S[1, 1, s] = cc - ss, sc + cs, cc + ss, sc - cs


@_compiled
def _quadratic_form(values, slope, products, S, G, by_products, virial):
    """Derivatives (4, s) of sum_ab values_ab Re(S_a S_b*) by the sums of `_structure_factors`: cc ss cs sc."""
    n_species = S.shape[2]
    for sign in range(2):
        by_k2 = 0.0
        for a in range(n_species):
            for part in range(2):
                G[sign, part, a] = 0.0
                for b in range(n_species):
                    G[sign, part, a] += 2 * values[sign, a, b] * S[sign, part, b]
                    by_k2 += slope[sign, a, b] * S[sign, part, a] * S[sign, part, b]
        for c in range(6):
            virial[c] += by_k2 * products[sign, c]
    for a in range(n_species):
        by_products[0, a], by_products[1, a] = G[0, 0, a] + G[1, 0, a], G[1, 0, a] - G[0, 0, a]
        by_products[2, a], by_products[3, a] = G[0, 1, a] - G[1, 1, a], G[0, 1, a] + G[1, 1, a]


@_compiled
def _add_combined(u, v, a, b, c, d, x, y):
    for k in range(len(u)):
        x[k] += a * u[k] + b * v[k]
        y[k] += c * u[k] + d * v[k]


@_compiled
def _add_turned(factor, re, im, by_re, by_im, gradient):
    """The derivative by an angle, from those by its cosine and sine."""
    for k in range(len(re)):
        gradient[k] += factor * (re[k] * by_im[k] - im[k] * by_re[k])
