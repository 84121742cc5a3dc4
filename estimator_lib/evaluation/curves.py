"""What can be drawn of an evaluation: ROC, precision-recall, reliability, histogram, confusion.

Layer 3. Curves are thinned to what the eye can see; bins are listed in full.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

from estimator_lib.evaluation.metrics import Z95, Floats, Ints

CURVE_POINTS = 200
HISTOGRAM_BINS = 40
RELIABILITY_BINS = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class RocCurve:
    """True and false positive rates, from (0, 0) to (1, 1).

    `thresholds[i]` is finite: rows with a probability strictly above it make point i (the last
    point takes all rows, whatever its threshold).
    """

    false_positive_rates: tuple[float, ...]
    true_positive_rates: tuple[float, ...]
    thresholds: tuple[float, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrecisionRecallCurve:
    """Precision at each recall, recall ascending; `base_rate` is what no skill reaches."""

    recalls: tuple[float, ...]
    precisions: tuple[float, ...]
    base_rate: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """Rows with similar predictions: what was predicted and what happened.

    Attributes:
        rows: How many.
        prediction_mean: Weighted mean of the predictions (or of the winning probability).
        label_mean: Weighted mean of the labels (or of being right).
        low: Lower end of the 95% interval of `label_mean`.
        high: Upper end.
    """

    rows: int
    prediction_mean: float
    label_mean: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Histogram:
    """Weight of rows per interval of one quantity.

    Attributes:
        of: "probability", "confidence" or "error".
        edges: `bins + 1` ascending edges.
        series: Name of a group of rows to its weights, `bins` each.
    """

    of: Literal["probability", "confidence", "error"]
    edges: tuple[float, ...]
    series: Mapping[str, tuple[float, ...]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfusionMatrix:
    """Weight of rows by true class (outer) and predicted class (inner)."""

    classes: tuple[str, ...]
    counts: tuple[tuple[float, ...], ...]
    threshold: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curves:
    """What can be drawn of an evaluation; a curve that is undefined is None."""

    roc: RocCurve | None = None
    precision_recall: PrecisionRecallCurve | None = None
    reliability: tuple[ReliabilityBin, ...] = ()
    histogram: Histogram | None = None
    confusion: ConfusionMatrix | None = None


def thin(x: Floats, y: Floats, limit: int = CURVE_POINTS) -> Ints:
    """Indices of at most `limit` points whose polyline is nearest to the whole one.

    Splits at the point farthest from its chord, farthest first (Douglas and Peucker), until
    the limit is reached or nothing is left to see. Ends always stay.
    """
    n = len(x)
    if n <= 2:
        return np.arange(n)

    def farthest(a: int, b: int) -> tuple[float, int, int, int]:
        if b - a < 2:
            return 0.0, a, a, b
        dx, dy = x[b] - x[a], y[b] - y[a]
        px, py = x[a + 1 : b] - x[a], y[a + 1 : b] - y[a]
        length = float(np.hypot(dx, dy))
        distance = np.abs(dx * py - dy * px) / length if length else np.hypot(px, py)
        at = int(np.argmax(distance))
        return -float(distance[at]), a + 1 + at, a, b

    kept = [0, n - 1]
    queue = [farthest(0, n - 1)]
    while queue and len(kept) < limit:
        error, at, a, b = heapq.heappop(queue)
        if error > -1e-5:
            break
        kept.append(at)
        heapq.heappush(queue, farthest(a, at))
        heapq.heappush(queue, farthest(at, b))
    return np.sort(np.array(kept, dtype=np.intp))


def equal_count_bins(p: Floats) -> Ints:
    """The equal-count bin of each value; equal values share a bin."""
    if not len(p):
        return np.zeros(0, dtype=np.intp)
    last = (np.arange(1, RELIABILITY_BINS) * len(p) - 1) // RELIABILITY_BINS  # row of each bin
    edges = np.unique(np.sort(p)[np.maximum(last, 0)])
    return np.searchsorted(edges, p, side="left").astype(np.intp)


def run_starts(values: npt.NDArray[np.generic]) -> Ints:
    """Where runs of equal neighbours begin."""
    if not len(values):
        return np.zeros(0, dtype=np.intp)
    return np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))


def reliability(
    p: Floats, y: Floats, w: Floats, bins: Ints, *, proportion: bool
) -> tuple[ReliabilityBin, ...]:
    """One entry per bin with weight, predictions ascending; rows must be sorted by bin."""
    result = []
    starts = run_starts(bins)
    for a, b in zip(starts, np.append(starts[1:], len(p)), strict=True):
        weight = w[a:b].sum()
        if not weight > 0:
            continue
        mean = float(w[a:b] @ y[a:b] / weight)
        size = float(weight**2 / (w[a:b] @ w[a:b]))
        if proportion:
            # Wilson's interval, with the effective number of rows.
            shrink = 1 + Z95**2 / size
            centre = (mean + Z95**2 / (2 * size)) / shrink
            variance = mean * (1 - mean) / size + (Z95 / (2 * size)) ** 2
            half = Z95 * float(np.sqrt(max(0.0, variance))) / shrink
        else:
            centre = mean
            half = Z95 * float(np.sqrt(w[a:b] @ (y[a:b] - mean) ** 2 / weight / size))
        result.append(
            ReliabilityBin(
                rows=int(b - a),
                prediction_mean=float(w[a:b] @ p[a:b] / weight),
                label_mean=mean,
                low=min(mean, centre - half),
                high=max(mean, centre + half),
            )
        )
    return tuple(sorted(result, key=lambda r: r.prediction_mean))


def histogram(
    of: Literal["probability", "confidence", "error"],
    values: Floats,
    groups: Mapping[str, Floats],
    *,
    step: float | None,
) -> Histogram:
    """Weights of `groups` (one weight per value each) over a round range of the values."""
    if step is None:
        # Errors have long tails: the middle 99% is drawn, and the end bins hold the rest.
        low, high = (float(q) for q in np.quantile(values, (0.005, 0.995)))
        reach = max(abs(low), abs(high)) or 1.0
        low, high = -reach, reach
    else:
        low = max(0.0, float(np.floor(values.min() / step) * step))
        high = min(1.0, max(low + step, float(np.ceil(values.max() / step) * step)))
        low = min(low, high - step)
    edges = np.linspace(low, high, HISTOGRAM_BINS + 1)
    clipped = np.clip(values, edges[0], edges[-1])
    series = {
        name: tuple(float(v) for v in np.histogram(clipped, edges, weights=weight)[0])
        for name, weight in groups.items()
    }
    return Histogram(of=of, edges=tuple(float(e) for e in edges), series=series)


def roc_curve(p: Floats, positive: Floats, negative: Floats) -> RocCurve | None:
    """The ROC curve of rows in descending order of probability; None without both classes."""
    true, false = _cumulated(p, positive), _cumulated(p, negative)
    if not (true[-1] > 0 and false[-1] > 0):
        return None
    # "strictly above" the next lower score is "at least" this one.
    thresholds = np.concatenate([p[run_starts(p)], [0.0]])
    fpr, tpr = false / false[-1], true / true[-1]
    at = thin(fpr, tpr)
    return RocCurve(
        false_positive_rates=as_floats(fpr[at]),
        true_positive_rates=as_floats(tpr[at]),
        thresholds=as_floats(thresholds[at]),
    )


def precision_recall_curve(
    p: Floats, positive: Floats, negative: Floats
) -> PrecisionRecallCurve | None:
    """The precision-recall curve of rows in descending order; None without positives."""
    true, false = _cumulated(p, positive), _cumulated(p, negative)
    if not true[-1] > 0:
        return None
    some = (true + false) > 0
    recall = np.concatenate([[0.0], true[some] / true[-1]])
    precision = true[some] / (true + false)[some]
    precision = np.concatenate([precision[:1], precision])
    at = thin(recall, precision)
    return PrecisionRecallCurve(
        recalls=as_floats(recall[at]),
        precisions=as_floats(precision[at]),
        base_rate=float(true[-1] / (true[-1] + false[-1])),
    )


def as_floats(values: Floats) -> tuple[float, ...]:
    """The values as Python floats."""
    return tuple(float(v) for v in values)


def _cumulated(p: Floats, weights: Floats) -> Floats:
    """Weight above each distinct score, from nothing to all."""
    ends = np.append(run_starts(p)[1:], len(p)) - 1
    return np.concatenate([[0.0], np.cumsum(weights)[ends]])
