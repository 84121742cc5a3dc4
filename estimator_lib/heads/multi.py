"""Several heads over one set of logits, trained together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import tensorflow as tf

from estimator_lib import metrics
from estimator_lib.core.constraints import checked, list_of, number, refused
from estimator_lib.core.errors import ConfigError, DataError, Reason, did_you_mean, quote
from estimator_lib.export.outputs import ExportOutput, PredictOutput
from estimator_lib.heads import _base
from estimator_lib.losses import LossReduction, reduction_of
from estimator_lib.protocols import Labels
from estimator_lib.specs import DEFAULT_SIGNATURE, EstimatorSpec, ModeKeys


class MultiHead(_base.Head):
    """Head of heads: the loss is their weighted sum.

    Labels: a dict by head name. Logits: a dict by head name, or one tensor
    `[batch, logits_dimension]` that is cut in the order of the heads. Predictions have the
    keys (head name, key); all metrics have the head's name as suffix, as in "auc/<name>", and
    "loss/<name>" is the mean over batches of that head's loss.

    Args:
        heads: Each with a name of its own.
        head_weights: Weights of the heads' losses; None means 1.
    """

    @checked
    def __init__(
        self,
        heads: Sequence[_base.Head],
        head_weights: Annotated[Sequence[float], list_of(number())] | None = None,
    ) -> None:
        if not heads:
            raise refused(type(self).__name__, "heads", "at least one head", heads)
        names = [head.name for head in heads]
        for name in names:
            if not name or names.count(name) > 1:
                raise refused(type(self).__name__, "heads", "heads with distinct names", names)
        if head_weights is not None and len(head_weights) != len(heads):
            raise refused(
                type(self).__name__, "head_weights", f"{len(heads)} numbers", head_weights
            )
        reductions = {head.loss_reduction for head in heads}
        if len(reductions) > 1:
            raise ConfigError(
                "MultiHead: the heads have different loss reductions. Give all the same.",
                reason=Reason.CONFLICT,
            )
        self._reduction = reduction_of(reductions.pop())
        self._name = "_".join(str(name) for name in names)
        self._heads = {str(head.name): head for head in heads}
        self._head_weights = tuple(float(w) for w in head_weights or [1.0] * len(heads))

    @property
    def name(self) -> str:
        return self._name

    @property
    def loss_reduction(self) -> LossReduction:
        return self._reduction

    @property
    def heads(self) -> Mapping[str, _base.Head]:
        """The heads by name, in their order."""
        return dict(self._heads)

    @property
    def logits_dimension(self) -> int:
        return sum(head.logits_dimension for head in self._heads.values())

    def loss(
        self,
        labels: Labels,
        logits: tf.Tensor,
        features: _base.NamedFeatures | None = None,
        mode: str | None = None,
        regularization_losses: Sequence[tf.Tensor] | None = None,
    ) -> tf.Tensor:
        """Returns the weighted sum of the heads' losses plus regularization."""
        parts = self._loss_parts(labels, self._split(logits), features, mode)
        return self._total(parts, regularization_losses)

    def predictions(
        self, logits: tf.Tensor, keys: Sequence[Any] | None = None
    ) -> dict[Any, tf.Tensor]:
        """Returns predictions by (head name, key).

        Args:
            logits: See the class.
            keys: Which ones, each a pair (head name, key); None means all.

        Raises:
            ConfigError: a key that no head has.
        """
        found = {
            (name, key): value
            for name, part in self._split(logits).items()
            for key, value in self._heads[name].predictions(part).items()
        }
        for key in keys or ():
            if key not in found:
                raise ConfigError(
                    f"MultiHead has no prediction {quote(key)}: expected a pair (head name, key). "
                    "Correct it.",
                    reason=Reason.UNKNOWN_NAME,
                )
        return found if keys is None else {key: found[key] for key in keys}

    def metrics(self, regularization_losses: Sequence[tf.Tensor] | None = None) -> dict[str, Any]:
        """Returns fresh metrics of all heads."""
        found: dict[str, Any] = {}
        if regularization_losses:
            key = self._key("regularization_loss")
            found[key] = metrics.Mean("regularization_loss")
        for name, head in self._heads.items():
            found |= head.metrics()
            found[f"loss/{name}"] = metrics.Mean("loss")
        return found

    def update_metrics(
        self,
        eval_metrics: dict[str, Any],
        features: _base.NamedFeatures,
        logits: tf.Tensor,
        labels: Labels,
        regularization_losses: Sequence[tf.Tensor] | None = None,
    ) -> dict[str, Any]:
        """Adds a batch to `eval_metrics` (from `metrics`) and returns them."""
        parts = self._split(logits)
        labels = self._labels_by_head(labels)
        for name, head in self._heads.items():
            own = {
                key: metric
                for key, metric in eval_metrics.items()
                if key.endswith(f"/{name}") and key != f"loss/{name}"
            }
            head.update_metrics(own, features, parts[name], labels[name])
            eval_metrics[f"loss/{name}"].update_state(
                head.loss(labels[name], parts[name], features)
            )
        if regularization_losses:
            eval_metrics[self._key("regularization_loss")].update_state(
                tf.add_n([tf.convert_to_tensor(loss) for loss in regularization_losses])
            )
        return eval_metrics

    def _spec(
        self,
        features: _base.NamedFeatures,
        mode: str,
        logits: tf.Tensor,
        labels: Labels,
        training: _base.Training,
    ) -> EstimatorSpec:
        regularization_losses = training.regularization_losses
        logits = {
            name: self._heads[name].calibrated(part, mode)
            for name, part in self._split(logits).items()
        }
        predictions = self.predictions(logits)
        if mode == ModeKeys.PREDICT:
            return EstimatorSpec(
                mode=mode, predictions=predictions, export_outputs=self.export_outputs(predictions)
            )
        self._needed_labels(labels, mode)
        loss = self.loss(labels, logits, features, mode, regularization_losses)
        if mode == ModeKeys.EVAL:
            found = self.metrics(regularization_losses)
            self.update_metrics(found, features, logits, labels, regularization_losses)
            return EstimatorSpec(
                mode=mode, predictions=predictions, loss=loss, eval_metric_ops=found
            )
        _base.summarize(loss, regularization_losses, str)
        return EstimatorSpec(
            mode=mode,
            predictions=predictions,
            loss=loss,
            train_op=training.op(loss, self._reduction),
        )

    def export_outputs(self, predictions: Mapping[Any, tf.Tensor]) -> dict[str, ExportOutput]:
        """Returns the first head's default, then every head's outputs under its name."""
        found: dict[str, ExportOutput] = {}
        for name, head in self._heads.items():
            own = {key: value for (of, key), value in predictions.items() if of == name}
            for key, output in head.export_outputs(own).items():
                if key == DEFAULT_SIGNATURE:
                    found.setdefault(DEFAULT_SIGNATURE, output)
                    found[name] = output
                else:
                    found[f"{name}/{key}"] = output
        merged = {f"{of}/{key}": value for (of, key), value in predictions.items()}
        found[_base.PREDICT_SIGNATURE] = PredictOutput(merged)
        return found

    def _split(self, logits: tf.Tensor | Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        if isinstance(logits, Mapping):
            for name in self._heads:
                if name not in logits:
                    raise DataError(
                        f"MultiHead got no logits for head {name!r}." + did_you_mean(name, logits),
                        reason=Reason.FIELD_MISSING,
                    )
            return {name: logits[name] for name in self._heads}
        sizes = [head.logits_dimension for head in self._heads.values()]
        parts = tf.split(self._checked_logits(logits), sizes, axis=-1)
        return dict(zip(self._heads, parts, strict=True))

    def _labels_by_head(self, labels: Labels) -> Mapping[str, Any]:
        if not isinstance(labels, Mapping):
            raise DataError(
                f"MultiHead got one tensor of labels: expected a dict by head name, "
                f"{list(self._heads)}. Return a dict from input_fn.",
                reason=Reason.TYPE_MISMATCH,
            )
        for name in self._heads:
            if name not in labels:
                raise DataError(
                    f"MultiHead got no labels for head {name!r}." + did_you_mean(name, labels),
                    reason=Reason.FIELD_MISSING,
                )
        return labels

    def _loss_parts(
        self,
        labels: Labels,
        parts: Mapping[str, tf.Tensor],
        features: _base.NamedFeatures | None,
        mode: str | None,
    ) -> list[tf.Tensor]:
        by_head = self._labels_by_head(labels)
        found = [
            head.loss(by_head[name], parts[name], features, mode)
            for name, head in self._heads.items()
        ]
        for name, loss in zip(self._heads, found, strict=True) if mode == ModeKeys.TRAIN else ():
            _base.summarize(loss, None, self._heads[name]._key)
        return found

    def _total(
        self, parts: list[tf.Tensor], regularization_losses: Sequence[tf.Tensor] | None
    ) -> tf.Tensor:
        weighted = [part * w for part, w in zip(parts, self._head_weights, strict=True)]
        return tf.add_n(
            [*weighted, *(tf.convert_to_tensor(loss) for loss in regularization_losses or ())]
        )
