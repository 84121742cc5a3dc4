"""Numbers with a unit: one number in every reader, in training and served."""

import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from estimator_lib.core import manifest
from estimator_lib.core.errors import ConfigError, DataError
from estimator_lib.core.units import Unit
from estimator_lib.features import texts
from pipelines import cli
from transforms.reading.values import texts as shortest
from transforms.testing import Job

COLUMNS = {
    "rate": {"kind": "numeric", "normalize": "moments", "default": 0.0},
    "price": {"kind": "numeric"},
    "cut": {"kind": "bucketized", "field": "price", "quantiles": 3},
}
RATES = [0.125, -0.005, 0.1, 1.0]
PRICES = [1234.5, -0.99, 1e6, 5.0]
DOLLARS = {"units": {"rate": "%", "price": "$"}, "thousands": ","}
EUROS = {"units": {"rate": "%", "price": "€"}, "thousands": ".", "decimal": ",", "delimiter": ";"}
AMERICAN = (["12.5%", "-.5 %", "0.1", "+100.0%"], ["$1,234.50", "-$0.99", "$ 1,000,000", "5"])
EUROPEAN = (["12,5 %", "-0,5%", "0,1", "100%"], ["1.234,50 €", "€-0,99", "1.000.000\u00a0€", "5,"])


def csv(columns, delimiter=","):
    rows = zip(*columns, "0101", strict=True)
    lines = (delimiter.join(f'"{value}"' for value in row) for row in rows)
    return "\n".join([delimiter.join(["rate", "price", "y"]), *lines]) + "\n"


def parquet(rates, prices):
    table = pa.table({"rate": rates, "price": prices, "y": [0, 1, 0, 1]})
    pq.write_table(table, sink := pa.BufferOutputStream())
    return sink.getvalue().to_pybytes()


def tfrecord(rates, prices, path):
    with tf.io.TFRecordWriter(str(path)) as sink:
        for rate, price, label in zip(rates, prices, [0, 1, 0, 1], strict=True):
            feature = {
                "rate": tf.train.Feature(bytes_list=tf.train.BytesList(value=[rate.encode()])),
                "price": tf.train.Feature(bytes_list=tf.train.BytesList(value=[price.encode()])),
                "y": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
            }
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            sink.write(example.SerializeToString())
    return path.read_bytes()


def job(root, content, suffix=".csv", columns=COLUMNS, **data):
    files = {"train": [content], "eval": [content]}
    return Job(root=root, files=files, columns=columns, label={"field": "y"}, suffix=suffix,
               data=data)  # fmt: skip


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    made = job(tmp_path_factory.mktemp("units"), csv(AMERICAN), **DOLLARS)
    made.run()
    return made


def features(made):
    return made.table().select(["rate", "price", "price_bucketized"])


def test_examples_hold_the_numbers(done):
    scaled = (np.array(RATES) - np.mean(RATES)) / np.std(RATES)
    np.testing.assert_allclose(done.table()["rate"], scaled, rtol=1e-6)
    np.testing.assert_array_equal(done.table()["price"], np.float32(PRICES))


@pytest.mark.parametrize("form", ["euros", "texts", "numbers", "tf.Example"])
def test_any_reader_gives_the_same_examples(done, tmp_path, form):
    marks = {key: value for key, value in DOLLARS.items() if key != "delimiter"}
    if form == "euros":
        other = job(tmp_path, csv(EUROPEAN, ";"), **EUROS)
    elif form == "tf.Example":
        content = tfrecord(*AMERICAN, tmp_path / "written")
        other = job(tmp_path, content, ".tfrecord", format="tfrecord", **marks)
    else:
        columns = AMERICAN if form == "texts" else (RATES, PRICES)
        other = job(tmp_path, parquet(*columns), ".parquet", format="parquet", **marks)
    other.run()
    assert features(other).equals(features(done))


def served(made, rates, prices):
    transform = tf.saved_model.load(str(made.transform / "transform_fn")).transform_fn
    return transform({"rate": tf.constant(rates), "price": tf.constant(prices)})


def test_request_is_transformed_as_the_examples_were(done, tmp_path):
    for name, values in served(done, *AMERICAN).items():
        np.testing.assert_array_equal(values, done.table()[name], name)
    euros = job(tmp_path, csv(EUROPEAN, ";"), **EUROS)
    euros.run()
    for name, values in served(euros, *EUROPEAN).items():
        np.testing.assert_array_equal(values, done.table()[name], name)


def content(made):
    return manifest.read(made.examples, kind="examples").metadata["transform_content"]


def test_a_transform_is_another_one_with_another_unit(done, tmp_path):
    alike = job(tmp_path / "a", csv(AMERICAN), **DOLLARS)
    alike.run()
    assert content(alike) == content(done)
    plain = csv([["0.1", "0.2", "0.3", "0.4"], ["1", "2", "3", "4"]])
    columns = {"price": {"kind": "numeric"}}  # learns nothing, so that only the unit differs
    found = set()
    for at, units in enumerate(({}, {"price": "$"}, {"price": "€"}, {"price": "%"})):
        made = job(tmp_path / str(at), plain, columns=columns, units=units)
        made.run()
        found.add(content(made))
    assert len(found) == 4


def test_label_may_have_a_unit(tmp_path):
    made = job(tmp_path, csv(AMERICAN), columns={"rate": COLUMNS["rate"]}, **DOLLARS)
    made.label = {"field": "price", "kind": "number"}
    made.run()
    np.testing.assert_array_equal(made.table()["price"], np.float32(PRICES))


def test_files_are_judged_by_the_schema_of_a_run(done, capsys):
    command = ["validate", str(done.root / "data" / "train-0.csv")]
    command += ["--schema", str(done.statistics / "schema.pbtxt"), "--csv", "thousands=,"]
    assert cli.main(command) == 2
    capsys.readouterr()
    assert cli.main([*command, "--unit", "rate=%", "--unit", "price=$"]) == 0
    assert "as the schema says" in capsys.readouterr().out


def test_kept_rows_are_requests_that_give_the_same(done, tmp_path):
    euros = job(tmp_path, csv(EUROPEAN, ";"), **EUROS)
    euros.run()
    for made in (done, euros):
        kept = pq.read_table(made.examples / "raw_sample.parquet")
        found = served(made, kept["rate"].to_pylist(), kept["price"].to_pylist())
        np.testing.assert_array_equal(found["rate"], made.table("eval")["rate"])
        np.testing.assert_array_equal(found["price"], made.table("eval")["price"])


@pytest.mark.parametrize("wrong", ["€5", "5 EUR", "five", "1.234,50", "$5$", "1,23"])
def test_request_with_another_unit_is_missing_or_refused(done, wrong):
    with pytest.raises(tf.errors.InvalidArgumentError, match="price"):
        served(done, ["1%"], [wrong])
    (rate,) = served(done, [wrong], ["$1"])["rate"].numpy()
    (default,) = served(done, [""], ["$1"])["rate"].numpy()
    assert rate == default


@pytest.mark.parametrize("wrong", ["€5", "5 EUR", "five", "1.234,50", "$5$", "1,23"])
def test_record_with_another_unit_is_refused(tmp_path, wrong):
    columns = ([*AMERICAN[0]], [*AMERICAN[1][:3], wrong])
    with pytest.raises(DataError, match=r"'price' cannot be read: .*in '\$', got") as caught:
        job(tmp_path, csv(columns), **DOLLARS).run()
    assert "train-0.csv:5" in caught.value.message


@pytest.mark.parametrize(("written", "sign"), [("12.5%", "%"), ("$5", r"\$"), ("5 kg", "kg")])
def test_unit_that_is_not_declared_is_refused_with_the_option(tmp_path, written, sign):
    columns = ([written] * 4, ["1", "2", "3", "4"])
    with pytest.raises(DataError, match=f"add units: {{rate: '{sign}'}} to data"):
        job(tmp_path, csv(columns), types={"rate": "float"}).run()


@pytest.mark.parametrize(
    ("data", "columns"),
    [
        ({"units": {"rate": "5"}}, COLUMNS),
        ({"units": {"rate": " "}}, COLUMNS),
        ({"units": {"rate": "%"}, "types": {"rate": "int"}}, COLUMNS),
        ({"units": {"price": "$"}}, {"price": {"kind": "vocabulary"}}),
    ],
)
def test_unit_that_cannot_be_is_refused(tmp_path, data, columns):
    with pytest.raises((ConfigError, ValueError), match="units"):
        job(tmp_path, csv(AMERICAN), columns=columns, **data).run()


@pytest.mark.parametrize("unit", [
    Unit(sign="%"), Unit(sign="$", thousands=","), Unit(sign="€", decimal=",", thousands="."),
    Unit(sign="kg", decimal=",", thousands=" "), Unit(sign="CHF", thousands="'"),
])  # fmt: skip
def test_graph_reads_what_python_reads(unit):
    chosen = random.Random(unit.sign)
    parts = ["", "-", "+", unit.sign, " ", "\u00a0", "1", "12", "123", "1234", "0", unit.decimal,
             unit.thousands, "5", "e-7", "e3", "%", "."]  # fmt: skip
    given = ["".join(chosen.choices(parts, k=chosen.randint(0, 6))) for _ in range(4000)]
    given += [f"{number!r}".replace(".", unit.decimal) for number in (0.1, 1e-7, 1e16, 3.4e38)]
    expected = [unit.number(text) for text in given]
    assert 200 < sum(number is not None for number in expected) < 3000
    found = texts.numbers(tf.constant(given), unit).numpy()
    known = np.array([np.nan if number is None else number for number in expected])
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(found, known.astype(np.float32))


def test_texts_of_numbers_are_read_as_these_numbers():
    numbers = np.random.default_rng(0).normal(size=200) * 10.0 ** np.arange(-10, 10).repeat(10)
    unit = Unit(sign="%", decimal=",", thousands=".")
    written = [text.replace(".", ",") for text in shortest(pa.array(numbers)).to_pylist()]
    assert [unit.number(text) for text in written] == numbers.tolist()
