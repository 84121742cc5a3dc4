"""The training pipeline: preprocess, train, evaluate, export if blessed, and tell how it ended.

The same definition runs on a laptop through kfp.local and compiles for Kubernetes. Everything
that depends on the run configuration enters as pipeline parameters, so that a submitted run
can override it; only placement (image, resources, nodes, retries) is compiled in.
"""

from collections.abc import Callable, Mapping
from typing import Any

from kfp import dsl

from components.evaluate import evaluate
from components.export import export
from components.preprocess import preprocess
from components.train import train
from estimator_lib.core.config import RunConfiguration, Step
from estimator_lib.core.version import VERSION
from pipelines import definitions, notification, placement

STEPS: tuple[Step, ...] = ("preprocess", "train", "evaluate", "export")


def parameters(config: RunConfiguration) -> dict[str, str]:
    """Returns the pipeline's parameters that follow from the run configuration.

    Each step's part is one line of JSON: KFP turns integers inside structured parameters into
    floats, and text arrives as it was sent.
    """
    return {
        "preprocess_config": config.preprocess_part().to_json(),
        "train_config": config.train_part().to_json(),
        "evaluate_config": config.evaluate_part().to_json(),
        "export_config": config.export.to_json(),
    }


def build(config: RunConfiguration) -> Any:
    """Returns the KFP pipeline for a run configuration."""
    defaults = parameters(config)
    volume = config.cluster.volume
    root = volume.mount_path if volume else ""

    def pipeline(
        preprocess_config: str = defaults["preprocess_config"],
        train_config: str = defaults["train_config"],
        evaluate_config: str = defaults["evaluate_config"],
        export_config: str = defaults["export_config"],
        base_dir: str = root,
        analysis_cache: str = f"{root}/analysis" if root else "",
        checkpoint_root: str = f"{root}/checkpoints" if root else "",
        champion: str = f"{root}/serving" if root and config.evaluate.compares else "",
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
            trained = train(
                config=train_config,
                checkpoint_root=checkpoint_root,
                code_version=code_version,
                examples=prepared.outputs["examples"],
                transform=prepared.outputs["transform"],
            )
            placement.place(prepared, "preprocess", config.cluster, resources)
            placement.place(trained, "train", config.cluster, resources)
            judge(
                config,
                prepared,
                trained,
                resources,
                evaluate_config=evaluate_config,
                export_config=export_config,
                champion=champion,
                serving_dir=serving_dir,
                code_version=code_version,
            )

    pipeline.__doc__ = f"Preprocess, train, evaluate and, if blessed, export {config.name}."
    decorate: Callable[..., Any] = dsl.pipeline(name=definitions.name(config))
    resources = placement.resources(config.cluster, STEPS)
    return decorate(placement.with_parameters(pipeline, resources))


def judge(
    config: RunConfiguration,
    prepared: Any,
    trained: Any,
    resources: Mapping[str, Any],
    *,
    evaluate_config: str,
    export_config: str,
    champion: str,
    serving_dir: str,
    code_version: str,
) -> None:
    """Adds to a pipeline what follows training: evaluate, and export if blessed.

    Args:
        config: The run configuration.
        prepared: The task of preprocess.
        trained: The task of train.
        resources: The pipeline's parameters of `placement.resources`, by name.
        evaluate_config: As the pipeline's parameter of that name, as are the others.
        export_config: The same.
        champion: The same.
        serving_dir: The same.
        code_version: The same.
    """
    evaluated = evaluate(
        config=evaluate_config,
        champion=champion,
        code_version=code_version,
        examples=prepared.outputs["examples"],
        transform=prepared.outputs["transform"],
        statistics=prepared.outputs["statistics"],
        model=trained.outputs["model"],
    )
    placement.place(evaluated, "evaluate", config.cluster, resources)
    verdict = evaluated.outputs["Output"]
    with dsl.If(verdict == "blessed", name="blessed"):
        exported = export(
            config=export_config,
            serving_dir=serving_dir,
            code_version=code_version,
            verdict=verdict,
            examples=prepared.outputs["examples"],
            transform=prepared.outputs["transform"],
            model=trained.outputs["model"],
            evaluation=evaluated.outputs["evaluation"],
        )
        placement.place(exported, "export", config.cluster, resources)
