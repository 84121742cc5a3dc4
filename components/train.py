"""The train component: examples to a trained Estimator."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train(
    config: str,
    checkpoint_root: str,
    code_version: str,
    examples: dsl.Input[dsl.Dataset],
    transform: dsl.Input[dsl.Artifact],
    model: dsl.Output[dsl.Model],
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
    """
    from components.step import step
    from components.train import run

    with step():
        run(config, checkpoint_root, code_version, examples, transform, model)


def run(
    config: str,
    checkpoint_root: str,
    code_version: str,
    examples: dsl.Artifact,
    transform: dsl.Artifact,
    model: dsl.Artifact,
) -> None:
    """The component's body; see `train`."""
    from components import training

    artifact = training.train(
        config,
        checkpoint_root=checkpoint_root,
        code_version=code_version,
        examples_dir=examples.path,
        transform_dir=transform.path,
        model_dir=model.path,
    )
    model.framework = "tensorflow"
    model.metadata.update(artifact)
