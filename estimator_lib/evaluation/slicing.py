"""Rows grouped by the values of a raw field, or by the combinations of several; layer 3."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from estimator_lib.core.errors import ConfigError, DataError, Reason, did_you_mean
from estimator_lib.evaluation.results import SlicedField
from estimator_lib.evaluation.spool import BLOCK, Rows, Spool, blocks

CROSS = " \N{MULTIPLICATION SIGN} "


class Coded:
    """Texts by the position of each among the different ones, in the order they came in.

    Attributes:
        values: The different texts; "" is missing.
        codes: Of each row, int32 `[rows]`.
    """

    def __init__(self) -> None:
        self._book: dict[str, int] = {}
        self.codes = Spool()
        self.codes.append(np.zeros(0, np.int32))

    @property
    def values(self) -> list[str]:
        """The different texts."""
        return list(self._book)

    def add(self, texts: Iterable[str | None]) -> None:
        """Adds rows; None is missing."""
        # A dictionary codes 300,000 strings in a fraction of the time that sorting them takes.
        book = self._book
        coded = [book.setdefault("" if t is None else str(t), len(book)) for t in texts]
        self.codes.append(np.array(coded, np.int32))


Values = Sequence[str | None] | npt.NDArray[Any] | Coded


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grouping:
    """Rows by value.

    Attributes:
        field: The field, or its fields joined by `CROSS`.
        values: The different values; "" is missing, "(missing)" within a cross.
        codes: Position of each row's value among them, int32 `[rows]`.
        counts: Rows of each value.
    """

    field: str
    values: Sequence[str]
    codes: Rows
    counts: npt.NDArray[np.int64]

    def large(self, min_rows: int) -> list[int]:
        """The codes of values with enough rows, largest first."""
        codes = np.flatnonzero(self.counts >= min_rows).tolist()
        return sorted(codes, key=lambda code: (-self.counts[code], self.values[code]))

    def summary(self, min_rows: int) -> SlicedField:
        """How the field divides the rows."""
        small = self.counts[self.counts < min_rows]
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
    if isinstance(values, Coded):
        coded = values
    else:
        coded = Coded()
        coded.add(values.tolist() if isinstance(values, np.ndarray) else values)
    found = coded.codes.shape[0]
    if found != rows:
        raise DataError(
            f"Slicing field {field!r} has the wrong length: expected {rows}, got {found}. "
            "Pass one value per row.",
            reason=Reason.TYPE_MISMATCH,
        )
    return _grouping(field, coded.values, coded.codes)


def _grouping(field: str, values: Sequence[str], codes: Rows) -> Grouping:
    counts = np.zeros(len(values), np.int64)
    for _, block in blocks(codes):
        counts += np.bincount(block, minlength=len(values))
    return Grouping(field=field, values=values, codes=codes, counts=counts)


def _crossed(parts: Sequence[Grouping]) -> Grouping:
    """Only combinations that occur are values."""
    book: dict[tuple[int, ...], int] = {}
    codes = Spool()
    codes.append(np.zeros(0, np.int32))
    for first in range(0, parts[0].codes.shape[0], BLOCK):
        block = np.stack([part.codes[first : first + BLOCK] for part in parts], axis=1)
        found, places = np.unique(block, axis=0, return_inverse=True)
        known = [book.setdefault(tuple(combination), len(book)) for combination in found.tolist()]
        codes.append(np.array(known, np.int32)[places.reshape(-1)])
    values = [
        CROSS.join(
            part.values[c] or "(missing)" for part, c in zip(parts, combination, strict=True)
        )
        for combination in book
    ]
    return _grouping(CROSS.join(part.field for part in parts), values, codes)
