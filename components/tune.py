"""The tune component: the arguments that make the best model."""

from kfp import dsl

from components import IMAGE


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
    given = locals()
    from components.steps.step import run

    return run("tune", given)
