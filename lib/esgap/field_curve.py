"""One Frenkel pair's formation energy against the field, and the law that it follows.

    E_f(E) = E_pair(E) - E_perfect(E) = E_f(0) - E . mu + relaxation(E),   slope at 0: -E^ . mu,   curvature -alpha

mu: the pair's dipole at zero field (`frenkel.dipole`). A curve counts as far as its branch goes: from zero outward
until the pair is gone, or until an ion of either cell jumps to another place, which those of the perfect crystal do,
too, in a field that is strong enough. The line is that of frozen geometries, the exact first order
(Hellmann-Feynman); what is below it is the difference of two relaxations, of the pair and of the perfect cell. The fit
is a cubic in the field strength F, E_f = e + s F - alpha F^2 / 2 + t F^3, over points of the branch; its errors come
from its residuals: how well a cubic describes the curve, not how good the potential is.
Units: A, eV, e, V/A; alpha in e A^2/V.
"""
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class FieldCurve:
    """Formation energy of one pair against the field strength along one direction, going out from zero and back."""

    pair: str
    model: str
    direction: str
    field: np.ndarray   # (n,) V/A, ascending, negative: against the direction
    out: np.ndarray     # (n,) eV
    back: np.ndarray    # (n,) eV; where it turns, that of `out`; at zero the one that differs more; NaN where the way
    #                     back has not been taken
    became: tuple       # (n,) what became of the pair on the way out, "" while it is there
    dipole: np.ndarray  # (n,) e A, component of mu along the direction, on the way out
    error: np.ndarray | None = None  # (n,) eV, standard error of `out` from a committee; NaN or None where not known
    jumped: tuple = ()  # (n,) bool, an ion of either cell has jumped since the field nearer to zero; (): none has

    @property
    def hysteresis(self):
        """Largest difference between the ways out and back, eV; NaN if there is no way back."""
        apart = np.abs(self.out - self.back)[~np.isnan(self.back)]
        return float(apart.max()) if len(apart) else float("nan")

    @property
    def zero(self):
        return int(np.flatnonzero(self.field == 0)[0])

    @property
    def frozen(self):
        """(n,) eV: energies of the geometries of zero field, in the field."""
        return self.out[self.zero] - self.field * self.dipole[self.zero]

    @property
    def relaxation(self):
        """(n,) eV: what relaxing in the field adds to `frozen`."""
        return self.out - self.frozen

    @property
    def intact(self):
        """(n,) bool: the pair is there and was on all the way out from zero, on which no ion has jumped."""
        there = np.array([not text for text in self.became])
        if len(self.jumped):
            there &= ~np.array(self.jumped)
        right, left = there[self.zero:], there[self.zero::-1]
        return np.concatenate([np.logical_and.accumulate(left)[:0:-1], np.logical_and.accumulate(right)])

    @property
    def reversible(self):
        """(n,) bool: points between zero and a turn that the branch of zero field reaches, zero not counted: they are
        met again on the way back, unless there is hysteresis."""
        met = np.zeros(len(self.field), bool)
        for side in (self.field < 0, self.field > 0):
            there = np.flatnonzero(side & ~np.isnan(self.back))
            met[there] = len(there) > 0 and self.intact[max(there, key=lambda k: abs(self.field[k]))]
        return met

    def favourable_from(self):
        """Weakest field (V/A) at which E_f is negative, interpolated, as (against, along) the direction; NaN: none.

        Only while the pair is there: what has less energy beyond is another arrangement of ions, not a pair.
        """
        ends = []
        for part in (slice(self.zero, None, -1), slice(self.zero, None)):
            there = self.intact[part]
            f, e = self.field[part][there], self.out[part][there]
            if not len(e):
                ends.append(np.nan)
                continue
            k = int(np.argmax(e < 0))
            crossed = e[k] < 0
            ends.append(float(f[k] if k == 0 else f[k - 1] + (f[k] - f[k - 1]) * e[k - 1] / (e[k - 1] - e[k]))
                        if crossed else np.nan)
        return tuple(ends)

    def __str__(self):
        way_back = "no way back" if np.isnan(self.hysteresis) else f"hysteresis {self.hysteresis:.4f} eV"
        return (f"{self.model}, pair {self.pair}, along {self.direction}: {self.out[self.zero]:.3f} eV at zero field, "
                f"{self.out[0]:.3f} at {self.field[0]:g} and {self.out[-1]:.3f} at {self.field[-1]:+g} V/A, "
                f"{way_back}, {(~self.intact).sum()} points without the pair")


@dataclass(frozen=True)
class Response:
    """Cubic fit of a curve: value and standard error of each; slope_frozen is that of -mu, with no fit."""

    energy: tuple     # eV
    slope: tuple      # e A
    alpha: tuple      # e A^2/V; minus the curvature
    third: tuple      # e A^3/V^2
    slope_frozen: float
    n_points: int

    def __str__(self):
        return (f"E_f(0) {_pm(self.energy)} eV, slope {_pm(self.slope)} e A (frozen {self.slope_frozen:.4f}), "
                f"alpha {_pm(self.alpha)} e A^2/V, {self.n_points} points")


def _pm(pair):
    return f"{pair[0]:.4f} +- {pair[1]:.4f}"


def response(curve, largest=np.inf):
    """Fit of `curve` over fields up to `largest` (V/A) at which the pair is there -> `Response`."""
    use = curve.intact & (np.abs(curve.field) <= largest + 1e-12)
    if use.sum() < 6:
        raise ValueError(f"{use.sum()} points with the pair within {largest:g} V/A; a cubic with error bars needs 6: "
                         "take more or larger fields")
    x = curve.field[use] / np.abs(curve.field[use]).max()  # scaled: powers of 0.1 V/A would be badly conditioned
    c, cov = np.polyfit(x, curve.out[use], 3, cov=True)
    scale = np.abs(curve.field[use]).max() ** np.arange(3, -1, -1)
    value, error = c / scale, np.sqrt(np.diag(cov)) / scale
    third, half, slope, energy = [(float(v), float(e)) for v, e in zip(value, error, strict=True)]
    return Response(energy, slope, (-2 * half[0], 2 * half[1]), third, -float(curve.dipole[curve.zero]), int(use.sum()))
