"""`core.values` for Arrow columns: any physical type -> texts and numbers, whole columns at once.

What a column is stored as ends here. `plain` gives int64, float64 or texts; `texts` the
one text of each value; `kinds` what texts are; `canonical` the texts of a field whose logical type
is known. Only distinct values that no Arrow kernel can write are written one by one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from estimator_lib.core import values
from estimator_lib.core.values import Logical
from transforms.reading.lists import Lists

Array = np.ndarray[Any, Any]

_WHOLE = rf"^(?:{values.INTEGER})$"
_CANDIDATE = r"^(?:-?[.0-9]|[tT]rue$|TRUE$|[fF]alse$|FALSE$|[\[{]|[0-9a-fA-F]{8}-)"
"""What a text of any kind but `TEXT` begins with."""
_FRACTION = r"^-?(?:0|[1-9][0-9]{0,20})\.[0-9]*$"
_WHOLE_FRACTION = r"^-?[0-9]+\.0*$"
_INT64 = rf"^(?:-?(?:0|[1-9][0-9]{{0,17}})|{'|'.join(values.TRUE + values.FALSE)})$"
_NUMBER = r"^-?(?:0|[1-9][0-9]{0,20})(?:\.[0-9]*)?$"
_NUMERIC = {Logical.INTEGER, Logical.REAL}
_PLAIN_DATE = rf"^{values.DATE}$"
_PLAIN_MOMENT = (
    r"^(?:000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})-[0-9]{2}-[0-9]{2}"
    r"(?: [0-9]{2}:[0-9]{2}:[0-9]{2})?$"
)
_CANONICAL = (
    r"^(?:0|-?[1-9][0-9]{0,20})$",
    r"^-?(?:0|[1-9][0-9]{0,20})\.0{0,5}(?:[1-9]|[1-9][0-9]*[1-9])$",
    _PLAIN_DATE,
    rf"^{values.DATE} (?:[0-9]{{2}}:[0-9]{{2}}:(?:0[1-9]|[1-5][0-9])|[0-9:]{{8}}\.[0-9]*[1-9])$",
)
"""Most texts that are canonical already; the others are looked at one by one."""
_STRING = pa.string()


# --- Physical types -----------------------------------------------------------------------------


def is_list(kind: pa.DataType) -> bool:
    """Whether a field of this Arrow type holds several values per record."""
    views = pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind)
    return bool(
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or views
    )


def readable(kind: pa.DataType, *, several: bool = False) -> bool:
    """Whether a field of this Arrow type holds one value per record, or `several`."""
    if several and is_list(kind):
        return readable(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return readable(kind.storage_type)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return readable(kind.value_type)
    return not (is_list(kind) or pa.types.is_union(kind) or pa.types.is_interval(kind))


def type_of(kind: pa.DataType) -> str:
    """Returns "int", "float" or "string" for an Arrow type, with "[]" if it is a list."""
    if is_list(kind):
        return f"{type_of(kind.value_type)}[]"
    if isinstance(kind, pa.BaseExtensionType) and not isinstance(kind, pa.UuidType):
        return type_of(kind.storage_type)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return type_of(kind.value_type)
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return "int"
    real = (pa.types.is_floating, pa.types.is_decimal, pa.types.is_duration)
    return "float" if any(is_real(kind) for is_real in real) else "string"


def plain(column: pa.Array) -> tuple[pa.Array, Array]:
    """Returns a column as int64, float64 (NaN is null) or string; and the rows that are no text.

    Booleans are 1 and 0. A list column becomes a list of these. Of float32 the number is the
    decimal one that it stands for: 0.1, not 0.10000000149.
    """
    kind = column.type
    none = np.zeros(0, np.int64)
    if isinstance(kind, pa.UuidType):
        return _uuids(column), none
    if isinstance(kind, pa.BaseExtensionType):
        return plain(column.storage)
    if is_list(kind):
        lists = Lists.of(column)
        flat, wrong = plain(lists.values)
        return lists.holding(flat).to_arrow(), lists.parents[wrong]
    if pa.types.is_dictionary(kind):
        return plain(column.dictionary_decode())
    if pa.types.is_run_end_encoded(kind):
        return plain(pc.run_end_decode(column))
    if pa.types.is_floating(kind):
        numbers = column.cast(pa.float64()) if kind == pa.float64() else _shortest(column)
        return pc.if_else(pc.is_nan(numbers), pa.scalar(None, pa.float64()), numbers), none
    if pa.types.is_boolean(kind):
        return column.cast(pa.int8()).cast(pa.int64()), none
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return column.cast(pa.int64()), none
    if pa.types.is_nested(kind):
        rows = [
            None if row is None else values.json_text(_keyed(row)) for row in column.to_pylist()
        ]
        return pa.array(rows, _STRING), none
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _moments(column), none
    if pa.types.is_time(kind):
        return _unpadded(column.cast(_STRING)), none
    if pa.types.is_duration(kind):
        return _durations(column), none
    if pa.types.is_decimal(kind):
        return canonical(column.cast(_STRING), Logical.REAL), none
    if _is_bytes(kind):
        return _decoded(column)
    return column.cast(_STRING), none  # uint64, nothing but nulls


def _is_bytes(kind: pa.DataType) -> bool:
    is_type = pa.types
    return bool(
        is_type.is_binary(kind)
        or is_type.is_large_binary(kind)
        or is_type.is_fixed_size_binary(kind)
        or is_type.is_string(kind)
        or is_type.is_large_string(kind)
        or kind in (pa.string_view(), pa.binary_view())
    )


def _decoded(column: pa.Array) -> tuple[pa.Array, Array]:
    """Bytes as texts, and the rows that are none: not UTF-8, or with NUL."""
    if column.type == pa.string_view():
        column = column.cast(_STRING)
    if pa.types.is_fixed_size_binary(column.type) or column.type == pa.binary_view():
        column = column.cast(pa.binary())
    raw = column.cast(pa.large_binary()).cast(pa.binary())
    wrong = pc.fill_null(pc.match_substring(raw, b"\0"), False).to_numpy(zero_copy_only=False)
    try:
        text = raw.cast(_STRING)
    except pa.ArrowInvalid:
        decoded = [_text_of(value) for value in raw.to_pylist()]
        wrong = wrong | np.array([value is False for value in decoded])
        text = pa.array([value or None for value in decoded], _STRING)
    return text, np.flatnonzero(wrong)


def _text_of(value: bytes | None) -> str | bool | None:
    """The text; None if there is none, False if it is not one."""
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return False


def _keyed(row: Any) -> Any:
    """A map as an object; Arrow gives its pairs."""
    pairs = isinstance(row, list) and row and all(isinstance(p, tuple) for p in row)
    return dict(row) if pairs else row


def _shortest(column: pa.Array) -> pa.Array:
    """The float64 numbers whose shortest decimal texts those of a narrower float are.

    A whole number below 2**53 divided by (or times) a power of ten up to 1e22 is rounded once, so
    it is what reading the text would give.
    """
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    narrow = column.fill_null(0).to_numpy(zero_copy_only=False)
    found = narrow.astype(np.float64)
    few = 3 if narrow.dtype == np.float16 else 6
    with np.errstate(over="ignore", invalid="ignore"):
        huge = np.flatnonzero(np.isfinite(found) & (np.abs(found) >= 1e22))
        left = np.flatnonzero((np.abs(found) < 1e22) & (np.abs(found) > 0))
        for places in range(6):  # at most `few` digits tell each number apart
            numbers = found[left]
            rounded = np.rint(numbers * 10.0**places)
            short = np.abs(rounded) < 10.0**few
            rounded /= 10.0**places
            same = short & (rounded.astype(narrow.dtype) == narrow[left])
            found[left[same]] = rounded[same]
            left = left[~same]
        for digits in range(few, 10):
            numbers = found[left]
            places = digits - 1 - np.floor(np.log10(np.abs(numbers))).astype(np.int64)
            up, down = 10.0 ** np.clip(places, 0, 22), 10.0 ** np.clip(-places, 0, 22)
            rounded = np.rint(numbers * up / down) / up * down
            same = (rounded.astype(narrow.dtype) == narrow[left]) & (np.abs(places) <= 22)
            found[left[same]] = rounded[same]
            left = left[~same]
    odd = np.concatenate([huge, left])
    if len(odd):  # tiny or huge: few, and read from their texts
        found[odd] = [float(str(value)) for value in narrow[odd]]
    return pa.array(found, mask=~valid)


def _uuids(column: pa.Array) -> pa.Array:
    valid = column.is_valid()
    raw = pc.if_else(valid, column.storage.cast(pa.binary()), pa.scalar(bytes(16), pa.binary()))
    joined = b"".join(raw.to_pylist())
    digits = np.frombuffer(joined.hex().encode(), np.uint8).reshape(-1, 32)
    dashes = np.full((len(digits), 1), ord("-"), np.uint8)
    cuts = np.split(digits, [8, 12, 16, 20], axis=1)
    parts = [part for cut in cuts for part in (dashes, cut)][1:]
    content = np.ascontiguousarray(np.hstack(parts))
    offsets = np.arange(len(digits) + 1, dtype=np.int32) * 36
    text = pa.StringArray.from_buffers(len(digits), pa.py_buffer(offsets), pa.py_buffer(content))
    return pc.if_else(valid, text, pa.scalar(None, _STRING))


def _moments(column: pa.Array) -> pa.Array:
    """Dates and timestamps of any unit and zone as texts: in UTC, at midnight the date alone."""
    if pa.types.is_date32(column.type):
        return column.cast(_STRING)
    if pa.types.is_date64(column.type):
        column = column.cast(pa.timestamp("ms"))
    naive = pa.timestamp(column.type.unit)
    encoded = column.cast(pa.int64()).dictionary_encode()
    text = _unpadded(encoded.dictionary.cast(naive).cast(_STRING))
    text = pc.replace_substring_regex(text, r" 00:00:00$", "")
    return text.take(encoded.indices)


def _unpadded(text: pa.Array) -> pa.Array:
    """Times without the zeros at the end of their fraction."""
    text = pc.replace_substring_regex(text, r"\.0+$", "")
    return pc.replace_substring_regex(text, r"(\.[0-9]*[1-9])0+$", r"\1")


_UNITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}


def _durations(column: pa.Array) -> pa.Array:
    """Durations as texts of their seconds."""
    encoded = column.cast(pa.int64()).dictionary_encode()
    places = _UNITS[column.type.unit]
    seconds = [f"{value}e-{places}" for value in encoded.dictionary.to_pylist()]
    return canonical(pa.array(seconds, _STRING), Logical.REAL).take(encoded.indices)


# --- Texts --------------------------------------------------------------------------------------


def texts(column: pa.Array) -> pa.Array:
    """Returns what `plain` gave (no lists) as texts: the canonical ones of what is no text."""
    if pa.types.is_string(column.type):
        return column
    if not pa.types.is_floating(column.type):
        return column.cast(_STRING)
    whole = pc.and_(pc.equal(column, pc.floor(column)), pc.less(pc.abs(column), 2.0**53))
    as_int = pc.if_else(whole, column, pa.scalar(None, pa.float64())).cast(pa.int64())
    written = column.cast(_STRING)
    if not pc.all(whole, min_count=0).as_py():
        written = canonical(written, Logical.REAL)  # 1e+16 is 10000000000000000
    return pc.if_else(whole, as_int.cast(_STRING), written)


def kinds(distinct: pa.Array) -> frozenset[Logical]:
    """Returns the kinds of texts; of any beside `TEXT`, that alone, for it decides.

    Args:
        distinct: Strings without null or empty text, each preferably once.
    """
    rest = distinct.filter(pc.invert(pc.match_substring_regex(distinct, _WHOLE)))
    found = {Logical.INTEGER} if len(rest) < len(distinct) else set()
    if not pc.all(pc.match_substring_regex(rest, _CANDIDATE), min_count=0).as_py():
        return frozenset({Logical.TEXT})
    for pattern, kind in (
        (_WHOLE_FRACTION, Logical.INTEGER),
        (_FRACTION, Logical.REAL),
        (_PLAIN_DATE, Logical.DATE),
    ):
        if not len(rest):
            break
        matched = pc.match_substring_regex(rest, pattern)
        if kind is Logical.INTEGER:  # 007.0 is none
            matched = pc.and_(matched, pc.match_substring_regex(rest, _FRACTION))
        left = rest.filter(pc.invert(matched))
        found |= {kind} if len(left) < len(rest) else set()
        rest = left
    for text in rest.to_pylist():
        found.add(values.narrow(text)[0])
        if Logical.TEXT in found:
            return frozenset({Logical.TEXT})
    return frozenset(found)


def narrowest(texts: pa.Array) -> str:
    """Returns the narrowest type that reads texts as the numbers they are: int, float or string.

    A text with a fraction is a float, 1.0 too, as a column that it was written from was.

    Args:
        texts: Strings without null or empty text.
    """
    if pc.all(pc.match_substring_regex(texts, _INT64), min_count=0).as_py():
        return "int"
    if pc.all(pc.match_substring_regex(texts, _NUMBER), min_count=0).as_py():
        return "float"
    return "float" if kinds(texts) <= _NUMERIC else "string"


def canonical(column: pa.Array, logical: Logical | None) -> pa.Array:
    """Returns the texts of a field in their canonical form, null and empty ones as they are.

    Args:
        column: Strings.
        logical: The field's type; None writes each value as the kind that it is by itself, for
            values whose field is not known.
    """
    if logical is Logical.TEXT or not len(column):
        return column
    encoded = column.dictionary_encode()
    distinct = encoded.dictionary
    strange = _uncanonical(distinct)
    if not len(strange):
        return column
    found = distinct.to_pylist() if len(strange) > len(distinct) // 2 else None
    written = [
        values.narrow(text)[1] if logical is None else values.canonical(text, logical)
        for text in (distinct.take(strange).to_pylist() if found is None else
                     [found[i] for i in strange.to_pylist()])
    ]  # fmt: skip
    mask = np.zeros(len(distinct), bool)
    mask[strange.to_numpy()] = True
    changed = pc.replace_with_mask(distinct, pa.array(mask), pa.array(written, _STRING))
    return changed.take(encoded.indices)


def seconds(distinct: pa.Array) -> Array:
    """Returns the moments that texts are, float64 seconds since 1970 in UTC; NaN for no date."""
    found = np.full(len(distinct), np.nan)
    plain = pc.fill_null(pc.match_substring_regex(distinct, _PLAIN_MOMENT), False)
    at = pc.indices_nonzero(plain)
    try:
        moments = distinct.take(at).cast(pa.timestamp("s"))
        found[at.to_numpy()] = moments.cast(pa.int64()).to_numpy(zero_copy_only=False)
        at = pc.indices_nonzero(pc.invert(plain))
    except pa.ArrowInvalid:  # 30 February among them
        at = pa.array(np.arange(len(distinct)))
    for place, text in zip(at.to_pylist(), distinct.take(at).to_pylist(), strict=True):
        moment = values.seconds(text or "")
        found[place] = np.nan if moment is None else float(moment)
    return found


def _uncanonical(distinct: pa.Array) -> pa.Array:
    """Positions of texts that may have another canonical form than they have."""
    suspect = pc.match_substring_regex(distinct, _CANDIDATE)
    for pattern in _CANONICAL:
        if not pc.any(suspect).as_py():
            return pa.array([], pa.uint64())
        suspect = pc.and_not(suspect, pc.match_substring_regex(distinct, pattern))
    return pc.indices_nonzero(pc.fill_null(suspect, False))
