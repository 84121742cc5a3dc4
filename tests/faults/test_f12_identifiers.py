"""Fault 12: identifier-like columns are reported, then refused unless bounded.

Fails when `resolution._vocabulary_problems` has no limit, or when the eval split adds to a
vocabulary.
"""

import json

import pytest

from estimator_lib.core.errors import DataError, Reason
from transforms.learning import resolution
from transforms.testing import Job


def job(tmp_path, column):
    lines = "".join(f"id{i},0\n" for i in range(300))
    return Job(
        root=tmp_path,
        files={"train": ["c,y\n" + lines], "eval": ["c,y\nonly-in-eval,0\n"]},
        columns={"c": {"kind": "vocabulary", **column}},
        label={"field": "y"},
    )


def test_too_many_values_are_refused_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr(resolution, "MAX_DISTINCT", 200)
    with pytest.raises(DataError) as caught:
        job(tmp_path, {}).run()
    assert caught.value.reason == Reason.TOO_MANY_VALUES
    assert "top_k" in caught.value.message
    assert "300" in caught.value.message


def test_many_values_are_reported(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(resolution, "WARN_DISTINCT", 200)
    job(tmp_path, {}).run()
    assert any("identifier" in record.getMessage() for record in caplog.records)


def test_bounded_vocabulary_of_the_train_split_only(tmp_path, monkeypatch):
    monkeypatch.setattr(resolution, "MAX_DISTINCT", 200)
    made = job(tmp_path, {"top_k": 10})
    made.run()
    content = json.loads((made.transform / "columns.json").read_text())
    vocabulary = content["columns"]["c"]["vocabulary"]
    assert vocabulary == sorted(f"id{i}" for i in range(300))[:10]
