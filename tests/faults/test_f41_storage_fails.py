"""Storage fails at any one of the calls of a phase that change the disk.

From the N-th call on all of them fail, or only that one: as on a full disk, one that became
read-only or one that is gone; then there is room again. Every end is typed, names a path and says
by its exit code whether trying again may help; the old state is whole and the rerun equal. In
training and its export every call fails once; of the steps some do, drawn with a seed, and all of
them in `python -m tests.soak failures`.

Fails when any of these calls is made without `storage.storage_errors` around it, in a way that
leaves half a file, when a StorageError of a full disk is not `retryable` or loses that on its way
from another process, when `storage.errors_of_libraries` does not know what TensorFlow says, or when
a step that is run again takes its own finished artifact for another's.
"""

import random

import pytest

from tests.faults.disk import CODES, Act, Plan
from tests.faults.every_call import train_and_export
from tests.faults.phases import PHASES, attempt

SAMPLES = 4
"""Calls that fail in each step."""


def test_a_rerun_ends_with_the_same_weights_whichever_call_failed(tmp_path):
    assert train_and_export(tmp_path, CODES) > 40


@pytest.mark.parametrize("phase", PHASES)
def test_step_ends_typed_and_its_rerun_is_equal_whichever_call_failed(phases, phase):
    draw, count = random.Random(phase), len(phases.calls[phase])
    for sample in range(SAMPLES):
        plan = Plan(
            act=Act.FAIL,
            call=1 + int((sample + draw.random()) * count / SAMPLES),
            times=draw.choice([0, 1]),
            code=CODES[(sample + PHASES.index(phase)) % len(CODES)],
        )
        _, faults = attempt(phases, phase, plan)
        assert not faults, (plan, faults)


@pytest.mark.parametrize("phase", PHASES)
def test_step_that_fails_after_it_committed_is_done_when_it_is_run_again(phases, phase):
    plan = Plan(act=Act.FAIL, call=1, times=1, path="executor_output.json")
    end, faults = attempt(phases, phase, plan)
    assert (end.code, faults) == (75, [])
