"""What a value is, whatever it is written in: its logical type, its one text, its number.

Layer 0. The one place that knows how values are written. Readers of files turn what they find into
texts and numbers by these rules (`transforms.reading.values` has them for Arrow columns), so that a
table gives the same tokens, numbers and hashes from any format. `docs/data.md` has the table for
users.

Every text belongs to one kind: the narrowest that it can be read as. A field's logical type is the
narrowest that holds the kinds of all its values, over all files; where it is not `TEXT`, each
value has one canonical text.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import math
import re
from collections.abc import Iterable
from typing import Any

from estimator_lib.core import strict_json


class Logical(enum.StrEnum):
    """What the values of a field are."""

    TEXT = "text"
    INTEGER = "integer"
    REAL = "real"
    DATE = "date"
    TIMESTAMP = "timestamp"
    TIME = "time"
    UUID = "uuid"
    JSON = "json"


TRUE = ("true", "True", "TRUE")
FALSE = ("false", "False", "FALSE")

INTEGER = r"-?(?:0|[1-9][0-9]{0,20})"
"""More digits are a code, not a number; so are leading zeros and a plus sign."""
REAL = rf"(?:{INTEGER}(?:\.[0-9]*)?|-?\.[0-9]+)(?:[eE][+-]?[0-9]{{1,3}})?"
DATE = r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,9})?)?"
ZONE = r" ?(?:Z|UTC|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?)"
TIMESTAMP = rf"{DATE}[ T]{CLOCK}(?:{ZONE})?"
DURATION = r"-?[0-9]{1,9} days?(?: [+-]?[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?)?"
UUID = r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"

_PATTERNS = {
    name: re.compile(pattern)
    for name, pattern in (
        ("real", REAL),
        ("date", DATE),
        ("timestamp", rf"({DATE})[ T]({CLOCK})({ZONE})?"),
        ("time", CLOCK),
        ("duration", r"(-?[0-9]+) days?(?: ([+-]?)([0-9]{2}):([0-9]{2}):([0-9]{2}(?:\.[0-9]+)?))?"),
        ("uuid", UUID),
    )
}
_EXACT = decimal.Context(prec=400, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN)
_NARROW = {
    frozenset({Logical.INTEGER}): Logical.INTEGER,
    frozenset({Logical.INTEGER, Logical.REAL}): Logical.REAL,
    frozenset({Logical.DATE}): Logical.DATE,
    frozenset({Logical.DATE, Logical.TIMESTAMP}): Logical.TIMESTAMP,
    frozenset({Logical.TIME}): Logical.TIME,
    frozenset({Logical.UUID}): Logical.UUID,
    frozenset({Logical.JSON}): Logical.JSON,
}
"""Sets of kinds, narrowest first, and the type that holds them."""


def logical_of(kinds: Iterable[Logical]) -> Logical:
    """Returns the narrowest type that holds values of these kinds; text for none.

    Example:
        >>> logical_of({Logical.INTEGER, Logical.REAL}).value
        'real'
    """
    found = frozenset(kinds)
    held = (kind for within, kind in _NARROW.items() if found and found <= within)
    return next(held, Logical.TEXT)


def narrow(text: str) -> tuple[Logical, str]:
    """Returns the kind of a text that is not empty, and its canonical text.

    Example:
        >>> narrow("32.0")[1], narrow("0E-9")[1], narrow("2024-01-01T01:30:00.500+01:00")[1]
        ('32', '0', '2024-01-01 00:30:00.5')
        >>> narrow("007")[0].value
        'text'
    """
    if text in TRUE or text in FALSE:  # most formats have no type for them but integers
        return Logical.INTEGER, "1" if text in TRUE else "0"
    first = text[0]
    if first in "-.0123456789":
        if _PATTERNS["real"].fullmatch(text):
            number = number_text(decimal.Decimal(text))
            return _number_kind(number), number
        if _PATTERNS["date"].fullmatch(text):
            return Logical.DATE, text
        if match := _PATTERNS["timestamp"].fullmatch(text):
            moment = _moment(*match.groups())
            if moment is not None:
                return (Logical.TIMESTAMP if " " in moment else Logical.DATE), moment
        elif _PATTERNS["time"].fullmatch(text):
            return Logical.TIME, clock_text(text)
        elif match := _PATTERNS["duration"].fullmatch(text):
            number = _seconds(*match.groups())
            return _number_kind(number), number
    if len(text) == 36 and _PATTERNS["uuid"].fullmatch(text):
        return Logical.UUID, text.lower()
    if first in "{[" and (found := _json(text)) is not None:
        return Logical.JSON, found
    return Logical.TEXT, text


def canonical(text: str, logical: Logical) -> str:
    """Returns the one text of a value in a field of a logical type.

    A value that the type does not hold stays as it is written: it is another value.
    """
    if logical is Logical.TEXT or not text:
        return text
    kind, found = narrow(text)
    return found if holds(logical, kind) else text


def holds(logical: Logical, kind: Logical) -> bool:
    """Says whether a field of a type has values of a kind."""
    return logical_of({logical, kind}) is logical


def number_text(number: decimal.Decimal) -> str:
    """Returns a number without zeros that say nothing; from 1e21 on and below 1e-6 as 1.5e21.

    Example:
        >>> number_text(decimal.Decimal("1.500")), number_text(decimal.Decimal("-0.0"))
        ('1.5', '0')
        >>> number_text(decimal.Decimal("1E+3")), number_text(decimal.Decimal("0.00000015"))
        ('1000', '1.5e-7')
    """
    if not number:
        return "0"
    sign, digits, exponent = number.normalize(_EXACT).as_tuple()
    assert isinstance(exponent, int), "finite"  # noqa: S101
    text = "".join(map(str, digits))
    point = len(text) + exponent
    if -6 < point <= 21:
        if exponent >= 0:
            text += "0" * exponent
        elif point > 0:
            text = f"{text[:point]}.{text[point:]}"
        else:
            text = f"0.{'0' * -point}{text}"
    else:
        fraction = f".{text[1:]}" if len(text) > 1 else ""
        text = f"{text[0]}{fraction}e{point - 1}"
    return f"-{text}" if sign else text


def clock_text(text: str) -> str:
    """Returns a time of day with its seconds, without zeros that say nothing."""
    if len(text) == 5:
        return f"{text}:00"
    return text.rstrip("0").rstrip(".") if "." in text else text


def to_number(text: str) -> decimal.Decimal | None:
    """Returns the number that a text is: of a number, a boolean or a duration; else None."""
    kind, found = narrow(text) if text else (Logical.TEXT, "")
    return decimal.Decimal(found) if kind in (Logical.INTEGER, Logical.REAL) else None


def seconds(text: str) -> decimal.Decimal | None:
    """Returns the moment that a date or timestamp is, in seconds since 1970 in UTC; else None.

    Example:
        >>> seconds("1970-01-02T00:00:00.5+01:00"), seconds("2026-02-30")
        (Decimal('82800.5'), None)
    """
    kind, found = narrow(text) if text else (Logical.TEXT, "")
    if kind not in (Logical.DATE, Logical.TIMESTAMP):
        return None
    whole, _, fraction = found.partition(".")
    try:
        passed = datetime.datetime.fromisoformat(whole) - datetime.datetime(1970, 1, 1)  # noqa: DTZ001
    except ValueError:  # 30 February
        return None
    return passed.days * 86_400 + passed.seconds + decimal.Decimal(f"0.{fraction or 0}")


def json_text(value: Any) -> str:
    """Returns JSON in its one form: keys in order, no spaces, whole numbers without a fraction."""
    return json.dumps(_json_value(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _number_kind(canonical_text: str) -> Logical:
    whole = "." not in canonical_text and "e" not in canonical_text
    return Logical.INTEGER if whole else Logical.REAL


def _moment(day: str, clock: str, zone: str | None) -> str | None:
    """The canonical text of a timestamp; None if there is no such day."""
    clock, _, fraction = clock.partition(".")
    try:
        time = datetime.datetime.fromisoformat(f"{day} {clock_text(clock)}")
        if zone is not None and (zone := zone.strip()) not in ("Z", "UTC"):
            minutes = int(zone[1:3]) * 60 + int(zone[3:].strip(":") or 0)
            time -= datetime.timedelta(minutes=minutes if zone[0] == "+" else -minutes)
    except (ValueError, OverflowError):
        return None
    text = time.isoformat(" ")
    if fraction := fraction.rstrip("0"):
        return f"{text}.{fraction}"
    return text.removesuffix(" 00:00:00")


def _seconds(days: str, sign: str, hours: str | None, minutes: str, seconds: str) -> str:
    total = decimal.Decimal(days) * 86_400
    if hours is not None:
        clock = int(hours) * 3600 + int(minutes) * 60 + decimal.Decimal(seconds)
        total += -clock if sign == "-" else clock
    return number_text(total)


def _json(text: str) -> str | None:
    try:
        return json_text(strict_json.parse(text))
    except (ValueError, RecursionError):
        return None


def _json_value(value: Any) -> Any:
    """A value as JSON has it; what JSON has no type for is its canonical text."""
    if isinstance(value, dict):
        return {str(key): _json_value(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(one) for one in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if value is None or isinstance(value, str | int):
        return value
    return narrow(str(value))[1]
