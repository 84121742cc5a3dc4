"""Recurrent networks over sequences: RNNClassifier, RNNRegressor, RNNEstimator."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, TypeAlias

import keras
import tensorflow as tf

from estimator_lib import heads, optimizers, variables
from estimator_lib.canned import networks
from estimator_lib.core import columns as fc
from estimator_lib.core import constraints
from estimator_lib.core.errors import ConfigError, Reason
from estimator_lib.estimator import Estimator
from estimator_lib.features.dense import dense_features
from estimator_lib.features.sequences import check_sequences, sequence_features
from estimator_lib.losses import LossReduction
from estimator_lib.optimizers import OptimizerLike
from estimator_lib.protocols import Labels
from estimator_lib.specs import EstimatorSpec, ModeKeys
from estimator_lib.training.run_config import RunConfig

_RATE = 0.05
_CLIPNORM = 5.0
_CELLS = {
    "simple_rnn": keras.layers.SimpleRNNCell,
    "lstm": keras.layers.LSTMCell,
    "gru": keras.layers.GRUCell,
}
Cell: TypeAlias = keras.layers.Layer | Sequence[keras.layers.Layer]
CellType = (
    Annotated[str, constraints.one_of("simple_rnn", "lstm", "gru")]
    | Annotated[Callable[..., keras.layers.Layer], constraints.FUNCTION]
)
CellFn = Annotated[Callable[..., Cell], constraints.FUNCTION]


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

    @constraints.checked
    def __init__(
        self,
        head: networks.Head,
        sequence_feature_columns: networks.Columns,
        context_feature_columns: networks.Columns | None = None,
        units: constraints.Widths | constraints.Count | None = None,
        cell_type: CellType | None = None,
        rnn_cell_fn: CellFn | None = None,
        return_sequences: constraints.Switch = False,
        model_dir: str | None = None,
        optimizer: OptimizerLike = "Adagrad",
        config: RunConfig | None = None,
    ) -> None:
        model = type(self).__name__
        if return_sequences and not isinstance(head, heads.SequentialHead):
            head = heads.SequentialHead(head)
        sequences = networks.checked_columns(
            model, "sequence_feature_columns", sequence_feature_columns, dense=True, sequence=True
        )
        check_sequences(sequences)
        context: Sequence[fc.Column] = ()
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

        def model_fn(features: heads.NamedFeatures, labels: Labels, mode: str) -> EstimatorSpec:
            inputs, lengths = sequence_features(sequences, features)
            time = tf.shape(inputs)[1]
            if context:
                same = dense_features(context, features, scope="dense_features")[:, tf.newaxis]
                inputs = tf.concat([inputs, tf.tile(same, (1, time, 1))], 2)
            mask = tf.sequence_mask(lengths, time)
            with variables.scope("rnn_model"):
                layer = keras.layers.RNN(
                    make_cell(mode), return_sequences=return_sequences, name=name
                )
                net = layer(inputs, mask=mask, training=mode == ModeKeys.TRAIN)
                width = int(net.shape[-1])
                logits = networks.dense_layer(
                    tf.reshape(net, (-1, width)), head.logits_dimension, "logits"
                )
            if return_sequences and isinstance(head, heads.SequentialHead):
                logits = tf.reshape(logits, (-1, time, head.logits_dimension))
                features = {head.sequence_mask: mask, **features}
            return head.create_estimator_spec(features, mode, logits, labels, trainer)

        super().__init__(model_fn, model_dir, config)


class RNNClassifier(RNNEstimator):
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

    @constraints.checked
    def __init__(
        self,
        sequence_feature_columns: networks.Columns,
        context_feature_columns: networks.Columns | None = None,
        units: constraints.Widths | constraints.Count | None = None,
        cell_type: CellType | None = None,
        rnn_cell_fn: CellFn | None = None,
        return_sequences: constraints.Switch = False,
        model_dir: str | None = None,
        n_classes: constraints.Classes = 2,
        weight_column: heads.WeightColumn = None,
        label_vocabulary: Sequence[str] | None = None,
        optimizer: OptimizerLike = "Adagrad",
        loss_reduction: heads.Reduction = LossReduction.SUM_OVER_BATCH_SIZE,
        sequence_mask: constraints.Text = "sequence_mask",
        config: RunConfig | None = None,
        *,
        auc_thresholds: constraints.AucThresholds | None = None,
    ) -> None:
        head = networks.head_for_classes(
            n_classes, weight_column, label_vocabulary, loss_reduction=loss_reduction,
            auc_thresholds=auc_thresholds,
        )  # fmt: skip
        super().__init__(
            heads.SequentialHead(head, sequence_mask) if return_sequences else head,
            sequence_feature_columns, context_feature_columns, units, cell_type, rnn_cell_fn,
            return_sequences, model_dir, optimizer, config,
        )  # fmt: skip


class RNNRegressor(RNNEstimator):
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

    @constraints.checked
    def __init__(
        self,
        sequence_feature_columns: networks.Columns,
        context_feature_columns: networks.Columns | None = None,
        units: constraints.Widths | constraints.Count | None = None,
        cell_type: CellType | None = None,
        rnn_cell_fn: CellFn | None = None,
        return_sequences: constraints.Switch = False,
        model_dir: str | None = None,
        label_dimension: constraints.Count = 1,
        weight_column: heads.WeightColumn = None,
        optimizer: OptimizerLike = "Adagrad",
        loss_reduction: heads.Reduction = LossReduction.SUM_OVER_BATCH_SIZE,
        sequence_mask: constraints.Text = "sequence_mask",
        config: RunConfig | None = None,
    ) -> None:
        head = networks.head_for_numbers(
            label_dimension, weight_column, loss_reduction=loss_reduction
        )
        super().__init__(
            heads.SequentialHead(head, sequence_mask) if return_sequences else head,
            sequence_feature_columns, context_feature_columns, units, cell_type, rnn_cell_fn,
            return_sequences, model_dir, optimizer, config,
        )  # fmt: skip


def _cell_fn(
    model: str,
    units: constraints.Widths | constraints.Count | None,
    cell_type: CellType | None,
    rnn_cell_fn: CellFn | None,
) -> Callable[[str], Cell]:
    if rnn_cell_fn is not None:
        if units is not None or cell_type is not None:
            raise ConfigError(
                f"{model}: rnn_cell_fn is given beside units or cell_type. Give only one.",
                reason=Reason.CONFLICT,
            )
        given = rnn_cell_fn
        return given if inspect.signature(given).parameters else lambda _: given()
    if units is None:
        raise constraints.refused(model, "units", "a list of integers", None)
    widths = (units,) if isinstance(units, int) else tuple(units)
    kind = cell_type or "simple_rnn"

    def make(mode: str) -> Cell:
        del mode
        make_one = _CELLS[kind] if isinstance(kind, str) else kind
        cells = [make_one(units=width) for width in widths]
        return cells[0] if len(cells) == 1 else cells

    return make
