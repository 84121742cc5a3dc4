"""Numbers with a unit as the texts that a request may give of them."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from estimator_lib.core.units import Unit


def written(table: pa.Table, units: Mapping[str, Unit]) -> pa.Table:
    """Returns a table with the float64 fields that have a unit as texts that give them again."""
    for name in [name for name in table.column_names if name in units]:
        texts = table.column(name).cast(pa.string())
        texts = pc.replace_substring(texts, ".", units[name].decimal)
        table = table.set_column(table.column_names.index(name), name, texts)
    return table
