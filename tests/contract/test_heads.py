"""One suite that every head passes, eagerly and inside a model_fn trace."""

import math

import numpy as np
import pytest
import tensorflow as tf

from estimator_lib import heads, losses, variables
from estimator_lib.core import columns as fc
from estimator_lib.core.errors import ConfigError, DataError
from estimator_lib.export.outputs import ClassificationOutput, PredictOutput, RegressionOutput
from estimator_lib.specs import ModeKeys

RNG = np.random.default_rng(5)
N = 12


def logits_of(width):
    return RNG.normal(size=(N, width)).astype(np.float32)


BINARY = RNG.integers(0, 2, N).astype(np.int64)
BINARY_METRICS = {
    "accuracy", "accuracy_baseline", "auc", "auc_precision_recall", "average_loss", "label/mean",
    "precision", "prediction/mean", "recall",
}  # fmt: skip
BINARY_KEYS = {
    "logits", "logistic", "probabilities", "class_ids", "classes", "all_class_ids", "all_classes",
}  # fmt: skip
REGRESSION_METRICS = {"average_loss", "prediction/mean", "label/mean"}
MORE = ("rmse", "mae", "r2")

# name: head of a name suffix, good labels, bad labels (or None), metrics, predictions, signatures
CASES = {
    "binary": (
        lambda **k: heads.BinaryClassHead(**k), BINARY, BINARY + 1, BINARY_METRICS, BINARY_KEYS,
        ("classification", "regression"),
    ),
    "binary of floats": (
        lambda **k: heads.BinaryClassHead(**k), BINARY.astype(np.float32), BINARY * 0.5 + 0.8,
        BINARY_METRICS, BINARY_KEYS, ("classification", "regression"),
    ),
    "binary with thresholds": (
        lambda **k: heads.BinaryClassHead(thresholds=[0.25, 0.5], **k), BINARY, BINARY - 1,
        BINARY_METRICS
        | {f"{m}/positive_threshold_{t}" for m in ("accuracy", "precision", "recall")
           for t in ("0.25", "0.5")},
        BINARY_KEYS, ("classification", "regression"),
    ),
    "binary of texts": (
        lambda **k: heads.BinaryClassHead(label_vocabulary=["no", "yes"], **k),
        np.array(["no", "yes"])[BINARY], np.array(["no", "nay"])[BINARY], BINARY_METRICS,
        BINARY_KEYS, ("classification", "regression"),
    ),
    "binary focal": (
        lambda **k: heads.BinaryClassHead(loss_fn=losses.focal(), **k), BINARY, BINARY + 1,
        BINARY_METRICS, BINARY_KEYS, ("classification", "regression"),
    ),
    "multi-class": (
        lambda **k: heads.MultiClassHead(3, top_k=[2], more_metrics=["auc"], **k),
        np.arange(N) % 3, np.arange(N) % 4,
        {"average_loss", "accuracy", "accuracy/top_2", "auc"}, BINARY_KEYS - {"logistic"},
        ("classification",),
    ),
    "multi-class of texts": (
        lambda **k: heads.MultiClassHead(3, label_vocabulary=["a", "b", "c"], **k),
        np.array(["a", "b", "c"])[np.arange(N) % 3], np.array(["a", "d"])[BINARY],
        {"average_loss", "accuracy"}, BINARY_KEYS - {"logistic"}, ("classification",),
    ),
    "multi-class smoothed": (
        lambda **k: heads.MultiClassHead(
            3, loss_fn=losses.smoothed(0.1), **k
        ),
        np.arange(N) % 3, np.arange(N) % 4, {"average_loss", "accuracy"},
        BINARY_KEYS - {"logistic"}, ("classification",),
    ),
    "multi-label": (
        lambda **k: heads.MultiLabelHead(
            3, thresholds=[0.5], classes_for_class_based_metrics=[1], **k
        ),
        RNG.integers(0, 2, (N, 3)), np.full((N, 3), 2),
        {"average_loss", "auc", "auc_precision_recall", "accuracy/positive_threshold_0.5",
         "precision/positive_threshold_0.5", "recall/positive_threshold_0.5",
         "probability_mean/class1", "auc/class1", "auc_precision_recall/class1"},
        {"logits", "probabilities", "classes"}, ("classification",),
    ),
    "regression": (
        lambda **k: heads.RegressionHead(**k), RNG.normal(size=N), None, REGRESSION_METRICS,
        {"predictions"}, ("regression",),
    ),
    "regression with more metrics": (
        lambda **k: heads.RegressionHead(more_metrics=MORE, **k), RNG.normal(size=N), None,
        REGRESSION_METRICS | {*MORE}, {"predictions"}, ("regression",),
    ),
    "regression by Huber's loss": (
        lambda **k: heads.RegressionHead(loss_fn=losses.huber(0.5), **k), RNG.normal(size=N), None,
        REGRESSION_METRICS, {"predictions"}, ("regression",),
    ),
    "regression of vectors": (
        lambda **k: heads.RegressionHead(label_dimension=2, **k), RNG.normal(size=(N, 2)), None,
        REGRESSION_METRICS, {"predictions"}, ("regression",),
    ),
    "poisson": (
        lambda **k: heads.PoissonRegressionHead(**k), BINARY * 3, BINARY - 2, REGRESSION_METRICS,
        {"predictions", "logits"}, ("regression",),
    ),
    "logistic": (
        lambda **k: heads.LogisticRegressionHead(**k), RNG.random(N), BINARY * 2.0,
        REGRESSION_METRICS, {"predictions", "logits"}, ("regression",),
    ),
    "tweedie": (
        lambda **k: heads.TweedieRegressionHead(**k), BINARY * 3.5, BINARY - 2.0,
        REGRESSION_METRICS, {"predictions", "logits"}, ("regression",),
    ),
    "quantile": (
        lambda **k: heads.QuantileRegressionHead([0.1, 0.9], **k), RNG.normal(size=N), None,
        REGRESSION_METRICS, {"predictions", "logits"}, ("regression",),
    ),
    "ranking": (
        lambda **k: heads.PairwiseRankingHead("g", **k), np.arange(N) % 4, None,
        {"average_loss", "pairwise_accuracy", "label/mean", "prediction/mean"}, {"predictions"},
        ("regression",),
    ),
}  # fmt: skip
GROUP = {"g": np.where(np.arange(N) < 5, 0, 1)}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def weights():
    # Its own generator: whatever ran before, the weighted labels must leave a gradient.
    return {"w": np.random.default_rng(7).random(N).astype(np.float32) + 0.1, **GROUP}


def results(metrics):
    return {key: float(metric.result()) for key, metric in metrics.items()}


def test_metrics_over_batches_are_those_of_all_rows(case):
    make, labels, *_ = case
    head = make(weight_column="w")
    logits, features = logits_of(head.logits_dimension), weights()
    whole = head.update_metrics(head.metrics(), features, logits, labels)
    parts = head.metrics()
    for at in (slice(0, 5), slice(5, 5), slice(5, N)):
        part = {key: value[at] for key, value in features.items()}
        head.update_metrics(parts, part, logits[at], labels[at])
    for key, value in results(whole).items():
        assert math.isfinite(value), key
        np.testing.assert_allclose(results(parts)[key], value, rtol=1e-5, atol=1e-6, err_msg=key)


def test_metric_and_prediction_keys(case):
    make, _, _, metric_keys, prediction_keys, _ = case
    head = make(name="h")
    assert set(head.metrics()) == {f"{key}/h" for key in metric_keys}
    predictions = head.predictions(logits_of(head.logits_dimension))
    assert set(predictions) == prediction_keys
    assert all(value.shape[0] == N for value in predictions.values())
    one = sorted(prediction_keys)[0]
    assert set(head.predictions(logits_of(head.logits_dimension), [one])) == {one}
    with pytest.raises(ConfigError, match="no prediction"):
        head.predictions(logits_of(head.logits_dimension), ["nothing"])


def test_weight_2_is_the_row_twice_in_metrics(case):
    make, labels, *_ = case
    head = make(weight_column="w")
    logits = logits_of(head.logits_dimension)
    double = np.ones(N, np.float32)
    double[3] = 2
    once = head.update_metrics(head.metrics(), {"w": double, **GROUP}, logits, labels)
    twice = head.update_metrics(
        head.metrics(), {"w": np.ones(N + 1, np.float32), "g": np.append(GROUP["g"], 0)},
        np.concatenate([logits, logits[3:4]]), np.concatenate([labels, labels[3:4]]),
    )  # fmt: skip
    for key, value in results(twice).items():
        np.testing.assert_allclose(results(once)[key], value, rtol=1e-5, atol=1e-6, err_msg=key)


def test_loss_is_the_average_loss_without_weights(case):
    make, labels, *_ = case
    head = make()
    logits = logits_of(head.logits_dimension)
    metrics = head.update_metrics(head.metrics(), GROUP, logits, labels)
    plain = head.loss(labels, logits, GROUP)
    np.testing.assert_allclose(plain, results(metrics)["average_loss"], rtol=1e-5)
    extra = head.loss(labels, logits, GROUP, regularization_losses=[2.0, 0.5])
    np.testing.assert_allclose(extra, plain + 2.5, rtol=1e-5)
    assert "regularization_loss" in head.metrics([2.0])
    total = make(loss_reduction="sum").loss(labels, logits, GROUP)
    assert float(total) > float(plain) * (N - 1)


def test_binary_labels_may_be_shares():
    """The numbers are those of tf.estimator 2.15."""
    head = heads.BinaryClassHead(auc_thresholds=200)
    logits, labels = np.float32([[-1.0], [0.5], [3.0]]), np.float32([0.25, 0.75, 0.0])
    got = results(head.update_metrics(head.metrics(), {}, logits, labels))
    expected = {
        "accuracy": 0.0, "accuracy_baseline": 0.666667, "auc": 0.0,
        "auc_precision_recall": 0.450694, "average_loss": 1.403642, "label/mean": 0.333333,
        "precision": 0.5, "prediction/mean": 0.614658, "recall": 0.5,
    }  # fmt: skip
    assert got == pytest.approx(expected, abs=1e-5)
    np.testing.assert_allclose(head.loss(labels, logits), got["average_loss"], rtol=1e-6)


def test_bad_labels_are_named(case):
    make, _, bad, *_ = case
    head = make()
    if bad is None:
        return
    with pytest.raises(DataError, match="label outside its range"):
        head.loss(bad, logits_of(head.logits_dimension))


def test_spec_of_every_mode_in_a_trace(case):
    make, labels, _, metric_keys, prediction_keys, signatures = case
    head = make(weight_column="w")
    store = variables.VariableStore()
    seen = {}
    fixed = {key: tf.constant(value) for key, value in weights().items()}
    builds = {}

    def run(mode):
        if mode not in builds:
            builds[mode] = traced(mode)
        return builds[mode](fixed, tf.constant(labels))

    def traced(mode):
        @tf.function(autograph=False)
        def build(features, labels):
            with variables.trace(store):
                bias = variables.get_variable("bias", (head.logits_dimension,), initializer=0.0)
                slope = variables.get_variable("slope", (head.logits_dimension,), initializer=0.0)
                logits = bias[None] + slope * np.linspace(-1, 1, N, dtype=np.float32)[:, None]
                spec = head.create_estimator_spec(
                    features, mode, logits, labels if mode != ModeKeys.PREDICT else None,
                    "SGD" if mode == ModeKeys.TRAIN else None,
                )  # fmt: skip
                seen[mode] = spec
                if mode == ModeKeys.PREDICT:
                    return spec.predictions
                if mode == ModeKeys.EVAL:
                    return spec.loss
                with tf.control_dependencies([spec.train_op]):
                    return tf.identity(spec.loss)

        return build

    first = run(ModeKeys.TRAIN)
    for _ in range(20):
        last = run(ModeKeys.TRAIN)
    assert last < first
    assert np.any(store.variables["slope"].numpy() != 0)
    assert run(ModeKeys.EVAL).shape == ()
    assert set(seen[ModeKeys.EVAL].eval_metric_ops) == metric_keys
    assert set(run(ModeKeys.PREDICT)) == prediction_keys
    outputs = seen[ModeKeys.PREDICT].export_outputs
    assert set(outputs) == {"serving_default", "predict", *signatures}
    assert isinstance(outputs["predict"], PredictOutput)
    kind = ClassificationOutput if signatures[0] == "classification" else RegressionOutput
    assert isinstance(outputs["serving_default"], kind)


def test_two_examples_of_loss_9_with_weights_1_and_2():
    head = heads.RegressionHead(weight_column="w")
    features = {"w": np.float32([1, 2])}
    logits, labels = np.float32([[3], [-3]]), np.float32([0, 0])
    assert head.loss(labels, logits, features) == 13.5
    metrics = head.update_metrics(head.metrics(), features, logits, labels)
    assert metrics["average_loss"].result() == 9


def test_logit_of_zero_is_class_0():
    head = heads.BinaryClassHead(label_vocabulary=["no", "yes"])
    out = head.predictions([[0.0], [1e-6]])
    np.testing.assert_array_equal(out["class_ids"], [[0], [1]])
    np.testing.assert_array_equal(out["classes"], [[b"no"], [b"yes"]])
    np.testing.assert_allclose(out["probabilities"][0], [0.5, 0.5])
    np.testing.assert_array_equal(heads.BinaryClassHead().predictions([[2.0]])["classes"], [[b"1"]])


def test_regression_metrics_are_those_of_numpy():
    labels, logits = RNG.normal(size=N).astype(np.float32), logits_of(1)
    head = heads.RegressionHead(more_metrics=MORE)
    got = results(head.update_metrics(head.metrics(), {}, logits, labels))
    error = logits[:, 0] - labels
    np.testing.assert_allclose(got["rmse"], np.sqrt((error**2).mean()), rtol=1e-5)
    np.testing.assert_allclose(got["mae"], np.abs(error).mean(), rtol=1e-5)
    np.testing.assert_allclose(
        got["r2"], 1 - (error**2).sum() / ((labels - labels.mean()) ** 2).sum(), rtol=1e-4
    )


def test_multi_label_takes_lists_of_classes():
    head = heads.MultiLabelHead(3, label_vocabulary=["a", "b", "c"])
    lists = tf.ragged.constant([["a", "c"], [], ["b"]])
    dense = heads.MultiLabelHead(3)
    logits = logits_of(3)[:3]
    expected = dense.loss(np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0]]), logits)
    np.testing.assert_allclose(head.loss(lists, logits), expected, rtol=1e-6)
    np.testing.assert_allclose(head.loss(lists.to_sparse(), logits), expected, rtol=1e-6)


def multi():
    return heads.MultiHead(
        [heads.BinaryClassHead(name="click"), heads.RegressionHead(name="price")], [1.0, 0.5]
    )


def test_multi_head_adds_losses_and_keeps_metrics_apart():
    head = multi()
    logits = logits_of(2)
    labels = {"click": BINARY, "price": RNG.normal(size=N)}
    first = heads.BinaryClassHead().loss(BINARY, logits[:, :1])
    second = heads.RegressionHead().loss(labels["price"], logits[:, 1:])
    np.testing.assert_allclose(head.loss(labels, logits), first + 0.5 * second, rtol=1e-6)
    by_name = {"click": logits[:, :1], "price": logits[:, 1:]}
    np.testing.assert_allclose(head.loss(labels, by_name), first + 0.5 * second, rtol=1e-6)
    metrics = head.metrics()
    assert set(metrics) == {f"{k}/click" for k in BINARY_METRICS | {"loss"}} | {
        f"{k}/price" for k in REGRESSION_METRICS | {"loss"}
    }
    head.update_metrics(metrics, {}, logits, labels)
    np.testing.assert_allclose(metrics["loss/price"].result(), second, rtol=1e-6)
    alone = heads.BinaryClassHead()
    expected = alone.update_metrics(alone.metrics(), {}, logits[:, :1], BINARY)
    np.testing.assert_allclose(metrics["auc/click"].result(), expected["auc"].result())
    assert ("click", "logistic") in head.predictions(logits)


def test_multi_head_signatures():
    head = multi()
    outputs = head.export_outputs(head.predictions(logits_of(2)))
    assert set(outputs) == {
        "serving_default", "predict", "click", "click/classification", "click/regression",
        "click/predict", "price", "price/regression", "price/predict",
    }  # fmt: skip
    assert "price/predictions" in outputs["predict"].tensors()


def own_loss(labels, logits, features):
    return tf.abs(labels - logits) * features["x"]


def test_custom_loss_is_used_and_checked():
    head = heads.RegressionHead(loss_fn=own_loss)
    assert head.loss([1.0], [[3.0]], {"x": tf.constant([[2.0]])}) == 4
    with pytest.raises(ConfigError, match="Did you mean 'features'"):
        heads.RegressionHead(loss_fn=lambda labels, logits, featuers: 0)
    with pytest.raises(ConfigError, match="lacks the argument 'logits'"):
        heads.RegressionHead(loss_fn=lambda labels: 0)
    with pytest.raises(DataError, match="wrong shape"):
        heads.RegressionHead(loss_fn=lambda labels, logits: tf.constant(1.0)).loss([1.0], [[3.0]])


@pytest.mark.parametrize(
    "make",
    [
        lambda: heads.MultiClassHead(2),
        lambda: heads.MultiLabelHead(1),
        lambda: heads.RegressionHead(label_dimension=0),
        lambda: heads.BinaryClassHead(thresholds=[1.0]),
        lambda: heads.BinaryClassHead(label_vocabulary=["a"]),
        lambda: heads.BinaryClassHead(loss_reduction="all"),
        lambda: heads.MultiHead([]),
        lambda: heads.MultiHead([heads.BinaryClassHead()]),
        lambda: heads.QuantileRegressionHead([0.9, 0.1]),
    ],
)
def test_wrong_arguments_are_refused(make):
    with pytest.raises(ConfigError):
        make()


def test_wrong_shapes_are_refused():
    head = heads.BinaryClassHead(weight_column="w")
    with pytest.raises(DataError, match="logits of a wrong shape"):
        head.loss(BINARY, logits_of(2), weights())
    with pytest.raises(DataError, match="labels of a wrong shape"):
        head.loss(np.zeros((N, 2)), logits_of(1), weights())
    with pytest.raises(DataError, match="Did you mean 'ww'"):
        head.loss(BINARY, logits_of(1), {"ww": 1})
    with pytest.raises(ConfigError, match="either an optimizer"):
        head.create_estimator_spec(weights(), ModeKeys.TRAIN, logits_of(1), BINARY)


def test_pairs_are_those_of_a_loop():
    labels, logits, features = np.arange(N) % 4, logits_of(1), weights()
    head = heads.PairwiseRankingHead("g", weight_column="w")
    total = pairs = right = count = 0.0
    for i in range(N):
        for j in range(N):
            if features["g"][i] == features["g"][j] and labels[i] > labels[j]:
                weight = features["w"][i] * features["w"][j]
                total += weight * np.log1p(np.exp(logits[j, 0] - logits[i, 0]))
                right += weight * (logits[i, 0] > logits[j, 0])
                pairs += weight
                count += 1
    np.testing.assert_allclose(head.loss(labels, logits, features), total / count, rtol=1e-5)
    got = results(head.update_metrics(head.metrics(), features, logits, labels))
    np.testing.assert_allclose(got["average_loss"], total / pairs, rtol=1e-5)
    np.testing.assert_allclose(got["pairwise_accuracy"], right / pairs, rtol=1e-5)
    assert head.loss(np.ones(N), logits, features) == 0
    with pytest.raises(DataError, match="Group feature 'g' is missing"):
        head.loss(labels, logits, {"w": features["w"]})


def test_positions_outside_the_mask_count_for_nothing():
    mask = np.array([[1, 1, 0], [1, 0, 0]], bool)
    logits = RNG.normal(size=(2, 3, 1)).astype(np.float32)
    labels, weight = np.array([[1, 0, 9], [1, 9, 9]]), np.float32([[1, 2, 3], [4, 5, 6]])
    head = heads.SequentialHead(
        heads.BinaryClassHead(weight_column="w"), "m", [fc.numeric_column("w")]
    )
    features = {"m": mask, "w": weight}
    flat = heads.BinaryClassHead(weight_column="w")
    inside = {"w": weight[mask]}
    expected = flat.loss(labels[mask], logits[mask], inside)
    np.testing.assert_allclose(head.loss(labels, logits, features), expected)
    ragged = tf.ragged.constant([[1, 0], [1]])
    np.testing.assert_allclose(head.loss(ragged, logits, features), expected)
    np.testing.assert_allclose(head.loss(ragged.to_sparse(), logits, features), expected)
    got = results(head.update_metrics(head.metrics(), features, logits, labels))
    assert got == results(flat.update_metrics(flat.metrics(), inside, logits[mask], labels[mask]))
    spec = head.create_estimator_spec(features, ModeKeys.PREDICT, logits)
    assert spec.predictions["logistic"].shape == (2, 3, 1)
    names = {"serving_default", "classification", "regression", "predict"}
    assert set(spec.export_outputs) == names
    assert "m" in spec.export_outputs["predict"].tensors()
    with pytest.raises(DataError, match="misses the mask"):
        head.loss(labels, logits, {})
    with pytest.raises(ConfigError, match="static_head"):
        heads.SequentialHead(multi())
