"""python -m esgap paths: hops seen in MD, as minimum-energy paths of both models, each evaluated with the other.

Hops are taken from trajectories as `hop_choice` says. Their end points go to `ends.xyz`; both models relax them and
find the path between, `hop-0-gap.xyz`, ... From the same end points of MD two models can relax into different minima;
with `--from-other`, each also begins from the relaxed ends and the path of the other (`hop-0-gap-from-es-gap.xyz`),
where `hop_pairs` finds that the two differ. The record `paths.json` holds energies of both models on all paths, and
what could not be done, with the reason. `images.xyz` are all images, to be labelled:
    python -m esgap label data/runs/paths/images.xyz data/dft/path-images.xyz
Units: A, eV.
"""
import contextlib
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from ase import Atoms

from .barriers import NEBSettings, find_path
from .committee_run import stored_committees
from .hop_choice import SHORTEST, write_ends
from .hop_pairs import asks_for_common
from .models import LABELS, load_model, model_path
from .paths import Profile, evaluate, labels_on, load_path, moved
from .store import data_path, file_hash, only_writer, read_frames, read_record, write_frames, write_record
from .structures import crystal

FOLDER = "runs/paths"  # of the data
DFT = "dft/path-images.xyz"
REASONS = (ValueError, RuntimeError)  # what a search says when there is no path


@dataclass(frozen=True, eq=False)
class HopPaths:
    """One hop: its ion, and energies of every potential on the path of either model."""

    name: str
    ion: int
    length: float  # A, between the sites
    along: tuple  # A along a, b, c
    moved_with: tuple  # ions that hopped at the same time in MD
    profiles: dict = field(repr=False)  # {(label, path of): Profile}
    images: dict = field(repr=False)  # {path of: tuple of Atoms}
    after: str | None = None  # name of the hop that ends where this one begins, with the same ion
    begun_from: str | None = None  # model whose minima and path both began from; None: each relaxed the ends of MD

    @property
    def title(self):
        """Its name, and where both paths have begun if not from the ends of MD."""
        return self.name if self.begun_from is None else f"{self.name}, both from {self.begun_from}"

    def barrier(self, label, path_of, way="forward"):
        """eV; way: "forward" or "reverse". KeyError if that potential was not evaluated there."""
        return getattr(self.profiles[label, path_of], way)

    def displaced(self, path_of, least=0.5):
        """Other ions of the same element that move by `least` A or more at any image -> {index: A}."""
        images = self.images[path_of]
        moved = np.linalg.norm([a.positions - images[0].positions for a in images], axis=2).max(0)
        same = images[0].numbers == images[0].numbers[self.ion]
        return {int(k): float(moved[k]) for k in np.flatnonzero(same & (moved >= least)) if k != self.ion}


@dataclass(frozen=True, eq=False)
class AllPaths:
    """What `python -m esgap paths` has found."""

    hops: tuple
    failed: tuple  # (name of hop, model, reason)
    generation: int | None  # of the models
    settings: dict
    sampled_by: tuple  # names of the trajectories
    has_dft: bool
    from_other: tuple = ()  # `HopPaths` again, in which one model has begun from the path of the other
    consecutive: tuple = ()  # (name, name) of hops of which the second begins where the first ends

    def __len__(self):
        return len(self.hops)


def with_bars(profile, images, committees):
    """The `Profile` with standard errors of its relative energies, and what each member says of its barriers, if there
    is a committee of its potential."""
    if profile.label not in committees:
        return profile
    committee, scale = committees[profile.label]
    energies = committee.energies(images)
    barriers = energies[:, [profile.highest]] - energies[:, [0, -1]]  # (n_members, 2)
    return replace(profile, bars=scale * (energies - energies[:, :1]).std(0, ddof=1),
                   draws=scale * (barriers - barriers.mean(0)))


def find_all(folder, models, settings=None, max_steps=500, progress=True, committees=None, from_other=False):
    """Paths of both models between the ends in `folder`, and the record of all -> dict of the record.

    models: {label: path of .npz}. committees: as of `stored_committees`. What is finished is read; what cannot be done
    is told in the record. from_other: where both models have a path and lead over other minima or saddle points, also
    from that of the other model; then nothing else is searched for, and what the record says has failed it keeps.
    """
    folder, settings = Path(folder), settings or NEBSettings()
    ends = {a.info["name"]: a for a in read_frames(folder / "ends.xyz")}
    names = sorted({name.rsplit("-", 1)[0] for name in ends}, key=lambda name: int(name.split("-")[1]))
    search = _Searches(folder, models, settings, max_steps, progress, committees or {})
    if from_other and (folder / "paths.json").exists():
        search.failed = [f for f in read_record(folder / "paths.json")["failed"] if " from " not in f[0]]
    skipped = {(name, label) for name, label, _ in search.failed}
    own = {name: {label: None if (name, label) in skipped else search.own(
        name, label, ends[f"{name}-start"], ends[f"{name}-end"]) for label in models} for name in names}
    for name, paths in own.items():
        for label, other in (tuple(models), tuple(models)[::-1]):
            wanted = (from_other and asks_for_common(*paths.values())) or (
                folder / f"{stem(name, label, other)}.json").exists()
            if wanted and paths[other]:
                search.from_other(name, label, other, paths[other])
    return search.write(folder / "ends.xyz")


def stem(name, label, begun_from=None):
    """Name of the file of one path, without ending. begun_from: whose path the search began from, if not its own."""
    other = f"-from-{begun_from.lower()}" if begun_from not in (None, label) else ""
    return f"{name}-{label.lower()}{other}"


@dataclass
class _Searches:
    """Paths being found, each evaluated with both models, for one record."""

    folder: Path
    models: dict  # {label: path of .npz}
    settings: NEBSettings
    max_steps: int
    progress: bool
    committees: dict

    def __post_init__(self):
        self.calculators = {label: load_model(path) for label, path in self.models.items()}
        self.profiles, self.failed, self.images = [], [], []

    def own(self, name, label, start, end):
        """The path of one model between ends from MD -> `paths.Path`, or None."""
        return self._path(name, label, None, start, end)

    def from_other(self, name, label, other, path):
        """The path of `label` from the ends and images of the `Path` of `other` -> `paths.Path`, or None."""
        start, *_, end = images = [moved(a, a.positions) for a in path.images]
        return self._path(name, label, other, start, end, images)

    def _path(self, name, label, other, start, end, guess=None):
        file = self.models[label]
        try:
            found = find_path(start, end, self.calculators[label], self.settings,
                              self.folder / f"{stem(name, label, other)}.xyz", label, True, self.max_steps,
                              progress=self.progress, inputs=[file, Path(file).with_suffix(".json")], guess=guess)
        except REASONS as error:
            if "belongs to a search" in str(error):
                raise
            self.failed.append((name + (f" from {other}" if other else ""), label, str(error)))
            return None
        self.images += [Atoms(a.symbols, a.positions, cell=a.cell, pbc=True, info={"name": a.info["name"]})
                        for a in found.images]
        for whose, calculator in self.calculators.items():
            p = found.profile if whose == label else evaluate(found, calculator, whose)
            self.profiles.append({"hop": name, "begun_from": other,
                                  **asdict(with_bars(p, found.images, self.committees))})
        return found

    def write(self, ends):
        """Write `images.xyz` and the record -> dict of the record."""
        if self.images:
            write_frames(self.folder / "images.xyz", self.images)
        generations = {read_record(Path(path).with_suffix(".json")).get("generation") for path in self.models.values()}
        record = {"profiles": self.profiles, "failed": self.failed, "settings": asdict(self.settings),
                  "generation": generations.pop() if len(generations) == 1 else None,
                  "committees": {label: {"members": len(committee), "scale": scale}
                                 for label, (committee, scale) in self.committees.items()},
                  "models": {label: file_hash(path) for label, path in self.models.items()}}
        with only_writer(self.folder / "paths.json"):
            return write_record(self.folder / "paths.json", record, [ends, *self.models.values()])


def load_paths(folder=None):
    """What `find_all` wrote, with DFT energies if `dft/path-images.xyz` has them -> `AllPaths`.

    FileNotFoundError if there are none."""
    folder = data_path(FOLDER) if folder is None else Path(folder)
    record, ends = read_record(folder / "paths.json"), {a.info["name"]: a for a in read_frames(folder / "ends.xyz")}
    dft = read_frames(data_path(DFT)) if data_path(DFT).exists() else []
    hops, from_other = [], []
    for name in dict.fromkeys(p["hop"] for p in record["profiles"]):
        info, of_hop = ends[f"{name}-start"].info, [p for p in record["profiles"] if p["hop"] == name]
        own = [p for p in of_hop if not p.get("begun_from")]
        if own:
            hops.append(_hop(name, info, own, folder, dft))
        for model in LABELS.values():
            begun = [p for p in of_hop if p.get("begun_from") == model]
            if begun and (of_model := [p for p in own if p["path_of"] == model]):
                from_other.append(replace(_hop(name, info, of_model + begun, folder, dft), begun_from=model))
    has_dft = any(label == "DFT" for h in (*hops, *from_other) for label, _ in h.profiles)
    return AllPaths(tuple(hops), tuple(map(tuple, record["failed"])), record["generation"], record["settings"],
                    tuple(dict.fromkeys(a.info["sampled_by"] for a in ends.values())), has_dft, tuple(from_other),
                    tuple((a.info["after"], name.removesuffix("-start")) for name, a in ends.items()
                          if name.endswith("-start") and a.info.get("after", "none") != "none"))


def _hop(name, info, records, folder, dft):
    """`HopPaths` of one path of each model. info: of the first end; records: of `Profile`s, as stored."""
    profiles, images = {}, {}
    for p in records:
        arrays = (np.array(p[x]) for x in ("coordinate", "energies", "slopes"))
        bars, draws = (np.array(p[x]) if p.get(x) else None for x in ("bars", "draws"))
        profiles[p["label"], p["path_of"]] = Profile(*arrays, p["label"], p["path_of"], bars, draws)
        path_of, file = p["path_of"], stem(name, p["path_of"], p.get("begun_from"))
        if path_of not in images:
            path = load_path(folder / f"{file}.xyz")
            images[path_of] = path.images
            with contextlib.suppress(ValueError):  # no labels, or of other images, such as those of earlier models
                profiles["DFT", path_of] = labels_on(path, dft)
    with_it = info["moved_with"]
    with_it = () if with_it == "none" else tuple(int(k) for k in str(with_it).split("+"))
    return HopPaths(name, int(info["ion"]), float(info["length"]), tuple(map(float, info["along"])), with_it,
                    profiles, images, None if info.get("after", "none") == "none" else info["after"])


def found_now(hop, model, images=5, fmax=0.05, max_steps=300):
    """The path of one model for a `HopPaths` once more, from straight lines between its relaxed ends and with products
    in single precision: seconds to a minute -> `paths.Path`, labelled "now"."""
    start, end = (moved(hop.images[model][k], hop.images[model][k].positions) for k in (0, -1))
    name = next(name for name, label in LABELS.items() if label == model)
    return find_path(start, end, load_model(name, dtype=np.float32), NEBSettings(images, fmax), label="now",
                     exchange=True, max_steps=max_steps, progress=False)


def stored():
    """What `load_paths` finds in the data, without any hops if there is nothing yet."""
    try:
        return load_paths()
    except FileNotFoundError:
        return AllPaths((), (), None, {}, (), False)


def add_paths_arguments(parser):
    parser.add_argument("--models", nargs=2, default=["gap", "es-gap"], metavar=("GAP", "ES-GAP"),
                        help="names or paths of stored models (default: gap es-gap)")
    parser.add_argument("--trajectory", nargs="+", help="take the hops of these (.npz, of `python -m esgap md` or in "
                        "data/runs/mobility/md); not needed again once ends.xyz is there")
    parser.add_argument("--hops", type=int, default=2, help="most frequent kinds from each trajectory (default 2)")
    parser.add_argument("--shortest", type=float, default=SHORTEST, help=f"A, hops to take (default {SHORTEST})")
    parser.add_argument("--through", choices=tuple("abc"), help="also two consecutive hops of one ion that carry it "
                        "from one unit cell to the next along this lattice vector, from each trajectory")
    parser.add_argument("--repeat", type=int, nargs=3, default=(1, 1, 1), help="repeat the cell, e.g. 1 2 1")
    parser.add_argument("--images", type=int, default=NEBSettings.images, help="between the ends (default 7)")
    parser.add_argument("--fmax", type=float, default=NEBSettings.fmax, help="eV/A, force left (default 0.02)")
    parser.add_argument("--tolerance", type=float, help="eV, more images until barriers change by less")
    parser.add_argument("--max-steps", type=int, default=500, help="of each relaxation (default 500)")
    parser.add_argument("--from-other", action="store_true", help="of hops on which the models differ, begin from the "
                        "relaxed ends and the path of the other model; searches that have failed are not repeated")
    parser.add_argument("--folder", help="where paths are kept (default data/runs/paths)")
    parser.add_argument("--replace", action="store_true", help="find the paths anew, e.g. with other models")


def paths_command(args):
    """python -m esgap paths: the same command goes on after a kill."""
    folder = Path(args.folder or data_path(FOLDER))
    folder.mkdir(parents=True, exist_ok=True)
    ends = folder / "ends.xyz"
    if args.replace:
        for old in [*folder.glob("hop-*.*"), folder / "paths.json", folder / "images.xyz",
                    *([ends] if args.trajectory else [])]:
            old.unlink(missing_ok=True)
    if not ends.exists():
        if not args.trajectory:
            raise ValueError(f"there is no {ends} yet: give --trajectory, whose hops are taken")
        write_ends(args.trajectory, args.hops, ends, tuple(args.repeat), shortest=args.shortest,
                   through=args.through and crystal().cell["abc".index(args.through)])
    models = {label: str(model_path(name)) for name, label in zip(args.models, LABELS.values(), strict=True)}
    find_all(folder, models, NEBSettings(args.images, args.fmax, tolerance=args.tolerance), args.max_steps,
             committees=stored_committees(models), from_other=args.from_other)
    found = load_paths(folder)
    print(*(p for h in (*found.hops, *found.from_other) for p in h.profiles.values()), sep="\n")
    for name, label, reason in found.failed:
        print(f"{name}, {label}: {reason}")
    return 0 if len(found) else 1
