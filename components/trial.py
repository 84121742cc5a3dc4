"""The trial component: one training of a search; see `components.draw`."""

from kfp import dsl

from components import IMAGE


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
    given = locals()
    from components.steps.step import run

    return run("trial", given)
