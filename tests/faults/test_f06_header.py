"""Fault 6: header missing, duplicated, renamed, reordered, extra or different between shards.

Fails when headers are not compared by name and for each file, or when the reader takes fields by
their position.
"""

import pytest

from estimator_lib.core.errors import Reason, SchemaError
from transforms.testing import Job

GOOD = "x,c,y\n1,a,0\n2,b,1\n"


def job(tmp_path, second):
    return Job(
        root=tmp_path,
        files={"train": [GOOD, second], "eval": [GOOD]},
        columns={"x": {"kind": "numeric"}, "c": {"kind": "vocabulary"}},
        label={"field": "y"},
    )


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        ("1,a,0\n2,b,1\n", Reason.FIELD_MISSING),
        ("x,c,c,y\n1,a,a,0\n", Reason.DUPLICATE),
        ("x,category,y\n1,a,0\n", Reason.FIELD_MISSING),
        ("x,y\n1,0\n", Reason.FIELD_MISSING),
    ],
)
def test_wrong_header_is_refused_with_file_and_field(tmp_path, second, reason):
    with pytest.raises(SchemaError) as caught:
        job(tmp_path, second).run()
    assert caught.value.reason == reason
    assert "data/train-1.csv" in caught.value.message


def test_all_lacking_fields_are_listed_at_once(tmp_path):
    with pytest.raises(SchemaError) as caught:
        job(tmp_path, "z,y\n1,0\n").run()
    assert "'x'" in caught.value.message
    assert "'c'" in caught.value.message


def test_order_does_not_matter_and_extra_fields_are_reported_once(tmp_path, caplog):
    made = job(tmp_path, "extra,y,c,x\nq,1,a,3\nq,0,b,4\n")
    made.run()
    assert made.table()["x"].to_pylist() == [1, 2, 3, 4]
    assert sum("extra" in record.getMessage() for record in caplog.records) == 1
