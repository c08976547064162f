"""What was found for the paper's claims on Frenkel pairs in a field, from the stored sweeps (chapter 6)."""
import numpy as np

from . import frenkel_compare, frenkel_dft, frenkel_summary, pair_law
from .claims import claim
from .field_curve import response
from .store import data_path
from .structures import crystal
from .verdicts import HOLDS, UNDECIDED, Number, Verdict, decided

FRENKEL = tuple(f"runs/frenkel{of}-{name}.json" for name in ("gap", "es-gap") for of in ("", "-large"))
LABELS = ("dft/frenkel.xyz", "dft/frenkel-folded.xyz")
NEARLY = 0.1          # eV; a formation energy of "about" x is x up to this
RELAXED = 0.001       # eV; forces below 0.01 eV/A leave no more


def frenkel_energy(name, which, unit="eV"):
    """Formation energies of one model in the paper's cell beside the paper's; error: the scatter between pairs."""
    said, sweeps = claim(name), frenkel_summary.shipped()
    found = frenkel_compare.largest(sweeps)
    mean, scatter = found.mean(which)
    label = which.replace("_", "-").upper()
    numbers = [Number(f"{label}, {len(found.pairs)} pairs", mean, scatter, unit)]
    statements = [(f"{label} within {NEARLY} of {said.value} eV", decided(NEARLY - abs(mean - said.value), scatter))]
    dft = frenkel_dft.dft_energies(data_path("dft/frenkel.xyz"), blocks=data_path("dft/frenkel-folded.xyz"))
    for (model, pair, repeat), energy in sorted(dft.items(), key=lambda item: np.prod(item[0][2])):
        if model == label:
            apart, atoms = energy - sweeps[label].formation_energy(pair, repeat), np.prod(repeat) * len(crystal())
            error = float(np.fmax(sweeps[label].formation_error(pair, repeat), RELAXED))  # what another fit would say
            numbers.append(Number(f"DFT less {label}, {pair}, {atoms} atoms", apart, error, unit))
            statements.append((f"{label} within {NEARLY} eV of DFT, {pair}, {atoms} atoms",
                               decided(NEARLY - abs(apart), error)))
    if which == "gap":
        difference, error = found.difference()
        numbers.append(Number("ES-GAP less GAP", difference, error, unit))
        statements.append(("GAP lower than ES-GAP for the same pairs", decided(difference, error)))
        for held in (True, False):
            law = pair_law.fit_pair_law(pair_law.difference(*pair_law.of_sweeps(sweeps, crystal(), held)))
            numbers.append(Number(f"ES-GAP less GAP as q²/ε, {'all else held' if held else 'all relaxed'}",
                                  law.strength, law.error, "e²"))
        statements.append(("ES-GAP less GAP, relaxed, is that of two screened charges",
                           decided(law.strength, law.error)))
    return Verdict(said, tuple(numbers), tuple(statements), FRENKEL + LABELS)


def frenkel_field():
    """The response of ES-GAP's pair in the largest cell swept: its sign, dependence on the direction, and curvature.

    Errors: of a formation energy the committee's, of slopes and curvatures those of the fits.
    """
    said, sweep = claim("frenkel-field"), frenkel_summary.shipped()["ES-GAP"]
    curves = frenkel_summary.curves(sweep, frenkel_summary.largest_swept(sweep))
    if not curves:
        return Verdict(said)
    fits = {c.direction: response(c) for c in curves if c.intact.sum() >= 6}
    low = min(curves, key=lambda c: c.out[c.intact].min())
    k = int(np.flatnonzero(low.intact)[low.out[low.intact].argmin()])
    error = float(np.fmax(low.error[k], RELAXED))
    numbers = [Number(f"lowest, at {low.field[k]:+.2f} V/Å along {low.direction}", low.out[k], error, "eV")]
    favourable, strongest = decided(-low.out[k], error), max(np.abs(c.field[c.intact]).max() for c in curves)
    if favourable is not HOLDS and strongest < said.value:  # in stronger ones lithium leaves its sites
        favourable = UNDECIDED
    statements = [(f"favourable in some field up to {strongest:g} {said.unit}, all that it survives", favourable)]
    below = [item for k in (0, 2) for item in  # from where on it is lower, and surely so
             sweep.below_crystal(low.pair, frenkel_summary.largest_swept(sweep), k).items()]
    numbers += [Number(f"what it turns into, at {field:.2f} V/Å, {side}", energy, float(np.fmax(bar, RELAXED)), "eV")
                for side, (field, energy, bar) in dict.fromkeys(below)]
    statements.append(("it, or what it turns into, favourable in a field that the crystal survives",
                       any(decided(-n.value, n.error) is HOLDS for n in numbers if n.unit == "eV") or UNDECIDED))
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
    return Verdict(claim("frenkel-gap-field"), (Number("largest change", change, 10.0**-frenkel_summary.DIGITS, "eV"),),
                   (("no response", bool(change < 1e-6)),), FRENKEL)
