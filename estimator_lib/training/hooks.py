"""Hooks: code of the user's (and ours) that runs around training steps.

Layer 3. Training runs many steps per call of its `tf.function`; a hook says at which steps it
must run (`every_steps` or `next_step`), and the loop stops there and no more often. Hooks see
the loss, the global step and any tensors of the model that they ask for by `tensors`.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

import tensorflow as tf

from estimator_lib.core.errors import ConfigError, Reason, TrainingError, quote
from estimator_lib.core.progress import Progress
from estimator_lib.training import summaries

_log = logging.getLogger(__name__)


class NanLossDuringTrainingError(TrainingError):
    """The loss became NaN or infinite."""

    def __init__(
        self,
        message: str = "The loss is not finite. Lower the learning rate or look at the input.",
        *,
        reason: Reason = Reason.NOT_FINITE,
    ) -> None:
        super().__init__(message, reason=reason)


@dataclasses.dataclass
class StepContext:
    """What a hook sees.

    Attributes:
        step: The global step.
        first_step: The global step training began at.
        loss: Loss of the last step; None before the first.
        mean_loss: Mean loss of the steps since the last call of the training function.
        values: The tensors that hooks asked for, as numpy arrays of the last step.
        rows: Rows trained on so far.
        seconds: Since training began.
        variables: The model's variables by name.
        model_dir: The model directory.
        is_chief: Whether this process is the one that writes there.
    """

    step: int
    first_step: int
    model_dir: str
    variables: Mapping[str, Any]
    loss: float | None = None
    mean_loss: float | None = None
    values: dict[str, Any] = dataclasses.field(default_factory=dict)
    rows: int = 0
    seconds: float = 0.0
    is_chief: bool = True
    stop_requested: bool = False
    stop_reason: str | None = None

    def request_stop(self, reason: str | None = None) -> None:
        """Asks the loop to end after this step."""
        self.stop_requested = True
        self.stop_reason = self.stop_reason or reason


class CheckpointSaverListener:
    """Told about checkpoints; override what you need."""

    def begin(self) -> None:
        """Runs before training."""

    def before_save(self, session: StepContext, global_step_value: int) -> None:
        """Runs before a checkpoint is written; `session` is the StepContext."""

    def after_save(self, session: StepContext, global_step_value: int) -> bool | None:
        """Runs after a checkpoint is committed; True ends training."""

    def end(self, session: StepContext, global_step_value: int) -> None:
        """Runs after training."""


class Hook:
    """Base of hooks; override what you need.

    Attributes:
        every_steps: `before_step` and `after_step` run at multiples of this many global steps.
            1 (the default) is every step, which costs the speed of many steps per call; None
            leaves it to the loop (about once a second).
        tensors: What `after_step` needs, as `{name: tensor}`: a symbolic tensor of the
            model_fn that made the hook, "loss", or the name of a prediction.
        wants_save: Whether a checkpoint is to be saved after the step, whatever else is due.
        listeners: Told about checkpoints, as `saving_listeners` of `train` are.
    """

    every_steps: int | None = 1
    tensors: Mapping[str, Any] = {}
    wants_save: bool = False
    listeners: Sequence[CheckpointSaverListener] = ()

    def begin(self) -> None:
        """Runs once before training; the variables are not restored yet."""

    def before_step(self, context: StepContext) -> None:
        """Runs before a call of the training function."""

    def after_step(self, context: StepContext) -> None:
        """Runs after the steps that `every_steps` names."""

    def end(self, context: StepContext) -> None:
        """Runs once after training; not when training raised."""

    def next_step(self, step: int) -> int | None:
        """Returns the next global step after `step` to stop at, or None for any."""
        if not self._runs() or self.every_steps is None:
            return None
        return step - step % self.every_steps + self.every_steps

    def _runs(self) -> bool:
        return (
            type(self).after_step is not Hook.after_step
            or type(self).before_step is not Hook.before_step
        )


class SessionRunHook(Hook, tf.compat.v1.train.SessionRunHook):
    """Base of hooks as tf.estimator had them; see `session_hooks` for how they run.

    One that has `before_step` or `after_step` is an ordinary `Hook`.
    """


SessionRunArgs = tf.compat.v1.train.SessionRunArgs
SessionRunContext = tf.compat.v1.train.SessionRunContext
SessionRunValues = tf.compat.v1.train.SessionRunValues


def check(hooks: Sequence[Any]) -> tuple[Hook, ...]:
    """Returns hooks as a tuple.

    Raises:
        ConfigError: one is not a Hook.
    """
    for hook in hooks:
        if not isinstance(hook, Hook):
            raise ConfigError(
                f"Hook {type(hook).__name__} cannot run: it is no Hook. Derive it from "
                "estimator_lib.Hook and use begin, before_step, after_step and end.",
                reason=Reason.TYPE_MISMATCH,
            )
    return tuple(hooks)


class SecondOrStepTimer:
    """Says when something is due: every so many seconds or steps.

    Args:
        every_secs: Seconds between two times.
        every_steps: Steps between two times.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        every_secs: float | None = None,
        every_steps: int | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if (every_secs is None) == (every_steps is None):
            raise ConfigError(
                "SecondOrStepTimer needs exactly one of every_secs, every_steps.",
                reason=Reason.CONFLICT,
            )
        self.every_secs = every_secs
        self.every_steps = every_steps
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Forgets the last time."""
        self._last_step: int | None = None
        self._last_time: float | None = None

    def should_trigger_for_step(self, step: int) -> bool:
        """Whether it is due at `step`; the first time always is."""
        if self._last_step is None or self._last_time is None:
            return True
        if step == self._last_step:
            return False
        if self.every_secs is not None:
            return self._clock() >= self._last_time + self.every_secs
        return step >= self._last_step + (self.every_steps or 1)

    def update_last_triggered_step(self, step: int) -> tuple[float | None, int | None]:
        """Notes that it happened at `step`; returns seconds and steps since the last time."""
        now = self._clock()
        since: tuple[float | None, int | None] = (None, None)
        if self._last_step is not None and self._last_time is not None:
            since = (now - self._last_time, step - self._last_step)
        self._last_step, self._last_time = step, now
        return since

    def last_triggered_step(self) -> int | None:
        """Returns the step of the last time."""
        return self._last_step


class StopAtStepHook(Hook):
    """Ends training at a step.

    Args:
        num_steps: Steps to train from where training begins, or
        last_step: the global step to end at.
    """

    def __init__(self, num_steps: int | None = None, last_step: int | None = None) -> None:
        if (num_steps is None) == (last_step is None):
            raise ConfigError(
                "StopAtStepHook needs exactly one of num_steps, last_step.",
                reason=Reason.CONFLICT,
            )
        self._num_steps = num_steps
        self._last_step = last_step
        self._given = last_step

    def begin(self) -> None:
        self._last_step = self._given

    def next_step(self, step: int) -> int | None:
        if self._last_step is None:
            self._last_step = step + (self._num_steps or 0)
        return max(self._last_step, step + 1)

    def after_step(self, context: StepContext) -> None:
        if self._last_step is None:
            self._last_step = context.first_step + (self._num_steps or 0)
        if context.step >= self._last_step:
            context.request_stop()


class LoggingTensorHook(Hook):
    """Logs values every so many steps or seconds, or at the end.

    Args:
        tensors: `{label: tensor}` or a list of names; see `Hook.tensors`.
        every_n_iter: Steps between two lines, or
        every_n_secs: seconds between two.
        at_end: Whether to log once more at the end.
        formatter: From `{label: value}` to the text.
    """

    def __init__(
        self,
        tensors: Mapping[str, Any] | Sequence[str],
        every_n_iter: int | None = None,
        every_n_secs: float | None = None,
        at_end: bool = False,  # noqa: FBT001, FBT002, RUF100 - as in tf.estimator
        formatter: Callable[[dict[str, Any]], str] | None = None,
    ) -> None:
        if every_n_iter is not None and every_n_iter <= 0:
            raise ConfigError(
                f"LoggingTensorHook.every_n_iter is invalid: expected a positive number, got "
                f"{every_n_iter}.",
            )
        if (every_n_iter is None) == (every_n_secs is None) and not (
            at_end and every_n_iter is None
        ):
            raise ConfigError(
                "LoggingTensorHook needs exactly one of every_n_iter, every_n_secs.",
                reason=Reason.CONFLICT,
            )
        self.tensors = dict(tensors) if isinstance(tensors, Mapping) else {t: t for t in tensors}
        self.every_steps = every_n_iter
        self._every_s = every_n_secs
        self._at_end = at_end
        self._formatter = formatter
        self._logged_at = -math.inf

    def after_step(self, context: StepContext) -> None:
        if self.every_steps is None:
            if self._every_s is None or time.monotonic() < self._logged_at + self._every_s:
                return
            self._logged_at = time.monotonic()
        self._write(context)

    def end(self, context: StepContext) -> None:
        if self._at_end:
            self._write(context)

    def _write(self, context: StepContext) -> None:
        values = {name: context.values.get(name) for name in self.tensors}
        if self._formatter is not None:
            _log.info("%s", self._formatter(values))
        else:
            text = ", ".join(f"{name} = {value}" for name, value in values.items())
            _log.info("step %d: %s", context.step, text)


class StepCounterHook(Hook):
    """Writes steps and rows per second to the summaries.

    Args:
        every_n_steps: Steps between two.
        every_n_secs: Seconds between two, instead.
        output_dir: Where summaries go; by default the model directory.
        summary_writer: A `tf.summary` writer to use instead.
    """

    def __init__(
        self,
        every_n_steps: int | None = 100,
        every_n_secs: float | None = None,
        output_dir: str | None = None,
        summary_writer: tf.summary.SummaryWriter | None = None,
    ) -> None:
        self.every_steps = None if every_n_secs is not None else every_n_steps
        self._every_s = every_n_secs
        self._output_dir = output_dir
        self._writer = summary_writer
        self._last: tuple[int, float, int] | None = None

    def after_step(self, context: StepContext) -> None:
        now = time.monotonic()
        last = self._last or (context.first_step, now - context.seconds, 0)
        if self._every_s is not None and now < last[1] + self._every_s:
            return
        seconds = now - last[1]
        if seconds <= 0 or context.step == last[0]:
            return
        self._last = (context.step, now, context.rows)
        if self._writer is None:
            self._writer = summaries.writer(self._output_dir or context.model_dir)
        rates = {
            "global_step/sec": (context.step - last[0]) / seconds,
            "rows/sec": (context.rows - last[2]) / seconds,
        }
        summaries.scalars(self._writer, context.step, rates)

    def end(self, context: StepContext) -> None:
        del context
        if self._writer is not None:
            self._writer.flush()


class SummarySaverHook(Hook):
    """Writes the loss and requested scalars to the summaries (TensorBoard).

    Args:
        save_steps: Steps between two summaries.
        save_secs: Seconds between two, instead.
        output_dir: Where they go; by default the model directory.
        summary_writer: A `tf.summary` writer to use instead.
        tensors: More scalars; see `Hook.tensors`.
    """

    def __init__(
        self,
        save_steps: int | None = None,
        save_secs: float | None = None,
        output_dir: str | None = None,
        summary_writer: tf.summary.SummaryWriter | None = None,
        *,
        tensors: Mapping[str, Any] | None = None,
    ) -> None:
        self._timer = SecondOrStepTimer(save_secs, save_steps)
        self.every_steps = save_steps
        self.tensors = dict(tensors or {})
        self._output_dir = output_dir
        self._writer = summary_writer

    def after_step(self, context: StepContext) -> None:
        if not self._timer.should_trigger_for_step(context.step) and self.every_steps is None:
            return
        self._timer.update_last_triggered_step(context.step)
        if self._writer is None:
            self._writer = summaries.writer(self._output_dir or context.model_dir)
        names = dict.fromkeys(("loss", *self.tensors))
        summaries.scalars(self._writer, context.step, {n: context.values[n] for n in names})

    def end(self, context: StepContext) -> None:
        del context
        if self._writer is not None:
            self._writer.flush()


class NanTensorHook(Hook):
    """Ends training when the loss is not finite, before a checkpoint is committed.

    The loop itself always stops at such a step; this hook decides whether that is an error.

    Args:
        loss_tensor: The model's loss, or its name; the loop watches that, and another tensor is
            refused when training begins.
        fail_on_nan_loss: Whether to raise; else training ends quietly.
    """

    every_steps = None

    def __init__(self, loss_tensor: object = None, *, fail_on_nan_loss: bool = True) -> None:
        self.loss_tensor = loss_tensor
        self.fail_on_nan_loss = fail_on_nan_loss

    def check_loss(self, loss: tf.Tensor) -> None:
        """Raises ConfigError unless this hook watches the loss of the model.

        Args:
            loss: Of the EstimatorSpec, in the graph that is being traced.
        """
        given = self.loss_tensor
        if given is None or (isinstance(given, str) and given.removesuffix(":0") == "loss"):
            return
        # An EstimatorSpec takes a loss of one element too, and makes it a scalar.
        if any(given is tensor for tensor in (loss, *loss.op.inputs)):
            return
        raise ConfigError(
            f"NanTensorHook watches {quote(getattr(given, 'name', given))}: expected the model's "
            "loss. Fetch another tensor in a hook of your own, and raise there.",
            reason=Reason.UNSUPPORTED,
        )


class CheckpointSaverHook(Hook):
    """Says how often checkpoints are saved, instead of the RunConfig.

    Args:
        checkpoint_dir: The model directory; another one is refused when training begins.
        save_secs: Seconds between two.
        save_steps: Steps between two.
        saver: Refused, as the two that follow: checkpoints hold all variables, by their names.
        checkpoint_basename: Only "model.ckpt".
        scaffold: Refused.
        listeners: Told before and after each.
    """

    def __init__(
        self,
        checkpoint_dir: str | None = None,
        save_secs: float | None = None,
        save_steps: int | None = None,
        saver: object = None,
        checkpoint_basename: str | None = None,
        scaffold: object = None,
        listeners: Sequence[CheckpointSaverListener] = (),
    ) -> None:
        basename = None if checkpoint_basename == "model.ckpt" else checkpoint_basename
        given = {"saver": saver, "checkpoint_basename": basename, "scaffold": scaffold}
        for name, value in given.items():
            if value is not None:
                raise ConfigError(
                    f"CheckpointSaverHook.{name} cannot be used: checkpoints hold all variables of "
                    "the model, by their names. Leave it away.",
                    reason=Reason.UNSUPPORTED,
                )
        SecondOrStepTimer(save_secs, save_steps)  # refuses both and none
        self.checkpoint_dir = checkpoint_dir
        self.every_steps = save_steps
        self.save_secs = save_secs
        self.listeners = tuple(listeners or ())

    def after_step(self, context: StepContext) -> None:
        """The loop saves."""


class ProfilerHook(Hook):
    """Writes a TensorFlow profile of a few steps now and then.

    Args:
        save_steps: Steps between two profiles.
        output_dir: Where they go; by default the model directory.
        steps: Steps that one profile covers.
    """

    def __init__(
        self, save_steps: int = 1000, output_dir: str | None = None, *, steps: int = 5
    ) -> None:
        self._save_steps = save_steps
        self._steps = steps
        self._output_dir = output_dir
        self._started_at: int | None = None

    def next_step(self, step: int) -> int | None:
        if self._started_at is not None:
            return self._started_at + self._steps
        return step - step % self._save_steps + self._save_steps

    def after_step(self, context: StepContext) -> None:
        if self._started_at is not None and context.step >= self._started_at + self._steps:
            tf.profiler.experimental.stop()
            self._started_at = None
        elif self._started_at is None and context.step % self._save_steps == 0:
            tf.profiler.experimental.start(self._output_dir or context.model_dir)
            self._started_at = context.step

    def end(self, context: StepContext) -> None:
        del context
        if self._started_at is not None:
            tf.profiler.experimental.stop()
            self._started_at = None


class FinalOpsHook(Hook):
    """Calls a function once after training and keeps its result.

    Args:
        final_ops: Called without arguments.
    """

    every_steps = None

    def __init__(self, final_ops: Callable[[], Any]) -> None:
        if not callable(final_ops):
            raise ConfigError(
                f"FinalOpsHook.final_ops is invalid: expected a function without arguments, got "
                f"{quote(final_ops)}. Give a function that returns the values, or "
                "tf.compat.v1.train.FinalOpsHook tensors.",
                reason=Reason.TYPE_MISMATCH,
            )
        self._final_ops = final_ops
        self.final_ops_values: Any = None

    def end(self, context: StepContext) -> None:
        del context
        self.final_ops_values = self._final_ops()


class ProgressHook(Hook):
    """Prints a line now and then: step, loss, rows per second, time left.

    Args:
        total_steps: The global step training will end at; None if unknown.
        every_s: Seconds between two lines at least.
        what: First word of the line.
        out: Where lines go; standard output by default.
    """

    every_steps = None

    def __init__(
        self,
        total_steps: int | None = None,
        *,
        every_s: float = 2.0,
        what: str = "train",
        out: TextIO | None = None,
    ) -> None:
        self._progress = Progress(what, unit="step", total=total_steps, every_s=every_s, out=out)
        self._first: tuple[int, float] | None = None

    def after_step(self, context: StepContext) -> None:
        self._show(context, force=False)

    def end(self, context: StepContext) -> None:
        self._show(context, force=True)

    def _show(self, context: StepContext, *, force: bool) -> None:
        if self._first is None:
            # The first call traces the function; its time says nothing about the rate.
            self._first = (context.rows, context.seconds)
        rows, seconds = context.rows - self._first[0], context.seconds - self._first[1]
        rate = rows / seconds if seconds > 0 else 0.0
        self._progress.update(
            context.step,
            force=force,
            loss=float("nan") if context.mean_loss is None else context.mean_loss,
            **{"rows/s": int(rate)},
        )
