"""Numbers of whole columns: texts read as numbers, and what does not fit a field's type."""

from __future__ import annotations

import decimal
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from estimator_lib.core import values as grammar
from estimator_lib.core.columns import MISSING_INT

Array = np.ndarray[Any, Any]
Faults = list[tuple[str, Array]]
"""What is wrong, in one word, and the rows where it is."""
FLOAT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
FLOAT_LIMIT = float(np.finfo(np.float32).max)


def parsed(text: pa.Array, target: pa.DataType) -> tuple[pa.Array, Faults]:
    """Converts texts (null = missing) to int64 or float64; with the rows that are no number."""
    try:
        for mark in "xX" if target == pa.int64() else "":
            if pc.any(pc.match_substring(text, mark)).as_py():
                raise pa.ArrowInvalid("hexadecimal")
        try:
            numbers = pc.cast(text, target)
        except pa.ArrowInvalid:
            if target != pa.int64():
                raise
            # pandas writes integers with a gap among them as 1.0.
            numbers = pc.cast(pc.replace_substring_regex(text, r"\.0+$", ""), target)
        if target == pa.int64() and pc.min(numbers).as_py() == MISSING_INT:
            raise pa.ArrowInvalid("the integer that stands for a missing value")
    except pa.ArrowInvalid:
        numbers, unparsable = _numbers_one_by_one(text, target)
        if len(unparsable):
            return numbers, [("parse", unparsable)]
    return numbers, []


def converted(numbers: pa.Array, target: pa.DataType) -> tuple[pa.Array, Faults]:
    """Brings int64 or float64 numbers to one of these types; with the rows that do not fit it."""
    if pa.types.is_integer(numbers.type):
        if target == pa.float64():
            return numbers.cast(target, safe=False), []
        wrong = pc.fill_null(pc.equal(numbers, pa.scalar(MISSING_INT, target)), False)
    elif target == pa.float64():
        return numbers, []
    else:
        whole = pc.and_(pc.equal(numbers, pc.floor(numbers)), pc.less(pc.abs(numbers), 2.0**63))
        wrong = pc.fill_null(pc.invert(whole), False)
    faulty = np.flatnonzero(wrong.to_numpy(zero_copy_only=False))
    if len(faulty):
        numbers = pc.if_else(wrong, pa.scalar(None, numbers.type), numbers)
    return numbers.cast(target), [("parse", faulty)] if len(faulty) else []


def checked(
    numbers: pa.Array,
    faults: Faults,
    *,
    low: float | None,
    high: float | None,
    as_int: bool,
    category: bool,
) -> tuple[pa.Array, Faults]:
    """Returns numbers that a field can take, and rows at fault: "parse", "finite", "range".

    Args:
        numbers: int64 or float64, null = missing.
        faults: What is known of them already.
        low: The smallest that the field allows, or None.
        high: The largest.
        as_int: Whether the field's type is int64.
        category: Whether it is a class, so that a fraction is at fault.
    """
    target = numbers.type
    values = numbers.to_numpy(zero_copy_only=False) if target == pa.float64() else None
    with np.errstate(invalid="ignore"):
        if values is not None:
            valid = numbers.is_valid().to_numpy(zero_copy_only=False)
            infinite = valid & ~(np.abs(values) <= FLOAT_LIMIT)
            if infinite.any():
                faults.append(("finite", np.flatnonzero(infinite)))
                valid &= ~infinite
            if category:
                fraction = valid & (values != np.floor(values))
                if fraction.any():
                    faults.append(("parse", np.flatnonzero(fraction)))
                    valid &= ~fraction
        else:
            valid = numbers.is_valid().to_numpy(zero_copy_only=False)
            values = numbers.fill_null(0).to_numpy(zero_copy_only=False)
        outside = np.zeros(len(valid), bool)
        if low is not None:
            outside |= values < low
        if high is not None:
            outside |= values > high
    outside &= valid
    if outside.any():
        faults.append(("range", np.flatnonzero(outside)))
    if as_int and target == pa.float64():
        whole = np.where(valid & ~outside, values, 0).astype(np.int64)
        numbers = pa.array(whole, mask=~(valid & ~outside))
    return numbers, faults


def _numbers_one_by_one(text: pa.Array, target: pa.DataType) -> tuple[pa.Array, Array]:
    """Converts by the grammar itself, once per distinct text; returns also the rows refused."""
    encoded = text.dictionary_encode()
    convert = _whole_number if target == pa.int64() else _real_number
    found = [convert(token.strip(" \t")) for token in encoded.dictionary.to_pylist()]
    if not found:
        return pa.nulls(len(text), target), np.array([], np.int64)
    numbers = pa.array(found, target).take(encoded.indices)
    refused = pa.array([value is None for value in found]).take(encoded.indices)
    wrong = pc.fill_null(refused, False)
    return numbers, np.flatnonzero(wrong.to_numpy(zero_copy_only=False))


def _whole_number(text: str) -> int | None:
    """The integer that a text is, such as 7, 7.0 or true; None if it is none that fits."""
    if FLOAT.fullmatch(text):
        if not abs(float(text)) <= 2.0**63:
            return None
        number: decimal.Decimal | None = decimal.Decimal(text)
    else:
        number = grammar.to_number(text)
    if number is None or number != number.to_integral_value():
        return None
    return int(number) if MISSING_INT < number < 2**63 else None


def _real_number(text: str) -> float | None:
    """The number that a text is; infinite if it says so, None if it is none."""
    if FLOAT.fullmatch(text):
        return float(text)
    if text.lower().lstrip("+-") in ("inf", "infinity", "nan"):
        return float("inf")
    number = grammar.to_number(text)
    return None if number is None else float(number)
