"""Stage 1 of the feature columns: raw fields -> ids and numbers, in TensorFlow.

Layer 2. The one lowering that preprocessing, training on raw records and serving share, so
that they cannot disagree; how each kind is lowered says the module of its family.

Raw tensors are `[batch]` or `[batch, 1]`; several values per example come as `[batch, n]`, as a
SparseTensor or as a RaggedTensor and are padded with the missing value. Categories of more
dimensions are one list per example, as in linear models of tf.estimator. A string is missing
when empty, a float when NaN, an integer when `MISSING_INT`; in an id or a hashed integer -1 is
missing too, as in `tf.feature_column`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from estimator_lib import variables
from estimator_lib.core import columns as fc
from estimator_lib.core.errors import ConfigError, Reason
from estimator_lib.features._lowering import Batch, Features, feature, prepared


class FeatureTransform(tf.Module):
    """Computes the transformed features that resolved columns need.

    The lookup tables are made once, here, outside of any graph being traced, and are tracked,
    so that a SavedModel that holds this module holds them.

    Args:
        columns: Resolved columns; what they need is `core.columns.feature_sources(columns)`.

    Raises:
        ConfigError: a column is not resolved, or two columns of one name differ.
    """

    def __init__(self, columns: Iterable[fc.Column]) -> None:
        super().__init__(name="feature_transform")
        self._columns = tuple(columns)
        self._sources = tuple(fc.feature_sources(self._columns).values())
        self._weights = frozenset(
            c.weight_feature_key for c in fc.walk(self._columns) if isinstance(c, fc.WeightedColumn)
        )
        known: dict[str, fc.Column] = {}
        self._prepared: dict[str, Any] = {}
        for column in fc.walk(self._sources):
            if column.name in known and known[column.name] == column:
                continue
            with tf.init_scope():
                made = prepared(column)
            if made is None:
                continue
            if column.name in self._prepared:
                raise ConfigError(
                    f"Two different {column.kind} columns are named {column.name!r}. "
                    "Read one of them from a renamed field.",
                    reason=Reason.DUPLICATE,
                )
            known[column.name], self._prepared[column.name] = column, made

    @tf.autograph.experimental.do_not_convert
    def __call__(self, raw: Features) -> dict[str, tf.Tensor]:
        """Returns the transformed features.

        Args:
            raw: Raw tensors by field; see the module's text.

        Returns:
            By name of the source column: int64 ids with -1 for missing, `[batch]` or
            `[batch, n]`; float32 numbers, `[batch]` or `[batch, prod(shape)]`, and as many as
            are fed where they are the weights of categories or a sequence.

        Raises:
            SchemaError: a field is not there or has another type than its column reads.
        """
        batch = Batch(raw, self._prepared)
        return {
            column.name: batch.floats(column, column.name)
            if isinstance(column, fc.NumericColumn) and column.key in self._weights
            else feature(column, batch)
            for column in self._sources
        }


@tf.autograph.experimental.do_not_convert
def transform_features(columns: Iterable[fc.Column], raw: Features) -> dict[str, tf.Tensor]:
    """Returns `FeatureTransform(columns)(raw)`; equal columns share their lookup tables.

    Inside a model_fn the tables are the model's own, so that they are exported with it.
    """
    if variables.in_trace():
        return FeatureTransform(columns)(raw)
    return _shared(tuple(columns))(raw)


@functools.cache
def _shared(columns: tuple[fc.Column, ...]) -> FeatureTransform:
    # Kept for the life of the process: a traced graph may hold only the tables' handles.
    return FeatureTransform(columns)
