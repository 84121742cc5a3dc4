"""Exports one SavedModel, checks it against its trainer, and publishes it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import pyarrow.parquet as pq
from kfp import dsl

from components.steps import model as artifact
from components.steps import training_data
from estimator_lib.core import manifest, storage
from estimator_lib.core.config import Export
from estimator_lib.core.errors import ExportError, Reason
from estimator_lib.core.places import Place
from estimator_lib.core.progress import Progress
from estimator_lib.evaluation.predictions import served_name
from estimator_lib.export import parity, retention, server_versions, warmup
from estimator_lib.export.serving_inputs import build_transformed_serving_input_receiver_fn
from estimator_lib.inputs.parquet import examples_input
from estimator_lib.training import carry_over
from transforms.applying import raw_rows

_WARMUP_ROWS = 8


def run(
    config: str,
    serving_dir: str,
    code_version: str,
    verdict: str,
    examples: dsl.Artifact,
    transform: dsl.Artifact,
    model: dsl.Artifact,
    evaluation: dsl.Artifact,
    saved_model: dsl.Artifact,
) -> None:
    """Runs the step; see `components.export`."""
    with parity.Checker() as checker:
        # The checker's process is made first: it must not know this one's TensorFlow.

        part = Export.from_json(config)
        trained = artifact.open_model(model.path, transform.path, examples.path)
        _require_blessing(verdict, evaluation.path, trained.digest, examples.path)
        if serving_dir and _find_version(serving_dir, trained.digest) is None:
            _require_champion(evaluation.path, serving_dir, needed=part.needs_comparison)
        lineage = {
            **_lineage(trained, examples.path, transform.path, evaluation.path),
            "code_version": code_version,
            "configuration": {
                "preprocess": examples.metadata.get("config"),
                "train": model.metadata.get("config"),
                "export": hashlib.sha256(config.encode()).hexdigest(),
            },
        }
        rows, expected = _golden(trained, examples.path)
        with storage.temporary_directory() as folder:
            exported = trained.estimator.export_saved_model(
                folder,
                build_transformed_serving_input_receiver_fn(transform.path),
                assets_extra={
                    **carry_over.name_carried(model.path, transform.path),
                    **training_data.assets(evaluation.path),
                },
                checkpoint_path=trained.checkpoint,
            ).decode()
            _prepare_serving(exported, lineage, rows, part)
            storage.write_json(pathlib.Path(exported) / manifest.LINEAGE, lineage)
            checker.check(exported, rows, expected, part.tolerance)
            count = len(next(iter(rows.values())))
            Progress("export").line(
                f"export  {count:,} raw rows score in a fresh process as they did in training"
            )
            published = None
            if serving_dir:
                with retention.publisher(serving_dir) as publisher:
                    # Looked at again: nobody else publishes from here on.
                    published = _find_version(serving_dir, trained.digest)
                    if published is None:
                        needed = part.needs_comparison
                        _require_champion(evaluation.path, serving_dir, needed=needed)
                        published = publisher.publish(exported, part.keep_versions)
            with manifest.committed_artifact(saved_model.path) as writer:
                writer.kind = "saved_model"
                writer.made_of = storage.canonical_json([lineage, published])
                writer.metadata.update(lineage, published=published, checked_rows=count)
                retention.copy_tree(pathlib.Path(exported), writer.directory)
    digest = manifest.read(saved_model.path).digest
    saved_model.framework = "tensorflow"
    known = {**_without_files(lineage), **({"published": published} if published else {})}
    saved_model.metadata.update(digest=digest, **known)


def _prepare_serving(
    exported: str, lineage: dict[str, Any], rows: Mapping[str, Any], part: Export
) -> None:
    """Writes warm-up requests, and tells in the lineage what the model asks of a server."""
    asked = _WARMUP_ROWS if part.warmup_rows is None else part.warmup_rows
    if asked:
        warmup.warm_every_signature(exported, {name: v[:asked] for name, v in rows.items()})
    lineage["server"] = dataclasses.asdict(server_versions.needs(exported))


def _without_files(lineage: dict[str, Any]) -> dict[str, Any]:
    """Lineage as metadata: without the list of files, which may be long, and what is unknown."""
    return {name: value for name, value in lineage.items() if name != "files" and value is not None}


def _require_blessing(verdict: str, evaluation_dir: str, model: str, examples_dir: str) -> None:
    """Refuses a model that was not blessed, whatever the pipeline's condition said.

    The evaluation must be whole, and be of this model and of these examples.
    """
    manifest.verify(evaluation_dir, deep=True)
    found = manifest.read(evaluation_dir, kind="evaluation").metadata
    told = _evaluation(evaluation_dir).get("verdict")
    for said in (verdict, found.get("verdict"), told):
        if said != "blessed":
            raise ExportError(
                f"The model is not published: its verdict is {said!r}, expected 'blessed'. Its "
                "report says why.",
                reason=Reason.CONFLICT,
            )
    examples = manifest.read(examples_dir, kind="examples").digest
    for what, expected in (("model", model), ("examples", examples)):
        got = found.get(what)
        if got != expected:
            raise ExportError(
                f"The evaluation is of another {what}: expected {expected[:12]}, got "
                f"{str(got)[:12]}. Evaluate this one.",
                reason=Reason.DIGEST_MISMATCH,
            )


def _require_champion(evaluation_dir: str, serving_dir: str, *, needed: bool) -> None:
    """Refuses a model that was compared with another one than is serving by now.

    One that was compared with none below `serving_dir` is refused only if that is `needed`.
    """
    versions = retention.versions(serving_dir)
    if not versions:
        return
    compared = _compared_with(evaluation_dir)
    number = compared.name if compared is not None and _is_below(compared, serving_dir) else None
    if number not in (None, str(versions[-1])) or (needed and number is None):
        what = f"serving version {number}" if number else "none of this directory"
        raise ExportError(
            f"The model is not published: it was compared with {what}, but by now version "
            f"{versions[-1]} is serving in {serving_dir}. Run again, with that as the champion.",
            reason=Reason.CONFLICT,
        )


def _is_below(version: Place, serving_dir: str) -> bool:
    """Whether a version is one of a serving directory, however that is written."""
    return str(version.parent) == str((Place.parse(serving_dir) / version.name).parent)


def _find_version(serving_dir: str, model: str) -> str | None:
    """Returns the newest version if it is this model, whole: an attempt that died published it."""
    newest = retention.newest(serving_dir)
    if newest is None:
        return None
    try:
        lineage = json.loads(retention.read(newest, manifest.LINEAGE) or b"")
    except ValueError:
        return None
    same = isinstance(lineage, dict) and lineage.get("model") == model
    return newest if same and retention.damage(newest) is None else None


def _compared_with(evaluation_dir: str) -> Place | None:
    """Returns where the serving model is that an evaluation compared with, or None."""
    comparison = _evaluation(evaluation_dir).get("comparison")
    return Place.parse(comparison["model"]) if comparison and comparison.get("model") else None


def _lineage(
    trained: Any, examples_dir: str, transform_dir: str, evaluation_dir: str
) -> dict[str, Any]:
    """Returns what made a model, to be read beside it."""
    prepared = manifest.read(examples_dir, kind="examples")
    transform = manifest.read(transform_dir, kind="transform")
    compared = _compared_with(evaluation_dir)
    metrics = _evaluation(evaluation_dir)["metrics"].items()
    known = {n: found["value"] for n, found in metrics if found["value"] is not None}
    return {
        "model": trained.digest,
        "step": trained.step,
        "parent": trained.declaration.get("parent"),
        "compared_with": compared and compared.name,
        "metrics": known,
        "main_metric": next(iter(known), None),
        "evaluation": manifest.read(evaluation_dir, kind="evaluation").digest,
        "transform": transform.digest,
        "schema": transform.files["metadata/schema.pbtxt"].sha256,
        "examples": prepared.digest,
        "data_fingerprint": prepared.metadata["data_fingerprint"],
        "label": prepared.metadata["label"],
        "rows": {name: split["rows"] for name, split in prepared.metadata["splits"].items()},
        "files": prepared.metadata["inputs"],
        "separators": prepared.metadata["separators"],
        "types": prepared.metadata["types"],
        "required": prepared.metadata["required"],
        "dates": prepared.metadata.get("dates", []),
        "units": prepared.metadata.get("units", {}),
    }


def _evaluation(directory: str) -> dict[str, Any]:

    found: dict[str, Any] = json.loads((pathlib.Path(directory) / "evaluation.json").read_text())
    return found


def _golden(trained: Any, examples_dir: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns raw rows of the eval split and the trainer's own predictions for them."""
    table = pq.read_table(pathlib.Path(examples_dir) / "raw_sample.parquet")
    input_fn = examples_input(examples_dir, "eval", batch_size=len(table))
    predicted = trained.estimator.predict(
        input_fn, checkpoint_path=trained.checkpoint, yield_single_examples=False
    )
    first = next(iter(predicted))
    expected = {served_name(key): values[: len(table)] for key, values in first.items()}
    return raw_rows.arrays(table), expected
