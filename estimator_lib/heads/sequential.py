"""Any head, applied to every position of a sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from estimator_lib.core import columns as fc
from estimator_lib.core.constraints import Text, checked, refused
from estimator_lib.core.errors import DataError, Reason, did_you_mean
from estimator_lib.export.outputs import ExportOutput, PredictOutput
from estimator_lib.heads import _base
from estimator_lib.heads.multi import MultiHead
from estimator_lib.protocols import Labels, Tensor
from estimator_lib.specs import EstimatorSpec, ModeKeys


class SequentialHead(_base.Head):
    """Head of one label per position; positions outside the mask count for nothing.

    Labels: `[batch, time]`, dense, sparse or ragged. Logits: `[batch, time, logits_dimension]`.
    Loss and metrics are those of `static_head` over all positions inside the mask; predictions
    have the shape `[batch, time, ...]`, but for the list of all classes, and the mask is among
    them.

    Args:
        static_head: Head of one position.
        sequence_mask: Feature with the mask, bool `[batch, time]`; RNN models provide it.
        feature_columns: Features with a value per position that a loss_fn of static_head
            reads, one or several; its weights are among them without being listed.
    """

    @checked
    def __init__(
        self,
        static_head: _base.Head,
        sequence_mask: Text = "sequence_mask",
        feature_columns: str | Sequence[str | fc.Column] = (),
    ) -> None:
        if not isinstance(static_head, _base.Head) or isinstance(static_head, MultiHead):
            expected = "a head of one label"
            raise refused(
                type(self).__name__, "static_head", expected, static_head, Reason.TYPE_MISMATCH
            )
        self._head = static_head
        self._mask = sequence_mask
        columns = [feature_columns] if isinstance(feature_columns, str) else feature_columns
        keys = [str(getattr(column, "key", column)) for column in columns]
        weights = getattr(static_head, "weight_column", None)
        self._keys = {*keys, *([] if weights is None else [weights])}

    @property
    def logits_dimension(self) -> int:
        return self._head.logits_dimension

    @property
    def name(self) -> str | None:
        return self._head.name

    @property
    def loss_reduction(self) -> _base.Reduction:
        return self._head.loss_reduction

    @property
    def static_head(self) -> _base.Head:
        """The head of one position."""
        return self._head

    @property
    def sequence_mask(self) -> str:
        """Name of the feature with the mask."""
        return self._mask

    def loss(
        self,
        labels: Labels,
        logits: tf.Tensor,
        features: _base.NamedFeatures | None = None,
        mode: str | None = None,
        regularization_losses: Sequence[tf.Tensor] | None = None,
    ) -> tf.Tensor:
        """Returns the loss over the positions inside the mask; see `Head.loss`."""
        flat = self._flat(features or {}, logits, labels)
        return self._head.loss(flat[2], flat[1], flat[0], mode, regularization_losses)

    def predictions(
        self, logits: tf.Tensor, keys: Sequence[str] | None = None
    ) -> dict[str, tf.Tensor]:
        """Returns predictions `[batch, time, ...]`; see `Head.predictions`."""
        logits = tf.convert_to_tensor(logits)
        shape = tf.shape(logits)[:2]
        found = self._head.predictions(tf.reshape(logits, (-1, self.logits_dimension)), keys)
        return {
            # The classes there are: the same at every position, and given once per example.
            key: value[: shape[0]]
            if key.startswith("all_")
            else tf.reshape(value, tf.concat([shape, tf.shape(value)[1:]], 0))
            for key, value in found.items()
        }

    def metrics(self, regularization_losses: Sequence[tf.Tensor] | None = None) -> dict[str, Any]:
        """Returns fresh metrics of static_head."""
        return self._head.metrics(regularization_losses)

    def update_metrics(
        self,
        eval_metrics: dict[str, Any],
        features: _base.NamedFeatures,
        logits: tf.Tensor,
        labels: Labels,
        regularization_losses: Sequence[tf.Tensor] | None = None,
    ) -> dict[str, Any]:
        """Adds the positions inside the mask to `eval_metrics` and returns them."""
        flat = self._flat(features, logits, labels)
        return self._head.update_metrics(
            eval_metrics, flat[0], flat[1], flat[2], regularization_losses
        )

    def _spec(
        self,
        features: _base.NamedFeatures,
        mode: str,
        logits: tf.Tensor,
        labels: Labels,
        training: _base.Training,
    ) -> EstimatorSpec:
        # static_head corrects the logits it gets by itself; the predictions are made here.
        corrected = self.calibrated(logits, mode)
        predictions = {**self.predictions(corrected), self._mask: self._mask_of(features)}
        if mode == ModeKeys.PREDICT:
            outputs = self.export_outputs(predictions)
            return EstimatorSpec(mode=mode, predictions=predictions, export_outputs=outputs)
        self._needed_labels(labels, mode)
        flat_features, flat_logits, flat_labels = self._flat(features, logits, labels)
        spec = self._head.create_estimator_spec(
            flat_features, mode, flat_logits, flat_labels, *training
        )
        return spec._replace(predictions=predictions)

    def export_outputs(self, predictions: Mapping[Any, tf.Tensor]) -> dict[str, ExportOutput]:
        """Returns the outputs of static_head; the mask is under "predict"."""
        found = self._head.export_outputs(predictions)
        return found | {_base.PREDICT_SIGNATURE: PredictOutput(predictions)}

    def _mask_of(self, features: _base.NamedFeatures) -> tf.Tensor:
        if self._mask not in features:
            raise DataError(
                f"SequentialHead misses the mask {self._mask!r}: expected a bool feature "
                "[batch, time]. Return it from input_fn, or use an RNN model."
                + did_you_mean(self._mask, features),
                reason=Reason.FIELD_MISSING,
            )
        return tf.cast(features[self._mask], tf.bool)

    def _flat(
        self, features: _base.NamedFeatures, logits: tf.Tensor, labels: Labels
    ) -> tuple[dict[str, Any], tf.Tensor, tf.Tensor]:
        mask = self._mask_of(features)
        inside = {
            key: tf.boolean_mask(_padded(features[key], mask), mask)
            for key in self._keys
            if key in features
        }
        at = tf.boolean_mask(tf.convert_to_tensor(logits), mask)
        return inside, at, tf.boolean_mask(_padded(labels, mask), mask)


def _padded(values: Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Returns `[batch, time]` values of any form, as long as the mask."""
    if isinstance(values, tf.SparseTensor):
        values = tf.RaggedTensor.from_sparse(values)
    if isinstance(values, tf.RaggedTensor):
        return values.to_tensor(shape=tf.shape(mask, tf.int64))
    return tf.convert_to_tensor(values)
