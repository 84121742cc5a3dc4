"""Scoring files with a published model: every format, every way, and everything refused."""

import csv
import gzip
import json
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from components.steps import predict_job
from estimator_lib.core import config as configuration
from estimator_lib.core import manifest
from estimator_lib.core.errors import ConfigError, DataError, SchemaError
from pipelines import cli
from pipelines.local import run

ROWS = [("N1", 5, 1.5), ("N2", None, 2.0), ("=cmd()", 7, None), (None, 9, 4.0)]


class Served(tf.Module):
    """Gives twice the number, a vector and a text, of rows as our models take them."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, "tail"),
            tf.TensorSpec([None], tf.int64, "hour"),
            tf.TensorSpec([None], tf.float32, "wind"),
        ]
    )
    def score(self, tail, hour, wind):
        known = tf.where(tf.math.is_nan(wind), -1.0, wind)
        return {
            "logits": known * 2,
            "probabilities": tf.stack([known, tf.cast(hour > 0, tf.float32)], axis=1),
            "text": tf.strings.join(["=", tail]),
            "all_classes": tail,
        }


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    here = tmp_path_factory.mktemp("serving")
    model = Served()
    for version in ("2", "10"):
        tf.saved_model.save(model, str(here / version), {"serving_default": model.score})
    return here


def write(path, rows, form):
    tails, hours, winds = zip(*rows, strict=True)
    table = pa.table(
        {"tail": tails, "hour": pa.array(hours, pa.int64()), "wind": winds, "x": tails}
    )
    if form == "parquet":
        pq.write_table(table, path)
    elif form == "tfrecord":
        with tf.io.TFRecordWriter(str(path)) as writer:
            for tail, hour, wind in rows:
                feature = {}
                if tail is not None:
                    feature["tail"] = tf.train.Feature(
                        bytes_list=tf.train.BytesList(value=[tail.encode()])
                    )
                if hour is not None:
                    feature["hour"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[hour]))
                if wind is not None:
                    feature["wind"] = tf.train.Feature(float_list=tf.train.FloatList(value=[wind]))
                example = tf.train.Example(features=tf.train.Features(feature=feature))
                writer.write(example.SerializeToString())
    else:
        pa.csv.write_csv(table, path)


@pytest.fixture
def files(tmp_path):
    """Two files in each format; the second has one row."""
    for form in ("csv", "parquet", "tfrecord"):
        write(tmp_path / f"a.{form}", ROWS, form)
        write(tmp_path / f"b.{form}", [("N5", 11, 8.0)], form)
    return tmp_path


def part(form, **given):
    content = {"files": [f"*.{form}"], "format": form, "keep": ["tail"], **given}
    return configuration.PredictPart.model_validate(content)


@pytest.mark.parametrize("form", ["csv", "parquet", "tfrecord"])
def test_every_format_gives_the_same_predictions_a_shard_per_file(form, files, serving, tmp_path):
    output = tmp_path / "out"
    scored = predict_job.score(part(form), model=serving, base_dir=files, output=output)
    assert (scored.rows, scored.left_out, scored.files) == (5, 0, 2)
    assert scored.version.endswith("/10")
    found = manifest.verify(output, deep=True)
    assert (found.kind, found.metadata["version"]) == ("predictions", "10")
    first, second = (output / name for name in sorted(found.files))
    assert first.name == "predictions-00000-of-00002.parquet"
    table = pq.read_table(first)
    assert table.column_names == ["tail", "logits", "probabilities_0", "probabilities_1", "text"]
    assert table["tail"].to_pylist() == ["N1", "N2", "=cmd()", ""]
    assert table["logits"].to_pylist() == [3.0, 4.0, -2.0, 8.0]
    assert table["probabilities_1"].to_pylist() == [1.0, 0.0, 1.0, 1.0]
    assert pq.read_table(second)["logits"].to_pylist() == [16.0]
    assert found.files[first.name].rows == 4


def test_command_writes_one_file_without_formulas(files, serving, capsys):
    for form in ("csv", "parquet", "tfrecord"):
        scores = files / f"scores-{form}.csv"
        command = ["predict", str(serving), str(files / f"*a.{form}"), str(files / f"b.{form}")]
        assert cli.main([*command, "-o", str(scores), "--keep", "tail"]) == 0
        assert "scored 5 rows" in capsys.readouterr().out
        with scores.open() as file:
            rows = list(csv.DictReader(file))
        assert [row["tail"] for row in rows] == ["N1", "N2", "'=cmd()", "", "N5"]
        assert rows[0]["text"] == "'=N1"
        assert float(rows[4]["logits"]) == 16
    single = files / "scores.parquet"
    command = ["predict", str(serving), str(files / "*.csv.gz"), "-o", str(single)]
    (files / "c.csv.gz").write_bytes(gzip.compress((files / "b.csv").read_bytes()))
    assert cli.main(command) == 0
    np.testing.assert_allclose(pq.read_table(single)["logits"], [16.0])


def test_bad_rows_are_refused_with_their_place_or_left_out_and_counted(files, serving, capsys):
    bad = files / "bad.csv"
    bad.write_text("tail,hour,wind\nN1,5,x\nN2,soon,1\nN3,6,2\nN4,5\n")
    output = files / "scores.csv"
    command = ["predict", str(serving), str(bad), "-o", str(output)]
    assert cli.main(command) == 2
    said = capsys.readouterr().err
    assert "bad.csv:5" in said
    assert not output.exists()
    assert cli.main([*command, "--skip-bad-rows"]) == 0
    said = capsys.readouterr().out
    assert "scored 1 rows, 3 left out" in said
    assert "'soon' at" in said
    assert len(output.read_text().splitlines()) == 2


def test_delimiter_encoding_and_missing_are_said_on_the_command_line(files, serving, capsys):
    odd = files / "odd.csv"
    odd.write_bytes("tail;hour;wind\nZürich;5;1.5\nx;NA;2\n".encode("latin-1"))
    output = files / "scores.csv"
    command = ["predict", str(serving), str(odd), "-o", str(output), "--keep", "tail"]
    command += ["--delimiter", ";", "--missing", "", "NA", "--encoding"]
    assert cli.main([*command, "latin-1"]) == 0
    with output.open(encoding="utf-8") as file:
        assert [row["tail"] for row in csv.DictReader(file)] == ["Zürich", "x"]
    capsys.readouterr()
    assert cli.main([*command, "latin-9000"]) == 2
    assert "'latin-9000' is no text encoding" in capsys.readouterr().err


def test_records_that_hide_others_are_never_left_out(files, serving):
    (files / "torn.csv").write_text('tail,hour,wind\nN1,5,1\nN2,"5,1\nN3,6,2\n')
    torn = part("csv", files=["torn.csv"], on_bad_rows="skip")
    with pytest.raises(DataError, match=r"torn\.csv:3"):
        predict_job.score(torn, model=serving, base_dir=files, output=files / "out")
    assert not (files / "out").exists()


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"files": ["none.csv"]}, DataError, r"none\.csv"),
        ({"keep": ["tial"]}, SchemaError, "tial"),
        ({"files": ["empty.csv"]}, DataError, "no row to score"),
        ({"files": ["lacking.csv"]}, SchemaError, "wind"),
    ],
)
def test_what_cannot_be_scored_is_refused_and_nothing_is_written(
    given, error, said, files, serving
):
    (files / "empty.csv").write_text("tail,hour,wind\n")
    (files / "lacking.csv").write_text("tail,hour\nN1,5\n")
    content = {"files": ["a.csv"], **given}
    with pytest.raises(error, match=said):
        predict_job.score(
            part("csv", **content), model=serving, base_dir=files, output=files / "out"
        )
    assert not (files / "out").exists()


def test_missing_model_is_named_before_anything_is_loaded(files, tmp_path):
    with pytest.raises(ConfigError, match="neither a SavedModel nor"):
        predict_job.score(
            part("csv"), model=tmp_path / "nowhere", base_dir=files, output=tmp_path / "out"
        )


CONFIG = """
name: small
data: {files: [a.csv], split: {hash: {key: [tail], eval_fraction: 0.2}}}
label: {field: late}
columns: {wind: {kind: numeric}}
estimator: {name: LinearClassifier, args: {feature_columns: [wind]}}
train: {max_steps: 1}
pipeline: batch_prediction
predict: {files: ["*.parquet"], format: parquet, keep: [tail], output: csv}
"""


def test_pipeline_scores_with_the_newest_version_and_is_cached(files, serving, warm_steps):
    path = files / "config.yaml"
    path.write_text(CONFIG)
    assert cli.main(["config", "check", str(path)]) == 0
    output = files / "run"
    output.mkdir()
    (output / "serving").symlink_to(serving)
    config = configuration.load(path)
    shown = []
    result = run.run(config, base_dir=files, output=output, show=shown.append, steps=warm_steps)
    scored = result["predictions"]
    assert (scored["rows"], scored["left_out"], scored["version"]) == (5, 0, "10")
    assert len(list(pathlib.Path(scored["directory"]).glob("*.csv"))) == 2
    assert json.loads((output / "run.json").read_text()) == result
    assert "  small-batch-prediction succeeded" in shown
    again = run.run(config, base_dir=files, output=output, show=shown.append, steps=warm_steps)
    assert again["cached"] == ["predict"]
    write(files / "b.parquet", [("N6", 1, 1.0), ("N7", 1, 1.0)], "parquet")
    third = run.run(config, base_dir=files, output=output, show=shown.append, steps=warm_steps)
    assert (third["cached"], third["predictions"]["rows"]) == ([], 6)
