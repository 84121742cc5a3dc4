"""Dates as columns: one number in training, in batch and served, whatever the reader."""

import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from estimator_lib.core.errors import ConfigError, DataError
from transforms.testing import Job

COLUMNS = {
    "month": {"kind": "date_part", "field": "joined", "part": "month"},
    "round": {"kind": "cyclic", "field": "joined", "part": "weekday"},
    "age": {
        "kind": "age", "field": "joined", "until": datetime.date(2026, 1, 31), "unit": "weeks",
        "normalize": "moments", "default": "mean",
    },
    "wait": {"kind": "age", "field": "joined", "until_field": "left", "unit": "hours"},
    "gone": {"kind": "missing_indicator", "field": "joined"},
}  # fmt: skip
ROWS = [
    (datetime.datetime.fromisoformat(joined), datetime.datetime.fromisoformat(left))
    for joined, left in [
        ("2024-02-29 12:30", "2024-03-01"),
        ("0001-01-01", "9999-12-31 23:59:59"),
        ("2025-12-31 23:59:59.250", "1969-07-20 20:17"),
        ("2026-01-04", "2026-01-04"),
    ]
]
HEADER = "joined,left,y\n"


def texts(written=str):
    return [(written(joined), written(left)) for joined, left in ROWS]


def csv(rows):
    return HEADER + "".join(f"{a},{b},{i % 2}\n" for i, (a, b) in enumerate(rows))


def job(root, rows=None, **changes):
    rows = texts() if rows is None else rows
    files = {"train": [csv(rows)], "eval": [csv(rows)]}
    return Job(
        root=root, **{"files": files, "columns": COLUMNS, "label": {"field": "y"}, **changes}
    )


def parquet():
    """The same rows as timestamps of Parquet."""
    columns = [pa.array([row[i] for row in ROWS], pa.timestamp("us")) for i in range(2)]
    table = pa.table([*columns, pa.array([0, 1, 0, 1])], ["joined", "left", "y"])
    pq.write_table(table, sink := pa.BufferOutputStream())
    return sink.getvalue().to_pybytes()


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    made = job(tmp_path_factory.mktemp("dates"))
    made.run()
    return made


def served(done, joined, left):
    transform = tf.saved_model.load(str(done.transform / "transform_fn")).transform_fn
    given = {"joined": tf.constant(joined), "left": tf.constant(left)}
    return {name: value.numpy() for name, value in transform(given).items()}


def test_examples_hold_what_datetime_says(done):
    found = done.table()
    week, hour = datetime.timedelta(weeks=1), datetime.timedelta(hours=1)
    ages = np.array(
        [(datetime.datetime.fromisoformat("2026-01-31") - joined) / week for joined, _ in ROWS]
    )
    hours = [(left - joined) / hour for joined, left in ROWS]
    assert found["joined_month"].to_pylist() == [joined.month - 1 for joined, _ in ROWS]
    assert found["joined_weekday_cyclic"].to_pylist() == [j.weekday() for j, _ in ROWS]
    np.testing.assert_allclose(found["joined_age"], (ages - ages.mean()) / ages.std(), rtol=1e-5)
    np.testing.assert_array_equal(found["joined_until_left"], np.float32(hours))
    assert found["joined_missing"].to_pylist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("content", "suffix", "data"),
    [
        (csv(texts(lambda t: t.isoformat("T") + "Z")), ".csv", {}),
        (csv(texts(lambda t: f"{t.isoformat(' ', 'microseconds')}000+00:00")), ".csv", {}),
        (parquet(), ".parquet", {"format": "parquet"}),
    ],
    ids=["ISO", "zone", "Parquet"],
)  # fmt: skip
def test_any_reader_gives_the_same_examples(done, tmp_path, content, suffix, data):
    other = Job(
        root=tmp_path,
        files={"train": [content], "eval": [content]},
        columns=COLUMNS,
        label={"field": "y"},
        suffix=suffix,
        data=data,
    )
    other.run()
    names = [name for name in done.table().column_names if name.startswith("joined")]
    assert len(names) == 5
    assert other.table().select(names).equals(done.table().select(names))


@pytest.mark.parametrize(
    "written",
    [str, datetime.datetime.isoformat, lambda t: f"{t.isoformat(' ', 'microseconds')} UTC"],
)
def test_request_is_transformed_as_the_examples_were(done, written):
    table = done.table()
    found = served(done, *zip(*texts(written), strict=True))
    assert found.keys() == {n for n in table.column_names if n.startswith("joined")}
    for name, values in found.items():
        np.testing.assert_array_equal(values, table[name].to_numpy(), name)


def test_request_without_a_date_has_a_default_or_is_refused(done):
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"'joined\W+is missing or no date"):
        served(done, ["2024-02-30"], ["2024-01-01"])
    columns = {name: COLUMNS[name] for name in ("month", "round", "age", "gone")}
    table = served_with(columns, done.root.parent / "defaults")
    np.testing.assert_array_equal(table["joined_month"], [-1, -1])
    np.testing.assert_allclose(table["joined_age"], [0, 0], atol=1e-6)  # the mean
    np.testing.assert_array_equal(table["joined_missing"], [1, 0])


def served_with(columns, root):
    made = job(root, columns=columns)
    made.run()
    transform = tf.saved_model.load(str(made.transform / "transform_fn")).transform_fn
    return transform({"joined": tf.constant(["", "soon"])})


@pytest.mark.parametrize("wrong", ["soon", "2023-02-29", "20230101", "12:30"])
def test_record_whose_date_cannot_be_read_is_refused_or_quarantined(tmp_path, wrong):
    rows = [*texts(), (wrong, "2024-01-01")]
    with pytest.raises(DataError, match="'joined' cannot be read: expected a date") as caught:
        job(tmp_path / "fail", rows).run()
    assert "train-0.csv:6" in caught.value.message
    data = {"on_bad_rows": "quarantine", "max_bad_fraction": 0.5}
    kept = job(tmp_path / "keep", rows, data=data)
    assert kept.run().splits["train"].kept == len(ROWS)
    assert wrong in (kept.statistics / "quarantine.csv").read_text()


def test_missing_date_needs_a_default_or_a_category(tmp_path):
    rows = [*texts(), ("", "2024-01-01")]
    with pytest.raises(DataError, match=r"'wait' has no default.*'joined'"):
        job(tmp_path / "no", rows).run()
    columns = {name: COLUMNS[name] for name in ("month", "round", "age", "gone")}
    made = job(tmp_path / "yes", rows, columns=columns)
    made.run()
    last = made.table().slice(len(ROWS)).to_pylist()[0]
    assert (last["joined_month"], last["joined_missing"]) == (-1, 1)
    assert abs(last["joined_age"]) < 1e-6


def test_schema_is_that_of_the_files(done):
    text = (done.statistics / "schema.pbtxt").read_text()
    names = [feature.name for feature in text_format.Parse(text, schema_pb2.Schema()).feature]
    assert names == ["joined", "left", "y"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"wait": {**COLUMNS["wait"], "until": "2024-01-01"}}, "exactly one of until"),
        ({"age": {**COLUMNS["age"], "until": "2024-02-30"}}, "expected a date or time"),
        ({"month": {**COLUMNS["month"], "part": "moon"}}, "month"),
        ({"joined_age": {"kind": "numeric"}}, "joined_age"),
    ],
)
def test_what_no_date_column_can_be_is_refused(tmp_path, change, named):
    with pytest.raises((ConfigError, ValueError), match=named):
        job(tmp_path, columns=COLUMNS | change).run()
