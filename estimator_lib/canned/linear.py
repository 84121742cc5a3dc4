"""Linear models: LinearClassifier, LinearRegressor, LinearEstimator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from estimator_lib.canned import networks
from estimator_lib.estimator import Estimator
from estimator_lib.losses import LossReduction
from estimator_lib.specs import EstimatorSpec


class LinearEstimator(Estimator):
    """A linear model with any head.

    Args:
        head: Says what is predicted.
        feature_columns: Categorical or dense columns.
        model_dir: See `Estimator`.
        optimizer: Name, instance, function or mapping; see `optimizers.get`.
        config: See `Estimator`.
        sparse_combiner: How several categories of one example are combined.
        warm_start_from: See `Estimator`.
    """

    def __init__(
        self,
        head: Any,
        feature_columns: Sequence[Any],
        model_dir: str | None = None,
        optimizer: Any = "Ftrl",
        config: Any = None,
        sparse_combiner: str = "sum",
        warm_start_from: Any = None,
    ) -> None:
        model_fn = _model_fn(type(self).__name__, head, feature_columns, optimizer, sparse_combiner)
        super().__init__(model_fn, model_dir, config, None, warm_start_from)


class LinearClassifier(Estimator):
    """A linear model for classes.

    Args:
        feature_columns: Categorical or dense columns.
        model_dir: See `Estimator`.
        n_classes: 2 or more.
        weight_column: Feature with the examples' weights.
        label_vocabulary: Texts of the classes, if labels are texts.
        optimizer: Name, instance, function or mapping; see `optimizers.get`.
        config: See `Estimator`.
        warm_start_from: See `Estimator`.
        loss_reduction: See `losses.LossReduction`.
        sparse_combiner: How several categories of one example are combined.
    """

    def __init__(
        self,
        feature_columns: Sequence[Any],
        model_dir: str | None = None,
        n_classes: int = 2,
        weight_column: Any = None,
        label_vocabulary: Sequence[Any] | None = None,
        optimizer: Any = "Ftrl",
        config: Any = None,
        warm_start_from: Any = None,
        loss_reduction: Any = LossReduction.SUM_OVER_BATCH_SIZE,
        sparse_combiner: str = "sum",
    ) -> None:
        head = networks.head_for_classes(n_classes, weight_column, label_vocabulary, loss_reduction)
        model_fn = _model_fn(type(self).__name__, head, feature_columns, optimizer, sparse_combiner)
        super().__init__(model_fn, model_dir, config, None, warm_start_from)


class LinearRegressor(Estimator):
    """A linear model for numbers.

    Args:
        feature_columns: Categorical or dense columns.
        model_dir: See `Estimator`.
        label_dimension: Numbers per example.
        weight_column: Feature with the examples' weights.
        optimizer: Name, instance, function or mapping; see `optimizers.get`.
        config: See `Estimator`.
        warm_start_from: See `Estimator`.
        loss_reduction: See `losses.LossReduction`.
        sparse_combiner: How several categories of one example are combined.
    """

    def __init__(
        self,
        feature_columns: Sequence[Any],
        model_dir: str | None = None,
        label_dimension: int = 1,
        weight_column: Any = None,
        optimizer: Any = "Ftrl",
        config: Any = None,
        warm_start_from: Any = None,
        loss_reduction: Any = LossReduction.SUM_OVER_BATCH_SIZE,
        sparse_combiner: str = "sum",
    ) -> None:
        head = networks.head_for_numbers(label_dimension, weight_column, loss_reduction)
        model_fn = _model_fn(type(self).__name__, head, feature_columns, optimizer, sparse_combiner)
        super().__init__(model_fn, model_dir, config, None, warm_start_from)


def _model_fn(
    model: str, head: Any, feature_columns: Sequence[Any], optimizer: Any, sparse_combiner: str
) -> Callable[..., EstimatorSpec]:
    head = networks.checked_head(model, head)
    columns = networks.checked_columns(model, "feature_columns", feature_columns, dense=False)
    combiner = networks.checked_combiner(model, sparse_combiner)
    trainer = networks.optimizer(optimizer, {"Ftrl": networks.LINEAR_RATE})

    def model_fn(features: Any, labels: Any, mode: str) -> EstimatorSpec:
        logits, made, updates = networks.wide_logits(
            features, columns, head.logits_dimension, sparse_combiner=combiner
        )
        return head.create_estimator_spec(
            features, mode, logits, labels, trainer, made, update_ops=updates
        )

    return model_fn
