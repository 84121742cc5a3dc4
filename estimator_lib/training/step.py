"""One step of each mode, traced into loops that run many of them per call.

Layer 3. What a trace makes is a frozen value: compiled functions, and the hooks and metrics that
belong to them. `training.traced_model` keeps it.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

from estimator_lib import losses, variables
from estimator_lib.inputs import datasets
from estimator_lib.inputs.feed import ChunkLoop, ChunkLooped, Feed, Held, Loop, Looped, Rows
from estimator_lib.protocols import Features, Labels, Metric, Predictions
from estimator_lib.specs import EstimatorSpec, ModeKeys
from estimator_lib.tensorflow_internals import without_warnings
from estimator_lib.training import forms
from estimator_lib.training.claims import Claims
from estimator_lib.training.forms import Form
from estimator_lib.training.hooks import Hook
from estimator_lib.training.pruning import only_results, writes
from estimator_lib.training.session_hooks import SessionHook, read_step


class TrainState(NamedTuple):
    """What goes through the steps of a training loop.

    Attributes:
        finite: Whether all losses were, bool scalar.
        loss: Of the last step, float32 scalar.
        loss_sum: Of all steps, float64 scalar.
        rows: Trained on, int64 scalar.
        fetches: Of the last step, by name.
    """

    finite: tf.Tensor
    loss: tf.Tensor
    loss_sum: tf.Tensor
    rows: tf.Tensor
    fetches: Mapping[str, tf.Tensor]


class EvalState(NamedTuple):
    """What goes through the batches of an evaluation; the metrics keep theirs in variables."""

    loss_sum: tf.Tensor
    rows: tf.Tensor
    fetches: Mapping[str, tf.Tensor]


class Step(NamedTuple):
    """What one step gives: its loss (float32), its rows (int64) and its fetches."""

    loss: tf.Tensor
    rows: tf.Tensor
    fetches: Mapping[str, tf.Tensor]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainFunction:
    """A compiled training loop.

    Attributes:
        form: Of its results.
        run: The loop.
        over_chunk: The same over one chunk, compiled by XLA, if it is.
        hooks: Those that the model brings, and the caller's for sessions.
    """

    form: Form
    run: Loop[TrainState]
    over_chunk: ChunkLoop[TrainState] | None
    hooks: tuple[Hook, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateFunction:
    """A compiled evaluation loop.

    Attributes:
        form: Of its results.
        run: The loop.
        results: Reads the metrics that are objects.
        hooks: Those that the model brings, and the caller's for sessions.
    """

    form: Form
    run: Loop[EvalState]
    results: Callable[[], Mapping[str, tf.Tensor]]
    hooks: tuple[Hook, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictFunction:
    """A compiled prediction.

    Attributes:
        form: Of its results.
        run: From features to predictions.
        run_with_hooks: Also gives what the model's own hooks ask for; None if it has none.
        hooks: Those that the model brings.
    """

    form: Form
    run: Callable[[Features], Predictions]
    run_with_hooks: Callable[[Features], tuple[Predictions, Mapping[str, tf.Tensor]]] | None
    hooks: tuple[Hook, ...]


class Model(Protocol):
    """What a step needs of a model.

    Attributes:
        claims: Which steps this process makes, where several train; None is all.
    """

    claims: Claims | None

    def call(self, features: Features, labels: Labels, mode: str) -> EstimatorSpec:
        """Calls model_fn once, inside the current graph."""

    def tracing(
        self, mode: str, *, xla: bool = False
    ) -> contextlib.AbstractContextManager[variables.Trace]:
        """Captures the variables of a call of model_fn in `mode`."""

    def global_step(self) -> tf.Variable:
        """Returns the global step."""

    def recording(self) -> contextlib.AbstractContextManager[None]:
        """Lets `tf.summary` calls in model_fn write where a step is due."""


@dataclasses.dataclass(kw_only=True)
class _Training:
    """A training loop while it is traced.

    Attributes:
        spec: What model_fn returned last.
    """

    model: Model
    form: Form
    feed: Feed
    strategy: tf.distribute.Strategy | None
    given: Sequence[SessionHook]
    spec: EstimatorSpec | None = None

    def run(
        self, iterator: tf.data.Iterator, held: Held | None, limit: tf.Tensor
    ) -> Looped[TrainState]:
        return self.feed.loop(iterator, held, limit, self._start(), self._next, self._goes_on)

    def _goes_on(self, state: TrainState) -> tf.Tensor:
        claims = self.model.claims
        return state.finite if claims is None else state.finite & claims.are_left()

    def over_chunk(
        self, chunk: Rows, at: tf.Tensor, end: tf.Tensor, limit: tf.Tensor
    ) -> ChunkLooped[TrainState]:
        return self.feed.chunk_loop(
            chunk, at, end, limit, self._start(), self._next_for_xla, lambda state: state.finite
        )

    def _start(self) -> TrainState:
        return TrainState(
            tf.constant(value=True), tf.constant(0.0), tf.constant(0.0, tf.float64),
            tf.constant(0, tf.int64), self.form.initial_fetches(),
        )  # fmt: skip

    def _next(self, batch: Rows, state: TrainState) -> TrainState:
        return self._after(state, self._counted(lambda *parts: self._of_replica(*parts)[0], batch))

    def _next_for_xla(self, batch: Rows, state: TrainState) -> tuple[TrainState, tf.Tensor]:
        required: list[tf.Tensor] = []

        def step(features: Features, labels: Labels) -> Step:
            found, conditions = self._of_replica(features, labels, xla=True)
            required.append(variables.requirements_met(conditions))
            return found

        after = self._after(state, self._counted(step, batch))
        return after, required[0]

    def _of_replica(
        self, features: Features, labels: Labels, *, xla: bool = False
    ) -> tuple[Step, list[tf.Tensor]]:
        """Returns a step, and the conditions on the batch that XLA cannot assert."""
        rows = _rows(features, labels)
        with self.model.tracing(ModeKeys.TRAIN, xla=xla) as trace:
            trace.rows = None if self.strategy is None else rows
            if self.form.fetches:
                read_step()
            made_before = len(tf.compat.v1.get_default_graph().get_operations())
            called = self.model.call(features, labels, ModeKeys.TRAIN)
            self.spec = spec = forms.with_session_hooks(called, self.given)
            if self.strategy is None:
                forms.check_steps(spec, made_before)
            fetches = forms.fetched(spec)
            train = [forms.operation(op) for op in tf.nest.flatten(spec.train_op) if op is not None]
            with tf.control_dependencies(train):
                loss = tf.cast(tf.identity(spec.loss), tf.float32)
        return Step(loss, rows, fetches), trace.required

    def _counted(self, step: Callable[..., Step], batch: Rows) -> Step:
        """Runs a step on all replicas and counts it."""
        features, labels = datasets.split(batch)
        counter, claims = self.model.global_step(), self.model.claims
        if claims is None:
            before = counter.read_value()
        else:
            before, claimed = claims.number, claims.claim()
            counter.assign(before)
        with self.model.recording():
            found = _on_replicas(self.strategy, step, features, labels)
        with tf.control_dependencies([found.loss]):
            counter.assign(before + 1)
            if claims is not None:
                claims.next(claimed)
        return found

    def _after(self, state: TrainState, step: Step) -> TrainState:
        return TrainState(
            finite=tf.math.is_finite(step.loss),
            loss=step.loss,
            loss_sum=state.loss_sum + tf.cast(step.loss, tf.float64),
            rows=state.rows + step.rows,
            fetches=self.form.shaped(step.fetches),
        )


def train_function(
    model: Model,
    form: Form,
    feed: Feed,
    strategy: tf.distribute.Strategy | None,
    given: Sequence[SessionHook],
    compiled: Callable[..., ChunkLoop[TrainState] | None],
) -> TrainFunction:
    """Traces the training loop of a model.

    Args:
        model: The model.
        form: Of its results in training.
        feed: The batches.
        strategy: Trains replicas.
        given: The caller's hooks for sessions.
        compiled: Compiles a `Feed.chunk_loop` by XLA, or does not.
    """
    loop = _Training(model=model, form=form, feed=feed, strategy=strategy, given=given)
    over_chunk = compiled(loop.over_chunk)
    run = _function(loop.run, feed.signature)
    if over_chunk is None:
        feed.start().trace(run)
    spec = _traced(loop.spec)
    return TrainFunction(
        form=form,
        run=run,
        over_chunk=over_chunk,
        hooks=(*spec.training_hooks, *spec.training_chief_hooks),
    )


@dataclasses.dataclass(kw_only=True)
class _Evaluation:
    """An evaluation loop while it is traced; see `_Training`."""

    model: Model
    form: Form
    feed: Feed
    strategy: tf.distribute.Strategy | None
    given: Sequence[SessionHook]
    spec: EstimatorSpec | None = None
    metrics: Mapping[str, Metric] = dataclasses.field(default_factory=dict)

    def run(
        self, iterator: tf.data.Iterator, held: Held | None, limit: tf.Tensor
    ) -> Looped[EvalState]:
        start = EvalState(
            tf.constant(0.0, tf.float64), tf.constant(0, tf.int64), self.form.initial_fetches()
        )
        return self.feed.loop(iterator, held, limit, start, self._next)

    def _next(self, batch: Rows, state: EvalState) -> EvalState:
        features, labels = datasets.split(batch)
        step = only_results(self._of_replica) if self.form.idle else self._of_replica
        with tf.summary.record_if(False):
            found = _on_replicas(self.strategy, step, features, labels)
        return EvalState(
            loss_sum=state.loss_sum + tf.cast(found.loss, tf.float64),
            rows=state.rows + found.rows,
            fetches=self.form.shaped(found.fetches),
        )

    def _of_replica(self, features: Features, labels: Labels) -> Step:
        with self.model.tracing(ModeKeys.EVAL):
            called = self.model.call(features, labels, ModeKeys.EVAL)
            self.spec = spec = forms.with_session_hooks(called, self.given)
        self.metrics = forms.metric_objects(spec)
        updates = forms.pair_updates(spec)
        updates += writes(self.metrics.values()) if self.form.idle else []
        with tf.control_dependencies(updates):
            loss = tf.cast(tf.identity(spec.loss), tf.float32)
            fetched = {n: tf.identity(t) for n, t in forms.fetched(spec, updates).items()}
        return Step(loss, _rows(features, labels), fetched)


def evaluate_function(
    model: Model,
    form: Form,
    feed: Feed,
    strategy: tf.distribute.Strategy | None,
    given: Sequence[SessionHook],
) -> EvaluateFunction:
    """Traces the evaluation loop of a model; see `train_function`."""
    loop = _Evaluation(model=model, form=form, feed=feed, strategy=strategy, given=given)
    run = _function(loop.run, feed.signature)
    feed.start().trace(run)
    metrics = dict(loop.metrics)

    def results() -> dict[str, tf.Tensor]:
        return {name: metric.result() for name, metric in metrics.items()}

    return EvaluateFunction(
        form=form,
        run=run,
        results=_function(results),
        hooks=tuple(_traced(loop.spec).evaluation_hooks),
    )


def predict_function(model: Model, form: Form, signature: list[Any]) -> PredictFunction:
    """Compiles the prediction of a model.

    Args:
        model: The model.
        form: Of its results in prediction.
        signature: Spec of the features.
    """
    brought: list[Hook] = []

    def batch(features: Features) -> Predictions:
        with model.tracing(ModeKeys.PREDICT), tf.summary.record_if(False):
            return model.call(features, None, ModeKeys.PREDICT).predictions

    def batch_with_hooks(features: Features) -> tuple[Predictions, Mapping[str, tf.Tensor]]:
        with model.tracing(ModeKeys.PREDICT), tf.summary.record_if(False):
            spec = forms.with_session_hooks(model.call(features, None, ModeKeys.PREDICT))
            brought[:] = spec.prediction_hooks
            return spec.predictions, forms.fetched(spec)

    def made(one: Callable[..., object]) -> tf.types.experimental.PolymorphicFunction:
        return _function(only_results(one) if form.idle else one, signature)

    run_with_hooks = None
    if form.hooked:
        run_with_hooks = made(batch_with_hooks)
        run_with_hooks.get_concrete_function()
    return PredictFunction(
        form=form, run=made(batch), run_with_hooks=run_with_hooks, hooks=tuple(brought)
    )


# --- Pieces -----------------------------------------------------------------------------------


def _function(
    function: Callable[..., object], signature: list[Any] | None = None
) -> tf.types.experimental.PolymorphicFunction:
    """As `tf.function`, without its warnings: every Estimator of a process has functions anew."""
    return without_warnings(tf.function(function, autograph=False, input_signature=signature))


def _traced(spec: EstimatorSpec | None) -> EstimatorSpec:
    assert spec is not None, "a loop is traced before its spec is asked for"  # noqa: S101
    return spec


def _on_replicas(
    strategy: tf.distribute.Strategy | None,
    step: Callable[[Features, Labels], Step],
    features: Features,
    labels: Labels,
) -> Step:
    """Runs a step on every replica; the loss of all is that of all rows: a mean, or a sum."""
    if strategy is None:
        return step(features, labels)

    def of_replica(features: Features, labels: Labels) -> tuple[Step, tf.Tensor]:
        found = step(features, labels)
        return found, tf.math.multiply_no_nan(found.loss, tf.cast(found.rows, tf.float32))

    (loss, rows, fetches), by_rows = strategy.run(of_replica, args=(features, labels))
    every = tf.distribute.ReduceOp.SUM
    total = strategy.reduce(every, rows, axis=None)
    summed = strategy.reduce(every, loss if losses.is_summed() else by_rows, axis=None)
    return Step(
        summed if losses.is_summed() else tf.math.divide_no_nan(summed, tf.cast(total, tf.float32)),
        total,
        {k: strategy.experimental_local_results(v)[0] for k, v in fetches.items()},
    )


def _rows(features: Features, labels: Labels) -> tf.Tensor:
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
