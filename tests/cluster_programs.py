"""Programs that the tasks of a test's cluster run."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

import estimator_lib as tf_estimator
from estimator_lib import optimizers
from estimator_lib.inputs.arrays import arrays_input

ROWS, KEYS = 2_048, 50


def rows() -> tuple[dict[str, Any], Any]:
    """Returns features and labels."""
    rng = np.random.default_rng(0)
    x, key = rng.normal(size=ROWS).astype("float32"), rng.integers(0, KEYS, ROWS)
    label = (x + key / KEYS + rng.normal(size=ROWS) > 0.5).astype("int64")
    return {"x": x, "key": key}, label


def wide_and_deep(
    model_dir: str, optimizer: str = "Adagrad", parts: int = 0, **options: Any
) -> tf_estimator.Estimator:
    """Returns an estimator; `parts` cuts its tables."""
    columns = tf_estimator.feature_column
    key = columns.categorical_column_with_identity("key", KEYS)
    partitioner = tf.compat.v1.fixed_size_partitioner(parts) if parts else None
    settings = {
        "save_checkpoints_steps": 1_000,
        "session_creation_timeout_secs": 60,
        "tf_random_seed": 1,
        **options,
    }
    return tf_estimator.DNNLinearCombinedClassifier(
        linear_feature_columns=[key],
        dnn_feature_columns=[columns.numeric_column("x"), columns.embedding_column(key, 4)],
        dnn_hidden_units=[8],
        dnn_optimizer=optimizers.get(optimizer),
        linear_optimizer="Ftrl",
        config=tf_estimator.RunConfig(model_dir=model_dir, partitioner=partitioner, **settings),
    )


def batches(epochs: int | None = None) -> Any:
    """Returns an input."""
    features, labels = rows()
    return arrays_input(features, labels, batch_size=64, epochs=epochs, shuffle=True, seed=1)


def train(max_steps: int, **settings: Any) -> Any:
    """Trains and evaluates."""
    return tf_estimator.train_and_evaluate(
        wide_and_deep(**settings),
        tf_estimator.TrainSpec(batches(), max_steps=max_steps),
        tf_estimator.EvalSpec(batches(1), steps=None, start_delay_secs=0, throttle_secs=0),
    )


def counting(model_dir: str) -> tf_estimator.Estimator:
    """Returns an estimator as of 2.15 whose variable `seen` counts the steps that were made."""

    def model_fn(features: Any, labels: Any, mode: str) -> tf_estimator.EstimatorSpec:
        weight = tf.compat.v1.get_variable("weight", [1], initializer=tf.zeros_initializer())
        seen = tf.compat.v1.get_variable(
            "seen", [], tf.int64, initializer=tf.zeros_initializer(), trainable=False
        )
        logits = features["x"] * weight
        loss = tf.reduce_mean(tf.square(tf.cast(labels, tf.float32) - logits))
        train_op = None
        if mode == tf_estimator.ModeKeys.TRAIN:
            step = tf.compat.v1.train.get_global_step()
            optimizer = tf.compat.v1.train.AdagradOptimizer(0.05)
            train_op = tf.group(optimizer.minimize(loss, global_step=step), seen.assign_add(1))
        return tf_estimator.EstimatorSpec(mode, loss=loss, train_op=train_op, predictions=logits)

    config = tf_estimator.RunConfig(
        model_dir=model_dir, save_checkpoints_steps=1_000, session_creation_timeout_secs=60
    )
    return tf_estimator.Estimator(model_fn, config=config)


def count(model_dir: str, max_steps: int) -> Any:
    """Trains and evaluates `counting`."""

    def input_fn() -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices(rows()).repeat().batch(32)

    return tf_estimator.train_and_evaluate(
        counting(model_dir),
        tf_estimator.TrainSpec(input_fn, max_steps=max_steps),
        tf_estimator.EvalSpec(input_fn, steps=2, start_delay_secs=0, throttle_secs=0),
    )
