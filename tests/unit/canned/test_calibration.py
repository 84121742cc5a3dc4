"""Calibration against scikit-learn, and carried into evaluation and export."""

import numpy as np
import pytest
import tensorflow as tf
from sklearn.linear_model import LogisticRegression

from estimator_lib import export, heads
from estimator_lib.calibration import calibrate, calibrated, fit
from estimator_lib.canned import rnn
from estimator_lib.canned.linear import LinearClassifier, LinearEstimator
from estimator_lib.core import columns as fc
from estimator_lib.core.errors import ConfigError, DataError

RNG = np.random.default_rng(4)
X = RNG.normal(size=400).astype(np.float32)
LABEL = (RNG.random(400) < 1 / (1 + np.exp(-(0.5 * X - 1)))).astype(np.int64)
COLUMNS = [fc.numeric_column("x")]


def input_fn(labels=LABEL):
    def make():
        features = {"x": X, "w": np.ones(400, np.float32)}
        return tf.data.Dataset.from_tensor_slices((features, labels)).batch(100)

    return make


def test_platt_is_a_logistic_regression_of_the_logit():
    found = fit(3 * X[:, None], LABEL)
    reference = LogisticRegression(C=1e9, tol=1e-10).fit(3 * X[:, None], LABEL)
    np.testing.assert_allclose(found.scale, reference.coef_[0, 0], rtol=1e-3)
    np.testing.assert_allclose(found.shift, reference.intercept_[0], rtol=1e-3)


def test_temperature_of_many_classes_has_no_slope():
    logits = RNG.normal(size=(300, 3)) * 4
    labels = (logits / 3 + RNG.gumbel(size=(300, 3))).argmax(1)
    scale = fit(logits, labels, method="temperature").scale

    def loss(s):
        z = s * logits
        return (np.log(np.exp(z).sum(1)) - z[np.arange(300), labels]).mean()

    assert loss(scale) < min(loss(scale * 1.01), loss(scale * 0.99))
    np.testing.assert_allclose(scale, 1 / 3, rtol=0.3)


def test_weights_count_as_rows():
    twice = np.where(np.arange(400) < 50, 2.0, 1.0)
    rows = np.concatenate([np.arange(400), np.arange(50)])
    one, other = fit(X[:, None], LABEL, twice), fit(X[rows, None], LABEL[rows])
    np.testing.assert_allclose([one.scale, one.shift], [other.scale, other.shift], rtol=1e-6)


def test_evaluation_and_export_are_calibrated(tmp_path):
    model = LinearClassifier(COLUMNS, str(tmp_path / "m"), optimizer={"name": "SGD",
                             "learning_rate": 2.0})  # fmt: skip
    model.train(input_fn(1 - (X < 0).astype(np.int64)))  # of another truth: overconfident
    before = model.evaluate(input_fn())
    better = calibrate(model, input_fn(), weight_column="w")
    after = better.evaluate(input_fn())
    assert after["average_loss"] < before["average_loss"] - 0.01
    np.testing.assert_allclose(after["prediction/mean"], LABEL.mean(), atol=1e-4)
    np.testing.assert_allclose(after["auc"], before["auc"], atol=5e-3)
    assert isinstance(better, LinearClassifier)
    receiver = export.build_raw_serving_input_receiver_fn({"x": tf.TensorSpec([None], tf.float32)})
    path = better.export_saved_model(str(tmp_path / "export"), receiver).decode()
    served = tf.saved_model.load(path).signatures["predict"](x=tf.constant(X[:5]))
    expected = [row["logistic"] for row in better.predict(input_fn())][:5]
    np.testing.assert_allclose(served["logistic"], expected, rtol=1e-6)
    fresh = calibrated(LinearClassifier(COLUMNS, model.model_dir))
    np.testing.assert_allclose(next(fresh.predict(input_fn()))["logistic"], expected[0], rtol=1e-6)
    again = calibrate(fresh, input_fn())  # there is nothing left to correct
    np.testing.assert_allclose(next(again.predict(input_fn()))["logistic"], expected[0], rtol=1e-4)
    assert calibrated(model).evaluate(input_fn())["loss"] == pytest.approx(after["loss"], abs=1e-6)
    plain = next(model.predict(input_fn()))["logits"]
    kept = calibrated(model, heads.Calibration(scale=2.0, shift=1.0))
    np.testing.assert_allclose(next(kept.predict(input_fn()))["logits"], 2 * plain + 1, rtol=1e-6)
    model.train(input_fn(), steps=1)
    with pytest.raises(ConfigError, match=r"Call calibrate\(\) again"):
        calibrated(model)


def test_head_of_several_is_named(tmp_path):
    head = heads.MultiHead([heads.BinaryClassHead(name="a"), heads.RegressionHead(name="b")])
    model = LinearEstimator(head, COLUMNS, str(tmp_path))
    labels = {"a": LABEL, "b": X}
    model.train(input_fn(labels))
    better = calibrate(model, input_fn(labels), method="temperature", head="a")
    assert better.evaluate(input_fn(labels))["average_loss/a"] < 0.7


def test_positions_of_sequences_are_calibrated(tmp_path):
    steps = np.stack([X, -X, np.full_like(X, np.nan)], 1)
    steps[:200, 1] = np.nan
    labels = np.stack([LABEL, 1 - LABEL, np.zeros_like(LABEL)], 1)
    inside = ~np.isnan(steps)

    def make():
        features = {"steps": steps, "w": np.ones_like(steps)}
        return tf.data.Dataset.from_tensor_slices((features, labels)).batch(100)

    model = rnn.RNNClassifier(
        [fc.sequence_numeric_column("steps")], units=[2], return_sequences=True,
        model_dir=str(tmp_path), weight_column="w", sequence_mask="there",
    )  # fmt: skip
    model.train(make, steps=1)
    better = calibrate(model, make, weight_column="w")
    np.testing.assert_allclose(
        better.evaluate(make)["prediction/mean"], labels[inside].mean(), atol=1e-4
    )
    rows = [list(each.predict(make)) for each in (model, better)]
    before, after = (np.stack([row["logits"][..., 0] for row in r])[inside] for r in rows)
    found = fit(before[:, None], labels[inside])
    np.testing.assert_allclose(after, found.scale * before + found.shift, atol=1e-5)


def test_wrong_arguments_are_refused(tmp_path):
    model = LinearEstimator(heads.RegressionHead(), COLUMNS, str(tmp_path))
    with pytest.raises(ConfigError, match="Did you mean 'platt'"):
        calibrate(model, input_fn(), method="plat")
    with pytest.raises(ConfigError, match="no calibration in"):
        calibrated(model)
    with pytest.raises(ConfigError, match="predicts no 'logits'"):
        calibrate(model, input_fn())
    with pytest.raises(ConfigError, match="two classes"):
        fit(RNG.normal(size=(4, 3)), [0, 1, 2, 0])
    with pytest.raises(DataError, match="at least two classes"):
        fit(X[:, None], np.zeros(400))
