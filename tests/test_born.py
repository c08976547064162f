"""Born charges: those that are put in come back; CP2K's input in a field, and without one what it always was."""
import hashlib
import re
import shutil

import numpy as np
import pytest
from ase.spacegroup import crystal as build

from esgap import born
from esgap.__main__ import main
from esgap.cp2k import CP2K, Settings, parse
from esgap.cp2k_input import ground_state_text, input_text, inputs
from esgap.reference import label_file
from esgap.store import labelled, read_frames, write_frames
from test_reference import CP2K_OUTPUT, li2s, program_that_says

HASHES = ["d76518e7e8a00090", "cb7252a10d1c0aa9", "0fc41b10fc64ef9a"]  # made with the commit before
RNG = np.random.default_rng(5)
Z = RNG.normal(size=(3, 3, 3))
Z -= Z.mean(0)  # the sum rule
BENT = RNG.normal(size=(3, 3, 3))


def respond(frame, drift=0.0):
    """Forces Z E (+ drift E on every atom) + second order, as a labelled frame."""
    field = frame.info["field"]
    forces = (Z + drift) @ field + BENT @ field**2 + 0.1
    return labelled(frame, 0.0, forces)


def test_tensors_come_back_and_the_sum_rule_is_stated_and_mended():
    frames = [respond(f, drift=0.02) for f in born.field_frames(li2s(), 0.01)]
    charges = born.born_charges(frames[::-1])
    np.testing.assert_allclose(charges.tensors, Z, atol=1e-12)
    np.testing.assert_allclose(charges.sum_rule, 0.06, atol=1e-12)
    assert charges.second_order == pytest.approx(np.abs(BENT).max() * 1e-4)
    assert charges.isotropic()["S"][0] == pytest.approx(np.trace(Z[0]) / 3)
    assert "sum over all atoms up to 0.060, taken off" in str(charges)
    displacement = RNG.normal(size=(3, 3))
    work = sum(displacement[i] @ Z[i] @ [0, 0.3, 0] for i in range(3))  # of the forces of a field along y
    assert charges.dipole(displacement) @ [0, 0.3, 0] == pytest.approx(work)
    assert charges.dipole(np.ones((3, 3))) == pytest.approx(np.zeros(3), abs=1e-12)


def test_the_crystal_s_charges_serve_a_larger_cell():
    """Two copies with noise: their mean, copy by copy; with the fixed charges as tensors both dipoles are the same."""
    noise = RNG.normal(size=(3, 3, 3)) * 0.01
    twice = born.BornCharges(np.concatenate([Z + noise, Z - noise]), ("S", "Li", "Li") * 2, np.zeros((3, 3)), 0.0, 0.02)
    four = twice.repeated(3, 4)
    np.testing.assert_allclose(four.tensors, np.tile(Z, (4, 1, 1)), atol=1e-12)
    assert four.symbols == ("S", "Li", "Li") * 4
    assert twice.between_copies(3) == pytest.approx(np.sqrt(np.mean(noise**2)))
    assert four.between_copies(3) == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(ValueError, match="6 tensors are not those of repeated cells of 4 atoms"):
        twice.repeated(4, 2)
    perfect = li2s().repeat((1, 2, 2))
    atoms, fixed = perfect.copy(), {"Li": 0.6, "S": -1.2}
    atoms.positions += RNG.normal(size=atoms.positions.shape)
    like = born.BornCharges(np.array([fixed[s] * np.eye(3) for s in perfect.symbols]), tuple(perfect.symbols),
                            np.zeros((3, 3)), 0.0, 0.02)
    mu, of_born, error = born.field_dipoles(like, fixed, atoms, perfect)
    np.testing.assert_allclose(of_born, mu, atol=1e-12)
    assert error == pytest.approx(0.0, abs=1e-12)
    assert "| the dipole | " in born.dipoles_table(mu, 2 * of_born, 0.1)
    assert born.dipoles_table(mu, 2 * of_born, 0.0).count("| 2.00 ± 0.00 |") == 4


def test_the_error_of_transferred_charges_is_their_scatter():
    """Tensors scattered at random about isotropic ones: dipoles scatter as is said."""
    perfect = li2s().repeat((3, 3, 3))
    atoms, rng = perfect.copy(), np.random.default_rng(3)
    atoms.positions[5] += [2.0, -1.0, 0.5]
    atoms.positions += rng.normal(size=atoms.positions.shape) * 0.1
    symbols, sigma = np.array(perfect.symbols), {"Li": 0.1, "S": 0.2}
    mean, drawn, said = np.array([{"Li": 1.1, "S": -2.2}[s] * np.eye(3) for s in symbols]), [], []
    for _ in range(400):
        tensors = mean + rng.normal(size=mean.shape) * np.array([sigma[s] for s in symbols])[:, None, None]
        charges = born.BornCharges(tensors, tuple(symbols), np.zeros((3, 3)), 0.0, 0.02)
        _, of_born, error = born.field_dipoles(charges, {"Li": 0.6, "S": -1.2}, atoms, perfect)
        drawn.append(of_born)
        said.append(error)
    assert np.std(drawn, axis=0) == pytest.approx(np.full(3, np.mean(said)), rel=0.12)


def test_frames_keep_their_fields_on_disk(tmp_path):
    write_frames(tmp_path / "f.xyz", born.field_frames(li2s(), 0.02))
    frames = read_frames(tmp_path / "f.xyz")
    assert [f.info["name"] for f in frames] == [f"Li2S/field{x}" for x in ("0", "+x", "-x", "+y", "-y", "+z", "-z")]
    np.testing.assert_array_equal(frames[4].info["field"], [0, -0.02, 0])
    np.testing.assert_array_equal(frames[0].info["field"], [0, 0, 0])


def test_ordinary_input_is_what_it_was():
    """Labels made before CP2K could be given a field keep their settings: the input is the same to the last byte.

    But for EPS_RHO_RSPACE, if there is such a line: it came later, and on purpose.
    """
    for expected, arguments in zip(HASHES, ((Settings(),), (Settings(kpts=(1, 1, 1)),), (Settings(cutoff=600), True)),
                                   strict=True):
        text = re.sub(r" *EPS_RHO_RSPACE.*\n", "", input_text(li2s(), *arguments))
        assert hashlib.sha256(text.encode()).hexdigest().startswith(expected)
    assert Settings(kpts=(1, 1, 1)).line(li2s()) == "PBE DZVP-MOLOPT-SR-GTH 300/40 Ry 1x1x1"


def test_input_in_a_field():
    frame, gamma = born.field_frames(li2s(), 0.02)[4], Settings(kpts=(1, 1, 1))
    words = " ".join(input_text(frame, gamma).split())
    # 1 atomic unit is 51.42206747 V/A
    assert f"&PERIODIC_EFIELD INTENSITY {0.02 / 51.42206747:.7f}"[:-2] in words
    assert "POLARISATION 0 -1 0 &END" in words.replace("-0 ", "0 ")
    assert "STRESS_TENSOR NONE" in words
    assert "&OT MINIMIZER DIIS PRECONDITIONER FULL_ALL &END OT &END SCF" in words
    assert "DIAGONALIZATION" not in words
    assert "MINIMIZER CG" in input_text(frame, gamma, safer=True)
    assert "INTENSITY 0\n" in input_text(born.field_frames(li2s())[0], gamma)
    assert gamma.line(frame).endswith("1x1x1 OT, field 0 -0.02 0 V/A")


def test_orbitals_in_a_field_begin_from_those_without():
    """The first input is the ordinary one at Gamma, but less converged and without forces; the second reads what it
    leaves. A frame without field has one input."""
    frame, gamma = born.field_frames(li2s(), 0.02)[1], Settings(kpts=(1, 1, 1))
    first, second = inputs(frame, gamma)
    ordinary = input_text(li2s(), gamma)
    assert "GUESS RESTART" in second and "WFN_RESTART_FILE_NAME ground-RESTART.wfn" in second  # noqa: PT018
    assert "GUESS ATOMIC" in first and "PERIODIC_EFIELD" not in first  # noqa: PT018
    changed = [(a, b) for a, b in zip(ordinary.splitlines(), first.splitlines(), strict=True) if a != b]
    assert [b.split() for _, b in changed] == [["PROJECT", "ground"], ["RUN_TYPE", "ENERGY"],
                                               ["STRESS_TENSOR", "NONE"], ["EPS_SCF", "0.0001"]]
    assert inputs(li2s(), gamma) == [ordinary]
    assert "EPS_SCF 0.001\n" in ground_state_text(frame, Settings(kpts=(1, 1, 1), eps_scf=1e-3))


def test_labels_in_a_field_have_forces_and_no_stress(tmp_path):
    """With a program in CP2K's place: its output in a field, as far as is known, lacks only the stress."""
    output = CP2K_OUTPUT.partition(" STRESS|")[0]
    assert parse(output, 3, with_stress=False)[2] is None
    labeller = program_that_says(tmp_path / "program", *[output] * 14)
    write_frames(tmp_path / "in.xyz", born.field_frames(li2s(), 0.02))
    with pytest.raises(ValueError, match=r"frame Li2S/field0 has a field and a k-grid \(4, 4, 4\); .* --kpts 1 1 1"):
        label_file(tmp_path / "in.xyz", tmp_path / "out.xyz", labeller, workers=0)
    labeller = type(labeller)(Settings(kpts=(1, 1, 1)), ranks=1, program=labeller.program)
    assert label_file(tmp_path / "in.xyz", tmp_path / "out.xyz", labeller, workers=0).labelled == 7
    frames = read_frames(tmp_path / "out.xyz")
    assert set(frames[1].calc.results) == {"energy", "forces"}
    assert frames[1].info["reference"].endswith("OT, field 0.02 0 0 V/A")
    np.testing.assert_allclose(born.born_charges(frames).tensors, 0.0)  # the same forces in every field
    again = label_file(tmp_path / "in.xyz", tmp_path / "out.xyz", labeller, workers=0)
    assert (again.labelled, again.done_before) == (0, 7)


def test_the_command_asks_for_gamma_and_writes_charges(tmp_path, capsys):
    program_that_says(tmp_path / "program", *[CP2K_OUTPUT.partition(" STRESS|")[0]] * 14)
    write_frames(tmp_path / "in.xyz", [li2s()])
    command = ["born", str(tmp_path / "in.xyz"), str(tmp_path / "z.json"), "--repeat", "1", "1", "1", "--ranks", "1",
               "--program", str(tmp_path / "program")]
    assert main(command) == 0
    assert "Z* in e: S +0.00 (scatter 0.00), Li +0.00" in capsys.readouterr().out
    charges = born.load_born_charges(tmp_path / "z.json")
    assert (charges.tensors.shape, charges.symbols) == ((3, 3, 3), ("S", "Li", "Li"))
    assert main([*command[:2], str(tmp_path / "z.xyz")]) == 2
    assert "z.xyz does not end in .json" in capsys.readouterr().err


def test_refusals():
    with pytest.raises(ValueError, match="strength is 0 V/A; it must be positive"):
        born.field_frames(li2s(), 0)
    with pytest.raises(ValueError, match="the atoms have no name"):
        born.field_frames(li2s(name=""))
    frames = [respond(f) for f in born.field_frames(li2s())]
    with pytest.raises(ValueError, match=r"fields -z are missing, .* needed: label all of `field_frames`"):
        born.born_charges(frames[:-1])
    frames[3].info["field"] = np.array([0.01, 0.02, 0])
    with pytest.raises(ValueError, match=r"frame Li2S/field\+y has field .*; Z\* needs fields along x, y or z"):
        born.born_charges(frames)
    with pytest.raises(ValueError, match=r"displacements have shape \(2, 3\); give one .* for each of the 3 atoms"):
        born.born_charges([respond(f) for f in born.field_frames(li2s())]).dipole(np.zeros((2, 3)))
    wrong = li2s()
    wrong.info["field"] = [0.1, 0.2]
    with pytest.raises(ValueError, match=r"frame Li2S has field \[0.1, 0.2\]; give three finite components"):
        CP2K(Settings(kpts=(1, 1, 1)), ranks=1, program="true")(wrong)


@pytest.mark.cp2k
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(shutil.which("cp2k.psmp") is None, reason="CP2K is not installed")
def test_li2s_is_ionic_and_the_field_has_the_right_sign():
    """By symmetry all Z* are multiples of one, and each S balances two Li."""
    atoms = build(["S", "Li"], [(0, 0, 0), (0.25, 0.25, 0.25)], spacegroup=225, cellpar=[5.72] * 3 + [90] * 3)
    atoms.info = {"name": "Li2S"}
    label = CP2K(Settings(kpts=(1, 1, 1), cutoff=200.0))
    z = born.born_charges([label(f) for f in born.field_frames(atoms)])
    assert z.isotropic()["Li"][0] == pytest.approx(1.07, abs=0.1)
    assert z.isotropic()["S"][0] == pytest.approx(-2.14, abs=0.2)
    np.testing.assert_allclose(z.tensors, [np.eye(3) * x for x in np.trace(z.tensors, axis1=1, axis2=2) / 3], atol=0.05)
