"""The arrays of an evaluation of one label, checked block by block; layer 3."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from estimator_lib.core.errors import DataError, Reason
from estimator_lib.evaluation.metrics import Floats, Ints, Problem, Task
from estimator_lib.evaluation.spool import BLOCK, Array, Rows, blocks


@dataclasses.dataclass(frozen=True)
class Block:
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


class Given:
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

    def blocks(self) -> Iterator[Block]:
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
            yield Block(
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
        )
