"""The Estimator framework on today's TensorFlow: `import estimator_lib as tf_estimator`.

Public names are loaded when first used, so that `estimator_lib.core` can be imported without
TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import Any

from estimator_lib.core.version import VERSION as __version__  # noqa: F401

_MODULES = {
    "estimator_lib.specs": ("EstimatorSpec", "EvalSpec", "ModeKeys", "TrainSpec"),
    "estimator_lib.estimator": ("Estimator",),
    "estimator_lib.extenders": ("add_metrics", "forward_features"),
    "estimator_lib.experiment": ("Experiment", "tune"),
    "estimator_lib.calibration": ("calibrate", "calibrated"),
    "estimator_lib.driver": ("train_and_evaluate",),
    "estimator_lib.local_cluster": ("run_local_cluster",),
    "estimator_lib.training.run_config": ("RunConfig",),
    "estimator_lib.training.warm_start": ("VocabInfo", "WarmStartSettings"),
    "estimator_lib.training.hooks": (
        "CheckpointSaverHook",
        "CheckpointSaverListener",
        "FinalOpsHook",
        "Hook",
        "LoggingTensorHook",
        "NanLossDuringTrainingError",
        "NanTensorHook",
        "ProfilerHook",
        "ProgressHook",
        "SecondOrStepTimer",
        "SessionRunArgs",
        "SessionRunContext",
        "SessionRunHook",
        "SessionRunValues",
        "StepCounterHook",
        "StopAtStepHook",
        "SummarySaverHook",
    ),
    "estimator_lib.export.exporters": (
        "BestExporter",
        "Exporter",
        "FinalExporter",
        "LatestExporter",
    ),
    "estimator_lib.canned.baseline": (
        "BaselineClassifier",
        "BaselineEstimator",
        "BaselineRegressor",
    ),
    "estimator_lib.canned.linear": ("LinearClassifier", "LinearEstimator", "LinearRegressor"),
    "estimator_lib.canned.dnn": ("DNNClassifier", "DNNEstimator", "DNNRegressor"),
    "estimator_lib.canned.dcn": ("DCNClassifier", "DCNEstimator", "DCNRegressor"),
    "estimator_lib.canned.mmoe": ("MMoEEstimator",),
    "estimator_lib.canned.tabm": ("TabMClassifier", "TabMEstimator", "TabMRegressor"),
    "estimator_lib.canned.kmeans": ("KMeansClustering",),
    "estimator_lib.canned.trees": (
        "GradientBoostedTreesClassifier",
        "GradientBoostedTreesEstimator",
        "GradientBoostedTreesRegressor",
    ),
    "estimator_lib.canned.rnn": ("RNNClassifier", "RNNEstimator", "RNNRegressor"),
    "estimator_lib.features.parsing": (
        "classifier_parse_example_spec",
        "regressor_parse_example_spec",
    ),
    "estimator_lib.heads": (
        "BinaryClassHead",
        "Calibration",
        "Head",
        "LogisticRegressionHead",
        "MultiClassHead",
        "MultiHead",
        "MultiLabelHead",
        "PairwiseRankingHead",
        "PoissonRegressionHead",
        "QuantileRegressionHead",
        "RegressionHead",
        "SequentialHead",
        "TweedieRegressionHead",
    ),
    "estimator_lib.canned.wide_deep": (
        "DNNLinearCombinedClassifier",
        "DNNLinearCombinedEstimator",
        "DNNLinearCombinedRegressor",
    ),
}
_WHERE = {name: module for module, names in _MODULES.items() for name in names}

_SUBMODULES = {
    "experimental": "estimator_lib.experimental",
    "export": "estimator_lib.export",
    "feature_column": "estimator_lib.feature_column",
    "gc": "estimator_lib.gc",
    "heads": "estimator_lib.heads",
    "inputs": "estimator_lib.inputs",
    "losses": "estimator_lib.losses",
    "metrics": "estimator_lib.metrics",
    "optimizers": "estimator_lib.optimizers",
    "variables": "estimator_lib.variables",
}

__all__ = [  # noqa: PLE0604 - the map above is the one list of names
    *sorted(_WHERE),
    *sorted(_SUBMODULES),
]


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        value: Any = importlib.import_module(_SUBMODULES[name])
    elif name in _WHERE:
        value = getattr(importlib.import_module(_WHERE[name]), name)
    else:
        raise AttributeError(f"module 'estimator_lib' has no attribute {name!r}" + _advice(name))
    globals()[name] = value
    return value


def _advice(name: str) -> str:
    """Returns what to write instead of a name that tf.estimator had."""
    if name.startswith("_"):
        return ""
    advice = importlib.import_module("estimator_lib.migrate").SUCCESSORS.get(name)
    return f", as tf.estimator had: {advice}" if advice else ""


def __dir__() -> list[str]:
    return sorted(__all__)
