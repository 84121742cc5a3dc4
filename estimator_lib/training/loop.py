"""The training loop on the host's side: how many steps next, hooks, checkpoints, signals.

Layer 3. Each turn runs as many steps in one call as the next boundary allows: a hook, a
checkpoint, a log line, the last step, and never longer than about a second, so that signals
and time-based work are served.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import FrameType
from typing import Protocol

import numpy as np
import tensorflow as tf

from estimator_lib.core.errors import Reason, TrainingError
from estimator_lib.inputs.feed import Feed, Flow, Looped
from estimator_lib.protocols import Features
from estimator_lib.training import history
from estimator_lib.training.hooks import (
    CheckpointSaverListener,
    Hook,
    NanLossDuringTrainingError,
    StepContext,
)
from estimator_lib.training.peers import Peers, Turn, Vote
from estimator_lib.training.run_config import RunConfig
from estimator_lib.training.step import TrainFunction, TrainState
from estimator_lib.training.traced_model import TracedModel

_log = logging.getLogger(__name__)
_FIRST_CALL_STEPS = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """How training ended.

    Attributes:
        step: The global step.
        steps: Steps trained in this call.
        rows: Rows trained on in this call.
        ended: Whether the input ended.
        reason: Why a hook stopped it, if one did.
    """

    step: int
    steps: int
    rows: int
    ended: bool
    reason: str | None = None


class Crew(Protocol):
    """Those that train the same variables, as one of them sees it.

    Attributes:
        restores: Whether this process gives the variables their values.
        over: Whether the chief has said that training has ended.
    """

    restores: bool
    over: bool

    def join(self) -> None:
        """Takes part from now on: all variables have been made."""

    def enter(self) -> bool:
        """Before a call: waits where it must; returns whether there is a step to make."""

    def leave(self) -> None:
        """After a call."""

    def cut(self) -> contextlib.AbstractContextManager[None]:
        """While a checkpoint is written: nobody changes variables in the block."""

    def settle(self) -> None:
        """At the last step: lets those finish who still make steps."""

    def finish(self, *, others_go_on: bool) -> None:
        """After the last call: lets others end, or waits until they have."""


@dataclasses.dataclass(kw_only=True)
class TrainingLoop:
    """The steps of one training.

    Attributes:
        model: The traced model.
        function: Its training function.
        feed: Batches.
        hooks: All hooks, in order.
        listeners: Told about checkpoints.
        last_step: The global step to end at; None for the end of the input.
        config: The run's.
        save: Writes a checkpoint given the number of steps of this call (None when the input has
            ended), or helps the chief to; None if none is saved.
        peers: The processes of this training.
        saved_step: The global step of the newest checkpoint, if there is one.
        diagnose: Describes the model and the batch at fault, given the batch's number.
        fail_on_nan: Whether a loss that is not finite is an error.
        crew: Those that train the same variables; None if nobody else does.
    """

    model: TracedModel
    function: TrainFunction
    feed: Feed
    hooks: Sequence[Hook]
    listeners: Sequence[CheckpointSaverListener]
    last_step: int | None
    config: RunConfig
    save: Callable[[int | None], None] | None
    peers: Peers
    saved_step: int | None
    diagnose: Callable[[int], str]
    fail_on_nan: bool
    crew: Crew | None = None

    def __post_init__(self) -> None:
        first = int(self.model.global_step().numpy())
        self._context = StepContext(
            step=first,
            first_step=first,
            model_dir=str(self.config.model_dir),
            variables=self.model.store.variables,
            is_chief=self.config.is_chief,
        )
        self._consumed = 0
        self._ended = False
        self._saved = (self.saved_step, False)
        self._saved_time = time.monotonic()
        self._step_s: float | None = None
        self._window = _Window()

    def run(self) -> Outcome:
        """Trains to the end.

        Raises:
            NanLossDuringTrainingError: the loss is not finite; nothing was saved since.
            TrainingError: a signal asked to end (`retryable`; the state was saved).
        """
        context = self._context
        for hook in self.hooks:
            hook.begin()
        for listener in self.listeners:
            listener.begin()
        with self.peers.starting():
            flow = self.feed.start()
        began = time.monotonic()
        with _Signals() as signals:
            while True:
                turn = self.peers.turn(self._vote(signals.received))
                if turn.save:
                    self._save()
                elif turn.signal:
                    raise self._preempted(turn)
                elif turn.end:
                    break
                else:
                    self._run(flow, turn.steps, began)
        self._finish()
        return Outcome(
            step=context.step,
            steps=context.step - context.first_step,
            rows=context.rows,
            ended=self._ended,
            reason=context.stop_reason,
        )

    def _finished(self) -> bool:
        if self._ended or self._context.stop_requested:
            return True
        if self.last_step is None or self._context.step < self.last_step:
            return False
        if self.crew is not None:
            # Steps that others have begun may yet come back unmade.
            self.crew.settle()
            self._context.step = self._global_step()
        return self._context.step >= self.last_step

    def _global_step(self) -> int:
        return int(self.model.global_step().numpy())

    # --- One call -------------------------------------------------------------------------

    def _vote(self, signal: int) -> Vote:
        finished = self._finished()
        if finished and self.crew is not None:
            self.crew.finish(others_go_on=self._ended and not self._context.stop_requested)
            self._context.step = self._global_step()
        step = self._context.step
        due = [hook.next_step(step) for hook in self.hooks]
        return Vote(
            steps=0 if finished else self._steps(step, due),
            save=self._is_unsaved() and self._must_save(),
            unsaved=self._is_unsaved() and self._context.is_chief,
            end=finished,
            signal=signal,
        )

    def _run(self, flow: Flow, steps: int, began: float) -> None:
        context = self._context
        before = context.step
        due_at = {hook: hook.next_step(before) for hook in self.hooks}
        for hook in self.hooks:
            hook.before_step(context)
        started = time.monotonic()
        result = self._call(flow, steps)
        if result is None:
            return
        done, finite = int(result.done), bool(result.state.finite)
        context.step = self._global_step()
        now = time.monotonic()
        self._ended = not bool(result.more)
        self._consumed += done
        if done:
            self._note_speed(done, now - started)
            self._take(result.state, done)
            context.seconds = now - began
        if not finite and self.fail_on_nan:
            self._not_finite(f"Loss {context.loss} is")
        if not finite:
            context.request_stop("the loss is not finite")
            return
        if not done:
            return
        self._write_log(before)
        for hook in self.hooks:
            due = due_at[hook]
            if due is None or context.step >= due:
                hook.after_step(context)

    def _call(self, flow: Flow, steps: int) -> Looped[TrainState] | None:
        """Runs steps; None if none are left, or others have ended the training."""
        crew = self.crew
        if crew is None:
            with self.peers.working():
                return flow.run(self.function.run, steps, self.function.over_chunk)
        if not crew.enter():
            if crew.over:
                self._context.request_stop("the chief has ended training")
            crew.settle()
            self._context.step = self._global_step()
            return None
        try:
            return flow.run(self.function.run, steps, self.function.over_chunk)
        finally:
            crew.leave()

    def _steps(self, step: int, due: Iterable[int | None]) -> int:
        config = self.config
        bounds = [d for d in due if d is not None]
        if self.last_step is not None:
            bounds.append(self.last_step)
        for every in (
            config.save_checkpoints_steps if self.save else None,
            config.log_step_count_steps,
        ):
            if every:
                bounds.append(step - step % every + every)
        steps = min(bounds, default=step + 2**40) - step
        if self._step_s is None:
            return min(steps, _FIRST_CALL_STEPS)
        return max(1, min(steps, int(config.max_call_secs / self._step_s)))

    def _note_speed(self, done: int, seconds: float) -> None:
        first = self._step_s is None
        # The first call traces the function; its time says nothing about steps.
        self._step_s = 0.05 if first else max(1e-6, seconds / done)

    def _take(self, state: TrainState, done: int) -> None:
        context = self._context
        rows, total = int(state.rows), float(state.loss_sum)
        context.loss = float(state.loss)
        context.mean_loss = total / done
        context.rows += rows
        context.values = {name: value.numpy() for name, value in state.fetches.items()}
        context.values.setdefault("loss", context.loss)
        context.values.setdefault("global_step", context.step)
        self._window.loss_sum += total
        self._window.steps += done
        self._window.rows += rows

    def _write_log(self, before: int | None = None) -> None:
        """Writes a line if steps since `before` have come to one that is due; None forces it."""
        every, window = self.config.log_step_count_steps, self._window
        if not window.steps or every is None:
            return
        if before is not None and before // every == self._context.step // every:
            return
        seconds = time.monotonic() - window.began
        rate = window.rows / seconds if seconds > 0 else 0.0
        loss = window.loss_sum / window.steps
        _log.info("step %d: loss = %g (%.0f rows/s)", self._context.step, loss, rate)
        if self.save is not None and self._context.is_chief:
            entry = {
                "step": self._context.step,
                "loss": loss if math.isfinite(loss) else None,
                "rows_per_s": round(rate, 1),
            }
            history.append(f"{self._context.model_dir}/{history.HISTORY}", entry)
        self._window = _Window()

    # --- Checkpoints ----------------------------------------------------------------------

    def _is_unsaved(self) -> bool:
        return self.save is not None and self._saved != (self._context.step, self._ended)

    def _must_save(self) -> bool:
        if any(hook.wants_save for hook in self.hooks):
            return True
        if not self._context.is_chief:
            return False
        steps, secs = self.config.save_checkpoints_steps, self.config.save_checkpoints_secs
        if self.saved_step is None or self._context.step == self._context.first_step:
            return True
        if steps is not None:
            return self._context.step // steps > self.saved_step // steps
        return secs is not None and time.monotonic() - self._saved_time >= secs

    def _save(self) -> None:
        context = self._context
        if self.save is None:
            return
        with contextlib.nullcontext() if self.crew is None else self.crew.cut():
            context.step = self._global_step()
            if self.saved_step == context.step:
                # Only the input's position is new: it has ended.
                self._write()
                return
            if self.fail_on_nan and not _finite(context.variables):
                # Gradients may be infinite where the loss is not.
                self._not_finite("Weights are")
            for listener in self.listeners:
                listener.before_save(context, context.step)
            self._write()
        self.saved_step, self._saved_time = context.step, time.monotonic()
        for listener in self.listeners:
            if listener.after_save(context, context.step):
                context.request_stop(f"{type(listener).__name__} asked for it")

    def _write(self) -> None:
        if self.save is not None:
            self.save(None if self._ended else self._consumed)
        self._saved = (self._context.step, self._ended)

    def _finish(self) -> None:
        context = self._context
        self._write_log()
        self.model.summaries.flush()
        for listener in self.listeners:
            listener.end(context, context.step)
        for hook in self.hooks:
            hook.end(context)

    # --- Trouble --------------------------------------------------------------------------

    def _not_finite(self, what: str) -> None:
        raise NanLossDuringTrainingError(
            f"{what} not finite at step {self._context.step}. "
            f"{self.diagnose(self._consumed - 1)} Nothing was saved since step "
            f"{self.saved_step}. Lower the learning rate or look at the input.",
        )

    def _preempted(self, turn: Turn) -> TrainingError:
        saved = "its state is saved" if self.save is not None else "no checkpoint was asked for"
        error = TrainingError(
            f"{self.peers.name(turn.asked)} was asked to end by "
            f"{signal.Signals(turn.signal).name} at step {self._context.step}; {saved}. Run again "
            "to go on.",
            reason=Reason.INTERRUPTED,
        )
        error.retryable = True
        return error


@dataclasses.dataclass
class _Window:
    """What happened since the last log line."""

    loss_sum: float = 0.0
    steps: int = 0
    rows: int = 0
    began: float = dataclasses.field(default_factory=time.monotonic)


class _Signals:
    """Notes SIGTERM instead of dying of it; a second one ends the process as usual."""

    def __init__(self) -> None:
        self.received = 0
        self._old: Callable[[int, FrameType | None], object] | int | None = None
        self._mine = threading.current_thread() is threading.main_thread()

    def __enter__(self) -> _Signals:
        if self._mine:
            self._old = signal.signal(signal.SIGTERM, self._note)
        return self

    def _note(self, number: int, frame: object) -> None:
        del frame
        self.received = number
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def __exit__(self, *exc: object) -> None:
        if self._mine:
            signal.signal(signal.SIGTERM, self._old)


def _finite(variables: Mapping[str, tf.Variable]) -> bool:
    trained = [v for v in variables.values() if v.trainable and v.dtype.is_floating]
    return all(bool(tf.reduce_all(tf.math.is_finite(v))) for v in trained)


def describe_weights(variables: Mapping[str, tf.Variable]) -> str:
    """Says which variables are not finite, and the learning rate if it is a variable."""
    bad = []
    rates = []
    for name, variable in variables.items():
        if not variable.dtype.is_floating:
            continue
        value = variable.numpy()
        if not np.all(np.isfinite(value)):
            bad.append(name)
        if name.rsplit("/", 1)[-1] == "learning_rate":
            rates.append(f"{float(value):g}")
    parts = []
    if rates:
        parts.append(f"Learning rate: {', '.join(rates)}.")
    if bad:
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        parts.append(f"Not finite: {', '.join(bad[:5])}{more}.")
    return " ".join(parts)


def describe_batch(features: Features, limit: int = 8) -> str:
    """Says the range of each numeric feature of a batch, the suspicious ones first."""
    rows = []
    named = features if isinstance(features, Mapping) else {"x": features}
    for name, tensor in sorted(named.items()):
        if not hasattr(tensor, "numpy") or not (
            tensor.dtype.is_floating or tensor.dtype.is_integer
        ):
            continue
        value = np.asarray(tensor.numpy(), np.float64)
        if value.size:
            finite = bool(np.all(np.isfinite(value)))
            low, high = value.min(), value.max()
            rows.append((finite, -max(abs(low), abs(high)), f"{name} in [{low:g}, {high:g}]"))
    rows.sort(key=lambda row: (row[0], row[1] if math.isfinite(row[1]) else -math.inf))
    return f"The batch has {', '.join(text for *_, text in rows[:limit])}." if rows else ""
