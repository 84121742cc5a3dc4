"""Several independent classes per example, sigmoid cross entropy averaged over classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import tensorflow as tf

from estimator_lib import losses, metrics
from estimator_lib.core.constraints import AucThresholds, Classes, checked, refused
from estimator_lib.core.errors import ConfigError, Reason
from estimator_lib.export.outputs import ClassificationOutput, ExportOutput
from estimator_lib.heads import _base
from estimator_lib.losses import LossReduction
from estimator_lib.protocols import Labels


class MultiLabelHead(_base.LabelHead):
    """Head for labels that do not exclude each other.

    Labels: 0/1 `[batch, n_classes]`, or a SparseTensor or RaggedTensor that lists the ids (or,
    with a vocabulary, the texts) of each example's classes.

    Args:
        n_classes: At least 2.
        weight_column: See `LabelHead`.
        thresholds: For each, accuracy, precision and recall over all classes are reported.
        label_vocabulary: The texts of the classes by id.
        loss_reduction: See `LabelHead`.
        loss_fn: See `LabelHead`.
        classes_for_class_based_metrics: Ids or texts of classes that get metrics of their own.
        name: See `LabelHead`.
        auc_thresholds: See `BinaryClassHead`.
    """

    signatures: ClassVar = (_base.CLASSIFICATION_SIGNATURE,)

    @checked
    def __init__(
        self,
        n_classes: Classes,
        weight_column: _base.WeightColumn = None,
        thresholds: _base.Thresholds = None,
        label_vocabulary: Sequence[str] | None = None,
        loss_reduction: _base.Reduction = LossReduction.SUM_OVER_BATCH_SIZE,
        loss_fn: Callable[..., tf.Tensor] | None = None,
        classes_for_class_based_metrics: Sequence[int | str] = (),
        name: str | None = None,
        *,
        auc_thresholds: AucThresholds | None = None,
    ) -> None:
        super().__init__(weight_column, loss_reduction, loss_fn, name)
        self._auc_thresholds = auc_thresholds
        self._n_classes = n_classes
        self._thresholds = tuple(map(float, () if thresholds is None else thresholds))
        self._vocabulary = _base.LabelVocabulary(label_vocabulary, n_classes, type(self).__name__)
        self._own = [self._class(c) for c in classes_for_class_based_metrics or ()]

    @property
    def logits_dimension(self) -> int:
        return self._n_classes

    def _class(self, given: int | str) -> tuple[int, str]:
        """Returns the id of a class and how its metrics call it."""
        texts = self._vocabulary.texts
        if isinstance(given, str) and texts is not None and given in texts:
            return texts.index(given), f"/{given}"
        if isinstance(given, int) and 0 <= given < self._n_classes:
            return given, f"/{texts[given]}" if texts else f"{given}"
        argument = "classes_for_class_based_metrics"
        raise refused(type(self).__name__, argument, self._vocabulary.expected(), given)

    def _column_of(
        self, labels: Labels, logits: tf.Tensor | None = None
    ) -> tf.Tensor | tf.RaggedTensor:
        if isinstance(labels, tf.SparseTensor):
            labels = tf.RaggedTensor.from_sparse(labels)
        if isinstance(labels, tf.RaggedTensor):
            return labels
        return super()._column_of(labels, logits)

    def _label_width(self) -> int:
        return self._n_classes

    def _labels(self, labels: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        name = type(self).__name__
        if isinstance(labels, tf.RaggedTensor):
            ids = self._vocabulary.ids(labels.flat_values)
            good = (ids >= 0) & (ids < self._n_classes)
            ids = _base.checked(ids, good, name, self._vocabulary.expected())
            rows = labels.value_rowids()
            shape = (labels.nrows(), self._n_classes)
            cells = rows * self._n_classes + tf.cast(ids, rows.dtype)
            counts = tf.math.unsorted_segment_sum(
                tf.ones_like(cells, tf.float32), cells, shape[0] * self._n_classes
            )
            return tf.minimum(tf.reshape(counts, shape), 1.0)
        if labels.dtype == tf.string:
            raise ConfigError(
                f"{name} got dense string labels: expected 0/1 [batch, {self._n_classes}] or the "
                "classes of each example as a SparseTensor or RaggedTensor.",
                reason=Reason.TYPE_MISMATCH,
            )
        numbers = tf.cast(labels, tf.float32)
        return _base.checked(numbers, tf.equal(tf.square(numbers), numbers), name, "0 or 1")

    def _losses(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        entropy = losses.sigmoid_cross_entropy(labels, logits)
        return tf.reduce_mean(entropy, axis=1, keepdims=True)

    def _predictions(self, logits: tf.Tensor) -> dict[str, Callable[[], tf.Tensor]]:
        batch = tf.shape(logits)[0]
        names = self._vocabulary.names
        return {
            "logits": lambda: logits,
            "probabilities": lambda: tf.sigmoid(logits),
            "classes": lambda: tf.tile(names()[tf.newaxis], (batch, 1)),
        }

    def _outputs(self, predictions: Mapping[str, tf.Tensor]) -> dict[str, ExportOutput]:
        return {
            _base.CLASSIFICATION_SIGNATURE: ClassificationOutput(
                scores=predictions["probabilities"], classes=predictions["classes"]
            )
        }

    def _new_metrics(self) -> dict[str, Any]:
        names = ["weight", "loss", "elements", "label"]
        names += [f"mean{c}" for c, _ in self._own]
        for at in range(len(self._thresholds)):
            names += [f"correct{at}", f"true{at}", f"positive{at}"]
        sums = metrics.Sums("sums", names)
        pooled = metrics.ConfusionHistogram("pooled", thresholds=self._auc_thresholds)
        found: dict[str, Any] = {
            "average_loss": metrics.ratio("average_loss", sums, "loss", "weight"),
            "auc": metrics.AUC("auc", histogram=pooled, index=0),
            "auc_precision_recall": metrics.AUC(
                "auc_precision_recall", curve="PR", histogram=pooled, index=0
            ),
        }
        for at, threshold in enumerate(self._thresholds):
            suffix = f"positive_threshold_{threshold:g}"
            for kind, top, bottom in (
                ("accuracy", f"correct{at}", "elements"),
                ("precision", f"true{at}", f"positive{at}"),
                ("recall", f"true{at}", "label"),
            ):
                key = f"{kind}/{suffix}"
                found[key] = metrics.ratio(key, sums, top, bottom)
        own = metrics.ConfusionHistogram("own", max(1, len(self._own)), self._auc_thresholds)
        for at, (c, called) in enumerate(self._own):
            label = f"class{called}" if not called.startswith("/") else called[1:]
            mean = f"probability_mean/{label}"
            found[mean] = metrics.ratio(mean, sums, f"mean{c}", "weight")
            for curve, key in (("ROC", "auc"), ("PR", "auc_precision_recall")):
                name = f"{key}/{label}"
                found[name] = metrics.AUC(name, curve=curve, histogram=own, index=at)
        return found

    def _update(self, sources: Mapping[str, Any], batch: _base.Batch) -> None:
        labels, probabilities = batch.labels, batch.predictions["probabilities"]
        weights = batch.flat_weights()
        ones = tf.reshape(tf.ones_like(labels[:, :1]), (-1,))

        def per_example(values: tf.Tensor) -> tf.Tensor:
            return tf.reduce_sum(values, 1)

        rows = [
            ones,
            tf.reduce_mean(batch.losses, 1),
            ones * float(self._n_classes),
            per_example(labels),
        ]
        rows += [probabilities[:, c] for c, _ in self._own]
        for threshold in self._thresholds:
            positive = tf.cast(probabilities > threshold, tf.float32)
            rows += [
                per_example(tf.cast(tf.equal(positive, labels), tf.float32)),
                per_example(positive * labels),
                per_example(positive),
            ]
        sources["sums"].update_state(rows, weights)
        # Every class of an example carries the example's weight.
        spread = None if batch.weights is None else tf.reshape(
            batch.weights * tf.ones_like(labels), (-1,)
        )  # fmt: skip
        sources["pooled"].update_state(
            tf.reshape(labels, (-1,)), tf.reshape(probabilities, (-1,)), spread
        )
        if self._own:
            columns = [c for c, _ in self._own]
            sources["own"].update_state(
                tf.gather(labels, columns, axis=1),
                tf.gather(probabilities, columns, axis=1),
                weights,
            )
