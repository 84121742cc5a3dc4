"""Fields with several values per record: read, learned from, transformed, written and fed."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from estimator_lib.core import columns as fc
from estimator_lib.core.errors import ConfigError, EstimatorLibError, Reason
from estimator_lib.export import serving_inputs
from estimator_lib.features._lowering import ids_and_weights
from estimator_lib.features.dense import dense_features, source_features
from estimator_lib.features.sequences import sequence_features
from estimator_lib.inputs import examples_input
from estimator_lib.inputs.parquet import ParquetInput
from transforms import dataset
from transforms.applying import materialize, raw_rows, tensors
from transforms.reading import readers
from transforms.reading.files import InputFile
from transforms.reading.problems import Problems
from transforms.reading.rows import Field, Layout
from transforms.testing import Job
from transforms.validating import anomalies

HEADER = "tags,scores,steps,kind,y\n"
TRAIN = ["a|b|a,0.5|1|2,1|2|3,x,1\n,,,y,0\n", "b,1,4||5|,,1\na||zz|,1|3|2|,7,x,0\n"]
EVAL = ["a|new,1|2,1|2,x,1\n,,,,0\nb|b|b|b,1|1|1|1,9,q,1\n"]
COLUMNS = {
    "tags": {"kind": "vocabulary"},
    "tags_vector": {"kind": "embedding", "of": "tags", "dimension": 2, "combiner": "sum"},
    "scored": {"kind": "weighted", "of": "tags", "weights": "scores"},
    "steps": {"kind": "sequence_numeric"},
    "kind": {"kind": "vocabulary"},
    "no_tags": {"kind": "missing_indicator", "field": "tags"},
    "kind_x_tags": {"kind": "crossed", "of": ["kind", "tags"], "buckets": 30},
}
FIELDS = {
    "tags": {"separator": "|"},
    "scores": {"kind": "float", "separator": "|"},
    "steps": {"kind": "float", "separator": "|"},
}


def job(root, **changes):
    given = {
        "files": {"train": [HEADER + t for t in TRAIN], "eval": [HEADER + t for t in EVAL]},
        "columns": COLUMNS,
        "label": {"field": "y"},
        "data": {"fields": FIELDS},
    }
    return Job(root=root, **{**given, **changes})


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    made = job(tmp_path_factory.mktemp("job"))
    made.run()
    return made


# --- Readers ---------------------------------------------------------------------------------

LAYOUT = {
    "fields": (
        Field(name="t", type="string", several=True, separator="|"),
        Field(name="n", type="int", several=True, separator="|"),
        Field(name="w", type="float", several=True, separator="|"),
    ),
    "missing": ("", "NA"),
    "pairs": (("t", "w"),),
}
ROWS = [
    {"t": ["a", "", "é, b"], "n": [1, 2], "w": [0.5, 1.0, 2.0]},
    {"t": [], "n": [], "w": []},
    {"t": ["NA", "z", ""], "n": [-7], "w": [1.0, 2.0, 3.0]},
]
READ = [
    {"t": ["a", None, "é, b"], "n": [1, 2], "w": [0.5, 1.0, 2.0]},
    {"t": [], "n": [], "w": []},
    {"t": [None, "z"], "n": [-7], "w": [1.0, 2.0, 3.0]},
]


def feature(values):
    if all(isinstance(v, int) for v in values):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    if all(isinstance(v, float) for v in values):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[v.encode() for v in values]))


def content(kind, rows, tmp_path):
    if kind == "csv":
        lines = [",".join(f'"{"|".join(map(str, v))}"' for v in row.values()) for row in rows]
        return "\n".join(["t,n,w", *lines]).encode()
    if kind == "parquet":
        sink = io.BytesIO()
        types = {"t": pa.large_list(pa.string()), "n": pa.list_(pa.int32())}
        pq.write_table(pa.Table.from_pylist(rows).cast(
            pa.schema([*types.items(), ("w", pa.list_(pa.float64()))])), sink)  # fmt: skip
        return sink.getvalue()
    path = tmp_path / "made.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as sink:
        for row in rows:
            features = tf.train.Features(feature={k: feature(v) for k, v in row.items() if v})
            sink.write(tf.train.Example(features=features).SerializeToString())
    return path.read_bytes()


def read(kind, data, tmp_path, **layout):
    path = tmp_path / "file"
    path.write_bytes(data)
    file = InputFile(name="file", path=str(path))
    rows, texts, problems = [], [], Problems()
    given = Layout(format=kind, **{**LAYOUT, **layout})
    readers.reader(kind).read_header(file, given)
    for some in readers.reader(kind).read_rows(file, given):
        rows += some.batch.to_pylist()
        texts += [t.to_pylist() for t in some.texts.values()]
        problems += some.problems
    return rows, texts, problems


@pytest.mark.parametrize("kind", ["csv", "parquet", "tfrecord"])
def test_every_format_gives_the_same_lists(tmp_path, kind):
    rows, texts, problems = read(kind, content(kind, ROWS, tmp_path), tmp_path, texts=("n",))
    assert not problems.total
    assert rows == READ
    assert [text for some in texts for text in some] == ["1|2", "", "-7"]


@pytest.mark.parametrize("kind", ["csv", "parquet", "tfrecord"])
def test_a_bad_value_in_a_list_is_located(tmp_path, kind):
    bad = {"t": ["a"], "n": [1, 99], "w": [1.0]}
    limited = dict(LAYOUT["fields"][1].__dict__, low=-10, high=50)
    fields = (LAYOUT["fields"][0], Field(**limited), LAYOUT["fields"][2])
    data = content(kind, [ROWS[0], bad, ROWS[2]], tmp_path)
    rows, _, problems = read(kind, data, tmp_path, fields=fields)
    assert rows == [READ[0], READ[2]]
    assert problems.total == 1
    place = {"csv": "file:3", "parquet": "row group 0, row 2", "tfrecord": "record 2"}[kind]
    assert place in problems.as_error().message
    assert "99" in problems.as_error().message


@pytest.mark.parametrize("kind", ["csv", "parquet", "tfrecord"])
def test_weights_that_do_not_fit_their_values_are_refused(tmp_path, kind):
    data = content(kind, [ROWS[0], ROWS[0] | {"w": [0.5]}], tmp_path)
    rows, _, problems = read(kind, data, tmp_path)
    assert rows == READ[:1]
    assert problems.first[0].reason == Reason.RECORD_MALFORMED
    assert "3 values, got 1" in problems.as_error().message


def test_undeclared_lists_are_refused_with_advice(tmp_path):
    plain = (Field(name="n", type="int"),)
    for kind in ("parquet", "tfrecord"):
        data = content(kind, ROWS, tmp_path)
        with pytest.raises(EstimatorLibError, match=r"data\.fields"):
            read(kind, data, tmp_path, fields=plain, pairs=())[2].raise_if_any()


# --- Whole job -------------------------------------------------------------------------------


def test_examples_hold_lists(done):
    rows = done.table().to_pydict()
    assert rows["tags"] == [[0, 1, 0], [], [1], [0, -1, 2]]
    assert rows["scores"][0] == [0.5, 1, 2]
    assert str(rows["steps"][2]) == "[4.0, nan, 5.0]"
    assert rows["tags_missing"] == [0, 1, 0, 0]
    assert [len(ids) for ids in rows["kind_X_tags"]] == [3, 0, 0, 2]
    assert rows["kind"] == [0, 1, -1, 0]
    schema = done.table().schema
    for name, feature in done.metadata()["features"].items():
        assert pa.types.is_list(schema.field(name).type) == feature["list"]
    assert done.metadata()["raw_fields"]["tags"] == "string[]"


def test_saved_transform_gives_the_same_lists_and_tft_loads_it(done):
    import tensorflow_transform as tft

    output = tft.TFTransformOutput(str(done.transform))
    sample = pq.read_table(done.examples / "raw_sample.parquet")
    raw = {
        name: tensors.of_column(kind, sample[name].combine_chunks())
        for name, kind in done.metadata()["raw_fields"].items()
    }
    features = output.transform_features_layer()(raw)
    written = done.table("eval")
    for name, feature in done.metadata()["features"].items():
        got = features[name]
        if feature["list"]:
            got = tf.RaggedTensor.from_sparse(got).to_list()
            assert isinstance(output.transformed_feature_spec()[name], tf.io.VarLenFeature)
        else:
            got = got.numpy().tolist()
        assert got == written[name].to_pylist(), name
    assert isinstance(output.raw_feature_spec()["tags"], tf.io.VarLenFeature)


def test_statistics_count_values_and_schema_allows_several(done):
    proto = statistics_pb2.DatasetFeatureStatisticsList.FromString(
        (done.statistics / "train.pb").read_bytes()
    )
    by_name = {f.path.step[0]: f for f in proto.datasets[0].features}
    tags = by_name["tags"].string_stats
    assert [(v.value, v.frequency) for v in tags.top_values] == [("a", 3), ("b", 2), ("zz", 1)]
    common = tags.common_stats
    assert (common.num_missing, common.num_non_missing) == (1, 3)
    assert (common.min_num_values, common.max_num_values, common.tot_num_values) == (1, 3, 7)
    assert tags.avg_length == pytest.approx(7 / 6)
    assert by_name["steps"].num_stats.mean == pytest.approx(22 / 6)
    schema = text_format.Parse((done.statistics / "schema.pbtxt").read_text(), schema_pb2.Schema())
    counts = {f.name: (f.value_count.min, f.value_count.max) for f in schema.feature}
    assert counts["tags"] == (1, 0)
    assert counts["kind"] == (1, 1)
    assert anomalies.describe(anomalies.validate(proto, schema)) == []
    next(f for f in schema.feature if f.name == "tags").value_count.max = 2
    (found,) = anomalies.describe(anomalies.validate(proto, schema))
    assert "tags: Rows have too many values: expected at most 2, got 3" in found


def test_kept_analyses_know_lists(tmp_path):
    made = job(tmp_path)
    part = made.part()
    from transforms import preprocess

    def run(name):
        out = tmp_path / name
        preprocess.run(
            part,
            base_dir=str(tmp_path),
            examples_dir=str(out / "e"),
            transform_dir=str(out / "t"),
            statistics_dir=str(out / "s"),
            analysis_cache=str(tmp_path / "kept"),
        )
        return (out / "s" / "train.pb").read_bytes(), (out / "t" / "columns.json").read_bytes()

    assert run("first") == run("second")


def test_tables_of_lists_need_no_declaration_for_statistics(tmp_path):
    (tmp_path / "a.parquet").write_bytes(content("parquet", ROWS, tmp_path))
    (tmp_path / "a.tfrecord").write_bytes(content("tfrecord", ROWS, tmp_path))
    for name in ("a.parquet", "a.tfrecord"):
        proto, schema = dataset.compute(dataset.find([name], base_dir=str(tmp_path)))
        by_name = {f.path.step[0]: f for f in proto.datasets[0].features}
        assert by_name["n"].num_stats.common_stats.tot_num_values == 3, name
        assert next(f for f in schema.feature if f.name == "n").value_count.max == 0


# --- Input and model -------------------------------------------------------------------------


def batches(source, first=0):
    return [
        {name: value.to_list() if hasattr(value, "to_list") else value.numpy().tolist()
         for name, value in [*features.items(), ("label", label)]}
        for features, label in source.dataset(first)
    ]  # fmt: skip


@pytest.mark.parametrize("in_memory", [True, False])
def test_examples_are_fed_as_ragged_tensors_and_resume(done, in_memory):
    options = {"batch_size": 3, "shuffle": True, "seed": 1, "epochs": 2, "in_memory": in_memory}
    source = examples_input(done.examples, "train", **options)
    assert isinstance(source, ParquetInput) != in_memory
    whole = batches(source)
    assert [len(b["label"]) for b in whole] == [3, 3, 2]
    tags = [str(row) for b in whole for row in b["tags"]]
    assert sorted(tags[:4]) == sorted(str(r) for r in done.table()["tags"].to_pylist())
    assert sorted(tags[:4]) == sorted(tags[4:])
    assert str(batches(source, 1)) == str(whole[1:])
    dropping = examples_input(done.examples, "train", **options, drop_remainder=True)
    assert str(batches(dropping)) == str(whole[:2])


def test_raw_rows_and_examples_give_the_model_the_same(done):
    content_ = json.loads((done.transform / "columns.json").read_text())["columns"]
    columns = {name: fc.from_json(value) for name, value in content_.items()}
    sample = pq.read_table(done.examples / "raw_sample.parquet")
    raw = {name: tf.constant(values) for name, values in raw_rows.arrays(sample).items()}
    (fed, _), *_ = examples_input(done.examples, "eval", batch_size=9)()
    for name in ("scored", "kind_x_tags"):
        source = columns[name]
        ready = fc.transformed(source)
        one, ones = ids_and_weights(source, source_features([source], raw))
        two, twos = ids_and_weights(ready, source_features([ready], fed))
        for row in range(3):
            pick = [
                sorted(
                    (int(i), 1.0 if w is None else float(w[row][at]))
                    for at, i in enumerate(ids[row])
                    if i >= 0
                )
                for ids, w in ((one, ones), (two, twos))
            ]
            assert pick[0] == pick[1]
    assert dense_features([fc.transformed(columns["no_tags"])], fed).numpy().tolist() == [
        [0], [1], [0],
    ]  # fmt: skip


def test_sequences_have_one_length_in_training_and_serving(done):
    """Of examples (RaggedTensors), and of a request's matrix through the transform graph."""
    content_ = json.loads((done.transform / "columns.json").read_text())["columns"]
    tags = fc.sequence_categorical_column(fc.from_json(content_["tags"]))
    columns = [
        fc.transformed(c) for c in (fc.indicator_column(tags), fc.from_json(content_["steps"]))
    ]
    (fed, _), *_ = examples_input(done.examples, "train", batch_size=9)()
    rows = [
        {"tags": tags_, "scores": [1.0] * len(tags_), "steps": steps, "kind": None}
        for tags_, steps in (
            (["a", "b", "a"], [1.0, 2.0, 3.0]),
            ([], []),
            (["b"], [4.0, None, 5.0]),
            (["a", None, "zz"], [7.0, None]),
        )
    ]
    kinds = [(n, pa.list_(pa.string() if n == "tags" else pa.float64())) for n in FIELDS]
    request = raw_rows.arrays(
        pa.Table.from_pylist(rows, pa.schema([*kinds, ("kind", pa.string())]))
    )
    raw = {
        name: tf.constant(v) if v.ndim == 1 else serving_inputs._without_ends(tf.constant(v))
        for name, v in request.items()
    }
    served = tf.saved_model.load(str(done.transform / "transform_fn")).transform_fn(raw)
    (one, lengths), (two, served_lengths) = (
        sequence_features(columns, features) for features in (fed, served)
    )
    assert lengths.numpy().tolist() == served_lengths.numpy().tolist() == [3, 0, 3, 3]
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"tags": {"kind": "numeric"}}, "'tags'"),
        ({"steps": {"kind": "bucketized", "quantiles": 2}}, "'steps'"),
        (
            {
                "kind": {"kind": "vocabulary"},
                "p": {"kind": "weighted", "of": "kind", "weights": "scores"},
            },
            "pairs values with weights",
        ),
    ],
)
def test_a_column_that_reads_one_value_of_several_is_refused(tmp_path, columns, said):
    with pytest.raises(ConfigError, match=said):
        job(tmp_path, columns=columns).run()


def test_crosses_of_long_lists_are_computed_in_parts(done, monkeypatch):
    content_ = json.loads((done.transform / "columns.json").read_text())
    cross = fc.from_json(content_["columns"]["kind_x_tags"])
    fields = {"kind": "string", "tags": "string[]"}
    random = np.random.default_rng(0)
    lengths = random.integers(0, 9, 200)
    batch = pa.RecordBatch.from_pydict(
        {
            "kind": pa.array(random.choice(["x", "y", None], 200)),
            "tags": pa.array([random.choice(["a", "b", "q"], n).tolist() for n in lengths]),
        }
    )
    transform = materialize.BatchTransform([cross], fields)
    whole = transform(batch)["kind_X_tags"].to_pylist()
    monkeypatch.setattr(materialize, "PADDED_CELLS", 20)
    assert transform(batch)["kind_X_tags"].to_pylist() == whole
    assert [len(ids) for ids in whole[:9]] == [
        n if kind else 0 for n, kind in zip(lengths[:9], batch["kind"].to_pylist()[:9], strict=True)
    ]
