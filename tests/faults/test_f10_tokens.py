"""Fault 10: tokens with any content go through the vocabulary unchanged.

Fails when a token is written as a line, or is stripped or normalized on the way.
"""

import json

import tensorflow as tf

from transforms.testing import Job

TOKENS = ["a\nb", "a\r\nb", "\r", "\t", " lead", "trail ", ",", '"', "é", "e\u0301", "\u2028"]
TOKENS += ["x" * 1_000_000]


def quoted(token):
    return '"' + token.replace('"', '""') + '"'


def test_odd_tokens_round_trip(tmp_path):
    lines = [f"{quoted(t)},0\n" for i, t in enumerate(TOKENS) for _ in range(len(TOKENS) - i)]
    job = Job(
        root=tmp_path,
        files={"train": ["c,y\n" + "".join(lines)], "eval": ["c,y\nunseen,0\n"]},
        columns={"c": {"kind": "vocabulary"}},
        label={"field": "y"},
        keep=["c"],
    )
    job.run()
    content = json.loads((job.transform / "columns.json").read_text())
    assert content["columns"]["c"]["vocabulary"] == TOKENS
    rows = job.table().to_pydict()
    assert [TOKENS[i] for i in rows["c"]] == rows["raw.c"]
    asset = job.transform / "transform_fn" / "assets" / "c.tfrecord.gz"
    stored = tf.data.TFRecordDataset(str(asset), compression_type="GZIP").as_numpy_iterator()
    assert [token.decode() for token in stored] == TOKENS
    loaded = tf.saved_model.load(str(job.transform / "transform_fn"))
    ids = loaded.transform_fn({"c": tf.constant([*TOKENS, "", "new"])})["c"].numpy().tolist()
    assert ids == [*range(len(TOKENS)), -1, len(TOKENS)]
