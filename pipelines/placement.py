"""A step's placement put on its KFP task: resources, nodes, volumes, secrets, retries.

It is compiled in; where `cluster.resource_parameters` asks for it, CPUs, memory and the number of
GPUs are parameters of the compiled pipeline instead, which a run may override.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kfp import dsl, kubernetes

from estimator_lib.core import environment
from estimator_lib.core.config import (
    SHARED_MEMORY,
    Cluster,
    Mounted,
    NodeAffinity,
    Placement,
    RunConfiguration,
    Step,
)

BACKOFF_S = 30
"""Seconds before Argo's second attempt; twice as long before each next one."""
_FACTOR = 2
_A_DAY_S = 24 * 3600
"""What an attempt may wait for a node, such as one with GPUs, before it starts."""
_NEVER_S = 10 * 365 * _A_DAY_S
"""Longer than any step; Argo counts in nanoseconds, up to 292 years."""
_RESOURCES = ("cpu", "memory", "gpu")
_HEAVY = (*_RESOURCES, "disk", "shared_memory")


def resources(cluster: Cluster, steps: Iterable[Step]) -> dict[str, str]:
    """Returns the pipeline parameters that stand for the resources of steps, and their defaults.

    They are named `<step>_cpu`, `<step>_memory` and `<step>_gpu`, and exist where the
    configuration asks for them and gives a value. They are text: the KFP driver resolves no
    other type.
    """
    found: dict[str, str] = {}
    if not cluster.resource_parameters:
        return found
    for step in steps:
        placement = cluster.placement(step)
        for name in _RESOURCES:
            value = getattr(placement, name)
            if value is not None:
                found[f"{step}_{name}"] = str(value)
    return found


def hardware(config: RunConfiguration, steps: Iterable[Step]) -> list[str]:
    """Returns a line for each step that is given GPUs: what it does with them."""
    lines = []
    for step in steps:
        asked = config.cluster.placement(step)
        if asked.gpu is None:
            continue
        line = f"{step}: {asked.gpu} GPU{'s' * (asked.gpu > 1)} ({asked.gpu_type})"
        if asked.gpu > 1:
            whose = "each trial's batches" if step == "tune" else "batches"
            line += f", MirroredStrategy: they share {whose} of train.batch_size rows equally"
        lines.append(line)
    return lines


def with_parameters(
    function: Callable[..., None], parameters: Mapping[str, str]
) -> Callable[..., None]:
    """Returns a pipeline function with one more text parameter for each of `parameters`.

    KFP reads parameters from a signature, and these are known only from the configuration.

    Args:
        function: A pipeline function that takes the additional ones as `**keywords`.
        parameters: Names and defaults of the additional ones.
    """
    signature = inspect.signature(function)
    keyword = inspect.Parameter.KEYWORD_ONLY
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    more = [
        inspect.Parameter(name, keyword, default=default, annotation=str)
        for name, default in parameters.items()
    ]
    names = [parameter.name for parameter in (*own, *more)]

    def pipeline(*values: str) -> None:
        function(**dict(zip(names, values, strict=True)))

    pipeline.__signature__ = signature.replace(parameters=[*own, *more])  # type: ignore[attr-defined]
    pipeline.__name__ = function.__name__
    pipeline.__doc__ = function.__doc__
    return pipeline


def place(
    task: dsl.PipelineTask,
    step: Step,
    cluster: Cluster,
    values: Mapping[str, Any],
    *,
    little: bool = False,
) -> None:
    """Applies what the configuration says of one step to its task.

    Args:
        task: The KFP task.
        step: Its name in the configuration.
        cluster: The configuration's part.
        values: The pipeline's parameters of `resources`, by name, as KFP gave them.
        little: Whether the task is one of the step's that handles a few lines: it needs none of
            the step's resources.
    """
    placement = cluster.placement(step)
    if little:
        placement = placement.model_copy(update=dict.fromkeys(_HEAVY))
    _retry(task, placement)
    asked = {n: values.get(f"{step}_{n}", getattr(placement, n)) for n in _RESOURCES}
    # KFP hands only registered parameters down into conditions and exit handlers.
    task.register_pipeline_channels([values[k] for k in values if k.startswith(f"{step}_")])
    _request(task, placement, asked, cluster.requests(step, little=little))
    image = placement.image or cluster.image
    if image:
        task.set_container_image(image)
    if placement.image_pull_policy:
        kubernetes.set_image_pull_policy(task, placement.image_pull_policy)
    if placement.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, placement.image_pull_secrets)
    if placement.timeout_s:
        kubernetes.set_timeout(task, placement.timeout_s)
    for key, value in sorted(placement.labels.items()):
        kubernetes.add_pod_label(task, key, value)
    variables = placement.environment
    if cluster.code:
        variables[environment.CODE] = ",".join(cluster.code)
    if f"{step}_gpu" in values:
        variables[environment.GPUS] = "1"  # at least: how many is known when a run is given
    for name, value in sorted(variables.items()):
        task.set_env_variable(name, value)
    if placement.security_context is not None:
        kubernetes.set_security_context(
            task, **placement.security_context.model_dump(exclude_none=True)
        )
    _choose_nodes(task, placement)
    _mount(task, placement, cluster)


def _retry(task: dsl.PipelineTask, placement: Placement) -> None:
    """Has attempts made by the step itself and, where its pod is lost, by Argo."""
    if not placement.retries:
        return
    task.set_env_variable(environment.RETRIES, str(placement.retries))
    task.set_retry(
        placement.retries,
        backoff_duration=f"{BACKOFF_S}s",
        backoff_factor=float(_FACTOR),
        backoff_max_duration=f"{longest_s(placement)}s",
    )


def longest_s(placement: Placement) -> int:
    """Returns the seconds from a step's first attempt within which its last one may end.

    Argo counts its longest back-off from the start of the first attempt, and kills whichever
    attempt runs at that moment. An attempt is limited by `timeout_s`; this must not be shorter.
    """
    if placement.timeout_s is None:
        return _NEVER_S
    attempts = placement.retries + 1
    pauses = BACKOFF_S * (_FACTOR**placement.retries - 1)
    return min(_NEVER_S, attempts * (placement.timeout_s + _A_DAY_S) + pauses)


def _request(
    task: dsl.PipelineTask,
    placement: Placement,
    values: Mapping[str, Any],
    least: Mapping[str, str],
) -> None:
    # Given is a request and a limit; what is not given is requested only.
    task.set_cpu_request(values["cpu"] or least["cpu"])
    task.set_memory_request(values["memory"] or least["memory"])
    if values["cpu"] is not None:
        task.set_cpu_limit(values["cpu"])
    if values["memory"] is not None:
        task.set_memory_limit(values["memory"])
    if values["gpu"] is not None:
        task.set_accelerator_type(placement.gpu_type).set_accelerator_limit(values["gpu"])


def _choose_nodes(task: dsl.PipelineTask, placement: Placement) -> None:
    for key, value in sorted(placement.node_selector.items()):
        kubernetes.add_node_selector(task, key, value)
    for toleration in placement.tolerations:
        kubernetes.add_toleration(
            task,
            key=toleration.key,
            operator=toleration.operator,
            value=toleration.value,
            effect=toleration.effect,
            toleration_seconds=toleration.seconds,
        )
    required = [_expression(a) for a in placement.affinity if a.weight is None]
    if required:
        # In one term, for a node must meet them all; Kubernetes takes one of several terms.
        kubernetes.add_node_affinity(task, match_expressions=required)
    for affinity in placement.affinity:
        if affinity.weight is not None:
            kubernetes.add_node_affinity(
                task, match_expressions=[_expression(affinity)], weight=affinity.weight
            )


def _expression(affinity: NodeAffinity) -> dict[str, Any]:
    return {"key": affinity.key, "operator": affinity.operator, "values": affinity.values}


def _mount(task: dsl.PipelineTask, placement: Placement, cluster: Cluster) -> None:
    shared = [cluster.volume] if cluster.volume else []
    for volume in (*shared, *placement.volumes):
        kubernetes.mount_pvc(task, volume.claim, volume.mount_path)
    for secret in placement.secrets:
        _give(task, secret, kubernetes.use_secret_as_env, kubernetes.use_secret_as_volume)
    for config_map in placement.config_maps:
        _give(
            task, config_map, kubernetes.use_config_map_as_env, kubernetes.use_config_map_as_volume
        )
    _make(task, placement)


def _make(task: dsl.PipelineTask, placement: Placement) -> None:
    """Gives the pod directories of its own. Their names cannot be those of claims in use."""
    disk = placement.disk
    if disk is not None and disk.storage_class is not None:
        kubernetes.add_ephemeral_volume(
            task,
            volume_name="step-scratch",
            mount_path=disk.mount_path,
            access_modes=["ReadWriteOnce"],
            size=disk.size,
            storage_class_name=disk.storage_class,
        )
    made = [(one.mount_path, one.size, one.in_memory) for one in placement.empty_dirs]
    if disk is not None and disk.storage_class is None:
        made.append((disk.mount_path, disk.size, False))
    if placement.shared_memory is not None:
        made.append((SHARED_MEMORY, placement.shared_memory, True))
    for number, (path, size, in_memory) in enumerate(made):
        kubernetes.empty_dir_mount(
            task,
            volume_name=f"step-empty-{number}",
            mount_path=path,
            medium="Memory" if in_memory else None,
            size_limit=size,
        )


def _give(
    task: dsl.PipelineTask,
    mounted: Mounted,
    as_env: Callable[..., Any],
    as_volume: Callable[..., Any],
) -> None:
    if mounted.env:
        as_env(task, mounted.name, mounted.env, mounted.optional)
    if mounted.mount_path is not None:
        as_volume(task, mounted.name, mounted.mount_path, mounted.optional)
