"""Export: SavedModels, serving inputs, versions, parity, exporters.

The names of `tf.estimator.export` and more, loaded when first used.
"""

from __future__ import annotations

import importlib
from typing import Any

_MODULES = {
    "estimator_lib.export.outputs": (
        "ClassificationOutput",
        "EvalOutput",
        "ExportOutput",
        "PredictOutput",
        "RegressionOutput",
    ),
    "estimator_lib.export.receivers": (
        "ServingInputReceiver",
        "SupervisedInputReceiver",
        "TensorServingInputReceiver",
        "UnsupervisedInputReceiver",
    ),
    "estimator_lib.export.serving_inputs": (
        "build_parsing_serving_input_receiver_fn",
        "build_raw_serving_input_receiver_fn",
        "build_raw_supervised_input_receiver_fn",
        "build_tensor_serving_input_receiver_fn",
        "build_transformed_serving_input_receiver_fn",
    ),
    "estimator_lib.export.saved_model": ("LoadedModel", "load_model"),
    "estimator_lib.export.warmup": ("write_warmup",),
    "estimator_lib.export.retention": ("publish",),
}
_WHERE = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [  # noqa: PLE0604 - the map above is the one list of names
    *sorted(_WHERE)
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'estimator_lib.export' has no attribute {name!r}")
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
