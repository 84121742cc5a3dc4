"""What a serving input function returns: where requests enter the graph.

Layer 3.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

import tensorflow as tf

from estimator_lib.core.errors import ConfigError, Reason, quote

SINGLE_FEATURE: Final = "feature"
SINGLE_RECEIVER: Final = "input"


@dataclasses.dataclass(frozen=True)
class ServingInputReceiver:
    """Features for the model and the tensors that requests feed.

    Args:
        features: Tensor or dict of tensors for model_fn.
        receiver_tensors: Tensor or dict of tensors that a request gives; any tensors of the
            graph, such as placeholders, that the features follow from.
        receiver_tensors_alternatives: Name to further dicts of tensors that may be fed instead.
        resources: Objects that the graph needs in the SavedModel (loaded models, tables).
        raw_fields: Whether receiver_tensors are fields of records. Else a single one of texts is
            taken for serialized tf.Examples, which the methods Classify and Regress take.
    """

    features: Any
    receiver_tensors: Any
    receiver_tensors_alternatives: Mapping[str, Any] | None = None
    resources: tuple[Any, ...] = ()
    raw_fields: bool = False

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        if self.features is None or self.receiver_tensors is None:
            raise ConfigError(
                "ServingInputReceiver is incomplete: expected features and receiver_tensors.",
                reason=Reason.MISSING_VALUE,
            )
        if not isinstance(self.features, Mapping):
            set_(self, "features", self._single(self.features))
        receivers = named(self.receiver_tensors)
        if not receivers:
            raise ConfigError(
                "ServingInputReceiver.receiver_tensors is empty: expected at least one tensor.",
                reason=Reason.MISSING_VALUE,
            )
        for name, tensor in receivers.items():
            if not isinstance(name, str) or not tf.is_tensor(tensor):
                raise ConfigError(
                    f"ServingInputReceiver.receiver_tensors[{quote(name)}] is invalid: expected "
                    f"a tensor by name, got {quote(tensor)}.",
                    reason=Reason.TYPE_MISMATCH,
                )
        set_(self, "receiver_tensors", receivers)
        alternatives = self.receiver_tensors_alternatives or {}
        set_(
            self,
            "receiver_tensors_alternatives",
            {name: named(tensors) for name, tensors in alternatives.items()},
        )

    def _single(self, features: Any) -> Any:
        return {SINGLE_FEATURE: features}


@dataclasses.dataclass(frozen=True)
class TensorServingInputReceiver(ServingInputReceiver):
    """For a model_fn that takes one tensor instead of a dict."""

    def _single(self, features: Any) -> Any:
        return features


@dataclasses.dataclass(frozen=True)
class SupervisedInputReceiver:
    """Features, labels and the tensors fed, to export the train or eval function."""

    features: Any
    labels: Any
    receiver_tensors: Any
    resources: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "receiver_tensors", named(self.receiver_tensors))


def named(tensors: Any) -> dict[str, Any]:
    """Returns tensors by name; a single one is named "input"."""
    return dict(tensors) if isinstance(tensors, Mapping) else {SINGLE_RECEIVER: tensors}
