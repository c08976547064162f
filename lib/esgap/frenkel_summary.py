"""What the book ships of a sweep: energies, dipoles and fates of all points without their positions, and one story.

    data/runs/frenkel-<model>.json   a summary, 100 bytes a point; read it as `Sweep`, without frames
    data/runs/frenkel-<model>.xyz    the story: the first pair swept in a field, before and after relaxation and in it

GAP and ES-GAP are compared pair by pair, over pairs that survive the relaxation with both: the scatter between pairs
(standard deviation) is large, that of the differences (standard error of their mean) is not.
Units: A, eV, e, V/A.
"""
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from .field_response import Row, Sweep, read_pairs
from .frenkel import direction_vector, perfect_cell
from .models import LABELS
from .store import data_path, read_frames, read_record, write_frames, write_record

DIGITS = 6  # of energies and dipoles: relaxations end within 1e-5 eV


def write_summary(sweep, path, inputs=()):
    """Write a `Sweep` to `path` (.json) without its frames."""
    rows = {name: [round(r.energy, DIGITS), r.became, [round(x, DIGITS) for x in r.dipole],
                   round(r.error, DIGITS) if np.isfinite(r.error) else None, round(r.step, 3)]
            for name, r in sweep.rows.items()}
    write_record(path, {
        "model": sweep.model, "generation": sweep.generation, "cutoff": sweep.cutoff,
        "charges": sweep.charges, "exponents": sweep.exponents,
        "directions": {d: np.asarray(u).tolist() for d, u in sweep.directions.items()},
        "pairs": {n: {**asdict(p), "vector": np.asarray(sweep.vectors[n]).tolist()} for n, p in sweep.pairs.items()},
        "rows": rows}, inputs)


def load_summary(path):
    """The `Sweep` that `write_summary` wrote; its frames are left out."""
    r = read_record(path)
    rows = {name: Row(energy, became, tuple(mu), np.nan if error is None else error, step)
            for name, (energy, became, mu, error, step) in r["rows"].items()}
    return Sweep(rows, r["model"], r["charges"], read_pairs(r["pairs"]),
                 {n: np.array(p["vector"]) for n, p in r["pairs"].items()}, r["directions"],
                 generation=r["generation"], cutoff=r["cutoff"], exponents=r["exponents"])


def shipped():
    """{"GAP": `Sweep`, "ES-GAP": `Sweep`} of the shipped summaries. FileNotFoundError if one is missing."""
    sweeps = (load_summary(data_path(f"runs/frenkel-{name}.json")) for name in LABELS)
    return {sweep.label: sweep for sweep in sweeps}


def write_story(sweep, crystal, path):
    """Bare frames, on one branch: the perfect cell, the pair as built, relaxed, and at all fields on the way out.

    Of the pair that was swept in the largest cell; without fields, of the first that survives in its largest cell.
    """
    there = [(n, "", sweep.repeats(n)[-1]) for n in sweep.pairs]
    there.sort(key=lambda which: sweep.became(which[0], which[2]) != "")  # those that survive first
    swept = sorted(sweep.swept(), key=lambda which: -np.prod(which[2]))
    pair, _, repeat = (*swept, *there)[0]
    cell = f"{'x'.join(map(str, repeat))}"
    frames = {"perfect": sweep.frames[f"{cell}/perfect/0/out"], "built": sweep.pairs[pair].cell(crystal, repeat)}
    frames |= {n.split("/")[2]: a for n, a in sweep.frames.items() if n.startswith(f"{cell}/{pair}/")
               and n.endswith("/out") and (n.split("/")[2] == "0" or any(sweep.charges.values()))}
    bare = []
    for name, atoms in frames.items():
        bare.append(Atoms(atoms.symbols, atoms.positions.round(4), cell=atoms.cell, pbc=True))
        bare[-1].info.update(name=f"{cell}/{pair}/{name}", config_type="frenkel")
    write_frames(path, bare)


def read_story(path):
    """(pair, repeat, {"perfect", "built", "0", "x+0.1000", ...: Atoms}) of what `write_story` wrote."""
    frames = read_frames(path)
    cell, pair, _ = frames[0].info["name"].split("/")
    return pair, tuple(map(int, cell.split("x"))), {a.info["name"].split("/")[2]: a for a in frames}


def dft_energies(path, held=False):
    """Formation energies (eV) from labelled `frenkel_run.dft_frames`: {(model, pair, repeat): eV}; empty if no file.

    model: GAP or ES-GAP, on whose relaxed geometries (perfect cell and pair) these are. held: of pairs of which only
    the moved ion has relaxed, in the relaxed perfect cell.
    """
    if not Path(path).exists():
        return {}
    energies = {a.info["name"].removeprefix("frenkel-"): a.get_potential_energy() for a in read_frames(path)}
    found = {}
    for name, energy in energies.items():
        model, cell, pair, point, leg = name.split("/")
        perfect = f"{model}/{cell}/perfect/0/out"
        if (point, leg) == ("0", "held" if held else "out") and pair != "perfect" and perfect in energies:
            found[model.upper(), pair, tuple(map(int, cell.split("x")))] = energy - energies[perfect]
    return found


def dft_note(sweeps, dft, held=()):
    """Sentence on how far each model is from DFT on the geometry that it has relaxed itself; on what is missing if dft
    (as from `dft_energies`) is empty. held: the same as dft, all but the moved ion held."""
    if not dft:
        return "DFT energies of these geometries are still to be computed, so which potential is nearer to DFT is open."
    said = []
    both = [(key, fixed, e) for fixed, found in ((False, dft), (True, dict(held))) for key, e in found.items()]
    for (model, pair, repeat), fixed, energy in sorted(both, key=lambda x: (x[0][1:], x[1], x[0][0] != "GAP")):
        less = round(1e3 * (sweeps[model].formation_energy(pair, repeat, fixed) - energy)) + 0  # no -0
        error = sweeps[model].formation_error(pair, repeat, fixed)
        bar = f" ± {1e3 * error:.0f}" if np.isfinite(error) else ""
        cell = "×".join(map(str, repeat))
        said.append(f"{model} less DFT is {less:+.0f}{bar} meV (pair {pair} in the {cell} cell, geometry of {model}"
                    f"{', all else held' if fixed else ''}, DFT {energy:.3f} eV)")
    return f"Single points of DFT, ± what the committees say of the models: {'; '.join(said)}."


def missing(sweeps, dft, held=False):
    """How much each model lacks of DFT's formation energy in the largest cell that DFT has seen on the geometries of
    both -> (pair, repeat, {label: (eV, standard error of the model)}), or None if there is none. dft: as from
    `dft_energies`, for pairs relaxed or held."""
    both = [key for key in {key[1:] for key in dft} if all((m, *key) in dft for m in sweeps)]
    if not both:
        return None
    pair, repeat = max(both, key=lambda key: (np.prod(key[1]), key))
    return pair, repeat, {m: (float(dft[m, pair, repeat] - s.formation_energy(pair, repeat, held)),
                              s.formation_error(pair, repeat, held)) for m, s in sweeps.items()}


@dataclass(frozen=True, eq=False)
class Comparison:
    """Formation energies at zero field of the pairs that survive with both models, in one cell."""

    repeat: tuple
    pairs: tuple
    gap: np.ndarray     # (n,) eV
    es_gap: np.ndarray  # (n,) eV
    lost: tuple         # pairs of this cell that do not survive with one or both

    def mean(self, which):
        """(mean, standard deviation between pairs) of "gap", "es_gap" or "difference" (ES-GAP less GAP), eV."""
        values = self.es_gap - self.gap if which == "difference" else getattr(self, which)
        return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")

    def difference(self):
        """(mean, standard error of the mean) of ES-GAP less GAP, eV."""
        mean, scatter = self.mean("difference")
        return mean, scatter / np.sqrt(len(self.pairs))

    def __str__(self):
        text = ", ".join(f"{n} {m:.3f} (scatter {s:.3f})" for n, (m, s) in (
            ("GAP", self.mean("gap")), ("ES-GAP", self.mean("es_gap"))))
        mean, error = self.difference()
        return (f"{'x'.join(map(str, self.repeat))}, {len(self.pairs)} pairs: {text}, ES-GAP less GAP {mean:+.3f} "
                f"+- {error:.3f} eV; {len(self.lost)} lost")


def compare(gap, es_gap, repeat, pairs=None):
    """Two `Sweep`s, over all pairs (or those named) relaxed in the cell with both -> `Comparison`."""
    names = [n for n in (gap.pairs if pairs is None else pairs)
             if repeat in gap.repeats(n) and repeat in es_gap.repeats(n)]
    there = [n for n in names if not gap.became(n, repeat) and not es_gap.became(n, repeat)]
    if not there:
        raise ValueError(f"no pair of {len(names)} survives with both models in {'x'.join(map(str, repeat))} cells: "
                         "relax others, `python -m esgap frenkel --sites` lists the sites")
    return Comparison(repeat, tuple(there), np.array([gap.formation_energy(n, repeat) for n in there]),
                      np.array([es_gap.formation_energy(n, repeat) for n in there]),
                      tuple(n for n in names if n not in there))


def largest(sweeps):
    """`Comparison` of the pairs of `several_cells` in the largest cell in which any survives with both models."""
    gap, es_gap = sweeps["GAP"], sweeps["ES-GAP"]
    names = several_cells(gap)
    for repeat in sorted({r for n in names for r in gap.repeats(n)}, key=np.prod, reverse=True):
        try:
            return compare(gap, es_gap, repeat, names)
        except ValueError:  # none survives here
            continue
    raise ValueError(f"of the pairs {', '.join(names)} none survives with both models in any cell")


def curves(sweep, repeat=None):
    """Every `FieldCurve` of a sweep, or those in one cell."""
    return tuple(sweep.curve(*which) for which in sweep.swept() if repeat in (None, which[2]))


def largest_swept(sweep):
    """The largest cell in which a pair was taken through a field; None if none was."""
    return max((repeat for _, _, repeat in sweep.swept()), key=np.prod, default=None)


def several_cells(sweep):
    """Names of the pairs that were relaxed in more than one cell, by distance (all pairs if there are none).

    Those of a scan are in one cell.
    """
    names = [n for n in sweep.pairs if len(sweep.repeats(n)) > 1] or list(sweep.pairs)
    return tuple(sorted(names, key=lambda n: (np.linalg.norm(sweep.vectors[n]), n)))


def pairs_table(sweeps, dft, crystal):
    """Markdown table of the pairs of `several_cells`: from vacancy to site, formation energies, what became of them.

    sweeps: {label: `Sweep`}; dft: as from `dft_energies`; its columns are left out if there are none. Last, the weakest
    field that makes the pair favourable to first order, along its dipole mu in the last of the sweeps, E_f / |mu|.
    """
    labels = list(sweeps)
    columns = [*labels, *(f"DFT on {n}'s" for n in labels if dft), "E_f/μ (V/Å)"]
    rows = [f"| pair | atoms | vector (Å) | Å | {' | '.join(columns)} |", "|:--|--:|:--|--:|" + ":--|" * len(columns)]
    first = sweeps[labels[0]]
    for pair in several_cells(first):
        for repeat in sorted({r for s in sweeps.values() for r in s.repeats(pair)}, key=lambda r: (np.prod(r), r)):
            cells = []
            for s in sweeps.values():
                there = repeat in s.repeats(pair)
                gone = s.became(pair, repeat) if there else ""
                error = s.formation_error(pair, repeat) if there else np.nan
                bar = f" ± {error:.3f}" if np.isfinite(error) else ""
                cells.append(gone or (f"{s.formation_energy(pair, repeat):.3f}{bar}" if there else "–"))
            cells += [f"{dft[n, pair, repeat]:.3f}" if (n, pair, repeat) in dft else "–" for n in labels if dft]
            cells.append(_weakest_field(sweeps[labels[-1]], pair, repeat))
            vector = ", ".join(f"{x:.1f}" for x in first.vectors[pair])
            rows.append(f"| `{pair}` | {len(perfect_cell(crystal, repeat))} | {vector} | "
                        f"{np.linalg.norm(first.vectors[pair]):.2f} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _weakest_field(sweep, pair, repeat):
    """E_f / |mu| in V/A as text; a dash for a pair that is not there or has no dipole."""
    if repeat not in sweep.repeats(pair) or sweep.became(pair, repeat):
        return "–"
    moment = float(np.linalg.norm(sweep.dipole(pair, repeat)))
    return f"{sweep.formation_energy(pair, repeat) / moment:.2f}" if moment > 1e-6 else "–"


def cell_of(sweep, pair):
    """The cell in which a pair is looked at: where it was swept, or else the largest in which it is there.

    ValueError if there is none.
    """
    swept = [r for n, _, r in sweep.swept() if n == pair]
    there = [r for r in sweep.repeats(pair) if not sweep.became(pair, r)]
    if not there:
        raise ValueError(f"pair {pair} did not survive the relaxation in any cell, so it has no dipole: choose another")
    return max(swept or there, key=np.prod)


def lower_than_crystal(sweep):
    """Relaxed arrangements at zero field with less energy than the crystal -> {"cell/pair": eV}, most first.

    They are no pairs any more, or hardly: what the model takes for a better place for lithium than the crystal's.
    """
    found = {}
    for name in sweep.pairs:
        for repeat in sweep.repeats(name):
            found["x".join(map(str, repeat)) + "/" + name] = sweep.formation_energy(name, repeat)
    return {name: e for name, e in sorted(found.items(), key=lambda item: item[1]) if e < 0}


def directions_table(sweep, pair, repeat, crystal, directions=("x", "y", "z", "a", "b", "c")):
    """Markdown table by direction: the dipole along it, the field that first order asks for, and what was found.

    Field at which the pair becomes favourable, along (+) or against (-) the direction, V/A. The last row is the easiest
    direction, that of the dipole itself.
    """
    energy, mu = sweep.formation_energy(pair, repeat), sweep.dipole(pair, repeat)
    rows = ["| field along | dipole (e Å) | field needed, frozen (V/Å) | with relaxation (V/Å) |", "|:--|--:|--:|:--|"]
    for d in directions:
        along = float(direction_vector(d, crystal.cell) @ mu)
        found = "–"
        if (pair, d, repeat) in sweep.swept():
            ends = [f"{f:+.2f}" for f in sweep.curve(pair, d, repeat).favourable_from() if np.isfinite(f)]
            found = ", ".join(ends) or "none"
        rows.append(f"| {d} | {along:+.2f} | {energy / along:+.2f} | {found} |" if abs(along) > 1e-9 else
                    f"| {d} | 0 | never | {found} |")
    length = np.linalg.norm(mu)
    if length > 1e-9:
        unit = ", ".join(f"{x:.2f}" for x in mu / length)
        rows.append(f"| the dipole, ({unit}) | {length:+.2f} | {energy / length:+.2f} | – |")
    return "\n".join(rows)


def sizes(sweeps, crystal):
    """{model: {pair: (atoms (n,), eV (n,))}} of `several_cells`, over cells in which the pair survives."""
    found = {}
    for label, s in sweeps.items():
        found[label] = {}
        for pair in several_cells(s):
            there = [r for r in s.repeats(pair) if not s.became(pair, r)]
            found[label][pair] = (np.array([len(crystal) * np.prod(r) for r in there]),
                                  np.array([s.formation_energy(pair, r) for r in there]))
    return found


def size_effect(pairs):
    """Root mean square change between smallest and largest cell (eV) of {pair: (atoms, eV)}, pairs in several."""
    changes = [energy[-1] - energy[0] for _, energy in pairs.values() if len(energy) > 1]
    if not changes:
        raise ValueError("no pair survives in more than one cell")
    return float(np.sqrt(np.mean(np.square(changes))))
