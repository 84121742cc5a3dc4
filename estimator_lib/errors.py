"""Errors that are also TensorFlow's, which programs written for tf.estimator catch.

Layer 1. `core.errors` has the others; it does not know TensorFlow.
"""

from __future__ import annotations

from typing import ClassVar

import tensorflow as tf

from estimator_lib.core.errors import CheckpointError, DataError, Reason


class _OfTensorFlow:
    """What TensorFlow's errors keep and ours have no operation for."""

    message: str = ""
    op: None = None
    node_def: None = None
    experimental_payloads: ClassVar[dict[str, bytes]] = {}

    def __str__(self) -> str:
        return self.message


class BadValueError(_OfTensorFlow, DataError, tf.errors.InvalidArgumentError):
    """A value of the input is outside its range, or of a shape that does not fit."""


class NotSavedError(_OfTensorFlow, CheckpointError, tf.errors.NotFoundError):
    """A checkpoint does not hold what is asked for."""

    default_reason = Reason.UNKNOWN_NAME
