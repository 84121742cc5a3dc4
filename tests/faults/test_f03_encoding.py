"""Fault 3: invalid UTF-8, UTF-16, NUL bytes are refused with file, line and byte.

Fails when `csv_reader._encoding_problem` replaces bytes instead of naming the first bad one.
"""

import pytest

from estimator_lib.core.errors import DataError, Reason
from transforms.testing import Job


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"x,c,y\n1,a,0\n2,\xe9t\xe9,1\n", "byte 3 of the line at data/train-0.csv:3"),
        (b"x,c,y\n1,a,0\n2,b\0,1\n", "byte 4 of the line at data/train-0.csv:3"),
        ("x,c,y\n1,a,0\n".encode("utf-16"), "data/train-0.csv:1"),
        ("x,c,y\n1,a,0\n".encode("utf-16-be"), "data/train-0.csv:1"),
        (b"x,c\xff,y\n1,a,0\n", "data/train-0.csv:1"),
    ],
)
def test_text_that_is_not_utf8_is_refused_with_its_place(tmp_path, content, place):
    job = Job(
        root=tmp_path,
        files={"train": [content], "eval": ["x,c,y\n1,a,0\n"]},
        columns={"x": {"kind": "numeric"}, "c": {"kind": "vocabulary"}},
        label={"field": "y"},
    )
    with pytest.raises(DataError) as caught:
        job.run()
    assert caught.value.reason == Reason.ENCODING
    assert place in caught.value.message


def test_valid_utf8_goes_through_unchanged(tmp_path):
    job = Job(
        root=tmp_path,
        files={"train": ["c,y\nété,0\nÉTÉ,1\ne\u0301te\u0301,1\n日本,0\n"], "eval": ["c,y\na,0\n"]},
        columns={"c": {"kind": "vocabulary"}},
        label={"field": "y"},
        keep=["c"],
    )
    job.run()
    assert job.table()["raw.c"].to_pylist() == ["été", "ÉTÉ", "e\u0301te\u0301", "日本"]
    assert sorted(job.table()["c"].to_pylist()) == [0, 1, 2, 3]
