"""Rows of an evaluation, validated and sorted once, and the metrics of any run of them.

Layer 3. Every slice is a run of rows in the sorted order, and every metric is a function of
such a run and of multipliers of the row weights, so that point estimates and bootstrap
replicates share one code path. NaN stands for "undefined" here and only here.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from estimator_lib.core.errors import DataError, Reason
from estimator_lib.evaluation.curves import (
    ConfusionMatrix,
    Curves,
    as_floats,
    equal_count_bins,
    histogram,
    precision_recall_curve,
    reliability,
    roc_curve,
    run_starts,
)
from estimator_lib.evaluation.metrics import LOG_EPSILON, TOP_K, Floats, Ints, Problem, Task, names

Replicates = Floats
"""Multipliers of the row weights, float64 `[replicates, rows]`."""


class Segment(Protocol):
    """A run of rows, ready to be measured as often as wanted."""

    rows: int

    def measure(self, multipliers: Replicates) -> dict[str, Floats]:
        """Each metric per replicate, float64 `[replicates]`, NaN where undefined."""

    def why(self, name: str) -> str:
        """Why `name` is undefined here."""


class Table(Protocol):
    """All rows of an evaluation, validated and sorted once.

    Attributes:
        order: Position of each sorted row in the caller's arrays.
        cost: Passes over the rows that one replicate takes, about.
    """

    order: Ints
    cost: int
    metric_names: tuple[str, ...]

    def segment(self, rows: Ints | slice) -> Segment:
        """The rows at these ascending positions of the sorted order."""

    def curves(self) -> Curves:
        """What can be drawn of all rows."""


def table(
    task: Task | Problem,
    labels: npt.ArrayLike,
    predictions: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
) -> Table:
    """Validates the arrays of an evaluation of one label and sorts them.

    Args:
        task: Which kind of model: "binary", "multiclass", "regression" or "quantile".
        labels: `[rows]` or `[rows, 1]`: 0 or 1, a class id, or a finite number.
        predictions: Probability of class 1 `[rows]` or `[rows, 1]`; class probabilities
            `[rows, classes]`; predicted numbers `[rows]`, or quantiles `[rows, levels]`. Rows
            that are not finite make the metrics of every slice they are in undefined.
        weights: `[rows]`, finite and >= 0; None means 1 each.

    Raises:
        DataError: lengths differ, a label or a weight is outside its range, a finite
            prediction is no probability.
    """
    problem = task if isinstance(task, Problem) else Problem(task=task)
    y = _vector("labels", labels)
    rows = len(y)
    w = checked_weights(weights, rows)
    p = _checked_predictions(problem, predictions)
    _same_length("predictions", len(p), rows)
    if problem.task in ("regression", "quantile"):
        _check_labels(y, np.isfinite(y), "a finite number")
        if problem.task == "quantile":
            return _QuantileTable(y, p, w, problem.quantiles)
        return _RegressionTable(y, p, w)
    classes = 2 if problem.task == "binary" else p.shape[1]
    fits = (y >= 0) & (y < classes) & (y == np.floor(y))
    _check_labels(y, fits, "0 or 1" if classes == 2 else f"a class from 0 to {classes - 1}")
    _check_probabilities(p)
    if problem.task == "binary":
        return _BinaryTable(y, p, w, problem.classes)
    return _MulticlassTable(y, p, w, problem.classes)


def checked_weights(weights: npt.ArrayLike | None, rows: int) -> Floats:
    """The weights of the rows, float64 `[rows]`; ones if there are none.

    Raises:
        DataError: there are more or fewer than rows, or one is negative or not finite.
    """
    w = np.ones(rows) if weights is None else _vector("weights", weights)
    _same_length("weights", len(w), rows)
    if not (np.isfinite(w).all() and (w >= 0).all()):
        at = int(np.flatnonzero(~(np.isfinite(w) & (w >= 0)))[0])
        raise DataError(
            f"Weight of evaluated row {at} is invalid: expected a finite number of at least 0, "
            f"got {w[at]}. Correct the weight field.",
            reason=Reason.WEIGHT_OUT_OF_RANGE,
        )
    return w


def _checked_predictions(problem: Problem, predictions: npt.ArrayLike) -> Floats:
    """Predictions in the shape of the task."""
    levels = problem.quantiles
    if problem.task == "multiclass":
        p = np.asarray(predictions, dtype=np.float64)
        if (
            p.ndim != 2
            or p.shape[1] < 2
            or (problem.classes and len(problem.classes) != p.shape[1])
        ):
            expected = len(problem.classes) or "classes"
            raise _wrong_shape("multi-class", f"[rows, {expected}]", p, "the class probabilities")
        return p
    if problem.task == "quantile":
        p = np.asarray(predictions, dtype=np.float64)
        p = p.reshape(-1, 1) if p.ndim == 1 and len(levels) == 1 else p
        if p.ndim != 2 or not levels or p.shape[1] != len(levels):
            raise _wrong_shape("quantile", f"[rows, {len(levels)}]", p, "one column per level")
        return p
    return _vector("predictions", predictions)


def _wrong_shape(kind: str, expected: str, got: Floats, fix: str) -> DataError:
    return DataError(
        f"Predictions of a {kind} model have the wrong shape: expected {expected}, got "
        f"{list(got.shape)}. Pass {fix}.",
        reason=Reason.TYPE_MISMATCH,
    )


def _vector(what: str, values: npt.ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise DataError(
            f"Array {what!r} has the wrong shape: expected [rows], got {list(array.shape)}. "
            "Pass one value per row.",
            reason=Reason.TYPE_MISMATCH,
        )
    return array


def _same_length(what: str, got: int, expected: int) -> None:
    if got != expected:
        raise DataError(
            f"Array {what!r} has the wrong length: expected {expected} (that of the labels), "
            f"got {got}. Pass one value per row.",
            reason=Reason.TYPE_MISMATCH,
        )


def _check_labels(y: Floats, fits: npt.NDArray[np.bool_], expected: str) -> None:
    if not fits.all():
        at = int(np.flatnonzero(~fits)[0])
        raise DataError(
            f"Label of evaluated row {at} is out of range: expected {expected}, got {y[at]:g}. "
            "Correct the label field or the number of classes.",
            reason=Reason.LABEL_OUT_OF_RANGE,
        )


def _check_probabilities(p: Floats) -> None:
    finite = np.isfinite(p) if p.ndim == 1 else np.isfinite(p).all(axis=1)
    good = p[finite]
    fits = (good >= 0) & (good <= 1)
    if p.ndim == 2:
        fits = fits.all(axis=1) & (np.abs(good.sum(axis=1) - 1) < 1e-3)
    if not fits.all():
        at = int(np.flatnonzero(finite)[np.flatnonzero(~fits)[0]])
        raise DataError(
            f"Prediction of evaluated row {at} is no probability: expected values from 0 to 1"
            f"{' that add up to 1' if p.ndim == 2 else ''}, got {p[at]}. "
            "Pass probabilities, not logits.",
            reason=Reason.INVALID_VALUE,
        )


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    result = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=result, where=denominator > 0)
    return result


def _rank(
    positive: Floats, negative: Floats, starts: Ints, *, precision: bool
) -> tuple[Floats, Floats | None]:
    """AUC and average precision of rows in descending order of score.

    Args:
        positive: Weight where the label is positive, else 0, `[replicates, rows]`.
        negative: Weight where it is negative, else 0.
        starts: Where runs of equal scores begin.
        precision: Whether average precision is wanted.
    """
    if 0 < len(starts) < positive.shape[1]:
        positive = np.add.reduceat(positive, starts, axis=1)
        negative = np.add.reduceat(negative, starts, axis=1)
    true = np.cumsum(positive, axis=1)
    p = positive.sum(axis=1)
    n = negative.sum(axis=1)
    above = np.einsum("ij,ij->i", negative, true) - 0.5 * np.einsum("ij,ij->i", negative, positive)
    auc = _ratio(above, p * n)
    if not precision:
        return auc, None
    called = np.cumsum(negative, axis=1)
    called += true
    # Before the first row of weight nothing is called positive; there `positive` is 0 too.
    np.divide(true, called, out=true, where=called > 0)
    return auc, _ratio(np.einsum("ij,ij->i", positive, true), p)


def _bin_sums(x: Floats, starts: Ints, multipliers: Replicates) -> Floats:
    """Sums of each column per replicate and bin, `[bins, replicates, columns]`."""
    ends = np.append(starts[1:], len(x))
    if not len(starts):
        return np.zeros((1, len(multipliers), x.shape[1]))
    return np.stack([multipliers[:, a:b] @ x[a:b] for a, b in zip(starts, ends, strict=True)])


def _common_reason(rows: int, weight: float, not_finite: int) -> str | None:
    if rows == 0:
        return "there are no rows"
    if not_finite:
        return f"{not_finite} of {rows} predictions are not finite"
    if not weight > 0:
        return "the total weight is zero"
    return None


# --- Binary -----------------------------------------------------------------------------------


class _BinaryTable:
    cost = 1

    def __init__(self, y: Floats, p: Floats, w: Floats, classes: tuple[str, ...] = ()) -> None:
        self.metric_names = names(Problem(task="binary"))
        self.classes = classes
        finite = np.isfinite(p)
        scores = np.where(finite, p, 0.5)
        self.order = np.argsort(-scores, kind="stable")
        self.y, self.p, self.w = y[self.order], scores[self.order], w[self.order]
        self.bad = ~finite[self.order]
        self.bins = equal_count_bins(self.p)
        clipped = np.clip(self.p, LOG_EPSILON, 1 - LOG_EPSILON)
        called = self.p > 0.5
        positive = self.y == 1
        self.x = np.stack(
            [
                np.ones(len(y)),
                self.y,
                self.p,
                -np.log(np.where(positive, clipped, 1 - clipped)),
                called == positive,
                called,
                called & positive,
                (self.p - self.y) ** 2,
            ],
            axis=1,
        )
        self.x *= self.w[:, None]

    def segment(self, rows: Ints | slice) -> _BinarySegment:
        return _BinarySegment(self, rows)

    def curves(self) -> Curves:
        y, p, w = self.y, self.p, self.w
        if self.bad.any() or not w.sum() > 0:
            return Curves()
        positive, negative = w * y, w * (1 - y)
        called = p > 0.5
        counts = [
            [float(part[~called].sum()), float(part[called].sum())] for part in (negative, positive)
        ]
        return Curves(
            roc=roc_curve(p, positive, negative),
            precision_recall=precision_recall_curve(p, positive, negative),
            reliability=reliability(p, y, w, self.bins, proportion=True),
            histogram=histogram(
                "probability", p, {"negative": negative, "positive": positive}, step=0.05
            ),
            confusion=ConfusionMatrix(
                classes=self.classes or ("0", "1"),
                counts=tuple(tuple(row) for row in counts),
                threshold=0.5,
            ),
        )


class _BinarySegment:
    def __init__(self, source: _BinaryTable, rows: Ints | slice) -> None:
        self.x = source.x[rows]
        self.rows = len(self.x)
        self.ties = run_starts(source.p[rows])
        self.bins = run_starts(source.bins[rows])
        self.not_finite = int(source.bad[rows].sum())
        self.positive = self.x[:, 1].copy()
        self.negative = self.x[:, 0] - self.positive

    def measure(self, multipliers: Replicates) -> dict[str, Floats]:
        sums = _bin_sums(self.x, self.bins, multipliers)
        gap = np.abs(sums[:, :, 2] - sums[:, :, 1]).sum(axis=0)
        w, y, p, loss, right, called, hits, squared = sums.sum(axis=0).T
        auc, average = _rank(
            multipliers * self.positive, multipliers * self.negative, self.ties, precision=True
        )
        assert average is not None  # noqa: S101 - asked for above
        values = {
            "auc": auc,
            "auc_precision_recall": average,
            "loss": _ratio(loss, w),
            "accuracy": _ratio(right, w),
            "precision": _ratio(hits, called),
            "recall": _ratio(hits, y),
            "label_mean": _ratio(y, w),
            "prediction_mean": _ratio(p, w),
            "calibration": _ratio(p, y),
            "ece": _ratio(gap, w),
            "brier": _ratio(squared, w),
        }
        return _hide(values, hide=bool(self.not_finite))

    def why(self, name: str) -> str:
        weight, positive = float(self.x[:, 0].sum()), float(self.positive.sum())
        common = _common_reason(self.rows, weight, self.not_finite)
        if common:
            return common
        if name == "precision":
            return "no row is predicted positive"
        return (
            "there are no positive labels" if not positive > 0 else "there are no negative labels"
        )


def _hide(values: dict[str, Floats], *, hide: bool) -> dict[str, Floats]:
    return {k: np.full_like(v, np.nan) for k, v in values.items()} if hide else values


# --- Multi-class ------------------------------------------------------------------------------


class _MulticlassTable:
    def __init__(self, y: Floats, p: Floats, w: Floats, called: tuple[str, ...] = ()) -> None:
        rows, self.classes = p.shape
        self.called = called or tuple(str(c) for c in range(self.classes))
        self.cost = 1 + self.classes
        self.metric_names = names(Problem(task="multiclass", classes=self.called))
        finite = np.all(np.isfinite(p), axis=1).reshape(rows)
        scores = np.where(finite[:, None], p, 1 / self.classes)
        confidence = scores.max(axis=1) if rows else np.zeros(0)
        self.order = np.argsort(-confidence, kind="stable")
        self.p = scores[self.order]
        self.y = y[self.order].astype(np.intp)
        self.w = w[self.order]
        self.bad = ~finite[self.order]
        self.confidence = confidence[self.order]
        self.bins = equal_count_bins(self.confidence)
        mine = self.p[np.arange(rows), self.y]
        earlier = np.arange(self.classes) < self.y[:, None]
        # The rank agrees with argmax: among equal probabilities the smaller class wins.
        self.place: Ints = np.sum(self.p > mine[:, None], axis=1, dtype=np.intp)
        self.place += np.sum((self.p == mine[:, None]) & earlier, axis=1, dtype=np.intp)
        squared = (self.p**2).sum(axis=1) - 2 * mine + 1
        self.tops = [k for k in TOP_K if k < self.classes]
        self.x = np.stack(
            [
                np.ones(rows),
                -np.log(np.clip(mine, LOG_EPSILON, 1)),
                self.place == 0,
                self.confidence,
                squared,
                *(self.place < k for k in self.tops),
            ],
            axis=1,
        )
        self.x *= self.w[:, None]

    def segment(self, rows: Ints | slice) -> _MulticlassSegment:
        return _MulticlassSegment(self, rows)

    def curves(self) -> Curves:
        if self.bad.any() or not self.w.sum() > 0:
            return Curves()
        right = (self.place == 0).astype(np.float64)
        cells: Floats = (
            np.bincount(
                self.y * self.classes + self.p.argmax(axis=1),
                weights=self.w,
                minlength=self.classes**2,
            )
            .reshape(self.classes, self.classes)
            .astype(np.float64)
        )
        return Curves(
            reliability=reliability(self.confidence, right, self.w, self.bins, proportion=True),
            histogram=histogram(
                "confidence",
                self.confidence,
                {"wrong": self.w * (1 - right), "right": self.w * right},
                step=0.05,
            ),
            confusion=ConfusionMatrix(
                classes=self.called,
                counts=tuple(as_floats(row) for row in cells),
            ),
        )


class _MulticlassSegment:
    def __init__(self, source: _MulticlassTable, rows: Ints | slice) -> None:
        self.x = source.x[rows]
        self.rows = len(self.x)
        self.tops = source.tops
        self.bins = run_starts(source.bins[rows])
        self.not_finite = int(source.bad[rows].sum())
        self.w, y, p = source.w[rows], source.y[rows], source.p[rows]
        self.ranked: list[tuple[Ints, Floats, Floats, Ints]] = []
        for c in np.unique(y):
            order = np.argsort(-p[:, c], kind="stable")
            mine = np.where(y[order] == c, self.w[order], 0.0)
            self.ranked.append((order, mine, self.w[order] - mine, run_starts(p[order, c])))

    def measure(self, multipliers: Replicates) -> dict[str, Floats]:
        sums = _bin_sums(self.x, self.bins, multipliers)
        gap = np.abs(sums[:, :, 3] - sums[:, :, 2]).sum(axis=0)
        w, loss, right, _, squared, *tops = sums.sum(axis=0).T
        total = np.zeros(len(multipliers))
        defined = np.zeros(len(multipliers))
        for order, mine, others, ties in self.ranked:
            drawn = multipliers[:, order]
            auc, _ = _rank(drawn * mine, drawn * others, ties, precision=False)
            known = np.isfinite(auc)
            total += np.where(known, auc, 0.0)
            defined += known
        values = {
            "accuracy": _ratio(right, w),
            "auc": _ratio(total, defined),
            "loss": _ratio(loss, w),
            "ece": _ratio(gap, w),
            "brier": _ratio(squared, w),
        }
        for k, hits in zip(self.tops, tops, strict=True):
            values[f"top_{k}_accuracy"] = _ratio(hits, w)
        return _hide(values, hide=bool(self.not_finite))

    def why(self, name: str) -> str:
        common = _common_reason(self.rows, float(self.w.sum()), self.not_finite)
        return common or f"{name} needs labels of at least two classes"


# --- Regression -------------------------------------------------------------------------------


class _RegressionTable:
    cost = 1

    def __init__(self, y: Floats, p: Floats, w: Floats) -> None:
        self.metric_names = names(Problem(task="regression"))
        finite = np.isfinite(p)
        values = np.where(finite, p, 0.0)
        self.order = np.argsort(values, kind="stable")
        self.y, self.p, self.w = y[self.order], values[self.order], w[self.order]
        self.bad = ~finite[self.order]
        self.bins = equal_count_bins(self.p)
        self.centre = float(self.y.mean()) if len(y) else 0.0
        error = self.p - self.y
        self.counts: npt.NDArray[np.bool_] = np.logical_and(self.y >= 0, self.p > 0)
        self.x = np.stack(
            [
                np.ones(len(y)),
                self.y - self.centre,
                self.p,
                error**2,
                np.abs(error),
                (self.y - self.centre) ** 2,
                _poisson_deviance(self.y, self.p, self.counts),
            ],
            axis=1,
        )
        self.x *= self.w[:, None]

    def segment(self, rows: Ints | slice) -> _RegressionSegment:
        return _RegressionSegment(self, rows)

    def curves(self) -> Curves:
        if self.bad.any() or not self.w.sum() > 0:
            return Curves()
        return Curves(
            reliability=reliability(self.p, self.y, self.w, self.bins, proportion=False),
            histogram=histogram("error", self.p - self.y, {"error": self.w}, step=None),
        )


class _RegressionSegment:
    def __init__(self, source: _RegressionTable, rows: Ints | slice) -> None:
        self.x = source.x[rows]
        self.rows = len(self.x)
        self.centre = source.centre
        self.not_finite = int(source.bad[rows].sum())
        labels = source.y[rows][source.w[rows] > 0]
        self.constant = not len(labels) or bool(labels.min() == labels.max())
        self.counts = bool(source.counts[rows].all())

    def measure(self, multipliers: Replicates) -> dict[str, Floats]:
        w, y, p, squared, absolute, spread, deviance = (multipliers @ self.x).T
        mse = _ratio(squared, w)
        with np.errstate(divide="ignore", invalid="ignore"):
            total = spread - y**2 / w
        r2 = 1 - _ratio(squared, total)
        values = {
            "rmse": np.sqrt(mse),
            "mae": _ratio(absolute, w),
            "loss": mse,
            "r2": np.full_like(r2, np.nan) if self.constant else r2,
            "label_mean": _ratio(y, w) + self.centre,
            "prediction_mean": _ratio(p, w),
            "poisson_deviance": _ratio(deviance, w if self.counts else np.zeros_like(w)),
        }
        return _hide(values, hide=bool(self.not_finite))

    def why(self, name: str) -> str:
        common = _common_reason(self.rows, float(self.x[:, 0].sum()), self.not_finite)
        if not common and name == "poisson_deviance":
            return "a label is negative or a prediction is not positive"
        return common or f"{name} needs labels that differ"


def _poisson_deviance(y: Floats, p: Floats, counts: npt.NDArray[np.bool_]) -> Floats:
    """Twice y log(y / p) - y + p per row; 0 where it is undefined."""
    safe_y, safe_p = np.where(counts, y, 1.0), np.where(counts, p, 1.0)
    logs = np.log(np.where(safe_y > 0, safe_y, 1.0) / safe_p)
    return 2 * (safe_y * logs - safe_y + safe_p)


# --- Quantiles --------------------------------------------------------------------------------


class _QuantileTable:
    cost = 1

    def __init__(self, y: Floats, p: Floats, w: Floats, levels: tuple[float, ...]) -> None:
        self.levels = np.array(levels)
        self.metric_names = names(Problem(task="quantile", quantiles=levels))
        self.bad: npt.NDArray[np.bool_] = ~np.all(np.isfinite(p), axis=1).reshape(len(p))
        self.order = np.arange(len(y))
        self.y, self.w = y, w
        self.p = np.where(self.bad[:, None], 0.0, p)
        error = self.y[:, None] - self.p
        self.x = np.concatenate(
            [
                np.ones((len(y), 1)),
                y[:, None],
                ((y >= self.p[:, 0]) & (y <= self.p[:, -1]))[:, None],
                (self.p[:, -1] - self.p[:, 0])[:, None],
                np.maximum(self.levels * error, (self.levels - 1) * error),
                error <= 0,
            ],
            axis=1,
        )
        self.x *= w[:, None]

    def segment(self, rows: Ints | slice) -> _QuantileSegment:
        return _QuantileSegment(self, rows)

    def curves(self) -> Curves:
        if self.bad.any() or not self.w.sum() > 0:
            return Curves()
        middle = int(np.abs(self.levels - 0.5).argmin())
        return Curves(
            histogram=histogram("error", self.p[:, middle] - self.y, {"error": self.w}, step=None)
        )


class _QuantileSegment:
    def __init__(self, source: _QuantileTable, rows: Ints | slice) -> None:
        self.x = source.x[rows]
        self.rows = len(self.x)
        self.levels = source.levels
        self.not_finite = int(source.bad[rows].sum())

    def measure(self, multipliers: Replicates) -> dict[str, Floats]:
        w, y, inside, width, *each = (multipliers @ self.x).T
        losses, below = each[: len(self.levels)], each[len(self.levels) :]
        values = {"label_mean": _ratio(y, w)}
        missed = []
        for level, loss, share in zip(self.levels, losses, below, strict=True):
            values[f"pinball/{level:g}"] = _ratio(loss, w)
            values[f"coverage/{level:g}"] = _ratio(share, w)
            missed.append(np.abs(values[f"coverage/{level:g}"] - level))
        values["pinball"] = _ratio(np.mean(losses, axis=0), w)
        values["coverage_error"] = np.mean(missed, axis=0)
        if len(self.levels) > 1:
            values["interval_coverage"] = _ratio(inside, w)
            values["interval_width"] = _ratio(width, w)
        return _hide(values, hide=bool(self.not_finite))

    def why(self, name: str) -> str:
        common = _common_reason(self.rows, float(self.x[:, 0].sum()), self.not_finite)
        return common or f"{name} has no value"
