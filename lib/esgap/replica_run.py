"""MD of many replicas at once (`replicas`), as `dynamics` runs one: a batch of trajectories as one compiled program.

Velocity Verlet after stochastic velocity rescaling (Bussi, Donadio, Parrinello, J. Chem. Phys. 126, 014101 (2007)),

    alpha^2 = c + (1 - c) Kbar/(N_f K) sum_k R_k^2 + 2 R_1 sqrt(c (1 - c) Kbar/(N_f K)),   c = exp(-dt/taut)

of each replica by itself; R_k: normal numbers that follow from seed, replica and step alone, so a run that is killed
goes on from its last segment as if nothing had been. A replica that comes apart stops and is put back where it began,
lest atoms that fall on each other ask for ever more room for neighbours. On an accelerator sums over neighbours have no
fixed order, and trajectories are reproduced as samples, not bit by bit. Of each replica what `mobility` needs is kept:
its ions, mean positions of the others, and up to which frame it was sound.
Units: A, fs, K, eV; momenta in ASE's units.
"""
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixCom
from ase.data import atomic_masses, atomic_numbers
from ase.md.velocitydistribution import thermalize_momenta
from tqdm import tqdm

from .dynamics import SKIN, Trajectory
from .mobility import GRID, WHOLE
from .replicas import Replicas
from .sampling import Trust
from .spheres import SHORTEST
from .stability import drift
from .store import only_writer, provenance, read_arrays, write_arrays
from .structures import ps_bonds


class Carry(NamedTuple):
    """What goes from step to step. Atoms are sorted as in `Replicas`."""

    x: jax.Array  # (R, n, 3) A
    p: jax.Array  # (R, n, 3)
    forces: jax.Array  # (R, n, 3) eV/A
    potential: jax.Array  # (R,) eV
    exchanged: jax.Array  # (R,) eV, put in by the thermostat
    table: tuple  # `replicas.Table`
    most: jax.Array  # (blocks,) neighbours that any atom has had
    alive: jax.Array  # (R,) whether a replica has been sound in all frames so far
    step: jax.Array
    temperature: jax.Array  # K; this and the seed are no part of the program, which serves for others, too
    seed: jax.Array


class Frame(NamedTuple):
    """What is recorded of a frame, by replica."""

    x: jax.Array  # (R, n, 3) A
    potential: jax.Array  # (R,) eV
    kinetic: jax.Array  # (R,) eV
    exchanged: jax.Array  # (R,) eV
    bond: jax.Array  # (R,) A, longest P-S bond of those in the beginning
    contact: jax.Array  # (R,) shortest contact as a fraction of those in `spheres.SHORTEST`
    force: jax.Array  # (R,) eV/A, largest


class Engine:
    """Compiled MD of `Replicas` with `dynamics.MDSettings`; atoms: where the P-S bonds are that should last."""

    def __init__(self, replicas, settings, atoms):
        self.replicas, self.settings = replicas, settings
        self.mass = jnp.asarray(atomic_masses[replicas.numbers])[:, None]
        bonds, symbols = ps_bonds(atoms), [Atoms([Z]).symbols[0] for Z in replicas.elements]
        self._atoms, self._home, self._limits = atoms, atoms.positions[replicas.order], WHOLE
        self._bonds = replicas.rank[bonds.i], replicas.rank[bonds.j], bonds.S @ replicas.cell
        self._shortest = np.array([[SHORTEST.get(a + b, SHORTEST.get(b + a, 0.0)) for b in symbols] for a in symbols])
        self._compiled = {}

    def start(self):
        """`Carry` at step 0: all replicas where the atoms are, each with momenta of its own at the temperature."""
        momenta = initial_momenta(self._atoms, self.settings, self.replicas.n_replicas)
        return self.begin(np.broadcast_to(self._home, momenta.shape), momenta[:, self.replicas.order])

    def begin(self, x, p, alive=None):
        """Positions and momenta (R, n, 3), sorted -> `Carry` at step 0. alive (R,): which replicas move, None: all."""
        alive = np.ones(len(x), bool) if alive is None else np.asarray(alive)
        x, p = (np.where(alive[:, None, None], new, old) for new, old in ((x, self._home), (p, 0.0)))
        table = self.replicas.table(x)
        potential, forces = jax.jit(self.replicas.energies_and_forces)(x, table, self.replicas.constants)
        s = self.settings
        return Carry(jnp.asarray(x), jnp.asarray(p), forces, potential, jnp.zeros(len(x)), table, table.count,
                     jnp.asarray(alive), *map(jnp.asarray, (0, float(s.temperature), s.seed)))

    def advance(self, carry, n_frames):
        """`n_frames` frames on, `settings.every` steps each -> `Carry`, `Frame`s (n_frames first), as numpy arrays.

        If an atom comes to have more neighbours than there are slots, the slots are made more and all is done again.
        """
        while True:
            key = self.replicas.widths, n_frames
            if key not in self._compiled:
                self._compiled[key] = jax.jit(lambda c, constants: jax.lax.scan(
                    lambda c, _: self._frame(c, constants), c, length=n_frames))
            new, frames = self._compiled[key](carry, self.replicas.constants)
            if (np.asarray(new.most) <= self.replicas.widths).all():
                return new, Frame(*map(np.asarray, frames))
            self.replicas.widths = self.replicas.wide_enough(new.most)
            carry = carry._replace(table=self.replicas.table(carry.x), most=jnp.zeros_like(new.most))

    def _frame(self, carry, constants):
        carry = jax.lax.fori_loop(0, self.settings.every, lambda _, c: self._step(c, constants), carry)
        frame = self.record(carry)
        alive = carry.alive & self.sound(frame)
        x, p = (jnp.where(alive[:, None, None], new, old) for new, old in ((carry.x, self._home), (carry.p, 0.0)))
        lost = (carry.alive & ~alive).any()  # their neighbours are others now
        table = jax.lax.cond(lost, self.replicas.table, lambda x: carry.table, x)
        return carry._replace(x=x, p=p, alive=alive, table=table), frame

    def sound(self, frame):
        """Whether replicas are to be trusted in `Frame`s of any number, like their bonds; nan is not."""
        limits = self._limits
        return (frame.bond <= limits.bond) & (frame.contact >= limits.contact) & (frame.force <= limits.force)

    def record(self, c):
        """`Frame` of a `Carry`."""
        i, j, shift = self._bonds
        bond = jnp.linalg.norm(c.x[:, j] - c.x[:, i] + shift, axis=2).max(1)
        force = jnp.sqrt((c.forces**2).sum(2).max(1))
        return Frame(c.x, c.potential, self._kinetic(c.p), c.exchanged, bond,
                     self.replicas.closeness(c.x, c.table, self._shortest), force)

    def _kinetic(self, p):
        return (p * p / (2 * self.mass)).sum((1, 2))

    def _step(self, c, constants):
        dt, r = self.settings.timestep * units.fs, self.replicas
        p, exchanged = self._thermostat(c) if self.settings.ensemble == "nvt" else (c.p, c.exchanged)
        moves = c.alive & ((c.forces**2).sum(2).max(1) <= self._limits.force**2)
        p = p + 0.5 * dt * c.forces
        x = jnp.where(moves[:, None, None], c.x + dt * p / self.mass, c.x)
        moved = ((x - c.table.made_for)**2).sum(2).max()
        table = jax.lax.cond(moved < (0.5 * r.skin)**2, lambda x: c.table, r.table, x)  # nan: anew
        potential, forces = r.energies_and_forces(x, table, constants)
        p = jnp.where(moves[:, None, None], p + 0.5 * dt * forces, c.p)
        return Carry(x, p, forces, potential, exchanged, table, jnp.maximum(c.most, table.count), c.alive,
                     c.step + 1, c.temperature, c.seed)

    def _thermostat(self, c):
        s, R, n = self.settings, *c.x.shape[:2]
        free = 3 * n - 3
        keys = jax.vmap(lambda k: jax.random.fold_in(jax.random.fold_in(jax.random.key(c.seed), k), c.step))(
            jnp.arange(R))
        noise = jax.vmap(lambda key: jax.random.normal(key, (free,)))(keys)
        kinetic, keep = jnp.where(c.alive, self._kinetic(c.p), 1.0), np.exp(-s.timestep / s.taut)
        share = (1 - keep) * 0.5 * units.kB * c.temperature / kinetic  # (1 - c) Kbar / (N_f K)
        squared = keep + share * (noise**2).sum(1) + 2 * noise[:, 0] * jnp.sqrt(keep * share)
        return c.p * jnp.sqrt(squared)[:, None, None], c.exchanged + (squared - 1) * kinetic


def initial_momenta(atoms, settings, n_replicas):
    """Momenta (R, n, 3) at the temperature, the centre of mass at rest; a replica's do not depend on their number."""
    out = []
    for k in range(n_replicas):
        a = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True, constraint=FixCom())
        thermalize_momenta(a, settings.temperature, rng=np.random.default_rng([settings.seed, k]))
        out.append(a.get_momenta())
    return np.array(out)


@dataclass(eq=False)
class Segment:
    """Consecutive frames, in the order of the atoms that the caller knows; (frames, R) unless stated."""

    ions: np.ndarray  # (frames, R, ions, 3) int32, steps of GRID, in the frame of the framework
    total: np.ndarray  # (R, n, 3) A, sum of all positions over the sound frames, in the same frame
    sound: np.ndarray  # whether the frame, and all before it, are to be trusted
    potential: np.ndarray
    kinetic: np.ndarray
    exchanged: np.ndarray
    bond: np.ndarray
    x: np.ndarray  # (R, n, 3), at the end
    p: np.ndarray
    last_exchanged: np.ndarray  # (R,)
    reasons: list  # (R,) why it is no longer sound, in words


def run_replicas(atoms, calculator, settings, n_replicas, output, about, element="Li", inputs=(), progress=True):
    """Run a batch from `atoms` (A) and keep it in `output` (.npz, read by `mobility.load_batch`).

    calculator: GAP or ES-GAP; settings: `dynamics.MDSettings`; about: what its record says, plain values that must be
    the same for a run that goes on; inputs: files whose hashes go there. Finished segments lie in `<output>.segments/`.
    """
    output, folder = Path(output), Path(f"{output}.segments")
    with only_writer(output):
        folder.mkdir(parents=True, exist_ok=True)
        engine = Engine(Replicas(atoms, calculator, n_replicas, SKIN), settings, atoms)
        carry = engine.start()
        first, segments, done = engine.record(carry), [], 0
        origin = _origin(atoms, element)
        segments.append(_segment(engine, Frame(*(np.asarray(v)[None] for v in first)), carry, atoms, origin,
                                 [""] * n_replicas))
        if segments[0].reasons[0]:
            raise ValueError(f"{segments[0].reasons[0]}; there is not even a first frame: start from other atoms")
        with tqdm(total=settings.steps, unit="step", disable=not progress, desc=output.stem) as bar:
            while done < settings.steps:
                path = folder / f"{done:09d}.npz"
                n = min(settings.segment, settings.steps - done) // settings.every
                if stored := _read(path, about, n):
                    segments.append(stored)
                    carry = None
                else:
                    carry = carry or _again(engine, segments[-1], done)
                    carry, frames = engine.advance(carry, n)
                    segments.append(_segment(engine, frames, carry, atoms, origin, segments[-1].reasons))
                    write_arrays(path, {**about, "reasons": segments[-1].reasons}, **_arrays(segments[-1]))
                done += n * settings.every
                bar.update(n * settings.every)
        _keep(segments, output, settings, atoms, element, origin[0], {**about, "made_by": provenance(
            inputs, settings.seed)})
        shutil.rmtree(folder)
    return output


def _again(engine, segment, step):
    """`Carry` where a stored segment has ended."""
    order = engine.replicas.order
    alive = [not reason for reason in segment.reasons]
    return engine.begin(segment.x[:, order], segment.p[:, order], alive)._replace(
        exchanged=jnp.asarray(segment.last_exchanged), step=jnp.asarray(step))


def _origin(atoms, element):
    """Ions; weights (n,) of the framework by mass; where its centre is, (3,) A."""
    ions = np.flatnonzero(atoms.numbers == atomic_numbers[element])
    weight = np.where(atoms.numbers == atomic_numbers[element], 0.0, atomic_masses[atoms.numbers])
    if len(ions) in (0, len(atoms)):
        raise ValueError(f"{len(ions)} of {len(atoms)} atoms are {element}; mobile ions and a framework are needed")
    return ions, weight / weight.sum(), weight @ atoms.positions / weight.sum()


def _segment(engine, frames, carry, atoms, origin, reasons):
    ions, weight, centre = origin
    rank = engine.replicas.rank
    x = frames.x[:, :, rank]
    x = x - (np.einsum("n,trnx->trx", weight, x) - centre)[:, :, None]
    sound = np.logical_and.accumulate(engine.sound(frames), 0) & np.array([not r for r in reasons])
    reasons = [old or ("" if sound[-1, k] else _reason(frames, int(np.argmin(sound[:, k])), k, atoms, rank))
               for k, old in enumerate(reasons)]
    at_end = [np.asarray(v)[:, rank] for v in (carry.x, carry.p)]
    return Segment(np.round(np.nan_to_num(x[:, :, ions]) / GRID).astype(np.int32),
                   np.where(sound[..., None, None], x, 0.0).sum(0), sound, frames.potential, frames.kinetic,
                   frames.exchanged, frames.bond, *at_end, np.asarray(carry.exchanged), reasons)


def _reason(frames, t, k, atoms, rank):
    """Why frame t of replica k is not to be trusted, in the words of `sampling.Trust`."""
    a = atoms.copy()
    a.positions = frames.x[t, k][rank]
    if not np.isfinite(a.positions).all():
        return "positions are not finite"
    a.calc = SinglePointCalculator(a, forces=np.zeros((len(a), 3)))  # on which atom the largest is was not recorded
    return WHOLE.watch(atoms)(a) or f"the largest force is {frames.force[t, k]:.1f} eV/A"


def _arrays(segment):
    return {name: value for name, value in vars(segment).items() if name != "reasons"}


def _read(path, about, n):
    """A stored `Segment` of n frames; None if there is none, or one of another length, as a run of other length leaves
    at its end. Segments of a longer or shorter run serve this one, too."""
    if not path.exists():
        return None
    header, arrays = read_arrays(path)
    kept = {**header, "settings": {**header["settings"], "steps": about["settings"]["steps"]}}
    if any(kept.get(name) != value for name, value in about.items()):
        raise ValueError(f"{path} belongs to a run of other atoms, model or settings: remove {path.parent}")
    return Segment(**arrays, reasons=header["reasons"]) if len(arrays["ions"]) == n else None


def _keep(segments, output, settings, atoms, element, ions, header):
    """Join the segments and write what `mobility.load_batch` reads."""
    join = {name: np.concatenate([vars(s)[name] for s in segments]) for name in
            ("ions", "sound", "potential", "kinetic", "exchanged", "bond")}
    time = np.arange(len(join["ions"])) * settings.every * settings.timestep
    frames, last = join["sound"].sum(0), segments[-1].reasons
    summary = [_health(join, k, n, time, settings, atoms) for k, n in enumerate(frames)]
    start = join["ions"][0]
    moved = np.diff(join["ions"], axis=0)
    moved[~join["sound"][1:]] = 0  # what is not to be trusted is not kept
    write_arrays(output, {**header, **{name: [s[name] for s in summary] for name in summary[0]}, "stopped": last},
                 start=start, moved=moved.astype(np.int16), time=time, frames=frames, ions=ions, numbers=atoms.numbers,
                 cell=atoms.cell.array, mean=(sum(s.total for s in segments) / frames[:, None, None]))


def _health(join, k, n, time, settings, atoms):
    """Measured temperature, drift and open bonds of the sound frames of replica k, as `mobility_run.keep` has them."""
    potential, kinetic, exchanged = (join[name][:n, k] for name in ("potential", "kinetic", "exchanged"))
    run = Trajectory(np.empty((n, 0, 3)), time[:n], potential, kinetic, potential + kinetic - exchanged, atoms.numbers,
                     atoms.cell.array, settings)
    try:
        slope = drift(run)
    except ValueError:  # too short to tell
        slope = None
    bond = join["bond"][:n, k]
    return {"measured": float(run.temperature[n // 10:].mean()), "drift": slope and slope.value,
            "drift_error": slope and slope.error, "opened": float((bond > Trust.bond).mean()),
            "longest": float(bond.max())}
