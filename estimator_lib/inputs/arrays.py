"""Input from arrays in memory, shuffled anew each epoch, resumable at any batch.

Layer 3. Rows are handed to tf.data in large blocks and cut into batches there, so that Python
is no part of the cost of a step.
"""

from __future__ import annotations

import contextlib
import datetime
import decimal
import hashlib
import json
import math
import numbers
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from estimator_lib.core.errors import ConfigError, DataError, Reason, quote
from estimator_lib.core.values import narrow
from estimator_lib.inputs import lists
from estimator_lib.inputs.datasets import InputSource
from estimator_lib.inputs.feed import Feed
from estimator_lib.protocols import Array

BLOCK_ROWS = 65_536
BLOCK_BYTES = 2**26
Arrays = Mapping[str, Array]
Block = Mapping[str, Any]
"""Columns by name, arrays or lists; or their specs."""
Index = npt.NDArray[np.int64]
Given = npt.ArrayLike | Mapping[str, npt.ArrayLike]


@runtime_checkable
class Series(Protocol):
    """A column of pandas, which need not be installed."""

    def to_numpy(self) -> Array:
        """Returns its values."""


@runtime_checkable
class Frame(Protocol):
    """A table of pandas."""

    columns: Iterable[object]

    def __getitem__(self, name: object, /) -> Series:
        """Returns a column."""


class RowsInput(InputSource):
    """Rows in an order that a seed fixes, cut into batches that may span epochs.

    Args:
        rows: Rows of one epoch.
        batch_size: Rows of a batch.
        epochs: Passes; None for ever.
        drop_remainder: Whether a last, smaller batch is left out.

    Attributes:
        rows: Rows of one epoch.
        batch_size: Rows of a batch.
    """

    def __init__(
        self, rows: int, *, batch_size: int, epochs: int | None, drop_remainder: bool
    ) -> None:
        for name, value in (("batch_size", batch_size), ("epochs", epochs)):
            if value is not None and value < 1:
                raise ConfigError(
                    f"Input argument {name} is invalid: expected a positive integer, got {value}.",
                )
        self.rows = rows
        self.batch_size = batch_size
        self.epochs = epochs
        self._drop_remainder = drop_remainder

    @property
    def batches_per_epoch(self) -> int:
        """Batches that cover one epoch, the last one begun."""
        return -(-self.rows // self.batch_size)

    @property
    def batches(self) -> int | None:
        """Batches in all; None if there is no end."""
        if self.epochs is None:
            return None
        total = self.rows * self.epochs
        return total // self.batch_size if self._drop_remainder else -(-total // self.batch_size)

    @property
    def chunk_rows(self) -> int:
        """Rows that are handed over at once: whole batches, so that cutting copies nothing."""
        row_bytes = sum(
            math.prod(size or 1 for size in spec.shape[1:]) * spec.dtype.size
            for spec in self.element_spec().values()
        )
        most = max(1, min(BLOCK_ROWS, BLOCK_BYTES // max(1, row_bytes)) // self.batch_size)
        return min(most, self.batches or most) * self.batch_size

    def blocks(self, epoch: int, first_row: int) -> Iterator[Block]:
        """Yields the rows of an epoch from `first_row` on, in its order, in large blocks."""
        del epoch, first_row
        raise TypeError(f"{type(self).__name__} must override blocks()")

    def element_spec(self) -> dict[str, Any]:
        """Returns name to TensorSpec `[None, ...]` of a block."""
        raise TypeError(f"{type(self).__name__} must override element_spec()")

    def pack(self, block: Block) -> object:
        """Makes (features, labels) of a block's columns (or their specs) by name."""
        del block
        raise TypeError(f"{type(self).__name__} must override pack()")

    def dataset(self, first_batch: int = 0) -> tf.data.Dataset:
        start = first_batch * self.batch_size
        spec = self.element_spec()
        if _is_ragged(spec):
            batches = self._ragged_batches(start, spec)
        else:
            batches = self._rebatched(start, self.batch_size, drop=self._drop_remainder)
        total = self.batches
        left = tf.data.INFINITE_CARDINALITY if total is None else max(0, total - first_batch)
        return batches.apply(tf.data.experimental.assert_cardinality(left))

    def chunks(self, first_batch: int = 0) -> Feed | None:
        if _is_ragged(self.element_spec()):
            return None
        start = first_batch * self.batch_size
        rows = self.chunk_rows
        left = tf.data.INFINITE_CARDINALITY
        if self.epochs is not None:
            left = max(0, -(-(self.rows * self.epochs - start) // rows))
        dataset = self._rebatched(start, rows, drop=False).prefetch(1)
        return Feed(
            dataset=dataset.apply(tf.data.experimental.assert_cardinality(left)),
            batch_size=self.batch_size,
            chunk_rows=rows,
            partial=not self._drop_remainder,
        )

    def _rebatched(self, start: int, rows: int, *, drop: bool) -> Any:
        def generate() -> Iterator[Any]:
            for block in self._all_blocks(start):
                yield self.pack(block)

        spec = self.pack(self.element_spec())
        blocks = tf.data.Dataset.from_generator(generate, output_signature=spec)
        return blocks.prefetch(1).rebatch(rows, drop_remainder=drop)

    def _all_blocks(self, start: int) -> Iterator[Block]:
        epoch, row = divmod(start, max(self.rows, 1))
        while self.rows and (self.epochs is None or epoch < self.epochs):
            yield from self.blocks(epoch, row)
            epoch, row = epoch + 1, 0

    def _ragged_batches(self, start: int, spec: Mapping[str, Any]) -> Any:
        """Batches cut here, for tf.data does not cut several values per row."""

        def generate() -> Iterator[Any]:
            blocks = self._all_blocks(start)
            for batch in lists.batches(
                blocks, self.batch_size, drop_remainder=self._drop_remainder
            ):
                yield lists.flat(batch)

        flat = tf.data.Dataset.from_generator(generate, output_signature=lists.flat_specs(spec))
        return flat.map(lambda block: self.pack(lists.ragged(block))).prefetch(1)


class ArraysInput(RowsInput):
    """Rows of arrays in memory; see `arrays_input`."""

    def __init__(
        self,
        columns: Arrays,
        pack: Callable[[Any], Any],
        *,
        batch_size: int,
        shuffle: bool,
        seed: int | None,
        epochs: int | None,
        drop_remainder: bool = False,
        fingerprint: str | None = None,
    ) -> None:
        rows = len(next(iter(columns.values()))) if columns else 0
        super().__init__(rows, batch_size=batch_size, epochs=epochs, drop_remainder=drop_remainder)
        self._columns = columns
        self._pack = pack
        self._shuffle = shuffle
        self._seed = random_seed() if seed is None else seed
        order = f"{shuffle}/{self._seed if shuffle else 0}/{batch_size}"
        self.fingerprint = f"{fingerprint or _digest(columns)}/{order}"

    def element_spec(self) -> dict[str, Any]:
        return {
            name: tf.TensorSpec([None, *array.shape[1:]], tf.as_dtype(array.dtype))
            for name, array in self._columns.items()
        }

    def blocks(self, epoch: int, first_row: int) -> Iterator[Block]:
        order = permutation(self.rows, self._seed, epoch) if self._shuffle else None
        size = self.chunk_rows
        for first in range(first_row, self.rows, size):
            last = min(first + size, self.rows)
            # Always copies, never views: TensorFlow takes a block's memory over without copying
            # it, and a kernel that finds itself the last reader writes its result there.
            if order is None:
                yield {name: array[first:last].copy() for name, array in self._columns.items()}
            else:
                index = order[first:last]
                yield {name: take(array, index) for name, array in self._columns.items()}

    def pack(self, block: Block) -> object:
        return self._pack(block)


def arrays_input(
    features: Given,
    labels: Given | None = None,
    *,
    batch_size: int = 128,
    shuffle: bool = False,
    seed: int | None = None,
    epochs: int | None = 1,
    drop_remainder: bool = False,
) -> ArraysInput:
    """Returns an input_fn over arrays.

    Args:
        features: Array `[rows, ...]` or a dict of them.
        labels: The same, or None.
        batch_size: Rows of a batch.
        shuffle: Whether rows are permuted, each epoch anew.
        seed: Of the permutations; None draws one.
        epochs: Passes; None for ever.
        drop_remainder: Whether a last, smaller batch is left out.

    Raises:
        DataError: the arrays differ in length, or there is none.
    """
    columns: dict[str, Any] = {}

    def take(prefix: str, value: Given) -> None:
        for name, array in value.items() if isinstance(value, Mapping) else [("", value)]:
            columns[f"{prefix}{name}"] = _plain(array, name or prefix)

    take("x/", features)
    if labels is not None:
        take("y/", labels)
    lengths = {name[2:] or name[0]: len(array) for name, array in columns.items()}
    if len(set(lengths.values())) != 1:
        raise DataError(
            f"Arrays differ in length: got {quote(lengths, 200)}. Give one entry per row to all.",
            reason=Reason.TYPE_MISMATCH,
        )

    def part(block: Block, prefix: str, value: Given) -> object:
        if not isinstance(value, Mapping):
            return block[prefix]
        return {name: block[f"{prefix}{name}"] for name in value}

    def pack(block: Block) -> object:
        x = part(block, "x/", features)
        return x if labels is None else (x, part(block, "y/", labels))

    return ArraysInput(
        columns, pack, batch_size=batch_size, shuffle=shuffle, seed=seed, epochs=epochs,
        drop_remainder=drop_remainder,
    )  # fmt: skip


def numpy_input_fn(
    x: Given,
    y: Given | None = None,
    batch_size: int = 128,
    num_epochs: int | None = 1,
    shuffle: bool | None = None,
    queue_capacity: int = 1000,
    num_threads: int = 1,
) -> ArraysInput:
    """The function of tf.estimator: arrays as an input_fn; `shuffle` must be given."""
    del queue_capacity, num_threads
    if not isinstance(shuffle, bool):
        raise ConfigError(
            f"numpy_input_fn argument shuffle is invalid: expected True or False, got {shuffle}.",
            reason=Reason.MISSING_VALUE,
        )
    return arrays_input(x, y, batch_size=batch_size, shuffle=shuffle, epochs=num_epochs)


def pandas_input_fn(
    x: Frame,
    y: Frame | Series | None = None,
    batch_size: int = 128,
    num_epochs: int | None = 1,
    shuffle: bool | None = None,
    queue_capacity: int = 1000,
    num_threads: int = 1,
    target_column: str = "target",
) -> ArraysInput:
    """The function of tf.estimator: a DataFrame's columns as features, a Series as labels."""
    del queue_capacity, num_threads, target_column
    features = {str(name): x[name].to_numpy() for name in x.columns}
    labels: Given | None = None
    if isinstance(y, Frame):
        labels = {str(name): y[name].to_numpy() for name in y.columns}
    elif y is not None:
        labels = y.to_numpy()
    return numpy_input_fn(features, labels, batch_size, num_epochs, shuffle)


def _is_ragged(spec: Mapping[str, Any]) -> bool:
    return any(isinstance(one, tf.RaggedTensorSpec) for one in spec.values())


def permutation(rows: int, seed: int, epoch: int) -> Index:
    """Returns the order of an epoch's rows, int64 `[rows]`."""
    return np.random.default_rng([seed, epoch]).permutation(rows)


def take(array: Array | lists.Lists, index: Index) -> Array | lists.Lists:
    """Returns the rows `index` of an array or of lists; all of them must exist."""
    if not isinstance(array, np.ndarray):
        return array[index]
    # Without the checks of array[index], which cost as much as the copying.
    return np.take(array, index, axis=0, mode="wrap")


def random_seed() -> int:
    """Returns a seed drawn from the operating system; in a cluster, one that follows from it.

    All processes of a cluster share an order of rows, of which each takes its own.
    """
    with contextlib.suppress(ValueError, AttributeError):
        cluster = json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster")
        if cluster:
            text = json.dumps(cluster, sort_keys=True)
            return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7])
    return int(np.random.SeedSequence().entropy) % 2**63  # type: ignore[arg-type]


def _plain(array: npt.ArrayLike, name: str) -> Array:
    found = np.asarray(array)
    if found.ndim == 0:
        raise DataError(
            f"Array {name!r} has no rows: expected shape [rows, ...].", reason=Reason.TYPE_MISMATCH
        )
    if found.dtype.kind == "M":
        distinct, places = np.unique(np.datetime_as_string(found), return_inverse=True)
        texts = ["" if text == "NaT" else narrow(str(text))[1] for text in distinct]
        return np.array(texts, object)[places].reshape(found.shape)
    if found.dtype.kind == "U":
        return found.astype(object)
    return _objects(found, name) if found.dtype == object else found


def _objects(array: Array, name: str) -> Array:
    """An array of Python objects as texts ("" is missing), or as numbers if all are (NaN is)."""
    kinds = set(map(type, array.ravel().tolist()))
    if kinds <= {str} or kinds <= {bytes}:
        return array
    listed = [None if _is_missing(value) else value for value in array.ravel().tolist()]
    kinds = {type(value) for value in listed if value is not None}
    if kinds and all(issubclass(kind, numbers.Real | decimal.Decimal) for kind in kinds):
        plain = [math.nan if value is None else float(value) for value in listed]
        return np.array(plain).reshape(array.shape)
    texts = np.empty(len(listed), object)
    texts[:] = ["" if value is None else _text(value, name) for value in listed]
    return texts.reshape(array.shape)


def _is_missing(value: object) -> bool:
    """Whether a value is None, NaN or what pandas has for a missing one."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float) and math.isnan(value)


_WRITTEN = (
    datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, numbers.Real, uuid.UUID,
    np.bool_,
)  # fmt: skip


def _text(value: object, name: str) -> object:
    """A value of an array of texts: as it is, or in the one form of its kind."""
    if isinstance(value, str | bytes):
        return value
    if isinstance(value, _WRITTEN):
        return narrow(str(value))[1]
    raise DataError(
        f"Array {name!r} has a value of another kind: expected texts, numbers, dates or None, got "
        f"{quote(value)} of type {type(value).__name__}. Convert the column.",
        reason=Reason.TYPE_MISMATCH,
    )


def _digest(columns: Arrays) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(columns.items()):
        digest.update(f"{name}{array.shape}{array.dtype}".encode())
        if isinstance(array, np.ndarray) and not array.dtype.hasobject:
            digest.update(np.ascontiguousarray(array).data)
            continue
        for first in range(0, len(array), BLOCK_ROWS):
            digest.update(repr(array[first : first + BLOCK_ROWS].tolist()).encode())
    return digest.hexdigest()[:16]
