"""Dates and times as categories, on a circle and as ages. Layer 0.

The field is text: a date or timestamp as `core.values` has it, which is what every reader gives
of a field of dates, whatever it is stored as. Times are UTC; a time without a zone is taken as
it is.
"""

from __future__ import annotations

import abc
import dataclasses
import datetime
from collections.abc import Container, Mapping
from typing import Annotated, ClassVar, Literal, Self

import pydantic

from estimator_lib.core import values
from estimator_lib.core.columns._base import Column, DenseColumn, FieldSpec, FieldType, Others
from estimator_lib.core.columns._checks import field_key, invalid
from estimator_lib.core.columns._learned import Mean, Moments, ZScore
from estimator_lib.core.columns.identity import IdsColumn
from estimator_lib.core.columns.numeric import NumericColumn, numeric_column
from estimator_lib.core.errors import ConfigError, Reason, quote
from estimator_lib.core.section import Float32

__all__ = [
    "AgeColumn",
    "CyclicDateColumn",
    "CyclicNumberColumn",
    "DateColumn",
    "DatePartColumn",
    "age_column",
    "cyclic_date_column",
    "date_part_column",
]

DatePart = Literal[
    "year", "quarter", "month", "week", "day_of_year", "day", "weekday", "hour", "minute", "second"
]
Unit = Literal["seconds", "minutes", "hours", "days", "weeks", "years"]

FIRST: dict[str, int] = {
    "year": 1, "quarter": 1, "month": 1, "week": 1, "day_of_year": 1, "day": 1,
    "weekday": 0, "hour": 0, "minute": 0, "second": 0,
}  # fmt: skip
"""The smallest number of a part; weeks are those of ISO 8601, and Monday is 0."""
COUNT: dict[str, int] = {
    "year": 9999, "quarter": 4, "month": 12, "week": 53, "day_of_year": 366, "day": 31,
    "weekday": 7, "hour": 24, "minute": 60, "second": 60,
}  # fmt: skip
SECONDS: dict[str, float] = {
    "seconds": 1.0, "minutes": 60.0, "hours": 3600.0, "days": 86_400.0, "weeks": 604_800.0,
    "years": 31_556_952.0,
}  # fmt: skip
"""How long a unit is; a year is the mean one of the calendar, 365.2425 days."""


class DateColumn(Column, abc.ABC):
    """A column of a field of dates or times, one per record."""

    key: str

    @property
    def reads(self) -> Mapping[str, FieldType | None]:
        return {self.key: "string"}

    def check_lists(self, lists: Container[str]) -> None:
        for field in self.reads:
            if field in lists:
                raise ConfigError(
                    f"Column {self.name!r} reads one date, but field {field!r} has several per "
                    "record. Read a field with one value.",
                    reason=Reason.CONFLICT,
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatePartColumn(DateColumn, IdsColumn):
    """A part of a date as a category. See `date_part_column`."""

    kind: ClassVar[str] = "date_part"
    key: str
    part: str

    @property
    def name(self) -> str:
        return f"{self.key}_{self.part}"

    @property
    def num_buckets(self) -> int:
        return COUNT[self.part]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CyclicDateColumn(DateColumn, DenseColumn):
    """A part of a date on a circle. See `cyclic_date_column`."""

    kind: ClassVar[str] = "cyclic"
    key: str
    part: str

    @property
    def name(self) -> str:
        return f"{self.key}_{self.part}_cyclic"

    @property
    def width(self) -> int:
        return 2

    @property
    def period(self) -> int:
        """How many steps are once around."""
        return COUNT[self.part]

    def transformed(self) -> CyclicNumberColumn:
        return CyclicNumberColumn(key=self.name, period=self.period)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CyclicNumberColumn(DenseColumn):
    """The transformed form of a part on a circle: how many steps it is from the first."""

    kind: ClassVar[str] = "cyclic_number"
    key: str
    period: int

    @property
    def name(self) -> str:
        return self.key

    @property
    def reads(self) -> Mapping[str, FieldType | None]:
        return {self.key: "float"}

    @property
    def width(self) -> int:
        return 2

    def transformed(self) -> CyclicNumberColumn:
        return self


@dataclasses.dataclass(frozen=True, kw_only=True)
class AgeColumn(DateColumn, DenseColumn):
    """The time from a date to another. See `age_column`.

    `until` is the other date, in its canonical text, or `until_field` has it.
    """

    kind: ClassVar[str] = "age"
    key: str
    until: str | None = None
    until_field: str | None = None
    unit: str = "days"
    default_value: float | Mean | None = None
    normalizer: Moments | ZScore | None = None

    @property
    def name(self) -> str:
        return f"{self.key}_age" if self.until else f"{self.key}_until_{self.until_field}"

    @property
    def reads(self) -> Mapping[str, FieldType | None]:
        return {field: "string" for field in (self.key, self.until_field) if field is not None}

    @property
    def required(self) -> tuple[str, ...]:
        return tuple(self.reads) if self.default_value is None else ()

    @property
    def learns_from(self) -> str:
        return self.name

    @property
    def unit_seconds(self) -> float:
        """How long its unit is."""
        return SECONDS[self.unit]

    def transformed(self) -> NumericColumn:
        return numeric_column(self.name)


# --- Constructors -------------------------------------------------------------------------------


def date_part_column(key: str, part: str) -> DatePartColumn:
    """A part of a date or time as a category; a missing date has none.

    Args:
        key: The raw field, of dates or timestamps.
        part: year, quarter, month, week (of ISO 8601), day_of_year, day, weekday (Monday first),
            hour, minute or second. Ids count from 0, so January is 0 and the year 1 too.
    """
    thing = f"date_part_column {quote(key)}"
    return DatePartColumn(key=field_key("date_part_column", key), part=_part(thing, part))


def cyclic_date_column(key: str, part: str) -> CyclicDateColumn:
    """A part of a date or time on a circle: its sine and cosine, float32 `[batch, 2]`.

    December is as near to January as January to February. A missing date gives zeros, the
    middle of the circle.

    Args:
        key: The raw field, of dates or timestamps.
        part: As in `date_part_column`; a year comes not again, and is refused.
    """
    thing = f"cyclic_date_column {quote(key)}"
    if part == "year":
        raise invalid(thing, "part", "a part that comes again", part)
    return CyclicDateColumn(key=field_key("cyclic_date_column", key), part=_part(thing, part))


def age_column(
    key: str,
    until: str | datetime.date | None = None,
    *,
    until_field: str | None = None,
    unit: str = "days",
    default_value: float | Mean | None = None,
    normalizer_fn: Moments | ZScore | None = None,
) -> AgeColumn:
    """The time from a date to another, float32 `[batch, 1]`; negative if the other is before.

    Args:
        key: The raw field, of dates or timestamps.
        until: The other date or time, the same for all records; or
        until_field: the field that has it.
        unit: seconds, minutes, hours, days, weeks or years (of 365.2425 days).
        default_value: Stands for a missing age; None refuses such records, `Mean()` is learned.
        normalizer_fn: `Moments()` learns a z-score of the ages, `ZScore` gives one.
    """
    thing = f"age_column {quote(key)}"
    if (until is None) == (until_field is None):
        raise invalid(thing, "until, until_field", "exactly one of them", (until, until_field))
    if unit not in SECONDS:
        raise invalid(thing, "unit", f"one of {', '.join(SECONDS)}", unit)
    if not (normalizer_fn is None or isinstance(normalizer_fn, Moments | ZScore)):
        raise invalid(thing, "normalizer_fn", "Moments() or ZScore", normalizer_fn)
    return AgeColumn(
        key=field_key("age_column", key),
        until=None if until is None else _moment(thing, until),
        until_field=None if until_field is None else field_key("age_column", until_field),
        unit=unit,
        default_value=default_value
        if default_value is None or isinstance(default_value, Mean)
        else float(default_value),
        normalizer=normalizer_fn,
    )


def _part(thing: str, part: str) -> str:
    if part not in COUNT:
        raise invalid(thing, "part", f"one of {', '.join(COUNT)}", part)
    return part


def _moment(thing: str, given: str | datetime.date) -> str:
    text = str(given)
    if values.seconds(text) is None:
        raise invalid(thing, "until", "a date or time such as 2026-01-31 12:00:00", given)
    return values.narrow(text)[1]


# --- In a configuration -------------------------------------------------------------------------


def _text(value: object) -> object:
    """A date as text; YAML knows dates and times."""
    text = str(value) if isinstance(value, datetime.date) else value
    if isinstance(text, str) and values.seconds(text) is None:
        raise ValueError(f"expected a date or time such as 2026-01-31 12:00:00, got {quote(text)}")
    return text


class DatePartSpec(FieldSpec):
    """A part of a date or time, as a category."""

    kind: Literal["date_part"]
    part: DatePart
    """Which; weeks are those of ISO 8601, and weekday begins with Monday."""

    def build(self, name: str, others: Others) -> DatePartColumn:
        return date_part_column(self.field or name, self.part)


class CyclicSpec(FieldSpec):
    """A part of a date or time on a circle: sine and cosine."""

    kind: Literal["cyclic"]
    part: Literal[
        "quarter", "month", "week", "day_of_year", "day", "weekday", "hour", "minute", "second"
    ]
    """Which; weeks are those of ISO 8601, and weekday begins with Monday."""

    def build(self, name: str, others: Others) -> CyclicDateColumn:
        return cyclic_date_column(self.field or name, self.part)


class AgeSpec(FieldSpec):
    """The time from a date to another."""

    kind: Literal["age"]
    until: Annotated[str, pydantic.BeforeValidator(_text)] | None = None
    """The other date or time, one for all rows; UTC without a zone. Or"""
    until_field: str | None = None
    """the field that has it."""
    unit: Unit = "days"
    """What it is counted in; a year has 365.2425 days."""
    default: Float32 | Literal["mean"] | None = None
    """Stands for a missing value; "mean" is learned."""
    normalize: Literal["moments"] | None = None
    """"moments": learn mean and standard deviation and give (x - mean) / stddev."""

    @pydantic.model_validator(mode="after")
    def _one(self) -> Self:
        if (self.until is None) == (self.until_field is None):
            raise ValueError("give exactly one of until, until_field")
        return self

    def build(self, name: str, others: Others) -> AgeColumn:
        return age_column(
            self.field or name,
            self.until,
            until_field=self.until_field,
            unit=self.unit,
            default_value=Mean() if self.default == "mean" else self.default,
            normalizer_fn=Moments() if self.normalize else None,
        )
