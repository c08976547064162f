"""What this book hands to the training loop: MD with the ES-GAP to sample, GAP and ES-GAP fitted to the same frames.

Generation g: NVT at 800 K with the ES-GAP of generation g - 1, from the crystal and from cells with relocated Li, each
`ps_per_generation` x g long; candidates are `spacing` apart, after a warm-up; of them those are labelled that are
furthest from all known environments (`sampling`). Runs that leave the trusted region end there and are reported; what
they have left short is made up by more of them, so that an early model, which breaks soon, is shown where it breaks.
Units: A, fs, ps, K.
"""
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from . import dynamics
from .calculators import ElectrostaticBaseline
from .charges import fitted_charges, qeq_exponents
from .convergence import fit_pair
from .fit import FitSettings
from .models import load_model
from .reference import add_labeller_arguments, label_file, labeller_from
from .sampling import Trust, most_informative, spaced
from .soap import Soap
from .store import data_path
from .structures import crystal, monte_carlo_lithium
from .training import Trained, train
from .validation import KINDS, held_out_errors, mark_short_contacts

# of all generations: the best row of `convergence` (runs/gen0-settings.json), with more points. The frames of
# generations 1 to 3 were sampled before that, with atom_sigma 0.6 A, sigma_force 0.05 eV/A and 1900 points.
SETTINGS = FitSettings(Soap(8, 4, atom_sigma=0.7, cutoff=6.0, cutoff_dexp=4, cutoff_scale=2.5), sigma_force=0.02,
                       n_sparse={"Li": 800, "P": 480, "S": 1200}, e0="fit", kinds=KINDS)


@dataclass(frozen=True)
class MDSampler:
    """New frames from MD with the ES-GAP; call it as `sample` of `training.train`."""

    n_new: int = 40
    relocated: tuple = (0, 1, 2, 3)  # Li moved to other sites, one start each, and again from the first if need be
    most_runs: int = 40  # a model that needs more of them for n_new candidates is given fewer frames
    ps_per_generation: float = 2.0
    spacing: float = 100.0  # fs
    warm_up: float = 250.0  # fs
    temperature: float = 800.0  # K
    timestep: float = 2.0  # fs
    seed: int = 20261123
    trust: Trust = field(default_factory=Trust)
    model: str = "es-gap"

    def __call__(self, models, generation, frames, folder):
        start, candidates, notes = crystal(), [], []
        for k in range(self.most_runs):
            if k >= len(self.relocated) and len(candidates) >= self.n_new:
                break
            n_relocated = self.relocated[k % len(self.relocated)]
            run = self._run(start, n_relocated, k, models, generation, folder)
            if run.stopped:
                notes.append(f"run {k} stopped after {run.time[-1]:.0f} fs: {run.stopped}")
            for time, atoms in spaced(run, self.spacing, self.warm_up if run.time[-1] > 2 * self.warm_up else 0.0):
                atoms.info.update(config_type="md", generation=generation, run=k, relocated=n_relocated, time=time,
                                  temperature=self.temperature)
                candidates.append(atoms)
        n = min(self.n_new, len(candidates))
        if n < self.n_new:
            notes.append(f"only {n} candidates for {self.n_new} frames: all are labelled")
        choice = most_informative(candidates, [a for a in frames if len(a) == len(start)], n)
        new = [candidates[k] for k in sorted(choice.chosen)]
        for k, atoms in enumerate(new):
            atoms.info["name"] = f"gen{generation}-{k:03d}"
            atoms.wrap()
        return new, notes

    def _run(self, start, n_relocated, k, models, generation, folder):
        atoms = start.copy()
        atoms.calc = None
        if n_relocated:
            atoms = monte_carlo_lithium(atoms, np.random.default_rng([self.seed, generation, k]), n_relocated)
        every = max(1, round(25.0 / self.timestep))
        steps = every * round(1e3 * self.ps_per_generation * generation / (self.timestep * every))
        settings = dynamics.MDSettings(steps, self.temperature, self.timestep, taut=100.0, every=every,
                                       segment=40 * every, seed=self.seed + 1000 * generation + k)
        (folder / "md").mkdir(exist_ok=True)
        return dynamics.run(atoms, partial(load_model, models[self.model]), settings,
                            folder / "md" / f"gen{generation}-{k}.npz", self.trust.watch(atoms),
                            inputs=[models[self.model]])


@dataclass(frozen=True, eq=False)
class PairFit:
    """GAP and ES-GAP on the same frames, sparse points and design matrix; call it as `fit` of `training.train`."""

    charges: dict
    zeta: dict = field(default_factory=qeq_exponents)
    settings: FitSettings = SETTINGS
    tests: dict = field(default_factory=dict)  # name -> labelled frames never trained on

    def __call__(self, frames, generation):
        marked = mark_short_contacts(frames)
        baseline = ElectrostaticBaseline(self.charges, self.zeta)
        fits, calculators = fit_pair(marked, self.settings, baseline, progress=True)
        ordinary = [a for a in marked if a.info["config_type"] not in KINDS]
        sets = {"train": ordinary, **self.tests}
        errors = {name: {s: held_out_errors(f, calc, n_bootstrap=10).rmse for s, f in sets.items()}
                  for name, calc in calculators.items()}
        models = {"gap": (fits["GAP"].calculator, None), "es-gap": (fits["ES-GAP"].calculator, baseline)}
        return Trained(models, errors, {**asdict(self.settings), "charges": self.charges, "zeta": self.zeta})


def add_train_arguments(parser):
    parser.add_argument("--folder", type=Path, default=data_path("training"), help="where the loop lives")
    parser.add_argument("--initial", type=Path, default=data_path("dft/gen0.xyz"), help="labelled generation 0")
    parser.add_argument("--generations", type=int, default=6, help="generations after the initial one (default 6)")
    parser.add_argument("--n-new", type=int, default=40, help="frames a generation (default 40)")
    parser.add_argument("--ps", type=float, default=2.0, help="MD per start and generation number (default 2 ps)")
    parser.add_argument("--workers", type=int, help="frames labelled at a time (default: cores / ranks)")
    parser.add_argument("--scheduler", help="address of a running dask scheduler for the labels")
    add_labeller_arguments(parser)


def train_command(args):
    """python -m esgap train: the whole loop; the same command goes on after a kill."""
    label = partial(label_file, labeller=labeller_from(args), workers=args.workers, scheduler=args.scheduler)
    for g in train(args.folder, args.initial, MDSampler(n_new=args.n_new, ps_per_generation=args.ps), label,
                   PairFit(fitted_charges()[0]), args.generations):
        errors = ", ".join(f"{name} {e['train']['all']:.3f} eV/A" for name, e in g.errors.items())
        print(f"generation {g.number}: {g.n_train} frames, training RMSE of forces {errors}")
        for note in g.notes:
            print(f"  {note}")
    return 0
