"""Feed-forward networks: DNNClassifier, DNNRegressor, DNNEstimator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from estimator_lib.canned import networks
from estimator_lib.estimator import Estimator
from estimator_lib.losses import LossReduction
from estimator_lib.specs import EstimatorSpec, compilable


class DNNEstimator(Estimator):
    """A feed-forward network with any head.

    Args:
        head: Says what is predicted.
        hidden_units: Widths of the hidden layers.
        feature_columns: Dense columns.
        model_dir: See `Estimator`.
        optimizer: Name, instance, function or mapping; see `optimizers.get`.
        activation_fn: Of the hidden layers: a function or its name in `tf.nn`.
        dropout: Share of each hidden layer that is dropped in training.
        config: See `Estimator`.
        warm_start_from: See `Estimator`.
        batch_norm: Whether to normalize each hidden layer.
    """

    def __init__(
        self,
        head: Any,
        hidden_units: Sequence[int],
        feature_columns: Sequence[Any],
        model_dir: str | None = None,
        optimizer: Any = "Adagrad",
        activation_fn: Any = tf.nn.relu,
        dropout: float | None = None,
        config: Any = None,
        warm_start_from: Any = None,
        batch_norm: bool = False,
    ) -> None:
        model_fn = _model_fn(
            type(self).__name__, head, hidden_units, feature_columns, optimizer, activation_fn,
            dropout, batch_norm,
        )  # fmt: skip
        super().__init__(model_fn, model_dir, config, None, warm_start_from)


class DNNClassifier(Estimator):
    """A feed-forward network for classes.

    Args:
        hidden_units: Widths of the hidden layers.
        feature_columns: Dense columns.
        model_dir: See `Estimator`.
        n_classes: 2 or more.
        weight_column: Feature with the examples' weights.
        label_vocabulary: Texts of the classes, if labels are texts.
        optimizer: Name, instance, function or mapping; see `optimizers.get`.
        activation_fn: Of the hidden layers: a function or its name in `tf.nn`.
        dropout: Share of each hidden layer that is dropped in training.
        config: See `Estimator`.
        warm_start_from: See `Estimator`.
        loss_reduction: See `losses.LossReduction`.
        batch_norm: Whether to normalize each hidden layer.
        auc_thresholds: See `BinaryClassHead`.
    """

    def __init__(
        self,
        hidden_units: Sequence[int],
        feature_columns: Sequence[Any],
        model_dir: str | None = None,
        n_classes: int = 2,
        weight_column: Any = None,
        label_vocabulary: Sequence[Any] | None = None,
        optimizer: Any = "Adagrad",
        activation_fn: Any = tf.nn.relu,
        dropout: float | None = None,
        config: Any = None,
        warm_start_from: Any = None,
        loss_reduction: Any = LossReduction.SUM_OVER_BATCH_SIZE,
        batch_norm: bool = False,
        *,
        auc_thresholds: int | None = None,
    ) -> None:
        head = networks.head_for_classes(
            n_classes, weight_column, label_vocabulary, loss_reduction, auc_thresholds
        )
        model_fn = _model_fn(
            type(self).__name__, head, hidden_units, feature_columns, optimizer, activation_fn,
            dropout, batch_norm,
        )  # fmt: skip
        super().__init__(model_fn, model_dir, config, None, warm_start_from)


class DNNRegressor(Estimator):
    """A feed-forward network for numbers.

    Args:
        hidden_units: Widths of the hidden layers.
        feature_columns: Dense columns.
        model_dir: See `Estimator`.
        label_dimension: Numbers per example.
        weight_column: Feature with the examples' weights.
        optimizer: Name, instance, function or mapping; see `optimizers.get`.
        activation_fn: Of the hidden layers: a function or its name in `tf.nn`.
        dropout: Share of each hidden layer that is dropped in training.
        config: See `Estimator`.
        warm_start_from: See `Estimator`.
        loss_reduction: See `losses.LossReduction`.
        batch_norm: Whether to normalize each hidden layer.
    """

    def __init__(
        self,
        hidden_units: Sequence[int],
        feature_columns: Sequence[Any],
        model_dir: str | None = None,
        label_dimension: int = 1,
        weight_column: Any = None,
        optimizer: Any = "Adagrad",
        activation_fn: Any = tf.nn.relu,
        dropout: float | None = None,
        config: Any = None,
        warm_start_from: Any = None,
        loss_reduction: Any = LossReduction.SUM_OVER_BATCH_SIZE,
        batch_norm: bool = False,
    ) -> None:
        head = networks.head_for_numbers(label_dimension, weight_column, loss_reduction)
        model_fn = _model_fn(
            type(self).__name__, head, hidden_units, feature_columns, optimizer, activation_fn,
            dropout, batch_norm,
        )  # fmt: skip
        super().__init__(model_fn, model_dir, config, None, warm_start_from)


def _model_fn(
    model: str,
    head: Any,
    hidden_units: Sequence[int],
    feature_columns: Sequence[Any],
    optimizer: Any,
    activation_fn: Any,
    dropout: float | None,
    batch_norm: bool,
) -> Callable[..., EstimatorSpec]:
    head = networks.checked_head(model, head)
    units = networks.checked_units(model, "hidden_units", hidden_units)
    columns = networks.checked_columns(model, "feature_columns", feature_columns, dense=True)
    rate = networks.checked_rate(model, "dropout", dropout)
    activation = networks.activation(activation_fn)
    trainer = networks.optimizer(optimizer, networks.DNN_RATES)

    @compilable
    def model_fn(features: Any, labels: Any, mode: str) -> EstimatorSpec:
        logits, made, updates = networks.dnn_logits(
            features,
            columns,
            head.logits_dimension,
            hidden_units=units,
            activation_fn=activation,
            dropout_rate=rate,
            with_batch_norm=batch_norm,
            mode=mode,
        )
        return head.create_estimator_spec(
            features, mode, logits, labels, trainer, made, update_ops=updates
        )

    return model_fn
