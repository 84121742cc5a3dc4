"""Examples as TFRecord: the same batches as from Parquet, and training on them."""

import numpy as np
import pytest
import tensorflow as tf

import estimator_lib
from components.steps.scoring import score
from estimator_lib.core import columns as fc
from estimator_lib.core import manifest
from estimator_lib.core.errors import DataError, Reason
from estimator_lib.inputs import examples_input
from estimator_lib.inputs.parquet import ParquetInput
from transforms.applying import materialize
from transforms.testing import Job

COLUMNS = {
    "color": {"kind": "vocabulary"},
    "size": {"kind": "numeric", "default": "mean"},
    "tags": {"kind": "vocabulary"},
}
COLORS, TAGS = ("red", "blue", ""), ("a|b", "", "b", "a|a|b")


def _rows(count):
    yield "color,size,tags,weight,y\n"
    for i in range(count):
        yield f"{COLORS[i % 3]},{'' if i % 5 == 4 else i},{TAGS[i % 4]},{1 + i % 2},{i % 2}\n"


def _job(root, output):
    made = Job(
        root=root,
        files={"train": ["".join(_rows(23)), "".join(_rows(9))], "eval": ["".join(_rows(6))]},
        label={"field": "y"},
        columns=COLUMNS,
        weight="weight",
        keep=["color"],
        data={"examples": output, "fields": {"tags": {"kind": "string", "separator": "|"}}},
    )
    made.run()
    return made


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(materialize, "ROW_GROUP_ROWS", 5)
        return [_job(tmp_path_factory.mktemp(o), o) for o in ("parquet", "tfrecord")]


def _batches(job, first=0, **options):
    found = examples_input(job.examples, "train", batch_size=4, epochs=2, seed=3, **options)
    return list(found.dataset(first))


def _same(one, other):
    assert len(one) == len(other) > 0
    for got, wanted in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True):
        assert type(got) is type(wanted)
        assert got.dtype == wanted.dtype
        if isinstance(got, tf.RaggedTensor):
            np.testing.assert_array_equal(got.row_splits, wanted.row_splits)
            got, wanted = got.flat_values, wanted.flat_values
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize(("shuffle", "first"), [(False, 0), (True, 0), (True, 7)])
def test_batches_equal_those_of_parquet(jobs, monkeypatch, in_memory, shuffle, first):
    monkeypatch.setitem(ParquetInput.__init__.__kwdefaults__, "block_rows", 8)
    options = {"first": first, "shuffle": shuffle, "in_memory": in_memory}
    parquet, tfrecord = (_batches(job, **options) for job in jobs)
    _same(tfrecord, parquet)


def test_artifact_is_complete_and_counts_its_rows(jobs):
    found = manifest.verify(jobs[1].examples, deep=True)
    names = found.metadata["splits"]["train"]["files"]
    assert names[0] == "train-00000-of-00007.tfrecord.gz"
    assert len(names) == 7
    assert found.metadata["splits"]["train"]["rows"] == 32


def test_damaged_shard_is_refused_by_name(jobs, tmp_path):
    job = _job(tmp_path, "tfrecord")
    shard = job.examples / "train-00001-of-00002.tfrecord.gz"
    shard.write_bytes(shard.read_bytes()[:-20])
    given = examples_input(job.examples, "train", batch_size=4, in_memory=False)
    with pytest.raises(DataError, match=shard.name) as caught:
        list(given.blocks(0, 0))
    assert caught.value.reason == Reason.CORRUPT_FILE


def test_model_trains_and_is_scored_alike(jobs, tmp_path):
    columns = [fc.numeric_column("size", default_value=0.0)]
    results = []
    for job in jobs:
        model = estimator_lib.LinearClassifier(columns, model_dir=str(tmp_path / job.root.name))
        model.train(examples_input(job.examples, "train", batch_size=8), steps=2)
        results.append(score(model, model.latest_checkpoint(), str(job.examples), "eval", "binary"))
    parquet, tfrecord = results
    for name in ("labels", "weights"):
        np.testing.assert_array_equal(getattr(tfrecord, name)[:], getattr(parquet, name)[:])
    colors = [scored.kept["color"] for scored in results]
    assert colors[0].values == colors[1].values
    np.testing.assert_array_equal(colors[0].codes[:], colors[1].codes[:])
    np.testing.assert_allclose(tfrecord.predictions[:], parquet.predictions[:], rtol=1e-6)
