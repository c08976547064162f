"""Minimum-energy paths between relaxed minima: nudged elastic bands with a climbing image, in a fixed cell.

Improved tangents (G. Henkelman, H. Jonsson, J. Chem. Phys. 113, 9978 (2000)) and climbing image (G. Henkelman,
B. Uberuaga, H. Jonsson, J. Chem. Phys. 113, 9901 (2000)) by `ase.mep.NEB`. First guess: straight lines, made to keep
distances by the image dependent pair potential (S. Smidstrup et al., J. Chem. Phys. 140, 214106 (2014)), or a path that
is known, such as that of another potential. The band is relaxed without, then with the climbing image, by L-BFGS.
Positions are stored every few steps; a search that was killed goes on from there (L-BFGS begins anew), and ends within
the force tolerance where it would have.
Units: A, eV, eV/A.
"""
from dataclasses import asdict, dataclass
from pathlib import Path as FilePath

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.mep import NEB
from ase.mep.neb import idpp_interpolate
from ase.optimize import LBFGS
from tqdm import tqdm

from .dynamics import load_trajectory
from .ends import check_ends
from .hops import end_points
from .models import load_model, model_path
from .paths import Path, labelled_by, load_path, moved, profile, respaced, write_path
from .store import file_hash, only_writer, read_arrays, read_frames, read_record, structure_hash, write_arrays

LONGEST = 0.1  # A, step of an atom
SAME = 0.2  # A, ends all of whose atoms are closer than this are one minimum


@dataclass(frozen=True)
class NEBSettings:
    """What a path depends on, apart from its ends and the potential."""

    images: int = 7  # between the ends
    fmax: float = 0.02  # eV/A, largest force left on an atom of an end, and on one of the band
    climb_below: float = 0.1  # eV/A, largest force at which the highest image begins to climb
    spring: float = 1.0  # eV/A^2
    tolerance: float | None = None  # eV; more images until both barriers change by less. None: no more images
    most_images: int = 40

    def __post_init__(self):
        if self.images < 3:
            raise ValueError(f"images is {self.images}; a band needs 3 or more between its ends")
        for name in ("fmax", "climb_below", "spring"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive")


def find_path(start, end, calculator, settings=NEBSettings(), output=None, label="model", exchange=False,
              max_steps=1000, store_every=5, progress=True, inputs=(), guess=None):
    """Relax both ends and find the path between them -> `paths.Path`.

    start, end: ASE Atoms, see `ends.check_ends`, also for `exchange`. label: name of the potential. output: path file
    to write (.xyz, see `paths`); what is finished is read, and what was begun goes on. max_steps: of each relaxation,
    positions are stored every `store_every` of them. inputs: files, such as that of the potential, that belong to the
    search and whose hashes the record keeps. guess: images of a path to begin from, ends included; they are made as
    many as `settings` asks for, and follow their ends where these relax.
    RuntimeError if the forces are not small enough after max_steps: the same call goes on.
    """
    check_ends(start, end, exchange)
    about = {"start": structure_hash(start), "end": structure_hash(end), "settings": _identity(settings),
             "label": label, "made_from": sorted(map(file_hash, inputs)),
             **({} if guess is None else {"guess": [structure_hash(a) for a in guess]})}
    search = _Search(calculator, settings, label, max_steps, store_every, progress, guess)
    if output is None:
        return search.run(start, end)
    output = FilePath(output)
    if output.suffix != ".xyz":
        raise ValueError(f"{output} does not end in .xyz: a path is written as extended XYZ")
    search.file, search.about = output.with_suffix(".state.npz"), about
    with only_writer(output, output.with_suffix(".json"), search.file):
        if output.with_suffix(".json").exists():
            _same(output, read_record(output.with_suffix(".json")), about)
        else:
            path = search.run(start, end, output.stem)
            write_path(output, path, inputs, **{k: v for k, v in about.items() if k not in ("settings", "label")})
        search.file.unlink(missing_ok=True)
        return load_path(output)


def find_chain(frames, calculator, settings=NEBSettings(), output=None, **options):
    """Paths between consecutive ends, each beginning in the relaxed minimum in which the one before ends -> list.

    output: "x.xyz" gives x-1.xyz, x-2.xyz, ...; options as in `find_path`.
    """
    if len(frames) < 2:
        raise ValueError(f"{len(frames)} frame is no path: give two or more ends in order")
    found, start = [], frames[0]
    for k, end in enumerate(frames[1:], 1):
        file = output and FilePath(output).with_stem(f"{FilePath(output).stem}-{k}")
        found.append(find_path(start, end, calculator, settings, file, **options))
        start = found[-1].images[-1]
    return found


class _OfImage(Calculator):
    """One image's results of a calculator that all share: optimisers ask three times a step."""

    implemented_properties = ("energy", "forces")

    def __init__(self, shared):
        super().__init__()
        self.shared = shared

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = {name: self.shared.get_property(name, self.atoms) for name in self.implemented_properties}


@dataclass
class _Search:
    """A search on its way: what it needs, and where (if anywhere) it keeps what it has."""

    calculator: Calculator
    settings: NEBSettings
    label: str
    max_steps: int
    store_every: int
    progress: bool
    guess: list | None = None  # images to begin from
    file: FilePath | None = None
    about: dict | None = None

    def run(self, start, end, name="path"):
        """-> `Path`. Stages: "ends" (only the ends are there), "band", "climb"; then more images, "band", ..."""
        stage, positions, history = self._resumed() or ("ends", [start.positions, end.positions], [])
        images = [moved(start, p) for p in positions]
        if stage == "ends":
            images = self._first_guess(images)
            self._save("band", images, history)
            stage = "band"
        while True:
            images[0], images[-1] = (labelled_by(self.calculator, images[k], "", self.label) for k in (0, -1))
            for image in images[1:-1]:
                image.calc = _OfImage(self.calculator)
            if stage == "band":
                self._optimise(images, history, False, self.settings.climb_below)
            climbed = _above_ends(images)
            self._save("climb", images, history)
            fmax = self._optimise(images, history, climbed, self.settings.fmax)
            images = [labelled_by(self.calculator, a, f"{name}-{k:02d}", self.label) for k, a in enumerate(images)]
            along = profile(images, self.label, self.label)
            history.append((len(images) - 2, along.forward, along.reverse))
            if self._enough(history):
                return Path(tuple(images), along, fmax, climbed, tuple(history), _identity(self.settings))
            images, stage = respaced(images, _next_number(history[-1][0])), "band"
            self._save(stage, images, history)

    def _enough(self, history):
        s, n = self.settings, history[-1][0]
        if s.tolerance is None or (len(history) > 1 and np.abs(np.subtract(*history[-2:]))[1:].max() < s.tolerance):
            return True
        if _next_number(n) > s.most_images:
            barriers = ", ".join(f"{forward:.3f} ({n})" for n, forward, _ in history)
            raise RuntimeError(f"the barrier still changes by more than {s.tolerance} eV with {n} images: {barriers} "
                               f"eV; allow more than most_images {s.most_images}, or a larger tolerance")
        return False

    def _first_guess(self, ends):
        for atoms, which in zip(ends, ("start", "end"), strict=True):
            atoms.calc = self.calculator
            with LBFGS(atoms, logfile=None, maxstep=LONGEST) as optimiser:
                self._steps(optimiser, atoms, self.settings.fmax, f"the {which}", lambda: self._save("ends", ends, []))
        apart = np.linalg.norm(ends[1].positions - ends[0].positions, axis=1)
        if apart.max() < SAME:
            raise ValueError(f"both ends relax into the same minimum, no atom is more than {apart.max():.2f} A apart: "
                             "there is no path to find; give other ends")
        if self.guess is not None:
            return _carried(respaced(self.guess, self.settings.images), ends)
        images = _straight(ends, self.settings.images)
        idpp_interpolate(NEB(images, method="improvedtangent"), traj=None, log=None, mic=True)
        return images

    def _optimise(self, images, history, climb, fmax):
        """Relax a band in place -> largest force left, eV/A."""
        band = NEB(images, k=self.settings.spring, climb=climb, method="improvedtangent")
        stage = "climb" if climb else "band"
        with LBFGS(band, logfile=None, maxstep=LONGEST) as optimiser:
            return self._steps(optimiser, band, fmax, f"the {stage} of {len(images) - 2} images",
                               lambda: self._save(stage, images, history))

    def _steps(self, optimiser, what, fmax, text, save):
        """Optimise until no force exceeds fmax -> largest force; what has been reached is kept whatever happens."""
        with tqdm(desc=text, unit="step", disable=not self.progress) as bar:
            for _ in optimiser.irun(fmax=fmax, steps=self.max_steps):
                reached = float(np.linalg.norm(what.get_forces(), axis=1).max())
                bar.update(optimiser.nsteps - bar.n)
                bar.set_postfix_str(f"largest force {reached:.3f} eV/A", refresh=False)
                if optimiser.nsteps % self.store_every == 0:
                    save()
        save()
        if reached > fmax:
            raise RuntimeError(f"the largest force on {text} is {reached:.4f} eV/A after {self.max_steps} steps, not "
                               f"{fmax:g}: go on with more steps (an output file keeps what has been reached), or "
                               "begin from other ends")
        return reached

    def _save(self, stage, images, history):
        if self.file is not None:
            write_arrays(self.file, {**self.about, "stage": stage, "history": history},
                         positions=np.array([a.positions for a in images]))

    def _resumed(self):
        if self.file is None or not self.file.exists():
            return None
        header, arrays = read_arrays(self.file)
        _same(self.file, header, self.about)
        return header["stage"], arrays["positions"], [tuple(h) for h in header["history"]]


def _same(path, record, about):
    for name, value in about.items():
        if record.get(name) != value:
            raise ValueError(f"{path} belongs to a search with {name} {record.get(name)}, not {value}: remove it, or "
                             "choose another output")


def _identity(settings):
    """What decides the result, as plain values: how far the number of images may go does not."""
    return {name: value for name, value in asdict(settings).items() if name != "most_images"}


def _straight(ends, n):
    return [moved(ends[0], p) for p in np.linspace(ends[0].positions, ends[1].positions, n + 2)]


def _carried(images, ends):
    """Images between other ends: each is shifted by what the ends are apart, in proportion to how near they are."""
    first, last = (b.positions - a.positions for a, b in zip((images[0], images[-1]), ends, strict=True))
    return [moved(ends[0], a.positions + (1 - x) * first + x * last)
            for a, x in zip(images, np.linspace(0, 1, len(images)), strict=True)]


def _next_number(n):
    return n + max(2, n // 2)


def _above_ends(images):
    energies = [a.get_potential_energy() for a in images]
    return bool(max(energies[1:-1]) > max(energies[0], energies[-1]))


def add_neb_arguments(parser):
    parser.add_argument("model", help="gap, es-gap, or the path of a stored model (see esgap.load_model)")
    parser.add_argument("ends", help="ends in order, extended XYZ (two, or more for consecutive hops); or a table of "
                                     "hops, .json, from `python -m esgap hops`")
    parser.add_argument("output", help="path to write, .xyz; of more than two ends PATH-1.xyz, PATH-2.xyz, ...")
    parser.add_argument("--trajectory", help="where the hops of a table were found, .npz")
    parser.add_argument("--hop", type=int, nargs="+", help="numbers of consecutive hops in the table, from 0")
    parser.add_argument("--repeat", type=int, nargs=3, default=(1, 1, 1), help="repeat the cell, e.g. 1 2 1")
    parser.add_argument("--exchange", action="store_true", help="atoms may take each other's places")
    parser.add_argument("--max-steps", type=int, default=1000, help="of each relaxation (default 1000)")
    parser.add_argument("--tolerance", type=float, help="eV, raise the number of images until barriers change by less")
    for name, unit in (("images", "between the ends"), ("fmax", "eV/A"), ("spring", "eV/A^2"),
                       ("most_images", "with --tolerance")):
        default = getattr(NEBSettings, name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default,
                            help=f"{unit} (default {default})")


def neb_command(args):
    """python -m esgap neb: relaxed ends and the path between them; the same command goes on after a kill."""
    settings = NEBSettings(args.images, args.fmax, spring=args.spring, tolerance=args.tolerance,
                           most_images=args.most_images)
    file, of_table = model_path(args.model), str(args.ends).endswith(".json")
    frames = _ends_of_hops(args) if of_table else [a * tuple(args.repeat) for a in read_frames(args.ends)]
    label = {"gap": "GAP", "es-gap": "ES-GAP"}.get(args.model, file.stem)
    options = dict(label=label, exchange=args.exchange or of_table, max_steps=args.max_steps,
                   inputs=[file, file.with_suffix(".json")])
    if len(frames) == 2:
        found = [find_path(*frames, load_model(file), settings, args.output, **options)]
    else:
        found = find_chain(frames, load_model(file), settings, args.output, **options)
    print(*found, sep="\n")
    return 0


def _ends_of_hops(args):
    if not (args.trajectory and args.hop):
        raise ValueError("a table of hops needs --trajectory, in which they were found, and --hop, their numbers")
    table = read_record(args.ends)
    if file_hash(args.trajectory) not in table["made_by"]["inputs"].values():
        raise ValueError(f"{args.ends} was not made from {args.trajectory}: give the trajectory that it names")
    if not 0 <= min(args.hop) <= max(args.hop) < len(table["hops"]):
        raise ValueError(f"--hop {args.hop}: {args.ends} has hops 0 to {len(table['hops']) - 1}")
    hops = [(table["hops"][n]["start_frame"], table["hops"][n]["end_frame"]) for n in args.hop]
    return end_points(load_trajectory(args.trajectory), hops, repeat=args.repeat, element=table["settings"]["element"])
