"""The draw component, the first of a search as tasks of a pipeline: draw, trial for each, choose.

Every trial is a pod of its own, with its own resources, retries and place in the cache, so many
run at once on many nodes. They do not know of each other: what is drawn next cannot depend on
what was found, and nothing can be compared while it runs. So this is for random search; for TPE
and successive halving the step `tune` runs the trials itself.
"""

from typing import List  # noqa: UP035 - KFP reads this spelling

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def draw(config: str, code_version: str) -> List[str]:  # noqa: UP006
    """Draws the values of all trials.

    Args:
        config: A `TunePart` as JSON.
        code_version: Digest of the code; a part of the cache key.

    Returns:
        Of each trial number and values, as JSON.
    """
    given = locals()
    from components.steps.step import run

    return run("draw", given)
