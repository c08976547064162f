"""Files for LAMMPS: the Coulomb part gives the baseline's energy there, the GAP part is what quippy reads."""
import ctypes
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.lj import LennardJones

import esgap
from esgap import lammps_export, structures
from esgap.__main__ import main

CHARGES = {"Li": 0.6, "P": 1.2, "S": -(14 * 0.6 + 6 * 1.2) / 22}
ZETA = {"Li": 0.9, "P": 1.1, "S": 1.4}


@pytest.fixture(scope="module")
def atoms():
    crystal = structures.crystal()
    crystal.calc = None
    crystal.rattle(0.05, seed=1)
    return crystal


@pytest.fixture(scope="module")
def gap():
    frames = esgap.read_frames(esgap.data_path("dft/gen0.xyz"))[:6]
    soap = esgap.Soap(3, 2, 0.6, 4.0, cutoff_dexp=4, cutoff_scale=2.5)
    return esgap.fit_gap(frames, esgap.FitSettings(soap, n_sparse=10, e0="fit")).calculator


def test_coulomb_part_in_lammps_is_the_baseline(gap, atoms, tmp_path):
    """The wheel of LAMMPS has no ML-QUIP: its part of the input is left out, the rest runs as it is written."""
    baseline = esgap.ElectrostaticBaseline(CHARGES, ZETA)
    path = lammps_export.write_lammps(tmp_path, esgap.es_gap(gap, baseline), atoms, accuracy=1e-8)
    lines = [line.replace("hybrid/overlay quip coul", "coul").replace("* * coul/streitz", "* *")
             for line in path.read_text().splitlines() if "gap.xml" not in line]
    ctypes.CDLL(str(Path(sys.prefix) / "lib/libmpi.so.12"), mode=ctypes.RTLD_GLOBAL)
    from lammps import lammps
    lmp = lammps(cmdargs=["-screen", "none", "-log", "none"])
    lmp.commands_string(f"shell cd {tmp_path}\n" + "\n".join(lines))
    assert lmp.get_thermo("pe") == pytest.approx(baseline.get_property("energy", atoms), rel=1e-6)
    lmp.close()


def test_gap_part_in_quippy(gap, atoms, tmp_path):
    from quippy.potential import Potential
    text = lammps_export.write_lammps(tmp_path, gap, atoms).read_text()
    assert f'pair_coeff * * gap.xml "Potential xml_label={gap.model.label}" 3 15 16' in text
    assert "streitz" not in text
    other = atoms.copy()
    other.calc = Potential(f"xml_label={gap.model.label}", param_filename=str(tmp_path / "gap.xml"))
    assert np.abs(other.get_forces() - gap.get_property("forces", atoms)).max() < 1e-9


def test_the_screening_radius_keeps_what_is_asked_for():
    radius = lammps_export.screening_radius(ZETA, 1e-6)
    assert np.exp(-2 * 0.9 * radius) == pytest.approx(1e-6)


def test_what_has_no_counterpart_is_refused(gap, atoms, tmp_path):
    with pytest.raises(ValueError, match="LennardJones is no GAP and no sum of one GAP and one baseline"):
        lammps_export.write_lammps(tmp_path, LennardJones(), atoms)
    points = esgap.ElectrostaticBaseline(CHARGES, dict.fromkeys(ZETA, np.inf))
    with pytest.raises(ValueError, match="the charge of Li is a point; coul/streitz needs a cloud"):
        lammps_export.write_lammps(tmp_path, esgap.es_gap(gap, points), atoms)
    in_field = esgap.es_gap(gap, esgap.ElectrostaticBaseline(CHARGES, ZETA),
                            esgap.UniformField([0, 0, 0.1], CHARGES, reference=atoms))
    with pytest.raises(ValueError, match="a field is added there by `fix efield`"):
        lammps_export.write_lammps(tmp_path, in_field, atoms)


def test_command(gap, tmp_path, capsys):
    esgap.save_model(tmp_path / "m.npz", gap, esgap.ElectrostaticBaseline(CHARGES, ZETA))
    assert main(["export", str(tmp_path / "m.npz"), str(tmp_path / "out")]) == 0
    assert "ML-QUIP" in capsys.readouterr().out
    assert {p.name for p in (tmp_path / "out").iterdir()} >= {"in.lammps", "structure.data", "gap.xml",
                                                              "slater.streitz"}
