"""The kinds of columns, and what may be left open in them. Layer 0."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar

from estimator_lib.core.columns._checks import invalid
from estimator_lib.core.errors import ConfigError, Reason

MISSING_INT = -(2**63)
"""The int64 that stands for a missing value of an int field."""


# --- What is learned from data --------------------------------------------------------------


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


# --- Columns --------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column(abc.ABC):
    """Base of all columns. `name` is derived, unique per model and stable."""

    kind: ClassVar[str]

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """The name of variables and transformed features, as in `tf.feature_column`."""

    @property
    def parents(self) -> tuple[Column, ...]:
        """The columns this one is made of, nearest first."""
        return ()


class CategoricalColumn(Column):
    """Gives each example an id in [0, num_buckets), or -1 when missing."""

    @property
    @abc.abstractmethod
    def num_buckets(self) -> int:
        """How many ids there are, out-of-vocabulary buckets included."""


class DenseColumn(Column):
    """Gives each example a fixed number of floats."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NumericColumn(DenseColumn):
    """A numeric field as float32 `[batch, prod(shape)]`. See `numeric_column`."""

    kind: ClassVar[str] = "numeric"
    key: str
    shape: tuple[int, ...] = (1,)
    default_value: float | tuple[float, ...] | Mean | None = None
    dtype: str = "float32"
    normalizer: Moments | ZScore | Callable[[Any], Any] | None = None

    @property
    def name(self) -> str:
        return self.key


@dataclasses.dataclass(frozen=True, kw_only=True)
class MissingIndicatorColumn(DenseColumn):
    """1.0 where a field is missing, else 0.0. See `missing_indicator_column`."""

    kind: ClassVar[str] = "missing_indicator"
    key: str

    @property
    def name(self) -> str:
        return f"{self.key}_missing"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BucketizedColumn(CategoricalColumn, DenseColumn):
    """Numbers cut at boundaries; missing (NaN) has id -1. See `bucketized_column`."""

    kind: ClassVar[str] = "bucketized"
    source_column: NumericColumn
    boundaries: tuple[float, ...] | Quantiles

    @property
    def name(self) -> str:
        return f"{self.source_column.name}_bucketized"

    @property
    def parents(self) -> tuple[Column, ...]:
        return (self.source_column,)

    @property
    def num_buckets(self) -> int:
        return len(_resolved(self, self.boundaries, Quantiles)) + 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class VocabularyColumn(CategoricalColumn):
    """Values looked up in a list. See `categorical_column_with_vocabulary`.

    A resolved column holds the values themselves; unseen values go to one of
    `num_oov_buckets` ids after them, else to `default_value`.
    """

    kind: ClassVar[str] = "vocabulary"
    key: str
    vocabulary: tuple[str, ...] | tuple[int, ...] | Vocabulary
    dtype: str = "string"
    default_value: int = -1
    num_oov_buckets: int = 0

    @property
    def name(self) -> str:
        return self.key

    @property
    def num_buckets(self) -> int:
        return len(_resolved(self, self.vocabulary, Vocabulary)) + self.num_oov_buckets


@dataclasses.dataclass(frozen=True, kw_only=True)
class HashedColumn(CategoricalColumn):
    """Values hashed into a fixed number of ids. See `categorical_column_with_hash_bucket`."""

    kind: ClassVar[str] = "hashed"
    key: str
    hash_bucket_size: int
    dtype: str = "string"

    @property
    def name(self) -> str:
        return self.key

    @property
    def num_buckets(self) -> int:
        return self.hash_bucket_size


@dataclasses.dataclass(frozen=True, kw_only=True)
class IdentityColumn(CategoricalColumn):
    """Integers that are ids already. See `categorical_column_with_identity`."""

    kind: ClassVar[str] = "identity"
    key: str
    buckets: int
    default_value: int | None = None

    @property
    def name(self) -> str:
        return self.key

    @property
    def num_buckets(self) -> int:
        return self.buckets


@dataclasses.dataclass(frozen=True, kw_only=True)
class BucketIdsColumn(IdentityColumn, DenseColumn):
    """The transformed form of a bucketized column: ids, one-hot in a dense model."""

    kind: ClassVar[str] = "bucket_ids"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossedColumn(CategoricalColumn):
    """Combinations of categories, hashed. See `crossed_column`."""

    kind: ClassVar[str] = "crossed"
    keys: tuple[str | CategoricalColumn, ...]
    hash_bucket_size: int
    hash_key: int | None = None

    @property
    def name(self) -> str:
        return "_X_".join(sorted(k if isinstance(k, str) else k.name for k in self.keys))

    @property
    def parents(self) -> tuple[Column, ...]:
        return tuple(k for k in self.keys if isinstance(k, Column))

    @property
    def num_buckets(self) -> int:
        return self.hash_bucket_size


@dataclasses.dataclass(frozen=True, kw_only=True)
class IndicatorColumn(DenseColumn):
    """One-hot (multi-hot) of a categorical column. See `indicator_column`."""

    kind: ClassVar[str] = "indicator"
    categorical_column: CategoricalColumn

    @property
    def name(self) -> str:
        return f"{self.categorical_column.name}_indicator"

    @property
    def parents(self) -> tuple[Column, ...]:
        return (self.categorical_column,)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbeddingColumn(DenseColumn):
    """A learned vector per category. See `embedding_column`."""

    kind: ClassVar[str] = "embedding"
    categorical_column: CategoricalColumn
    dimension: int | None = None
    combiner: str = "mean"
    initializer: Callable[..., Any] | None = None
    max_norm: float | None = None
    trainable: bool = True

    @property
    def name(self) -> str:
        return f"{self.categorical_column.name}_embedding"

    @property
    def parents(self) -> tuple[Column, ...]:
        return (self.categorical_column,)

    @property
    def width(self) -> int:
        """Length of the vectors; see `embedding_width` where no dimension is given."""
        return self.dimension or embedding_width(self.categorical_column.num_buckets)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SharedEmbeddingColumn(EmbeddingColumn):
    """A learned vector per category, from a table of several columns. See `shared_embeddings`."""

    kind: ClassVar[str] = "shared_embedding"
    collection: str

    @property
    def name(self) -> str:
        return f"{self.categorical_column.name}_shared_embedding"


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightedColumn(CategoricalColumn):
    """Categories with a weight for each value. See `weighted_categorical_column`."""

    kind: ClassVar[str] = "weighted"
    categorical_column: CategoricalColumn
    weight_feature_key: str

    @property
    def name(self) -> str:
        return f"{self.categorical_column.name}_weighted_by_{self.weight_feature_key}"

    @property
    def parents(self) -> tuple[Column, ...]:
        return (self.categorical_column, NumericColumn(key=self.weight_feature_key))

    @property
    def num_buckets(self) -> int:
        return self.categorical_column.num_buckets


@dataclasses.dataclass(frozen=True, kw_only=True)
class PiecewiseLinearColumn(DenseColumn):
    """A number as its way through bins. See `piecewise_linear_embedding`.

    `label` is its name where it is read from transformed features, whose number has that name.
    """

    kind: ClassVar[str] = "piecewise_linear"
    source_column: NumericColumn
    boundaries: tuple[float, ...] | Quantiles
    dimension: int | None = None
    label: str | None = None

    @property
    def name(self) -> str:
        return self.label or f"{self.source_column.name}_piecewise"

    @property
    def parents(self) -> tuple[Column, ...]:
        return (self.source_column,)

    @property
    def edges(self) -> tuple[float, ...]:
        """The bins' boundaries, at least two."""
        cuts = _resolved(self, self.boundaries, Quantiles)
        first = cuts[0] if cuts else 0.0
        # float32 has no number between large ones and the next integer.
        return cuts if len(cuts) > 1 else (first, first + max(1.0, abs(first)))

    @property
    def width(self) -> int:
        """How many floats an example gets."""
        return self.dimension or len(self.edges) - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class PeriodicColumn(DenseColumn):
    """A number as sines and cosines. See `periodic_embedding`.

    `label` is as in `PiecewiseLinearColumn`.
    """

    kind: ClassVar[str] = "periodic"
    source_column: NumericColumn
    frequencies: int = 16
    scale: float = 0.1
    dimension: int | None = 16
    label: str | None = None

    @property
    def name(self) -> str:
        return self.label or f"{self.source_column.name}_periodic"

    @property
    def parents(self) -> tuple[Column, ...]:
        return (self.source_column,)

    @property
    def width(self) -> int:
        """How many floats an example gets."""
        return self.dimension or 2 * self.frequencies


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceCategoricalColumn(CategoricalColumn):
    """Categories in an order. See `sequence_categorical_column_with_identity` and others."""

    kind: ClassVar[str] = "sequence_categorical"
    categorical_column: CategoricalColumn

    @property
    def name(self) -> str:
        return self.categorical_column.name

    @property
    def parents(self) -> tuple[Column, ...]:
        return (self.categorical_column,)

    @property
    def num_buckets(self) -> int:
        return self.categorical_column.num_buckets


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceNumericColumn(DenseColumn):
    """Numbers in an order. See `sequence_numeric_column`."""

    kind: ClassVar[str] = "sequence_numeric"
    key: str
    shape: tuple[int, ...] = (1,)
    default_value: float = 0.0
    dtype: str = "float32"
    normalizer: ZScore | Callable[[Any], Any] | None = None

    @property
    def name(self) -> str:
        return self.key


def embedding_width(buckets: int) -> int:
    """Returns the length of vectors for so many categories, where none is given.

    The least of half the categories (rounded up), 6 times their fourth root and 64: 2 for 3
    categories, 5 for 10, 19 for 100, 34 for 1,000, 60 for 10,000. A rule of thumb that keeps
    small tables small; give a dimension where it matters.
    """
    return max(1, min((buckets + 1) // 2, round(6 * buckets**0.25), 64))


def _resolved(column: Column, part: Any, open_type: type) -> tuple[Any, ...]:
    if isinstance(part, open_type):
        raise ConfigError(
            f"Column {column.name!r} is not resolved: its {open_type.__name__.lower()} must be "
            "learned from data first. Run preprocess, or give the values.",
            reason=Reason.UNRESOLVED,
        )
    return tuple(part)
