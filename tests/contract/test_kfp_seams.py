"""The private seams of kfp.local that `pipelines.local.engine` uses, held against the real kfp.

A new KFP release that moves one of them fails here, on a pipeline of trivial steps, and not
in a user's run.
"""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from kfp import dsl

from estimator_lib.core import manifest
from estimator_lib.core.errors import PipelineError
from estimator_lib.core.places import Place
from pipelines.local.engine import execute
from pipelines.local.output import Output
from pipelines.local.warm_steps import WarmSteps


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def write(text: str, out: dsl.Output[dsl.Dataset]) -> str:
    from estimator_lib.core import manifest

    print(f"writing {text}")
    with manifest.committed_artifact(out.path) as writer:
        (writer.directory / "x").write_text(text)
    out.metadata["digest"] = manifest.read(out.path).digest
    return "blessed" if text == "good" else "refused"


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def read(source: dsl.Input[dsl.Dataset], out: dsl.Output[dsl.Model]):
    from estimator_lib.core import manifest

    manifest.verify(source.path)
    with manifest.committed_artifact(out.path) as writer:
        (writer.directory / "y").write_text("read")


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def fail(how: str):
    import os
    import pathlib
    import sys
    import types

    from components.steps import step
    from estimator_lib.core.errors import DataError, Reason, StorageError

    def body(how):
        if how == "final":
            raise DataError("what is wrong:\n  file a.csv line 7", reason=Reason.IO)
        if how.startswith("once "):
            marker = pathlib.Path(how.removeprefix("once "))
            if not marker.exists():
                marker.touch()
                raise StorageError("the disk is away", reason=Reason.IO)
        elif how == "killed":
            os.kill(os.getpid(), 9)
        else:
            raise RuntimeError("a fault of ours")

    step.PAUSE_S = 0
    module = types.ModuleType("components.steps.failing")
    module.run = body
    sys.modules[module.__name__] = module
    step.run("failing", {"how": how})


def two_steps(text):
    @dsl.pipeline(name="two-steps")
    def pipeline():
        first = write(text=text)
        with dsl.If(first.outputs["Output"] == "blessed"):
            read(source=first.outputs["out"])

    return pipeline


def one_failing(how):
    @dsl.pipeline(name="failing")
    def pipeline():
        fail(how=how)

    return pipeline


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    log = tmp_path_factory.mktemp("server") / "steps.log"
    with WarmSteps(log, modules=("kfp.dsl.executor",)) as server:
        yield server


@pytest.fixture
def run(steps, tmp_path):
    def run(pipeline, shown=None):
        show = (shown if shown is not None else []).append
        output = Output(Place(str(tmp_path)), tmp_path)
        return execute(lambda: pipeline, {}, output=output, steps=steps, show=show)

    return run


def test_condition_cache_and_output_lines(run):
    shown = []
    first = run(two_steps("good"), shown)
    assert set(first.outputs) == {"write.out", "read.out"}
    assert set(first.seconds) == {"write", "read"}
    assert "  writing good" in shown
    assert not [line for line in shown if "Executing" in line or "KFP" in line]
    second = run(two_steps("good"))
    assert sorted(second.cached) == ["read", "write"]
    assert second.outputs == first.outputs


def test_a_false_condition_runs_nothing(run):
    assert set(run(two_steps("bad")).outputs) == {"write.out"}


def test_a_damaged_artifact_is_made_again(run):
    first = run(two_steps("good"))
    (first.outputs["write.out"] / "x").write_text("longer than before")
    again = run(two_steps("good"))
    assert "write" not in again.cached
    manifest.verify(again.outputs["write.out"], deep=True)


def test_a_final_error_keeps_its_message_and_is_not_retried(run):
    shown = []
    with pytest.raises(PipelineError) as caught:
        run(one_failing("final"), shown)
    assert caught.value.message == "what is wrong:\n  file a.csv line 7"
    assert caught.value.exit_code == 2
    assert not [line for line in shown if "again" in line]


def test_a_retryable_error_is_tried_again(run, tmp_path):
    shown = []
    run(one_failing(f"once {tmp_path / 'marker'}"), shown)
    assert [line for line in shown if "the disk is away" in line and "again" in line]


def test_a_fault_of_ours_names_step_and_log(run):
    with pytest.raises(PipelineError, match=r"Step fail failed.*a fault of ours.*fail\.log"):
        run(one_failing("bug"))


def test_a_killed_step_says_so(run):
    with pytest.raises(PipelineError, match=r"killed by SIGKILL.*out of memory"):
        run(one_failing("killed"))


def test_interrupt_lets_the_step_clean_up(tmp_path):
    given = json.dumps({"inputs": {}, "outputs": {"outputFile": str(tmp_path / "out.json")}})
    script = textwrap.dedent(f"""
        import pathlib, signal
        from pipelines.local.run import interruptible
        from pipelines.local.warm_steps import WarmSteps
        interruptible()
        source = '''
        def slow():
            import pathlib, time
            here = pathlib.Path({str(tmp_path)!r})
            (here / "began").touch()
            try:
                time.sleep(60)
            finally:
                (here / "cleaned").touch()
        '''
        import textwrap
        with WarmSteps(pathlib.Path({str(tmp_path / "log")!r}), modules=("kfp.dsl.executor",)) as w:
            w.run(source=textwrap.dedent(source), function="slow", executor_input={given!r},
                  environment={{}}, log=pathlib.Path({str(tmp_path / "step.log")!r}), show=print)
    """)
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (tmp_path / "began").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert b"KeyboardInterrupt" in errors
    assert (tmp_path / "cleaned").exists()
