"""What the code of a model asks for: variables by name, the global step, seeds."""

from __future__ import annotations

import contextlib
import itertools
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy.typing as npt
import tensorflow as tf

from estimator_lib import tensorflow_internals
from estimator_lib.core.errors import ConfigError, Reason
from estimator_lib.variables.naming import GLOBAL_STEP, graph_name
from estimator_lib.variables.store import (
    AnyVariable,
    VariableFactory,
    VariableStore,
    plain_variable,
    raw,
)
from estimator_lib.variables.tracing import current, needed


@contextlib.contextmanager
def scope(name: str) -> Iterator[None]:
    """Variables made inside are named `outer/name/...`; ops are grouped alike (TensorBoard)."""
    with tf.name_scope(graph_name(name)), _prefixed(name):
        yield


@contextlib.contextmanager
def root_scope() -> Iterator[None]:
    """Leaves all scopes: `get_variable` takes its argument as the full name inside.

    An optimizer uses it to name its slots after the variable, wherever it is called.
    """
    with _prefixed(None):
        yield


@contextlib.contextmanager
def _prefixed(name: str | None) -> Iterator[None]:
    now = current()
    if now is None:
        yield
        return
    prefix = "" if name is None else now.names.of_get(name)
    now.names.scopes.append((prefix, tf.get_current_name_scope()))
    try:
        yield
    finally:
        now.names.scopes.pop()


def get_variable(
    name: str,
    shape: Sequence[int],
    *,
    initializer: Callable[..., tf.Tensor] | npt.ArrayLike | tf.Tensor,
    dtype: tf.DType | str = tf.float32,
    trainable: bool = True,
    by_rows: bool = False,
    **options: object,
) -> tf.Variable:
    """Returns the variable `<scope>/<name>`, made at its first use.

    Args:
        name: Its name below the current `scope`.
        shape: Its static shape.
        initializer: Called with (shape, dtype), such as a Keras initializer; or a constant.
        dtype: Of the variable.
        trainable: Whether `trainable_variables` lists it.
        by_rows: Whether it is a table that is read by rows (`features.lookup`), so that its rows
            may lie on several parameter servers.
        options: `aggregation`, `synchronization`, `constraint` of `tf.Variable`.

    Raises:
        ConfigError: the name is in use with another shape or dtype.
    """
    sizes = tuple(int(n) for n in shape)
    kind = tf.as_dtype(dtype)
    now = current()
    full = name if now is None else now.names.of_get(name)

    def initial() -> tf.Tensor:
        if callable(initializer):
            return tf.cast(initializer(sizes, dtype=kind), kind)
        return tf.fill(sizes, tf.cast(initializer, kind)) if sizes else initializer

    def make(factory: VariableFactory) -> tf.Variable:
        return factory(
            initial, dtype=kind, trainable=trainable, name=graph_name(full), shape=sizes,
            by_rows=by_rows, **options,
        )  # fmt: skip

    if now is None:
        with tf.init_scope():
            return make(plain_variable)
    variable = now.use(full, make)
    if tuple(variable.shape) != sizes or variable.dtype != kind:
        raise ConfigError(
            f"Variable {full!r} exists with another form: expected {sizes} {kind.name}, got "
            f"{tuple(variable.shape)} {variable.dtype.name}. Use another name or scope.",
            reason=Reason.CONFLICT,
        )
    return variable


def trainable_variables() -> list[tf.Variable]:
    """Returns the trainable variables of the current model_fn call, in creation order.

    Variables made outside of the model_fn (a layer in a closure) are listed once used.
    """
    now = current()
    if now is None:
        return []
    found = [v for v in now.used.values() if v.trainable]
    seen = {id(v) for v in found}
    # An unordered set, so sorted to be the same every time.
    read = [v for v in tensorflow_internals.variables_read() if id(v) not in now.read_before]
    read.sort(key=lambda variable: str(variable.name))
    for variable in map(tensorflow_internals.of_all_replicas, read):
        if variable.trainable and id(variable) not in seen:
            now.store.adopt(variable.name.removesuffix(":0"), variable)
            name = now.store.name_of(variable)
            if name is not None and now.store.variables[name] is variable:
                now.used.setdefault(name, variable)
                found.append(variable)
                seen.add(id(variable))
    return found


def compute_dtype() -> tf.DType:
    """Returns the type that large products should be computed in, float32 by default."""
    now = current()
    return tf.float32 if now is None else now.compute_dtype


def replica_rows() -> tf.Tensor | None:
    """Returns how many rows of a step this replica has, int64 scalar; None where it is alone."""
    now = current()
    return None if now is None else now.rows


def global_step() -> tf.Variable:
    """Returns the int64 scalar that counts training steps of the current store.

    Raises:
        TrainingError: no model_fn is being traced.
    """
    return needed("global_step").use(GLOBAL_STEP, _make_global_step)


def global_step_of(store: VariableStore) -> tf.Variable:
    """Returns the global step of `store`, made if it is not there."""
    return store.get(GLOBAL_STEP, _make_global_step)


def _make_global_step(factory: VariableFactory) -> tf.Variable:
    return factory(
        0,
        dtype=tf.int64,
        trainable=False,
        name=GLOBAL_STEP,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )


def stateless_seed(name: str = "") -> tf.Tensor:
    """Returns a seed for `tf.random.stateless_*` ops that changes with every step.

    It follows from the run's seed, `name`, how often this was called before in the trace and
    the global step, so that a resumed training draws the same numbers as one never stopped.

    Returns:
        int64 `[2]`.
    """
    now = current()
    if now is None:
        return tf.random.uniform([2], maxval=tf.int64.max, dtype=tf.int64)
    now.seeds += 1
    site = zlib.crc32(f"{now.seed}/{now.names.of_get(name)}/{now.seeds}".encode())
    return tf.stack([tf.constant(site, tf.int64), tf.identity(global_step())])


def name_of(variable: AnyVariable) -> str:
    """Returns the store's name of `variable` (without `:0`); outside a trace its own name."""
    now = current()
    name = now.store.name_of(variable) if now else None
    return name or str(raw(variable).name).removesuffix(":0")


def adopt(owner: str, variables: Mapping[str, AnyVariable]) -> None:
    """Keeps variables that were made outside of the model_fn (an optimizer instance's).

    Args:
        owner: Begin of their names; a second owner of the name is numbered.
        variables: By name below the owner's.
    """
    now = current()
    if now is None:
        return
    kept = now.store.variables
    names = (f"{owner}_{number}" if number else owner for number in itertools.count())
    free = next(
        name
        for name in names
        if all(kept.get(f"{name}/{n}", raw(v)) is raw(v) for n, v in variables.items())
    )
    for n, variable in variables.items():
        now.store.adopt(f"{free}/{n}", variable)
        name = now.store.name_of(variable)
        if name is not None:
            now.used[name] = kept[name]
