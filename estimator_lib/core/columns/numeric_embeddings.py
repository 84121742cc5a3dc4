"""Numbers as vectors, which networks read better. Layer 0."""

from __future__ import annotations

import dataclasses
import itertools
import math
import struct
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field

from estimator_lib.core.columns._base import Column, DenseColumn, FieldSpec, Others, unresolved
from estimator_lib.core.columns._checks import at_least, invalid, vector_length
from estimator_lib.core.columns._learned import Moments, Quantiles
from estimator_lib.core.columns.bucketized import CutSpec, bucketized_column
from estimator_lib.core.columns.numeric import NumericColumn, numeric_column, one_number
from estimator_lib.core.section import Dimension

__all__ = [
    "PeriodicColumn",
    "PiecewiseLinearColumn",
    "periodic_embedding",
    "piecewise_linear_embedding",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _EmbeddedNumber(DenseColumn):
    """A number as a vector; `label` names it where it is read from its transformed feature."""

    source_column: NumericColumn
    label: str | None = None

    @property
    def parents(self) -> tuple[Column, ...]:
        return (self.source_column,)

    def transformed(self) -> Self:
        number = numeric_column(self.name)
        return dataclasses.replace(self, source_column=number, label=self.name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PiecewiseLinearColumn(_EmbeddedNumber):
    """A number as its way through bins. See `piecewise_linear_embedding`."""

    kind: ClassVar[str] = "piecewise_linear"
    boundaries: tuple[float, ...] | Quantiles
    dimension: int | None = None

    @property
    def name(self) -> str:
        return self.label or f"{self.source_column.name}_piecewise"

    @property
    def edges(self) -> tuple[float, ...]:
        """The bins' boundaries, at least two."""
        if isinstance(self.boundaries, Quantiles):
            raise unresolved(self, self.boundaries)
        cuts = self.boundaries
        first = cuts[0] if cuts else 0.0
        # float32 has no number between large ones and the next integer.
        return cuts if len(cuts) > 1 else (first, first + max(1.0, abs(first)))

    @property
    def width(self) -> int:
        return self.dimension or len(self.edges) - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class PeriodicColumn(_EmbeddedNumber):
    """A number as sines and cosines. See `periodic_embedding`."""

    kind: ClassVar[str] = "periodic"
    frequencies: int = 16
    scale: float = 0.1
    dimension: int | None = 16

    @property
    def name(self) -> str:
        return self.label or f"{self.source_column.name}_periodic"

    @property
    def width(self) -> int:
        return self.dimension or 2 * self.frequencies


def piecewise_linear_embedding(
    source_column: NumericColumn,
    boundaries: Sequence[float] | Quantiles,
    dimension: int | None = None,
) -> PiecewiseLinearColumn:
    """A number as how far it is through each of several bins, float32 `[batch, width]`.

    Of the bins between neighbouring boundaries, those below the number give 1, those above 0
    and its own the share of the way through: every value is between 0 and 1, also for numbers
    before the first boundary and behind the last. Fewer than two boundaries (a constant field)
    give one bin. With `dimension`, a layer of that width with relu follows. A missing number
    gives zeros.

    Args:
        source_column: A `numeric_column` of one number without normalizer.
        boundaries: Sorted numbers, distinct as float32, or `Quantiles(buckets=n)` to learn them:
            smallest and largest number of the train split, and n - 1 between them.
        dimension: Width of the layer; None leaves it out.

    References: Gorishniy et al., arXiv 2203.05556 (PLE, and PLE-LR with dimension).
    """
    one_number("piecewise_linear_embedding", source_column)
    if source_column.normalizer is not None:
        raise invalid(
            "piecewise_linear_embedding", "source_column", "no normalizer", source_column.name
        )
    cuts = bucketized_column(source_column, boundaries).boundaries
    if isinstance(cuts, Quantiles):
        cuts = dataclasses.replace(cuts, ends=True)
    elif not all(_float32(a) < _float32(b) for a, b in itertools.pairwise(cuts)):
        raise invalid(
            "piecewise_linear_embedding", "boundaries", "numbers distinct as float32", boundaries
        )
    return PiecewiseLinearColumn(
        source_column=source_column,
        boundaries=cuts,
        dimension=vector_length("piecewise_linear_embedding", dimension),
    )


def periodic_embedding(
    source_column: NumericColumn,
    frequencies: int = 16,
    scale: float = 0.1,
    dimension: int | None = 16,
) -> PeriodicColumn:
    """A number as sines and cosines at learned frequencies, float32 `[batch, width]`.

    With `dimension`, a layer of that width with relu follows. A missing number gives zeros.

    Args:
        source_column: A `numeric_column` of one number; normalized, for the frequencies are
            cycles per unit of it.
        frequencies: How many; the width before the layer is twice that.
        scale: Standard deviation of the frequencies at first.
        dimension: Width of the layer; None leaves it out.

    References: Gorishniy et al., arXiv 2203.05556 (PL, and PLR with dimension).
    """
    one_number("periodic_embedding", source_column)
    if not (isinstance(scale, int | float) and math.isfinite(scale) and scale > 0):
        raise invalid("periodic_embedding", "scale", "a positive number", scale)
    return PeriodicColumn(
        source_column=source_column,
        frequencies=at_least("periodic_embedding", "frequencies", frequencies, 1),
        scale=float(scale),
        dimension=vector_length("periodic_embedding", dimension),
    )


def _float32(number: float) -> float:
    """The nearest float32; infinity beyond."""
    try:
        return float(struct.unpack("f", struct.pack("f", number))[0])
    except OverflowError:
        return math.copysign(math.inf, number)


class PiecewiseLinearSpec(CutSpec):
    """A number as its way through buckets: a vector that a network reads better."""

    kind: Literal["piecewise_linear"]
    dimension: Dimension | None = None
    """Width of a layer behind it; none, if not given."""

    def build(self, name: str, others: Others) -> PiecewiseLinearColumn:
        number = numeric_column(self.field or name)
        return piecewise_linear_embedding(number, self.cuts, self.dimension)


class PeriodicSpec(FieldSpec):
    """A number, standardized, as sines and cosines at learned frequencies."""

    kind: Literal["periodic"]
    frequencies: Dimension = 16
    """How many."""
    scale: Annotated[float, Field(gt=0)] = 0.1
    """Standard deviation of the frequencies at first."""
    dimension: Dimension = 16
    """Width of the layer behind it."""

    def build(self, name: str, others: Others) -> PeriodicColumn:
        number = numeric_column(self.field or name, normalizer_fn=Moments())
        return periodic_embedding(number, self.frequencies, self.scale, self.dimension)
