"""The preprocess component: raw rows to statistics, transform graph and training examples."""

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def preprocess(
    config: str,
    base_dir: str,
    analysis_cache: str,
    data_fingerprint: str,
    code_version: str,
    examples: dsl.Output[dsl.Dataset],
    transform: dsl.Output[dsl.Artifact],
    statistics: dsl.Output[dsl.Artifact],
) -> None:
    """Learns vocabularies and statistics from the raw rows and writes transformed examples.

    Args:
        config: A `PreprocessPart` as JSON.
        base_dir: Directory that relative file patterns start from.
        analysis_cache: Directory that keeps what was learned of each file, so that a new file
            does not have the old ones analysed again; empty keeps nothing.
        data_fingerprint: Digest of the raw files; a part of the cache key.
        code_version: Digest of the code; a part of the cache key.
        examples: Parquet shards per split.
        transform: TFT transform output and resolved columns.
        statistics: Statistics per split and the schema.
    """
    from components.preprocess import run
    from components.step import step

    with step():
        run(
            config,
            base_dir,
            analysis_cache,
            data_fingerprint,
            code_version,
            examples,
            transform,
            statistics,
        )


def run(
    config: str,
    base_dir: str,
    analysis_cache: str,
    data_fingerprint: str,
    code_version: str,
    examples: dsl.Artifact,
    transform: dsl.Artifact,
    statistics: dsl.Artifact,
) -> None:
    """The component's body; see `preprocess`."""
    import hashlib

    from estimator_lib.core import manifest
    from estimator_lib.core.config import PreprocessPart
    from transforms import preprocess as job

    del data_fingerprint  # a part of the cache key; what was read tells what it was
    job.run(
        PreprocessPart.from_json(config),
        base_dir=base_dir,
        examples_dir=examples.path,
        transform_dir=transform.path,
        statistics_dir=statistics.path,
        analysis_cache=analysis_cache or None,
    )
    prepared = manifest.read(examples.path).metadata
    shared = {
        "data_fingerprint": prepared["data_fingerprint"],
        "schema": manifest.read(transform.path).files["metadata/schema.pbtxt"].sha256,
        "code_version": code_version,
        "config": hashlib.sha256(config.encode()).hexdigest(),
    }
    for artifact in (examples, transform, statistics):
        artifact.metadata.update(shared, digest=manifest.read(artifact.path).digest)
    examples.metadata["rows"] = {name: s["rows"] for name, s in prepared["splits"].items()}
