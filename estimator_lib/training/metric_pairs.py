"""Metrics given as pairs (value, update op): the value is read after all updates.

Layer 3. In the contract of tf.estimator all updates run with each batch, and the values are read
once in the end. What a model_fn computed as a value may have read its variables before they were
updated, so it is computed again from the reads on.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

_READS = frozenset(("ReadVariableOp", "ResourceGather", "ResourceGatherNd"))


def latest(
    value: tf.Tensor | tf.Variable, updates: Sequence[tf.Operation | tf.Tensor]
) -> tf.Tensor:
    """Returns `value` as it is once `updates` have run.

    What follows from reads of variables is computed anew in the same graph; what does not (the
    features of the batch, random numbers, results of other stateful operations) is used as it is.

    Args:
        value: A tensor, or what can be one.
        updates: Operations or tensors of the same graph.
    """
    tensor = tf.convert_to_tensor(value)
    if tf.executing_eagerly() or not updates:
        return tensor
    graph = tf.compat.v1.get_default_graph()
    if tensor.graph is not graph:
        return tensor
    with tf.control_dependencies(updates):
        return _again(tensor, graph)


def _again(tensor: tf.Tensor, graph: tf.Graph) -> tf.Tensor:
    copies: dict[tf.Operation, tf.Operation] = {}
    for operation in _operations_before(tensor.op):
        inputs = [copies.get(source.op, source.op).outputs[source.value_index]
                  for source in operation.inputs]  # fmt: skip
        changed = any(source.op in copies for source in operation.inputs)
        reads = operation.type in _READS
        if not reads and (not changed or operation.op_def.is_stateful):
            continue
        attributes = {key: operation.node_def.attr[key] for key in operation.node_def.attr}
        copies[operation] = graph.create_op(
            operation.type,
            inputs,
            [output.dtype for output in operation.outputs],
            attrs=attributes,
            name=operation.name.rsplit("/", 1)[-1],
        )
    return copies.get(tensor.op, tensor.op).outputs[tensor.value_index]


def _operations_before(operation: tf.Operation) -> list[tf.Operation]:
    """Returns the operations that feed `operation`, itself last, each after its inputs."""
    found: dict[tf.Operation, None] = {}
    waiting = [(operation, False)]
    while waiting:
        current, expanded = waiting.pop()
        if current in found:
            continue
        if expanded:
            found[current] = None
            continue
        waiting.append((current, True))
        waiting.extend((source.op, False) for source in current.inputs if source.op not in found)
    return list(found)
