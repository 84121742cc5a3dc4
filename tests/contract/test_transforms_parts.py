"""Large files are read in parts that workers share, and the result is that of a whole file."""

import gzip

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from estimator_lib.core import manifest
from estimator_lib.core.errors import DataError
from transforms import preprocess
from transforms.learning import first_pass
from transforms.reading import readers
from transforms.testing import Job

HEADER = "c,x,y\n"
ROWS = [f't{i % 7},{i / 3},{i % 2}\n"a\nb",{i},0\n' for i in range(40)]


@pytest.fixture
def read(monkeypatch):
    """The parts that were analysed."""
    monkeypatch.setattr(readers, "PART_BYTES", 300)
    keys = []
    real = first_pass.analyse_file
    monkeypatch.setattr(first_pass, "analyse_file", lambda f, s: keys.append(f.key) or real(f, s))
    return keys


def job(root, kind, rows):
    content = (HEADER + "".join(rows)).encode()
    if kind == "parquet":
        options = pyarrow.csv.ParseOptions(newlines_in_values=True)
        table = pyarrow.csv.read_csv(pa.BufferReader(content), parse_options=options)
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, row_group_size=11)
        content = sink.getvalue().to_pybytes()
    elif kind == "gzip":
        content = gzip.compress(content)
    return Job(
        root=root,
        files={"train": [content], "eval": [content]},
        columns={"c": {"kind": "vocabulary"}, "x": {"kind": "numeric", "normalize": "moments"}},
        label={"field": "y"},
        data={"format": "parquet"} if kind == "parquet" else {},
    )


def run(made, out="out"):
    preprocess.run(
        made.part(),
        base_dir=str(made.root),
        examples_dir=str(made.root / out / "examples"),
        transform_dir=str(made.root / out / "transform"),
        statistics_dir=str(made.root / out / "statistics"),
        analysis_cache=str(made.root / "kept"),
    )
    return made


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_parts_give_what_the_whole_gives(tmp_path, read, monkeypatch, kind):
    parts = run(job(tmp_path / "parts", kind, ROWS))
    assert len([key for key in read if key.startswith("data/train-0")]) > 3
    monkeypatch.setattr(readers, "PART_BYTES", 1 << 30)
    whole = run(job(tmp_path / "whole", kind, ROWS))
    for split in ("train", "eval"):
        assert parts.table(split).equals(whole.table(split))
        name = f"{split}.pb"
        assert (parts.statistics / name).read_bytes() == (whole.statistics / name).read_bytes()
    columns = [(made.transform / "columns.json").read_bytes() for made in (parts, whole)]
    assert columns[0] == columns[1]
    assert len(manifest.verify(parts.examples, deep=True).metadata["splits"]["train"]["files"]) > 3


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_of_a_file_that_grew_only_what_is_new_is_analysed(tmp_path, read, kind):
    run(job(tmp_path, kind, ROWS[:33]))
    before = [key for key in read if "train" in key]
    read.clear()
    grown = run(job(tmp_path, kind, ROWS), "grown")
    after = [key for key in read if "train" in key]
    assert 0 < len(after) <= len(before) // 2
    metadata = manifest.read(grown.root / "grown" / "examples").metadata
    assert metadata["splits"]["train"]["rows"] == 80


def test_faults_have_the_lines_of_the_file(tmp_path, read):
    with pytest.raises(DataError, match=r"'fast' at data/train-0\.csv:113"):
        job(tmp_path, "csv", [*ROWS[:37], "t1,fast,0\n", *ROWS]).run()


def test_compressed_files_are_one_part(tmp_path, read):
    run(job(tmp_path, "gzip", ROWS))
    assert read == ["data/eval-0.csv", "data/train-0.csv"]
