"""Words and numbers as people read them, shared by the report and the model card; layer 3."""

from __future__ import annotations

import html

from estimator_lib.evaluation.metrics import METRICS, Metric, info
from estimator_lib.evaluation.results import Evaluation, Slice

FRACTIONS = frozenset(
    ("accuracy", "precision", "recall", "top_2_accuracy", "top_3_accuracy", "top_5_accuracy",
     "exact_match", "coverage", "interval_coverage", "coverage_error")
)  # fmt: skip
VERDICTS = {
    "blessed": ("Blessed", "Every requirement is met. This model may be published.",
                "M16 27.5 L23.5 35 L37 19"),
    "refused": ("Refused", "At least one requirement is not met. This model is not published.",
                "M19 19 L33 33 M33 19 L19 33"),
    "not_evaluated": ("Not evaluated", "Nothing decides yet whether this model may be published.",
                      "M26 15 V29 M26 36.5 V37"),
}  # fmt: skip


def escape(text: object) -> str:
    """Text for HTML, attributes included."""
    return html.escape(str(text))


def format_metric(name: str, value: float | None) -> str:
    """A metric as people read it: percentages for shares, three decimals for scores.

    Example:
        >>> format_metric("accuracy", 0.7612), format_metric("auc", 0.71649)
        ('76.1%', '0.716')
    """
    if value is None:
        return "n/a"
    base = base_name(name)
    if base in FRACTIONS:
        return f"{100 * value:.1f}%"
    known = METRICS.get(base)
    if known is not None and known.low == 0.0 and known.high is not None:
        return f"{value:.4f}" if base in ("ece", "brier") else f"{value:.3f}"
    if base in ("calibration", "r2"):
        return f"{value:.3f}"
    if 0.01 <= abs(value) < 10:
        return f"{value:.4f}"
    return f"{value:#.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def base_name(name: str) -> str:
    """A metric's name without the label, head or quantile that it is of."""
    return name.partition("/")[0]


def change_text(name: str, change: float) -> str:
    """A difference of metrics: points where the metric is a percentage."""
    if base_name(name) in FRACTIONS:
        return f"{100 * change:+.1f} pts"
    return f"{change:+.4f}" if abs(change) < 100 else f"{change:+,.0f}"


def judged(name: str, change: Metric) -> str:
    """Whether a difference is "better" or "worse"; "alike" where chance explains it.

    Without an interval its sign decides; "" where neither direction is better.
    """
    better = info(name).better
    if change.value is None or better not in ("higher", "lower"):
        return ""
    low = change.value if change.low is None else change.low
    high = change.value if change.high is None else change.high
    if low <= 0 <= high:
        return "alike"
    return "better" if (low > 0) == (better == "higher") else "worse"


def mean_text(value: float | None, task: str) -> str:
    """A mean of labels or predictions: a percentage where the label is a class."""
    if value is None:
        return "n/a"
    return f"{100 * value:.1f}%" if task == "binary" else format_metric("label_mean", value)


def count_text(value: float) -> str:
    """A number of rows, or a weight."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def seconds_text(value: float) -> str:
    """A duration."""
    if value < 60:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def range_text(name: str, metric: Metric) -> str:
    """The interval of a metric, or nothing."""
    if metric.low is None or metric.high is None:
        return ""
    return f"{format_metric(name, metric.low)} to {format_metric(name, metric.high)}"


def title_of(name: str) -> str:
    """The name of a metric for people."""
    base, *parts = name.split("/")
    return ", ".join([METRICS[base].title if base in METRICS else base, *parts])


def slice_value(value: str) -> str:
    """The value of a slice; missing ones get a word."""
    return value or "(missing)"


def weakest(found: Evaluation, name: str) -> Slice | None:
    """The slice that is surely worse than the whole, by the most; None if there is none."""
    known = [part for part in found.slices if is_worse(part, found, name)]
    known.sort(key=lambda part: badness(part, name))
    return known[0] if known else None


def is_worse(part: Slice, found: Evaluation, name: str) -> bool:
    """Whether the slice's interval lies wholly on the bad side of the whole's value."""
    whole, mine = found.metrics[name].value, part.metrics.get(name)
    if whole is None or mine is None or mine.low is None or mine.high is None:
        return False
    return mine.high < whole if info(name).better == "higher" else mine.low > whole


def badness(part: Slice, name: str) -> float:
    """Ascending order of this is worst first; undefined last."""
    value = part.metrics[name].value if name in part.metrics else None
    if value is None:
        return float("inf")
    return value if info(name).better == "higher" else -value
