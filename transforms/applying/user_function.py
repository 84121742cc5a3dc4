"""A user's own preprocessing_fn, learned: applied before the columns.

The function takes every field as a SparseTensor `[batch, n]` of string, int64 or float32, as
tensorflow-transform gives optional features: a missing value is absent. What it returns are
fields, which columns may read, or features as they are. `function_learning` makes it.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf

from estimator_lib.core.columns import MISSING_INT
from estimator_lib.core.errors import ConfigError, DataError, Reason
from estimator_lib.core.values import Logical
from transforms.applying import tensors
from transforms.reading.lists import Lists


@dataclasses.dataclass(frozen=True, kw_only=True)
class Derived:
    """What a learned function makes of rows.

    Attributes:
        directory: What tensorflow-transform wrote.
        inputs: Raw field -> type.
        outputs: Field it gives -> type.
        digest: Equal for equal functions that learned from equal rows.
        logical: What the texts are that it was given.
    """

    directory: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    digest: str
    logical: Mapping[str, Logical]

    def apply(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        """Returns the outputs for the rows, null = missing.

        Raises:
            DataError: a text is not UTF-8.
        """
        graph = user_graph(self.directory, tuple(sorted(self.inputs.items())))
        raw = {n: tensors.of_column(kind, batch.column(n)) for n, kind in self.inputs.items()}
        return {n: _column(n, self.outputs[n], value) for n, value in graph(raw).items()}


class UserGraph(tf.Module):  # type: ignore[misc, unused-ignore]
    """The learned function on raw tensors, as `graph.TransformModule` takes them.

    Args:
        directory: What tensorflow-transform wrote.
        inputs: Raw field -> type.
    """

    def __init__(self, directory: str, inputs: Mapping[str, str]) -> None:
        super().__init__(name="user_function")
        self._inputs = dict(inputs)
        self.learned = tf.saved_model.load(os.path.join(directory, "transform_fn"))

    def __call__(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the function's outputs."""
        given = {
            name: raw[name] if kind.endswith("[]") else tensors.as_sparse(raw[name])
            for name, kind in self._inputs.items()
        }
        return dict(self.learned.transform_fn(given))

    def outputs(self) -> dict[str, str]:
        """Returns what the function gives: name -> type, "string[]" and the like for lists.

        Raises:
            ConfigError: an output is of a type that no field has.
        """
        specs = {n: tensors.spec(kind) for n, kind in sorted(self._inputs.items())}
        traced = tf.function(self.__call__, autograph=False).get_concrete_function(specs)
        return {n: _kind(n, out) for n, out in sorted(traced.structured_outputs.items())}


@functools.lru_cache(maxsize=2)
def user_graph(directory: str, inputs: tuple[tuple[str, str], ...]) -> UserGraph:
    """Returns the function that was written to a directory, loaded once per process."""
    return UserGraph(directory, dict(inputs))


def _kind(name: str, output: Any) -> str:
    dtype = output.dtype
    base = "string" if dtype == tf.string else "float" if dtype.is_floating else "int"
    if dtype != tf.string and not (dtype.is_floating or dtype.is_integer or dtype.is_bool):
        raise ConfigError(
            f"preprocess.function gives {name!r} as {dtype.name}: expected texts or numbers. "
            "Cast it.",
            reason=Reason.TYPE_MISMATCH,
        )
    several = isinstance(output, tf.SparseTensor | tf.RaggedTensor)
    several |= not several and output.shape.rank == 2 and output.shape[1] != 1
    return f"{base}[]" if several else base


def _column(name: str, kind: str, value: tensors.Tensors) -> pa.Array:
    """An output as a column of its field; sentinels become null."""
    base = kind.removesuffix("[]")
    if isinstance(value, tf.SparseTensor):
        value = tf.RaggedTensor.from_sparse(value)
    if isinstance(value, tf.RaggedTensor):
        lists = Lists(_flat(name, base, value.flat_values), value.row_splits.numpy())
        return lists.without_missing_ends().to_arrow()
    if kind.endswith("[]"):
        rows, width = value.shape
        lists = Lists(_flat(name, base, tf.reshape(value, [-1])), np.arange(rows + 1) * width)
        return lists.without_missing_ends().to_arrow()
    return _flat(name, base, tf.reshape(value, [-1]))


def _flat(name: str, base: str, value: tf.Tensor) -> pa.Array:
    values = value.numpy()
    if base == "float":
        return pa.array(values.astype(np.float64), mask=np.isnan(values))
    if base == "int":
        values = values.astype(np.int64)
        return pa.array(values, mask=values == MISSING_INT)
    try:
        return pa.array(values, pa.binary(), mask=values == b"").cast(pa.string())
    except pa.ArrowInvalid as error:
        raise DataError(
            f"preprocess.function gives {name!r} bytes that are no text: expected UTF-8. "
            "Encode the values.",
            reason=Reason.ENCODING,
        ) from error
