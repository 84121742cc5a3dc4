"""Fault 7: truncated or bit-flipped TFRecords are refused with shard and offset.

Fails when `tfrecord_reader._records` does not compare checksums and lengths, or ends at a torn
record as at the last one.
"""

import gzip
import struct

import pytest
import tensorflow as tf

from estimator_lib.core.errors import DataError, Reason
from transforms.testing import Job


def content(tmp_path, rows=6):
    path = str(tmp_path / "made")
    with tf.io.TFRecordWriter(path) as sink:
        for i in range(rows):
            features = {
                "c": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"t%d" % (i % 3)])),
                "y": tf.train.Feature(int64_list=tf.train.Int64List(value=[i % 2])),
            }
            example = tf.train.Example(features=tf.train.Features(feature=features))
            sink.write(example.SerializeToString())
    with open(path, "rb") as stream:
        return stream.read()


def job(root, train, evaluated):
    return Job(
        root=root,
        files={"train": [evaluated, train], "eval": [evaluated]},
        columns={"c": {"kind": "vocabulary"}},
        label={"field": "y"},
        data={"format": "tfrecord"},
        suffix=".tfrecord",
    )


def record_size(data):
    return struct.unpack_from("<Q", data)[0] + 16


def refused(root, train, evaluated):
    with pytest.raises(DataError) as caught:
        job(root, train, evaluated).run()
    assert caught.value.reason == Reason.CORRUPT_FILE
    assert "train-1.tfrecord" in caught.value.message
    assert not (root / "out").exists() or not list((root / "out").iterdir())
    return caught.value.message


def test_whole_files_are_read(tmp_path):
    data = content(tmp_path)
    made = job(tmp_path, gzip.compress(data), data)
    assert made.run().splits["train"].kept == 12


@pytest.mark.parametrize("cut", [-1, -4, -20])
def test_truncated_file_is_refused_with_its_offset(tmp_path, cut):
    data = content(tmp_path)
    message = refused(tmp_path, data[:cut], data)
    assert f"record 6, byte {5 * record_size(data)}" in message


@pytest.mark.parametrize("at", [0, 5, 9, 14, 30, -2])
def test_flipped_bit_is_refused_with_its_offset(tmp_path, at):
    data = content(tmp_path)
    size = record_size(data)
    flipped = bytearray(data)
    flipped[3 * size + at if at >= 0 else 4 * size + at] ^= 0x10
    message = refused(tmp_path, bytes(flipped), data)
    assert f"record 4, byte {3 * size}" in message


@pytest.mark.parametrize("cut", [12, 60, -9, -1])
def test_truncated_gzip_is_refused_even_between_records(tmp_path, cut):
    data = content(tmp_path)
    assert "gzip" in refused(tmp_path, gzip.compress(data)[:cut], data)


def test_file_without_records_is_refused(tmp_path):
    data = content(tmp_path)
    with pytest.raises(DataError) as caught:
        job(tmp_path, b"", data).run()
    assert caught.value.reason == Reason.EMPTY_INPUT
