"""Categories as vectors: one-hot and learned.

Layer 2. Variables are named `<column name>/embedding_weights`, those of shared tables by the
name of the collection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from estimator_lib import variables
from estimator_lib.core import columns as fc
from estimator_lib.features import _lowering as lowering
from estimator_lib.features import lookup
from estimator_lib.features._lowering import Features, Part


@lowering.part.register
def _indicator(column: fc.IndicatorColumn, sources: Features) -> Part:
    return lowering.one_hot(column.categorical_column, sources)


@lowering.part.register
def _embedding(column: fc.EmbeddingColumn, sources: Features) -> Part:
    ids, weights = lowering.ids_and_weights(column.categorical_column, sources)
    table = embedding_table(column)
    if ids.shape.rank == 1 and column.max_norm is None and weights is None:
        return Part(width=column.width, table=table, ids=ids)
    values = lookup.combined(table, ids, column.combiner, weights=weights, max_norm=column.max_norm)
    return Part(width=column.width, values=values)


def embedding_table(column: fc.EmbeddingColumn) -> tf.Variable:
    """Returns the variable `[num_buckets, dimension]` of an embedding column."""
    scope = column.collection if isinstance(column, fc.SharedEmbeddingColumn) else column.name
    with variables.scope(scope):
        return variables.get_variable(
            "embedding_weights",
            (column.categorical_column.num_buckets, column.width),
            initializer=column.initializer or truncated_normal(column.width**-0.5),
            trainable=column.trainable,
            by_rows=True,
        )


def truncated_normal(stddev: float) -> Callable[..., tf.Tensor]:
    """Returns an initializer that draws from a normal cut at two standard deviations."""

    def initializer(shape: Sequence[int], dtype: tf.DType = tf.float32) -> tf.Tensor:
        return tf.random.truncated_normal(shape, stddev=stddev, dtype=dtype)

    return initializer
