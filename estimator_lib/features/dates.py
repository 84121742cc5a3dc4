"""Dates and times as categories, on a circle and as ages.

Layer 2. `core.values` for the texts of dates: what is a date there is one here, with the same
number, whether it is canonical or not.
"""

from __future__ import annotations

import dataclasses
import math

import tensorflow as tf

from estimator_lib.core import columns as fc
from estimator_lib.core import values as grammar
from estimator_lib.core.columns import dates
from estimator_lib.core.errors import ConfigError, Reason, SchemaError
from estimator_lib.features import _lowering as lowering
from estimator_lib.features._lowering import Batch, Features, Ids, Part, Spec
from estimator_lib.features.numeric import normalized, number

_DAY = 86_400
_SHAPE = rf"{grammar.DATE}(?:[ T]{grammar.CLOCK}(?:{grammar.ZONE})?)?"
_PARTS = r"^(....)-(..)-(..)(?:[ T](..):(..)(?::(..)(?:\.([0-9]+))?)?.*)?$"
_ZONE = r"^.{10}(?:[ T][0-9:.]+ ?([+-])(..):?(..)?)?.*$"
_NONE = "1970-01-01"
_EPOCH = 719_468
"""Days from 0000-03-01 to 1970-01-01."""
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896
"""0001-01-01 and 9999-12-31."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moments:
    """Moments of time, of any shape.

    Attributes:
        known: Whether there is one; the rest is of no meaning elsewhere.
        days: int64, since 1970-01-01.
        second: int64, of the day.
        fraction: float64, of the second.
    """

    known: tf.Tensor
    days: tf.Tensor
    second: tf.Tensor
    fraction: tf.Tensor


def moments(texts: tf.Tensor) -> Moments:
    """Returns what texts say as `core.values` reads them; another text is no moment."""
    shaped = tf.strings.regex_full_match(texts, _SHAPE)
    texts = tf.where(shaped, texts, _NONE)

    def whole(pattern: str, rewrite: str) -> tf.Tensor:
        # A part that is not there leaves the 0 before it.
        found = tf.strings.regex_replace(texts, pattern, rewrite)
        return tf.strings.to_number(found, tf.int64)

    year, month, day = whole(_PARTS, r"0\1"), whole(_PARTS, r"0\2"), whole(_PARTS, r"0\3")
    clock = whole(_PARTS, r"0\4") * 3600 + whole(_PARTS, r"0\5") * 60 + whole(_PARTS, r"0\6")
    zone = whole(_ZONE, r"\10\2") * 3600 + whole(_ZONE, r"\10\3") * 60
    days = _days(year, month, day)
    real = (year > 0) & tf.reduce_all(
        tf.stack([a == b for a, b in zip(_civil(days), (year, month, day), strict=True)]), 0
    )
    seconds = clock - zone
    utc = days + seconds // _DAY
    inside = (utc >= _FIRST_DAY) & (utc <= _LAST_DAY)
    fraction = tf.strings.regex_replace(texts, _PARTS, r"0.\70")
    return Moments(
        known=shaped & real & inside,
        days=utc,
        second=seconds % _DAY,
        fraction=tf.strings.to_number(fraction, tf.float64),
    )


def _days(year: tf.Tensor, month: tf.Tensor, day: tf.Tensor) -> tf.Tensor:
    """Days since 1970-01-01 in the Gregorian calendar, whose years begin in March here."""
    march = (month + 9) % 12
    years = year - march // 10
    leaps = years // 4 - years // 100 + years // 400
    return years * 365 + leaps + (march * 306 + 5) // 10 + day - 1 - _EPOCH


def _civil(days: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Year, month and day of days since 1970-01-01: the inverse of `_days`.

    References: H. Hinnant, chrono-compatible low-level date algorithms.
    """
    days += _EPOCH
    era, of_era = days // 146_097, days % 146_097
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    march = (5 * of_year + 2) // 153
    month = tf.where(march < 10, march + 3, march - 9)
    day = of_year - (153 * march + 2) // 5 + 1
    return era * 400 + year + tf.cast(month <= 2, tf.int64), month, day


def _part_of(part: str, at: Moments) -> tf.Tensor:
    """Returns a part of moments as steps from its first, int64."""
    year, month, day = _civil(at.days)
    weekday = (at.days + 3) % 7
    january = _days(year, tf.ones_like(month), tf.ones_like(day))
    match part:
        case "year":
            found = year
        case "quarter":
            found = (month + 2) // 3
        case "month":
            found = month
        case "day":
            found = day
        case "day_of_year":
            found = at.days - january + 1
        case "week":  # of the year that the week's Thursday is in
            thursday = at.days - weekday + 3
            its_year, _, _ = _civil(thursday)
            first = _days(its_year, tf.ones_like(month), tf.ones_like(day))
            found = (thursday - first) // 7 + 1
        case "weekday":
            found = weekday
        case "hour":
            found = at.second // 3600
        case "minute":
            found = at.second // 60 % 60
        case _:
            found = at.second % 60
    return found - dates.FIRST[part]


def _read(column: dates.DateColumn, key: str, batch: Batch) -> Moments:
    """The moments of a field, computed once for all its columns; `[batch]`."""
    return batch.once(("moments", key), lambda: moments(_single(column, key, batch)))


def _single(column: dates.DateColumn, key: str, batch: Batch) -> tf.Tensor:
    texts = batch.texts(column, key)
    if texts.shape.rank == 1:
        return texts
    if texts.shape.rank == 2 and texts.shape[1] is None:  # of a sparse or ragged tensor
        return tf.reshape(texts, (tf.shape(texts)[0],))
    raise SchemaError(
        f"Feature {key!r} has the wrong shape: expected one date per example for column "
        f"{column.name!r}, got {texts.shape}. Give one.",
        reason=Reason.TYPE_MISMATCH,
    )


@lowering.parsed.register
def _parsed(column: dates.DateColumn) -> Spec:
    return {field: tf.io.FixedLenFeature((1,), tf.string, "") for field in column.reads}


@lowering.ids.register
def _ids(column: fc.DatePartColumn, batch: Batch) -> Ids:
    at = _read(column, column.key, batch)
    return _part_of(column.part, at), at.known


@lowering.feature.register
def _steps(column: fc.CyclicDateColumn, batch: Batch) -> tf.Tensor:
    at = _read(column, column.key, batch)
    return tf.where(at.known, tf.cast(_part_of(column.part, at), tf.float32), math.nan)


@lowering.feature.register
def _age(column: fc.AgeColumn, batch: Batch) -> tf.Tensor:
    if isinstance(column.default_value, fc.Mean) or isinstance(column.normalizer, fc.Moments):
        raise ConfigError(
            f"Column {column.name!r} is not resolved: its mean must be learned from data "
            "first. Run preprocess, or give the values.",
            reason=Reason.UNRESOLVED,
        )
    start = _read(column, column.key, batch)
    if column.until_field is not None:
        end = _read(column, column.until_field, batch)
    else:
        end = moments(tf.constant([column.until]))
    days = tf.cast(end.days - start.days, tf.float64)
    seconds = tf.cast(end.second - start.second, tf.float64) + (end.fraction - start.fraction)
    numbers = tf.cast((days * _DAY + seconds) / column.unit_seconds, tf.float32)
    missing = math.nan if column.default_value is None else column.default_value
    return normalized(column.normalizer, tf.where(start.known & end.known, numbers, missing))


@lowering.given.register
def _given(column: fc.CyclicNumberColumn, features: Features) -> tf.Tensor:
    return number(fc.numeric_column(column.key), Batch(features, {}))


@lowering.feature.register
def _number(column: fc.CyclicNumberColumn, batch: Batch) -> tf.Tensor:
    return number(fc.numeric_column(column.key), batch)


@lowering.part.register
def _circle(column: fc.CyclicDateColumn | fc.CyclicNumberColumn, sources: Features) -> Part:
    steps = tf.reshape(sources[column.name], (-1, 1))
    angle = steps * (2.0 * math.pi / column.period)
    values = tf.concat([tf.sin(angle), tf.cos(angle)], 1)
    return Part(width=2, values=tf.where(tf.math.is_nan(steps), 0.0, values))
