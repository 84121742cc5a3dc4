"""What a report lists, in which order and how much of it; layer 3."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from estimator_lib.evaluation import feature_statistics as fs
from estimator_lib.evaluation.metrics import Metric, info
from estimator_lib.evaluation.results import (
    Check,
    Evaluation,
    Importance,
    Part,
    Slice,
    SlicedField,
)
from estimator_lib.report.charts import Axis, Spark, spark
from estimator_lib.report.wording import base_name, describe_change, title_of

MAX_IMPORTANT = 100
MAX_FEATURES = 250
MAX_DRAWN_LABELS = 6
_PICTURED_VALUES = 12
_TILES: Mapping[str, tuple[str, ...]] = {
    "binary": ("auc", "auc_precision_recall", "loss", "accuracy", "calibration", "ece"),
    "multiclass": ("accuracy", "auc", "loss", "top_2_accuracy", "ece", "brier"),
    "regression": ("rmse", "mae", "r2"),
    "quantile": ("pinball", "interval_coverage", "coverage_error"),
    "multilabel": ("auc", "exact_match", "accuracy", "auc_precision_recall", "loss", "ece"),
    "multihead": (),
}
_TILES_OF_A_HEAD = 2


def tiles(found: Evaluation) -> list[str]:
    """The metrics at a glance; of several heads, the most telling of each."""
    names: Iterator[str] = iter(_TILES[found.task])
    if found.task == "multihead":
        names = (
            f"{own}/{part.name}"
            for part in found.parts
            for own in _TILES[part.task][:_TILES_OF_A_HEAD]
        )
    return [name for name in names if name in found.metrics]


def metrics_of(found: Evaluation, head: str) -> dict[str, Metric]:
    """The metrics of a head, by their names without it."""
    suffix = f"/{head}"
    return {n.removesuffix(suffix): m for n, m in found.metrics.items() if n.endswith(suffix)}


def check_text(check: Check) -> str:
    """One requirement with both numbers, as a sentence."""
    title = title_of(check.metric)
    if check.actual is None or check.kind.startswith("slice_"):
        told = check.reason.replace(check.metric, title, 1)
        return told[:1].upper() + told[1:]
    least = "at least" if check.bound == "min" else "at most"
    number = _exact(check.actual, check.limit)
    if check.kind == "change":
        title, number = f"Change of {title} against the serving model", f"{check.actual:+.4g}"
    sure = f"with 95% confidence {least} " if check.confident else ""
    return f"{title} is {sure}{number}; {least} {check.limit:g} is required."


def _exact(actual: float, limit: float) -> str:
    """The checked value with as many digits as show on which side of the limit it is."""
    for digits in (3, 4, 6, 9):
        text = f"{actual:.{digits}g}"
        if (float(text) < limit) == (actual < limit) and (float(text) > limit) == (actual > limit):
            return text
    return repr(actual)


# --- The serving model ------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """A metric of this model and of the serving one.

    Attributes:
        name: The metric.
        serving: That of the serving model.
        mine: That of this model.
        change: The difference.
        verdict: "better", "worse" or "alike".
        turned: The difference with its sign so that better is larger.
        axis: A scale around zero.
    """

    name: str
    serving: Metric
    mine: Metric
    change: Metric
    verdict: str
    turned: Metric
    axis: Axis


def differences(found: Evaluation) -> list[Difference]:
    """Metrics of which one direction is better, in their order; none without a comparison."""
    comparison = found.comparison
    if comparison is None or not comparison.comparable:
        return []
    result = []
    for name, change in comparison.changes.items():
        better = info(name).better
        if change.value is None or better not in ("higher", "lower"):
            continue
        sign = 1.0 if better == "higher" else -1.0
        value = sign * change.value
        ends = sorted(sign * end for end in (change.low, change.high) if end is not None)
        reach = 1.15 * max(abs(end) for end in (value, *ends)) or 1.0
        result.append(
            Difference(
                name=name,
                serving=comparison.metrics[name],
                mine=found.metrics[name],
                change=change,
                verdict=describe_change(name, change),
                turned=Metric(value=value, low=ends[0], high=ends[1])
                if ends
                else Metric(value=value),
                axis=Axis(low=-reach, high=reach, whole=0.0),
            )
        )
    return result


# --- Slices -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlicedBy:
    """The slices of one field by one metric.

    Attributes:
        field: How the field divides the rows.
        slices: Those that are surely worse than the whole first, then weakest first.
        axis: Of the metric.
        largest: Rows of the largest slice.
        means: Names of the metrics that are the means of labels and predictions, if there are.
        task: What is predicted.
        compared: Whether there are differences to the serving model.
    """

    field: SlicedField
    slices: Sequence[Slice]
    axis: Axis
    largest: int
    means: Sequence[str]
    task: str
    compared: bool


def slices_by(found: Evaluation, name: str) -> list[SlicedBy]:
    """The slices of each field by the metric `name`."""
    suffix = name.removeprefix(base_name(name))
    means = [f"{mean}{suffix}" for mean in ("label_mean", "prediction_mean")]
    result = []
    for field in found.sliced_fields:
        parts = [part for part in found.slices if part.field == field.field]
        parts.sort(
            key=lambda p: (not is_worse(p, found, name), _badness(p, name), -p.rows, p.value)
        )
        result.append(
            SlicedBy(
                field=field,
                slices=parts,
                axis=_around([part.metrics[name] for part in parts], found.metrics[name].value),
                largest=max((part.rows for part in parts), default=0),
                means=means if found.metrics.keys() >= set(means) else (),
                task=next((p.task for p in found.parts if f"/{p.name}" == suffix), found.task),
                compared=any(part.changes for part in parts),
            )
        )
    return result


def worse_slices(found: Evaluation, name: str) -> list[Slice]:
    """The slices that are surely worse than the whole by a metric, worst first."""
    worse = [part for part in found.slices if is_worse(part, found, name)]
    return sorted(worse, key=lambda part: _badness(part, name))


def is_worse(part: Slice, found: Evaluation, name: str) -> bool:
    """Whether the slice's interval lies wholly on the bad side of the whole's value."""
    whole, mine = found.metrics[name].value, part.metrics.get(name)
    if whole is None or mine is None or mine.low is None or mine.high is None:
        return False
    return mine.high < whole if info(name).better == "higher" else mine.low > whole


def _badness(part: Slice, name: str) -> float:
    """Ascending order of this is worst first; undefined last."""
    value = part.metrics[name].value if name in part.metrics else None
    if value is None:
        return float("inf")
    return value if info(name).better == "higher" else -value


def _around(metrics: Sequence[Metric], whole: float | None = None) -> Axis:
    return Axis.around([end for m in metrics for end in (m.value, m.low, m.high)], whole)


# --- Labels and fields ------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Labels:
    """The labels of a multi-label model or head, weakest first, on one axis of AUC."""

    parts: Sequence[Part]
    axis: Axis


def labels(found: Evaluation, parts: Sequence[Part], suffix: str) -> Labels:
    """Puts labels in order; `suffix` ends the names of their metrics after the label's own."""

    def auc(part: Part) -> Metric:
        return found.metrics[f"auc/{part.name}{suffix}"]

    ordered = sorted(parts, key=lambda part: auc(part).value or 2.0)
    return Labels(parts=ordered, axis=_around([auc(part) for part in ordered]))


def importances(found: Evaluation) -> list[tuple[str, Importance]]:
    """What the model, "it", or each head relies on, where it was measured."""
    owners = [("it", found.importance), *((part.name, part.importance) for part in found.parts)]
    return [(who, measured) for who, measured in owners if measured and measured.features]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Feature:
    """A field of the rows in the first two splits that have it.

    Attributes:
        name: The field.
        type: "number" or "text".
        first: Its statistics in the first split.
        missing: Its share of missing values per split.
        shift: Distance between the splits, or None.
        picture: Its distribution, or None.
    """

    name: str
    type: str
    first: fs.FeatureStatistics
    missing: Sequence[float]
    shift: float | None
    picture: Spark | None


def features(
    compared: Sequence[fs.FeatureComparison],
) -> tuple[list[str], list[Feature]]:
    """The names of the splits, and the fields, most shifted first."""
    ordered = sorted(compared, key=lambda f: (-(f["shift"] or 0.0), f["name"]))
    splits = list(dict.fromkeys(split for f in ordered for split in f["splits"]))[:2]
    return splits, [_feature(feature, splits) for feature in ordered[:MAX_FEATURES]]


def _feature(feature: fs.FeatureComparison, splits: Sequence[str]) -> Feature:
    known = [feature["splits"][s] for s in splits if s in feature["splits"]]
    return Feature(
        name=feature["name"],
        type=feature["type"],
        first=known[0],
        missing=[split["missing_fraction"] or 0.0 for split in known],
        shift=feature["shift"],
        picture=_picture(known, f"Distribution of {feature['name']}"),
    )


def _picture(known: Sequence[fs.FeatureStatistics], label: str) -> Spark | None:
    if known[0]["type"] == "number":
        drawn = [split for split in known if split["histogram"]]
        if not drawn:
            return None
        edges = fs.common_edges(drawn)
        counts = [fs.rebin(split["histogram"], edges) for split in drawn]
        return spark([(c / (c.sum() or 1.0)).tolist() for c in counts], label)
    values = [value for value, _ in known[0]["top"][:_PICTURED_VALUES]]
    return spark([fs.value_shares(split, values) for split in known], label) if values else None
