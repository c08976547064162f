"""What was found for the paper's claims on barriers and conductivity, from stored paths and runs (chapters 4, 5)."""
from functools import cache

import numpy as np

from . import conductivity, hop_paths, mobility
from .claims import claim
from .verdicts import UNDECIDED, Number, Verdict, decided, spread, standard_error

ALMOST = 0.026        # eV, kT at room temperature: barriers closer than this are almost the same
ALIKE = 0.25          # of a conductivity: runs closer than this are alike, for another DFT and another fit


@cache
def _hops():
    return hop_paths.both_paths(hop_paths.load_paths())


def barrier_transfer():
    """Change of a potential's barrier from its own path to that of the other; errors over hops (two or more)."""
    said, hops = claim("barrier-transfer"), _hops()
    if len(hops) < 2:
        return Verdict(said)
    numbers, statements = [], []
    for model, other in (("GAP", "ES-GAP"), ("ES-GAP", "GAP")):
        change = np.array([abs(h.barrier(model, other) - h.barrier(model, model)) for h in hops])
        mean, error = float(change.mean()), standard_error(change)
        numbers.append(Number(f"{model}, other path less own", mean, error, "eV"))
        statements.append((f"{model}: within {1e3 * ALMOST:.0f} meV", decided(ALMOST - mean, error)))
    return Verdict(said, tuple(numbers), tuple(statements), "python -m esgap paths")


def barrier_order():
    """Barriers of GAP, DFT and ES-GAP, mean differences over hops; DFT single points on the paths of both models."""
    said, hops = claim("barrier-order"), _hops()
    if len(hops) < 2:
        return Verdict(said)
    own = np.array([h.barrier("ES-GAP", "ES-GAP") - h.barrier("GAP", "GAP") for h in hops])
    numbers = [Number("ES-GAP less GAP", float(own.mean()), standard_error(own), "eV")]
    statements = [("GAP below ES-GAP", decided(own.mean(), standard_error(own)))]
    for low, high, model in (("GAP", "DFT", "GAP"), ("DFT", "ES-GAP", "ES-GAP")):
        known = [h.barrier(high, model) - h.barrier(low, model) for h in hops if ("DFT", model) in h.profiles]
        if len(known) > 1:
            numbers.append(Number(f"{high} less {low}", float(np.mean(known)), standard_error(known), "eV"))
        statements.append((f"{low} below {high}", decided(np.mean(known), standard_error(known))
                           if len(known) > 1 else UNDECIDED))
    return Verdict(said, tuple(numbers), tuple(statements), "python -m esgap paths")


@cache
def _conductivities():
    return {model: conductivity.conductivities(runs) for model, runs in mobility.load_runs().items()}


def _conductivity(said, model):
    value, error = _conductivities()[model].nernst_einstein
    apart = abs(np.log(value / said.value))
    statement = (f"within {100 * ALIKE:.0f} % of {said.value} {said.unit}",
                 decided(np.log(1 + ALIKE) - apart, error / value))
    return Verdict(said, (Number(model, value, error, said.unit),), (statement,), "python -m esgap conductivity")


def conductivity_gap():
    """Nernst-Einstein conductivity of GAP at 800 K beside the paper's."""
    return _conductivity(claim("conductivity-gap"), "GAP")


def conductivity_es_gap():
    """Nernst-Einstein conductivity of ES-GAP at 800 K beside the paper's."""
    return _conductivity(claim("conductivity-es-gap"), "ES-GAP")


def conductivity_sampling():
    """By how much the conductivities of both models differ; errors of the logarithm of the posterior."""
    said, both = claim("conductivity-sampling"), _conductivities()
    found = conductivity.ratio(both["GAP"].nernst_einstein, both["ES-GAP"].nernst_einstein)
    log, error = float(np.log(found.median)), spread(np.log(found.draws))
    low, high = (np.log(1 + x / 100) for x in said.value)
    numbers = (Number("GAP above ES-GAP", 100 * (found.median - 1), 100 * found.median * error, said.unit),)
    statements = (("GAP conducts better", decided(log, error)),
                  (f"they differ by more than {said.value[0]} %", decided(abs(log) - low, error)),
                  (f"they differ by less than {said.value[1]} %", decided(high - abs(log), error)))
    return Verdict(said, numbers, statements, "python -m esgap conductivity")
