"""CSV files as typed Arrow record batches, with faults located by file and line.

The one CSV parser of the project: RFC 4180 (quoted delimiters, doubled quotes, line breaks
inside quotes), LF or CRLF, an optional UTF-8 byte order mark, gzip and zstd recognised by their
first bytes. It reads what Python's csv reads with `strict`: a quote begins a quoted field where a
field begins, and only there; behind the closing one the field ends. A file is read in blocks of
whole records; a block is parsed by pyarrow with every field as text, then converted to the
declared types at once. Where quotes stand is looked at before, all quotes of a block together;
only a block with odd ones, or that pyarrow refuses, is gone through record by record.

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
from typing import BinaryIO, Protocol, cast

import numpy as np
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
from transforms.reading import values
from transforms.reading.files import InputFile, Part
from transforms.reading.problems import Problem, Problems
from transforms.reading.rows import (
    Field,
    Layout,
    ReadSummary,
    Rows,
    no_rows,
    typed_rows,
)
from transforms.reading.streams import Digested, Stretch

__all__ = ["Field", "Layout", "ReadSummary", "Rows", "infer_types", "read_header", "read_rows"]

BLOCK_BYTES = 8 << 20
"""Bytes of one block, before it is cut at its last whole record."""
MAX_RECORD_BYTES = 64 << 20
"""A record longer than this is taken for an unclosed quote."""
HEADER_BYTES = 1 << 16
"""How much of a file is looked at for its header."""


class _Stream(Protocol):
    """Bytes one after the other."""

    def read(self, size: int, /) -> bytes: ...


def _decompressed(raw: io.BufferedReader[Digested]) -> _Stream:
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Block:
    """Whole records: their bytes, and the 1-based line on which they start."""

    data: bytes
    line: int
    last: bool


# --- Quotes --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Quoting:
    """Where the records of some bytes end, and what is wrong with their quotes.

    Attributes:
        end: Where the last whole record ends; 0 if there is none.
        opened: Where a quote opens that is not closed; None if all are.
        faults: Quoted fields with text behind them: where each opens, and where that text is.
    """

    end: int
    opened: int | None = None
    faults: tuple[tuple[int, int], ...] = ()


def _quoting(data: bytes, layout: Layout) -> _Quoting:
    """Looks at the quotes of bytes that begin with a record."""
    quote_char = layout.quote.encode()
    if not quote_char or quote_char not in data:
        masked = _masked(data, layout)
        return _Quoting(end=masked.rfind(b"\n") + 1)
    masked = _masked(data, layout)
    return _alternating(masked, layout) or _scanned(masked, layout)


def _masked(data: bytes, layout: Layout) -> bytes:
    """The bytes with others, that mean nothing, in place of what is escaped."""
    escape = layout.escape.encode()
    if not escape or escape not in data:
        return data
    return re.sub(re.escape(escape) + rb"(?s:.)", b"xx", data)


def _alternating(data: bytes, layout: Layout) -> _Quoting | None:
    """Takes every second quote for a closing one; None if that is not what they are.

    It is, if each of the others stands where a field begins or right behind a closing one (both
    are then one quote of the text), and behind each closing one a field ends or such a quote is.
    """
    content = np.frombuffer(data, np.uint8)
    mark = ord(layout.quote)
    at = np.flatnonzero(content == mark)
    ends = np.zeros(256, bool)
    ends[[mark, 10, 13, *layout.delimiter.encode()]] = True
    opening, closing = at[0::2], at[1::2]
    before = content[opening - 1][1:] if len(opening) and opening[0] == 0 else content[opening - 1]
    behind = content[closing[closing + 1 < len(content)] + 1]
    if not (ends[before].all() and ends[behind].all()):
        return None
    opened = None
    if len(at) % 2:
        first = len(at) - 1
        while first and at[first] - at[first - 1] == 1:
            first -= 2  # the second half of a doubled quote
        opened = int(at[first])
    end = data.rfind(b"\n") + 1
    while end and (count := int(np.searchsorted(at, end))) % 2:
        end = data.rfind(b"\n", 0, int(at[count - 1])) + 1
    return _Quoting(end=end, opened=opened)


def _scanned(data: bytes, layout: Layout) -> _Quoting:
    """Goes through the quotes one by one."""
    mark = layout.quote.encode()
    begins = (b"\n", b"\r", layout.delimiter.encode())
    # Possessive: a doubled quote at the end of a block is not taken for the end of its field.
    quoted = re.compile(rb"%b[^%b]*+(?:%b%b[^%b]*+)*+%b" % ((re.escape(mark),) * 6))
    end = at = 0
    faults: list[tuple[int, int]] = []
    while (opens := data.find(mark, at)) >= 0:
        if opens and data[opens - 1 : opens] not in begins:
            at = opens + 1  # in a field that does not begin with it, it is text
            continue
        end = max(end, data.rfind(b"\n", at, opens) + 1)
        field = quoted.match(data, opens)
        if field is None:
            return _Quoting(end=end, opened=opens, faults=tuple(faults))
        at = field.end()
        if at < len(data) and data[at : at + 1] not in begins:
            faults.append((opens, at))
            at += 1
    return _Quoting(end=max(end, data.rfind(b"\n", at) + 1), faults=tuple(faults))


def _record_ends(data: bytes, layout: Layout) -> Iterator[int]:
    """Yields where each record of a block ends; quotes with text behind them do not count."""
    masked = _masked(data, layout)
    mark = layout.quote.encode()
    pattern = rb"\r\n|\n|\r"
    if mark and mark in masked:
        q, d = re.escape(mark), re.escape(layout.delimiter.encode())
        field = rb"(?:^|(?<=[\r\n])|(?<=%b))%b[^%b]*(?:%b%b[^%b]*)*%b" % ((d,) + (q,) * 6)
        pattern = field + rb"|" + pattern
    last = 0
    for found in re.finditer(pattern, masked):
        if found.group()[:1] in (b"\n", b"\r"):
            last = found.end()
            yield last
    if last < len(data):
        yield len(data)


class _Recoded:
    """A stream of UTF-8 bytes behind another encoding."""

    def __init__(self, source: _Stream, file: InputFile, encoding: str) -> None:
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
    file: InputFile, summary: ReadSummary | None, block_bytes: int, layout: Layout
) -> Iterator[_Block]:
    """Yields the file's bytes in blocks of whole records; the first begins with the header."""
    digested = Digested(stream(file), wanted=summary is not None)
    carry = b""
    line = _first_line(file)
    with io.BufferedReader(digested, 1 << 20) as raw:
        try:
            source = _decompressed(raw)
            if codecs.lookup(layout.encoding).name != "utf-8":
                source = _Recoded(source, file, layout.encoding)
            first = True
            while True:
                chunk = source.read(block_bytes)
                if first:
                    chunk = _without_mark(file, chunk)
                    first = False
                data = carry + chunk if carry else chunk
                if not chunk:
                    break
                quoting = _quoting(data, layout)
                end = quoting.end
                carry = data[end:]
                if end:
                    block = _Block(data=data[:end], line=line, last=False)
                    line += block.data.count(b"\n")
                    yield block
                elif len(carry) > MAX_RECORD_BYTES:
                    raise _too_long(file, data, line, quoting).as_error()
        except (EOFError, zlib.error, pa.ArrowInvalid, OSError) as error:
            if isinstance(error, OSError) and error.errno:
                raise file.unread(error) from error
            raise _corrupt(file, error) from error  # decoders raise an OSError, too
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
    plain = codecs.lookup(layout.encoding).name == "utf-8" and file.is_local
    if not plain or os.path.getsize(file.path) <= part_bytes:
        return [file]
    with file.open() as source:
        beginning = source.read(HEADER_BYTES)
    if beginning[:2] == b"\x1f\x8b" or beginning[:4] == b"\x28\xb5\x2f\xfd":
        return [file]
    mark = len(codecs.BOM_UTF8) if beginning.startswith(codecs.BOM_UTF8) else 0
    header, at, parts = b"", 0, []
    try:
        for block in _blocks(file, None, part_bytes, layout):
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


_OTHER_FILES = {
    b"PK\x03\x04": "an Excel workbook (.xlsx) or another zip file",
    b"\xd0\xcf\x11\xe0": "an Excel workbook (.xls)",
    b"PAR1": "a Parquet file",
}


def _without_mark(file: InputFile, data: bytes) -> bytes:
    for magic, kind in _OTHER_FILES.items():
        if data.startswith(magic):
            raise DataError(
                f"File {file.name} is no CSV: expected lines of text, got {kind}. "
                + ("Set data.format to parquet." if magic == b"PAR1" else "Save it as CSV."),
                reason=Reason.CORRUPT_FILE,
            )
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(
            f"File {file.name} is not UTF-8: expected UTF-8 text, got UTF-16 at {file.name}:1. "
            "Convert the file to UTF-8, or set data.encoding to utf-16.",
            reason=Reason.ENCODING,
        )
    return data[3:] if data[:3] == b"\xef\xbb\xbf" else data


# --- The slow parser: exact places --------------------------------------------------------------


def _records(data: bytes, line: int, layout: Layout) -> Iterator[tuple[int, list[str]]]:
    """Yields (line, fields) of every record that is not an empty line, quoted well or not."""
    for start, raw in _raw_records(data, line, layout):
        yield start, _fields(raw, layout, strict=False)


def _raw_records(data: bytes, line: int, layout: Layout) -> Iterator[tuple[int, bytes]]:
    begin = 0
    for end in _record_ends(data, layout):
        raw = data[begin:end]
        if raw.strip(b"\r\n"):
            yield line, raw
        line += raw.count(b"\n") + raw.count(b"\r") - raw.count(b"\r\n")
        begin = end


def _fields(raw: bytes, layout: Layout, *, strict: bool) -> list[str]:
    """The fields of one record.

    Raises:
        csv.Error: `strict`, and its quotes are not well placed.
    """
    before = csv.field_size_limit(sys.maxsize)
    try:
        text = raw.decode(errors="surrogateescape")  # of what is no text, see `_diagnose`
        reader = csv.reader(
            io.StringIO(text, newline=""),
            delimiter=layout.delimiter,
            quotechar=layout.quote or None,
            escapechar=layout.escape or None,
            quoting=csv.QUOTE_MINIMAL if layout.quote else csv.QUOTE_NONE,
            strict=strict,
        )
        return next(reader, [])
    finally:
        csv.field_size_limit(before)


def _unclosed(file: InputFile, line: int, layout: Layout) -> Problem:
    mark = layout.quote
    return Problem(
        file=file.name,
        line=line,
        field="",
        text="Record has an unclosed quote: expected a closing quote, got the end of the file",
        action=f"Close the quote, or double quotes that are part of the text ({mark}{mark}).",
        reason=Reason.RECORD_MALFORMED,
    )


def _ends_escaped(data: bytes, layout: Layout) -> bool:
    """Whether an escape has nothing behind it but the end of the file."""
    masked, escape = _masked(data, layout), layout.escape.encode()
    if not escape or escape not in data:
        return False
    return masked.endswith(escape) or (data.endswith(b"\n") and not masked.endswith(b"\n"))


def _nothing_escaped(file: InputFile, line: int) -> Problem:
    return Problem(
        file=file.name,
        line=line,
        field="",
        text="Record ends in an escape: expected the character that is escaped, got the end of the "
        "file",
        action="Complete the record.",
        reason=Reason.RECORD_MALFORMED,
    )


def _too_long(file: InputFile, data: bytes, line: int, quoting: _Quoting) -> Problems:
    """What is wrong with a record longer than any should be."""
    opened = quoting.opened or 0
    return Problems.of(
        [
            Problem(
                file=file.name,
                line=line + data.count(b"\n", 0, opened),
                field="",
                text=f"Record is longer than {MAX_RECORD_BYTES >> 20} MiB: expected its end, got "
                + ("a quote that is not closed" if quoting.opened is not None else "one line"),
                action="Close the quote, or divide the record.",
                reason=Reason.RECORD_MALFORMED,
            )
        ]
    )


def _text_behind_quote(
    file: InputFile, block: _Block, layout: Layout, fault: tuple[int, int]
) -> tuple[Problem, bool]:
    """What is wrong with a quoted field, and whether it takes several lines."""
    opens, behind = fault
    line = block.line + block.data.count(b"\n", 0, opens)
    closed = line + block.data.count(b"\n", opens, behind)
    found = block.data[behind : behind + 12].splitlines()[0].decode(errors="replace")
    place = f" on line {closed:,}" if closed > line else ""
    mark = layout.quote
    problem = Problem(
        file=file.name,
        line=line,
        field="",
        text="Record has text behind a closing quote, or an unclosed quote: expected "
        f"{quote(layout.delimiter)} or the end of the line behind it, got {quote(found)}{place}",
        action=f"Double quotes that are part of the text ({mark}{mark}), or say by data.escape "
        "what stands before them.",
        reason=Reason.RECORD_MALFORMED,
    )
    return problem, closed > line


def _quote_problems(file: InputFile, layout: Layout, block: _Block) -> tuple[Problems, bool]:
    """Faults of a block's quotes; and whether nobody knows what they swallow."""
    quoting = _quoting(block.data, layout)
    found: list[Problem] = []
    for fault in quoting.faults:
        problem, several = _text_behind_quote(file, block, layout, fault)
        found.append(problem)
        if several:  # what follows is read inside out
            return Problems.of(found, kept=layout.listed), True
    if quoting.opened is not None:
        line = block.line + block.data.count(b"\n", 0, quoting.opened)
        found.append(_unclosed(file, line, layout))
    elif block.last and _ends_escaped(block.data, layout):
        line = block.line + block.data.rstrip(b"\n").count(b"\n")
        found.append(_nothing_escaped(file, line))
    return Problems.of(found, kept=layout.listed), quoting.opened is not None


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
        action="Convert the file to UTF-8 without NUL bytes, or say by data.encoding what it is, "
        "such as cp1252.",
        reason=Reason.ENCODING,
    )


# --- Header ---------------------------------------------------------------------------------------


def read_header(file: InputFile, layout: Layout) -> list[str]:
    """Returns the names in a file's first record.

    Raises:
        DataError: the file cannot be read, is empty or is not text.
        SchemaError: a name appears twice.
    """
    block = next(_blocks(file, None, HEADER_BYTES, layout))
    header, _ = _header(file, block, layout)
    return header


def _header(file: InputFile, block: _Block, layout: Layout) -> tuple[list[str], int]:
    """The names, and the number of lines they take."""
    beginning = block.data[:HEADER_BYTES]
    beginning = beginning[: _quoting(beginning, layout).end] or block.data
    # Where other records at fault are left out, only the header itself must be text.
    checked = beginning.partition(b"\n")[0] if layout.quarantine else block.data
    fault = _encoding_problem(file, dataclasses.replace(block, data=checked))
    if fault is not None:
        raise Problems.of([fault]).as_error()
    records = _records(beginning, 1, layout)
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
    if len(header) == 1 and len(lacking) == len(wanted):
        for other in (";", "\t", "|", ","):
            if set(header[0].split(other)) >= set(wanted) and other in header[0]:
                return [
                    Problem(
                        file=file.name,
                        line=1,
                        field=lacking[0],
                        text="File has another delimiter: expected several fields, got one: "
                        f"{quote(header[0])}",
                        action=f"Set data.delimiter to {other!r}.",
                        reason=Reason.FIELD_MISSING,
                    )
                ]
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
    block = next(_blocks(file, None, 1 << 20, layout))
    records = _records(block.data, 1, layout)
    _, header = next(records, (0, []))
    sample = [record for _, (_, record) in zip(range(rows), records, strict=False)]
    found = {}
    for name in names:
        at = header.index(name)
        texts = [r[at].strip(" \t") for r in sample if len(r) == len(header)]
        texts = [t for t in texts if t and t not in layout.missing]
        plain = layout.marks.plain(pa.array(texts, pa.string()))
        found[name] = values.narrowest(plain) if texts else "string"
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
    for block in _blocks(file, summary, block_bytes, layout):
        if header is None:
            header, lines = _header(file, block, layout)
            Problems.of(check_header(file, header, layout.names)).raise_if_any()
            rest = _without_lines(block.data, lines)
            block = _Block(data=rest, line=block.line + lines, last=block.last)
        if block.data.lstrip(b"\r\n") or (len(header) == 1 and block.data):
            yield _parse(file, header, layout, block)


def _parse(file: InputFile, header: list[str], layout: Layout, block: _Block) -> Rows:
    names = layout.names
    fault = _encoding_problem(file, block)
    if fault is not None:
        if layout.quarantine:
            return _without_bad(file, header, layout, block)
        return no_rows(layout, Problems.of([fault]))
    problems, swallowing = _quote_problems(file, layout, block)
    if problems.total:
        if not layout.quarantine:
            return no_rows(layout, problems)
        if swallowing:  # nobody knows which records are in the quotes
            raise problems.as_error()
        return _without_bad(file, header, layout, block)
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(block.data),
            read_options=pyarrow.csv.ReadOptions(column_names=header),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=layout.delimiter,
                quote_char=layout.quote or False,
                escape_char=layout.escape or False,
                newlines_in_values=_multiline(block.data, layout),
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


def _multiline(data: bytes, layout: Layout) -> bool:
    """Whether a line break may be part of a text."""
    marks = (layout.quote.encode(), layout.escape.encode())
    return any(mark and mark in data for mark in marks)


def _lines(
    header: list[str], layout: Layout, block: _Block, columns: Mapping[str, pa.Array]
) -> Callable[[int], int]:
    """Gives the line of a row; the block is gone through only when one is asked for."""
    lines: list[int] = []

    def line_of(row: int) -> int:
        if not lines:
            single = len(header) == 1
            found = [n for n, _ in _records(block.data, block.line, layout)]
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
    for line, raw in _raw_records(block.data, block.line, layout):
        try:
            record = _fields(raw, layout, strict=True)
            fault = _record_fault(record, len(header))
        except csv.Error as error:
            fault = (
                f"Record has quotes out of place: expected them as in RFC 4180, got {error}",
                "Double quotes that are part of the text, or say by data.escape what stands "
                "before them.",
                Reason.RECORD_MALFORMED,
            )
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
