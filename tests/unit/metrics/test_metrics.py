"""Streaming metrics against Keras and tf.compat.v1."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from estimator_lib import metrics

RNG = np.random.default_rng(3)


def sample(n=1000):
    scores = RNG.beta(2, 5, n).astype(np.float32)
    labels = (RNG.random(n) < scores).astype(np.int64)
    weights = RNG.random(n).astype(np.float32)
    scores[:20] = np.linspace(0, 1, 20)
    scores[20:40] = np.float32(np.arange(20) / 199)  # exactly on thresholds
    return labels, scores, weights


@pytest.mark.parametrize("curve", ["ROC", "PR"])
@pytest.mark.parametrize("weighted", [False, True])
def test_auc_is_that_of_keras_over_batches(curve, weighted):
    labels, scores, weights = sample()
    ours, theirs = metrics.AUC(curve=curve, thresholds=200), keras.metrics.AUC(curve=curve)
    for part in np.array_split(np.arange(1000), 7):
        w = weights[part] if weighted else None
        ours.update_state(labels[part], scores[part], w)
        theirs.update_state(labels[part], scores[part], w)
    np.testing.assert_allclose(ours.result(), theirs.result(), atol=2e-6)
    ours.reset_state()
    assert ours.result() == 0


@pytest.mark.parametrize(
    ("curve", "method"), [("ROC", "trapezoidal"), ("PR", "careful_interpolation")]
)
def test_auc_is_that_of_tf_metrics(curve, method):
    labels, scores, weights = sample()
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        value, update = tf.compat.v1.metrics.auc(
            labels, scores, weights, curve=curve, summation_method=method
        )
        session.run(tf.compat.v1.local_variables_initializer())
        session.run(update)
        expected = session.run(value)
    ours = metrics.AUC(curve=curve, thresholds=200)
    ours.update_state(labels, scores, weights)
    np.testing.assert_allclose(ours.result(), expected, atol=1e-5)


@pytest.mark.parametrize("share", [0.5, 0.001])
@pytest.mark.parametrize("weighted", [False, True])
def test_areas_are_exact_also_for_rare_classes_and_with_weights(share, weighted):
    x = RNG.normal(size=40_000)
    odds = share / (1 - share) * np.exp(0.8 * x)
    scores = (odds / (1 + odds)).astype(np.float32)
    labels = RNG.random(len(x)) < scores
    weights = RNG.random(len(x)).astype(np.float32) if weighted else None
    order = np.argsort(-scores, kind="stable")
    w = np.ones(len(x)) if weights is None else weights[order].astype(np.float64)
    true, false = np.cumsum(w * labels[order]), np.cumsum(w * ~labels[order])
    roc = np.sum(np.diff(false, prepend=0) * (true + np.concatenate([[0], true[:-1]])) / 2)
    pr = np.sum(np.diff(true, prepend=0) * true / (true + false)) / true[-1]
    for curve, expected in (("ROC", roc / true[-1] / false[-1]), ("PR", pr)):
        ours = metrics.AUC(curve=curve)
        for part in np.array_split(np.arange(len(x)), 3):
            ours.update_state(
                labels[part], scores[part], None if weights is None else weights[part]
            )
        np.testing.assert_allclose(ours.result(), expected, atol=1e-4)


def test_curves_share_one_histogram():
    labels, scores, _ = sample()
    histogram = metrics.ConfusionHistogram()
    roc = metrics.AUC("roc", histogram=histogram)
    pr = metrics.AUC("pr", curve="PR", histogram=histogram)
    roc.update_state(labels, scores)
    assert pr.result() > 0
    assert roc.variables == pr.variables == histogram.variables
    assert len(histogram.variables) == 1


def test_mean_weighs_and_survives_empty_batches():
    mean = metrics.Mean()
    assert mean.result() == 0
    mean.update_state([])
    mean.update_state([1.0, 3.0], [1.0, 2.0])
    mean.update_state([[2.0]])
    np.testing.assert_allclose(mean.result(), (1 + 6 + 2) / 4)


def test_sums_stay_exact_beyond_float32():
    sums = metrics.Sums("s", ["n", "x"])
    half = metrics.ratio("half", sums, "x", "n")
    sums._total.assign([2.0**25, 2.0**25])
    sums.update_state([tf.constant([1.0]), tf.constant([1.0])])
    assert sums["n"].numpy() == 2**25 + 1
    assert half.result() == 1
    assert half.result().dtype == tf.float32
