"""Fault 11: constant, all missing, single row, near the limits of float32.

Fails when a variance of nothing divides, when moments are added up in float32, or when a column
without values is given a mean.
"""

import json

import numpy as np
import pytest

from estimator_lib.core.errors import DataError, Reason
from transforms.testing import Job

SCALED = {"x": {"kind": "numeric", "normalize": "moments", "default": "mean"}}


def job(tmp_path, values, columns=SCALED):
    lines = "".join(f"{v},0,\n" for v in values)
    return Job(
        root=tmp_path,
        files={"train": ["x,y,z\n" + lines], "eval": ["x,y,z\n1,0,\n"]},
        columns=columns,
        label={"field": "y"},
    )


@pytest.mark.parametrize("values", [["5", "5", "5"], ["0.1"] * 10, ["7"], ["7", "", ""]])
def test_constant_or_single_value_scales_to_zero(tmp_path, values):
    made = job(tmp_path, values)
    made.run()
    assert set(made.table()["x"].to_pylist()) == {0.0}


def test_values_near_the_limit_have_finite_moments(tmp_path):
    made = job(tmp_path, ["8e37", "-8e37", "8e37", "-8e37"])
    made.run()
    np.testing.assert_allclose(made.table()["x"].to_numpy(), [1, -1, 1, -1], rtol=1e-6)
    content = json.loads((made.transform / "columns.json").read_text())
    assert content["columns"]["x"]["normalizer"] == {
        "learned": "ZScore",
        "mean": 0.0,
        "stddev": 8e37,
    }


@pytest.mark.parametrize(
    "columns",
    [
        SCALED,
        {"x": {"kind": "vocabulary"}},
        {"x": {"kind": "bucketized", "quantiles": 4}},
    ],
)
def test_column_without_any_value_is_refused(tmp_path, columns):
    with pytest.raises(DataError) as caught:
        job(tmp_path, ["", ""], columns).run()
    assert caught.value.reason == Reason.MISSING_VALUE
    assert "'x'" in caught.value.message


def test_constant_column_has_one_boundary(tmp_path):
    made = job(tmp_path, ["5", "5"], {"x": {"kind": "bucketized", "quantiles": 4}})
    made.run()
    assert made.table()["x_bucketized"].to_pylist() == [1, 1]
