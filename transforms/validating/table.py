"""A table that nobody described: how its files are written, and what its fields hold.

What `init` drafts a configuration from. Neither TensorFlow nor Beam is imported.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
import pathlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from estimator_lib.core import config
from estimator_lib.core.errors import ConfigError, DataError, EstimatorLibError, Reason, quote
from estimator_lib.core.units import Unit
from transforms.reading import files, numbers, readers, values
from transforms.reading.files import InputFile
from transforms.reading.marks import Marks
from transforms.reading.problems import Problems
from transforms.reading.rows import Field, Layout

Kind = Literal["empty", "int", "float", "date", "text", "several"]
Array = np.ndarray[Any, Any]

SAMPLE_ROWS = 200_000
"""As many rows are looked at closely; of more, only what must be known of all."""
MISSING = (
    "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NULL", "Null", "null", "None", "none", "-", "--",
    "?", ".", "missing",
)  # fmt: skip
"""Texts that mean missing where they stand among numbers or dates."""
_DELIMITERS = ",;\t|"
_SIGNS = "$€£%"
_HEAD_BYTES = 1 << 20
_HEAD_RECORDS = 200
_FORMATS = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".parquet": "parquet", ".pq": "parquet",
            ".tfrecord": "tfrecord", ".tfrecords": "tfrecord"}  # fmt: skip
_WORKBOOKS = (".xlsx", ".xlsm", ".xls", ".ods", ".numbers")
_WORKBOOK_MAGIC = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableField:
    """A field of a table.

    Attributes:
        name: As in the header.
        kind: What its values are.
        texts: Its values as texts, string `[rows]`; null where it is missing.
        numbers: Of kind int, float and date (seconds since 1970) float64 `[rows]`, NaN where it
            is missing.
        unit: The sign that its numbers are written with, or "".
    """

    name: str
    kind: Kind
    texts: pa.Array
    numbers: Array
    unit: str = ""

    @property
    def present(self) -> int:
        """Rows with a value."""
        return len(self.texts) - int(self.texts.null_count)

    @property
    def missing(self) -> int:
        """Rows without."""
        return int(self.texts.null_count)

    @property
    def counts(self) -> dict[str, int]:
        """Rows of each text."""
        found = pc.value_counts(self.texts.drop_null())
        return dict(zip(found.field(0).to_pylist(), found.field(1).to_pylist(), strict=True))

    @property
    def distinct(self) -> int:
        """How many different texts there are."""
        return len(pc.unique(self.texts.drop_null()))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """What was seen of a table.

    Attributes:
        inputs: Its files.
        layout: How they are written; fields aside.
        fields: Its fields by name, of the rows looked at.
        rows: How many rows were looked at.
        complete: Whether these are all there are.
    """

    inputs: Sequence[InputFile]
    layout: Layout
    fields: Mapping[str, TableField]
    rows: int
    complete: bool

    def whole(self, name: str) -> TableField:
        """Returns a field of all rows, of which the fields here may have the first only."""
        if self.complete:
            return self.fields[name]
        texts, _ = _texts(self.inputs, self.layout, [name], None)
        return _judged(name, texts[name], self.layout)


def look(patterns: Sequence[str], delimiter: str = "", encoding: str = "") -> Table:
    """Looks at files, at most `SAMPLE_ROWS` rows of them.

    Args:
        patterns: Paths or patterns; relative ones start from the working directory.
        delimiter: Between the fields of CSV; "" finds out.
        encoding: Of CSV; "" finds out.

    Raises:
        ConfigError: the format is not known.
        DataError: a file cannot be read, or has no rows.
        SchemaError: a file lacks a field that the first one has.
    """
    absolute = [_absolute(pattern) for pattern in patterns]
    inputs = files.find({"": absolute}, str(pathlib.Path.cwd()))
    layout = _layout(inputs[0], delimiter, encoding)
    try:
        return _look(inputs, layout)
    except EstimatorLibError as error:
        # The first bytes were ASCII, so nothing told of an encoding.
        if error.reason is not Reason.ENCODING or encoding or layout.encoding != "utf-8":
            raise
        return _look(inputs, dataclasses.replace(layout, encoding="cp1252"))


def _absolute(pattern: str) -> str:
    return pattern if "://" in pattern else str(pathlib.Path(pattern).absolute())


def _look(inputs: Sequence[InputFile], layout: Layout) -> Table:
    reader = readers.reader(layout.format)
    header = reader.read_header(inputs[0], layout)
    named = [name for name in header if name]
    if header and all(_is_number(name) for name in header):
        raise DataError(
            f"File {inputs[0].name} begins with {quote(','.join(header))}: expected a header with "
            "the names of the fields. Write one as its first line.",
            reason=Reason.FIELD_MISSING,
        )
    Problems.of(
        problem
        for file in inputs[1:]
        for problem in readers.check_header(
            layout.format, file, reader.read_header(file, layout), named
        )
    ).raise_if_any()
    several = [] if layout.format == "csv" else [
        name for name, kind in reader.infer_types(inputs[0], named, layout).items()
        if kind.endswith("[]")
    ]  # fmt: skip
    texts, complete = _texts(
        inputs, layout, [name for name in named if name not in several], SAMPLE_ROWS
    )
    rows = len(next(iter(texts.values()))) if texts else 0
    if not rows:
        raise DataError(
            f"File {inputs[0].name} has no rows. Give a table with some.",
            reason=Reason.EMPTY_INPUT,
        )
    distinct = {name: pc.unique(t.drop_null()) for name, t in texts.items()}
    decimal, thousands = _marks(list(distinct.values()), layout)
    layout = dataclasses.replace(layout, decimal=decimal, thousands=thousands)
    tokens = sorted({token for some in distinct.values() for token in _tokens(some, layout)})
    layout = dataclasses.replace(layout, missing=("", *tokens))
    fields = {name: _judged(name, column, layout) for name, column in texts.items()}
    nothing = pa.nulls(rows, pa.string())
    fields |= {
        name: TableField(name=name, kind="several", texts=nothing, numbers=np.zeros(0))
        for name in several
    }
    return Table(inputs=inputs, layout=layout, fields=fields, rows=rows, complete=complete)


def _texts(
    inputs: Sequence[InputFile], layout: Layout, names: Sequence[str], limit: int | None
) -> tuple[dict[str, pa.Array], bool]:
    """Returns fields as texts, of at most `limit` rows, and whether these are all."""
    wanted = dataclasses.replace(
        layout,
        fields=tuple(Field(name=name, type="string") for name in names),
        missing=("",), decimal=".", thousands="",
    )  # fmt: skip
    reader = readers.reader(layout.format)
    blocks: Iterator[Any] = itertools.chain.from_iterable(
        reader.read_rows(file, wanted) for file in inputs
    )
    batches, rows = [], 0
    for block in blocks:
        block.problems.raise_if_any()
        batches.append(block.batch)
        rows += block.batch.num_rows
        if limit is not None and rows >= limit:
            break
    complete = next(blocks, None) is None
    found = {}
    for name in names:
        chunks = [batch.column(name).cast(pa.string()) for batch in batches]
        found[name] = pa.concat_arrays(chunks)[:limit] if chunks else pa.array([], pa.string())
    return found, complete and (limit is None or rows <= limit)


def _judged(name: str, column: pa.Array, layout: Layout) -> TableField:
    """Returns a field with what its texts are."""
    tokens = pa.array(layout.missing, pa.string())
    texts = pc.if_else(pc.is_in(column, value_set=tokens), pa.scalar(None, pa.string()), column)
    encoded = texts.dictionary_encode()
    distinct = encoded.dictionary
    kind, own, unit = _kind(distinct, layout)
    found = np.full(len(texts), np.nan)
    at = encoded.indices.to_numpy(zero_copy_only=False)
    there = ~np.isnan(at.astype(np.float64))
    found[there] = own[at[there].astype(np.int64)] if len(own) else np.nan
    return TableField(name=name, kind=kind, texts=texts, numbers=found, unit=unit)


def _kind(distinct: pa.Array, layout: Layout) -> tuple[Kind, Array, str]:
    """What texts are, their numbers (NaN of texts), and the sign that numbers have."""
    none = np.full(len(distinct), np.nan)
    if not len(distinct):
        return "empty", none, ""
    sign = _sign(distinct, layout)
    if sign:
        unit = Unit(sign=sign, decimal=layout.decimal, thousands=layout.thousands)
        return "float", np.array([unit.number(text) for text in distinct.to_pylist()], float), sign
    plain = layout.marks.plain(_trimmed(distinct))
    narrow = values.narrowest(plain)
    if narrow != "string":
        parsed, faults = numbers.parsed(plain, pa.float64())
        if not faults:
            own = parsed.to_numpy(zero_copy_only=False).astype(np.float64)
            return ("int" if narrow == "int" else "float"), own, ""
    moments = values.seconds(distinct)
    return ("text", none, "") if np.isnan(moments).any() else ("date", moments, "")


def _sign(distinct: pa.Array, layout: Layout) -> str:
    """The sign that all texts are numbers with, or ""."""
    first = str(distinct[0].as_py())
    for sign in _SIGNS:
        if sign in first:
            unit = Unit(sign=sign, decimal=layout.decimal, thousands=layout.thousands)
            if all(unit.number(text) is not None for text in distinct.to_pylist()):
                return sign
    return ""


def _tokens(distinct: pa.Array, layout: Layout) -> list[str]:
    """Returns the texts that mean missing, among those of a field of numbers or dates."""
    known = _means_missing(distinct)
    rest = distinct.filter(pc.invert(known))
    if not len(rest) or _kind(rest, layout)[0] == "text":
        return []
    return [text for text in distinct.filter(known).to_pylist() if text]


def _means_missing(distinct: pa.Array) -> pa.Array:
    return pc.is_in(_trimmed(distinct), value_set=pa.array(("", *MISSING), pa.string()))


def _trimmed(texts: pa.Array) -> pa.Array:
    """Texts as numbers are read: blanks around a number are no part of it."""
    return pc.utf8_trim(texts, " \t")


def _marks(columns: Sequence[pa.Array], layout: Layout) -> tuple[str, str]:
    """Decimal mark and that of thousands which make most fields numbers, the plainest first."""
    if layout.format != "csv":
        return ".", ""
    comma, grouped = (",", ""), (".", ",")  # 1,234 may be either
    first = [comma, grouped] if layout.delimiter == ";" else [grouped, comma]
    ways = [(".", ""), *first, (",", "."), (".", " "), (",", " "), (".", "'")]
    texts = [some.filter(pc.invert(_means_missing(some))) for some in columns]

    def fit(way: tuple[str, str]) -> int:
        written = dataclasses.replace(layout, decimal=way[0], thousands=way[1])
        return sum(_is_numeric(some, written) for some in texts if len(some))

    return max(ways, key=fit)


def _is_numeric(distinct: pa.Array, layout: Layout) -> bool:
    marks = Marks(decimal=layout.decimal, thousands=layout.thousands)
    return values.narrowest(marks.plain(_trimmed(distinct))) != "string" or bool(
        _sign(distinct, layout)
    )


# --- Files ---------------------------------------------------------------------------------------


def _layout(file: InputFile, delimiter: str, encoding: str) -> Layout:
    head = _head(file)
    path = pathlib.PurePath(file.path.removesuffix(".gz").removesuffix(".zst"))
    if path.suffix.lower() in _WORKBOOKS or head.startswith(_WORKBOOK_MAGIC):
        raise ConfigError(
            f"File {file.name} is a workbook of a spreadsheet: expected CSV or Parquet. Open it "
            "and save the sheet as CSV UTF-8.",
            reason=Reason.UNSUPPORTED,
        )
    form = "parquet" if head[:4] == b"PAR1" else _FORMATS.get(path.suffix.lower())
    if form is None:
        raise ConfigError(
            f"Format of {file.name} is not known: expected a name that ends in "
            f"{', '.join(_FORMATS)}. Rename the file.",
            reason=Reason.UNKNOWN_NAME,
        )
    if form != "csv":
        return Layout(format=form, missing=("",))
    encoding = encoding or _encoding(head)
    try:
        text = head.decode(encoding, errors="replace").removeprefix("\ufeff")
    except LookupError as error:
        raise ConfigError(
            f"Encoding {encoding!r} is no text encoding. Give one of Python's, such as latin-1.",
            reason=Reason.UNKNOWN_NAME,
        ) from error
    delimiter = config.csv_dialect({"delimiter": delimiter or _delimiter(text)}).delimiter
    return Layout(format="csv", missing=("",), encoding=encoding, delimiter=delimiter)


def _head(file: InputFile) -> bytes:
    """The first bytes of a file, decompressed."""
    with file.open() as source:
        data = source.read(_HEAD_BYTES)
    if data[:2] == b"\x1f\x8b":
        return zlib.decompressobj(31).decompress(data, _HEAD_BYTES)
    if data[:4] == b"\x28\xb5\x2f\xfd":
        with file.open() as source:
            stream = pa.CompressedInputStream(pa.PythonFile(source, mode="r"), "zstd")
            return bytes(stream.read(_HEAD_BYTES))
    return data


def _encoding(head: bytes) -> str:
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.end < len(head) or error.reason != "unexpected end of data":
            return "cp1252"
    return "utf-8"


def _delimiter(text: str) -> str:
    """The character that divides the first records into most fields, as many in each."""
    lines = text.splitlines(keepends=True)
    if len(lines) > 1 and len(text) >= _HEAD_BYTES // 4:
        lines = lines[:-1]  # it may be cut

    def fit(mark: str) -> tuple[float, int]:
        widths = [
            len(record)
            for record in itertools.islice(csv.reader(lines, delimiter=mark), _HEAD_RECORDS)
            if record
        ]
        if not widths or widths[0] < 2:
            return 0.0, 0
        return widths.count(widths[0]) / len(widths), widths[0]

    try:
        return max(_DELIMITERS, key=fit)
    except csv.Error:
        return ","


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
