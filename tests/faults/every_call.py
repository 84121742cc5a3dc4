"""A training and its export in this process, with each call that changes the disk failing once."""

import shutil

import numpy as np
import pytest

import estimator_lib
from estimator_lib.core.errors import EstimatorLibError
from estimator_lib.training import checkpoints, history
from tests.contract.test_estimator import X, data, linear
from tests.faults.disk import PASSING, Act, Disk, Plan

RECEIVER = estimator_lib.export.build_raw_serving_input_receiver_fn({"x": X[:1]})
FIRST, LAST = 2, 4


def check_nothing_is_half_written(folder, exports, seen):
    """Refuses a checkpoint, a history, a version that is not whole; adds versions to `seen`."""
    directory = checkpoints.CheckpointDirectory(str(folder))
    for step in directory.steps():
        assert checkpoints.load(directory.prefix(step)).step == step
    assert directory.load_latest().step in (FIRST, LAST)
    lines = (folder / history.HISTORY).read_text().splitlines()
    assert len(history.read(folder / history.HISTORY)) == len(lines)
    found = {path for path in exports.iterdir() if not path.name.startswith(".")}
    for version in found - seen:
        assert "y" in estimator_lib.export.load_model(version).predict({"x": X[:1]})
    seen |= found


def train_and_export(root, codes):
    """Makes every call fail with one of `codes`, in turn; returns how many calls there were.

    Raises:
        AssertionError: an end is not typed, the old state not whole, or the rerun not equal.
    """
    work, start, exports = (root / name for name in ("work", "start", "exports"))
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

    def fails_at_any_call(run, prepare, check):
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
                assert str(root) in error.message, (call, error.message)
            check()
        return count

    def ends(run):
        """Runs; returns the typed error it ended with, or None: tidying up may be left undone."""
        try:
            run()
        except EstimatorLibError as error:
            return error
        return None

    def check_training():
        check_nothing_is_half_written(work, exports, seen)
        train()
        for name, value in zip(("w", "b"), weights, strict=True):
            np.testing.assert_array_equal(model.get_variable_value(name), value)

    seen = set()

    def check_exports():
        before = len(seen)
        check_nothing_is_half_written(work, exports, seen)
        assert len(seen) - before in (0, 1)

    train()
    weights = [model.get_variable_value(name) for name in ("w", "b")]
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(setattr_=patch.setattr, here=True)
        calls = fails_at_any_call(train, begin_anew, check_training)
        calls += fails_at_any_call(export, lambda: None, check_exports)
    export()
    check_nothing_is_half_written(work, exports, seen)
    return calls
