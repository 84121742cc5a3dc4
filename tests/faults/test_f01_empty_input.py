"""Fault 1: a pattern matches no file, or only empty or header-only files.

Fails when `files.expand` takes no match for an empty list, or `preprocess._require_rows` lets a
split without rows pass.
"""

import pytest

from estimator_lib.core.errors import DataError, EstimatorLibError, Reason
from transforms.testing import Job

COLUMNS = {"x": {"kind": "numeric"}}
GOOD = "x,y\n1,0\n"


def refused(tmp_path, **changes):
    files = {"train": [GOOD], "eval": [GOOD]}
    given = {"root": tmp_path, "files": files, "columns": COLUMNS, "label": {"field": "y"}}
    job = Job(**{**given, **changes})
    with pytest.raises(EstimatorLibError) as caught:
        job.run()
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
    assert isinstance(caught.value, DataError)
    return caught.value


def test_pattern_without_files_is_refused_and_named(tmp_path):
    data = {"split": {"files": {"train": ["data/train-*"], "eval": ["nowhere/*.csv"]}}}
    error = refused(tmp_path, data=data)
    assert error.reason == Reason.FILE_NOT_FOUND
    assert "nowhere/*.csv" in error.message
    assert str(tmp_path) in error.message
    assert error.exit_code == 2


def test_empty_file_is_refused_and_named(tmp_path):
    error = refused(tmp_path, files={"train": [GOOD, ""], "eval": [GOOD]})
    assert error.reason == Reason.EMPTY_INPUT
    assert "train-1.csv" in error.message


def test_split_of_header_only_files_is_refused_and_named(tmp_path):
    error = refused(tmp_path, files={"train": [GOOD], "eval": ["x,y\n", "x,y\n"]})
    assert error.reason == Reason.EMPTY_INPUT
    assert "'eval'" in error.message


def test_split_whose_rows_all_lack_their_label_is_refused(tmp_path):
    files = {"train": ["x,y\n1,\n2,\n"], "eval": [GOOD]}
    error = refused(tmp_path, files=files, label={"field": "y", "classes": 2, "missing": "skip"})
    assert error.reason == Reason.EMPTY_INPUT
    assert "train" in error.message


def test_header_only_file_beside_others_is_fine(tmp_path):
    files = {"train": [GOOD, "x,y\n"], "eval": [GOOD]}
    job = Job(root=tmp_path, files=files, columns=COLUMNS, label={"field": "y"})
    assert job.run().splits["train"].kept == 1
