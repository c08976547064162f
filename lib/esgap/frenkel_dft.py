"""Energies of Frenkel pairs by DFT, on the geometries that potentials have relaxed, and how far these are from it.

A perfect cell may be labelled as a block that fills it when repeated (`frenkel.folded_cell`): by Bloch's theorem the
block with the folded k-grid has its share of the energy, but for the grids in space, which CP2K chooses by cell. What
they make is taken from perfect cells that were labelled both ways and fold alike (`grid_corrections`): next to nothing
if the finest grid of the cell is a multiple of the block's, so fold where it is.
Units: eV.
"""
from pathlib import Path

import numpy as np

from .store import read_frames


def dft_energies(path, held=False, blocks=None):
    """Formation energies (eV) from labelled `frenkel_run.dft_frames`: {(model, pair, repeat): eV}; empty if no file.

    model: GAP or ES-GAP, on whose relaxed geometries (perfect cell and pair) these are. held: of pairs of which only
    the moved ion has relaxed, in the relaxed perfect cell. blocks: a file of labelled `frenkel_run.folded_frames`, of
    which perfect cells are made that `path` lacks, with the mean of `grid_corrections`, if there are any.
    """
    if not Path(path).exists():
        return {}
    energies = _by_name(read_frames(path))
    perfect = (_unfolded(path, blocks) if blocks else {}) | energies
    found = {}
    for name, energy in energies.items():
        model, cell, pair, point, leg = name.split("/")
        without = f"{model}/{cell}/perfect/0/out"
        if (point, leg) == ("0", "held" if held else "out") and pair != "perfect" and without in perfect:
            found[model.upper(), pair, _repeat(cell)] = energy - perfect[without]
    return found


def grid_corrections(path, blocks):
    """What grids in space make of the whole and not of its block, eV per unit cell, {name: eV}, of perfect cells that
    are labelled both ways, in `path` and in `blocks`. Their scatter says how well the correction is known."""
    energies = _by_name(read_frames(path))
    return {name: (energies[name] - block) / cells for name, (block, cells, _) in _read_blocks(blocks).items()
            if name in energies}


def _unfolded(path, blocks):
    """Energies of perfect cells, eV by name: of all their blocks, and the correction of those that fold alike."""
    known, blocks, found = grid_corrections(path, blocks), _read_blocks(blocks), {}
    for name, (energy, cells, fold) in blocks.items():
        alike = [correction for other, correction in known.items() if blocks[other][2] == fold]
        if alike:
            found[name] = energy + cells * float(np.mean(alike))
    return found


def _read_blocks(path):
    """{name: (eV of all blocks together, number of unit cells, how often folded)}."""
    found = {}
    for atoms in read_frames(path):
        name, fold = atoms.info["name"].removeprefix("frenkel-"), tuple(int(n) for n in atoms.info["folded"])
        found[name.replace("/folded", "/out")] = (atoms.get_potential_energy() * int(np.prod(fold)),
                                                  int(np.prod(_repeat(name.split("/")[1]))), fold)
    return found


def _by_name(frames):
    return {a.info["name"].removeprefix("frenkel-"): a.get_potential_energy() for a in frames}


def _repeat(cell):
    return tuple(int(n) for n in cell.split("x"))


def dft_table(sweeps, dft, held, crystal):
    """Markdown table: DFT on the geometry that each model has relaxed itself, and how far the model is from it.

    sweeps: {label: `Sweep`}; dft, held: as from `dft_energies`, all relaxed and all but the moved ion held; ± what a
    committee says of the model. A sentence if there is no DFT.
    """
    if not dft:
        return "DFT energies of these geometries are still to be computed, so which potential is nearer to DFT is open."
    columns = [f"DFT on {m}'s (eV) | {m} less DFT (meV)" for m in sweeps]
    rows = [f"| pair | atoms | relaxed | {' | '.join(columns)} |", "|:--|--:|:--|" + "--:|:--|" * len(sweeps)]
    found = {(key[1:], fixed) for fixed, energies in ((False, dft), (True, held)) for key in energies}
    for (pair, repeat), fixed in sorted(found, key=lambda x: (np.prod(x[0][1]), x[0], x[1])):
        cells = [_beside_dft(s, pair, repeat, fixed, (held if fixed else dft).get((m, pair, repeat)))
                 for m, s in sweeps.items()]
        rows.append(f"| {pair} | {len(crystal) * np.prod(repeat)} | {'the ion' if fixed else 'all'} | "
                    f"{' | '.join(cells)} |")
    return "\n".join(rows)


def _beside_dft(sweep, pair, repeat, held, energy):
    if energy is None:
        return "– | –"
    less = round(1e3 * (sweep.formation_energy(pair, repeat, held) - energy)) + 0  # no -0
    error = sweep.formation_error(pair, repeat, held)
    return f"{energy:.3f} | {less:+.0f}" + (f" ± {1e3 * error:.0f}" if np.isfinite(error) else "")


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
