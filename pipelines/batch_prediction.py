"""The batch_prediction pipeline: score files with the newest published model."""

from collections.abc import Callable
from typing import Any

from kfp import dsl

from components.predict import predict
from estimator_lib.core.config import RunConfiguration, Step
from estimator_lib.core.version import VERSION
from pipelines import definitions, notification, placement

STEPS: tuple[Step, ...] = ("predict",)


def build(config: RunConfiguration) -> Any:
    """Returns the KFP pipeline for a run configuration.

    Raises:
        ConfigError: it has no section `predict`.
    """
    volume = config.cluster.volume
    root = volume.mount_path if volume else ""

    def pipeline(
        predict_config: str = config.predict_part().to_json(),
        base_dir: str = root,
        model: str = f"{root}/serving" if root else "",
        data_fingerprint: str = "",
        code_version: str = VERSION,
        **resources: str,
    ) -> None:
        with notification.exit_handler(config, resources):
            task = predict(
                config=predict_config,
                base_dir=base_dir,
                model=model,
                data_fingerprint=data_fingerprint,
                code_version=code_version,
            )
            placement.place(task, "predict", config.cluster, resources)

    pipeline.__doc__ = f"Score files with the newest published model of {config.name}."
    decorate: Callable[..., Any] = dsl.pipeline(name=definitions.name(config))
    resources = placement.resources(config.cluster, STEPS)
    return decorate(placement.with_parameters(pipeline, resources))
