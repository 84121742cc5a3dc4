"""Integers that are ids already.

Layer 2.
"""

from __future__ import annotations

import tensorflow as tf

from estimator_lib import variables
from estimator_lib.core import columns as fc
from estimator_lib.features import _lowering as lowering
from estimator_lib.features._lowering import Batch, Features, Ids
from estimator_lib.features.missing import is_missing


@lowering.ids.register
def _ids(column: fc.IdentityColumn, batch: Batch) -> Ids:
    values = batch.integers(column, column.key)
    present = tf.logical_not(is_missing(values)) & (values != -1)
    inside = (values >= 0) & (values < column.buckets)
    if column.default_value is not None:
        return tf.where(inside, values, column.default_value), present
    message = (
        f"Column {column.name!r} read an id outside its range: expected 0 to "
        f"{column.buckets - 1}, or -1 for missing, got"
    )
    checks = variables.require(
        inside | ~present,
        lambda: [message, tf.boolean_mask(values, ~inside & present)],
    )
    with tf.control_dependencies(checks):
        return tf.identity(values), present


@lowering.given.register
def _given(column: fc.IdentityColumn, features: Features) -> tf.Tensor | None:
    """Returns plain ids as they are, or None when there is more to do."""
    if column.default_value is not None or column.key not in features:
        return None
    value = features[column.key]
    if isinstance(value, tf.SparseTensor | tf.RaggedTensor):
        return None
    value = tf.convert_to_tensor(value)
    if not value.dtype.is_integer or not value.shape.rank:
        return None
    if value.shape.rank == 2 and value.shape[1] == 1:
        value = tf.squeeze(value, 1)
    return tf.cast(lowering.listed(value), tf.int64)
