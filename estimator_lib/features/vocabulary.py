"""Values looked up in a vocabulary.

Layer 2.
"""

from __future__ import annotations

import tensorflow as tf

from estimator_lib.core import columns as fc
from estimator_lib.features import _lowering as lowering
from estimator_lib.features._lowering import Batch, Ids
from estimator_lib.features.missing import is_missing


@lowering.prepared.register
def _table(column: fc.VocabularyColumn) -> tf.lookup.StaticHashTable:
    texts = column.dtype == "string"
    keys = [str(key) for key in column.values] if texts else column.values
    initializer = tf.lookup.KeyValueTensorInitializer(
        tf.constant(keys, tf.string if texts else tf.int64), tf.range(len(keys), dtype=tf.int64)
    )
    return tf.lookup.StaticHashTable(initializer, default_value=-1)


@lowering.ids.register
def _ids(column: fc.VocabularyColumn, batch: Batch) -> Ids:
    typed = batch.texts if column.dtype == "string" else batch.integers
    values = typed(column, column.key)
    found = batch.prepared[column.name].lookup(values)
    present = tf.logical_not(is_missing(values))
    if values.dtype == tf.int64 and -1 not in set(column.values):
        present &= values != -1
    unseen = tf.constant(column.default_value, tf.int64)
    if column.num_oov_buckets:
        text = values if values.dtype == tf.string else tf.strings.as_string(values)
        bucket = tf.strings.to_hash_bucket_fast(text, column.num_oov_buckets)
        unseen = bucket + len(column.values)
    return tf.where(found < 0, unseen, found), present
