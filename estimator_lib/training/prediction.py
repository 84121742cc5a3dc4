"""Predictions batch by batch, and a predictor that is kept for single rows.

Layer 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.framework.constant_op import convert_to_eager_tensor

from estimator_lib.core.errors import ConfigError, Reason, did_you_mean
from estimator_lib.training.step import check_batches


def select(predictions: Any, keys: str | Sequence[str] | None) -> Any:
    """Returns only the wanted predictions.

    Raises:
        ConfigError: no such key.
    """
    if keys is None:
        return predictions
    wanted = [keys] if isinstance(keys, str) else list(keys)
    if not isinstance(predictions, Mapping):
        raise ConfigError(
            "predict_keys are given, but the model's predictions are one tensor. Leave them out.",
            reason=Reason.CONFLICT,
        )
    for key in wanted:
        if key not in predictions:
            raise ConfigError(
                f"Prediction {key!r} is unknown.{did_you_mean(str(key), map(str, predictions))}",
                reason=Reason.UNKNOWN_NAME,
            )
    return {key: predictions[key] for key in wanted}


def rows(predictions: Any) -> Iterator[Any]:
    """Yields the predictions of each row of a batch."""
    count = check_batches(predictions)
    for i in range(count):
        if isinstance(predictions, Mapping):
            yield {name: value[i] for name, value in predictions.items()}
        else:
            yield predictions[i]


def to_numpy(predictions: Any) -> Any:
    """Returns predictions as numpy arrays, structure kept."""
    if isinstance(predictions, Mapping):
        return {name: value.numpy() for name, value in predictions.items()}
    return predictions.numpy()


class Predictor:
    """Predicts rows given as arrays, with everything compiled and loaded.

    A call is one op: what `tf.function` checks again in every call, how arguments and results
    are nested, is settled once here. Only the wanted predictions are computed.

    Args:
        run: From features to predictions (tensors).
        spec: Features by name as TensorSpec `[batch, ...]`.
        keys: See `select`.
        step: See below.

    Attributes:
        step: Global step of the weights.

    Raises:
        ConfigError: a key that the model does not predict.
    """

    def __init__(
        self,
        run: Callable[[Mapping[str, Any]], Any],
        spec: Mapping[str, Any],
        keys: str | Sequence[str] | None,
        step: int,
    ) -> None:
        @tf.function(autograph=False, input_signature=[dict(spec)])
        def selected(features: Mapping[str, Any]) -> Any:
            return select(run(features), keys)

        self._function = selected.get_concrete_function()
        self._captured = self._function.captured_inputs
        self._results = [result.dtype for result in self._function.outputs]
        self._structure = self._function.structured_outputs
        # Arguments are flattened by name.
        self._types = {name: spec[name].dtype.as_datatype_enum for name in sorted(spec)}
        self.step = step

    def predict(self, features: Mapping[str, Any]) -> Any:
        """Returns the predictions of a batch as numpy arrays.

        Args:
            features: Arrays `[batch, ...]` (or lists) by feature name; for one row, `[1, ...]`.

        Raises:
            ConfigError: a feature is missing.
        """
        here = context.context()
        try:
            given = [
                convert_to_eager_tensor(features[name], here, kind)
                for name, kind in self._types.items()
            ]
        except KeyError as error:
            raise ConfigError(
                f"Feature {error.args[0]!r} is missing: expected "
                f"{', '.join(self._types)}, got {', '.join(features)}.",
                reason=Reason.FIELD_MISSING,
            ) from error
        results = tf.raw_ops.StatefulPartitionedCall(
            args=[*given, *self._captured], Tout=self._results, f=self._function
        )
        return to_numpy(tf.nest.pack_sequence_as(self._structure, results, expand_composites=True))

    __call__ = predict


def batch_spec(features: Mapping[str, Any]) -> dict[str, Any]:
    """Returns specs for arrays `[batch, ...]`, the batch left open."""
    found = {}
    for name, value in features.items():
        if isinstance(value, tf.TensorSpec):
            found[name] = value
            continue
        array = np.asarray(value)
        dtype = tf.string if array.dtype.kind in "OSU" else tf.as_dtype(array.dtype)
        if dtype == tf.float64:
            dtype = tf.float32
        found[name] = tf.TensorSpec([None, *array.shape[1:]], dtype, name=name)
    return found
