"""What is quoted in a text is a finite number or a word that follows from one."""
import re

import numpy as np
import pytest

from esgap import prose


@pytest.fixture
def quoted(monkeypatch):
    seen = {}
    monkeypatch.setattr(prose, "glue", lambda name, value, display: seen.update({name: value}))
    return seen


def test_numbers_lose_their_numpy_type_and_words_stay(quoted):
    prose.quote(barrier=np.float64(0.25), n=np.int64(3), verdict="lower than")
    assert quoted == {"barrier": 0.25, "n": 3, "verdict": "lower than"}
    assert [type(v) for v in quoted.values()] == [float, int, str]


def test_only_finite_numbers_are_quoted():
    with pytest.raises(ValueError, match="barrier is nan: nothing to quote in the text"):
        prose.quote(barrier=np.float64("nan"))


@pytest.mark.parametrize(("difference", "error", "words"), [
    (-2.0, 1.0, "lower than"), (2.0, 1.0, "higher than"), (-1.99, 1.0, "not distinguishable from"),
    (1.99, 1.0, "not distinguishable from"), (-1e-9, 0.0, "lower than"), (0.0, 0.0, "not distinguishable from"),
])
def test_two_standard_errors_decide(difference, error, words):
    assert prose.compared(difference, error) == words


def test_words_of_ones_own():
    assert prose.compared(0.3, 0.1, lower="less", same="as much", higher="more") == "more"


@pytest.mark.parametrize(("difference", "error"), [(np.nan, 1.0), (1.0, np.inf), (1.0, -0.1)])
def test_what_cannot_be_compared(difference, error):
    with pytest.raises(ValueError, match=re.escape(f"difference {difference} +- {error} cannot be put into words")):
        prose.compared(difference, error)
