"""Hops of mobile ions in a trajectory, told from rattling and from excursions that return.

Frame: the centre of mass of all other atoms (the P-S framework) rests; positions are unwrapped. Sites: see `sites`.
Stays: an ion is on a site when it is within `radius` of its centre, and belongs to the site it was on last while it is
between sites. Stays shorter than `residence` are removed, the shortest first, and what are then stays on one and the
same site are joined; so flickering across a boundary and excursions that return are not hops. A hop is what lies
between two stays. A stay that the trajectory cuts off is as long as was seen; hops that this leaves open are
`undecided`. Periodic images of a site are different places: a path from a site to its image is a hop.
Units: A, fs.
"""
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers
from ase.geometry import get_distances

from .dynamics import load_trajectory
from .sites import Sites, find_sites, locate
from .store import only_writer, write_record
from .transport import in_frame_of

ENOUGH = 1000  # frames, evenly spaced, tell where sites are: what lies between tells when ions hop


@dataclass(frozen=True)
class HopSettings:
    """What counts as a site, a hop, and hops that belong together."""

    element: str = "Li"
    residence: float = 500.0  # fs on the new site, about five vibrations of Li
    radius: float = 1.0  # A from the centre of a site
    separation: float = 1.2  # A, smallest between two sites
    smoothing: float = 0.35  # A, standard deviation of the Gaussian
    least: float = 0.01  # ions, time average on a site
    window: float = 250.0  # fs between hops that belong together
    reach: float = 5.0  # A between ions that hop together

    def __post_init__(self):
        if self.element not in atomic_numbers:
            raise ValueError(f"element is {self.element!r}; give the symbol of the mobile ion, such as 'Li'")
        for name in ("residence", "radius", "separation", "smoothing", "least"):  # window and reach may be 0
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive")


@dataclass(frozen=True, eq=False)
class Hop:
    """One ion from one site to another; its path runs from the last frame on the one to the first on the other."""

    ion: int  # index among all atoms
    start: int  # site
    end: int
    image: tuple  # cell of the end site relative to that of the start site
    start_frame: int
    end_frame: int
    start_time: float  # fs
    end_time: float
    displacement: np.ndarray = field(repr=False)  # (3,) A, between the centres of the sites
    path: np.ndarray = field(repr=False)  # (n, 3) A, unwrapped, in the frame of the framework
    moved_with: tuple = ()  # other ions that hop at the same time nearby

    @property
    def duration(self):
        """fs"""
        return self.end_time - self.start_time

    def __str__(self):
        others = f", with {', '.join(map(str, self.moved_with))}" if self.moved_with else ""
        return (f"ion {self.ion}: site {self.start} -> {self.end} {self.image}, {np.linalg.norm(self.displacement):.2f}"
                f" A, {self.start_time:.0f} to {self.end_time:.0f} fs{others}")


@dataclass(frozen=True, eq=False)
class HopKind:
    """All hops between the same two sites, there (`forward`) and back (`backward`)."""

    start: int
    end: int
    image: tuple
    displacement: np.ndarray  # (3,) A
    along: np.ndarray  # (3,) A along a, b and c: displacement = sum of these times the unit vectors
    forward: int
    backward: int
    duration: float  # fs, mean
    together: float  # share of the hops with which others moved

    @property
    def length(self):
        """A"""
        return float(np.linalg.norm(self.displacement))

    def __str__(self):
        a, b, c = self.along
        return (f"{self.start:3d} -> {self.end:3d} {self.image!s:>11} {self.length:5.2f} A (a {a:+.2f}, b {b:+.2f}, "
                f"c {c:+.2f})  {self.forward:4d} forth {self.backward:4d} back  {self.duration:6.0f} fs  "
                f"{100 * self.together:3.0f} % with others")


@dataclass(frozen=True, eq=False)
class Hops:
    """Hops of a trajectory in the order in which they end."""

    hops: tuple
    sites: Sites
    settings: HopSettings
    located: float  # share of time that ions are on a site
    undecided: int  # hops too close to the ends of the trajectory to know
    length: float  # fs
    n_ions: int

    def __len__(self):
        return len(self.hops)

    def __str__(self):
        rate = len(self) / (self.n_ions * self.length * 1e-3)
        head = (f"{len(self)} hop{'s' * (len(self) != 1)} of {self.n_ions} {self.settings.element} between "
                f"{len(self.sites)} sites in {self.length * 1e-3:.4g} ps ({rate:.3g} per ion and ps), "
                f"{self.undecided} undecided; {100 * self.located:.0f} % of the time on a site")
        return "\n".join([head, *map(str, self.table())])

    def table(self):
        """Distinct hops, the most frequent first -> tuple of `HopKind`; forward is to the site of higher number."""
        groups = {}
        for hop in self.hops:
            there, back = (hop.start, hop.end, hop.image), (hop.end, hop.start, tuple(-n for n in hop.image))
            groups.setdefault(max(there, back, key=lambda k: (k[1] - k[0], k[2])), []).append(hop)
        kinds = [self._kind(*key, members) for key, members in groups.items()]
        return tuple(sorted(kinds, key=lambda k: (-k.forward - k.backward, k.start, k.end, k.image)))

    def _kind(self, start, end, image, members):
        d, cell = self.sites.displacement(start, end, image), self.sites.cell
        along = d @ np.linalg.inv(cell) * np.linalg.norm(cell, axis=1)
        forward = sum((h.start, h.image) == (start, image) for h in members)
        return HopKind(start, end, image, d, along, forward, len(members) - forward,
                       float(np.mean([h.duration for h in members])),
                       float(np.mean([bool(h.moved_with) for h in members])))


def find_hops(trajectory, settings=HopSettings()):
    """Hops of the mobile ions of a `dynamics.Trajectory` -> `Hops`."""
    ions = np.flatnonzero(trajectory.numbers == atomic_numbers[settings.element])
    paths = framework_frame(trajectory, settings.element)[:, ions]
    return hops_of_paths(paths, ions, trajectory.time, trajectory.cell, settings)


def hops_of_paths(paths, ions, time, cell, settings=HopSettings()):
    """The same from the paths (n_frames, n_ions, 3) in A of `ions` (indices) in the frame of the framework."""
    s = settings
    _check_resolution(time, s.residence)
    sites = find_sites(paths[::max(1, len(paths) // ENOUGH)], cell, s.radius, s.separation, s.smoothing, s.least)
    site, image = locate(paths, sites, s.radius)
    hops, undecided = [], 0
    for n, ion in enumerate(ions):
        runs = _runs(site[:, n], image[:, n])
        stays = _stays(*runs, time, s.residence)
        hops += [_hop(int(ion), stays, k, time, sites, paths[:, n]) for k in range(len(stays[0]) - 1)]
        undecided += _open_ends(runs[0], stays[0])
    hops.sort(key=lambda h: (h.end_time, h.ion))
    hops = tuple(_with_others(hops, paths, ions, sites.cell, s))
    located = float((site >= 0).mean())
    return Hops(hops, sites, s, located, undecided, float(time[-1] - time[0]), len(ions))


def _check_resolution(time, residence):
    spacing = np.diff(time).max(initial=0.0)
    if len(time) < 2 or spacing > residence / 2:
        raise ValueError(f"{len(time)} frames {spacing:g} fs apart do not resolve stays of {residence:g} fs: store "
                         "frames at least twice as often, or ask for a longer residence")


def framework_frame(trajectory, element="Li"):
    """Unwrapped positions (n_frames, n_atoms, 3) in A with the centre of mass of all atoms but `element` at rest."""
    framework = np.flatnonzero(trajectory.numbers != atomic_numbers[element])
    if len(framework) in (0, len(trajectory.numbers)):
        n = len(trajectory.numbers)
        raise ValueError(f"{n - len(framework)} of {n} atoms are {element}; hops need mobile ions and a framework: "
                         "check `element`")
    return in_frame_of(trajectory.positions, atomic_masses[trajectory.numbers], framework)


def _runs(site, image):
    """Uninterrupted stays of one ion, however short: keys (n, 4) of site and image, first and last frame (n,)."""
    at = np.flatnonzero(site >= 0)
    keys = np.column_stack([site[at], image[at]])
    new = np.append(True, (keys[1:] != keys[:-1]).any(1))[:len(at)]
    ends = np.append(new[1:], True)[:len(at)]
    return keys[new], at[new], at[ends]


def _stays(keys, first, last, time, residence):
    """Runs of at least `residence`, after the shortest were removed one by one and equal neighbours joined."""
    while len(keys):
        lasted = time[last] - time[first]
        k = int(np.argmin(lasted))
        if lasted[k] >= residence - 1e-6:
            break
        joined = 0 < k < len(keys) - 1 and (keys[k - 1] == keys[k + 1]).all()
        if joined:
            last[k - 1] = last[k + 1]
        gone = [k, k + 1] if joined else [k]
        keys, first, last = (np.delete(x, gone, axis=0) for x in (keys, first, last))
    return keys, first, last


def _open_ends(runs, stays):
    """How many hops at the two ends are open: where the ion was seen first or last is not where it has stayed."""
    if not len(stays):
        return int(len(runs) > 1)
    return int((runs[0] != stays[0]).any()) + int((runs[-1] != stays[-1]).any())


def _hop(ion, stays, k, time, sites, path):
    (keys, first, last) = stays
    (start, *before), (end, *after) = keys[k].tolist(), keys[k + 1].tolist()
    image = tuple(b - a for a, b in zip(before, after, strict=True))
    begin, stop = int(last[k]), int(first[k + 1])
    return Hop(ion, start, end, image, begin, stop, float(time[begin]), float(time[stop]),
               sites.displacement(start, end, image), path[begin:stop + 1])


def _with_others(hops, paths, ions, cell, settings):
    """The hops, each with the other ions that hop within `window` of it and are then, half-way, within `reach`."""
    ion, begin, end = (np.array([getattr(h, x) for h in hops]) for x in ("ion", "start_time", "end_time"))
    for hop in hops:
        near_in_time = (begin <= hop.end_time + settings.window) & (end >= hop.start_time - settings.window)
        others = np.unique(ion[near_in_time & (ion != hop.ion)])
        if len(others):
            at = paths[(hop.start_frame + hop.end_frame) // 2]
            me, them = at[np.searchsorted(ions, hop.ion)], at[np.searchsorted(ions, others)]
            others = others[get_distances(me, them, cell, True)[1][0] <= settings.reach]
        yield replace(hop, moved_with=tuple(others.tolist()))


def end_points(trajectory, hops, average=200.0, repeat=(1, 1, 1), element="Li"):
    """Atoms before the first of consecutive hops and after each of them, to be relaxed -> list of ASE Atoms.

    hops: (first frame, last frame) of each. Positions are unwrapped, so continuous from one Atoms to the next, and
    means over up to `average` fs before or after a hop, in which vibrations cancel. In a repeated cell only the first
    copy hops; the others stay as they were before the first hop.
    """
    begin, end = zip(*hops, strict=True)
    if any(e > b for e, b in zip(end, begin[1:], strict=False)) or max(end) >= len(trajectory):
        raise ValueError(f"hops from frames {begin} to {end} of {len(trajectory)}: each must begin after the one "
                         "before has ended, within the trajectory they were found in")
    positions, time = framework_frame(trajectory, element), trajectory.time
    spans = [(time[begin[0]] - average, time[begin[0]])]
    spans += [(time[e], min(time[e] + average, time[b])) for e, b in zip(end, (*begin[1:], -1), strict=True)]
    means = [positions[(time >= t0) & (time <= t1)].mean(0) for t0, t1 in spans]
    before = Atoms(trajectory.numbers, means[0], cell=trajectory.cell, pbc=True) * tuple(repeat)
    frames = []
    for k, mean in enumerate(means):
        frames.append(before.copy())
        frames[-1].positions[:len(mean)] = mean  # the first copy
        frames[-1].info["name"] = f"end-{k}"
    return frames


ROW = ("ion", "start", "end", "image", "start_frame", "end_frame", "start_time", "end_time", "displacement",
       "moved_with")
def hop_rate(found):
    """Hops per ion and ps in several runs, `Hops` from time 0 on -> (value, standard error).

    The error is the larger of that of independent hops and that of the scatter of both halves of all runs: hops that
    set off each other are fewer events than they are hops.
    """
    time = np.array([h.n_ions * h.length * 1e-3 for h in found])
    first = np.array([sum(hop.end_time < h.length / 2 for hop in h.hops) for h in found])
    number = np.array([len(h) for h in found])
    halves = np.concatenate([first, number - first]) / np.tile(time / 2, 2)
    scatter = halves.std(ddof=1) / np.sqrt(len(halves))
    return float(number.sum() / time.sum()), float(max(np.sqrt(number.sum()) / time.sum(), scatter))


KIND = ("start", "end", "image", "displacement", "length", "along", "forward", "backward", "duration", "together")


def write_hops(path, hops, inputs=()):
    """Write `Hops` as JSON: sites, distinct hops, and every hop without its path (which its frames tell)."""
    record = {"settings": asdict(hops.settings), "length": hops.length, "n_ions": hops.n_ions,
              "located": hops.located, "undecided": hops.undecided,
              "sites": {"positions": hops.sites.positions.round(4), "occupation": hops.sites.occupation.round(5),
                        "cell": hops.sites.cell},
              "distinct": [{name: getattr(kind, name) for name in KIND} for kind in hops.table()],
              "hops": [{name: getattr(hop, name) for name in ROW} for hop in hops.hops]}
    with only_writer(path):
        return write_record(path, record, inputs)


def add_hops_arguments(parser):
    parser.add_argument("trajectory", help="trajectory written by `python -m esgap md`, .npz")
    parser.add_argument("output", help="table of hops to write, .json")
    for name, unit in (("element", "symbol of the mobile ion"), ("residence", "fs to stay on a new site"),
                       ("radius", "A, of a site"), ("separation", "A, smallest between sites"),
                       ("smoothing", "A, of the density of ions"), ("least", "ions on a site, time average"),
                       ("window", "fs between hops that belong together"), ("reach", "A between such hops")):
        default = getattr(HopSettings, name)
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"{unit} (default {default})")


def hops_command(args):
    """python -m esgap hops: sites and hops of one trajectory."""
    settings = HopSettings(**{name: getattr(args, name) for name in HopSettings.__dataclass_fields__})
    hops = find_hops(load_trajectory(args.trajectory), settings)
    write_hops(args.output, hops, [args.trajectory])
    print(hops)
    return 0
