"""Deep and cross networks: explicit products of features beside a feed-forward network.

References: Wang et al., DCN V2, arXiv 2008.13535.
"""

from __future__ import annotations

import tensorflow as tf

from estimator_lib import heads, variables
from estimator_lib.canned import networks
from estimator_lib.core import constraints
from estimator_lib.estimator import Estimator
from estimator_lib.features.dense import dense_features
from estimator_lib.optimizers import OptimizerLike
from estimator_lib.protocols import Labels
from estimator_lib.specs import EstimatorSpec, ModeKeys, compilable
from estimator_lib.training.run_config import RunConfig


class DCNEstimator(Estimator):
    """Deep and cross network with any head.

    Args:
        head: Says what is predicted.
        feature_columns: Dense columns.
        hidden_units: Widths of the hidden layers of the deep part.
        model_dir: See `Estimator`.
        cross_layers: Depth of the cross part: products of up to cross_layers + 1 features.
        cross_rank: Rank of the cross matrices; None for full ones.
        optimizer: Name, instance, function or mapping; see `optimizers.get`.
        activation_fn: Of the hidden layers: a function or its name in `tf.nn`.
        dropout: Share of each hidden layer that is dropped in training.
        config: See `Estimator`.
        warm_start_from: See `Estimator`.
        batch_norm: Whether to normalize each hidden layer.
    """

    @constraints.checked
    def __init__(
        self,
        head: networks.Head,
        feature_columns: networks.Columns,
        hidden_units: constraints.Widths = (128, 64),
        model_dir: str | None = None,
        cross_layers: constraints.Count = 2,
        cross_rank: constraints.Count | None = None,
        optimizer: OptimizerLike = "Adagrad",
        activation_fn: constraints.Activation | None = tf.nn.relu,
        dropout: constraints.Share | None = None,
        config: RunConfig | None = None,
        warm_start_from: networks.WarmStart = None,
        batch_norm: constraints.Switch = False,
    ) -> None:
        columns = networks.dense_columns(type(self).__name__, feature_columns)
        units = tuple(hidden_units)
        activation = networks.activation(activation_fn)
        trainer = networks.optimizer(optimizer, networks.dnn_rates(head))

        @compilable
        def model_fn(features: heads.NamedFeatures, labels: Labels, mode: str) -> EstimatorSpec:
            with variables.scope("dcn"):
                first = dense_features(columns, features)
                crossed = first
                for i in range(cross_layers):
                    crossed = cross_layer(first, crossed, f"cross_{i}", cross_rank)
                deep, updates = networks.hidden_layers(
                    first,
                    units,
                    activation_fn=activation,
                    dropout_rate=dropout,
                    with_batch_norm=batch_norm,
                    training=mode == ModeKeys.TRAIN,
                )
                logits = networks.dense_layer(
                    tf.concat([crossed, deep], 1), head.logits_dimension, "logits"
                )
            return head.create_estimator_spec(
                features, mode, logits, labels, trainer, update_ops=updates
            )

        super().__init__(model_fn, model_dir, config, None, warm_start_from)


@networks.for_classes
class DCNClassifier(DCNEstimator):
    """Deep and cross network for classes.

    Takes the arguments of `DCNEstimator` without head; after model_dir n_classes, weight_column
    and label_vocabulary, and by name loss_reduction and auc_thresholds, which
    `networks.head_for_classes` explains.
    """


@networks.for_numbers
class DCNRegressor(DCNEstimator):
    """Deep and cross network for numbers.

    Takes the arguments of `DCNEstimator` without head; after model_dir label_dimension and
    weight_column, and by name loss_reduction, which `networks.head_for_numbers` explains.
    """


def cross_layer(first: tf.Tensor, inputs: tf.Tensor, name: str, rank: int | None) -> tf.Tensor:
    """Returns first * (inputs @ W + b) + inputs, float32 `[batch, width]`.

    Args:
        first: The features, `[batch, width]`.
        inputs: The last cross layer's output, or `first` again.
        name: Scope of the variables.
        rank: W is a product of matrices of this rank; None for a full W.
    """
    width = int(first.shape[-1])
    if rank is None:
        return first * networks.dense_layer(inputs, width, name) + inputs
    with variables.scope(name):
        down = variables.get_variable("down", (width, rank), initializer=networks.glorot_uniform)
    return first * networks.dense_layer(tf.matmul(inputs, down), width, name) + inputs
