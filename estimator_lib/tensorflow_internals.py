"""What the library takes from inside TensorFlow and Keras, where no public name gives it.

Layer 0. Nothing else in the library imports their private modules or reads their private
attributes. `tests/contract/test_tensorflow_seams.py` holds each name here against the installed
versions, so that one that moves is found there and not in a user's training.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, ParamSpec, TypeVar

import tensorflow as tf
from keras.src.backend.common import global_state
from keras.src.backend.common.name_scope import current_path
from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph
from tensorflow.python.data.ops import dataset_ops
from tensorflow.python.data.ops.iterator_ops import OwnedIterator
from tensorflow.python.eager import context
from tensorflow.python.eager.lift_to_graph import lift_to_graph
from tensorflow.python.framework import op_def_registry
from tensorflow.python.framework.constant_op import convert_to_eager_tensor
from tensorflow.python.framework.func_graph import func_graph_from_py_func
from tensorflow.python.ops import handle_data_util, summary_ops_v2, variable_scope
from tensorflow.python.ops.op_selector import UnliftableError
from tensorflow.python.ops.resource_variable_ops import BaseResourceVariable
from tensorflow.python.platform import gfile
from tensorflow.python.saved_model.loader_impl import parse_saved_model
from tensorflow.python.saved_model.model_utils import export_output
from tensorflow.python.summary import summary
from tensorflow.python.summary.tb_summary import TBNotInstalledError
from tensorflow.python.trackable import resource
from tensorflow.python.training import checkpoint_utils
from tensorflow.python.training.saver import Saver
from tensorflow.python.training.training_util import GLOBAL_STEP_READ_KEY

__all__ = [
    "GLOBAL_STEP_READ_KEY",
    "BaseResourceVariable",
    "OwnedIterator",
    "TBNotInstalledError",
    "UnliftableError",
    "checkpoint_utils",
    "convert_to_eager_tensor",
    "current_path",
    "dataset_ops",
    "export_output",
    "gfile",
    "op_def_registry",
    "parse_saved_model",
]

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Function = TypeVar("Function")

VARIABLE_COLLECTIONS = (variable_scope._VARSTORE_KEY, variable_scope._VARSCOPESTORE_KEY)
"""Collections in which a graph keeps what `tf.compat.v1.get_variable` has made, and names."""
_KERAS_NAMES = "object_name_uids"

eager_context = context.context
"""Returns the context that `convert_to_eager_tensor` makes tensors in."""


# --- Eager execution --------------------------------------------------------------------------


def in_eager_mode(method: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Lets a method run as usual where a program has a graph open or eager execution disabled.

    Programs of TensorFlow 1 do so; an Estimator traces graphs of its own.
    """

    @functools.wraps(method)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        if tf.executing_eagerly():
            return method(*args, **kwargs)
        with context.eager_mode():
            return method(*args, **kwargs)

    return call


def runtime_started() -> bool:
    """Whether TensorFlow has made its threads in this process; they do not survive a fork."""
    current = context.context_safe()
    return current is not None and bool(current._initialized)


# --- Graphs and functions ---------------------------------------------------------------------


def trace_once(name: str, function: Callable[..., tf.Tensor], arguments: Sequence[object]) -> None:
    """Calls a function once in a graph of its own.

    `tf.function` would trace it a second time because variables were made.
    """
    func_graph_from_py_func(name, function, arguments, {})


def without_warnings(function: Function) -> Function:
    """Returns a `tf.function` that does not warn of functions made anew in a loop."""
    function._omit_frequent_tracing_warning = True  # type: ignore[attr-defined]
    return function


def lift(tensor: tf.Tensor) -> tf.Tensor:
    """Returns a copy of a tensor, with all that it follows from, in the current graph.

    Raises:
        Exception: it follows from an input of its own graph.
    """
    return lift_to_graph([tensor], tf.compat.v1.get_default_graph())[tensor]


def variables_read() -> tuple[tf.Variable, ...]:
    """Returns what the graph being traced has read; the replicas of a strategy share one."""
    return tuple(getattr(tf.compat.v1.get_default_graph(), "_watched_variables", ()))


@contextlib.contextmanager
def tracking_resources(into: list[object]) -> Iterator[None]:
    """Adds the lookup tables and the like that are made in the block to a list."""
    tracker = resource.ResourceTracker()
    try:
        with resource.resource_tracker_scope(tracker):
            yield
    finally:
        into.extend(tracker.resources)


_INIT_FROM_CHECKPOINT = checkpoint_utils.init_from_checkpoint
_takers = threading.local()
_taking_threads = 0
_replacing = threading.Lock()


@contextlib.contextmanager
def taking_initial_values(take: Callable[[str, Any], None]) -> Iterator[None]:
    """Lets `tf.compat.v1.train.init_from_checkpoint` call `take` in this thread, instead.

    Args:
        take: Gets the path and the map from names to names or variables.
    """
    global _taking_threads
    outer, _takers.take = getattr(_takers, "take", None), take
    with _replacing:
        _taking_threads += 1
        _replace_init_from_checkpoint(_init_from_checkpoint)
    try:
        yield
    finally:
        _takers.take = outer
        with _replacing:
            _taking_threads -= 1
            if not _taking_threads:
                _replace_init_from_checkpoint(_INIT_FROM_CHECKPOINT)


def _replace_init_from_checkpoint(function: Callable[[str, Any], None]) -> None:
    tf.compat.v1.train.init_from_checkpoint = function
    checkpoint_utils.init_from_checkpoint = function  # which tf.compat.v1.train.warm_start calls


def _init_from_checkpoint(ckpt_dir_or_file: str, assignment_map: Any) -> None:
    take = getattr(_takers, "take", None)
    if take is None:
        _INIT_FROM_CHECKPOINT(ckpt_dir_or_file, assignment_map)
    else:
        take(os.fsdecode(ckpt_dir_or_file), assignment_map)


@contextlib.contextmanager
def own_summaries_of_first_version() -> Iterator[None]:
    """Lets `tf.compat.v1.summary` make summaries, which it would leave to another package."""
    forwards, summary._should_invoke_v2_op = summary._should_invoke_v2_op, lambda: False
    try:
        yield
    finally:
        summary._should_invoke_v2_op = forwards


@contextlib.contextmanager
def default_writer(writer: tf.summary.SummaryWriter) -> Iterator[None]:
    """As `writer.as_default()`, which flushes in the end: with every step, in a loop."""
    state = summary_ops_v2._summary_state
    outer, state.writer = state.writer, writer
    try:
        yield
    finally:
        state.writer = outer


def shared_handle(name: str, device: str, shape: Sequence[int], dtype: tf.DType) -> tf.Tensor:
    """Returns the handle of the variable that all clients of a server know by `name`.

    Nothing is assigned, and the variable lives on when the handle is gone.
    """
    with tf.device(device):
        handle = tf.raw_ops.VarHandleOp(dtype=dtype, shape=shape, shared_name=name, container="")
    form = handle_data_util.create_handle_data(tf.TensorShape(shape), tf.as_dtype(dtype))
    handle._handle_data = form
    return handle


def connect_to_servers(servers: Mapping[str, Sequence[str]], own: str) -> None:
    """Makes the devices of servers those of this process, too, which they reach at `own`.

    `tf.config.experimental_connect_to_cluster` also makes a server the leader of collective
    operations, of which there are none. The job of this process keeps its name, so that tensors
    that exist stay usable.
    """
    cluster = tf.train.ClusterSpec({**servers, "localhost": {0: own}})
    context.set_server_def(
        tf.train.ServerDef(
            cluster=cluster.as_cluster_def(),
            job_name="localhost",
            task_index=0,
            protocol="grpc",
            default_session_config=context.context().config,
        )
    )


# --- Checkpoints ------------------------------------------------------------------------------


def variables_of_objects(saved: bytes) -> dict[str, str]:
    """Returns variables' names, and their keys, of the graph of objects in a checkpoint."""
    graph = TrackableObjectGraph.FromString(saved)
    found = [attribute for node in graph.nodes for attribute in node.attributes]
    return {a.full_name: a.checkpoint_key for a in found if a.full_name}


@contextlib.contextmanager
def savers_without_operations() -> Iterator[None]:
    """Lets a model_fn make a `Saver`: a traced step would run all of its operations.

    Such a saver restores where eager execution is on.
    """
    build, Saver.build = Saver.build, lambda _: None
    try:
        yield
    finally:
        Saver.build = build


# --- Strategies -------------------------------------------------------------------------------


def is_distributed(strategy: tf.distribute.Strategy) -> bool:
    """Whether a strategy has more than one replica, here or elsewhere."""
    return bool(strategy.num_replicas_in_sync > 1 or strategy.extended._in_multi_worker_mode())


def spans_processes(strategy: tf.distribute.Strategy) -> bool:
    """Whether a strategy's replicas are in the processes of a cluster."""
    return bool(strategy.extended._in_multi_worker_mode())


def abort_collectives(message: str) -> None:
    """Lets every operation of this process that waits for other processes fail, for good."""
    context.context().abort_collective_ops(tf.errors.DEADLINE_EXCEEDED, message)


def of_one_replica(spec: tf.TypeSpec) -> tf.TypeSpec:
    """Returns the spec of one replica's part of a value."""
    parts = getattr(spec, "_value_specs", None)
    return parts[0] if parts else spec


def of_all_replicas(variable: tf.Variable) -> tf.Variable:
    """Returns the variable of all replicas that a replica's one is a part of."""
    for part in (variable, variable.handle):
        container = getattr(part, "_distributed_container", None)
        if container is not None:
            return container()
    return variable


# --- Input ------------------------------------------------------------------------------------


def dataset_of(iterator: tf.data.Iterator) -> tf.data.Dataset:
    """Returns the dataset that an iterator reads."""
    return iterator._dataset


# --- Feature columns --------------------------------------------------------------------------


class SharedTable(NamedTuple):
    """A table that embedding columns of `tf.feature_column` share, as its maker was told."""

    initializer: Callable[..., tf.Tensor] | None
    name: str
    trainable: bool
    checkpoint: str | None


def shared_table(shared: object) -> SharedTable:
    """Returns how a shared table is made.

    Args:
        shared: The `shared_embedding_column_creator` of one of its columns.
    """
    return SharedTable(
        initializer=shared._initializer,  # type: ignore[attr-defined]
        name=shared._name,  # type: ignore[attr-defined]
        trainable=shared._trainable,  # type: ignore[attr-defined]
        checkpoint=shared._ckpt_to_load_from,  # type: ignore[attr-defined]
    )


# --- Keras ------------------------------------------------------------------------------------


@contextlib.contextmanager
def numbering_layers_anew() -> Iterator[None]:
    """Lets Keras number its layers from the start, and go on afterwards where it was."""
    before: Mapping[str, int] | None = global_state.get_global_attribute(_KERAS_NAMES)
    global_state.set_global_attribute(_KERAS_NAMES, None)
    try:
        yield
    finally:
        global_state.set_global_attribute(_KERAS_NAMES, before)
