"""Feature columns: frozen, serializable declarations of how to read the raw fields.

Layer 0 (standard library only). A column says which field it reads, what must be learned from
data and what it feeds the model. Whatever must be learned may be left open (`Vocabulary`,
`Moments`, `Quantiles`, `Mean`); `transforms` learns it and `resolve` returns the column with
the result in its place. `estimator_lib.features` lowers resolved columns to TensorFlow.

A column is used in two stages, and both are lowered from the same declaration:

* transform: raw fields -> one number per example and *transformed feature*. Categorical
  columns become int64 ids (-1 for a missing value), numeric ones float32.
* model: transformed features -> linear weights or a dense matrix (embedding, one-hot).

`transformed(column)` is the same column read from transformed features, where only the second
stage is left to do; training on materialised examples uses it.

Missing values: a string field is missing when empty, a float field when NaN, an int field when
`MISSING_INT`. A missing category has id -1 and contributes nothing (as in
`tf.feature_column`); a missing number takes `default_value`.

References: the constructor names and arguments of `tf.feature_column`.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeVar, cast

from estimator_lib.core.errors import ConfigError, Reason, did_you_mean, quote

MISSING_INT = -(2**63)
"""The int64 that stands for a missing value of an int field."""


# --- What is learned from data --------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Open: the field's distinct values in the train split, by count descending, then bytes.

    Args:
        top_k: Keep at most this many values; None keeps all.
        min_count: Keep values seen at least this often.
    """

    top_k: int | None = None
    min_count: int = 1

    def __post_init__(self) -> None:
        if self.top_k is not None and self.top_k < 1:
            raise _invalid("Vocabulary", "top_k", "a positive integer or None", self.top_k)
        if self.min_count < 1:
            raise _invalid("Vocabulary", "min_count", "a positive integer", self.min_count)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moments:
    """Open: mean and standard deviation of the field in the train split, missing excluded."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantiles:
    """Open: boundaries that cut the train split into `buckets` parts of equal size."""

    buckets: int

    def __post_init__(self) -> None:
        if self.buckets < 2:
            raise _invalid("Quantiles", "buckets", "an integer of at least 2", self.buckets)


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
            raise _invalid("ZScore", "mean, stddev", "finite numbers, stddev >= 0", self)


# --- Columns --------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """Base of all columns. `name` is derived, unique per model and stable."""

    kind: ClassVar[str]

    @property
    def name(self) -> str:
        """The name of variables and transformed features, as in `tf.feature_column`."""
        raise NotImplementedError  # pragma: no cover - every subclass overrides it

    @property
    def parents(self) -> tuple[Column, ...]:
        """The columns this one is made of, nearest first."""
        return ()


class CategoricalColumn(Column):
    """Gives each example an id in [0, num_buckets), or -1 when missing."""

    @property
    def num_buckets(self) -> int:
        """How many ids there are, out-of-vocabulary buckets included."""
        raise NotImplementedError  # pragma: no cover


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
    dimension: int
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
        return (self.categorical_column, numeric_column(self.weight_feature_key))

    @property
    def num_buckets(self) -> int:
        return self.categorical_column.num_buckets


# --- Constructors, named and ordered as in tf.feature_column ---------------------------------


def numeric_column(
    key: str,
    shape: int | Sequence[int] = (1,),
    default_value: float | Sequence[float] | Mean | None = None,
    dtype: Any = "float32",
    normalizer_fn: Callable[[Any], Any] | Moments | ZScore | None = None,
) -> NumericColumn:
    """A numeric field.

    Args:
        key: The raw field.
        shape: Of one example; an int is a vector's length.
        default_value: Stands for a missing value (NaN, or absent when parsing); None leaves
            NaN in place, `Mean()` is learned.
        dtype: float or integer type; the column is cast to float32.
        normalizer_fn: `Moments()` learns a z-score, `ZScore` gives one; a Python function
            works in a model but cannot be written to a file.
    """
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    if not sizes or any(not isinstance(n, int) or n < 1 for n in sizes):
        raise _invalid(f"numeric_column {quote(key)}", "shape", "positive integers", shape)
    if not (
        normalizer_fn is None
        or callable(normalizer_fn)
        or isinstance(normalizer_fn, Moments | ZScore)
    ):
        raise _invalid(
            f"numeric_column {quote(key)}",
            "normalizer_fn",
            "a function or Moments()",
            normalizer_fn,
        )
    default: float | tuple[float, ...] | Mean | None
    if default_value is None or isinstance(default_value, Mean):
        default = default_value
    elif isinstance(default_value, Sequence):
        default = tuple(float(v) for v in default_value)
    else:
        default = float(default_value)
    return NumericColumn(
        key=_key("numeric_column", key),
        shape=sizes,
        default_value=default,
        dtype=_dtype_name(dtype),
        normalizer=normalizer_fn,
    )


def missing_indicator_column(key: str) -> MissingIndicatorColumn:
    """1.0 where the field is missing, else 0.0; float32 `[batch, 1]`."""
    return MissingIndicatorColumn(key=_key("missing_indicator_column", key))


def bucketized_column(
    source_column: NumericColumn, boundaries: Sequence[float] | Quantiles
) -> BucketizedColumn:
    """Cuts a numeric column: bucket i holds boundaries[i-1] <= x < boundaries[i].

    Args:
        source_column: A one-dimensional `numeric_column` without normalizer.
        boundaries: Sorted and distinct numbers, or `Quantiles(buckets=n)` to learn them.
    """
    cuts: tuple[float, ...] | Quantiles
    if isinstance(boundaries, Quantiles):
        cuts = boundaries
    else:
        cuts = tuple(float(b) for b in boundaries)
        if not cuts or any(not a < b for a, b in itertools.pairwise(cuts)):
            raise _invalid(
                f"bucketized_column of {source_column.name!r}",
                "boundaries",
                "a sorted sequence of distinct numbers",
                boundaries,
            )
    return BucketizedColumn(source_column=source_column, boundaries=cuts)


def categorical_column_with_vocabulary(
    key: str, top_k: int | None = None, min_count: int = 1, num_oov_buckets: int = 1
) -> VocabularyColumn:
    """Values looked up in a vocabulary that is learned from the train split.

    Args:
        key: The raw field.
        top_k: Keep at most this many values.
        min_count: Keep values seen at least this often.
        num_oov_buckets: Ids for values outside the vocabulary; 0 treats them as missing.
    """
    return VocabularyColumn(
        key=_key("categorical_column_with_vocabulary", key),
        vocabulary=Vocabulary(top_k=top_k, min_count=min_count),
        num_oov_buckets=_at_least(key, "num_oov_buckets", num_oov_buckets, 0),
    )


def categorical_column_with_vocabulary_list(
    key: str,
    vocabulary_list: Sequence[Any],
    dtype: Any = None,
    default_value: int = -1,
    num_oov_buckets: int = 0,
) -> VocabularyColumn:
    """Values looked up in a given list of strings or integers; ids follow its order."""
    values = tuple(v.decode() if isinstance(v, bytes) else v for v in vocabulary_list)
    if not values or len(set(values)) != len(values):
        raise _invalid(
            f"categorical_column_with_vocabulary_list {quote(key)}",
            "vocabulary_list",
            "at least one value and no duplicates",
            vocabulary_list,
        )
    if num_oov_buckets and default_value != -1:
        raise ConfigError(
            f"Column {quote(key)} has both num_oov_buckets and default_value. Give only one.",
            reason=Reason.CONFLICT,
        )
    inferred = "string" if isinstance(values[0], str) else "int64"
    return VocabularyColumn(
        key=_key("categorical_column_with_vocabulary_list", key),
        vocabulary=values if inferred == "string" else tuple(int(v) for v in values),
        dtype=_dtype_name(dtype) if dtype is not None else inferred,
        default_value=default_value,
        num_oov_buckets=_at_least(key, "num_oov_buckets", num_oov_buckets, 0),
    )


def categorical_column_with_hash_bucket(
    key: str, hash_bucket_size: int, dtype: Any = "string"
) -> HashedColumn:
    """Values hashed (fingerprint64 of the string, or of an integer's decimal form)."""
    return HashedColumn(
        key=_key("categorical_column_with_hash_bucket", key),
        hash_bucket_size=_at_least(key, "hash_bucket_size", hash_bucket_size, 1),
        dtype=_dtype_name(dtype),
    )


def categorical_column_with_identity(
    key: str, num_buckets: int, default_value: int | None = None
) -> IdentityColumn:
    """Integers in [0, num_buckets) that are ids already.

    A value outside raises, or takes `default_value` when one is given; -1 means missing.
    """
    return IdentityColumn(
        key=_key("categorical_column_with_identity", key),
        buckets=_at_least(key, "num_buckets", num_buckets, 1),
        default_value=default_value,
    )


def crossed_column(
    keys: Sequence[str | CategoricalColumn], hash_bucket_size: int, hash_key: int | None = None
) -> CrossedColumn:
    """Combinations of at least two fields or categorical columns, hashed.

    A missing part makes the whole combination missing.
    """
    if len(keys) < 2:
        raise _invalid("crossed_column", "keys", "at least two fields or columns", keys)
    for part in keys:
        if isinstance(part, HashedColumn) or not isinstance(part, str | CategoricalColumn):
            raise _invalid(
                "crossed_column",
                "keys",
                "field names or categorical columns that are not hashed (give the field instead)",
                part,
            )
    return CrossedColumn(
        keys=tuple(keys),
        hash_bucket_size=_at_least("crossed_column", "hash_bucket_size", hash_bucket_size, 1),
        hash_key=hash_key,
    )


def indicator_column(categorical_column: CategoricalColumn) -> IndicatorColumn:
    """The one-hot form of a categorical column, float32 `[batch, num_buckets]`."""
    return IndicatorColumn(categorical_column=_categorical("indicator_column", categorical_column))


def embedding_column(
    categorical_column: CategoricalColumn,
    dimension: int,
    combiner: str = "mean",
    initializer: Callable[..., Any] | None = None,
    max_norm: float | None = None,
    trainable: bool = True,
) -> EmbeddingColumn:
    """A learned vector per category, float32 `[batch, dimension]`; zeros when missing.

    Args:
        categorical_column: What to embed.
        dimension: Length of the vector.
        combiner: "mean", "sqrtn" or "sum" over several values of one example.
        initializer: Of the table; None is a truncated normal with stddev 1/sqrt(dimension).
        max_norm: Vectors longer than this are scaled down when read.
        trainable: Whether training updates the table.
    """
    if combiner not in ("mean", "sqrtn", "sum"):
        raise _invalid("embedding_column", "combiner", "'mean', 'sqrtn' or 'sum'", combiner)
    return EmbeddingColumn(
        categorical_column=_categorical("embedding_column", categorical_column),
        dimension=_at_least("embedding_column", "dimension", dimension, 1),
        combiner=combiner,
        initializer=initializer,
        max_norm=max_norm,
        trainable=trainable,
    )


ColumnT = TypeVar("ColumnT", bound=Column)


def shared_embeddings(
    categorical_columns: Sequence[CategoricalColumn],
    dimension: int,
    combiner: str = "mean",
    initializer: Callable[..., Any] | None = None,
    shared_embedding_collection_name: str | None = None,
    max_norm: float | None = None,
    trainable: bool = True,
) -> list[SharedEmbeddingColumn]:
    """Learned vectors of several columns from one table, one column for each.

    Args:
        categorical_columns: At least one; all must have the same number of buckets.
        dimension: Length of the vector.
        combiner: As in `embedding_column`.
        initializer: As in `embedding_column`.
        shared_embedding_collection_name: Name of the table; by default from the columns' names.
        max_norm: As in `embedding_column`.
        trainable: As in `embedding_column`.
    """
    if not categorical_columns:
        raise _invalid("shared_embeddings", "categorical_columns", "at least one", [])
    names = sorted(column.name for column in categorical_columns)
    collection = shared_embedding_collection_name or "_".join(names) + "_shared_embedding"
    found = []
    for column in categorical_columns:
        plain = embedding_column(column, dimension, combiner, initializer, max_norm, trainable)
        fields = {f.name: getattr(plain, f.name) for f in dataclasses.fields(plain)}
        found.append(SharedEmbeddingColumn(**fields, collection=collection))
    return found


def weighted_categorical_column(
    categorical_column: CategoricalColumn, weight_feature_key: str, dtype: Any = "float32"
) -> WeightedColumn:
    """Categories that count as much as their weights say.

    Args:
        categorical_column: The categories.
        weight_feature_key: The field with one weight per value.
        dtype: Kept for compatibility; weights are float32.
    """
    if not _dtype_name(dtype).startswith(("float", "int")):
        raise _invalid("weighted_categorical_column", "dtype", "a number type", dtype)
    return WeightedColumn(
        categorical_column=_categorical("weighted_categorical_column", categorical_column),
        weight_feature_key=_key("weighted_categorical_column", weight_feature_key),
    )


# --- What others ask of a set of columns -----------------------------------------------------


def walk(columns: Iterable[Column]) -> Iterator[Column]:
    """Yields every column and, before it, the columns it is made of; each once."""
    seen: set[int] = set()
    stack: list[Column] = []

    def visit(column: Column) -> Iterator[Column]:
        for parent in column.parents:
            yield from visit(parent)
        if id(column) not in seen:
            seen.add(id(column))
            stack.append(column)  # keeps the object alive, so that its id stays its own
            yield column

    for column in columns:
        yield from visit(column)


def raw_fields(columns: Iterable[Column]) -> dict[str, str]:
    """Returns the raw fields that `columns` read, each with its type: string, int or float.

    Raises:
        ConfigError: two columns read one field as different types.
    """
    found: dict[str, tuple[str, str]] = {}

    def add(field: str, kind: str, column: Column) -> None:
        known, by = found.setdefault(field, (kind, column.name))
        if known == "any":
            found[field] = (kind, column.name)
        elif kind not in (known, "any"):
            raise ConfigError(
                f"Field {field!r} is read as {known} by column {by!r} and as {kind} by column "
                f"{column.name!r}. Make the columns agree.",
                reason=Reason.CONFLICT,
            )

    for column in walk(columns):
        match column:
            case NumericColumn():
                add(column.key, "float", column)
            case MissingIndicatorColumn():
                add(column.key, "any", column)
            case VocabularyColumn() | HashedColumn():
                add(column.key, "string" if column.dtype == "string" else "int", column)
            case IdentityColumn():
                add(column.key, "int", column)
            case CrossedColumn():
                for part in column.keys:
                    if isinstance(part, str):
                        add(part, "string", column)
    return {field: "float" if kind == "any" else kind for field, (kind, _) in found.items()}


def feature_sources(columns: Iterable[Column]) -> dict[str, Column]:
    """Returns the transformed features that `columns` need, by name, in a stable order.

    Only columns that read raw fields directly give a feature: an embedding of a vocabulary
    column needs the vocabulary column's ids and nothing else.

    Raises:
        ConfigError: two different columns have one name.
    """
    needed: dict[str, Column] = {}
    stack = list(columns)
    while stack:
        source = stack.pop()
        if isinstance(source, IndicatorColumn | EmbeddingColumn | WeightedColumn):
            stack.extend(source.parents)
            continue
        known = needed.setdefault(source.name, source)
        if known != source:
            raise ConfigError(
                f"Two different columns are named {source.name!r}: a {known.kind} and a "
                f"{source.kind} column. Read one of them from a renamed field.",
                reason=Reason.DUPLICATE,
            )
    return dict(sorted(needed.items()))


def transformed(column: Column) -> Column:
    """Returns the column that reads `column`'s transformed feature instead of raw fields."""
    match column:
        case NumericColumn():
            return numeric_column(column.key, column.shape)
        case MissingIndicatorColumn():
            return numeric_column(column.name)
        case IndicatorColumn():
            return IndicatorColumn(categorical_column=_ids(column.categorical_column))
        case EmbeddingColumn() | WeightedColumn():
            return dataclasses.replace(column, categorical_column=_ids(column.categorical_column))
        case BucketizedColumn() | BucketIdsColumn():
            width = 1
            if isinstance(column, BucketizedColumn):
                width = math.prod(column.source_column.shape)
            return BucketIdsColumn(key=column.name, buckets=column.num_buckets * width)
        case CategoricalColumn():
            return _ids(column)
    raise _invalid("transformed", "column", "a feature column", column)  # pragma: no cover


def _ids(column: CategoricalColumn) -> CategoricalColumn:
    if isinstance(column, WeightedColumn):
        return dataclasses.replace(column, categorical_column=_ids(column.categorical_column))
    return categorical_column_with_identity(column.name, column.num_buckets)


def open_parts(column: Column) -> list[tuple[str, Vocabulary | Moments | Quantiles | Mean]]:
    """Returns what must still be learned for `column` itself, as (field, what) pairs."""
    match column:
        case VocabularyColumn(vocabulary=Vocabulary() as vocabulary):
            return [(column.key, vocabulary)]
        case BucketizedColumn(boundaries=Quantiles() as quantiles):
            return [(column.source_column.key, quantiles)]
        case NumericColumn():
            parts = (column.normalizer, column.default_value)
            return [(column.key, part) for part in parts if isinstance(part, Moments | Mean)]
    return []


def resolve(column: ColumnT, learned: Callable[[str, Any], Any]) -> ColumnT:
    """Returns `column` with every open part, its parents' included, replaced.

    Args:
        column: Any column.
        learned: Called with (field, open part); returns a tuple of values for a Vocabulary,
            a ZScore for Moments, boundaries for Quantiles and a float for Mean.
    """

    def close(field: str, part: Any) -> Any:
        return (
            learned(field, part)
            if isinstance(part, Vocabulary | Moments | Quantiles | Mean)
            else part
        )

    changed: Any = column
    match column:
        case NumericColumn():
            changed = dataclasses.replace(
                column,
                normalizer=close(column.key, column.normalizer),
                default_value=close(column.key, column.default_value),
            )
        case VocabularyColumn():
            values = close(column.key, column.vocabulary)
            changed = dataclasses.replace(column, vocabulary=tuple(values))
        case BucketizedColumn():
            source = resolve(column.source_column, learned)
            cuts = close(column.source_column.key, column.boundaries)
            changed = dataclasses.replace(column, source_column=source, boundaries=tuple(cuts))
        case IndicatorColumn() | EmbeddingColumn() | WeightedColumn():
            inner = resolve(column.categorical_column, learned)
            changed = dataclasses.replace(column, categorical_column=inner)
        case CrossedColumn():
            keys = tuple(k if isinstance(k, str) else resolve(k, learned) for k in column.keys)
            changed = dataclasses.replace(column, keys=keys)
    return cast(ColumnT, changed)


# --- JSON -------------------------------------------------------------------------------------

_LEARNED: dict[str, type] = {c.__name__: c for c in (Vocabulary, Moments, Quantiles, Mean, ZScore)}
_KINDS: dict[str, type[Column]] = {
    c.kind: c
    for c in (
        NumericColumn,
        MissingIndicatorColumn,
        BucketizedColumn,
        VocabularyColumn,
        HashedColumn,
        IdentityColumn,
        BucketIdsColumn,
        CrossedColumn,
        IndicatorColumn,
        EmbeddingColumn,
        SharedEmbeddingColumn,
        WeightedColumn,
    )
}


def to_json(column: Column) -> dict[str, Any]:
    """Returns `column` as plain JSON values that `from_json` reads back to an equal column.

    Raises:
        ConfigError: the column holds a Python function, which no file can hold.
    """

    def value(name: str, item: Any) -> Any:
        if isinstance(item, Column):
            return {"column": to_json(item)}
        if type(item).__name__ in _LEARNED:
            return {"learned": type(item).__name__, **dataclasses.asdict(item)}
        if isinstance(item, tuple):
            return [value(name, part) for part in item]
        if callable(item):
            raise ConfigError(
                f"Column {column.name!r} cannot be written to a file: its {name} is a Python "
                "function. Use Moments() or ZScore, or build the model in a module:function.",
                reason=Reason.UNSUPPORTED,
            )
        return item

    fields = {f.name: value(f.name, getattr(column, f.name)) for f in dataclasses.fields(column)}
    return {"kind": column.kind, **fields}


def from_json(content: Mapping[str, Any]) -> Column:
    """Returns the column that `to_json` wrote.

    Raises:
        ConfigError: an unknown kind or field.
    """

    def value(item: Any) -> Any:
        if isinstance(item, Mapping):
            if "column" in item:
                return from_json(item["column"])
            arguments = {k: v for k, v in item.items() if k != "learned"}
            return _LEARNED[item["learned"]](**arguments)
        if isinstance(item, list):
            return tuple(value(part) for part in item)
        return item

    kind = content.get("kind")
    if kind not in _KINDS:
        raise ConfigError(
            f"Column kind {quote(kind)} is unknown.{did_you_mean(str(kind), _KINDS)}",
            reason=Reason.UNKNOWN_NAME,
        )
    fields = {name: value(item) for name, item in content.items() if name != "kind"}
    try:
        return _KINDS[kind](**fields)
    except TypeError as error:
        raise ConfigError(
            f"Column of kind {kind!r} cannot be read: {error}.", reason=Reason.INVALID_VALUE
        ) from error


# --- Checks -----------------------------------------------------------------------------------


def _invalid(thing: str, argument: str, expected: str, got: object) -> ConfigError:
    return ConfigError(
        f"{thing}: argument {argument} is invalid: expected {expected}, got {quote(got)}.",
        reason=Reason.INVALID_VALUE,
    )


def _key(constructor: str, key: object) -> str:
    if not isinstance(key, str) or not key:
        raise _invalid(constructor, "key", "the name of a field", key)
    return key


def _at_least(thing: str, argument: str, value: object, minimum: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise _invalid(thing, argument, f"an integer of at least {minimum}", value)
    return value


def _dtype_name(dtype: Any) -> str:
    return str(getattr(dtype, "name", dtype))


def _categorical(constructor: str, column: object) -> CategoricalColumn:
    if not isinstance(column, CategoricalColumn):
        raise _invalid(constructor, "categorical_column", "a categorical column", column)
    return column


def _resolved(column: Column, part: Any, open_type: type) -> tuple[Any, ...]:
    if isinstance(part, open_type):
        raise ConfigError(
            f"Column {column.name!r} is not resolved: its {open_type.__name__.lower()} must be "
            "learned from data first. Run preprocess, or give the values.",
            reason=Reason.UNRESOLVED,
        )
    return tuple(part)
