"""What hops and their paths say, as Markdown: tables, and the text of the verdict. Nothing here is typed."""
import numpy as np

from . import hop_differences
from .hop_choice import THROUGH, along
from .hop_pairs import SAME, agreement, both_paths, comparisons, leading, one_way, over_saddle, traversals
from .models import LABELS
from .paths import DEEP
from .store import data_path
from .structures import crystal
from .training import standing
from .traversals import ELSEWHERE, changed

SHALLOW = 0.05  # eV, about kT at 600 K: what lies less deep is hardly a minimum


def numbered(items, k, name):
    """items[k]; ValueError that names the parameter if there is no such item."""
    if not 0 <= k < len(items):
        raise ValueError(f"{name} is {k}; there are {name} = 0 to {len(items) - 1}")
    return items[k]


def chosen(found, name):
    """Of `hop_paths.AllPaths` the hop of that name, with the paths between common minima if there are any, or
    "lowest": that with the lowest barrier. ValueError if there are no paths of both models over a saddle point."""
    hops = both_paths(found)
    if name == "lowest" and hops:
        return leading(found)
    common = (c.hop for c in comparisons(found, lambda agreement: agreement.same_ends))
    for h in (*common, *hops):
        if h.name == name:
            return h
    raise ValueError(f"hop is {name!r}; there are paths of both models over a saddle point of "
                     f"{', '.join(h.name for h in hops) or 'none'}")


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
    """Markdown table of barriers and of what the end lies above the start (eV), of every potential on either path."""
    rows = ["| hop | path of | Å | energies of | forward (eV) | reverse (eV) | end less start (eV) |",
            "|:--|:--|--:|:--|--:|--:|--:|"]
    for h in hops:
        for (label, path_of), p in sorted(h.profiles.items(), key=lambda item: item[0][::-1]):
            end_error = np.nan if p.bars is None else p.bars[-1]
            errors = [np.nan if highest else error for highest, error in (  # no barrier, no error of it
                (p.highest == 0, p.forward_error), (p.highest == len(p.energies) - 1, p.error("reverse")))]
            forward, reverse, end = (_with_error(*x) for x in (
                (p.forward, errors[0]), (p.reverse, errors[1]), (p.relative[-1], end_error)))
            forward += "" if over_saddle(p) else ", highest at an end"
            rows.append(f"| {h.title} | {path_of} | {p.coordinate[-1]:.1f} | {label} | {forward} | {reverse} | {end} |")
    return "\n".join(rows)


def valleys_text(found):
    """Markdown: which paths pass a valley, and so are of more than one step."""
    own = [(f"{h.title} ({m})", h.profiles[m, m]) for h in both_paths(found) for m in h.images]
    with_valley = [name for name, p in own if p.minima]
    if not with_valley:
        return "No path passes a valley on its way."
    return (f"{len(with_valley)} of {len(own)} paths between the ends of MD pass a valley deeper than {1e3 * DEEP:.0f} "
            f"meV on their way ({', '.join(with_valley)}): they are of more than one step, and the barrier is that of "
            "the highest point.")


def _with_error(value, error):
    return f"{value:.3f}" + (f" ± {error:.3f}" if np.isfinite(error) else "")


def agreement_table(found):
    """Markdown table: how far the paths of both models are apart at start, saddle point and end, and what of them can
    be compared. found: `hop_paths.AllPaths`."""
    rows = ["| hop | start (Å) | saddle point (Å) | end (Å) | in common | compared |", "|:--|--:|--:|--:|:--|:--|"]
    taken = [(id(c.hop), c.way) for c in comparisons(found)]
    for h in (*both_paths(found), *found.from_other):
        a = agreement(h)
        common = [name for name in ("start", "saddle", "end") if getattr(a, name).same]
        ways = [way for way in a.ways if (id(h), way) in taken]
        rows.append(f"| {h.title} | {a.start} | {a.saddle} | {a.end} | {', '.join(common) or 'nothing'} | "
                    f"{', '.join(ways) or '–'} |")
    return "\n".join(rows)


def summary(found):
    """Markdown: what the paths of `AllPaths` say about the paper's two statements, or that there are none yet."""
    hops = both_paths(found)
    if not hops:
        return (f"There is no hop yet of which both potentials have a path over a saddle point ({len(found)} with "
                f"paths whose highest point is an end, {len(found.failed)} failed searches): the statements on "
                "barriers are *not yet tested*. `python -m esgap paths` goes on with other hops.")
    beside = np.mean([len(h.displaced(m)) for h in hops for m in h.images])
    parts = (_setting(found, hops), _either_path(found), _order(found),
             f"- **Correlated motion.** Along a path {beside:.1f} other ions move by 0.5 Å or more, on average.")
    return "\n".join(part for part in parts if part)


def _setting(found, hops):
    between = sorted({len(images) - 2 for h in hops for images in h.images.values()})
    number = f"{between[0]} to {between[-1]}" if len(between) > 1 else f"{between[0]}"
    enough = ""
    if tolerance := found.settings.get("tolerance"):
        enough = f" (fewer give the same barriers to {1e3 * tolerance:.0f} meV)"
    where = "unknown" if found.generation is None else standing(found.generation, data_path("training"))
    return (f"With potentials of generation {where}: {len(hops)} hop{'s' * (len(hops) > 1)} with paths of "
            f"both in a cell of {len(hops[0].images['GAP'][0])} atoms, {number} images between the ends{enough}, "
            f"forces below {found.settings['fmax']} eV/Å ({len(found.failed)} searches have failed):\n")


def minima_text(found):
    """Markdown: how far apart minima and saddle points are that are taken for the same, and others."""
    hops = (*both_paths(found), *found.from_other)
    places = [place for h in hops for a in [agreement(h)] for place in (a.start, a.saddle, a.end)]
    reach = [max(p.ions, p.framework) for p in places]
    near, far = ([x for x in reach if (x < SAME) == same] for same in (True, False))
    limits = f"atoms at most {max(near):.2f} Å apart" if near else "none is the same"
    if far:
        limits += f", others {min(far):.2f} Å or more"
    return (f"Ends and saddle points of the two models are taken for the same if no atom is {SAME} Å apart; those that "
            f"are have {limits}. Barriers in common: {_in_common(found)}.")


def _in_common(found):
    return ", ".join(f"{c.hop.title} ({c.way})" for c in comparisons(found)) or "none"


def _either_path(found):
    both = {m: hop_differences.of_paths(found, m) for m in LABELS.values()}
    if None in both.values():
        return "- **Either path.** There is no minimum that both models have: *not yet tested*."
    text = " and ".join(f"{d} with {m}" for m, d in both.items())
    return f"- **Either path.** From minima that both have, barriers on the other's path differ from the own by {text}."


def _order(found):
    common, everywhere = hop_differences.of_models(found), hop_differences.on_the_same_images(found)
    taken = comparisons(found)
    own = f"There is no barrier in common between own paths{_widest(found)}."
    if common:
        low = {m: f"{min(c.barrier(m) for c in taken):.3f}" for m in LABELS.values()}
        own = (f"Of barriers in common, {_in_common(found)}, the lowest is {low['GAP']} eV with GAP and "
               f"{low['ES-GAP']} eV with ES-GAP; ES-GAP less GAP is {common}.")
    dft = " and ".join(f"DFT less {m} is {d}" for m in LABELS.values() if (d := hop_differences.of_dft(found, m)))
    return (f"- **Order.** {own} On the same images, whosever minima, ES-GAP less GAP is {everywhere}. "
            + (f"There, {dft}." if dft else "There is no barrier of DFT yet."))


def _widest(found):
    far = max(agreement(h).start.ions for h in both_paths(found))
    return f"; starts are up to {far:.2f} Å apart"


def dft_text(found):
    """Markdown: where DFT, on the images of `AllPaths`, has hardly a minimum or no saddle point, and where it has not
    been computed."""
    every = [(h, of) for h in (*both_paths(found), *found.from_other) for of in h.images if h.begun_from != of]
    labelled = [(f"{h.title}, path of {of}", h.profiles["DFT", of]) for h, of in every if ("DFT", of) in h.profiles]
    missing = [f"{h.title} (path of {of})" for h, of in every if ("DFT", of) not in h.profiles]
    if not labelled:
        return "DFT on the images has not been computed yet."
    shallow = [f"{title} ({p.reverse:.3f} eV)" for title, p in labelled if p.reverse < SHALLOW]
    text = f"With DFT, too, every way back leads over more than {1e3 * SHALLOW:.0f} meV."
    if shallow:
        text = (f"With DFT the way back leads over less than {1e3 * SHALLOW:.0f} meV on {'; '.join(shallow)}: there "
                "the end, a minimum of the model, is hardly one of DFT. Reverse barriers of DFT are not compared, nor "
                "any barrier on a path whose highest image with DFT is an end.")
    return text + (f" DFT has not been computed on {', '.join(missing)}." if missing else "")


def one_way_text(found):
    """Markdown: whether DFT, too, has no saddle point on the paths of `hop_pairs.one_way`, and how far the energies of
    their ends are from its."""
    hops = one_way(found)
    if not hops:
        return "There is no such hop."
    names, dft = ", ".join(h.title for h in hops), [h.profiles[key] for h in hops for key in h.profiles
                                                    if key[0] == "DFT"]
    if not dft:
        return f"These are {names}. DFT on the images has not been computed yet."
    same = sum(not over_saddle(p) for p in dft)
    text = " and ".join(f"{d} with {m}" for m in LABELS.values() if (d := hop_differences.of_ends(found, m)))
    return (f"These are {names}. With DFT the highest image is an end, too, on {same} of {len(dft)} of their paths. "
            f"What the end lies above the start differs from DFT by {text}.")


def through_text(found):
    """Markdown: how far consecutive hops of `AllPaths` carry their ion along b, how many others change places with
    them, and of which there is no path."""
    joined, parts = {h.name: h for h in traversals(found)}, []
    for first, second in found.consecutive:
        if h := joined.get(f"{first} and {second}"):
            far, others = {}, []
            for m, (start, *_, end) in h.images.items():
                moved = (end.positions - start.positions)[h.ion]
                far[m] = abs(along(moved, start.cell.array, crystal().cell[1]))
                same = np.flatnonzero(start.numbers == start.numbers[h.ion])
                others.append(str(len(changed(start.positions, end.positions, same) - {h.ion})))
            text = " and ".join(f"{n:.2f} ({m})" for m, n in far.items())
            parts.append(f"Relaxed, {h.name} carry the ion {text} of a lattice vector along b"
                         + (", not to the next cell" if max(far.values()) < THROUGH else "")
                         + f"; in the end {' and '.join(others)} other lithium ions are more than {ELSEWHERE:g} Å from "
                         "where they were.")
        missing = [(name, *why) for name, *why in found.failed if name in (first, second)]
        parts += [f"There is no path of {name} with {m}: {why.split(':')[0]}." for name, m, why in missing]
    return " ".join(parts) or "There is no such pair of hops yet."
