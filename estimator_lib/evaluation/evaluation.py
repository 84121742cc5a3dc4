"""One evaluation: metrics with intervals, slices, curves and a verdict, as strict JSON.

Layer 3. `evaluate` is pure: arrays and options in, a frozen `Evaluation` out. The verdict fails
closed: it is "blessed" only when at least one bound was given and every one of them was checked
against a defined metric and held. A comparison with another model (`baseline`) counts only when
both were measured on the same rows, which their fingerprints show.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pydantic

from estimator_lib.core import config
from estimator_lib.core.errors import ConfigError, DataError, Reason, did_you_mean, quote
from estimator_lib.evaluation import bootstrap, tables
from estimator_lib.evaluation.curves import Curves
from estimator_lib.evaluation.metrics import Metric, Task

Verdict = Literal["blessed", "refused", "not_evaluated"]
FORMAT = 1
Bound = Literal["min", "max"]
_BOUNDS: tuple[Bound, ...] = ("min", "max")
# Parts inherit it from the whole.
_STRICT = pydantic.ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slice:
    """Metrics of the rows that share a value of a field.

    Attributes:
        field: The raw field (or a name for a cross of fields).
        value: The shared value, as text; "" stands for missing.
        rows: How many rows.
        metrics: As of the whole.
    """

    field: str
    value: str
    rows: int
    metrics: Mapping[str, Metric]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlicedField:
    """How a field divides the rows.

    Attributes:
        field: The raw field.
        values: Number of different values.
        hidden_values: Those with fewer rows than `min_slice_rows`; they are no slices.
        hidden_rows: Rows of the hidden values.
    """

    field: str
    values: int
    hidden_values: int
    hidden_rows: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """One bound and whether it held.

    Attributes:
        metric: The metric.
        kind: "value" bounds the metric, "change" its difference to the baseline.
        bound: Whether `limit` is a minimum or a maximum.
        limit: The bound.
        actual: What was compared with it; None where it is undefined.
        passed: Whether it held; never True where `actual` is None.
        reason: One sentence that says so with both numbers.
    """

    metric: str
    kind: Literal["value", "change"]
    bound: Bound
    limit: float
    actual: float | None
    passed: bool
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """The model that was serving, on the same rows.

    Attributes:
        model: Its name or version.
        metrics: Its metrics.
        changes: New minus baseline per metric; None where either is undefined.
        comparable: Whether both were measured on the same rows.
        reason: Why not.
    """

    model: str
    metrics: Mapping[str, Metric]
    changes: Mapping[str, float | None]
    comparable: bool
    reason: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        task: Kind of model.
        rows: Evaluated rows.
        weight: Sum of their weights.
        metrics: Of all rows, by name (`metrics.METRICS` explains them), most telling first.
        slices: Those large enough, by field in the given order, then by rows, largest first.
        sliced_fields: What became of each field.
        min_slice_rows: Smaller slices were left out.
        curves: What can be drawn.
        checks: Every bound that was given.
        verdict: "blessed", "refused" or "not_evaluated".
        reasons: Why, at least one sentence.
        replicates: Bootstrap replicates behind the intervals; at most 100 of them for a slice.
        comparison: The baseline, if one was given.
        model: Name or version of the evaluated model.
        step: Global step of the evaluated checkpoint.
        model_digest: Digest of what was evaluated, so that a metric is never another model's.
        data_fingerprint: Of the eval rows.
        format: Version of this structure.
    """

    __pydantic_config__: ClassVar[pydantic.ConfigDict] = _STRICT

    task: Task
    rows: int
    weight: float
    metrics: Mapping[str, Metric]
    slices: tuple[Slice, ...] = ()
    sliced_fields: tuple[SlicedField, ...] = ()
    min_slice_rows: int = 1
    curves: Curves = dataclasses.field(default_factory=Curves)
    checks: tuple[Check, ...] = ()
    verdict: Verdict = "not_evaluated"
    reasons: tuple[str, ...] = ()
    replicates: int = 0
    comparison: Comparison | None = None
    model: str = ""
    step: int | None = None
    model_digest: str | None = None
    data_fingerprint: str | None = None
    format: Literal[1] = 1

    @property
    def blessed(self) -> bool:
        """Whether the model may be published."""
        return self.verdict == "blessed"

    def to_json(self) -> str:
        """Strict JSON; the same evaluation gives the same text."""
        return json.dumps(dataclasses.asdict(self), indent=1, allow_nan=False, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Evaluation:
        """Reads what `to_json` wrote.

        Raises:
            DataError: it is no evaluation, or one of a later format.
        """
        try:
            _refuse_loose_json(text)
            return _adapter().validate_json(text)
        except ValueError as error:
            raise DataError(
                f"Evaluation is damaged: expected evaluation.json of format {FORMAT}, got "
                f"{quote(_first_line(error), 200)}. Evaluate the model again.",
                reason=Reason.CORRUPT_FILE,
            ) from error


@functools.cache
def _adapter() -> pydantic.TypeAdapter[Evaluation]:
    return pydantic.TypeAdapter(Evaluation)


def evaluate(
    *,
    task: Task,
    labels: npt.ArrayLike,
    predictions: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    slices: Mapping[str, Sequence[str | None] | npt.NDArray[Any]] | None = None,
    options: config.Evaluate | None = None,
    baseline: Evaluation | None = None,
    model: str = "",
    step: int | None = None,
    model_digest: str | None = None,
    data_fingerprint: str | None = None,
) -> Evaluation:
    """Measures a model and decides whether it may be published.

    Args:
        task: Kind of model.
        labels: `[rows]`; see `tables.table` for this and the next two.
        predictions: Probabilities `[rows]` or `[rows, classes]`, or numbers `[rows]`.
        weights: `[rows]` or None.
        slices: Field to its value per row, as text; None and "" are missing.
        options: Thresholds and the smallest slice.
        baseline: The evaluation of the model that is serving.
        model: Name or version of the evaluated model.
        step: Global step of the evaluated checkpoint.
        model_digest: Digest of what was evaluated.
        data_fingerprint: Of the eval rows.

    Raises:
        ConfigError: a bound names a metric that the task does not have.
        DataError: the arrays do not fit together or hold impossible values.
    """
    wanted = options or config.Evaluate()
    prepared = tables.table(task, labels, predictions, weights)
    for section, given in (("thresholds", wanted.thresholds), ("changes", wanted.changes)):
        check_metric_names(given, prepared.metric_names, f"evaluate.{section}")
    fields = dict(slices or {})
    rows = len(prepared.order)
    replicates = bootstrap.budgeted_replicates(prepared, 1 + len(fields))
    whole = prepared.segment(slice(None))
    overall = bootstrap.summarize(prepared, whole, replicates=replicates)
    found: list[Slice] = []
    sliced: list[SlicedField] = []
    for field, values in fields.items():
        few = min(replicates, bootstrap.SLICE_REPLICATES)
        summary, parts = _slice(prepared, field, values, wanted.min_slice_rows, few)
        sliced.append(summary)
        found.extend(parts)
    comparison = None
    if baseline is not None:
        comparison = _compare(overall, task, data_fingerprint, rows, baseline)
    checks = _check(overall, comparison, wanted)
    verdict, reasons = _decide(checks, comparison, wanted)
    return Evaluation(
        task=task,
        rows=rows,
        weight=float(np.sum(weights)) if weights is not None else float(rows),
        metrics=overall,
        slices=tuple(found),
        sliced_fields=tuple(sliced),
        min_slice_rows=wanted.min_slice_rows,
        curves=prepared.curves(),
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


def check_metric_names(given: Iterable[str], known: Sequence[str], where: str) -> None:
    """Refuses metrics that a task does not have; usable before any training.

    Args:
        given: Names from the configuration.
        known: `metrics.names(task, classes)`.
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


def _slice(
    prepared: tables.Table,
    field: str,
    values: Sequence[str | None] | npt.NDArray[Any],
    min_rows: int,
    replicates: int,
) -> tuple[SlicedField, list[Slice]]:
    listed = values.tolist() if isinstance(values, np.ndarray) else list(values)
    rows = len(prepared.order)
    if len(listed) != rows:
        raise DataError(
            f"Slicing field {field!r} has the wrong length: expected {rows}, got {len(listed)}. "
            "Pass one value per row.",
            reason=Reason.TYPE_MISMATCH,
        )
    # A dictionary codes 300,000 strings in a fraction of the time that sorting them takes.
    codebook: dict[str, int] = {}
    codes = np.fromiter(
        (codebook.setdefault("" if v is None else str(v), len(codebook)) for v in listed),
        dtype=np.int64,
        count=rows,
    )
    sorted_codes = codes[prepared.order]
    if len(codebook) < 2**16:
        sorted_codes = sorted_codes.astype(np.uint16)  # numpy sorts these by radix
    by_code = np.argsort(sorted_codes, kind="stable")
    counts = np.bincount(codes, minlength=len(codebook))
    ends = np.cumsum(counts)
    parts = []
    for value, code in codebook.items():
        if counts[code] >= min_rows:
            segment = prepared.segment(by_code[ends[code] - counts[code] : ends[code]])
            parts.append(
                Slice(
                    field=field,
                    value=value,
                    rows=int(counts[code]),
                    metrics=bootstrap.summarize(prepared, segment, replicates=replicates),
                )
            )
    parts.sort(key=lambda part: (-part.rows, part.value))
    shown = sum(part.rows for part in parts)
    summary = SlicedField(
        field=field,
        values=len(codebook),
        hidden_values=len(codebook) - len(parts),
        hidden_rows=rows - shown,
    )
    return summary, parts


def _compare(
    overall: Mapping[str, Metric],
    task: Task,
    fingerprint: str | None,
    rows: int,
    baseline: Evaluation,
) -> Comparison:
    reason = None
    if baseline.task != task:
        reason = f"the baseline is a {baseline.task} model and this is a {task} model"
    elif fingerprint is None or baseline.data_fingerprint is None:
        reason = "the fingerprint of the eval data is not known for both models"
    elif fingerprint != baseline.data_fingerprint or rows != baseline.rows:
        reason = "the baseline was evaluated on other data"
    changes: dict[str, float | None] = {}
    for name, metric in overall.items():
        other = baseline.metrics.get(name)
        if reason or other is None or metric.value is None or other.value is None:
            changes[name] = None
        else:
            changes[name] = metric.value - other.value
    return Comparison(
        model=baseline.model,
        metrics=baseline.metrics,
        changes=changes,
        comparable=reason is None,
        reason=reason,
    )


def _check(
    overall: Mapping[str, Metric], comparison: Comparison | None, wanted: config.Evaluate
) -> list[Check]:
    checks = []
    for name, threshold in wanted.thresholds.items():
        metric = overall[name]
        for bound in _BOUNDS:
            limit = getattr(threshold, bound)
            if limit is not None:
                missing = f"{name} is undefined: {metric.reason}."
                checks.append(_bound(name, "value", bound, limit, metric.value, missing))
    if comparison is None or not comparison.comparable:
        return checks
    for name, change in wanted.changes.items():
        for bound in _BOUNDS:
            limit = getattr(change, bound)
            if limit is not None:
                missing = f"{name} is undefined for this model or for the baseline."
                difference = comparison.changes[name]
                checks.append(_bound(name, "change", bound, limit, difference, missing))
    return checks


def _bound(
    name: str,
    kind: Literal["value", "change"],
    bound: Bound,
    limit: float,
    actual: float | None,
    missing: str,
) -> Check:
    passed = actual is not None and (actual >= limit if bound == "min" else actual <= limit)
    # `passed` is False for NaN as well: a comparison with it never holds.
    if actual is None:
        reason = missing
    else:
        number = f"{actual:.4g}" if kind == "value" else f"{actual:+.4g}"
        if f"{actual:.4g}" == f"{limit:.4g}" and actual != limit:
            number = repr(actual)
        what = name if kind == "value" else f"change of {name} against the serving model"
        bad = "below" if bound == "min" else "above"
        good = "at least" if bound == "min" else "at most"
        limit_text = f"{limit:.6g}"
        reason = (
            f"{what} is {number}, {good} {limit_text} as asked."
            if passed
            else f"{what} is {number}, {bad} the {bound}imum {limit_text}."
        )
    return Check(
        metric=name,
        kind=kind,
        bound=bound,
        limit=limit,
        actual=actual,
        passed=passed,
        reason=reason,
    )


def _decide(
    checks: Sequence[Check], comparison: Comparison | None, wanted: config.Evaluate
) -> tuple[Verdict, tuple[str, ...]]:
    failed = tuple(check.reason for check in checks if not check.passed)
    if failed:
        return "refused", failed
    if wanted.changes:
        if comparison is not None and not comparison.comparable:
            return "not_evaluated", (
                f"The model cannot be compared with the serving one: {comparison.reason}.",
            )
        if comparison is None and wanted.needs_baseline:
            return "not_evaluated", (
                "Changes against the serving model are bounded, but no model is serving.",
            )
    if not checks:
        return "not_evaluated", ("No thresholds are given, so nothing was checked.",)
    return "blessed", tuple(check.reason for check in checks)


def _refuse_loose_json(text: str | bytes) -> None:
    def refuse(constant: str) -> float:
        raise ValueError(f"{constant} is not JSON")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) != len(pairs):
            raise ValueError("a key occurs twice")
        return content

    json.loads(text, parse_constant=refuse, object_pairs_hook=unique)


def _first_line(error: ValueError) -> str:
    if isinstance(error, pydantic.ValidationError):
        fault = error.errors(include_url=False)[0]
        return f"{'.'.join(str(p) for p in fault['loc'])}: {fault['msg']}"
    return str(error)
