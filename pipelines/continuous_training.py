"""The continuous training pipeline: a new span of data, a challenger, and the serving model.

Preprocess reads what is new (`{date:N}` in file patterns; only new files are analysed) and refuses
data that does not fit its schema. Train starts from the weights of the serving model where
`train.warm_start` says so. Evaluate scores both on the same new rows, and export publishes the
challenger only if it is better by the margin of `evaluate.changes`, and only over the model it was
compared with. `estimator-pipelines models rollback` goes back.
"""

from collections.abc import Callable
from typing import Any

from kfp import dsl

from components.preprocess import preprocess
from components.train import train
from estimator_lib.core.config import RunConfiguration, Step
from estimator_lib.core.version import VERSION
from pipelines import definitions, notification, placement, training

STEPS: tuple[Step, ...] = training.STEPS


def build(config: RunConfiguration) -> Any:
    """Returns the KFP pipeline for a run configuration."""
    defaults = training.parameters(config)
    export_part = config.export.model_copy(update={"needs_comparison": True})
    volume = config.cluster.volume
    root = volume.mount_path if volume else ""

    def pipeline(
        preprocess_config: str = defaults["preprocess_config"],
        train_config: str = defaults["train_config"],
        evaluate_config: str = defaults["evaluate_config"],
        export_config: str = export_part.to_json(),
        base_dir: str = root,
        analysis_cache: str = f"{root}/analysis" if root else "",
        checkpoint_root: str = f"{root}/checkpoints" if root else "",
        champion: str = f"{root}/serving" if root else "",
        serving_dir: str = f"{root}/serving" if root else "",
        data_fingerprint: str = "",
        code_version: str = VERSION,
        **resources: str,
    ) -> None:
        with notification.exit_handler(config, resources):
            prepared = preprocess(
                config=preprocess_config,
                base_dir=base_dir,
                analysis_cache=analysis_cache,
                data_fingerprint=data_fingerprint,
                code_version=code_version,
            )
            challenger = train(
                config=train_config,
                checkpoint_root=checkpoint_root,
                code_version=code_version,
                champion=champion,
                examples=prepared.outputs["examples"],
                transform=prepared.outputs["transform"],
            )
            placement.place(prepared, "preprocess", config.cluster, resources)
            placement.place(challenger, "train", config.cluster, resources)
            training.judge(
                config,
                prepared,
                challenger,
                resources,
                evaluate_config=evaluate_config,
                export_config=export_config,
                champion=champion,
                serving_dir=serving_dir,
                code_version=code_version,
            )

    pipeline.__doc__ = f"Train {config.name} on a new span and publish it if it beats the champion."
    decorate: Callable[..., Any] = dsl.pipeline(name=definitions.name(config))
    resources = placement.resources(config.cluster, STEPS)
    return decorate(placement.with_parameters(pipeline, resources))
