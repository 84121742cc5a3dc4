"""Model directories of many kinds that tf.estimator 2.15 wrote, each gone on with.

tests/golden/make_old_directories.py made them; see there for what each kind is.
"""

import gzip
import importlib.util
import pathlib
import shutil
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import estimator_lib as tf_estimator
from estimator_lib import optimizers
from estimator_lib.core.errors import CheckpointError

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def _script():
    path = GOLDEN / "make_old_directories.py"
    spec = importlib.util.spec_from_file_location("make_old_directories", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


old = _script()


def world(classes=keras.optimizers):
    return old.World(
        tf=tf,
        estimator=tf_estimator,
        first=tf_estimator,
        keras=keras,
        optimizers=classes,
        summed=tf.compat.v1.losses.Reduction.SUM,
        old=False,
    )


SAME_LOSSES = {
    "nadam": 1,  # Keras 3 has another schedule of the momentum
    "shared": 1,  # 2.15 never trained the table
}
"""How many of the next losses are the same, where not all are."""


class Losses(tf_estimator.Hook):
    def __init__(self):
        self.values = []

    def after_step(self, context):
        self.values.append(context.loss)


def copied(name, tmp_path):
    found = shutil.copytree(old.HERE / name, tmp_path / name)
    for packed in found.glob("*.gz"):
        packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    return found


def expected(name):
    with np.load(old.HERE / name / "expected.npz") as file:
        return dict(file)


def part(values, kind):
    """The entries `kind/...` but for areas, which are exact here, and means of batches' scores."""
    found = {key.removeprefix(kind + "/"): v for key, v in values.items() if key.startswith(kind)}
    return {key: v for key, v in found.items() if not key.startswith("auc") and key != "score"}


def check_rows(rows, want):
    for key, values in want.items():
        got = np.array([row[key] for row in rows])
        if values.dtype.kind == "S":
            np.testing.assert_array_equal(got.astype(bytes), values)
        else:
            np.testing.assert_allclose(got, values, **TOLERANCE, err_msg=key)


@pytest.mark.parametrize("name", sorted(old.KINDS))
def test_a_directory_is_gone_on_with(name, tmp_path):
    want = expected(name)
    model = old.KINDS[name](world(), model_dir=str(copied(name, tmp_path)))
    evaluation = model.evaluate(old.input_fn(tf, name))
    for key, value in part(want, "evaluation").items():
        assert evaluation[key] == pytest.approx(float(value), rel=1e-5, abs=1e-5), key
    check_rows(list(model.predict(old.input_fn(tf, name))), part(want, "predictions"))
    check_export(model, name, want, tmp_path)
    if name == "sdca":
        with pytest.raises(CheckpointError, match="dual variables"):
            model.train(old.input_fn(tf, name, None), steps=old.MORE)
    else:
        check_training(model, name, want)


def check_training(model, name, want):
    losses = Losses()
    model.train(old.input_fn(tf, name, None), steps=old.MORE, hooks=[losses])
    same = SAME_LOSSES.get(name)
    np.testing.assert_allclose(losses.values[:same], want["losses"][:same], **TOLERANCE)


def check_export(model, name, want, tmp_path):
    features, _ = old.inputs()
    receiver = tf_estimator.export.build_raw_serving_input_receiver_fn(features)
    exported = tf.saved_model.load(model.export_saved_model(str(tmp_path / "e"), receiver).decode())
    signature = exported.signatures.get("predict") or exported.signatures["serving_default"]
    served = signature(**{key: tf.constant(values) for key, values in features.items()})
    compared = {key: values for key, values in part(want, "predictions").items() if key in served}
    assert compared or name == "kmeans_embedding"
    check_rows([{k: v[i] for k, v in served.items()} for i in range(old.ROWS)], compared)


OWN = [name for name, (kind, _) in old.OPTIMIZERS.items() if hasattr(optimizers, kind)]


@pytest.mark.parametrize("name", [n for n in OWN if n not in ("adam_amsgrad", "rmsprop_centered")])
def test_own_optimizers_take_slots_over(name, tmp_path):
    model = old.KINDS[name](world(optimizers), model_dir=str(copied(name, tmp_path)))
    check_training(model, name, expected(name))


def test_an_optimizer_that_was_made_before_takes_slots_over(tmp_path):
    name = "adam"
    made = keras.optimizers.Adam(0.01)
    columns = [
        *old.numbers(tf),
        tf.feature_column.embedding_column(
            tf.feature_column.categorical_column_with_identity("two", 2), 3
        ),
    ]
    model = tf_estimator.DNNClassifier([4], columns, str(copied(name, tmp_path)), optimizer=made)
    check_training(model, name, expected(name))


@pytest.mark.parametrize("name", ["adam", "keras_model", "parts_dnn"])
def test_others_read_what_was_gone_on_with(name, tmp_path):
    folder = str(copied(name, tmp_path))
    model = old.KINDS[name](world(), model_dir=folder)
    assert model.get_variable_value("global_step") == old.STEPS
    ends = ("/kernel", "/embedding_weights")
    weights = [name for name in model.get_variable_names() if name.endswith(ends)]
    assert weights
    before = {name: model.get_variable_value(name) for name in weights}
    model.train(old.input_fn(tf, name, None), steps=1)
    assert tf.train.load_variable(folder, "global_step") == old.STEPS + 1
    for weight in weights:
        assert tf.train.load_variable(folder, weight).shape == before[weight].shape
