"""Models that ignore the features: what every other model must beat."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from estimator_lib import variables
from estimator_lib.canned import networks
from estimator_lib.core.errors import DataError, Reason
from estimator_lib.estimator import Estimator
from estimator_lib.losses import LossReduction
from estimator_lib.specs import EstimatorSpec, compilable


class BaselineEstimator(Estimator):
    """Predicts one constant, with any head.

    Args:
        head: Says what is predicted.
        model_dir: See `Estimator`.
        optimizer: Name, instance, function or mapping; see `optimizers.get`.
        config: See `Estimator`.
    """

    def __init__(
        self,
        head: Any,
        model_dir: str | None = None,
        optimizer: Any = "Ftrl",
        config: Any = None,
    ) -> None:
        super().__init__(_model_fn(type(self).__name__, head, optimizer), model_dir, config)


class BaselineClassifier(Estimator):
    """Predicts the share of each class.

    Args:
        model_dir: See `Estimator`.
        n_classes: 2 or more.
        weight_column: Feature with the examples' weights.
        label_vocabulary: Texts of the classes, if labels are texts.
        optimizer: Name, instance, function or mapping; see `optimizers.get`.
        config: See `Estimator`.
        loss_reduction: See `losses.LossReduction`.
        auc_thresholds: See `BinaryClassHead`.
    """

    def __init__(
        self,
        model_dir: str | None = None,
        n_classes: int = 2,
        weight_column: Any = None,
        label_vocabulary: Sequence[Any] | None = None,
        optimizer: Any = "Ftrl",
        config: Any = None,
        loss_reduction: Any = LossReduction.SUM_OVER_BATCH_SIZE,
        *,
        auc_thresholds: int | None = None,
    ) -> None:
        head = networks.head_for_classes(
            n_classes, weight_column, label_vocabulary, loss_reduction, auc_thresholds
        )
        super().__init__(_model_fn(type(self).__name__, head, optimizer), model_dir, config)


class BaselineRegressor(Estimator):
    """Predicts the mean label.

    Args:
        model_dir: See `Estimator`.
        label_dimension: Numbers per example.
        weight_column: Feature with the examples' weights.
        optimizer: Name, instance, function or mapping; see `optimizers.get`.
        config: See `Estimator`.
        loss_reduction: See `losses.LossReduction`.
    """

    def __init__(
        self,
        model_dir: str | None = None,
        label_dimension: int = 1,
        weight_column: Any = None,
        optimizer: Any = "Ftrl",
        config: Any = None,
        loss_reduction: Any = LossReduction.SUM_OVER_BATCH_SIZE,
    ) -> None:
        head = networks.head_for_numbers(label_dimension, weight_column, loss_reduction)
        super().__init__(_model_fn(type(self).__name__, head, optimizer), model_dir, config)


def _model_fn(model: str, head: Any, optimizer: Any) -> Callable[..., EstimatorSpec]:
    head = networks.checked_head(model, head)
    trainer = networks.optimizer(optimizer, rate=networks.BASELINE_RATE)

    @compilable
    def model_fn(features: Any, labels: Any, mode: str) -> EstimatorSpec:
        with variables.scope("baseline"):
            bias = variables.get_variable("bias", (head.logits_dimension,), initializer=0.0)
        logits = tf.tile(bias[tf.newaxis], (_batch_size(features), 1))
        return head.create_estimator_spec(features, mode, logits, labels, trainer, [bias])

    return model_fn


def _batch_size(features: Any) -> tf.Tensor:
    values = list(features.values()) if isinstance(features, Mapping) else [features]
    if not values:
        raise DataError(
            "A baseline model got no features: expected at least one, for the batch size. Return "
            "any feature from input_fn.",
            reason=Reason.EMPTY_INPUT,
        )
    first = values[0]
    if isinstance(first, tf.SparseTensor):
        return tf.cast(first.dense_shape[0], tf.int32)
    if isinstance(first, tf.RaggedTensor):
        return tf.cast(first.nrows(), tf.int32)
    return tf.shape(first)[0]
