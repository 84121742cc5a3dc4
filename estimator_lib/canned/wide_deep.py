"""Wide and deep: a linear model and a feed-forward network whose logits are added.

References: Cheng et al., Wide & Deep Learning for Recommender Systems, arXiv 1606.07792.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from estimator_lib import optimizers
from estimator_lib.canned import networks
from estimator_lib.core.errors import ConfigError, Reason
from estimator_lib.estimator import Estimator
from estimator_lib.losses import LossReduction
from estimator_lib.specs import EstimatorSpec, compilable


class DNNLinearCombinedEstimator(Estimator):
    """Wide and deep with any head.

    Args:
        head: Says what is predicted.
        model_dir: See `Estimator`.
        linear_feature_columns: Categorical or dense columns of the linear part; None leaves
            that part out.
        linear_optimizer: Name, instance, function or mapping; see `optimizers.get`.
        dnn_feature_columns: Dense columns of the network; None leaves that part out.
        dnn_optimizer: As linear_optimizer.
        dnn_hidden_units: Widths of the hidden layers.
        dnn_activation_fn: Of the hidden layers: a function or its name in `tf.nn`.
        dnn_dropout: Share of each hidden layer that is dropped in training.
        config: See `Estimator`.
        batch_norm: Whether to normalize each hidden layer.
        linear_sparse_combiner: How several categories of one example are combined.
    """

    def __init__(
        self,
        head: Any,
        model_dir: str | None = None,
        linear_feature_columns: Sequence[Any] | None = None,
        linear_optimizer: Any = "Ftrl",
        dnn_feature_columns: Sequence[Any] | None = None,
        dnn_optimizer: Any = "Adagrad",
        dnn_hidden_units: Sequence[int] | None = None,
        dnn_activation_fn: Any = tf.nn.relu,
        dnn_dropout: float | None = None,
        config: Any = None,
        batch_norm: bool = False,
        linear_sparse_combiner: str = "sum",
    ) -> None:
        model_fn = _model_fn(
            type(self).__name__, head, linear_feature_columns, linear_optimizer,
            dnn_feature_columns, dnn_optimizer, dnn_hidden_units, dnn_activation_fn, dnn_dropout,
            batch_norm, linear_sparse_combiner,
        )  # fmt: skip
        super().__init__(model_fn, model_dir, config)


class DNNLinearCombinedClassifier(Estimator):
    """Wide and deep for classes.

    Args:
        model_dir: See `Estimator`.
        linear_feature_columns: Categorical or dense columns of the linear part; None leaves
            that part out.
        linear_optimizer: Name, instance, function or mapping; see `optimizers.get`.
        dnn_feature_columns: Dense columns of the network; None leaves that part out.
        dnn_optimizer: As linear_optimizer.
        dnn_hidden_units: Widths of the hidden layers.
        dnn_activation_fn: Of the hidden layers: a function or its name in `tf.nn`.
        dnn_dropout: Share of each hidden layer that is dropped in training.
        n_classes: 2 or more.
        weight_column: Feature with the examples' weights.
        label_vocabulary: Texts of the classes, if labels are texts.
        config: See `Estimator`.
        warm_start_from: See `Estimator`.
        loss_reduction: See `losses.LossReduction`.
        batch_norm: Whether to normalize each hidden layer.
        linear_sparse_combiner: How several categories of one example are combined.
        auc_thresholds: See `BinaryClassHead`.
    """

    def __init__(
        self,
        model_dir: str | None = None,
        linear_feature_columns: Sequence[Any] | None = None,
        linear_optimizer: Any = "Ftrl",
        dnn_feature_columns: Sequence[Any] | None = None,
        dnn_optimizer: Any = "Adagrad",
        dnn_hidden_units: Sequence[int] | None = None,
        dnn_activation_fn: Any = tf.nn.relu,
        dnn_dropout: float | None = None,
        n_classes: int = 2,
        weight_column: Any = None,
        label_vocabulary: Sequence[Any] | None = None,
        config: Any = None,
        warm_start_from: Any = None,
        loss_reduction: Any = LossReduction.SUM_OVER_BATCH_SIZE,
        batch_norm: bool = False,
        linear_sparse_combiner: str = "sum",
        *,
        auc_thresholds: int | None = None,
    ) -> None:
        head = networks.head_for_classes(
            n_classes, weight_column, label_vocabulary, loss_reduction, auc_thresholds
        )
        model_fn = _model_fn(
            type(self).__name__, head, linear_feature_columns, linear_optimizer,
            dnn_feature_columns, dnn_optimizer, dnn_hidden_units, dnn_activation_fn, dnn_dropout,
            batch_norm, linear_sparse_combiner,
        )  # fmt: skip
        super().__init__(model_fn, model_dir, config, None, warm_start_from)


class DNNLinearCombinedRegressor(Estimator):
    """Wide and deep for numbers.

    Args:
        model_dir: See `Estimator`.
        linear_feature_columns: Categorical or dense columns of the linear part; None leaves
            that part out.
        linear_optimizer: Name, instance, function or mapping; see `optimizers.get`.
        dnn_feature_columns: Dense columns of the network; None leaves that part out.
        dnn_optimizer: As linear_optimizer.
        dnn_hidden_units: Widths of the hidden layers.
        dnn_activation_fn: Of the hidden layers: a function or its name in `tf.nn`.
        dnn_dropout: Share of each hidden layer that is dropped in training.
        label_dimension: Numbers per example.
        weight_column: Feature with the examples' weights.
        config: See `Estimator`.
        warm_start_from: See `Estimator`.
        loss_reduction: See `losses.LossReduction`.
        batch_norm: Whether to normalize each hidden layer.
        linear_sparse_combiner: How several categories of one example are combined.
    """

    def __init__(
        self,
        model_dir: str | None = None,
        linear_feature_columns: Sequence[Any] | None = None,
        linear_optimizer: Any = "Ftrl",
        dnn_feature_columns: Sequence[Any] | None = None,
        dnn_optimizer: Any = "Adagrad",
        dnn_hidden_units: Sequence[int] | None = None,
        dnn_activation_fn: Any = tf.nn.relu,
        dnn_dropout: float | None = None,
        label_dimension: int = 1,
        weight_column: Any = None,
        config: Any = None,
        warm_start_from: Any = None,
        loss_reduction: Any = LossReduction.SUM_OVER_BATCH_SIZE,
        batch_norm: bool = False,
        linear_sparse_combiner: str = "sum",
    ) -> None:
        head = networks.head_for_numbers(label_dimension, weight_column, loss_reduction)
        model_fn = _model_fn(
            type(self).__name__, head, linear_feature_columns, linear_optimizer,
            dnn_feature_columns, dnn_optimizer, dnn_hidden_units, dnn_activation_fn, dnn_dropout,
            batch_norm, linear_sparse_combiner,
        )  # fmt: skip
        super().__init__(model_fn, model_dir, config, None, warm_start_from)


def _model_fn(
    model: str,
    head: Any,
    linear_feature_columns: Sequence[Any] | None,
    linear_optimizer: Any,
    dnn_feature_columns: Sequence[Any] | None,
    dnn_optimizer: Any,
    dnn_hidden_units: Sequence[int] | None,
    dnn_activation_fn: Any,
    dnn_dropout: float | None,
    batch_norm: bool,
    linear_sparse_combiner: str,
) -> Callable[..., EstimatorSpec]:
    head = networks.checked_head(model, head)
    if not linear_feature_columns and not dnn_feature_columns:
        raise ConfigError(
            f"{model} has no feature columns. Give linear_feature_columns, dnn_feature_columns or "
            "both.",
            reason=Reason.MISSING_VALUE,
        )
    wide: tuple[Any, ...] = ()
    deep: tuple[Any, ...] = ()
    units: tuple[int, ...] = ()
    if linear_feature_columns:
        wide = networks.checked_columns(
            model, "linear_feature_columns", linear_feature_columns, dense=False
        )
    if dnn_feature_columns:
        deep = networks.checked_columns(
            model, "dnn_feature_columns", dnn_feature_columns, dense=True
        )
        units = networks.checked_units(model, "dnn_hidden_units", dnn_hidden_units)
    rate = networks.checked_rate(model, "dnn_dropout", dnn_dropout)
    combiner = networks.checked_combiner(model, linear_sparse_combiner)
    activation = networks.activation(dnn_activation_fn)
    most, other = networks.BESIDE_RATES
    wide_trainer = networks.optimizer(linear_optimizer, rate=networks.linear_rate(len(wide), most))
    deep_trainer = networks.optimizer(dnn_optimizer, rate=other)

    @compilable
    def model_fn(features: Any, labels: Any, mode: str) -> EstimatorSpec:
        parts: list[tuple[networks.Built, Any]] = []
        if deep:
            made = networks.dnn_logits(
                features,
                deep,
                head.logits_dimension,
                hidden_units=units,
                activation_fn=activation,
                dropout_rate=rate,
                with_batch_norm=batch_norm,
                mode=mode,
            )
            parts.append((made, deep_trainer))
        if wide:
            made = networks.wide_logits(
                features, wide, head.logits_dimension, sparse_combiner=combiner
            )
            parts.append((made, wide_trainer))

        def train_op(loss: tf.Tensor) -> Any:
            owned = [(trainer, made) for (_, made, _), trainer in parts]
            return optimizers.minimize_parts(loss, owned, reduction=head.loss_reduction)

        return head.create_estimator_spec(
            features,
            mode,
            tf.add_n([logits for (logits, _, _), _ in parts]),
            labels,
            train_op_fn=train_op,
            update_ops=[op for (_, _, updates), _ in parts for op in updates],
        )

    return model_fn
