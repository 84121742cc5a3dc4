"""Stage 2 for dense models: columns -> one float matrix.

Layer 2. Columns are laid out by name, as in `tf.feature_column`, so the caller's order does
not matter; variables are named `<column name>/embedding_weights` under
`input_from_feature_columns/input_layer`, as in checkpoints of tf.estimator.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import tensorflow as tf

from estimator_lib import variables
from estimator_lib.core import columns as fc
from estimator_lib.core.errors import ConfigError, Reason
from estimator_lib.features import lookup, numbers
from estimator_lib.features.transform import (
    field,
    is_transformed,
    listed,
    number,
    transform_features,
)

LAYER_SCOPE = "input_from_feature_columns/input_layer"


@tf.autograph.experimental.do_not_convert
def dense_features(
    columns: Iterable[fc.Column], features: Mapping[str, Any], *, scope: str = LAYER_SCOPE
) -> tf.Tensor:
    """Returns the dense columns side by side, by name.

    Args:
        columns: Dense columns (numeric, missing indicator, bucketized, indicator, embeddings),
            raw or `core.columns.transformed`.
        features: The features they read.
        scope: Of the variables, below the current scope; "" for none.

    Returns:
        float32 `[batch, width]`.

    Raises:
        ConfigError: a column is not dense, or two have one name.
        SchemaError: a feature is missing or has the wrong type.
    """
    ordered = sorted_columns(columns)
    for column in ordered:
        if not isinstance(column, fc.DenseColumn):
            raise ConfigError(
                f"Column {column.name!r} is not dense: expected a numeric, indicator or embedding "
                f"column, got a {column.kind} column. Wrap it in embedding_column or "
                "indicator_column.",
                reason=Reason.TYPE_MISMATCH,
            )
    no_sequences(ordered)
    sources = source_features(ordered, features)
    with variables.scope(scope) if scope else contextlib.nullcontext():
        return _joined([_part(column, sources) for column in ordered])


def sorted_columns(columns: Iterable[fc.Column]) -> list[fc.Column]:
    """Returns the columns by name.

    Raises:
        ConfigError: there is none, something else than a column, or two have one name.
    """
    ordered = sorted(columns, key=_name)
    if not ordered:
        raise ConfigError(
            "A model needs at least one feature column. Give feature_columns.",
            reason=Reason.MISSING_VALUE,
        )
    for one, other in itertools.pairwise(ordered):
        if one.name == other.name:
            raise ConfigError(
                f"Two feature columns are named {one.name!r}. Remove one of them.",
                reason=Reason.DUPLICATE,
            )
    return ordered


def no_sequences(columns: Iterable[fc.Column]) -> None:
    """Raises ConfigError for a column with positions, which only sequence models read."""
    for column in columns:
        if fc.is_sequence(column):
            raise ConfigError(
                f"Column {column.name!r} is a sequence: expected one value per example. Use "
                "sequence_features or RNNEstimator.",
                reason=Reason.TYPE_MISMATCH,
            )


def _name(column: Any) -> str:
    if not isinstance(column, fc.Column):
        raise ConfigError(
            f"A feature column is expected, got {type(column).__name__}. Use the constructors "
            "of estimator_lib, or tf.feature_column.",
            reason=Reason.TYPE_MISMATCH,
        )
    return column.name


@tf.autograph.experimental.do_not_convert
def source_features(
    columns: Iterable[fc.Column], features: Mapping[str, Any]
) -> dict[str, tf.Tensor]:
    """Returns what stage 1 gives for `columns`; features that are transformed pass through."""
    ready: dict[str, tf.Tensor] = {}
    open_: list[fc.Column] = []
    columns = list(columns)
    for column in fc.walk(columns):
        if isinstance(column, fc.WeightedColumn):
            ready[column.weight_feature_key] = field(column, column.weight_feature_key, features)
    for name, source in fc.feature_sources(columns).items():
        if isinstance(source, fc.IdentityColumn) and is_transformed(source):
            ready[name] = _ids(features, source) if source.key in features else None
        elif isinstance(source, fc.NumericColumn) and name not in ready:
            ready[name] = number(source, features)
            continue
        elif isinstance(source, fc.PiecewiseLinearColumn | fc.PeriodicColumn):
            ready[name] = number(source.source_column, features)
        if ready.get(name) is None:
            open_.append(source)
    if open_:
        ready |= transform_features(open_, features)
    return ready


def _ids(features: Mapping[str, Any], column: fc.IdentityColumn) -> tf.Tensor | None:
    """Returns plain ids as they are, or None when there is more to do."""
    value = features[column.key]
    if isinstance(value, tf.SparseTensor | tf.RaggedTensor):
        return None
    value = tf.convert_to_tensor(value)
    if not value.dtype.is_integer or not value.shape.rank:
        return None
    if value.shape.rank == 2 and value.shape[1] == 1:
        value = tf.squeeze(value, 1)
    return tf.cast(listed(value), tf.int64)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Part:
    """One column's share of the matrix: its values, or the table and ids `[batch]` to read."""

    width: int
    values: tf.Tensor | None = None
    table: Any = None
    ids: tf.Tensor | None = None


def _part(column: fc.Column, sources: Mapping[str, tf.Tensor]) -> _Part:
    match column:
        case fc.EmbeddingColumn():
            ids, weights = ids_and_weights(column.categorical_column, sources)
            table = embedding_table(column)
            if ids.shape.rank == 1 and column.max_norm is None and weights is None:
                return _Part(width=column.width, table=table, ids=ids)
            values = lookup.combined(
                table, ids, column.combiner, weights=weights, max_norm=column.max_norm
            )
            return _Part(width=column.width, values=values)
        case fc.IndicatorColumn():
            return _one_hot(column.categorical_column, sources)
        case fc.BucketizedColumn() | fc.BucketIdsColumn():
            return _one_hot(column, sources)
        case fc.NumericColumn():
            width = math.prod(column.shape)
            return _Part(width=width, values=_matrix(sources[column.name], width))
        case fc.PiecewiseLinearColumn() | fc.PeriodicColumn():
            with variables.scope(column.name):
                values = numbers.embedded(column, sources[column.name])
            return _Part(width=column.width, values=values)
    return _Part(width=1, values=_matrix(sources[column.name], 1))


def _joined(parts: list[_Part]) -> tf.Tensor:
    """Concatenates parts; rows of missing ids become zeros."""
    reads = [part for part in parts if part.values is None]
    if not reads:
        return tf.concat([part.values for part in parts], 1)
    safe = iter(lookup.safe_ids([part.ids for part in reads]))
    values = [
        lookup.rows(part.table, part.ids, next(safe)) if part.values is None else part.values
        for part in parts
    ]
    return lookup.side_by_side(values, [part.ids for part in parts])


def embedding_table(column: fc.EmbeddingColumn) -> Any:
    """Returns the variable `[num_buckets, dimension]` of an embedding column."""
    scope = column.collection if isinstance(column, fc.SharedEmbeddingColumn) else column.name
    with variables.scope(scope):
        return variables.get_variable(
            "embedding_weights",
            (column.categorical_column.num_buckets, column.width),
            initializer=column.initializer or truncated_normal(column.width**-0.5),
            trainable=column.trainable,
        )


def truncated_normal(stddev: float) -> Callable[..., tf.Tensor]:
    """Returns an initializer that draws from a normal cut at two standard deviations."""

    def initializer(shape: Any, dtype: Any = tf.float32) -> tf.Tensor:
        return tf.random.truncated_normal(shape, stddev=stddev, dtype=dtype)

    return initializer


def _one_hot(column: fc.CategoricalColumn, sources: Mapping[str, tf.Tensor]) -> _Part:
    ids, weights = ids_and_weights(column, sources)
    width = buckets(column)
    values = tf.one_hot(ids, width)
    if weights is not None:
        values *= weights[..., tf.newaxis]
    return _Part(width=width, values=values if ids.shape.rank == 1 else tf.reduce_sum(values, 1))


def ids_and_weights(
    column: fc.CategoricalColumn, sources: Mapping[str, tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Returns the ids of a categorical column and, of a weighted one, their weights.

    Returns:
        int64 and float32 of one shape, `[batch]` or `[batch, n]`; None for weights of 1.
    """
    if not isinstance(column, fc.WeightedColumn):
        return sources[column.name], None
    ids, _ = ids_and_weights(column.categorical_column, sources)
    weights = sources[column.weight_feature_key]
    known = ids.shape[-1] is not None and ids.shape[-1] == weights.shape[-1]
    if ids.shape.rank == weights.shape.rank == 2 and not known:
        # Missing values at the end of a list may be left away on either side.
        width = tf.shape(ids)[1]
        short = tf.maximum(width - tf.shape(weights)[1], 0)
        weights = tf.pad(weights[:, :width], [[0, 0], [0, short]])
    return ids, tf.where(tf.math.is_nan(weights), 0.0, weights)


def buckets(column: fc.CategoricalColumn) -> int:
    """Returns how many rows of weights a category needs, every position of a vector included."""
    if isinstance(column, fc.WeightedColumn):
        return buckets(column.categorical_column)
    if isinstance(column, fc.BucketizedColumn):
        return column.num_buckets * math.prod(column.source_column.shape)
    return column.num_buckets


def _matrix(values: tf.Tensor, width: int) -> tf.Tensor:
    return values[:, tf.newaxis] if width == 1 and values.shape.rank == 1 else values
