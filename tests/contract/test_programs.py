"""Whole programs of 2.15 run with the import changed; their numbers are those that 2.15 gave."""

import pytest
import tensorflow as tf

import estimator_lib as tf_estimator
from estimator_lib.core.errors import CheckpointError, ConfigError
from tests.contract import library_programs, programs


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


def test_click_models_give_the_numbers_of_2_15(tmp_path):
    found = library_programs.click_model(tf_estimator, str(tmp_path))
    assert found["loss"] == pytest.approx(26.5136337, abs=1e-4)
    assert found["LogLoss"] == pytest.approx(0.6628408, abs=1e-6)
    assert found["AUC"] == pytest.approx(0.8383247, abs=1e-6)
    assert found["predicted"] == pytest.approx([0.4772120, 0.4745528], abs=1e-6)
    assert found["steps seen"] == found["global_step"] == 15
    layers = [name for name in found["variables"] if "dense" in name]
    assert layers == [
        "dnn/dense/bias", "dnn/dense/bias/Adagrad", "dnn/dense/kernel", "dnn/dense/kernel/Adagrad",
        "dnn/dense_1/kernel", "dnn/dense_1/kernel/Adagrad",
    ]  # fmt: skip


def test_rankers_of_two_tasks_give_the_numbers_of_2_15(tmp_path):
    found = library_programs.ranker(tf_estimator, str(tmp_path))
    assert found["loss"] == pytest.approx(0.1372367, abs=1e-5)
    assert found["click precision"] == 1.0
    assert found["labels"] == pytest.approx(0.3)
    assert found["signatures"] == [
        "buy/predict", "buy/regression", "buy/serving_default", "click/predict",
        "click/regression", "click/serving_default", "predict", "serving_default",
    ]  # fmt: skip
    assert found["score"] == pytest.approx(
        {"buy/output": 20.29029, "click/output": 20.29029}, rel=1e-4
    )


def test_steps_of_optimizers_that_train_op_does_not_hold_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="which train_op does not hold"):
        library_programs.ranker(tf_estimator, str(tmp_path), own_steps=True)


def test_ensembles_of_models_are_trained_by_iterations(tmp_path):
    found = library_programs.ensemble(tf_estimator, str(tmp_path))
    assert found["losses"][1] < found["losses"][0]
    assert [step for step, _ in found["told"]] == [20, 40]
    assert found["global_step"] == 40
    assert found["variables"] == [
        "candidate_dnn/dnn/hiddenlayer_0/bias", "candidate_dnn/dnn/hiddenlayer_0/kernel",
        "candidate_dnn/dnn/logits/bias", "candidate_dnn/dnn/logits/kernel",
        "candidate_linear/linear/linear_model/bias_weights",
        "candidate_linear/linear/linear_model/x/weights", "ensemble/mixture", "global_step",
    ]  # fmt: skip


SIGNATURES = ["predict", "regression", "serving_default"]
METRICS = ["average_loss", "global_step", "label/mean", "loss", "prediction/mean"]


def test_taxi_rides_are_trained_and_served_from_raw_examples(tmp_path):
    found = library_programs.taxi(tf_estimator, str(tmp_path))
    assert found["global_step"] == 60
    assert found["metrics"] == sorted(
        [*METRICS, "accuracy", "accuracy_baseline", "auc", "auc_precision_recall", "precision",
         "recall"]
    )  # fmt: skip
    assert found["evaluated"]
    assert found["signatures"] == ["classification", *SIGNATURES]
    assert found["scores"] == [1, 2]


def test_films_are_rated_with_hooks_and_exported(tmp_path):
    found = library_programs.films(tf_estimator, str(tmp_path))
    assert found == {
        "global_step": 20, "metrics": METRICS, "told": True, "signatures": SIGNATURES,
    }  # fmt: skip


def test_irises_give_the_numbers_of_2_15(tmp_path):
    found = library_programs.irises(tf_estimator, str(tmp_path))
    assert found["loss"] == pytest.approx(0.6310872, abs=1e-5)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["probabilities"] == pytest.approx([0.0159012, 0.1941300, 0.7899687], abs=1e-5)


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
