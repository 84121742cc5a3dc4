"""Recurrent networks over sequences: RNNClassifier, RNNRegressor, RNNEstimator."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from estimator_lib import heads, optimizers, variables
from estimator_lib.canned import networks
from estimator_lib.core.errors import ConfigError, Reason, did_you_mean, quote
from estimator_lib.estimator import Estimator
from estimator_lib.features.dense import dense_features
from estimator_lib.features.sequences import check_sequences, sequence_features
from estimator_lib.losses import LossReduction
from estimator_lib.specs import EstimatorSpec, ModeKeys

_RATE = 0.05
_CLIPNORM = 5.0
_CELLS: dict[str, Any] = {
    "simple_rnn": keras.layers.SimpleRNNCell,
    "lstm": keras.layers.LSTMCell,
    "gru": keras.layers.GRUCell,
}


class RNNEstimator(Estimator):
    """A recurrent network with any head.

    Context columns are the same at every position, beside the sequence columns. With a name
    only, the optimizer gets a learning rate of 0.05 and a clipnorm of 5, as in tf.estimator.

    Args:
        head: Says what is predicted: per example, or per position with return_sequences
            (any head is wrapped in a SequentialHead then, unless it is one).
        sequence_feature_columns: Dense sequence columns.
        context_feature_columns: Dense columns of one value per example.
        units: Widths of the recurrent layers, from the input on; or the width of one.
        cell_type: "simple_rnn" (if None), "lstm", "gru", or a function of the width that makes a
            Keras cell.
        rnn_cell_fn: Makes a Keras cell or a list of them, instead of units and cell_type; it
            may have an argument, which is the mode.
        return_sequences: Whether to predict at every position.
        model_dir: See `Estimator`.
        optimizer: Name, instance, function or mapping; see `optimizers.get`.
        config: See `Estimator`.
    """

    def __init__(
        self,
        head: Any,
        sequence_feature_columns: Sequence[Any],
        context_feature_columns: Sequence[Any] | None = None,
        units: Sequence[int] | int | None = None,
        cell_type: Any = None,
        rnn_cell_fn: Callable[..., Any] | None = None,
        return_sequences: bool = False,
        model_dir: str | None = None,
        optimizer: Any = "Adagrad",
        config: Any = None,
    ) -> None:
        model_fn = _model_fn(
            type(self).__name__, head, sequence_feature_columns, context_feature_columns, units,
            cell_type, rnn_cell_fn, return_sequences, optimizer, "sequence_mask",
        )  # fmt: skip
        super().__init__(model_fn, model_dir, config)


class RNNClassifier(Estimator):
    """A recurrent network for classes; see `RNNEstimator`.

    Args:
        sequence_feature_columns: Dense sequence columns.
        context_feature_columns: Dense columns of one value per example.
        units: Widths of the recurrent layers, from the input on; or the width of one.
        cell_type: "simple_rnn" (if None), "lstm", "gru", or a function of the width that makes a
            Keras cell.
        rnn_cell_fn: Makes a Keras cell or a list of them, instead of units and cell_type; it
            may have an argument, which is the mode.
        return_sequences: Whether to predict at every position.
        model_dir: See `Estimator`.
        n_classes: 2 or more.
        weight_column: Feature with the weights, one per position with return_sequences.
        label_vocabulary: Texts of the classes, if labels are texts.
        optimizer: Name, instance, function or mapping; see `optimizers.get`.
        loss_reduction: See `losses.LossReduction`.
        sequence_mask: Name of the mask among the predictions with return_sequences.
        config: See `Estimator`.
        auc_thresholds: See `BinaryClassHead`.
    """

    def __init__(
        self,
        sequence_feature_columns: Sequence[Any],
        context_feature_columns: Sequence[Any] | None = None,
        units: Sequence[int] | int | None = None,
        cell_type: Any = None,
        rnn_cell_fn: Callable[..., Any] | None = None,
        return_sequences: bool = False,
        model_dir: str | None = None,
        n_classes: int = 2,
        weight_column: Any = None,
        label_vocabulary: Sequence[Any] | None = None,
        optimizer: Any = "Adagrad",
        loss_reduction: Any = LossReduction.SUM_OVER_BATCH_SIZE,
        sequence_mask: str = "sequence_mask",
        config: Any = None,
        *,
        auc_thresholds: int | None = None,
    ) -> None:
        head = networks.head_for_classes(
            n_classes, weight_column, label_vocabulary, loss_reduction, auc_thresholds
        )
        model_fn = _model_fn(
            type(self).__name__, head, sequence_feature_columns, context_feature_columns, units,
            cell_type, rnn_cell_fn, return_sequences, optimizer, sequence_mask,
        )  # fmt: skip
        super().__init__(model_fn, model_dir, config)


class RNNRegressor(Estimator):
    """A recurrent network for numbers; see `RNNEstimator`.

    Args:
        sequence_feature_columns: Dense sequence columns.
        context_feature_columns: Dense columns of one value per example.
        units: Widths of the recurrent layers, from the input on; or the width of one.
        cell_type: "simple_rnn" (if None), "lstm", "gru", or a function of the width that makes a
            Keras cell.
        rnn_cell_fn: Makes a Keras cell or a list of them, instead of units and cell_type; it
            may have an argument, which is the mode.
        return_sequences: Whether to predict at every position.
        model_dir: See `Estimator`.
        label_dimension: Numbers per example, or per position with return_sequences.
        weight_column: Feature with the weights, one per position with return_sequences.
        optimizer: Name, instance, function or mapping; see `optimizers.get`.
        loss_reduction: See `losses.LossReduction`.
        sequence_mask: Name of the mask among the predictions with return_sequences.
        config: See `Estimator`.
    """

    def __init__(
        self,
        sequence_feature_columns: Sequence[Any],
        context_feature_columns: Sequence[Any] | None = None,
        units: Sequence[int] | int | None = None,
        cell_type: Any = None,
        rnn_cell_fn: Callable[..., Any] | None = None,
        return_sequences: bool = False,
        model_dir: str | None = None,
        label_dimension: int = 1,
        weight_column: Any = None,
        optimizer: Any = "Adagrad",
        loss_reduction: Any = LossReduction.SUM_OVER_BATCH_SIZE,
        sequence_mask: str = "sequence_mask",
        config: Any = None,
    ) -> None:
        head = networks.head_for_numbers(label_dimension, weight_column, loss_reduction)
        model_fn = _model_fn(
            type(self).__name__, head, sequence_feature_columns, context_feature_columns, units,
            cell_type, rnn_cell_fn, return_sequences, optimizer, sequence_mask,
        )  # fmt: skip
        super().__init__(model_fn, model_dir, config)


def _model_fn(
    model: str,
    head: Any,
    sequence_feature_columns: Sequence[Any],
    context_feature_columns: Sequence[Any] | None,
    units: Sequence[int] | int | None,
    cell_type: Any,
    rnn_cell_fn: Callable[..., Any] | None,
    return_sequences: bool,
    optimizer: Any,
    sequence_mask: str,
) -> Callable[..., EstimatorSpec]:
    head = networks.checked_head(model, head)
    if return_sequences and not isinstance(head, heads.SequentialHead):
        head = heads.SequentialHead(head, sequence_mask)
    argument = "sequence_feature_columns"
    sequences = networks.checked_columns(
        model, argument, sequence_feature_columns, dense=True, sequence=True
    )
    check_sequences(sequences)
    context = ()
    if context_feature_columns:
        context = networks.checked_columns(
            model, "context_feature_columns", context_feature_columns, dense=True
        )
    make_cell = _cell_fn(model, units, cell_type, rnn_cell_fn)
    # tf.estimator took Keras's layer where it could, and variables are named after the layer.
    name = cell_type if isinstance(units, int) and isinstance(cell_type, str) else "rnn"
    if isinstance(optimizer, str):
        optimizer = {"name": optimizer, "learning_rate": _RATE, "clipnorm": _CLIPNORM}
    trainer = optimizers.get(optimizer) if isinstance(optimizer, dict) else optimizer

    def model_fn(features: Any, labels: Any, mode: str) -> EstimatorSpec:
        inputs, lengths = sequence_features(sequences, features)
        time = tf.shape(inputs)[1]
        if context:
            same = dense_features(context, features, scope="dense_features")[:, tf.newaxis]
            inputs = tf.concat([inputs, tf.tile(same, (1, time, 1))], 2)
        mask = tf.sequence_mask(lengths, time)
        with variables.scope("rnn_model"):
            layer = keras.layers.RNN(make_cell(mode), return_sequences=return_sequences, name=name)
            net = layer(inputs, mask=mask, training=mode == ModeKeys.TRAIN)
            width = int(net.shape[-1])
            logits = networks.dense_layer(
                tf.reshape(net, (-1, width)), head.logits_dimension, "logits"
            )
        if return_sequences:
            logits = tf.reshape(logits, (-1, time, head.logits_dimension))
            features = {head.sequence_mask: mask, **features}
        return head.create_estimator_spec(features, mode, logits, labels, trainer)

    return model_fn


def _cell_fn(
    model: str,
    units: Sequence[int] | int | None,
    cell_type: Any,
    rnn_cell_fn: Callable[..., Any] | None,
) -> Callable[[str], Any]:
    if rnn_cell_fn is not None:
        if units is not None or cell_type is not None:
            raise ConfigError(
                f"{model}: rnn_cell_fn is given beside units or cell_type. Give only one.",
                reason=Reason.CONFLICT,
            )
        given = rnn_cell_fn
        return given if inspect.signature(given).parameters else lambda _: given()
    widths = networks.checked_units(model, "units", [units] if isinstance(units, int) else units)
    kind = cell_type or "simple_rnn"
    if not callable(kind) and kind not in _CELLS:
        raise ConfigError(
            f"{model}: argument cell_type is invalid: expected one of {sorted(_CELLS)} or a "
            f"function that makes a cell, got {quote(cell_type)}."
            + did_you_mean(str(cell_type), _CELLS),
            reason=Reason.UNKNOWN_NAME,
        )

    def make(mode: str) -> Any:
        del mode
        cells = [_CELLS.get(kind, kind)(units=width) for width in widths]
        return cells[0] if len(cells) == 1 else cells

    return make
