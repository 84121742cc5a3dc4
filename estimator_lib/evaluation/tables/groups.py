"""Groups of rows, and one pass over the rows that gives each group its own; layer 3."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from estimator_lib.evaluation.curves import Curves, run_starts
from estimator_lib.evaluation.metrics import Floats, Ints
from estimator_lib.evaluation.spool import BLOCK, Array, Rows, blocks

SEED = 20160813
_MULTIPLIERS = 1_000_000
"""Multiplicities that are held at once."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Groups:
    """Which rows are measured together.

    Attributes:
        grouping: Which of the table's columns of codes tells them apart; None for one group.
        numbers: The group of each code, -1 for none, int64 `[codes]`.
        count: How many groups there are.
    """

    grouping: int | None = None
    numbers: npt.NDArray[np.int64] = dataclasses.field(default_factory=lambda: np.zeros(1, int))
    count: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measures:
    """Metrics of groups.

    Attributes:
        values: By metric, float64 `[groups, 1 + replicates]`: the value, then its replicates; NaN
            where undefined.
        rows: Of each group.
        why: Says why a metric is undefined in a group.
    """

    values: Mapping[str, Floats]
    rows: Sequence[int]
    why: Callable[[int, str], str]


class Table(Protocol):
    """All rows of an evaluation, validated once.

    Attributes:
        rows: How many.
        cost: Passes over the rows that one replicate takes, about.
        metric_names: Most telling first.
    """

    rows: int
    cost: int
    metric_names: tuple[str, ...]

    def measure(self, groups: Groups, replicates: int) -> Measures:
        """The metrics of groups of rows and of their bootstrap replicates."""

    def curves(self) -> Curves:
        """What can be drawn of all rows."""


class Sums(Protocol):
    """What is known of a group after some of its rows."""

    rows: int

    def values(self) -> dict[str, Floats]:
        """Each metric, `[1 + replicates]`."""

    def why(self, name: str) -> str:
        """Why `name` is undefined here."""


def add_rows(
    records: Rows,
    groups: Groups,
    replicates: int,
    derive: Callable[[Array], tuple[Array, ...]],
    adders: Sequence[Callable[..., None]],
) -> None:
    """Passes once over structured rows and gives each group its own, with their multiplicities.

    Args:
        records: With fields "row" and "codes", in the order that the groups want.
        groups: Which rows are together.
        replicates: Of the multiplicities.
        derive: Computes of a block what is added, arrays `[rows, ...]`.
        adders: Of each group; takes what `derive` gave, and multiplicities
            `[1 + replicates, rows]`.
    """
    size = min(BLOCK, max(1024, _MULTIPLIERS // (1 + replicates)))
    for _, block in blocks(records, size):
        drawn = multiplicities(block["row"], replicates)
        columns = derive(block)
        if groups.grouping is None:
            adders[0](*columns, drawn)
            continue
        number = groups.numbers[block["codes"][:, groups.grouping]]
        order = np.argsort(number, kind="stable")
        number, drawn = number[order], drawn[:, order]
        columns = tuple(column[order] for column in columns)
        starts = run_starts(number)
        for a, b in zip(starts, [*starts[1:], len(order)], strict=True):
            if number[a] >= 0:
                adders[number[a]](*(column[a:b] for column in columns), drawn[:, a:b])


def measures(sums: Sequence[Sums]) -> Measures:
    """What the groups' sums amount to."""
    found = [own.values() for own in sums]
    return Measures(
        values={name: np.stack([own[name] for own in found]) for name in found[0]} if found else {},
        rows=[own.rows for own in sums],
        why=lambda group, name: sums[group].why(name),
    )


def multiplicities(rows: Ints, replicates: int) -> Floats:
    """How often each replicate draws each row, `[1 + replicates, rows]`; once in the first place.

    Poisson(1), by a hash (splitmix64) of the row's number and the replicate's.
    """
    result = np.ones((1 + replicates, len(rows)))
    if not replicates:
        return result
    hashes = np.arange(1, 2 + (replicates - 1) // 4, dtype=np.uint64)[:, None] * np.uint64(SEED)
    hashes = hashes + rows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    hashes ^= hashes >> np.uint64(30)
    hashes *= np.uint64(0xBF58476D1CE4E5B9)
    hashes ^= hashes >> np.uint64(27)
    hashes *= np.uint64(0x94D049BB133111EB)
    hashes ^= hashes >> np.uint64(31)
    # Each hash holds the 16-bit draws of four replicates. Comparing all draws with the few bounds
    # takes a quarter of the time of looking each of them up.
    draws = hashes.view(np.uint16)
    counts = np.zeros(draws.shape, np.uint8)
    for least in _LEAST_DRAWS:
        counts += draws >= least
    by_replicate = counts.reshape(len(hashes), len(rows), 4).transpose(0, 2, 1)
    result[1:] = by_replicate.reshape(-1, len(rows))[:replicates]
    return result


def _least_draws() -> npt.NDArray[np.uint16]:
    """The least 16-bit draws that mean a Poisson(1) count of 1, 2, ..."""
    probabilities = [math.exp(-1.0) / math.factorial(count) for count in range(8)]
    return np.rint(65536 * np.cumsum(probabilities)).astype(np.uint16)


_LEAST_DRAWS = _least_draws()
