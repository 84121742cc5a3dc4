"""The predict component: raw rows to predictions of a published model."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def predict(
    config: str,
    base_dir: str,
    model: str,
    data_fingerprint: str,
    code_version: str,
    predictions: dsl.Output[dsl.Dataset],
) -> None:
    """Scores files of raw rows with a published model, on Beam.

    Args:
        config: A `PredictPart` as JSON.
        base_dir: Directory that relative file patterns start from.
        model: A published version, or the directory of versions, of which the newest is taken.
        data_fingerprint: Digest of the raw files; a part of the cache key.
        code_version: Digest of the code; a part of the cache key.
        predictions: A shard per file, Parquet or CSV.
    """
    given = locals()
    from components.steps.step import run

    run("predict", given)
