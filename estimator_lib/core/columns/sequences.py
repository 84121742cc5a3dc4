"""Values whose order counts. Layer 0."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from estimator_lib.core.columns._base import (
    CategoricalColumn,
    Column,
    ColumnSpec,
    DenseColumn,
    FieldSpec,
    FieldType,
    Others,
    category,
)
from estimator_lib.core.columns._checks import invalid
from estimator_lib.core.columns._learned import Moments, ZScore
from estimator_lib.core.columns.hashed import categorical_column_with_hash_bucket
from estimator_lib.core.columns.identity import categorical_column_with_identity
from estimator_lib.core.columns.numeric import numeric_column
from estimator_lib.core.columns.vocabulary import (
    categorical_column_with_vocabulary_file,
    categorical_column_with_vocabulary_list,
)
from estimator_lib.core.errors import quote
from estimator_lib.core.section import Float32

__all__ = [
    "SequenceCategoricalColumn",
    "SequenceNumericColumn",
    "sequence_categorical_column",
    "sequence_categorical_column_with_hash_bucket",
    "sequence_categorical_column_with_identity",
    "sequence_categorical_column_with_vocabulary_file",
    "sequence_categorical_column_with_vocabulary_list",
    "sequence_numeric_column",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceCategoricalColumn(CategoricalColumn):
    """Categories in an order. See `sequence_categorical_column_with_identity` and others."""

    kind: ClassVar[str] = "sequence_categorical"
    has_positions: ClassVar[bool] = True
    is_feature: ClassVar[bool] = False
    categorical_column: CategoricalColumn

    @property
    def name(self) -> str:
        return self.categorical_column.name

    @property
    def parents(self) -> tuple[Column, ...]:
        return (self.categorical_column,)

    @property
    def num_buckets(self) -> int:
        return self.categorical_column.num_buckets

    def as_ids(self) -> SequenceCategoricalColumn:
        return dataclasses.replace(self, categorical_column=self.categorical_column.as_ids())


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceNumericColumn(DenseColumn):
    """Numbers in an order. See `sequence_numeric_column`."""

    kind: ClassVar[str] = "sequence_numeric"
    has_positions: ClassVar[bool] = True
    key: str
    shape: tuple[int, ...] = (1,)
    default_value: float = 0.0
    dtype: str = "float32"
    normalizer: ZScore | Callable[[Any], Any] | None = None

    @property
    def name(self) -> str:
        return self.key

    @property
    def reads(self) -> Mapping[str, FieldType | None]:
        return {self.key: "float"}

    def transformed(self) -> SequenceNumericColumn:
        return dataclasses.replace(self, dtype="float32", normalizer=None)


def sequence_numeric_column(
    key: str,
    shape: int | Sequence[int] = (1,),
    default_value: float = 0.0,
    dtype: object = "float32",
    normalizer_fn: Callable[[Any], Any] | ZScore | None = None,
) -> SequenceNumericColumn:
    """A number, or a vector, for every position of a sequence.

    Args:
        key: The raw field.
        shape: Of one position.
        default_value: Fills positions behind the end, and missing numbers.
        dtype: float or integer type; the column is cast to float32.
        normalizer_fn: A function of numbers, or `ZScore`.
    """
    plain = numeric_column(key, shape, None, dtype, normalizer_fn)
    if isinstance(normalizer_fn, Moments):
        raise invalid(
            f"sequence_numeric_column {quote(key)}", "normalizer_fn", "a function or ZScore",
            normalizer_fn,
        )  # fmt: skip
    return SequenceNumericColumn(
        key=plain.key,
        shape=plain.shape,
        default_value=float(default_value),
        dtype=plain.dtype,
        normalizer=normalizer_fn,
    )


def sequence_categorical_column(categorical_column: CategoricalColumn) -> SequenceCategoricalColumn:
    """The category at every position of a sequence, of any categorical column."""
    inner = category("sequence_categorical_column", categorical_column)
    return SequenceCategoricalColumn(categorical_column=inner)


def sequence_categorical_column_with_hash_bucket(
    key: str, hash_bucket_size: int, dtype: object = "string"
) -> SequenceCategoricalColumn:
    """A hashed category for every position; see `categorical_column_with_hash_bucket`."""
    return SequenceCategoricalColumn(
        categorical_column=categorical_column_with_hash_bucket(key, hash_bucket_size, dtype)
    )


def sequence_categorical_column_with_identity(
    key: str, num_buckets: int, default_value: int | None = None
) -> SequenceCategoricalColumn:
    """An id for every position; see `categorical_column_with_identity`."""
    return SequenceCategoricalColumn(
        categorical_column=categorical_column_with_identity(key, num_buckets, default_value)
    )


def sequence_categorical_column_with_vocabulary_file(
    key: str,
    vocabulary_file: str,
    vocabulary_size: int | None = None,
    num_oov_buckets: int = 0,
    default_value: int | None = None,
    dtype: object = "string",
    file_format: str | None = None,
) -> SequenceCategoricalColumn:
    """A category for every position; see `categorical_column_with_vocabulary_file`."""
    return SequenceCategoricalColumn(
        categorical_column=categorical_column_with_vocabulary_file(
            key, vocabulary_file, vocabulary_size, dtype, default_value, num_oov_buckets,
            file_format,
        )
    )  # fmt: skip


def sequence_categorical_column_with_vocabulary_list(
    key: str,
    vocabulary_list: Sequence[Any],
    dtype: object = None,
    default_value: int = -1,
    num_oov_buckets: int = 0,
) -> SequenceCategoricalColumn:
    """A category for every position; see `categorical_column_with_vocabulary_list`."""
    return SequenceCategoricalColumn(
        categorical_column=categorical_column_with_vocabulary_list(
            key, vocabulary_list, dtype, default_value, num_oov_buckets
        )
    )


class SequenceSpec(ColumnSpec):
    """Categories whose order counts, for models of sequences."""

    kind: Literal["sequence"]
    of: str
    """The categorical column; its field has several values."""

    def build(self, name: str, others: Others) -> SequenceCategoricalColumn:
        return sequence_categorical_column(others.category(self.of))


class SequenceNumericSpec(FieldSpec):
    """Numbers whose order counts, for models of sequences."""

    kind: Literal["sequence_numeric"]
    field: str | None = None
    """The raw field, with several values; by default the column's own name."""
    default: Float32 = 0.0
    """Stands for a missing value."""

    def build(self, name: str, others: Others) -> SequenceNumericColumn:
        return sequence_numeric_column(self.field or name, (1,), self.default)
