"""Trains with one set of values."""

from __future__ import annotations

import dataclasses
import hashlib
import json

from kfp import dsl

from components.steps import work
from components.steps.tune_trial import measure
from estimator_lib.core import manifest, storage
from estimator_lib.core.config import TunePart
from estimator_lib.core.errors import ConfigError, EstimatorLibError, StorageError
from estimator_lib.tuning.search import Trial

KEPT_TRIALS = 100
"""How many unfinished trials' working directories stay below study_root, newest first."""


def run(
    config: str,
    values: str,
    study_root: str,
    code_version: str,
    examples: dsl.Artifact,
    transform: dsl.Artifact,
) -> str:
    """Runs the step; see `components.trial`."""
    part, given = TunePart.from_json(config), json.loads(values)
    digests = [manifest.verify(a.path).digest for a in (examples, transform)]
    identity = storage.canonical_json([config, values, code_version, *digests])
    key = hashlib.sha256(identity.encode()).hexdigest()[:16]
    curve: list[tuple[int, float]] = []
    value = reason = None

    with work.directory(work.below(study_root, "trials"), key, keep=KEPT_TRIALS) as held:

        def ask(step: int, metric: float) -> bool:
            curve.append((step, metric))
            held.carry()
            return False

        try:
            value = measure(part, given["values"], examples.path, transform.path, held.path, ask)
        except EstimatorLibError as error:
            if error.retryable or isinstance(error, ConfigError | StorageError):
                raise
            reason = error.message
        held.clear()
    ended = Trial(
        number=given["number"], values=given["values"], curve=curve, value=value, reason=reason,
        state="complete" if reason is None else "failed",
    )  # fmt: skip
    return storage.canonical_json(dataclasses.asdict(ended))
