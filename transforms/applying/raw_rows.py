"""Raw rows as the served model takes them: one array per field, a sentinel for missing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from estimator_lib.core.columns import MISSING_INT


def arrays(table: pa.Table | pa.RecordBatch) -> dict[str, Any]:
    """Returns the columns of Arrow data as inputs of `serving_default`.

    Args:
        table: A table or record batch with columns of type string, int64 or float64; null is a
            missing value. Lists of them stand for several values.

    Returns:
        By field, `[rows]`: bytes objects ("" is missing), int64 (`MISSING_INT` is missing) or
        float32 (NaN is missing). Of lists, `[rows, n]`, filled up with the missing value.
    """
    found = {}
    for name in table.schema.names:
        column = table.column(name)
        if not pa.types.is_list(column.type):
            found[name] = _array(column)
            continue
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
        values = _array(pc.list_flatten(column))
        width = max(1, int(lengths.max(initial=0)))
        filler = _array(pa.nulls(1, column.type.value_type))[0]
        matrix = np.full((len(lengths), width), filler, values.dtype)
        matrix[np.arange(width) < lengths[:, np.newaxis]] = values
        found[name] = matrix
    return found


def _array(column: pa.Array | pa.ChunkedArray) -> Any:
    """A plain column as an array `[n]`."""
    kind: Any
    if pa.types.is_integer(column.type):
        filled, kind = pc.fill_null(column, MISSING_INT), np.int64
    elif pa.types.is_floating(column.type):
        filled, kind = pc.fill_null(column, float("nan")), np.float32
    else:
        text = pc.fill_null(pc.cast(column, pa.string()), "")
        filled, kind = pc.cast(text, pa.binary()), np.object_
    return filled.to_numpy(zero_copy_only=False).astype(kind, copy=False)
