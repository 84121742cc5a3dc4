"""Ready-made serving input functions: serialized examples, raw tensors, raw fields + transform.

Layer 3.
"""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from estimator_lib import variables
from estimator_lib.core import description
from estimator_lib.core.columns import MISSING_INT
from estimator_lib.core.errors import ConfigError, Reason, quote
from estimator_lib.export.receivers import (
    ServingInputReceiver,
    SupervisedInputReceiver,
    TensorServingInputReceiver,
)
from estimator_lib.features.missing import is_missing
from estimator_lib.protocols import Features

_SHAPED = (tf.TensorSpec, tf.Tensor, tf.Variable, tf.SparseTensor, tf.RaggedTensor)
_FIELD_TYPES = {"string": tf.string, "int": tf.int64, "float": tf.float32}
_MISSING: dict[str, Any] = {"string": "", "int": MISSING_INT, "float": float("nan")}


def build_parsing_serving_input_receiver_fn(
    feature_spec: Mapping[str, Any], default_batch_size: int | None = None
) -> Callable[[], ServingInputReceiver]:
    """For requests of serialized `tf.Example` records under the key "examples".

    Args:
        feature_spec: As for `tf.io.parse_example`.
        default_batch_size: Fixed batch size; None leaves it open.
    """
    spec = dict(feature_spec)

    def receiver_fn() -> ServingInputReceiver:
        examples = _placeholder(tf.string, [default_batch_size], "input_example_tensor")
        return ServingInputReceiver(tf.io.parse_example(examples, spec), {"examples": examples})

    return receiver_fn


def build_raw_serving_input_receiver_fn(
    features: Mapping[str, Any], default_batch_size: int | None = None
) -> Callable[[], ServingInputReceiver]:
    """For requests that give the features themselves.

    Args:
        features: Name to a tensor, array or TensorSpec whose dtype and shape (but for the
            batch) are taken.
        default_batch_size: Fixed batch size; None leaves it open.
    """
    specs = {name: _spec(name, value) for name, value in features.items()}

    def receiver_fn() -> ServingInputReceiver:
        given = {
            name: _placeholder(spec.dtype, [default_batch_size, *spec.shape[1:]], name)
            for name, spec in specs.items()
        }
        return ServingInputReceiver(dict(given), given)

    return receiver_fn


def build_tensor_serving_input_receiver_fn(
    shape: Sequence[int | None],
    dtype: tf.DType | str = tf.float32,
    default_batch_size: int | None = 1,
) -> Callable[[], TensorServingInputReceiver]:
    """For a model whose features are one tensor.

    Args:
        shape: Of one example.
        dtype: Of the tensor.
        default_batch_size: Fixed batch size; None leaves it open.
    """

    def receiver_fn() -> TensorServingInputReceiver:
        given = _placeholder(tf.as_dtype(dtype), [default_batch_size, *shape], "input")
        return TensorServingInputReceiver(given, given)

    return receiver_fn


def build_raw_supervised_input_receiver_fn(
    features: Features, labels: Features, default_batch_size: int | None = None
) -> Callable[[], SupervisedInputReceiver]:
    """For the exported train or eval function: features and labels are fed.

    Args:
        features: Tensor or dict of tensors to take dtype and shape from.
        labels: The same for labels.
        default_batch_size: Fixed batch size; None leaves it open.

    Raises:
        ConfigError: a feature and a label have one name.
    """
    by_name = features if isinstance(features, Mapping) else {"input": features}
    labels_by_name = labels if isinstance(labels, Mapping) else {"label": labels}
    both = set(by_name) & set(labels_by_name)
    if both:
        raise ConfigError(
            f"{sorted(both)[0]!r} is the name of a feature and of a label. Rename one of them.",
            reason=Reason.DUPLICATE,
        )

    def receiver_fn() -> SupervisedInputReceiver:
        given = {}
        for name, value in {**by_name, **labels_by_name}.items():
            spec = _spec(name, value)
            given[name] = _placeholder(spec.dtype, [default_batch_size, *spec.shape[1:]], name)
        x = {name: given[name] for name in by_name}
        y = {name: given[name] for name in labels_by_name}
        return SupervisedInputReceiver(
            x if isinstance(features, Mapping) else x["input"],
            y if isinstance(labels, Mapping) else y["label"],
            given,
        )

    return receiver_fn


def build_transformed_serving_input_receiver_fn(
    transform_dir: str,
) -> Callable[[], ServingInputReceiver]:
    """For requests of raw fields, which the transform graph turns into the model's features.

    The default signature takes one tensor `[batch]` per raw field: strings ("" is missing),
    float32 (NaN is missing), int64 (the smallest int64 is missing); a field with several values
    is a matrix `[batch, n]`, filled up with the missing value. The alternative "examples"
    takes serialized `tf.Example` records, in which an absent feature is a missing value.

    Args:
        transform_dir: What preprocessing left: `transform_fn/` and `columns.json`.

    Raises:
        DataError: the directory holds no transform graph.
    """
    folder = pathlib.Path(transform_dir)
    fields = description.read(folder).raw_fields
    parse = {name: _parsed_as(kind) for name, kind in sorted(fields.items())}

    def receiver_fn() -> ServingInputReceiver:
        with tf.init_scope():
            graph = tf.saved_model.load(str(folder / "transform_fn"))
        examples = _placeholder(tf.string, [None], "examples")
        # What a request feeds by field are the parsed tensors themselves; so both ways of
        # asking run the same graph from there on.
        raw = tf.io.parse_example(examples, parse)
        lists = [name for name, kind in fields.items() if kind.endswith("[]")]
        raw |= {n: tf.sparse.to_dense(raw[n], _MISSING[fields[n][:-2]]) for n in lists}
        return ServingInputReceiver(
            _transformed(graph, fields, raw),
            raw,
            {"examples": {"examples": examples}},
            resources=(graph,),
            raw_fields=True,
        )

    return receiver_fn


def raw_transform(transform_dir: str) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Returns what makes a model's features of raw fields as requests give them.

    Args:
        transform_dir: What preprocessing left.

    Raises:
        DataError: the directory holds no transform graph.
    """
    folder = pathlib.Path(transform_dir)
    fields = description.read(folder).raw_fields
    return functools.partial(
        _transformed, tf.saved_model.load(str(folder / "transform_fn")), fields
    )


def _transformed(
    graph: tf.Module, fields: Mapping[str, str], raw: Mapping[str, Any]
) -> dict[str, Any]:
    lists = {n: _without_ends(raw[n]) for n, kind in fields.items() if kind.endswith("[]")}
    return dict(graph.transform_fn({**raw, **lists}))


def _parsed_as(kind: str) -> Any:
    if kind.endswith("[]"):
        return tf.io.VarLenFeature(_FIELD_TYPES[kind[:-2]])
    return tf.io.FixedLenFeature([], _FIELD_TYPES[kind], default_value=_MISSING[kind])


def _without_ends(values: tf.Tensor) -> tf.SparseTensor:
    """Returns the positions of a matrix up to the last value of each row."""
    ends = tf.where(is_missing(values), 0, tf.range(1, tf.shape(values)[1] + 1))
    lengths = tf.maximum(tf.reduce_max(ends, 1), 0)
    at = tf.where(tf.sequence_mask(lengths, tf.shape(values)[1]))
    return tf.SparseTensor(at, tf.gather_nd(values, at), tf.shape(values, tf.int64))


def _placeholder(dtype: tf.DType, shape: Sequence[int | None], name: str) -> tf.Tensor:
    safe = variables.graph_name(name.replace("/", "_"))
    return tf.compat.v1.placeholder(dtype, shape, name=safe)


def _spec(name: str, value: object) -> tf.Tensor | tf.TensorSpec:
    if isinstance(value, _SHAPED):
        if value.shape.rank in (0, None):
            raise ConfigError(
                f"Feature {name!r} has no batch dimension: expected shape [batch, ...], got "
                f"{value.shape}.",
            )
        return value
    try:
        return tf.convert_to_tensor(value)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"Feature {name!r} is invalid: expected a tensor, array or TensorSpec, got "
            f"{quote(value)}.",
            reason=Reason.TYPE_MISMATCH,
        ) from error
