"""More than two exclusive classes, softmax cross entropy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import tensorflow as tf

from estimator_lib import losses, metrics
from estimator_lib.core.constraints import AucThresholds, checked, list_of, number, one_of, refused
from estimator_lib.export.outputs import ClassificationOutput, ExportOutput
from estimator_lib.heads import _base
from estimator_lib.losses import LossReduction


def _known(value: object) -> object:
    """Returns a number that may be given as a constant tensor."""
    found = tf.get_static_value(value) if tf.is_tensor(value) else None
    return value if found is None else found.item()


_SEVERAL = number(at_least=3, whole=True)
_CLASSES = dataclasses.replace(_SEVERAL, allows=lambda value: _SEVERAL.allows(_known(value)))


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

    @checked
    def __init__(
        self,
        n_classes: Annotated[int, _CLASSES],
        weight_column: _base.WeightColumn = None,
        label_vocabulary: Sequence[str] | None = None,
        loss_reduction: _base.Reduction = LossReduction.SUM_OVER_BATCH_SIZE,
        loss_fn: Callable[..., tf.Tensor] | None = None,
        name: str | None = None,
        top_k: Sequence[int] = (),
        *,
        more_metrics: Annotated[Sequence[str], list_of(one_of("auc"), may_be_empty=True)] = (),
        auc_thresholds: AucThresholds | None = None,
    ) -> None:
        super().__init__(weight_column, loss_reduction, loss_fn, name)
        own = type(self).__name__
        self._more = more_metrics
        self._auc_thresholds = auc_thresholds
        n_classes = int(_known(n_classes))  # type: ignore[call-overload]
        for k in top_k:
            if not 1 < k < n_classes:
                raise refused(own, "top_k", f"integers from 2 to {n_classes - 1}", k)
        self._n_classes = n_classes
        self._top_k = tuple(top_k)
        self._vocabulary = _base.LabelVocabulary(label_vocabulary, n_classes, own)

    @property
    def logits_dimension(self) -> int:
        return self._n_classes

    def _labels(self, labels: tf.Tensor) -> tf.Tensor:
        if labels.dtype.is_floating:
            expected = "class ids or texts"
            raise refused(type(self).__name__, "labels", expected, labels.dtype.name)
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
