"""All who write summaries to a directory share one event file, which TensorBoard follows."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

import estimator_lib as tf_estimator
from estimator_lib.core.errors import StorageError
from estimator_lib.inputs.arrays import arrays_input
from estimator_lib.training import summaries


def tags(directory):
    (path,) = directory.glob("events.out.tfevents.*")
    events = [
        tf.compat.v1.Event.FromString(record.numpy())
        for record in tf.data.TFRecordDataset(str(path))
    ]
    return {value.tag for event in events for value in event.summary.value}


def test_place_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file/eval"):
        summaries.writer(str(tmp_path / "file" / "eval"))

    def refuse(place):
        raise tf.errors.PermissionDeniedError(None, None, place)

    monkeypatch.setattr(tf.summary, "create_file_writer", refuse)
    with pytest.raises(StorageError, match=r"eval: PermissionDeniedError\. Use a model_dir"):
        summaries.writer(str(tmp_path / "eval"))


def test_model_and_hooks_share_a_file(tmp_path):
    def model_fn(features, labels, mode):
        head = tf_estimator.RegressionHead()
        logits = tf.keras.layers.Dense(1)(features["x"][:, None])
        tf.summary.write(
            "mean_logit", tf.reduce_mean(logits), step=tf.summary.experimental.get_step()
        )
        return head.create_estimator_spec(features, mode, logits, labels, optimizer="SGD")

    config = tf_estimator.RunConfig(save_summary_steps=2)
    model = tf_estimator.Estimator(model_fn, str(tmp_path / "model"), config)
    x = np.linspace(0, 1, 16, dtype=np.float32)
    source = arrays_input({"x": x}, x, batch_size=4)
    for _ in range(2):
        model.train(source)
        model.evaluate(source)
    assert tags(tmp_path / "model") == {"loss", "mean_logit", "global_step/sec", "rows/sec"}
    assert "average_loss" in tags(tmp_path / "model" / "eval")


def test_a_directory_made_anew_gets_a_new_file(tmp_path):
    place = tmp_path / "logs"
    for step in range(2):
        writer = summaries.writer(str(place))
        summaries.scalars(writer, step, {"loss": 1.0})
        writer.flush()
        assert summaries.writer(str(place)) is writer
        assert tags(place) == {"loss"}
        shutil.rmtree(place)
