"""Running means of the weights, which a model may evaluate, predict and export with."""

from __future__ import annotations

import tensorflow as tf

from estimator_lib.variables import access, tracing
from estimator_lib.variables.store import raw


def update_averages(decay: float) -> tf.Operation:
    """Returns the op that moves the running means towards the trainable variables.

    In the first steps the means follow faster: the share kept is at most
    (1 + step) / (10 + step), so that the initial values are soon forgotten.

    Raises:
        TrainingError: no model_fn is being traced.
    """
    step = tf.cast(access.global_step(), tf.float32)
    share = 1.0 - tf.minimum(decay, (1.0 + step) / (10.0 + step))
    now = tracing.needed("update_averages")
    updates = []
    for variable in access.trainable_variables():
        name, average = now.average(access.name_of(variable), raw(variable))
        now.used.setdefault(name, average)
        change = (average - variable.read_value()) * tf.cast(share, average.dtype)
        updates.append(average.assign_sub(change))
    return tf.group(*updates, name="averages")
