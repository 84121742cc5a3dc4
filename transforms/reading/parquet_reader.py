"""Parquet files as typed Arrow record batches, with faults located by row group and row."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from typing import BinaryIO, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from estimator_lib.core import storage
from estimator_lib.core.errors import DataError, Reason, SchemaError
from transforms.reading import values
from transforms.reading.files import InputFile, Part
from transforms.reading.problems import Problems
from transforms.reading.rows import (
    Layout,
    ReadSummary,
    Rows,
    check_fields,
    stored_rows,
)
from transforms.reading.streams import Stretch

BATCH_ROWS = 1 << 16
DICTIONARY_BYTES = 1 << 16
"""Texts are read as the dictionaries of a file if these take no more, for every batch has all."""


def read_header(file: InputFile, layout: Layout) -> list[str]:
    """Returns the names of the columns.

    Raises:
        DataError: the file cannot be read or is no Parquet file.
        SchemaError: a wanted column is nested, or its name appears twice.
    """
    with _opened(file) as parquet:
        schema = parquet.schema_arrow
        _check_types(file, schema, layout)
        return list(schema.names)


def infer_types(file: InputFile, names: Sequence[str], layout: Layout) -> dict[str, str]:  # noqa: ARG001 - one signature for all readers
    """Returns int, float or string for each field, as the file's schema has it."""
    with _opened(file) as parquet:
        return {name: values.type_of(parquet.schema_arrow.field(name).type) for name in names}


def read_rows(
    file: InputFile, layout: Layout, *, summary: ReadSummary | None = None
) -> Iterator[Rows]:
    """Yields the rows of a file in its order; see `rows.Reader`."""
    if summary is not None:
        _digest(file, summary)
    with _opened(file, encoded=layout.plain_texts) as parquet:
        schema = parquet.schema_arrow
        Problems.of(check_fields(file, schema.names, layout.names)).raise_if_any()
        _check_types(file, schema, layout)
        groups = range(parquet.num_row_groups)
        deprecated = _deprecated(parquet, layout.names)
        for group in groups if file.part is None else groups[file.part.begin : file.part.end]:
            before = 0
            batches = parquet.iter_batches(BATCH_ROWS, row_groups=[group], columns=layout.names)
            if deprecated:
                batches = _within_years(file, batches, group, deprecated)
            while (batch := _next(file, batches, group, before)) is not None:
                yield _batch_rows(file, layout, batch, group, before)
                before += batch.num_rows
            expected = parquet.metadata.row_group(group).num_rows
            if before != expected:
                raise _damaged(file, f"{before:,} of {expected:,} rows of row group {group}")


def _deprecated(parquet: pq.ParquetFile, names: Sequence[str]) -> list[str]:
    """The wanted columns of INT96 timestamps, which Arrow reads as nanoseconds."""
    columns = [parquet.schema.column(i) for i in range(len(parquet.schema))]
    return [c.path for c in columns if c.physical_type == "INT96" and c.path in names]


def _within_years(
    file: InputFile, batches: Iterator[pa.RecordBatch], group: int, names: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """Batches with the moments that nanoseconds of 64 bits cannot hold, which would wrap.

    The same values are read as microseconds too, and taken from there where the two disagree:
    then as texts.
    """
    with _opened(file, int96="us") as coarse:
        others = coarse.iter_batches(BATCH_ROWS, row_groups=[group], columns=list(names))
        for batch, other in zip(batches, others, strict=True):
            for name in names:
                fine, wide = batch.column(name), other.column(name)
                floored = pc.floor_temporal(fine, unit="microsecond").cast(pa.timestamp("us"))
                same = pc.equal(floored, wide)
                if pc.all(same, min_count=0).as_py():
                    continue
                (exact, _), (plain, _) = values.plain(fine), values.plain(wide)
                at = batch.schema.get_field_index(name)
                text = pc.if_else(same, exact, plain)
                batch = batch.set_column(at, name, text)
            yield batch


def _batch_rows(
    file: InputFile, layout: Layout, batch: pa.RecordBatch, group: int, before: int
) -> Rows:
    columns = {name: batch.column(name) for name in layout.names}
    return stored_rows(
        file,
        layout,
        columns,
        lambda row: before + row + 1,
        lambda row: f"row group {group}, row {before + row + 1}",
    )


def _next(
    file: InputFile, batches: Iterator[pa.RecordBatch], group: int, before: int
) -> pa.RecordBatch | None:
    try:
        return next(batches, None)
    except (pa.ArrowException, OSError) as error:
        _require_disk(file, error)
        found = f"{_short(error)} at row group {group}, after row {before:,}"
        raise _damaged(file, found) from error


def _opened(
    file: InputFile, *, int96: str | None = None, encoded: Sequence[str] = ()
) -> pq.ParquetFile:
    """Opens a file; texts of the fields `encoded` may be read as the dictionaries that it has."""
    stream = file.open()
    try:
        opened = functools.partial(
            pq.ParquetFile,
            stream,
            page_checksum_verification=True,
            coerce_int96_timestamp_unit=int96,
        )
        parquet = opened()
        few = _of_few_texts(parquet.metadata, encoded)
        return opened(metadata=parquet.metadata, read_dictionary=few) if few else parquet
    except (pa.ArrowException, OSError) as error:
        stream.close()
        _require_disk(file, error)
        raise _damaged(file, _short(error)) from error


def _require_disk(file: InputFile, error: Exception) -> None:
    """Tells a disk that failed from content that is damaged: Arrow has one error for both."""
    if isinstance(error, OSError) and storage.may_pass(error):
        raise file.unread(error) from error


def _of_few_texts(metadata: pq.FileMetaData, names: Sequence[str]) -> list[str]:
    """The columns whose dictionaries are small in every row group."""
    found = []
    for at in range(metadata.num_columns if metadata.num_row_groups else 0):
        chunks = [metadata.row_group(i).column(at) for i in range(metadata.num_row_groups)]
        if chunks[0].path_in_schema in names and all(
            chunk.has_dictionary_page
            and chunk.data_page_offset - chunk.dictionary_page_offset <= DICTIONARY_BYTES
            for chunk in chunks
        ):
            found.append(chunks[0].path_in_schema)
    return found


def _short(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _damaged(file: InputFile, found: str) -> DataError:
    return DataError(
        f"File {file.name} is damaged: expected a complete Parquet file, got {found}. "
        "Copy the file again.",
        reason=Reason.CORRUPT_FILE,
    )


def _check_types(file: InputFile, schema: pa.Schema, layout: Layout) -> None:
    for name in layout.names:
        places = schema.get_all_field_indices(name)
        if len(places) > 1:
            raise SchemaError(
                f"File {file.name} is ambiguous: expected every column once, got {name!r} "
                f"{len(places)} times. Rename a column.",
                reason=Reason.DUPLICATE,
            )
        kind = schema.field(places[0]).type if places else pa.string()
        if not values.readable(kind, several=name in layout.lists):
            advice = (
                "Declare it under data.fields" if values.is_list(kind) else "Flatten the column"
            )
            raise SchemaError(
                f"Field {name!r} cannot be read: expected one text or number per row, got "
                f"{kind} in {file.name}. {advice}.",
                reason=Reason.TYPE_MISMATCH,
            )


def divide(file: InputFile, part_bytes: int) -> list[InputFile]:
    """Returns parts of whole row groups, of about `part_bytes` of decoded values each."""
    with _opened(file) as parquet:
        groups = range(parquet.num_row_groups)
        sizes = [parquet.metadata.row_group(i).total_byte_size for i in groups]
    cuts, size = [0], 0
    for group, more in enumerate(sizes):
        size += more
        if size >= part_bytes or group + 1 == len(sizes):
            cuts.append(group + 1)
            size = 0
    if len(cuts) < 3:
        return [file]
    parts = [Part(begin=a, end=b) for a, b in itertools.pairwise(cuts)]
    return [dataclasses.replace(file, part=part) for part in parts]


def stream(file: InputFile) -> BinaryIO:
    """Opens the bytes that make a file what it is; of a part, its schema and its row groups'."""
    if file.part is None:
        return file.open()
    with _opened(file) as parquet:
        chunks = [
            parquet.metadata.row_group(group).column(column)
            for group in range(file.part.begin, file.part.end)
            for column in range(parquet.metadata.num_columns)
        ]
        begins = [min(filter(None, (c.dictionary_page_offset, c.data_page_offset))) for c in chunks]
        ends = [b + c.total_compressed_size for b, c in zip(begins, chunks, strict=True)]
        schema = parquet.schema_arrow.serialize().to_pybytes()
    return cast(BinaryIO, Stretch(schema, file.open(), min(begins), max(ends)))


def _digest(file: InputFile, summary: ReadSummary) -> None:
    with stream(file) as source:
        digest = hashlib.sha256()
        while data := source.read(1 << 20):
            digest.update(data)
            summary.size_bytes += len(data)
    summary.sha256 = digest.hexdigest()
