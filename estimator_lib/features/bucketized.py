"""Numbers cut at boundaries.

Layer 2.
"""

from __future__ import annotations

import math

import tensorflow as tf

from estimator_lib.core import columns as fc
from estimator_lib.features import _lowering as lowering
from estimator_lib.features._lowering import Batch, Features, Ids, Part
from estimator_lib.features.numeric import number


@lowering.ids.register
def _ids(column: fc.BucketizedColumn, batch: Batch) -> Ids:
    numbers = number(column.source_column, batch)
    present = tf.logical_not(tf.math.is_nan(numbers))
    ids = tf.raw_ops.Bucketize(input=numbers, boundaries=list(column.cuts))
    ids = tf.cast(ids, tf.int64)
    width = math.prod(column.source_column.shape)
    if width > 1:  # every position has buckets of its own, as in tf.feature_column
        ids += tf.range(width, dtype=tf.int64) * column.num_buckets
    return ids, present


@lowering.part.register(fc.BucketizedColumn)
@lowering.part.register(fc.BucketIdsColumn)
def _part(column: fc.CategoricalColumn, sources: Features) -> Part:
    return lowering.one_hot(column, sources)
