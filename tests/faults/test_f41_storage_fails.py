"""Storage fails at any one of the writes of a training and its export.

From the N-th write on nothing can be written, as on a full disk; then there is room again.
"""

import errno
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

import estimator_lib
from estimator_lib.core.errors import EstimatorLibError
from estimator_lib.training import checkpoints, history
from tests.contract.test_estimator import X, data, linear

RECEIVER = estimator_lib.export.build_raw_serving_input_receiver_fn({"x": X[:1]})
FIRST, LAST = 2, 4
OS_CALLS = ("replace", "rename", "fsync", "mkdir")


class Disk:
    """Counts writes, and refuses them from a given one on."""

    def __init__(self, monkeypatch):
        self.full_from = None
        self.writes = 0
        for name in OS_CALLS:
            monkeypatch.setattr(os, name, self._counted(getattr(os, name)))
        for owner, name in ((tf.train.Checkpoint, "write"), (tf.saved_model, "save")):
            monkeypatch.setattr(owner, name, self._counted(getattr(owner, name)))
        monkeypatch.setattr(checkpoints.time, "sleep", lambda seconds: None)

    def _counted(self, function):
        def call(*args, **kwargs):
            self.writes += 1
            if self.full_from is not None and self.writes >= self.full_from:
                raise OSError(errno.ENOSPC, "No space left on device")
            return function(*args, **kwargs)

        return call

    def fill_from(self, write):
        self.full_from, self.writes = write, 0


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


def test_a_rerun_ends_with_the_same_weights_whichever_write_failed(tmp_path, monkeypatch):
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

    def fails_at_any_write(run, prepare, check):
        prepare()
        disk.fill_from(None)
        run()
        count = disk.writes
        assert count > 5
        for write in range(1, count + 1):
            prepare()
            disk.fill_from(write)
            with pytest.raises((EstimatorLibError, OSError)):
                run()
            disk.fill_from(None)
            check()

    def check_training():
        check_nothing_is_half_written(work, exports)
        train()
        for name, value in zip(("w", "b"), weights, strict=True):
            np.testing.assert_array_equal(model.get_variable_value(name), value)

    def check_exports():
        # Only the last write comes after the rename that shows a version.
        assert check_nothing_is_half_written(work, exports) in (1, 2)

    train()
    weights = [model.get_variable_value(name) for name in ("w", "b")]
    disk = Disk(monkeypatch)
    fails_at_any_write(train, begin_anew, check_training)
    fails_at_any_write(export, lambda: None, check_exports)
    export()
    check_nothing_is_half_written(work, exports)
