"""The variable store: names, sharing, lifting."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from estimator_lib import variables
from estimator_lib.core.errors import ConfigError, TrainingError


def traced(store, body):
    @tf.function(autograph=False)
    def run():
        with variables.trace(store):
            body()
        return tf.constant(0)

    run.get_concrete_function()


def test_names_follow_scopes_and_second_trace_shares():
    store = variables.VariableStore()

    def body():
        with variables.scope("dnn"), variables.scope("hidden"):
            variables.get_variable("kernel", [2, 3], initializer=keras.initializers.Ones())
            tf.Variable(0.0, name="plain")
            tf.Variable(1.0, name="plain")
        with tf.name_scope("tower"):
            tf.Variable([1, 2], name="v")

    traced(store, body)
    names = list(store.variables)
    assert names == ["dnn/hidden/kernel", "dnn/hidden/plain", "dnn/hidden/plain_1", "tower/v"]
    before = dict(store.variables)
    traced(store, body)
    assert all(store.variables[name] is before[name] for name in names)
    assert len(store.variables) == 4
    np.testing.assert_array_equal(store.variables["dnn/hidden/kernel"], np.ones([2, 3]))


def test_get_variable_twice_is_the_same_and_another_shape_is_refused():
    def body():
        first = variables.get_variable("w", [2], initializer=0.5)
        assert variables.get_variable("w", [2], initializer=0.5) is first
        with pytest.raises(ConfigError, match="another form"):
            variables.get_variable("w", [3], initializer=0.5)

    traced(variables.VariableStore(), body)


def test_keras_numbers_start_anew_in_each_trace():
    store = variables.VariableStore()

    def body():
        layers = [keras.layers.Dense(2), keras.layers.Dense(2)]
        layers[1](layers[0](tf.zeros([1, 2])))

    keras.layers.Dense(1)
    traced(store, body)
    traced(store, body)
    assert sorted(store.variables) == [
        "dense/bias", "dense/kernel", "dense_1/bias", "dense_1/kernel",
    ]  # fmt: skip


def test_random_initial_value_is_lifted_and_one_from_features_refused():
    store = variables.VariableStore()
    traced(store, lambda: tf.Variable(tf.random.normal([4]), name="r"))
    assert np.all(np.isfinite(store.variables["r"].numpy()))

    @tf.function(autograph=False)
    def run(x):
        with variables.trace(store):
            tf.Variable(x * 2.0, name="bad")

    with pytest.raises(ConfigError, match="'bad'"):
        run.get_concrete_function(tf.TensorSpec([2]))


def test_metric_variables_are_local_and_reset():
    store = variables.VariableStore()

    def body():
        keras.metrics.Mean(name="m").update_state([1.0])
        tf.compat.v1.metrics.mean(tf.constant([2.0]))
        tf.Variable(3.0, name="kept", trainable=False)

    traced(store, body)
    assert list(store.saved()) == ["kept"]
    store.variables["m/total"].assign(9.0)
    store.reset_local()
    assert store.variables["m/total"].numpy() == 0.0


def test_trainable_variables_in_order_and_from_closures():
    layer = keras.layers.Dense(1, name="outside")
    layer.build([None, 2])
    found = []

    def body():
        variables.get_variable("b", [1], initializer=0.0)
        variables.get_variable("frozen", [1], initializer=0.0, trainable=False)
        layer(tf.zeros([1, 2]))
        found[:] = (variables.name_of(v) for v in variables.trainable_variables())

    traced(variables.VariableStore(), body)
    assert found[0] == "b"
    assert len(found) == 3
    assert "frozen" not in found


def test_outside_a_trace():
    with variables.scope("eager"):
        made = variables.get_variable("w", [2], initializer=1.0)
    assert made.name.startswith("eager/w")
    assert variables.trainable_variables() == []
    assert not variables.in_trace()
    with pytest.raises(TrainingError):
        variables.global_step()


def test_root_scope_takes_full_names():
    store = variables.VariableStore()

    def body():
        with variables.scope("dnn"), variables.root_scope():
            variables.get_variable("dnn/kernel/accumulator", [1], initializer=0.1)

    traced(store, body)
    assert list(store.variables) == ["dnn/kernel/accumulator"]


def test_one_factory_makes_every_variable():
    made = []

    def factory(*args, **kwargs):
        made.append(kwargs["name"])
        return tf.Variable(*args, **kwargs)

    store = variables.VariableStore(factory)

    def body():
        variables.global_step()
        variables.get_variable("w", [2], initializer=1.0)
        tf.Variable(0.0, name="plain")
        keras.layers.Dense(1)(tf.zeros([1, 2]))
        variables.update_averages(0.9)

    traced(store, body)
    assert sorted(made) == sorted(store.variables)
    assert "dense/kernel" in made
    assert "w/ExponentialMovingAverage" in made
    spread = variables.VariableStore(factory)
    made.clear()
    spread.spread(store, tf.distribute.OneDeviceStrategy("CPU:0"))
    assert sorted(made) == sorted(store.variables)
