"""Records at fault: listed and left out by policy, up to a cap; and texts in other encodings."""

import csv
import struct

import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from estimator_lib.core import config, manifest
from estimator_lib.core.errors import ConfigError, DataError, Reason
from transforms import dataset
from transforms.testing import Job

COLUMNS = {"c": {"kind": "vocabulary"}, "x": {"kind": "numeric"}}
POLICY = {"on_bad_rows": "quarantine", "max_bad_fraction": 0.5}


def job(root, contents, **changes):
    given = {
        "files": {"train": contents, "eval": ["c,x,y\na,1,0\n"]},
        "columns": COLUMNS,
        "label": {"field": "y"},
        "data": POLICY,
    }
    return Job(root=root, **{**given, **changes})


def listed(made):
    with (made.statistics / "quarantine.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


BAD = (
    b"c,x,y\n"
    b"a,1,0\n"
    b"b,fast,1\n"  # 3: no number
    b"b,2,1\n"
    b"a,3\n"  # 5: too short
    b'"two\nlines",4,0\n'
    b"\xff,5,1\n"  # 8: no text
    b"z,bad,7\n"  # 9: two faults
    b"a,6,\n"  # 10: no label
    b"a\0,7,1\n"  # 11: NUL
    b"\xc3\xa9,8,1\n"
)


def test_bad_rows_are_left_out_and_listed(tmp_path):
    made = job(tmp_path, [BAD, "c,x,y\nq,1,1\n"], data=POLICY | {"max_bad_fraction": 0.6})
    summary = made.run()
    rows = made.table().to_pydict()
    assert rows["x"] == [1, 2, 4, 8, 1]
    assert summary.splits["train"].read == 5
    found = listed(made)
    assert [(row["file"], row["line"], row["reason"]) for row in found] == [
        ("data/train-0.csv", "3", "value_unparsable"),
        ("data/train-0.csv", "5", "record_malformed"),
        ("data/train-0.csv", "8", "encoding"),
        ("data/train-0.csv", "9", "value_unparsable"),
        ("data/train-0.csv", "10", "missing_value"),
        ("data/train-0.csv", "11", "encoding"),
    ]
    assert "'fast'" in found[0]["problem"]
    assert found[3]["fields"] == "x y"
    assert manifest.verify(made.statistics, deep=True).metadata["quarantined"] == 6


def test_more_than_the_cap_ends_the_step_and_leaves_nothing(tmp_path):
    with pytest.raises(DataError) as caught:
        job(tmp_path, [BAD], data=POLICY | {"max_bad_fraction": 0.2}).run()
    assert "expected at most 2 of 11 (data" in caught.value.message
    assert "got 6" in caught.value.message
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").rglob("manifest.json"))


def test_without_the_policy_nothing_changes(tmp_path):
    with pytest.raises(DataError, match=r"train-0\.csv"):
        job(tmp_path, [BAD], data={}).run()


def test_an_unclosed_quote_is_never_left_out(tmp_path):
    with pytest.raises(DataError, match="unclosed quote"):
        job(tmp_path, ['c,x,y\na,1,0\n"b,2,0\na,1,0\n']).run()


def test_a_clean_run_has_no_list(tmp_path):
    made = job(tmp_path, ["c,x,y\na,1,0\n"])
    made.run()
    assert not (made.statistics / "quarantine.csv").exists()


def feature(value):
    if isinstance(value, bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    if isinstance(value, float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
    values = value if isinstance(value, list) else [value]
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def example(**values):
    features = tf.train.Features(feature={n: feature(v) for n, v in values.items()})
    return tf.train.Example(features=features).SerializeToString()


def records(tmp_path, *examples):
    path = tmp_path / "made"
    with tf.io.TFRecordWriter(str(path)) as sink:
        for one in examples:
            sink.write(one)
    return path.read_bytes()


def test_damaged_records_are_skipped_where_the_next_can_be_found(tmp_path):
    good = example(c=b"a", x=1.5, y=0)
    data = bytearray(
        records(
            tmp_path,
            example(c=b"b", x=2.5, y=1),
            good,  # gets a wrong byte
            b"no example at all",
            example(c=b"a", x=b"text", y=1),
            example(c=b"a", x=4.0, y=[1, 1]),
            example(c=b"c", x=3.5, y=1),
        )
    )
    (length,) = struct.unpack_from("<Q", data)
    second = length + 16
    data[second + 14] ^= 0xFF
    made = job(
        tmp_path,
        [bytes(data)],
        files={"train": [bytes(data)], "eval": [records(tmp_path, good)]},
        data=POLICY | {"format": "tfrecord", "max_bad_fraction": 0.9},
        suffix=".tfrecord",
    )
    made.run()
    assert made.table().to_pydict()["x"] == [2.5, 3.5]
    assert [(row["line"], row["reason"]) for row in listed(made)] == [
        ("2", "corrupt_file"),
        ("3", "record_malformed"),
        ("4", "type_mismatch"),
        ("5", "record_malformed"),
    ]
    data[second] ^= 0xFF  # now nobody knows where the next record begins
    (tmp_path / "b").mkdir()
    broken = job(
        tmp_path / "b",
        [],
        files={"train": [bytes(data)], "eval": [records(tmp_path, good)]},
        data=POLICY | {"format": "tfrecord"},
        suffix=".tfrecord",
    )
    with pytest.raises(DataError) as caught:
        broken.run()
    assert caught.value.reason == Reason.CORRUPT_FILE


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "UTF-16-LE", "cp1252"])
def test_texts_are_read_in_the_declared_encoding(tmp_path, encoding):
    text = "c,x,y\n" + 'é,1,0\n"ü, ""ß",2,1\n' * 50
    content = text.encode(encoding)
    made = job(
        tmp_path,
        [],
        files={"train": [content], "eval": [content]},
        data={"encoding": encoding},
        keep=["c"],
    )
    made.run()
    assert made.table().to_pydict()["raw.c"][:2] == ["é", 'ü, "ß']
    assert pq.read_table(made.examples / "raw_sample.parquet")["c"][1].as_py() == 'ü, "ß'


def test_bytes_of_another_encoding_are_refused(tmp_path):
    contents = {"train": ["c,x,y\né,1,0\n".encode("latin-1") + b"\x81"], "eval": ["c,x,y\na,1,0\n"]}
    with pytest.raises(DataError) as caught:
        job(tmp_path, [], files=contents, data={"encoding": "utf-16"}).run()
    assert caught.value.reason == Reason.ENCODING
    assert "data.encoding" in caught.value.message


@pytest.mark.parametrize("name", ["latin1x", "base64", "rot13"])
def test_names_that_are_no_text_encoding_are_refused(name):
    files = {"files": {"train": ["a"], "eval": ["b"]}}
    with pytest.raises((ConfigError, ValueError), match="no text encoding"):
        config.Data.model_validate({"split": files, "encoding": name})


def test_any_files_are_read_in_an_encoding(tmp_path):
    (tmp_path / "a.csv").write_bytes("é\nü\n".encode("latin-1"))
    found = dataset.find(["a.csv"], base_dir=str(tmp_path), encoding="latin-1")
    assert found.layout.names == ["é"]
    computed, _ = dataset.compute(found)
    assert computed.datasets[0].features[0].string_stats.top_values[0].value == "ü"
