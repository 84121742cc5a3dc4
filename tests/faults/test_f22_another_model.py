"""Fault 22: a checkpoint of another model is refused with a table; what is skipped is asked for.

Fails when `checkpoints.restore` assigns what fits and leaves the rest, or casts between texts and
numbers.
"""

import keras
import pytest
import tensorflow as tf

import estimator_lib
from estimator_lib import variables
from estimator_lib.core.errors import CheckpointError, Reason
from tests.contract.test_estimator import data, estimator, linear


def model(change):
    """The linear model with one thing changed in what it keeps."""

    def model_fn(features, labels, mode, params):
        if change == "one more":
            variables.get_variable("more", [2], initializer=0.0)
        if change == "a text":
            tf.Variable("x", name="b", trainable=False)
            name = "c"
        else:
            name = "renamed" if change == "a name" else "b"
        shape = [1] if change == "a shape" else []
        w = variables.get_variable("w", [3], initializer=0.0)
        b = variables.get_variable(name, shape, initializer=0.0)
        y = tf.linalg.matvec(features["x"], w) + tf.reshape(b, [])
        if mode == estimator_lib.ModeKeys.PREDICT:
            return estimator_lib.EstimatorSpec(mode, predictions={"y": y})
        loss = tf.reduce_mean(tf.square(y - labels))
        if mode == estimator_lib.ModeKeys.EVAL:
            return estimator_lib.EstimatorSpec(mode, loss=loss)
        trained = [v for v in variables.trainable_variables() if "more" not in v.name]
        rate = keras.optimizers.SGD(0.1, momentum=0.9 if change == "an optimizer" else 0.0)
        op = rate.apply_gradients(zip(tf.gradients(loss, trained), trained, strict=True))
        return estimator_lib.EstimatorSpec(mode, loss=loss, train_op=op)

    return model_fn


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("one more", "more"), ("a name", "renamed"), ("a shape", "float32[1]"),
        ("a text", "string[]"), ("an optimizer", "momentum"),
    ],
)  # fmt: skip
def test_checkpoint_of_another_model_is_refused_with_what_was_expected_and_found(
    tmp_path, change, named
):
    estimator(tmp_path, model(None)).train(data(), steps=1)
    with pytest.raises(CheckpointError, match="belongs to another model") as caught:
        estimator(tmp_path, model(change)).train(data(), steps=1)
    assert caught.value.reason is Reason.CONFLICT
    assert named in caught.value.message
    assert estimator(tmp_path, model(None)).evaluate(data())["global_step"] == 1


def test_warm_start_of_what_does_not_fit_is_refused_too(tmp_path):
    estimator(tmp_path / "old", linear).train(data(), steps=1)
    made = estimator_lib.Estimator(
        model("a shape"), str(tmp_path / "new"), warm_start_from=str(tmp_path / "old")
    )
    with pytest.raises(CheckpointError, match="b"):
        made.train(data(), steps=1)
    assert made.latest_checkpoint() is None
