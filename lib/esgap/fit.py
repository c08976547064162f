"""Fit of a Gaussian approximation potential to energies, forces and stresses by regularised least squares.

    minimise  sum_rows ((K alpha - y)/sigma)^2 + alpha^T K_MM alpha
    y: E - sum e0 - E_baseline;  -(F - F_baseline);  V (stress - stress_baseline)

As in gap_fit, sigma_energy and sigma_virial are per atom and are multiplied by sqrt(N). A baseline is subtracted here
and added again by the caller's SumCalculator: the fitted model never contains it. Units eV, A.
"""
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from threadpoolctl import threadpool_limits

from .design import DesignMatrix, Target, frame_descriptors, solve
from .gap import SparseGAP, Term
from .soap import Soap

DUPLICATE = 1e-10  # descriptors closer than this are the same environment


@dataclass(frozen=True)
class FitSettings:
    """What to fit. `soap` is the descriptor of every element: its Z is set, and species_Z too unless it is given."""

    soap: Soap
    n_sparse: int | Mapping = 500              # per element, or by symbol
    delta: float = 1.0                         # eV, prior standard deviation of a local energy
    zeta: float = 4.0
    sigma_energy: float = 0.001                # eV per atom
    sigma_force: float | Mapping = 0.05        # eV/A, or by symbol; an array `force_atom_sigma` of a frame comes first
    sigma_virial: float = 0.02                 # eV per atom
    kinds: Mapping = field(default_factory=dict)  # config_type -> {"sigma_energy": ..., "sigma_force": ..., ...}
    e0: str | Mapping = "isolated"             # "isolated" (one-atom frames), "fit" (least squares), or eV by symbol
    selection: str = "cur"                     # or "farthest"
    seed: int = 0
    jitter: float = 1e-8                       # eV^2, added to the diagonal of K_MM

    def __post_init__(self):
        if not isinstance(self.soap, Soap):
            raise ValueError(f"the descriptor is {self.soap!r}; SOAP terms alone are fitted here: fit distance_2b "
                             "terms with the program gap_fit and take the model as `baseline`, esgap.GAP.load(path)")
        if self.selection not in ("cur", "farthest"):
            raise ValueError(f"selection is {self.selection!r}; use 'cur' or 'farthest'")
        if isinstance(self.e0, str) and self.e0 not in ("isolated", "fit"):
            raise ValueError(f"e0 is {self.e0!r}; use 'isolated', 'fit', or energies in eV by symbol")
        for kind, values in {"settings": vars(self), **self.kinds}.items():
            for name in ("sigma_energy", "sigma_force", "sigma_virial"):
                sigma = values.get(name, 1.0)
                for s in sigma.values() if isinstance(sigma, Mapping) else [sigma]:
                    if not s > 0:
                        raise ValueError(f"{name} of {kind} is {s}; it must be positive (to drop data, make it large)")


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted model with the root mean square residuals on its own training data, and the design matrix for reuse."""

    model: SparseGAP
    settings: FitSettings
    rmse: dict                       # "energy" eV/atom, "force" eV/A, "stress" eV/A^3, "force_Li" ...
    n_frames: int
    design: DesignMatrix | None = None
    log: str = ""                    # gap_fit's output, if that was the trainer

    @property
    def calculator(self):
        """The model as an ASE calculator (without the baseline)."""
        from .gap_calculator import GAP
        return GAP(self.model)

    def __str__(self):
        values = ", ".join(f"{k} {v:.4g}" for k, v in self.rmse.items())
        return f"{self.model}\n  {self.n_frames} frames, training RMSE (eV/atom, eV/A, eV/A^3): {values}"


@dataclass(frozen=True)
class Labels:
    """Reference values of one frame less the baseline: energy eV, forces (n, 3) eV/A, virial (3, 3) eV or None."""

    energy: float
    forces: np.ndarray
    virial: np.ndarray | None


def read_labels(frames, baseline=None):
    """Labels of frames from their calculators; virial = -V stress. The baseline (any ASE calculator) is subtracted,
    except from single atoms: they are the reference at infinite distance."""
    out = []
    for k, atoms in enumerate(frames):
        name = f"frame {k} ({atoms.info.get('name', atoms.get_chemical_formula())})"
        results = atoms.calc.results if atoms.calc is not None else {}
        for what in ("energy",) if len(atoms) == 1 else ("energy", "forces"):
            if what not in results:
                raise ValueError(f"{name} has no {what}: label it, or leave it out")
        energy, forces = float(results["energy"]), np.array(results.get("forces", np.zeros((len(atoms), 3))), float)
        stress = _full(results["stress"]) if "stress" in results and len(atoms) > 1 else None
        if baseline is not None and len(atoms) > 1:
            copy = atoms.copy()
            baseline.calculate(copy, ["energy", "forces", "stress"])
            energy, forces = energy - baseline.results["energy"], forces - baseline.results["forces"]
            stress = None if stress is None else stress - _full(baseline.results["stress"])
        for what, value in (("energy", energy), ("forces", forces), ("stress", stress)):
            if value is not None and not np.all(np.isfinite(value)):
                raise ValueError(f"{what} of {name} is not finite: label it again, or leave it out")
        out.append(Labels(energy, forces, None if stress is None else -atoms.get_volume() * stress))
    return out


def _full(stress):
    from ase.stress import voigt_6_to_full_3x3_stress
    stress = np.asarray(stress, float)
    full = stress if stress.shape == (3, 3) else voigt_6_to_full_3x3_stress(stress)
    return (full + full.T) / 2


def atom_energies(frames, labels, e0):
    """e0 in eV by atomic number, from settings.e0."""
    elements = sorted({int(Z) for a in frames for Z in a.numbers})
    if isinstance(e0, Mapping):
        missing = [chemical_symbols[Z] for Z in elements if chemical_symbols[Z] not in e0]
        if missing:
            raise ValueError(f"e0 has no value for {', '.join(missing)}: give the energy of every element in eV")
        return {Z: float(e0[chemical_symbols[Z]]) for Z in elements}
    if e0 == "isolated":
        found = {int(a.numbers[0]): x.energy for a, x in zip(frames, labels, strict=True) if len(a) == 1}
        missing = [chemical_symbols[Z] for Z in elements if Z not in found]
        if missing:
            raise ValueError(f"e0='isolated' needs a one-atom frame of each element; none of {', '.join(missing)}: "
                             "add them, or use e0='fit' or energies by symbol")
        return {Z: found[Z] for Z in elements}
    counts = np.array([[np.sum(a.numbers == Z) for Z in elements] for a in frames], float)
    energies = np.array([x.energy for x in labels])
    mean = energies.sum() / counts.sum()  # compositions may be too few to tell elements apart: then this stays
    correction = np.linalg.lstsq(counts, energies - mean * counts.sum(1), rcond=1e-10)[0]
    return {Z: float(mean + x) for Z, x in zip(elements, correction, strict=True)}


def targets_of(frames, labels, e0, settings):
    """One Target per frame: values for the rows of the design matrix with the standard deviations of the settings."""
    return [_target(a, x, e0, settings) for a, x in zip(frames, labels, strict=True)]


def _target(atoms, labels, e0, settings):
    def sigma(name):
        return settings.kinds.get(atoms.info.get("config_type"), {}).get(name, getattr(settings, name))

    n = len(atoms)
    rows, y, s = [0], [labels.energy - sum(e0[int(Z)] for Z in atoms.numbers)], [sigma("sigma_energy") * np.sqrt(n)]
    if n > 1:
        force = sigma("sigma_force")
        if isinstance(force, Mapping):
            missing = {str(x) for x in atoms.symbols} - set(force)
            if missing:
                raise ValueError(f"sigma_force has no value for {', '.join(sorted(missing))}")
            force = [force[x] for x in atoms.symbols]
        force = atoms.arrays.get("force_atom_sigma", np.broadcast_to(force, n))
        rows += range(1, 1 + 3 * n)
        y += (-labels.forces).ravel().tolist()
        s += np.repeat(force, 3).tolist()
    if labels.virial is not None:
        rows += range(1 + 3 * n, 7 + 3 * n)
        y += [-labels.virial[i, j] for j in range(3) for i in range(j, 3)]
        s += [sigma("sigma_virial") * np.sqrt(n)] * 6
    return Target(np.array(rows), np.array(y), np.array(s))


def choose_points(p, n, selection, seed):
    """Indices of n of the descriptors p (n_environments, D), deterministic for a seed, duplicates left out.

    "cur": drawn without replacement in proportion to their leverage in the leading singular vectors
    (Mahoney & Drineas, PNAS 106, 697 (2009)). "farthest": each point the one least like those before it."""
    _, first = np.unique(np.round(p / DUPLICATE / 10), axis=0, return_index=True)
    first.sort()
    if n > len(first):
        raise ValueError(f"n_sparse is {n}, but there are only {len(first)} different environments: "
                         "ask for fewer points or add frames")
    rng, p = np.random.default_rng(seed), p[first]
    if selection == "cur":
        U, w, _ = np.linalg.svd(p, full_matrices=False)
        leverage = (U[:, :min(n, int(np.sum(w > 1e-12 * w[0])))]**2).sum(1)
        return np.sort(first[rng.choice(len(p), n, replace=False, p=leverage / leverage.sum())])
    chosen = [int(rng.integers(len(p)))]
    similarity = np.full(len(p), -np.inf)
    while len(chosen) < n:
        similarity = np.maximum(similarity, p @ p[chosen[-1]])
        similarity[chosen] = np.inf
        chosen.append(int(np.argmin(similarity)))
    return np.sort(first[chosen])


def sparse_terms(frames, settings, progress=False):
    """Terms with chosen sparse points and zero weights, one per element in the frames."""
    elements = tuple(sorted({int(Z) for a in frames for Z in a.numbers}))
    given = settings.soap.species_Z != (0,)
    species = settings.soap.species_Z if given else elements
    unknown = [chemical_symbols[Z] for Z in elements if Z not in species]
    if unknown:
        raise ValueError(f"frames contain {', '.join(unknown)}, which is not in species_Z={species} of the descriptor: "
                         "add it there or leave the frames out")
    soaps = [replace(settings.soap, Z=Z, species_Z=species, central_reference_all_species=len(species) == 1)
             for Z in elements]
    empty = [Term(s, np.zeros((1, s.n_components)), np.zeros(1), settings.delta, settings.zeta) for s in soaps]
    terms = []
    for t, p in zip(empty, frame_descriptors(empty, frames, progress), strict=True):
        n = settings.n_sparse
        if isinstance(n, Mapping):
            n = n[chemical_symbols[t.soap.Z]]
        try:
            chosen = choose_points(p, n, settings.selection, [settings.seed, t.soap.Z])
        except ValueError as error:
            raise ValueError(f"{chemical_symbols[t.soap.Z]}: {error}") from None
        terms.append(replace(t, X=p[chosen], alpha=np.zeros(len(chosen))))
    return tuple(terms)


@threadpool_limits.wrap(limits=1, user_api="blas")  # on busy cores two BLAS threads are 40 times slower
def fit_gap(frames, settings, baseline=None, trainer="jax", design=None, progress=False):
    """Fit a SparseGAP to labelled frames -> Fit.

    frames: ASE Atoms whose calculators hold energy, forces and (where wanted) stress; one-atom frames give e0.
    baseline: ASE calculator whose energy, forces and stress are subtracted first. design: DesignMatrix of an earlier
    Fit; its sparse points are kept and only frames new to it are computed. trainer: "jax", or "gap_fit" for the
    program of that name (same sparse points and sigmas, hence the same weights; much more memory).
    Two-body terms are not fitted: esgap.GAP.load reads those that gap_fit has fitted, also for the baseline.
    """
    if trainer not in ("jax", "gap_fit"):
        raise ValueError(f"trainer is {trainer!r}; use 'jax' or 'gap_fit'")
    frames = list(frames)
    if not frames:
        raise ValueError("there are no frames to fit to")
    labels = read_labels(frames, baseline)
    e0 = atom_energies(frames, labels, settings.e0)
    terms = design.terms if design is not None else sparse_terms(frames, settings, progress)
    _check_reuse(terms, frames, settings)
    targets, log = targets_of(frames, labels, e0, settings), ""
    if trainer == "gap_fit":
        from .gapfit import run_gap_fit
        alpha, log = run_gap_fit(frames, labels, targets, e0, terms, settings.jitter)
    design = design if design is not None else DesignMatrix(terms)
    design.add(frames, progress)
    if trainer == "jax":
        alpha = solve(design, frames, targets, settings.jitter)
    split = np.split(alpha, np.cumsum([len(t.X) for t in terms])[:-1])
    model = SparseGAP(tuple(replace(t, alpha=a) for t, a in zip(terms, split, strict=True)), e0, "GAP_esgap")
    return Fit(model, settings, residuals(design, frames, targets, alpha), len(frames), design, log)


def _check_reuse(terms, frames, settings):
    known = {t.soap.Z for t in terms}
    new = {int(Z) for a in frames for Z in a.numbers} - known
    if new and 0 not in known:
        raise ValueError(f"the design matrix has no term for {', '.join(chemical_symbols[Z] for Z in sorted(new))}: "
                         "fit without `design` to choose new sparse points")
    for t in terms:
        if (t.delta, t.zeta) != (settings.delta, settings.zeta):
            raise ValueError(f"the design matrix was made with delta={t.delta}, zeta={t.zeta}, the settings say "
                             f"{settings.delta} and {settings.zeta}: fit without `design`")


def residuals(design, frames, targets, alpha):
    """Root mean square residuals of a fit, see Fit.rmse."""
    found = {"energy": [], "force": [], "stress": []}
    for a, t in zip(frames, targets, strict=True):
        n, r = len(a), design[a][t.rows] @ alpha - t.y
        if n == 1:
            continue
        found["energy"].append(r[:1] / n)
        found["force"].append(r[1:1 + 3 * n])
        found["stress"].append(r[1 + 3 * n:] / a.get_volume() if len(r) > 1 + 3 * n else np.zeros(0))
        for symbol in sorted(set(a.symbols), key=atomic_numbers.get):
            found.setdefault(f"force_{symbol}", []).append(r[1:1 + 3 * n].reshape(n, 3)[a.symbols == symbol].ravel())
    joined = {k: np.concatenate(v) for k, v in found.items() if v}
    return {k: float(np.sqrt(np.mean(v**2))) for k, v in joined.items() if v.size}
