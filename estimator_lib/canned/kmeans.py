"""Clustering: points near their cluster's centre.

References: Sculley, Web-scale k-means clustering, WWW 2010; Arthur and Vassilvitskii,
k-means++, SODA 2007.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from estimator_lib import heads, metrics, variables
from estimator_lib.canned import networks
from estimator_lib.core import columns as fc
from estimator_lib.core import constraints
from estimator_lib.core.errors import DataError, Reason
from estimator_lib.estimator import Estimator
from estimator_lib.export.outputs import PredictOutput
from estimator_lib.features.dense import dense_features
from estimator_lib.inputs import datasets
from estimator_lib.protocols import Labels
from estimator_lib.specs import DEFAULT_SIGNATURE, EstimatorSpec, ModeKeys
from estimator_lib.training.hooks import Hook, StepContext
from estimator_lib.training.run_config import RunConfig

InitialClusters = str | npt.ArrayLike | Callable[[tf.Tensor, int], tf.Tensor]
_INITIAL = constraints.one_of("random", "kmeans_plus_plus")


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

    @constraints.checked
    def __init__(
        self,
        num_clusters: constraints.Count,
        model_dir: str | None = None,
        initial_clusters: InitialClusters = "random",
        distance_metric: Annotated[str, constraints.one_of("squared_euclidean", "cosine")] = (
            "squared_euclidean"
        ),
        seed: Annotated[int, constraints.number(whole=True)] | None = None,
        use_mini_batch: constraints.Switch = True,
        mini_batch_steps_per_iteration: constraints.Count = 1,
        kmeans_plus_plus_num_retries: Annotated[
            int, constraints.number(at_least=0, whole=True)
        ] = 2,
        relative_tolerance: constraints.NotNegative | None = None,
        config: RunConfig | None = None,
        feature_columns: networks.Columns | None = None,
        warm_start_from: networks.WarmStart = None,
    ) -> None:
        if isinstance(initial_clusters, str):
            constraints.check("KMeansClustering", _INITIAL, "initial_clusters", initial_clusters)
        elif not callable(initial_clusters):
            initial_clusters = np.asarray(initial_clusters, np.float32)
            if initial_clusters.ndim != 2 or len(initial_clusters) != num_clusters:
                shape = initial_clusters.shape
                expected = f"shape ({num_clusters}, width)"
                raise constraints.refused("KMeansClustering", "initial_clusters", expected, shape)
        columns = None
        if feature_columns is not None:
            columns = networks.dense_columns("KMeansClustering", feature_columns)
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

        def points_of(features: heads.NamedFeatures) -> tf.Tensor:
            return _points(features, columns)

        def model_fn(features: heads.NamedFeatures, labels: Labels, mode: str) -> EstimatorSpec:
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

    def _choose(self, batches: Iterable[object], found: Mapping[str, tf.Variable]) -> None:
        """Sets the centres to points of the first batches."""
        if int(found["chosen"].numpy()):
            return

        @tf.function(autograph=False, reduce_retracing=True)
        def pick(features: heads.NamedFeatures, have: tf.Tensor) -> tf.Tensor:
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Clusters:
    """The centres and how they move."""

    count: int
    initial: str | np.ndarray | Callable[[tf.Tensor, int], tf.Tensor]
    cosine: bool
    seed: int | None
    mini_batch: bool
    steps: int
    retries: int

    @property
    def are_chosen(self) -> bool:
        """Whether the centres are taken from the input."""
        return not isinstance(self.initial, np.ndarray)

    def spec(self, points: tf.Tensor, mode: str, tolerance: float | None) -> EstimatorSpec:
        given = not self.are_chosen
        points = self._scaled(points)
        centres = _state("clusters", (self.count, int(points.shape[1])),
                         self._constant if given else 0.0)  # fmt: skip
        chosen = _state("chosen", (), self.count if given else 0, tf.int64)
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
        if self.cosine:
            found = 1.0 - tf.matmul(points, self._scaled(centres), transpose_b=True)
        else:
            squares = tf.reduce_sum(tf.square(points), 1, keepdims=True)
            found = squares - 2.0 * tf.matmul(points, centres, transpose_b=True)
            found = tf.maximum(found + tf.reduce_sum(tf.square(centres), 1), 0.0)
        unknown = (tf.range(self.count, dtype=tf.int64) >= known) & (known > 0)
        return tf.where(unknown, np.inf, found)

    def pick(self, points: tf.Tensor, have: tf.Tensor) -> tf.Tensor:
        """Returns the points of a batch that become centres beside the `have` chosen before."""
        if callable(self.initial):
            made = tf.cast(self.initial(points, self.count), tf.float32)
            return self._scaled(tf.ensure_shape(made, (self.count, points.shape[1])))
        points = self._scaled(points)
        size = tf.shape(points, tf.int64)[0]
        pair = variables.stateless_seed("kmeans")
        if self.seed is not None:
            pair = tf.stack([tf.constant(self.seed, tf.int64), have])
        if self.initial == "kmeans_plus_plus":
            said = ["A batch has fewer points than there are clusters, and kmeans_plus_plus "
                    "chooses from one: got", size]  # fmt: skip
            with tf.control_dependencies(variables.require(size >= self.count, lambda: said)):
                return tf.raw_ops.KmeansPlusPlusInitialization(
                    points=points, num_to_sample=tf.constant(self.count, tf.int64),
                    seed=pair[0] + pair[1],
                    num_retries_per_sample=tf.constant(self.retries, tf.int64),
                )  # fmt: skip
        order = tf.random.experimental.stateless_shuffle(tf.range(size), pair)
        return tf.gather(points, order[: tf.minimum(self.count - have, size)])

    def _constant(self, shape: Sequence[int], dtype: tf.DType = None) -> tf.Tensor:
        del shape
        return self._scaled(tf.constant(self.initial, dtype))

    def _scaled(self, points: tf.Tensor) -> tf.Tensor:
        """Returns points of length 1 for the metric "cosine"."""
        return tf.nn.l2_normalize(points, 1) if self.cosine else points

    def _move(self, points: tf.Tensor, nearest: tf.Tensor, centres: tf.Variable) -> tf.Tensor:
        sums = tf.math.unsorted_segment_sum(points, nearest, self.count)
        counts = tf.math.unsorted_segment_sum(tf.ones_like(nearest), nearest, self.count)
        if not self.mini_batch:
            mean = self._scaled(tf.math.divide_no_nan(sums, _column(counts)))
            new = tf.where(_column(counts) > 0, mean, tf.identity(centres))
            updates = [centres.assign(new)]
        elif self.steps == 1:
            total = _state("cluster_counts", (self.count,), 1, tf.int64)
            now = tf.identity(total) + counts
            updates = [total.assign(now), centres.assign(_nearer(centres, sums, counts, now))]
        else:
            updates = self._move_next(sums, counts, centres)
        with tf.control_dependencies(updates):
            return tf.constant(value=True)

    def _move_next(
        self, sums: tf.Tensor, counts: tf.Tensor, centres: tf.Variable
    ) -> list[tf.Operation]:
        """Moves the centres of the next iteration, and `centres` where it begins."""
        moved = _state("clusters_next", centres.shape, 0.0)
        total = _state("cluster_counts", (self.count,), 0, tf.int64)
        step = variables.global_step()
        before = tf.identity(total)
        first = tf.reduce_all(before == 0)
        # tf.estimator saved the end of an iteration before its centres were taken over.
        late = (step % self.steps == 0) & ~first
        old = tf.where(first, tf.identity(centres), tf.identity(moved))
        now = tf.where(late, tf.zeros_like(before), before) + counts
        new = _nearer(old, sums, counts, now)
        ends = (step + 1) % self.steps == 0
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


def _state(
    name: str,
    shape: Sequence[int],
    initial: float | Callable[..., tf.Tensor],
    dtype: tf.DType = tf.float32,
) -> tf.Variable:
    # All of it is what training finds: none may be missing, and a warm start takes it.
    return variables.get_variable(name, shape, initializer=initial, dtype=dtype)


def _column(counts: tf.Tensor) -> tf.Tensor:
    return tf.cast(counts, tf.float32)[:, tf.newaxis]


def _nearer(
    old: tf.Tensor | tf.Variable, sums: tf.Tensor, counts: tf.Tensor, now: tf.Tensor
) -> tf.Tensor:
    """Returns centres moved to points of `sums` and `counts`, which are a share of `now`."""
    old = tf.identity(old)
    return old + tf.math.divide_no_nan(sums - _column(counts) * old, _column(now))


def _points(
    features: heads.NamedFeatures | tf.Tensor, columns: Sequence[fc.Column] | None
) -> tf.Tensor:
    if columns is not None:
        return dense_features(columns, features)
    parts = [features[key] for key in sorted(features)] if isinstance(features, Mapping) else [
        features
    ]  # fmt: skip
    numbers = [tf.cast(part, tf.float32) for part in parts]
    return tf.concat([n[:, tf.newaxis] if n.shape.rank == 1 else n for n in numbers], 1)
