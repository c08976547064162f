"""Claims and literature values are complete, and each refers to something that exists."""
import re

import pytest

from esgap import claims
from esgap.store import data_path


def test_every_claim_is_whole():
    all_claims = claims.load_claims()
    assert len({c.id for c in all_claims}) == len(all_claims) >= 15
    for c in all_claims:
        assert c.text.endswith(".")
        assert re.fullmatch(r"\d\d-[a-z-]+", c.chapter)
        assert (c.value is None) == (c.unit == "")
    assert claims.claim("frenkel-gap").value == 0.6
    with pytest.raises(KeyError, match=r"no claim 'frenkel' in data/paper\.toml; there are locality-size"):
        claims.claim("frenkel")


def test_table_links_chapters_that_exist():
    table = claims.claims_table()
    assert table.count("\n") == len(claims.load_claims()) + 1
    for name in re.findall(r"\]\((.+?)\)", table):
        assert (data_path().parent / "chapters" / name).exists()


def test_every_reference_is_in_the_bibliography():
    entries = set(re.findall(r"@\w+\{(\w+),", data_path("references.bib").read_text(encoding="utf-8")))
    for file in ("literature.toml", "paper.toml"):
        keys = re.findall(r'^key = "(\w+)"', data_path(file).read_text(encoding="utf-8"), re.MULTILINE)
        assert keys
        assert set(keys) <= entries


def test_unknown_table_is_named():
    with pytest.raises(KeyError, match=r"no table 'bonds' in data/literature\.toml; there are structure"):
        claims.literature("bonds")
