"""One model_fn, traced: its variables and the compiled train, evaluate and predict functions.

Layer 3. `TracedModel` owns the variable store of an Estimator. For each mode and input
signature it calls model_fn twice, ever: once to make the variables (and to learn the form of
what it returns), once inside the loop that does the work. Loops run many steps per call.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import inspect
import logging
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.func_graph import func_graph_from_py_func
from tensorflow.python.ops import summary_ops_v2

from estimator_lib import losses, variables
from estimator_lib.core.errors import ConfigError, DataError, Reason, did_you_mean, quote
from estimator_lib.features.lookup import only_cpu
from estimator_lib.inputs import datasets
from estimator_lib.inputs.feed import Feed
from estimator_lib.specs import RESERVED_METRICS, EstimatorSpec, ModeKeys
from estimator_lib.training import hooks as hooks_lib
from estimator_lib.training import metric_pairs, summaries
from estimator_lib.training.session_hooks import SessionHook, is_for_sessions

_log = logging.getLogger(__name__)
_XLA_STEPS = 5_000
"""Compiling pays for itself in trainings of some thousand steps: it takes as long as about
2,000 steps of batch 512, or 5,000 of batch 64, are shortened by in all."""
MODEL_FN_ARGUMENTS = ("features", "labels", "mode", "params", "config")


@dataclasses.dataclass(frozen=True)
class Form:
    """What a build trace learned about a mode.

    Attributes:
        fetches: Name to TensorSpec of the tensors that hooks and metric pairs need.
        pairs: Names of metrics that are (value, update op) pairs.
        metrics: Names of metric objects.
        hooked: Whether the model brings hooks for PREDICT.
        idle: Whether it brings a train_op to another mode, where it must not run.
        variables: Names of the variables the mode uses.
    """

    fetches: Mapping[str, Any]
    pairs: tuple[str, ...]
    metrics: tuple[str, ...]
    hooked: bool
    idle: bool
    variables: tuple[str, ...]
    features: tuple[str, ...]


@dataclasses.dataclass
class Compiled:
    """A mode's compiled function, with what belongs to its trace.

    `over_chunk` is the same loop for `Feed.chunk_loop`, compiled by XLA, if there is one.
    `run_with_hooks` also gives what the model's own prediction hooks ask for, if it has any.
    """

    form: Form
    run: Any
    over_chunk: Any = None
    run_with_hooks: Any = None
    spec: dict[str, Any] = dataclasses.field(default_factory=dict)
    results: Callable[[], Any] | None = None


class TracedModel:
    """A model_fn with its variables and compiled functions.

    Args:
        model_fn: Takes features and some of labels, mode, params, config.
        params: Handed to model_fn (a copy per call).
        config: RunConfig.
        summary_dir: Where `tf.summary` calls inside model_fn write during training.
    """

    def __init__(
        self,
        model_fn: Callable[..., EstimatorSpec],
        params: Any,
        config: Any,
        summary_dir: str,
    ) -> None:
        self.store = variables.VariableStore()
        self._model_fn = model_fn
        self._params = params
        self._config = config
        self._summary_dir = summary_dir
        self._writer: Any = None
        self._forms: dict[Any, Form] = {}
        self._compiled: dict[Any, Compiled] = {}
        self._accepted = _accepted(model_fn)
        self.traces = 0

    # --- Calling model_fn -----------------------------------------------------------------

    def call(self, features: Any, labels: Any, mode: str) -> EstimatorSpec:
        """Calls model_fn once, inside the current graph."""
        given = {"mode": mode, "params": copy.copy(self._params), "config": self._config}
        arguments = {name: given[name] for name in given if name in self._accepted}
        if "labels" in self._accepted:
            arguments["labels"] = labels
        elif labels is not None and mode != ModeKeys.PREDICT:
            raise ConfigError(
                f"model_fn {datasets.function_name(self._model_fn)} takes no labels, but the "
                "input gives some. Add the argument labels to model_fn.",
                reason=Reason.CONFLICT,
            )
        self.traces += 1
        with self._compiling(mode):
            spec = self._model_fn(features=features, **arguments)
        if not isinstance(spec, EstimatorSpec):
            raise ConfigError(
                f"model_fn {datasets.function_name(self._model_fn)} returned no EstimatorSpec: "
                f"got {quote(spec)}. Return EstimatorSpec(mode=mode, ...).",
                reason=Reason.TYPE_MISMATCH,
            )
        if spec.mode != mode:
            raise ConfigError(
                f"model_fn returned a spec for another mode: expected {mode!r}, got "
                f"{spec.mode!r}. Pass mode=mode to EstimatorSpec.",
                reason=Reason.CONFLICT,
            )
        decay = self._config.moving_average_decay
        if mode == ModeKeys.TRAIN and decay is not None:
            with tf.control_dependencies(_ops(spec.train_op)):
                spec = spec._replace(train_op=variables.update_averages(decay))
        return spec

    def tracing(
        self, mode: str, store: variables.VariableStore | None = None, *, xla: bool = False
    ) -> contextlib.AbstractContextManager[variables.Trace]:
        """Captures the variables of a call of model_fn in `mode`."""
        averages = mode != ModeKeys.TRAIN and self._config.moving_average_decay is not None
        return variables.trace(
            store or self.store,
            seed=self.seed,
            averages=averages,
            compute_dtype=self._config.compute_dtype,
            xla=xla,
        )

    def _compiling(self, mode: str) -> contextlib.AbstractContextManager[Any]:
        if not self._config.jit_compile or mode != ModeKeys.TRAIN or variables.for_xla():
            return contextlib.nullcontext()
        return tf.xla.experimental.jit_scope()

    def global_step(self) -> Any:
        """Returns the global step variable."""
        return variables.global_step_of(self.store)

    @property
    def seed(self) -> int:
        """The run's seed, 0 if none was given."""
        return self._config.tf_random_seed or 0

    # --- Building -------------------------------------------------------------------------

    def build(
        self, mode: str, element_spec: Any, strategy: Any = None, given: Sequence[Any] = ()
    ) -> Form:
        """Makes the variables that a mode needs, and returns the form of its results.

        The trace is of one replica without a strategy; its variables are then made anew for all
        replicas.
        """
        key = (mode, _key(element_spec), id(strategy) if strategy else None, *map(id, given))
        if key in self._forms:
            return self._forms[key]
        store = self.store if strategy is None else variables.VariableStore()
        form = self._built(mode, element_spec, store, given)
        if strategy is not None and self.store.spread(store, strategy):
            # What was traced before holds the variables of one device.
            self._forms.clear()
            self._compiled.clear()
        self._forms[key] = form
        return form

    def _built(
        self, mode: str, element_spec: Any, store: variables.VariableStore, given: Sequence[Any]
    ) -> Form:
        found: dict[str, Any] = {}
        features_spec, labels_spec = datasets.split(element_spec)

        def build(features: Any, labels: Any) -> Any:
            with self.tracing(mode, store) as trace:
                variables.global_step()
                spec = self.call(features, labels, mode)
                spec = _with_adapters(spec, given, probing=True)
                found.update(_description(spec, mode, store))
                found["variables"] = tuple(trace.used)
            return tf.constant(0)

        with _seeded(self._config.tf_random_seed):
            # A bare graph: tf.function would trace a second time because variables were made.
            func_graph_from_py_func("build", build, _arguments(features_spec, labels_spec), {})
        names = sorted(features_spec) if isinstance(features_spec, Mapping) else ["features"]
        return Form(**found, features=tuple(map(str, names)))

    # --- Training -------------------------------------------------------------------------

    def train_function(
        self,
        feed: Feed,
        strategy: Any = None,
        steps: int | None = None,
        given: Sequence[Any] = (),
    ) -> Compiled:
        """Returns the training functions `run` and `over_chunk`, for `Flow.run`.

        Args:
            feed: The batches.
            strategy: Trains replicas.
            steps: How many are expected in the whole training; None if there is no end.
            given: The caller's hooks for sessions, as `SessionHook`s.

        The result is a dict of tensors: `steps` (executed), `more` (the input has not ended),
        `finite` (all losses were), `loss` (the last), `loss_sum`, `rows`, and the fetches.
        """
        form = self.build(ModeKeys.TRAIN, feed.element_spec, strategy, given)
        xla = strategy is None and not given and self._wants_xla(feed, steps)
        key = (
            ModeKeys.TRAIN, feed.key, id(strategy) if strategy else None, xla, *map(id, given)
        )  # fmt: skip
        if key in self._compiled:
            return self._compiled[key]
        compiled = Compiled(form=form, run=lambda: None)
        step_var = self.global_step()
        initial = _initial(form)
        every = self._config.save_summary_steps

        def replica_step(features: Any, labels: Any, *, for_xla: bool = False) -> tuple[Any, ...]:
            with self.tracing(ModeKeys.TRAIN, xla=for_xla) as trace:
                spec = _with_adapters(self.call(features, labels, ModeKeys.TRAIN), given)
                compiled.spec["spec"] = spec
                fetched = _fetches(spec, ModeKeys.TRAIN)
                with tf.control_dependencies(_ops(spec.train_op)):
                    loss = tf.cast(tf.identity(spec.loss), tf.float32)
            found = {"valid": variables.requirements_met(trace.required)} if for_xla else {}
            return loss, _rows(features, labels), fetched, found

        def step(element: Any, *, for_xla: bool) -> tuple[Any, ...]:
            features, labels = datasets.split(element)
            before = step_var.read_value()
            with self._summaries(step_var, every):
                if strategy is None:
                    found = replica_step(features, labels, for_xla=for_xla)
                else:
                    found = (*_replicated(strategy, replica_step, features, labels), {})
            with tf.control_dependencies([found[0]]):
                step_var.assign(before + 1)
            return found

        def one(element: Any, state: dict[str, Any], *, for_xla: bool = False) -> dict[str, Any]:
            loss, rows, fetched, found = step(element, for_xla=for_xla)
            return found | {
                "finite": tf.math.is_finite(loss),
                "loss": loss,
                "loss_sum": state["loss_sum"] + tf.cast(loss, tf.float64),
                "rows": state["rows"] + rows,
                "fetches": {
                    k: tf.ensure_shape(fetched[k], s.shape) for k, s in form.fetches.items()
                },
            }

        def start() -> dict[str, Any]:
            return {
                "finite": tf.constant(value=True), "loss": tf.constant(0.0),
                "loss_sum": tf.constant(0.0, tf.float64), "rows": tf.constant(0, tf.int64),
                "fetches": tf.nest.map_structure(tf.constant, initial),
            }  # fmt: skip

        @_function(input_signature=feed.signature)
        def run(iterator: Any, held: Any, steps: Any) -> dict[str, Any]:
            ran = feed.loop(iterator, held, steps, start(), one, lambda state: state["finite"])
            return {
                "steps": ran["done"], "more": ran["more"], "held": ran["held"], **ran["state"],
                "global_step": step_var.read_value(),
            }  # fmt: skip

        def over_chunk(chunk: Any, at: Any, end: Any, steps: Any) -> dict[str, Any]:
            state = start() | {"valid": tf.constant(value=True)}
            ran = feed.chunk_loop(
                chunk, at, end, steps, state, functools.partial(one, for_xla=True),
                lambda state: state["finite"] & state["valid"],
            )  # fmt: skip
            return {
                "steps": ran["done"], "at": ran["at"], **ran["state"],
                "global_step": step_var.read_value(),
            }  # fmt: skip

        compiled.run = run
        if xla:
            compiled.over_chunk = self._compiled_by_xla(over_chunk, feed)
            if compiled.over_chunk is None:
                compiled.spec.clear()
        self._compiled[key] = compiled
        return compiled

    def _wants_xla(self, feed: Feed, steps: int | None) -> bool:
        """Whether to compile a training loop; the same for a training that is resumed."""
        wanted = self._config.jit_compile
        if feed.chunk_rows is None or wanted is False:
            return False
        if wanted:
            return True
        textual = any(spec.dtype == tf.string for spec in tf.nest.flatten(feed.element_spec))
        marked = getattr(self._model_fn, "compilable", False)
        long = steps is None or steps >= _XLA_STEPS
        return marked and long and not textual and only_cpu()

    def _compiled_by_xla(self, over_chunk: Callable[..., Any], feed: Feed) -> Any:
        """Returns the function, compiled now, or None if XLA cannot and nobody insists."""
        # A concrete function: looking for the one that fits would cost as much as some steps.
        function = _function(jit_compile=True)(over_chunk).get_concrete_function(
            *feed.chunk_signature
        )
        none = tf.constant(0, tf.int64)
        _log.info("Compiling the training loop.")
        try:
            function(feed.zeros(feed.chunk_rows or 0), none, none, none)
        except tf.errors.OpError as error:
            why = str(error.message).splitlines()[0]
            if self._config.jit_compile:
                raise ConfigError(
                    f"XLA cannot compile the training of model_fn "
                    f"{datasets.function_name(self._model_fn)}: {why} Leave "
                    "RunConfig.jit_compile at None.",
                    reason=Reason.UNSUPPORTED,
                ) from error
            _log.info("Training is not compiled by XLA: %s", why)
            return None
        return function

    @contextmanager
    def _summaries(self, step: Any, every: int | None) -> Iterator[None]:
        """`tf.summary` calls in model_fn write every `every` steps."""
        if every is None:
            with tf.summary.record_if(False):
                yield
            return
        if self._writer is None:
            self._writer = summaries.writer(self._summary_dir)
        tf.summary.experimental.set_step(step)
        # As writer.as_default(), which flushes in the end: with every step, in a loop.
        state = summary_ops_v2._summary_state
        outer, state.writer = state.writer, self._writer
        try:
            with tf.summary.record_if(lambda: tf.equal(tf.math.floormod(step, every), 0)):
                yield
        finally:
            state.writer = outer

    def flush_summaries(self) -> None:
        """Writes buffered summaries of model_fn to disk."""
        if self._writer is not None:
            self._writer.flush()

    # --- Evaluation -----------------------------------------------------------------------

    def evaluate_function(
        self, feed: Feed, strategy: Any = None, given: Sequence[Any] = ()
    ) -> Compiled:
        """Returns the evaluation function `run(iterator, held, batches)` and `results()`.

        The result of `run` has `batches`, `more`, `loss_sum`, `rows` and the fetches; the
        metrics keep their state between calls, `results` reads it.
        """
        form = self.build(ModeKeys.EVAL, feed.element_spec, strategy, given)
        key = (ModeKeys.EVAL, feed.key, id(strategy) if strategy else None, *map(id, given))
        if key in self._compiled:
            return self._compiled[key]
        compiled = Compiled(form=form, run=lambda: None)
        initial = _initial(form)

        def batch(features: Any, labels: Any) -> tuple[Any, ...]:
            with self.tracing(ModeKeys.EVAL):
                spec = _with_adapters(self.call(features, labels, ModeKeys.EVAL), given)
            compiled.spec["spec"] = spec
            compiled.spec["metrics"] = {n: (spec.eval_metric_ops or {})[n] for n in form.metrics}
            updates = [_op(m[1]) for m in (spec.eval_metric_ops or {}).values() if _is_pair(m)]
            updates += _writes(compiled.spec["metrics"].values()) if form.idle else []
            with tf.control_dependencies(updates):
                loss = tf.cast(tf.identity(spec.loss), tf.float32)
                fetched = {
                    k: tf.identity(v) for k, v in _fetches(spec, ModeKeys.EVAL, updates).items()
                }
            return loss, _rows(features, labels), fetched

        replica_step = _only_results(batch) if form.idle else batch

        def step(element: Any) -> tuple[Any, ...]:
            features, labels = datasets.split(element)
            with tf.summary.record_if(False):
                if strategy is None:
                    return replica_step(features, labels)
                return _replicated(strategy, replica_step, features, labels)

        def one(element: Any, state: dict[str, Any]) -> dict[str, Any]:
            loss, rows, fetched = step(element)
            return {
                "loss_sum": state["loss_sum"] + tf.cast(loss, tf.float64),
                "rows": state["rows"] + rows,
                "fetches": {
                    k: tf.ensure_shape(fetched[k], s.shape) for k, s in form.fetches.items()
                },
            }

        @_function(input_signature=feed.signature)
        def run(iterator: Any, held: Any, batches: Any) -> dict[str, Any]:
            start = {
                "loss_sum": tf.constant(0.0, tf.float64), "rows": tf.constant(0, tf.int64),
                "fetches": tf.nest.map_structure(tf.constant, initial),
            }  # fmt: skip
            ran = feed.loop(iterator, held, batches, start, one)
            return {
                "batches": ran["done"], "more": ran["more"], "held": ran["held"], **ran["state"],
            }  # fmt: skip

        @_function()
        def results() -> dict[str, Any]:
            return {name: m.result() for name, m in compiled.spec["metrics"].items()}

        compiled.run, compiled.results = run, results
        self._compiled[key] = compiled
        return compiled

    # --- Prediction -----------------------------------------------------------------------

    def predict_function(self, features_spec: Any) -> Compiled:
        """Returns the prediction function `run(features) -> predictions`."""
        form = self.build(ModeKeys.PREDICT, (features_spec,))
        key = (ModeKeys.PREDICT, _key(features_spec), None)
        if key in self._compiled:
            return self._compiled[key]
        compiled = Compiled(form=form, run=lambda: None)
        signature = _arguments(features_spec, None)[:1]

        def batch(features: Any) -> Any:
            with self.tracing(ModeKeys.PREDICT), tf.summary.record_if(False):
                return self.call(features, None, ModeKeys.PREDICT).predictions

        def batch_with_hooks(features: Any) -> Any:
            with self.tracing(ModeKeys.PREDICT), tf.summary.record_if(False):
                spec = _with_adapters(self.call(features, None, ModeKeys.PREDICT), ())
                compiled.spec["spec"] = spec
                return spec.predictions, _fetches(spec, ModeKeys.PREDICT)

        def made(one: Callable[..., Any]) -> Any:
            one = _only_results(one) if form.idle else one
            return _function(input_signature=signature)(one)

        compiled.run = made(batch)
        if form.hooked:
            compiled.run_with_hooks = made(batch_with_hooks)
            compiled.run_with_hooks.get_concrete_function()
        self._compiled[key] = compiled
        return compiled


# --- Pieces -----------------------------------------------------------------------------------


def _function(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """As `tf.function`, without its warnings: every Estimator of a process has functions anew."""

    def decorate(function: Callable[..., Any]) -> Any:
        made = tf.function(function, autograph=False, **options)
        made._omit_frequent_tracing_warning = True
        return made

    return decorate


def _only_results(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function that computes what `function` returns, and what that waits for.

    As in a session, and unlike in a `tf.function`, other operations that it made do not run: so
    a train_op that a model_fn makes in every mode trains in one only.
    """

    def call(*arguments: Any) -> Any:
        flat = tf.nest.flatten(arguments, expand_composites=True)
        given = [part for part in flat if part is not None]
        made: dict[str, Any] = {}

        def inner(*tensors: Any) -> Any:
            parts = iter(tensors)
            packed = [None if part is None else next(parts) for part in flat]
            made["results"] = function(
                *tf.nest.pack_sequence_as(arguments, packed, expand_composites=True)
            )
            return tf.nest.flatten(made["results"], expand_composites=True)

        signature = [tf.TensorSpec(part.shape, part.dtype) for part in given]
        wrapped = tf.compat.v1.wrap_function(inner, signature)
        return tf.nest.pack_sequence_as(made["results"], wrapped(*given), expand_composites=True)

    return call


def _writes(metrics: Iterable[Any]) -> list[Any]:
    """Returns the operations of the graph being traced that write the variables of metrics."""
    graph = tf.compat.v1.get_default_graph()
    own = {id(variable.handle) for metric in metrics for variable in map(variables.raw,
           metric.variables)}  # fmt: skip
    handles = {internal.op for external, internal in graph.captures if id(external) in own}
    return [
        operation
        for operation in graph.get_operations()
        if operation.type.startswith(("Assign", "ResourceScatter"))
        and operation.inputs[0].op in handles
    ]


def _description(spec: EstimatorSpec, mode: str, store: variables.VariableStore) -> dict[str, Any]:
    metrics = spec.eval_metric_ops or {}
    for name in metrics if mode == ModeKeys.EVAL else ():
        if name in RESERVED_METRICS:
            raise ConfigError(
                f"Metric name {name!r} is reserved: evaluate() reports it itself. Rename the "
                "metric.",
                reason=Reason.CONFLICT,
            )
    pairs = tuple(name for name, m in metrics.items() if isinstance(m, tuple | list))
    objects = tuple(name for name in metrics if name not in pairs)
    for name in objects:
        store.mark_local(list(metrics[name].variables))
    fetches = {
        name: tf.TensorSpec(tensor.shape, tensor.dtype)
        for name, tensor in _fetches(spec, mode).items()
    }
    for name, spec_ in fetches.items():
        if mode != ModeKeys.PREDICT and not spec_.shape.is_fully_defined():
            raise ConfigError(
                f"Tensor {name!r} cannot be taken out of the loop: expected a static shape, "
                f"got {spec_.shape}. Reduce it to a scalar, or set its shape.",
                reason=Reason.UNSUPPORTED,
            )
    hooked = mode == ModeKeys.PREDICT and bool(spec.prediction_hooks)
    idle = mode != ModeKeys.TRAIN and spec.train_op is not None
    return {
        "fetches": fetches, "pairs": pairs, "metrics": objects, "hooked": hooked, "idle": idle
    }  # fmt: skip


def _accepted(model_fn: Any) -> frozenset[str]:
    parameters = inspect.signature(model_fn).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return frozenset(MODEL_FN_ARGUMENTS)
    if "features" not in parameters:
        raise ConfigError(
            f"model_fn {datasets.function_name(model_fn)} takes no argument named features: got "
            f"({', '.join(parameters)}). Name its first argument features.",
            reason=Reason.MISSING_VALUE,
        )
    for name, parameter in parameters.items():
        if name not in MODEL_FN_ARGUMENTS and parameter.default is parameter.empty:
            raise ConfigError(
                f"model_fn {datasets.function_name(model_fn)} has the argument {name!r}, which "
                f"nothing fills.{did_you_mean(name, MODEL_FN_ARGUMENTS)}",
                reason=Reason.UNKNOWN_NAME,
            )
    return frozenset(parameters)


def _replicated(strategy: Any, replica_step: Any, features: Any, labels: Any) -> tuple[Any, ...]:
    """Runs a step on every replica; the loss of all is their mean, or their sum if it is one."""
    loss, rows, fetched, *_ = strategy.run(replica_step, args=(features, labels))
    how = tf.distribute.ReduceOp.SUM if losses.is_summed() else tf.distribute.ReduceOp.MEAN
    loss = strategy.reduce(how, loss, axis=None)
    rows = strategy.reduce(tf.distribute.ReduceOp.SUM, rows, axis=None)
    local = {k: strategy.experimental_local_results(v)[0] for k, v in fetched.items()}
    return loss, rows, local


def _with_adapters(
    spec: EstimatorSpec, given: Sequence[Any], *, probing: bool = False
) -> EstimatorSpec:
    """Returns a spec whose hooks for sessions run in the loop, `given` ones among them."""
    fields = {
        ModeKeys.TRAIN: ("training_hooks", "training_chief_hooks"),
        ModeKeys.EVAL: ("evaluation_hooks",),
        ModeKeys.PREDICT: ("prediction_hooks",),
    }[spec.mode]
    found = {
        field: [
            SessionHook(hook) if is_for_sessions(hook) else hook for hook in getattr(spec, field)
        ]
        for field in fields
    }
    found[fields[0]] = [*given, *found[fields[0]]]
    if any(isinstance(hook, SessionHook) for field in fields for hook in found[field]):
        _name_in_graph(spec)
    for hook in (hook for field in fields for hook in found[field]):
        if isinstance(hook, SessionHook):
            hook.trace(functools.partial(_named, spec), probing=probing)
    return spec._replace(**found)


def _name_in_graph(spec: EstimatorSpec) -> None:
    """Lets hooks for sessions find the loss and the predictions by name, as in a graph."""
    graph = tf.compat.v1.get_default_graph()
    taken = {operation.name for operation in graph.get_operations()}
    named = spec.predictions if isinstance(spec.predictions, Mapping) else {}
    if spec.loss is not None:
        named = {**named, "loss": spec.loss}
    with graph.name_scope(None):
        for name, tensor in named.items():
            if isinstance(name, str) and name not in taken and re.fullmatch(r"\w[\w.-]*", name):
                tf.identity(tensor, name=name)


def _fetches(spec: EstimatorSpec, mode: str, updates: Sequence[Any] = ()) -> dict[str, Any]:
    """The tensors that leave the loop: what hooks ask for and values of metric pairs."""
    found: dict[str, Any] = {}
    hooks: tuple[Any, ...] = {
        ModeKeys.TRAIN: (*(spec.training_hooks or ()), *(spec.training_chief_hooks or ())),
        ModeKeys.EVAL: tuple(spec.evaluation_hooks or ()),
        ModeKeys.PREDICT: tuple(spec.prediction_hooks or ()),
    }[mode]
    for hook in hooks_lib.check(hooks):
        for name, tensor in hook.tensors.items():
            found[name] = _named(spec, tensor) if isinstance(tensor, str) else tensor
    for name, metric in (spec.eval_metric_ops or {}).items():
        if _is_pair(metric) and mode == ModeKeys.EVAL:
            found[f"metric/{name}"] = metric_pairs.latest(metric[0], updates)
    return {name: tf.convert_to_tensor(tensor) for name, tensor in found.items()}


def _named(spec: EstimatorSpec, name: str) -> Any:
    if name == "loss":
        return spec.loss
    predictions = spec.predictions if isinstance(spec.predictions, Mapping) else {}
    if name in predictions:
        return predictions[name]
    if name == variables.GLOBAL_STEP:
        return variables.global_step()
    raise ConfigError(
        f"A hook asks for the tensor {name!r}, which the model does not have."
        + did_you_mean(name, ("loss", variables.GLOBAL_STEP, *predictions)),
        reason=Reason.UNKNOWN_NAME,
    )


def _is_pair(metric: Any) -> bool:
    return isinstance(metric, tuple | list)


def _initial(form: Form) -> dict[str, Any]:
    return {
        name: np.full(
            spec.shape.as_list(),
            b"" if spec.dtype == tf.string else 0,
            object if spec.dtype == tf.string else spec.dtype.as_numpy_dtype,
        )
        for name, spec in form.fetches.items()
    }


def _ops(train_op: Any) -> list[Any]:
    return [_op(op) for op in tf.nest.flatten(train_op) if op is not None]


def _op(op: Any) -> Any:
    return op if isinstance(op, tf.Operation) or tf.is_tensor(op) else tf.convert_to_tensor(op)


def _rows(features: Any, labels: Any) -> Any:
    """Rows of a batch: the first dimension of its labels, else of a feature; int64."""
    for part in (*tf.nest.flatten(labels), *tf.nest.flatten(features)):
        if part is None:
            continue
        if isinstance(part, tf.SparseTensor):
            return part.dense_shape[0]
        if isinstance(part, tf.RaggedTensor):
            return tf.cast(part.nrows(), tf.int64)
        if part.shape.rank != 0:
            return tf.shape(part, out_type=tf.int64)[0]
    return tf.constant(1, tf.int64)


def _arguments(features_spec: Any, labels_spec: Any) -> tuple[Any, Any]:
    return _relaxed(features_spec), None if labels_spec is None else _relaxed(labels_spec)


def _relaxed(spec: Any) -> Any:
    """Specs for tracing; per-replica values of a strategy count as one replica's."""

    def one(part: Any) -> Any:
        inner = getattr(part, "_value_specs", None)
        return inner[0] if inner else part

    return tf.nest.map_structure(one, spec)


def _key(spec: Any) -> str:
    return repr(spec)


@contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    """Initial weights follow from `seed`; the process's own random state is left as it was."""
    if seed is None:
        yield
        return
    state, numpy_state = random.getstate(), np.random.get_state()
    try:
        keras.utils.set_random_seed(seed)
        yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)


def check_batches(predictions: Any) -> int:
    """Returns the number of rows of a batch of predictions.

    Raises:
        DataError: the predictions' first dimensions differ.
    """
    parts = predictions if isinstance(predictions, Mapping) else {"predictions": predictions}
    sizes = {name: np.shape(value)[0] if np.ndim(value) else None for name, value in parts.items()}
    if len(set(sizes.values())) != 1 or None in sizes.values():
        raise DataError(
            f"Predictions differ in their first dimension: {quote(sizes, 200)}. Give every "
            "prediction one entry per example, or set yield_single_examples=False.",
            reason=Reason.TYPE_MISMATCH,
        )
    return int(next(iter(sizes.values())) or 0)
