"""GAP engine against quippy and gap_fit, side by side: evaluation, ES-GAP's extra cost, molecular dynamics, fit.

    python benchmarks/engine.py [part ...] [--write data/runs/benchmark-engine.json], parts: see PARTS below

One process, bursts of runs interleaved, medians; CPU time is that of all threads. Both sides are asked for energy,
forces and stress in one call (get_forces followed by get_stress would make quippy compute twice). Sparse points are
environments of generation 0; weights are random where only time matters, which does not depend on them. The first four
parts, the default, take minutes on two cores, fits with the program gap_fit and of 400 frames longer. Peak memory is
that of the process, so a fit is best given first or alone.
"""
import argparse
import os
import resource
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ase import units
from ase.io import read
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet

from esgap import ElectrostaticBaseline, es_gap
from esgap.charges import fitted_charges, qeq_exponents
from esgap.design import frame_descriptors
from esgap.fit import FitSettings, fit_gap
from esgap.gap import SparseGAP, Term
from esgap.gap_calculator import GAP
from esgap.kernel_sums import product
from esgap.models import ACCURACY
from esgap.quip import write_model
from esgap.soap import Soap
from esgap.store import read_record, write_record
from esgap.validation import KINDS, mark_short_contacts

ROOT = Path(__file__).resolve().parents[1]
SOAP = Soap(8, 4, 0.5, 6.0, species_Z=(3, 15, 16))
LARGE = 1500  # rows and columns of the product that stands for the roofline
TIMESTEP = 3.0  # fs
CELLS = {42: (1, 1, 1), 84: (1, 2, 1), 504: (2, 3, 2)}


def random_model(frames, n_sparse, seed=0):
    """A model with real environments as sparse points (rattled where frames are too few) and random weights."""
    rng, terms = np.random.default_rng(seed), []
    moved = [a.copy() for a in frames]
    for a in moved:
        a.rattle(0.1, rng=rng)
    empty = [Term(replace(SOAP, Z=Z), np.zeros((1, SOAP.n_components)), np.zeros(1), 0.5, 4.0) for Z in SOAP.species_Z]
    for t, p in zip(empty, frame_descriptors(empty, [*frames, *moved]), strict=True):
        X = p[rng.permutation(len(p))[:n_sparse]]
        terms.append(replace(t, X=X, alpha=rng.normal(size=len(X))))
    return SparseGAP(tuple(terms), {}, "benchmark")


def timed(functions, repeats, burst=0.3, calls=3):
    """{name: call} -> {name: {"wall_ms", "best_ms", "cpu_ms", "bursts_ms"}}, medians over all calls after a first one
    of each, and the median of every burst.

    Interleaved in bursts of so many seconds, of at least so many calls, since in MD a step follows its like. It
    matters: in turns of single calls ours took 16.7 instead of 9.2 ms at 42 atoms, presumably with cold caches, and the
    first six after a burst of quippy's took 9.5 ms, later ones 7.6, at the same CPU time: it takes a while until each
    thread has a core. quippy, which is slower and keeps to one core, hardly noticed.
    """
    wall, cpu = {k: [] for k in functions}, {k: [] for k in functions}
    for f in functions.values():
        f()
    for _ in range(repeats):
        for name, f in functions.items():
            begun, done = time.perf_counter(), 0
            wall[name].append([])
            cpu[name].append([])
            while done < calls or time.perf_counter() - begun < burst:
                t, c = time.perf_counter(), time.process_time()
                f()
                done += 1
                wall[name][-1].append(time.perf_counter() - t)
                cpu[name][-1].append(time.process_time() - c)
    return {k: {"wall_ms": 1e3 * float(np.median(np.concatenate(wall[k]))),
                "best_ms": 1e3 * float(np.min(np.concatenate(wall[k]))),
                "cpu_ms": 1e3 * float(np.median(np.concatenate(cpu[k]))),
                "bursts_ms": [round(1e3 * float(np.median(x)), 4) for x in wall[k]]} for k in functions}


def ratio(one, other):
    """How many times as long as another a call of `timed` takes, and the standard error: the median of the ratios of
    bursts that follow each other, since a virtual machine is now and then slower for a while, with everything."""
    each = np.divide(one["bursts_ms"], other["bursts_ms"])
    return float(np.median(each)), float(np.std(each, ddof=1) / np.sqrt(len(each)))


def evaluation(model, crystal, repeats):
    """Rows of the table as they come: one per cell size."""
    from quippy.potential import Potential
    with tempfile.TemporaryDirectory() as folder:
        write_model(model, Path(folder) / "gap.xml")
        quippy = Potential(param_filename=str(Path(folder) / "gap.xml"))
        for n, repeat in CELLS.items():
            atoms = crystal.repeat(repeat)
            rng = np.random.default_rng(0)
            double, single = GAP(model), GAP(model, dtype=np.float32)

            def moved(calc, atoms=atoms, rng=rng):
                atoms.positions += rng.normal(0, 0.002, atoms.positions.shape)  # or quippy would return its last answer
                calc.calculate(atoms.copy(), ["energy", "forces", "stress"], ["positions", "numbers", "cell", "pbc"])

            times = timed({"quippy": lambda m=moved: m(quippy), "double": lambda m=moved, c=double: m(c),
                           "single": lambda m=moved, c=single: m(c)}, repeats if n < 500 else max(3, repeats // 4))
            product, flops = kernel_products(model, atoms)
            times |= timed({"kernel products": product, "large product": large_product()}, repeats)
            for calc in (quippy, double, single):
                calc.calculate(atoms.copy(), ["energy", "forces", "stress"], ["positions", "numbers", "cell", "pbc"])
            force = {k: float(np.abs(c.results["forces"] - quippy.results["forces"]).max())
                     for k, c in (("double", double), ("single", single))}
            rms = float(np.sqrt(np.mean(quippy.results["forces"]**2)))
            faster, error = ratio(times["quippy"], times["double"])
            row = {"atoms": n, "times": times, "faster": faster, "faster_error": error, "largest_force_error": force,
                   "rms_force": rms, "load": os.getloadavg()[0], **roofline(times, flops)}
            report(row)
            yield row


def roofline(times, flops):
    """Share of a step in the two kernel products; how close those come to what a large product reaches (best times)."""
    product, step = times["kernel products"]["best_ms"], times["double"]["best_ms"]
    rate, peak = (1e-6 * f / times[k]["best_ms"] for k, f in (("kernel products", flops),
                                                              ("large product", 2 * LARGE**3)))
    return {"product_share": product / step, "product_gflops": rate, "peak_gflops": peak,
            "step_over_roofline": step / (1e-6 * flops / peak)}


def report(row):
    q, d, s = (row["times"][k] for k in ("quippy", "double", "single"))
    print(f"{row['atoms']:4d} atoms: quippy {q['wall_ms']:.1f} ms (cpu {q['cpu_ms']:.1f}), double {d['wall_ms']:.1f} "
          f"({d['cpu_ms']:.1f}), single {s['wall_ms']:.1f}; ratio wall {row['faster']:.1f} ± {row['faster_error']:.1f}"
          f", best {q['best_ms'] / d['best_ms']:.0f}, cpu {q['cpu_ms'] / d['cpu_ms']:.0f}; kernel products "
          f"{100 * row['product_share']:.0f} % of the step at {row['product_gflops']:.0f} of {row['peak_gflops']:.0f} "
          f"GFLOP/s; load {row['load']:.1f}", flush=True)


def kernel_products(model, atoms):
    """The two matrix products of a step with the sparse points, as XLA does them, and their operations."""
    points = [points for points, _ in GAP(model)._params]
    p = [jnp.ones((int(np.sum(atoms.numbers == t.soap.Z)), x.X.shape[1]))  # without l = 0, which takes little
         for t, x in zip(model.terms, points, strict=True)]
    f = jax.jit(lambda p, points: [product(x.XT, product(x.X, q)**3) for q, x in zip(p, points, strict=True)])
    return lambda: jax.block_until_ready(f(p, points)), sum(4 * len(q) * x.X.size
                                                            for q, x in zip(p, points, strict=True))


def large_product():
    """A product of two matrices so large that nothing but arithmetic counts, by the same library."""
    a = jnp.ones((LARGE, LARGE))
    f = jax.jit(lambda a, b: a @ b)
    return lambda: jax.block_until_ready(f(a, a))


def with_more_points(model, frames, n_sparse):
    """The model with points of weight zero added, n_sparse per element: the same forces at the cost of that size."""
    return replace(model, terms=tuple(
        replace(t, X=np.concatenate([t.X, more.X])[:n_sparse],
                alpha=np.concatenate([t.alpha, np.zeros(len(more.alpha))])[:n_sparse])
        for t, more in zip(model.terms, random_model(frames, n_sparse).terms, strict=True)))


def electrostatics(model, crystal, repeats):
    """What the baseline adds to a step: GAP, ES-GAP and the baseline alone, asked for forces at atoms that move."""
    rows = []
    for n, repeat in CELLS.items():
        sums = [ElectrostaticBaseline(fitted_charges()[0], qeq_exponents(), ACCURACY) for _ in range(2)]
        calcs = {"GAP": GAP(model), "ES-GAP": es_gap(GAP(model), sums[0]), "baseline": sums[1]}
        atoms, rng = crystal.repeat(repeat), np.random.default_rng(0)

        def step(calc, atoms=atoms, rng=rng):
            atoms.positions += rng.normal(0, 0.01, atoms.positions.shape)
            calc.get_property("forces", atoms)

        times = timed({k: lambda c=c, f=step: f(c) for k, c in calcs.items()}, repeats if n < 500 else repeats // 3)
        both = {k: times["ES-GAP"][f"{k}_ms"] / times["GAP"][f"{k}_ms"] for k in ("best", "cpu")}
        both["wall"], both["wall_error"] = ratio(times["ES-GAP"], times["GAP"])
        rows.append({"atoms": n, "times": times, "ratio": both, "load": os.getloadavg()[0]})
        print(f"{n:4d} atoms: ES-GAP / GAP wall {both['wall']:.3f} ± {both['wall_error']:.3f}, best "
              f"{both['best']:.3f}, cpu {both['cpu']:.3f}; baseline alone {times['baseline']['cpu_ms']:.2f} ms",
              "CPU", flush=True)
    return rows


def dynamics(model, crystal, steps, stretches=10):
    """ns per day of velocity Verlet from 800 K at the time step of the production runs, neighbour lists and integrator
    included: the mean over stretches of so many steps, and its standard error, after as many that are not timed, in
    which the program is compiled once more when neighbours have become more."""
    rows = []
    for n, repeat in CELLS.items():
        atoms, count = crystal.repeat(repeat), steps if n < 500 else max(5, steps // 10)
        atoms.calc = GAP(model)
        thermalize_momenta(atoms, temperature_K=800, rng=np.random.default_rng(0))
        md = VelocityVerlet(atoms, TIMESTEP * units.fs)
        md.run(stretches * count)
        times = []
        for _ in range(stretches):
            t = time.perf_counter()
            md.run(count)
            times.append(1e3 * (time.perf_counter() - t) / count)
        ms, error = float(np.mean(times)), float(np.std(times, ddof=1) / np.sqrt(stretches))
        per_day = TIMESTEP * 1e-6 * 86400e3 / ms
        rows.append({"atoms": n, "steps": count, "stretches": stretches, "timestep": TIMESTEP, "step_ms": ms,
                     "step_error_ms": error, "ns_per_day": per_day, "ns_per_day_error": per_day * error / ms,
                     "load": os.getloadavg()[0]})
        print(f"{n:4d} atoms: {ms:.1f} ± {error:.1f} ms/step, {per_day:.1f} ± {per_day * error / ms:.1f} ns/day",
              flush=True)
    return rows


def fitting(frames, n_frames, n_sparse, trainer):
    """Wall and CPU time and peak memory of a fit; frames are rattled copies where there are too few."""
    rng = np.random.default_rng(0)
    many = []
    for k in range(n_frames):
        a = frames[k % len(frames)].copy()
        if k >= len(frames):
            a.rattle(0.02, rng=rng)
        a.calc = frames[k % len(frames)].calc
        many.append(a)
    t, c = time.perf_counter(), time.process_time()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    fit = fit_gap(many, FitSettings(SOAP, n_sparse=n_sparse, e0="fit", kinds=KINDS), trainer=trainer)
    t, c = time.perf_counter() - t, time.process_time() - c
    row = {"trainer": trainer, "frames": n_frames, "points": [len(x.X) for x in fit.model.terms], "wall_s": t,
           "cpu_s": c, "peak_GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
           "matrix_GB": fit.design.n_bytes / 2**30}
    if trainer == "jax":
        t = time.perf_counter()
        fit_gap(many, replace(fit.settings, sigma_force=0.1), design=fit.design)
        row["refit_s"] = time.perf_counter() - t
    else:
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        row |= {"peak_GB": after.ru_maxrss / 2**20, "cpu_s": after.ru_utime - children.ru_utime}
    print(row)
    return row


PARTS = ("fit", "evaluation", "es-gap", "dynamics", "gap_fit", "fit-400")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=PARTS[:4],
                        help=f"of {', '.join(PARTS)}; the others stay in the file as they are")
    parser.add_argument("--data", type=Path, default=ROOT / "data/dft/gen0.xyz")
    parser.add_argument("--points", type=int, default=750, help="sparse points per element")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--steps", type=int, default=50, help="of a stretch of molecular dynamics")
    parser.add_argument("--write", type=Path, help="store the result in this JSON file, after each part and size")
    args = parser.parse_args()
    if unknown := sorted(set(args.parts) - set(PARTS)):
        parser.error(f"there is no part {', '.join(unknown)}; choose of {', '.join(PARTS)}")
    frames = mark_short_contacts(read(args.data, ":"))
    out = {"points": args.points, "repeats": args.repeats, "cores": os.cpu_count(), "soap": asdict(SOAP),
           "device": jax.devices()[0].device_kind}
    if args.write and args.write.exists():
        out |= {k: v for k, v in read_record(args.write).items() if k not in (*out, "made_by")}
    fits = {(r["trainer"], r["frames"]): r for r in out.get("fit", [])}
    for part in args.parts:
        if part == "evaluation":
            out[part] = []
            for row in evaluation(random_model(frames, args.points), frames[0], args.repeats):
                out[part].append(row)
                keep(args, out)
        elif part == "es-gap":
            out[part] = electrostatics(random_model(frames, args.points), frames[0], 2 * args.repeats)
        elif part == "dynamics":
            model = fit_gap(frames[:30], FitSettings(SOAP, n_sparse=150, e0="fit", kinds=KINDS)).model
            out[part] = dynamics(with_more_points(model, frames, args.points), frames[0], args.steps)
        else:
            n, n_sparse = (400, args.points) if part == "fit-400" else (30, 150)
            row = fitting(frames if n > 30 else frames[:n], n, n_sparse, "gap_fit" if part == "gap_fit" else "jax")
            fits[row["trainer"], n] = row
            out["fit"] = list(fits.values())
        keep(args, out)


def keep(args, out):
    """Store what there is, if it is to be stored."""
    if args.write:
        write_record(args.write, out, inputs=[args.data], seed=0)


if __name__ == "__main__":
    main()
