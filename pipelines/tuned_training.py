"""The tuned_training pipeline: preprocess, tune, train with the best arguments, evaluate, export.

The search is one step by default: Optuna in one pod, which runs its trials in processes, learns
from them (TPE) and ends bad ones early (successive halving). With `tune.separate_tasks` it is a
loop of tasks instead (draw, a trial for each, choose), for random search on as many nodes as the
cluster has. That loop is the only form that fits ParallelFor: its tasks cannot talk to each other,
and unrolling rounds of halving would make of every round a barrier that waits for the slowest
pod, where the one step asks after every evaluation.
"""

from collections.abc import Callable, Mapping
from typing import Any

from kfp import dsl

from components.choose import choose
from components.draw import draw
from components.preprocess import preprocess
from components.train import train
from components.trial import trial
from components.tune import tune
from estimator_lib.core.config import RunConfiguration, Step
from estimator_lib.core.errors import ConfigError, Reason
from estimator_lib.core.version import VERSION
from pipelines import definitions, notification, placement, training

STEPS: tuple[Step, ...] = ("preprocess", "tune", "train", "evaluate", "export")


def parameters(config: RunConfiguration) -> dict[str, str]:
    """Returns the pipeline's parameters that follow from the run configuration."""
    found = training.parameters(config)
    del found["train_config"]  # tune gives it
    return {**found, "tune_config": config.tune_part().to_json()}


def build(config: RunConfiguration) -> Any:
    """Returns the KFP pipeline for a run configuration.

    Raises:
        ConfigError: it has no section `tune`, or trials would share GPUs.
    """
    defaults = parameters(config)
    volume = config.cluster.volume
    root = volume.mount_path if volume else ""

    def pipeline(
        preprocess_config: str = defaults["preprocess_config"],
        tune_config: str = defaults["tune_config"],
        evaluate_config: str = defaults["evaluate_config"],
        export_config: str = defaults["export_config"],
        base_dir: str = root,
        analysis_cache: str = f"{root}/analysis" if root else "",
        study_root: str = f"{root}/studies" if root else "",
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
            placement.place(prepared, "preprocess", config.cluster, resources)
            inputs = {
                "config": tune_config,
                "study_root": study_root,
                "code_version": code_version,
                "examples": prepared.outputs["examples"],
                "transform": prepared.outputs["transform"],
            }
            tuned = _search(config, inputs, resources)
            trained = train(
                config=tuned.outputs["Output"],
                checkpoint_root=checkpoint_root,
                code_version=code_version,
                examples=prepared.outputs["examples"],
                transform=prepared.outputs["transform"],
            )
            placement.place(trained, "train", config.cluster, resources)
            training.judge(
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

    pipeline.__doc__ = (
        f"Find the best arguments of {config.name}, train with them, evaluate, export."
    )
    decorate: Callable[..., Any] = dsl.pipeline(name=definitions.name(config))
    resources = placement.resources(config.cluster, STEPS)
    return decorate(placement.with_parameters(pipeline, resources))


def _search(
    config: RunConfiguration, inputs: dict[str, Any], resources: Mapping[str, str]
) -> dsl.PipelineTask:
    """Adds the search; returns the task whose Output is what train takes."""
    options = config.tune
    if options is None or not options.separate_tasks:
        gpus = config.cluster.placement("tune").gpu
        if gpus and options is not None and options.parallel > 1:
            raise ConfigError(
                f"cluster.steps.tune has gpu {gpus} and tune.parallel is {options.parallel}: a "
                "trial takes all memory of the GPUs that it sees, and the others would find none. "
                "Set tune.parallel to 1, or tune.separate_tasks to true, which gives each its own.",
                reason=Reason.CONFLICT,
            )
        task = tune(**inputs)
        placement.place(task, "tune", config.cluster, resources)
        return task
    common = {name: inputs[name] for name in ("config", "code_version")}
    drawn = draw(**common)
    placement.place(drawn, "tune", config.cluster, {}, little=True)
    with dsl.ParallelFor(drawn.output, parallelism=options.parallel, name="trials") as values:
        tried = trial(values=values, **inputs)
        placement.place(tried, "tune", config.cluster, resources)
    chosen = choose(results=dsl.Collected(tried.outputs["Output"]), **common)
    placement.place(chosen, "tune", config.cluster, {}, little=True)
    return chosen
