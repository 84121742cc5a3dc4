"""Artifacts in an object store: whole or not there, whatever fails, and equal to local ones."""

import contextlib
import time

import numpy as np
import pytest
import tensorflow as tf
from apache_beam.io import hadoopfilesystem

from estimator_lib.core import config as configuration
from estimator_lib.core import manifest
from estimator_lib.core.errors import (
    ConfigError,
    DataError,
    Reason,
    SchemaError,
    SecurityError,
    StorageError,
)
from estimator_lib.inputs import examples_input
from pipelines import cli
from tests import hadoop, memory_store
from transforms import preprocess
from transforms.learning import first_pass
from transforms.testing import Job

OUT = "mem://bucket/out"


@pytest.fixture(autouse=True)
def empty_store():
    memory_store.clear()


def job(root, days=2, **data):
    rows = [f"{'abc'[i % 3]},{i},{i % 2}\n" for i in range(12)]
    return Job(
        root=root,
        files={"train": ["c,x,y\n" + "".join(rows)] * days, "eval": ["c,x,y\n" + rows[1]]},
        columns={"c": {"kind": "vocabulary"}, "x": {"kind": "numeric", "normalize": "moments"}},
        label={"field": "y"},
        data=data,
    )


def run(made, out=OUT, **options):
    return preprocess.run(
        made.part(),
        base_dir=str(made.root),
        examples_dir=f"{out}/examples",
        transform_dir=f"{out}/transform",
        statistics_dir=f"{out}/statistics",
        **options,
    )


def local_copy(place, target):
    return memory_store.download(place, target / place.rpartition("/")[2])


@pytest.mark.parametrize("output", ["parquet", "tfrecord"])
def test_artifacts_equal_those_in_directories(tmp_path, output):
    made = job(tmp_path, examples=output)
    made.run()
    places = run(made).places
    for name, local in (("examples", made.examples), ("statistics", made.statistics)):
        stored = manifest.read(f"{OUT}/{name}")
        assert stored.digest == manifest.read(local).digest
        assert stored.files == manifest.read(local).files
    examples, transform, _ = (local_copy(place, tmp_path / "copy") for place in places)
    for directory in (examples, transform):
        manifest.verify(directory, deep=True)
    batches = [
        next(iter(examples_input(d, "train", batch_size=24)().as_numpy_iterator()))
        for d in (made.examples, examples)
    ]
    tf.nest.map_structure(np.testing.assert_array_equal, *batches)
    loaded = tf.saved_model.load(str(transform / "transform_fn"))
    features = loaded.transform_fn({"c": tf.constant(["b"]), "x": tf.constant([5.5])})
    assert features["c"].numpy() == [1]


def test_manifests_are_written_last_and_the_examples_after_all(tmp_path):
    run(job(tmp_path))
    named = [path for path in memory_store.WRITTEN if path.endswith("/manifest.json")]
    pointers = [f"{OUT}/{name}/manifest.json" for name in ("statistics", "transform", "examples")]
    assert [path for path in named if path in pointers] == pointers
    assert memory_store.WRITTEN[-1] == pointers[-1]
    for name in ("examples", "transform", "statistics"):
        inside = [p for p in memory_store.WRITTEN if p.startswith(f"{OUT}/{name}/attempt-")]
        assert inside[-1].endswith("/manifest.json")


def test_run_again_changes_nothing_and_other_content_is_refused(tmp_path):
    made = job(tmp_path)
    first = run(made).places
    before = dict(memory_store.FILES)
    assert run(made).places == first
    assert before == memory_store.FILES
    (made.root / "data" / "train-1.csv").unlink()
    with pytest.raises(StorageError) as caught:
        run(job(tmp_path, days=1))
    assert caught.value.reason == Reason.ALREADY_EXISTS
    assert before == memory_store.FILES


def commit(text, target="mem://bucket/a"):
    with manifest.committed_artifact(target) as writer:
        (writer.directory / "sub").mkdir()
        (writer.directory / "sub" / "x").write_text(text)
        (writer.directory / "y").write_text(text)


def verified(target="mem://bucket/a"):
    """The text of a finished artifact, all of whose files are there; None if there is none."""
    found = manifest.finished(target)
    if found is None:
        return None
    for name, entry in found.files.items():
        assert len(memory_store.FILES[f"{target}/{found.directory}/{name}"]) == entry.size
    return memory_store.FILES[f"{target}/{found.directory}/y"].decode()


def test_store_that_fails_at_any_call_shows_nothing_half_written():
    commit("whole")
    calls, outcomes = memory_store.Outage.calls, set()
    assert calls >= 5
    for call in range(1, calls + 1):
        memory_store.clear()
        memory_store.fail_from(call)
        with contextlib.suppress(StorageError):
            commit("whole")
        memory_store.fail_from(None)
        outcomes.add(verified())
        commit("whole")
        assert verified() == "whole"
    assert outcomes == {None, "whole"}


@pytest.mark.parametrize("slow", ["fast", "other"])
def test_of_two_attempts_alive_the_first_to_finish_wins(slow):
    refused = None
    try:
        with manifest.committed_artifact("mem://bucket/a") as late:
            (late.directory / "y").write_text(slow)
            with manifest.committed_artifact("mem://bucket/a") as early:
                (early.directory / "y").write_text("fast")
    except StorageError as error:
        refused = error.reason
    assert refused is (Reason.ALREADY_EXISTS if slow == "other" else None)
    assert verified() == "fast"
    assert len(memory_store.below("mem://bucket/a")) == 3


def test_dead_attempts_are_swept_and_living_ones_are_not(monkeypatch):
    memory_store.FILES["mem://bucket/a/attempt-dead/y"] = b"left"
    memory_store.FILES["mem://bucket/a/attempt-alive/y"] = b"left"
    memory_store.FILES["mem://bucket/a/notes.txt"] = b"of a person"
    memory_store.CHANGED["mem://bucket/a/attempt-dead/y"] = time.time() - manifest.DEAD_S - 60
    memory_store.CHANGED["mem://bucket/a/attempt-alive/y"] = time.time() - 60
    commit("whole")
    left = memory_store.below("mem://bucket/a")
    assert {"attempt-alive/y", "notes.txt", "manifest.json"} < left
    assert "attempt-dead/y" not in left
    assert verified() == "whole"


def test_half_written_manifest_is_no_artifact_and_is_replaced():
    memory_store.FILES["mem://bucket/a/manifest.json"] = b'{"kind": "examples", "fil'
    with pytest.raises(DataError, match="damaged"):
        manifest.read("mem://bucket/a")
    commit("whole")
    assert verified() == "whole"


def test_copy_of_the_whole_prefix_is_refused_with_the_directory_to_give(tmp_path):
    commit("whole")
    copied = memory_store.download("mem://bucket/a", tmp_path / "a")
    with pytest.raises(DataError) as caught:
        manifest.read(copied)
    directory = caught.value.message.rpartition("Give ")[2].rstrip(".")
    assert set(manifest.verify(directory, deep=True).files) == {"sub/x", "y"}


def test_worker_whose_upload_fails_leaves_nothing_and_a_rerun_succeeds(tmp_path, monkeypatch):
    real = memory_store.MemoryStore.upload

    def fails(self, path, place, **options):
        if "train-00001" in place.name:
            raise StorageError(f"Cannot write {place}: 403 Forbidden.")
        return real(self, path, place, **options)

    monkeypatch.setattr(memory_store.MemoryStore, "upload", fails)
    with pytest.raises(StorageError, match=r"train-00001.*403 Forbidden"):
        run(job(tmp_path))
    assert not memory_store.FILES
    monkeypatch.undo()
    assert run(job(tmp_path)).rows == 25


def test_analyses_are_kept_in_a_store(tmp_path, monkeypatch):
    read = []
    real = first_pass.analyse_file
    monkeypatch.setattr(first_pass, "analyse_file", lambda f, s: read.append(f.name) or real(f, s))
    cache = "mem://bucket/kept"
    run(job(tmp_path), "mem://bucket/one", analysis_cache=cache)
    run(job(tmp_path), "mem://bucket/full")
    read.clear()
    made = job(tmp_path)
    made.part()
    (tmp_path / "data" / "train-2.csv").write_text("c,x,y\nz,9,1\n")
    run(made, "mem://bucket/two", analysis_cache=cache)
    assert read == ["data/train-2.csv"]
    for name in memory_store.below(cache):
        memory_store.FILES[f"{cache}/{name}"] = b"damaged"
    read.clear()
    run(made, "mem://bucket/three", analysis_cache=cache)
    assert len(read) == 4
    digests = [manifest.read(f"mem://bucket/{out}/examples").digest for out in ("two", "three")]
    assert digests[0] == digests[1]


CONFIG = """
name: tiny
data: {split: {files: {train: [data/train*], eval: [data/eval*]}}}
label: {field: y}
columns: {c: {kind: vocabulary}}
estimator: {name: LinearClassifier, args: {feature_columns: [c]}}
train: {max_steps: 1}
"""


def test_commands_take_uris(tmp_path, capsys):
    made = job(tmp_path)
    made.part()
    (tmp_path / "run.yaml").write_text(CONFIG)
    assert cli.main(["preprocess", str(tmp_path / "run.yaml"), "-o", f"{OUT}/"]) == 0
    said = capsys.readouterr().out.split()
    examples = next(line for line in said if line.startswith(f"{OUT}/examples/attempt-"))
    assert f"{examples}/manifest.json" in memory_store.FILES
    pattern = str(tmp_path / "data" / "train*")
    assert cli.main(["statistics", pattern, "-o", "mem://bucket/seen/"]) == 0
    page = capsys.readouterr().out.split()[-1]
    assert b"<html" in memory_store.FILES[page]
    schema = ["--schema", page.replace("statistics.html", "schema.pbtxt")]
    (tmp_path / "new.csv").write_text("c,x,y\n" + "z,3,1\n" * 9)
    command = ["validate", str(tmp_path / "new.csv"), *schema, "-o", "mem://bucket/judged"]
    assert cli.main([*command, "--previous", "mem://bucket/seen"]) == 2
    assert "c: Values are not in the domain" in capsys.readouterr().out
    (judged,) = [name for name in memory_store.FILES if name.endswith("/anomalies.pbtxt")]
    assert judged.startswith("mem://bucket/judged/attempt-")
    assert cli.main([*command[:-1], "mem://bucket/other", "--previous", "mem://bucket/no"]) == 2
    assert "not a finished artifact" in capsys.readouterr().err


def test_drift_is_measured_from_statistics_in_a_store(tmp_path):
    made = job(tmp_path)
    run(made)
    (tmp_path / "schema.pbtxt").write_bytes(
        memory_store.FILES[f"{manifest.locate(f'{OUT}/statistics')}/schema.pbtxt"]
    )
    policy = {"path": "schema.pbtxt", "previous": f"{OUT}/statistics", "max_drift": 0.01}
    section = configuration.DataSchema(**policy)
    part = made.part().model_copy(update={"data_schema": section})
    (tmp_path / "data" / "train-1.csv").write_text("c,x,y\n" + "a,3,1\n" * 99)
    with pytest.raises(SchemaError, match=r"c\b.*drift"):
        preprocess.run(
            part,
            base_dir=str(tmp_path),
            examples_dir="mem://bucket/e",
            transform_dir="mem://bucket/t",
            statistics_dir="mem://bucket/s",
        )


def test_raw_data_of_hdfs_is_read_by_beam_with_the_options_of_the_job(tmp_path, monkeypatch):
    monkeypatch.setattr(hadoopfilesystem.HadoopFileSystem, "scheme", lambda: "")
    patterns = {split: [f"hdfs://data/{split}-*.csv"] for split in ("train", "eval")}
    given = {"split": {"files": patterns}, "beam": ["--hdfs_host=namenode"]}
    hadoop.FILES["hdfs://data/train-0.csv"] = b"c,x,y\na,1,0\nb,2,1\n"
    hadoop.FILES["hdfs://data/eval-0.csv"] = b"c,x,y\na,1,0\n"
    assert run(job(tmp_path, days=0, **given)).rows == 3
    assert set(hadoop.HOSTS) == {"namenode"}


@pytest.mark.parametrize(
    ("uri", "error", "said"),
    [
        ("ftp://bucket/out", SecurityError, "ftp"),
        ("mem://bucket/../out", SecurityError, "/../"),
        ("hdfs://bucket/out", ConfigError, "in no object store"),
    ],
)
def test_uris_that_cannot_be_written_are_refused_before_any_work(tmp_path, uri, error, said):
    with pytest.raises(error, match=said):
        run(job(tmp_path), uri)
