"""Formation energies of Frenkel pairs from a finished sweep, at zero field and as curves against it (`field_curve`).

Units: A, eV, e, V/A.
"""
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from .field_curve import FieldCurve
from .frenkel import FrenkelPair, dipole, what_became_of
from .interstitials import Interstitial
from .store import FrameStore, read_record

# A; from one field to the next ions move by 0.1 A or less while they follow it, and by 0.3 A or more when one jumps
JUMP = 0.2


@dataclass(frozen=True)
class Row:
    """What is kept of one relaxed point; of a perfect cell energy and step alone."""

    energy: float                # eV, field included
    became: str = ""             # of the pair, "" while it is there
    dipole: tuple = (0., 0., 0.)  # e A, mu
    error: float = np.nan        # eV, of the formation energy, from a committee if there is one
    step: float = 0.0            # A, the farthest that any atom has moved since the field before


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
    exponents: dict | None = None  # 1/A, of the clouds by element, of a potential with charges that are no points

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
        return tuple(n for n, other in self.pairs.items() if (repeat is None or repeat in self.repeats(n))
                     and other.kind == self.pairs[pair].kind)

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
        strength, out, back, became, moment, error, jumped = zip(*rows, strict=True)
        return FieldCurve(pair, self.label, direction, np.array(strength), np.array(out), np.array(back), became,
                          np.array(moment), np.array(error), jumped)

    def crystal_in_field(self, repeat):
        """How far the perfect crystal follows a field -> {"x+": (strongest field on its branch, strongest relaxed)},
        V/A, for every side on which fields were relaxed."""
        stem, found = "x".join(map(str, repeat)) + "/perfect/", {}
        for d in self.directions:
            for side in "+-":
                points = sorted((float(n.split("/")[2].removeprefix(d + side)), r.step) for n, r in self.rows.items()
                                if n.startswith(f"{stem}{d}{side}") and n.endswith("/out"))
                if points:
                    follows = [f for k, (f, _) in enumerate(points) if all(s <= JUMP for _, s in points[:k + 1])]
                    found[d + side] = (max(follows, default=0.0), points[-1][0])
        return found

    def below_crystal(self, pair, repeat, deviations=0.0):
        """Weakest fields in which the pair, or what it has turned into, has less energy than the crystal by so many
        standard errors, while that still is what it was without a field -> {"x+": (V/A, eV, standard error in eV)}."""
        found, limits = {}, self.crystal_in_field(repeat)
        for n, d, r in self.swept():
            if (n, r) != (pair, repeat):
                continue
            c = self.curve(n, d, r)
            for side, sign in (("+", 1), ("-", -1)):
                sure = c.out < (-deviations * c.error if deviations else 0.0)
                low = [k for k, f in enumerate(c.field) if 0 < sign * f <= limits[d + side][0] and sure[k]]
                if low:
                    k = min(low, key=lambda k: abs(c.field[k]))
                    found[d + side] = (abs(float(c.field[k])), float(c.out[k]), float(c.error[k]))
        return found

    def _row(self, cell, pair, point, direction, unit):
        defect, perfect = (self._at(f"{cell}/{name}/{point}/out") for name in (pair, "perfect"))
        out = defect.energy - perfect.energy
        returns = [f"{direction}{side}0.0000" for side in "+-"] if point == "0" else [point]
        back = [a.energy - b.energy for a, b in (
            [self.rows.get(f"{cell}/{name}/{p}/back") for name in (pair, "perfect")] for p in returns) if a and b]
        turned = out if point == self._turn(cell, pair, point, direction) else np.nan  # nothing to come back from
        return (_strength(point, direction), out, max(back, key=lambda e: abs(e - out), default=turned),
                defect.became, float(np.array(defect.dipole) @ unit), defect.error,
                max(defect.step, perfect.step) > JUMP)

    def _turn(self, cell, pair, point, direction):
        """Where the way back begins, on the side of a point: the weakest field beyond all that were met again."""
        way = f"{cell}/{pair}/{direction}{'-' if _strength(point, direction) < 0 else '+'}"
        out, back = ({n.split("/")[2] for n in self.rows if n.startswith(way) and n.endswith(leg)}
                     for leg in ("/out", "/back"))
        met = max((abs(_strength(p, direction)) for p in back), default=np.inf)
        return min((p for p in out if abs(_strength(p, direction)) > met), default="",
                   key=lambda p: abs(_strength(p, direction)))

    def _at(self, name):
        if name not in self.rows:
            raise ValueError(f"point {name} is not there: the sweep is not finished, or the pair is gone "
                             f"(there are {len(self.rows)} points; give the same command again)")
        return self.rows[name]


def together(sweeps):
    """One `Sweep` of the points of several, all of the same potential, e.g. of cells relaxed at another time.

    ValueError if potentials or charges differ, or a point is in two of them.
    """
    first, *others = sweeps
    for other in others:
        if (other.model, other.charges) != (first.model, first.charges):
            raise ValueError(f"sweeps of {first.model} and of {other.model} cannot be put together: give those of one "
                             "potential")
        if twice := sorted(set(first.rows) & set(other.rows)):
            raise ValueError(f"point {twice[0]} is in two sweeps of {first.model}: leave one of them out")
        first = replace(first, **{name: getattr(first, name) | getattr(other, name)
                                  for name in ("rows", "pairs", "vectors", "directions", "frames")})
    return first


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


def field_before(name, names):
    """Of the names of a sweep's points, the one from which `name` started; "" at zero field, where a sweep starts."""
    stem, point, leg = name.rsplit("/", 2)
    if leg == "held" or point == "0":
        return ""
    way = point[:point.rindex(".") - 1]  # e.g. x+
    taken = {float(n.split("/")[2].removeprefix(way)): n for n in names
             if n.startswith(f"{stem}/{way}") and n.endswith("/out")}
    back = {float(n.split("/")[2].removeprefix(way)): n for n in names
            if n.startswith(f"{stem}/{way}") and n.endswith("/back")}
    strength = float(point.removeprefix(way))
    if leg == "out":
        return taken.get(max((s for s in taken if s < strength), default=None), f"{stem}/0/out")
    later = {**taken, **back} if strength < max(taken, default=0.0) else {}
    return later.get(min((s for s in later if s > strength), default=None), "")


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
        before = frames.get(field_before(name, frames))
        step = float(np.linalg.norm(atoms.positions - before.positions, axis=1).max()) if before else 0.0
        if pair == "perfect":
            rows[name] = Row(atoms.get_potential_energy(), step=step)
        elif perfect:
            rows[name] = Row(atoms.get_potential_energy(), what_became_of(pairs[pair], atoms, perfect),
                             tuple(dipole(atoms, perfect, about["charges"]).tolist()), step=step)
    return Sweep(rows, about["model"], about["charges"], pairs,
                 {n: np.array(p["vector"]) for n, p in about["pairs"].items()}, about["directions"], frames)


def read_pairs(entries):
    """{name: FrenkelPair} of the entries of a record."""
    pairs = {}
    for name, p in entries.items():
        site = Interstitial(p["site"]["name"], tuple(p["site"]["position"]), p["site"]["nearest"], p["site"]["orbit"])
        pairs[name] = FrenkelPair(p["vacancy"], site, tuple(p["shift"]), p["ion"])
    return pairs
