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

from estimator_lib.core.columns._constructors import (
    bucketized_column,
    categorical_column_with_hash_bucket,
    categorical_column_with_identity,
    categorical_column_with_vocabulary,
    categorical_column_with_vocabulary_file,
    categorical_column_with_vocabulary_list,
    crossed_column,
    embedding_column,
    indicator_column,
    missing_indicator_column,
    numeric_column,
    periodic_embedding,
    piecewise_linear_embedding,
    sequence_categorical_column,
    sequence_categorical_column_with_hash_bucket,
    sequence_categorical_column_with_identity,
    sequence_categorical_column_with_vocabulary_file,
    sequence_categorical_column_with_vocabulary_list,
    sequence_numeric_column,
    shared_embeddings,
    weighted_categorical_column,
)
from estimator_lib.core.columns._json import from_json, to_json
from estimator_lib.core.columns._kinds import (
    MISSING_INT,
    BucketIdsColumn,
    BucketizedColumn,
    CategoricalColumn,
    Column,
    CrossedColumn,
    DenseColumn,
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
    embedding_width,
)
from estimator_lib.core.columns._operations import (
    ColumnT,
    check_list_fields,
    feature_sources,
    is_sequence,
    open_parts,
    raw_fields,
    required_fields,
    resolve,
    transformed,
    walk,
)

__all__ = [
    "MISSING_INT",
    "BucketIdsColumn",
    "BucketizedColumn",
    "CategoricalColumn",
    "Column",
    "ColumnT",
    "CrossedColumn",
    "DenseColumn",
    "EmbeddingColumn",
    "HashedColumn",
    "IdentityColumn",
    "IndicatorColumn",
    "Mean",
    "MissingIndicatorColumn",
    "Moments",
    "NumericColumn",
    "PeriodicColumn",
    "PiecewiseLinearColumn",
    "Quantiles",
    "SequenceCategoricalColumn",
    "SequenceNumericColumn",
    "SharedEmbeddingColumn",
    "Vocabulary",
    "VocabularyColumn",
    "WeightedColumn",
    "ZScore",
    "bucketized_column",
    "categorical_column_with_hash_bucket",
    "categorical_column_with_identity",
    "categorical_column_with_vocabulary",
    "categorical_column_with_vocabulary_file",
    "categorical_column_with_vocabulary_list",
    "check_list_fields",
    "crossed_column",
    "embedding_column",
    "embedding_width",
    "feature_sources",
    "from_json",
    "indicator_column",
    "is_sequence",
    "missing_indicator_column",
    "numeric_column",
    "open_parts",
    "periodic_embedding",
    "piecewise_linear_embedding",
    "raw_fields",
    "required_fields",
    "resolve",
    "sequence_categorical_column",
    "sequence_categorical_column_with_hash_bucket",
    "sequence_categorical_column_with_identity",
    "sequence_categorical_column_with_vocabulary_file",
    "sequence_categorical_column_with_vocabulary_list",
    "sequence_numeric_column",
    "shared_embeddings",
    "to_json",
    "transformed",
    "walk",
    "weighted_categorical_column",
]
