"""Frenkel pairs: how they are stated and built, relaxation, recombination, dipoles, directions, refusals."""
import numpy as np
import pytest
from ase.calculators.morse import MorsePotential

import esgap
from esgap import frenkel, interstitials, structures
from esgap.__main__ import main
from wells import CHARGES, DEPTH, REPEAT, Wells, holes, pair, rock_salt


@pytest.fixture(scope="module")
def crystal():
    return rock_salt()


@pytest.fixture(scope="module")
def li7p3s11():
    return structures.crystal()


def test_a_pair_is_the_perfect_cell_with_one_ion_moved(li7p3s11):
    sites = interstitials.hole_sites(li7p3s11)
    p = frenkel.pair_named("3:hole2:0,1,0", li7p3s11, sites)
    perfect, atoms = frenkel.perfect_cell(li7p3s11, (2, 3, 2)), p.cell(li7p3s11, (2, 3, 2))
    assert (len(atoms), atoms.calc, atoms.info) == (504, None, {})
    moved = atoms.positions - perfect.positions
    np.testing.assert_array_equal(np.flatnonzero(moved.any(1)), [3])
    expected = np.add(sites[1].position, [0, 1, 0]) @ li7p3s11.cell.array - li7p3s11.positions[3]
    np.testing.assert_allclose(moved[3], expected, atol=1e-12)
    assert frenkel.pair_named(p.name, li7p3s11, sites) == p
    np.testing.assert_allclose(frenkel.dipole(atoms, perfect, {"Li": 0.7, "P": 1.0, "S": -0.7}), 0.7 * expected)


def test_without_a_shift_the_nearest_image_is_taken(li7p3s11):
    sites = interstitials.seen_sites(li7p3s11)
    for k in range(3):
        p = frenkel.pair_named(f"{k}:seen3", li7p3s11, sites)
        d = li7p3s11.copy()
        d.positions[k] = np.array(p.site.position) @ d.cell.array
        assert np.linalg.norm(p.vector(li7p3s11)) <= 0.5 * d.cell.lengths().sum()
        both = li7p3s11[[k]] + d[[k]]
        assert np.linalg.norm(p.vector(li7p3s11)) == pytest.approx(both.get_distance(0, 1, mic=True))


def test_images_are_all_there_once_and_sorted(crystal):
    pairs = frenkel.images_of(0, holes(), crystal, (3, 2, 2))
    assert len(pairs) == len(holes()) * 12 == 96
    assert len({tuple((np.array(p.site.position) + p.shift).round(3) % (3, 2, 2)) for p in pairs}) == 96
    lengths = [np.linalg.norm(p.vector(crystal)) for p in pairs]
    assert lengths[0] == pytest.approx(4.03 * np.sqrt(3) / 4)
    assert (np.diff(lengths) > -1e-6).all()
    for p in pairs:
        p.cell(crystal, (3, 2, 2))  # refuses what is not the nearest image


def test_repeated_cells_are_folded(li7p3s11):
    perfect = frenkel.perfect_cell(li7p3s11, (2, 3, 2))
    for fold in ((2, 3, 2), (2, 1, 2), (1, 1, 1)):
        block = frenkel.folded_cell(perfect, (2, 3, 2), fold)
        again = frenkel.perfect_cell(li7p3s11, np.array([2, 3, 2]) // fold)
        np.testing.assert_allclose(block.positions, again.positions, atol=1e-12)
        np.testing.assert_allclose(block.cell.array, again.cell.array, atol=1e-12)
        assert (block.symbols == again.symbols).all()
        assert block.info == {"folded": fold}
    with pytest.raises(ValueError, match=r"2x3x2 cells cannot be folded \(2, 2, 2\) times: give divisors"):
        frenkel.folded_cell(perfect, (2, 3, 2), (2, 2, 2))
    perfect.positions[100, 1] += 0.01
    with pytest.raises(ValueError, match=r"copies of the unit cell in 2x3x2 cells differ by 0.0092 A"):
        frenkel.folded_cell(perfect, (2, 3, 2), (2, 3, 2))


def test_relaxation_ends_in_the_well_and_keeps_positions_unwrapped(crystal):
    p = pair(crystal)
    start = p.cell(crystal, REPEAT)
    start.positions += 7 * start.cell[0]
    start.rattle(0.1, seed=1)
    relaxed = frenkel.relax(start, Wells(crystal), fmax=1e-6)
    np.testing.assert_allclose(relaxed.positions - 7 * start.cell[0], p.cell(crystal, REPEAT).positions, atol=1e-5)
    assert relaxed.get_potential_energy() == pytest.approx(-DEPTH)
    assert relaxed.info["steps"] > 1
    held = frenkel.relax(start, Wells(crystal), fmax=1e-6, only=0)
    np.testing.assert_array_equal(np.flatnonzero((held.positions != start.positions).any(1)), [0])
    assert np.linalg.norm(held.get_forces(), axis=1).max() > 0.01  # those of held atoms are not hidden
    assert not held.constraints
    with pytest.raises(RuntimeError, match=r"largest force is .* eV/A after 2 steps, not 1e-06: allow more"):
        frenkel.relax(start, Wells(crystal), fmax=1e-6, max_steps=2)


def test_what_became_of_a_pair(crystal):
    p, perfect = pair(crystal), frenkel.perfect_cell(crystal, REPEAT)
    atoms = p.cell(crystal, REPEAT)
    other = [k for k in np.flatnonzero(atoms.symbols == "Li") if k != 0][2]
    noise = np.random.default_rng(0).normal(scale=0.1, size=(len(atoms), 3))

    def became(**moves):
        new = atoms.copy()
        for k, where in moves.items():
            new.positions[int(k[1:])] = where
        new.positions += noise
        return frenkel.what_became_of(p, new, perfect)

    home, hole = perfect.positions[0], atoms.positions[0]
    assert became() == ""
    assert became(_0=home + perfect.cell[1]) == "recombined: the interstitial ion is back on its site"
    assert became(**{f"_{other}": home, "_0": perfect.positions[other]}) == f"recombined: Li {other} fills the vacancy"
    assert became(**{f"_{other}": home}) == f"vacancy moved: Li {other} fills the vacancy; vacant now [{other}]"
    assert became(**{f"_{other}": np.add(hole, [0, 0.5, 0])}) == f"more sites are vacant: [0, {other}]"


def test_a_hole_that_is_none_lets_the_ion_back(crystal):
    p = frenkel.images_of(0, holes()[:1], crystal, REPEAT)[0]
    relaxed = frenkel.relax(p.cell(crystal, REPEAT), Wells(crystal, with_holes=False), fmax=0.01)
    assert frenkel.what_became_of(p, relaxed, frenkel.perfect_cell(crystal, REPEAT)) != ""


def test_charges_are_those_of_the_model_or_zero():
    baseline = esgap.ElectrostaticBaseline(CHARGES)
    assert frenkel.model_charges(esgap.es_gap(MorsePotential(), baseline), ["Li", "F"]) == CHARGES
    assert frenkel.model_charges(MorsePotential(), ["Li", "F", "Li"]) == {"F": 0.0, "Li": 0.0}


def test_directions(li7p3s11):
    cell = li7p3s11.cell
    np.testing.assert_array_equal(frenkel.direction_vector("y", cell), [0, 1, 0])
    np.testing.assert_allclose(frenkel.direction_vector("b", cell), cell[1] / np.linalg.norm(cell[1]))
    np.testing.assert_allclose(frenkel.direction_vector("1,-1,0", cell), [np.sqrt(0.5), -np.sqrt(0.5), 0])
    np.testing.assert_allclose(frenkel.direction_vector([0, 0, 2], cell), [0, 0, 1])
    for wrong in ("1,0", "w", "0,0,0", [1, 2, 3, 4], "nan,0,1"):
        with pytest.raises(ValueError, match=r"direction is .*; give x, y, z, a, b, c or three numbers"):
            frenkel.direction_vector(wrong, cell)


@pytest.mark.parametrize(("text", "message"), [
    ("3", "pair '3' is not of the form VACANCY:SITE or VACANCY:SITE:i,j,k"),
    ("3:hole1:1,0", "pair '3:hole1:1,0' is not of the form"),
    ("Li:hole1", "pair 'Li:hole1' is not of the form"),
    ("3:hole999", "no interstitial site 'hole999'; there are hole1"),
    ("20:hole1", r"site 20 holds S, not Li; sites of Li are \[0, 1, 2"),
    ("42:hole1", "site 42 holds no atom, not Li"),
])
def test_unknown_pairs(li7p3s11, text, message):
    number = message.replace("holds S", f"holds {li7p3s11.symbols[20]}")
    with pytest.raises(ValueError, match=number):
        frenkel.pair_named(text, li7p3s11, interstitials.hole_sites(li7p3s11))


def test_another_image_than_the_nearest_is_refused(crystal):
    far = frenkel.FrenkelPair(0, holes()[0], (2, 0, 0))
    with pytest.raises(ValueError, match=r"are .* A apart, but .* A by another image in 3x1x1 cells: change the shift"):
        far.cell(crystal, REPEAT)


def test_command_lists_sites_and_wants_a_pair(capsys, tmp_path):
    assert main(["frenkel", "no-model.npz", str(tmp_path / "a.xyz"), "--sites"]) == 0
    assert "seen7: (" in capsys.readouterr().out
    assert main(["frenkel", "no-model.npz", str(tmp_path / "a.xyz")]) == 2
    assert "no pair is given: choose one with --pair or --scan" in capsys.readouterr().err
    assert main(["frenkel", "no-model.npz", str(tmp_path / "a.xyz"), "--pair", "3:hole1"]) == 2
    assert "no model at no-model.npz" in capsys.readouterr().err
    assert main(["frenkel", "no-model.npz", str(tmp_path / "a.xyz"), "--pair", "3:hole1", "--summary",
                 str(tmp_path / "a.json")]) == 2
    assert "a.json is the record of" in capsys.readouterr().err
