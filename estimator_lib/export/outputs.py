"""What a model offers for serving; each output becomes a signature of the SavedModel.

Layer 1 of the package: heads build these, `export.saved_model` writes them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from estimator_lib.core.errors import ConfigError, Reason, quote


@dataclasses.dataclass(frozen=True)
class ExportOutput:
    """Base of the outputs."""

    def tensors(self) -> dict[str, Any]:
        """Returns the signature's output tensors by name."""
        raise ConfigError(
            f"Export output {type(self).__name__} has no tensors. Use ClassificationOutput, "
            "RegressionOutput or PredictOutput.",
            reason=Reason.UNSUPPORTED,
        )


@dataclasses.dataclass(frozen=True)
class ClassificationOutput(ExportOutput):
    """Scores and classes; at least one of them.

    Args:
        scores: float32 `[batch, n_classes]`.
        classes: string `[batch, n_classes]`, one name per score.
    """

    scores: Any = None
    classes: Any = None

    def __post_init__(self) -> None:
        if self.scores is None and self.classes is None:
            raise ConfigError(
                "ClassificationOutput is empty: give scores, classes or both.",
                reason=Reason.MISSING_VALUE,
            )

    def tensors(self) -> dict[str, Any]:
        pairs = {"classes": self.classes, "scores": self.scores}
        return {name: tensor for name, tensor in pairs.items() if tensor is not None}


@dataclasses.dataclass(frozen=True)
class RegressionOutput(ExportOutput):
    """One number per example: float32 `[batch]` or `[batch, dimension]`."""

    value: Any

    def tensors(self) -> dict[str, Any]:
        return {"outputs": self.value}


@dataclasses.dataclass(frozen=True)
class PredictOutput(ExportOutput):
    """Any tensors by name; one tensor alone is named "output"."""

    outputs: Any

    def tensors(self) -> dict[str, Any]:
        if not isinstance(self.outputs, Mapping):
            return {"output": self.outputs}
        for name in self.outputs:
            if not isinstance(name, str | tuple):
                raise ConfigError(
                    f"PredictOutput has the key {quote(name)}: expected a string.",
                    reason=Reason.TYPE_MISMATCH,
                )
        return {
            "/".join(name) if isinstance(name, tuple) else name: tensor
            for name, tensor in self.outputs.items()
        }


@dataclasses.dataclass(frozen=True)
class EvalOutput(ExportOutput):
    """Loss, predictions and metrics, for a SavedModel in train or eval mode.

    Args:
        loss: Scalar.
        predictions: Tensor or dict of tensors.
        metrics: Name to a Keras metric, or a (value, update_op) pair.
    """

    loss: Any = None
    predictions: Any = None
    metrics: Mapping[str, Any] | None = None

    def tensors(self) -> dict[str, Any]:
        """`loss`, `predictions/<name>`, `metrics/<name>/value` and `.../update_op`."""
        found: dict[str, Any] = {} if self.loss is None else {"loss": self.loss}
        predictions = self.predictions
        if predictions is not None:
            named = predictions if isinstance(predictions, Mapping) else {"output": predictions}
            found.update({f"predictions/{name}": value for name, value in named.items()})
        for name, metric in (self.metrics or {}).items():
            pair = isinstance(metric, tuple | list)
            value, update = metric if pair else [metric.result()] * 2
            found[f"metrics/{name}/value"] = value
            if hasattr(update, "dtype"):  # an op that gives no value cannot be an output
                found[f"metrics/{name}/update_op"] = update
        return found
