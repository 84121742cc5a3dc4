"""Scores raw rows with a published model."""

from __future__ import annotations

import hashlib

from kfp import dsl

from components.steps import predict_job
from estimator_lib.core import manifest
from estimator_lib.core.config import PredictPart
from transforms.scoring import KIND


def run(
    config: str,
    base_dir: str,
    model: str,
    data_fingerprint: str,
    code_version: str,
    predictions: dsl.Artifact,
) -> None:
    """Runs the step; see `components.predict`."""
    part = PredictPart.from_json(config)
    predict_job.score(part, model=model, base_dir=base_dir, output=predictions.path)
    written = manifest.read(predictions.path, kind=KIND)
    told = ("rows", "left_out", "version", "model")
    predictions.metadata.update(
        {name: value for name in told if (value := written.metadata[name]) is not None}
    )
    predictions.metadata.update(
        digest=written.digest,
        data_fingerprint=data_fingerprint,
        code_version=code_version,
        config=hashlib.sha256(config.encode()).hexdigest(),
    )
