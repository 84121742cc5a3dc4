"""Metrics with Poisson-bootstrap confidence intervals.

Layer 3. Deterministic: the same rows give the same interval.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from estimator_lib.evaluation.metrics import Z95, Floats, Metric, Problem, Task, info
from estimator_lib.evaluation.several import Arrays, any_table
from estimator_lib.evaluation.spool import Rows
from estimator_lib.evaluation.tables import Groups, Measures

MAX_REPLICATES = 200
SLICE_REPLICATES = 100
MIN_REPLICATES = 20


def measure(
    task: Task | Problem,
    labels: Arrays,
    predictions: Arrays,
    weights: npt.ArrayLike | Rows | None = None,
    *,
    intervals: bool = False,
) -> dict[str, Metric]:
    """All metrics of some rows; arguments and errors as `several.any_table`.

    Example:
        >>> measure("binary", [0, 1], [0.2, 0.7])["auc"].value
        1.0
    """
    prepared = any_table(task, labels, predictions, weights)
    found = prepared.measure(Groups(), MAX_REPLICATES if intervals else 0)
    return summarize(found, 0, prepared.metric_names)


def summarize(
    measured: Measures, group: int, names: Sequence[str], *, differences: bool = False
) -> dict[str, Metric]:
    """Metrics of a group with Poisson-bootstrap intervals, if there are replicates.

    Each replicate draws every row a Poisson(1) number of times. The interval is value +- 1.96
    standard deviations over the replicates, within the metric's range: it stays around the
    value where a percentile interval would not (ECE is biased upwards by resampling), and
    needs few replicates.

    Args:
        measured: Of several groups.
        group: Which of them.
        names: The metrics that are wanted.
        differences: Whether the values are differences of metrics, which have no range.
    """
    result = {}
    for name in names:
        value, *_ = replicates = measured.values[name][group]
        if not np.isfinite(value):
            result[name] = Metric(value=None, reason=measured.why(group, name))
            continue
        spread = _spread(replicates[1:]) if measured.rows[group] > 1 else None
        if spread is None:
            result[name] = Metric(value=float(value))
            continue
        low, high = value - Z95 * spread, value + Z95 * spread
        if not differences:
            low = _within(low, info(name).low, max)
            high = _within(high, info(name).high, min)
        result[name] = Metric(value=float(value), low=float(low), high=float(high))
    return result


def _spread(replicates: Floats) -> float | None:
    """The standard deviation, if most replicates have a value."""
    defined = replicates[np.isfinite(replicates)]
    return float(defined.std(ddof=1)) if 2 * len(defined) > len(replicates) > 1 else None


def _within(end: float, limit: float | None, pick: Callable[[float, float], float]) -> float:
    return end if limit is None else pick(limit, end)


def budgeted_replicates(rows: int, cost: int, groupings: int, budget: float = 5e7) -> int:
    """How many bootstrap replicates fit into about two seconds.

    Args:
        rows: How many there are.
        cost: Passes over them per replicate.
        groupings: How often each row is visited per replicate: 1 + the slicing fields.
        budget: Row visits in all.
    """
    visits = max(1, rows * groupings * cost)
    return int(min(MAX_REPLICATES, max(MIN_REPLICATES, budget // visits)))
