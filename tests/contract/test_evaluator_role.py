"""The evaluator ends, whatever became of the trainer; the chief waits for its word."""

import json

import pytest
import tensorflow as tf

import estimator_lib as tf_estimator
from estimator_lib.core import leases
from estimator_lib.core.errors import ConfigError
from estimator_lib.driver import Evaluator
from estimator_lib.inputs.arrays import arrays_input
from estimator_lib.training.attempts import LAST_EVALUATION_S, Attempt, Following

SERVING = tf_estimator.export.build_parsing_serving_input_receiver_fn(
    {"x": tf.io.FixedLenFeature([], tf.float32)}
)


class Time:
    """A clock that only sleeping moves; `then` happens at given naps."""

    def __init__(self, then=None):
        self.now = 0.0
        self.naps = 0
        self._then = then or {}

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.naps += 1
        self._then.get(self.naps, lambda: None)()


def data(epochs=1):
    return arrays_input({"x": [0.0, 1.0, 2.0, 3.0]}, [0, 1, 0, 1], batch_size=4, epochs=epochs)


def classifier(model_dir, **options):
    return tf_estimator.LinearClassifier(
        [tf_estimator.feature_column.numeric_column("x")],
        str(model_dir),
        config=tf_estimator.RunConfig(
            save_summary_steps=None, peer_timeout_secs=60, session_creation_timeout_secs=600,
            **options,
        ),
    )  # fmt: skip


def follow(model_dir, time, max_steps=None):
    spec = tf_estimator.EvalSpec(
        data(), start_delay_secs=0, throttle_secs=0,
        exporters=tf_estimator.FinalExporter("final", SERVING),
    )  # fmt: skip
    evaluator = Evaluator(
        classifier(model_dir), [spec], max_steps, sleep=time.sleep, clock=time.clock
    )
    metrics, (exported,) = evaluator.follow()["eval"]
    return int(metrics["global_step"]), exported


def train(model_dir, max_steps, **options):
    """Trains as a chief that does not wait: the evaluator that it would wait for is this thread."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Attempt, "await_evaluator", lambda *_, **__: None)
        tf_estimator.train_and_evaluate(
            classifier(model_dir),
            tf_estimator.TrainSpec(data(epochs=None), max_steps=max_steps, **options),
            tf_estimator.EvalSpec(data()),
        )


class Failing(tf_estimator.Hook):
    every_steps = 3

    def __init__(self, error):
        self._error = error

    def after_step(self, context):
        raise self._error


def fail(model_dir, error):
    with pytest.raises(type(error)):
        train(model_dir, 9, hooks=[Failing(error)])


def test_evaluator_of_a_trainer_that_raises_ends_with_its_error(tmp_path):
    time = Time({2: lambda: fail(tmp_path, ConfigError("no such table"))})
    with pytest.raises(RuntimeError, match="no such table") as raised:
        follow(tmp_path, time)
    assert not raised.value.retryable
    assert not (tmp_path / "export").exists()
    assert [e["step"] for e in evaluations(tmp_path)] == [0]


def test_evaluator_waits_for_the_next_attempt_after_an_error_that_may_pass(tmp_path):
    lost = tf_estimator.NanLossDuringTrainingError("a machine was lost")
    lost.retryable = True
    time = Time({2: lambda: fail(tmp_path, lost), 5: lambda: train(tmp_path, 4)})
    step, exported = follow(tmp_path, time)
    assert step == 4
    assert exported is not None


def test_evaluator_ends_when_nobody_tries_again(tmp_path):
    lost = tf_estimator.NanLossDuringTrainingError("a machine was lost")
    lost.retryable = True
    time = Time({2: lambda: fail(tmp_path, lost)})
    with pytest.raises(RuntimeError, match=r"for 60 s: .*a machine was lost") as raised:
        follow(tmp_path, time)
    assert raised.value.retryable
    assert 60 <= time.now < 120


def test_evaluator_ends_when_no_trainer_ever_comes(tmp_path):
    time = Time()
    with pytest.raises(RuntimeError, match="Nobody has trained"):
        follow(tmp_path, time)
    assert 600 <= time.now < 660


def test_an_old_record_says_nothing_about_the_attempt_that_comes(tmp_path):
    train(tmp_path, 2)
    time = Time({2: lambda: train(tmp_path, 6)})
    step, exported = follow(tmp_path, time, max_steps=6)
    assert step == 6
    assert exported is not None
    assert [e["step"] for e in evaluations(tmp_path)][-1] == 6


def test_evaluator_that_comes_late_evaluates_the_end(tmp_path):
    train(tmp_path, 2)
    time = Time()
    step, exported = follow(tmp_path, time)
    assert step == 2
    assert exported is not None
    assert 60 <= time.now < 120


def test_a_checkpoint_that_is_deleted_meanwhile_is_passed_over(tmp_path, monkeypatch):
    def to(step):
        return lambda: classifier(tmp_path).train(data(epochs=None), max_steps=step)

    evaluate = tf_estimator.LinearClassifier.evaluate

    def slowly(self, *args, checkpoint_path=None, **options):
        if checkpoint_path.endswith("-2"):
            self.checkpoints.delete(2)
        return evaluate(self, *args, checkpoint_path=checkpoint_path, **options)

    monkeypatch.setattr(tf_estimator.LinearClassifier, "evaluate", slowly)
    step, exported = follow(tmp_path, Time({2: to(2), 3: to(4)}), max_steps=4)
    assert step == 4
    assert exported is not None


def test_evaluator_ends_where_early_stopping_ended_training(tmp_path):
    class Stop(tf_estimator.Hook):
        every_steps = 3

        def after_step(self, context):
            context.request_stop("enough")

    time = Time({2: lambda: train(tmp_path, 100, hooks=[Stop()])})
    step, exported = follow(tmp_path, time, max_steps=100)
    assert step == 3
    assert exported is not None


def evaluations(model_dir):
    lines = (model_dir / "eval/evaluations.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_chief_waits_for_the_evaluators_word(tmp_path):
    following = Following(str(tmp_path))
    with Attempt(str(tmp_path)) as attempt, following:
        attempt.finish(3)
        time = Time({4: lambda: following.__exit__(None, None, None)})
        attempt.await_evaluator(expected=False, silence_s=60, clock=time.clock, sleep=time.sleep)
        assert time.naps == 4


def test_chief_waits_for_a_living_evaluator_only_so_long(tmp_path):
    with Attempt(str(tmp_path)) as attempt, Following(str(tmp_path)):
        attempt.finish(3)
        time = Time()
        attempt.await_evaluator(expected=True, silence_s=60, clock=time.clock, sleep=time.sleep)
        assert LAST_EVALUATION_S <= time.now < LAST_EVALUATION_S + 60


@pytest.mark.parametrize(("expected", "seconds"), [(True, 60), (False, 0)])
def test_chief_waits_for_an_evaluator_that_is_not_there_if_one_is_expected(
    tmp_path, expected, seconds
):
    with Attempt(str(tmp_path)) as attempt:
        attempt.finish(3)
        time = Time()
        attempt.await_evaluator(expected=expected, silence_s=60, clock=time.clock, sleep=time.sleep)
        assert time.now == seconds


def test_a_second_chief_is_refused(tmp_path):
    with (
        Attempt(str(tmp_path)),
        pytest.raises(ValueError, match="in use by another trainer"),
        Attempt(str(tmp_path)),
    ):
        pass
    assert leases.living(tmp_path / ".attempt") is None
