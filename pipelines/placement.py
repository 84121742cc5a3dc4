"""A step's placement put on its KFP task: resources, nodes, volumes, secrets, retries.

It is compiled in; where `cluster.resource_parameters` asks for it, CPUs, memory and the number of
GPUs are parameters of the compiled pipeline instead, which a run may override.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from estimator_lib.core.config import Cluster, Mounted, NodeAffinity, Placement, Step, Tpu

BACKOFF = "30s"
TPU_RESOURCE = "google.com/tpu"
_TPU_ACCELERATOR = "cloud.google.com/gke-tpu-accelerator"
_TPU_TOPOLOGY = "cloud.google.com/gke-tpu-topology"
_SCRATCH = "scratch"
_RESOURCES = ("cpu", "memory", "gpu")


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

    def pipeline(*values: Any) -> None:
        function(**dict(zip(names, values, strict=True)))

    pipeline.__signature__ = signature.replace(parameters=[*own, *more])  # type: ignore[attr-defined]
    pipeline.__name__ = function.__name__
    pipeline.__doc__ = function.__doc__
    return pipeline


def without_resources(cluster: Cluster, step: Step) -> Cluster:
    """Returns `cluster` with only little asked for a step: its task handles a few lines."""
    little = dict.fromkeys(("cpu", "memory", "gpu", "tpu", "disk"))
    asked = cluster.placement(step).model_copy(update=little)
    return cluster.model_copy(update={"steps": {**cluster.steps, step: asked}})


def place(task: Any, step: Step, cluster: Cluster, values: Mapping[str, Any]) -> None:
    """Applies what the configuration says of one step to its task.

    Args:
        task: The KFP task.
        step: Its name in the configuration.
        cluster: The configuration's part.
        values: The pipeline's parameters of `resources`, by name, as KFP gave them.
    """
    from kfp import kubernetes

    placement = cluster.placement(step)
    if placement.retries:
        task.set_retry(placement.retries, backoff_duration=BACKOFF, backoff_factor=2.0)
    asked = {n: values.get(f"{step}_{n}", getattr(placement, n)) for n in _RESOURCES}
    # KFP hands only registered parameters down into conditions and exit handlers.
    task.register_pipeline_channels([values[k] for k in values if k.startswith(f"{step}_")])
    _request(task, placement, asked)
    image = placement.image or cluster.image
    if image:
        task.set_container_image(image)
    if placement.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, placement.image_pull_secrets)
    if placement.timeout_s:
        kubernetes.set_timeout(task, placement.timeout_s)
    for key, value in sorted(placement.labels.items()):
        kubernetes.add_pod_label(task, key, value)
    for name, value in sorted(placement.env.items()):
        task.set_env_variable(name, value)
    _choose_nodes(task, placement)
    _mount(task, placement, cluster)


def _request(task: Any, placement: Placement, values: Mapping[str, Any]) -> None:
    if values["cpu"] is not None:
        task.set_cpu_request(values["cpu"]).set_cpu_limit(values["cpu"])
    if values["memory"] is not None:
        task.set_memory_request(values["memory"]).set_memory_limit(values["memory"])
    if values["gpu"] is not None:
        task.set_accelerator_type(placement.gpu_type).set_accelerator_limit(values["gpu"])
    if placement.tpu is not None:
        task.set_accelerator_type(TPU_RESOURCE).set_accelerator_limit(placement.tpu.chips)


def _choose_nodes(task: Any, placement: Placement) -> None:
    from kfp import kubernetes

    labels = {**_tpu_labels(placement.tpu), **placement.node_selector}
    for key, value in sorted(labels.items()):
        kubernetes.add_node_selector(task, key, value)
    if placement.tpu is not None:
        # GKE taints TPU nodes with the name of their resource.
        kubernetes.add_toleration(task, key=TPU_RESOURCE, operator="Exists", effect="NoSchedule")
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


def _tpu_labels(tpu: Tpu | None) -> dict[str, str]:
    return {_TPU_ACCELERATOR: tpu.accelerator, _TPU_TOPOLOGY: tpu.topology} if tpu else {}


def _mount(task: Any, placement: Placement, cluster: Cluster) -> None:
    from kfp import kubernetes

    shared = [cluster.volume] if cluster.volume else []
    for volume in (*shared, *placement.volumes):
        kubernetes.mount_pvc(task, volume.claim, volume.mount_path)
    for secret in placement.secrets:
        _give(task, secret, kubernetes.use_secret_as_env, kubernetes.use_secret_as_volume)
    for config_map in placement.config_maps:
        _give(
            task, config_map, kubernetes.use_config_map_as_env, kubernetes.use_config_map_as_volume
        )
    if placement.disk is not None:
        kubernetes.add_ephemeral_volume(
            task,
            volume_name=_SCRATCH,
            mount_path=placement.disk.mount_path,
            access_modes=["ReadWriteOnce"],
            size=placement.disk.size,
            storage_class_name=placement.disk.storage_class,
        )
        task.set_env_variable("TMPDIR", placement.disk.mount_path)


def _give(
    task: Any, mounted: Mounted, as_env: Callable[..., Any], as_volume: Callable[..., Any]
) -> None:
    if mounted.env:
        as_env(task, mounted.name, mounted.env, mounted.optional)
    if mounted.mount_path is not None:
        as_volume(task, mounted.name, mounted.mount_path, mounted.optional)
