"""Fault 5: only declared tokens are missing; overflow and non-finite numbers are refused.

Fails when a reader has missing tokens of its own, or makes NaN, infinity or another integer of
what it cannot hold.
"""

import pytest

from estimator_lib.core.errors import DataError, Reason
from transforms.testing import Job


def job(tmp_path, value, **data):
    return Job(
        root=tmp_path,
        files={"train": [f'c,x,y\nNA,1,0\nb,"{value}",1\n'], "eval": ["c,x,y\na,1,0\n"]},
        columns={"x": {"kind": "numeric", "default": 0.0}, "c": {"kind": "vocabulary"}},
        label={"field": "y"},
        keep=["c"],
        data=data and {"split": _split(), **data},
    )


def _split():
    return {"files": {"train": ["data/train-*"], "eval": ["data/eval-*"]}}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("NA", Reason.VALUE_UNPARSABLE),
        ("null", Reason.VALUE_UNPARSABLE),
        ("1,5", Reason.VALUE_UNPARSABLE),
        ("0x10", Reason.VALUE_UNPARSABLE),
        ("inf", Reason.NOT_FINITE),
        ("NaN", Reason.NOT_FINITE),
        ("1e400", Reason.NOT_FINITE),
        ("1e39", Reason.NOT_FINITE),
    ],
)
def test_value_that_is_no_number_is_refused(tmp_path, value, reason):
    with pytest.raises(DataError) as caught:
        job(tmp_path, value).run()
    assert caught.value.reason == reason
    assert "'x'" in caught.value.message
    assert "data/train-0.csv:3" in caught.value.message


def test_declared_tokens_are_missing_and_others_are_text(tmp_path):
    made = job(tmp_path, "-", missing=["", "-"])
    made.run()
    assert made.table()["x"].to_pylist() == [1.0, 0.0]
    assert made.table()["raw.c"].to_pylist() == ["NA", "b"]


def test_integer_beyond_int64_is_refused(tmp_path):
    made = job(tmp_path, "9223372036854775808")
    made.columns = {"x": {"kind": "identity", "buckets": 3, "default": 0}}
    with pytest.raises(DataError) as caught:
        made.run()
    assert caught.value.reason == Reason.VALUE_UNPARSABLE
