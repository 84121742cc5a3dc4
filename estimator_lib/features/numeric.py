"""Numbers as they are, and whether they are there.

Layer 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from estimator_lib.core import columns as fc
from estimator_lib.core.errors import ConfigError, Reason, SchemaError
from estimator_lib.features import _lowering as lowering
from estimator_lib.features._lowering import Batch, Features, Part, Spec
from estimator_lib.features.missing import is_missing

_WIDE = 1e37


@lowering.feature.register
def number(column: fc.NumericColumn, batch: Batch) -> tf.Tensor:
    """Returns a numeric column as float32 `[batch]`, or `[batch, prod(shape)]`."""
    numbers = batch.floats(column, column.key)
    width = math.prod(column.shape)
    given = numbers.shape[1:].num_elements()
    if given not in (None, width):
        raise SchemaError(
            f"Feature {column.key!r} has the wrong shape: expected {width} numbers per example "
            f"for column {column.name!r}, got {given}. Correct the column's shape or input_fn.",
            reason=Reason.TYPE_MISMATCH,
        )
    rank = 1 if width == 1 else 2
    if given is None or numbers.shape.rank != rank:
        numbers = tf.reshape(numbers, (tf.shape(numbers)[0], width)[:rank])
    if isinstance(column.default_value, fc.Mean) or isinstance(column.normalizer, fc.Moments):
        raise ConfigError(
            f"Column {column.name!r} is not resolved: its mean must be learned from data "
            "first. Run preprocess, or give the values.",
            reason=Reason.UNRESOLVED,
        )
    if column.default_value is not None:
        default = tf.constant(column.default_value, tf.float32)
        numbers = tf.where(tf.math.is_nan(numbers), default, numbers)
    if rank == 1 and callable(column.normalizer):
        # A user's function gets what tf.estimator gave it: [batch, 1].
        normal = normalized(column.normalizer, numbers[:, tf.newaxis])
        return tf.reshape(normal, (tf.shape(numbers)[0],))
    return normalized(column.normalizer, numbers)


@lowering.feature.register
def _missing(column: fc.MissingIndicatorColumn, batch: Batch) -> tf.Tensor:
    missing = is_missing(batch.field(column, column.key))
    several = tf.range(1, tf.rank(missing))
    return tf.cast(tf.reduce_all(missing, several), tf.float32)


@lowering.given.register
def _given(column: fc.NumericColumn, features: Features) -> tf.Tensor:
    return number(column, Batch(features, {}))


@lowering.part.register
def _part(column: fc.NumericColumn, sources: Features) -> Part:
    width = math.prod(column.shape)
    return Part(width=width, values=lowering.matrix(sources[column.name], width))


@lowering.parsed.register
def _parsed(column: fc.NumericColumn) -> Spec:
    default: Any = column.default_value
    if isinstance(default, fc.Mean):
        raise ConfigError(
            f"Column {column.name!r} is not resolved: its default must be learned from data "
            "first. Run preprocess, or give a number.",
            reason=Reason.UNRESOLVED,
        )
    stored = lowering.stored_type(column.dtype)
    kind = int if stored.is_integer else float
    if isinstance(default, tuple):
        default = tuple(kind(v) for v in default)
    elif default is not None:
        default = kind(default)
        for size in reversed(column.shape):  # parsing wants one default per number
            default = (default,) * size
    return {column.key: tf.io.FixedLenFeature(column.shape, stored, default)}


def normalized(
    normalizer: fc.Moments | fc.ZScore | Callable[[Any], Any] | None, numbers: tf.Tensor
) -> tf.Tensor:
    """Returns numbers as a column's normalizer gives them."""
    if isinstance(normalizer, fc.ZScore):
        return _z_score(normalizer, numbers)
    assert not isinstance(normalizer, fc.Moments), "resolved"  # noqa: S101
    return numbers if normalizer is None else tf.cast(normalizer(numbers), tf.float32)


def _z_score(score: fc.ZScore, numbers: tf.Tensor) -> tf.Tensor:
    if score.stddev == 0:
        return numbers * 0.0  # not zeros: a missing value stays NaN, so that it is seen
    if score.stddev > _WIDE:  # the difference of two large numbers may be no float32
        return numbers / score.stddev - score.mean / score.stddev
    return finite((numbers - score.mean) / score.stddev)


def finite(numbers: tf.Tensor) -> tf.Tensor:
    """Returns float32 numbers with the largest there are for infinite ones; NaN stays."""
    return tf.where(tf.math.is_inf(numbers), tf.sign(numbers) * tf.float32.max, numbers)
