"""Records of any file format -> typed Arrow record batches, by one set of rules.

A text is missing only if it is one of the declared tokens; an empty text of a string field is
always missing, for nothing downstream tells the two apart. A token that is a number is missing
however it is written. Numbers written as text are written as in Python, without "_", "nan", "inf"
or "0x", or are booleans; they must be finite as float32 (int fields: whole, as int64). Formats
with types of their own (Parquet, tf.Example) follow the same rules: null and NaN are missing. What
a value's text and number are says `core.values`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from estimator_lib.core import values as grammar
from estimator_lib.core.errors import Reason, did_you_mean, quote
from estimator_lib.core.units import Unit
from estimator_lib.core.values import Logical
from transforms.reading import numbers, values
from transforms.reading.files import InputFile
from transforms.reading.lists import Lists
from transforms.reading.marks import NO_NUMBER, Marks
from transforms.reading.numbers import Array, Faults
from transforms.reading.problems import SHOWN, Problem, Problems

QUARANTINED = 100_000
"""Faults that are listed at most where records at fault are left out."""

ARROW_TYPES = {"string": pa.string(), "int": pa.int64(), "float": pa.float64()}
TEXTS = pa.dictionary(pa.int32(), pa.string())
"""Of a column of texts: each is held, looked at and written once."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Field:
    """A field to read.

    Attributes:
        name: Its name in the header.
        type: "string", "int" or "float".
        low: Smallest value allowed, or None.
        high: Largest value allowed, or None.
        category: Whether the number is a class.
        reason: Reason of the error for a value outside the limits.
        role: What the error calls the field.
        several: Whether a record has any number of values, in their order.
        separator: Between the values where they are one text.
        action: What to do about a value at fault, where it is none of the file's own.
        values: The texts it may have; None allows any.
        required: Whether every record must have a value.
        logical: Of a string field, what its values are, once that is known: they are written in
            their canonical form, which numbers have without the marks of the file. `TEXT` leaves
            them as they are; so does None.
        dates: Of a string field, whether its texts must be dates or timestamps.
        unit: How texts of a number are written that have a unit.
        classes: Whether its texts are names of classes: where a comma is the decimal mark, the
            class 1 may be written 1,0.
    """

    name: str
    type: str
    low: float | None = None
    high: float | None = None
    category: bool = False
    reason: Reason = Reason.INVALID_VALUE
    role: str = "Field"
    several: bool = False
    separator: str = ""
    action: str = ""
    values: tuple[str, ...] | None = None
    required: bool = False
    logical: Logical | None = None
    dates: bool = False
    unit: Unit | None = None
    classes: bool = False

    @property
    def arrow_type(self) -> pa.DataType:
        """Of its column in `Rows.batch`."""
        if self.several:
            return pa.list_(ARROW_TYPES[self.type])
        return TEXTS if self.type == "string" else ARROW_TYPES[self.type]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """How records are written, and which fields are wanted of them.

    Attributes:
        delimiter: One character between fields of CSV.
        quote: One character around texts of CSV that hold a delimiter; "" for none.
        escape: One character of CSV before one that is text; "" for none.
        decimal: What stands before the fraction of a number in CSV.
        thousands: What stands between its thousands; "" for nothing.
        missing: Texts that stand for a missing value.
        format: "csv", "parquet" or "tfrecord".
        fields: Fields to convert to their types.
        texts: Fields that are also wanted as they are written.
        pairs: Fields with several values, each beside the field with their weights: as many.
        encoding: Of texts in CSV; a codec of Python's.
        quarantine: Whether records at fault are all listed and the others read, instead of
            ending the job.
    """

    delimiter: str = ","
    quote: str = '"'
    escape: str = ""
    decimal: str = "."
    thousands: str = ""
    missing: tuple[str, ...] = ("",)
    fields: tuple[Field, ...] = ()
    texts: tuple[str, ...] = ()
    format: str = "csv"
    pairs: tuple[tuple[str, str], ...] = ()
    encoding: str = "utf-8"
    quarantine: bool = False

    @property
    def listed(self) -> int:
        """How many faults are listed at most."""
        return QUARANTINED if self.quarantine else SHOWN

    def resolved(self, logical: Mapping[str, Logical]) -> Layout:
        """Returns the layout with the logical types of string fields."""
        fields = tuple(
            dataclasses.replace(field, logical=logical[field.name])
            if field.type == "string" and field.name in logical
            else field
            for field in self.fields
        )
        return dataclasses.replace(self, fields=fields)

    @property
    def marks(self) -> Marks:
        """How numbers are written in texts."""
        return Marks(decimal=self.decimal, thousands=self.thousands)

    @property
    def units(self) -> dict[str, Unit]:
        """How the fields with a unit are written."""
        return {field.name: field.unit for field in self.fields if field.unit is not None}

    @property
    def lists(self) -> frozenset[str]:
        """The fields with several values per record."""
        return frozenset(field.name for field in self.fields if field.several)

    @property
    def plain_texts(self) -> list[str]:
        """The fields with one text per record."""
        return [f.name for f in self.fields if f.type == "string" and not f.several]

    @property
    def names(self) -> list[str]:
        """All fields that a file must have."""
        return list(dict.fromkeys([*(f.name for f in self.fields), *self.texts]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rows:
    """Some whole records of a file, in the file's order.

    Attributes:
        batch: One column per field of the layout: `TEXTS`, int64 or float64, null = missing; a
            list of string, int64 or float64 where a record has several values, never null,
            without missing values at its end.
        texts: Fields as written, string; "" where missing.
        problems: Faults found; the records at fault are not in `batch`.
        line_of: Gives the line of a row of `batch`; its record, where a file has no lines.
        where: Gives the place of a row in words, or "" where the line says it.
        left_out: Records at fault that were left out one by one; 0 beside problems if a whole
            stretch of the file could not be read.
    """

    batch: pa.RecordBatch
    texts: Mapping[str, pa.Array]
    problems: Problems
    line_of: Callable[[int], int]
    where: Callable[[int], str] = lambda _: ""
    left_out: int = 0


@dataclasses.dataclass(kw_only=True)
class ReadSummary:
    """What is known of a file when it was read to its end."""

    sha256: str = ""
    size_bytes: int = 0


class Reader(Protocol):
    """How one file format is read; `readers.reader` gives the one of a layout."""

    def read_header(self, file: InputFile, layout: Layout) -> list[str]:
        """Returns the names of the fields that a file has."""
        ...

    def infer_types(self, file: InputFile, names: Sequence[str], layout: Layout) -> dict[str, str]:
        """Returns the narrowest type that fits: int, float or string."""
        ...

    def read_rows(
        self, file: InputFile, layout: Layout, *, summary: ReadSummary | None = None
    ) -> Iterator[Rows]:
        """Yields the records of a file in its order, some megabytes at a time.

        Args:
            file: What to read.
            layout: How it is written and what is wanted.
            summary: Filled in when the file was read to its end.

        Raises:
            DataError: the file cannot be read or is damaged.
            SchemaError: a field is missing. Faults in records do not raise: see `Rows.problems`.
        """
        ...


def no_rows(layout: Layout, problems: Problems) -> Rows:
    """Rows that are not there, and why."""
    empty = {f.name: pa.array([], f.arrow_type) for f in layout.fields}
    return Rows(
        batch=pa.RecordBatch.from_pydict(empty),
        texts={name: pa.array([], pa.string()) for name in layout.texts},
        problems=problems,
        line_of=lambda _: 0,
    )


def written_out(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Returns a batch with its texts as string columns."""
    return pa.RecordBatch.from_pydict(
        {
            name: column.cast(pa.string()) if column.type == TEXTS else column
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        }
    )


def typed_rows(
    file: InputFile,
    layout: Layout,
    columns: Mapping[str, pa.Array],
    line_of: Callable[[int], int],
    where: Callable[[int], str] = lambda _: "",
) -> Rows:
    """Returns records with every field in its type, and what is wrong with those left out.

    Args:
        file: Where they come from.
        layout: The types, and what counts as missing.
        columns: The fields: string, int64 or float64 `[rows]`; null = missing.
        line_of: Gives the line (or record) of a row.
        where: Gives its place in words, if a line is not enough.
    """
    tokens = _Tokens.of(layout)
    typed, lengths, problems, bad_rows = _typed_columns(
        file, layout, tokens, columns, line_of, where
    )
    for name, weights in layout.pairs:
        unequal = np.flatnonzero(lengths[name] != lengths[weights])
        if len(unequal):
            bad_rows.append(unequal)
            found = [
                _pair_problem(
                    file,
                    (name, weights),
                    (int(lengths[name][r]), int(lengths[weights][r])),
                    line_of(int(r)),
                    where(int(r)),
                )
                for r in unequal[: layout.listed]
            ]
            problems += Problems.of(found, total=len(unequal), kept=layout.listed)
    known = {field.name: field for field in layout.fields}
    texts = {}
    for name in layout.texts:
        field = known.get(name, Field(name=name, type="string"))
        text, missing = tokens.read(columns[name], field)
        texts[name] = pc.if_else(missing, pa.scalar("", pa.string()), text).fill_null("")
    batch = pa.RecordBatch.from_pydict(typed)
    whole = Rows(batch=batch, texts=texts, problems=problems, line_of=line_of, where=where)
    return _without(whole, np.concatenate(bad_rows)) if bad_rows else whole


def extended(file: InputFile, layout: Layout, rows: Rows, columns: Mapping[str, pa.Array]) -> Rows:
    """Returns rows with further fields, by the same rules.

    Args:
        file: Where the rows come from.
        layout: The further fields.
        rows: What there is already.
        columns: The fields, as `typed_rows` takes them.
    """
    typed, _, problems, bad_rows = _typed_columns(
        file, layout, _Tokens.of(layout), columns, rows.line_of, rows.where
    )
    known = dict(zip(rows.batch.schema.names, rows.batch.columns, strict=True))
    whole = dataclasses.replace(
        rows,
        batch=pa.RecordBatch.from_pydict({**known, **typed}),
        problems=rows.problems + problems,
    )
    return _without(whole, np.concatenate(bad_rows)) if bad_rows else whole


def _typed_columns(
    file: InputFile,
    layout: Layout,
    tokens: _Tokens,
    columns: Mapping[str, pa.Array],
    line_of: Callable[[int], int],
    where: Callable[[int], str],
) -> tuple[dict[str, pa.Array], dict[str, Array], Problems, list[Array]]:
    """The fields in their types, lengths of lists, faults, and the rows that have them."""
    problems = Problems()
    bad_rows: list[Array] = []
    typed: dict[str, pa.Array] = {}
    lengths: dict[str, Array] = {}
    for field in layout.fields:
        column = columns[field.name]
        lists = Lists.of(_split(column, field, tokens)) if field.several else None
        values = column if lists is None else lists.values
        typed[field.name], faults = _typed(field, values, tokens)
        if lists is not None and field.type == "string":
            typed[field.name] = typed[field.name].cast(pa.string())
        parents, before = None, len(bad_rows)
        if lists is not None:
            lengths[field.name], parents = lists.lengths, lists.parents
            typed[field.name] = lists.holding(typed[field.name]).without_missing_ends().to_arrow()
        for cause, at in faults:
            rows = at if parents is None else parents[at]
            bad_rows.append(rows)
            found = [
                _value_problem(
                    file,
                    field,
                    layout,
                    cause,
                    str(values[int(i)].as_py()),
                    line_of(int(r)),
                    where(int(r)),
                )
                for i, r in zip(at[: layout.listed], rows[: layout.listed], strict=True)
            ]
            problems += Problems.of(found, total=len(at), kept=layout.listed)
        if field.required:
            empty = lengths[field.name] == 0 if lists is not None else _nulls(typed[field.name])
            absent = np.setdiff1d(np.flatnonzero(empty), np.concatenate([[], *bad_rows[before:]]))
            bad_rows.append(absent)
            found = [
                _missing_problem(file, field, line_of(int(r)), where(int(r)))
                for r in absent[: layout.listed]
            ]
            problems += Problems.of(found, total=len(absent), kept=layout.listed)
    return typed, lengths, problems, [rows for rows in bad_rows if len(rows)]


def _nulls(column: pa.Array) -> Array:
    found: Array = column.is_null().to_numpy(zero_copy_only=False)
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Tokens:
    """Texts that stand for a missing value; those that are numbers also in their one form."""

    missing: pa.Array
    missing_or_empty: pa.Array
    narrow: pa.Array
    numbers: pa.Array
    marks: Marks

    @classmethod
    def of(cls, layout: Layout) -> _Tokens:
        given = sorted(filter(None, layout.missing))
        kinds = {token: grammar.narrow(token) for token in given}
        known = [grammar.to_number(token) for token in given]
        return cls(
            missing=pa.array(sorted(layout.missing), pa.string()),
            missing_or_empty=pa.array(sorted({*layout.missing, ""}), pa.string()),
            narrow=pa.array(
                sorted({text for kind, text in kinds.values() if kind is not Logical.TEXT}),
                pa.string(),
            ),
            numbers=pa.array([float(n) for n in known if n is not None], pa.float64()),
            marks=layout.marks,
        )

    def read(self, column: pa.Array, field: Field) -> tuple[pa.Array, pa.Array]:
        """The texts of a column as the field's type has them, and which of them are missing.

        Args:
            column: Of any type; only in texts may numbers have marks of their own.
            field: Its type; where that is open, texts stay as they are written.
        """
        own = pa.types.is_string(column.type) or column.type == TEXTS
        marks = self.marks if own else Marks()
        if pa.types.is_list(column.type):
            written = _joined(column, field, self.marks)
            return written, self._among(written, marks)
        written = values.texts(column)
        return _as_text(written, field, marks), self._among(written, marks)

    def _among(self, text: pa.Array, marks: Marks) -> pa.Array:
        """Which texts of a string field are missing."""
        missing = pc.is_in(text, value_set=self.missing_or_empty)
        if not len(self.narrow):
            return missing
        alike = pc.is_in(values.canonical(marks.plain(text), None), value_set=self.narrow)
        return pc.or_(missing, alike)

    def without(self, numbers: pa.Array) -> pa.Array:
        """Numbers with null for those that stand for a missing value."""
        if not len(self.numbers):
            return numbers
        missing = pc.is_in(numbers.cast(pa.float64(), safe=False), value_set=self.numbers)
        return pc.if_else(missing, pa.scalar(None, numbers.type), numbers)


def _typed(field: Field, column: pa.Array, tokens: _Tokens) -> tuple[pa.Array, Faults]:
    """Brings values to the field's type; with those that do not fit it."""
    if field.type == "string":
        return _texts(field, column, tokens)
    target = pa.int64() if field.type == "int" and not field.category else pa.float64()
    if pa.types.is_string(column.type):
        missing = pc.is_in(column, value_set=tokens.missing)
        text = pc.if_else(missing, pa.scalar(None), column)
        plain = tokens.marks.numbers(text) if field.unit is None else _bare(text, field.unit)
        found, faults = numbers.parsed(plain, target)
    else:
        found, faults = numbers.converted(column, target)
    return numbers.checked(
        tokens.without(found),
        faults,
        low=field.low,
        high=field.high,
        as_int=field.type == "int",
        category=field.category,
    )


def _bare(text: pa.Array, unit: Unit) -> pa.Array:
    """Numbers without their unit, as Python writes them; another text is marked as no number."""
    found = pc.binary_join_element_wise(pa.scalar(NO_NUMBER), text, "")
    for pattern, rewrite in unit.rewrites:
        plain = pc.replace_substring_regex(text, pattern, rewrite)
        for mark, written in ((unit.thousands, ""), (unit.decimal, ".")):
            plain = pc.replace_substring(plain, mark, written) if mark else plain
        found = pc.if_else(pc.match_substring_regex(text, pattern), plain, found)
    return found


def _texts(field: Field, column: pa.Array, tokens: _Tokens) -> tuple[pa.Array, Faults]:
    """The texts of a column, each looked at once; with the rows whose text is not in the domain."""
    given = column.type == TEXTS  # in which a text may be there twice
    encoded = column if given else column.dictionary_encode()
    text, missing = tokens.read(encoded.dictionary, field)
    if pc.any(missing).as_py():
        text = pc.if_else(missing, pa.scalar(None, pa.string()), text)
    wrong: dict[str, Array] = {}
    if field.values is not None:
        settled = field.logical is not None or not pa.types.is_string(encoded.dictionary.type)
        wrong["domain"] = _outside(text, field.values, Marks() if settled else tokens.marks)
    if field.dates:
        wrong["date"] = np.isnan(values.seconds(text)) & ~_nulls(text)
    faults = [(why, _rows_of(encoded, among)) for why, among in wrong.items() if among.any()]
    if given or text is not encoded.dictionary:  # some are missing, or have become equal
        again = text.dictionary_encode()
        indices = again.indices.take(encoded.indices)
        return pa.DictionaryArray.from_arrays(indices, again.dictionary), faults
    return encoded, faults


def _rows_of(encoded: pa.DictionaryArray, among: Array) -> Array:
    """The rows whose text is among some of the dictionary."""
    marked = pc.fill_null(pa.array(among).take(encoded.indices), False)
    return np.flatnonzero(marked.to_numpy(zero_copy_only=False))


def _outside(text: pa.Array, domain: Sequence[str], marks: Marks) -> Array:
    """Which texts are not in the domain, whatever they are written as."""
    listed = pa.array([*domain, None], pa.string())
    known = pc.is_in(text, value_set=listed)
    if not pc.all(known, min_count=0).as_py():
        alike = pc.is_in(
            values.canonical(marks.plain(text), None), value_set=values.canonical(listed, None)
        )
        known = pc.or_(known, alike)
    return np.logical_not(known.to_numpy(zero_copy_only=False))


def _split(column: pa.Array, field: Field, tokens: _Tokens) -> pa.Array:
    """The values of a field with several, as lists; a text is cut at the separator."""
    if pa.types.is_list(column.type):
        return column
    if not pa.types.is_string(column.type) or not field.separator:
        ends = np.concatenate([[0], np.cumsum(column.is_valid().to_numpy(zero_copy_only=False))])
        return Lists(column.drop_null(), ends).to_arrow()
    missing = pc.is_in(column, value_set=tokens.missing_or_empty)
    texts = pc.if_else(missing, pa.scalar(None, pa.string()), column)
    return pc.split_pattern(texts, field.separator)


def _without(rows: Rows, bad: Array) -> Rows:
    keep = np.ones(rows.batch.num_rows, bool)
    keep[bad] = False
    kept = np.flatnonzero(keep)
    mask = pa.array(keep)
    return Rows(
        batch=rows.batch.filter(mask),
        texts={name: text.filter(mask) for name, text in rows.texts.items()},
        problems=rows.problems,
        line_of=lambda row: rows.line_of(int(kept[row])),
        where=lambda row: rows.where(int(kept[row])),
        left_out=rows.left_out + len(keep) - len(kept),
    )


def _joined(column: pa.Array, field: Field, marks: Marks) -> pa.Array:
    """The several texts of each row as one."""
    lists = Lists.of(column)
    own = marks if pa.types.is_string(lists.values.type) else Marks()
    texts = _as_text(values.texts(lists.values), field, own).fill_null("")
    return pc.binary_join(lists.holding(texts).to_arrow(), field.separator or " ")


def _as_text(text: pa.Array, field: Field, marks: Marks) -> pa.Array:
    """Texts as the field's logical type has them."""
    if field.classes:
        return marks.class_names(text)
    logical = field.logical if field.type == "string" else Logical.REAL
    return text if logical is None else marks.canonical(text, logical)


def stored_rows(
    file: InputFile,
    layout: Layout,
    columns: Mapping[str, pa.Array],
    line_of: Callable[[int], int],
    where: Callable[[int], str],
) -> Rows:
    """`typed_rows` for a format with types of its own, whose texts are checked here.

    Args:
        file: Where they come from.
        layout: The types, and what counts as missing.
        columns: The fields, of any type that `readable` accepts, `[rows]`.
        line_of: Gives the record of a row.
        where: Gives its place in words.
    """
    problems = Problems()
    left_out = 0
    texts = set(layout.plain_texts)
    plain: dict[str, pa.Array] = {}
    bad: list[Array] = []
    for name in layout.names:
        plain[name], wrong = _plain(columns[name], encoded=name in texts)
        if len(wrong):
            bad.append(wrong)
            found = [
                Problem(
                    file=file.name,
                    line=line_of(int(r)),
                    field=name,
                    text=(
                        f"Text of field {name!r} is not valid: expected UTF-8 without NUL "
                        f"bytes, got {quote(str(columns[name][int(r)].as_py()))}"
                    ),
                    action="Write the field as UTF-8 text, or leave it out of the columns.",
                    reason=Reason.ENCODING,
                    where=where(int(r)),
                )
                for r in wrong[: layout.listed]
            ]
            problems += Problems.of(found, total=len(wrong), kept=layout.listed)
    if bad:
        keep = np.ones(len(next(iter(plain.values()))), bool)
        keep[np.concatenate(bad)] = False
        kept = np.flatnonzero(keep)
        left_out = len(keep) - len(kept)
        plain = {name: column.filter(pa.array(keep)) for name, column in plain.items()}
        rows = typed_rows(
            file,
            layout,
            plain,
            lambda row: line_of(int(kept[row])),
            lambda row: where(int(kept[row])),
        )
    else:
        rows = typed_rows(file, layout, plain, line_of, where)
    return dataclasses.replace(
        rows, problems=problems + rows.problems, left_out=rows.left_out + left_out
    )


def _plain(column: pa.Array, *, encoded: bool) -> tuple[pa.Array, Array]:
    """As `values.plain`; a dictionary of texts may stay `encoded`."""
    if encoded and pa.types.is_dictionary(column.type):
        distinct, wrong = values.plain(column.dictionary)
        if pa.types.is_string(distinct.type) and not distinct.null_count and not len(wrong):
            indices = column.indices.cast(pa.int32())
            return pa.DictionaryArray.from_arrays(indices, distinct), wrong
    return values.plain(column)


def check_fields(file: InputFile, found: Sequence[str], wanted: Sequence[str]) -> list[Problem]:
    """Returns a problem for every wanted field that a file lacks."""
    lacking = [name for name in wanted if name not in found]
    return [
        Problem(
            file=file.name,
            line=0,
            field=name,
            text=f"Field {name!r} is missing",
            action=f"Add the field or change the configuration.{did_you_mean(name, found)}",
            reason=Reason.FIELD_MISSING,
        )
        for name in lacking
    ]


def _value_problem(
    file: InputFile,
    field: Field,
    layout: Layout,
    cause: str,
    text: str,
    line: int,
    where: str,
) -> Problem:
    kind = "an integer" if field.type == "int" else "a number"
    if cause == "parse":
        expected = f"{kind} or a missing token {list(layout.missing)}"
        what = f"{field.role} {field.name!r} cannot be read: expected {expected}"
        action = (
            f"Correct the value, or add {quote(text)} to data.missing if it stands for a "
            "missing value."
        )
        sign = re.fullmatch(r"[-+]?(\D*?)[-+]?\d[\d.,' ]*(\D*)", text.strip())
        if field.unit is not None:
            what += f" in {field.unit.sign!r}"
            action = "Correct the value, data.units, data.decimal or data.thousands."
        elif sign is not None and bool(sign[1].strip()) != bool(sign[2].strip()):
            unit = (sign[1] or sign[2]).strip()
            action = f"If {unit!r} is its unit, add units: {{{field.name}: {unit!r}}} to data."
        reason = Reason.VALUE_UNPARSABLE
    elif cause == "date":
        what = (
            f"{field.role} {field.name!r} cannot be read: expected a date or time, such as "
            f"2026-01-31 or 2026-01-31 12:00:00, or a missing token {list(layout.missing)}"
        )
        action = (
            f"Correct the value, or add {quote(text)} to data.missing if it stands for a "
            "missing value."
        )
        reason = Reason.VALUE_UNPARSABLE
    elif cause == "domain":
        expected = f"one of the {len(field.values or ()):,} texts of the schema"
        what = f"{field.role} {field.name!r} is not in its domain: expected {expected}"
        action = "Correct the value, or add it to the schema."
        reason = field.reason
    elif cause == "finite":
        what = f"{field.role} {field.name!r} is not finite: expected a finite float32 number"
        action = (
            f"Correct the value, or add {quote(text)} to data.missing if it stands for a "
            "missing value."
        )
        reason = Reason.NOT_FINITE
    else:
        if field.low is None:
            limits = f"{kind} of at most {field.high:g}"
        elif field.high is None:
            limits = f"{kind} of at least {field.low:g}"
        else:
            limits = f"{kind} from {field.low:g} to {field.high:g}"
        what = f"{field.role} {field.name!r} is out of range: expected {limits}"
        action = "Correct the value or the configuration."
        reason = field.reason
    return Problem(
        file=file.name,
        line=line,
        field=field.name,
        text=f"{what}, got {quote(text)}",
        action=field.action or action,
        reason=reason,
        where=where,
    )


def _missing_problem(file: InputFile, field: Field, line: int, where: str) -> Problem:
    return Problem(
        file=file.name,
        line=line,
        field=field.name,
        text=f"{field.role} {field.name!r} is missing: expected a value in every record",
        action=field.action or "Correct the record, or the presence in the schema.",
        reason=Reason.MISSING_VALUE,
        where=where,
    )


def _pair_problem(
    file: InputFile, names: tuple[str, str], lengths: tuple[int, int], line: int, where: str
) -> Problem:
    return Problem(
        file=file.name,
        line=line,
        field=names[1],
        text=(
            f"Field {names[1]!r} does not fit {names[0]!r}: expected a weight for each of its "
            f"{lengths[0]} values, got {lengths[1]}"
        ),
        action="Give as many weights as values.",
        reason=Reason.RECORD_MALFORMED,
        where=where,
    )
