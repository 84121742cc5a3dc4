"""The report of a model and its card; layer 3."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping, Sequence
from typing import Any

from estimator_lib.evaluation import feature_statistics as fs
from estimator_lib.evaluation.metrics import info
from estimator_lib.evaluation.results import Evaluation
from estimator_lib.report import figures, page, sections, wording


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
    """Returns the report as one HTML document that needs nothing else.

    Style, drawings and a few lines of optional script are inside it. Without the script only
    sorting by a click on a column head is lost.
    """
    found = report.evaluation
    splits, listed = sections.features(report.features)
    whole = figures.of_quantiles(found.metrics) if found.task == "quantile" else []
    return page.html_page(
        "report.html",
        **_common(report),
        quality=[*whole, *figures.of_label(found.task, found.curves, report.positive)],
        training=list(figures.of_training(report.history, found)),
        splits=splits,
        features=listed,
        figures=figures,
        values={name: metric.value for name, metric in found.metrics.items()},
        heads={
            part.name: {n: m.value for n, m in sections.metrics_of(found, part.name).items()}
            for part in found.parts
        },
    )


def model_card(report: ReportInput) -> str:
    """Returns the essentials in Markdown, to keep beside the model."""
    return page.markdown_page("model_card.md", **_common(report))


def _common(report: ReportInput) -> dict[str, object]:
    """What both templates need: the data, and the functions that say and order it."""
    modules: dict[str, types.ModuleType] = {"say": wording, "sections": sections}
    return {
        **modules,
        "report": report,
        "found": report.evaluation,
        "info": info,
        "origin": _origin(report),
    }


def _origin(report: ReportInput) -> dict[str, str]:
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
