"""What can be drawn of an evaluation: ROC, precision-recall, reliability, histogram, confusion.

Layer 3. Curves are thinned to what the eye can see; bins are listed in full.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

from estimator_lib.evaluation.metrics import Z95, Floats, Ints
from estimator_lib.evaluation.spool import Rows, Spool, in_order

Quantity = Literal["probability", "confidence", "error"]
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

    of: Quantity
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


def bin_edges(records: Rows, *, descending: bool) -> Floats:
    """The upper ends of all equal-count bins but the last, ascending; equal values share a bin.

    Args:
        records: Sorted by their field "key", or its negative.
        descending: Whether "key" is the negative of what is binned.
    """
    count = records.shape[0]
    if not count:
        return np.zeros(0)
    last = np.maximum((np.arange(1, RELIABILITY_BINS) * count - 1) // RELIABILITY_BINS, 0)
    if not descending:
        return np.unique([records[at : at + 1]["key"][0] for at in last])
    return np.unique([0.0 - records[count - 1 - at : count - at]["key"][0] for at in last])


def run_starts(values: npt.NDArray[np.generic]) -> Ints:
    """Where runs of equal neighbours begin."""
    if not len(values):
        return np.zeros(0, dtype=np.intp)
    return np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))


class Reliability:
    """What was predicted and what happened, in bins of the predictions."""

    def __init__(self, edges: Floats, *, centre: float = 0.0) -> None:
        """Args: see `bin_edges`; `centre` is near the labels, so that no digits are lost."""
        self._edges, self._centre = edges, centre
        self._sums = np.zeros((len(edges) + 1, 6))

    def add(self, p: Floats, y: Floats, w: Floats) -> None:
        """Adds rows: predictions, labels and weights."""
        bins = np.searchsorted(self._edges, p, side="left")
        off = y - self._centre
        for at, column in enumerate((np.ones(len(p)), w, w**2, w * p, w * off, w * off**2)):
            self._sums[:, at] += np.bincount(bins, weights=column, minlength=len(self._sums))

    def result(self, *, proportion: bool) -> tuple[ReliabilityBin, ...]:
        """One entry per bin with weight, predictions ascending."""
        result = []
        for rows, weight, squares, predicted, off, spread in self._sums:
            if not weight > 0:
                continue
            mean = float(self._centre + off / weight)
            size = float(weight**2 / squares)
            if proportion:
                # Wilson's interval, with the effective number of rows.
                shrink = 1 + Z95**2 / size
                centre = (mean + Z95**2 / (2 * size)) / shrink
                variance = mean * (1 - mean) / size + (Z95 / (2 * size)) ** 2
                half = Z95 * float(np.sqrt(max(0.0, variance))) / shrink
            else:
                centre = mean
                variance = max(0.0, spread / weight - (off / weight) ** 2)
                half = Z95 * float(np.sqrt(variance / size))
            result.append(
                ReliabilityBin(
                    rows=int(rows),
                    prediction_mean=float(predicted / weight),
                    label_mean=mean,
                    low=min(mean, centre - half),
                    high=max(mean, centre + half),
                )
            )
        return tuple(sorted(result, key=lambda r: r.prediction_mean))


class Counts:
    """Weights of groups of rows over a round range of one quantity.

    Args:
        of: The quantity.
        records: Sorted by the negative of it, their field "key"; at least one.
        step: Ends of the range are multiples of it.
        ends: The range itself, instead of the two.
    """

    def __init__(
        self,
        of: Quantity,
        records: Rows | None = None,
        *,
        step: float = 0.05,
        ends: tuple[float, float] | None = None,
    ) -> None:
        if ends is None and records is not None:
            least, most = (0.0 - float(records[at]["key"][0]) for at in (slice(-1, None), slice(1)))
            low = max(0.0, float(np.floor(least / step) * step))
            high = min(1.0, max(low + step, float(np.ceil(most / step) * step)))
            ends = min(low, high - step), high
        self._of, self._ends = of, ends or (0.0, 1.0)
        self._edges = np.linspace(*self._ends, HISTOGRAM_BINS + 1)
        self._series: dict[str, Floats] = {}

    def add(self, values: Floats, groups: Mapping[str, Floats]) -> None:
        """Adds rows, with one weight per row in each group; the end bins hold the rest."""
        clipped = np.clip(values, self._edges[0], self._edges[-1])
        for name, weights in groups.items():
            counts, _ = np.histogram(clipped, self._edges, weights=weights)
            self._series[name] = self._series.get(name, np.zeros(HISTOGRAM_BINS)) + counts

    def result(self) -> Histogram:
        """The histogram."""
        series = {name: as_floats(counts) for name, counts in self._series.items()}
        return Histogram(of=self._of, edges=as_floats(self._edges), series=series)


def errors(parts: Callable[[], Iterator[tuple[Floats, Floats]]]) -> Histogram:
    """The histogram of errors.

    They have long tails: the middle 99% is drawn, and the end bins hold the rest.

    Args:
        parts: Gives errors and weights in blocks, as often as it is called; at least one row.
    """
    keyed = (error.astype([("key", np.float64)]) for error, _ in parts())
    values = Spool()
    for part in in_order(keyed):
        values.append(part)
    low, high = (_quantile(values, q) for q in (0.005, 0.995))
    reach = max(abs(low), abs(high)) or 1.0
    counts = Counts("error", ends=(-reach, reach))
    for error, weight in parts():
        counts.add(error, {"error": weight})
    return counts.result()


def _quantile(values: Spool, q: float) -> float:
    """With linear interpolation between the two nearest of sorted values."""
    at = q * (values.shape[0] - 1)
    near = values[int(at) : int(at) + 2]["key"]
    return float(near[0] + (near[-1] - near[0]) * (at - int(at)))


class Cumulated:
    """Weights above each distinct score of rows in descending order.

    Of many rows, those points are kept that the eye can tell apart: the first ten thousand, and
    then one for each 0.05% more rows.
    """

    def __init__(self) -> None:
        self._parts: list[Floats] = []
        self._rows, self._last = 0, np.nan
        self._sums = np.zeros(2)

    def add(self, scores: Floats, positive: Floats, negative: Floats) -> None:
        """Adds rows with their weights."""
        starts = run_starts(scores)
        if scores[0] == self._last:
            starts = starts[1:]
        above = np.stack([np.cumsum(positive), np.cumsum(negative)], axis=1)
        before = np.concatenate([[self._sums], self._sums + above])
        rank = self._rows + starts
        with np.errstate(divide="ignore"):
            many = _KEPT + np.log(np.maximum(rank, 1) / _KEPT) / _FINER
        first = run_starts(np.where(rank < _KEPT, rank, many.astype(np.int64)))
        kept = starts[first]
        self._parts.append(np.concatenate([scores[kept, None], before[kept]], axis=1))
        self._rows += len(scores)
        self._last = scores[-1]
        self._sums = before[-1]

    def points(self) -> tuple[Floats, Floats, Floats]:
        """Score, positive and negative weight above it; the last point is below all rows."""
        points = np.concatenate([*self._parts, [[0.0, *self._sums]]])
        return points[:, 0], points[:, 1], points[:, 2]


_KEPT, _FINER = 10_000, 0.0005


def roc_curve(cumulated: Cumulated) -> RocCurve | None:
    """The ROC curve; None without both classes."""
    # "strictly above" the next lower score is "at least" this one.
    thresholds, true, false = cumulated.points()
    if not (true[-1] > 0 and false[-1] > 0):
        return None
    fpr, tpr = false / false[-1], true / true[-1]
    at = thin(fpr, tpr)
    return RocCurve(
        false_positive_rates=as_floats(fpr[at]),
        true_positive_rates=as_floats(tpr[at]),
        thresholds=as_floats(thresholds[at]),
    )


def precision_recall_curve(cumulated: Cumulated) -> PrecisionRecallCurve | None:
    """The precision-recall curve; None without positives."""
    _, true, false = cumulated.points()
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
