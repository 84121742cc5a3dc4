"""Values, and combinations of values, hashed into a fixed number of ids.

Layer 2. Hash buckets and crosses have the fingerprints of `tf.feature_column`; a value of a
cross is the one `tf.feature_column` computes on features parsed with `make_parse_example_spec`
(its dense inputs are crossed in another order, which crosses made by `tf.feature_column` itself
keep: see `upstream.FedCrossedColumn`).
"""

from __future__ import annotations

import functools

import tensorflow as tf

from estimator_lib.core import columns as fc
from estimator_lib.features import _lowering as lowering
from estimator_lib.features._lowering import Batch, Ids
from estimator_lib.features.missing import is_missing
from estimator_lib.features.upstream import FedCrossedColumn

_CROSS_HASH_KEY = 0xDECAFCAFFE
"""What tf.feature_column hashes crosses with when no hash_key is given."""

_Leaf = str | fc.CategoricalColumn


@lowering.ids.register
def _hashed(column: fc.HashedColumn, batch: Batch) -> Ids:
    if column.dtype == "string":
        text = values = batch.texts(column, column.key)
        present = tf.logical_not(is_missing(values))
    else:
        values = batch.integers(column, column.key)
        present = tf.logical_not(is_missing(values)) & (values != -1)
        text = tf.strings.as_string(values)
    return tf.strings.to_hash_bucket_fast(text, column.hash_bucket_size), present


@lowering.ids.register
def _crossed(column: fc.CrossedColumn, batch: Batch) -> Ids:
    leaves = _leaves(column)
    if isinstance(column, FedCrossedColumn):
        leaves.sort(key=lambda leaf: _is_fed_dense(leaf, batch))
    parts = [_cross_part(column, key, batch) for key in leaves]
    count = tf.shape(parts[0][0])[0]
    rows = [tf.reshape(values, (count, -1)) for values, _ in parts]
    _, ids, _ = tf.raw_ops.SparseCross(
        indices=[],
        values=[],
        shapes=[],
        dense_inputs=rows,
        hashed_output=True,
        num_buckets=column.hash_bucket_size,
        hash_key=column.hash_key or _CROSS_HASH_KEY,
        out_type=tf.int64,
        internal_type=tf.int64 if any(r.dtype == tf.int64 for r in rows) else tf.string,
    )
    if all(values.shape.rank == 1 for values, _ in parts):
        present = functools.reduce(tf.logical_and, [present for _, present in parts])
        return tf.reshape(ids, tf.shape(present)), present
    # All combinations of the parts' values, the last part's varying fastest.
    present = tf.reshape(parts[0][1], (count, -1))
    for _, more in parts[1:]:
        pairs = present[:, :, tf.newaxis] & tf.reshape(more, (count, 1, -1))
        present = tf.reshape(pairs, (count, tf.size(pairs) // tf.maximum(count, 1)))
    return tf.reshape(ids, tf.shape(present)), present


def _cross_part(column: fc.CrossedColumn, key: _Leaf, batch: Batch) -> Ids:
    if isinstance(key, fc.CategoricalColumn):
        return batch.ids(key)
    values = lowering.listed(batch.field(column, key))
    if values.dtype != tf.string:
        if not values.dtype.is_integer:
            raise lowering.wrong_type(column, key, "string or an integer", values)
        values = tf.cast(values, tf.int64)
    if isinstance(column, FedCrossedColumn) and _is_fed_dense(key, batch):
        return values, tf.ones_like(values, tf.bool)
    return values, tf.logical_not(is_missing(values))


def _is_fed_dense(key: _Leaf, batch: Batch) -> bool:
    """Says whether a part of a cross is a field that comes as a dense tensor."""
    sparse = tf.SparseTensor | tf.RaggedTensor
    return isinstance(key, str) and not isinstance(batch.raw.get(key), sparse)


def _leaves(column: fc.CrossedColumn) -> list[_Leaf]:
    leaves: list[_Leaf] = []
    for key in column.keys:
        leaves.extend(_leaves(key) if isinstance(key, fc.CrossedColumn) else [key])
    return leaves
