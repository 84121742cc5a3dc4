"""How well one raw field tells the classes apart by itself, without any model; layer 3.

A model that can read the answer from two fields misses neither when it is shuffled; so leaks are
looked for in the fields themselves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from estimator_lib.core.columns import MISSING_INT

FEWEST = 10
"""Rows that a class must have to be told from the others."""
BINS = 20
"""Intervals of equally many rows into which numbers are put."""


def auc_alone(values: npt.NDArray[Any], labels: npt.NDArray[np.int64]) -> float | None:
    """Returns the AUC with which a field tells each class from all others; the smallest of them.

    Rows are ranked by how often the class goes with their value, or with their interval of the
    numbers, in the other half of the rows: what is learned by heart tells nothing. Numbers are
    also ranked as they are, from either end. A missing value is a value.

    Args:
        values: `[rows]` or, of lists, `[rows, n]`: bytes objects, int64 or float32, with the
            missing values of a request: b"", `MISSING_INT`, NaN.
        labels: Ids of classes `[rows]`.

    Returns:
        From 0 to 1; None if there is one class only, or one has fewer than `FEWEST` rows.
    """
    classes, rows = np.unique(labels, return_counts=True)
    if len(classes) < 2 or rows.min() < FEWEST:
        return None
    groups, orders = _groups(values), _orders(values)
    told = []
    # Of two classes, what tells one tells the other.
    for one in classes[1:] if len(classes) == 2 else classes:
        positive = labels == one
        found = [_auc_of_groups(groups, positive)]
        for order in orders:
            auc = _auc(order, positive)
            found += [auc, 1.0 - auc]
        told.append(max(found))
    return float(min(told))


def _groups(values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Ids of rows that have the same value; of many numbers, the same interval of them."""
    if values.ndim > 1:
        values = np.array([repr(row.tolist()) for row in values])
    _, ids = np.unique(values, return_inverse=True)
    if values.dtype.kind not in "if" or ids.max() < BINS:
        return ids.astype(np.int64)
    missing = _missing(values)
    numbers = values[~missing]
    edges = np.quantile(numbers, np.linspace(0, 1, BINS + 1)[1:-1])
    return np.where(missing, BINS, np.searchsorted(edges, values, side="right")).astype(np.int64)


def _orders(values: npt.NDArray[Any]) -> list[npt.NDArray[np.float64]]:
    """Numbers with missing ones at either end; nothing of others."""
    if values.ndim > 1 or values.dtype.kind not in "if":
        return []
    missing = _missing(values)
    numbers = values.astype(np.float64)
    ends = (-np.inf, np.inf) if missing.any() else (0.0,)
    return [np.where(missing, end, numbers) for end in ends]


def _missing(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    return np.isnan(values) if values.dtype.kind == "f" else values == MISSING_INT


def _auc_of_groups(groups: npt.NDArray[np.int64], positive: npt.NDArray[np.bool_]) -> float:
    """The smaller AUC of two halves, in each of which the other one's shares are the scores."""
    number, found = int(groups.max()) + 1, []
    half = np.zeros(len(groups), np.bool_)
    for own in (positive, ~positive):  # as many of each class in both halves
        half[np.flatnonzero(own)[::2]] = True
    for judged in (half, ~half):
        learned = ~judged
        rows = np.bincount(groups[learned], minlength=number)
        hits = np.bincount(groups[learned], positive[learned], minlength=number)
        shares = (hits + positive[learned].mean()) / (rows + 1.0)
        found.append(_auc(shares[groups[judged]], positive[judged]))
    return min(found)


def _auc(scores: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_]) -> float:
    """The chance that a positive row ranks before another one; ties count half."""
    _, ids = np.unique(scores, return_inverse=True)
    hits = np.bincount(ids[positive], minlength=int(ids.max()) + 1)
    others = np.bincount(ids[~positive], minlength=len(hits))
    below = np.cumsum(others) - others
    return float((hits * (below + others / 2)).sum() / (hits.sum() * others.sum()))
