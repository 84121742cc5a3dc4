"""Storage fails at any one of the writes of a training and its export.

From the N-th call on that changes the disk all of them fail, as on a full disk, one that became
read-only or one that is gone; then there is room again. Every end is typed, names a path and says
by its exit code whether trying again may help; the old state is whole and the rerun equal.

Fails when any of these calls is made without `storage.storage_errors` around it, in a way that
leaves half a file, or when a StorageError of a full disk is not `retryable`.
"""

import builtins
import contextlib
import errno
import io
import os
import shutil
import threading

import numpy as np
import tensorflow as tf

import estimator_lib
from estimator_lib.core.errors import EstimatorLibError
from estimator_lib.training import checkpoints, history
from tests.contract.test_estimator import X, data, linear

RECEIVER = estimator_lib.export.build_raw_serving_input_receiver_fn({"x": X[:1]})
FIRST, LAST = 2, 4
OS_CALLS = ("open", "replace", "rename", "fsync", "mkdir", "unlink", "rmdir")
"""Of Python's; what TensorFlow writes is one call, its own errors among others."""
CODES = (errno.ENOSPC, errno.EROFS, errno.EIO, errno.EACCES, errno.ESTALE, errno.EDQUOT)
PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE}
"""Those after which trying again may help: exit code 75; 2 for a disk that nobody may write to."""


class Disk:
    """Counts what changes the disk, and refuses it from a given call on."""

    def __init__(self, monkeypatch):
        self.fails_from = None
        self.code = errno.ENOSPC
        self.calls = 0
        self._here = threading.get_ident()
        for name in OS_CALLS:
            writes = self._writes if name == "open" else None
            monkeypatch.setattr(os, name, self._counted(getattr(os, name), writes))
        opened = self._counted(io.open, lambda _, mode="r", *rest, **named: set(mode) & set("wax+"))
        for module in (builtins, io):
            monkeypatch.setattr(module, "open", self._written(opened))
        for owner, name in ((tf.train.Checkpoint, "write"), (tf.saved_model, "save")):
            monkeypatch.setattr(owner, name, self._counted(getattr(owner, name)))
        monkeypatch.setattr(checkpoints.time, "sleep", lambda seconds: None)

    @staticmethod
    def _writes(_, flags=0, *rest, **named):
        return flags & (os.O_WRONLY | os.O_RDWR)

    def _call(self):
        self.calls += 1
        if self.fails_from is not None and self.calls >= self.fails_from:
            raise OSError(self.code, os.strerror(self.code))

    def _counted(self, function, counts=None):
        def call(*args, **kwargs):
            ours = threading.get_ident() == self._here
            if ours and (counts is None or counts(*args, **kwargs)):
                self._call()
            return function(*args, **kwargs)

        return call

    def _written(self, opened):
        """Files whose every write counts as well."""

        def call(file, mode="r", *args, **kwargs):
            found = opened(file, mode, *args, **kwargs)
            if set(mode) & set("wax+") and isinstance(file, str | os.PathLike):
                real = found.write
                with contextlib.suppress(AttributeError):  # the raw ones are TensorFlow's
                    found.write = lambda data: (self._call(), real(data))[1]
            return found

        return call

    def fail_from(self, call, code=errno.ENOSPC):
        self.fails_from, self.calls, self.code = call, 0, code


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
        disk.fail_from(None)
        run()
        count = disk.calls
        assert count > 20
        for call in range(1, count + 1):
            code = codes[call % len(codes)]
            prepare()
            disk.fail_from(call, code)
            error = ends(run)
            disk.fail_from(None)
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
    disk = Disk(monkeypatch)
    fails_at_any_call(train, begin_anew, check_training, CODES)
    fails_at_any_call(export, lambda: None, check_exports, CODES)
    export()
    check_nothing_is_half_written(work, exports)
