"""Rows -> transformed examples as Parquet or TFRecord shards."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tensorflow as tf
from tfx_bsl.coders import example_coder

from estimator_lib.core import columns as fc
from estimator_lib.core import config, description, manifest, storage, stores
from estimator_lib.core.errors import DataError, Reason
from estimator_lib.core.places import Place
from estimator_lib.inputs import tfrecord
from estimator_lib.inputs.parquet import row_count
from transforms.applying import tensors
from transforms.applying.graph import TransformModule, list_features
from transforms.reading import labels as label_fields
from transforms.reading import records, units
from transforms.reading.files import InputFile
from transforms.reading.lists import Lists
from transforms.reading.rows import ARROW_TYPES

Array = np.ndarray[Any, Any]

ROW_GROUP_ROWS = 1 << 16
SHARD_ROWS = 1 << 21
PADDED_CELLS = 1 << 22
"""Combinations of values that are crossed at once."""
KNOWN_TEXTS = 1 << 16
"""Texts of a field whose features are kept."""
RAW_SAMPLE_ROWS = 1000
RAW_SAMPLE = "raw_sample.parquet"
RAW_PREFIX = "raw-"


class BatchTransform:
    """Applies resolved columns to large batches, each distinct combination of texts once.

    The ids of a column depend only on the fields it reads, so columns that read texts are
    computed by the same TensorFlow graph on the distinct combinations of a batch and spread
    over its rows; text lookups are what a transform otherwise spends its time on. A column of
    one field with several values is computed for all values as if each were a row; crosses of
    such fields are computed on padded matrices, of a few rows if one has very many values.

    Args:
        columns: Resolved columns.
        raw_fields: Raw field -> "string", "int" or "float"; "string[]" and the like.

    Attributes:
        dtypes: Transformed feature -> its Arrow type: int32 or float32, or lists of them.
    """

    def __init__(self, columns: Iterable[fc.Column], raw_fields: Mapping[str, str]) -> None:
        columns = tuple(columns)
        sources = fc.feature_sources(columns)
        lists = list_features(columns, raw_fields)
        self.dtypes = {name: _dtype(c, several=name in lists) for name, c in sources.items()}
        self._raw_fields = {n: kind.removesuffix("[]") for n, kind in raw_fields.items()}
        groups: dict[tuple[str, ...], list[fc.Column]] = {}
        by_value: dict[str, list[fc.Column]] = {}
        padded: list[fc.Column] = []
        for column in sources.values():
            fields = tuple(sorted(fc.raw_fields([column])))
            if any(raw_fields[name].endswith("[]") for name in fields):
                if isinstance(column, fc.CrossedColumn | fc.MissingIndicatorColumn):
                    padded.append(column)
                else:
                    by_value.setdefault(fields[0], []).append(column)
                continue
            textual = any(raw_fields[name] == "string" for name in fields)
            groups.setdefault(fields if textual else (), []).append(column)
        self._by_value = {
            field: BatchTransform(members, {field: self._raw_fields[field]})
            for field, members in by_value.items()
        }
        self._padded = PaddedTransform(padded, raw_fields) if padded else None
        self._by_text: dict[str, _TextFeatures] = {}
        self._groups: list[tuple[tuple[str, ...], bool, TransformModule]] = []
        for fields, members in groups.items():
            read = fields or tuple(sorted(fc.raw_fields(members)))
            module = TransformModule(members, {name: raw_fields[name] for name in read})
            if len(fields) == 1:
                self._by_text[fields[0]] = _TextFeatures(fields[0], module)
            else:
                self._groups.append((read, bool(fields), module))

    def __call__(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        """Returns the transformed features: int32 ids or float32 numbers, or lists, `[rows]`."""
        codes: dict[str, _Coded] = {}

        def coded(name: str) -> _Coded:
            if name not in codes:
                codes[name] = _Coded.of(self._raw_fields[name], batch.column(name))
            return codes[name]

        result: dict[str, pa.Array] = {}
        for field, features in self._by_text.items():
            texts = coded(field)
            for name, values in features(texts.distinct).items():
                result[name] = self._feature(name, values[texts.codes])
        for fields, textual, module in self._groups:
            parts = [coded(name) for name in fields] if textual else []
            combined = _combined(parts) if textual else None
            if combined is None:
                raw = {
                    name: records.raw_numpy(self._raw_fields[name], batch.column(name))
                    for name in fields
                }
                spread: Any = slice(None)
            else:
                chosen, spread = combined
                raw = {
                    name: part.values[at]
                    for name, part, at in zip(fields, parts, chosen, strict=True)
                }
            for name, values in _applied(module, raw).items():
                result[name] = self._feature(name, values[spread])
        for field, transform in self._by_value.items():
            lists = Lists.of(batch.column(field))
            values = pa.RecordBatch.from_pydict({field: lists.values})
            for name, flat in transform(values).items():
                result[name] = lists.holding(flat).to_arrow()
        if self._padded is not None:
            result |= self._padded(batch)
        return result

    def _feature(self, name: str, values: Array) -> pa.Array:
        dtype = np.int32 if self.dtypes[name] == pa.int32() else np.float32
        return pa.array(values.astype(dtype, copy=False))


@dataclasses.dataclass(frozen=True)
class _Coded:
    """A column as its distinct values, none of them missing, and the position of each row's."""

    distinct: pa.Array
    codes: Array

    @classmethod
    def of(cls, kind: str, column: pa.Array) -> _Coded:
        if kind == "string":
            encoded = column.dictionary_encode()
            if not encoded.null_count:
                return cls(encoded.dictionary, encoded.indices.to_numpy())
            distinct = pa.concat_arrays([encoded.dictionary, pa.array([""])])
            return cls(distinct, pc.fill_null(encoded.indices, len(distinct) - 1).to_numpy())
        plain = records.raw_numpy(kind, column)
        encoded = pa.array(plain.view(np.int32) if kind == "float" else plain).dictionary_encode()
        distinct = encoded.dictionary.to_numpy().view(plain.dtype)
        return cls(pa.array(distinct), encoded.indices.to_numpy())

    @property
    def values(self) -> Array:
        """The distinct values as a transform takes them."""
        return self.distinct.to_numpy(zero_copy_only=False)


class _TextFeatures:
    """The features of one field of texts; those of a text are computed once per process.

    Args:
        field: Its name.
        module: Gives its features.
    """

    def __init__(self, field: str, module: TransformModule) -> None:
        self._field = field
        self._module = module
        self._known: tuple[pa.Array, dict[str, Array]] = (pa.array([], pa.string()), {})

    def __call__(self, texts: pa.Array) -> dict[str, Array]:
        """Returns the features of distinct texts, `[texts]`."""
        known, features = self._known  # read at once: other threads put a larger one in its place
        places = pc.index_in(texts, value_set=known)
        at = pc.fill_null(places, -1).to_numpy().copy()
        unknown = np.flatnonzero(at < 0)
        if len(unknown) or not features:
            new = texts.take(pa.array(unknown))
            added = _applied(self._module, {self._field: new.to_numpy(zero_copy_only=False)})
            at[unknown] = len(known) + np.arange(len(unknown))
            known = pa.concat_arrays([known, new])
            features = {n: np.concatenate([features.get(n, v[:0]), v]) for n, v in added.items()}
            if len(known) <= KNOWN_TEXTS:
                self._known = known, features
        return {name: values[at] for name, values in features.items()}


def _applied(module: TransformModule, raw: Mapping[str, Array]) -> dict[str, Array]:
    """The features of raw values, `[rows]`."""
    found = module.transform_fn({name: tf.constant(values) for name, values in raw.items()})
    return {name: values.numpy().reshape(-1) for name, values in found.items()}


class PaddedTransform:
    """Applies columns that read fields with several values as a whole: `transform_fn` itself.

    Args:
        columns: Resolved columns.
        raw_fields: Raw field -> type.
    """

    def __init__(self, columns: Iterable[fc.Column], raw_fields: Mapping[str, str]) -> None:
        columns = tuple(columns)
        lists = list_features(columns, raw_fields)
        sources = fc.feature_sources(columns)
        self._dtypes = {name: _dtype(c, several=name in lists) for name, c in sources.items()}
        self._raw_fields = {name: raw_fields[name] for name in fc.raw_fields(columns)}
        self._module = TransformModule(columns, self._raw_fields)

    def __call__(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        """Returns the transformed features, `[rows]`."""
        parts = [self._part(batch.slice(a, b - a)) for a, b in self._slices(batch)]
        return {
            name: pa.concat_arrays([part[name] for part in parts]) if parts else pa.array([], dtype)
            for name, dtype in self._dtypes.items()
        }

    def _slices(self, batch: pa.RecordBatch) -> Iterator[tuple[int, int]]:
        """Rows whose padded combinations fit into memory together; at least one at a time."""
        cells = np.ones(batch.num_rows)
        for name, kind in self._raw_fields.items():
            if kind.endswith("[]"):
                cells *= np.maximum(Lists.of(batch.column(name)).lengths, 1)
        first, widest = 0, 1.0
        for row, width in enumerate(cells):
            if row > first and max(widest, width) * (row + 1 - first) > PADDED_CELLS:
                yield first, row
                first, widest = row, 1.0
            widest = max(widest, width)
        if batch.num_rows:
            yield first, batch.num_rows

    def _part(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        raw = {n: tensors.of_column(kind, batch.column(n)) for n, kind in self._raw_fields.items()}
        found = {}
        for name, values in self._module.transform_fn(raw).items():
            dtype = self._dtypes[name]
            if isinstance(values, tf.SparseTensor):
                counts = np.bincount(values.indices.numpy()[:, 0], minlength=batch.num_rows)
                flat = pa.array(values.values.numpy()).cast(dtype.value_type)
                splits = np.concatenate([[0], np.cumsum(counts)])
                found[name] = Lists(flat, splits).to_arrow()
            else:
                found[name] = pa.array(values.numpy()).cast(dtype)
        return found


def _dtype(column: fc.Column, *, several: bool) -> pa.DataType:
    plain = pa.int32() if isinstance(column, fc.CategoricalColumn) else pa.float32()
    return pa.list_(plain) if several else plain


def _combined(parts: Sequence[_Coded]) -> tuple[list[Array], Array] | None:
    """Distinct combinations of codes.

    Returns:
        For each part, the positions among its values, `[combinations]`; and for each row its
        combination. None if there are too many possible ones to number.
    """
    sizes = [max(1, len(part.distinct)) for part in parts]
    if np.prod([float(size) for size in sizes]) > 2**62:
        return None
    number = np.zeros(len(parts[0].codes), np.int64)
    for part, size in zip(parts, sizes, strict=True):
        number = number * size + part.codes
    encoded = pa.array(number).dictionary_encode()
    distinct = encoded.dictionary.to_numpy()
    return list(np.unravel_index(distinct, sizes)), encoded.indices.to_numpy()


# --- Shards -----------------------------------------------------------------------------------


_SUFFIXES = {"parquet": ".parquet", "tfrecord": tfrecord.SUFFIX}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shard:
    """One file to write: the next `rows` rows that a file has for a split."""

    split: str
    name: str
    rows: int

    @property
    def output(self) -> str:
        """The format: "parquet" or "tfrecord"."""
        return "tfrecord" if self.name.endswith(tfrecord.SUFFIX) else "parquet"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardTask:
    """The shards that one input file gives, per split in order.

    Attributes:
        file: The input.
        shards: What to write.
        directory: The staging directory, a path or URI.
        raw_sample: Whether the first eval shard, and so the raw sample, is among them.
        keep_raw: Whether the eval rows are also written as they were, for a serving model.
    """

    file: InputFile
    shards: tuple[Shard, ...]
    directory: str
    raw_sample: bool
    keep_raw: bool = False

    @property
    def raw_shards(self) -> list[Shard]:
        """The eval shards again, for the rows as they were."""
        evals = [shard for shard in self.shards if shard.split == "eval" and self.keep_raw]
        stems = [shard.name.removesuffix(_SUFFIXES[shard.output]) for shard in evals]
        return [
            dataclasses.replace(shard, name=f"{RAW_PREFIX}{stem}.parquet")
            for shard, stem in zip(evals, stems, strict=True)
        ]


def plan(
    files: Iterable[InputFile],
    kept: Mapping[str, Mapping[str, int]],
    directory: str,
    *,
    keep_raw: bool = False,
    output: str = "parquet",
) -> list[ShardTask]:
    """Returns what each file's rows are written to.

    Args:
        files: In the order of their names.
        kept: Key of a file -> split -> rows.
        directory: The staging directory, a path or URI.
        keep_raw: Whether the eval rows are also written as they were.
        output: "parquet" or "tfrecord". A TFRecord shard has the rows of a Parquet row group, so
            that both are shuffled alike.
    """
    limit = SHARD_ROWS if output == "parquet" else ROW_GROUP_ROWS
    pieces = [
        (file, split, min(limit, rows - begin))
        for file in sorted(files)
        for split, rows in sorted(kept[file.key].items())
        for begin in range(0, rows, limit)
    ]
    totals: dict[str, int] = {}
    for _, split, _ in pieces:
        totals[split] = totals.get(split, 0) + 1
    numbers = dict.fromkeys(totals, 0)
    shards: dict[InputFile, list[Shard]] = {}
    for file, split, rows in pieces:
        name = f"{split}-{numbers[split]:05d}-of-{totals[split]:05d}{_SUFFIXES[output]}"
        numbers[split] += 1
        shards.setdefault(file, []).append(Shard(split=split, name=name, rows=rows))
    return [
        ShardTask(
            file=file,
            shards=tuple(group),
            directory=directory,
            raw_sample=any(s.name.startswith("eval-00000-") for s in group),
            keep_raw=keep_raw,
        )
        for file, group in shards.items()
    ]


@functools.lru_cache(maxsize=2)
def transform_for(content: str) -> BatchTransform:
    """Returns the transform for `columns.json`'s text, made once per process."""
    described = description.parse(content)
    return BatchTransform(described.columns.values(), described.raw_fields)


class Outbox:
    """Where the files of a task are written.

    That is the staging directory itself, or, if that is an object store's, a folder of this
    machine from which each file goes there as soon as it is complete.

    Attributes:
        folder: Write here.
        written: The files that are done.
    """

    def __init__(self, directory: str, stack: contextlib.ExitStack) -> None:
        self._place = Place.parse(directory)
        self.written: dict[str, manifest.FileEntry] = {}
        if self._place.is_local:
            self.folder = self._place.path
        else:
            temporary = storage.temporary_directory("shards-")
            self.folder = pathlib.Path(stack.enter_context(temporary))

    def done(self, name: str) -> None:
        """Takes a file that is complete.

        Raises:
            DataError: it cannot be read.
            StorageError: the store refused it.
        """
        path = self.folder / name
        parts: dict[pathlib.Path, int | None] = {path: row_count(path)}
        if tfrecord.is_shard(path):
            parts[tfrecord.index_path(path)] = None
        for part, rows in parts.items():
            self.written[part.name] = manifest.FileEntry(
                size=part.stat().st_size, sha256=storage.sha256_file(part), rows=rows
            )
            if not self._place.is_local:
                stores.of(self._place).upload(part, self._place / part.name)
                storage.remove(part)


def write_shards(
    task: ShardTask,
    source: records.Source,
    transform: BatchTransform,
    count: Callable[[int], None] = lambda _: None,
) -> dict[str, manifest.FileEntry]:
    """Writes the shards of one file and returns what they are.

    Args:
        task: What to write.
        source: How the file is read.
        transform: Of its rows.
        count: Told the rows written, as it goes.

    Raises:
        DataError: the file holds other rows than when it was analysed.
        StorageError: they cannot be written.
    """
    schema = _schema(source, transform)
    with contextlib.ExitStack() as stack:
        outbox = Outbox(task.directory, stack)
        outputs = {
            split: _SplitWriter([s for s in task.shards if s.split == split], outbox, schema, stack)
            for split in sorted({s.split for s in task.shards})
        }
        raw = _SplitWriter(task.raw_shards, outbox, _raw_schema(source), stack)
        sample: list[pa.RecordBatch] = []
        for chunk in records.read(task.file, source):
            if not source.layout.quarantine:
                chunk.problems.raise_if_any()
            for split, rows in chunk.by_split.items():
                if split not in outputs:
                    if rows.batch.num_rows:
                        raise _changed(task.file)
                    continue
                if split == "eval" and task.raw_sample:
                    _collect(sample, rows.batch, RAW_SAMPLE_ROWS)
                if split == "eval" and task.keep_raw:
                    raw.write(_raw_table(source, pa.Table.from_batches([rows.batch])))
                columns = {**transform(rows.batch), **_along(source, rows)}
                table = pa.table(
                    [columns[field.name].cast(field.type) for field in schema], schema=schema
                )
                if not outputs[split].write(table):
                    raise _changed(task.file)
                count(table.num_rows)
        complete = [output.finish() for output in (*outputs.values(), raw)]
        if not all(complete):
            raise _changed(task.file)
        if task.raw_sample:
            first = next(s for s in task.shards if s.split == "eval")
            rows_sampled = _raw_table(source, pa.Table.from_batches(sample))
            rows_sampled = rows_sampled.slice(0, min(first.rows, RAW_SAMPLE_ROWS))
            pq.write_table(rows_sampled, outbox.folder / RAW_SAMPLE, compression="zstd")
            outbox.done(RAW_SAMPLE)
        return outbox.written


def _changed(file: InputFile) -> DataError:
    return DataError(
        f"File {file.name} changed while it was read: expected the rows of the first reading. "
        "Run again when nothing writes to it.",
        reason=Reason.DISAGREEMENT,
    )


def _schema(source: records.Source, transform: BatchTransform) -> pa.Schema:
    fields = [*transform.dtypes.items(), *((n, _plain(k)) for n, k in source.along.items())]
    held = config.described(source.labels).columns
    fields += [(name, pa.from_numpy_dtype(dtype)) for name, dtype in held.items()]
    if source.weight is not None:
        fields.append((source.weight, pa.float32()))
    text = pa.dictionary(pa.int32(), pa.string())
    fields += [(f"raw.{name}", text) for name in source.keep]
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in fields])


def _along(source: records.Source, rows: records.SplitRows) -> dict[str, pa.Array]:
    """Features as they are, labels, weight and kept texts of the rows."""
    columns = {name: _filled(kind, rows.batch.column(name)) for name, kind in source.along.items()}
    columns |= {f"raw.{name}": rows.texts[name].dictionary_encode() for name in source.keep}
    columns |= label_fields.columns(source.labels, rows.batch)
    if source.weight is not None:
        columns[source.weight] = rows.batch.column(source.weight)
    return columns


def _plain(kind: str) -> pa.DataType:
    """The type of a feature that no column reads."""
    plain = pa.float32() if kind.startswith("float") else pa.int64()
    return pa.list_(plain) if kind.endswith("[]") else plain


def _filled(kind: str, column: pa.Array) -> pa.Array:
    """Such a feature with the value that stands for a missing one."""
    if kind.endswith("[]"):
        lists = Lists.of(column)
        return lists.holding(_filled(kind.removesuffix("[]"), lists.values)).to_arrow()
    return pa.array(records.raw_numpy(kind, column))


class _SplitWriter:
    """Cuts the rows of one split into its shards and row groups."""

    def __init__(
        self, shards: list[Shard], outbox: Outbox, schema: pa.Schema, stack: contextlib.ExitStack
    ) -> None:
        self._shards = shards
        self._outbox = outbox
        self._schema = schema
        self._stack = stack
        self._writer: Any = None
        self._waiting: list[pa.Table] = []
        self._waiting_rows = 0
        self._left = 0
        self._next = 0

    def write(self, table: pa.Table) -> bool:
        """Takes rows; False if there are more than the shards hold."""
        while table.num_rows:
            if not self._left:
                self._flush()
                if self._next == len(self._shards):
                    return False
                self._open(self._shards[self._next])
            room = min(self._left, ROW_GROUP_ROWS - self._waiting_rows)
            head, table = table.slice(0, room), table.slice(room)
            self._waiting.append(head)
            self._waiting_rows += head.num_rows
            self._left -= head.num_rows
            if self._waiting_rows == ROW_GROUP_ROWS:
                self._flush()
        return True

    def finish(self) -> bool:
        """Writes what waits; False if rows were missing."""
        self._flush()
        self._close()
        return self._left == 0 and self._next == len(self._shards)

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            if self._left == 0:
                self._outbox.done(self._shards[self._next - 1].name)

    def _open(self, shard: Shard) -> None:
        self._close()
        self._next += 1
        self._left = shard.rows
        path = self._outbox.folder / shard.name
        if shard.output == "tfrecord":
            self._writer = _TFRecordWriter(path, self._schema)
        else:
            self._writer = pq.ParquetWriter(
                path,
                self._schema,
                compression="zstd",
                use_dictionary=[
                    field.name for field in self._schema if not pa.types.is_floating(field.type)
                ],
            )
        self._stack.callback(self._writer.close)

    def _flush(self) -> None:
        if self._waiting_rows and self._writer is not None:
            table = pa.concat_tables(self._waiting).unify_dictionaries().combine_chunks()
            self._writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
        self._waiting, self._waiting_rows = [], 0


class _TFRecordWriter:
    """Writes tables of a schema as tf.Examples, and at the end the index of the shard."""

    def __init__(self, path: pathlib.Path, schema: pa.Schema) -> None:
        self._path = path
        self._columns = {field.name: _kind(field.type) for field in schema}
        self._values = {n: 0 for n, kind in self._columns.items() if kind.endswith("[]")}
        self._rows = 0
        self._sink = tf.io.TFRecordWriter(str(path), options="GZIP")
        self._open = True

    def write_table(self, table: pa.Table, row_group_size: int) -> None:
        """Appends rows; TFRecord has no row groups."""
        del row_group_size
        lists = {n: _as_lists(table[n].combine_chunks(), k) for n, k in self._columns.items()}
        for encoded in example_coder.RecordBatchToExamples(pa.RecordBatch.from_pydict(lists)):
            # The encoder's order of features is another one in each process.
            example = tf.train.Example.FromString(encoded)
            self._sink.write(example.SerializeToString(deterministic=True))
        self._rows += table.num_rows
        for name in self._values:
            # As Parquet counts them: an empty list takes a place, too.
            lengths = pc.list_value_length(lists[name])
            self._values[name] += int(np.maximum(lengths.to_numpy(), 1).sum())

    def close(self) -> None:
        """Ends the file; a second time does nothing."""
        if self._open:
            self._open = False
            self._sink.close()
            described = {"rows": self._rows, "columns": self._columns, "values": self._values}
            storage.write_json(tfrecord.index_path(self._path), described)


def _kind(kind: pa.DataType) -> str:
    """The name of a column's type in tf.Examples."""
    if pa.types.is_list(kind):
        return f"{_kind(kind.value_type)}[]"
    if pa.types.is_integer(kind):
        return "int64"
    return "float32" if pa.types.is_floating(kind) else "string"


def _as_lists(column: pa.Array, kind: str) -> pa.Array:
    """A column as the encoder takes it: lists, of one value each where there is one per row."""
    types = {"int64": pa.int64(), "float32": pa.float32(), "string": pa.string()}
    plain = types[kind.removesuffix("[]")]
    if kind.endswith("[]"):
        return column.cast(pa.list_(plain))
    splits = pa.array(np.arange(len(column) + 1, dtype=np.int32))
    values = column.cast(plain)
    return pa.ListArray.from_arrays(
        splits, values.cast(pa.binary()) if kind == "string" else values
    )


def _collect(sample: list[pa.RecordBatch], batch: pa.RecordBatch, limit: int) -> None:
    have = sum(b.num_rows for b in sample)
    if have < limit:
        sample.append(batch.slice(0, limit - have))


def _raw_schema(source: records.Source) -> pa.Schema:
    return pa.schema(
        [
            (name, pa.list_(ARROW_TYPES[kind[:-2]]) if kind[-2:] == "[]" else ARROW_TYPES[kind])
            for name, kind in sorted(source.raw_fields.items())
        ]
    )


def _raw_table(source: records.Source, table: pa.Table) -> pa.Table:
    """The feature fields of some rows as they were; null = missing."""
    schema = _raw_schema(source)
    table = units.written(table, source.units)
    return pa.table([table.column(f.name).cast(f.type) for f in schema], schema=schema)


def features_of(
    columns: Iterable[fc.Column], fields: Mapping[str, str], along: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Describes the transformed features for a manifest: dtype, number of ids, whether a list.

    Args:
        columns: Resolved columns.
        fields: Field -> type.
        along: Fields that are features as they are -> type.
    """
    columns = tuple(columns)
    lists = list_features(columns, fields)
    found: dict[str, dict[str, Any]] = {
        name: {
            "dtype": "float32" if kind.startswith("float") else "int64",
            "num_buckets": None,
            "list": kind.endswith("[]"),
        }
        for name, kind in along.items()
    }
    return found | {
        name: {
            "dtype": "int64" if isinstance(column, fc.CategoricalColumn) else "float32",
            "num_buckets": column.num_buckets if isinstance(column, fc.CategoricalColumn) else None,
            "list": name in lists,
        }
        for name, column in fc.feature_sources(columns).items()
    }
