"""python -m esgap frenkel: Frenkel pairs with a stored potential, with and without a field; their frames for DFT."""
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.mixing import SumCalculator

from . import structures
from .calculators import ElectrostaticBaseline
from .committee_run import stored_committees
from .field_response import load_sweep, with_errors
from .field_sweep import plan, sweep
from .frenkel import folded_cell, images_of, pair_named
from .frenkel_summary import write_story, write_summary
from .gap_calculator import GAP
from .interstitials import hole_sites, seen_sites
from .models import load_model, model_path
from .store import file_hash, read_frames, read_record, write_frames


def dft_frames(frames, path, label=""):
    """Write relaxed cells of zero field, {name: Atoms} as in `field_response.Sweep`, for `python -m esgap label`."""
    bare = []
    for name, atoms in frames.items():
        if name.endswith(("/0/out", "/0/held")):
            new = Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=True)
            new.info.update(name=f"frenkel{label}/{name}", config_type="frenkel")
            bare.append(new)
    write_frames(path, bare)


def folded_frames(frames, path, fold, label=""):
    """Write blocks of relaxed perfect cells without a field that fill them when repeated `fold` (3,) times, for
    `label`: their energies for a fraction of the time, but for a correction (`frenkel_dft.grid_corrections`)."""
    blocks = []
    for name, atoms in frames.items():
        cell, pair, rest = name.split("/", 2)
        if (pair, rest) == ("perfect", "0/out"):
            blocks.append(folded_cell(atoms, tuple(map(int, cell.split("x"))), fold))
            blocks[-1].info.update(name=f"frenkel{label}/{cell}/perfect/0/folded", config_type="frenkel")
    write_frames(path, blocks)


def live_curve(model, pair, direction, field_max=0.3, n_points=5, repeat=(1, 2, 1)):
    """`FieldCurve` computed now, on the way out only, in a cell small enough for seconds; Li7P3S11, no file is kept.

    model: as `load_model` takes it; pair: VACANCY:SITE:i,j,k. Points that cannot be relaxed are left out.
    """
    crystal, path = structures.crystal(), model_path(model)
    found = pair_named(pair, crystal, hole_sites(crystal) + seen_sites(crystal))
    starts = plan([found], [repeat], [direction], field_max, n_points, held=False)
    starts = {point: start for point, start in starts.items() if point.leg == "out"}
    with tempfile.TemporaryDirectory() as folder:
        sweep(crystal, partial(load_model, path), starts, Path(folder) / "live.xyz", path.stem, progress=False)
        return load_sweep(Path(folder) / "live.xyz").curve(pair, direction, repeat)


def add_frenkel_arguments(parser):
    parser.add_argument("model", help="gap, es-gap, or the path of a stored model (see esgap.load_model)")
    parser.add_argument("output", help="relaxed cells to write, .xyz; what it already holds is not done again")
    parser.add_argument("--crystal", help="extended XYZ (default: Li7P3S11 of data/crystal.xyz)")
    parser.add_argument("--sites", action="store_true", help="list the interstitial sites and do nothing else")
    parser.add_argument("--pair", action="append", default=[], metavar="LI:SITE[:i,j,k]", help="Li atom of the unit "
                        "cell, interstitial site (see --sites), and how many unit cells away it is (default: nearest "
                        "image); may be given more than once")
    parser.add_argument("--scan", metavar="LI:SITE", help="also all pairs of this Li with sites equivalent to SITE")
    parser.add_argument("--scan-supercell", type=int, nargs=3, action="append", help="these pairs only in these cells "
                        "(default: all)")
    parser.add_argument("--supercell", type=int, nargs=3, action="append", help="cells along a, b, c (default 2 3 2); "
                        "may be given more than once")
    parser.add_argument("--directions", nargs="*", default=[], help="of the field: x y z a b c, or a vector such as "
                        "1,1,0 (default: no field)")
    parser.add_argument("--field-pair", action="append", default=[], metavar="LI:SITE[:i,j,k]", help="only these pairs "
                        "are taken through the field (default: those of --pair, or else of --scan)")
    parser.add_argument("--field-supercell", type=int, nargs=3, action="append", help="only in these cells (default: "
                        "all)")
    parser.add_argument("--field-max", type=float, default=0.3, help="V/A (default 0.3)")
    parser.add_argument("--n-points", type=int, default=9, help="fields from -field_max to field_max (default 9)")
    parser.add_argument("--no-return", action="store_true", help="only from zero outward: half the time, and nothing "
                        "said about hysteresis")
    parser.add_argument("--fmax", type=float, default=0.01, help="largest force allowed, eV/A (default 0.01)")
    parser.add_argument("--max-steps", type=int, default=500, help="of one relaxation (default 500)")
    parser.add_argument("--workers", type=int, default=0, help="points at a time on this machine (default 0: one, in "
                                                               "this process, without dask)")
    parser.add_argument("--scheduler", help="address of a running dask scheduler, e.g. tcp://host:8786")
    parser.add_argument("--dft-frames", help="also write the cells of zero field, to be labelled with DFT")
    parser.add_argument("--folded-frames", metavar="FILE", help="also write blocks of the perfect cells of zero field "
                        "that fill them when repeated, to be labelled in their place")
    parser.add_argument("--fold", type=int, nargs=3, default=[2, 1, 2], help="how often along a, b, c (default 2 1 2)")
    parser.add_argument("--summary", help="also write energies, dipoles and fates of all points, without positions, "
                        ".json: what chapter 6 reads")
    parser.add_argument("--no-committee", action="store_true", help="no errors in the summary: the committee of the "
                        "model takes as many evaluations of every point as it has members")
    parser.add_argument("--story", help="also write the first pair swept, before and after relaxation and in the "
                        "field, .xyz: what chapter 6 shows")


def frenkel_command(args):
    """python -m esgap frenkel: the same command goes on after a kill, and adds points that are new to it."""
    crystal = read_frames(args.crystal)[0] if args.crystal else structures.crystal()
    sites = hole_sites(crystal) + (() if args.crystal else seen_sites(crystal))
    if args.sites:
        print("\n".join(map(str, sites)))
        return 0
    record = Path(args.output).with_suffix(".json")
    if args.summary and Path(args.summary).resolve() == record.resolve():
        raise ValueError(f"--summary {args.summary} is the record of {args.output}, without which nothing goes on from "
                         "there: choose another name or folder")
    supercells = args.supercell or [[2, 3, 2]]
    pairs = [pair_named(text, crystal, sites) for text in args.pair]
    in_field = [pair_named(text, crystal, sites) for text in args.field_pair] or pairs
    alike = _scan(args.scan, crystal, sites, args.scan_supercell or supercells) if args.scan else []
    if not (pairs or in_field or alike):
        raise ValueError("no pair is given: choose one with --pair or --scan; --sites lists the interstitial sites")
    starts = plan(list(dict.fromkeys([*in_field, *pairs])), supercells) if in_field else {}
    if alike:
        starts |= plan(alike, args.scan_supercell or supercells)
    if args.directions:
        starts |= plan(list(dict.fromkeys(in_field or alike)), args.field_supercell or supercells, args.directions,
                       args.field_max, args.n_points)
    starts = {p: s for p, s in starts.items() if p.leg != "back" or not args.no_return}
    starts = dict(sorted(starts.items(), key=lambda item: item[0].leg == "back"))  # curves first, hysteresis after
    path = model_path(args.model)
    report = sweep(crystal, partial(load_model, path), starts, args.output, f"{path.stem} {file_hash(path)[:16]}",
                   args.fmax, args.max_steps, args.workers, args.scheduler, inputs=[path])
    print(report)
    result = load_sweep(args.output)
    if args.dft_frames:
        dft_frames(result.frames, args.dft_frames, f"-{path.stem}")
    if args.folded_frames:
        folded_frames(result.frames, args.folded_frames, args.fold, f"-{path.stem}")
    if args.summary:
        about = path.with_suffix(".json")
        generation = read_record(about).get("generation") if about.exists() else None
        model = load_model(path)
        result = replace(result, generation=generation, cutoff=_cutoff(model), exponents=_exponents(model))
        for committee, scale in () if args.no_committee else stored_committees({result.label: path}).values():
            result = with_errors(result, committee, scale)
        write_summary(result, args.summary, [path])
    if args.story:
        write_story(result, crystal, args.story)
    _tell(result, starts)
    return 1 if report.failed else 0


def _cutoff(calculator):
    """A, of the SOAP part of a potential; None if it has none."""
    parts = calculator.mixer.calcs if isinstance(calculator, SumCalculator) else [calculator]
    return next((float(p.model.cutoff) for p in parts if isinstance(p, GAP)), None)


def _exponents(calculator):
    """1/A, of the clouds of a potential's baseline; None if it has none, or points."""
    parts = calculator.mixer.calcs if isinstance(calculator, SumCalculator) else [calculator]
    return next((p.zeta for p in parts if isinstance(p, ElectrostaticBaseline)), None)


def _scan(text, crystal, sites, supercells):
    """All pairs of the Li in `text` with sites equivalent to the one there."""
    first = pair_named(text, crystal, sites)
    alike = [s for s in sites if s.orbit == first.site.orbit and s.name[:4] == first.site.name[:4]]
    return images_of(first.vacancy, alike, crystal, np.min(supercells, axis=0))


def _tell(result, starts):
    for point in starts:
        if point.pair and point.leg == "out" and not point.direction and point.name in result.rows:
            print(f"{point.name}: formation energy {result.formation_energy(point.pair.name, point.repeat):.3f} eV")
    for repeat, pair, direction in dict.fromkeys((p.repeat, p.pair, p.direction) for p in starts if p.pair):
        if direction:
            try:
                print(result.curve(pair.name, direction, repeat))
            except ValueError as error:  # points are missing; which, the report has said
                print(error)
