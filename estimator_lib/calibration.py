"""Calibrated probabilities: a correction fitted on evaluation data and carried into exports.

Layer 4. The correction is part of the model_fn of the Estimator that `calibrate` returns, so
whatever that Estimator evaluates, predicts or exports has it. Checkpoints stay as they are; the
correction lies beside them, in `FILE`, and `calibrated` finds it there.

References: Platt, Probabilistic outputs for support vector machines, 1999; Guo et al., On
calibration of modern neural networks, arXiv 1706.04599.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from estimator_lib.core import storage
from estimator_lib.core.errors import ConfigError, DataError, Reason, did_you_mean, quote
from estimator_lib.estimator import Estimator
from estimator_lib.heads import Calibration
from estimator_lib.heads._base import calibrations, combined
from estimator_lib.inputs import datasets
from estimator_lib.protocols import Array, Features, InputFn, Labels
from estimator_lib.specs import EstimatorSpec
from estimator_lib.training.run_config import RunConfig

FILE = "calibration.json"
"""What `calibrate` writes to the model directory."""
METHODS = ("platt", "temperature")
_ATTRIBUTE = "_calibration"
_STEPS = 100
Floats = npt.NDArray[np.float64]
Named = Mapping[str | tuple[str, str], Array]


def calibrate(
    estimator: Estimator,
    input_fn: InputFn,
    *,
    method: str = "platt",
    weight_column: str | None = None,
    head: str | None = None,
) -> Estimator:
    """Returns an Estimator whose probabilities fit the labels of `input_fn`.

    The correction is also written to model_dir; in another process,
    `calibrated(estimator)` applies it.

    Args:
        estimator: Binary or multi-class, trained; its newest checkpoint is used.
        input_fn: Features and labels that it was not trained on.
        method: "platt" fits scale and shift of the logit (binary only), "temperature" a scale.
        weight_column: Feature with the examples' weights.
        head: Name of the head, if it has one; with a MultiHead, which of its heads.

    Raises:
        ConfigError: an unknown method, or no logits of a classifier.
        DataError: there is no example, or only one class.
    """
    if method not in METHODS:
        raise ConfigError(
            f"Calibration method {quote(method)} is unknown.{did_you_mean(method, METHODS)}",
            reason=Reason.UNKNOWN_NAME,
        )
    logits, labels, weights = _collected(estimator, input_fn, weight_column, head)
    better = calibrated(estimator, {head: fit(logits, labels, weights, method=method)})
    entries = [{"head": name, **dataclasses.asdict(c)} for name, c in _of(better).items()]
    content = {"step": estimator.checkpoints.newest_step(), "heads": entries}
    storage.write_json(pathlib.Path(estimator.model_dir) / FILE, content)
    return better


def calibrated(
    estimator: Estimator,
    by_head: Calibration | Mapping[str | None, Calibration] | None = None,
) -> Estimator:
    """Returns an Estimator that shares `estimator`'s model_dir and corrects its logits.

    Args:
        estimator: Any Estimator whose head is one of `heads`.
        by_head: The correction by the head's name; one alone is for a head without a name.
            None takes what `calibrate` wrote to model_dir.

    Raises:
        ConfigError: nothing was written there, or for another checkpoint than the newest.
    """
    if by_head is None:
        by_head = _written(estimator)
    corrections: dict[str | None, Calibration] = (
        {None: by_head} if isinstance(by_head, Calibration) else dict(by_head)
    )
    inner = estimator.model_fn

    def model_fn(features: Features, labels: Labels, mode: str, config: RunConfig) -> EstimatorSpec:
        with calibrations(corrections):
            return inner(features, labels, mode, config)

    twin = estimator.with_model_fn(model_fn)
    vars(twin)[_ATTRIBUTE] = combined(_of(estimator), corrections)
    return twin


def _of(estimator: Estimator) -> dict[str | None, Calibration]:
    """Returns the corrections that an Estimator has, by the head's name."""
    found: dict[str | None, Calibration] = vars(estimator).get(_ATTRIBUTE, {})
    return found


def _written(estimator: Estimator) -> dict[str | None, Calibration]:
    path = pathlib.Path(estimator.model_dir) / FILE
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ConfigError(
            f"There is no calibration in {estimator.model_dir}: expected {FILE}, which calibrate() "
            "writes. Call that first.",
            reason=Reason.FILE_NOT_FOUND,
        ) from error
    step = estimator.checkpoints.newest_step()
    if content["step"] != step:
        raise ConfigError(
            f"The calibration in {estimator.model_dir} does not fit its newest checkpoint: it was "
            f"fitted at step {content['step']}, the checkpoint is of step {step}. Call calibrate() "
            "again.",
            reason=Reason.CONFLICT,
        )
    return {
        entry["head"]: Calibration(scale=entry["scale"], shift=entry["shift"])
        for entry in content["heads"]
    }


def fit(
    logits: npt.ArrayLike,
    labels: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    *,
    method: str = "platt",
) -> Calibration:
    """Returns the correction with the least log loss, by Newton's method.

    Args:
        logits: float `[n, 1]` of two classes, or `[n, classes]`.
        labels: Class ids, `[n]`.
        weights: At least 0, `[n]`; None means 1.
        method: See `calibrate`.

    Raises:
        ConfigError: "platt" with more than two classes.
        DataError: there is no example, or only one class.
    """
    scores = np.asarray(logits, np.float64)
    classes = np.asarray(labels).reshape(-1).astype(np.int64)
    share = np.ones(len(classes)) if weights is None else np.asarray(weights, np.float64).ravel()
    if len(np.unique(classes[share > 0])) < 2:
        raise DataError(
            f"Calibration needs examples of at least two classes, got {len(classes)} examples of "
            f"{len(np.unique(classes))}. Give more evaluation data.",
            reason=Reason.EMPTY_INPUT,
        )
    share = share / share.sum()
    if scores.shape[1] == 1:
        scores = np.concatenate([np.zeros_like(scores), scores], 1)
    elif method == "platt":
        raise ConfigError(
            f"Calibration by 'platt' is for two classes, got {scores.shape[1]}. Use 'temperature'.",
            reason=Reason.UNSUPPORTED,
        )
    # Logits are sum_k theta_k * basis[k]; the log loss is convex in theta.
    basis = [scores]
    if method == "platt":
        basis.append(np.broadcast_to([0.0, 1.0], scores.shape))
    directions = np.stack(basis)
    theta = np.array([1.0, 0.0][: len(basis)])
    for _ in range(_STEPS):
        loss, gradient, curvature = _log_loss(theta, directions, classes, share)
        step = np.linalg.lstsq(curvature, gradient, rcond=None)[0]
        length = 1.0
        while (
            length > 1e-10
            and _log_loss(theta - length * step, directions, classes, share)[0] > loss
        ):
            length /= 2
        theta = theta - length * step
        if np.abs(length * step).max() < 1e-10:
            break
    return Calibration(scale=float(theta[0]), shift=float(theta[1]) if len(theta) > 1 else 0.0)


def _log_loss(
    theta: Floats, directions: Floats, classes: Array, share: Floats
) -> tuple[float, Floats, Floats]:
    """Returns mean log loss, gradient and Hessian by theta."""
    logits = np.tensordot(theta, directions, 1)
    logits = logits - logits.max(1, keepdims=True)
    norm = np.log(np.exp(logits).sum(1, keepdims=True))
    chance = np.exp(logits - norm)
    at = np.arange(len(classes))
    mean = (directions * chance).sum(2)
    gradient = ((mean - directions[:, at, classes]) * share).sum(1)
    second = np.einsum("knc,lnc,nc,n->kl", directions, directions, chance, share)
    curvature = second - np.einsum("kn,ln,n->kl", mean, mean, share)
    return float(-((logits - norm)[at, classes] * share).sum()), gradient, curvature


def _collected(
    estimator: Estimator, input_fn: InputFn, weight_column: str | None, head: str | None
) -> tuple[Array, Array, Array | None]:
    logits, labels, weights = [], [], []
    for batch in estimator.labelled_predictions(input_fn):
        target = batch.labels
        if isinstance(target, Mapping) and head is not None:
            target = target[head]
        scores = _needed(batch.predictions, head, "logits")
        classes = _needed(batch.predictions, head, "all_classes")
        inside = _positions(batch.predictions, scores)
        logits.append(scores[inside])
        labels.append(_ids(_aligned(target, inside), classes.reshape(-1, classes.shape[-1])[0]))
        if weight_column is not None:
            weights.append(_aligned(batch.features[weight_column], inside))
    if not logits:
        raise datasets.empty_input(input_fn)
    joined = np.concatenate(weights) if weights else None
    return np.concatenate(logits), np.concatenate(labels), joined


def _positions(predictions: Named, scores: Array) -> Array:
    """Returns which of the scores are of examples: bool `[batch]`, or `[batch, time]`."""
    if scores.ndim == 2:
        return np.ones(len(scores), bool)
    # A SequentialHead predicts its mask, the only bool there is, under a name of its own.
    return next(value for value in predictions.values() if value.dtype == bool)


def _aligned(values: Labels, inside: Array) -> Array:
    """Returns the values of the examples, `[n]`, from values of any form."""
    if isinstance(values, tf.SparseTensor):
        values = tf.sparse.to_dense(values)
    if isinstance(values, tf.RaggedTensor):
        values = values.to_tensor(shape=inside.shape)
    return np.asarray(values).reshape(inside.shape)[inside]


def _needed(predictions: Named, head: str | None, key: str) -> Array:
    for name in (key, (head or "", key)):
        if name in predictions:
            return np.asarray(predictions[name])
    raise ConfigError(
        f"The model cannot be calibrated: it predicts no {key!r}: expected a binary or "
        "multi-class head. Name the head if there are several.",
        reason=Reason.UNSUPPORTED,
    )


def _ids(labels: Array, classes: Array) -> Array:
    if labels.dtype.kind not in "OSU":
        return labels.astype(np.int64)
    index = {name: i for i, name in enumerate(classes)}
    return np.array([index[label] for label in labels], np.int64)
