"""python -m esgap frames: write the configurations that are to be labelled, each set from its seed."""
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


SETS = {"gen0": generation_0, "locality": locality}


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
