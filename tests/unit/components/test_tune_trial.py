"""Processes of trials: what they say, and how they may end."""

import os
import signal
import time

import pytest

from components.steps import tune_trial
from estimator_lib.core.config import TunePart
from estimator_lib.core.errors import ConfigError, Reason, StorageError
from estimator_lib.tuning import search
from estimator_lib.tuning.trials import ForkedTrials

PART = TunePart.model_validate(
    {
        "train": {
            "columns": [],
            "estimator": {"name": "LinearClassifier", "args": {"optimizer": {"name": "SGD"}}},
            "train": {"max_steps": 100, "seed": 3},
        },
        "tune": {
            "space": {"estimator.args.optimizer.learning_rate": {"choice": [0.1, 0.2, 0.3, 0.4]}},
            "trials": 4,
            "sampler": "random",
            "parallel": 2,
            "max_steps": 20,
            "evaluate_every_steps": 5,
        },
    }
)


OPTIONS = PART.tune


def run(body, directory):
    """Searches with `body(number, ask)` in place of a training."""

    def train(values, work, ask):
        work.mkdir(exist_ok=True)
        return body(int(work.name.removeprefix("trial-")), ask)

    with ForkedTrials(train, directory) as trials:
        return search.run(OPTIONS, trials, directory)


def test_evaluations_are_told_and_directories_removed(tmp_path):
    def body(number, ask):
        assert not ask(5, 2.0)
        assert not ask(10, 1.0)
        return 1.0 / (number + 1)

    found = run(body, tmp_path)
    assert [t.value for t in found] == [1.0, 0.5, 1 / 3, 0.25]
    assert [t.curve for t in found] == [[(5, 2.0), (10, 1.0)]] * 4
    assert [path.name for path in tmp_path.iterdir()] == [search.JOURNAL]


def test_trial_that_dies_or_breaks_is_noted_and_the_others_go_on(tmp_path, capfd):
    def body(number, ask):
        ask(5, 1.0)
        if number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 2:
            raise ValueError("shapes do not fit")
        return float(number)

    found = run(body, tmp_path)
    assert [t.state for t in found] == ["complete", "failed", "failed", "complete"]
    assert "SIGKILL; it may have run out of memory" in found[1].reason
    assert found[2].reason == "ValueError: shapes do not fit"
    assert "shapes do not fit" in capfd.readouterr().err


def test_failure_that_may_pass_ends_the_search_and_keeps_its_directory(tmp_path):
    def body(number, ask):
        if number == 1:
            raise StorageError("the disk is away", reason=Reason.IO)
        time.sleep(60)

    began = time.monotonic()
    with pytest.raises(Exception, match="the disk is away") as caught:
        run(body, tmp_path)
    assert caught.value.exit_code == 75
    assert (tmp_path / "trial-0001").is_dir()
    assert time.monotonic() - began < 30, "the other trial was waited for"


def test_mistake_in_the_configuration_ends_the_search_with_exit_code_2(tmp_path):
    def body(number, ask):
        raise ConfigError("no such metric", reason=Reason.UNKNOWN_NAME)

    with pytest.raises(ConfigError, match="no such metric"):
        run(body, tmp_path)


def test_interrupt_in_the_middle_of_a_fork_is_not_lost(tmp_path, monkeypatch):
    fork = os.fork

    def interrupted():
        os.kill(os.getpid(), signal.SIGINT)
        return fork()

    monkeypatch.setattr(os, "fork", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    with ForkedTrials(lambda *_: time.sleep(60), tmp_path) as trials:
        with pytest.raises(KeyboardInterrupt):
            search.run(OPTIONS, trials, tmp_path)
        assert list(trials._running) == [0]  # known, so that it is ended with the others
    assert signal.getsignal(signal.SIGINT) is handler


def test_trial_trains_as_long_as_tune_says_with_its_values():
    tried = tune_trial.of_trial(PART, {"estimator.args.optimizer.learning_rate": 0.3})
    assert (tried.train.max_steps, tried.train.evaluate_every_steps, tried.train.seed) == (20, 5, 3)
    assert tried.estimator.args["optimizer"] == {"name": "SGD", "learning_rate": 0.3}
