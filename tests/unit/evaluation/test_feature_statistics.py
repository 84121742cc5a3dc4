"""Feature statistics as plain dicts, and how far two splits are apart."""

import importlib.util
import json
import pathlib

import numpy as np
import pytest

from estimator_lib.core.errors import DataError, Reason
from estimator_lib.evaluation import feature_statistics as fs

_PLACE = pathlib.Path(__file__).parents[1] / "report" / "sample.py"
_SPEC = importlib.util.spec_from_file_location("evaluation_sample", _PLACE)
assert _SPEC is not None
assert _SPEC.loader is not None
sample = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(sample)


def read_one(values):
    (feature,) = fs.read(sample.statistics({"f": values}))
    return feature


def test_a_number_is_read_whole():
    values = np.array([0.0, 1.0, 2.0, 3.0, np.nan])
    found = read_one(values)
    assert found["type"] == "number"
    assert (found["rows"], found["missing"], found["missing_fraction"]) == (5, 1, 0.2)
    assert (found["min"], found["max"], found["mean"], found["median"]) == (0, 3, 1.5, 1.5)
    assert found["zeros"] == 1
    assert sum(count for _, _, count in found["histogram"]) == 4
    assert found["quantiles"][0] == 0
    assert found["quantiles"][-1] == 3
    json.dumps(found, allow_nan=False)


def test_a_text_is_read_with_its_most_frequent_values():
    found = read_one(["b", "a", "a", "", "a"])
    assert found["type"] == "text"
    assert found["top"] == [("a", 3.0), ("b", 1.0)]
    assert found["distinct"] == 2
    assert found["missing"] == 1
    json.dumps(found, allow_nan=False)


def test_a_file_is_read_and_a_bad_one_refused(tmp_path):
    path = tmp_path / "train.pb"
    path.write_bytes(sample.statistics({"f": ["a"]}))
    assert [f["name"] for f in fs.read(path)] == ["f"]
    with pytest.raises(DataError) as caught:
        fs.read(tmp_path / "eval.pb")
    assert caught.value.reason == Reason.FILE_NOT_FOUND
    path.write_bytes(b"\xff\xff\xff")
    with pytest.raises(DataError) as caught:
        fs.read(path)
    assert caught.value.reason == Reason.CORRUPT_FILE


def shift(one, other):
    return fs.shift(read_one(one), read_one(other))


def test_shift_is_near_zero_for_alike_and_one_for_apart():
    rng = np.random.default_rng(0)
    assert shift(rng.normal(size=4000), rng.normal(size=2000)) < 0.06
    assert shift(rng.random(500), 5 + rng.random(500)) > 0.95
    assert shift(["a", "b"] * 50, ["b", "a"] * 20) == 0.0
    assert shift(["a"] * 9, ["b"] * 9) == 1.0
    assert shift(["a", "a", "b", "b"], ["a", "b", "b", "b"]) == pytest.approx(0.25)


def test_missing_values_count_as_shift():
    assert shift(["a"] * 10, ["a"] * 5 + [""] * 5) == pytest.approx(0.5)


def test_spikes_and_different_tails_are_no_shift():
    rng = np.random.default_rng(1)
    values = np.where(rng.random(6000) < 0.93, 0.0, rng.exponential(1.0, 6000))
    longer = values[:3000].copy()
    longer[0] = 50.0
    assert shift(values, longer) < 0.1  # ten buckets see no finer


def test_shift_is_unknown_without_distributions():
    assert shift(["a"], [""]) is None
    assert shift(["a"], np.array([1.0])) is None


def test_rebin_keeps_all_rows():
    edges = np.linspace(0, 1, 5)
    found = fs.rebin([(-1.0, 0.5, 8.0), (0.5, 0.5, 3.0), (0.9, 4.0, 2.0)], edges)
    assert found.sum() == pytest.approx(13)
    assert found[2] >= 3


def test_compare_keeps_features_of_one_split_only():
    train = fs.read(sample.statistics({"a": ["x"], "b": ["y"]}))
    held_out = fs.read(sample.statistics({"b": ["y"], "c": ["z"]}))
    found = {f["name"]: f for f in fs.compare({"train": train, "eval": held_out})}
    assert sorted(found) == ["a", "b", "c"]
    assert found["b"]["shift"] == 0.0
    assert found["a"]["shift"] is None
    assert list(found["c"]["splits"]) == ["eval"]
