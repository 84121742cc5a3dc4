"""What a model offers for serving; each output becomes a signature of the SavedModel.

Layer 1 of the package: heads build these, `export.saved_model` writes them. They derive from
TensorFlow's own, so that either kind is accepted wherever one is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from estimator_lib.core.errors import ConfigError, Reason, quote
from estimator_lib.protocols import Predictions
from estimator_lib.tensorflow_internals import export_output as theirs

ExportOutput = theirs.ExportOutput
"""Base of all outputs, of these and of TensorFlow's."""


class _Named:
    """Outputs that say what a signature gives."""

    def tensors(self) -> dict[str, Any]:
        """Returns the signature's output tensors by name."""
        return tensors(self)


class ClassificationOutput(_Named, theirs.ClassificationOutput):
    """Scores and classes; at least one of them.

    Args:
        scores: float32 `[batch, n_classes]`.
        classes: string `[batch, n_classes]`, one name per score.
    """

    def __init__(self, scores: tf.Tensor | None = None, classes: tf.Tensor | None = None) -> None:
        if scores is None and classes is None:
            raise ConfigError(
                "ClassificationOutput is empty: give scores, classes or both.",
                reason=Reason.MISSING_VALUE,
            )
        if scores is not None and not (_is_tensor(scores) and scores.dtype.is_floating):
            raise _wrong("ClassificationOutput.scores", "a float tensor", scores)
        if classes is not None and not (_is_tensor(classes) and classes.dtype == tf.string):
            raise _wrong("ClassificationOutput.classes", "a string tensor", classes)
        super().__init__(scores, classes)


class RegressionOutput(_Named, theirs.RegressionOutput):
    """One number per example: float32 `[batch]` or `[batch, dimension]`."""

    def __init__(self, value: tf.Tensor) -> None:
        if not (_is_tensor(value) and value.dtype.is_floating):
            raise _wrong("RegressionOutput.value", "a float tensor", value)
        super().__init__(value)


class PredictOutput(_Named, theirs.PredictOutput):
    """Any tensors by name; one tensor alone is named "output"."""

    def __init__(self, outputs: Predictions) -> None:
        _check_named("PredictOutput", outputs)
        super().__init__(outputs if _is_tensor(outputs) else dict(outputs))


class EvalOutput(_Named, theirs.EvalOutput):
    """Loss, predictions and metrics, for a SavedModel in train or eval mode.

    Args:
        loss: Scalar.
        predictions: Tensor or dict of tensors.
        metrics: Name to a Keras metric, or a (value, update_op) pair.
    """

    loss = predictions = metrics = None

    # What TensorFlow's class would check, it checks for metrics of Keras 2.
    def __init__(
        self,
        loss: tf.Tensor | None = None,
        predictions: Predictions | None = None,
        metrics: Mapping[str, Any] | None = None,
    ) -> None:
        self.loss, self.predictions, self.metrics = loss, predictions, metrics


def tensors(output: object) -> dict[str, Any]:
    """Returns a signature's output tensors by name.

    Of EvalOutput these are `loss`, `predictions/<name>`, `metrics/<name>/value` and
    `.../update_op`.

    Raises:
        ConfigError: no such kind of output is known.
    """
    if isinstance(output, EvalOutput):
        return _supervised(output)
    if isinstance(output, theirs.ClassificationOutput):
        pairs = {"classes": output.classes, "scores": output.scores}
        return {name: tensor for name, tensor in pairs.items() if tensor is not None}
    if isinstance(output, theirs.RegressionOutput):
        return {"outputs": output.value}
    if isinstance(output, theirs.PredictOutput):
        return dict(output.outputs)
    raise ConfigError(
        f"Export output {type(output).__name__} has no tensors. Use ClassificationOutput, "
        "RegressionOutput or PredictOutput.",
        reason=Reason.UNSUPPORTED,
    )


def _supervised(output: EvalOutput) -> dict[str, Any]:
    found: dict[str, Any] = {} if output.loss is None else {"loss": output.loss}
    predictions = output.predictions
    if predictions is not None:
        named = predictions if isinstance(predictions, Mapping) else {"output": predictions}
        found.update({f"predictions/{name}": value for name, value in named.items()})
    for name, metric in (output.metrics or {}).items():
        pair = isinstance(metric, tuple | list)
        value, update = metric if pair else [metric.result()] * 2
        found[f"metrics/{name}/value"] = value
        if hasattr(update, "dtype"):  # an op that gives no value cannot be an output
            found[f"metrics/{name}/update_op"] = update
    return found


def _check_named(kind: str, given: object) -> None:
    if not isinstance(given, Mapping):
        given = {"output": given}
    for name, value in given.items():
        if not isinstance(name, str | tuple):
            raise _wrong(kind, "names that are strings", name)
        if not _is_tensor(value):
            raise _wrong(f"{kind}[{quote(name)}]", "a tensor", value)


def _is_tensor(value: object) -> bool:
    return isinstance(value, tf.Tensor)


def _wrong(what: str, expected: str, got: object) -> ConfigError:
    return ConfigError(
        f"{what} is invalid: expected {expected}, got {quote(got)}.", reason=Reason.TYPE_MISMATCH
    )
