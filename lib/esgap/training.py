"""The training loop: sample -> label -> fit, generation after generation, in a folder that survives any kill.

    gen<g>.unlabelled.xyz    frames of generation g, sampled with the models of generation g - 1
    gen<g>.xyz               the same, labelled
    models/<name>.npz        the models of the last generation (older ones are made again from their frames if needed)
    generations.jsonl        one line for each finished generation: its frozen record

Each file appears whole. A step whose file is there is not repeated, so a killed loop goes on where it was and ends with
the same files, provided that `sample`, `label` and `fit` give the same for the same arguments.
"""
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from .models import save_model
from .store import file_hash, only_writer, provenance, read_frames, write_atomically, write_frames


@dataclass(frozen=True)
class Generation:
    """Record of one generation. Errors: {model: {"train" or test set: {"energy": ..., "all": ..., "Li": ...}}}."""

    number: int
    n_new: int
    n_train: int  # frames both models were trained on, this generation's included
    frames: str  # SHA-256 of the labelled file
    models: dict  # name -> SHA-256 of the model file
    errors: dict
    settings: dict  # of the fit, as plain values
    notes: list  # what the sampler had to report, e.g. runs that were stopped
    made_by: dict


@dataclass(frozen=True, eq=False)
class Trained:
    """What a `fit` function returns: (GAP calculator, baseline or None) by model name, errors, settings."""

    models: dict
    errors: dict
    settings: dict


def train(folder, initial, sample, label, fit, n_generations, progress=True):
    """Run the loop up to generation `n_generations` (the initial one is 0) -> tuple of `Generation`.

    initial: unlabelled frames of generation 0, or the path of a labelled file that is taken as it is.
    sample(models, generation, frames, folder) -> (new frames with names of their own, notes): models are paths by name
    (for `load_model`), frames all labelled ones so far, folder a place for files of its own.
    label(unlabelled path, labelled path): resumable, as `reference.label_file`; what it sets aside is not trained on.
    fit(frames, generation) -> `Trained`, both models on the same frames.
    Raises ValueError if a labelled file is not the one that a finished generation was made from.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "models").mkdir(exist_ok=True)
    log, done = folder / "generations.jsonl", []
    with only_writer(log):
        old, frames, files = read_generations(folder), [], []
        for g in tqdm(range(n_generations + 1), "generation", disable=not progress):
            given = g == 0 and not isinstance(initial, list)
            path = Path(initial) if given else folder / f"gen{g}.xyz"
            if g < len(old):
                _check(old[g], path)
                frames += read_frames(path)
                files.append(path)
                done.append(old[g])
                continue
            notes = [] if given else _sample(folder, g, initial, sample, frames, fit, done, files)
            if not given:
                label(folder / f"gen{g}.unlabelled.xyz", path)
            new = read_frames(path)
            frames += new
            files.append(path)
            done.append(_fitted(folder, fit, frames, g, new, files, notes))
            write_atomically(log, "".join(json.dumps(asdict(r), allow_nan=False) + "\n" for r in done))
    return tuple(done)


def read_generations(folder):
    """Finished generations of a folder -> list of `Generation`."""
    log = Path(folder) / "generations.jsonl"
    try:
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        return [Generation(**json.loads(line)) for line in lines]
    except (json.JSONDecodeError, TypeError) as error:
        raise ValueError(f"{log} is damaged ({error}): remove it; labels are kept, models are fitted again") from None


def standing(number, folder):
    """Where a generation stands in the loop of a folder, in words: "5, the last", "3 (the loop has come to 5)"."""
    last = max((record.number for record in read_generations(folder)), default=number)
    return f"{number}, the last" if number >= last else f"{number} (the loop has come to {last} since)"


def _check(record, path):
    if record.frames != file_hash(path):
        raise ValueError(f"{path} has changed since generation {record.number} was fitted to it: put the old file "
                         "back, or remove generations.jsonl to fit all generations again")


def _sample(folder, g, initial, sample, frames, fit, done, files):
    """Write the unlabelled frames of generation g unless they are there -> notes of the sampler."""
    path, notes = folder / f"gen{g}.unlabelled.xyz", folder / f"gen{g}.notes.json"
    if not path.exists():
        new, said = (initial, []) if g == 0 else sample(_models(folder, fit, frames, done[-1], files), g, frames,
                                                         folder)
        write_atomically(notes, json.dumps(said))
        write_frames(path, new)  # last: the mark that sampling is done
    return json.loads(notes.read_text(encoding="utf-8"))


def _models(folder, fit, frames, record, files):
    """Paths of the models of the generation before; if they are not those of its record, they are fitted again."""
    paths = {name: folder / "models" / f"{name}.npz" for name in record.models}
    if not all(p.exists() and file_hash(p) == record.models[name] for name, p in paths.items()):
        _save(folder, fit(frames, record.number), record.number, files)
    return paths


def _save(folder, trained, number, files):
    """files: all labelled ones that were trained on, whose hashes go into the records of the models."""
    paths = {name: folder / "models" / f"{name}.npz" for name in trained.models}
    for name, (gap, baseline) in trained.models.items():
        save_model(paths[name], gap, baseline, files, trained.settings.get("seed"), generation=number)
    return {name: file_hash(p) for name, p in paths.items()}


def _fitted(folder, fit, frames, g, new, files, notes):
    trained = fit(frames, g)
    models = _save(folder, trained, g, files)
    return Generation(g, len(new), len(frames), file_hash(files[-1]), models, trained.errors, trained.settings, notes,
                      provenance(files[-1:], trained.settings.get("seed"), "python -m esgap train"))
