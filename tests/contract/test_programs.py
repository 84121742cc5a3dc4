"""Whole programs of 2.15 run with the import changed; their numbers are those that 2.15 gave."""

import pytest
import tensorflow as tf

import estimator_lib as tf_estimator
from estimator_lib.core.errors import CheckpointError, ConfigError
from tests.contract import programs


def test_tuning_from_a_checkpoint_gives_the_numbers_of_2_15(tmp_path):
    found = programs.fine_tuned(tf_estimator, str(tmp_path))
    assert found["losses"] == pytest.approx([0.4231568, 9.872e-07, 0.0], abs=1e-6)
    assert found["accuracy"] == 1.0
    assert found["first row"] == pytest.approx([0.0, 1.0], abs=1e-6)


def test_census_trains_evaluates_and_serves(tmp_path):
    found = programs.census(tf_estimator, str(tmp_path))
    assert found["linear loss"] == pytest.approx(0.4635273, abs=1e-5)
    assert found["global_step"] == 40
    assert found["served"] == [
        "all_class_ids", "all_classes", "class_ids", "classes", "logistic", "logits",
        "probabilities",
    ]  # fmt: skip


def test_flowers_are_told_apart(tmp_path):
    found = programs.flowers(tf_estimator, str(tmp_path))
    assert found["accuracy"] > 0.5
    assert found["class"] == 2
    assert 1 / 3 < found["probability"] < 1


def started(tmp_path, name, assignment):
    """A model whose variables begin with those of another's scope `a`, trained for no step."""

    def model_fn(features, labels, mode):
        scope = "a" if name == "old" else "b"
        with tf.compat.v1.variable_scope(scope):
            draw = tf.compat.v1.random_normal_initializer()
            weight = tf.compat.v1.get_variable("w", [2], initializer=draw)
            bias = tf.compat.v1.get_variable("bias", [], initializer=draw)
        if assignment is not None:
            wanted = assignment(weight)
            tf.compat.v1.train.init_from_checkpoint(str(tmp_path / "old"), wanted)
        loss = tf.reduce_sum(weight) * features + bias - labels
        return tf_estimator.EstimatorSpec(mode, loss=tf.reduce_mean(loss), train_op=tf.no_op())

    def inputs():
        return tf.data.Dataset.from_tensors((tf.ones([3]), tf.ones([3])))

    model = tf_estimator.Estimator(model_fn, str(tmp_path / name))
    model.train(inputs)
    return [model.get_variable_value(n) for n in model.get_variable_names() if n != "global_step"]


@pytest.mark.parametrize(
    ("assignment", "same"),
    [
        (lambda _: {"a/": "b/"}, [True, True]),
        (lambda _: {"a/w": "b/w"}, [False, True]),
        (lambda weight: {"a/w": weight}, [False, True]),
        (lambda weight: [("a/w", [weight])], [False, True]),
    ],
)
def test_variables_begin_with_those_of_a_checkpoint(assignment, same, tmp_path):
    old = started(tmp_path, "old", None)
    new = started(tmp_path, "new", assignment)
    assert [(one == other).all() for one, other in zip(old, new, strict=True)] == same


def test_wrong_maps_of_a_checkpoint_are_refused(tmp_path):
    started(tmp_path, "old", None)
    with pytest.raises(CheckpointError, match="has no 'a/v'"):
        started(tmp_path, "one", lambda _: {"a/v": "b/w"})
    with pytest.raises(ConfigError, match="'b/v', which is no variable"):
        started(tmp_path, "two", lambda _: {"a/w": "b/v"})
    with pytest.raises(CheckpointError, match=r"expected shape \(2,\), got \(\)"):
        started(tmp_path, "three", lambda _: {"a/bias": "b/w"})
    with pytest.raises(ConfigError, match="expected a variable of the model"):
        started(tmp_path, "four", lambda _: {"a/w": 3})
