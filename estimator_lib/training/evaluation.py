"""One evaluation: metrics over a dataset, written beside the checkpoint they belong to.

Layer 3.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from estimator_lib.core.errors import ConfigError, Reason
from estimator_lib.inputs import datasets
from estimator_lib.inputs.feed import Feed
from estimator_lib.protocols import Array, InputFn, Path
from estimator_lib.specs import ModeKeys
from estimator_lib.training import devices, history, session_hooks, summaries
from estimator_lib.training.engine import Engine
from estimator_lib.training.hooks import Hook, StepContext, check
from estimator_lib.training.step import EvaluateFunction

_FIRST_CALL_BATCHES = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationRun:
    """One evaluation.

    Attributes:
        engine: What is evaluated.
        input_fn: Gives features and labels.
        steps: Batches at most; None evaluates all.
        hooks: The caller's.
        eval_dir: Where results go.
        name: Of the evaluation.
    """

    engine: Engine
    input_fn: InputFn
    steps: int | None
    hooks: Sequence[object]
    eval_dir: str
    name: str | None

    def of_checkpoint(self, path: Path | None) -> dict[str, object]:
        """Returns the metrics of a checkpoint, by default the newest."""
        feed, function = self._function()
        return self._run(feed, function, self.engine.weights.use(path, function.form.variables))

    def in_memory(self) -> dict[str, object]:
        """Returns the metrics of the variables as they are now, whatever was saved."""
        return self._run(*self._function(), None)

    def _function(self) -> tuple[Feed, EvaluateFunction]:
        strategy = devices.distributing(self.engine.config.eval_distribute)
        feed = self.engine.inputs.feed(self.input_fn, ModeKeys.EVAL, strategy)
        if self.steps is None and strategy is None:
            datasets.refuse_endless(feed.dataset, self.input_fn, "evaluate()")
        _, for_sessions = session_hooks.split(self.hooks)
        return feed, self.engine.model.evaluate_function(feed, strategy, for_sessions)

    def _run(self, feed: Feed, function: EvaluateFunction, path: str | None) -> dict[str, object]:
        own, _ = session_hooks.split(self.hooks)
        batches = _Batches(
            function=function,
            hooks=check([*own, *function.hooks]),
            limit=2**62 if self.steps is None else self.steps,
            call_s=self.engine.config.max_call_secs,
            context=StepContext(
                step=0,
                first_step=0,
                model_dir=self.eval_dir,
                variables=self.engine.model.store.variables,
            ),
        )
        self.engine.model.store.reset_local()
        step = self.engine.step()
        if not batches.run(feed):
            raise datasets.empty_input(self.input_fn)
        values: dict[str, object] = tf.nest.map_structure(_numpy, dict(function.results()))
        values |= {n: batches.context.values[f"metric/{n}"] for n in function.form.pairs}
        values["loss"] = np.float32(batches.context.loss)
        values["global_step"] = np.int64(step)
        metrics = flat(dict(sorted(values.items())))
        self._write(metrics, step, path)
        return metrics

    def _write(self, metrics: Mapping[str, object], step: int, path: str | None) -> None:
        """Writes TensorBoard summaries and a line of `evaluations.jsonl` and `history.jsonl`."""
        numbers = {key: value for key, value in metrics.items() if key != "global_step"}
        writer = summaries.writer(self.eval_dir)
        summaries.scalars(writer, step, numbers, text=path)
        writer.flush()
        made = history.Evaluation(step=step, metrics=history.plain(numbers))
        line = made.line(self.name or "eval", path)
        history.evaluations(self.eval_dir).add(made, line)
        history.append(f"{self.engine.model_dir}/{history.HISTORY}", line)


@dataclasses.dataclass(kw_only=True)
class _Batches:
    """The batches of one evaluation, many per call.

    Attributes:
        function: The evaluation loop.
        hooks: Run around the calls.
        limit: Batches at most.
        call_s: Longest time that a call should take.
        context: What hooks see; its step counts the batches.
    """

    function: EvaluateFunction
    hooks: Sequence[Hook]
    limit: int
    call_s: float
    context: StepContext
    _loss_sum: float = 0.0
    _batch_s: float | None = None

    def run(self, feed: Feed) -> int:
        """Evaluates and returns the number of batches."""
        context = self.context
        for hook in self.hooks:
            hook.begin()
        flow = feed.start()
        began = time.monotonic()
        more = True
        while more and context.step < self.limit and not context.stop_requested:
            before = context.step
            due_at = {hook: hook.next_step(before) for hook in self.hooks}
            bounds = [self.limit, *(due for due in due_at.values() if due is not None)]
            ask = min(self._call_batches(), *(bound - before for bound in bounds))
            for hook in self.hooks:
                hook.before_step(context)
            started = time.monotonic()
            ran = flow.run(self.function.run, ask)
            count, more = int(ran.done), bool(ran.more)
            now = time.monotonic()
            if not count:
                break
            # The first call prepares the function; its time says nothing about batches.
            self._batch_s = 0.05 if not before else (now - started) / count
            self._loss_sum += float(ran.state.loss_sum)
            context.step += count
            context.loss = context.mean_loss = self._loss_sum / context.step
            context.seconds = now - began
            context.rows += int(ran.state.rows)
            context.values = {n: v.numpy() for n, v in ran.state.fetches.items()}
            context.values["loss"] = context.loss
            for hook in self.hooks:
                due = due_at[hook]
                if due is None or context.step >= due:
                    hook.after_step(context)
        if context.step:
            for hook in self.hooks:
                hook.end(context)
        return context.step

    def _call_batches(self) -> int:
        if self._batch_s is None:
            return _FIRST_CALL_BATCHES
        return max(1, int(self.call_s / max(self._batch_s, 1e-6)))


def _numpy(tensor: tf.Tensor) -> Array:
    return tensor.numpy()


def flat(metrics: Mapping[str, object]) -> dict[str, object]:
    """Returns metrics, those whose result is a dict as several.

    Raises:
        ConfigError: two have one name.
    """
    found: dict[str, object] = {}
    for name, value in metrics.items():
        for key, item in value.items() if isinstance(value, dict) else [(name, value)]:
            if key in found:
                raise ConfigError(
                    f"Two metrics are named {key!r}. Rename one of them.", reason=Reason.DUPLICATE
                )
            found[key] = item
    return found
