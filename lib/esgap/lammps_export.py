"""A potential as files for LAMMPS, for those who go on at scale: GAP by `pair_style quip`, the baseline by
`pair_style coul/streitz` with `ewald`, which with chi = J = Zcore = 0 is the sum over Slater clouds of `esgap.ewald`.

    in.lammps  structure.data  gap.xml and its points  slater.streitz (for an ES-GAP)

LAMMPS needs its packages ML-QUIP, KSPACE and EXTRA-PAIR. It cuts the screening of clouds off at a radius, here where
exp(-2 zeta r) has fallen to `accuracy` for the widest. Units: metal (A, eV, ps, e).
"""
from pathlib import Path

import numpy as np
from ase.data import atomic_masses, atomic_numbers
from ase.io.lammpsdata import write_lammps_data

from .calculators import ElectrostaticBaseline
from .gap_calculator import GAP
from .models import load_model
from .store import data_path, read_frames, write_atomically


def parts(calculator):
    """The GAP and the baseline (or None) of a calculator as `esgap.load_model` or `esgap.es_gap` gives it."""
    mixer = getattr(calculator, "mixer", None)
    all_parts = [calculator] if isinstance(calculator, GAP) else list(getattr(mixer, "calcs", ()))
    gaps = [c for c in all_parts if isinstance(c, GAP)]
    baselines = [c for c in all_parts if isinstance(c, ElectrostaticBaseline)]
    if len(gaps) != 1 or len(gaps) + len(baselines) != len(all_parts) or len(baselines) > 1:
        raise ValueError(f"{type(calculator).__name__} is no GAP and no sum of one GAP and one baseline; only these "
                         "have a counterpart in LAMMPS (a field is added there by `fix efield`)")
    return gaps[0], baselines[0] if baselines else None


def write_lammps(folder, calculator, atoms, accuracy=1e-6):
    """Write the files above to `folder` for a calculator and a structure (ASE Atoms, periodic) -> path of in.lammps.

    accuracy: of the lattice sum, relative. ValueError for other calculators, or point charges, which need another
    pair style.
    """
    folder, (gap, baseline) = Path(folder), parts(calculator)
    folder.mkdir(parents=True, exist_ok=True)
    elements = sorted(set(atoms.symbols), key=atomic_numbers.get)
    plain = atoms.copy()
    plain.calc = None
    if baseline is not None:
        _check_clouds(baseline, elements)
        plain.set_initial_charges([baseline.charges[s] for s in plain.symbols])
        lines = "".join(f"{e} 0 0 0 {baseline.zeta[e]!r} 0\n" for e in elements)  # chi J gamma zeta Zcore
        write_atomically(folder / "slater.streitz", lines)
    write_lammps_data(folder / "structure.data", plain, specorder=elements, units="metal", atom_style="charge")
    gap.save(folder / "gap.xml")
    write_atomically(folder / "in.lammps", _input(gap, baseline, elements, accuracy))
    return folder / "in.lammps"


def _check_clouds(baseline, elements):
    for e in elements:
        if e not in baseline.charges:
            raise ValueError(f"the baseline has no charge for {e}; it has {', '.join(baseline.charges)}")
        if not np.isfinite(baseline.zeta[e]):
            raise ValueError(f"the charge of {e} is a point; coul/streitz needs a cloud: use a large zeta, such as 5/A")


def screening_radius(zeta, accuracy):
    """A, where exp(-2 zeta r) of the widest cloud is `accuracy`. zeta: 1/A by element."""
    return float(np.log(1 / accuracy) / (2 * min(zeta.values())))


def _input(gap, baseline, elements, accuracy):
    quip = f'gap.xml "Potential xml_label={gap.model.label}" {" ".join(str(atomic_numbers[e]) for e in elements)}'
    head = ["units metal", "atom_style charge", "atom_modify map array", "read_data structure.data"]
    head += [f"mass {k} {atomic_masses[atomic_numbers[e]]}" for k, e in enumerate(elements, 1)]
    if baseline is None:
        pair = ["pair_style quip", f"pair_coeff * * {quip}"]
    else:
        radius = screening_radius({e: baseline.zeta[e] for e in elements}, accuracy)
        pair = ["neigh_modify one 20000 page 400000",
                f"pair_style hybrid/overlay quip coul/streitz {radius:.2f} ewald", f"kspace_style ewald {accuracy:g}",
                f"pair_coeff * * quip {quip}", f"pair_coeff * * coul/streitz slater.streitz {' '.join(elements)}"]
    end = ["timestep 0.002", "thermo_style custom step temp pe etotal pxx pyy pzz", "run 0", ""]
    return "\n".join([*head, *pair, *end])


def add_export_arguments(parser):
    parser.add_argument("model", help="gap, es-gap, or the path of a stored model")
    parser.add_argument("folder", type=Path, help="where the files go")
    parser.add_argument("--structure", type=Path, default=data_path("crystal.xyz"), help="extended XYZ, first frame")
    parser.add_argument("--accuracy", type=float, default=1e-6, help="of the lattice sum (default 1e-6)")


def export_command(args):
    """python -m esgap export: a stored model for LAMMPS; gap.xml alone serves QUIP and quippy."""
    path = write_lammps(args.folder, load_model(args.model), read_frames(args.structure)[0], args.accuracy)
    print(f"{path}: run it in its folder with a LAMMPS that has ML-QUIP, KSPACE and EXTRA-PAIR")
    return 0
