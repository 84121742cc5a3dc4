"""Statistics against a schema, and against other statistics: what is wrong with new data.

Everything in and out is a tensorflow_metadata proto with the meanings of TensorFlow Data
Validation, so that its tools read what is written here: presence, type, domains, value ranges;
drift between two spans of data and skew between training and serving, by L-infinity distance
for texts and Jensen-Shannon divergence for numbers, each with the threshold of the schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
from google.protobuf import text_format
from google.protobuf.message import Message
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from estimator_lib.core.errors import Reason, SchemaError

_Info = anomalies_pb2.AnomalyInfo
_Stats: TypeAlias = statistics_pb2.FeatureNameStatistics
_Domains = Mapping[str, schema_pb2.StringDomain]
_Measurement = anomalies_pb2.DriftSkewInfo.Measurement

Array = np.ndarray[Any, Any]

_TYPES = {
    _Stats.INT: schema_pb2.INT,
    _Stats.FLOAT: schema_pb2.FLOAT,
    _Stats.STRING: schema_pb2.BYTES,
}
BINS = 100
"""Into how many bins numbers are put to compare two distributions."""


def validate(
    statistics: statistics_pb2.DatasetFeatureStatisticsList,
    schema: schema_pb2.Schema,
    *,
    environment: str | None = None,
    previous: Any | None = None,
    serving: Any | None = None,
) -> Any:
    """Returns the Anomalies of a dataset.

    Args:
        statistics: DatasetFeatureStatisticsList with the dataset to judge.
        schema: The Schema that it should follow.
        environment: "SERVING" or another environment of the schema; fields that are not in it
            are not expected.
        previous: Statistics of the span before, for drift.
        serving: Statistics of serving data, for skew.
    """
    result = anomalies_pb2.Anomalies()
    result.baseline.CopyFrom(schema)
    dataset = statistics.datasets[0]
    if not dataset.num_examples:
        result.data_missing = True
        return result
    for fault in _size_faults(schema, dataset.num_examples):
        _add(result, "(dataset)", *fault, _Info.ERROR)
        del result.anomaly_info["(dataset)"].path.step[:]
    features = _by_name(dataset)
    domains = {domain.name: domain for domain in schema.string_domain}
    wanted = {f.name: f for f in schema.feature if expected(f, schema, environment)}
    known = {f.name for f in schema.feature}
    for name in features.keys() - known:
        _add(
            result,
            name,
            _Info.SCHEMA_NEW_COLUMN,
            "New column",
            "Column is in the data but not in the schema",
            _Info.WARNING,
        )
    for name, feature in wanted.items():
        stats = features.get(name)
        for kind, short, text in _faults(feature, stats, dataset.num_examples, domains):
            _add(result, name, kind, short, text, _Info.ERROR)
        if stats is not None:
            _compare(result, feature, stats, previous, "drift")
            _compare(result, feature, stats, serving, "skew")
    return result


_JUDGED = frozenset(
    (
        "feature", "string_domain", "default_environment", "dataset_constraints",
        "feature.name", "feature.type", "feature.presence", "feature.value_count",
        "feature.shape", "feature.domain", "feature.int_domain", "feature.float_domain",
        "feature.string_domain", "feature.bool_domain", "feature.distribution_constraints",
        "feature.drift_comparator", "feature.skew_comparator", "feature.in_environment",
        "feature.not_in_environment", "feature.lifecycle_stage", "feature.deprecated",
        "feature.presence.min_count", "feature.presence.min_fraction",
        "feature.value_count.min", "feature.value_count.max",
        "feature.shape.dim", "feature.shape.dim.size", "feature.shape.dim.name",
        "feature.int_domain.name", "feature.int_domain.min", "feature.int_domain.max",
        "feature.int_domain.is_categorical", "feature.float_domain.name",
        "feature.float_domain.min", "feature.float_domain.max",
        "feature.string_domain.name", "feature.string_domain.value",
        "feature.bool_domain.name", "feature.bool_domain.true_value",
        "feature.bool_domain.false_value",
        "feature.distribution_constraints.min_domain_mass",
        "feature.drift_comparator.infinity_norm", "feature.skew_comparator.infinity_norm",
        "feature.drift_comparator.infinity_norm.threshold",
        "feature.skew_comparator.infinity_norm.threshold",
        "feature.drift_comparator.jensen_shannon_divergence",
        "feature.skew_comparator.jensen_shannon_divergence",
        "feature.drift_comparator.jensen_shannon_divergence.threshold",
        "feature.skew_comparator.jensen_shannon_divergence.threshold",
        "string_domain.name", "string_domain.value",
        "dataset_constraints.min_examples_count", "dataset_constraints.max_examples_count",
    )
)  # fmt: skip
_REMARKS = frozenset(("annotation", "tfxio_properties"))
"""What tells of a field without asking anything of its values."""


def parsed_schema(data: bytes, path: str) -> Any:
    """Returns a Schema from its text form.

    Args:
        data: The text, UTF-8.
        path: Where it is from.

    Raises:
        SchemaError: it holds something else, or a constraint that is not judged.
    """
    try:
        schema = text_format.Parse(data.decode(), schema_pb2.Schema())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise SchemaError(
            f"Schema {path} cannot be read: expected a tensorflow_metadata Schema as text, got "
            f"{str(error).rstrip('.')}. Correct the file.",
            reason=Reason.INVALID_VALUE,
        ) from error
    if constraints := list_unjudged(schema):
        raise SchemaError(
            f"Schema {path} has constraints that are not judged: {', '.join(constraints)}. Remove "
            "them, or judge the data by other means.",
            reason=Reason.UNSUPPORTED,
        )
    return schema


def list_unjudged(schema: schema_pb2.Schema) -> list[str]:
    """Returns the constraints of a schema that `validate` would not judge, by field."""
    return sorted(set(_unjudged(schema, "", "")))


def _unjudged(message: Message, path: str, owner: str) -> Iterator[str]:
    for descriptor, value in message.ListFields():
        place = f"{path}{descriptor.name}"
        if descriptor.name in _REMARKS:
            continue
        if place not in _JUDGED:
            yield f"{descriptor.name} of {owner!r}" if owner else place
            continue
        several = value if not hasattr(value, "ListFields") else [value]
        for item in several if descriptor.message_type is not None else ():
            of = owner or (item.name if place == "feature" else "")
            yield from _unjudged(item, f"{place}.", of)


def describe(anomalies: anomalies_pb2.Anomalies) -> list[str]:
    """Returns one line per anomaly: severity, field and what is wrong, errors first."""
    if anomalies.data_missing:
        return ["error: the data has no rows"]
    lines = []
    for name, info in sorted(anomalies.anomaly_info.items()):
        severity = _Info.Severity.Name(info.severity).lower()
        lines += [f"{severity}: {name}: {reason.description}." for reason in info.reason]
    return sorted(lines)


def raise_for_errors(anomalies: anomalies_pb2.Anomalies, *, what: str = "data") -> None:
    """Raises if there is an anomaly of severity ERROR; the message is a table of them.

    Raises:
        SchemaError: at least one error.
    """
    errors = [line for line in describe(anomalies) if line.startswith("error")]
    if errors:
        table = "\n".join(f"  {line.removeprefix('error: ')}" for line in errors)
        raise SchemaError(
            f"The {what} does not follow its schema in {len(errors)} places:\n{table}\n"
            "Correct the data, or edit the schema if the change is meant.",
            reason=Reason.TYPE_MISMATCH
            if any("type" in line for line in errors)
            else Reason.DISAGREEMENT,
        )


def distance(left: _Stats, right: _Stats) -> tuple[int, float]:
    """Returns how far two features' distributions are apart, and the measure's type.

    Args:
        left: FeatureNameStatistics.
        right: FeatureNameStatistics of the same field.

    Returns:
        L_INFTY for texts: the largest difference of one value's share, among the values that
        both keep counts of. JENSEN_SHANNON_DIVERGENCE (base 2) for numbers. Both in [0, 1].
    """
    if left.WhichOneof("stats") == "string_stats":
        shares = [_shares(stats.string_stats) for stats in (left, right)]
        values = shares[0].keys() | shares[1].keys()
        gaps = [abs(shares[0].get(v, 0.0) - shares[1].get(v, 0.0)) for v in values]
        return _Measurement.L_INFTY, max(gaps, default=0.0)
    both = [left.num_stats, right.num_stats]
    present = [s for s in both if s.common_stats.num_non_missing]
    if len(present) < 2:
        return _Measurement.JENSEN_SHANNON_DIVERGENCE, float(len(present))
    low, high = min(s.min for s in both), max(s.max for s in both)
    if low == high:
        return _Measurement.JENSEN_SHANNON_DIVERGENCE, 0.0
    edges = np.linspace(low, high, BINS + 1)
    return _Measurement.JENSEN_SHANNON_DIVERGENCE, _divergence(
        *(_mass(stats, edges) for stats in both)
    )


def _by_name(dataset: statistics_pb2.DatasetFeatureStatistics) -> dict[str, _Stats]:
    return {f.path.step[0] if f.path.step else f.name: f for f in dataset.features}


def expected(
    feature: schema_pb2.Feature, schema: schema_pb2.Schema, environment: str | None
) -> bool:
    """Whether a schema wants a feature in an environment."""
    if feature.lifecycle_stage == schema_pb2.DEPRECATED or feature.deprecated:
        return False
    if environment is None:
        return True
    if environment in feature.not_in_environment:
        return False
    return environment in feature.in_environment or environment in schema.default_environment


_Fault = tuple[int, str, str]


def _faults(
    feature: schema_pb2.Feature, stats: _Stats | None, rows: int, domains: _Domains
) -> Iterator[_Fault]:
    present = _common(stats).num_non_missing if stats is not None else 0
    required = feature.presence.min_count or feature.presence.min_fraction
    if stats is None or not present:
        if required:
            yield (
                _Info.SCHEMA_MISSING_COLUMN,
                "Column dropped",
                f"Column has no values: expected some, got none in {rows:,} rows",
            )
        return
    if feature.type in _TYPES.values() and _TYPES[stats.type] != feature.type:
        names = schema_pb2.FeatureType
        yield (
            _Info.UNEXPECTED_DATA_TYPE,
            "Unexpected data type",
            f"Column has another type: expected {names.Name(feature.type)}, "
            f"got {names.Name(_TYPES[stats.type])}",
        )
        return
    fraction = present / rows
    if fraction < feature.presence.min_fraction:
        yield (
            _Info.FEATURE_TYPE_LOW_FRACTION_PRESENT,
            "Column dropped",
            f"Too many values are missing: expected at least {feature.presence.min_fraction:.4g} "
            f"of the rows to have one, got {fraction:.4g}",
        )
    if present < feature.presence.min_count:
        yield (
            _Info.FEATURE_TYPE_LOW_NUMBER_PRESENT,
            "Column dropped",
            f"Too few values: expected at least {feature.presence.min_count:,}, got {present:,}",
        )
    yield from _count_faults(feature, _common(stats))
    yield from _bool_faults(feature, stats)
    if stats.WhichOneof("stats") == "string_stats":
        yield from _domain_faults(feature, stats.string_stats, domains)
    else:
        yield from _range_faults(feature, stats.num_stats)


def _size_faults(schema: schema_pb2.Schema, rows: int) -> Iterator[_Fault]:
    """Whether there are as many rows as the schema wants."""
    wanted = schema.dataset_constraints
    if wanted.HasField("min_examples_count") and rows < wanted.min_examples_count:
        text = f"Too few rows: expected at least {wanted.min_examples_count:,}, got {rows:,}"
        yield _Info.DATASET_LOW_NUM_EXAMPLES, "Low num examples in dataset.", text
    if wanted.HasField("max_examples_count") and rows > wanted.max_examples_count:
        text = f"Too many rows: expected at most {wanted.max_examples_count:,}, got {rows:,}"
        yield _Info.DATASET_HIGH_NUM_EXAMPLES, "High num examples in dataset.", text


def _bool_faults(feature: schema_pb2.Feature, stats: _Stats) -> Iterator[_Fault]:
    """Whether a field has two values: 0 and 1, or the texts that stand for them."""
    if feature.WhichOneof("domain_info") != "bool_domain":
        return
    domain = feature.bool_domain
    texts = [text for text in (domain.true_value, domain.false_value) if text]
    if stats.WhichOneof("stats") == "string_stats":
        strange = sorted(set(_counts(stats.string_stats)) - set(texts))
        if strange or stats.string_stats.unique > len(texts):
            text = (
                f"Values are not boolean: expected {' or '.join(map(repr, texts)) or 'none'}, got "
                f"{', '.join(map(repr, strange[:5])) or 'more'}"
            )
            yield _Info.BOOL_TYPE_UNEXPECTED_STRING, "Unexpected string values", text
        return
    numbers = stats.num_stats
    if stats.type == _Stats.INT and (numbers.min < 0 or numbers.max > 1):
        text = f"Values are not boolean: expected 0 or 1, got {numbers.min:g} to {numbers.max:g}"
        kind = _Info.BOOL_TYPE_SMALL_INT if numbers.min < 0 else _Info.BOOL_TYPE_BIG_INT
        yield kind, "Out-of-range values", text
    if stats.type == _Stats.FLOAT:
        text = "Values are not boolean: expected 0 or 1, got numbers with a fraction"
        yield _Info.BOOL_TYPE_INVALID_CONFIG, "Invalid configuration", text


def _count_faults(
    feature: schema_pb2.Feature, common: statistics_pb2.CommonStatistics
) -> Iterator[_Fault]:
    """How many values a row has: by value_count, or by a shape of one dimension."""
    least, most = common.min_num_values, common.max_num_values
    if feature.HasField("shape"):
        size = int(np.prod([dim.size for dim in feature.shape.dim], dtype=np.int64))
        if (least, most) != (size, size):
            text = f"Rows have {least} to {most} values: expected {size} in each"
            yield _Info.INVALID_FEATURE_SHAPE, "Invalid feature shape", text
        return
    allowed = feature.value_count
    if least < allowed.min:
        text = f"Rows have too few values: expected at least {allowed.min}, got {least}"
        yield _Info.FEATURE_TYPE_LOW_NUMBER_VALUES, "Missing values", text
    if allowed.max and most > allowed.max:
        text = f"Rows have too many values: expected at most {allowed.max}, got {most}"
        yield _Info.FEATURE_TYPE_HIGH_NUMBER_VALUES, "Superfluous values", text


def string_domain(feature: schema_pb2.Feature, domains: _Domains) -> schema_pb2.StringDomain | None:
    """Returns the texts that a feature may have, its own or one of the schema's by name."""
    found = domains.get(feature.domain) if feature.domain else None
    if found is None and feature.WhichOneof("domain_info") == "string_domain":
        found = feature.string_domain
    return found


def _domain_faults(
    feature: schema_pb2.Feature, stats: _Stats, domains: _Domains
) -> Iterator[_Fault]:
    domain = string_domain(feature, domains)
    if domain is None:
        return
    allowed = set(domain.value)
    counts = _counts(stats)
    unexpected = {value: n for value, n in counts.items() if value not in allowed}
    total = stats.common_stats.tot_num_values or sum(counts.values())
    outside = sum(unexpected.values()) / total if total else 0.0
    if unexpected and outside > 1 - (feature.distribution_constraints.min_domain_mass or 1.0):
        worst = sorted(unexpected, key=lambda v: (-unexpected[v], v))[:5]
        yield (
            _Info.ENUM_TYPE_UNEXPECTED_STRING_VALUES,
            "Unexpected string values",
            f"Values are not in the domain: expected only its {len(allowed)} values, got "
            f"{', '.join(map(repr, worst))} ({outside:.2%} of the values)",
        )


def _range_faults(feature: schema_pb2.Feature, stats: _Stats) -> Iterator[_Fault]:
    which = feature.WhichOneof("domain_info")
    if which not in ("int_domain", "float_domain"):
        return
    domain = getattr(feature, which)
    small, big = (
        (_Info.INT_TYPE_SMALL_INT, _Info.INT_TYPE_BIG_INT)
        if which == "int_domain"
        else (_Info.FLOAT_TYPE_SMALL_FLOAT, _Info.FLOAT_TYPE_BIG_FLOAT)
    )
    if domain.HasField("min") and stats.min < domain.min:
        text = f"Values are too small: expected at least {domain.min:g}, got {stats.min:g}"
        yield small, "Out-of-range values", text
    if domain.HasField("max") and stats.max > domain.max:
        text = f"Values are too large: expected at most {domain.max:g}, got {stats.max:g}"
        yield big, "Out-of-range values", text


def _compare(
    result: anomalies_pb2.Anomalies,
    feature: schema_pb2.Feature,
    stats: _Stats,
    other: statistics_pb2.DatasetFeatureStatisticsList | None,
    what: str,
) -> None:
    comparator = feature.drift_comparator if what == "drift" else feature.skew_comparator
    if other is None or not feature.HasField(f"{what}_comparator"):
        return
    theirs = _by_name(other.datasets[0]).get(feature.name)
    if theirs is None or theirs.WhichOneof("stats") != stats.WhichOneof("stats"):
        _add(
            result,
            feature.name,
            _Info.COMPARATOR_CONTROL_DATA_MISSING,
            f"No data to compare for {what}",
            f"Column cannot be compared for {what}: the other data does not have it",
            _Info.ERROR,
        )
        return
    kind, value = distance(stats, theirs)
    measured_by_norm = kind == _Measurement.L_INFTY
    limit = comparator.infinity_norm if measured_by_norm else comparator.jensen_shannon_divergence
    info = next((i for i in result.drift_skew_info if i.path.step[0] == feature.name), None)
    if info is None:
        info = result.drift_skew_info.add()
        info.path.step.append(feature.name)
    measurements = info.drift_measurements if what == "drift" else info.skew_measurements
    measurements.add(type=kind, value=value, threshold=limit.threshold)
    if limit.HasField("threshold") and value > limit.threshold:
        measure = "L-infinity distance" if measured_by_norm else "Jensen-Shannon divergence"
        _add(
            result,
            feature.name,
            _Info.COMPARATOR_L_INFTY_HIGH
            if measured_by_norm
            else _Info.COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH,
            f"High {what}",
            f"Distribution has changed ({what}): expected a {measure} of at most "
            f"{limit.threshold:g}, got {value:.4g}",
            _Info.ERROR,
        )


def _add(
    result: anomalies_pb2.Anomalies, name: str, kind: int, short: str, text: str, severity: int
) -> None:
    info = result.anomaly_info[name]
    if not info.path.step:
        info.path.step.append(name)
    several = len(info.reason) > 0
    info.reason.add(type=kind, short_description=short, description=text)
    info.short_description = "Multiple errors" if several else short
    info.description = f"{info.description} {text}.".strip()
    info.severity = max(info.severity, severity)


def _common(stats: _Stats) -> statistics_pb2.CommonStatistics:
    return getattr(stats, stats.WhichOneof("stats")).common_stats


def _counts(stats: statistics_pb2.StringStatistics) -> dict[str, float]:
    """Counts of the most frequent values, as many as the statistics keep."""
    if stats.rank_histogram.buckets:
        return {b.label: b.sample_count for b in stats.rank_histogram.buckets}
    return {v.value: v.frequency for v in stats.top_values}


def _shares(stats: statistics_pb2.StringStatistics) -> dict[str, float]:
    total = stats.common_stats.tot_num_values or 1
    return {value: count / total for value, count in _counts(stats).items()}


def _mass(stats: statistics_pb2.NumericStatistics, edges: Array) -> Array:
    """The share of the values in each bin, values taken as even within each quantile."""
    histogram = next(h for h in stats.histograms if h.type == statistics_pb2.Histogram.QUANTILES)
    total = sum(b.sample_count for b in histogram.buckets)
    mass = np.zeros(len(edges) - 1)
    for bucket in histogram.buckets:
        low, high, share = bucket.low_value, bucket.high_value, bucket.sample_count / total
        if high > low:
            below = np.clip((edges - low) / (high - low), 0, 1)
            mass += np.diff(below) * share
        else:
            place = min(int(np.searchsorted(edges, low, side="right")) - 1, len(mass) - 1)
            mass[place] += share
    return mass


def _divergence(left: Array, right: Array) -> float:
    middle = (left + right) / 2

    def entropy(mass: Array) -> float:
        some = mass > 0
        return float((mass[some] * np.log2(mass[some] / middle[some])).sum())

    return min(1.0, max(0.0, (entropy(left) + entropy(right)) / 2))
