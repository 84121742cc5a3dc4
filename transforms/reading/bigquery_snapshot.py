"""BigQuery -> Parquet files that both passes of a job read: one snapshot of it.

BigQuery gives rows in another order each time. Here they go to files by a hash and are in order
there, so that equal rows make equal files: the same fingerprint, the same examples, and analyses
that are kept are found again, whichever order they came in.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.options.pipeline_options import StandardOptions

from estimator_lib.core import config, stores
from estimator_lib.core.errors import DataError, Reason, SchemaError
from estimator_lib.core.places import Place
from transforms.beam import engines, runners
from transforms.reading import bigquery_reader
from transforms.reading import values as physical
from transforms.reading.files import InputFile
from transforms.reading.problems import Problems
from transforms.reading.rows import check_fields

PART_ROWS = 200_000
"""Rows of a file, about; they are put in order in memory."""


def take(
    table: config.BigQuery,
    fields: Sequence[str] | None,
    directory: str,
    runner_options: Sequence[str] = (),
) -> list[InputFile]:
    """Reads a table or the result of a query and writes it as Parquet files.

    Args:
        table: What to read.
        fields: Which fields; None takes all that are no RECORD.
        directory: An empty directory, or URI, that workers and caller share.
        runner_options: Beam options.

    Returns:
        The files, named after the table.

    Raises:
        ConfigError: BigQuery cannot be reached from here.
        SchemaError: a field is missing, or is a RECORD.
        DataError: there are no rows, or a text is not UTF-8.
    """
    runner = engines.options(runner_options).view_as(StandardOptions).runner
    rows = bigquery_reader.rows_of(runner, table=table.table, query=table.query, fields=fields)

    def build(pipeline: beam.Pipeline) -> None:
        texts = pipeline | "Read" >> rows | "Text" >> beam.Map(_text, table.title, fields)
        texts |= "Once" >> beam.Reshuffle()  # what follows needs them twice: read them once
        count = beam.pvalue.AsSingleton(texts | "Count" >> beam.combiners.Count.Globally())
        _ = (
            texts
            | "Part" >> beam.Map(_with_part, count)
            | "Group" >> beam.GroupByKey()
            | "Write" >> beam.MapTuple(_write(directory))
        )

    runners.run(build, runner_options)
    place = Place.parse(directory)
    names = os.listdir(directory) if place.is_local else stores.of(place).listed(place)
    paths = [str(place / name) for name in names]
    if not paths:
        raise DataError(
            f"BigQuery {table.title} has no rows. Correct data.bigquery.",
            reason=Reason.EMPTY_INPUT,
        )
    named = [(f"bigquery/{table.title}/{os.path.basename(path)}", path) for path in sorted(paths)]
    return [InputFile(name=name, path=path) for name, path in named]


def _text(row: Mapping[str, Any], title: str, fields: Sequence[str] | None) -> str:
    """A row as text, from which it can be made again; equal rows have equal texts."""
    if fields is None:
        fields = [name for name, value in row.items() if not isinstance(value, dict)]
    elif not row.keys() >= set(fields):
        file = InputFile(name=f"BigQuery {title}", path="")
        Problems.of(check_fields(file, list(row), fields)).raise_if_any()
    values = {name: _plain(name, row[name], title) for name in fields}
    return json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _plain(name: str, value: Any, title: str) -> Any:
    """A value as JSON has it; dates, times and decimals as a Parquet column of them is read."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, list):
        return [_plain(name, one, title) for one in value]
    if isinstance(value, dict):
        raise SchemaError(
            f"Field {name!r} of BigQuery {title} cannot be read: expected one text or number per "
            "row, got a RECORD. Take its parts by data.bigquery.query.",
            reason=Reason.TYPE_MISMATCH,
        )
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise DataError(
                f"Field {name!r} of BigQuery {title} is no text: expected UTF-8, got BYTES that "
                "are not. Leave it out of the columns.",
                reason=Reason.ENCODING,
            ) from error
    text, _ = physical.plain(pa.array([value]))
    return text[0].as_py()


def _with_part(text: str, count: int) -> tuple[tuple[int, int], str]:
    parts = math.ceil(count / PART_ROWS)
    return (int(hashlib.sha256(text.encode()).hexdigest(), 16) % parts, parts), text


def _write(directory: str) -> Callable[[tuple[int, int], Iterable[str]], None]:
    def write(part: tuple[int, int], texts: Iterable[str]) -> None:
        rows = [json.loads(text) for text in sorted(texts)]
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows), sink, compression="zstd")
        name = f"part-{part[0]:05d}-of-{part[1]:05d}.parquet"
        stores.write(Place.parse(directory) / name, sink.getvalue().to_pybytes())

    return write
