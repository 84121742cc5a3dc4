"""The top of the report: name, verdict, metrics at a glance; layer 3."""

from __future__ import annotations

from collections.abc import Mapping

from estimator_lib.evaluation.metrics import Metric, Task, info
from estimator_lib.evaluation.report_input import ReportInput
from estimator_lib.evaluation.results import Check, Evaluation
from estimator_lib.evaluation.wording import (
    VERDICTS,
    change_text,
    count_text,
    escape,
    format_metric,
    judged,
    mean_text,
    range_text,
    slice_value,
    title_of,
    weakest,
)

_TILES = {
    "binary": ("auc", "auc_precision_recall", "loss", "accuracy", "calibration", "ece"),
    "multiclass": ("accuracy", "auc", "loss", "top_2_accuracy", "ece", "brier"),
    "regression": ("rmse", "mae", "r2"),
    "quantile": ("pinball", "interval_coverage", "coverage_error"),
    "multilabel": ("auc", "exact_match", "accuracy", "auc_precision_recall", "loss", "ece"),
    "multihead": (),
}
_TILES_OF_A_HEAD = 2


def header(report: ReportInput) -> str:
    """The name and what it is."""
    found = report.evaluation
    about = [f"{count_text(found.rows)} rows evaluated"]
    if found.step is not None:
        about.append(f"step {count_text(found.step)}")
    if report.created:
        about.append(report.created)
    lede = f'<p class="lede">{escape(report.description)}</p>' if report.description else ""
    return (
        f'<header><p class="eyebrow">Model report, {escape(", ".join(about))}</p>'
        f"<h1>{escape(report.name)}</h1>{lede}</header>"
    )


def verdict(found: Evaluation) -> str:
    """The banner: the verdict and every requirement with its outcome."""
    word, meaning, path = VERDICTS[found.verdict]
    items = [_check_line(check) for check in found.checks]
    if found.verdict == "not_evaluated":
        items.extend(f"<li><b>!</b><span>{escape(reason)}</span></li>" for reason in found.reasons)
    listed = f"<ul>{''.join(items)}</ul>" if items else ""
    return (
        f'<div class="verdict {found.verdict}"><svg class="mark" viewBox="0 0 52 52" '
        f'aria-hidden="true"><circle cx="26" cy="26" r="26"/><path d="{path}"/></svg>'
        f'<div><p class="word">{word}</p><p class="meaning">{meaning}</p></div>{listed}</div>'
    )


def cautions(found: Evaluation) -> str:
    """What should make one doubt the numbers; nothing if there is nothing."""
    if not found.cautions:
        return ""
    items = "".join(f"<li>{escape(text)}</li>" for text in found.cautions)
    return f'<section class="cautions"><h2>Look at this first</h2><ul>{items}</ul></section>'


def _check_line(check: Check) -> str:
    mark = '<b class="yes">✓</b>' if check.passed else '<b class="no">✕</b>'
    what = escape(title_of(check.metric))
    least = "at least" if check.bound == "min" else "at most"
    if check.actual is None or check.kind.startswith("slice_"):
        told = check.reason.replace(check.metric, title_of(check.metric), 1)
        return f"<li>{mark}<span>{escape(told[:1].upper() + told[1:])}</span></li>"
    if check.kind == "change":
        what = f"Change of {what} against the serving model"
    number = f"{check.actual:+.4g}" if check.kind == "change" else _exact(check)
    sure = f"with 95% confidence {least} " if check.confident else ""
    return (
        f"<li>{mark}<span>{what} is {sure}<b>{escape(number)}</b>; "
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


def tiles(report: ReportInput) -> str:
    """The section with plain words and the main metrics."""
    found = report.evaluation
    tiles = []
    for name in _tiled(found):
        metric = found.metrics.get(name)
        if metric is None:
            continue
        change = ""
        if found.comparison is not None:
            change = _delta(name, found.comparison.changes.get(name))
        if metric.value is None:
            value = f'<p class="value none">n/a</p><p class="range">{escape(metric.reason)}</p>'
        else:
            shown = f'<p class="value">{format_metric(name, metric.value)}{change}</p>'
            interval = range_text(name, metric)
            value = shown + (f'<p class="range">{interval}</p>' if interval else "")
        tiles.append(
            f'<div class="card tile"><h3>{escape(title_of(name))}</h3>{value}'
            f'<p class="help">{escape(info(name).text)}{_mean_note(found, name)}</p></div>'
        )
    words = "".join(f"<li>{text}</li>" for text in _in_words(report))
    against = ""
    if found.comparison is not None:
        other = escape(found.comparison.model or "the serving model")
        against = (
            f" Differences are against {other}."
            if found.comparison.comparable
            else f" There is no comparison with {other}: {escape(found.comparison.reason)}."
        )
    return (
        "<section><h2>At a glance</h2>"
        f'<ul class="words">{words}</ul>'
        f'<div class="tiles">{"".join(tiles)}</div>'
        '<p class="small soft" style="margin-top:12px">Ranges are 95% confidence intervals'
        f"{f' ({found.replicates} bootstrap replicates)' if found.replicates else ''}."
        f"{against}</p></section>"
    )


def _mean_note(found: Evaluation, name: str) -> str:
    of_labels = any(f"{name}/{part.name}" in found.metrics for part in found.parts)
    return " Mean over the labels." if of_labels else ""


def _tiled(found: Evaluation) -> tuple[str, ...]:
    """The metrics that get a tile; of several heads, the most telling of each."""
    if found.task != "multihead":
        return _TILES[found.task]
    return tuple(
        name
        for part in found.parts
        for name in [f"{own}/{part.name}" for own in _TILES[part.task]][:_TILES_OF_A_HEAD]
        if name in found.metrics
    )


def _delta(name: str, change: Metric | None) -> str:
    """The difference to the serving model, in colour where it is beyond chance."""
    if change is None or change.value is None:
        return ""
    kind = {"better": "yes", "worse": "no"}.get(judged(name, change), "")
    return f'<span class="delta {kind}">{change_text(name, change.value)}</span>'


def _in_words(report: ReportInput) -> list[str]:
    """Sentences that need no knowledge of metrics; HTML."""
    found = report.evaluation
    values = {name: metric.value for name, metric in found.metrics.items()}
    words = _of_one(found.task, values, report.positive, len(found.parts))
    for part in found.parts if found.task == "multihead" else ():
        own = {name.removesuffix(f"/{part.name}"): v for name, v in values.items()}
        said = _of_one(part.task, own, part.name, len(part.parts))[:1]
        words += [f"{escape(part.name)}: {text[0].lower()}{text[1:]}" for text in said]
    for name in found.main_metrics:
        weak = weakest(found, name)
        if weak is None:
            continue
        who, value = name.partition("/")[2] or "It", slice_value(weak.value)
        words.append(
            f"{escape(who)} is weakest where {escape(weak.field)} is <b>{escape(value)}</b> "
            f"({escape(title_of(name))} {format_metric(name, weak.metrics[name].value)}, "
            f"{count_text(weak.rows)} rows)."
        )
    return words


def _of_one(
    task: Task, values: Mapping[str, float | None], positive: str, labels: int
) -> list[str]:
    """What the metrics of one head say."""
    words = []
    auc, accuracy, exact = (values.get(n) for n in ("auc", "accuracy", "exact_match"))
    if task == "binary" and auc is not None:
        words.append(
            f"Shown one row that is {escape(positive)} and one that is not, the model scores the "
            f"right one higher <b>{100 * auc:.0f} times in 100</b>."
        )
    if task == "multiclass" and accuracy is not None:
        words.append(f"The model names the right class <b>{100 * accuracy:.0f} times in 100</b>.")
    if task == "multilabel" and accuracy is not None and exact is not None:
        words.append(
            f"Of {labels} labels per row, <b>{100 * accuracy:.0f} in 100</b> are right; all of a "
            f"row's labels are right <b>{100 * exact:.0f} times in 100</b>."
        )
    inside, width = values.get("interval_coverage"), values.get("interval_width")
    if inside is not None and width is not None:
        words.append(
            f"What happens lies within the predicted interval <b>{100 * inside:.0f} times in "
            f"100</b>; the interval is <b>{format_metric('interval_width', width)}</b> wide on "
            "average."
        )
    mae, r2 = values.get("mae"), values.get("r2")
    if task == "regression" and mae is not None:
        explained = f" and explain <b>{100 * (r2 or 0.0):.0f}%</b> of the variation."
        if r2 is not None and r2 <= 0:
            explained = ", no better than predicting the mean for every row."
        words.append(
            f"Predictions are off by <b>{format_metric('mae', mae)}</b> on average"
            + ("." if r2 is None else explained)
        )
    predicted, actual = values.get("prediction_mean"), values.get("label_mean")
    if predicted is not None and actual is not None:
        words.append(_calibration_words(task, predicted, actual))
    return words


def _calibration_words(task: str, predicted: float, actual: float) -> str:
    what = (
        f"On average it expects <b>{mean_text(predicted, task)}</b> and "
        f"<b>{mean_text(actual, task)}</b> happened"
    )
    if task == "regression":
        what = (
            f"On average it predicts <b>{mean_text(predicted, task)}</b> and the label is "
            f"<b>{mean_text(actual, task)}</b>"
        )
    if task == "regression" or not actual:
        return f"{what}."
    off = predicted / actual - 1
    if abs(off) < 0.02:
        return f"{what}: the level is right."
    return f"{what}: it expects <b>{abs(off):.0%} too {'much' if off > 0 else 'little'}</b>."
