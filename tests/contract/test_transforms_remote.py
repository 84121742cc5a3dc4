"""Where data may be besides local files: BigQuery, and object stores through Beam."""

import datetime
import decimal
import json

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that

import transforms
from estimator_lib.core.errors import ConfigError, EstimatorLibError
from tests import memory_store
from transforms import dataset
from transforms.beam import runners
from transforms.reading import bigquery_reader
from transforms.testing import Job

TYPES = {"c": "string", "n": "int", "x": "float", "tags": "string", "day": "string"}
ROWS = [
    {"c": "a", "n": 1, "x": decimal.Decimal("1.5"), "tags": ["p", "q"],
     "day": datetime.date(2026, 1, 31), "unused": {"deep": 1}},
    {"c": None, "n": None, "x": None, "tags": [], "day": None, "unused": None},
]  # fmt: skip


def read(rows, check=None, **options):
    def build(pipeline):
        source = beam.Create(rows)
        batches = pipeline | transforms.ReadBigQuery(
            TYPES, table="p:d.t", lists=["tags"], source=source, **options
        )
        if check is not None:
            assert_that(batches, check)

    runners.run(build, [])


def test_rows_of_bigquery_are_typed_like_those_of_files():
    def check(batches):
        found = pa.Table.from_batches(batches).sort_by("c").to_pylist()
        assert found == [
            {"c": "a", "n": 1, "x": 1.5, "tags": ["p", "q"], "day": "2026-01-31"},
            {"c": None, "n": None, "x": None, "tags": [], "day": None},
        ]

    read(ROWS, check)


@pytest.mark.parametrize(
    ("bad", "said"), [({"n": 2.5}, "'n'"), ({"x": float("inf")}, "'x'"), ({"c": b"\xff"}, "'c'")]
)
def test_bad_values_of_bigquery_are_refused(bad, said):
    with pytest.raises(EstimatorLibError, match=said):
        read([ROWS[0] | bad])


def test_a_field_that_the_table_lacks_is_refused():
    with pytest.raises(EstimatorLibError, match=r"'c'.*missing"):
        read([{k: v for k, v in ROWS[0].items() if k != "c"}])


def test_bigquery_is_refused_here_without_credentials(monkeypatch, tmp_path):
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    pipeline = beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"]))
    with pytest.raises(ConfigError, match="credentials"):
        pipeline | transforms.ReadBigQuery(TYPES, query="SELECT 1")
    bigquery_reader.rows_of("DataflowRunner", table=None, query="SELECT 1")
    with pytest.raises(ConfigError, match="exactly one"):
        transforms.ReadBigQuery(TYPES)


def job(root):
    patterns = {split: [f"mem://bucket/{split}-*.csv"] for split in ("train", "eval")}
    return Job(
        root=root,
        files={},
        columns={"c": {"kind": "vocabulary"}},
        label={"field": "y"},
        data={"split": {"files": patterns}},
    )


def test_object_stores_are_read_through_beams_file_systems(tmp_path):
    memory_store.clear()
    memory_store.FILES["mem://bucket/train-0.csv"] = b"c,y\na,0\nb,1\n"
    memory_store.FILES["mem://bucket/train-1.csv"] = b"c,y\nb,0\n"
    memory_store.FILES["mem://bucket/eval-0.csv"] = b"c,y\na,1\n"
    made = job(tmp_path)
    made.run()
    learned = json.loads((made.transform / "columns.json").read_text())["columns"]
    assert learned["c"]["vocabulary"] == ["b", "a"]
    assert made.metadata()["splits"]["train"]["rows"] == 3


def test_workers_elsewhere_hand_over_through_the_temporary_location():
    memory_store.clear()
    memory_store.FILES["mem://bucket/a.csv"] = b"c\na\nb\n"
    memory_store.FILES["mem://bucket/b.csv"] = b"c\nb\n"
    found = dataset.find(["mem://bucket/*.csv"])
    options = ["--runner=FnApiRunner", "--temp_location=mem://bucket/tmp"]
    computed, _ = dataset.compute(found, options)
    values = computed.datasets[0].features[0].string_stats.top_values
    assert [(v.value, v.frequency) for v in values] == [("b", 2), ("a", 1)]
    assert [path for path in memory_store.WRITTEN if path.startswith("mem://bucket/tmp/analysis-")]
    assert len(memory_store.FILES) == 2
