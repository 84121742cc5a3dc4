"""Cron expressions of six fields, as Kubeflow's scheduler reads them: checked, and looked ahead.

Layer 0. The fields are second, minute, hour, day of month, month, day of week; time is UTC, so
there is no hour that happens twice or not at all. Where both day fields are restricted, a day
that meets either one matches.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
from collections.abc import Iterator

from estimator_lib.core.errors import ConfigError, quote

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("second", 0, 59, {}),
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    ("day of week", 0, 6, {name: number for number, name in enumerate(_DAYS)}),
)
_HORIZON_DAYS = 366 * 8 + 2
"""Eight years hold every date there is, 29 February across a skipped leap year included."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cron:
    """A parsed expression.

    Attributes:
        fields: The values that match, per field.
        any_day: Whether the day of month, and the day of week, are left open.
    """

    fields: tuple[frozenset[int], ...]
    any_day: tuple[bool, bool]

    def times(self, after: datetime.datetime) -> Iterator[datetime.datetime]:
        """Yields the matching times after `after`, in order; both in UTC."""
        after = after.astimezone(datetime.UTC)
        seconds, minutes, hours, *_ = (sorted(field) for field in self.fields)
        clock = list(itertools.product(hours, minutes, seconds))
        start = after.date()
        for offset in range(_HORIZON_DAYS):
            day = start + datetime.timedelta(days=offset)
            if not self._matches(day):
                continue
            for hour, minute, second in clock:
                time = datetime.datetime(
                    day.year, day.month, day.day, hour, minute, second, tzinfo=datetime.UTC
                )
                if time > after:
                    yield time

    def _matches(self, day: datetime.date) -> bool:
        *_, days, months, weekdays = self.fields
        if day.month not in months:
            return False
        in_month = day.day in days
        in_week = (day.weekday() + 1) % 7 in weekdays
        return in_month and in_week if any(self.any_day) else in_month or in_week


def parse(text: str) -> Cron:
    """Reads an expression of six fields, such as "0 0 3 * * *" for every day at 3:00 UTC.

    Each field is `*` or `?`, a value, a range `a-b`, any of them with a step `/n`, or a list of
    those by commas; months and days of the week also by their first three letters.

    Raises:
        ConfigError: the expression is malformed, or no date ever matches it.
    """
    parts = text.split()
    if len(parts) != len(_FIELDS):
        hint = f' Did you mean "0 {text.strip()}"?' if len(parts) == len(_FIELDS) - 1 else ""
        raise ConfigError(
            f"Cron expression {quote(text)} is invalid: expected 6 fields (second, minute, hour, "
            f"day of month, month, day of week), got {len(parts)}.{hint}",
        )
    fields = []
    for part, (name, low, high, names) in zip(parts, _FIELDS, strict=True):
        try:
            fields.append(_field(part, low, high, names))
        except ValueError as error:
            raise ConfigError(
                f"Cron expression {quote(text)} is invalid: {name} {quote(part)}: {error}.",
            ) from error
    found = Cron(
        fields=tuple(fields),
        any_day=(parts[3] in ("*", "?"), parts[5] in ("*", "?")),
    )
    anchor = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    if next(found.times(anchor), None) is None:
        raise ConfigError(
            f"Cron expression {quote(text)} is invalid: no date matches it.",
        )
    return found


def _field(text: str, low: int, high: int, names: dict[str, int]) -> frozenset[int]:
    """Returns the values a field matches; a ValueError says what is wrong with it."""

    def number(word: str) -> int:
        value = names.get(word.lower())
        if value is None:
            if not (word.isascii() and word.isdigit()):
                raise ValueError(f"expected a number from {low} to {high}")
            value = int(word)
        if not low <= value <= high:
            raise ValueError(f"expected {low} to {high}")
        return value

    values: set[int] = set()
    for item in text.split(","):
        span, slash, step_text = item.partition("/")
        first, dash, last = span.partition("-")
        if span in ("*", "?"):
            start, end = low, high
        else:
            start = number(first)
            # "5/10" counts from 5 to the end of the field.
            end = number(last) if dash else high if slash else start
        step = 1
        if slash:
            if not (step_text.isascii() and step_text.isdigit()) or int(step_text) == 0:
                raise ValueError("expected a step of 1 or more")
            step = int(step_text)
        if end < start:
            raise ValueError("its range runs backwards")
        values.update(range(start, end + 1, step))
    return frozenset(values)


def moment(text: str) -> datetime.datetime:
    """Reads a moment: a day such as 2026-01-31 is its midnight in UTC, a time has its zone.

    Raises:
        ConfigError: the text is none, or a time without a zone.

    Example:
        >>> moment("2026-01-31T03:00:00+01:00").isoformat()
        '2026-01-31T02:00:00+00:00'
    """
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(
            f"Time {quote(text)} is invalid: expected 2026-01-31, or 2026-01-31T03:00:00Z.",
        ) from error
    if found.tzinfo is None:
        if len(text) > len("2026-01-31"):
            raise ConfigError(
                f"Time {quote(text)} has no zone: expected one such as 2026-01-31T03:00:00Z.",
            )
        found = found.replace(tzinfo=datetime.UTC)
    return found.astimezone(datetime.UTC)
