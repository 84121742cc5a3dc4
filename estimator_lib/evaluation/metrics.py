"""What is measured: the metrics by name, what they mean, and their values.

Layer 3 (numpy and core). `tables` computes them and `bootstrap` adds the intervals. Nothing is
binned or sampled, except what its name says (`ece`, the reliability bins, the histogram). A
metric that has no value (one class only, weight zero, a prediction that is not finite) is None
with a reason, never NaN.

Conventions, once for the whole project:

* a row is predicted positive when its probability is strictly above the threshold;
* `loss` is the mean log loss (natural logarithm; probabilities are kept `LOG_EPSILON` away
  from 0 and 1), or the mean squared error of a regression;
* `auc_precision_recall` is the average precision (a step function: sum of precision times
  gain in recall), not the trapezoid, which is too optimistic between points;
* `auc` of a multi-class model is the unweighted mean of the one-versus-rest AUCs of the
  classes that occur among the labels;
* metrics of one label, head or quantile have its name as suffix: `auc/late`, `pinball/0.9`;
  those of a multi-label model without a suffix are means over the labels where they are defined,
  but for `exact_match`;
* `ece` is the weighted mean distance between mean prediction and label mean over the
  reliability bins: ten equal-count bins of the whole table, the same for each of its slices;
* weighted means divide by the sum of weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

Task = Literal["binary", "multiclass", "regression", "quantile", "multilabel", "multihead"]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

LOG_EPSILON = 1e-7
TOP_K = (2, 3, 5)
Z95 = 1.959963984540054


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """What a model predicts.

    Attributes:
        task: Which kind of model.
        classes: Names of the classes of a binary or multi-class model, or of the labels of a
            multi-label model; by default their numbers. Of two classes the last is the positive.
        quantiles: Levels of a quantile model, ascending, as many as it predicts.
        heads: What each head of a multi-head model predicts, by the head's name.
    """

    task: Task
    classes: tuple[str, ...] = ()
    quantiles: tuple[float, ...] = ()
    heads: Mapping[str, Problem] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetricInfo:
    """What a metric means.

    Attributes:
        title: Its name for people.
        better: Which direction is better; "target" means near 1, "none" means neither.
        low: Smallest possible value, if any.
        high: Largest possible value, if any.
        text: One sentence for a reader who is no specialist.
    """

    title: str
    better: Literal["higher", "lower", "target", "none"]
    low: float | None
    high: float | None
    text: str


METRICS: Mapping[str, MetricInfo] = {
    "auc": MetricInfo(
        title="AUC", better="higher", low=0.0, high=1.0,
        text="Chance that a random positive is ranked above a random negative; 0.5 is chance.",
    ),
    "auc_precision_recall": MetricInfo(
        title="PR AUC", better="higher", low=0.0, high=1.0,
        text="Average precision over all recalls; a model without skill reaches the base rate.",
    ),
    "loss": MetricInfo(
        title="Loss", better="lower", low=0.0, high=None,
        text="What training minimises, per row, without regularisation; lower is better.",
    ),
    "accuracy": MetricInfo(
        title="Accuracy", better="higher", low=0.0, high=1.0,
        text="Share of rows whose most probable class is the true one.",
    ),
    "precision": MetricInfo(
        title="Precision", better="higher", low=0.0, high=1.0,
        text="Of the rows predicted positive, the share that is positive.",
    ),
    "recall": MetricInfo(
        title="Recall", better="higher", low=0.0, high=1.0,
        text="Of the positive rows, the share that is predicted positive.",
    ),
    "label_mean": MetricInfo(
        title="Label mean", better="none", low=None, high=None,
        text="What really happened, on average.",
    ),
    "prediction_mean": MetricInfo(
        title="Prediction mean", better="none", low=None, high=None,
        text="What the model expected, on average.",
    ),
    "calibration": MetricInfo(
        title="Calibration", better="target", low=0.0, high=None,
        text="Predicted over actual mean; 1 is right, above 1 the model expects too much.",
    ),
    "ece": MetricInfo(
        title="Calibration error", better="lower", low=0.0, high=1.0,
        text="Mean distance between predicted and actual frequency over ten equal-count bins.",
    ),
    "brier": MetricInfo(
        title="Brier score", better="lower", low=0.0, high=2.0,
        text="Mean squared distance between predicted probability and outcome.",
    ),
    "top_2_accuracy": MetricInfo(
        title="Top-2 accuracy", better="higher", low=0.0, high=1.0,
        text="Share of rows whose true class is among the two most probable.",
    ),
    "top_3_accuracy": MetricInfo(
        title="Top-3 accuracy", better="higher", low=0.0, high=1.0,
        text="Share of rows whose true class is among the three most probable.",
    ),
    "top_5_accuracy": MetricInfo(
        title="Top-5 accuracy", better="higher", low=0.0, high=1.0,
        text="Share of rows whose true class is among the five most probable.",
    ),
    "rmse": MetricInfo(
        title="RMSE", better="lower", low=0.0, high=None,
        text="Root of the mean squared error, in the units of the label.",
    ),
    "mae": MetricInfo(
        title="Mean absolute error", better="lower", low=0.0, high=None,
        text="Mean distance between prediction and label, in the units of the label.",
    ),
    "r2": MetricInfo(
        title="R squared", better="higher", low=None, high=1.0,
        text="Share of the label's variance that the model explains; 0 is predicting the mean.",
    ),
    "poisson_deviance": MetricInfo(
        title="Poisson deviance", better="lower", low=0.0, high=None,
        text="Distance of expected from actual counts, as a Poisson regression minimises it.",
    ),
    "exact_match": MetricInfo(
        title="Exact match", better="higher", low=0.0, high=1.0,
        text="Share of rows with every one of their labels right.",
    ),
    "pinball": MetricInfo(
        title="Quantile loss", better="lower", low=0.0, high=None,
        text="Distance of labels from the predicted quantile, in the units of the label; a miss "
        "on the rarer side costs more.",
    ),
    "coverage": MetricInfo(
        title="Coverage", better="none", low=0.0, high=1.0,
        text="Share of labels at or below the predicted quantile; right is the quantile's level.",
    ),
    "coverage_error": MetricInfo(
        title="Coverage error", better="lower", low=0.0, high=1.0,
        text="Mean distance between the quantiles' coverage and their levels.",
    ),
    "interval_coverage": MetricInfo(
        title="Interval coverage", better="none", low=0.0, high=1.0,
        text="Share of labels from the lowest to the highest predicted quantile.",
    ),
    "interval_width": MetricInfo(
        title="Interval width", better="lower", low=None, high=None,
        text="Mean distance from the lowest to the highest predicted quantile.",
    ),
}  # fmt: skip


def info(name: str) -> MetricInfo:
    """What a metric means, whatever label, head or quantile it is of."""
    return METRICS[name.partition("/")[0]]


MULTILABEL = ("auc", "auc_precision_recall", "loss", "exact_match", "accuracy", "ece", "brier")
"""Of all labels of a multi-label model together."""


def names(problem: Problem) -> tuple[str, ...]:
    """The metrics of a model, most telling first.

    Args:
        problem: What it predicts, with the names of its classes.
    """
    task, quantiles = problem.task, problem.quantiles
    if task == "multihead":
        return tuple(
            f"{metric}/{head}" for head, own in problem.heads.items() for metric in names(own)
        )
    if task == "multilabel":
        own = names(Problem(task="binary"))
        return (*MULTILABEL, *(f"{metric}/{name}" for name in problem.classes for metric in own))
    if task == "binary":
        return (
            "auc", "auc_precision_recall", "loss", "accuracy", "precision", "recall",
            "label_mean", "prediction_mean", "calibration", "ece", "brier",
        )  # fmt: skip
    if task == "multiclass":
        top = tuple(f"top_{k}_accuracy" for k in TOP_K if k < len(problem.classes))
        return ("accuracy", "auc", "loss", *top, "ece", "brier")
    if task == "quantile":
        each = [f"{kind}/{level:g}" for kind in ("pinball", "coverage") for level in quantiles]
        interval = ("interval_coverage", "interval_width") if len(quantiles) > 1 else ()
        return ("pinball", "coverage_error", *interval, *each, "label_mean")
    return ("rmse", "mae", "loss", "r2", "label_mean", "prediction_mean", "poisson_deviance")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metric:
    """The value of a metric with its 95% confidence interval.

    Attributes:
        value: The metric, or None where it is undefined.
        low: Lower end of the interval, None where there is none.
        high: Upper end of the interval, None where there is none.
        reason: Why `value` is None.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None
