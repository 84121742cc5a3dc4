"""`forward_features` through predictions and served models; EvalOutput; call_logit_fn."""

import numpy as np
import pytest
import tensorflow as tf

import estimator_lib as tf_estimator
from estimator_lib import feature_column as fc
from estimator_lib.core.errors import ConfigError, SchemaError

X = np.array([[1.0], [2.0], [3.0]], np.float32)
KEYS = np.array(["a", "b", "c"], object)


def features():
    tags = tf.SparseTensor([[0, 0], [2, 1]], ["new", "old"], [3, 2])
    return tf.data.Dataset.from_tensors(
        ({"x": X, "key": KEYS, "tags": tags}, np.array([[0], [1], [1]]))
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    directory = str(tmp_path_factory.mktemp("model"))
    made = tf_estimator.LinearClassifier([fc.numeric_column("x")], directory)
    return made.train(features, steps=1)


def test_predictions_hold_the_features(model):
    keyed = tf_estimator.forward_features(model, "key")
    assert type(keyed) is type(model)
    assert keyed.model_dir == model.model_dir
    rows = list(keyed.predict(features))
    assert [row["key"] for row in rows] == [b"a", b"b", b"c"]
    plain = list(model.predict(features))
    np.testing.assert_array_equal([r["logits"] for r in rows], [r["logits"] for r in plain])
    assert "key" not in plain[0]


def test_all_features_and_sparse_ones(model):
    rows = list(tf_estimator.forward_features(model).predict(features))
    assert rows[0]["tags"].tolist() == [b"new", b""]
    rows = list(tf_estimator.forward_features(model, ["tags"], {"tags": "none"}).predict(features))
    assert [row["tags"].tolist() for row in rows] == [
        [b"new", b"none"], [b"none", b"none"], [b"none", b"old"],
    ]  # fmt: skip


@pytest.mark.parametrize("raw", [True, False])
def test_served_models_hold_the_features(model, tmp_path, raw):
    keyed = tf_estimator.forward_features(model, ["key"])
    if raw:
        receiver = tf_estimator.export.build_raw_serving_input_receiver_fn(
            {"x": X, "key": tf.constant(["a"])}
        )
        request = {"x": tf.constant(X), "key": tf.constant(["k1", "k2", "k3"])}
    else:
        spec = {
            "x": tf.io.FixedLenFeature([1], tf.float32),
            "key": tf.io.FixedLenFeature([], tf.string),
        }
        receiver = tf_estimator.export.build_parsing_serving_input_receiver_fn(spec)
        request = {"examples": tf.constant([_example(f"k{i + 1}", X[i]) for i in range(3)])}
    path = keyed.export_saved_model(str(tmp_path), receiver).decode()
    loaded = tf.saved_model.load(path)
    served = loaded.signatures["predict"](**request)
    assert served["key"].numpy().tolist() == [b"k1", b"k2", b"k3"]
    logits = [row["logits"] for row in model.predict(features)]
    np.testing.assert_allclose(served["logits"].numpy(), logits, rtol=1e-6)
    assert ("key" in loaded.signatures["serving_default"].structured_outputs) is raw


def _example(key, x):
    return tf.train.Example(
        features=tf.train.Features(
            feature={
                "x": tf.train.Feature(float_list=tf.train.FloatList(value=x)),
                "key": tf.train.Feature(bytes_list=tf.train.BytesList(value=[key.encode()])),
            }
        )
    ).SerializeToString()


def test_wrong_keys_are_refused(model):
    with pytest.raises(ConfigError, match="keys is invalid"):
        tf_estimator.forward_features(model, [3])
    with pytest.raises(SchemaError, match=r"'kye'.*Did you mean 'key'"):
        next(tf_estimator.forward_features(model, "kye").predict(features))

    def named_logits():
        return features().map(lambda x, y: ({**x, "logits": x["x"]}, y))

    with pytest.raises(ConfigError, match="name of a prediction"):
        next(tf_estimator.forward_features(model, "logits").predict(named_logits))


def test_eval_output_names_its_tensors():
    value = tf.constant(1.0)
    output = tf_estimator.export.EvalOutput(value, value, {"m": (value, value)})
    assert sorted(output.tensors()) == [
        "loss", "metrics/m/update_op", "metrics/m/value", "predictions/output",
    ]  # fmt: skip


def test_call_logit_fn_gives_what_the_function_takes():
    call = tf_estimator.experimental.call_logit_fn

    def logit_fn(features, mode):
        return tf.constant([1.0]) if mode == "train" else "no tensor"

    assert call(logit_fn, {}, "train", {}, None).numpy() == [1.0]
    with pytest.raises(ConfigError, match="logit_fn"):
        call(logit_fn, {}, "eval", {}, None)
