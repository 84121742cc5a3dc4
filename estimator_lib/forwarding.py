"""`forward_features`: keys and other features passed through predictions and served models.

Layer 4.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from estimator_lib.core.columns import MISSING_INT
from estimator_lib.core.errors import ConfigError, Reason, SchemaError, did_you_mean, quote
from estimator_lib.estimator import Estimator, with_model_fn
from estimator_lib.export.outputs import PredictOutput, tensors
from estimator_lib.specs import EstimatorSpec, ModeKeys


def forward_features(
    estimator: Estimator,
    keys: str | Sequence[str] | None = None,
    sparse_default_values: Mapping[str, Any] | None = None,
) -> Estimator:
    """Returns an Estimator whose predictions hold features too, such as the rows' keys.

    They are in what `predict` gives and in every signature of the export that gives all
    predictions (`predict`, and `serving_default` for raw inputs). It shares `estimator`'s
    model_dir and keeps its class; the features need not be ones that the model reads.

    Args:
        estimator: Any Estimator.
        keys: Names of features; None is all.
        sparse_default_values: By name, what stands where a sparse feature has no value; by
            default "", NaN, or the missing integer.

    Raises:
        ConfigError: keys are no texts. When the model is traced: a name that is a prediction
            already, or predictions that are not a dict.
        SchemaError: when the model is traced: a name that is no feature.
    """
    names = None if keys is None else (keys,) if isinstance(keys, str) else tuple(keys)
    if names is not None and (not names or any(not isinstance(n, str) for n in names)):
        raise ConfigError(
            f"forward_features: argument keys is invalid: expected names of features, got "
            f"{quote(keys)}.",
            reason=Reason.INVALID_VALUE,
        )
    defaults = dict(sparse_default_values or {})
    inner = estimator._user_model_fn
    accepted = set(inspect.signature(inner).parameters)

    def model_fn(features: Any, labels: Any, mode: str, params: Any, config: Any) -> EstimatorSpec:
        before = dict(features) if isinstance(features, Mapping) else features
        given = {"labels": labels, "mode": mode, "params": params, "config": config}
        spec = inner(features=features, **{k: v for k, v in given.items() if k in accepted})
        if mode != ModeKeys.PREDICT:
            return spec
        added = _forwarded(before, names, defaults)
        exports = {
            name: _with(output, added) if isinstance(output, PredictOutput) else output
            for name, output in (spec.export_outputs or {}).items()
        }
        return spec._replace(
            predictions=_merged(spec.predictions, added), export_outputs=exports or None
        )

    return with_model_fn(estimator, model_fn)


def _forwarded(
    features: Any, names: tuple[str, ...] | None, defaults: Mapping[str, Any]
) -> dict[str, tf.Tensor]:
    if not isinstance(features, Mapping):
        raise ConfigError(
            "forward_features needs features by name: expected a dict from input_fn, got "
            f"{type(features).__name__}.",
            reason=Reason.TYPE_MISMATCH,
        )
    found = {}
    for name in sorted(features) if names is None else names:
        if name not in features:
            raise SchemaError(
                f"Feature {name!r} cannot be forwarded: it is not there."
                + did_you_mean(name, features),
                reason=Reason.FIELD_MISSING,
            )
        found[name] = _dense(features[name], defaults.get(name))
    return found


def _dense(value: Any, default: Any) -> tf.Tensor:
    if default is None and isinstance(value, tf.SparseTensor | tf.RaggedTensor):
        missing = math.nan if value.dtype.is_floating else MISSING_INT
        default = "" if value.dtype == tf.string else missing
    if isinstance(value, tf.SparseTensor):
        return tf.sparse.to_dense(value, default_value=default)
    if isinstance(value, tf.RaggedTensor):
        return value.to_tensor(default_value=default)
    return tf.identity(value)


def _with(output: PredictOutput, added: Mapping[str, tf.Tensor]) -> PredictOutput:
    return PredictOutput(_merged(tensors(output), added))


def _merged(predictions: Any, added: Mapping[str, tf.Tensor]) -> dict[str, Any]:
    if not isinstance(predictions, Mapping):
        raise ConfigError(
            "forward_features needs predictions by name: expected a dict in EstimatorSpec, got "
            f"{type(predictions).__name__}.",
            reason=Reason.TYPE_MISMATCH,
        )
    for name in added:
        if name in predictions:
            raise ConfigError(
                f"Feature {name!r} cannot be forwarded: it is the name of a prediction. Rename "
                "the feature in input_fn.",
                reason=Reason.CONFLICT,
            )
    return {**predictions, **added}
