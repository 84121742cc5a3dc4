"""Logs of requests as raw rows: every form that servers and KServe's logger write."""

import base64
import gzip
import json

import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from components.steps import request_log
from estimator_lib.core.errors import DataError
from tests.examples import example

FIELDS = {"carrier": "string", "dep time (h)": "float", "seats": "int", "codes": "string[]"}
ROW = {"carrier": "UA", "dep time (h)": 1.5, "seats": 3, "codes": ["a", "b"]}
REQUEST = {"signature_name": "serving_default", "instances": [ROW]}
COLUMNS = {name: [value] for name, value in ROW.items()}
EVENT = {"specversion": "1.0", "type": "org.kubeflow.serving.inference.request"}


def convert(tmp_path, files, kind="jsonl", fields=FIELDS):
    paths = []
    for name, content in files.items():
        path = tmp_path / name
        path.write_bytes(content)
        paths.append(path)
    told = request_log.convert(paths, kind, fields, tmp_path / "rows.parquet")
    return told, pq.read_table(tmp_path / "rows.parquet").to_pylist()


@pytest.mark.parametrize(
    "line",
    [
        REQUEST,
        {"inputs": COLUMNS},
        ROW,
        {**EVENT, "data": REQUEST},
        {**EVENT, "data": json.dumps(REQUEST)},
        {**EVENT, "data_base64": base64.b64encode(json.dumps(REQUEST).encode()).decode()},
        {"instances": [{**ROW, "carrier": {"b64": base64.b64encode(b"UA").decode()}}]},
    ],
)
def test_a_line_is_the_rows_of_its_request(tmp_path, line):
    told, rows = convert(tmp_path, {"log.jsonl": json.dumps(line).encode()})
    assert (rows, told.rows, told.left_out) == ([ROW], 1, 0)


def test_missing_values_are_missing(tmp_path):
    lines = [{"carrier": "", "dep time (h)": float("nan"), "seats": -(2**63), "codes": []}, {}]
    text = "\n".join(map(json.dumps, lines)).encode()
    _, rows = convert(tmp_path, {"log.jsonl.gz": gzip.compress(text)})
    empty = dict.fromkeys(FIELDS)
    assert rows == [{**empty, "codes": []}, empty]


def test_an_only_input_may_have_no_name(tmp_path):
    lines = [{"instances": [1.5, 2.5]}, {"inputs": [3.5]}]
    text = "\n".join(map(json.dumps, lines)).encode()
    _, rows = convert(tmp_path, {"log.jsonl": text}, fields={"x": "float"})
    assert [row["x"] for row in rows] == [1.5, 2.5, 3.5]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("no json", "no JSON"),
        ("[1]", "object"),
        ('{"instances": 1}', "list"),
        ('{"instances": [{"tail": "N1"}]}', "'tail'"),
        ('{"instances": [{"carrier": 1}]}', "carrier"),
        ('{"instances": [{"seats": 1.5}]}', "seats"),
        ('{"instances": [{"seats": true}]}', "seats"),
        ('{"instances": [{"dep time (h)": "1"}]}', "dep time"),
        ('{"inputs": {"carrier": ["UA"], "seats": [1, 2]}}', "lengths"),
        ('{"instances": [{"carrier": {"b64": "%"}}]}', "base64"),
    ],
)
def test_what_a_server_refuses_is_left_out_and_told(tmp_path, line, said):
    text = f"{json.dumps(ROW)}\n{line}\n".encode()
    told, rows = convert(tmp_path, {"log.jsonl": text})
    assert (rows, told.left_out) == ([ROW], 1)
    assert told.faults[0].startswith("log.jsonl:2: ")
    assert said in told.faults[0]


def test_answers_are_no_requests(tmp_path):
    answer = {"specversion": "1.0", "type": "org.kubeflow.serving.inference.response", "data": {}}
    lines = [ROW, {"predictions": [1]}, {"outputs": [1]}, answer]
    told, rows = convert(tmp_path, {"log.jsonl": "\n".join(map(json.dumps, lines)).encode()})
    assert (len(rows), told.others, told.left_out) == (1, 3, 0)


def test_a_log_without_rows_is_refused(tmp_path):
    with pytest.raises(DataError, match="no JSON"):
        convert(tmp_path, {"log.jsonl": b"nothing\n"})


def test_a_long_line_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(request_log, "LONGEST_BYTES", 100)
    text = b"{" + b" " * 1000 + b"}\n" + json.dumps({"carrier": "UA"}).encode()
    told, rows = convert(tmp_path, {"log.jsonl": text})
    assert (len(rows), told.left_out) == (1, 1)
    assert told.faults == ["log.jsonl:1: longer than 100 bytes"]


def test_many_rows_are_written_as_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(request_log, "ROWS", 4)
    text = "\n".join(json.dumps({"seats": n}) for n in range(10)).encode()
    told, rows = convert(tmp_path, {"a.jsonl": text, "b.jsonl": text})
    assert [row["seats"] for row in rows] == [*range(10), *range(10)]
    assert pq.ParquetFile(tmp_path / "rows.parquet").num_row_groups == 5
    assert told.rows == 20


def tfrecord(tmp_path, *logs):
    path = tmp_path / "log"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for log in logs:
            writer.write(log.SerializeToString())
    return path.read_bytes()


def test_prediction_logs_of_tf_serving_are_rows(tmp_path):
    by_tensor, by_example, classified, other = (prediction_log_pb2.PredictionLog() for _ in "abcd")
    inputs = by_tensor.predict_log.request.inputs
    for name, value in COLUMNS.items():
        inputs[name].CopyFrom(tf.make_tensor_proto(value))
    serialized = example(ROW)
    examples = tf.make_tensor_proto([serialized])
    by_example.predict_log.request.inputs["examples"].CopyFrom(examples)
    added = classified.classify_log.request.input.example_list.examples.add()
    added.ParseFromString(serialized)
    other.session_run_log.SetInParent()
    content = tfrecord(tmp_path, by_tensor, by_example, classified, other)
    told, rows = convert(tmp_path, {"log.tfrecord": content}, kind="tfrecord")
    assert told.faults == []
    assert rows == [ROW] * 3
    assert (told.others, told.left_out) == (1, 0)


def test_a_damaged_log_is_refused(tmp_path):
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.inputs["carrier"].CopyFrom(tf.make_tensor_proto(["UA"]))
    content = tfrecord(tmp_path, log)
    with pytest.raises(DataError, match="damaged"):
        convert(tmp_path, {"log.tfrecord": content[:-3]}, kind="tfrecord")


def test_a_damaged_compressed_log_is_refused(tmp_path):
    content = gzip.compress(json.dumps(ROW).encode())
    with pytest.raises(DataError, match="damaged"):
        convert(tmp_path, {"log.jsonl.gz": content[:-6]})
