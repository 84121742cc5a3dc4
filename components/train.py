"""The train component: examples to a trained Estimator."""

from kfp import dsl

from components.image import IMAGE

KEPT_TRAININGS = 3
"""How many trainings' working directories stay below checkpoint_root, newest first."""


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
    import hashlib
    import pathlib
    import tempfile

    from components import model as artifact
    from estimator_lib.core import manifest, storage
    from estimator_lib.core.config import TrainPart

    part = TrainPart.from_json(config)
    prepared = manifest.verify(examples.path)
    parents = {
        "examples": prepared.digest,
        "transform": manifest.verify(transform.path).digest,
        "code_version": code_version,
    }
    columns = artifact.read_columns(transform.path)
    identity = storage.canonical_json([config, parents])
    key = hashlib.sha256(identity.encode()).hexdigest()[:16]
    with tempfile.TemporaryDirectory() as scratch:
        work = storage.make_directory(pathlib.Path(checkpoint_root or scratch) / key)
        checkpoint, step, metrics = _train(part, columns, examples.path, prepared.metadata, work)
        with manifest.committed_artifact(model.path) as writer:
            writer.kind = artifact.KIND
            for path in sorted(work.glob(f"{checkpoint}.*")):
                storage.copy(path, writer.directory / path.name)
            storage.copy(work / artifact.HISTORY, writer.directory / artifact.HISTORY)
            declaration = {
                "config": part.model_dump(exclude_none=True),
                "checkpoint": checkpoint,
                "step": step,
                **parents,
            }
            storage.write_json(writer.directory / artifact.DECLARATION, declaration)
    if checkpoint_root:
        storage.keep_newest(checkpoint_root, keep=KEPT_TRAININGS)
    model.framework = "tensorflow"
    model.metadata.update(
        {"digest": manifest.read(model.path).digest, "step": step, **parents, **metrics}
    )
