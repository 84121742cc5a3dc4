"""CSV files as typed Arrow record batches, with faults located by file and line.

The one CSV parser of the project: RFC 4180 (quoted delimiters, doubled quotes, line breaks
inside quotes), LF or CRLF, an optional UTF-8 byte order mark, gzip and zstd recognised by their
first bytes. A file is read in blocks of whole records; a block is parsed by pyarrow with every
field as text, then converted to the declared types at once. Only when a block is refused is it
parsed again record by record, to say which line is at fault.

What counts as missing and as a number is said in `rows`.
"""

from __future__ import annotations

import codecs
import csv
import dataclasses
import gzip
import io
import itertools
import os
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.csv

from estimator_lib.core.errors import (
    DataError,
    EstimatorLibError,
    Reason,
    SchemaError,
    did_you_mean,
    quote,
)
from transforms.files import InputFile, Part
from transforms.problems import Problem, Problems
from transforms.rows import (
    FLOAT,
    INT,
    Digested,
    Field,
    Layout,
    ReadSummary,
    Rows,
    Stretch,
    no_rows,
    typed_rows,
)

__all__ = ["Field", "Layout", "ReadSummary", "Rows", "infer_types", "read_header", "read_rows"]

BLOCK_BYTES = 8 << 20
"""Bytes of one block, before it is cut at its last whole record."""
MAX_RECORD_BYTES = 64 << 20
"""A record longer than this is taken for an unclosed quote."""
HEADER_BYTES = 1 << 16
"""How much of a file is looked at for its header."""


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


class _Recoded:
    """A stream of UTF-8 bytes behind another encoding."""

    def __init__(self, source: Any, file: InputFile, encoding: str) -> None:
        self._source = source
        self._file = file
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()

    def read(self, size: int) -> bytes:
        while True:
            data = self._source.read(size)
            try:
                text = self._decoder.decode(data, final=not data).encode()
            except UnicodeError as error:
                raise DataError(
                    f"File {self._file.name} is not {self._encoding}: expected text in the "
                    f"encoding of the configuration, got bytes that are none "
                    f"({getattr(error, 'reason', error)}). Correct data.encoding.",
                    reason=Reason.ENCODING,
                ) from error
            if text or not data:
                return text


def _blocks(
    file: InputFile, summary: ReadSummary | None, block_bytes: int, encoding: str
) -> Iterator[_Block]:
    """Yields the file's bytes in blocks of whole records; the first begins with the header."""
    digested = Digested(stream(file), wanted=summary is not None)
    carry = b""
    line = _first_line(file)
    with io.BufferedReader(digested, 1 << 20) as raw:
        try:
            source = _decompressed(raw)
            if codecs.lookup(encoding).name != "utf-8":
                source = _Recoded(source, file, encoding)
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


def stream(file: InputFile) -> BinaryIO:
    """Opens a file; of a part, its header and its bytes."""
    part = file.part
    source = file.open()
    if part is None:
        return source
    return cast(BinaryIO, Stretch(part.header, source, part.begin, part.end))


def _first_line(file: InputFile) -> int:
    """The line that what `stream` gives begins with, so that its records have theirs."""
    return 1 if file.part is None else file.part.line - file.part.header.count(b"\n")


def divide(file: InputFile, layout: Layout, part_bytes: int) -> list[InputFile]:
    """Returns parts of whole records, of about `part_bytes` each, in the order of the file.

    A file that is compressed, in another encoding, or elsewhere is one part: finding where
    records end takes reading it.
    """
    plain = codecs.lookup(layout.encoding).name == "utf-8" and "://" not in file.path
    if not plain or os.path.getsize(file.path) <= part_bytes:
        return [file]
    with file.open() as source:
        beginning = source.read(HEADER_BYTES)
    if beginning[:2] == b"\x1f\x8b" or beginning[:4] == b"\x28\xb5\x2f\xfd":
        return [file]
    mark = len(codecs.BOM_UTF8) if beginning.startswith(codecs.BOM_UTF8) else 0
    header, at, parts = b"", 0, []
    try:
        for block in _blocks(file, None, part_bytes, layout.encoding):
            size = len(block.data) + (0 if at else mark)
            part = Part(begin=at, end=at + size, line=block.line, header=header)
            if not at:
                _, lines = _header(file, block, layout)
                header = block.data[: len(block.data) - len(_without_lines(block.data, lines))]
            if block.data:
                parts.append(dataclasses.replace(file, part=part))
            at += size
    except EstimatorLibError:
        return [file]  # reading it as a whole tells what is wrong
    return parts if header.endswith(b"\n") else [file]


def _without_mark(file: InputFile, data: bytes) -> bytes:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(
            f"File {file.name} is not UTF-8: expected UTF-8 text, got UTF-16 at {file.name}:1. "
            "Convert the file to UTF-8, or set data.encoding to utf-16.",
            reason=Reason.ENCODING,
        )
    return data[3:] if data[:3] == b"\xef\xbb\xbf" else data


# --- The slow parser: exact places --------------------------------------------------------------


def _records(data: bytes, line: int, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yields (line, fields) of every record that is not an empty line."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        text = data.decode(errors="surrogateescape")  # of what is no text, see `_diagnose`
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=False)
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


def read_header(file: InputFile, layout: Layout) -> list[str]:
    """Returns the names in a file's first record.

    Raises:
        DataError: the file cannot be read, is empty or is not text.
        SchemaError: a name appears twice.
    """
    block = next(_blocks(file, None, HEADER_BYTES, layout.encoding))
    header, _ = _header(file, block, layout)
    return header


def _header(file: InputFile, block: _Block, layout: Layout) -> tuple[list[str], int]:
    """The names, and the number of lines they take."""
    beginning = block.data[:HEADER_BYTES]
    beginning = beginning[: _record_end(beginning)] or block.data
    # Where other records at fault are left out, only the header itself must be text.
    checked = beginning.partition(b"\n")[0] if layout.quarantine else block.data
    fault = _encoding_problem(file, dataclasses.replace(block, data=checked))
    if fault is not None:
        raise Problems.of([fault]).as_error()
    records = _records(beginning, 1, layout.delimiter)
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
    block = next(_blocks(file, None, 1 << 20, layout.encoding))
    records = _records(block.data, 1, layout.delimiter)
    _, header = next(records, (0, []))
    sample = [record for _, (_, record) in zip(range(rows), records, strict=False)]
    found = {}
    for name in names:
        at = header.index(name)
        texts = [r[at].strip(" \t") for r in sample if len(r) == len(header)]
        texts = [t for t in texts if t and t not in layout.missing]
        if texts and all(INT.fullmatch(t) for t in texts):
            found[name] = "int"
        elif texts and all(FLOAT.fullmatch(t) for t in texts):
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
    for block in _blocks(file, summary, block_bytes, layout.encoding):
        if header is None:
            header, lines = _header(file, block, layout)
            Problems.of(check_header(file, header, layout.names)).raise_if_any()
            rest = _without_lines(block.data, lines)
            block = _Block(data=rest, line=block.line + lines, last=block.last)
        if block.data.strip(b"\r\n") or (len(header) == 1 and block.data):
            yield _parse(file, header, layout, block)


def _parse(file: InputFile, header: list[str], layout: Layout, block: _Block) -> Rows:
    names = layout.names
    fault = _encoding_problem(file, block)
    if fault is not None:
        if layout.quarantine:
            return _without_bad(file, header, layout, block)
        return no_rows(layout, Problems.of([fault]))
    if block.last and block.data.count(b'"') % 2:
        offset = _ends_in_quotes(block.data, layout.delimiter)
        if offset is not None:
            if layout.quarantine:  # nobody knows which records are in the quotes
                raise _unclosed(file, block.line + offset).as_error()
            return no_rows(layout, _unclosed(file, block.line + offset))
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
        if problems.total and layout.quarantine:
            return _without_bad(file, header, layout, block)
        if problems.total:
            return no_rows(layout, problems)
        columns = {
            name: pa.array([r[header.index(name)] for _, r in good], pa.string()) for name in names
        }
    return typed_rows(file, layout, columns, _lines(header, layout, block, columns))


def _lines(
    header: list[str], layout: Layout, block: _Block, columns: Mapping[str, pa.Array]
) -> Callable[[int], int]:
    """Gives the line of a row; the block is gone through only when one is asked for."""
    lines: list[int] = []

    def line_of(row: int) -> int:
        if not lines:
            single = len(header) == 1
            found = [n for n, _ in _records(block.data, block.line, layout.delimiter)]
            rows = len(next(iter(columns.values())))
            lines.extend(found if not single else range(block.line, block.line + rows))
        return lines[row]

    return line_of


def _without_bad(file: InputFile, header: list[str], layout: Layout, block: _Block) -> Rows:
    """The records of a block without those that are no text or of a wrong length."""
    good, problems = _diagnose(file, header, layout, block)
    lines = [line for line, _ in good]
    columns = {
        name: pa.array([record[header.index(name)] for _, record in good], pa.string())
        for name in layout.names
    }
    rows = typed_rows(file, layout, columns, lambda row: lines[row])
    return dataclasses.replace(
        rows, problems=problems + rows.problems, left_out=rows.left_out + problems.total
    )


def _diagnose(
    file: InputFile, header: list[str], layout: Layout, block: _Block
) -> tuple[list[tuple[int, list[str]]], Problems]:
    """The lines and records of a block that can be read, and what is wrong with the others."""
    good: list[tuple[int, list[str]]] = []
    bad: list[Problem] = []
    total = 0
    for line, record in _records(block.data, block.line, layout.delimiter):
        fault = _record_fault(record, len(header))
        if fault is None:
            good.append((line, record))
            continue
        total += 1
        if len(bad) < layout.listed:
            text, action, reason = fault
            bad.append(
                Problem(
                    file=file.name, line=line, field="", text=text, action=action, reason=reason
                )
            )
    return good, Problems.of(bad, total=total, kept=layout.listed)


def _record_fault(record: list[str], width: int) -> tuple[str, str, Reason] | None:
    """What is wrong with a record, what to do about it, and the reason; None if nothing."""
    if len(record) != width:
        return (
            f"Record has the wrong length: expected {width} fields as in the header, "
            f"got {len(record)}",
            "Repair the record; quote fields that hold the delimiter.",
            Reason.RECORD_MALFORMED,
        )
    if any("\0" in text or not _encodable(text) for text in record):
        return (
            "Text is not valid: expected UTF-8 without NUL bytes, got others",
            "Convert the file to UTF-8 without NUL bytes.",
            Reason.ENCODING,
        )
    return None


def _encodable(text: str) -> bool:
    """Whether a text has no byte that was no text."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined
