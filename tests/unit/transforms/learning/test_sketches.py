"""Summaries: exact where they say so, and the same in whatever order they are merged."""

import math
import statistics
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.learning.sketches import ExactSums, NumberCounts, TokenCounts

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


def sums(values):
    result = ExactSums()
    result.add(np.array(values, np.float64), np.ones(len(values), np.int64))
    return result


@given(st.lists(FLOATS, min_size=1, max_size=50))
def test_exact_sums_equal_rational_arithmetic(values):
    result = sums(values)
    exact = [Fraction(v) for v in values]
    mean = sum(exact) / len(exact)
    assert result.mean == float(mean)
    assert result.variance == float(sum(v * v for v in exact) / len(exact) - mean * mean)


@given(st.lists(st.lists(FLOATS, max_size=9), min_size=1, max_size=9), st.randoms())
def test_exact_sums_do_not_depend_on_the_order_of_merging(parts, random):
    whole = sums([v for part in parts for v in part])
    random.shuffle(parts)
    merged = ExactSums()
    for part in parts:
        merged.merge(sums(part))
    assert merged.to_json() == whole.to_json()
    assert ExactSums.from_json(merged.to_json()).to_json() == merged.to_json()


def test_exact_sums_of_a_constant_have_no_variance():
    assert sums([0.1] * 1000).variance == 0.0
    assert sums([3e38, 3e38]).mean == 3e38
    assert sums([]).stddev == 0.0


def test_exact_sums_keep_a_small_variance_beside_a_large_mean():
    values = [1.7e9 + i for i in range(100)]
    assert math.isclose(sums(values).stddev, statistics.pstdev(values), rel_tol=1e-12)


def counts(values, limit=64):
    sketch = NumberCounts(limit)
    sketch.add(np.array(values, np.float64), np.ones(len(values), np.int64))
    return sketch


@settings(deadline=None)
@given(st.lists(st.lists(FLOATS, max_size=60), min_size=1, max_size=8), st.randoms())
def test_number_counts_do_not_depend_on_the_order_of_merging(parts, random):
    whole = counts([v for part in parts for v in part], limit=32)
    random.shuffle(parts)
    merged = NumberCounts(32)
    for part in parts:
        merged.merge(counts(part, limit=32))
    for mine, theirs in zip(merged.to_arrays(), whole.to_arrays(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_number_counts_are_exact_below_their_limit():
    sketch = counts([3.0, -1.0, -0.0, 0.0, 3.0, 2.5])
    values, times = sketch.values()
    assert sketch.exact
    assert values.tolist() == [-1.0, 0.0, 2.5, 3.0]
    assert times.tolist() == [1, 2, 1, 2]
    assert sketch.quantiles(2) == [2.5]


@pytest.mark.parametrize("shift", [0.0, 1.7e9, -500.0])
def test_number_counts_quantiles_stay_within_their_stated_error(shift):
    values = np.random.default_rng(0).normal(size=50_000) * 100 + shift
    sketch = counts(values, limit=2048)
    assert 0 < sketch.rank_error < 0.01
    ordered = np.sort(values)
    for i, cut in enumerate(sketch.quantiles(20), start=1):
        rank = np.searchsorted(ordered, cut) / len(ordered)
        assert abs(rank - i / 20) <= sketch.rank_error + 1e-9


@given(st.lists(st.text(max_size=3), max_size=60), st.randoms())
def test_token_counts_order_by_count_then_bytes(tokens, random):
    halves = [tokens[: len(tokens) // 2], tokens[len(tokens) // 2 :]]
    random.shuffle(halves)
    merged = TokenCounts()
    for half in halves:
        part = TokenCounts()
        counted = pa.array(half, pa.string()).value_counts()
        part.add(counted.field("values"), counted.field("counts"))
        merged.merge(part)
    expected = sorted(set(tokens), key=lambda t: (-tokens.count(t), t.encode()))
    assert list(merged) == expected
    assert list(TokenCounts.from_table(merged.to_table())) == expected
    assert merged.ordered(top_k=3)["token"].to_pylist() == expected[:3]
    assert merged.ordered(min_count=2)["token"].to_pylist() == [
        t for t in expected if tokens.count(t) >= 2
    ]
