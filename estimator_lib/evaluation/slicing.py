"""Rows grouped by the values of a raw field, or by the combinations of several; layer 3."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from estimator_lib.core.errors import ConfigError, DataError, Reason, did_you_mean
from estimator_lib.evaluation.metrics import Ints
from estimator_lib.evaluation.results import SlicedField

CROSS = " \N{MULTIPLICATION SIGN} "
Values = Sequence[str | None] | npt.NDArray[Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grouping:
    """Rows by value.

    Attributes:
        field: The field, or its fields joined by `CROSS`.
        values: The different values; "" is missing, "(missing)" within a cross.
        codes: Position of each row's value among them, int64 `[rows]`.
    """

    field: str
    values: Sequence[str]
    codes: npt.NDArray[np.int64]

    def groups(self, order: Ints, min_rows: int) -> Iterator[tuple[str, Ints]]:
        """Each value with enough rows, and their ascending positions in `order`; largest first."""
        codes: npt.NDArray[Any] = self.codes[order]
        if len(self.values) < 2**16:
            codes = codes.astype(np.uint16)  # numpy sorts these by radix
        by_code = np.argsort(codes, kind="stable")
        counts = np.bincount(self.codes, minlength=len(self.values))
        ends = np.cumsum(counts)
        large = [code for code in range(len(self.values)) if counts[code] >= min_rows]
        for code in sorted(large, key=lambda code: (-counts[code], self.values[code])):
            yield self.values[code], by_code[ends[code] - counts[code] : ends[code]]

    def summary(self, min_rows: int) -> SlicedField:
        """How the field divides the rows."""
        counts = np.bincount(self.codes, minlength=len(self.values))
        small = counts[counts < min_rows]
        return SlicedField(
            field=self.field,
            values=len(self.values),
            hidden_values=len(small),
            hidden_rows=int(small.sum()),
        )


def groupings(
    fields: Mapping[str, Values], wanted: Sequence[str | Sequence[str]], rows: int
) -> list[Grouping]:
    """Groups the rows as asked.

    Args:
        fields: A field's value per row, as text; None and "" are missing.
        wanted: Fields and lists of fields to be crossed; none means each of `fields`.
        rows: How many there are.

    Raises:
        ConfigError: a wanted field is not among `fields`.
        DataError: a field has another number of values.
    """
    coded: dict[str, Grouping] = {}

    def single(field: str) -> Grouping:
        if field not in fields:
            raise ConfigError(
                f"Slicing field {field!r} is not among the kept fields."
                + did_you_mean(field, list(fields)),
                reason=Reason.UNKNOWN_NAME,
            )
        if field not in coded:
            coded[field] = _single(field, fields[field], rows)
        return coded[field]

    return [
        single(asked) if isinstance(asked, str) else _crossed([single(name) for name in asked])
        for asked in (wanted or list(fields))
    ]


def _single(field: str, values: Values, rows: int) -> Grouping:
    listed = values.tolist() if isinstance(values, np.ndarray) else list(values)
    if len(listed) != rows:
        raise DataError(
            f"Slicing field {field!r} has the wrong length: expected {rows}, got {len(listed)}. "
            "Pass one value per row.",
            reason=Reason.TYPE_MISMATCH,
        )
    # A dictionary codes 300,000 strings in a fraction of the time that sorting them takes.
    codebook: dict[str, int] = {}
    codes = np.fromiter(
        (codebook.setdefault("" if v is None else str(v), len(codebook)) for v in listed),
        dtype=np.int64,
        count=rows,
    )
    return Grouping(field=field, values=list(codebook), codes=codes)


def _crossed(parts: Sequence[Grouping]) -> Grouping:
    """Only combinations that occur are values."""
    codes, values = parts[0].codes, [value or "(missing)" for value in parts[0].values]
    for part in parts[1:]:
        size = max(1, len(part.values))
        found, codes = np.unique(codes * size + part.codes, return_inverse=True)
        values = [
            f"{values[pair // size]}{CROSS}{part.values[pair % size] or '(missing)'}"
            for pair in found.tolist()
        ]
    return Grouping(field=CROSS.join(part.field for part in parts), values=values, codes=codes)
