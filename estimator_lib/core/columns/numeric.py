"""Numbers as they are, and whether they are there. Layer 0."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, ClassVar, Literal

from estimator_lib.core.columns._base import ColumnSpec, DenseColumn, FieldSpec, FieldType, Others
from estimator_lib.core.columns._checks import dtype_name, field_key, invalid
from estimator_lib.core.columns._learned import Mean, Moments, ZScore
from estimator_lib.core.errors import ConfigError, Reason, quote
from estimator_lib.core.section import Float32

__all__ = ["MissingIndicatorColumn", "NumericColumn", "missing_indicator_column", "numeric_column"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class NumericColumn(DenseColumn):
    """A numeric field as float32 `[batch, prod(shape)]`. See `numeric_column`."""

    kind: ClassVar[str] = "numeric"
    key: str
    shape: tuple[int, ...] = (1,)
    default_value: float | tuple[float, ...] | Mean | None = None
    dtype: str = "float32"
    normalizer: Moments | ZScore | Callable[[Any], Any] | None = None

    @property
    def name(self) -> str:
        return self.key

    @property
    def reads(self) -> Mapping[str, FieldType | None]:
        return {self.key: "float"}

    @property
    def required(self) -> tuple[str, ...]:
        return (self.key,) if self.default_value is None else ()

    @property
    def width(self) -> int:
        return math.prod(self.shape)

    def transformed(self) -> NumericColumn:
        return numeric_column(self.key, self.shape)

    def check_lists(self, lists: Container[str]) -> None:
        if self.key in lists:
            raise ConfigError(
                f"Column {self.name!r} reads one number, but field {self.key!r} has several "
                "per record. Use a sequence_numeric column, or the field as weights.",
                reason=Reason.CONFLICT,
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class MissingIndicatorColumn(DenseColumn):
    """1.0 where a field is missing, else 0.0. See `missing_indicator_column`."""

    kind: ClassVar[str] = "missing_indicator"
    key: str

    @property
    def name(self) -> str:
        return f"{self.key}_missing"

    @property
    def reads(self) -> Mapping[str, FieldType | None]:
        return {self.key: None}

    def transformed(self) -> NumericColumn:
        return numeric_column(self.name)


def numeric_column(
    key: str,
    shape: int | Sequence[int] = (1,),
    default_value: float | Sequence[float] | Mean | None = None,
    dtype: object = "float32",
    normalizer_fn: Callable[[Any], Any] | Moments | ZScore | None = None,
) -> NumericColumn:
    """A numeric field.

    Args:
        key: The raw field.
        shape: Of one example; an int is a vector's length.
        default_value: Stands for a missing value (NaN, or absent when parsing); None leaves
            NaN in place, `Mean()` is learned.
        dtype: float or integer type; the column is cast to float32.
        normalizer_fn: `Moments()` learns a z-score, `ZScore` gives one; a Python function
            works in a model but cannot be written to a file.
    """
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    if not sizes or any(not isinstance(n, int) or n < 1 for n in sizes):
        raise invalid(f"numeric_column {quote(key)}", "shape", "positive integers", shape)
    if not (
        normalizer_fn is None
        or callable(normalizer_fn)
        or isinstance(normalizer_fn, Moments | ZScore)
    ):
        raise invalid(
            f"numeric_column {quote(key)}",
            "normalizer_fn",
            "a function or Moments()",
            normalizer_fn,
        )
    default: float | tuple[float, ...] | Mean | None
    if default_value is None or isinstance(default_value, Mean):
        default = default_value
    elif isinstance(default_value, Sequence):
        default = tuple(float(v) for v in default_value)
    else:
        default = float(default_value)
    return NumericColumn(
        key=field_key("numeric_column", key),
        shape=sizes,
        default_value=default,
        dtype=dtype_name(dtype),
        normalizer=normalizer_fn,
    )


def missing_indicator_column(key: str) -> MissingIndicatorColumn:
    """1.0 where the field is missing, else 0.0; float32 `[batch, 1]`."""
    return MissingIndicatorColumn(key=field_key("missing_indicator_column", key))


def one_number(constructor: str, column: object) -> NumericColumn:
    """Returns the column of one number that a constructor was given."""
    if not isinstance(column, NumericColumn) or math.prod(column.shape) != 1:
        raise invalid(constructor, "source_column", "a numeric_column of one number", column)
    return column


class NumericSpec(FieldSpec):
    """A number."""

    kind: Literal["numeric"]
    default: Float32 | Literal["mean"] | None = None
    """Stands for a missing value; "mean" is learned."""
    normalize: Literal["moments"] | None = None
    """"moments": learn mean and standard deviation and give (x - mean) / stddev."""

    def build(self, name: str, others: Others) -> NumericColumn:
        return numeric_column(
            self.field or name,
            default_value=Mean() if self.default == "mean" else self.default,
            normalizer_fn=Moments() if self.normalize else None,
        )


class MissingIndicatorSpec(ColumnSpec):
    """1 where a field is missing, else 0."""

    kind: Literal["missing_indicator"]
    field: str
    """The raw field."""

    def build(self, name: str, others: Others) -> MissingIndicatorColumn:
        return missing_indicator_column(self.field)
