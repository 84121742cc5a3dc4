"""Rows of BigQuery as typed Arrow record batches, by the rules of `rows`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa

from estimator_lib.core.errors import ConfigError, Reason
from transforms.reading.files import InputFile
from transforms.reading.problems import Problems
from transforms.reading.rows import Field, Layout, check_fields, stored_rows, written_out

BATCH_ROWS = 1 << 14
_LOCAL = ("FnApiRunner", "DirectRunner", "BundleBasedDirectRunner", "SwitchingDirectRunner")


class ReadBigQuery(beam.PTransform):  # type: ignore[misc, unused-ignore]
    """Begin -> pyarrow.RecordBatches of typed fields, as `ReadRecords` gives them.

    Rows come through `beam.io.ReadFromBigQuery` and the Storage API; its own options are the
    pipeline's (`--project`, `--temp_location`).

    Args:
        types: Field -> "string", "int" or "float"; a REPEATED field is named in `lists`.
        table: As "project:dataset.table"; or
        query: in standard SQL.
        lists: Fields with several values per row.
        missing: Texts that stand for a missing value.
        source: Gives rows as dicts, instead of BigQuery.

    Raises:
        ConfigError: not exactly one of table and query; or the pipeline runs on this machine,
            which has no credentials of Google Cloud.
        SchemaError: a row lacks a field; the job fails.
        DataError: a value is bad; the job fails.
    """

    def __init__(
        self,
        types: Mapping[str, str],
        *,
        table: str | None = None,
        query: str | None = None,
        lists: Sequence[str] = (),
        missing: Sequence[str] = ("",),
        source: beam.PTransform | None = None,
    ) -> None:
        super().__init__()
        if (table is None) == (query is None):
            raise ConfigError(
                "ReadBigQuery reads a table or a query: expected exactly one of them. Give one.",
                reason=Reason.CONFLICT,
            )
        self._table, self._query, self._source = table, query, source
        self._layout = Layout(
            format="bigquery",
            missing=tuple(missing),
            fields=tuple(
                Field(name=name, type=kind, several=name in lists) for name, kind in types.items()
            ),
        )

    def expand(self, begin: beam.pvalue.PBegin) -> Any:
        source = self._source
        if source is None:
            source = rows_of(
                type(begin.pipeline.runner).__name__, table=self._table, query=self._query
            )
        name = f"BigQuery {self._table or 'query'}"
        return (
            begin
            | "Read" >> source
            | "Batch" >> beam.BatchElements(min_batch_size=100, max_batch_size=BATCH_ROWS)
            | "Type" >> beam.ParDo(_TypeRows(name, self._layout))
        )


def rows_of(
    runner: str,
    *,
    table: str | None,
    query: str | None,
    fields: Sequence[str] | None = None,
) -> beam.PTransform:
    """Returns what gives the rows of BigQuery as dicts, through the Storage API.

    Args:
        runner: Name of the runner that it is for.
        table: A table; or
        query: in standard SQL.
        fields: Those to read of a table; None reads all.

    Raises:
        ConfigError: Google's libraries are not installed; or the runner works on this machine,
            which has no credentials of Google Cloud.
    """
    try:
        import google.auth
        import google.cloud.bigquery_storage  # Beam needs it when it reads
    except ImportError as error:
        raise ConfigError(
            f"BigQuery cannot be read: {error}. Install apache-beam[gcp].",
            reason=Reason.UNSUPPORTED,
        ) from error
    if runner in _LOCAL:
        try:
            google.auth.default()
        except google.auth.exceptions.DefaultCredentialsError as error:
            raise ConfigError(
                f"BigQuery cannot be read by {runner} on this machine: expected credentials of "
                "Google Cloud, got none. Run on Dataflow (--runner=DataflowRunner), or log in "
                "with gcloud auth application-default login.",
                reason=Reason.PERMISSION,
            ) from error
    return beam.io.ReadFromBigQuery(
        table=table,
        query=query,
        use_standard_sql=True,
        method=beam.io.ReadFromBigQuery.Method.DIRECT_READ,
        **({"selected_fields": list(fields)} if table is not None and fields else {}),
    )


class _TypeRows(beam.DoFn):  # type: ignore[misc, unused-ignore]
    """Lists of rows as dicts -> RecordBatches."""

    def __init__(self, name: str, layout: Layout) -> None:
        self._file = InputFile(name=name, path="")
        self._layout = layout

    def process(self, element: Sequence[Mapping[str, Any]]) -> Iterator[pa.RecordBatch]:
        names = self._layout.names
        Problems.of(check_fields(self._file, list(element[0]), names)).raise_if_any()
        columns = {name: pa.array([row[name] for row in element]) for name in names}
        rows = stored_rows(self._file, self._layout, columns, lambda _: 0, lambda _: "")
        rows.problems.raise_if_any()
        yield written_out(rows.batch)
