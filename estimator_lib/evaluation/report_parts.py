"""The serving model, labels and heads, and importance in the report; layer 3."""

from __future__ import annotations

from collections.abc import Sequence

from estimator_lib.evaluation.metrics import Metric, info
from estimator_lib.evaluation.report_figures import coverage, drawings
from estimator_lib.evaluation.report_input import ReportInput
from estimator_lib.evaluation.report_marks import Axis, folded, forest
from estimator_lib.evaluation.results import Evaluation, FeatureImportance, Importance, Part
from estimator_lib.evaluation.wording import (
    base_name,
    change_text,
    escape,
    format_metric,
    judged,
    mean_text,
    range_text,
    title_of,
)

FIRST = 15
MAX_FEATURES = 100
MAX_DRAWN_LABELS = 6
_VERDICT = {
    "better": ("yes", "better"),
    "worse": ("no", "worse"),
    "alike": ("soft", "no clear difference"),
}
_OF_A_LABEL = ("auc_precision_recall", "precision", "recall", "label_mean", "prediction_mean")


def against_serving(report: ReportInput) -> str:
    """The section on the serving model; empty without one that can be compared."""
    found = report.evaluation
    comparison = found.comparison
    if comparison is None or not comparison.comparable:
        return ""
    names = [
        name for name, change in comparison.changes.items()
        if change.value is not None and info(name).better in ("higher", "lower")
    ]  # fmt: skip
    if not names:
        return ""
    rows = "".join(
        _difference_row(
            name,
            found.metrics[name],
            comparison.metrics[name],
            comparison.changes[name],
            more=at >= FIRST,
        )
        for at, name in enumerate(names)
    )
    table = (
        '<div class="scroll"><table><thead><tr><th scope="col">Metric</th>'
        '<th scope="col" class="num wide-only">Serving</th>'
        '<th scope="col" class="num">This model</th><th scope="col" class="num">Change</th>'
        '<th scope="col" style="width:30%">'
        'Worse<span style="float:right">Better</span></th>'
        '<th scope="col" class="wide-only">Verdict</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )
    return (
        '<section><h2>Against the serving model</h2><p class="soft">Both models on the same rows. '
        "The pale bar is the 95% interval of the difference; where it crosses the dashed line, "
        "chance explains the difference.</p>"
        f'<div class="card" style="margin-top:16px">'
        f"{folded(table, 'fold-serving', len(names), FIRST)}</div></section>"
    )


def _difference_row(name: str, mine: Metric, other: Metric, change: Metric, *, more: bool) -> str:
    kind, word = _VERDICT[judged(name, change)]
    # Better is always to the right.
    sign = 1.0 if info(name).better == "higher" else -1.0
    value = sign * (change.value or 0.0)
    ends = sorted(sign * end for end in (change.low, change.high) if end is not None)
    turned = Metric(value=value, low=ends[0], high=ends[1]) if ends else Metric(value=value)
    reach = 1.15 * max(abs(end) for end in (value, *ends)) or 1.0
    axis = Axis(name=name, low=-reach, high=reach, whole=0.0)
    label = "no interval"
    if change.low is not None and change.high is not None:
        label = f"{change_text(name, change.low)} to {change_text(name, change.high)}"
    classes = " ".join(filter(None, ("more" if more else "", word if word == "worse" else "")))
    return (
        f'<tr class="{classes}"><th scope="row">{escape(title_of(name))}</th>'
        f'<td class="num wide-only">{format_metric(name, other.value)}</td>'
        f'<td class="num">{format_metric(name, mine.value)}</td>'
        f'<td class="num {kind}">{change_text(name, change.value or 0.0)}</td>'
        f'<td>{forest(turned, axis, label)}</td><td class="{kind} wide-only">{word}</td></tr>'
    )


# --- Labels and heads -------------------------------------------------------------------------


def parts(report: ReportInput) -> str:
    """The sections of labels or heads; empty for a model with one."""
    found = report.evaluation
    if found.task == "multilabel":
        return _labels(report, found.parts, "", "Label by label")
    return "".join(_head(report, part) for part in found.parts)


def _head(report: ReportInput, part: Part) -> str:
    title = f"Head {part.name}"
    if part.task == "multilabel":
        return _labels(report, part.parts, f"/{part.name}", title)
    suffix = f"/{part.name}"
    metrics = {
        name.removesuffix(suffix): metric
        for name, metric in report.evaluation.metrics.items()
        if name.endswith(suffix)
    }
    listed = "".join(
        f"<dt>{escape(title_of(name))}</dt><dd>{_told(name, metric)}</dd>"
        for name, metric in metrics.items()
    )
    drawn = coverage(report, suffix) if part.task == "quantile" else ""
    drawn += drawings(part.task, part.curves, part.name)
    return (
        f'<section><h2>{escape(title)}</h2><p class="soft">{_KINDS[part.task]}</p>'
        f'<div class="card" style="margin-top:16px"><dl class="facts numbers heads">{listed}</dl>'
        f'</div><div class="grid two">{drawn}</div></section>'
    )


_KINDS = {
    "binary": "Predicts whether it is so.",
    "multiclass": "Predicts one of several classes.",
    "regression": "Predicts a number.",
    "quantile": "Predicts quantiles of a number.",
    "multilabel": "Predicts several labels.",
    "multihead": "Several heads.",
}


def _told(name: str, metric: Metric) -> str:
    if metric.value is None:
        return f'<span class="soft">n/a: {escape(metric.reason)}</span>'
    interval = range_text(name, metric)
    behind = f' <span class="soft small">{interval}</span>' if interval else ""
    return f"{format_metric(name, metric.value)}{behind}"


def _labels(report: ReportInput, labels: Sequence[Part], suffix: str, title: str) -> str:
    """A table of labels, weakest first, and drawings of the first ones."""
    found = report.evaluation
    ordered = sorted(labels, key=lambda part: _auc(found, part, suffix).value or 2.0)
    axis = Axis.around("auc", None, [_auc(found, part, suffix) for part in ordered])
    rows = ""
    for at, part in enumerate(ordered):
        auc = _auc(found, part, suffix)
        cells = "".join(
            f'<td class="num">{_cell(found, f"{name}/{part.name}{suffix}")}</td>'
            for name in _OF_A_LABEL
        )
        rows += (
            f'<tr class="{"more" if at >= FIRST else ""}"><th scope="row">{escape(part.name)}</th>'
            f'<td>{forest(auc, axis)}</td><td class="num">{_score(auc)}</td>{cells}</tr>'
        )
    head = "".join(
        f'<th scope="col" class="num">{escape(title_of(name))}</th>' for name in _OF_A_LABEL
    )
    table = (
        '<div class="scroll"><table class="sortable"><thead><tr><th scope="col" data-sort="text">'
        f'Label</th><th scope="col" style="width:30%">AUC<span class="axis-range">, '
        f'{axis.range_text()}</span></th><th scope="col" class="num" data-sort="number">AUC</th>'
        f"{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
    drawn = "".join(
        f'<details class="card" style="margin-top:16px"><summary>{escape(part.name)}</summary>'
        f'<div class="grid two">{drawings("binary", part.curves, part.name)}</div></details>'
        for part in ordered[:MAX_DRAWN_LABELS]
    )
    about = "Each label by itself, weakest first; the pale bar is the 95% interval."
    if len(ordered) > MAX_DRAWN_LABELS:
        about += f" The {MAX_DRAWN_LABELS} weakest are drawn."
    return (
        f'<section><h2>{escape(title)}</h2><p class="soft">{about}</p>'
        f'<div class="card" style="margin-top:16px">'
        f"{folded(table, f'fold-labels{escape(suffix)}', len(ordered), FIRST)}</div>{drawn}"
        "</section>"
    )


def _auc(found: Evaluation, part: Part, suffix: str) -> Metric:
    return found.metrics[f"auc/{part.name}{suffix}"]


def _score(metric: Metric) -> str:
    if metric.value is None:
        return f'<span class="soft" title="{escape(metric.reason)}">n/a</span>'
    return format_metric("auc", metric.value)


def _cell(found: Evaluation, name: str) -> str:
    value = found.metrics[name].value
    if base_name(name) in ("label_mean", "prediction_mean"):
        return mean_text(value, "binary")
    return format_metric(name, value)


# --- Importance -------------------------------------------------------------------------------


def importance(report: ReportInput) -> str:
    """The sections on what the model, or each head, relies on; empty if it was not measured."""
    found = report.evaluation
    heads = [_importance(part.importance, part.name) for part in found.parts]
    return _importance(found.importance, "it") + "".join(heads)


def _importance(found: Importance | None, who: str) -> str:
    if found is None or not found.features:
        return ""
    name = found.metric
    shown = found.features[:MAX_FEATURES]
    top = max((f.high or 0.0 for f in shown), default=0.0) or 1.0
    rows = "".join(_importance_row(name, f, top, more=at >= FIRST) for at, f in enumerate(shown))
    title = escape(title_of(name))
    falls = "falls" if info(name).better == "higher" else "rises"
    table = (
        '<div class="scroll"><table><thead><tr><th scope="col">Field</th><th scope="col" '
        f'style="width:55%">{title} {falls} by</th><th scope="col" class="num"></th>'
        f'<th scope="col" class="num wide-only">{found.repeats} shuffles</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )
    left = len(found.features) - len(shown)
    note = f'<p class="soft small">{left} less important ones are left out.</p>' if left else ""
    return (
        f'<section><h2>What {escape(who)} relies on</h2><p class="soft">How much worse it gets '
        f"when the values of one field are shuffled among {found.rows:,} rows. Fields that tell "
        "the same stand in for one another, so that none of them looks important.</p>"
        f'<div class="card" style="margin-top:16px">'
        f"{folded(table, f'fold-relies-{escape(who)}', len(shown), FIRST)}{note}</div></section>"
    )


def _importance_row(name: str, feature: FeatureImportance, top: float, *, more: bool) -> str:
    if feature.worse_by is None or feature.low is None or feature.high is None:
        drawn, value, spread = "", f'<span title="{escape(feature.reason)}">n/a</span>', ""
    else:
        left, right = (100 * max(0.0, end) / top for end in (feature.low, feature.high))
        width = 100 * max(0.0, feature.worse_by) / top
        drawn = (
            f'<div class="weight"><i style="width:{width:.1f}%"></i>'
            f'<b style="left:{left:.1f}%;width:{right - left:.1f}%"></b></div>'
        )
        value, least, most = (
            change_text(name, v).removeprefix("+")
            for v in (feature.worse_by, feature.low, feature.high)
        )
        spread = f"{least} to {most}"
    return (
        f'<tr class="{"more" if more else ""}"><th scope="row">{escape(feature.field)}</th>'
        f'<td>{drawn}</td><td class="num">{value}</td>'
        f'<td class="num wide-only">{spread}</td></tr>'
    )
