"""Wide and deep: a linear model and a feed-forward network whose logits are added.

References: Cheng et al., Wide & Deep Learning for Recommender Systems, arXiv 1606.07792.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from estimator_lib import heads, optimizers
from estimator_lib.canned import networks
from estimator_lib.core import constraints
from estimator_lib.core.errors import ConfigError, Reason
from estimator_lib.estimator import Estimator
from estimator_lib.losses import LossReduction, reduction_of
from estimator_lib.optimizers import OptimizerLike
from estimator_lib.protocols import Labels
from estimator_lib.specs import EstimatorSpec, compilable
from estimator_lib.training.run_config import RunConfig


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
        warm_start_from: See `Estimator`.
    """

    @constraints.checked
    def __init__(
        self,
        head: networks.Head,
        model_dir: str | None = None,
        linear_feature_columns: networks.Columns | None = None,
        linear_optimizer: OptimizerLike = "Ftrl",
        dnn_feature_columns: networks.Columns | None = None,
        dnn_optimizer: OptimizerLike = "Adagrad",
        dnn_hidden_units: constraints.AnyWidths | None = None,
        dnn_activation_fn: constraints.Activation | None = tf.nn.relu,
        dnn_dropout: constraints.Share | None = None,
        config: RunConfig | None = None,
        batch_norm: constraints.Switch = False,
        linear_sparse_combiner: constraints.Combiner = "sum",
        *,
        warm_start_from: networks.WarmStart = None,
    ) -> None:
        model = type(self).__name__
        if not linear_feature_columns and not dnn_feature_columns:
            raise ConfigError(
                f"{model} has no feature columns. Give linear_feature_columns, "
                "dnn_feature_columns or both.",
                reason=Reason.MISSING_VALUE,
            )
        if dnn_feature_columns and not dnn_hidden_units:
            raise constraints.refused(
                model, "dnn_hidden_units", "a list of widths", dnn_hidden_units
            )
        wide, deep = (
            networks.checked_columns(model, argument, given, dense=dense) if given else ()
            for argument, given, dense in (
                ("linear_feature_columns", linear_feature_columns, False),
                ("dnn_feature_columns", dnn_feature_columns, True),
            )
        )
        units = tuple(dnn_hidden_units or ())
        activation = networks.activation(dnn_activation_fn)
        most, other = networks.BESIDE_RATES
        wide_trainer = networks.optimizer(
            linear_optimizer, rate=networks.linear_rate(len(wide), most)
        )
        deep_trainer = networks.optimizer(dnn_optimizer, rate=other)

        @compilable
        def model_fn(features: heads.NamedFeatures, labels: Labels, mode: str) -> EstimatorSpec:
            parts: list[tuple[networks.Built, OptimizerLike]] = []
            if deep:
                made = networks.dnn_logits(
                    features,
                    deep,
                    head.logits_dimension,
                    hidden_units=units,
                    activation_fn=activation,
                    dropout_rate=dnn_dropout,
                    with_batch_norm=batch_norm,
                    mode=mode,
                )
                parts.append((made, deep_trainer))
            if wide:
                made = networks.wide_logits(
                    features, wide, head.logits_dimension, sparse_combiner=linear_sparse_combiner
                )
                parts.append((made, wide_trainer))

            def train_op(loss: tf.Tensor) -> tf.Operation:
                reduction = reduction_of(head.loss_reduction)
                owned = [(trainer, made) for (_, made, _), trainer in parts]
                return optimizers.minimize_parts(loss, owned, reduction=reduction)

            return head.create_estimator_spec(
                features,
                mode,
                tf.add_n([logits for (logits, _, _), _ in parts]),
                labels,
                train_op_fn=train_op,
                update_ops=[op for (_, _, updates), _ in parts for op in updates],
            )

        super().__init__(model_fn, model_dir, config, None, warm_start_from)


class DNNLinearCombinedClassifier(DNNLinearCombinedEstimator):
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

    @constraints.checked
    def __init__(
        self,
        model_dir: str | None = None,
        linear_feature_columns: networks.Columns | None = None,
        linear_optimizer: OptimizerLike = "Ftrl",
        dnn_feature_columns: networks.Columns | None = None,
        dnn_optimizer: OptimizerLike = "Adagrad",
        dnn_hidden_units: constraints.AnyWidths | None = None,
        dnn_activation_fn: constraints.Activation | None = tf.nn.relu,
        dnn_dropout: constraints.Share | None = None,
        n_classes: constraints.Classes = 2,
        weight_column: heads.WeightColumn = None,
        label_vocabulary: Sequence[str] | None = None,
        config: RunConfig | None = None,
        warm_start_from: networks.WarmStart = None,
        loss_reduction: heads.Reduction = LossReduction.SUM_OVER_BATCH_SIZE,
        batch_norm: constraints.Switch = False,
        linear_sparse_combiner: constraints.Combiner = "sum",
        *,
        auc_thresholds: constraints.AucThresholds | None = None,
    ) -> None:
        head = networks.head_for_classes(
            n_classes, weight_column, label_vocabulary, loss_reduction=loss_reduction,
            auc_thresholds=auc_thresholds,
        )  # fmt: skip
        super().__init__(
            head, model_dir, linear_feature_columns, linear_optimizer, dnn_feature_columns,
            dnn_optimizer, dnn_hidden_units, dnn_activation_fn, dnn_dropout, config, batch_norm,
            linear_sparse_combiner, warm_start_from=warm_start_from,
        )  # fmt: skip


class DNNLinearCombinedRegressor(DNNLinearCombinedEstimator):
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

    @constraints.checked
    def __init__(
        self,
        model_dir: str | None = None,
        linear_feature_columns: networks.Columns | None = None,
        linear_optimizer: OptimizerLike = "Ftrl",
        dnn_feature_columns: networks.Columns | None = None,
        dnn_optimizer: OptimizerLike = "Adagrad",
        dnn_hidden_units: constraints.AnyWidths | None = None,
        dnn_activation_fn: constraints.Activation | None = tf.nn.relu,
        dnn_dropout: constraints.Share | None = None,
        label_dimension: constraints.Count = 1,
        weight_column: heads.WeightColumn = None,
        config: RunConfig | None = None,
        warm_start_from: networks.WarmStart = None,
        loss_reduction: heads.Reduction = LossReduction.SUM_OVER_BATCH_SIZE,
        batch_norm: constraints.Switch = False,
        linear_sparse_combiner: constraints.Combiner = "sum",
    ) -> None:
        head = networks.head_for_numbers(
            label_dimension, weight_column, loss_reduction=loss_reduction
        )
        super().__init__(
            head, model_dir, linear_feature_columns, linear_optimizer, dnn_feature_columns,
            dnn_optimizer, dnn_hidden_units, dnn_activation_fn, dnn_dropout, config, batch_norm,
            linear_sparse_combiner, warm_start_from=warm_start_from,
        )  # fmt: skip
