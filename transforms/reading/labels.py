"""Labels: the fields they are read from, and the columns of the examples that hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from estimator_lib.core import config, labels
from estimator_lib.core.errors import Reason
from estimator_lib.core.values import Logical
from transforms.reading.lists import Lists
from transforms.reading.rows import Field

Array = np.ndarray[Any, Any]


def fields(label: config.Label) -> dict[str, Field]:
    """Returns how the fields of a label are read; those with several values are declared."""
    if label.values is not None:
        return {}
    limits: dict[str, Any] = {"type": "float"}
    if label.class_names is not None:
        limits = {"type": "string", "logical": Logical.TEXT, "classes": True}
    elif label.kind != "number":
        limits = {
            "type": "int",
            "low": 0,
            "high": label.classes - 1 if isinstance(label.classes, int) else 1,
            "category": True,
            "reason": Reason.LABEL_OUT_OF_RANGE,
        }
        if label.kind == "class":
            limits["action"] = "Correct the value, or name the classes: classes: [no, yes]."
    return {name: Field(name=name, role="Label", **limits) for name in label.raw_fields}


def absent(label: config.Label, batch: pa.RecordBatch) -> dict[str, Array]:
    """Returns which rows lack a value, by field; a field of several values lacks none."""
    if label.values is not None:
        return {}
    return {
        name: batch.column(name).is_null().to_numpy(zero_copy_only=False)
        for name in label.raw_fields
    }


def unlisted(label: config.Label, batch: pa.RecordBatch) -> dict[int, str]:
    """Returns the rows with a value that is none of the label's classes, and the first such."""
    if label.class_names is not None:
        texts, ids = batch.column(label.field), class_ids(label, batch)
        known = texts.is_null().to_numpy(zero_copy_only=False) | (ids >= 0)
        return {int(row): texts[int(row)].as_py() for row in np.flatnonzero(~known)[::-1]}
    if label.values is None:
        return {}
    values, parents, classes = _classes(label, batch)
    strange = np.flatnonzero((classes < 0) & values.is_valid().to_numpy(zero_copy_only=False))
    return {int(parents[at]): values[int(at)].as_py() for at in strange[::-1]}


def columns(by_head: Mapping[str, config.Label], batch: pa.RecordBatch) -> dict[str, pa.Array]:
    """Returns the columns of the examples that hold labels, as `core.labels` names them."""
    found: dict[str, pa.Array] = {}
    for label in by_head.values():
        if label.class_names is not None:
            found[str(label.field)] = pa.array(class_ids(label, batch))
            continue
        if label.values is None:
            found |= {name: batch.column(name) for name in label.raw_fields}
            continue
        _, parents, classes = _classes(label, batch)
        hot = np.zeros((len(label.values), batch.num_rows), np.int64)
        hot[classes[classes >= 0], parents[classes >= 0]] = 1
        found |= {name: pa.array(row) for name, row in zip(label.columns, hot, strict=True)}
    return found


def class_ids(label: config.Label, batch: pa.RecordBatch) -> Array:
    """Returns the class of every row, int64 `[rows]`; -1 for a text that is none, or no label."""
    column = batch.column(label.field)
    if label.class_names is None:
        return pc.fill_null(column, -1).to_numpy(zero_copy_only=False)
    encoded = column.dictionary_encode()
    ids = labels.class_ids(encoded.dictionary.to_pylist(), label.class_names)
    at = pc.fill_null(encoded.indices, len(ids)).to_numpy(zero_copy_only=False)
    return np.array([*ids, -1], np.int64)[at]


def _classes(label: config.Label, batch: pa.RecordBatch) -> tuple[pa.Array, Array, Array]:
    """All values as texts, the row of each, and its class; -1 for none."""
    lists = Lists.of(batch.column(label.field))
    values = lists.values.cast(pa.string())
    found = pc.fill_null(pc.index_in(values, value_set=pa.array(label.values)), -1)
    return values, lists.parents, found.to_numpy(zero_copy_only=False)
