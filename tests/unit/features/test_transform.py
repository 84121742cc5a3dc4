"""The lowering of stage 1 against tf.feature_column itself."""

import math

import numpy as np
import pytest
import tensorflow as tf

from estimator_lib.core import columns as fc
from estimator_lib.core.errors import ConfigError, Reason, SchemaError
from estimator_lib.features.transform import FeatureTransform, transform_features

pytestmark = pytest.mark.filterwarnings("ignore")

STRINGS = ["AA", "", "nowhere", "ünï", "B6", "AA"]
INTS = [3, -1, 7, 0, 2**40, fc.MISSING_INT]


def upstream_ids(column, raw):
    """Ids per row of a tf.feature_column column on sparse features; [] when missing."""
    from tensorflow.python.feature_column import feature_column_v2 as v2

    sparse = {}
    for key, values in raw.items():
        values = tf.constant(values)
        missing = "" if values.dtype == tf.string else -1
        mask = values != missing if values.dtype != tf.float32 else tf.ones_like(values, tf.bool)
        indices = tf.where(mask)
        indices = tf.stack([indices[:, 0], tf.zeros_like(indices[:, 0])], 1)
        sparse[key] = (
            tf.SparseTensor(indices, tf.boolean_mask(values, mask), [len(values), 1])
            if values.dtype != tf.float32
            else values[:, None]
        )
    out = column.get_sparse_tensors(v2.FeatureTransformationCache(sparse), None).id_tensor
    return tf.sparse.to_dense(out, default_value=-9).numpy()[:, 0].tolist() if out.shape[1] else []


def ids(column, raw):
    return transform_features([column], raw)[column.name].numpy().tolist()


def test_hash_bucket_of_strings_is_that_of_feature_column():
    raw = {"x": STRINGS}
    expected = upstream_ids(tf.feature_column.categorical_column_with_hash_bucket("x", 97), raw)
    got = ids(fc.categorical_column_with_hash_bucket("x", 97), {"x": tf.constant(STRINGS)})
    assert got == [-1 if e == -9 else e for e in expected]


def test_hash_bucket_of_integers_is_that_of_feature_column():
    values = tf.constant(INTS, tf.int64)
    up = tf.feature_column.categorical_column_with_hash_bucket("x", 97, tf.int64)
    expected = upstream_ids(up, {"x": np.array(INTS[:5], np.int64)})
    got = ids(fc.categorical_column_with_hash_bucket("x", 97, tf.int64), {"x": values})
    assert got == [-1 if e == -9 else e for e in expected] + [-1]


@pytest.mark.parametrize("hash_key", [None, 0, 12345])
def test_cross_of_fields_is_that_of_feature_column(hash_key):
    raw = {"a": STRINGS, "b": STRINGS[::-1], "c": ["x"] * 6}
    up = tf.feature_column.crossed_column(["b", "a", "c"], 1009, hash_key)
    expected = upstream_ids(up, raw)
    ours = fc.crossed_column(["b", "a", "c"], 1009, hash_key)
    got = ids(ours, {k: tf.constant(v) for k, v in raw.items()})
    assert got == [-1 if e == -9 else e for e in expected]


def test_cross_of_columns_is_that_of_feature_column():
    raw = {"h": np.float32([1, 6, 9, 25, 6, 2]), "a": STRINGS, "v": ["p", "q", "zz", "", "p", "q"]}

    def build(module):
        hour = module.bucketized_column(module.numeric_column("h"), [6, 9])
        # Unseen without an out-of-vocabulary bucket: id -1 is crossed, not dropped.
        vocabulary = module.categorical_column_with_vocabulary_list("v", ["p", "q"])
        return module.crossed_column(["a", hour, vocabulary], 5000)

    expected = upstream_ids(build(tf.feature_column), raw)
    got = ids(build(fc), {k: tf.constant(v) for k, v in raw.items()})
    assert got == [-1 if e == -9 else e for e in expected]


def test_nested_cross_is_that_of_feature_column():
    raw = {"a": STRINGS, "b": STRINGS[::-1], "c": ["x", "y"] * 3}

    def build(module):
        return module.crossed_column([module.crossed_column(["a", "b"], 7), "c"], 5000)

    expected = upstream_ids(build(tf.feature_column), raw)
    got = ids(build(fc), {k: tf.constant(v) for k, v in raw.items()})
    assert got == [-1 if e == -9 else e for e in expected]


@pytest.mark.parametrize("num_oov_buckets", [0, 1, 5])
def test_vocabulary_list_is_that_of_feature_column(num_oov_buckets):
    arguments = ("x", ["B6", "AA"], None, -1, num_oov_buckets)
    raw = {"x": STRINGS}
    up = tf.feature_column.categorical_column_with_vocabulary_list(*arguments)
    expected = upstream_ids(up, raw)
    ours = fc.categorical_column_with_vocabulary_list(*arguments)
    got = ids(ours, {"x": tf.constant(STRINGS)})
    assert got == [-1 if e in (-9, -1) else e for e in expected]


def test_integer_vocabulary_is_that_of_feature_column():
    arguments = ("x", [7, 3], tf.int64, -1, 4)
    expected = upstream_ids(
        tf.feature_column.categorical_column_with_vocabulary_list(*arguments),
        {"x": np.array(INTS[:5], np.int64)},
    )
    ours = fc.categorical_column_with_vocabulary_list(*arguments)
    got = ids(ours, {"x": tf.constant(INTS, tf.int64)})
    assert got == [-1 if e == -9 else e for e in expected] + [-1]


def test_identity_outside_range_raises_naming_the_column():
    column = fc.categorical_column_with_identity("x", 3)
    assert ids(column, {"x": tf.constant([0, -1, 2, fc.MISSING_INT], tf.int64)}) == [0, -1, 2, -1]
    with pytest.raises(tf.errors.InvalidArgumentError, match="'x' read an id outside"):
        ids(column, {"x": tf.constant([0, 3], tf.int64)})
    with_default = fc.categorical_column_with_identity("x", 3, default_value=1)
    assert ids(with_default, {"x": tf.constant([0, 9, -1], tf.int64)}) == [0, 1, -1]


def test_bucketized_nan_is_missing_and_boundaries_belong_to_the_right():
    column = fc.bucketized_column(fc.numeric_column("x"), [0.0, 10.0])
    values = tf.constant([-1.0, 0.0, 9.9, 10.0, math.nan])
    assert ids(column, {"x": values}) == [0, 1, 1, 2, -1]


def test_numeric_default_and_z_score_and_missing_indicator():
    column = fc.numeric_column("x", default_value=4.0, normalizer_fn=fc.ZScore(mean=2, stddev=2))
    flag = fc.missing_indicator_column("x")
    out = transform_features([column, flag], {"x": tf.constant([[2.0], [math.nan], [6.0]])})
    np.testing.assert_array_equal(out["x"], [0, 1, 2])
    np.testing.assert_array_equal(out["x_missing"], [0, 1, 0])
    assert out["x"].dtype == out["x_missing"].dtype == tf.float32
    constant = fc.numeric_column("x", normalizer_fn=fc.ZScore(mean=2, stddev=0))
    np.testing.assert_array_equal(
        transform_features([constant], {"x": tf.constant([2.0, 5.0])})["x"], [0, 0]
    )
    np.testing.assert_array_equal(
        transform_features([flag], {"x": tf.constant(["a", ""])})["x_missing"], [0, 1]
    )


def test_numeric_of_integers_reads_the_missing_integer_as_nan():
    column = fc.numeric_column("x")
    out = transform_features([column], {"x": tf.constant([1, fc.MISSING_INT], tf.int64)})["x"]
    np.testing.assert_array_equal(out, [1, math.nan])


def test_numeric_vector_keeps_its_width():
    column = fc.numeric_column("x", shape=(2, 2))
    out = transform_features([column], {"x": tf.ones([3, 2, 2])})["x"]
    assert out.shape == (3, 4)


@pytest.mark.parametrize("make", ["sparse", "ragged", "dense"])
def test_several_values_are_padded_with_missing(make):
    rows = {
        "sparse": tf.SparseTensor([[0, 0], [0, 1], [2, 0]], ["a", "b", "zz"], [3, 2]),
        "ragged": tf.ragged.constant([["a", "b"], [], ["zz"]]),
        "dense": tf.constant([["a", "b"], ["", ""], ["zz", ""]]),
    }[make]
    column = fc.categorical_column_with_vocabulary_list("x", ["a", "b"], num_oov_buckets=1)
    cross = fc.crossed_column(["x", "y"], 50)
    raw = {"x": rows, "y": tf.constant([["u", "w"], ["u", ""], ["u", ""]])}
    assert ids(column, raw) == [[0, 1], [-1, -1], [2, -1]]
    up = tf.feature_column.crossed_column(["x", "y"], 50)
    sparse_y = tf.SparseTensor([[0, 0], [0, 1], [1, 0], [2, 0]], ["u", "w", "u", "u"], [3, 2])
    sparse_x = tf.SparseTensor([[0, 0], [0, 1], [2, 0]], ["a", "b", "zz"], [3, 2])
    from tensorflow.python.feature_column import feature_column_v2 as v2

    cache = v2.FeatureTransformationCache({"x": sparse_x, "y": sparse_y})
    expected = tf.sparse.to_dense(up.get_sparse_tensors(cache, None).id_tensor, -1).numpy()
    got = ids(cross, raw)
    for ours, theirs in zip(got, expected.tolist(), strict=True):
        assert [i for i in ours if i >= 0] == [i for i in theirs if i >= 0]


def every_column():
    text = fc.categorical_column_with_vocabulary_list("s", ["a", "b"], num_oov_buckets=1)
    number = fc.numeric_column("f")
    return [
        text,
        number,
        fc.missing_indicator_column("f"),
        fc.bucketized_column(number, [0.0]),
        fc.crossed_column(["s", "t"], 10),
        fc.categorical_column_with_hash_bucket("t", 10),
        fc.categorical_column_with_identity("i", 4),
        fc.embedding_column(text, 2),
    ]


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_every_column_works_for_any_batch_in_a_saved_model(batch, tmp_path):
    columns = every_column()
    signature = {
        "s": tf.TensorSpec([None], tf.string),
        "t": tf.TensorSpec([None], tf.string),
        "f": tf.TensorSpec([None], tf.float32),
        "i": tf.TensorSpec([None], tf.int64),
    }
    module = tf.Module()
    module.transform = FeatureTransform(columns)
    module.serve = tf.function(lambda raw: module.transform(raw), input_signature=[signature])
    raw = {
        "s": tf.constant(["a", "", "zz"][:batch], tf.string),
        "t": tf.constant(["a", "", "zz"][:batch], tf.string),
        "f": tf.constant([1.0, math.nan, -1.0][:batch], tf.float32),
        "i": tf.constant([1, -1, 3][:batch], tf.int64),
    }
    tf.saved_model.save(module, str(tmp_path / "m"))
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    expected = transform_features(columns, raw)
    for name, value in loaded.serve(raw).items():
        assert value.shape == (batch,)
        np.testing.assert_array_equal(value, expected[name])
    assert set(expected) == set(fc.feature_sources(columns))


def test_missing_field_names_column_and_nearest_field():
    with pytest.raises(SchemaError, match="Did you mean 'carrier'") as caught:
        ids(fc.categorical_column_with_hash_bucket("carier", 5), {"carrier": tf.constant(["a"])})
    assert caught.value.reason == Reason.FIELD_MISSING


def test_wrong_type_is_refused():
    with pytest.raises(SchemaError) as caught:
        ids(fc.categorical_column_with_hash_bucket("x", 5), {"x": tf.constant([1.0])})
    assert caught.value.reason == Reason.TYPE_MISMATCH
    with pytest.raises(SchemaError):
        transform_features([fc.numeric_column("x")], {"x": tf.constant(["1"])})


def test_unresolved_columns_are_refused():
    for column in (
        fc.categorical_column_with_vocabulary("x"),
        fc.bucketized_column(fc.numeric_column("x"), fc.Quantiles(buckets=3)),
        fc.numeric_column("x", normalizer_fn=fc.Moments()),
        fc.numeric_column("x", default_value=fc.Mean()),
    ):
        with pytest.raises(ConfigError) as caught:
            transform_features([column], {"x": tf.constant([1.0])})
        assert caught.value.reason == Reason.UNRESOLVED


TENSORS = {
    "i": np.int64([[[0, 1], [2, -1]], [[3, 3], [1, 0]]]),
    "s": np.array([[["a", "b"], ["", "c"]], [["a", "a"], ["b", ""]]]),
}


def test_categories_of_more_dimensions_are_one_list_per_example():
    columns = [
        fc.categorical_column_with_identity("i", 4),
        fc.categorical_column_with_hash_bucket("s", 5),
        fc.crossed_column(["s", "i"], 50),
        fc.crossed_column([fc.categorical_column_with_identity("i", 4), "s"], 50),
    ]
    lists = {key: tf.constant(values.reshape(2, 4)) for key, values in TENSORS.items()}
    raw = {key: tf.constant(values) for key, values in TENSORS.items()}
    ragged = {
        key: tf.RaggedTensor.from_tensor(values, ragged_rank=2) for key, values in raw.items()
    }
    for column in columns:
        assert ids(column, raw) == ids(column, lists) == ids(column, ragged)
        none = {key: values[:0] for key, values in raw.items()}
        assert ids(column, none) == []
