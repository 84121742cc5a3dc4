"""TabM: many small networks trained side by side, sharing most of their weights.

Every member has the shared kernels between two vectors of its own, and an output layer of its
own. Members are trained on their own losses; their probabilities (or numbers) are averaged.

References: Gorishniy et al., TabM, arXiv 2410.24210; Wen et al., BatchEnsemble, arXiv
2002.06715.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from estimator_lib import heads, variables
from estimator_lib.canned import networks
from estimator_lib.core import constraints
from estimator_lib.estimator import Estimator
from estimator_lib.features.dense import dense_features
from estimator_lib.optimizers import OptimizerLike
from estimator_lib.protocols import Labels, Tensor
from estimator_lib.specs import EstimatorSpec, ModeKeys, compilable
from estimator_lib.training.run_config import RunConfig

_RATE = 0.002
"""Adam's learning rate where none is given: the paper's."""


class TabMEstimator(Estimator):
    """Networks side by side with any head.

    Args:
        head: Says what is predicted.
        feature_columns: Dense columns.
        hidden_units: Widths of the hidden layers.
        model_dir: See `Estimator`.
        members: How many networks; the cost of a step grows with it.
        optimizer: Name, instance, function or mapping; see `optimizers.get`.
        activation_fn: Of the hidden layers: a function or its name in `tf.nn`.
        dropout: Share of each hidden layer that is dropped in training.
        config: See `Estimator`.
        warm_start_from: See `Estimator`.
    """

    @constraints.checked
    def __init__(
        self,
        head: networks.Head,
        feature_columns: networks.Columns,
        hidden_units: constraints.Widths = (128, 64),
        model_dir: str | None = None,
        members: constraints.Count = 16,
        optimizer: OptimizerLike = "Adam",
        activation_fn: constraints.Activation | None = tf.nn.relu,
        dropout: constraints.Share | None = None,
        config: RunConfig | None = None,
        warm_start_from: networks.WarmStart = None,
    ) -> None:
        columns = networks.dense_columns(type(self).__name__, feature_columns)
        units = tuple(hidden_units)
        activation = networks.activation(activation_fn)
        trainer = networks.optimizer(optimizer, {"Adam": _RATE, **networks.dnn_rates(head)})

        @compilable
        def model_fn(features: heads.NamedFeatures, labels: Labels, mode: str) -> EstimatorSpec:
            training = mode == ModeKeys.TRAIN
            with variables.scope("tabm"):
                net = tf.repeat(dense_features(columns, features)[:, tf.newaxis], members, axis=1)
                for i, width in enumerate(units):
                    net = ensemble_layer(net, width, f"hiddenlayer_{i}", activation, i == 0)
                    net = networks.dropout(net, dropout, training)
                with variables.scope("logits"):
                    shape = (members, int(net.shape[2]), head.logits_dimension)
                    kernel = variables.get_variable("kernel", shape, initializer=_glorot_each)
                    bias = variables.get_variable("bias", shape[::2], initializer=0.0)
                    logits = tf.einsum("bmi,mio->bmo", net, kernel) + bias
            if not training:
                return head.create_estimator_spec(
                    features, mode, mean_logits(head, logits), labels, trainer
                )
            flat = tf.reshape(logits, (-1, head.logits_dimension))
            rows = tf.repeat(tf.range(tf.shape(logits)[0]), members)
            return head.create_estimator_spec(
                {key: _rows(value, rows) for key, value in features.items()},
                mode, flat, _labels(labels, rows), trainer,
            )  # fmt: skip

        super().__init__(model_fn, model_dir, config, None, warm_start_from)


@networks.for_classes
class TabMClassifier(TabMEstimator):
    """Networks side by side for classes.

    Takes the arguments of `TabMEstimator` without head; after model_dir n_classes, weight_column
    and label_vocabulary, and by name loss_reduction and auc_thresholds, which
    `networks.head_for_classes` explains.
    """


@networks.for_numbers
class TabMRegressor(TabMEstimator):
    """Networks side by side for numbers.

    Takes the arguments of `TabMEstimator` without head; after model_dir label_dimension and
    weight_column, and by name loss_reduction, which `networks.head_for_numbers` explains.
    """


def ensemble_layer(
    inputs: tf.Tensor,
    units: int,
    name: str,
    activation: Callable[[tf.Tensor], tf.Tensor] | None,
    first: bool,
) -> tf.Tensor:
    """Returns activation(((inputs * before) @ kernel) * after + bias), for each member.

    Args:
        inputs: float32 `[batch, members, width]`.
        units: Width of the output.
        name: Scope of the variables.
        activation: None for none.
        first: Whether the members start apart (signs at random), else alike.
    """
    members, width = int(inputs.shape[1]), int(inputs.shape[2])
    with variables.scope(name):
        before = variables.get_variable(
            "before", (members, width), initializer=_signs if first else 1.0
        )
        kernel = variables.get_variable(
            "kernel", (width, units), initializer=networks.glorot_uniform
        )
        after = variables.get_variable("after", (members, units), initializer=1.0)
        bias = variables.get_variable("bias", (members, units), initializer=0.0)
        flat = tf.reshape(inputs * before, (-1, width))
        product = tf.reshape(networks.product(flat, kernel), (-1, members, units))
        outputs = product * after + bias
        return activation(outputs) if activation is not None else outputs


def mean_logits(head: heads.Head, logits: tf.Tensor) -> tf.Tensor:
    """Returns logits whose prediction is the mean of the members' predictions.

    Args:
        head: Says what the logits are.
        logits: float32 `[batch, members, logits_dimension]`.

    Returns:
        float32 `[batch, logits_dimension]`.
    """
    count = math.log(int(logits.shape[1]))
    if isinstance(head, heads.MultiHead):
        sizes = [part.logits_dimension for part in head.heads.values()]
        parts = zip(head.heads.values(), tf.split(logits, sizes, axis=2), strict=True)
        return tf.concat([mean_logits(part, own) for part, own in parts], 1)
    if isinstance(
        head, heads.BinaryClassHead | heads.MultiLabelHead | heads.LogisticRegressionHead
    ):
        yes = tf.reduce_logsumexp(tf.math.log_sigmoid(logits), 1)
        return yes - tf.reduce_logsumexp(tf.math.log_sigmoid(-logits), 1)
    if isinstance(head, heads.MultiClassHead):
        return tf.reduce_logsumexp(tf.nn.log_softmax(logits), 1) - count
    if isinstance(head, heads.PoissonRegressionHead | heads.TweedieRegressionHead):
        return tf.reduce_logsumexp(logits, 1) - count
    return tf.reduce_mean(logits, 1)


def _signs(shape: Sequence[int], dtype: tf.DType = tf.float32) -> tf.Tensor:
    return tf.where(tf.random.uniform(shape) < 0.5, tf.cast(-1, dtype), tf.cast(1, dtype))


def _glorot_each(shape: Sequence[int], dtype: tf.DType = tf.float32) -> tf.Tensor:
    limit = math.sqrt(6.0 / (shape[1] + shape[2]))
    return tf.random.uniform(shape, -limit, limit, dtype)


def _labels(labels: Labels, rows: tf.Tensor) -> Labels:
    if isinstance(labels, Mapping):
        return {key: _rows(value, rows) for key, value in labels.items()}
    return None if labels is None else _rows(labels, rows)


def _rows(values: Tensor, rows: tf.Tensor) -> Tensor:
    """Returns every row of a feature or label as often as there are members."""
    if isinstance(values, tf.SparseTensor):
        values = tf.RaggedTensor.from_sparse(values)
    return tf.gather(values, rows)
