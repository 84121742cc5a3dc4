"""The tables of the report: slices and features; layer 3."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from estimator_lib.evaluation import feature_statistics as fs
from estimator_lib.evaluation.charts import spark
from estimator_lib.evaluation.metrics import Metric
from estimator_lib.evaluation.report_input import ReportInput
from estimator_lib.evaluation.report_marks import Axis, folded, forest
from estimator_lib.evaluation.results import Evaluation, Slice
from estimator_lib.evaluation.wording import (
    badness,
    base_name,
    change_text,
    count_text,
    escape,
    format_metric,
    is_worse,
    judged,
    mean_text,
    slice_value,
    title_of,
)

MAX_FEATURES = 250
FIRST_SLICES = 10
FIRST_FEATURES = 20
_PICTURED_VALUES = 12


def slices(report: ReportInput) -> str:
    """The sections of slices, one for each head; empty without fields."""
    found = report.evaluation
    if not found.sliced_fields:
        return ""
    return "".join(_slices(found, name) for name in found.main_metrics)


def _slices(found: Evaluation, name: str) -> str:
    """A section with a card per field, by one metric."""
    head = name.partition("/")[2]
    cards = []
    for number, field in enumerate(found.sliced_fields):
        parts = [part for part in found.slices if part.field == field.field]
        note = ""
        if field.hidden_values:
            few = "value has" if field.hidden_values == 1 else "values have"
            note = (
                f"{count_text(field.hidden_values)} {few} fewer than "
                f"{count_text(found.min_slice_rows)} rows ({count_text(field.hidden_rows)} in "
                "all): too small to judge."
            )
        if field.unlisted_values:
            note += (
                f" {count_text(field.unlisted_values)} smaller ones are measured and checked, but "
                f"not listed ({count_text(field.unlisted_rows)} rows in all)."
            )
        if not parts:
            cards.append(
                f'<div class="card" style="margin-top:16px"><h3>By {escape(field.field)}</h3>'
                f'<p class="soft small">{escape(note or "There are no rows.")}</p></div>'
            )
            continue
        fold = f"fold-{number}-{head}" if head else f"fold-{number}"
        cards.append(_slice_card(found, name, field.field, parts, note, fold))
    return (
        f"<section><h2>Where {escape(head) or 'it'} is weak</h2>"
        f'<p class="soft">{escape(title_of(name))} of parts of the data. Those in red are worse '
        "than the whole beyond chance and come first; the others follow, weakest first. The "
        f"dashed line is the whole, the pale bar the 95% interval.{_change_note(found)}</p>"
        f"{''.join(cards)}</section>"
    )


def _change_note(found: Evaluation) -> str:
    if not any(part.changes for part in found.slices):
        return ""
    return " Change is the difference to the serving model, in colour where it is beyond chance."


def _slice_card(
    found: Evaluation, name: str, field: str, parts: list[Slice], note: str, fold: str
) -> str:
    suffix = name.removeprefix(base_name(name))
    task = next((p.task for p in found.parts if f"/{p.name}" == suffix), found.task)
    means = [f"{mean}{suffix}" for mean in ("label_mean", "prediction_mean")]
    means = means if found.metrics.keys() >= set(means) else []
    compared = any(part.changes for part in parts)
    parts = sorted(
        parts,
        key=lambda part: (
            not is_worse(part, found, name),
            badness(part, name),
            -part.rows,
            part.value,
        ),
    )
    position = Axis.around(name, found.metrics[name].value, [part.metrics[name] for part in parts])
    largest = max(part.rows for part in parts)
    rows = []
    for index, part in enumerate(parts):
        classes = ["more"] if index >= FIRST_SLICES else []
        if is_worse(part, found, name):
            classes.append("worse")
        metric = part.metrics[name]
        key = "" if metric.value is None else repr(metric.value)
        cells = [
            f'<th scope="row" data-key="{escape(part.value)}">'
            f"{escape(slice_value(part.value))}</th>",
            f'<td class="num" data-key="{part.rows}">{count_text(part.rows)}<span class="bar">'
            f'<i style="width:{100 * part.rows / largest:.1f}%"></i></span></td>',
            f'<td data-key="{key}">{forest(metric, position)}</td>',
            f'<td class="num score" data-key="{key}">{_score(name, metric)}</td>',
        ]
        if compared:
            cells.append(_change_cell(name, part.changes.get(name)))
        for mean in means:
            value = part.metrics[mean].value
            cells.append(
                f'<td class="num wide-only" data-key="{"" if value is None else repr(value)}">'
                f"{mean_text(value, task)}</td>"
            )
        rows.append(f'<tr class="{" ".join(classes)}">{"".join(cells)}</tr>')
    title = escape(title_of(name))
    head = (
        f'<th scope="col" data-sort="text">{escape(field)}</th>'
        '<th scope="col" class="num" data-sort="number">Rows</th>'
        f'<th scope="col" style="width:40%">{title}'
        f'<span class="axis-range">, {position.range_text()}</span></th>'
        f'<th scope="col" class="num" data-sort="number">{title}</th>'
    )
    if compared:
        head += '<th scope="col" class="num" data-sort="number">Change</th>'
    if means:
        head += (
            '<th scope="col" class="num wide-only" data-sort="number">Actual</th>'
            '<th scope="col" class="num wide-only" data-sort="number">Predicted</th>'
        )
    table = (
        f'<div class="scroll"><table class="sortable"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
    return (
        f'<div class="card" style="margin-top:16px"><h3>By {escape(field)}</h3>'
        + (f'<p class="soft small">{escape(note)}</p>' if note else "")
        + f"{folded(table, fold, len(parts), FIRST_SLICES)}</div>"
    )


def _change_cell(name: str, change: Metric | None) -> str:
    if change is None or change.value is None:
        return '<td class="num" data-key=""></td>'
    kind = {"better": "yes", "worse": "no"}.get(judged(name, change), "soft")
    ends = ""
    if change.low is not None and change.high is not None:
        ends = f"{change_text(name, change.low)} to {change_text(name, change.high)}"
    return (
        f'<td class="num {kind}" data-key="{change.value!r}" title="{escape(ends)}">'
        f"{change_text(name, change.value)}</td>"
    )


def _score(name: str, metric: Metric) -> str:
    if metric.value is None:
        return f'<span class="soft" title="{escape(metric.reason)}">n/a</span>'
    return format_metric(name, metric.value)


def features(report: ReportInput) -> str:
    """The section of feature statistics; empty without any."""
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
        f'<span class="key"><i class="{kind}"></i>{escape(split)}</span>'
        for kind, split in zip(("c1", "c2"), splits, strict=False)
    )
    head = (
        '<th scope="col" data-sort="text">Feature</th><th scope="col">Distribution</th>'
        '<th scope="col" class="wide-only">Typical</th><th scope="col" class="wide-only">Range</th>'
        '<th scope="col" class="num" data-sort="number">Missing</th>'
        '<th scope="col" class="num wide-only" data-sort="number">Distinct</th>'
    )
    about = "The fields of the rows."
    if len(splits) > 1:
        head += '<th scope="col" class="num" data-sort="number">Shift</th>'
        about = (
            f"The fields of the rows, {splits[0]} beside {splits[1]}, most shifted first. Shift is "
            "the share of rows that would have to move for both to look alike."
        )
    left_out = len(ordered) - len(shown)
    note = f'<p class="soft small">{left_out} more are left out.</p>' if left_out else ""
    table = (
        f'<div class="scroll"><table class="sortable"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )
    return (
        f'<section><h2>Features</h2><p class="soft">{escape(about)}</p><div class="card" '
        f'style="margin-top:16px"><div>{legend}</div>'
        f"{folded(table, 'fold-features', len(shown), FIRST_FEATURES)}{note}</div></section>"
    )


def _feature_row(feature: fs.FeatureComparison, splits: Sequence[str], *, more: bool) -> str:
    known = [feature["splits"][s] for s in splits if s in feature["splits"]]
    first = known[0]
    missing = [f["missing_fraction"] or 0.0 for f in known]
    jumped = len(missing) > 1 and abs(missing[0] - missing[1]) > 0.05
    distinct = first["distinct"]
    cells = [
        f'<th scope="row" data-key="{escape(feature["name"])}">{escape(feature["name"])}'
        f'<div class="soft small" style="font-weight:400">{escape(feature["type"])}</div></th>',
        f"<td>{_feature_picture(known, feature['name'])}</td>",
        f'<td class="wide-only">{_typical(first)}</td>',
        f'<td class="wide-only num" style="text-align:left">{escape(_value_range(first))}</td>',
        f'<td class="num{" flag" if jumped else ""}" data-key="{missing[0]!r}">'
        + '<span class="soft"> / </span>'.join(_share(m) for m in dict.fromkeys(missing))
        + "</td>",
        f'<td class="num wide-only" data-key="{"" if distinct is None else distinct}">'
        f"{'' if distinct is None else count_text(distinct)}</td>",
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
        f"{escape(_clip(value))} <span class='soft'>{_share(count / present)}</span>"
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
