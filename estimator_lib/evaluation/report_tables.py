"""The tables of the report: slices and features; layer 3."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from estimator_lib.evaluation import feature_statistics as fs
from estimator_lib.evaluation.charts import spark
from estimator_lib.evaluation.evaluation import Evaluation, Slice
from estimator_lib.evaluation.metrics import Metric
from estimator_lib.evaluation.report_input import ReportInput
from estimator_lib.evaluation.wording import (
    SLICE_METRIC,
    badness,
    count_text,
    escape,
    format_metric,
    is_worse,
    mean_text,
    range_text,
    slice_value,
    title_of,
)

MAX_SLICES = 200
MAX_FEATURES = 250
FIRST_SLICES = 10
FIRST_FEATURES = 20
_PICTURED_VALUES = 12


def slices(report: ReportInput) -> str:
    """The section of slices, a card per field; empty without fields."""
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
                f"{count_text(field.hidden_values)} {few} fewer than "
                f"{count_text(found.min_slice_rows)} rows ({count_text(field.hidden_rows)} in "
                "all): too small to judge."
            )
        if not parts:
            cards.append(
                f'<div class="card" style="margin-top:16px"><h3>By {escape(field.field)}</h3>'
                f'<p class="soft small">{escape(note or "There are no rows.")}</p></div>'
            )
            continue
        cards.append(_slice_card(found, field.field, parts, note, f"fold-{number}"))
    name = SLICE_METRIC[found.task]
    return (
        "<section><h2>Where it is weak</h2>"
        f'<p class="soft">{escape(title_of(name))} of parts of the data. Those in red are worse '
        "than the whole beyond chance and come first; the others follow, weakest first. The "
        f"dashed line is the whole, the pale bar the 95% interval.</p>{''.join(cards)}</section>"
    )


def _slice_card(found: Evaluation, field: str, parts: list[Slice], note: str, fold: str) -> str:
    name = SLICE_METRIC[found.task]
    means = found.task != "multiclass"
    parts = sorted(
        parts,
        key=lambda part: (not is_worse(part, found), badness(part, name), -part.rows, part.value),
    )
    left_out = len(parts) - MAX_SLICES
    parts = parts[:MAX_SLICES]
    position = _positions(found, parts, name)
    largest = max(part.rows for part in parts)
    rows = []
    for index, part in enumerate(parts):
        classes = ["more"] if index >= FIRST_SLICES else []
        if is_worse(part, found):
            classes.append("worse")
        metric = part.metrics[name]
        key = "" if metric.value is None else repr(metric.value)
        cells = [
            f'<th scope="row" data-key="{escape(part.value)}">'
            f"{escape(slice_value(part.value))}</th>",
            f'<td class="num" data-key="{part.rows}">{count_text(part.rows)}<span class="bar">'
            f'<i style="width:{100 * part.rows / largest:.1f}%"></i></span></td>',
            f'<td data-key="{key}">{_forest(metric, position)}</td>',
            f'<td class="num score" data-key="{key}">{_score(name, metric)}</td>',
        ]
        if means:
            for mean in ("label_mean", "prediction_mean"):
                value = part.metrics[mean].value
                cells.append(
                    f'<td class="num wide-only" data-key="{"" if value is None else repr(value)}">'
                    f"{mean_text(value, found.task)}</td>"
                )
        rows.append(f'<tr class="{" ".join(classes)}">{"".join(cells)}</tr>')
    title = escape(title_of(name))
    head = (
        f'<th scope="col" data-sort="text">{escape(field)}</th>'
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
        note = f"{note} The {count_text(left_out)} best values are left out here.".strip()
    table = (
        f'<div class="scroll"><table class="sortable"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
    folded = _folded(table, fold, len(parts), FIRST_SLICES)
    return (
        f'<div class="card" style="margin-top:16px"><h3>By {escape(field)}</h3>'
        + (f'<p class="soft small">{escape(note)}</p>' if note else "")
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
        return f'<span class="soft" title="{escape(metric.reason)}">n/a</span>'
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
    label = range_text(axis.name, metric) or "no interval"
    return f'<div class="forest" title="{escape(label)}">{"".join(parts)}</div>'


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
        f'<section><h2>Features</h2><p class="soft">{escape(about)}</p><div class="card" '
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
