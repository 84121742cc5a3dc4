"""Where data may be besides local files: BigQuery, and object stores through Beam."""

import datetime
import decimal
import io
import json

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.io import filesystem
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that

import transforms
from estimator_lib.core.errors import ConfigError, EstimatorLibError
from transforms import bigquery_reader, dataset, runners
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
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    pipeline = beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"]))
    with pytest.raises(ConfigError, match="credentials"):
        pipeline | transforms.ReadBigQuery(TYPES, query="SELECT 1")
    bigquery_reader._require_access("DataflowRunner")
    with pytest.raises(ConfigError, match="exactly one"):
        transforms.ReadBigQuery(TYPES)


STORE: dict[str, bytes] = {}
WRITTEN: list[str] = []


class MemoryFileSystem(filesystem.FileSystem):
    """An object store: Beam finds file systems by their scheme."""

    @classmethod
    def scheme(cls):
        return "abfs"

    def join(self, basepath, *paths):
        return "/".join([basepath, *paths])

    def split(self, path):
        return tuple(path.rsplit("/", 1))

    def mkdirs(self, path):
        return None

    def has_dirs(self):
        return False

    def _list(self, dir_or_prefix):
        for path, data in STORE.items():
            if path.startswith(dir_or_prefix):
                yield filesystem.FileMetadata(path, len(data))

    def create(self, path, mime_type="", compression_type=""):
        class Sink(io.BytesIO):
            def close(self):
                STORE[path] = self.getvalue()
                WRITTEN.append(path)
                super().close()

        return Sink()

    def open(self, path, mime_type="", compression_type=""):
        return io.BytesIO(STORE[path])

    def copy(self, source_file_names, destination_file_names):
        raise OSError("read only")

    rename = copy

    def exists(self, path):
        return path in STORE

    def size(self, path):
        return len(STORE[path])

    def last_updated(self, path):
        return 0.0

    def checksum(self, path):
        return ""

    def metadata(self, path):
        return filesystem.FileMetadata(path, len(STORE[path]))

    def delete(self, paths):
        for path in paths:
            del STORE[path]


def job(root):
    patterns = {split: [f"abfs://bucket/{split}-*.csv"] for split in ("train", "eval")}
    return Job(
        root=root,
        files={},
        columns={"c": {"kind": "vocabulary"}},
        label={"field": "y"},
        data={"split": {"files": patterns}},
    )


def test_object_stores_are_read_through_beams_file_systems(tmp_path):
    STORE.clear()
    STORE["abfs://bucket/train-0.csv"] = b"c,y\na,0\nb,1\n"
    STORE["abfs://bucket/train-1.csv"] = b"c,y\nb,0\n"
    STORE["abfs://bucket/eval-0.csv"] = b"c,y\na,1\n"
    made = job(tmp_path)
    made.run()
    learned = json.loads((made.transform / "columns.json").read_text())["columns"]
    assert learned["c"]["vocabulary"] == ["b", "a"]
    assert made.metadata()["splits"]["train"]["rows"] == 3


def test_workers_elsewhere_hand_over_through_the_temporary_location():
    STORE.clear()
    STORE["abfs://bucket/a.csv"] = b"c\na\nb\n"
    STORE["abfs://bucket/b.csv"] = b"c\nb\n"
    found = dataset.find(["abfs://bucket/*.csv"])
    options = ["--runner=FnApiRunner", "--temp_location=abfs://bucket/tmp"]
    computed, _ = dataset.compute(found, options)
    values = computed.datasets[0].features[0].string_stats.top_values
    assert [(v.value, v.frequency) for v in values] == [("b", 2), ("a", 1)]
    assert [path for path in WRITTEN if path.startswith("abfs://bucket/tmp/analysis-")]
    assert len(STORE) == 2


def test_object_stores_are_refused_as_output_with_advice(tmp_path):
    from transforms import preprocess

    with pytest.raises(ConfigError, match=r"gs://bucket/out.*Mount"):
        preprocess.run(
            job(tmp_path).part(),
            base_dir=str(tmp_path),
            examples_dir="gs://bucket/out",
            transform_dir=str(tmp_path / "t"),
            statistics_dir=str(tmp_path / "s"),
        )
    assert not (tmp_path / "t").exists()
