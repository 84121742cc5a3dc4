"""Searches for the arguments that make the best model, in one step."""

from __future__ import annotations

import dataclasses
import hashlib
import os

from kfp import dsl

from components.steps import work
from components.steps.tune_trial import Training
from estimator_lib.core import manifest, storage
from estimator_lib.core.config import TunePart
from estimator_lib.core.progress import Progress
from estimator_lib.tuning import search
from estimator_lib.tuning.trials import ForkedTrials

KEPT_SEARCHES = 3
"""How many searches' working directories stay below study_root, newest first."""


def run(
    config: str,
    study_root: str,
    code_version: str,
    examples: dsl.Artifact,
    transform: dsl.Artifact,
    best: dsl.Artifact,
    trials: dsl.Artifact,
    metrics: dsl.Metrics,
) -> str:
    """Runs the step; see `components.tune`."""
    part = TunePart.from_json(config)
    prepared = manifest.verify(examples.path, deep=True)
    parents = {
        "examples": prepared.digest,
        "transform": manifest.verify(transform.path, deep=True).digest,
        "code_version": code_version,
    }
    identity = storage.canonical_json([config, parents])
    key = hashlib.sha256(identity.encode()).hexdigest()[:16]
    progress = Progress("tune")
    if "validation" not in prepared.metadata["splits"]:
        progress.line(
            "without a validation split, trials are compared on the eval split, which then judges "
            "the best of them too kindly"
        )
    parallel = min(part.tune.parallel, len(os.sched_getaffinity(0)))
    options = part.tune.model_copy(update={"parallel": parallel})
    training = Training(part, examples.path, transform.path, parallel=parallel)
    searches = work.below(study_root, "searches")
    with work.directory(searches, key, keep=KEPT_SEARCHES) as held:

        def tell(trial: search.Trial) -> None:
            progress.line(search.line(trial, options))
            held.carry()

        with ForkedTrials(training, held.path) as runner:
            storage.sweep_staging(held.path)  # trials that were being deleted when a process died
            training.check()
            found = search.run(options, runner, held.path, tell=tell)
            storage.touch(held.path)
    return write(part, found, parents, best, trials, metrics)


def write(
    part: TunePart,
    found: list[search.Trial],
    parents: dict[str, str],
    best: dsl.Artifact,
    trials: dsl.Artifact,
    metrics: dsl.Metrics,
) -> str:
    """Writes what was found; returns the `TrainPart` with the best arguments as JSON."""
    winner = search.best(found, part.tune.direction)
    tuned = part.train.with_values(winner.values)
    content = {
        "trial": winner.number,
        "metric": part.tune.metric,
        "value": winner.value,
        "arguments": dict(winner.values),
        "estimator": tuned.estimator.model_dump(exclude_none=True),
        "trials": [dataclasses.asdict(trial) for trial in found],
    }
    with manifest.committed_artifact(best.path) as writer:
        writer.kind = "tuning"
        writer.metadata.update(parents, trial=winner.number, value=winner.value)
        storage.write_json(writer.directory / "best.json", content)
    best.metadata.update(
        parents,
        digest=manifest.read(best.path).digest,
        config=hashlib.sha256(part.to_json().encode()).hexdigest(),
    )
    storage.write_text(trials.path, search.table(found, part.tune))
    values = {f"best_{part.tune.metric}": winner.value, "trials": len(found)}
    for state in ("pruned", "failed"):
        values[state] = sum(trial.state == state for trial in found)
    for name, value in values.items():
        metrics.log_metric(name, value)
    storage.write_json(metrics.path, values)
    return str(tuned.to_json())
