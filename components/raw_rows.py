"""Raw rows as the served model takes them: one array per field, a sentinel for missing."""

from __future__ import annotations

from typing import Any

from estimator_lib.core.columns import MISSING_INT


def arrays(table: Any) -> dict[str, Any]:
    """Returns the columns of an Arrow table as inputs of `serving_default`.

    Args:
        table: Columns of type string, int64 or float64; null is a missing value.

    Returns:
        By field, `[rows]`: bytes objects ("" is missing), int64 (`MISSING_INT` is missing) or
        float32 (NaN is missing).
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    found = {}
    for name in table.column_names:
        column = table[name]
        if pa.types.is_integer(column.type):
            found[name] = pc.fill_null(column, MISSING_INT).to_numpy().astype(np.int64)
        elif pa.types.is_floating(column.type):
            found[name] = pc.fill_null(column, float("nan")).to_numpy().astype(np.float32)
        else:
            text = pc.fill_null(pc.cast(column, pa.string()), "")
            found[name] = pc.cast(text, pa.binary()).to_numpy(zero_copy_only=False)
    return found
