"""Fixed charges and Slater exponents: where they come from, and how much of the DFT forces their field explains.

Share of the force variance explained by a baseline, by element: 1 - <|F_DFT - F_ES|^2> / <|F_DFT|^2>. It is 1 for a
perfect model, 0 for no baseline, and negative where bare Coulomb forces, which covalent bonds oppose, are larger than
what is left of them in the total.
Units: e, 1/A, eV/A.
"""
from dataclasses import dataclass

import numpy as np
from ase.units import Bohr

from .claims import literature
from .slater import exponent_1s
from .store import data_path, read_record

FORMAL = {"Li": 1.0, "P": 5.0, "S": -2.0}  # e
FITTED = "runs/charges.json"  # written by `python -m esgap charges`


def qeq_exponents():
    """1s exponents in 1/A by element: those of QEq, as 1s clouds of the same mean radius (`slater.exponent_1s`).

    QEq (Rappe & Goddard 1991) uses ns clouds, zeta_ns = lambda (2n+1) a0 / (2 R); `data/literature.toml`.
    """
    return {s: exponent_1s(p["zeta"] / Bohr, p["n"]) for s, p in literature("qeq").items() if isinstance(p, dict)}


def fitted_charges():
    """Charges in e by element that minimise the locality error at 6 A, and their standard errors -> (dict, dict)."""
    record = read_record(data_path(FITTED))
    return record["charges"], record["error"]


def neutral_charges(atoms, charges, by="S"):
    """Charges by element with that of element `by` set such that `atoms` is neutral. charges: e, without `by`."""
    symbols = list(atoms.symbols)
    missing = sorted(set(symbols) - set(charges) - {by})
    if missing or by not in symbols:
        raise ValueError(f"no charge for {', '.join(missing) or by} in {atoms.symbols}; given are "
                         f"{', '.join(sorted(charges))}, and {by} follows from neutrality")
    rest = sum(charges[s] for s in symbols if s != by)
    return {s: float(q) for s, q in charges.items() if s != by} | {by: -rest / symbols.count(by)}


@dataclass(frozen=True)
class ForceShare:
    """Share of the DFT force variance that a baseline explains, by element, with its bootstrap standard error."""

    share: dict[str, float]  # "all" and each element
    error: dict[str, float]
    correlation: dict[str, float]  # cosine of the angle between the two sets of components
    n_frames: int
    dft: dict[str, np.ndarray]  # force components (n, 3) eV/A, by element
    baseline: dict[str, np.ndarray]

    def scaled(self, factor, key="all"):
        """Share explained by the charges times `factor` (array or number): forces go with its square."""
        f, g = self.dft[key], self.baseline[key]
        s = np.asarray(factor, float) ** 2
        return 1 - ((f**2).sum() - 2 * s * (f * g).sum() + s**2 * (g**2).sum()) / (f**2).sum()

    def best_factor(self, key="all"):
        """Factor on the charges with the largest share; 0 if any charge makes it worse."""
        f, g = self.dft[key], self.baseline[key]
        return float(np.sqrt(max(0.0, (f * g).sum() / max((g**2).sum(), 1e-300))))

    def __str__(self):
        return "\n".join(f"{k:>3}: share {self.share[k]:+.2f} +- {self.error[k]:.2f}, "
                         f"correlation {self.correlation[k]:+.2f}" for k in self.share)


def force_share(frames, baseline, n_bootstrap=200, seed=0):
    """How much of the labelled forces of `frames` the ASE calculator `baseline` explains -> `ForceShare`.

    The bootstrap draws whole frames: atoms of one frame are not independent.
    """
    symbols = np.array(frames[0].get_chemical_symbols())
    if any(list(a.symbols) != list(symbols) for a in frames):
        raise ValueError("frames hold different atoms; compare frames of one composition and order at a time")
    dft = np.array([a.get_forces() for a in frames])  # (n_frames, n_atoms, 3)
    model = np.array([baseline.get_property("forces", a) for a in frames])
    draws = np.random.default_rng(seed).integers(len(frames), size=(n_bootstrap, len(frames)))
    share, error, correlation, kept = {}, {}, {}, {}
    for key in ("all", *dict.fromkeys(symbols)):
        f, g = (x if key == "all" else x[:, symbols == key] for x in (dft, model))
        left, total = (((f - g) ** 2).sum((1, 2)), (f**2).sum((1, 2)))
        share[key] = float(1 - left.sum() / total.sum())
        error[key] = float(np.std(1 - left[draws].sum(1) / total[draws].sum(1), ddof=1))
        correlation[key] = float((f * g).sum() / np.sqrt((f**2).sum() * max((g**2).sum(), 1e-300)))
        kept[key] = f.reshape(-1, 3), g.reshape(-1, 3)
    return ForceShare(share, error, correlation, len(frames), {k: v[0] for k, v in kept.items()},
                      {k: v[1] for k, v in kept.items()})
