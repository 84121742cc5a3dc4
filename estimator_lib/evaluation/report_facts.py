"""The end of the report: rows, time, origin, configuration; layer 3."""

from __future__ import annotations

from estimator_lib.evaluation.report_input import ReportInput
from estimator_lib.evaluation.wording import (
    count_text,
    escape,
    seconds_text,
)


def facts(report: ReportInput) -> str:
    """The section on rows, time, origin and configuration; empty if nothing is known."""
    cards = []
    if report.rows:
        listed = "".join(
            f"<dt>{escape(k)}</dt><dd>{count_text(v)}</dd>" for k, v in report.rows.items()
        )
        cards.append(
            f'<div class="card"><h3>Rows</h3><dl class="facts numbers">{listed}</dl></div>'
        )
    if report.durations_s:
        total = sum(report.durations_s.values()) or 1.0
        bar = "".join(
            f'<i style="width:{100 * v / total:.1f}%" title="{escape(k)}: {seconds_text(v)}"></i>'
            for k, v in report.durations_s.items()
        )
        listed = "".join(
            f"<dt>{escape(k)}</dt><dd>{seconds_text(v)}</dd>" for k, v in report.durations_s.items()
        )
        cards.append(
            f'<div class="card"><h3>Time: {seconds_text(total)}</h3><div class="time">{bar}</div>'
            f'<dl class="facts numbers">{listed}</dl></div>'
        )
    facts = provenance(report)
    if facts:
        listed = "".join(f"<dt>{escape(k)}</dt><dd>{_fact(v)}</dd>" for k, v in facts.items())
        cards.append(
            f'<div class="card"><h3>Where it comes from</h3><dl class="facts">{listed}</dl></div>'
        )
    width = " three" if len(cards) == 3 else " two" if len(cards) == 2 else ""
    grid = f'<div class="grid{width}">{"".join(cards)}</div>' if cards else ""
    configuration = ""
    if report.configuration:
        configuration = (
            '<details class="card" style="margin-top:16px"><summary>Run configuration</summary>'
            f"<pre>{escape(report.configuration)}</pre></details>"
        )
    if not grid and not configuration:
        return ""
    return f"<section><h2>The run</h2>{grid}{configuration}</section>"


def provenance(report: ReportInput) -> dict[str, str]:
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
    return escape(text)
