"""Streaming metrics in plain TensorFlow operations.

Layer 2. A metric has `update_state`, `result`, `reset_state` and `variables`, like a Keras one,
so both can be used wherever a metric is expected. What several metrics have in common is
accumulated once: a head adds one vector of sums and one histogram per batch, and accuracy,
precision, AUC and the others are views that only read them.

State is float64: sums stay exact over billions of examples. Results are float32.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

_THRESHOLDS = 200
_EPSILON = 1e-7


class Metric(abc.ABC):
    """Base: keeps the state variables. Subclasses have `update_state` and `result`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.variables: list[Any] = []

    def add_state(self, name: str, shape: Sequence[int]) -> Any:
        """Returns a new float64 variable of zeros, summed over replicas."""
        variable = tf.Variable(
            np.zeros(tuple(shape), np.float64),
            trainable=False,
            dtype=tf.float64,
            name=f"metrics/{self.name}/{name}",
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.SUM,
        )
        self.variables.append(variable)
        return variable

    @abc.abstractmethod
    def update_state(self, *args: Any, **kwargs: Any) -> Any:
        """Adds a batch. Each metric says what it takes."""

    @abc.abstractmethod
    def result(self) -> tf.Tensor:
        """Returns the value over everything added so far, a float32 scalar."""

    def reset_state(self) -> None:
        """Forgets everything added so far."""
        for variable in self.variables:
            variable.assign(tf.zeros_like(variable))


class Sums(Metric):
    """A vector of sums over examples; `View`s make metrics of it.

    Args:
        name: Of the state.
        names: Of the sums, in the order they are given to `update_state`.
    """

    def __init__(self, name: str, names: Sequence[str]) -> None:
        super().__init__(name)
        self._index = {key: i for i, key in enumerate(names)}
        self._total = self.add_state("sums", (len(self._index),))

    def update_state(self, rows: Sequence[tf.Tensor], weights: tf.Tensor | None = None) -> Any:
        """Adds sum(rows[i] * weights) to each sum.

        Args:
            rows: One float32 `[batch]` per name.
            weights: float32 `[batch]`; None means 1.
        """
        stacked = tf.stack(list(rows))
        sums = tf.reduce_sum(stacked, 1) if weights is None else tf.linalg.matvec(stacked, weights)
        return self._total.assign_add(tf.cast(sums, tf.float64))

    def result(self) -> tf.Tensor:
        """Returns all sums, float64 `[n]`."""
        return tf.convert_to_tensor(self._total)

    def __getitem__(self, name: str) -> tf.Tensor:
        return self.result()[self._index[name]]


class View(Metric):
    """A metric that reads another's state.

    Args:
        name: Of the metric.
        source: Holds the state; updating or resetting the view does so to the source.
        value: Computes the result from the source.
    """

    def __init__(self, name: str, source: Any, value: Callable[[Any], tf.Tensor]) -> None:
        super().__init__(name)
        self.source = source
        self.variables = source.variables
        self._value = value

    def update_state(self, *args: Any, **kwargs: Any) -> Any:
        return self.source.update_state(*args, **kwargs)

    def result(self) -> tf.Tensor:
        return tf.cast(self._value(self.source), tf.float32)


def ratio(name: str, source: Sums, numerator: str, denominator: str) -> View:
    """Returns the metric numerator / denominator of two sums, 0 where the latter is 0."""
    return View(
        name, source, lambda sums: tf.math.divide_no_nan(sums[numerator], sums[denominator])
    )


class Mean(Metric):
    """The weighted mean of numbers."""

    def __init__(self, name: str = "mean") -> None:
        super().__init__(name)
        self._sums = self.add_state("sums", (2,))

    def update_state(self, values: Any, sample_weight: Any = None) -> Any:
        """Adds numbers of any shape; weights are broadcast to it."""
        values = tf.cast(values, tf.float32)
        weights = tf.ones_like(values)
        if sample_weight is not None:
            weights *= _fit(tf.cast(sample_weight, tf.float32), values)
        sums = tf.stack([tf.reduce_sum(values * weights), tf.reduce_sum(weights)])
        return self._sums.assign_add(tf.cast(sums, tf.float64))

    def result(self) -> tf.Tensor:
        sums = tf.convert_to_tensor(self._sums)
        return tf.cast(tf.math.divide_no_nan(sums[0], sums[1]), tf.float32)


class ConfusionHistogram(Metric):
    """Weights of positive and negative examples by score, between 200 thresholds.

    The thresholds are those of the AUC of TensorFlow since 1.x: just below 0, i/199, just above
    1. A score belongs above a threshold if it is greater.

    Args:
        name: Of the state.
        classes: Number of independent scores per example.
    """

    def __init__(self, name: str = "confusion", classes: int = 1) -> None:
        super().__init__(name)
        inner = np.arange(1, _THRESHOLDS - 1, dtype=np.float64) / (_THRESHOLDS - 1)
        thresholds = np.array([-_EPSILON, *inner, 1.0 + _EPSILON], np.float32)
        # Bucketize counts boundaries <= score; one step up makes it thresholds < score.
        self._boundaries = [float(t) for t in np.nextafter(thresholds, np.float32(np.inf))]
        self._classes = classes
        self._bins = _THRESHOLDS + 1
        self._histogram = self.add_state("histogram", (classes, 2, self._bins))

    def update_state(self, labels: Any, scores: Any, sample_weight: Any = None) -> Any:
        """Adds a batch.

        Args:
            labels: 0 or 1, `[batch]` or `[batch, classes]`.
            scores: float32 of the same shape, in [0, 1].
            sample_weight: `[batch]`, `[batch, 1]` or the labels' shape; None means 1.
        """
        scores = tf.reshape(tf.cast(scores, tf.float32), (-1, self._classes))
        positive = tf.reshape(tf.cast(labels, tf.int32), (-1, self._classes))
        bins = tf.raw_ops.Bucketize(input=scores, boundaries=self._boundaries)
        offset = np.arange(self._classes, dtype=np.int32) * 2 * self._bins
        cells = bins + positive * self._bins + offset
        weights = tf.ones_like(scores)
        if sample_weight is not None:
            weights *= _fit(tf.cast(sample_weight, tf.float32), scores)
        counts = tf.math.unsorted_segment_sum(weights, cells, self._classes * 2 * self._bins)
        counts = tf.reshape(tf.cast(counts, tf.float64), (self._classes, 2, self._bins))
        return self._histogram.assign_add(counts)

    def result(self) -> tf.Tensor:
        """Returns weights above each threshold, float64 `[classes, 2, 200]`: negatives first."""
        counts = tf.convert_to_tensor(self._histogram)
        return tf.cumsum(counts, axis=-1, reverse=True)[:, :, 1:]

    def auc(self, curve: str = "ROC") -> tf.Tensor:
        """Returns the area under the curve of each class, float32 `[classes]`.

        ROC by trapezoids; PR by the interpolation of Davis and Goadrich (false positives are
        linear in true positives), as `careful_interpolation` of tf.metrics.auc.

        References: Davis and Goadrich, The relationship between PR and ROC curves, ICML 2006.
        """
        counts = tf.convert_to_tensor(self._histogram)
        totals = tf.reduce_sum(counts, -1)
        above = self.result()
        false, true = above[:, 0], above[:, 1]
        if curve == "ROC":
            recall = tf.math.divide_no_nan(true, totals[:, 1:])
            fall_out = tf.math.divide_no_nan(false, totals[:, :1])
            areas = (fall_out[:, :-1] - fall_out[:, 1:]) * (recall[:, :-1] + recall[:, 1:]) / 2
            return tf.cast(tf.reduce_sum(areas, -1), tf.float32)
        positive = true + false
        step_true = true[:, :-1] - true[:, 1:]
        step_positive = positive[:, :-1] - positive[:, 1:]
        slope = tf.math.divide_no_nan(step_true, tf.maximum(step_positive, 0))
        intercept = true[:, 1:] - slope * positive[:, 1:]
        both = (positive[:, :-1] > 0) & (positive[:, 1:] > 0)
        growth = tf.where(
            both,
            tf.math.divide_no_nan(positive[:, :-1], tf.maximum(positive[:, 1:], 0)),
            tf.ones_like(slope),
        )
        areas = tf.math.divide_no_nan(
            slope * (step_true + intercept * tf.math.log(growth)), tf.maximum(totals[:, 1:], 0)
        )
        return tf.cast(tf.reduce_sum(areas, -1), tf.float32)


class AUC(View):
    """Area under the ROC or PR curve of binary labels, from 200 thresholds.

    Args:
        name: Of the metric.
        curve: "ROC" or "PR".
        histogram: Shared state; None makes one.
        index: Which of the histogram's classes; None is the mean over all of them.
    """

    def __init__(
        self,
        name: str = "auc",
        *,
        curve: str = "ROC",
        histogram: ConfusionHistogram | None = None,
        index: int | None = None,
    ) -> None:
        def value(source: ConfusionHistogram) -> tf.Tensor:
            areas = source.auc(curve)
            return tf.reduce_mean(areas) if index is None else areas[index]

        super().__init__(name, histogram or ConfusionHistogram(name), value)


def _fit(weights: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Returns weights `[batch]` as `[batch, 1]` next to values of rank 2."""
    if weights.shape.rank == 1 and values.shape.rank == 2:
        return weights[:, tf.newaxis]
    if weights.shape.rank == 2 and values.shape.rank == 1:
        return tf.squeeze(weights, 1)
    return weights
