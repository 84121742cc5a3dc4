"""train_and_evaluate, early stopping, exporters, publishing and parity."""

import importlib
import json
import math
import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

import estimator_lib as tf_estimator
from estimator_lib.core.errors import ConfigError, ExportError, Reason
from estimator_lib.driver import Evaluator
from estimator_lib.experiment import Uniform, tune
from estimator_lib.export import parity, retention, saved_model, warmup
from tests.contract.test_estimator import X, Y, data, estimator, linear

RECEIVER = tf_estimator.export.build_raw_serving_input_receiver_fn({"x": X[:1]})


def run(made, train_spec, eval_spec):
    return tf_estimator.train_and_evaluate(made, train_spec, eval_spec)


def evaluated(path, name="eval"):
    lines = (pathlib.Path(path) / name / "evaluations.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def test_evaluates_by_steps_and_at_the_end_without_restarting_input(tmp_path):
    made = estimator(tmp_path)
    calls = []

    def input_fn():
        calls.append(1)
        return data(epochs=3).dataset()

    metrics, exports = run(
        made,
        tf_estimator.TrainSpec(input_fn, max_steps=10),
        tf_estimator.EvalSpec(data(), every_steps=4),
    )
    assert evaluated(tmp_path) == [4, 8, 10]
    assert metrics["global_step"] == 10
    assert exports == []
    assert len(calls) == 1


def test_evaluates_by_epochs_and_several_sets(tmp_path):
    made = estimator(tmp_path)
    metrics, _ = run(
        made,
        tf_estimator.TrainSpec(data(epochs=3)),
        [
            tf_estimator.EvalSpec(data(), every_epochs=1),
            tf_estimator.EvalSpec(data(), name="late", throttle_secs=600, steps=1),
        ],
    )
    assert evaluated(tmp_path) == [4, 8, 12]
    assert evaluated(tmp_path, "eval_late")[-1] == 12
    assert set(metrics) == {"eval", "late"}


def test_a_run_that_saves_nothing_evaluates_what_is_in_memory(tmp_path):
    made = estimator(tmp_path, save_checkpoints_steps=None, save_checkpoints_secs=None)
    metrics, _ = run(
        made, tf_estimator.TrainSpec(data(), max_steps=3), tf_estimator.EvalSpec(data())
    )
    assert metrics["global_step"] == 3
    assert made.latest_checkpoint() is None


def test_rerun_at_max_steps_still_evaluates_and_exports(tmp_path):
    made = estimator(tmp_path)
    spec = tf_estimator.EvalSpec(data(), exporters=tf_estimator.FinalExporter("final", RECEIVER))
    first = run(made, tf_estimator.TrainSpec(data(), max_steps=3), spec)
    again = run(estimator(tmp_path), tf_estimator.TrainSpec(data(), max_steps=3), spec)
    assert first[0] == again[0]
    assert again[1][0] != first[1][0]
    assert pathlib.Path(again[1][0].decode(), "saved_model.pb").exists()


def test_best_exporter_keeps_the_best_over_restarts(tmp_path):
    made = estimator(tmp_path)
    made.train(data(), steps=1)
    path = str(tmp_path / "export" / "best")

    def export(loss, **options):
        exporter = tf_estimator.BestExporter("best", RECEIVER, exports_to_keep=1, **options)
        return exporter.export(made, path, made.latest_checkpoint(), {"loss": loss}, False)

    assert export(math.nan) is None
    assert export(0.5) is not None
    assert export(0.5) is None
    assert export(math.nan) is None
    assert export(0.7) is None
    best = export(0.4)
    assert retention.versions(path) == [int(pathlib.Path(best.decode()).name)]
    assert json.loads((tmp_path / "export/best/best.json").read_text())["metrics"]["loss"] == 0.4
    with pytest.raises(ConfigError, match="'auc'"):
        export(0.1, metric="auc")
    assert export(9.0, compare_fn=lambda best_eval_result, current_eval_result: True) is not None
    with pytest.raises(ConfigError, match="best_eval_result and current_eval_result"):
        export(0.1, compare_fn=lambda best, current: True)


def test_early_stopping_restores_the_best_weights(tmp_path):
    def worse_later(features, labels, mode, params):
        spec = linear(features, labels, mode, {"rate": 0.05})
        if mode != tf_estimator.ModeKeys.EVAL:
            return spec
        step = tf.cast(tf_estimator.variables.global_step(), tf.float32)
        return spec._replace(eval_metric_ops={"away": (tf.abs(step - 8.0), tf.no_op())})

    made = estimator(tmp_path, worse_later, keep_checkpoint_max=1)
    hook = tf_estimator.experimental.stop_if_no_decrease_hook(
        made, "away", 8, run_every_secs=None, run_every_steps=4, restore_best=True
    )
    spec = tf_estimator.TrainSpec(data(epochs=None), max_steps=100, hooks=[hook])
    metrics, _ = run(made, spec, tf_estimator.EvalSpec(data(), every_steps=4))
    assert evaluated(tmp_path)[:4] == [4, 8, 12, 16]
    assert metrics["global_step"] == 8
    assert made.get_variable_value("global_step") == 8
    metrics, _ = run(made, spec, tf_estimator.EvalSpec(data(), every_steps=4))
    assert metrics["global_step"] == 8


def test_evaluator_job_ends_when_training_has_finished(tmp_path):
    made = estimator(tmp_path)
    made.train(data(), steps=2)
    spec = tf_estimator.EvalSpec(
        data(), throttle_secs=0, start_delay_secs=0,
        exporters=tf_estimator.FinalExporter("final", RECEIVER),
    )  # fmt: skip
    naps = []

    def sleep(seconds):
        naps.append(seconds)
        if len(naps) == 3:
            made.train(data(), steps=2)
            (tmp_path / "training_finished.json").write_text('{"step": 4}')

    result = Evaluator(estimator(tmp_path), [spec], None, sleep=sleep).follow()
    metrics, exports = result["eval"]
    assert metrics["global_step"] == 4
    assert exports[0] is not None
    assert evaluated(tmp_path) == [2, 4]


def test_signatures_of_serialized_and_raw_inputs(tmp_path):
    def classifier(features, labels, mode):
        spec = linear(features, labels, mode, {})
        if mode != tf_estimator.ModeKeys.PREDICT:
            return spec
        scores = tf.sigmoid(spec.predictions["y"])[:, None]
        return spec._replace(
            export_outputs={
                "serving_default": tf_estimator.export.ClassificationOutput(scores=scores),
                "classification": tf_estimator.export.ClassificationOutput(scores=scores),
                "regression": tf_estimator.export.RegressionOutput(scores),
                "predict": tf_estimator.export.PredictOutput(spec.predictions),
            }
        )

    made = estimator(tmp_path, classifier)
    made.train(data(), steps=1)
    parsing = tf_estimator.export.build_parsing_serving_input_receiver_fn(
        {"x": tf.io.FixedLenFeature([3], tf.float32)}
    )
    path = made.export_saved_model(str(tmp_path / "a"), parsing).decode()
    table = json.loads(saved_model.signature_table(path))
    assert sorted(table) == ["classification", "predict", "regression", "serving_default"]
    assert table["serving_default"]["method"] == "tensorflow/serving/classify"
    assert list(table["regression"]["inputs"]) == ["inputs"]
    assert list(table["predict"]["inputs"]) == ["examples"]
    assert pathlib.Path(path).name.isdigit()
    path = made.export_saved_model(str(tmp_path / "a"), RECEIVER).decode()
    assert sorted(json.loads(saved_model.signature_table(path))) == ["predict", "serving_default"]
    rows = saved_model.load_model(path).predict({"x": X[:7]}, batch_size=3)
    np.testing.assert_allclose(rows["y"], made.predictor({"x": X[:1]})({"x": X[:7]})["y"])

    names = np.array(["a", "\u00fc" * 100], object)
    warmup.write_warmup(path, {"x": X[:2], "name": names}, "flights")
    records = tf.data.TFRecordDataset(f"{path}/assets.extra/tf_serving_warmup_requests")
    (record,) = records.as_numpy_iterator()
    request = _prediction_log().FromString(record).predict_log.request
    assert request.model_spec.name == "flights"
    assert request.model_spec.signature_name == "serving_default"
    inputs = {entry.key: tf.make_ndarray(entry.value) for entry in request.inputs}
    np.testing.assert_array_equal(inputs["x"], X[:2])
    assert [text.decode() for text in inputs["name"]] == list(names)


def _prediction_log():
    """PredictionLog of TF Serving's API, as far as warm-up needs it; a map is its entries."""
    file = descriptor_pb2.FileDescriptorProto(name="prediction_log.proto", package="serving")
    text, one, many = 9, 1, 3
    messages = {
        "ModelSpec": [("name", 1, one, text), ("signature_name", 3, one, text)],
        "Input": [("key", 1, one, text), ("value", 2, one, ".tensorflow.TensorProto")],
        "PredictRequest": [("model_spec", 1, one, "ModelSpec"), ("inputs", 2, many, "Input")],
        "PredictLog": [("request", 1, one, "PredictRequest")],
        "PredictionLog": [("predict_log", 6, one, "PredictLog")],
    }
    for message, fields in messages.items():
        made = file.message_type.add(name=message)
        for name, number, label, kind in fields:
            field = made.field.add(name=name, number=number, label=label)
            if kind == text:
                field.type = kind
            else:
                field.type_name = kind
    pool = descriptor_pool.DescriptorPool()
    for needed in ("types", "tensor_shape", "resource_handle", "tensor"):
        source = importlib.import_module(f"tensorflow.core.framework.{needed}_pb2").DESCRIPTOR
        pool.AddSerializedFile(source.serialized_pb)
        file.dependency.append(source.name)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("serving.PredictionLog"))


def transform_dir(path):
    """A transform graph as preprocessing leaves it: a table with an asset, and a number."""
    (path / "vocabulary.txt").write_text("a\nb\n")

    class Transform(tf.Module):
        def __init__(self):
            self.asset = tf.saved_model.Asset(str(path / "vocabulary.txt"))
            initializer = tf.lookup.TextFileInitializer(
                self.asset, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER,
            )  # fmt: skip
            self.table = tf.lookup.StaticHashTable(initializer, -1)

        @tf.function(
            input_signature=[
                {
                    "kind": tf.TensorSpec([None], tf.string),
                    "size": tf.TensorSpec([None], tf.float32),
                }
            ]
        )
        def transform_fn(self, raw):
            size = tf.where(tf.math.is_nan(raw["size"]), 9.0, raw["size"])
            return {"kind": self.table.lookup(raw["kind"]), "size": size}

    tf.saved_model.save(Transform(), str(path / "transform_fn"))
    fields = {"columns": {}, "raw_fields": {"kind": "string", "size": "float"}}
    (path / "columns.json").write_text(json.dumps(fields))
    return path


def by_kind(features, labels, mode):
    weights = tf_estimator.variables.get_variable("w", [3], initializer=1.0)
    y = tf.gather(weights, features["kind"] + 1) * features["size"]
    if mode == tf_estimator.ModeKeys.PREDICT:
        return tf_estimator.EstimatorSpec(mode, predictions={"y": y})
    loss = tf.reduce_mean(tf.square(y - labels))
    trained = tf_estimator.variables.trainable_variables()
    gradient = tf.convert_to_tensor(tf.gradients(loss, trained)[0])
    op = trained[0].assign_sub(0.1 * gradient)
    return tf_estimator.EstimatorSpec(mode, loss=loss, train_op=op)


def test_raw_rows_go_through_the_transform_graph_in_a_fresh_process(tmp_path):
    folder = transform_dir(tmp_path)
    made = estimator(tmp_path / "model", by_kind)
    kind, size = np.array([0, 1, -1, 0]), np.array([1, 2, 3, 9], np.float32)
    made.train(lambda: ({"kind": kind, "size": size}, size), steps=3)
    receiver = tf_estimator.export.build_transformed_serving_input_receiver_fn(str(folder))
    path = made.export_saved_model(str(tmp_path / "export"), receiver).decode()
    (folder / "vocabulary.txt").unlink()
    rows = {"kind": np.array(["a", "b", "", "a"], object), "size": np.array([1, 2, 3, np.nan])}
    expected = made.predictor({"kind": kind, "size": size})({"kind": kind, "size": size})
    assert parity.check(path, rows, expected)["y"] <= 1e-6
    loaded = saved_model.load_model(path, "examples:serving_default")
    example = tf.train.Example()
    example.features.feature["kind"].bytes_list.value.append(b"b")
    got = loaded.predict({"examples": [example.SerializeToString()]})
    np.testing.assert_allclose(got["y"], saved_model.load_model(path).predict(
        {"kind": ["b"], "size": [np.nan]})["y"])  # fmt: skip
    with pytest.raises(ExportError, match="row 2") as caught:
        parity.compare({"y": expected["y"]}, {"y": expected["y"] + [0, 0, 1, 0]}, 1e-5, path)
    assert caught.value.reason is Reason.DISAGREEMENT


def test_publish_numbers_versions_and_keeps_the_newest(tmp_path):
    made = estimator(tmp_path / "model")
    made.train(data(), steps=1)
    staged = made.export_saved_model(str(tmp_path / "export"), RECEIVER).decode()
    serving = tmp_path / "serving"
    paths = [retention.publish(staged, serving, keep=2) for _ in range(3)]
    assert [pathlib.Path(p).name for p in paths] == ["1", "2", "3"]
    assert retention.versions(serving) == [2, 3]
    (serving / ".9.attempt-left").mkdir()
    os.utime(serving / ".9.attempt-left", (0, 0))
    (serving / "7").mkdir()
    assert pathlib.Path(retention.publish(staged, serving)).name == "8"
    assert not (serving / ".9.attempt-left").exists()
    with pytest.raises(ExportError, match=r"saved_model\.pb"):
        retention.publish(tmp_path, serving)


def test_export_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(ExportError, match="Train first"):
        estimator(tmp_path).export_saved_model(str(tmp_path / "e"), RECEIVER)
    assert not (tmp_path / "e").exists()


def test_tune_orders_trials_and_survives_a_bad_one(tmp_path):
    def experiment(params, model_dir):
        made = tf_estimator.Estimator(linear, model_dir=model_dir, params=params)
        return tf_estimator.Experiment(
            estimator=made, train_input_fn=data(epochs=2), eval_input_fn=data(), train_steps=4
        )

    found = tune(
        experiment, {"rate": Uniform(low=1e-4, high=1e30, log=True)},
        output_dir=str(tmp_path), trials=3, seed=2,
    )  # fmt: skip
    good = [t for t in found if t.metrics]
    assert good[0].metrics["loss"] == min(t.metrics["loss"] for t in good)
    assert found[-1].error
    assert len(json.loads((tmp_path / "trials.json").read_text())) == 3
    assert Y.shape == (200,)
