"""What an evaluation found, as frozen values and as strict JSON; layer 3."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterable, Mapping
from typing import ClassVar, Literal

import pydantic

from estimator_lib.core import strict_json
from estimator_lib.core.errors import DataError, Reason, quote
from estimator_lib.evaluation.curves import Curves
from estimator_lib.evaluation.metrics import Metric, Task

Verdict = Literal["blessed", "refused", "not_evaluated"]
FORMAT = 2
Bound = Literal["min", "max"]
CheckKind = Literal["value", "change", "slice_value", "slice_change"]
# Parts inherit it from the whole.
_STRICT = pydantic.ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slice:
    """Metrics of the rows that share a value of a field.

    Attributes:
        field: The raw field; of a cross, its fields joined by a multiplication sign.
        value: The shared value, as text; "" stands for missing. Of a cross, one per field.
        rows: How many rows.
        metrics: As of the whole.
        changes: This model minus the serving one, for the metrics that `slice_changes` bounds
            and the most telling one; empty without a serving model.
    """

    field: str
    value: str
    rows: int
    metrics: Mapping[str, Metric]
    changes: Mapping[str, Metric] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """As a sentence calls it."""
        return f"{self.field} = {self.value or '(missing)'}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlicedField:
    """How a field divides the rows.

    Attributes:
        field: The raw field, or a cross of fields.
        values: Number of different values.
        hidden_values: Those with fewer rows than `min_slice_rows`; they are no slices.
        hidden_rows: Rows of the hidden values.
        unlisted_values: Slices that were measured and checked but are not listed, for there are
            more than `max_slices`; the largest and those that miss a bound are listed.
        unlisted_rows: Rows of the unlisted values.
    """

    field: str
    values: int
    hidden_values: int
    hidden_rows: int
    unlisted_values: int = 0
    unlisted_rows: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """One bound and whether it held.

    Attributes:
        metric: The metric.
        kind: "value" bounds the metric, "change" its difference to the serving model; with
            "slice_" before it, of each slice.
        bound: Whether `limit` is a minimum or a maximum.
        limit: The bound.
        actual: What was compared with it (of the worst slice); None where it is undefined.
        passed: Whether it held; never True where `actual` is None.
        reason: One sentence that says so with both numbers.
        confident: Whether `actual` is an end of the interval.
        slices: How many slices were checked.
        failed_slices: Names of those that missed it, worst first.
    """

    metric: str
    kind: CheckKind
    bound: Bound
    limit: float
    actual: float | None
    passed: bool
    reason: str
    confident: bool = False
    slices: int = 0
    failed_slices: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """The model that was serving, on the same rows.

    Attributes:
        model: Its name or version.
        metrics: Its metrics.
        changes: This model minus the serving one per metric. The interval is that of the
            difference, from replicates that draw the same rows for both models.
        comparable: Whether both predict the same.
        reason: Why not.
    """

    model: str
    metrics: Mapping[str, Metric]
    changes: Mapping[str, Metric]
    comparable: bool
    reason: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureImportance:
    """How much worse the model gets when a raw field is shuffled.

    Attributes:
        field: The raw field; everything computed from it is shuffled along.
        worse_by: Mean over the repeats of how much worse the metric gets; None where it is
            undefined.
        low: Smallest of the repeats.
        high: Largest of the repeats.
        reason: Why `worse_by` is None.
        alone: The AUC of the field by itself, without the model; see `alone.auc_alone`. None of
            labels without classes, and of classes with too few rows.
    """

    field: str
    worse_by: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None
    alone: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Importance:
    """Permutation importance of the raw fields.

    Attributes:
        metric: What gets worse.
        base: The metric of the rows as they are.
        rows: Sampled eval rows.
        repeats: Shuffles of each field.
        features: Most important first.
    """

    metric: str
    base: float | None
    rows: int
    repeats: int
    features: tuple[FeatureImportance, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """A label of a multi-label model, or a head of a multi-head one.

    Attributes:
        name: Its name, the suffix of its metrics.
        task: What it predicts.
        curves: What can be drawn of it.
        parts: The labels of a multi-label head.
        importance: Of the raw fields for a head, if it was measured.
    """

    name: str
    task: Task
    curves: Curves
    parts: tuple[Part, ...] = ()
    importance: Importance | None = None


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
        parts: The labels of a multi-label model or the heads of a multi-head one.
        importance: Of the raw fields, if it was measured; of several heads, see `parts`.
        checks: Every bound that was given.
        verdict: "blessed", "refused" or "not_evaluated".
        reasons: Why, at least one sentence.
        cautions: What should make one doubt the numbers; see `cautions`.
        replicates: Bootstrap replicates behind the intervals; at most 100 of them for a slice.
        comparison: With the serving model, if one was given.
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
    parts: tuple[Part, ...] = ()
    importance: Importance | None = None
    checks: tuple[Check, ...] = ()
    verdict: Verdict = "not_evaluated"
    reasons: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    replicates: int = 0
    comparison: Comparison | None = None
    model: str = ""
    step: int | None = None
    model_digest: str | None = None
    data_fingerprint: str | None = None
    format: Literal[2] = 2

    @property
    def main_metrics(self) -> tuple[str, ...]:
        """The most telling metric; of several heads that of each."""
        return main_metrics(self.metrics, [part.name for part in self.parts], self.task)

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
            strict_json.parse(text)
            return _adapter().validate_json(text)
        except ValueError as error:
            raise DataError(
                f"Evaluation is damaged: expected evaluation.json of format {FORMAT}, got "
                f"{quote(_first_line(error), 200)}. Evaluate the model again.",
                reason=Reason.CORRUPT_FILE,
            ) from error


def main_metrics(metrics: Iterable[str], parts: Iterable[str], task: Task) -> tuple[str, ...]:
    """Returns the first metric; of several heads, whose names are `parts`, that of each."""
    names = tuple(metrics)
    if task != "multihead":
        return names[:1]
    return tuple(next(n for n in names if n.endswith(f"/{part}")) for part in parts)


@functools.cache
def _adapter() -> pydantic.TypeAdapter[Evaluation]:
    return pydantic.TypeAdapter(Evaluation)


def _first_line(error: ValueError) -> str:
    if isinstance(error, pydantic.ValidationError):
        fault = error.errors(include_url=False)[0]
        return f"{'.'.join(str(p) for p in fault['loc'])}: {fault['msg']}"
    return str(error)
