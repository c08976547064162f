"""What the book ships of a sweep: energies, dipoles and fates of all points without their positions, and one story.

    data/runs/frenkel-<model>.json         a summary, 100 bytes a point; read it as `Sweep`, without frames
    data/runs/frenkel-large-<model>.json   the same of cells larger than the paper's
    data/runs/frenkel-<model>.xyz          the story: the first pair swept in a field, before and after relaxation and
                                           in it

Units: A, eV, e, V/A.
"""
from dataclasses import asdict

import numpy as np
from ase import Atoms

from .field_response import Row, Sweep, read_pairs, together
from .frenkel import direction_vector, perfect_cell
from .frenkel_compare import PAPERS, several_cells
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
    sweeps = (together([load_summary(data_path(f"runs/frenkel-{name}.json")),
                        load_summary(data_path(f"runs/frenkel-large-{name}.json"))]) for name in LABELS)
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


def curves(sweep, repeat=None):
    """Every `FieldCurve` of a sweep, or those in one cell."""
    return tuple(sweep.curve(*which) for which in sweep.swept() if repeat in (None, which[2]))


def largest_swept(sweep):
    """The largest cell in which a pair was taken through a field; None if none was."""
    return max((repeat for _, _, repeat in sweep.swept()), key=np.prod, default=None)


def pairs_table(sweeps, crystal):
    """Markdown table of the pairs of `several_cells`: from vacancy to site, formation energies, what became of them;
    in cells up to the paper's.

    sweeps: {label: `Sweep`}. Last, the weakest field that makes the pair favourable to first order, along its dipole
    mu in the last of the sweeps, E_f / |mu|.
    """
    labels = list(sweeps)
    columns = [*labels, "E_f/μ (V/Å)"]
    rows = [f"| pair | atoms | vector (Å) | Å | {' | '.join(columns)} |", "|:--|--:|:--|--:|" + ":--|" * len(columns)]
    first = sweeps[labels[0]]
    for pair in several_cells(first):
        cells = {r for s in sweeps.values() for r in s.repeats(pair) if np.prod(r) <= np.prod(PAPERS)}
        for repeat in sorted(cells, key=lambda r: (np.prod(r), r)):
            cells = []
            for s in sweeps.values():
                there = repeat in s.repeats(pair)
                gone = s.became(pair, repeat) if there else ""
                error = s.formation_error(pair, repeat) if there else np.nan
                bar = f" ± {error:.3f}" if np.isfinite(error) else ""
                cells.append(gone or (f"{s.formation_energy(pair, repeat):.3f}{bar}" if there else "–"))
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
