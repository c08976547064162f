"""Drift, whole units, radial distribution functions and weights of frames: known answers."""
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from esgap import stability, structures
from esgap.transport import BOLTZMANN


def run(conserved, spacing=50.0, n_atoms=42):
    n = len(conserved)
    return SimpleNamespace(conserved=np.asarray(conserved), numbers=np.ones(n_atoms), time=np.arange(n) * spacing)


def test_drift_of_a_line_in_noise():
    """3 meV/atom/ns in fluctuations of 0.5 meV/atom, within four standard errors; without noise exactly."""
    t = np.arange(2000) * 50e-6  # ns
    rng = np.random.default_rng(0)
    exact = stability.drift(run(42e-3 * 3.0 * t))
    assert exact.value == pytest.approx(3.0, rel=1e-9)
    noisy = stability.drift(run(42e-3 * (3.0 * t + 0.5 * rng.normal(size=len(t)))))
    assert abs(noisy.value - 3.0) < 4 * noisy.error
    assert 0.1 < noisy.error < 1.5
    assert noisy.fluctuation == pytest.approx(0.5, rel=0.1)
    with pytest.raises(ValueError, match="30 frames are too few for 10 blocks"):
        stability.drift(run(np.zeros(30)))


def test_the_longest_bond_of_frames_that_are_wrapped_or_of_other_atoms():
    atoms = structures.crystal()
    bonds = structures.ps_bonds(atoms)
    moved = atoms.copy()
    along = moved.get_distance(bonds.i[0], bonds.j[0], mic=True, vector=True)
    moved.positions[bonds.j[0]] += 0.5 * along / np.linalg.norm(along)
    moved.positions += [3.0, 1.0, 2.0]
    moved.wrap()
    length = atoms.get_distance(bonds.i[0], bonds.j[0], mic=True)
    assert stability.longest_bond([Atoms("Li"), atoms, moved], atoms) == pytest.approx(length + 0.5)
    with pytest.raises(ValueError, match="none of the 1 frames holds the 42 atoms"):
        stability.longest_bond([Atoms("Li")], atoms)


def test_a_bond_that_opens_is_seen():
    atoms = structures.crystal()
    positions = np.repeat(atoms.positions[None], 5, axis=0)
    s = structures.ps_bonds(atoms).j[0]
    trajectory = SimpleNamespace(positions=positions, cell=atoms.cell.array, atoms=lambda k: atoms)
    longest, whole = stability.broken_bonds(trajectory)
    assert whole
    assert 2.1 < longest.max() < 2.3
    positions[3, s] += 1.5
    longest, whole = stability.broken_bonds(trajectory)
    assert not whole
    assert longest.argmax() == 3


def test_an_ideal_gas_has_g_of_one():
    rng = np.random.default_rng(0)
    cell = np.array([[9.0, 0, 0], [2.0, 8.0, 0], [-1.0, 1.5, 7.0]])
    frames = [Atoms("Li30S30", rng.random((60, 3)) @ cell, cell=cell, pbc=True) for _ in range(60)]
    for pair in (("Li", "Li"), ("Li", "S")):
        # up to where an atom meets its own images; others are met beyond half of the cell already
        g = stability.radial_distribution(frames, pair, r_max=6.5, n_bins=13, n_blocks=20)
        wrong = (g.value - (1 - (pair == ("Li", "Li")) / 30))[2:] / g.error[2:]
        assert np.abs(wrong).max() < 5
        assert np.sqrt(np.mean(wrong**2)) < 1.7
        assert np.all(g.error[8:] < 0.03)


def test_first_shell_of_rock_salt_holds_six():
    frames = [bulk("LiF", "rocksalt", a=4.0, cubic=True)] * 5
    g = stability.radial_distribution(frames, ("Li", "F"), r_max=3.0, n_bins=300)
    shell = 4 / 3 * np.pi * np.diff(np.linspace(0, 3, 301) ** 3)
    assert (g.value * shell).sum() * 4 / 64 == pytest.approx(6.0)  # four F in 64 A^3
    assert not g.error.any()
    with pytest.raises(ValueError, match="there is no P in F4Li4"):
        stability.radial_distribution(frames, ("Li", "P"))
    with pytest.raises(ValueError, match="3 frames cannot be parted into 5 blocks"):
        stability.radial_distribution(frames[:3], ("Li", "F"))


def test_weights_carry_one_ensemble_into_another():
    """Harmonic oscillators of 1.0 and 1.3 eV/A^2 at 800 K: the variance of the second from samples of the first."""
    rng, kT = np.random.default_rng(0), BOLTZMANN * 800
    x = np.sqrt(kT / 1.0) * rng.normal(size=20000)
    w, effective = stability.weights_of_dft(0.65 * x**2 + 3.0, 0.5 * x**2, 800)
    n = len(x)
    assert 0.8 * n < effective < n
    assert w @ x**2 == pytest.approx(kT / 1.3, abs=4 * kT / 1.3 * np.sqrt(2 / effective))
    same, all_of_them = stability.weights_of_dft(x, x - 7.0, 800)
    assert all_of_them == pytest.approx(n)
    assert np.allclose(same, 1 / n)
