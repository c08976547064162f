"""Charges, exponents and how much of the forces they explain."""
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.units import Bohr

import esgap
from esgap import charges, claims, structures
from esgap.parameters import read_parameters


@pytest.fixture(scope="module")
def frames():
    return esgap.read_frames(esgap.data_path("dft/gen0.xyz"))[:6]


@pytest.fixture(scope="module")
def baseline(frames):
    q = charges.neutral_charges(frames[0], {"Li": 0.5, "P": 1.0})
    return esgap.ElectrostaticBaseline(q, charges.qeq_exponents(), accuracy=1e-6)


def relabelled(frames, forces_of):
    out = []
    for a in frames:
        new = a.copy()
        new.calc = SinglePointCalculator(new, energy=0.0, forces=forces_of(a))
        out.append(new)
    return out


def test_qeq_exponents_follow_from_the_covalent_radii():
    for element, p in claims.literature("qeq").items():
        if isinstance(p, dict):
            zeta_ns = 0.4913 * (2 * p["n"] + 1) / (2 * p["R"] / Bohr)  # lambda (2n+1) a0 / 2R, 1/bohr
            assert zeta_ns == pytest.approx(p["zeta"], abs=2e-4)
            assert charges.qeq_exponents()[element] == pytest.approx(3 * p["zeta"] / (2 * p["n"] + 1) / Bohr)


def test_neutrality():
    crystal = structures.crystal()
    q = charges.neutral_charges(crystal, {"Li": 1.0, "P": 5.0})
    assert q == pytest.approx(charges.FORMAL)
    with pytest.raises(ValueError, match=r"no charge for P in .*; given are Li, and S follows from neutrality"):
        charges.neutral_charges(crystal, {"Li": 1.0})
    with pytest.raises(ValueError, match="no charge for Cl in"):
        charges.neutral_charges(crystal, {"Li": 1.0, "P": 5.0, "S": -2.0}, by="Cl")


def test_forces_of_the_baseline_itself_are_explained_in_full(frames, baseline):
    share = charges.force_share(relabelled(frames, baseline.get_forces), baseline)
    assert all(s == pytest.approx(1.0) for s in share.share.values())
    assert all(c == pytest.approx(1.0) for c in share.correlation.values())
    assert share.best_factor() == pytest.approx(1.0)
    opposite = charges.force_share(relabelled(frames, lambda a: -baseline.get_forces(a)), baseline)
    assert opposite.share["all"] == pytest.approx(-3.0)
    assert opposite.best_factor() == 0.0


def test_charges_times_a_factor(frames, baseline):
    """Scaling what was computed is the same as computing with scaled charges."""
    share = charges.force_share(frames, baseline)
    scaled = esgap.ElectrostaticBaseline({k: 0.7 * q for k, q in baseline.charges.items()}, baseline.zeta, 1e-6)
    direct = charges.force_share(frames, scaled)
    for key, value in direct.share.items():
        assert share.scaled(0.7, key) == pytest.approx(value, abs=1e-6)
    best = share.best_factor("P")
    assert share.scaled(best, "P") >= share.scaled(np.linspace(0, 2, 201), "P").max() - 1e-12


def test_bootstrap_error_is_that_of_the_mean(frames, baseline):
    """Noise of known size: the share's error falls as one over the root of the number of frames."""
    rng = np.random.default_rng(0)

    def noisy(a):
        return baseline.get_forces(a) * (1 + 0.5 * rng.normal())

    few, many = (charges.force_share(relabelled(frames[1:] * n, noisy), baseline) for n in (8, 128))
    assert 3 < few.error["all"] / many.error["all"] < 5.5


def test_zero_charges_explain_nothing(frames):
    zero = esgap.ElectrostaticBaseline(dict.fromkeys(["Li", "P", "S"], 0.0))
    share = charges.force_share(frames, zero)
    assert set(share.share.values()) == {0.0}
    assert share.correlation["all"] == 0.0
    assert "share +0.00 +- 0.00" in str(share)


def test_frames_of_different_composition_are_refused(frames, baseline):
    with pytest.raises(ValueError, match="frames hold different atoms"):
        charges.force_share([frames[0], frames[1][::-1]], baseline)


@pytest.mark.parametrize("chapter", ["01-electrostatic-baseline", "03-training"])
def test_chapters_begin_with_the_fitted_charges(chapter):
    found = read_parameters(Path(__file__).parents[1] / "chapters" / f"{chapter}.ipynb")
    fitted, _ = charges.fitted_charges()
    assert found["charge_li"].default == pytest.approx(fitted["Li"], abs=0.0051)
    assert found["charge_p"].default == pytest.approx(fitted["P"], abs=0.0051)
