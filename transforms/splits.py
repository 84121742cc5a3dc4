"""Which split a row belongs to: by file, by keyed hash, by the value of a field.

Pure functions of the row's own texts (or of its file), so that a rerun, another shard order or
another machine gives the same answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from estimator_lib.core import config

Array = np.ndarray[Any, Any]

_HASH_KEY = (0x5EED_0001, 0x5EED_0002)
"""Fixed for ever: another key would move rows between train and eval."""
_HASH_RANGE = 1 << 40


def fields(split: config.Split) -> list[str]:
    """Returns the fields whose texts decide the split."""
    if split.hash is not None:
        return list(split.hash.key)
    return [split.column.field] if split.column is not None else []


def names(split: config.Split) -> list[str]:
    """Returns the splits there will be, in the order train, validation, eval."""
    if split.files is not None:
        return [name for name in config.SPLITS if getattr(split.files, name)]
    with_validation = split.column is not None and split.column.validation
    return list(config.SPLITS) if with_validation else ["train", "eval"]


def assign(split: config.Split, texts: Mapping[str, pa.Array], file_split: str) -> dict[str, Any]:
    """Returns, per split, which rows of a batch belong to it.

    Args:
        split: The declaration.
        texts: The fields that decide, as written, string `[rows]`.
        file_split: The split of the file the rows come from; "" where rows decide.

    Returns:
        Split to a bool array `[rows]`, or to None for all rows.
    """
    if file_split:
        return {file_split: None}
    if split.hash is not None:
        held_out = hashed_fraction([texts[name] for name in split.hash.key]) < (
            split.hash.eval_fraction
        )
        return {"train": ~held_out, "eval": held_out}
    assert split.column is not None, "the configuration gives exactly one way"  # noqa: S101
    text = texts[split.column.field]
    result = {}
    rest = np.ones(len(text), bool)
    for name, values in (("eval", split.column.eval), ("validation", split.column.validation)):
        if values:
            chosen = pc.is_in(text, value_set=pa.array(values, pa.string())).to_numpy(
                zero_copy_only=False
            )
            result[name] = chosen & rest
            rest &= ~chosen
    return {"train": rest, **result}


def hashed_fraction(keys: Sequence[pa.Array]) -> Array:
    """Returns a number in [0, 1) per row, a keyed SipHash of its key's texts.

    Args:
        keys: String arrays `[rows]`; the parts are joined by NUL, which no text holds.
    """
    import tensorflow as tf

    joined = keys[0] if len(keys) == 1 else pc.binary_join_element_wise(*keys, "\0")
    hashed = tf.strings.to_hash_bucket_strong(
        joined.to_numpy(zero_copy_only=False), _HASH_RANGE, key=list(_HASH_KEY)
    )
    return hashed.numpy() / _HASH_RANGE
