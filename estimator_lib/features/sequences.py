"""Values whose order counts: sequence columns -> one float matrix per position.

Layer 2. A sequence comes as `[batch, time]` padded with the missing value, as a SparseTensor or
as a RaggedTensor. Variables are those of `dense_features`, below `sequence_features` as in
checkpoints of tf.estimator.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from estimator_lib import variables
from estimator_lib.core import columns as fc
from estimator_lib.core.errors import ConfigError, Reason, SchemaError
from estimator_lib.features import _lowering as lowering
from estimator_lib.features import dense, lookup
from estimator_lib.features._lowering import Batch, Features, Spec
from estimator_lib.features.embeddings import embedding_table
from estimator_lib.features.missing import is_missing
from estimator_lib.features.numeric import normalized

LAYER_SCOPE = "sequence_features"


@lowering.feature.register
def _numbers(column: fc.SequenceNumericColumn, batch: Batch) -> tf.Tensor:
    values = batch.floats(column, column.key)
    rows = tf.shape(values)[0]
    rest = tf.reduce_prod(tf.shape(values)[1:])  # known too where there are no rows
    return normalized(column.normalizer, tf.reshape(values, (rows, rest)))


@lowering.parsed.register
def _parsed(column: fc.SequenceNumericColumn) -> Spec:
    return {column.key: tf.io.VarLenFeature(lowering.stored_type(column.dtype))}


@tf.autograph.experimental.do_not_convert
def sequence_features(
    columns: Iterable[fc.Column], features: Features, *, scope: str = LAYER_SCOPE
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the columns side by side, by name, for each position.

    Args:
        columns: `sequence_numeric_column`, or embedding or indicator columns of a
            `sequence_categorical_column_with_*`; raw or `core.columns.transformed`.
        features: The features they read.
        scope: Of the variables.

    Returns:
        float32 `[batch, time, width]`, and int64 `[batch]`: how many positions an example has,
        the most that any column has.

    Raises:
        ConfigError: a column is not a dense sequence column.
        SchemaError: there are several categories per position.
    """
    ordered = dense.sorted_columns(columns)
    check_sequences(ordered)
    for column in ordered:
        _check_positions(column, features)
    sources = dense.source_features(ordered, features)
    with variables.scope(scope):
        parts = [_values(column, sources) for column in ordered]
    lengths = tf.reduce_max(tf.stack([_lengths(column, features) for column in ordered]), 0)
    longest = tf.reduce_max(tf.stack([tf.shape(part)[1] for part in parts]))
    padded = [tf.pad(part, [[0, 0], [0, longest - tf.shape(part)[1]], [0, 0]]) for part in parts]
    return tf.concat(padded, 2), lengths


def check_sequences(columns: Iterable[fc.Column]) -> None:
    """Raises ConfigError for a column that has no positions, or no floats."""
    for column in columns:
        inner = getattr(column, "categorical_column", None)
        good = isinstance(column, fc.SequenceNumericColumn) or (
            isinstance(column, fc.EmbeddingColumn | fc.IndicatorColumn)
            and isinstance(inner, fc.SequenceCategoricalColumn)
        )
        if not good:
            raise ConfigError(
                f"Column {column.name!r}, a {column.kind} column, is no sequence of floats: "
                "expected sequence_numeric_column, or embedding_column or indicator_column of a "
                "sequence_categorical_column. Move it to context_feature_columns.",
                reason=Reason.TYPE_MISMATCH,
            )


def _check_positions(column: fc.Column, features: Features) -> None:
    if isinstance(column, fc.SequenceNumericColumn):
        return
    for key in fc.raw_fields([column]):
        shape = tf.TensorShape(getattr(features.get(key), "shape", None))
        if shape.rank is not None and shape.rank > 2 and shape[2:].num_elements() != 1:
            raise SchemaError(
                f"Feature {key!r} has the wrong shape for column {column.name!r}: expected one "
                f"category per position, [batch, time], got {shape}. Give every value of a "
                "position a field of its own.",
                reason=Reason.TYPE_MISMATCH,
            )


def _values(column: fc.Column, sources: Features) -> tf.Tensor:
    """Returns float32 `[batch, time, width]`."""
    if isinstance(column, fc.SequenceNumericColumn):
        numbers = sources[column.name]
        numbers = tf.where(tf.math.is_nan(numbers), column.default_value, numbers)
        width = math.prod(column.shape)
        time = tf.shape(numbers)[1] // width
        return tf.reshape(numbers, (tf.shape(numbers)[0], time, width))
    category: Any = column.categorical_column  # type: ignore[attr-defined]
    ids = sources[category.name]
    ids = ids[:, tf.newaxis] if ids.shape.rank == 1 else ids
    if isinstance(column, fc.IndicatorColumn):
        return tf.one_hot(ids, category.num_buckets)
    assert isinstance(column, fc.EmbeddingColumn)  # noqa: S101 - check_sequences saw to it
    flat = tf.reshape(ids, (-1,))
    rows = lookup.rows(embedding_table(column), flat)
    if column.max_norm is not None:
        rows = tf.clip_by_norm(rows, column.max_norm, axes=[1])
    rows *= lookup.mask_of(flat)[:, tf.newaxis]
    return tf.reshape(rows, tf.concat([tf.shape(ids), [column.width]], 0))


def _lengths(column: fc.Column, features: Features) -> tf.Tensor:
    """Returns how many positions the fields of a column have, int64 `[batch]`."""
    width = math.prod(column.shape) if isinstance(column, fc.SequenceNumericColumn) else 1
    found = [_length(features[key]) for key in fc.raw_fields([column])]
    return -(-tf.reduce_max(tf.stack(found), 0) // width)


def _length(values: tf.Tensor | tf.SparseTensor | tf.RaggedTensor) -> tf.Tensor:
    if isinstance(values, tf.RaggedTensor):
        return tf.cast(values.row_lengths(), tf.int64)
    if isinstance(values, tf.SparseTensor):
        rows, at = values.indices[:, 0], values.indices[:, 1]
        ends = tf.math.unsorted_segment_max(at + 1, rows, values.dense_shape[0])
        return tf.maximum(ends, 0)  # the maximum of none is the smallest integer
    values = tf.convert_to_tensor(values)
    values = tf.reshape(values, (tf.shape(values)[0], tf.reduce_prod(tf.shape(values)[1:])))
    present = tf.logical_not(is_missing(values))
    if values.dtype.is_integer:  # an id of -1 is none
        present &= tf.not_equal(values, tf.constant(-1, values.dtype))
    ends = tf.range(1, tf.shape(values, tf.int64)[1] + 1)
    return tf.maximum(tf.reduce_max(tf.where(present, ends, 0), 1), 0)
