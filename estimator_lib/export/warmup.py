"""Warm-up requests: what TF Serving asks of a model before it serves it, so no client waits.

Layer 3. TensorFlow makes ready what a signature needs when it is first asked, which may take
seconds; the first clients of each new version would wait.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from estimator_lib.core import storage
from estimator_lib.core.columns import MISSING_INT
from estimator_lib.core.errors import ExportError, Reason
from estimator_lib.export import prediction_log
from estimator_lib.export.prediction_log import PREDICT, Logged
from estimator_lib.specs import DEFAULT_SIGNATURE
from estimator_lib.tensorflow_internals import parse_saved_model

FILE = "assets.extra/tf_serving_warmup_requests"
"""Where TF Serving looks, below a version's directory."""


def write_warmup(directory: str | pathlib.Path, rows: Mapping[str, Any], name: str) -> None:
    """Writes a warm-up request for TF Serving into a SavedModel that is not published yet.

    Args:
        directory: The SavedModel.
        rows: Inputs of the default signature, a few rows; one Predict request holds them all.
        name: The name the model is served under.
    """
    tensors = {key: _serialized(values) for key, values in rows.items()}
    _write(directory, [Logged(signature=DEFAULT_SIGNATURE, model=name, tensors=tensors)])


def warm_every_signature(directory: str | pathlib.Path, rows: Mapping[str, Any]) -> list[str]:
    """Writes a warm-up request for every signature of a SavedModel that is not published yet.

    Signatures that take serialized tf.Examples get the rows as such.

    Args:
        directory: The SavedModel.
        rows: Field -> values `[n]` or `[n, values]`, a few rows as `serving_default` takes them.

    Returns:
        The signatures, sorted.

    Raises:
        ExportError: a signature takes something else.
    """
    requests = []
    for graph in parse_saved_model(str(directory)).meta_graphs:
        for name, signature in sorted(graph.signature_def.items()):
            if not name.startswith("__"):
                requests.append(_request(name, signature, rows))
    _write(directory, requests)
    return [request.signature for request in requests]


def _request(name: str, signature: Any, rows: Mapping[str, Any]) -> Logged:
    inputs = signature.inputs
    if signature.method_name != PREDICT:
        examples = _examples(rows)
        return Logged(signature=name, examples=examples, method=signature.method_name)
    missing = sorted(set(inputs) - set(rows))
    if not missing:
        tensors = {key: _serialized(rows[key], info.dtype) for key, info in inputs.items()}
    elif [info.dtype for info in inputs.values()] == [tf.string.as_datatype_enum]:
        tensors = {missing[0]: _serialized(np.array(_examples(rows), object))}
    else:
        raise ExportError(
            f"No warm-up request can be made for signature {name!r}: its input {missing[0]!r} is "
            f"no field of the rows. They have {', '.join(sorted(rows))}.",
            reason=Reason.FIELD_MISSING,
        )
    return Logged(signature=name, tensors=tensors)


def _serialized(values: Any, dtype: int | None = None) -> bytes:
    return bytes(tf.make_tensor_proto(values, dtype).SerializeToString(deterministic=True))


def _examples(rows: Mapping[str, Any]) -> list[bytes]:
    """Rows as serialized tf.Examples, in which a missing value is absent."""
    count = len(next(iter(rows.values())))
    found = []
    for at in range(count):
        features = {name: _feature(values[at]) for name, values in sorted(rows.items())}
        example = tf.train.Example(
            features=tf.train.Features(feature={n: f for n, f in features.items() if f is not None})
        )
        found.append(example.SerializeToString(deterministic=True))
    return found


def _feature(value: Any) -> tf.train.Feature | None:
    """The values of one field in one row; None if it has none."""
    values = np.atleast_1d(value)
    if values.dtype.kind == "f":
        numbers = values[~np.isnan(values)]
        return tf.train.Feature(float_list={"value": numbers}) if len(numbers) else None
    if values.dtype.kind in "iu":
        numbers = values[values != MISSING_INT]
        return tf.train.Feature(int64_list={"value": numbers}) if len(numbers) else None
    texts = [v.encode() if isinstance(v, str) else bytes(v) for v in values.tolist() if v]
    return tf.train.Feature(bytes_list={"value": texts}) if texts else None


def _write(directory: str | pathlib.Path, requests: list[Logged]) -> None:
    path = pathlib.Path(directory) / FILE
    storage.make_directory(path.parent)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in requests:
            writer.write(prediction_log.encode(request))
