"""An analysis as tensorflow_metadata protos: statistics per split, and an inferred schema."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from transforms.learning.analysis import FieldAnalysis, SplitAnalysis
from transforms.learning.sketches import NumberCounts

Array = np.ndarray[Any, Any]

TOP_VALUES = 20
RANKS = 200
EQUAL_WIDTHS = 40
QUANTILES = 20
COMMON = "beside the other splits"
"""The name of a histogram on bins that all splits share."""
COMMON_BINS = 24
MAX_DOMAIN = 100
"""A string field with at most this many distinct values gets a domain in the schema."""

_Stats = statistics_pb2.FeatureNameStatistics
_TYPES = {"string": _Stats.STRING, "int": _Stats.INT, "float": _Stats.FLOAT}
_SCHEMA_TYPES = {"string": schema_pb2.BYTES, "int": schema_pb2.INT, "float": schema_pb2.FLOAT}


def dataset_statistics(name: str, split: SplitAnalysis) -> Any:
    """Returns a DatasetFeatureStatisticsList with one dataset, the split's kept rows."""
    result = statistics_pb2.DatasetFeatureStatisticsList()
    dataset = result.datasets.add(name=name, num_examples=split.kept)
    for field, analysis in sorted(split.fields.items()):
        feature = dataset.features.add(type=_TYPES[analysis.type])
        feature.path.step.append(field)
        if analysis.type == "string":
            _string(feature.string_stats, analysis)
        else:
            _numeric(feature.num_stats, analysis)
    return result


def add_common_histograms(computed: Mapping[str, Any], splits: Mapping[str, SplitAnalysis]) -> None:
    """Adds to every number a histogram on bins that all splits share, for exact comparison.

    A value that is frequent enough to fill a bin has one of its own; the others are cut into bins
    of about equal count over all splits. What is counted is exact, so that the distance of two
    splits on these bins is at most the one over their distinct values.

    Args:
        computed: What `dataset_statistics` gave, by split; each proto is added to.
        splits: What it was given, by split.
    """
    shared: dict[str, Mapping[str, list[tuple[float, float, float]]]] = {}
    for name in {name for split in splits.values() for name in split.fields}:
        fields = {s: split.fields[name] for s, split in splits.items() if name in split.fields}
        if all(field.type != "string" for field in fields.values()):
            shared[name] = _on_common_bins({s: field.values for s, field in fields.items()})
    for split, proto in computed.items():
        for feature in proto.datasets[0].features:
            buckets = shared.get(feature.path.step[0], {}).get(split)
            if buckets:
                custom = feature.custom_stats.add(name=COMMON)
                for low, high, count in buckets:
                    custom.histogram.buckets.add(low_value=low, high_value=high, sample_count=count)


def _on_common_bins(
    several: Mapping[str, NumberCounts],
) -> dict[str, list[tuple[float, float, float]]]:
    pooled = NumberCounts()
    for counts_of in several.values():
        pooled.merge(counts_of)
    level, keys, counts = pooled.to_arrays()
    if not len(keys):
        return {}
    values, _ = pooled.values()
    heavy = counts * COMMON_BINS >= counts.sum()
    rest = np.where(heavy, 0, counts)
    share = (np.cumsum(rest) - rest) * COMMON_BINS // max(int(rest.sum()), 1)
    begins = heavy | np.concatenate([[True], heavy[:-1]]) | (np.diff(share, prepend=-1) > 0)
    bins = np.cumsum(begins) - 1
    first = np.flatnonzero(begins)
    last = np.concatenate([first[1:], [len(keys)]]) - 1
    found = {}
    for split, counts_of in several.items():
        own_level, own_keys, own = counts_of.to_arrays()
        at = np.searchsorted(keys, own_keys >> (level - own_level))
        heights = np.bincount(bins[at], weights=own, minlength=len(first))
        found[split] = [
            (float(low), float(high), float(height))
            for low, high, height in zip(values[first], values[last], heights, strict=True)
        ]
    return found


def _common(stats: statistics_pb2.CommonStatistics, analysis: FieldAnalysis) -> None:
    stats.num_missing = analysis.missing
    stats.num_non_missing = analysis.present
    if not analysis.present:
        return
    if not analysis.several:
        stats.min_num_values = stats.max_num_values = 1
        stats.avg_num_values = 1.0
        stats.tot_num_values = analysis.present
        return
    lengths, times = analysis.lengths.values()
    stats.min_num_values, stats.max_num_values = int(lengths[0]), int(lengths[-1])
    stats.tot_num_values = int((lengths * times).sum())
    stats.avg_num_values = stats.tot_num_values / analysis.present
    cuts = [lengths[0], *analysis.lengths.quantiles(QUANTILES), lengths[-1]]
    stats.num_values_histogram.type = statistics_pb2.Histogram.QUANTILES
    heights = [analysis.present / QUANTILES] * QUANTILES
    _add_buckets(stats.num_values_histogram, cuts, heights)


def _numeric(stats: statistics_pb2.NumericStatistics, analysis: FieldAnalysis) -> None:
    _common(stats.common_stats, analysis)
    if not analysis.elements:
        return
    values, counts = analysis.values.values()
    stats.mean, stats.std_dev = analysis.numbers.mean, analysis.numbers.stddev
    stats.num_zeros = analysis.zeros
    stats.min, stats.max = analysis.low, analysis.high
    stats.median = min(max(analysis.values.quantiles(2)[0], stats.min), stats.max)
    widths = EQUAL_WIDTHS if stats.min < stats.max else 1
    edges = np.linspace(stats.min, stats.max, widths + 1)
    # Not np.histogram, which refuses numbers so close that edges fall together. Middles of
    # intervals may lie past the extremes.
    at = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, widths - 1)
    standard = stats.histograms.add(type=statistics_pb2.Histogram.STANDARD)
    _add_buckets(standard, edges, np.bincount(at, weights=counts, minlength=widths))
    cuts = [stats.min, *analysis.values.quantiles(QUANTILES), stats.max]
    quantiles = stats.histograms.add(type=statistics_pb2.Histogram.QUANTILES)
    _add_buckets(quantiles, cuts, [analysis.elements / QUANTILES] * QUANTILES)


def _add_buckets(
    histogram: statistics_pb2.Histogram,
    edges: Sequence[float] | Array,
    heights: Sequence[float] | Array,
) -> None:
    for low, high, height in zip(edges[:-1], edges[1:], heights, strict=True):
        histogram.buckets.add(
            low_value=float(low), high_value=float(high), sample_count=float(height)
        )


def _string(stats: statistics_pb2.StringStatistics, analysis: FieldAnalysis) -> None:
    _common(stats.common_stats, analysis)
    if not analysis.elements:
        return
    stats.unique = len(analysis.tokens)
    stats.avg_length = analysis.tokens.total_length / analysis.elements
    for rank, (token, count) in enumerate(analysis.tokens.most_common(RANKS)):
        if rank < TOP_VALUES:
            stats.top_values.add(value=token, frequency=count)
        stats.rank_histogram.buckets.add(
            low_rank=rank, high_rank=rank, label=token, sample_count=count
        )


def infer_schema(split: SplitAnalysis, *, labels: Sequence[str] = ()) -> Any:
    """Returns a Schema for a person to edit: types, presence, and domains of small vocabularies.

    Args:
        split: The train split.
        labels: Fields that serving requests do not have.
    """
    schema = schema_pb2.Schema()
    if labels:
        schema.default_environment.extend(["TRAINING", "SERVING"])
    for name, analysis in sorted(split.fields.items()):
        feature = schema.feature.add(name=name, type=_SCHEMA_TYPES[analysis.type])
        if name in labels:
            feature.not_in_environment.append("SERVING")
        if analysis.present:
            feature.presence.min_count = 1
        _infer_counts(feature, analysis)
        if analysis.missing == 0 and analysis.present:
            feature.presence.min_fraction = 1.0
        if analysis.type == "string" and 0 < len(analysis.tokens) <= MAX_DOMAIN:
            feature.domain = name
            schema.string_domain.add(name=name, value=sorted(analysis.tokens))
    return schema


def _infer_counts(feature: schema_pb2.Feature, analysis: FieldAnalysis) -> None:
    """How many values a row has: one, always as many (a shape if in every row), or at least one."""
    if not analysis.several:
        feature.value_count.min = feature.value_count.max = 1
        return
    lengths, _ = analysis.lengths.values()
    if len(lengths) == 1 and not analysis.missing:
        feature.shape.dim.add(size=int(lengths[0]))
        return
    feature.value_count.min = 1
    if len(lengths) == 1:
        feature.value_count.min = feature.value_count.max = int(lengths[0])


def read_schema(text: str) -> Any:
    """Parses a schema's text form."""
    return text_format.Parse(text, schema_pb2.Schema())


def raw_schema(raw_fields: Mapping[str, str]) -> Any:
    """Returns the schema of what a transform takes: one value per row and field, or a list."""
    schema = schema_pb2.Schema()
    for name, kind in sorted(raw_fields.items()):
        _feature(schema, name, _SCHEMA_TYPES[kind.removesuffix("[]")], several=kind[-2:] == "[]")
    return schema


def transformed_schema(
    buckets: Mapping[str, int | None],
    lists: Container[str] = frozenset(),
    whole: Container[str] = (),
) -> Any:
    """Returns the schema of what a transform gives.

    Args:
        buckets: Feature to how many ids it has; None for a number.
        lists: Features with any number of values per row.
        whole: Numbers that are integers.
    """
    schema = schema_pb2.Schema()
    for name, size in sorted(buckets.items()):
        kind = schema_pb2.FLOAT if size is None and name not in whole else schema_pb2.INT
        feature = _feature(schema, name, kind, several=name in lists)
        if size is not None:
            feature.int_domain.min = 0
            feature.int_domain.max = size - 1
            feature.int_domain.is_categorical = True
    return schema


def _feature(schema: schema_pb2.Schema, name: str, kind: int, *, several: bool) -> Any:
    feature = schema.feature.add(name=name, type=kind)
    if several:
        feature.value_count.min = 0
        return feature
    feature.presence.min_fraction = 1.0
    feature.shape.SetInParent()
    return feature
