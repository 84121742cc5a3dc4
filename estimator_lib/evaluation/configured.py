"""What a run configuration asks of the evaluation: the problem it poses, the metrics it names.

Layer 3 (numpy and core).
"""

from __future__ import annotations

from estimator_lib.core import labels
from estimator_lib.core.config import Evaluate, RunConfiguration, described
from estimator_lib.core.errors import ConfigError, Reason
from estimator_lib.evaluation.evaluation import check_metric_names as check
from estimator_lib.evaluation.metrics import Problem, names


def problem(label: labels.Label, wanted: Evaluate) -> Problem:
    """Returns what a model for this label predicts.

    Args:
        label: As `core.labels` describes it.
        wanted: Says whether the predictions are quantiles.
    """
    match label:
        case labels.SeveralLabels():
            heads = {name: problem(own, wanted) for name, own in label.heads.items()}
            return Problem(task="multihead", heads=heads)
        case labels.MultiLabel():
            return Problem(task="multilabel", classes=label.classes)
        case labels.NumberLabel() if wanted.quantiles:
            return Problem(task="quantile", quantiles=tuple(wanted.quantiles))
        case labels.NumberLabel():
            return Problem(task="regression")
    if len(label.classes) == 2:
        return Problem(task="binary", classes=() if label.numbered else label.classes)
    return Problem(task="multiclass", classes=label.classes)


def check_metric_names(config: RunConfiguration) -> None:
    """Refuses a bound on a metric that a model for this label does not have.

    Raises:
        ConfigError: naming the nearest metric.
    """
    wanted, label = config.evaluate, described(config.heads)
    kinds = [own.kind for own in config.heads.values()]
    if wanted.quantiles and "number" not in kinds:
        raise ConfigError(
            f"evaluate.quantiles is given, but the kind of label is {' and '.join(kinds)}: only "
            "numbers have quantiles. Remove it, or set label.kind to number.",
            reason=Reason.CONFLICT,
        )
    known = names(problem(label, wanted))
    for section in ("thresholds", "slice_thresholds", "changes", "slice_changes"):
        check(getattr(wanted, section), known, f"evaluate.{section}")
