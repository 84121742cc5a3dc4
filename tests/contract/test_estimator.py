"""What every Estimator promises, on small models with known answers."""

import os
import pathlib
import signal
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

import estimator_lib as tf_estimator
from estimator_lib import variables
from estimator_lib.core.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    EstimatorLibError,
    Reason,
    TrainingError,
)
from estimator_lib.inputs import arrays_input

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 3)).astype(np.float32)
Y = (X @ np.array([1.0, -2.0, 3.0], np.float32) + 0.5).astype(np.float32)


def linear(features, labels, mode, params):
    w = variables.get_variable("w", [3], initializer=0.0)
    b = variables.get_variable("b", [], initializer=0.0)
    y = tf.linalg.matvec(features["x"], w) + b
    if mode == tf_estimator.ModeKeys.PREDICT:
        return tf_estimator.EstimatorSpec(mode, predictions={"y": y})
    loss = tf.reduce_mean(tf.square(y - labels))
    if mode == tf_estimator.ModeKeys.EVAL:
        mse = keras.metrics.MeanSquaredError()
        mse.update_state(labels, y)
        mae = tf.compat.v1.metrics.mean(tf.abs(y - labels))
        return tf_estimator.EstimatorSpec(
            mode, loss=loss, predictions={"y": y}, eval_metric_ops={"mse": mse, "mae": mae}
        )
    trained = variables.trainable_variables()
    rate = params.get("rate", 0.1)
    steps = [
        v.assign_sub(rate * g) for v, g in zip(trained, tf.gradients(loss, trained), strict=True)
    ]
    return tf_estimator.EstimatorSpec(mode, loss=loss, train_op=steps, predictions={"y": y})


def keras_layers(features, labels, mode):
    training = mode == tf_estimator.ModeKeys.TRAIN
    net = keras.Sequential(
        [
            keras.layers.Dense(4),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.1),
            keras.layers.Dense(1),
        ]
    )
    offset = tf.Variable(tf.random.normal([1]), name="offset")
    y = net(features["x"], training=training)[:, 0] + offset
    if mode == tf_estimator.ModeKeys.PREDICT:
        return tf_estimator.EstimatorSpec(mode, predictions=y)
    loss = tf.reduce_mean(tf.square(y - labels))
    if mode == tf_estimator.ModeKeys.EVAL:
        return tf_estimator.EstimatorSpec(mode, loss=loss)
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.01, 100, 0.9))
    trained = variables.trainable_variables()
    train_op = optimizer.apply_gradients(zip(tf.gradients(loss, trained), trained, strict=True))
    return tf_estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def data(epochs=1, batch=50, shuffle=False):
    return arrays_input({"x": X}, Y, batch_size=batch, epochs=epochs, shuffle=shuffle, seed=7)


def estimator(path, model_fn=linear, **config):
    config.setdefault("save_summary_steps", None)
    return tf_estimator.Estimator(
        model_fn, model_dir=str(path), config=tf_estimator.RunConfig(**config)
    )


def reference(steps, batch=50, rate=0.1):
    w, b = np.zeros(3), 0.0
    for i in range(steps):
        at = slice(i * batch % 200, i * batch % 200 + batch)
        error = X[at] @ w + b - Y[at]
        w, b = w - rate * 2 * X[at].T @ error / batch, b - rate * 2 * error.mean()
    return w, b


def test_train_sgd_matches_numpy(tmp_path):
    made = estimator(tmp_path)
    made.train(data(epochs=5))
    w, b = reference(20)
    np.testing.assert_allclose(made.get_variable_value("w"), w, rtol=1e-5)
    np.testing.assert_allclose(made.get_variable_value("b"), b, rtol=1e-5)
    assert made.get_variable_value("global_step") == 20
    assert made.get_variable_names() == ["b", "global_step", "w"]


def test_evaluate_gives_metrics_loss_and_step(tmp_path):
    made = estimator(tmp_path)
    made.train(data(epochs=3))
    result = made.evaluate(data(batch=60))
    w, b = reference(12)
    error = X @ w + b - Y
    means = [np.mean(error[i : i + 60] ** 2) for i in range(0, 200, 60)]
    assert result["global_step"] == 12
    np.testing.assert_allclose(result["loss"], np.mean(means), rtol=1e-4)
    np.testing.assert_allclose(result["mae"], np.mean(np.abs(error)), rtol=1e-4)
    assert (tmp_path / "eval" / "evaluations.jsonl").exists()


def test_repeated_calls_do_not_trace_again_and_agree(tmp_path):
    made = estimator(tmp_path)
    made.train(data(), steps=2)
    first = made.evaluate(data())
    traces = None
    for _ in range(3):
        assert made.evaluate(data()) == first
        assert len(list(made.predict(data()))) == 200
        made.train(data(), steps=2)
        first = made.evaluate(data())
        traces = traces or made.traces
        assert made.traces == traces
    assert np.all(data().dataset().take(1).get_single_element()[1] == Y[:50])


def test_reload_only_when_a_newer_checkpoint_exists(tmp_path):
    one, two = estimator(tmp_path), estimator(tmp_path)
    one.train(data(), steps=2)
    before = two.evaluate(data())
    one.train(data(), steps=2)
    assert two.evaluate(data())["global_step"] == 4
    assert before["global_step"] == 2


def test_predict_rows_batches_and_keys(tmp_path):
    made = estimator(tmp_path)
    made.train(data(epochs=3))
    rows = list(made.predict(data()))
    batches = list(made.predict(data(), yield_single_examples=False))
    assert len(rows) == 200
    assert [len(b["y"]) for b in batches] == [50] * 4
    np.testing.assert_array_equal([r["y"] for r in rows], np.concatenate([b["y"] for b in batches]))
    with pytest.raises(ConfigError, match="'z'"):
        next(made.predict(data(), predict_keys=["z"]))
    kept = made.predictor({"x": X[:1]})
    np.testing.assert_allclose(kept({"x": X[3:4]})["y"], rows[3]["y"], rtol=1e-6)
    assert set(made.predictor({"x": X[:1]}, "y")({"x": X.tolist()})) == {"y"}
    with pytest.raises(ConfigError, match="'z'"):
        made.predictor({"x": X[:1]}, ["z"])
    with pytest.raises(ConfigError, match="Feature 'x' is missing"):
        kept({"y": X})


def test_labelled_predictions_keep_rows_together(tmp_path):
    made = estimator(tmp_path).train(data(), steps=4)
    found = list(made.labelled_predictions(data(shuffle=True)))
    assert len(found) == 4
    rows = np.concatenate([batch.features["x"] for batch in found])
    predicted = np.concatenate([batch.predictions["y"] for batch in found])
    np.testing.assert_allclose(predicted, made.predictor({"x": X[:1]})({"x": rows})["y"], rtol=1e-5)
    labels = np.concatenate([batch.labels for batch in found])
    np.testing.assert_allclose(rows @ [1.0, -2.0, 3.0] + 0.5, labels, rtol=1e-4, atol=1e-5)
    with pytest.raises(DataError, match="never end"):
        next(made.labelled_predictions(data(epochs=None)))


def test_steps_and_max_steps(tmp_path):
    made = estimator(tmp_path)
    made.train(data(epochs=None), steps=3)
    made.train(data(epochs=None), max_steps=5)
    made.train(data(epochs=None), max_steps=4)
    assert made.get_variable_value("global_step") == 5
    for arguments in ({"steps": 1, "max_steps": 2}, {"steps": 0}, {"max_steps": -1}):
        with pytest.raises(ConfigError):
            made.train(data(), **arguments)


def test_keras_layers_batch_norm_and_optimizer_continue(tmp_path):
    made = estimator(tmp_path, keras_layers, tf_random_seed=3)
    made.train(data(epochs=10))
    again = estimator(tmp_path, keras_layers)
    assert again.evaluate(data()) == made.evaluate(data())
    assert {"dense/kernel", "batch_normalization/moving_mean"} <= {
        n.removeprefix("sequential/") for n in made.get_variable_names()
    }
    again.train(data(epochs=2))
    assert again.get_variable_value("global_step") == 48
    value = next(again.predict(data()))
    assert np.ndim(value) == 0


def test_same_seed_gives_same_weights_and_resuming_changes_nothing(tmp_path):
    whole = estimator(tmp_path / "whole", keras_layers, tf_random_seed=3)
    whole.train(data(epochs=4, shuffle=True))
    source = data(epochs=4, shuffle=True)
    estimator(tmp_path / "parts", keras_layers, tf_random_seed=3).train(source, max_steps=7)
    parts = estimator(tmp_path / "parts", keras_layers, tf_random_seed=3)
    parts.train(source)
    assert parts.get_variable_value("global_step") == 16
    for name in whole.get_variable_names():
        np.testing.assert_array_equal(
            whole.get_variable_value(name), parts.get_variable_value(name), err_msg=name
        )


def test_truncated_checkpoint_falls_back_with_one_warning(tmp_path, caplog):
    made = estimator(tmp_path, save_checkpoints_steps=4)
    made.train(data(epochs=2))
    broken = next(tmp_path.glob("model.ckpt-8.data*"))
    broken.write_bytes(broken.read_bytes()[:10])
    again = estimator(tmp_path)
    assert again.evaluate(data())["global_step"] == 4
    assert sum("GOING BACK" in record.message for record in caplog.records) == 1


def test_garbage_state_file_still_finds_the_newest(tmp_path):
    estimator(tmp_path, save_checkpoints_steps=4).train(data(epochs=2))
    (tmp_path / "checkpoint").write_bytes(b"\x00garbage")
    assert estimator(tmp_path).evaluate(data())["global_step"] == 8


def test_no_readable_checkpoint_is_refused(tmp_path):
    estimator(tmp_path).train(data(), steps=1)
    for path in tmp_path.glob("model.ckpt-*.data*"):
        path.write_bytes(b"x")
    with pytest.raises(CheckpointError) as caught:
        estimator(tmp_path).train(data(), steps=1)
    assert caught.value.reason is Reason.CORRUPT_FILE
    for path in tmp_path.glob("model.ckpt-*.index"):
        path.unlink()
    with pytest.raises(CheckpointError, match="incomplete"):
        estimator(tmp_path).train(data(), steps=1)


def test_changed_model_is_refused_with_a_table(tmp_path):
    estimator(tmp_path).train(data(), steps=1)
    with pytest.raises(CheckpointError) as caught:
        estimator(tmp_path, keras_layers).train(data(), steps=1)
    assert "sequential/dense/kernel" in caught.value.message
    assert "missing" in caught.value.message
    assert estimator(tmp_path).evaluate(data())["global_step"] == 1


def test_nan_loss_stops_before_the_checkpoint(tmp_path):
    def diverging(features, labels, mode):
        return linear(features, labels, mode, {"rate": 1e30})

    made = estimator(tmp_path, diverging, save_checkpoints_steps=1)
    with pytest.raises(tf_estimator.NanLossDuringTrainingError) as caught:
        made.train(data(epochs=9))
    assert "x in [" in caught.value.message
    newest = made.latest_checkpoint()
    assert np.all(np.isfinite(made.get_variable_value("w")))
    assert newest is not None


def test_second_trainer_is_refused(tmp_path):
    from estimator_lib.training.lease import Lease

    with Lease(str(tmp_path)), pytest.raises(CheckpointError) as caught:
        estimator(tmp_path).train(data(), steps=1)
    assert caught.value.reason is Reason.LEASED
    assert caught.value.retryable


def test_empty_input_names_the_input_fn(tmp_path):
    def no_rows():
        return tf.data.Dataset.from_tensor_slices(({"x": X[:0]}, Y[:0])).batch(5)

    for call in (estimator(tmp_path).train, estimator(tmp_path).evaluate):
        with pytest.raises(TrainingError, match="no_rows") as caught:
            call(no_rows)
        assert caught.value.reason is Reason.EMPTY_INPUT


def test_errors_in_a_graph_are_told_without_it(tmp_path):
    """What a user's input does in a compiled function is no matter of TensorFlow's insides."""

    def late(labels):
        def model_fn(features, labels, mode):
            logits = tf.stop_gradient(features["x"][:, :1]) * variables.get_variable(
                "w", [1], initializer=0.0
            )
            return tf_estimator.BinaryClassHead().create_estimator_spec(
                features, mode, logits, labels, "SGD", variables.trainable_variables()
            )

        def input_fn():
            def fail(features, label):
                if labels is None:
                    label = tf.io.decode_raw(tf.io.decode_base64("???"), tf.int64)[0]
                return features, label

            values = np.zeros(200, np.int64) if labels is None else labels
            return tf.data.Dataset.from_tensor_slices(({"x": X}, values)).map(fail).batch(50)

        return estimator(tmp_path, model_fn), input_fn

    model, input_fn = late(np.arange(200))
    for call in (model.train, model.evaluate):
        with pytest.raises(DataError, match=r"got 0 1 2 3 .* in a batch of .*input_fn") as caught:
            call(input_fn)
        assert caught.value.reason == Reason.LABEL_OUT_OF_RANGE
        assert caught.value.__suppress_context__
    model, input_fn = late(None)
    for call in (model.train, model.evaluate, lambda f: next(model.predict(f))):
        with pytest.raises(DataError, match=r"input_fn .*: .*Invalid character") as caught:
            call(input_fn)
        assert "Graph execution" not in str(caught.value)


def test_endless_evaluation_is_refused(tmp_path):
    made = estimator(tmp_path)
    with pytest.raises(DataError, match="for ever"):
        made.evaluate(data(epochs=None))
    assert made.evaluate(data(epochs=None), steps=3)["global_step"] == 0


def test_input_of_another_arity_is_refused(tmp_path):
    with pytest.raises(DataError, match="3 parts"):
        estimator(tmp_path).train(lambda: tf.data.Dataset.from_tensors(({"x": X}, Y, Y)), steps=1)


def test_tensors_as_input(tmp_path):
    made = estimator(tmp_path)
    made.train(lambda: ({"x": tf.constant(X)}, tf.constant(Y)), steps=4)
    assert made.evaluate(lambda: ({"x": X}, Y))["global_step"] == 4
    alone = estimator(
        tmp_path, lambda features, labels, mode: linear({"x": features}, labels, mode, {})
    )
    assert len(list(alone.predict(lambda: X))) == len(X)


def test_iterators_of_the_first_version_give_all_batches(tmp_path):
    def one_shot():
        iterator = tf.compat.v1.data.make_one_shot_iterator(data()())
        features, labels = iterator.get_next()
        return features, labels

    made = estimator(tmp_path)
    made.train(one_shot)
    assert made.get_variable_value("global_step") == 4
    assert made.evaluate(one_shot)["loss"] == made.evaluate(data())["loss"]


def test_hooks_see_the_steps_they_ask_for(tmp_path):
    class Seen(tf_estimator.Hook):
        def __init__(self, every):
            self.every_steps = every
            self.steps, self.calls = [], []

        def begin(self):
            self.calls.append("begin")

        def after_step(self, context):
            self.steps.append(context.step)
            assert np.isfinite(context.loss)

        def end(self, context):
            self.calls.append("end")

    every, fifth = Seen(1), Seen(5)
    stop = tf_estimator.StopAtStepHook(last_step=12)
    estimator(tmp_path).train(data(epochs=9), hooks=[every, fifth, stop])
    assert every.steps == list(range(1, 13))
    assert fifth.steps == [5, 10]
    assert every.calls == ["begin", "end"]


def test_hooks_for_sessions_run_when_an_input_left_at_its_end_begins_anew(tmp_path):
    ran = []

    class Counting(tf.compat.v1.train.SessionRunHook):
        def after_run(self, run_context, run_values):
            ran.append(run_context)

    made = estimator(tmp_path)
    made.train(data(), max_steps=4)
    made.train(data(), steps=2, hooks=[Counting()])
    assert made.get_variable_value("global_step") == 6
    assert len(ran) == 2


def test_profiles_are_written_for_tensorboard(tmp_path):
    model = tf_estimator.Estimator(linear, str(tmp_path / "m"))
    hook = tf_estimator.ProfilerHook(save_steps=2, output_dir=str(tmp_path / "p"), steps=1)
    model.train(data(None), hooks=[hook], steps=5)
    profiles = list((tmp_path / "p" / "plugins" / "profile").rglob("*.xplane.pb"))
    assert profiles
    assert all(path.stat().st_size > 0 for path in profiles)


def test_spec_hooks_fetch_tensors(tmp_path, caplog):
    caplog.set_level("INFO")

    def model_fn(features, labels, mode, params):
        spec = linear(features, labels, mode, params)
        if mode == tf_estimator.ModeKeys.TRAIN:
            mean = tf.reduce_mean(spec.predictions["y"])
            hook = tf_estimator.LoggingTensorHook({"mean": mean, "loss": "loss"}, every_n_iter=2)
            return spec._replace(training_hooks=[hook])
        return spec

    estimator(tmp_path, model_fn).train(data())
    assert sum("mean = " in record.message for record in caplog.records) == 2


def test_checkpoints_kept_and_listeners_told(tmp_path):
    told = []

    class Listener(tf_estimator.CheckpointSaverListener):
        def after_save(self, session, global_step_value):
            told.append(global_step_value)

    made = estimator(tmp_path, save_checkpoints_steps=2, keep_checkpoint_max=3)
    made.train(data(epochs=3), saving_listeners=[Listener()])
    assert told == [0, 2, 4, 6, 8, 10, 12]
    assert made.checkpoints.steps() == [8, 10, 12]
    assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / "model.ckpt-12")
    told.clear()
    saver = tf_estimator.CheckpointSaverHook(str(tmp_path), save_steps=3, listeners=[Listener()])
    made.train(data(epochs=2), hooks=[saver])
    assert told == [15, 18, 20]
    with pytest.raises(ConfigError, match="exactly one"):
        tf_estimator.CheckpointSaverHook(str(tmp_path), 1, 1)


def test_warm_start_takes_trainable_variables(tmp_path):
    old = estimator(tmp_path / "old")
    old.train(data(epochs=3))
    new = tf_estimator.Estimator(
        linear, model_dir=str(tmp_path / "new"), warm_start_from=str(tmp_path / "old")
    )
    result = new.evaluate(data())
    assert result["global_step"] == 0
    assert result["mse"] == old.evaluate(data())["mse"]


def test_add_metrics_keeps_training(tmp_path):
    made = estimator(tmp_path)
    made.train(data(epochs=2))

    def metric_fn(labels, predictions):
        worst = keras.metrics.Mean()
        worst.update_state(tf.reduce_max(tf.abs(labels - predictions["y"])))
        return {"worst": worst}

    result = tf_estimator.add_metrics(made, metric_fn).evaluate(data())
    assert result["worst"] > 0
    assert result["mse"] == made.evaluate(data())["mse"]


def first_version(features, labels, mode):
    """A model_fn as it was written for sessions and graphs."""
    v1 = tf.compat.v1
    with v1.variable_scope("tower"):
        w = v1.get_variable("w", [3], initializer=v1.zeros_initializer())
    y = tf.linalg.matvec(features["x"], w)
    loss = tf.reduce_mean(tf.square(y - labels))
    train_op = None
    if mode == tf_estimator.ModeKeys.TRAIN:
        step = v1.train.get_global_step()
        train_op = v1.train.AdamOptimizer(0.1).minimize(loss, global_step=step)
    metrics = {
        "mae": v1.metrics.mean_absolute_error(labels, y),
        "above": v1.metrics.accuracy(labels > 0, y > 0),
    }
    return tf_estimator.EstimatorSpec(mode, {"y": y}, loss, train_op, metrics)


def second_version(features, labels, mode):
    with variables.scope("tower"):
        w = variables.get_variable("w", [3], initializer=0.0)
    y = tf.linalg.matvec(features["x"], w)
    loss = tf.reduce_mean(tf.square(y - labels))
    adam = tf_estimator.optimizers.Adam(0.1, epsilon=1e-8)
    return tf_estimator.EstimatorSpec(
        mode, {"y": y}, loss, tf_estimator.optimizers.minimize(loss, adam)
    )


def test_functions_of_the_first_version_are_traced(tmp_path):
    model = tf_estimator.Estimator(first_version, str(tmp_path / "first"))
    model.train(data(), steps=3)
    again = tf_estimator.Estimator(first_version, model.model_dir)
    again.train(data(None), steps=3)
    assert set(again.get_variable_names()) == {
        "tower/w", "tower/w/Adam", "tower/w/Adam_1", "beta1_power", "beta2_power", "global_step",
    }  # fmt: skip
    new = tf_estimator.Estimator(second_version, str(tmp_path / "second"))
    new.train(data(None), steps=6)
    weights = again.get_variable_value("tower/w")
    np.testing.assert_allclose(weights, new.get_variable_value("tower/w"), rtol=1e-4)
    error = np.abs(X @ weights - Y).mean()
    for _ in range(2):
        found = again.evaluate(data())
        assert found["global_step"] == 6
        assert found["mae"] == pytest.approx(error, rel=1e-4)
        assert found["above"] == pytest.approx(((X @ weights > 0) == (Y > 0)).mean())
    assert not tf.compat.v1.trainable_variables()


@pytest.fixture
def without_tensorboard(monkeypatch):
    for name in ("tensorboard", "tensorboard.plugins", "tensorboard.plugins.scalar"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures("without_tensorboard")
def test_summaries_of_the_first_version_are_written_without_tensorboard(tmp_path):
    def model_fn(features, labels, mode):
        spec = second_version(features, labels, mode)
        tf.compat.v1.summary.scalar("center", tf.reduce_mean(features["x"]))
        with tf.name_scope("given"):
            tf.compat.v1.summary.histogram("spread", features["x"])
        return spec

    config = tf_estimator.RunConfig(save_summary_steps=2)
    tf_estimator.Estimator(model_fn, str(tmp_path), config=config).train(data(None), steps=5)
    found = [
        (event.step, value.tag)
        for path in tmp_path.glob("events.out.tfevents.*")
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    ]
    for step in (2, 4):
        assert (step, "center") in found
        assert (step, "given/spread") in found
    assert (3, "center") not in found


@pytest.mark.usefixtures("without_tensorboard")
def test_summaries_without_tensorboard_say_what_to_do(tmp_path):
    def model_fn(features, labels, mode):
        spec = second_version(features, labels, mode)
        tf.summary.scalar("mean", tf.reduce_mean(features["x"]))
        return spec

    model = tf_estimator.Estimator(model_fn, str(tmp_path))
    with pytest.raises(ConfigError, match="Install tensorboard, or give numbers to Summary"):
        model.train(data(), steps=1)


KERAS_2 = """
import keras, sys, tensorflow as tf
from estimator_lib.core.errors import ConfigError
from estimator_lib import Estimator

for use in (
    lambda x: tf.compat.v1.layers.separable_conv2d(x, 1, 1),
    lambda x: tf.keras.layers.DenseFeatures([]),
    lambda x: setattr(keras.optimizers.Adam(), "iterations", 0),
    lambda x: keras.optimizers.Adam().get_updates(x, []),
):
    try:
        Estimator(lambda features, labels, mode: use(features), sys.argv[1]).evaluate(
            lambda: tf.data.Dataset.from_tensors((tf.ones([2, 1]), tf.ones([2])))
        )
    except ConfigError as error:
        print(error.message)
"""


def test_what_went_with_keras_2_says_what_to_write(tmp_path):
    # A process of its own: tensorflow-transform, once imported, makes tf.keras Keras 2.
    environment = {n: v for n, v in os.environ.items() if n != "TF_USE_LEGACY_KERAS"}
    command = [sys.executable, "-c", KERAS_2, str(tmp_path)]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    lines = said.stdout.splitlines()
    fixes = ("its like of keras.layers", "input_layer", "Leave the line out", "optimizers.minimize")
    assert len(lines) == len(fixes)
    for line, fix in zip(lines, fixes, strict=True):
        assert fix in line


def test_old_checkpoint_by_name_is_read_and_training_goes_on(tmp_path):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.get_variable("w", initializer=tf.constant([1.0, 2.0, 3.0]), use_resource=True)
        tf.compat.v1.get_variable("b", initializer=tf.constant(0.25), use_resource=True)
        tf.compat.v1.train.create_global_step()
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver().save(session, str(tmp_path / "model.ckpt"), global_step=40)
    made = estimator(tmp_path)
    np.testing.assert_allclose(
        made.predictor({"x": X[:1]})({"x": X[:2]})["y"], X[:2] @ [1, 2, 3] + 0.25, rtol=1e-5
    )
    made.train(data(), steps=1)
    assert made.get_variable_value("b") != 0.25


def test_sigkill_and_rerun_give_the_same_weights(tmp_path):
    script = textwrap.dedent("""
        import os, signal, sys
        import estimator_lib as E
        sys.path.insert(0, os.path.dirname(sys.argv[2]))
        from test_estimator import data, estimator, keras_layers
        class Kill(E.Hook):
            every_steps = 1
            def after_step(self, context):
                if context.step == 11:
                    os.kill(os.getpid(), signal.SIGKILL)
        est = estimator(sys.argv[1], keras_layers, tf_random_seed=3, save_checkpoints_steps=5)
        est.train(data(epochs=5, shuffle=True), hooks=[Kill()] if sys.argv[3] == "kill" else [])
    """)
    here = str(pathlib.Path(__file__))
    run_script(script, tmp_path / "killed", here, "kill", code=-signal.SIGKILL)
    run_script(script, tmp_path / "killed", here, "go on")
    whole = estimator(tmp_path / "whole", keras_layers, tf_random_seed=3)
    whole.train(data(epochs=5, shuffle=True))
    killed = estimator(tmp_path / "killed", keras_layers)
    for name in whole.get_variable_names():
        np.testing.assert_array_equal(
            whole.get_variable_value(name), killed.get_variable_value(name), err_msg=name
        )


def test_sigterm_saves_and_asks_to_run_again(tmp_path):
    class Term(tf_estimator.Hook):
        def after_step(self, context):
            if context.step == 3:
                os.kill(os.getpid(), signal.SIGTERM)

    made = estimator(tmp_path)
    with pytest.raises(TrainingError, match="SIGTERM") as caught:
        made.train(data(epochs=9), hooks=[Term()])
    assert caught.value.exit_code == 75
    assert caught.value.reason is Reason.INTERRUPTED
    assert made.get_variable_value("global_step") == 3


def test_errors_of_model_fn_arguments():
    with pytest.raises(ConfigError, match="feats"):
        tf_estimator.Estimator(lambda feats: None)
    with pytest.raises(ConfigError, match="'label'"):
        tf_estimator.Estimator(lambda features, label: None)
    with pytest.raises(EstimatorLibError):
        tf_estimator.Estimator("linear")


def run_script(script, *arguments, code=0):
    root = str(pathlib.Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True, text=True, env=environment, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == code, done.stderr[-3000:]
