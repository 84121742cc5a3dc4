"""Every kind of column, learned from the worst tables: what a model reads is finite and bounded."""

import json
import math
import typing

import numpy as np
import pytest
import tensorflow as tf

from estimator_lib import variables
from estimator_lib.core import columns as fc
from estimator_lib.core.errors import DataError
from estimator_lib.features.dense import dense_features
from estimator_lib.features.linear import linear_logits
from estimator_lib.features.sequences import sequence_features
from transforms.testing import Job

COLUMNS = {
    "number": {"kind": "numeric", "field": "x", "normalize": "moments", "default": "mean"},
    "absent": {"kind": "missing_indicator", "field": "x"},
    "cut": {"kind": "bucketized", "field": "x", "quantiles": 4},
    "fixed": {"kind": "bucketized", "field": "z", "boundaries": [-1e30, 0, 1e-40, 1e30]},
    "way": {"kind": "piecewise_linear", "field": "x", "quantiles": 4},
    "waves": {"kind": "periodic", "field": "z", "frequencies": 3},
    "text": {"kind": "vocabulary", "field": "s", "oov_buckets": 2},
    "hash": {"kind": "hashed", "field": "h", "buckets": 3},
    "ids": {"kind": "identity", "field": "k", "buckets": 3, "default": 0},
    "pair": {"kind": "crossed", "of": ["text", "cut", "ids"], "buckets": 5},
    "list": {"kind": "vocabulary", "field": "l"},
    "heavy": {"kind": "weighted", "of": "list", "weights": "w"},
    "heavy_vector": {"kind": "embedding", "of": "heavy", "dimension": 2},
    "ordered": {"kind": "sequence", "of": "list"},
    "ordered_vector": {"kind": "embedding", "of": "ordered", "dimension": 2},
    "numbers": {"kind": "sequence_numeric", "field": "v"},
    "hot": {"kind": "indicator", "of": "text"},
    "vector": {"kind": "embedding", "of": "pair"},
    "month": {"kind": "date_part", "field": "d", "part": "month"},
    "circle": {"kind": "cyclic", "field": "d", "part": "hour"},
    "age": {
        "kind": "age", "field": "d", "until": "2026-01-31", "unit": "seconds",
        "normalize": "moments", "default": "mean",
    },
}  # fmt: skip
NUMBERS_OF = {"kind": "float", "separator": "|"}
HUGE, TINY = 3.4e38, 1e-45
NUMBERS = {
    "ties": [0, 0, 1, 1, 1, 2, 2, 2],
    "a constant": [5] * 6,
    "a large constant": [HUGE] * 3,
    "mostly zeros": [0] * 60 + [99_999, 100, 7],
    "both ends": [HUGE, -HUGE, HUGE, -HUGE],
    "no larger than float32 can tell apart": [16_777_216, 16_777_217, 16_777_218],
    "denormal": [TINY, 2 * TINY, 0, -TINY],
    "one far off": [*range(50), HUGE],
    "one row": [3],
    "one value": ["", 3, "", ""],
}
KEYS = [0, 2**63 - 1, -(2**63) + 1, -1, ""]
TEXTS = ["a", "", "é" * 300, "\u202e", "'", "0", "NaN"]
DATES = ["0001-01-01", "9999-12-31 23:59:59.999999999", "", "2026-01-31"]


def row(i, number):
    text = TEXTS[i % len(TEXTS)]
    known = "" if number == "" else f"{float(number):.9g}"
    numbers, weights = f"{known or 0}|{i % 3}", f"{i % 2}|{1e30 * (i % 3)}"
    date = DATES[i % len(DATES)]
    listed = f"{TEXTS[i % 3]}|b"
    return [known, known or "0", text, text, KEYS[i % len(KEYS)], listed, weights, numbers, date]


def table(numbers):
    lines = [",".join(map(str, [*row(i, n), i % 2])) for i, n in enumerate(numbers)]
    return "\n".join(["x,z,s,h,k,l,w,v,d,y", *lines]) + "\n"


def job(root, numbers):
    return Job(
        root=root,
        files={"train": [table(numbers)], "eval": [table([1])]},
        columns=COLUMNS,
        label={"field": "y"},
        data={
            "types": {"k": "int"},
            "fields": {"l": {"separator": "|"}, "w": NUMBERS_OF, "v": NUMBERS_OF},
        },
    )


def test_every_kind_is_tried():
    kinds = {typing.get_args(k.model_fields["kind"].annotation)[0] for k in fc.declarations()}
    assert {column["kind"] for column in COLUMNS.values()} == kinds


@pytest.mark.parametrize("numbers", NUMBERS.values(), ids=NUMBERS)
def test_what_a_model_reads_is_finite_and_bounded(tmp_path, numbers):
    made = job(tmp_path, numbers)
    made.run()
    columns = resolved(made)
    module = tf.saved_model.load(str(made.transform / "transform_fn"))
    learned = check(columns, module.transform_fn(request(numbers)))
    assert np.abs(learned["number"]).max() <= 2 + math.sqrt(len(numbers))
    # What comes later may be anything.
    check(columns, module.transform_fn(request([0, 1, -1, HUGE, -HUGE, TINY, -TINY, ""])))


def resolved(made):
    content = json.loads((made.transform / "columns.json").read_text())["columns"]
    return {name: fc.from_json(column) for name, column in content.items()}


def request(numbers):
    rows = [row(i, number) for i, number in enumerate(numbers)]
    x, z, s, h, k, lists, weights, several, dates = zip(*rows, strict=True)
    return {
        "x": tf.constant([float(v or math.nan) for v in x], tf.float32),
        "z": tf.constant([float(v) for v in z], tf.float32),
        "s": tf.constant(s),
        "h": tf.constant(h),
        "k": tf.constant([fc.MISSING_INT if v == "" else v for v in k], tf.int64),
        "d": tf.constant(dates),
        "l": tf.ragged.constant([v.split("|") for v in lists]).to_sparse(),
        "w": floats(weights),
        "v": floats(several),
    }


def floats(texts):
    return tf.ragged.constant([[float(part) for part in t.split("|")] for t in texts]).to_sparse()


def check(columns, features):
    """Every column's numbers and logits, of weights that are not zero, by name."""
    found = {}
    for name, column in columns.items():
        read = fc.transformed(column)
        with variables.trace(variables.VariableStore()):
            tf.random.set_seed(1)
            if fc.is_sequence(column):
                if not isinstance(column, fc.DenseColumn):
                    continue
                values, _ = sequence_features([read], features)
            elif isinstance(column, fc.DenseColumn):
                values = dense_features([read], features)
            else:
                values = linear_logits([read], features, 1)
        assert np.all(np.isfinite(values)), name
        found[name] = values.numpy()
    for name in ("absent", "cut", "fixed", "way", "hot", "circle"):
        assert np.abs(found[name]).max() <= 1, name
    return found


@pytest.mark.parametrize("name", ["number", "cut", "way"])
def test_column_that_has_nothing_to_learn_from_is_refused_by_name(tmp_path, name):
    with pytest.raises(DataError, match=f"Column '{name}' cannot learn"):
        job(tmp_path, ["", ""]).run()
