"""What the optimizers share: learning rate, clipping, weight decay and slot variables.

Layer 2. The optimizers have the numerics of `tf.keras.optimizers.legacy`, which tf.estimator
used, through TensorFlow's fused kernels, for dense gradients and for rows of tables. Slot
variables live in the Estimator's store under `<variable name>/<optimizer>/<slot>`, so that they
are in its checkpoints; an instance keeps nothing itself and can be used for several models.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import tensorflow as tf

from estimator_lib import variables
from estimator_lib.core.errors import ConfigError, Reason, quote
from estimator_lib.optimizers.schedules import get_rate

_SMALL_ROWS = 1_024
"""Rows of a table up to which XLA updates all of them faster than those of a batch."""
_SCRATCH_ROWS = 2**20
"""Rows of a table up to which a number per row is faster than sorting a batch's indices."""


class UniqueRows(tf.IndexedSlices):
    """Gradient rows of a table, those of equal indices added up.

    Attributes:
        place: None: no index occurs twice. In a step for XLA, whose shapes are fixed, one may:
            int32 `[n]`, the position at which the sum of each index stands; its other positions
            hold zeros. Of small tables all rows are there, most of them zeros.
    """

    def __init__(
        self, values: Any, indices: Any, dense_shape: Any = None, place: tf.Tensor | None = None
    ) -> None:
        super().__init__(values, indices, dense_shape)
        self.place = place


class Optimizer(abc.ABC):
    """Base of the optimizers.

    Args:
        learning_rate: A number, or a function of the step; see `schedules`.
        clipnorm: Each variable's gradient is scaled down to this length.
        global_clipnorm: All gradients together are scaled down to this length.
        clipvalue: Each number of a gradient is cut to [-clipvalue, clipvalue].
        weight_decay: Before each step, kernels and tables (two dimensions or more) shrink by
            learning_rate * weight_decay of themselves, apart from the gradient (decoupled).
    """

    rows_as_dense: ClassVar[bool] = False
    """Whether rows without a gradient stay as they are under a dense update with zeros, so
    that the faster dense form may stand for the update by rows."""

    def __init__(
        self,
        learning_rate: Any,
        *,
        clipnorm: float | None = None,
        global_clipnorm: float | None = None,
        clipvalue: float | None = None,
        weight_decay: float | None = None,
    ) -> None:
        self.learning_rate = get_rate(learning_rate)
        given = {
            "clipnorm": clipnorm,
            "global_clipnorm": global_clipnorm,
            "clipvalue": clipvalue,
        }
        for name, value in given.items():
            if value is not None and not value > 0:
                raise self._invalid(name, "a positive number or None", value)
        if sum(value is not None for value in given.values()) > 1:
            raise ConfigError(
                f"{self.name}: at most one of clipnorm, global_clipnorm and clipvalue may be "
                "given. Remove the others.",
                reason=Reason.CONFLICT,
            )
        if weight_decay is not None and weight_decay < 0:
            raise self._invalid("weight_decay", "a number >= 0 or None", weight_decay)
        self.clipnorm = clipnorm
        self.global_clipnorm = global_clipnorm
        self.clipvalue = clipvalue
        self.weight_decay = weight_decay
        self._eager_slots: dict[Any, Any] = {}
        self._eager_step: Any = None

    @property
    def name(self) -> str:
        """The class's name; slot variables are named after it."""
        return type(self).__name__

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Any]]) -> tf.Operation | None:
        """Updates the variables once.

        Args:
            grads_and_vars: Pairs of a gradient (tensor, IndexedSlices or None, which leaves the
                variable alone) and its variable.

        Returns:
            The op that does all updates; None when executing eagerly.

        Raises:
            ConfigError: there is no gradient at all.
        """
        pairs = [(g, variables.raw(v)) for g, v in grads_and_vars if g is not None]
        if not pairs:
            raise ConfigError(
                f"{self.name} has nothing to update: no variable has a gradient. Check that the "
                "loss depends on trainable variables.",
                reason=Reason.EMPTY_INPUT,
            )
        step = self._step()
        rate = self._rate(step)
        pairs = self._clipped(pairs)
        # A function being traced orders each update behind what has read its variable before.
        updates = [self._updated(g, v, rate, step) for g, v in pairs]
        if self._eager_step is not None:
            self._eager_step.assign_add(1)
        updates = [u for u in updates if u is not None]
        return None if tf.executing_eagerly() else tf.group(*updates, name="train")

    @abc.abstractmethod
    def _apply_dense(self, grad: tf.Tensor, variable: Any, rate: Any, step: Any) -> Any:
        """Updates a variable by a gradient of its shape."""

    @abc.abstractmethod
    def _apply_rows(self, grad: UniqueRows, variable: Any, rate: Any, step: Any) -> Any:
        """Updates the rows `grad.indices` of a table."""

    def _slot(self, variable: Any, slot: str, initial: float = 0.0) -> Any:
        if not variables.in_trace():
            key = (variable.ref(), slot)
            if key not in self._eager_slots:
                with tf.init_scope():
                    self._eager_slots[key] = tf.Variable(tf.fill(variable.shape, initial))
            return self._eager_slots[key]
        with variables.root_scope(), variables.scope(variables.name_of(variable)):
            return variables.get_variable(
                f"{self.name}/{slot}",
                variable.shape,
                initializer=initial,
                dtype=variable.dtype,
                trainable=False,
            )

    def _step(self) -> Any:
        """Returns how many steps were done before this one, float32."""
        if variables.in_trace():
            return tf.cast(variables.global_step(), tf.float32)
        if self._eager_step is None:
            with tf.init_scope():
                self._eager_step = tf.Variable(0, dtype=tf.int64, trainable=False)
        return tf.cast(self._eager_step, tf.float32)

    def _rate(self, step: Any) -> Any:
        rate = self.learning_rate
        return tf.cast(rate(step), tf.float32) if callable(rate) else tf.constant(rate, tf.float32)

    def _clipped(self, pairs: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
        gradients = [g for g, _ in pairs]
        if self.global_clipnorm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self.global_clipnorm)
        elif self.clipnorm is not None:
            limit = self.clipnorm
            gradients = [_scaled(g, tf.clip_by_norm(_values(g), limit)) for g in gradients]
        elif self.clipvalue is not None:
            limit = self.clipvalue
            gradients = [_scaled(g, tf.clip_by_value(_values(g), -limit, limit)) for g in gradients]
        else:
            return pairs
        return [(g, v) for g, (_, v) in zip(gradients, pairs, strict=True)]

    def _updated(self, grad: Any, variable: Any, rate: Any, step: Any) -> Any:
        before = []
        if self.weight_decay and variable.shape.rank >= 2:
            decayed = variable.assign_sub(variable * (rate * self.weight_decay))
            before = [] if tf.executing_eagerly() else [decayed]
        with tf.control_dependencies(before):
            if isinstance(grad, tf.IndexedSlices):
                return self._apply_rows(unique_rows(grad, variable), variable, rate, step)
            return self._apply_dense(grad, variable, rate, step)

    def _invalid(self, argument: str, expected: str, got: object) -> ConfigError:
        return ConfigError(
            f"{self.name}: argument {argument} is invalid: expected {expected}, got {quote(got)}.",
            reason=Reason.INVALID_VALUE,
        )


def unique_rows(grad: tf.IndexedSlices, variable: Any) -> UniqueRows:
    """Returns the gradient `grad` of `variable` with the rows of equal indices added up."""
    if isinstance(grad, UniqueRows):
        return grad
    return Indices(grad.indices, variable).sums(grad.values)


class Indices:
    """Which of a table's rows a gradient is for; gradients by the same indices can share it.

    Args:
        indices: int64 `[n]`, any number of times each.
        table: The variable they are rows of.
    """

    def __init__(self, indices: tf.Tensor, table: Any) -> None:
        self.given = indices
        self._place: tf.Tensor | None = None
        rows = table.shape[0]
        if variables.for_xla() and rows <= _SMALL_ROWS:
            self._distinct, self._position, self._count = tf.range(rows), indices, rows
        elif variables.for_xla():
            self._distinct, self._place = indices, _places(indices, rows)
            self._position, self._count = self._place, tf.size(indices)
        else:
            self._distinct, self._position = tf.unique(indices)
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


def rewrite_rows(
    grad: UniqueRows, changed: Callable[..., tuple[tf.Tensor, ...]], *tables: Any
) -> tf.Operation:
    """Updates rows of tables in a step for XLA, which has no kernels for that.

    Rows without a gradient stay as they are.

    Args:
        grad: The gradient of the first table.
        changed: Takes the gradient's rows and the rows of each table; returns the tables' new
            rows.
        tables: Variables `[rows, ...]`.
    """
    if grad.place is None:
        width = list(range(1, grad.values.shape.rank))
        touched = tf.reduce_any(grad.values != 0.0, width, keepdims=True)
        all_rows = changed(grad.values, *(table.read_value() for table in tables))
        return tf.group(
            *(
                table.assign(tf.where(touched, new, table))
                for table, new in zip(tables, all_rows, strict=True)
            )
        )
    values = tf.gather(grad.values, grad.place)
    rows = changed(values, *(tf.gather(table, grad.indices) for table in tables))
    at = grad.indices[:, tf.newaxis]
    # Equal indices have equal new rows, so that their order does not matter.
    return tf.group(
        *(
            table.assign(tf.tensor_scatter_nd_update(table, at, new))
            for table, new in zip(tables, rows, strict=True)
        )
    )


def _values(grad: Any) -> tf.Tensor:
    return grad.values if isinstance(grad, tf.IndexedSlices) else grad


def _scaled(grad: Any, values: tf.Tensor) -> Any:
    if isinstance(grad, UniqueRows):
        return UniqueRows(values, grad.indices, grad.dense_shape, grad.place)
    if isinstance(grad, tf.IndexedSlices):
        return tf.IndexedSlices(values, grad.indices, grad.dense_shape)
    return values


def dense_of(grad: tf.IndexedSlices, variable: Any) -> tf.Tensor:
    """Returns the rows of `grad` in a tensor of the variable's shape, zeros elsewhere."""
    return tf.math.unsorted_segment_sum(grad.values, grad.indices, variable.shape[0])
