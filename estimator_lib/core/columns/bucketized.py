"""Numbers cut at boundaries. Layer 0."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Self

import pydantic
from pydantic import Field

from estimator_lib.core.columns._base import Column, DenseColumn, FieldSpec, Others, unresolved
from estimator_lib.core.columns._checks import invalid
from estimator_lib.core.columns._learned import Quantiles
from estimator_lib.core.columns.identity import IdentityColumn, IdsColumn
from estimator_lib.core.columns.numeric import NumericColumn, numeric_column
from estimator_lib.core.section import Float32

__all__ = ["BucketIdsColumn", "BucketizedColumn", "bucketized_column"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BucketizedColumn(IdsColumn, DenseColumn):
    """Numbers cut at boundaries; missing (NaN) has id -1. See `bucketized_column`."""

    kind: ClassVar[str] = "bucketized"
    source_column: NumericColumn
    boundaries: tuple[float, ...] | Quantiles

    @property
    def name(self) -> str:
        return f"{self.source_column.name}_bucketized"

    @property
    def parents(self) -> tuple[Column, ...]:
        return (self.source_column,)

    @property
    def num_buckets(self) -> int:
        return len(self.cuts) + 1

    @property
    def cuts(self) -> tuple[float, ...]:
        """The boundaries, ascending."""
        if isinstance(self.boundaries, Quantiles):
            raise unresolved(self, self.boundaries)
        return self.boundaries

    @property
    def width(self) -> int:
        return self.rows

    @property
    def rows(self) -> int:
        return self.num_buckets * math.prod(self.source_column.shape)

    def transformed(self) -> BucketIdsColumn:
        return BucketIdsColumn(key=self.name, buckets=self.rows)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BucketIdsColumn(IdentityColumn, DenseColumn):
    """The transformed form of a bucketized column: ids, one-hot in a dense model."""

    kind: ClassVar[str] = "bucket_ids"

    def transformed(self) -> BucketIdsColumn:
        return BucketIdsColumn(key=self.name, buckets=self.num_buckets)


def bucketized_column(
    source_column: NumericColumn, boundaries: Sequence[float] | Quantiles
) -> BucketizedColumn:
    """Cuts a numeric column: bucket i holds boundaries[i-1] <= x < boundaries[i].

    Args:
        source_column: A one-dimensional `numeric_column` without normalizer.
        boundaries: Sorted and distinct numbers, or `Quantiles(buckets=n)` to learn them.
    """
    cuts: tuple[float, ...] | Quantiles
    if isinstance(boundaries, Quantiles):
        cuts = boundaries
    else:
        cuts = tuple(float(b) for b in boundaries)
        ordered = all(a < b for a, b in itertools.pairwise(cuts))
        if not cuts or not ordered or any(math.isnan(cut) for cut in cuts):
            raise invalid(
                f"bucketized_column of {source_column.name!r}",
                "boundaries",
                "a sorted sequence of distinct numbers",
                boundaries,
            )
    return BucketizedColumn(source_column=source_column, boundaries=cuts)


class CutSpec(FieldSpec):
    """A number and where it is cut."""

    boundaries: Annotated[list[Float32], Field(min_length=1, max_length=32_768)] | None = None
    """Sorted boundaries, or"""
    quantiles: Annotated[int, Field(ge=2, le=32_768)] | None = None
    """the number of equal parts whose boundaries are learned."""

    @pydantic.model_validator(mode="after")
    def _one(self) -> Self:
        if (self.boundaries is None) == (self.quantiles is None):
            raise ValueError("give exactly one of boundaries, quantiles")
        return self

    @property
    def cuts(self) -> Sequence[float] | Quantiles:
        """The boundaries, or how many are to be learned."""
        return self.boundaries or Quantiles(buckets=self.quantiles or 2)


class BucketizedSpec(CutSpec):
    """A number cut at boundaries."""

    kind: Literal["bucketized"]

    def build(self, name: str, others: Others) -> BucketizedColumn:
        return bucketized_column(numeric_column(self.field or name), self.cuts)
