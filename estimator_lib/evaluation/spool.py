"""Rows of any number: in memory while they are few, in a temporary file beyond; layer 3.

What is measured is read in blocks and sorted in runs, so that memory does not grow with the rows.
The files are where Python's `tempfile` puts them (`TMPDIR`) and vanish with their owner.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from estimator_lib.core import storage

Array = npt.NDArray[Any]
MEMORY = 16 << 20
"""Bytes of one spool that stay in memory."""
BLOCK = 1 << 16
"""Rows that are read at once."""
RUN = 1 << 17
"""Rows that are sorted at once."""


class Rows(Protocol):
    """Rows that can be read piece by piece: an array, or a `Spool`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, and what each of them is."""

    def __getitem__(self, rows: slice, /) -> Any:
        """The rows of a slice without step, as an array."""


class Spool:
    """Rows that are appended once and read as often as wanted.

    Args:
        memory: Bytes that stay in memory; more go to a file.
    """

    def __init__(self, memory: int = MEMORY) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=memory)  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._rows = 0
        self._like: Array = np.empty(0)

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, and what each of them is."""
        return (self._rows, *self._like.shape[1:])

    def append(self, rows: Array) -> None:
        """Adds rows, of the type and shape of those before.

        Raises:
            StorageError: the temporary directory is full.
        """
        self._like = rows[:0] if not self._rows else self._like
        with storage.storage_errors("write", tempfile.gettempdir()):
            self._file.seek(0, 2)
            self._file.write(np.ascontiguousarray(rows, self._like.dtype).tobytes())
        self._rows += len(rows)

    def __getitem__(self, rows: slice) -> Array:
        """The rows of a slice without step."""
        first, last, _ = rows.indices(self._rows)
        count = max(0, last - first)
        size = self._like.dtype.itemsize * int(np.prod(self._like.shape[1:], dtype=np.int64))
        self._file.seek(first * size)
        data = self._file.read(count * size)
        return np.frombuffer(data, self._like.dtype).reshape(count, *self._like.shape[1:])

    def take(self, positions: npt.NDArray[np.int64]) -> Array:
        """The rows at ascending positions."""
        parts = [
            block[positions[(positions >= first) & (positions < first + len(block))] - first]
            for first, block in blocks(self)
        ]
        return np.concatenate([self._like, *parts])


class Column:
    """A column of rows that have several."""

    def __init__(self, rows: Rows, at: int) -> None:
        self._rows, self._at = rows, at

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows."""
        return self._rows.shape[:1]

    def __getitem__(self, rows: slice) -> Array:
        """The column in the rows of a slice."""
        return np.asarray(self._rows[rows])[:, self._at]


def blocks(rows: Rows, size: int = BLOCK) -> Iterator[tuple[int, Array]]:
    """Where each block begins, and its rows."""
    for first in range(0, rows.shape[0], size):
        yield first, rows[first : first + size]


def spooled(batches: Iterable[Any]) -> Any:
    """Returns a spool of arrays one after the other, or of mappings of arrays one by name."""
    result: Any = None
    for batch in batches:
        if result is None:
            result = _empty_like(batch)
        _append(result, batch)
    return result


def _empty_like(batch: Array | Mapping[str, Any]) -> Any:
    if isinstance(batch, Mapping):
        return {name: _empty_like(own) for name, own in batch.items()}
    return Spool()


def _append(spool: Any, batch: Array | Mapping[str, Any]) -> None:
    if isinstance(batch, Mapping):
        for name, own in batch.items():
            _append(spool[name], own)
    else:
        spool.append(batch)


# --- Sorting ----------------------------------------------------------------------------------


def in_order(parts: Iterable[Array], *, run: int = RUN, block: int = BLOCK) -> Iterator[Array]:
    """Structured rows by ascending `key`; equal ones keep their order.

    Runs are sorted in memory and merged from a spool. A block may begin or end between equal keys.

    Args:
        parts: Rows with a field "key" that has no NaN.
        run: Rows that are sorted at once.
        block: Rows that are merged at once, about.
    """
    runs: list[Array] = []
    pending: list[Array] = []
    stored, ends = Spool(), [0]
    for part in parts:
        pending.append(part)
        if sum(map(len, pending)) >= run:
            runs = [_sorted(pending)]
            stored.append(runs[0])
            ends.append(stored.shape[0])
            pending = []
    if len(ends) == 1:
        if pending:
            yield _sorted(pending)
        return
    if pending:
        stored.append(_sorted(pending))
        ends.append(stored.shape[0])
    yield from _merged(stored, ends, block)


def _sorted(parts: Sequence[Array]) -> Array:
    rows = np.concatenate(parts)
    return rows[np.argsort(rows["key"], kind="stable")]


def _merged(stored: Spool, ends: Sequence[int], block: int) -> Iterator[Array]:
    """Sorted runs that end at `ends`, as one.

    Every `step`-th key of each run is known, so that the rows below a splitter are found without
    reading all. Between two splitters there are about `block` rows, and rows that equal one are
    passed on run by run, for there may be any number of them.
    """
    count = len(ends) - 1
    step = max(1, block // count)
    samples = [
        np.array([stored[at : at + 1]["key"][0] for at in range(ends[i], ends[i + 1], step)])
        for i in range(count)
    ]
    splitters = np.unique(np.sort(np.concatenate(samples))[::count])
    cursors = list(ends[:-1])

    def below(i: int, key: float, *, equal: bool) -> Array:
        """Rows of run i from its cursor on that are below the key, or equal to it as well."""
        side: Any = "right" if equal else "left"
        known = int(np.searchsorted(samples[i], key, side=side))
        rows = stored[cursors[i] : min(ends[i] + known * step, ends[i + 1])]
        found = rows[: int(np.searchsorted(rows["key"], key, side=side))]
        cursors[i] += len(found)
        return found

    for splitter in [*splitters, np.inf]:
        between = [below(i, splitter, equal=False) for i in range(count)]
        if any(map(len, between)):
            yield _sorted(between)
        for i in range(count):
            equal = below(i, splitter, equal=True)
            if len(equal):
                yield equal
