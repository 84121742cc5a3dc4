"""How much a value tells about the label: mutual information, less what chance would give.

As `tft.vocabulary` with `use_adjusted_mutual_info` ranks values: in bits times rows, without the
normalization of adjusted mutual information, and 0 for values too close to independence.

References: Vinh, Epps, Bailey, ICML 2009; Adjusted mutual information.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def adjusted_mutual_information(joint: Array, totals: Array) -> Array:
    """Returns mutual information minus its expectation, float64 `[values]`.

    Args:
        joint: How many rows have a value and a class, int64 `[values, classes]`.
        totals: How many rows have a class, int64 `[classes]`.
    """
    rows = int(totals.sum())
    seen = joint.sum(1)
    expected = seen[:, np.newaxis] * totals / max(rows, 1)
    counted = np.abs(expected - joint) >= least_difference(rows)
    counted &= (totals > 0) & (seen < rows)[:, np.newaxis]
    n_ij = joint.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        information = n_ij * (
            (np.log2(n_ij) + math.log2(max(rows, 1)))
            - (np.log2(seen)[:, np.newaxis] + np.log2(totals))
        )
    information = np.where(counted & (n_ij > 0), information, 0.0)
    by_chance = np.zeros_like(information)
    for value, label in zip(*np.nonzero(counted), strict=True):
        by_chance[value, label] = _by_chance(rows, int(seen[value]), int(totals[label]))
    return (information - by_chance).sum(1)


def least_difference(rows: int) -> int:
    """How far from independence a count must be to count: TFT's recommendation.

    2 up to 10,000 rows, 25 from a million on.
    """
    return int(min(25, max(2, (rows - 10_000) / 990_000 * 23 + 2)))


@functools.lru_cache(maxsize=1 << 16)
def _by_chance(rows: int, seen: int, total: int) -> float:
    """The expected contribution of one cell, its count being hypergeometric."""
    first, last = max(0, seen + total - rows), min(seen, total)
    counts = np.arange(first, last + 1, dtype=np.float64)
    steps = (
        np.log(seen - counts[:-1])
        + np.log(total - counts[:-1])
        - np.log(counts[:-1] + 1)
        - np.log(rows - seen - total + counts[:-1] + 1)
    )
    logs = np.concatenate([[0.0], np.cumsum(steps)])
    shares = np.exp(logs - logs.max())
    some = counts > 0
    bits = math.log2(rows) - math.log2(seen) - math.log2(total) + np.log2(counts[some])
    return float((counts[some] * bits * shares[some]).sum() / shares.sum())
