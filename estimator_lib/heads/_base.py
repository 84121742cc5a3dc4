"""What every head has: loss, predictions, metrics, signatures and the EstimatorSpec.

Layer 2. A head is everything after the logits. It works inside a model_fn, through
`create_estimator_spec`, and eagerly on its own: `loss`, `predictions`, `metrics` once and then
`update_metrics` per batch with what `metrics` gave.

A concrete head says how labels become numbers (`_labels`), how far off the logits are
(`_losses`), and lists its predictions, sums and metrics. Losses are computed once per batch and
serve the training loss and the metrics.
"""

from __future__ import annotations

import abc
import contextlib
import contextvars
import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, NamedTuple, TypeAlias

import tensorflow as tf

from estimator_lib import losses as loss_library
from estimator_lib import metrics as metric_library
from estimator_lib import optimizers, variables
from estimator_lib.core import columns as fc
from estimator_lib.core.constraints import list_of, number, refused
from estimator_lib.core.errors import ConfigError, DataError, Reason, did_you_mean, quote
from estimator_lib.core.labels import ClassNames
from estimator_lib.errors import BadValueError
from estimator_lib.export.outputs import ExportOutput, PredictOutput
from estimator_lib.losses import LossReduction
from estimator_lib.optimizers import OptimizerLike
from estimator_lib.protocols import Labels, Tensor
from estimator_lib.specs import DEFAULT_SIGNATURE, EstimatorSpec, ModeKeys

PREDICT_SIGNATURE = "predict"
_TEXTS = ("classes", "all_classes")
CLASSIFICATION_SIGNATURE = "classification"
REGRESSION_SIGNATURE = "regression"

NamedFeatures: TypeAlias = Mapping[str, Tensor]
WeightColumn = str | fc.NumericColumn | None
"""Feature with the examples' weights, or numeric column; None means 1."""
Reduction = LossReduction | str
"""How losses become one number; see `losses.reduction_of`."""
Thresholds = Annotated[Sequence[float], list_of(number(above=0, below=1), may_be_empty=True)] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """How logits are corrected before they are evaluated or served: scale * logit + shift."""

    scale: float = 1.0
    shift: float = 0.0

    def after(self, first: Calibration) -> Calibration:
        """Returns what `first` and then this one do."""
        return Calibration(
            scale=self.scale * first.scale, shift=self.scale * first.shift + self.shift
        )


_calibrations: contextvars.ContextVar[Mapping[str | None, Calibration] | None] = (
    contextvars.ContextVar("calibrations", default=None)
)


@contextlib.contextmanager
def calibrations(by_head: Mapping[str | None, Calibration]) -> Iterator[None]:
    """Inside the block, specs for EVAL and PREDICT use corrected logits.

    A block around this one corrects what this one has corrected.

    Args:
        by_head: By the head's name; None is a head without one.
    """
    token = _calibrations.set(combined(by_head, _calibrations.get() or {}))
    try:
        yield
    finally:
        _calibrations.reset(token)


def combined(
    first: Mapping[str | None, Calibration], then: Mapping[str | None, Calibration]
) -> dict[str | None, Calibration]:
    """Returns corrections by the head's name: those of `first`, followed by those of `then`."""
    both = {name: then[name].after(first[name]) for name in first if name in then}
    return {**first, **then, **both}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """Labels, logits and losses of one batch.

    Attributes:
        labels: As numbers, `[batch, 1]` or `[batch, logits_dimension]`.
        logits: float32 `[batch, logits_dimension]`.
        losses: Per example, float32 `[batch, 1]` or `[batch, logits_dimension]`, unweighted.
        weights: float32 `[batch, 1]` or of the losses' shape; None means 1.
        predictions: Everything that `Head.predictions` gives.
    """

    labels: tf.Tensor
    logits: tf.Tensor
    losses: tf.Tensor
    weights: tf.Tensor | None
    predictions: Mapping[str, tf.Tensor]

    def flat_weights(self) -> tf.Tensor | None:
        """Returns the weights as `[batch]`, or None."""
        return None if self.weights is None else tf.reshape(self.weights, (-1,))


class Training(NamedTuple):
    """How a step is made from the loss; see `Head.create_estimator_spec`."""

    optimizer: OptimizerLike | None
    trainable_variables: Sequence[tf.Variable] | None
    train_op_fn: Callable[[tf.Tensor], tf.Operation] | None
    update_ops: Sequence[tf.Operation] | None
    regularization_losses: Sequence[tf.Tensor] | None

    def op(self, loss: tf.Tensor, reduction: LossReduction) -> tf.Operation:
        """Returns the op of one step, with `update_ops` run beside it.

        Raises:
            ConfigError: both or none of optimizer and train_op_fn are given.
        """
        if self.update_ops is not None and not isinstance(self.update_ops, list | tuple):
            raise ConfigError(
                f"A head's update_ops are invalid: expected a list, got {quote(self.update_ops)}.",
                reason=Reason.TYPE_MISMATCH,
            )
        if self.optimizer is not None and self.train_op_fn is None:
            step = optimizers.minimize(
                loss, self.optimizer, self.trainable_variables, reduction=reduction
            )
        elif self.train_op_fn is not None and self.optimizer is None:
            step = self.train_op_fn(loss)
        else:
            raise ConfigError(
                "A head needs either an optimizer or a train_op_fn to train, got "
                f"{'none' if self.optimizer is None else 'both'}. Give exactly one.",
                reason=Reason.CONFLICT if self.optimizer is not None else Reason.MISSING_VALUE,
            )
        return tf.group(step, *self.update_ops) if self.update_ops else step


class Head(abc.ABC):
    """Everything after the logits, as a model_fn and an eager user see it.

    A head of your own has what is abstract here, and `create_estimator_spec` if a ready-made
    model is to train with it.
    """

    @property
    @abc.abstractmethod
    def name(self) -> str | None:
        """Suffix of the metric keys, as in "accuracy/<name>", or None."""

    @property
    @abc.abstractmethod
    def loss_reduction(self) -> Reduction:
        """How the losses of a batch become one number; see `losses.LossReduction`."""

    @property
    @abc.abstractmethod
    def logits_dimension(self) -> int:
        """How many logits per example the head needs."""

    @abc.abstractmethod
    def loss(
        self,
        labels: Labels,
        logits: tf.Tensor,
        features: NamedFeatures | None = None,
        mode: str | None = None,
        regularization_losses: Sequence[tf.Tensor] | None = None,
    ) -> tf.Tensor:
        """Returns the training loss, a float32 scalar: reduced losses plus regularization.

        Args:
            labels: What the head expects; see the class.
            logits: float32 `[batch, logits_dimension]`.
            features: Holds the weights if there is a weight_column.
            mode: Not used; kept because heads of tf.estimator took it.
            regularization_losses: Scalars to add.

        Raises:
            DataError: shapes do not fit, or a label is outside its range.
        """

    @abc.abstractmethod
    def predictions(
        self, logits: tf.Tensor, keys: Sequence[Any] | None = None
    ) -> dict[Any, tf.Tensor]:
        """Returns predictions by key.

        Args:
            logits: float32 `[batch, logits_dimension]`.
            keys: Which ones; None means all.

        Raises:
            ConfigError: a key that this head does not have.
        """

    @abc.abstractmethod
    def metrics(self, regularization_losses: Sequence[tf.Tensor] | None = None) -> dict[str, Any]:
        """Returns fresh metrics by key, to be given to `update_metrics`."""

    @abc.abstractmethod
    def update_metrics(
        self,
        eval_metrics: dict[str, Any],
        features: NamedFeatures,
        logits: tf.Tensor,
        labels: Labels,
        regularization_losses: Sequence[tf.Tensor] | None = None,
    ) -> dict[str, Any]:
        """Adds a batch to `eval_metrics` (from `metrics`) and returns them."""

    def create_estimator_spec(
        self,
        features: NamedFeatures,
        mode: str,
        logits: tf.Tensor,
        labels: Labels = None,
        optimizer: OptimizerLike | None = None,
        trainable_variables: Sequence[tf.Variable] | None = None,
        train_op_fn: Callable[[tf.Tensor], tf.Operation] | None = None,
        update_ops: Sequence[tf.Operation] | None = None,
        regularization_losses: Sequence[tf.Tensor] | None = None,
    ) -> EstimatorSpec:
        """Returns the spec that a model_fn returns.

        Args:
            features: The model_fn's features; weights are read from them.
            mode: One of `ModeKeys`.
            logits: float32 `[batch, logits_dimension]`.
            labels: What the head expects; not needed in PREDICT.
            optimizer: Anything `optimizers.get` takes; or give train_op_fn.
            trainable_variables: What the optimizer updates; None means all of the model_fn's.
            train_op_fn: Makes the train op from the loss, instead of an optimizer.
            update_ops: Ops to run with each step, such as those of batch normalization.
            regularization_losses: Scalars added to the loss.

        Raises:
            ConfigError: both or none of optimizer and train_op_fn are given in TRAIN.
            DataError: shapes do not fit.
            NotImplementedError: a head of a user's does not have it.
        """
        training = Training(
            optimizer, trainable_variables, train_op_fn, update_ops, regularization_losses
        )
        return self._spec(features, mode, logits, labels, training)

    def _spec(
        self,
        features: NamedFeatures,
        mode: str,
        logits: tf.Tensor,
        labels: Labels,
        training: Training,
    ) -> EstimatorSpec:
        raise NotImplementedError(
            f"{type(self).__name__} has no create_estimator_spec. Write one: it returns the "
            "EstimatorSpec of a model_fn."
        )

    def export_outputs(self, predictions: Mapping[Any, tf.Tensor]) -> dict[str, ExportOutput]:
        """Returns the signatures for serving, "serving_default" and "predict" among them."""
        output = PredictOutput(predictions)
        return {DEFAULT_SIGNATURE: output, PREDICT_SIGNATURE: output}

    def calibrated(self, logits: tf.Tensor, mode: str) -> tf.Tensor:
        """Returns logits corrected by what `calibrations` says of this head, but in TRAIN."""
        found = (_calibrations.get() or {}).get(self.name)
        if found is None or mode == ModeKeys.TRAIN:
            return logits
        return found.scale * tf.convert_to_tensor(logits) + found.shift

    def _checked_logits(self, logits: tf.Tensor) -> tf.Tensor:
        """Returns logits as float32 `[..., logits_dimension]`, of rank 2 at least."""
        logits = tf.convert_to_tensor(logits)
        if logits.dtype != tf.float32:
            logits = tf.cast(logits, tf.float32)
        rank, size = logits.shape.rank, self.logits_dimension
        width = logits.shape[-1] if rank else None
        wrong = f"{type(self).__name__} got logits of a wrong shape: expected [..., {size}]"
        if rank in (0, 1) or width not in (None, size):
            raise BadValueError(
                f"{wrong} with the batch first, got {logits.shape}. Match the last layer.",
                reason=Reason.TYPE_MISMATCH,
            )
        if width is None:
            found = tf.shape(logits)
            logits = _if_true(tf.equal(found[-1], size), [f"{wrong}, got", found], logits)
            logits.set_shape([None, size] if rank is None else [*logits.shape[:-1], size])
        return logits

    def _needed_labels(self, labels: Labels, mode: str | None = None) -> None:
        if labels is None:
            where = "" if mode is None else f" in mode {mode!r}"
            raise DataError(
                f"{type(self).__name__} got no labels{where}. Return (features, labels) from "
                "input_fn.",
                reason=Reason.MISSING_VALUE,
            )

    def _key(self, key: str) -> str:
        return f"{key}/{self.name}" if self.name else key


class LabelHead(Head):
    """Base of the heads for one kind of label.

    Args:
        weight_column: Feature (or numeric column, whose normalizer_fn is applied) with the
            examples' weights; None means 1.
        loss_reduction: See `Head`.
        loss_fn: Instead of the head's own loss: takes labels, logits and, if it likes,
            features and loss_reduction, and returns `[batch, 1]` or `[batch, logits_dimension]`.
        name: See `Head`.
    """

    signatures: ClassVar[tuple[str, ...]] = ()
    """Signature names besides "predict", the default one first."""

    per_logit_weights: ClassVar[bool] = False
    """Whether an example may have one weight per logit."""

    def __init__(
        self,
        weight_column: WeightColumn = None,
        loss_reduction: Reduction = LossReduction.SUM_OVER_BATCH_SIZE,
        loss_fn: Callable[..., tf.Tensor] | None = None,
        name: str | None = None,
    ) -> None:
        own = type(self).__name__
        self._reduction = loss_library.reduction_of(loss_reduction)
        self._name = name
        # A numeric column, ours or of tf.feature_column, stands for its field.
        column = getattr(weight_column, "key", weight_column)
        if column is not None and not isinstance(column, str):
            expected = "a feature's name, a numeric column or None"
            raise refused(own, "weight_column", expected, weight_column, Reason.TYPE_MISMATCH)
        self._weight_column = column
        self._weight_normalizer = getattr(
            weight_column, "normalizer_fn", getattr(weight_column, "normalizer", None)
        )
        if self._weight_normalizer is not None and not callable(self._weight_normalizer):
            expected = "a normalizer_fn that is a function"
            raise refused(own, "weight_column", expected, self._weight_normalizer)
        self._loss_fn = _checked_loss_fn(own, loss_fn)

    @property
    def name(self) -> str | None:
        return self._name

    @property
    def loss_reduction(self) -> LossReduction:
        return self._reduction

    @property
    def weight_column(self) -> str | None:
        """Feature with the examples' weights, or None."""
        return self._weight_column

    # --- what a concrete head says -----------------------------------------------------------

    @abc.abstractmethod
    def _labels(self, labels: tf.Tensor) -> tf.Tensor:
        """Returns labels `[batch, n]` as numbers, checked."""

    @abc.abstractmethod
    def _losses(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Returns the unweighted loss per example."""

    def _loss_of(self, dtype: tf.DType) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        """Returns `_losses`, or what stands for it where labels were given as `dtype`."""
        del dtype
        return self._losses

    @abc.abstractmethod
    def _predictions(self, logits: tf.Tensor) -> dict[str, Callable[[], tf.Tensor]]:
        """Returns what computes each prediction, by key; each is computed only if asked for."""

    @abc.abstractmethod
    def _outputs(self, predictions: Mapping[str, tf.Tensor]) -> dict[str, ExportOutput]:
        """Returns the export outputs named in `signatures`."""

    @abc.abstractmethod
    def _new_metrics(self) -> dict[str, Any]:
        """Returns fresh metrics by key without the head's name."""

    @abc.abstractmethod
    def _update(self, sources: Mapping[str, Any], batch: Batch) -> None:
        """Adds a batch to the metrics' sources, by the sources' names."""

    # --- what everyone calls -----------------------------------------------------------------

    def loss(
        self,
        labels: Labels,
        logits: tf.Tensor,
        features: NamedFeatures | None = None,
        mode: str | None = None,
        regularization_losses: Sequence[tf.Tensor] | None = None,
    ) -> tf.Tensor:
        self._needed_labels(labels, mode)
        labels, logits, losses, weights = self._per_example(labels, logits, features or {})
        return _regularized(
            loss_library.reduce(losses, weights, self._reduction), regularization_losses
        )

    def predictions(
        self, logits: tf.Tensor, keys: Sequence[str] | None = None
    ) -> dict[str, tf.Tensor]:
        logits = self._checked_logits(logits)
        makers = self._predictions(_flat(logits))
        for key in keys or ():
            if key not in makers:
                raise ConfigError(
                    f"{type(self).__name__} has no prediction {quote(key)}."
                    + did_you_mean(key, makers),
                    reason=Reason.UNKNOWN_NAME,
                )
        if keys is None:
            # XLA has no texts, and trains without them.
            keys = [key for key in makers if key not in _TEXTS or not variables.for_xla()]
        with tf.name_scope("predictions"):
            return {key: _shaped(key, makers[key](), logits) for key in keys}

    def metrics(self, regularization_losses: Sequence[tf.Tensor] | None = None) -> dict[str, Any]:
        made = self._new_metrics()
        if regularization_losses:
            made["regularization_loss"] = metric_library.Mean("regularization_loss")
        return {self._key(key): metric for key, metric in made.items()}

    def update_metrics(
        self,
        eval_metrics: dict[str, Any],
        features: NamedFeatures,
        logits: tf.Tensor,
        labels: Labels,
        regularization_losses: Sequence[tf.Tensor] | None = None,
    ) -> dict[str, Any]:
        self._needed_labels(labels)
        batch = self._batch(labels, logits, features)
        return self._updated(eval_metrics, batch, regularization_losses)

    def _spec(
        self,
        features: NamedFeatures,
        mode: str,
        logits: tf.Tensor,
        labels: Labels,
        training: Training,
    ) -> EstimatorSpec:
        regularization_losses = training.regularization_losses
        with tf.name_scope(self._name or "head"):
            logits = self._checked_logits(self.calibrated(logits, mode))
            if mode == ModeKeys.PREDICT:
                predictions = self.predictions(logits)
                return EstimatorSpec(
                    mode=mode,
                    predictions=predictions,
                    export_outputs=self.export_outputs(predictions),
                )
            self._needed_labels(labels, mode)
            if mode == ModeKeys.EVAL:
                batch = self._batch(labels, logits, features)
                loss = loss_library.reduce(batch.losses, batch.weights, self._reduction)
                metrics = self.metrics(regularization_losses)
                return EstimatorSpec(
                    mode=mode,
                    predictions=_all_shaped(batch.predictions, logits),
                    loss=_regularized(loss, regularization_losses),
                    eval_metric_ops=self._updated(metrics, batch, regularization_losses),
                )
            loss = self.loss(labels, logits, features, mode, regularization_losses)
            summarize(loss, regularization_losses, self._key)
            return EstimatorSpec(
                mode=mode,
                predictions=self.predictions(logits),
                loss=loss,
                train_op=training.op(loss, self._reduction),
            )

    def labels_and_weights(
        self, labels: Labels, features: NamedFeatures
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Returns labels as numbers, `[batch, n]`, checked, and weights, None for 1.

        For a train_op that needs more than the gradient of the loss.
        """
        return self._labels(self._column_of(labels)), self._weights(features)

    # --- shared parts ------------------------------------------------------------------------

    def _batch(self, labels: Labels, logits: tf.Tensor, features: NamedFeatures) -> Batch:
        numbers, logits, losses, weights = self._per_example(labels, logits, features)
        return Batch(
            labels=numbers,
            logits=logits,
            losses=losses,
            weights=weights,
            predictions=self.predictions(logits),
        )

    def _per_example(
        self, labels: Labels, logits: tf.Tensor, features: NamedFeatures
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor | None]:
        """Returns labels as numbers, logits, losses and weights, each `[rows, n]`."""
        logits = self._checked_logits(logits)
        given = self._column_of(labels, logits)
        numbers = self._labels(_flat(given))
        if self._loss_fn is not None:
            losses = self._own_losses(numbers, logits, features)
        else:
            losses = self._loss_of(given.dtype)(numbers, _flat(logits))
        return numbers, _flat(logits), losses, self._weights(features, logits)

    def _own_losses(
        self, numbers: tf.Tensor, logits: tf.Tensor, features: NamedFeatures
    ) -> tf.Tensor:
        loss_fn = self._loss_fn
        assert loss_fn is not None  # noqa: S101 - the caller has looked
        losses = loss_fn(
            labels=_like(numbers, logits), logits=logits, features=features,
            loss_reduction=self._reduction,
        )  # fmt: skip
        widths = sorted({1, self.logits_dimension})
        fits = [losses.shape.is_compatible_with([*logits.shape[:-1], width]) for width in widths]
        if logits.shape.rank is not None and not any(fits):
            raise BadValueError(
                f"loss_fn of {type(self).__name__} returned a wrong shape: expected "
                f"{' or '.join(f'[batch, {width}]' for width in widths)}, got {losses.shape} for "
                f"logits {logits.shape}. Do not reduce it.",
                reason=Reason.TYPE_MISMATCH,
            )
        return _flat(losses)

    def _label_width(self) -> int:
        """How many labels per example there are."""
        return 1

    def _column_of(
        self, labels: Labels, logits: tf.Tensor | None = None
    ) -> tf.Tensor | tf.RaggedTensor:
        """Returns labels `[...]` as `[..., 1]`, and any others as they are.

        With `logits`, their shapes are compared as far as they are known.
        """
        if isinstance(labels, tf.SparseTensor | tf.RaggedTensor):
            raise DataError(
                f"{type(self).__name__} got labels that are no plain tensor: expected [batch] or "
                f"[batch, {self._label_width()}]. Use tf.sparse.to_dense in input_fn.",
                reason=Reason.TYPE_MISMATCH,
            )
        if isinstance(labels, Mapping):
            raise DataError(
                f"{type(self).__name__} got a dict of labels: expected one tensor. Pick one in "
                "input_fn, or use MultiHead.",
                reason=Reason.TYPE_MISMATCH,
            )
        column = tf.convert_to_tensor(labels)
        width, rank = self._label_width(), column.shape.rank
        wanted = 2 if logits is None else logits.shape.rank
        if rank is not None and rank + 1 == wanted and width == 1:
            column, rank = column[..., tf.newaxis], rank + 1
        if rank is None:
            return self._labels_of_any_rank(column, logits, width)
        outer = [None] * (rank - 1) if logits is None else logits.shape[:-1]
        if rank < 2 or not column.shape.is_compatible_with(tf.TensorShape([*outer, width])):
            raise BadValueError(
                f"{type(self).__name__} got labels of a wrong shape: expected "
                f"[batch, {width}], got {column.shape}"
                + ("" if logits is None else f" for logits {logits.shape}")
                + ". Reshape them in input_fn.",
                reason=Reason.TYPE_MISMATCH,
            )
        return column

    def _labels_of_any_rank(
        self, labels: tf.Tensor, logits: tf.Tensor | None, width: int
    ) -> tf.Tensor:
        if logits is None:
            return tf.ensure_shape(labels, (None, width))
        expected, found = tf.concat([tf.shape(logits)[:-1], [width]], 0), tf.shape(labels)
        said = [f"{type(self).__name__} got labels of a wrong shape: expected", expected, found]
        return tf.reshape(_if_true(_same_shape(expected, found), said, labels), expected)

    def _weights(
        self, features: NamedFeatures, logits: tf.Tensor | None = None
    ) -> tf.Tensor | None:
        """Returns weights `[rows, 1]` or, where the head allows it, one per logit."""
        if self._weight_column is None:
            return None
        if self._weight_column not in features:
            raise DataError(
                f"Weight feature {self._weight_column!r} is missing: weight_column names it."
                + did_you_mean(self._weight_column, features),
                reason=Reason.FIELD_MISSING,
            )
        given = tf.convert_to_tensor(features[self._weight_column])
        if given.shape.rank == 1:
            given = given[:, tf.newaxis]
        if self._weight_normalizer is not None:
            given = tf.convert_to_tensor(self._weight_normalizer(given))
        if not (given.dtype.is_floating or given.dtype.is_integer):
            raise DataError(
                f"Weight feature {self._weight_column!r} is no number: got {given.dtype.name}. "
                "Convert it in input_fn.",
                reason=Reason.TYPE_MISMATCH,
            )
        weights = tf.cast(given, tf.float32)
        if logits is None:
            return weights
        rank = logits.shape.rank
        if rank is not None and weights.shape.rank == rank - 1:
            weights = weights[..., tf.newaxis]
        widths = {1, self.logits_dimension} if self.per_logit_weights else {1}
        if rank is None or weights.shape.rank is None:
            return _flat(self._weights_of_any_rank(weights, logits, sorted(widths)))
        fits = [weights.shape.is_compatible_with([*logits.shape[:-1], w]) for w in widths]
        if not any(fits):
            raise BadValueError(
                f"Weight feature {self._weight_column!r} has a wrong shape: expected "
                f"{[*logits.shape[:-1], 1]}, got {given.shape}. Give one weight per example.",
                reason=Reason.TYPE_MISMATCH,
            )
        return _flat(weights)

    def _weights_of_any_rank(
        self, weights: tf.Tensor, logits: tf.Tensor, widths: Sequence[int]
    ) -> tf.Tensor:
        outer, found = tf.shape(logits)[:-1], tf.shape(weights)
        fits = [_same_shape(tf.concat([outer, [width]], 0), found) for width in widths]
        said = [f"Weight feature {self._weight_column} has a wrong shape: got", found,
                "for logits", tf.shape(logits)]  # fmt: skip
        weights = _if_true(tf.reduce_any(fits), said, weights)
        return tf.reshape(weights, tf.concat([outer, found[-1:]], 0))

    def _updated(
        self,
        metrics: dict[str, Any],
        batch: Batch,
        regularization_losses: Sequence[tf.Tensor] | None,
    ) -> dict[str, Any]:
        # Many metrics are views of few sources; each source takes the batch once.
        sources = {}
        for metric in metrics.values():
            source = getattr(metric, "source", metric)
            sources[source.name] = source
        self._update(sources, batch)
        if regularization_losses:
            metrics[self._key("regularization_loss")].update_state(
                tf.add_n([tf.convert_to_tensor(loss) for loss in regularization_losses])
            )
        return metrics

    def export_outputs(self, predictions: Mapping[Any, tf.Tensor]) -> dict[str, ExportOutput]:
        outputs = self._outputs(predictions)
        default = outputs[self.signatures[0]]
        return {
            DEFAULT_SIGNATURE: default,
            **outputs,
            PREDICT_SIGNATURE: PredictOutput(predictions),
        }


def _flat(
    values: Tensor,
) -> Tensor:
    """Returns `[..., n]` as `[rows, n]`."""
    if isinstance(values, tf.SparseTensor | tf.RaggedTensor) or values.shape.rank == 2:
        return values
    return tf.reshape(values, (-1, values.shape[-1] or tf.shape(values)[-1]))


def _like(rows: tf.Tensor | tf.RaggedTensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns `[rows, n]` as `[..., n]`, where `...` is that of the logits."""
    if logits.shape.rank == 2 or isinstance(rows, tf.SparseTensor | tf.RaggedTensor):
        return rows
    found = tf.reshape(rows, tf.concat([tf.shape(logits)[:-1], tf.shape(rows)[1:]], 0))
    if logits.shape.rank is not None:
        found.set_shape([*logits.shape[:-1], *rows.shape[1:]])
    return found


def _shaped(key: str, rows: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns a prediction of rows in the logits' shape; lists of all classes once per example."""
    if logits.shape.rank == 2:
        return rows
    return rows[: tf.shape(logits)[0]] if key.startswith("all_") else _like(rows, logits)


def _all_shaped(predictions: Mapping[str, tf.Tensor], logits: tf.Tensor) -> dict[str, tf.Tensor]:
    return {key: _shaped(key, rows, logits) for key, rows in predictions.items()}


def _same_shape(one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    return tf.cond(
        tf.equal(tf.size(one), tf.size(other)),
        lambda: tf.reduce_all(tf.equal(one, other)),
        lambda: tf.constant(value=False),
    )


def _if_true(condition: tf.Tensor, said: Sequence[object], value: tf.Tensor) -> tf.Tensor:
    """Returns `value`, computed only if `condition` is true; else what is `said` is the error."""
    with tf.control_dependencies(variables.require(condition, lambda: said)):
        return tf.identity(value)


def summarize(
    loss: tf.Tensor, regularization_losses: Sequence[tf.Tensor] | None, key: Callable[[str], str]
) -> None:
    """Adds summaries to a graph that a session runs; the training loop writes its own."""
    graph = tf.compat.v1.get_default_graph()
    if tf.executing_eagerly() or graph.building_function:
        return
    with graph.name_scope(None):
        tf.compat.v1.summary.scalar(key("loss"), loss)
        if regularization_losses:
            total = tf.add_n([tf.convert_to_tensor(part) for part in regularization_losses])
            tf.compat.v1.summary.scalar(key("regularization_loss"), total)


def checked(labels: tf.Tensor, good: tf.Tensor, head: str, expected: str) -> tf.Tensor:
    """Returns `labels`, computed only if all of them are good; else the error names some."""
    message = f"{head} got a label outside its range: expected {expected}, got"
    if tf.executing_eagerly():
        if not tf.reduce_all(good):
            values = quote(labels.numpy().ravel().tolist())
            raise BadValueError(
                f"{message} {values}. Correct the labels.", reason=Reason.LABEL_OUT_OF_RANGE
            )
        return labels
    if tf.get_static_value(tf.reduce_all(good)) is False:
        raise BadValueError(
            f"{message} others. Correct the labels.", reason=Reason.LABEL_OUT_OF_RANGE
        )
    said = [f"LabelError: {message}", labels]
    with tf.control_dependencies(variables.require(good, lambda: said)):
        return tf.identity(labels)


class LabelVocabulary:
    """Turns label texts into class ids and back.

    Args:
        vocabulary: The classes in the order of their ids; None, or `core.labels.ClassNames`, means
            labels are ids already.
        n_classes: How many classes there are.
        head: Named in errors.
    """

    def __init__(self, vocabulary: Sequence[str | bytes] | None, n_classes: int, head: str) -> None:
        self._head = head
        self.texts: list[str] | None = None
        self.n_classes = n_classes
        self._shared_table: tf.lookup.StaticHashTable | None = None
        self._of_ids = vocabulary is None or isinstance(vocabulary, ClassNames)
        if vocabulary is None:
            return
        if isinstance(vocabulary, str) or len(vocabulary) != n_classes:
            raise refused(head, "label_vocabulary", f"{n_classes} values", vocabulary)
        self.texts = [v.decode() if isinstance(v, bytes) else str(v) for v in vocabulary]

    def ids(self, labels: tf.Tensor) -> tf.Tensor:
        """Returns int64 ids; a text outside the vocabulary gets -1."""
        if self._of_ids:
            if labels.dtype == tf.string:
                raise DataError(
                    f"{self._head} got string labels: expected class ids. Give label_vocabulary.",
                    reason=Reason.TYPE_MISMATCH,
                )
            return labels if labels.dtype == tf.int64 else tf.cast(labels, tf.int64)
        if labels.dtype != tf.string:
            raise DataError(
                f"{self._head} got {labels.dtype.name} labels: expected strings, because "
                "label_vocabulary is given. Remove it, or give the texts.",
                reason=Reason.TYPE_MISMATCH,
            )
        return self._table().lookup(labels)

    def names(self) -> tf.Tensor:
        """Returns the classes by id, string `[n_classes]`."""
        return tf.constant(self.texts or [str(i) for i in range(self.n_classes)])

    def expected(self) -> str:
        """Says which labels are right."""
        if not self._of_ids:
            return f"one of {quote(self.texts)}"
        return f"an integer from 0 to {self.n_classes - 1}"

    def _table(self) -> tf.lookup.StaticHashTable:
        # A model_fn's table belongs to that trace, which keeps and exports it.
        if not variables.in_trace() and self._shared_table is not None:
            return self._shared_table
        with tf.init_scope():
            keys = tf.constant(self.texts)
            values = tf.range(self.n_classes, dtype=tf.int64)
            table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), -1)
        if not variables.in_trace():
            self._shared_table = table
        return table


def _regularized(loss: tf.Tensor, regularization_losses: Sequence[tf.Tensor] | None) -> tf.Tensor:
    if not regularization_losses:
        return loss
    return tf.add_n([loss, *(tf.convert_to_tensor(part) for part in regularization_losses)])


def _checked_loss_fn(
    head: str, loss_fn: Callable[..., tf.Tensor] | None
) -> Callable[..., tf.Tensor] | None:
    """Returns `loss_fn` taking four named arguments, of which it gets those it knows."""
    if loss_fn is None:
        return None
    parameters = inspect.signature(loss_fn).parameters
    takes_any = any(p.kind == p.VAR_KEYWORD for p in parameters.values())
    if not takes_any:
        for needed in ("labels", "logits"):
            if needed not in parameters:
                raise ConfigError(
                    f"{head}: loss_fn lacks the argument {needed!r}: expected "
                    f"(labels, logits[, features, loss_reduction]), got {list(parameters)}."
                )
        for other in parameters:
            if other not in ("labels", "logits", "features", "loss_reduction"):
                raise ConfigError(
                    f"{head}: loss_fn has the unknown argument {other!r}."
                    + did_you_mean(other, ("labels", "logits", "features", "loss_reduction")),
                    reason=Reason.UNKNOWN_NAME,
                )

    def call(**arguments: object) -> tf.Tensor:
        known = arguments if takes_any else {k: v for k, v in arguments.items() if k in parameters}
        return tf.convert_to_tensor(loss_fn(**known))

    return call
