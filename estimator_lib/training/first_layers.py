"""`tf.compat.v1.layers`, whose functions TensorFlow no longer has with Keras 3.

Layer 3. While a model_fn is traced, these stand in their places: names and initial values of
variables, and the numbers, are those of tf.estimator 2.15.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from estimator_lib.core.errors import ConfigError, Reason
from estimator_lib.variables import stateless_seed

v1 = tf.compat.v1

Size = int | Sequence[int]
Function = Callable[..., Any]
_lock = threading.Lock()
_uses = 0
_placed = False


@contextlib.contextmanager
def in_place() -> Iterator[None]:
    """Puts the functions where programs look for them, unless Keras 2 has them there."""
    global _uses, _placed  # other threads may be tracing, too
    with _lock:
        if not _uses:
            _placed = not hasattr(v1.layers, dense.__name__)
        if _placed and not _uses:
            vars(v1.layers).update({function.__name__: function for function in FUNCTIONS})
        _uses += 1
    try:
        yield
    finally:
        with _lock:
            _uses -= 1
            if _placed and not _uses:
                for function in FUNCTIONS:
                    del vars(v1.layers)[function.__name__]


def dense(
    inputs: tf.Tensor,
    units: int,
    activation: Function | None = None,
    use_bias: bool = True,  # noqa: FBT001, FBT002, RUF100 - as in tf.compat.v1
    kernel_initializer: Any = None,
    bias_initializer: Any = tf.zeros_initializer(),  # noqa: B008
    kernel_regularizer: Function | None = None,
    bias_regularizer: Function | None = None,
    activity_regularizer: Function | None = None,
    kernel_constraint: Function | None = None,
    bias_constraint: Function | None = None,
    trainable: bool = True,  # noqa: FBT001, FBT002, RUF100
    name: str | None = None,
    reuse: Any = None,
) -> tf.Tensor:
    """As `tf.compat.v1.layers.dense`: float32 `[..., width]` to `[..., units]`."""
    _no_activity_regularizer("dense", activity_regularizer)
    with v1.variable_scope(name, "dense", reuse=reuse):
        kernel = v1.get_variable(
            "kernel", [int(inputs.shape[-1]), units], inputs.dtype, kernel_initializer,
            kernel_regularizer, trainable, constraint=kernel_constraint,
        )  # fmt: skip
        outputs = tf.tensordot(inputs, kernel, 1) if inputs.shape.rank > 2 else inputs @ kernel
        if use_bias:
            bias = v1.get_variable(
                "bias", [units], inputs.dtype, bias_initializer, bias_regularizer, trainable,
                constraint=bias_constraint,
            )  # fmt: skip
            outputs = tf.nn.bias_add(outputs, bias)
        return outputs if activation is None else activation(outputs)


def batch_normalization(
    inputs: tf.Tensor,
    axis: int = -1,
    momentum: float = 0.99,
    epsilon: float = 1e-3,
    center: bool = True,  # noqa: FBT001, FBT002, RUF100
    scale: bool = True,  # noqa: FBT001, FBT002, RUF100
    beta_initializer: Any = tf.zeros_initializer(),  # noqa: B008
    gamma_initializer: Any = tf.ones_initializer(),  # noqa: B008
    moving_mean_initializer: Any = tf.zeros_initializer(),  # noqa: B008
    moving_variance_initializer: Any = tf.ones_initializer(),  # noqa: B008
    beta_regularizer: Function | None = None,
    gamma_regularizer: Function | None = None,
    beta_constraint: Function | None = None,
    gamma_constraint: Function | None = None,
    training: bool | tf.Tensor = False,  # noqa: FBT001, FBT002, RUF100
    trainable: bool = True,  # noqa: FBT001, FBT002, RUF100
    name: str | None = None,
    reuse: Any = None,
    fused: bool | None = None,  # noqa: FBT001, RUF100
    **renormalization: object,
) -> tf.Tensor:
    """As `tf.compat.v1.layers.batch_normalization`, without renormalization.

    The updates of the moving averages are in the collection UPDATE_OPS.
    """
    if any(renormalization.values()):
        raise _unsupported("batch_normalization", ", ".join(renormalization))
    rank = inputs.shape.rank
    at = axis % rank
    shape = [int(inputs.shape[at])]
    with v1.variable_scope(name, "batch_normalization", reuse=reuse):
        get = functools.partial(v1.get_variable, shape=shape, dtype=tf.float32)
        gamma = beta = None
        if scale:
            gamma = get(
                "gamma", initializer=gamma_initializer, regularizer=gamma_regularizer,
                trainable=trainable, constraint=gamma_constraint,
            )  # fmt: skip
        if center:
            beta = get(
                "beta", initializer=beta_initializer, regularizer=beta_regularizer,
                trainable=trainable, constraint=beta_constraint,
            )  # fmt: skip
        moving = [
            get(
                kept, initializer=initializer, trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.MEAN,
            )
            for kept, initializer in (
                ("moving_mean", moving_mean_initializer),
                ("moving_variance", moving_variance_initializer),
            )
        ]  # fmt: skip
        others = [d for d in range(rank) if d != at]
        found = list(tf.nn.moments(inputs, others))
        corrected = list(found)
        if fused or (fused is None and rank == 4):  # its kernel keeps the unbiased variance
            rows = tf.cast(tf.size(inputs) / shape[0], tf.float32)
            corrected[1] = found[1] * rows / tf.maximum(rows - 1.0, 1.0)
        known = training if isinstance(training, bool | int) else tf.get_static_value(training)
        if known is None:
            used = [tf.where(training, f, m) for f, m in zip(found, moving, strict=True)]
        else:
            used = found if known else [tf.convert_to_tensor(m) for m in moving]
        if known is None or known:
            share = 1.0 - momentum
            if known is None:
                share = tf.where(training, share, 0.0)
            for kept, new in zip(moving, corrected, strict=True):
                update = kept.assign_sub((kept - new) * share)
                v1.add_to_collection(v1.GraphKeys.UPDATE_OPS, update)
        wide = [1] * rank
        wide[at] = shape[0]
        mean, variance, offset, factor = (
            None if part is None else tf.reshape(part, wide) for part in (*used, beta, gamma)
        )
        return tf.nn.batch_normalization(inputs, mean, variance, offset, factor, epsilon)


def dropout(
    inputs: tf.Tensor,
    rate: float = 0.5,
    noise_shape: Any = None,
    seed: int | None = None,
    training: bool | tf.Tensor = False,  # noqa: FBT001, FBT002, RUF100
    name: str | None = None,
) -> tf.Tensor:
    """As `tf.compat.v1.layers.dropout`."""
    known = training if isinstance(training, bool | int) else tf.get_static_value(training)
    if known is not None and not known:
        return tf.identity(inputs, name=name)
    pair = stateless_seed("dropout")
    if seed is not None:
        pair = tf.stack([tf.constant(seed, tf.int64), pair[1]])
    dropped = tf.nn.experimental.stateless_dropout(inputs, rate, pair, noise_shape=noise_shape)
    return dropped if known else tf.where(training, dropped, inputs)


def flatten(
    inputs: tf.Tensor, name: str | None = None, data_format: str = "channels_last"
) -> tf.Tensor:
    """As `tf.compat.v1.layers.flatten`: `[batch, ...]` to `[batch, width]`."""
    if data_format == "channels_first" and inputs.shape.rank > 2:
        inputs = tf.moveaxis(inputs, 1, -1)
    width = inputs.shape[1:].num_elements()
    sizes = tf.shape(inputs)[0], -1 if width is None else width
    return tf.reshape(inputs, sizes, name=name)


def conv(
    rank: int,
    inputs: tf.Tensor,
    filters: int,
    kernel_size: Size,
    strides: Size = 1,
    padding: str = "valid",
    data_format: str = "channels_last",
    dilation_rate: Size = 1,
    activation: Function | None = None,
    use_bias: bool = True,  # noqa: FBT001, FBT002, RUF100
    kernel_initializer: Any = None,
    bias_initializer: Any = tf.zeros_initializer(),  # noqa: B008
    kernel_regularizer: Function | None = None,
    bias_regularizer: Function | None = None,
    activity_regularizer: Function | None = None,
    kernel_constraint: Function | None = None,
    bias_constraint: Function | None = None,
    trainable: bool = True,  # noqa: FBT001, FBT002, RUF100
    name: str | None = None,
    reuse: Any = None,
) -> tf.Tensor:
    """As `tf.compat.v1.layers.conv1d`, `conv2d` and `conv3d` for 1 to 3 dimensions."""
    _no_activity_regularizer(f"conv{rank}d", activity_regularizer)
    form = _layout(rank, data_format)
    with v1.variable_scope(name, f"conv{rank}d", reuse=reuse):
        channels = int(inputs.shape[form.index("C")])
        kernel = v1.get_variable(
            "kernel", [*_sizes(rank, kernel_size), channels, filters], inputs.dtype,
            kernel_initializer, kernel_regularizer, trainable, constraint=kernel_constraint,
        )  # fmt: skip
        outputs = tf.nn.convolution(
            inputs, kernel, _sizes(rank, strides), padding.upper(), form,
            _sizes(rank, dilation_rate),
        )  # fmt: skip
        if use_bias:
            bias = v1.get_variable(
                "bias", [filters], inputs.dtype, bias_initializer, bias_regularizer, trainable,
                constraint=bias_constraint,
            )  # fmt: skip
            wide = [filters if letter == "C" else 1 for letter in form]
            outputs += tf.reshape(bias, wide)
        return outputs if activation is None else activation(outputs)


def pooling(
    rank: int,
    kind: str,
    inputs: tf.Tensor,
    pool_size: Size,
    strides: Size,
    padding: str = "valid",
    data_format: str = "channels_last",
    name: str | None = None,
) -> tf.Tensor:
    """As `tf.compat.v1.layers.max_pooling2d` and its like."""
    return tf.nn.pool(
        inputs, _sizes(rank, pool_size), kind, _sizes(rank, strides), padding.upper(),
        _layout(rank, data_format), name=name,
    )  # fmt: skip


def _sizes(rank: int, size: Size) -> list[int]:
    return [size] * rank if isinstance(size, int) else [int(n) for n in size]


def _layout(rank: int, data_format: str) -> str:
    dimensions = "DHW"[-rank:]
    return f"NC{dimensions}" if data_format == "channels_first" else f"N{dimensions}C"


def _named(name: str, function: Function, *first: object) -> Function:
    made = functools.partial(function, *first)
    functools.update_wrapper(made, function)
    made.__name__ = name  # type: ignore[attr-defined]
    return made


FUNCTIONS: Sequence[Function] = (
    dense,
    batch_normalization,
    dropout,
    flatten,
    *(_named(f"conv{rank}d", conv, rank) for rank in (1, 2, 3)),
    *(_named(f"max_pooling{rank}d", pooling, rank, "MAX") for rank in (1, 2, 3)),
    *(_named(f"average_pooling{rank}d", pooling, rank, "AVG") for rank in (1, 2, 3)),
)


def _no_activity_regularizer(layer: str, given: object) -> None:
    if given is not None:
        raise _unsupported(layer, "activity_regularizer")


def _unsupported(layer: str, argument: str) -> ConfigError:
    return ConfigError(
        f"tf.compat.v1.layers.{layer} has no {argument} with Keras 3. Use keras.layers for it.",
        reason=Reason.UNSUPPORTED,
    )
