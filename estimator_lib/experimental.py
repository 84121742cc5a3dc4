"""The names of `tf.estimator.experimental`, loaded when first used."""

from __future__ import annotations

import importlib
from typing import Any

_MODULES = {
    "estimator_lib.training.early_stopping": (
        "EarlyStoppingHook",
        "InMemoryEvaluatorHook",
        "MetricStoppingHook",
        "make_early_stopping_hook",
        "make_stop_at_checkpoint_step_hook",
        "stop_if_higher_hook",
        "stop_if_lower_hook",
        "stop_if_no_decrease_hook",
        "stop_if_no_increase_hook",
    ),
    "estimator_lib.canned.rnn": ("RNNClassifier", "RNNEstimator"),
    "estimator_lib.optimizers.sdca": ("LinearSDCA",),
    "estimator_lib.specs": ("call_logit_fn",),
    "estimator_lib.export.serving_inputs": ("build_raw_supervised_input_receiver_fn",),
}
_WHERE = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [  # noqa: PLE0604 - the map above is the one list of names
    *sorted(_WHERE)
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'estimator_lib.experimental' has no attribute {name!r}")
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
