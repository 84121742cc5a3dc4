"""Clustering: points near their cluster's centre.

References: Sculley, Web-scale k-means clustering, WWW 2010; Arthur and Vassilvitskii,
k-means++, SODA 2007.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from estimator_lib import metrics, variables
from estimator_lib.canned import networks
from estimator_lib.core.errors import ConfigError, DataError, Reason, did_you_mean, quote
from estimator_lib.estimator import Estimator
from estimator_lib.export.outputs import PredictOutput
from estimator_lib.features.dense import dense_features
from estimator_lib.inputs import datasets
from estimator_lib.specs import DEFAULT_SIGNATURE, EstimatorSpec, ModeKeys
from estimator_lib.training.hooks import Hook, StepContext


class KMeansClustering(Estimator):
    """Finds `num_clusters` centres; labels are not used.

    Centres are first taken from the points of the first batch, or batches if one has too few
    points. `loss` and `score` are sums of the distances of points to the nearest centre.

    Args:
        num_clusters: How many centres.
        model_dir: See `Estimator`.
        initial_clusters: RANDOM_INIT (points at random), KMEANS_PLUS_PLUS_INIT (points far from
            each other), an array `[num_clusters, width]`, or a function of the first batch's
            points and num_clusters that returns one.
        distance_metric: SQUARED_EUCLIDEAN_DISTANCE or COSINE_DISTANCE.
        seed: Of the choice of points; None follows the run's seed.
        use_mini_batch: Whether a batch moves centres by its share of all points so far (for
            batches of a larger set); else centres become the means of the batch (for a batch
            that is the whole set). The point that a centre began as counts too.
        mini_batch_steps_per_iteration: Steps for which distances keep using the old centres;
            with more than one, every iteration counts its own points only.
        kmeans_plus_plus_num_retries: Candidates per centre of KMEANS_PLUS_PLUS_INIT.
        relative_tolerance: Training ends when the loss changes by less than this share of
            itself; only sensible when every batch is the whole set.
        config: See `Estimator`.
        feature_columns: Dense columns; None takes all features, by name, as numbers.
        warm_start_from: See `Estimator`; takes the centres and the counts of their points.
    """

    SQUARED_EUCLIDEAN_DISTANCE: ClassVar[str] = "squared_euclidean"
    COSINE_DISTANCE: ClassVar[str] = "cosine"
    RANDOM_INIT: ClassVar[str] = "random"
    KMEANS_PLUS_PLUS_INIT: ClassVar[str] = "kmeans_plus_plus"
    SCORE: ClassVar[str] = "score"
    CLUSTER_INDEX: ClassVar[str] = "cluster_index"
    ALL_DISTANCES: ClassVar[str] = "all_distances"
    CLUSTER_CENTERS_VAR_NAME: ClassVar[str] = "clusters"

    def __init__(
        self,
        num_clusters: int,
        model_dir: str | None = None,
        initial_clusters: Any = "random",
        distance_metric: str = "squared_euclidean",
        seed: int | None = None,
        use_mini_batch: bool = True,
        mini_batch_steps_per_iteration: int = 1,
        kmeans_plus_plus_num_retries: int = 2,
        relative_tolerance: float | None = None,
        config: Any = None,
        feature_columns: Sequence[Any] | None = None,
        warm_start_from: Any = None,
    ) -> None:
        for argument, value in (
            ("num_clusters", num_clusters),
            ("mini_batch_steps_per_iteration", mini_batch_steps_per_iteration),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise _invalid(argument, "a positive integer", value)
        _one_of("distance_metric", distance_metric, ("squared_euclidean", "cosine"))
        if isinstance(initial_clusters, str):
            _one_of("initial_clusters", initial_clusters, ("random", "kmeans_plus_plus"))
        elif not callable(initial_clusters):
            initial_clusters = np.asarray(initial_clusters, np.float32)
            if initial_clusters.ndim != 2 or len(initial_clusters) != num_clusters:
                shape = initial_clusters.shape
                raise _invalid("initial_clusters", f"shape ({num_clusters}, width)", shape)
        columns = None
        if feature_columns is not None:
            columns = networks.checked_columns(
                "KMeansClustering", "feature_columns", feature_columns, dense=True
            )
        self._cosine = distance_metric == "cosine"
        clusters = _Clusters(
            count=num_clusters,
            initial=initial_clusters,
            cosine=self._cosine,
            seed=seed,
            mini_batch=use_mini_batch,
            steps=mini_batch_steps_per_iteration,
            retries=kmeans_plus_plus_num_retries,
        )

        def points_of(features: Any) -> tf.Tensor:
            return _points(features, columns)

        def model_fn(features: Any, labels: Any, mode: str) -> EstimatorSpec:
            del labels
            return clusters.spec(points_of(features), mode, relative_tolerance)

        self._clusters, self._points_of = clusters, points_of
        super().__init__(model_fn, model_dir, config, warm_start_from=warm_start_from)

    def train(
        self,
        input_fn: Callable[..., Any],
        hooks: Sequence[Any] | None = None,
        steps: int | None = None,
        max_steps: int | None = None,
        saving_listeners: Sequence[Any] | None = None,
    ) -> Estimator:
        """Trains as `Estimator.train`; the centres are chosen before the first step.

        They are chosen from the first batches of the input, as many as it takes.

        Raises:
            DataError: the input ends before, or its batches are too small for
                "kmeans_plus_plus".
        """
        if self._clusters.are_chosen:
            self.begin(input_fn, self._choose)
        return super().train(input_fn, hooks, steps, max_steps, saving_listeners)

    def _choose(self, batches: Any, found: Mapping[str, Any]) -> None:
        """Sets the centres to points of the first batches."""
        if int(found["chosen"].numpy()):
            return

        @tf.function(autograph=False, reduce_retracing=True)
        def pick(features: Any, have: tf.Tensor) -> tf.Tensor:
            with self._engine.model.tracing(ModeKeys.TRAIN):
                return self._clusters.pick(self._points_of(features), have)

        rows: list[Any] = []
        count = have = 0
        for element in batches:
            rows.append(pick(datasets.split(element)[0], tf.constant(have, tf.int64)).numpy())
            have, count = have + len(rows[-1]), self._clusters.count
            if have >= count:
                break
        if have < count or not rows:
            raise DataError(
                f"KMeansClustering cannot choose {self._clusters.count} centres: the input has "
                f"{have} points. Give more points, or fewer clusters.",
                reason=Reason.EMPTY_INPUT,
            )
        found["clusters"].assign(np.concatenate(rows))
        found["chosen"].assign(count)

    def predict_cluster_index(self, input_fn: Callable[..., Any]) -> Iterator[Any]:
        """Yields the index of the nearest centre for each point."""
        for found in self.predict(input_fn, [self.CLUSTER_INDEX]):
            yield found[self.CLUSTER_INDEX] if isinstance(found, Mapping) else found

    def transform(self, input_fn: Callable[..., Any]) -> Iterator[Any]:
        """Yields the distances to all centres for each point, float32 `[num_clusters]`.

        They are Euclidean, not squared, for the metric "squared_euclidean".
        """
        for found in self.predict(input_fn, [self.ALL_DISTANCES]):
            far = found[self.ALL_DISTANCES] if isinstance(found, Mapping) else found
            yield far if self._cosine else np.sqrt(np.maximum(far, 0.0))

    def score(self, input_fn: Callable[..., Any]) -> float:
        """Returns the sum of the distances of all points to the nearest centre."""
        return float(self.evaluate(input_fn)[self.SCORE])

    def cluster_centers(self) -> Any:
        """Returns the centres, float32 `[num_clusters, width]`."""
        return self.get_variable_value(self.CLUSTER_CENTERS_VAR_NAME)


class _Clusters:
    """The centres and how they move."""

    def __init__(
        self,
        *,
        count: int,
        initial: Any,
        cosine: bool,
        seed: int | None,
        mini_batch: bool,
        steps: int,
        retries: int,
    ) -> None:
        self.count = self._count = count
        self.are_chosen = not isinstance(initial, np.ndarray)
        self._initial = initial
        self._cosine = cosine
        self._seed = seed
        self._mini_batch = mini_batch
        self._steps = steps
        self._retries = retries

    def spec(self, points: tf.Tensor, mode: str, tolerance: float | None) -> EstimatorSpec:
        given = not self.are_chosen
        points = self._scaled(points)
        centres = _state("clusters", (self._count, int(points.shape[1])),
                         self._constant if given else 0.0)  # fmt: skip
        chosen = _state("chosen", (), self._count if given else 0, tf.int64)
        known = tf.identity(chosen)
        distances = self._distances(points, tf.identity(centres), known)
        nearest = tf.argmin(distances, 1)
        least = tf.reduce_min(distances, 1)
        loss = tf.reduce_sum(least)
        if mode == ModeKeys.TRAIN:
            train_op = self._move(points, nearest, centres)
            hooks = [] if tolerance is None else [_StopHook(tolerance)]
            return EstimatorSpec(mode=mode, loss=loss, train_op=train_op, training_hooks=hooks)
        predictions = {"cluster_index": nearest, "all_distances": distances}
        if mode == ModeKeys.EVAL:
            total = metrics.Sums("score", ["score"])
            total.update_state([least])
            score = metrics.View("score", total, lambda sums: sums["score"])
            return EstimatorSpec(
                mode=mode, loss=loss, predictions=predictions, eval_metric_ops={"score": score}
            )
        index = PredictOutput(nearest)
        outputs = {
            DEFAULT_SIGNATURE: index,
            "cluster_index": index,
            "all_distances": PredictOutput(distances),
        }
        return EstimatorSpec(mode=mode, predictions=predictions, export_outputs=outputs)

    def _distances(self, points: tf.Tensor, centres: tf.Tensor, known: tf.Tensor) -> tf.Tensor:
        """Returns float32 `[batch, count]`; infinite for centres not chosen yet."""
        if self._cosine:
            found = 1.0 - tf.matmul(points, self._scaled(centres), transpose_b=True)
        else:
            squares = tf.reduce_sum(tf.square(points), 1, keepdims=True)
            found = squares - 2.0 * tf.matmul(points, centres, transpose_b=True)
            found = tf.maximum(found + tf.reduce_sum(tf.square(centres), 1), 0.0)
        unknown = (tf.range(self._count, dtype=tf.int64) >= known) & (known > 0)
        return tf.where(unknown, np.inf, found)

    def pick(self, points: tf.Tensor, have: tf.Tensor) -> tf.Tensor:
        """Returns the points of a batch that become centres beside the `have` chosen before."""
        if callable(self._initial):
            made = tf.cast(self._initial(points, self._count), tf.float32)
            return self._scaled(tf.ensure_shape(made, (self._count, points.shape[1])))
        points = self._scaled(points)
        size = tf.shape(points, tf.int64)[0]
        pair = variables.stateless_seed("kmeans")
        if self._seed is not None:
            pair = tf.stack([tf.constant(self._seed, tf.int64), have])
        if self._initial == "kmeans_plus_plus":
            said = ["A batch has fewer points than there are clusters, and kmeans_plus_plus "
                    "chooses from one: got", size]  # fmt: skip
            with tf.control_dependencies(variables.require(size >= self._count, lambda: said)):
                return tf.raw_ops.KmeansPlusPlusInitialization(
                    points=points, num_to_sample=tf.constant(self._count, tf.int64),
                    seed=pair[0] + pair[1],
                    num_retries_per_sample=tf.constant(self._retries, tf.int64),
                )  # fmt: skip
        order = tf.random.experimental.stateless_shuffle(tf.range(size), pair)
        return tf.gather(points, order[: tf.minimum(self._count - have, size)])

    def _constant(self, shape: Any, dtype: Any = None) -> Any:
        del shape
        return self._scaled(tf.constant(self._initial, dtype))

    def _scaled(self, points: tf.Tensor) -> tf.Tensor:
        """Returns points of length 1 for the metric "cosine"."""
        return tf.nn.l2_normalize(points, 1) if self._cosine else points

    def _move(self, points: tf.Tensor, nearest: tf.Tensor, centres: Any) -> tf.Tensor:
        sums = tf.math.unsorted_segment_sum(points, nearest, self._count)
        counts = tf.math.unsorted_segment_sum(tf.ones_like(nearest), nearest, self._count)
        if not self._mini_batch:
            mean = self._scaled(tf.math.divide_no_nan(sums, _column(counts)))
            new = tf.where(_column(counts) > 0, mean, tf.identity(centres))
            updates = [centres.assign(new)]
        elif self._steps == 1:
            total = _state("cluster_counts", (self._count,), 1, tf.int64)
            now = tf.identity(total) + counts
            updates = [total.assign(now), centres.assign(_nearer(centres, sums, counts, now))]
        else:
            updates = self._move_next(sums, counts, centres)
        with tf.control_dependencies(updates):
            return tf.constant(value=True)

    def _move_next(self, sums: tf.Tensor, counts: tf.Tensor, centres: Any) -> list[Any]:
        """Moves the centres of the next iteration, and `centres` where it begins."""
        moved = _state("clusters_next", centres.shape, 0.0)
        total = _state("cluster_counts", (self._count,), 0, tf.int64)
        step = variables.global_step()
        before = tf.identity(total)
        first = tf.reduce_all(before == 0)
        # tf.estimator saved the end of an iteration before its centres were taken over.
        late = (step % self._steps == 0) & ~first
        old = tf.where(first, tf.identity(centres), tf.identity(moved))
        now = tf.where(late, tf.zeros_like(before), before) + counts
        new = _nearer(old, sums, counts, now)
        ends = (step + 1) % self._steps == 0
        kept = tf.where(late, self._scaled(old), tf.identity(centres))
        return [
            moved.assign(new),
            total.assign(tf.where(ends, tf.zeros_like(now), now)),
            centres.assign(tf.where(ends, self._scaled(new), kept)),
        ]


class _StopHook(Hook):
    """Ends training when the loss changes little."""

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self._last: float | None = None

    def after_step(self, context: StepContext) -> None:
        loss = context.loss
        if loss is None:
            return
        if self._last is not None and abs(self._last - loss) <= self._tolerance * abs(loss):
            context.request_stop(f"the loss changed by less than {self._tolerance:g} of itself")
        self._last = loss


def _state(name: str, shape: Any, initial: Any, dtype: Any = tf.float32) -> Any:
    # All of it is what training finds: none may be missing, and a warm start takes it.
    return variables.get_variable(name, shape, initializer=initial, dtype=dtype)


def _column(counts: tf.Tensor) -> tf.Tensor:
    return tf.cast(counts, tf.float32)[:, tf.newaxis]


def _nearer(old: Any, sums: tf.Tensor, counts: tf.Tensor, now: tf.Tensor) -> tf.Tensor:
    """Returns centres moved to points of `sums` and `counts`, which are a share of `now`."""
    old = tf.identity(old)
    return old + tf.math.divide_no_nan(sums - _column(counts) * old, _column(now))


def _points(features: Any, columns: Any) -> tf.Tensor:
    if columns is not None:
        return dense_features(columns, features)
    parts = [features[key] for key in sorted(features)] if isinstance(features, Mapping) else [
        features
    ]  # fmt: skip
    numbers = [tf.cast(part, tf.float32) for part in parts]
    return tf.concat([n[:, tf.newaxis] if n.shape.rank == 1 else n for n in numbers], 1)


def _one_of(argument: str, value: Any, known: Sequence[str]) -> None:
    if value not in known:
        raise ConfigError(
            f"KMeansClustering: argument {argument} is invalid: expected one of {list(known)}, "
            f"got {quote(value)}.{did_you_mean(str(value), known)}",
            reason=Reason.UNKNOWN_NAME,
        )


def _invalid(argument: str, expected: str, got: object) -> ConfigError:
    return ConfigError(
        f"KMeansClustering: argument {argument} is invalid: expected {expected}, got {quote(got)}.",
        reason=Reason.INVALID_VALUE,
    )
