"""Arrays and Parquet as inputs: order, epochs, resumption, refusals."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from estimator_lib.core import manifest
from estimator_lib.core.errors import ConfigError, DataError, Reason
from estimator_lib.inputs import (
    arrays_input,
    datasets,
    examples_input,
    numpy_input_fn,
    pandas_input_fn,
    resumable,
)

ROWS = 103


@pytest.fixture
def examples(tmp_path):
    table = pa.table(
        {
            "kind": pa.array(np.arange(ROWS), pa.int32()),
            "size": pa.array(np.arange(ROWS) / 2, pa.float32()),
            "label": pa.array(np.arange(ROWS) % 2, pa.int64()),
            "w": pa.array(np.ones(ROWS), pa.float32()),
        }
    )
    target = tmp_path / "examples"
    with manifest.committed_artifact(target) as writer:
        files = []
        for i, first in enumerate((0, 50)):
            files.append(f"train-{i:05d}-of-00002.parquet")
            part = table.slice(first, 50 if not i else ROWS - 50)
            pq.write_table(part, writer.directory / files[-1], row_group_size=20)
        writer.kind = "examples"
        writer.metadata = {
            "splits": {"train": {"files": files, "rows": ROWS}},
            "features": {
                "kind": {"dtype": "int64", "num_buckets": ROWS},
                "size": {"dtype": "float32", "num_buckets": None},
            },
            "label": {"field": "label", "kind": "class", "classes": ["0", "1"]},
            "weight": "w",
        }
    return target


@pytest.mark.parametrize("in_memory", [True, False])
def test_examples_give_every_row_once_per_epoch(examples, in_memory):
    plain = examples_input(examples, "train", batch_size=10, in_memory=in_memory)
    batches = list(plain())
    features, labels = batches[0]
    assert {n: t.dtype for n, t in features.items()} == {
        "kind": tf.int64, "size": tf.float32, "w": tf.float32,
    }  # fmt: skip
    assert labels.dtype == tf.int64
    np.testing.assert_array_equal(np.concatenate([f["kind"] for f, _ in batches]), np.arange(ROWS))
    mixed = examples_input(
        examples, "train", batch_size=10, shuffle=True, seed=1, epochs=2, in_memory=in_memory
    )
    kinds = np.concatenate([f["kind"] for f, _ in mixed()])
    assert len(kinds) == 2 * ROWS
    for epoch in (kinds[:ROWS], kinds[ROWS:]):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(ROWS))
    assert not np.array_equal(kinds[:ROWS], kinds[ROWS:])
    assert mixed.batches == 21


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("first", [0, 1, 7, 10, 11, 20, 21])
def test_examples_resume_at_any_batch(examples, in_memory, first):
    def source():
        return examples_input(
            examples, "train", batch_size=10, shuffle=True, seed=3, epochs=2, in_memory=in_memory
        )

    whole = [f["kind"].numpy() for f, _ in source().dataset()]
    rest = [f["kind"].numpy() for f, _ in source().dataset(first)]
    assert len(whole) == 21
    for a, b in zip(whole[first:], rest, strict=True):
        np.testing.assert_array_equal(a, b)
    assert source().fingerprint == source().fingerprint


def test_examples_refuse_unknown_split_and_damaged_file(examples):
    with pytest.raises(ConfigError, match="'train'"):
        examples_input(examples, "tran", batch_size=1)
    path = examples / "train-00001-of-00002.parquet"
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(DataError) as caught:
        examples_input(examples, "train", batch_size=1, in_memory=False)
    assert caught.value.reason is Reason.CORRUPT_FILE
    path.unlink()
    with pytest.raises(DataError) as caught:
        examples_input(examples, "train", batch_size=1)
    assert caught.value.reason is Reason.FILE_NOT_FOUND


def test_arrays_are_never_written_to():
    x, y = np.ones([64, 2], np.float32), np.ones(64, np.float32)
    source = arrays_input({"x": x}, y, batch_size=16, epochs=3)

    @tf.function(autograph=False)
    def change(features, labels):
        return tf.reduce_sum(labels - 3.0) + tf.reduce_sum(features["x"] * 5.0)

    for _ in range(3):
        for features, labels in source():
            change(features, labels)
    assert np.all(x == 1)
    assert np.all(y == 1)


def test_arrays_that_differ_in_a_late_row_have_other_fingerprints():
    numbers = np.arange(1000, dtype=np.float32)
    other = numbers.copy()
    other[999] = -1
    first, second, third = (
        arrays_input({"x": x}, numbers, seed=1).fingerprint for x in (numbers, other, numbers)
    )
    assert first != second
    assert first == third


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_missing_texts_of_pandas_are_empty(missing):
    table = pd.DataFrame({"c": pd.Series(["a", missing, "b"], dtype=object)})
    (batch,) = pandas_input_fn(table, batch_size=3, num_epochs=1, shuffle=False)()
    features = batch[0] if isinstance(batch, tuple) else batch
    assert features["c"].numpy().tolist() == [b"a", b"", b"b"]


def test_arrays_strings_batches_and_refusals():
    source = arrays_input({"s": np.array(["a", "b", "c"])}, batch_size=2)
    assert [b["s"].numpy().tolist() for b in source()] == [[b"a", b"b"], [b"c"]]
    assert len(list(arrays_input(np.zeros(5), batch_size=2, drop_remainder=True)())) == 2
    with pytest.raises(DataError, match="differ in length"):
        arrays_input({"a": np.zeros(2), "b": np.zeros(3)})
    with pytest.raises(ConfigError, match="shuffle"):
        numpy_input_fn({"a": np.zeros(2)})
    with pytest.raises(ConfigError, match="batch_size"):
        arrays_input(np.zeros(2), batch_size=0)
    endless = arrays_input(np.zeros(2), batch_size=3, epochs=None)()
    assert endless.cardinality() == tf.data.INFINITE_CARDINALITY
    assert next(iter(endless)).shape == (3,)


def test_resumable_skips_what_was_seen():
    source = resumable(lambda: tf.data.Dataset.range(5), name="five")
    assert list(source.dataset(3).as_numpy_iterator()) == [3, 4]


def test_input_fn_gets_what_it_asks_for():
    def input_fn(params, mode):
        return tf.data.Dataset.range(params["n"]) if mode == "train" else None

    caller = datasets.Caller(params={"n": 2}, config=None)
    assert caller.dataset(input_fn, "train").cardinality() == 2
    with pytest.raises(DataError, match="unusable"):
        caller.dataset(input_fn, "eval")
