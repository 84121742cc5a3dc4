"""Early stopping: end training when evaluations say so, and go back to the best weights.

Layer 3. The hooks look at the evaluations of a directory, so it does not matter whether this
process evaluates or an evaluator job does. An evaluation that lacks the metric, or
where it is not finite, is passed over.
"""

from __future__ import annotations

import functools
import logging
import operator
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from estimator_lib.core.errors import ConfigError, Reason, did_you_mean
from estimator_lib.protocols import InputFn
from estimator_lib.training import history, hooks
from estimator_lib.training.checkpoints import CheckpointDirectory

_log = logging.getLogger(__name__)


class Stoppable(Protocol):
    """What these hooks need of the Estimator that trains."""

    @property
    def checkpoints(self) -> CheckpointDirectory:
        """The checkpoints in model_dir."""

    def eval_dir(self, name: str | None = None) -> str:
        """Returns where results of the evaluation `name` go."""

    def evaluate_in_memory(
        self,
        input_fn: InputFn,
        steps: int | None = None,
        hooks: Sequence[object] | None = None,
        name: str | None = None,
    ) -> Mapping[str, object]:
        """Evaluates the variables as they are now."""


class EarlyStoppingHook(hooks.Hook):
    """Ends training when `should_stop_fn` says so.

    Args:
        should_stop_fn: Called without arguments.
        run_every_secs: Seconds between two questions.
        run_every_steps: Steps between two, instead.
    """

    def __init__(
        self,
        should_stop_fn: Callable[[], bool],
        run_every_secs: float | None = 60,
        run_every_steps: int | None = None,
    ) -> None:
        if not callable(should_stop_fn):
            raise ConfigError(
                "Early stopping needs should_stop_fn: expected a function.",
                reason=Reason.MISSING_VALUE,
            )
        if run_every_secs is not None and run_every_steps is not None:
            raise ConfigError(
                "Early stopping has both run_every_secs and run_every_steps. Give "
                "run_every_secs=None for steps.",
                reason=Reason.CONFLICT,
            )
        self.every_steps = run_every_steps
        self._every_s = run_every_secs
        self._should_stop = should_stop_fn
        self._asked_at: float | None = None

    def after_step(self, context: hooks.StepContext) -> None:
        now = time.monotonic()
        if self._every_s is not None:
            if self._asked_at is not None and now < self._asked_at + self._every_s:
                return
            self._asked_at = now
        if self._should_stop():
            _log.info("Early stopping at step %d.", context.step)
            context.request_stop("early stopping")


class MetricStoppingHook(EarlyStoppingHook):
    """Ends training by the course of one metric.

    Args:
        estimator: The Estimator that trains.
        metric_name: A metric of its evaluations.
        higher_is_better: Direction.
        patience_steps: Steps without improvement after which training ends; None for the
            threshold below.
        patience_evaluations: The same in evaluations.
        threshold: Training ends when the metric is beyond it.
        eval_dir: The evaluations' directory; `<model_dir>/eval` by default.
        min_steps: Training goes on at least to this step.
        run_every_secs: Seconds between two looks.
        run_every_steps: Steps between two, instead.
        restore_best: Whether training ends with the best checkpoint as the newest one; later
            ones are deleted.
    """

    def __init__(
        self,
        estimator: Stoppable,
        metric_name: str,
        *,
        higher_is_better: bool,
        patience_steps: int | None = None,
        patience_evaluations: int | None = None,
        threshold: float | None = None,
        eval_dir: str | None = None,
        min_steps: int = 0,
        run_every_secs: float | None = 60,
        run_every_steps: int | None = None,
        restore_best: bool = False,
    ) -> None:
        super().__init__(self._stop_now, run_every_secs, run_every_steps)
        self._estimator = estimator
        self._metric = metric_name
        self._better = operator.gt if higher_is_better else operator.lt
        self._patience_steps = patience_steps
        self._patience = patience_evaluations
        self._threshold = threshold
        self._folder = eval_dir or estimator.eval_dir()
        self._min_steps = min_steps
        self._restore_best = restore_best

    def results(self) -> list[tuple[int, float]]:
        """Returns (step, value) of the evaluations so far, in order of steps, newest last.

        Raises:
            ConfigError: there are evaluations, and none has the metric.
        """
        # A directory that tf.estimator wrote has no such record yet.
        made = history.evaluations(self._folder).all() or history.from_events(
            f"{self._folder}/*.tfevents.*"
        )
        known = {name for entry in made for name in entry.metrics}
        if made and self._metric not in known:
            raise ConfigError(
                f"Early stopping asks for the metric {self._metric!r}, which no evaluation in "
                f"{self._folder} has.{did_you_mean(self._metric, known)}",
                reason=Reason.UNKNOWN_NAME,
            )
        found: dict[int, float] = {}
        for entry in made:
            value = entry.metrics.get(self._metric)
            if value is not None:
                found[entry.step] = float(value)
        return sorted(found.items())

    def best(self) -> tuple[int, float] | None:
        """Returns (step, value) of the best evaluation; the first of equals."""
        best = None
        for step, value in self.results():
            if best is None or self._better(value, best[1]):
                best = (step, value)
        return best

    def after_step(self, context: hooks.StepContext) -> None:
        self.keep_best()
        super().after_step(context)

    def keep_best(self) -> None:
        """Keeps the best checkpoint from being deleted."""
        best = self.best() if self._restore_best else None
        if best is not None:
            self._estimator.checkpoints.hold([best[0]])

    def should_stop(self) -> bool:
        """Whether the evaluations so far end training."""
        return self._stop_now()

    def _stop_now(self) -> bool:
        results = self.results()
        best = self.best()
        if best is None or results[-1][0] < self._min_steps:
            return False
        if self._threshold is not None:
            return any(
                self._better(value, self._threshold)
                for step, value in results
                if step >= self._min_steps
            )
        if self._patience is not None:
            return sum(step > best[0] for step, _ in results) >= self._patience
        return results[-1][0] - best[0] >= (self._patience_steps or 0) > 0

    def end(self, context: hooks.StepContext) -> None:
        best = self.best() if self._restore_best and context.is_chief else None
        if best is None or best[0] >= context.step:
            return
        directory = self._estimator.checkpoints
        if best[0] in directory.steps():
            _log.info("Going back to the best checkpoint, of step %d.", best[0])
            directory.rewind(best[0])


def make_early_stopping_hook(
    estimator: Stoppable,
    should_stop_fn: Callable[[], bool],
    run_every_secs: float | None = 60,
    run_every_steps: int | None = None,
) -> EarlyStoppingHook:
    """Returns a hook that ends training when `should_stop_fn()` is true."""
    if not hasattr(estimator, "train"):
        raise ConfigError(
            "make_early_stopping_hook needs an Estimator.", reason=Reason.TYPE_MISMATCH
        )
    return EarlyStoppingHook(should_stop_fn, run_every_secs, run_every_steps)


def stop_if_higher_hook(
    estimator: Stoppable,
    metric_name: str,
    threshold: float,
    eval_dir: str | None = None,
    min_steps: int = 0,
    run_every_secs: float | None = 60,
    run_every_steps: int | None = None,
) -> MetricStoppingHook:
    """Returns a hook that ends training when the metric is above `threshold`."""
    return MetricStoppingHook(
        estimator, metric_name, higher_is_better=True, threshold=threshold, eval_dir=eval_dir,
        min_steps=min_steps, run_every_secs=run_every_secs,
        run_every_steps=run_every_steps,
    )  # fmt: skip


def stop_if_lower_hook(
    estimator: Stoppable,
    metric_name: str,
    threshold: float,
    eval_dir: str | None = None,
    min_steps: int = 0,
    run_every_secs: float | None = 60,
    run_every_steps: int | None = None,
) -> MetricStoppingHook:
    """Returns a hook that ends training when the metric is below `threshold`."""
    return MetricStoppingHook(
        estimator, metric_name, higher_is_better=False, threshold=threshold, eval_dir=eval_dir,
        min_steps=min_steps, run_every_secs=run_every_secs,
        run_every_steps=run_every_steps,
    )  # fmt: skip


def stop_if_no_increase_hook(
    estimator: Stoppable,
    metric_name: str,
    max_steps_without_increase: int,
    eval_dir: str | None = None,
    min_steps: int = 0,
    run_every_secs: float | None = 60,
    run_every_steps: int | None = None,
    *,
    restore_best: bool = False,
) -> MetricStoppingHook:
    """Returns a hook that ends training when the metric has not risen for so many steps."""
    return MetricStoppingHook(
        estimator, metric_name, higher_is_better=True, patience_steps=max_steps_without_increase,
        eval_dir=eval_dir, min_steps=min_steps,
        run_every_secs=run_every_secs, run_every_steps=run_every_steps,
        restore_best=restore_best,
    )  # fmt: skip


def stop_if_no_decrease_hook(
    estimator: Stoppable,
    metric_name: str,
    max_steps_without_decrease: int,
    eval_dir: str | None = None,
    min_steps: int = 0,
    run_every_secs: float | None = 60,
    run_every_steps: int | None = None,
    *,
    restore_best: bool = False,
) -> MetricStoppingHook:
    """Returns a hook that ends training when the metric has not fallen for so many steps."""
    return MetricStoppingHook(
        estimator, metric_name, higher_is_better=False, patience_steps=max_steps_without_decrease,
        eval_dir=eval_dir, min_steps=min_steps,
        run_every_secs=run_every_secs, run_every_steps=run_every_steps,
        restore_best=restore_best,
    )  # fmt: skip


class StopAtCheckpointStepHook(hooks.Hook):
    """Ends training once a checkpoint of `last_step` or later exists.

    Args:
        estimator: The Estimator.
        last_step: The global step.
        wait_after_file_check_secs: Seconds between two looks.
    """

    every_steps = None

    def __init__(
        self, estimator: Stoppable, last_step: int, wait_after_file_check_secs: float = 30
    ) -> None:
        self._estimator = estimator
        self._last_step = last_step
        self._wait_s = wait_after_file_check_secs
        self._looked_at = -float("inf")

    def after_step(self, context: hooks.StepContext) -> None:
        if time.monotonic() < self._looked_at + self._wait_s:
            return
        self._looked_at = time.monotonic()
        steps = self._estimator.checkpoints.steps()
        if steps and steps[-1] >= self._last_step:
            context.request_stop("a checkpoint of the last step exists")


def make_stop_at_checkpoint_step_hook(
    estimator: Stoppable, last_step: int, wait_after_file_check_secs: float = 30
) -> StopAtCheckpointStepHook:
    """Returns a hook that ends training once a checkpoint of `last_step` exists."""
    return StopAtCheckpointStepHook(estimator, last_step, wait_after_file_check_secs)


class InMemoryEvaluatorHook(hooks.Hook):
    """Evaluates the weights in memory every so many steps, at the start and at the end.

    Args:
        estimator: The Estimator that trains.
        input_fn: Gives features and labels.
        steps: Batches; None evaluates all.
        hooks: Run during evaluation.
        name: Tells evaluations apart.
        every_n_iter: Steps between two.
    """

    def __init__(
        self,
        estimator: Stoppable,
        input_fn: InputFn,
        steps: int | None = None,
        hooks: Sequence[object] | None = None,
        name: str | None = None,
        every_n_iter: int = 100,
    ) -> None:
        if every_n_iter <= 0:
            raise ConfigError(
                f"InMemoryEvaluatorHook.every_n_iter is invalid: expected a positive number, got "
                f"{every_n_iter}.",
            )
        self.every_steps = every_n_iter
        self._run = functools.partial(estimator.evaluate_in_memory, input_fn, steps, hooks, name)
        self._evaluated: int | None = None

    def after_step(self, context: hooks.StepContext) -> None:
        self._evaluate(context)

    def end(self, context: hooks.StepContext) -> None:
        if self._evaluated != context.step:
            self._evaluate(context)

    def _evaluate(self, context: hooks.StepContext) -> None:
        self._evaluated = context.step
        self._run()
