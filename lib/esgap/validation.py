"""Errors of a model on labelled frames it was not trained on.

    RMSE = sqrt(sum_frames sum_components (F_model - F_DFT)^2 / number of components)      forces, per component, eV/A
    RMSE = sqrt(mean_frames ((E_model - E_DFT)/N)^2)                                      energies, meV/atom

Nothing is removed from the energies, neither a mean nor a slope. Standard errors come from a bootstrap over whole
frames: the atoms of one frame are not independent. Two models are compared on the same frames with the same draws.
"""
from dataclasses import dataclass, field

import numpy as np

from .neighbours import neighbour_pairs
from .structures import sulfur_species

SHORT_CONTACT = 1.9  # A, Li-S; ordinary ones are 2.3 to 2.6, and none this short is met in the crystal at 800 K
# Frames with a shorter one: they tell the fit where the repulsive wall is, with a fifth of the confidence.
KINDS = {"short-contact": {"sigma_energy": 0.005, "sigma_force": 0.25, "sigma_virial": 0.1}}
N_AMPLITUDES = 4     # generation 0 cycles through so many amplitudes, see `structures.initial_configurations`


def shortest_contact(atoms, a="Li", b="S", within=3.0):
    """Shortest distance in A between elements a and b, images included; `within` if none is shorter than that."""
    pairs = neighbour_pairs(atoms.positions, atoms.cell.complete().array, atoms.pbc, within)
    symbols = np.array(atoms.get_chemical_symbols())
    d = atoms.positions[pairs.j] - atoms.positions[pairs.i] + pairs.S @ atoms.cell.array
    between = (symbols[pairs.i] == a) & (symbols[pairs.j] == b)
    return float(np.sqrt((d[between] ** 2).sum(1).min(initial=within**2)))


def mark_short_contacts(frames, threshold=SHORT_CONTACT):
    """The frames, those with a Li-S contact below `threshold` as copies of config_type "short-contact".

    With `FitSettings(..., kinds=KINDS)` they count less in a fit, and `split` never holds them out.
    """
    out = []
    for atoms in frames:
        if shortest_contact(atoms) < threshold:
            label, atoms = atoms.calc, atoms.copy()
            atoms.calc, atoms.info["config_type"] = label, "short-contact"
        out.append(atoms)
    return out


def stratum(atoms):
    """What makes two frames alike: (generation, config_type, amplitude: the number in the name modulo 4, or -1)."""
    number = str(atoms.info.get("name", "")).rpartition("-")[2]
    return (int(atoms.info.get("generation", -1)), str(atoms.info.get("config_type", "")),
            int(number) % N_AMPLITUDES if number.isdigit() else -1)


def split(frames, fraction=0.3, seed=0, n_train=None):
    """Training and held-out frames, every stratum in both -> (train, test), in the order of `frames`.

    Of each stratum of two or more frames `fraction` (at least one, not all) is held out, drawn from `seed`. The
    crystal, alone in its stratum, and frames with short contacts are trained on. n_train: keep so many, evenly spaced.
    """
    rng, members, held = np.random.default_rng(seed), {}, set()
    for k, atoms in enumerate(frames):
        members.setdefault(stratum(atoms), []).append(k)
    for key in sorted(members):
        n = len(members[key])
        if n > 1 and key[1] not in KINDS:
            held.update(rng.permutation(members[key])[:min(n - 1, max(1, round(fraction * n)))].tolist())
    if not held:
        raise ValueError(f"none of the {len(frames)} frames can be held out: every stratum (generation, config_type, "
                         "amplitude) has a single frame; give more frames")
    train = [a for k, a in enumerate(frames) if k not in held]
    if n_train is not None:
        if not 1 <= n_train <= len(train):
            raise ValueError(f"n_train is {n_train}, but {len(train)} frames remain for training: ask for 1 to that")
        train = [train[k] for k in np.linspace(0, len(train) - 1, n_train).round().astype(int)]
    return train, [frames[k] for k in sorted(held)]


@dataclass(frozen=True, eq=False)
class Difference:
    """By how much the second model's RMSE exceeds the first's, with the bootstrap error of the paired difference."""

    value: dict[str, float]  # as in Errors.rmse
    error: dict[str, float]

    def __str__(self):
        return "\n".join(_line(k, self.value[k], self.error[k], "+") for k in self.value)


@dataclass(frozen=True, eq=False)
class Errors:
    """Errors of one model: RMSE of forces ("all", "Li", "S bridging", ...; eV/A) and "energy" (meV/atom)."""

    rmse: dict[str, float]
    error: dict[str, float]                               # bootstrap standard error
    n_frames: int
    squares: dict[str, np.ndarray] = field(repr=False)    # (n_frames, 2): sum of squares, number of components
    draws: np.ndarray = field(repr=False)                 # (n_bootstrap, n_frames), the frames of each resampling
    reference: dict[str, np.ndarray] = field(repr=False)  # forces (n, 3) eV/A; energies (n_frames,) eV/atom
    model: dict[str, np.ndarray] = field(repr=False)

    def __str__(self):
        head = f"held-out RMSE, {self.n_frames} frames"
        return "\n".join([head] + [_line(k, self.rmse[k], self.error[k]) for k in self.rmse])

    def minus(self, first):
        """This model's RMSE less that of `first`, on the same frames -> `Difference`; positive where this is worse."""
        if self.draws.shape != first.draws.shape or any(
                not np.array_equal(self.reference[k], first.reference[k]) for k in self.reference):
            raise ValueError("the two errors belong to different frames; evaluate both models on the same list")
        value = {k: self.rmse[k] - first.rmse[k] for k in self.rmse}
        return Difference(value, {k: _spread(_resampled(self.squares[k], self.draws)
                                             - _resampled(first.squares[k], first.draws)) for k in value})


def _line(key, value, error, sign=""):
    unit, digits = ("meV/atom", 2) if key == "energy" else ("eV/Å", 3)
    return f"{key:>11}: {value:{sign}.{digits}f} +- {error:.{digits}f} {unit}"


def held_out_errors(frames, calculator, n_bootstrap=1000, seed=0):
    """Errors of an ASE calculator (baseline added: `esgap.es_gap`) on labelled frames -> `Errors`."""
    if len(frames) < 2:
        raise ValueError(f"{len(frames)} frame is too few for an error bar: hold out two or more")
    symbols = sorted({s for a in frames for s in a.symbols})
    keys = ("all", *symbols, *(("S bridging", "S terminal") if "S" in symbols else ()))
    groups = [_groups(a, symbols) for a in frames]
    reference, model, squares = {"energy": []}, {"energy": []}, {}
    forces = []  # one pair (n, 3) of reference and model per frame
    for atoms in frames:
        copy = atoms.copy()
        for out, calc, a in ((reference, atoms.calc, atoms), (model, calculator, copy)):
            out["energy"].append(calc.get_property("energy", a) / len(atoms))
        forces.append((atoms.calc.get_property("forces", atoms), calculator.get_property("forces", copy)))
    for key in keys:
        pairs = [(f[g[key]], h[g[key]]) for (f, h), g in zip(forces, groups, strict=True)]
        squares[key] = np.array([(((f - h) ** 2).sum(), f.size) for f, h in pairs])
        reference[key], model[key] = (np.concatenate(x) for x in zip(*pairs, strict=True))
    reference["energy"], model["energy"] = np.array(reference["energy"]), np.array(model["energy"])
    squares["energy"] = np.column_stack([(1e3 * (model["energy"] - reference["energy"])) ** 2, np.ones(len(frames))])
    squares = {k: s for k, s in squares.items() if s[:, 1].any()}
    draws = np.random.default_rng(seed).integers(len(frames), size=(n_bootstrap, len(frames)))
    return Errors({k: float(np.sqrt(s[:, 0].sum() / s[:, 1].sum())) for k, s in squares.items()},
                  {k: _spread(_resampled(s, draws)) for k, s in squares.items()}, len(frames), squares, draws,
                  {k: reference[k] for k in squares}, {k: model[k] for k in squares})


def _groups(atoms, symbols):
    """Which atoms count where: "all", each element, S also by what it is bonded to -> {name: (n,) bool}."""
    elements, sulfur = np.array(atoms.get_chemical_symbols()), sulfur_species(atoms)
    return ({"all": np.ones(len(atoms), bool)} | {s: elements == s for s in symbols}
            | {f"S {s}": sulfur == s for s in ("bridging", "terminal")})


def _resampled(squares, draws):
    """RMSE of each resampling (n_bootstrap,); NaN where no atom of a rare kind was drawn."""
    total = squares[draws].sum(1)
    return np.sqrt(np.divide(total[:, 0], total[:, 1], out=np.full(len(draws), np.nan), where=total[:, 1] > 0))


def _spread(values):
    return float(np.nanstd(values, ddof=1))
