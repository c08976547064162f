"""The trusted region and the choice of frames, against naive sums and made-up violations."""
import numpy as np
import pytest
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator

import esgap
from esgap import dynamics, sampling, structures


@pytest.fixture(scope="module")
def frames():
    return esgap.read_frames(esgap.data_path("dft/gen0.xyz"))[:9]


def still(atoms):
    atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=np.zeros((len(atoms), 3)))
    return atoms


def test_the_crystal_is_trusted_and_each_violation_is_named():
    start = still(structures.crystal())
    reason = sampling.Trust().watch(start)
    assert reason(start) == ""
    li, p, s = (int(np.flatnonzero(start.symbols == e)[0]) for e in ("Li", "P", "S"))
    close = still(start.copy())
    close.positions[li] = close.positions[s] + [0, 0, 1.5]
    assert reason(still(close)) in (f"Li {li} and S {s} are 1.50 A apart", f"S {s} and Li {li} are 1.50 A apart")
    bonds = structures.ps_bonds(start)
    k = np.flatnonzero(bonds.i == p)[0]
    broken = start.copy()
    d = broken.positions[bonds.j[k]] + bonds.S[k] @ broken.cell.array - broken.positions[p]
    broken.positions[bonds.j[k]] += 0.5 * d
    long = f"{1.5 * np.linalg.norm(d):.2f}"
    assert reason(still(broken)) == f"P-S bond between atoms {p} and {bonds.j[k]} is {long} A long"
    pushed = start.copy()
    forces = np.zeros((42, 3))
    forces[5] = [0, 15, 15]
    pushed.calc = SinglePointCalculator(pushed, energy=0.0, forces=forces)
    assert reason(pushed) == "the force on atom 5 is 21.2 eV/A"


def test_bonds_are_followed_across_the_cell_boundary():
    start = structures.crystal()
    moved = start.copy()
    moved.positions += 2 * moved.cell[1]
    assert sampling.Trust().watch(start)(still(moved)) == ""


def test_uncertain_atoms_end_a_run(frames):
    start = still(structures.crystal())
    reason = sampling.Trust(deviation=0.1).watch(start, lambda a: np.array([0.001, 0.04]))
    assert reason(start) == "the local energy of atom 1 is uncertain by 0.200 eV"
    with pytest.raises(ValueError, match=r"deviation is 0\.1 eV, but no `variance` is given"):
        sampling.Trust(deviation=0.1).watch(start)


def test_choice_is_that_of_naive_lines(frames):
    """Greedy choice again, with every distance of every pair of environments in turn."""
    candidates, known = frames[2:], frames[:2]
    choice = sampling.most_informative(candidates, known, 3)
    sets = sampling.environments(frames)

    def vectors(k):
        return [(e, v) for e, p in enumerate(sets) for v in p[k]]

    def distance(k, those):
        nearest = [min(np.linalg.norm(v - w) for e, w in those if e == element) for element, v in vectors(k)]
        return np.mean(nearest)

    those, left, chosen = vectors(0) + vectors(1), list(range(2, 9)), []
    for _ in range(3):
        d = {k: distance(k, those) for k in left}
        best = max(d, key=d.get)
        chosen.append((best - 2, d[best]))
        those += vectors(best)
        left.remove(best)
    assert [k for k, _ in chosen] == choice.chosen
    np.testing.assert_allclose([d for _, d in chosen], choice.distance, atol=1e-6)


def test_a_known_frame_is_the_last_to_be_chosen(frames):
    choice = sampling.most_informative([frames[3], frames[1], frames[4]], [frames[1]], 3)
    assert choice.chosen[-1] == 1
    assert choice.distance[-1] < 1e-6
    assert choice.first[1] < 1e-6
    assert sampling.most_informative(frames[:3], [], 1).distance[0] == pytest.approx(2.0)  # nothing known: the furthest


def test_spacing_and_the_frame_that_is_not_sane(tmp_path):
    settings = dynamics.MDSettings(100, every=10, segment=100, timestep=1.0, temperature=50.0)
    crystal = structures.crystal()
    hits = iter([""] * 7 + ["enough"])
    run = dynamics.run(crystal, lambda: LennardJones(sigma=1.0, epsilon=1e-3, rc=3.0), settings, tmp_path / "a.npz",
                       lambda a: next(hits), False)
    assert run.stopped == "enough"
    assert [t for t, _ in sampling.spaced(run, 20.0)] == [0.0, 20.0, 40.0, 60.0]
    assert [t for t, _ in sampling.spaced(run, 20.0, skip=15.0)] == [20.0, 40.0, 60.0]


def test_refusals(frames):
    with pytest.raises(ValueError, match="5 frames are wanted, but there are only 2 candidates: run longer"):
        sampling.most_informative(frames[:2], frames[2:], 5)
    with pytest.raises(ValueError, match="frames hold different atoms or another order"):
        sampling.environments([frames[0], frames[1][::-1]])
