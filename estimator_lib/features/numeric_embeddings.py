"""Embeddings of numbers: piecewise-linear and periodic.

Layer 2. References: Gorishniy et al., On Embeddings for Numerical Features in Tabular Deep
Learning, arXiv 2203.05556.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import tensorflow as tf

from estimator_lib import variables
from estimator_lib.core import columns as fc
from estimator_lib.features import _lowering as lowering
from estimator_lib.features._lowering import Batch, Features, Part
from estimator_lib.features.numeric import finite, number

_Embedded = fc.PiecewiseLinearColumn | fc.PeriodicColumn


@lowering.feature.register
def _feature(column: _Embedded, batch: Batch) -> tf.Tensor:
    return number(column.source_column, batch)


@lowering.given.register
def _given(column: _Embedded, features: Features) -> tf.Tensor:
    return number(column.source_column, Batch(features, {}))


@lowering.part.register
def _part(column: _Embedded, sources: Features) -> Part:
    """Returns the embedding of numbers; zeros for NaN."""
    with variables.scope(column.name):
        return Part(width=column.width, values=_embedded(column, sources[column.name]))


def _embedded(column: _Embedded, values: tf.Tensor) -> tf.Tensor:
    values = tf.reshape(values, (-1, 1))
    missing = tf.math.is_nan(values)
    # NaN is replaced before and not only after, or its gradient would be NaN too.
    known = tf.where(missing, 0.0, values)
    if isinstance(column, fc.PiecewiseLinearColumn):
        encoded = piecewise_linear(known, column.edges)
    else:
        frequencies = variables.get_variable(
            "frequencies", (1, column.frequencies), initializer=_normal(column.scale)
        )
        phases = finite(2.0 * math.pi * known * frequencies)
        encoded = tf.concat([tf.sin(phases), tf.cos(phases)], 1)
    if column.dimension is not None:
        width = int(encoded.shape[1])
        limit = width**-0.5
        kernel = variables.get_variable(
            "kernel", (width, column.dimension), initializer=_uniform(limit)
        )
        bias = variables.get_variable("bias", (column.dimension,), initializer=_uniform(limit))
        encoded = tf.nn.relu(tf.nn.bias_add(tf.matmul(encoded, kernel), bias))
    return tf.where(missing, 0.0, encoded)


def piecewise_linear(values: tf.Tensor, edges: tuple[float, ...]) -> tf.Tensor:
    """Returns the share of the way through each bin, in [0, 1], float32 `[batch, bins]`.

    Args:
        values: float32 `[batch, 1]`.
        edges: Ascending, at least two.
    """
    low, high = tf.constant(edges[:-1], tf.float32), tf.constant(edges[1:], tf.float32)
    # Clipped first and taken by half, so that no two float32 numbers are too far apart.
    inside = tf.minimum(tf.maximum(values, low), high) * 0.5 - low * 0.5
    return tf.math.divide_no_nan(inside, high * 0.5 - low * 0.5)


def _normal(stddev: float) -> Callable[..., tf.Tensor]:
    def initializer(shape: Sequence[int], dtype: tf.DType = tf.float32) -> tf.Tensor:
        return tf.random.normal(shape, stddev=stddev, dtype=dtype)

    return initializer


def _uniform(limit: float) -> Callable[..., tf.Tensor]:
    def initializer(shape: Sequence[int], dtype: tf.DType = tf.float32) -> tf.Tensor:
        return tf.random.uniform(shape, -limit, limit, dtype)

    return initializer
