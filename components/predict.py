"""The predict component: raw rows to predictions of a published model."""

from kfp import dsl

from components.image import IMAGE


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
    from components.predict import run
    from components.step import step

    with step():
        run(config, base_dir, model, data_fingerprint, code_version, predictions)


def run(
    config: str,
    base_dir: str,
    model: str,
    data_fingerprint: str,
    code_version: str,
    predictions: dsl.Artifact,
) -> None:
    """The component's body; see `predict`."""
    import hashlib

    from components import predict_job
    from estimator_lib.core import manifest
    from estimator_lib.core.config import PredictPart

    part = PredictPart.from_json(config)
    predict_job.score(part, model=model, base_dir=base_dir, output=predictions.path)
    written = manifest.read(predictions.path, kind=predict_job.KIND)
    told = ("rows", "left_out", "version", "model")
    predictions.metadata.update(
        {name: value for name in told if (value := written.metadata[name]) is not None}
    )
    predictions.metadata.update(
        digest=written.digest,
        data_fingerprint=data_fingerprint,
        code_version=code_version,
        config=hashlib.sha256(config.encode()).hexdigest(),
    )
