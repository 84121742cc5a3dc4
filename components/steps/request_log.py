"""Logs of requests as raw rows: what TF Serving and KServe's logger write, put into Parquet.

JSON lines hold a request of the REST API each (`instances`, or `inputs` by name), the event of
KServe's logger around one, or one row; TFRecord files hold PredictionLogs. Rows are written as they
are read, a few thousand at a time.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import dataclasses
import gzip
import io
import json
import math
import pathlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from google.protobuf.message import DecodeError

from estimator_lib.core import storage
from estimator_lib.core.columns import MISSING_INT
from estimator_lib.core.errors import DataError, Reason, quote
from estimator_lib.export import prediction_log

ROWS = 8192
LONGEST_BYTES = 1 << 26
"""A longer line or record is left out as damaged."""
SHOWN = 20
_ANSWERS = ("response", "feedback")
_ARROW = {"string": pa.string(), "int": pa.int64(), "float": pa.float32()}
_INTS = range(-(2**63), 2**63)
Row = dict[str, Any]


@dataclasses.dataclass(kw_only=True)
class Converted:
    """What became of a log.

    Attributes:
        rows: Rows written.
        left_out: Requests that hold no rows of the model's inputs; a server refused them too.
        others: Records that are no requests, such as answers.
        faults: The first of what was left out, one sentence each.
    """

    rows: int = 0
    left_out: int = 0
    others: int = 0
    faults: list[str] = dataclasses.field(default_factory=list)

    def leave_out(self, place: str, fault: object) -> None:
        """Counts a request that was left out."""
        self.left_out += 1
        if len(self.faults) < SHOWN:
            self.faults.append(f"{place}: {fault}")


class _FaultError(Exception):
    """What is wrong with one request."""


def convert(
    files: Sequence[pathlib.Path], kind: str, fields: Mapping[str, str], output: pathlib.Path
) -> Converted:
    """Writes the rows of all requests as one Parquet file.

    Args:
        files: Files of one kind; those named .gz are decompressed.
        kind: "jsonl" or "tfrecord".
        fields: The model's inputs: name -> "string", "int" or "float", with "[]" for several
            values. A value that a request does not have is missing.
        output: The file.

    Raises:
        DataError: a file cannot be read, or no request has rows.
    """
    schema = pa.schema([(name, _arrow(of)) for name, of in sorted(fields.items())])
    told = Converted()
    with pq.ParquetWriter(output, schema) as writer:
        waiting: list[Row] = []
        for file in files:
            for row in _rows(file, kind, fields, told):
                waiting.append(row)
                if len(waiting) == ROWS:
                    writer.write_table(pa.Table.from_pylist(waiting, schema))
                    told.rows += len(waiting)
                    waiting = []
        if waiting:
            writer.write_table(pa.Table.from_pylist(waiting, schema))
            told.rows += len(waiting)
    if not told.rows:
        why = f" The first fault: {told.faults[0]}." if told.faults else ""
        raise DataError(
            f"The {len(files)} files hold no request with rows: {told.left_out:,} are left out, "
            f"{told.others:,} records are no requests.{why}",
            reason=Reason.EMPTY_INPUT,
        )
    return told


def _arrow(kind: str) -> pa.DataType:
    one = _ARROW[kind.removesuffix("[]")]
    return pa.list_(one) if kind.endswith("[]") else one


def _rows(
    file: pathlib.Path, kind: str, fields: Mapping[str, str], told: Converted
) -> Iterator[Row]:
    records = _lines(file) if kind == "jsonl" else _records(file)
    read = _json_rows if kind == "jsonl" else _logged_rows
    for number, record in records:
        place = f"{file.name}:{number}"
        if len(record) > LONGEST_BYTES:
            told.leave_out(place, f"longer than {LONGEST_BYTES:,} bytes")
            continue
        try:
            rows = read(record, fields)
        except (_FaultError, DataError) as fault:
            told.leave_out(place, fault)
            continue
        if rows is None:
            told.others += 1
        else:
            yield from rows


def _lines(file: pathlib.Path) -> Iterator[tuple[int, bytes]]:
    opened: io.BufferedIOBase
    with storage.storage_errors("read", file), _whole(file), file.open("rb") as plain:
        opened = gzip.GzipFile(fileobj=plain) if file.suffix == ".gz" else plain
        number = 0
        while start := opened.readline(LONGEST_BYTES + 1):
            number += 1
            rest = start
            while rest and not rest.endswith(b"\n"):  # of a line that is too long
                rest = opened.readline(LONGEST_BYTES)
            if start.strip():
                yield number, start


@contextlib.contextmanager
def _whole(file: pathlib.Path) -> Iterator[None]:
    """Refuses a compressed file that is damaged."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"Request log {file} is damaged: {error}. Give a whole file.",
            reason=Reason.CORRUPT_FILE,
        ) from error


def _records(file: pathlib.Path) -> Iterator[tuple[int, bytes]]:
    import tensorflow as tf

    packed = "GZIP" if file.suffix == ".gz" else ""
    try:
        found = tf.data.TFRecordDataset(str(file), packed).as_numpy_iterator()
        yield from enumerate(found, 1)
    except tf.errors.OpError as error:
        raise DataError(
            f"Request log {file} is damaged: {error.message.splitlines()[0]}. Give a whole file.",
            reason=Reason.CORRUPT_FILE,
        ) from error


def _json_rows(line: bytes, fields: Mapping[str, str]) -> list[Row] | None:
    """The rows of a line; None if it is an answer."""
    try:
        content = json.loads(line)
        for _ in range(2):  # an event, and its data where that is a text
            if isinstance(content, dict) and "specversion" in content:
                if any(word in str(content.get("type")) for word in _ANSWERS):
                    return None
                packed = content.get("data_base64")
                content = base64.b64decode(packed) if packed else content.get("data")
            if isinstance(content, str | bytes):
                content = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _FaultError("no JSON") from error
    if not isinstance(content, dict):
        raise _FaultError("no request: expected an object")
    if "predictions" in content or "outputs" in content:
        return None
    if "instances" in content and "instances" not in fields:
        return _of_instances(content["instances"], fields)
    if "inputs" in content and "inputs" not in fields:
        return _of_columns(content["inputs"], fields)
    return [_row(content, fields)]


def _of_instances(instances: Any, fields: Mapping[str, str]) -> list[Row]:
    if not isinstance(instances, list):
        raise _FaultError("'instances' is no list")
    if len(fields) == 1:  # the name of an only input may be left out
        (only,) = fields
        instances = [i if isinstance(i, dict) and only in i else {only: i} for i in instances]
    return [_row(instance, fields) for instance in instances]


def _of_columns(inputs: Any, fields: Mapping[str, str]) -> list[Row]:
    if len(fields) == 1 and isinstance(inputs, list):
        inputs = {next(iter(fields)): inputs}
    if not isinstance(inputs, dict) or not all(isinstance(v, list) for v in inputs.values()):
        raise _FaultError("'inputs' is no object of lists")
    lengths = {len(values) for values in inputs.values()}
    if len(lengths) > 1:
        raise _FaultError("the lists of 'inputs' have different lengths")
    count = lengths.pop() if lengths else 0
    return [_row({n: v[at] for n, v in inputs.items()}, fields) for at in range(count)]


def _row(given: Any, fields: Mapping[str, str]) -> Row:
    if not isinstance(given, dict):
        raise _FaultError("an instance is no object of the model's inputs")
    if strange := sorted(given.keys() - fields.keys()):
        raise _FaultError(f"{quote(strange[0])} is no input of the model")
    return {name: _value(value, fields[name], name) for name, value in given.items()}


def _value(value: Any, kind: str, name: str) -> Any:
    """A value as the rows have it; None is missing."""
    if kind.endswith("[]"):
        if not isinstance(value, list):
            raise _FaultError(f"{name}: expected a list, got {quote(value)}")
        found = [_value(one, kind[:-2], name) for one in value]
        return [one for one in found if one is not None]
    if kind == "string":
        if isinstance(value, dict) and value.keys() == {"b64"}:
            try:
                value = base64.b64decode(value["b64"], validate=True).decode()
            except (binascii.Error, ValueError, TypeError) as error:
                raise _FaultError(f"{name}: no text in base64") from error
        if isinstance(value, str):
            return value or None
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if kind == "float":
            return None if math.isnan(value) else float(value)
        if isinstance(value, int) and value in _INTS:
            return None if value == MISSING_INT else value
    wanted = {"string": "a text", "int": "an integer", "float": "a number"}[kind]
    raise _FaultError(f"{name}: expected {wanted}, got {quote(value)}")


def _logged_rows(record: bytes, fields: Mapping[str, str]) -> list[Row] | None:
    """The rows of a PredictionLog; None if it holds no request."""
    request = prediction_log.decode(record)
    if request is None:
        return None
    if request.examples or not request.tensors:
        return [_of_example(example, fields) for example in request.examples]
    import tensorflow as tf
    from tensorflow.core.framework import tensor_pb2

    columns = {}
    for name, serialized in request.tensors.items():
        try:
            columns[name] = tf.make_ndarray(tensor_pb2.TensorProto.FromString(serialized))
        except (DecodeError, TypeError, ValueError) as error:
            raise _FaultError(f"{name}: no tensor") from error
    if len(columns) == 1 and not columns.keys() & fields.keys():
        (texts,) = columns.values()
        return [_of_example(example, fields) for example in texts.reshape(-1).tolist()]
    if any(values.ndim == 0 for values in columns.values()):
        raise _FaultError("a tensor has no rows")
    lists = {name: [_plain(one) for one in values] for name, values in columns.items()}
    return _of_columns(lists, fields)


def _plain(value: Any) -> Any:
    """One entry of a tensor's first dimension as JSON has it."""
    if isinstance(value, np.ndarray):
        return [_plain(one) for one in value]
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value.item() if isinstance(value, np.generic) else value


def _of_example(serialized: Any, fields: Mapping[str, str]) -> Row:
    import tensorflow as tf

    try:
        features = tf.train.Example.FromString(serialized).features.feature
    except (DecodeError, TypeError) as error:
        raise _FaultError("no tf.Example") from error
    row: Row = {}
    for name, feature in features.items():
        which = feature.WhichOneof("kind")
        values = [_plain(v) for v in getattr(feature, which).value] if which else []
        if name in fields and values:
            row[name] = values if fields[name].endswith("[]") else values[0]
    return _row(row, fields)
