"""report.html and the model card: one evaluation, told to people.

Layer 3. `render` returns one file that needs nothing else: style, drawings and a few lines of
optional script are inside it, and every text from data is escaped. Without the script only
sorting by a click on a column head is lost.
"""

from __future__ import annotations

import dataclasses
import functools
import html
import importlib.resources
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from estimator_lib.evaluation import feature_statistics as fs
from estimator_lib.evaluation.charts import Chart, spark
from estimator_lib.evaluation.curves import ConfusionMatrix, Curves, thin
from estimator_lib.evaluation.evaluation import Check, Evaluation, Slice
from estimator_lib.evaluation.metrics import METRICS, Metric

MAX_SLICES = 200
MAX_FEATURES = 250
FIRST_SLICES = 10
FIRST_FEATURES = 20
_MAX_CLASSES = 20
_NOISY_RECALL = 0.005
_PICTURED_VALUES = 12

_FRACTIONS = frozenset(
    ("accuracy", "precision", "recall", "top_2_accuracy", "top_3_accuracy", "top_5_accuracy")
)
_TILES = {
    "binary": ("auc", "auc_precision_recall", "loss", "accuracy", "calibration", "ece"),
    "multiclass": ("accuracy", "auc", "loss", "top_2_accuracy", "ece", "brier"),
    "regression": ("rmse", "mae", "r2"),
}
_SLICE_METRIC = {"binary": "auc", "multiclass": "accuracy", "regression": "rmse"}
_VERDICTS = {
    "blessed": ("Blessed", "Every requirement is met. This model may be published.",
                "M16 27.5 L23.5 35 L37 19"),
    "refused": ("Refused", "At least one requirement is not met. This model is not published.",
                "M19 19 L33 33 M33 19 L19 33"),
    "not_evaluated": ("Not evaluated", "Nothing decides yet whether this model may be published.",
                      "M26 15 V29 M26 36.5 V37"),
}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportInput:
    """What a report tells; everything but name and evaluation may be left out.

    Attributes:
        name: Of the model.
        evaluation: What was found.
        description: One sentence: what the model predicts.
        created: When, as it should read.
        positive: What label 1 means, such as "late"; for binary models.
        history: Training curve: `{"step": int, "loss": float | None, "metrics": {name: float}}`
            in order of step. `loss` is that of training, `metrics` those of an evaluation.
        features: From `feature_statistics.compare`.
        rows: Label to a number of rows, such as {"Train rows": 245_000}.
        durations_s: Step to seconds.
        facts: Label to text: data fingerprint, code version, configuration digest and so on.
        configuration: The run configuration as text.
    """

    name: str
    evaluation: Evaluation
    description: str = ""
    created: str = ""
    positive: str = "positive"
    history: Sequence[Mapping[str, Any]] = ()
    features: Sequence[fs.FeatureComparison] = ()
    rows: Mapping[str, int] = dataclasses.field(default_factory=dict)
    durations_s: Mapping[str, float] = dataclasses.field(default_factory=dict)
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    configuration: str = ""


def render(report: ReportInput) -> str:
    """Returns the report as one HTML document."""
    found = report.evaluation
    sections = (
        _header(report),
        _verdict(found),
        _tiles(report),
        _quality(report),
        _decisions(report),
        _slices(report),
        _training(report),
        _features(report),
        _facts(report),
        _footer(found),
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f"<title>{_e(report.name)}: {_e(_VERDICTS[found.verdict][0])}</title>\n"
        f"<style>\n{_resource('report.css')}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(section for section in sections if section)
        + f"\n</main>\n<script>\n//<![CDATA[\n{_resource('report.js')}//]]>\n</script>\n"
        "</body>\n</html>\n"
    )


@functools.cache
def _resource(name: str) -> str:
    return (importlib.resources.files(__package__) / name).read_text(encoding="utf-8")


# --- Words and numbers ------------------------------------------------------------------------


def _e(text: object) -> str:
    return html.escape(str(text))


def format_metric(name: str, value: float | None) -> str:
    """A metric as people read it: percentages for shares, three decimals for scores.

    Example:
        >>> format_metric("accuracy", 0.7612), format_metric("auc", 0.71649)
        ('76.1%', '0.716')
    """
    if value is None:
        return "n/a"
    if name in _FRACTIONS:
        return f"{100 * value:.1f}%"
    info = METRICS.get(name)
    if info is not None and info.low == 0.0 and info.high is not None:
        return f"{value:.4f}" if name in ("ece", "brier") else f"{value:.3f}"
    if name in ("calibration", "r2"):
        return f"{value:.3f}"
    if 0.01 <= abs(value) < 10:
        return f"{value:.4f}"
    return f"{value:#.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def _mean(value: float | None, task: str) -> str:
    if value is None:
        return "n/a"
    return f"{100 * value:.1f}%" if task == "binary" else format_metric("label_mean", value)


def _count(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def _seconds(value: float) -> str:
    if value < 60:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _range(name: str, metric: Metric) -> str:
    if metric.low is None or metric.high is None:
        return ""
    return f"{format_metric(name, metric.low)} to {format_metric(name, metric.high)}"


def _title(name: str) -> str:
    return METRICS[name].title if name in METRICS else name


# --- Head -------------------------------------------------------------------------------------


def _header(report: ReportInput) -> str:
    found = report.evaluation
    about = [f"{_count(found.rows)} rows evaluated"]
    if found.step is not None:
        about.append(f"step {_count(found.step)}")
    if report.created:
        about.append(report.created)
    lede = f'<p class="lede">{_e(report.description)}</p>' if report.description else ""
    return (
        f'<header><p class="eyebrow">Model report, {_e(", ".join(about))}</p>'
        f"<h1>{_e(report.name)}</h1>{lede}</header>"
    )


def _verdict(found: Evaluation) -> str:
    word, meaning, path = _VERDICTS[found.verdict]
    items = [_check_line(check) for check in found.checks]
    if found.verdict == "not_evaluated":
        items.extend(f"<li><b>!</b><span>{_e(reason)}</span></li>" for reason in found.reasons)
    listed = f"<ul>{''.join(items)}</ul>" if items else ""
    return (
        f'<div class="verdict {found.verdict}"><svg class="mark" viewBox="0 0 52 52" '
        f'aria-hidden="true"><circle cx="26" cy="26" r="26"/><path d="{path}"/></svg>'
        f'<div><p class="word">{word}</p><p class="meaning">{meaning}</p></div>{listed}</div>'
    )


def _check_line(check: Check) -> str:
    mark = '<b class="yes">✓</b>' if check.passed else '<b class="no">✕</b>'
    what = _e(_title(check.metric))
    least = "at least" if check.bound == "min" else "at most"
    if check.kind == "change":
        what = f"Change of {what} against the serving model"
    if check.actual is None:
        return f"<li>{mark}<span>{_e(check.reason)}</span></li>"
    number = f"{check.actual:+.4g}" if check.kind == "change" else _exact(check)
    return (
        f"<li>{mark}<span>{what} is <b>{_e(number)}</b>; "
        f"{least} {check.limit:g} is required.</span></li>"
    )


def _exact(check: Check) -> str:
    """The checked value with as many digits as show on which side of the limit it is."""
    actual = check.actual or 0.0
    for digits in (3, 4, 6, 9):
        text = f"{actual:.{digits}g}"
        if (float(text) < check.limit) == (actual < check.limit) and (
            (float(text) > check.limit) == (actual > check.limit)
        ):
            return text
    return repr(actual)


def _tiles(report: ReportInput) -> str:
    found = report.evaluation
    tiles = []
    for name in _TILES[found.task]:
        metric = found.metrics.get(name)
        if metric is None:
            continue
        change = ""
        if found.comparison is not None and found.comparison.changes.get(name) is not None:
            change = _delta(name, found.comparison.changes[name] or 0.0)
        if metric.value is None:
            value = f'<p class="value none">n/a</p><p class="range">{_e(metric.reason)}</p>'
        else:
            shown = f'<p class="value">{format_metric(name, metric.value)}{change}</p>'
            interval = _range(name, metric)
            value = shown + (f'<p class="range">{interval}</p>' if interval else "")
        tiles.append(
            f'<div class="card tile"><h3>{_e(_title(name))}</h3>{value}'
            f'<p class="help">{_e(METRICS[name].text)}</p></div>'
        )
    words = "".join(f"<li>{text}</li>" for text in _in_words(report))
    against = ""
    if found.comparison is not None:
        other = _e(found.comparison.model or "the serving model")
        against = (
            f" Differences are against {other}."
            if found.comparison.comparable
            else f" There is no comparison with {other}: {_e(found.comparison.reason)}."
        )
    return (
        "<section><h2>At a glance</h2>"
        f'<ul class="words">{words}</ul>'
        f'<div class="tiles">{"".join(tiles)}</div>'
        '<p class="small soft" style="margin-top:12px">Ranges are 95% confidence intervals'
        f"{f' ({found.replicates} bootstrap replicates)' if found.replicates else ''}."
        f"{against}</p></section>"
    )


def _delta(name: str, change: float) -> str:
    better = METRICS[name].better
    kind = ""
    if change and better in ("higher", "lower"):
        kind = "yes" if (change > 0) == (better == "higher") else "no"
    text = f"{100 * change:+.1f} pts" if name in _FRACTIONS else f"{change:+.4f}"
    return f'<span class="delta {kind}">{text}</span>'


def _in_words(report: ReportInput) -> list[str]:
    """Two or three sentences that need no knowledge of metrics; HTML."""
    found = report.evaluation
    values = {name: metric.value for name, metric in found.metrics.items()}
    words = []
    auc = values.get("auc")
    if found.task == "binary" and auc is not None:
        words.append(
            f"Shown one row that is {_e(report.positive)} and one that is not, the model scores "
            f"the right one higher <b>{100 * auc:.0f} times in 100</b>."
        )
    accuracy = values.get("accuracy")
    if found.task == "multiclass" and accuracy is not None:
        words.append(f"The model names the right class <b>{100 * accuracy:.0f} times in 100</b>.")
    mae, r2 = values.get("mae"), values.get("r2")
    if found.task == "regression" and mae is not None:
        words.append(
            f"Predictions are off by <b>{format_metric('mae', mae)}</b> on average"
            + (f" and explain <b>{100 * r2:.0f}%</b> of the variation." if r2 is not None else ".")
        )
    predicted, actual = values.get("prediction_mean"), values.get("label_mean")
    if predicted is not None and actual is not None:
        words.append(_calibration_words(found.task, predicted, actual))
    weak = _weakest(found)
    if weak is not None:
        name = _SLICE_METRIC[found.task]
        words.append(
            f"It is weakest where {_e(weak.field)} is <b>{_e(_slice_value(weak.value))}</b> "
            f"({_e(_title(name))} {format_metric(name, weak.metrics[name].value)}, "
            f"{_count(weak.rows)} rows)."
        )
    return words


def _calibration_words(task: str, predicted: float, actual: float) -> str:
    what = (
        f"On average it expects <b>{_mean(predicted, task)}</b> and "
        f"<b>{_mean(actual, task)}</b> happened"
    )
    if task == "regression":
        what = (
            f"On average it predicts <b>{_mean(predicted, task)}</b> and the label is "
            f"<b>{_mean(actual, task)}</b>"
        )
    if task == "regression" or not actual:
        return f"{what}."
    off = predicted / actual - 1
    if abs(off) < 0.02:
        return f"{what}: the level is right."
    return f"{what}: it expects <b>{abs(off):.0%} too {'much' if off > 0 else 'little'}</b>."


def _weakest(found: Evaluation) -> Slice | None:
    """The slice that is surely worse than the whole, by the most; None if there is none."""
    name = _SLICE_METRIC[found.task]
    known = [part for part in found.slices if _is_worse(part, found)]
    known.sort(key=lambda part: _badness(part, name))
    return known[0] if known else None


def _is_worse(part: Slice, found: Evaluation) -> bool:
    """Whether the slice's interval lies wholly on the bad side of the whole's value."""
    name = _SLICE_METRIC[found.task]
    whole, mine = found.metrics[name].value, part.metrics.get(name)
    if whole is None or mine is None or mine.low is None or mine.high is None:
        return False
    return mine.high < whole if METRICS[name].better == "higher" else mine.low > whole


def _badness(part: Slice, name: str) -> float:
    """Ascending order of this is worst first; undefined last."""
    value = part.metrics[name].value if name in part.metrics else None
    if value is None:
        return float("inf")
    return value if METRICS[name].better == "higher" else -value


# --- Curves -----------------------------------------------------------------------------------


def _figure(title: str, about: str, keys: Sequence[tuple[str, str]], svg: str) -> str:
    legend = "".join(f'<span class="key"><i class="{kind}"></i>{_e(t)}</span>' for kind, t in keys)
    return (
        f'<figure class="card"><figcaption><h3>{_e(title)}</h3><span>{legend}</span>'
        f'</figcaption><p class="about">{_e(about)}</p>{svg}</figure>'
    )


def _quality(report: ReportInput) -> str:
    found = report.evaluation
    curves = found.curves
    figures = [_roc(curves), _precision_recall(curves)] if found.task == "binary" else []
    figures += [_reliability(report), _histogram(report)]
    drawn = "".join(figure for figure in figures if figure)
    if not drawn:
        return ""
    return f'<section><h2>How good it is</h2><div class="grid two">{drawn}</div></section>'


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


def _reliability(report: ReportInput) -> str:
    bins = report.evaluation.curves.reliability
    if not bins:
        return ""
    task = report.evaluation.task
    ends = [v for b in bins for v in (b.prediction_mean, b.low, b.high)]
    low, high = min(ends), max(ends)
    pad = 0.06 * (high - low) or 0.05
    low, high = low - pad, high + pad
    if task != "regression":
        low, high = max(0.0, low), min(1.0, high)
        low = 0.0 if low < 0.1 else low
    percent = "" if task == "regression" else "xy"
    named = {
        "binary": ("Predicted probability", f"Share that is {report.positive}"),
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
            f"predicted {b.prediction_mean:.4g}, actual {b.label_mean:.4g}, {_count(b.rows)} rows",
        )
    return _figure(
        "Calibration",
        "What was predicted against what happened, in groups of equal size. On the dashed line "
        "predictions can be taken at their word.",
        [("c1", "Model"), ("ref", "Right on average")],
        chart.render("Calibration: actual mean by predicted mean"),
    )


def _histogram(report: ReportInput) -> str:
    histogram = report.evaluation.curves.histogram
    if histogram is None:
        return ""
    edges = histogram.edges
    shown = {name: list(values) for name, values in histogram.series.items()}
    names = {
        "negative": f"Not {report.positive}",
        "positive": report.positive[:1].upper() + report.positive[1:],
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


# --- Decisions --------------------------------------------------------------------------------


def _decisions(report: ReportInput) -> str:
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
        body += f'<tr><th scope="row">{_e(label)}</th>' + "".join(
            f'<td style="--heat:{4 + 32 * value / total:.0f}%"><b>{value / total:.1%}</b>'
            f"<span>{_count(value)} {text}</span></td>"
            for value, text in cells
        )
        body += "</tr>"
    metrics = report.evaluation.metrics
    said = "".join(
        f"<p><b>{format_metric(name, metrics[name].value)}</b>"
        f'<span class="soft small">{_title(name)}. {_e(METRICS[name].text)}</span></p>'
        for name in ("precision", "recall")
    )
    return (
        f"<section><h2>Decisions at {confusion.threshold:.0%}</h2>"
        '<p class="soft">What happens if every row with a probability above that is acted on. '
        "Another threshold trades found rows for false alarms.</p>"
        '<div class="card pair-grid" style="margin-top:16px"><table class="matrix pair"><thead>'
        '<tr><td style="background:none"></td><th scope="col">Called '
        f'{_e(report.positive)}</th><th scope="col">Not called</th></tr></thead><tbody>{body}'
        f'</tbody></table><div class="said">{said}</div></div></section>'
    )


def _class_matrix(confusion: ConfusionMatrix) -> str:
    head = "".join(f'<th scope="col">{_e(c)}</th>' for c in confusion.classes)
    body = ""
    for name, row in zip(confusion.classes, confusion.counts, strict=True):
        total = sum(row) or 1.0
        body += f'<tr><th scope="row">{_e(name)}</th>' + "".join(
            f'<td style="--heat:{3 + 60 * v / total:.0f}%" title="{_count(v)} rows">'
            f"{v / total:.0%}</td>"
            for v in row
        )
        body += "</tr>"
    return (
        f'<table class="matrix"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


# --- Slices -----------------------------------------------------------------------------------


def _slice_value(value: str) -> str:
    return value or "(missing)"


def _slices(report: ReportInput) -> str:
    found = report.evaluation
    if not found.sliced_fields:
        return ""
    cards = []
    for number, field in enumerate(found.sliced_fields):
        parts = [part for part in found.slices if part.field == field.field]
        note = ""
        if field.hidden_values:
            few = "value has" if field.hidden_values == 1 else "values have"
            note = (
                f"{_count(field.hidden_values)} {few} fewer than {_count(found.min_slice_rows)} "
                f"rows ({_count(field.hidden_rows)} in all) and are too small to judge."
            )
        if not parts:
            cards.append(
                f'<div class="card" style="margin-top:16px"><h3>By {_e(field.field)}</h3>'
                f'<p class="soft small">{_e(note or "There are no rows.")}</p></div>'
            )
            continue
        cards.append(_slice_card(found, field.field, parts, note, f"fold-{number}"))
    name = _SLICE_METRIC[found.task]
    return (
        "<section><h2>Where it is weak</h2>"
        f'<p class="soft">{_e(_title(name))} of parts of the data. Those in red are worse than '
        "the whole beyond chance and come first; the others follow, weakest first. The dashed line "
        f"is the whole, the pale bar the 95% interval.</p>{''.join(cards)}</section>"
    )


def _slice_card(found: Evaluation, field: str, parts: list[Slice], note: str, fold: str) -> str:
    name = _SLICE_METRIC[found.task]
    means = found.task != "multiclass"
    parts = sorted(
        parts,
        key=lambda part: (not _is_worse(part, found), _badness(part, name), -part.rows, part.value),
    )
    left_out = len(parts) - MAX_SLICES
    parts = parts[:MAX_SLICES]
    position = _positions(found, parts, name)
    largest = max(part.rows for part in parts)
    rows = []
    for index, part in enumerate(parts):
        classes = ["more"] if index >= FIRST_SLICES else []
        if _is_worse(part, found):
            classes.append("worse")
        metric = part.metrics[name]
        key = "" if metric.value is None else repr(metric.value)
        cells = [
            f'<th scope="row" data-key="{_e(part.value)}">{_e(_slice_value(part.value))}</th>',
            f'<td class="num" data-key="{part.rows}">{_count(part.rows)}<span class="bar">'
            f'<i style="width:{100 * part.rows / largest:.1f}%"></i></span></td>',
            f'<td data-key="{key}">{_forest(metric, position)}</td>',
            f'<td class="num score" data-key="{key}">{_score(name, metric)}</td>',
        ]
        if means:
            for mean in ("label_mean", "prediction_mean"):
                value = part.metrics[mean].value
                cells.append(
                    f'<td class="num wide-only" data-key="{"" if value is None else repr(value)}">'
                    f"{_mean(value, found.task)}</td>"
                )
        rows.append(f'<tr class="{" ".join(classes)}">{"".join(cells)}</tr>')
    title = _e(_title(name))
    head = (
        f'<th scope="col" data-sort="text">{_e(field)}</th>'
        '<th scope="col" class="num" data-sort="number">Rows</th>'
        f'<th scope="col" style="width:40%">{title}'
        f'<span class="axis-range">, {_short_range(position)}</span></th>'
        f'<th scope="col" class="num" data-sort="number">{title}</th>'
    )
    if means:
        head += (
            '<th scope="col" class="num wide-only" data-sort="number">Actual</th>'
            '<th scope="col" class="num wide-only" data-sort="number">Predicted</th>'
        )
    if left_out > 0:
        note = f"{note} The {_count(left_out)} best values are left out here.".strip()
    table = (
        f'<div class="scroll"><table class="sortable"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
    folded = _folded(table, fold, len(parts), FIRST_SLICES)
    return (
        f'<div class="card" style="margin-top:16px"><h3>By {_e(field)}</h3>'
        + (f'<p class="soft small">{_e(note)}</p>' if note else "")
        + f"{folded}</div>"
    )


def _folded(table: str, fold: str, rows: int, first: int) -> str:
    """A table whose rows of class "more" show when asked for, without any script."""
    if rows <= first:
        return table
    return (
        f'<input class="fold" type="checkbox" id="{fold}"/>{table}<label class="unfold" '
        f'for="{fold}"><span class="all">Show all {rows}</span>'
        '<span class="less">Show fewer</span></label>'
    )


def _score(name: str, metric: Metric) -> str:
    if metric.value is None:
        return f'<span class="soft" title="{_e(metric.reason)}">n/a</span>'
    return format_metric(name, metric.value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Axis:
    name: str
    low: float
    high: float
    whole: float | None

    def at(self, value: float) -> float:
        return 100 * min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))


def _positions(found: Evaluation, parts: Sequence[Slice], name: str) -> _Axis:
    whole = found.metrics[name].value
    ends = [] if whole is None else [whole]
    for part in parts:
        metric = part.metrics[name]
        ends += [v for v in (metric.value, metric.low, metric.high) if v is not None]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    pad = 0.04 * (high - low) or 0.05
    return _Axis(name=name, low=low - pad, high=high + pad, whole=whole)


def _short_range(axis: _Axis) -> str:
    return f"{format_metric(axis.name, axis.low)} to {format_metric(axis.name, axis.high)}"


def _forest(metric: Metric, axis: _Axis) -> str:
    parts = []
    if axis.whole is not None:
        parts.append(f'<i class="all" style="left:{axis.at(axis.whole):.2f}%"></i>')
    if metric.low is not None and metric.high is not None:
        left, right = axis.at(metric.low), axis.at(metric.high)
        parts.append(f'<i class="ci" style="left:{left:.2f}%;width:{right - left:.2f}%"></i>')
    if metric.value is not None:
        parts.append(f'<i class="at" style="left:{axis.at(metric.value):.2f}%"></i>')
    label = _range(axis.name, metric) or "no interval"
    return f'<div class="forest" title="{_e(label)}">{"".join(parts)}</div>'


# --- Training ---------------------------------------------------------------------------------


def _training(report: ReportInput) -> str:
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
    for name in ("auc", "auc_precision_recall", "accuracy", "rmse", "mae"):
        points = series.get(name, [])
        if len(points) > 1 and len(figures) < 2:
            better = METRICS[name].better
            figures.append(
                _curve(
                    _title(name),
                    f"On evaluation rows. {better.capitalize()} is better; the ring is the best.",
                    [("c1", "Evaluation", points)],
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


# --- Features ---------------------------------------------------------------------------------


def _features(report: ReportInput) -> str:
    if not report.features:
        return ""
    ordered = sorted(report.features, key=lambda f: (-(f["shift"] or 0.0), f["name"]))
    shown = ordered[:MAX_FEATURES]
    splits = list(dict.fromkeys(split for f in ordered for split in f["splits"]))[:2]
    rows = "".join(
        _feature_row(feature, splits, more=index >= FIRST_FEATURES)
        for index, feature in enumerate(shown)
    )
    legend = "".join(
        f'<span class="key"><i class="{kind}"></i>{_e(split)}</span>'
        for kind, split in zip(("c1", "c2"), splits, strict=False)
    )
    head = (
        '<th scope="col" data-sort="text">Feature</th><th scope="col">Distribution</th>'
        '<th scope="col" class="wide-only">Typical</th><th scope="col" class="wide-only">Range</th>'
        '<th scope="col" class="num" data-sort="number">Missing</th>'
        '<th scope="col" class="num wide-only" data-sort="number">Distinct</th>'
    )
    about = "What the model sees."
    if len(splits) > 1:
        head += '<th scope="col" class="num" data-sort="number">Shift</th>'
        about = (
            f"What the model sees, {splits[0]} beside {splits[1]}, most shifted first. Shift is "
            "the share of rows that would have to move for both to look alike."
        )
    left_out = len(ordered) - len(shown)
    note = f'<p class="soft small">{left_out} more are left out.</p>' if left_out else ""
    table = (
        f'<div class="scroll"><table class="sortable"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )
    return (
        f'<section><h2>Features</h2><p class="soft">{_e(about)}</p><div class="card" '
        f'style="margin-top:16px"><div>{legend}</div>'
        f"{_folded(table, 'fold-features', len(shown), FIRST_FEATURES)}{note}</div></section>"
    )


def _feature_row(feature: fs.FeatureComparison, splits: Sequence[str], *, more: bool) -> str:
    known = [feature["splits"][s] for s in splits if s in feature["splits"]]
    first = known[0]
    missing = [f["missing_fraction"] or 0.0 for f in known]
    jumped = len(missing) > 1 and abs(missing[0] - missing[1]) > 0.05
    distinct = first["distinct"]
    cells = [
        f'<th scope="row" data-key="{_e(feature["name"])}">{_e(feature["name"])}'
        f'<div class="soft small" style="font-weight:400">{_e(feature["type"])}</div></th>',
        f"<td>{_feature_picture(known, feature['name'])}</td>",
        f'<td class="wide-only">{_typical(first)}</td>',
        f'<td class="wide-only num" style="text-align:left">{_e(_value_range(first))}</td>',
        f'<td class="num{" flag" if jumped else ""}" data-key="{missing[0]!r}">'
        + '<span class="soft"> / </span>'.join(_share(m) for m in dict.fromkeys(missing))
        + "</td>",
        f'<td class="num wide-only" data-key="{"" if distinct is None else distinct}">'
        f"{'' if distinct is None else _count(distinct)}</td>",
    ]
    if len(splits) > 1:
        shift = feature["shift"]
        flag = " flag" if shift is not None and shift > 0.2 else ""
        bar = f'<span class="bar"><i style="width:{100 * (shift or 0):.0f}%"></i></span>'
        cells.append(
            f'<td class="num{flag}" data-key="{"" if shift is None else repr(shift)}">'
            + ("" if shift is None else f"{shift:.0%}{bar}")
            + "</td>"
        )
    return f'<tr class="{"more" if more else ""}">{"".join(cells)}</tr>'


def _share(value: float) -> str:
    if value == 0:
        return "0%"
    return "<0.1%".replace("<", "&lt;") if value < 0.001 else f"{100 * value:.1f}%"


def _feature_picture(known: Sequence[fs.FeatureStatistics], name: str) -> str:
    label = f"Distribution of {name}"
    if known[0]["type"] == "number":
        drawn = [f for f in known if f["histogram"]]
        if not drawn:
            return ""
        edges = fs.common_edges(drawn)
        return spark([_shares(fs.rebin(f["histogram"], edges)) for f in drawn], label)
    values = [value for value, _ in known[0]["top"][:_PICTURED_VALUES]]
    if not values:
        return ""
    return spark([fs.value_shares(feature, values) for feature in known], label)


def _shares(counts: npt.NDArray[np.float64]) -> list[float]:
    return [float(v) for v in counts / (counts.sum() or 1.0)]


def _typical(feature: fs.FeatureStatistics) -> str:
    if feature["type"] == "number":
        if feature["mean"] is None:
            return ""
        spread = "" if feature["std"] is None else f" ± {_number(feature['std'])}"
        return f"{_number(feature['mean'])}<span class='soft'>{spread}</span>"
    present = (feature["rows"] - feature["missing"]) or 1
    texts = [
        f"{_e(_clip(value))} <span class='soft'>{_share(count / present)}</span>"
        for value, count in feature["top"][:3]
    ]
    return ", ".join(texts)


def _value_range(feature: fs.FeatureStatistics) -> str:
    if feature["min"] is None or feature["max"] is None:
        return ""
    return f"{_number(feature['min'])} to {_number(feature['max'])}"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    if value and (abs(value) >= 1e7 or abs(value) < 1e-3):
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _clip(text: str, limit: int = 24) -> str:
    if not text:
        return "(empty)"
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


# --- Facts ------------------------------------------------------------------------------------


def _facts(report: ReportInput) -> str:
    cards = []
    if report.rows:
        listed = "".join(f"<dt>{_e(k)}</dt><dd>{_count(v)}</dd>" for k, v in report.rows.items())
        cards.append(
            f'<div class="card"><h3>Rows</h3><dl class="facts numbers">{listed}</dl></div>'
        )
    if report.durations_s:
        total = sum(report.durations_s.values()) or 1.0
        bar = "".join(
            f'<i style="width:{100 * v / total:.1f}%" title="{_e(k)}: {_seconds(v)}"></i>'
            for k, v in report.durations_s.items()
        )
        listed = "".join(
            f"<dt>{_e(k)}</dt><dd>{_seconds(v)}</dd>" for k, v in report.durations_s.items()
        )
        cards.append(
            f'<div class="card"><h3>Time: {_seconds(total)}</h3><div class="time">{bar}</div>'
            f'<dl class="facts numbers">{listed}</dl></div>'
        )
    facts = _provenance(report)
    if facts:
        listed = "".join(f"<dt>{_e(k)}</dt><dd>{_fact(v)}</dd>" for k, v in facts.items())
        cards.append(
            f'<div class="card"><h3>Where it comes from</h3><dl class="facts">{listed}</dl></div>'
        )
    width = " three" if len(cards) == 3 else " two" if len(cards) == 2 else ""
    grid = f'<div class="grid{width}">{"".join(cards)}</div>' if cards else ""
    configuration = ""
    if report.configuration:
        configuration = (
            '<details class="card" style="margin-top:16px"><summary>Run configuration</summary>'
            f"<pre>{_e(report.configuration)}</pre></details>"
        )
    if not grid and not configuration:
        return ""
    return f"<section><h2>The run</h2>{grid}{configuration}</section>"


def _provenance(report: ReportInput) -> dict[str, str]:
    """What the evaluation and the caller say of the origin, each value once."""
    found = report.evaluation
    own = {
        "Model": found.model if found.model != report.name else "",
        "Checkpoint": "" if found.step is None else f"step {found.step:,}",
        "Model digest": found.model_digest or "",
        "Eval data": found.data_fingerprint or "",
    }
    told = set(report.facts.values())
    return {k: v for k, v in own.items() if v and v not in told} | dict(report.facts)


def _fact(text: str) -> str:
    """A digest is shown by its first 12 digits, with the whole of it on hover."""
    if len(text) >= 32 and all(c in "0123456789abcdef" for c in text):
        return f'<code title="{text}">{text[:12]}</code>'
    return _e(text)


def _footer(found: Evaluation) -> str:
    weighted = "" if found.weight == found.rows else " Metrics are weighted by the weight field."
    return (
        "<footer>Metrics are exact over all evaluated rows."
        f"{weighted} A metric that cannot be computed reads n/a, and no requirement passes "
        "on it.</footer>"
    )


# --- Model card -------------------------------------------------------------------------------


def model_card(report: ReportInput) -> str:
    """The essentials in Markdown, to keep beside the model."""
    found = report.evaluation
    word, meaning, _ = _VERDICTS[found.verdict]
    lines = [f"# {_md(report.name)}", ""]
    if report.description:
        lines += [_md(report.description), ""]
    lines += [f"**{word}.** {meaning}", ""]
    lines += [f"- {_md(reason)}" for reason in found.reasons]
    lines += ["", "## Metrics", "", "| Metric | Value | 95% interval |", "|---|---|---|"]
    for name, metric in found.metrics.items():
        value = format_metric(name, metric.value)
        interval = _range(name, metric) or (_md(metric.reason) if metric.reason else "")
        lines.append(f"| {_title(name)} | {value} | {interval} |")
    lines += ["", f"Measured on {_count(found.rows)} rows."]
    worse = sorted(
        (part for part in found.slices if _is_worse(part, found)),
        key=lambda part: _badness(part, _SLICE_METRIC[found.task]),
    )
    if found.slices:
        name = _SLICE_METRIC[found.task]
        lines += ["", "## Limits", ""]
        lines += [
            f"- {_md(part.field)} = {_md(_slice_value(part.value))}: {_title(name)} "
            f"{format_metric(name, part.metrics[name].value)} over {_count(part.rows)} rows"
            for part in worse[:10]
        ] or ["No slice is worse than the whole beyond chance."]
    rows = {label: _count(count) for label, count in report.rows.items()}
    facts = _provenance(report) | rows
    if report.created:
        facts = {"Created": report.created} | facts
    if facts:
        lines += ["", "## Origin", "", "| | |", "|---|---|"]
        lines += [f"| {_md(label)} | {_md(text)} |" for label, text in facts.items()]
    if report.features:
        listed = ", ".join(f"`{_code(feature['name'])}`" for feature in report.features)
        lines += ["", "## Features", "", listed]
    return "\n".join(lines) + "\n"


def _md(text: object) -> str:
    """Text that Markdown shows as it is: one line, no markup, no HTML."""
    flat = html.escape(" ".join(str(text).split()), quote=False)
    return "".join(f"\\{c}" if c in "\\`*_[]|#" else c for c in flat)


def _code(text: str) -> str:
    return " ".join(text.replace("`", "'").replace("|", "/").split())
