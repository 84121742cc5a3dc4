"""One value, one meaning: a table gives the same whatever library and format it is written in."""

import csv
import datetime as dt
import decimal
import gzip
import hashlib
import io
import json
import math
import os
import pathlib
import random
import tempfile
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

import estimator_lib
from components.steps import model as artifact
from estimator_lib import export, inputs
from estimator_lib.core import columns as fc
from estimator_lib.core.errors import ConfigError
from estimator_lib.core.units import Unit
from estimator_lib.core.values import Logical, narrow
from estimator_lib.export.saved_model import load_model
from estimator_lib.export.serving_inputs import raw_transform
from transforms import dataset
from transforms.applying import raw_rows
from transforms.reading import readers
from transforms.reading.files import InputFile
from transforms.reading.rows import Field, Layout
from transforms.reading.units import written as in_units
from transforms.testing import Job

NUMERIC = ("i", "r", "b", "z", "f", "s")
OF_TEXT = ("k", "c", "d", "t", "h", "u", "j")
FIELDS = (*OF_TEXT, *NUMERIC)
SCHEMA = pa.schema(
    [
        ("k", pa.string()),
        ("c", pa.string()),
        ("i", pa.int64()),
        ("r", pa.float64()),
        ("b", pa.bool_()),
        ("z", pa.decimal128(20, 4)),
        ("d", pa.date32()),
        ("t", pa.timestamp("us")),
        ("h", pa.time64("us")),
        ("u", pa.string()),
        ("j", pa.string()),
        ("f", pa.float32()),
        ("s", pa.int16()),
        ("p", pa.float64()),
        ("y", pa.int64()),
    ]
)
COLUMNS = {
    **{f"v_{name}": {"kind": "vocabulary", "field": name} for name in OF_TEXT},
    **{n: {"kind": "numeric", "default": "mean", "normalize": "moments"} for n in NUMERIC},
    "c_x_t": {"kind": "crossed", "of": ["c", "t"], "buckets": 97},
    "r_bucket": {"kind": "bucketized", "field": "r", "quantiles": 4},
    "hour": {"kind": "date_part", "field": "t", "part": "hour"},
    "weekday": {"kind": "cyclic", "field": "d", "part": "weekday"},
    "age": {
        "kind": "age", "field": "d", "until": dt.date(2026, 1, 31), "unit": "weeks",
        "default": "mean", "normalize": "moments",
    },
    "p": {"kind": "numeric", "default": "mean", "normalize": "moments"},
}  # fmt: skip
DOLLARS = {"units": {"p": "$"}}
AS_TEXT = {
    **{f"v_{name}": {"kind": "vocabulary", "field": name} for name in FIELDS},
    "all": {"kind": "crossed", "of": ["i", "r", "b", "z"], "buckets": 97},
}

TEXTS = [
    "a",
    "",
    "007",
    "a,b",
    'say "x"',
    "two\nlines",
    "é",
    "1.0",
    "-",
    '5" pipe',
    ";",
    "'q",
    "b c",
]


def rows_of(seed, number=60):
    """Random rows; a number has at most six digits, for tf.Examples hold no more."""
    draw = random.Random(seed)

    def maybe(value):
        return value if draw.random() < 0.85 else None

    day = dt.date(2020, 1, 1)
    moment = dt.datetime(2020, 1, 1)  # noqa: DTZ001
    return [
        {
            "k": maybe("".join(draw.choices("ab ,;\"'0é.", k=draw.randint(1, 4)))),
            "c": maybe(draw.choice(TEXTS)),
            "i": maybe(draw.choice([0, 1, -7, 2**53, draw.randint(-(2**31), 2**31)])),
            "r": maybe(draw.choice([0.1, 1.0, 1e-5, 2.5e10, draw.randint(-99999, 99999) / 100])),
            "b": maybe(draw.random() < 0.5),
            "z": maybe(decimal.Decimal(draw.randint(-99999, 99999)).scaleb(-draw.randint(0, 4))),
            "d": maybe(day + dt.timedelta(days=draw.randint(-700_000, 2_000_000))),
            "t": maybe(moment + dt.timedelta(milliseconds=draw.randint(-(10**12), 10**12))),
            "h": maybe(
                dt.time(draw.randrange(24), draw.randrange(60), 0, draw.randrange(3) * 1000)
            ),
            "u": maybe(str(uuid.UUID(int=draw.getrandbits(128), version=4))),
            "j": maybe(json.dumps({"b": draw.choice("xé"), "a": draw.randrange(3)})),
            "f": maybe(draw.choice([0.1, 1.5, -0.25, 1e-3, draw.randint(-999, 999) / 10])),
            "s": maybe(draw.randint(-(2**15), 2**15 - 1)),
            "p": maybe(draw.randint(-9999, 99999) / 100),
            "y": maybe(draw.randrange(2)),
        }
        for _ in range(number)
    ]


# --- Writers ------------------------------------------------------------------------------------


def parquet(table, **options):
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def text_of(field, value):
    """What programs that know no types write."""
    text = str(np.float32(value)) if field == "f" else str(value)
    return f"${text}" if field == "p" else text


def with_types(table, **types):
    fields = [pa.field(f.name, types.get(f.name, f.type)) for f in table.schema]
    return table.cast(pa.schema(fields))


def nested(table):
    """A table whose UUIDs and JSON have types of their own."""
    uuids = [None if v is None else uuid.UUID(v).bytes for v in table["u"].to_pylist()]
    parsed = [None if v is None else json.loads(v) for v in table["j"].to_pylist()]
    kinds = {"u": pa.array(uuids, pa.uuid()), "j": pa.array(parsed)}
    for name, column in kinds.items():
        table = table.set_column(table.schema.get_field_index(name), name, column)
    return table


def pandas_frame(table):
    pandas = pytest.importorskip("pandas", reason="only a dependency of development")
    frame = table.to_pandas()
    frame["t"] = pandas.to_datetime(frame["t"])
    return frame


def pandas_csv(table):
    return pandas_frame(table).to_csv(index=False).encode()


def pandas_parquet(table):
    sink = io.BytesIO()
    pandas_frame(table).to_parquet(sink, index=False)
    return sink.getvalue()


def arrow_csv(table):
    text = with_types(table, z=pa.string())
    sink = io.BytesIO()
    pyarrow.csv.write_csv(text, sink)
    return sink.getvalue()


def polars_frame(table):
    polars = pytest.importorskip("polars", reason="only a dependency of development")
    return polars.from_arrow(table)


def polars_csv(table):
    return polars_frame(table).write_csv().encode()


def polars_parquet(table):
    sink = io.BytesIO()
    polars_frame(table).write_parquet(sink)
    return sink.getvalue()


def by_duckdb(table, options):
    duckdb = pytest.importorskip("duckdb", reason="only a dependency of development")
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        connection.register("rows", table)
        connection.sql("SELECT * FROM rows").create("kept")
        connection.execute(f"COPY kept TO '{folder}/file' ({options})")
        return pathlib.Path(folder, "file").read_bytes()


def tfrecord(table):
    def feature(field, value):
        if isinstance(value, bool | int):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=[int(value)]))
        if isinstance(value, float):
            return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
        text = text_of(field, value).encode()
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[text]))

    with tempfile.NamedTemporaryFile() as file:
        with tf.io.TFRecordWriter(file.name) as sink:
            for row in table.to_pylist():
                features = {n: feature(n, v) for n, v in row.items() if v is not None}
                example = tf.train.Example(features=tf.train.Features(feature=features))
                sink.write(example.SerializeToString())
        return file.read()


def dialect(**options):
    def write(table):
        given = {"delimiter": ",", "quote": '"', "escape": "", "decimal": ".", **options}
        text = io.StringIO(newline="")
        sink = csv.writer(
            text,
            delimiter=given["delimiter"],
            quotechar=given["quote"],
            escapechar=given["escape"] or None,
            doublequote=not given["escape"],
        )
        sink.writerow(table.schema.names)
        for row in table.to_pylist():
            cells = ["" if v is None else text_of(n, v) for n, v in row.items()]
            numbers = {n for n in table.schema.names if n in ("r", "z", "f", "p")}
            sink.writerow(
                cell.replace(".", given["decimal"]) if name in numbers else cell
                for name, cell in zip(row, cells, strict=True)
            )
        return gzip.compress(text.getvalue().encode(given.get("encoding", "utf-8")), mtime=0)

    return write


SEMICOLON = {"delimiter": ";", "decimal": ",", "encoding": "utf-16"}
BACKSLASH = {"escape": "\\", "quote": "'"}
WRITERS = {
    "arrow parquet": ("parquet", parquet, {}),
    "arrow csv": ("csv", arrow_csv, {}),
    "int96": ("parquet", lambda t: parquet(t, use_deprecated_int96_timestamps=True), {}),
    "other types": (
        "parquet",
        lambda t: parquet(
            nested(
                with_types(
                    t,
                    t=pa.timestamp("ns", "UTC"),
                    z=pa.decimal256(40, 9),
                    c=pa.large_string(),
                    h=pa.time32("ms"),
                    s=pa.float64(),
                    y=pa.uint8(),
                )
            ),
            row_group_size=5,
        ),
        {},
    ),
    "dictionary": (
        "parquet",
        lambda t: parquet(with_types(t, c=pa.dictionary(pa.int32(), pa.string()), b=pa.int8())),
        {},
    ),
    "texts": ("parquet", lambda t: parquet(as_texts(t)), {}),
    "tfrecord": ("tfrecord", tfrecord, {}),
    "semicolon": ("csv", dialect(**SEMICOLON), SEMICOLON),
    "backslash": ("csv", dialect(**BACKSLASH), BACKSLASH),
    "pandas csv": ("csv", pandas_csv, {}),
    "pandas parquet": ("parquet", pandas_parquet, {}),
    "polars csv": ("csv", polars_csv, {}),
    "polars parquet": ("parquet", polars_parquet, {}),
    "duckdb csv": ("csv", lambda t: by_duckdb(t, "FORMAT CSV, HEADER"), {}),
    "duckdb parquet": ("parquet", lambda t: by_duckdb(t, "FORMAT PARQUET"), {}),
}
"""Name to the format, what writes a table, and how `data` says it is written."""
DRAWN = int(os.environ.get("TABLE_WRITERS") or 5)
"""How many of them are tried in a run, drawn with the seed."""


def as_texts(table):
    columns = {
        name: [None if v is None else text_of(name, v) for v in table[name].to_pylist()]
        for name in table.schema.names
    }
    return pa.table(columns)


# --- The jobs -----------------------------------------------------------------------------------


def table_of(rows):
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def digest(folder, names):
    found = hashlib.sha256()
    for name in sorted(names):
        found.update(name.encode() + (folder / name).read_bytes())
    return found.hexdigest()


def outcome(root, written, columns, **data):
    """All that a job makes of a table, but for what files are called."""
    form, content, said = written
    job = Job(
        root=root,
        files={"all": [content]},
        columns=columns,
        label={"field": "y", "missing": "skip"},
        keep=["k", "t"],
        data={
            "format": form,
            "files": ["data/*"],
            "split": {"hash": {"key": ["k", "t", "i"], "eval_fraction": 0.5}},
            **said,
            **data,
        },
    )
    job.run()
    metadata = {
        n: v
        for n, v in job.metadata().items()
        if n not in ("inputs", "data_fingerprint", "transform_content")
    }
    described = json.loads((job.transform / "columns.json").read_text())
    return {
        "examples": {split: job.table(split).to_pydict() for split in ("train", "eval")},
        "columns": described,
        "metadata": metadata,
        "statistics": digest(job.statistics, ["train.pb", "eval.pb", "schema.pbtxt"]),
    }


def trained(root):
    """A model of a job's examples, published to be asked by field."""
    columns = artifact.read_columns(str(root / "out" / "transform"))
    ready = [fc.transformed(column) for column in columns.values()]
    model = estimator_lib.LinearClassifier(ready, model_dir=str(root / "model"))
    examples = str(root / "out" / "examples")
    model.train(inputs.examples_input(examples, "train", batch_size=8), steps=4)
    receiver = export.build_transformed_serving_input_receiver_fn(str(root / "out" / "transform"))
    return model.export_saved_model(str(root / "served"), receiver).decode()


def scores(place, rows, signature="predict"):
    return load_model(place, signature).predict(rows)["logistic"][:, 0].tolist()


def units_of(told):
    return {name: Unit(**unit) for name, unit in told["units"].items()}


def batch_scores(root, written, told, place, asked_in):
    """Scores of the rows of a file, as batch prediction reads it and asks a model."""
    form, content, said = written
    units = units_of(told)
    path = root / "scored"
    path.write_bytes(content)
    fields = tuple(
        Field(
            name=name,
            type="float" if name in units else kind,
            logical=told["types"].get(name, None) and Logical(told["types"][name]),
            dates=name in told["dates"],
            unit=units.get(name),
        )
        for name, kind in told["raw_fields"].items()
    )
    layout = Layout(format=form, fields=fields, **said)
    rows = readers.reader(form).read_rows(InputFile(name="scored", path=str(path)), layout)
    table = in_units(pa.Table.from_batches(chunk.batch for chunk in rows), asked_in)
    return scores(place, raw_rows.arrays(table))


def asked(field, value):
    """What a request writes; JSON, which no served model can read, in its one form."""
    text = text_of(field, value)
    return narrow(text)[1] if field == "j" else text


def request_scores(table, place):
    """Scores of requests that write values as programs do that know no types."""
    given = {}
    for name, (dtype, _) in load_model(place).inputs.items():
        missing = "" if dtype == "string" else math.nan
        written = (lambda v, n=name: asked(n, v)) if dtype == "string" else float
        given[name] = [missing if v is None else written(v) for v in table[name].to_pylist()]
    return scores(place, given)


def example_scores(table, place):
    """Scores of the table's rows as tf.Examples, with the types that the model takes."""
    numbers = {n for n, (dtype, _) in load_model(place).inputs.items() if dtype != "string"}
    examples = []
    for row in table.to_pylist():
        found = tf.train.Example()
        for name, value in row.items():
            feature = found.features.feature[name]
            if value is None:
                continue
            if name in numbers:
                feature.float_list.value.append(float(value))
            else:
                feature.bytes_list.value.append(asked(name, value).encode())
        examples.append(found.SerializeToString())
    return scores(place, {"examples": examples}, "examples:predict")


@pytest.fixture(
    scope="module", params=[(COLUMNS, DOLLARS), (AS_TEXT, {})], ids=["numbers", "texts"]
)
def expected(request, tmp_path_factory):
    """A random table, what a job makes of it, a model, and the scores of its rows."""
    columns, data = request.param
    seed = int(os.environ.get("TABLE_SEED") or random.randrange(10**6))
    table = table_of(rows_of(seed))
    root = tmp_path_factory.mktemp("expected")
    written = ("parquet", parquet(table), {})
    known = outcome(root, written, columns, **data)
    place = trained(root)
    found = batch_scores(root, written, known["metadata"], place, units_of(known["metadata"]))
    assert len(set(found)) > 10
    return seed, table, (columns, data), known, place, found


def test_table_gives_one_outcome_however_it_is_written(tmp_path, expected):
    """Of all writers `DRAWN`, so that the test stays short."""
    seed, table, (columns, data), known, place, known_scores = expected
    drawn = random.Random(f"{seed} {sorted(data)}").sample(list(WRITERS), DRAWN)
    for writer in drawn:
        form, write, said = WRITERS[writer]
        told = f"differ by {writer}: TABLE_SEED={seed}"
        written, root = (form, write(table), said), tmp_path / writer
        root.mkdir()
        found = outcome(root, written, columns, **data)
        for part in ("examples", "columns", "statistics"):
            assert shown(found[part]) == shown(known[part]), f"{part} {told}"
        for name, value in found["metadata"].items():
            if name != "units":  # which say how the file is written
                assert shown(value) == shown(known["metadata"][name]), f"{name} {told}"
        read = batch_scores(root, written, found["metadata"], place, units_of(known["metadata"]))
        assert read == known_scores, f"scores {told}"


def test_marks_of_numbers_mean_nothing_in_texts(tmp_path):
    """The split hangs on both fields, and one of them turns out to be a number."""
    codes = ["0,", "0.", "1.234", "1,5", "x", "007,5"]
    rows = [{"k": codes[at % 6], "t": "a", "v": at / 4 - 3, "y": at % 2} for at in range(120)]
    table = pa.Table.from_pylist(rows)
    lines = [f"{row['k']};a;{str(row['v']).replace('.', ',')};{row['y']}\n" for row in rows]
    said = {"delimiter": ";", "decimal": ",", "thousands": "."}
    columns = {name: {"kind": "vocabulary", "field": name} for name in ("k", "v")}
    found = []
    for form, content, options in (
        ("parquet", parquet(table), {}),
        ("csv", "".join(["k;t;v;y\n", *lines]).encode(), said),
    ):
        root = tmp_path / form
        root.mkdir()
        split = {"hash": {"key": ["k", "v"], "eval_fraction": 0.5}}
        made = outcome(root, (form, content, options), columns, split=split)
        found.append(shown([made[part] for part in ("examples", "columns", "statistics")]))
        assert made["metadata"]["types"] == {"k": "text", "v": "real", "t": "text"}
    assert found[0] == found[1]


def test_slices_of_numbers_have_one_name_whatever_their_marks(tmp_path):
    numbers = [1.5, 1234.5, 0.25, 1.5]
    (tmp_path / "a.parquet").write_bytes(parquet(pa.table({"v": numbers, "k": ["0,", "x"] * 2})))
    written = [f"{number:_}".replace(".", ",").replace("_", ".") for number in numbers]
    lines = [f"{v};{k}\n" for v, k in zip(written, ["0,", "x"] * 2, strict=True)]
    (tmp_path / "a.csv").write_text("".join(["v;k\n", *lines]))
    found = []
    for name, said in (
        ("a.parquet", None),
        ("a.csv", {"delimiter": ";", "decimal": ",", "thousands": "."}),
    ):
        given = {"types": {"v": "string", "k": "string"}, "slices": ["v", "k"], "csv": said}
        proto, _ = dataset.compute(dataset.find([name], base_dir=str(tmp_path), **given))
        found.append(sorted(str(one) for one in proto.datasets))
        assert "v=1234.5" in [one.name for one in proto.datasets]
    assert found[0] == found[1]


@pytest.mark.parametrize("classes", [2, ["1", "2"]])
def test_classes_have_one_name_whatever_the_marks(tmp_path, classes):
    lines = [f"{at / 4};{1 + at % 2},0\n".replace(".", ",") for at in range(20)]
    text = "".join(["x;y\n", *lines])
    job = Job(
        root=tmp_path,
        files={"train": [text], "eval": [text]},
        columns={"x": {"kind": "numeric"}},
        label={"field": "y", "classes": classes},
        data={"delimiter": ";", "decimal": ","},
    )
    job.run()
    assert job.metadata()["label"]["classes"] == ["1", "2"]
    assert job.metadata()["splits"]["train"]["rows"] == 20


def shown(value):
    return json.dumps(value, default=str)


def test_rows_have_one_score_in_batch_and_in_requests(expected):
    seed, table, _, _, place, known_scores = expected
    assert request_scores(table, place) == known_scores, f"TABLE_SEED={seed}"
    assert example_scores(table, place) == known_scores, f"TABLE_SEED={seed}"


# --- The served model -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The transform of a job whose texts are of every kind, as a request reaches it."""
    lines = ["i,r,d,t,u,c,x,y"]
    lines += [
        f"{n},{n / 2},2024-01-{n + 1:02},2024-01-31T0{n}:30:00.5,"
        f"550e8400-e29b-41d4-a716-44665544000{n},v{n},{n},{n % 2}"
        for n in range(8)
    ]
    content = "\n".join(lines)
    fields = ("i", "r", "d", "t", "u", "c")
    job = Job(
        root=tmp_path_factory.mktemp("served"),
        files={"train": [content], "eval": [content]},
        columns={**{f: {"kind": "vocabulary"} for f in fields}, "x": {"kind": "numeric"}},
        label={"field": "y"},
    )
    job.run()
    return raw_transform(str(job.transform))


REQUEST = {
    "i": "3",
    "r": "1.5",
    "d": "2024-01-04",
    "t": "2024-01-31 03:30:00.5",
    "u": "550e8400-e29b-41d4-a716-446655440003",
    "c": "v3",
    "x": 3.0,
}


def features(served, **changed):
    request = {**REQUEST, **changed}
    tensors = {
        name: tf.constant([value], tf.float32 if name == "x" else tf.string)
        for name, value in request.items()
    }
    return {name: value.numpy().tolist() for name, value in served(tensors).items()}


@pytest.mark.parametrize(
    "written",
    [
        {"i": "3.0"},
        {"i": "3."},
        {"r": "1.50"},
        {"r": "01.5", "c": "unseen"},
        {"d": "2024-01-04T00:00:00Z"},
        {"d": "2024-01-04 00:00:00.000"},
        {"t": "2024-01-31T03:30:00.500000"},
        {"t": "2024-01-31 03:30:00.50+00:00"},
        {"u": "550E8400-E29B-41D4-A716-446655440003"},
    ],
    ids=str,
)
def test_request_may_write_a_value_as_files_do(served, written):
    found, plain = features(served, **written), features(served)
    if "c" in written:  # 01.5 is a code, not a number
        assert found["r"] == [8]
        assert found["c"] == [8]
    else:
        assert found == plain
        assert min(found[name][0] for name in ("i", "r", "d", "t", "u")) >= 0


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_request_without_a_number_that_is_needed_is_refused_by_name(served, number):
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"x.* is missing or not finite"):
        features(served, x=number)


# --- Decisions ----------------------------------------------------------------------------------


def job_of(tmp_path, content, column, **data):
    return Job(
        root=tmp_path,
        files={"train": [content], "eval": [content]},
        columns={"c": column},
        label={"field": "y"},
        data=data,
    )


def described(job):
    job.run()
    return json.loads((job.transform / "columns.json").read_text())


NUMBERS = "c,y\n1.10,0\n1.1,1\n2.0,0\n"


def test_text_of_numbers_is_written_in_one_form_unless_declared_as_text(tmp_path):
    found = described(job_of(tmp_path / "a", NUMBERS, {"kind": "vocabulary"}))
    assert found["types"] == {"c": "real"}
    assert found["columns"]["c"]["vocabulary"] == ["1.1", "2"]
    declared = job_of(tmp_path / "b", NUMBERS, {"kind": "vocabulary"}, types={"c": "text"})
    found = described(declared)
    assert found["types"] == {"c": "text"}
    assert found["columns"]["c"]["vocabulary"] == ["1.1", "1.10", "2.0"]


def test_one_text_anywhere_makes_the_field_text(tmp_path):
    job = job_of(tmp_path, NUMBERS, {"kind": "vocabulary"})
    job.files = {"train": [NUMBERS], "eval": [NUMBERS + "n/a,1\n"]}
    found = described(job)
    assert found["types"] == {"c": "text"}
    assert found["columns"]["c"]["vocabulary"] == ["1.1", "1.10", "2.0"]


def test_listed_values_are_written_as_the_field_is(tmp_path):
    column = {"kind": "vocabulary", "values": ["1.10", "2.0"]}
    found = described(job_of(tmp_path / "a", NUMBERS, column))
    assert found["columns"]["c"]["vocabulary"] == ["1.1", "2"]
    column = {"kind": "vocabulary", "values": ["1.10", "1.1"]}
    with pytest.raises(ConfigError, match="'c' lists one value twice"):
        job_of(tmp_path / "b", NUMBERS, column).run()


@pytest.mark.parametrize("written", ["-999", "-999.0", "-9.99e2"])
@pytest.mark.parametrize("kind", ["vocabulary", "numeric"])
def test_number_that_means_missing_is_missing_however_it_is_written(tmp_path, written, kind):
    column = {"kind": kind} if kind == "vocabulary" else {"kind": kind, "default": 7.0}
    job = job_of(tmp_path, f"c,y\n{written},0\n1,1\n", column, missing=["", "-999"])
    job.run()
    assert job.table()["c"].to_pylist() == ([-1, 0] if kind == "vocabulary" else [7.0, 1.0])


def test_booleans_of_pandas_are_the_integers_of_other_files(tmp_path):
    content = "c,y\nTrue,False\nFalse,True\n"
    job = job_of(tmp_path, content, {"kind": "identity", "buckets": 2})
    job.run()
    assert job.table()["c"].to_pylist() == [1, 0]
    assert job.table()["y"].to_pylist() == [0, 1]
