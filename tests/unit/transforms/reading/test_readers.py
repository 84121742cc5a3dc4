"""Parquet and TFRecord beside CSV: the same rows, the same policies, faults with their place."""

import datetime
import gzip
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from estimator_lib.core.errors import DataError, Reason, SchemaError
from estimator_lib.core.values import Logical
from transforms.reading import readers
from transforms.reading.files import InputFile
from transforms.reading.problems import Problems
from transforms.reading.rows import Field, Layout, written_out

FIELDS = (
    Field(name="c", type="string"),
    Field(name="i", type="int"),
    Field(name="f", type="float"),
)
ROWS = [
    {"c": "a", "i": 1, "f": 0.5},
    {"c": "", "i": None, "f": 2.0},
    {"c": "é, b", "i": -3, "f": None},
]


def feature(value):
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    if isinstance(value, float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
    if isinstance(value, list):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=value))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))


def example(row):
    features = {k: feature(v) for k, v in row.items() if v is not None}
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def tfrecord(rows, tmp_path):
    path = str(tmp_path / "made.tfrecord")
    with tf.io.TFRecordWriter(path) as sink:
        for row in rows:
            sink.write(row if isinstance(row, bytes) else example(row))
    with open(path, "rb") as stream:
        return stream.read()


def parquet(rows, schema=None, **options):
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink, **options)
    return sink.getvalue()


def written(kind, rows, tmp_path):
    if kind == "parquet":
        return parquet(rows)
    if kind == "csv":
        lines = [
            ",".join(
                f'"{v}"' if isinstance(v, str) else "" if v is None else str(v) for v in r.values()
            )
            for r in rows
        ]
        return "\n".join([",".join(rows[0]), *lines]).encode()
    data = tfrecord(rows, tmp_path)
    return gzip.compress(data) if kind == "gzip" else data


def read(kind, content, tmp_path, fields=FIELDS, texts=(), missing=("",)):
    path = tmp_path / "file"
    path.write_bytes(content)
    layout = Layout(format=kind, fields=fields, texts=texts, missing=missing)
    file = InputFile(name="file", path=str(path))
    reader = readers.reader(kind)
    header = reader.read_header(file, layout)
    Problems.of(readers.check_header(kind, file, header, layout.names)).raise_if_any()
    rows, texts_read, problems = [], [], Problems()
    for some in reader.read_rows(file, layout):
        rows += some.batch.to_pylist()
        texts_read += [
            {k: v[i].as_py() for k, v in some.texts.items()} for i in range(some.batch.num_rows)
        ]
        problems += some.problems
    return rows, texts_read, problems


@pytest.mark.parametrize("kind", ["csv", "parquet", "tfrecord", "gzip"])
def test_every_format_gives_the_same_rows(tmp_path, kind):
    name = "tfrecord" if kind == "gzip" else kind
    rows, texts, problems = read(name, written(kind, ROWS, tmp_path), tmp_path, texts=("c", "i"))
    assert not problems.total
    assert rows == [
        {"c": "a", "i": 1, "f": 0.5},
        {"c": None, "i": None, "f": 2.0},
        {"c": "é, b", "i": -3, "f": None},
    ]
    assert texts == [{"c": "a", "i": "1"}, {"c": "", "i": ""}, {"c": "é, b", "i": "-3"}]


@pytest.mark.parametrize("kind", ["csv", "parquet", "tfrecord"])
def test_a_batch_holds_each_text_once_however_it_is_written(tmp_path, kind):
    rows = [{"c": text} for text in ("1.0", "1", "NA", "2", "1.00", "")]
    path = tmp_path / "file"
    path.write_bytes(written(kind, rows, tmp_path) + (b"\n" if kind == "csv" else b""))
    field = Field(name="c", type="string", logical=Logical.INTEGER)
    layout = Layout(format=kind, fields=(field,), missing=("", "NA"))
    (some,) = readers.reader(kind).read_rows(InputFile(name="file", path=str(path)), layout)
    column = some.batch.column("c")
    assert column.dictionary.to_pylist() == ["1", "2"]
    assert column.to_pylist() == ["1", "1", None, "2", "1", None]
    assert written_out(some.batch).column("c").type == pa.string()


@pytest.mark.parametrize("kind", ["parquet", "tfrecord"])
def test_numbers_and_texts_follow_the_rules_of_csv(tmp_path, kind):
    rows = [{"c": 7, "i": 2.0, "f": "1e3"}, {"c": 8, "i": 5.0, "f": "NA"}]
    found, _, problems = read(kind, written(kind, rows, tmp_path), tmp_path, missing=("", "NA"))
    assert not problems.total
    assert found == [{"c": "7", "i": 2, "f": 1000.0}, {"c": "8", "i": 5, "f": None}]


@pytest.mark.parametrize("kind", ["parquet", "tfrecord"])
def test_whole_floats_are_written_without_fraction_and_nan_is_missing(tmp_path, kind):
    rows = [{"c": 5.0, "i": float("nan"), "f": 1}, {"c": 2.5, "i": 4.0, "f": 2}]
    found, _, problems = read(kind, written(kind, rows, tmp_path), tmp_path)
    assert not problems.total
    assert found == [{"c": "5", "i": None, "f": 1.0}, {"c": "2.5", "i": 4, "f": 2.0}]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"i": 2.5}, Reason.VALUE_UNPARSABLE),
        ({"f": float("inf")}, Reason.NOT_FINITE),
        ({"c": b"\xff\xfe"}, Reason.ENCODING),
        ({"c": b"a\0b"}, Reason.ENCODING),
    ],
)
@pytest.mark.parametrize("kind", ["parquet", "tfrecord"])
def test_bad_value_is_located(tmp_path, kind, bad, reason):
    plain = {"c": b"a", "i": 1.0, "f": 0.5}
    content = written(kind, [plain, plain | bad, plain], tmp_path)
    found, _, problems = read(kind, content, tmp_path)
    assert len(found) == 2
    assert problems.total == 1
    assert problems.first[0].reason == reason
    place = {"parquet": "file:row group 0, row 2", "tfrecord": "file:record 2, byte "}[kind]
    assert place in problems.as_error().message


def test_parquet_row_group_of_a_fault_is_named(tmp_path):
    rows = [{"i": i / 2 if i == 7 else float(i)} for i in range(9)]
    content = parquet(rows, row_group_size=3)
    _, _, problems = read("parquet", content, tmp_path, fields=FIELDS[1:2])
    assert "row group 2, row 2" in problems.as_error().message


def test_parquet_dictionaries_decimals_dates_and_bools(tmp_path):
    import decimal

    table = pa.table(
        {
            "c": pa.array(["x", None]).dictionary_encode(),
            "i": pa.array([True, False]),
            "f": pa.array([decimal.Decimal("1.25"), None]),
            "d": pa.array([datetime.date(2013, 1, 2), None]),
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink)
    fields = (*FIELDS, Field(name="d", type="string"))
    rows, _, problems = read("parquet", sink.getvalue(), tmp_path, fields=fields)
    assert not problems.total
    assert rows == [
        {"c": "x", "i": 1, "f": 1.25, "d": "2013-01-02"},
        {"c": None, "i": 0, "f": None, "d": None},
    ]


@pytest.mark.parametrize("int96", [True, False])
def test_parquet_timestamps_of_any_year_have_one_text(tmp_path, int96):
    times = [datetime.datetime(9999, 12, 31), datetime.datetime(2024, 1, 1, 12, 30)]  # noqa: DTZ001
    table = pa.table({"t": pa.array(times, pa.timestamp("us"))})
    sink = io.BytesIO()
    pq.write_table(table, sink, use_deprecated_int96_timestamps=int96)
    fields = (Field(name="t", type="string"),)
    rows, _, problems = read("parquet", sink.getvalue(), tmp_path, fields=fields)
    assert not problems.total
    assert [row["t"] for row in rows] == ["9999-12-31", "2024-01-01 12:30:00"]


def test_nested_column_is_refused(tmp_path):
    with pytest.raises(SchemaError, match="'c'") as caught:
        read("parquet", parquet([{"c": [1, 2], "i": 1, "f": 0.5}]), tmp_path)
    assert caught.value.reason == Reason.TYPE_MISMATCH


@pytest.mark.parametrize("kind", ["parquet", "tfrecord"])
def test_missing_field_is_refused(tmp_path, kind):
    content = written(kind, [{"c": "a", "i": 1}], tmp_path)
    with pytest.raises(SchemaError, match="'f'") as caught:
        read(kind, content, tmp_path)
    assert caught.value.reason == Reason.FIELD_MISSING


@pytest.mark.parametrize("cut", [0, 3, 100, -1])
def test_damaged_parquet_is_refused(tmp_path, cut):
    content = parquet(ROWS)
    with pytest.raises(DataError) as caught:
        read("parquet", content[:cut], tmp_path)
    assert caught.value.reason == Reason.CORRUPT_FILE


def test_record_that_is_no_example_is_located(tmp_path):
    content = tfrecord([ROWS[0], b"\xff\xff\xff", ROWS[0]], tmp_path)
    _, _, problems = read("tfrecord", content, tmp_path)
    assert problems.first[0].line == 2
    assert problems.first[0].reason == Reason.RECORD_MALFORMED


def test_feature_that_changes_its_type_is_located(tmp_path):
    content = tfrecord([ROWS[0], ROWS[0] | {"i": "text"}], tmp_path)
    _, _, problems = read("tfrecord", content, tmp_path)
    assert problems.first[0].field == "i"
    assert problems.first[0].reason == Reason.TYPE_MISMATCH


def test_several_values_are_refused(tmp_path):
    content = tfrecord([ROWS[0], ROWS[0] | {"i": [1, 2]}], tmp_path)
    _, _, problems = read("tfrecord", content, tmp_path)
    assert "record 2" in problems.as_error().message
    assert problems.first[0].field == "i"


def test_feature_that_first_appears_late_is_found(tmp_path):
    few = [{"c": "a", "f": 0.5}] * 1200
    rows, _, _ = read("tfrecord", tfrecord([*few, ROWS[0]], tmp_path), tmp_path)
    assert rows[-1]["i"] == 1
    assert rows[0]["i"] is None
    assert len(rows) == 1201


def test_a_parquet_file_may_hold_texts_as_dictionaries(tmp_path):
    texts = [f"t{i % 3}" if i % 4 else None for i in range(40)]
    texts[7] = "a\0b"
    plain = pa.table({"c": pa.array(texts)})
    found = []
    for table, stored in [
        (plain, False),
        (plain, True),
        (pa.table({"c": plain["c"].dictionary_encode()}), True),
    ]:
        path = tmp_path / "file"
        pq.write_table(table, path, use_dictionary=stored, row_group_size=15)
        found.append(read("parquet", path.read_bytes(), tmp_path, FIELDS[:1], texts=("c",)))
    rows, as_texts, problems = found[0]
    assert len(rows) == len(as_texts) == 39
    assert [problem.where for problem in problems.first] == ["row group 0, row 8"]
    assert all((other[0], other[1], other[2].first) == (rows, as_texts, problems.first)
               for other in found[1:])  # fmt: skip
