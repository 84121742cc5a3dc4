"""Feed-forward networks: DNNClassifier, DNNRegressor, DNNEstimator."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from estimator_lib import heads
from estimator_lib.canned import networks
from estimator_lib.core import constraints
from estimator_lib.estimator import Estimator
from estimator_lib.losses import LossReduction
from estimator_lib.optimizers import OptimizerLike
from estimator_lib.protocols import Labels
from estimator_lib.specs import EstimatorSpec, compilable
from estimator_lib.training.run_config import RunConfig


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

    @constraints.checked
    def __init__(
        self,
        head: networks.Head,
        hidden_units: constraints.Widths,
        feature_columns: networks.Columns,
        model_dir: str | None = None,
        optimizer: OptimizerLike = "Adagrad",
        activation_fn: constraints.Activation | None = tf.nn.relu,
        dropout: constraints.Share | None = None,
        config: RunConfig | None = None,
        warm_start_from: networks.WarmStart = None,
        batch_norm: constraints.Switch = False,
    ) -> None:
        columns = networks.dense_columns(type(self).__name__, feature_columns)
        units = tuple(hidden_units)
        activation = networks.activation(activation_fn)
        trainer = networks.optimizer(optimizer, networks.DNN_RATES)

        @compilable
        def model_fn(features: heads.NamedFeatures, labels: Labels, mode: str) -> EstimatorSpec:
            logits, made, updates = networks.dnn_logits(
                features,
                columns,
                head.logits_dimension,
                hidden_units=units,
                activation_fn=activation,
                dropout_rate=dropout,
                with_batch_norm=batch_norm,
                mode=mode,
            )
            return head.create_estimator_spec(
                features, mode, logits, labels, trainer, made, update_ops=updates
            )

        super().__init__(model_fn, model_dir, config, None, warm_start_from)


class DNNClassifier(DNNEstimator):
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

    @constraints.checked
    def __init__(
        self,
        hidden_units: constraints.Widths,
        feature_columns: networks.Columns,
        model_dir: str | None = None,
        n_classes: constraints.Classes = 2,
        weight_column: heads.WeightColumn = None,
        label_vocabulary: Sequence[str] | None = None,
        optimizer: OptimizerLike = "Adagrad",
        activation_fn: constraints.Activation | None = tf.nn.relu,
        dropout: constraints.Share | None = None,
        config: RunConfig | None = None,
        warm_start_from: networks.WarmStart = None,
        loss_reduction: heads.Reduction = LossReduction.SUM_OVER_BATCH_SIZE,
        batch_norm: constraints.Switch = False,
        *,
        auc_thresholds: constraints.AucThresholds | None = None,
    ) -> None:
        head = networks.head_for_classes(
            n_classes, weight_column, label_vocabulary, loss_reduction=loss_reduction,
            auc_thresholds=auc_thresholds,
        )  # fmt: skip
        super().__init__(
            head, hidden_units, feature_columns, model_dir, optimizer, activation_fn, dropout,
            config, warm_start_from, batch_norm,
        )  # fmt: skip


class DNNRegressor(DNNEstimator):
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

    @constraints.checked
    def __init__(
        self,
        hidden_units: constraints.Widths,
        feature_columns: networks.Columns,
        model_dir: str | None = None,
        label_dimension: constraints.Count = 1,
        weight_column: heads.WeightColumn = None,
        optimizer: OptimizerLike = "Adagrad",
        activation_fn: constraints.Activation | None = tf.nn.relu,
        dropout: constraints.Share | None = None,
        config: RunConfig | None = None,
        warm_start_from: networks.WarmStart = None,
        loss_reduction: heads.Reduction = LossReduction.SUM_OVER_BATCH_SIZE,
        batch_norm: constraints.Switch = False,
    ) -> None:
        head = networks.head_for_numbers(
            label_dimension, weight_column, loss_reduction=loss_reduction
        )
        super().__init__(
            head, hidden_units, feature_columns, model_dir, optimizer, activation_fn, dropout,
            config, warm_start_from, batch_norm,
        )  # fmt: skip
