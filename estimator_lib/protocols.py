"""The types of what users' functions take and give.

Layer 0. To a type checker that knows no TensorFlow they say which form is meant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias, TypeVar

import numpy as np
import tensorflow as tf

Tensor: TypeAlias = tf.Tensor | tf.SparseTensor | tf.RaggedTensor
Features: TypeAlias = Tensor | Mapping[str, Tensor]
"""What a model reads: one tensor, or tensors by name, `[batch, ...]` each."""
Labels: TypeAlias = Features | None
Predictions: TypeAlias = tf.Tensor | Mapping[str, tf.Tensor]
Array: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.generic]]
Specs: TypeAlias = tf.TypeSpec | Mapping[str, tf.TypeSpec] | Sequence["Specs"]
"""The form of a dataset's elements, or of a part of them."""
InputFn: TypeAlias = Callable[..., object]
"""Gives a dataset of (features, labels), or one batch; see `inputs.datasets`."""
Path: TypeAlias = str | bytes

State = TypeVar("State")
"""Nested tensors that go through the steps of a loop."""


class Metric(Protocol):
    """What is computed over all batches of an evaluation, as Keras has it."""

    @property
    def variables(self) -> Sequence[tf.Variable]:
        """Its state."""

    def result(self) -> tf.Tensor:
        """Returns the value over everything added so far."""

    def reset_state(self) -> None:
        """Forgets everything added so far."""
