"""The headers and first rows of a job's files, judged without TensorFlow and Beam.

`config check` finds here what would else end a run after minutes: a field that one file lacks, a
label that is another column, a text where a column reads numbers.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Mapping, Sequence

from estimator_lib.core import config
from transforms import anomalies, csv_reader, files, readers, records
from transforms.files import InputFile
from transforms.problems import Problems
from transforms.rows import Layout, Rows

BLOCK_BYTES = 1 << 17
"""How much of a CSV file is looked at; of a Parquet file, its first rows."""
WITHOUT_TENSORFLOW = ("csv", "parquet")


def check(part: config.PreprocessPart, base_dir: str) -> int:
    """Looks into every file on this machine, and returns how many rows it has seen.

    Of tf.Examples nothing is looked at, nor of tables and files elsewhere.

    Args:
        part: What to read.
        base_dir: Directory that file patterns are relative to.

    Raises:
        DataError: a file cannot be read, lacks a field, or has a value at fault among its first
            rows; up to twenty places are named. Where bad rows go to quarantine, such values are
            no fault yet.
        SchemaError: a field is missing, or the schema cannot be judged by.
    """
    schema = part.data_schema.path if part.data_schema is not None else "://"
    if "://" not in schema:
        place = pathlib.Path(base_dir) / schema
        anomalies.parsed_schema(place.read_bytes(), str(place))
    if part.data.format not in WITHOUT_TENSORFLOW:
        return 0
    by_split = {
        split: [pattern for pattern in patterns if "://" not in pattern]
        for split, patterns in part.data.patterns().items()
    }
    found = files.find({split: some for split, some in by_split.items() if some}, base_dir)
    columns = {} if part.preprocess is not None else config.build_columns(part.columns)
    source = records.source(part, columns, {})
    require_fields(found, source.layout)
    problems, seen = Problems(), 0
    for file in found:
        for rows in first_rows(file, source.layout):
            judged = records.judged(file, source, rows)
            problems += judged.problems
            seen += rows.batch.num_rows
    if part.data.on_bad_rows == "fail":
        problems.raise_if_any()
    return seen


def require_fields(
    inputs: Sequence[InputFile], layout: Layout
) -> Mapping[InputFile, Sequence[str]]:
    """Returns the header of every file.

    Raises:
        SchemaError: a file lacks a field; all such are listed.
    """
    reader = readers.reader(layout.format)
    headers = {file: reader.read_header(file, layout) for file in inputs}
    Problems.of(
        problem
        for file, header in headers.items()
        for problem in readers.check_header(layout.format, file, header, layout.names)
    ).raise_if_any()
    return headers


def first_rows(file: InputFile, layout: Layout) -> Iterator[Rows]:
    """Yields the first rows of a file, if it has any."""
    if layout.format == "csv":
        yield from _one(csv_reader.read_rows(file, layout, block_bytes=BLOCK_BYTES))
    else:
        yield from _one(readers.reader(layout.format).read_rows(file, layout))


def _one(rows: Iterator[Rows]) -> Iterator[Rows]:
    for first in rows:
        yield first
        return
