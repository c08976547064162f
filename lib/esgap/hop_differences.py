"""By how much barriers of potentials differ, as means over hops, and how sure that is.

    mean over hops of the mean over what is known of each: both directions, both paths
    error = max( s t(n - 1) / (2 sqrt(n)),  spread of the committees' means over the same hops )

s: standard deviation between n hops, t: Student's quantile that leaves 2.3 % above it, so that two errors mean the same
whether there are two hops or many. All hops are judged by one fit: its error, which the committees tell, does not
become smaller with their number. With one hop only the committees tell an error; without either it is nan.
Units: eV.
"""
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, t

from .hop_pairs import both_paths, comparisons, drawn, one_way, over_saddle
from .models import LABELS

OTHER = dict(zip(LABELS.values(), reversed(LABELS.values()), strict=True))


@dataclass(frozen=True)
class Difference:
    """A mean over hops."""

    value: float  # eV
    error: float  # eV, or nan
    n: int  # hops

    def __str__(self):
        known = np.isfinite(self.error)
        bar, hops = f" ± {1e3 * self.error:.0f}" if known else "", f"{self.n} hop{'s' * (self.n > 1)}"
        return f"{1e3 * self.value:+.0f}{bar} meV ({hops}{'' if known else ', error unknown'})"


def mean_over_hops(of_hop):
    """{name of a hop: [(eV, what the members of a committee say, less mean (n_members,), or None)]} -> `Difference`, or
    None without any hop."""
    if not of_hop:
        return None
    means = np.array([np.mean([value for value, _ in known]) for known in of_hop.values()])
    n, errors = len(means), []
    if n > 1:
        errors.append(means.std(ddof=1) / np.sqrt(n) * t.ppf(norm.cdf(2), n - 1) / 2)
    draws = [[d for _, d in known] for known in of_hop.values()]
    if all(d is not None for known in draws for d in known):
        errors.append(np.mean([np.mean(known, axis=0) for known in draws], axis=0).std(ddof=1))
    return Difference(float(means.mean()), float(max(errors, default=np.nan)), n)


def of_models(found):
    """ES-GAP less GAP, each on its own path, barriers that both have in common."""
    out = {}
    for c in comparisons(found):
        out.setdefault(c.hop.name, []).append((c.difference, c.draws))
    return mean_over_hops(out)


def on_the_same_images(found):
    """ES-GAP less GAP on the same images, forward, whosever path and minima, mean of the paths of both.

    A potential's energy is too high at another's minima, and its barrier on another's path so too low or too high; of
    both paths the difference is of the opposite sign.
    """
    out = {}
    for h in both_paths(found):
        for of in LABELS.values():
            pair = h.profiles["ES-GAP", of], h.profiles["GAP", of]
            out.setdefault(h.name, []).append((pair[0].forward - pair[1].forward, drawn(*pair, "forward")))
    return mean_over_hops(out)


def of_paths(found, model):
    """How far a model's barrier on the path of the other is from that on its own, between minima that both have; the
    committees' say on one potential's own energies is left out, as both numbers are of one fit."""
    out = {}
    for c in comparisons(found, lambda agreement: agreement.same_ends):
        out.setdefault(c.hop.name, []).append((abs(c.barrier(model, OTHER[model]) - c.barrier(model)), None))
    return mean_over_hops(out)


def of_dft(found, model):
    """DFT less a model on the model's own path, forward, where DFT has a highest image between the ends, too."""
    out = {}
    for h in (*both_paths(found), *found.from_other):
        dft = h.profiles.get(("DFT", model))
        if dft is not None and over_saddle(dft) and h.begun_from != model:  # its own path is there already
            own = h.profiles[model, model]
            draws = None if own.draws is None else -own.draws[:, 0]
            out.setdefault(h.name, []).append((dft.forward - own.forward, draws))
    return mean_over_hops(out)


def of_ends(found, model):
    """A model less DFT on its own paths of `hop_pairs.one_way`: what the end lies above the start."""
    out = {}
    for h in one_way(found):
        if dft := h.profiles.get(("DFT", model)):
            own = h.profiles[model, model]
            draws = None if own.draws is None else own.draws[:, 0] - own.draws[:, 1]  # forward less reverse barrier
            out[h.name] = [(own.relative[-1] - dft.relative[-1], draws)]
    return mean_over_hops(out)
