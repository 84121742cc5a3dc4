"""A run from Python: the same steps, cache and model as `estimator-pipelines run`.

    from pipelines.running import run

    result = run("orders.yaml", settings=["train.max_steps=100"])
    print(result.verdict, result.metrics["auc"].value, result.model)

In a notebook the lines of progress appear below the cell, and a cell that ends with the result
shows its summary and the report.
"""

from __future__ import annotations

import dataclasses
import html
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from components.steps import report as reports
from estimator_lib.core import config as configuration
from estimator_lib.core.places import Place
from pipelines import definitions
from pipelines.local import run as local
from pipelines.local import summary

_Verdict = Literal["blessed", "refused", "not_evaluated"]
_PAGE_HEIGHT = 900


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric of the eval split.

    Attributes:
        value: None where it is undefined, such as the AUC of one class.
        low: Where its 95% interval begins; None if there is none.
        high: Where it ends.
    """

    value: float | None
    low: float | None
    high: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What a run came to.

    Attributes:
        name: Of the configuration.
        output: Where everything is that the run left, a path or URI.
        verdict: "blessed", "refused" or "not_evaluated"; None of a batch prediction.
        reasons: A sentence for each bound, met or not.
        metrics: Of the eval split, by name; of several labels `auc/late` and so on.
        rows: Rows by split, as kept; scored rows of a batch prediction.
        report: The page, a path or URI; None of a batch prediction.
        model: The published version's directory or URI; None if there is none.
        predictions: Of a batch prediction, the directory of its files; else None.
        cached: Steps that were taken from the cache.
        seconds: By step, and "total".
        summary: The lines that the command prints at its end.
    """

    name: str
    output: str
    verdict: _Verdict | None
    reasons: tuple[str, ...]
    metrics: Mapping[str, Metric]
    rows: Mapping[str, int]
    report: str | None
    model: str | None
    predictions: str | None
    cached: tuple[str, ...]
    seconds: Mapping[str, float]
    summary: str

    def __str__(self) -> str:
        return self.summary

    def _repr_html_(self) -> str:
        """The summary and, below it, the report, for notebooks."""
        shown = f"<pre>{html.escape(self.summary)}</pre>"
        if self.report is None:
            return shown
        page = reports.find(Place.parse(self.output)).page.decode("utf-8")
        return (
            f'{shown}<iframe srcdoc="{html.escape(page)}" sandbox="allow-scripts" '
            f'style="width:100%;height:{_PAGE_HEIGHT}px;border:0"></iframe>'
        )


def run(
    config: str | os.PathLike[str],
    *,
    settings: Sequence[str] = (),
    output: str | os.PathLike[str] | None = None,
    show: Callable[[str], None] = print,
) -> Result:
    """Runs the pipeline of a configuration on this machine.

    Steps whose inputs, parameters and code did not change are taken from the cache; a run that was
    killed goes on when it is started again. Steps run in processes of their own.

    Args:
        config: The configuration's file, a path or URI.
        settings: Settings that override the file's, as `key.sub=value`.
        output: Where everything goes, a path or URI; by default `runs/NAME`.
        show: Called with each line of progress.

    Returns:
        What the run came to; a model that was refused is a result, not an error.

    Raises:
        EstimatorLibError: the configuration is wrong, or a step failed, with the step's message.
    """
    place = Place.parse(os.fspath(config))
    loaded = configuration.load(place, settings)
    target = Place("runs") / loaded.name if output is None else Place.parse(os.fspath(output))
    found = local.run(loaded, base_dir=definitions.base_dir(place), output=target, show=show)
    return _result(loaded.name, str(target), found)


def _result(name: str, output: str, found: Mapping[str, Any]) -> Result:
    evaluation = found.get("evaluation", {})
    scored = found.get("predictions")
    metrics = {
        key: Metric(value=metric["value"], low=metric["low"], high=metric["high"])
        for key, metric in evaluation.get("metrics", {}).items()
    }
    return Result(
        name=name,
        output=output,
        verdict=evaluation.get("verdict"),
        reasons=tuple(evaluation.get("reasons", ())),
        metrics=metrics,
        rows={"scored": scored["rows"]} if scored else dict(found["rows"]["splits"]),
        report=found.get("report"),
        model=found.get("model"),
        predictions=scored["directory"] if scored else None,
        cached=tuple(found["cached"]),
        seconds=dict(found["seconds"]),
        summary=summary.render(found).strip("\n"),
    )
