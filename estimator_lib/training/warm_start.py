"""Warm start: initial values from another model's checkpoint or SavedModel.

Layer 3. Used only when the model directory has no checkpoint yet; what was taken and what was
not is logged.
"""

from __future__ import annotations

import collections
import logging
import os
import pathlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Self

import numpy as np
import tensorflow as tf

from estimator_lib.core.errors import CheckpointError, ConfigError, Reason, did_you_mean, quote
from estimator_lib.protocols import Array
from estimator_lib.training import checkpoints

_log = logging.getLogger(__name__)


class VocabInfo(
    collections.namedtuple(
        "VocabInfo",
        [
            "new_vocab", "new_vocab_size", "num_oov_buckets", "old_vocab", "old_vocab_size",
            "backup_initializer", "axis",
        ],
    )
):  # fmt: skip
    """How rows of an embedding move from an old vocabulary to a new one.

    Args:
        new_vocab: File with the new vocabulary, one token per line.
        new_vocab_size: Tokens of it that are used.
        num_oov_buckets: Rows after the vocabulary; they start anew.
        old_vocab: File with the old vocabulary.
        old_vocab_size: Tokens of it that were used; -1 for all.
        backup_initializer: Gives rows of tokens that are new, called with (shape, dtype); by
            default they keep their fresh initial values.
        axis: 0 when rows follow the vocabulary, 1 when columns do.
    """

    def __new__(
        cls,
        new_vocab: str,
        new_vocab_size: int,
        num_oov_buckets: int,
        old_vocab: str,
        old_vocab_size: int = -1,
        backup_initializer: Callable[..., tf.Tensor] | None = None,
        axis: int = 0,
    ) -> Self:
        if axis not in (0, 1):
            raise ConfigError(
                f"VocabInfo.axis is invalid: expected 0 or 1, got {quote(axis)}.",
            )
        return super().__new__(
            cls, new_vocab, new_vocab_size, num_oov_buckets, old_vocab, old_vocab_size,
            backup_initializer, axis,
        )  # fmt: skip


class WarmStartSettings(
    collections.namedtuple(
        "WarmStartSettings",
        [
            "ckpt_to_initialize_from", "vars_to_warm_start", "var_name_to_vocab_info",
            "var_name_to_prev_var_name",
        ],
    )
):  # fmt: skip
    """What to take from where.

    Args:
        ckpt_to_initialize_from: A checkpoint, a model directory or a SavedModel.
        vars_to_warm_start: A regular expression (trainable variables only), a list of them
            (all variables), or None (only variables with a vocabulary below).
        var_name_to_vocab_info: Variable name to VocabInfo.
        var_name_to_prev_var_name: New name to old name.
    """

    def __new__(
        cls,
        ckpt_to_initialize_from: str,
        vars_to_warm_start: str | Sequence[object] | None = ".*",
        var_name_to_vocab_info: Mapping[str, VocabInfo] | None = None,
        var_name_to_prev_var_name: Mapping[str, str] | None = None,
    ) -> Self:
        if not ckpt_to_initialize_from:
            raise ConfigError(
                "WarmStartSettings.ckpt_to_initialize_from is empty: expected a checkpoint.",
                reason=Reason.MISSING_VALUE,
            )
        return super().__new__(
            cls,
            os.fsdecode(ckpt_to_initialize_from),
            vars_to_warm_start,
            dict(var_name_to_vocab_info or {}),
            dict(var_name_to_prev_var_name or {}),
        )

    def _replace(self, **changes: Any) -> WarmStartSettings:
        """Returns a copy with `changes`, checked like a new one."""
        return WarmStartSettings(**{**self._asdict(), **changes})


def settings(
    warm_start_from: str | bytes | os.PathLike[str] | WarmStartSettings | None,
) -> WarmStartSettings | None:
    """Returns the settings that a constructor's argument stands for."""
    if warm_start_from is None or isinstance(warm_start_from, WarmStartSettings):
        return warm_start_from
    if isinstance(warm_start_from, str | bytes | os.PathLike):
        return WarmStartSettings(os.fsdecode(warm_start_from))
    raise ConfigError(
        f"warm_start_from is invalid: expected a path or WarmStartSettings, got "
        f"{quote(warm_start_from)}.",
        reason=Reason.TYPE_MISMATCH,
    )


def find(path: str) -> str:
    """Returns the checkpoint prefix in a checkpoint, model directory or SavedModel path."""
    folder = pathlib.Path(path)
    if pathlib.Path(path + ".index").exists():
        return path
    if (folder / "variables" / "variables.index").exists():
        return str(folder / "variables" / "variables")
    found = checkpoints.CheckpointDirectory(path).latest()
    if found is None:
        raise CheckpointError(
            f"There is no checkpoint at {path}. Give a checkpoint, a model directory or a "
            "SavedModel.",
            reason=Reason.FILE_NOT_FOUND,
        )
    return found


def apply(
    given: WarmStartSettings, variables: Mapping[str, tf.Variable], known: Collection[str] = ()
) -> list[str]:
    """Assigns old values to `variables` and returns the names that were taken.

    Args:
        given: What to take.
        variables: By name; those that hold no value yet.
        known: Names of the model's other variables.

    Raises:
        CheckpointError: a selected variable is missing there or has another shape.
        ConfigError: a name in the settings is no variable of the model.
    """
    loaded = checkpoints.load(find(given.ckpt_to_initialize_from))
    for name in (*given.var_name_to_vocab_info, *given.var_name_to_prev_var_name):
        if name not in variables and name not in known:
            raise ConfigError(
                f"Warm start names a variable {name!r} that the model does not have."
                + did_you_mean(name, variables),
                reason=Reason.UNKNOWN_NAME,
            )
    taken = []
    for name, variable in variables.items():
        vocabulary = given.var_name_to_vocab_info.get(name)
        if vocabulary is None and not _selected(given.vars_to_warm_start, name, variable):
            continue
        value = _old_value(loaded, given.var_name_to_prev_var_name.get(name, name), name)
        if vocabulary is not None:
            value = _remapped(vocabulary, variable, value)
        if tuple(variable.shape) != value.shape:
            raise CheckpointError(
                f"Variable {name!r} cannot be warm started: expected shape "
                f"{tuple(variable.shape)}, got {value.shape} in {loaded.path}. Leave it out of "
                "vars_to_warm_start.",
                reason=Reason.CONFLICT,
            )
        variable.assign(tf.cast(value, variable.dtype))
        taken.append(name)
    left = sorted(set(variables) - set(taken))
    _log.info(
        "Warm start from %s: took %s; fresh: %s.",
        loaded.path,
        ", ".join(taken) or "nothing",
        ", ".join(left) or "nothing",
    )
    return taken


def _selected(chosen: str | Sequence[object] | None, name: str, variable: tf.Variable) -> bool:
    if chosen is None or name == "global_step":
        return False
    if isinstance(chosen, str):
        return bool(variable.trainable) and re.match(chosen, name) is not None
    for item in chosen:
        if isinstance(item, str):
            if re.match(item, name):
                return True
        elif getattr(item, "name", "").removesuffix(":0") == name:
            return True
    return False


def _old_value(loaded: checkpoints.Loaded, old: str, new: str) -> Array:
    if old not in loaded.values:
        raise CheckpointError(
            f"Variable {new!r} cannot be warm started: {loaded.path} has no {old!r}."
            f"{did_you_mean(old, loaded.values)} Leave it out of vars_to_warm_start, or map its "
            "name.",
            reason=Reason.UNKNOWN_NAME,
        )
    return loaded.values[old]


def _tokens(path: str, size: int) -> list[bytes]:
    try:
        lines = pathlib.Path(path).read_bytes().split(b"\n")
    except OSError as error:
        raise ConfigError(
            f"Vocabulary {path} cannot be read: {error.strerror}.", reason=Reason.FILE_NOT_FOUND
        ) from error
    if lines and not lines[-1]:
        lines.pop()
    return lines if size < 0 else lines[:size]


def _remapped(info: VocabInfo, variable: tf.Variable, old: Array) -> Array:
    """Moves each token's row (or column) to its new place."""
    fresh = np.array(variable.numpy())
    if info.backup_initializer is not None:
        fresh = np.array(info.backup_initializer(fresh.shape, dtype=variable.dtype))
    before = {token: i for i, token in enumerate(_tokens(info.old_vocab, info.old_vocab_size))}
    new, source = np.moveaxis(fresh, info.axis, 0), np.moveaxis(old, info.axis, 0)
    if new.shape[1:] != source.shape[1:]:
        return old  # which the caller refuses
    for place, token in enumerate(_tokens(info.new_vocab, info.new_vocab_size)):
        at = before.get(token)
        if at is not None and at < len(source) and place < len(new):
            new[place] = source[at]
    return np.moveaxis(new, 0, info.axis)
