"""Rows of numbers; layer 3."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from estimator_lib.evaluation.curves import (
    Curves,
    Reliability,
    bin_edges,
    errors,
)
from estimator_lib.evaluation.metrics import Floats, Problem, names
from estimator_lib.evaluation.spool import Array, blocks, in_order
from estimator_lib.evaluation.tables.given import Given
from estimator_lib.evaluation.tables.groups import Groups, Measures, add_rows, measures
from estimator_lib.evaluation.tables.sums import (
    common_reason,
    hidden,
    nothing_to_draw,
    ratio,
    stored,
)


class RegressionTable:
    """Rows of numbers, by ascending prediction; see `Table`."""

    cost = 1

    def __init__(self, given: Given) -> None:
        self.rows = given.rows
        self.metric_names = names(Problem(task="regression"))
        total = sum(float(block.y.sum()) for block in given.blocks())
        self._centre = total / self.rows if self.rows else 0.0
        self._records = stored(in_order(b.records(key=b.p, y=b.y) for b in given.blocks()))

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
        if nothing_to_draw(self._records):
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
        return hidden(values, hide=bool(self._not_finite))

    def why(self, name: str) -> str:
        common = common_reason(self.rows, float(self._sums[0, 0]), self._not_finite)
        if not common and name == "poisson_deviance":
            return "a label is negative or a prediction is not positive"
        return common or f"{name} needs labels that differ"


def _poisson_deviance(y: Floats, p: Floats, counts: npt.NDArray[np.bool_]) -> Floats:
    """Twice y log(y / p) - y + p per row; 0 where it is undefined."""
    safe_y, safe_p = np.where(counts, y, 1.0), np.where(counts, p, 1.0)
    logs = np.log(np.where(safe_y > 0, safe_y, 1.0) / safe_p)
    return 2 * (safe_y * logs - safe_y + safe_p)
