"""A user's own preprocessing_fn: learned by TFT, its outputs read by columns, one graph."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import tensorflow_transform as tft

from estimator_lib.core.errors import ConfigError, DataError
from estimator_lib.export.saved_model import load_model
from estimator_lib.inputs import examples_input
from transforms import preprocess
from transforms.applying import function_learning, tensors
from transforms.testing import Job

FUNCTION = """
import tensorflow as tf
import tensorflow_transform as tft

def dense(x, missing):
    return tf.squeeze(tf.sparse.to_dense(
        tf.SparseTensor(x.indices, x.values, [x.dense_shape[0], 1]), missing), 1)

def preprocessing_fn(raw):
    return {
        "scaled": tft.scale_to_0_1(dense(raw["size"], 2.0)),
        "shouted": tf.strings.upper(dense(raw["color"], "")),
        "words": tf.compat.v1.string_split(dense(raw["text"], "")),
        "color_id": dense(tft.compute_and_apply_vocabulary(
            raw["color"], vocab_filename="colors", num_oov_buckets=1), -1),
        "tag_ids": tft.compute_and_apply_vocabulary(raw["tags"], vocab_filename="tags"),
    }

def text(raw):
    return {"text": dense(raw["color"], "")}

def numbers(raw):
    size = dense(raw["size"], 1.0)
    return {"id": tf.cast(size, tf.int64), "inverse": 1.0 / size}

def broken(raw):
    return [raw["color"]]
"""
HEADER = "color,size,text,tags,y\n"
FILES = {
    "train": [HEADER + "red,1,a b a,p|q,0\nblue,3,,q,1\n", HEADER + "red,,b,,0\n"],
    "eval": [HEADER + "green,5,c a,p|z,1\n,,,,0\n"],
}
COLUMNS = {
    "shouted": {"kind": "vocabulary"},
    "words": {"kind": "vocabulary"},
    "scaled": {"kind": "numeric", "normalize": "moments"},
    "size_is_missing": {"kind": "missing_indicator", "field": "size"},
    "color_x_words": {"kind": "crossed", "of": ["color", "words"], "buckets": 20},
    "color_id": {"kind": "identity", "buckets": 5},
}
DATA = {
    "types": {"color": "string", "size": "float", "text": "string"},
    "fields": {"tags": {"separator": "|"}},
}


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    here = tmp_path_factory.mktemp("code")
    (here / "own_preprocessing.py").write_text(FUNCTION)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(here))
        yield here


def job(root, function="preprocessing_fn", **changes):
    given = {
        "files": FILES,
        "columns": COLUMNS,
        "label": {"field": "y"},
        "data": DATA,
        "preprocess": {
            "function": f"own_preprocessing:{function}",
            "fields": ["color", "size", "text", "tags"],
        },
    }
    return Job(root=root, **{**given, **changes})


@pytest.fixture(scope="module")
def done(module, tmp_path_factory):
    made = job(tmp_path_factory.mktemp("job"))
    run(made, "out")
    return made


def run(made, name):
    out = made.root / name
    preprocess.run(
        made.part(),
        base_dir=str(made.root),
        examples_dir=str(out / "examples"),
        transform_dir=str(out / "transform"),
        statistics_dir=str(out / "statistics"),
        analysis_cache=str(made.root / "kept"),
    )


def test_columns_read_what_the_function_gives(done):
    rows = done.table().to_pydict()
    learned = json.loads((done.transform / "columns.json").read_text())["columns"]
    assert learned["shouted"]["vocabulary"] == ["RED", "BLUE"]
    assert learned["words"]["vocabulary"] == ["a", "b"]
    assert rows["shouted"] == [0, 1, 0]
    assert rows["words"] == [[0, 1, 0], [], [1]]
    np.testing.assert_allclose(rows["scaled"], [-1.2247, 1.2247, 0], atol=1e-3)
    assert rows["size_missing"] == [0, 0, 1]
    assert rows["color_id"] == [0, 1, 0]
    assert [len(ids) for ids in rows["color_X_words"]] == [3, 0, 1]


def test_other_outputs_are_features_as_they_are(done):
    assert done.table().to_pydict()["tag_ids"] == [[1, 0], [0], []]
    assert done.metadata()["features"]["tag_ids"] == {
        "dtype": "int64", "num_buckets": None, "list": True,
    }  # fmt: skip
    (features, _), *_ = examples_input(done.examples, "train", batch_size=3)()
    assert features["tag_ids"].to_list() == [[1, 0], [0], []]


def test_one_graph_takes_raw_fields_and_gives_the_examples(done):
    fields = done.metadata()["raw_fields"]
    assert set(fields) == {"color", "size", "text", "tags"}
    sample = pq.read_table(done.examples / "raw_sample.parquet")
    assert set(sample.column_names) == set(fields)
    raw = {n: tensors.of_column(kind, sample[n].combine_chunks()) for n, kind in fields.items()}
    loaded = tf.saved_model.load(str(done.transform / "transform_fn"))
    written = done.table("eval")
    features = loaded.transform_fn(raw)
    assert set(features) == set(done.metadata()["features"])
    for name, value in features.items():
        got = value
        if isinstance(value, tf.SparseTensor):
            got = tf.RaggedTensor.from_sparse(value).to_list()
        np.testing.assert_equal(
            got if isinstance(got, list) else got.numpy().tolist(), written[name].to_pylist(), name
        )
    assert written["shouted"].to_pylist() == [2, -1]


def test_tft_finds_the_vocabularies_of_the_function(done):
    output = tft.TFTransformOutput(str(done.transform))
    assert output.vocabulary_by_name("colors") == [b"red", b"blue"]
    assert output.vocabulary_by_name("shouted") == [b"RED", b"BLUE"]


def test_the_exported_model_holds_the_function(done, tmp_path):
    import estimator_lib
    from components.steps import model as artifact
    from estimator_lib.core import columns as fc
    from estimator_lib.export.serving_inputs import build_transformed_serving_input_receiver_fn
    from transforms.applying import raw_rows

    columns = artifact.read_columns(str(done.transform))
    ready = [fc.transformed(columns[n]) for n in ("shouted", "words", "color_x_words", "scaled")]
    estimator = estimator_lib.LinearClassifier(ready, model_dir=str(tmp_path / "model"))
    source = examples_input(done.examples, "train", batch_size=3, epochs=None)
    estimator.train(source, max_steps=5)
    receiver = build_transformed_serving_input_receiver_fn(str(done.transform))
    exported = estimator.export_saved_model(str(tmp_path / "export"), receiver).decode()
    sample = pq.read_table(done.examples / "raw_sample.parquet")
    served = load_model(exported).predict(raw_rows.arrays(sample))
    rows = examples_input(done.examples, "eval", batch_size=2)
    trained = next(iter(estimator.predict(rows, yield_single_examples=False)))
    np.testing.assert_allclose(served["logistic"], trained["logistic"], atol=1e-6)


def test_known_files_are_not_read_again_to_learn(done, monkeypatch):
    read = []
    process = function_learning._TrainRows.process

    def counted(self, file):
        read.append(file.name)
        return process(self, file)

    monkeypatch.setattr(function_learning._TrainRows, "process", counted)
    (done.root / "data" / "train-2.csv").write_text(HEADER + "black,9,z,,1\n")
    run(done, "grown")
    assert read == ["data/train-2.csv"]
    written = done.root / "grown" / "examples"
    rows = [pq.read_table(p).to_pydict() for p in sorted(written.glob("train-*"))]
    assert [row["color_id"] for row in rows] == [[0, 1], [0], [2]]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"function": "nothing"}, "cannot be loaded"),
        ({"function": "text", "columns": {"color": {"kind": "vocabulary"}}}, "no column reads"),
        (
            {"function": "text", "columns": {"text": {"kind": "numeric"}}},
            "declared as string|reads it as float",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(module, tmp_path, changes, said):
    with pytest.raises(ConfigError, match=said):
        job(tmp_path, **changes).run()


def test_a_function_that_fails_is_one_message(module, tmp_path):
    from estimator_lib.core.errors import PipelineError

    with pytest.raises(PipelineError, match=r"own_preprocessing:broken.* failed"):
        job(tmp_path, "broken").run()


def test_outputs_that_columns_or_models_cannot_take_are_data_errors(module, tmp_path):
    changes = {
        "files": {
            "train": [HEADER + "red,1,,,0\nred,7,,,1\nred,,,,0\n"],
            "eval": [HEADER + "a,0,,,1\n"],
        },
        "columns": {"id": {"kind": "identity", "buckets": 5}},
    }
    with pytest.raises(DataError) as caught:
        job(tmp_path / "fail", "numbers", **changes).run()
    said = caught.value.message
    assert (
        "'id' is out of range: expected an integer from -1 to 4, got '7' at data/train-0.csv:3"
        in said
    )
    assert "'inverse' is not finite" in said
    assert "data/eval-0.csv:2" in said
    assert "preprocess.function" in said
    policy = {"on_bad_rows": "quarantine", "max_bad_fraction": 1.0}
    changes["files"]["eval"] = [HEADER + "a,0,,,1\na,2,,,1\n"]
    lenient = job(tmp_path / "lenient", "numbers", **changes, data=DATA | policy)
    lenient.run()
    assert lenient.table().to_pydict() == {"id": [1, 1], "inverse": [1, 1], "y": [0, 0]}
    assert (lenient.statistics / "quarantine.csv").read_text().count("Output of") == 2


def test_a_job_that_fails_keeps_nothing_of_what_it_learned(module, tmp_path, monkeypatch):
    from estimator_lib.core.errors import PipelineError

    def failing(self, file):
        raise RuntimeError("no more memory")

    made = job(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(function_learning._TrainRows, "process", failing)
        with pytest.raises(PipelineError, match="no more memory"):
            run(made, "first")
    assert not list((tmp_path / "kept").rglob("MANIFEST"))
    run(made, "second")
    assert len(list((tmp_path / "kept").rglob("MANIFEST"))) == len(FILES["train"])
