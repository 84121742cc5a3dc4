"""Conditions on a batch: assertions, but for a step compiled by XLA, which has none."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import tensorflow as tf

from estimator_lib.variables.tracing import current


def for_xla() -> bool:
    """Whether what is being traced now will be compiled by XLA, which lacks some operations."""
    now = current()
    return now is not None and now.xla


def require(
    condition: tf.Tensor, data: Callable[[], Sequence[str | tf.Tensor]]
) -> list[tf.Operation]:
    """Returns control dependencies that fail, and name `data`, where `condition` is false.

    XLA has no assertions: there the condition is noted in the trace, and whoever runs the
    compiled step looks at it.

    Args:
        condition: bool, of any shape.
        data: Makes the message's parts: texts and tensors.
    """
    now = current()
    if now is not None and now.xla:
        now.required.append(condition)
        return []
    good = tf.reduce_all(condition)
    if tf.executing_eagerly():
        tf.debugging.Assert(good, data(), summarize=20)
        return []
    # The bare op: tf.debugging.Assert wraps it in a conditional, which costs far more.
    parts = [tf.convert_to_tensor(part) for part in data()]
    return [tf.raw_ops.Assert(condition=good, data=parts, summarize=20)]


def requirements_met(required: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns whether all conditions of a trace are true, bool scalar."""
    by_shape: dict[tuple[int, ...], list[tf.Tensor]] = {(): [tf.constant(value=True)]}
    for condition in required:
        by_shape.setdefault(tuple(condition.shape), []).append(condition)
    # Conditions of one shape together make one kernel.
    each = [tf.reduce_all(functools.reduce(tf.logical_and, same)) for same in by_shape.values()]
    return functools.reduce(tf.logical_and, each)
