"""Charges by element whose Coulomb forces explain given forces best: those of the locality test, or all.

With n_el charges made neutral by one element (S), the forces of the baseline are a quadratic form in the others,

    F(q) = sum_{a <= b} q_a q_b B_ab        q = (q_Li, q_P);  q_S = -(N_Li q_Li + N_P q_P) / N_S

exactly, so evaluating the baseline for a few sets of charges gives its forces for all. The mean square of what remains,
    e^2(q) = < |y - F(q)|^2 > / 3,
is a quartic polynomial in q; its gradient is exact, and the map and the bootstrap cost nothing. F does not change
when all charges change sign: the solution with q_Li > 0 is given.
Paper: charges are chosen to minimise the locality error at 6 A. Units: e, A, 1/A, eV/A.
"""
from copy import copy
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from .calculators import ElectrostaticBaseline
from .charges import FITTED, neutral_charges, qeq_exponents
from .locality import frozen_forces, resampling_weights
from .store import data_path, only_writer, read_frames, write_record

ACCURACY = 1e-6  # of the lattice sums, relative: far below the noise of DFT forces
STARTS = ((1.0, 5.0), (0.5, 0.5), (0.5, -1.0), (0.1, 3.0))  # e, Li and P (or the first two free elements)


class ForceBasis:
    """Forces B_ab of the baseline for unit products of the free charges; `forces(q)` for any charges.

    evaluate(calculator) returns an array of forces, linear in those the calculator gives.
    """

    def __init__(self, evaluate, atoms, zeta, neutral_by="S"):
        self.free = tuple(dict.fromkeys(s for s in atoms.symbols if s != neutral_by))
        self.atoms, self.neutral_by = atoms[:], neutral_by
        self.pairs = tuple(combinations_with_replacement(range(len(self.free)), 2))
        unit = np.eye(len(self.free))

        def at(q):
            return evaluate(ElectrostaticBaseline(self.charges(q), zeta, accuracy=ACCURACY))

        diagonal = [at(u) for u in unit]
        self.basis = np.array([diagonal[a] if a == b else at(unit[a] + unit[b]) - diagonal[a] - diagonal[b]
                               for a, b in self.pairs])  # (n_pairs, ..., 3)

    def charges(self, q):
        """Charges by element, neutral in total, from the free ones (n_free,)."""
        return neutral_charges(self.atoms, dict(zip(self.free, map(float, q), strict=True)), by=self.neutral_by)

    def products(self, q):
        """q_a q_b of each pair: (n_pairs, ...) for q (n_free, ...)."""
        return np.array([q[a] * q[b] for a, b in self.pairs])

    def slopes(self, q):
        """Derivatives of `products` (n_pairs, n_free) at q (n_free,)."""
        out = np.zeros((len(self.pairs), len(q)))
        for k, (a, b) in enumerate(self.pairs):
            out[k, a] += q[b]
            out[k, b] += q[a]
        return out

    def rows(self, chosen):
        """The same for some of the forces: chosen (n,) indices or booleans along their first axis."""
        out = copy(self)
        out.basis = self.basis[:, chosen]
        return out

    def forces(self, q):
        return np.tensordot(self.products(np.asarray(q, float)), self.basis, 1)


@dataclass(frozen=True, eq=False)
class Residual:
    """Mean square residual e^2(q) as a polynomial: e^2 = (yy - 2 t.b + t.A.t) / n with t the products of charges."""

    basis: ForceBasis
    yy: float
    b: np.ndarray  # (n_pairs,)
    A: np.ndarray  # (n_pairs, n_pairs)
    n: float  # number of force components

    def rms(self, q):
        """Residual in eV/A per component at charges q (n_free, ...)."""
        t = self.basis.products(np.asarray(q, float))
        square = self.yy - 2 * np.tensordot(self.b, t, 1) + (t * np.tensordot(self.A, t, 1)).sum(0)
        return np.sqrt(np.clip(square, 0, None) / self.n)

    def square_and_gradient(self, q):
        """e^2 in (eV/A)^2 and its gradient (n_free,)."""
        t, s = self.basis.products(q), self.basis.slopes(q)
        return (self.yy - 2 * self.b @ t + t @ self.A @ t) / self.n, 2 * (self.A @ t - self.b) @ s / self.n

    def minimise(self, starts=STARTS):
        """Charges (n_free,) of the lowest residual found from the starts, the first of them not negative."""
        if self.yy == 0:
            raise ValueError("the forces to explain are all zero: no charges can be found from them")
        scale = self.yy / self.n
        found = [minimize(lambda q: [x / scale for x in self.square_and_gradient(q)], start[:len(self.basis.free)],
                          jac=True, method="BFGS", options={"gtol": 1e-9}) for start in starts]
        q = min(found, key=lambda r: r.fun).x
        return q if q[0] >= 0 else -q


@dataclass(frozen=True, eq=False)
class ChargeFit:
    """Charges that leave the smallest residual, with bootstrap standard errors, and the residual as a function."""

    charges: dict[str, float]  # e
    error: dict[str, float]  # e
    before: float  # eV/A, without baseline
    after: float  # eV/A, with it
    gain: tuple[float, float]  # eV/A, before - after and its bootstrap error
    draws: np.ndarray  # (n_bootstrap, n_free) e
    residual: Residual

    def __str__(self):
        q = ", ".join(f"{s} {v:+.2f} +- {self.error[s]:.2f}" for s, v in self.charges.items())
        return f"{q} e; {self.before:.3f} -> {self.after:.3f} eV/A"


def fit_charges(target, basis, block, groups=None, n_bootstrap=200, seed=0):
    """Charges of `basis` that explain `target` (n, 3), eV/A, best -> `ChargeFit`.

    block (n,): which frame a row belongs to; the bootstrap weighs whole frames, within each group if `groups`
    (indexed by frame) says which frames are alike. Errors are NaN where a group has fewer than three frames.
    """
    y, B = np.asarray(target, float), basis.basis  # (n, 3), (n_pairs, n, 3)
    if not len(y):
        raise ValueError("no forces to fit charges to: choose another cutoff, a wider window or other frames")
    used, block = np.unique(block, return_inverse=True)
    groups, n_blocks = np.zeros(len(used), int) if groups is None else np.asarray(groups)[used], len(used)
    per_row = [(y**2).sum(1), np.einsum("pnc,nc->np", B, y), np.einsum("pnc,qnc->npq", B, B), np.full(len(y), 3.0)]
    moments = [_sums(x, block, n_blocks) for x in per_row]
    residual = Residual(basis, *(m.sum(0) for m in moments))
    q = residual.minimise()
    weights = resampling_weights(groups, n_bootstrap, seed)
    drawn = [Residual(basis, *(np.tensordot(w, m, 1) for m in moments)) for w in weights if np.isfinite(w).all()]
    draws = np.array([r.minimise(starts=(q, STARTS[1])) for r in drawn]).reshape(-1, len(q))
    every = [basis.charges(x) for x in draws]
    error = {s: _spread([e[s] for e in every]) for s in basis.charges(q)}
    before, after = float(residual.rms(0 * q)), float(residual.rms(q))
    gain = before - after, _spread([r.rms(0 * q) - r.rms(q) for r in drawn])
    return ChargeFit(basis.charges(q), error, before, after, gain, draws, residual)


def _spread(values):
    return float(np.std(values, ddof=1)) if len(values) > 1 else np.nan


def _sums(values, block, n_blocks):
    out = np.zeros((n_blocks, *values.shape[1:]))
    np.add.at(out, block, values)
    return out


def near(forces, cutoff, width, who="all"):
    """(n,) True for the rows of `FrozenForces` whose frozen radius is within width/2 of the cutoff, A."""
    rows = forces.chosen(who) & (np.abs(forces.radius - cutoff) <= width / 2 + 1e-9)
    if not rows.any():
        raise ValueError(f"no frozen neighbourhood ({who}) ends within {width / 2} A of {cutoff} A; the radii are "
                         f"{forces.radius.min():.1f} to {forces.radius.max():.1f} A")
    return rows


def locality_basis(frames, zeta):
    """`ForceBasis` of all force changes in `frames`; zeta: exponents in 1/A by element, None for point charges."""
    return ForceBasis(lambda calculator: frozen_forces(frames, calculator).change, frames[0], zeta)


def locality_charges(frames, zeta, cutoff=6.0, width=1.0, who="all", n_bootstrap=200, seed=0, basis=None):
    """Charges that minimise the locality error of the labels of `frames` at `cutoff` (A) -> `ChargeFit`.

    Atoms count whose frozen radius is within width/2 of the cutoff, at 6 A the centres of the spheres and few others.
    zeta: Slater exponents in 1/A by element. who: which frozen atoms count (`FrozenForces.chosen`). Error bars need
    three displacements a sphere, and are NaN with fewer.
    basis: `locality_basis(frames, zeta)` if it is there already.
    """
    dft = frozen_forces(frames)
    rows = near(dft, cutoff, width, who)
    basis = (basis or locality_basis(frames, zeta)).rows(rows)
    return fit_charges(dft.change[rows], basis, dft.frame[rows], dft.sphere, n_bootstrap, seed)


def force_charges(frames, zeta, n_bootstrap=200, seed=0):
    """Charges that minimise the residual of all forces in `frames` (labelled, one composition) -> `ChargeFit`."""
    def forces(calculator):
        return np.concatenate([calculator.get_property("forces", a.copy()) for a in frames])

    target = np.concatenate([a.get_forces() for a in frames])
    block = np.repeat(np.arange(len(frames)), [len(a) for a in frames])
    return fit_charges(target, ForceBasis(forces, frames[0], zeta), block, None, n_bootstrap, seed)


def add_charges_arguments(parser):
    parser.add_argument("frames", nargs="?", type=Path, default=data_path("dft/locality.xyz"),
                        help="labelled frames of the locality test (default: the shipped ones)")
    parser.add_argument("output", nargs="?", type=Path, default=data_path(FITTED), help="JSON record to write")
    parser.add_argument("--cutoff", type=float, default=6.0, help="A (default 6, as in the paper)")
    parser.add_argument("--bootstrap", type=int, default=1000, help="resamplings (default 1000)")
    parser.add_argument("--seed", type=int, default=0)


def charges_command(args):
    """Fit the charges of the baseline to the locality test and store them with what made them."""
    frames, zeta = read_frames(args.frames), qeq_exponents()
    fit = locality_charges(frames, zeta, args.cutoff, n_bootstrap=args.bootstrap, seed=args.seed)
    if not np.isfinite(list(fit.error.values())).all():
        raise ValueError(f"a sphere of {args.frames} has fewer than three displacements, too few for error bars: label "
                         "more frames first")
    with only_writer(args.output):
        write_record(args.output, {
            "charges": fit.charges, "error": fit.error, "zeta": zeta, "cutoff": args.cutoff, "before": fit.before,
            "after": fit.after, "gain": fit.gain, "n_displacements": len(frozen_forces(frames).sphere)},
            inputs=[args.frames], seed=args.seed)
    print(fit)
    return 0
