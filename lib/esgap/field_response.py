"""Formation energies of Frenkel pairs from a finished sweep: against field, distance and cell size.

    E_f(E) = E_pair(E) - E_perfect(E) = E_f(0) - E . mu + relaxation(E),   slope at 0: -E^ . mu,   curvature -alpha

mu: the pair's dipole at zero field (`frenkel.dipole`). The line is that of frozen geometries, the exact first order
(Hellmann-Feynman); what is below it is the difference of two relaxations, of the pair and of the perfect cell. The fit
is a cubic in the field strength F, E_f = e + s F - alpha F^2 / 2 + t F^3, over points at which the pair is there; its
errors come from its residuals: how well a cubic describes the curve, not how good the potential is.
Units: A, eV, e, V/A; alpha in e A^2/V.
"""
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from .ewald import COULOMB
from .frenkel import FrenkelPair, dipole, what_became_of
from .interstitials import Interstitial
from .store import FrameStore, read_record


@dataclass(frozen=True, eq=False)
class FieldCurve:
    """Formation energy of one pair against the field strength along one direction, going out from zero and back."""

    pair: str
    model: str
    direction: str
    field: np.ndarray   # (n,) V/A, ascending, negative: against the direction
    out: np.ndarray     # (n,) eV
    back: np.ndarray    # (n,) eV; at the ends, where it turns, that of `out`; at zero the one that differs more; NaN
    #                     where the way back has not been taken
    became: tuple       # (n,) what became of the pair on the way out, "" while it is there
    dipole: np.ndarray  # (n,) e A, component of mu along the direction, on the way out
    error: np.ndarray | None = None  # (n,) eV, standard error of `out` from a committee; NaN or None where not known

    @property
    def hysteresis(self):
        """Largest difference between the ways out and back, eV; NaN if there is no way back."""
        return float(np.max(np.abs(self.out - self.back), initial=0.0))

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
        """(n,) bool: the pair is there, and was on all the way out from zero."""
        there = np.array([not text for text in self.became])
        right, left = there[self.zero:], there[self.zero::-1]
        return np.concatenate([np.logical_and.accumulate(left)[:0:-1], np.logical_and.accumulate(right)])

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


@dataclass(frozen=True)
class Row:
    """What is kept of one relaxed point; of a perfect cell energy alone."""

    energy: float                # eV, field included
    became: str = ""             # of the pair, "" while it is there
    dipole: tuple = (0., 0., 0.)  # e A, mu
    error: float = np.nan        # eV, of the formation energy, from a committee if there is one


@dataclass(frozen=True, eq=False)
class Sweep:
    """The points of one file of `field_sweep.sweep`, by name; energies are differences of points that are there."""

    rows: dict        # name -> Row
    model: str        # file name of the potential, and its hash
    charges: dict     # e, by element
    pairs: dict       # name -> FrenkelPair
    vectors: dict     # name -> (3,) A, from vacancy to interstitial ion, not relaxed
    directions: dict  # name -> unit vector (3,)
    frames: dict = field(default_factory=dict)  # name -> Atoms, unwrapped positions; none if read from a summary
    generation: int | None = None  # of the potential in the training loop
    cutoff: float | None = None    # A, of the potential's SOAP

    @property
    def label(self):
        """GAP or ES-GAP; another potential's file name in capitals."""
        return self.model.split()[0].upper()

    @property
    def returned(self):
        """Whether the way back to zero field was taken, so that hysteresis can be seen."""
        return any(name.endswith("/back") for name in self.rows)

    def repeats(self, pair):
        """Cells that hold this pair at zero field, smallest first: (n, n, n) each."""
        cells = {name.split("/")[0] for name in self.rows if name.endswith(f"/{pair}/0/out")}
        return sorted((tuple(map(int, c.split("x"))) for c in cells), key=lambda c: (np.prod(c), c))

    def alike(self, pair, repeat=None):
        """Names of the pairs with the same vacancy and an equivalent site, in this cell or in any."""
        p = self.pairs[pair]
        return tuple(n for n, o in self.pairs.items() if (repeat is None or repeat in self.repeats(n)) and (
            o.vacancy, o.site.orbit, o.site.name[:4]) == (p.vacancy, p.site.orbit, p.site.name[:4]))

    def swept(self):
        """(pair, direction, repeat) of every curve, in the order of the file."""
        found = {}
        for name in self.rows:
            cell, pair, point, _ = name.split("/")
            if pair in self.pairs:
                found |= {(pair, d, tuple(map(int, cell.split("x")))): None for d in self.directions
                          if point.startswith((f"{d}+", f"{d}-"))}
        return tuple(found)

    def formation_energy(self, pair, repeat, held=False):
        """eV at zero field, of the relaxed pair or of the one held in the perfect crystal."""
        cell = "x".join(map(str, repeat))
        return (self._at(f"{cell}/{pair}/0/{'held' if held else 'out'}").energy
                - self._at(f"{cell}/perfect/0/out").energy)

    def formation_error(self, pair, repeat, held=False):
        """eV, standard error of `formation_energy` from a committee of the potential; NaN without one."""
        return self._at(f"{'x'.join(map(str, repeat))}/{pair}/0/{'held' if held else 'out'}").error

    def became(self, pair, repeat):
        """What became of the pair at zero field, "" if it is there."""
        return self._at(f"{'x'.join(map(str, repeat))}/{pair}/0/out").became

    def dipole(self, pair, repeat):
        """mu (3,) at zero field, e A; zero for a potential without charges."""
        return np.array(self._at(f"{'x'.join(map(str, repeat))}/{pair}/0/out").dipole)

    def curve(self, pair, direction, repeat):
        """`FieldCurve` of one pair."""
        if direction not in self.directions:
            raise ValueError(f"no field along {direction!r} was swept; there are "
                             f"{', '.join(self.directions) or 'none'}")
        cell, unit = "x".join(map(str, repeat)), np.array(self.directions[direction])
        points = sorted({f"{n.split('/')[2]}" for n in self.rows if n.startswith(f"{cell}/{pair}/{direction}")
                         and n.split("/")[2].removeprefix(direction)[0] in "+-"} | {"0"},
                        key=lambda p: _strength(p, direction))
        points = [p for p in points if p == "0" or _strength(p, direction) != 0]
        rows = [self._row(cell, pair, p, direction, unit) for p in points]
        strength, out, back, became, moment, error = zip(*rows, strict=True)
        return FieldCurve(pair, self.label, direction, np.array(strength), np.array(out), np.array(back), became,
                          np.array(moment), np.array(error))

    def _row(self, cell, pair, point, direction, unit):
        defect, perfect = (self._at(f"{cell}/{name}/{point}/out") for name in (pair, "perfect"))
        out = defect.energy - perfect.energy
        returns = [f"{direction}{side}0.0000" for side in "+-"] if point == "0" else [point]
        back = [a.energy - b.energy for a, b in (
            [self.rows.get(f"{cell}/{name}/{p}/back") for name in (pair, "perfect")] for p in returns) if a and b]
        turned = out if self.returned else np.nan  # at the ends there is nothing to come back from
        return (_strength(point, direction), out, max(back, key=lambda e: abs(e - out), default=turned),
                defect.became, float(np.array(defect.dipole) @ unit), defect.error)

    def _at(self, name):
        if name not in self.rows:
            raise ValueError(f"point {name} is not there: the sweep is not finished, or the pair is gone "
                             f"(there are {len(self.rows)} points; give the same command again)")
        return self.rows[name]


def with_errors(sweep, committee, scale=1.0):
    """A `Sweep` with frames, and standard errors of its formation energies, those in a field included.

    committee: `committee.Committee` of the potential; scale: how many times its spread errors are (`Calibration`).
    Members differ in the part without charges alone, so neither baseline nor field counts.
    """
    rows, energies, of_cell = {}, {}, {}
    for name in (name for name in sweep.frames if name in sweep.rows):
        of_cell.setdefault(name.split("/")[0], []).append(name)
    for names in of_cell.values():  # cells of one size one after the other: members and programs are made once for all
        energies |= dict(zip(names, committee.energies([sweep.frames[name] for name in names]).T, strict=True))
    for name, row in sweep.rows.items():
        cell, pair, rest = name.split("/", 2)
        perfect = energies.get(f"{cell}/perfect/{rest.replace('held', 'out')}")
        known = pair != "perfect" and name in energies and perfect is not None
        rows[name] = replace(row, error=float(scale * np.std(energies[name] - perfect, ddof=1))) if known else row
    return replace(sweep, rows=rows)


def _strength(point, direction):
    return 0.0 if point == "0" else float(point.removeprefix(direction))


def load_sweep(path):
    """`Sweep` from what `field_sweep.sweep` has written so far (.xyz), finished or not."""
    path = Path(path)
    about = read_record(path.with_suffix(".json"))
    frames = FrameStore(path, lambda a: str(a.info["name"])).frames
    pairs, rows = read_pairs(about["pairs"]), {}
    for name, atoms in frames.items():
        cell, pair, rest = name.split("/", 2)
        perfect = frames.get(f"{cell}/perfect/{rest.replace('held', 'out')}")
        if pair == "perfect":
            rows[name] = Row(atoms.get_potential_energy())
        elif perfect:
            rows[name] = Row(atoms.get_potential_energy(), what_became_of(pairs[pair], atoms, perfect),
                             tuple(dipole(atoms, perfect, about["charges"]).tolist()))
    return Sweep(rows, about["model"], about["charges"], pairs,
                 {n: np.array(p["vector"]) for n, p in about["pairs"].items()}, about["directions"], frames)


def read_pairs(entries):
    """{name: FrenkelPair} of the entries of a record."""
    pairs = {}
    for name, p in entries.items():
        site = Interstitial(p["site"]["name"], tuple(p["site"]["position"]), p["site"]["nearest"], p["site"]["orbit"])
        pairs[name] = FrenkelPair(p["vacancy"], site, tuple(p["shift"]), p["ion"])
    return pairs


@dataclass(frozen=True, eq=False)
class DistanceScan:
    """Formation energy at zero field against the distance of vacancy and interstitial ion, which is not relaxed."""

    model: str
    pairs: tuple
    distance: np.ndarray  # (n,) A
    held: np.ndarray      # (n,) eV, surroundings as in the perfect crystal
    relaxed: np.ndarray   # (n,) eV
    became: tuple         # (n,) "" while the pair is there

    def __str__(self):
        return "\n".join(f"{p}: {d:6.2f} A, held {h:7.3f}, relaxed {r:7.3f} eV {b}".rstrip() for p, d, h, r, b in zip(
            self.pairs, self.distance, self.held, self.relaxed, self.became, strict=True))


def distance_scan(sweep, repeat, pairs=None):
    """All pairs (or those named) of a sweep, by distance -> `DistanceScan`."""
    names = sorted(sweep.pairs if pairs is None else pairs, key=lambda n: np.linalg.norm(sweep.vectors[n]))
    return DistanceScan(sweep.label, tuple(names), np.array([np.linalg.norm(sweep.vectors[n]) for n in names]),
                        np.array([sweep.formation_energy(n, repeat, held=True) for n in names]),
                        np.array([sweep.formation_energy(n, repeat) for n in names]),
                        tuple(sweep.became(n, repeat) for n in names))


def fit_charge_pair(distance, energy):
    """Least squares of energy = far - C q^2/(eps d), C = 14.4 eV A -> ((far, error) in eV, (q^2/eps, error) in e^2).

    Two screened charges in an infinite medium, for comparison: images in the periodic cell are left out.
    """
    if len(distance) < 4:
        raise ValueError(f"{len(distance)} distances; a line with error bars needs 4")
    (slope, far), cov = np.polyfit(COULOMB / np.asarray(distance), energy, 1, cov=True)
    error = np.sqrt(np.diag(cov))
    return (float(far), float(error[1])), (-float(slope), float(error[0]))
