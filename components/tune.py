"""The tune component: the arguments that make the best model."""

from typing import Any

from kfp import dsl

from components.image import IMAGE

KEPT_SEARCHES = 3
"""How many searches' working directories stay below study_root, newest first."""


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def tune(
    config: str,
    study_root: str,
    code_version: str,
    examples: dsl.Input[dsl.Dataset],
    transform: dsl.Input[dsl.Artifact],
    best: dsl.Output[dsl.Artifact],
    trials: dsl.Output[dsl.Markdown],
    metrics: dsl.Output[dsl.Metrics],
) -> str:
    """Searches the space of the configuration for the arguments that make the best model.

    Args:
        config: A `TunePart` as JSON.
        study_root: Directory that outlives a killed attempt, where the next attempt finds the
            finished trials and the checkpoints of the others; empty keeps them with the attempt.
        code_version: Digest of the code; a part of the cache key.
        examples: What preprocess wrote.
        transform: What preprocess wrote.
        best: The best trial, its arguments, and every trial with its curve.
        trials: A table of the trials, the best first.
        metrics: The best trial's metric, and how many trials there were.

    Returns:
        A `TrainPart` as JSON with the best arguments put in, for train.
    """
    from components.step import step
    from components.tune import run

    with step():
        return run(config, study_root, code_version, examples, transform, best, trials, metrics)


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
    """The component's body; see `tune`."""
    import hashlib
    import pathlib
    import tempfile

    from components import search
    from components.tune_trial import Forked
    from estimator_lib.core import manifest, storage
    from estimator_lib.core.config import TunePart
    from estimator_lib.core.progress import Progress

    part = TunePart.from_json(config)
    prepared = manifest.verify(examples.path)
    parents = {
        "examples": prepared.digest,
        "transform": manifest.verify(transform.path).digest,
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
    with tempfile.TemporaryDirectory() as scratch:
        searches = pathlib.Path(study_root or scratch) / "searches"
        work = storage.make_directory(searches / key)
        with Forked(part, examples.path, transform.path, work) as runner:
            runner.check()
            options = part.tune.model_copy(update={"parallel": runner.parallel})
            found = search.run(
                options, runner, work, tell=lambda t: progress.line(search.line(t, options))
            )
        storage.touch(work)
        storage.keep_newest(searches, keep=KEPT_SEARCHES)
    return write(part, found, parents, best, trials, metrics)


def write(
    part: Any,
    found: list[Any],
    parents: dict[str, str],
    best: dsl.Artifact,
    trials: dsl.Artifact,
    metrics: dsl.Metrics,
) -> str:
    """Writes what was found; returns the `TrainPart` with the best arguments as JSON."""
    import dataclasses
    import hashlib

    from components import search
    from estimator_lib.core import manifest, storage

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
