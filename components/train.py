"""The train component: examples to a trained Estimator."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train(
    config: str,
    checkpoint_root: str,
    code_version: str,
    examples: dsl.Input[dsl.Dataset],
    transform: dsl.Input[dsl.Artifact],
    model: dsl.Output[dsl.Model],
    champion: str = "",
) -> None:
    """Trains the Estimator of the configuration on materialised examples.

    Args:
        config: A `TrainPart` as JSON.
        checkpoint_root: Directory that outlives a killed attempt, where the next attempt finds
            the checkpoints; empty keeps them with the attempt.
        code_version: Digest of the code; a part of the cache key.
        examples: What preprocess wrote.
        transform: What preprocess wrote.
        model: The last (or best) checkpoint, the model's declaration and its training curve.
        champion: The serving model: a version, or the directory of versions, of which the newest
            is taken. The first weights are its own where the configuration says
            `warm_start: serving`.
    """
    given = locals()
    from components.steps.step import run

    run("train", given)
