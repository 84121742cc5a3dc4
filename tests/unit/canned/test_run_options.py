"""Options of a run that change how a model is computed: averages, bfloat16, XLA."""

import numpy as np
import pytest
import tensorflow as tf

from estimator_lib.canned.dnn import DNNRegressor
from estimator_lib.canned.linear import LinearRegressor
from estimator_lib.core import columns as fc
from estimator_lib.core.errors import CheckpointError, ConfigError
from estimator_lib.training.run_config import RunConfig
from estimator_lib.variables import AVERAGE

X = np.linspace(-1, 1, 32).astype(np.float32)
COLUMNS = [fc.numeric_column("x")]
KIND = fc.embedding_column(fc.categorical_column_with_identity("k", 4), 2)
WEIGHT = "linear/linear_model/x/weights"


def input_fn(epochs=1):
    def make():
        features = {"x": X, "k": np.arange(32) % 4}
        return tf.data.Dataset.from_tensor_slices((features, 2 * X)).repeat(epochs).batch(32)

    return make


def linear(path, **options):
    config = RunConfig(tf_random_seed=1, **options)
    sgd = {"name": "SGD", "learning_rate": 0.5}
    return LinearRegressor(COLUMNS, str(path), optimizer=sgd, config=config)


def test_averages_are_evaluated_and_training_goes_on_from_the_weights(tmp_path):
    plain = linear(tmp_path / "plain")
    model = linear(tmp_path / "averaged", moving_average_decay=0.5)
    weights, average = [], 0.0
    for step in range(4):
        plain.train(input_fn(), steps=1)
        model.train(input_fn(), steps=1)
        weights.append(plain.get_variable_value(WEIGHT).item())
        decay = min(0.5, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weights[-1]
        np.testing.assert_allclose(model.get_variable_value(WEIGHT), [[weights[-1]]], rtol=1e-6)
        np.testing.assert_allclose(
            model.get_variable_value(WEIGHT + AVERAGE), [[average]], rtol=1e-5
        )
    again = linear(tmp_path / "averaged", moving_average_decay=0.5)
    found = [p["predictions"].item() for p in again.predict(input_fn())]
    np.testing.assert_allclose(found, average * X, rtol=1e-4, atol=1e-6)


def test_averages_that_were_never_kept_are_refused(tmp_path):
    linear(tmp_path).train(input_fn(), steps=1)
    with pytest.raises(CheckpointError, match="ExponentialMovingAverage"):
        linear(tmp_path, moving_average_decay=0.5).evaluate(input_fn())


@pytest.mark.parametrize(
    ("options", "tolerance"), [({"compute_dtype": "bfloat16"}, 0.05), ({"jit_compile": True}, 1e-4)]
)
def test_options_keep_the_results(options, tolerance, tmp_path):
    losses = []
    for given in ({}, options):
        config = RunConfig(tf_random_seed=1, **given)
        path = str(tmp_path / str(len(losses)))
        model = DNNRegressor([8], [*COLUMNS, KIND], path, config=config)
        model.train(input_fn(30))
        losses.append(model.evaluate(input_fn())["loss"])
        assert model.get_variable_value("dnn/logits/kernel").dtype == np.float32
    np.testing.assert_allclose(losses[1], losses[0], rtol=tolerance)


def operations(model):
    compiled = next(iter(model._engine.model._functions.values()))
    graph = compiled.run.get_concrete_function(
        iter(input_fn()()), (), tf.TensorSpec([], tf.int64)
    ).graph.as_graph_def()
    return [node for function in graph.library.function for node in function.node_def]


def test_options_reach_the_graph(tmp_path):
    config = RunConfig(compute_dtype="bfloat16", jit_compile=True)
    model = DNNRegressor([8], COLUMNS, str(tmp_path), config=config)
    model.train(input_fn())
    products = [node for node in operations(model) if node.op == "MatMul"]
    assert products
    assert {node.attr["T"].type for node in products} == {tf.bfloat16.as_datatype_enum}
    assert any(node.attr["_XlaCompile"].b for node in products)


@pytest.mark.parametrize(
    "options",
    [{"moving_average_decay": 1.0}, {"moving_average_decay": 0}, {"compute_dtype": "float16"}],
)
def test_wrong_options_are_refused(options):
    with pytest.raises(ConfigError):
        RunConfig(**options)
