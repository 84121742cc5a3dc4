"""Input from materialised examples: shards with ids and floats, Parquet or TFRecord.

Layer 3. Only files that the manifest lists are opened. A split that fits into memory is kept
there decoded and permuted as a whole each epoch; a larger one is read in blocks: row groups
in a permuted order, rows permuted within a block of a few row groups.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from estimator_lib.core import labels, manifest, storage
from estimator_lib.core.errors import ConfigError, DataError, Reason, did_you_mean
from estimator_lib.inputs import lists, tfrecord
from estimator_lib.inputs.arrays import (
    BLOCK_ROWS,
    ArraysInput,
    Block,
    RowsInput,
    permutation,
    random_seed,
    take,
)

MEMORY_BYTES = 256 * 2**20
"""A decoded split up to this size is kept in memory."""


class ParquetInput(RowsInput):
    """Blocks of rows from Parquet files; see `examples_input`.

    Args:
        files: In their order.
        columns: Name to numpy dtype of the columns to read, with "[]" behind it for lists.
        pack: From tensors by name to (features, labels).
        fingerprint: Of the data.
    """

    def __init__(
        self,
        files: Sequence[pathlib.Path],
        columns: Mapping[str, str],
        pack: Callable[[Block], object],
        *,
        batch_size: int,
        shuffle: bool,
        seed: int | None,
        epochs: int | None,
        drop_remainder: bool,
        fingerprint: str,
        block_rows: int = BLOCK_ROWS,
    ) -> None:
        self._groups = [
            (path, i, rows) for path in files for i, rows in enumerate(_group_rows(path))
        ]
        super().__init__(
            sum(rows for *_, rows in self._groups),
            batch_size=batch_size,
            epochs=epochs,
            drop_remainder=drop_remainder,
        )
        self._columns = dict(columns)
        self._pack = pack
        self._shuffle = shuffle
        self._seed = random_seed() if seed is None else seed
        self._block_rows = block_rows
        order = f"{shuffle}/{self._seed if shuffle else 0}/{batch_size}/{block_rows}"
        self.fingerprint = f"{fingerprint}/{order}"

    def element_spec(self) -> dict[str, Any]:
        return {name: lists.spec(dtype) for name, dtype in self._columns.items()}

    def pack(self, block: Block) -> object:
        return self._pack(block)

    def blocks(self, epoch: int, first_row: int) -> Iterator[Block]:
        groups = self._groups
        if self._shuffle:
            groups = [groups[i] for i in permutation(len(groups), self._seed, epoch)]
        passed, pending, pending_rows, number = 0, [], 0, 0
        for i, group in enumerate(groups):
            pending.append(group)
            pending_rows += group[2]
            if pending_rows < self._block_rows and i + 1 < len(groups):
                continue
            # Rows before first_row were seen: their blocks are not read again.
            if passed + pending_rows > first_row:
                yield self._block(pending, max(0, first_row - passed), epoch, number)
            passed, pending, pending_rows, number = passed + pending_rows, [], 0, number + 1

    def _block(
        self, groups: Sequence[tuple[pathlib.Path, int, int]], skip: int, epoch: int, number: int
    ) -> Block:
        names = list(self._columns)
        tables = [read(path, names, group) for path, group, _ in groups]
        columns = decode(pa.concat_tables(tables), self._columns)
        rows = sum(group[2] for group in groups)
        if not self._shuffle:
            return {name: array[skip:] for name, array in columns.items()}
        index = np.random.default_rng([self._seed, epoch, number]).permutation(rows)[skip:]
        return {name: take(array, index) for name, array in columns.items()}


def _group_rows(path: pathlib.Path) -> list[int]:
    """Rows of each group of a file that is read at once; a TFRecord shard is one."""
    if tfrecord.is_shard(path):
        return [int(tfrecord.index(path)["rows"])]
    metadata = _metadata(path)
    return [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]


def row_count(path: pathlib.Path) -> int:
    """Returns how many rows a file of examples has.

    Raises:
        DataError: the file is damaged.
    """
    return sum(_group_rows(path))


def _metadata(path: pathlib.Path) -> Any:
    try:
        return pq.read_metadata(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"Examples file {path} cannot be read: {str(error).splitlines()[0]}. Run preprocess "
            "again.",
            reason=Reason.CORRUPT_FILE,
        ) from error


def read(path: pathlib.Path, columns: Sequence[str], group: int | None = None) -> Any:
    """Returns a table of a file of examples, or of one of its row groups.

    Raises:
        DataError: the file is damaged or lacks a column.
    """
    if tfrecord.is_shard(path):
        return tfrecord.read(path, columns)
    try:
        # A fresh handle per call keeps the number of open files small and is thread-safe.
        with pq.ParquetFile(path) as source:
            if group is None:
                return source.read(columns=list(columns), use_threads=True)
            return source.read_row_group(group, columns=list(columns), use_threads=True)
    except (OSError, KeyError, pa.ArrowException) as error:
        raise DataError(
            f"Examples file {path} cannot be read: {str(error).splitlines()[0]}. Run preprocess "
            "again.",
            reason=Reason.CORRUPT_FILE,
        ) from error


def read_groups(path: pathlib.Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yields a table of each row group of a file of examples; a TFRecord shard is one.

    Raises:
        DataError: the file is damaged or lacks a column.
    """
    for group in range(len(_group_rows(path))):
        yield read(path, columns, group)


def decode(table: pa.Table, columns: Mapping[str, str]) -> dict[str, Any]:
    """Returns a table's columns as numpy arrays of the given dtypes, or as Lists.

    Raises:
        DataError: a column is missing.
    """
    found = {}
    for name, dtype in columns.items():
        if name not in table.column_names:
            raise DataError(
                f"Examples lack the column {name!r}.{did_you_mean(name, table.column_names)}",
                reason=Reason.FIELD_MISSING,
            )
        if dtype.endswith(lists.LIST):
            found[name] = _decode_lists(table.column(name), dtype.removesuffix(lists.LIST))
            continue
        values = table.column(name).to_numpy()
        # Arrow's memory is read-only and may be shared; TensorFlow would write into it.
        found[name] = values.astype(dtype)
    return found


def _decode_lists(column: pa.ChunkedArray, dtype: str) -> lists.Lists:
    parts = []
    for chunk in column.chunks:
        ends = np.cumsum(pc.list_value_length(chunk).to_numpy(), dtype=np.int64)
        values = pc.list_flatten(chunk).to_numpy(zero_copy_only=False)
        parts.append(lists.Lists(values.astype(dtype), np.concatenate([[0], ends])))
    return (
        lists.concatenate(parts)
        if parts
        else lists.Lists(np.zeros(0, dtype), np.zeros(1, np.int64))
    )


def _decoded_bytes(files: Sequence[pathlib.Path], columns: Mapping[str, str], rows: int) -> int:
    """How much memory a split takes; of lists, the files know how many values there are."""
    plain = [dtype for dtype in columns.values() if not dtype.endswith(lists.LIST)]
    size = rows * sum(np.dtype(dtype).itemsize for dtype in plain)
    several = {n: d.removesuffix(lists.LIST) for n, d in columns.items() if d.endswith(lists.LIST)}
    shards = [path for path in files if several and tfrecord.is_shard(path)]
    for values in (tfrecord.index(path)["values"] for path in shards):
        size += sum(values.get(n, 0) * np.dtype(dtype).itemsize for n, dtype in several.items())
    for metadata in [_metadata(path) for path in files if several and path not in shards]:
        for group in map(metadata.row_group, range(metadata.num_row_groups)):
            for column in map(group.column, range(group.num_columns)):
                dtype = several.get(column.path_in_schema.partition(".")[0])
                size += column.num_values * np.dtype(dtype).itemsize if dtype else 0
    return size


def examples_input(
    directory: str | pathlib.Path,
    split: str,
    *,
    batch_size: int,
    shuffle: bool = False,
    seed: int | None = None,
    epochs: int | None = 1,
    drop_remainder: bool = False,
    in_memory: bool | None = None,
) -> RowsInput:
    """Returns an input_fn over a split of materialised examples.

    It gives ({feature: `[batch]` int64 or float32, and the weight's field}, label `[batch]`); a
    feature with several values per row is a RaggedTensor `[batch, None]`, a multi-label label is
    0 or 1 `[batch, classes]`, and several labels are a dict.

    Args:
        directory: An artifact of kind "examples".
        split: "train", "eval", ...
        batch_size: Rows of a batch.
        shuffle: Whether rows are permuted, each epoch anew.
        seed: Of the permutations; None draws one.
        epochs: Passes; None for ever.
        drop_remainder: Whether a last, smaller batch is left out.
        in_memory: Whether to keep the split in memory; by default if it is small.

    Raises:
        DataError: the artifact or a file is damaged, or a column is missing.
        ConfigError: there is no such split.
    """
    root = pathlib.Path(directory)
    listed = manifest.read(root, kind="examples")
    splits = listed.metadata["splits"]
    if split not in splits:
        raise ConfigError(
            f"Examples {root} have no split {split!r}.{did_you_mean(split, splits)}",
            reason=Reason.UNKNOWN_NAME,
        )
    files = [storage.safe_join(root, name) for name in splits[split]["files"]]
    for path, name in zip(files, splits[split]["files"], strict=True):
        if name not in listed.files or not path.is_file():
            raise DataError(
                f"Examples file {path} is missing. Run preprocess again.",
                reason=Reason.FILE_NOT_FOUND,
            )
    label = labels.from_json(listed.metadata["label"])
    weight = listed.metadata.get("weight")
    columns = {
        name: spec["dtype"] + (lists.LIST if spec.get("list") else "")
        for name, spec in listed.metadata["features"].items()
    }
    if weight:
        columns[weight] = "float32"
    names = list(columns)
    columns |= labels.columns(label)

    def pack(block: Block) -> object:
        target = labels.gather(label, block, lists.side_by_side)
        return {name: block[name] for name in names}, target

    fingerprint = f"{listed.digest[:16]}/{split}"
    rows = int(splits[split]["rows"])
    size = _decoded_bytes(files, columns, rows)
    options: Any = {
        "batch_size": batch_size, "shuffle": shuffle, "seed": seed, "epochs": epochs,
        "drop_remainder": drop_remainder, "fingerprint": fingerprint,
    }  # fmt: skip
    if in_memory if in_memory is not None else size <= MEMORY_BYTES:
        return _Kept(files, columns, pack, rows=rows, **options)
    return ParquetInput(files, columns, pack, **options)


class _Kept(ArraysInput):
    """A split that is read at its first use and then kept."""

    def __init__(
        self,
        files: Sequence[pathlib.Path],
        columns: Mapping[str, str],
        pack: Callable[[Block], object],
        *,
        rows: int,
        **options: Any,
    ) -> None:
        super().__init__({}, pack, **options)
        self.rows = rows
        self._files = files
        self._dtypes = columns

    def element_spec(self) -> dict[str, Any]:
        return {name: lists.spec(dtype) for name, dtype in self._dtypes.items()}

    def blocks(self, epoch: int, first_row: int) -> Iterator[Block]:
        if not self._columns:
            names = list(self._dtypes)
            table = pa.concat_tables([read(path, names) for path in self._files])
            if table.num_rows != self.rows:
                raise DataError(
                    f"Examples in {self._files[0].parent} have {table.num_rows} rows: the "
                    f"manifest lists {self.rows}. Run preprocess again.",
                    reason=Reason.CORRUPT_FILE,
                )
            self._columns = decode(table, self._dtypes)
        yield from super().blocks(epoch, first_row)
