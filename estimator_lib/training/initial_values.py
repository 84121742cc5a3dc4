"""Initial values that a model_fn takes from a checkpoint with `init_from_checkpoint`.

Layer 3. `tf.compat.v1.train.init_from_checkpoint` adds operations that a session ran once, before
the first step. A traced step would run them each time. So they are not made: variables that the
trace has just made take their values here, and others keep theirs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import tensorflow as tf

from estimator_lib import tensorflow_internals, variables
from estimator_lib.core.errors import CheckpointError, ConfigError, Reason, did_you_mean, quote
from estimator_lib.training import checkpoints, warm_start

Assignment = Mapping[str, object] | Sequence[tuple[str, object]]
"""Names, or scopes that end in "/", of the checkpoint to those of the model."""


@contextlib.contextmanager
def taken(trace: variables.Trace) -> Iterator[None]:
    """Lets `init_from_checkpoint` set the variables that `trace` makes.

    Raises:
        CheckpointError: a variable is missing in the checkpoint, or has another shape there.
        ConfigError: the model has no such variable.
    """
    before = frozenset(trace.store.variables)

    def take(path: str, assignment: Assignment) -> None:
        pairs = list(assignment.items() if isinstance(assignment, Mapping) else assignment)
        wanted = [pair for old, new in pairs for pair in _matched(old, new, trace.used)]
        fresh = [(old, name) for old, name in wanted if name not in before]
        if not fresh:
            return
        with tf.init_scope():
            loaded = checkpoints.load(warm_start.find(path))
            for old, name in fresh:
                _assign(trace.used[name], loaded, old, name)

    with tensorflow_internals.taking_initial_values(take):
        yield


def _matched(old: str, new: object, used: Mapping[str, tf.Variable]) -> list[tuple[str, str]]:
    """Returns the names in the checkpoint and the names here that one entry stands for."""
    if isinstance(new, list | tuple) and len(new) == 1:
        new = new[0]
    if not isinstance(new, str):
        found = [name for name, variable in used.items() if variable is variables.raw(new)]
        if not found:
            raise ConfigError(
                f"init_from_checkpoint got {quote(getattr(new, 'name', new))} for {old!r}: "
                "expected a variable of the model or its name.",
                reason=Reason.TYPE_MISMATCH,
            )
        return [(old, found[0])]
    if new in used:
        return [(old, new)]
    scope = "" if new == "/" else new.rstrip("/") + "/"
    inside = [name for name in used if name.startswith(scope) and name != variables.GLOBAL_STEP]
    if not old.endswith("/") or not inside:
        raise ConfigError(
            f"init_from_checkpoint maps {old!r} to {new!r}, which is no variable of the model, "
            f"nor a scope that has some.{did_you_mean(new, used)}",
            reason=Reason.UNKNOWN_NAME,
        )
    prefix = "" if old == "/" else old
    return [(prefix + name.removeprefix(scope), name) for name in inside]


def _assign(variable: tf.Variable, loaded: checkpoints.Loaded, old: str, name: str) -> None:
    value = loaded.find(old)
    if value is None:
        raise CheckpointError(
            f"Variable {name!r} has no initial value: checkpoint {loaded.path} has no {old!r}."
            f"{did_you_mean(old, loaded.values)} Correct the map of init_from_checkpoint.",
            reason=Reason.UNKNOWN_NAME,
        )
    if tuple(variable.shape) != value.shape:
        raise CheckpointError(
            f"Variable {name!r} cannot begin with {old!r} of {loaded.path}: expected shape "
            f"{tuple(variable.shape)}, got {value.shape}. Leave it out of the map.",
            reason=Reason.CONFLICT,
        )
    variable.assign(tf.cast(value, variable.dtype))
