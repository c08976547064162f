"""Reference labels: configurations in, the same with energy, forces and stress out, from CP2K or any ASE calculator.

Nothing finished is computed twice or lost: each labelled frame is on disk before the next is waited for, and a restart
does only what is missing. A frame is done when the output holds the same name, the same structure (to 1e-8 A) and the
same settings, info["reference"]. A frame whose calculation fails is set aside, with info["failure"], in
`<output>.failed.xyz`, never written as a label. Independent frames run through dask.distributed.
Units: A, eV, eV/A, eV/A^3 (ASE's sign of stress).
"""
import contextlib
import functools
import importlib
import os
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ase.calculators.calculator import PropertyNotImplementedError
from tqdm import tqdm

from esgap.cp2k import CP2K, Settings
from esgap.store import FrameStore, labelled, only_writer, read_frames, structure_hash, write_record

MERGE_EVERY = 60.0  # s; until then a new label lies in <output>.parts/


@functools.cache
def load_calculator(spec):
    """The ASE calculator that "module:factory" makes when called without arguments; one per process."""
    module, colon, factory = spec.partition(":")
    if not (module and colon and factory):
        raise ValueError(f"calculator {spec!r} is not of the form module:factory, e.g. ase.calculators.emt:EMT")
    try:
        make = getattr(importlib.import_module(module), factory)
    except ImportError as error:
        raise ValueError(f"calculator {spec!r}: cannot import {module!r} ({error}); is it on PYTHONPATH?") from error
    except AttributeError:
        raise ValueError(f"calculator {spec!r}: module {module!r} has no {factory!r}") from None
    calculator = make()
    if not hasattr(calculator, "get_property"):
        raise ValueError(f"calculator {spec!r} made a {type(calculator).__name__}, which is not an ASE calculator")
    return calculator


@dataclass(frozen=True)
class AnyCalculator:
    """A labeller like `CP2K`: the ASE calculator of "module:factory". Its name alone stands for its settings."""

    spec: str

    def reference(self, atoms):
        return self.spec

    def check(self, frames):
        load_calculator(self.spec)

    def __call__(self, atoms):
        atoms = atoms.copy()
        atoms.calc = load_calculator(self.spec)
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        try:
            stress = atoms.get_stress() if atoms.cell.rank == 3 else None
        except PropertyNotImplementedError:
            stress = None
        return labelled(atoms, energy, forces, stress, reference=self.spec)


def frame_key(atoms):
    """What makes a label the label of a frame: name, structure, settings."""
    return str(atoms.info["name"]), structure_hash(atoms), str(atoms.info["reference"])


def read_named_frames(path):
    """Frames of an extended XYZ file; each must have a name of its own."""
    frames = read_frames(path)
    for k, atoms in enumerate(frames):
        if "name" not in atoms.info:
            raise ValueError(f"frame {k} of {path} has no name: write one, e.g. name=md-{k:04d}, in its second line")
    (name, count), = Counter(str(a.info["name"]) for a in frames).most_common(1)
    if count > 1:
        raise ValueError(f"{count} frames of {path} are named {name!r}: results are filed by name, make each unique")
    return frames


@dataclass(frozen=True)
class LabelReport:
    """What a labelling run did; counts of frames, `set_aside` as (name, reason)."""

    output: str
    done_before: int
    labelled: int
    set_aside: tuple

    def __str__(self):
        text = f"{self.output}: {self.labelled} frames labelled now, {self.done_before} before"
        for name, reason in self.set_aside:
            text += f"\nset aside: {name}: {reason}"
        return text + (f"\n{len(self.set_aside)} in {failed_path(self.output)}" if self.set_aside else "")


def failed_path(output):
    """Where frames without a label are set aside: x.failed.xyz beside x.xyz."""
    return Path(output).with_suffix(".failed.xyz")


def label_file(frames_path, output, labeller=None, workers=None, scheduler=None, retry=False, replace=False):
    """Label the frames of one extended XYZ file into another, in order, with progress on stderr -> LabelReport.

    workers: frames at a time on this machine (None: cores / MPI ranks; 0: in this process, without dask);
    scheduler: the address of a running dask scheduler instead. retry: try frames again that were set aside.
    replace: label frames anew whose structure or settings differ from those in `output` (otherwise an error).
    """
    labeller, output = labeller or CP2K(), Path(output)
    frames = read_named_frames(frames_path)
    labeller.check(frames)
    keys = [(str(a.info["name"]), structure_hash(a), labeller.reference(a)) for a in frames]
    with only_writer(output, failed_path(output), output.with_suffix(".json")):
        store = FrameStore(output, frame_key)
        failures = FrameStore(failed_path(output), frame_key)
        _refuse_or_drop_others(store, keys, replace)
        for key in [k for k in failures.frames if retry or k in store]:
            failures.discard(key)
        todo = {k: a for k, a in zip(keys, frames, strict=True) if k not in store and k not in failures}
        n_before = sum(k in store for k in keys)
        _label_all(todo, labeller, store, failures, keys, workers, scheduler, n_before)
        store.merge(keys)
        failures.merge(keys)
        report = LabelReport(str(output), n_before, sum(k in store for k in keys) - n_before,
                             tuple((k[0], failures.frames[k].info["failure"]) for k in keys if k in failures))
        write_record(output.with_suffix(".json"),
                     {"frames": len(store.frames), "set_aside": [n for n, _ in report.set_aside],
                      "settings": sorted({k[2] for k in store.frames})}, [frames_path])
    return report


def _refuse_or_drop_others(store, keys, replace):
    """Labels of the same name for another structure or with other settings are not to be taken, nor lost silently."""
    wanted = {k[0]: k for k in keys}
    others = [k for k in store.frames if k[0] in wanted and k != wanted[k[0]]]
    if others and not replace:
        name, structure, settings = others[0]
        differs = f"with {settings!r}" if structure == wanted[name][1] else "for another structure"
        raise ValueError(f"{store.path} holds {len(others)} of these frames labelled otherwise (first: {name!r}, "
                         f"{differs}): choose another output, or give --replace to label them again")
    for key in others:
        store.discard(key)


def _label_all(todo, labeller, store, failures, order, workers, scheduler, n_before):
    merged = time.monotonic()
    with tqdm(total=len(todo) + n_before, initial=n_before, unit="frame", smoothing=0.1, disable=not todo) as bar, \
            _results(todo, labeller, workers, scheduler) as results:
        for key, atoms, reason in results:
            if atoms is None:
                failures.add(_set_aside(todo[key], key[2], reason))
                bar.write(f"set aside: {key[0]}: {reason}")
            else:
                store.add(atoms)
            bar.update()
            if time.monotonic() - merged > MERGE_EVERY:
                store.merge(order)
                failures.merge(order)
                merged = time.monotonic()


def _set_aside(atoms, reference, reason):
    atoms = atoms.copy()
    atoms.info.update(reference=reference, failure=" ".join(reason.split()).replace('"', "'"))
    return atoms


def label_one(atoms, labeller):
    """(labelled frame, None), or (None, reason): whatever goes wrong with one frame must not stop the others."""
    try:
        return labeller(atoms), None
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"


@contextlib.contextmanager
def _results(todo, labeller, workers, scheduler):
    """An iterator over (key, labelled frame or None, reason or None), in the order in which they finish."""
    if not todo:
        yield iter(())
    elif workers == 0 and scheduler is None:
        yield ((key, *label_one(atoms, labeller)) for key, atoms in todo.items())
    else:
        if workers is None:
            workers = max(1, (os.cpu_count() or 1) // getattr(labeller, "ranks", 1))
        with dask_client(min(workers, len(todo)), scheduler) as client:
            yield _dask_results(client, todo, labeller)


def _dask_results(client, todo, labeller):
    from dask.distributed import as_completed

    futures = {client.submit(label_one, atoms, labeller, pure=False): key for key, atoms in todo.items()}
    for future in as_completed(futures):
        key = futures.pop(future)
        if future.status == "finished":
            yield key, *future.result()
        else:
            yield key, None, f"the worker failed: {future.exception()}"


@contextlib.contextmanager
def keeping_to_cores(k, n):
    """Meanwhile this process, with all its threads and what it starts, keeps to the k-th of n shares of its cores; does
    nothing but on Linux.

    Small matrices leave little to share out: threads of several processes on the same cores wait for each other. A
    process has to find its share when it starts, since libraries make as many threads as there are cores then.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = sorted(os.sched_getaffinity(0))
    try:
        _set_affinity(cores[k::n] or [cores[k % len(cores)]])
        yield
    finally:
        _set_affinity(cores)


def _set_affinity(cores):
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(int(thread.name), cores)


@contextlib.contextmanager
def dask_client(workers, scheduler=None, patience=15, own_cores=False):
    """A dask client: on `scheduler` (an address such as tcp://host:8786), or on `workers` processes of this machine,
    with `own_cores` each on cores of its own."""
    import dask
    from dask.distributed import Client, LocalCluster

    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=patience)
        except (OSError, ValueError) as error:  # nobody there; not an address
            raise ConnectionError(f"no dask scheduler answers at {scheduler!r} ({error}): start one with `dask "
                                  "scheduler` and workers, or leave out --scheduler to use this machine") from error
        with client:
            yield client
        return
    # dask has workers give every freed block back to the system, and potentials twice as slow for it
    environ = {key: value for key, value in dask.config.get("distributed.nanny.pre-spawn-environ").items()
               if key != "MALLOC_TRIM_THRESHOLD_"}
    with tempfile.TemporaryDirectory(prefix="esgap-dask-") as scratch, \
            dask.config.set({"distributed.nanny.pre-spawn-environ": environ}), \
            LocalCluster(n_workers=0 if own_cores else workers, threads_per_worker=1, processes=True,
                         dashboard_address=":0", local_directory=scratch, memory_limit=0) as cluster, \
            Client(cluster) as client:
        for k in range(workers if own_cores else 0):
            with keeping_to_cores(k, workers):
                cluster.scale(k + 1)
                client.wait_for_workers(k + 1)
        yield client


def add_label_arguments(parser):
    parser.add_argument("frames", help="configurations, extended XYZ; each with a name of its own")
    parser.add_argument("output", help="labelled configurations, extended XYZ; what it already holds is not done again")
    parser.add_argument("--workers", type=int, help="frames at a time on this machine (default: cores / ranks; 0: in "
                                                    "this process, without dask)")
    parser.add_argument("--scheduler", help="address of a running dask scheduler, e.g. tcp://host:8786")
    parser.add_argument("--retry", action="store_true", help="try again what was set aside")
    parser.add_argument("--replace", action="store_true", help="label anew what was labelled with other settings")
    add_labeller_arguments(parser)


def add_labeller_arguments(parser):
    """Options that choose the labeller: shared by all commands that need reference calculations."""
    parser.add_argument("--calculator", metavar="MODULE:FACTORY", help="an ASE calculator in CP2K's place")
    parser.add_argument("--ranks", type=int, default=2, help="MPI processes per CP2K run (default 2; 1: no mpirun)")
    parser.add_argument("--program", default="cp2k.psmp", help="CP2K's program (default cp2k.psmp)")
    parser.add_argument("--kpts", type=int, nargs=3, help="k-grid (default: by a density rule, see esgap.cp2k)")
    parser.add_argument("--cutoff", type=float, default=Settings.cutoff, help="Ry (default 300)")
    parser.add_argument("--rel-cutoff", type=float, default=Settings.rel_cutoff, help="Ry (default 40)")


def labeller_from(args):
    """The labeller that the options of `add_labeller_arguments` name."""
    if args.calculator:
        return AnyCalculator(args.calculator)
    settings = Settings(cutoff=args.cutoff, rel_cutoff=args.rel_cutoff, kpts=tuple(args.kpts) if args.kpts else None)
    return CP2K(settings, args.ranks, args.program)


def label_command(args):
    report = label_file(args.frames, args.output, labeller_from(args), args.workers, args.scheduler, args.retry,
                        args.replace)
    print(report)
    return 1 if report.set_aside else 0
