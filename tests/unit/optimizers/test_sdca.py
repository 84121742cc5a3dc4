"""LinearSDCA against closed forms."""

import numpy as np
import pytest
import tensorflow as tf
from sklearn.linear_model import ElasticNet, LogisticRegression

from estimator_lib.canned.linear import LinearClassifier, LinearRegressor
from estimator_lib.core import columns as fc
from estimator_lib.core.errors import ConfigError
from estimator_lib.optimizers.sdca import LinearSDCA

RNG = np.random.default_rng(2)
N = 90
A, B = RNG.normal(size=(2, N)).astype(np.float32)
KIND = RNG.integers(-1, 3, N)
WEIGHT = RNG.random(N).astype(np.float32) + 0.5
NUMBER = (A - 2 * B + 0.5 * KIND + 0.3 * RNG.normal(size=N)).astype(np.float32)
LABEL = (NUMBER + RNG.normal(size=N) > 0).astype(np.int64)
COLUMNS = [
    fc.numeric_column("a"), fc.numeric_column("b"), fc.categorical_column_with_identity("kind", 3),
]  # fmt: skip
NAMES = ("a/weights", "b/weights", "kind/weights", "bias_weights")
MATRIX = np.stack([A, B, *(k == KIND for k in range(3)), np.ones(N)], 1).astype(np.float64)


def input_fn(labels):
    ids = np.array([f"row {i}" for i in range(N)])
    features = {"a": A, "b": B, "kind": KIND, "id": ids, "w": WEIGHT}

    def make():
        data = tf.data.Dataset.from_tensor_slices((features, labels))
        return data.shuffle(N, seed=1).batch(32).repeat(80)

    return make


def weights_of(model):
    values = [model.get_variable_value(f"linear/linear_model/{name}") for name in NAMES]
    return np.concatenate([np.ravel(v) for v in values])


@pytest.mark.parametrize("l2", [1.0, 3.0])
def test_squared_error_is_that_of_the_normal_equations(l2, tmp_path):
    sdca = LinearSDCA("id", symmetric_l2_regularization=l2, max_examples=N)
    model = LinearRegressor(COLUMNS, str(tmp_path), weight_column="w", optimizer=sdca)
    model.train(input_fn(NUMBER))
    scaled = MATRIX * WEIGHT[:, None]
    expected = np.linalg.solve(MATRIX.T @ scaled + l2 * np.eye(6), scaled.T @ NUMBER)
    np.testing.assert_allclose(weights_of(model), expected, atol=2e-4)


def test_logistic_loss_is_that_of_scikit_learn_after_a_resumed_run(tmp_path):
    make = lambda: LinearClassifier(  # noqa: E731
        COLUMNS, str(tmp_path),
        optimizer=LinearSDCA("id", symmetric_l2_regularization=0.5, max_examples=N),
    )  # fmt: skip
    make().train(input_fn(LABEL), steps=10)
    make().train(input_fn(LABEL))
    reference = LogisticRegression(C=1 / 0.5, fit_intercept=False, tol=1e-10, max_iter=1000)
    expected = reference.fit(MATRIX, LABEL).coef_[0]
    np.testing.assert_allclose(weights_of(make()), expected, atol=5e-4)


def test_l1_keeps_weights_at_zero(tmp_path):
    l1, l2 = 10.0, 2.0
    sdca = LinearSDCA(
        "id", symmetric_l1_regularization=l1, symmetric_l2_regularization=l2, max_examples=N
    )
    model = LinearRegressor(COLUMNS, str(tmp_path), optimizer=sdca)
    model.train(input_fn(NUMBER))
    found = weights_of(model)
    reference = ElasticNet(
        alpha=(l1 + l2) / N, l1_ratio=l1 / (l1 + l2), fit_intercept=False, tol=1e-9
    )
    expected = reference.fit(MATRIX, NUMBER).coef_
    np.testing.assert_allclose(found, expected, atol=1e-3)
    np.testing.assert_array_equal(found == 0, expected == 0)
    assert np.any(found == 0)
    assert np.any(found)


def test_a_full_table_is_named(tmp_path):
    model = LinearRegressor(COLUMNS, str(tmp_path), optimizer=LinearSDCA("id", max_examples=8))
    with pytest.raises(Exception, match="raise max_examples"):
        model.train(input_fn(NUMBER))


@pytest.mark.parametrize(
    "arguments",
    [
        {"example_id_column": ""},
        {"example_id_column": "id", "symmetric_l2_regularization": 0.0},
        {"example_id_column": "id", "symmetric_l1_regularization": -1.0},
        {"example_id_column": "id", "max_examples": 0},
    ],
)
def test_wrong_arguments_are_refused(arguments):
    with pytest.raises(ConfigError):
        LinearSDCA(**arguments)
