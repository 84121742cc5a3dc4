"""The headers and first rows of a job's files, judged without TensorFlow and Beam.

`config check` finds here what would else end a run after minutes: a field that one file lacks, a
label that is another column, a text where a column reads numbers.
"""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Collection, Iterator, Mapping, Sequence

import pyarrow.compute as pc

from estimator_lib.core import config, labels
from estimator_lib.core.errors import DataError, EstimatorLibError, Reason
from estimator_lib.core.places import Place
from transforms.reading import csv_reader, files, readers, records, tfrecord_reader
from transforms.reading.files import InputFile
from transforms.reading.problems import Problems
from transforms.reading.rows import Field, Layout, Rows
from transforms.validating import anomalies

BLOCK_BYTES = 1 << 17
"""How much of a CSV file is looked at; of a Parquet file, its first rows."""
EXAMPLES = 10_000
"""How many tf.Examples of a file are looked through for a field."""
SHOWN_CLASSES = 10


def check(part: config.PreprocessPart, base_dir: str) -> int:
    """Looks into every file on this machine, and returns how many rows it has seen.

    Of tables and files elsewhere nothing is looked at.

    Args:
        part: What to read.
        base_dir: Directory that file patterns are relative to.

    Raises:
        DataError: a file cannot be read, lacks a field, or has a value at fault among its first
            rows; up to twenty places are named. Where bad rows go to quarantine, such values are
            no fault yet.
        SchemaError: a field is missing, or the schema cannot be judged by.
    """
    if part.data_schema is not None and Place.parse(part.data_schema.path).is_local:
        path = pathlib.Path(base_dir) / part.data_schema.path
        anomalies.parsed_schema(path.read_bytes(), str(path))
    if part.data.bigquery is not None:
        return 0
    by_split = {
        split: [pattern for pattern in patterns if Place.parse(pattern).is_local]
        for split, patterns in part.data.patterns().items()
    }
    found = files.find({split: some for split, some in by_split.items() if some}, base_dir)
    columns = {} if part.preprocess is not None else config.build_columns(part.columns)
    source = records.source(part, columns, {})
    if source.layout.format != "tfrecord":  # which has no header; `first_rows` judges its fields
        require_fields(found, source.layout)
    source = records.source(learned_classes(part, found), columns, {})
    problems, seen = Problems(), 0
    for file in found:
        for rows in first_rows(file, source.layout):
            judged = records.judge(file, source, rows)
            problems += judged.problems
            seen += rows.batch.num_rows
    if part.data.on_bad_rows == "fail":
        problems.raise_if_any()
    return seen


def learned_classes(
    part: config.PreprocessPart, inputs: Sequence[InputFile]
) -> config.PreprocessPart:
    """Returns the configuration with classes that are no numbers from 0 named, in order.

    Rows are read until it is clear which classes a label has: as many as were declared. That no
    row has another one is found when all are read.

    Args:
        part: What to read.
        inputs: Its files; what cannot be read of them is left to those who read all of it.

    Raises:
        DataError: a label has more or fewer classes than were declared.
    """
    named = {head: _named(label, part, inputs) for head, label in part.heads.items()}
    if part.label is not None:
        return part.model_copy(update={"label": named[""]})
    return part.model_copy(update={"labels": named})


def _named(
    label: config.Label, part: config.PreprocessPart, inputs: Sequence[InputFile]
) -> config.Label:
    if label.kind != "class" or not isinstance(label.classes, int):
        return label
    layout = Layout(
        format=part.data.format,
        **part.data.dialect,
        missing=tuple(part.data.missing),
        encoding=part.data.encoding,
        fields=(Field(name=str(label.field), type="string", classes=True),),
        quarantine=True,
    )
    numbers = set(labels.digits(label.classes))
    seen: set[str] = set()
    try:
        for texts in _texts(inputs, layout):
            seen |= set(map(labels.canonical, texts))
            if "0" in seen or len(seen) >= label.classes:
                break
    except EstimatorLibError:
        return label
    if "0" in seen or seen <= numbers:
        return label
    if len(seen) != label.classes:
        raise _other_number(label, seen)
    whole = all(text.lstrip("-").isdecimal() for text in seen)
    return label.model_copy(update={"classes": sorted(seen, key=int if whole else str)})


def _other_number(label: config.Label, seen: Collection[str]) -> DataError:
    shown = ", ".join(map(repr, sorted(seen)[:SHOWN_CLASSES]))
    much, advice = "fewer", "Correct the field, or name the classes: classes: [no, yes]."
    if len(seen) > int(str(label.classes)):
        much = "more"
        advice = f"Give classes: {len(seen)} or their names, classes: [no, yes], or kind: number."
    return DataError(
        f"Label {label.field!r} has {much} classes than declared: expected {label.classes}, got "
        f"{len(seen):,} such as {shown}. {advice}",
        reason=Reason.LABEL_OUT_OF_RANGE,
    )


def _texts(inputs: Sequence[InputFile], layout: Layout) -> Iterator[list[str]]:
    """Yields the different texts of the layout's only field, some rows at a time."""
    (field,) = layout.fields
    for file in inputs:
        for rows in _blocks(file, layout, None):
            yield pc.unique(rows.batch.column(field.name).drop_null()).to_pylist()


def _blocks(file: InputFile, layout: Layout, examples: int | None) -> Iterator[Rows]:
    if layout.format == "csv":
        return csv_reader.read_rows(file, layout, block_bytes=BLOCK_BYTES)
    if layout.format == "tfrecord":
        return tfrecord_reader.look(file, layout, limit=examples)
    return readers.reader(layout.format).read_rows(file, layout)


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
    """Yields the first rows of a file, if it has any.

    Raises:
        SchemaError: a field is missing, of tf.Examples in the first `EXAMPLES`.
    """
    yield from itertools.islice(_blocks(file, layout, EXAMPLES), 1)
