"""Canonical texts in TensorFlow: what a request writes otherwise than the training data did.

Layer 2. `core.values` for the texts of one served field: 32.0 finds the entry of 32. JSON and
durations stay as they are; a request gives them in their canonical form.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import tensorflow as tf

from estimator_lib.core.units import Unit
from estimator_lib.core.values import DATE, FALSE, TRUE, Logical

_WHOLE = "-?(?:0|[1-9][0-9]{0,20})"
_NUMBER = (
    (rf"^(?:{'|'.join(TRUE)})$", "1"),
    (rf"^(?:{'|'.join(FALSE)})$", "0"),
    (r"^(-?)\.([0-9]+)$", r"\10.\2"),
    (rf"^({_WHOLE})\.0*$", r"\1"),
    (rf"^({_WHOLE}\.[0-9]*[1-9])0+$", r"\1"),
    (r"^-0$", "0"),
)
_FRACTION = ((r"(:[0-9]{2})\.0+$", r"\1"), (r"(:[0-9]{2}\.[0-9]*[1-9])0+$", r"\1"))
_MOMENT = (
    (rf"^({DATE})T", r"\1 "),
    (r"(:[0-9.]+) ?(?:Z|UTC|[+-]00:?00|[+-]00)$", r"\1"),
    (rf"^({DATE} [0-9]{{2}}:[0-9]{{2}})$", r"\1:00"),
    *_FRACTION,
    (rf"^({DATE}) 00:00:00$", r"\1"),
)
_REWRITES: dict[Logical, tuple[tuple[str, str], ...]] = {
    Logical.INTEGER: _NUMBER,
    Logical.REAL: _NUMBER,
    Logical.DATE: _MOMENT,
    Logical.TIMESTAMP: _MOMENT,
    Logical.TIME: ((r"^([0-9]{2}:[0-9]{2})$", r"\1:00"), *_FRACTION),
}


def numbers(texts: tf.Tensor, unit: Unit) -> tf.Tensor:
    """Returns the numbers of texts that may have a unit, float32 of their shape.

    NaN for the empty text and for what is no number; as reading a file would give it.
    """
    plain = tf.fill(tf.shape(texts), "nan")
    for pattern, rewrite in unit.rewrites:
        bare = tf.strings.regex_replace(texts, pattern, rewrite)
        for mark, written in ((unit.thousands, ""), (unit.decimal, ".")):
            bare = tf.strings.regex_replace(bare, re.escape(mark), written) if mark else bare
        plain = tf.where(tf.strings.regex_full_match(texts, pattern), bare, plain)
    return tf.cast(tf.strings.to_number(plain, tf.float64), tf.float32)


def canonical(values: tf.Tensor | tf.SparseTensor, logical: Logical) -> tf.Tensor | tf.SparseTensor:
    """Returns a string tensor (dense or sparse) in the canonical form of a field's type."""
    if isinstance(values, tf.SparseTensor):
        return values.with_values(canonical(values.values, logical))
    if logical is Logical.UUID:
        return tf.strings.lower(values)
    if logical in (Logical.DATE, Logical.TIMESTAMP):
        values = _rewritten(values, _ZONED, _in_utc)
    if logical in (Logical.INTEGER, Logical.REAL):
        values = _rewritten(values, _SCIENTIFIC, _positional)
    for pattern, rewrite in _REWRITES.get(logical, ()):
        values = tf.strings.regex_replace(values, pattern, rewrite, replace_global=False)
    return values


def _rewritten(
    values: tf.Tensor, pattern: str, written: Callable[[tf.Tensor], tf.Tensor]
) -> tf.Tensor:
    """Returns texts with those that match, which are few, written otherwise."""
    at = tf.where(tf.strings.regex_full_match(values, pattern))

    def changed() -> tf.Tensor:
        return tf.tensor_scatter_nd_update(values, at, written(tf.gather_nd(values, at)))

    return tf.cond(tf.size(at) > 0, changed, lambda: values)


def _part(texts: tf.Tensor, pattern: str, number: int) -> tf.Tensor:
    return tf.strings.regex_replace(texts, f"^{pattern}$", rf"\{number}", replace_global=False)


# --- Numbers with an exponent ---------------------------------------------------------------------

_SCIENTIFIC = r"(-?)((?:0|[1-9][0-9]{0,20})?)(?:\.([0-9]*))?[eE]([+-]?[0-9]{1,3})"
_NO_DIGITS = r"-?\.?[eE].*"
_MANY_ZEROS = "0" * 21


def _positional(texts: tf.Tensor) -> tf.Tensor:
    """1.5e3 as 1500; from 1e21 on and below 1e-6 as one digit, a fraction and an exponent."""
    sign, whole, fraction, exponent = (_part(texts, _SCIENTIFIC, n) for n in (1, 2, 3, 4))
    digits = whole + fraction
    significant = tf.strings.regex_replace(digits, "^0+", "")
    point = (
        tf.strings.length(whole)
        + tf.strings.to_number(exponent, tf.int32)
        - (tf.strings.length(digits) - tf.strings.length(significant))
    )
    significant = tf.strings.regex_replace(significant, "0+$", "")
    size = tf.strings.length(significant)

    def zeros(number: tf.Tensor) -> tf.Tensor:
        return tf.strings.substr(
            tf.fill(tf.shape(number), _MANY_ZEROS),
            tf.zeros_like(number),
            tf.clip_by_value(number, 0, 21),
        )

    def cut(begin: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
        begin, end = tf.clip_by_value(begin, 0, size), tf.clip_by_value(end, 0, size)
        return tf.strings.substr(significant, begin, end - begin)

    first, ends = tf.ones_like(size), size
    rest = cut(first, ends)
    small = tf.where(rest == "", "", "." + rest)
    scientific = cut(tf.zeros_like(size), first) + small + "e" + tf.strings.as_string(point - 1)
    before = cut(tf.zeros_like(size), point) + zeros(point - size)
    behind = zeros(-point) + cut(tf.maximum(point, 0), ends)
    plain = tf.where(before == "", "0", before) + tf.where(behind == "", "", "." + behind)
    found = sign + tf.where((point > -6) & (point <= 21), plain, scientific)
    found = tf.where(significant == "", "0", found)
    return tf.where(tf.strings.regex_full_match(texts, _NO_DIGITS), texts, found)


# --- Times of another zone ------------------------------------------------------------------------

_ZONED = (
    rf"({DATE})[ T]([0-9]{{2}}):([0-9]{{2}})((?::[0-9]{{2}}(?:\.[0-9]{{1,9}})?)?) ?"
    r"([+-])([0-9]{2}):?([0-9]{2})?"
)


def _in_utc(texts: tf.Tensor) -> tf.Tensor:
    """2024-01-01 01:30:00+01:00 as 2024-01-01 00:30:00; a day that there is not stays."""
    day, seconds, sign = (_part(texts, _ZONED, number) for number in (1, 4, 5))
    hour, minute, hours, minutes = (
        tf.strings.to_number("0" + _part(texts, _ZONED, number), tf.int64)
        for number in (2, 3, 6, 7)
    )
    year, month, date = (
        tf.strings.to_number(tf.strings.substr(day, begin, size), tf.int64)
        for begin, size in ((0, 4), (5, 2), (8, 2))
    )
    days = _days(year, month, date)
    offset = tf.where(sign == "-", -1, 1) * tf.cast(hours * 60 + minutes, tf.int32)
    total = days * 1440 + hour * 60 + minute - tf.cast(offset, tf.int64)
    found_year, found_month, found_date = _date(total // 1440)
    clock = total % 1440
    parts = (
        (found_year, 4, "-"), (found_month, 2, "-"), (found_date, 2, " "),
        (clock // 60, 2, ":"), (clock % 60, 2, ""),
    )  # fmt: skip
    text = tf.strings.join(
        [tf.strings.as_string(number, width=width, fill="0") + end for number, width, end in parts]
    )
    again = _date(days)
    real = (again[1] == month) & (again[2] == date)
    inside = (hour < 24) & (minute < 60) & (hours < 24) & (minutes < 60)
    inside &= (found_year >= 1) & (found_year <= 9999) & (year >= 1)
    return tf.where(real & inside, text + seconds, texts)


def _days(year: tf.Tensor, month: tf.Tensor, date: tf.Tensor) -> tf.Tensor:
    """Days since 1970-01-01 of a date of the Gregorian calendar.

    Reference: Howard Hinnant, chrono-compatible low-level date algorithms, days_from_civil.
    """
    year = tf.where(month <= 2, year - 1, year)
    era, of_era = year // 400, year % 400
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + date - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


def _date(days: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Year, month and day of a number of days since 1970-01-01; civil_from_days, as above."""
    days += 719_468
    era, of_era = days // 146_097, days % 146_097
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    shifted = (5 * of_year + 2) // 153
    date = of_year - (153 * shifted + 2) // 5 + 1
    month = tf.where(shifted < 10, shifted + 3, shifted - 9)
    return tf.where(month <= 2, year + era * 400 + 1, year + era * 400), month, date
