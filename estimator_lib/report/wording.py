"""What metrics are called and how their values read; layer 3."""

from __future__ import annotations

from collections.abc import Mapping

from estimator_lib.evaluation.metrics import METRICS, Metric, info

FRACTIONS = frozenset(
    ("accuracy", "precision", "recall", "top_2_accuracy", "top_3_accuracy", "top_5_accuracy",
     "exact_match", "coverage", "interval_coverage", "coverage_error")
)  # fmt: skip
VERDICTS: Mapping[str, tuple[str, str]] = {
    "blessed": ("Blessed", "Every requirement is met. This model may be published."),
    "refused": ("Refused", "At least one requirement is not met. This model is not published."),
    "not_evaluated": (
        "Not evaluated", "Nothing decides yet whether this model may be published."
    ),
}  # fmt: skip


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


def describe_change(name: str, change: Metric) -> str:
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


def change_range_text(name: str, change: Metric) -> str:
    """The interval of a difference, or nothing."""
    if change.low is None or change.high is None:
        return ""
    return f"{change_text(name, change.low)} to {change_text(name, change.high)}"


def is_digest(text: str) -> bool:
    """Whether a text is a digest, of which the first digits tell enough."""
    return len(text) >= 32 and all(c in "0123456789abcdef" for c in text)
