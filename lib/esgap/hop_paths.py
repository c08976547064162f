"""python -m esgap paths: hops seen in MD, as minimum-energy paths of both models, each evaluated with the other.

Hops are taken from trajectories as `hop_choice` says. Their end points go to `ends.xyz`; both models relax them and
find the path between, `hop-0-gap.xyz`, ...; the record `paths.json` holds energies of both models on both paths, and
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
from .models import LABELS, load_model, model_path
from .paths import Profile, evaluate, labels_on, load_path
from .store import data_path, file_hash, only_writer, read_frames, read_record, write_frames, write_record
from .structures import crystal
from .training import standing

FOLDER = "runs/paths"  # of the data
DFT = "dft/path-images.xyz"
JOINT = 0.1  # A between the ends of consecutive paths
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

    def __len__(self):
        return len(self.hops)


def with_bars(profile, images, committees):
    """The `Profile` with standard errors of its relative energies, if there is a committee of its potential."""
    if profile.label not in committees:
        return profile
    committee, scale = committees[profile.label]
    energies = committee.energies(images)
    return replace(profile, bars=scale * (energies - energies[:, :1]).std(0, ddof=1))


def find_all(folder, models, settings=None, max_steps=500, progress=True, committees=None):
    """Paths of both models between the ends in `folder`, and the record of all -> dict of the record.

    models: {label: path of .npz}. committees: as of `stored_committees`. What is finished is read; what cannot be done
    is told in the record.
    """
    folder, settings = Path(folder), settings or NEBSettings()
    ends = {a.info["name"]: a for a in read_frames(folder / "ends.xyz")}
    calculators = {label: load_model(path) for label, path in models.items()}
    names = sorted({name.rsplit("-", 1)[0] for name in ends}, key=lambda name: int(name.split("-")[1]))
    profiles, failed, images = [], [], []
    for name in names:
        for label, path in models.items():
            output = folder / f"{name}-{label.lower()}.xyz"
            try:
                found = find_path(ends[f"{name}-start"], ends[f"{name}-end"], calculators[label], settings, output,
                                  label, True, max_steps, progress=progress,
                                  inputs=[path, Path(path).with_suffix(".json")])
            except REASONS as error:
                if "belongs to a search" in str(error):
                    raise
                failed.append((name, label, str(error)))
                continue
            images += [Atoms(a.symbols, a.positions, cell=a.cell, pbc=True, info={"name": a.info["name"]})
                       for a in found.images]
            for other, calculator in calculators.items():
                p = found.profile if other == label else evaluate(found, calculator, other)
                profiles.append({"hop": name, **asdict(with_bars(p, found.images, committees or {}))})
    if images:
        write_frames(folder / "images.xyz", images)
    generations = {read_record(Path(path).with_suffix(".json")).get("generation") for path in models.values()}
    record = {"profiles": profiles, "failed": failed, "settings": asdict(settings),
              "generation": generations.pop() if len(generations) == 1 else None,
              "committees": {label: {"members": len(committee), "scale": scale}
                             for label, (committee, scale) in (committees or {}).items()},
              "models": {label: file_hash(path) for label, path in models.items()}}
    with only_writer(folder / "paths.json"):
        return write_record(folder / "paths.json", record, [folder / "ends.xyz", *models.values()])


def load_paths(folder=None):
    """What `find_all` wrote, with DFT energies if `dft/path-images.xyz` has them -> `AllPaths`.

    FileNotFoundError if there are none."""
    folder = data_path(FOLDER) if folder is None else Path(folder)
    record, ends = read_record(folder / "paths.json"), {a.info["name"]: a for a in read_frames(folder / "ends.xyz")}
    dft = read_frames(data_path(DFT)) if data_path(DFT).exists() else []
    hops, has_dft = [], False
    for name in dict.fromkeys(p["hop"] for p in record["profiles"]):
        profiles, images, info = {}, {}, ends[f"{name}-start"].info
        for p in record["profiles"]:
            if p["hop"] == name:
                arrays = (np.array(p[x]) for x in ("coordinate", "energies", "slopes"))
                bars = np.array(p["bars"]) if p.get("bars") else None
                profiles[p["label"], p["path_of"]] = Profile(*arrays, p["label"], p["path_of"], bars)
        for label in {path_of for _, path_of in profiles}:
            path = load_path(folder / f"{name}-{label.lower()}.xyz")
            images[label] = path.images
            if dft:
                with contextlib.suppress(ValueError):  # labels of other images, such as those of earlier models
                    profiles["DFT", label], has_dft = labels_on(path, dft), True
        with_it = info["moved_with"]
        with_it = () if with_it == "none" else tuple(int(k) for k in str(with_it).split("+"))
        hops.append(HopPaths(name, int(info["ion"]), float(info["length"]), tuple(map(float, info["along"])), with_it,
                             profiles, images, None if info.get("after", "none") == "none" else info["after"]))
    return AllPaths(tuple(hops), tuple(map(tuple, record["failed"])), record["generation"], record["settings"],
                    tuple(dict.fromkeys(a.info["sampled_by"] for a in ends.values())), has_dft)


def stored():
    """What `load_paths` finds in the data, without any hops if there is nothing yet."""
    try:
        return load_paths()
    except FileNotFoundError:
        return AllPaths((), (), None, {}, (), False)


def summary(found):
    """Markdown: what the paths of `AllPaths` say about the paper's two statements, or that there are none yet."""
    hops = both_paths(found)
    if not hops:
        return (f"There is no hop yet of which both potentials have a path over a saddle point ({len(found)} with "
                f"paths whose highest point is an end, {len(found.failed)} failed searches): the statements on "
                "barriers are *not yet tested*. `python -m esgap paths` goes on with other hops.")
    own = {m: np.array([h.barrier(m, m) for h in hops]) for m in LABELS.values()}
    change = {m: np.mean([abs(h.barrier(m, other) - h.barrier(m, m)) for h in hops])
              for m, other in (("GAP", "ES-GAP"), ("ES-GAP", "GAP"))}
    less = 1e3 * (own["ES-GAP"] - own["GAP"])
    bar = f" ± {less.std(ddof=1) / np.sqrt(len(less)):.0f}" if len(less) > 1 else ""
    beside = np.mean([len(h.displaced(m)) for h in hops for m in h.images])
    between = sorted({len(images) - 2 for h in hops for images in h.images.values()})
    number = f"{between[0]} to {between[-1]}" if len(between) > 1 else f"{between[0]}"
    enough = ""
    if tolerance := found.settings.get("tolerance"):
        enough = f" (fewer give the same barriers to {1e3 * tolerance:.0f} meV)"
    where = "unknown" if found.generation is None else standing(found.generation, data_path("training"))
    return (f"With potentials of generation {where}: {len(hops)} hop{'s' * (len(hops) > 1)} with paths of "
            f"both in a cell of {len(hops[0].images['GAP'][0])} atoms, {number} images between the ends{enough}, "
            f"forces below {found.settings['fmax']} eV/Å ({len(found.failed)} searches have failed):\n\n"
            f"- **Either path.** On the path of the other, barriers change by {1e3 * change['GAP']:.0f} (GAP) and "
            f"{1e3 * change['ES-GAP']:.0f} meV (ES-GAP) on average.\n"
            f"- **Order.** Mean barriers are {own['GAP'].mean():.3f} (GAP) and {own['ES-GAP'].mean():.3f} eV (ES-GAP); "
            f"ES-GAP less GAP {less.mean():+.0f}{bar} meV. {_beside_dft(hops)}\n"
            f"- **Correlated motion.** Along a path {beside:.1f} other ions move by 0.5 Å or more, on average.")


def _beside_dft(hops):
    """Sentence on barriers of DFT less those of the models, each on its own path."""
    parts = []
    for m in LABELS.values():
        less = [1e3 * (h.barrier("DFT", m) - h.barrier(m, m)) for h in hops if ("DFT", m) in h.profiles]
        if less:
            bar = f" ± {np.std(less, ddof=1) / np.sqrt(len(less)):.0f}" if len(less) > 1 else ""
            parts.append(f"less {m} {np.mean(less):+.0f}{bar} meV ({len(less)} hop{'s' * (len(less) > 1)}"
                         f"{'' if bar else ', so no error bar'})")
    return f"DFT on the same images: {', '.join(parts)}." if parts else "DFT on the images has not been computed yet."


def both_paths(found):
    """Hops of `AllPaths` of which both models have a path over a saddle point, the lowest barrier first -> tuple of
    `HopPaths`. A path whose highest point is an end tells which end is lower, not how high a barrier is."""
    both = [h for h in found.hops if set(h.images) == set(LABELS.values())
            and all(0 < h.profiles[m, m].highest < len(h.images[m]) - 1 for m in h.images)]
    return tuple(sorted(both, key=lambda h: min(h.barrier(m, m) for m in h.images)))


def traversals(found):
    """Consecutive hops of `AllPaths` as one path each, of those models that have both -> tuple of `HopPaths`.

    Energies of DFT that are there for the first hop alone stay its own.
    """
    by_name, out = {h.name: h for h in found.hops}, []
    for second in found.hops:
        first = by_name.get(second.after)
        if first and (keys := [key for key in first.profiles if _meet(first, second, key)]):
            profiles = {key: _one_after_the_other(first.profiles[key], second.profiles[key]) for key in keys}
            images = {of: first.images[of] + second.images[of][1:] for _, of in keys}
            profiles |= {("DFT", of): first.profiles["DFT", of] for of in images
                         if ("DFT", of) in first.profiles and ("DFT", of) not in profiles}
            out.append(replace(first, name=f"{first.name} and {second.name}", length=first.length + second.length,
                               along=tuple(np.add(first.along, second.along)), profiles=profiles, images=images))
    return tuple(out)


def _meet(first, second, key):
    """Whether the second path begins where the first ends, in the minimum that both have relaxed to."""
    path_of = key[1]
    if key not in second.profiles or path_of not in second.images:
        return False
    apart = second.images[path_of][0].positions - first.images[path_of][-1].positions
    return float(np.linalg.norm(apart, axis=1).max()) < JOINT


def _one_after_the_other(a, b):
    coordinate = np.concatenate([a.coordinate, a.coordinate[-1] + b.coordinate[1:]])
    return replace(a, coordinate=coordinate, energies=np.concatenate([a.energies, b.energies[1:]]),
                   slopes=np.concatenate([a.slopes, b.slopes[1:]]), bars=None)


def hop_table(found, n=10):
    """Markdown table of the n most frequent kinds of hops of `hops.Hops`."""
    rows = ["| sites | length (Å) | along a, b, c (Å) | forth | back | duration (fs) | with others (%) |",
            "|:--|--:|:--|--:|--:|--:|--:|"]
    for k in found.table()[:n]:
        along = ", ".join(f"{x:+.1f}" for x in k.along)
        rows.append(f"| {k.start} → {k.end} | {k.length:.2f} | {along} | {k.forward} | {k.backward} | "
                    f"{k.duration:.0f} | {100 * k.together:.0f} |")
    return "\n".join(rows)


def barrier_table(hops):
    """Markdown table of barriers (forward and reverse, eV) of every potential on either path."""
    rows = ["| hop | path of | Å | energies of | forward (eV) | reverse (eV) |", "|:--|:--|--:|:--|--:|--:|"]
    for h in hops:
        rows += [f"| {h.name} | {path_of} | {p.coordinate[-1]:.1f} | {label} | {p.forward:.3f}"
                 f"{'' if p.bars is None else f' ± {p.forward_error:.3f}'} | {p.reverse:.3f} |"
                 for (label, path_of), p in sorted(h.profiles.items(), key=lambda item: item[0][::-1])]
    return "\n".join(rows)


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
             committees=stored_committees(models))
    found = load_paths(folder)
    print(*(p for h in found.hops for p in h.profiles.values()), sep="\n")
    for name, label, reason in found.failed:
        print(f"{name}, {label}: {reason}")
    return 0 if len(found) else 1
