"""Permutation importance: how much worse a model gets when it cannot use a field; layer 3.

Of two fields that tell the same neither looks important, for the model can use the other one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from estimator_lib.evaluation.alone import auc_alone
from estimator_lib.evaluation.bootstrap import measure
from estimator_lib.evaluation.metrics import Problem, Task, info
from estimator_lib.evaluation.results import FeatureImportance, Importance
from estimator_lib.evaluation.several import Arrays


def permutation_importance(
    task: Task | Problem,
    labels: Arrays,
    predictions: Arrays,
    shuffled: Mapping[str, Sequence[Arrays]],
    weights: npt.ArrayLike | None = None,
    raw: Mapping[str, npt.NDArray[Any]] | None = None,
) -> Importance:
    """Compares predictions for rows as they are with those for rows with a field shuffled.

    Args:
        task: What the model predicts; its most telling metric is compared.
        labels: As `several.any_table`, with the next one.
        predictions: For the rows as they are.
        shuffled: Raw field -> predictions per shuffle, the same number for each.
        weights: `[rows]` or None.
        raw: Raw field -> its values as `auc_alone` takes them; None does not measure `alone`.

    Raises:
        DataError: the arrays do not fit together.
    """
    base = measure(task, labels, predictions, weights)
    metric = next(iter(base))
    whole = base[metric].value
    sign = 1.0 if info(metric).better == "higher" else -1.0
    found = []
    for field, repeats in shuffled.items():
        worse = []
        reason = base[metric].reason
        for changed in repeats:
            other = measure(task, labels, changed, weights)[metric]
            reason = reason or other.reason
            if whole is not None and other.value is not None:
                worse.append(sign * (whole - other.value))
        if reason or not worse:
            found.append(FeatureImportance(field=field, worse_by=None, reason=reason))
        else:
            found.append(
                FeatureImportance(
                    field=field, worse_by=float(np.mean(worse)), low=min(worse), high=max(worse)
                )
            )
    kind = task.task if isinstance(task, Problem) else task
    if raw is not None and kind in ("binary", "multiclass"):
        classes = np.asarray(labels).astype(np.int64)
        found = [
            dataclasses.replace(one, alone=auc_alone(raw[one.field], classes)) for one in found
        ]
    found.sort(key=lambda feature: (-(feature.worse_by or 0.0), feature.field))
    first = labels if not isinstance(labels, Mapping) else next(iter(labels.values()))
    return Importance(
        metric=metric,
        base=whole,
        rows=len(np.asarray(first)),
        repeats=len(next(iter(shuffled.values()), ())),
        features=tuple(found),
    )
