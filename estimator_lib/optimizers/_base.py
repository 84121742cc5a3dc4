"""What the optimizers share: learning rate, clipping, decay, slot variables and three forms.

Layer 2. An optimizer is its `rule`, the equation of its paper on tensors. Three forms follow:

* dense: TensorFlow's fused operation where `fused` names one, for it reads and writes each number
  once; else the rule on whole variables;
* by rows: its operation for rows, else the rule on the rows with a gradient;
* compiled (a step for XLA): the same, but XLA lacks most operations for rows: the rule.

So a rule is run or stands for the operation that does the same, and a test compares them.

Slot variables live in the Estimator's store under `<variable name>/<optimizer>/<slot>`, so that
they are in its checkpoints; an instance keeps nothing itself and can be used for several models.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, NamedTuple, Protocol

import tensorflow as tf

from estimator_lib import variables
from estimator_lib.core.constraints import NotNegative, Positive, check_fields
from estimator_lib.core.errors import ConfigError, Reason
from estimator_lib.optimizers import gradients
from estimator_lib.optimizers.gradients import Gradient, UniqueRows
from estimator_lib.optimizers.schedules import Rate, get_rate

Tensors = Sequence[tf.Tensor]


class Now(NamedTuple):
    """One step of training."""

    rate: tf.Tensor
    """Its learning rate, float32 scalar."""
    step: tf.Tensor
    """How many steps were done before it, float32 scalar."""


class Fused(Protocol):
    """TensorFlow's operations that do what a rule says."""

    @property
    def rows_compile(self) -> bool:
        """Whether XLA has the operation for rows."""

    def dense(
        self, grad: tf.Tensor, variable: tf.Variable, slots: Sequence[tf.Variable]
    ) -> tf.Operation:
        """Updates a variable by a gradient of its shape."""

    def rows(
        self, grad: UniqueRows, variable: tf.Variable, slots: Sequence[tf.Variable]
    ) -> tf.Operation:
        """Updates the rows `grad.indices` of a table."""


@dataclasses.dataclass(frozen=True)
class Apply:
    """The pair `tf.raw_ops.ResourceApply<name>` and `ResourceSparseApply<name>`.

    Args:
        name: Of the operations.
        slots: What they call the optimizer's slots, in its order.
        arguments: The hyperparameters, as the operations call them.
    """

    name: str
    slots: tuple[str, ...]
    arguments: Mapping[str, object]
    rows_compile: ClassVar[bool] = False

    def dense(
        self, grad: tf.Tensor, variable: tf.Variable, slots: Sequence[tf.Variable]
    ) -> tf.Operation:
        apply = getattr(tf.raw_ops, f"ResourceApply{self.name}")
        return apply(grad=grad, **self._arguments(variable, slots))

    def rows(
        self, grad: UniqueRows, variable: tf.Variable, slots: Sequence[tf.Variable]
    ) -> tf.Operation:
        apply = getattr(tf.raw_ops, f"ResourceSparseApply{self.name}")
        own = self._arguments(variable, slots)
        return apply(grad=grad.values, indices=grad.indices, **own)

    def _arguments(
        self, variable: tf.Variable, slots: Sequence[tf.Variable]
    ) -> Mapping[str, object]:
        handles = {name: slot.handle for name, slot in zip(self.slots, slots, strict=True)}
        return {"var": variable.handle, **handles, **self.arguments, "use_locking": True}


@dataclasses.dataclass(eq=False)
class Optimizer(abc.ABC):
    """Base of the optimizers.

    Args:
        learning_rate: A number >= 0 per step, or a function of the step; see `schedules`.
        clipnorm: Each variable's gradient is scaled down to this length; None: not at all.
        global_clipnorm: All gradients together are scaled down to this length.
        clipvalue: Each number of a gradient is cut to [-clipvalue, clipvalue]. At most one of
            the three may be given.
        weight_decay: Before each step, kernels and tables (two dimensions or more) shrink by
            learning_rate * weight_decay of themselves, apart from the gradient (decoupled).

    References: Pascanu et al., arXiv 1211.5063 (clipping); Loshchilov and Hutter, arXiv
    1711.05101 (decay).
    """

    learning_rate: Rate
    _: dataclasses.KW_ONLY
    clipnorm: Positive | None = None
    global_clipnorm: Positive | None = None
    clipvalue: Positive | None = None
    weight_decay: NotNegative | None = None

    def __post_init__(self) -> None:
        self.learning_rate = get_rate(self.learning_rate)
        check_fields(self)
        limits = (
            (self.clipnorm, gradients.clip_norms),
            (self.global_clipnorm, gradients.clip_global_norm),
            (self.clipvalue, gradients.clip_values),
        )
        self._clips = [clip(limit) for limit, clip in limits if limit is not None]
        if len(self._clips) > 1:
            raise ConfigError(
                f"{self.name}: at most one of clipnorm, global_clipnorm and clipvalue may be "
                "given. Remove the others.",
                reason=Reason.CONFLICT,
            )
        self._eager_slots: dict[tuple[object, str], tf.Variable] = {}
        self._eager_step: tf.Variable | None = None

    # --- what an optimizer says ---------------------------------------------------------------

    @property
    def slots(self) -> Mapping[str, float]:
        """What is kept beside each variable, in the rule's order, and what it starts with."""
        return {}

    @abc.abstractmethod
    def rule(self, g: tf.Tensor, w: tf.Tensor, slots: Tensors, now: Now) -> Tensors:
        """Returns the new weights and the new slots; nothing else happens.

        Args:
            g: The gradient, float32.
            w: The weights, of its shape.
            slots: In the order of `slots`, of the same shape.
            now: Which step this is.
        """

    def fused(self, now: Now) -> Fused | None:
        """Returns the operations that do what `rule` says, None if there are none."""
        del now
        return None

    @property
    def rows_as_dense(self) -> bool:
        """Whether a dense gradient, zeros included, stands for one by rows.

        So it is where a row stays under a gradient of zeros, or is meant to move. Small tables
        get dense gradients then: they are faster.
        """
        return False

    @property
    def moves_all_rows(self) -> bool:
        """Whether rows without a gradient change too, so that there is no form by rows."""
        return False

    # --- what everyone calls ------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The class's name; slot variables are named after it."""
        return type(self).__name__

    def apply_gradients(
        self, grads_and_vars: Iterable[tuple[Gradient | None, tf.Variable]]
    ) -> tf.Operation | None:
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
        now = self._now()
        found = [g for g, _ in pairs]
        for clip in self._clips:
            found = gradients.clipped(found, clip)
        # A function being traced orders each update behind what has read its variable before.
        updates = [self._update(g, v, now) for g, (_, v) in zip(found, pairs, strict=True)]
        if self._eager_step is not None:
            self._eager_step.assign_add(1)
        return None if tf.executing_eagerly() else tf.group(*updates, name="train")

    # --- the three forms ----------------------------------------------------------------------

    def _update(self, grad: Gradient, variable: tf.Variable, now: Now) -> tf.Operation:
        slots = [self._slot(variable, *slot) for slot in self.slots.items()]
        updates = []
        for n, (own, part) in enumerate(gradients.of_parts(grad, variable)):
            kept = [variables.parts_of(slot)[n] for slot in slots]
            # The rule runs where the numbers are; only the gradient goes there.
            remote = isinstance(part, variables.RemoteVariable)
            with tf.device(part.device) if remote else contextlib.nullcontext():
                updates.append(self._update_part(own, part, kept, now))
        return updates[0] if len(updates) == 1 else tf.group(*updates)

    def _update_part(
        self, grad: Gradient, variable: tf.Variable, slots: Sequence[tf.Variable], now: Now
    ) -> tf.Operation:
        before = []
        if self.weight_decay:
            before = gradients.decay(variable, now.rate * self.weight_decay)
        with tf.control_dependencies(before):
            fused = self.fused(now)
            if isinstance(grad, tf.IndexedSlices):
                grad = gradients.unique_rows(grad, variable)
                if not self.moves_all_rows:
                    if fused is not None and (fused.rows_compile or not variables.for_xla()):
                        return fused.rows(grad, variable, slots)
                    return self._rewrite_rows(grad, [variable, *slots], now)
                grad = gradients.dense_of(grad, variable)
            if fused is not None:
                return fused.dense(grad, variable, slots)
            return self._rewrite(grad, [variable, *slots], now)

    def _rewrite(self, grad: tf.Tensor, tables: Sequence[tf.Variable], now: Now) -> tf.Operation:
        weights, *slots = [table.read_value() for table in tables]
        new = self.rule(grad, weights, slots, now)
        return tf.group(*(t.assign(made) for t, made in zip(tables, new, strict=True)))

    def _rewrite_rows(
        self, grad: UniqueRows, tables: Sequence[tf.Variable], now: Now
    ) -> tf.Operation:
        """Updates the rows of a variable and its slots that have a gradient, the others stay."""
        if grad.place is None and variables.for_xla():  # all rows are there, see `UniqueRows`
            width = list(range(1, grad.values.shape.rank))
            touched = tf.reduce_any(grad.values != 0.0, width, keepdims=True)
            weights, *slots = [table.read_value() for table in tables]
            new = self.rule(grad.values, weights, slots, now)
            return tf.group(
                *(t.assign(tf.where(touched, made, t)) for t, made in zip(tables, new, strict=True))
            )
        values = grad.values if grad.place is None else tf.gather(grad.values, grad.place)
        weights, *slots = [tf.gather(table, grad.indices) for table in tables]
        new = self.rule(values, weights, slots, now)
        if isinstance(tables[0], variables.RemoteVariable):
            # Rows that others update meanwhile are left alone.
            changed = [tf.IndexedSlices(made, grad.indices) for made in new]
            return tf.group(
                *(t.scatter_update(rows) for t, rows in zip(tables, changed, strict=True))
            )
        at = grad.indices[:, tf.newaxis]
        # Equal indices have equal new rows, so that their order does not matter.
        return tf.group(
            *(
                table.assign(tf.tensor_scatter_nd_update(table, at, made))
                for table, made in zip(tables, new, strict=True)
            )
        )

    def _slot(self, variable: tf.Variable, slot: str, initial: float) -> tf.Variable:
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

    def _now(self) -> Now:
        if variables.in_trace():
            step = tf.cast(variables.global_step(), tf.float32)
        else:
            if self._eager_step is None:
                with tf.init_scope():
                    self._eager_step = tf.Variable(0, dtype=tf.int64, trainable=False)
            step = tf.cast(self._eager_step, tf.float32)
        rate = self.learning_rate(step) if callable(self.learning_rate) else self.learning_rate
        return Now(tf.cast(rate, tf.float32), step)
