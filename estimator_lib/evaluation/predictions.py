"""From what a head predicts to the arrays that are measured; layer 3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from estimator_lib.core.errors import ConfigError, PipelineError, Reason
from estimator_lib.evaluation.metrics import Problem, Task

_KEYS = {"binary": "logistic", "multiclass": "probabilities", "multilabel": "probabilities"}


def served_name(key: Any) -> str:
    """Returns how a served model calls the prediction that `Estimator.predict` calls `key`."""
    return "/".join(key) if isinstance(key, tuple) else str(key)


def of_head(predictions: Mapping[Any, Any], task: Task | Problem) -> Any:
    """Returns the array that metrics are computed from, or one per head by its name.

    Args:
        predictions: By key, `[rows, ...]`, as `Estimator.predict` gives them; those of a MultiHead
            by pairs (head, key), or by "head/key" as a served model gives them.
        task: What the model predicts.

    Raises:
        PipelineError: the predictions are not those of a head for the task.
        ConfigError: there are several numbers per row, and nothing says what they are.
    """
    problem = task if isinstance(task, Problem) else Problem(task=task)
    if problem.task == "multihead":
        found: dict[str, Any] = {}
        for name, head in problem.heads.items():
            own = {
                served_name(key).removeprefix(f"{name}/"): values
                for key, values in predictions.items()
                if served_name(key).startswith(f"{name}/")
            }
            if not own:
                raise PipelineError(
                    f"The model predicts nothing for head {name!r}: expected predictions of "
                    f"{', '.join(problem.heads)}, got {_listed(predictions)}. Give it such a head.",
                    reason=Reason.UNSUPPORTED,
                )
            found[name] = of_head(own, head)
        return found
    key = _KEYS.get(problem.task, "predictions")
    if key not in predictions:
        raise PipelineError(
            f"The model's predictions have no {key!r}, which a {problem.task} model gives: got "
            f"{_listed(predictions)}. Use a matching head.",
            reason=Reason.UNSUPPORTED,
        )
    values = np.asarray(predictions[key])
    if problem.task == "regression" and values[:1].size > 1:
        raise ConfigError(
            f"The model predicts {values.shape[1]} numbers per row, but one label is evaluated. "
            "If they are quantiles, list their levels in evaluate.quantiles.",
            reason=Reason.CONFLICT,
        )
    return values.reshape(len(values)) if problem.task in ("binary", "regression") else values


def _listed(predictions: Mapping[Any, Any]) -> str:
    return ", ".join(sorted(map(served_name, predictions))) or "none"
