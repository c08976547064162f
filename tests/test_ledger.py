"""Verdicts follow from statements, statements from numbers, and numbers from what is stored."""
import re

import numpy as np
import pytest

import esgap
from esgap import found_potentials, frenkel_compare, frenkel_summary, ledger, store
from esgap.claims import claim, load_claims
from esgap.verdicts import FAILS, HOLDS, UNDECIDED, Number, Verdict, decided


@pytest.fixture(scope="module")
def verdicts():
    return {v.claim.id: v for v in ledger.ledger()}


@pytest.mark.parametrize(("found", "verdict"), [
    ([], "not yet tested"), ([HOLDS, HOLDS], "reproduced"), ([HOLDS, FAILS], "partly"), ([HOLDS, UNDECIDED], "partly"),
    ([FAILS, FAILS], "not"), ([FAILS, UNDECIDED], "not"), ([UNDECIDED, UNDECIDED], "not testable")])
def test_statements_make_a_verdict(found, verdict):
    assert verdict in ledger.VERDICTS
    assert Verdict(claim("conclusion"), statements=tuple(("x", holds) for holds in found)).verdict == verdict


@pytest.mark.parametrize(("difference", "error", "holds"), [
    (2.0, 1.0, HOLDS), (-2.0, 1.0, FAILS), (1.9, 1.0, UNDECIDED), (0.0, 0.0, UNDECIDED), (1.0, np.nan, UNDECIDED)])
def test_two_standard_errors_decide(difference, error, holds):
    assert decided(np.float64(difference), error) is holds


def test_numbers_print_two_digits_of_their_error():
    assert str(Number("D", 0.123456, 0.0123, "eV")) == "D: 0.123 ± 0.012 eV"
    assert str(Number("n", -123.4, 23.4)) == "n: -123 ± 23"


def test_every_claim_has_a_row(verdicts):
    assert list(verdicts) == [c.id for c in load_claims()]
    tested = {name for name, v in verdicts.items() if v.verdict != "not yet tested"}
    assert tested <= set(ledger.TESTS)
    # no field is stored yet, nor two hops with a saddle point
    assert set(ledger.TESTS) - tested <= {"frenkel-field", "frenkel-gap-field", "barrier-transfer", "barrier-order"}
    table = ledger.ledger_table(verdicts.values())
    assert table.count("\n") == 1 + len(verdicts)
    assert len(set(re.findall(r"(?<=\()\S+\.ipynb(?=\))", table))) >= 3
    for name in re.findall(r"\]\((\S+\.ipynb)\)", table):
        assert (esgap.data_path().parent / "chapters" / name).exists()
    assert table.count("(planned)") == sum(
        not (esgap.data_path().parent / "chapters" / f"{c.chapter}.ipynb").exists() for c in load_claims())
    for v in verdicts.values():
        assert (v.verdict == "not yet tested") == (not v.numbers) == (not v.command)
        assert v.verdict in str(v)
        assert all(np.isfinite(n.value) for n in v.numbers)
    assert ledger.statements_list(verdicts.values()).count("\n- ") == len(tested) - 1


def test_a_missing_result_is_not_yet_tested(monkeypatch):
    monkeypatch.setitem(ledger.TESTS, "conclusion", lambda: esgap.read_frames("no such file"))
    assert {v.claim.id: v.verdict for v in ledger.ledger()}["conclusion"] == "not yet tested"


def test_sulfur_charges_are_those_of_the_labels(verdicts):
    frames = esgap.read_frames(esgap.data_path("dft/gen0.xyz"))
    near = frames[0].get_all_distances(mic=True) < 2.6  # A
    n_bonds = near[:, frames[0].symbols == "P"].sum(1) * (frames[0].symbols == "S")
    hirshfeld = np.array([a.arrays["hirshfeld"] for a in frames])
    bridging, terminal, difference = (n.value for n in verdicts["sulfur-charges"].numbers)
    assert abs(bridging - hirshfeld[:, n_bonds == 2].mean()) < 1e-12
    assert abs(terminal - hirshfeld[:, n_bonds == 1].mean()) < 1e-12
    assert abs(difference - (bridging - terminal)) < 1e-12


def test_locality_numbers_belong_together(verdicts):
    size = [n.value for n in verdicts["locality-size"].numbers]
    assert size[0] > size[1] > 0  # less is left farther away
    changes = {n.what: n.value for n in verdicts["baseline-locality"].numbers}
    assert len(changes) == 6
    assert min(changes.values()) > -100


@pytest.mark.parametrize(("before", "now", "holds"), [(100, 99, HOLDS), (100, 80, FAILS), (100, 95, UNDECIDED),
                                                      (100, 101, HOLDS)])
def test_errors_have_converged_if_a_generation_changes_them_by_less_than_a_twentieth(before, now, holds, monkeypatch):
    both = {m: {"all": 1e-3 * now, "energy": now} for m in ("GAP", "ES-GAP")}
    error = {m: {"all": 1e-3, "energy": 1.0} for m in both}
    step = {m: {"all": 1e-3 * (now - before), "energy": now - before} for m in both}
    entry = {"rmse": both, "error": error, "step": step, "step_error": error}
    monkeypatch.setattr(found_potentials, "read_record", lambda path: {
        "generations": [{"generation": 6, "sets": {"test-800K": entry}}]} if path.name == "learning.json" else
        store.read_record(path))
    found = found_potentials.convergence()
    assert [h for text, h in found.statements if "falls" in text] == [holds] * 4
    assert found.numbers[0].value == pytest.approx(now - before)
    assert [h for text, h in found.statements if "below" in text] == [FAILS] * 2  # 0.1 eV/A is more


def test_frenkel_numbers_are_those_of_the_stored_sweeps(verdicts):
    sweeps = frenkel_summary.shipped()
    found = frenkel_compare.largest(sweeps)
    assert verdicts["frenkel-es-gap"].numbers[0].value == pytest.approx(np.mean(found.es_gap))
    gap, difference, held, _ = (n for n in verdicts["frenkel-gap"].numbers if not n.what.startswith("DFT"))
    assert gap.value == pytest.approx(np.mean(found.gap))
    assert difference.error == pytest.approx(np.std(found.es_gap - found.gap, ddof=1) / np.sqrt(len(found.pairs)))
    # with all else held, theory leaves no choice: the charge of lithium squared
    assert held.value == pytest.approx(sweeps["ES-GAP"].charges["Li"] ** 2, abs=4 * held.error + 0.01)
    if frenkel_summary.curves(sweeps["GAP"]):
        assert verdicts["frenkel-gap-field"].statements == (("no response", HOLDS),)
    if curves := frenkel_summary.curves(sweeps["ES-GAP"], frenkel_summary.largest_swept(sweeps["ES-GAP"])):
        lowest = min(c.out[c.intact].min() for c in curves)
        assert verdicts["frenkel-field"].numbers[0].value == pytest.approx(lowest)


def test_what_the_readme_says_was_found_rests_on_verdicts_that_stand(verdicts):
    """Its words carry no numbers; the comment below them names the verdicts. If this fails, reword both."""
    text = (esgap.data_path().parent / "README.md").read_text(encoding="utf-8")
    rests_on = re.search(r"<!-- rests on: (.*?) -->", text, re.DOTALL).group(1)
    named = dict(re.split(r":\s+", part, maxsplit=1) for part in re.split(r";\s+", rests_on))
    assert len(named) >= 6
    assert {name: verdicts[name].verdict for name in named} == named
