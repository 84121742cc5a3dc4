"""The preprocess step end to end: artifacts, contents, and agreement of all its readers."""

import datetime
import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from estimator_lib.core import columns as fc
from estimator_lib.core import manifest
from estimator_lib.core.errors import ConfigError, DataError, EstimatorLibError, Reason
from transforms.applying import materialize
from transforms.testing import Job

COLUMNS = {
    "color": {"kind": "vocabulary"},
    "shade": {"kind": "vocabulary", "field": "color_name", "values": ["dark", "light"]},
    "color_embedding": {"kind": "embedding", "of": "color", "dimension": 2},
    "shape_id": {"kind": "hashed", "field": "shape", "buckets": 7},
    "size": {"kind": "numeric", "normalize": "moments", "default": "mean"},
    "size_is_missing": {"kind": "missing_indicator", "field": "size"},
    "shape_is_missing": {"kind": "missing_indicator", "field": "shape"},
    "note_is_missing": {"kind": "missing_indicator", "field": "note"},
    "height": {"kind": "bucketized", "quantiles": 2},
    "way": {"kind": "piecewise_linear", "field": "height", "quantiles": 2},
    "waves": {"kind": "periodic", "field": "size", "frequencies": 2},
    "rank": {"kind": "identity", "buckets": 5},
    "color_x_shape": {"kind": "crossed", "of": ["color", "shape"], "buckets": 50},
    "shape_x_height": {"kind": "crossed", "of": ["shape", "height"], "buckets": 20},
    "shape_x_kind": {"kind": "crossed", "of": ["shape", "kind"], "buckets": 11},
}
HEADER = "kind,color,color_name,shape,size,height,rank,note,weight,y\n"
TRAIN = [
    "k,red,dark,round,1,1,0,a,1,0\nk,red,light,flat,2,2,1,,2,1\n",
    "l,blue,other,round,,3,4,b,0.5,1\n,,dark,,3,,,c,1,0\n",
]
EVAL = ["k,green,,round,1e30,2.5,2,,1,1\nm,blue,dark,unseen,-5,,,x,3,0\n"]


def job(tmp_path, **changes):
    files = {"train": [HEADER + t for t in TRAIN], "eval": [HEADER + t for t in EVAL]}
    given = {"label": {"field": "y"}, "columns": COLUMNS, "weight": "weight", "keep": ["color"]}
    return Job(root=tmp_path, **{"files": files, **given, **changes})


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    made = job(tmp_path_factory.mktemp("job"))
    made.summary = made.run()
    return made


def test_run_reports_rows(done):
    summary = done.summary
    assert summary.rows == 6
    assert (summary.splits["train"].read, summary.splits["eval"].kept) == (4, 2)
    assert (summary.columns, summary.files) == (len(COLUMNS), 3)


def test_run_commits_three_artifacts(done):
    for directory, kind in (
        (done.examples, "examples"),
        (done.transform, "transform"),
        (done.statistics, "statistics"),
    ):
        assert manifest.verify(directory, deep=True).kind == kind
    assert {p.name for p in (done.root / "out").iterdir()} == {
        "examples",
        "transform",
        "statistics",
    }


def test_examples_hold_what_the_columns_say(done):
    rows = done.table("train").to_pydict()
    assert rows["color"] == [0, 0, 1, -1]
    assert rows["color_name"] == [0, 1, -1 if COLUMNS["shade"].get("oov_buckets") == 0 else 2, 0]
    assert rows["rank"] == [0, 1, 4, -1]
    assert rows["height_bucketized"] == [0, 1, 1, -1]
    assert rows["size_missing"] == [0, 0, 1, 0]
    assert rows["shape_missing"] == [0, 0, 0, 1]
    assert rows["note_missing"] == [0, 1, 0, 0]
    stddev = math.sqrt(2 / 3)
    np.testing.assert_allclose(rows["size"], [-1 / stddev, 0, 0, 1 / stddev], rtol=1e-6)
    np.testing.assert_array_equal(rows["height_piecewise"], [1, 2, 3, math.nan])
    np.testing.assert_allclose(
        rows["size_periodic"], [-1 / stddev, 0, math.nan, 1 / stddev], rtol=1e-6
    )
    assert rows["y"] == [0, 1, 1, 0]
    assert rows["weight"] == [1, 2, 0.5, 1]
    assert rows["raw.color"] == ["red", "red", "blue", ""]


def test_examples_have_the_types_of_the_manifest(done):
    schema = done.table("eval").schema
    metadata = done.metadata()
    for name, feature in metadata["features"].items():
        assert schema.field(name).type == (
            pa.int32() if feature["dtype"] == "int64" else pa.float32()
        )
    assert metadata["features"]["color"]["num_buckets"] == 3
    assert metadata["label"] == {"field": "y", "kind": "class", "classes": 2}
    assert metadata["raw_fields"]["note"] == "string"
    assert metadata["counts"]["train"]["label"] == {"0": 2, "1": 2}
    assert metadata["splits"]["train"]["files"] == [
        "train-00000-of-00002.parquet",
        "train-00001-of-00002.parquet",
    ]


def test_raw_sample_is_the_head_of_the_first_eval_shard(done):
    sample = pq.read_table(done.examples / "raw_sample.parquet")
    assert sample["color"].to_pylist() == ["green", "blue"]
    assert sample["height"].to_pylist() == [2.5, None]
    assert sample["rank"].type == pa.int64()
    assert "y" not in sample.column_names


def tensors(table, raw_fields):
    return {
        name: tf.constant(materialize.records.raw_numpy(kind, table[name].combine_chunks()))
        for name, kind in raw_fields.items()
    }


def test_saved_transform_gives_the_examples(done):
    sample = pq.read_table(done.examples / "raw_sample.parquet")
    loaded = tf.saved_model.load(str(done.transform / "transform_fn"))
    features = loaded.transform_fn(tensors(sample, done.metadata()["raw_fields"]))
    written = done.table("eval")
    assert set(features) == set(done.metadata()["features"])
    for name, values in features.items():
        np.testing.assert_array_equal(values.numpy(), written[name].to_numpy(), err_msg=name)


def test_tensorflow_transform_loads_the_transform(done):
    import tensorflow_transform as tft

    output = tft.TFTransformOutput(str(done.transform))
    sample = pq.read_table(done.examples / "raw_sample.parquet")
    raw = tensors(sample, done.metadata()["raw_fields"])
    features = output.transform_features_layer()(raw)
    written = done.table("eval")
    for name in done.metadata()["features"]:
        np.testing.assert_array_equal(features[name].numpy(), written[name].to_numpy())
    assert output.num_buckets_for_transformed_feature("color") == 3
    assert output.vocabulary_by_name("color") == [b"red", b"blue"]
    assert set(output.raw_feature_spec()) == set(done.metadata()["raw_fields"])
    assert set(output.transformed_feature_spec()) == set(done.metadata()["features"])


def test_columns_json_reads_back_as_resolved_columns(done):
    content = json.loads((done.transform / "columns.json").read_text())
    columns = {name: fc.from_json(value) for name, value in content["columns"].items()}
    assert list(columns) == sorted(COLUMNS) or set(columns) == set(COLUMNS)
    assert columns["color"].vocabulary == ("red", "blue")
    assert columns["height"].boundaries == (2.0,)
    assert content["raw_fields"]["size"] == "float"


def test_statistics_and_schema_describe_the_rows(done):
    statistics = statistics_pb2.DatasetFeatureStatisticsList.FromString(
        (done.statistics / "train.pb").read_bytes()
    )
    dataset = statistics.datasets[0]
    by_name = {f.path.step[0]: f for f in dataset.features}
    assert (dataset.name, dataset.num_examples) == ("train", 4)
    size = by_name["size"].num_stats
    assert (size.mean, size.min, size.max, size.median) == (2.0, 1.0, 3.0, 2.0)
    assert (size.common_stats.num_missing, size.common_stats.num_non_missing) == (1, 3)
    color = by_name["color"].string_stats
    assert [(v.value, v.frequency) for v in color.top_values] == [("red", 2.0), ("blue", 1.0)]
    schema = text_format.Parse((done.statistics / "schema.pbtxt").read_text(), schema_pb2.Schema())
    features = {f.name: f for f in schema.feature}
    assert features["y"].not_in_environment == ["SERVING"]
    assert features["weight"].presence.min_fraction == 1.0
    assert next(d for d in schema.string_domain if d.name == "color").value == ["blue", "red"]


def test_run_again_is_fine_and_other_content_is_refused(done):
    before = manifest.read(done.transform).digest
    done.run()
    assert manifest.read(done.transform).digest == before
    other = job(done.root, columns={"rank": {"kind": "identity", "buckets": 5}})
    with pytest.raises(EstimatorLibError) as caught:
        other.run()
    assert caught.value.reason == Reason.ALREADY_EXISTS


def test_batch_transform_agrees_with_the_graph_on_random_rows(done):
    content = (done.transform / "columns.json").read_text()
    random = np.random.default_rng(0)
    kinds = done.metadata()["raw_fields"]
    rows = 5000
    words = ["red", "blue", "", "unseen", "round", "k", "Ж\n", "x" * 500, None]
    numbers = [0.0, -0.0, 1.5, 2.0, None, 3e38, -1e-38, 1e30]
    columns = {
        name: pa.array([words[i] for i in random.integers(0, len(words), rows)], pa.string())
        if kind == "string"
        else pa.array([[None, 0, 1, 4][i] for i in random.integers(0, 4, rows)], pa.int64())
        if kind == "int"
        else pa.array([numbers[i] for i in random.integers(0, len(numbers), rows)], pa.float64())
        for name, kind in kinds.items()
    }
    batch = pa.RecordBatch.from_pydict(columns)
    fast = materialize.transform_for(content)(batch)
    loaded = tf.saved_model.load(str(done.transform / "transform_fn"))
    raw = {n: tf.constant(materialize.records.raw_numpy(k, columns[n])) for n, k in kinds.items()}
    for name, values in loaded.transform_fn(raw).items():
        np.testing.assert_array_equal(fast[name].to_numpy(), values.numpy(), err_msg=name)


def test_split_by_hash_is_stable_across_shards(tmp_path):
    rows = [f"{i},{i % 2},{i % 3}" for i in range(200)]

    def eval_keys(root, parts):
        files = {"all": ["x,y,key\n" + "\n".join(p) + "\n" for p in parts]}
        data = {
            "split": {"hash": {"key": ["x"], "eval_fraction": 0.3}},
            "files": ["data/all-*"],
        }
        made = job(
            root,
            files=files,
            columns={"x": {"kind": "numeric"}},
            data=data,
            weight=None,
            keep=["x"],
        )
        made.run()
        return sorted(made.table("eval")["raw.x"].to_pylist())

    one = eval_keys(tmp_path / "one", [rows])
    assert one == eval_keys(tmp_path / "two", [rows[150:], rows[:50][::-1], rows[50:150]])
    assert 35 < len(one) < 85


def test_split_by_column_sends_rows_where_their_value_says(tmp_path):
    made = job(
        tmp_path,
        files={"all": ["m,x,y\n" + "".join(f"{m},{m},0\n" for m in range(6))]},
        columns={"x": {"kind": "numeric"}},
        data={
            "split": {"column": {"field": "m", "eval": ["5"], "validation": ["3", "4"]}},
            "files": ["data/*"],
        },
        weight=None,
        keep=["m"],
    )
    made.run()
    assert made.table("train")["raw.m"].to_pylist() == ["0", "1", "2"]
    assert made.table("validation")["x"].to_pylist() == [3, 4]
    assert made.table("eval")["x"].to_pylist() == [5]


def fails(made):
    with pytest.raises(EstimatorLibError) as caught:
        made.run()
    assert not (made.root / "out").exists() or not list((made.root / "out").iterdir())
    return caught.value


NUMERIC = {"x": {"kind": "numeric"}}


def small(tmp_path, train, columns=NUMERIC, **changes):
    files = {"train": [train], "eval": ["x,y\n1,0\n"]}
    return job(tmp_path, files=files, columns=columns, weight=None, keep=[], **changes)


DAYS = [
    "2026-01-30",
    "2026-01-31 23:59:59",
    "2026-02-01",
    "2026-02-01T01:00:00+02:00",
    "2026-03-01T00:00Z",
]


def by_time(root, texts, bounds, **data):
    rows = "".join(f'"{text}",{i},0\n' for i, text in enumerate(texts))
    split = {"time": {"field": "when", **bounds}}
    made = Job(
        root=root,
        files={"all": ["when,x,y\n" + rows]},
        columns={"x": {"kind": "numeric"}},
        label={"field": "y"},
        data={"split": split, "files": ["data/all-*"], **data},
    )
    made.run()
    return {name: made.table(name)["x"].to_pylist() for name in made.metadata()["splits"]}


@pytest.mark.parametrize(
    ("texts", "bounds", "expected"),
    [
        (DAYS, {"eval_from": datetime.date(2026, 2, 1)}, {"train": [0, 1, 3], "eval": [2, 4]}),
        (
            DAYS,
            {"validation_from": "2026-01-31", "eval_from": "2026-02-15"},
            {"train": [0], "validation": [1, 2, 3], "eval": [4]},
        ),
        (["9", "10", "1e2"], {"eval_from": "10"}, {"train": [0], "eval": [1, 2]}),
    ],
)
def test_split_by_time_sends_later_rows_to_eval(tmp_path, texts, bounds, expected):
    assert by_time(tmp_path, texts, bounds) == expected


def test_times_that_cannot_be_read_are_refused_with_their_line_or_left_out(tmp_path):
    texts = [*DAYS[:3], "1/2/2026", "", "20260301"]
    bounds = {"eval_from": "2026-02-01"}
    with pytest.raises(DataError) as caught:
        by_time(tmp_path / "fail", texts, bounds)
    for said in ("'1/2/2026' at data/all-0.csv:5", "'' at data/all-0.csv:6", "data/all-0.csv:7"):
        assert said in caught.value.message
    policy = {"on_bad_rows": "quarantine", "max_bad_fraction": 1.0}
    assert by_time(tmp_path / "lenient", texts, bounds, **policy) == {"train": [0, 1], "eval": [2]}


def test_label_out_of_range_is_refused_with_its_line(tmp_path):
    error = fails(small(tmp_path, "x,y\n1,0\n2,7\n"))
    assert (type(error), error.reason) == (DataError, Reason.LABEL_OUT_OF_RANGE)
    assert "data/train-0.csv:3" in error.message


def test_missing_label_is_refused_or_skipped(tmp_path):
    error = fails(small(tmp_path / "a", "x,y\n1,0\n2,\n"))
    assert error.reason == Reason.MISSING_VALUE
    assert "train-0.csv:3" in error.message
    made = small(tmp_path / "b", "x,y\n1,0\n2,\n", label={"field": "y", "missing": "skip"})
    summary = made.run()
    assert summary.splits["train"].skipped == 1
    assert made.table()["x"].to_pylist() == [1]


def test_label_of_kind_number_is_written_as_float(tmp_path):
    made = small(tmp_path, "x,y\n1,0.25\n2,-3\n", label={"field": "y", "kind": "number"})
    made.run()
    assert made.table()["y"].to_pylist() == [0.25, -3.0]


def test_negative_weight_is_refused(tmp_path):
    made = job(
        tmp_path,
        files={"train": ["x,y,w\n1,0,-1\n"], "eval": ["x,y,w\n1,0,1\n"]},
        columns=NUMERIC,
        weight="w",
        keep=[],
    )
    assert fails(made).reason == Reason.WEIGHT_OUT_OF_RANGE


def test_missing_numbers_without_default_are_refused_all_at_once(tmp_path):
    made = job(
        tmp_path,
        files={"train": ["x,z,y\n,,0\n1,,1\n"], "eval": ["x,z,y\n1,2,0\n"]},
        columns={**NUMERIC, "z": {"kind": "numeric"}},
        weight=None,
        keep=[],
    )
    error = fails(made)
    assert error.reason == Reason.MISSING_VALUE
    assert "1 of 2 rows" in error.message
    assert "2 of 2 rows" in error.message
    assert "default: mean" in error.message


def test_identity_outside_its_range_is_refused_with_its_line(tmp_path):
    made = small(tmp_path, "x,y\n1,0\n9,0\n", columns={"x": {"kind": "identity", "buckets": 3}})
    assert "train-0.csv:3" in fails(made).message


def test_field_declared_as_text_and_read_as_number_is_refused(tmp_path):
    with pytest.raises(ConfigError):
        small(tmp_path, "x,y\n1,0\n", data={"types": {"x": "string"}}).run()


def test_integer_text_read_as_category_keeps_its_text(tmp_path):
    made = small(tmp_path, "x,y\n2013,0\n02013,0\n2013,1\n", columns={"x": {"kind": "vocabulary"}})
    made.run()
    content = json.loads((made.transform / "columns.json").read_text())
    assert content["columns"]["x"]["vocabulary"] == ["2013", "02013"]
