"""The drawn part of the report: curves, decisions, training; layer 3."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from estimator_lib.evaluation.charts import Chart
from estimator_lib.evaluation.curves import ConfusionMatrix, Curves, thin
from estimator_lib.evaluation.metrics import METRICS, Task, info
from estimator_lib.evaluation.report_input import ReportInput
from estimator_lib.evaluation.wording import (
    count_text,
    escape,
    format_metric,
    title_of,
)

_MAX_CLASSES = 20
_NOISY_RECALL = 0.005


def _figure(title: str, about: str, keys: Sequence[tuple[str, str]], svg: str) -> str:
    legend = "".join(
        f'<span class="key"><i class="{kind}"></i>{escape(t)}</span>' for kind, t in keys
    )
    return (
        f'<figure class="card"><figcaption><h3>{escape(title)}</h3><span>{legend}</span>'
        f'</figcaption><p class="about">{escape(about)}</p>{svg}</figure>'
    )


def quality(report: ReportInput) -> str:
    """The section of curves; empty if none is defined."""
    found = report.evaluation
    drawn = coverage(report, "") + drawings(found.task, found.curves, report.positive)
    if not drawn:
        return ""
    return f'<section><h2>How good it is</h2><div class="grid two">{drawn}</div></section>'


def drawings(task: Task, curves: Curves, positive: str) -> str:
    """The figures of one label."""
    figures = [_roc(curves), _precision_recall(curves)] if task == "binary" else []
    figures += [_reliability(task, curves, positive), _histogram(curves, positive)]
    return "".join(figure for figure in figures if figure)


def coverage(report: ReportInput, suffix: str) -> str:
    """Coverage by level, of a quantile model or the head that `suffix` is of."""
    points = [
        (float(name.split("/")[1]), metric)
        for name, metric in report.evaluation.metrics.items()
        if name.startswith("coverage/")
        and name.removesuffix(suffix).count("/") == 1
        and name.endswith(suffix)
    ]
    known = [(level, m.value, m) for level, m in points if m.value is not None]
    if not known:
        return ""
    chart = Chart((0, 1), (0, 1), x_title="Level", y_title="Labels at or below", percent="xy")
    chart.line([(0, 0), (1, 1)], "ref")
    chart.line([(level, value) for level, value, _ in known], "c1 thin")
    for level, value, metric in known:
        if metric.low is not None and metric.high is not None:
            chart.whisker(level, metric.low, metric.high, "c1")
        chart.dot(level, value, "c1", f"level {level:g}: {value:.1%} of labels at or below")
    return _figure(
        "Coverage",
        "Share of labels at or below each predicted quantile. On the dashed line the quantiles "
        "can be taken at their word.",
        [("c1", "Model"), ("ref", "Right")],
        chart.render("Coverage: share of labels at or below the quantile by its level"),
    )


def _roc(curves: Curves) -> str:
    roc = curves.roc
    if roc is None:
        return ""
    chart = Chart(
        (0, 1), (0, 1), x_title="False alarms", y_title="Found", percent="xy"
    )  # fmt: skip
    points = list(zip(roc.false_positive_rates, roc.true_positive_rates, strict=True))
    chart.line([(0, 0), (1, 1)], "ref")
    chart.area(points, "c1")
    chart.line(points, "c1")
    return _figure(
        "ROC",
        "Share of positives found for each share of false alarms. Higher and further left is "
        "better.",
        [("c1", "Model"), ("ref", "Coin")],
        chart.render("ROC curve: true positive rate by false positive rate"),
    )


def _precision_recall(curves: Curves) -> str:
    pr = curves.precision_recall
    if pr is None:
        return ""
    chart = Chart(
        (0, 1),
        (0, 1),
        x_title="Recall: positives found",
        y_title="Precision: calls that are right",
        percent="xy",
    )
    chart.line([(0, pr.base_rate), (1, pr.base_rate)], "ref")
    # The first few calls make precision jump between 0 and 1, which says nothing.
    points = [p for p in zip(pr.recalls, pr.precisions, strict=True) if p[0] >= _NOISY_RECALL]
    chart.area(points, "c1")
    chart.line(points, "c1")
    return _figure(
        "Precision and recall",
        "How often a call is right, by how many of the positives are called. Higher is better.",
        [("c1", "Model"), ("ref", f"Base rate {pr.base_rate:.1%}")],
        chart.render("Precision by recall"),
    )


def _reliability(task: Task, curves: Curves, positive: str) -> str:
    bins = curves.reliability
    if not bins:
        return ""
    ends = [v for b in bins for v in (b.prediction_mean, b.low, b.high)]
    low, high = min(ends), max(ends)
    pad = 0.06 * (high - low) or 0.05
    low, high = low - pad, high + pad
    if task != "regression":
        low, high = max(0.0, low), min(1.0, high)
        low = 0.0 if low < 0.1 else low
    percent = "" if task == "regression" else "xy"
    named = {
        "binary": ("Predicted probability", f"Share that is {positive}"),
        "multiclass": ("Confidence", "Share that is right"),
        "regression": ("Predicted", "Actual mean"),
    }[task]
    chart = Chart((low, high), (low, high), x_title=named[0], y_title=named[1], percent=percent)
    chart.line([(low, low), (high, high)], "ref")
    chart.line([(b.prediction_mean, b.label_mean) for b in bins], "c1 thin")
    for b in bins:
        chart.whisker(b.prediction_mean, b.low, b.high, "c1")
        chart.dot(
            b.prediction_mean,
            b.label_mean,
            "c1",
            f"predicted {b.prediction_mean:.4g}, actual {b.label_mean:.4g}, "
            f"{count_text(b.rows)} rows",
        )
    return _figure(
        "Calibration",
        "What was predicted against what happened, in groups of equal size. On the dashed line "
        "predictions can be taken at their word.",
        [("c1", "Model"), ("ref", "Right on average")],
        chart.render("Calibration: actual mean by predicted mean"),
    )


def _histogram(curves: Curves, positive: str) -> str:
    histogram = curves.histogram
    if histogram is None:
        return ""
    edges = histogram.edges
    shown = {name: list(values) for name, values in histogram.series.items()}
    names = {
        "negative": f"Not {positive}",
        "positive": positive[:1].upper() + positive[1:],
        "wrong": "Wrong",
        "right": "Right",
        "error": "Rows",
    }
    titles = {
        "probability": ("Scores", "Predicted probability", "Share of the group"),
        "confidence": ("Confidence", "Probability of the named class", "Share of the group"),
        "error": ("Errors", "Prediction minus label", "Share of rows"),
    }
    about = {
        "probability": "How scores spread in either group, each scaled to its own size. The less "
        "they overlap, the better the model separates.",
        "confidence": "How sure the model is where it is right and where it is wrong.",
        "error": "How far predictions lie from the label. The end bars hold everything beyond.",
    }[histogram.of]
    for values in shown.values():
        total = sum(values) or 1.0
        values[:] = [v / total for v in values]
    top = max((max(v) for v in shown.values()), default=1.0) * 1.05 or 1.0
    title, x_title, y_title = titles[histogram.of]
    percent = "y" if histogram.of == "error" else "xy"
    chart = Chart(
        (edges[0], edges[-1]), (0, top), x_title=x_title, y_title=y_title, percent=percent
    )
    keys = []
    for index, (name, values) in enumerate(shown.items()):
        kind = "c2" if (index == 1 or name == "wrong") and name != "right" else "c1"
        chart.bars(edges, values, kind)
        keys.append((kind, names.get(name, name)))
    return _figure(title, about, keys, chart.render(f"Histogram: {title.lower()}"))


def decisions(report: ReportInput) -> str:
    """The section on what is confused with what; empty for regression."""
    confusion = report.evaluation.curves.confusion
    if confusion is None:
        return ""
    if confusion.threshold is None:
        if len(confusion.classes) > _MAX_CLASSES:
            return ""
        return (
            '<section><h2>What it confuses</h2><p class="soft">Share of each true class (row) '
            "by the class that is named (column).</p>"
            f'<div class="card" style="margin-top:16px"><div class="scroll" style="margin-top:0">'
            f"{_class_matrix(confusion)}</div></div></section>"
        )
    (tn, fp), (fn, tp) = confusion.counts
    total = tn + fp + fn + tp or 1.0
    rows = (
        (f"Is {report.positive}", (tp, "found"), (fn, "missed")),
        (f"Is not {report.positive}", (fp, "false alarms"), (tn, "rightly left alone")),
    )
    body = ""
    for label, *cells in rows:
        body += f'<tr><th scope="row">{escape(label)}</th>' + "".join(
            f'<td style="--heat:{4 + 32 * value / total:.0f}%"><b>{value / total:.1%}</b>'
            f"<span>{count_text(value)} {text}</span></td>"
            for value, text in cells
        )
        body += "</tr>"
    metrics = report.evaluation.metrics
    said = "".join(
        f"<p><b>{format_metric(name, metrics[name].value)}</b>"
        f'<span class="soft small">{title_of(name)}. {escape(METRICS[name].text)}</span></p>'
        for name in ("precision", "recall")
    )
    return (
        f"<section><h2>Decisions at {confusion.threshold:.0%}</h2>"
        '<p class="soft">What happens if every row with a probability above that is acted on. '
        "Another threshold trades found rows for false alarms.</p>"
        '<div class="card pair-grid" style="margin-top:16px"><table class="matrix pair"><thead>'
        '<tr><td style="background:none"></td><th scope="col">Called '
        f'{escape(report.positive)}</th><th scope="col">Not called</th></tr></thead><tbody>{body}'
        f'</tbody></table><div class="said">{said}</div></div></section>'
    )


def _class_matrix(confusion: ConfusionMatrix) -> str:
    head = "".join(f'<th scope="col">{escape(c)}</th>' for c in confusion.classes)
    body = ""
    for name, row in zip(confusion.classes, confusion.counts, strict=True):
        total = sum(row) or 1.0
        body += f'<tr><th scope="row">{escape(name)}</th>' + "".join(
            f'<td style="--heat:{3 + 60 * v / total:.0f}%" title="{count_text(v)} rows">'
            f"{v / total:.0%}</td>"
            for v in row
        )
        body += "</tr>"
    return (
        f'<table class="matrix"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


_LEARNED = ("auc", "auc_precision_recall", "accuracy", "rmse", "mae")
"""Of these the first that was evaluated in training is drawn."""


def training(report: ReportInput) -> str:
    """The section of training curves; empty without a history."""
    series: dict[str, list[tuple[float, float]]] = {}
    for record in report.history:
        step = float(record["step"])
        found = {"train": record.get("loss"), **dict(record.get("metrics") or {})}
        for name, value in found.items():
            if isinstance(value, int | float) and np.isfinite(value):
                series.setdefault(name, []).append((step, float(value)))
    series = {name: _thinned(points) for name, points in series.items()}
    train = series.pop("train", [])
    held_out = next((n for n in ("loss", "average_loss") if n in series), None)
    figures = []
    losses = [("c2", "Training", train)] if train else []
    if held_out:
        losses.append(("c1", "Evaluation", series[held_out]))
    if any(len(points) > 1 for _, _, points in losses):
        figures.append(
            _curve("Loss", "Per step of training. Lower is better.", losses, mark_best=None)
        )
    several = report.evaluation.parts if report.evaluation.task == "multihead" else ()
    for suffix in [f"/{part.name}" for part in several] or [""]:
        names = [f"{known}{suffix}" for known in _LEARNED if f"{known}{suffix}" in series]
        if names and len(series[names[0]]) > 1:
            better = info(names[0]).better
            figures.append(
                _curve(
                    title_of(names[0]),
                    f"On evaluation rows. {better.capitalize()} is better; the ring is the best.",
                    [("c1", "Evaluation", series[names[0]])],
                    mark_best=better,
                )
            )
    if not figures:
        return ""
    return (
        f'<section><h2>How it learned</h2><div class="grid two">{"".join(figures)}</div></section>'
    )


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """In order of step, as many as can be told apart."""
    points = sorted(points)
    plane = np.array(points)
    plane -= plane.min(axis=0)
    plane /= np.maximum(plane.max(axis=0), 1e-30)
    return [points[at] for at in thin(plane[:, 0], plane[:, 1], 300)]


def _curve(
    title: str,
    about: str,
    lines: Sequence[tuple[str, str, list[tuple[float, float]]]],
    *,
    mark_best: str | None,
) -> str:
    xs = [x for _, _, points in lines for x, _ in points]
    ys = [y for _, _, points in lines for _, y in points]
    # The first steps of a training loss can dwarf the rest: the axis ends at the 98th percentile.
    low, high = min(ys), float(np.quantile(ys, 0.98))
    pad = 0.08 * (high - low) or 0.05 * abs(high) or 0.5
    chart = Chart(
        (min(xs), max(xs)), (low - pad, high + pad), x_title="Step", y_title=title, height=270
    )
    for kind, _, points in lines:
        chart.line([(x, min(y, high + pad)) for x, y in points], kind)
        if len(points) <= 40 and kind == "c1":
            for x, y in points:
                chart.dot(x, min(y, high + pad), kind, f"step {x:,.0f}: {y:.4g}")
    if mark_best:
        points = lines[-1][2]
        pick = max if mark_best == "higher" else min
        x, y = pick(points, key=lambda point: point[1])
        chart.parts.append(
            f'<circle class="line c1" cx="{chart.sx(x):.1f}" cy="{chart.sy(y):.1f}" r="9"/>'
        )
    keys = [(kind, label) for kind, label, _ in lines] if len(lines) > 1 else []
    return _figure(title, about, keys, chart.render(f"{title} by step"))
