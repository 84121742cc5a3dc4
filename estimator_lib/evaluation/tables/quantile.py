"""Rows of numbers with predicted quantiles; layer 3."""

from __future__ import annotations

import numpy as np

from estimator_lib.evaluation.curves import (
    Curves,
    errors,
)
from estimator_lib.evaluation.metrics import Floats, Problem, names
from estimator_lib.evaluation.spool import Array, blocks
from estimator_lib.evaluation.tables.given import Given
from estimator_lib.evaluation.tables.groups import Groups, Measures, add_rows, measures
from estimator_lib.evaluation.tables.sums import (
    common_reason,
    hidden,
    nothing_to_draw,
    ratio,
    stored,
)


class QuantileTable:
    """Rows with a predicted quantile for each level, in their own order; see `Table`."""

    cost = 1

    def __init__(self, given: Given, levels: tuple[float, ...]) -> None:
        self.rows = given.rows
        self._levels = np.array(levels)
        self.metric_names = names(Problem(task="quantile", quantiles=levels))
        self._records = stored(b.records(y=b.y, p=b.p) for b in given.blocks())

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
        if nothing_to_draw(self._records):
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
        return hidden(values, hide=bool(self._not_finite))

    def why(self, name: str) -> str:
        common = common_reason(self.rows, float(self._sums[0, 0]), self._not_finite)
        return common or f"{name} has no value"
