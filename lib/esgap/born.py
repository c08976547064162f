"""Born effective charges from forces in a finite field: Z*_ab = dP_b/dr_a (times the volume) = dF_a/dE_b.

    Z*_i,ab = [F_ia(+E_b) - F_ia(-E_b)] / (2 E_b),   acoustic sum rule: sum_i Z*_i = 0

The sum that is left (grids, fields that are not small) is stated and taken off all atoms alike. Forces at zero field
tell what second order there is: [F(+) + F(-)] / 2 - F(0). Fields by the Berry phase (CP2K's PERIODIC_EFIELD, in
`esgap.cp2k`): E is the macroscopic field, so these are the Z* of the dipole -E . sum_i Z*_i dr_i of `esgap.frenkel`.

Charges of the crystal serve for defects in it, as far as those of one element are alike: `field_dipoles`.

Seen with CP2K 2023.1 on Li2S (12 atoms, Gamma): Li +1.07, S -2.08 e, as they should be. `python -m esgap born` refuses
charges with which Li is negative: another version's field may have the other sign.
Units: A, e, eV/A, V/A.
"""
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .calculators import charge_of
from .reference import add_labeller_arguments, label_file, labeller_from
from .store import only_writer, read_frames, read_record, write_frames, write_record

AXES = "xyz"


def field_frames(atoms, strength=0.02):
    """Seven frames for `python -m esgap label --kpts 1 1 1`: no field, and fields of +-strength (V/A) along x, y, z."""
    if not strength > 0:
        raise ValueError(f"strength is {strength} V/A; it must be positive")
    if not atoms.info.get("name"):
        raise ValueError("the atoms have no name: set info['name'], results are filed by it")
    fields = {"0": np.zeros(3)} | {f"{sign}{axis}": float(f"{sign}{strength}") * unit
                                   for axis, unit in zip(AXES, np.eye(3), strict=True) for sign in "+-"}
    frames = []
    for label, field in fields.items():
        frame = atoms.copy()
        name = f"{atoms.info['name']}/field{label}"
        frame.info = {"name": name, "config_type": "field", "field": field + 0.0}  # 0.0: no minus zeros
        frame.arrays = {k: frame.arrays[k] for k in ("numbers", "positions")}
        frames.append(frame)
    return frames


@dataclass(frozen=True, eq=False)
class BornCharges:
    """Z* by atom, made to sum to zero, and how far they were from it."""

    tensors: np.ndarray     # (n, 3, 3) e; [i, a, b]: force on i along a by the field along b
    symbols: tuple
    sum_rule: np.ndarray    # (3, 3) e, sum over atoms before it was taken off
    second_order: float     # eV/A, largest force component that is even in the field
    strength: float         # V/A

    def isotropic(self):
        """{element: (mean of trace / 3, scatter between atoms)} in e."""
        z = np.trace(self.tensors, axis1=1, axis2=2) / 3
        kind = np.array(self.symbols)
        return {s: (float(z[kind == s].mean()), float(z[kind == s].std())) for s in dict.fromkeys(self.symbols)}

    def scatter(self):
        """(n,) e: by how much a component of a tensor of the atom's element differs from an isotropic one (rms)."""
        kind, out = np.array(self.symbols), np.empty(len(self.symbols))
        for s, (mean, _) in self.isotropic().items():
            out[kind == s] = np.sqrt(np.mean((self.tensors[kind == s] - mean * np.eye(3)) ** 2))
        return out

    def repeated(self, n_atoms, copies):
        """The same for so many unit cells of `n_atoms`, one after the other as `Atoms.repeat` puts them; tensors are
        means over the copies that are here. ValueError if these are not whole cells of the same atoms."""
        symbols = self.symbols[:n_atoms]
        if len(self.symbols) % n_atoms or symbols * (len(self.symbols) // n_atoms) != tuple(self.symbols):
            raise ValueError(f"{len(self.symbols)} tensors are not those of repeated cells of {n_atoms} atoms")
        mean = self.tensors.reshape(-1, n_atoms, 3, 3).mean(0)
        return replace(self, tensors=np.tile(mean, (copies, 1, 1)), symbols=symbols * copies)

    def between_copies(self, n_atoms):
        """e: rms difference of tensors of one atom in the copies of the unit cell from their mean, which ought to be 0;
        it tells what grids do."""
        copies = self.tensors.reshape(-1, n_atoms, 3, 3)
        return float(np.sqrt(np.mean((copies - copies.mean(0)) ** 2)))

    def dipole(self, displacement):
        """sum_i Z*_i dr_i (3,) in e A, of displacements (n, 3) of the same atoms on one branch."""
        displacement = np.asarray(displacement)
        if displacement.shape != (len(self.symbols), 3):
            raise ValueError(f"displacements have shape {displacement.shape}; give one of three components for each of "
                             f"the {len(self.symbols)} atoms")
        return np.einsum("iab,ia->b", self.tensors, displacement)

    def __str__(self):
        charges = ", ".join(f"{s} {m:+.2f} (scatter {d:.2f})" for s, (m, d) in self.isotropic().items())
        return (f"Z* in e: {charges}; sum over all atoms up to {np.abs(self.sum_rule).max():.3f}, taken off; second "
                f"order in the field {1e3 * self.second_order:.1f} meV/A at {self.strength:g} V/A")


def field_dipoles(charges, fixed, atoms, perfect):
    """What couples to a field to first order when atoms move from `perfect` to `atoms`, one branch -> (3,) e A each of
    sum q dr with `fixed` charges {element: e} and of sum Z* dr, and the error of a component of the latter.

    charges: `BornCharges` of the crystal with the atoms of `perfect`. In a defect they may be others; the error takes
    them to differ as those of one element do from each other and with direction, each atom by itself.
    """
    moved = atoms.positions - perfect.positions
    error = np.sqrt(charges.scatter() ** 2 @ (moved**2).sum(1))  # of any component: tensors are taken as random
    return charge_of(perfect, fixed) @ moved, charges.dipole(moved), float(error)


def dipoles_table(fixed, of_born, error):
    """Markdown: `field_dipoles` by direction and along the first, with their ratio."""
    rows = ["| field along | Σ q Δr (e Å) | Σ Z* Δr (e Å) | ratio |", "|:--|--:|--:|--:|"]
    unit = fixed / np.linalg.norm(fixed)
    for name, axis in (*zip(AXES, np.eye(3), strict=True), ("the dipole", unit)):
        q, z = fixed @ axis, of_born @ axis
        rows.append(f"| {name} | {q:+.2f} | {z:+.2f} ± {error:.2f} | {z / q:.2f} ± {abs(error / q):.2f} |")
    return "\n".join(rows)


def born_charges(frames):
    """From labelled `field_frames`, in any order -> `BornCharges`."""
    forces, strengths = {}, set()
    for frame in frames:
        field = np.asarray(frame.info.get("field", [np.nan] * 3), float)
        along = np.flatnonzero(field)
        if field.shape != (3,) or not np.isfinite(field).all() or len(along) > 1:
            raise ValueError(f"frame {frame.info.get('name')} has field {frame.info.get('field')}; Z* needs fields "
                             "along x, y or z, as `field_frames` makes them")
        label = "0" if len(along) == 0 else f"{'+' if field[along[0]] > 0 else '-'}{AXES[along[0]]}"
        forces[label] = frame.get_forces()
        strengths |= set(np.abs(field[along]).round(10).tolist())
    wanted = ["0", *(f"{sign}{axis}" for axis in AXES for sign in "+-")]
    missing = [label for label in wanted if label not in forces]
    if missing or len(strengths) != 1:
        raise ValueError(f"fields {', '.join(missing) or 'none'} are missing, strengths are {sorted(strengths)} V/A; "
                         "seven frames of one strength are needed: label all of `field_frames`")
    (strength,) = strengths
    raw = np.stack([(forces[f"+{a}"] - forces[f"-{a}"]) / (2 * strength) for a in AXES], axis=2)  # (n, 3, 3)
    even = [np.abs((forces[f"+{a}"] + forces[f"-{a}"]) / 2 - forces["0"]).max() for a in AXES]
    total = raw.sum(0)
    return BornCharges(raw - total / len(raw), tuple(frames[0].symbols), total, float(max(even)), strength)


def load_born_charges(path):
    """`BornCharges` that `python -m esgap born` has written."""
    r = read_record(path)
    return BornCharges(np.array(r["tensors"]), tuple(r["symbols"]), np.array(r["sum_rule"]), r["second_order"],
                       r["strength"])


def add_born_arguments(parser):
    parser.add_argument("structure", help="extended XYZ; the first frame is taken, relaxed or not, and needs a name")
    parser.add_argument("output", help="Born charges, .json; frames and labels go beside it, ending in .fields.xyz and "
                                       ".labels.xyz, and labels that are there are not done again")
    parser.add_argument("--repeat", type=int, nargs=3, default=(1, 2, 1), help="repeat the cell (default 1 2 1): only "
                                                                               "Gamma can be used in a field")
    parser.add_argument("--strength", type=float, default=0.02, help="of the field, V/A (default 0.02)")
    add_labeller_arguments(parser)


def born_command(args):
    """python -m esgap born: seven labels (84 atoms: hours), then the charges."""
    output = Path(args.output)
    if output.suffix != ".json":
        raise ValueError(f"{output} does not end in .json")
    unlabelled, labels = output.with_suffix(".fields.xyz"), output.with_suffix(".labels.xyz")
    labeller = labeller_from(args)
    if not args.calculator:
        labeller = replace(labeller, settings=replace(labeller.settings, kpts=(1, 1, 1)))
    with only_writer(output, unlabelled):
        write_frames(unlabelled, field_frames(read_frames(args.structure)[0].repeat(args.repeat), args.strength))
        report = label_file(unlabelled, labels, labeller, workers=0)
        if report.set_aside:
            print(report)
            return 1
        charges = born_charges(read_frames(labels))
        if charges.isotropic().get("Li", (1.0,))[0] < 0:
            raise ValueError(f"{charges}: Li is negative, so CP2K's field has the opposite sign of that assumed here")
        write_record(output, {name: getattr(charges, name) for name in (
            "tensors", "symbols", "sum_rule", "second_order", "strength")}, [labels])
    print(charges)
    return 0
