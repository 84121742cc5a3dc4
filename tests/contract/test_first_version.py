"""What model functions call of `tf.compat.v1`: layers without Keras 2, scaffolds, parts."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import estimator_lib as tf_estimator
from estimator_lib.core.errors import ConfigError
from estimator_lib.training import first_layers

v1 = tf.compat.v1
IMAGES = np.random.default_rng(2).normal(size=(8, 6, 6, 2)).astype(np.float32)


def images(epochs=1):
    return lambda: (
        tf.data.Dataset.from_tensor_slices(({"x": IMAGES}, IMAGES.mean((1, 2, 3))))
        .batch(4)
        .repeat(epochs)
    )


@pytest.fixture(autouse=True)
def _own_layers(monkeypatch):
    """Keras 2 has layers of its own there once another test has imported it."""
    for function in first_layers.FUNCTIONS:
        monkeypatch.setitem(vars(v1.layers), function.__name__, function)


def spec(mode, predictions, labels, **fields):
    if mode == "infer":
        return tf_estimator.EstimatorSpec(mode, predictions)
    loss = tf.reduce_mean((predictions - tf.cast(labels, tf.float32)) ** 2)
    with tf.control_dependencies(v1.get_collection(v1.GraphKeys.UPDATE_OPS)):
        step = v1.train.get_global_step()
        train = v1.train.GradientDescentOptimizer(0.01).minimize(loss, step)
    return tf_estimator.EstimatorSpec(mode, predictions, loss, train, **fields)


def test_layers_give_the_numbers_of_keras(tmp_path):
    def model_fn(features, labels, mode):
        training = mode == "train"
        net = v1.layers.conv2d(features["x"], 3, 3, 2, "same", activation=tf.nn.relu)
        net = v1.layers.batch_normalization(net, training=training)
        net = v1.layers.max_pooling2d(net, 2, 1)
        net = v1.layers.dense(v1.layers.flatten(net), 4)
        net = v1.layers.dropout(net, 0.5, training=training)
        return spec(mode, v1.layers.dense(net, 1, name="last")[:, 0], labels)

    config = tf_estimator.RunConfig(tf_random_seed=1)
    model = tf_estimator.Estimator(model_fn, str(tmp_path), config)
    model.train(images(None), steps=4)
    names = {
        "conv2d": ("kernel", "bias"),
        "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
        "dense": ("kernel", "bias"),
        "last": ("kernel", "bias"),
    }
    assert set(model.get_variable_names()) == {
        "global_step", *(f"{layer}/{name}" for layer, kept in names.items() for name in kept)
    }  # fmt: skip
    same = keras.Sequential(
        [
            keras.layers.Conv2D(3, 3, 2, "same", activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.MaxPooling2D(2, 1),
            keras.layers.Flatten(),
            keras.layers.Dense(4),
            keras.layers.Dense(1),
        ]
    )
    same.build(IMAGES.shape)
    same.set_weights(
        [model.get_variable_value(f"{layer}/{n}") for layer, kept in names.items() for n in kept]
    )
    found = np.array(list(model.predict(images())))
    np.testing.assert_allclose(found, same(IMAGES, training=False)[:, 0], rtol=1e-5, atol=1e-5)


def test_moving_averages_of_images_hold_the_unbiased_variance(tmp_path):
    def model_fn(features, labels, mode):
        net = v1.layers.batch_normalization(features["x"], training=mode == "train", momentum=0.5)
        return spec(mode, tf.reduce_mean(net, [1, 2, 3]), labels)

    model = tf_estimator.Estimator(model_fn, str(tmp_path))
    model.train(images(), steps=1)
    rows = IMAGES[:4].reshape(-1, 2)
    mean, variance = rows.mean(0), rows.var(0, ddof=1)
    values = model.get_variable_value
    np.testing.assert_allclose(
        values("batch_normalization/moving_mean"), mean / 2, rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
        values("batch_normalization/moving_variance"), 0.5 + variance / 2, rtol=1e-4
    )


@pytest.mark.parametrize(
    ("layer", "argument"),
    [
        (first_layers.dense, {"units": 1, "activity_regularizer": abs}),
        (first_layers.batch_normalization, {"renorm": True}),
    ],
)
def test_what_a_layer_cannot_do_is_refused(layer, argument):
    with pytest.raises(ConfigError, match=list(argument)[-1]):
        layer(tf.ones([2, 2]), **argument)


def with_scaffold(make):
    def model_fn(features, labels, mode):
        weights = v1.get_variable("w", [2, 1])
        predictions = tf.matmul(tf.reduce_mean(features["x"], [1, 2]), weights)[:, 0]
        return spec(mode, predictions * 0.0, labels, scaffold=make(weights))

    return model_fn


def test_init_fn_of_a_scaffold_begins_a_training_once(tmp_path):
    old = tf_estimator.Estimator(with_scaffold(lambda w: None), str(tmp_path / "old"))
    old.train(images(), steps=1)
    path, calls = old.latest_checkpoint(), []

    def make(weights):
        saver = v1.train.Saver([weights])

        def init_fn(scaffold, session):
            saver.restore(session, path)
            session.run(weights.assign_add(tf.ones([2, 1])))
            calls.append(scaffold)

        return v1.train.Scaffold(init_fn=init_fn)

    for steps in (1, 2):
        new = tf_estimator.Estimator(with_scaffold(make), str(tmp_path / "new"))
        new.train(images(), max_steps=steps)
    assert len(calls) == 1
    np.testing.assert_allclose(
        new.get_variable_value("w"), old.get_variable_value("w") + 1.0, rtol=1e-6
    )
    first = tf.train.load_variable(str(tmp_path / "new" / "model.ckpt-0"), "w")
    np.testing.assert_allclose(first, new.get_variable_value("w"))


def test_finalize_of_a_scaffold_is_called_and_a_saver_is_told(tmp_path, caplog):
    calls = []

    class Scaffold(v1.train.Scaffold):
        def finalize(self):
            calls.append(self)
            return super().finalize()

    model_fn = with_scaffold(lambda w: Scaffold(saver=v1.train.Saver(max_to_keep=2)))
    tf_estimator.Estimator(model_fn, str(tmp_path)).train(images(), steps=1)
    assert calls
    assert "keep_checkpoint_max" in caplog.text


def test_a_scaffold_that_feeds_is_refused(tmp_path):
    model_fn = with_scaffold(lambda w: v1.train.Scaffold(init_feed_dict={"x": 1}))
    with pytest.raises(ConfigError, match="init_feed_dict"):
        tf_estimator.Estimator(model_fn, str(tmp_path)).train(images(), steps=1)


def named(features, labels, mode):
    weights = v1.get_variable("w", [2, 1])
    predictions = tf.matmul(tf.reduce_mean(features["x"], [1, 2]), weights)[:, 0]
    with tf.name_scope("tower"):
        tf.reduce_max(tf.abs(predictions), name="top")
    return spec(mode, predictions, labels)


@pytest.mark.parametrize(
    "hook",
    [tf_estimator.LoggingTensorHook, v1.train.LoggingTensorHook],
)
def test_tensors_are_logged_by_their_names(hook, tmp_path):
    lines = []
    logs = hook(["tower/top"], every_n_iter=1, formatter=lambda v: lines.append(v) or "")
    tf_estimator.Estimator(named, str(tmp_path)).train(images(), steps=2, hooks=[logs])
    assert len(lines) == 2
    assert all(line["tower/top"] > 0 for line in lines)


@pytest.mark.parametrize(
    "hook",
    [tf_estimator.LoggingTensorHook, v1.train.LoggingTensorHook],
)
def test_a_name_that_no_tensor_has_is_told(hook, tmp_path):
    logs = hook(["tower/tip"], every_n_iter=1)
    with pytest.raises(ConfigError, match="tower/tip"):
        tf_estimator.Estimator(named, str(tmp_path)).train(images(), steps=2, hooks=[logs])


def test_common_hooks_of_tensorflow_run(tmp_path):
    final = v1.train.FinalOpsHook({"top": "tower/top:0"})
    model = tf_estimator.Estimator(named, str(tmp_path))
    model.train(images(None), steps=9, hooks=[v1.train.StopAtStepHook(num_steps=2), final])
    assert model.get_variable_value("global_step") == 2
    assert final.final_ops_values["top"] > 0


def test_what_feeds_is_refused_at_once_with_the_edit(tmp_path):
    hook = v1.train.FeedFnHook(lambda: {"x:0": 1})
    with pytest.raises(ConfigError, match="by the input_fn"):
        tf_estimator.Estimator(named, str(tmp_path)).train(images(), steps=1, hooks=[hook])
    with pytest.raises(AttributeError, match="into the input_fn"):
        tf_estimator.FeedFnHook  # noqa: B018
    with pytest.raises(ConfigError, match="final_ops"):
        tf_estimator.FinalOpsHook("tower/top")
