"""Runners by their names, what their errors say, and what becomes of a job that is left."""

import os
import signal
import time

import apache_beam as beam
import grpc
import pytest
from apache_beam.options.pipeline_options import StandardOptions
from apache_beam.runners.runner import PipelineResult, PipelineRunner, PipelineState

from estimator_lib.core.errors import ConfigError, PipelineError, Reason
from transforms.beam import engines, failures, runners

LOOPBACK = "--environment_type=LOOPBACK"


@pytest.mark.parametrize(
    ("given", "runner"),
    [
        ([], "FnApiRunner"),
        (["--runner=flink", "--flink_master=f:8081", LOOPBACK], "FlinkRunner"),
        (["--runner", "SparkRunner", "--spark_master_url", "spark://s", LOOPBACK], "SparkRunner"),
        (["--runner=PortableRunner", "--job_endpoint=h:1", LOOPBACK], "PortableRunner"),
        (["--runner=FlinkRunner", "--flink_master=[local]"], "FlinkRunner"),
        (["--runner=prismrunner"], "PrismRunner"),
        (
            ["--runner=DataflowRunner", "--project=p", "--region=r", "--temp_location=gs://b/t"],
            "DataflowRunner",
        ),
        (
            ["--runner=DaskRunner", "--dask_client_address=tcp://h:1"],
            "apache_beam.runners.dask.dask_runner.DaskRunner",
        ),
        ([f"--runner={__name__}.Fake"], f"{__name__}.Fake"),
    ],
)  # fmt: skip
def test_a_runner_is_named_as_beam_knows_it(given, runner, fake):
    engines.check(given)
    assert engines.options(given).view_as(StandardOptions).runner == runner


PROCESS = ["--runner=PortableRunner", "--job_endpoint=h:1", "--environment_type=PROCESS"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--runner=FlinkRuner"], "'FlinkRuner' is no runner. Did you mean 'FlinkRunner'?"),
        (["--runner=json.Nothing"], "cannot be imported"),
        (["--runner=FlinkRunner", LOOPBACK], "needs --flink_master or --job_endpoint"),
        (["--runner=SparkRunner"], "needs --spark_master_url or --spark_rest_url or"),
        (["--runner=PortableRunner"], "needs --job_endpoint"),
        (["--runner=DaskRunner"], "needs --dask_client_address or --dask_scheduler_file"),
        (["--runner=DataflowRunner", "--project=p"], "needs --region"),
        (["--runner=PortableRunner", "--job_endpoint=h:1"], "needs --environment_type"),
        (
            ["--runner=PortableRunner", "--job_endpoint=h:1", "--environment_type=LOOPBCK"],
            "Did you mean 'LOOPBACK'",
        ),
        (PROCESS, "PROCESS needs --environment_config, JSON"),
        ([*PROCESS, "--environment_config=/boot"], "must be JSON such as .*, got '/boot'"),
        (
            ["--runner=PortableRunner", "--job_endpoint=h:1", LOOPBACK, "--environment_config=x"],
            "takes no --environment_config",
        ),
    ],
)  # fmt: skip
def test_options_that_start_the_wrong_thing_are_refused(given, said):
    with pytest.raises(ConfigError, match=said):
        engines.check(given)
    with pytest.raises(ConfigError, match=said):
        runners.run(lambda p: p | beam.Create([1]), given)


def test_a_runner_whose_package_is_not_installed_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="Install distributed") as caught:
        engines.check(["--runner=DaskRunner", "--dask_client_address=tcp://h:1"])
    assert caught.value.reason is Reason.UNSUPPORTED


SPARK = """java.lang.RuntimeException: The job failed
\tat org.apache.beam.runners.spark.SparkPipelineRunner.run(SparkPipelineRunner.java:118)
Caused by: org.apache.spark.SparkException: Job aborted
\tat org.apache.spark.A.b(A.scala:1)
\t... 12 more
Caused by: java.lang.IllegalStateException: Only one SparkContext should be running in this JVM.
\tat org.apache.spark.SparkContext$.a(SparkContext.scala:2679)
\tat java.base/java.lang.Thread.run(Thread.java:840)"""
FLINK = """org.apache.flink.util.FlinkException: Failed to execute job 'j'.
\tat org.apache.flink.A.a(A.java:1)
Caused by: java.io.IOException: No space left on device
\tat java.base/java.io.F.w(F.java:1)
End of exception on server side>
]."""
WORKER = """java.lang.RuntimeException: Error received from SDK harness for instruction 3: \
Traceback (most recent call last):
  File "x.py", line 1, in process
    fails()
ZeroDivisionError: no rows

\tat org.apache.beam.sdk.A.b(A.java:3)
Caused by: java.lang.RuntimeException: Error received from SDK harness for instruction 3: \
Traceback (most recent call last):
  File "x.py", line 1, in process
    fails()
ZeroDivisionError: no rows

\tat java.base/java.lang.Thread.run(Thread.java:840)"""


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (SPARK, "IllegalStateException: Only one SparkContext should be running in this JVM"),
        (FLINK, "IOException: No space left on device"),
        (WORKER, "ZeroDivisionError: no rows"),
        ("java.lang.Error: alone\n\tat a.B.c(B.java:1)", "Error: alone"),
        ("Traceback:\n  File x\nValueError: bad [while running 'Map']", "ValueError: bad"),
        ("bad [while running 'Map']", "RuntimeError: bad"),
        ("", "RuntimeError: no message"),
    ],
)
def test_the_cause_is_told_and_not_the_last_line_of_a_stack_trace(text, cause):
    assert failures.cause(RuntimeError(text)) == cause


class Unavailable(grpc.RpcError, grpc.Call):
    """What a channel raises whose server is gone."""

    def code(self):
        return grpc.StatusCode.UNAVAILABLE

    def details(self):
        return "Socket closed"

    initial_metadata = trailing_metadata = add_callback = cancel = is_active = time_remaining = None


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (RuntimeError("TaskManager with id 127.0.0.1:41-a9 is no longer reachable."), True),
        (RuntimeError("x.NoResourceAvailableException: Could not acquire the minimum"), True),
        (RuntimeError("ExecutorLostFailure (executor 1 exited)"), True),
        (grpc.FutureTimeoutError(), True),
        (Unavailable(), True),
        (type("KilledWorker", (Exception,), {})("t", "w", 3), True),
        (RuntimeError(SPARK), False),
        (ZeroDivisionError("no rows"), False),
    ],
)
def test_what_may_pass_is_told_from_what_will_not(error, passes):
    assert failures.passes(error) is passes


class Result(PipelineResult):
    """A job on an engine that has not ended when it is left."""

    _job_id = "job-7"

    def __init__(self, seen, waits, cancels):
        super().__init__(PipelineState.RUNNING)
        self._seen, self._waits, self._cancels = seen, waits, cancels

    def wait_until_finish(self, duration=None):
        self._waits()

    def cancel(self):
        self._seen.append("cancelled")
        self._cancels()


class Fake(PipelineRunner):
    """Gives out one Result, and runs nothing."""

    result: Result

    def run_pipeline(self, pipeline, options):
        return Fake.result


@pytest.fixture
def fake():
    seen = []

    def left_by(waits, cancels=lambda: None):
        Fake.result = Result(seen, waits, cancels)
        runners.run(lambda p: p | beam.Create([1]), [f"--runner={__name__}.Fake"])

    left_by.seen = seen
    return left_by


def interrupts():
    raise KeyboardInterrupt


def asks_to_end():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)


def test_an_interrupted_job_is_cancelled(fake):
    with pytest.raises(KeyboardInterrupt):
        fake(interrupts)
    assert fake.seen == ["cancelled"]


def test_a_job_is_cancelled_when_its_command_is_asked_to_end(fake):
    with pytest.raises(PipelineError, match="command was asked to end by SIGTERM") as caught:
        fake(asks_to_end)
    assert (caught.value.exit_code, fake.seen) == (75, ["cancelled"])
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_job_that_ended_is_not_cancelled(fake):
    def fails():
        Fake.result._state = PipelineState.FAILED
        raise RuntimeError("wrong")

    with pytest.raises(PipelineError, match="RuntimeError: wrong") as caught:
        fake(fails)
    assert (caught.value.exit_code, fake.seen) == (2, [])


def refuses():
    raise Unavailable


@pytest.mark.parametrize(
    ("cancels", "said"),
    [(refuses, "UNAVAILABLE: Socket closed"), (lambda: time.sleep(5), "the engine did not answer")],
)
def test_a_job_that_cannot_be_cancelled_is_named(fake, capsys, monkeypatch, cancels, said):
    monkeypatch.setattr(runners, "CANCEL_S", 0.2)
    with pytest.raises(PipelineError) as caught:
        fake(refuses, cancels)
    assert (caught.value.exit_code, caught.value.reason) == (75, Reason.UNREACHABLE)
    printed = capsys.readouterr().out
    assert f"The Beam job job-7 could not be cancelled: {said}" in printed
    assert "It may still run: cancel it there." in printed
