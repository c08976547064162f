"""Configurations for tests, never trained on: independent MD with both final models, hops, rare events, volumes.

md      both models run NVT from the crystal and from a cell with relocated Li, with seeds the training never used;
        after a warm-up one frame every `spacing`, the same number from each run
hops    hops found in those runs: ends averaged over 0.2 ps and relaxed with the model that made them, interpolated so
        as to keep distances (IDPP); what lies a quarter, half and three quarters of the way is not at rest
rare    moments of long runs at which a P-S bond opens or Li ions collide (`rare_events`)
volume  the crystal strained alike in all directions, fractional coordinates kept: static, so any code can repeat it
Written unlabelled; `python -m esgap label` does the rest. Units: A, fs, ps, K.
"""
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from ase.mep import NEB
from ase.mep.neb import idpp_interpolate
from ase.optimize import LBFGS
from tqdm import tqdm

from . import dynamics
from .ends import check_ends
from .hops import end_points, find_hops
from .models import LABELS, load_model, model_path
from .rare_events import rare_frames
from .sampling import Trust, spaced
from .store import only_writer, read_record, write_frames
from .structures import crystal, monte_carlo_lithium

SEED = 20261201  # of the runs; the training loop's are from 20261123 to some thousands more
VOLUMES = (0.94, 0.96, 0.98, 1.0, 1.02, 1.04, 1.06)  # of that of the experimental lattice


@dataclass(frozen=True)
class TestRuns:
    """MD of both models for a test set; call it -> (trajectories by (model, run), notes)."""

    __test__ = False  # for pytest: no test in itself

    temperature: float = 800.0  # K
    relocated: tuple = (0, 3)  # Li moved to other sites, one run each
    ps: float = 17.0  # of each run
    warm_up: float = 2.0  # ps
    timestep: float = 2.0  # fs
    seed: int = SEED

    def __call__(self, folder, models=tuple(LABELS)):
        folder, runs, notes = Path(folder), {}, []
        folder.mkdir(parents=True, exist_ok=True)
        for m, model in enumerate(models):
            for k, n_relocated in enumerate(self.relocated):
                run = self._run(folder / f"{Path(model).stem}-{k}.npz", model_path(model), n_relocated,
                                [self.seed, m, k])
                runs[Path(model).stem, k] = run
                if run.stopped:
                    notes.append(f"{model}, run {k} stopped after {run.time[-1]:.0f} fs: {run.stopped}")
        return runs, notes

    def _run(self, output, path, n_relocated, seed):
        rng = np.random.default_rng(seed)
        start = crystal()
        start.calc = None
        if n_relocated:
            start = monte_carlo_lithium(start, rng, n_relocated)
        every = max(1, round(25.0 / self.timestep))
        settings = dynamics.MDSettings(every * round(1e3 * self.ps / (self.timestep * every)), self.temperature,
                                       self.timestep, taut=100.0, every=every, segment=80 * every,
                                       seed=int(rng.integers(2**31)))
        return dynamics.run(start, partial(load_model, path), settings, output, Trust().watch(start), inputs=[path])


def md_frames(runs, n_frames, warm_up=2.0, name="test"):
    """n_frames of the trajectories `runs` {(model, run): `dynamics.Trajectory`}, as many of each, evenly spaced after
    `warm_up` (ps) -> list of Atoms with info name, model, run, time (fs), model_energy (eV, by the model that ran).

    The runs take turns, so that labels done so far are of all of them.
    Raises ValueError if the runs do not come to n_frames alike, or if one ended before its time.
    """
    per_run, rest = divmod(n_frames, len(runs))
    if rest or not per_run:
        raise ValueError(f"{n_frames} frames cannot be dealt to {len(runs)} runs alike: ask for a multiple")
    out = []
    for (model, k), run in runs.items():
        if run.stopped:
            raise ValueError(f"run {k} of {model} has left the trusted region ({run.stopped}): a test set needs models "
                             "that are stable; train on")
        spacing = (run.time[-1] - 1e3 * warm_up) / per_run
        for n, (time, atoms) in enumerate(spaced(run, spacing, 1e3 * warm_up + spacing / 2)[:per_run]):
            energy = float(run.potential[np.abs(run.time - time).argmin()])
            atoms.info.update(name=f"{name}-{model}-{k}-{n:02d}", config_type="test-md", model=model, run=k, time=time,
                              temperature=run.settings.temperature, model_energy=energy)
            atoms.wrap()
            out.append((n, len(out), atoms))
    return [atoms for _, _, atoms in sorted(out, key=lambda entry: entry[:2])]


def hop_frames(runs, models, n_hops=6, fractions=(0.25, 0.5, 0.75), progress=True):
    """Interpolated hops: of each model's runs the n_hops / 2 most frequent kinds -> list of Atoms.

    models: {name: ASE calculator}, to relax the ends. A hop whose ends relax into one place is passed over.
    """
    out, wanted = [], n_hops // len(models)
    for model, calculator in models.items():
        found = 0
        for (name, k), run in runs.items():
            if name != model:
                continue
            hops = find_hops(run)
            for kind in tqdm(hops.table(), f"hops, {model}, run {k}", disable=not progress):
                if found == wanted:
                    break
                hop = next(h for h in hops.hops if {h.start, h.end} == {kind.start, kind.end})
                images = _interpolated(end_points(run, [(hop.start_frame, hop.end_frame)]), calculator, fractions, hop)
                for f, atoms in zip(fractions, images, strict=False):
                    atoms.info.update(name=f"hop-{model}-{found}-{100 * f:.0f}", config_type="test-hop", model=model,
                                      hop=found, fraction=f, ion=hop.ion, length=round(kind.length, 3))
                    out.append(atoms)
                found += bool(images)
    return out


def _interpolated(ends, calculator, fractions, hop, fmax=0.05):
    """Images at `fractions` between the relaxed ends, none if these are one place or cannot be joined."""
    for atoms in ends:
        atoms.calc = calculator
        LBFGS(atoms, logfile=None, maxstep=0.1).run(fmax=fmax, steps=300)
    start, end = ends
    if np.linalg.norm(end.positions[hop.ion] - start.positions[hop.ion]) < 1.0:
        return []
    try:
        check_ends(start, end)
    except ValueError:  # others have traded places meanwhile
        return []
    n = len(fractions)
    images = [start, *(start.copy() for _ in range(n)), end]
    for f, atoms in zip(fractions, images[1:-1], strict=True):
        atoms.positions = (1 - f) * start.positions + f * end.positions
    idpp_interpolate(NEB(images, method="improvedtangent"), traj=None, log=None, mic=True)
    out = [a.copy() for a in images[1:-1]]
    for atoms in out:
        atoms.info = {}
        atoms.wrap()
    return out


def volume_frames(volumes=VOLUMES):
    """The crystal at `volumes` (relative) with its fractional coordinates -> list of Atoms, info volume."""
    out = []
    for v in volumes:
        if not v > 0:
            raise ValueError(f"relative volume {v}: it must be positive")
        atoms = crystal()
        atoms.calc = None
        atoms.arrays.pop("hirshfeld", None)
        atoms.set_cell(atoms.cell * v ** (1 / 3), scale_atoms=True)
        atoms.info = {"name": f"volume-{v:.3f}", "config_type": "volume", "volume": v}
        out.append(atoms)
    return out


def add_testset_arguments(parser):
    parser.add_argument("set", choices=("md", "hops", "rare", "volume"), help="which set")
    parser.add_argument("output", type=Path, help="extended XYZ file of unlabelled frames to write")
    parser.add_argument("--models", nargs="+", default=list(LABELS), help="of the MD (default gap es-gap, the final)")
    parser.add_argument("--temperature", type=float, default=TestRuns.temperature, help="K (default 800)")
    parser.add_argument("--frames", type=int, default=60, help="frames of the sets md and rare (default 60)")
    parser.add_argument("--trajectory", nargs="+", help="runs that the set rare is looked for in, .npz")
    parser.add_argument("--hops", type=int, default=6, help="hops of the set hops, three frames each (default 6)")
    parser.add_argument("--ps", type=float, default=TestRuns.ps, help="length of each run (default 17 ps)")
    parser.add_argument("--seed", type=int, default=SEED, help="of the runs")


def testset_command(args):
    """python -m esgap testset: trajectories go to a folder beside the output, and are not made twice."""
    with only_writer(args.output):
        if args.set == "volume":
            frames = volume_frames()
        elif args.set == "rare":
            if not args.trajectory:
                raise ValueError("rare events of which runs? give --trajectory, of `python -m esgap md` or in "
                                 "data/runs/mobility/md")
            frames = rare_frames(args.trajectory, args.frames, args.models)
        else:
            folder = args.output.with_name(f"md-{args.temperature:.0f}K")
            runs, notes = TestRuns(args.temperature, ps=args.ps, seed=args.seed)(folder, args.models)
            print(*notes, sep="\n")
            name = f"test{args.temperature:.0f}"
            frames = (md_frames(runs, args.frames, TestRuns.warm_up, name) if args.set == "md" else
                      hop_frames(runs, {Path(m).stem: load_model(m) for m in args.models}, args.hops))
            of = {Path(m).stem: read_record(model_path(m).with_suffix(".json")).get("generation") for m in args.models}
            for atoms in (a for a in frames if of[a.info["model"]] is not None):
                atoms.info["model_generation"] = of[atoms.info["model"]]
        write_frames(args.output, frames)
    grid = " --kpts 2 2 2" if args.set == "volume" else ""  # the density rule would take more points in small cells
    print(f"{args.output}: {len(frames)} frames; label them with: python -m esgap label {args.output} OUT.xyz{grid}")
    return 0
