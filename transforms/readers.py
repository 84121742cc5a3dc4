"""Which reader a file format has."""

from __future__ import annotations

from collections.abc import Sequence

from transforms import csv_reader, parquet_reader, rows, tfrecord_reader
from transforms.files import InputFile
from transforms.problems import Problem

_READERS: dict[str, rows.Reader] = {
    "csv": csv_reader,
    "parquet": parquet_reader,
    "tfrecord": tfrecord_reader,
}
FORMATS = tuple(_READERS)


def reader(name: str) -> rows.Reader:
    """Returns the reader of a format: "csv", "parquet" or "tfrecord"."""
    return _READERS[name]


def check_header(
    name: str, file: InputFile, found: Sequence[str], wanted: Sequence[str]
) -> list[Problem]:
    """Returns a problem for every wanted field that a file of a format lacks."""
    check = csv_reader.check_header if name == "csv" else rows.check_fields
    return check(file, found, wanted)
