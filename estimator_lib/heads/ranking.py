"""Order within groups as label: pairs of examples of one group."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import tensorflow as tf

from estimator_lib import metrics
from estimator_lib.core import columns as fc
from estimator_lib.core.constraints import refused
from estimator_lib.core.errors import DataError, Reason, did_you_mean
from estimator_lib.export.outputs import ExportOutput, RegressionOutput
from estimator_lib.heads import _base
from estimator_lib.losses import LossReduction
from estimator_lib.protocols import Labels


@dataclasses.dataclass(frozen=True, kw_only=True)
class _PairBatch(_base.Batch):
    """A batch and the weight of each pair (better, worse), float32 `[batch, batch]`."""

    pairs: tf.Tensor
    rows: tf.Tensor


class PairwiseRankingHead(_base.LabelHead):
    """Head that orders the examples of a group (a query, a user) by relevance.

    The loss of a pair of one group and one batch with different labels is the logistic loss of
    the difference of their logits; a pair weighs the product of its examples' weights. The mean
    is over pairs, so a batch should hold whole groups. The metric "pairwise_accuracy" is the
    share of pairs in the right order, ties counting half: the AUC within groups.

    Labels: relevance, `[batch]` or `[batch, 1]`, any numeric type. Predictions: the logit.

    Args:
        group_column: Feature with the group of each example, integer or string.
        weight_column: See `LabelHead`.
        loss_reduction: SUM_OVER_BATCH_SIZE is the mean over pairs.
        name: See `LabelHead`.

    References: Burges et al., Learning to rank using gradient descent, ICML 2005.
    """

    signatures: ClassVar = (_base.REGRESSION_SIGNATURE,)

    def __init__(
        self,
        group_column: str | fc.Column,
        weight_column: _base.WeightColumn = None,
        loss_reduction: _base.Reduction = LossReduction.SUM_OVER_BATCH_SIZE,
        name: str | None = None,
    ) -> None:
        super().__init__(weight_column, loss_reduction, None, name)
        group = getattr(group_column, "key", group_column)
        if not isinstance(group, str):
            raise refused(type(self).__name__, "group_column", "a feature's name", group_column)
        self._group = group

    @property
    def logits_dimension(self) -> int:
        return 1

    def _labels(self, labels: tf.Tensor) -> tf.Tensor:
        return tf.cast(labels, tf.float32)

    def _losses(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Returns the loss of every pair, better in rows, float32 `[batch, batch]`."""
        del labels
        return tf.nn.softplus(tf.transpose(logits) - logits)

    def _predictions(self, logits: tf.Tensor) -> dict[str, Callable[[], tf.Tensor]]:
        return {"predictions": lambda: logits}

    def _outputs(self, predictions: Mapping[str, tf.Tensor]) -> dict[str, ExportOutput]:
        return {_base.REGRESSION_SIGNATURE: RegressionOutput(predictions["predictions"])}

    def _pairs(
        self, labels: tf.Tensor, features: _base.NamedFeatures
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns the weights of pairs and of rows, and how many pairs there are."""
        if self._group not in features:
            raise DataError(
                f"Group feature {self._group!r} is missing: group_column names it."
                + did_you_mean(self._group, features),
                reason=Reason.FIELD_MISSING,
            )
        group = tf.reshape(tf.convert_to_tensor(features[self._group]), (-1, 1))
        better = tf.equal(group, tf.transpose(group)) & (labels > tf.transpose(labels))
        chosen = tf.cast(better, tf.float32)
        weights = self._weights(features)
        rows = tf.ones_like(labels) if weights is None else weights
        return chosen * rows * tf.transpose(rows), rows, tf.reduce_sum(chosen)

    def _per_example(
        self, labels: Labels, logits: tf.Tensor, features: _base.NamedFeatures
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor | None]:
        logits = self._checked_logits(logits)
        numbers = self._labels(self._column_of(labels, logits))
        pairs, _, count = self._pairs(numbers, features)
        losses = tf.reduce_sum(pairs * self._losses(numbers, logits), 1, keepdims=True)
        if self._reduction == LossReduction.SUM_OVER_BATCH_SIZE:
            # The mean over rows of these is the mean over pairs.
            losses *= tf.cast(tf.size(losses), tf.float32) / tf.maximum(count, 1.0)
        return numbers, logits, losses, None

    def _batch(
        self, labels: Labels, logits: tf.Tensor, features: _base.NamedFeatures
    ) -> _base.Batch:
        numbers, logits, losses, _ = self._per_example(labels, logits, features)
        pairs, rows, _ = self._pairs(numbers, features)
        return _PairBatch(
            labels=numbers,
            logits=logits,
            losses=losses,
            weights=None,
            predictions=self.predictions(logits),
            pairs=pairs,
            rows=rows,
        )

    def _new_metrics(self) -> dict[str, Any]:
        names = ["pairs", "loss", "right", "weight", "label", "prediction"]
        sums = metrics.Sums("sums", names)
        return {
            "average_loss": metrics.ratio("average_loss", sums, "loss", "pairs"),
            "pairwise_accuracy": metrics.ratio("pairwise_accuracy", sums, "right", "pairs"),
            "label/mean": metrics.ratio("label/mean", sums, "label", "weight"),
            "prediction/mean": metrics.ratio("prediction/mean", sums, "prediction", "weight"),
        }

    def _update(self, sources: Mapping[str, Any], batch: _base.Batch) -> None:
        assert isinstance(batch, _PairBatch)  # noqa: S101 - _batch makes no others
        margin = batch.logits - tf.transpose(batch.logits)
        right = 0.5 * (tf.sign(margin) + 1.0)
        losses = self._losses(batch.labels, batch.logits)
        sources["sums"].update_state(
            [
                *(tf.reduce_sum(batch.pairs * part, 1)
                  for part in (tf.ones_like(margin), losses, right)),
                *(tf.reshape(batch.rows * part, (-1,))
                  for part in (tf.ones_like(batch.labels), batch.labels, batch.logits)),
            ]
        )  # fmt: skip
