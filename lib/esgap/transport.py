"""Diffusion and ionic conductivity from unwrapped paths, with uncertainties.

    MSD(t) = <|r(s+t) - r(s)|^2>_{s, ions} = 2 d D t + c              tracer, d = 3 (or 1 for a component)
    sigma_NE = N q^2 D / (V kB T)                                      Nernst-Einstein, the paper's measure
    sigma    = d/dt <|P(s+t) - P(s)|^2>_s / (2 d V kB T), P = sum q r   collective;  Haven ratio = sigma_NE / sigma

MSDs at different times share displacements, so their errors are strongly correlated, and a straight line through them
by ordinary least squares is neither the best estimate nor has it an error bar. Here D comes from generalised least
squares with the covariance that Brownian paths of the same length have, which is known exactly for overlapping windows,

    cov(MSD_n, MSD_m) = 2 s^2 / (K_n K_m) sum_{a < K_n, b < K_m} overlap(a, n; b, m)^2   per component,  s = 2 D dt,

H. Qian et al., Biophys. J. 60, 910 (1991); J. T. Bullerjahn et al., J. Chem. Phys. 153, 024116 (2020). c takes up what
ions do in their cages, as long as the fit begins beyond it. Ions are taken as independent; the collective sum is one
path.
Units: A, ps, e, K; D in A^2/ps (1 A^2/ps = 1e-4 cm^2/s), conductivities in mS/cm.
"""
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.linalg import cho_factor, cho_solve

BOLTZMANN = 8.617333262e-5  # eV/K
CHARGE = 1.602176634e-19  # C
MS_PER_CM = CHARGE * 1e12 / 1e-8 * 1e3  # e^2/(A ps eV), that is e/(A ps V), in mS/cm


def in_frame_of(positions, masses, framework):
    """Positions (n_frames, n, 3) relative to the centre of mass of the atoms `framework` (indices), drift removed."""
    m = np.asarray(masses, float)[framework]
    centre = np.einsum("n,tnx->tx", m / m.sum(), positions[:, framework])
    return positions - (centre - centre[0])[:, None]


def mean_square_displacement(paths):
    """MSD by component (n_frames, 3) in A^2 of paths (n_frames, n_ions, 3), for lags 0..n_frames - 1, all time origins.

    By Fourier transform (Wiener-Khinchin): the cost is n log n.
    """
    r = np.asarray(paths, float) - np.mean(paths, axis=0)
    n, n_ions = r.shape[:2]
    padded = next_fast_len(2 * n, real=True)
    f = rfft(r, padded, axis=0)
    power = (f.real**2 + f.imag**2).sum(1)  # of all ions: what follows is linear in it
    correlation = irfft(power, padded, axis=0)[:n]  # sum_s r(s) r(s+m)
    square = np.concatenate([np.zeros((1, r.shape[2])), np.cumsum(np.einsum("tnx,tnx->tx", r, r), axis=0)])  # (n+1, 3)
    lag = np.arange(n)
    both = square[n - lag] + (square[n] - square[lag])  # sum_s r(s)^2 + r(s+m)^2
    return (both - 2 * correlation) / (n_ions * (n - lag))[:, None]


def brownian_covariance(lags, n_frames):
    """Covariance (k, k) of the MSDs of one Brownian component at `lags` (steps), in units of its s^2 (see above)."""
    return _brownian_covariance(tuple(int(n) for n in lags), int(n_frames)).copy()


@lru_cache(maxsize=512)  # runs of equal length ask for the same
def _brownian_covariance(lags, n_frames):
    lags = np.array(lags)
    out = np.empty((len(lags), len(lags)))
    for x, n in enumerate(lags):
        m = lags[:x + 1, None]
        offset = np.arange(1 - lags[x], n)  # b - a; lags ascend, so no m is longer
        overlap = np.clip(np.minimum(n, offset + m) - np.maximum(0, offset), 0, None).astype(float)
        k_n, k_m = n_frames - n, n_frames - m
        count = np.clip(np.minimum(k_n, k_m - offset) - np.maximum(0, -offset), 0, None)
        out[x, :x + 1] = out[:x + 1, x] = 2 * np.einsum("yo,yo,yo->y", count, overlap, overlap) / (k_n * k_m[:, 0])
    return out


@dataclass(frozen=True, eq=False)
class Diffusion:
    """D in A^2/ps with its standard error, and what it came from."""

    value: float
    error: float
    time: np.ndarray  # (k,) ps, of the fit
    msd: np.ndarray  # (k,) A^2
    intercept: float  # A^2
    dimensions: int
    n_paths: int

    def __str__(self):
        return f"{self.value:.4g} +- {self.error:.2g} A^2/ps"


def diffusion(paths, timestep, start=2.0, end=None, component=None, n_lags=40):
    """Diffusion coefficient of paths (n_frames, n_paths, 3) in A, `timestep` ps apart -> `Diffusion`.

    start, end: range of the fit in ps; before `start` the motion is that in a cage; end: a fifth of the length unless
    given. component: 0, 1, 2 for one Cartesian direction, None for all. Raises ValueError if the range is empty.
    """
    n_frames, n_paths = paths.shape[:2]
    end = 0.2 * n_frames * timestep if end is None else end
    first, last = max(1, int(np.ceil(start / timestep))), min(int(end / timestep), n_frames - 1)
    if last - first < 2:
        raise ValueError(f"no room for a fit between {start} and {end} ps in {n_frames * timestep:.4g} ps of frames "
                         f"{timestep:.4g} ps apart: run longer, or begin earlier")
    lags = np.unique(np.linspace(first, last, n_lags).round().astype(int))
    of = slice(None) if component is None else slice(component, component + 1)
    msd = mean_square_displacement(paths)[lags, of]
    d = msd.shape[1]
    value, error, intercept = _line(lags, msd.sum(1), brownian_covariance(lags, n_frames), d * n_paths, d)
    return Diffusion(value / (2 * d * timestep), error / (2 * d * timestep), lags * timestep, msd.sum(1), intercept, d,
                     n_paths)


def _line(lags, msd, covariance, n_components, d):
    """Slope per step, its error, intercept: GLS, with the variance of a step taken from the slope itself."""
    design = np.column_stack([lags, np.ones(len(lags))])
    factor = cho_factor(covariance + 1e-10 * np.trace(covariance) / len(lags) * np.eye(len(lags)))
    inverse = np.linalg.inv(design.T @ cho_solve(factor, design))
    slope, intercept = inverse @ design.T @ cho_solve(factor, msd)
    # msd is the sum over d components of means over n_components / d paths: its covariance is d^2 s^2 C / n_components,
    # with s = slope / d
    error = abs(slope) * np.sqrt(inverse[0, 0] / n_components)
    return slope, error, intercept


@dataclass(frozen=True)
class Conductivity:
    """Conductivities in mS/cm with standard errors, and the Haven ratio."""

    nernst_einstein: tuple[float, float]
    collective: tuple[float, float]
    haven: tuple[float, float]

    def __str__(self):
        parts = (f"{name} {v:.3g} +- {e:.2g}" for name, (v, e) in vars(self).items())
        return ", ".join(parts) + " (mS/cm; Haven ratio dimensionless)"


def nernst_einstein(d, n_ions, charge, volume, temperature):
    """(value, error) in mS/cm from a `Diffusion` of n_ions of `charge` e in `volume` A^3 at `temperature` K."""
    factor = MS_PER_CM * n_ions * charge**2 / (volume * BOLTZMANN * temperature)
    return factor * d.value, factor * d.error


def conductivity(paths, timestep, charge, volume, temperature, **fit):
    """`Conductivity` from paths (n_frames, n_ions, 3) of all mobile ions of one kind; keywords as in `diffusion`."""
    tracer = nernst_einstein(diffusion(paths, timestep, **fit), paths.shape[1], charge, volume, temperature)
    together = diffusion(paths.sum(1, keepdims=True), timestep, **fit)
    collective = nernst_einstein(together, 1, charge, volume, temperature)
    haven = tracer[0] / collective[0]
    error = abs(haven) * np.hypot(tracer[1] / tracer[0], collective[1] / collective[0])
    return Conductivity(tracer, collective, (haven, error))


def together(values, errors, weights=None):
    """Mean of independent runs and its standard error: the larger of what the runs claim and of how they scatter.

    weights (n,): of the runs, such as their lengths; None: all alike.
    """
    values, errors, n = np.asarray(values, float), np.asarray(errors, float), len(values)
    weights = np.ones(n) if weights is None else np.asarray(weights, float)
    weights = weights / weights.sum()
    mean, claimed = weights @ values, np.sqrt(weights**2 @ errors**2)
    scatter = np.sqrt(n / (n - 1) * weights**2 @ (values - mean)**2) if n > 1 else 0.0
    return float(mean), float(max(claimed, scatter))
