"""What CP2K is given: the text of its inputs, from a structure and `esgap.cp2k.Settings`.

A frame in a field is done in two steps, since orbital transformation is slow from atomic orbitals (84 atoms of the
crystal: DIIS gives up, conjugate gradients are not there after 40 steps): orbitals by diagonalisation without the
field, then, from those, orbital transformation in it, with DIIS 7 steps.
"""
from dataclasses import fields, replace

import numpy as np
from ase.units import Bohr, Hartree

VALENCE = {"Li": 3, "P": 5, "S": 6}  # electrons of the GTH-PBE pseudopotentials
GROUND_EPS_SCF = 1e-4  # of orbitals that others begin from

TEMPLATE = """&GLOBAL
  PROJECT label
  RUN_TYPE ENERGY_FORCE
  PRINT_LEVEL MEDIUM
&END GLOBAL
&FORCE_EVAL
  METHOD QS
  STRESS_TENSOR {stress}
  &DFT
    BASIS_SET_FILE_NAME BASIS_MOLOPT
    POTENTIAL_FILE_NAME GTH_POTENTIALS{orbitals}{field}
{kpoints}
    &MGRID
      CUTOFF {cutoff:g}
      REL_CUTOFF {rel_cutoff:g}
      NGRIDS {ngrids}
    &END MGRID
    &QS
      EPS_DEFAULT {eps_default:g}
      EPS_RHO_RSPACE {eps_rho:g}
    &END QS
    &SCF
      SCF_GUESS {guess}
      EPS_SCF {eps_scf:g}
      MAX_SCF {max_scf}
{solver}
    &END SCF
    &XC
      &XC_FUNCTIONAL {functional}
      &END XC_FUNCTIONAL
    &END XC
    &PRINT
      &HIRSHFELD ON
        SHAPE_FUNCTION DENSITY
        SELF_CONSISTENT FALSE
      &END HIRSHFELD
      &MULLIKEN OFF
      &END MULLIKEN
    &END PRINT
  &END DFT
  &SUBSYS
    &CELL
{cell}
    &END CELL
    &COORD
{coord}
    &END COORD
{kinds}
  &END SUBSYS
  &PRINT
    &FORCES ON
    &END FORCES
    &STRESS_TENSOR ON
    &END STRESS_TENSOR
  &END PRINT
&END FORCE_EVAL
"""
DIAGONALIZATION = """      &DIAGONALIZATION
      &END DIAGONALIZATION
      &MIXING
        METHOD BROYDEN_MIXING
        ALPHA {alpha:g}
        NBROYDEN {nbroyden}
      &END MIXING"""
ORBITAL_TRANSFORMATION = """      &OT
        MINIMIZER {minimizer}
        PRECONDITIONER FULL_ALL
      &END OT"""
ORBITALS = """
    WFN_RESTART_FILE_NAME ground-RESTART.wfn"""
FIELD = """
    &PERIODIC_EFIELD
      INTENSITY {:.12g}
      POLARISATION {:.12g} {:.12g} {:.12g}
    &END PERIODIC_EFIELD"""
KPOINTS = """    &KPOINTS
      SCHEME MONKHORST-PACK {} {} {}
      SYMMETRY F
      FULL_GRID F
    &END KPOINTS"""
LISTED_KPOINTS = """    &KPOINTS
      SCHEME GENERAL
      SYMMETRY F
      UNITS B_VECTOR
{}
    &END KPOINTS"""
KIND = """    &KIND {element}
      BASIS_SET {basis}
      POTENTIAL GTH-{functional}-q{valence}
    &END KIND"""


def inputs(atoms, settings, safer=False):
    """Inputs to be run one after the other: of a frame in a field first that of `ground_state_text`."""
    ground = [ground_state_text(atoms, settings, safer)] if "field" in atoms.info else []
    return [*ground, input_text(atoms, settings, safer)]


def ground_state_text(atoms, settings, safer=False):
    """CP2K input for orbitals without field, for those in a field to begin from; hence not converged to the end."""
    bare = atoms.copy()
    del bare.info["field"]
    text = input_text(bare, replace(settings, eps_scf=max(settings.eps_scf, GROUND_EPS_SCF)), safer)
    for old, new in (("PROJECT label", "PROJECT ground"), ("RUN_TYPE ENERGY_FORCE", "RUN_TYPE ENERGY"),
                     ("STRESS_TENSOR ANALYTICAL", "STRESS_TENSOR NONE")):
        text = text.replace(old, new)
    return text


def input_text(atoms, settings, safer=False):
    """CP2K input; a single k-point is Gamma, with real orbitals. `safer`: smaller mixing (OT: CG), more steps.

    In a field it reads the orbitals that `ground_state_text` has left.
    """
    def row(values):
        return " ".join(f"{x:.10f}" for x in values)

    grid = settings.grid(atoms)
    values = {f.name: getattr(settings, f.name) for f in fields(settings)}
    if safer:
        values.update(alpha=settings.safer_alpha, max_scf=settings.safer_max_scf)
    kinds = [KIND.format(element=s, valence=VALENCE[s], **values) for s in sorted(set(atoms.symbols))]
    field = atoms.info.get("field")
    solver = DIAGONALIZATION if field is None else ORBITAL_TRANSFORMATION
    return TEMPLATE.format(
        **values,
        stress="ANALYTICAL" if field is None else "NONE",
        guess="ATOMIC" if field is None else "RESTART",
        orbitals="" if field is None else ORBITALS,
        field="" if field is None else _field_text(np.asarray(field, float)),
        solver=solver.format(**values, minimizer="CG" if safer else "DIIS"),
        kpoints=_kpoints_text(grid, "folded" in atoms.info),
        cell="\n".join(f"      {k} {row(v)}" for k, v in zip("ABC", atoms.cell.array, strict=True)),
        coord="\n".join(f"      {s} {row(p)}" for s, p in zip(atoms.symbols, atoms.positions, strict=True)),
        kinds="\n".join(kinds))


def _kpoints_text(grid, with_gamma):
    if grid == (1, 1, 1):
        return ""
    if not with_gamma:
        return KPOINTS.format(*grid)
    return LISTED_KPOINTS.format("\n".join("      KPOINT {:.12f} {:.12f} {:.12f} {:g}".format(*k, weight)
                                           for k, weight in centred_kpoints(grid)))


def centred_kpoints(grid):
    """Points i / n of a grid n (3,) that holds Gamma, one of k and -k, with weights: [((3,), 1 or 2)].

    In reciprocal lattice vectors, above -1/2 and up to 1/2. It is what Gamma of n_1 x n_2 x n_3 cells folds to.
    """
    weights = {}
    for index in np.ndindex(*grid):
        k, opposite = (tuple(int(i) for i in (np.array(index) * sign) % grid) for sign in (1, -1))
        which = min(k, opposite)
        weights[which] = weights.get(which, 0) + 1
    points = {k: np.array(k) / grid for k in weights}
    return [(tuple(float(x) for x in np.where(p > 0.5, p - 1, p)), weights[k]) for k, p in points.items()]


def _field_text(field):
    strength = np.linalg.norm(field)  # a direction is wanted even where there is no field
    direction = field / strength if strength > 0 else np.array([0.0, 0.0, 1.0])
    return FIELD.format(strength * Bohr / Hartree, *direction)
