"""Linear models: LinearClassifier, LinearRegressor, LinearEstimator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from estimator_lib import heads, variables
from estimator_lib.canned import networks
from estimator_lib.core.errors import ConfigError, DataError, Reason, did_you_mean
from estimator_lib.estimator import Estimator
from estimator_lib.features.linear import linear_terms
from estimator_lib.losses import LossReduction
from estimator_lib.optimizers.sdca import LinearSDCA
from estimator_lib.specs import EstimatorSpec, ModeKeys, compilable


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
        optimizer: Name, instance, function or mapping; see `optimizers.get`; or `LinearSDCA`.
            None is Ftrl with a smaller rate where there are more than 25 columns.
        config: See `Estimator`.
        warm_start_from: See `Estimator`.
        loss_reduction: See `losses.LossReduction`.
        sparse_combiner: How several categories of one example are combined.
        auc_thresholds: See `BinaryClassHead`.
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
        *,
        auc_thresholds: int | None = None,
    ) -> None:
        head = networks.head_for_classes(
            n_classes, weight_column, label_vocabulary, loss_reduction, auc_thresholds
        )
        model_fn = _model_fn(type(self).__name__, head, feature_columns, optimizer, sparse_combiner)
        super().__init__(model_fn, model_dir, config, None, warm_start_from)


class LinearRegressor(Estimator):
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
    dual = _dual(model, head, combiner, optimizer)
    if optimizer is None:
        rate = networks.linear_rate(len(columns), networks.LINEAR_RATE)
        optimizer = {"name": "Ftrl", "learning_rate": rate}
    trainer = None if dual else networks.optimizer(optimizer, rate=networks.LINEAR_RATE)

    def model_fn(features: Any, labels: Any, mode: str) -> EstimatorSpec:
        logits, made, updates = networks.wide_logits(
            features, columns, head.logits_dimension, sparse_combiner=combiner
        )
        if dual is not None and mode == ModeKeys.TRAIN:

            def ascend(loss: Any) -> Any:
                del loss
                return _dual_step(dual, head, columns, features, labels)

            return head.create_estimator_spec(features, mode, logits, labels, train_op_fn=ascend)
        return head.create_estimator_spec(
            features, mode, logits, labels, trainer, made, update_ops=updates
        )

    # A step of SDCA has shapes that depend on the batch.
    return model_fn if dual else compilable(model_fn)


def _dual(model: str, head: Any, combiner: str, optimizer: Any) -> LinearSDCA | None:
    if isinstance(optimizer, Mapping) and optimizer.get("name") == LinearSDCA.__name__:
        arguments = {key: value for key, value in optimizer.items() if key != "name"}
        networks.checked_arguments(LinearSDCA, arguments)
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
    dual: LinearSDCA, head: Any, columns: Sequence[Any], features: Any, labels: Any
) -> Any:
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
    loss = "logistic_loss" if binary else "squared_loss"
    return dual.train_op(terms, example_ids=ids, labels=numbers, weights=weights, loss=loss)
