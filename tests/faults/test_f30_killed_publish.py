"""Fault 30: killed at any moment of a publication, or many at once: whole versions only.

Fails when a version gets its number before it is whole or loses its files before its number, when
`retention` publishes without holding the directory, or `storage.sweep_staging` takes what lives.
"""

import collections
import json
import os
import signal
import subprocess
import sys

import pytest

from estimator_lib.core import leases, manifest, storage
from estimator_lib.core.errors import Reason, StorageError
from estimator_lib.export import retention
from pipelines import models

FILES = 12
MOMENTS = (
    "import os, signal, sys, shutil\n"
    "left = int(sys.argv[3])\n"
    "def counted(function):\n"
    "    def call(*args, **kwargs):\n"
    "        global left\n"
    "        left -= 1\n"
    "        if left == 0: os.kill(os.getpid(), signal.SIGKILL)\n"
    "        return function(*args, **kwargs)\n"
    "    return call\n"
    "for name in ('open', 'rename', 'replace', 'mkdir', 'fsync', 'unlink', 'rmdir'):\n"
    "    setattr(os, name, counted(getattr(os, name)))\n"
    "shutil.copyfile = counted(shutil.copyfile)\n"
    "from estimator_lib.export import retention\n"
    "retention.publish(sys.argv[1], sys.argv[2], keep=2)\n"
    "print(left)\n"
)
MANY = """
import random, sys
from estimator_lib.core.errors import EstimatorLibError
from estimator_lib.export import retention
from pipelines import models
import pathlib
draw = random.Random(int(sys.argv[3]))
for _ in range(8):
    try:
        if draw.random() < 0.3:
            models.rollback(pathlib.Path(sys.argv[2]))
        else:
            retention.publish(sys.argv[1], sys.argv[2], keep=4)
        print("published")
    except EstimatorLibError as error:
        print(f"{error.reason} {error.exit_code}")
"""


def make_model(folder, text):
    (folder / "variables").mkdir(parents=True)
    for number in range(FILES):
        (folder / "variables" / f"v{number}").write_text(text * 100)
    (folder / "saved_model.pb").write_text(text)
    (folder / models.LINEAGE).write_text(json.dumps({"model": text}))
    return folder


def check_versions(serving):
    found = retention.versions(serving)
    for version in found:
        manifest.verify(serving / str(version), deep=True)
        text = (serving / str(version) / "saved_model.pb").read_text()
        parts = list((serving / str(version) / "variables").iterdir())
        assert [part.read_text() for part in parts] == [text * 100] * FILES
    return found


def run(program, *arguments):
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        check=False, capture_output=True, text=True,
    )  # fmt: skip


def test_publication_killed_at_any_moment_leaves_whole_versions_and_the_next_sweeps(tmp_path):
    serving = tmp_path / "serving"
    model = make_model(tmp_path / "model", "a")
    for _ in range(2):
        retention.publish(model, serving)
    total = 10_000 - int(run(MOMENTS, model, serving, 10_000).stdout)
    assert total > 60
    # Every moment of the beginning and the end, every ninth while files are copied.
    moments = [n for n in range(1, total + 1) if n < 8 or n > total - 22 or n % 9 == 0]
    for moment in moments:
        killed = run(MOMENTS, model, serving, moment)
        assert killed.returncode in (-signal.SIGKILL, 0)  # names of fewer digits cost less
        found = check_versions(serving)
        assert len(found) in (1, 2, 3)
    last = retention.publish(model, serving, keep=2)
    assert [str(serving / str(v)) for v in check_versions(serving)][-1] == last
    assert sorted(path.name for path in serving.iterdir()) == [
        str(version) for version in retention.versions(serving)
    ]


def test_many_publishers_and_rollbacks_at_once_end_in_whole_versions(tmp_path):
    serving = tmp_path / "serving"
    for name in "abcd":
        retention.publish(make_model(tmp_path / name, name), serving)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MANY, str(tmp_path / name), str(serving), str(seed)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for seed, name in enumerate("abcd")
    ]  # fmt: skip
    while any(process.poll() is None for process in processes):
        check_while_others_publish(serving)
    said, faults = zip(*[process.communicate() for process in processes], strict=True)
    assert faults == ("",) * 4
    ends = collections.Counter(line for text in said for line in text.splitlines())
    assert set(ends) <= {"published", "leased 75"}
    assert ends.total() == 32
    found = check_versions(serving)
    assert found[-1] == 4 + ends["published"]  # no number is used twice or left out


def check_while_others_publish(serving):
    """What a server sees: the newest version is whole, unless it is gone meanwhile."""
    newest = retention.newest(serving)
    try:
        manifest.verify(newest, deep=True)
    except Exception:
        if retention.newest(serving) == newest:
            raise


def test_sweep_leaves_what_another_process_is_writing(tmp_path):
    with storage.staging(tmp_path, "version") as staged:
        (staged.path / "x").write_text("half")
        assert storage.sweep_staging(tmp_path) == []
        assert staged.commit(tmp_path / "1")
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_staging_directory_taken_for_left_over_cannot_be_committed(tmp_path):
    with storage.staging(tmp_path, "version") as staged:
        owner = next(path for path in tmp_path.iterdir() if path.name.endswith(".owner"))
        foreign = {**json.loads(owner.read_text()), "host": "elsewhere"}
        owner.write_text(json.dumps(foreign))
        os.utime(owner, (0, 0))
        assert storage.sweep_staging(tmp_path) == [staged.path]
        staged.path.mkdir()  # a writer that goes on
        with pytest.raises(StorageError) as caught:
            staged.commit(tmp_path / "1")
        assert (caught.value.reason, caught.value.exit_code) == (Reason.LEASED, 75)
    assert list(tmp_path.iterdir()) == []


def test_publisher_that_waits_in_vain_is_told_to_try_again(tmp_path, monkeypatch):
    monkeypatch.setattr(retention, "_WAIT_S", 0.1)
    held = leases.Lease(tmp_path / ".publisher")
    assert held.take() is None
    with pytest.raises(StorageError, match="in use by process") as caught:
        retention.publish(make_model(tmp_path / "model", "a"), tmp_path)
    assert (caught.value.reason, caught.value.exit_code) == (Reason.LEASED, 75)
    assert retention.versions(tmp_path) == []
