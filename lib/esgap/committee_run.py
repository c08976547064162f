"""python -m esgap committee: committees of the last generation, beside its models, and their calibration.

The design matrix is made once for both models. `models/<name>.committee.npz` holds the members' weights. Calibrated on
test frames if there are any; else committees of the generation before are, on the frames of the last, which they had
not seen.
"""
import shutil
from pathlib import Path

import numpy as np

from .committee import Committee, bootstrap_committee, calibrate
from .gap_calculator import GAP
from .learning import fitted_pair, labelled_files, ordinary
from .models import LABELS
from .store import data_path, file_hash, only_writer, read_frames, read_record, write_record
from .validation import held_out_errors, mark_short_contacts

FILES = {label: name for name, label in LABELS.items()}


def stored_committees(models, calibration=None):
    """Committees beside stored models, and how many times their spread errors are -> {label: (`Committee`, scale)}.

    models: {label: path of .npz}; calibration: path of the record of `python -m esgap committee`. A model without a
    committee of its own is left out. The scale is that of forces: for energies it is the best guess there is.
    """
    calibration = data_path("runs/committee.json") if calibration is None else calibration
    files = {label: Path(path).with_suffix(".committee.npz") for label, path in models.items()}
    if not calibration.exists():
        return {}
    scales = {label: of["scale"] for label, of in read_record(calibration)["models"].items()}
    return {label: (Committee.load(file, models[label]), scales[label]) for label, file in files.items()
            if file.exists() and label in scales}


def add_committee_arguments(parser):
    parser.add_argument("--folder", type=Path, default=data_path("training"), help="of the training loop")
    parser.add_argument("--initial", type=Path, default=data_path("dft/gen0.xyz"), help="labelled generation 0")
    test = data_path("dft/test-800K.xyz")
    parser.add_argument("--test", type=Path, default=test if test.exists() else None,
                        help="labelled frames to calibrate on, not trained on (default: dft/test-800K.xyz if it is "
                             "there, else the last generation, with committees of the one before)")
    parser.add_argument("--members", type=int, default=8, help="of each committee (default 8)")
    parser.add_argument("--seed", type=int, default=0, help="of the resampling")
    parser.add_argument("--models", type=Path, default=data_path("models"), help="where models and committees go")
    parser.add_argument("--output", type=Path, default=data_path("runs/committee.json"), help="calibration, JSON")


def committee_command(args):
    """Fit both models of the last generation, check that they are the loop's, publish them with committees."""
    files = labelled_files(args.folder, args.initial)
    if args.test is None and len(files) < 2:
        raise ValueError("there are neither test frames (--test) nor a second generation: nothing to calibrate on")
    publish(args.folder / "models", args.models)
    record = {}
    with only_writer(args.output):
        fits, calculators, members = _committees(files, args)
        for name, fit in fits.items():
            stored = args.models / f"{FILES[name]}.npz"
            _check_same(fit.model, stored)
            members[name].save(args.models / f"{FILES[name]}.committee.npz", stored)
        test = read_frames(args.test) if args.test else ordinary(read_frames(files[-1]))
        if not args.test:
            fits, calculators, members = _committees(files[:-1], args)
        for name, fit in fits.items():
            found = calibrate(members[name].predict(fit.design, test)[1], held_out_errors(test, calculators[name]))
            print(f"{name}: {found}")
            record[name] = {k: getattr(found, k) for k in ("scale", "error", "spread", "rmse", "bars")}
            record[name]["coverage"] = {str(p): c for p, c in found.coverage.items()}
        about = {"members": args.members, "n_test": len(test), "generation": len(files) - (1 if args.test else 2)}
        write_record(args.output, {**about, "models": record}, [*files, *([args.test] if args.test else [])], args.seed,
                     "python -m esgap committee")
    return 0


def _committees(files, args):
    """Fits of both models to the frames of `files`, calculators, and a committee of each, by name."""
    frames = mark_short_contacts([a for path in files for a in read_frames(path)])
    fits, calculators, baseline = fitted_pair(frames, progress=True)
    members = {name: bootstrap_committee(fit, frames, baseline if name == "ES-GAP" else None, args.members, args.seed)
               for name, fit in fits.items()}
    return fits, calculators, members


def _check_same(model, path):
    """The members' weights belong to the sparse points in the file."""
    stored = GAP.load(path).model
    if not all(t.X.shape == u.X.shape and np.allclose(t.X, u.X, atol=1e-9)
               for t, u in zip(model.terms, stored.terms, strict=True)):
        raise ValueError(f"{path} has other sparse points than a fit to the labelled frames: it is of another "
                         "generation; let `python -m esgap train` finish")


def publish(source, target):
    """Copy the loop's current models to where `esgap.load_model` finds them; files that are the same stay."""
    target.mkdir(parents=True, exist_ok=True)
    for name in FILES.values():
        if read_record(source / f"{name}.json")["gap"] != file_hash(source / f"{name}.npz"):
            raise ValueError(f"{source / name}.json describes another file: run `python -m esgap train` again")
        for ending in (".npz", ".json"):
            file = target / f"{name}{ending}"
            if not file.exists() or file_hash(file) != file_hash(source / f"{name}{ending}"):
                shutil.copyfile(source / f"{name}{ending}", file.with_suffix(file.suffix + ".tmp"))
                file.with_suffix(file.suffix + ".tmp").replace(file)
