"""Rows of two classes; layer 3."""

from __future__ import annotations

import numpy as np

from estimator_lib.evaluation.curves import (
    ConfusionMatrix,
    Counts,
    Cumulated,
    Curves,
    Reliability,
    as_floats,
    bin_edges,
    precision_recall_curve,
    roc_curve,
)
from estimator_lib.evaluation.metrics import LOG_EPSILON, Floats, Problem, names
from estimator_lib.evaluation.spool import Array, blocks, in_order
from estimator_lib.evaluation.tables.given import Given
from estimator_lib.evaluation.tables.groups import Groups, Measures, add_rows, measures
from estimator_lib.evaluation.tables.sums import (
    Binned,
    Rank,
    common_reason,
    hidden,
    nothing_to_draw,
    ratio,
    stored,
)


class BinaryTable:
    """Rows of two classes, by descending probability of class 1; see `Table`."""

    cost = 1

    def __init__(self, given: Given, classes: tuple[str, ...]) -> None:
        self.rows = given.rows
        self.metric_names = names(Problem(task="binary"))
        self._classes = classes or ("0", "1")
        self._records = stored(in_order(b.records(key=-b.p, y=b.y) for b in given.blocks()))
        self._edges = bin_edges(self._records, descending=True)

    def measure(self, groups: Groups, replicates: int) -> Measures:
        sums = [_BinarySums(self._edges, replicates) for _ in range(groups.count)]
        add_rows(self._records, groups, replicates, _binary_columns, [own.add for own in sums])
        return measures(sums)

    def curves(self) -> Curves:
        if nothing_to_draw(self._records):
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
        self._binned = Binned(edges, replicates, columns=8)
        self._rank = Rank(replicates)

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
        return hidden(values, hide=bool(self._not_finite))

    def why(self, name: str) -> str:
        weight, positive = self._binned.sums[:, 0, :2].sum(axis=0)
        common = common_reason(self.rows, weight, self._not_finite)
        if common:
            return common
        if name == "precision":
            return "no row is predicted positive"
        return (
            "there are no positive labels" if not positive > 0 else "there are no negative labels"
        )
