"""Gradient boosted trees, grown by LightGBM behind the interface of every other Estimator.

A step is a round: it adds a tree for each logit. LightGBM grows the trees from the gradients of the
head's loss, so any head will do, and nothing else is LightGBM's: the trees are variables of the
model, read by TensorFlow operations in training, evaluation and in the exported model. So they are
saved, resumed, evaluated, calibrated and served as weights are.

Columns: numbers are split at thresholds. Categories are split into two sets of categories while
there are few (`CATEGORIES`), and by their number else: a learned vocabulary counts from the most
frequent one. An embedding or indicator column stands for its categorical column.

References: Friedman, Greedy function approximation, 2001; Ke et al., LightGBM, NIPS 2017;
https://lightgbm.readthedocs.io/en/stable/Advanced-Topics.html#categorical-feature-support.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from estimator_lib import heads, variables
from estimator_lib.canned import networks
from estimator_lib.core import columns as fc
from estimator_lib.core import constraints, constructors
from estimator_lib.core.errors import ConfigError, DataError, Reason
from estimator_lib.estimator import Estimator
from estimator_lib.features import _lowering as lowering
from estimator_lib.features import dense
from estimator_lib.inputs import datasets
from estimator_lib.inputs.arrays import RowsInput
from estimator_lib.losses import LossReduction
from estimator_lib.protocols import InputFn, Labels
from estimator_lib.specs import EstimatorSpec, ModeKeys
from estimator_lib.training.hooks import Hook, StepContext
from estimator_lib.training.run_config import RunConfig

CATEGORIES = 1_000
"""Columns of more categories are split by the number of the category."""
_WORD = 32
_HALVINGS = 60
_DOUBLINGS = 60
_FLAT = 1e-12
"""A loss whose second derivative is nowhere larger has none that a step could follow."""

Array = npt.NDArray[Any]


class GradientBoostedTreesEstimator(Estimator):
    """Gradient boosted trees with any head.

    A training reads its rows once, into memory: those of one epoch of `arrays_input` or
    `examples_input`, else all until the input ends. `max_steps` says how many rounds there are.

    Args:
        head: Says what is predicted.
        feature_columns: Categorical columns with one value per example, and dense columns.
        n_trees: Rounds at most; training ends with the last one.
        model_dir: See `Estimator`.
        max_leaves: Leaves of a tree at most.
        learning_rate: Share of a tree's values that is added.
        min_leaf_rows: Rows of a leaf at least.
        l2: Penalty of the squares of leaves' values.
        rows: How many rows of the input are read at most; needed where it does not end.
        config: See `Estimator`. There is no distribution.

    Raises:
        ConfigError: LightGBM is not installed, a column does not fit, or the configuration asks
            for several devices.
    """

    @constraints.checked
    def __init__(
        self,
        head: networks.Head,
        feature_columns: networks.Columns,
        n_trees: constraints.Count = 100,
        model_dir: str | None = None,
        max_leaves: constraints.Classes = 31,
        learning_rate: constraints.Positive = 0.1,
        min_leaf_rows: constraints.Count = 20,
        l2: constraints.NotNegative = 0.0,
        rows: constraints.Count | None = None,
        config: RunConfig | None = None,
    ) -> None:
        name = type(self).__name__
        _library(name)
        if config is not None and config.train_distribute is not None:
            raise ConfigError(
                f"{name} trains in one process on one device. Remove train_distribute.",
                reason=Reason.UNSUPPORTED,
            )
        columns = _tree_columns(name, feature_columns)
        shape = _Shape(rounds=n_trees, outputs=head.logits_dimension, leaves=max_leaves,
                       words=_words(columns))  # fmt: skip
        grower = _Grower(
            head,
            {
                "learning_rate": learning_rate,
                "num_leaves": max_leaves,
                "min_data_in_leaf": min_leaf_rows,
                "lambda_l2": l2,
            },
            [i for i, column in enumerate(columns) if _is_of_few(column)],
        )

        def model_fn(features: heads.NamedFeatures, labels: Labels, mode: str) -> EstimatorSpec:
            forest = _Forest.of_variables(shape)
            if mode == ModeKeys.TRAIN:
                loss, grown = grower.step(forest, shape)
                return EstimatorSpec(
                    mode=mode, loss=loss, train_op=grown, training_hooks=[_StopHook(forest)]
                )
            logits = forest.logits(_matrix(columns, features))
            return head.create_estimator_spec(features, mode, logits, labels)

        self._columns, self._grower, self._rows = columns, grower, rows
        super().__init__(model_fn, model_dir, config)

    def train(
        self,
        input_fn: InputFn,
        hooks: Sequence[object] | None = None,
        steps: int | None = None,
        max_steps: int | None = None,
        saving_listeners: Sequence[Any] | None = None,
    ) -> Estimator:
        """Adds rounds, as `Estimator.train` adds steps; all rows count in each.

        Raises:
            ConfigError: the input does not end.
        """
        with datasets.explain_errors(input_fn):
            data = self._grower.data = self._read(input_fn)
        try:
            return super().train(data.source, hooks, steps, max_steps, saving_listeners)
        finally:
            self._grower.forget()

    def _read(self, input_fn: InputFn) -> _Data:
        """Reads the rows that trees are grown on."""
        wanted = self._rows
        if isinstance(input_fn, RowsInput):
            wanted = min(input_fn.rows, wanted or input_fn.rows)
        batches = self._engine.inputs.dataset(input_fn, ModeKeys.TRAIN)
        if wanted is None and batches.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise ConfigError(
                f"{type(self).__name__} reads its input to the end, and this one has none. Use "
                "arrays_input or examples_input, remove repeat(), or give the argument rows.",
                reason=Reason.UNSUPPORTED,
            )

        @tf.function(autograph=False, reduce_retracing=True)
        def matrix(features: heads.NamedFeatures) -> tf.Tensor:
            with self._engine.model.tracing(ModeKeys.TRAIN):
                return _matrix(self._columns, features)

        read = set(fc.feature_sources(self._columns)) - {self._grower.weight_column}
        return _Data.of(batches, matrix, read, wanted, datasets.fingerprint(input_fn))


@networks.for_classes
class GradientBoostedTreesClassifier(GradientBoostedTreesEstimator):
    """Gradient boosted trees for classes.

    Takes the arguments of `GradientBoostedTreesEstimator` without head; after model_dir n_classes,
    weight_column and label_vocabulary, and by name loss_reduction and auc_thresholds, which
    `networks.head_for_classes` explains.
    """


@networks.for_numbers
class GradientBoostedTreesRegressor(GradientBoostedTreesEstimator):
    """Gradient boosted trees for numbers.

    Takes the arguments of `GradientBoostedTreesEstimator` without head; after model_dir
    label_dimension and weight_column, and by name loss_reduction, which
    `networks.head_for_numbers` explains.
    """


# --- What trees read --------------------------------------------------------------------------


def _tree_columns(model: str, given: networks.Columns) -> tuple[fc.Column, ...]:
    """Returns the columns that trees read, by name, each once."""
    found = {}
    for column in networks.checked_columns(model, "feature_columns", given, dense=False):
        own = constructors.read_by_trees(column)
        if own is None:
            raise ConfigError(
                f"{model}: feature_columns holds {column.name!r}, a {column.kind} column: expected "
                "numbers and categories. Give the field as a numeric or vocabulary column.",
                reason=Reason.TYPE_MISMATCH,
            )
        found[own.name] = own
    return tuple(dense.sorted_columns(found.values()))


def _is_of_few(column: fc.Column) -> bool:
    """Whether a column is split into sets of its categories."""
    ordered = isinstance(column, fc.DenseColumn)  # buckets of a number
    return isinstance(column, fc.CategoricalColumn) and not ordered and column.rows <= CATEGORIES


def _words(columns: Sequence[fc.Column]) -> int:
    """Returns how many words a set of categories takes; ids count from 1, 0 is missing."""
    most = max((c.rows for c in columns if isinstance(c, fc.CategoricalColumn) and _is_of_few(c)),
               default=-1)  # fmt: skip
    return -(-(most + 1) // _WORD)


def _matrix(columns: Sequence[fc.Column], features: heads.NamedFeatures) -> tf.Tensor:
    """Returns a column for each feature column, float32 `[batch, n]`; wide ones have several."""
    sources = dense.source_features(columns, features)
    parts = []
    for column in columns:
        if not isinstance(column, fc.CategoricalColumn):
            parts.append(dense.dense_features([column], features, scope=""))
            continue
        ids, _ = lowering.ids_and_weights(column, sources)
        if ids.shape.rank != 1:
            raise ConfigError(
                f"Column {column.name!r} has several values per example: expected one. Give trees "
                "another column, or a network this one.",
                reason=Reason.TYPE_MISMATCH,
            )
        parts.append(tf.cast(ids + 1, tf.float32)[:, tf.newaxis])
    values = tf.concat(parts, 1)
    return tf.where(tf.math.is_nan(values), 0.0, values)


# --- The trees as tensors ---------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Shape:
    """How large a forest may become.

    Attributes:
        rounds: Trees for each logit.
        outputs: Logits.
        leaves: Of a tree.
        words: Of 32 categories in the set of a node; 0 if no column has sets.
    """

    rounds: int
    outputs: int
    leaves: int
    words: int

    @property
    def nodes(self) -> int:
        """Nodes of a tree."""
        return self.leaves - 1


class _Forest(NamedTuple):
    """Trees, as variables or as values of them; T rounds, D logits, N nodes, L leaves, W words.

    Attributes:
        bias: float64 `[D]`, where every sum begins.
        feature: int32 `[T, D, N]`, the input of a node; -1 - input if it has a set of categories.
        threshold: float32 `[T, D, N]`, the largest number that goes left.
        left: int32 `[T, D, N]`, the next node, or a leaf as -1 - leaf.
        right: The same.
        value: float64 `[T, D, L]`, of the leaves.
        category: int32 `[T, D, N, W]`, bits of the categories that go left, of nodes with a set.
        count: int64 scalar, rounds that there are.
    """

    bias: Any
    feature: Any
    threshold: Any
    left: Any
    right: Any
    value: Any
    category: Any
    count: Any

    @classmethod
    def of_variables(cls, shape: _Shape) -> Self:
        """Returns the variables of the model that is traced; all leaves are 0 at first."""
        nodes = (shape.rounds, shape.outputs, shape.nodes)
        with variables.scope("trees"):
            return cls(
                bias=_state("bias", (shape.outputs,), 0.0, tf.float64),
                feature=_state("feature", nodes, 0, tf.int32),
                threshold=_state("threshold", nodes, 0.0, tf.float32),
                left=_state("left", nodes, -1, tf.int32),
                right=_state("right", nodes, -1, tf.int32),
                value=_state("value", (*nodes[:2], shape.leaves), 0.0, tf.float64),
                category=_state("category", (*nodes, shape.words), 0, tf.int32),
                count=_state("count", (), 0, tf.int64),
            )

    def rounds(self, first: int, last: int) -> _Forest:
        """Returns the trees of some rounds."""
        trees = {name: getattr(self, name)[first:last] for name in _TREES}
        return self._replace(**trees)

    def leaves(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the leaf that each row is in, int32 `[batch, T, D]`."""
        feature, threshold = tf.identity(self.feature), tf.identity(self.threshold)
        trees = tf.shape(feature)[0] * tf.shape(feature)[1]
        nodes = tf.shape(feature)[2]
        first = tf.range(trees) * nodes
        flat = {name: tf.reshape(getattr(self, name), (-1,)) for name in ("left", "right")} | {
            "feature": tf.reshape(feature, (-1,)),
            "threshold": tf.reshape(threshold, (-1,)),
        }
        words = int(self.category.shape[-1])
        category = tf.reshape(self.category, (-1,))
        at_first = tf.zeros((tf.shape(inputs)[0], trees), tf.int32)

        def step(at: tf.Tensor) -> tuple[tf.Tensor]:
            where = first + tf.maximum(at, 0)
            told = tf.gather(flat["feature"], where)
            found = tf.gather(inputs, tf.maximum(told, -1 - told), batch_dims=1)
            goes_left = found <= tf.gather(flat["threshold"], where)
            if words:
                number = tf.cast(found, tf.int32)
                word = tf.clip_by_value(number // _WORD, 0, words - 1)
                bits = tf.gather(category, where * words + word)
                bit = tf.bitwise.right_shift(bits, number % _WORD) & 1
                within = (number >= 0) & (number < words * _WORD)
                goes_left = tf.where(told < 0, within & (bit == 1), goes_left)
            after = tf.where(goes_left, tf.gather(flat["left"], where),
                             tf.gather(flat["right"], where))  # fmt: skip
            return (tf.where(at < 0, at, after),)

        (ended,) = tf.while_loop(
            lambda at: tf.reduce_any(at >= 0), step, (at_first,), parallel_iterations=1
        )
        return tf.reshape(-1 - ended, (-1, tf.shape(feature)[0], tf.shape(feature)[1]))

    def logits(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the sum of the rows' leaves, float32 `[batch, D]`."""
        leaves = self.leaves(inputs)
        value = tf.identity(self.value)
        trees, size = tf.shape(leaves)[1] * tf.shape(leaves)[2], tf.shape(value)[2]
        at = tf.reshape(leaves, (-1, trees)) + tf.range(trees) * size
        found = tf.reshape(tf.gather(tf.reshape(value, (-1,)), at), tf.shape(leaves))
        return tf.cast(self.bias + tf.reduce_sum(found, 1), tf.float32)


_TREES = ("feature", "threshold", "left", "right", "value", "category")
"""What a round adds to a `_Forest`."""


def _state(name: str, shape: Sequence[int], initial: float, dtype: tf.DType) -> tf.Variable:
    return variables.get_variable(name, shape, initializer=initial, dtype=dtype)


class _StopHook(Hook):
    """Ends training when there is no room for another round."""

    def __init__(self, forest: _Forest) -> None:
        self._most = int(forest.feature.shape[0])

    def after_step(self, context: StepContext) -> None:
        if context.step >= self._most:
            context.request_stop(f"all {self._most} trees of n_trees are there")


# --- How they grow ----------------------------------------------------------------------------


class _Rows(datasets.InputSource):
    """The input of a training whose steps take their rows elsewhere: its first batch, always."""

    def __init__(self, element: object, name: str | None) -> None:
        self._element = element
        self.fingerprint = f"trees of {name}"

    def dataset(self, first_batch: int = 0) -> tf.data.Dataset:
        del first_batch
        return tf.data.Dataset.from_tensors(self._element).repeat()


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Data:
    """The rows of a training.

    Attributes:
        inputs: float32 `[rows, n]`; see `_matrix`.
        labels: As the input gives them.
        features: Those that no column reads: a head may, as weights.
        source: What the training loop reads.
    """

    inputs: Array
    labels: Any
    features: Mapping[str, tf.Tensor]
    source: _Rows

    @classmethod
    def of(
        cls,
        batches: tf.data.Dataset,
        matrix: Any,
        read: set[str],
        wanted: int | None,
        name: str | None,
    ) -> _Data:
        """Reads batches until there are `wanted` rows, or to the end."""
        inputs, labels, beside, rows, element = [], [], [], 0, None
        for element in _until(batches, wanted):
            features, label = datasets.split(element)
            inputs.append(matrix(features).numpy())
            labels.append(label)
            beside.append({n: v for n, v in features.items() if n not in read})
            rows += len(inputs[-1])
        if not rows:
            raise DataError(
                "The input has no rows: expected at least one. Look at input_fn.",
                reason=Reason.EMPTY_INPUT,
            )

        def joined(*parts: Any) -> tf.Tensor:
            together = tf.concat(parts, 0)
            return together if wanted is None else together[:wanted]

        return cls(
            inputs=np.concatenate(inputs)[:wanted],
            labels=tf.nest.map_structure(joined, *labels),
            features=tf.nest.map_structure(joined, *beside),
            source=_Rows(element, name),
        )


def _until(batches: tf.data.Dataset, wanted: int | None) -> Iterator[Any]:
    rows = 0
    for element in batches:
        yield element
        rows += int(tf.shape(tf.nest.flatten(element)[0])[0])
        if wanted is not None and rows >= wanted:
            return


class _Grower:
    """Grows the trees of one training after the other.

    Args:
        head: Its loss is made smaller.
        parameters: LightGBM's.
        categorical: Which inputs are split into sets.
    """

    def __init__(
        self, head: heads.Head, parameters: Mapping[str, object], categorical: Sequence[int]
    ) -> None:
        self.data: _Data | None = None
        self._head = head
        self._parameters = dict(parameters)
        self._categorical = list(categorical)
        self._booster: Any = None
        self._scores: Array | None = None

    @property
    def weight_column(self) -> str | None:
        """The feature with the weights of rows, which a column may read as well."""
        return getattr(self._head, "weight_column", None)

    def forget(self) -> None:
        """Lets the rows go."""
        self.data = self._booster = self._scores = None

    def step(self, forest: _Forest, shape: _Shape) -> tuple[tf.Tensor, tf.Operation]:
        """Returns the loss before a round, and the op that adds the round."""
        nodes = (shape.outputs, shape.nodes)
        kinds = [tf.float64, tf.float64, *(getattr(forest, name).dtype for name in _TREES)]
        values = [tf.identity(part) for part in forest]
        loss, bias, *tree = tf.numpy_function(
            lambda *given: self._round(_Forest(*given), shape), values, kinds
        )
        loss.set_shape(())
        bias.set_shape((shape.outputs,))
        sizes = {"value": (shape.outputs, shape.leaves), "category": (*nodes, shape.words)}
        updates = [forest.bias.assign(bias)]
        for name, part in zip(_TREES, tree, strict=True):
            part.set_shape(sizes.get(name, nodes))
            added = tf.IndexedSlices(part[tf.newaxis], forest.count[tf.newaxis])
            updates.append(getattr(forest, name).scatter_update(added))
        with tf.control_dependencies([_handle(update) for update in updates]):
            return tf.cast(loss, tf.float32), tf.group(forest.count.assign_add(1))

    def _round(self, forest: _Forest, shape: _Shape) -> list[Array]:
        """Returns the loss before the round, the bias and what the round adds."""
        data = self._grown_on()
        if self._scores is None:
            self._scores, forest = self._begin(forest, data)
        loss, gradients, curvature = self._derivatives(self._scores)
        trees = self._grow(gradients, curvature, shape)
        leaves = trees.leaves(tf.constant(data.inputs)).numpy()[:, 0]
        value = trees.value[0]
        if np.max(np.abs(curvature)) <= _FLAT:  # such as of absolute errors
            rate = self._parameters["learning_rate"]
            best = self._least(self._scores, leaves, shape.leaves)
            value = np.where(trees.value[0] != 0, best * rate, 0.0)
        self._scores += np.take_along_axis(value.T, leaves, 0)
        parts = {name: getattr(trees, name)[0] for name in _TREES} | {"value": value}
        return [np.float64(loss), forest.bias, *(parts[name] for name in _TREES)]

    def _grown_on(self) -> _Data:
        if self.data is None:
            raise TypeError("trees grow inside of train() only")
        return self.data

    def _begin(self, forest: _Forest, data: _Data) -> tuple[Array, _Forest]:
        """Returns the scores of the trees that there are, summed one after the other."""
        rounds = int(forest.count)
        rows = len(data.inputs)
        if not rounds:
            nothing = np.zeros((rows, len(forest.bias)))
            bias = self._least(nothing, np.zeros(nothing.shape, np.int64), 1)[:, 0]
            forest = forest._replace(bias=bias)
        scores = np.tile(forest.bias, (rows, 1))
        inputs = tf.constant(data.inputs)
        for at in range(rounds):
            tree = forest.rounds(at, at + 1)
            leaves = tree.leaves(inputs).numpy()[:, 0]
            scores += np.take_along_axis(tree.value[0].T, leaves, 0)
        return scores, forest

    def _derivatives(self, scores: Array, *, second: bool = True) -> tuple[float, Array, Array]:
        """Returns the loss, and its derivatives for each row and logit, float64 `[rows, D]`."""
        data, head = self._grown_on(), self._head
        logits = tf.constant(scores, tf.float32)
        with tf.GradientTape(persistent=True) as outer:
            outer.watch(logits)
            with tf.GradientTape() as inner:
                inner.watch(logits)
                loss = head.loss(data.labels, logits, data.features, ModeKeys.TRAIN)
            gradients = inner.gradient(loss, logits)
            each = tf.unstack(gradients, axis=1) if second else []
        # A row's logits are bound to no other row's, so that a sum has every row's derivative.
        found = [outer.gradient(one, logits) for one in each]
        curvature = [
            tf.zeros(len(scores)) if one is None else one[:, at] for at, one in enumerate(found)
        ]
        mean = head.loss_reduction == LossReduction.SUM_OVER_BATCH_SIZE
        scale = float(len(scores)) if mean else 1.0
        if type(head) is heads.RegressionHead:
            scale /= 2.0  # LightGBM's penalties are meant for half of the squared error
        twice = np.stack(curvature, 1).astype(np.float64) * scale if second else gradients
        return float(loss), gradients.numpy().astype(np.float64) * scale, twice

    def _least(self, scores: Array, groups: Array, count: int) -> Array:
        """Returns what is to be added to groups of rows for the least loss, `[D, count]`.

        The loss is convex, so its gradient tells the direction: the step is doubled until it
        changes its sign, then halved.
        """
        outputs = scores.shape[1]

        def slope(steps: Array) -> Array:
            moved = scores + np.take_along_axis(steps.T, groups, 0)
            gradients = self._derivatives(moved, second=False)[1]
            return np.stack([
                np.bincount(groups[:, d], gradients[:, d], count) for d in range(outputs)
            ])  # fmt: skip

        at_zero = slope(np.zeros((outputs, count)))
        sign = -np.sign(at_zero)
        inside, outside = np.zeros((outputs, count)), sign.copy()
        for _ in range(_DOUBLINGS):
            goes_on = slope(outside) * sign < 0
            if not goes_on.any():
                break
            inside = np.where(goes_on, outside, inside)
            outside = np.where(goes_on, 2 * outside, outside)
        for _ in range(_HALVINGS):
            middle = (inside + outside) / 2
            goes_on = slope(middle) * sign < 0
            inside = np.where(goes_on, middle, inside)
            outside = np.where(goes_on, outside, middle)
        return (inside + outside) / 2

    def _grow(self, gradients: Array, curvature: Array, shape: _Shape) -> _Forest:
        """Returns the trees of a round."""
        flat = np.max(np.abs(curvature)) <= _FLAT
        bend = np.ones_like(curvature) if flat else np.maximum(curvature, 0.0)
        booster = self._booster or self._new_booster(shape.outputs)
        before = booster.current_iteration()
        booster.reset_parameter({"verbosity": -1})  # what is told is said for each thread
        sizes = (-1,) if shape.outputs == 1 else bend.shape
        booster.update(fobj=lambda *_: (gradients.reshape(sizes), bend.reshape(sizes)))
        self._booster = booster
        grown = booster.current_iteration() > before
        text = booster.model_to_string(num_iteration=1, start_iteration=before) if grown else ""
        return _parsed(text, shape)

    def _new_booster(self, outputs: int) -> Any:
        library = _library("trees")
        data = self._grown_on()
        parameters = {
            **self._parameters,
            "objective": "none",
            "num_class": outputs,
            "verbosity": -1,
            "deterministic": True,
            "force_col_wise": True,
            "use_missing": False,
            "feature_pre_filter": False,
            "max_cat_to_onehot": 4,
        }
        rows = library.Dataset(
            data.inputs,
            np.zeros(len(data.inputs)),
            categorical_feature=self._categorical,
            params=parameters,
        )
        return library.Booster(parameters, rows)


def _handle(update: Any) -> Any:
    return getattr(update, "handle", update)


def _library(model: str) -> Any:
    try:
        return importlib.import_module("lightgbm")
    except ImportError as error:
        raise ConfigError(
            f"{model} needs LightGBM, which is not installed: {error}. Install "
            "estimator-pipelines[trees].",
            reason=Reason.UNSUPPORTED,
        ) from error


def _parsed(text: str, shape: _Shape) -> _Forest:
    """Returns trees of LightGBM's text format, of one round; those it has not are one leaf of 0.

    Reference: `Tree::ToString` of LightGBM 4: arrays by name, nodes and leaves numbered apart.
    """
    nodes = (1, shape.outputs, shape.nodes)
    forest = _Forest(
        bias=None,
        feature=np.zeros(nodes, np.int32),
        threshold=np.zeros(nodes, np.float32),
        left=np.full(nodes, -1, np.int32),
        right=np.full(nodes, -1, np.int32),
        value=np.zeros((*nodes[:2], shape.leaves)),
        category=np.zeros((*nodes, shape.words), np.int32),
        count=None,
    )
    for output, block in enumerate(text.split("\nTree=")[1:]):
        lines = block.split("end of trees")[0].splitlines()
        fields = dict(line.split("=", 1) for line in lines if "=" in line)
        value = np.array(fields["leaf_value"].split(), np.float64)
        forest.value[0, output, : len(value)] = value
        if fields["num_leaves"] == "1":
            continue
        kinds = np.array(fields["decision_type"].split(), np.int32)
        own = slice(0, len(kinds))
        for name, key in (("feature", "split_feature"), ("left", "left_child"),
                          ("right", "right_child")):  # fmt: skip
            getattr(forest, name)[0, output, own] = np.array(fields[key].split(), np.int32)
        threshold = np.array(fields["threshold"].split(), np.float64)
        of_sets = (kinds & 1) == 1
        forest.threshold[0, output, own] = np.where(of_sets, 0.0, _rounded_down(threshold))
        if of_sets.any():
            forest.feature[0, output, own] = np.where(
                of_sets, -1 - forest.feature[0, output, own], forest.feature[0, output, own]
            )
            ends = np.array(fields["cat_boundaries"].split(), np.int64)
            words = np.array(fields["cat_threshold"].split(), np.uint32).view(np.int32)
            for node in np.flatnonzero(of_sets):
                begin, end = ends[int(threshold[node]) :][:2]
                forest.category[0, output, node, : end - begin] = words[begin:end]
    return forest


def _rounded_down(numbers: Array) -> Array:
    """Returns the largest float32 that is not above a float64: what is below it stays so."""
    near = numbers.astype(np.float32)
    return np.where(near > numbers, np.nextafter(near, np.float32(-np.inf)), near)
