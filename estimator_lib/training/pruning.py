"""Functions that compute their results and nothing else, as a session does.

Layer 3. A `tf.function` also runs operations that change state and that no result waits for: a
train_op that a model_fn makes in every mode would train in every mode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import tensorflow as tf

from estimator_lib import variables
from estimator_lib.protocols import Metric

Result = TypeVar("Result")


def only_results(function: Callable[..., Result]) -> Callable[..., Result]:
    """Returns a function that computes what `function` returns, and what that waits for."""

    def call(*arguments: object) -> Result:
        flat = tf.nest.flatten(arguments, expand_composites=True)
        given = [part for part in flat if part is not None]
        made: list[Result] = []

        def inner(*tensors: tf.Tensor) -> list[tf.Tensor]:
            parts = iter(tensors)
            packed = [None if part is None else next(parts) for part in flat]
            made[:] = [
                function(*tf.nest.pack_sequence_as(arguments, packed, expand_composites=True))
            ]
            return tf.nest.flatten(made[0], expand_composites=True)

        signature = [tf.TensorSpec(part.shape, part.dtype) for part in given]
        wrapped = tf.compat.v1.wrap_function(inner, signature)
        return tf.nest.pack_sequence_as(made[0], wrapped(*given), expand_composites=True)

    return call


def writes(metrics: Iterable[Metric]) -> list[tf.Operation]:
    """Returns the operations of the graph being traced that write the variables of metrics."""
    graph = tf.compat.v1.get_default_graph()
    own = {id(variables.raw(v).handle) for metric in metrics for v in metric.variables}
    handles = {internal.op for external, internal in graph.captures if id(external) in own}
    return [
        operation
        for operation in graph.get_operations()
        if operation.type.startswith(("Assign", "ResourceScatter"))
        and operation.inputs[0].op in handles
    ]
