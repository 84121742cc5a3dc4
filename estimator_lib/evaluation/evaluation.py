"""One evaluation: metrics with intervals, slices, curves and a verdict.

Layer 3. `evaluate` is pure: arrays and options in, a frozen `Evaluation` out. The serving model
is measured on the very same rows, and differences to it are drawn together with this model's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from estimator_lib.core import config
from estimator_lib.core.errors import ConfigError, DataError, Reason, did_you_mean, quote
from estimator_lib.evaluation import bootstrap, gate, several, slicing
from estimator_lib.evaluation.metrics import Metric, Problem, Task
from estimator_lib.evaluation.results import (
    Check,
    Comparison,
    Evaluation,
    FeatureImportance,
    Importance,
    Part,
    Slice,
    SlicedField,
    Verdict,
    main_metrics,
)
from estimator_lib.evaluation.tables import Table

__all__ = [
    "Check",
    "Comparison",
    "Evaluation",
    "FeatureImportance",
    "Importance",
    "Part",
    "Serving",
    "Slice",
    "SlicedField",
    "Verdict",
    "check_metric_names",
    "evaluate",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Serving:
    """The model that is serving, on the rows of an evaluation.

    Attributes:
        model: Its name or version.
        predictions: For the same rows, as those of the evaluated model.
    """

    model: str
    predictions: several.Arrays


def evaluate(
    *,
    task: Task | Problem,
    labels: several.Arrays,
    predictions: several.Arrays,
    weights: npt.ArrayLike | None = None,
    slices: Mapping[str, slicing.Values] | None = None,
    options: config.Evaluate | None = None,
    serving: Serving | None = None,
    importance: Importance | Mapping[str, Importance] | None = None,
    model: str = "",
    step: int | None = None,
    model_digest: str | None = None,
    data_fingerprint: str | None = None,
) -> Evaluation:
    """Measures a model and decides whether it may be published.

    Args:
        task: What the model predicts.
        labels: `[rows]`; see `several.any_table` for this and the next two.
        predictions: Probabilities `[rows]` or `[rows, classes]`, or numbers `[rows]`.
        weights: `[rows]` or None.
        slices: Field to its value per row, as text; None and "" are missing. `options.slices`
            says how they are crossed; without it each field slices by itself.
        options: Bounds and the smallest slice.
        serving: The model that is serving.
        importance: Of the features, to go along; of several heads a mapping.
        model: Name or version of the evaluated model.
        step: Global step of the evaluated checkpoint.
        model_digest: Digest of what was evaluated.
        data_fingerprint: Of the eval rows.

    Raises:
        ConfigError: a bound names a metric that the task does not have, or a slice a field that
            is not given.
        DataError: the arrays do not fit together or hold impossible values.
    """
    wanted = options or config.Evaluate()
    prepared = several.any_table(task, labels, predictions, weights)
    for section in ("thresholds", "slice_thresholds", "changes", "slice_changes"):
        check_metric_names(getattr(wanted, section), prepared.metric_names, f"evaluate.{section}")
    rows = len(prepared.order)
    groupings = slicing.groupings(slices or {}, wanted.slices if slices else (), rows)
    old, why_not = _serving_table(task, labels, weights, serving, prepared)
    pair = None if old is None else several.PairedTable(prepared, old)
    cost = prepared if pair is None else pair
    replicates = bootstrap.budgeted_replicates(cost, 1 + len(groupings))
    whole = prepared.segment(slice(None))
    overall = bootstrap.summarize(prepared, whole, replicates=replicates)
    comparison = None
    if serving is not None:
        comparison = _compare(serving, overall, old, pair, why_not, replicates)
    problem = task if isinstance(task, Problem) else Problem(task=task)
    mains = main_metrics(overall, problem.heads, problem.task)
    bounded = tuple(dict.fromkeys((*mains, *wanted.slice_changes)))
    parts = {
        grouping.field: _slices(prepared, pair, grouping, wanted, replicates, bounded)
        for grouping in groupings
    }
    everything = [part for found in parts.values() for part in found]
    checks = gate.check(overall, everything, comparison, wanted)
    verdict, reasons = gate.decide(checks, comparison, wanted)
    missed = {name for check in checks for name in check.failed_slices[:_ALWAYS_LISTED]}
    sliced, listed = [], []
    for grouping in groupings:
        shown = _listed(parts[grouping.field], wanted.max_slices, missed)
        sliced.append(_summary(grouping, parts[grouping.field], shown, wanted.min_slice_rows))
        listed += shown
    return Evaluation(
        task=problem.task,
        rows=rows,
        weight=float(np.sum(weights)) if weights is not None else float(rows),
        metrics=overall,
        slices=tuple(listed),
        sliced_fields=tuple(sliced),
        min_slice_rows=wanted.min_slice_rows,
        curves=prepared.curves(),
        parts=_parts(problem, prepared, importance if isinstance(importance, Mapping) else {}),
        importance=None if isinstance(importance, Mapping) else importance,
        checks=tuple(checks),
        verdict=verdict,
        reasons=reasons,
        replicates=replicates,
        comparison=comparison,
        model=model,
        step=step,
        model_digest=model_digest,
        data_fingerprint=data_fingerprint,
    )


_ALWAYS_LISTED = 20
"""So many slices that miss a bound are listed, however small they are."""


def check_metric_names(given: Iterable[str], known: Sequence[str], where: str) -> None:
    """Refuses metrics that a task does not have; usable before any training.

    Args:
        given: Names from the configuration.
        known: `metrics.names(problem)`.
        where: The place in the configuration, for the message.

    Raises:
        ConfigError: a name is unknown; the nearest known one is suggested.
    """
    for name in given:
        if name not in known:
            raise ConfigError(
                f"Metric {quote(name)} in {where} is unknown for this kind of model."
                + did_you_mean(name, known),
                reason=Reason.UNKNOWN_NAME,
            )


def _serving_table(
    task: Task | Problem,
    labels: several.Arrays,
    weights: npt.ArrayLike | None,
    serving: Serving | None,
    prepared: Table,
) -> tuple[Table | None, str | None]:
    """The serving model's table, or why its predictions cannot be compared."""
    if serving is None:
        return None, None
    try:
        found = several.any_table(task, labels, serving.predictions, weights)
    except DataError as error:
        return None, f"its predictions do not fit: {error.message.rstrip('.')}"
    if found.metric_names != prepared.metric_names:
        return None, "it predicts something else than this model"
    return found, None


def _compare(
    serving: Serving,
    overall: Mapping[str, Metric],
    old: Table | None,
    pair: several.PairedTable | None,
    reason: str | None,
    replicates: int,
) -> Comparison:
    if old is None or pair is None:
        undefined = {name: Metric(value=None, reason=reason) for name in overall}
        return Comparison(
            model=serving.model, metrics={}, changes=undefined, comparable=False, reason=reason
        )
    everything = slice(None)
    return Comparison(
        model=serving.model,
        metrics=bootstrap.summarize(old, old.segment(everything), replicates=0),
        changes=bootstrap.summarize(
            pair, pair.segment(everything), replicates=replicates, differences=True
        ),
        comparable=True,
    )


def _slices(
    prepared: Table,
    pair: several.PairedTable | None,
    grouping: slicing.Grouping,
    wanted: config.Evaluate,
    replicates: int,
    bounded: Sequence[str],
) -> list[Slice]:
    """Every slice with enough rows, largest first."""
    few = min(replicates, bootstrap.SLICE_REPLICATES)
    found = []
    for value, rows in grouping.groups(prepared.order, wanted.min_slice_rows):
        changes: Mapping[str, Metric] = {}
        if pair is not None:
            segment = pair.segment(np.sort(prepared.order[rows]))
            changes = bootstrap.summarize(pair, segment, replicates=few, differences=True)
        found.append(
            Slice(
                field=grouping.field,
                value=value,
                rows=len(rows),
                metrics=bootstrap.summarize(prepared, prepared.segment(rows), replicates=few),
                changes={name: changes[name] for name in bounded if name in changes},
            )
        )
    return found


def _listed(parts: Sequence[Slice], limit: int, missed: set[str]) -> list[Slice]:
    """The largest slices, and those that miss a bound."""
    return [part for at, part in enumerate(parts) if at < limit or part.name in missed]


def _summary(
    grouping: slicing.Grouping, parts: Sequence[Slice], shown: Sequence[Slice], min_rows: int
) -> SlicedField:
    return dataclasses.replace(
        grouping.summary(min_rows),
        unlisted_values=len(parts) - len(shown),
        unlisted_rows=sum(part.rows for part in parts) - sum(part.rows for part in shown),
    )


def _parts(
    problem: Problem, prepared: Table, importance: Mapping[str, Importance]
) -> tuple[Part, ...]:
    """The labels or heads of a table that has several."""
    if not isinstance(prepared, several.SeveralTable):
        return ()
    heads = problem.heads
    return tuple(
        Part(
            name=name,
            task=heads[name].task if name in heads else "binary",
            curves=table.curves(),
            parts=_parts(heads.get(name, Problem(task="binary")), table, {}),
            importance=importance.get(name),
        )
        for name, table in prepared.parts.items()
    )
