"""Rows of several classes; layer 3."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from estimator_lib.evaluation.curves import (
    ConfusionMatrix,
    Counts,
    Curves,
    Reliability,
    as_floats,
    bin_edges,
)
from estimator_lib.evaluation.metrics import LOG_EPSILON, TOP_K, Floats, Problem, names
from estimator_lib.evaluation.spool import Array, Spool, blocks, in_order
from estimator_lib.evaluation.tables.given import Block, Given
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


class MulticlassTable:
    """Rows of several classes, by descending confidence and by that of each class; see `Table`."""

    def __init__(self, given: Given, called: tuple[str, ...]) -> None:
        self.rows, self._classes = given.rows, given.columns
        self._called = called or tuple(str(c) for c in range(self._classes))
        self._tops = [k for k in TOP_K if k < self._classes]
        self.cost = 1 + self._classes
        self.metric_names = names(Problem(task="multiclass", classes=self._called))
        self._records = stored(in_order(self._record(block) for block in given.blocks()))
        self._edges = bin_edges(self._records, descending=True)
        self._ranked = Spool()
        for c in range(self._classes):
            parts = (b.records(key=-b.p[:, c], mine=b.y == c) for b in given.blocks())
            for part in in_order(parts):
                self._ranked.append(part)

    def _record(self, block: Block) -> Array:
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
            ranks = [Rank(replicates) for _ in sums]
            of_class = _Part(self._ranked, c * self.rows, self.rows)
            add_rows(of_class, groups, replicates, _ranked_columns, [rank.add for rank in ranks])
            for own, rank in zip(sums, ranks, strict=True):
                own.add_auc(rank.finish()[0])
        return measures(sums)

    def curves(self) -> Curves:
        if nothing_to_draw(self._records):
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
        self._binned = Binned(edges, replicates, columns=5 + len(tops))
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
        return hidden(values, hide=bool(self._not_finite))

    def why(self, name: str) -> str:
        weight = float(self._binned.sums[:, 0, 0].sum())
        common = common_reason(self.rows, weight, self._not_finite)
        return common or f"{name} needs labels of at least two classes"
