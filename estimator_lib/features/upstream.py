"""`tf.feature_column` objects as columns of ours, so that code written for them runs unchanged.

Layer 2. They are read through their public fields; nothing of their own lowering is used.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, ClassVar

import tensorflow as tf

from estimator_lib.core import columns as fc
from estimator_lib.core.errors import ConfigError, Reason, quote
from estimator_lib.tensorflow_internals import shared_table


@dataclasses.dataclass(frozen=True, kw_only=True)
class FedCrossedColumn(fc.CrossedColumn):
    """A cross whose values depend on how its fields are fed, as with `tf.feature_column`.

    Fields that come as dense tensors are crossed after the columns and sparse fields, and an
    empty text in them is a value like any other. Old weights belong to those values. Crosses of
    our own columns have one value for one row, however it is fed.
    """

    kind: ClassVar[str] = "crossed_as_fed"


def columns_of(given: Iterable[Any] | Any | None) -> tuple[fc.Column, ...]:
    """Returns feature columns of ours: those that are already, and others converted.

    Args:
        given: Columns of ours and of `tf.feature_column`, in any mix; None is none.

    Raises:
        ConfigError: something else than a column, or a kind that cannot be converted.
    """
    if given is None:
        return ()
    if isinstance(given, str | dict):
        raise _not_a_column(given)
    return tuple(from_feature_column(c) for c in (given if _many(given) else [given]))


def from_feature_column(column: Any) -> fc.Column:
    """Returns a `tf.feature_column` object as a column of ours; ours are returned as they are.

    Raises:
        ConfigError: not a column, or a kind that cannot be converted.
    """
    if isinstance(column, fc.Column):
        return column
    kind = type(column).__name__
    if kind == "NumericColumn":
        number = fc.numeric_column(
            column.key, column.shape or (1,), _default(column), column.dtype, column.normalizer_fn
        )
        # One number without a dimension of its own, as tf.Transform gives them.
        return number if column.shape else dataclasses.replace(number, shape=())
    if kind == "BucketizedColumn":
        source: Any = from_feature_column(column.source_column)
        return fc.bucketized_column(source, column.boundaries)
    if kind == "CrossedColumn":
        return FedCrossedColumn(
            keys=tuple(k if isinstance(k, str) else _category(k) for k in column.keys),
            hash_bucket_size=column.hash_bucket_size,
            hash_key=column.hash_key,
        )
    if kind == "HashedCategoricalColumn":
        return fc.categorical_column_with_hash_bucket(
            column.key, column.hash_bucket_size, column.dtype
        )
    if kind == "IdentityCategoricalColumn":
        return fc.categorical_column_with_identity(
            column.key, column.number_buckets, column.default_value
        )
    if kind == "VocabularyListCategoricalColumn":
        return fc.categorical_column_with_vocabulary_list(
            column.key,
            list(column.vocabulary_list),
            column.dtype,
            column.default_value,
            column.num_oov_buckets,
        )
    if kind == "VocabularyFileCategoricalColumn":
        return _from_file(column)
    if kind == "WeightedCategoricalColumn":
        return fc.weighted_categorical_column(
            _category(column.categorical_column), column.weight_feature_key, column.dtype
        )
    if kind == "SequenceCategoricalColumn":
        return fc.SequenceCategoricalColumn(categorical_column=_category(column.categorical_column))
    if kind == "SequenceNumericColumn":
        return fc.sequence_numeric_column(
            column.key, column.shape, column.default_value, column.dtype, column.normalizer_fn
        )
    if kind == "IndicatorColumn":
        return fc.indicator_column(_category(column.categorical_column))
    if kind == "SharedEmbeddingColumn":
        creator = column.shared_embedding_column_creator
        table = shared_table(creator)
        if table.checkpoint is not None:
            raise _loads_a_table(column)
        return fc.shared_embeddings(
            [_category(column.categorical_column)],
            creator.dimension,
            column.combiner,
            table.initializer,
            table.name,
            column.max_norm,
            table.trainable,
        )[0]
    if kind == "_SharedEmbeddingColumn":  # of tf.compat.v1.feature_column
        _not_loaded(column)
        shared = fc.shared_embeddings(
            [_category(column.categorical_column)],
            column.dimension,
            column.combiner,
            column.initializer,
            column.shared_embedding_collection_name,
            column.max_norm,
        )[0]
        return dataclasses.replace(shared, trainable=column.trainable)
    if kind == "EmbeddingColumn":
        return _embedding(column)
    raise _not_a_column(column)


def _not_loaded(column: Any) -> None:
    if column.ckpt_to_load_from is not None:
        raise _loads_a_table(column)


def _embedding(column: Any) -> fc.EmbeddingColumn:
    _not_loaded(column)
    return fc.embedding_column(
        _category(column.categorical_column),
        column.dimension,
        column.combiner,
        column.initializer,
        column.max_norm,
        column.trainable,
    )


def _loads_a_table(column: Any) -> ConfigError:
    return ConfigError(
        f"Column {column.name!r} loads its table from a checkpoint. Use warm_start_from of the "
        "Estimator.",
        reason=Reason.UNSUPPORTED,
    )


def _category(column: Any) -> fc.CategoricalColumn:
    converted = from_feature_column(column)
    if not isinstance(converted, fc.CategoricalColumn):
        raise _not_a_column(column)
    return converted


def _default(column: Any) -> Any:
    value = column.default_value
    if value is None:
        return None
    return tuple(value) if len(value) > 1 else value[0]


def _from_file(column: Any) -> fc.Column:
    if column.file_format not in (None, "text"):
        raise ConfigError(
            f"Column {column.name!r} reads a vocabulary file of the format "
            f"{quote(column.file_format)}: expected a text file with a value in each line. Write "
            "one, or give categorical_column_with_vocabulary_list the values.",
            reason=Reason.UNSUPPORTED,
        )
    with tf.io.gfile.GFile(column.vocabulary_file) as file:
        values = [line.rstrip("\n") for line in file]
    size = column.vocabulary_size or len(values)
    integers = tf.as_dtype(column.dtype).is_integer
    return fc.categorical_column_with_vocabulary_list(
        column.key,
        [int(v) for v in values[:size]] if integers else values[:size],
        column.dtype,
        column.default_value,
        column.num_oov_buckets,
    )


def _many(given: object) -> bool:
    # Upstream columns are named tuples, which are iterable themselves.
    return not isinstance(given, fc.Column) and not hasattr(given, "parse_example_spec")


def _not_a_column(got: object) -> ConfigError:
    return ConfigError(
        f"A feature column is expected, got {type(got).__name__}. Use the constructors of "
        "estimator_lib or of tf.feature_column.",
        reason=Reason.TYPE_MISMATCH,
    )
