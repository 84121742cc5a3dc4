"""Where a raw field has no value, by one rule for training, examples and requests. Layer 2."""

from __future__ import annotations

import tensorflow as tf

from estimator_lib.core.columns import MISSING_INT


def is_missing(values: tf.Tensor) -> tf.Tensor:
    """Says where a field has no value, bool of its shape: "", NaN, or `MISSING_INT` of int64."""
    if values.dtype == tf.string:
        return tf.equal(values, "")
    if values.dtype.is_floating:
        return tf.math.is_nan(values)
    if values.dtype == tf.int64:
        return tf.equal(values, MISSING_INT)
    return tf.zeros_like(values, tf.bool)
