"""Gradients: rows of tables, clipping and decay, each apart from any optimizer.

Layer 2. A gradient is a tensor of its variable's shape, or `tf.IndexedSlices` with the rows of
a table. Everything here takes and gives gradients, so that the parts go together in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import tensorflow as tf

from estimator_lib import variables

_SMALL_ROWS = 1_024
"""Rows of a table up to which XLA updates all of them faster than those of a batch."""
_SCRATCH_ROWS = 2**20
"""Rows of a table up to which a number per row is faster than sorting a batch's indices."""

Gradient: TypeAlias = tf.Tensor | tf.IndexedSlices
Clip = Callable[[Sequence[tf.Tensor]], Sequence[tf.Tensor]]
"""Makes the numbers of all gradients smaller."""


class UniqueRows(tf.IndexedSlices):
    """Gradient rows of a table, those of equal indices added up.

    Attributes:
        place: None: no index occurs twice. In a step for XLA, whose shapes are fixed, one may:
            int32 `[n]`, the position at which the sum of each index stands; its other positions
            hold zeros. Of small tables all rows are there, most of them zeros.
    """

    def __init__(
        self,
        values: tf.Tensor,
        indices: tf.Tensor,
        dense_shape: tf.Tensor | None = None,
        place: tf.Tensor | None = None,
    ) -> None:
        super().__init__(values, indices, dense_shape)
        self.place = place


class Indices:
    """Which of a table's rows a gradient is for; gradients by the same indices can share it.

    Args:
        indices: int64 `[n]`, any number of times each.
        table: The variable they are rows of.
    """

    def __init__(self, indices: tf.Tensor, table: tf.Variable) -> None:
        self.given = indices
        self._place: tf.Tensor | None = None
        rows = table.shape[0]
        if variables.for_xla() and rows <= _SMALL_ROWS:
            self._distinct, self._position, self._count = tf.range(rows), indices, rows
        elif variables.for_xla():
            self._distinct, self._place = indices, _places(indices, rows)
            self._position, self._count = self._place, tf.size(indices)
        else:
            self._distinct, self._position = variables.distinct(indices)
            self._count = tf.size(self._distinct)

    def sums(self, values: tf.Tensor) -> UniqueRows:
        """Returns the rows `values` `[n, width]`, those of equal indices added up."""
        total = tf.math.unsorted_segment_sum(values, self._position, self._count)
        return UniqueRows(total, self._distinct, place=self._place)


def _places(indices: tf.Tensor, rows: int) -> tf.Tensor:
    """Returns for each index a position at which it stands, the same for equal ones, int32."""
    positions = tf.range(tf.size(indices))
    if rows <= _SCRATCH_ROWS:
        scratch = tf.zeros([rows], tf.int32)
        return tf.gather(
            tf.tensor_scatter_nd_update(scratch, indices[:, tf.newaxis], positions), indices
        )
    order = tf.argsort(indices, stable=True)
    ordered = tf.gather(indices, order)
    begins = tf.concat([[False], ordered[1:] != ordered[:-1]], 0)
    group = tf.cumsum(tf.cast(begins, tf.int32))
    first = tf.gather(tf.math.unsorted_segment_min(order, group, tf.size(indices)), group)
    return tf.scatter_nd(order[:, tf.newaxis], first, tf.shape(indices))


def unique_rows(grad: tf.IndexedSlices, variable: tf.Variable) -> UniqueRows:
    """Returns the gradient `grad` of `variable` with the rows of equal indices added up."""
    if isinstance(grad, UniqueRows):
        return grad
    return Indices(grad.indices, variable).sums(grad.values)


def dense_of(grad: tf.IndexedSlices, variable: tf.Variable) -> tf.Tensor:
    """Returns the rows of `grad` in a tensor of the variable's shape, zeros elsewhere."""
    return tf.math.unsorted_segment_sum(grad.values, grad.indices, variable.shape[0])


def of_parts(grad: Gradient, variable: tf.Variable) -> list[tuple[Gradient, tf.Variable]]:
    """Returns each part of a variable with its part of the gradient; most have one part."""
    if not isinstance(variable, variables.SplitVariable):
        return [(grad, variable)]
    if not isinstance(grad, tf.IndexedSlices):
        return list(zip(variable.parts_of_dense(grad), variable.parts, strict=True))
    grad = unique_rows(grad, variable)
    cut = variable.parts_of_rows(grad.indices, grad.values)
    return [
        (UniqueRows(values, indices), part)
        for part, (indices, values) in zip(variable.parts, cut, strict=True)
    ]


def of_whole(found: Sequence[Gradient | None], parts: Sequence[tf.Variable]) -> Gradient | None:
    """Returns the gradient of a variable, given those of its parts; the inverse of `of_parts`."""
    if len(parts) == 1 or all(g is None for g in found):
        return found[0]
    whole = [
        tf.zeros(part.shape, part.dtype) if g is None else tf.convert_to_tensor(g)
        for g, part in zip(found, parts, strict=True)
    ]
    return tf.concat(whole, 0)


# --- Clipping and decay -----------------------------------------------------------------------


def clip_values(limit: float) -> Clip:
    """Cuts each number to [-limit, limit]."""
    return lambda found: [tf.clip_by_value(values, -limit, limit) for values in found]


def clip_norms(limit: float) -> Clip:
    """Scales each gradient down to the length `limit`."""
    return lambda found: [tf.clip_by_norm(values, limit) for values in found]


def clip_global_norm(limit: float) -> Clip:
    """Scales all gradients by one factor, down to the length `limit` of all together."""
    return lambda found: tf.clip_by_global_norm(found, limit)[0]


def clipped(gradients: Sequence[Gradient], clip: Clip) -> list[Gradient]:
    """Returns gradients with the numbers that `clip` makes of theirs."""
    slices = [isinstance(g, tf.IndexedSlices) for g in gradients]
    found = clip([g.values if own else g for g, own in zip(gradients, slices, strict=True)])
    return [_with_values(g, values) for g, values in zip(gradients, found, strict=True)]


def _with_values(grad: Gradient, values: tf.Tensor) -> Gradient:
    if isinstance(grad, UniqueRows):
        return UniqueRows(values, grad.indices, grad.dense_shape, grad.place)
    if isinstance(grad, tf.IndexedSlices):
        return tf.IndexedSlices(values, grad.indices, grad.dense_shape)
    return values


def decay(variable: tf.Variable, amount: tf.Tensor) -> list[tf.Operation]:
    """Shrinks a kernel or a table by `amount` of itself, and leaves biases as they are.

    Returns:
        What has to be done before the variable is read again.
    """
    if variable.shape.rank < 2:
        return []
    done = variable.assign_sub(variable * amount)
    return [] if tf.executing_eagerly() else [done]
