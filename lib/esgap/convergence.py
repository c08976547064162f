"""How held-out errors of GAP and ES-GAP depend on the settings of the fit: one variable at a time from a centre, and
some together.

GAP and ES-GAP of one setting share sparse points and design matrix; only the labels differ. Units eV, A.
"""
from pathlib import Path

from tqdm import tqdm

from .calculators import ElectrostaticBaseline, es_gap
from .charges import fitted_charges, qeq_exponents
from .fit import FitSettings, fit_gap
from .soap import Soap
from .store import data_path, file_hash, only_writer, read_frames, read_record, write_record
from .validation import KINDS, SHORT_CONTACT, held_out_errors, mark_short_contacts, split

# weight: distance in A at which a neighbour counts half, u = 1/(1 + (r/weight)^4) in `soap`; None: all count alike
CENTRE = {"cutoff": 6.0, "n_max": 8, "l_max": 4, "n_sparse": 400, "atom_sigma": 0.6, "weight": 2.5}
STEPS = ({"weight": None}, {"weight": 2.0}, {"weight": 3.0}, {"atom_sigma": 0.5}, {"atom_sigma": 0.7}, {"cutoff": 5.0},
         {"n_sparse": 100}, {"n_sparse": 800}, {"n_max": 6, "l_max": 3}, {"cutoff": 5.0, "weight": None},
         {"sigma_force": 0.02}, {"atom_sigma": 0.7, "n_sparse": 800, "sigma_force": 0.02})
MOST_P = 300       # sparse points of P: generation 0 has few environments of it, 6 a frame
RMSE_DIGITS = 6


def fit_settings(cutoff, n_max, l_max, n_sparse, atom_sigma, weight, sigma_force=FitSettings.sigma_force, seed=0):
    """FitSettings of one row: short contacts weighed down, e0 from the data, other sigmas default."""
    decay = {"cutoff_dexp": 4, "cutoff_scale": weight} if weight else {}
    return FitSettings(Soap(n_max, l_max, atom_sigma, cutoff, **decay), kinds=KINDS, e0="fit", seed=seed,
                       sigma_force=sigma_force,
                       n_sparse={"Li": n_sparse, "P": min(n_sparse, MOST_P), "S": n_sparse})


def fit_pair(train, settings, baseline, progress=False, design=None):
    """GAP and ES-GAP on one design matrix (new, or `design` with its points) -> ({"GAP": Fit, "ES-GAP": Fit}, {"GAP":
    calculator, ...})."""
    gap = fit_gap(train, settings, design=design, progress=progress)
    es = fit_gap(train, settings, baseline=baseline, design=gap.design)
    return {"GAP": gap, "ES-GAP": es}, {"GAP": gap.calculator, "ES-GAP": es_gap(es.calculator, baseline)}


def settings_rows():
    """The settings compared, the centre first -> list of dicts."""
    return [CENTRE, *({**CENTRE, **step} for step in STEPS)]


def add_settings_arguments(parser):
    parser.add_argument("--frames", type=Path, default=data_path("dft/gen0.xyz"), help="labelled frames")
    parser.add_argument("--output", type=Path, default=data_path("runs/gen0-settings.json"), help="the table, JSON")
    parser.add_argument("--seed", type=int, default=0, help="of the split and of the sparse points")


def settings_command(args):
    """Fit and compare; a finished setting is on disk at once, and the same command goes on after it."""
    frames = mark_short_contacts(read_frames(args.frames))
    train, test = split(frames, seed=args.seed)
    charges = fitted_charges()[0]
    about = {"held_out": [a.info["name"] for a in test], "n_train": len(train), "charges": charges,
             "short_contact_A": SHORT_CONTACT, "kinds": KINDS, "seed": args.seed}
    with only_writer(args.output):
        done = _finished(args.output, about, file_hash(args.frames))
        for row in tqdm([r for r in settings_rows() if r not in [d["settings"] for d in done]], "settings"):
            done.append({"settings": row, **_compared(train, test, row, charges, args.seed)})
            write_record(args.output, {**about, "rows": done}, inputs=[args.frames], seed=args.seed,
                         command="python -m esgap settings")
    return 0


def _finished(path, about, frames_hash):
    """Rows of the file at `path` that are still asked for, if it was made from the same frames in the same way."""
    if not path.exists():
        return []
    old = read_record(path)
    same = all(old.get(k) == v for k, v in about.items()) and frames_hash in old["made_by"]["inputs"].values()
    return [row for row in old["rows"] if row["settings"] in settings_rows()] if same else []


def _compared(train, test, row, charges, seed):
    baseline = ElectrostaticBaseline(charges, qeq_exponents())
    fits, calculators = fit_pair(train, fit_settings(**row, seed=seed), baseline)
    errors = {name: held_out_errors(test, calc) for name, calc in calculators.items()}
    difference = errors["ES-GAP"].minus(errors["GAP"])
    soap = fits["GAP"].model.terms[0].soap
    return {"n_components": soap.n_components, "n_points": [len(t.X) for t in fits["GAP"].model.terms],
            "train_force_rmse": {name: round(fit.rmse["force"], RMSE_DIGITS) for name, fit in fits.items()},
            "rmse": {name: _rounded(e.rmse) for name, e in errors.items()},
            "error": {name: _rounded(e.error) for name, e in errors.items()},
            "difference": _rounded(difference.value), "difference_error": _rounded(difference.error)}


def _rounded(values):
    return {k: round(v, RMSE_DIGITS) for k, v in values.items()}


def settings_table(record, key="all"):
    """Markdown table of a stored comparison: RMSE on held-out frames of forces (group `key`) and energies."""
    lines = ["| cutoff | half weight | width | orders | points | sigma | forces, GAP | ES-GAP less GAP "
             "| energies, GAP |",
             "|:--" * 9 + "|", "| Å | Å | Å | n/l | Li, S | meV/Å | meV/Å | meV/Å | meV/atom |"]
    for row in record["rows"]:
        s, rmse, bar = row["settings"], row["rmse"]["GAP"], row["error"]["GAP"]
        cells = [f"{s['cutoff']:.0f}", f"{s['weight']:.1f}" if s["weight"] else "–", f"{s['atom_sigma']:.1f}",
                 f"{s['n_max']}/{s['l_max']}", str(max(row["n_points"])),
                 f"{1e3 * s.get('sigma_force', FitSettings.sigma_force):.0f}",
                 f"{1e3 * rmse[key]:.0f} ± {1e3 * bar[key]:.0f}",
                 f"{1e3 * row['difference'][key]:+.1f} ± {1e3 * row['difference_error'][key]:.1f}",
                 f"{rmse['energy']:.1f} ± {bar['energy']:.1f}"]
        lines.append("| " + " | ".join(c.replace(" ", "\N{NO-BREAK SPACE}") for c in cells) + " |")
    return "\n".join(lines)
