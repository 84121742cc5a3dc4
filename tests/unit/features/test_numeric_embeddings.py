"""Embeddings of numbers against numpy, and how columns of files and widths are made."""

import numpy as np
import pytest
import tensorflow as tf

from estimator_lib.core import columns as fc
from estimator_lib.core.errors import ConfigError
from estimator_lib.features.dense import dense_features
from estimator_lib.features.numeric_embeddings import piecewise_linear

X = fc.numeric_column("x")


def test_piecewise_linear_fills_bins_in_order():
    values = tf.constant([[-1.0], [0.0], [0.5], [3.0], [7.0]])
    np.testing.assert_allclose(
        piecewise_linear(values, (0.0, 1.0, 5.0)),
        [[0, 0], [0, 0], [0.5, 0], [1, 0.5], [1, 1]],
    )
    np.testing.assert_allclose(piecewise_linear(values, (2.0, 4.0)), [[0], [0], [0], [0.5], [1]])


@pytest.mark.parametrize(
    "edges", [(0.0, 1e-45), (-3e38, 3e38), (1e10, 2e10), (0.0, 1.0, 3e38), (-1e-30, 0.0, 1e-30)]
)
def test_piecewise_linear_is_bounded_for_every_number(edges):
    numbers = [0.0, 1.0, -1.0, 1e-45, -1e-45, 1e-38, 3.4e38, -3.4e38, 99_999.0]
    encoded = piecewise_linear(tf.constant([[x] for x in numbers]), edges)
    assert np.all((encoded >= 0) & (encoded <= 1))


def test_missing_numbers_are_zeros_and_leave_finite_gradients():
    columns = [
        fc.piecewise_linear_embedding(X, [0.0, 1.0, 2.0]),
        fc.periodic_embedding(X, frequencies=3, dimension=4),
    ]
    features = tf.constant([1.5, np.nan])
    with tf.GradientTape() as tape:
        tape.watch(features)
        out = dense_features(columns, {"x": features})
        loss = tf.reduce_sum(out)
    assert out.shape == (2, 2 + 4)
    assert not np.any(out[1])
    assert np.all(np.isfinite(tape.gradient(loss, features)))


def test_learned_boundaries_are_resolved_and_few_give_one_bin():
    column = fc.piecewise_linear_embedding(X, fc.Quantiles(buckets=4))
    assert [field for field, _ in fc.open_parts(column)] == ["x"]
    assert fc.resolve(column, lambda field, part: (1.0, 2.0, 4.0)).width == 2
    for few, edges in (((3.0,), (3.0, 6.0)), ((), (0.0, 1.0)), ((1e10,), (1e10, 2e10))):
        assert fc.resolve(column, lambda field, part, few=few: few).edges == edges
    both = [column, fc.numeric_column("x", normalizer_fn=fc.Moments())]
    assert set(fc.feature_sources(both)) == {"x", "x_piecewise"}


@pytest.mark.parametrize(
    ("buckets", "width"), [(1, 1), (3, 2), (10, 5), (100, 19), (1_000, 34), (10_000, 60)]
)
def test_width_follows_from_the_vocabulary(buckets, width):
    column = fc.embedding_column(fc.categorical_column_with_identity("k", buckets), "auto")
    assert column.width == fc.embedding_width(buckets) == width
    assert fc.embedding_width(10**7) == 64


def test_vocabulary_file_is_read_into_the_column(tmp_path):
    path = tmp_path / "words.txt"
    path.write_bytes("a\nb \nü\u2028x\n".encode())
    column = fc.categorical_column_with_vocabulary_file("s", str(path), num_oov_buckets=1)
    assert column.vocabulary == ("a", "b ", "ü\u2028x")
    assert column.num_buckets == 4
    first = fc.categorical_column_with_vocabulary_file("s", str(path), vocabulary_size=1)
    assert first.vocabulary == ("a",)
    theirs = tf.feature_column.categorical_column_with_vocabulary_file("s", str(path))
    assert len(theirs.vocabulary_file) > 0
    path.write_text("5\n7")
    numbers = fc.categorical_column_with_vocabulary_file("s", str(path), dtype=tf.int64)
    assert numbers.vocabulary == (5, 7)


def test_wrong_arguments_are_refused(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("a\na\n")
    read = fc.categorical_column_with_vocabulary_file
    for make in (
        lambda: read("s", str(path)),
        lambda: read("s", str(path), vocabulary_size=3),
        lambda: read("s", str(tmp_path / "none")),
        lambda: read("s", str(path), dtype=tf.int64),
        lambda: read("s", str(path), file_format="tfrecord_gzip"),
        lambda: fc.piecewise_linear_embedding(fc.numeric_column("x", shape=2), [0.0]),
        lambda: fc.piecewise_linear_embedding(
            fc.numeric_column("x", normalizer_fn=fc.Moments()), [0.0]
        ),
        lambda: fc.piecewise_linear_embedding(X, [1e10, 1e10 + 1]),
        lambda: fc.bucketized_column(X, [float("nan")]),
        lambda: fc.periodic_embedding(X, scale=0.0),
        lambda: fc.periodic_embedding(X, frequencies=0),
        lambda: fc.embedding_column(fc.categorical_column_with_identity("k", 3), 0),
        lambda: fc.sequence_numeric_column("x", normalizer_fn=fc.Moments()),
    ):
        with pytest.raises(ConfigError):
            make()
