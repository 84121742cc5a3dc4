"""Two classes, one logit, sigmoid cross entropy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import tensorflow as tf

from estimator_lib import losses, metrics
from estimator_lib.core.constraints import AucThresholds, checked
from estimator_lib.export.outputs import ClassificationOutput, ExportOutput, RegressionOutput
from estimator_lib.heads import _base
from estimator_lib.losses import LossReduction


class BinaryClassHead(_base.LabelHead):
    """Head for labels 0 and 1, or two texts of a vocabulary.

    Labels: `[batch]` or `[batch, 1]`, integer, float, or string with a vocabulary. A float
    between 0 and 1 is the share of class 1 in the loss, and class 1 for precision, recall and
    areas.

    Args:
        weight_column: See `LabelHead`.
        thresholds: For each, accuracy, precision and recall are also reported where the
            predicted class is 1 if the probability is greater than the threshold.
        label_vocabulary: The texts of class 0 and 1.
        loss_reduction: See `LabelHead`.
        loss_fn: See `LabelHead`.
        name: See `LabelHead`.
        auc_thresholds: Thresholds of the areas, such as the 200 of tf.estimator; by default
            they are exact.
    """

    signatures: ClassVar = (_base.CLASSIFICATION_SIGNATURE, _base.REGRESSION_SIGNATURE)

    @checked
    def __init__(
        self,
        weight_column: _base.WeightColumn = None,
        thresholds: _base.Thresholds = None,
        label_vocabulary: Sequence[str] | None = None,
        loss_reduction: _base.Reduction = LossReduction.SUM_OVER_BATCH_SIZE,
        loss_fn: Callable[..., tf.Tensor] | None = None,
        name: str | None = None,
        *,
        auc_thresholds: AucThresholds | None = None,
    ) -> None:
        super().__init__(weight_column, loss_reduction, loss_fn, name)
        self._auc_thresholds = auc_thresholds
        self._thresholds = tuple(map(float, () if thresholds is None else thresholds))
        self._vocabulary = _base.LabelVocabulary(label_vocabulary, 2, type(self).__name__)

    @property
    def logits_dimension(self) -> int:
        return 1

    def _labels(self, labels: tf.Tensor) -> tf.Tensor:
        expected = self._vocabulary.expected()
        if labels.dtype.is_floating:
            numbers, expected = tf.cast(labels, tf.float32), "a number in [0, 1]"
        else:
            numbers = tf.cast(self._vocabulary.ids(labels), tf.float32)
        good = (numbers >= 0.0) & (numbers <= 1.0)  # which NaN is not
        return _base.checked(numbers, good, type(self).__name__, expected)

    def _losses(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        return losses.logistic_loss(labels, logits)

    def _loss_of(self, dtype: tf.DType) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        return losses.sigmoid_cross_entropy if dtype.is_floating else self._losses

    def _predictions(self, logits: tf.Tensor) -> dict[str, Callable[[], tf.Tensor]]:
        logistic = tf.sigmoid(logits)
        # A logit of exactly 0 is class 0, as the argmax of [0, logit].
        class_ids = tf.cast(logits > 0.0, tf.int64)
        batch = tf.shape(logits)[0]
        names = self._vocabulary.names
        return {
            "logits": lambda: logits,
            "logistic": lambda: logistic,
            "probabilities": lambda: tf.nn.softmax(tf.concat([tf.zeros_like(logits), logits], 1)),
            "class_ids": lambda: class_ids,
            "classes": lambda: tf.gather(names(), class_ids),
            "all_class_ids": lambda: tf.tile(tf.range(2)[tf.newaxis], (batch, 1)),
            "all_classes": lambda: tf.tile(names()[tf.newaxis], (batch, 1)),
        }

    def _outputs(self, predictions: Mapping[str, tf.Tensor]) -> dict[str, ExportOutput]:
        return {
            _base.CLASSIFICATION_SIGNATURE: ClassificationOutput(
                scores=predictions["probabilities"], classes=predictions["all_classes"]
            ),
            _base.REGRESSION_SIGNATURE: RegressionOutput(predictions["logistic"]),
        }

    def _new_metrics(self) -> dict[str, Any]:
        names = ["weight", "loss", "label", "actual", "logistic", "correct", "true", "positive"]
        for at in range(len(self._thresholds)):
            names += [f"correct{at}", f"true{at}", f"positive{at}"]
        sums = metrics.Sums("sums", names)
        confusion = metrics.ConfusionHistogram("confusion", thresholds=self._auc_thresholds)

        def of(name: str, numerator: str, denominator: str = "weight") -> metrics.View:
            return metrics.ratio(name, sums, numerator, denominator)

        def baseline(source: metrics.Sums) -> tf.Tensor:
            mean = tf.math.divide_no_nan(source["label"], source["weight"])
            return tf.maximum(mean, 1.0 - mean)

        found: dict[str, Any] = {
            "accuracy": of("accuracy", "correct"),
            "accuracy_baseline": metrics.View("accuracy_baseline", sums, baseline),
            "auc": metrics.AUC("auc", histogram=confusion, index=0),
            "auc_precision_recall": metrics.AUC(
                "auc_precision_recall", curve="PR", histogram=confusion, index=0
            ),
            "average_loss": of("average_loss", "loss"),
            "label/mean": of("label/mean", "label"),
            "precision": of("precision", "true", "positive"),
            "prediction/mean": of("prediction/mean", "logistic"),
            "recall": of("recall", "true", "actual"),
        }
        for at, threshold in enumerate(self._thresholds):
            suffix = f"positive_threshold_{threshold:g}"
            found |= {
                f"accuracy/{suffix}": of(f"accuracy/{suffix}", f"correct{at}"),
                f"precision/{suffix}": of(f"precision/{suffix}", f"true{at}", f"positive{at}"),
                f"recall/{suffix}": of(f"recall/{suffix}", f"true{at}", "actual"),
            }
        return found

    def _update(self, sources: Mapping[str, Any], batch: _base.Batch) -> None:
        labels = tf.reshape(batch.labels, (-1,))
        logistic = tf.reshape(batch.predictions["logistic"], (-1,))
        predicted = tf.cast(tf.reshape(batch.predictions["class_ids"], (-1,)), tf.float32)
        actual = tf.cast(labels > 0.0, tf.float32)
        rows = [tf.ones_like(labels), tf.reshape(batch.losses, (-1,)), labels, actual, logistic]

        def trio(positive: tf.Tensor) -> list[tf.Tensor]:
            return [tf.cast(tf.equal(positive, labels), tf.float32), positive * actual, positive]

        rows += trio(predicted)
        for threshold in self._thresholds:
            rows += trio(tf.cast(logistic > threshold, tf.float32))
        weights = batch.flat_weights()
        sources["sums"].update_state(rows, weights)
        sources["confusion"].update_state(actual, logistic, weights)
