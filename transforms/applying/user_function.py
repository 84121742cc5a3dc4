"""A user's own preprocessing_fn: learned by tensorflow-transform, applied before the columns.

The function takes every field as a SparseTensor `[batch, n]` of string, int64 or float32, as
tensorflow-transform gives optional features: a missing value is absent. What it returns are
fields, which columns may read, or features as they are.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib
import inspect
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import tensorflow as tf

from estimator_lib.core import storage
from estimator_lib.core.columns import MISSING_INT
from estimator_lib.core.errors import (
    ConfigError,
    DataError,
    PipelineError,
    Reason,
    StorageError,
    quote,
)
from estimator_lib.core.values import Logical
from transforms.applying import tensors
from transforms.beam import object_store, runners
from transforms.learning import incremental
from transforms.reading import records
from transforms.reading.files import InputFile
from transforms.reading.lists import Lists
from transforms.reading.rows import written_out

_LIST = "MANIFEST"
"""What tensorflow-transform knows of a file: which parts there are."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Derived:
    """What a learned function makes of rows.

    Attributes:
        directory: What tensorflow-transform wrote.
        inputs: Raw field -> type.
        outputs: Field it gives -> type.
        digest: Equal for equal functions that learned from equal rows.
        logical: What the texts are that it was given.
    """

    directory: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    digest: str
    logical: Mapping[str, Logical]

    def apply(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        """Returns the outputs for the rows, null = missing.

        Raises:
            DataError: a text is not UTF-8.
        """
        graph = _graph(self.directory, tuple(sorted(self.inputs.items())))
        raw = {n: tensors.of_column(kind, batch.column(n)) for n, kind in self.inputs.items()}
        return {n: _column(n, self.outputs[n], value) for n, value in graph(raw).items()}


class UserGraph(tf.Module):  # type: ignore[misc, unused-ignore]
    """The learned function on raw tensors, as `graph.TransformModule` takes them.

    Args:
        directory: What tensorflow-transform wrote.
        inputs: Raw field -> type.
    """

    def __init__(self, directory: str, inputs: Mapping[str, str]) -> None:
        super().__init__(name="user_function")
        self._inputs = dict(inputs)
        self.learned = tf.saved_model.load(os.path.join(directory, "transform_fn"))

    def __call__(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the function's outputs."""
        given = {
            name: raw[name] if kind.endswith("[]") else tensors.as_sparse(raw[name])
            for name, kind in self._inputs.items()
        }
        return dict(self.learned.transform_fn(given))

    def outputs(self) -> dict[str, str]:
        """Returns what the function gives: name -> type, "string[]" and the like for lists.

        Raises:
            ConfigError: an output is of a type that no field has.
        """
        specs = {n: tensors.spec(kind) for n, kind in sorted(self._inputs.items())}
        traced = tf.function(self.__call__, autograph=False).get_concrete_function(specs)
        return {n: _kind(n, out) for n, out in sorted(traced.structured_outputs.items())}


@functools.lru_cache(maxsize=2)
def _graph(directory: str, inputs: tuple[tuple[str, str], ...]) -> UserGraph:
    return UserGraph(directory, dict(inputs))


def _kind(name: str, output: Any) -> str:
    dtype = output.dtype
    base = "string" if dtype == tf.string else "float" if dtype.is_floating else "int"
    if dtype != tf.string and not (dtype.is_floating or dtype.is_integer or dtype.is_bool):
        raise ConfigError(
            f"preprocess.function gives {name!r} as {dtype.name}: expected texts or numbers. "
            "Cast it.",
            reason=Reason.TYPE_MISMATCH,
        )
    several = isinstance(output, tf.SparseTensor | tf.RaggedTensor)
    several |= not several and output.shape.rank == 2 and output.shape[1] != 1
    return f"{base}[]" if several else base


def _column(name: str, kind: str, value: Any) -> pa.Array:
    """An output as a column of its field; sentinels become null."""
    base = kind.removesuffix("[]")
    if isinstance(value, tf.SparseTensor):
        value = tf.RaggedTensor.from_sparse(value)
    if isinstance(value, tf.RaggedTensor):
        lists = Lists(_flat(name, base, value.flat_values), value.row_splits.numpy())
        return lists.without_missing_ends().to_arrow()
    if kind.endswith("[]"):
        rows, width = value.shape
        lists = Lists(_flat(name, base, tf.reshape(value, [-1])), np.arange(rows + 1) * width)
        return lists.without_missing_ends().to_arrow()
    return _flat(name, base, tf.reshape(value, [-1]))


def _flat(name: str, base: str, value: Any) -> pa.Array:
    values = value.numpy()
    if base == "float":
        return pa.array(values.astype(np.float64), mask=np.isnan(values))
    if base == "int":
        values = values.astype(np.int64)
        return pa.array(values, mask=values == MISSING_INT)
    try:
        return pa.array(values, pa.binary(), mask=values == b"").cast(pa.string())
    except pa.ArrowInvalid as error:
        raise DataError(
            f"preprocess.function gives {name!r} bytes that are no text: expected UTF-8. "
            "Encode the values.",
            reason=Reason.ENCODING,
        ) from error


# --- Learning ------------------------------------------------------------------------------------


def load(path: str) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    """Returns the function at `module:function`.

    Raises:
        ConfigError: it is not there.
    """
    module, _, attribute = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"preprocess.function {quote(path)} cannot be loaded: {error}.",
            reason=Reason.UNKNOWN_NAME,
        ) from error
    if not callable(found):
        raise ConfigError(
            f"preprocess.function {quote(path)} is no function: got {type(found).__name__}.",
            reason=Reason.TYPE_MISMATCH,
        )
    return found


def learn(
    path: str,
    inputs: Sequence[InputFile],
    source: records.Source,
    fields: Mapping[str, str],
    directory: str,
    *,
    runner_options: Sequence[str] = (),
    cache: str | None = None,
) -> Derived:
    """Learns what a preprocessing_fn needs from the rows of the train split.

    Rows at fault are left out here; reading them again reports them.

    Args:
        path: The function as `module:function`.
        inputs: All files.
        source: How they are read.
        fields: Raw field that the function takes -> type.
        directory: Gets what tensorflow-transform writes; a path, or a URI that TensorFlow knows.
        runner_options: Beam options.
        cache: Directory that keeps what was learned of each file, so that known files are not
            read; tensorflow-transform's analyzer cache.

    Raises:
        ConfigError: the function is not there, what it returns cannot be used, or TensorFlow does
            not know the URI.
        PipelineError: it failed.
    """
    import tensorflow_transform.beam as tft_beam

    function = load(path)
    _require_tensorflow(directory, cache)
    config = _adapter(fields)
    keys: dict[InputFile, str] = {}
    for file in inputs:
        if file.split in ("", "train"):
            key = incremental.content_key(file, source)
            again = sum(known.startswith(key) for known in keys.values())
            keys[file] = f"{key}-{again}"  # files may be equal
    datasets = {tft_beam.analyzer_cache.DatasetKey(key): f for f, key in keys.items()}
    places = keys.values() if cache is not None else ()
    kept = {key: object_store.join(cache or "", "functions", key) for key in places}

    def build(pipeline: beam.Pipeline, known: str) -> None:
        analysis_cache = (
            pipeline
            | "ReadCache" >> tft_beam.analyzer_cache.ReadAnalysisCacheFromFS(known, list(datasets))
            if cache is not None
            else {}
        )
        needed = tft_beam.analysis_graph_builder.get_analysis_dataset_keys(
            function, _specs(fields), list(datasets), analysis_cache, force_tf_compat_v1=False
        )
        rows = {
            key: pipeline
            | f"File[{key.key}]" >> beam.Create([file])
            | f"Rows[{key.key}]" >> beam.ParDo(_TrainRows(source, fields))
            if key in needed
            else None
            for key, file in datasets.items()
        }
        analyse = tft_beam.AnalyzeDatasetWithCache(function, pipeline=pipeline)
        learned, learned_cache = (rows, analysis_cache, config) | "Learn" >> analyse
        _ = learned | "Write" >> tft_beam.WriteTransformFn(directory)
        if cache is not None:
            write = tft_beam.analyzer_cache.WriteAnalysisCacheToFS(pipeline, known)
            _ = learned_cache | "WriteCache" >> write

    with (
        runners.scratch_directory(runner_options, "tft-") as scratch,
        tft_beam.Context(scratch),
    ):
        # What is learned is listed before it is written, so a job that fails must leave no list.
        known = os.path.join(scratch, "known")
        for key, place in kept.items():
            _copy(place, os.path.join(known, key))
        try:
            with _quiet():
                runners.run(functools.partial(build, known=known), runner_options)
        except PipelineError as error:
            found = error.message.removeprefix("Beam job failed: ")
            raise PipelineError(
                f"preprocess.function {path!r} failed: {found}", reason=error.reason
            ) from error
        for key, place in kept.items():
            _keep(os.path.join(known, key), place)
    graph = _graph(directory, tuple(sorted(fields.items())))
    described = [path, _code_digest(function), sorted(keys.values()), sorted(fields.items())]
    return Derived(
        directory=directory,
        inputs=dict(fields),
        outputs=graph.outputs(),
        digest=hashlib.sha256(storage.canonical_json(described).encode()).hexdigest(),
        logical=source.logical,
    )


def _copy(source: str, target: str) -> None:
    """Copies a directory, if it is there, the list of the others last."""
    for folder, _, names in tf.io.gfile.walk(source):
        into = os.path.join(target, folder.removeprefix(source).strip("/"))
        tf.io.gfile.makedirs(into)
        for name in sorted(names, key=lambda name: name == _LIST):
            path = os.path.join(into, name)
            tf.io.gfile.copy(os.path.join(folder, name), path, overwrite=True)


def _keep(learned: str, place: str) -> None:
    """Keeps what was learned of a file, in place of what was known of it."""
    if not tf.io.gfile.isdir(learned):
        return
    if not storage.is_uri(place):
        with storage.staged_directory(place, replace=True) as staged:
            _copy(learned, str(staged))
        return
    # Without its list nothing is read there.
    listed = os.path.join(place, _LIST)
    if tf.io.gfile.exists(listed):
        tf.io.gfile.remove(listed)
    _copy(learned, place)


def _require_tensorflow(*places: str | None) -> None:
    """Refuses URIs that tensorflow-transform, which has file systems of its own, cannot write."""
    for place in filter(storage.is_uri, (place or "" for place in places)):
        try:
            tf.io.gfile.exists(place)
        except tf.errors.UnimplementedError as error:
            raise ConfigError(
                f"preprocess.function cannot use {place}: TensorFlow has no file system for it. "
                "Give a directory or gs:// as --temp_location, and as --cache.",
                reason=Reason.UNSUPPORTED,
            ) from error
        except tf.errors.OpError as error:
            raise StorageError(
                f"Cannot read {place}: {error.message.splitlines()[0]}.", reason=Reason.IO
            ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps tensorflow-transform's advice to its own callers out of the terminal."""
    log = logging.getLogger("absl")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def _code_digest(function: Any) -> str:
    file = inspect.getsourcefile(function)
    return storage.sha256_file(file) if file is not None else ""


def _specs(fields: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: tf.SparseTensorSpec([None, None], tensors.DTYPES[kind.removesuffix("[]")])
        for name, kind in fields.items()
    }


def _adapter(fields: Mapping[str, str]) -> Any:
    """How tensorflow-transform takes record batches: every field a list, missing absent."""
    from tensorflow_metadata.proto.v0 import schema_pb2
    from tfx_bsl.tfxio import tensor_adapter

    representations = {}
    for name in fields:
        representations[name] = schema_pb2.TensorRepresentation()
        representations[name].varlen_sparse_tensor.column_name = name
    return tensor_adapter.TensorAdapterConfig(_arrow_schema(fields), representations)


def _arrow_schema(fields: Mapping[str, str]) -> pa.Schema:
    types = {"string": pa.large_binary(), "int": pa.int64(), "float": pa.float32()}
    return pa.schema(
        [(name, pa.large_list(types[kind.removesuffix("[]")])) for name, kind in fields.items()]
    )


class _TrainRows(beam.DoFn):  # type: ignore[misc, unused-ignore]
    """InputFiles -> RecordBatches of their train rows, as `_adapter` describes them."""

    def __init__(self, source: records.Source, fields: Mapping[str, str]) -> None:
        self._source = source
        self._fields = dict(fields)

    def process(self, element: InputFile) -> Iterator[pa.RecordBatch]:
        schema = _arrow_schema(self._fields)
        for chunk in records.read(element, self._source):
            if "train" not in chunk.by_split:
                continue
            batch = written_out(chunk.by_split["train"].batch)
            arrays = []
            for field in schema:
                column = batch.column(field.name)
                if not pa.types.is_list(column.type):
                    valid = column.is_valid().to_numpy(zero_copy_only=False)
                    ends = np.concatenate([[0], np.cumsum(valid)])
                    column = Lists(column.drop_null(), ends).to_arrow()
                lists = Lists.of(column)
                present = lists.values.is_valid().to_numpy(zero_copy_only=False)
                counts = np.bincount(lists.parents[present], minlength=len(column))
                flat = lists.values.drop_null().cast(field.type.value_type)
                ends = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int64())
                arrays.append(pa.LargeListArray.from_arrays(ends, flat))
            if batch.num_rows:
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)
