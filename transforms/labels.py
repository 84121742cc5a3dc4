"""Labels: the fields they are read from, and the columns of the examples that hold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from estimator_lib.core import config
from estimator_lib.core.errors import Reason
from transforms.lists import Lists
from transforms.rows import Field

Array = np.ndarray[Any, Any]


def fields(label: config.Label) -> dict[str, Field]:
    """Returns how the fields of a label are read; those with several values are declared."""
    if label.values is not None:
        return {}
    limits: dict[str, Any] = {"type": "float"}
    if label.kind != "number":
        limits = {
            "type": "int",
            "low": 0,
            "high": label.classes - 1,
            "category": True,
            "reason": Reason.LABEL_OUT_OF_RANGE,
        }
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
    if label.values is None:
        return {}
    values, parents, classes = _classes(label, batch)
    strange = np.flatnonzero((classes < 0) & values.is_valid().to_numpy(zero_copy_only=False))
    return {int(parents[at]): values[int(at)].as_py() for at in strange[::-1]}


def columns(labels: Mapping[str, config.Label], batch: pa.RecordBatch) -> dict[str, pa.Array]:
    """Returns the columns of the examples that hold labels, as `core.labels` names them."""
    found: dict[str, pa.Array] = {}
    for label in labels.values():
        if label.values is None:
            found |= {name: batch.column(name) for name in label.raw_fields}
            continue
        _, parents, classes = _classes(label, batch)
        hot = np.zeros((len(label.values), batch.num_rows), np.int64)
        hot[classes[classes >= 0], parents[classes >= 0]] = 1
        found |= {name: pa.array(row) for name, row in zip(label.columns, hot, strict=True)}
    return found


def _classes(label: config.Label, batch: pa.RecordBatch) -> tuple[pa.Array, Array, Array]:
    """All values as texts, the row of each, and its class; -1 for none."""
    lists = Lists.of(batch.column(label.field))
    values = lists.values.cast(pa.string())
    found = pc.fill_null(pc.index_in(values, value_set=pa.array(label.values)), -1)
    return values, lists.parents, found.to_numpy(zero_copy_only=False)
