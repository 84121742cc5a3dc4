"""One evaluation: metrics over a dataset, written beside the checkpoint they belong to.

Layer 3.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from estimator_lib.core.errors import ConfigError, Reason
from estimator_lib.inputs import datasets
from estimator_lib.inputs.feed import Feed
from estimator_lib.training import history, hooks, summaries
from estimator_lib.training.step import Compiled, TracedModel

_FIRST_CALL_BATCHES = 16


def run(
    model: TracedModel,
    compiled: Compiled,
    feed: Feed,
    *,
    batches: int | None,
    input_fn: Any,
    hook_list: Sequence[hooks.Hook],
    model_dir: str,
    call_s: float,
) -> dict[str, Any]:
    """Returns metrics, `loss` (mean over batches) and `global_step`, as numpy values.

    Raises:
        TrainingError: the input gave no batch.
    """
    model.store.reset_local()
    step = int(model.global_step().numpy())
    context = hooks.StepContext(
        step=0, first_step=0, model_dir=model_dir, variables=model.store.variables
    )
    for hook in hook_list:
        hook.begin()
    flow = feed.start()
    done, total, began, batch_s, fetched = 0, 0.0, time.monotonic(), 0.0, {}
    limit = batches if batches is not None else 2**62
    more = True
    while more and done < limit and not context.stop_requested:
        ask = _FIRST_CALL_BATCHES if not done else max(1, int(call_s / max(batch_s, 1e-6)))
        bounds = [d - done for h in hook_list if (d := h.next_step(done)) is not None]
        due_at = {h: h.next_step(done) for h in hook_list}
        ask = min([ask, limit - done, *bounds])
        for hook in hook_list:
            hook.before_step(context)
        started = time.monotonic()
        result = flow.run(compiled.run, ask)
        count, more = int(result["batches"]), bool(result["more"])
        now = time.monotonic()
        if not count:
            break
        batch_s = 0.05 if not done else (now - started) / count
        done += count
        total += float(result["loss_sum"])
        fetched = {name: value.numpy() for name, value in result["fetches"].items()}
        context.step, context.loss, context.seconds = done, total / done, now - began
        context.mean_loss = context.loss
        context.rows += int(result["rows"])
        context.values = {**fetched, "loss": context.loss}
        for hook in hook_list:
            due = due_at[hook]
            if due is None or done >= due:
                hook.after_step(context)
    if not done:
        raise datasets.empty_input(input_fn)
    for hook in hook_list:
        hook.end(context)
    values = {name: value.numpy() for name, value in (compiled.results or dict)().items()}
    values.update({name: fetched[f"metric/{name}"] for name in compiled.form.pairs})
    values["loss"] = np.float32(total / done)
    values["global_step"] = np.int64(step)
    return dict(sorted(values.items()))


def merged(metrics: dict[str, Any]) -> dict[str, Any]:
    """Flattens a metric whose result is a dict."""
    flat: dict[str, Any] = {}
    for name, value in metrics.items():
        for key, item in value.items() if isinstance(value, dict) else [(name, value)]:
            if key in flat:
                raise ConfigError(
                    f"Two metrics are named {key!r}. Rename one of them.", reason=Reason.DUPLICATE
                )
            flat[key] = item
    return flat


def write(
    metrics: dict[str, Any],
    *,
    eval_dir: str,
    model_dir: str,
    name: str | None,
    checkpoint_path: str | None,
) -> None:
    """Writes TensorBoard summaries and a line of `evaluations.jsonl` and `history.jsonl`."""
    step = int(metrics["global_step"])
    writer = summaries.writer(eval_dir)
    numbers = {key: value for key, value in metrics.items() if key != "global_step"}
    summaries.scalars(writer, step, numbers, text=checkpoint_path)
    writer.flush()
    plain = history.plain({k: v for k, v in metrics.items() if k != "global_step"})
    line = {"step": step, "eval": name or "eval", "metrics": plain, "checkpoint": checkpoint_path}
    history.append(f"{eval_dir}/{history.EVALUATIONS}", line)
    history.append(f"{model_dir}/{history.HISTORY}", line)
