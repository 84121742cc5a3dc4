"""`data.format: bigquery`: a snapshot in files, and then what files give. The service is faked."""

import datetime
import decimal
import json
import sys
import types

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.steps.preprocess import run as component
from estimator_lib.core import config as configuration
from estimator_lib.core import manifest
from estimator_lib.core.errors import ConfigError, DataError, EstimatorLibError, Reason
from pipelines import cli
from pipelines.local import run
from tests import memory_store
from transforms.reading import bigquery_reader, bigquery_snapshot
from transforms.testing import Job

ROWS = [
    {
        "id": i,
        "c": None if i == 5 else "abc"[i % 3],
        "x": decimal.Decimal(i) / 4,
        "day": datetime.date(2026, 1, 1 + i % 2),
        "tags": ["p", "q"][: i % 3],
        "y": i % 2,
        "unused": {"deep": 1},
    }
    for i in range(20)
]
TABLE = {"format": "bigquery", "bigquery": {"table": "project.sales.orders"}}
HASH = {"hash": {"key": ["id"], "eval_fraction": 0.3}}


@pytest.fixture
def table(monkeypatch):
    """The rows that BigQuery gives; a test may change them."""
    rows = list(ROWS)
    asked = []

    def rows_of(runner, **wanted):
        asked.append(wanted)
        return beam.Create(list(rows))

    monkeypatch.setattr(bigquery_reader, "rows_of", rows_of)
    monkeypatch.setattr(bigquery_snapshot, "PART_ROWS", 8)
    rows_of.rows, rows_of.asked = rows, asked
    return rows_of


def job(root, **data):
    return Job(
        root=root,
        files={},
        columns={
            "c": {"kind": "vocabulary"},
            "day": {"kind": "vocabulary"},
            "tags": {"kind": "vocabulary"},
            "x": {"kind": "numeric"},
        },
        label={"field": "y"},
        keep=["id"],
        data={"split": HASH, "fields": {"tags": {}}, **TABLE, **data},
    )


def test_a_table_gives_what_the_same_rows_in_a_file_give(tmp_path, table):
    made = job(tmp_path / "table")
    made.run()
    names = set(ROWS[0]) - {"unused"}
    assert table.asked == [
        {"table": "project.sales.orders", "query": None, "fields": table.asked[0]["fields"]}
    ]
    assert set(table.asked[0]["fields"]) == names
    from_file = job(tmp_path / "file", format="parquet", bigquery=None, files=["rows.parquet"])
    plain = pa.Table.from_pylist([{n: row[n] for n in sorted(names)} for row in ROWS])
    pq.write_table(plain, from_file.part() and tmp_path / "file" / "rows.parquet")
    from_file.run()
    for split in ("train", "eval"):
        one, other = (
            sorted(j.table(split).to_pylist(), key=lambda row: int(row["raw.id"]))
            for j in (made, from_file)
        )
        assert one == other
        assert one
    statistics = [(j.statistics / "train.pb").read_bytes() for j in (made, from_file)]
    assert statistics[0] == statistics[1]
    inputs = made.metadata()["inputs"]
    assert list(inputs) == [
        f"bigquery/project.sales.orders/part-{i:05d}-of-00003.parquet" for i in range(3)
    ]


def test_equal_rows_in_any_order_make_equal_artifacts_and_others_do_not(tmp_path, table):
    first = job(tmp_path / "first")
    first.run(["--runner=FnApiRunner", "--direct_num_workers=1"])
    table.rows.reverse()
    second = job(tmp_path / "second")
    second.run()
    assert manifest.read(second.examples).digest == manifest.read(first.examples).digest
    table.rows[0] = table.rows[0] | {"x": decimal.Decimal(100)}
    third = job(tmp_path / "third")
    third.run()
    assert third.metadata()["data_fingerprint"] != first.metadata()["data_fingerprint"]


def test_workers_elsewhere_share_the_snapshot_through_the_temporary_location(tmp_path, table):
    memory_store.clear()
    made = job(tmp_path)
    made.run(["--runner=FnApiRunner", "--temp_location=mem://bucket/temp"])
    parts = [path for path in memory_store.WRITTEN if "/bigquery-" in path]
    assert len(parts) == 3
    assert not memory_store.FILES
    assert sum(split["rows"] for split in made.metadata()["splits"].values()) == 20


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"x": "many"}, r"'x' cannot be read.*'many' at bigquery/project.sales.orders/part-"),
        ({"c": b"\xff"}, r"'c' of BigQuery project.sales.orders is no text"),
        ({"c": {"deep": 1}}, r"'c' of BigQuery project.sales.orders.*RECORD"),
    ],
)
def test_bad_values_are_named_and_nothing_is_written(tmp_path, table, change, said):
    table.rows[3] = table.rows[3] | change
    made = job(tmp_path)
    with pytest.raises(EstimatorLibError, match=said) as caught:
        made.run()
    assert caught.value.exit_code == 2
    assert not made.examples.exists()


def test_a_field_that_is_missing_is_named_with_the_nearest(tmp_path, table):
    table.rows[:] = [{"dya" if n == "day" else n: v for n, v in row.items()} for row in ROWS]
    with pytest.raises(EstimatorLibError, match=r"'day' is missing.*'dya'"):
        job(tmp_path).run()


def test_a_table_without_rows_is_refused(tmp_path, table):
    table.rows.clear()
    with pytest.raises(DataError, match="has no rows") as caught:
        job(tmp_path).run()
    assert caught.value.reason == Reason.EMPTY_INPUT


def test_all_fields_but_records_are_taken_where_a_function_may_give_some(tmp_path, table):
    section = configuration.BigQuery(query="SELECT *")
    (file, *_) = bigquery_snapshot.take(section, None, str(tmp_path))
    assert set(pq.read_schema(file.path).names) == set(ROWS[0]) - {"unused"}
    assert table.asked == [{"table": None, "query": "SELECT *", "fields": None}]


def test_it_is_refused_without_libraries_or_credentials_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    with pytest.raises(ConfigError, match=r"credentials.*gcloud auth") as caught:
        job(tmp_path / "job").run()
    assert caught.value.reason == Reason.PERMISSION
    monkeypatch.setitem(sys.modules, "google.cloud.bigquery_storage", None)
    with pytest.raises(ConfigError, match=r"Install apache-beam\[gcp\]"):
        job(tmp_path / "job").run()


CONFIG = """
name: tiny
data: {split: {hash: {key: [id], eval_fraction: 0.3}}, format: bigquery, bigquery: {table: p.d.t}}
label: {field: y}
columns: {c: {kind: vocabulary}}
estimator: {name: LinearClassifier, args: {feature_columns: [c]}}
train: {max_steps: 1}
"""


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("data.bigquery.query=SELECT 1", "exactly one of table and query"),
        ("data.bigquery.table=orders", "table"),
        ("data.files=[a.csv]", "bigquery has no files"),
        ("data.format=csv", "belong together"),
        ("predict={files: [a.csv]}", "predict.format is missing"),
    ],
)
def test_configurations_that_contradict_themselves_are_refused(tmp_path, capsys, setting, said):
    (tmp_path / "run.yaml").write_text(CONFIG)
    command = ["config", "check", str(tmp_path / "run.yaml")]
    assert cli.main(command) == 0
    assert "rows elsewhere not looked at" in capsys.readouterr().out
    more = ["--set", "pipeline=batch_prediction"] if "predict" in setting else []
    assert cli.main([*command, "--set", setting, *more]) == 2
    assert said in capsys.readouterr().err


def test_a_run_never_takes_rows_from_elsewhere_from_the_cache(tmp_path, monkeypatch):
    (tmp_path / "run.yaml").write_text(CONFIG)
    given = []

    def execute(build, arguments, **_):
        given.append(arguments["data_fingerprint"])
        raise DataError("far enough", reason=Reason.IO)

    monkeypatch.setattr(run, "execute", execute)
    for _ in range(2):
        with pytest.raises(DataError, match="far enough"):
            run.run(
                configuration.load(tmp_path / "run.yaml"),
                base_dir=tmp_path,
                output=tmp_path / "out",
                show=lambda line: None,
                steps=object(),
            )
    assert given[0] != given[1]


def test_the_component_tells_what_it_read(tmp_path, table):
    made = job(tmp_path)
    names = ("examples", "transform", "statistics")
    artifacts = [types.SimpleNamespace(path=str(tmp_path / n), metadata={}) for n in names]
    component(made.part().to_json(), str(tmp_path), "", "of the run", "1", *artifacts)
    read = json.loads((tmp_path / "examples" / "manifest.json").read_text())["metadata"]
    assert artifacts[0].metadata["data_fingerprint"] == read["data_fingerprint"] != "of the run"
