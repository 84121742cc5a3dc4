"""Predictions batch by batch, and a predictor that is kept for single rows.

Layer 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

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

    Args:
        run: From features to predictions (tensors).
        spec: Features by name as TensorSpec `[batch, ...]`.

    Attributes:
        step: Global step of the weights.
    """

    def __init__(
        self,
        run: Callable[[Mapping[str, Any]], Any],
        spec: Mapping[str, Any],
        keys: str | Sequence[str] | None,
        step: int,
    ) -> None:
        self._run = run
        self._spec = dict(spec)
        self._dtypes = {name: s.dtype for name, s in spec.items()}
        self._keys = keys
        self.step = step

    def predict(self, features: Mapping[str, Any]) -> Any:
        """Returns the predictions of a batch as numpy arrays.

        Args:
            features: Arrays `[batch, ...]` (or lists) by feature name; for one row, `[1, ...]`.

        Raises:
            ConfigError: a feature is missing.
        """
        try:
            given = {
                name: tf.convert_to_tensor(features[name], dtype)
                for name, dtype in self._dtypes.items()
            }
        except KeyError as error:
            raise ConfigError(
                f"Feature {error.args[0]!r} is missing: expected "
                f"{', '.join(self._dtypes)}, got {', '.join(features)}.",
                reason=Reason.FIELD_MISSING,
            ) from error
        return to_numpy(select(self._run(given), self._keys))

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
