"""Labels: the same calculation for the same settings, failures set aside, wrong input named, relaxation to the minimum.

The numbers of CP2K_OUTPUT are CP2K 2023.1's for a rattled Li2S cell (150 Ry, 2x2x2).
"""
import os
import re
import shutil
import stat

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import SCFError
from ase.calculators.morse import MorsePotential
from ase.cell import Cell
from ase.units import Bohr, GPa, Hartree

from esgap.__main__ import main
from esgap.cp2k import CP2K, Settings, parse
from esgap.cp2k_input import centred_kpoints, input_text
from esgap.reference import AnyCalculator, failed_path, label_file, load_calculator
from esgap.relax import model_hessian, relax_file
from esgap.store import read_frames, read_record, write_frames
from reference_calculators import PARAMETERS

CP2K_OUTPUT = """ CP2K| version string:                                       CP2K version 2023.1
  *** SCF run converged in    10 steps ***
                           Hirshfeld Charges

  #Atom  Element  Kind  Ref Charge     Population                    Net charge
      1       S      1       6.000          6.263                        -0.263
      2       Li     2       3.000          2.868                         0.132
      3       Li     2       3.000          2.868                         0.132

  Total Charge                                                           -0.000
 ENERGY| Total FORCE_EVAL ( QS ) energy [a.u.]:              -25.307496640457543

 ATOMIC FORCES in [a.u.]

 # Atom   Kind   Element          X              Y              Z
      1      1      S          -0.00436671     0.00132089    -0.00070631
      2      2      Li          0.00792327    -0.00105512    -0.00101946
      3      2      Li         -0.00799675     0.00269015    -0.00282034
 SUM OF ATOMIC FORCES          -0.00444020     0.00295592    -0.00454611     0.00700856

 STRESS| Analytical stress tensor [GPa]
 STRESS|                        x                   y                   z
 STRESS|      x        3.46531861518E+00   1.79285421229E-02  -8.63701120358E-01
 STRESS|      y        1.79285421229E-02   3.39380082569E+00  -1.22685554077E-02
 STRESS|      z       -8.63701120358E-01  -1.22685554077E-02   3.36326009790E+00
"""
NOT_CONVERGED = " *** WARNING in qs_scf.F:601 :: SCF run NOT converged ***\n" + CP2K_OUTPUT.replace("  *** SCF run", "")


def li2s(name="Li2S", seed=1):
    atoms = Atoms("SLi2", scaled_positions=[(0, 0, 0), (.25, .25, .25), (.75, .75, .75)], pbc=True,
                  cell=[[0, 2.85, 2.85], [2.85, 0, 2.85], [2.85, 2.85, 0]], info={"name": name, "config_type": "test"})
    atoms.rattle(0.05, seed=seed)
    return atoms


def program_that_says(path, *outputs):
    """A program in CP2K's place: its nth run writes the nth output, and leaves its input in <path>.n."""
    for k, text in enumerate(outputs):
        path.with_suffix(f".out{k}").write_text(text)
    path.write_text(f'#!/bin/sh\nn=$(ls {path}.in* 2>/dev/null | wc -l)\ncp label.inp {path}.in$n\n'
                    f'cp {path}.out$n label.out\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return CP2K(ranks=1, program=str(path))


def test_k_grids_are_the_papers():
    cell = Cell.fromcellpar([12.5009, 6.0316, 12.5303, 102.845, 113.2024, 74.467])
    atoms = Atoms(cell=cell, pbc=True)
    grids = {r: Settings().grid(atoms.repeat(r)) for r in [(1, 1, 1), (1, 2, 1), (2, 3, 2)]}
    assert grids == {(1, 1, 1): (2, 2, 2), (1, 2, 1): (2, 1, 2), (2, 3, 2): (1, 1, 1)}
    assert Settings(kpts=(3, 1, 1)).grid(atoms) == (3, 1, 1)


def test_settings_are_told_in_one_line():
    assert Settings().line(li2s()) == "PBE DZVP-MOLOPT-SR-GTH 300/40 Ry 4x4x4"
    assert Settings(alpha=0.1, kpts=(1, 1, 1), eps_scf=1e-7).line(li2s()) == (
        "PBE DZVP-MOLOPT-SR-GTH 300/40 Ry 1x1x1 eps_scf=1e-07")


def test_input_holds_settings_and_structure():
    text = input_text(li2s(), Settings(kpts=(2, 1, 2)))
    assert "EPS_RHO_RSPACE 1e-06" in text
    words = " ".join(text.split())
    for part in ("CUTOFF 300 REL_CUTOFF 40 NGRIDS 5", "EPS_DEFAULT 1e-10", "EPS_SCF 1e-06 MAX_SCF 60",
                 "BROYDEN_MIXING ALPHA 0.4 NBROYDEN 8", "MONKHORST-PACK 2 1 2", "SHAPE_FUNCTION DENSITY",
                 "&KIND Li BASIS_SET DZVP-MOLOPT-SR-GTH POTENTIAL GTH-PBE-q3", "A 0.0000000000 2.8500000000 2.85"):
        assert part in words
    assert "MAX_SCF 200" in input_text(li2s(), Settings(), safer=True)
    assert "KPOINTS" not in input_text(li2s(), Settings(kpts=(1, 1, 1)))


@pytest.mark.parametrize("grid", [(2, 3, 2), (1, 1, 1), (4, 1, 2)])
def test_a_grid_with_gamma_is_what_waves_of_the_supercell_are(grid):
    """Sums of exp(2 pi i k.R) over the grid vanish but for R that repeat with the supercell; k stands for -k, too."""
    points = centred_kpoints(grid)
    for R in np.ndindex(*(2 * n for n in grid)):
        waves = sum(weight * np.cos(2 * np.pi * np.dot(k, R)) for k, weight in points)
        assert waves == pytest.approx(np.prod(grid) * (not np.any(np.array(R) % grid)), abs=1e-12)
    assert points[0] == ((0.0, 0.0, 0.0), 1)


def test_a_grid_with_gamma_is_written_point_by_point_and_recorded():
    unit = li2s()
    unit.info["folded"] = (1, 3, 2)
    text = input_text(unit, Settings())
    assert re.findall(r"KPOINT (.*)", text) == [
        "0.000000000000 0.000000000000 0.000000000000 1", "0.000000000000 0.000000000000 0.500000000000 1",
        "0.000000000000 0.333333333333 0.000000000000 2", "0.000000000000 0.333333333333 0.500000000000 2"]
    assert "SCHEME GENERAL" in text
    assert "UNITS B_VECTOR" in text
    assert Settings().line(unit) == "PBE DZVP-MOLOPT-SR-GTH 300/40 Ry 1x3x2 with Gamma"
    unit.info["folded"] = (2, 0, 2)
    with pytest.raises(ValueError, match=r"frame Li2S has folded=\(2, 0, 2\); give three numbers of cells"):
        CP2K(ranks=1, program="true").check([unit])


def test_output_is_read_in_ase_units_and_signs():
    energy, forces, stress, charges, program = parse(CP2K_OUTPUT, 3)
    assert energy == pytest.approx(-25.307496640457543 * Hartree, rel=1e-15)
    assert forces[2, 1] == pytest.approx(0.00269015 * Hartree / Bohr, rel=1e-12)
    np.testing.assert_allclose(stress[[0, 3, 4]], -np.array([3.46531861518, -0.0122685554077, -0.863701120358]) * GPa)
    assert (charges.tolist(), program) == ([-0.263, 0.132, 0.132], "CP2K 2023.1")


@pytest.mark.parametrize(("old", "new", "message"), [
    ("ENERGY|", "E|", "no energy of 3 atoms in CP2K's output"),
    ("      3      2      Li         -0.00799675", "", "no forces of 3"),
    ("      3       Li", "", "no Hirshfeld charges of 3"),
    ("SCF run converged", "", "no SCF of 3"),
    ("STRESS|      y", "", "no stress of 3"),
])
def test_incomplete_output_is_no_label(old, new, message):
    with pytest.raises(RuntimeError, match=message):
        parse(CP2K_OUTPUT.replace(old, new), 3)


def test_scf_failure_is_retried_once_with_safer_mixing(tmp_path):
    labeller = program_that_says(tmp_path / "program", NOT_CONVERGED, CP2K_OUTPUT)
    frame = labeller(li2s())
    assert frame.info["mixing"] == 0.15
    assert frame.info["program"] == "CP2K 2023.1"
    assert "ALPHA 0.4" in (tmp_path / "program.in0").read_text()
    assert "ALPHA 0.15" in (tmp_path / "program.in1").read_text()
    labeller = program_that_says(tmp_path / "twice", NOT_CONVERGED, NOT_CONVERGED, CP2K_OUTPUT)
    with pytest.raises(SCFError, match="SCF did not converge"):
        labeller(li2s())


def test_what_cp2k_complains_about_is_passed_on(tmp_path):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\ncat > label.out <<'E'\n *   ___                *\n * [ABORT]\n"
                       " *  \\___/            Use the LSD option for an odd number *\n"
                       " *    |              of electrons          *\n *********\nE\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(RuntimeError, match=r"status 1: Use the LSD option for an odd number of electrons$"):
        CP2K(ranks=1, program=str(program))(li2s())


def test_failed_frames_are_set_aside_and_done_ones_kept(tmp_path):
    frames = [li2s(f"f{k}", seed=k) for k in range(4)]
    frames[2].positions[0, 0] += 10
    source, output = tmp_path / "in.xyz", tmp_path / "out.xyz"
    write_frames(source, frames)
    labeller = AnyCalculator("reference_calculators:refusing")
    report = label_file(source, output, labeller, workers=0)
    reason = "RuntimeError: the first atom is too far"
    assert (report.labelled, report.done_before, report.set_aside) == (3, 0, (("f2", reason),))
    assert "set aside: f2: RuntimeError" in str(report)
    assert [a.info["name"] for a in read_frames(output)] == ["f0", "f1", "f3"]
    (aside,) = read_frames(failed_path(output))
    assert (aside.info["failure"], aside.calc) == (reason, None)
    np.testing.assert_allclose(aside.positions, frames[2].positions, atol=1e-8)
    again = label_file(source, output, labeller, workers=0)
    assert (again.labelled, again.done_before, again.set_aside) == (0, 3, report.set_aside)
    record = read_record(output.with_suffix(".json"))
    assert (record["frames"], record["set_aside"]) == (3, ["f2"])
    label_file(source, output, labeller, workers=0, retry=True)
    assert len(read_frames(failed_path(output))) == 1


def test_labels_are_those_of_the_calculator_and_info_is_kept(tmp_path):
    write_frames(tmp_path / "in.xyz", [li2s()])
    assert main(["label", str(tmp_path / "in.xyz"), str(tmp_path / "out.xyz"), "--workers", "0", "--calculator",
                 "reference_calculators:fast"]) == 0
    (frame,) = read_frames(tmp_path / "out.xyz")
    assert frame.info == {"name": "Li2S", "config_type": "test", "reference": "reference_calculators:fast"}
    atoms = read_frames(tmp_path / "in.xyz")[0]
    atoms.calc = load_calculator("reference_calculators:fast")
    assert frame.get_potential_energy() == atoms.get_potential_energy()
    np.testing.assert_allclose(frame.get_forces(), atoms.get_forces(), atol=1e-8)
    np.testing.assert_allclose(frame.get_stress(), atoms.get_stress(), rtol=1e-12)


def test_a_changed_input_is_not_taken_as_done(tmp_path):
    source, output, frames = tmp_path / "in.xyz", tmp_path / "out.xyz", [li2s("a", 1), li2s("b", 2)]
    labeller = AnyCalculator("reference_calculators:fast")
    write_frames(source, frames)
    label_file(source, output, labeller, workers=0)
    with pytest.raises(ValueError, match=r"holds 2 of these .* otherwise \(first: 'a', with 'reference_calc.*:fast'"):
        label_file(source, output, AnyCalculator("reference_calculators:slow"), workers=0)
    frames[1].positions[1, 0] += 1e-6
    write_frames(source, frames)
    with pytest.raises(ValueError, match=r"first: 'b', for another structure\): choose another output"):
        label_file(source, output, labeller, workers=0)
    assert label_file(source, output, labeller, workers=0, replace=True).labelled == 1
    assert [a.info["name"] for a in read_frames(output)] == ["a", "b"]
    np.testing.assert_allclose(read_frames(output)[1].positions, frames[1].positions, atol=1e-8)


def test_frames_of_other_inputs_are_kept(tmp_path):
    labeller = AnyCalculator("reference_calculators:fast")
    for name in "ab":
        write_frames(tmp_path / "in.xyz", [li2s(name)])
        label_file(tmp_path / "in.xyz", tmp_path / "out.xyz", labeller, workers=0)
    assert sorted(a.info["name"] for a in read_frames(tmp_path / "out.xyz")) == ["a", "b"]


def test_relaxation_reaches_the_minimum_and_goes_on_after_a_stop(tmp_path):
    source, calls = tmp_path / "in.xyz", []

    class Counting(AnyCalculator):
        def __call__(self, atoms):
            calls.append(1)
            return super().__call__(atoms)

    labeller = Counting("reference_calculators:fast")
    start = li2s()
    write_frames(source, [start])
    whole = relax_file(source, tmp_path / "whole.xyz", labeller, fmax=0.01)
    n_calls = len(calls)
    with pytest.raises(RuntimeError, match=r"largest force is .* after 2 steps, not 0.01: .* more --max-steps"):
        relax_file(source, tmp_path / "parts.xyz", labeller, fmax=0.01, max_steps=2)
    parts = relax_file(source, tmp_path / "parts.xyz", labeller, fmax=0.01)
    assert len(calls) == 2 * n_calls
    assert (tmp_path / "whole.xyz").read_bytes() == (tmp_path / "parts.xyz").read_bytes()
    assert (tmp_path / "whole.steps.xyz").read_bytes() == (tmp_path / "parts.steps.xyz").read_bytes()
    assert np.linalg.norm(whole.get_forces(), axis=1).max() <= 0.01
    assert (parts.info["name"], parts.info["config_type"]) == ("Li2S", "test")
    np.testing.assert_array_equal(whole.cell, start.cell)


def test_second_derivatives_of_a_model_shorten_the_way_not_the_end(tmp_path):
    """With those of a potential that is itself off by a fifth: fewer steps, the same minimum."""
    source, labeller = tmp_path / "in.xyz", AnyCalculator("reference_calculators:fast")
    write_frames(source, [li2s()])
    plain = relax_file(source, tmp_path / "plain.xyz", labeller, fmax=1e-4)
    model = MorsePotential(**{**PARAMETERS, "epsilon": 0.8 * PARAMETERS["epsilon"]})
    guided = relax_file(source, tmp_path / "guided.xyz", labeller, fmax=1e-4, model=model)
    assert guided.get_potential_energy() == pytest.approx(plain.get_potential_energy(), abs=1e-6)
    n_plain, n_guided = (len(read_frames(tmp_path / f"{x}.steps.xyz")) for x in ("plain", "guided"))
    assert n_guided < n_plain
    hessian = model_hessian(plain, MorsePotential(**PARAMETERS), softest=2.0)
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-10)
    assert np.linalg.eigvalsh(hessian).min() > 2.0 - 1e-9


@pytest.mark.cp2k
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(shutil.which("cp2k.psmp") is None, reason="CP2K is not installed")
def test_a_relabelled_frame_agrees_with_the_shipped_label():
    data = os.path.join(os.path.dirname(__file__), "..", "data", "dft", "gen0.xyz")
    shipped = read_frames(data)[0]
    again = CP2K(Settings(eps_rho=1e-10))(shipped)  # as in generation 0
    assert again.get_potential_energy() == pytest.approx(shipped.get_potential_energy(), abs=1e-5)
    np.testing.assert_allclose(again.get_forces(), shipped.get_forces(), atol=1e-3)
    np.testing.assert_allclose(again.get_stress(), shipped.get_stress(), atol=1e-5)
    np.testing.assert_allclose(again.arrays["hirshfeld"], shipped.arrays["hirshfeld"], atol=2e-3)
    cheaper = CP2K()(shipped)  # what is cut off on the grid now costs less than 0.1 meV per atom, 1 meV/A
    assert cheaper.get_potential_energy() == pytest.approx(again.get_potential_energy(), abs=1e-4 * len(shipped))
    np.testing.assert_allclose(cheaper.get_forces(), again.get_forces(), atol=1e-3)
    assert cheaper.info["eps_rho"] == 1e-6


@pytest.mark.cp2k
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(shutil.which("cp2k.psmp") is None, reason="CP2K is not installed")
def test_real_scf_failures():
    rough = {"cutoff": 150, "kpts": (2, 2, 2), "max_scf": 2}
    rescued = CP2K(Settings(**rough), ranks=1)(li2s())
    assert rescued.info["mixing"] == 0.15
    assert rescued.get_potential_energy() == pytest.approx(-688.65206, abs=1e-4)
    with pytest.raises(SCFError, match="did not converge"):
        CP2K(Settings(**rough, safer_max_scf=3), ranks=1)(li2s())


@pytest.mark.cp2k
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(shutil.which("cp2k.psmp") is None, reason="CP2K is not installed")
def test_a_cell_with_the_folded_grid_has_its_share_of_the_supercells_energy():
    cell, supercell = li2s(), li2s().repeat((1, 1, 3))
    cell.info["folded"], supercell.info["folded"] = (2, 2, 3), (2, 2, 1)
    folded, whole = (CP2K(Settings(cutoff=200), ranks=1)(atoms) for atoms in (cell, supercell))
    assert 3 * folded.get_potential_energy() == pytest.approx(whole.get_potential_energy(), abs=1e-3)
    np.testing.assert_allclose(np.tile(folded.get_forces(), (3, 1)), whole.get_forces(), atol=2e-3)
