"""One pass of a trained model over a split of the examples."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow.parquet as pq

from estimator_lib.core import labels, manifest, storage
from estimator_lib.core.errors import ConfigError, DataError, PipelineError, Reason
from estimator_lib.estimator import Estimator
from estimator_lib.evaluation import of_head
from estimator_lib.evaluation.metrics import Problem
from estimator_lib.evaluation.slicing import Coded
from estimator_lib.evaluation.spool import Spool, spooled
from estimator_lib.export.saved_model import load_model
from estimator_lib.inputs.lists import side_by_side
from estimator_lib.inputs.parquet import examples_input, read_groups
from transforms.applying import raw_rows

BATCH_ROWS = 8192


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scored:
    """Predictions beside what really happened, in the order of the shards; on disk if many.

    Attributes:
        labels: `[rows]`, of a multi-label label `[rows, classes]`; a mapping by head.
        predictions: Probabilities `[rows]` or `[rows, classes]`, numbers `[rows]`, or quantiles
            `[rows, levels]`; a mapping by head.
        weights: `[rows]`, or None.
        kept: Raw fields that came along, as text.
    """

    labels: Spool | Mapping[str, Spool]
    predictions: Spool | Mapping[str, Spool]
    weights: Spool | None
    kept: Mapping[str, Coded]


def score(
    estimator: Estimator, checkpoint: str, examples_dir: str, split: str, problem: Problem
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
    predicted = estimator.predict(
        examples_input(examples_dir, split, batch_size=BATCH_ROWS, in_memory=False),
        checkpoint_path=checkpoint,
        yield_single_examples=False,
    )
    predictions = spooled(of_head(batch, problem) for batch in predicted)
    label, weight = labels.from_json(metadata["label"]), metadata["weight"]
    held = list(labels.columns(label))
    kept = {field: Coded() for field in metadata["keep"]}
    columns = [*held, *([weight] if weight else []), *(f"raw.{field}" for field in kept)]
    weights = Spool() if weight else None

    def true_labels() -> Iterator[Any]:
        """Those of each row group; the other columns are put where they belong."""
        for name in metadata["splits"][split]["files"]:
            path = pathlib.Path(examples_dir) / name
            for table in read_groups(path, columns):
                if weights is not None:
                    weights.append(table[weight].to_numpy())
                for field, coded in kept.items():
                    coded.add(table[f"raw.{field}"].cast("string").to_pylist())
                arrays = {name: table[name].to_numpy() for name in held}
                yield labels.gather(label, arrays, side_by_side)

    return Scored(
        labels=spooled(true_labels()), predictions=predictions, weights=weights, kept=kept
    )


def score_served(
    model_dir: str, examples_dir: str, problem: Problem
) -> Spool | Mapping[str, Spool]:
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
    _require_same_label(model_dir, metadata["label"])

    def predicted() -> Iterator[Any]:
        for name in metadata["raw_eval"]:
            path = storage.safe_join(examples_dir, name)
            for batch in pq.ParquetFile(path).iter_batches(BATCH_ROWS):
                rows = raw_rows.arrays(batch.select(sorted(served.inputs)))
                try:
                    yield of_head(served.predict(rows), problem)
                except PipelineError as error:
                    raise ConfigError(
                        f"The serving model {model_dir} cannot be compared, for it predicts "
                        f"something else: {error.message} Or run once with pipeline training, "
                        "without evaluate.changes and evaluate.slice_changes.",
                        reason=Reason.CONFLICT,
                    ) from error

    return spooled(predicted())


def _require_same_label(model_dir: str, described: Mapping[str, Any]) -> None:
    """Refuses a serving model of another field, or whose classes are others or in another order.

    Its numbers would be as good as chance, and any model better.
    """
    lineage = pathlib.Path(model_dir) / manifest.LINEAGE
    if not lineage.exists():
        return
    try:
        known = json.loads(lineage.read_text()).get("label")
    except (ValueError, AttributeError) as error:
        raise DataError(
            f"Lineage {lineage} is damaged: {error}. Publish a whole model: estimator-pipelines "
            "models rollback.",
            reason=Reason.CORRUPT_FILE,
        ) from error
    theirs = labels.heads(labels.from_json(known)) if known else {}
    for head, own in labels.heads(labels.from_json(described)).items():
        other = theirs.get(head)
        if other is not None and list(own.columns) != list(other.columns):
            raise ConfigError(
                f"The serving model {model_dir} cannot be compared: it predicts "
                f"{', '.join(other.columns)}, expected {', '.join(own.columns)}. Remove "
                "evaluate.changes and evaluate.slice_changes for one run.",
                reason=Reason.CONFLICT,
            )
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
