"""Fault 23: a loss or a weight that is no number stops training before it is saved.

Fails when the loss and the weights are not looked at before a checkpoint is committed.
"""

import numpy as np
import pytest
import tensorflow as tf

import estimator_lib
from estimator_lib import variables
from estimator_lib.core.errors import Reason
from tests.contract.test_estimator import data, estimator

BAD_STEP = 3


def model(fault):
    """Whose loss or weight is none from the third step on."""

    def model_fn(features, labels, mode):
        w = variables.get_variable("w", [3], initializer=0.0)
        y = tf.linalg.matvec(features["x"], w)
        if mode == estimator_lib.ModeKeys.PREDICT:
            return estimator_lib.EstimatorSpec(mode, predictions=y)
        loss = tf.reduce_mean(tf.square(y - labels))
        count = variables.get_variable("count", [], initializer=0.0, trainable=False)
        late = tf.cast(count >= BAD_STEP - 1, tf.float32)
        bad = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf, "weight": np.nan}[fault]
        odd = tf.where(late > 0, bad, 0.0)
        change = tf.gradients(loss, w)[0] * 0.1
        if fault == "weight":
            change += odd
        else:
            loss += odd
        ops = [w.assign_sub(change), count.assign_add(1.0)]
        return estimator_lib.EstimatorSpec(mode, loss=loss, train_op=ops)

    return model_fn


@pytest.mark.parametrize("fault", ["nan", "inf", "-inf", "weight"])
def test_what_is_no_number_is_never_saved(tmp_path, fault):
    made = estimator(tmp_path, model(fault), save_checkpoints_steps=1)
    with pytest.raises(estimator_lib.NanLossDuringTrainingError, match="not finite") as caught:
        made.train(data(epochs=9))
    assert caught.value.reason is Reason.NOT_FINITE
    assert "x in [" in caught.value.message  # the ranges of the batch
    assert np.isfinite(made.get_variable_value("w")).all()
    assert 0 < made.get_variable_value("global_step") <= BAD_STEP
