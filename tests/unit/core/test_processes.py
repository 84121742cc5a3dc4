"""Child processes as their parent sees them: words, ends, and no orphans."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from estimator_lib.core import processes
from estimator_lib.core.errors import ConfigError, Reason, StorageError
from estimator_lib.core.processes import Child, Ended, Message


def test_a_child_talks_and_returns():
    def body(parent):
        parent.say({"step": 1})
        return [parent.hear(), os.getpid()]

    child = Child("the child", body)
    assert child.hear() == Message({"step": 1})
    child.say("go on")
    said, pid = child.wait().value
    assert said == "go on"
    assert pid != os.getpid()


def test_its_own_errors_keep_message_and_kind():
    def mistaken(_):
        raise ConfigError("no such metric", reason=Reason.UNKNOWN_NAME)

    def away(_):
        raise StorageError("the disk is away", reason=Reason.IO)

    failure = Child("a", mistaken).wait().failure
    assert isinstance(failure, ConfigError)
    assert failure.message == "no such metric"
    failure = Child("b", away).wait().failure
    assert isinstance(failure, StorageError)
    assert (failure.message, failure.exit_code) == ("the disk is away", 75)


def test_what_the_disk_refused_is_a_storage_error():
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/x")

    failure = Child("a", full).wait().failure
    assert isinstance(failure, StorageError)
    assert "/data/x" in failure.message


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "SIGKILL; it may have run out of memory"),
        (lambda: os._exit(7), "exit code 7"),
        (lambda: signal.raise_signal(signal.SIGINT), "exit code 130"),
        (lambda: sys.exit(3), "exit code 3"),
    ],
)
def test_one_that_ends_without_a_word_is_told_by_its_end(end, said):
    failure = Child("trial 3", lambda _: end()).wait().failure
    assert failure.message == f"The process of trial 3 was ended by {said}."


def test_a_fault_of_ours_leaves_its_stack_trace(capfd):
    def body(_):
        os.write(1, b"dropped")
        raise ValueError("shapes do not fit")

    failure = Child("a", body).wait().failure
    assert failure.message == "ValueError: shapes do not fit"
    shown = capfd.readouterr()
    assert "in body" in shown.err
    assert shown.out == ""


def test_a_silent_child_is_given_up():
    child = Child("the check", lambda _: time.sleep(60))
    failure = child.wait(timeout_s=0.1).failure
    assert failure.message == "The process of the check gave no answer in time."


def test_a_killed_child_is_gone_and_talking_to_it_is_no_fault():
    child = Child("a", lambda parent: parent.hear())
    pid = child._pid
    child.kill()
    child.kill()
    child.say("nothing")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_forked_child_ends_with_its_code_and_writes_where_it_is_told(tmp_path):
    path = tmp_path / "out"
    with path.open("wb") as sink:

        def body():
            os.write(1, f"{os.getsid(0) == os.getpid()} {sys.stdin.read()!r}".encode())
            raise SystemExit(75)

        child = processes.fork(body, session=True, streams={1: sink.fileno()})
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 75
    assert path.read_text() == "True ''"


@pytest.mark.parametrize(("stubborn", "code"), [(False, 130), (True, -signal.SIGKILL)])
def test_one_that_nobody_waits_for_is_interrupted_then_killed(stubborn, code):
    begun, begins = os.pipe()
    client, other_end = os.pipe()

    def body():
        os.close(other_end)
        if stubborn:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.write(begins, b"x")
        time.sleep(60)

    child = processes.fork(body)
    os.read(begun, 1)
    os.close(other_end)
    assert processes.wait_or_stop(child, client, grace_s=0.5) == code


def test_children_end_with_a_killed_parent(tmp_path):
    script = textwrap.dedent(f"""
        import os, pathlib, signal, time
        from estimator_lib.core import processes

        def body(parent):
            pathlib.Path({str(tmp_path / "pid")!r}).write_text(str(os.getpid()))
            parent.say("begun")
            time.sleep(60)

        child = processes.Child("a", body)
        child.hear()
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -signal.SIGKILL
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while _runs(pid):
        assert time.monotonic() < deadline, "the child is an orphan"
        time.sleep(0.02)


def _runs(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_new_interpreter_takes_nothing_from_the_current_directory(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong one')\n")
    (tmp_path / "mine.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    _, errors = processes.interpreter("mine", stderr=subprocess.PIPE).communicate()
    assert b"No module named 'mine'" in errors


def test_last_words_are_values():
    assert Child("a", lambda _: None).wait() == Ended()
