"""One pass of a trained model over a split of the examples."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.steps import raw_rows
from estimator_lib.core import labels, manifest, storage
from estimator_lib.core.errors import ConfigError, PipelineError, Reason
from estimator_lib.evaluation import of_head
from estimator_lib.evaluation.metrics import Problem
from estimator_lib.export.saved_model import load_model
from estimator_lib.inputs.lists import side_by_side
from estimator_lib.inputs.parquet import examples_input, read

BATCH_ROWS = 8192


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scored:
    """Predictions beside what really happened, in the order of the shards.

    Attributes:
        labels: `[rows]`, of a multi-label label `[rows, classes]`; a mapping by head.
        predictions: Probabilities `[rows]` or `[rows, classes]`, numbers `[rows]`, or quantiles
            `[rows, levels]`; a mapping by head.
        weights: `[rows]`, or None.
        kept: Raw fields that came along, as text, `[rows]` each.
    """

    labels: Any
    predictions: Any
    weights: Any
    kept: Mapping[str, Any]


def score(
    estimator: Any, checkpoint: str, examples_dir: str, split: str, problem: Problem
) -> Scored:
    """Predicts every row of a split.

    Args:
        estimator: Reads transformed features.
        checkpoint: Which weights to use.
        examples_dir: What preprocess wrote.
        split: A split of it.
        problem: What the model predicts.

    Raises:
        PipelineError: the model's predictions are not those of a head for the task.
        ConfigError: it predicts several numbers, and the configuration does not say what.
    """
    metadata = manifest.read(examples_dir, kind="examples").metadata
    input_fn = examples_input(examples_dir, split, batch_size=BATCH_ROWS)
    batches = [
        of_head(batch, problem)
        for batch in estimator.predict(
            input_fn, checkpoint_path=checkpoint, yield_single_examples=False
        )
    ]
    label, weight = labels.from_json(metadata["label"]), metadata["weight"]
    keep = metadata["keep"]
    held = list(labels.columns(label))
    columns = [*held, *([weight] if weight else []), *(f"raw.{field}" for field in keep)]
    files = [pathlib.Path(examples_dir) / f for f in metadata["splits"][split]["files"]]
    table = pa.concat_tables([read(path, columns) for path in files])
    return Scored(
        labels=labels.gathered(
            label, {name: table[name].to_numpy() for name in held}, side_by_side
        ),
        predictions=joined(batches),
        weights=table[weight].to_numpy() if weight else None,
        kept={
            field: table[f"raw.{field}"].combine_chunks().cast("string").to_numpy(False)
            for field in keep
        },
    )


def joined(batches: Sequence[Any]) -> Any:
    """Returns arrays of batches as one, or mappings of them as one mapping."""
    if isinstance(batches[0], Mapping):
        return {name: joined([batch[name] for batch in batches]) for name in batches[0]}
    return np.concatenate(batches)


def score_served(model_dir: str, examples_dir: str, problem: Problem) -> Any:
    """Returns a published model's predictions for the eval split, in the order of the shards.

    Args:
        model_dir: A SavedModel that takes raw fields.
        examples_dir: What preprocess wrote, with the raw eval rows.
        problem: What the model predicts.

    Raises:
        ConfigError: the model reads a field that these rows do not have, or predicts something
            else.
    """
    metadata = manifest.read(examples_dir, kind="examples").metadata
    served = load_model(model_dir)
    lacking = sorted(set(served.inputs) - set(metadata["raw_fields"]))
    if lacking:
        raise ConfigError(
            f"The serving model {model_dir} cannot be compared: it reads the field "
            f"{lacking[0]!r}, which no column of this configuration reads. Add such a column, or "
            "remove evaluate.changes and evaluate.slice_changes for one run.",
            reason=Reason.FIELD_MISSING,
        )
    _require_same_classes(model_dir, metadata["label"])
    batches = []
    for name in metadata["raw_eval"]:
        for batch in pq.ParquetFile(storage.safe_join(examples_dir, name)).iter_batches(BATCH_ROWS):
            rows = raw_rows.arrays(batch.select(sorted(served.inputs)))
            try:
                batches.append(of_head(served.predict(rows), problem))
            except PipelineError as error:
                raise ConfigError(
                    f"The serving model {model_dir} cannot be compared, for it predicts something "
                    f"else: {error.message} Or run once with pipeline training, without "
                    "evaluate.changes and evaluate.slice_changes.",
                    reason=Reason.CONFLICT,
                ) from error
    return joined(batches)


def _require_same_classes(model_dir: str, described: Mapping[str, Any]) -> None:
    """Refuses a serving model whose classes are others, or in another order."""
    lineage = pathlib.Path(model_dir) / manifest.LINEAGE
    if not lineage.exists():
        return
    known = json.loads(lineage.read_text()).get("label")
    theirs = labels.heads(labels.from_json(known)) if known else {}
    for head, own in labels.heads(labels.from_json(described)).items():
        other = theirs.get(head)
        if (
            isinstance(own, labels.ClassLabel)
            and isinstance(other, labels.ClassLabel)
            and len(own.classes) == len(other.classes)
            and own.classes != other.classes
        ):
            raise ConfigError(
                f"The serving model {model_dir} cannot be compared: its classes of {own.field!r} "
                f"are {', '.join(other.classes)}, expected {', '.join(own.classes)}. Give "
                "label.classes in that order, or remove evaluate.changes and "
                "evaluate.slice_changes for one run.",
                reason=Reason.CONFLICT,
            )
