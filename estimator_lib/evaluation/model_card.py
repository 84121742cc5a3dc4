"""The model card: the essentials of a report in Markdown; layer 3."""

from __future__ import annotations

import html

from estimator_lib.evaluation.report_facts import provenance
from estimator_lib.evaluation.report_input import ReportInput
from estimator_lib.evaluation.wording import (
    SLICE_METRIC,
    VERDICTS,
    badness,
    count_text,
    format_metric,
    is_worse,
    range_text,
    slice_value,
    title_of,
)


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
        lines.append(f"| {title_of(name)} | {value} | {interval} |")
    lines += ["", f"Measured on {count_text(found.rows)} rows."]
    worse = sorted(
        (part for part in found.slices if is_worse(part, found)),
        key=lambda part: badness(part, SLICE_METRIC[found.task]),
    )
    if found.slices:
        name = SLICE_METRIC[found.task]
        lines += ["", "## Limits", ""]
        lines += [
            f"- {_md(part.field)} = {_md(slice_value(part.value))}: {title_of(name)} "
            f"{format_metric(name, part.metrics[name].value)} over {count_text(part.rows)} rows"
            for part in worse[:10]
        ] or ["No slice is worse than the whole beyond chance."]
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


def _md(text: object) -> str:
    """Text that Markdown shows as it is: one line, no markup, no HTML."""
    flat = html.escape(" ".join(str(text).split()), quote=False)
    return "".join(f"\\{c}" if c in "\\`*_[]|#" else c for c in flat)


def _code(text: str) -> str:
    return " ".join(text.replace("`", "'").replace("|", "/").split())
