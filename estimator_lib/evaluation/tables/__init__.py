"""Rows of an evaluation, validated and sorted once, and the metrics of any groups of them.

Layer 3. A table reads its rows in blocks, in descending order of the score where a metric needs an
order, and adds each block to the sums of the group that the row is in. So the memory depends on
the groups and not on the rows, and every metric is exact. A row's multiplicity in a bootstrap
replicate is a function of its number: all labels, heads, models and groups draw the same rows.
NaN stands for "undefined" here and only here. `given` checks the arrays, `groups` passes over rows,
`sums` adds them up; then there is a module for each task.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy.typing as npt

from estimator_lib.evaluation.metrics import Problem, Task
from estimator_lib.evaluation.spool import Rows
from estimator_lib.evaluation.tables.binary import BinaryTable
from estimator_lib.evaluation.tables.given import Given, as_rows, checked_weights
from estimator_lib.evaluation.tables.groups import (
    Groups,
    Measures,
    Table,
    add_rows,
    multiplicities,
)
from estimator_lib.evaluation.tables.multiclass import MulticlassTable
from estimator_lib.evaluation.tables.quantile import QuantileTable
from estimator_lib.evaluation.tables.regression import RegressionTable
from estimator_lib.evaluation.tables.sums import ratio

__all__ = [
    "Groups",
    "Measures",
    "Table",
    "add_rows",
    "as_rows",
    "checked_weights",
    "multiplicities",
    "ratio",
    "table",
]


def table(
    task: Task | Problem,
    labels: npt.ArrayLike | Rows,
    predictions: npt.ArrayLike | Rows,
    weights: npt.ArrayLike | Rows | None = None,
    codes: Sequence[Rows] = (),
) -> Table:
    """Validates the arrays of an evaluation of one label.

    Args:
        task: Which kind of model: "binary", "multiclass", "regression" or "quantile".
        labels: `[rows]` or `[rows, 1]`: 0 or 1, a class id, or a finite number.
        predictions: Probability of class 1 `[rows]` or `[rows, 1]`; class probabilities
            `[rows, classes]`; predicted numbers `[rows]`, or quantiles `[rows, levels]`. Rows
            that are not finite make the metrics of every group they are in undefined.
        weights: `[rows]`, finite and >= 0; None means 1 each.
        codes: Of each grouping, int `[rows]`.

    Raises:
        DataError: lengths differ, a label or a weight is outside its range, a finite
            prediction is no probability.
        StorageError: the temporary directory is full.
    """
    problem = task if isinstance(task, Problem) else Problem(task=task)
    given = Given(problem, labels, predictions, weights, codes)
    match problem.task:
        case "binary":
            return BinaryTable(given, problem.classes)
        case "multiclass":
            return MulticlassTable(given, problem.classes)
        case "quantile":
            return QuantileTable(given, problem.quantiles)
    return RegressionTable(given)
