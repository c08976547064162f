"""What README, CHANGELOG and the metadata say agrees with what is stored, and with each other."""
import re
import tomllib
from pathlib import Path

import numpy as np
import yaml

import electrostatics
from esgap import born, conductivity, frenkel_dft, frenkel_summary, mobility
from esgap.store import data_path, read_record

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_times_of_the_baseline_are_those_that_were_measured():
    record = read_record(data_path("runs/benchmark-electrostatics.json"))
    assert electrostatics.table(record["rows"]) in README
    rounds, = re.findall(r"--rounds (\d+)", record["made_by"]["command"])
    assert f"medians of {rounds} rounds" in README
    assert record["cpus"] == 2
    assert "a two-core virtual machine" in README


def test_speedups_in_words_follow_from_the_table():
    rows = read_record(data_path("runs/benchmark-electrostatics.json"))["rows"]
    of = {(r["model"], r["atoms"], r["program"][:6]): (r["wall_ms"], r["cpu_ms"]) for r in rows}

    def ratio(model, atoms):
        return np.divide(of[model, atoms, "LAMMPS"], of[model, atoms, "esgap"])

    wide, compact = (np.array([ratio(model, n)[0] for n in (42, 336, 504)]) for model in (
        "QEq clouds", "compact clouds, 2 × QEq"))
    text = " ".join(README.split())
    assert f"the baseline is {wide.min():.0f} to {wide.max():.0f} times faster than LAMMPS" in text
    assert f"with compact clouds {compact.min():.1f} to {compact.max():.1f} times. Both use one core." in text
    wall, cpu = np.array([times for (_, _, program), times in of.items() if program in ("LAMMPS", "esgap")]).T
    np.testing.assert_allclose(cpu, wall, rtol=0.05)


def test_it_opens_with_one_line_for_each_thing_to_know():
    opening = README[:README.index("Two commands")]
    assert re.findall(r"^- \*\*(\w+)\*\*", opening, re.MULTILINE) == [
        "Asked", "Found", "Read", "Rerun", "Sweep", "Reuse", "Recompute"]
    shown = re.sub(r"<!--.*?-->\n", "", opening, flags=re.DOTALL).split("\n\n", 1)[1]
    assert len(shown.strip().splitlines()) <= 12


def test_one_version_is_told_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    notes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (\S+) - (unreleased|\d{4}-\d\d-\d\d)$", notes, re.MULTILINE)
    assert sections[0][0] == version
    assert "unreleased" not in [date for _, date in sections[1:]]


def test_energies_and_the_ratio_in_words_are_those_of_the_stored_results():
    sweeps = frenkel_summary.shipped()
    file, blocks = data_path("dft/frenkel.xyz"), data_path("dft/frenkel-folded.xyz")
    relaxed, held = (frenkel_dft.missing(sweeps, frenkel_dft.dft_energies(file, fixed, blocks), fixed)
                     for fixed in (False, True))
    less = " and less ".join(f"{m} {'is ' if m == 'GAP' else ''}{v:.2f} ± {e:.2f}{' eV' if m == 'GAP' else ''}"
                             for m, (v, e) in sorted(held[2].items(), reverse=True))
    own = {m: f"{s.formation_energy(*relaxed[:2]):.2f} ± {s.formation_error(*relaxed[:2]):.2f}"
           for m, s in sweeps.items()}
    dft = sweeps["GAP"].formation_energy(*relaxed[:2]) + relaxed[2]["GAP"][0]
    runs = mobility.load_all()
    ratio = conductivity.ratio(*(conductivity.conductivities(of).nernst_einstein for of in runs.values()))
    told = re.sub(r"\s+", " ", README)
    assert f"DFT less {less}." in told
    _, repeat, frames = frenkel_summary.read_story(data_path("runs/frenkel-es-gap.xyz"))
    z = born.load_born_charges(data_path("runs/born.json")).repeated(42, int(np.prod(repeat)))
    fixed, of_born, bar = born.field_dipoles(z, sweeps["ES-GAP"].charges, frames["0"], frames["perfect"])
    more = of_born @ fixed / (fixed @ fixed)
    assert f"with the Born charges of DFT {more:.1f} ± {bar / np.linalg.norm(fixed):.1f} times as much." in told
    assert f"DFT has the pair at {dft:.2f} eV, GAP at {own['GAP']} and ES-GAP at {own['ES-GAP']}" in told
    counts = f"{len(runs['GAP'])} and {len(runs['ES-GAP'])} runs at 800 K"
    assert f"({counts}: ratio {ratio.median:.2f} ± {ratio.draws.std():.2f})" in told
