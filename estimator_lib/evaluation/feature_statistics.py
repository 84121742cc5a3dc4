"""Feature statistics as plain dicts, read from tensorflow_metadata protos.

Layer 3. Reads the `<split>.pb` files of a statistics artifact; tensorflow_metadata is imported
when something is read, so that importing this module stays cheap.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

import numpy as np

from estimator_lib.core.errors import DataError, Reason, quote

TOP_VALUES = 50
HISTOGRAM_BINS = 24
_ORDER = {"train": 0, "eval": 1}


class FeatureStatistics(TypedDict):
    """What is known of one feature in one split; strict JSON.

    Numbers that do not apply, or that the file does not hold, are None. `histogram` has
    `[low, high, rows]` per interval, `values` counts those of lists one by one, `top` has
    `[value, rows]`, most frequent first, and `quantiles` has ascending values at equal steps from
    the minimum to the maximum. `common` is a histogram whose intervals are those of the other
    splits; empty where none was written.
    """

    name: str
    type: Literal["number", "text"]
    rows: int
    missing: int
    missing_fraction: float | None
    values: int
    distinct: int | None
    mean: float | None
    std: float | None
    min: float | None
    max: float | None
    median: float | None
    zeros: int | None
    quantiles: list[float]
    histogram: list[tuple[float, float, float]]
    top: list[tuple[str, float]]
    common: list[tuple[float, float, float]]


class FeatureComparison(TypedDict):
    """One feature across splits.

    `shift` is the total variation distance between the first two splits that have the feature,
    from 0 (alike) to 1 (nothing in common); None where a distribution is not known.
    """

    name: str
    type: Literal["number", "text"]
    splits: dict[str, FeatureStatistics]
    shift: float | None


def read(source: str | os.PathLike[str] | bytes) -> list[FeatureStatistics]:
    """Reads a DatasetFeatureStatisticsList.

    Args:
        source: The file, or its bytes.

    Returns:
        One entry per feature of the first dataset, in its order.

    Raises:
        DataError: the file is missing or is no such proto.
    """
    from google.protobuf.message import DecodeError
    from tensorflow_metadata.proto.v0 import statistics_pb2

    name = "(bytes)" if isinstance(source, bytes) else os.fspath(source)
    try:
        data = source if isinstance(source, bytes) else pathlib.Path(source).read_bytes()
    except OSError as error:
        raise DataError(
            f"Statistics {name} cannot be read: {error.strerror}. Run preprocess again.",
            reason=Reason.FILE_NOT_FOUND,
        ) from error
    content = statistics_pb2.DatasetFeatureStatisticsList()
    try:
        content.ParseFromString(data)
    except DecodeError as error:
        raise DataError(
            f"Statistics {name} are damaged: expected a DatasetFeatureStatisticsList, got "
            f"{quote(data[:20])}. Run preprocess again.",
            reason=Reason.CORRUPT_FILE,
        ) from error
    return [_feature(f) for dataset in content.datasets[:1] for f in dataset.features]


def compare(splits: Mapping[str, Sequence[FeatureStatistics]]) -> list[FeatureComparison]:
    """Puts the features of several splits beside each other.

    Args:
        splits: Name of a split to what `read` returned; "train" and "eval" come first.
    """
    by_name: dict[str, dict[str, FeatureStatistics]] = {}
    ordered = sorted(splits.items(), key=lambda item: _ORDER.get(item[0], len(_ORDER)))
    for split, features in ordered:
        for feature in features:
            by_name.setdefault(feature["name"], {})[split] = feature
    result: list[FeatureComparison] = []
    for name, found in by_name.items():
        known = list(found.values())
        result.append(
            FeatureComparison(
                name=name,
                type=known[0]["type"],
                splits=found,
                shift=shift(known[0], known[1]) if len(known) > 1 else None,
            )
        )
    return result


def shift(one: FeatureStatistics, other: FeatureStatistics) -> float | None:
    """Total variation distance between two splits of a feature, missing values included.

    Of a number it is measured on the intervals that both were counted on, where statistics have
    such, else on a common grid over which each histogram is spread; of a text on the listed top
    values, everything else counting as one value. None where there is nothing to compare.
    """
    if one["type"] != other["type"] or not one["rows"] or not other["rows"]:
        return None
    masses: list[dict[str, float]] = []
    if one["type"] == "number":
        if not one["histogram"] or not other["histogram"]:
            return None
        alike = [(low, high) for low, high, _ in one["common"]]
        if alike and alike == [(low, high) for low, high, _ in other["common"]]:
            heights = [[rows for _, _, rows in feature["common"]] for feature in (one, other)]
        else:
            edges = common_edges([one, other])
            heights = [rebin(f["histogram"], edges).tolist() for f in (one, other)]
        masses = [{str(i): float(c) for i, c in enumerate(counts)} for counts in heights]
    else:
        if not one["top"] or not other["top"]:
            return None
        listed = sorted({v for v, _ in one["top"]} | {v for v, _ in other["top"]})
        for feature in (one, other):
            present = feature["rows"] - feature["missing"]
            shares = [share * present for share in value_shares(feature, listed)]
            mass = {f"={value}": rows for value, rows in zip(listed, shares, strict=True)}
            mass["others"] = max(0.0, present - sum(shares))
            masses.append(mass)
    distance = 0.0
    fractions = []
    for feature, mass in zip((one, other), masses, strict=True):
        mass["missing"] = float(feature["missing"])
        total = sum(mass.values())
        if not total > 0:
            return None
        fractions.append({key: value / total for key, value in mass.items()})
    for key in fractions[0].keys() | fractions[1].keys():
        distance += abs(fractions[0].get(key, 0.0) - fractions[1].get(key, 0.0))
    return min(1.0, distance / 2)


def value_shares(feature: FeatureStatistics, values: Sequence[str]) -> list[float]:
    """Share of the present rows that have each value.

    A value that is not listed has no rows if the list is complete; else it is taken to be as
    frequent as the rarest listed value, which is the most it can be.
    """
    counts = dict(feature["top"])
    present = (feature["rows"] - feature["missing"]) or 1
    complete = feature["distinct"] is not None and feature["distinct"] <= len(counts)
    unlisted = 0.0 if complete else min(counts.values(), default=0.0)
    return [counts.get(value, unlisted) / present for value in values]


def common_edges(features: Sequence[FeatureStatistics]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Edges of equal intervals over the middle 98% of the splits' values.

    Long tails would leave all rows in one interval; `rebin` puts them into the end intervals.
    """
    lows, highs = [], []
    for feature in features:
        ends, mass = _cumulated(feature["histogram"])
        total = mass[-1]
        if total > 0:
            lows.append(float(np.interp(0.01 * total, mass, ends)))
            highs.append(float(np.interp(0.99 * total, mass, ends)))
    low, high = (min(lows), max(highs)) if lows else (0.0, 1.0)
    if not high > low:
        low, high = low - 0.5, low + 0.5
    return np.linspace(low, high, HISTOGRAM_BINS + 1)


def rebin(
    histogram: Sequence[tuple[float, float, float]],
    edges: np.ndarray[Any, np.dtype[np.float64]],
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Rows per interval of `edges`, spread evenly within each given interval.

    What lies outside is counted in the first or last interval.
    """
    counts = np.zeros(len(edges) - 1)
    for low, high, rows in histogram:
        if not high > low:  # a single value
            at = int(np.searchsorted(edges, low, side="right")) - 1
            counts[min(max(at, 0), len(counts) - 1)] += rows
            continue
        inside = np.clip((edges - low) / (high - low), 0.0, 1.0)
        inside[0], inside[-1] = 0.0, 1.0
        counts += rows * np.diff(inside)
    return counts


def _cumulated(
    histogram: Sequence[tuple[float, float, float]],
) -> tuple[np.ndarray[Any, np.dtype[np.float64]], np.ndarray[Any, np.dtype[np.float64]]]:
    ends = [histogram[0][0] if histogram else 0.0]
    mass = [0.0]
    for low, high, rows in histogram:
        ends.extend((low, high))
        mass.extend((mass[-1], mass[-1] + rows))
    return np.array(ends), np.array(mass)


def _feature(feature: Any) -> FeatureStatistics:
    name = feature.name or ".".join(feature.path.step)
    numeric = feature.WhichOneof("stats") == "num_stats"
    stats = feature.num_stats if numeric else feature.string_stats
    common = stats.common_stats
    missing, present = int(common.num_missing), int(common.num_non_missing)
    rows = missing + present
    result = FeatureStatistics(
        name=name,
        type="number" if numeric else "text",
        rows=rows,
        missing=missing,
        missing_fraction=missing / rows if rows else None,
        values=int(common.tot_num_values) or present,
        distinct=None if numeric else int(stats.unique) or None,
        mean=None,
        std=None,
        min=None,
        max=None,
        median=None,
        zeros=None,
        quantiles=[],
        histogram=[],
        top=[],
        common=[],
    )
    if numeric:
        if present:
            result["mean"], result["std"] = _finite(stats.mean), _finite(stats.std_dev)
            result["min"], result["max"] = _finite(stats.min), _finite(stats.max)
            result["median"], result["zeros"] = _finite(stats.median), int(stats.num_zeros)
        by_kind = {h.type: _buckets(h) for h in stats.histograms}
        standard, quantiles = by_kind.get(0, []), by_kind.get(1, [])
        heaviest = max((count for _, _, count in standard), default=0.0)
        # Buckets of equal width lose spikes and the body of long-tailed values; those of equal
        # count keep them.
        lost = heaviest > sum(count for _, _, count in standard) / 2
        result["histogram"] = quantiles if quantiles and (lost or not standard) else standard
        result["common"] = next((_buckets(c.histogram) for c in feature.custom_stats), [])
        if quantiles:
            result["quantiles"] = [quantiles[0][0], *(high for _, high, _ in quantiles)]
    else:
        top = [(t.value, float(t.frequency)) for t in stats.top_values]
        ranked = [(b.label, float(b.sample_count)) for b in stats.rank_histogram.buckets]
        top = ranked if len(ranked) > len(top) else top
        top.sort(key=lambda pair: (-pair[1], pair[0]))
        result["top"] = top[:TOP_VALUES]
    return result


def _buckets(histogram: Any) -> list[tuple[float, float, float]]:
    return [
        (float(b.low_value), float(b.high_value), float(b.sample_count))
        for b in histogram.buckets
        if np.isfinite(b.low_value) and np.isfinite(b.high_value)
    ]


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
