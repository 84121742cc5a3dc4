"""Training compiled by XLA gives what the ordinary loop gives, and refuses what it refuses."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from estimator_lib import heads, variables
from estimator_lib.canned import baseline, dcn, dnn, linear, mmoe, tabm, wide_deep
from estimator_lib.core import columns as fc
from estimator_lib.core.errors import ConfigError, DataError
from estimator_lib.estimator import Estimator
from estimator_lib.inputs.arrays import arrays_input
from estimator_lib.specs import EstimatorSpec
from estimator_lib.training import hooks, xla
from estimator_lib.training.run_config import RunConfig

ROWS = 70
RNG = np.random.default_rng(3)
LARGE = 10_000
KIND = RNG.integers(-1, 3, ROWS)
ITEM = np.where(RNG.random(ROWS) < 0.1, -1, RNG.choice([0, 7, 8, LARGE - 1], ROWS))
X = RNG.normal(size=ROWS).astype(np.float32)
FEATURES = {"x": X, "kind": KIND, "item": ITEM, "w": RNG.random(ROWS).astype(np.float32)}
LABEL = (X + (KIND == 2) > 0.3).astype(np.int64)

NUMBER = fc.numeric_column("x")
KINDS = fc.categorical_column_with_identity("kind", 3)
ITEMS = fc.categorical_column_with_identity("item", LARGE)
WIDE = [NUMBER, KINDS, ITEMS]
DEEP = [NUMBER, fc.indicator_column(KINDS), fc.embedding_column(ITEMS, 3)]
DEEP += [fc.embedding_column(KINDS, 2)]


def config(*, compiled, **options):
    return RunConfig(tf_random_seed=5, jit_compile=compiled, **options)


def rows(labels=LABEL, features=FEATURES, **options):
    given = {"batch_size": 16, "shuffle": True, "seed": 2, "epochs": 2} | options
    return arrays_input(features, labels, **given)


def weights(model):
    return {name: model.get_variable_value(name) for name in model.get_variable_names()}


def train_both(make, folder, input_fn, **limits):
    """Weights after training in the ordinary loop and compiled."""
    found = []
    for compiled in (False, True):
        model = make(str(folder / str(compiled)), config(compiled=compiled))
        model.train(input_fn, **limits)
        used = [c.over_chunk is not None for c in model._engine.model._functions.values()]
        assert used == [compiled]
        found.append(weights(model))
    return found


def assert_same(found, tolerance=2e-5):
    plain, compiled = found
    assert plain.keys() == compiled.keys()
    for name in plain:
        np.testing.assert_allclose(
            compiled[name], plain[name], rtol=tolerance, atol=tolerance, err_msg=name
        )


MODELS = {
    "BaselineClassifier": lambda d, c: baseline.BaselineClassifier(d, config=c),
    "LinearClassifier": lambda d, c: linear.LinearClassifier(WIDE, d, 3, "w", config=c),
    "DNNRegressor": lambda d, c: dnn.DNNRegressor([8], DEEP, d, batch_norm=True, config=c),
    "DNNLinearCombinedClassifier": lambda d, c: wide_deep.DNNLinearCombinedClassifier(
        d, WIDE, dnn_feature_columns=DEEP, dnn_hidden_units=[8, 4], weight_column="w", config=c
    ),
    "DCNClassifier": lambda d, c: dcn.DCNClassifier(DEEP, [8], d, config=c),
    "MMoEEstimator": lambda d, c: mmoe.MMoEEstimator(
        heads.MultiHead([heads.BinaryClassHead(name="a"), heads.RegressionHead(name="b")]),
        DEEP, [8], model_dir=d, config=c,
    ),
    "TabMClassifier": lambda d, c: tabm.TabMClassifier(DEEP, [8], d, members=3, config=c),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_ready_made_models_learn_the_same(name, tmp_path):
    labels = {"a": LABEL, "b": X} if name.startswith("MMoE") else LABEL
    # 140 rows: the last batch has fewer than the others.
    assert_same(train_both(MODELS[name], tmp_path, rows(labels)))


OPTIMIZERS = [
    {"name": "SGD", "learning_rate": 0.1},
    {"name": "SGD", "learning_rate": 0.1, "momentum": 0.9, "nesterov": True},
    {"name": "Adagrad", "clipnorm": 0.01},
    {"name": "Adam", "weight_decay": 0.1, "global_clipnorm": 0.1},
    {"name": "RMSProp", "momentum": 0.5},
    {
        "name": "Ftrl", "learning_rate": 0.1, "l1_regularization_strength": 0.01,
        "l2_regularization_strength": 0.1, "l2_shrinkage_regularization_strength": 0.1, "beta": 0.5,
        "learning_rate_power": -0.6, "clipvalue": 0.01,
    },
]  # fmt: skip


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: f"{o['name']} {len(o)}")
def test_optimizers_update_rows_the_same(optimizer, tmp_path, monkeypatch):
    # A table larger than this has its indices sorted.
    monkeypatch.setattr("estimator_lib.optimizers.gradients._SCRATCH_ROWS", 2_000)
    sparse = [ITEMS, fc.categorical_column_with_identity("kind", 1_500)]

    def make(folder, run):
        return linear.LinearClassifier(sparse, folder, optimizer=optimizer, config=run)

    assert_same(train_both(make, tmp_path, rows()))


def test_averages_and_bfloat16_are_kept(tmp_path):
    def make(folder, run):
        run = run.replace(moving_average_decay=0.9, compute_dtype="bfloat16")
        return dnn.DNNClassifier([8], DEEP, folder, config=run)

    assert_same(train_both(make, tmp_path, rows(), max_steps=5), tolerance=5e-3)


def test_a_resumed_training_ends_with_the_same_bits(tmp_path):
    def model(folder):
        return dnn.DNNClassifier([8], DEEP, str(folder), dropout=0.2, config=config(compiled=True))

    input_fn = rows(epochs=None)
    whole = model(tmp_path / "whole").train(input_fn, max_steps=20)
    for steps in (7, 20):
        resumed = model(tmp_path / "resumed").train(input_fn, max_steps=steps)
    before, after = weights(whole), weights(resumed)
    assert before.keys() == after.keys()
    for name in before:
        np.testing.assert_array_equal(before[name], after[name], err_msg=name)


def wide(folder, **options):
    return linear.LinearClassifier(WIDE, str(folder), config=config(compiled=True, **options))


def test_a_label_out_of_range_is_refused_before_anything_is_saved(tmp_path):
    labels = LABEL.copy()
    labels[40] = 2
    model = wide(tmp_path)
    with pytest.raises(DataError, match="label outside its range"):
        model.train(rows(labels, shuffle=False))
    assert model.get_variable_value("global_step") == 0


def test_an_id_beyond_the_table_is_refused(tmp_path):
    features = FEATURES | {"item": np.where(np.arange(ROWS) == 40, LARGE, ITEM)}
    with pytest.raises(DataError, match="range"):
        wide(tmp_path).train(rows(features=features, shuffle=False))


def test_a_loss_that_is_not_finite_stops_training(tmp_path):
    features = FEATURES | {"x": np.where(np.arange(ROWS) == 40, np.inf, X).astype(np.float32)}
    with pytest.raises(hooks.NanLossDuringTrainingError, match="step 4"):
        wide(tmp_path).train(rows(features=features, shuffle=False))


def test_hooks_run_between_the_same_steps(tmp_path):
    seen = []

    class Every(hooks.Hook):
        def next_step(self, step):
            return step - step % 3 + 3

        def after_step(self, context):
            seen.append((context.step, context.rows))

    wide(tmp_path).train(rows(), hooks=[Every()])
    assert seen == [(3, 48), (6, 96), (9, 140)]


def compiles(model):
    return [c.over_chunk is not None for c in model._engine.model._functions.values()]


@pytest.mark.parametrize(
    ("steps", "epochs", "compiled"), [(None, 2, False), (20, None, False), (60, 3, False)]
)
def test_short_trainings_are_not_compiled(steps, epochs, compiled, tmp_path):
    model = linear.LinearClassifier(WIDE, str(tmp_path), config=config(compiled=None))
    model.train(rows(epochs=epochs), max_steps=steps)
    assert compiles(model) == [compiled]


def stopping(make, input_fn, **limits):
    model = make()
    model.train(input_fn, hooks=[hooks.StopAtStepHook(last_step=3)], **limits)
    return compiles(model)


def test_long_trainings_are_compiled_whatever_is_left_of_them(tmp_path):
    def make():
        return linear.LinearClassifier(WIDE, str(tmp_path), config=config(compiled=None))

    assert stopping(make, rows(epochs=None), max_steps=xla.FEWEST_STEPS) == [True]
    model = make()
    model.train(
        rows(epochs=None), max_steps=xla.FEWEST_STEPS, hooks=[hooks.StopAtStepHook(last_step=5)]
    )
    assert compiles(model) == [True]


def own_model(features, labels, mode, config):
    del config
    bias = variables.get_variable("bias", (), initializer=0.0)
    loss = tf.reduce_mean(tf.square(bias - tf.cast(labels, tf.float32)))
    return EstimatorSpec(mode=mode, loss=loss, train_op=bias.assign_sub(0.1 * (bias - 1.0)))


def test_a_model_of_ones_own_is_compiled_only_when_asked_for(tmp_path):
    for compiled in (None, True):

        def make(compiled=compiled):
            folder = str(tmp_path / str(compiled))
            return Estimator(own_model, folder, config=config(compiled=compiled))

        assert stopping(make, rows(epochs=None)) == [bool(compiled)]


def keras_model(features, labels, mode):
    net = keras.layers.Dense(4, activation="relu")(features["x"][:, tf.newaxis])
    net = keras.layers.BatchNormalization()(net, training=mode == "train")
    head = heads.BinaryClassHead()
    optimizer = keras.optimizers.Adam(0.01)
    logits = keras.layers.Dense(1)(net)
    return head.create_estimator_spec(features, mode, logits, labels, optimizer=optimizer)


def test_a_model_of_keras_layers_learns_the_same(tmp_path):
    def make(folder, run):
        return Estimator(keras_model, folder, config=run)

    assert_same(train_both(make, tmp_path, rows()))


def foreign(x):
    return tf.numpy_function(lambda a: a, [x], x.dtype)


def with_foreign_activation(folder, compiled):
    def activation(x):
        return tf.ensure_shape(foreign(x), x.shape)

    columns = [NUMBER, fc.embedding_column(ITEMS, 2, trainable=False)]
    return dnn.DNNClassifier(
        [4], columns, str(folder), activation_fn=activation, config=config(compiled=compiled)
    )


def test_what_xla_cannot_compile_is_trained_all_the_same_unless_asked_for(tmp_path):
    def make():
        return with_foreign_activation(tmp_path / "plain", None)

    assert stopping(make, rows(epochs=None)) == [False]
    with pytest.raises(ConfigError, match="cannot compile"):
        with_foreign_activation(tmp_path / "asked", True).train(rows())


def test_texts_are_not_compiled(tmp_path):
    features = FEATURES | {"text": np.array(["a", "b"] * (ROWS // 2))}
    words = fc.categorical_column_with_vocabulary_list("text", ["a", "b"])

    def make():
        return linear.LinearClassifier([words], str(tmp_path), config=config(compiled=None))

    assert stopping(make, rows(features=features, epochs=None)) == [False]


@pytest.mark.parametrize("compiled", [False, True])
def test_weights_that_are_not_finite_are_never_saved(compiled, tmp_path):
    # The loss is finite, being computed before; the gradient is not.
    features, labels = {"x": np.full(ROWS, 1e38, np.float32)}, np.full(ROWS, 100.0, np.float32)
    model = linear.LinearRegressor(
        [NUMBER], str(tmp_path), optimizer="SGD", config=config(compiled=compiled)
    )
    with pytest.raises(hooks.NanLossDuringTrainingError, match="Weights are not finite at step 1"):
        model.train(rows(labels, features), max_steps=1)
    assert model.get_variable_value("global_step") == 0
