"""Multi-gate mixture of experts: several tasks over experts that each task mixes its own way.

References: Ma et al., Modeling task relationships in multi-task learning with multi-gate
mixture-of-experts, KDD 2018.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from estimator_lib import heads, variables
from estimator_lib.canned import networks
from estimator_lib.core import constraints
from estimator_lib.core.errors import Reason
from estimator_lib.estimator import Estimator
from estimator_lib.features.dense import dense_features
from estimator_lib.optimizers import OptimizerLike
from estimator_lib.protocols import Labels
from estimator_lib.specs import EstimatorSpec, ModeKeys, compilable
from estimator_lib.training.run_config import RunConfig


class MMoEEstimator(Estimator):
    """Multi-task network: each head has a gate over shared experts, and a tower of its own.

    Args:
        head: A MultiHead with one head per task.
        feature_columns: Dense columns.
        expert_units: Widths of the hidden layers of each expert.
        experts: How many experts.
        tower_units: Widths of the hidden layers of each task; () for none.
        model_dir: See `Estimator`.
        optimizer: Name, instance, function or mapping; see `optimizers.get`.
        activation_fn: Of the hidden layers: a function or its name in `tf.nn`.
        dropout: Share of each hidden layer that is dropped in training.
        config: See `Estimator`.
        warm_start_from: See `Estimator`.
    """

    @constraints.checked
    def __init__(
        self,
        head: heads.Head,
        feature_columns: networks.Columns,
        expert_units: constraints.Widths = (64,),
        experts: constraints.Count = 4,
        tower_units: constraints.AnyWidths = (32,),
        model_dir: str | None = None,
        optimizer: OptimizerLike = "Adagrad",
        activation_fn: constraints.Activation | None = tf.nn.relu,
        dropout: constraints.Share | None = None,
        config: RunConfig | None = None,
        warm_start_from: networks.WarmStart = None,
    ) -> None:
        if not isinstance(head, heads.MultiHead):
            raise constraints.refused(
                type(self).__name__, "head", "a MultiHead", head, Reason.TYPE_MISMATCH
            )
        columns = networks.dense_columns(type(self).__name__, feature_columns)
        widths, towers = tuple(expert_units), tuple(tower_units)
        activation = networks.activation(activation_fn)
        rates = [networks.dnn_rates(part) for part in head.heads.values()]
        trainer = networks.optimizer(optimizer, min(rates, key=lambda r: r["Adagrad"]))

        @compilable
        def model_fn(features: heads.NamedFeatures, labels: Labels, mode: str) -> EstimatorSpec:
            def layers(net: tf.Tensor, units: Sequence[int]) -> tf.Tensor:
                return networks.hidden_layers(
                    net, units, activation_fn=activation, dropout_rate=dropout,
                    training=mode == ModeKeys.TRAIN,
                )[0]  # fmt: skip

            logits = {}
            with variables.scope("mmoe"):
                inputs = dense_features(columns, features)
                found = []
                for i in range(experts):
                    with variables.scope(f"expert_{i}"):
                        found.append(layers(inputs, widths))
                stacked = tf.stack(found, 1)
                for name, part in head.heads.items():
                    with variables.scope(f"task_{name}"):
                        gate = tf.nn.softmax(networks.dense_layer(inputs, experts, "gate"))
                        mixed = tf.reduce_sum(stacked * gate[:, :, tf.newaxis], 1)
                        net = layers(mixed, towers)
                        logits[name] = networks.dense_layer(net, part.logits_dimension, "logits")
            return head.create_estimator_spec(features, mode, logits, labels, trainer)

        super().__init__(model_fn, model_dir, config, None, warm_start_from)
