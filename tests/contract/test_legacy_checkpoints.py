"""Model directories that tf.estimator 2.15 wrote: evaluated, served, continued, warm started.

tests/golden/make_tf_estimator_checkpoints.py made the fixtures with tf.estimator itself and is
used here to build the same models with estimator_lib: from `tf.feature_column` objects and from
our own columns.
"""

import dataclasses
import importlib.util
import inspect
import json
import pathlib
import shutil
import types

import numpy as np
import pytest
import tensorflow as tf

import estimator_lib as tf_estimator
from estimator_lib import feature_column, optimizers
from estimator_lib.core.errors import CheckpointError

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"


def _script():
    path = GOLDEN / "make_tf_estimator_checkpoints.py"
    spec = importlib.util.spec_from_file_location("make_tf_estimator_checkpoints", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


legacy = _script()
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


class Upstream:
    """Our names, with areas over the thresholds of 2.15 wherever there are areas."""

    def __init__(self, module):
        self._module = module

    def __getattr__(self, name):
        found = getattr(self._module, name)
        if not isinstance(found, type):
            return Upstream(found) if isinstance(found, types.ModuleType) else found
        if "auc_thresholds" not in inspect.signature(found).parameters:
            return found
        return lambda *args, **kwargs: found(
            *args, **kwargs, **({} if kwargs.get("n_classes", 2) > 2 else {"auc_thresholds": 200})
        )


@dataclasses.dataclass
class Fixture:
    name: str
    expected: dict
    recorded: dict

    @property
    def folder(self):
        return legacy.HERE / self.name

    def model_dir(self, tmp_path, step):
        """A copy of the directory as it was at `step`, in place of one made before."""
        target = tmp_path / self.name
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        for path in self.folder.glob(f"model.ckpt-{step}.*"):
            shutil.copy(path, target)
        (target / "checkpoint").write_text(f'model_checkpoint_path: "model.ckpt-{step}"\n')
        return str(target)

    def build(self, model_dir, fc=tf.feature_column, **kwargs):
        make = legacy.MODELS[self.name][0]
        return make(Upstream(tf_estimator), fc, optimizers, model_dir=model_dir, **kwargs)

    def input(self, epochs=1):
        return legacy.input_fn(tf, self.name, epochs)

    def check_predictions(self, rows):
        for key in [k for k in self.expected if k.startswith("predictions/")]:
            name = key.removeprefix("predictions/")
            if name not in rows[0]:
                name = tuple(name.split("/"))
            got, want = np.array([row[name] for row in rows]), self.expected[key]
            if want.dtype.kind == "S":
                np.testing.assert_array_equal(got.astype(bytes), want)
            else:
                np.testing.assert_allclose(got, want, **TOLERANCE)


class Losses(tf_estimator.SessionRunHook):
    def __init__(self):
        self.values = []

    def after_step(self, context):
        self.values.append(context.loss)


@pytest.fixture(params=sorted(legacy.MODELS))
def fixture(request):
    folder = legacy.HERE / request.param
    with np.load(folder / "expected.npz") as file:
        expected = dict(file)
    return Fixture(request.param, expected, json.loads((folder / "expected.json").read_text()))


def _check_variables(model, fixture):
    ours = set(model.get_variable_names())
    theirs = {k.removeprefix("variables/") for k in fixture.expected if k.startswith("variables/")}
    common = ours & theirs
    slots = ("/Adagrad", "/Ftrl", "/Ftrl_1")
    assert common == {
        name
        for name in theirs
        if not name.startswith("training") and "Optimizer" not in name and not name.endswith(slots)
    }
    for name in common:
        np.testing.assert_allclose(
            model.get_variable_value(name),
            fixture.expected[f"variables/{name}"],
            **TOLERANCE,
            err_msg=name,
        )


def test_evaluates_and_predicts_what_upstream_did(fixture, tmp_path):
    model = fixture.build(fixture.model_dir(tmp_path, legacy.STEPS))
    evaluation = model.evaluate(fixture.input())
    expected = dict(fixture.recorded["evaluation"])
    if fixture.name.endswith("_v1"):
        # The first version computed this area in another way than the second, which we follow.
        expected.pop("auc_precision_recall")
    for name, value in expected.items():
        assert evaluation[name] == pytest.approx(value, rel=1e-5, abs=1e-5), name
    fixture.check_predictions(list(model.predict(fixture.input())))


def test_exports_what_upstream_did(fixture, tmp_path):
    model = fixture.build(fixture.model_dir(tmp_path, legacy.STEPS))
    spec = legacy.feature_spec(tf, fixture.name)
    receiver = tf_estimator.export.build_parsing_serving_input_receiver_fn(spec)
    exported = tf.saved_model.load(model.export_saved_model(str(tmp_path / "e"), receiver).decode())
    signatures = {
        name: sorted(function.structured_outputs) for name, function in exported.signatures.items()
    }
    expected = dict(fixture.recorded["signatures"])
    if fixture.name == "rnn_sequences":  # a client needs to know where the sequences end
        expected["predict"] = sorted([*expected["predict"], "inside"])
    assert signatures == expected
    served = exported.signatures["predict"](examples=tf.constant(_examples(fixture.name)))
    served = {name: value.numpy() for name, value in served.items()}
    rows = [{name: values[i] for name, values in served.items()} for i in range(legacy.ROWS)]
    fixture.check_predictions(rows)


def _examples(name):
    def feature(values):
        values = np.ravel(values)
        if values.dtype.kind in "OU":
            texts = [str(value).encode() for value in values]
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=texts))
        if values.dtype.kind == "i":
            return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))

    def present(field, values):
        return values[(values != "") & (values != 0)] if field in legacy.sequences() else values

    features = legacy.features_of(name)
    return [
        tf.train.Example(
            features=tf.train.Features(
                feature={key: feature(present(key, values[i])) for key, values in features.items()}
            )
        ).SerializeToString()
        for i in range(legacy.ROWS)
    ]


def test_trains_on_as_upstream_did(fixture, tmp_path):
    """From its first checkpoint (the same initial values) and from its slots and step."""
    model = fixture.build(fixture.model_dir(tmp_path, 0))
    last = legacy.STEPS + legacy.MORE
    for first in (0, legacy.STEPS):
        fixture.model_dir(tmp_path, first)
        losses = Losses()
        model.train(fixture.input(epochs=None), max_steps=last, hooks=[losses])
        np.testing.assert_allclose(losses.values, fixture.expected["losses"][first:], **TOLERANCE)
        _check_variables(model, fixture)
    # What it has written since is in the own format, and goes on from there.
    again = fixture.build(model.model_dir)
    assert again.evaluate(fixture.input())["global_step"] == last


def test_warm_starts_from_the_directory(fixture, tmp_path):
    if "warm_start_from" not in legacy.inspect.signature(type(fixture.build(None))).parameters:
        model_fn = fixture.build(None).model_fn
        model = tf_estimator.Estimator(
            model_fn, str(tmp_path / "new"), warm_start_from=str(fixture.folder)
        )
    else:
        model = fixture.build(str(tmp_path / "new"), warm_start_from=str(fixture.folder))
    if "dnn" not in fixture.name and fixture.name != "wide_deep_same":  # batch norm statistics
        loss = model.evaluate(fixture.input())
        assert loss["global_step"] == 0
        assert loss["loss"] == pytest.approx(fixture.recorded["evaluation"]["loss"], rel=1e-5)
    losses = Losses()
    model.train(fixture.input(), steps=1, hooks=[losses])
    # The weights are those of step 8, so the next batch's loss is upstream's of step 9.
    np.testing.assert_allclose(
        losses.values[0], fixture.expected["losses"][legacy.STEPS], **TOLERANCE
    )


def test_warm_starts_from_an_export(tmp_path):
    folder = legacy.HERE / legacy.EXPORTED
    recorded = json.loads((folder / "expected.json").read_text())
    fixture = Fixture(legacy.EXPORTED, {}, recorded)
    model = fixture.build(str(tmp_path / "new"), warm_start_from=str(folder / "export"))
    evaluation = model.evaluate(fixture.input())
    assert evaluation["global_step"] == 0
    assert evaluation["loss"] == pytest.approx(recorded["evaluation"]["loss"], rel=1e-5)


@pytest.mark.parametrize("name", ["dnn_classifier", "wide_deep"])
def test_own_columns_read_the_same_variables(name, tmp_path):
    with np.load(legacy.HERE / name / "expected.npz") as file:
        fixture = Fixture(name, dict(file), {})
    model = fixture.build(fixture.model_dir(tmp_path, legacy.STEPS), feature_column)
    rows = list(model.predict(fixture.input()))
    if name == "dnn_classifier":
        fixture.check_predictions(rows)
    else:
        # Our crosses of a field and a column have the values that parsed (sparse) fields have
        # in tf.feature_column, not those of dense fields that these weights were trained with.
        with pytest.raises(AssertionError):
            fixture.check_predictions(rows)


def test_another_optimizer_starts_its_slots_anew_and_says_so(tmp_path, caplog):
    with np.load(legacy.HERE / "linear_classifier" / "expected.npz") as file:
        fixture = Fixture("linear_classifier", dict(file), {})
    wide, _ = legacy.columns(tf.feature_column)
    model = tf_estimator.LinearClassifier(
        wide,
        model_dir=fixture.model_dir(tmp_path, legacy.STEPS),
        weight_column="weight",
        optimizer="Adam",
    )
    losses = Losses()
    model.train(fixture.input(epochs=None), steps=1, hooks=[losses])
    np.testing.assert_allclose(losses.values[0], fixture.expected["losses"][8], **TOLERANCE)
    assert "color/weights/Adam/m" in caplog.text
    assert "training/Ftrl/learning_rate 0.2" in caplog.text


def test_another_model_is_refused(tmp_path):
    with np.load(legacy.HERE / "wide_deep" / "expected.npz") as file:
        fixture = Fixture("wide_deep", dict(file), {})
    wide, _ = legacy.columns(tf.feature_column)
    wide.append(tf.feature_column.numeric_column("size"))
    model = tf_estimator.LinearClassifier(
        wide, model_dir=fixture.model_dir(tmp_path, legacy.STEPS), weight_column="weight"
    )
    with pytest.raises(CheckpointError, match="linear/linear_model/size/weights"):
        model.evaluate(fixture.input())


# --- Clusters ---------------------------------------------------------------------------------

NAMES = {"Variable": "cluster_counts", "clusters_updated": "clusters_next"}


class ClustersFixture(Fixture):
    @property
    def step(self):
        return legacy.CLUSTERS[self.name][0]

    def build(self, model_dir, **kwargs):
        kind = tf_estimator.KMeansClustering
        return legacy.kmeans(kind, tf.feature_column, self.name, model_dir=model_dir, **kwargs)

    def old(self, tmp_path):
        return self.build(self.model_dir(tmp_path, self.step))

    def check_moved(self, model, losses):
        """Compares with one more step of 2.15."""
        np.testing.assert_allclose(losses.values, self.expected["losses"], **TOLERANCE)
        for key in ("clusters", "clusters_updated", "Variable"):
            if f"variables/{key}" in self.expected:
                got = model.get_variable_value(NAMES.get(key, key))
                np.testing.assert_allclose(
                    got, self.expected[f"variables/{key}"], **TOLERANCE, err_msg=key
                )


def _clusters(name):
    folder = legacy.HERE / name
    with np.load(folder / "expected.npz") as file:
        expected = dict(file)
    return ClustersFixture(name, expected, json.loads((folder / "expected.json").read_text()))


@pytest.fixture(params=sorted(legacy.CLUSTERS))
def clusters(request):
    return _clusters(request.param)


def test_clusters_are_evaluated_and_predicted_as_upstream_did(clusters, tmp_path):
    model, rows = clusters.old(tmp_path), legacy.points_fn(tf)
    assert model.evaluate(rows) == pytest.approx(clusters.recorded["evaluation"], rel=1e-5)
    assert model.score(rows) == pytest.approx(clusters.recorded["evaluation"]["score"], rel=1e-5)
    clusters.check_predictions(list(model.predict(rows)))
    index = clusters.expected["predictions/cluster_index"]
    np.testing.assert_array_equal(list(model.predict_cluster_index(rows)), index)
    far = clusters.expected["transformed"]
    np.testing.assert_allclose(list(model.transform(rows)), far, **TOLERANCE)


def test_clusters_are_exported_as_upstream_did(clusters, tmp_path):
    spec = {field: tf.io.FixedLenFeature([1], tf.float32) for field in legacy.points()}
    receiver = tf_estimator.export.build_parsing_serving_input_receiver_fn(spec)
    model = clusters.old(tmp_path)
    exported = tf.saved_model.load(model.export_saved_model(str(tmp_path / "e"), receiver).decode())
    signatures = exported.signatures
    found = {name: sorted(function.structured_outputs) for name, function in signatures.items()}
    assert found == clusters.recorded["signatures"]
    examples = [
        tf.train.Example(
            features=tf.train.Features(
                feature={
                    field: tf.train.Feature(float_list=tf.train.FloatList(value=values[i]))
                    for field, values in legacy.points().items()
                }
            )
        ).SerializeToString()
        for i in range(24)
    ]
    for key in ("cluster_index", "all_distances"):
        (served,) = signatures[key](examples=tf.constant(examples)).values()
        np.testing.assert_allclose(served, clusters.expected[f"predictions/{key}"], **TOLERANCE)


def test_clusters_move_on_as_upstream_moved_them(clusters, tmp_path, caplog):
    model, losses = clusters.old(tmp_path), Losses()
    model.train(legacy.training_points(tf, clusters.name), steps=1, hooks=[losses])
    clusters.check_moved(model, losses)
    assert "tf.estimator" not in caplog.text  # nothing starts anew
    again = clusters.build(model.model_dir)
    assert again.evaluate(legacy.points_fn(tf))["global_step"] == clusters.step + 1
    again.train(legacy.training_points(tf, clusters.name), steps=3)


@pytest.mark.parametrize("plain", [False, True])
def test_clusters_are_warm_started_with_their_counts(clusters, plain, tmp_path):
    folder = str(clusters.folder)
    model = clusters.build(str(tmp_path / "new"), warm_start_from=folder)
    if plain:
        model = tf_estimator.Estimator(model.model_fn, model.model_dir, warm_start_from=folder)
    evaluation = model.evaluate(legacy.points_fn(tf))
    assert evaluation["global_step"] == 0
    assert evaluation["score"] == pytest.approx(clusters.recorded["evaluation"]["score"], rel=1e-5)
    losses = Losses()
    model.train(legacy.training_points(tf, clusters.name), steps=1, hooks=[losses])
    if clusters.name != "kmeans_within":  # a new model begins a new iteration
        clusters.check_moved(model, losses)
    assert model.get_variable_value("global_step") == 1


def test_clusters_that_are_not_chosen_yet_are_refused(tmp_path):
    fixture = _clusters("kmeans")
    model = fixture.build(fixture.model_dir(tmp_path, 0))
    for use in (
        lambda: model.evaluate(legacy.points_fn(tf)),
        lambda: model.train(legacy.points_fn(tf)),
    ):
        with pytest.raises(CheckpointError, match="no centres yet"):
            use()


def test_clusters_of_another_kind_are_refused(tmp_path):
    full = _clusters("kmeans_full").model_dir(tmp_path, 2)
    model = _clusters("kmeans").build(full)
    with pytest.raises(CheckpointError, match="cluster_counts"):
        model.train(legacy.points_fn(tf), steps=1)
    more = tf_estimator.KMeansClustering(4, full)
    with pytest.raises(CheckpointError, match="clusters"):
        more.evaluate(legacy.points_fn(tf))
    linear = Fixture("linear_classifier", {}, {}).model_dir(tmp_path, legacy.STEPS)
    with pytest.raises(CheckpointError, match="clusters"):
        tf_estimator.KMeansClustering(3, linear).evaluate(legacy.points_fn(tf))
