"""PTransforms for pipelines of one's own: read records, summarise them, judge the summary.

Example:
    with beam.Pipeline(options=options) as pipeline:
        anomalies = (
            pipeline
            | transforms.ReadRecords("gs://bucket/day=2026-01-01/*.parquet")
            | transforms.ComputeStatistics()
            | transforms.ValidateStatistics(schema)
        )
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from transforms import dataset
from transforms.learning import statistics
from transforms.learning.analysis import Analysis, AnalysisFn, SplitAnalysis
from transforms.reading import records, values
from transforms.reading.files import InputFile
from transforms.reading.problems import Problems
from transforms.reading.records import Chunk, Source, SplitRows
from transforms.reading.rows import written_out
from transforms.validating import anomalies


class ReadRecords(beam.PTransform):  # type: ignore[misc, unused-ignore]
    """Begin -> pyarrow.RecordBatches of typed fields (string, int64, float64), null = missing.

    A field with several values per record is a list of them.

    Fields and types are settled when the transform is made, from the first file.

    Args:
        patterns: One file pattern or several.
        base_dir: Directory that relative patterns start from and stay below.
        file_format: "csv", "parquet" or "tfrecord"; None goes by the name of the first file.
        missing: Texts that stand for a missing value.
        csv: How CSV is written, as in a run configuration; such as {"delimiter": ";"}.
        types: Field -> "string", "int" or "float", where the first rows do not tell.
        lists: Field with several values per record -> what stands between them in a text, or "".

    Raises:
        EstimatorLibError: see `dataset.find`; a bad value fails the job with its place.
    """

    def __init__(
        self,
        patterns: str | Sequence[str],
        *,
        base_dir: str = ".",
        file_format: str | None = None,
        missing: Sequence[str] = ("",),
        csv: Mapping[str, str] | None = None,
        types: Mapping[str, str] | None = None,
        lists: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        several = [patterns] if isinstance(patterns, str) else list(patterns)
        self._dataset = dataset.find(
            several,
            base_dir=base_dir,
            file_format=file_format,
            missing=missing,
            csv=csv,
            types=types,
            lists=lists,
        )

    def expand(self, begin: beam.pvalue.PBegin) -> Any:
        return (
            begin
            | "Files" >> beam.Create(self._dataset.inputs, reshuffle=True)
            | "Read" >> beam.ParDo(_ReadFile(self._dataset.source))
        )


class _ReadFile(beam.DoFn):  # type: ignore[misc, unused-ignore]
    def __init__(self, source: Source) -> None:
        self._source = source

    def process(self, element: InputFile) -> Iterator[pa.RecordBatch]:
        for chunk in records.read(element, self._source):
            chunk.problems.raise_if_any()
            for rows in chunk.by_split.values():
                yield written_out(rows.batch)


class ComputeStatistics(beam.PTransform):  # type: ignore[misc, unused-ignore]
    """pyarrow.RecordBatches -> one DatasetFeatureStatisticsList.

    Args:
        name: What the statistics call the dataset.
        every_token: String fields whose distinct texts are all counted; those of the others
            are estimated beyond some ten thousands.
    """

    def __init__(self, name: str = dataset.NAME, *, every_token: Iterable[str] = ()) -> None:
        super().__init__()
        self._name = name
        self._every_token = frozenset(every_token)

    def expand(self, batches: beam.PCollection) -> Any:
        return (
            batches
            | "Analyse" >> beam.Map(_analysis, self._name, self._every_token)
            | "Merge" >> beam.CombineGlobally(AnalysisFn())
            | "Statistics" >> beam.Map(_statistics, self._name)
        )


def _analysis(batch: pa.RecordBatch, name: str, every_token: frozenset[str]) -> Analysis:
    analysis = Analysis(every_token)
    plain = pa.RecordBatch.from_pydict(
        {f: values.plain(c)[0] for f, c in zip(batch.schema.names, batch.columns, strict=True)}
    )
    rows = SplitRows(batch=plain, texts={}, read=batch.num_rows, skipped=0)
    analysis.add(Chunk(by_split={name: rows}, problems=Problems()))
    analysis.seal()
    return analysis


def _statistics(analysis: Analysis, name: str) -> Any:
    return statistics.dataset_statistics(name, analysis.splits.get(name, SplitAnalysis()))


class ValidateStatistics(beam.PTransform):  # type: ignore[misc, unused-ignore]
    """DatasetFeatureStatisticsLists -> their Anomalies.

    Args:
        schema: The Schema to judge by.
        environment: Of the schema, such as "SERVING".
        previous: Statistics of the span before, for drift.
        serving: Statistics of serving data, for skew.
    """

    def __init__(
        self,
        schema: schema_pb2.Schema,
        *,
        environment: str | None = None,
        previous: Any | None = None,
        serving: Any | None = None,
    ) -> None:
        super().__init__()
        self._schema = text_format.MessageToString(schema)
        self._environment = environment
        self._previous = previous
        self._serving = serving

    def expand(self, computed: beam.PCollection) -> Any:
        schema = self._schema
        environment = self._environment
        previous, serving = self._previous, self._serving

        def validated(proto: statistics_pb2.DatasetFeatureStatisticsList) -> Any:
            return anomalies.validate(
                proto,
                text_format.Parse(schema, schema_pb2.Schema()),
                environment=environment,
                previous=previous,
                serving=serving,
            )

        return computed | "Validate" >> beam.Map(validated)
