"""The run configuration: one YAML file that says data, columns, model, training, gates.

Layer 1 (standard library, pydantic, PyYAML). `load` reads and validates it before any work;
an unknown key is refused with the nearest known one. Each step receives only its own part, so
that a cached step is run again exactly when something it reads has changed.
"""

from estimator_lib.core import columns
from estimator_lib.core.config._cluster import (
    SHARED_MEMORY,
    Cluster,
    Disk,
    EmptyDir,
    Mounted,
    NodeAffinity,
    Placement,
    Schedule,
    SecurityContext,
    Step,
    Toleration,
    Volume,
    unpinned,
)
from estimator_lib.core.config._columns import ColumnSpec, build_columns
from estimator_lib.core.config._csv import csv_dialect
from estimator_lib.core.config._data import (
    SPLITS,
    BigQuery,
    ColumnSplit,
    Data,
    DataSchema,
    FieldType,
    FileSplit,
    HashSplit,
    Label,
    ListField,
    Split,
    TimeSplit,
    UserFunction,
    described,
    moment,
)
from estimator_lib.core.config._model import (
    Change,
    EarlyStopping,
    Estimator,
    Evaluate,
    Export,
    Importance,
    Processes,
    SliceThreshold,
    Threshold,
    Train,
)
from estimator_lib.core.config._predict import Predict, PredictPart
from estimator_lib.core.config._reading import json_schema, load
from estimator_lib.core.config._run import (
    EvaluatePart,
    Pipeline,
    PreprocessPart,
    RunConfiguration,
    TrainPart,
    TunePart,
)
from estimator_lib.core.config._tune import Parameter, Tune
from estimator_lib.core.section import Section

__all__ = [
    "SHARED_MEMORY",
    "SPLITS",
    "BigQuery",
    "Change",
    "Cluster",
    "ColumnSpec",
    "ColumnSplit",
    "Data",
    "DataSchema",
    "Disk",
    "EarlyStopping",
    "EmptyDir",
    "Estimator",
    "Evaluate",
    "EvaluatePart",
    "Export",
    "FieldType",
    "FileSplit",
    "HashSplit",
    "Importance",
    "Label",
    "ListField",
    "Mounted",
    "NodeAffinity",
    "Parameter",
    "Pipeline",
    "Placement",
    "Predict",
    "PredictPart",
    "PreprocessPart",
    "Processes",
    "RunConfiguration",
    "Schedule",
    "Section",
    "SecurityContext",
    "SliceThreshold",
    "Split",
    "Step",
    "Threshold",
    "TimeSplit",
    "Toleration",
    "Train",
    "TrainPart",
    "Tune",
    "TunePart",
    "UserFunction",
    "Volume",
    "build_columns",
    "csv_dialect",
    "described",
    "json_schema",
    "load",
    "moment",
    "unpinned",
]

# The kinds of columns are public under their own names, whichever there are.
globals().update(_kinds := {kind.__name__: kind for kind in columns.declarations()})
__all__ += sorted(_kinds)  # noqa: PLE0605
