"""One call of a model_fn: whatever way it makes variables, they are those of a store."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final, cast

import tensorflow as tf

from estimator_lib import tensorflow_internals
from estimator_lib.core.errors import ConfigError, Reason, TrainingError
from estimator_lib.variables.naming import AVERAGE, GLOBAL_STEP, Names, graph_name
from estimator_lib.variables.store import VariableFactory, VariableStore, is_making

_LOCAL_COLLECTIONS = frozenset(("local_variables", "metric_variables"))
_TRAINABLE: Final = tf.compat.v1.GraphKeys.TRAINABLE_VARIABLES

_KERAS_2 = {
    "is not available with Keras 3": "Use its like of keras.layers, or its function: of "
    "tf.compat.v1.layers there are dense, batch_normalization, dropout, flatten, conv1d and the "
    "like, max_pooling1d and average_pooling1d and the like.",
    "'DenseFeatures'": "Use tf.compat.v1.feature_column.input_layer(features, columns).",
    "'iterations'": "Leave the line out: the loop counts the steps.",
    "'get_updates'": "Use estimator_lib.optimizers.minimize(loss, optimizer) as train_op.",
    "'get_updates_for'": "Leave it out: a step runs the updates of its layers.",
}
"""What errors of Keras 3 say, to what to do."""


@dataclasses.dataclass
class Trace:
    """One call of a model_fn: which store it reads and which variables it has used so far.

    Attributes:
        store: Where its variables are.
        seed: Of its random numbers.
        averages: Whether it computes with running means instead of trainable variables.
        compute_dtype: What large products are computed in.
        xla: Whether what is traced will be compiled by XLA.
        names: The names that it gives.
        required: Conditions on the batch that XLA cannot assert.
        used: The variables that it has used, by name.
        seeds: How many seeds it has given.
        read_before: ids of the variables that its graph had read before it began.
        rows: Rows of the batch, int64 scalar, where replicas share a step and may have different
            numbers of them.
    """

    store: VariableStore
    seed: int
    averages: bool
    compute_dtype: tf.DType
    xla: bool
    names: Names
    read_before: frozenset[int]
    required: list[tf.Tensor] = dataclasses.field(default_factory=list)
    used: dict[str, tf.Variable] = dataclasses.field(default_factory=dict)
    seeds: int = 0
    rows: tf.Tensor | None = None
    _listed: dict[str, list[tf.Variable]] = dataclasses.field(default_factory=dict)

    def use(
        self, name: str, make: Callable[[VariableFactory], tf.Variable], *, local: bool = False
    ) -> tf.Variable:
        """Returns the variable and notes that this trace uses it."""
        variable = self.store.get(name, make, local=local)
        if self.averages and variable.trainable and not local:
            name, variable = self.average(name, variable)
        if name not in self.used:
            self.used[name] = variable
            self._list(name, variable)
        return variable

    def average(self, name: str, variable: tf.Variable) -> tuple[str, tf.Variable]:
        """Returns the variable that follows another's running mean, and its name."""
        average = name + AVERAGE
        options = {"dtype": variable.dtype, "trainable": False, "name": graph_name(average)}
        return average, self.store.get(average, lambda factory: factory(variable, **options))

    def _list(self, name: str, variable: tf.Variable) -> None:
        """Puts a variable into the graph's collection in which tf.compat.v1 looks for it."""
        key = _TRAINABLE if variable.trainable else name
        if key in self._listed and not any(v is variable for v in self._listed[key]):
            self._listed[key].append(variable)

    @contextlib.contextmanager
    def first_version(self) -> Iterator[None]:
        """Lets functions of `tf.compat.v1` find and make the variables of this trace only.

        `get_variable` starts with no variables, `get_global_step` finds the store's, an optimizer
        without var_list the trainable ones; its slots, which it makes outside of the graph, are
        captured like all others.
        """
        graph = tf.compat.v1.get_default_graph()
        keys = (_TRAINABLE, GLOBAL_STEP, *tensorflow_internals.VARIABLE_COLLECTIONS)
        collections = {key: graph.get_collection_ref(key) for key in keys}
        before = {key: list(values) for key, values in collections.items()}
        for values in collections.values():
            values.clear()
        self._listed = {key: collections[key] for key in (_TRAINABLE, GLOBAL_STEP)}
        if GLOBAL_STEP in self.store.variables:
            self._list(GLOBAL_STEP, self.store.variables[GLOBAL_STEP])
        v1 = tf.compat.v1
        whole = v1.variable_scope(
            v1.get_variable_scope(), custom_getter=_get_whole, auxiliary_name_scope=False
        )
        with contextlib.ExitStack() as stack:
            with tf.init_scope():
                stack.enter_context(tf.variable_creator_scope(_create))
            stack.enter_context(whole)
            try:
                yield
            finally:
                for key, values in collections.items():
                    values[:] = before[key]


def _get_whole(
    getter: Callable[..., tf.Variable], *args: object, partitioner: object = None, **given: object
) -> tf.Variable:
    """`tf.compat.v1.get_variable` without parts: they were for parameter servers."""
    del partitioner
    return getter(*args, **given)


_here = threading.local()


def current() -> Trace | None:
    """Returns the call of a model_fn that this thread is in; None while its store makes one."""
    found: Trace | None = getattr(_here, "trace", None)
    return None if is_making() else found


def needed(function: str) -> Trace:
    """Returns the call of a model_fn that this thread is in, for a function that needs one.

    Raises:
        TrainingError: there is none.
    """
    now = current()
    if now is None:
        raise TrainingError(
            f"{function}() is for a model_fn that is being traced. Call it inside of one.",
            reason=Reason.MISSING_VALUE,
        )
    return now


def in_trace() -> bool:
    """Whether a model_fn is being traced now."""
    return current() is not None


@contextlib.contextmanager
def trace(
    store: VariableStore,
    *,
    seed: int = 0,
    averages: bool = False,
    compute_dtype: tf.DType | str = tf.float32,
    xla: bool = False,
) -> Iterator[Trace]:
    """Captures the variables made inside the block (one call of a model_fn) in `store`.

    With `averages`, whoever asks for a trainable variable gets its running mean instead. With
    `xla`, what is traced will be compiled by XLA.

    Keras numbers its layers per process (`dense_1`, `dense_2`, ...); inside the block the
    numbers start anew, so that every trace gives the same names.
    """
    now = Trace(
        store=store,
        seed=seed,
        averages=averages,
        compute_dtype=tf.as_dtype(compute_dtype),
        xla=xla,
        names=Names(tf.get_current_name_scope(), tf.compat.v1.get_default_graph()),
        read_before=frozenset(id(v) for v in tensorflow_internals.variables_read()),
    )
    outer, _here.trace = getattr(_here, "trace", None), now
    try:
        with (
            tensorflow_internals.numbering_layers_anew(),
            tf.variable_creator_scope(_create),
            tensorflow_internals.tracking_resources(store.resources),
            now.first_version(),
        ):
            yield now
    except tensorflow_internals.TBNotInstalledError as error:
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
        _here.trace = outer


def _of_keras_2(error: AttributeError) -> ConfigError | None:
    """Returns what to write instead of a name that Keras 2 had, or None for other names."""
    fix = next((fix for text, fix in _KERAS_2.items() if text in str(error)), None)
    if fix is None:
        return None
    text = str(error).rstrip(".")
    return ConfigError(
        f"model_fn uses what went with Keras 2: {text}. {fix}", reason=Reason.UNSUPPORTED
    )


def _create(next_creator: Callable[..., tf.Variable], **given: object) -> tf.Variable:
    now = current()
    if now is None:
        return next_creator(**given)
    name = str(given.get("name") or "Variable").removesuffix(":0").strip("/")
    full = now.names.of_made(name)
    kept = ("trainable", "dtype", "aggregation", "synchronization", "constraint", "shape")
    options = {key: given[key] for key in kept if given.get(key) is not None}
    # Metrics are told by where they put their variables: Keras sums them up over all replicas
    # (statistics of batch normalization are averaged), the metrics of old name a collection.
    summed = (
        given.get("synchronization") == tf.VariableSynchronization.ON_READ
        and given.get("aggregation") == tf.VariableAggregation.SUM
    )
    collections = cast("Sequence[str]", given.get("collections") or ())
    return now.use(
        full,
        lambda factory: factory(
            _lifted(given.get("initial_value"), full), name=graph_name(full), **options
        ),
        local=summed or not _LOCAL_COLLECTIONS.isdisjoint(collections),
    )


def _lifted(initial: object, name: str) -> object:
    """Returns an initial value that can be used outside the graph it was computed in."""
    if not tf.is_tensor(initial) or hasattr(initial, "numpy"):
        return initial
    constant = tf.get_static_value(initial)
    if constant is not None:
        return constant

    @tf.function(autograph=False)
    def compute() -> tf.Tensor:
        return tensorflow_internals.lift(initial)

    try:
        return compute.get_concrete_function()()
    except Exception as error:
        raise ConfigError(
            f"Variable {name!r} cannot be made: its initial value depends on the features. "
            "Give a constant or a function without arguments as the initial value.",
        ) from error
