"""Multi-gate mixture of experts: several tasks over experts that each task mixes its own way.

References: Ma et al., Modeling task relationships in multi-task learning with multi-gate
mixture-of-experts, KDD 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from estimator_lib import heads, variables
from estimator_lib.canned import networks
from estimator_lib.core.errors import ConfigError, Reason, quote
from estimator_lib.estimator import Estimator
from estimator_lib.features.dense import dense_features
from estimator_lib.specs import EstimatorSpec, ModeKeys, compilable


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

    def __init__(
        self,
        head: Any,
        feature_columns: Sequence[Any],
        expert_units: Sequence[int] = (64,),
        experts: int = 4,
        tower_units: Sequence[int] = (32,),
        model_dir: str | None = None,
        optimizer: Any = "Adagrad",
        activation_fn: Any = tf.nn.relu,
        dropout: float | None = None,
        config: Any = None,
        warm_start_from: Any = None,
    ) -> None:
        model_fn = _model_fn(
            type(self).__name__, head, feature_columns, expert_units, experts, tower_units,
            optimizer, activation_fn, dropout,
        )  # fmt: skip
        super().__init__(model_fn, model_dir, config, None, warm_start_from)


def _model_fn(
    model: str,
    head: Any,
    feature_columns: Sequence[Any],
    expert_units: Sequence[int],
    experts: int,
    tower_units: Sequence[int],
    optimizer: Any,
    activation_fn: Any,
    dropout: float | None,
) -> Callable[..., EstimatorSpec]:
    if not isinstance(head, heads.MultiHead):
        raise ConfigError(
            f"{model}: argument head is invalid: expected a MultiHead, got {quote(head)}.",
            reason=Reason.TYPE_MISMATCH,
        )
    columns = networks.checked_columns(model, "feature_columns", feature_columns, dense=True)
    widths = networks.checked_units(model, "expert_units", expert_units)
    count = networks.checked_units(model, "experts", [experts])[0]
    towers = networks.checked_units(model, "tower_units", tower_units) if tower_units else ()
    rate = networks.checked_rate(model, "dropout", dropout)
    activation = networks.activation(activation_fn)
    rates = [networks.dnn_rates(part) for part in head.heads.values()]
    trainer = networks.optimizer(optimizer, min(rates, key=lambda r: r["Adagrad"]))

    @compilable
    def model_fn(features: Any, labels: Any, mode: str) -> EstimatorSpec:
        def layers(net: tf.Tensor, units: Sequence[int]) -> tf.Tensor:
            return networks.hidden_layers(
                net, units, activation_fn=activation, dropout_rate=rate,
                training=mode == ModeKeys.TRAIN,
            )[0]  # fmt: skip

        logits = {}
        with variables.scope("mmoe"):
            inputs = dense_features(columns, features)
            found = []
            for i in range(count):
                with variables.scope(f"expert_{i}"):
                    found.append(layers(inputs, widths))
            stacked = tf.stack(found, 1)
            for name, part in head.heads.items():
                with variables.scope(f"task_{name}"):
                    gate = tf.nn.softmax(networks.dense_layer(inputs, count, "gate"))
                    mixed = tf.reduce_sum(stacked * gate[:, :, tf.newaxis], 1)
                    net = layers(mixed, towers)
                    logits[name] = networks.dense_layer(net, part.logits_dimension, "logits")
        return head.create_estimator_spec(features, mode, logits, labels, trainer)

    return model_fn
