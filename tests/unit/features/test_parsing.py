"""Parse specifications against those of TensorFlow."""

import pytest
import tensorflow as tf

from estimator_lib import feature_column as fc
from estimator_lib.core.errors import ConfigError
from estimator_lib.features.parsing import (
    classifier_parse_example_spec,
    make_parse_example_spec,
    regressor_parse_example_spec,
)

pytestmark = pytest.mark.filterwarnings("ignore")


def columns_of(library):
    words = library.categorical_column_with_vocabulary_list("w", ["a"])
    number = library.numeric_column("x", shape=(2,), default_value=1.0)
    return [
        number,
        library.numeric_column("n", dtype=tf.int64, default_value=3),
        library.embedding_column(words, 2),
        library.bucketized_column(library.numeric_column("b"), [0.0]),
        library.crossed_column(["p", "q"], 10),
        library.categorical_column_with_identity("k", 4),
        library.weighted_categorical_column(
            library.categorical_column_with_hash_bucket("h", 5), "hw"
        ),
        library.indicator_column(library.sequence_categorical_column_with_identity("t", 3)),
        library.sequence_numeric_column("m"),
    ]


def test_spec_is_that_of_tensorflow():
    theirs = tf.feature_column.make_parse_example_spec(columns_of(tf.feature_column))
    ours = make_parse_example_spec(columns_of(fc))
    assert ours == theirs
    assert make_parse_example_spec(columns_of(tf.feature_column)) == ours


def test_examples_are_parsed():
    example = tf.train.Example()
    example.features.feature["w"].bytes_list.value.append(b"a")
    spec = make_parse_example_spec([*columns_of(fc)[:3], fc.missing_indicator_column("z")])
    parsed = tf.io.parse_example([example.SerializeToString()], spec)
    assert parsed["x"].numpy().tolist() == [[1.0, 1.0]]
    assert parsed["n"].numpy().tolist() == [[3]]
    assert tf.math.is_nan(parsed["z"]).numpy().all()


def test_label_and_weight():
    spec = classifier_parse_example_spec([fc.numeric_column("x")], "y", weight_column="w")
    assert spec["y"] == tf.io.FixedLenFeature((1,), tf.int64, None)
    assert spec["w"] == tf.io.FixedLenFeature((1,), tf.float32)
    numbers = regressor_parse_example_spec(
        [fc.numeric_column("x")], "y", label_dimension=3, label_default=0.0
    )
    assert numbers["y"] == tf.io.FixedLenFeature((3,), tf.float32, 0.0)


def test_conflicts_are_refused():
    twice = [fc.numeric_column("x"), fc.categorical_column_with_identity("x", 3)]
    with pytest.raises(ConfigError, match="parsed in two ways"):
        make_parse_example_spec(twice)
    with pytest.raises(ConfigError, match="label_key names 'x'"):
        classifier_parse_example_spec([fc.numeric_column("x")], "x")
    with pytest.raises(ConfigError, match="not resolved"):
        make_parse_example_spec([fc.numeric_column("x", default_value=fc.Mean())])
