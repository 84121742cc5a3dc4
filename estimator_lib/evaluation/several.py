"""Several predictions of the same rows as one table: labels, heads, or two models to compare.

Layer 3. Each part keeps its own order of rows; the common order is the caller's, so that all
parts are drawn together in a bootstrap replicate. That makes intervals of means over labels
right, and intervals of the difference of two models narrow: what both get wrong cancels out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from estimator_lib.core.errors import DataError, Reason
from estimator_lib.evaluation.curves import Curves
from estimator_lib.evaluation.metrics import MULTILABEL, Floats, Ints, Problem, Task
from estimator_lib.evaluation.tables import Replicates, Segment, Table, checked_weights, table

Arrays = npt.ArrayLike | Mapping[str, npt.ArrayLike]
_MEANS = ("auc", "auc_precision_recall", "loss", "accuracy", "ece", "brier")


def any_table(
    task: Task | Problem, labels: Arrays, predictions: Arrays, weights: npt.ArrayLike | None = None
) -> Table:
    """Validates the arrays of an evaluation and sorts them.

    Args:
        task: What the model predicts.
        labels: As `tables.table`; 0 or 1 `[rows, labels]` of a multi-label model, or an array
            per head by its name.
        predictions: As `tables.table`; probabilities `[rows, labels]` of a multi-label model,
            or an array per head.
        weights: `[rows]`, finite and >= 0; None means 1 each.

    Raises:
        DataError: as `tables.table`; or a head has no labels or no predictions.
    """
    problem = task if isinstance(task, Problem) else Problem(task=task)
    if problem.task == "multilabel":
        return _multilabel(problem, labels, predictions, weights)
    if problem.task == "multihead":
        parts = {
            name: any_table(
                head, _of(labels, name, "labels"), _of(predictions, name, "predictions"), weights
            )
            for name, head in problem.heads.items()
        }
        return SeveralTable(parts)
    return table(problem, _plain(labels, "labels"), _plain(predictions, "predictions"), weights)


def _of(arrays: Arrays, head: str, what: str) -> npt.ArrayLike:
    if not isinstance(arrays, Mapping) or head not in arrays:
        given = sorted(arrays) if isinstance(arrays, Mapping) else "one array"
        raise DataError(
            f"Head {head!r} has no {what}: expected an array per head by name, got {given}. Pass "
            "one for each head.",
            reason=Reason.FIELD_MISSING,
        )
    return arrays[head]


def _plain(arrays: Arrays, what: str) -> npt.ArrayLike:
    if isinstance(arrays, Mapping):
        raise DataError(
            f"Array {what!r} is a mapping: expected one array, for the model has one head. Pass "
            "the head's array.",
            reason=Reason.TYPE_MISMATCH,
        )
    return arrays


def _multilabel(
    problem: Problem, labels: Arrays, predictions: Arrays, weights: npt.ArrayLike | None
) -> MultilabelTable:
    y = np.asarray(_plain(labels, "labels"), dtype=np.float64)
    p = np.asarray(_plain(predictions, "predictions"), dtype=np.float64)
    called = problem.classes or tuple(str(c) for c in range(y.shape[1] if y.ndim == 2 else 0))
    if y.ndim != 2 or y.shape != p.shape or y.shape[1] != len(called) or not called:
        raise DataError(
            "Labels and predictions of a multi-label model have the wrong shape: expected [rows, "
            f"{len(called) or 'labels'}] of both, got {list(y.shape)} and {list(p.shape)}. Pass "
            "one column per label.",
            reason=Reason.TYPE_MISMATCH,
        )
    return MultilabelTable(called, y, p, checked_weights(weights, len(y)))


class SeveralTable:
    """Tables of the same rows; metrics are called `metric/part`.

    Args:
        parts: By name; at least one, all of the same rows.

    Raises:
        DataError: they have different numbers of rows.
    """

    def __init__(self, parts: Mapping[str, Table]) -> None:
        rows = {name: len(part.order) for name, part in parts.items()}
        if len(set(rows.values())) != 1:
            raise DataError(
                f"Heads have different numbers of rows: expected the same, got {rows}. Pass one "
                "value per row for each head.",
                reason=Reason.TYPE_MISMATCH,
            )
        self.parts = dict(parts)
        self.order: Ints = np.arange(next(iter(rows.values())))
        self.cost = sum(part.cost for part in parts.values())
        self.metric_names = tuple(
            f"{metric}/{name}" for name, part in parts.items() for metric in part.metric_names
        )
        self._places: dict[str, Ints] = {}
        for name, part in parts.items():
            self._places[name] = np.empty_like(self.order)
            self._places[name][part.order] = self.order

    def segment(self, rows: Ints | slice) -> SeveralSegment:
        return SeveralSegment(self.split(rows))

    def split(self, rows: Ints | slice) -> dict[str, tuple[Segment, Ints]]:
        """The rows in each part, and how multipliers of the rows are put into its order."""
        found = {}
        for name, part in self.parts.items():
            places = self._places[name][rows]
            order = np.argsort(places, kind="stable")
            found[name] = (part.segment(places[order]), order)
        return found

    def curves(self) -> Curves:
        """Nothing: each part has its own."""
        return Curves()


class SeveralSegment:
    """A run of rows in several tables."""

    def __init__(self, parts: Mapping[str, tuple[Segment, Ints]]) -> None:
        self.parts = parts
        self.rows = next(iter(parts.values()))[0].rows

    def each(self, multipliers: Replicates) -> dict[str, dict[str, Floats]]:
        """The metrics of each part."""
        return {
            name: segment.measure(multipliers[:, order])
            for name, (segment, order) in self.parts.items()
        }

    def measure(self, multipliers: Replicates) -> dict[str, Floats]:
        """Each metric of each part per replicate, `[replicates]`, NaN where undefined."""
        return {
            f"{metric}/{name}": values
            for name, found in self.each(multipliers).items()
            for metric, values in found.items()
        }

    def why(self, name: str) -> str:
        """Why a metric is undefined here."""
        # The name of a label may have "/" in it, so the longest that fits is meant.
        for part in sorted(self.parts, key=len, reverse=True):
            if name.endswith(f"/{part}"):
                return self.parts[part][0].why(name.removesuffix(f"/{part}"))
        return next(iter(self.parts.values()))[0].why(name)


class MultilabelTable(SeveralTable):
    """A binary table per label, and what they give together."""

    def __init__(self, called: tuple[str, ...], y: Floats, p: Floats, w: Floats) -> None:
        columns = range(len(called))
        super().__init__({called[c]: table("binary", y[:, c], p[:, c], w) for c in columns})
        self.metric_names = (*MULTILABEL, *self.metric_names)
        exact = ((p > 0.5) == (y == 1)).all(axis=1)
        self.exact = np.stack([w, w * exact], axis=1)

    def segment(self, rows: Ints | slice) -> MultilabelSegment:
        return MultilabelSegment(self.split(rows), self.exact[rows])


class MultilabelSegment(SeveralSegment):
    """A run of rows of a multi-label model."""

    def __init__(self, parts: Mapping[str, tuple[Segment, Ints]], exact: Floats) -> None:
        super().__init__(parts)
        self.exact = exact

    def measure(self, multipliers: Replicates) -> dict[str, Floats]:
        found = super().measure(multipliers)
        # A label whose predictions are not finite must not be averaged away.
        whole = np.all([np.isfinite(found[f"loss/{part}"]) for part in self.parts], axis=0)
        for name in _MEANS:
            values = np.stack([found[f"{name}/{part}"] for part in self.parts])
            known = np.isfinite(values)
            found[name] = _divided(
                np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0), where=whole
            )
        weight, right = (multipliers @ self.exact).T
        found["exact_match"] = _divided(right, weight, where=whole)
        return found

    def why(self, name: str) -> str:
        if "/" in name:
            return super().why(name)
        ones = np.ones((1, self.rows))
        metric = "loss" if name == "exact_match" else name
        for part, (segment, _) in self.parts.items():
            for asked in ("loss", metric):
                if not np.isfinite(segment.measure(ones)[asked][0]):
                    return f"of label {part}, {segment.why(asked)}"
        return "it has no value"


def _divided(numerator: Floats, denominator: npt.NDArray[Any], *, where: Any) -> Floats:
    result = np.full(len(numerator), np.nan)
    np.divide(numerator, denominator, out=result, where=where & (denominator > 0))
    return result


class PairedTable(SeveralTable):
    """Two models on the same rows; a metric is the first one's minus the second one's."""

    def __init__(self, new: Table, old: Table) -> None:
        super().__init__({"new": new, "old": old})
        self.metric_names = tuple(m for m in new.metric_names if m in old.metric_names)

    def segment(self, rows: Ints | slice) -> PairedSegment:
        return PairedSegment(self.split(rows))


class PairedSegment(SeveralSegment):
    """A run of rows of two models."""

    def measure(self, multipliers: Replicates) -> dict[str, Floats]:
        found = self.each(multipliers)
        both = found["new"].keys() & found["old"].keys()
        return {name: found["new"][name] - found["old"][name] for name in both}

    def why(self, name: str) -> str:
        ones = np.ones((1, self.rows))
        for part, whose in (("new", "this model"), ("old", "the serving model")):
            segment = self.parts[part][0]
            if not np.isfinite(segment.measure(ones)[name][0]):
                return f"of {whose}, {segment.why(name)}"
        return "it has no value"
