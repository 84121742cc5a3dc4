"""Fault 35: a step that is retried, or runs twice at once, leaves one whole artifact.

Fails when `manifest.committed_artifact` writes over a finished artifact, takes an unfinished one
for finished, or when an error has the wrong exit code.
"""

import subprocess
import sys

import pytest

from components.steps.step import step
from estimator_lib.core import manifest
from estimator_lib.core.errors import DataError, Reason, StorageError


def write(target, text, name="x"):
    with manifest.committed_artifact(target) as writer:
        (writer.directory / name).write_text(text)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_attempt_after_a_partial_one_replaces_what_it_left(tmp_path):
    target = tmp_path / "examples"
    target.mkdir()
    (target / "half").write_text("written by a killed attempt")
    write(target, "whole")
    assert names(target) == sorted(["x", manifest.NAME])
    manifest.verify(target, deep=True)


def test_second_attempt_with_the_same_content_changes_nothing(tmp_path):
    write(tmp_path / "a", "same")
    before = (tmp_path / "a" / "x").stat()
    write(tmp_path / "a", "same")
    assert (tmp_path / "a" / "x").stat().st_ino == before.st_ino
    assert names(tmp_path) == ["a"]


def test_second_attempt_with_other_content_is_refused(tmp_path):
    write(tmp_path / "a", "first")
    with pytest.raises(StorageError) as caught:
        write(tmp_path / "a", "second")
    assert (caught.value.reason, caught.value.exit_code) == (Reason.ALREADY_EXISTS, 2)
    assert (tmp_path / "a" / "x").read_text() == "first"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("slow", ["fast", "other"])
def test_of_two_attempts_alive_the_first_to_finish_wins(tmp_path, slow):
    target = tmp_path / "a"
    refused = None
    try:
        with manifest.committed_artifact(target) as late:
            (late.directory / "x").write_text(slow)
            write(target, "fast")
    except StorageError as error:
        refused = error.reason
    assert refused is (Reason.ALREADY_EXISTS if slow == "other" else None)
    assert (target / "x").read_text() == "fast"
    manifest.verify(target, deep=True)
    assert names(tmp_path) == ["a"]


def test_attempt_killed_at_any_file_leaves_nothing_that_reads_as_finished(tmp_path):
    for files in range(3):
        target = tmp_path / f"a{files}"
        program = f"""
import os, signal
from estimator_lib.core import manifest
with manifest.committed_artifact({str(target)!r}) as writer:
    for index in range({files}):
        (writer.directory / str(index)).write_text("part")
    os.kill(os.getpid(), signal.SIGKILL)
"""
        assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
        with pytest.raises(DataError):
            manifest.read(target)
        write(target, "whole")
        manifest.verify(target, deep=True)


@pytest.mark.parametrize(("error", "code"), [(StorageError, 75), (DataError, 2)])
def test_exit_code_tells_whether_trying_again_may_help(error, code, capsys):
    with pytest.raises(SystemExit) as left, step():
        raise error("the disk is away", reason=Reason.IO)
    assert left.value.code == code
    assert capsys.readouterr().out == "error: the disk is away\n"
