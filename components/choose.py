"""The choose component: the best of the trials; see `components.draw`."""

from typing import List  # noqa: UP035 - KFP reads this spelling

from kfp import dsl

from components import IMAGE


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
    given = locals()
    from components.steps.step import run

    return run("choose", given)
