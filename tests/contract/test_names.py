"""A field may be called anything, from the file to the served model."""

import csv
import io
import random
import string

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.protobuf import saved_model_pb2

import estimator_lib
from components.steps import model as artifact
from estimator_lib import export, inputs
from estimator_lib.core import columns as fc
from estimator_lib.export.saved_model import load_model
from tests.examples import example, framed
from transforms.testing import Job

ODD = [
    "a b", "a_b", "Age", "age", "é", "è", "e\u0301", "[x]", "a/b", "1st", "features", "self", "a.b",
    'q"uo', "two\nlines", "tab\t", "x" * 300, "-", "raw.k", "a:0", "_u", "class", "", " ", "name",
    "\U0001f600", "%s", "a,b", "a=b", "label", "weights", "a\\b", " lead", "trail ", "A_X_B",
    "收入", "loss", "inputs", "examples", "input_00001", "{x}", "$", "'", "None", "²", "ß", "SS",
    "'=1+1",     "NA", "null", "..", "train", "kind", "args", "kwargs", "cls", "global_step",
]  # fmt: skip
NAMES = st.one_of(
    st.sampled_from(ODD),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
    st.text(string.printable, min_size=1, max_size=300),
)


# --- Signatures ---------------------------------------------------------------------------------


@settings(max_examples=8, deadline=None)
@given(names=st.lists(NAMES, min_size=1, max_size=25, unique=True))
def test_inputs_of_a_saved_model_are_called_as_the_fields_are(tmp_path_factory, names):
    path = tmp_path_factory.mktemp("named")
    specs = {
        name: tf.TensorSpec([None], tf.float32 if at % 2 else tf.string)
        for at, name in enumerate(names)
    }

    def model_fn(features, labels, mode):
        texts = [v for v in features.values() if v.dtype == tf.string]
        numbers = [tf.strings.as_string(v) for v in features.values() if v.dtype != tf.string]
        found = {"all": tf.strings.join([*texts, *numbers], "|")}
        output = export.PredictOutput(found)
        kept = tf.Variable(1.0)
        return estimator_lib.EstimatorSpec(
            mode,
            predictions=found,
            loss=kept,
            train_op=kept.assign_add(1.0),
            export_outputs={"serving_default": output},
        )

    model = estimator_lib.Estimator(model_fn, str(path / "model"))
    rows = {n: np.float32([1]) if at % 2 else np.array(["a"]) for at, n in enumerate(names)}
    model.train(lambda: tf.data.Dataset.from_tensors((rows, [0.0])), steps=1)
    place = model.export_saved_model(
        str(path / "e"), export.build_raw_serving_input_receiver_fn(specs)
    ).decode()
    proto = saved_model_pb2.SavedModel.FromString((path / place / "saved_model.pb").read_bytes())
    assert set(proto.meta_graphs[0].signature_def["serving_default"].inputs) == set(names)
    loaded = load_model(place)
    assert set(loaded.inputs) == set(names)
    given_ = {n: [float(at)] if at % 2 else [f"v{at}"] for at, n in enumerate(names)}
    (joined,) = loaded.predict(given_)["all"]
    texts = [f"v{at}" for at in range(0, len(names), 2)]
    assert joined.decode().split("|")[: len(texts)] == texts
    numbers = [float(one) for one in joined.decode().split("|")[len(texts) :]]
    assert numbers == [float(at) for at in range(1, len(names), 2)]


# --- The whole way ------------------------------------------------------------------------------

KINDS = {
    "numeric": {"default": "mean", "normalize": "moments"},
    "vocabulary": {},
    "hashed": {"buckets": 7},
    "identity": {"buckets": 4},
    "bucketized": {"quantiles": 3},
    "piecewise_linear": {"quantiles": 3},
    "periodic": {"frequencies": 2, "dimension": 2},
    "missing_indicator": {},
}
ROLES = ("key", "label", "weight", "slice", "crossed", *KINDS)


def written(form, rows):
    names = list(rows[0])
    if form == "csv":
        text = io.StringIO(newline="")
        sink = csv.writer(text, quoting=csv.QUOTE_ALL)
        sink.writerow(names)
        sink.writerows(row.values() for row in rows)
        return text.getvalue().encode()
    if form == "parquet":
        sink = io.BytesIO()
        pq.write_table(pa.table({n: [row[n] for row in rows] for n in names}), sink)
        return sink.getvalue()
    return b"".join(framed(example(row)) for row in rows)


def rows_of(fields, number=64):
    draw = random.Random(3)
    words = {"key": "", "slice": "uv", "label": ("no", "yes"), "crossed": "pq"}
    words |= dict.fromkeys(("vocabulary", "hashed"), ("p", "q", "r s"))

    def value(role, at):
        if role == "key":
            return f"k{at}"
        if role == "identity":
            return draw.randrange(4)
        return draw.choice(words[role]) if role in words else round(draw.random(), 3)

    return [{fields[role]: value(role, at) for role in fields} for at in range(number)]


def columns_of(fields):
    columns = {
        f"{kind} column": {"kind": kind, "field": fields[kind], **more}
        for kind, more in KINDS.items()
    }
    columns["cross"] = {"kind": "crossed", "of": [fields["crossed"], fields["slice"]], "buckets": 9}
    for kind in ("vocabulary", "hashed"):
        columns[f"{kind} vector"] = {"kind": "embedding", "of": f"{kind} column", "dimension": 2}
    return columns


DEEP = ("numeric column", "piecewise_linear column", "periodic column", "vocabulary vector",
        "hashed vector", "missing_indicator column")  # fmt: skip
WIDE = ("vocabulary column", "identity column", "bucketized column", "cross")


@pytest.mark.parametrize("form", ["csv", "parquet", "tfrecord"])
def test_fields_of_any_name_are_trained_on_and_served(tmp_path, form):
    seed = random.randrange(10**6)
    draw = random.Random(seed)
    names = draw.sample([name for name in ODD if name], len(ROLES))
    fields = dict(zip(ROLES, names, strict=True))
    print("seed", seed, fields)
    rows = rows_of(fields)
    job = Job(
        root=tmp_path,
        files={"all": [written(form, rows)]},
        columns=columns_of(fields),
        label={"field": fields["label"], "classes": ["no", "yes"]},
        weight=fields["weight"],
        keep=[fields["slice"]],
        data={
            "format": form,
            "files": ["data/*"],
            "split": {"hash": {"key": [fields["key"]], "eval_fraction": 0.3}},
        },
    )
    job.run()
    kept = job.table("train").column(f"raw.{fields['slice']}").to_pylist()
    assert set(kept) == {"u", "v"}
    declared = {n: fc.transformed(c) for n, c in artifact.read_columns(str(job.transform)).items()}
    model = estimator_lib.DNNLinearCombinedClassifier(
        str(tmp_path / "model"),
        linear_feature_columns=[declared[name] for name in WIDE],
        dnn_feature_columns=[declared[name] for name in DEEP],
        dnn_hidden_units=[3],
        weight_column=fields["weight"],
    )
    model.train(inputs.examples_input(str(job.examples), "train", batch_size=16), steps=2)
    receiver = export.build_transformed_serving_input_receiver_fn(str(job.transform))
    place = model.export_saved_model(str(tmp_path / "served"), receiver).decode()
    loaded = load_model(place, "predict")
    assert set(loaded.inputs) == {fields[role] for role in (*KINDS, "crossed", "slice")}
    served = loaded.predict({name: [row[name] for row in rows] for name in loaded.inputs})
    by_example = load_model(place, "examples:predict").predict(
        {"examples": [example(row) for row in rows]}
    )
    np.testing.assert_array_equal(served["probabilities"], by_example["probabilities"])
    assert served["probabilities"].std() > 0
    evaluation = inputs.examples_input(str(job.examples), "eval", batch_size=64)
    trained = [p["probabilities"][1] for p in model.predict(evaluation)]
    assert len(trained) > 5
    assert np.isin(np.round(trained, 5), np.round(served["probabilities"][:, 1], 5)).all()


def test_vocabularies_of_columns_with_like_names_are_kept_apart(tmp_path):
    fields = ["a?", "a!", "A_", "x" * 300, "a b", "a-b", "é" * 120]
    rows = [{**{f: f"{at}-{n % 2}" for at, f in enumerate(fields)}, "y": n % 2} for n in range(4)]
    job = Job(
        root=tmp_path,
        files={"train": [written("csv", rows)], "eval": [written("csv", rows)]},
        columns={f"c{at}": {"kind": "vocabulary", "field": f} for at, f in enumerate(fields)},
        label={"field": "y"},
    )
    job.run()
    found = {
        tuple(tf.data.TFRecordDataset(str(path), "GZIP").as_numpy_iterator())
        for path in (job.transform / "transform_fn" / "assets").iterdir()
    }
    assert found == {(b"%d-0" % at, b"%d-1" % at) for at in range(len(fields))}
