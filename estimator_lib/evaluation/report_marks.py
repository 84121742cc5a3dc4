"""Marks that several tables of the report share: intervals, shares, folding; layer 3."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from estimator_lib.evaluation.metrics import Metric
from estimator_lib.evaluation.wording import escape, format_metric, range_text


@dataclasses.dataclass(frozen=True, kw_only=True)
class Axis:
    """A common scale for the intervals of one column.

    Attributes:
        name: The metric.
        low: Its left end.
        high: Its right end.
        whole: Where the dashed line is; None for none.
    """

    name: str
    low: float
    high: float
    whole: float | None

    @classmethod
    def around(cls, name: str, whole: float | None, metrics: Sequence[Metric]) -> Axis:
        """The scale that holds all of them."""
        ends = [] if whole is None else [whole]
        for metric in metrics:
            ends += [v for v in (metric.value, metric.low, metric.high) if v is not None]
        low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
        pad = 0.04 * (high - low) or 0.05
        return cls(name=name, low=low - pad, high=high + pad, whole=whole)

    def at(self, value: float) -> float:
        """Where a value lies, in percent."""
        return 100 * min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))

    def range_text(self) -> str:
        """Both ends."""
        return f"{format_metric(self.name, self.low)} to {format_metric(self.name, self.high)}"


def forest(metric: Metric, axis: Axis, label: str | None = None) -> str:
    """A value with its interval beside the dashed line; `label` appears on hover."""
    parts = []
    if axis.whole is not None:
        parts.append(f'<i class="all" style="left:{axis.at(axis.whole):.2f}%"></i>')
    if metric.low is not None and metric.high is not None:
        left, right = axis.at(metric.low), axis.at(metric.high)
        parts.append(f'<i class="ci" style="left:{left:.2f}%;width:{right - left:.2f}%"></i>')
    if metric.value is not None:
        parts.append(f'<i class="at" style="left:{axis.at(metric.value):.2f}%"></i>')
    label = label or range_text(axis.name, metric) or "no interval"
    return f'<div class="forest" title="{escape(label)}">{"".join(parts)}</div>'


def folded(table: str, fold: str, rows: int, first: int) -> str:
    """A table whose rows of class "more" show when asked for, without any script."""
    if rows <= first:
        return table
    return (
        f'<input class="fold" type="checkbox" id="{fold}"/>{table}<label class="unfold" '
        f'for="{fold}"><span class="all">Show all {rows}</span>'
        '<span class="less">Show fewer</span></label>'
    )
