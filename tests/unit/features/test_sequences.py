"""Sequence columns against tf.feature_column, and what they refuse."""

import numpy as np
import pytest
import tensorflow as tf

from estimator_lib.core import columns as fc
from estimator_lib.core.errors import ConfigError, SchemaError
from estimator_lib.features.dense import dense_features
from estimator_lib.features.linear import linear_logits
from estimator_lib.features.sequences import sequence_features
from estimator_lib.features.upstream import columns_of

pytestmark = pytest.mark.filterwarnings("ignore")

RAGGED = tf.ragged.constant([["a", "zz", "b"], [], ["b"]])
NUMBERS = tf.ragged.constant([[1.0, 2.0, 3.0], [], [4.0]])


def test_sparse_input_of_tf_feature_columns_is_read_in_order():
    theirs = tf.feature_column.sequence_categorical_column_with_vocabulary_list("s", ["a", "b"])
    one_hot = tf.feature_column.indicator_column(theirs)
    numbers = tf.feature_column.sequence_numeric_column("f", normalizer_fn=lambda x: x)
    features = {"s": RAGGED.to_sparse(), "f": NUMBERS.to_sparse()}
    values, lengths = sequence_features(columns_of([one_hot, numbers]), features)
    # by name: f, then s_indicator; the unknown "zz" counts as a position and is zeros
    expected = [
        [[1, 1, 0], [2, 0, 0], [3, 0, 1]],
        [[0, 0, 0], [0, 0, 0], [0, 0, 0]],
        [[4, 0, 1], [0, 0, 0], [0, 0, 0]],
    ]
    np.testing.assert_array_equal(values, expected)
    np.testing.assert_array_equal(lengths, [3, 0, 1])


def test_ragged_sparse_and_padded_input_are_alike():
    columns = [
        fc.indicator_column(fc.sequence_categorical_column_with_hash_bucket("s", 7)),
        fc.sequence_numeric_column("f"),
    ]
    forms = [
        {"s": RAGGED, "f": NUMBERS},
        {"s": RAGGED.to_sparse(), "f": NUMBERS.to_sparse()},
        {"s": RAGGED.to_tensor(""), "f": NUMBERS.to_tensor(np.nan)},
    ]
    found = [sequence_features(columns, form) for form in forms]
    for values, lengths in found[1:]:
        np.testing.assert_array_equal(values, found[0][0])
        np.testing.assert_array_equal(lengths, found[0][1])


@pytest.mark.parametrize("dtype", [tf.int32, tf.int64])
def test_ids_in_a_matrix_end_where_the_last_one_is(dtype):
    columns = [fc.indicator_column(fc.sequence_categorical_column_with_identity("k", 4))]
    ids = tf.constant([[3, 0, 0], [1, -1, -1], [0, 2, -1]], dtype)
    _, lengths = sequence_features(columns, {"k": ids})
    np.testing.assert_array_equal(lengths, [3, 1, 2])


def test_sequences_are_refused_where_one_value_is_expected():
    column = fc.sequence_categorical_column_with_identity("k", 3)
    with pytest.raises(ConfigError, match="is a sequence"):
        dense_features([fc.embedding_column(column, 2)], {})
    with pytest.raises(ConfigError, match="is a sequence"):
        linear_logits([column], {}, 1)
    with pytest.raises(ConfigError, match="no sequence of floats"):
        sequence_features([fc.numeric_column("x")], {})
    with pytest.raises(ConfigError, match="no sequence of floats"):
        sequence_features([column], {})


def test_several_categories_per_position_are_refused_and_one_is_read():
    column = fc.indicator_column(fc.sequence_categorical_column_with_identity("i", 4))
    ids = tf.constant([[[0, 1], [2, -1]], [[3, 3], [1, 0]]], tf.int64)
    with pytest.raises(SchemaError, match="'i' has the wrong shape for column 'i_indicator'"):
        sequence_features([column], {"i": ids})
    values, lengths = sequence_features([column], {"i": ids[:, :, :1]})
    np.testing.assert_array_equal(values, tf.one_hot(ids[:, :, 0], 4))
    np.testing.assert_array_equal(lengths, [2, 2])
