"""Stage 2 for dense models: columns -> one float matrix.

Layer 2. Columns are laid out by name, as in `tf.feature_column`, so the caller's order does
not matter; variables are named `<column name>/embedding_weights` under
`input_from_feature_columns/input_layer`, as in checkpoints of tf.estimator.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable

import tensorflow as tf

from estimator_lib import variables
from estimator_lib.core import columns as fc
from estimator_lib.core.errors import ConfigError, Reason
from estimator_lib.features import _lowering as lowering
from estimator_lib.features import lookup
from estimator_lib.features._lowering import Batch, Features, Part
from estimator_lib.features.transform import transform_features

LAYER_SCOPE = "input_from_feature_columns/input_layer"


@tf.autograph.experimental.do_not_convert
def dense_features(
    columns: Iterable[fc.Column], features: Features, *, scope: str = LAYER_SCOPE
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
        return _concatenate([lowering.part(column, sources) for column in ordered])


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


def _name(column: object) -> str:
    if not isinstance(column, fc.Column):
        raise ConfigError(
            f"A feature column is expected, got {type(column).__name__}. Use the constructors "
            "of estimator_lib, or tf.feature_column.",
            reason=Reason.TYPE_MISMATCH,
        )
    return column.name


@tf.autograph.experimental.do_not_convert
def source_features(columns: Iterable[fc.Column], features: Features) -> dict[str, tf.Tensor]:
    """Returns what stage 1 gives for `columns`; features that are transformed pass through."""
    columns = list(columns)
    batch = Batch(features, {})
    ready = {
        key: tf.cast(lowering.listed(batch.field(column, key)), tf.float32)
        for column in fc.walk(columns)
        if isinstance(column, fc.WeightedColumn)
        for key in [column.weight_feature_key]
    }
    sources = {n: c for n, c in fc.feature_sources(columns).items() if n not in ready}
    found = {name: lowering.given(column, features) for name, column in sources.items()}
    ready |= {name: value for name, value in found.items() if value is not None}
    absent = [column for name, column in sources.items() if found[name] is None]
    return ready | transform_features(absent, features) if absent else ready


def _concatenate(parts: list[Part]) -> tf.Tensor:
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
