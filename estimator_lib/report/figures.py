"""What is drawn of an evaluation: ROC, precision and recall, calibration, histograms, training.

Layer 3.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from estimator_lib.evaluation.curves import (
    Curves,
    Histogram,
    PrecisionRecallCurve,
    ReliabilityBin,
    RocCurve,
    thin,
)
from estimator_lib.evaluation.metrics import Metric, Task, info
from estimator_lib.evaluation.results import Evaluation
from estimator_lib.report import texts
from estimator_lib.report.charts import Chart, Points
from estimator_lib.report.wording import title_of

_NOISY_RECALL = 0.005
_UNIT = (0.0, 1.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """A chart with its words; `keys` are its legend, a style and a text each."""

    title: str
    about: str
    keys: Sequence[tuple[str, str]]
    chart: Chart


def of_label(task: Task, curves: Curves, positive: str) -> list[Figure]:
    """The figures of one label; `positive` is what class 1 is called."""
    found = []
    if curves.roc is not None:
        found.append(_roc(curves.roc))
    if curves.precision_recall is not None:
        found.append(_precision_recall(curves.precision_recall))
    if curves.reliability:
        found.append(_reliability(task, curves.reliability, positive))
    if curves.histogram is not None:
        found.append(_histogram(curves.histogram, positive))
    return found


def of_quantiles(metrics: Mapping[str, Metric], suffix: str = "") -> list[Figure]:
    """Coverage by level of a quantile model, or of the head that `suffix` ends the metrics of."""
    known = [
        (float(name.split("/")[1]), metric.value, metric)
        for name, metric in metrics.items()
        if name.startswith("coverage/")
        and name.endswith(suffix)
        and name.removesuffix(suffix).count("/") == 1
        and metric.value is not None
    ]
    if not known:
        return []
    chart = Chart(
        _UNIT, _UNIT, percent="xy", x_title="Quantile level", y_title="Coverage",
        label="Coverage: share of labels at or below the quantile, by its level",
    )  # fmt: skip
    chart.line([(0, 0), (1, 1)], "ref")
    chart.line([(level, value) for level, value, _ in known], "c1 thin")
    for level, value, metric in known:
        if metric.low is not None and metric.high is not None:
            chart.whisker(level, metric.low, metric.high, "c1")
        chart.dot(level, value, "c1", f"level {level:g}: {value:.1%} of labels at or below")
    return [
        Figure(
            title="Coverage",
            about="Share of labels at or below each predicted quantile. It should be the level.",
            keys=[("c1", "Model"), ("ref", "Coverage equals level")],
            chart=chart,
        )
    ]


def _roc(roc: RocCurve) -> Figure:
    chart = Chart(
        _UNIT, _UNIT, percent="xy", x_title="False positive rate", y_title="True positive rate",
        label="ROC curve: true positive rate by false positive rate",
    )  # fmt: skip
    points = list(zip(roc.false_positive_rates, roc.true_positive_rates, strict=True))
    chart.line([(0, 0), (1, 1)], "ref")
    chart.area(points, "c1")
    chart.line(points, "c1")
    return Figure(
        title="ROC",
        about="True positive rate at each false positive rate. Higher and further left is better.",
        keys=[("c1", "Model"), ("ref", "Chance")],
        chart=chart,
    )


def _precision_recall(curve: PrecisionRecallCurve) -> Figure:
    chart = Chart(
        _UNIT, _UNIT, percent="xy", x_title="Recall", y_title="Precision",
        label="Precision by recall",
    )  # fmt: skip
    chart.line([(0, curve.base_rate), (1, curve.base_rate)], "ref")
    # The first few rows make precision jump between 0 and 1, which says nothing.
    pairs = zip(curve.recalls, curve.precisions, strict=True)
    points = [pair for pair in pairs if pair[0] >= _NOISY_RECALL]
    chart.area(points, "c1")
    chart.line(points, "c1")
    return Figure(
        title="Precision and recall",
        about="Precision at each recall. Higher is better.",
        keys=[("c1", "Model"), ("ref", f"Chance: base rate {curve.base_rate:.1%}")],
        chart=chart,
    )


def _reliability(task: Task, bins: Sequence[ReliabilityBin], positive: str) -> Figure:
    ends = [value for b in bins for value in (b.prediction_mean, b.low, b.high)]
    low, high = min(ends), max(ends)
    pad = 0.06 * (high - low) or 0.05
    low, high = low - pad, high + pad
    if task != "regression":
        low, high = max(0.0, low), min(1.0, high)
        low = 0.0 if low < 0.1 else low
    x_title, y_title = {
        "multiclass": ("Mean confidence", "Accuracy"),
        "regression": ("Mean prediction", "Mean label"),
    }.get(task, ("Mean predicted probability", f"Fraction that is {positive}"))
    chart = Chart(
        (low, high), (low, high), percent="" if task == "regression" else "xy",
        x_title=x_title, y_title=y_title, label="Calibration: label mean by prediction mean",
    )  # fmt: skip
    chart.line([(low, low), (high, high)], "ref")
    chart.line([(b.prediction_mean, b.label_mean) for b in bins], "c1 thin")
    for b in bins:
        chart.whisker(b.prediction_mean, b.low, b.high, "c1")
        text = f"predicted {b.prediction_mean:.4g}, actual {b.label_mean:.4g}"
        chart.dot(b.prediction_mean, b.label_mean, "c1", f"{text}, {texts.count(b.rows)} rows")
    return Figure(
        title="Calibration",
        about="Predictions against labels, in bins of equal size, with 95% intervals.",
        keys=[("c1", "Model"), ("ref", "Perfectly calibrated")],
        chart=chart,
    )


_HISTOGRAMS = {
    "probability": (
        "Scores", "Predicted probability", "Share of the class", "xy",
        "How scores spread in each class, each scaled to its own size. The less the classes "
        "overlap, the better the model separates them.",
    ),
    "confidence": (
        "Confidence", "Probability of the predicted class", "Share of the group", "xy",
        "How confident the model is where it is right and where it is wrong.",
    ),
    "error": (
        "Errors", "Prediction minus label", "Share of rows", "y",
        "How far predictions lie from the label. The end bars hold everything beyond.",
    ),
}  # fmt: skip


def _histogram(histogram: Histogram, positive: str) -> Figure:
    title, x_title, y_title, percent, about = _HISTOGRAMS[histogram.of]
    names = {
        "negative": ("c1", f"Not {positive}"),
        "positive": ("c2", positive[:1].upper() + positive[1:]),
        "wrong": ("c2", "Wrong"),
        "right": ("c1", "Right"),
        "error": ("c1", "Rows"),
    }
    shares = {
        name: [weight / (sum(weights) or 1.0) for weight in weights]
        for name, weights in histogram.series.items()
    }
    top = 1.05 * max((max(values) for values in shares.values()), default=1.0) or 1.0
    edges = histogram.edges
    chart = Chart(
        (edges[0], edges[-1]), (0, top), percent=percent, x_title=x_title, y_title=y_title,
        label=f"Histogram: {title.lower()}",
    )  # fmt: skip
    for name, values in shares.items():
        chart.bars(edges, values, names[name][0])
    return Figure(title=title, about=about, keys=[names[name] for name in shares], chart=chart)


# --- Training ---------------------------------------------------------------------------------

_LEARNED = ("auc", "auc_precision_recall", "accuracy", "rmse", "mae")
"""Of these the first that was evaluated in training is drawn."""


def of_training(history: Sequence[Mapping[str, Any]], found: Evaluation) -> Iterator[Figure]:
    """Curves of losses and of the most telling metric of each head, by step.

    Args:
        history: `{"step": int, "loss": float | None, "metrics": {name: float}}`, in any order.
        found: Says what heads there are.
    """
    series: dict[str, list[tuple[float, float]]] = {}
    for record in history:
        step, metrics = float(record["step"]), record.get("metrics") or {}
        for name, value in {"train": record.get("loss"), **metrics}.items():
            if isinstance(value, int | float) and np.isfinite(value):
                series.setdefault(name, []).append((step, float(value)))
    drawn = {name: _thinned(points) for name, points in series.items()}
    losses = [
        (style, name, drawn[key])
        for style, name, key in (
            ("c2", "Training", "train"),
            ("c1", "Evaluation", "loss" if "loss" in drawn else "average_loss"),
        )
        if key in drawn
    ]
    if any(len(points) > 1 for _, _, points in losses):
        yield _by_step("Loss", "Per step of training. Lower is better.", losses)
    several = found.parts if found.task == "multihead" else ()
    for suffix in [f"/{part.name}" for part in several] or [""]:
        names = [f"{known}{suffix}" for known in _LEARNED if f"{known}{suffix}" in drawn]
        if names and len(drawn[names[0]]) > 1:
            better = info(names[0]).better
            about = f"On evaluation rows. {better.capitalize()} is better; the ring is the best."
            lines = [("c1", "Evaluation", drawn[names[0]])]
            yield _by_step(title_of(names[0]), about, lines, better=better)


def _thinned(points: list[tuple[float, float]]) -> Points:
    """In order of step, as many as can be told apart."""
    points = sorted(points)
    plane = np.array(points)
    plane -= plane.min(axis=0)
    plane /= np.maximum(plane.max(axis=0), 1e-30)
    return [points[at] for at in thin(plane[:, 0], plane[:, 1], 300)]


def _by_step(
    title: str, about: str, lines: Sequence[tuple[str, str, Points]], *, better: str = ""
) -> Figure:
    xs = [x for _, _, points in lines for x, _ in points]
    ys = [y for _, _, points in lines for _, y in points]
    # The first steps of a training loss can dwarf the rest: the axis ends at the 98th percentile.
    low, high = min(ys), float(np.quantile(ys, 0.98))
    pad = 0.08 * (high - low) or 0.05 * abs(high) or 0.5
    top = high + pad
    chart = Chart(
        (min(xs), max(xs)), (low - pad, top), x_title="Step", y_title=title, height=270,
        label=f"{title} by step",
    )  # fmt: skip
    for style, _, points in lines:
        chart.line([(x, min(y, top)) for x, y in points], style)
        if len(points) <= 40 and style == "c1":
            for x, y in points:
                chart.dot(x, min(y, top), style, f"step {x:,.0f}: {y:.4g}")
    if better:
        pick = max if better == "higher" else min
        chart.ring(*pick(lines[-1][2], key=lambda point: point[1]), "c1")
    keys = [(style, name) for style, name, _ in lines] if len(lines) > 1 else []
    return Figure(title=title, about=about, keys=keys, chart=chart)
