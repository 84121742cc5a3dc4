"""Rows of an evaluation, validated and sorted once, and the metrics of any groups of them.

Layer 3. A table reads its rows in blocks, in descending order of the score where a metric needs an
order, and adds each block to the sums of the group that the row is in. So the memory depends on
the groups and not on the rows, and every metric is exact. A row's multiplicity in a bootstrap
replicate is a function of its number: all labels, heads, models and groups draw the same rows.
NaN stands for "undefined" here and only here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from estimator_lib.core.errors import DataError, Reason
from estimator_lib.evaluation.curves import (
    ConfusionMatrix,
    Counts,
    Cumulated,
    Curves,
    Reliability,
    as_floats,
    bin_edges,
    errors,
    precision_recall_curve,
    roc_curve,
    run_starts,
)
from estimator_lib.evaluation.metrics import LOG_EPSILON, TOP_K, Floats, Ints, Problem, Task, names
from estimator_lib.evaluation.spool import BLOCK, Array, Rows, Spool, blocks, in_order

SEED = 20160813
_MULTIPLIERS = 1_000_000
"""Multiplicities that are held at once."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Groups:
    """Which rows are measured together.

    Attributes:
        grouping: Which of the table's columns of codes tells them apart; None for one group.
        numbers: The group of each code, -1 for none, int64 `[codes]`.
        count: How many groups there are.
    """

    grouping: int | None = None
    numbers: npt.NDArray[np.int64] = dataclasses.field(default_factory=lambda: np.zeros(1, int))
    count: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measures:
    """Metrics of groups.

    Attributes:
        values: By metric, float64 `[groups, 1 + replicates]`: the value, then its replicates; NaN
            where undefined.
        rows: Of each group.
        why: Says why a metric is undefined in a group.
    """

    values: Mapping[str, Floats]
    rows: Sequence[int]
    why: Callable[[int, str], str]


class Table(Protocol):
    """All rows of an evaluation, validated once.

    Attributes:
        rows: How many.
        cost: Passes over the rows that one replicate takes, about.
        metric_names: Most telling first.
    """

    rows: int
    cost: int
    metric_names: tuple[str, ...]

    def measure(self, groups: Groups, replicates: int) -> Measures:
        """The metrics of groups of rows and of their bootstrap replicates."""

    def curves(self) -> Curves:
        """What can be drawn of all rows."""


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
    given = _Given(problem, labels, predictions, weights, codes)
    match problem.task:
        case "binary":
            return _BinaryTable(given, problem.classes)
        case "multiclass":
            return _MulticlassTable(given, problem.classes)
        case "quantile":
            return _QuantileTable(given, problem.quantiles)
    return _RegressionTable(given)


# --- What is given ----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Block:
    """Rows of the arrays, checked; `bad` ones have a prediction that is not finite."""

    y: Floats
    p: Floats
    w: Floats
    bad: npt.NDArray[np.bool_]
    row: Ints
    codes: npt.NDArray[np.int32]

    def records(self, **fields: Array) -> Array:
        """Structured rows of the weights, `fields` and what every table needs."""
        fields = {"w": self.w, "bad": self.bad, "row": self.row, "codes": self.codes, **fields}
        dtype = [(name, values.dtype, values.shape[1:]) for name, values in fields.items()]
        result = np.empty(len(self.y), dtype)
        for name, values in fields.items():
            result[name] = values
        return result


class _Given:
    """The arrays of an evaluation, of one length and in the shape of the task."""

    def __init__(
        self,
        problem: Problem,
        labels: npt.ArrayLike | Rows,
        predictions: npt.ArrayLike | Rows,
        weights: npt.ArrayLike | Rows | None,
        codes: Sequence[Rows],
    ) -> None:
        self._task = problem.task
        self._labels = _vector("labels", labels)
        self.rows = self._labels.shape[0]
        self._weights = None if weights is None else checked_weights(weights, self.rows)
        self._predictions = _checked_predictions(problem, predictions)
        _same_length("predictions", self._predictions.shape[0], self.rows)
        self._codes = codes
        self.columns = self._predictions.shape[1] if len(self._predictions.shape) > 1 else 1

    def blocks(self) -> Iterator[_Block]:
        """All rows, checked."""
        for first in range(0, self.rows, BLOCK):
            part = slice(first, first + BLOCK)
            y, p = _block(self._labels, part), _block(self._predictions, part, self._task)
            if self._task in ("regression", "quantile"):
                _check_labels(y, np.isfinite(y), "a finite number", first)
            else:
                classes = 2 if self._task == "binary" else self.columns
                fits = (y >= 0) & (y < classes) & (y == np.floor(y))
                expected = "0 or 1" if classes == 2 else f"a class from 0 to {classes - 1}"
                _check_labels(y, fits, expected, first)
                _check_probabilities(p, first)
            finite = _finite(p)
            neutral = {"binary": 0.5, "multiclass": 1 / self.columns}.get(self._task, 0.0)
            codes = [np.asarray(own[part], np.int32) for own in self._codes]
            yield _Block(
                y=y,
                p=np.where(finite if p.ndim == 1 else finite[:, None], p, neutral),
                w=np.ones(len(y)) if self._weights is None else _block(self._weights, part),
                bad=~finite,
                row=np.arange(first, first + len(y)),
                codes=np.stack(codes, axis=1) if codes else np.zeros((len(y), 0), np.int32),
            )


def _finite(p: Floats) -> npt.NDArray[np.bool_]:
    """Which rows have only finite predictions."""
    finite: npt.NDArray[np.bool_] = np.isfinite(p).reshape(len(p), -1)
    return np.logical_and.reduce(finite, axis=1)


def as_rows(values: npt.ArrayLike | Rows) -> Rows:
    """The values as something that can be read piece by piece."""
    if hasattr(values, "shape") and hasattr(values, "__getitem__"):
        return values  # type: ignore[return-value]
    return np.asarray(values, dtype=np.float64)


def _block(rows: Rows, part: slice, task: Task | None = None) -> Floats:
    """A block as numbers; a column of width 1 is a vector, but for quantiles and classes."""
    block = np.asarray(rows[part], dtype=np.float64)
    if task in ("quantile", "multiclass"):
        return block.reshape(len(block), -1)
    return block.reshape(len(block))


def checked_weights(weights: npt.ArrayLike | Rows | None, rows: int) -> Rows:
    """The weights of the rows, `[rows]`; ones if there are none.

    Raises:
        DataError: there are more or fewer than rows, or one is negative or not finite.
    """
    if weights is None:
        return np.ones(rows)
    given = _vector("weights", weights)
    _same_length("weights", given.shape[0], rows)
    for first, block in blocks(given):
        w = np.asarray(block, dtype=np.float64).reshape(len(block))
        if not (np.isfinite(w).all() and (w >= 0).all()):
            at = int(np.flatnonzero(~(np.isfinite(w) & (w >= 0)))[0])
            raise DataError(
                f"Weight of evaluated row {first + at} is invalid: expected a finite number of at "
                f"least 0, got {w[at]}. Correct the weight field.",
                reason=Reason.WEIGHT_OUT_OF_RANGE,
            )
    return given


def _checked_predictions(problem: Problem, predictions: npt.ArrayLike | Rows) -> Rows:
    """Predictions in the shape of the task."""
    if problem.task not in ("multiclass", "quantile"):
        return _vector("predictions", predictions)
    p, levels = as_rows(predictions), len(problem.quantiles)
    shape = p.shape
    if problem.task == "multiclass":
        named = len(problem.classes)
        if len(shape) != 2 or shape[1] < 2 or (named and named != shape[1]):
            expected = f"[rows, {named or 'classes'}]"
            raise _wrong_shape("multi-class", expected, shape, "the class probabilities")
    elif not levels or (shape[1:] != (levels,) and not (levels == 1 and len(shape) == 1)):
        raise _wrong_shape("quantile", f"[rows, {levels}]", shape, "one column per level")
    return p


def _wrong_shape(kind: str, expected: str, got: tuple[int, ...], fix: str) -> DataError:
    return DataError(
        f"Predictions of a {kind} model have the wrong shape: expected {expected}, got "
        f"{list(got)}. Pass {fix}.",
        reason=Reason.TYPE_MISMATCH,
    )


def _vector(what: str, values: npt.ArrayLike | Rows) -> Rows:
    rows = as_rows(values)
    if len(rows.shape) != 1 and rows.shape[1:] != (1,):
        raise DataError(
            f"Array {what!r} has the wrong shape: expected [rows], got {list(rows.shape)}. "
            "Pass one value per row.",
            reason=Reason.TYPE_MISMATCH,
        )
    return rows


def _same_length(what: str, got: int, expected: int) -> None:
    if got != expected:
        raise DataError(
            f"Array {what!r} has the wrong length: expected {expected} (that of the labels), "
            f"got {got}. Pass one value per row.",
            reason=Reason.TYPE_MISMATCH,
        )


def _check_labels(y: Floats, fits: npt.NDArray[np.bool_], expected: str, first: int) -> None:
    if not fits.all():
        at = int(np.flatnonzero(~fits)[0])
        raise DataError(
            f"Label of evaluated row {first + at} is out of range: expected {expected}, got "
            f"{y[at]:g}. Correct the label field or the number of classes.",
            reason=Reason.LABEL_OUT_OF_RANGE,
        )


def _check_probabilities(p: Floats, first: int) -> None:
    finite = _finite(p)
    good = p[finite]
    fits = (good >= 0) & (good <= 1)
    if p.ndim == 2:
        fits = fits.all(axis=1) & (np.abs(good.sum(axis=1) - 1) < 1e-3)
    if not fits.all():
        at = int(np.flatnonzero(finite)[np.flatnonzero(~fits)[0]])
        raise DataError(
            f"Prediction of evaluated row {first + at} is no probability: expected values from 0 "
            f"to 1{' that add up to 1' if p.ndim == 2 else ''}, got {p[at]}. "
            "Pass probabilities, not logits.",
            reason=Reason.INVALID_VALUE,
        )


# --- Passes over the rows ---------------------------------------------------------------------


class Sums(Protocol):
    """What is known of a group after some of its rows."""

    rows: int

    def values(self) -> dict[str, Floats]:
        """Each metric, `[1 + replicates]`."""

    def why(self, name: str) -> str:
        """Why `name` is undefined here."""


def add_rows(
    records: Rows,
    groups: Groups,
    replicates: int,
    derive: Callable[[Array], tuple[Array, ...]],
    adders: Sequence[Callable[..., None]],
) -> None:
    """Passes once over structured rows and gives each group its own, with their multiplicities.

    Args:
        records: With fields "row" and "codes", in the order that the groups want.
        groups: Which rows are together.
        replicates: Of the multiplicities.
        derive: Computes of a block what is added, arrays `[rows, ...]`.
        adders: Of each group; takes what `derive` gave, and multiplicities
            `[1 + replicates, rows]`.
    """
    size = min(BLOCK, max(1024, _MULTIPLIERS // (1 + replicates)))
    for _, block in blocks(records, size):
        drawn = multiplicities(block["row"], replicates)
        columns = derive(block)
        if groups.grouping is None:
            adders[0](*columns, drawn)
            continue
        number = groups.numbers[block["codes"][:, groups.grouping]]
        order = np.argsort(number, kind="stable")
        number, drawn = number[order], drawn[:, order]
        columns = tuple(column[order] for column in columns)
        starts = run_starts(number)
        for a, b in zip(starts, [*starts[1:], len(order)], strict=True):
            if number[a] >= 0:
                adders[number[a]](*(column[a:b] for column in columns), drawn[:, a:b])


def measures(sums: Sequence[Sums]) -> Measures:
    """What the groups' sums amount to."""
    found = [own.values() for own in sums]
    return Measures(
        values={name: np.stack([own[name] for own in found]) for name in found[0]} if found else {},
        rows=[own.rows for own in sums],
        why=lambda group, name: sums[group].why(name),
    )


def multiplicities(rows: Ints, replicates: int) -> Floats:
    """How often each replicate draws each row, `[1 + replicates, rows]`; once in the first place.

    Poisson(1), by a hash (splitmix64) of the row's number and the replicate's.
    """
    result = np.ones((1 + replicates, len(rows)))
    if not replicates:
        return result
    with np.errstate(over="ignore"):
        x = rows.astype(np.uint64)[None, :] * np.uint64(0x9E3779B97F4A7C15)
        x = (
            x
            + (np.arange(1, 2 + (replicates - 1) // 4, dtype=np.uint64) * np.uint64(SEED))[:, None]
        )
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    # Each hash holds the 16-bit draws of four replicates.
    draws = x.view(np.uint16).reshape(len(x), len(rows), 4).transpose(0, 2, 1)
    result[1:] = _POISSON[draws.reshape(-1, len(rows))[:replicates]]
    return result


def _poisson_lookup() -> Floats:
    """Poisson(1) counts by a uniform 16-bit integer."""
    probability, cumulated, edges = float(np.exp(-1.0)), 0.0, []
    for k in range(1, 10):
        cumulated += probability
        edges.append(cumulated)
        probability /= k
    return np.searchsorted(edges, (np.arange(65536) + 0.5) / 65536).astype(np.float64)


_POISSON = _poisson_lookup()


def _store(parts: Iterator[Array]) -> Spool:
    result = Spool()
    for part in parts:
        result.append(part)
    return result


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """The quotient, NaN where the denominator is not positive."""
    result = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=result, where=denominator > 0)
    return result


class _Rank:
    """AUC and average precision of rows that come in descending order of score.

    Equal scores are one threshold, so the last one is open until another score comes.
    """

    def __init__(self, replicates: int) -> None:
        self.true, self.false = np.zeros(1 + replicates), np.zeros(1 + replicates)
        self._area, self._average = np.zeros(1 + replicates), np.zeros(1 + replicates)
        self._score = np.nan
        self._open = np.zeros((2, 1 + replicates, 1))

    def add(self, scores: Floats, mine: Floats, w: Floats, multipliers: Floats) -> None:
        """Adds rows with their weights, of which `mine` are those of the positive class."""
        positive = multipliers * mine
        negative = multipliers * w
        negative -= positive
        starts = run_starts(scores)
        if len(starts) < len(scores):
            positive = np.add.reduceat(positive, starts, axis=1)
            negative = np.add.reduceat(negative, starts, axis=1)
        if scores[0] == self._score:
            positive[:, 0] += self._open[0, :, 0]
            negative[:, 0] += self._open[1, :, 0]
        elif not np.isnan(self._score):
            self._close(*self._open)
        self._score = scores[-1]
        self._open = np.stack([positive[:, -1:], negative[:, -1:]])
        self._close(positive[:, :-1], negative[:, :-1])

    def _close(self, positive: Floats, negative: Floats) -> None:
        if not positive.shape[1]:
            return
        true = np.cumsum(positive, axis=1)
        true += self.true[:, None]
        called = np.cumsum(negative, axis=1)
        called += self.false[:, None]
        self.false = called[:, -1].copy()
        self._area += np.einsum("ij,ij->i", negative, true)
        self._area -= 0.5 * np.einsum("ij,ij->i", negative, positive)
        self.true = true[:, -1].copy()
        called += true
        # Before the first row of weight nothing is called positive; there `positive` is 0 too.
        np.divide(true, called, out=true, where=called > 0)
        self._average += np.einsum("ij,ij->i", positive, true)

    def finish(self) -> tuple[Floats, Floats]:
        """AUC and average precision."""
        self._close(*self._open)
        self._open = np.zeros_like(self._open)
        return ratio(self._area, self.true * self.false), ratio(self._average, self.true)


class _Binned:
    """Weighted sums of columns in each bin of the score."""

    def __init__(self, edges: Floats, replicates: int, columns: int) -> None:
        self._edges = edges
        self.sums = np.zeros((len(edges) + 1, 1 + replicates, columns))

    def add(self, scores: Floats, x: Floats, multipliers: Floats) -> None:
        """Adds rows whose bins come one after the other."""
        bins = np.searchsorted(self._edges, scores, side="left")
        starts = run_starts(bins)
        for a, b in zip(starts, [*starts[1:], len(x)], strict=True):
            self.sums[bins[a]] += multipliers[:, a:b] @ x[a:b]


def _common_reason(rows: int, weight: float, not_finite: int) -> str | None:
    if rows == 0:
        return "there are no rows"
    if not_finite:
        return f"{not_finite} of {rows} predictions are not finite"
    if not weight > 0:
        return "the total weight is zero"
    return None


def _hide(values: dict[str, Floats], *, hide: bool) -> dict[str, Floats]:
    return {k: np.full_like(v, np.nan) for k, v in values.items()} if hide else values


def _nothing_to_draw(records: Spool) -> bool:
    """Whether no row has weight, or a prediction is not finite."""
    weight, bad = 0.0, False
    for _, block in blocks(records):
        weight, bad = weight + float(block["w"].sum()), bad or bool(block["bad"].any())
    return bad or not weight > 0


# --- Binary -----------------------------------------------------------------------------------


class _BinaryTable:
    cost = 1

    def __init__(self, given: _Given, classes: tuple[str, ...]) -> None:
        self.rows = given.rows
        self.metric_names = names(Problem(task="binary"))
        self._classes = classes or ("0", "1")
        self._records = _store(in_order(b.records(key=-b.p, y=b.y) for b in given.blocks()))
        self._edges = bin_edges(self._records, descending=True)

    def measure(self, groups: Groups, replicates: int) -> Measures:
        sums = [_BinarySums(self._edges, replicates) for _ in range(groups.count)]
        add_rows(self._records, groups, replicates, _binary_columns, [own.add for own in sums])
        return measures(sums)

    def curves(self) -> Curves:
        if _nothing_to_draw(self._records):
            return Curves()
        points = Cumulated()
        bins = Reliability(self._edges)
        scores = Counts("probability", self._records, step=0.05)
        confusion = np.zeros((2, 2))
        for _, block in blocks(self._records):
            p, y, w = 0.0 - block["key"], block["y"], block["w"]
            positive, negative = w * y, w * (1 - y)
            points.add(p, positive, negative)
            bins.add(p, y, w)
            scores.add(p, {"negative": negative, "positive": positive})
            called = p > 0.5
            for at, part in enumerate((negative, positive)):
                confusion[at] += part[~called].sum(), part[called].sum()
        return Curves(
            roc=roc_curve(points),
            precision_recall=precision_recall_curve(points),
            reliability=bins.result(proportion=True),
            histogram=scores.result(),
            confusion=ConfusionMatrix(
                classes=self._classes,
                counts=tuple(as_floats(row) for row in confusion),
                threshold=0.5,
            ),
        )


def _binary_columns(records: Array) -> tuple[Array, ...]:
    """Scores, what is summed, weights of the positive rows and of all, bad rows."""
    y, w, p = records["y"], records["w"], 0.0 - records["key"]
    positive, called = y == 1, p > 0.5
    clipped = np.clip(p, LOG_EPSILON, 1 - LOG_EPSILON)
    loss = -np.log(np.where(positive, clipped, 1 - clipped))
    columns = [
        np.ones(len(y)), y, p, loss, called == positive, called, called & positive, (p - y) ** 2
    ]  # fmt: skip
    return p, np.stack(columns, axis=1) * w[:, None], w * y, w, records["bad"]


class _BinarySums:
    def __init__(self, edges: Floats, replicates: int) -> None:
        self.rows = self._not_finite = 0
        self._binned = _Binned(edges, replicates, columns=8)
        self._rank = _Rank(replicates)

    def add(
        self, p: Floats, x: Floats, positive: Floats, w: Floats, bad: Array, multipliers: Floats
    ) -> None:
        """Adds rows in descending order of their scores."""
        self._binned.add(p, x, multipliers)
        self._rank.add(p, positive, w, multipliers)
        self.rows += len(p)
        self._not_finite += int(bad.sum())

    def values(self) -> dict[str, Floats]:
        sums = self._binned.sums
        gap = np.abs(sums[:, :, 2] - sums[:, :, 1]).sum(axis=0)
        w, y, p, loss, right, called, hits, squared = sums.sum(axis=0).T
        auc, average = self._rank.finish()
        values = {
            "auc": auc,
            "auc_precision_recall": average,
            "loss": ratio(loss, w),
            "accuracy": ratio(right, w),
            "precision": ratio(hits, called),
            "recall": ratio(hits, y),
            "label_mean": ratio(y, w),
            "prediction_mean": ratio(p, w),
            "calibration": ratio(p, y),
            "ece": ratio(gap, w),
            "brier": ratio(squared, w),
        }
        return _hide(values, hide=bool(self._not_finite))

    def why(self, name: str) -> str:
        weight, positive = self._binned.sums[:, 0, :2].sum(axis=0)
        common = _common_reason(self.rows, weight, self._not_finite)
        if common:
            return common
        if name == "precision":
            return "no row is predicted positive"
        return (
            "there are no positive labels" if not positive > 0 else "there are no negative labels"
        )


# --- Multi-class ------------------------------------------------------------------------------


class _MulticlassTable:
    def __init__(self, given: _Given, called: tuple[str, ...]) -> None:
        self.rows, self._classes = given.rows, given.columns
        self._called = called or tuple(str(c) for c in range(self._classes))
        self._tops = [k for k in TOP_K if k < self._classes]
        self.cost = 1 + self._classes
        self.metric_names = names(Problem(task="multiclass", classes=self._called))
        self._records = _store(in_order(self._record(block) for block in given.blocks()))
        self._edges = bin_edges(self._records, descending=True)
        self._ranked = Spool()
        for c in range(self._classes):
            parts = (b.records(key=-b.p[:, c], mine=b.y == c) for b in given.blocks())
            for part in in_order(parts):
                self._ranked.append(part)

    def _record(self, block: _Block) -> Array:
        """By descending confidence: what is summed of each row."""
        y, p = block.y.astype(np.intp), block.p
        mine = p[np.arange(len(y)), y]
        earlier = np.arange(self._classes) < y[:, None]
        # The rank agrees with argmax: among equal probabilities the smaller class wins.
        place = np.sum(p > mine[:, None], axis=1)
        place += np.sum((p == mine[:, None]) & earlier, axis=1)
        return block.records(
            key=-p.max(axis=1),
            y=y,
            named=p.argmax(axis=1),
            place=place,
            mine=mine,
            squared=(p**2).sum(axis=1) - 2 * mine + 1,
        )

    def _columns(self, records: Array) -> tuple[Array, ...]:
        """Confidence, what is summed, bad rows."""
        confidence, place = 0.0 - records["key"], records["place"]
        columns = [
            np.ones(len(place)),
            -np.log(np.clip(records["mine"], LOG_EPSILON, 1)),
            place == 0,
            confidence,
            records["squared"],
            *(place < k for k in self._tops),
        ]
        return confidence, np.stack(columns, axis=1) * records["w"][:, None], records["bad"]

    def measure(self, groups: Groups, replicates: int) -> Measures:
        sums = [_MulticlassSums(self._edges, replicates, self._tops) for _ in range(groups.count)]
        add_rows(self._records, groups, replicates, self._columns, [own.add for own in sums])
        for c in range(self._classes):
            ranks = [_Rank(replicates) for _ in sums]
            of_class = _Part(self._ranked, c * self.rows, self.rows)
            add_rows(of_class, groups, replicates, _ranked_columns, [rank.add for rank in ranks])
            for own, rank in zip(sums, ranks, strict=True):
                own.add_auc(rank.finish()[0])
        return measures(sums)

    def curves(self) -> Curves:
        if _nothing_to_draw(self._records):
            return Curves()
        bins = Reliability(self._edges)
        confidence = Counts("confidence", self._records, step=0.05)
        cells = np.zeros(self._classes**2)
        for _, block in blocks(self._records):
            p, w, right = 0.0 - block["key"], block["w"], (block["place"] == 0).astype(np.float64)
            bins.add(p, right, w)
            confidence.add(p, {"wrong": w * (1 - right), "right": w * right})
            pairs = block["y"] * self._classes + block["named"]
            cells += np.bincount(pairs, weights=w, minlength=len(cells))
        matrix = cells.reshape(self._classes, self._classes)
        return Curves(
            reliability=bins.result(proportion=True),
            histogram=confidence.result(),
            confusion=ConfusionMatrix(
                classes=self._called, counts=tuple(as_floats(row) for row in matrix)
            ),
        )


@dataclasses.dataclass(frozen=True)
class _Part:
    """Some rows of a spool."""

    source: Spool
    first: int
    rows: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.rows,)

    def __getitem__(self, rows: slice) -> Array:
        start, stop, _ = rows.indices(self.rows)
        return self.source[self.first + start : self.first + stop]


def _ranked_columns(records: Array) -> tuple[Array, ...]:
    w = records["w"]
    return records["key"].copy(), w * records["mine"], w.copy()


class _MulticlassSums:
    def __init__(self, edges: Floats, replicates: int, tops: Sequence[int]) -> None:
        self.rows = self._not_finite = 0
        self._tops = tops
        self._binned = _Binned(edges, replicates, columns=5 + len(tops))
        self._auc, self._defined = np.zeros(1 + replicates), np.zeros(1 + replicates)

    def add(self, confidence: Floats, x: Floats, bad: Array, multipliers: Floats) -> None:
        """Adds rows in descending order of their confidence."""
        self._binned.add(confidence, x, multipliers)
        self.rows += len(x)
        self._not_finite += int(bad.sum())

    def add_auc(self, auc: Floats) -> None:
        """Adds one class against the rest."""
        known = np.isfinite(auc)
        self._auc += np.where(known, auc, 0.0)
        self._defined += known

    def values(self) -> dict[str, Floats]:
        sums = self._binned.sums
        gap = np.abs(sums[:, :, 3] - sums[:, :, 2]).sum(axis=0)
        w, loss, right, _, squared, *tops = sums.sum(axis=0).T
        values = {
            "accuracy": ratio(right, w),
            "auc": ratio(self._auc, self._defined),
            "loss": ratio(loss, w),
            "ece": ratio(gap, w),
            "brier": ratio(squared, w),
        }
        for k, hits in zip(self._tops, tops, strict=True):
            values[f"top_{k}_accuracy"] = ratio(hits, w)
        return _hide(values, hide=bool(self._not_finite))

    def why(self, name: str) -> str:
        weight = float(self._binned.sums[:, 0, 0].sum())
        common = _common_reason(self.rows, weight, self._not_finite)
        return common or f"{name} needs labels of at least two classes"


# --- Regression -------------------------------------------------------------------------------


class _RegressionTable:
    cost = 1

    def __init__(self, given: _Given) -> None:
        self.rows = given.rows
        self.metric_names = names(Problem(task="regression"))
        total = sum(float(block.y.sum()) for block in given.blocks())
        self._centre = total / self.rows if self.rows else 0.0
        self._records = _store(in_order(b.records(key=b.p, y=b.y) for b in given.blocks()))

    def _columns(self, records: Array) -> tuple[Array, ...]:
        """Labels, their weights, what is summed, whether they are counts, bad rows."""
        y, p, w = records["y"], records["key"], records["w"]
        error, counts = p - y, np.logical_and(y >= 0, p > 0)
        columns = [
            np.ones(len(y)),
            y - self._centre,
            p,
            error**2,
            np.abs(error),
            (y - self._centre) ** 2,
            _poisson_deviance(y, p, counts),
        ]
        return y, w, np.stack(columns, axis=1) * w[:, None], counts, records["bad"]

    def measure(self, groups: Groups, replicates: int) -> Measures:
        sums = [_RegressionSums(self._centre, replicates) for _ in range(groups.count)]
        add_rows(self._records, groups, replicates, self._columns, [own.add for own in sums])
        return measures(sums)

    def curves(self) -> Curves:
        if _nothing_to_draw(self._records):
            return Curves()
        bins = Reliability(bin_edges(self._records, descending=False), centre=self._centre)
        for _, block in blocks(self._records):
            bins.add(block["key"], block["y"], block["w"])
        return Curves(
            reliability=bins.result(proportion=False),
            histogram=errors(
                lambda: ((b["key"] - b["y"], b["w"]) for _, b in blocks(self._records))
            ),
        )


class _RegressionSums:
    def __init__(self, centre: float, replicates: int) -> None:
        self.rows = self._not_finite = 0
        self._centre = centre
        self._sums = np.zeros((1 + replicates, 7))
        self._low, self._high = np.inf, -np.inf
        self._counts = True

    def add(
        self, y: Floats, w: Floats, x: Floats, counts: Array, bad: Array, multipliers: Floats
    ) -> None:
        """Adds rows in any order."""
        self._sums += multipliers @ x
        labels = y[w > 0]
        self._low = min(self._low, labels.min(initial=np.inf))
        self._high = max(self._high, labels.max(initial=-np.inf))
        self._counts = self._counts and bool(counts.all())
        self.rows += len(y)
        self._not_finite += int(bad.sum())

    def values(self) -> dict[str, Floats]:
        w, y, p, squared, absolute, spread, deviance = self._sums.T
        mse = ratio(squared, w)
        with np.errstate(divide="ignore", invalid="ignore"):
            total = spread - y**2 / w
        r2 = 1 - ratio(squared, total)
        values = {
            "rmse": np.sqrt(mse),
            "mae": ratio(absolute, w),
            "loss": mse,
            "r2": r2 if self._low < self._high else np.full_like(r2, np.nan),
            "label_mean": ratio(y, w) + self._centre,
            "prediction_mean": ratio(p, w),
            "poisson_deviance": ratio(deviance, w if self._counts else np.zeros_like(w)),
        }
        return _hide(values, hide=bool(self._not_finite))

    def why(self, name: str) -> str:
        common = _common_reason(self.rows, float(self._sums[0, 0]), self._not_finite)
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

    def __init__(self, given: _Given, levels: tuple[float, ...]) -> None:
        self.rows = given.rows
        self._levels = np.array(levels)
        self.metric_names = names(Problem(task="quantile", quantiles=levels))
        self._records = _store(b.records(y=b.y, p=b.p) for b in given.blocks())

    def measure(self, groups: Groups, replicates: int) -> Measures:
        sums = [_QuantileSums(self._levels, replicates) for _ in range(groups.count)]
        add_rows(self._records, groups, replicates, self._columns, [own.add for own in sums])
        return measures(sums)

    def _columns(self, records: Array) -> tuple[Array, ...]:
        """What is summed, bad rows."""
        y, p, levels = records["y"], records["p"], self._levels
        error = y[:, None] - p
        columns = [
            np.ones((len(y), 1)),
            y[:, None],
            ((y >= p[:, 0]) & (y <= p[:, -1]))[:, None],
            (p[:, -1] - p[:, 0])[:, None],
            np.maximum(levels * error, (levels - 1) * error),
            error <= 0,
        ]
        return np.concatenate(columns, axis=1) * records["w"][:, None], records["bad"]

    def curves(self) -> Curves:
        if _nothing_to_draw(self._records):
            return Curves()
        middle = int(np.abs(self._levels - 0.5).argmin())
        histogram = errors(
            lambda: ((b["p"][:, middle] - b["y"], b["w"]) for _, b in blocks(self._records))
        )
        return Curves(histogram=histogram)


class _QuantileSums:
    def __init__(self, levels: Floats, replicates: int) -> None:
        self.rows = self._not_finite = 0
        self._levels = levels
        self._sums = np.zeros((1 + replicates, 4 + 2 * len(levels)))

    def add(self, x: Floats, bad: Array, multipliers: Floats) -> None:
        """Adds rows in any order."""
        self._sums += multipliers @ x
        self.rows += len(x)
        self._not_finite += int(bad.sum())

    def values(self) -> dict[str, Floats]:
        w, y, inside, width, *each = self._sums.T
        losses, below = each[: len(self._levels)], each[len(self._levels) :]
        values = {"label_mean": ratio(y, w)}
        missed = []
        for level, loss, share in zip(self._levels, losses, below, strict=True):
            values[f"pinball/{level:g}"] = ratio(loss, w)
            values[f"coverage/{level:g}"] = ratio(share, w)
            missed.append(np.abs(values[f"coverage/{level:g}"] - level))
        values["pinball"] = ratio(np.mean(losses, axis=0), w)
        values["coverage_error"] = np.mean(missed, axis=0)
        if len(self._levels) > 1:
            values["interval_coverage"] = ratio(inside, w)
            values["interval_width"] = ratio(width, w)
        return _hide(values, hide=bool(self._not_finite))

    def why(self, name: str) -> str:
        common = _common_reason(self.rows, float(self._sums[0, 0]), self._not_finite)
        return common or f"{name} has no value"
