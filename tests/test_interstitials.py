"""Interstitial sites: known holes of simple crystals, and those of Li7P3S11 checked by their distances."""
import numpy as np
import pytest
from ase.build import bulk

from esgap import interstitials, structures


@pytest.fixture(scope="module")
def crystal():
    return structures.crystal()


def test_the_holes_of_antifluorite_are_octahedra():
    """Li2S: Li fills all tetrahedra of S, the octahedral hole (1/2, 1/2, 1/2) is left, a/2 from six S."""
    li2s = bulk("SLi2", "fluorite", a=5.72)
    (site,) = interstitials.hole_sites(li2s)
    np.testing.assert_allclose(site.position, [0.5] * 3, atol=1e-6)
    assert site.nearest == pytest.approx({"S": 5.72 / 2, "Li": 5.72 * np.sqrt(3) / 4}, abs=1e-4)


def test_holes_come_in_pairs_by_inversion_and_keep_their_distance(crystal):
    sites = interstitials.hole_sites(crystal)
    assert len(sites) >= 20
    for site in sites:
        assert all(site.nearest[s] >= d for s, d in interstitials.CLOSEST.items())
        image = -np.array(site.position) % 1.0
        mates = [s for s in sites if s.orbit == site.orbit]
        assert any(np.abs(image - s.position).max() < 1e-4 for s in mates)
        assert len(mates) == 2
    distances = [s.nearest["Li"] for s in sites]
    assert distances == sorted(distances, reverse=True)
    assert interstitials.hole_sites(crystal) == sites


def test_moving_the_origin_moves_the_sites(crystal):
    """Also where a site crosses the border of the cell."""
    shifted = crystal.copy()
    shift = np.array([0.3, 0.7, 0.51])
    shifted.set_scaled_positions(crystal.get_scaled_positions() + shift)
    before, after = ([s.position for s in interstitials.hole_sites(c)] for c in (crystal, shifted))
    assert len(before) == len(after)
    for position in before:
        off = np.array(after) - position - shift
        assert np.abs(off - off.round()).max(1).min() < 1e-4


def test_sites_seen_in_dynamics_fit_into_this_setting(crystal):
    """Transformed wrongly (other axes, origin or sign), some would lie on S or P."""
    sites = interstitials.seen_sites(crystal)
    assert len(sites) == 2 * 7 - 1  # (1/2, 0, 0) is its own image
    assert min(s.nearest["S"] for s in sites) > 2.1
    assert max(s.nearest["S"] for s in sites) < 2.5
    assert min(s.nearest["P"] for s in sites) > 2.9
    assert str(sites[0]) == "seen1: (0.000, 0.500, 0.000), orbit 0; Li at 2.22 A, P at 3.01 A, S at 2.31 A"
    assert len({s.orbit for s in sites}) == 7


def test_refusals(crystal):
    with pytest.raises(ValueError, match=r"there is no Na in .*: name another ion or ligand"):
        interstitials.hole_sites(crystal, ion="Na")
    with pytest.raises(ValueError, match="no interstitial site 'i9'; there are seen1, seen2"):
        interstitials.site_named("i9", interstitials.seen_sites(crystal))
