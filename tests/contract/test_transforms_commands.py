"""statistics, validate and preprocess on the command line, and the public PTransforms."""

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

import transforms
from estimator_lib.core import manifest
from pipelines import cli

ROWS = [{"c": "ab"[i % 2], "x": float(i), "y": i % 2} for i in range(20)]

CONFIG = """
name: tiny
data: {format: parquet, split: {files: {train: [train*.parquet], eval: [eval.parquet]}}}
label: {field: y}
columns: {c: {kind: vocabulary}, x: {kind: numeric}}
estimator: {name: LinearClassifier, args: {feature_columns: [c]}}
train: {max_steps: 1}
"""


@pytest.fixture
def folder(tmp_path):
    for name in ("train-0.parquet", "train-1.parquet", "eval.parquet"):
        pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / name)
    return tmp_path


def read(path):
    return statistics_pb2.DatasetFeatureStatisticsList.FromString(path.read_bytes())


def test_statistics_then_validate(folder, capsys):
    out = folder / "out"
    pattern = str(folder / "train*.parquet")
    assert cli.main(["statistics", pattern, "-o", str(out)]) == 0
    assert "40 rows of 3 fields in 2 files" in capsys.readouterr().out
    assert manifest.read(out, kind="statistics").metadata["splits"] == ["data"]
    assert read(out / "data.pb").datasets[0].num_examples == 40
    assert "<html" in (out / "statistics.html").read_text()

    schema = ["--schema", str(out / "schema.pbtxt")]
    assert cli.main(["validate", pattern, *schema, "--previous", str(out)]) == 0
    assert "as the schema says" in capsys.readouterr().out
    bad = folder / "bad.csv"
    bad.write_text("c,x,y\nz,1.5,0\nNA,2,1\n")
    judged = folder / "judged"
    given = ["validate", str(bad), *schema, "--missing", "NA", "-o", str(judged)]
    assert cli.main(given) == 2
    said = capsys.readouterr().out
    assert "error: c: Values are not in the domain" in said
    assert "ENUM_TYPE_UNEXPECTED" in (judged / "anomalies.pbtxt").read_text()


def test_statistics_says_what_it_cannot_read(folder, capsys):
    (folder / "x.log").write_text("a\n1\n")
    out = ["-o", str(folder / "out")]
    assert cli.main(["statistics", str(folder / "x.log"), *out]) == 2
    assert "x.log" in capsys.readouterr().err
    late = folder / "late.csv"
    late.write_text("a\n" + "1\n" * 1500 + "text\n")
    assert cli.main(["statistics", str(late), "--type", "a=int", *out]) == 2
    assert "late.csv:1502" in capsys.readouterr().err
    assert cli.main(["statistics", str(late), *out]) == 0
    assert cli.main(["statistics", str(late), "--type", "b=string", *out]) == 2
    assert "'b'" in capsys.readouterr().err


def test_preprocess_writes_its_three_artifacts(folder, capsys):
    config = folder / "config.yaml"
    config.write_text(CONFIG)
    given = ["preprocess", str(config), "-o", str(folder / "out"), "--cache", str(folder / "kept")]
    assert cli.main(given) == 0
    assert "40 train, 20 eval rows, 2 features" in capsys.readouterr().out
    for kind in ("examples", "transform", "statistics"):
        manifest.read(folder / "out" / kind, kind=kind)
    assert len(list((folder / "kept").iterdir())) == 1  # all files have the same content


def test_public_names_are_the_declared_ones():
    for name in transforms.__all__:
        assert issubclass(getattr(transforms, name), beam.PTransform)
    with pytest.raises(AttributeError):
        _ = transforms.nothing


def test_ptransforms_compose(folder):
    schema = schema_pb2.Schema()
    text_format.Parse('feature {name: "c" type: BYTES presence {min_fraction: 1}}', schema)

    def check_statistics(found):
        (proto,) = found
        assert proto.datasets[0].num_examples == 40
        numbers = {f.path.step[0]: f.num_stats for f in proto.datasets[0].features}
        assert numbers["x"].mean == 9.5

    def check_anomalies(found):
        (anomalies,) = found
        assert sorted(anomalies.anomaly_info) == ["x", "y"]  # not in the schema

    options = PipelineOptions(["--runner=FnApiRunner"])
    with beam.Pipeline(options=options) as pipeline:
        computed = (
            pipeline
            | transforms.ReadRecords("train*.parquet", base_dir=str(folder))
            | transforms.ComputeStatistics()
        )
        assert_that(computed, check_statistics, label="statistics")
        judged = computed | transforms.ValidateStatistics(schema)
        assert_that(judged, check_anomalies, label="anomalies")


def test_statistics_by_slice(tmp_path, capsys):
    rows = "".join(f"{'ab'[i % 3 == 0]};x|{'yz'[i % 2]};{i}\n" for i in range(30))
    (tmp_path / "a.csv").write_bytes(("ü;tags;n\n" + rows).encode("latin-1"))
    out = tmp_path / "out"
    command = ["statistics", str(tmp_path / "a.csv"), "-o", str(out), "--delimiter", ";"]
    more = ["--encoding", "latin-1", "--list", "tags=|", "--slice", "ü"]
    assert cli.main([*command, *more]) == 0
    datasets = read(out / "data.pb").datasets
    assert [(d.name, d.num_examples) for d in datasets] == [
        ("data", 30), ("ü=a", 20), ("ü=b", 10),
    ]  # fmt: skip
    numbers = {f.path.step[0]: f for f in datasets[2].features}
    assert numbers["n"].num_stats.mean == sum(range(0, 30, 3)) / 10
    assert numbers["tags"].string_stats.common_stats.tot_num_values == 20
    assert "ü=b" in (out / "slices.html").read_text()
    assert cli.main([*command, "--encoding", "latin-1", "--slice", "zip"]) == 2
    assert "'zip'" in capsys.readouterr().err
    assert cli.main([*command, "--encoding", "latin-9999"]) == 2
    assert "latin-9999" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("learned", "written", "judgement"),
    [
        ("1.10,2.0", "1.1,2,2.00", "as the schema says"),
        ("1.10,2.0,v1", "1.10,2.0", "as the schema says"),
        ("1.10,2.0,v1", "1.1,2.0", "Values are not in the domain"),
        ("007,010", "7,010", "Values are not in the domain"),
        ("2024-01-31,2024-02-01", "2024-01-31T00:00:00Z", "as the schema says"),
    ],
)
def test_validate_reads_texts_as_the_data_of_the_schema(
    tmp_path, capsys, learned, written, judgement
):
    for name, values in (("old", learned), ("new", written)):
        (tmp_path / f"{name}.csv").write_text("c\n" + values.replace(",", "\n") + "\n")
    old, new = str(tmp_path / "old.csv"), str(tmp_path / "new.csv")
    assert cli.main(["statistics", old, "--type", "c=string", "-o", str(tmp_path / "out")]) == 0
    code = cli.main(["validate", new, "--schema", str(tmp_path / "out" / "schema.pbtxt")])
    assert judgement in capsys.readouterr().out
    assert code == (0 if judgement.startswith("as") else 2)
