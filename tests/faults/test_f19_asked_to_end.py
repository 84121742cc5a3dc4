"""Fault 19: asked to end by SIGTERM, in any phase: exit 75, nothing half-written; twice: at once.

Fails when a step leaves SIGTERM to the kernel, when training does not save first, when a second
signal is noted like the first, or when `run` leaves before its step has ended.
"""

import contextlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest
import yaml

from components.steps.step import step
from estimator_lib.core import manifest
from estimator_lib.core.errors import Reason, TrainingError
from estimator_lib.export import retention
from pipelines.local.step_server import GRACE_S
from tests.contract.test_estimator import data, estimator
from tests.faults.disk import Act, Plan
from tests.faults.phases import CONFIG, attempt
from tests.faults.phases import PHASES as STEPS

STEP = """
import pathlib, sys, time
from components.steps.step import step
from estimator_lib.core import manifest
with step(), manifest.committed_artifact(sys.argv[1]) as writer:
    (writer.directory / "x").write_text("half")
    try:
        print("working", flush=True)
        time.sleep(60)
    finally:
        if sys.argv[2] == "slow":
            print("tidying", flush=True)
            time.sleep(60)
"""


def asked(target, kind):
    return subprocess.Popen(
        [sys.executable, "-c", STEP, str(target), kind], stdout=subprocess.PIPE, text=True
    )


def test_step_asked_to_end_asks_to_be_run_again_and_leaves_nothing(tmp_path):
    with asked(tmp_path / "out" / "a", "quick") as process:
        assert process.stdout.readline() == "working\n"
        began = time.monotonic()
        process.terminate()
        said = process.communicate()[0]
    assert process.returncode == 75
    assert said.startswith("error: The step was asked to end by SIGTERM")
    assert time.monotonic() - began < 20
    assert list((tmp_path / "out").iterdir()) == []


def test_second_signal_ends_at_once_and_the_next_attempt_is_whole(tmp_path):
    with asked(tmp_path / "out" / "a", "slow") as process:
        assert process.stdout.readline() == "working\n"
        process.terminate()
        assert process.stdout.readline() == "tidying\n"
        process.terminate()
        process.communicate()
    assert process.returncode == -signal.SIGTERM
    assert not (tmp_path / "out" / "a").exists()
    with manifest.committed_artifact(tmp_path / "out" / "a") as writer:
        (writer.directory / "x").write_text("whole")
    manifest.verify(tmp_path / "out" / "a", deep=True)


PHASES = ("first trace", "step", "evaluation", "saving", "publishing")


@pytest.mark.parametrize("phase", PHASES)
def test_training_step_asked_to_end_in_any_phase_goes_on_to_the_same_weights(
    tmp_path, monkeypatch, phase, capsys
):
    from estimator_lib.training import checkpoints

    sent = []

    def term(function):
        def call(*args, **kwargs):
            if not sent:
                sent.append(phase)
                os.kill(os.getpid(), signal.SIGTERM)
            return function(*args, **kwargs)

        return call

    def work(folder, patch=False):
        import estimator_lib
        from tests.contract import test_estimator as models

        model_fn = models.linear
        made = estimator(folder, model_fn, save_checkpoints_steps=2)
        if patch and phase == "first trace":
            made = estimator(folder, by_name(term(models.linear)), save_checkpoints_steps=2)
        hooks = []
        if patch and phase == "step":

            class Term(estimator_lib.Hook):
                every_steps = 1
                after_step = term(lambda self, context: None)

            hooks.append(Term())
        made.train(data(epochs=None), max_steps=4, hooks=hooks)
        if patch and phase == "evaluation":
            made.evaluate(term(lambda: data().dataset()))
        made.evaluate(data())
        model = pathlib.Path(folder) / "exported"
        model.mkdir(exist_ok=True)
        (model / "saved_model.pb").write_text("m")
        retention.publish(model, pathlib.Path(folder) / "serving")
        return made

    weights = work(tmp_path / "whole").get_variable_value("w")
    with monkeypatch.context() as patched:
        if phase == "saving":
            patched.setattr(checkpoints.storage, "sync_tree", term(checkpoints.storage.sync_tree))
        if phase == "publishing":
            patched.setattr(retention, "copy_tree", term(retention.copy_tree))
        with pytest.raises(SystemExit) as left, step():
            work(tmp_path / "ended", patch=True)
    assert sent == [phase]
    assert left.value.code == 75
    assert "SIGTERM" in capsys.readouterr().out
    serving = tmp_path / "ended" / "serving"
    assert retention.versions(serving) == []
    assert not serving.exists() or list(serving.iterdir()) == []
    with step():
        again = work(tmp_path / "ended")
    assert (again.get_variable_value("w") == weights).all()
    assert retention.versions(serving) == [1]


def by_name(function):
    """A model_fn is fed by the names of its arguments."""

    def linear(features, labels, mode, params):
        return function(features, labels, mode, params)

    return linear


def test_training_saves_before_it_ends(tmp_path):
    import estimator_lib

    class AtThree(estimator_lib.Hook):
        def after_step(self, context):
            if context.step == 3:
                os.kill(os.getpid(), signal.SIGTERM)

    made = estimator(tmp_path)
    with pytest.raises(TrainingError, match="SIGTERM") as caught:
        made.train(data(epochs=9), hooks=[AtThree()])
    assert (caught.value.exit_code, caught.value.reason) == (75, Reason.INTERRUPTED)
    assert made.get_variable_value("global_step") == 3


@pytest.mark.parametrize(("phase", "times"), list(zip(STEPS, [1, 2] * 3, strict=True)))
def test_step_asked_to_end_at_any_call_leaves_whole_things_and_its_rerun_is_equal(
    phases, phase, times
):
    draw = random.Random(f"{phase} {times}")
    call = draw.randint(1, len(phases.calls[phase]))
    end, faults = attempt(phases, phase, Plan(act=Act.TERM, call=call, times=times))
    assert not faults, (call, faults)
    assert end.code in ((75, 0) if times == 1 else (75, 0, -signal.SIGTERM))


CLIENT = """
import contextlib, sys
from pipelines import cli
from pipelines.local import run, warm_steps

class Shared(warm_steps.WarmSteps):
    def __init__(self, *_, **__):
        self._address = sys.argv[1]
    def __exit__(self, *_):
        pass

run.WarmSteps = Shared
sys.exit(cli.main(sys.argv[2:]))
"""
"""The command `run`, whose steps are forked from a server that is there already."""


class Client:
    """A `run` of the tiny configuration, in a process of its own."""

    def __init__(self, phases, output):
        self._server = phases.steps._process.pid
        config = phases.root / "tiny.yaml"
        config.write_text(yaml.safe_dump(CONFIG))
        self._process = subprocess.Popen(
            [sys.executable, "-c", CLIENT, phases.steps._address, "run", str(config),
             "--output", str(output)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def reach(self, phase):
        """Waits until a phase has begun."""
        for line in self._process.stdout:
            if line.strip() == phase:
                return
        raise AssertionError(f"{phase} did not begin: {self._process.stderr.read()}")

    def ask(self, target):
        """Sends SIGTERM to the client, its step, or both; or twice to the client."""
        if target in ("step", "both"):
            while not (steps := self._steps()):
                time.sleep(0.01)
            for pid in steps:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
        for _ in range({"step": 0, "client twice": 2}.get(target, 1)):
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            time.sleep(0.05)

    def _steps(self):
        """Steps of the server: leaders of their own sessions below it."""
        parents = {}
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                parents[int(folder.name)] = int(
                    (folder / "stat").read_text().rpartition(")")[2].split()[1]
                )
        monitors = {pid for pid, parent in parents.items() if parent == self._server}
        found = [pid for pid, parent in parents.items() if parent in monitors]
        return [pid for pid in found if os.getsid(pid) == pid]

    def end(self):
        """Returns exit code, what it complained of, and how long that took."""
        began = time.monotonic()
        _, complained = self._process.communicate()
        return self._process.returncode, complained, time.monotonic() - began


ASKED = [
    ("preprocess", "client"), ("preprocess", "step"), ("train", "both"), ("train", "client twice"),
    ("train", "client"), ("evaluate", "step"), ("export", "client"), ("export", "both"),
]  # fmt: skip
CODES = {"client": {130}, "client twice": {130}, "step": {75}, "both": {130, 75}}


@pytest.mark.timeout(900)
def test_run_asked_to_end_by_its_client_or_its_step_goes_on_to_one_whole_version(phases, tmp_path):
    draw, ended = random.Random(19), []
    for phase, target in ASKED:
        client = Client(phases, tmp_path)
        client.reach(phase)
        time.sleep(draw.random() * 0.2)
        client.ask(target)
        code, complained, seconds = client.end()
        ended.append((phase, target, code))
        assert code in CODES[target], (phase, target, code, complained)
        assert "Traceback" not in complained, (phase, target, complained)
        assert seconds < GRACE_S + 10
    client = Client(phases, tmp_path)
    code, complained, _ = client.end()
    assert code == 0, (ended, complained)
    serving = tmp_path / "serving"
    assert [retention.damage(serving / str(v)) for v in retention.versions(serving)] == [None]
    assert phases.left_over(tmp_path) == []
