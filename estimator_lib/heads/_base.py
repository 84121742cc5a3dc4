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
from typing import Any, ClassVar

import tensorflow as tf

from estimator_lib import losses as loss_library
from estimator_lib import metrics as metric_library
from estimator_lib import optimizers, variables
from estimator_lib.core import columns as fc
from estimator_lib.core.errors import ConfigError, DataError, Reason, did_you_mean, quote
from estimator_lib.core.labels import ClassNames
from estimator_lib.export.outputs import ExportOutput, PredictOutput
from estimator_lib.losses import LossReduction
from estimator_lib.specs import DEFAULT_SIGNATURE, EstimatorSpec, ModeKeys

PREDICT_SIGNATURE = "predict"
_TEXTS = ("classes", "all_classes")
CLASSIFICATION_SIGNATURE = "classification"
REGRESSION_SIGNATURE = "regression"


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


class Head(abc.ABC):
    """Everything after the logits, as a model_fn and an eager user see it.

    Args:
        loss_reduction: Of the weighted losses of a batch; see `losses.LossReduction`.
        name: Suffix of all metric keys, as in "accuracy/<name>".
    """

    def __init__(self, loss_reduction: Any, name: str | None) -> None:
        self._reduction = loss_library.reduction_of(loss_reduction)
        self._name = name

    @property
    def name(self) -> str | None:
        """Suffix of the metric keys, or None."""
        return self._name

    @property
    def loss_reduction(self) -> LossReduction:
        """How the losses of a batch become one number."""
        return self._reduction

    @property
    @abc.abstractmethod
    def logits_dimension(self) -> int:
        """How many logits per example the head needs."""

    @abc.abstractmethod
    def loss(
        self,
        labels: Any,
        logits: Any,
        features: Mapping[str, Any] | None = None,
        mode: str | None = None,
        regularization_losses: Sequence[Any] | None = None,
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
    def predictions(self, logits: Any, keys: Sequence[Any] | None = None) -> dict[Any, tf.Tensor]:
        """Returns predictions by key.

        Args:
            logits: float32 `[batch, logits_dimension]`.
            keys: Which ones; None means all.

        Raises:
            ConfigError: a key that this head does not have.
        """

    @abc.abstractmethod
    def metrics(self, regularization_losses: Sequence[Any] | None = None) -> dict[str, Any]:
        """Returns fresh metrics by key, to be given to `update_metrics`."""

    @abc.abstractmethod
    def update_metrics(
        self,
        eval_metrics: dict[str, Any],
        features: Mapping[str, Any],
        logits: Any,
        labels: Any,
        regularization_losses: Sequence[Any] | None = None,
    ) -> dict[str, Any]:
        """Adds a batch to `eval_metrics` (from `metrics`) and returns them."""

    @abc.abstractmethod
    def create_estimator_spec(
        self,
        features: Mapping[str, Any],
        mode: str,
        logits: Any,
        labels: Any = None,
        optimizer: Any = None,
        trainable_variables: Sequence[Any] | None = None,
        train_op_fn: Callable[[tf.Tensor], Any] | None = None,
        update_ops: Sequence[Any] | None = None,
        regularization_losses: Sequence[Any] | None = None,
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
        """

    @abc.abstractmethod
    def export_outputs(self, predictions: Mapping[Any, tf.Tensor]) -> dict[str, ExportOutput]:
        """Returns the signatures for serving, "serving_default" and "predict" among them."""

    def calibrated(self, logits: Any, mode: str) -> Any:
        """Returns logits corrected by what `calibrations` says of this head, but in TRAIN."""
        found = (_calibrations.get() or {}).get(self._name)
        if found is None or mode == ModeKeys.TRAIN:
            return logits
        return found.scale * tf.convert_to_tensor(logits) + found.shift

    def _checked_logits(self, logits: Any) -> tf.Tensor:
        logits = tf.convert_to_tensor(logits)
        if logits.dtype != tf.float32:
            logits = tf.cast(logits, tf.float32)
        width = logits.shape[-1] if logits.shape.rank else None
        if logits.shape.rank != 2 or width not in (None, self.logits_dimension):
            raise DataError(
                f"{type(self).__name__} got logits of a wrong shape: expected "
                f"[batch, {self.logits_dimension}], got {logits.shape}. Match the last layer.",
                reason=Reason.TYPE_MISMATCH,
            )
        return logits

    def _needed_labels(self, labels: Any, mode: str) -> None:
        if labels is None:
            raise DataError(
                f"{type(self).__name__} got no labels in mode {mode!r}. Return (features, labels) "
                "from input_fn.",
                reason=Reason.MISSING_VALUE,
            )

    def _key(self, key: str) -> str:
        return f"{key}/{self._name}" if self._name else key

    def _invalid(self, argument: str, expected: str, got: object) -> ConfigError:
        return ConfigError(
            f"{type(self).__name__}: argument {argument} is invalid: expected {expected}, got "
            f"{quote(got)}.",
            reason=Reason.INVALID_VALUE,
        )


class LabelHead(Head):
    """Base of the heads for one kind of label.

    Args:
        weight_column: Feature (or numeric column) with the examples' weights; None means 1.
        loss_reduction: See `Head`.
        loss_fn: Instead of the head's own loss: takes labels, logits and, if it likes,
            features and loss_reduction, and returns `[batch, 1]` or `[batch, logits_dimension]`.
        name: See `Head`.
    """

    signatures: ClassVar[tuple[str, ...]] = ()
    """Signature names besides "predict", the default one first."""

    def __init__(
        self,
        weight_column: str | fc.NumericColumn | None = None,
        loss_reduction: Any = LossReduction.SUM_OVER_BATCH_SIZE,
        loss_fn: Callable[..., tf.Tensor] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(loss_reduction, name)
        # A numeric column, ours or of tf.feature_column, stands for its field.
        column = getattr(weight_column, "key", weight_column)
        if column is not None and not isinstance(column, str):
            raise self._invalid("weight_column", "a feature's name or None", weight_column)
        self._weight_column = column
        self._loss_fn = _checked_loss_fn(type(self).__name__, loss_fn)

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

    def _loss_of(self, dtype: Any) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
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
        labels: Any,
        logits: Any,
        features: Mapping[str, Any] | None = None,
        mode: str | None = None,
        regularization_losses: Sequence[Any] | None = None,
    ) -> tf.Tensor:
        del mode
        labels, logits, losses, weights = self._per_example(labels, logits, features or {})
        return _regularized(
            loss_library.reduce(losses, weights, self._reduction), regularization_losses
        )

    def predictions(self, logits: Any, keys: Sequence[str] | None = None) -> dict[str, tf.Tensor]:
        makers = self._predictions(self._checked_logits(logits))
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
            return {key: makers[key]() for key in keys}

    def metrics(self, regularization_losses: Sequence[Any] | None = None) -> dict[str, Any]:
        made = self._new_metrics()
        if regularization_losses:
            made["regularization_loss"] = metric_library.Mean("regularization_loss")
        return {self._key(key): metric for key, metric in made.items()}

    def update_metrics(
        self,
        eval_metrics: dict[str, Any],
        features: Mapping[str, Any],
        logits: Any,
        labels: Any,
        regularization_losses: Sequence[Any] | None = None,
    ) -> dict[str, Any]:
        batch = self._batch(labels, logits, features)
        return self._updated(eval_metrics, batch, regularization_losses)

    def create_estimator_spec(
        self,
        features: Mapping[str, Any],
        mode: str,
        logits: Any,
        labels: Any = None,
        optimizer: Any = None,
        trainable_variables: Sequence[Any] | None = None,
        train_op_fn: Callable[[tf.Tensor], Any] | None = None,
        update_ops: Sequence[Any] | None = None,
        regularization_losses: Sequence[Any] | None = None,
    ) -> EstimatorSpec:
        with tf.name_scope(self._name or "head"):
            logits = self.calibrated(logits, mode)
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
                    predictions=dict(batch.predictions),
                    loss=_regularized(loss, regularization_losses),
                    eval_metric_ops=self._updated(metrics, batch, regularization_losses),
                )
            loss = self.loss(labels, logits, features, mode, regularization_losses)
            return EstimatorSpec(
                mode=mode,
                predictions=self.predictions(logits),
                loss=loss,
                train_op=train_op(
                    loss, optimizer, trainable_variables, train_op_fn, update_ops, self._reduction
                ),
            )

    def labels_and_weights(
        self, labels: Any, features: Mapping[str, Any]
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Returns labels as numbers, `[batch, n]`, checked, and weights, None for 1.

        For a train_op that needs more than the gradient of the loss.
        """
        return self._labels(self._column_of(labels)), self._weights(features)

    # --- shared parts ------------------------------------------------------------------------

    def _batch(self, labels: Any, logits: Any, features: Mapping[str, Any]) -> Batch:
        numbers, logits, losses, weights = self._per_example(labels, logits, features)
        return Batch(
            labels=numbers,
            logits=logits,
            losses=losses,
            weights=weights,
            predictions=self.predictions(logits),
        )

    def _per_example(
        self, labels: Any, logits: Any, features: Mapping[str, Any]
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor | None]:
        logits = self._checked_logits(logits)
        given = self._column_of(labels)
        numbers = self._labels(given)
        if self._loss_fn is not None:
            losses = self._loss_fn(
                labels=numbers, logits=logits, features=features, loss_reduction=self._reduction
            )
            if losses.shape.rank != 2:
                raise DataError(
                    f"loss_fn of {type(self).__name__} returned a wrong shape: expected "
                    f"[batch, 1] or [batch, {self.logits_dimension}], got {losses.shape}. Do not "
                    "reduce it.",
                    reason=Reason.TYPE_MISMATCH,
                )
        else:
            losses = self._loss_of(given.dtype)(numbers, logits)
        return numbers, logits, losses, self._weights(features)

    def _label_width(self) -> int:
        """How many labels per example there are."""
        return 1

    def _column_of(self, labels: Any) -> Any:
        """Returns labels `[batch]` as `[batch, 1]`, and any others as they are."""
        if isinstance(labels, tf.SparseTensor | tf.RaggedTensor):
            return labels
        if isinstance(labels, Mapping):
            raise DataError(
                f"{type(self).__name__} got a dict of labels: expected one tensor. Pick one in "
                "input_fn, or use MultiHead.",
                reason=Reason.TYPE_MISMATCH,
            )
        labels = tf.convert_to_tensor(labels)
        if labels.shape.rank == 1 and self._label_width() == 1:
            return labels[:, tf.newaxis]
        if labels.shape.rank != 2 or labels.shape[1] not in (None, self._label_width()):
            raise DataError(
                f"{type(self).__name__} got labels of a wrong shape: expected "
                f"[batch, {self._label_width()}], got {labels.shape}. Reshape them in input_fn.",
                reason=Reason.TYPE_MISMATCH,
            )
        return labels

    def _weights(self, features: Mapping[str, Any]) -> tf.Tensor | None:
        if self._weight_column is None:
            return None
        if self._weight_column not in features:
            raise DataError(
                f"Weight feature {self._weight_column!r} is missing: weight_column names it."
                + did_you_mean(self._weight_column, features),
                reason=Reason.FIELD_MISSING,
            )
        weights = tf.cast(tf.convert_to_tensor(features[self._weight_column]), tf.float32)
        return weights[:, tf.newaxis] if weights.shape.rank == 1 else weights

    def _updated(
        self, metrics: dict[str, Any], batch: Batch, regularization_losses: Sequence[Any] | None
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


def train_op(
    loss: tf.Tensor,
    optimizer: Any,
    trainable_variables: Sequence[Any] | None,
    train_op_fn: Callable[[tf.Tensor], Any] | None,
    update_ops: Sequence[Any] | None,
    reduction: LossReduction,
) -> Any:
    """Returns the op of one step, with `update_ops` run beside it.

    Raises:
        ConfigError: both or none of optimizer and train_op_fn are given.
    """
    if (optimizer is None) == (train_op_fn is None):
        raise ConfigError(
            "A head needs either an optimizer or a train_op_fn to train, got "
            f"{'none' if optimizer is None else 'both'}. Give exactly one.",
            reason=Reason.CONFLICT if optimizer is not None else Reason.MISSING_VALUE,
        )
    if train_op_fn is not None:
        step = train_op_fn(loss)
    else:
        step = optimizers.minimize(loss, optimizer, trainable_variables, reduction=reduction)
    return tf.group(step, *update_ops) if update_ops else step


def checked(labels: tf.Tensor, good: tf.Tensor, head: str, expected: str) -> tf.Tensor:
    """Returns `labels`, computed only if all of them are good; else the error names some."""
    message = f"{head} got a label outside its range: expected {expected}, got"
    if tf.executing_eagerly():
        if not tf.reduce_all(good):
            values = quote(labels.numpy().ravel().tolist())
            raise DataError(
                f"{message} {values}. Correct the labels.", reason=Reason.LABEL_OUT_OF_RANGE
            )
        return labels
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

    def __init__(self, vocabulary: Sequence[Any] | None, n_classes: int, head: str) -> None:
        self._head = head
        self.texts: list[str] | None = None
        self.n_classes = n_classes
        self._shared_table: Any = None
        self._of_ids = vocabulary is None or isinstance(vocabulary, ClassNames)
        if vocabulary is None:
            return
        if isinstance(vocabulary, str) or len(vocabulary) != n_classes:
            raise ConfigError(
                f"{head}: argument label_vocabulary is invalid: expected {n_classes} values, got "
                f"{quote(vocabulary)}.",
                reason=Reason.INVALID_VALUE,
            )
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

    def _table(self) -> Any:
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


def checked_thresholds(head: str, thresholds: Sequence[float] | None) -> tuple[float, ...]:
    """Returns the thresholds, all strictly between 0 and 1."""
    for threshold in thresholds or ():
        if not 0 < threshold < 1:
            raise ConfigError(
                f"{head}: argument thresholds is invalid: expected numbers in (0, 1), got "
                f"{quote(threshold)}.",
                reason=Reason.INVALID_VALUE,
            )
    return tuple(float(t) for t in thresholds or ())


def _regularized(loss: tf.Tensor, regularization_losses: Sequence[Any] | None) -> tf.Tensor:
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
                    f"(labels, logits[, features, loss_reduction]), got {list(parameters)}.",
                    reason=Reason.INVALID_VALUE,
                )
        for other in parameters:
            if other not in ("labels", "logits", "features", "loss_reduction"):
                raise ConfigError(
                    f"{head}: loss_fn has the unknown argument {other!r}."
                    + did_you_mean(other, ("labels", "logits", "features", "loss_reduction")),
                    reason=Reason.UNKNOWN_NAME,
                )

    def call(**arguments: Any) -> tf.Tensor:
        known = arguments if takes_any else {k: v for k, v in arguments.items() if k in parameters}
        return tf.convert_to_tensor(loss_fn(**known))

    return call
