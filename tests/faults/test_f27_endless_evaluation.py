"""Fault 27: an evaluation that would never end is refused; one shorter than asked is fine.

Fails when an input that repeats for ever is evaluated without steps, or when a metric counts
batches that were not there.
"""

import pytest

from estimator_lib.core.errors import EstimatorLibError
from tests.contract.test_estimator import data, estimator


def test_endless_input_without_steps_is_refused_at_once(tmp_path):
    made = estimator(tmp_path)
    made.train(data(), steps=1)
    with pytest.raises(EstimatorLibError, match="steps") as caught:
        made.evaluate(data(epochs=None))
    assert caught.value.exit_code == 2
    assert made.evaluate(data(epochs=None), steps=4)["loss"] == pytest.approx(
        made.evaluate(data())["loss"]
    )


def test_input_shorter_than_steps_is_evaluated_whole(tmp_path):
    made = estimator(tmp_path)
    made.train(data(), steps=1)
    assert made.evaluate(data(), steps=1000) == made.evaluate(data())
