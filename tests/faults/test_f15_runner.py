"""Fault 15: the runner is named, the job runs once, errors arrive as they were raised.

Fails when the runner is left to Beam, which runs a job twice, or when `runners.run` wraps what a
function raised.
"""

import errno
import os

import apache_beam as beam
import pytest

from estimator_lib.core.errors import DataError, PipelineError, Reason, StorageError
from transforms.beam import engines, runners
from transforms.testing import Job


def test_runner_is_named_unless_the_caller_names_one():
    assert engines.options([]).get_all_options()["runner"] == "FnApiRunner"
    chosen = engines.options(["--runner=DataflowRunner", "--project=p"]).get_all_options()
    assert (chosen["runner"], chosen["project"]) == ("DataflowRunner", "p")


def test_error_of_a_function_arrives_as_it_was_raised_and_once(tmp_path):
    calls = tmp_path / "calls"

    def fails(_):
        with calls.open("a") as log:
            log.write("called\n")
        raise DataError("Row 3 is bad.", reason=Reason.RECORD_MALFORMED)

    with pytest.raises(DataError) as caught:
        runners.run(lambda p: p | beam.Create([1]) | beam.Map(fails), [])
    assert caught.value.message == "Row 3 is bad."
    assert caught.value.__cause__ is None
    assert calls.read_text() == "called\n"


def test_full_disk_of_a_function_asks_for_a_retry():
    def fails(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/there/x")

    with pytest.raises(StorageError, match="/there/x: No space left on device") as caught:
        runners.run(lambda p: p | beam.Create([1]) | beam.Map(fails), [])
    assert caught.value.exit_code == 75


def test_foreign_error_becomes_a_pipeline_error_that_names_it():
    def fails(_):
        raise ZeroDivisionError("no rows")

    with pytest.raises(PipelineError, match="ZeroDivisionError: no rows"):
        runners.run(lambda p: p | beam.Create([1]) | beam.Map(fails), [])


def test_fault_in_the_data_is_quiet_and_typed(tmp_path, capfd):
    job = Job(
        root=tmp_path,
        files={"train": ["x,y\nbad,0\n"], "eval": ["x,y\n1,0\n"]},
        columns={"x": {"kind": "numeric"}},
        label={"field": "y"},
    )
    with pytest.raises(DataError):
        job.run()
    printed = capfd.readouterr()
    assert "Traceback" not in printed.out + printed.err
