"""Several predictions of the same rows as one table: labels, heads; and two models to compare.

Layer 3. All parts draw the same rows in a bootstrap replicate. That makes intervals of means over
labels right, and intervals of the difference of two models narrow: what both get wrong cancels
out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from estimator_lib.core.errors import DataError, Reason
from estimator_lib.evaluation.curves import Curves
from estimator_lib.evaluation.metrics import MULTILABEL, Floats, Problem, Task
from estimator_lib.evaluation.spool import BLOCK, Array, Column, Rows, Spool
from estimator_lib.evaluation.tables import (
    Groups,
    Measures,
    Table,
    add_rows,
    as_rows,
    checked_weights,
    ratio,
    table,
)

Arrays = npt.ArrayLike | Rows | Mapping[str, npt.ArrayLike | Rows]
_MEANS = ("auc", "auc_precision_recall", "loss", "accuracy", "ece", "brier")


def any_table(
    task: Task | Problem,
    labels: Arrays,
    predictions: Arrays,
    weights: npt.ArrayLike | Rows | None = None,
    codes: Sequence[Rows] = (),
) -> Table:
    """Validates the arrays of an evaluation.

    Args:
        task: What the model predicts.
        labels: As `tables.table`; 0 or 1 `[rows, labels]` of a multi-label model, or an array
            per head by its name.
        predictions: As `tables.table`; probabilities `[rows, labels]` of a multi-label model,
            or an array per head.
        weights: `[rows]`, finite and >= 0; None means 1 each.
        codes: Of each grouping, int `[rows]`.

    Raises:
        DataError: as `tables.table`; or a head has no labels or no predictions.
    """
    problem = task if isinstance(task, Problem) else Problem(task=task)
    if problem.task == "multilabel":
        return _multilabel(problem, labels, predictions, weights, codes)
    if problem.task == "multihead":
        parts = {
            name: any_table(
                head,
                _of(labels, name, "labels"),
                _of(predictions, name, "predictions"),
                weights,
                codes,
            )
            for name, head in problem.heads.items()
        }
        return SeveralTable(parts)
    return table(
        problem, _plain(labels, "labels"), _plain(predictions, "predictions"), weights, codes
    )


def rows_of(labels: Arrays) -> int:
    """How many rows there are."""
    first = next(iter(labels.values())) if isinstance(labels, Mapping) else labels
    return as_rows(first).shape[0]


def _of(arrays: Arrays, head: str, what: str) -> npt.ArrayLike | Rows:
    if not isinstance(arrays, Mapping) or head not in arrays:
        given = sorted(arrays) if isinstance(arrays, Mapping) else "one array"
        raise DataError(
            f"Head {head!r} has no {what}: expected an array per head by name, got {given}. Pass "
            "one for each head.",
            reason=Reason.FIELD_MISSING,
        )
    return arrays[head]


def _plain(arrays: Arrays, what: str) -> npt.ArrayLike | Rows:
    if isinstance(arrays, Mapping):
        raise DataError(
            f"Array {what!r} is a mapping: expected one array, for the model has one head. Pass "
            "the head's array.",
            reason=Reason.TYPE_MISMATCH,
        )
    return arrays


class SeveralTable:
    """Tables of the same rows; metrics are called `metric/part`.

    Args:
        parts: By name; at least one, all of the same rows.

    Raises:
        DataError: they have different numbers of rows.
    """

    def __init__(self, parts: Mapping[str, Table]) -> None:
        rows = {name: part.rows for name, part in parts.items()}
        if len(set(rows.values())) != 1:
            raise DataError(
                f"Heads have different numbers of rows: expected the same, got {rows}. Pass one "
                "value per row for each head.",
                reason=Reason.TYPE_MISMATCH,
            )
        self.parts = dict(parts)
        self.rows = next(iter(rows.values()))
        self.cost = sum(part.cost for part in parts.values())
        self.metric_names = tuple(
            f"{metric}/{name}" for name, part in parts.items() for metric in part.metric_names
        )

    def measure(self, groups: Groups, replicates: int) -> Measures:
        """The metrics of each part."""
        found = {name: part.measure(groups, replicates) for name, part in self.parts.items()}

        def why(group: int, name: str) -> str:
            # The name of a label may have "/" in it, so the longest that fits is meant.
            for part in sorted(found, key=len, reverse=True):
                if name.endswith(f"/{part}"):
                    return found[part].why(group, name.removesuffix(f"/{part}"))
            return "it has no value"

        return Measures(
            values={
                f"{metric}/{part}": values
                for part, own in found.items()
                for metric, values in own.values.items()
            },
            rows=next(iter(found.values())).rows,
            why=why,
        )

    def curves(self) -> Curves:
        """Nothing: each part has its own."""
        return Curves()


# --- Labels -----------------------------------------------------------------------------------


def _multilabel(
    problem: Problem,
    labels: Arrays,
    predictions: Arrays,
    weights: npt.ArrayLike | Rows | None,
    codes: Sequence[Rows],
) -> MultilabelTable:
    y, p = as_rows(_plain(labels, "labels")), as_rows(_plain(predictions, "predictions"))
    columns = y.shape[1] if len(y.shape) == 2 else 0
    called = problem.classes or tuple(str(c) for c in range(columns))
    if not columns or y.shape != p.shape or columns != len(called):
        raise DataError(
            "Labels and predictions of a multi-label model have the wrong shape: expected [rows, "
            f"{len(called) or 'labels'}] of both, got {list(y.shape)} and {list(p.shape)}. Pass "
            "one column per label.",
            reason=Reason.TYPE_MISMATCH,
        )
    return MultilabelTable(called, y, p, checked_weights(weights, y.shape[0]), codes)


class MultilabelTable(SeveralTable):
    """A binary table per label, and what they give together."""

    def __init__(
        self, called: tuple[str, ...], y: Rows, p: Rows, w: Rows, codes: Sequence[Rows]
    ) -> None:
        super().__init__(
            {
                name: table("binary", Column(y, at), Column(p, at), w, codes)
                for at, name in enumerate(called)
            }
        )
        self.metric_names = (*MULTILABEL, *self.metric_names)
        self._exact = _exact(y, p, w, codes)

    def measure(self, groups: Groups, replicates: int) -> Measures:
        """The metrics of each label, their means, and `exact_match`."""
        each = super().measure(groups, replicates)
        values = dict(each.values)
        # A label whose predictions are not finite must not be averaged away.
        losses = [values[f"loss/{part}"] for part in self.parts]
        whole = np.all(np.isfinite(losses), axis=0)
        for name in _MEANS:
            of_labels = np.stack([values[f"{name}/{part}"] for part in self.parts])
            known = np.isfinite(of_labels)
            total = np.where(known, of_labels, 0.0).sum(axis=0)
            values[name] = ratio(total, np.where(whole, known.sum(axis=0), 0.0))
        sums = np.zeros((groups.count, 1 + replicates, 2))
        adders = [_ExactSums(own).add for own in sums]
        add_rows(self._exact, groups, replicates, _exact_columns, adders)
        values["exact_match"] = ratio(sums[..., 1], np.where(whole, sums[..., 0], 0.0))

        def why(group: int, name: str) -> str:
            if "/" in name:
                return each.why(group, name)
            metric = "loss" if name == "exact_match" else name
            for part in self.parts:
                for asked in ("loss", metric):
                    if not np.isfinite(values[f"{asked}/{part}"][group, 0]):
                        return f"of label {part}, {each.why(group, f'{asked}/{part}')}"
            return "it has no value"

        return Measures(values=values, rows=each.rows, why=why)


def _exact_columns(records: Array) -> tuple[Array]:
    w = records["w"]
    return (np.stack([w, w * records["exact"]], axis=1),)


class _ExactSums:
    """Sums the weights of all rows, and of those with every label right."""

    def __init__(self, sums: Floats) -> None:
        self._sums = sums

    def add(self, x: Floats, multipliers: Floats) -> None:
        """Adds rows."""
        self._sums += multipliers @ x


def _exact(y: Rows, p: Rows, w: Rows, codes: Sequence[Rows]) -> Spool:
    """Rows with their weight, and whether every label is right."""
    result = Spool()
    dtype = [("w", float), ("exact", bool), ("row", np.int64), ("codes", np.int32, (len(codes),))]
    for first in range(0, y.shape[0], BLOCK):
        part = slice(first, first + BLOCK)
        weights = np.asarray(w[part], np.float64)
        records = np.empty(len(weights), dtype)
        records["w"] = weights.reshape(len(weights))
        records["exact"] = ((np.asarray(p[part]) > 0.5) == (np.asarray(y[part]) == 1)).all(axis=1)
        records["row"] = np.arange(first, first + len(weights))
        for at, own in enumerate(codes):
            records["codes"][:, at] = own[part]
        result.append(records)
    return result


# --- Two models -------------------------------------------------------------------------------


def difference(new: Measures, old: Measures) -> Measures:
    """The first model's metrics minus the second one's, of the same groups and replicates."""

    def why(group: int, name: str) -> str:
        for found, whose in ((new, "this model"), (old, "the serving model")):
            if not np.isfinite(found.values[name][group, 0]):
                return f"of {whose}, {found.why(group, name)}"
        return "it has no value"

    both = [name for name in new.values if name in old.values]
    with np.errstate(invalid="ignore"):
        values = {name: new.values[name] - old.values[name] for name in both}
    return Measures(values=values, rows=new.rows, why=why)
