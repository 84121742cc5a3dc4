"""TFRecord files of tf.Examples as typed Arrow record batches, with faults by record and byte.

The framing is read here: every length and every record is checked against its CRC-32C, so that
a truncated or damaged file is refused with the byte at which it stops making sense, wherever
the file lies. TensorFlow's C++ parser then reads a few thousand Examples at once. The type of a
feature is the one that the file's first Example with a value of it has.
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import io
import itertools
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
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
LOOKED_RECORDS = 1000
HEADER_RECORDS = 1000
"""How many Examples are looked at for the names of features; more, while one wanted is lacking."""

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
        offset, number = 0, 0
        try:
            zipped = raw.peek(2)[:2] == b"\x1f\x8b"
            source: Any = gzip.GzipFile(fileobj=raw) if zipped else raw
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
            raise file.unread(error) from error
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


def _kinds(file: InputFile, layout: Layout, limit: int | None = None) -> dict[str, str]:
    """Feature -> type; looks further than the first Examples for those wanted, up to `limit`."""
    kinds: dict[str, str] = {}
    wanted = set(layout.names)
    record = None
    for record in itertools.islice(_records(file, skip_damaged=layout.quarantine), limit):
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
    features = _features(data)
    if features is None:
        return None
    found = {name: feature.WhichOneof("kind") for name, feature in features.items()}
    return {name: _KINDS[kind] for name, kind in found.items() if kind}


def _several_of(data: bytes) -> set[str]:
    """Features with several values in one Example."""
    features = (_features(data) or {}).items()
    return {name for name, feature in features if len(_values(feature)) > 1}


def read_rows(
    file: InputFile, layout: Layout, *, summary: ReadSummary | None = None
) -> Iterator[Rows]:
    """Yields the records of a file in its order; see `rows.Reader`."""
    return _rows(file, layout, _by_tensorflow, BATCH_RECORDS, summary)


def look(file: InputFile, layout: Layout, *, limit: int | None = None) -> Iterator[Rows]:
    """Yields what `read_rows` does, fewer rows at a time, and without TensorFlow: at once.

    Args:
        file: The file.
        layout: What to read.
        limit: In how many records, the first ones, each field must be; None means all.

    Raises:
        DataError: the file cannot be read, or is damaged.
        SchemaError: a field is missing.
    """
    return _rows(file, layout, _by_message, LOOKED_RECORDS, None, limit)


def _rows(
    file: InputFile,
    layout: Layout,
    parsed_by: _Parser,
    batch_records: int,
    summary: ReadSummary | None,
    limit: int | None = None,
) -> Iterator[Rows]:
    kinds = _kinds(file, layout, limit)
    lacking = check_fields(file, list(kinds), layout.names)
    if limit is not None:
        lacking = [
            dataclasses.replace(one, text=f"{one.text} in the first {limit:,} records")
            for one in lacking
        ]
    Problems.of(lacking).raise_if_any()
    batch: list[_Record] = []
    size = 0
    for record in _records(file, summary, skip_damaged=layout.quarantine):
        batch.append(record)
        size += len(record.data)
        if len(batch) == batch_records or size > BATCH_BYTES:
            yield _parse(file, layout, kinds, batch, parsed_by)
            batch, size = [], 0
    if batch:
        yield _parse(file, layout, kinds, batch, parsed_by)


def _parse(
    file: InputFile,
    layout: Layout,
    kinds: Mapping[str, str],
    batch: list[_Record],
    parsed_by: _Parser,
) -> Rows:
    if not all(record.whole for record in batch):
        problems = _checksums(file, layout, batch)
        return _without(file, layout, kinds, batch, problems, parsed_by)
    types = {name: kinds[name] for name in layout.names}
    parsed = parsed_by([record.data for record in batch], types)
    if parsed is None:
        problems = _malformed(file, layout, kinds, batch)
        return _without(file, layout, kinds, batch, problems, parsed_by)
    several = np.zeros(len(batch), bool)
    columns = {}
    for name, (values, splits) in parsed.items():
        if name in layout.lists:
            columns[name] = Lists(pa.array(values, _ARROW[kinds[name]]), splits).to_arrow()
            continue
        several |= np.diff(splits) > 1
        columns[name] = _column(kinds[name], values, splits)
    if several.any():
        problems = _several(file, layout, parsed, batch)
        return _without(file, layout, kinds, batch, problems, parsed_by)
    return stored_rows(
        file,
        layout,
        columns,
        lambda row: batch[row].number,
        lambda row: _place(batch[row]),
    )


# --- Examples as values -------------------------------------------------------------------------

_Parsed = dict[str, tuple[Any, Any]]
"""Feature -> its values of all Examples, and where those of each begin, `[examples + 1]`."""
_Parser = Callable[[Sequence[bytes], Mapping[str, str]], _Parsed | None]
"""Takes serialized Examples and the types of features; None if one cannot be read so."""


def _by_tensorflow(examples: Sequence[bytes], types: Mapping[str, str]) -> _Parsed | None:
    import tensorflow as tf

    dtypes = {"string": tf.string, "int": tf.int64, "float": tf.float32}
    spec = {
        name: tf.io.RaggedFeature(dtypes[kind], row_splits_dtype=tf.int64)
        for name, kind in types.items()
    }
    try:
        with tf.device("/CPU:0"):
            parsed = tf.io.parse_example(np.array(examples, object), spec)
    except (tf.errors.InvalidArgumentError, UnicodeDecodeError):
        # TensorFlow's message quotes the record, whose bytes need not be text.
        return None
    return {name: (one.values.numpy(), one.row_splits.numpy()) for name, one in parsed.items()}


def _by_message(examples: Sequence[bytes], types: Mapping[str, str]) -> _Parsed | None:
    values: dict[str, list[Any]] = {name: [] for name in types}
    splits: dict[str, list[int]] = {name: [0] for name in types}
    for data in examples:
        features = _features(data)
        if features is None:
            return None
        for name, kind in types.items():
            feature = features.get(name)
            given = None if feature is None else feature.WhichOneof("kind")
            if given is not None:
                if _KINDS[given] != kind:
                    return None
                values[name].extend(_values(feature))
            splits[name].append(len(values[name]))
    dtypes: dict[str, Any] = {"string": np.object_, "int": np.int64, "float": np.float32}
    return {
        name: (np.array(values[name], dtypes[kind]), np.array(splits[name], np.int64))
        for name, kind in types.items()
    }


def _values(feature: Any) -> Sequence[Any]:
    kind = feature.WhichOneof("kind")
    found: Sequence[Any] = getattr(feature, kind).value if kind else ()
    return found


def _features(data: bytes) -> dict[str, Any] | None:
    """The features of one Example by name; None if it is not one."""
    try:
        return dict(_example().FromString(data).features.feature)
    except (DecodeError, UnicodeDecodeError):
        return None


@functools.cache
def _example() -> Any:
    """The message tf.train.Example, whose own class comes with all of TensorFlow.

    Field numbers: tensorflow/core/example/{example,feature}.proto.
    """
    scalar = descriptor_pb2.FieldDescriptorProto
    kinds = {"bytes": scalar.TYPE_BYTES, "float": scalar.TYPE_FLOAT, "int64": scalar.TYPE_INT64}
    file = descriptor_pb2.FileDescriptorProto(name="records/example.proto", syntax="proto3")
    file.package = "records"

    def field(owner: Any, name: str, number: int, kind: Any, *, repeated: bool = False) -> Any:
        label = scalar.LABEL_REPEATED if repeated else scalar.LABEL_OPTIONAL
        made = owner.field.add(name=name, number=number, label=label)
        if isinstance(kind, str):
            made.type, made.type_name = scalar.TYPE_MESSAGE, f".records.{kind}"
        else:
            made.type = kind
        return made

    for name, kind in kinds.items():
        values = file.message_type.add(name=f"{name}_list")
        field(values, "value", 1, kind, repeated=True)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(kinds, 1):
        field(feature, f"{name}_list", number, f"{name}_list").oneof_index = 0
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    field(entry, "key", 1, scalar.TYPE_STRING)
    field(entry, "value", 2, "Feature")
    field(features, "feature", 1, "Features.FeatureEntry", repeated=True)
    field(file.message_type.add(name="Example"), "features", 1, "Features")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("records.Example"))


def _without(
    file: InputFile,
    layout: Layout,
    kinds: Mapping[str, str],
    batch: list[_Record],
    problems: Problems,
    parsed_by: _Parser,
) -> Rows:
    """A batch without the records at fault; nothing of it where these end the job anyway."""
    bad = {problem.line for problem in problems.first}
    good = [record for record in batch if record.number not in bad]
    if not layout.quarantine or len(good) == len(batch):
        return no_rows(layout, problems)
    rows = _parse(file, layout, kinds, good, parsed_by) if good else no_rows(layout, Problems())
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


def _several(file: InputFile, layout: Layout, parsed: _Parsed, batch: list[_Record]) -> Problems:
    found: list[Problem] = []
    total = 0
    for name in [n for n in layout.names if n not in layout.lists]:
        lengths = np.diff(parsed[name][1])
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
