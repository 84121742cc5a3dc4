"""Models that ignore the features: what every other model must beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tensorflow as tf

from estimator_lib import heads, variables
from estimator_lib.canned import networks
from estimator_lib.core import constraints
from estimator_lib.core.errors import DataError, Reason
from estimator_lib.estimator import Estimator
from estimator_lib.losses import LossReduction
from estimator_lib.optimizers import OptimizerLike
from estimator_lib.protocols import Labels
from estimator_lib.specs import EstimatorSpec, compilable
from estimator_lib.training.run_config import RunConfig


class BaselineEstimator(Estimator):
    """Predicts one constant, with any head.

    Args:
        head: Says what is predicted.
        model_dir: See `Estimator`.
        optimizer: Name, instance, function or mapping; see `optimizers.get`.
        config: See `Estimator`.
    """

    @constraints.checked
    def __init__(
        self,
        head: networks.Head,
        model_dir: str | None = None,
        optimizer: OptimizerLike = "Ftrl",
        config: RunConfig | None = None,
    ) -> None:
        trainer = networks.optimizer(optimizer, rate=networks.BASELINE_RATE)

        @compilable
        def model_fn(features: heads.NamedFeatures, labels: Labels, mode: str) -> EstimatorSpec:
            with variables.scope("baseline"):
                bias = variables.get_variable("bias", (head.logits_dimension,), initializer=0.0)
            logits = tf.tile(bias[tf.newaxis], (_batch_size(features), 1))
            return head.create_estimator_spec(features, mode, logits, labels, trainer, [bias])

        super().__init__(model_fn, model_dir, config)


class BaselineClassifier(BaselineEstimator):
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

    @constraints.checked
    def __init__(
        self,
        model_dir: str | None = None,
        n_classes: constraints.Classes = 2,
        weight_column: heads.WeightColumn = None,
        label_vocabulary: Sequence[str] | None = None,
        optimizer: OptimizerLike = "Ftrl",
        config: RunConfig | None = None,
        loss_reduction: heads.Reduction = LossReduction.SUM_OVER_BATCH_SIZE,
        *,
        auc_thresholds: constraints.AucThresholds | None = None,
    ) -> None:
        head = networks.head_for_classes(
            n_classes, weight_column, label_vocabulary, loss_reduction=loss_reduction,
            auc_thresholds=auc_thresholds,
        )  # fmt: skip
        super().__init__(head, model_dir, optimizer, config)


class BaselineRegressor(BaselineEstimator):
    """Predicts the mean label.

    Args:
        model_dir: See `Estimator`.
        label_dimension: Numbers per example.
        weight_column: Feature with the examples' weights.
        optimizer: Name, instance, function or mapping; see `optimizers.get`.
        config: See `Estimator`.
        loss_reduction: See `losses.LossReduction`.
    """

    @constraints.checked
    def __init__(
        self,
        model_dir: str | None = None,
        label_dimension: constraints.Count = 1,
        weight_column: heads.WeightColumn = None,
        optimizer: OptimizerLike = "Ftrl",
        config: RunConfig | None = None,
        loss_reduction: heads.Reduction = LossReduction.SUM_OVER_BATCH_SIZE,
    ) -> None:
        head = networks.head_for_numbers(
            label_dimension, weight_column, loss_reduction=loss_reduction
        )
        super().__init__(head, model_dir, optimizer, config)


def _batch_size(features: heads.NamedFeatures | tf.Tensor) -> tf.Tensor:
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
