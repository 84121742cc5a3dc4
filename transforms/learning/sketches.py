"""Mergeable summaries of values whose result does not depend on the order of merging.

All three are functions of the multiset of values alone, to the last bit: shards, bundles and
workers may come in any order and any grouping. That is what makes vocabularies, moments and
boundaries reproducible.

* `ExactSums`: count, sum and sum of squares, exactly, as integers.
* `NumberCounts`: counts of distinct numbers; beyond a limit, of intervals of equal leading bits.
* `TokenCounts`: counts of distinct byte strings, exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Array = np.ndarray[Any, Any]

_SHIFT = 1200
"""Sums are kept as integers in units of 2**-1200, below any product of float64 halves used."""


class ExactSums:
    """Count, sum and sum of squares of finite numbers, without any rounding.

    The absolute value of a number must be below 1e150, so that its square is finite.
    """

    def __init__(self, count: int = 0, total: int = 0, squares: int = 0) -> None:
        self.count = count
        self._total = total
        self._squares = squares

    def add(self, values: Array, counts: Array) -> None:
        """Adds float64 `values`, each `counts` times; at most 2**20 values at once."""
        self.count += int(counts.sum())
        self._total += _exact_sum(values, counts)
        product = values * values
        high, low = _split(values)
        error = ((high * high - product) + 2 * high * low) + low * low
        self._squares += _exact_sum(product, counts) + _exact_sum(error, counts)

    def merge(self, other: ExactSums) -> None:
        """Adds what the other has seen."""
        self.count += other.count
        self._total += other._total
        self._squares += other._squares

    @property
    def mean(self) -> float:
        """The mean, correctly rounded; 0.0 without values."""
        return float(Fraction(self._total, self.count << _SHIFT)) if self.count else 0.0

    @property
    def variance(self) -> float:
        """The population variance, never negative; 0.0 without values."""
        if not self.count:
            return 0.0
        mean = Fraction(self._total, self.count << _SHIFT)
        return max(0.0, float(Fraction(self._squares, self.count << _SHIFT) - mean * mean))

    @property
    def stddev(self) -> float:
        """The population standard deviation."""
        return math.sqrt(self.variance)

    def to_json(self) -> list[Any]:
        """Strict JSON that `from_json` reads."""
        return [self.count, hex(self._total), hex(self._squares)]

    @classmethod
    def from_json(cls, content: list[Any]) -> ExactSums:
        """Reads what `to_json` wrote."""
        return cls(content[0], int(content[1], 16), int(content[2], 16))


def _split(values: Array) -> tuple[Array, Array]:
    """Veltkamp's split into two halves of at most 26 bits each, whose sum is the value."""
    scaled = values * 134217729.0
    high = scaled - (scaled - values)
    return high, values - high


def _exact_sum(values: Array, counts: Array) -> int:
    """The exact sum of values * counts in units of 2**-_SHIFT.

    Mantissas are summed per exponent in three parts of 18 bits, which float64 bins add without
    rounding as long as the counts sum to less than 2**35.
    """
    mantissas, exponents = np.frexp(values)
    whole = np.ldexp(mantissas, 53).astype(np.int64)
    sign = np.sign(whole)
    whole = np.abs(whole)
    if not len(whole):
        return 0
    offset = int(exponents.min())
    bins = exponents - offset
    total = 0
    signed = counts * sign
    for part in range(3):
        piece = (whole >> (18 * part)) & 0x3FFFF
        sums = np.bincount(bins, weights=(piece * signed).astype(np.float64))
        for position in np.flatnonzero(sums):
            shift = offset + int(position) + 18 * part - 53 + _SHIFT
            total += _shifted(int(sums[position]), shift)
    return total


def _shifted(value: int, by: int) -> int:
    return value << by if by >= 0 else value >> -by


class NumberCounts:
    """Counts of numbers: exact up to `limit` distinct ones, then of ever wider intervals.

    A number is its float64 bits as an order-preserving integer, shifted right by `level`.
    The level is the smallest with which the whole multiset has at most `limit` distinct keys,
    hence independent of the order of additions. Numbers of one key differ by less than
    2**(level - 52) of their size.
    """

    def __init__(self, limit: int = 1 << 15) -> None:
        self.limit = limit
        self.level = 0
        self._keys: list[Array] = []
        self._counts: list[Array] = []
        self._waiting = 0

    def add(self, values: Array, counts: Array) -> None:
        """Adds finite float64 `values`, each `counts` times."""
        bits = (values + 0.0).view(np.int64)  # -0.0 becomes 0.0
        ordered = np.where(bits < 0, np.int64(-(2**63)) - bits - 1, bits)
        self._push(ordered >> self.level, counts.astype(np.int64))

    def merge(self, other: NumberCounts) -> None:
        """Adds what the other has seen."""
        keys, counts = other._compact()
        if other.level > self.level:
            self._raise_to(other.level)
        self._push(keys >> (self.level - other.level), counts)

    def _push(self, keys: Array, counts: Array) -> None:
        self._keys.append(keys)
        self._counts.append(counts)
        self._waiting += len(keys)
        if self._waiting > 4 * self.limit:
            self._compact()

    def _raise_to(self, level: int) -> None:
        self._keys = [keys >> (level - self.level) for keys in self._keys]
        self.level = level

    def _compact(self) -> tuple[Array, Array]:
        if not self._keys:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        keys, counts = _grouped(np.concatenate(self._keys), np.concatenate(self._counts))
        while len(keys) > self.limit:
            self.level += 1
            keys, counts = _grouped(keys >> 1, counts, ordered=True)
        self._keys, self._counts, self._waiting = [keys], [counts], 0
        return keys, counts

    @property
    def exact(self) -> bool:
        """Whether every number has its own count."""
        self._compact()
        return self.level == 0

    def values(self) -> tuple[Array, Array]:
        """Returns ascending float64 values (middles of intervals) and their int64 counts."""
        keys, counts = self._compact()
        ordered = keys << self.level
        if self.level:
            ordered = ordered + (1 << (self.level - 1))
        bits = np.where(ordered < 0, np.int64(-(2**63)) - ordered - 1, ordered)
        return bits.view(np.float64), counts

    def quantiles(self, parts: int) -> list[float]:
        """Returns the parts - 1 inner boundaries: values of 0-based rank floor(i * n / parts).

        The rank is off by at most `rank_error` times the number of values.
        """
        values, counts = self.values()
        if not len(values):
            return []
        ends = np.cumsum(counts)
        ranks = [i * int(ends[-1]) // parts for i in range(1, parts)]
        return [float(values[i]) for i in np.searchsorted(ends, ranks, side="right")]

    def boundaries(self, parts: int) -> list[float]:
        """Returns at most parts - 1 distinct inner boundaries that keep heavy values apart.

        Those of `quantiles` where these are distinct. A value that fills a part by itself, such as
        the zeros of a number that is mostly 0, would take several of them: it gets a part of its
        own instead, and the other values share the rest.
        """
        values, counts = self.values()
        plain = self.quantiles(parts)
        if len(set(plain)) == len(plain):
            return plain
        heavy = counts * parts >= counts.sum()
        first = {float(values[0])}  # nothing lies below it
        behind = np.flatnonzero(heavy) + 1
        begins = {float(value) for value in values[heavy]} - first
        ends = {float(value) for value in values[behind[behind < len(values)]]}
        cuts = begins | ends if len(begins | ends) < parts else begins
        left = parts - 1 - len(cuts)
        others, times = values[~heavy], np.cumsum(counts[~heavy])
        if left > 0 and len(others):
            ranks = [i * int(times[-1]) // (left + 1) for i in range(1, left + 1)]
            found = others[np.searchsorted(times, ranks, side="right")]
            cuts |= {float(value) for value in found} - first
        return sorted(cuts)[: parts - 1] or sorted(set(plain))

    @property
    def rank_error(self) -> float:
        """The largest share of all values in one interval; 0.0 while counts are exact."""
        _, counts = self._compact()
        return float(counts.max() / counts.sum()) if self.level and len(counts) else 0.0

    def to_arrays(self) -> tuple[int, Array, Array]:
        """Level, keys and counts, as `from_arrays` takes them."""
        keys, counts = self._compact()
        return self.level, keys, counts

    @classmethod
    def from_arrays(cls, level: int, keys: Array, counts: Array) -> NumberCounts:
        """Rebuilds what `to_arrays` gave."""
        sketch = cls()
        sketch.level = level
        sketch._push(keys, counts)
        return sketch


def _grouped(keys: Array, counts: Array, *, ordered: bool = False) -> tuple[Array, Array]:
    """Distinct keys, ascending, and the sums of their counts."""
    if not len(keys):
        return keys, counts
    if not ordered:
        order = np.argsort(keys, kind="stable")
        keys, counts = keys[order], counts[order]
    starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    return keys[starts], np.add.reduceat(counts, starts)


_FEW = 1000
"""Up to this many first rows, a heap is faster than sorting."""


class TokenCounts:
    """Exact counts of distinct texts.

    Memory grows with the number of distinct texts; `distinct` tells a caller when to refuse.
    """

    def __init__(self) -> None:
        self._tables: list[pa.Table] = []
        self._waiting = 0
        self.distinct = 0

    def add(self, tokens: pa.Array, counts: pa.Array) -> None:
        """Adds distinct string `tokens` with their int64 `counts`."""
        self._push(pa.table({"token": tokens.cast(pa.large_string()), "count": counts}))

    def merge(self, other: TokenCounts) -> None:
        """Adds what the other has seen."""
        for table in other._tables:
            self._push(table)

    def rewrite(self, written: Callable[[pa.Array], pa.Array]) -> None:
        """Counts other texts instead; those that become equal are added up."""
        table = self._compact()
        texts = table["token"].combine_chunks()
        if isinstance(texts, pa.ChunkedArray):
            texts = pa.concat_arrays(texts.chunks) if texts.num_chunks else pa.array([], texts.type)
        texts = texts.cast(pa.string())
        changed = written(texts)
        if changed is not texts:
            tokens = changed.cast(pa.large_string())
            self._tables = [_summed(pa.table({"token": tokens, "count": table["count"]}))]
            self._compact()

    def _push(self, table: pa.Table) -> None:
        self._tables.append(table)
        self._waiting += table.num_rows
        if self._waiting > 200_000 + self.distinct:
            self._compact()

    def _compact(self) -> pa.Table:
        if len(self._tables) != 1:
            if not self._tables:
                return pa.table(
                    {"token": pa.array([], pa.large_string()), "count": pa.array([], pa.int64())}
                )
            self._tables = [_summed(pa.concat_tables(self._tables))]
        self.distinct = self._tables[0].num_rows
        self._waiting = 0
        return self._tables[0]

    @property
    def rows(self) -> int:
        """How many counts are held; at least as many as there are distinct texts."""
        return sum(table.num_rows for table in self._tables)

    @property
    def total_length(self) -> int:
        """Bytes of all texts."""
        table = self._compact()
        lengths = pc.multiply(pc.binary_length(table["token"]).cast("int64"), table["count"])
        return int(pc.sum(lengths).as_py() or 0)

    def ordered(self, top_k: int | None = None, min_count: int = 1) -> pa.Table:
        """Returns columns token, count: by count descending, then by the token's bytes."""
        table = self._compact()
        if min_count > 1:
            table = table.filter(pc.greater_equal(table["count"], min_count))
        by = [("count", "descending"), ("token", "ascending")]
        if top_k is not None and top_k <= _FEW < table.num_rows:
            return table.take(pc.select_k_unstable(table, top_k, by))
        if top_k is not None and table.num_rows > 2 * top_k:
            cut = np.partition(table["count"].to_numpy(), -top_k)[-top_k]
            table = table.filter(pc.greater_equal(table["count"], int(cut)))
        order = pc.sort_indices(table, by)
        return table.take(order if top_k is None else order[:top_k])

    def most_common(self, number: int) -> list[tuple[str, int]]:
        """Returns the first tokens of `ordered` with their counts."""
        table = self.ordered(top_k=number)
        return list(zip(table["token"].to_pylist(), table["count"].to_pylist(), strict=True))

    def to_table(self, *, ordered: bool = False) -> pa.Table:
        """Columns token and count as `from_table` takes them, by the token's bytes if `ordered`.

        Ordering millions of tokens takes longer than counting them.
        """
        table = self._compact()
        if not ordered:
            return table
        return table.take(pc.sort_indices(table, [("token", "ascending")]))

    @classmethod
    def from_table(cls, table: pa.Table) -> TokenCounts:
        """Rebuilds what `to_table` gave."""
        counts = cls()
        counts._push(table)
        counts._compact()
        return counts

    def __len__(self) -> int:
        return int(self._compact().num_rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self.ordered()["token"].to_pylist())


def _summed(table: pa.Table) -> pa.Table:
    """One row per distinct token, with the sum of its counts.

    Encoding as a dictionary is several times faster than Arrow's group_by with millions of
    texts. Sums are below 2**53, and so exact as float64.
    """
    tokens = table["token"].combine_chunks()
    if isinstance(tokens, pa.ChunkedArray):
        tokens = tokens.chunk(0)
    encoded = tokens.dictionary_encode()
    sums = np.bincount(
        encoded.indices.to_numpy(),
        weights=table["count"].to_numpy(),
        minlength=len(encoded.dictionary),
    )
    return pa.table({"token": encoded.dictionary, "count": sums.astype(np.int64)})
