"""Formation energies in a field: exact laws of harmonic wells, symmetry, closed loops, hysteresis, kills, refusals."""
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import esgap
from esgap import field_curve, field_response, field_sweep, frenkel
from esgap.__main__ import main
from esgap.store import read_frames
from reference_calculators import weak
from wells import CHARGES, DEPTH, K_HOLE, REPEAT, K, Wells, holes, pair, rock_salt


@pytest.fixture(scope="module")
def crystal():
    return rock_salt()


def run(tmp_path, crystal, directions=("x",), n_points=9, fmax=1e-7, field_max=0.3, make=None, pairs=None, name="a.xyz",
        **options):
    starts = field_sweep.plan(pairs or [pair(crystal)], [REPEAT], directions, field_max, n_points)
    report = field_sweep.sweep(crystal, make or partial(Wells, crystal), starts, tmp_path / name, "wells", fmax,
                               progress=False, **options)
    return report, field_response.load_sweep(tmp_path / name)


def python(code, *arguments, cwd):
    return subprocess.run([sys.executable, "-c", code, *arguments], cwd=cwd, capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})


def test_plan_goes_from_zero_outward_and_back():
    starts = field_sweep.plan([], [(1, 1, 1)], ["x"], 0.3, 7)
    names = {p.name: s and s.name for p, s in starts.items()}
    assert list(names) == ["1x1x1/perfect/0/out", *(f"1x1x1/perfect/x{side}{way}" for side in "+-" for way in (
        "0.1000/out", "0.2000/out", "0.3000/out", "0.2000/back", "0.1000/back", "0.0000/back"))]
    chain = list(names)[1:7]
    assert [names[n] for n in chain] == ["1x1x1/perfect/0/out", *chain[:-1]]
    for wrong, message in ((4, "n_points is 4; it must be odd"), (1, "n_points is 1; it must be odd")):
        with pytest.raises(ValueError, match=message):
            field_sweep.plan([], [(1, 1, 1)], ["x"], 0.3, wrong)
    with pytest.raises(ValueError, match="field_max is 0 V/A; it must be positive"):
        field_sweep.plan([], [(1, 1, 1)], ["x"], 0, 5)


def test_a_rigid_pair_responds_with_q_e_d(crystal, tmp_path):
    """Equal springs everywhere: what relaxes, relaxes alike in both cells, and -q E.d is left."""
    _, sweep = run(tmp_path, crystal, ("y", "1,1,0"), make=partial(Wells, crystal, k_hole=K))
    d = pair(crystal).vector(crystal)
    for direction, unit in (("y", [0, 1, 0]), ("1,1,0", np.array([1, 1, 0]) / np.sqrt(2))):
        curve = sweep.curve(pair(crystal).name, direction, REPEAT)
        np.testing.assert_allclose(curve.field, np.linspace(-0.3, 0.3, 9), atol=1e-12)
        np.testing.assert_allclose(curve.out, -DEPTH - 0.8 * curve.field * (d @ unit), atol=1e-9)
        np.testing.assert_allclose(curve.dipole, 0.8 * d @ unit, atol=1e-6)
        assert curve.hysteresis < 1e-9
        assert curve.became == ("",) * 9
        np.testing.assert_allclose(curve.relaxation, 0.0, atol=1e-9)


def test_softer_holes_give_the_exact_quadratic_law(crystal, tmp_path):
    """E_f = depth - q F d - alpha F^2 / 2 with alpha = q^2 (1/k_hole - 1/k), and no third order."""
    _, sweep = run(tmp_path, crystal)
    curve = sweep.curve(pair(crystal).name, "x", REPEAT)
    fit = field_curve.response(curve)
    d, alpha = pair(crystal).vector(crystal)[0], 0.8**2 * (1 / K_HOLE - 1 / K)
    np.testing.assert_allclose(curve.out, -DEPTH - 0.8 * curve.field * d - alpha / 2 * curve.field**2, atol=1e-9)
    np.testing.assert_allclose(curve.relaxation, -alpha / 2 * curve.field**2, atol=1e-6)
    for (value, error), expected in zip((fit.energy, fit.slope, fit.alpha, fit.third),
                                        (-DEPTH, -0.8 * d, alpha, 0.0), strict=True):
        assert value == pytest.approx(expected, abs=1e-6)
        assert error < 1e-6
    assert fit.slope_frozen == pytest.approx(-0.8 * d, abs=1e-6)
    assert f"alpha {alpha:.4f} +- 0.0000 e A^2/V, 9 points" in str(fit)
    with pytest.raises(ValueError, match=r"5 points with the pair within 0.15 V/A; a cubic with error bars needs 6"):
        field_curve.response(curve, largest=0.15)


def test_the_fit_states_an_error_that_covers_noise():
    rng, field = np.random.default_rng(0), np.linspace(-0.3, 0.3, 13)
    pulls = []
    for _ in range(200):
        e = 0.8 - 2 * field - field**2 / 2 + rng.normal(scale=0.01, size=13)
        curve = field_curve.FieldCurve("p", "m", "x", field, e, e, ("",) * 13, np.full(13, 2.0))
        (value, error) = field_curve.response(curve).alpha
        pulls.append((value - 1.0) / error)
    assert np.mean(pulls) == pytest.approx(0, abs=4 * np.sqrt(9 / 7 / 200))  # Student's t with 9 degrees of freedom
    assert np.std(pulls) == pytest.approx(np.sqrt(9 / 7), rel=0.25)


def test_field_reversal_work_and_a_closed_loop(crystal, tmp_path):
    """Bent wells, all alike by inversion only on average: what is exact for any smooth energy."""
    _, sweep = run(tmp_path, crystal, n_points=17, field_max=0.2, make=partial(Wells, crystal, bend=0.6))
    curve = sweep.curve(pair(crystal).name, "x", REPEAT)
    assert curve.hysteresis < 1e-8  # from zero to the end and back
    work = -np.cumsum((curve.dipole[1:] + curve.dipole[:-1]) / 2 * np.diff(curve.field))
    np.testing.assert_allclose(curve.out[1:] - curve.out[0], work, atol=1e-4)  # dE/dF = -mu along the way
    assert abs(curve.relaxation[0] - curve.relaxation[-1]) > 1e-3  # unsymmetric, as the wells are


def test_field_reversal_symmetry_of_a_centrosymmetric_crystal(crystal, tmp_path):
    """The perfect crystal does not know the sign of the field: energies equal, displacements opposite by inversion."""
    make = partial(Inversion, crystal)
    _, sweep = run(tmp_path, crystal, ("1,2,0",), 5, make=make)
    for s in ("0.1500", "0.3000"):
        up, down = (sweep.frames[f"3x1x1/perfect/1,2,0{side}{s}/out"] for side in "+-")
        assert up.get_potential_energy() == pytest.approx(down.get_potential_energy(), abs=1e-9)
        assert up.get_potential_energy() < sweep.frames["3x1x1/perfect/0/out"].get_potential_energy() - 1e-3
        image = -down.positions @ np.linalg.inv(down.cell)
        there = up.positions @ np.linalg.inv(up.cell)
        for s1, p in zip(up.symbols, there, strict=True):
            off = image[down.symbols == s1] - p
            assert np.abs(off - off.round()).max(1).min() < 1e-6


class Inversion(Wells):
    """Wells bent one way at half of the places, and the other way at their images by inversion."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        perfect = frenkel.perfect_cell(rock_salt(), REPEAT)
        x = perfect.get_scaled_positions()[:, 0]
        bend = np.where(np.isclose(x, 0) | np.isclose(x, 0.5), 0.0, np.sign(0.5 - x)) * 0.6
        d = atoms.positions - perfect.positions
        d -= (d @ np.linalg.inv(atoms.cell)).round() @ atoms.cell.array
        near = np.linalg.norm(d, axis=1) < 1
        self.results["energy"] += (near * bend * d[:, 0] ** 3).sum()
        self.results["forces"][:, 0] -= near * 3 * bend * d[:, 0] ** 2


def test_where_the_zero_of_displacements_lies_does_not_matter(crystal, tmp_path):
    """Formation energies with displacements counted from other positions of the same branch."""
    p, field = pair(crystal), [0.1, 0.2, -0.1]
    shifted = frenkel.perfect_cell(crystal, REPEAT)
    shifted.rattle(0.3, seed=2)
    energies = []
    for reference in (frenkel.perfect_cell(crystal, REPEAT), shifted):
        potential = esgap.es_gap(Wells(crystal), esgap.UniformField(field, CHARGES, reference))
        e = [frenkel.relax(a, potential, 1e-6).get_potential_energy() for a in (
            p.cell(crystal, REPEAT), frenkel.perfect_cell(crystal, REPEAT))]
        energies.append(e[0] - e[1])
    assert energies[0] == pytest.approx(energies[1], abs=1e-9)


def test_a_model_without_charges_is_relaxed_in_the_field_and_does_not_respond(crystal, tmp_path):
    Wells.calls = 0
    report, sweep = run(tmp_path, crystal, make=partial(Wells, crystal, charges=None))
    assert sweep.charges == {"F": 0.0, "Li": 0.0}
    assert Wells.calls >= report.done_now == 2 * 17 + 1  # each point was computed
    curve = sweep.curve(pair(crystal).name, "x", REPEAT)
    np.testing.assert_allclose(curve.out, -DEPTH, atol=1e-12)
    assert np.isnan(curve.favourable_from()).all()  # never


def test_pairs_that_go_are_reported_and_not_taken_through_the_field(crystal, tmp_path):
    near = frenkel.images_of(0, holes()[:1], crystal, REPEAT)[0]
    report, sweep = run(tmp_path, crystal, make=partial(Wells, crystal, with_holes=False), pairs=[near])
    assert report.gone == ((f"3x1x1/{near.name}/0/out", "recombined: the interstitial ion is back on its site"),)
    assert f"3x1x1/{near.name}/0/out: recombined: the interstitial" in str(report)
    assert sweep.became(near.name, REPEAT).startswith("recombined")
    assert {n.split("/")[2] for n in sweep.frames if near.name in n} == {"0"}
    with pytest.raises(ValueError, match=r"point .* is not there: the sweep is not finished, or the pair is gone"):
        sweep.formation_energy("0:hole2:0,0,0", REPEAT)


def test_a_jump_shows_as_hysteresis_and_ends_the_fit():
    """Typed in: beyond 0.2 V/A the ion is home, and stays there on the way back."""
    field, became = np.linspace(-0.3, 0.3, 7), ("",) * 5 + ("recombined", "")
    out = 0.8 - 2 * field - field**2 / 2
    out[5:], back = 0.0, np.zeros(7)
    back[:3] = out[:3]
    curve = field_curve.FieldCurve("p", "m", "x", field, out, back, became, np.full(7, 2.0))
    assert curve.intact.tolist() == [True] * 5 + [False] * 2  # what comes after a jump does not count
    assert curve.hysteresis == pytest.approx(0.8)
    assert "2 points without the pair" in str(curve)
    with pytest.raises(ValueError, match="5 points with the pair within inf V/A"):
        field_curve.response(curve)


def test_an_ion_that_jumps_ends_the_branch_of_pair_and_perfect_cell_alike(crystal, tmp_path):
    """The perfect cell of two that jumps: its energy falls, and no formation energy beyond is one of this crystal."""
    _, sweep = run(tmp_path, crystal, n_points=9)
    name = pair(crystal).name
    curve = sweep.curve(name, "x", REPEAT)
    assert curve.intact.all()
    assert curve.reversible.tolist() == [True] * 4 + [False] + [True] * 4
    steps = [r.step for n, r in sweep.rows.items() if n.split("/")[2] != "0"]
    # a field step of 0.075 V/A moves an ion by q F / k
    np.testing.assert_allclose(sorted({round(s, 5) for s in steps}), [0.8 * 0.075 / K, 0.8 * 0.075 / K_HOLE], atol=1e-5)
    for who in ("perfect", name):
        where = f"3x1x1/{who}/x+0.1500/out"
        jumps = replace(sweep, rows=sweep.rows | {where: replace(sweep.rows[where], step=0.7)})
        found = jumps.curve(name, "x", REPEAT)
        assert found.intact.tolist() == [True] * 6 + [False] * 3
        assert found.reversible.tolist() == [True] * 4 + [False] * 5
        assert not found.became[6]


def test_how_far_the_crystal_follows(crystal, tmp_path):
    _, sweep = run(tmp_path, crystal, n_points=9)
    assert sweep.crystal_in_field(REPEAT) == {"x+": (0.3, 0.3), "x-": (0.3, 0.3)}
    where = "3x1x1/perfect/x-0.1500/out"
    jumps = replace(sweep, rows=sweep.rows | {where: replace(sweep.rows[where], step=0.7)})
    assert jumps.crystal_in_field(REPEAT)["x-"] == (0.075, 0.3)
    assert sweep.crystal_in_field((9, 9, 9)) == {}
    # what costs 0.7 eV and has a dipole of 0.8 d gains by a field, and counts while the crystal is the crystal
    name, d = pair(crystal).name, pair(crystal).vector(crystal)[0]
    side = "x+" if d > 0 else "x-"
    curve = sweep.curve(name, "x", REPEAT)
    (found,) = sweep.below_crystal(name, REPEAT).items()
    assert found[0] == side
    field, energy, _ = found[1]
    assert energy == min(curve.out[(np.abs(curve.field) == field)])
    assert energy < 0 < curve.out[np.abs(curve.field) < field].min()
    assert (side == "x-") == (jumps.below_crystal(name, REPEAT) == {})
    bar = -0.4 * curve.out.min()  # two of which the strongest field exceeds
    known = replace(sweep, rows={n: replace(r, error=bar) for n, r in sweep.rows.items()})
    assert known.below_crystal(name, REPEAT, 2.0)[side][1] < -2 * bar
    assert known.below_crystal(name, REPEAT, 3.0) == {}
    assert sweep.below_crystal(name, REPEAT, 2.0) == {}  # no errors known, nothing is sure


def test_every_point_knows_the_one_before_it():
    starts = field_sweep.plan([], [(1, 1, 1)], ["x", "0.5,1,0"], 0.3, 7)
    names = [p.name for p in starts]
    for point, start in starts.items():
        assert field_response.field_before(point.name, names) == (start.name if start else "")
    assert field_response.field_before("1x1x1/0:hole1:0,0,0/0/held", names) == ""


def test_field_at_which_the_pair_becomes_favourable():
    field = np.linspace(-0.2, 0.2, 5)
    energy = 0.3 - 2 * field
    curve = field_curve.FieldCurve("p", "m", "x", field, energy, energy, ("",) * 5, np.full(5, 2.0))
    against, along = curve.favourable_from()
    assert along == pytest.approx(0.15)
    assert np.isnan(against)
    lost = field_curve.FieldCurve("p", "m", "x", field, energy, energy, ("",) * 4 + ("more sites are vacant",),
                                     np.full(5, 2.0))
    assert np.isnan(lost.favourable_from()).all()  # at 0.2 V/A, where it would be, it is no pair


def test_no_way_back_is_no_hysteresis_known(crystal, tmp_path):
    """Points of the way back left out: what was not looked for is not zero."""
    pair_there = run(tmp_path, crystal, n_points=5)[1]
    only_out = replace(pair_there, rows={n: r for n, r in pair_there.rows.items() if not n.endswith("/back")})
    pair, direction, repeat = only_out.swept()[0]
    whole, half = (s.curve(pair, direction, repeat) for s in (pair_there, only_out))
    assert np.isfinite(whole.back).all()
    assert np.isnan(half.back).all()
    assert np.isnan(half.hysteresis)
    assert "no way back" in str(half)
    np.testing.assert_array_equal(half.out, whole.out)


def test_a_way_out_that_was_made_longer_later_was_met_again_up_to_the_turn(crystal, tmp_path):
    run(tmp_path, crystal, n_points=5, field_max=0.2)
    starts = field_sweep.plan([pair(crystal)], [REPEAT], ["x"], 0.3, 7)
    starts = {p: s for p, s in starts.items() if p.leg != "back"}
    field_sweep.sweep(crystal, partial(Wells, crystal), starts, tmp_path / "a.xyz", "wells", 1e-7, progress=False)
    curve = field_response.load_sweep(tmp_path / "a.xyz").curve(pair(crystal).name, "x", REPEAT)
    assert curve.field.tolist() == [-0.3, -0.2, -0.1, 0, 0.1, 0.2, 0.3]
    assert np.isnan(curve.back).tolist() == [True] + [False] * 5 + [True]
    assert curve.reversible.tolist() == [False, True, True, False, True, True, False]
    assert curve.hysteresis < 1e-9


def test_interrupted_at_random_the_result_is_the_same(crystal, tmp_path):
    run(tmp_path, crystal, n_points=5, fmax=1e-4, name="whole.xyz", make=partial(Wells, crystal, bend=0.3))
    rng, interrupted = np.random.default_rng(0), 0
    while True:
        Wells.calls, fail_at = 0, int(rng.integers(1, 30))
        try:
            run(tmp_path, crystal, n_points=5, fmax=1e-4, name="again.xyz",
                make=partial(Wells, crystal, bend=0.3, fail_at=fail_at))
            break
        except KeyboardInterrupt:
            interrupted += 1
    assert interrupted >= 3
    assert (tmp_path / "again.xyz").read_text() == (tmp_path / "whole.xyz").read_text()
    report, _ = run(tmp_path, crystal, n_points=5, fmax=1e-4, name="again.xyz", make=partial(Wells, crystal, bend=0.3))
    assert (report.done_now, report.done_before) == (0, 19)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.json", "again.xyz", "whole.json", "whole.xyz"]


# A process of its own, killed without warning in at a call of the potential, again and again; prints how often.
KILLED = """
import os, pathlib, signal, sys
from dataclasses import replace
from functools import partial
from esgap import field_sweep
from reference_calculators import weak
from wells import REPEAT, Wells, pair, rock_salt

class Killing(Wells):
    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        if Wells.calls == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

crystal, kills = rock_salt(), 0
starts = field_sweep.plan([pair(crystal)], [REPEAT], ["x"], 0.3, 5)
while True:
    child = os.fork()
    if child == 0:
        field_sweep.sweep(crystal, partial(Killing, crystal, bend=0.3), starts, sys.argv[1], "wells", 1e-4,
                          progress=False)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
    kills += 1
print(kills)
"""


def test_killed_processes_leave_a_sweep_that_goes_on(crystal, tmp_path):
    run(tmp_path, crystal, n_points=5, fmax=1e-4, name="whole.xyz", make=partial(Wells, crystal, bend=0.3))
    done = python(KILLED, "killed.xyz", "23", cwd=tmp_path)
    assert int(done.stdout) >= 3
    assert (tmp_path / "killed.xyz").read_text() == (tmp_path / "whole.xyz").read_text()


DASK = """
from dataclasses import replace
from functools import partial
from esgap import field_sweep
from reference_calculators import weak
from wells import REPEAT, Wells, pair, rock_salt
crystal = rock_salt()
starts = field_sweep.plan([pair(crystal)], [REPEAT], ["x"], 0.3, 5)
print(field_sweep.sweep(crystal, partial(Wells, crystal, bend=0.3), starts, "dask.xyz", "wells", 1e-4, workers=2))
"""


def test_dask_gives_the_same(crystal, tmp_path):
    run(tmp_path, crystal, n_points=5, fmax=1e-4, name="whole.xyz", make=partial(Wells, crystal, bend=0.3))
    done = python(DASK, cwd=tmp_path)
    assert done.stdout == "dask.xyz: 19 points relaxed now, 0 before\n"
    assert (tmp_path / "dask.xyz").read_text() == (tmp_path / "whole.xyz").read_text()


class Asleep(Wells):
    """Not to be asked for energies."""

    def calculate(self, *args, **kwargs):
        raise AssertionError("asked")


def test_points_that_fail_stop_only_what_follows(crystal, tmp_path):
    report, sweep = run(tmp_path, crystal, n_points=5, max_steps=1)
    assert "RuntimeError: the largest force is" in str(report)
    assert {n for n, _ in report.failed} == {f"3x1x1/{c}/x{s}0.1500/out" for c in ("perfect", pair(crystal).name)
                                             for s in "+-"}
    assert len(sweep.frames) == 3
    again, _ = run(tmp_path, crystal, n_points=5, max_steps=1, make=partial(Asleep, crystal))  # would fail again
    assert (again.failed, again.done_before, again.done_now) == (report.failed, 3, 0)
    report, _ = run(tmp_path, crystal, n_points=5)
    assert (report.failed, report.done_before, report.done_now) == ((), 3, 16)


def test_other_models_and_wrong_fields_are_refused(crystal, tmp_path):
    run(tmp_path, crystal, ())
    with pytest.raises(ValueError, match=r"a.xyz holds '3x1x1/perfect/0/out' of 'wells, fmax 1e-07, .* choose another"):
        run(tmp_path, crystal, (), fmax=1e-3)
    with pytest.raises(ValueError, match="direction is '1,0'; give x, y, z, a, b, c or three numbers"):
        run(tmp_path, crystal, ("1,0",), name="b.xyz")
    charged = {"Li": 0.8, "F": -0.7}
    report, _ = run(tmp_path, crystal, (), make=partial(Wells, crystal, charges=charged), name="c.xyz")
    assert r"charges sum to +1.2 e over 24 atoms; the field energy of a charged cell" in str(report)
    with pytest.raises(ValueError, match=r"b.npz does not end in .xyz"):
        field_sweep.sweep(crystal, Wells, {}, tmp_path / "b.npz", "wells")


def test_the_command(tmp_path, capsys, monkeypatch):
    """On Li7P3S11 with a cheap potential, hardly relaxed; DFT labels of the cells can then be asked for."""
    monkeypatch.setattr("esgap.frenkel_run.load_model", lambda path: weak())
    (tmp_path / "model.npz").write_bytes(b"a model")
    command = ["frenkel", str(tmp_path / "model.npz"), str(tmp_path / "out.xyz"), "--pair", "3:hole1", "--supercell",
               "1", "1", "1", "--directions", "b", "--n-points", "3", "--fmax", "2", "--dft-frames",
               str(tmp_path / "dft.xyz")]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "11 points relaxed now, 0 before" in said
    assert "1x1x1/3:hole1:-1,0,0/0/out: formation energy" in said
    assert "along b: " in said
    frames = read_frames(tmp_path / "dft.xyz")
    assert [a.info["name"] for a in frames] == [f"frenkel-model/1x1x1/{name}" for name in (
        "perfect/0/out", "3:hole1:-1,0,0/0/out", "3:hole1:-1,0,0/0/held")]
    assert (frames[0].calc, "steps" in frames[0].info) == (None, False)
    assert main(command) == 0
    assert "0 points relaxed now, 11 before" in capsys.readouterr().out
