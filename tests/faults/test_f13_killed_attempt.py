"""Fault 13: an attempt that dies leaves nothing, and the next one succeeds.

Fails when `preprocess` writes where readers look before it is done, or takes what a killed attempt
left for its own.
"""

import subprocess
import sys
import textwrap

import pytest

from estimator_lib.core import manifest
from estimator_lib.core.errors import Reason, StorageError
from transforms.applying import materialize
from transforms.testing import Job

FILES = {"train": ["x,y\n1,0\n", "x,y\n2,1\n"], "eval": ["x,y\n3,0\n"]}


def job(tmp_path):
    return Job(root=tmp_path, files=FILES, columns={"x": {"kind": "numeric"}}, label={"field": "y"})


def test_worker_that_fails_midway_leaves_nothing_visible(tmp_path, monkeypatch):
    real = materialize.write_shards

    def dies(task, *others):
        written = real(task, *others)
        if task.file.name == "data/train-1.csv":
            raise OSError(28, "No space left on device")
        return written

    monkeypatch.setattr(materialize, "write_shards", dies)
    with pytest.raises(StorageError) as caught:
        job(tmp_path).run()
    assert (caught.value.reason, caught.value.exit_code) == (Reason.NO_SPACE, 75)
    assert list((tmp_path / "out").iterdir()) == []
    monkeypatch.undo()
    assert job(tmp_path).run().rows == 3
    assert manifest.verify(job(tmp_path).examples, deep=True).kind == "examples"


def test_killed_process_leaves_no_artifact_and_the_next_attempt_succeeds(tmp_path):
    job(tmp_path).part()
    program = textwrap.dedent(
        f"""
        import os, pathlib, signal
        from transforms.applying import materialize
        from transforms.testing import Job
        real = materialize.write_shards
        def dies(*given):
            real(*given)
            os.kill(os.getpid(), signal.SIGKILL)
        materialize.write_shards = dies
        Job(root=pathlib.Path({str(tmp_path)!r}), files={FILES!r},
            columns={{"x": {{"kind": "numeric"}}}}, label={{"field": "y"}}).run()
        """
    )
    ended = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
    assert ended.returncode == -9
    assert not job(tmp_path).examples.exists()
    assert job(tmp_path).run().rows == 3
    listed = set(manifest.read(job(tmp_path).examples).files)
    assert listed == {p.name for p in job(tmp_path).examples.iterdir()} - {manifest.NAME}
