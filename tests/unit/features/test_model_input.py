"""Stage 2 against numpy: dense matrix and linear logits, single and several values."""

import numpy as np
import pytest
import tensorflow as tf

from estimator_lib import variables
from estimator_lib.core import columns as fc
from estimator_lib.core.errors import ConfigError
from estimator_lib.features import lookup
from estimator_lib.features.dense import dense_features
from estimator_lib.features.linear import linear_logits


def in_store(function, features):
    """Runs `function(features)` in a traced function with a store; returns value and store."""
    store = variables.VariableStore()

    @tf.function
    def run(values):
        with variables.trace(store):
            return function(values)

    return run(features), store


def table(rows, width):
    return np.arange(1, rows * width + 1, dtype=np.float32).reshape(rows, width)


def given(values):
    return lambda shape, dtype=None: tf.constant(values, tf.float32)


IDS = fc.categorical_column_with_identity("i", 3)


def test_columns_are_laid_out_by_name_and_missing_ids_are_zeros():
    columns = [
        fc.numeric_column("z"),
        fc.embedding_column(IDS, 2, initializer=given(table(3, 2))),
        fc.numeric_column("a", shape=2),
        fc.indicator_column(fc.categorical_column_with_identity("k", 2)),
    ]
    features = {
        "z": tf.constant([9.0, 8.0, 7.0]),
        "a": tf.constant([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
        "i": tf.constant([2, -1, 0], tf.int64),
        "k": tf.constant([[1], [0], [-1]], tf.int64),
    }
    out, store = in_store(lambda f: dense_features(columns, f), features)
    np.testing.assert_array_equal(
        out, [[1, 2, 5, 6, 0, 1, 9], [3, 4, 0, 0, 1, 0, 8], [5, 6, 1, 2, 0, 0, 7]]
    )
    assert list(store.variables) == [
        "input_from_feature_columns/input_layer/i_embedding/embedding_weights"
    ]


@pytest.mark.parametrize(
    ("combiner", "expected"),
    [("sum", [4, 6]), ("mean", [2, 3]), ("sqrtn", [4 / 2**0.5, 6 / 2**0.5])],
)
def test_several_values_are_combined(combiner, expected):
    column = fc.embedding_column(IDS, 2, combiner=combiner, initializer=given(table(3, 2)))
    features = {"i": tf.constant([[0, 1], [2, -1], [-1, -1]], tf.int64)}
    out, _ = in_store(lambda f: dense_features([column], f), features)
    np.testing.assert_allclose(out, [expected, [5, 6], [0, 0]], rtol=1e-6)


def test_max_norm_scales_rows_down():
    column = fc.embedding_column(
        IDS, 2, initializer=given([[3, 4], [0.3, 0.4], [0, 0]]), max_norm=1
    )
    features = {"i": tf.constant([0, 1], tf.int64)}
    out, _ = in_store(lambda f: dense_features([column], f), features)
    np.testing.assert_allclose(out, [[0.6, 0.8], [0.3, 0.4]], rtol=1e-6)


@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize("units", [1, 2])
def test_linear_sums_weights_of_all_columns(batch, units):
    numeric = fc.numeric_column("x")
    columns = [
        IDS,
        numeric,
        fc.bucketized_column(numeric, [0.0]),
        fc.indicator_column(fc.categorical_column_with_identity("k", 2)),
    ]
    features = {
        "x": tf.constant([2.0, -1.0, 4.0][:batch]),
        "i": tf.constant([2, -1, 0][:batch], tf.int64),
        "k": tf.constant([1, 0, -1][:batch], tf.int64),
    }

    def logits(f):
        out = linear_logits(columns, f, units)
        return out

    out, store = in_store(logits, features)
    np.testing.assert_array_equal(out, np.zeros((batch, units)))
    assert set(store.variables) == {
        "linear_model/i/weights",
        "linear_model/x/weights",
        "linear_model/x_bucketized/weights",
        "linear_model/k_indicator/weights",
        "linear_model/bias_weights",
    }
    for variable in store.variables.values():
        variable.assign(table(variable.shape.num_elements(), 1).reshape(variable.shape))

    @tf.function
    def again(f):
        with variables.trace(store):
            return logits(f)

    first = again(features).numpy()[:, 0]
    if units == 1:
        # bias 1 + x * 1 + i-weight + bucket weight + k-weight
        np.testing.assert_array_equal(
            first, [1 + 2 + 3 + 2 + 2, 1 - 1 + 0 + 1 + 1, 1 + 4 + 1 + 2 + 0][:batch]
        )


def test_raw_columns_and_their_transformed_form_agree():
    vocabulary = fc.categorical_column_with_vocabulary_list("s", ["a", "b"], num_oov_buckets=1)
    column = fc.embedding_column(vocabulary, 2, initializer=given(table(3, 2)))
    raw, _ = in_store(lambda f: dense_features([column], f), {"s": tf.constant(["b", "", "q"])})
    ids = {"s": tf.constant([1, -1, 2], tf.int64)}
    read, _ = in_store(lambda f: dense_features([fc.transformed(column)], f), ids)
    np.testing.assert_array_equal(raw, read)
    np.testing.assert_array_equal(raw, [[3, 4], [0, 0], [5, 6]])


def test_lookups_are_remembered_in_the_traced_graph_only():
    weights = tf.Variable(table(3, 2))
    lookup.rows(weights, tf.constant([0], tf.int64))
    assert lookup.lookups() == []

    @tf.function
    def run():
        lookup.rows(weights, tf.constant([0], tf.int64))
        return len(lookup.lookups())

    assert run() == 1


def test_wrong_columns_are_refused():
    with pytest.raises(ConfigError, match="'i' is not dense"):
        dense_features([IDS], {"i": tf.constant([0], tf.int64)})
    with pytest.raises(ConfigError, match="Two feature columns are named 'i'"):
        linear_logits([IDS, IDS], {"i": tf.constant([0], tf.int64)}, 1)
    with pytest.raises(ConfigError, match="at least one"):
        dense_features([], {})
    with pytest.raises(ConfigError, match="feature column is expected, got str"):
        linear_logits(["i"], {}, 1)


def test_shared_embeddings_read_one_table():
    other = fc.categorical_column_with_identity("j", 3)
    columns = fc.shared_embeddings([IDS, other], 2, initializer=given(table(3, 2)))
    features = {"i": tf.constant([0, -1], tf.int64), "j": tf.constant([0, 2], tf.int64)}
    out, store = in_store(lambda f: dense_features(columns, f), features)
    np.testing.assert_array_equal(out, [[1, 2, 1, 2], [0, 0, 5, 6]])
    assert list(store.variables) == [
        "input_from_feature_columns/input_layer/i_j_shared_embedding/embedding_weights"
    ]
    assert [fc.from_json(fc.to_json(c)) for c in fc.shared_embeddings([IDS], 2)]


def test_weighted_categories_count_by_their_weight():
    column = fc.weighted_categorical_column(IDS, "w")
    embedded = fc.embedding_column(column, 2, combiner="sum", initializer=given(table(3, 2)))
    features = {
        "i": tf.constant([[0, 1], [2, -1]], tf.int64),
        "w": tf.constant([[1.0, 0.5], [2.0, 9.0]]),
    }
    out, _ = in_store(lambda f: dense_features([embedded], f), features)
    np.testing.assert_allclose(out, [[2.5, 4], [10, 12]])
    out, _ = in_store(lambda f: dense_features([fc.indicator_column(column)], f), features)
    np.testing.assert_allclose(out, [[1, 0.5, 0], [0, 0, 2]])
    out, store = in_store(lambda f: linear_logits([column], f, 1), features)
    assert "linear_model/i_weighted_by_w/weights" in store.variables
    assert fc.from_json(fc.to_json(column)) == column
    assert set(fc.feature_sources([embedded])) == {"i", "w"}
    assert fc.raw_fields([embedded]) == {"i": "int", "w": "float"}
    assert fc.transformed(column) == column


def test_upstream_weighted_and_shared_columns_are_converted():
    from estimator_lib.features.upstream import columns_of

    theirs = tf.feature_column
    ids = theirs.categorical_column_with_identity("i", 3)
    weighted = theirs.weighted_categorical_column(ids, "w")
    assert columns_of([weighted]) == (fc.weighted_categorical_column(IDS, "w"),)
