"""Raw rows to statistics, transform graph and training examples."""

from __future__ import annotations

import hashlib

from kfp import dsl

from estimator_lib.core import manifest
from estimator_lib.core.config import PreprocessPart
from transforms import preprocess as job


def run(
    config: str,
    base_dir: str,
    analysis_cache: str,
    data_fingerprint: str,
    code_version: str,
    examples: dsl.Artifact,
    transform: dsl.Artifact,
    statistics: dsl.Artifact,
) -> None:
    """Runs the step; see `components.preprocess`."""
    del data_fingerprint  # a part of the cache key; what was read tells what it was
    job.run(
        PreprocessPart.from_json(config),
        base_dir=base_dir,
        examples_dir=examples.path,
        transform_dir=transform.path,
        statistics_dir=statistics.path,
        analysis_cache=analysis_cache or None,
    )
    prepared = manifest.read(examples.path).metadata
    shared = {
        "data_fingerprint": prepared["data_fingerprint"],
        "schema": manifest.read(transform.path).files["metadata/schema.pbtxt"].sha256,
        "code_version": code_version,
        "config": hashlib.sha256(config.encode()).hexdigest(),
    }
    for artifact in (examples, transform, statistics):
        artifact.metadata.update(shared, digest=manifest.read(artifact.path).digest)
    examples.metadata["rows"] = {name: s["rows"] for name, s in prepared["splits"].items()}
