"""Conductivity against temperature: the activation energy of an Arrhenius line through runs at several temperatures.

    sigma T = A exp(-E / (kB T))                        so that ln(sigma T) is linear in 1 / (kB T) with slope -E

sigma T, not sigma, since sigma of ions that hop is proportional to D / T (Nernst-Einstein).
Units: mS/cm, K, eV.
"""
from dataclasses import dataclass, field, replace

import numpy as np

from . import mobility, transport
from .conductivity import FitRange, conductivities, scatter_of_runs


@dataclass(frozen=True, eq=False)
class Arrhenius:
    """A line through conductivities of one potential at several temperatures."""

    model: str
    temperature: np.ndarray  # (n,) K
    sigma: np.ndarray  # (n,) mS/cm, Nernst-Einstein
    error: np.ndarray  # (n,) standard errors
    energy: tuple[float, float]  # eV, activation energy and its standard error
    _line: tuple = field(repr=False)  # coefficients (2,) of ln(sigma T) in 1 / kT, and their covariance
    scatter: float = 0.0  # relative, of single runs about the mean of several

    def line(self, temperature):
        """Conductivity of the line at temperatures (m,) in K, and its standard error -> (m,), (m,) in mS/cm."""
        temperature = np.asarray(temperature, float)
        powers = np.stack([1 / (transport.BOLTZMANN * temperature), np.ones_like(temperature)])
        coefficients, covariance = self._line
        value = np.exp(coefficients @ powers) / temperature
        return value, value * np.sqrt(np.einsum("in,ij,jn->n", powers, covariance, powers))

    def __str__(self):
        value, error = self.energy
        return f"{self.model}: {value:.3f} +- {error:.3f} eV from {len(self.temperature)} temperatures"


def through(model, temperature, sigma, error):
    """`Arrhenius` line through conductivities (n,) with standard errors at temperatures (n,), weighted by these.

    The error of the energy is the larger of what the errors of the points give and of what the points scatter about
    the line. Raises ValueError for fewer than three temperatures and for conductivities that are not positive.
    """
    temperature, sigma, error = (np.asarray(x, float) for x in (temperature, sigma, error))
    if len(np.unique(temperature)) < 3:
        raise ValueError(f"{model} has runs at {np.unique(temperature).tolist()} K; a line with an error needs three "
                         "temperatures: `python -m esgap conductivity --temperatures ...`")
    if not ((sigma > 0).all() and (error > 0).all()):
        raise ValueError(f"conductivities of {model} are {sigma.tolist()} +- {error.tolist()}: all must be positive; "
                         "run longer")
    x, y, weight = 1 / (transport.BOLTZMANN * temperature), np.log(sigma * temperature), sigma / error
    line, covariance = np.polyfit(x, y, 1, w=weight, cov="unscaled")
    chi2 = float((weight**2 * (y - np.polyval(line, x)) ** 2).sum() / (len(x) - 2))
    covariance = covariance * max(1.0, chi2)
    return Arrhenius(model, temperature, sigma, error, (float(-line[0]), float(np.sqrt(covariance[0, 0]))),
                     (line, covariance))


def stored(temperatures=(600.0, 700.0, 800.0, 900.0, 1000.0), fit=None, folder=None):
    """`Arrhenius` of both models from the kept runs at `temperatures` -> {"GAP": ..., "ES-GAP": ...}.

    fit: `FitRange` (None: its defaults). Temperatures without runs of both are left out; {} if fewer than three remain.
    An error is not below what single runs scatter by where there are three or more, over the root of their number.
    """
    found = {}
    for temperature in temperatures:
        try:
            runs = mobility.load_all(temperature, folder=folder)
        except FileNotFoundError:
            continue
        for model, of in runs.items():
            found.setdefault(model, []).append((temperature, conductivities(of, fit=fit or FitRange())))
    scatter = scatter_of_runs(c for rows in found.values() for _, c in rows)
    lines = {}
    for model, rows in found.items():
        if len(rows) >= 3:
            sigma, error = zip(*(c.not_surer_than(scatter) for _, c in rows), strict=True)
            lines[model] = replace(through(model, [t for t, _ in rows], sigma, error), scatter=scatter)
    return lines


def without_thermostat(lines, fit=None, folder=None):
    """Kept runs without thermostat beside the lines of those with one -> {model: (factor, standard error)}.

    factor: conductivity of the run over that of its model's line in `lines` (as of `stored`) at the temperature that
    the run had. 1 if the thermostat does not slow ions down. Runs of one model are averaged.
    """
    factors = {}
    for run in mobility.runs_without_thermostat(folder):
        if run.model in lines:
            value, error = conductivities([run], fit=fit or FitRange()).nernst_einstein
            (expected,), (uncertain,) = lines[run.model].line([run.temperature])
            # single runs scatter by a part of what they scatter about, not of what one of them happens to have
            factors.setdefault(run.model, []).append((value / expected, np.hypot(
                max(error / expected, lines[run.model].scatter), value / expected * uncertain / expected)))
    return {model: transport.together(*zip(*of, strict=True)) for model, of in factors.items()}
