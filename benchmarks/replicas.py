"""MD of many replicas at once on the accelerator that JAX finds, against one structure at a time on the CPU beside it.

    python benchmarks/replicas.py [--sizes 42x64 ...] [--write data/runs/benchmark-replicas.json]

Sizes are atoms x replicas. Steps of velocity Verlet with a thermostat at 3 fs, neighbour lists included, in double
precision; on the CPU the same with ASE, as `esgap.dynamics` does it, in the same run. The first frames compile and are
not counted. Forces of a replica after some steps are compared with those of the CPU at the same positions. Without an
accelerator both sides run on the CPU, where replicas gain nothing.
"""
import argparse
import os
import time
from pathlib import Path

import jax
import numpy as np
from ase import units
from ase.md.bussi import Bussi
from ase.md.velocitydistribution import thermalize_momenta

from esgap import load_model, structures
from esgap.dynamics import SKIN, MDSettings
from esgap.models import model_path
from esgap.replica_run import Engine
from esgap.replicas import Replicas
from esgap.store import write_record

CELLS = {42: (1, 1, 1), 84: (1, 2, 1), 168: (2, 2, 1), 504: (2, 3, 2)}
TIMESTEP = 3.0  # fs


def on_cpu():
    return jax.default_device(jax.devices("cpu")[0])


def ns_per_day(ms, replicas=1):
    return replicas * 1e-6 * TIMESTEP * 86400e3 / ms


def one_at_a_time(model, atoms, steps):
    """ms of a step with ASE on the CPU."""
    with on_cpu():
        atoms = atoms.copy()
        atoms.calc = load_model(model, skin=SKIN)
        thermalize_momenta(atoms, temperature_K=800, rng=np.random.default_rng(0))
        md = Bussi(atoms, TIMESTEP * units.fs, 800, 500 * units.fs, np.random.default_rng(0))
        md.run(10)
        t = time.perf_counter()
        md.run(steps)
        return 1e3 * (time.perf_counter() - t) / steps


def together(model, atoms, replicas, every, n_frames):
    """ms of a step of all replicas, seconds until the first frames were there, largest force error in eV/A."""
    t = time.perf_counter()
    settings = MDSettings(every * n_frames, 800.0, TIMESTEP, every=every, segment=every * n_frames)
    engine = Engine(Replicas(atoms, load_model(model), replicas, SKIN), settings, atoms)
    carry, _ = engine.advance(engine.start(), n_frames)
    first, widths = time.perf_counter() - t, None
    while widths != engine.replicas.widths:  # another program, if neighbours came to need more room
        widths, t = engine.replicas.widths, time.perf_counter()
        carry, _ = engine.advance(carry, n_frames)
        jax.block_until_ready(carry.x)
        ms = 1e3 * (time.perf_counter() - t) / (every * n_frames)
    with on_cpu():
        one = atoms.copy()
        one.positions = np.asarray(carry.x[0])[engine.replicas.rank]
        one.calc = load_model(model)
        error = np.abs(np.asarray(carry.forces[0])[engine.replicas.rank] - one.get_forces()).max()
    return ms, first, float(error)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["42x64", "42x256", "84x32", "504x8"], help="atoms x replicas")
    parser.add_argument("--models", nargs="+", default=["gap", "es-gap"])
    parser.add_argument("--frames", type=int, default=8, help="timed, of 25 steps each")
    parser.add_argument("--write", type=Path, help="store the result in this JSON file, after each row")
    args = parser.parse_args()
    device, rows, cpu = jax.devices()[0], [], {}
    print(f"{device.device_kind}; JAX {jax.__version__}, {os.cpu_count()} cores")
    for size in args.sizes:
        n, replicas = map(int, size.split("x"))
        atoms = structures.crystal() * CELLS[n]
        for model in args.models:
            if (n, model) not in cpu:
                cpu[n, model] = one_at_a_time(model, atoms, 200 if n < 100 else 20)
            ms, first, error = together(model, atoms, replicas, 25, args.frames)
            rows.append({"model": model, "atoms": n, "replicas": replicas, "step_ms": ms, "first_s": first,
                         "force_error": error, "ns_per_day": ns_per_day(ms, replicas),
                         "cpu_step_ms": cpu[n, model], "cpu_ns_per_day": ns_per_day(cpu[n, model]),
                         "ratio": replicas * cpu[n, model] / ms, "load": os.getloadavg()[0]})
            row = rows[-1]
            print(f"{model} {n} atoms x {replicas}: {ms:.2f} ms a step, {row['ns_per_day']:.0f} ns/day in all; CPU "
                  f"{row['cpu_step_ms']:.2f} ms, {row['cpu_ns_per_day']:.0f} ns/day: {row['ratio']:.0f} times; first "
                  f"frames after {first:.0f} s, force error {error:.0e} eV/A", flush=True)
            if args.write:
                write_record(args.write, {"device": device.device_kind, "platform": device.platform,
                                          "cores": os.cpu_count(), "timestep": TIMESTEP, "rows": rows},
                             [model_path(m) for m in args.models], seed=0)


if __name__ == "__main__":
    main()
