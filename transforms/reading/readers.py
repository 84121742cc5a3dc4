"""Which reader a file format has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

from transforms.reading import csv_reader, parquet_reader, rows, tfrecord_reader
from transforms.reading.files import InputFile
from transforms.reading.problems import Problem

_READERS: dict[str, rows.Reader] = {
    "csv": csv_reader,
    "parquet": parquet_reader,
    "tfrecord": tfrecord_reader,
}
FORMATS = tuple(_READERS)


def reader(name: str) -> rows.Reader:
    """Returns the reader of a format: "csv", "parquet" or "tfrecord"."""
    return _READERS[name]


PART_BYTES = 128 << 20
"""Larger files are read in parts, where the format allows, so that workers can share them."""


def divide(file: InputFile, layout: rows.Layout) -> list[InputFile]:
    """Returns a file, or parts of it; a function of its content alone."""
    if layout.format == "csv":
        return csv_reader.divide(file, layout, PART_BYTES)
    return parquet_reader.divide(file, PART_BYTES) if layout.format == "parquet" else [file]


def stream(file: InputFile, name: str) -> BinaryIO:
    """Opens the bytes that tell whether a file, or part, of a format is still the same."""
    if file.part is None:
        return file.open()
    return csv_reader.stream(file) if name == "csv" else parquet_reader.stream(file)


def check_header(
    name: str, file: InputFile, found: Sequence[str], wanted: Sequence[str]
) -> list[Problem]:
    """Returns a problem for every wanted field that a file of a format lacks."""
    check = csv_reader.check_header if name == "csv" else rows.check_fields
    return check(file, found, wanted)
