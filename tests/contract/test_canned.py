"""Every ready-made model trains, evaluates, predicts, exports and resumes."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import estimator_lib as tf_estimator
from estimator_lib import export, heads, variables
from estimator_lib.canned import baseline, dcn, dnn, linear, mmoe, rnn, tabm, trees, wide_deep
from estimator_lib.core import columns as fc
from estimator_lib.core.errors import ConfigError, DataError, ExportError
from estimator_lib.optimizers.sdca import LinearSDCA
from estimator_lib.training.hooks import Hook

ROWS = 64
RNG = np.random.default_rng(1)
X = RNG.normal(size=ROWS).astype(np.float32)
KIND = RNG.integers(0, 3, ROWS)
LABEL = ((X + (KIND == 2) * 2) > 0.5).astype(np.int64)

NUMBER = fc.numeric_column("x")
STEPS = fc.sequence_numeric_column("steps")
WORDS = fc.sequence_categorical_column_with_vocabulary_list("words", ["a", "b"])
SEQUENCES = [STEPS, fc.embedding_column(WORDS, 2)]
KINDS = fc.categorical_column_with_vocabulary_list("kind", ["a", "b"], num_oov_buckets=1)
DENSE = [NUMBER, fc.embedding_column(KINDS, 2), fc.indicator_column(KINDS)]
WIDE = [NUMBER, KINDS, fc.crossed_column(["kind", fc.bucketized_column(NUMBER, [0.0])], 20)]


def features():
    x = X.copy()
    kind = np.array(["a", "b", "zz"])[KIND].astype(object)
    kind[0] = ""
    steps = np.stack([x, x + KIND], 1).astype(np.float32)
    steps[1] = np.nan
    words = np.stack([kind, np.where(KIND == 1, "", "b")], 1)
    return {
        "x": x, "kind": kind.astype(str), "w": np.ones(ROWS, np.float32),
        "w2": np.ones((ROWS, 2), np.float32),
        "steps": steps, "words": words.astype(str), "id": np.arange(ROWS),
    }  # fmt: skip


def input_fn(labels, epochs=None):
    def make():
        data = tf.data.Dataset.from_tensor_slices((features(), labels))
        return data.repeat(epochs).batch(16)

    return make


FAST = {"name": "Adagrad", "learning_rate": 0.6}

MODELS = {
    "LinearClassifier": (lambda d: linear.LinearClassifier(WIDE, d), LABEL),
    "LinearClassifier3": (lambda d: linear.LinearClassifier(WIDE, d, 3), KIND),
    "LinearRegressor": (lambda d: linear.LinearRegressor(WIDE, d), X),
    "LinearEstimator": (
        lambda d: linear.LinearEstimator(heads.PoissonRegressionHead(), WIDE, d), KIND,
    ),
    "DNNClassifier": (
        lambda d: dnn.DNNClassifier(
            [8], DENSE, d, optimizer=FAST, dropout=0.1,
            config=tf_estimator.RunConfig(tf_random_seed=1), batch_norm=True,
        ),
        LABEL,
    ),
    "DNNRegressor": (
        lambda d: dnn.DNNRegressor(
            [8, 4], DENSE, d, optimizer={"name": "Adagrad", "learning_rate": 0.05}
        ),
        X,
    ),
    "DNNEstimator": (
        lambda d: dnn.DNNEstimator(heads.BinaryClassHead(), [8], DENSE, d, optimizer=FAST), LABEL,
    ),
    "DNNLinearCombinedClassifier": (
        lambda d: wide_deep.DNNLinearCombinedClassifier(
            d, WIDE, dnn_feature_columns=DENSE, dnn_hidden_units=[8], dnn_optimizer=FAST,
            weight_column="w",
        ),
        LABEL,
    ),
    "DNNLinearCombinedRegressor": (
        lambda d: wide_deep.DNNLinearCombinedRegressor(
            d, WIDE, dnn_feature_columns=DENSE, dnn_hidden_units=[8],
            dnn_optimizer={"name": "Adam", "learning_rate": 0.01}, dnn_activation_fn="gelu",
        ),
        X,
    ),
    "DNNLinearCombinedEstimator": (
        lambda d: wide_deep.DNNLinearCombinedEstimator(
            heads.BinaryClassHead(), d, dnn_feature_columns=DENSE, dnn_hidden_units=[8],
            dnn_optimizer=FAST,
        ),
        LABEL,
    ),
    "DCNClassifier": (lambda d: dcn.DCNClassifier(DENSE, [8], d), LABEL),
    "DCNRegressor": (lambda d: dcn.DCNRegressor(DENSE, [8], d, cross_rank=2), X),
    "DCNEstimator": (
        lambda d: dcn.DCNEstimator(heads.MultiClassHead(3), DENSE, [8], d, dropout=0.1), KIND,
    ),
    "RNNClassifier": (
        lambda d: rnn.RNNClassifier(
            SEQUENCES, [NUMBER], [4, 3], "lstm", model_dir=d, optimizer="Adam"
        ),
        LABEL,
    ),
    "RNNClassifier per step": (
        lambda d: rnn.RNNClassifier(
            SEQUENCES, rnn_cell_fn=lambda: [keras.layers.GRUCell(4), keras.layers.LSTMCell(2)],
            return_sequences=True, model_dir=d, weight_column="w2",
        ),
        np.stack([LABEL, LABEL], 1),
    ),
    "RNNEstimator": (
        lambda d: rnn.RNNEstimator(
            heads.RegressionHead(), SEQUENCES, units=[4], cell_type=keras.layers.GRUCell,
            model_dir=d,
        ),
        X,
    ),
    "RNNRegressor per step": (
        lambda d: rnn.RNNRegressor(
            SEQUENCES, [NUMBER], rnn_cell_fn=lambda mode: keras.layers.GRUCell(3),
            return_sequences=True, model_dir=d, label_dimension=2, weight_column="w2",
        ),
        np.stack([X, -X], 1)[:, None] * np.float32([[1], [2]]),
    ),
    "LinearSDCA": (
        lambda d: linear.LinearClassifier(WIDE, d, optimizer=LinearSDCA("id", max_examples=100)),
        LABEL,
    ),
    "TabMClassifier": (lambda d: tabm.TabMClassifier(DENSE, [8], d, members=3), LABEL),
    "TabMRegressor": (
        lambda d: tabm.TabMRegressor(DENSE, [8, 4], d, members=2, weight_column="w"), X,
    ),
    "TabMEstimator": (
        lambda d: tabm.TabMEstimator(
            heads.MultiClassHead(3), DENSE, [8], d, members=3, dropout=0.1
        ),
        KIND,
    ),
    "MMoEEstimator": (
        lambda d: mmoe.MMoEEstimator(
            heads.MultiHead([
                heads.BinaryClassHead(name="label"), heads.RegressionHead(name="number"),
            ]),
            DENSE, [8], 2, [4], d,
        ),
        {"label": LABEL, "number": X},
    ),
    "numbers embedded": (
        lambda d: dnn.DNNRegressor(
            [8],
            [fc.piecewise_linear_embedding(NUMBER, [-1.0, 0.0, 1.0], 3),
             fc.periodic_embedding(NUMBER, 4, dimension=3)], d,
        ),
        X,
    ),
    "GradientBoostedTreesClassifier": (
        lambda d: trees.GradientBoostedTreesClassifier(
            WIDE, model_dir=d, min_leaf_rows=5, rows=ROWS, weight_column="w"
        ),
        LABEL,
    ),
    "GradientBoostedTreesRegressor": (
        lambda d: trees.GradientBoostedTreesRegressor(DENSE, model_dir=d, rows=ROWS), X,
    ),
    "GradientBoostedTreesEstimator": (
        lambda d: trees.GradientBoostedTreesEstimator(
            heads.MultiClassHead(3), DENSE, model_dir=d, rows=ROWS
        ),
        KIND,
    ),
    "BaselineClassifier": (lambda d: baseline.BaselineClassifier(d), (X > 1).astype(np.int64)),
    "BaselineRegressor": (lambda d: baseline.BaselineRegressor(d), X),
    "BaselineEstimator": (lambda d: baseline.BaselineEstimator(heads.RegressionHead(), d), X),
}  # fmt: skip


class Losses(Hook):
    def __init__(self):
        self.values = []

    def after_step(self, context):
        self.values.append(context.loss)


@pytest.mark.parametrize("name", MODELS)
def test_model_trains_evaluates_predicts_and_resumes(name, tmp_path):
    make, labels = MODELS[name]
    model = make(str(tmp_path))
    before = model.evaluate(input_fn(labels, 1))
    model.train(input_fn(labels), steps=60)
    after = model.evaluate(input_fn(labels, 1))
    assert after["loss"] < before["loss"]
    assert after["global_step"] == 60
    assert all(math.isfinite(value) for value in after.values())
    predictions = list(model.predict(input_fn(labels, 1)))
    assert len(predictions) == ROWS
    # Another process would go on from here; what it saves, the first one reads by its names.
    again = make(str(tmp_path))
    losses = Losses()
    again.train(input_fn(labels), steps=4, hooks=[losses])
    assert losses.values[0] < before["loss"]
    assert model.evaluate(input_fn(labels, 1))["global_step"] == 64


def test_variable_names_are_those_of_tf_estimator(tmp_path):
    model = MODELS["DNNLinearCombinedClassifier"][0](str(tmp_path))
    model.train(input_fn(LABEL), steps=1)
    assert {n for n in model.get_variable_names() if "Adagrad" not in n and "Ftrl" not in n} == {
        "linear/linear_model/x/weights",
        "linear/linear_model/kind/weights",
        "linear/linear_model/kind_X_x_bucketized/weights",
        "linear/linear_model/bias_weights",
        "dnn/hiddenlayer_0/kernel",
        "dnn/hiddenlayer_0/bias",
        "dnn/logits/kernel",
        "dnn/logits/bias",
        "dnn/input_from_feature_columns/input_layer/kind_embedding/embedding_weights",
        "global_step",
    }


def test_named_optimizers_have_the_rates_of_tf_estimator(tmp_path):
    """Of each model, whatever the optimizer; the gradient of every bias is the same here."""
    slope = -2.0 * X[:16].mean()

    def biases(model, *names):
        model.train(input_fn(X), steps=1)
        return [model.get_variable_value(name)[0] / -slope for name in names]

    one = linear.LinearRegressor([NUMBER], str(tmp_path / "a"), optimizer="SGD")
    assert biases(one, "linear/linear_model/bias_weights") == pytest.approx([0.2])
    one = baseline.BaselineRegressor(str(tmp_path / "b"), optimizer="SGD")
    assert biases(one, "baseline/bias") == pytest.approx([0.3])
    both = wide_deep.DNNLinearCombinedRegressor(
        str(tmp_path / "c"), [NUMBER], "SGD", DENSE, "SGD", [2]
    )
    wide, deep = biases(both, "linear/linear_model/bias_weights", "dnn/logits/bias")
    assert wide / deep == pytest.approx(0.005 / 0.001)
    losses = [Losses(), Losses()]
    for optimizer, seen in zip(["Ftrl", None], losses, strict=True):
        model = linear.LinearRegressor(WIDE, str(tmp_path / f"{optimizer}"), optimizer=optimizer)
        model.train(input_fn(X), steps=2, hooks=[seen])
    assert losses[0].values == losses[1].values


def test_batch_norm_names(tmp_path):
    model = MODELS["DNNClassifier"][0](str(tmp_path))
    model.train(input_fn(LABEL), steps=1)
    names = model.get_variable_names()
    for part in ("beta", "gamma", "moving_mean", "moving_variance"):
        assert f"dnn/hiddenlayer_0/batchnorm_0/{part}" in names
    assert np.any(model.get_variable_value("dnn/hiddenlayer_0/batchnorm_0/moving_mean") != 0)


def test_first_linear_step_is_that_of_ftrl(tmp_path):
    model = linear.LinearRegressor([NUMBER], str(tmp_path), optimizer="Ftrl")
    one = tf.data.Dataset.from_tensors(({"x": np.float32([2.0])}, np.float32([3.0])))
    model.train(lambda: one, steps=1)
    # loss (0 - 3)^2: gradient of the weight -6 * 2, of the bias -6; z = g, n = 0.1 + g^2
    for name, g in (("x/weights", -12.0), ("bias_weights", -6.0)):
        got = model.get_variable_value(f"linear/linear_model/{name}").item()
        np.testing.assert_allclose(got, -g / (math.sqrt(0.1 + g * g) / 0.2), rtol=1e-5)


def test_baseline_learns_the_prior(tmp_path):
    model = baseline.BaselineClassifier(str(tmp_path))
    model.train(input_fn(LABEL), steps=400)
    result = model.evaluate(input_fn(LABEL, 1))
    np.testing.assert_allclose(result["prediction/mean"], LABEL.mean(), atol=0.02)


def test_fields_may_have_any_name(tmp_path):
    number = fc.numeric_column("Größe (cm)")
    kinds = fc.categorical_column_with_vocabulary_list("_kind of: it", ["a", "b"])
    crossed = fc.crossed_column(["_kind of: it", fc.bucketized_column(number, [2.0])], 9)
    deep = [number, fc.embedding_column(kinds, 2), fc.periodic_embedding(number, 2, dimension=2)]
    model = wide_deep.DNNLinearCombinedClassifier(
        str(tmp_path), [number, kinds, crossed], dnn_feature_columns=deep, dnn_hidden_units=[2]
    )
    rows = {"Größe (cm)": np.float32([1, 3]), "_kind of: it": np.array(["a", "b"])}
    model.train(lambda: tf.data.Dataset.from_tensors((rows, [0, 1])), steps=1)
    assert "linear/linear_model/Größe (cm)/weights" in model.get_variable_names()
    spec = {
        "Größe (cm)": tf.io.FixedLenFeature([1], tf.float32),
        "_kind of: it": tf.io.VarLenFeature(tf.string),
    }
    receiver = export.build_parsing_serving_input_receiver_fn(spec)
    path = model.export_saved_model(str(tmp_path / "e"), receiver).decode()
    example = tf.train.Example()
    example.features.feature["Größe (cm)"].float_list.value.append(3.0)
    example.features.feature["_kind of: it"].bytes_list.value.append(b"b")
    served = tf.saved_model.load(path).signatures["predict"](
        examples=tf.constant([example.SerializeToString()])
    )
    found = model.predictor(rows, "logistic")(rows)["logistic"]
    np.testing.assert_allclose(served["logistic"], found[1:], rtol=1e-6)
    raw = export.build_raw_serving_input_receiver_fn(rows)
    path = model.export_saved_model(str(tmp_path / "raw"), raw).decode()
    given = {"Größe (cm)": tf.constant([3.0]), "_kind of: it": tf.constant(["b"])}
    served = tf.saved_model.load(path).signatures["predict"](**given)
    np.testing.assert_allclose(served["logistic"], found[1:], rtol=1e-6)


def test_tf_feature_columns_are_accepted(tmp_path):
    fc2 = tf.feature_column
    number = fc2.numeric_column("x")
    kinds = fc2.categorical_column_with_vocabulary_list("kind", ["a", "b"], num_oov_buckets=1)
    theirs = wide_deep.DNNLinearCombinedClassifier(
        str(tmp_path),
        [number, kinds, fc2.crossed_column(["kind", fc2.bucketized_column(number, [0.0])], 20)],
        dnn_feature_columns=[number, fc2.embedding_column(kinds, 2), fc2.indicator_column(kinds)],
        dnn_hidden_units=[8],
    )
    theirs.train(input_fn(LABEL), steps=2)
    assert "linear/linear_model/kind_X_x_bucketized/weights" in theirs.get_variable_names()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dnn.DNNClassifier([], DENSE), "hidden_units"),
        (lambda: dnn.DNNClassifier([8], [KINDS]), "a vocabulary column"),
        (lambda: dnn.DNNClassifier([8], DENSE, dropout=1.5), "dropout"),
        (lambda: dnn.DNNClassifier([8], DENSE, optimizer="Adagrat"), "Did you mean 'Adagrad'"),
        (lambda: dnn.DNNClassifier([8], DENSE, activation_fn="rellu"), "Did you mean 'relu'"),
        (lambda: linear.LinearClassifier([NUMBER, NUMBER]), "named 'x'"),
        (lambda: linear.LinearClassifier(["x"]), "got str"),
        (lambda: linear.LinearClassifier(WIDE, n_classes=1), "n_classes"),
        (lambda: wide_deep.DNNLinearCombinedClassifier(), "no feature columns"),
        (
            lambda: wide_deep.DNNLinearCombinedClassifier(dnn_feature_columns=DENSE),
            "dnn_hidden_units",
        ),
        (lambda: baseline.BaselineEstimator("head"), "expected a Head"),
        (lambda: mmoe.MMoEEstimator(heads.BinaryClassHead(), DENSE), "expected a MultiHead"),
        (lambda: tabm.TabMClassifier(DENSE, members=0), "members"),
        (lambda: rnn.RNNClassifier([NUMBER], units=[3]), "no sequence of floats"),
        (lambda: rnn.RNNClassifier(SEQUENCES), "units"),
        (lambda: rnn.RNNClassifier(SEQUENCES, units=[3], cell_type="gruu"), "Did you mean 'gru'"),
        (lambda: dnn.DNNClassifier([8], SEQUENCES), "is a sequence"),
        (
            lambda: linear.LinearClassifier(WIDE, None, 3, optimizer=LinearSDCA("id")),
            "LinearSDCA fits",
        ),
        (
            lambda: linear.LinearClassifier(WIDE, optimizer={"name": "LinearSDCA", "l2": 1}),
            "no argument 'l2'",
        ),
    ],
)
def test_wrong_arguments_are_refused_before_any_work(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
    assert not variables.in_trace()


def test_receivers_may_be_fed_in_other_ways(tmp_path):
    model = linear.LinearRegressor([NUMBER], str(tmp_path))
    model.train(input_fn(X), steps=1)
    alternative = {}

    def receiver():
        texts = tf.compat.v1.placeholder(tf.string, [None], name="texts")
        both = tf.strings.to_number(tf.strings.split(texts, ";").to_tensor()[:, :2])
        numbers = {"half": both[:, 0], "rest": both[:, 1]}
        alternative["raw"] = {name: numbers[name] for name in wanted}
        x = numbers["half"] + numbers["rest"]
        return export.ServingInputReceiver({"x": x}, {"texts": texts}, alternative)

    wanted = ("half", "rest")
    served = tf.saved_model.load(model.export_saved_model(str(tmp_path / "e"), receiver).decode())
    given = served.signatures["predict"](texts=tf.constant(["1;2"]))["predictions"]
    raw = served.signatures["raw:predict"](half=tf.constant([1.0]), rest=tf.constant([2.0]))
    np.testing.assert_allclose(raw["predictions"], given)
    wanted = ("half",)
    with pytest.raises(ExportError, match="The inputs half are not enough"):
        model.export_saved_model(str(tmp_path / "e"), receiver)


def test_all_modes_are_exported(tmp_path):
    model = linear.LinearRegressor([NUMBER], str(tmp_path))
    model.train(input_fn(X), steps=1)
    expected = model.evaluate(input_fn(X, 1))
    supervised = tf_estimator.experimental.build_raw_supervised_input_receiver_fn(
        {"x": tf.TensorSpec([None])}, tf.TensorSpec([None])
    )
    raw = export.build_raw_serving_input_receiver_fn({"x": tf.TensorSpec([None])})
    receivers = {"infer": raw, "eval": supervised, "train": supervised}
    path = model.experimental_export_all_saved_models(str(tmp_path / "e"), receivers).decode()
    served = tf.saved_model.load(path)
    assert set(served.signatures) == {"serving_default", "predict", "eval", "train"}
    label = next(n for n in served.signatures["eval"].structured_input_signature[1] if n != "x")
    for _ in range(2):  # all rows at once, then twice
        outputs = served.signatures["eval"](**{"x": tf.constant(X), label: tf.constant(X)})
    np.testing.assert_allclose(outputs["loss"], expected["average_loss"], rtol=1e-5)
    mean = outputs["metrics/average_loss/value"]
    np.testing.assert_allclose(mean, expected["average_loss"], rtol=1e-5)


def test_features_without_names_are_refused():
    with pytest.raises(DataError, match="no names: expected a dict"):
        linear.LinearClassifier(WIDE).train(lambda: (X, LABEL), steps=1)


def test_mean_of_members_is_the_mean_of_their_predictions():
    logits = RNG.normal(size=(5, 4, 3)).astype(np.float32) * 3
    for head, key in (
        (heads.BinaryClassHead(), "logistic"),
        (heads.MultiClassHead(3), "probabilities"),
        (heads.MultiLabelHead(3), "probabilities"),
        (heads.PoissonRegressionHead(3), "predictions"),
        (heads.RegressionHead(label_dimension=3), "predictions"),
    ):
        own = logits[:, :, : head.logits_dimension]
        each = [head.predictions(own[:, i])[key] for i in range(4)]
        found = head.predictions(tabm.mean_logits(head, tf.constant(own)))[key]
        np.testing.assert_allclose(found, np.mean(each, 0), rtol=1e-4)


@pytest.mark.parametrize(
    ("optimizer", "rate"), [("Adagrad", 0.001), ("Adam", 0.001), ("SGD", 0.01)]
)
def test_dnn_has_the_rates_of_the_names(optimizer, rate, tmp_path):
    """Those of tf.estimator 2.15, whatever suits better."""
    config = tf_estimator.RunConfig(tf_random_seed=1)
    found = []
    for given in (optimizer, {"name": optimizer, "learning_rate": rate}):
        model = dnn.DNNClassifier([4], DENSE, str(tmp_path / str(len(found))), optimizer=given,
                                  config=config)  # fmt: skip
        model.train(input_fn(LABEL), steps=3)
        found.append(model.get_variable_value("dnn/logits/kernel"))
    np.testing.assert_array_equal(*found)
