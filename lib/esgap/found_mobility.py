"""What was found for the paper's claims on barriers and conductivity, from stored paths and runs (chapters 4, 5)."""
from functools import cache

import numpy as np

from . import conductivity, hop_differences, hop_pairs, hop_paths, mobility
from .claims import claim
from .verdicts import UNDECIDED, Number, Verdict, decided, spread

ALMOST = 0.026        # eV, kT at room temperature: barriers closer than this are almost the same
RUNS = tuple(f"runs/mobility/{name}.npz" for name in ("*-800K-?", "*-800K-10?", "*-nvt",
                                                     "*-800K-x*"))  # `mobility.load_all()`
ALIKE = 0.25          # of a conductivity: runs closer than this are alike, for another DFT and another fit


@cache
def _paths():
    return hop_paths.load_paths()


def barrier_transfer():
    """Change of a potential's barrier from its own path to that of the other, between minima that both have."""
    said, numbers, statements = claim("barrier-transfer"), [], []
    if not hop_pairs.both_paths(_paths()):
        return Verdict(said)
    for model in ("GAP", "ES-GAP"):
        _add(numbers, statements, f"{model}, other path less own", f"{model}: within {1e3 * ALMOST:.0f} meV",
             hop_differences.of_paths(_paths(), model), lambda change: ALMOST - change)
    return Verdict(said, tuple(numbers), tuple(statements), ("runs/paths",))


def barrier_order():
    """Barriers of GAP, DFT and ES-GAP: of the models those that both have in common, and all on the same images; DFT
    single points on the path of each model."""
    said, found, numbers, statements = claim("barrier-order"), _paths(), [], []
    if not hop_pairs.both_paths(found):
        return Verdict(said)
    for what, order, difference in (
            ("ES-GAP less GAP, in common", "GAP below ES-GAP", hop_differences.of_models(found)),
            ("ES-GAP less GAP, same images", "GAP below ES-GAP on the same images",
             hop_differences.on_the_same_images(found)),
            ("DFT less GAP", "GAP below DFT", hop_differences.of_dft(found, "GAP"))):
        _add(numbers, statements, what, order, difference)
    _add(numbers, statements, "DFT less ES-GAP", "DFT below ES-GAP", hop_differences.of_dft(found, "ES-GAP"),
         lambda value: -value)
    return Verdict(said, tuple(numbers), tuple(statements), ("runs/paths", hop_paths.DFT))


def _add(numbers, statements, what, statement, difference, above=lambda value: value):
    """Add a `hop_differences.Difference` as a number, if its error is known, and as a statement: `above` is above 0."""
    known = difference is not None and np.isfinite(difference.error)
    if known:
        hops = f"{difference.n} hop{'s' * (difference.n > 1)}"
        numbers.append(Number(f"{what} ({hops})", difference.value, difference.error, "eV"))
    statements.append((statement, decided(above(difference.value), difference.error) if known else UNDECIDED))


@cache
def _conductivities():
    return {model: conductivity.conductivities(runs) for model, runs in mobility.load_all().items()}


def _conductivity(said, model):
    value, error = _conductivities()[model].nernst_einstein
    apart = abs(np.log(value / said.value))
    statement = (f"within {100 * ALIKE:.0f} % of {said.value} {said.unit}",
                 decided(np.log(1 + ALIKE) - apart, error / value))
    return Verdict(said, (Number(model, value, error, said.unit),), (statement,), RUNS)


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
    return Verdict(said, numbers, statements, RUNS)
