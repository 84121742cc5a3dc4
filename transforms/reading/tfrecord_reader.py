"""TFRecord files of tf.Examples as typed Arrow record batches, with faults by record and byte.

The framing is read here: every length and every record is checked against its CRC-32C, so that
a truncated or damaged file is refused with the byte at which it stops making sense, wherever
the file lies. TensorFlow's C++ parser then reads a few thousand Examples at once. The type of a
feature is the one that the file's first Example with a value of it has.
"""

from __future__ import annotations

import dataclasses
import gzip
import io
import itertools
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa
from google.protobuf.message import DecodeError

from estimator_lib.core.errors import DataError, Reason
from transforms.reading.files import InputFile
from transforms.reading.lists import Lists
from transforms.reading.problems import Problem, Problems
from transforms.reading.rows import (
    Layout,
    ReadSummary,
    Rows,
    check_fields,
    no_rows,
    stored_rows,
)
from transforms.reading.streams import Digested

BATCH_RECORDS = 1 << 13
BATCH_BYTES = 8 << 20
MAX_RECORD_BYTES = 1 << 30
"""A longer record is taken for damage."""
HEADER_RECORDS = 1000
"""How many Examples are looked at for the names of features."""

_KINDS = {"bytes_list": "string", "int64_list": "int", "float_list": "float"}
_ARROW = {"string": pa.binary(), "int": pa.int64(), "float": pa.float32()}
_LENGTH = struct.Struct("<QI")
_CRC = struct.Struct("<I")

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Record:
    """One record: its bytes, its 1-based number, where it starts, whether its checksum fits."""

    data: bytes
    number: int
    offset: int
    whole: bool = True


def _records(
    file: InputFile, summary: ReadSummary | None = None, *, skip_damaged: bool = False
) -> Iterator[_Record]:
    """Yields the records of a file.

    With `skip_damaged`, a record whose content is damaged but whose length is not is yielded
    as such, for the next one can still be found.

    Raises:
        DataError: the file cannot be read, or is truncated or damaged.
    """
    digested = Digested(file.open(), wanted=summary is not None)
    with io.BufferedReader(digested, 1 << 20) as raw:
        zipped = raw.peek(2)[:2] == b"\x1f\x8b"
        source: Any = gzip.GzipFile(fileobj=raw) if zipped else raw
        offset, number = 0, 0
        try:
            while header := source.read(_LENGTH.size):
                number += 1
                if len(header) < _LENGTH.size:
                    raise _damaged(file, number, offset, "the end of the file")
                length, check = _LENGTH.unpack(header)
                if _masked(header[:8]) != check:
                    raise _damaged(file, number, offset, "a length with a wrong checksum")
                if length > MAX_RECORD_BYTES:
                    raise _damaged(file, number, offset, f"a length of {length:,} bytes")
                body = source.read(length + _CRC.size)
                if len(body) < length + _CRC.size:
                    raise _damaged(file, number, offset, "the end of the file")
                data = body[:length]
                whole = _masked(data) == _CRC.unpack_from(body, length)[0]
                if not whole and not skip_damaged:
                    raise _damaged(file, number, offset, "content with a wrong checksum")
                yield _Record(data=data, number=number, offset=offset, whole=whole)
                offset += _LENGTH.size + len(body)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            found = f"damaged gzip ({str(error).rstrip('.')})"
            raise _damaged(file, number + 1, offset, found) from error
        except OSError as error:
            raise DataError(
                f"File {file.name} cannot be read: {error.strerror or error}.", reason=Reason.IO
            ) from error
        while raw.read(1 << 20):
            pass
        if summary is not None:
            summary.sha256, summary.size_bytes = digested.hexdigest(), digested.size


def _masked(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _damaged(file: InputFile, number: int, offset: int, found: str) -> DataError:
    return DataError(
        f"File {file.name} is damaged: expected a complete TFRecord, got {found} at "
        f"{file.name}:record {number:,}, byte {offset:,}. Copy the file again.",
        reason=Reason.CORRUPT_FILE,
    )


def read_header(file: InputFile, layout: Layout) -> list[str]:
    """Returns the names of the features of the first Examples, and those wanted further on.

    Raises:
        DataError: the file cannot be read, is damaged or has no record.
    """
    return list(_kinds(file, layout))


def infer_types(file: InputFile, names: Sequence[str], layout: Layout) -> dict[str, str]:
    """Returns int, float or string for each field, as the file has it.

    "[]" follows if one of the first Examples has several values.
    """
    kinds = _kinds(file, layout)
    several: set[str] = set()
    for record in itertools.islice(_records(file), HEADER_RECORDS):
        several |= _several_of(record.data)
    return {n: kinds.get(n, "string") + ("[]" if n in several else "") for n in names}


def _kinds(file: InputFile, layout: Layout) -> dict[str, str]:
    """Feature -> type; looks further than the first Examples for those wanted."""
    kinds: dict[str, str] = {}
    wanted = set(layout.names)
    record = None
    for record in _records(file, skip_damaged=layout.quarantine):
        if record.number > HEADER_RECORDS and wanted <= kinds.keys():
            break
        for name, kind in ((_kinds_of(record.data) if record.whole else None) or {}).items():
            kinds.setdefault(name, kind)
    if record is None:
        raise DataError(
            f"File {file.name} is empty: expected tf.Examples, got no record. Remove the file.",
            reason=Reason.EMPTY_INPUT,
        )
    return kinds


def _kinds_of(data: bytes) -> dict[str, str] | None:
    """Feature -> type of one Example; None if it is not one."""
    lists = _value_lists(data)
    return None if lists is None else {name: _KINDS[kind] for name, (kind, _) in lists.items()}


def _several_of(data: bytes) -> set[str]:
    """Features with several values in one Example."""
    return {name for name, (_, count) in (_value_lists(data) or {}).items() if count > 1}


def _value_lists(data: bytes) -> dict[str, tuple[str, int]] | None:
    """Feature -> which of an Example's lists it has, and how many values; None if it is none."""
    from tensorflow.core.example import example_pb2  # loads TensorFlow

    try:
        features = example_pb2.Example.FromString(data).features.feature
    except DecodeError:
        return None
    kinds = {name: feature.WhichOneof("kind") for name, feature in features.items()}
    return {n: (kind, len(getattr(features[n], kind).value)) for n, kind in kinds.items() if kind}


def read_rows(
    file: InputFile, layout: Layout, *, summary: ReadSummary | None = None
) -> Iterator[Rows]:
    """Yields the records of a file in its order; see `rows.Reader`."""
    kinds = _kinds(file, layout)
    Problems.of(check_fields(file, list(kinds), layout.names)).raise_if_any()
    batch: list[_Record] = []
    size = 0
    for record in _records(file, summary, skip_damaged=layout.quarantine):
        batch.append(record)
        size += len(record.data)
        if len(batch) == BATCH_RECORDS or size > BATCH_BYTES:
            yield _parse(file, layout, kinds, batch)
            batch, size = [], 0
    if batch:
        yield _parse(file, layout, kinds, batch)


def _parse(file: InputFile, layout: Layout, kinds: Mapping[str, str], batch: list[_Record]) -> Rows:
    import tensorflow as tf

    if not all(record.whole for record in batch):
        return _without(file, layout, kinds, batch, _checksums(file, layout, batch))

    dtypes = {"string": tf.string, "int": tf.int64, "float": tf.float32}
    spec = {
        name: tf.io.RaggedFeature(dtypes[kinds[name]], row_splits_dtype=tf.int64)
        for name in layout.names
    }
    serialized = np.array([record.data for record in batch], object)
    try:
        with tf.device("/CPU:0"):
            parsed = tf.io.parse_example(serialized, spec)
    except (tf.errors.InvalidArgumentError, UnicodeDecodeError):
        # TensorFlow's message quotes the record, whose bytes need not be text.
        problems = _malformed(file, layout, kinds, batch)
        return _without(file, layout, kinds, batch, problems)
    several = np.zeros(len(batch), bool)
    columns = {}
    for name, ragged in parsed.items():
        splits = ragged.row_splits.numpy()
        if name in layout.lists:
            flat = pa.array(ragged.values.numpy(), _ARROW[kinds[name]])
            columns[name] = Lists(flat, splits).to_arrow()
            continue
        several |= np.diff(splits) > 1
        columns[name] = _column(kinds[name], ragged.values.numpy(), splits)
    if several.any():
        problems = _several(file, layout, parsed, batch)
        return _without(file, layout, kinds, batch, problems)
    return stored_rows(
        file,
        layout,
        columns,
        lambda row: batch[row].number,
        lambda row: _place(batch[row]),
    )


def _without(
    file: InputFile,
    layout: Layout,
    kinds: Mapping[str, str],
    batch: list[_Record],
    problems: Problems,
) -> Rows:
    """A batch without the records at fault; nothing of it where these end the job anyway."""
    bad = {problem.line for problem in problems.first}
    good = [record for record in batch if record.number not in bad]
    if not layout.quarantine or len(good) == len(batch):
        return no_rows(layout, problems)
    rows = _parse(file, layout, kinds, good) if good else no_rows(layout, Problems())
    left_out = rows.left_out + len(batch) - len(good)
    return dataclasses.replace(rows, problems=problems + rows.problems, left_out=left_out)


def _place(record: _Record) -> str:
    return f"record {record.number:,}, byte {record.offset:,}"


def _column(kind: str, values: Array, splits: Array) -> pa.Array:
    """The first value of every row, null without one."""
    present = splits[1:] > splits[:-1]
    flat = pa.array(values, _ARROW[kind])
    if len(flat) == len(present) and present.all():
        return flat
    return flat.take(pa.array(splits[:-1], mask=~present))


def _checksums(file: InputFile, layout: Layout, batch: list[_Record]) -> Problems:
    """The records whose content has another checksum than was written."""
    text = "Record is damaged: expected content with its checksum"
    found = [
        _problem(file, record, "", text, Reason.CORRUPT_FILE)
        for record in batch
        if not record.whole
    ]
    return Problems.of(found, kept=layout.listed)


def _malformed(
    file: InputFile, layout: Layout, kinds: Mapping[str, str], batch: list[_Record]
) -> Problems:
    """The records that are no Example, or have a feature of another type than before."""
    found = []
    for record in batch:
        actual = _kinds_of(record.data)
        if actual is None:
            found.append(
                _problem(
                    file,
                    record,
                    "",
                    "Record is not a tf.Example: expected a serialized Example",
                    Reason.RECORD_MALFORMED,
                )
            )
            continue
        for name in layout.names:
            if actual.get(name, kinds[name]) != kinds[name]:
                text = (
                    f"Feature {name!r} changes its type: expected {kinds[name]} as in earlier "
                    f"records, got {actual[name]}"
                )
                found.append(_problem(file, record, name, text, Reason.TYPE_MISMATCH))
    if not found:
        text = "Records cannot be parsed as tf.Examples"
        found.append(_problem(file, batch[0], "", text, Reason.RECORD_MALFORMED))
        if layout.quarantine:  # nobody knows which of them
            raise Problems.of(found).as_error()
    return Problems.of(found, kept=layout.listed)


def _several(
    file: InputFile, layout: Layout, parsed: Mapping[str, Any], batch: list[_Record]
) -> Problems:
    found: list[Problem] = []
    total = 0
    for name in [n for n in layout.names if n not in layout.lists]:
        lengths = np.diff(parsed[name].row_splits.numpy())
        for row in np.flatnonzero(lengths > 1):
            total += 1
            if len(found) < layout.listed:
                text = (
                    f"Feature {name!r} has {lengths[row]} values: expected one or none where "
                    "data.fields does not declare it"
                )
                found.append(_problem(file, batch[int(row)], name, text, Reason.RECORD_MALFORMED))
    return Problems.of(found, total=total, kept=layout.listed)


def _problem(file: InputFile, record: _Record, field: str, text: str, reason: Reason) -> Problem:
    return Problem(
        file=file.name,
        line=record.number,
        field=field,
        text=text,
        action="Write the records again.",
        reason=reason,
        where=_place(record),
    )
