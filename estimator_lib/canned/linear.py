"""Linear models: LinearClassifier, LinearRegressor, LinearEstimator."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from estimator_lib import heads, variables
from estimator_lib.canned import networks
from estimator_lib.core import columns as fc
from estimator_lib.core import constraints
from estimator_lib.core.errors import ConfigError, DataError, Reason, did_you_mean
from estimator_lib.estimator import Estimator
from estimator_lib.features.linear import linear_terms
from estimator_lib.losses import LossReduction
from estimator_lib.optimizers import OptimizerLike
from estimator_lib.optimizers.sdca import LinearSDCA
from estimator_lib.protocols import Labels
from estimator_lib.specs import EstimatorSpec, ModeKeys, compilable
from estimator_lib.training.run_config import RunConfig

LinearOptimizer = OptimizerLike | LinearSDCA | None


class LinearEstimator(Estimator):
    """A linear model with any head.

    Args:
        head: Says what is predicted.
        feature_columns: Categorical or dense columns.
        model_dir: See `Estimator`.
        optimizer: Name, instance, function or mapping; see `optimizers.get`; or `LinearSDCA`.
            None is Ftrl with a smaller rate where there are more than 25 columns.
        config: See `Estimator`.
        sparse_combiner: How several categories of one example are combined.
        warm_start_from: See `Estimator`.
    """

    @constraints.checked
    def __init__(
        self,
        head: networks.Head,
        feature_columns: networks.Columns,
        model_dir: str | None = None,
        optimizer: LinearOptimizer = "Ftrl",
        config: RunConfig | None = None,
        sparse_combiner: constraints.Combiner = "sum",
        warm_start_from: networks.WarmStart = None,
    ) -> None:
        model = type(self).__name__
        columns = networks.checked_columns(model, "feature_columns", feature_columns, dense=False)
        dual = _dual(model, head, sparse_combiner, optimizer)
        if optimizer is None:
            rate = networks.linear_rate(len(columns), networks.LINEAR_RATE)
            optimizer = {"name": "Ftrl", "learning_rate": rate}
        trainer = None
        if not isinstance(optimizer, LinearSDCA) and dual is None:
            trainer = networks.optimizer(optimizer, rate=networks.LINEAR_RATE)

        def model_fn(features: heads.NamedFeatures, labels: Labels, mode: str) -> EstimatorSpec:
            logits, made, updates = networks.wide_logits(
                features, columns, head.logits_dimension, sparse_combiner=sparse_combiner
            )
            if mode == ModeKeys.TRAIN and dual is not None and isinstance(head, heads.LabelHead):
                step = functools.partial(_dual_step, dual, head, columns, features, labels)
                return head.create_estimator_spec(features, mode, logits, labels, train_op_fn=step)
            return head.create_estimator_spec(
                features, mode, logits, labels, trainer, made, update_ops=updates
            )

        # A step of SDCA has shapes that depend on the batch.
        known = model_fn if dual else compilable(model_fn)
        super().__init__(known, model_dir, config, None, warm_start_from)


class LinearClassifier(LinearEstimator):
    """A linear model for classes.

    Args:
        feature_columns: Categorical or dense columns.
        model_dir: See `Estimator`.
        n_classes: 2 or more.
        weight_column: Feature with the examples' weights.
        label_vocabulary: Texts of the classes, if labels are texts.
        optimizer: Name, instance, function or mapping; see `optimizers.get`; or `LinearSDCA`.
            None is Ftrl with a smaller rate where there are more than 25 columns.
        config: See `Estimator`.
        warm_start_from: See `Estimator`.
        loss_reduction: See `losses.LossReduction`.
        sparse_combiner: How several categories of one example are combined.
        auc_thresholds: See `BinaryClassHead`.
    """

    @constraints.checked
    def __init__(
        self,
        feature_columns: networks.Columns,
        model_dir: str | None = None,
        n_classes: constraints.Classes = 2,
        weight_column: heads.WeightColumn = None,
        label_vocabulary: Sequence[str] | None = None,
        optimizer: LinearOptimizer = "Ftrl",
        config: RunConfig | None = None,
        warm_start_from: networks.WarmStart = None,
        loss_reduction: heads.Reduction = LossReduction.SUM_OVER_BATCH_SIZE,
        sparse_combiner: constraints.Combiner = "sum",
        *,
        auc_thresholds: constraints.AucThresholds | None = None,
    ) -> None:
        head = networks.head_for_classes(
            n_classes, weight_column, label_vocabulary, loss_reduction=loss_reduction,
            auc_thresholds=auc_thresholds,
        )  # fmt: skip
        super().__init__(
            head, feature_columns, model_dir, optimizer, config, sparse_combiner, warm_start_from
        )


class LinearRegressor(LinearEstimator):
    """A linear model for numbers.

    Args:
        feature_columns: Categorical or dense columns.
        model_dir: See `Estimator`.
        label_dimension: Numbers per example.
        weight_column: Feature with the examples' weights.
        optimizer: Name, instance, function or mapping; see `optimizers.get`; or `LinearSDCA`.
            None is Ftrl with a smaller rate where there are more than 25 columns.
        config: See `Estimator`.
        warm_start_from: See `Estimator`.
        loss_reduction: See `losses.LossReduction`.
        sparse_combiner: How several categories of one example are combined.
    """

    @constraints.checked
    def __init__(
        self,
        feature_columns: networks.Columns,
        model_dir: str | None = None,
        label_dimension: constraints.Count = 1,
        weight_column: heads.WeightColumn = None,
        optimizer: LinearOptimizer = "Ftrl",
        config: RunConfig | None = None,
        warm_start_from: networks.WarmStart = None,
        loss_reduction: heads.Reduction = LossReduction.SUM_OVER_BATCH_SIZE,
        sparse_combiner: constraints.Combiner = "sum",
    ) -> None:
        head = networks.head_for_numbers(
            label_dimension, weight_column, loss_reduction=loss_reduction
        )
        super().__init__(
            head, feature_columns, model_dir, optimizer, config, sparse_combiner, warm_start_from
        )


def _dual(
    model: str, head: heads.Head, combiner: str, optimizer: LinearOptimizer
) -> LinearSDCA | None:
    if isinstance(optimizer, Mapping) and optimizer.get("name") == LinearSDCA.__name__:
        arguments: dict[str, Any] = {k: v for k, v in optimizer.items() if k != "name"}
        constraints.check_names(LinearSDCA.__name__, LinearSDCA, arguments)
        optimizer = LinearSDCA(**arguments)
    if not isinstance(optimizer, LinearSDCA):
        return None
    plain = type(head) in (heads.BinaryClassHead, heads.RegressionHead)
    if not plain or head.logits_dimension != 1 or combiner != "sum":
        raise ConfigError(
            f"{model}: LinearSDCA fits binary classes or one number, with sparse_combiner 'sum': "
            f"got {type(head).__name__} and {combiner!r}. Use Ftrl.",
            reason=Reason.UNSUPPORTED,
        )
    return optimizer


def _dual_step(
    dual: LinearSDCA,
    head: heads.LabelHead,
    columns: Sequence[fc.Column],
    features: heads.NamedFeatures,
    labels: Labels,
    loss: tf.Tensor,
) -> tf.Operation:
    del loss  # the duals' own, which has the same optimum
    ids = features.get(dual.example_id_column)
    if ids is None:
        raise DataError(
            f"Feature {dual.example_id_column!r} is missing: LinearSDCA reads the examples' ids "
            "from it." + did_you_mean(dual.example_id_column, features),
            reason=Reason.FIELD_MISSING,
        )
    numbers, weights = head.labels_and_weights(labels, features)
    with variables.scope("linear"):
        terms = linear_terms(columns, features)
    binary = isinstance(head, heads.BinaryClassHead)
    kind = "logistic_loss" if binary else "squared_loss"
    return dual.train_op(terms, example_ids=ids, labels=numbers, weights=weights, loss=kind)
