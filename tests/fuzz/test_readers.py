"""What `python -m tests.fuzz` does at length, in short."""

import random

import pytest

from tests.fuzz import __main__ as fuzz
from tests.fuzz import readers


@pytest.mark.parametrize("reader", list(readers.READERS))
def test_mutated_inputs_are_read_or_refused_by_an_error_of_our_own(reader):
    seed = random.randrange(10**6)
    outcome = fuzz.run(reader, 500, seed)
    if outcome.failures:
        pytest.fail(str(outcome), pytrace=False)
    assert outcome.read > 10
    assert sum(outcome.refused.values()) > 10


def test_what_fails_is_counted_and_shown_with_its_input(monkeypatch, capsys):
    class Careless:
        def mutated(self, draw):
            return b"%d" % draw.randrange(100)

        def read(self, content):
            if content.startswith(b"7"):
                raise KeyError(content)

    monkeypatch.setitem(readers.READERS, "careless", Careless)
    assert fuzz.main(["careless", "--inputs", "200", "--seed", "3"]) == 1
    outcome = fuzz.run("careless", 200, 3)
    assert 0 < len(outcome.failures) == 200 - outcome.read
    failure = outcome.failures[0]
    again = fuzz.run("careless", 1, 3, first=failure.number)
    assert again.failures == (failure,)
    assert f"input {failure.number}: KeyError" in capsys.readouterr().out
