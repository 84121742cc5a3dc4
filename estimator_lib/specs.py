"""What a model_fn returns and what `train_and_evaluate` is given.

Layer 1. Field names, order and requirements are those of `tf.estimator` 2.15.
"""

from __future__ import annotations

import collections
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol, Self, TypeAlias, cast

import tensorflow as tf

from estimator_lib.core.errors import ConfigError, Reason, did_you_mean, quote
from estimator_lib.export.outputs import ExportOutput, PredictOutput
from estimator_lib.protocols import Features, InputFn, Metric, Predictions

RESERVED_METRICS: Final = ("loss", "global_step")
DEFAULT_SIGNATURE: Final = "serving_default"


TrainOp: TypeAlias = tf.Operation | tf.Tensor | Sequence[tf.Operation | tf.Tensor] | None
MetricLike: TypeAlias = Metric | tuple[tf.Tensor, tf.Operation | tf.Tensor]
"""A metric object that has been updated, or its value and the op that updates it."""


class ExporterLike(Protocol):
    """What `train_and_evaluate` hands a model to; see `export.exporters.Exporter`."""

    name: str
    export: Callable[..., bytes | None]


class ModeKeys:
    """What a model_fn is asked for."""

    TRAIN: Final = "train"
    EVAL: Final = "eval"
    PREDICT: Final = "infer"


def compilable(model_fn: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a model_fn whose long trainings may be compiled by XLA; see `RunConfig.jit_compile`.

    It computes the same there: it draws no numbers but by `stateless_seed`, and checks its input
    by `variables.require`, for XLA leaves assertions out.
    """
    model_fn.compilable = True  # type: ignore[attr-defined]
    return model_fn


class EstimatorSpec(
    collections.namedtuple(
        "EstimatorSpec",
        [
            "mode", "predictions", "loss", "train_op", "eval_metric_ops", "export_outputs",
            "training_chief_hooks", "training_hooks", "scaffold", "evaluation_hooks",
            "prediction_hooks",
        ],
    )
):  # fmt: skip
    """What a model_fn returns: all fields but `mode` may be None, depending on the mode.

    Args:
        mode: One of `ModeKeys`.
        predictions: Tensor or dict of tensors, first dimension the batch; needed in PREDICT.
        loss: Float scalar or `[1]`; needed in TRAIN and EVAL.
        train_op: Operation or tensor, or a list of them, that updates the variables; needed in
            TRAIN, and not run elsewhere. The engine counts the global step itself.
        eval_metric_ops: Name to a metric object that has been updated (`update_state`,
            `result`, `reset_state`, `variables`) or to a pair (value, update op).
        export_outputs: Signature name to ExportOutput; by default `predictions` as
            PredictOutput. Only used in PREDICT.
        training_chief_hooks: Hooks for the chief only.
        training_hooks: Hooks for training.
        scaffold: A `tf.compat.v1.train.Scaffold`. Its `init_fn` is called where training begins
            at step 0, and a `finalize` of a subclass in a graph of its own; its `saver` saves
            nothing, and feeding values (`init_feed_dict`) is refused.
        evaluation_hooks: Hooks for evaluation.
        prediction_hooks: Hooks for prediction.

    Raises:
        ConfigError: a field that the mode needs is missing, or is not what it must be.
    """

    def __new__(
        cls,
        mode: str,
        predictions: Predictions | None = None,
        loss: tf.Tensor | None = None,
        train_op: TrainOp = None,
        eval_metric_ops: Mapping[str, MetricLike] | None = None,
        export_outputs: Mapping[str, ExportOutput] | None = None,
        training_chief_hooks: Sequence[object] | None = None,
        training_hooks: Sequence[object] | None = None,
        scaffold: tf.compat.v1.train.Scaffold | None = None,
        evaluation_hooks: Sequence[object] | None = None,
        prediction_hooks: Sequence[object] | None = None,
    ) -> Self:
        if mode not in (ModeKeys.TRAIN, ModeKeys.EVAL, ModeKeys.PREDICT):
            raise _invalid("mode", "one of ModeKeys", mode)
        needed = {
            ModeKeys.TRAIN: {"loss": loss, "train_op": train_op},
            ModeKeys.EVAL: {"loss": loss},
            ModeKeys.PREDICT: {"predictions": predictions},
        }[mode]
        for field, value in needed.items():
            if value is None:
                raise ConfigError(
                    f"EstimatorSpec lacks {field}: mode {mode!r} needs "
                    f"{' and '.join(needed)}. Return it from model_fn.",
                    reason=Reason.MISSING_VALUE,
                )
        return super().__new__(
            cls,
            mode,
            _checked_predictions(predictions),
            None if loss is None else _scalar_loss(loss),
            _checked_train_op(train_op),
            _checked_metrics(eval_metric_ops),
            _checked_exports(export_outputs, predictions, mode),
            _checked_hooks("training_chief_hooks", training_chief_hooks),
            _checked_hooks("training_hooks", training_hooks),
            _checked_scaffold(scaffold),
            _checked_hooks("evaluation_hooks", evaluation_hooks),
            _checked_hooks("prediction_hooks", prediction_hooks),
        )

    def _replace(self, **changes: object) -> EstimatorSpec:
        """Returns a copy with `changes`, checked like a new one; the mode cannot be changed."""
        if changes.get("mode", self.mode) != self.mode:
            raise ConfigError(
                f"EstimatorSpec._replace cannot change the mode: expected {self.mode!r}, got "
                f"{quote(changes['mode'])}. Make a new EstimatorSpec.",
                reason=Reason.CONFLICT,
            )
        _known_fields(self, changes)
        return EstimatorSpec(**{**self._asdict(), **changes})


def _checked_predictions(predictions: object) -> Any:
    if predictions is None:
        return {}
    if isinstance(predictions, Mapping):
        return {k: _tensor(f"predictions[{k!r}]", v) for k, v in predictions.items()}
    return _tensor("predictions", predictions)


def _scalar_loss(loss: tf.Tensor) -> Any:
    tensor = _tensor("loss", loss)
    if tensor.shape.rank not in (0, None) and tensor.shape.num_elements() not in (1, None):
        raise _invalid("loss", "a scalar", f"shape {tuple(tensor.shape)}")
    return tensor if tensor.shape.rank == 0 else tf.reshape(tensor, [])


def _checked_train_op(train_op: TrainOp) -> Any:
    for op in tf.nest.flatten(train_op):
        if op is None or isinstance(op, tf.Variable):
            continue
        if not (isinstance(op, tf.Operation) or tf.is_tensor(op)):
            raise _mistyped("train_op", "an operation or a tensor", op)
        _here("train_op", op)
    return train_op


def _checked_metrics(metrics: Mapping[str, MetricLike] | None) -> dict[str, Any]:
    if metrics is not None and not isinstance(metrics, Mapping):
        raise _mistyped("eval_metric_ops", "a dict", metrics)
    for name, metric in (metrics or {}).items():
        pair = isinstance(metric, tuple | list) and len(metric) == 2
        if pair:
            for part in cast("tuple[object, object]", metric):
                _here(f"eval_metric_ops[{name!r}]", part)
        elif not (hasattr(metric, "result") and hasattr(metric, "reset_state")):
            raise _mistyped(
                f"eval_metric_ops[{name!r}]", "a metric object or a pair (value, update op)", metric
            )
    return {name: _pair_in_session(name, metric) for name, metric in (metrics or {}).items()}


def _pair_in_session(name: str, metric: MetricLike) -> Any:
    """Returns a metric object as (value, update op) in a graph that a session will run."""
    graph = tf.compat.v1.get_default_graph()
    if tf.executing_eagerly() or graph.building_function or isinstance(metric, tuple | list):
        return metric
    updates = list(getattr(metric, "updates", ()))
    if not updates:
        raise _invalid(
            f"eval_metric_ops[{name!r}]", "a metric whose update_state was called", metric
        )
    for update in updates:
        _here(f"eval_metric_ops[{name!r}]", update)
    for variable in metric.variables:
        for collection in (
            tf.compat.v1.GraphKeys.LOCAL_VARIABLES, tf.compat.v1.GraphKeys.METRIC_VARIABLES
        ):  # fmt: skip
            if not any(known is variable for known in graph.get_collection_ref(collection)):
                graph.add_to_collection(collection, variable)
    return metric.result(), tf.group(*updates)


def _checked_exports(
    outputs: Mapping[str, ExportOutput] | None, predictions: Predictions, mode: str
) -> dict[str, ExportOutput] | None:
    if outputs is None:
        if mode != ModeKeys.PREDICT:
            return None
        outputs = {DEFAULT_SIGNATURE: PredictOutput(predictions)}
    if not isinstance(outputs, Mapping):
        raise _mistyped("export_outputs", "a dict", outputs)
    for name, output in outputs.items():
        if not isinstance(output, ExportOutput):
            raise _mistyped(f"export_outputs[{name!r}]", "an ExportOutput", output)
    found = dict(outputs)
    if mode != ModeKeys.PREDICT:
        return found
    if len(found) == 1:
        found.setdefault(DEFAULT_SIGNATURE, next(iter(found.values())))
    if found and DEFAULT_SIGNATURE not in found:
        raise ConfigError(
            f"EstimatorSpec.export_outputs has {len(found)} entries and none is named "
            f"{DEFAULT_SIGNATURE!r}. Name the one that clients get by default so.",
            reason=Reason.MISSING_VALUE,
        )
    return found


def _checked_hooks(field: str, hooks: Sequence[object] | None) -> tuple[Any, ...]:
    found = tuple(hooks or ())
    for hook in found:
        if not (hasattr(hook, "begin") and hasattr(hook, "end")):
            raise _mistyped(field, "hooks", hook)
    return found


def _checked_scaffold(scaffold: object) -> Any:
    if scaffold is None:
        return tf.compat.v1.train.Scaffold()
    if not isinstance(scaffold, tf.compat.v1.train.Scaffold):
        raise _mistyped("scaffold", "a tf.compat.v1.train.Scaffold", scaffold)
    for feed in ("init_feed_dict", "local_init_feed_dict"):
        if getattr(scaffold, feed, None) is not None:
            raise ConfigError(
                f"EstimatorSpec.scaffold has {feed}, which needs a session. Give the values to the "
                "variables by init_fn, or read weights by warm_start_from.",
                reason=Reason.UNSUPPORTED,
            )
    return scaffold


def _tensor(field: str, value: tf.Tensor | tf.Variable) -> Any:
    """Returns a tensor of the graph that is being traced; a variable is read."""
    if isinstance(value, tf.Variable) or hasattr(value, "regularizer"):
        value = tf.convert_to_tensor(value)
    if not isinstance(value, tf.Tensor):
        raise _mistyped(field, "a tensor", value)
    _here(field, value)
    return value


def _here(field: str, value: object) -> None:
    """Refuses what was made in another graph than the one that is being traced."""
    graph = None if tf.executing_eagerly() else getattr(value, "graph", None)
    if graph is not None and graph is not tf.compat.v1.get_default_graph():
        raise ConfigError(
            f"EstimatorSpec.{field} is of another graph: {quote(getattr(value, 'name', value))}. "
            "Compute it inside of this call of model_fn.",
            reason=Reason.CONFLICT,
        )


class TrainSpec(
    collections.namedtuple("TrainSpec", ["input_fn", "max_steps", "hooks", "saving_listeners"])
):
    """How to train in `train_and_evaluate`.

    Args:
        input_fn: Gives features and labels.
        max_steps: The global step to stop at; None trains to the end of the input.
        hooks: Run during training.
        saving_listeners: Told about checkpoints.
    """

    def __new__(
        cls,
        input_fn: InputFn,
        max_steps: int | None = None,
        hooks: Sequence[object] | None = None,
        saving_listeners: Sequence[object] | None = None,
    ) -> Self:
        _callable("TrainSpec", input_fn)
        if max_steps is not None and max_steps <= 0:
            raise _bad_count("TrainSpec.max_steps", max_steps)
        listeners = tuple(saving_listeners or ())
        for listener in listeners:
            if not hasattr(listener, "after_save"):
                raise _mistyped("TrainSpec.saving_listeners", "CheckpointSaverListeners", listener)
        return super().__new__(
            cls, input_fn, max_steps, _checked_hooks("TrainSpec.hooks", hooks), listeners
        )

    def _replace(self, **changes: object) -> TrainSpec:
        """Returns a copy with `changes`, checked like a new one."""
        _known_fields(self, changes)
        return TrainSpec(**{**self._asdict(), **changes})


class EvalSpec(
    collections.namedtuple(
        "EvalSpec",
        [
            "input_fn", "steps", "name", "hooks", "exporters", "start_delay_secs",
            "throttle_secs",
        ],
    )
):  # fmt: skip
    """How and how often to evaluate and export in `train_and_evaluate`.

    Args:
        input_fn: Gives features and labels.
        steps: Batches to evaluate; None evaluates all there are.
        name: Tells several evaluations apart: results go to `eval_<name>`.
        hooks: Run during evaluation.
        exporters: Called after each evaluation.
        start_delay_secs: An evaluator job waits this long before it begins.
        throttle_secs: Seconds between two evaluations at least. Ignored when one of the two
            below is given.
        every_steps: Training steps between two evaluations.
        every_epochs: Passes over the training input between two evaluations; the input must
            end.
    """

    every_steps: int | None
    every_epochs: int | None

    def __new__(
        cls,
        input_fn: InputFn,
        steps: int | None = 100,
        name: str | None = None,
        hooks: Sequence[object] | None = None,
        exporters: ExporterLike | Iterable[ExporterLike] | None = None,
        start_delay_secs: float = 120,
        throttle_secs: float = 600,
        every_steps: int | None = None,
        every_epochs: int | None = None,
    ) -> Self:
        _callable("EvalSpec", input_fn)
        counts = {"steps": steps, "every_steps": every_steps, "every_epochs": every_epochs}
        for field, value in counts.items():
            if value is not None and value <= 0:
                raise _bad_count(f"EvalSpec.{field}", value)
        if name is not None and not isinstance(name, str):
            raise _mistyped("EvalSpec.name", "a string or None", name)
        seconds = {"start_delay_secs": start_delay_secs, "throttle_secs": throttle_secs}
        for field, delay in seconds.items():
            if delay < 0:
                raise _invalid(f"EvalSpec.{field}", "0 or more seconds", delay)
        if every_steps is not None and every_epochs is not None:
            raise ConfigError(
                "EvalSpec has both every_steps and every_epochs. Give only one.",
                reason=Reason.CONFLICT,
            )
        made = super().__new__(
            cls,
            input_fn,
            steps,
            name,
            _checked_hooks("EvalSpec.hooks", hooks),
            _exporters(exporters),
            start_delay_secs,
            throttle_secs,
        )
        # Beside the tuple, which keeps the length that it had.
        made.every_steps = every_steps
        made.every_epochs = every_epochs
        return made

    def _replace(self, **changes: object) -> EvalSpec:
        """Returns a copy with `changes`, checked like a new one."""
        fields = {
            **self._asdict(), "every_steps": self.every_steps, "every_epochs": self.every_epochs
        }  # fmt: skip
        for name in changes:
            if name not in fields:
                raise _no_field("EvalSpec", name, fields)
        return EvalSpec(**{**fields, **changes})


def _known_fields(spec: TrainSpec | EstimatorSpec, changes: Mapping[str, object]) -> None:
    for name in changes:
        if name not in spec._fields:
            raise _no_field(type(spec).__name__, name, spec._fields)


def _no_field(spec: str, name: str, known: Iterable[str]) -> ConfigError:
    return ConfigError(
        f"{spec} has no field {name!r}.{did_you_mean(name, known)}", reason=Reason.UNKNOWN_NAME
    )


def call_logit_fn(
    logit_fn: Callable[..., Predictions],
    features: Features,
    mode: str,
    params: object,
    config: object,
) -> Predictions:
    """Calls a function of features, and of mode, params and config if it has them.

    Returns:
        Its logits: a tensor, or a dict of tensors.

    Raises:
        ConfigError: it returned something else.
    """
    known = inspect.signature(logit_fn).parameters
    given = {"mode": mode, "params": params, "config": config}
    logits = logit_fn(features=features, **{k: v for k, v in given.items() if k in known})
    values = logits.values() if isinstance(logits, Mapping) else [logits]
    if not all(tf.is_tensor(value) for value in values):
        raise _invalid("call_logit_fn.logit_fn", "a tensor or a dict of them returned", logits)
    return logits


def _exporters(given: ExporterLike | Iterable[ExporterLike] | None) -> tuple[ExporterLike, ...]:
    expected = "an exporter or a sequence of them"
    if given is None or given == ():
        return ()
    if isinstance(given, Iterable) == hasattr(given, "export"):
        raise _mistyped("EvalSpec.exporters", expected, given)
    found = tuple(given) if isinstance(given, Iterable) else (given,)
    for exporter in found:
        if not hasattr(exporter, "export"):
            raise _mistyped("EvalSpec.exporters", expected, exporter)
        if not exporter.name or not isinstance(exporter.name, str):
            raise _invalid("EvalSpec.exporters", "exporters with a name", exporter.name)
    names = [exporter.name for exporter in found]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"Two exporters are named {name!r}: both would write to export/{name}. Rename "
                "one of them.",
                reason=Reason.DUPLICATE,
            )
    return found


def _callable(thing: str, input_fn: object) -> None:
    if not callable(input_fn):
        raise _mistyped(f"{thing}.input_fn", "a function", input_fn)


def _bad_count(what: str, got: object) -> ConfigError:
    return _invalid(what, "a positive integer or None", got)


def _invalid(
    what: str, expected: str, got: object, reason: Reason = Reason.INVALID_VALUE
) -> ConfigError:
    return ConfigError(
        f"{what if '.' in what else f'EstimatorSpec.{what}'} is invalid: expected {expected}, "
        f"got {quote(got)}.",
        reason=reason,
    )


def _mistyped(what: str, expected: str, got: object) -> ConfigError:
    return _invalid(what, expected, got, Reason.TYPE_MISMATCH)
