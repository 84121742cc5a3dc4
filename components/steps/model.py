"""The model artifact: a checkpoint and what is needed to build its Estimator again.

`model.json` beside the checkpoint holds the train part of the configuration and the digests of
what it was trained on; columns come from the transform artifact, whose digest must match.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import estimator_lib
from estimator_lib import heads
from estimator_lib.core import columns as fc
from estimator_lib.core import constructors, description, labels, manifest
from estimator_lib.core.config import TrainPart
from estimator_lib.core.errors import ConfigError, PipelineError, Reason, quote
from estimator_lib.training import history

KIND = "model"
DECLARATION = "model.json"
HISTORY = "history.jsonl"
CALIBRATION = "calibration.json"
BESIDE = (HISTORY, CALIBRATION)
"""Files beside the checkpoint; the second is there if probabilities were calibrated."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
    """A model artifact, opened.

    Attributes:
        estimator: Built as for training; read its checkpoint, do not train it.
        checkpoint: Prefix of the artifact's checkpoint.
        step: Global step of the checkpoint.
        digest: Of the whole artifact.
        declaration: What `model.json` holds.
        history: Losses and evaluations during training.
    """

    estimator: Any
    checkpoint: str
    step: int
    digest: str
    declaration: Mapping[str, Any]
    history: list[dict[str, Any]]


def read_columns(transform_dir: str) -> dict[str, fc.Column]:
    """Returns the resolved columns of a transform artifact, by their name in the configuration."""
    return dict(description.read(transform_dir).columns)


def build_estimator(
    part: TrainPart,
    columns: Mapping[str, fc.Column],
    examples: Mapping[str, Any],
    run_config: Any,
    warm_start_from: Any = None,
) -> Any:
    """Returns the Estimator that the configuration declares, over transformed features.

    Args:
        part: The configuration's part.
        columns: Resolved columns by name.
        examples: Metadata of the examples' manifest.
        run_config: An `estimator_lib.RunConfig`.
        warm_start_from: `estimator_lib.WarmStartSettings`, or None.

    Raises:
        ConfigError: the Estimator does not fit the label, or the user's function is not there,
            returns something else or takes no `warm_start_from` that is given.
    """
    declared = part.estimator
    ready = {name: fc.transformed(column) for name, column in columns.items()}
    given = {} if warm_start_from is None else {"warm_start_from": warm_start_from}
    if declared.function is not None:
        return _call(declared.function, ready, run_config, declared.args, given)
    name, label = str(declared.name), labels.from_json(examples["label"])
    constructors.check_complete(name, declared.args)
    constructors.check_label(name, declared.args, label)
    arguments = constructors.bind_columns(declared.args, ready)
    accepted = constructors.signatures()[name]
    if constructors.takes_head(name):
        weights = arguments.pop(constructors.HEAD_WEIGHTS, {})
        arguments["head"] = head_of(label, examples["weight"], weights)
    if "weight_column" in accepted and examples["weight"] is not None:
        arguments.setdefault("weight_column", examples["weight"])
    if isinstance(label, labels.ClassLabel) and "n_classes" in accepted:
        arguments.setdefault("n_classes", len(label.classes))
        arguments.setdefault("label_vocabulary", labels.ClassNames(label.classes))
    return getattr(estimator_lib, name)(config=run_config, **arguments, **given)


def head_of(
    label: labels.Label,
    weight_column: str | None,
    weights: Mapping[str, float],
    name: str | None = None,
) -> Any:
    """Returns the head that learns a label.

    Args:
        label: As `core.labels` describes it.
        weight_column: Feature with the weights of rows, or None.
        weights: How much the loss of each of several labels counts, where not 1.
        name: The head's.
    """
    if isinstance(label, labels.SeveralLabels):
        parts = [head_of(own, weight_column, {}, n) for n, own in label.heads.items()]
        return heads.MultiHead(parts, [weights.get(n, 1.0) for n in label.heads])
    given: dict[str, Any] = {"weight_column": weight_column, "name": name}
    if isinstance(label, labels.NumberLabel):
        return heads.RegressionHead(**given, more_metrics=("rmse", "mae", "r2"))
    classes = len(label.classes)
    if isinstance(label, labels.MultiLabel):
        return heads.MultiLabelHead(classes, label_vocabulary=label.classes, **given)
    given["label_vocabulary"] = labels.ClassNames(label.classes)
    if classes == 2:
        return heads.BinaryClassHead(**given)
    return heads.MultiClassHead(classes, **given, more_metrics=("auc",))


def _call(
    function: str,
    columns: Mapping[str, fc.Column],
    run_config: Any,
    args: Mapping[str, Any],
    given: Mapping[str, Any],
) -> Any:

    module, _, attribute = function.partition(":")
    try:
        build = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"estimator.function {quote(function)} cannot be loaded: {error}.",
            reason=Reason.UNKNOWN_NAME,
        ) from error
    bound = constructors.bind_columns(args, columns)
    if given and not set(given) <= set(inspect.signature(build).parameters):
        raise ConfigError(
            f"estimator.function {quote(function)} cannot be warm started: expected an argument "
            "warm_start_from, which it gives to its Estimator. Add it, or remove "
            "train.warm_start.",
            reason=Reason.MISSING_VALUE,
        )
    estimator = build(columns=dict(columns), config=run_config, **bound, **given)
    if not isinstance(estimator, estimator_lib.Estimator):
        raise ConfigError(
            f"estimator.function {quote(function)} returned {quote(estimator)}: expected an "
            "estimator_lib.Estimator.",
            reason=Reason.TYPE_MISMATCH,
        )
    return estimator


def open_model(model_dir: str, transform_dir: str, examples_dir: str) -> Trained:
    """Opens a model artifact.

    Raises:
        PipelineError: the model was trained on another transform.
    """
    found = manifest.verify(model_dir, deep=True)
    declaration = json.loads((pathlib.Path(model_dir) / DECLARATION).read_text())
    transform = manifest.read(transform_dir, kind="transform").digest
    if declaration["transform"] != transform:
        raise PipelineError(
            f"Model {model_dir} was trained on another transform: expected "
            f"{declaration['transform'][:12]}, got {transform[:12]}. Give it its own.",
            reason=Reason.DIGEST_MISMATCH,
        )
    part = TrainPart.from_json(json.dumps(declaration["config"]))
    examples = manifest.read(examples_dir, kind="examples").metadata
    run_config = estimator_lib.RunConfig(model_dir=model_dir, tf_random_seed=part.train.seed)
    estimator = build_estimator(part, read_columns(transform_dir), examples, run_config)
    if CALIBRATION in found.files:
        estimator = estimator_lib.calibrated(estimator)
    return Trained(
        estimator=estimator,
        checkpoint=str(pathlib.Path(model_dir) / declaration["checkpoint"]),
        step=declaration["step"],
        digest=found.digest,
        declaration=declaration,
        history=history.read(pathlib.Path(model_dir) / HISTORY),
    )
