"""Counts of distinct texts in bounded memory, for fields of which no vocabulary is wanted.

Up to `LIMIT` distinct texts the counts are exact. Beyond, two things are kept:

* a sample by hash (Wegman's adaptive sampling): the texts whose hash begins with `level` zero
  bits, the smallest level with which at most `LIMIT` are left. How many there are estimates the
  number of distinct texts with a standard error of about 0.7 %. What is hashed is a text in the
  form that it has by itself (1 for 1.0), for it may turn out that the field has numbers.
* the most frequent texts of every file, with lower bounds of their counts; `missed` says by how
  much a count may be too low (Misra and Gries, 1982).

The sample is a function of the texts alone. The frequent texts are a function of the files:
each is closed with `seal` before it is merged with others, so that shards, bundles and workers
may come in any order and any grouping.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.learning.sketches import TokenCounts
from transforms.reading import values as physical

Array = np.ndarray[Any, Any]

LIMIT = 1 << 15
"""Distinct texts that are counted exactly, and the size of the sample beyond."""
TOP = 1 << 10
"""Frequent texts kept per file."""
MAX_FREQUENT = 1 << 20
"""Frequent texts kept of all files."""


class BoundedTokenCounts:
    """Counts of distinct texts, exact while there are few."""

    def __init__(self) -> None:
        self.level = 0
        self.missed = 0
        self._length = 0
        self._written_length = 0  # of the texts in their own forms, once the level is not 0
        self._sample = TokenCounts()
        self._frequent = TokenCounts()
        self._open = TokenCounts()
        self._sealed = True

    def add(self, tokens: pa.Array, counts: pa.Array) -> None:
        """Adds distinct string `tokens` with their int64 `counts`."""
        self._sealed = False
        self._length += _lengths(tokens, counts)
        if self.level:
            self._open.add(tokens, counts)
            self._prune()
            written = _written(tokens)
            self._written_length += _lengths(written, counts)
            mask = pa.array(self._chosen(written))
            tokens, counts = tokens.filter(mask), counts.filter(mask)
        self._sample.add(tokens, counts)
        if self._sample.rows > 4 * LIMIT:
            self._settle()

    def merge(self, other: BoundedTokenCounts) -> None:
        """Adds what the other has seen; both are sealed."""
        self.seal()
        other.seal()
        self.missed += other.missed
        self._length += other._length
        self._frequent.merge(other._frequent)
        if len(self._frequent) > MAX_FREQUENT:
            self._frequent, cut = _largest(self._frequent, MAX_FREQUENT // 2)
            self.missed += cut
        level = max(self.level, other.level)
        if level > self.level:
            self._raise_to(level)
        table = other._sample.to_table()
        if level:
            written = _written(_whole(table["token"]))
            self._written_length += (
                other._written_length if other.level else _lengths(written, table["count"])
            )
            if level > other.level:
                table = table.filter(pa.array(self._chosen(written)))
        self._sample.merge(TokenCounts.from_table(table))
        self._settle()

    def seal(self) -> None:
        """Ends a file: its most frequent texts are chosen now."""
        if self._sealed:
            return
        self._settle()
        source = self._open if self.level else self._sample
        chosen, cut = _largest(source, TOP)
        self._frequent.merge(chosen)
        self.missed += cut
        self._open = TokenCounts()
        self._sealed = True

    def rewrite(self, written: Callable[[pa.Array], pa.Array]) -> None:
        """Counts other texts instead; those that become equal are added up.

        Beyond `LIMIT` the sample stays the one chosen by what was added.
        """
        self.seal()
        exact = self.exact
        for counts in (self._sample, self._frequent):
            counts.rewrite(written)
        self._length = self._sample.total_length if exact else self._written_length

    def _chosen(self, written: pa.Array) -> Array:
        return (hashes(written) >> np.uint64(64 - self.level)) == 0

    def _settle(self) -> None:
        """Raises the level until the sample fits."""
        while len(self._sample) > LIMIT and self._forms() > LIMIT:
            if not self.level and not self._sealed:
                self._open.merge(self._sample)
                self._prune()
            self._raise_to(self.level + 1)

    def _forms(self) -> int:
        """How many texts of the sample are different in their own forms."""
        written = _written(_whole(self._sample.to_table()["token"]))
        return int(pc.count_distinct(written).as_py())

    def _raise_to(self, level: int) -> None:
        table = self._sample.to_table()
        written = _written(_whole(table["token"]))
        if not self.level:
            self._written_length = _lengths(written, table["count"])
        self.level = level
        mask = pa.array(self._chosen(written))
        self._sample = TokenCounts.from_table(table.filter(mask))

    def _prune(self) -> None:
        if self._open.rows > 4 * LIMIT:
            self._open, cut = _largest(self._open, LIMIT)
            self.missed += cut

    @property
    def exact(self) -> bool:
        """Whether every text has its count."""
        self._settle()
        return self.level == 0

    @property
    def total_length(self) -> int:
        """Bytes of all texts."""
        return self._length

    def most_common(self, number: int) -> list[tuple[str, int]]:
        """Returns the most frequent texts and (at least) how often they came."""
        self.seal()
        return (self._sample if self.exact else self._frequent).most_common(number)

    def __len__(self) -> int:
        """How many distinct texts there are, estimated unless `exact`."""
        self._settle()
        return len(self._sample) << self.level

    def __iter__(self) -> Iterator[str]:
        """The texts that are counted, the most frequent first."""
        self.seal()
        return iter(self._sample if self.exact else self._frequent)

    def to_table(self, *, ordered: bool = False) -> pa.Table:
        """Columns token, count, and kind: 0 for the sample, 1 for the frequent texts."""
        self.seal()
        self._settle()
        tables = [part.to_table(ordered=ordered) for part in (self._sample, self._frequent)]
        return pa.concat_tables(
            table.append_column("kind", pa.array(np.full(table.num_rows, kind, np.int64)))
            for kind, table in enumerate(tables)
        )

    def to_json(self) -> list[int]:
        """The scalars that `from_table` takes beside the table."""
        return [self.level, self.missed, self._length, self._written_length]

    @classmethod
    def from_table(cls, table: pa.Table, scalars: list[int]) -> BoundedTokenCounts:
        """Rebuilds what `to_table` and `to_json` gave."""
        counts = cls()
        counts.level, counts.missed, counts._length, counts._written_length = scalars
        parts = [
            TokenCounts.from_table(
                table.filter(pc.equal(table["kind"], kind)).select(["token", "count"])
            )
            for kind in (0, 1)
        ]
        counts._sample, counts._frequent = parts
        return counts


def _largest(counts: TokenCounts, number: int) -> tuple[TokenCounts, int]:
    """The texts more frequent than all but the first `number`, and the count of those dropped.

    Texts of one count stay or go together, so the result does not depend on their order.
    """
    table = counts.to_table()
    if table.num_rows <= number:
        return counts, 0
    cut = int(np.partition(table["count"].to_numpy(), -number - 1)[-number - 1])
    return TokenCounts.from_table(table.filter(pc.greater(table["count"], cut))), cut


def _written(tokens: pa.Array) -> pa.Array:
    """Texts in the forms that they have by themselves, whatever else their field holds."""
    return physical.canonical(tokens.cast(pa.string()), None)


def _lengths(tokens: pa.Array, counts: pa.Array) -> int:
    return pc.sum(pc.multiply(pc.binary_length(tokens).cast("int64"), counts)).as_py() or 0


def _whole(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    if isinstance(combined, pa.ChunkedArray):
        return combined.chunk(0) if combined.num_chunks else pa.array([], combined.type)
    return combined


# --- Hash -------------------------------------------------------------------------------------


def _mixed(values: Array) -> Array:
    """The finaliser of splitmix64, on uint64 values."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


_OF_BYTE = _mixed(np.arange(1, 257, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
_BASE = np.uint64(0xD6E8FEB86659FD93)


def hashes(tokens: pa.Array) -> Array:
    """Returns a uint64 hash of every text, the same on every machine, `[rows]`.

    A polynomial in the position over random numbers for the bytes, all texts at once.
    """
    plain = tokens.cast(pa.large_binary())
    _, offsets, data = plain.buffers()
    ends = np.frombuffer(offsets, np.int64)[plain.offset : plain.offset + len(plain) + 1]
    if data is None or not len(plain):
        return _mixed(np.zeros(len(plain), np.uint64))
    content = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]]
    ends = ends - ends[0]
    lengths = np.diff(ends)
    powers = np.cumprod(np.full(int(lengths.max(initial=0)) + 1, _BASE))
    position = np.arange(len(content)) - np.repeat(ends[:-1], lengths)
    sums = np.zeros(len(content) + 1, np.uint64)
    np.cumsum(_OF_BYTE[content] * powers[position], out=sums[1:])
    return _mixed((sums[ends[1:]] - sums[ends[:-1]]) ^ lengths.astype(np.uint64))
