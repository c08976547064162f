"""The ledger: what this book found for each claim of the paper, computed from stored labels and results.

A claim is cut into statements. Each holds, does not hold, or is undecided (two standard errors decide); together,

    all hold: reproduced    some hold: partly    none holds: not    all undecided: not testable (with these data)

A claim without a function in `TESTS`, or whose stored result is missing, is not yet tested. Functions, radii and
numbers of resamplings are those of the claim's chapter, so that both give the same numbers.
"""
from dataclasses import dataclass
from functools import cache

import numpy as np

from . import conductivity, frenkel_summary, hop_paths, locality, mobility
from .calculators import ElectrostaticBaseline
from .claims import Claim, claim, load_claims
from .field_response import fit_charge_pair, response
from .store import data_path, read_frames, read_record
from .structures import sulfur_species

VERDICTS = ("reproduced", "partly", "not", "not testable", "not yet tested")
HOLDS, FAILS, UNDECIDED = True, False, None
NEAR, FAR = 3.0, 5.8  # A, frozen radii: well within a cutoff, and the longest at which the test covers all elements
WINDOW = 0.6          # A
N_BOOTSTRAP = 200
ALMOST = 0.026        # eV, kT at room temperature: barriers closer than this are almost the same
ALIKE = 0.25          # of a conductivity: runs closer than this are alike, for another DFT and another fit
LABEL = "python -m esgap label frames.xyz data/dft/{}.xyz"
FRENKEL = "python -m esgap frenkel, see data/README.md"
NEARLY = 0.1          # eV; a formation energy of "about" x is x up to this


@dataclass(frozen=True)
class Number:
    """One of our numbers, with its standard error."""

    what: str
    value: float
    error: float
    unit: str = ""

    def __str__(self):
        digits = max(0, 1 - int(np.floor(np.log10(self.error)))) if self.error > 0 else 3  # two of the error
        return f"{self.what}: {self.value:.{digits}f} ± {self.error:.{digits}f} {self.unit}".rstrip()


@dataclass(frozen=True)
class Verdict:
    """A claim beside what was found. statements: (text, HOLDS, FAILS or UNDECIDED)."""

    claim: Claim
    numbers: tuple[Number, ...] = ()
    statements: tuple[tuple[str, bool | None], ...] = ()
    command: str = ""  # recomputes what the numbers rest on

    @property
    def verdict(self):
        """One of VERDICTS."""
        found = [holds for _, holds in self.statements]
        if not found:
            return "not yet tested"
        if all(x is UNDECIDED for x in found):
            return "not testable"
        return "reproduced" if all(found) else "partly" if any(found) else "not"

    def __str__(self):
        return f"{self.claim.id}: {self.verdict}" + "".join(f"\n  {n}" for n in self.numbers)


def decided(difference, error):
    """Whether a difference is above zero by two standard errors: HOLDS; below: FAILS; else UNDECIDED."""
    if not np.isfinite([difference, error]).all():
        return UNDECIDED
    return UNDECIDED if abs(difference) < 2 * error or difference == 0 else bool(difference > 0)


def ledger():
    """Verdicts on all claims, in the order of the paper -> tuple of `Verdict`."""
    return tuple(_verdict(c) for c in load_claims())


def _verdict(said):
    try:
        return TESTS[said.id]() if said.id in TESTS else Verdict(said)
    except FileNotFoundError:  # no stored result
        return Verdict(said)


def ledger_table(verdicts):
    """Markdown table of verdicts; a chapter that the book has is a link."""
    chapters = data_path().parent / "chapters"
    rows = ["| the paper says | we find | verdict | tested in |", "|:---|:---|:---|:---|"]
    for v in verdicts:
        name = v.claim.chapter
        title = name[3:].replace("-", " ")
        link = f"[{title}]({name}.ipynb)" if (chapters / f"{name}.ipynb").exists() else f"{title} (planned)"
        numbers = "<br>".join(str(n).replace(" ", "\N{NO-BREAK SPACE}") for n in v.numbers)
        rows.append(f"| {v.claim.text} ({v.claim.where}) | {numbers} | {v.verdict} | {link} |")
    return "\n".join(rows)


def statements_list(verdicts):
    """Markdown list of the statements behind the verdicts, with the command that recomputes their numbers."""
    words = {HOLDS: "holds", FAILS: "does not hold", UNDECIDED: "undecided"}
    return "\n".join(f"- **{v.claim.id}**, {v.verdict}: "
                     + "; ".join(f"{text}: *{words[holds]}*" for text, holds in v.statements) + f" (`{v.command}`)"
                     for v in verdicts if v.statements)


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
    return Verdict(said, tuple(numbers), tuple(statements), LABEL.format("locality"))


def locality_element():
    """Phosphorus beside the larger of the two other elements, at both radii; errors from paired resampling."""
    dft, _ = _locality_curves()
    numbers, statements = [], []
    for k, radius in enumerate((NEAR, FAR)):
        other = max(("Li", "S"), key=lambda e: dft[e].value[k])
        difference = float(dft["P"].value[k] - dft[other].value[k])
        error = _spread(dft["P"].draws[:, k] - dft[other].draws[:, k])
        numbers.append(Number(f"P less {other}, {radius} Å", difference, error, "eV/Å"))
        statements.append((f"at {radius} Å P has the largest", decided(difference, error)))
    return Verdict(claim("locality-element"), tuple(numbers), tuple(statements), LABEL.format("locality"))


def baseline_locality():
    """The change of the locality error by the baseline: lower far away, most for P; higher near by, for P and S."""
    dft, left = _locality_curves()
    change, draws = {}, {}
    for k, radius in enumerate((NEAR, FAR)):
        for e in locality.ELEMENTS:
            change[radius, e] = float(100 * (left[e].value[k] / dft[e].value[k] - 1))
            draws[radius, e] = 100 * (left[e].draws[:, k] / dft[e].draws[:, k] - 1)
    numbers = [Number(f"{e}, {r} Å", value, _spread(draws[r, e]), "%") for (r, e), value in change.items()]
    statements = [(f"at {FAR} Å lower for {e}", decided(-change[FAR, e], _spread(draws[FAR, e])))
                  for e in locality.ELEMENTS]
    second = min(("Li", "S"), key=lambda e: change[FAR, e])
    statements.append((f"at {FAR} Å most for P", decided(change[FAR, second] - change[FAR, "P"],
                                                         _spread(draws[FAR, second] - draws[FAR, "P"]))))
    statements += [(f"at {NEAR} Å higher for {e}", decided(change[NEAR, e], _spread(draws[NEAR, e]))) for e in "PS"]
    return Verdict(claim("baseline-locality"), tuple(numbers), tuple(statements), "python -m esgap charges")


def sulfur_charges():
    """Mean Hirshfeld charges of bridging and terminal S in generation 0; errors over frames."""
    frames = read_frames(data_path("dft/gen0.xyz"))
    species = sulfur_species(frames[0])
    means = {kind: np.array([a.arrays["hirshfeld"][species == kind].mean() for a in frames])
             for kind in ("bridging", "terminal")}
    numbers = [Number(f"{kind} S", float(q.mean()), _standard_error(q), "e") for kind, q in means.items()]
    between = means["bridging"] - means["terminal"]
    apart = decided(abs(between.mean()), _standard_error(between))
    numbers.append(Number("difference", float(between.mean()), _standard_error(between), "e"))
    return Verdict(claim("sulfur-charges"), tuple(numbers), (("the two charges differ", apart),),
                   LABEL.format("gen0"))


def _ahead():
    """Of `python -m esgap learning`: rows tested on frames not trained on, (generation, that set's entry)."""
    record = read_record(data_path("runs/learning.json"))
    return [(row["generation"], row["sets"]["ahead"]) for row in record["generations"] if "ahead" in row["sets"]]


def average_error():
    """Force RMSE of both models on the frames of a generation that neither had seen; paired errors over frames."""
    _, entry = _ahead()[-1]
    numbers = [Number(m, 1e3 * entry["rmse"][m]["all"], 1e3 * entry["error"][m]["all"], "meV/Å")
               for m in ("GAP", "ES-GAP")]
    d, bar = entry["difference"]["all"], entry["difference_error"]["all"]
    numbers.append(Number("ES-GAP less GAP", 1e3 * d, 1e3 * bar, "meV/Å"))
    return Verdict(claim("average-error"), tuple(numbers), (("GAP's error is the lower", decided(d, bar)),),
                   "python -m esgap learning")


def element_errors():
    """ES-GAP's force RMSE less GAP's by element, on the same frames."""
    _, entry = _ahead()[-1]
    d, bar = entry["difference"], entry["difference_error"]
    numbers = [Number(f"{e}, ES-GAP less GAP", 1e3 * d[e], 1e3 * bar[e], "meV/Å") for e in locality.ELEMENTS]
    statements = (("worse for S", decided(d["S"], bar["S"])), ("better for Li", decided(-d["Li"], bar["Li"])),
                  ("better for P", decided(-d["P"], bar["P"])))
    return Verdict(claim("element-errors"), tuple(numbers), statements, "python -m esgap learning")


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
        mean, error = float(change.mean()), _standard_error(change)
        numbers.append(Number(f"{model}, other path less own", mean, error, "eV"))
        statements.append((f"{model}: within {1e3 * ALMOST:.0f} meV", decided(ALMOST - mean, error)))
    return Verdict(said, tuple(numbers), tuple(statements), "python -m esgap paths")


def barrier_order():
    """Barriers of GAP, DFT and ES-GAP, mean differences over hops; DFT single points on the paths of both models."""
    said, hops = claim("barrier-order"), _hops()
    if len(hops) < 2:
        return Verdict(said)
    own = np.array([h.barrier("ES-GAP", "ES-GAP") - h.barrier("GAP", "GAP") for h in hops])
    numbers = [Number("ES-GAP less GAP", float(own.mean()), _standard_error(own), "eV")]
    statements = [("GAP below ES-GAP", decided(own.mean(), _standard_error(own)))]
    for low, high, model in (("GAP", "DFT", "GAP"), ("DFT", "ES-GAP", "ES-GAP")):
        known = [h.barrier(high, model) - h.barrier(low, model) for h in hops if ("DFT", model) in h.profiles]
        if len(known) > 1:
            numbers.append(Number(f"{high} less {low}", float(np.mean(known)), _standard_error(known), "eV"))
        statements.append((f"{low} below {high}", decided(np.mean(known), _standard_error(known))
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
    log, error = float(np.log(found.median)), _spread(np.log(found.draws))
    low, high = (np.log(1 + x / 100) for x in said.value)
    numbers = (Number("GAP above ES-GAP", 100 * (found.median - 1), 100 * found.median * error, said.unit),)
    statements = (("GAP conducts better", decided(log, error)),
                  (f"they differ by more than {said.value[0]} %", decided(abs(log) - low, error)),
                  (f"they differ by less than {said.value[1]} %", decided(high - abs(log), error)))
    return Verdict(said, numbers, statements, "python -m esgap conductivity")


def frenkel_energy(name, which, unit="eV"):
    """Formation energies of one model in the largest cell beside the paper's; error: the scatter between pairs."""
    said, sweeps = claim(name), frenkel_summary.shipped()
    found = frenkel_summary.largest(sweeps)
    mean, scatter = found.mean(which)
    label = which.replace("_", "-").upper()
    numbers = [Number(f"{label}, {len(found.pairs)} pairs", mean, scatter, unit)]
    statements = [(f"{label} within {NEARLY} of {said.value} eV", decided(NEARLY - abs(mean - said.value), scatter))]
    dft = frenkel_summary.dft_energies(data_path("dft/frenkel.xyz"))
    for (model, pair, repeat), energy in dft.items():
        if model == label:
            own = sweeps[label].formation_energy(pair, repeat)
            numbers.append(Number(f"DFT less {label}, {pair}", energy - own, 0.0, unit))
    if which == "gap":
        difference, error = found.difference()
        numbers.append(Number("ES-GAP less GAP", difference, error, unit))
        statements.append(("GAP lower than ES-GAP for the same pairs", decided(difference, error)))
        distance, energies = frenkel_summary.scan_difference(sweeps)
        if len(distance) >= 4:
            (_, (strength, error)) = fit_charge_pair(distance, energies)
            numbers.append(Number("ES-GAP less GAP against distance, as q²/ε", strength, error, "e²"))
            statements.append(("ES-GAP less GAP falls like two screened charges as the ions come close",
                               decided(strength, error)))
    return Verdict(said, tuple(numbers), tuple(statements), FRENKEL)


def frenkel_field():
    """The response of ES-GAP's pair: its sign, its dependence on the direction, its curvature; errors from the fits."""
    said, curves = claim("frenkel-field"), frenkel_summary.curves(frenkel_summary.shipped()["ES-GAP"])
    fits = {c.direction: response(c) for c in curves if c.intact.sum() >= 6}
    if not curves:
        return Verdict(said)
    low = min(curves, key=lambda c: c.out[c.intact].min())
    k = int(np.flatnonzero(low.intact)[low.out[low.intact].argmin()])
    error = max(abs(low.out[k] - low.back[k]), 0.001)  # eV; forces below 0.01 eV/A leave no more
    numbers = [Number(f"lowest, at {low.field[k]:+.2f} V/Å along {low.direction}", low.out[k], error, "eV")]
    favourable, strongest = decided(-low.out[k], error), max(c.field.max() for c in curves)
    if favourable is not HOLDS and strongest < said.value:  # stronger fields may still do
        favourable = UNDECIDED
    statements = [(f"favourable in some field up to {strongest:g} {said.unit}", favourable)]
    numbers += [Number(f"slope along {d}", *f.slope, "e Å") for d, f in fits.items()]
    if fits:
        steep, flat = (f(fits.values(), key=lambda r: abs(r.slope[0])) for f in (max, min))
        statements.append(("anisotropic", decided(abs(steep.slope[0]) - abs(flat.slope[0]),
                                                  float(np.hypot(steep.slope[1], flat.slope[1])))))
        bent = max(fits.values(), key=lambda r: abs(r.alpha[0]) / r.alpha[1])
        numbers.append(Number("largest curvature, α", *bent.alpha, "e Å²/V"))
        statements.append(("unsymmetric", decided(abs(bent.alpha[0]), bent.alpha[1])))
    return Verdict(said, tuple(numbers), tuple(statements), FRENKEL)


def frenkel_gap_field():
    """The largest change that any field makes to GAP's formation energies: zero, or it responds."""
    curves = frenkel_summary.curves(frenkel_summary.shipped()["GAP"])
    if not curves:
        return Verdict(claim("frenkel-gap-field"))
    change = max(float(np.abs(c.out - c.out[c.zero]).max()) for c in curves)
    return Verdict(claim("frenkel-gap-field"), (Number("largest change", change, 0.0, "eV"),),
                   (("no response", bool(change < 1e-6)),), FRENKEL)


def _spread(draws):
    return float(np.std(draws, ddof=1))


def _standard_error(values):
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


TESTS = {"locality-size": locality_size, "locality-element": locality_element, "baseline-locality": baseline_locality,
         "sulfur-charges": sulfur_charges, "average-error": average_error, "element-errors": element_errors,
         "barrier-transfer": barrier_transfer, "barrier-order": barrier_order,
         "conductivity-gap": conductivity_gap, "conductivity-es-gap": conductivity_es_gap,
         "conductivity-sampling": conductivity_sampling,
         "frenkel-es-gap": lambda: frenkel_energy("frenkel-es-gap", "es_gap"),
         "frenkel-gap": lambda: frenkel_energy("frenkel-gap", "gap"), "frenkel-field": frenkel_field,
         "frenkel-gap-field": frenkel_gap_field}
