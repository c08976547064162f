"""Relax the positions of one structure at fixed cell with reference forces; can be stopped and started at any time.

BFGS from the start each time, with every evaluated step kept, labelled, in `<output>.steps.xyz`: on a restart the steps
already there are read instead of computed, and since BFGS is deterministic it arrives where it was. Units: A, eV, eV/A.
"""
from pathlib import Path

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.optimize import BFGS

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


def model_hessian(atoms, calculator, step=0.01, softest=2.0):
    """Second derivatives (3n, 3n) of a cheap potential in eV/A^2 by central differences, made safe for a first guess:
    eigenvalues are taken positive and not below `softest`, since the soft modes of a model are its least certain."""
    atoms, columns = atoms.copy(), []
    for k in range(len(atoms)):
        for axis in range(3):
            forces = []
            for sign in (1, -1):
                atoms.positions[k, axis] += sign * step
                forces.append(calculator.get_property("forces", atoms.copy()).ravel())
                atoms.positions[k, axis] -= sign * step
            columns.append((forces[1] - forces[0]) / (2 * step))
    values, vectors = np.linalg.eigh((np.array(columns) + np.array(columns).T) / 2)
    return (vectors * np.maximum(np.abs(values), softest)) @ vectors.T


def relax_file(input_path, output, labeller, fmax=0.01, max_steps=200, max_move=0.05, model=None):
    """Relax the only frame of `input_path` until no force exceeds `fmax` (eV/A); writes and returns it, labelled.

    model: an ASE calculator whose second derivatives are the first guess of BFGS's; it changes the way, not the end.
    The frame keeps its name and info; `max_move` (A) limits how far an atom goes in a step. RuntimeError if not there
    after `max_steps`: all steps are kept, and the same command with more steps goes on.
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
            with BFGS(atoms, maxstep=max_move, logfile=None) as optimiser:
                if model is not None:
                    optimiser.H0 = model_hessian(frames[0], model)
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
    parser.add_argument("--model", help="stored potential for the first guess of the second derivatives (fewer steps)")
    add_labeller_arguments(parser)


def relax_command(args):
    model = None if args.model is None else load_model(args.model)
    relax_file(args.frames, args.output, labeller_from(args), args.fmax, args.max_steps, args.max_move, model)
    return 0
