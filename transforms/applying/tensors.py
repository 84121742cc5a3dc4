"""Raw fields as tensors: what `transform_fn` takes, and how a column becomes that."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf

from estimator_lib.features.missing import is_missing
from transforms.reading import records
from transforms.reading.lists import Lists

Tensors = tf.Tensor | tf.SparseTensor | tf.RaggedTensor
"""Values per row: one, or any number of them."""
DTYPES = {"string": tf.string, "int": tf.int64, "float": tf.float32}


def spec(kind: str) -> Any:
    """Returns the spec of a raw field: a tensor `[batch]`, of lists a SparseTensor `[batch, n]`.

    Args:
        kind: "string", "int" or "float"; "string[]" and the like for several values.
    """
    dtype = DTYPES[kind.removesuffix("[]")]
    if kind.endswith("[]"):
        return tf.SparseTensorSpec([None, None], dtype)
    return tf.TensorSpec([None], dtype)


def of_column(kind: str, column: pa.Array) -> Any:
    """Returns a raw field's column as such a tensor."""
    if not kind.endswith("[]"):
        return tf.constant(records.raw_numpy(kind, column), DTYPES[kind])
    lists = Lists.of(column)
    plain = kind.removesuffix("[]")
    flat = tf.constant(records.raw_numpy(plain, lists.values), DTYPES[plain])
    at = np.stack([lists.parents, np.arange(len(lists.values)) - lists.splits[lists.parents]], 1)
    shape = (len(column), int(lists.lengths.max(initial=0)))
    return tf.SparseTensor(at.reshape(-1, 2), flat, shape)


def as_sparse(values: tf.Tensor) -> Any:
    """Returns a tensor `[batch]` as a SparseTensor `[batch, 1]` without its missing values."""
    present = tf.logical_not(is_missing(values))
    rows = tf.where(present)
    at = tf.concat([rows, tf.zeros_like(rows)], 1)
    shape = tf.stack([tf.shape(values, tf.int64)[0], 1])
    return tf.SparseTensor(at, tf.boolean_mask(values, present), shape)
