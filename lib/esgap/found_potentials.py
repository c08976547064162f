"""What was found for the paper's claims on locality, charge states and errors, from labels and stored records.

Functions, radii and numbers of resamplings are those of chapters 2 and 3, so that both give the same numbers.
"""
from functools import cache

import numpy as np

from . import locality
from .calculators import ElectrostaticBaseline
from .claims import claim
from .store import data_path, read_frames, read_record
from .structures import sulfur_species
from .verdicts import Number, Verdict, decided, spread, standard_error

NEAR, FAR = 3.0, 5.8  # A, frozen radii: well within a cutoff, and the longest at which the test covers all elements
WINDOW = 0.6          # A
N_BOOTSTRAP = 200
TEST = "test-800K"    # frames of independent MD
RESTS = 0.05          # an error that a generation changes by less has stopped improving
LABELS, CHARGES, ERRORS = "dft/locality.xyz", "runs/charges.json", "runs/learning.json"


@cache
def _locality_curves():
    """Locality curves at NEAR and FAR by element -> ({element: of DFT}, {element: less the baseline}).

    The charges of the baseline are those stored by `python -m esgap charges`.
    """
    frames = read_frames(data_path("dft/locality.xyz"))
    stored = read_record(data_path("runs/charges.json"))
    baseline = ElectrostaticBaseline(stored["charges"], stored["zeta"], accuracy=1e-6)
    dft = locality.frozen_forces(frames)
    left = dft.minus(locality.frozen_forces(frames, baseline))
    return tuple({e: locality.locality_curve(forces, [NEAR, FAR], e, WINDOW, N_BOOTSTRAP) for e in locality.ELEMENTS}
                 for forces in (dft, left))


def locality_size():
    """The length of the induced force, sqrt(3) times the error per component, beside the paper's range."""
    said = claim("locality-size")
    (low, high), crystal = said.value, read_frames(data_path("crystal.xyz"))[0]
    all_atoms = locality.by_composition(list(_locality_curves()[0].values()), crystal)
    numbers, statements = [], []
    for radius in (NEAR, FAR):
        value, error = (np.sqrt(3) * x for x in all_atoms.at(radius))
        numbers.append(Number(f"{radius} Å", float(value), float(error), said.unit))
        outside = max(low - value, value - high)
        statements.append((f"at {radius} Å within {low} to {high} {said.unit}", decided(-outside, error)))
    return Verdict(said, tuple(numbers), tuple(statements), (LABELS,))


def locality_element():
    """Phosphorus beside the larger of the two other elements, at both radii; errors from paired resampling."""
    dft, _ = _locality_curves()
    numbers, statements = [], []
    for k, radius in enumerate((NEAR, FAR)):
        other = max(("Li", "S"), key=lambda e: dft[e].value[k])
        difference = float(dft["P"].value[k] - dft[other].value[k])
        error = spread(dft["P"].draws[:, k] - dft[other].draws[:, k])
        numbers.append(Number(f"P less {other}, {radius} Å", difference, error, "eV/Å"))
        statements.append((f"at {radius} Å P has the largest", decided(difference, error)))
    return Verdict(claim("locality-element"), tuple(numbers), tuple(statements), (LABELS,))


def baseline_locality():
    """The change of the locality error by the baseline: lower far away, most for P; higher near by, for P and S."""
    dft, left = _locality_curves()
    change, draws = {}, {}
    for k, radius in enumerate((NEAR, FAR)):
        for e in locality.ELEMENTS:
            change[radius, e] = float(100 * (left[e].value[k] / dft[e].value[k] - 1))
            draws[radius, e] = 100 * (left[e].draws[:, k] / dft[e].draws[:, k] - 1)
    numbers = [Number(f"{e}, {r} Å", value, spread(draws[r, e]), "%") for (r, e), value in change.items()]
    statements = [(f"at {FAR} Å lower for {e}", decided(-change[FAR, e], spread(draws[FAR, e])))
                  for e in locality.ELEMENTS]
    second = min(("Li", "S"), key=lambda e: change[FAR, e])
    statements.append((f"at {FAR} Å most for P", decided(change[FAR, second] - change[FAR, "P"],
                                                         spread(draws[FAR, second] - draws[FAR, "P"]))))
    statements += [(f"at {NEAR} Å higher for {e}", decided(change[NEAR, e], spread(draws[NEAR, e]))) for e in "PS"]
    return Verdict(claim("baseline-locality"), tuple(numbers), tuple(statements), (LABELS, CHARGES))


def sulfur_charges():
    """Mean Hirshfeld charges of bridging and terminal S in generation 0; errors over frames."""
    frames = read_frames(data_path("dft/gen0.xyz"))
    species = sulfur_species(frames[0])
    means = {kind: np.array([a.arrays["hirshfeld"][species == kind].mean() for a in frames])
             for kind in ("bridging", "terminal")}
    numbers = [Number(f"{kind} S", float(q.mean()), standard_error(q), "e") for kind, q in means.items()]
    between = means["bridging"] - means["terminal"]
    apart = decided(abs(between.mean()), standard_error(between))
    numbers.append(Number("difference", float(between.mean()), standard_error(between), "e"))
    return Verdict(claim("sulfur-charges"), tuple(numbers), (("the two charges differ", apart),),
                   ("dft/gen0.xyz",))


def _tested():
    """Of the last generation in `python -m esgap learning`: what was found on frames that neither model has seen.

    Those of independent MD if there are any, else those of a generation ahead.
    """
    rows = read_record(data_path("runs/learning.json"))["generations"]
    if TEST in rows[-1]["sets"]:
        return rows[-1]["sets"][TEST]
    return [row["sets"]["ahead"] for row in rows if "ahead" in row["sets"]][-1]


def convergence():
    """What the last generation has changed on independent MD; how large force errors are beside the locality error."""
    last = read_record(data_path("runs/learning.json"))["generations"][-1]
    entry = last["sets"].get(TEST, {})
    if "step" not in entry:
        raise FileNotFoundError(f"no errors on {TEST} before and after a generation: run `python -m esgap learning`")
    crystal = read_frames(data_path("crystal.xyz"))[0]
    band, bar = map(float, locality.by_composition(list(_locality_curves()[0].values()), crystal).at(FAR))
    numbers, statements = [], []
    for m in ("GAP", "ES-GAP"):
        for key, what, scale, unit in (("all", "forces", 1e3, "meV/Å"), ("energy", "energies", 1, "meV/atom")):
            step, error, now = (entry[k][m][key] for k in ("step", "step_error", "rmse"))
            numbers.append(Number(f"{m}, {what}, generation {last['generation'] - 1} to {last['generation']}",
                                  scale * step, scale * error, unit))
            statements.append((f"{m}: error of {what} falls by less than {100 * RESTS:.0f} %",
                               decided(RESTS * (now - step) + step, error)))
        statements.append((f"{m}: error of forces below the locality error at {FAR} Å",
                           decided(band - entry["rmse"][m]["all"], float(np.hypot(bar, entry["error"][m]["all"])))))
    return Verdict(claim("convergence"), tuple(numbers), tuple(statements), (ERRORS, LABELS))


def average_error():
    """Force RMSE of both models on frames that neither had seen; paired errors over frames."""
    entry = _tested()
    numbers = [Number(m, 1e3 * entry["rmse"][m]["all"], 1e3 * entry["error"][m]["all"], "meV/Å")
               for m in ("GAP", "ES-GAP")]
    d, bar = entry["difference"]["all"], entry["difference_error"]["all"]
    numbers.append(Number("ES-GAP less GAP", 1e3 * d, 1e3 * bar, "meV/Å"))
    return Verdict(claim("average-error"), tuple(numbers), (("GAP's error is the lower", decided(d, bar)),),
                   (ERRORS,))


def element_errors():
    """ES-GAP's force RMSE less GAP's by element, on the same frames."""
    entry = _tested()
    d, bar = entry["difference"], entry["difference_error"]
    numbers = [Number(f"{e}, ES-GAP less GAP", 1e3 * d[e], 1e3 * bar[e], "meV/Å") for e in locality.ELEMENTS]
    statements = (("worse for S", decided(d["S"], bar["S"])), ("better for Li", decided(-d["Li"], bar["Li"])),
                  ("better for P", decided(-d["P"], bar["P"])))
    return Verdict(claim("element-errors"), tuple(numbers), statements, (ERRORS,))
