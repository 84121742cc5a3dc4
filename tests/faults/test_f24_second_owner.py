"""Fault 24: two at once in one directory; who is dead loses it, who lives keeps it.

Fails when a lease is taken from a process that lives, when the token is not looked at before a
commit, or when `storage.keep_newest` does not ask who uses a directory.
"""

import contextlib
import json
import os
import subprocess
import sys
import time

import pytest

from estimator_lib.core import leases, storage
from estimator_lib.core.errors import CheckpointError, Reason, StorageError
from estimator_lib.training.lease import Lease

HOLD = """
import sys, time
from estimator_lib.core import leases
holder = leases.Lease(sys.argv[1])
print(holder.take(), flush=True)
time.sleep(600)
"""
RACE = """
import sys, time
from estimator_lib.core import leases
while time.time() < float(sys.argv[2]):
    pass
lease = leases.Lease(sys.argv[1])
print("mine" if lease.take() is None else "another's", flush=True)
sys.stdin.read()
"""
FOREIGN = {"host": "elsewhere", "space": "", "pid": 1, "started": "1", "token": "t"}
KEYS = [f"{number:016x}" for number in range(5)]


@contextlib.contextmanager
def another_process(lease):
    """A process that holds a lease during the block."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lease)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "None\n"
            yield process
        finally:
            process.kill()


def work(root, number):
    """A working directory, the older the lower its number."""
    folder = root / KEYS[number]
    folder.mkdir(parents=True)
    (folder / "model.ckpt-1.index").write_text("x")
    os.utime(folder, (number + 1, number + 1))
    return folder


def test_trainer_in_a_directory_that_lives_is_refused_and_told_to_try_again(tmp_path):
    with another_process(tmp_path / storage.TRAINER_LEASE) as other:
        with pytest.raises(CheckpointError, match=f"process {other.pid}") as caught:
            Lease(str(tmp_path)).__enter__()
        assert (caught.value.reason, caught.value.exit_code) == (Reason.LEASED, 75)


def test_lease_of_a_killed_process_is_free_at_once(tmp_path):
    with another_process(tmp_path / storage.TRAINER_LEASE):
        pass
    assert (tmp_path / storage.TRAINER_LEASE).exists()
    with Lease(str(tmp_path)) as lease:
        lease.check()


def test_process_id_that_another_process_got_since_is_not_the_owner(tmp_path):
    with another_process(tmp_path / "lease") as other:
        content = json.loads((tmp_path / "lease").read_text())
        (tmp_path / "lease").write_text(json.dumps({**content, "started": "1"}))
        assert leases.started(other.pid) is not None
        assert leases.Lease(tmp_path / "lease").take() is None


@pytest.mark.parametrize("content", [json.dumps(FOREIGN), "", "{", '["x"]', '{"pid": "x"}'])
def test_owner_elsewhere_or_unreadable_is_dead_only_when_it_was_silent(tmp_path, content):
    path = tmp_path / "lease"
    path.write_text(content)
    assert leases.Lease(path).take() is not None
    old = time.time() - leases.STALE_S - 5
    os.utime(path, (old, old))
    taken = leases.Lease(path)
    assert taken.take() is None
    taken.release()
    assert list(tmp_path.iterdir()) == []


def test_owner_that_comes_back_may_not_commit(tmp_path):
    with Lease(str(tmp_path)) as lease:
        (tmp_path / storage.TRAINER_LEASE).write_text(json.dumps(FOREIGN))
        with pytest.raises(CheckpointError, match="elsewhere") as caught:
            lease.check()
        assert caught.value.reason is Reason.LEASED
    assert (tmp_path / storage.TRAINER_LEASE).exists()  # it is another's


def test_of_many_that_find_a_dead_owner_one_takes_over(tmp_path):
    for attempt in range(3):
        path = tmp_path / f"lease-{attempt}"
        path.write_text(json.dumps({**FOREIGN, "host": "dead"}))
        os.utime(path, (0, 0))
        command = [sys.executable, "-c", RACE, str(path), str(time.time() + 1.0)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        racers = [subprocess.Popen(command, **pipes) for _ in range(6)]
        said = sorted(racer.stdout.readline().strip() for racer in racers)
        for racer in racers:
            racer.communicate()
        assert said == ["another's"] * 5 + ["mine"]


@pytest.mark.parametrize("name", [".step", ".trainer", "trial-0001/.trainer"])
def test_sweep_of_working_directories_keeps_what_a_living_process_holds(tmp_path, name):
    held, dead, *_ = [work(tmp_path, number) for number in range(5)]
    (held / name).parent.mkdir(exist_ok=True)
    os.utime(held, (1, 1))
    with another_process(held / name):
        os.utime(held, (1, 1))
        storage.keep_newest(tmp_path, keep=3)
        assert held.is_dir()
        assert not dead.exists()
    os.utime(held, (1, 1))
    storage.keep_newest(tmp_path, keep=3)
    assert not held.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == KEYS[2:]


def test_sweep_of_working_directories_looks_at_no_others(tmp_path):
    for name in ("my data", "0123", "ABCDEF0123456789"):
        (tmp_path / name).mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / KEYS[0]).symlink_to(tmp_path / "elsewhere")
    before = sorted(tmp_path.rglob("*"))
    storage.keep_newest(tmp_path, keep=0)
    assert sorted(tmp_path.rglob("*")) == before


def test_step_finds_its_working_directory_held_by_another_attempt(tmp_path):
    with another_process(tmp_path / storage.WORK_LEASE):
        with pytest.raises(StorageError, match="in use") as caught:  # noqa: SIM117
            with storage.leased(tmp_path, storage.WORK_LEASE, what="Working directory"):
                pass
        assert (caught.value.reason, caught.value.exit_code) == (Reason.LEASED, 75)
