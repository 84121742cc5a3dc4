"""Boosted trees: the same trees and scores as LightGBM grows alone, in everything downstream."""

import lightgbm
import numpy as np
import pytest
import tensorflow as tf

import estimator_lib
from estimator_lib import export, heads, losses
from estimator_lib.canned import trees
from estimator_lib.core import columns as fc
from estimator_lib.core.errors import ConfigError, DataError
from estimator_lib.inputs.arrays import arrays_input

ROWS = 3000
ROUNDS = 12
FEW, MANY = 30, trees.CATEGORIES + 200
RNG = np.random.default_rng(7)
NUMBERS = RNG.normal(size=(ROWS, 3)).astype(np.float32)
NUMBERS[::7, 2] = 0.0
KIND = RNG.integers(0, FEW, ROWS)
TOKEN = RNG.integers(0, MANY, ROWS)
SIGNAL = NUMBERS[:, 0] + 0.5 * NUMBERS[:, 1] * NUMBERS[:, 2] + np.sin(KIND) + (TOKEN < 300)
CLASS = (SIGNAL + RNG.normal(size=ROWS) > 0.5).astype(np.int64)
FEATURES = {"a": NUMBERS[:, 0], "b": NUMBERS[:, 1], "c": NUMBERS[:, 2], "kind": KIND,
            "token": TOKEN, "w": RNG.uniform(0.5, 2, ROWS).astype(np.float32)}  # fmt: skip
COLUMNS = [
    *(fc.numeric_column(name) for name in "abc"),
    fc.categorical_column_with_identity("kind", FEW),
    fc.categorical_column_with_identity("token", MANY),
]
MATRIX = np.column_stack([NUMBERS, KIND + 1, TOKEN + 1]).astype(np.float32)


def rows(labels=None, epochs=1):
    return arrays_input(FEATURES, labels, batch_size=500, epochs=epochs)


def logits(model):
    found = list(model.predict(rows()))
    return np.array([row["logits" if "logits" in row else "predictions"] for row in found])


def grown_alone(objective, labels, weights=None, **options):
    parameters = {"objective": objective, "verbosity": -1, "use_missing": False,
                  "deterministic": True, "force_col_wise": True, **options}  # fmt: skip
    data = lightgbm.Dataset(MATRIX, labels, weight=weights, categorical_feature=[3])
    return lightgbm.train(parameters, data, ROUNDS).predict(MATRIX, raw_score=True)


def test_binary_scores_are_those_of_lightgbm(tmp_path):
    model = trees.GradientBoostedTreesClassifier(COLUMNS, model_dir=str(tmp_path))
    model.train(rows(CLASS), max_steps=ROUNDS)
    np.testing.assert_allclose(logits(model)[:, 0], grown_alone("binary", CLASS), atol=1e-6)


def test_weighted_numbers_with_own_arguments_are_those_of_lightgbm(tmp_path):
    model = trees.GradientBoostedTreesRegressor(
        COLUMNS, model_dir=str(tmp_path), weight_column="w", max_leaves=9, learning_rate=0.3,
        min_leaf_rows=50, l2=2.0,
    )  # fmt: skip
    model.train(rows(SIGNAL.astype(np.float32)), max_steps=ROUNDS)
    alone = grown_alone("regression", SIGNAL, FEATURES["w"], num_leaves=9, learning_rate=0.3,
                        min_data_in_leaf=50, lambda_l2=2.0)  # fmt: skip
    np.testing.assert_allclose(logits(model)[:, 0], alone, atol=2e-5)


def test_training_goes_on_to_the_same_trees(tmp_path):
    def train(folder, *ends):
        for end in ends:
            model = trees.GradientBoostedTreesClassifier(COLUMNS, model_dir=str(tmp_path / folder))
            model.train(rows(CLASS, epochs=None), max_steps=end)
        return {n: model.get_variable_value(n) for n in model.get_variable_names() if "trees" in n}

    whole, parts = train("a", 8), train("b", 3, 8)
    assert whole["trees/count"] == 8
    for name, value in whole.items():
        np.testing.assert_array_equal(parts[name], value)


def test_every_head_trains_on_its_own_loss():
    def average(head, labels, rounds=60):
        model = trees.GradientBoostedTreesEstimator(head, COLUMNS, n_trees=rounds)
        model.train(rows(labels), max_steps=rounds)
        return model.evaluate(rows(labels))["average_loss"], logits(model)

    def pinball(labels, logits):
        return tf.maximum(0.9 * (labels - logits), -0.1 * (labels - logits))

    number = (100 * SIGNAL).astype(np.float32)
    found, high = average(heads.RegressionHead(loss_fn=pinball), number)
    assert np.mean(number <= high[:, 0]) == pytest.approx(0.9, abs=0.02)
    constant = np.quantile(number, 0.9)
    assert found < 0.7 * np.mean(pinball(number, np.full(ROWS, constant, np.float32)))
    found, _ = average(heads.RegressionHead(loss_fn=losses.absolute_error), number)
    assert found < 0.6 * np.mean(np.abs(number - np.median(number)))
    counts = np.random.default_rng(1).poisson(np.exp(SIGNAL / 2))
    found, _ = average(heads.PoissonRegressionHead(compute_full_loss=False), counts)
    rate = counts.mean()
    assert found < rate - np.mean(counts * np.log(rate)) - 0.05
    found, scores = average(heads.MultiClassHead(3), KIND % 3)
    assert np.mean(np.argmax(scores, 1) == KIND % 3) > 0.99


def test_the_export_scores_as_the_trainer(tmp_path):
    model = trees.GradientBoostedTreesClassifier(COLUMNS, model_dir=str(tmp_path / "m"))
    model.train(rows(CLASS), max_steps=ROUNDS)
    features = {n: FEATURES[n] for n in (*"abc", "kind", "token")}
    receiver = export.build_raw_serving_input_receiver_fn(features)
    path = model.export_saved_model(str(tmp_path / "e"), receiver).decode()
    served = tf.saved_model.load(path).signatures["predict"]
    given = {name: tf.constant(value) for name, value in features.items()}
    np.testing.assert_array_equal(served(**given)["logits"], logits(model))


def test_categories_never_seen_and_missing_ones_are_scored(tmp_path):
    words = fc.categorical_column_with_vocabulary_list("word", ["a", "b"], num_oov_buckets=1)
    columns = [fc.numeric_column("x"), fc.embedding_column(words, 4), fc.indicator_column(words)]
    text = np.array(["a", "b", "a", "b"] * 50)
    given = {"x": np.arange(200, dtype=np.float32), "word": text}
    model = trees.GradientBoostedTreesRegressor(columns, model_dir=str(tmp_path), min_leaf_rows=5)
    model.train(arrays_input(given, (text == "b").astype(np.float32)), max_steps=60)
    inputs = model.get_variable_value("trees/feature")
    assert set(np.unique(np.where(inputs < 0, -1 - inputs, inputs))) == {0, 1}  # word and x
    new = {"x": np.float32([1, 1, 1, 1]), "word": np.array(["a", "b", "zz", ""])}
    found = [row["predictions"][0] for row in model.predict(arrays_input(new))]
    np.testing.assert_allclose(found[:2], [0, 1], atol=0.01)
    assert np.isfinite(found).all()


def test_evaluations_stop_training_and_the_best_trees_stay(tmp_path):
    noise = np.random.default_rng(2).integers(0, 2, ROWS)
    model = trees.GradientBoostedTreesClassifier(
        COLUMNS, model_dir=str(tmp_path), learning_rate=0.5,
        config=estimator_lib.RunConfig(save_checkpoints_steps=5),
    )  # fmt: skip
    hook = estimator_lib.experimental.stop_if_no_decrease_hook(
        model, "loss", 10, run_every_secs=None, run_every_steps=5
    )
    estimator_lib.train_and_evaluate(
        model,
        estimator_lib.TrainSpec(rows(CLASS), max_steps=100, hooks=[hook]),
        estimator_lib.EvalSpec(rows(noise), steps=None, every_steps=5),
    )
    assert 0 < model.get_variable_value("global_step") < 100


def test_training_ends_where_there_is_no_room_for_more_trees(tmp_path):
    model = trees.GradientBoostedTreesClassifier(COLUMNS, 4, str(tmp_path))
    model.train(rows(CLASS), max_steps=9)
    assert model.get_variable_value("global_step") == 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: [fc.piecewise_linear_embedding(fc.numeric_column("a"), [0.0], 2)], "numeric"),
        (lambda: [fc.sequence_numeric_column("a")], "is a sequence"),
    ],
    ids=["embedded number", "sequence"],
)
def test_columns_that_trees_do_not_read_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        trees.GradientBoostedTreesRegressor(make())


def test_inputs_that_do_not_fit_are_refused():
    model = trees.GradientBoostedTreesClassifier(COLUMNS)
    with pytest.raises(ConfigError, match="the argument rows"):
        model.train(lambda: tf.data.Dataset.from_tensors((FEATURES, CLASS)).repeat(), steps=1)
    with pytest.raises(DataError, match="no rows"):
        model.train(lambda: tf.data.Dataset.from_tensors((FEATURES, CLASS)).take(0), steps=1)
    spread = estimator_lib.RunConfig(train_distribute=tf.distribute.OneDeviceStrategy("/cpu:0"))
    with pytest.raises(ConfigError, match="train_distribute"):
        trees.GradientBoostedTreesClassifier(COLUMNS, config=spread)


def test_a_missing_library_is_named(monkeypatch):
    def fails(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr("importlib.import_module", fails)
    with pytest.raises(ConfigError, match=r"Install estimator-pipelines\[trees\]"):
        trees.GradientBoostedTreesRegressor(COLUMNS)
