"""One model_fn, traced: its variables and the compiled train, evaluate and predict functions.

Layer 3. `TracedModel` owns the variable store of an Estimator. For each mode and input
signature it calls model_fn twice, ever: once to make the variables (and to learn the form of
what it returns), once inside the loop that does the work.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar, cast

import keras
import numpy as np
import tensorflow as tf

from estimator_lib import tensorflow_internals, variables
from estimator_lib.inputs import datasets
from estimator_lib.inputs.feed import ChunkLoop, ChunkLooped, Feed
from estimator_lib.protocols import Features, Labels, Specs
from estimator_lib.specs import EstimatorSpec, ModeKeys
from estimator_lib.training import first_layers, forms, initial_values, step, xla
from estimator_lib.training.claims import Claims
from estimator_lib.training.forms import Form
from estimator_lib.training.model_function import ModelFunction
from estimator_lib.training.run_config import RunConfig
from estimator_lib.training.session_hooks import SessionHook
from estimator_lib.training.summaries import ModelSummaries

Key = tuple[object, ...]
AnyFunction = step.TrainFunction | step.EvaluateFunction | step.PredictFunction
Function = TypeVar("Function", bound=AnyFunction)


class TracedModel:
    """A model_fn with its variables and compiled functions.

    Args:
        model_fn: Called once per trace.
        params: Handed to model_fn (a copy per call).
        config: The run's; `tf.summary` calls inside model_fn write to its model_dir in training.
        store: Where its variables go; None is a new one.
        claims: Which steps this process makes, where several train; None is all.

    Attributes:
        store: The variables.
        claims: See above.
        summaries: Of model_fn.
        traces: How often model_fn has been called.
    """

    def __init__(
        self,
        model_fn: ModelFunction,
        params: object,
        config: RunConfig,
        store: variables.VariableStore | None = None,
        claims: Claims | None = None,
    ) -> None:
        self.store = variables.VariableStore() if store is None else store
        self.claims = claims
        self.summaries = ModelSummaries(
            str(config.model_dir), config.save_summary_steps if config.is_chief else None
        )
        self.traces = 0
        self._model_fn = model_fn
        self._params = params
        self._config = config
        self._forms: dict[Key, Form] = {}
        self._functions: dict[Key, AnyFunction] = {}

    # --- Calling model_fn -----------------------------------------------------------------

    def call(self, features: Features, labels: Labels, mode: str) -> EstimatorSpec:
        """Calls model_fn once, inside the current graph.

        Raises:
            ConfigError: it takes no labels and there are some, or it returned no spec of the mode.
        """
        self._model_fn.refuse_labels(labels, mode)
        self.traces += 1
        # Names begin anew, whatever loop the call is traced in: they are tags of summaries. Each of
        # several replicas has a scope of its own, within which they are the same.
        several = tf.distribute.get_strategy().num_replicas_in_sync > 1
        with (
            contextlib.nullcontext() if several else tf.name_scope(""),
            self._compiling(mode),
            first_layers.in_place(),
            tensorflow_internals.savers_without_operations(),
        ):
            spec = self._model_fn(features, labels, mode, self._params, self._config)
        if not self._config.is_chief:
            spec = spec._replace(training_chief_hooks=())
        decay = self._config.moving_average_decay
        if mode == ModeKeys.TRAIN and decay is not None:
            train = [forms.operation(op) for op in tf.nest.flatten(spec.train_op) if op is not None]
            with tf.control_dependencies(train):
                spec = spec._replace(train_op=variables.update_averages(decay))
        return spec

    @contextlib.contextmanager
    def tracing(
        self, mode: str, *, store: variables.VariableStore | None = None, xla: bool = False
    ) -> Iterator[variables.Trace]:
        """Captures the variables of a call of model_fn in `mode`."""
        with (
            variables.trace(
                store or self.store,
                seed=self._config.tf_random_seed or 0,
                averages=mode != ModeKeys.TRAIN and self._config.moving_average_decay is not None,
                compute_dtype=self._config.compute_dtype,
                xla=xla,
            ) as trace,
            initial_values.taken(trace),
        ):
            yield trace

    def _compiling(self, mode: str) -> contextlib.AbstractContextManager[object]:
        if not self._config.jit_compile or mode != ModeKeys.TRAIN or variables.for_xla():
            return contextlib.nullcontext()
        return tf.xla.experimental.jit_scope()

    def global_step(self) -> tf.Variable:
        """Returns the global step variable."""
        return variables.global_step_of(self.store)

    def recording(self) -> contextlib.AbstractContextManager[None]:
        """Lets `tf.summary` calls in model_fn write where a step is due."""
        return self.summaries.recording(self.global_step())

    # --- Building -------------------------------------------------------------------------

    def build(
        self,
        mode: str,
        element_spec: Specs,
        strategy: tf.distribute.Strategy | None = None,
        given: Sequence[SessionHook] = (),
    ) -> Form:
        """Makes the variables that a mode needs, and returns the form of its results.

        The trace is of one replica without a strategy; its variables are then made anew for all
        replicas.

        Args:
            mode: Of ModeKeys.
            element_spec: Of a dataset of (features, labels).
            strategy: Whose replicas share the variables.
            given: The caller's hooks for sessions.
        """
        key = _key(mode, element_spec, strategy, given)
        if key in self._forms:
            return self._forms[key]
        store = self.store if strategy is None else variables.VariableStore()
        form = self._built(mode, element_spec, store, given)
        if strategy is not None and self.store.spread(store, strategy):
            # What was traced before holds the variables of one device.
            self._forms.clear()
            self._functions.clear()
        self._forms[key] = form
        return form

    def _built(
        self,
        mode: str,
        element_spec: Specs,
        store: variables.VariableStore,
        given: Sequence[SessionHook],
    ) -> Form:
        found: list[Form] = []

        def build(features: Features, labels: Labels) -> tf.Tensor:
            with self.tracing(mode, store=store) as trace:
                variables.global_step()
                called = self.call(features, labels, mode)
                spec = forms.with_session_hooks(called, given, probing=True)
                found.append(Form.of(spec, trace.used))
                for metric in forms.metric_objects(spec).values():
                    store.mark_local(list(metric.variables))
            return tf.constant(0)

        arguments = [_for_tracing(spec) for spec in datasets.split(element_spec)]
        with _seeded(self._config.tf_random_seed):
            tensorflow_internals.trace_once("build", build, arguments)
        return found[0]

    # --- Compiled functions ---------------------------------------------------------------

    def train_function(
        self,
        feed: Feed,
        strategy: tf.distribute.Strategy | None = None,
        steps: int | None = None,
        given: Sequence[SessionHook] = (),
    ) -> step.TrainFunction:
        """Returns the training loop.

        Args:
            feed: The batches.
            strategy: Trains replicas.
            steps: How many are expected in the whole training; None if there is no end.
            given: The caller's hooks for sessions.
        """
        form = self.build(ModeKeys.TRAIN, feed.element_spec, strategy, given)
        alone = strategy is None and not given and self.claims is None
        wanted = alone and xla.wants(self._config, self._model_fn, feed, steps)

        def compiled(
            loop: Callable[..., ChunkLooped[step.TrainState]],
        ) -> ChunkLoop[step.TrainState] | None:
            if not wanted:
                return None
            return xla.compiled(loop, feed, self._model_fn, needed=bool(self._config.jit_compile))

        return self._kept(
            (*_key(ModeKeys.TRAIN, feed.key, strategy, given), wanted),
            lambda: step.train_function(self, form, feed, strategy, given, compiled),
        )

    def evaluate_function(
        self,
        feed: Feed,
        strategy: tf.distribute.Strategy | None = None,
        given: Sequence[SessionHook] = (),
    ) -> step.EvaluateFunction:
        """Returns the evaluation loop; the metrics keep their state between calls."""
        form = self.build(ModeKeys.EVAL, feed.element_spec, strategy, given)
        return self._kept(
            _key(ModeKeys.EVAL, feed.key, strategy, given),
            lambda: step.evaluate_function(self, form, feed, strategy, given),
        )

    def predict_function(self, features_spec: Specs) -> step.PredictFunction:
        """Returns the prediction of features."""
        form = self.build(ModeKeys.PREDICT, (features_spec,))
        return self._kept(
            _key(ModeKeys.PREDICT, features_spec),
            lambda: step.predict_function(self, form, [_for_tracing(features_spec)]),
        )

    def _kept(self, key: Key, make: Callable[[], Function]) -> Function:
        if key not in self._functions:
            self._functions[key] = make()
        return cast("Function", self._functions[key])  # of the key's mode


def _key(
    mode: str,
    form: object,
    strategy: tf.distribute.Strategy | None = None,
    given: Sequence[SessionHook] = (),
) -> Key:
    return mode, repr(form), None if strategy is None else id(strategy), *map(id, given)


def _for_tracing(spec: Specs | None) -> Specs | None:
    """Returns the spec of one replica's part of a dataset's elements."""
    if spec is None:
        return None
    return tf.nest.map_structure(tensorflow_internals.of_one_replica, spec)


@contextlib.contextmanager
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
