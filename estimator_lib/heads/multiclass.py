"""More than two exclusive classes, softmax cross entropy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import tensorflow as tf

from estimator_lib import losses, metrics
from estimator_lib.export.outputs import ClassificationOutput, ExportOutput
from estimator_lib.heads import _base
from estimator_lib.losses import LossReduction


class MultiClassHead(_base.LabelHead):
    """Head for labels 0 to n_classes - 1, or texts of a vocabulary.

    Labels: int64 `[batch]` or `[batch, 1]`, or string with a vocabulary.

    Args:
        n_classes: More than 2; use BinaryClassHead for 2.
        weight_column: See `LabelHead`.
        label_vocabulary: The texts of the classes by id.
        loss_reduction: See `LabelHead`.
        loss_fn: See `LabelHead`.
        name: See `LabelHead`.
        top_k: For each k, the share of examples whose label is among the k likeliest classes
            is reported as "accuracy/top_<k>".
        more_metrics: "auc" is the mean over classes of the area of one against the rest.
        auc_thresholds: See `BinaryClassHead`.
    """

    signatures: ClassVar = (_base.CLASSIFICATION_SIGNATURE,)

    def __init__(
        self,
        n_classes: int,
        weight_column: Any = None,
        label_vocabulary: Sequence[Any] | None = None,
        loss_reduction: Any = LossReduction.SUM_OVER_BATCH_SIZE,
        loss_fn: Callable[..., tf.Tensor] | None = None,
        name: str | None = None,
        top_k: Sequence[int] = (),
        *,
        more_metrics: Sequence[str] = (),
        auc_thresholds: int | None = None,
    ) -> None:
        super().__init__(weight_column, loss_reduction, loss_fn, name)
        self._more = _base.checked_more(type(self).__name__, more_metrics, ("auc",))
        self._auc_thresholds = _base.checked_auc_thresholds(type(self).__name__, auc_thresholds)
        if tf.is_tensor(n_classes) and tf.get_static_value(n_classes) is not None:
            n_classes = int(tf.get_static_value(n_classes))
        if isinstance(n_classes, bool) or not isinstance(n_classes, int) or n_classes <= 2:
            raise self._invalid("n_classes", "an integer of at least 3", n_classes)
        for k in top_k:
            if not 1 < k < n_classes:
                raise self._invalid("top_k", f"integers from 2 to {n_classes - 1}", k)
        self._n_classes = n_classes
        self._top_k = tuple(top_k)
        self._vocabulary = _base.LabelVocabulary(label_vocabulary, n_classes, type(self).__name__)

    @property
    def logits_dimension(self) -> int:
        return self._n_classes

    def _labels(self, labels: tf.Tensor) -> tf.Tensor:
        if labels.dtype.is_floating:
            raise self._invalid("labels", "class ids or texts", labels.dtype.name)
        ids = self._vocabulary.ids(labels)
        good = (ids >= 0) & (ids < self._n_classes)
        return _base.checked(ids, good, type(self).__name__, self._vocabulary.expected())

    def _losses(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        return losses.softmax_cross_entropy(labels, logits)

    def _predictions(self, logits: tf.Tensor) -> dict[str, Callable[[], tf.Tensor]]:
        class_ids = tf.argmax(logits, 1)[:, tf.newaxis]
        batch = tf.shape(logits)[0]
        names = self._vocabulary.names
        return {
            "logits": lambda: logits,
            "probabilities": lambda: tf.nn.softmax(logits),
            "class_ids": lambda: class_ids,
            "classes": lambda: tf.gather(names(), class_ids),
            "all_class_ids": lambda: tf.tile(tf.range(self._n_classes)[tf.newaxis], (batch, 1)),
            "all_classes": lambda: tf.tile(names()[tf.newaxis], (batch, 1)),
        }

    def _outputs(self, predictions: Mapping[str, tf.Tensor]) -> dict[str, ExportOutput]:
        return {
            _base.CLASSIFICATION_SIGNATURE: ClassificationOutput(
                scores=predictions["probabilities"], classes=predictions["all_classes"]
            )
        }

    def _new_metrics(self) -> dict[str, Any]:
        tops = [f"top_{k}" for k in self._top_k]
        sums = metrics.Sums("sums", ["weight", "loss", "correct", *tops])
        found: dict[str, Any] = {
            "average_loss": metrics.ratio("average_loss", sums, "loss", "weight"),
            "accuracy": metrics.ratio("accuracy", sums, "correct", "weight"),
        }
        for top in tops:
            found[f"accuracy/{top}"] = metrics.ratio(f"accuracy/{top}", sums, top, "weight")
        if "auc" in self._more:
            confusion = metrics.ConfusionHistogram(
                "confusion", self._n_classes, self._auc_thresholds
            )
            found["auc"] = metrics.AUC("auc", histogram=confusion)
        return found

    def _update(self, sources: Mapping[str, Any], batch: _base.Batch) -> None:
        labels = tf.reshape(batch.labels, (-1,))
        losses_ = tf.reshape(batch.losses, (-1,))
        correct = tf.equal(tf.reshape(batch.predictions["class_ids"], (-1,)), labels)
        rows = [tf.ones_like(losses_), losses_, tf.cast(correct, tf.float32)]
        for k in self._top_k:
            rows.append(tf.cast(tf.math.in_top_k(labels, batch.logits, k), tf.float32))
        weights = batch.flat_weights()
        sources["sums"].update_state(rows, weights)
        if "confusion" in sources:
            one_hot = tf.one_hot(labels, self._n_classes, dtype=tf.int32)
            sources["confusion"].update_state(one_hot, batch.predictions["probabilities"], weights)
