"""`train_and_evaluate`: train, evaluate and export in the role this process has.

Layer 4. Without a cluster everything happens in one process, and evaluations run between two
training steps: the input is not restarted. With TF_CONFIG, chief and workers train and the
evaluator follows their checkpoints until training has finished, however it ended.
"""

from __future__ import annotations

import logging
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

from estimator_lib.core.errors import CheckpointError, ConfigError, Reason, TrainingError, quote
from estimator_lib.estimator import Estimator
from estimator_lib.inputs.arrays import RowsInput
from estimator_lib.protocols import InputFn
from estimator_lib.specs import EvalSpec, ExporterLike, TrainSpec
from estimator_lib.training import checkpoints, hooks, parameter_servers
from estimator_lib.training.attempts import Attempt, Ending, Following
from estimator_lib.training.early_stopping import MetricStoppingHook
from estimator_lib.training.run_config import RunConfig

_log = logging.getLogger(__name__)
_POLL_S = 1.0


def train_and_evaluate(
    estimator: Estimator,
    train_spec: TrainSpec,
    eval_spec: EvalSpec | Sequence[EvalSpec],
) -> tuple[Any, list[Any]] | None:
    """Trains, evaluating and exporting now and then and at the end.

    Args:
        estimator: An Estimator.
        train_spec: How to train.
        eval_spec: How to evaluate; several must have names that differ.

    Returns:
        Without a cluster: (metrics of the last evaluation, results of the last exports). For
        several EvalSpecs the metrics are a dict by name ("eval" if unnamed). A call that finds
        max_steps reached evaluates and exports all the same. In a cluster: None.

    Raises:
        ConfigError: an argument is wrong, or the role cannot be played.
        TrainingError: see `Estimator.train`; in the evaluator's role, the trainer failed or is
            gone.
    """
    if not isinstance(train_spec, TrainSpec):
        raise _wrong("train_spec", "a TrainSpec", train_spec)
    many = not isinstance(eval_spec, EvalSpec)
    specs: list[EvalSpec] = list(eval_spec) if not isinstance(eval_spec, EvalSpec) else [eval_spec]
    names = [getattr(spec, "name", None) for spec in specs]
    if not specs or any(not isinstance(spec, EvalSpec) for spec in specs):
        raise _wrong("eval_spec", "an EvalSpec or several", eval_spec)
    if len(set(names)) != len(names):
        raise ConfigError(
            f"Two EvalSpecs have one name: got {names}. Give each its own.",
            reason=Reason.DUPLICATE,
        )
    hooks.check([*(train_spec.hooks or ()), *(h for spec in specs for h in spec.hooks or ())])
    config = estimator.config
    if config.task_type == "evaluator":
        Evaluator(estimator, specs, train_spec.max_steps).follow()
        return None
    if config.task_type == "ps":
        parameter_servers.serve(config)
        return None
    if config.num_worker_replicas > 1 and not (
        config.train_distribute is not None or config.is_asynchronous
    ):
        raise ConfigError(
            f"TF_CONFIG has {config.num_worker_replicas} workers but RunConfig no strategy: each "
            'would train alone. Set train_distribute="sync".',
            reason=Reason.CONFLICT,
        )
    if not config.is_chief:
        _train(estimator, train_spec, ())
        return None
    with Attempt(estimator.model_dir) as attempt:
        metrics, exports = _train_as_chief(estimator, train_spec, specs, attempt)
        attempt.await_evaluator(
            expected="evaluator" in config.cluster_spec.jobs, silence_s=config.peer_timeout_secs
        )
    if config.cluster_spec:
        return None
    return (metrics if many else metrics[specs[0].name or "eval"]), exports


def _train_as_chief(
    estimator: Estimator, train_spec: TrainSpec, specs: Sequence[EvalSpec], attempt: Attempt
) -> tuple[dict[str, Any], list[Any]]:
    stoppers = [h for h in train_spec.hooks or () if isinstance(h, MetricStoppingHook)]
    evaluators = [
        _Periodic(estimator, spec, train_spec, stoppers)
        for spec in specs
        if not estimator.config.cluster_spec
    ]
    # With others, all begin: what this process has found out they may not know yet.
    if estimator.config.num_worker_replicas > 1 or not any(h.should_stop() for h in stoppers):
        _train(estimator, train_spec, evaluators)
    attempt.finish(estimator.checkpoints.newest_step() or 0)
    metrics, exports = {}, []
    for spec, evaluator in zip(specs, evaluators, strict=bool(evaluators)):
        found, exported = evaluator.final()
        metrics[spec.name or "eval"] = found
        exports += exported
    return metrics, exports


def _train(estimator: Estimator, train_spec: TrainSpec, evaluators: Sequence[_Periodic]) -> None:
    estimator.train(
        train_spec.input_fn,
        hooks=[*(train_spec.hooks or ()), *evaluators],
        max_steps=train_spec.max_steps,
        saving_listeners=train_spec.saving_listeners,
    )


def evaluate_and_export(
    estimator: Estimator, spec: EvalSpec, path: str | None, *, final: bool
) -> tuple[dict[str, Any], list[Any]]:
    """Evaluates a checkpoint and hands it to the exporters of `spec`."""
    metrics = estimator.evaluate(
        spec.input_fn,
        steps=spec.steps,
        hooks=spec.hooks,
        checkpoint_path=path,
        name=spec.name,
    )
    return metrics, _export(estimator, path, metrics, spec.exporters, final=final)


def _export(
    estimator: Estimator,
    path: str | None,
    metrics: dict[str, Any],
    exporters: Sequence[ExporterLike],
    *,
    final: bool,
) -> list[Any]:
    found = []
    for exporter in exporters:
        found.append(
            exporter.export(
                estimator=estimator,
                export_path=str(pathlib.Path(estimator.model_dir) / "export" / exporter.name),
                checkpoint_path=path or estimator.latest_checkpoint(),
                eval_result=metrics,
                is_the_final_export=final,
            )
        )
    return found


class _Periodic(hooks.Hook):
    """Evaluates when a checkpoint is saved and an evaluation is due.

    With `every_steps` it also asks for a checkpoint at those steps.
    """

    def __init__(
        self,
        estimator: Estimator,
        spec: EvalSpec,
        train_spec: TrainSpec,
        stoppers: Sequence[MetricStoppingHook],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._estimator = estimator
        self._spec = spec
        self._stoppers = stoppers
        self._clock = clock
        self._last_time: float | None = None
        self._last: tuple[int, dict[str, Any], list[Any]] | None = None
        self.wants_save = False
        self.every_steps = spec.every_steps
        if spec.every_epochs is not None:
            self.every_steps = spec.every_epochs * _steps_per_epoch(train_spec.input_fn)
        self.listeners = (_Listener(self),)

    def after_step(self, context: hooks.StepContext) -> None:
        # A checkpoint is asked for; the listener evaluates it.
        self.wants_save = bool(self.every_steps and context.step % self.every_steps == 0)

    def saved(self, step: int, *, first: bool) -> bool:
        """Evaluates the checkpoint just saved if due; returns whether training should end."""
        asked, self.wants_save = self.wants_save, False
        if first and not asked:
            return False
        now = self._clock()
        if self.every_steps is None:
            recent = self._last_time is not None
            if recent and now < (self._last_time or 0.0) + self._spec.throttle_secs:
                return False
        elif not asked:
            return False
        metrics, exports = evaluate_and_export(
            self._estimator, self._spec, self._estimator.latest_checkpoint(), final=False
        )
        self._last_time, self._last = self._clock(), (step, metrics, exports)
        for hook in self._stoppers:
            hook.keep_best()
        return any(hook.should_stop() for hook in self._stoppers)

    def final(self) -> tuple[dict[str, Any], list[Any]]:
        """Evaluates the newest checkpoint unless that was done, and exports for good."""
        path = self._estimator.latest_checkpoint()
        if self._last is not None and path and self._last[0] == checkpoints.step_of(path):
            _, metrics, done = self._last
            # Whoever has exported this checkpoint already does not do it twice.
            left = [e for e, r in zip(self._spec.exporters, done, strict=True) if r is None]
            now = iter(_export(self._estimator, path, metrics, left, final=True))
            return metrics, [next(now) if result is None else result for result in done]
        return evaluate_and_export(self._estimator, self._spec, path, final=True)


class _Listener(hooks.CheckpointSaverListener):
    def __init__(self, evaluator: _Periodic) -> None:
        self._evaluator = evaluator
        self._first = True

    def after_save(self, session: hooks.StepContext, global_step_value: int) -> bool | None:
        first, self._first = self._first and session.step == session.first_step, False
        return self._evaluator.saved(global_step_value, first=first)


class Evaluator:
    """The evaluator job: evaluates new checkpoints until training has ended, however it did.

    It ends with the trainer's word, or at max_steps; without a word, when nobody has trained for
    `RunConfig.peer_timeout_secs` (`session_creation_timeout_secs` where nobody ever has).

    Args:
        estimator: An Estimator on the trainer's model_dir.
        specs: How to evaluate; delays are those of the first.
        max_steps: The global step at which training ends; None relies on the trainer's word.
        sleep: Waits for so many seconds.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        estimator: Estimator,
        specs: Sequence[EvalSpec],
        max_steps: int | None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._estimator = estimator
        self._specs = tuple(specs)
        self._max_steps = max_steps
        self._sleep = sleep
        self._clock = clock

    def follow(self) -> dict[str, tuple[dict[str, Any], list[Any]]]:
        """Returns the last metrics and exports by evaluation name ("eval" if unnamed).

        Raises:
            TrainingError: the trainer failed, or is gone (`retryable`); its newest checkpoint
                has been evaluated.
        """
        with Following(self._estimator.model_dir) as following:
            return self._follow(following)

    def _follow(self, following: Following) -> dict[str, tuple[dict[str, Any], list[Any]]]:
        self._sleep(self._specs[0].start_delay_secs)
        alone = _Alone(following, self._estimator.config, self._clock)
        seen: Any = None
        was_last, due_at = False, self._clock()
        result: dict[str, tuple[dict[str, Any], list[Any]]] = {}
        while True:
            # The trainer's word is read first: a checkpoint written before it is then seen.
            ending = following.ending() or alone.ending()
            path, stamp = self._newest()
            last = path is not None and self._is_last(checkpoints.step_of(path), ending)
            ended = last or (ending is not None and not ending.retryable)
            new = stamp != seen and (ended or self._clock() >= due_at)
            if path is not None and (new or (last and not was_last)):
                due_at = self._clock() + self._specs[0].throttle_secs
                found = self._evaluated(path, final=last)
                if found is not None:
                    result |= found
                    seen, was_last = stamp, last
            elif last:
                return result
            elif ending is not None and ending.failure is not None and not ending.retryable:
                raise TrainingError(
                    f"The trainer of {self._estimator.model_dir} failed: {ending.failure}. Its "
                    "newest checkpoint is evaluated; nothing is exported for good.",
                    reason=Reason.STEP_FAILED,
                )
            else:
                alone.raise_if_too_long()
                self._sleep(_POLL_S)

    def _newest(self) -> tuple[str | None, tuple[str, int] | None]:
        """Returns the newest checkpoint and what tells it from another of its name."""
        path = self._estimator.latest_checkpoint()
        try:
            return path, None if path is None else checkpoints.stamp(path)
        except FileNotFoundError:  # the trainer has just deleted it, for there are newer ones
            return None, None

    def _evaluated(
        self, path: str, *, final: bool
    ) -> dict[str, tuple[dict[str, Any], list[Any]]] | None:
        """Evaluates and exports a checkpoint; None if the trainer deleted it meanwhile."""
        try:
            return {
                spec.name or "eval": evaluate_and_export(self._estimator, spec, path, final=final)
                for spec in self._specs
            }
        except CheckpointError:
            if pathlib.Path(f"{path}.index").exists():
                raise
            _log.info("Checkpoint %s was deleted before it was evaluated: there are newer.", path)
            return None

    def _is_last(self, step: int, ending: Ending | None) -> bool:
        if ending is not None and ending.failure is None:
            return step >= ending.step
        return self._max_steps is not None and step >= self._max_steps


class _Alone:
    """For how long an evaluator has been without a trainer, and what follows from it."""

    def __init__(self, following: Following, config: RunConfig, clock: Callable[[], float]) -> None:
        self._following = following
        self._config = config
        self._clock = clock
        self._since = clock()
        self._known = following.left is not None

    def _is_too_long(self) -> bool:
        now = self._clock()
        if self._following.is_running():
            self._since, self._known = now, True
        return now - self._since >= self._patience_s

    @property
    def _patience_s(self) -> float:
        config = self._config
        known = self._known or self._following.ending() is not None
        return float(config.peer_timeout_secs if known else config.session_creation_timeout_secs)

    def ending(self) -> Ending | None:
        """Returns how the last attempt ended before this evaluator came, if none followed it."""
        return self._following.left if self._is_too_long() else None

    def raise_if_too_long(self) -> None:
        """Ends an evaluator that nobody trains for.

        Raises:
            TrainingError: nobody has trained for too long (`retryable`).
        """
        if not self._is_too_long():
            return
        ending = self._following.ending()
        how = f": {ending.failure}" if ending is not None and ending.failure else ""
        error = TrainingError(
            f"Nobody has trained in {self._config.model_dir} for {self._patience_s:g} s{how}. Run "
            "the trainer and the evaluator again.",
            reason=Reason.UNREACHABLE,
        )
        error.retryable = True
        raise error


def _steps_per_epoch(input_fn: InputFn) -> int:
    if isinstance(input_fn, RowsInput):
        return input_fn.batches_per_epoch
    raise ConfigError(
        "EvalSpec.every_epochs needs an input that knows its length, such as examples_input or "
        "arrays_input. Give every_steps.",
        reason=Reason.UNSUPPORTED,
    )


def _wrong(name: str, expected: str, got: object) -> ConfigError:
    return ConfigError(
        f"train_and_evaluate argument {name} is invalid: expected {expected}, got {quote(got)}.",
        reason=Reason.TYPE_MISMATCH,
    )
