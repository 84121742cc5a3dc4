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

from estimator_lib.core.columns import (
    bucketized,
    dates,
    embeddings,
    hashed,
    identity,
    numeric,
    numeric_embeddings,
    sequences,
    vocabulary,
    weighted,
)
from estimator_lib.core.columns._base import (
    MISSING_INT,
    CategoricalColumn,
    Column,
    DenseColumn,
)
from estimator_lib.core.columns._base import ColumnSpec as ColumnSpec
from estimator_lib.core.columns._base import Values as Values
from estimator_lib.core.columns._base import declarations as declarations
from estimator_lib.core.columns._base import kinds as kinds
from estimator_lib.core.columns._json import from_json, to_json
from estimator_lib.core.columns._learned import Learned as Learned
from estimator_lib.core.columns._learned import Mean, Moments, Quantiles, Vocabulary, ZScore
from estimator_lib.core.columns._learned import Open as Open
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
from estimator_lib.core.columns._operations import fields_of_any_type as fields_of_any_type
from estimator_lib.core.columns.bucketized import *
from estimator_lib.core.columns.dates import *
from estimator_lib.core.columns.embeddings import *
from estimator_lib.core.columns.hashed import *
from estimator_lib.core.columns.identity import *
from estimator_lib.core.columns.numeric import *
from estimator_lib.core.columns.numeric_embeddings import *
from estimator_lib.core.columns.sequences import *
from estimator_lib.core.columns.vocabulary import *
from estimator_lib.core.columns.weighted import *

__all__ = [
    "MISSING_INT",
    "CategoricalColumn",
    "Column",
    "ColumnT",
    "DenseColumn",
    "Mean",
    "Moments",
    "Quantiles",
    "Vocabulary",
    "ZScore",
    "check_list_fields",
    "feature_sources",
    "from_json",
    "is_sequence",
    "open_parts",
    "raw_fields",
    "required_fields",
    "resolve",
    "to_json",
    "transformed",
    "walk",
]
__all__ += bucketized.__all__
__all__ += dates.__all__
__all__ += embeddings.__all__
__all__ += hashed.__all__
__all__ += identity.__all__
__all__ += numeric.__all__
__all__ += numeric_embeddings.__all__
__all__ += sequences.__all__
__all__ += vocabulary.__all__
__all__ += weighted.__all__
