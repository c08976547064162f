"""The locality test on models whose range is known, and its statistics on noise of known size."""
import numpy as np
import pytest
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator

import esgap
from esgap import charges, locality, spheres, structures

REACH = 4.0  # A, of the short-ranged model


@pytest.fixture(scope="module")
def supercell():
    return structures.crystal() * (1, 2, 1)


@pytest.fixture(scope="module")
def frames(supercell):
    return spheres.locality_configurations(supercell, plan=((6.0, 3),))[:19]


@pytest.fixture(scope="module")
def coulomb(supercell):
    q = charges.neutral_charges(supercell, {"Li": 0.5, "P": 2.5})
    return esgap.ElectrostaticBaseline(q, charges.qeq_exponents(), accuracy=1e-8)


def labelled(frames, forces_of):
    out = []
    for k, a in enumerate(frames):
        new = a.copy()
        new.calc = SinglePointCalculator(new, energy=0.0, forces=forces_of(k, a))
        out.append(new)
    return out


def noise(frames, sigma, seed=0):
    rng = np.random.default_rng(seed)
    return labelled(frames, lambda k, a: sigma * rng.normal(size=(len(a), 3)))


def test_a_model_of_known_range_is_local_beyond_it(frames):
    """Pair forces that end at 4 A: frozen neighbourhoods of 4 A and more fix them, shorter ones do not."""
    model = LennardJones(sigma=2.0, epsilon=0.05, ro=3.0, rc=REACH, smooth=True)
    forces = locality.frozen_forces(frames, model)
    size = np.abs(forces.change).max(1)
    assert size[forces.radius >= REACH].max() < 1e-12
    assert size[forces.radius < REACH].max() > 1e-3
    far, near = locality.locality_curve(forces, [5.8, 3.0]).value
    assert far < 1e-12 < 1e-4 < near


def test_forces_of_a_gap_reach_twice_its_cutoff(frames):
    """An atom's energy sees 2.6 A; its neighbours' energies see the same atom, so forces change up to 5.2 A."""
    settings = esgap.FitSettings(esgap.Soap(3, 1, atom_sigma=0.5, cutoff=2.6), n_sparse=10, e0="fit")
    gap = esgap.fit_gap(esgap.read_frames(esgap.data_path("dft/gen0.xyz"))[:2], settings).calculator
    forces = locality.frozen_forces(frames[:13], gap)
    size = np.abs(forces.change).max(1)
    assert size[forces.radius >= 5.2].max() < 1e-9
    assert size[(forces.radius > 2.7) & (forces.radius < 4.0)].max() > 1e-6


def test_frozen_radius_is_the_distance_of_the_nearest_atom_that_moves(frames, supercell):
    """Ten naive lines: every displaced atom, image and displacement in turn."""
    members = frames[1::6][:3]
    frozen, radius = locality.frozen_radii(members)
    moved = [k for k in range(84) if k not in frozen]
    images = [np.array([i, j, k]) @ supercell.cell.array for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1)]
    for k, r in list(zip(frozen, radius, strict=True))[::7]:
        nearest = min(np.linalg.norm(a.positions[m] + s - supercell.positions[k]) for a in members for m in moved
                      for s in images)
        assert r == pytest.approx(nearest, abs=1e-9)
    centre = members[0].info["centre"]
    assert 5.4 < radius[list(frozen).index(centre)] < 6.3


def test_bare_coulomb_is_not_local_and_subtracting_it_leaves_nothing(frames, coulomb):
    forces = locality.frozen_forces(frames, coulomb)
    curve = locality.locality_curve(forces, [6.0], width=1.0)
    assert curve.value[0] > 0.01
    assert curve.n_atoms[0] >= 6  # the centres and few others have so much frozen
    assert np.abs(forces.minus(forces).change).max() == 0
    left = locality.frozen_forces(labelled(frames, lambda k, a: coulomb.get_forces(a))).minus(forces)
    assert np.abs(left.change).max() < 1e-9


def test_doubling_all_charges_multiplies_the_error_by_four(frames, coulomb):
    double = esgap.ElectrostaticBaseline({s: 2 * q for s, q in coulomb.charges.items()}, coulomb.zeta, 1e-8)
    one, four = (locality.locality_curve(locality.frozen_forces(frames, c), [3.0, 5.5]).value
                 for c in (coulomb, double))
    np.testing.assert_allclose(four, 4 * one, rtol=1e-6)


def test_variance_is_unbiased_with_few_displacements(frames):
    """Noise of 0.3 eV/A: its size is found although the mean of only three displacements is subtracted."""
    values = [locality.locality_curve(locality.frozen_forces(noise(frames, 0.3, s)), [3.0], width=3.0).value[0] ** 2
              for s in range(20)]
    assert np.mean(values) == pytest.approx(0.09, abs=4 * np.std(values) / np.sqrt(20))
    assert np.std(values) / np.sqrt(20) < 0.002


@pytest.mark.parametrize("n", [3, 4, 8])
def test_bootstrap_error_is_the_scatter_of_repeated_tests(supercell, n):
    frames = spheres.locality_configurations(supercell, plan=((6.0, n),))[1::6]  # one sphere, n displacements
    runs = [locality.locality_curve(locality.frozen_forces(noise(frames, 0.3, s)), [6.0], width=1.0, n_bootstrap=400)
            for s in range(80)]
    scatter = np.std([r.value[0] ** 2 for r in runs])
    claimed = np.sqrt(np.mean([(r.draws[:, 0] ** 2).var() for r in runs]))  # of the variance, which is unbiased
    assert claimed / scatter == pytest.approx(1.0, abs=0.3)
    assert runs[0].n_atoms[0] < 5
    assert runs[0].at(6.0) == (runs[0].value[0], runs[0].error[0])


def test_two_displacements_give_a_value_without_error(frames):
    curve = locality.locality_curve(locality.frozen_forces(noise(frames[:13], 0.3)), [3.0])
    assert np.isfinite(curve.value[0])
    assert np.isnan(curve.error[0])


def test_kinds_elements_and_composition(frames, supercell):
    forces = locality.frozen_forces(noise(frames, 0.1))
    assert forces.chosen("P").sum() == forces.chosen("P in PS4").sum() + forces.chosen("P in P2S7").sum()
    curves = [locality.locality_curve(forces, [3.0, 9.0], who) for who in locality.ELEMENTS]
    together = locality.by_composition(curves, supercell)
    share = np.array([14, 6, 22]) / 42
    assert together.value[0] == pytest.approx(np.sqrt(share @ [c.value[0] ** 2 for c in curves]))
    assert np.isnan(together.value[1])  # nothing is frozen to 9 A
    assert "3.0 A" in str(together)


def test_refusals(frames, supercell):
    with pytest.raises(ValueError, match="none of the 1 frames belong to a sphere with two or more displacements"):
        locality.frozen_forces([supercell])
    broken = [a.copy() for a in frames]
    broken[7].positions += 0.1
    with pytest.raises(ValueError, match="of the 84 atoms around atom 1 84 move"):
        locality.frozen_forces(broken, LennardJones(rc=REACH))
    forces = locality.frozen_forces(noise(frames, 0.1))
    with pytest.raises(ValueError, match="no frozen atom is 'Cl'; there are all, Li, "):
        forces.chosen("Cl")
    with pytest.raises(ValueError, match="belong to different frames"):
        forces.minus(locality.frozen_forces(noise(frames[:13], 0.1)))
    curve = locality.locality_curve(forces, [6.0])
    with pytest.raises(ValueError, match=r"no locality error at 5\.0 A; there are \[6\.0\]"):
        curve.at(5.0)
    with pytest.raises(ValueError, match="curves of P do not cover"):
        locality.by_composition([locality.locality_curve(forces, [6.0], "P")], supercell)
