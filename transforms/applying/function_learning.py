"""How a user's own preprocessing_fn learns from the train rows, by tensorflow-transform."""

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
import tensorflow_transform.beam as tft_beam
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx_bsl.tfxio import tensor_adapter

from estimator_lib.core import storage
from estimator_lib.core.errors import (
    ConfigError,
    PipelineError,
    Reason,
    StorageError,
    quote,
)
from estimator_lib.core.places import Place
from transforms.applying import tensors
from transforms.applying.user_function import Derived, user_graph
from transforms.beam import runners
from transforms.learning import incremental
from transforms.reading import records
from transforms.reading.files import InputFile
from transforms.reading.lists import Lists
from transforms.reading.rows import written_out

Function = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Sparse tensors by field -> tensors of any kind by name."""
_LIST = "MANIFEST"
"""What tensorflow-transform knows of a file: which parts there are."""


def load(path: str) -> Function:
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
    function = load(path)
    _require_tensorflow(directory, cache)
    files = _by_content(inputs, source)
    kept = {key: str(Place.parse(cache) / "functions" / key) for key in files if cache}
    task = _Task(
        function=function, files=files, source=source, fields=fields, directory=directory,
        keeping=cache is not None,
    )  # fmt: skip
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
                runners.run(functools.partial(task.build, known=known), runner_options)
        except PipelineError as error:
            found = error.message.removeprefix("Beam job failed: ")
            raise PipelineError(
                f"preprocess.function {path!r} failed: {found}", reason=error.reason
            ) from error
        for key, place in kept.items():
            _keep(os.path.join(known, key), place)
    graph = user_graph(directory, tuple(sorted(fields.items())))
    described = [path, _code_digest(function), sorted(files), sorted(fields.items())]
    return Derived(
        directory=directory,
        inputs=dict(fields),
        outputs=graph.outputs(),
        digest=hashlib.sha256(storage.canonical_json(described).encode()).hexdigest(),
        logical=source.logical,
    )


def _by_content(inputs: Sequence[InputFile], source: records.Source) -> dict[str, InputFile]:
    """The files to learn from by what is in them; equal ones are numbered."""
    files: dict[str, InputFile] = {}
    for file in inputs:
        if file.split in ("", "train"):
            key = incremental.content_key(file, source)
            again = sum(known.startswith(key) for known in files)
            files[f"{key}-{again}"] = file
    return files


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Task:
    """What a function is to learn from; see `learn`.

    Attributes:
        files: By their content.
        keeping: Whether what is learned of each file is read from a directory and written there.
    """

    function: Function
    files: Mapping[str, InputFile]
    source: records.Source
    fields: Mapping[str, str]
    directory: str
    keeping: bool

    def build(self, pipeline: beam.Pipeline, known: str) -> None:
        """Adds the steps of the job; `known` is where what was learned of files is."""
        cache = tft_beam.analyzer_cache
        datasets = {cache.DatasetKey(key): file for key, file in self.files.items()}
        learned_before = {}
        if self.keeping:
            read = cache.ReadAnalysisCacheFromFS(known, list(datasets))
            learned_before = pipeline | "ReadCache" >> read
        needed = tft_beam.analysis_graph_builder.get_analysis_dataset_keys(
            self.function, _specs(self.fields), list(datasets), learned_before,
            force_tf_compat_v1=False,
        )  # fmt: skip
        rows = {
            key: pipeline
            | f"File[{key.key}]" >> beam.Create([file])
            | f"Rows[{key.key}]" >> beam.ParDo(_TrainRows(self.source, self.fields))
            if key in needed
            else None
            for key, file in datasets.items()
        }
        analyse = tft_beam.AnalyzeDatasetWithCache(self.function, pipeline=pipeline)
        given = (rows, learned_before, _adapter(self.fields))
        learned, learned_now = given | "Learn" >> analyse
        _ = learned | "Write" >> tft_beam.WriteTransformFn(self.directory)
        if self.keeping:
            write = cache.WriteAnalysisCacheToFS(pipeline, known)
            _ = learned_now | "WriteCache" >> write


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
    if Place.parse(place).is_local:
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
    for place in places:
        if place is None or Place.parse(place).is_local:
            continue
        try:
            tf.io.gfile.exists(place)
        except tf.errors.UnimplementedError as error:
            raise ConfigError(
                f"preprocess.function cannot use {place}: TensorFlow has no file system for it. "
                "Give a directory or gs:// as --temp_location, and as --cache.",
                reason=Reason.UNSUPPORTED,
            ) from error
        except tf.errors.OpError as error:
            raise StorageError(f"Cannot read {place}: {error.message.splitlines()[0]}.") from error


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


def _code_digest(function: Function) -> str:
    file = inspect.getsourcefile(function)
    return storage.sha256_file(file) if file is not None else ""


def _specs(fields: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: tf.SparseTensorSpec([None, None], tensors.DTYPES[kind.removesuffix("[]")])
        for name, kind in fields.items()
    }


def _adapter(fields: Mapping[str, str]) -> Any:
    """How tensorflow-transform takes record batches: every field a list, missing absent."""
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
