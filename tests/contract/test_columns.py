"""One suite that every feature column passes: JSON, both stages, bad batches, either model."""

import json
import math

import numpy as np
import pytest
import tensorflow as tf

from estimator_lib import LinearRegressor, variables
from estimator_lib.core import columns as fc
from estimator_lib.features.dense import dense_features
from estimator_lib.features.linear import linear_logits
from estimator_lib.features.sequences import sequence_features
from estimator_lib.features.transform import FeatureTransform

NUMBER = fc.numeric_column("f", default_value=1.0, normalizer_fn=fc.ZScore(mean=1.0, stddev=2.0))
PLAIN = fc.numeric_column("g")
TEXT = fc.categorical_column_with_vocabulary_list("s", ["a", "b"], num_oov_buckets=2)
INTEGER = fc.categorical_column_with_vocabulary_list("i", [5, 7])
BUCKETS = fc.bucketized_column(PLAIN, [0.0, 1.0])

CATEGORICAL = {
    "vocabulary": TEXT,
    "vocabulary of integers": INTEGER,
    "vocabulary with default": fc.categorical_column_with_vocabulary_list("s", ["a"], None, 0),
    "hash bucket": fc.categorical_column_with_hash_bucket("s", 7),
    "hash bucket of integers": fc.categorical_column_with_hash_bucket("i", 7, tf.int64),
    "identity": fc.categorical_column_with_identity("k", 4),
    "identity with default": fc.categorical_column_with_identity("i", 4, 0),
    "bucketized": BUCKETS,
    "crossed": fc.crossed_column(["s", "t"], 11),
    "crossed columns": fc.crossed_column([TEXT, BUCKETS, "t"], 11, hash_key=3),
    "weighted": fc.weighted_categorical_column(TEXT, "w"),
    "part of a date": fc.date_part_column("d", "month"),
}
DENSE = {
    "numeric": NUMBER,
    "numeric vector": fc.numeric_column("v", shape=2),
    "missing indicator": fc.missing_indicator_column("g"),
    "bucketized": BUCKETS,
    **{f"embedding of {name}": fc.embedding_column(c, 3) for name, c in CATEGORICAL.items()},
    **{f"indicator of {name}": fc.indicator_column(c) for name, c in CATEGORICAL.items()},
    "shared embedding": fc.shared_embeddings([TEXT], 3)[0],
    "embedding with max_norm": fc.embedding_column(TEXT, 3, max_norm=0.5),
    "embedding of automatic width": fc.embedding_column(TEXT),
    "piecewise linear": fc.piecewise_linear_embedding(PLAIN, [-1.0, 0.0, 1.0]),
    "piecewise linear layer": fc.piecewise_linear_embedding(PLAIN, [0.0], 3),
    "periodic": fc.periodic_embedding(NUMBER, frequencies=2, dimension=None),
    "periodic layer": fc.periodic_embedding(PLAIN, frequencies=2, dimension=5),
    "cyclic": fc.cyclic_date_column("d", "hour"),
    "age": fc.age_column("d", "2026-01-31", default_value=1.0),
    "age until a field": fc.age_column("d", until_field="e", unit="years"),
}
TEXTS = fc.sequence_categorical_column_with_vocabulary_list("ss", ["a", "b"], num_oov_buckets=1)
SEQUENCE = {
    "sequence of numbers": fc.sequence_numeric_column("ff", default_value=-1.0),
    "sequence of vectors": fc.sequence_numeric_column(
        "vv", 2, normalizer_fn=fc.ZScore(mean=1.0, stddev=2.0)
    ),
    "sequence of categories": fc.embedding_column(TEXTS, 3),
    "sequence of hashed": fc.indicator_column(
        fc.sequence_categorical_column_with_hash_bucket("ss", 5)
    ),
    "sequence of ids": fc.embedding_column(
        fc.sequence_categorical_column_with_identity("kk", 4), max_norm=0.1
    ),
}
ALL = CATEGORICAL | DENSE | SEQUENCE
NAN = math.nan
FORMS = {0: slice(0, 0), 1: slice(0, 1), 4: slice(0, 4)}


def raw(batch=4):
    rows = FORMS[batch]
    return {
        "f": tf.constant([np.nan, 1.0, 3.0, -1.0][rows], tf.float32),
        "g": tf.constant([0.5, np.nan, -3.0, 2.0][rows], tf.float32),
        "v": tf.constant(np.float32([[1, 2], [3, 4], [5, 6], [7, 8]])[rows]),
        "w": tf.constant([1.0, 2.0, 0.5, np.nan][rows], tf.float32),
        "d": tf.constant(["2024-02-29 12:30", "", "1900-01-01", "2026-01-31"][rows], tf.string),
        "e": tf.constant(["2024-03-01", "2024-03-01", "1800-01-01", "2026-01-31"][rows], tf.string),
        "s": tf.constant(["a", "", "unseen", "b"][rows], tf.string),
        "t": tf.constant(["x", "y", "", "y"][rows], tf.string),
        "i": tf.constant([5, fc.MISSING_INT, 9, 7][rows], tf.int64),
        "k": tf.constant([0, -1, 3, fc.MISSING_INT][rows], tf.int64),
        "ss": tf.constant([["a", "zz"], ["", ""], ["b", ""], ["a", "b"]], tf.string)[rows],
        "ff": tf.constant([[1, 2], [NAN, NAN], [3, NAN], [4, 5]], tf.float32)[rows],
        "vv": tf.constant([[1, 2, 3, 4], [NAN] * 4, [5, 6, NAN, NAN], [7, 8, 9, 9]], tf.float32)[
            rows
        ],
        "kk": tf.constant([[3, 1], [-1, -1], [0, -1], [2, 2]], tf.int64)[rows],
    }


def run(function, features):
    """What a model's function gives for the batches of FORMS, of one trace for any batch."""
    store = variables.VariableStore()
    tf.random.set_seed(7)

    def model(features):
        with variables.trace(store):
            return function(features)

    model(features)  # makes the variables
    specs = {k: tf.TensorSpec([None, *v.shape[1:]], v.dtype) for k, v in features.items()}
    traced = tf.function(model, autograph=False, input_signature=[specs])
    found = (traced({k: v[rows] for k, v in features.items()}) for rows in FORMS.values())
    return [tf.nest.map_structure(lambda t: t.numpy(), values) for values in found]


def learned(column):
    """Whether the dense form has weights, which differ between two stores."""
    layer = isinstance(column, fc.PiecewiseLinearColumn) and column.dimension
    return isinstance(column, fc.EmbeddingColumn | fc.PeriodicColumn) or layer


@pytest.fixture(params=ALL)
def column(request):
    return ALL[request.param]


def test_every_kind_is_tried():
    tried = [c for column in ALL.values() for c in fc.walk([column, fc.transformed(column)])]
    assert {column.kind for column in tried} == set(fc.kinds())


def test_json_gives_an_equal_column(column):
    content = json.loads(json.dumps(fc.to_json(column)))
    assert fc.from_json(content) == column


def test_resolved_columns_have_nothing_open(column):
    assert fc.resolve(column, lambda field, part: pytest.fail(f"{field} {part}")) == column
    assert not any(fc.open_parts(c) for c in fc.walk([column]))


def test_raw_fields_are_all_that_is_read(column):
    fields = fc.raw_fields([column])
    assert set(fields) <= set(raw())
    only = {name: value for name, value in raw().items() if name in fields}
    FeatureTransform([column])(only)


@pytest.mark.parametrize("batch", FORMS)
def test_transformed_features_have_one_value_per_example(column, batch):
    out = FeatureTransform([column])(raw(batch))
    assert set(out) == set(fc.feature_sources([column]))
    for value in out.values():
        assert value.shape[0] == batch
        assert value.dtype in (tf.int64, tf.float32)


def test_model_reads_raw_and_transformed_features_alike(column):
    features = raw()
    ready = FeatureTransform([column])(features)
    read = fc.transformed(column)
    if fc.is_sequence(column):
        from_raw = run(lambda f: sequence_features([column], f), features)
        from_ready = run(lambda f: sequence_features([read], f), ready)
        for batch, (values, lengths), (same, also) in zip(FORMS, from_raw, from_ready, strict=True):
            assert values.shape == same.shape == (batch, 2, values.shape[2])
            if not isinstance(column, fc.EmbeddingColumn):
                np.testing.assert_array_equal(values, same)
            np.testing.assert_array_equal(lengths, [2, 0, 1, 2][:batch])
            np.testing.assert_array_equal(lengths, also)
        return
    from_raw = run(lambda f: both_models(column, f), features)
    from_ready = run(lambda f: both_models(read, f), ready)
    for batch, values, same in zip(FORMS, from_raw, from_ready, strict=True):
        for units in (1, 2):
            assert values[f"linear {units}"].shape == (batch, units)
            assert same[f"linear {units}"].shape == (batch, units)
        if "dense" in values:
            assert values["dense"].shape == same["dense"].shape
            assert values["dense"].dtype == np.float32
            if not learned(column):  # tables differ between the two stores
                np.testing.assert_array_equal(values["dense"], same["dense"])


def both_models(column, features):
    """A column in a dense model, if it can be there, and in linear ones of one and two units."""
    found = {}
    for units in (1, 2):
        with variables.scope(f"units_{units}"):
            found[f"linear {units}"] = linear_logits([column], features, units)
    if isinstance(column, fc.DenseColumn):
        found["dense"] = dense_features([column], features)
    return found


def test_missing_categories_are_zeros_in_a_dense_model(column):
    if not isinstance(column, fc.EmbeddingColumn | fc.IndicatorColumn) or fc.is_sequence(column):
        return
    sources = fc.feature_sources([column])
    ids = next(
        FeatureTransform([column])(raw())[name]
        for name, c in sources.items()
        if isinstance(c, fc.CategoricalColumn)
    )
    out = run(lambda f: dense_features([column], f), raw())[-1]
    for row, category in zip(out, ids.numpy(), strict=True):
        assert category >= 0 or not row.any()


@pytest.mark.parametrize(
    ("name", "combiner", "predictions"),
    [
        ("ids", "sum", [0.7873867, 0.99545]),
        ("texts", "sum", [0.7972551, 0.7974784]),
        ("ids", "mean", [0.37192276, 0.38773903]),
    ],
)
def test_categories_of_more_dimensions_give_the_predictions_of_upstream(
    name, combiner, predictions, tmp_path
):
    """The numbers are those of tf.estimator 2.15 after one step of the default Ftrl."""
    features = {
        "ids": np.int64([[[0, 1], [2, -1]], [[3, 3], [1, 0]]]),
        "texts": np.array([[["a", "b"], ["", "c"]], [["a", "a"], ["b", ""]]]),
    }
    columns = {
        "ids": tf.feature_column.categorical_column_with_identity("ids", 4),
        "texts": tf.feature_column.categorical_column_with_hash_bucket("texts", 5),
    }

    def input_fn():
        return tf.data.Dataset.from_tensors((features, np.float32([1, 2])))

    model = LinearRegressor([columns[name]], model_dir=str(tmp_path), sparse_combiner=combiner)
    model.train(input_fn, steps=1)
    found = [row["predictions"][0] for row in model.predict(input_fn)]
    np.testing.assert_allclose(found, predictions, rtol=1e-5)
