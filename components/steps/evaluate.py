"""Evaluates a model once over the eval split: verdict, report, model card."""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any

import yaml
from kfp import dsl

from components.steps import model as artifact
from components.steps import training_data
from components.steps.importance import measured
from components.steps.scoring import score, score_served
from components.steps.step import VERDICT_MARK
from estimator_lib.core import columns as fc
from estimator_lib.core import labels, manifest, storage
from estimator_lib.core.config import EvaluatePart
from estimator_lib.evaluation import Evaluation, configured, feature_statistics
from estimator_lib.evaluation import evaluation as evaluations
from estimator_lib.evaluation.cautions import cautions
from estimator_lib.export import retention
from estimator_lib.report import model as reports
from estimator_lib.training import devices


def run(
    config: str,
    champion: str,
    code_version: str,
    examples: dsl.Artifact,
    transform: dsl.Artifact,
    statistics: dsl.Artifact,
    model: dsl.Artifact,
    metrics: dsl.Metrics,
    classification: dsl.ClassificationMetrics,
    evaluation: dsl.Artifact,
    report: dsl.Artifact,
    model_card: dsl.Artifact,
) -> str:
    """Runs the step; see `components.evaluate`."""
    devices.require()
    part = EvaluatePart.from_json(config)
    prepared = manifest.verify(examples.path, deep=True)
    trained = artifact.open_model(model.path, transform.path, examples.path)
    label = labels.from_json(prepared.metadata["label"])
    problem = configured.problem(label, part.evaluate)
    scored = score(trained.estimator, trained.checkpoint, examples.path, "eval", problem)
    version = retention.newest(champion) if part.evaluate.compares else None
    serving = None
    if version is not None:
        served = score_served(str(retention.fetch(version)), examples.path, problem)
        serving = evaluations.Serving(model=version, predictions=served)
    importance = measured(
        problem, part.evaluate.importance, trained, scored, examples.path, transform.path
    )
    found = evaluations.evaluate(
        task=problem,
        labels=scored.labels,
        predictions=scored.predictions,
        weights=scored.weights,
        slices={field: scored.kept[field] for field in part.evaluate.slicing_fields},
        options=part.evaluate,
        serving=serving,
        importance=importance,
        model=part.name,
        step=trained.step,
        model_digest=trained.digest,
        data_fingerprint=prepared.metadata["data_fingerprint"],
    )
    found = _with_cautions(
        found, label, trained, prepared.metadata, statistics.path, transform.path
    )
    told = _report(part, found, trained, prepared.metadata, statistics.path, code_version)
    with manifest.committed_artifact(evaluation.path) as writer:
        writer.kind = "evaluation"
        writer.metadata.update(
            verdict=found.verdict, model=trained.digest, examples=prepared.digest
        )
        storage.write_text(writer.directory / "evaluation.json", found.to_json())
        training_data.keep(statistics.path, writer.directory)
    storage.write_text(report.path, reports.render(told))
    storage.write_text(model_card.path, reports.model_card(told))
    _log(found, metrics, classification)
    shared = {
        "verdict": found.verdict,
        "model": trained.digest,
        "examples": prepared.digest,
        "data_fingerprint": prepared.metadata["data_fingerprint"],
        "code_version": code_version,
        "config": hashlib.sha256(config.encode()).hexdigest(),
        "compared_with": version or "",
    }
    for told_by in (evaluation, report, model_card):
        told_by.metadata.update(shared)
    evaluation.metadata["digest"] = manifest.read(evaluation.path).digest
    if found.verdict != "blessed":
        print(f"{VERDICT_MARK}{found.verdict}: {' '.join(found.reasons)}", flush=True)  # noqa: T201
    return found.verdict


def _with_cautions(
    found: Evaluation,
    label: labels.Label,
    trained: artifact.Trained,
    prepared: Mapping[str, Any],
    statistics_dir: str,
    transform_dir: str,
) -> Evaluation:
    """Adds what should make one doubt the numbers."""
    columns = artifact.read_columns(transform_dir).values()
    return dataclasses.replace(
        found,
        cautions=cautions(
            found,
            label=label,
            counts=prepared["counts"],
            features=feature_statistics.compare(_statistics(prepared, statistics_dir)),
            read=prepared["raw_fields"],
            vocabularies={
                c.key: len(c.values) for c in fc.walk(columns) if isinstance(c, fc.VocabularyColumn)
            },
            history=trained.history,
        ),
    )


def _statistics(prepared: Mapping[str, Any], directory: str) -> dict[str, Any]:
    """Statistics of the fields by split."""
    files = {split: pathlib.Path(directory) / f"{split}.pb" for split in prepared["splits"]}
    return {split: feature_statistics.read(path) for split, path in files.items()}


def _report(
    part: EvaluatePart,
    found: Evaluation,
    trained: artifact.Trained,
    prepared: Mapping[str, Any],
    statistics_dir: str,
    code_version: str,
) -> reports.ReportInput:
    """Gathers what the report tells."""
    read = _statistics(prepared, statistics_dir)
    rows = {f"{split} rows": entry["rows"] for split, entry in prepared["splits"].items()}
    skipped = sum(counts["skipped"] for counts in prepared["counts"].values())
    label = labels.from_json(prepared["label"])
    if skipped:
        rows["skipped, no label"] = skipped
    return reports.ReportInput(
        name=part.name,
        evaluation=found,
        description=part.description,
        positive=_positive(label),
        history=[
            {"step": e["step"], "loss": e.get("loss"), "metrics": e.get("metrics", {})}
            for e in trained.history
        ],
        features=feature_statistics.compare(read),
        rows=rows,
        facts={
            "data fingerprint": prepared["data_fingerprint"],
            "code version": code_version,
            "model digest": trained.digest,
            **_classes(label),
        },
        configuration=yaml.safe_dump(dict(trained.declaration["config"]), sort_keys=False),
    )


def _positive(label: labels.Label) -> str:
    """What the positive class is called."""
    if not isinstance(label, labels.ClassLabel):
        return label.field if isinstance(label, labels.NumberLabel) else "positive"
    return label.field if label.numbered else label.positive or label.field


def _classes(label: labels.Label) -> dict[str, str]:
    """Which classes there are, in the order of their ids, and which is the positive one."""
    found = {}
    for head, own in labels.heads(label).items():
        if isinstance(own, labels.ClassLabel):
            told = ", ".join(own.classes)
            positive = f"; positive: {own.positive}" if own.positive is not None else ""
            found[f"classes of {head or own.field}"] = told + positive
    return found


def _log(
    found: Evaluation, metrics: dsl.Metrics, classification: dsl.ClassificationMetrics
) -> None:
    """Logs what the KFP user interface can draw; undefined metrics are left out.

    The artifacts also get a file: kfp.local takes one without a file for a lost one.
    """
    values = {n: m.value for n, m in found.metrics.items() if m.value is not None}
    for name, value in values.items():
        metrics.log_metric(name, value)
    storage.write_json(metrics.path, values)
    curves = found.curves
    if curves.roc is not None:
        classification.log_roc_curve(
            list(curves.roc.false_positive_rates),
            list(curves.roc.true_positive_rates),
            list(curves.roc.thresholds),
        )
    if curves.confusion is not None:
        classification.log_confusion_matrix(
            list(curves.confusion.classes),
            [[int(count) for count in row] for row in curves.confusion.counts],
        )
    storage.write_json(classification.path, {"rows": found.rows})
