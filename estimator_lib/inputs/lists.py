"""Several values per row as numpy arrays, indexed like an array of rows.

Layer 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

Array = np.ndarray[Any, Any]

LIST = "[]"
"""Ends the name of a dtype where a row has several values of it."""


class Lists:
    """Rows of any number of values.

    Args:
        values: All values, one row's after the other, `[n]`.
        splits: int64 `[rows + 1]`: row i has `values[splits[i]:splits[i + 1]]`.
    """

    def __init__(self, values: Array, splits: Array) -> None:
        self.values = values
        self.splits = splits

    def __len__(self) -> int:
        return len(self.splits) - 1

    def __getitem__(self, rows: slice | Array) -> Lists:
        """Returns some rows, copied: a slice without step, or positions `[m]`."""
        if isinstance(rows, slice):
            first, last, _ = rows.indices(len(self))
            splits = self.splits[first : max(first, last) + 1]
            return Lists(self.values[splits[0] : splits[-1]].copy(), splits - splits[0])
        lengths = np.diff(self.splits)[rows]
        splits = np.concatenate([[0], np.cumsum(lengths)])
        at = np.arange(splits[-1]) + np.repeat(self.splits[rows] - splits[:-1], lengths)
        return Lists(self.values[at], splits)

    def copy(self) -> Lists:
        """Returns the rows in memory of their own."""
        return Lists(self.values.copy(), self.splits.copy())


def concatenate(parts: list[Any]) -> Any:
    """Returns the rows of several arrays, or of several Lists, one after the other."""
    if not isinstance(parts[0], Lists):
        return np.concatenate(parts)
    ends = np.cumsum([0, *(part.splits[-1] for part in parts)])
    splits = [part.splits[1:] + end for part, end in zip(parts, ends[:-1], strict=True)]
    return Lists(np.concatenate([p.values for p in parts]), np.concatenate([[0], *splits]))


def side_by_side(columns: Sequence[Any]) -> Any:
    """Returns columns `[n]`, arrays or tensors or specs of them, as one of `[n, columns]`."""
    first = columns[0]
    if isinstance(first, tf.TensorSpec):
        return tf.TensorSpec([*first.shape, len(columns)], first.dtype)
    return (tf if tf.is_tensor(first) else np).stack(columns, axis=1)


def batches(
    blocks: Iterable[Mapping[str, Any]], size: int, *, drop_remainder: bool
) -> Iterator[dict[str, Any]]:
    """Yields the rows of blocks in batches of `size`, which may span blocks."""
    rest: dict[str, Any] | None = None
    for block in blocks:
        given = block if rest is None else {n: concatenate([rest[n], block[n]]) for n in block}
        rows = len(next(iter(given.values())))
        whole = rows - rows % size
        for first in range(0, whole, size):
            yield {name: array[first : first + size] for name, array in given.items()}
        rest = {name: array[whole:] for name, array in given.items()} if whole < rows else None
    if rest is not None and not drop_remainder:
        yield rest


def spec(dtype: str) -> Any:
    """Returns the TensorSpec `[None]` of a column, or the RaggedTensorSpec `[None, None]`."""
    plain = tf.as_dtype(dtype.removesuffix(LIST))
    if dtype.endswith(LIST):
        return tf.RaggedTensorSpec([None, None], plain, ragged_rank=1, row_splits_dtype=tf.int64)
    return tf.TensorSpec([None], plain)


def flat_specs(specs: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the specs of what `flat` gives."""
    found: dict[str, Any] = {}
    for name, one in specs.items():
        if isinstance(one, tf.RaggedTensorSpec):
            values, splits = tf.TensorSpec([None], one.dtype), tf.TensorSpec([None], tf.int64)
            found[name] = (values, splits)
        else:
            found[name] = one
    return found


def flat(block: Mapping[str, Any]) -> dict[str, Any]:
    """Returns Lists as pairs of arrays, which tf.data can take from a generator."""
    return {n: (a.values, a.splits) if isinstance(a, Lists) else a for n, a in block.items()}


def ragged(block: Mapping[str, Any]) -> dict[str, Any]:
    """Returns pairs of tensors as RaggedTensors: the inverse of `flat`, within tf.data."""
    return {
        name: tf.RaggedTensor.from_row_splits(*value, validate=False)
        if isinstance(value, tuple)
        else value
        for name, value in block.items()
    }
