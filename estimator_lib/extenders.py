"""Estimators that say more than another one: more metrics, features in their predictions.

Layer 4. Each is a twin that shares the other's model_dir and keeps its class, unlike those of
tf.estimator, and whose model_fn calls the other's.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from estimator_lib.core.columns import MISSING_INT
from estimator_lib.core.errors import ConfigError, Reason, SchemaError, did_you_mean, quote
from estimator_lib.estimator import Estimator
from estimator_lib.export.outputs import PredictOutput, tensors
from estimator_lib.protocols import Features, Labels, Predictions, Tensor
from estimator_lib.specs import EstimatorSpec, ModeKeys
from estimator_lib.training.run_config import RunConfig


def add_metrics(estimator: Estimator, metric_fn: Callable[..., Mapping[str, object]]) -> Estimator:
    """Returns an Estimator that also reports `metric_fn`'s metrics.

    It shares `estimator`'s model_dir and keeps its class, unlike the one of tf.estimator.

    Args:
        estimator: Any Estimator.
        metric_fn: Takes some of features, labels, predictions, config; returns metrics by
            name, which replace metrics of the same name.
    """
    accepted = set(inspect.signature(metric_fn).parameters)
    unknown = accepted - {"features", "labels", "predictions", "config"}
    if unknown:
        raise ConfigError(
            f"metric_fn has the argument {sorted(unknown)[0]!r}: expected some of features, "
            "labels, predictions, config.",
            reason=Reason.UNKNOWN_NAME,
        )
    inner = estimator.model_fn

    def model_fn(features: Features, labels: Labels, mode: str, config: RunConfig) -> EstimatorSpec:
        spec = inner(features, labels, mode, config)
        if mode != ModeKeys.EVAL:
            return spec
        given = {
            "features": features, "labels": labels, "predictions": spec.predictions,
            "config": config,
        }  # fmt: skip
        added = metric_fn(**{name: given[name] for name in given if name in accepted})
        return spec._replace(eval_metric_ops={**(spec.eval_metric_ops or {}), **added})

    return estimator.with_model_fn(model_fn)


def forward_features(
    estimator: Estimator,
    keys: str | Sequence[str] | None = None,
    sparse_default_values: Mapping[str, object] | None = None,
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
        )
    defaults = dict(sparse_default_values or {})
    inner = estimator.model_fn

    def model_fn(features: Features, labels: Labels, mode: str, config: RunConfig) -> EstimatorSpec:
        before = dict(features) if isinstance(features, Mapping) else features
        spec = inner(features, labels, mode, config)
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

    return estimator.with_model_fn(model_fn)


def _forwarded(
    features: Features, names: tuple[str, ...] | None, defaults: Mapping[str, object]
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


def _dense(value: Tensor, default: object) -> tf.Tensor:
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


def _merged(predictions: Predictions, added: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
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
