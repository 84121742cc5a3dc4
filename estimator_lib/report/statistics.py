"""The page of statistics: every field of the rows, its splits side by side; imports no evaluation.

Layer 3. The fields with the largest differences between splits come first, for those are what one
opens the page for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from estimator_lib.report import page
from estimator_lib.report.charts import Spark, spark

TOP = 8
"""Texts shown per field."""
NOTABLE = 0.1
"""A distance between splits from here on is marked."""
_BINS = 40


@dataclasses.dataclass(frozen=True, kw_only=True)
class Numbers:
    """A field of numbers in one split.

    Attributes:
        missing: Share of rows without a value.
        summary: Mean, standard deviation, minimum, median and maximum.
        histogram: Low end, high end and values of each bucket, ascending; empty without values.
    """

    missing: float
    summary: tuple[float, float, float, float, float]
    histogram: Sequence[tuple[float, float, float]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Texts:
    """A field of texts in one split.

    Attributes:
        missing: Share of rows without a value.
        distinct: Different texts.
        length: Their mean length.
        top: The most frequent texts, with their share of the values.
    """

    missing: float
    distinct: int
    length: float
    top: Mapping[str, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Field:
    """A field of the rows.

    Attributes:
        name: As the data has it.
        kind: "number" or "text", and how many per row if there are several.
        distance: The largest between the first split and another one; None with one split.
        splits: By name, all of one type.
    """

    name: str
    kind: str
    distance: float | None
    splits: Mapping[str, Numbers] | Mapping[str, Texts]

    @property
    def textual(self) -> bool:
        """Whether it has texts."""
        return isinstance(next(iter(self.splits.values())), Texts)

    def picture(self) -> tuple[Spark, float, float] | None:
        """Histograms of all splits on one scale, and the ends of the scale; None without values."""
        known = {
            name: split.histogram
            for name, split in self.splits.items()
            if isinstance(split, Numbers) and split.histogram
        }
        if not known:
            return None
        low = min(buckets[0][0] for buckets in known.values())
        high = max(buckets[-1][1] for buckets in known.values())
        edges = (
            np.linspace(low, high, _BINS + 1) if low < high else np.array([low - 0.5, low + 0.5])
        )
        shares = [_shares(buckets, edges).tolist() for buckets in known.values()]
        return spark(shares, f"Histogram of {self.name}"), low, high

    def top(self) -> list[tuple[str, list[float]]]:
        """The most frequent texts with their share in each split."""
        known = [split.top for split in self.splits.values() if isinstance(split, Texts)]
        most: dict[str, float] = {}
        for shares in known:
            for text, share in shares.items():
                most[text] = max(most.get(text, 0.0), share)
        texts = sorted(most, key=lambda text: (-most[text], text))[:TOP]
        return [(text, [shares.get(text, 0.0) for shares in known]) for text in texts]


def render(fields: Sequence[Field], *, rows: Mapping[str, int], title: str) -> str:
    """Returns the page as one HTML document that needs nothing else.

    Args:
        fields: In any order.
        rows: Of each split, in their order.
        title: The heading.
    """
    ordered = sorted(fields, key=lambda f: (-round(f.distance or 0.0, 3), f.name))
    return page.html_page(
        "statistics.html",
        fields=ordered,
        rows=rows,
        title=title,
        style={name: f"c{at % 3 + 1}" for at, name in enumerate(rows)},
        NOTABLE=NOTABLE,
    )


def _shares(
    buckets: Sequence[tuple[float, float, float]], edges: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Share of the values between neighbouring edges, spread evenly within each bucket."""
    total = sum(count for _, _, count in buckets) or 1.0
    mass = np.zeros(len(edges) - 1)
    for low, high, count in buckets:
        if high > low:
            mass += np.diff(np.clip((edges - low) / (high - low), 0, 1)) * count / total
        else:
            place = int(np.searchsorted(edges, low, side="right")) - 1
            mass[min(place, len(mass) - 1)] += count / total
    return mass
