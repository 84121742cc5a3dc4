"""What every step does around its body: tries again what may pass, and says what ended it."""

import os
import pathlib
import tempfile

import pytest

from components.steps import step
from estimator_lib.core import environment
from estimator_lib.core.errors import ConfigError, Reason, StorageError, TrainingError


@pytest.fixture
def slept(monkeypatch):
    """Seconds between attempts, which are not waited for."""
    pauses = []
    monkeypatch.setattr(step.time, "sleep", pauses.append)
    return pauses


def body(*ends):
    """A step whose attempts end with these errors, or return what is no error."""
    left = list(ends)

    def run(name):
        assert name == "given"
        end = left.pop(0)
        if isinstance(end, Exception):
            raise end
        return end

    return run, left


def away():
    return StorageError("The server is away.", reason=Reason.IO)


def interrupted():
    error = TrainingError("Training was asked to end.", reason=Reason.INTERRUPTED)
    error.retryable = True
    return error


def ended(run):
    with pytest.raises(SystemExit) as caught:
        step.run(run, {"name": "given"})
    return caught.value.code


def test_a_fault_that_passes_is_tried_again_with_longer_pauses(monkeypatch, slept, capsys):
    monkeypatch.setenv(environment.RETRIES, "2")
    run, left = body(away(), away(), "done")
    assert step.run(run, {"name": "given"}) == "done"
    assert not left
    assert slept == [10, 30]
    said = capsys.readouterr().out
    assert "The server is away. Trying again in 30 s (2 of 2).\n" in said
    assert step.ERROR_MARK not in said  # that would be why the step failed


def test_a_fault_that_stays_ends_the_step_with_its_exit_code(monkeypatch, slept, capsys):
    monkeypatch.setenv(environment.RETRIES, "1")
    run, left = body(away(), away(), "never")
    assert ended(run) == 75
    assert (left, slept) == (["never"], [10])
    assert capsys.readouterr().out.endswith("error: The server is away.\n")


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (ConfigError("It is wrong.", reason=Reason.INVALID_VALUE), 2),
        (interrupted(), 75),  # whoever asked it to end starts the next one
    ],
)
def test_what_another_attempt_would_not_change_is_not_tried_again(monkeypatch, slept, end, code):
    monkeypatch.setenv(environment.RETRIES, "5")
    run, left = body(end, "never")
    assert ended(run) == code
    assert (left, slept) == (["never"], [])


def test_without_retries_there_is_one_attempt(monkeypatch, slept):
    monkeypatch.delenv(environment.RETRIES, raising=False)
    run, left = body(away(), "never")
    assert ended(run) == 75
    assert (left, slept) == (["never"], [])


def test_temporary_files_go_to_a_scratch_volume(monkeypatch, tmp_path):
    monkeypatch.setenv(environment.SCRATCH, str(tmp_path))
    monkeypatch.setenv("TMPDIR", "/nowhere")
    monkeypatch.setattr(tempfile, "tempdir", None)

    def run():
        with tempfile.TemporaryDirectory() as folder:
            return pathlib.Path(folder).parent, os.environ["TMPDIR"]

    assert step.run(run, {}) == (tmp_path, str(tmp_path))


def test_a_scratch_volume_that_belongs_to_root_is_told_with_what_to_do(monkeypatch, capsys):
    monkeypatch.setenv(environment.SCRATCH, "/scratch")
    monkeypatch.setattr(step.os, "access", lambda path, mode: path != "/scratch" or not mode)
    with pytest.raises(SystemExit) as caught:
        step.run(lambda: pytest.fail("it ran"), {})
    assert caught.value.code == 2
    said = capsys.readouterr().out
    assert "error: The scratch volume /scratch cannot be written to by user" in said
    assert "fsGroup" in said
