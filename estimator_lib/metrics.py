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
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import tensorflow as tf

Numbers: TypeAlias = tf.Tensor | npt.ArrayLike
_EPSILON = 1e-7
_LOGITS = 30.0
_BINS = 65_536
_FEWEST_BINS = 4_096


class Metric(abc.ABC):
    """Base: keeps the state variables. Subclasses have `update_state` and `result`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.variables: list[tf.Variable] = []
        self.updates: list[tf.Operation] = []
        """What `update_state` made in a graph, for those who run it in a session."""

    def add_state(self, name: str, shape: Sequence[int]) -> tf.Variable:
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

    def updated(self, update: tf.Operation) -> tf.Operation:
        """Notes an update that a graph holds and returns it."""
        if not tf.executing_eagerly():
            self.updates.append(update)
        return update

    @abc.abstractmethod
    def update_state(self, *args: Any, **kwargs: Any) -> tf.Operation:
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

    def update_state(
        self, rows: Sequence[tf.Tensor], weights: tf.Tensor | None = None
    ) -> tf.Operation:
        """Adds sum(rows[i] * weights) to each sum.

        Args:
            rows: One float32 `[batch]` per name.
            weights: float32 `[batch]`; None means 1.
        """
        stacked = tf.stack(list(rows))
        sums = tf.reduce_sum(stacked, 1) if weights is None else tf.linalg.matvec(stacked, weights)
        return self.updated(self._total.assign_add(tf.cast(sums, tf.float64)))

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

    def __init__(self, name: str, source: Metric, value: Callable[[Any], tf.Tensor]) -> None:
        super().__init__(name)
        self.source = source
        self.variables = source.variables
        self.updates = source.updates
        self._value = value

    def update_state(self, *args: Any, **kwargs: Any) -> tf.Operation:
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

    def update_state(self, values: Numbers, sample_weight: Numbers | None = None) -> tf.Operation:
        """Adds numbers of any shape; weights are broadcast to it."""
        values = tf.cast(values, tf.float32)
        weights = tf.ones_like(values)
        if sample_weight is not None:
            weights *= _fit(tf.cast(sample_weight, tf.float32), values)
        sums = tf.stack([tf.reduce_sum(values * weights), tf.reduce_sum(weights)])
        return self.updated(self._sums.assign_add(tf.cast(sums, tf.float64)))

    def result(self) -> tf.Tensor:
        sums = tf.convert_to_tensor(self._sums)
        return tf.cast(tf.math.divide_no_nan(sums[0], sums[1]), tf.float32)


class ConfusionHistogram(Metric):
    """Weights of positive and negative examples by score, in bins.

    By default the bins are so narrow in the logit of the score, 65,536 between -30 and 30 (fewer
    where there are more classes), that areas are those over all examples to 1e-4, also where
    one class is rare and all its scores are near 0. With `thresholds` they are what TensorFlow's
    own AUC keeps: just below 0, i / (thresholds - 1), just above 1. A score belongs above a
    threshold if it is greater.

    Args:
        name: Of the state.
        classes: Number of independent scores per example.
        thresholds: How many there are, such as the 200 of tf.estimator; None for narrow bins.
    """

    def __init__(
        self, name: str = "confusion", classes: int = 1, thresholds: int | None = None
    ) -> None:
        super().__init__(name)
        self._classes = classes
        self._boundaries: list[float] | None = None
        if thresholds is None:
            self._bins = max(_FEWEST_BINS, _BINS // classes)
        else:
            inner = np.arange(1, thresholds - 1, dtype=np.float64) / (thresholds - 1)
            edges = np.array([-_EPSILON, *inner, 1.0 + _EPSILON], np.float32)
            # Bucketize counts boundaries <= score; one step up makes it thresholds < score.
            self._boundaries = [float(t) for t in np.nextafter(edges, np.float32(np.inf))]
            self._bins = thresholds + 1
        self._histogram = self.add_state("histogram", (classes * 2 * self._bins,))

    def update_state(
        self, labels: Numbers, scores: Numbers, sample_weight: Numbers | None = None
    ) -> tf.Operation:
        """Adds a batch.

        Args:
            labels: 0 or 1, `[batch]` or `[batch, classes]`.
            scores: float32 of the same shape, in [0, 1].
            sample_weight: `[batch]`, `[batch, 1]` or the labels' shape; None means 1.
        """
        scores = tf.reshape(tf.cast(scores, tf.float32), (-1, self._classes))
        positive = tf.reshape(tf.cast(labels, tf.int32), (-1, self._classes))
        offset = np.arange(self._classes, dtype=np.int32) * 2 * self._bins
        cells = self._bin(scores) + positive * self._bins + offset
        weights = tf.ones_like(scores)
        if sample_weight is not None:
            weights *= _fit(tf.cast(sample_weight, tf.float32), scores)
        update = tf.raw_ops.ResourceScatterAdd(
            resource=self._histogram.handle, indices=cells, updates=tf.cast(weights, tf.float64)
        )
        return self.updated(update)

    def _bin(self, scores: tf.Tensor) -> tf.Tensor:
        if self._boundaries is not None:
            return tf.raw_ops.Bucketize(input=scores, boundaries=self._boundaries)
        wide = tf.cast(scores, tf.float64)
        logits = tf.clip_by_value(tf.math.log(wide) - tf.math.log1p(-wide), -_LOGITS, _LOGITS)
        return tf.cast((logits / _LOGITS + 1.0) / 2.0 * (self._bins - 1) + 0.5, tf.int32)

    def result(self) -> tf.Tensor:
        """Returns weights per bin, float64 `[classes, 2, bins]`: negatives first."""
        return tf.reshape(self._histogram, (self._classes, 2, self._bins))

    def auc(self, curve: str = "ROC") -> tf.Tensor:
        """Returns the area under the curve of each class, float32 `[classes]`.

        ROC by trapezoids. PR as the sum of precision times the growth of recall, and between
        `thresholds` by the interpolation of Davis and Goadrich (false positives are linear in
        true positives), as `careful_interpolation` of tf.metrics.auc.

        References: Davis and Goadrich, The relationship between PR and ROC curves, ICML 2006.
        """
        counts = self.result()
        totals = tf.reduce_sum(counts, -1)
        above = tf.cumsum(counts, axis=-1, reverse=True)
        if curve == "ROC":
            # The ends, where nothing is above, are left out only where 2.15 did so.
            parts = above[:, :, 1:] if self._boundaries is not None else _from_nothing(above)
            recall = tf.math.divide_no_nan(parts[:, 1], totals[:, 1:])
            fall_out = tf.math.divide_no_nan(parts[:, 0], totals[:, :1])
            areas = (fall_out[:, :-1] - fall_out[:, 1:]) * (recall[:, :-1] + recall[:, 1:]) / 2
            return tf.cast(tf.reduce_sum(areas, -1), tf.float32)
        if self._boundaries is None:
            precision = tf.math.divide_no_nan(above[:, 1], above[:, 0] + above[:, 1])
            found = tf.reduce_sum(precision * counts[:, 1], -1)
            return tf.cast(tf.math.divide_no_nan(found, totals[:, 1]), tf.float32)
        return tf.cast(_interpolated(above[:, :, 1:], totals), tf.float32)


def _from_nothing(above: tf.Tensor) -> tf.Tensor:
    return tf.pad(above, [[0, 0], [0, 0], [0, 1]])


def _interpolated(above: tf.Tensor, totals: tf.Tensor) -> tf.Tensor:
    """Returns the area under the PR curve of each class, float64 `[classes]`."""
    false, true = above[:, 0], above[:, 1]
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
    return tf.reduce_sum(areas, -1)


class AUC(View):
    """Area under the ROC or PR curve of binary labels; see `ConfusionHistogram`.

    Args:
        name: Of the metric.
        curve: "ROC" or "PR".
        histogram: Shared state; None makes one.
        index: Which of the histogram's classes; None is the mean over all of them.
        thresholds: Of the state that is made; see `ConfusionHistogram`.
    """

    def __init__(
        self,
        name: str = "auc",
        *,
        curve: str = "ROC",
        histogram: ConfusionHistogram | None = None,
        index: int | None = None,
        thresholds: int | None = None,
    ) -> None:
        def value(source: ConfusionHistogram) -> tf.Tensor:
            areas = source.auc(curve)
            return tf.reduce_mean(areas) if index is None else areas[index]

        super().__init__(name, histogram or ConfusionHistogram(name, 1, thresholds), value)


def _fit(weights: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Returns weights `[batch]` as `[batch, 1]` next to values of rank 2."""
    if weights.shape.rank == 1 and values.shape.rank == 2:
        return weights[:, tf.newaxis]
    if weights.shape.rank == 2 and values.shape.rank == 1:
        return tf.squeeze(weights, 1)
    return weights
