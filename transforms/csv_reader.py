"""CSV files as typed Arrow record batches, with faults located by file and line.

The one CSV parser of the project: RFC 4180 (quoted delimiters, doubled quotes, line breaks
inside quotes), LF or CRLF, an optional UTF-8 byte order mark, gzip and zstd recognised by their
first bytes. A file is read in blocks of whole records; a block is parsed by pyarrow with every
field as text, then converted to the declared types at once. Only when a block is refused is it
parsed again record by record, to say which line is at fault.

A text is missing only if it is one of the declared tokens; an empty text of a string field is
always missing, for nothing downstream tells the two apart. Numbers are written as in Python,
without "_", "nan", "inf" or "0x"; they must be finite as float32 (int fields: as int64).
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import hashlib
import io
import itertools
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from estimator_lib.core.columns import MISSING_INT
from estimator_lib.core.errors import DataError, Reason, SchemaError, did_you_mean, quote
from transforms.files import InputFile
from transforms.problems import SHOWN, Problem, Problems

BLOCK_BYTES = 8 << 20
"""Bytes of one block, before it is cut at its last whole record."""
MAX_RECORD_BYTES = 64 << 20
"""A record longer than this is taken for an unclosed quote."""
HEADER_BYTES = 1 << 16
"""How much of a file is looked at for its header."""
FLOAT_LIMIT = float(np.finfo(np.float32).max)

_INT = re.compile(r"[+-]?\d+", re.ASCII)
_FLOAT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_ARROW_TYPES = {"string": pa.string(), "int": pa.int64(), "float": pa.float64()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Field:
    """A field to read.

    Attributes:
        name: Its name in the header.
        type: "string", "int" or "float"; `category` reads an integral float such as "1.0" as
            an integer too.
        low: Smallest value allowed, or None.
        high: Largest value allowed, or None.
        category: Whether the number is a class.
        reason: Reason of the error for a value outside the limits.
        role: What the error calls the field.
    """

    name: str
    type: str
    low: float | None = None
    high: float | None = None
    category: bool = False
    reason: Reason = Reason.INVALID_VALUE
    role: str = "Field"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """How records are written, and which fields are wanted of them.

    Attributes:
        delimiter: One character between fields.
        missing: Texts that stand for a missing value.
        fields: Fields to convert to their types.
        texts: Fields that are also wanted as they are written.
    """

    delimiter: str = ","
    missing: tuple[str, ...] = ("",)
    fields: tuple[Field, ...] = ()
    texts: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """All fields that a file must have."""
        return list(dict.fromkeys([*(f.name for f in self.fields), *self.texts]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rows:
    """Some whole records of a file, in the file's order.

    Attributes:
        batch: One column per field of the layout: string, int64 or float64, null = missing.
        texts: Fields as written, string; "" where missing.
        problems: Faults found; the records at fault are not in `batch`.
        line_of: Gives the line of a row of `batch`.
    """

    batch: pa.RecordBatch
    texts: Mapping[str, pa.Array]
    problems: Problems
    line_of: Callable[[int], int]


@dataclasses.dataclass(kw_only=True)
class ReadSummary:
    """What is known of a file when it was read to its end."""

    sha256: str = ""
    size_bytes: int = 0


# --- Bytes -------------------------------------------------------------------------------------


class _Digested(io.RawIOBase):
    """Reads a stream and keeps the SHA-256 and the number of bytes that went by."""

    def __init__(self, source: BinaryIO, *, wanted: bool) -> None:
        self._source = source
        self._hash = hashlib.sha256() if wanted else None
        self.size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._source.read(len(buffer))
        buffer[: len(data)] = data
        if self._hash is not None:
            self._hash.update(data)
        self.size += len(data)
        return len(data)

    def hexdigest(self) -> str:
        return self._hash.hexdigest() if self._hash is not None else ""

    def close(self) -> None:
        if not self.closed:
            self._source.close()
        super().close()


def _decompressed(raw: Any) -> Any:
    """A stream of the bytes behind gzip or zstd, recognised by their magic numbers."""
    magic = raw.peek(4)[:4]
    if magic[:2] == b"\x1f\x8b":
        return gzip.GzipFile(fileobj=raw)
    if magic == b"\x28\xb5\x2f\xfd":
        return pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")
    return raw


def _corrupt(file: InputFile, error: Exception) -> DataError:
    return DataError(
        f"File {file.name} is damaged: expected a complete compressed file, got "
        f"{str(error).rstrip('.')}. Copy the file again.",
        reason=Reason.CORRUPT_FILE,
    )


_DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, pa.ArrowInvalid, pa.ArrowIOError)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Block:
    """Whole records: their bytes, and the 1-based line on which they start."""

    data: bytes
    line: int
    last: bool


def _record_end(data: bytes) -> int:
    """Where the last whole record of `data` ends; 0 if there is none.

    `data` begins at a record, so a line break outside quotes has an even number of quotes
    before it.
    """
    end = data.rfind(b"\n") + 1
    if b'"' not in data:
        return end
    quotes = data.count(b'"', 0, end)
    while end and quotes % 2:
        before = data.rfind(b"\n", 0, end - 1) + 1
        quotes -= data.count(b'"', before, end)
        end = before
    return end


def _blocks(file: InputFile, summary: ReadSummary | None, block_bytes: int) -> Iterator[_Block]:
    """Yields the file's bytes in blocks of whole records; the first begins with the header."""
    digested = _Digested(file.open(), wanted=summary is not None)
    carry = b""
    line = 1
    with io.BufferedReader(digested, 1 << 20) as raw:
        try:
            source = _decompressed(raw)
            first = True
            while True:
                chunk = source.read(block_bytes)
                if first:
                    chunk = _without_mark(file, chunk)
                    first = False
                data = carry + chunk if carry else chunk
                if not chunk:
                    break
                end = _record_end(data)
                carry = data[end:]
                if end:
                    block = _Block(data=data[:end], line=line, last=False)
                    line += block.data.count(b"\n")
                    yield block
                elif len(carry) > MAX_RECORD_BYTES:
                    raise _unclosed(file, line).as_error()
        except _DAMAGED as error:
            raise _corrupt(file, error) from error
        except OSError as error:
            raise DataError(
                f"File {file.name} cannot be read: {error.strerror or error}.",
                reason=Reason.IO,
            ) from error
        yield _Block(data=data, line=line, last=True)
        while raw.read(1 << 20):
            pass
        if summary is not None:
            summary.sha256, summary.size_bytes = digested.hexdigest(), digested.size


def _without_mark(file: InputFile, data: bytes) -> bytes:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(
            f"File {file.name} is not UTF-8: expected UTF-8 text, got UTF-16 at {file.name}:1. "
            "Convert the file to UTF-8.",
            reason=Reason.ENCODING,
        )
    return data[3:] if data[:3] == b"\xef\xbb\xbf" else data


# --- The slow parser: exact places --------------------------------------------------------------


def _records(data: bytes, line: int, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yields (line, fields) of every record that is not an empty line."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        reader = csv.reader(
            io.StringIO(data.decode(), newline=""), delimiter=delimiter, strict=False
        )
        start = line
        for record in reader:
            if record:
                yield start, record
            start = line + reader.line_num
    finally:
        csv.field_size_limit(before)


def _unclosed(file: InputFile, line: int) -> Problems:
    problem = Problem(
        file=file.name,
        line=line,
        field="",
        text="Record has an unclosed quote: expected a closing quote, got the end of the file",
        action='Close the quote, or double quotes that are part of the text ("").',
        reason=Reason.RECORD_MALFORMED,
    )
    return Problems.of([problem])


def _encoding_problem(file: InputFile, block: _Block) -> Problem | None:
    """The first byte of the block that is no text, if any."""
    position = block.data.find(b"\0")
    found = "a NUL byte"
    if position < 0:
        if block.data.isascii():
            return None
        try:
            block.data.decode()
        except UnicodeDecodeError as error:
            position = error.start
            found = f"byte 0x{block.data[position]:02x}"
        else:
            return None
    start = block.data.rfind(b"\n", 0, position) + 1
    return Problem(
        file=file.name,
        line=block.line + block.data.count(b"\n", 0, position),
        field="",
        text=(
            f"Text is not valid: expected UTF-8, got {found} at byte {position - start + 1} "
            "of the line"
        ),
        action="Convert the file to UTF-8 without NUL bytes.",
        reason=Reason.ENCODING,
    )


def _ends_in_quotes(data: bytes, delimiter: str) -> int | None:
    """The line offset of the last record if its quote is never closed, else None."""
    offset, last = 0, 0
    for last, _ in _records(data, 0, delimiter):
        offset = last
    text = b"".join(data.splitlines(keepends=True)[offset:]).decode()
    try:
        list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            return offset
    return None


# --- Header ---------------------------------------------------------------------------------------


def read_header(file: InputFile, delimiter: str = ",") -> list[str]:
    """Returns the names in a file's first record.

    Raises:
        DataError: the file cannot be read, is empty or is not text.
        SchemaError: a name appears twice.
    """
    block = next(_blocks(file, None, HEADER_BYTES))
    header, _ = _header(file, block, delimiter)
    return header


def _header(file: InputFile, block: _Block, delimiter: str) -> tuple[list[str], int]:
    """The names, and the number of lines they take."""
    fault = _encoding_problem(file, block)
    if fault is not None:
        raise Problems.of([fault]).as_error()
    beginning = block.data[:HEADER_BYTES]
    beginning = beginning[: _record_end(beginning)] or block.data
    records = _records(beginning, 1, delimiter)
    first = next(records, None)
    if first is None:
        raise DataError(
            f"File {file.name} is empty: expected a header with the names of the fields. "
            "Remove the file or write its header.",
            reason=Reason.EMPTY_INPUT,
        )
    names = first[1]
    following = next(records, None)
    lines = (following[0] if following else 1 + beginning.count(b"\n")) - 1
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise SchemaError(
            f"Header of {file.name} is ambiguous: expected every name once, got "
            f"{quote(twice[0])} {names.count(twice[0])} times at {file.name}:1. Rename the field.",
            reason=Reason.DUPLICATE,
        )
    return names, lines


def _without_lines(data: bytes, lines: int) -> bytes:
    """`data` behind its first lines; nothing if it is one line without an end."""
    ends = itertools.islice(re.finditer(rb"\r\n|\n|\r", data), lines)
    last = max((end.end() for end in ends), default=len(data))
    return data[last:]


def check_header(file: InputFile, header: Sequence[str], wanted: Sequence[str]) -> list[Problem]:
    """Returns a problem for every wanted field that the header lacks."""
    lacking = [name for name in wanted if name not in header]
    if wanted and len(lacking) == len(wanted):
        return [
            Problem(
                file=file.name,
                line=1,
                field=lacking[0],
                text=(
                    "File has no header: expected a first line with the fields "
                    f"{quote(', '.join(wanted))}, got {quote(', '.join(header))}"
                ),
                action="Write the names of the fields into the first line.",
                reason=Reason.FIELD_MISSING,
            )
        ]
    return [
        Problem(
            file=file.name,
            line=1,
            field=name,
            text=f"Field {name!r} is missing from the header",
            action=f"Add the field or change the configuration.{did_you_mean(name, header)}",
            reason=Reason.FIELD_MISSING,
        )
        for name in lacking
    ]


def infer_types(
    file: InputFile, names: Sequence[str], layout: Layout, rows: int = 1000
) -> dict[str, str]:
    """Returns the narrowest type that fits the first rows: int, float or string.

    A field without any value is a string.
    """
    block = next(_blocks(file, None, 1 << 20))
    records = _records(block.data, 1, layout.delimiter)
    _, header = next(records, (0, []))
    sample = [record for _, (_, record) in zip(range(rows), records, strict=False)]
    found = {}
    for name in names:
        at = header.index(name)
        texts = [r[at].strip(" \t") for r in sample if len(r) == len(header)]
        texts = [t for t in texts if t and t not in layout.missing]
        if texts and all(_INT.fullmatch(t) for t in texts):
            found[name] = "int"
        elif texts and all(_FLOAT.fullmatch(t) for t in texts):
            found[name] = "float"
        else:
            found[name] = "string"
    return found


# --- Rows -----------------------------------------------------------------------------------------


def read_rows(
    file: InputFile,
    layout: Layout,
    *,
    summary: ReadSummary | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[Rows]:
    """Yields the records of a file in its order, some megabytes at a time.

    Args:
        file: What to read.
        layout: How it is written and what is wanted.
        summary: Filled in when the file was read to its end.
        block_bytes: Size of a block; the rows of a file do not depend on it.

    Raises:
        DataError: the file cannot be read, is damaged, or its header is not text.
        SchemaError: the header is wrong. Faults in records do not raise: see `Rows.problems`.
    """
    header: list[str] | None = None
    for block in _blocks(file, summary, block_bytes):
        if header is None:
            header, lines = _header(file, block, layout.delimiter)
            Problems.of(check_header(file, header, layout.names)).raise_if_any()
            rest = _without_lines(block.data, lines)
            block = _Block(data=rest, line=1 + lines, last=block.last)
        if block.data.strip(b"\r\n") or (len(header) == 1 and block.data):
            yield _parse(file, header, layout, block)


def _parse(file: InputFile, header: list[str], layout: Layout, block: _Block) -> Rows:
    names = layout.names
    fault = _encoding_problem(file, block)
    if fault is not None:
        return _nothing(layout, Problems.of([fault]))
    if block.last and block.data.count(b'"') % 2:
        offset = _ends_in_quotes(block.data, layout.delimiter)
        if offset is not None:
            return _nothing(layout, _unclosed(file, block.line + offset))
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(block.data),
            read_options=pyarrow.csv.ReadOptions(column_names=header),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=layout.delimiter,
                newlines_in_values=b'"' in block.data,
                ignore_empty_lines=len(header) > 1,
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                check_utf8=False,
                column_types=dict.fromkeys(header, pa.string()),
                include_columns=names,
                strings_can_be_null=False,
            ),
        )
        columns = {name: _one_chunk(table.column(name)) for name in names}
    except pa.ArrowInvalid:
        good, problems = _diagnose(file, header, layout, block)
        if problems.total:
            return _nothing(layout, problems)
        columns = {
            name: pa.array([r[header.index(name)] for r in good], pa.string()) for name in names
        }
    return _typed(file, header, layout, block, columns)


def _diagnose(
    file: InputFile, header: list[str], layout: Layout, block: _Block
) -> tuple[list[list[str]], Problems]:
    """The records of a block that pyarrow refused, and those with a wrong number of fields."""
    good: list[list[str]] = []
    bad: list[Problem] = []
    total = 0
    for line, record in _records(block.data, block.line, layout.delimiter):
        if len(record) == len(header):
            good.append(record)
            continue
        total += 1
        if len(bad) < SHOWN:
            bad.append(
                Problem(
                    file=file.name,
                    line=line,
                    field="",
                    text=(
                        f"Record has the wrong length: expected {len(header)} fields as in the "
                        f"header, got {len(record)}"
                    ),
                    action="Repair the record; quote fields that hold the delimiter.",
                    reason=Reason.RECORD_MALFORMED,
                )
            )
    return good, Problems.of(bad, total=total)


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined


def _nothing(layout: Layout, problems: Problems) -> Rows:
    empty = {f.name: pa.array([], _ARROW_TYPES[f.type]) for f in layout.fields}
    return Rows(
        batch=pa.RecordBatch.from_pydict(empty),
        texts={name: pa.array([], pa.string()) for name in layout.texts},
        problems=problems,
        line_of=lambda _: 0,
    )


def _typed(
    file: InputFile,
    header: list[str],
    layout: Layout,
    block: _Block,
    columns: Mapping[str, pa.Array],
) -> Rows:
    lines: list[int] = []

    def line_of(row: int) -> int:
        if not lines:
            single = len(header) == 1
            found = [n for n, _ in _records(block.data, block.line, layout.delimiter)]
            lines.extend(found if not single else range(block.line, block.line + len(columns)))
        return lines[row]

    tokens = pa.array(sorted(layout.missing), pa.string())
    missing_or_empty = pa.array(sorted({*layout.missing, ""}), pa.string())
    problems = Problems()
    bad_rows: list[np.ndarray[Any, Any]] = []
    typed: dict[str, pa.Array] = {}
    for field in layout.fields:
        text = columns[field.name]
        if field.type == "string":
            missing = pc.is_in(text, value_set=missing_or_empty)
            typed[field.name] = pc.if_else(missing, pa.scalar(None, pa.string()), text)
            continue
        present = pc.if_else(pc.is_in(text, value_set=tokens), pa.scalar(None, pa.string()), text)
        values, faults = _numbers(field, present)
        typed[field.name] = values
        if faults:
            bad_rows += [rows for _, rows in faults]
            for cause, rows in faults:
                found = [
                    _value_problem(
                        file, field, layout, cause, text[int(r)].as_py(), line_of(int(r))
                    )
                    for r in rows[:SHOWN]
                ]
                problems += Problems.of(found, total=len(rows))
    texts = {}
    for name in layout.texts:
        text = columns[name]
        missing = pc.is_in(text, value_set=missing_or_empty)
        texts[name] = pc.if_else(missing, pa.scalar("", pa.string()), text)
    batch = pa.RecordBatch.from_pydict(typed)
    if bad_rows:
        keep = np.ones(batch.num_rows, bool)
        keep[np.concatenate(bad_rows)] = False
        batch = batch.filter(pa.array(keep))
        texts = {name: text.filter(pa.array(keep)) for name, text in texts.items()}
        kept = np.flatnonzero(keep)
        return Rows(
            batch=batch,
            texts=texts,
            problems=problems,
            line_of=lambda row: line_of(int(kept[row])),
        )
    return Rows(batch=batch, texts=texts, problems=problems, line_of=line_of)


# --- Numbers --------------------------------------------------------------------------------------

_Faults = list[tuple[str, "np.ndarray[Any, Any]"]]


def _numbers(field: Field, text: pa.Array) -> tuple[pa.Array, _Faults]:
    """Converts texts (null = missing) to numbers.

    Returns:
        The numbers, and rows at fault by cause: "parse", "finite", "range".
    """
    as_int = field.type == "int"
    target = pa.int64() if as_int and not field.category else pa.float64()
    faults: _Faults = []
    try:
        if target == pa.int64() and pc.any(pc.match_substring(text, "x", ignore_case=True)).as_py():
            raise pa.ArrowInvalid("hexadecimal")
        numbers = pc.cast(text, target)
        if target == pa.int64() and pc.min(numbers).as_py() == MISSING_INT:
            raise pa.ArrowInvalid("the integer that stands for a missing value")
    except pa.ArrowInvalid:
        numbers, unparsable = _numbers_one_by_one(text, target)
        if len(unparsable):
            faults.append(("parse", unparsable))
    values = numbers.to_numpy(zero_copy_only=False) if target == pa.float64() else None
    with np.errstate(invalid="ignore"):
        if values is not None:
            valid = numbers.is_valid().to_numpy(zero_copy_only=False)
            infinite = valid & ~(np.abs(values) <= FLOAT_LIMIT)
            if infinite.any():
                faults.append(("finite", np.flatnonzero(infinite)))
                valid &= ~infinite
            if field.category:
                fraction = valid & (values != np.floor(values))
                if fraction.any():
                    faults.append(("parse", np.flatnonzero(fraction)))
                    valid &= ~fraction
        else:
            valid = numbers.is_valid().to_numpy(zero_copy_only=False)
            values = numbers.fill_null(0).to_numpy(zero_copy_only=False)
        outside = np.zeros(len(valid), bool)
        if field.low is not None:
            outside |= values < field.low
        if field.high is not None:
            outside |= values > field.high
    outside &= valid
    if outside.any():
        faults.append(("range", np.flatnonzero(outside)))
    if as_int and target == pa.float64():
        whole = np.where(valid & ~outside, values, 0).astype(np.int64)
        numbers = pa.array(whole, mask=~(valid & ~outside))
    return numbers, faults


def _numbers_one_by_one(
    text: pa.Array, target: pa.DataType
) -> tuple[pa.Array, np.ndarray[Any, Any]]:
    """Converts by the grammar itself, once per distinct text; returns also the rows refused."""
    encoded = text.dictionary_encode()
    grammar = _INT if target == pa.int64() else _FLOAT
    convert: Callable[[str], Any] = int if target == pa.int64() else float
    values: list[Any] = []
    refused: list[bool] = []
    for token in encoded.dictionary.to_pylist():
        trimmed = token.strip(" \t")
        value = convert(trimmed) if grammar.fullmatch(trimmed) else None
        if target == pa.int64() and value is not None and not MISSING_INT < value < 2**63:
            value = None
        if target == pa.float64() and trimmed.lower().lstrip("+-") in ("inf", "infinity", "nan"):
            value = float("inf")
        values.append(value)
        refused.append(value is None)
    indices = encoded.indices
    if not values:
        return pa.nulls(len(text), target), np.array([], np.int64)
    numbers = pa.array(values, target).take(indices)
    wrong = pc.fill_null(pa.array(refused).take(indices), False)
    return numbers, np.flatnonzero(wrong.to_numpy(zero_copy_only=False))


def _value_problem(
    file: InputFile, field: Field, layout: Layout, cause: str, text: str, line: int
) -> Problem:
    kind = "an integer" if field.type == "int" else "a number"
    if cause == "parse":
        expected = f"{kind} or a missing token {list(layout.missing)}"
        what = f"{field.role} {field.name!r} cannot be read: expected {expected}"
        action = (
            f"Correct the value, or add {quote(text)} to data.missing if it stands for a "
            "missing value."
        )
        reason = Reason.VALUE_UNPARSABLE
    elif cause == "finite":
        what = f"{field.role} {field.name!r} is not finite: expected a finite float32 number"
        action = (
            f"Correct the value, or add {quote(text)} to data.missing if it stands for a "
            "missing value."
        )
        reason = Reason.NOT_FINITE
    else:
        limits = (
            f"{kind} of at least {field.low:g}"
            if field.high is None
            else f"{kind} from {field.low:g} to {field.high:g}"
        )
        what = f"{field.role} {field.name!r} is out of range: expected {limits}"
        action = "Correct the value or the configuration."
        reason = field.reason
    return Problem(
        file=file.name,
        line=line,
        field=field.name,
        text=f"{what}, got {quote(text)}",
        action=action,
        reason=reason,
    )
