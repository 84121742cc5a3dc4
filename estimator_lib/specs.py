"""What a model_fn returns and what `train_and_evaluate` is given.

Layer 1. Field names, order and requirements are those of `tf.estimator` 2.15.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import tensorflow as tf

from estimator_lib.core.errors import ConfigError, Reason, quote
from estimator_lib.export.outputs import ExportOutput, PredictOutput

RESERVED_METRICS: Final = ("loss", "global_step")
DEFAULT_SIGNATURE: Final = "serving_default"


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


@dataclasses.dataclass(frozen=True)
class EstimatorSpec:
    """What a model_fn returns: all fields but `mode` may be None, depending on the mode.

    Args:
        mode: One of `ModeKeys`.
        predictions: Tensor or dict of tensors, first dimension the batch; needed in PREDICT.
        loss: Float scalar or `[1]`; needed in TRAIN and EVAL.
        train_op: Operation or tensor that updates the variables; needed in TRAIN. The engine
            counts the global step itself.
        eval_metric_ops: Name to a metric object that has been updated (`update_state`,
            `result`, `reset_state`, `variables`) or to a pair (value, update op).
        export_outputs: Signature name to ExportOutput; by default `predictions` as
            PredictOutput.
        training_chief_hooks: Hooks for the chief only.
        training_hooks: Hooks for training.
        scaffold: Not used: variables are restored by name. Must be None.
        evaluation_hooks: Hooks for evaluation.
        prediction_hooks: Hooks for prediction.

    Raises:
        ConfigError: a field that the mode needs is missing, or is not what it must be.
    """

    mode: str
    predictions: Any = None
    loss: Any = None
    train_op: Any = None
    eval_metric_ops: Mapping[str, Any] | None = None
    export_outputs: Mapping[str, ExportOutput] | None = None
    training_chief_hooks: Sequence[Any] | None = None
    training_hooks: Sequence[Any] | None = None
    scaffold: Any = None
    evaluation_hooks: Sequence[Any] | None = None
    prediction_hooks: Sequence[Any] | None = None

    def __post_init__(self) -> None:
        if self.mode not in (ModeKeys.TRAIN, ModeKeys.EVAL, ModeKeys.PREDICT):
            raise _invalid("mode", "one of ModeKeys", self.mode)
        needed = {
            ModeKeys.TRAIN: ("loss", "train_op"),
            ModeKeys.EVAL: ("loss",),
            ModeKeys.PREDICT: ("predictions",),
        }[self.mode]
        for field in needed:
            if getattr(self, field) is None:
                raise ConfigError(
                    f"EstimatorSpec lacks {field}: mode {self.mode!r} needs "
                    f"{' and '.join(needed)}. Return it from model_fn.",
                    reason=Reason.MISSING_VALUE,
                )
        if self.train_op is not None and self.mode != ModeKeys.TRAIN:
            raise ConfigError(
                f"EstimatorSpec has a train_op in mode {self.mode!r}: whatever model_fn computes "
                "runs, so it would train there. Make it only if mode == ModeKeys.TRAIN.",
                reason=Reason.CONFLICT,
            )
        if self.scaffold is not None:
            raise ConfigError(
                "EstimatorSpec.scaffold is not supported: there is no session to set up. Use "
                "warm_start_from, hooks, or plain Python in model_fn.",
                reason=Reason.UNSUPPORTED,
            )
        set_ = object.__setattr__
        if self.loss is not None:
            set_(self, "loss", _scalar_loss(self.loss))
        for field in (
            "training_chief_hooks", "training_hooks", "evaluation_hooks", "prediction_hooks",
        ):  # fmt: skip
            set_(self, field, tuple(getattr(self, field) or ()))
        set_(self, "eval_metric_ops", dict(self.eval_metric_ops or {}))
        self._check_metrics()
        self._set_exports()

    def _check_metrics(self) -> None:
        for name, metric in (self.eval_metric_ops or {}).items():
            if name in RESERVED_METRICS:
                raise ConfigError(
                    f"Metric name {name!r} is reserved: evaluate() reports it itself. Rename "
                    "the metric.",
                    reason=Reason.CONFLICT,
                )
            pair = isinstance(metric, tuple | list) and len(metric) == 2
            if not pair and not (hasattr(metric, "result") and hasattr(metric, "reset_state")):
                raise _invalid(
                    f"eval_metric_ops[{name!r}]",
                    "a metric object or a pair (value, update op)",
                    metric,
                )

    def _set_exports(self) -> None:
        outputs = self.export_outputs
        if outputs is None:
            if self.mode != ModeKeys.PREDICT:
                return
            outputs = {DEFAULT_SIGNATURE: PredictOutput(self.predictions)}
        for name, output in outputs.items():
            if not isinstance(output, ExportOutput):
                raise _invalid(f"export_outputs[{name!r}]", "an ExportOutput", output)
        outputs = dict(outputs)
        if len(outputs) == 1:
            outputs.setdefault(DEFAULT_SIGNATURE, next(iter(outputs.values())))
        if outputs and DEFAULT_SIGNATURE not in outputs:
            raise ConfigError(
                f"EstimatorSpec.export_outputs has {len(outputs)} entries and none is named "
                f"{DEFAULT_SIGNATURE!r}. Name the one that clients get by default so.",
                reason=Reason.MISSING_VALUE,
            )
        object.__setattr__(self, "export_outputs", outputs)

    def _replace(self, **changes: Any) -> EstimatorSpec:
        """Returns a copy with `changes`, as the namedtuple of old did."""
        return dataclasses.replace(self, **changes)


def _scalar_loss(loss: Any) -> Any:
    tensor = tf.convert_to_tensor(loss)
    if tensor.shape.rank not in (0, None) and tensor.shape.num_elements() != 1:
        raise _invalid("loss", "a scalar", f"shape {tuple(tensor.shape)}")
    return tensor if tensor.shape.rank == 0 else tf.reshape(tensor, [])


@dataclasses.dataclass(frozen=True)
class TrainSpec:
    """How to train in `train_and_evaluate`.

    Args:
        input_fn: Gives features and labels.
        max_steps: The global step to stop at; None trains to the end of the input.
        hooks: Run during training.
        saving_listeners: Told about checkpoints.
    """

    input_fn: Callable[..., Any]
    max_steps: int | None = None
    hooks: Sequence[Any] | None = None
    saving_listeners: Sequence[Any] | None = None

    def __post_init__(self) -> None:
        _callable("TrainSpec", self.input_fn)
        if self.max_steps is not None and self.max_steps <= 0:
            raise _bad_count("TrainSpec.max_steps", self.max_steps)
        object.__setattr__(self, "hooks", tuple(self.hooks or ()))
        object.__setattr__(self, "saving_listeners", tuple(self.saving_listeners or ()))


@dataclasses.dataclass(frozen=True)
class EvalSpec:
    """How and how often to evaluate and export in `train_and_evaluate`.

    Args:
        input_fn: Gives features and labels.
        steps: Batches to evaluate; None (unlike the 100 of old) evaluates all there are.
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

    input_fn: Callable[..., Any]
    steps: int | None = None
    name: str | None = None
    hooks: Sequence[Any] | None = None
    exporters: Any = None
    start_delay_secs: float = 120
    throttle_secs: float = 600
    every_steps: int | None = None
    every_epochs: int | None = None

    def __post_init__(self) -> None:
        _callable("EvalSpec", self.input_fn)
        for field in ("steps", "every_steps", "every_epochs"):
            value = getattr(self, field)
            if value is not None and value <= 0:
                raise _bad_count(f"EvalSpec.{field}", value)
        for field in ("start_delay_secs", "throttle_secs"):
            if getattr(self, field) < 0:
                raise _invalid(f"EvalSpec.{field}", "0 or more seconds", getattr(self, field))
        if self.every_steps is not None and self.every_epochs is not None:
            raise ConfigError(
                "EvalSpec has both every_steps and every_epochs. Give only one.",
                reason=Reason.CONFLICT,
            )
        object.__setattr__(self, "hooks", tuple(self.hooks or ()))
        object.__setattr__(self, "exporters", _exporters(self.exporters))


def call_logit_fn(
    logit_fn: Callable[..., Any], features: Any, mode: str, params: Any, config: Any
) -> Any:
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


def _exporters(given: Any) -> tuple[Any, ...]:
    found = () if given is None else (given,) if hasattr(given, "export") else tuple(given)
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
        raise _invalid(f"{thing}.input_fn", "a function", input_fn)


def _bad_count(what: str, got: object) -> ConfigError:
    return _invalid(what, "a positive integer or None", got)


def _invalid(what: str, expected: str, got: object) -> ConfigError:
    return ConfigError(
        f"{what if '.' in what else f'EstimatorSpec.{what}'} is invalid: expected {expected}, "
        f"got {quote(got)}.",
        reason=Reason.INVALID_VALUE,
    )
