"""Bounds and the verdict; pure decisions, layer 3.

The verdict fails closed: it is "blessed" only when at least one bound was given and every one of
them was checked against a defined metric and held. What is missing, NaN or infinite holds no bound,
and neither does an interval that does not contain its value. A slice whose metric is undefined
misses its bound; a bound on slices that met no slice leaves the model not evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from estimator_lib.core import config
from estimator_lib.evaluation.metrics import Metric
from estimator_lib.evaluation.results import (
    Bound,
    Check,
    CheckKind,
    Comparison,
    Slice,
    Verdict,
)

_BOUNDS: tuple[Bound, ...] = ("min", "max")
_NAMED_SLICES = 3
_NOT_MEASURED = Metric(value=None, reason="it was not measured")


def check(
    overall: Mapping[str, Metric],
    slices: Sequence[Slice],
    comparison: Comparison | None,
    wanted: config.Evaluate,
) -> list[Check]:
    """Every bound with its outcome; none of those on changes where nothing is comparable.

    Args:
        overall: Metrics of all rows.
        slices: Every slice, not only those that are listed.
        comparison: With the serving model.
        wanted: The bounds.
    """
    found = []
    for name, threshold in wanted.thresholds.items():
        found += [_whole(name, "value", *bound, _of(overall, name)) for bound in _limits(threshold)]
    for name, threshold in wanted.slice_thresholds.items():
        pairs = _measured(name, slices, threshold, wanted, changes=False)
        found += [_sliced(name, "slice_value", threshold, *b, pairs) for b in _limits(threshold)]
    if comparison is None or not comparison.comparable:
        return found
    for name, change in wanted.changes.items():
        metric = _of(comparison.changes, name)
        for bound, limit in _limits(change):
            found.append(_whole(name, "change", bound, limit, metric, confident=change.confident))
    for name, threshold in wanted.slice_changes.items():
        pairs = _measured(name, slices, threshold, wanted, changes=True)
        found += [_sliced(name, "slice_change", threshold, *b, pairs) for b in _limits(threshold)]
    return found


def decide(
    checks: Sequence[Check], comparison: Comparison | None, wanted: config.Evaluate
) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict and why."""
    failed = tuple(c.reason for c in checks if not c.passed and (c.slices or not _of_slices(c)))
    if failed:
        return "refused", failed
    unchecked = tuple(c.reason for c in checks if not c.passed)
    if unchecked:
        return "not_evaluated", unchecked
    if wanted.compares:
        if comparison is not None and not comparison.comparable:
            return "not_evaluated", (
                f"The model cannot be compared with the serving one: {comparison.reason}.",
            )
        if comparison is None and wanted.needs_baseline:
            return "not_evaluated", (
                "Changes against the serving model are bounded, but no model is serving.",
            )
    unseen = _unchecked(checks, comparison, wanted)
    if unseen:
        return "not_evaluated", unseen
    if not checks:
        return "not_evaluated", ("No thresholds are given, so nothing was checked.",)
    return "blessed", tuple(c.reason for c in checks)


def _unchecked(
    checks: Sequence[Check], comparison: Comparison | None, wanted: config.Evaluate
) -> tuple[str, ...]:
    """Bounds that nobody looked at."""
    done = {(c.kind, c.metric, c.bound) for c in checks}
    sections: list[tuple[CheckKind, Mapping[str, config.Threshold]]] = [
        ("value", wanted.thresholds), ("slice_value", wanted.slice_thresholds),
    ]  # fmt: skip
    if comparison is not None:
        sections += [("change", wanted.changes), ("slice_change", wanted.slice_changes)]
    return tuple(
        f"The {bound}imum of {_named(name, kind)} was not checked."
        for kind, section in sections
        for name, given in section.items()
        for bound, _ in _limits(given)
        if (kind, name, bound) not in done
    )


def _of(metrics: Mapping[str, Metric], name: str) -> Metric:
    """Returns a metric with a value that is a number, or the reason why it has none."""
    found = metrics.get(name, _NOT_MEASURED)
    if found.value is None or math.isfinite(found.value):
        return found
    return Metric(value=None, reason=f"it is {found.value}")


def _of_slices(found: Check) -> bool:
    return found.kind.startswith("slice_")


def _limits(given: config.Threshold) -> Iterator[tuple[Bound, float]]:
    for bound in _BOUNDS:
        limit = getattr(given, bound)
        if limit is not None:
            yield bound, limit


def _holds(bound: Bound, limit: float, actual: float | None) -> bool:
    if actual is None or not math.isfinite(actual) or not math.isfinite(limit):
        return False
    return actual >= limit if bound == "min" else actual <= limit


def _number(kind: CheckKind, actual: float, limit: float) -> str:
    """The value, with as many digits as show that it differs from the limit."""
    if f"{actual:.4g}" == f"{limit:.4g}" and actual != limit:
        return repr(actual)
    return f"{actual:+.4g}" if kind.endswith("change") else f"{actual:.4g}"


def _named(metric: str, kind: CheckKind) -> str:
    return f"change of {metric} against the serving model" if kind.endswith("change") else metric


def _compared(bound: Bound, limit: float, *, passed: bool) -> str:
    if passed:
        return f"{'at least' if bound == 'min' else 'at most'} {limit:.6g} as asked"
    return f"{'below' if bound == 'min' else 'above'} the {bound}imum {limit:.6g}"


# --- The whole split --------------------------------------------------------------------------


def _whole(
    name: str,
    kind: CheckKind,
    bound: Bound,
    limit: float,
    metric: Metric,
    *,
    confident: bool = False,
) -> Check:
    what, ends = _named(name, kind), ""
    actual = metric.value
    if confident:
        # The end of the interval that is nearest to the bound decides.
        actual = (metric.low if bound == "min" else metric.high) if _has_interval(metric) else None
        what = f"the 95% {'lower' if bound == 'min' else 'upper'} end of the {what}"
        ends = " interval" if metric.value is not None else ""
    passed = _holds(bound, limit, actual)
    if actual is None:
        reason = f"{what} is undefined: {metric.reason or f'it has no{ends}'}."
    else:
        number = _number(kind, actual, limit)
        reason = f"{what} is {number}, {_compared(bound, limit, passed=passed)}."
    return Check(
        metric=name, kind=kind, bound=bound, limit=limit, actual=actual, passed=passed,
        reason=reason, confident=confident,
    )  # fmt: skip


# --- Slices -----------------------------------------------------------------------------------


def _measured(
    name: str,
    slices: Sequence[Slice],
    asked: config.SliceThreshold,
    wanted: config.Evaluate,
    *,
    changes: bool,
) -> list[tuple[Slice, Metric]]:
    """The slices that a bound is about, each with the metric that it bounds."""
    rows = asked.min_rows or wanted.min_slice_rows
    large = [part for part in slices if part.rows >= rows]
    return [(part, _of(part.changes if changes else part.metrics, name)) for part in large]


def _sliced(
    name: str,
    kind: CheckKind,
    asked: config.SliceThreshold,
    bound: Bound,
    limit: float,
    measured: Sequence[tuple[Slice, Metric]],
) -> Check:
    """One bound over all slices: the worst one is told."""
    what = _named(name, kind)
    if not measured:
        return Check(
            metric=name, kind=kind, bound=bound, limit=limit, actual=None, passed=False,
            reason=f"{what} of slices is bounded, but no slice has enough rows to be checked.",
        )  # fmt: skip
    sign = 1.0 if bound == "min" else -1.0

    def badness(pair: tuple[Slice, Metric]) -> float:
        return float("-inf") if pair[1].value is None else sign * pair[1].value

    worst_first = sorted(measured, key=badness)
    failed = [p for p in worst_first if not _slice_holds(p[1], bound, limit, asked.beyond_chance)]
    part, metric = (failed or worst_first)[0]
    if metric.value is None:
        said = f"{what} where {part.name} is undefined: {metric.reason}"
    elif failed:
        number = _number(kind, metric.value, limit)
        said = f"{what} where {part.name} is {number}, {_compared(bound, limit, passed=False)}"
    else:
        number = _number(kind, metric.value, limit)
        holds = _holds(bound, limit, metric.value)
        beyond = _compared(bound, limit, passed=holds)
        said = f"{what} is {number} in the worst of {len(measured)} slices ({part.name}), {beyond}"
        said += "" if holds else ", which chance explains"
    if len(failed) > 1:
        others = [other.name for other, _ in failed[1 : 1 + _NAMED_SLICES]]
        left = len(failed) - 1 - len(others)
        listed = ", ".join(others) + (f" and {left} more" if left else "")
        said += f"; also missed where {listed} ({len(failed)} of {len(measured)} slices)"
    return Check(
        metric=name, kind=kind, bound=bound, limit=limit, actual=metric.value, passed=not failed,
        reason=f"{said}.", slices=len(measured),
        failed_slices=tuple(other.name for other, _ in failed),
    )  # fmt: skip


def _slice_holds(metric: Metric, bound: Bound, limit: float, beyond_chance: bool) -> bool:
    if beyond_chance and _has_interval(metric):
        return _holds(bound, limit, metric.high if bound == "min" else metric.low)
    return _holds(bound, limit, metric.value)


def _has_interval(metric: Metric) -> bool:
    """Whether a metric has a value with an interval around it."""
    low, value, high = metric.low, metric.value, metric.high
    if low is None or value is None or high is None:
        return False
    slack = 1e-9 * (1 + abs(value))  # ends are cut to what the metric can be, the value is not
    return math.isfinite(low) and math.isfinite(high) and low - slack <= value <= high + slack
