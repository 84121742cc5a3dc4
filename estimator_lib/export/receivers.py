"""What a serving input function returns: where requests enter the graph.

Layer 3.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import Any, Final, Self

import tensorflow as tf

from estimator_lib.core.errors import ConfigError, Reason, quote
from estimator_lib.protocols import Features

SINGLE_FEATURE: Final = "feature"
SINGLE_RECEIVER: Final = "input"


class ServingInputReceiver(
    collections.namedtuple(
        "ServingInputReceiver",
        ["features", "receiver_tensors", "receiver_tensors_alternatives"],
    )
):
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

    resources: tuple[Any, ...]
    raw_fields: bool

    def __new__(
        cls,
        features: Features,
        receiver_tensors: Features,
        receiver_tensors_alternatives: Mapping[str, Features] | None = None,
        resources: tuple[Any, ...] = (),
        raw_fields: bool = False,  # noqa: FBT001, FBT002, RUF100 - kept for callers
    ) -> Self:
        if features is None or receiver_tensors is None:
            raise ConfigError(
                f"{cls.__name__} is incomplete: expected features and receiver_tensors.",
                reason=Reason.MISSING_VALUE,
            )
        receivers = _fed(cls.__name__, "receiver_tensors", receiver_tensors)
        alternatives = receiver_tensors_alternatives
        if alternatives is not None and not isinstance(alternatives, Mapping):
            raise _wrong(cls.__name__, "receiver_tensors_alternatives", "a dict", alternatives)
        others = {
            name: _fed(cls.__name__, f"receiver_tensors_alternatives[{quote(name)}]", tensors)
            for name, tensors in (alternatives or {}).items()
        }
        made = super().__new__(cls, cls._features(features), receivers, others or None)
        # Beside the tuple, which keeps the length that it had.
        made.resources = tuple(resources)
        made.raw_fields = raw_fields
        return made

    @classmethod
    def _features(cls, features: Features) -> Features:
        return _parts(cls.__name__, "features", features, SINGLE_FEATURE)


class TensorServingInputReceiver(ServingInputReceiver):
    """For a model_fn that takes one tensor instead of a dict."""

    @classmethod
    def _features(cls, features: Features) -> Features:
        if not _is_tensor(features):
            raise _wrong(cls.__name__, "features", "one tensor", features)
        return features


class SupervisedInputReceiver(
    collections.namedtuple("SupervisedInputReceiver", ["features", "labels", "receiver_tensors"])
):
    """Features, labels and the tensors fed, to export the train or eval function."""

    resources: tuple[Any, ...]

    def __new__(
        cls,
        features: Features,
        labels: Features,
        receiver_tensors: Features,
        resources: tuple[Any, ...] = (),
    ) -> Self:
        for part, given in (("features", features), ("labels", labels)):
            if given is None:
                raise ConfigError(
                    f"SupervisedInputReceiver is incomplete: expected {part}.",
                    reason=Reason.MISSING_VALUE,
                )
            _parts(cls.__name__, part, given, part)
        receivers = _fed(cls.__name__, "receiver_tensors", receiver_tensors)
        made = super().__new__(cls, features, labels, receivers)
        made.resources = tuple(resources)
        return made


class UnsupervisedInputReceiver(ServingInputReceiver):
    """Features and the tensors fed, where a model trains without labels."""

    def __new__(cls, features: Features, receiver_tensors: Features) -> Self:
        return super().__new__(cls, features, receiver_tensors)

    @classmethod
    def _features(cls, features: Features) -> Features:
        _parts(cls.__name__, "features", features, SINGLE_FEATURE)
        return features


def _is_tensor(value: object) -> bool:
    return isinstance(value, tf.Tensor | tf.SparseTensor | tf.RaggedTensor)


def _parts(receiver: str, field: str, given: object, single: str) -> dict[str, Any]:
    parts = dict(given) if isinstance(given, Mapping) else {single: given}
    for name, tensor in parts.items():
        if not isinstance(name, str) or not _is_tensor(tensor):
            raise _wrong(receiver, f"{field}[{quote(name)}]", "a tensor by name", tensor)
    return parts


def _fed(receiver: str, field: str, given: object) -> dict[str, Any]:
    found = _parts(receiver, field, given, SINGLE_RECEIVER)
    if not found:
        raise ConfigError(
            f"{receiver}.{field} is empty: expected at least one tensor.",
            reason=Reason.MISSING_VALUE,
        )
    return found


def _wrong(receiver: str, field: str, expected: str, got: object) -> ConfigError:
    return ConfigError(
        f"{receiver}.{field} is invalid: expected {expected}, got {quote(got)}.",
        reason=Reason.TYPE_MISMATCH,
    )


def named(tensors: Features) -> dict[str, Any]:
    """Returns tensors by name; a single one is named "input"."""
    return dict(tensors) if isinstance(tensors, Mapping) else {SINGLE_RECEIVER: tensors}
