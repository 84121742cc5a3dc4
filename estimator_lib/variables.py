"""The variables of one Estimator, kept by stable scoped name and shared by all its modes.

Layer 1. A `model_fn` is traced once per mode. Whatever way it makes variables (`get_variable`,
Keras layers and optimizers, `tf.Module`, plain `tf.Variable`), the first trace creates them
outside the graph and keeps them in a `VariableStore`; later traces get the same objects by
name. Outside an Estimator, `get_variable` simply makes a `tf.Variable`, so that heads and
columns can be used eagerly on their own.

Names: `scope("dnn")` and `get_variable("kernel", ...)` give `dnn/kernel`, and the same name
asked for twice is the same variable. Variables made by Keras or `tf.Variable` are named after
the name scopes they are made in, and a second one of the same name gets `_1`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from keras.src.backend.common import global_state as keras_state
from keras.src.backend.common.name_scope import current_path
from tensorflow.python.eager.lift_to_graph import lift_to_graph
from tensorflow.python.ops import variable_scope
from tensorflow.python.summary import tb_summary
from tensorflow.python.trackable import resource

from estimator_lib.core.errors import ConfigError, Reason, TrainingError

GLOBAL_STEP = "global_step"
AVERAGE = "/ExponentialMovingAverage"
_LOCAL_COLLECTIONS = frozenset(("local_variables", "metric_variables"))
_KERAS_NAMES = "object_name_uids"
_STORES = (variable_scope._VARSTORE_KEY, variable_scope._VARSCOPESTORE_KEY)
"""Collections in which a graph keeps what `tf.compat.v1.get_variable` has made, and names."""

_KERAS_2 = {
    "is not available with Keras 3": "Use keras.layers instead of tf.compat.v1.layers.",
    "'DenseFeatures'": "Use tf.compat.v1.feature_column.input_layer(features, columns).",
    "'iterations'": "Leave the line out: the loop counts the steps.",
    "'get_updates'": "Use estimator_lib.optimizers.minimize(loss, optimizer) as train_op.",
    "'get_updates_for'": "Leave it out: a step runs the updates of its layers.",
}
"""What errors of Keras 3 say, to what to do."""


class VariableStore:
    """The variables of one Estimator by name.

    Attributes:
        variables: Name to variable, in creation order.
        local: Names of variables that belong to metrics; they are not saved.
        initial: Initial value of each local variable, to reset it before an evaluation.
        resources: Lookup tables and the like that traces made; they live as long as the store.
    """

    def __init__(self) -> None:
        self.variables: dict[str, Any] = {}
        self.local: set[str] = set()
        self.initial: dict[str, Any] = {}
        self.resources: list[Any] = []
        self._names: dict[int, str] = {}
        self._lock = threading.RLock()

    def saved(self) -> dict[str, Any]:
        """Returns the variables that a checkpoint holds."""
        return {name: v for name, v in self.variables.items() if name not in self.local}

    def name_of(self, variable: Any) -> str | None:
        """Returns the name `variable` is kept under, or None if it is not kept here."""
        return self._names.get(id(raw(variable)))

    def adopt(self, name: str, variable: Any) -> None:
        """Keeps a variable that was made elsewhere under `name`, unless the name is taken."""
        with self._lock:
            value = raw(variable)
            if name not in self.variables and id(value) not in self._names:
                self._put(name, value)

    def mark_local(self, variables: Sequence[Any]) -> None:
        """Says that `variables` belong to metrics: never saved, reset before evaluations."""
        for variable in variables:
            name = self.name_of(variable)
            if name is not None:
                self.local.add(name)

    def reset_local(self) -> None:
        """Puts every local variable back to its initial value (eager or traced)."""
        for name in sorted(self.local):
            self.variables[name].assign(self.initial[name])

    def get(self, name: str, make: Callable[[], Any], *, local: bool = False) -> Any:
        """Returns the variable `name`, made by `make` outside of any graph the first time."""
        with self._lock:
            if name not in self.variables:
                # Name scopes survive init_scope; the full name says it all already.
                with tf.init_scope(), tf.name_scope(""), _passing():
                    variable = make()
                self._put(name, variable)
                if local:
                    self.local.add(name)
            return self.variables[name]

    def spread(self, other: VariableStore, strategy: Any) -> bool:
        """Makes the variables of `other` here, for all replicas of a strategy.

        Variables that are here already keep their values.

        Args:
            other: A store of plain variables.
            strategy: A `tf.distribute.Strategy`.

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
            with strategy.scope(), _passing():
                variable = tf.Variable(
                    made_from.read_value(), trainable=plain.trainable, dtype=plain.dtype, name=name,
                    synchronization=plain.synchronization, aggregation=plain.aggregation,
                )  # fmt: skip
            replaced |= known is not None
            self._put(name, variable)
        return replaced

    def _put(self, name: str, variable: Any) -> None:
        self.variables[name] = variable
        self._names[id(variable)] = name
        # Metric variables are told apart only after the trace, so small non-trainable ones
        # are remembered now; nothing that is reset is large.
        if not variable.trainable:
            with tf.init_scope():
                self.initial[name] = np.zeros(variable.shape, variable.dtype.as_numpy_dtype)
                if variable.shape.num_elements() <= 65_536 and variable.dtype != tf.resource:
                    self.initial[name] = tf.convert_to_tensor(variable).numpy()


@dataclasses.dataclass
class Trace:
    """One call of a model_fn: which store it reads and which variables it has used so far."""

    store: VariableStore
    seed: int = 0
    base_scope: str = ""
    averages: bool = False
    compute_dtype: Any = tf.float32
    xla: bool = False
    required: list[tf.Tensor] = dataclasses.field(default_factory=list)
    scopes: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    used: dict[str, Any] = dataclasses.field(default_factory=dict)
    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    listed: Mapping[str, list[Any]] = dataclasses.field(default_factory=dict)
    seeds: int = 0
    read_before: frozenset[int] = frozenset()

    def get_name(self, name: str) -> str:
        """The full name of a `get_variable` call made now."""
        prefix = self.scopes[-1][0] if self.scopes else ""
        return f"{prefix}/{name}" if prefix else name

    def made_name(self, name: str) -> str:
        """The full, unique name of a variable that Keras or `tf.Variable` makes now."""
        prefix, graph_scope = self.scopes[-1] if self.scopes else ("", self.base_scope)
        # Keras's own path is preferred: TensorFlow numbers a repeated name scope per graph,
        # so its names would depend on what else the mode has traced.
        here = current_path()
        if not here:
            here = tf.get_current_name_scope()
            if graph_scope and (here == graph_scope or here.startswith(graph_scope + "/")):
                here = here[len(graph_scope) :].strip("/")
        full = "/".join(part for part in (prefix, here, name) if part)
        count = self.counts[full] = self.counts.get(full, -1) + 1
        return f"{full}_{count}" if count else full

    def use(self, name: str, make: Callable[[], Any], *, local: bool = False) -> Any:
        """Returns the variable and notes that this trace uses it."""
        variable = self.store.get(name, make, local=local)
        if self.averages and variable.trainable and not local:
            name, variable = self.average(name, variable)
        if name not in self.used:
            self.used[name] = variable
            self.enlist(name, variable)
        return variable

    def enlist(self, name: str, variable: Any) -> None:
        """Puts a variable into the graph's collection in which tf.compat.v1 looks for it."""
        key = tf.compat.v1.GraphKeys.TRAINABLE_VARIABLES if variable.trainable else name
        if key in self.listed and not any(v is variable for v in self.listed[key]):
            self.listed[key].append(variable)

    def average(self, name: str, variable: Any) -> tuple[str, Any]:
        """Returns the variable that follows another's running mean, and its name."""
        average = name + AVERAGE
        options = {"dtype": variable.dtype, "trainable": False, "name": graph_name(average)}
        return average, self.store.get(average, lambda: tf.Variable(variable, **options))


_here = threading.local()


def _trace() -> Trace | None:
    return getattr(_here, "trace", None)


@contextlib.contextmanager
def _passing() -> Iterator[None]:
    """Lets variable creation through: the store itself is creating."""
    outer = _trace()
    _here.trace = None
    try:
        yield
    finally:
        _here.trace = outer


@contextlib.contextmanager
def trace(
    store: VariableStore,
    *,
    seed: int = 0,
    averages: bool = False,
    compute_dtype: Any = tf.float32,
    xla: bool = False,
) -> Iterator[Trace]:
    """Captures the variables made inside the block (one call of a model_fn) in `store`.

    With `averages`, whoever asks for a trainable variable gets its running mean instead. With
    `xla`, what is traced will be compiled by XLA.

    Keras numbers its layers per process (`dense_1`, `dense_2`, ...); inside the block the
    numbers start anew, so that every trace gives the same names.
    """
    current = Trace(
        store=store,
        seed=seed,
        base_scope=tf.get_current_name_scope(),
        averages=averages,
        compute_dtype=tf.as_dtype(compute_dtype),
        xla=xla,
        read_before=frozenset(id(v) for v in _read_in_graph()),
    )
    outer = _trace()
    keras_names = keras_state.get_global_attribute(_KERAS_NAMES)
    keras_state.set_global_attribute(_KERAS_NAMES, None)
    _here.trace = current
    tracker = resource.ResourceTracker()
    try:
        with (
            tf.variable_creator_scope(_creator),
            resource.resource_tracker_scope(tracker),
            _first_version(current),
        ):
            yield current
    except tb_summary.TBNotInstalledError as error:
        raise ConfigError(
            f"model_fn writes a summary, but {error}. Install tensorboard, or give numbers to "
            "SummarySaverHook(tensors={...}) and return it as training_hooks.",
            reason=Reason.UNSUPPORTED,
        ) from error
    except AttributeError as error:
        refused = _of_keras_2(error)
        if refused is None:
            raise
        raise refused from error
    finally:
        store.resources.extend(tracker.resources)
        _here.trace = outer
        keras_state.set_global_attribute(_KERAS_NAMES, keras_names)


def _of_keras_2(error: AttributeError) -> ConfigError | None:
    """Returns what to write instead of a name that Keras 2 had, or None for other names."""
    fix = next((fix for text, fix in _KERAS_2.items() if text in str(error)), None)
    if fix is None:
        return None
    text = str(error).rstrip(".")
    return ConfigError(
        f"model_fn uses what went with Keras 2: {text}. {fix}", reason=Reason.UNSUPPORTED
    )


@contextlib.contextmanager
def _first_version(current: Trace) -> Iterator[None]:
    """Lets functions of `tf.compat.v1` find and make the variables of this trace only.

    `get_variable` starts with no variables, `get_global_step` finds the store's, an optimizer
    without var_list the trainable ones; its slots, which it makes outside of the graph, are
    captured like all others.
    """
    graph = tf.compat.v1.get_default_graph()
    trainable = tf.compat.v1.GraphKeys.TRAINABLE_VARIABLES
    collections = {key: graph.get_collection_ref(key) for key in (trainable, GLOBAL_STEP, *_STORES)}
    before = {key: list(values) for key, values in collections.items()}
    for values in collections.values():
        values.clear()
    current.listed = {key: collections[key] for key in (trainable, GLOBAL_STEP)}
    if GLOBAL_STEP in current.store.variables:
        current.enlist(GLOBAL_STEP, current.store.variables[GLOBAL_STEP])
    with contextlib.ExitStack() as stack:
        with tf.init_scope():
            stack.enter_context(tf.variable_creator_scope(_creator))
        try:
            yield
        finally:
            for key, values in collections.items():
                values[:] = before[key]


def _creator(next_creator: Callable[..., Any], **kwargs: Any) -> Any:
    current = _trace()
    if current is None:
        return next_creator(**kwargs)
    name = current.made_name(str(kwargs.get("name") or "Variable").removesuffix(":0").strip("/"))
    initial = kwargs.get("initial_value")

    def make() -> Any:
        options = {
            key: kwargs[key]
            for key in ("trainable", "dtype", "aggregation", "synchronization", "constraint")
            if kwargs.get(key) is not None
        }
        if kwargs.get("shape") is not None:
            options["shape"] = kwargs["shape"]
        return tf.Variable(_lifted(initial, name), name=graph_name(name), **options)

    # Metrics are told by where they put their variables: Keras sums them up over all replicas
    # (statistics of batch normalization are averaged), the metrics of old name a collection.
    collections = kwargs.get("collections") or ()
    local = (
        kwargs.get("synchronization") == tf.VariableSynchronization.ON_READ
        and kwargs.get("aggregation") == tf.VariableAggregation.SUM
    )
    local = local or bool(_LOCAL_COLLECTIONS.intersection(collections))
    return current.use(name, make, local=local)


def _lifted(initial: Any, name: str) -> Any:
    """Returns an initial value that can be used outside the graph it was computed in."""
    if not tf.is_tensor(initial) or hasattr(initial, "numpy"):
        return initial
    constant = tf.get_static_value(initial)
    if constant is not None:
        return constant

    @tf.function(autograph=False)
    def compute() -> Any:
        return lift_to_graph([initial], tf.compat.v1.get_default_graph())[initial]

    try:
        return compute.get_concrete_function()()
    except Exception as error:
        raise ConfigError(
            f"Variable {name!r} cannot be made: its initial value depends on the features. "
            "Give a constant or a function without arguments as the initial value.",
            reason=Reason.INVALID_VALUE,
        ) from error


def raw(variable: Any) -> Any:
    """Returns the `tf.Variable` behind a Keras variable, and any other as it is."""
    return variable.value if hasattr(variable, "regularizer") else variable


@contextlib.contextmanager
def scope(name: str) -> Iterator[None]:
    """Variables made inside are named `outer/name/...`; ops are grouped alike (TensorBoard)."""
    current = _trace()
    with tf.name_scope(graph_name(name)):
        if current is None:
            yield
            return
        current.scopes.append((current.get_name(name), tf.get_current_name_scope()))
        try:
            yield
        finally:
            current.scopes.pop()


def graph_name(name: str) -> str:
    """Returns a name that a graph allows for ops: fields of tables may have any."""
    allowed = re.sub(r"[^A-Za-z0-9_.\\/>-]", "_", name)
    return allowed if allowed[:1].isalnum() else f".{allowed}"


@contextlib.contextmanager
def root_scope() -> Iterator[None]:
    """Leaves all scopes: `get_variable` takes its argument as the full name inside.

    An optimizer uses it to name its slots after the variable, wherever it is called.
    """
    current = _trace()
    if current is None:
        yield
        return
    current.scopes.append(("", tf.get_current_name_scope()))
    try:
        yield
    finally:
        current.scopes.pop()


def get_variable(
    name: str,
    shape: Sequence[int],
    *,
    initializer: Any,
    dtype: Any = tf.float32,
    trainable: bool = True,
    **options: Any,
) -> Any:
    """Returns the variable `<scope>/<name>`, made at its first use.

    Args:
        name: Its name below the current `scope`.
        shape: Its static shape.
        initializer: Called with (shape, dtype), such as a Keras initializer; or a constant.
        dtype: Of the variable.
        trainable: Whether `trainable_variables` lists it.
        options: `aggregation`, `synchronization`, `constraint` of `tf.Variable`.

    Raises:
        ConfigError: the name is in use with another shape or dtype.
    """
    sizes = tuple(int(n) for n in shape)
    kind = tf.as_dtype(dtype)
    current = _trace()

    def make_named(full: str) -> Any:
        def initial() -> Any:
            if callable(initializer):
                return tf.cast(initializer(sizes, dtype=kind), kind)
            return tf.fill(sizes, tf.cast(initializer, kind)) if sizes else initializer

        name = graph_name(full)
        return tf.Variable(initial, dtype=kind, trainable=trainable, name=name, **options)

    if current is None:
        with tf.init_scope():
            return make_named(name)
    full = current.get_name(name)
    variable = current.use(full, lambda: make_named(full))
    if tuple(variable.shape) != sizes or variable.dtype != kind:
        raise ConfigError(
            f"Variable {full!r} exists with another form: expected {sizes} {kind.name}, got "
            f"{tuple(variable.shape)} {variable.dtype.name}. Use another name or scope.",
            reason=Reason.CONFLICT,
        )
    return variable


def trainable_variables() -> list[Any]:
    """Returns the trainable variables of the current model_fn call, in creation order.

    Variables made outside of the model_fn (a layer in a closure) are listed once used.
    """
    current = _trace()
    if current is None:
        return []
    found = [v for v in current.used.values() if v.trainable]
    seen = {id(v) for v in found}
    # An unordered set, so sorted to be the same every time.
    watched = [v for v in _read_in_graph() if id(v) not in current.read_before]
    for variable in map(_whole, sorted(watched, key=lambda v: str(v.name))):
        if variable.trainable and id(variable) not in seen:
            current.store.adopt(variable.name.removesuffix(":0"), variable)
            name = current.store.name_of(variable)
            if name is not None and current.store.variables[name] is variable:
                current.used.setdefault(name, variable)
                found.append(variable)
                seen.add(id(variable))
    return found


def _read_in_graph() -> Sequence[Any]:
    """Returns what the graph being traced has read; the replicas of a strategy share one."""
    return tuple(getattr(tf.compat.v1.get_default_graph(), "_watched_variables", ()))


def _whole(variable: Any) -> Any:
    """Returns the variable of all replicas that a replica's one is a part of."""
    for part in (variable, variable.handle):
        container = getattr(part, "_distributed_container", None)
        if container is not None:
            return container()
    return variable


def update_averages(decay: float) -> Any:
    """Returns the op that moves the running means towards the trainable variables.

    In the first steps the means follow faster: the share kept is at most
    (1 + step) / (10 + step), so that the initial values are soon forgotten.
    """
    current = _trace()
    if current is None:
        raise TrainingError(
            "update_averages is for a model_fn that is being traced. Call it inside of one.",
            reason=Reason.MISSING_VALUE,
        )
    step = tf.cast(global_step(), tf.float32)
    share = 1.0 - tf.minimum(decay, (1.0 + step) / (10.0 + step))
    updates = []
    for variable in trainable_variables():
        name, average = current.average(name_of(variable), raw(variable))
        current.used.setdefault(name, average)
        change = (average - variable.read_value()) * tf.cast(share, average.dtype)
        updates.append(average.assign_sub(change))
    return tf.group(*updates, name="averages")


def compute_dtype() -> Any:
    """Returns the type that large products should be computed in, float32 by default."""
    current = _trace()
    return tf.float32 if current is None else current.compute_dtype


def for_xla() -> bool:
    """Whether what is being traced now will be compiled by XLA, which lacks some operations."""
    current = _trace()
    return current is not None and current.xla


def require(condition: tf.Tensor, data: Callable[[], Sequence[Any]]) -> list[Any]:
    """Returns control dependencies that fail, and name `data`, where `condition` is false.

    XLA has no assertions: there the condition is noted in the trace, and whoever runs the
    compiled step looks at it.

    Args:
        condition: bool, of any shape.
        data: Makes the message's parts: texts and tensors.
    """
    current = _trace()
    if current is not None and current.xla:
        current.required.append(condition)
        return []
    good = tf.reduce_all(condition)
    if tf.executing_eagerly():
        tf.debugging.Assert(good, data(), summarize=20)
        return []
    # The bare op: tf.debugging.Assert wraps it in a conditional, which costs far more.
    parts = [tf.convert_to_tensor(part) for part in data()]
    return [tf.raw_ops.Assert(condition=good, data=parts, summarize=20)]


def requirements_met(required: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns whether all conditions of a trace are true, bool scalar."""
    by_shape: dict[tuple[int, ...], list[tf.Tensor]] = {(): [tf.constant(value=True)]}
    for condition in required:
        by_shape.setdefault(tuple(condition.shape), []).append(condition)
    # Conditions of one shape together make one kernel.
    each = [tf.reduce_all(functools.reduce(tf.logical_and, same)) for same in by_shape.values()]
    return functools.reduce(tf.logical_and, each)


def global_step() -> Any:
    """Returns the int64 scalar that counts training steps of the current store."""
    current = _trace()
    if current is None:
        raise TrainingError(
            "There is no global step here: expected a call from within a model_fn. "
            "Call global_step() inside model_fn, or keep a step of your own.",
            reason=Reason.MISSING_VALUE,
        )
    return current.use(GLOBAL_STEP, _make_global_step)


def global_step_of(store: VariableStore) -> Any:
    """Returns the global step of `store`, made if it is not there."""
    return store.get(GLOBAL_STEP, _make_global_step)


def _make_global_step() -> Any:
    return tf.Variable(
        0,
        dtype=tf.int64,
        trainable=False,
        name=GLOBAL_STEP,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )


def in_trace() -> bool:
    """Whether a model_fn is being traced now."""
    return _trace() is not None


def stateless_seed(name: str = "") -> Any:
    """Returns a seed for `tf.random.stateless_*` ops that changes with every step.

    It follows from the run's seed, `name`, how often this was called before in the trace and
    the global step, so that a resumed training draws the same numbers as one never stopped.

    Returns:
        int64 `[2]`.
    """
    current = _trace()
    if current is None:
        return tf.random.uniform([2], maxval=tf.int64.max, dtype=tf.int64)
    current.seeds += 1
    site = zlib.crc32(f"{current.seed}/{current.get_name(name)}/{current.seeds}".encode())
    return tf.stack([tf.constant(site, tf.int64), tf.identity(global_step())])


def name_of(variable: Any) -> str:
    """Returns the store's name of `variable` (without `:0`); outside a trace its own name."""
    current = _trace()
    name = current.store.name_of(variable) if current else None
    return name or str(raw(variable).name).removesuffix(":0")


def adopt(variables: Mapping[str, Any]) -> None:
    """Keeps variables that were made outside of the model_fn (an optimizer instance's)."""
    current = _trace()
    if current is not None:
        for name, variable in variables.items():
            current.store.adopt(name, variable)
