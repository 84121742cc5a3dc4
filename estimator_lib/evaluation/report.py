"""report.html and the model card: one evaluation, told to people.

Layer 3. `render` returns one file that needs nothing else: style, drawings and a few lines of
optional script are inside it, and every text from data is escaped. Without the script only
sorting by a click on a column head is lost.
"""

from __future__ import annotations

import functools
import importlib.resources

from estimator_lib.evaluation import (
    report_facts,
    report_figures,
    report_head,
    report_parts,
    report_tables,
)
from estimator_lib.evaluation.model_card import model_card
from estimator_lib.evaluation.report_input import ReportInput
from estimator_lib.evaluation.results import Evaluation
from estimator_lib.evaluation.wording import (
    VERDICTS,
    escape,
)

__all__ = ["ReportInput", "model_card", "render"]


def render(report: ReportInput) -> str:
    """Returns the report as one HTML document."""
    found = report.evaluation
    sections = (
        report_head.header(report),
        report_head.verdict(found),
        report_head.cautions(found),
        report_head.tiles(report),
        report_parts.against_serving(report),
        report_figures.quality(report),
        report_figures.decisions(report),
        report_parts.parts(report),
        report_tables.slices(report),
        report_parts.importance(report),
        report_figures.training(report),
        report_tables.features(report),
        report_facts.facts(report),
        _footer(found),
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f"<title>{escape(report.name)}: {escape(VERDICTS[found.verdict][0])}</title>\n"
        f"<style>\n{_resource('report.css')}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(section for section in sections if section)
        + f"\n</main>\n<script>\n//<![CDATA[\n{_resource('report.js')}//]]>\n</script>\n"
        "</body>\n</html>\n"
    )


@functools.cache
def _resource(name: str) -> str:
    return (importlib.resources.files(__package__) / name).read_text(encoding="utf-8")


def _footer(found: Evaluation) -> str:
    weighted = "" if found.weight == found.rows else " Metrics are weighted by the weight field."
    return (
        "<footer>Metrics are exact over all evaluated rows."
        f"{weighted} A metric that cannot be computed reads n/a, and no requirement passes "
        "on it.</footer>"
    )
