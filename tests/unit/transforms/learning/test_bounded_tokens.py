"""Bounded counts: exact while few, then estimates that do not depend on the order."""

import collections
import random

import pyarrow as pa
import pytest

from estimator_lib.core.values import Logical
from transforms.learning import bounded_tokens
from transforms.learning.bounded_tokens import BoundedTokenCounts, hashes
from transforms.reading.values import canonical


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(bounded_tokens, "LIMIT", 256)
    monkeypatch.setattr(bounded_tokens, "TOP", 16)


def counted(texts, chunk=100):
    result = BoundedTokenCounts()
    for i in range(0, len(texts), chunk):
        counts = collections.Counter(texts[i : i + chunk])
        result.add(pa.array(list(counts), pa.string()), pa.array(list(counts.values()), pa.int64()))
    result.seal()
    return result


def merged(parts):
    result = BoundedTokenCounts()
    for part in parts:
        result.merge(BoundedTokenCounts.from_table(part.to_table(), part.to_json()))
    return result


def same(left, right):
    return left.to_json() == right.to_json() and left.to_table(ordered=True).equals(
        right.to_table(ordered=True)
    )


def texts_of(seed, distinct, rows):
    rng = random.Random(seed)
    hot = [f"hot{i}" for i in range(3)]
    return [
        rng.choice(hot) if rng.random() < 0.3 else f"id{rng.randrange(distinct)}"
        for _ in range(rows)
    ]


def test_few_texts_are_counted_exactly():
    texts = texts_of(0, 100, 2000)
    counts = counted(texts)
    assert counts.exact
    assert dict(counts.most_common(200)) == dict(collections.Counter(texts))
    assert counts.total_length == sum(map(len, texts))


def test_many_texts_are_estimated_and_the_frequent_ones_kept():
    texts = texts_of(1, 100_000, 60_000)
    counts = counted(texts)
    truth = collections.Counter(texts)
    assert not counts.exact
    assert len(counts) == pytest.approx(len(truth), rel=0.25)
    for text, count in counts.most_common(3):
        assert text.startswith("hot")
        assert truth[text] - counts.missed <= count <= truth[text]
    assert counts.total_length == sum(map(len, texts))
    assert counts.to_table().num_rows < 256 + 16 * 2


def test_result_does_not_depend_on_the_order_of_files():
    parts = [counted(texts_of(seed, d, 4000)) for seed, d in enumerate([50, 5000, 90, 100_000])]
    forward, backward = merged(parts), merged(parts[::-1])
    tree = merged([merged(parts[:2]), merged(parts[2:])])
    assert same(forward, backward)
    assert same(forward, tree)


def test_sample_does_not_depend_on_the_chunks():
    texts = texts_of(3, 5000, 6000)
    left, right = counted(texts, 50), counted(texts, 977)
    assert left.level == right.level
    assert len(left) == len(right)


def test_hashes_know_texts_by_their_bytes_alone():
    texts = ["", "a", "aa", "b", "é", "a\0", "x" * 1000]
    whole = pa.array(texts, pa.string())
    assert len(set(hashes(whole).tolist())) == len(texts)
    assert hashes(whole.slice(2)).tolist() == hashes(whole).tolist()[2:]
    assert hashes(pa.array([], pa.string())).tolist() == []


def test_estimate_at_full_size(monkeypatch):
    monkeypatch.undo()
    tokens = pa.array([f"user-{i}" for i in range(200_000)], pa.string())
    counts = BoundedTokenCounts()
    counts.add(tokens, pa.array([1] * len(tokens), pa.int64()))
    assert len(counts) == pytest.approx(200_000, rel=0.03)


@pytest.mark.parametrize("distinct", [200, 3_000])
def test_estimate_does_not_depend_on_how_numbers_are_written(distinct):
    numbers = list(range(distinct))
    ways = [
        ([f"{n}" for n in numbers], 70),
        ([f"{n}.0" for n in reversed(numbers)], 1000),
        ([f"{n}.{'0' * (n % 3)}" for n in numbers], 130),
        ([form for n in numbers for form in (f"{n}", f"{n}.00", f"{n}.")], 500),
    ]
    found = []
    for texts, chunk in ways:
        half = len(texts) // 2
        whole = merged([counted(texts[:half], chunk), counted(texts[half:], chunk)])
        whole.rewrite(lambda column: canonical(column, Logical.INTEGER))
        found.append((whole.exact, len(whole), whole.total_length * len(numbers) // len(texts)))
    assert len(set(found)) == 1
    exact, size, length = found[0]
    assert exact == (distinct == 200)
    assert abs(size - distinct) <= 0.2 * distinct
    assert length == sum(len(str(n)) for n in numbers)
