"""Metrics against scikit-learn, and what happens where it has no answer."""

import warnings

import numpy as np
import pytest
import sklearn.metrics as oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from estimator_lib.core.errors import DataError, Reason
from estimator_lib.evaluation import bootstrap, metrics, tables

TOLERANCE = {"rel": 1e-9, "abs": 1e-9}


@st.composite
def binary_rows(draw):
    """Rows with both classes and, often, tied scores and zero weights."""
    n = draw(st.integers(2, 60))
    grid = draw(st.sampled_from([2, 3, 10, 1000]))
    scores = draw(hnp.arrays(np.int64, n, elements=st.integers(1, grid - 1 or 1)))
    labels = draw(hnp.arrays(np.int64, n, elements=st.integers(0, 1)))
    weights = draw(hnp.arrays(np.float64, n, elements=st.sampled_from([0.0, 0.25, 1.0, 3.0])))
    labels[0], labels[1], weights[0], weights[1] = 0, 1, 1.0, 0.5
    return labels, scores / grid, weights


@given(binary_rows())
@settings(max_examples=200, deadline=None)
def test_binary_metrics_equal_scikit_learn(rows):
    labels, scores, weights = rows
    found = {k: v.value for k, v in bootstrap.measure("binary", labels, scores, weights).items()}
    kept = weights > 0
    y, p, w = labels[kept], scores[kept], weights[kept]
    called = (p > 0.5).astype(int)
    expected = {
        "auc": oracle.roc_auc_score(y, p, sample_weight=w),
        "auc_precision_recall": oracle.average_precision_score(y, p, sample_weight=w),
        "loss": oracle.log_loss(y, p, sample_weight=w, labels=[0, 1]),
        "accuracy": oracle.accuracy_score(y, called, sample_weight=w),
        "recall": oracle.recall_score(y, called, sample_weight=w),
        "brier": np.average((p - y) ** 2, weights=w),
        "label_mean": np.average(y, weights=w),
        "prediction_mean": np.average(p, weights=w),
        "calibration": np.average(p, weights=w) / np.average(y, weights=w),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, **TOLERANCE), name
    if called.any():
        precision = oracle.precision_score(y, called, sample_weight=w)
        assert found["precision"] == pytest.approx(precision, **TOLERANCE)
    else:
        assert found["precision"] is None


@given(binary_rows())
@settings(max_examples=50, deadline=None)
def test_weight_two_equals_the_row_twice_and_order_does_not_matter(rows):
    labels, scores, _ = rows
    weights = np.where(np.arange(len(labels)) % 2, 2.0, 1.0)
    repeated = np.repeat(np.arange(len(labels)), weights.astype(int))[::-1]
    once = bootstrap.measure("binary", labels, scores, weights)
    twice = bootstrap.measure("binary", labels[repeated], scores[repeated])
    for name in set(once) - {"ece"}:  # the bins count rows, not weight
        if once[name].value is None:
            assert once[name] == twice[name]
        else:
            assert once[name].value == pytest.approx(twice[name].value, **TOLERANCE), name


def test_ece_is_the_gap_over_the_reliability_bins():
    rng = np.random.default_rng(0)
    p, w = rng.random(5000), rng.random(5000)
    y = (rng.random(5000) < p**2).astype(int)
    table = tables.table("binary", y, p, w)
    order = np.argsort(p)
    expected = (
        sum(abs(w[part] @ p[part] - w[part] @ y[part]) for part in np.array_split(order, 10))
        / w.sum()
    )
    found = bootstrap.measure("binary", y, p, w)["ece"].value
    assert found == pytest.approx(expected, rel=1e-9)
    bins = table.curves().reliability
    assert [b.rows for b in bins] == [500] * 10
    assert all(b.low <= b.label_mean <= b.high for b in bins)


def _multiclass(n=400, k=4, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(k), n)
    y = (p.cumsum(1) > rng.random((n, 1))).argmax(1)
    return y, p, rng.random(n) + 0.1


def test_multiclass_metrics_equal_scikit_learn():
    y, p, w = _multiclass()
    found = {k: v.value for k, v in bootstrap.measure("multiclass", y, p, w).items()}
    one_vs_rest = np.mean(
        [oracle.roc_auc_score(y == c, p[:, c], sample_weight=w) for c in range(4)]
    )
    assert found["auc"] == pytest.approx(one_vs_rest, **TOLERANCE)
    assert found["loss"] == pytest.approx(oracle.log_loss(y, p, sample_weight=w), **TOLERANCE)
    accuracy = oracle.accuracy_score(y, p.argmax(1), sample_weight=w)
    assert found["accuracy"] == pytest.approx(accuracy, **TOLERANCE)
    for k in (2, 3):
        top = oracle.top_k_accuracy_score(y, p, k=k, sample_weight=w)
        assert found[f"top_{k}_accuracy"] == pytest.approx(top, **TOLERANCE)
    brier = np.average(((p - np.eye(4)[y]) ** 2).sum(1), weights=w)
    assert found["brier"] == pytest.approx(brier, **TOLERANCE)
    problem = metrics.Problem(task="multiclass", classes=tuple("0123"))
    assert set(found) == set(metrics.names(problem))


def test_multiclass_confusion_equals_scikit_learn():
    y, p, w = _multiclass(k=3)
    found = tables.table("multiclass", y, p, w).curves().confusion
    assert found is not None
    expected = oracle.confusion_matrix(y, p.argmax(1), sample_weight=w)
    np.testing.assert_allclose(found.counts, expected)


def test_multiclass_with_two_classes_has_the_binary_auc():
    y, p, w = _multiclass(k=2)
    two = bootstrap.measure("multiclass", y, p, w)["auc"].value
    one = bootstrap.measure("binary", y, p[:, 1], w)["auc"].value
    assert two == pytest.approx(one, rel=1e-12)


def test_regression_metrics_equal_scikit_learn():
    rng = np.random.default_rng(1)
    y = rng.normal(1e6, 3, 300)
    p, w = y + rng.normal(0.5, 1, 300), rng.random(300)
    found = {k: v.value for k, v in bootstrap.measure("regression", y, p, w).items()}
    mse = oracle.mean_squared_error(y, p, sample_weight=w)
    assert found["loss"] == pytest.approx(mse)
    assert found["rmse"] == pytest.approx(mse**0.5)
    assert found["mae"] == pytest.approx(oracle.mean_absolute_error(y, p, sample_weight=w))
    assert found["r2"] == pytest.approx(oracle.r2_score(y, p, sample_weight=w), rel=1e-6)
    assert found["label_mean"] == pytest.approx(np.average(y, weights=w))


@pytest.mark.parametrize(
    ("labels", "predictions", "weights", "name", "reason"),
    [
        ([1, 1], [0.2, 0.7], None, "auc", "no negative labels"),
        ([0, 0], [0.2, 0.7], None, "auc", "no positive labels"),
        ([0, 0], [0.2, 0.7], None, "recall", "no positive labels"),
        ([0, 0], [0.2, 0.7], None, "calibration", "no positive labels"),
        ([0, 1], [0.2, 0.3], None, "precision", "no row is predicted positive"),
        ([0, 1], [0.2, 0.3], [0, 0], "loss", "total weight is zero"),
        ([0, 1], [0.2, np.nan], None, "loss", "1 of 2 predictions are not finite"),
        ([], [], None, "accuracy", "no rows"),
    ],
)
def test_undefined_metric_is_none_with_a_reason(labels, predictions, weights, name, reason):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = bootstrap.measure("binary", labels, predictions, weights, intervals=True)[name]
        tables.table("binary", labels, predictions, weights).curves()
    assert found.value is None
    assert found.low is found.high is None
    assert found.reason is not None
    assert reason in found.reason


def test_undefined_metrics_of_other_tasks_have_reasons():
    constant = bootstrap.measure("regression", [2, 2], [1.0, 2.0])
    assert constant["r2"].reason == "r2 needs labels that differ"
    assert constant["rmse"].value == pytest.approx(0.5**0.5)
    one = bootstrap.measure("multiclass", [1, 1], [[0.2, 0.5, 0.3], [0.1, 0.6, 0.3]])
    assert one["auc"].value is None
    assert one["accuracy"].value == 1.0


@pytest.mark.parametrize(
    ("task", "labels", "predictions", "weights", "reason"),
    [
        ("binary", [0, 2], [0.1, 0.2], None, Reason.LABEL_OUT_OF_RANGE),
        ("binary", [0, np.nan], [0.1, 0.2], None, Reason.LABEL_OUT_OF_RANGE),
        ("binary", [0, 0.5], [0.1, 0.2], None, Reason.LABEL_OUT_OF_RANGE),
        ("binary", [0, 1], [0.1, 1.2], None, Reason.INVALID_VALUE),
        ("binary", [0, 1], [0.1, 0.2], [1, -1], Reason.WEIGHT_OUT_OF_RANGE),
        ("binary", [0, 1], [0.1, 0.2], [1, np.inf], Reason.WEIGHT_OUT_OF_RANGE),
        ("binary", [0, 1], [0.1], None, Reason.TYPE_MISMATCH),
        ("binary", [[0, 1]], [0.1, 0.2], None, Reason.TYPE_MISMATCH),
        ("multiclass", [0, 1], [0.1, 0.2], None, Reason.TYPE_MISMATCH),
        ("multiclass", [0, 3], [[0.5, 0.5], [0.5, 0.5]], None, Reason.LABEL_OUT_OF_RANGE),
        ("multiclass", [0, 1], [[0.5, 0.9], [0.5, 0.5]], None, Reason.INVALID_VALUE),
        ("regression", [0, np.inf], [0.1, 0.2], None, Reason.LABEL_OUT_OF_RANGE),
    ],
)
def test_impossible_input_is_refused(task, labels, predictions, weights, reason):
    with pytest.raises(DataError) as caught:
        tables.table(task, labels, predictions, weights)
    assert caught.value.reason == reason


def _scored(n, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.beta(2, 6, n).astype(np.float32)
    return (rng.random(n) < p).astype(int), p


def test_intervals_are_deterministic_and_agree_with_theory():
    y, p = _scored(4000)
    first = bootstrap.measure("binary", y, p, intervals=True)
    again = bootstrap.measure("binary", y, p, intervals=True)
    assert first == again
    mean = first["label_mean"]
    expected = 1.96 * np.sqrt(y.mean() * (1 - y.mean()) / len(y))
    assert (mean.high - mean.low) / 2 == pytest.approx(expected, rel=0.2)
    auc = first["auc"]
    positive, negative = p[y == 1], p[y == 0]
    wins = (positive[:, None] > negative).astype(float) + 0.5 * (positive[:, None] == negative)
    variance = wins.mean(1).var(ddof=1) / len(positive) + wins.mean(0).var(ddof=1) / len(negative)
    assert (auc.high - auc.low) / 2 == pytest.approx(1.96 * np.sqrt(variance), rel=0.2)
    assert all(m.low <= m.value <= m.high for m in first.values())


def test_intervals_stay_within_the_range_of_the_metric():
    found = bootstrap.measure("binary", [0, 0, 1, 1], [0.1, 0.6, 0.5, 0.9], intervals=True)
    assert found["auc"].high == 1.0
    assert found["accuracy"].low >= 0.0
    assert found["brier"].low >= 0.0


def test_thinned_curves_look_like_the_whole_ones():
    y, p = _scored(20_000)
    curves = tables.table("binary", y, p).curves()
    fpr, tpr, _ = oracle.roc_curve(y, p, drop_intermediate=False)
    roc = curves.roc
    assert roc is not None
    assert len(roc.thresholds) <= 200
    assert (roc.false_positive_rates[0], roc.true_positive_rates[-1]) == (0.0, 1.0)
    seen = np.interp(fpr, roc.false_positive_rates, roc.true_positive_rates)
    assert np.abs(seen - tpr).max() < 0.01
    for threshold, rate in list(zip(roc.thresholds, roc.true_positive_rates, strict=True))[:-1]:
        assert rate == pytest.approx((p[y == 1] > threshold).mean())
    precision, recall, _ = oracle.precision_recall_curve(y, p)
    pr = curves.precision_recall
    assert pr is not None
    assert len(pr.recalls) <= 200
    middle = (recall > 0.05) & (recall < 1)
    seen = np.interp(recall[middle], pr.recalls, pr.precisions)
    assert np.abs(seen - precision[middle]).max() < 0.02


def test_confusion_and_histogram_count_every_row():
    y, p = _scored(1000)
    curves = tables.table("binary", y, p).curves()
    assert curves.confusion is not None
    assert curves.histogram is not None
    np.testing.assert_allclose(
        curves.confusion.counts, oracle.confusion_matrix(y, (p > 0.5).astype(int))
    )
    assert sum(map(sum, curves.histogram.series.values())) == 1000
