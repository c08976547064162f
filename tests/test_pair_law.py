"""Pairs of charges in periodic cells: known lattice energies, and a law that is found again with an honest error."""
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms

from esgap import pair_law
from esgap.ewald import COULOMB
from esgap.field_response import Row, Sweep
from esgap.frenkel import FrenkelPair
from esgap.interstitials import Interstitial
from wells import rock_salt

REPEATS = ((3, 3, 3), (4, 4, 4))
Q = 0.5


def test_far_from_their_images_two_charges_attract_like_two_charges():
    d, length = 3.0, 60.0
    dipole_image = -2 * np.pi / 3 * COULOMB * d**2 / length**3  # of a dipole in a cubic lattice (Makov and Payne 1995)
    energy = pair_law.lattice_energy([d, 0, 0], length * np.eye(3))
    assert energy == pytest.approx(-COULOMB / d + dipole_image, abs=2e-5)
    assert abs(dipole_image) > 1e-3


def test_clouds_attract_like_points_only_where_they_do_not_overlap():
    """Against Roothaan's integral of two Slater 1s densities, exp(-2 zeta r), J. Chem. Phys. 19, 1445 (1951)."""
    cell, zeta = 60 * np.eye(3), 0.5  # 1/A
    far, near = ([pair_law.lattice_energy([d, 0, 0], cell, z) for z in (zeta, None)] for d in (16.0, 3.0))
    assert far[0] == pytest.approx(far[1], abs=5e-5)
    x = zeta * 3.0
    less = COULOMB / 3.0 * (1 + 11 * x / 8 + 3 * x**2 / 4 + x**3 / 6) * np.exp(-2 * x)
    assert near[0] - near[1] == pytest.approx(less, abs=1e-4)


def test_an_ion_half_way_to_its_vacancy_s_image_completes_a_crystal():
    """Charges at the places of CsCl: Madelung's constant."""
    a = 4.0
    energy = pair_law.lattice_energy([a / 2] * 3, a * np.eye(3))
    assert energy == pytest.approx(-1.76267477307099 * COULOMB / (a * np.sqrt(3) / 2), rel=1e-6)


def sweep(label, strength, noise=0.0, seed=0, became=()):
    """Pairs of two families, typed in: E_f = 0.7 or 1.9 eV + strength L, held and (half of it) relaxed."""
    crystal, rng = rock_salt(), np.random.default_rng(seed)
    pairs, rows = {}, {f"{'x'.join(map(str, r))}/perfect/0/out": Row(-10.0) for r in REPEATS}
    for vacancy, near in ((0, 0.7), (1, 1.9)):
        site = Interstitial("hole1", (0.25, 0.25, 0.25), {}, 0)
        for shift in ((0, 0, 0), (1, 0, 0), (0, 1, 1), (1, 1, 1)):
            pair = FrenkelPair(vacancy, site, shift)
            pairs[pair.name] = pair
            d = (np.array(site.position) + shift) @ crystal.cell.array - crystal.positions[0]
            for repeat in REPEATS:
                cell = "x".join(map(str, repeat))
                law = strength * pair_law.lattice_energy(d, crystal.repeat(repeat).cell.array) + noise * rng.normal()
                rows[f"{cell}/{pair.name}/0/held"] = Row(-10.0 + near + law, dipole=tuple(Q * d))
                rows[f"{cell}/{pair.name}/0/out"] = Row(-10.5 + near + law / 2, dict(became).get(pair.name, ""))
    lone = FrenkelPair(2, site)
    rows |= {f"3x3x3/{lone.name}/0/{leg}": Row(-9.0, dipole=(1.0, 0, 0)) for leg in ("held", "out")}
    return Sweep(rows, f"{label} 01", {"Li": Q}, pairs | {lone.name: lone},
                 {n: np.array([3.0, 0, 0]) for n in pairs}, {})


def test_the_law_is_found_for_each_model_and_for_their_difference():
    crystal, es_gap, gap = rock_salt(), sweep("es-gap", Q**2), sweep("gap", 0.0)
    points = {s.label: pair_law.pair_points(s, es_gap, crystal, held=True) for s in (es_gap, gap)}
    assert len(points["GAP"].energy) == 16  # the pair that has no other of its family is of no use
    assert (np.diff(points["GAP"].distance) >= 0).all()
    for label, strength in (("ES-GAP", Q**2), ("GAP", 0.0)):
        law = pair_law.fit_pair_law(points[label])
        assert law.strength == pytest.approx(strength, abs=1e-9)
        assert (law.n_points, law.n_families) == (16, 2)
        assert law.scatter < 1e-8
    less = pair_law.difference(points["ES-GAP"], points["GAP"])
    assert less.model == "ES-GAP less GAP"
    assert pair_law.fit_pair_law(less).strength == pytest.approx(Q**2, abs=1e-9)
    relaxed = pair_law.fit_pair_law(pair_law.pair_points(es_gap, es_gap, crystal))
    assert relaxed.strength == pytest.approx(Q**2 / 2, abs=1e-9)
    assert "q²/ε = 0.125 ± 0.000 e²" in str(relaxed)


def test_its_error_covers_noise():
    crystal, pulls = rock_salt(), []
    law = pair_law.pair_points(sweep("es-gap", 0.3), sweep("es-gap", 0.3), crystal, held=True)
    rng = np.random.default_rng(1)
    for _ in range(300):
        noisy = replace(law, energy=law.energy + rng.normal(scale=0.05, size=len(law.energy)))
        fit = pair_law.fit_pair_law(noisy)
        pulls.append((fit.strength - 0.3) / fit.error)
    wide = np.sqrt(13 / 11)  # Student's t, 16 points less 2 families and a slope
    assert np.mean(pulls) == pytest.approx(0, abs=4 * wide / np.sqrt(300))
    assert np.std(pulls) == pytest.approx(wide, rel=0.2)


def test_what_counts():
    crystal, es_gap = rock_salt(), sweep("es-gap", 0.25)
    gone = sweep("gap", 0.0, became={"0:hole1:0,0,0": "recombined: back", "0:hole1:1,0,0": "vacancy moved: there"})
    held, relaxed = (pair_law.pair_points(gone, es_gap, crystal, held=h) for h in (True, False))
    assert (len(held.energy), len(relaxed.energy)) == (16, 12)
    a, b = pair_law.common([held, relaxed])
    assert a.pairs == b.pairs == relaxed.pairs
    large = pair_law.pair_points(es_gap, es_gap, crystal, held=True, apart=12.5)  # 3 cells are 12.1 A, 4 are 16.1
    assert set(large.repeats) == {(4, 4, 4)}
    alone = pair_law.pair_points(es_gap, es_gap, crystal, held=True, near=20.0)
    assert alone.family.tolist() == [k for k in range(8) for _ in REPEATS]  # each pair in two cells
    assert pair_law.fit_pair_law(alone).strength == pytest.approx(0.25, abs=1e-9)
    spread = sweep("gap", 0.0, became={f"0:hole1:{s}": "more sites are vacant: [0, 3]" for s in ("0,0,0", "1,1,1")})
    states = pair_law.pair_points(spread, es_gap, crystal)
    assert len(set(states.family.tolist())) == 3  # vacancy 0 with and without, vacancy 1
    assert len(pair_law.common([states, pair_law.pair_points(es_gap, es_gap, crystal)])[0].pairs) == 12
    mask = pair_law.longest_scan(held)
    assert mask.sum() == 4
    assert set(np.array(held.repeats)[mask].ravel()) == {4}
    few = held.chosen(mask)
    with pytest.raises(ValueError, match="4 points of 1 families leave 2 degrees of freedom; error bars need 3"):
        pair_law.fit_pair_law(few)
    empty = pair_law.pair_points(es_gap, es_gap, crystal, apart=100.0)
    assert not pair_law.longest_scan(empty).size


def test_the_nearest_image_of_a_skew_cell_is_not_one_vector_away():
    cell = Atoms(cell=[[10, 0, 0], [9, 4, 0], [0, 0, 20]]).cell
    assert pair_law.nearest_image(np.zeros(3), cell) == pytest.approx(np.sqrt(17))  # the difference of two vectors
    assert pair_law.nearest_image(np.array([0.5, -2, 0]), cell) == pytest.approx(np.hypot(0.5, 2))
