"""What runs of finite length say about a conductivity, and about two of them.

Runs of one potential with several seeds give sigma as `transport.together` of the estimates of `transport`, each with
the weight of its length; the error is not below what the scatter of halves of runs says. A relative
standard error r = s/sigma stands for n = 1/r^2 independent events, and the posterior of sigma given n of them is a
gamma distribution with that mean and standard deviation: positive, skewed while n is small. Errors fall as one over the
root of the length L, so two conductivities a factor f apart differ by k standard errors of the logarithm from

    L = L0 (k / ln f)^2 (r_1^2 + r_2^2)        on, r_1 and r_2 being those of runs of length L0.

If hops are what is counted, n grows with sigma as with L: hence how sure conductivities are that others have found.

Units: mS/cm, ps, A, K.
"""
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

from . import transport

ESTIMATORS = ("tracer", "collective")
CHARGE = 1.0  # e, of an ion that carries current: Nernst-Einstein with the formal charge, as in the paper


@dataclass(frozen=True)
class FitRange:
    """Which part of a run and of its mean square displacement counts."""

    skip: float = 2.0  # ps from the beginning, which starts in the crystal
    start: float = 2.0  # ps, of the fit: before, ions rattle in their cages
    share: float = 0.2  # the fit ends at this part of the length

    def of(self, run, length=None):
        """(paths, keywords of `transport.diffusion`) of a `mobility.LithiumRun`, up to `length` ps after `skip`."""
        first = int(np.ceil(self.skip / run.timestep))
        last = None if length is None else first + round(length / run.timestep) + 1
        paths = run.paths[first:last]
        end = max(self.share * (len(paths) - 1) * run.timestep, self.start + 20 * run.timestep)
        return paths, {"start": self.start, "end": end}


@dataclass(frozen=True, eq=False)
class Conductivities:
    """Of one potential: Nernst-Einstein and collective conductivity (value, error), and those of each run."""

    model: str
    nernst_einstein: tuple[float, float]
    collective: tuple[float, float]
    each: tuple = field(repr=False)  # transport.Conductivity, one a run
    length: float  # ps of a run that counts
    n_runs: int
    estimator: str = "tracer"  # whose value and error `chosen` are, one of ESTIMATORS

    @property
    def chosen(self):
        """(value, error) of the estimator: Nernst-Einstein (tracer) or collective conductivity."""
        return self.collective if self.estimator == "collective" else self.nernst_einstein

    @property
    def haven(self):
        """(value, error)"""
        (a, s_a), (b, s_b) = self.nernst_einstein, self.collective
        return a / b, abs(a / b) * float(np.hypot(s_a / a, s_b / b))

    @property
    def relative(self):
        """Relative standard error of `chosen`."""
        return self.chosen[1] / abs(self.chosen[0])

    def not_surer_than(self, scatter):
        """Nernst-Einstein conductivity (value, error), the error not below what single runs scatter by (relative, as of
        `scatter_of_runs`) over the root of their number."""
        value, error = self.nernst_einstein
        return value, max(error, scatter * abs(value) / np.sqrt(self.n_runs))

    def __str__(self):
        parts = (f"{name} {v:.0f} +- {e:.0f}" for name, (v, e) in (("tracer", self.nernst_einstein),
                                                                   ("collective", self.collective)))
        return f"{self.model}: {', '.join(parts)} mS/cm, {self.n_runs} runs of {self.length:.1f} ps"


def conductivities(runs, length=None, fit=FitRange(), estimator="tracer"):
    """`Conductivities` of `mobility.LithiumRun`s of one potential, of their first `length` ps (None: all).

    ValueError if the estimator is not one of ESTIMATORS."""
    _check(estimator)
    each, lengths = zip(*(_of_run(run, length, fit) for run in runs), strict=True)
    tracer, collective = (transport.together(*zip(*(getattr(c, name) for c in each), strict=True), lengths)
                          for name in ("nernst_einstein", "collective"))
    tracer = (tracer[0], max(tracer[1], _scatter_of_halves(runs, length, fit)))
    return Conductivities(runs[0].model, tracer, collective, each, float(np.mean(lengths)), len(runs), estimator)


def _check(estimator):
    if estimator not in ESTIMATORS:
        raise ValueError(f"estimator is {estimator!r}; choose one of {', '.join(ESTIMATORS)}")


@lru_cache(maxsize=2048)  # the same runs are asked for again and again
def _of_run(run, length, fit):
    """(`transport.Conductivity`, ps that count)"""
    paths, keywords = fit.of(run, length)
    found = transport.conductivity(paths, run.timestep, CHARGE, run.mean.get_volume(), run.temperature, **keywords)
    return found, (len(paths) - 1) * run.timestep


def _scatter_of_halves(runs, length, fit):
    """Standard error in mS/cm from the scatter of both halves of every run; 0 if they are too short for a fit.

    Ions that move together are fewer witnesses than the fit counts, which a single run shows only over time.
    """
    halves = [_of_halves(run, length, fit) for run in runs]
    if not all(halves):
        return 0.0
    values, lengths = zip(*(half for both in halves for half in both), strict=True)
    return transport.together(values, np.zeros(len(values)), lengths)[1]


@lru_cache(maxsize=2048)
def _of_halves(run, length, fit):
    """((mS/cm, ps) of each half of a run,); empty if they are too short for a fit."""
    paths, _ = fit.of(run, length)
    half, out = len(paths) // 2, []
    if half * run.timestep < 2 * fit.start + 1:
        return ()
    for part in (paths[:half], paths[half:]):
        end = max(fit.share * half * run.timestep, fit.start + 20 * run.timestep)
        d = transport.diffusion(part, run.timestep, start=fit.start, end=end)
        value, _ = transport.nernst_einstein(d, part.shape[1], CHARGE, run.mean.get_volume(), run.temperature)
        out.append((value, half * run.timestep))
    return tuple(out)


def scatter_of_runs(found):
    """Relative standard deviation of single runs, from those `Conductivities` of three or more; 0 if there are none.

    A run alone does not show what another seed would bring.
    """
    several = [np.array([run.nernst_einstein[0] for run in c.each]) for c in found if c.n_runs >= 3]
    return float(np.sqrt(np.mean([(x.std(ddof=1) / x.mean()) ** 2 for x in several]))) if several else 0.0


def _reaching(runs, length, fit):
    return [run for run in runs if length is None or run.length - fit.skip >= length - run.timestep / 2]


def single_runs(runs, length=None, fit=FitRange(), estimator="tracer"):
    """Conductivities in mS/cm that each of the runs would have given alone, of its first `length` ps -> (n,); only runs
    that reach it."""
    _check(estimator)
    name = "collective" if estimator == "collective" else "nernst_einstein"
    return np.array([getattr(_of_run(run, length, fit)[0], name)[0] for run in _reaching(runs, length, fit)])


def scatter_against_length(runs, lengths, fit=FitRange(), estimator="tracer", least=8):
    """By how much single runs scatter, relative to their mean -> [(ps, scatter, standard error), ...] for those lengths
    that `least` runs reach. The error is that of a standard deviation of normal numbers."""
    out = []
    for length in lengths:
        n = len(reaching := _reaching(runs, length, fit))
        if n >= least:
            sigma = single_runs(reaching, length, fit, estimator)
            scatter = float(sigma.std(ddof=1) / sigma.mean())
            out.append((float(length), scatter, scatter / np.sqrt(2 * (n - 1))))
    return out


def against_length(runs, lengths, fit=FitRange(), estimator="tracer"):
    """`Conductivities` of the first 5, 10, ... ps: those `lengths` (ps) that leave a fit, each of the runs that reach
    it, up to the longest that two runs reach (or the only one)."""
    found, reached = [], sorted(run.length - fit.skip for run in runs)
    longest = reached[-min(2, len(reached))]
    for length in sorted({*(x for x in lengths if x < longest), longest}):
        if length > fit.start + 1:
            found.append(conductivities(_reaching(runs, length, fit), length, fit, estimator))
    if not found:
        raise ValueError(f"runs of {longest + fit.skip:.1f} ps are too short to skip {fit.skip} ps and fit from "
                         f"{fit.start} ps on: choose less of both, or run longer")
    return found


def against_time(runs, window=50.0, fit=FitRange(skip=0.0), estimator="tracer", least=8):
    """Conductivity in successive windows (ps) since the beginning, for as long as `least` runs reach the end of one
    -> [(ps in the middle, `Conductivities`), ...]. It tells whether the solid ages."""
    if not window > 2 * fit.start:
        raise ValueError(f"windows of {window} ps leave no room for a fit from {fit.start} ps on: choose longer ones")
    out = []
    while len(of := _reaching(runs, (len(out) + 1) * window, replace(fit, skip=0.0))) >= least:
        pieces = [_piece(run, len(out) * window, (len(out) + 1) * window) for run in of]
        out.append(((len(out) + 0.5) * window, conductivities(pieces, None, fit, estimator)))
    return out


def _piece(run, first, last):
    """A run between two times in ps."""
    of = slice(*np.searchsorted(run.time - run.time[0], 1e3 * np.array([first, last]) - 0.5e3 * run.timestep + [0, 1]))
    return replace(run, paths=run.paths[of], time=run.time[of])


def trend(windows):
    """Change of a conductivity by 100 ps, relative to its mean -> (value, error), from two or more of `against_time`:
    a line by weighted least squares."""
    if len(windows) < 2:
        raise ValueError(f"{len(windows)} windows show no trend: give longer runs or shorter windows")
    t, sigma, error = np.array([(t, *c.chosen) for t, c in windows]).T
    weight = error**-2
    t = t - weight @ t / weight.sum()
    mean, spread = weight @ sigma / weight.sum(), weight @ t**2
    return float(100 * weight @ (t * sigma) / spread / mean), float(100 / np.sqrt(spread) / mean)


def displacements(runs, length=None, fit=FitRange()):
    """Lag in ps and mean square displacement (n, 3) in A^2 by Cartesian component, mean over runs.

    Runs with frames closer to each other are read at the lags of the others, between frames by interpolation.
    """
    paths = [fit.of(run, length)[0] for run in runs]
    spacing = max(run.timestep for run in runs)
    last = min((len(p) - 1) * run.timestep for p, run in zip(paths, runs, strict=True))
    lags = np.arange(int(last / spacing + 1e-9) + 1) * spacing
    found = []
    for path, run in zip(paths, runs, strict=True):
        own = np.arange(len(path)) * run.timestep
        found.append([np.interp(lags, own, x) for x in transport.mean_square_displacement(path).T])
    return lags, np.mean(found, axis=0).T


def along_axes(runs, fit=FitRange()):
    """D in A^2/ps along the lattice vectors a, b, c -> {"a": (value, error), ...}."""
    out = {}
    for name, vector in zip("abc", runs[0].mean.cell, strict=True):
        found, lengths = [], []
        for run in runs:
            paths, keywords = fit.of(run)
            d = transport.diffusion((paths @ (vector / np.linalg.norm(vector)))[..., None], run.timestep, **keywords)
            found.append((d.value, d.error))
            lengths.append(len(paths) * run.timestep)
        out[name] = transport.together(*zip(*found, strict=True), lengths)
    return out


def posterior(value, error, n=20000, seed=0):
    """Draws (n,) from the posterior of a conductivity known as value and standard error."""
    if not (value > 0 and error > 0):
        raise ValueError(f"conductivity {value} +- {error}: both must be positive; run longer")
    events = (value / error) ** 2
    return np.random.default_rng(seed).gamma(events, value / events, n)


@dataclass(frozen=True, eq=False)
class Ratio:
    """Posterior of first / second: median, the interval that holds 95 %, and the probability that it is above 1."""

    median: float
    low: float
    high: float
    above: float
    draws: np.ndarray = field(repr=False)

    def __str__(self):
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f}, above 1 with {100 * self.above:.0f} %)"


def ratio(first, second, n=20000, seed=0):
    """`Ratio` of two conductivities, each (value, error)."""
    draws = posterior(*first, n, seed) / posterior(*second, n, seed + 1)
    return Ratio(*map(float, np.quantile(draws, (0.5, 0.025, 0.975))), float((draws > 1).mean()), draws)


def length_to_tell(relative_errors, length, values, deviations=2.0):
    """Total length in ps at which two conductivities `values` differ by so many standard errors.

    relative_errors: two, of data of `length` ps in all, for each.
    """
    apart = abs(np.log(values[0] / values[1]))
    if not apart > 0:
        raise ValueError(f"values are {values[0]} and {values[1]}: equal ones cannot be told apart at any length")
    return float(length * (deviations / apart) ** 2 * np.sum(np.square(relative_errors)))


def deviations_at(found, values, length):
    """How many standard errors two conductivities are apart that others have found in runs of `length` ps, going by
    events.

    found: `Conductivities` of both potentials, which tell how many hops make an independent event; values: mS/cm, those
    of others, from the same cell and temperature. Hops, and with them events, come in proportion to conductivity and
    length: r^2 = r_0^2 sigma_0 L_0 / (sigma L).
    """
    events = [value * length / (c.relative**2 * c.chosen[0] * c.length * c.n_runs)
              for c, value in zip(found, values, strict=True)]
    return float(abs(np.log(values[0] / values[1])) / np.sqrt(sum(1 / n for n in events)))


def extrapolated(sigma, activation_energy, temperature, measured_at=298.15):
    """sigma in mS/cm at `temperature` (K) from one at `measured_at`: sigma T falls as exp(-E/(kB T)), E in eV."""
    exponent = activation_energy / transport.BOLTZMANN * (1 / measured_at - 1 / temperature)
    return float(sigma * measured_at / temperature * np.exp(exponent))
