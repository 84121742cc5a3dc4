"""Deep and cross networks: explicit products of features beside a feed-forward network.

References: Wang et al., DCN V2, arXiv 2008.13535.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from estimator_lib import variables
from estimator_lib.canned import networks
from estimator_lib.core.errors import ConfigError, Reason, quote
from estimator_lib.estimator import Estimator
from estimator_lib.features.dense import dense_features
from estimator_lib.losses import LossReduction
from estimator_lib.specs import EstimatorSpec, ModeKeys, compilable


class DCNEstimator(Estimator):
    """Deep and cross network with any head.

    Args:
        head: Says what is predicted.
        feature_columns: Dense columns.
        hidden_units: Widths of the hidden layers of the deep part.
        model_dir: See `Estimator`.
        cross_layers: Depth of the cross part: products of up to cross_layers + 1 features.
        cross_rank: Rank of the cross matrices; None for full ones.
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
        feature_columns: Sequence[Any],
        hidden_units: Sequence[int] = (128, 64),
        model_dir: str | None = None,
        cross_layers: int = 2,
        cross_rank: int | None = None,
        optimizer: Any = "Adagrad",
        activation_fn: Any = tf.nn.relu,
        dropout: float | None = None,
        config: Any = None,
        warm_start_from: Any = None,
        batch_norm: bool = False,
    ) -> None:
        model_fn = _model_fn(
            type(self).__name__, head, feature_columns, hidden_units, cross_layers, cross_rank,
            optimizer, activation_fn, dropout, batch_norm,
        )  # fmt: skip
        super().__init__(model_fn, model_dir, config, None, warm_start_from)


class DCNClassifier(Estimator):
    """Deep and cross network for classes.

    Args:
        feature_columns: Dense columns.
        hidden_units: Widths of the hidden layers of the deep part.
        model_dir: See `Estimator`.
        n_classes: 2 or more.
        weight_column: Feature with the examples' weights.
        label_vocabulary: Texts of the classes, if labels are texts.
        cross_layers: Depth of the cross part.
        cross_rank: Rank of the cross matrices; None for full ones.
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
        feature_columns: Sequence[Any],
        hidden_units: Sequence[int] = (128, 64),
        model_dir: str | None = None,
        n_classes: int = 2,
        weight_column: Any = None,
        label_vocabulary: Sequence[Any] | None = None,
        cross_layers: int = 2,
        cross_rank: int | None = None,
        optimizer: Any = "Adagrad",
        activation_fn: Any = tf.nn.relu,
        dropout: float | None = None,
        config: Any = None,
        warm_start_from: Any = None,
        loss_reduction: Any = LossReduction.SUM_OVER_BATCH_SIZE,
        batch_norm: bool = False,
    ) -> None:
        head = networks.head_for_classes(n_classes, weight_column, label_vocabulary, loss_reduction)
        model_fn = _model_fn(
            type(self).__name__, head, feature_columns, hidden_units, cross_layers, cross_rank,
            optimizer, activation_fn, dropout, batch_norm,
        )  # fmt: skip
        super().__init__(model_fn, model_dir, config, None, warm_start_from)


class DCNRegressor(Estimator):
    """Deep and cross network for numbers.

    Args:
        feature_columns: Dense columns.
        hidden_units: Widths of the hidden layers of the deep part.
        model_dir: See `Estimator`.
        label_dimension: Numbers per example.
        weight_column: Feature with the examples' weights.
        cross_layers: Depth of the cross part.
        cross_rank: Rank of the cross matrices; None for full ones.
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
        feature_columns: Sequence[Any],
        hidden_units: Sequence[int] = (128, 64),
        model_dir: str | None = None,
        label_dimension: int = 1,
        weight_column: Any = None,
        cross_layers: int = 2,
        cross_rank: int | None = None,
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
            type(self).__name__, head, feature_columns, hidden_units, cross_layers, cross_rank,
            optimizer, activation_fn, dropout, batch_norm,
        )  # fmt: skip
        super().__init__(model_fn, model_dir, config, None, warm_start_from)


def cross_layer(first: tf.Tensor, inputs: tf.Tensor, name: str, rank: int | None) -> tf.Tensor:
    """Returns first * (inputs @ W + b) + inputs, float32 `[batch, width]`.

    Args:
        first: The features, `[batch, width]`.
        inputs: The last cross layer's output, or `first` again.
        name: Scope of the variables.
        rank: W is a product of matrices of this rank; None for a full W.
    """
    width = int(first.shape[-1])
    if rank is None:
        return first * networks.dense_layer(inputs, width, name) + inputs
    with variables.scope(name):
        down = variables.get_variable("down", (width, rank), initializer=networks.glorot_uniform)
    return first * networks.dense_layer(tf.matmul(inputs, down), width, name) + inputs


def _model_fn(
    model: str,
    head: Any,
    feature_columns: Sequence[Any],
    hidden_units: Sequence[int],
    cross_layers: int,
    cross_rank: int | None,
    optimizer: Any,
    activation_fn: Any,
    dropout: float | None,
    batch_norm: bool,
) -> Callable[..., EstimatorSpec]:
    head = networks.checked_head(model, head)
    columns = networks.checked_columns(model, "feature_columns", feature_columns, dense=True)
    units = networks.checked_units(model, "hidden_units", hidden_units)
    for argument, value in (("cross_layers", cross_layers), ("cross_rank", cross_rank or 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(
                f"{model}: argument {argument} is invalid: expected a positive integer, got "
                f"{quote(value)}.",
                reason=Reason.INVALID_VALUE,
            )
    rate = networks.checked_rate(model, "dropout", dropout)
    activation = networks.activation(activation_fn)
    trainer = networks.optimizer(optimizer, networks.dnn_rates(head))

    @compilable
    def model_fn(features: Any, labels: Any, mode: str) -> EstimatorSpec:
        with variables.scope("dcn"):
            first = dense_features(columns, features)
            crossed = first
            for i in range(cross_layers):
                crossed = cross_layer(first, crossed, f"cross_{i}", cross_rank)
            deep, updates = networks.hidden_layers(
                first,
                units,
                activation_fn=activation,
                dropout_rate=rate,
                with_batch_norm=batch_norm,
                training=mode == ModeKeys.TRAIN,
            )
            logits = networks.dense_layer(
                tf.concat([crossed, deep], 1), head.logits_dimension, "logits"
            )
        return head.create_estimator_spec(
            features, mode, logits, labels, trainer, update_ops=updates
        )

    return model_fn
