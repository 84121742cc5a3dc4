"""Stage 1 of the feature columns: raw fields -> ids and numbers, in TensorFlow.

Layer 2. The one lowering that preprocessing, training on raw records and serving share, so
that they cannot disagree. Hash buckets and crosses have the fingerprints of
`tf.feature_column`; a value of a cross is the one `tf.feature_column` computes on features
parsed with `make_parse_example_spec` (its dense inputs are crossed in another order, which
crosses made by `tf.feature_column` itself keep: see `upstream.FedCrossedColumn`).

Raw tensors are `[batch]` or `[batch, 1]`; several values per example come as `[batch, n]`, as a
SparseTensor or as a RaggedTensor and are padded with the missing value. Categories of more
dimensions are one list per example, as in linear models of tf.estimator. A string is missing
when empty, a float when NaN, an integer when `MISSING_INT`; in an id or a hashed integer -1 is
missing too, as in `tf.feature_column`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

from estimator_lib import variables
from estimator_lib.core import columns as fc
from estimator_lib.core.errors import ConfigError, Reason, SchemaError, did_you_mean
from estimator_lib.features.upstream import FedCrossedColumn

_CROSS_HASH_KEY = 0xDECAFCAFFE
"""What tf.feature_column hashes crosses with when no hash_key is given."""

_WIDE = 1e37

_Ids = tuple[tf.Tensor, tf.Tensor]
"""Ids and, for each, whether there was a value: int64 and bool, `[batch]` or `[batch, n]`."""


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
        vocabularies: dict[str, fc.VocabularyColumn] = {}
        for column in fc.walk(self._sources):
            if not isinstance(column, fc.VocabularyColumn):
                continue
            if vocabularies.setdefault(column.name, column) != column:
                raise ConfigError(
                    f"Two different vocabulary columns are named {column.name!r}. "
                    "Read one of them from a renamed field.",
                    reason=Reason.DUPLICATE,
                )
        with tf.init_scope():
            self._tables = {name: _table(column) for name, column in vocabularies.items()}

    @tf.autograph.experimental.do_not_convert
    def __call__(self, raw: Mapping[str, Any]) -> dict[str, tf.Tensor]:
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
        step = _Pass(raw, self._tables)
        return {
            column.name: step.floats(column)
            if isinstance(column, fc.NumericColumn) and column.key in self._weights
            else step.feature(column)
            for column in self._sources
        }


@tf.autograph.experimental.do_not_convert
def transform_features(
    columns: Iterable[fc.Column], raw: Mapping[str, Any]
) -> dict[str, tf.Tensor]:
    """Returns `FeatureTransform(columns)(raw)`; equal columns share their lookup tables.

    Inside a model_fn the tables are the model's own, so that they are exported with it.
    """
    if variables.in_trace():
        return FeatureTransform(columns)(raw)
    return _shared(tuple(columns))(raw)


@tf.autograph.experimental.do_not_convert
def number(column: fc.NumericColumn, raw: Mapping[str, Any]) -> tf.Tensor:
    """Returns a numeric column as float32 `[batch]`, or `[batch, prod(shape)]`."""
    return _Pass(raw, {}).feature(column)


def field(column: fc.Column, key: str, raw: Mapping[str, Any]) -> tf.Tensor:
    """Returns a numeric field as it is, float32 `[batch]` or `[batch, n]`, NaN for missing."""
    return tf.cast(listed(_Pass(raw, {})._field(column, key)), tf.float32)


def listed(values: tf.Tensor) -> tf.Tensor:
    """Returns values of more than two dimensions as `[batch, n]`, others as they are."""
    if values.shape.rank is None or values.shape.rank <= 2:
        return values
    rest = values.shape[1:].num_elements()  # known or not, also where there are no rows
    rest = tf.reduce_prod(tf.shape(values)[1:]) if rest is None else rest
    return tf.reshape(values, (tf.shape(values)[0], rest))


def is_transformed(column: fc.Column) -> bool:
    """Says whether stage 1 has nothing left to do but to read the feature `column.name`."""
    match column:
        case fc.IdentityColumn():
            return column.default_value is None
        case fc.NumericColumn():
            return column.default_value is None and column.normalizer is None
    return False


@functools.cache
def _shared(columns: tuple[fc.Column, ...]) -> FeatureTransform:
    # Kept for the life of the process: a traced graph may hold only the tables' handles.
    return FeatureTransform(columns)


def _table(column: fc.VocabularyColumn) -> tf.lookup.StaticHashTable:
    column.num_buckets  # noqa: B018 - raises for an unresolved column
    keys: Any = column.vocabulary
    key_type = tf.string if column.dtype == "string" else tf.int64
    if key_type == tf.string:
        keys = [str(key) for key in keys]
    initializer = tf.lookup.KeyValueTensorInitializer(
        tf.constant(keys, key_type), tf.range(len(keys), dtype=tf.int64)
    )
    return tf.lookup.StaticHashTable(initializer, default_value=-1)


class _Pass:
    """One batch: every raw field and every column is computed once."""

    def __init__(self, raw: Mapping[str, Any], tables: Mapping[str, Any]) -> None:
        self._raw = raw
        self._tables = tables
        self._dense: dict[str, tf.Tensor] = {}
        self._ids: dict[int, _Ids] = {}

    def feature(self, column: fc.Column) -> tf.Tensor:
        match column:
            case fc.NumericColumn():
                return self._number(column)
            case fc.PiecewiseLinearColumn() | fc.PeriodicColumn():
                return self._number(column.source_column)
            case fc.SequenceNumericColumn():
                return self._numbers(column)
            case fc.MissingIndicatorColumn():
                missing = _is_missing(self._field(column, column.key))
                several = tf.range(1, tf.rank(missing))
                return tf.cast(tf.reduce_all(missing, several), tf.float32)
            case fc.CategoricalColumn():
                ids, present = self._category(column)
                return tf.where(present, ids, tf.constant(-1, tf.int64))
        raise ConfigError(
            f"Column {column.name!r} of kind {column.kind!r} reads no raw field. "
            "Give the column that it is made of.",
            reason=Reason.UNSUPPORTED,
        )

    def _field(self, column: fc.Column, key: str) -> tf.Tensor:
        """Returns a raw field as a dense tensor `[batch]` or `[batch, n]`."""
        if key in self._dense:
            return self._dense[key]
        if key not in self._raw:
            raise SchemaError(
                f"Feature {key!r} is missing: column {column.name!r} reads it."
                + did_you_mean(key, self._raw),
                reason=Reason.FIELD_MISSING,
            )
        value = self._raw[key]
        if isinstance(value, tf.SparseTensor):
            value = tf.sparse.to_dense(value, default_value=_missing_value(value.dtype))
        elif isinstance(value, tf.RaggedTensor):
            value = value.to_tensor(default_value=_missing_value(value.dtype))
        value = tf.convert_to_tensor(value)
        rank = value.shape.rank
        if rank == 0:
            raise SchemaError(
                f"Feature {key!r} has the wrong shape: expected [batch] or [batch, n], got a "
                "scalar. Batch the examples.",
                reason=Reason.TYPE_MISMATCH,
            )
        if rank == 2 and value.shape[1] == 1:
            value = tf.squeeze(value, 1)
        self._dense[key] = value
        return value

    def floats(self, column: fc.NumericColumn | fc.SequenceNumericColumn) -> tf.Tensor:
        """Returns a numeric field as float32 of its shape, NaN for missing."""
        values = self._field(column, column.key)
        if not (values.dtype.is_floating or values.dtype.is_integer or values.dtype.is_bool):
            raise _wrong_type(column, column.key, "a number", values)
        if values.dtype == tf.int64:
            return tf.where(_is_missing(values), math.nan, tf.cast(values, tf.float32))
        return tf.cast(values, tf.float32)

    def _numbers(self, column: fc.SequenceNumericColumn) -> tf.Tensor:
        values = self.floats(column)
        rows = tf.shape(values)[0]
        rest = tf.reduce_prod(tf.shape(values)[1:])  # known too where there are no rows
        return _normalized(column.normalizer, tf.reshape(values, (rows, rest)))

    def _number(self, column: fc.NumericColumn) -> tf.Tensor:
        numbers = self.floats(column)
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
            normal = _normalized(column.normalizer, numbers[:, tf.newaxis])
            return tf.reshape(normal, (tf.shape(numbers)[0],))
        return _normalized(column.normalizer, numbers)

    def _category(self, column: fc.CategoricalColumn) -> _Ids:
        known = self._ids.get(id(column))
        if known is None:
            ids, present = self._compute(column)
            known = self._ids[id(column)] = listed(ids), listed(present)
        return known

    def _compute(self, column: fc.CategoricalColumn) -> _Ids:
        match column:
            case fc.VocabularyColumn():
                return self._looked_up(column)
            case fc.HashedColumn():
                return self._hashed(column)
            case fc.IdentityColumn():
                return self._identity(column)
            case fc.BucketizedColumn():
                return self._bucketized(column)
            case fc.CrossedColumn():
                return self._crossed(column)
        raise ConfigError(
            f"Column {column.name!r} of kind {column.kind!r} is not known to this lowering.",
            reason=Reason.UNSUPPORTED,
        )

    def _typed(self, column: fc.VocabularyColumn | fc.HashedColumn) -> tf.Tensor:
        values = self._field(column, column.key)
        if column.dtype == "string":
            if values.dtype != tf.string:
                raise _wrong_type(column, column.key, "string", values)
            return values
        if not values.dtype.is_integer:
            raise _wrong_type(column, column.key, "an integer", values)
        return tf.cast(values, tf.int64)

    def _looked_up(self, column: fc.VocabularyColumn) -> _Ids:
        keys: Any = column.vocabulary
        values = self._typed(column)
        found = self._tables[column.name].lookup(values)
        present = tf.logical_not(_is_missing(values))
        if values.dtype == tf.int64 and -1 not in set(keys):
            present &= values != -1
        size = column.num_buckets - column.num_oov_buckets
        unseen = tf.constant(column.default_value, tf.int64)
        if column.num_oov_buckets:
            text = values if values.dtype == tf.string else tf.strings.as_string(values)
            bucket = tf.strings.to_hash_bucket_fast(text, column.num_oov_buckets)
            unseen = bucket + size
        return tf.where(found < 0, unseen, found), present

    def _hashed(self, column: fc.HashedColumn) -> _Ids:
        values = self._typed(column)
        present = tf.logical_not(_is_missing(values))
        text = values
        if values.dtype == tf.int64:
            present &= values != -1
            text = tf.strings.as_string(values)
        return tf.strings.to_hash_bucket_fast(text, column.hash_bucket_size), present

    def _identity(self, column: fc.IdentityColumn) -> _Ids:
        values = self._field(column, column.key)
        if not values.dtype.is_integer:
            raise _wrong_type(column, column.key, "an integer", values)
        values = tf.cast(values, tf.int64)
        present = tf.logical_not(_is_missing(values)) & (values != -1)
        inside = (values >= 0) & (values < column.buckets)
        if column.default_value is not None:
            return tf.where(inside, values, column.default_value), present
        message = (
            f"Column {column.name!r} read an id outside its range: expected 0 to "
            f"{column.buckets - 1}, or -1 for missing, got"
        )
        checks = variables.require(
            inside | ~present,
            lambda: [message, tf.boolean_mask(values, ~inside & present)],
        )
        with tf.control_dependencies(checks):
            return tf.identity(values), present

    def _bucketized(self, column: fc.BucketizedColumn) -> _Ids:
        column.num_buckets  # noqa: B018 - raises for an unresolved column
        numbers = self._number(column.source_column)
        present = tf.logical_not(tf.math.is_nan(numbers))
        boundaries: Any = column.boundaries
        ids = tf.raw_ops.Bucketize(input=numbers, boundaries=list(boundaries))
        ids = tf.cast(ids, tf.int64)
        width = math.prod(column.source_column.shape)
        if width > 1:  # every position has buckets of its own, as in tf.feature_column
            ids += tf.range(width, dtype=tf.int64) * column.num_buckets
        return ids, present

    def _crossed(self, column: fc.CrossedColumn) -> _Ids:
        leaves = _leaves(column)
        if isinstance(column, FedCrossedColumn):
            leaves.sort(key=self._is_fed_dense)
        parts = [self._cross_part(column, key) for key in leaves]
        batch = tf.shape(parts[0][0])[0]
        rows = [tf.reshape(values, (batch, -1)) for values, _ in parts]
        _, ids, _ = tf.raw_ops.SparseCross(
            indices=[],
            values=[],
            shapes=[],
            dense_inputs=rows,
            hashed_output=True,
            num_buckets=column.hash_bucket_size,
            hash_key=column.hash_key or _CROSS_HASH_KEY,
            out_type=tf.int64,
            internal_type=tf.int64 if any(r.dtype == tf.int64 for r in rows) else tf.string,
        )
        if all(values.shape.rank == 1 for values, _ in parts):
            present = functools.reduce(tf.logical_and, [present for _, present in parts])
            return tf.reshape(ids, tf.shape(present)), present
        # All combinations of the parts' values, the last part's varying fastest.
        present = tf.reshape(parts[0][1], (batch, -1))
        for _, more in parts[1:]:
            pairs = present[:, :, tf.newaxis] & tf.reshape(more, (batch, 1, -1))
            present = tf.reshape(pairs, (batch, tf.size(pairs) // tf.maximum(batch, 1)))
        return tf.reshape(ids, tf.shape(present)), present

    def _cross_part(self, column: fc.CrossedColumn, key: str | fc.CategoricalColumn) -> _Ids:
        if isinstance(key, fc.CategoricalColumn):
            return self._category(key)
        values = listed(self._field(column, key))
        if values.dtype != tf.string:
            if not values.dtype.is_integer:
                raise _wrong_type(column, key, "string or an integer", values)
            values = tf.cast(values, tf.int64)
        if isinstance(column, FedCrossedColumn) and self._is_fed_dense(key):
            return values, tf.ones_like(values, tf.bool)
        return values, tf.logical_not(_is_missing(values))

    def _is_fed_dense(self, key: str | fc.CategoricalColumn) -> bool:
        """Says whether a part of a cross is a field that comes as a dense tensor."""
        sparse = tf.SparseTensor | tf.RaggedTensor
        return isinstance(key, str) and not isinstance(self._raw.get(key), sparse)


def _leaves(column: fc.CrossedColumn) -> list[str | fc.CategoricalColumn]:
    leaves: list[str | fc.CategoricalColumn] = []
    for key in column.keys:
        leaves.extend(_leaves(key) if isinstance(key, fc.CrossedColumn) else [key])
    return leaves


def _normalized(normalizer: Any, numbers: tf.Tensor) -> tf.Tensor:
    if isinstance(normalizer, fc.ZScore):
        return _z_score(normalizer, numbers)
    return numbers if normalizer is None else tf.cast(normalizer(numbers), tf.float32)


def _z_score(score: fc.ZScore, numbers: tf.Tensor) -> tf.Tensor:
    if score.stddev == 0:
        # Not zeros: a missing value stays NaN, so that it is seen.
        return (numbers - score.mean) * 0.0
    if score.stddev > _WIDE:  # the difference of two large numbers may be no float32
        return numbers / score.stddev - score.mean / score.stddev
    return (numbers - score.mean) / score.stddev


def _missing_value(dtype: tf.DType) -> Any:
    if dtype == tf.string:
        return ""
    if dtype.is_floating:
        return math.nan
    return fc.MISSING_INT if dtype == tf.int64 else -1


def _is_missing(values: tf.Tensor) -> tf.Tensor:
    if values.dtype == tf.string:
        return tf.equal(values, "")
    if values.dtype.is_floating:
        return tf.math.is_nan(values)
    if values.dtype == tf.int64:
        return tf.equal(values, fc.MISSING_INT)
    return tf.zeros_like(values, tf.bool)


def _wrong_type(column: fc.Column, key: str, expected: str, got: tf.Tensor) -> SchemaError:
    return SchemaError(
        f"Feature {key!r} has the wrong type for column {column.name!r}: expected {expected}, "
        f"got {got.dtype.name}. Change the column's dtype or the reader.",
        reason=Reason.TYPE_MISMATCH,
    )
