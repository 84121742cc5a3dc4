"""Chooses the best of the trials."""

from __future__ import annotations

import json

from kfp import dsl

from components.steps.tune import write
from estimator_lib.core.config import TunePart
from estimator_lib.tuning.search import Trial


def run(
    config: str,
    results: list[str],
    code_version: str,
    best: dsl.Artifact,
    trials: dsl.Artifact,
    metrics: dsl.Metrics,
) -> str:
    """Runs the step; see `components.choose`."""
    part = TunePart.from_json(config)
    found = [Trial(**json.loads(result)) for result in results]
    found.sort(key=lambda one: one.number)
    return write(part, found, {"code_version": code_version}, best, trials, metrics)
