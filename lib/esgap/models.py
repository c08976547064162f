"""Stored potentials: a GAP (.npz) and, for an ES-GAP, charges and exponents of its baseline in a record beside it.

`es-gap.npz` holds the GAP part, which alone is no potential; `es-gap.json` the baseline, what made both, and the hash
of the GAP part, so that neither is ever used with another. An exponent of null is a point charge.
Units: e, 1/A.
"""
from pathlib import Path

import numpy as np

from .calculators import ElectrostaticBaseline, es_gap
from .gap_calculator import GAP
from .store import data_path, file_hash, only_writer, read_record, write_record

LABELS = {"gap": "GAP", "es-gap": "ES-GAP"}  # file names of the final potentials, and what they are called
ACCURACY = 1e-6  # of the lattice sum, relative; errors of forces are far below those of the fit


def model_path(name):
    """Path of a model: "gap" and "es-gap" are those in `data/models`, everything else is a path ending in .npz."""
    path = data_path(f"models/{name}.npz") if name in LABELS else Path(name)
    if path.suffix != ".npz":
        raise ValueError(f"model {name!r}: give gap, es-gap, or the path of an .npz that `esgap.save_model` wrote")
    if not path.exists():
        raise FileNotFoundError(f"no model at {path}: train one with `python -m esgap train`, or give another path")
    return path


def save_model(path, gap, baseline=None, inputs=(), seed=None, **about):
    """Write a potential to `path` (.npz) and its record beside it (.json).

    gap: `GAP` calculator, fitted to what `baseline` (an `ElectrostaticBaseline`, if any) leaves. inputs: files it was
    made from, whose hashes the record keeps; about: more for the record.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"{path} does not end in .npz; QUIP XML for other programs is written by GAP.save")
    with only_writer(path, path.with_suffix(".json")):
        gap.save(path)
        electrostatics = baseline and {"charges": baseline.charges, "zeta": {
            s: z if np.isfinite(z) else None for s, z in baseline.zeta.items()}}
        record = {"gap": file_hash(path), "baseline": electrostatics, **about}
        write_record(path.with_suffix(".json"), record, inputs, seed)


def load_model(name, accuracy=ACCURACY, skin=0.5, **options):
    """A stored potential as an ASE calculator: "gap", "es-gap", or a path. skin (A): of its neighbour lists; for MD
    `dynamics.SKIN` is quicker, results are the same. options go to `GAP` (dtype).

    A GAP comes as `GAP`, an ES-GAP as the SumCalculator of GAP and baseline. Raises FileNotFoundError if there is no
    such model, ValueError if its record belongs to another file.
    """
    path = model_path(name)
    record = read_record(path.with_suffix(".json"))
    if record["gap"] != file_hash(path):
        raise ValueError(f"{path.with_suffix('.json')} describes another file than {path}: restore both from one place")
    gap = GAP.load(path, skin=skin, **options)
    if record["baseline"] is None:
        return gap
    zeta = {s: np.inf if z is None else z for s, z in record["baseline"]["zeta"].items()}
    return es_gap(gap, ElectrostaticBaseline(record["baseline"]["charges"], zeta, accuracy, skin))
