"""Numbers as labels: squared error, Poisson, logistic, quantiles, Huber and Tweedie."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import tensorflow as tf

from estimator_lib import losses, metrics
from estimator_lib.core.constraints import (
    FUNCTION,
    Count,
    Levels,
    Switch,
    checked,
    list_of,
    number,
    one_of,
    refused,
)
from estimator_lib.export.outputs import ExportOutput, RegressionOutput
from estimator_lib.heads import _base
from estimator_lib.losses import LossReduction

MoreMetrics = Annotated[Sequence[str], list_of(one_of("rmse", "mae", "r2"), may_be_empty=True)]


class RegressionHead(_base.LabelHead):
    """Head for numbers, squared error by default.

    Labels: `[batch]`, `[batch, 1]` or `[batch, label_dimension]`, any numeric type.

    Args:
        label_dimension: Numbers per example.
        weight_column: See `LabelHead`.
        loss_reduction: See `LabelHead`.
        loss_fn: See `LabelHead`; `losses.huber()`, `losses.quantile(0.9)` and the like fit.
        inverse_link_fn: Maps logits to predictions; None means they are the predictions.
        name: See `LabelHead`.
        more_metrics: Metrics beside those of tf.estimator: "rmse", "mae", "r2".
    """

    signatures: ClassVar = (_base.REGRESSION_SIGNATURE,)
    per_logit_weights: ClassVar = True

    @checked
    def __init__(
        self,
        label_dimension: Count = 1,
        weight_column: _base.WeightColumn = None,
        loss_reduction: _base.Reduction = LossReduction.SUM_OVER_BATCH_SIZE,
        loss_fn: Callable[..., tf.Tensor] | None = None,
        inverse_link_fn: Annotated[Callable[[tf.Tensor], tf.Tensor], FUNCTION] | None = None,
        name: str | None = None,
        *,
        more_metrics: MoreMetrics = (),
    ) -> None:
        super().__init__(weight_column, loss_reduction, loss_fn, name)
        self._more = more_metrics
        self._dimension = label_dimension
        self._inverse_link = inverse_link_fn

    @property
    def logits_dimension(self) -> int:
        return self._dimension

    def _label_width(self) -> int:
        return self._dimension

    def _labels(self, labels: tf.Tensor) -> tf.Tensor:
        return labels if labels.dtype == tf.float32 else tf.cast(labels, tf.float32)

    def _losses(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        return losses.squared_error(labels, logits)

    def _predictions(self, logits: tf.Tensor) -> dict[str, Callable[[], tf.Tensor]]:
        link = self._inverse_link
        if link is None:
            return {"predictions": lambda: logits}
        return {"predictions": lambda: link(logits), "logits": lambda: logits}

    def _outputs(self, predictions: Mapping[str, tf.Tensor]) -> dict[str, ExportOutput]:
        return {_base.REGRESSION_SIGNATURE: RegressionOutput(predictions["predictions"])}

    def _new_metrics(self) -> dict[str, Any]:
        names = ["weight", "loss", "label", "prediction", "squared", "absolute", "label_squared"]
        sums = metrics.Sums("sums", names)

        def rmse(source: metrics.Sums) -> tf.Tensor:
            return tf.sqrt(tf.math.divide_no_nan(source["squared"], source["weight"]))

        def r2(source: metrics.Sums) -> tf.Tensor:
            mean = tf.math.divide_no_nan(source["label"], source["weight"])
            spread = source["label_squared"] - mean * source["label"]
            # The rounding of float32 labels must not look like spread.
            spread = tf.where(spread > 1e-9 * source["label_squared"], spread, 0.0)
            explained = 1.0 - tf.math.divide_no_nan(source["squared"], spread)
            return tf.where(spread > 0, explained, tf.zeros_like(explained))

        more = {
            "rmse": metrics.View("rmse", sums, rmse),
            "mae": metrics.ratio("mae", sums, "absolute", "weight"),
            "r2": metrics.View("r2", sums, r2),
        }
        return {
            "average_loss": metrics.ratio("average_loss", sums, "loss", "weight"),
            "prediction/mean": metrics.ratio("prediction/mean", sums, "prediction", "weight"),
            "label/mean": metrics.ratio("label/mean", sums, "label", "weight"),
            **{name: more[name] for name in self._more},
        }

    def _update(self, sources: Mapping[str, Any], batch: _base.Batch) -> None:
        predictions = batch.predictions["predictions"]
        ones = tf.ones_like(predictions)
        labels = batch.labels * ones
        error = predictions - labels
        # A custom loss may give one number per example; it counts for each dimension.
        parts = [
            ones, batch.losses * ones, labels, predictions, tf.square(error), tf.abs(error),
            tf.square(labels),
        ]  # fmt: skip
        weights = batch.weights
        flat = None if weights is None else tf.reshape(weights * ones, (-1,))
        sources["sums"].update_state([tf.reshape(part, (-1,)) for part in parts], flat)


class PoissonRegressionHead(RegressionHead):
    """Head for counts: the logit is the log of their mean.

    Args:
        label_dimension: Numbers per example.
        weight_column: See `LabelHead`.
        loss_reduction: See `LabelHead`.
        compute_full_loss: Adds the part of the loss that depends on the label alone.
        name: See `LabelHead`.
        more_metrics: See `RegressionHead`.
    """

    @checked
    def __init__(
        self,
        label_dimension: Count = 1,
        weight_column: _base.WeightColumn = None,
        loss_reduction: _base.Reduction = LossReduction.SUM_OVER_BATCH_SIZE,
        compute_full_loss: Switch = True,
        name: str | None = None,
        *,
        more_metrics: MoreMetrics = (),
    ) -> None:
        loss = losses.poisson(full=compute_full_loss)
        super().__init__(
            label_dimension, weight_column, loss_reduction, loss, tf.exp, name,
            more_metrics=more_metrics,
        )  # fmt: skip

    def _labels(self, labels: tf.Tensor) -> tf.Tensor:
        numbers = super()._labels(labels)
        return _base.checked(numbers, numbers >= 0, type(self).__name__, "a number >= 0")


class LogisticRegressionHead(RegressionHead):
    """Head for probabilities: labels in [0, 1], sigmoid cross entropy.

    Args:
        weight_column: See `LabelHead`.
        loss_reduction: See `LabelHead`.
        name: See `LabelHead`.
        more_metrics: See `RegressionHead`.
    """

    @checked
    def __init__(
        self,
        weight_column: _base.WeightColumn = None,
        loss_reduction: _base.Reduction = LossReduction.SUM_OVER_BATCH_SIZE,
        name: str | None = None,
        *,
        more_metrics: MoreMetrics = (),
    ) -> None:
        super().__init__(
            1, weight_column, loss_reduction, losses.sigmoid_cross_entropy, tf.sigmoid, name,
            more_metrics=more_metrics,
        )  # fmt: skip

    def _labels(self, labels: tf.Tensor) -> tf.Tensor:
        numbers = super()._labels(labels)
        good = (numbers >= 0) & (numbers <= 1)
        return _base.checked(numbers, good, type(self).__name__, "a number in [0, 1]")


class TweedieRegressionHead(RegressionHead):
    """Head for amounts that are often exactly 0, such as claims: the logit is log(mean).

    Args:
        power: Variance power, strictly between 1 and 2.
        weight_column: See `LabelHead`.
        loss_reduction: See `LabelHead`.
        name: See `LabelHead`.
        more_metrics: See `RegressionHead`.
    """

    @checked
    def __init__(
        self,
        power: Annotated[float, number(above=1, below=2)] = 1.5,
        weight_column: _base.WeightColumn = None,
        loss_reduction: _base.Reduction = LossReduction.SUM_OVER_BATCH_SIZE,
        name: str | None = None,
        *,
        more_metrics: MoreMetrics = (),
    ) -> None:
        super().__init__(
            1, weight_column, loss_reduction, losses.tweedie(power), tf.exp, name,
            more_metrics=more_metrics,
        )  # fmt: skip

    def _labels(self, labels: tf.Tensor) -> tf.Tensor:
        numbers = super()._labels(labels)
        return _base.checked(numbers, numbers >= 0, type(self).__name__, "a number >= 0")


class QuantileRegressionHead(RegressionHead):
    """Head for several quantiles of one label, predicted in ascending order.

    Labels: `[batch]` or `[batch, 1]`. Predictions: float32 `[batch, len(quantiles)]`. The label
    is compared with every quantile, so errors are means over them.

    Args:
        quantiles: Ascending levels in (0, 1).
        weight_column: See `LabelHead`.
        loss_reduction: See `LabelHead`.
        name: See `LabelHead`.
        more_metrics: See `RegressionHead`.
    """

    @checked
    def __init__(
        self,
        quantiles: Levels = (0.1, 0.5, 0.9),
        weight_column: _base.WeightColumn = None,
        loss_reduction: _base.Reduction = LossReduction.SUM_OVER_BATCH_SIZE,
        name: str | None = None,
        *,
        more_metrics: MoreMetrics = (),
    ) -> None:
        levels = tuple(quantiles)
        if any(a >= b for a, b in itertools.pairwise(levels)):
            raise refused(type(self).__name__, "quantiles", "ascending levels", levels)
        # Sorting is differentiable and keeps the quantiles from crossing.
        super().__init__(
            len(levels), weight_column, loss_reduction, losses.quantile(levels),
            lambda logits: tf.sort(logits, axis=1), name, more_metrics=more_metrics,
        )  # fmt: skip

    def _label_width(self) -> int:
        return 1
