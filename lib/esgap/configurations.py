"""python -m esgap frames: write the configurations that are to be labelled, each set from its seed."""
import numpy as np
from ase.build import bulk

from .spheres import SEED as LOCALITY_SEED
from .spheres import locality_configurations
from .store import data_path, only_writer, read_frames, write_frames
from .structures import initial_configurations


def start():
    """The crystal that both sets were made from, without its label: the first frame of generation 0.

    It is relaxed to 0.04 eV/A; the shipped crystal (`structures.crystal`) has been relaxed further since.
    """
    atoms = read_frames(data_path("dft/gen0.xyz"))[0]
    atoms.calc = None
    atoms.arrays.pop("hirshfeld", None)
    return atoms


def generation_0(seed=20211109):
    """The crystal and the 80 configurations of generation 0."""
    return [start(), *initial_configurations(start(), seed=seed)]


def locality(seed=LOCALITY_SEED):
    """The 1x2x1 cell (84 atoms) and its configurations for the locality test."""
    return locality_configurations(start() * (1, 2, 1), seed=seed)


def lithium_sulfide(seed=20261125, n=24, a=5.72):
    """Another material, to show how it is done: Li2S (antifluorite, 12 atoms, a in A), displaced and strained.

    Displacements of 0.05 to 0.25 A rms by axis, strains of 2 % rms by component; the first frame is the crystal.
    """
    rng, frames = np.random.default_rng(seed), [bulk("SLi2", "fluorite", a=a, cubic=True)]
    for k in range(1, n):
        strain = 0.02 * rng.normal(size=(3, 3))
        frames.append(frames[0].copy())
        frames[k].set_cell(frames[0].cell @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
        frames[k].positions += 0.05 * (1 + k % 5) * rng.normal(size=(len(frames[k]), 3))
    for k, atoms in enumerate(frames):
        atoms.info = {"name": f"li2s-{k:02d}", "config_type": "rattled" if k else "crystal"}
    return frames


SETS = {"gen0": generation_0, "locality": locality, "li2s": lithium_sulfide}


def add_frames_arguments(parser):
    parser.add_argument("set", choices=SETS, help="which set")
    parser.add_argument("output", help="extended XYZ file to write")
    parser.add_argument("--seed", type=int, help="another seed than that of the shipped data")


def frames_command(args):
    frames = SETS[args.set](**({} if args.seed is None else {"seed": args.seed}))
    for atoms in frames:
        for key in ("reference", "program"):
            atoms.info.pop(key, None)
    with only_writer(args.output):
        write_frames(args.output, frames)
    print(f"{args.output}: {len(frames)} configurations; label them with: python -m esgap label {args.output} OUT.xyz")
    return 0
