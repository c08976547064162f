"""Which barriers of two models can be compared: those between the same minima, over the same saddle point.

From the same end points of MD two models can relax into different minima. How far the structures a and b of two models
are apart is told by the largest displacement of any atom, of the ions and of the framework apart,

    d_k = r_k(b) - r_k(a) - D,    D: displacement of the centre of mass of the framework (all but the mobile ions),

nearest image. Below SAME they are one minimum, or one saddle point. The framework is stiff; what tells minima apart is
lithium, of which in a soft lattice one ion on another site is enough. Forward barriers are compared where start and
saddle point agree, reverse ones where saddle point and end do.
Units: A, eV.
"""
from dataclasses import dataclass, replace

import numpy as np
from ase.data import atomic_masses, atomic_numbers
from ase.geometry import find_mic

from .models import LABELS

SAME = 0.3  # A; models that agree on a minimum put its ions 0.2 A apart or less, others 0.5 A or more (chapter 4)
JOINT = 0.1  # A between the ends of consecutive paths
WAYS = ("forward", "reverse")


@dataclass(frozen=True)
class Apart:
    """How far two structures are apart."""

    ions: float  # A, largest displacement of a mobile ion
    framework: float  # A, of another atom

    @property
    def same(self):
        """Whether they are one minimum, or one saddle point."""
        return max(self.ions, self.framework) < SAME

    def __str__(self):
        return f"{self.ions:.2f} ({self.framework:.2f})"


@dataclass(frozen=True)
class Agreement:
    """How far the paths of two models are apart at their ends and at their highest images."""

    start: Apart
    saddle: Apart
    end: Apart

    @property
    def ways(self):
        """Of which barriers can be compared: "forward", "reverse"."""
        return tuple(way for way, end in zip(WAYS, (self.start, self.end), strict=True)
                     if end.same and self.saddle.same)

    @property
    def same_ends(self):
        """Ways whose minimum both models have, over whatever saddle point."""
        return tuple(way for way, end in zip(WAYS, (self.start, self.end), strict=True) if end.same)


def apart(a, b, element="Li"):
    """How far two structures of the same atoms (ASE Atoms) are apart, their drift removed -> `Apart`."""
    moved = find_mic(b.positions - a.positions, a.cell, a.pbc)[0]
    ions, mass = a.numbers == atomic_numbers[element], atomic_masses[a.numbers]
    if not ions.all():
        moved = moved - np.average(moved[~ions], axis=0, weights=mass[~ions])
    length = np.linalg.norm(moved, axis=1)
    return Apart(float(length[ions].max(initial=0)), float(length[~ions].max(initial=0)))


def agreement(hop):
    """How far the paths of both models are apart for a `hop_paths.HopPaths` that has both -> `Agreement`."""
    return _agreement(*((hop.images[m], hop.profiles[m, m].highest) for m in LABELS.values()))


def _agreement(one, other):
    (a, top_a), (b, top_b) = one, other
    return Agreement(apart(a[0], b[0]), apart(a[top_a], b[top_b]), apart(a[-1], b[-1]))


def asks_for_common(*paths):
    """Whether two `paths.Path`s, of two models, lead over saddle points but not from minimum to minimum over the same
    one; None is a path that was not found."""
    if any(path is None or not over_saddle(path.profile) for path in paths):
        return False
    return len(_agreement(*((path.images, path.profile.highest) for path in paths)).ways) < 2


def over_saddle(profile):
    """Whether the highest image of a `paths.Profile` lies between the ends. If it is an end, the path tells which end
    is lower, not how high a barrier is."""
    return 0 < profile.highest < len(profile.energies) - 1


def both_paths(found):
    """Hops of `hop_paths.AllPaths` of which both models have a path over a saddle point between the ends of MD, the
    lowest barrier first -> tuple of `hop_paths.HopPaths`."""
    return tuple(sorted(filter(_both, found.hops), key=_lowest))


def one_way(found):
    """Hops of which both models have a path between the ends of MD, but at least one has its highest point at an end:
    from there nothing holds the ion back -> tuple of `hop_paths.HopPaths`."""
    return tuple(h for h in found.hops if set(h.images) == set(LABELS.values()) and not _both(h))


def _both(hop):
    return set(hop.images) == set(LABELS.values()) and all(over_saddle(hop.profiles[m, m]) for m in hop.images)


def _lowest(hop):
    return min(hop.barrier(m, m) for m in hop.images)


@dataclass(frozen=True, eq=False)
class Comparison:
    """A barrier that two models can be compared on."""

    hop: object  # `hop_paths.HopPaths`, the pair of paths it is taken from
    way: str  # "forward" or "reverse"

    def barrier(self, label, path_of=None):
        """eV, of a potential on its own path, or on that of another."""
        return self.hop.barrier(label, path_of or label, self.way)

    @property
    def difference(self):
        """eV, ES-GAP less GAP, each on its own path."""
        return self.barrier("ES-GAP") - self.barrier("GAP")

    @property
    def draws(self):
        """(n_members,) eV, the same of each member of the committees, less mean; None if that is not known."""
        return drawn(self.hop.profiles["ES-GAP", "ES-GAP"], self.hop.profiles["GAP", "GAP"], self.way)


def drawn(high, low, way):
    """What the members of two committees, fits to the same resamplings, say of a barrier of one `paths.Profile` less
    that of another, less their mean -> (n_members,) eV, or None if there are no members or not the same."""
    if high.draws is None or low.draws is None or len(high.draws) != len(low.draws):
        return None
    return (high.draws - low.draws)[:, WAYS.index(way)]


def comparisons(found, ways=lambda agreement: agreement.ways):
    """Barriers that both models have in common, those of the hop with the lowest first -> tuple of `Comparison`.

    Of each, that of the paths between the ends of MD if they agree; else the lowest of those of which one model has
    begun from the path of the other, if they agree. ways: of an `Agreement`, those that count.
    """
    out, others = [], sorted(filter(_both, found.from_other), key=_lowest)
    for name in dict.fromkeys(h.name for h in (*both_paths(found), *others)):
        pairs = [h for h in (*both_paths(found), *others) if h.name == name]
        for way in WAYS:
            if agreed := [h for h in pairs if way in ways(agreement(h))]:
                out.append(Comparison(agreed[0], way))
    return tuple(sorted(out, key=lambda c: (_lowest(c.hop), c.way)))


def leading(found):
    """The hop with the lowest barrier between minima that both models have; without any, that with the lowest barrier
    of either -> `hop_paths.HopPaths`, or None if there are no paths over saddle points."""
    common = comparisons(found, lambda agreement: agreement.same_ends)
    return next((c.hop for c in common), next(iter(both_paths(found)), None))


def traversals(found):
    """Consecutive hops of `hop_paths.AllPaths` as one path each, of those models that have both -> tuple of
    `hop_paths.HopPaths`. Energies of DFT that are there for the first hop alone stay its own."""
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
    between = second.images[path_of][0].positions - first.images[path_of][-1].positions
    return float(np.linalg.norm(between, axis=1).max()) < JOINT


def _one_after_the_other(a, b):
    """One `Profile` of two; bands are the most that they can be, the error of the first end adding to those behind."""
    bars = None if a.bars is None or b.bars is None else np.concatenate([a.bars, a.bars[-1] + b.bars[1:]])
    coordinate = np.concatenate([a.coordinate, a.coordinate[-1] + b.coordinate[1:]])
    return replace(a, coordinate=coordinate, energies=np.concatenate([a.energies, b.energies[1:]]),
                   slopes=np.concatenate([a.slopes, b.slopes[1:]]), bars=bars, draws=None)
