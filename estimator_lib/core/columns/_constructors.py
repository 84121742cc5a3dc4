"""Constructors of columns, named and ordered as in `tf.feature_column`. Layer 0."""

from __future__ import annotations

import dataclasses
import itertools
import math
import pathlib
import struct
from collections.abc import Callable, Sequence
from typing import Any

from estimator_lib.core.columns._checks import at_least, dtype_name, field_key, invalid
from estimator_lib.core.columns._kinds import (
    BucketizedColumn,
    CategoricalColumn,
    CrossedColumn,
    EmbeddingColumn,
    HashedColumn,
    IdentityColumn,
    IndicatorColumn,
    Mean,
    MissingIndicatorColumn,
    Moments,
    NumericColumn,
    PeriodicColumn,
    PiecewiseLinearColumn,
    Quantiles,
    SequenceCategoricalColumn,
    SequenceNumericColumn,
    SharedEmbeddingColumn,
    Vocabulary,
    VocabularyColumn,
    WeightedColumn,
    ZScore,
)
from estimator_lib.core.errors import ConfigError, Reason, quote


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
        raise invalid(f"numeric_column {quote(key)}", "shape", "positive integers", shape)
    if not (
        normalizer_fn is None
        or callable(normalizer_fn)
        or isinstance(normalizer_fn, Moments | ZScore)
    ):
        raise invalid(
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
        key=field_key("numeric_column", key),
        shape=sizes,
        default_value=default,
        dtype=dtype_name(dtype),
        normalizer=normalizer_fn,
    )


def missing_indicator_column(key: str) -> MissingIndicatorColumn:
    """1.0 where the field is missing, else 0.0; float32 `[batch, 1]`."""
    return MissingIndicatorColumn(key=field_key("missing_indicator_column", key))


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
        ordered = all(a < b for a, b in itertools.pairwise(cuts))
        if not cuts or not ordered or any(math.isnan(cut) for cut in cuts):
            raise invalid(
                f"bucketized_column of {source_column.name!r}",
                "boundaries",
                "a sorted sequence of distinct numbers",
                boundaries,
            )
    return BucketizedColumn(source_column=source_column, boundaries=cuts)


def categorical_column_with_vocabulary(
    key: str,
    top_k: int | None = None,
    min_count: int = 1,
    num_oov_buckets: int = 1,
    *,
    weight: str | None = None,
    informative: bool = False,
    reserved: Sequence[str] = (),
) -> VocabularyColumn:
    """Values looked up in a vocabulary that is learned from the train split.

    Args:
        key: The raw field.
        top_k: Keep at most this many values.
        min_count: Keep values seen at least this often.
        num_oov_buckets: Ids for values outside the vocabulary; 0 treats them as missing.
        weight: See `Vocabulary`.
        informative: See `Vocabulary`.
        reserved: See `Vocabulary`.
    """
    return VocabularyColumn(
        key=field_key("categorical_column_with_vocabulary", key),
        vocabulary=Vocabulary(
            top_k=top_k,
            min_count=min_count,
            weight=weight,
            informative=informative,
            reserved=tuple(reserved),
        ),
        num_oov_buckets=at_least(key, "num_oov_buckets", num_oov_buckets, 0),
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
        raise invalid(
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
        key=field_key("categorical_column_with_vocabulary_list", key),
        vocabulary=values if inferred == "string" else tuple(int(v) for v in values),
        dtype=dtype_name(dtype) if dtype is not None else inferred,
        default_value=default_value,
        num_oov_buckets=at_least(key, "num_oov_buckets", num_oov_buckets, 0),
    )


def categorical_column_with_vocabulary_file(
    key: str,
    vocabulary_file: str,
    vocabulary_size: int | None = None,
    dtype: Any = "string",
    default_value: int | None = None,
    num_oov_buckets: int = 0,
    file_format: str | None = None,
) -> VocabularyColumn:
    """Values looked up in a text file, one value per line; ids follow its order.

    The file is read now and its values become part of the column: what is saved or exported
    does not need the file any more.

    Args:
        key: The raw field.
        vocabulary_file: A local path, UTF-8.
        vocabulary_size: Use this many lines; None uses all.
        dtype: string, or an integer type for lines that are integers.
        default_value: Id of other values; None treats them as missing.
        num_oov_buckets: Ids for values outside the vocabulary.
        file_format: "text" or None; kept for compatibility.

    Raises:
        ConfigError: the file cannot be read, is shorter than vocabulary_size or holds a value
            twice.
    """
    thing = f"categorical_column_with_vocabulary_file {quote(key)}"
    if file_format not in (None, "text"):
        raise invalid(thing, "file_format", "'text' or None", file_format)
    try:
        text = pathlib.Path(vocabulary_file).read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"{thing}: vocabulary_file cannot be read: {error}. Give a UTF-8 text file.",
            reason=Reason.FILE_NOT_FOUND,
        ) from error
    # Only line feeds end a value, as TensorFlow reads such files.
    lines = text.split("\n")
    lines = lines[:-1] if lines[-1] == "" else lines
    if vocabulary_size is not None:
        if at_least(thing, "vocabulary_size", vocabulary_size, 1) > len(lines):
            raise invalid(
                thing, "vocabulary_size", f"at most the {len(lines)} lines", vocabulary_size
            )
        lines = lines[:vocabulary_size]
    values: list[Any] = list(lines)
    if dtype_name(dtype) != "string":
        try:
            values = [int(line) for line in lines]
        except ValueError as error:
            raise invalid(thing, "vocabulary_file", "integers", str(error)) from error
    default = -1 if default_value is None else default_value
    return categorical_column_with_vocabulary_list(key, values, dtype, default, num_oov_buckets)


def categorical_column_with_hash_bucket(
    key: str, hash_bucket_size: int, dtype: Any = "string"
) -> HashedColumn:
    """Values hashed (fingerprint64 of the string, or of an integer's decimal form)."""
    return HashedColumn(
        key=field_key("categorical_column_with_hash_bucket", key),
        hash_bucket_size=at_least(key, "hash_bucket_size", hash_bucket_size, 1),
        dtype=dtype_name(dtype),
    )


def categorical_column_with_identity(
    key: str, num_buckets: int, default_value: int | None = None
) -> IdentityColumn:
    """Integers in [0, num_buckets) that are ids already.

    A value outside raises, or takes `default_value` when one is given; -1 means missing.
    """
    return IdentityColumn(
        key=field_key("categorical_column_with_identity", key),
        buckets=at_least(key, "num_buckets", num_buckets, 1),
        default_value=default_value,
    )


def crossed_column(
    keys: Sequence[str | CategoricalColumn], hash_bucket_size: int, hash_key: int | None = None
) -> CrossedColumn:
    """Combinations of at least two fields or categorical columns, hashed.

    A missing part makes the whole combination missing.
    """
    if len(keys) < 2:
        raise invalid("crossed_column", "keys", "at least two fields or columns", keys)
    for part in keys:
        if isinstance(part, HashedColumn) or not isinstance(part, str | CategoricalColumn):
            raise invalid(
                "crossed_column",
                "keys",
                "field names or categorical columns that are not hashed (give the field instead)",
                part,
            )
    return CrossedColumn(
        keys=tuple(keys),
        hash_bucket_size=at_least("crossed_column", "hash_bucket_size", hash_bucket_size, 1),
        hash_key=hash_key,
    )


def indicator_column(categorical_column: CategoricalColumn) -> IndicatorColumn:
    """The one-hot form of a categorical column, float32 `[batch, num_buckets]`."""
    return IndicatorColumn(categorical_column=_categorical("indicator_column", categorical_column))


def embedding_column(
    categorical_column: CategoricalColumn,
    dimension: int | str | None = None,
    combiner: str = "mean",
    initializer: Callable[..., Any] | None = None,
    max_norm: float | None = None,
    trainable: bool = True,
) -> EmbeddingColumn:
    """A learned vector per category, float32 `[batch, dimension]`; zeros when missing.

    Args:
        categorical_column: What to embed.
        dimension: Length of the vector; None or "auto" takes it from the number of buckets,
            see `embedding_width`.
        combiner: "mean", "sqrtn" or "sum" over several values of one example.
        initializer: Of the table; None is a truncated normal with stddev 1/sqrt(dimension).
        max_norm: Vectors longer than this are scaled down when read.
        trainable: Whether training updates the table.
    """
    if combiner not in ("mean", "sqrtn", "sum"):
        raise invalid("embedding_column", "combiner", "'mean', 'sqrtn' or 'sum'", combiner)
    return EmbeddingColumn(
        categorical_column=_categorical("embedding_column", categorical_column),
        dimension=_dimension("embedding_column", dimension),
        combiner=combiner,
        initializer=initializer,
        max_norm=max_norm,
        trainable=trainable,
    )


def shared_embeddings(
    categorical_columns: Sequence[CategoricalColumn],
    dimension: int | str | None = None,
    combiner: str = "mean",
    initializer: Callable[..., Any] | None = None,
    shared_embedding_collection_name: str | None = None,
    max_norm: float | None = None,
    trainable: bool = True,
) -> list[SharedEmbeddingColumn]:
    """Learned vectors of several columns from one table, one column for each.

    Args:
        categorical_columns: At least one; all must have the same number of buckets.
        dimension: As in `embedding_column`.
        combiner: As in `embedding_column`.
        initializer: As in `embedding_column`.
        shared_embedding_collection_name: Name of the table; by default from the columns' names.
        max_norm: As in `embedding_column`.
        trainable: As in `embedding_column`.
    """
    if not categorical_columns:
        raise invalid("shared_embeddings", "categorical_columns", "at least one", [])
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
    if not dtype_name(dtype).startswith(("float", "int")):
        raise invalid("weighted_categorical_column", "dtype", "a number type", dtype)
    return WeightedColumn(
        categorical_column=_categorical("weighted_categorical_column", categorical_column),
        weight_feature_key=field_key("weighted_categorical_column", weight_feature_key),
    )


# --- Embeddings of numbers -------------------------------------------------------------------


def piecewise_linear_embedding(
    source_column: NumericColumn,
    boundaries: Sequence[float] | Quantiles,
    dimension: int | None = None,
) -> PiecewiseLinearColumn:
    """A number as how far it is through each of several bins, float32 `[batch, width]`.

    Of the bins between neighbouring boundaries, those below the number give 1, those above 0
    and its own the share of the way through: every value is between 0 and 1, also for numbers
    before the first boundary and behind the last. Fewer than two boundaries (a constant field)
    give one bin. With `dimension`, a layer of that width with relu follows. A missing number
    gives zeros.

    Args:
        source_column: A `numeric_column` of one number without normalizer.
        boundaries: Sorted numbers, distinct as float32, or `Quantiles(buckets=n)` to learn them:
            smallest and largest number of the train split, and n - 1 between them.
        dimension: Width of the layer; None leaves it out.

    References: Gorishniy et al., arXiv 2203.05556 (PLE, and PLE-LR with dimension).
    """
    _one_number("piecewise_linear_embedding", source_column)
    if source_column.normalizer is not None:
        raise invalid(
            "piecewise_linear_embedding", "source_column", "no normalizer", source_column.name
        )
    cuts: Any
    if isinstance(boundaries, Quantiles):
        cuts = dataclasses.replace(boundaries, ends=True)
    else:
        cuts = bucketized_column(source_column, boundaries).boundaries
        if not all(_float32(a) < _float32(b) for a, b in itertools.pairwise(cuts)):
            raise invalid(
                "piecewise_linear_embedding", "boundaries", "numbers distinct as float32",
                boundaries,
            )  # fmt: skip
    return PiecewiseLinearColumn(
        source_column=source_column,
        boundaries=cuts,
        dimension=_dimension("piecewise_linear_embedding", dimension),
    )


def periodic_embedding(
    source_column: NumericColumn,
    frequencies: int = 16,
    scale: float = 0.1,
    dimension: int | None = 16,
) -> PeriodicColumn:
    """A number as sines and cosines at learned frequencies, float32 `[batch, width]`.

    With `dimension`, a layer of that width with relu follows. A missing number gives zeros.

    Args:
        source_column: A `numeric_column` of one number; normalized, for the frequencies are
            cycles per unit of it.
        frequencies: How many; the width before the layer is twice that.
        scale: Standard deviation of the frequencies at first.
        dimension: Width of the layer; None leaves it out.

    References: Gorishniy et al., arXiv 2203.05556 (PL, and PLR with dimension).
    """
    _one_number("periodic_embedding", source_column)
    if not (isinstance(scale, int | float) and math.isfinite(scale) and scale > 0):
        raise invalid("periodic_embedding", "scale", "a positive number", scale)
    return PeriodicColumn(
        source_column=source_column,
        frequencies=at_least("periodic_embedding", "frequencies", frequencies, 1),
        scale=float(scale),
        dimension=_dimension("periodic_embedding", dimension),
    )


def _float32(number: float) -> float:
    """The nearest float32; infinity beyond."""
    try:
        return float(struct.unpack("f", struct.pack("f", number))[0])
    except OverflowError:
        return math.copysign(math.inf, number)


def _one_number(constructor: str, column: object) -> None:
    if not isinstance(column, NumericColumn) or math.prod(column.shape) != 1:
        raise invalid(constructor, "source_column", "a numeric_column of one number", column)


# --- Sequences -------------------------------------------------------------------------------


def sequence_numeric_column(
    key: str,
    shape: int | Sequence[int] = (1,),
    default_value: float = 0.0,
    dtype: Any = "float32",
    normalizer_fn: Callable[[Any], Any] | ZScore | None = None,
) -> SequenceNumericColumn:
    """A number, or a vector, for every position of a sequence.

    Args:
        key: The raw field.
        shape: Of one position.
        default_value: Fills positions behind the end, and missing numbers.
        dtype: float or integer type; the column is cast to float32.
        normalizer_fn: A function of numbers, or `ZScore`.
    """
    plain = numeric_column(key, shape, None, dtype, normalizer_fn)
    if isinstance(normalizer_fn, Moments):
        raise invalid(
            f"sequence_numeric_column {quote(key)}", "normalizer_fn", "a function or ZScore",
            normalizer_fn,
        )  # fmt: skip
    return SequenceNumericColumn(
        key=plain.key,
        shape=plain.shape,
        default_value=float(default_value),
        dtype=plain.dtype,
        normalizer=normalizer_fn,
    )


def sequence_categorical_column(categorical_column: CategoricalColumn) -> SequenceCategoricalColumn:
    """The category at every position of a sequence, of any categorical column."""
    inner = _categorical("sequence_categorical_column", categorical_column)
    return SequenceCategoricalColumn(categorical_column=inner)


def sequence_categorical_column_with_hash_bucket(
    key: str, hash_bucket_size: int, dtype: Any = "string"
) -> SequenceCategoricalColumn:
    """A hashed category for every position; see `categorical_column_with_hash_bucket`."""
    return SequenceCategoricalColumn(
        categorical_column=categorical_column_with_hash_bucket(key, hash_bucket_size, dtype)
    )


def sequence_categorical_column_with_identity(
    key: str, num_buckets: int, default_value: int | None = None
) -> SequenceCategoricalColumn:
    """An id for every position; see `categorical_column_with_identity`."""
    return SequenceCategoricalColumn(
        categorical_column=categorical_column_with_identity(key, num_buckets, default_value)
    )


def sequence_categorical_column_with_vocabulary_file(
    key: str,
    vocabulary_file: str,
    vocabulary_size: int | None = None,
    num_oov_buckets: int = 0,
    default_value: int | None = None,
    dtype: Any = "string",
    file_format: str | None = None,
) -> SequenceCategoricalColumn:
    """A category for every position; see `categorical_column_with_vocabulary_file`."""
    return SequenceCategoricalColumn(
        categorical_column=categorical_column_with_vocabulary_file(
            key, vocabulary_file, vocabulary_size, dtype, default_value, num_oov_buckets,
            file_format,
        )
    )  # fmt: skip


def sequence_categorical_column_with_vocabulary_list(
    key: str,
    vocabulary_list: Sequence[Any],
    dtype: Any = None,
    default_value: int = -1,
    num_oov_buckets: int = 0,
) -> SequenceCategoricalColumn:
    """A category for every position; see `categorical_column_with_vocabulary_list`."""
    return SequenceCategoricalColumn(
        categorical_column=categorical_column_with_vocabulary_list(
            key, vocabulary_list, dtype, default_value, num_oov_buckets
        )
    )


def _categorical(constructor: str, column: object) -> CategoricalColumn:
    if not isinstance(column, CategoricalColumn):
        raise invalid(constructor, "categorical_column", "a categorical column", column)
    return column


def _dimension(constructor: str, dimension: int | str | None) -> int | None:
    automatic = dimension is None or dimension == "auto"
    return None if automatic else at_least(constructor, "dimension", dimension, 1)
