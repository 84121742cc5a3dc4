"""Lists of an Arrow column as its flat values and where each row's begin and end."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True)
class Lists:
    """Several values per row, as all values one after the other.

    What can be done value by value is done to `values`, and `holding` puts the result back.

    Attributes:
        values: All values, `[n]`.
        splits: int64 `[rows + 1]`; row i has `values[splits[i]:splits[i + 1]]`.
    """

    values: pa.Array
    splits: Array

    @classmethod
    def of(cls, column: pa.Array) -> Lists:
        """Takes a list column apart; a null row has no values."""
        kind = column.type
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
            column = column.cast(pa.list_(column.type.value_type))
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
        return cls(
            pc.list_flatten(column), np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        )

    @functools.cached_property
    def lengths(self) -> Array:
        """How many values each row has, int64 `[rows]`."""
        return np.diff(self.splits)

    @functools.cached_property
    def parents(self) -> Array:
        """The row of each value, int64 `[n]`."""
        return np.repeat(np.arange(len(self.splits) - 1), self.lengths)

    def holding(self, values: pa.Array) -> Lists:
        """The same rows with other values, as many."""
        return Lists(values, self.splits)

    def without_missing_ends(self) -> Lists:
        """Drops missing values behind a row's last value; those before it keep their place."""
        if not self.values.null_count:
            return self
        present = np.flatnonzero(self.values.is_valid().to_numpy(zero_copy_only=False))
        ends = self.splits[:-1].copy()
        ends[self.parents[present]] = present + 1  # of several, numpy keeps the last
        kept = np.arange(len(self.values)) < ends[self.parents]
        lengths = ends - self.splits[:-1]
        return Lists(self.values.filter(pa.array(kept)), np.concatenate([[0], np.cumsum(lengths)]))

    def to_arrow(self) -> pa.Array:
        """A list column without nulls."""
        return pa.ListArray.from_arrays(pa.array(self.splits, pa.int32()), self.values)
