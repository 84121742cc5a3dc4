"""Storage fails at any one of the calls of a phase that change the disk.

From the N-th call on all of them fail, or only that one: as on a full disk, one that became
read-only or one that is gone; then there is room again. Every end is typed, names a path and says
by its exit code whether trying again may help; the old state is whole and the rerun equal. In
training and its export every call fails once; of the steps some do, drawn with a seed, and all of
them in `python -m tests.soak failures`.

Fails when any of these calls is made without `storage.storage_errors` around it, in a way that
leaves half a file, when a StorageError of a full disk is not `retryable` or loses that on its way
from another process, when `storage.library_errors` does not know what TensorFlow says, or when a
step that is run again takes its own finished artifact for another's.
"""

import random
import shutil

import numpy as np
import pytest

import estimator_lib
from estimator_lib.core.errors import EstimatorLibError
from estimator_lib.training import checkpoints, history
from tests.contract.test_estimator import X, data, linear
from tests.faults.disk import CODES, PASSING, Act, Disk, Plan
from tests.faults.phases import PHASES, attempt

RECEIVER = estimator_lib.export.build_raw_serving_input_receiver_fn({"x": X[:1]})
FIRST, LAST = 2, 4
SAMPLES = 4
"""Calls that fail in each step."""


def check_nothing_is_half_written(folder, exports):
    directory = checkpoints.CheckpointDirectory(str(folder))
    for step in directory.steps():
        assert checkpoints.load(directory.prefix(step)).step == step
    assert directory.load_latest().step in (FIRST, LAST)
    lines = (folder / history.HISTORY).read_text().splitlines()
    assert len(history.read(folder / history.HISTORY)) == len(lines)
    found = [path for path in exports.iterdir() if not path.name.startswith(".")]
    for version in found:
        assert "y" in estimator_lib.export.load_model(version).predict({"x": X[:1]})
    return len(found)


def test_a_rerun_ends_with_the_same_weights_whichever_call_failed(tmp_path, monkeypatch):
    work, start, exports = (tmp_path / name for name in ("work", "start", "exports"))
    exports.mkdir()
    config = estimator_lib.RunConfig(save_checkpoints_steps=2, log_step_count_steps=2)
    model = estimator_lib.Estimator(linear, str(work), config)
    model.train(data(None), max_steps=FIRST)
    shutil.copytree(work, start)

    def begin_anew():
        shutil.rmtree(work)
        shutil.copytree(start, work)

    def train():
        model.train(data(None), max_steps=LAST)

    def export():
        model.export_saved_model(str(exports), RECEIVER)

    def fails_at_any_call(run, prepare, check, codes):
        prepare()
        disk.begin(Plan())
        run()
        count = disk.calls
        assert count > 20
        for call in range(1, count + 1):
            code = codes[call % len(codes)]
            prepare()
            disk.begin(Plan(act=Act.FAIL, call=call, code=code))
            error = ends(run)
            disk.begin(Plan())
            if error is not None:
                assert error.exit_code == (75 if code in PASSING else 2), (call, error.message)
                assert str(tmp_path) in error.message, (call, error.message)
            check()

    def ends(run):
        """Runs; returns the typed error it ended with, or None: tidying up may be left undone."""
        try:
            run()
        except EstimatorLibError as error:
            return error
        return None

    def check_training():
        check_nothing_is_half_written(work, exports)
        train()
        for name, value in zip(("w", "b"), weights, strict=True):
            np.testing.assert_array_equal(model.get_variable_value(name), value)

    seen = [0]

    def check_exports():
        found = check_nothing_is_half_written(work, exports)
        assert found - seen[0] in (0, 1)
        seen[0] = found

    train()
    weights = [model.get_variable_value(name) for name in ("w", "b")]
    disk = Disk(setattr_=monkeypatch.setattr, here=True)
    fails_at_any_call(train, begin_anew, check_training, CODES)
    fails_at_any_call(export, lambda: None, check_exports, CODES)
    export()
    check_nothing_is_half_written(work, exports)


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
