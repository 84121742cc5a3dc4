"""The variables of one Estimator by name, and the one place that makes them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from estimator_lib.protocols import Array

AnyVariable: TypeAlias = tf.Variable | keras.Variable
VariableFactory: TypeAlias = Callable[..., tf.Variable]
"""Makes a variable, given what `tf.Variable` takes, and `by_rows` of one that is read by rows."""
_RESETTABLE = 65_536

_making = threading.local()


def plain_variable(initial: Any, *, by_rows: bool = False, **options: Any) -> tf.Variable:
    """Makes a variable of this process."""
    del by_rows
    return tf.Variable(initial, **options)


def is_making() -> bool:
    """Whether a store makes a variable in this thread now: nobody else is to keep it."""
    return getattr(_making, "depth", 0) > 0


@contextlib.contextmanager
def _made_by_store() -> Iterator[None]:
    _making.depth = getattr(_making, "depth", 0) + 1
    try:
        yield
    finally:
        _making.depth -= 1


class VariableStore:
    """The variables of one Estimator by name.

    Args:
        factory: Makes every variable of the store.

    Attributes:
        variables: Name to variable, in creation order.
        local: Names of variables that belong to metrics; they are not saved.
        initial: Initial value of each local variable, to reset it before an evaluation.
        resources: Lookup tables and the like that traces made; they live as long as the store.
    """

    def __init__(self, factory: VariableFactory = plain_variable) -> None:
        self.variables: dict[str, tf.Variable] = {}
        self.local: set[str] = set()
        self.initial: dict[str, Array] = {}
        self.resources: list[object] = []
        self._factory = factory
        self._names: dict[int, str] = {}
        self._lock = threading.RLock()

    def saved(self) -> dict[str, tf.Variable]:
        """Returns the variables that a checkpoint holds."""
        return {name: v for name, v in self.variables.items() if name not in self.local}

    def name_of(self, variable: AnyVariable) -> str | None:
        """Returns the name `variable` is kept under, or None if it is not kept here."""
        return self._names.get(id(raw(variable)))

    def adopt(self, name: str, variable: AnyVariable) -> None:
        """Keeps a variable that was made elsewhere under `name`, unless the name is taken."""
        with self._lock:
            value = raw(variable)
            if name not in self.variables and id(value) not in self._names:
                self._put(name, value)

    def mark_local(self, variables: Sequence[AnyVariable]) -> None:
        """Says that `variables` belong to metrics: never saved, reset before evaluations."""
        for variable in variables:
            name = self.name_of(variable)
            if name is not None:
                self.local.add(name)

    def reset_local(self) -> None:
        """Puts every local variable back to its initial value (eager or traced)."""
        for name in sorted(self.local):
            self.variables[name].assign(self.initial[name])

    def get(
        self, name: str, make: Callable[[VariableFactory], tf.Variable], *, local: bool = False
    ) -> tf.Variable:
        """Returns the variable `name`, made outside of any graph the first time.

        Args:
            name: Its full name.
            make: Makes it with the store's factory.
            local: Whether it belongs to a metric.
        """
        with self._lock:
            if name not in self.variables:
                # Name scopes survive init_scope; the full name says it all already.
                with tf.init_scope(), tf.name_scope(""), _made_by_store():
                    variable = make(self._factory_of(name, local=local))
                self._put(name, variable, local=local)
            return self.variables[name]

    def spread(self, other: VariableStore, strategy: tf.distribute.Strategy) -> bool:
        """Makes the variables of `other` here, for all replicas of a strategy.

        Variables that are here already keep their values.

        Args:
            other: A store of plain variables.
            strategy: Whose scope they are made in.

        Returns:
            Whether a variable was replaced that functions may have been traced with.
        """
        replaced = False
        self.local |= other.local
        self.resources.extend(other.resources)
        for name, plain in [*other.variables.items(), *self.variables.items()]:
            known = self.variables.get(name)
            if isinstance(known, tf.distribute.DistributedValues):
                continue
            made_from = plain if known is None else known
            with strategy.scope(), _made_by_store():
                variable = self._factory(
                    made_from.read_value(), trainable=plain.trainable, dtype=plain.dtype, name=name,
                    synchronization=plain.synchronization, aggregation=plain.aggregation,
                )  # fmt: skip
            replaced |= known is not None
            self._put(name, variable)
        return replaced

    def _factory_of(self, name: str, *, local: bool) -> VariableFactory:
        """Returns what makes the variable `name`; `local` as in `get`."""
        del name, local
        return self._factory

    def _put(self, name: str, variable: tf.Variable, *, local: bool = False) -> None:
        self.variables[name] = variable
        self._names[id(variable)] = name
        if local:
            self.local.add(name)
        self._note_initial(name, variable, local=local)

    def _note_initial(self, name: str, variable: tf.Variable, *, local: bool) -> None:
        # Metric variables are told apart only after the trace, so small non-trainable ones
        # are remembered now; nothing that is reset is large.
        if local or not variable.trainable:
            with tf.init_scope():
                self.initial[name] = np.zeros(variable.shape, variable.dtype.as_numpy_dtype)
                small = variable.shape.num_elements() <= _RESETTABLE
                if small and variable.dtype != tf.resource:
                    self.initial[name] = tf.convert_to_tensor(variable).numpy()


def raw(variable: AnyVariable) -> tf.Variable:
    """Returns the `tf.Variable` behind a Keras variable, and any other as it is."""
    return variable.value if hasattr(variable, "regularizer") else variable
