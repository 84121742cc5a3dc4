"""How a kind of column becomes TensorFlow: what its family registers, and what all share.

Layer 2. The module of a family registers functions for its classes, as far as they differ from
what is here: `feature` or `ids` (stage 1), `part` and `ids_and_weights` (stage 2), `prepared`
(what stage 1 needs made once), `given` (a feature that may be there already) and `parsed`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar, cast

import tensorflow as tf

from estimator_lib.core import columns as fc
from estimator_lib.core.errors import ConfigError, Reason, SchemaError, did_you_mean
from estimator_lib.features.missing import is_missing

Ids = tuple[tf.Tensor, tf.Tensor]
"""Ids and, for each, whether there was a value: int64 and bool, `[batch]` or `[batch, n]`."""
Features = Mapping[str, Any]
Spec = dict[str, Any]
T = TypeVar("T")


class Batch:
    """Raw tensors of a batch: every field and every column is computed once.

    Args:
        raw: By field; see `features.transform`.
        prepared: What `prepared` gave, by name of the column.
    """

    def __init__(self, raw: Features, prepared: Mapping[str, Any]) -> None:
        self.raw = raw
        self.prepared = prepared
        self._fields: dict[str, tf.Tensor] = {}
        self._ids: dict[int, Ids] = {}
        self._made: dict[Hashable, Any] = {}

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Returns what `make` gives, which several columns share."""
        if key not in self._made:
            self._made[key] = make()
        return cast(T, self._made[key])

    def field(self, column: fc.Column, key: str) -> tf.Tensor:
        """Returns a raw field as a dense tensor `[batch]` or `[batch, n]`."""
        if key in self._fields:
            return self._fields[key]
        if key not in self.raw:
            raise SchemaError(
                f"Feature {key!r} is missing: column {column.name!r} reads it."
                + did_you_mean(key, self.raw),
                reason=Reason.FIELD_MISSING,
            )
        value = self.raw[key]
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
        self._fields[key] = value
        return value

    def floats(self, column: fc.Column, key: str) -> tf.Tensor:
        """Returns a numeric field as float32 of its shape, NaN for missing."""
        values = self.field(column, key)
        if not (values.dtype.is_floating or values.dtype.is_integer or values.dtype.is_bool):
            raise wrong_type(column, key, "a number", values)
        if values.dtype == tf.int64:
            return tf.where(is_missing(values), math.nan, tf.cast(values, tf.float32))
        return tf.cast(values, tf.float32)

    def integers(self, column: fc.Column, key: str) -> tf.Tensor:
        """Returns a field of integers as int64."""
        values = self.field(column, key)
        if not values.dtype.is_integer:
            raise wrong_type(column, key, "an integer", values)
        return tf.cast(values, tf.int64)

    def texts(self, column: fc.Column, key: str) -> tf.Tensor:
        """Returns a field of texts."""
        values = self.field(column, key)
        if values.dtype != tf.string:
            raise wrong_type(column, key, "string", values)
        return values

    def ids(self, column: fc.CategoricalColumn) -> Ids:
        """Returns the ids of a categorical column."""
        known = self._ids.get(id(column))
        if known is None:
            found, present = ids(column, self)
            known = self._ids[id(column)] = listed(found), listed(present)
        return known


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """One column's share of a matrix: its values, or the table and ids `[batch]` to read."""

    width: int
    values: tf.Tensor | None = None
    table: Any = None
    ids: tf.Tensor | None = None


# --- What families register ---------------------------------------------------------------------


@functools.singledispatch
def feature(column: fc.Column, batch: Batch) -> tf.Tensor:
    """Returns the transformed feature of a column: int64 ids or float32 numbers."""
    raise ConfigError(
        f"Column {column.name!r} of kind {column.kind!r} reads no raw field. "
        "Give the column that it is made of.",
        reason=Reason.UNSUPPORTED,
    )


@feature.register
def _(column: fc.CategoricalColumn, batch: Batch) -> tf.Tensor:
    found, present = batch.ids(column)
    return tf.where(present, found, tf.constant(-1, tf.int64))


@functools.singledispatch
def ids(column: fc.CategoricalColumn, batch: Batch) -> Ids:
    """Returns the ids of a categorical column, and where there was a value."""
    raise ConfigError(
        f"Column {column.name!r} of kind {column.kind!r} is not known to this lowering.",
        reason=Reason.UNSUPPORTED,
    )


@functools.singledispatch
def prepared(column: fc.Column) -> Any | None:
    """Returns what stage 1 of a column needs made once, outside of any graph; None if nothing."""
    return None


@functools.singledispatch
def given(column: fc.Column, features: Features) -> tf.Tensor | None:
    """Returns a transformed feature that is there, or needs no more than its field; else None."""
    return None


@functools.singledispatch
def part(column: fc.Column, sources: Features) -> Part:
    """Returns a dense column's share of the matrix, of its transformed features."""
    return Part(width=1, values=matrix(sources[column.name], 1))


@functools.singledispatch
def ids_and_weights(
    column: fc.CategoricalColumn, sources: Features
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Returns the ids of a categorical column and, of a weighted one, their weights.

    Returns:
        int64 and float32 of one shape, `[batch]` or `[batch, n]`; None for weights of 1.
    """
    return sources[column.name], None


@functools.singledispatch
def parsed(column: fc.Column) -> Spec:
    """Returns how `tf.io.parse_example` reads the fields of a column, by field."""
    types = {"string": tf.string, "int": tf.int64, "float": tf.float32}
    return {
        field: tf.io.VarLenFeature(types[kind])
        for field, kind in column.reads.items()
        if kind is not None
    }


# --- What they share ----------------------------------------------------------------------------


def one_hot(column: fc.CategoricalColumn, sources: Features) -> Part:
    """Returns the one-hot (multi-hot) form of a category."""
    found, weights = ids_and_weights(column, sources)
    values = tf.one_hot(found, column.rows)
    if weights is not None:
        values *= weights[..., tf.newaxis]
    values = values if found.shape.rank == 1 else tf.reduce_sum(values, 1)
    return Part(width=column.rows, values=values)


def matrix(values: tf.Tensor, width: int) -> tf.Tensor:
    """Returns numbers as `[batch, width]`."""
    return values[:, tf.newaxis] if width == 1 and values.shape.rank == 1 else values


def listed(values: tf.Tensor) -> tf.Tensor:
    """Returns values of more than two dimensions as `[batch, n]`, others as they are."""
    if values.shape.rank is None or values.shape.rank <= 2:
        return values
    rest = values.shape[1:].num_elements()  # known or not, also where there are no rows
    rest = tf.reduce_prod(tf.shape(values)[1:]) if rest is None else rest
    return tf.reshape(values, (tf.shape(values)[0], rest))


def _missing_value(dtype: tf.DType) -> str | float:
    if dtype == tf.string:
        return ""
    if dtype.is_floating:
        return math.nan
    return fc.MISSING_INT if dtype == tf.int64 else -1


def wrong_type(column: fc.Column, key: str, expected: str, got: tf.Tensor) -> SchemaError:
    """Returns the error of a field that has another type than its column reads."""
    return SchemaError(
        f"Feature {key!r} has the wrong type for column {column.name!r}: expected {expected}, "
        f"got {got.dtype.name}. Change the column's dtype or the reader.",
        reason=Reason.TYPE_MISMATCH,
    )


def stored_type(dtype: str) -> tf.DType:
    """The type that tf.train.Example holds such values in."""
    kind = tf.as_dtype(dtype)
    if kind == tf.string:
        return kind
    return tf.int64 if kind.is_integer else tf.float32
