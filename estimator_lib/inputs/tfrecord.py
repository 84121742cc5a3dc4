"""Materialised examples as TFRecord: gzip-compressed tf.Examples, and an index beside them.

Layer 3. The index of a shard, `<shard>.json`, says how many rows it has, of which type its
columns are and how many values the lists hold, so that a shard is opened only to be read.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import tensorflow as tf

from estimator_lib.core.errors import DataError, Reason
from estimator_lib.inputs.lists import LIST

SUFFIX = ".tfrecord.gz"
_TYPES = {"int64": tf.int64, "float32": tf.float32, "string": tf.string}


def is_shard(path: pathlib.Path) -> bool:
    """Whether a file of examples is TFRecord."""
    return path.name.endswith(SUFFIX)


def index_path(path: pathlib.Path) -> pathlib.Path:
    """Returns where the index of a shard is."""
    return path.with_name(f"{path.name.removesuffix(SUFFIX)}.json")


def index(path: pathlib.Path) -> Mapping[str, Any]:
    """Returns a shard's index: `rows`, `columns` (name to type), `values` (list to number).

    Raises:
        DataError: it is missing or damaged.
    """
    try:
        found = json.loads(index_path(path).read_text())
        return {"rows": int(found["rows"]), "columns": found["columns"], "values": found["values"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, f"its index {index_path(path).name} is damaged") from error


def read(path: pathlib.Path, columns: Sequence[str]) -> Any:
    """Returns columns of a shard as an Arrow table; columns that it lacks are left out.

    Raises:
        DataError: the shard is damaged.
    """
    described = index(path)
    types = {n: described["columns"][n] for n in columns if n in described["columns"]}
    rows = described["rows"]
    try:
        with tf.device("CPU:0"):
            records = tf.data.TFRecordDataset(str(path), compression_type="GZIP").batch(rows + 1)
            batches = list(records)
            if [len(batch) for batch in batches] != [rows]:
                raise _damaged(path, f"it does not have the {rows:,} rows of its index")
            parsed = tf.io.parse_example(batches[0], {n: _feature(t) for n, t in types.items()})
    except (tf.errors.OpError, OSError) as error:
        raise _damaged(path, str(error).splitlines()[0]) from error
    return pa.table({name: _arrow(parsed[name], kind) for name, kind in types.items()})


def _feature(kind: str) -> Any:
    dtype = _TYPES[kind.removesuffix(LIST)]
    if kind.endswith(LIST):
        return tf.io.RaggedFeature(dtype, row_splits_dtype=tf.int32)
    return tf.io.FixedLenFeature([], dtype)


def _arrow(values: tf.Tensor | tf.RaggedTensor, kind: str) -> pa.Array:
    if kind.endswith(LIST):
        return pa.ListArray.from_arrays(
            pa.array(values.row_splits.numpy()), pa.array(values.values.numpy())
        )
    if kind == "string":
        return pa.array(values.numpy(), pa.binary()).cast(pa.string())
    return pa.array(values.numpy())


def _damaged(path: pathlib.Path, why: str) -> DataError:
    return DataError(
        f"Examples file {path} cannot be read: {why}. Run preprocess again.",
        reason=Reason.CORRUPT_FILE,
    )
