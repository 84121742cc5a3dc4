"""One evaluation: metrics with intervals, slices, curves and a verdict.

Layer 3. Rows and options in, a frozen `Evaluation` out; rows are arrays, or spools of any length
(`spool`), and memory does not grow with them. The serving model is measured on the very same rows,
and differences to it are drawn together with this model's.
"""

from __future__ import annotations

import dataclasses
import itertools
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
from estimator_lib.evaluation.spool import Rows, blocks
from estimator_lib.evaluation.tables import Groups, Table, as_rows

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
    weights: npt.ArrayLike | Rows | None = None,
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
    problem = task if isinstance(task, Problem) else Problem(task=task)
    rows = several.rows_of(labels)
    groupings = slicing.groupings(slices or {}, wanted.slices if slices else (), rows)
    codes = [grouping.codes for grouping in groupings]
    prepared = several.any_table(problem, labels, predictions, weights, codes)
    for section in ("thresholds", "slice_thresholds", "changes", "slice_changes"):
        check_metric_names(getattr(wanted, section), prepared.metric_names, f"evaluate.{section}")
    models = _Models(new=prepared, serving=serving)
    if serving is not None:
        models.add_serving(problem, labels, serving.predictions, weights, codes)
    replicates = bootstrap.budgeted_replicates(rows, models.cost, 1 + len(groupings))
    overall, comparison = models.compare(replicates)
    mains = main_metrics(overall, problem.heads, problem.task)
    bounded = tuple(dict.fromkeys((*mains, *wanted.slice_changes)))
    parts = {
        grouping.field: models.slices(at, grouping, wanted, replicates, bounded)
        for at, grouping in enumerate(groupings)
    }
    checks = gate.check(overall, list(itertools.chain(*parts.values())), comparison, wanted)
    verdict, reasons = gate.decide(checks, comparison, wanted)
    listed, sliced = _shown(groupings, parts, checks, wanted)
    return Evaluation(
        task=problem.task,
        rows=rows,
        weight=_total(weights, rows),
        metrics=overall,
        slices=listed,
        sliced_fields=sliced,
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


class _Models:
    """The evaluated model and, if there is one, the serving model on the same rows."""

    def __init__(self, *, new: Table, serving: Serving | None) -> None:
        self._new = new
        self._serving = serving
        self._old: Table | None = None
        self._why_not: str | None = None

    def add_serving(
        self,
        problem: Problem,
        labels: several.Arrays,
        predictions: several.Arrays,
        weights: npt.ArrayLike | Rows | None,
        codes: Sequence[Rows],
    ) -> None:
        """Takes the serving model's predictions, or the reason why they cannot be compared."""
        try:
            found = several.any_table(problem, labels, predictions, weights, codes)
        except DataError as error:
            self._why_not = f"its predictions do not fit: {error.message.rstrip('.')}"
            return
        if found.metric_names != self._new.metric_names:
            self._why_not = "it predicts something else than this model"
            return
        self._old = found

    @property
    def cost(self) -> int:
        """Passes over the rows per replicate."""
        return self._new.cost + (self._old.cost if self._old else 0)

    def compare(self, replicates: int) -> tuple[dict[str, Metric], Comparison | None]:
        """The metrics of all rows, and the comparison with the serving model."""
        names, everything = self._new.metric_names, Groups()
        mine = self._new.measure(everything, replicates)
        overall = bootstrap.summarize(mine, 0, names)
        if self._serving is None:
            return overall, None
        model = self._serving.model
        if self._old is None:
            undefined = {name: Metric(value=None, reason=self._why_not) for name in overall}
            return overall, Comparison(
                model=model, metrics={}, changes=undefined, comparable=False, reason=self._why_not
            )
        theirs = self._old.measure(everything, replicates)
        change = several.difference(mine, theirs)
        served = bootstrap.summarize(theirs, 0, names)
        return overall, Comparison(
            model=model,
            metrics={n: dataclasses.replace(m, low=None, high=None) for n, m in served.items()},
            changes=bootstrap.summarize(change, 0, names, differences=True),
            comparable=True,
        )

    def slices(
        self,
        at: int,
        grouping: slicing.Grouping,
        wanted: config.Evaluate,
        replicates: int,
        bounded: Sequence[str],
    ) -> list[Slice]:
        """Every slice of grouping `at` with enough rows, largest first."""
        few = min(replicates, bootstrap.SLICE_REPLICATES)
        large = grouping.large(wanted.min_slice_rows)
        wave = max(1, _SUMS // ((1 + few) * self.cost))
        found = []
        for first in range(0, len(large), wave):
            codes = large[first : first + wave]
            numbers = np.full(len(grouping.values), -1)
            numbers[codes] = np.arange(len(codes))
            groups = Groups(grouping=at, numbers=numbers, count=len(codes))
            mine = self._new.measure(groups, few)
            change = None
            if self._old is not None:
                change = several.difference(mine, self._old.measure(groups, few))
            for group, code in enumerate(codes):
                changes: dict[str, Metric] = {}
                if change is not None:
                    names = [name for name in bounded if name in change.values]
                    changes = bootstrap.summarize(change, group, names, differences=True)
                found.append(
                    Slice(
                        field=grouping.field,
                        value=grouping.values[code],
                        rows=int(grouping.counts[code]),
                        metrics=bootstrap.summarize(mine, group, self._new.metric_names),
                        changes=changes,
                    )
                )
        return found


_SUMS = 100_000
"""Sums of slices that are held at once, a hundred numbers or so each."""


def _total(weights: npt.ArrayLike | Rows | None, rows: int) -> float:
    if weights is None:
        return float(rows)
    return float(sum(float(np.sum(block)) for _, block in blocks(as_rows(weights))))


def _shown(
    groupings: Sequence[slicing.Grouping],
    parts: Mapping[str, Sequence[Slice]],
    checks: Sequence[Check],
    wanted: config.Evaluate,
) -> tuple[tuple[Slice, ...], tuple[SlicedField, ...]]:
    """The largest slices of each field and those that miss a bound; and what became of the rest."""
    missed = {name for check in checks for name in check.failed_slices[:_ALWAYS_LISTED]}
    listed: list[Slice] = []
    fields = []
    for grouping in groupings:
        every = parts[grouping.field]
        shown = [
            part for at, part in enumerate(every) if at < wanted.max_slices or part.name in missed
        ]
        listed += shown
        fields.append(
            dataclasses.replace(
                grouping.summary(wanted.min_slice_rows),
                unlisted_values=len(every) - len(shown),
                unlisted_rows=sum(part.rows for part in every) - sum(part.rows for part in shown),
            )
        )
    return tuple(listed), tuple(fields)


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
