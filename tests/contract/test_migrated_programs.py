"""Programs of tf.estimator 2.15 with nothing but the import changed; numbers are 2.15's."""

import math
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf

import estimator_lib as tf_estimator
from estimator_lib.core.errors import ConfigError

SCORES = np.array([0.2, 0.7, 0.4, 0.6, 0.9, 0.1, 0.8, 0.3], np.float32)
LABELS = np.array([0, 1, 1, 0, 1, 0, 1, 1], np.float32)


def scored(batch):
    return lambda: tf.data.Dataset.from_tensor_slices(({"p": SCORES}, LABELS)).batch(batch)


@pytest.mark.parametrize("batch", [3, 8])
def test_metric_pairs_are_read_after_all_updates(batch, tmp_path):
    metrics = tf.compat.v1.metrics

    def model_fn(features, labels, mode):
        hit = features["p"] > 0.5
        precision, recall = metrics.precision(labels > 0, hit), metrics.recall(labels > 0, hit)
        f1 = 2 * precision[0] * recall[0] / (precision[0] + recall[0])
        pairs = {
            "precision": precision,
            "recall": recall,
            "f1": (f1, tf.group(precision[1], recall[1])),
            "hits": metrics.true_positives(labels > 0, hit),
            "auc": metrics.auc(labels > 0, features["p"]),
            "tag": (tf.constant("v1"), tf.no_op()),
        }
        return tf_estimator.EstimatorSpec(
            mode, loss=tf.reduce_mean(features["p"]), eval_metric_ops=pairs
        )

    found = tf_estimator.Estimator(model_fn, str(tmp_path)).evaluate(scored(batch))
    wanted = {"precision": 0.75, "recall": 0.6, "f1": 2 / 3, "hits": 3.0, "auc": 13 / 15}
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, abs=2e-5)
    assert found["tag"] == b"v1"


def test_prediction_hooks_of_a_spec_run_and_get_their_tensors(tmp_path):
    seen = []

    class Hook(tf_estimator.SessionRunHook):
        def __init__(self, doubled):
            self.tensors = {"doubled": doubled}

        def begin(self):
            seen.append("begin")

        def after_step(self, context):
            seen.append(context.values["doubled"].tolist())

        def end(self, context):
            seen.append("end")

    def model_fn(features, mode):
        return tf_estimator.EstimatorSpec(
            mode, predictions={"y": features["x"]}, prediction_hooks=[Hook(features["x"] * 2)]
        )

    model = tf_estimator.Estimator(model_fn, str(tmp_path))
    list(model.predict(lambda: tf.data.Dataset.from_tensor_slices({"x": [1.0, 2.0, 3.0]}).batch(2)))
    assert seen == ["begin", [2.0, 4.0], [6.0], "end"]


@pytest.mark.parametrize("columns", [tf.feature_column, tf_estimator.feature_column])
def test_normalizer_of_a_weight_column_acts(columns):
    weight = columns.numeric_column("w", normalizer_fn=lambda value: value * 10.0)
    features = {"w": tf.constant([[1.0], [3.0]])}
    logits = tf.zeros((2, 1))
    head = tf_estimator.RegressionHead(weight_column=weight)
    loss = head.loss(tf.constant([[1.0], [2.0]]), logits, features, "train")
    assert float(loss) == pytest.approx((10 * 1 + 30 * 4) / 2)
    head = tf_estimator.BinaryClassHead(weight_column=weight)
    loss = head.loss(tf.constant([[1], [0]]), logits, features, "train")
    assert float(loss) == pytest.approx(math.log(2) * (10 + 30) / 2)


def test_weight_column_that_is_a_column_is_parsed_as_it_says():
    weight = tf.feature_column.numeric_column("w", default_value=2.0)
    spec = tf_estimator.regressor_parse_example_spec([], "y", weight_column=weight)
    assert spec["w"].default_value == (2.0,)


def test_number_without_a_dimension_is_a_column(tmp_path):
    column = tf.feature_column.numeric_column("fare", shape=())

    def inputs():
        rows = ({"fare": np.arange(8, dtype=np.float32)}, np.arange(8) % 2)
        return tf.data.Dataset.from_tensor_slices(rows).batch(4)

    model = tf_estimator.DNNLinearCombinedClassifier(
        str(tmp_path),
        linear_feature_columns=[column],
        dnn_feature_columns=[column],
        dnn_hidden_units=[2],
    )
    assert math.isfinite(model.train(inputs).evaluate(inputs)["loss"])
    spec = tf_estimator.classifier_parse_example_spec([column], "y")
    assert spec["fare"].shape == ()


def test_train_op_made_in_every_mode_trains_only_in_training(tmp_path):
    def model_fn(features, labels, mode):
        weight = tf.compat.v1.get_variable("w", [], initializer=tf.zeros_initializer())
        y = weight * features["p"]
        loss = tf.reduce_mean((y - 1.0) ** 2)
        trained = tf.compat.v1.train.GradientDescentOptimizer(0.1).minimize(
            loss, global_step=tf.compat.v1.train.get_global_step()
        )
        mean = tf.keras.metrics.Mean("rows")
        mean.update_state(features["p"])
        pairs = {"mean": mean, "pair": tf.compat.v1.metrics.mean(features["p"])}
        return tf_estimator.EstimatorSpec(
            mode, predictions={"y": y}, loss=loss, train_op=trained, eval_metric_ops=pairs
        )

    model = tf_estimator.Estimator(model_fn, str(tmp_path))
    model.train(scored(4), steps=2)
    before = model.get_variable_value("w")
    first = model.evaluate(scored(3))
    assert first["mean"] == first["pair"] == pytest.approx(SCORES.mean())
    assert model.evaluate(scored(3)) == first
    rows = [row["y"] for row in model.predict(scored(3))]
    np.testing.assert_allclose(rows, before * SCORES, rtol=1e-6)
    model.train(scored(4), steps=1)
    assert model.get_variable_value("global_step") == 3


def test_metric_of_a_reserved_name_is_refused_by_evaluate(tmp_path):
    def model_fn(features, mode):
        loss = tf.reduce_mean(features["p"])
        return tf_estimator.EstimatorSpec(mode, loss=loss, eval_metric_ops={"loss": (loss, loss)})

    with pytest.raises(ValueError, match="reserved"):
        tf_estimator.Estimator(model_fn, str(tmp_path)).evaluate(
            lambda: tf.data.Dataset.from_tensors({"p": SCORES})
        )


def test_specs_are_tuples():
    spec = tf_estimator.TrainSpec(len, 5)
    assert spec._replace(max_steps=7).max_steps == 7
    assert tuple(spec) == (len, 5, (), ())
    with pytest.raises(ValueError, match="max_steps"):
        spec._replace(max_steps=-1)
    assert tf_estimator.EstimatorSpec("infer", predictions=tf.constant([1.0]))[0] == "infer"
    evaluation = tf_estimator.EvalSpec(len, every_steps=3)._replace(name="late")
    assert evaluation.steps == 100
    assert (evaluation.name, evaluation.every_steps, len(evaluation)) == ("late", 3, 7)
    settings = tf_estimator.WarmStartSettings(b"/a")
    assert settings[:2] == ("/a", ".*")
    assert tf_estimator.VocabInfo("new", 3, 1, "old").axis == 0
    features, fed, others = tf_estimator.export.ServingInputReceiver(
        tf.constant([1.0]), tf.constant(["x"])
    )
    assert (list(features), list(fed), others) == (["feature"], ["input"], None)


def test_errors_are_those_that_programs_catch():
    with pytest.raises(TypeError) as mistyped:
        tf_estimator.TrainSpec("no function")
    assert type(mistyped.value).__name__ == "ConfigError"
    assert isinstance(mistyped.value, ConfigError)
    with pytest.raises(ValueError, match="both") as both:
        tf_estimator.RunConfig(save_checkpoints_steps=5, save_checkpoints_secs=7)
    assert not isinstance(both.value, TypeError)
    head = tf_estimator.BinaryClassHead()
    with pytest.raises(ValueError, match="labels"):
        head.loss(None, tf.constant([[1.0]]), features={}, mode="eval")
    with pytest.raises(tf.errors.InvalidArgumentError, match="outside its range"):
        head.loss(tf.constant([[2]]), tf.constant([[1.0]]), features={}, mode="eval")
    assert issubclass(tf_estimator.NanLossDuringTrainingError, RuntimeError)


def fitted(path, inputs):
    columns = [tf.feature_column.numeric_column(name) for name in ("x", "y")]
    model = tf_estimator.LinearRegressor(columns, str(path))
    return model.train(inputs).evaluate(inputs)


def numbers():
    x = np.arange(8, dtype=np.float32)
    return tf.data.Dataset.from_tensor_slices(({"x": x}, x)).batch(4)


def test_work_after_get_next_is_done_with_every_batch(tmp_path):
    def inputs():
        features, labels = tf.compat.v1.data.make_one_shot_iterator(numbers()).get_next()
        features["y"] = features["x"] * 2
        return features, labels + 1

    def mapped():
        return numbers().map(lambda f, label: ({**f, "y": f["x"] * 2}, label + 1))

    assert fitted(tmp_path / "a", inputs) == fitted(tmp_path / "b", mapped)


def test_estimators_run_inside_of_a_graph_that_a_program_has_open(tmp_path):
    def inputs():
        return numbers().map(lambda f, label: ({**f, "y": f["x"] * 2}, label))

    with tf.Graph().as_default():
        inside = fitted(tmp_path / "a", inputs)
    assert inside == fitted(tmp_path / "b", inputs)


def test_paths_may_be_bytes_and_a_warm_started_model_exports(tmp_path):
    column = tf.feature_column.numeric_column("x")
    old = tf_estimator.LinearRegressor([column], bytes(tmp_path / "old")).train(numbers)
    new = tf_estimator.LinearRegressor(
        [column], str(tmp_path / "new"), warm_start_from=bytes(tmp_path / "old")
    )
    serve = tf_estimator.export.build_parsing_serving_input_receiver_fn(
        {"x": tf.io.FixedLenFeature([1], tf.float32)}
    )
    first = new.export_saved_model(bytes(tmp_path / "exports"), serve)
    second = new.export_saved_model(os.path.join(first, b"again"), serve)
    served = tf.saved_model.load(second.decode()).signatures["predict"]
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.append(2.0)
    got = served(examples=tf.constant([example.SerializeToString()]))["predictions"]
    weights = [old.get_variable_value(f"linear/linear_model/{n}") for n in
               ("x/weights", "bias_weights")]  # fmt: skip
    np.testing.assert_allclose(got, 2 * weights[0] + weights[1], rtol=1e-6)


def test_checkpoints_hold_variables_by_their_names(tmp_path):
    column = tf.feature_column.numeric_column("x")
    model = tf_estimator.LinearRegressor([column], str(tmp_path)).train(numbers)
    assert tf.train.load_variable(str(tmp_path), "global_step") == 2
    np.testing.assert_array_equal(
        tf.train.load_variable(str(tmp_path), "linear/linear_model/x/weights"),
        model.get_variable_value("linear/linear_model/x/weights"),
    )


def test_run_config_takes_own_attributes_and_properties_of_subclasses():
    class Config(tf_estimator.RunConfig):
        @property
        def model_dir(self):
            return "of_the_cluster"

    config = Config(save_summary_steps=7)
    config.use_bf16 = True
    assert config.replace(tf_random_seed=3).use_bf16
    assert isinstance(config.replace(tf_random_seed=3), Config)
    model = tf_estimator.Estimator(lambda features, params: None, config=config, params=object())
    assert model.model_dir == "of_the_cluster"
    with pytest.raises(AttributeError, match="replace"):
        config.save_summary_steps = 8


def test_logits_may_have_more_dimensions():
    logits = tf.constant([[[1.0], [0.0]], [[2.0], [-1.0]]])
    labels = tf.constant([[[1], [0]], [[1], [1]]])
    head = tf_estimator.BinaryClassHead()
    assert float(head.loss(labels, logits, features={}, mode="eval")) == pytest.approx(
        0.6116496, abs=1e-6
    )
    assert head.predictions(logits)["probabilities"].shape == (2, 2, 2)
    assert head.predictions(logits)["all_classes"].shape == (2, 2)
    weighted = tf_estimator.BinaryClassHead(weight_column="w")
    loss = weighted.loss(labels, logits, {"w": tf.constant([[1.0, 0.0], [0.0, 0.0]])}, "train")
    assert float(loss) == pytest.approx(math.log1p(math.exp(-1)) / 4)
    with pytest.raises(ValueError, match="wrong shape"):
        weighted.loss(labels, logits, {"w": tf.ones((2, 1))}, "train")


def test_head_of_a_user_needs_only_what_it_needed():
    class Own(tf_estimator.Head):
        name = None
        logits_dimension = 1
        loss_reduction = tf.losses.Reduction.SUM_OVER_BATCH_SIZE

        def loss(self, labels, logits, features=None, mode=None, regularization_losses=None):
            return tf.reduce_mean((labels - logits) ** 2)

        def predictions(self, logits, keys=None):
            return {"y": logits}

        def metrics(self, regularization_losses=None):
            return {}

        def update_metrics(self, eval_metrics, features, logits, labels, mode=None,
                           regularization_losses=None):  # fmt: skip
            return eval_metrics

    with pytest.raises(NotImplementedError, match="create_estimator_spec"):
        Own().create_estimator_spec({}, "infer", tf.zeros((1, 1)))
    assert Own().predictions(3) == {"y": 3}


def test_reduction_of_auto_is_the_mean():
    labels, logits = tf.constant([[1.0], [3.0]]), tf.zeros((2, 1))
    assert float(tf_estimator.RegressionHead(loss_reduction="auto").loss(labels, logits)) == 5


BATCH_NORM = """
import numpy as np, tensorflow as tf, sys
import estimator_lib as tf_estimator
v1 = tf.compat.v1
x = (np.random.RandomState(0).randn(60, 2) + 10).astype("f")
y = (x[:, 0] > 10).astype("f")

def model_fn(features, labels, mode):
    net = v1.layers.batch_normalization(
        features["x"], training=mode == "train", momentum=0.5, name="bn"
    )
    logits = v1.layers.dense(net, 1, name="d")
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(
        labels=tf.reshape(labels, [-1, 1]), logits=logits
    )
    loss = tf.reduce_mean(entropy)
    train_op = None
    if mode == "train":
        with tf.control_dependencies(v1.get_collection(v1.GraphKeys.UPDATE_OPS)):
            train_op = v1.train.GradientDescentOptimizer(0.5).minimize(
                loss, global_step=v1.train.get_global_step()
            )
    return tf_estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

def data(epochs):
    return lambda: tf.data.Dataset.from_tensor_slices(({"x": x}, y)).repeat(epochs).batch(20)

model = tf_estimator.Estimator(model_fn, sys.argv[1])
model.train(data(None), steps=50)
assert abs(model.get_variable_value("bn/moving_mean").mean() - 10) < 0.5
fresh = tf_estimator.Estimator(model_fn, sys.argv[1])
assert fresh.evaluate(data(1))["loss"] == model.evaluate(data(1))["loss"] < 0.3
"""


def test_moving_averages_of_layers_of_keras_2_are_variables_of_the_model(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(BATCH_NORM), str(tmp_path)],
        env={**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]


class Seeing(tf_estimator.SessionRunHook):
    def begin(self):
        self.seen = []
        self.step = tf.compat.v1.train.get_global_step()

    def before_run(self, run_context):
        return tf.compat.v1.train.SessionRunArgs({"step": self.step, "loss": "loss"})

    def after_run(self, run_context, run_values):
        self.seen.append((int(run_values.results["step"]), float(run_values.results["loss"])))

    def end(self, session):
        self.last = int(session.run(self.step))


def test_hooks_for_sessions_run_around_every_step(tmp_path):
    column = tf.feature_column.numeric_column("x")
    model = tf_estimator.LinearRegressor([column], str(tmp_path))
    train = tf.compat.v1.train
    seeing = Seeing()
    hooks = [seeing, train.StopAtStepHook(num_steps=3), train.LoggingTensorHook(["loss"], 1)]
    model.train(lambda: numbers().repeat(), hooks=hooks, steps=10)
    assert [step for step, _ in seeing.seen] == [0, 1, 2]
    assert seeing.last == model.get_variable_value("global_step") == 3
    evaluated = Seeing()
    result = model.evaluate(numbers, hooks=[evaluated])
    losses = [loss for _, loss in evaluated.seen]
    assert np.mean(losses) == pytest.approx(float(result["loss"]))
    list(model.predict(numbers, hooks=[train.SessionRunHook()]))


def test_hooks_for_sessions_that_a_model_fn_makes_fetch_and_begin_once(tmp_path):
    made = {}
    told = []

    class Telling(tf_estimator.SessionRunHook):
        def __init__(self, mode):
            self.mode = mode

        def begin(self):
            told.append((self.mode, "begin"))

        def end(self, session):
            told.append((self.mode, "end"))

    def model_fn(features, labels, mode):
        made[mode] = Seeing()
        hooks = [Telling(mode), made[mode]]
        train = tf.compat.v1.train
        weight = tf.compat.v1.get_variable("weight", [], initializer=tf.zeros_initializer())
        outputs = features["x"] * weight
        if mode == "infer":
            return tf_estimator.EstimatorSpec(mode, predictions=outputs, prediction_hooks=hooks[:1])
        loss = tf.reduce_mean((outputs - labels) ** 2)
        step = train.GradientDescentOptimizer(0.1).minimize(loss, train.get_global_step())
        return tf_estimator.EstimatorSpec(
            mode, loss=loss, train_op=step, training_hooks=hooks, evaluation_hooks=hooks
        )

    model = tf_estimator.Estimator(model_fn, str(tmp_path))
    model.train(lambda: numbers().repeat(), steps=3)
    assert [step for step, _ in made["train"].seen] == [0, 1, 2]
    assert made["train"].seen[0][1] == pytest.approx(3.5)  # the mean square of 0, 1, 2 and 3
    result = model.evaluate(numbers)
    assert np.mean([loss for _, loss in made["eval"].seen]) == pytest.approx(float(result["loss"]))
    assert made["eval"].last == 3
    list(model.predict(numbers))
    assert told == [(mode, act) for mode in ("train", "eval", "infer") for act in ("begin", "end")]


def test_one_label_for_two_tensors_is_refused(tmp_path):
    def model_fn(features, labels, mode):
        ask = tf_estimator.LoggingTensorHook
        loss = tf.reduce_mean(features["x"])
        hooks = [ask({"v": value}, 1) for value in (loss, 2 * loss)]
        return tf_estimator.EstimatorSpec(mode, loss=loss, evaluation_hooks=hooks)

    with pytest.raises(ConfigError, match="different tensors as 'v'"):
        tf_estimator.Estimator(model_fn, str(tmp_path)).evaluate(numbers)


def test_hook_that_feeds_a_session_is_refused(tmp_path):
    class Feeding(tf.compat.v1.train.SessionRunHook):
        def before_run(self, run_context):
            return tf.compat.v1.train.SessionRunArgs(None, feed_dict={"x:0": 1.0})

    column = tf.feature_column.numeric_column("x")
    model = tf_estimator.LinearRegressor([column], str(tmp_path))
    with pytest.raises(ConfigError, match="Feeding cannot run"):
        model.train(numbers, hooks=[Feeding()])


POINTS = np.arange(1, 11, dtype=np.float32).reshape(5, 2)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_clusters_are_chosen_over_several_batches_before_the_first_step(batch, tmp_path):
    model = tf_estimator.KMeansClustering(
        5, str(tmp_path), initial_clusters="random", use_mini_batch=True,
        mini_batch_steps_per_iteration=100, seed=2,
    )  # fmt: skip
    model.train(lambda: tf.data.Dataset.from_tensor_slices(POINTS).batch(batch).repeat(), steps=1)
    assert sorted(model.cluster_centers().tolist()) == POINTS.tolist()


@pytest.mark.parametrize(
    ("initial", "points"), [("kmeans_plus_plus", 5), ("random", 4)], ids=["small batch", "few"]
)
def test_clusters_that_cannot_be_chosen_are_refused(initial, points, tmp_path):
    model = tf_estimator.KMeansClustering(5, str(tmp_path), initial_clusters=initial)
    with pytest.raises(ValueError, match=r"fewer points|has 4 points"):
        model.train(lambda: tf.data.Dataset.from_tensor_slices(POINTS[:points]).batch(1), steps=1)


WITHOUT_V2 = """
import numpy as np, tensorflow as tf, sys
tf.compat.v1.disable_v2_behavior()
import estimator_lib as tf_estimator

def data():
    x = np.arange(8, dtype=np.float32).reshape(8, 1)
    return tf.data.Dataset.from_tensor_slices(({"x": x}, x[:, 0])).batch(4)

def model_fn(features, labels, mode):
    x = features["x"]
    y = tf.matmul(x, tf.compat.v1.get_variable("w", [x.shape[1].value, 1]))[:, 0]
    loss = tf.compat.v1.losses.mean_squared_error(labels, y)
    step = tf.compat.v1.train.get_global_step()
    train_op = tf.compat.v1.train.GradientDescentOptimizer(0.01).minimize(loss, step)
    return tf_estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

column = tf.feature_column.numeric_column("x")
ready = tf_estimator.LinearRegressor([column], sys.argv[1] + "/a").train(data)
assert abs(ready.evaluate(data)["average_loss"] - 4.8657) < 1e-3
own = tf_estimator.Estimator(model_fn, sys.argv[1] + "/b").train(data)
assert own.evaluate(data)["global_step"] == 2
"""


def test_program_that_disables_the_second_version_runs(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WITHOUT_V2), str(tmp_path)],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]


@pytest.mark.parametrize(
    "make",
    [
        lambda model, **every: tf_estimator.experimental.make_early_stopping_hook(
            model, lambda: True, **every
        ),
        lambda model, **every: tf_estimator.experimental.stop_if_lower_hook(
            model, "loss", 1.0, **every
        ),
        lambda model, **every: tf_estimator.experimental.stop_if_no_increase_hook(
            model, "loss", 10, **every
        ),
    ],
)
def test_stopping_by_steps_needs_no_seconds_as_in_2_15(make, tmp_path):
    model = tf_estimator.BaselineRegressor(model_dir=str(tmp_path))
    with pytest.raises(ValueError, match="run_every_secs=None"):
        make(model, run_every_steps=5)
    assert make(model, run_every_secs=None, run_every_steps=5).every_steps == 5
