"""MD of replicas is that of single runs: the same equations of motion, temperature, frame, and words at the end."""
import shutil
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import units
from ase.md.verlet import VelocityVerlet

import esgap
from esgap import dynamics, mobility, mobility_run, replica_run, store
from esgap.__main__ import main
from esgap.replica_run import Engine, initial_momenta, run_replicas
from esgap.replicas import Replicas
from esgap.structures import crystal
from test_replicas import tiny_gap

SHORT = dynamics.MDSettings(40, 300.0, 1.0, every=5, segment=10, seed=3, taut=50.0)
R = 3


@pytest.fixture(scope="module")
def gap():
    return tiny_gap()


@pytest.fixture(scope="module", autouse=True)
def kept_programs(tmp_path_factory):
    """What one test has compiled serves the others."""
    old = jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("programs")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    yield
    jax.config.update("jax_compilation_cache_dir", old[0])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", old[1])


def engine_of(gap, settings, **options):
    return Engine(Replicas(crystal(), gap, R, **options), settings, crystal())


def test_without_thermostat_it_is_velocity_verlet(gap):
    """With a skin so thin that neighbours are found anew at almost every step, and so few slots that they overflow."""
    settings = dynamics.MDSettings(20, 600.0, 1.0, "nve", every=5, segment=20, seed=3)
    engine = engine_of(gap, settings, skin=0.02)
    engine.replicas.widths = tuple(w // 2 for w in engine.replicas.widths)
    carry = engine.start()._replace(forces=None)
    x, p = np.array(carry.x), np.array(carry.p)
    engine.replicas.widths = engine.replicas.wide_enough(carry.most)
    carry, frames = engine.advance(engine.begin(x, p), 4)
    for k in range(R):
        atoms = crystal()
        atoms.set_momenta(initial_momenta(atoms, settings, R)[k])
        atoms.calc = gap
        VelocityVerlet(atoms, 1.0 * units.fs).run(20)
        np.testing.assert_allclose(frames.x[-1, k][engine.replicas.rank], atoms.positions, atol=1e-8)
        assert frames.potential[-1, k] == pytest.approx(atoms.get_potential_energy(), abs=1e-8)
        assert frames.kinetic[-1, k] == pytest.approx(atoms.get_kinetic_energy(), abs=1e-8)
        assert frames.force[-1, k] == pytest.approx(np.linalg.norm(atoms.get_forces(), axis=1).max(), abs=1e-8)


def test_slots_that_overflow_on_the_way_are_made_more(gap):
    settings = dynamics.MDSettings(20, 600.0, 1.0, "nve", every=5, segment=20, seed=3)
    engine, narrow = engine_of(gap, settings), engine_of(gap, settings)
    _, frames = engine.advance(engine.start(), 2)
    carry = narrow.start()
    narrow.replicas.widths = tuple(w - 4 for w in np.minimum(narrow.replicas.widths, np.asarray(carry.most)))
    carry = carry._replace(table=narrow.replicas.table(carry.x))
    _, again = narrow.advance(carry, 2)
    np.testing.assert_allclose(again.x, frames.x, atol=1e-9)


def test_the_thermostat_draws_the_canonical_kinetic_energy(gap):
    """Alone, it must leave a gamma distribution of 3 N - 3 halves; mean and variance within five standard errors."""
    settings = dynamics.MDSettings(10, 300.0, 1.0, every=5, seed=5, taut=2.0)
    engine = engine_of(gap, settings)
    carry, energies = engine.start(), []
    put_in = np.zeros(R)
    for step in range(1500):
        before = np.asarray(engine._kinetic(carry.p))
        p, exchanged = engine._thermostat(carry)
        carry = carry._replace(p=p, exchanged=exchanged, step=jnp.asarray(step + 1))
        put_in += np.asarray(engine._kinetic(p)) - before
        energies.append(np.asarray(engine._kinetic(p)))
    np.testing.assert_allclose(np.asarray(carry.exchanged), put_in, atol=1e-9)
    free, e = 3 * 42 - 3, np.array(energies[20:]) / (units.kB * 300.0)
    independent = e.size * (1 - np.exp(-0.5)) / (1 + np.exp(-0.5))  # correlation exp(-t/taut)
    assert abs(e.mean() - free / 2) < 5 * np.sqrt(free / 2 / independent)
    assert abs(e.var() / (free / 2) - 1) < 5 * np.sqrt(2 / independent)


def test_a_replica_does_not_depend_on_how_many_there_are(gap):
    few, many = (initial_momenta(crystal(), SHORT, n) for n in (2, 4))
    np.testing.assert_array_equal(few, many[:2])
    np.testing.assert_allclose(many.sum(1), 0, atol=1e-9)
    assert abs(many[0] - many[1]).max() > 0.1


def test_what_is_kept_is_the_lithium_in_the_frame_of_the_framework(gap, tmp_path):
    about = {"model": "GAP", "generation": 0, "settings": vars(SHORT), "gap": "none", "repeat": [1, 1, 1]}
    path = run_replicas(crystal(), gap, SHORT, R, tmp_path / "gap-300K-x3-3.npz", about, progress=False)
    runs = mobility.load_batch(path)
    engine = engine_of(gap, SHORT)
    _, frames = engine.advance(engine.start(), 8)
    atoms, rank = crystal(), engine.replicas.rank
    framework = np.flatnonzero(atoms.numbers != 3)
    mass = atoms.get_masses()[framework]
    for k, run in enumerate(runs):
        x = np.concatenate([atoms.positions[None], frames.x[:, k, rank]])
        x = x - np.average(x[:, framework] - atoms.positions[framework], axis=1, weights=mass)[:, None]
        np.testing.assert_allclose(run.paths, x[:, atoms.numbers == 3], atol=mobility.GRID / 2 + 1e-6)
        np.testing.assert_allclose(run.mean.positions, x.mean(0), atol=1e-6)
        temperature = 2 * frames.kinetic[:, k] / (123 * units.kB)
        assert run.about["measured"] == pytest.approx(np.mean([*temperature, 300.0]), rel=0.05)
        assert (run.seed, run.length, run.about["stopped"]) == (3000 + k, pytest.approx(0.04), "")
    assert not list(tmp_path.glob("*.segments"))


def test_a_killed_run_goes_on(gap, tmp_path, monkeypatch):
    about = {"model": "GAP", "generation": 0, "settings": vars(SHORT)}
    whole = run_replicas(crystal(), gap, SHORT, R, tmp_path / "whole-x3-3.npz", about, progress=False)
    write, left = replica_run.write_arrays, [2]

    def killed(path, *args, **arrays):
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        write(path, *args, **arrays)

    monkeypatch.setattr(replica_run, "write_arrays", killed)
    with pytest.raises(KeyboardInterrupt):
        run_replicas(crystal(), gap, SHORT, R, tmp_path / "again-x3-3.npz", about, progress=False)
    assert len(list((tmp_path / "again-x3-3.npz.segments").glob("*.npz"))) == 2
    monkeypatch.setattr(replica_run, "write_arrays", write)
    shutil.copytree(tmp_path / "again-x3-3.npz.segments", tmp_path / "other-x3-3.npz.segments")
    with pytest.raises(ValueError, match="belongs to a run of other atoms, model or settings: remove"):
        run_replicas(crystal(), gap, SHORT, R, tmp_path / "other-x3-3.npz", {**about, "model": "B"}, progress=False)
    again = run_replicas(crystal(), gap, SHORT, R, tmp_path / "again-x3-3.npz", about, progress=False)
    for a, b in zip(mobility.load_batch(whole), mobility.load_batch(again), strict=True):
        np.testing.assert_allclose(a.paths, b.paths, atol=mobility.GRID + 1e-9)
        assert a.about["measured"] == pytest.approx(b.about["measured"], rel=1e-6)


def test_a_replica_ends_where_it_is_no_longer_sound(gap, tmp_path, monkeypatch):
    """With a limit that thermal motion passes sooner or later; the others go on."""
    about = {"model": "GAP", "generation": 0, "settings": vars(SHORT)}
    whole = run_replicas(crystal(), gap, SHORT, R, tmp_path / "whole-x3-3.npz", about, progress=False)
    engine = engine_of(gap, SHORT)
    _, frames = engine.advance(engine.start(), 8)
    limit = np.sort(frames.bond.max(0))[1] - 1e-6  # two of three pass it
    monkeypatch.setattr(replica_run, "WHOLE", mobility.Trust(bond=float(limit), contact=0.0, force=1e3))
    path = run_replicas(crystal(), gap, SHORT, R, tmp_path / "cut-x3-3.npz", about, progress=False)
    first = np.array([np.argmax(b > limit) + 1 if (b > limit).any() else 9 for b in frames.bond.T])  # the start counts
    assert [len(run.time) for run in mobility.load_batch(path)] == first.tolist()
    for run, all_of_it in zip(mobility.load_batch(path), mobility.load_batch(whole), strict=True):
        np.testing.assert_array_equal(run.paths, all_of_it.paths[:len(run.time)])
        assert ("P-S bond between atoms" in run.about["stopped"]) == (len(run.time) < 9)


def test_a_replica_that_comes_apart_stops_and_leaves_the_others_alone(gap, monkeypatch):
    """At the step where a force passes the limit, seen with ASE; from the next frame on it is where it began."""
    settings = dynamics.MDSettings(20, 600.0, 1.0, "nve", every=5, segment=20, seed=3)
    positions, largest = [], []
    for k in range(R):
        atoms = crystal()
        atoms.set_momenta(initial_momenta(atoms, settings, R)[k])
        atoms.calc = gap
        md = VelocityVerlet(atoms, 1.0 * units.fs)
        md.attach(lambda atoms=atoms: positions.append(atoms.positions.copy()))
        md.attach(lambda atoms=atoms: largest.append(np.linalg.norm(atoms.get_forces(), axis=1).max()))
        md.run(20)
    positions, largest = np.reshape(positions, (R, 21, 42, 3)), np.reshape(largest, (R, 21))
    limit = np.sort(largest.max(1))[:2].mean()  # two of three pass it
    monkeypatch.setattr(replica_run, "WHOLE", mobility.Trust(bond=1e3, contact=0.0, force=limit))
    engine = engine_of(gap, settings)
    carry, frames = engine.advance(engine.start(), 4)
    for k in range(R):
        stop = int(np.argmax(largest[k] > limit)) if largest[k].max() > limit else None
        last = 3 if stop is None else max(stop - 1, 0) // 5  # the frame at that step or after it
        expected = [positions[k, 5 * (t + 1) if stop is None or 5 * (t + 1) < stop else stop] for t in range(last + 1)]
        expected += [crystal().positions] * (3 - last)
        np.testing.assert_allclose(frames.x[:, k][:, engine.replicas.rank], expected, atol=1e-8)
        assert bool(carry.alive[k]) == (stop is None)
        assert engine.sound(frames)[:, k].tolist()[:last + 1] == [True] * last + [stop is None]
    assert np.asarray(carry.alive).sum() == 1
    assert not np.asarray(carry.p)[~np.asarray(carry.alive)].any()


def test_segments_serve_runs_of_other_lengths(gap, tmp_path, monkeypatch):
    """What a longer run has left when it was killed is the beginning of a shorter one, and the other way round."""
    longer = replace(SHORT, steps=60)
    about = {"model": "GAP", "generation": 0}
    whole = run_replicas(crystal(), gap, SHORT, R, tmp_path / "whole-x3-3.npz", {**about, "settings": vars(SHORT)},
                         progress=False)
    keep = replica_run._keep
    for first, second in ((longer, SHORT), (SHORT, replace(SHORT, steps=25))):
        path = tmp_path / f"{second.steps}-x3-3.npz"
        monkeypatch.setattr(replica_run, "_keep", None)  # killed when all segments were there
        with pytest.raises(TypeError):
            run_replicas(crystal(), gap, first, R, path, {**about, "settings": vars(first)}, progress=False)
        monkeypatch.setattr(replica_run, "_keep", keep)
        run_replicas(crystal(), gap, second, R, path, {**about, "settings": vars(second)}, progress=False)
        for run, expected in zip(mobility.load_batch(path), mobility.load_batch(whole), strict=True):
            assert len(run.time) == second.steps // 5 + 1
            np.testing.assert_allclose(run.paths, expected.paths[:len(run.time)], atol=mobility.GRID + 1e-9)


def test_the_command_makes_batches_and_mixes_nothing(gap, tmp_path, monkeypatch, capsys):
    for name in ("gap", "es-gap"):
        esgap.save_model(tmp_path / f"{name}.npz", gap)
    monkeypatch.setattr(replica_run, "WHOLE", mobility.Trust(bond=1e3, contact=0.0, force=1e9))
    # the potential is a poor one
    command = ["conductivity", "--models", str(tmp_path / "gap.npz"), str(tmp_path / "es-gap.npz"), "--ps", "0.2",
               "--seeds", "4", "--replicas", "2", "--temperatures", "300", "--folder", str(tmp_path / "runs")]
    assert main(command) == 0
    assert "GAP of generation None, seed 4000: 0.2 ps" in capsys.readouterr().out
    runs = mobility.load_replicas(300.0, folder=tmp_path / "runs")
    assert {label: [r.seed for r in of] for label, of in runs.items()} == {
        "GAP": [4000, 4001], "ES-GAP": [104000, 104001]}
    assert mobility.load_all(300.0, folder=tmp_path / "runs").keys() == runs.keys()
    assert mobility.stored_cells(300.0, folder=tmp_path / "runs") == [(1, 1, 1)]
    assert mobility.ended([300.0], tmp_path / "runs") == [(300.0, {"GAP": (0, pytest.approx(4e-4)),
                                                                 "ES-GAP": (0, pytest.approx(4e-4))})]
    assert mobility.batch_line(runs["GAP"]).startswith("GAP of generation None, 2 runs at once: up to 0.2 ps at ")
    assert mobility.batch_line([]) == ""
    with pytest.raises(FileNotFoundError, match="no runs of GAP at 300 K"):
        mobility.load_runs(300.0, folder=tmp_path / "runs")
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").glob("*.npz")}
    assert main(command) == 0
    assert kept == {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").glob("*.npz")}
    for options, message in ((["--replicas", "0"], "--replicas is 0; give 1, or how many are to run at once"),
                             (["--timestep", "1"], "is of another model or has other settings: give --replace"),
                             (["--ensemble", "nve"], "replicas begin in the crystal and need a thermostat")):
        assert main([*command, *options]) == 2
        assert message in capsys.readouterr().err
    header, _ = store.read_arrays(next(iter(kept)))
    assert header["made_by"]["seed"] in (4, 104)
    assert mobility_run.BETWEEN * 4 == 200.0
