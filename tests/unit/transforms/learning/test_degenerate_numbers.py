"""Numbers with ties, constants and extremes: what is learned of them stays usable."""

import collections
import itertools
import math

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from estimator_lib.core import columns as fc
from estimator_lib.evaluation import feature_statistics
from estimator_lib.features.dense import dense_features
from transforms.learning import resolution, statistics
from transforms.learning.analysis import FieldAnalysis, SplitAnalysis

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
INTS = st.integers(-(2**63) + 1, 2**63 - 1)
X = fc.numeric_column("x", normalizer_fn=fc.Moments())


def field(values, kind="float"):
    found = FieldAnalysis(kind)
    found.add(pa.array(values, pa.float64() if kind == "float" else pa.int64()))
    return found


def encoded(column, values):
    learned = field(values)
    resolved = fc.resolve(column, lambda _, part: resolution._learned(learned, part, None, None))
    return dense_features([resolved], {"x": tf.constant(values, tf.float32)}).numpy()


def zero_inflated():
    numbers = np.zeros(2000)
    numbers[:20] = np.linspace(100, 99_999, 20)
    return numbers.tolist()


def test_boundaries_of_a_mostly_zero_number_tell_its_tail_apart():
    boundaries = resolution.boundaries(field(zero_inflated()), 8)
    assert len(boundaries) == 7
    buckets = np.searchsorted(boundaries, [0.0, 100.0, 50_000.0, 99_999.0], side="right")
    assert len(set(buckets.tolist())) == 4


def test_piecewise_linear_of_a_mostly_zero_number_is_of_order_one():
    column = fc.piecewise_linear_embedding(fc.numeric_column("x"), fc.Quantiles(buckets=32))
    numbers = encoded(column, zero_inflated())
    assert numbers.min() == 0
    assert numbers.max() == 1
    assert len(np.unique(numbers.sum(1))) > 10


@pytest.mark.parametrize("parts", [2, 3, 8, 32])
def test_boundaries_without_ties_are_plain_quantiles(parts):
    values = field(np.random.default_rng(0).permutation(1000).astype(float))
    assert values.values.boundaries(parts) == values.values.quantiles(parts)


@settings(max_examples=100, deadline=None)
@given(st.lists(FLOATS | st.sampled_from([0.0, 1.0, 1e10]), min_size=1, max_size=40),
       st.integers(2, 9))  # fmt: skip
def test_boundaries_are_few_and_ascending_whatever_the_numbers(values, parts):
    found = resolution.boundaries(field(values), parts)
    assert len(found) <= parts - 1
    assert all(a < b for a, b in itertools.pairwise(found))
    assert all(math.isfinite(cut) for cut in found)


@settings(max_examples=100, deadline=None)
@given(st.lists(FLOATS | st.sampled_from([0.0, 1.0, 1e10, 1e10 + 1, 3e38, -3e38]),
                min_size=1, max_size=30))  # fmt: skip
def test_learned_numbers_are_bounded_or_standardized(values):
    way = fc.piecewise_linear_embedding(fc.numeric_column("x"), fc.Quantiles(buckets=4))
    assert np.all((encoded(way, values) >= 0) & (encoded(way, values) <= 1))
    scores = encoded(X, values)
    assert np.all(np.isfinite(scores))
    assert np.abs(scores).max() <= 2 + math.sqrt(len(values))
    waves = encoded(fc.periodic_embedding(X, 2, dimension=None), values)
    assert np.all(np.abs(waves) <= 1)


@settings(max_examples=150, deadline=None)
@given(st.lists(INTS | st.sampled_from([2**63 - 1, 1 - 2**63, 0]), min_size=1, max_size=20),
       st.lists(FLOATS, min_size=1, max_size=20))  # fmt: skip
def test_statistics_of_any_number_are_finite(ints, floats):
    split = SplitAnalysis(read=1)
    split.fields = {"i": field(ints, "int"), "f": field(floats)}
    proto = statistics.dataset_statistics("train", split)
    for feature in proto.datasets[0].features:
        numbers = feature.num_stats
        told = [numbers.mean, numbers.std_dev, numbers.min, numbers.max, numbers.median]
        assert all(math.isfinite(number) for number in told)
        for histogram in numbers.histograms:
            total = sum(bucket.sample_count for bucket in histogram.buckets)
            assert total == pytest.approx(numbers.common_stats.num_non_missing)
    statistics.infer_schema(split)


TIED = st.lists(st.sampled_from([0.0, 1.0, 2.5, -3.0]) | FLOATS, min_size=1, max_size=60)


def shifts(train, evaluated):
    splits = {"train": SplitAnalysis(), "eval": SplitAnalysis()}
    for name, values in (("train", train), ("eval", evaluated)):
        splits[name].fields["x"] = field(values)
        splits[name].read = len(values)
    computed = {n: statistics.dataset_statistics(n, split) for n, split in splits.items()}
    statistics.add_common_histograms(computed, splits)
    read = {n: feature_statistics.read(p.SerializeToString()) for n, p in computed.items()}
    (compared,) = feature_statistics.compare(read)
    counts = [collections.Counter(values) for values in (train, evaluated)]
    shares = [{v: n / sum(of.values()) for v, n in of.items()} for of in counts]
    values = shares[0].keys() | shares[1].keys()
    return compared["shift"], sum(
        abs(shares[0].get(v, 0) - shares[1].get(v, 0)) for v in values
    ) / 2


@settings(max_examples=100, deadline=None)
@given(TIED, TIED)
def test_shift_is_at_most_the_exact_distance_over_distinct_values(train, evaluated):
    shift, exact = shifts(train, evaluated)
    assert -1e-9 <= shift <= exact + 1e-9


def test_shift_of_tied_numbers_is_exact_and_of_moved_ones_is_seen():
    rng = np.random.default_rng(0)
    tied = rng.choice([40.7, 40.71, 40.75, 40.8], 4000, p=[0.5, 0.3, 0.15, 0.05])
    shift, exact = shifts(tied[:3000].tolist(), tied[3000:].tolist())
    assert shift == pytest.approx(exact)
    assert shift < 0.05
    numbers = rng.normal(size=4000)
    assert shifts(numbers[:3000].tolist(), numbers[3000:].tolist())[0] < 0.1
    assert shifts(numbers[:3000].tolist(), (numbers[3000:] + 1).tolist())[0] > 0.3


def test_shift_holds_beyond_the_limit_of_distinct_numbers():
    numbers = np.random.default_rng(0).normal(size=100_000)
    shift, _ = shifts(numbers[:90_000].tolist(), numbers[90_000:].tolist())
    assert shift < 0.03
