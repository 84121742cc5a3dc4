"""Fault 26: a checkpoint that goes or changes during an evaluation: the numbers are of one model.

Fails when an evaluation reads its checkpoint more than once, or tells another step than it read.
"""

import pytest

import estimator_lib
from tests.contract.test_estimator import data, estimator


class Meddles(estimator_lib.Hook):
    """Does something after the first batch."""

    def __init__(self, act):
        self._act = act

    def after_step(self, context):
        act, self._act = self._act, None
        if act is not None:
            act()


@pytest.mark.parametrize("change", ["deleted", "replaced", "advanced"])
def test_evaluation_is_of_the_checkpoint_it_began_with(tmp_path, change):
    work = tmp_path / "work"
    made = estimator(work, save_checkpoints_steps=2)
    made.train(data(epochs=None), max_steps=4)
    right = estimator(work).evaluate(data(batch=20))
    acted = []

    def act():
        acted.append(change)
        if change == "advanced":
            estimator(work).train(data(epochs=None), max_steps=6)
            return
        for path in work.glob("model.ckpt-4.*"):
            path.unlink() if change == "deleted" else path.write_bytes(b"another one")

    found = estimator(work).evaluate(data(batch=20), hooks=[Meddles(act)])
    assert acted == [change]
    assert found == right
    if change == "advanced":
        assert estimator(work).evaluate(data(batch=20))["global_step"] == 6
