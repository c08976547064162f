"""Relax the positions of one structure at fixed cell with reference forces; can be stopped and started at any time.

BFGS, or GPMin on top of a stored potential, which needs far fewer labels in a flat landscape. It begins at the start
each time, with every evaluated step kept, labelled, in `<output>.steps.xyz`: on a restart the steps already there are
read instead of computed, and since both are deterministic it arrives where it was. Units: A, eV, eV/A.
"""
from pathlib import Path

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.optimize import BFGS, GPMin
from ase.optimize.gpmin.prior import CalculatorPrior

from esgap.models import load_model
from esgap.reference import add_labeller_arguments, frame_key, labeller_from, read_named_frames
from esgap.store import FrameStore, only_writer, structure_hash, write_frames, write_record


class Remembering(Calculator):
    """Energy and forces from a labeller; each structure is labelled once and kept in a FrameStore."""

    implemented_properties = ("energy", "forces")

    def __init__(self, labeller, store, name):
        super().__init__()
        self.labeller, self.store, self.frame_name = labeller, store, name
        self.n_known = self.n_new = 0

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        frame = self.atoms.copy()
        frame.info["name"] = f"{self.frame_name}-step-{self.n_known + self.n_new:03d}"
        key = (frame.info["name"], structure_hash(frame), self.labeller.reference(frame))
        if key in self.store:
            self.frame, self.n_known = self.store.frames[key], self.n_known + 1
        else:
            self.frame, self.n_new = self.store.add(self.labeller(frame)), self.n_new + 1
        self.results = dict(self.frame.calc.results)


def _optimiser(atoms, max_move, model):
    """BFGS; with a model GPMin (E. Garijo del Rio, J. J. Mortensen, K. W. Jacobsen, Phys. Rev. B 100, 104103 (2019)):
    a Gaussian process of what the model leaves of energy and forces, minimised and labelled in turn. Its length of
    0.5 A is a distance in the space of all coordinates; for another potential in DFT's place 0.5 needed 14 labels."""
    if model is None:
        return BFGS(atoms, maxstep=max_move, logfile=None)
    return GPMin(atoms, prior=CalculatorPrior(atoms, model), scale=0.5, logfile=None)


def relax_file(input_path, output, labeller, fmax=0.01, max_steps=200, max_move=0.05, model=None):
    """Relax the only frame of `input_path` until no force exceeds `fmax` (eV/A); writes and returns it, labelled.

    model: an ASE calculator that knows roughly how the forces go; it changes the way, not the end. For GPMin, up to
    about 100 atoms. max_move (A): how far an atom goes in a step of BFGS. The frame keeps its name and info.
    RuntimeError if not there after `max_steps`: all steps are kept, and the same command with more steps goes on.
    """
    frames, output = read_named_frames(input_path), Path(output)
    if len(frames) != 1:
        raise ValueError(f"{input_path} holds {len(frames)} frames; relax takes one at a time")
    labeller.check(frames)
    atoms = frames[0].copy()
    steps, record = output.with_suffix(".steps.xyz"), output.with_suffix(".json")
    with only_writer(output, steps, record):
        store = FrameStore(steps, frame_key)
        atoms.calc = Remembering(labeller, store, atoms.info["name"])
        try:
            with _optimiser(atoms, max_move, model) as optimiser:
                for _ in optimiser.irun(fmax=fmax, steps=max_steps):
                    _report(optimiser.nsteps, atoms)
                largest = np.linalg.norm(atoms.get_forces(), axis=1).max()
        finally:
            store.merge()
        if largest > fmax:
            raise RuntimeError(f"the largest force is {largest:.4f} eV/A after {max_steps} steps, not {fmax:g}: give "
                               "the same command with more --max-steps to go on")
        relaxed = atoms.calc.frame.copy()
        relaxed.calc, relaxed.info["name"] = atoms.calc.frame.calc, frames[0].info["name"]
        write_frames(output, [relaxed])
        write_record(record, {"steps": len(store.frames), "fmax": float(largest),
                              "settings": relaxed.info["reference"]}, [input_path])
    return relaxed


def _report(step, atoms):
    forces = atoms.get_forces()
    print(f"step {step:3d}  {atoms.get_potential_energy():.6f} eV  largest force "
          f"{np.linalg.norm(forces, axis=1).max():.4f}  rms {np.sqrt((forces**2).mean()):.4f} eV/A", flush=True)


def add_relax_arguments(parser):
    parser.add_argument("frames", help="one structure, extended XYZ, with a name")
    parser.add_argument("output", help="the relaxed structure with its label, extended XYZ")
    parser.add_argument("--fmax", type=float, default=0.01, help="largest force allowed, eV/A (default 0.01)")
    parser.add_argument("--max-steps", type=int, default=200)
    parser.add_argument("--max-move", type=float, default=0.05, help="largest displacement in a step, A (default 0.05)")
    parser.add_argument("--model", help="stored potential that knows roughly how the forces go (fewer steps)")
    add_labeller_arguments(parser)


def relax_command(args):
    model = None if args.model is None else load_model(args.model)
    relax_file(args.frames, args.output, labeller_from(args), args.fmax, args.max_steps, args.max_move, model)
    return 0
