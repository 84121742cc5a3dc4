"""The data_schema section: new data is judged by a schema before anything is written."""

import csv
import logging

import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2

from estimator_lib.core import config
from estimator_lib.core.errors import ConfigError, DataError, Reason, SchemaError, SecurityError
from transforms import preprocess
from transforms.testing import Job

COLUMNS = {"c": {"kind": "vocabulary"}, "x": {"kind": "numeric", "default": 0}}
GOOD = "c,x,y\n" + "a,1,0\nb,2,1\n" * 10
RUN = """
name: tiny
data: {split: {files: {train: [a.csv], eval: [b.csv]}}}
data_schema: {path: schema.pbtxt, on_anomaly: quarantine}
label: {field: y}
columns: {c: {kind: vocabulary}}
estimator: {name: LinearClassifier}
train: {max_steps: 1}
"""
OTHER = "c,x,y\n" + "a,1,0\nz,2,1\n" * 10


def job(root, train=GOOD):
    root.mkdir(exist_ok=True)
    return Job(
        root=root,
        files={"train": [train], "eval": [GOOD]},
        columns=COLUMNS,
        label={"field": "y"},
    )


def run(root, train, data=None, **section):
    made = job(root, train)
    made.data = data or {}
    part = made.part().model_copy(update={"data_schema": config.DataSchema(**section)})
    preprocess.run(
        part,
        base_dir=str(root),
        examples_dir=str(made.examples),
        transform_dir=str(made.transform),
        statistics_dir=str(made.statistics),
    )
    return made


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    made = job(tmp_path_factory.mktemp("first"))
    made.run()
    assert "<html" in (made.statistics / "statistics.html").read_text()
    assert not (made.statistics / "anomalies.pbtxt").exists()
    return made.statistics


def test_data_that_follows_its_schema_passes(tmp_path, first):
    made = run(tmp_path, GOOD, path=str(first / "schema.pbtxt"), previous=str(first), max_drift=0.1)
    found = text_format.Parse(
        (made.statistics / "anomalies.pbtxt").read_text(), anomalies_pb2.Anomalies()
    )
    assert not found.anomaly_info
    assert {i.path.step[0] for i in found.drift_skew_info} == {"c", "x", "y"}
    assert (made.statistics / "anomalies-eval.pbtxt").exists()


def test_unexpected_value_is_refused_before_anything_is_written(tmp_path, first):
    with pytest.raises(SchemaError, match=r"'z'") as caught:
        run(tmp_path, OTHER, path=str(first / "schema.pbtxt"))
    assert "train split" in caught.value.message
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_unexpected_value_is_a_warning_if_the_policy_says_so(tmp_path, first, caplog):
    with caplog.at_level(logging.WARNING):
        made = run(tmp_path, OTHER, path=str(first / "schema.pbtxt"), on_anomaly="warn")
    assert any("'z'" in record.getMessage() for record in caplog.records)
    assert "ENUM_TYPE_UNEXPECTED" in (made.statistics / "anomalies.pbtxt").read_text()


LENIENT = {"on_bad_rows": "quarantine", "max_bad_fraction": 0.5}
ODD = "z,1,0\n,1,0\na,,0\na,99,1\n"


def test_records_that_the_schema_does_not_allow_are_left_out_and_listed(tmp_path, first):
    schema = text_format.Parse((first / "schema.pbtxt").read_text(), schema_pb2.Schema())
    (x,) = (feature for feature in schema.feature if feature.name == "x")
    x.float_domain.max = 10
    (tmp_path / "schema.pbtxt").write_text(text_format.MessageToString(schema))
    section = {"path": str(tmp_path / "schema.pbtxt"), "on_anomaly": "quarantine"}
    made = run(tmp_path, GOOD + ODD, LENIENT, **section)
    assert made.table().num_rows == 20
    with (made.statistics / "quarantine.csv").open(newline="") as file:
        found = [(row["line"], row["fields"], row["problem"]) for row in csv.DictReader(file)]
    assert [(line, field) for line, field, _ in found] == [
        ("22", "c"), ("23", "c"), ("24", "x"), ("25", "x"),
    ]  # fmt: skip
    for (*_, text), said in zip(
        found, ("got 'z'", "missing", "missing", "at most 10"), strict=True
    ):
        assert said in text
    with pytest.raises(DataError, match="Too many records"):
        run(tmp_path / "more", GOOD + ODD * 20, LENIENT, **section)


def test_quarantine_by_schema_needs_that_of_records(tmp_path):
    (tmp_path / "run.yaml").write_text(RUN)
    with pytest.raises(ConfigError, match=r"data\.on_bad_rows"):
        config.load(tmp_path / "run.yaml")
    config.load(tmp_path / "run.yaml", ["data.on_bad_rows=quarantine"])


@pytest.mark.parametrize(("key", "limit"), [("previous", "max_drift"), ("serving", "max_skew")])
def test_another_distribution_is_refused(tmp_path, first, key, limit):
    skewed = "c,x,y\n" + "a,1,0\n" * 19 + "b,2,1\n"
    given = {key: str(first / "train.pb"), limit: 0.2}
    with pytest.raises(SchemaError, match="c: Distribution has changed"):
        run(tmp_path, skewed, path=str(first / "schema.pbtxt"), **given)


def test_missing_and_unreadable_files_are_named_before_reading(tmp_path):
    with pytest.raises(DataError, match=r"none\.pbtxt") as caught:
        run(tmp_path, GOOD, path="none.pbtxt")
    assert caught.value.reason == Reason.FILE_NOT_FOUND
    (tmp_path / "bad.pbtxt").write_text("feature {")
    with pytest.raises(SchemaError, match=r"bad\.pbtxt"):
        run(tmp_path, GOOD, path="bad.pbtxt")
    with pytest.raises(SecurityError):
        run(tmp_path, GOOD, path="../schema.pbtxt")
