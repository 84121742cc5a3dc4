"""Fault 14: a rerun with fewer shards never mixes with what is there.

Fails when an attempt writes into a directory that holds an artifact, or a reader takes files that
no manifest lists.
"""

import pytest

from estimator_lib.core import manifest
from estimator_lib.core.errors import EstimatorLibError, Reason
from transforms.testing import Job

SHARD = "x,y\n1,0\n2,1\n"


def job(root, shards):
    return Job(
        root=root,
        files={"train": [SHARD] * shards, "eval": [SHARD]},
        columns={"x": {"kind": "numeric"}},
        label={"field": "y"},
    )


def test_fewer_shards_into_a_finished_directory_are_refused(tmp_path):
    job(tmp_path, 3).run()
    before = manifest.verify(job(tmp_path, 3).examples, deep=True).digest
    for path in (tmp_path / "data").glob("train-[12]*"):
        path.unlink()
    with pytest.raises(EstimatorLibError) as caught:
        job(tmp_path, 1).run()
    assert caught.value.reason in (Reason.ALREADY_EXISTS, Reason.IO)
    assert manifest.verify(job(tmp_path, 1).examples, deep=True).digest == before


def test_leftovers_of_an_unfinished_attempt_are_replaced(tmp_path):
    made = job(tmp_path, 1)
    made.examples.mkdir(parents=True)
    (made.examples / "train-00007-of-00009.parquet").write_bytes(b"left over")
    made.run()
    assert made.table().num_rows == 2
    assert not (made.examples / "train-00007-of-00009.parquet").exists()
