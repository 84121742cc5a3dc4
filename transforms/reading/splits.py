"""Which split a row belongs to: by file, by keyed hash, by the value of a field, by time.

Pure functions of the row's own texts (or of its file), so that a rerun, another shard order or
another machine gives the same answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from estimator_lib.core import config
from transforms.reading import values

Array = np.ndarray[Any, Any]

_HASH_KEY = (0x5EED_0001, 0x5EED_0002)
"""Fixed for ever: another key would move rows between train and eval."""
_HASH_RANGE = 1 << 40


UNPLACED = ""
"""What `assign` calls the rows that belong to no split."""


def names(split: config.Split) -> list[str]:
    """Returns the splits there will be, in the order train, validation, eval."""
    if split.files is not None:
        return [name for name in config.SPLITS if getattr(split.files, name)]
    with_validation = (split.column is not None and split.column.validation) or (
        split.time is not None and split.time.validation_from
    )
    return list(config.SPLITS) if with_validation else ["train", "eval"]


def assign(split: config.Split, texts: Mapping[str, pa.Array], file_split: str) -> dict[str, Any]:
    """Returns, per split, which rows of a batch belong to it.

    Args:
        split: The declaration.
        texts: The fields that decide, string `[rows]`; what they are written as does not matter.
        file_split: The split of the file the rows come from; "" where rows decide.

    Returns:
        Split to a bool array `[rows]`, or to None for all rows; rows whose time cannot be read
        are in `UNPLACED`.
    """
    if file_split:
        return {file_split: None}
    # Whatever their field turns out to be: it is not settled before all rows are read.
    texts = {name: values.canonical(texts[name], None) for name in split.fields}
    if split.hash is not None:
        held_out = hashed_fraction([texts[name] for name in split.hash.key]) < (
            split.hash.eval_fraction
        )
        return {"train": ~held_out, "eval": held_out}
    if split.time is not None:
        return _by_time(split.time, texts[split.time.field])
    assert split.column is not None, "the configuration gives exactly one way"  # noqa: S101
    text = texts[split.column.field]
    result = {}
    rest = np.ones(len(text), bool)
    for name, given in (("eval", split.column.eval), ("validation", split.column.validation)):
        if given:
            listed = values.canonical(pa.array(given, pa.string()), None)
            chosen = pc.is_in(text, value_set=listed).to_numpy(zero_copy_only=False)
            result[name] = chosen & rest
            rest &= ~chosen
    return {"train": rest, **result}


def _by_time(split: config.TimeSplit, text: pa.Array) -> dict[str, Any]:
    kind, eval_from = config.moment(split.eval_from)
    encoded = text.dictionary_encode()
    distinct = np.array([_moment(t, kind) for t in encoded.dictionary.to_pylist()], np.float64)
    moments = distinct[encoded.indices.to_numpy()]
    unplaced, late = np.isnan(moments), moments >= eval_from
    result = {UNPLACED: unplaced, "eval": late}
    rest = ~(unplaced | late)
    if split.validation_from is not None:
        result["validation"] = rest & (moments >= config.moment(split.validation_from)[1])
        rest &= ~result["validation"]
    return {"train": rest, **result}


def _moment(text: str, kind: str) -> float:
    """Where a text stands among others of its kind; NaN if it is of another."""
    try:
        found, at = config.moment(text)
    except ValueError:
        return math.nan
    return at if found == kind else math.nan


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
