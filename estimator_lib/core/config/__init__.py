"""The run configuration: one YAML file that says data, columns, model, training, gates.

Layer 1 (standard library, pydantic, PyYAML). `load` reads and validates it before any work;
an unknown key is refused with the nearest known one. Each step receives only its own part, so
that a cached step is run again exactly when something it reads has changed.
"""

from estimator_lib.core.config._cluster import (
    Cluster,
    Disk,
    Mounted,
    NodeAffinity,
    Placement,
    Schedule,
    Step,
    Toleration,
    Tpu,
    Volume,
    unpinned,
)
from estimator_lib.core.config._columns import (
    BucketizedSpec,
    ColumnSpec,
    CrossedSpec,
    EmbeddingSpec,
    HashedSpec,
    IdentitySpec,
    IndicatorSpec,
    MissingIndicatorSpec,
    NumericSpec,
    VocabularySpec,
    build_columns,
)
from estimator_lib.core.config._data import (
    SPLITS,
    ColumnSplit,
    Data,
    DataSchema,
    FieldType,
    FileSplit,
    HashSplit,
    Label,
    Split,
)
from estimator_lib.core.config._model import (
    Change,
    EarlyStopping,
    Estimator,
    Evaluate,
    Export,
    Threshold,
    Train,
)
from estimator_lib.core.config._reading import json_schema, load
from estimator_lib.core.config._run import (
    EvaluatePart,
    Pipeline,
    PreprocessPart,
    RunConfiguration,
    TrainPart,
)
from estimator_lib.core.config._section import Section

__all__ = [
    "SPLITS",
    "BucketizedSpec",
    "Change",
    "Cluster",
    "ColumnSpec",
    "ColumnSplit",
    "CrossedSpec",
    "Data",
    "DataSchema",
    "Disk",
    "EarlyStopping",
    "EmbeddingSpec",
    "Estimator",
    "Evaluate",
    "EvaluatePart",
    "Export",
    "FieldType",
    "FileSplit",
    "HashSplit",
    "HashedSpec",
    "IdentitySpec",
    "IndicatorSpec",
    "Label",
    "MissingIndicatorSpec",
    "Mounted",
    "NodeAffinity",
    "NumericSpec",
    "Pipeline",
    "Placement",
    "PreprocessPart",
    "RunConfiguration",
    "Schedule",
    "Section",
    "Split",
    "Step",
    "Threshold",
    "Toleration",
    "Tpu",
    "Train",
    "TrainPart",
    "VocabularySpec",
    "Volume",
    "build_columns",
    "json_schema",
    "load",
    "unpinned",
]
