"""Makes the fixtures in tf_estimator_2_15/: what tf.estimator 2.15 itself writes and computes.

It needs an environment of its own, because tf.estimator is gone from newer TensorFlow:

    python3.11 -m venv /tmp/tf215
    /tmp/tf215/bin/pip install tensorflow-cpu==2.15.1 tensorflow-estimator==2.15.0
    /tmp/tf215/bin/python tests/golden/make_tf_estimator_checkpoints.py [model ...]

For each model of `MODELS`: checkpoints of steps 0 and 8 (name-keyed, as 2.15 writes them),
`expected.npz` with the losses of steps 1 to 12, the predictions of step 8 and all variables of
step 12, and `expected.json` with the evaluation of step 8 and the signatures of its export; of
one model also the variables of its export (without the graph, which is large). For each model
of `CLUSTERS`: the checkpoint of its step (and of step 0, which has no centres), the predictions,
evaluation and signatures of it, and loss and variables of one more step. And
`public_names.json`: every public name of tf.estimator with the names of its parameters.

The tests build the same models by the same functions with estimator_lib, which is the point:
the code below names nothing but what it is given. (Optimizers are made by functions, because
2.15 cannot use an instance in a second train() call.)
"""

from __future__ import annotations

import inspect
import json
import os
import pathlib
import shutil
import sys
import tempfile
import types

import numpy as np

HERE = pathlib.Path(__file__).parent / "tf_estimator_2_15"
ROWS, BATCH, STEPS, MORE = 64, 16, 8, 4
COLORS = ["red", "green", "blue"]


def inputs():
    """Feature arrays by name and labels by name, `[64]`; tags have up to two values."""
    random = np.random.default_rng(7)
    features = {
        "age": random.uniform(18, 80, ROWS).astype(np.float32),
        "height": random.normal(170, 10, ROWS).astype(np.float32),
        "color": random.choice([*COLORS, "violet"], ROWS).astype(object),
        "city": np.array([f"city {i}" for i in random.integers(0, 30, ROWS)], object),
        "size": random.integers(0, 5, ROWS).astype(np.int64),
        "tags": random.choice(["", "new", "used", "rare"], (ROWS, 2)).astype(object),
        "weight": random.uniform(0.5, 2.0, ROWS).astype(np.float32),
    }
    score = 0.05 * (features["age"] - 45) + (features["color"] == "red") - 0.4 * features["size"]
    noisy = (score + random.normal(0, 0.5, ROWS)).astype(np.float32)
    labels = {
        "binary": (noisy > np.median(noisy)).astype(np.int64),
        "three": np.digitize(noisy, [-1.0, 0.5]).astype(np.int64),
        "text": np.array(["low", "middle", "high"], object)[np.digitize(noisy, [-1.0, 0.5])],
        "number": noisy,
        "pair": np.stack([noisy, 1.0 - noisy], axis=1).astype(np.float32),
        "steps": (sequences()["words"] == "one").astype(np.int64),
    }
    labels["late and delay"] = {"late": labels["binary"], "delay": labels["pair"]}
    labels["level and count"] = {"level": labels["text"], "count": np.exp(noisy).round()}
    return features, labels


def sequences():
    """Feature arrays `[64, 5]` by name: one to five positions, then "" or 0."""
    random = np.random.default_rng(8)
    lengths = random.integers(1, 6, ROWS)
    lengths[::BATCH] = 5  # 2.15 fails where no sequence of a batch is as long as its tensor
    inside = np.arange(5) < lengths[:, None]
    words = random.choice(["one", "two", "three", "four"], (ROWS, 5)).astype(object)
    return {
        "words": np.where(inside, words, ""),
        "amounts": np.where(inside, random.normal(0, 1, (ROWS, 5)), 0).astype(np.float32),
        "weights": np.where(inside, random.uniform(0.5, 2, (ROWS, 5)), 0).astype(np.float32),
    }


def normalized(x):
    """For the column height."""
    return (x - 170.0) / 10.0


def columns(fc):
    """Wide and deep columns; `fc` is tf.feature_column or estimator_lib.feature_column."""
    color = fc.categorical_column_with_vocabulary_list("color", COLORS, num_oov_buckets=1)
    city = fc.categorical_column_with_hash_bucket("city", 20)
    size = fc.categorical_column_with_identity("size", 5)
    tags = fc.categorical_column_with_vocabulary_list("tags", ["new", "used"], default_value=-1)
    age = fc.numeric_column("age")
    ages = fc.bucketized_column(age, [30, 40, 55])
    height = fc.numeric_column("height", normalizer_fn=normalized)
    wide = [color, city, tags, ages, fc.crossed_column(["color", ages], 50), height]
    deep = [
        height,
        ages,
        fc.indicator_column(size),
        fc.indicator_column(tags),
        fc.embedding_column(color, 2),
        fc.embedding_column(city, 3),
        fc.embedding_column(fc.crossed_column(["color", "city"], 30), 2),
        fc.embedding_column(tags, 2),
    ]
    return wide, deep


def linear_classifier(estimator, fc, optimizers, **kwargs):
    """Default Ftrl, weights."""
    wide, _ = columns(fc)
    return estimator.LinearClassifier(wide, weight_column="weight", **kwargs)


def linear_regressor(estimator, fc, optimizers, **kwargs):
    """Losses added up, not averaged; RMSProp with momentum."""
    wide, _ = columns(fc)
    return estimator.LinearRegressor(
        wide,
        weight_column="weight",
        loss_reduction="sum",
        optimizer=lambda: optimizers.RMSprop(0.01, momentum=0.5),
        sparse_combiner="mean",
        **kwargs,
    )


def dnn_classifier(estimator, fc, optimizers, **kwargs):
    """Adagrad, batch normalization, three classes named by texts."""
    _, deep = columns(fc)
    return estimator.DNNClassifier(
        [8, 4],
        deep,
        n_classes=3,
        label_vocabulary=["low", "middle", "high"],
        optimizer=lambda: optimizers.Adagrad(0.05),
        batch_norm=True,
        **kwargs,
    )


def dnn_regressor(estimator, fc, optimizers, **kwargs):
    """Adam, two numbers per example, weights."""
    _, deep = columns(fc)
    return estimator.DNNRegressor(
        [8, 4],
        deep,
        label_dimension=2,
        weight_column="weight",
        optimizer=lambda: optimizers.Adam(0.01),
        **kwargs,
    )


def wide_deep(estimator, fc, optimizers, **kwargs):
    """Default Ftrl for the linear part, Adagrad for the network."""
    wide, deep = columns(fc)
    return estimator.DNNLinearCombinedClassifier(
        linear_feature_columns=wide,
        dnn_feature_columns=deep,
        dnn_hidden_units=[8, 4],
        dnn_optimizer=lambda: optimizers.Adagrad(0.05),
        weight_column="weight",
        **kwargs,
    )


def wide_deep_same(estimator, fc, optimizers, **kwargs):
    """Adagrad twice, at different rates: two optimizers of one kind."""
    wide, deep = columns(fc)
    return estimator.DNNLinearCombinedRegressor(
        linear_feature_columns=wide,
        linear_optimizer=lambda: optimizers.Adagrad(0.1),
        dnn_feature_columns=deep,
        dnn_hidden_units=[8],
        dnn_optimizer=lambda: optimizers.Adagrad(0.02),
        batch_norm=True,
        **kwargs,
    )


def wide_deep_v1(estimator, fc, optimizers, **kwargs):
    """The class of tf.compat.v1.estimator: other slot names, partitions, losses added up."""
    wide, deep = columns(fc)
    if optimizers is not None:  # the defaults of the first version
        kwargs["dnn_optimizer"] = lambda: optimizers.Adagrad(0.001)
    return estimator.DNNLinearCombinedClassifier(
        linear_feature_columns=wide,
        dnn_feature_columns=deep,
        dnn_hidden_units=[8, 4],
        loss_reduction="sum" if optimizers is not None else "weighted_sum",
        weight_column="weight",
        **kwargs,
    )


def baseline_classifier(estimator, fc, optimizers, **kwargs):
    """Default Ftrl."""
    return estimator.BaselineClassifier(n_classes=3, weight_column="weight", **kwargs)


def sequence_columns(fc):
    """Columns of the sequences, and of their context."""
    words = fc.sequence_categorical_column_with_vocabulary_list("words", ["one", "two", "three"])
    steps = [fc.embedding_column(words, 2), fc.sequence_numeric_column("amounts")]
    color = fc.categorical_column_with_vocabulary_list("color", COLORS, num_oov_buckets=1)
    height = fc.numeric_column("height", normalizer_fn=normalized)
    return steps, [height, fc.embedding_column(color, 2)]


def rnn_classifier(estimator, fc, optimizers, **kwargs):
    """Two layers of LSTM, context, three classes, weights, the default optimizer."""
    steps, context = sequence_columns(fc)
    return estimator.experimental.RNNClassifier(
        steps,
        context,
        units=[3, 2],
        cell_type="lstm",
        n_classes=3,
        weight_column="weight",
        **kwargs,
    )


def rnn_estimator(estimator, fc, optimizers, **kwargs):
    """A head of one's own, GRU, Adam."""
    steps, _ = sequence_columns(fc)
    return estimator.experimental.RNNEstimator(
        estimator.RegressionHead(),
        steps,
        units=[3],
        cell_type="gru",
        optimizer=lambda: optimizers.Adam(0.01),
        **kwargs,
    )


def rnn_sequences(estimator, fc, optimizers, **kwargs):
    """A class and a weight per position, the default cell."""
    steps, context = sequence_columns(fc)
    return estimator.experimental.RNNClassifier(
        steps,
        context,
        units=[3],
        return_sequences=True,
        weight_column="weights",
        sequence_mask="inside",
        **kwargs,
    )


def rnn_layer(estimator, fc, optimizers, **kwargs):
    """A number of units instead of a list, which makes a layer of another name."""
    steps, context = sequence_columns(fc)
    return estimator.experimental.RNNClassifier(
        steps, context, units=3, cell_type="lstm", optimizer="SGD", **kwargs
    )


def two_heads(estimator):
    """A class and two numbers, one weighted and one of another weight."""
    return estimator.MultiHead(
        [
            estimator.BinaryClassHead(weight_column="weight", name="late"),
            estimator.RegressionHead(label_dimension=2, name="delay"),
        ],
        [1.0, 0.25],
    )


def multi_linear(estimator, fc, optimizers, **kwargs):
    """Default Ftrl."""
    wide, _ = columns(fc)
    return estimator.LinearEstimator(two_heads(estimator), wide, **kwargs)


def multi_dnn(estimator, fc, optimizers, **kwargs):
    """Adagrad, batch normalization."""
    _, deep = columns(fc)
    return estimator.DNNEstimator(
        two_heads(estimator),
        [4],
        deep,
        optimizer=lambda: optimizers.Adagrad(0.05),
        batch_norm=True,
        **kwargs,
    )


def multi_wide_deep(estimator, fc, optimizers, **kwargs):
    """Three classes named by texts and a count; default Ftrl and Adam."""
    wide, deep = columns(fc)
    head = estimator.MultiHead(
        [
            estimator.MultiClassHead(3, label_vocabulary=["low", "middle", "high"], name="level"),
            estimator.PoissonRegressionHead(name="count"),
        ]
    )
    return estimator.DNNLinearCombinedEstimator(
        head,
        linear_feature_columns=wide,
        dnn_feature_columns=deep,
        dnn_hidden_units=[4],
        dnn_optimizer=lambda: optimizers.Adam(0.01),
        **kwargs,
    )


MODELS = {
    "linear_classifier": (linear_classifier, "binary"),
    "linear_regressor": (linear_regressor, "number"),
    "dnn_classifier": (dnn_classifier, "text"),
    "dnn_regressor": (dnn_regressor, "pair"),
    "wide_deep": (wide_deep, "binary"),
    "wide_deep_v1": (wide_deep_v1, "binary"),
    "wide_deep_same": (wide_deep_same, "number"),
    "baseline_classifier": (baseline_classifier, "three"),
    "rnn_classifier": (rnn_classifier, "three"),
    "rnn_estimator": (rnn_estimator, "number"),
    "rnn_sequences": (rnn_sequences, "steps"),
    "rnn_layer": (rnn_layer, "binary"),
    "multi_linear": (multi_linear, "late and delay"),
    "multi_dnn": (multi_dnn, "late and delay"),
    "multi_wide_deep": (multi_wide_deep, "level and count"),
}
"""Name to the function that makes the model and the name of its label."""

EXPORTED = "linear_classifier"
"""The model of whose SavedModel the variables are kept."""


def features_of(name):
    """Feature arrays by name that a model is given."""
    features, _ = inputs()
    if name.startswith("baseline"):
        # With more than one feature beside the weight, Baseline models of 2.15 fail to start:
        # the initial value of their bias waits for checks of the features' sizes.
        return {field: features[field] for field in ("age", "weight")}
    return features | sequences() if name.startswith("rnn") else features


def input_fn(tf, name, epochs=1):
    """The rows in order, 16 at a time; sequences are sparse, as 2.15 wants them."""
    features, (_, labels) = features_of(name), inputs()

    def sparse(features, labels):
        fields = [field for field in sequences() if field in features]
        return features | {f: tf.sparse.from_dense(features[f]) for f in fields}, labels

    def make():
        data = tf.data.Dataset.from_tensor_slices((features, labels[MODELS[name][1]]))
        return data.batch(BATCH).map(sparse).repeat(epochs)

    return make


def feature_spec(tf, name):
    """How serialized examples are parsed."""
    kinds = {"f": tf.float32, "i": tf.int64, "O": tf.string}
    return {
        field: tf.io.VarLenFeature(kinds[values.dtype.kind])
        if field in sequences()
        else tf.io.FixedLenFeature(values.shape[1:], kinds[values.dtype.kind])
        for field, values in features_of(name).items()
    }


# --- Clusters ---------------------------------------------------------------------------------

CLUSTERS = {
    "kmeans": (4, {}),
    "kmeans_cosine": (4, {"distance_metric": "cosine"}),
    "kmeans_full": (2, {"use_mini_batch": False}),
    "kmeans_full_cosine": (2, {"use_mini_batch": False, "distance_metric": "cosine"}),
    "kmeans_within": (4, {"mini_batch_steps_per_iteration": 3}),
    "kmeans_end": (6, {"mini_batch_steps_per_iteration": 3, "distance_metric": "cosine"}),
}
"""Name to the step of its checkpoint and its arguments; the last two are in and at the end of an
iteration of several steps."""


def kmeans(kind, fc, name, **kwargs):
    """`kind` is the class; the models with all points in a batch read columns."""
    _, arguments = CLUSTERS[name]
    if "full" in name:
        kwargs["feature_columns"] = [fc.numeric_column("y"), fc.numeric_column("x")]
    return kind(3, seed=6, **arguments, **kwargs)


def points():
    """Three heaps of eight points, by field `[24, 1]`."""
    random = np.random.default_rng(9)
    centres = np.array([[2.0, 0.5], [-1.0, 2.0], [-0.5, -2.0]])
    found = random.permutation(np.repeat(centres, 8, 0) + random.normal(0, 0.8, (24, 2)))
    return {field: found[:, i : i + 1].astype(np.float32) for i, field in enumerate("xy")}


def points_fn(tf, batch=24, epochs=1):
    """The points in order."""
    return lambda: tf.data.Dataset.from_tensor_slices(points()).batch(batch).repeat(epochs)


def training_points(tf, name):
    """What a model is trained with."""
    return points_fn(tf, 24 if "full" in name else 8, None)


def documented(name, before):
    """Centres after one more step, by the rule that tf.estimator 2.15 states.

    For a centre c of n points so far, k new ones d: c += (sum(d) - k c) / (n + k). Within an
    iteration distances are those to the centres at its begin, and n counts from there.
    """
    rows = np.concatenate(list(points().values()), 1).astype(np.float64)
    if "full" not in name:
        rows = rows[:8]
    if "distance_metric" in CLUSTERS[name][1]:
        rows = scaled(rows)
    near = before["clusters"]
    if "distance_metric" in CLUSTERS[name][1]:
        near = scaled(near)
    old = before.get("clusters_updated", before["clusters"]).astype(np.float64)
    ends = before.get("update_in_steps", 1) <= 0
    index = ((rows[:, None] - near) ** 2).sum(-1).argmin(1)
    found = old.copy()
    for i in set(index):
        mine = rows[index == i]
        count = 0 if ends else before.get("Variable", np.zeros(3))[i]
        found[i] += (mine - old[i]).sum(0) / (count + len(mine))
    return scaled(found) if name == "kmeans_full_cosine" else found


def scaled(rows):
    """Rows of length 1."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


# --- Made by tf.estimator 2.15 ----------------------------------------------------------------


def make_clusters(tf, name):
    """Writes the fixture of one model of CLUSTERS."""
    folder, (step, _) = HERE / name, CLUSTERS[name]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = tf.estimator.RunConfig(save_summary_steps=None, checkpoint_save_graph_def=False)

    def build(model_dir):
        kind = tf.compat.v1.estimator.experimental.KMeans
        return kmeans(kind, tf.feature_column, name, model_dir=model_dir, config=config)

    def values(model):
        return {key: model.get_variable_value(key) for key in model.get_variable_names()}

    with tempfile.TemporaryDirectory() as model_dir:
        model = build(model_dir)
        model.train(training_points(tf, name), steps=step)
        before = values(model)
        evaluation = model.evaluate(points_fn(tf))
        predictions = list(model.predict(points_fn(tf)))
        arrays = {f"predictions/{k}": [row[k] for row in predictions] for k in predictions[0]}
        arrays["transformed"] = list(model.transform(points_fn(tf)))
        spec = {field: tf.io.FixedLenFeature([1], tf.float32) for field in points()}
        receiver = tf.estimator.export.build_parsing_serving_input_receiver_fn(spec)
        export = model.export_saved_model(model_dir + "/export", receiver).decode()
        exported = tf.saved_model.load(export)
        signatures = {
            key: sorted(function.structured_outputs)
            for key, function in exported.signatures.items()
        }
        for saved in (step, *([0] if name == "kmeans" else [])):
            for path in pathlib.Path(model_dir).glob(f"model.ckpt-{saved}.*"):
                if path.suffix != ".meta":
                    shutil.copy(path, folder)
        (folder / "checkpoint").write_text(f'model_checkpoint_path: "model.ckpt-{step}"\n')
    # Nothing orders reading and adding to the counts in 2.15, so that n is sometimes n + k; and
    # nothing orders an iteration's end and the distances. A run is kept that did as documented.
    want = documented(name, before)
    for _ in range(200):
        with tempfile.TemporaryDirectory() as model_dir:
            shutil.copytree(folder, model_dir, dirs_exist_ok=True)
            model = build(model_dir)
            losses = losses_hook(tf)
            model.train(training_points(tf, name), steps=1, hooks=[losses])
            after = values(model)
        if np.allclose(after.get("clusters_updated", after["clusters"]), want, 2e-6, 2e-6):
            break
    else:
        raise RuntimeError(f"{name}: no run moved centres by the documented rule")
    arrays |= {f"variables/{key}": value for key, value in after.items()}
    arrays["losses"] = np.array(losses.values, np.float32)
    np.savez_compressed(folder / "expected.npz", **arrays)
    recorded = {
        "evaluation": {key: float(value) for key, value in evaluation.items()},
        "signatures": signatures,
    }
    (folder / "expected.json").write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")


def losses_hook(tf):
    """A hook that keeps the losses in `values`."""

    class Losses(tf.estimator.SessionRunHook):
        def __init__(self):
            self.values = []

        def begin(self):
            self.loss = tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.LOSSES)[-1]

        def before_run(self, run_context):
            return tf.estimator.SessionRunArgs(self.loss)

        def after_run(self, run_context, run_values):
            self.values.append(run_values.results)

    return Losses()


def make(tf, name):
    """Writes the fixture of one model."""
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as model_dir:
        config = tf.estimator.RunConfig(
            tf_random_seed=5, save_summary_steps=None, checkpoint_save_graph_def=False
        )
        library, optimizers = tf.estimator, tf.keras.optimizers.legacy
        if name.endswith("_v1"):
            library, optimizers = tf.compat.v1.estimator, None
        model = MODELS[name][0](
            library, tf.feature_column, optimizers, model_dir=model_dir, config=config
        )
        losses = losses_hook(tf)
        model.train(input_fn(tf, name, None), steps=STEPS, hooks=[losses])
        evaluation = model.evaluate(input_fn(tf, name))
        predictions = list(model.predict(input_fn(tf, name)))
        spec = feature_spec(tf, name)
        receiver = tf.estimator.export.build_parsing_serving_input_receiver_fn(spec)
        export = model.export_saved_model(model_dir + "/export", receiver).decode()
        exported = tf.saved_model.load(export)
        signatures = {
            key: sorted(function.structured_outputs)
            for key, function in exported.signatures.items()
        }
        for path in pathlib.Path(model_dir).glob("model.ckpt-*"):
            if path.suffix != ".meta":
                shutil.copy(path, folder)
        if name == EXPORTED:
            shutil.copytree(export + "/variables", folder / "export" / "variables")
        (folder / "checkpoint").write_text(f'model_checkpoint_path: "model.ckpt-{STEPS}"\n')
        model.train(input_fn(tf, name, None), steps=MORE, hooks=[losses])
        names = model.get_variable_names()
        weights = [v for v in names if not v.startswith("training")]
        final = {v: model.get_variable_value(v) for v in weights}
    arrays = {"losses": np.array(losses.values, np.float32)}
    arrays |= {f"variables/{key}": value for key, value in final.items()}
    for key in predictions[0]:
        values = np.array([row[key] for row in predictions])
        if values.dtype == object:
            values = values.astype(bytes)
        arrays["/".join(("predictions", *((key,) if isinstance(key, str) else key)))] = values
    np.savez_compressed(folder / "expected.npz", **arrays)
    recorded = {
        "evaluation": {key: float(value) for key, value in evaluation.items()},
        "signatures": signatures,
        "variables": sorted(names),
    }
    (folder / "expected.json").write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")


def parameters(thing):
    """Names of the parameters of a function or a class's constructor."""
    try:
        found = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):
        return None
    return [
        {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "") + p.name
        for p in found
        if p.name not in ("self", "_cls")
    ]


def public_names(module, prefix):
    """Name to kind and parameters for the public names of a module, without its submodules."""
    found = {}
    for name in sorted(n for n in dir(module) if not n.startswith("_")):
        thing = getattr(module, name)
        if isinstance(thing, types.ModuleType):
            continue
        entry = {"kind": "class" if inspect.isclass(thing) else "function"}
        entry["parameters"] = parameters(thing)
        if inspect.isclass(thing):
            entry["members"] = sorted(n for n in dir(thing) if not n.startswith("_"))
        found[f"{prefix}.{name}"] = entry
    return found


def main():
    """Makes all."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    HERE.mkdir(exist_ok=True)
    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)
    names = public_names(tf.estimator, "tf.estimator")
    names |= public_names(tf.estimator.experimental, "tf.estimator.experimental")
    names |= public_names(tf.estimator.export, "tf.estimator.export")
    (HERE / "public_names.json").write_text(json.dumps(names, indent=1, sort_keys=True) + "\n")
    for name in sys.argv[1:] or [*MODELS, *CLUSTERS]:
        (make_clusters if name in CLUSTERS else make)(tf, name)


if __name__ == "__main__":
    main()
