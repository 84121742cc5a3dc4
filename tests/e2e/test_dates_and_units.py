"""Dates and amounts as people write them, from the file to the served model and scored files."""

import csv
import datetime

import numpy as np
import pytest
import tensorflow as tf

from estimator_lib.core import config as configuration
from pipelines import cli
from pipelines.local import run

CONFIG = """
name: orders
data:
  files: [rows.csv]
  split: {hash: {key: [id], eval_fraction: 0.3}}
  units: {price: $, off: "%"}
  thousands: ","
label: {field: late}
columns:
  price: {kind: numeric, normalize: moments}
  off: {kind: numeric, default: 0.0}
  month: {kind: date_part, field: ordered, part: month}
  month_hot: {kind: indicator, of: month}
  hour: {kind: cyclic, field: ordered, part: hour}
  wait: {kind: age, field: ordered, until_field: arrived, unit: hours, normalize: moments}
  age: {kind: age, field: ordered, until: 2026-01-31, normalize: moments, default: mean}
estimator:
  name: DNNClassifier
  args: {feature_columns: [price, off, month_hot, hour, wait, age], hidden_units: [4]}
train: {epochs: 3, batch_size: 32}
evaluate: {thresholds: {auc: {min: 0}}, importance: {rows: 100, repeats: 1}}
"""
HEADER = ["id", "price", "off", "ordered", "arrived", "late"]


def rows(count):
    for i in range(count):
        ordered = datetime.datetime.fromisoformat("2025-01-01") + datetime.timedelta(hours=7 * i)
        arrived = ordered + datetime.timedelta(hours=i % 50)
        price, off = f"${1000 + 7.25 * i:,.2f}", f"{i % 30}%" if i % 9 else ""
        yield [str(i), price, off, f"{ordered.isoformat()}Z", str(arrived), str(int(i % 50 > 25))]


def write(path, given):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([HEADER, *given])


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    here = tmp_path_factory.mktemp("orders")
    write(here / "rows.csv", rows(300))
    (here / "config.yaml").write_text(CONFIG)
    return here


@pytest.fixture(scope="module")
def result(project, warm_steps):
    config = configuration.load(project / "config.yaml")
    return run.run(
        config, base_dir=project, output=project / "out", show=lambda _: None, steps=warm_steps
    )


def scored(result, source, *options):
    scores = source.with_suffix(".scores.csv")
    assert cli.main(["predict", result["model"], str(source), "-o", str(scores), *options]) == 0
    with scores.open() as file:
        return list(csv.DictReader(file))


def test_check_knows_them(project, capsys):
    assert cli.main(["config", "check", str(project / "config.yaml")]) == 0


def test_scored_file_and_requests_give_the_same(project, result):
    written = list(rows(300))
    from_file = [float(row["logits"]) for row in scored(result, project / "rows.csv")]
    model = tf.saved_model.load(result["model"])
    names = ["price", "off", "ordered", "arrived"]
    fields = {n: [row[HEADER.index(n)] for row in written] for n in names}
    out = model.signatures["serving_default"](**{n: tf.constant(t) for n, t in fields.items()})
    np.testing.assert_allclose(out["logits"].numpy().ravel(), from_file, rtol=1e-6)
    examples = []
    for row in written:
        feature = {
            n: tf.train.Feature(
                bytes_list=tf.train.BytesList(value=[row[HEADER.index(n)].encode()])
            )
            for n in names
            if row[HEADER.index(n)]
        }
        example = tf.train.Example(features=tf.train.Features(feature=feature))
        examples.append(example.SerializeToString())
    again = model.signatures["examples:predict"](examples=tf.constant(examples))
    np.testing.assert_array_equal(again["logits"], out["logits"])


def test_rows_that_cannot_be_read_are_left_out_and_told(project, result, capsys):
    source = project / "bad.csv"
    good, *others = list(rows(4))
    others[0][1] = "€5"
    others[1][3] = "2025-02-30"
    others[2][4] = ""
    write(source, [good, *others])
    assert len(scored(result, source, "--skip-bad-rows")) == 1
    told = capsys.readouterr()
    for field in ("price", "ordered", "arrived"):
        assert f"'{field}'" in told.out + told.err
