"""Categories as vectors: one-hot and learned. Layer 0."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, Self

from estimator_lib.core.columns._base import (
    CategoricalColumn,
    Column,
    ColumnSpec,
    DenseColumn,
    Others,
    category,
)
from estimator_lib.core.columns._checks import invalid, vector_length
from estimator_lib.core.section import Dimension

__all__ = [
    "EmbeddingColumn",
    "IndicatorColumn",
    "SharedEmbeddingColumn",
    "embedding_column",
    "embedding_width",
    "indicator_column",
    "shared_embeddings",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _OfCategory(DenseColumn):
    """A vector for each category of another column."""

    is_feature: ClassVar[bool] = False
    categorical_column: CategoricalColumn

    @property
    def parents(self) -> tuple[Column, ...]:
        return (self.categorical_column,)

    def transformed(self) -> Self:
        return dataclasses.replace(self, categorical_column=self.categorical_column.as_ids())


@dataclasses.dataclass(frozen=True, kw_only=True)
class IndicatorColumn(_OfCategory):
    """One-hot (multi-hot) of a categorical column. See `indicator_column`."""

    kind: ClassVar[str] = "indicator"

    @property
    def name(self) -> str:
        return f"{self.categorical_column.name}_indicator"

    @property
    def width(self) -> int:
        return self.categorical_column.rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbeddingColumn(_OfCategory):
    """A learned vector per category. See `embedding_column`."""

    kind: ClassVar[str] = "embedding"
    dimension: int | None = None
    combiner: str = "mean"
    initializer: Callable[..., Any] | None = None
    max_norm: float | None = None
    trainable: bool = True

    @property
    def name(self) -> str:
        return f"{self.categorical_column.name}_embedding"

    @property
    def width(self) -> int:
        """Length of the vectors; see `embedding_width` where no dimension is given."""
        return self.dimension or embedding_width(self.categorical_column.num_buckets)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SharedEmbeddingColumn(EmbeddingColumn):
    """A learned vector per category, from a table of several columns. See `shared_embeddings`."""

    kind: ClassVar[str] = "shared_embedding"
    collection: str

    @property
    def name(self) -> str:
        return f"{self.categorical_column.name}_shared_embedding"


def embedding_width(buckets: int) -> int:
    """Returns the length of vectors for so many categories, where none is given.

    The least of half the categories (rounded up), 6 times their fourth root and 64: 2 for 3
    categories, 5 for 10, 19 for 100, 34 for 1,000, 60 for 10,000. A rule of thumb that keeps
    small tables small; give a dimension where it matters.
    """
    return max(1, min((buckets + 1) // 2, round(6 * buckets**0.25), 64))


def indicator_column(categorical_column: CategoricalColumn) -> IndicatorColumn:
    """The one-hot form of a categorical column, float32 `[batch, num_buckets]`."""
    return IndicatorColumn(categorical_column=category("indicator_column", categorical_column))


def embedding_column(
    categorical_column: CategoricalColumn,
    dimension: int | str | None = None,
    combiner: str = "mean",
    initializer: Callable[..., Any] | None = None,
    max_norm: float | None = None,
    trainable: bool = True,
) -> EmbeddingColumn:
    """A learned vector per category, float32 `[batch, dimension]`; zeros when missing.

    Args:
        categorical_column: What to embed.
        dimension: Length of the vector; None or "auto" takes it from the number of buckets,
            see `embedding_width`.
        combiner: "mean", "sqrtn" or "sum" over several values of one example.
        initializer: Of the table; None is a truncated normal with stddev 1/sqrt(dimension).
        max_norm: Vectors longer than this are scaled down when read.
        trainable: Whether training updates the table.
    """
    if combiner not in ("mean", "sqrtn", "sum"):
        raise invalid("embedding_column", "combiner", "'mean', 'sqrtn' or 'sum'", combiner)
    return EmbeddingColumn(
        categorical_column=category("embedding_column", categorical_column),
        dimension=vector_length("embedding_column", dimension),
        combiner=combiner,
        initializer=initializer,
        max_norm=max_norm,
        trainable=trainable,
    )


def shared_embeddings(
    categorical_columns: Sequence[CategoricalColumn],
    dimension: int | str | None = None,
    combiner: str = "mean",
    initializer: Callable[..., Any] | None = None,
    shared_embedding_collection_name: str | None = None,
    max_norm: float | None = None,
    trainable: bool = True,
) -> list[SharedEmbeddingColumn]:
    """Learned vectors of several columns from one table, one column for each.

    Args:
        categorical_columns: At least one; all must have the same number of buckets.
        dimension: As in `embedding_column`.
        combiner: As in `embedding_column`.
        initializer: As in `embedding_column`.
        shared_embedding_collection_name: Name of the table; by default from the columns' names.
        max_norm: As in `embedding_column`.
        trainable: As in `embedding_column`.
    """
    if not categorical_columns:
        raise invalid("shared_embeddings", "categorical_columns", "at least one", [])
    names = sorted(column.name for column in categorical_columns)
    collection = shared_embedding_collection_name or "_".join(names) + "_shared_embedding"
    found = []
    for column in categorical_columns:
        plain = embedding_column(column, dimension, combiner, initializer, max_norm, trainable)
        fields = {f.name: getattr(plain, f.name) for f in dataclasses.fields(plain)}
        found.append(SharedEmbeddingColumn(**fields, collection=collection))
    return found


class IndicatorSpec(ColumnSpec):
    """One-hot form of a categorical column."""

    kind: Literal["indicator"]
    of: str
    """The categorical column."""

    def build(self, name: str, others: Others) -> IndicatorColumn:
        return indicator_column(others.category(self.of))


class EmbeddingSpec(ColumnSpec):
    """A learned vector per category."""

    kind: Literal["embedding"]
    of: str
    """The categorical column."""
    dimension: Dimension | Literal["auto"] = "auto"
    """Length of the vector; "auto" takes it from the number of categories."""
    combiner: Literal["mean", "sqrtn", "sum"] = "mean"
    """How the vectors of several values become one."""

    def build(self, name: str, others: Others) -> EmbeddingColumn:
        return embedding_column(others.category(self.of), self.dimension, self.combiner)
