"""Losses against closed forms."""

import numpy as np
import pytest
import tensorflow as tf

from estimator_lib import losses
from estimator_lib.core.errors import ConfigError

ZERO_ONE = tf.constant([[0.0], [1.0], [1.0]])
LOGITS = tf.constant([[-2.0], [0.5], [30.0]])


def test_weights_do_not_divide_the_mean():
    nine = tf.constant([[9.0], [9.0]])
    weights = tf.constant([[1.0], [2.0]])
    assert losses.reduce(nine, weights) == 13.5
    assert losses.reduce(nine, weights, losses.LossReduction.SUM) == 27
    assert losses.reduce(nine) == 9
    assert losses.reduce(tf.zeros([0, 1])) == 0


@pytest.mark.parametrize("name", ["sum", "SUM", losses.LossReduction.SUM])
def test_reduction_is_read_from_text(name):
    assert losses.reduction_of(name) == losses.LossReduction.SUM


def test_unknown_reduction_is_refused():
    with pytest.raises(ConfigError, match="Did you mean 'sum'"):
        losses.reduction_of("summ")


def test_focal_without_gamma_is_cross_entropy_and_easy_examples_weigh_less():
    entropy = losses.sigmoid_cross_entropy(ZERO_ONE, LOGITS)
    np.testing.assert_allclose(losses.focal(gamma=0)(ZERO_ONE, LOGITS), entropy, rtol=1e-6)
    p = 1 / (1 + np.exp(-0.5))
    np.testing.assert_allclose(
        losses.focal(gamma=2, alpha=0.25)(ZERO_ONE, LOGITS)[1],
        [-0.25 * (1 - p) ** 2 * np.log(p)],
        rtol=1e-5,
    )


def test_smoothed_binary_and_multi_class():
    one = losses.smoothed(0.2)(ZERO_ONE, LOGITS)[1, 0]
    p = 1 / (1 + np.exp(-0.5))
    np.testing.assert_allclose(one, -(0.9 * np.log(p) + 0.1 * np.log(1 - p)), rtol=1e-5)
    logits = tf.constant([[1.0, 0.0, -1.0]])
    log_p = tf.nn.log_softmax(logits).numpy()[0]
    target = np.array([0.1, 0.8, 0.1])
    got = losses.smoothed(0.3)(tf.constant([[1]], tf.int64), logits)
    np.testing.assert_allclose(got, [[-(target * log_p).sum()]], rtol=1e-5)


def test_regression_losses():
    labels, logits = tf.constant([[1.0], [0.0]]), tf.constant([[3.0], [0.5]])
    np.testing.assert_allclose(losses.quantile(0.9)(labels, logits), [[0.2], [0.05]], rtol=1e-5)
    np.testing.assert_allclose(losses.huber(1.0)(labels, logits), [[1.5], [0.125]])
    np.testing.assert_allclose(
        losses.tweedie(1.5)(labels, logits),
        [[2 * np.exp(-1.5) + 2 * np.exp(1.5)], [2 * np.exp(0.25)]],
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        losses.poisson(full=False)(labels, logits), [[np.e**3 - 3], [np.e**0.5]], rtol=1e-5
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: losses.quantile(1.0),
        lambda: losses.huber(0),
        lambda: losses.tweedie(2),
        lambda: losses.smoothed(1),
    ],
)
def test_parameters_outside_their_range_are_refused(make):
    with pytest.raises(ConfigError):
        make()


def test_logistic_loss_is_the_cross_entropy_of_hard_labels():
    expected = losses.sigmoid_cross_entropy(ZERO_ONE, LOGITS)
    np.testing.assert_allclose(losses.logistic_loss(ZERO_ONE, LOGITS), expected, rtol=1e-6)
