"""What may be left open in a column, to be learned from data, and what is learned. Layer 0."""

from __future__ import annotations

import dataclasses
import math

from estimator_lib.core.columns._checks import invalid


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Open: the field's distinct values in the train split, by count descending, then bytes.

    Args:
        top_k: Keep at most this many values; None keeps all.
        min_count: Keep values seen at least this often, or whose weights sum to this.
        weight: Field whose sum ranks the values instead of their count.
        informative: Whether they are ranked by what they tell about the label instead: by
            mutual information, adjusted for chance.
        reserved: Values that come first, seen or not; they do not count for `top_k`.
    """

    top_k: int | None = None
    min_count: int = 1
    weight: str | None = None
    informative: bool = False
    reserved: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "reserved", tuple(self.reserved))
        if self.weight is not None and self.informative:
            raise invalid("Vocabulary", "weight", "None beside informative", self.weight)
        if len(set(self.reserved)) != len(self.reserved) or "" in self.reserved:
            raise invalid("Vocabulary", "reserved", "distinct non-empty values", self.reserved)
        if self.top_k is not None and self.top_k < 1:
            raise invalid("Vocabulary", "top_k", "a positive integer or None", self.top_k)
        if self.min_count < 1:
            raise invalid("Vocabulary", "min_count", "a positive integer", self.min_count)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moments:
    """Open: mean and standard deviation of the field in the train split, missing excluded."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantiles:
    """Open: boundaries that cut the train split into `buckets` parts of equal size.

    A value that fills more than a part has one of its own, and the others share the rest. With
    `ends` the smallest and the largest number are boundaries as well.
    """

    buckets: int
    ends: bool = False

    def __post_init__(self) -> None:
        if self.buckets < 2:
            raise invalid("Quantiles", "buckets", "an integer of at least 2", self.buckets)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mean:
    """Open: the mean of the field in the train split stands for a missing value."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZScore:
    """Resolved: (x - mean) / stddev; a stddev of 0 gives 0 (population standard deviation)."""

    mean: float
    stddev: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and math.isfinite(self.stddev) and self.stddev >= 0):
            raise invalid("ZScore", "mean, stddev", "finite numbers, stddev >= 0", self)


Open = Vocabulary | Moments | Quantiles | Mean
"""What stands where something must still be learned."""
Learned = tuple[str, ...] | tuple[float, ...] | ZScore | float
"""What is learned: values of a vocabulary, boundaries of quantiles, moments, a mean."""
