"""Sums of rows that come in the order of their scores, and what they amount to; layer 3."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from estimator_lib.evaluation.curves import run_starts
from estimator_lib.evaluation.metrics import Floats
from estimator_lib.evaluation.spool import Array, Spool, blocks


def stored(parts: Iterator[Array]) -> Spool:
    """Structured rows in a spool."""
    result = Spool()
    for part in parts:
        result.append(part)
    return result


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """The quotient, NaN where the denominator is not positive."""
    result = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=result, where=denominator > 0)
    return result


class Rank:
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


class Binned:
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


def common_reason(rows: int, weight: float, not_finite: int) -> str | None:
    """Why no metric of a group has a value; None if one may have."""
    if rows == 0:
        return "there are no rows"
    if not_finite:
        return f"{not_finite} of {rows} predictions are not finite"
    if not weight > 0:
        return "the total weight is zero"
    return None


def hidden(values: dict[str, Floats], *, hide: bool) -> dict[str, Floats]:
    """The values, or NaN for each where a prediction is not finite."""
    return {k: np.full_like(v, np.nan) for k, v in values.items()} if hide else values


def nothing_to_draw(records: Spool) -> bool:
    """Whether no row has weight, or a prediction is not finite."""
    weight, bad = 0.0, False
    for _, block in blocks(records):
        weight, bad = weight + float(block["w"].sum()), bad or bool(block["bad"].any())
    return bad or not weight > 0
