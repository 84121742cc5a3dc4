"""The search for arguments as tasks of a pipeline: draw, trial for each, choose.

Every trial is a pod of its own, with its own resources, retries and place in the cache, so many
run at once on many nodes. They do not know of each other: what is drawn next cannot depend on
what was found, and nothing can be compared while it runs. So this is for random search; for TPE
and successive halving the step `tune` runs the trials itself.
"""

from typing import List  # noqa: UP035 - KFP reads this spelling

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def draw(config: str, code_version: str) -> List[str]:  # noqa: ARG001, UP006
    """Draws the values of all trials.

    Args:
        config: A `TunePart` as JSON.
        code_version: Digest of the code; a part of the cache key.

    Returns:
        Of each trial number and values, as JSON.
    """
    from components.step import step
    from components.tune_tasks import drawn

    with step():
        return drawn(config)


def drawn(config: str) -> list[str]:
    """The body of `draw`."""
    from components import search
    from estimator_lib.core import storage
    from estimator_lib.core.config import TunePart

    values = search.draw(TunePart.from_json(config).tune)
    return [
        storage.canonical_json({"number": number, "values": one})
        for number, one in enumerate(values)
    ]


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def trial(
    config: str,
    values: str,
    study_root: str,
    code_version: str,
    examples: dsl.Input[dsl.Dataset],
    transform: dsl.Input[dsl.Artifact],
) -> str:
    """Trains with one set of values.

    Args:
        config: A `TunePart` as JSON.
        values: One of what draw returned.
        study_root: Directory that outlives a killed attempt, where the next attempt finds the
            checkpoints; empty keeps them with the attempt.
        code_version: Digest of the code; a part of the cache key.
        examples: What preprocess wrote.
        transform: What preprocess wrote.

    Returns:
        How the trial ended, as JSON, for choose.
    """
    from components.step import step
    from components.tune_tasks import tried

    with step():
        return tried(config, values, study_root, code_version, examples, transform)


def tried(
    config: str,
    values: str,
    study_root: str,
    code_version: str,
    examples: dsl.Artifact,
    transform: dsl.Artifact,
) -> str:
    """The body of `trial`."""
    import dataclasses
    import hashlib
    import json
    import pathlib
    import tempfile

    from components.search import Trial
    from components.tune_trial import measure
    from estimator_lib.core import manifest, storage
    from estimator_lib.core.config import TunePart
    from estimator_lib.core.errors import ConfigError, EstimatorLibError

    part, given = TunePart.from_json(config), json.loads(values)
    digests = [manifest.verify(a.path).digest for a in (examples, transform)]
    identity = storage.canonical_json([config, values, code_version, *digests])
    key = hashlib.sha256(identity.encode()).hexdigest()[:16]
    curve: list[tuple[int, float]] = []
    value = reason = None

    def ask(step: int, metric: float) -> bool:
        curve.append((step, metric))
        return False

    with tempfile.TemporaryDirectory() as scratch:
        work = pathlib.Path(study_root or scratch) / "trials" / key
        try:
            value = measure(part, given["values"], examples.path, transform.path, work, ask)
        except EstimatorLibError as error:
            if error.retryable or isinstance(error, ConfigError):
                raise
            reason = error.message
        storage.remove(work)
    ended = Trial(
        number=given["number"], values=given["values"], curve=curve, value=value, reason=reason,
        state="complete" if reason is None else "failed",
    )  # fmt: skip
    return storage.canonical_json(dataclasses.asdict(ended))


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def choose(
    config: str,
    results: List[str],  # noqa: UP006
    code_version: str,
    best: dsl.Output[dsl.Artifact],
    trials: dsl.Output[dsl.Markdown],
    metrics: dsl.Output[dsl.Metrics],
) -> str:
    """Chooses the best of the trials.

    Args:
        config: A `TunePart` as JSON.
        results: What trial returned, of each.
        code_version: Digest of the code; a part of the cache key.
        best: As of tune.
        trials: As of tune.
        metrics: As of tune.

    Returns:
        A `TrainPart` as JSON with the best arguments put in, for train.
    """
    from components.step import step
    from components.tune_tasks import chosen

    with step():
        return chosen(config, results, code_version, best, trials, metrics)


def chosen(
    config: str,
    results: list[str],
    code_version: str,
    best: dsl.Artifact,
    trials: dsl.Artifact,
    metrics: dsl.Metrics,
) -> str:
    """The body of `choose`."""
    import json

    from components.search import Trial
    from components.tune import write
    from estimator_lib.core.config import TunePart

    part = TunePart.from_json(config)
    found = [Trial(**json.loads(result)) for result in results]
    found.sort(key=lambda one: one.number)
    return write(part, found, {"code_version": code_version}, best, trials, metrics)
