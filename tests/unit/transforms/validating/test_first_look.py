"""What `config check` finds in the files before any work."""

import pathlib
import random
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from estimator_lib.core import config
from estimator_lib.core.errors import DataError, SchemaError
from tests.examples import example, framed
from transforms.reading import tfrecord_reader
from transforms.reading.files import InputFile
from transforms.reading.rows import Field, Layout
from transforms.testing import Job
from transforms.validating import first_look

ROWS = "c,x,late\na,1,0\nb,2.5,1\n"
COLUMNS = {"c": {"kind": "vocabulary"}, "x": {"kind": "numeric"}}


def job(tmp_path, *files, **changes):
    given = {"columns": COLUMNS, "label": {"field": "late"}} | changes
    return Job(root=tmp_path, files={"train": files or [ROWS], "eval": [ROWS]}, **given)


def look(tmp_path, *files, **changes):
    return first_look.check(job(tmp_path, *files, **changes).part(), str(tmp_path))


def test_good_files_are_counted(tmp_path):
    assert look(tmp_path, ROWS, ROWS) == 6


@pytest.mark.parametrize(
    ("files", "changes", "names"),
    [
        ([ROWS, "c,x\na,1\n"], {}, ["'late' is missing", "data/train-1.csv"]),
        ([ROWS], {"columns": {"d": {"kind": "numeric"}}}, ["'d' is missing", "data/eval-0.csv"]),
        ([ROWS], {"columns": {"c": {"kind": "numeric"}}}, ["'c' cannot be read", "'a'"]),
        ([ROWS, "c,x,late\na,1,7\n"], {}, ["'late'", "'7'", "data/train-1.csv:2"]),
        ([ROWS], {"weight": "c"}, ["Weight 'c' cannot be read"]),
        (["c,x,late\na,1,\n"], {}, ["Label 'late' is missing", "label.missing to skip"]),
        (["c;x;late\na;1;0\n"], {}, ["data/train-0.csv"]),
    ],
)
def test_what_does_not_fit_is_named_with_its_file(tmp_path, files, changes, names):
    with pytest.raises((DataError, SchemaError)) as caught:
        look(tmp_path, *files, **changes)
    for name in names:
        assert name in caught.value.message


def test_values_that_go_to_quarantine_are_no_fault(tmp_path):
    lax = {"on_bad_rows": "quarantine", "max_bad_fraction": 0.5}
    assert look(tmp_path, "c,x,late\na,no,0\nb,2,1\n", data=lax) == 3


def test_a_schema_with_constraints_that_nobody_judges_is_refused(tmp_path):
    part = job(tmp_path).part()
    text = 'feature { name: "x" type: FLOAT time_domain { string_format: "%Y" } }'
    (tmp_path / "schema.pbtxt").write_text(text)
    schema = config.DataSchema(path="schema.pbtxt")
    with pytest.raises(SchemaError, match="time_domain of 'x'"):
        first_look.check(part.model_copy(update={"data_schema": schema}), str(tmp_path))


def test_parquet_is_looked_into(tmp_path):
    table = pa.table({"c": ["a"], "x": ["no"], "late": [0]})
    good = pa.table({"c": ["a"], "x": [1.0], "late": [True]})
    wanted = job(tmp_path, data={"format": "parquet"}, suffix=".parquet", columns=COLUMNS)
    part = wanted.part()
    for name, content in (("train-0", table), ("eval-0", good)):
        pq.write_table(content, tmp_path / "data" / f"{name}.parquet")
    with pytest.raises(DataError, match="'x' cannot be read"):
        first_look.check(part, str(tmp_path))


def test_config_check_looks_without_tensorflow_and_beam(tmp_path):
    (tmp_path / "a.csv").write_text("id," + ROWS.replace("\n", "\n1,")[:-2])
    (tmp_path / "c.yaml").write_text("""
name: t
data: {files: [a.csv], split: {hash: {key: [id], eval_fraction: 0.5}}}
label: {field: late}
columns: {c: {kind: vocabulary}}
estimator: {name: LinearClassifier, args: {feature_columns: [c]}}
train: {epochs: 1}
""")
    script = f"""
import sys
from pipelines.cli import main
code = main(["config", "check", {str(tmp_path / "c.yaml")!r}])
print(code, *({{"tensorflow", "apache_beam"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "0"
    assert "first 2 rows looked at" in done.stdout
    changed = pathlib.Path(tmp_path / "a.csv").read_text().replace("late", "lat")
    (tmp_path / "a.csv").write_text(changed)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "2"
    assert "'lat'" in done.stderr


# --- tf.Examples --------------------------------------------------------------------------------


def records(*rows):
    return b"".join(framed(example(row)) for row in rows)


WHOLE = records({"c": "a", "x": 1.0, "late": 0})
GOOD = records({"c": "a", "x": 1.0, "late": 0}, {"c": "b", "late": 1})


def look_at_examples(tmp_path, content, **changes):
    given = {"columns": COLUMNS, "label": {"field": "late"}} | changes
    files = {"train": [content], "eval": [GOOD]}
    job_ = Job(root=tmp_path, files=files, data={"format": "tfrecord"}, **given)
    return first_look.check(job_.part(), str(tmp_path))


def test_good_examples_are_counted(tmp_path):
    default = {"columns": COLUMNS | {"x": {"kind": "numeric", "default": 0.0}}}
    assert look_at_examples(tmp_path, GOOD, **default) == 4


@pytest.mark.parametrize(
    ("content", "changes", "names"),
    [
        (records({"c": "a", "late": 0}), {}, ["'x' is missing", "data/train-0"]),
        (GOOD, {"columns": {"c": {"kind": "numeric"}}}, ["'c'", "'a'"]),
        (records({"c": "a", "x": 1.0, "late": 7}), {}, ["'late'", "7", "record 1"]),
        (records({"c": "a", "x": 1.0, "late": "no"}), {}, ["'late'", "'no'"]),
        (
            records({"c": "a", "x": 1.0, "late": 0}, {"c": 5, "x": 1.0, "late": 0}),
            {},
            ["'c' changes its type", "record 2"],
        ),
        (WHOLE + framed(b"no example"), {}, ["is not a tf.Example", "record 2"]),
        (GOOD[:-3], {}, ["damaged", "record 2"]),
    ],
    ids=["lacks", "text", "class", "label", "type", "other", "cut"],
)
def test_examples_that_do_not_fit_are_named(tmp_path, content, changes, names):
    with pytest.raises((DataError, SchemaError)) as caught:
        look_at_examples(tmp_path, content, **changes)
    for name in names:
        assert name in caught.value.message


def test_a_field_is_looked_for_in_the_first_examples(tmp_path, monkeypatch):
    monkeypatch.setattr(first_look, "EXAMPLES", 3)
    lacking, last = {"c": "a", "late": 0}, {"c": "a", "x": 1.0, "late": 1}
    default = {"columns": COLUMNS | {"x": {"kind": "numeric", "default": 0.0}}}
    assert look_at_examples(tmp_path / "a", records(lacking, lacking, last), **default) == 5
    damaged_further_on = records(*[lacking] * 9) + b"damage"
    with pytest.raises(SchemaError, match=r"'x' is missing in the first 3 records .*train-0"):
        look_at_examples(tmp_path / "b", damaged_further_on, **default)


def test_examples_are_looked_at_as_they_are_read(tmp_path):
    draw = random.Random(7)
    rows = [
        {
            "c": draw.choice(["a", "", "é"]),
            "i": draw.randrange(-3, 3),
            "f": draw.choice([0.1, -1.5, 3e38]),
            "l": [draw.choice("xy") for _ in range(draw.randrange(3))],
        }
        for _ in range(50)
    ]
    given = [{k: v for k, v in row.items() if draw.random() < 0.8 or k == "c"} for row in rows]
    (tmp_path / "file").write_bytes(records(*given))
    file = InputFile(name="file", path=str(tmp_path / "file"))
    layout = Layout(
        format="tfrecord",
        fields=(
            Field(name="c", type="string"),
            Field(name="i", type="int"),
            Field(name="f", type="float"),
            Field(name="l", type="string", several=True),
        ),
    )
    looked, read = (
        pa.Table.from_batches([rows.batch for rows in chunks])
        for chunks in (tfrecord_reader.look(file, layout), tfrecord_reader.read_rows(file, layout))
    )
    assert looked.equals(read)
    assert looked.num_rows == 50
