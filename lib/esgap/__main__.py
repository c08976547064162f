"""python -m esgap COMMAND: what a chapter does, at scale; every command can be killed and given again."""
import argparse
import importlib
import signal
import sys

# command: (module of esgap, what it does); the module has add_<command>_arguments(parser) and <command>_command(args)
COMMANDS = {
    "frames": ("configurations", "write unlabelled configurations: generation 0, locality test"),
    "label": ("reference", "label configurations with CP2K or another calculator"),
    "relax": ("relax", "relax one structure with reference forces"),
    "charges": ("charge_fit", "charges of the baseline from the locality test"),
    "train": ("generations", "the training loop: sample, label, fit, generation after generation"),
    "learning": ("learning", "errors of GAP and ES-GAP generation by generation, on frames not trained on"),
    "weights": ("learning", "errors with other weights for the forces on an element"),
    "committee": ("committee_run", "committees of both models, and whether their spread tells the errors"),
    "testset": ("testsets", "write unlabelled test frames: MD with the final models, lithium hops, volumes"),
    "md": ("dynamics", "molecular dynamics with a stored potential"),
    "conductivity": ("mobility_run", "long runs of both models with several seeds, of which lithium is kept"),
    "hops": ("hops", "lithium sites and hops of a trajectory"),
    "paths": ("hop_paths", "paths of the most frequent hops with both models, each evaluated with the other"),
    "traversals": ("traversals", "two hops in a row of one ion to the next cell, and what moves with them"),
    "neb": ("barriers", "minimum-energy path and barriers between two or more minima"),
    "export": ("lammps_export", "a stored potential as QUIP XML and LAMMPS input"),
    "sweep": ("sweep", "a chapter with every combination of parameters: notebooks, records, a table"),
    "frenkel": ("frenkel_run", "Frenkel pairs in an electric field: formation energies with a stored potential"),
    "born": ("born", "Born effective charges from forces in a finite field, with CP2K"),
    "settings": ("convergence", "held-out errors of GAP and ES-GAP for several settings of the fit"),
    "recompute": ("recompute", "stored results once more, beside the stored ones, by the commands in their records"),
    "compare": ("compare", "how far a recomputed record is from the stored one"),
}


def parsed(arguments):
    """Arguments of one command, as its module understands them; exits with a message if they are wrong."""
    parser = argparse.ArgumentParser(prog="python -m esgap", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, text) in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text)
        if arguments[:1] == [name]:  # only the module that is asked for is imported
            getattr(importlib.import_module(f"esgap.{module}"), f"add_{name}_arguments")(sub)
    return parser.parse_args(arguments)


def main(arguments=None):
    """Run one command; the exit status is 0, 1 (something is left to do), 2 (wrong input) or 130 (interrupted)."""
    args = parsed(sys.argv[1:] if arguments is None else list(arguments))
    run = getattr(importlib.import_module(f"esgap.{COMMANDS[args.command][0]}"), f"{args.command}_command")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # tidy up, as at Ctrl-C
    try:
        return run(args)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"esgap {args.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"esgap {args.command}: interrupted; the same command goes on from here", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
