"""One training step from a loss, and optimizers from what users write.

Layer 2. Gradients are computed, reduced over replicas and handed to the optimizer here and
nowhere else.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import tensorflow as tf

from estimator_lib import variables as store
from estimator_lib.core.constraints import check_names
from estimator_lib.core.errors import ConfigError, Reason, did_you_mean, quote
from estimator_lib.features.lookup import Lookup, lookups
from estimator_lib.losses import LossReduction
from estimator_lib.optimizers._base import Optimizer
from estimator_lib.optimizers.gradients import Gradient, Indices, UniqueRows, of_whole
from estimator_lib.optimizers.optimizers import BY_NAME
from estimator_lib.optimizers.schedules import Rate

KERAS_OPTIMIZER = "optimizer/"
"""Begin of the names of what an optimizer of Keras keeps that was made outside of model_fn."""
_SMALL_TABLE = 8_192
"""Tables of at most this many numbers get dense gradients: one kernel instead of three."""

Pairs = Sequence[tuple[Gradient, tf.Variable]]


class AppliesGradients(Protocol):
    """An optimizer: ours, one of Keras or of a user's own."""

    def apply_gradients(
        self, grads_and_vars: Iterable[tuple[Gradient, tf.Variable]], /
    ) -> tf.Operation | None:
        """Updates the variables once."""


OptimizerLike = str | Mapping[str, object] | AppliesGradients | Callable[[], AppliesGradients]
"""An optimizer as users write it; see `get`."""


def get(identifier: OptimizerLike, learning_rate: Rate | None = None) -> AppliesGradients:
    """Returns an optimizer.

    Args:
        identifier: "Adagrad", "Adam", "Ftrl", "RMSProp" or "SGD"; an instance of ours or of
            Keras, which is returned as it is; a function without arguments that makes one; or
            {"name": "Adagrad", "learning_rate": 0.05, ...} as in a run configuration.
        learning_rate: For a string only: instead of the optimizer's own default.

    Raises:
        ConfigError: not an optimizer, or an unknown name or argument.
    """
    if isinstance(identifier, str):
        identifier = {"name": identifier}
    if isinstance(identifier, Mapping):
        return _from_mapping(identifier, learning_rate)
    given = hasattr(identifier, "apply_gradients") or not callable(identifier)
    found = identifier if given else identifier()  # type: ignore[operator]
    if not hasattr(found, "apply_gradients"):
        raise ConfigError(
            "The optimizer is invalid: expected a name, an optimizer, a function that makes one "
            f"or a mapping with a name, got {quote(found)}.",
            reason=Reason.TYPE_MISMATCH,
        )
    return found


def minimize(
    loss: tf.Tensor,
    optimizer: OptimizerLike,
    variables: Sequence[tf.Variable] | None = None,
    *,
    reduction: LossReduction = LossReduction.SUM_OVER_BATCH_SIZE,
) -> tf.Operation:
    """Returns the op that makes one step against the gradient of `loss`.

    Args:
        loss: Scalar, computed in the graph that is being traced.
        optimizer: Ours or a Keras one; anything `get` takes.
        variables: What to update; None means all trainable variables of the model_fn.
        reduction: Of the loss; gradients are averaged over replicas, or summed for SUM.

    Raises:
        ConfigError: there are no variables, or the loss depends on none of them.
    """
    trained = list(store.trainable_variables() if variables is None else variables)
    return minimize_parts(loss, [(optimizer, trained)], reduction=reduction)


def minimize_parts(
    loss: tf.Tensor,
    parts: Sequence[tuple[OptimizerLike, Sequence[tf.Variable]]],
    *,
    reduction: LossReduction = LossReduction.SUM_OVER_BATCH_SIZE,
) -> tf.Operation:
    """Returns the op that makes one step, in which each optimizer updates its own variables.

    Args:
        loss: See `minimize`.
        parts: Pairs of an optimizer and the variables that it updates.
        reduction: See `minimize`.

    Raises:
        ConfigError: a part has no variables, or the loss depends on none of them.
    """
    made = [(get(optimizer), list(owned)) for optimizer, owned in parts]
    # Those of tf.compat.v1 leave rows without a gradient alone, those of Keras 3 do not.
    dense = {
        id(store.raw(v)): getattr(
            optimizer, "rows_as_dense", not isinstance(optimizer, tf.compat.v1.train.Optimizer)
        )
        for optimizer, owned in made
        for v in owned
    }
    if len(made) == 1 and _updates_itself(made[0][0]):
        optimizer, owned = made[0]
        # It counts the steps of the model, also where a training goes on.
        with contextlib.suppress(AttributeError, RuntimeError):
            optimizer.iterations = store.global_step()  # type: ignore[attr-defined]
        updates = optimizer.get_updates(loss, owned)  # type: ignore[attr-defined]
        return updates[0] if len(updates) == 1 else tf.group(*updates)
    trained = [v for _, owned in made for v in owned]
    gradients = iter(_gradients(loss, trained, dense) if trained else ())
    pairs_of = []
    for optimizer, owned in made:
        pairs: Pairs = [(g, v) for v, g in zip(owned, gradients, strict=False) if g is not None]
        if not pairs:
            raise _nothing_to_train(owned)
        if isinstance(optimizer, Optimizer):
            pairs = _reduced(pairs, reduction)
        pairs_of.append((optimizer, pairs))
    steps = [
        optimizer.apply_gradients(pairs)
        if isinstance(optimizer, Optimizer)
        else _apply_keras(optimizer, pairs, reduction)
        for optimizer, pairs in pairs_of
    ]
    return steps[0] if len(steps) == 1 else tf.group(*steps)


def _updates_itself(optimizer: AppliesGradients) -> bool:
    """Whether a user's class has the method that Keras 2 called with loss and variables."""
    kinds = [kind for kind in type(optimizer).__mro__ if "get_updates" in vars(kind)]
    return bool(kinds) and not kinds[0].__module__.startswith(("keras.", "tf_keras."))


def _nothing_to_train(trained: Sequence[tf.Variable]) -> ConfigError:
    if not trained:
        return ConfigError(
            "There is nothing to train: no trainable variables. Create them in model_fn, or give "
            "trainable_variables.",
            reason=Reason.EMPTY_INPUT,
        )
    names = ", ".join(store.name_of(v) for v in trained[:3])
    return ConfigError(
        f"There is nothing to train: the loss depends on none of the variables ({names}). "
        "Check that the logits are computed from them.",
        reason=Reason.EMPTY_INPUT,
    )


def _gradients(
    loss: tf.Tensor, trained: Sequence[tf.Variable], dense: Mapping[int, bool]
) -> list[Gradient | None]:
    """Differentiates by the rows that were read where they are known, else by the variable."""
    raw = [store.raw(v) for v in trained]
    known = {id(v) for v in raw}
    reads = [read for read in lookups() if id(store.raw(read.table)) in known]
    outputs = [read.output for read in reads]
    parts_of = [store.parts_of(v) for v in raw]
    flat = [part for parts in parts_of for part in parts]
    found = tf.gradients(loss, [*flat, *outputs], stop_gradients=outputs)
    of_reads, of_parts = found[len(flat) :], iter(found)
    whole = [of_whole(list(itertools.islice(of_parts, len(parts))), parts) for parts in parts_of]
    by_table: dict[int, list[tuple[Lookup, tf.Tensor]]] = {}
    for read, gradient in zip(reads, of_reads, strict=True):
        if gradient is not None:
            by_table.setdefault(id(store.raw(read.table)), []).append((read, gradient))
    unique: dict[tuple[int, int], Indices] = {}
    gradients: list[Gradient | None] = []
    for variable, other in zip(raw, whole, strict=True):
        parts = by_table.get(id(variable))
        if parts is None:
            gradients.append(other)
            continue
        elements = variable.shape.num_elements()
        if other is not None or (dense[id(variable)] and elements <= _SMALL_TABLE):
            total = tf.add_n([_dense(read.ids, g, variable) for read, g in parts])
            if other is not None:
                total += tf.convert_to_tensor(other)
            gradients.append(total)
        else:
            gradients.append(_rows(parts, variable, unique))
    return gradients


def _dense(ids: tf.Tensor, gradient: tf.Tensor, variable: tf.Variable) -> tf.Tensor:
    # Negative segment ids are dropped: a missing category has no gradient.
    return tf.math.unsorted_segment_sum(gradient, ids, variable.shape[0])


def _rows(
    parts: list[tuple[Lookup, tf.Tensor]],
    table: tf.Variable,
    unique: dict[tuple[int, int], Indices],
) -> UniqueRows:
    if len(parts) == 1:
        ids, values = parts[0][0].safe_ids, parts[0][1]
    else:
        ids = tf.concat([read.safe_ids for read, _ in parts], 0)
        values = tf.concat([gradient for _, gradient in parts], 0)
    # Two tables (embedding and linear weights) are often read by the same ids. Missing ids add
    # zeros to row 0, as the gradient of a masked gather does.
    key = id(ids), table.shape[0]
    if key not in unique:
        unique[key] = Indices(ids, table)
    return unique[key].sums(values)


def _reduced(pairs: Pairs, reduction: LossReduction) -> Pairs:
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return pairs
    gradients, how = [g for g, _ in pairs], tf.distribute.ReduceOp
    if reduction == LossReduction.SUM:
        reduced = context.all_reduce(how.SUM, gradients)
    elif (given := store.replica_rows()) is None:
        reduced = context.all_reduce(how.MEAN, gradients)
    else:
        # The mean over all rows, however many each replica has; some may have none.
        rows = tf.cast(given, tf.float32)
        *sums, total = context.all_reduce(how.SUM, [*(_times(g, rows) for g in gradients), rows])
        reduced = [_times(g, tf.math.reciprocal_no_nan(total)) for g in sums]
    return [(g, v) for g, (_, v) in zip(reduced, pairs, strict=True)]


def _times(gradient: Gradient, factor: tf.Tensor) -> Gradient:
    """A gradient times a scalar; 0 is stronger than what is not finite."""
    if isinstance(gradient, tf.IndexedSlices):
        values = _times(gradient.values, factor)
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return tf.math.multiply_no_nan(gradient, tf.cast(factor, gradient.dtype))


def _apply_keras(
    optimizer: AppliesGradients, pairs: Pairs, reduction: LossReduction
) -> tf.Operation:
    split = [store.name_of(v) for _, v in pairs if isinstance(v, store.SplitVariable)]
    if split:
        raise ConfigError(
            f"Optimizer {type(optimizer).__name__} cannot update table {split[0]!r}, which is "
            "split over several parameter servers: expected one of estimator_lib.optimizers. Use "
            "one of those, or RunConfig(partitioner=tf.compat.v1.fixed_size_partitioner(1)).",
            reason=Reason.UNSUPPORTED,
        )
    if reduction != LossReduction.SUM:
        # It adds up the gradients of the replicas itself.
        pairs = _shared(pairs)
    plain = [
        (tf.IndexedSlices(g.values, g.indices, tf.shape(v, g.indices.dtype)), v)
        if isinstance(g, tf.IndexedSlices)
        else (g, v)
        for g, v in pairs
    ]
    applied = optimizer.apply_gradients(plain)
    owned = getattr(optimizer, "variables", ())  # a method of tf.compat.v1's: they name their own
    # The rate is that of the arguments. Keras numbers its objects per process.
    named = re.sub(r"_\d+$", "", str(getattr(optimizer, "name", type(optimizer).__name__)))
    made = () if callable(owned) else [v for v in owned if hasattr(v, "path")]
    kept = {v.name: v for v in made if v.name != "learning_rate"}
    store.adopt(f"{KERAS_OPTIMIZER}{named}", kept)
    return applied if applied is not None else tf.no_op()


def _shared(pairs: Pairs) -> Pairs:
    """Returns gradients whose sum over all replicas is that of the mean over all rows."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return pairs
    given = store.replica_rows()
    if given is None:
        share = tf.constant(1.0 / context.num_replicas_in_sync)
    else:
        rows = tf.cast(given, tf.float32)
        share = tf.math.divide_no_nan(rows, context.all_reduce(tf.distribute.ReduceOp.SUM, rows))
    return [(_times(tf.convert_to_tensor(g), share), v) for g, v in pairs]


def _named(name: str) -> type[Optimizer]:
    for known, kind in BY_NAME.items():
        if known.lower() == name.lower():
            return kind
    raise ConfigError(
        f"Optimizer {quote(name)} is unknown." + did_you_mean(name, BY_NAME),
        reason=Reason.UNKNOWN_NAME,
    )


def _from_mapping(mapping: Mapping[str, object], learning_rate: Rate | None) -> Optimizer:
    arguments = dict(mapping)
    name = arguments.pop("name", None)
    if not isinstance(name, str):
        raise ConfigError(
            f"Optimizer {quote(dict(mapping))} has no name. Add name: one of {', '.join(BY_NAME)}.",
            reason=Reason.MISSING_VALUE,
        )
    kind: Callable[..., Optimizer] = _named(name)
    check_names(f"Optimizer {name}", kind, arguments)
    if learning_rate is not None:
        arguments.setdefault("learning_rate", learning_rate)
    return kind(**arguments)
