"""Warm start with vocabularies that changed: each token keeps its row."""

import numpy as np
import pytest
import tensorflow as tf

from estimator_lib.canned.wide_deep import DNNLinearCombinedClassifier
from estimator_lib.core import columns as fc
from estimator_lib.core.errors import CheckpointError, ConfigError
from estimator_lib.training import checkpoints, warm_start
from estimator_lib.training.warm_start import VocabInfo, WarmStartSettings

OLD, NEW = ["a", "b", "c"], ["c", "d", "a", "e"]
LINEAR = "linear/linear_model/kind/weights"
TABLE = "dnn/input_from_feature_columns/input_layer/kind_embedding/embedding_weights"


@pytest.fixture
def files(tmp_path):
    for name, tokens in (("old", OLD), ("new", NEW)):
        (tmp_path / f"{name}.txt").write_text("".join(f"{token}\n" for token in tokens))
    return {"old_vocab": str(tmp_path / "old.txt"), "new_vocab": str(tmp_path / "new.txt")}


def model(folder, vocabulary, start=None):
    kind = fc.categorical_column_with_vocabulary_file("kind", vocabulary, num_oov_buckets=1)
    return DNNLinearCombinedClassifier(
        str(folder), [kind], dnn_feature_columns=[fc.embedding_column(kind, 2)],
        dnn_hidden_units=[2], warm_start_from=start,
    )  # fmt: skip


def rows():
    features = {"kind": tf.constant(["a", "b", "c", "d"])}
    return tf.data.Dataset.from_tensors((features, tf.constant([0, 1, 1, 0])))


def test_rows_follow_their_tokens_in_embeddings_and_linear_weights(files, tmp_path):
    old = model(tmp_path / "old", files["old_vocab"])
    old.train(rows, steps=1)

    def sevens(shape, dtype):
        return tf.fill(shape, tf.cast(7, dtype))

    info = VocabInfo(new_vocab_size=4, num_oov_buckets=1, backup_initializer=sevens, **files)
    start = WarmStartSettings(old.model_dir, ".*", {LINEAR: info, TABLE: info})
    new = model(tmp_path / "new", files["new_vocab"], start)
    new.evaluate(rows)
    new.train(rows, steps=1)
    first = checkpoints.load(new.checkpoints.prefix(0)).values
    for name in (LINEAR, TABLE):
        before = old.get_variable_value(name)
        assert np.any(before != 0)
        sevens_ = np.full_like(before[0], 7)
        expected = np.stack([before[2], sevens_, before[0], sevens_, sevens_])
        np.testing.assert_array_equal(first[name], expected)
    name = "dnn/hiddenlayer_0/kernel"
    np.testing.assert_array_equal(first[name], old.get_variable_value(name))


@pytest.mark.parametrize("axis", [0, 1])
def test_only_variables_with_a_vocabulary_and_by_either_axis(axis, files, tmp_path):
    saved = np.arange(6, dtype=np.float32).reshape((3, 2) if axis == 0 else (2, 3))
    directory = checkpoints.CheckpointDirectory(str(tmp_path))
    before = {"before": tf.Variable(saved), "other": tf.Variable(1.0)}
    directory.save(before, 3, {})
    sizes = {"new_vocab_size": 3, "old_vocab_size": 2, "num_oov_buckets": 0}
    fresh = {
        "now": tf.Variable(np.full((3, 2) if axis == 0 else (2, 3), -1.0, np.float32)),
        "other": tf.Variable(0.0),
    }
    given = WarmStartSettings(
        str(tmp_path), None, {"now": VocabInfo(axis=axis, **sizes, **files)}, {"now": "before"}
    )
    assert warm_start.apply(given, fresh) == ["now"]
    # Of c, d and a, the first three of the new one, only a is among the two used of the old.
    expected = np.full((3, 2), -1.0)
    expected[2] = np.moveaxis(saved, axis, 0)[0]
    np.testing.assert_array_equal(np.moveaxis(fresh["now"].numpy(), axis, 0), expected)
    assert fresh["other"].numpy() == 0


def test_wrong_settings_are_named(files, tmp_path):
    directory = checkpoints.CheckpointDirectory(str(tmp_path))
    directory.save({"table": tf.Variable(np.zeros((3, 2), np.float32))}, 1, {})
    wide = {"table": tf.Variable(np.zeros((4, 5), np.float32))}
    info = VocabInfo(new_vocab_size=4, num_oov_buckets=0, **files)
    with pytest.raises(CheckpointError, match=r"expected shape \(4, 5\), got \(3, 2\)"):
        warm_start.apply(WarmStartSettings(str(tmp_path), None, {"table": info}), wide)
    with pytest.raises(ConfigError, match="Did you mean 'table'"):
        warm_start.apply(WarmStartSettings(str(tmp_path), None, {"tabel": info}), wide)
    wide["table"] = tf.Variable(np.zeros((4, 2), np.float32))
    lost = VocabInfo("none.txt", 4, 0, files["old_vocab"])
    with pytest.raises(ConfigError, match=r"none\.txt cannot be read"):
        warm_start.apply(WarmStartSettings(str(tmp_path), None, {"table": lost}), wide)
