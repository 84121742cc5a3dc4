"""Statistics protos as a page: what `estimator_lib.report.statistics` shows, read from them."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from estimator_lib.core import manifest, storage
from estimator_lib.report import statistics as report
from transforms.validating import anomalies

Splits = Mapping[str, statistics_pb2.DatasetFeatureStatisticsList]


def write_statistics(
    writer: manifest.ArtifactWriter,
    by_split: Splits,
    schema: schema_pb2.Schema,
    found: Mapping[str, anomalies_pb2.Anomalies],
) -> None:
    """Writes statistics, their page, a schema and anomalies as an artifact.

    Args:
        writer: Of the artifact.
        by_split: DatasetFeatureStatisticsList by split.
        schema: The Schema they suggest.
        found: Anomalies by split; those of the first are `anomalies.pbtxt`.
    """
    for name, proto in by_split.items():
        storage.write_bytes(
            writer.directory / f"{name}.pb", proto.SerializeToString(deterministic=True)
        )
    storage.write_text(writer.directory / "schema.pbtxt", text_format.MessageToString(schema))
    page = render(by_split, title="Statistics")
    storage.write_text(writer.directory / "statistics.html", page)
    for i, (name, judged) in enumerate(found.items()):
        file = f"anomalies-{name}.pbtxt" if i else "anomalies.pbtxt"
        storage.write_text(writer.directory / file, text_format.MessageToString(judged))
    writer.kind = "statistics"
    writer.metadata = {"splits": list(by_split)}


def render(by_split: Splits, *, title: str) -> str:
    """Returns the page for DatasetFeatureStatisticsLists by split; the first is the reference."""
    found: dict[str, dict[str, statistics_pb2.FeatureNameStatistics]] = {}
    for split, statistics in by_split.items():
        for feature in statistics.datasets[0].features:
            found.setdefault(feature.path.step[0], {})[split] = feature
    return report.render(
        [_field(name, stats, several=len(by_split) > 1) for name, stats in found.items()],
        rows={name: stats.datasets[0].num_examples for name, stats in by_split.items()},
        title=title,
    )


def _field(
    name: str, stats: Mapping[str, statistics_pb2.FeatureNameStatistics], *, several: bool
) -> report.Field:
    first, *others = stats.values()
    same = [other for other in others if other.WhichOneof("stats") == first.WhichOneof("stats")]
    distance = max((anomalies.distance(first, other)[1] for other in same), default=0.0)
    textual = first.WhichOneof("stats") == "string_stats"
    kind = "text" if textual else "number"
    counts = [(f.string_stats if textual else f.num_stats).common_stats for f in stats.values()]
    most = max(common.max_num_values for common in counts)
    if most > 1:
        least = min((c.min_num_values for c in counts if c.max_num_values), default=0)
        kind += f", {least:,} to {most:,} per row" if least < most else f", {most:,} per row"
    return report.Field(
        name=name,
        kind=kind,
        distance=distance if several else None,
        splits={split: _texts(f.string_stats) for split, f in stats.items()}
        if textual
        else {split: _numbers(f.num_stats) for split, f in stats.items()},
    )


def _texts(stats: statistics_pb2.StringStatistics) -> report.Texts:
    total = stats.common_stats.tot_num_values or 1
    return report.Texts(
        missing=_missing(stats.common_stats),
        distinct=stats.unique,
        length=stats.avg_length,
        top={b.label: b.sample_count / total for b in stats.rank_histogram.buckets},
    )


def _numbers(stats: statistics_pb2.NumericStatistics) -> report.Numbers:
    kind = statistics_pb2.Histogram.STANDARD
    histogram = next((h for h in stats.histograms if h.type == kind), None)
    buckets = histogram.buckets if histogram else ()
    return report.Numbers(
        missing=_missing(stats.common_stats),
        summary=(stats.mean, stats.std_dev, stats.min, stats.median, stats.max),
        histogram=[(b.low_value, b.high_value, b.sample_count) for b in buckets],
    )


def _missing(common: statistics_pb2.CommonStatistics) -> float:
    total = common.num_missing + common.num_non_missing
    return common.num_missing / total if total else 0.0
