"""The model card: the essentials of a report in Markdown; layer 3."""

from __future__ import annotations

import html

from estimator_lib.evaluation.metrics import info
from estimator_lib.evaluation.report_facts import provenance
from estimator_lib.evaluation.report_input import ReportInput
from estimator_lib.evaluation.results import Evaluation, Importance, Slice
from estimator_lib.evaluation.wording import (
    VERDICTS,
    badness,
    change_text,
    count_text,
    format_metric,
    is_worse,
    range_text,
    slice_value,
    title_of,
)

_FEATURES = 10


def model_card(report: ReportInput) -> str:
    """The essentials in Markdown, to keep beside the model."""
    found = report.evaluation
    word, meaning, _ = VERDICTS[found.verdict]
    lines = [f"# {_md(report.name)}", ""]
    if report.description:
        lines += [_md(report.description), ""]
    lines += [f"**{word}.** {meaning}", ""]
    lines += [f"- {_md(reason)}" for reason in found.reasons]
    lines += ["", "## Metrics", "", "| Metric | Value | 95% interval |", "|---|---|---|"]
    for name, metric in found.metrics.items():
        value = format_metric(name, metric.value)
        interval = range_text(name, metric) or (_md(metric.reason) if metric.reason else "")
        lines.append(f"| {_md(title_of(name))} | {value} | {interval} |")
    lines += ["", f"Measured on {count_text(found.rows)} rows."]
    if found.slices:
        lines += ["", "## Limits", ""]
        lines += [
            f"- {_md(part.field)} = {_md(slice_value(part.value))}: {_md(title_of(name))} "
            f"{format_metric(name, part.metrics[name].value)} over {count_text(part.rows)} rows"
            for name in found.main_metrics
            for part in _worse(found, name)
        ] or ["No slice is worse than the whole beyond chance."]
    lines += _serving(found)
    lines += _importance(found.importance, "it")
    for part in found.parts:
        lines += _importance(part.importance, part.name)
    rows = {label: count_text(count) for label, count in report.rows.items()}
    facts = provenance(report) | rows
    if report.created:
        facts = {"Created": report.created} | facts
    if facts:
        lines += ["", "## Origin", "", "| | |", "|---|---|"]
        lines += [f"| {_md(label)} | {_md(text)} |" for label, text in facts.items()]
    if report.features:
        listed = ", ".join(f"`{_code(feature['name'])}`" for feature in report.features)
        lines += ["", "## Features", "", listed]
    return "\n".join(lines) + "\n"


def _serving(found: Evaluation) -> list[str]:
    """How the model compares with the serving one."""
    comparison = found.comparison
    if comparison is None:
        return []
    lines = ["", "## Against the serving model", ""]
    if not comparison.comparable:
        return [*lines, f"Not comparable: {_md(comparison.reason)}."]
    lines += ["| Metric | Serving | This model | Change | 95% interval |", "|---|---|---|---|---|"]
    for name, change in comparison.changes.items():
        if change.value is None or info(name).better not in ("higher", "lower"):
            continue
        interval = ""
        if change.low is not None and change.high is not None:
            interval = f"{change_text(name, change.low)} to {change_text(name, change.high)}"
        lines.append(
            f"| {_md(title_of(name))} | {format_metric(name, comparison.metrics[name].value)} | "
            f"{format_metric(name, found.metrics[name].value)} | "
            f"{change_text(name, change.value)} | {interval} |"
        )
    return lines


def _worse(found: Evaluation, name: str) -> list[Slice]:
    """The slices that are surely worse than the whole, worst first."""
    worse = [part for part in found.slices if is_worse(part, found, name)]
    return sorted(worse, key=lambda part: badness(part, name))[:10]


def _importance(measured: Importance | None, who: str) -> list[str]:
    """What the model, or a head, relies on most."""
    if measured is None:
        return []
    known = [f for f in measured.features if f.worse_by is not None][:_FEATURES]
    if not known:
        return []
    return [
        "", f"## What {_md(who)} relies on", "",
        f"How much worse {_md(title_of(measured.metric))} gets when a field is shuffled "
        f"({count_text(measured.rows)} rows, {measured.repeats} times):", "",
        *(
            f"- {_md(f.field)}: {change_text(measured.metric, f.worse_by or 0.0).removeprefix('+')}"
            for f in known
        ),
    ]  # fmt: skip


def _md(text: object) -> str:
    """Text that Markdown shows as it is: one line, no markup, no HTML."""
    flat = html.escape(" ".join(str(text).split()), quote=False)
    return "".join(f"\\{c}" if c in "\\`*_[]|#" else c for c in flat)


def _code(text: str) -> str:
    return " ".join(text.replace("`", "'").replace("|", "/").split())
