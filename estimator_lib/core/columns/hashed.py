"""Values, and combinations of values, hashed into a fixed number of ids. Layer 0."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from estimator_lib.core.columns._base import (
    CategoricalColumn,
    Column,
    ColumnSpec,
    FieldSpec,
    FieldType,
    Others,
)
from estimator_lib.core.columns._checks import at_least, dtype_name, field_key, invalid
from estimator_lib.core.columns.identity import IdsColumn
from estimator_lib.core.section import Buckets

__all__ = [
    "CrossedColumn",
    "HashedColumn",
    "categorical_column_with_hash_bucket",
    "crossed_column",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class HashedColumn(IdsColumn):
    """Values hashed into a fixed number of ids. See `categorical_column_with_hash_bucket`."""

    kind: ClassVar[str] = "hashed"
    key: str
    hash_bucket_size: int
    dtype: str = "string"

    @property
    def name(self) -> str:
        return self.key

    @property
    def reads(self) -> Mapping[str, FieldType | None]:
        return {self.key: "string" if self.dtype == "string" else "int"}

    @property
    def num_buckets(self) -> int:
        return self.hash_bucket_size


def categorical_column_with_hash_bucket(
    key: str, hash_bucket_size: int, dtype: object = "string"
) -> HashedColumn:
    """Values hashed (fingerprint64 of the string, or of an integer's decimal form)."""
    return HashedColumn(
        key=field_key("categorical_column_with_hash_bucket", key),
        hash_bucket_size=at_least(key, "hash_bucket_size", hash_bucket_size, 1),
        dtype=dtype_name(dtype),
    )


class HashedSpec(FieldSpec):
    """Categories hashed into a fixed number of ids."""

    kind: Literal["hashed"]
    buckets: Buckets
    """How many ids."""

    def build(self, name: str, others: Others) -> HashedColumn:
        return categorical_column_with_hash_bucket(self.field or name, self.buckets)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossedColumn(IdsColumn):
    """Combinations of categories, hashed. See `crossed_column`."""

    kind: ClassVar[str] = "crossed"
    keys: tuple[str | CategoricalColumn, ...]
    hash_bucket_size: int
    hash_key: int | None = None

    @property
    def name(self) -> str:
        return "_X_".join(sorted(k if isinstance(k, str) else k.name for k in self.keys))

    @property
    def parents(self) -> tuple[Column, ...]:
        return tuple(k for k in self.keys if isinstance(k, Column))

    @property
    def reads(self) -> Mapping[str, FieldType | None]:
        return {k: "string" for k in self.keys if isinstance(k, str)}

    @property
    def num_buckets(self) -> int:
        return self.hash_bucket_size


def crossed_column(
    keys: Sequence[str | CategoricalColumn], hash_bucket_size: int, hash_key: int | None = None
) -> CrossedColumn:
    """Combinations of at least two fields or categorical columns, hashed.

    A missing part makes the whole combination missing.
    """
    if len(keys) < 2:
        raise invalid("crossed_column", "keys", "at least two fields or columns", keys)
    for part in keys:
        if isinstance(part, HashedColumn) or not isinstance(part, str | CategoricalColumn):
            raise invalid(
                "crossed_column",
                "keys",
                "field names or categorical columns that are not hashed (give the field instead)",
                part,
            )
    return CrossedColumn(
        keys=tuple(keys),
        hash_bucket_size=at_least("crossed_column", "hash_bucket_size", hash_bucket_size, 1),
        hash_key=hash_key,
    )


class CrossedSpec(ColumnSpec):
    """Combinations of categories, hashed."""

    kind: Literal["crossed"]
    of: Annotated[list[str], Field(min_length=2)]
    """Columns of this file (vocabulary, bucketized, identity) or raw text fields."""
    buckets: Buckets
    """How many ids."""

    def build(self, name: str, others: Others) -> CrossedColumn:
        keys = [others.category(key) if key in others else key for key in self.of]
        return crossed_column(keys, self.buckets)
