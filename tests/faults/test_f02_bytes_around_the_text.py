"""Fault 2: byte order mark, CRLF, no final newline, gzip; a truncated gzip.

Fails when `csv_reader._without_mark` leaves the mark in the first name, or when `_decompressed`
takes the end of a file for the end of its rows.
"""

import gzip

import pytest

from estimator_lib.core.errors import DataError, Reason
from transforms.testing import Job

PLAIN = b"x,c,y\n1,a,0\n2,b,1\n3,a,0\n"
COLUMNS = {"x": {"kind": "numeric", "normalize": "moments"}, "c": {"kind": "vocabulary"}}


def job(root, content, suffix=".csv"):
    files = {"train": [content], "eval": [PLAIN]}
    return Job(root=root, files=files, columns=COLUMNS, label={"field": "y"}, suffix=suffix)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    made = job(tmp_path_factory.mktemp("clean"), PLAIN)
    made.run()
    return made.table()


@pytest.mark.parametrize(
    ("content", "suffix"),
    [
        (b"\xef\xbb\xbf" + PLAIN, ".csv"),
        (PLAIN.replace(b"\n", b"\r\n"), ".csv"),
        (PLAIN.rstrip(), ".csv"),
        (gzip.compress(PLAIN, mtime=0), ".csv.gz"),
        (gzip.compress(PLAIN, mtime=0), ".csv"),
    ],
)
def test_rows_are_those_of_the_clean_twin(tmp_path, clean, content, suffix):
    made = job(tmp_path, content, suffix)
    made.run()
    assert made.table().equals(clean)


@pytest.mark.parametrize("cut", [5, 20, -1, -9])
def test_truncated_gzip_is_refused_and_named(tmp_path, cut):
    with pytest.raises(DataError) as caught:
        job(tmp_path, gzip.compress(PLAIN, mtime=0)[:cut], ".csv.gz").run()
    assert caught.value.reason == Reason.CORRUPT_FILE
    assert "train-0.csv.gz" in caught.value.message
    assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True
