"""Categories with weights.

Layer 2.
"""

from __future__ import annotations

import tensorflow as tf

from estimator_lib.core import columns as fc
from estimator_lib.features import _lowering as lowering
from estimator_lib.features._lowering import Features


@lowering.ids_and_weights.register
def _ids_and_weights(
    column: fc.WeightedColumn, sources: Features
) -> tuple[tf.Tensor, tf.Tensor | None]:
    ids, _ = lowering.ids_and_weights(column.categorical_column, sources)
    weights = sources[column.weight_feature_key]
    known = ids.shape[-1] is not None and ids.shape[-1] == weights.shape[-1]
    if ids.shape.rank == weights.shape.rank == 2 and not known:
        # Missing values at the end of a list may be left away on either side.
        width = tf.shape(ids)[1]
        short = tf.maximum(width - tf.shape(weights)[1], 0)
        weights = tf.pad(weights[:, :width], [[0, 0], [0, short]])
    return ids, tf.where(tf.math.is_nan(weights), 0.0, weights)
