"""The preprocess component: raw rows to statistics, transform graph and training examples."""

from kfp import dsl

from components import IMAGE


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
    given = locals()
    from components.steps.step import run

    run("preprocess", given)
