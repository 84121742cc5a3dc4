"""What every step does around its body: tries again what may pass, and says what ended it."""

import contextlib
import os
import pathlib
import signal
import sys
import tempfile
import types

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


@pytest.fixture
def runs(monkeypatch):
    """Runs a step with a body of the test's own."""

    def run(body, **inputs):
        module = types.ModuleType("components.steps.tried")
        module.run = body
        monkeypatch.setitem(sys.modules, module.__name__, module)
        return step.run("tried", inputs)

    return run


def body(*ends):
    """A body whose attempts end with these errors, or return what is no error."""
    left = list(ends)

    def run(word):
        assert word == "given"
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


def ended(runs, run):
    with pytest.raises(SystemExit) as caught:
        runs(run, word="given")
    return caught.value.code


def test_a_fault_that_passes_is_tried_again_with_longer_pauses(runs, monkeypatch, slept, capsys):
    monkeypatch.setenv(environment.RETRIES, "2")
    run, left = body(away(), away(), "done")
    assert runs(run, word="given") == "done"
    assert not left
    assert slept == [10, 30]
    said = capsys.readouterr().out
    assert "The server is away. Trying again in 30 s (2 of 2).\n" in said
    assert step.ERROR_MARK not in said  # that would be why the step failed


def test_a_fault_that_stays_ends_the_step_with_its_exit_code(runs, monkeypatch, slept, capsys):
    monkeypatch.setenv(environment.RETRIES, "1")
    run, left = body(away(), away(), "never")
    assert ended(runs, run) == 75
    assert (left, slept) == (["never"], [10])
    assert capsys.readouterr().out.endswith("error: The server is away.\n")


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (ConfigError("It is wrong.", reason=Reason.INVALID_VALUE), 2),
        (interrupted(), 75),  # whoever asked it to end starts the next one
    ],
)
def test_what_another_attempt_would_not_change_is_not_tried_again(
    runs, monkeypatch, slept, end, code
):
    monkeypatch.setenv(environment.RETRIES, "5")
    run, left = body(end, "never")
    assert ended(runs, run) == code
    assert (left, slept) == (["never"], [])


def test_without_retries_there_is_one_attempt(runs, monkeypatch, slept):
    monkeypatch.delenv(environment.RETRIES, raising=False)
    run, left = body(away(), "never")
    assert ended(runs, run) == 75
    assert (left, slept) == (["never"], [])


def test_temporary_files_go_to_a_scratch_volume(runs, monkeypatch, tmp_path):
    monkeypatch.setenv(environment.SCRATCH, str(tmp_path))
    monkeypatch.setenv("TMPDIR", "/nowhere")
    monkeypatch.setattr(tempfile, "tempdir", None)

    def run():
        with tempfile.TemporaryDirectory() as folder:
            return pathlib.Path(folder).parent, os.environ["TMPDIR"]

    assert runs(run) == (tmp_path, str(tmp_path))


def test_a_scratch_volume_that_belongs_to_root_is_told_with_what_to_do(runs, monkeypatch, capsys):
    monkeypatch.setenv(environment.SCRATCH, "/scratch")
    monkeypatch.setattr(step.os, "access", lambda path, mode: path != "/scratch" or not mode)
    with pytest.raises(SystemExit) as caught:
        runs(lambda: pytest.fail("it ran"))
    assert caught.value.code == 2
    said = capsys.readouterr().out
    assert "error: The scratch volume /scratch cannot be written to by user" in said
    assert "fsGroup" in said


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("base_dir", "gs://b/it"),
        ("champion", "hdfs://b/it"),
        ("checkpoint_root", "s3://b/it?versionId=1"),
        ("model", "http://b/it"),
        ("serving_dir", "azfs://b/it"),
        ("study_root", "s3:/b/it"),
    ],
)
def test_a_place_that_a_step_cannot_use_is_refused_wherever_the_specification_came_from(
    runs, capsys, name, given
):
    with pytest.raises(SystemExit) as caught:
        runs(lambda **_: pytest.fail("it ran"), **{name: given, "analysis_cache": "gs://b/a"})
    assert caught.value.code == 2
    said = capsys.readouterr().out
    assert f"error: {name} is invalid: " in said
    assert given in said


def test_a_uri_is_given_to_a_step_as_it_is(runs):
    given = {"champion": "gs://b/it", "checkpoint_root": "s3://b/it", "serving_dir": ""}
    assert runs(lambda **inputs: inputs, **given) == given


@contextlib.contextmanager
def swallowing():
    with contextlib.suppress(Exception):
        yield


@contextlib.contextmanager
def translating():
    try:
        yield
    except Exception as error:
        raise RuntimeError("in user code") from error


@pytest.mark.parametrize("library", [swallowing, translating])
def test_a_step_asked_to_end_ends_so_whatever_a_library_makes_of_it(runs, capsys, library):
    def run():
        with library():
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as caught:
        runs(run)
    assert caught.value.code == 75
    assert "SIGTERM" in capsys.readouterr().out


@pytest.mark.parametrize("lacking", ["my_columns", "mine.models", "json.models"])
def test_an_image_without_the_users_modules_is_refused(runs, monkeypatch, capsys, lacking):
    run, left = body("never")
    monkeypatch.setenv(environment.CODE, f"json.decoder,{lacking}")
    assert ended(runs, run) == 2
    assert left == ["never"]
    told = capsys.readouterr().out
    assert told.startswith(f"error: Module {lacking} of cluster.code is not in the image")


def test_modules_that_an_image_has_are_found_where_it_puts_them(runs, monkeypatch, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "models.py").write_text("")
    (tmp_path / "my_columns.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(environment.CODE, "my_columns,mine.models")
    run, _ = body("done")
    assert runs(run, word="given") == "done"
